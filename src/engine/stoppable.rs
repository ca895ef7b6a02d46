//! Plans that can be stopped, and that let others run, while they work.
//!
//! DataFusion's operators stop where they wait for their input. A join can make billions of pairs of rows from a few
//! batches, and most pairs may be thrown away again before anybody sees one: it neither waits nor answers for hours.

use std::fmt::{self, Display};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::BooleanArray;
use datafusion::arrow::datatypes::{FieldRef, Schema};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::{AggregateExprBuilder, AggregateFunctionExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{
    CrossJoinExec, HashJoinExec, NestedLoopJoinExec, NestedLoopJoinExecBuilder, SortMergeJoinExec,
};
use datafusion::physical_plan::unnest::UnnestExec;
use tokio_util::sync::CancellationToken;

use crate::engine::work::reserve;
use crate::error::{Error, Result};
use crate::functions::{Gather, Work};

/// The plan with its joins made to look at `cancel` while they make pairs, and to yield between the batches they give;
/// with our own aggregates made to look at it too, which evaluate and train once they have all rows.
pub(super) fn stoppable(
    plan: Arc<dyn ExecutionPlan>,
    cancel: &CancellationToken,
    memory: &Arc<dyn MemoryPool>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let watch = |filter: &JoinFilter| {
        let expression = Watched { inner: Arc::clone(filter.expression()), cancel: cancel.clone() };
        JoinFilter::new(Arc::new(expression), filter.column_indices().to_vec(), Arc::clone(filter.schema()))
    };
    let changed = plan.transform_up(|node| {
        let join: Arc<dyn ExecutionPlan> = if let Some(join) = node.downcast_ref::<NestedLoopJoinExec>() {
            let filter = join.filter().map(watch);
            let [left, right] = [join.left(), join.right()].map(Arc::clone);
            let builder = NestedLoopJoinExecBuilder::new(left, right, *join.join_type());
            Arc::new(builder.with_projection_ref(join.projection().clone()).with_filter(filter).build()?)
        } else if let Some(join) = node.downcast_ref::<HashJoinExec>() {
            let filter = join.filter().map(watch);
            join.builder().with_filter(filter).build_exec()?
        } else if let Some(join) = node.downcast_ref::<SortMergeJoinExec>() {
            let filter = join.filter().as_ref().map(watch);
            Arc::new(SortMergeJoinExec::try_new(
                Arc::clone(join.left()),
                Arc::clone(join.right()),
                join.on().to_vec(),
                filter,
                join.join_type(),
                join.sort_options().to_vec(),
                join.null_equality(),
            )?)
        } else if let Some(aggregate) = node.downcast_ref::<AggregateExec>() {
            return Ok(match watched_aggregate(aggregate, cancel, memory)? {
                Some(watched) => Transformed::yes(Arc::new(watched) as Arc<dyn ExecutionPlan>),
                None => Transformed::no(node),
            });
        } else if node.is::<CrossJoinExec>() || node.is::<UnnestExec>() {
            node
        } else {
            return Ok(Transformed::no(node));
        };
        Ok(Transformed::yes(Arc::new(CooperativeExec::new(join)) as Arc<dyn ExecutionPlan>))
    })?;
    Ok(changed.data)
}

/// The aggregates of that node with ours made stoppable; `None`: there is none of ours.
fn watched_aggregate(
    node: &AggregateExec,
    cancel: &CancellationToken,
    memory: &Arc<dyn MemoryPool>,
) -> DataFusionResult<Option<AggregateExec>> {
    let mut is_ours = false;
    let watched = |aggregate: &Arc<AggregateFunctionExpr>| {
        let work = || -> Arc<dyn Work> {
            let reserved = MemoryConsumer::new(aggregate.fun().name()).register(memory);
            Arc::new(WatchedWork { cancel: cancel.clone(), reserved })
        };
        let Some(function) = Gather::stoppable(aggregate.fun(), work) else {
            return Ok(Arc::clone(aggregate));
        };
        is_ours = true;
        let builder = AggregateExprBuilder::new(Arc::new(function), aggregate.expressions());
        Ok(Arc::new(builder.schema(node.input_schema()).alias(aggregate.name()).build()?))
    };
    let aggregates = node.aggr_expr().iter().map(watched).collect::<DataFusionResult<Vec<_>>>()?;
    Ok(is_ours.then(|| node.with_new_aggr_exprs(aggregates)))
}

/// An aggregate's work, which ends once the query is cancelled, within the memory that queries may hold.
struct WatchedWork {
    cancel: CancellationToken,
    reserved: MemoryReservation,
}

impl Work for WatchedWork {
    fn go_on(&self) -> bool {
        !self.cancel.is_cancelled()
    }

    fn reserve(&self, bytes: usize) -> Result<()> {
        reserve(&self.reserved, bytes)
    }
}

/// A join's filter that fails once the query is cancelled. It sees a few thousand pairs at a time.
#[derive(Debug, Clone)]
struct Watched {
    inner: Arc<dyn PhysicalExpr>,
    cancel: CancellationToken,
}

impl Watched {
    fn check(&self) -> DataFusionResult<()> {
        if self.cancel.is_cancelled() { Err(Error::cancelled().into()) } else { Ok(()) }
    }
}

impl PhysicalExpr for Watched {
    fn evaluate(&self, batch: &RecordBatch) -> DataFusionResult<ColumnarValue> {
        self.check()?;
        self.inner.evaluate(batch)
    }

    fn evaluate_selection(&self, batch: &RecordBatch, selection: &BooleanArray) -> DataFusionResult<ColumnarValue> {
        self.check()?;
        self.inner.evaluate_selection(batch, selection)
    }

    fn return_field(&self, input: &Schema) -> DataFusionResult<FieldRef> {
        self.inner.return_field(input)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.inner]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> DataFusionResult<Arc<dyn PhysicalExpr>> {
        let inner = children.into_iter().next().unwrap_or_else(|| Arc::clone(&self.inner));
        Ok(Arc::new(Self { inner, cancel: self.cancel.clone() }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt_sql(f)
    }
}

impl Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.inner, f)
    }
}

impl PartialEq for Watched {
    fn eq(&self, other: &Self) -> bool {
        self.inner.eq(&other.inner)
    }
}

impl Eq for Watched {}

impl Hash for Watched {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}
