//! How PostgreSQL is spoken to.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::JoinType;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{Expr, Join, Operator};

use crate::foreign::definition::{Read, RemoteColumn, identifier};
use crate::foreign::postgres::sql::{Words, asked_as, is_number};
use crate::foreign::postgres::types::sql;
use crate::foreign::types::{RemoteType, Scalar};
use crate::foreign::wrapper::{Dialect, Scope, Written};

#[derive(Debug)]
pub struct Postgres;

impl Dialect for Postgres {
    fn column(&self, column: &RemoteColumn) -> Written {
        let name = identifier(&column.remote);
        let list = if column.of.list { "[]" } else { "" };
        let sql = match column.read {
            Read::AsItIs => name,
            Read::AsText => format!("({name}::text{list})"),
            Read::Collated => format!("({name}::text{list} COLLATE \"C\")"),
        };
        Written::new(sql, column.of)
    }

    fn write(&self, scope: &Scope<'_>, expr: &Expr) -> Option<Written> {
        Words(scope).write(expr)
    }

    fn condition(&self, scope: &Scope<'_>, expr: &Expr) -> Option<String> {
        Words(scope).truth(expr)
    }

    fn comparison(&self, scope: &Scope<'_>, op: Operator, left: &Expr, right: &Expr) -> Option<String> {
        Words(scope).comparison(op, left, right)
    }

    fn ordered(&self, value: &Written, ascending: bool, nulls_first: bool) -> Option<String> {
        let direction = if ascending { "ASC" } else { "DESC" };
        let nulls = if nulls_first { "FIRST" } else { "LAST" };
        Some(format!("{} {direction} NULLS {nulls}", Words::sorted(value)?))
    }

    /// A document is text to the engine, and whether two are the same is more to the server.
    fn groups(&self, value: &Written) -> bool {
        !value.of.list && value.of.scalar != Scalar::Json
    }

    fn summary(&self, scope: &Scope<'_>, expr: &Expr, plan: &DataType) -> Option<(String, RemoteType)> {
        summary(&Words(scope), expr, plan)
    }

    fn asked_as(&self, written: &Written, plan: &DataType) -> Option<RemoteType> {
        asked_as(written, plan)
    }

    fn asked(&self, value: &str, of: RemoteType) -> String {
        format!("{value}::{}", sql(of))
    }

    fn no_columns(&self) -> &'static str {
        ""
    }

    /// PostgreSQL joins fully only where it can merge or hash.
    fn joins(&self, join: &Join) -> bool {
        join.join_type != JoinType::Full || !(join.on.is_empty() || join.filter.is_some())
    }

    fn limited(&self, fetch: Option<usize>, skip: usize) -> String {
        let fetch = fetch.map_or_else(String::new, |fetch| format!(" LIMIT {fetch}"));
        if skip > 0 { format!("{fetch} OFFSET {skip}") } else { fetch }
    }
}

/// An aggregate as PostgreSQL does it, and what it is asked for as.
fn summary(words: &Words<'_>, expr: &Expr, plan: &DataType) -> Option<(String, RemoteType)> {
    let call = match expr {
        Expr::Alias(alias) => return summary(words, &alias.expr, plan),
        Expr::AggregateFunction(call) => call,
        _ => return None,
    };
    let AggregateFunction { func, params } = call;
    if !params.order_by.is_empty() || params.null_treatment.is_some() {
        return None;
    }
    let filter = match &params.filter {
        Some(filter) => format!(" FILTER (WHERE {})", words.truth(filter)?),
        None => String::new(),
    };
    let distinct = if params.distinct { "DISTINCT " } else { "" };
    let [arg] = params.args.as_slice() else { return None };
    let of = RemoteType::of(plan)?;
    let sql = match (func.name(), arg) {
        ("count", Expr::Literal(value, _)) if !value.is_null() && !params.distinct => format!("count(*){filter}"),
        ("count", arg) => {
            let arg = words.write(arg)?;
            let is_plain =
                !params.distinct || !(arg.of.list || matches!(arg.of.scalar, Scalar::Json | Scalar::Interval));
            is_plain.then(|| format!("count({distinct}{}){filter}", arg.sql))?
        }
        ("sum", arg) => {
            let arg = words.write(arg)?;
            is_number(arg.of).then(|| format!("sum({distinct}{}){filter}", arg.sql))?
        }
        ("avg", arg) => {
            let arg = words.write(arg)?;
            match (arg.of.scalar, of.scalar) {
                (Scalar::Float8, Scalar::Float8) => format!("avg({distinct}{}){filter}", arg.sql),
                // The engine cuts a mean of decimals off after the last one that it has.
                (Scalar::Numeric { .. }, Scalar::Numeric { scale, .. }) => {
                    let scale = usize::try_from(scale).ok()?;
                    let (sum, count) = (
                        format!("sum({distinct}{}){filter}", arg.sql),
                        format!("count({distinct}{}){filter}", arg.sql),
                    );
                    let (zeros, before) = ("0".repeat(scale), "0".repeat(scale.saturating_sub(1)));
                    let unit = if scale == 0 { "1".to_owned() } else { format!("0.{before}1") };
                    format!("(div({sum} * 1{zeros}, nullif({count}, 0)) * {unit})")
                }
                _ => return None,
            }
        }
        (name @ ("min" | "max"), arg) => {
            let arg = words.write(arg)?;
            // There is no least truth, and before PostgreSQL 18 no least bytes.
            let has = !matches!(arg.of.scalar, Scalar::Bool | Scalar::Bytea | Scalar::Oid);
            has.then(|| Some(format!("{name}({}){filter}", Words::sorted(&arg)?))).flatten()?
        }
        _ => return None,
    };
    Some((sql, of))
}
