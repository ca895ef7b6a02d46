//! A part of a plan as one query of a foreign server.

use std::sync::Arc;

use datafusion::common::{Column, JoinType, NullEquality};
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::{
    Aggregate, Expr, FetchType, Filter, Join, Limit, LogicalPlan, Operator, Projection, SkipType, Sort, TableScan,
};

use crate::foreign::pushdown::Remote;
use crate::foreign::table::ForeignTable;
use crate::foreign::types::RemoteType;
use crate::foreign::wrapper::{Database, Dialect, Scope, Written};

/// A query; its columns are called c0, c1 …
#[derive(Debug, Clone)]
pub struct Query {
    pub server: Arc<dyn Database>,
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
        let dialect = table.server().dialect();
        let columns = table.remote().columns.iter().map(|column| dialect.column(column));
        let columns: Vec<Written> = columns.collect();
        let conditions = table.conditions(filters)?;
        let chosen: Vec<&Written> = match projection {
            Some(projection) => projection.iter().map(|at| columns.get(*at)).collect::<Option<_>>()?,
            None => columns.iter().collect(),
        };
        // A column is asked for as the type it was imported with, whatever became of it since.
        let listed = list(dialect, chosen.iter().map(|column| (column.sql.clone(), column.of)));
        let mut sql = format!("SELECT {listed}FROM {}", table.remote().sql());
        if !conditions.is_empty() {
            sql.push_str(&format!(" WHERE {}", conditions.join(" AND ")));
        }
        if let Some(limit) = limit {
            sql.push_str(&dialect.limited(Some(limit), 0));
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
        self.columns.iter().enumerate().map(move |(at, of)| Written::new(format!("{alias}.c{at}"), *of))
    }

    /// This query, as one that another stands around: `(SELECT …) AS t`.
    fn inside(&self, alias: &str) -> String {
        format!("({}) AS {alias}", self.sql)
    }

    /// All columns again.
    fn all(&self, alias: &str) -> String {
        plain_list(self.dialect(), self.named(alias))
    }

