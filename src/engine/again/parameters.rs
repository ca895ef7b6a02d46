//! The values of parameters in a plan that is ready to run: how they are told from all else, and others put there.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::Schema;
use datafusion::common::metadata::{FieldMetadata, ScalarAndMetadata};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Literal;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::limit::{GlobalLimitExec, LocalLimitExec};
use datafusion::physical_plan::placeholder_row::PlaceholderRowExec;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::unnest::UnnestExec;

use crate::functions::asked_model;

/// What the value of a parameter is marked with in a plan, to be found there.
const PARAMETER: &str = "cohort.parameter";

/// Values with the number of the parameter that each is of.
pub(super) fn marked(values: &[ScalarValue]) -> ParamValues {
    let mark = |(at, value): (usize, &ScalarValue)| {
        let number = FieldMetadata::from(BTreeMap::from([(PARAMETER.to_owned(), at.to_string())]));
        ScalarAndMetadata::new(value.clone(), Some(number))
    };
    ParamValues::List(values.iter().enumerate().map(mark).collect())
}

/// The parameter whose value this is.
fn parameter(expr: &Arc<dyn PhysicalExpr>) -> Option<usize> {
    let field = expr.downcast_ref::<Literal>()?.return_field(&Schema::empty()).ok()?;
    field.metadata().get(PARAMETER)?.parse().ok()
}

/// Whether the one may stand where the other does: a plan is made for types, and for what is NULL or very long.
pub(super) fn are_alike(some: &[ScalarValue], others: &[ScalarValue]) -> bool {
    const LONG: usize = 1 << 10;
    let is_plain = |value: &ScalarValue| !value.is_null() && !value.data_type().is_nested() && value.size() <= LONG;
    some.len() == others.len()
        && some.iter().chain(others).all(is_plain)
        && some.iter().zip(others).all(|(one, other)| one.data_type() == other.data_type())
}

/// Whether a plan calls no function but those that ask models.
pub(super) fn only_asks(plan: &LogicalPlan) -> DataFusionResult<bool> {
    let mut only = true;
    let is_other = |expr: &Expr| match expr {
        Expr::ScalarFunction(call) => {
            call.name() != "get_field" && !asked_model(expr).is_ok_and(|model| model.is_some())
        }
        _ => false,
    };
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            only &= !expr.exists(|expr| Ok(is_other(expr)))?;
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    Ok(only)
}

/// Whether other values may be put into `physical`, which was made of `plan`: each is where a parameter was, and none is
/// anywhere else.
pub(super) fn can_be_bound(plan: &LogicalPlan, physical: &Arc<dyn ExecutionPlan>) -> bool {
    let (mut is_plain, mut wanted, mut found) = (true, Vec::new(), Vec::new());
    let seen = plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Expr::Placeholder(parameter) = expr {
                    wanted.push(parameter.id.trim_start_matches('$').parse().ok());
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    let seen = seen.and(physical.apply(|node| {
        is_plain &= is_bindable(node);
        for made in node.downcast_ref::<ProjectionExec>().iter().flat_map(|projection| projection.expr()) {
            made.expr.apply(|expr| {
                found.extend(parameter(expr).map(|at| Some(at + 1)));
                Ok(TreeNodeRecursion::Continue)
            })?;
        }
        Ok(TreeNodeRecursion::Continue)
    }));
    wanted.sort_unstable();
    found.sort_unstable();
    seen.is_ok() && is_plain && wanted == found
}

/// Whether a node holds no values, or holds them where [`bound`] puts others.
fn is_bindable(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.is::<ProjectionExec>()
        || plan.is::<UnnestExec>()
        || plan.is::<FilterExec>()
        || plan.is::<SortExec>()
        || plan.is::<SortPreservingMergeExec>()
        || plan.is::<GlobalLimitExec>()
        || plan.is::<LocalLimitExec>()
        || plan.is::<RepartitionExec>()
        || plan.is::<CoalescePartitionsExec>()
        || plan.is::<PlaceholderRowExec>()
}

/// The plan with these values in place of those that it was made with, ready to run.
pub(super) fn bound(plan: Arc<dyn ExecutionPlan>, values: &[ScalarValue]) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
    let value = |expr: Arc<dyn PhysicalExpr>| {
        Ok(match parameter(&expr).and_then(|at| values.get(at)) {
            Some(value) => {
                let mark = FieldMetadata::from(expr.return_field(&Schema::empty())?.metadata());
                let literal = Literal::new_with_metadata(value.clone(), Some(mark));
                Transformed::yes(Arc::new(literal) as Arc<dyn PhysicalExpr>)
            }
            None => Transformed::no(expr),
        })
    };
    let bind = |plan: Arc<dyn ExecutionPlan>| {
        let Some(projection) = plan.downcast_ref::<ProjectionExec>() else {
            return Ok(Transformed::yes(plan.reset_state()?));
        };
        let made = |made: &ProjectionExpr| {
            let expr = Arc::clone(&made.expr).transform_up(value).data()?;
            Ok(ProjectionExpr { expr, alias: made.alias.clone() })
        };
        let made = projection.expr().iter().map(made).collect::<DataFusionResult<Vec<_>>>()?;
        let input = Arc::clone(projection.input());
        Ok(Transformed::yes(Arc::new(ProjectionExec::try_new(made, input)?) as Arc<dyn ExecutionPlan>))
    };
    plan.transform_up(bind).data()
}
