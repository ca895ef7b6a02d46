//! `FROM customers c CROSS JOIN LATERAL recommend('taste', c.customer_id) r`: a function that stands beside a row and is
//! asked about it.
//!
//! DataFusion plans what stands on the right as a sub-query that names columns of the left, and can take such a thing
//! apart where the names stand in a filter. Where they are arguments of a function there is no need to join: the rows of
//! the left themselves go through the projections and the unnest that the function consists of.

use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, NullEquality, NullHandling, ScalarValue};
use datafusion::config::ConfigOptions;
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{
    EmptyRelation, Expr, ExprSchemable, Filter, Join, JoinType, LogicalPlan, LogicalPlanBuilder, Operator, Projection,
    Subquery, SubqueryAlias, Unnest, binary_expr, try_cast, when,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::sql::sqlparser::ast::{
    self, FunctionArg, FunctionArgExpr, Ident, JoinOperator, Query, Select, TableFactor, Visit, Visitor,
};

use crate::engine::postgres_sql::{factor, names_something};
use crate::engine::statement::folded;
use crate::error::{Error, Result};
use crate::functions::{ANSWER, function};

/// Writes LATERAL before a function that names a column of a relation before it: in Postgres it goes without saying.
/// Returns the names of all relations.
pub(super) fn mark(select: &mut Select) -> Vec<String> {
    let mut before = Vec::new();
    for table in &mut select.from {
        mark_relation(&mut table.relation, &before);
        before.extend(name_of(&table.relation));
        for join in &mut table.joins {
            let sees_left = matches!(
                join.join_operator,
                JoinOperator::Join(_)
                    | JoinOperator::Inner(_)
                    | JoinOperator::CrossJoin(_)
                    | JoinOperator::Left(_)
                    | JoinOperator::LeftOuter(_)
            );
            if sees_left {
                mark_relation(&mut join.relation, &before);
            }
            before.extend(name_of(&join.relation));
        }
    }
    before
}

fn mark_relation(relation: &mut TableFactor, before: &[String]) {
    if let TableFactor::Table { name, args: Some(args), alias, .. } = relation
        && function(&name.to_string()).is_some()
        && args.args.iter().any(|arg| names_one_of(arg, before))
    {
        let (name, args, alias) = (name.clone(), std::mem::take(&mut args.args), alias.take());
        *relation = TableFactor::Function { lateral: true, name, args, with_ordinality: false, alias };
        return;
    }
    // The planner lets the arrays of UNNEST name nothing, and those in a query of one row what stands before it.
    if let TableFactor::UNNEST { array_exprs, alias, .. } = relation
        && !before.is_empty()
        && array_exprs.iter().any(names_something)
    {
        let columns = alias.as_ref().map_or(&[][..], |alias| &alias.columns);
        let name = |at: usize| columns.get(at).map_or_else(|| Ident::new("unnest"), |column| column.name.clone());
        let columns: Vec<String> =
            array_exprs.iter().enumerate().map(|(at, array)| format!("unnest({array}) AS {}", name(at))).collect();
        let name = alias.as_ref().map_or_else(|| Ident::new("unnest"), |alias| alias.name.clone());
        if let Some(query) = factor(&format!("LATERAL (SELECT {}) AS {name}", columns.join(", "))) {
            *relation = query;
        }
    }
}

/// By which name columns of a relation are called.
fn name_of(relation: &TableFactor) -> Option<String> {
    match relation {
        TableFactor::Table { alias: Some(alias), .. }
        | TableFactor::Derived { alias: Some(alias), .. }
        | TableFactor::UNNEST { alias: Some(alias), .. }
        | TableFactor::Function { alias: Some(alias), .. } => Some(folded(&alias.name)),
        TableFactor::Table { name, .. } | TableFactor::Function { name, .. } => {
            name.0.last().and_then(|part| part.as_ident()).map(folded)
        }
        _ => None,
    }
}

/// Whether `c.customer_id` stands in an argument, and `c` is one of the relations; a query in it has names of its own.
pub(super) fn names_one_of(arg: &FunctionArg, relations: &[String]) -> bool {
    struct Names<'a> {
        relations: &'a [String],
        queries: usize,
    }
    impl Visitor for Names<'_> {
        type Break = ();

        fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
            self.queries += 1;
            ControlFlow::Continue(())
        }

        fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
            self.queries -= 1;
            ControlFlow::Continue(())
        }

        fn pre_visit_expr(&mut self, expr: &ast::Expr) -> ControlFlow<()> {
            match expr {
                ast::Expr::CompoundIdentifier(path)
                    if self.queries == 0 && path.len() == 2 && self.relations.contains(&folded(&path[0])) =>
                {
                    ControlFlow::Break(())
                }
                _ => ControlFlow::Continue(()),
            }
        }
    }
    match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))
        | FunctionArg::Named { arg: FunctionArgExpr::Expr(expr), .. }
        | FunctionArg::ExprNamed { arg: FunctionArgExpr::Expr(expr), .. } => {
            expr.visit(&mut Names { relations, queries: 0 }).is_break()
        }
        _ => false,
    }
}

