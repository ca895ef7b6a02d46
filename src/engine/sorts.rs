//! Sorts by one or two numbers, dates or moments, within memory: the machine compares their keys as whole numbers.
//!
//! DataFusion compares rows column by column by calls of functions, which takes three times as long, and counts rows that
//! lie in one piece of memory, as those of a finished aggregate do, once for each batch of them: it then writes to disk
//! what would have fitted many times over. What does not fit is sorted by it as before.

use std::fmt;
use std::sync::{Arc, Mutex};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, UInt32Array};
use datafusion::arrow::compute::{SortColumn, cast, concat_batches, take_record_batch};
use datafusion::arrow::datatypes::{DataType, Float64Type, Int64Type, SchemaRef, UInt64Type};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::Result as DataFusionResult;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::sorts::sort::{SortExec, sort_batch};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::{StreamExt, TryStreamExt, stream};
use rayon::prelude::*;

use crate::engine::session::lock;
use crate::error::{Error, Result};
use crate::storage::pool;

/// Puts [`QuickSort`] in the place of sorts that it can do.
#[derive(Debug)]
pub(super) struct QuickSorts;

impl PhysicalOptimizerRule for QuickSorts {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let changed = plan.transform_up(|node| {
            let Some(sort) = node.downcast_ref::<SortExec>() else { return Ok(Transformed::no(node)) };
            let schema = sort.input().schema();
            let mut has_keys = sort.fetch().is_none() && sort.expr().len() <= 2;
            for key in sort.expr() {
                has_keys &= is_key(&key.expr.data_type(&schema)?);
            }
            Ok(match has_keys {
                true => Transformed::yes(Arc::new(QuickSort::of(sort.clone())) as Arc<dyn ExecutionPlan>),
                false => Transformed::no(node),
            })
        })?;
        Ok(changed.data)
    }

    fn name(&self) -> &'static str {
        "quick_sorts"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Sorts rows in memory, or gives them to the sort that it stands for.
#[derive(Debug)]
struct QuickSort {
    sort: SortExec,
    metrics: ExecutionPlanMetricsSet,
}

impl QuickSort {
    fn of(sort: SortExec) -> Self {
        Self { sort, metrics: ExecutionPlanMetricsSet::new() }
    }
}

impl DisplayAs for QuickSort {
    fn fmt_as(&self, format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.sort.fmt_as(format, f)
    }
}

impl ExecutionPlan for QuickSort {
    fn name(&self) -> &'static str {
        "QuickSort"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.sort.properties()
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![self.sort.input()]
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DataFusionResult<TreeNodeRecursion>,
    ) -> DataFusionResult<TreeNodeRecursion> {
        self.sort.apply_expressions(f)
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => {
                let sort = SortExec::new(self.sort.expr().clone(), input);
                Ok(Arc::new(Self::of(sort.with_preserve_partitioning(self.sort.preserve_partitioning()))))
            }
            _ => Err(Error::internal("a sort is of one plan").into()),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DataFusionResult<SendableRecordBatchStream> {
        let input = self.sort.input();
        let run = Sorting {
            sort: self.sort.clone(),
            metrics: BaselineMetrics::new(&self.metrics, partition),
            // What it holds can always be given up, to be sorted on disk.
            reserved: MemoryConsumer::new(format!("QuickSort[{partition}]"))
                .with_can_spill(true)
                .register(context.memory_pool()),
        };
        let rows = input.execute(partition, Arc::clone(&context))?;
        let sorted = stream::once(run.sorted(rows, context)).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), sorted)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// A sort that runs.
struct Sorting {
    sort: SortExec,
    metrics: BaselineMetrics,
    reserved: MemoryReservation,
}

impl Sorting {
    async fn sorted(
        self,
        mut rows: SendableRecordBatchStream,
        context: Arc<TaskContext>,
    ) -> DataFusionResult<SendableRecordBatchStream> {
        let schema = rows.schema();
        let (mut batches, mut n_rows) = (Vec::new(), 0);
        while let Some(batch) = rows.try_next().await? {
            n_rows += batch.num_rows();
            let fits = u32::try_from(n_rows).is_ok() && self.reserved.try_grow(bytes(&batch)).is_ok();
            batches.push(batch);
            if !fits {
                self.reserved.free();
                return self.on_disk(schema, batches, rows, context);
            }
        }
        let compute = self.metrics.elapsed_compute().clone();
        let work = compute.timer();
        let all = concat_batches(&schema, &batches)?;
        drop(batches);
        let rows_a_batch = context.session_config().batch_size();
        let sorted: SendableRecordBatchStream = match order(&all, &self.sort)? {
            Some(order) => {
                let order = UInt32Array::from(order);
                let starts = (0..n_rows).step_by(rows_a_batch);
                let batches = starts.map(move |start| {
                    let work = self.metrics.elapsed_compute().timer();
                    let rows = order.slice(start, rows_a_batch.min(n_rows - start));
                    let batch = take_record_batch(&all, &rows)?;
                    work.done();
                    self.metrics.record_output(batch.num_rows());
                    // Held until the last row is out.
                    let _ = &self.reserved;
                    Ok(batch)
                });
                Box::pin(RecordBatchStreamAdapter::new(schema, stream::iter(batches)))
            }
            None => {
                let batch = sort_batch(&all, self.sort.expr(), None)?;
                self.metrics.record_output(batch.num_rows());
                Box::pin(RecordBatchStreamAdapter::new(schema, stream::iter([Ok(batch)])))
            }
        };
        work.done();
        Ok(sorted)
    }

