//! `predict('churn', c.*)`: all columns of a row as arguments of a function. The SQL planner leaves the star in place.

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema};
use datafusion::config::ConfigOptions;
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::AnalyzerRule;

/// Puts the columns in the place of each star; runs before types are coerced.
#[derive(Debug)]
pub(super) struct Wildcards;

impl AnalyzerRule for Wildcards {
    fn name(&self) -> &str {
        "expand_wildcard_arguments"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> DataFusionResult<LogicalPlan> {
        let expanded = plan.transform_up_with_subqueries(|node| {
            let schema = merge_schema(&node.inputs());
            let names = NamePreserver::new(&node);
            node.map_expressions(|expr| {
                let name = names.save(&expr);
                let expanded = expr.transform_up(|expr| Ok(expand(expr, &schema)))?;
                Ok(expanded.update_data(|expr| name.restore(expr)))
            })
        })?;
        Ok(expanded.data)
    }
}

fn expand(expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
    #[expect(deprecated)] // It is still what the SQL planner makes.
    let is_star = |arg: &Expr| matches!(arg, Expr::Wildcard { .. });
    let Expr::ScalarFunction(ScalarFunction { func, args }) = expr else { return Transformed::no(expr) };
    if !args.iter().any(is_star) {
        return Transformed::no(Expr::ScalarFunction(ScalarFunction { func, args }));
    }
    let columns = |arg: Expr| -> Vec<Expr> {
        #[expect(deprecated)]
        match arg {
            Expr::Wildcard { qualifier, .. } => {
                let of_it = schema.iter().filter(|(found, _)| qualifier.is_none() || *found == qualifier.as_ref());
                of_it.map(|(found, field)| Expr::Column(Column::new(found.cloned(), field.name()))).collect()
            }
            other => vec![other],
        }
    };
    let args = args.into_iter().flat_map(columns).collect();
    Transformed::yes(Expr::ScalarFunction(ScalarFunction { func, args }))
}
