//! Reading the rows of a query of a foreign server.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result as DataFusionResult, Statistics};
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use futures::StreamExt;

use crate::foreign::query::Query;
use crate::foreign::wrapper::{Database, Snapshot, Wanted};

/// One query of a foreign server, read to its end.
#[derive(Debug)]
pub struct ForeignScanExec {
    query: Query,
    properties: Arc<PlanProperties>,
    rows: Precision<usize>,
    /// What other scans of the same server see, too; `None`: there are no others.
    snapshot: Option<Arc<dyn Snapshot>>,
    metrics: ExecutionPlanMetricsSet,
}

impl ForeignScanExec {
    /// `rows`: how many there may be.
    pub fn new(query: Query, columns: SchemaRef, rows: Precision<usize>) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(columns),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        let metrics = ExecutionPlanMetricsSet::new();
        Self { query, properties: Arc::new(properties), rows, snapshot: None, metrics }
    }

    fn seeing(&self, snapshot: Arc<dyn Snapshot>) -> Self {
        Self {
            query: self.query.clone(),
            properties: Arc::clone(&self.properties),
            rows: self.rows,
            snapshot: Some(snapshot),
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }
}

/// The plan with all scans of one server reading the same state of it, where there is more than one.
pub fn consistent(plan: Arc<dyn ExecutionPlan>) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
    let mut scans: Vec<(Arc<dyn Database>, usize)> = Vec::new();
    plan.apply(|node| {
        if let Some(scan) = node.downcast_ref::<ForeignScanExec>() {
            match scans.iter_mut().find(|(server, _)| Arc::ptr_eq(server, &scan.query.server)) {
                Some((_, count)) => *count += 1,
                None => scans.push((Arc::clone(&scan.query.server), 1)),
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    scans.retain(|(_, count)| *count > 1);
    if scans.is_empty() {
        return Ok(plan);
    }
    let states = scans.into_iter().map(|(server, count)| (Arc::clone(&server), server.snapshot(count)));
    let states: Vec<(Arc<dyn Database>, Arc<dyn Snapshot>)> = states.collect();
    let shared = plan.transform_up(|node| {
        let Some(scan) = node.downcast_ref::<ForeignScanExec>() else { return Ok(Transformed::no(node)) };
        Ok(match states.iter().find(|(server, _)| Arc::ptr_eq(server, &scan.query.server)) {
            Some((_, snapshot)) => {
                Transformed::yes(Arc::new(scan.seeing(Arc::clone(snapshot))) as Arc<dyn ExecutionPlan>)
            }
            None => Transformed::no(node),
        })
    })?;
    Ok(shared.data)
}

impl DisplayAs for ForeignScanExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ForeignScanExec: server={}, query={}", self.query.server.name(), self.query.sql)
    }
}

impl ExecutionPlan for ForeignScanExec {
    fn name(&self) -> &'static str {
        "ForeignScanExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DataFusionResult<TreeNodeRecursion>,
    ) -> DataFusionResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DataFusionResult<SendableRecordBatchStream> {
        let schema = self.schema();
        let wanted = Wanted { columns: Arc::clone(&schema), batch_rows: context.session_config().batch_size() };
        let batches = match &self.snapshot {
            Some(snapshot) => Arc::clone(snapshot).rows(self.query.clone(), wanted),
            None => Arc::clone(&self.query.server).rows(self.query.clone(), wanted),
        };
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let counted = batches.map(move |batch| {
            let batch = batch.map_err(DataFusionError::from);
            if let Ok(batch) = &batch {
                metrics.output_rows().add(batch.num_rows());
            }
            batch
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, counted)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn statistics_from_inputs(&self, _: &[Arc<Statistics>], _: &StatisticsArgs) -> DataFusionResult<Arc<Statistics>> {
        Ok(Arc::new(Statistics { num_rows: self.rows, ..Statistics::new_unknown(&self.schema()) }))
    }
}