    /// The sort of DataFusion over the rows that came and those that are to come.
    fn on_disk(
        &self,
        schema: SchemaRef,
        came: Vec<RecordBatch>,
        to_come: SendableRecordBatchStream,
        context: Arc<TaskContext>,
    ) -> DataFusionResult<SendableRecordBatchStream> {
        let rows = stream::iter(came.into_iter().map(Ok)).chain(to_come);
        let rows = RecordBatchStreamAdapter::new(Arc::clone(&schema), rows);
        let once = Once { schema: Arc::clone(&schema), rows: Mutex::new(Some(Box::pin(rows))) };
        let input = StreamingTableExec::try_new(schema, vec![Arc::new(once)], None, None, false, None)?;
        SortExec::new(self.sort.expr().clone(), Arc::new(input)).execute(0, context)
    }
}

/// Rows that are read once.
struct Once {
    schema: SchemaRef,
    rows: Mutex<Option<SendableRecordBatchStream>>,
}

impl PartitionStream for Once {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let again = || Error::internal("the rows of a sort were asked for twice").into();
        let rows = lock(&self.rows).take();
        rows.unwrap_or_else(|| {
            let error = stream::iter([Err(again())]);
            Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), error))
        })
    }
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Once").field("schema", &self.schema).finish_non_exhaustive()
    }
}

/// What sorting the rows of a batch takes: themselves, once more in one piece, and their keys.
fn bytes(batch: &RecordBatch) -> usize {
    let of_column = |column: &ArrayRef| column.to_data().get_slice_memory_size().unwrap_or_default();
    2 * batch.columns().iter().map(of_column).sum::<usize>() + batch.num_rows() * size_of::<((u64, u64), u32)>()
}

/// Rows are numbered in the order of the sort; `None` where a key is NULL.
fn order(rows: &RecordBatch, sort: &SortExec) -> Result<Option<Vec<u32>>> {
    let mut keys = Vec::with_capacity(2);
    for by in sort.expr() {
        let Some(key) = key(&by.evaluate_to_sort_column(rows)?)? else { return Ok(None) };
        keys.push(key);
    }
    // Of equal rows the earlier comes first, so that the order is one and the same on any number of threads.
    Ok(match keys.as_slice() {
        [key] => Some(numbered(key.iter().copied())?),
        [first, second] => Some(numbered(first.iter().copied().zip(second.iter().copied()))?),
        _ => None,
    })
}

fn numbered<K: Ord + Send>(keys: impl Iterator<Item = K>) -> Result<Vec<u32>> {
    /// Fewer are sorted where they are.
    const MANY: usize = 1 << 15;
    let mut keys: Vec<(K, u32)> = keys.zip(0..).collect();
    match keys.len() {
        MANY.. => pool()?.install(|| keys.par_sort_unstable()),
        _ => keys.sort_unstable(),
    }
    Ok(keys.into_iter().map(|(_, row)| row).collect())
}

fn is_key(data_type: &DataType) -> bool {
    data_type.is_integer()
        || matches!(data_type, DataType::Float64 | DataType::Date32 | DataType::Date64)
        || matches!(data_type, DataType::Timestamp(..))
}