/// Sends the rows of the left through the functions that stand beside them; refuses what is left.
#[derive(Debug)]
pub(super) struct Lateral;

impl AnalyzerRule for Lateral {
    fn name(&self) -> &str {
        "functions_beside_rows"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> DataFusionResult<LogicalPlan> {
        let plan = plan.transform_up_with_subqueries(|node| match node {
            LogicalPlan::Join(join) => Ok(match beside(&join)? {
                Some(plan) => Transformed::yes(plan),
                None => Transformed::no(LogicalPlan::Join(join)),
            }),
            // What was named in a function beside rows of the query itself is nothing outside of it any more.
            LogicalPlan::Subquery(Subquery { subquery, spans, .. }) => {
                let outer_ref_columns = subquery.all_out_ref_exprs();
                Ok(Transformed::yes(LogicalPlan::Subquery(Subquery { subquery, outer_ref_columns, spans })))
            }
            other => Ok(Transformed::no(other)),
        })?;
        refuse_rest(&plan.data)?;
        Ok(plan.data)
    }
}

/// The join without a join, if the right is made of one row by projections, filters and unnests.
fn beside(join: &Join) -> Result<Option<LogicalPlan>> {
    let keeps_all = match join.join_type {
        JoinType::Inner => false,
        JoinType::Left => true,
        _ => return Ok(None),
    };
    let Some(steps) = right_of(join).and_then(|right| steps(right, keeps_all)) else { return Ok(None) };
    if keeps_all && !(join.on.is_empty() && join.filter.as_ref().is_none_or(is_true)) {
        return Err(Error::unsupported("LEFT JOIN LATERAL of a function has the condition ON true and no other")
            .hint("ask the function for what you want, or put the condition on rows into WHERE"));
    }
    let mut rows = Rows::of(&join.left, keeps_all)?;
    for step in steps.into_iter().rev() {
        rows = rows.through(step)?;
    }
    let plan = rows.named(join)?;
    let operator = match join.null_equality {
        NullEquality::NullEqualsNothing => Operator::Eq,
        NullEquality::NullEqualsNull => Operator::IsNotDistinctFrom,
    };
    let equal = |(left, right): &(Expr, Expr)| binary_expr(left.clone(), operator, right.clone());
    let conditions = join.on.iter().map(equal).chain(join.filter.clone()).filter(|condition| !is_true(condition));
    Ok(Some(match conjunction(conditions) {
        Some(condition) => LogicalPlanBuilder::from(plan).filter(condition)?.build()?,
        None => plan,
    }))
}

/// What stands on the right of a join and names columns of the left.
fn right_of(join: &Join) -> Option<&LogicalPlan> {
    match join.right.as_ref() {
        LogicalPlan::Subquery(subquery) => Some(&subquery.subquery),
        LogicalPlan::SubqueryAlias(SubqueryAlias { input, .. }) => match input.as_ref() {
            LogicalPlan::Subquery(subquery) => Some(&subquery.subquery),
            _ => None,
        },
        _ => None,
    }
}

/// The nodes from the top down to the one row they start from; `None`: there is another kind among them.
///
/// Where all rows of the left are kept, what has no answer must become one row of NULLs: that is known of a function's
/// list of answers, and of nothing else.
fn steps(mut plan: &LogicalPlan, keeps_all: bool) -> Option<Vec<&LogicalPlan>> {
    let (mut steps, mut unnests) = (Vec::new(), 0);
    loop {
        let mut depends = false;
        let _ = plan.apply_expressions(|expr| {
            depends |= expr.exists(|expr| Ok(is_correlated(expr)))?;
            Ok(TreeNodeRecursion::Continue)
        });
        let input = match plan {
            LogicalPlan::EmptyRelation(EmptyRelation { produce_one_row: true, schema })
                if schema.fields().is_empty() =>
            {
                return (!keeps_all || unnests == 1).then_some(steps);
            }
            _ if depends => return None,
            LogicalPlan::Projection(Projection { input, expr, .. })
                if !keeps_all || unnests > 0 || expr.iter().all(is_plain) =>
            {
                input
            }
            LogicalPlan::SubqueryAlias(SubqueryAlias { input, .. }) => input,
            // A function that is the first relation of a query which stands beside the row.
            LogicalPlan::Subquery(Subquery { subquery, .. }) => subquery,
            LogicalPlan::Filter(Filter { input, .. }) if !keeps_all => input,
            LogicalPlan::Unnest(Unnest { input, exec_columns, .. })
                if !keeps_all || matches!(exec_columns.as_slice(), [answer] if answer.name == ANSWER) =>
            {
                unnests += 1;
                input
            }
            // What is known beside each row, such as what a customer has done by now.
            LogicalPlan::Join(Join {
                left, right, join_type, null_equality: NullEquality::NullEqualsNothing, ..
            }) if right.all_out_ref_exprs().is_empty()
                && (*join_type == JoinType::Left && unnests > 0 || is_one_sided(*join_type) && !keeps_all) =>
            {
                left
            }
            _ => return None,
        };
        steps.push(plan);
        plan = input;
    }
}

/// Whether no row of the right comes without one of the left.
fn is_one_sided(join_type: JoinType) -> bool {
    matches!(join_type, JoinType::Inner | JoinType::Left)
}

/// Whether it is a query that depends on the row.
fn is_correlated(expr: &Expr) -> bool {
    match expr {
        Expr::ScalarSubquery(subquery) => !subquery.outer_ref_columns.is_empty(),
        Expr::Exists(exists) => !exists.subquery.outer_ref_columns.is_empty(),
        Expr::InSubquery(within) => !within.subquery.outer_ref_columns.is_empty(),
        Expr::SetComparison(comparison) => !comparison.subquery.outer_ref_columns.is_empty(),
        _ => false,
    }
}

/// Whether it cannot fail, whatever row it is asked about: a column, or a part of one.
fn is_plain(expr: &Expr) -> bool {
    let part = |expr: &Expr| match expr {
        Expr::Column(_) | Expr::Alias(_) | Expr::Literal(..) => true,
        Expr::ScalarFunction(call) => call.name() == "get_field",
        _ => false,
    };
    let mut plain = true;
    let _ = expr.apply(|expr| {
        plain &= part(expr);
        Ok(TreeNodeRecursion::Continue)
    });
    plain
}

fn is_true(condition: &Expr) -> bool {
    matches!(condition, Expr::Literal(ScalarValue::Boolean(Some(true)), _))
}

/// The rows of the left on their way through the function.
struct Rows {
    plan: LogicalPlan,
    /// The columns of the left, to be found under names of their own in `plan`.
    left: Vec<Column>,
    keeps_all: bool,
    /// Beside them: whether there is an answer.
    answered: Option<Expr>,
}

impl Rows {
    fn of(left: &Arc<LogicalPlan>, keeps_all: bool) -> Result<Self> {
        let columns = left.schema().columns();
        // A key of the left is no key of its answers, and DataFusion 55 would take it for one: a cast ends it.
        let is_keyed = !left.schema().functional_dependencies().is_empty();
        let carried = |(at, column): (usize, &Column)| -> Result<Expr> {
            let column = Expr::Column(column.clone());
            let same_type = column.get_type(left.schema())?;
            let column = if is_keyed { try_cast(column, same_type) } else { column };
            Ok(column.alias(carried_name(at)))
        };
        let carried = columns.iter().enumerate().map(carried).collect::<Result<Vec<_>>>()?;
        let plan = LogicalPlanBuilder::new_from_arc(Arc::clone(left)).project(carried)?.build()?;
        Ok(Self { plan, left: columns, keeps_all, answered: None })
    }

