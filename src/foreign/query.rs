//! A part of a plan as one query of a foreign server.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Column, JoinType, NullEquality};
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{
    Aggregate, Expr, FetchType, Filter, Join, Limit, LogicalPlan, Operator, Projection, SkipType, Sort, TableScan,
};

use crate::foreign::pushdown::Remote;
use crate::foreign::server::Server;
use crate::foreign::sql::{Scope, Written, asked_as, is_number};
use crate::foreign::table::ForeignTable;
use crate::foreign::types::{RemoteType, Scalar};

/// A query; its columns are called c0, c1 …
#[derive(Debug, Clone)]
pub struct Query {
    pub server: Arc<Server>,
    pub sql: String,
    pub columns: Vec<RemoteType>,
}

impl Query {
    /// The query that gives the rows of a plan, in any order; `None`: a part of it has to be done here.
    pub fn of(plan: &LogicalPlan) -> Option<Self> {
        match plan {
            LogicalPlan::TableScan(scan) => Self::scan(scan),
            LogicalPlan::Extension(extension) => {
                extension.node.as_any().downcast_ref::<Remote>().map(|remote| remote.query.clone())
            }
            LogicalPlan::SubqueryAlias(alias) => Self::of(&alias.input),
            LogicalPlan::Projection(projection) => Self::projection(projection),
            LogicalPlan::Filter(filter) => Self::filter(filter),
            LogicalPlan::Join(join) => Self::join(join),
            LogicalPlan::Aggregate(aggregate) => Self::aggregate(aggregate),
            LogicalPlan::Sort(sort) => Self::sort(sort),
            LogicalPlan::Limit(limit) => Self::limit(limit),
            _ => None,
        }
    }

