//! A table whose rows say which they are, so that UPDATE, DELETE and MERGE can name the ones they want.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, Int64Array};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result as DFResult;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use futures::StreamExt;

use super::table::LakeTable;
use crate::error::Error;

/// The number of a row: the file in its upper bits, by its place among the table's files, and the row's place in the file.
///
/// Nobody can write this name: clients send texts that end at the first NUL.
pub const ROW_NUMBER: &str = "\0row";

/// So many bits of a row's number are its place in its file.
pub const ROW_BITS: u32 = 32;

/// A [`LakeTable`] with one more column, the last one: [`ROW_NUMBER`].
#[derive(Debug)]
pub struct NumberedTable {
    pub table: Arc<LakeTable>,
    schema: SchemaRef,
}

impl NumberedTable {
    pub fn new(table: Arc<LakeTable>) -> Self {
        let number = Arc::new(Field::new(ROW_NUMBER, DataType::Int64, false));
        let fields: Vec<_> = table.relation().columns.fields().iter().cloned().chain([number]).collect();
        Self { table, schema: Arc::new(Schema::new(fields)) }
    }
}

#[async_trait]
impl TableProvider for NumberedTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    // The plan keeps the filter; files that have no such rows are left out.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DFResult<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> DFResult<Arc<dyn ExecutionPlan>> {
        let number = self.schema.fields().len() - 1;
        let all: Vec<usize> = (0..=number).collect();
        let wanted = projection.unwrap_or(&all);
        let columns: Vec<usize> = wanted.iter().copied().filter(|at| *at != number).collect();
        let mut files = Vec::new();
        for at in self.table.files_with(state, filters, &self.schema).await? {
            let file = &self.table.relation().files[at];
            files.push((at, self.table.scan_file(state, file, Some(&columns)).await?));
        }
        let mut next = 0..;
        let order = wanted.iter().map(|at| if *at == number { None } else { next.next() }).collect();
        Ok(Arc::new(NumberRows::new(files, order, Arc::new(self.schema.project(wanted)?))))
    }
}

/// Reads each file from its first row to its last, one partition a file, and counts.
///
/// The scans are not its children: nothing may be moved into them, split them or leave out rows.
#[derive(Debug)]
struct NumberRows {
    /// With its place among the table's files.
    files: Vec<(usize, Arc<dyn ExecutionPlan>)>,
    /// For each column the one of the scan, or `None`: the number.
    order: Arc<[Option<usize>]>,
    properties: Arc<PlanProperties>,
}

impl NumberRows {
    fn new(files: Vec<(usize, Arc<dyn ExecutionPlan>)>, order: Arc<[Option<usize>]>, schema: SchemaRef) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(files.len().max(1)),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self { files, order, properties: Arc::new(properties) }
    }
}

impl DisplayAs for NumberRows {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NumberRows: files={}", self.files.len())
    }
}

impl ExecutionPlan for NumberRows {
    fn name(&self) -> &'static str {
        "NumberRows"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DFResult<TreeNodeRecursion>,
    ) -> DFResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> DFResult<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DFResult<SendableRecordBatchStream> {
        let schema = self.schema();
        let Some((at, file)) = self.files.get(partition) else {
            let none = futures::stream::empty();
            return Ok(Box::pin(RecordBatchStreamAdapter::new(schema, none)));
        };
        let (order, columns) = (Arc::clone(&self.order), Arc::clone(&schema));
        let mut next = row_number(*at, 0)?;
        let numbered = file.execute(0, context)?.map(move |batch| {
            let batch = batch?;
            let rows = batch.num_rows();
            let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(next..next + rows as i64));
            next += rows as i64;
            let columns_of = order.iter().map(|at| match at {
                Some(at) => Arc::clone(batch.column(*at)),
                None => Arc::clone(&numbers),
            });
            let options = RecordBatchOptions::new().with_row_count(Some(rows));
            Ok(RecordBatch::try_new_with_options(Arc::clone(&columns), columns_of.collect(), &options)?)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, numbered)))
    }
}

/// The number of a row of a file.
pub fn row_number(file: usize, row: u32) -> DFResult<i64> {
    let file = i32::try_from(file).map_err(|_| Error::unsupported("a table of so many files cannot be changed"))?;
    Ok((i64::from(file) << ROW_BITS) | i64::from(row))
}
