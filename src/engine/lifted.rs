//! Queries inside of aggregates and of what is grouped by: `sum(CASE WHEN (SELECT …) > 0 THEN amount END)`. DataFusion joins
//! them to rows only where they stand among columns; so they become columns of what is aggregated.

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, Result as DataFusionResult};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::optimizer::AnalyzerRule;

/// Takes them out.
#[derive(Debug)]
pub(super) struct Lifted;

impl AnalyzerRule for Lifted {
    fn name(&self) -> &'static str {
        "lifted"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> DataFusionResult<LogicalPlan> {
        let plan = plan.transform_up_with_subqueries(|node| match node {
            LogicalPlan::Aggregate(aggregate) if asks(&aggregate)? => Ok(Transformed::yes(lifted(aggregate)?)),
            other => Ok(Transformed::no(other)),
        })?;
        Ok(plan.data)
    }
}

fn asks(aggregate: &Aggregate) -> DataFusionResult<bool> {
    let mut exprs = aggregate.group_expr.iter().chain(&aggregate.aggr_expr);
    exprs.try_fold(false, |asks, expr| Ok(asks || expr.exists(|expr| Ok(matches!(expr, Expr::ScalarSubquery(_))))?))
}

/// The same, of a projection that has the queries as columns; under the names that it had.
fn lifted(aggregate: Aggregate) -> DataFusionResult<LogicalPlan> {
    let Aggregate { input, group_expr, aggr_expr, schema, .. } = aggregate;
    let mut columns: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
    let n = columns.len();
    let mut lift = |expr: Expr| -> DataFusionResult<Expr> {
        let lifted = expr.transform_down(|expr| match expr {
            Expr::ScalarSubquery(_) => {
                let name = format!("\0asked{}", columns.len() - n);
                columns.push(expr.alias(&name));
                let column = Expr::Column(Column::new_unqualified(name));
                Ok(Transformed::new(column, true, TreeNodeRecursion::Jump))
            }
            other => Ok(Transformed::no(other)),
        })?;
        Ok(lifted.data)
    };
    let group_expr = group_expr.into_iter().map(&mut lift).collect::<DataFusionResult<Vec<_>>>()?;
    let aggr_expr = aggr_expr.into_iter().map(&mut lift).collect::<DataFusionResult<Vec<_>>>()?;
    let input = LogicalPlanBuilder::from(input).project(columns)?;
    let aggregated = input.aggregate(group_expr, aggr_expr)?;
    let names = aggregated.schema().columns().into_iter().zip(schema.iter());
    let renamed: Vec<Expr> = names
        .map(|(column, (relation, field))| Expr::Column(column).alias_qualified(relation.cloned(), field.name()))
        .collect();
    aggregated.project(renamed)?.build()
}