/// The values of a column as numbers that are in its order; `None` where there are NULLs.
fn key(column: &SortColumn) -> Result<Option<Vec<u64>>> {
    const SIGN: u64 = 1 << 63;
    let values = &column.values;
    if values.logical_null_count() > 0 {
        return Ok(None);
    }
    let mut key: Vec<u64> = match values.data_type() {
        DataType::UInt64 => values.as_primitive::<UInt64Type>().values().to_vec(),
        // As `f64::total_cmp` has them.
        DataType::Float64 => values
            .as_primitive::<Float64Type>()
            .values()
            .iter()
            .map(|value| match value.to_bits() {
                bits if bits & SIGN == 0 => bits ^ SIGN,
                bits => !bits,
            })
            .collect(),
        _ => {
            let whole = cast(values, &DataType::Int64)?;
            whole.as_primitive::<Int64Type>().values().iter().map(|value| *value as u64 ^ SIGN).collect()
        }
    };
    if column.options.is_some_and(|options| options.descending) {
        key.iter_mut().for_each(|key| *key = !*key);
    }
    Ok(Some(key))
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};
    use datafusion::arrow::datatypes::{Field, Schema, TimeUnit};
    use datafusion::datasource::MemTable;
    use datafusion::execution::SessionStateBuilder;
    use datafusion::execution::memory_pool::FairSpillPool;
    use datafusion::execution::runtime_env::RuntimeEnvBuilder;
    use datafusion::physical_plan::displayable;
    use datafusion::prelude::{SessionConfig, SessionContext};

    use super::*;

    /// Some thousand rows without order; a fifth of `a` is NULL where there are `nulls`.
    fn rows(n: i64, nulls: bool) -> RecordBatch {
        let mixed = |n: i64| n.wrapping_mul(2_654_435_761) & 0xffff;
        let a = (0..n).map(|n| Some(mixed(n) % 50 - 25).filter(|_| !nulls || n % 5 > 0)).collect::<Int64Array>();
        let f = [0.0, -0.0, f64::NAN, 1.5, -1.5, f64::INFINITY];
        let f = (0..n).map(|n| Some(f[mixed(n) as usize % 6])).collect::<Float64Array>();
        let t = (0..n).map(|n| Some(mixed(n * 7) - 30_000)).collect::<TimestampMicrosecondArray>();
        let s = (0..n).map(|n| Some(format!("row {n}"))).collect::<StringArray>();
        let schema = Schema::new(vec![
            Field::new("a", DataType::Int64, true),
            Field::new("f", DataType::Float64, true),
            Field::new("t", DataType::Timestamp(TimeUnit::Microsecond, None), true),
            Field::new("s", DataType::Utf8, true),
        ]);
        RecordBatch::try_new(Arc::new(schema), vec![Arc::new(a), Arc::new(f), Arc::new(t), Arc::new(s)]).unwrap()
    }

    fn context(quick: bool, memory: usize) -> SessionContext {
        let runtime =
            RuntimeEnvBuilder::new().with_memory_pool(Arc::new(FairSpillPool::new(memory))).build_arc().unwrap();
        let settings = SessionConfig::new().with_target_partitions(2).with_batch_size(1000);
        let state = SessionStateBuilder::new().with_config(settings).with_runtime_env(runtime).with_default_features();
        let state = if quick { state.with_physical_optimizer_rule(Arc::new(QuickSorts)) } else { state };
        SessionContext::new_with_state(state.build())
    }

    async fn sorted(context: &SessionContext, batch: &RecordBatch, by: &str) -> RecordBatch {
        // Each in memory of its own.
        let piece = |at: u32| UInt32Array::from_iter_values(at..(at + 700).min(batch.num_rows() as u32));
        let pieces = (0..batch.num_rows() as u32).step_by(700).map(|at| take_record_batch(batch, &piece(at)).unwrap());
        let table = MemTable::try_new(batch.schema(), vec![pieces.collect()]).unwrap();
        context.deregister_table("t").unwrap();
        context.register_table("t", Arc::new(table)).unwrap();
        let sorted = context.sql(&format!("SELECT * FROM t ORDER BY {by}")).await.unwrap().collect().await.unwrap();
        concat_batches(&batch.schema(), &sorted).unwrap()
    }

    #[tokio::test]
    async fn rows_are_sorted_as_datafusion_sorts_them() {
        for (n, nulls) in [(0, false), (1, false), (5000, false), (5000, true), (40_000, false)] {
            let batch = rows(n, nulls);
            // Where the keys are the same, rows may come in any order: so all of them differ.
            for by in ["a, t", "t DESC, a", "f, t", "f DESC, t DESC", "a DESC NULLS LAST, t", "a NULLS FIRST, t DESC"] {
                let quick = sorted(&context(true, 1 << 30), &batch, by).await;
                let slow = sorted(&context(false, 1 << 30), &batch, by).await;
                for column in 0..3 {
                    assert_eq!(quick.column(column), slow.column(column), "{n} rows by {by}, column {column}");
                }
            }
        }
    }

    #[tokio::test]
    async fn what_does_not_fit_is_sorted_on_disk() {
        let batch = rows(400_000, false);
        let (quick, slow) = (context(true, 24 << 20), context(false, 1 << 30));
        assert_eq!(sorted(&quick, &batch, "t, a").await.column(2), sorted(&slow, &batch, "t, a").await.column(2));
    }

    #[tokio::test]
    async fn sorts_by_text_or_of_a_few_rows_are_left_alone() {
        let context = context(true, 1 << 30);
        sorted(&context, &rows(10, false), "a").await;
        let plan = |sql: &'static str| {
            let context = context.clone();
            async move { context.sql(sql).await.unwrap().create_physical_plan().await.unwrap() }
        };
        for (sql, quick) in [
            ("SELECT * FROM t ORDER BY a, t", true),
            ("SELECT * FROM t ORDER BY s", false),
            ("SELECT * FROM t ORDER BY a, t, f", false),
            ("SELECT * FROM t ORDER BY a LIMIT 3", false),
        ] {
            let plan = plan(sql).await;
            let is_quick = plan.exists(|node| Ok(node.is::<QuickSort>())).unwrap();
            assert_eq!(is_quick, quick, "{sql}: {}", displayable(plan.as_ref()).indent(true));
        }
    }
}
