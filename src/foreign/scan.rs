//! Reading the rows of a query of a foreign server.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
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
use futures::{StreamExt, TryStreamExt, stream};
use tokio_postgres::CopyOutStream;

use crate::error::{Error, Kind, Result};
use crate::foreign::binary::Decoder;
use crate::foreign::query::Query;
use crate::foreign::server::Connection;
use crate::foreign::snapshot::Snapshot;

/// One query of a foreign server, read to its end.
#[derive(Debug)]
pub struct ForeignScanExec {
    query: Query,
    properties: Arc<PlanProperties>,
    rows: Precision<usize>,
    /// What other scans of the same server see, too; `None`: there are no others.
    snapshot: Option<Arc<Snapshot>>,
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

    fn seeing(&self, snapshot: Arc<Snapshot>) -> Self {
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
    let mut scans: Vec<(Arc<Snapshot>, usize)> = Vec::new();
    plan.apply(|node| {
        if let Some(scan) = node.downcast_ref::<ForeignScanExec>() {
            match scans.iter_mut().find(|(snapshot, _)| snapshot.is_of(&scan.query.server)) {
                Some((_, count)) => *count += 1,
                None => scans.push((Arc::new(Snapshot::new(Arc::clone(&scan.query.server))), 1)),
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    scans.retain(|(_, count)| *count > 1);
    if scans.is_empty() {
        return Ok(plan);
    }
    let shared = plan.transform_up(|node| {
        let Some(scan) = node.downcast_ref::<ForeignScanExec>() else { return Ok(Transformed::no(node)) };
        Ok(match scans.iter().find(|(snapshot, _)| snapshot.is_of(&scan.query.server)) {
            Some((snapshot, _)) => {
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
        let decoder = Decoder::new(Arc::clone(&schema), &self.query.columns, context.session_config().batch_size());
        let reading = Reading::begin(self.query.clone(), self.snapshot.clone(), decoder);
        let batches = stream::once(reading).map_ok(Reading::batches).try_flatten();
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

/// An answer on its way. Dropped before its end, it takes the connection along, which stops the query over there.
struct Reading {
    connection: Option<Connection>,
    copy: Pin<Box<CopyOutStream>>,
    decoder: Decoder,
    ready: VecDeque<RecordBatch>,
    in_transaction: bool,
}

impl Reading {
    async fn begin(query: Query, snapshot: Option<Arc<Snapshot>>, decoder: Decoder) -> Result<Self> {
        let copy = format!("COPY ({}) TO STDOUT (FORMAT binary)", query.sql);
        let in_transaction = snapshot.is_some();
        let (connection, copy) = match snapshot {
            Some(snapshot) => {
                let connection = snapshot.join().await?;
                let begun = begin_copy(&connection, &copy).await?;
                (connection, begun)
            }
            None => {
                let connection = query.server.connect().await?;
                match begin_copy(&connection, &copy).await {
                    Ok(begun) => (connection, begun),
                    // The server may have closed it while nobody used it.
                    Err(error) if connection.used && error.kind == Kind::ConnectionLost => {
                        connection.close();
                        let connection = query.server.open().await?;
                        let begun = begin_copy(&connection, &copy).await?;
                        (connection, begun)
                    }
                    Err(error) => {
                        connection.close();
                        return Err(error);
                    }
                }
            }
        };
        let copy = Box::pin(copy);
        Ok(Self { connection: Some(connection), copy, decoder, ready: VecDeque::new(), in_transaction })
    }

    fn batches(self) -> impl futures::Stream<Item = Result<RecordBatch>> {
        stream::try_unfold(self, |mut reading| async move { Ok(reading.next().await?.map(|batch| (batch, reading))) })
    }

    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Ok(Some(batch));
            }
            let Some(connection) = &self.connection else { return Ok(None) };
            match self.copy.next().await {
                Some(Ok(piece)) => self.ready.extend(self.decoder.push(piece)?),
                Some(Err(error)) => {
                    let error = connection.failed(&error);
                    if let Some(connection) = self.connection.take() {
                        connection.close();
                    }
                    return Err(error);
                }
                None => {
                    let last = self.decoder.finish()?;
                    if let Some(connection) = self.connection.take() {
                        if self.in_transaction {
                            connection.execute("COMMIT").await?;
                        }
                        connection.done();
                    }
                    return Ok(last);
                }
            }
        }
    }
}

async fn begin_copy(connection: &Connection, copy: &str) -> Result<CopyOutStream> {
    let begun = connection.client()?.copy_out(copy).await;
    begun.map_err(|error| with_query(connection.failed(&error), copy))
}

/// A refusal is about the query, which whoever asked has never seen.
fn with_query(error: Error, copy: &str) -> Error {
    match error.kind {
        Kind::ConnectionLost => error,
        _ => error.context(format!("query of the foreign server: {copy}")),
    }
}