    fn dialect(&self) -> &'static dyn Dialect {
        self.server.dialect()
    }

    fn projection(projection: &Projection) -> Option<Self> {
        let input = Self::of(&projection.input)?;
        let dialect = input.dialect();
        let scope = Scope { schema: projection.input.schema(), columns: input.named("t").collect() };
        let mut columns = Vec::with_capacity(projection.expr.len());
        for (expr, field) in projection.expr.iter().zip(projection.schema.fields()) {
            let written = dialect.write(&scope, expr)?;
            let of = dialect.asked_as(&written, field.data_type())?;
            columns.push((written.sql, of));
        }
        let sql = format!("SELECT {}FROM {}", list(dialect, columns.iter().cloned()), input.inside("t"));
        Some(Self { sql, columns: columns.into_iter().map(|(_, of)| of).collect(), ..input })
    }

    fn filter(filter: &Filter) -> Option<Self> {
        let input = Self::of(&filter.input)?;
        let scope = Scope { schema: filter.input.schema(), columns: input.named("t").collect() };
        let condition = input.dialect().condition(&scope, &filter.predicate)?;
        let sql = format!("SELECT {}FROM {} WHERE {condition}", input.all("t"), input.inside("t"));
        Some(Self { sql, ..input })
    }

    fn join(join: &Join) -> Option<Self> {
        // Every row with every other is more to send than the two are.
        if join.null_aware || (join.on.is_empty() && join.filter.is_none()) {
            return None;
        }
        let (left, right) = (Self::of(&join.left)?, Self::of(&join.right)?);
        let dialect = left.dialect();
        if !Arc::ptr_eq(&left.server, &right.server) || !dialect.joins(join) {
            return None;
        }
        let both = join.left.schema().join(join.right.schema()).ok()?;
        let columns: Vec<Written> = left.named("l").chain(right.named("r")).collect();
        let scope = Scope { schema: &both, columns };
        let equal = match join.null_equality {
            NullEquality::NullEqualsNothing => Operator::Eq,
            NullEquality::NullEqualsNull => Operator::IsNotDistinctFrom,
        };
        let on = join.on.iter().map(|(left, right)| dialect.comparison(&scope, equal, left, right));
        let mut conditions = on.collect::<Option<Vec<String>>>()?;
        if let Some(filter) = &join.filter {
            conditions.push(dialect.condition(&scope, filter)?);
        }
        let conditions = conditions.join(" AND ");
        let (l, r) = (left.inside("l"), right.inside("r"));
        let joined = |kind: &str| format!("FROM {l} {kind} {r} ON {conditions}");
        let exists = |outer: &str, inner: &str, not: &str| {
            let nothing = dialect.no_columns();
            format!("FROM {outer} WHERE {not}EXISTS (SELECT {nothing}FROM {inner} WHERE {conditions})")
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
        let listed = match join.join_type {
            JoinType::LeftSemi | JoinType::LeftAnti => left.all("l"),
            JoinType::RightSemi | JoinType::RightAnti => right.all("r"),
            _ => plain_list(dialect, scope.columns.iter().cloned()),
        };
        Some(Self { server: left.server, sql: format!("SELECT {listed}{from}"), columns })
    }

    fn aggregate(aggregate: &Aggregate) -> Option<Self> {
        let input = Self::of(&aggregate.input)?;
        let dialect = input.dialect();
        let scope = Scope { schema: aggregate.input.schema(), columns: input.named("t").collect() };
        let mut columns = Vec::with_capacity(aggregate.schema.fields().len());
        let (groups, counted) = aggregate.schema.fields().split_at_checked(aggregate.group_expr.len())?;
        for (expr, field) in aggregate.group_expr.iter().zip(groups) {
            let written = dialect.write(&scope, expr)?;
            let of = dialect.asked_as(&written, field.data_type())?;
            if !dialect.groups(&written) {
                return None;
            }
            columns.push((written.sql, of));
        }
        for (expr, field) in aggregate.aggr_expr.iter().zip(counted) {
            columns.push(dialect.summary(&scope, expr, field.data_type())?);
        }
        let by = (1..=groups.len()).map(|at| at.to_string()).collect::<Vec<_>>().join(", ");
        let by = if groups.is_empty() { String::new() } else { format!(" GROUP BY {by}") };
        let sql = format!("SELECT {}FROM {}{by}", list(dialect, columns.iter().cloned()), input.inside("t"));
        Some(Self { sql, columns: columns.into_iter().map(|(_, of)| of).collect(), ..input })
    }

    /// Which rows come first; in which order they come is left to whoever reads them.
    fn sort(sort: &Sort) -> Option<Self> {
        let input = Self::of(&sort.input)?;
        let Some(fetch) = sort.fetch else { return Some(input) };
        let dialect = input.dialect();
        let scope = Scope { schema: sort.input.schema(), columns: input.named("t").collect() };
        let mut by = Vec::with_capacity(sort.expr.len());
        for key in &sort.expr {
            let value = dialect.write(&scope, &key.expr)?;
            by.push(dialect.ordered(&value, key.asc, key.nulls_first)?);
        }
        let (listed, by) = (input.all("t"), by.join(", "));
        let sql = format!("SELECT {listed}FROM {} ORDER BY {by}{}", input.inside("t"), dialect.limited(Some(fetch), 0));
        Some(Self { sql, ..input })
    }

    fn limit(limit: &Limit) -> Option<Self> {
        let input = Self::of(&limit.input)?;
        let (Ok(SkipType::Literal(skip)), Ok(FetchType::Literal(fetch))) =
            (limit.get_skip_type(), limit.get_fetch_type())
        else {
            return None;
        };
        let limited = input.dialect().limited(fetch, skip);
        let sql = format!("SELECT {}FROM {}{limited}", input.all("t"), input.inside("t"));
        Some(Self { sql, ..input })
    }
}

/// What stands after SELECT: each value as the type it is asked for as, under its number.
fn list(dialect: &dyn Dialect, columns: impl Iterator<Item = (String, RemoteType)>) -> String {
    let columns = columns.enumerate().map(|(at, (sql, of))| format!("{} AS c{at}", dialect.asked(&sql, of)));
    spaced(dialect, columns.collect())
}

/// The same of columns that have their types already.
fn plain_list(dialect: &dyn Dialect, columns: impl Iterator<Item = Written>) -> String {
    spaced(dialect, columns.enumerate().map(|(at, column)| format!("{} AS c{at}", column.sql)).collect())
}

/// A query may ask for no column at all: only how many rows there are.
fn spaced(dialect: &dyn Dialect, columns: Vec<String>) -> String {
    if columns.is_empty() { dialect.no_columns().to_owned() } else { format!("{} ", columns.join(", ")) }
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
