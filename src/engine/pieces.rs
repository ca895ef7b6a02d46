//! The one batch that window functions make of all rows, cut up again so that threads can share it.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayData, ArrayRef, MutableArrayData, make_array};
use datafusion::arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::Result as DataFusionResult;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::windows::WindowAggExec;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, replace_children_if_necessary,
};
use futures::{StreamExt, TryStreamExt, stream};

use crate::error::Error;

/// Cuts the batches of windows that are dealt out to threads.
#[derive(Debug)]
pub(super) struct Cuts;

impl PhysicalOptimizerRule for Cuts {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let changed = plan.transform_up(|node| {
            if !node.is::<RepartitionExec>() {
                return Ok(Transformed::no(node));
            }
            match cut(node.children()[0])? {
                Some(input) => Ok(Transformed::yes(replace_children_if_necessary(node, vec![input])?)),
                None => Ok(Transformed::no(node)),
            }
        })?;
        Ok(changed.data)
    }

    fn name(&self) -> &'static str {
        "cuts"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The plan with the batches of a window cut up; `None` where it takes none, or does more with them than row by row.
fn cut(plan: &Arc<dyn ExecutionPlan>) -> DataFusionResult<Option<Arc<dyn ExecutionPlan>>> {
    if plan.is::<WindowAggExec>() {
        return Ok(Some(Arc::new(Pieces { input: Arc::clone(plan) })));
    }
    if !plan.is::<ProjectionExec>() && !plan.is::<FilterExec>() {
        return Ok(None);
    }
    match cut(plan.children()[0])? {
        Some(input) => Ok(Some(replace_children_if_necessary(Arc::clone(plan), vec![input])?)),
        None => Ok(None),
    }
}

/// Passes rows on, no more of them in a batch than the session wants.
#[derive(Debug)]
struct Pieces {
    input: Arc<dyn ExecutionPlan>,
}

impl DisplayAs for Pieces {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pieces")
    }
}

impl ExecutionPlan for Pieces {
    fn name(&self) -> &'static str {
        "Pieces"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DataFusionResult<TreeNodeRecursion>,
    ) -> DataFusionResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(Arc::new(Self { input })),
            _ => Err(Error::internal("pieces are of one plan").into()),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DataFusionResult<SendableRecordBatchStream> {
        let most = context.session_config().batch_size();
        let rows = self.input.execute(partition, context)?;
        let pieces = rows.map_ok(move |batch| {
            let starts = (0..batch.num_rows()).step_by(most);
            stream::iter(starts.map(move |start| piece(&batch, start, most.min(batch.num_rows() - start))))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), pieces.try_flatten().boxed())))
    }
}

/// Some rows of a batch in memory of their own: who holds them would otherwise seem to hold the whole batch.
fn piece(batch: &RecordBatch, start: usize, rows: usize) -> DataFusionResult<RecordBatch> {
    if rows == batch.num_rows() {
        return Ok(batch.clone());
    }
    let columns = batch.columns().iter().map(|column| copied(&column.to_data(), start, rows));
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(batch.schema(), columns.collect::<DataFusionResult<_>>()?, &options)?)
}

fn copied(column: &ArrayData, start: usize, rows: usize) -> DataFusionResult<ArrayRef> {
    let mut copy = MutableArrayData::new(vec![column], false, rows);
    copy.try_extend(0, start, start + rows)?;
    Ok(make_array(copy.freeze()))
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::util::pretty::pretty_format_batches;
    use datafusion::execution::SessionStateBuilder;
    use datafusion::physical_plan::displayable;
    use datafusion::prelude::{SessionConfig, SessionContext};

    use super::*;

    #[tokio::test]
    async fn what_windows_give_is_shared_by_threads() {
        let sql = "SELECT n % 3, count(*), sum(t), min(name) FROM (
                     SELECT n, name, ntile(7) OVER (ORDER BY n) AS t
                     FROM (SELECT value AS n, nullif('row ' || value, 'row 5') AS name FROM generate_series(1, 5000)))
                   WHERE t > 1 GROUP BY 1 ORDER BY 1";
        let mut answers = Vec::new();
        for cuts in [false, true] {
            let settings = SessionConfig::new().with_target_partitions(3).with_batch_size(100);
            let state = SessionStateBuilder::new().with_config(settings).with_default_features();
            let state = if cuts { state.with_physical_optimizer_rule(Arc::new(Cuts)) } else { state };
            let context = SessionContext::new_with_state(state.build());
            let frame = context.sql(sql).await.unwrap();
            let plan = frame.clone().create_physical_plan().await.unwrap();
            let cut = plan.exists(|node| Ok(node.is::<Pieces>())).unwrap();
            assert_eq!(cut, cuts, "{}", displayable(plan.as_ref()).indent(true));
            answers.push(pretty_format_batches(&frame.collect().await.unwrap()).unwrap().to_string());
        }
        assert_eq!(answers[0], answers[1]);
    }
}
