//! How MySQL is spoken to.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::JoinType;
use datafusion::logical_expr::expr::{AggregateFunction, Between};
use datafusion::logical_expr::{BinaryExpr, Expr, Join, Operator};

use crate::foreign::definition::{RemoteColumn, identifier};
use crate::foreign::mysql::sql::{Words, is_exact};
use crate::foreign::types::{RemoteType, Scalar};
use crate::foreign::wrapper::{Dialect, Scope, Written};

#[derive(Debug)]
pub struct MySql;

impl Dialect for MySql {
    /// A date of which a part is 0 is none here, and so it is NULL. A tinyint(1) can hold more than 0 and 1.
    fn column(&self, column: &RemoteColumn) -> Written {
        let name = identifier(&column.remote);
        let (sql, bare) = match column.of.scalar {
            Scalar::Bool => (format!("({name} <> 0)"), None),
            Scalar::Date | Scalar::Timestamp | Scalar::Timestamptz => {
                (format!("(CASE WHEN MONTH({name}) > 0 AND DAYOFMONTH({name}) > 0 THEN {name} END)"), Some(name))
            }
            _ => (name, None),
        };
        Written { sql, of: column.of, bare }
    }

    fn write(&self, scope: &Scope<'_>, expr: &Expr) -> Option<Written> {
        Words(scope).write(expr)
    }

    /// Where a column of dates is compared, the bare column is as well: indexes know it. That leaves in what the condition
    /// itself leaves in, and more.
    fn condition(&self, scope: &Scope<'_>, expr: &Expr) -> Option<String> {
        let words = Words(scope);
        match expr {
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
                Some(format!("({} AND {})", self.condition(scope, left)?, self.condition(scope, right)?))
            }
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                let whole = words.truth(expr)?;
                let bare = |side: &Expr| words.write(side).map(|side| side.bare.unwrap_or(side.sql));
                let knows = |side: &Expr| words.write(side).is_some_and(|side| side.bare.is_some());
                Some(match (knows(left) || knows(right), sign(*op)) {
                    (true, Some(sign)) => format!("({} {sign} {} AND {whole})", bare(left)?, bare(right)?),
                    _ => whole,
                })
            }
            Expr::Between(Between { expr, negated: false, low, high }) => {
                let side = |op, bound: &Expr| {
                    let (left, right) = (expr.clone(), Box::new(bound.clone()));
                    self.condition(scope, &Expr::BinaryExpr(BinaryExpr { left, op, right }))
                };
                Some(format!("({} AND {})", side(Operator::GtEq, low)?, side(Operator::LtEq, high)?))
            }
            expr => words.truth(expr),
        }
    }

    fn comparison(&self, scope: &Scope<'_>, op: Operator, left: &Expr, right: &Expr) -> Option<String> {
        Words(scope).comparison(op, left, right)
    }

    /// To MySQL NULL is less than anything. Text is sorted by the collation of its column, and so it is not sorted there.
    fn ordered(&self, value: &Written, ascending: bool, nulls_first: bool) -> Option<String> {
        let known = is_exact(value.of) || is_moment(value.of) || value.of.scalar == Scalar::Float8;
        known.then_some(())?;
        let direction = if ascending { "ASC" } else { "DESC" };
        Some(match ascending == nulls_first {
            true => format!("{} {direction}", value.sql),
            false => {
                let nulls = if nulls_first { "DESC" } else { "ASC" };
                format!("({0} IS NULL) {nulls}, {0} {direction}", value.sql)
            }
        })
    }

    /// Texts that a collation takes for the same are one group there. Minus zero is zero there.
    fn groups(&self, value: &Written) -> bool {
        is_exact(value.of) || is_moment(value.of) || value.of.scalar == Scalar::Bool
    }

    fn summary(&self, scope: &Scope<'_>, expr: &Expr, plan: &DataType) -> Option<(String, RemoteType)> {
        summary(&Words(scope), expr, plan)
    }

    fn asked_as(&self, written: &Written, plan: &DataType) -> Option<RemoteType> {
        let of = RemoteType::of(plan)?;
        let is_text = |of: RemoteType| matches!(of.scalar, Scalar::Text | Scalar::Json);
        Some(if is_text(of) && is_text(written.of) { written.of } else { of })
    }

    /// Values say what they are as they come, and are taken for what is wanted then.
    fn asked(&self, sql: &str, _: RemoteType) -> String {
        sql.to_owned()
    }

    fn no_columns(&self) -> &'static str {
        "1 "
    }

    fn joins(&self, join: &Join) -> bool {
        join.join_type != JoinType::Full
    }

    fn limited(&self, fetch: Option<usize>, skip: usize) -> String {
        match (fetch, skip) {
            (None, 0) => String::new(),
            (Some(fetch), 0) => format!(" LIMIT {fetch}"),
            // There is no OFFSET without a LIMIT.
            (fetch, skip) => format!(" LIMIT {} OFFSET {skip}", fetch.map_or(u64::MAX, |fetch| fetch as u64)),
        }
    }
}

fn sign(op: Operator) -> Option<&'static str> {
    Some(match op {
        Operator::Eq => "=",
        Operator::Lt => "<",
        Operator::LtEq => "<=",
        Operator::Gt => ">",
        Operator::GtEq => ">=",
        _ => return None,
    })
}

fn is_moment(of: RemoteType) -> bool {
    matches!(of.scalar, Scalar::Date | Scalar::Timestamp | Scalar::Timestamptz)
}

/// An aggregate as MySQL does it, and what it is asked for as. A mean of decimals has other digits there.
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
    // What is left out is NULL, which no aggregate counts.
    let chosen = |value: String| match &params.filter {
        Some(filter) => Some(format!("CASE WHEN {} THEN {value} END", words.truth(filter)?)),
        None => Some(value),
    };
    let distinct = if params.distinct { "DISTINCT " } else { "" };
    let [arg] = params.args.as_slice() else { return None };
    let of = RemoteType::of(plan)?;
    let sql = match (func.name(), arg) {
        ("count", Expr::Literal(value, _)) if !value.is_null() && !params.distinct => {
            format!("COUNT({})", chosen("1".to_owned())?)
        }
        ("count", arg) => {
            let arg = words.write(arg)?;
            let is_plain = !params.distinct || is_exact(arg.of) || is_moment(arg.of);
            is_plain.then(|| Some(format!("COUNT({distinct}{})", chosen(arg.sql)?))).flatten()?
        }
        ("sum", arg) => {
            let arg = words.write(arg)?;
            let is_same = is_exact(arg.of) || (arg.of.scalar, of.scalar) == (Scalar::Float8, Scalar::Float8);
            is_same.then(|| Some(format!("SUM({distinct}{})", chosen(arg.sql)?))).flatten()?
        }
        ("avg", arg) => {
            let arg = words.write(arg)?;
            let is_same = (arg.of.scalar, of.scalar) == (Scalar::Float8, Scalar::Float8);
            is_same.then(|| Some(format!("AVG({distinct}{})", chosen(arg.sql)?))).flatten()?
        }
        (name @ ("min" | "max"), arg) => {
            let arg = words.write(arg)?;
            let has = is_exact(arg.of) || is_moment(arg.of) || arg.of.scalar == Scalar::Float8;
            has.then(|| Some(format!("{name}({})", chosen(arg.sql)?))).flatten()?
        }
        _ => return None,
    };
    Some((sql, of))
}