    /// What every projection keeps.
    fn carried(&self) -> Vec<Expr> {
        let columns = (0..self.left.len()).map(|at| Expr::Column(Column::new_unqualified(carried_name(at))));
        columns.chain(self.answered.clone()).collect()
    }

    /// The expression with the columns of the left under the names they have here.
    fn seen_from_here(&self, expr: Expr) -> Result<Expr> {
        let renamed = expr.transform_up(|expr| {
            Ok(match &expr {
                Expr::OuterReferenceColumn(_, outer) => match self.left.iter().position(|column| column == outer) {
                    Some(at) => Transformed::yes(Expr::Column(Column::new_unqualified(carried_name(at)))),
                    None => Transformed::no(expr),
                },
                _ => Transformed::no(expr),
            })
        })?;
        Ok(renamed.data)
    }

    /// One node of the function more.
    fn through(mut self, step: &LogicalPlan) -> Result<Self> {
        let mut columns = self.carried();
        let own = columns.len();
        let plan = match step {
            LogicalPlan::Projection(Projection { expr, schema, .. }) => {
                for (expr, (qualifier, field)) in expr.iter().zip(schema.iter()) {
                    let named = matches!(expr, Expr::Column(_) | Expr::Alias(_));
                    let expr = self.seen_from_here(expr.clone())?;
                    columns.push(if named { expr } else { expr.alias_qualified(qualifier.cloned(), field.name()) });
                }
                LogicalPlanBuilder::from(self.plan).project(columns)?.build()?
            }
            LogicalPlan::SubqueryAlias(SubqueryAlias { schema, .. }) => {
                for (found, (qualifier, field)) in self.plan.schema().columns().into_iter().skip(own).zip(schema.iter())
                {
                    columns.push(Expr::Column(found).alias_qualified(qualifier.cloned(), field.name()));
                }
                LogicalPlanBuilder::from(self.plan).project(columns)?.build()?
            }
            LogicalPlan::Subquery(_) => self.plan,
            LogicalPlan::Filter(Filter { predicate, .. }) => {
                let predicate = self.seen_from_here(predicate.clone())?;
                LogicalPlanBuilder::from(self.plan).filter(predicate)?.build()?
            }
            LogicalPlan::Join(Join { right, on, filter, join_type, .. }) => {
                let equal = on.iter().map(|(left, right)| left.clone().eq(right.clone()));
                let conditions = equal.chain(filter.clone()).map(|condition| self.seen_from_here(condition));
                let conditions = conditions.collect::<Result<Vec<_>>>()?;
                LogicalPlanBuilder::from(self.plan).join_on(right.as_ref().clone(), *join_type, conditions)?.build()?
            }
            LogicalPlan::Unnest(Unnest { exec_columns, options, .. }) => {
                let nulls = if self.keeps_all { NullHandling::PreserveAndExpandEmpty } else { NullHandling::Drop };
                let options = options.clone().with_null_handling(nulls);
                let plan = LogicalPlanBuilder::from(self.plan)
                    .unnest_columns_with_options(exec_columns.clone(), options)?
                    .build()?;
                match exec_columns.as_slice() {
                    [answer] if self.keeps_all => {
                        let answered = Expr::Column(answer.clone()).is_not_null().alias(ANSWERED);
                        columns.push(answered);
                        columns.extend(plan.schema().columns().into_iter().skip(own).map(Expr::Column));
                        self.answered = Some(Expr::Column(Column::new_unqualified(ANSWERED)));
                        LogicalPlanBuilder::from(plan).project(columns)?.build()?
                    }
                    _ => plan,
                }
            }
            other => return Err(Error::internal(format!("{} beside a row", other.display()))),
        };
        self.plan = plan;
        Ok(self)
    }