    /// A query of one table: some of its columns, some of its rows.
    pub fn table(
        table: &ForeignTable,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Option<Self> {
        let columns = table.remote().columns.iter().map(|column| column.written());
        let columns: Vec<Written> = columns.collect();
        let conditions = table.conditions(filters)?;
        let chosen: Vec<&Written> = match projection {
            Some(projection) => projection.iter().map(|at| columns.get(*at)).collect::<Option<_>>()?,
            None => columns.iter().collect(),
        };
        // A column is asked for as the type it was imported with, whatever became of it since.
        let listed = list(chosen.iter().map(|column| (column.sql.clone(), column.of)));
        let mut sql = format!("SELECT {listed}FROM {}", table.remote().sql());
        if !conditions.is_empty() {
            sql.push_str(&format!(" WHERE {}", conditions.join(" AND ")));
        }
        if let Some(limit) = limit {
            sql.push_str(&format!(" LIMIT {limit}"));
        }
        let columns = chosen.iter().map(|column| column.of).collect();
        Some(Self { server: Arc::clone(table.server()), sql, columns })
    }

    fn scan(scan: &TableScan) -> Option<Self> {
        let provider = source_as_provider(&scan.source).ok()?;
        Self::table(provider.downcast_ref::<ForeignTable>()?, scan.projection.as_ref(), &scan.filters, scan.fetch)
    }

    /// The columns as a query around this one names them.
    fn named(&self, alias: &str) -> impl Iterator<Item = Written> {
        self.columns.iter().enumerate().map(move |(at, of)| Written { sql: format!("{alias}.c{at}"), of: *of })
    }

    /// This query, as one that another stands around: `(SELECT …) AS t`.
    fn inside(&self, alias: &str) -> String {
        format!("({}) AS {alias}", self.sql)
    }

    /// All columns again.
    fn all(&self, alias: &str) -> String {
        plain_list(self.named(alias))
    }

    fn projection(projection: &Projection) -> Option<Self> {
        let input = Self::of(&projection.input)?;
        let scope = Scope { schema: projection.input.schema(), columns: input.named("t").collect() };
        let mut columns = Vec::with_capacity(projection.expr.len());
        for (expr, field) in projection.expr.iter().zip(projection.schema.fields()) {
            let written = scope.write(expr)?;
            let of = asked_as(&written, field.data_type())?;
            columns.push((written.sql, of));
        }
        let sql = format!("SELECT {}FROM {}", list(columns.iter().cloned()), input.inside("t"));
        Some(Self { sql, columns: columns.into_iter().map(|(_, of)| of).collect(), ..input })
    }

    fn filter(filter: &Filter) -> Option<Self> {
        let input = Self::of(&filter.input)?;
        let scope = Scope { schema: filter.input.schema(), columns: input.named("t").collect() };
        let condition = scope.truth(&filter.predicate)?;
        let sql = format!("SELECT {}FROM {} WHERE {condition}", input.all("t"), input.inside("t"));
        Some(Self { sql, ..input })
    }

    fn join(join: &Join) -> Option<Self> {
        // Every row with every other is more to send than the two are.
        if join.null_aware || (join.on.is_empty() && join.filter.is_none()) {
            return None;
        }
        let (left, right) = (Self::of(&join.left)?, Self::of(&join.right)?);
        if !Arc::ptr_eq(&left.server, &right.server) {
            return None;
        }
        let both = join.left.schema().join(join.right.schema()).ok()?;
        let columns: Vec<Written> = left.named("l").chain(right.named("r")).collect();
        let scope = Scope { schema: &both, columns };
        let equal = match join.null_equality {
            NullEquality::NullEqualsNothing => Operator::Eq,
            NullEquality::NullEqualsNull => Operator::IsNotDistinctFrom,
        };
        let on = join.on.iter().map(|(left, right)| scope.comparison(equal, left, right));
        let mut conditions = on.collect::<Option<Vec<String>>>()?;
        if let Some(filter) = &join.filter {
            conditions.push(scope.truth(filter)?);
        }
        let conditions = conditions.join(" AND ");
        let (l, r) = (left.inside("l"), right.inside("r"));
        let joined = |kind: &str| format!("FROM {l} {kind} {r} ON {conditions}");
        let exists = |outer: &str, inner: &str, not: &str| {
            format!("FROM {outer} WHERE {not}EXISTS (SELECT FROM {inner} WHERE {conditions})")
        };
        let (of_left, of_right) = (left.columns.clone(), right.columns.clone());
        let all = || scope.columns.iter().map(|column| column.of).collect();
        let (columns, from): (Vec<RemoteType>, String) = match join.join_type {
            JoinType::Inner => (all(), joined("JOIN")),
            JoinType::Left => (all(), joined("LEFT JOIN")),
            JoinType::Right => (all(), joined("RIGHT JOIN")),
            JoinType::Full => (all(), joined("FULL JOIN")),
            JoinType::LeftSemi => (of_left, exists(&l, &r, "")),
            JoinType::LeftAnti => (of_left, exists(&l, &r, "NOT ")),
            JoinType::RightSemi => (of_right, exists(&r, &l, "")),
            JoinType::RightAnti => (of_right, exists(&r, &l, "NOT ")),
            _ => return None,
        };
        // PostgreSQL joins fully only where it can merge or hash.
        if join.join_type == JoinType::Full && (join.on.is_empty() || join.filter.is_some()) {
            return None;
        }
        let listed = match join.join_type {
            JoinType::LeftSemi | JoinType::LeftAnti => left.all("l"),
            JoinType::RightSemi | JoinType::RightAnti => right.all("r"),
            _ => plain_list(scope.columns.iter().cloned()),
        };
        Some(Self { server: left.server, sql: format!("SELECT {listed}{from}"), columns })
    }

    fn aggregate(aggregate: &Aggregate) -> Option<Self> {
        let input = Self::of(&aggregate.input)?;
        let scope = Scope { schema: aggregate.input.schema(), columns: input.named("t").collect() };
        let mut columns = Vec::with_capacity(aggregate.schema.fields().len());
        let (groups, counted) = aggregate.schema.fields().split_at_checked(aggregate.group_expr.len())?;
        for (expr, field) in aggregate.group_expr.iter().zip(groups) {
            let written = scope.write(expr)?;
            let of = asked_as(&written, field.data_type())?;
            // A document is text to the engine, and whether two are the same is more to the server.
            if of.list || of.scalar == Scalar::Json {
                return None;
            }
            columns.push((written.sql, of));
        }
        for (expr, field) in aggregate.aggr_expr.iter().zip(counted) {
            columns.push(summary(&scope, expr, field.data_type())?);
        }
        let by = (1..=groups.len()).map(|at| at.to_string()).collect::<Vec<_>>().join(", ");
        let by = if groups.is_empty() { String::new() } else { format!(" GROUP BY {by}") };
        let sql = format!("SELECT {}FROM {}{by}", list(columns.iter().cloned()), input.inside("t"));
        Some(Self { sql, columns: columns.into_iter().map(|(_, of)| of).collect(), ..input })
    }

    /// Which rows come first; in which order they come is left to whoever reads them.
    fn sort(sort: &Sort) -> Option<Self> {
        let input = Self::of(&sort.input)?;
        let Some(fetch) = sort.fetch else { return Some(input) };
        let scope = Scope { schema: sort.input.schema(), columns: input.named("t").collect() };
        let mut by = Vec::with_capacity(sort.expr.len());
        for key in &sort.expr {
            let order = scope.sorted(&scope.write(&key.expr)?)?;
            let direction = if key.asc { "ASC" } else { "DESC" };
            by.push(format!("{order} {direction} NULLS {}", if key.nulls_first { "FIRST" } else { "LAST" }));
        }
        let (listed, by) = (input.all("t"), by.join(", "));
        let sql = format!("SELECT {listed}FROM {} ORDER BY {by} LIMIT {fetch}", input.inside("t"));
        Some(Self { sql, ..input })
    }

    fn limit(limit: &Limit) -> Option<Self> {
        let input = Self::of(&limit.input)?;
        let (Ok(SkipType::Literal(skip)), Ok(FetchType::Literal(fetch))) =
            (limit.get_skip_type(), limit.get_fetch_type())
        else {
            return None;
        };
        let mut sql = format!("SELECT {}FROM {}", input.all("t"), input.inside("t"));
        if let Some(fetch) = fetch {
            sql.push_str(&format!(" LIMIT {fetch}"));
        }
        if skip > 0 {
            sql.push_str(&format!(" OFFSET {skip}"));
        }
        Some(Self { sql, ..input })
    }
}

/// What stands after SELECT: each value as the type it is asked for as, under its number.
fn list(columns: impl Iterator<Item = (String, RemoteType)>) -> String {
    let columns = columns.enumerate().map(|(at, (sql, of))| format!("{sql}::{} AS c{at}", of.sql()));
    spaced(columns.collect())
}

/// The same of columns that have their types already.
fn plain_list(columns: impl Iterator<Item = Written>) -> String {
    spaced(columns.enumerate().map(|(at, column)| format!("{} AS c{at}", column.sql)).collect())
}

/// A query may ask for no column at all: only how many rows there are.
fn spaced(columns: Vec<String>) -> String {
    if columns.is_empty() { String::new() } else { format!("{} ", columns.join(", ")) }
}

/// An aggregate over there, and what it is asked for as.
fn summary(scope: &Scope<'_>, expr: &Expr, plan: &DataType) -> Option<(String, RemoteType)> {
    let call = match expr {
        Expr::Alias(alias) => return summary(scope, &alias.expr, plan),
        Expr::AggregateFunction(call) => call,
        _ => return None,
    };
    let AggregateFunction { func, params } = call;
    if !params.order_by.is_empty() || params.null_treatment.is_some() {
        return None;
    }
    let filter = match &params.filter {
        Some(filter) => format!(" FILTER (WHERE {})", scope.truth(filter)?),
        None => String::new(),
    };
    let distinct = if params.distinct { "DISTINCT " } else { "" };
    let [arg] = params.args.as_slice() else { return None };
    let of = RemoteType::of(plan)?;
    let sql = match (func.name(), arg) {
        ("count", Expr::Literal(value, _)) if !value.is_null() && !params.distinct => format!("count(*){filter}"),
        ("count", arg) => {
            let arg = scope.write(arg)?;
            let is_plain =
                !params.distinct || !(arg.of.list || matches!(arg.of.scalar, Scalar::Json | Scalar::Interval));
            is_plain.then(|| format!("count({distinct}{}){filter}", arg.sql))?
        }
        ("sum", arg) => {
            let arg = scope.write(arg)?;
            is_number(arg.of).then(|| format!("sum({distinct}{}){filter}", arg.sql))?
        }
        ("avg", arg) => {
            let arg = scope.write(arg)?;
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
            let arg = scope.write(arg)?;
            // There is no least truth, and before PostgreSQL 18 no least bytes.
            let has = !matches!(arg.of.scalar, Scalar::Bool | Scalar::Bytea | Scalar::Oid);
            has.then(|| Some(format!("{name}({}){filter}", scope.sorted(&arg)?))).flatten()?
        }
        _ => return None,
    };
    Some((sql, of))
}

/// The columns that an expression names, without the name of their table: those of a table have no other.
pub fn unqualified(expr: &Expr) -> Option<Expr> {
    use datafusion::common::tree_node::{Transformed, TreeNode};
    let bare = expr.clone().transform(|expr| {
        Ok(match expr {
            Expr::Column(column) => Transformed::yes(Expr::Column(Column::new_unqualified(column.name))),
            other => Transformed::no(other),
        })
    });
    bare.ok().map(|bare| bare.data)
}