    /// All columns under the names that they have in the join.
    fn named(self, join: &Join) -> Result<LogicalPlan> {
        let own = self.carried().len();
        let mut columns = Vec::new();
        for (at, column) in self.left.iter().enumerate() {
            let found = Expr::Column(Column::new_unqualified(carried_name(at)));
            columns.push(found.alias_qualified(column.relation.clone(), column.name.clone()));
        }
        for (found, (qualifier, field)) in
            self.plan.schema().columns().into_iter().skip(own).zip(join.right.schema().iter())
        {
            let found = Expr::Column(found);
            let found = match &self.answered {
                Some(answered) => when(answered.clone(), found).end()?,
                None => found,
            };
            columns.push(found.alias_qualified(qualifier.cloned(), field.name()));
        }
        Ok(LogicalPlanBuilder::from(self.plan).project(columns)?.build()?)
    }
}

/// Whether a row of the left has an answer, where all are kept.
const ANSWERED: &str = "__answered";

/// The name of a column of the left on the way through: its own may be one of the function's.
fn carried_name(at: usize) -> String {
    format!("__beside_{at}")
}

/// A function that is still asked about columns of another query cannot be planned.
fn refuse_rest(plan: &LogicalPlan) -> Result<()> {
    let mut column = None;
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Unnest(Unnest { exec_columns, .. }) = node
            && exec_columns.iter().any(|column| column.name == ANSWER)
            && let Some(Expr::OuterReferenceColumn(_, outer)) = node.all_out_ref_exprs().first()
        {
            column = Some(outer.flat_name());
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    match column {
        None => Ok(()),
        Some(column) => Err(Error::unsupported(format!("a function in FROM cannot depend on {column} here")).hint(
            "put it behind the relation itself, FROM t CROSS JOIN LATERAL f('model', t.key) r, or give it a query of all \
             keys: f('model', (SELECT key FROM t))",
        )),
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;

    #[track_caller]
    fn check(from: &str, expected: &str) {
        let sql = format!("SELECT * FROM {from}");
        let mut query = Parser::new(&PostgreSqlDialect {}).try_with_sql(&sql).unwrap().parse_query().unwrap();
        match query.body.as_mut() {
            ast::SetExpr::Select(select) => drop(mark(select)),
            other => panic!("{other}"),
        }
        assert_eq!(query.to_string(), format!("SELECT * FROM {expected}"));
    }

    #[test]
    fn lateral_goes_without_saying_where_a_column_is_named() {
        check("c, recommend('m', c.id) r", "c, LATERAL recommend('m', c.id) r");
        check("s.c JOIN ml.recommend('m', C.id) ON true", "s.c JOIN LATERAL ml.recommend('m', C.id) ON true");
        check(
            "t AS c LEFT JOIN recommend('m', k => 1, users => -c.id) ON true",
            "t AS c LEFT JOIN LATERAL recommend('m', k => 1, users => -c.id) ON true",
        );
        check(
            "c, recommend('m', c.id) r, similar_items('m', r.item)",
            "c, LATERAL recommend('m', c.id) r, LATERAL similar_items('m', r.item)",
        );
    }

    #[test]
    fn a_table_is_no_column() {
        for from in [
            "recommend('m', c.id) r, c",
            "c, recommend('m', s.t) r",
            "c, recommend('m', c) r",
            "c, recommend('m', (SELECT c.id FROM c)) r",
            "c RIGHT JOIN recommend('m', c.id) r ON true",
            "c, generate_series(1, c.n) s",
        ] {
            check(from, from);
        }
    }
}
