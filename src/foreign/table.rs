//! A table of a foreign server as DataFusion sees it.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::{DFSchema, Result as DataFusionResult, Statistics, project_schema};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;

use crate::error::Error;
use crate::foreign::definition::RemoteTable;
use crate::foreign::query::{Query, unqualified};
use crate::foreign::scan::ForeignScanExec;
use crate::foreign::wrapper::{Database, Scope};

/// A table over there, read as one user of its server.
pub struct ForeignTable {
    server: Arc<dyn Database>,
    remote: RemoteTable,
    columns: SchemaRef,
    /// The columns as conditions name them.
    named: DFSchema,
}

impl ForeignTable {
    pub fn new(server: Arc<dyn Database>, remote: RemoteTable) -> DataFusionResult<Self> {
        let columns = remote.columns();
        let named = DFSchema::try_from(Arc::clone(&columns))?;
        Ok(Self { server, remote, columns, named })
    }

    pub fn server(&self) -> &Arc<dyn Database> {
        &self.server
    }

    pub fn remote(&self) -> &RemoteTable {
        &self.remote
    }

    /// Conditions on its rows as the server reads them; `None`: one of them means something else over there.
    pub fn conditions(&self, filters: &[Expr]) -> Option<Vec<String>> {
        let dialect = self.server.dialect();
        let columns = self.remote.columns.iter().map(|column| dialect.column(column)).collect();
        let scope = Scope { schema: &self.named, columns };
        filters.iter().map(|filter| dialect.condition(&scope, &unqualified(filter)?)).collect()
    }
}

impl fmt::Debug for ForeignTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ForeignTable({} of {})", self.remote.sql(), self.server.name())
    }
}

#[async_trait]
impl TableProvider for ForeignTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.columns)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn statistics(&self) -> Option<Statistics> {
        let rows = usize::try_from(self.remote.rows?).ok()?;
        Some(Statistics { num_rows: Precision::Inexact(rows), ..Statistics::new_unknown(&self.columns) })
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DataFusionResult<Vec<TableProviderFilterPushDown>> {
        let supported = |filter: &&Expr| match self.conditions(std::slice::from_ref(*filter)) {
            Some(_) => TableProviderFilterPushDown::Exact,
            None => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(supported).collect())
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let query = Query::table(self, projection, filters, limit)
            .ok_or_else(|| Error::internal("a condition was promised that the foreign server cannot check"))?;
        let columns = project_schema(&self.columns, projection)?;
        let whole = filters.is_empty() && limit.is_none();
        let rows = self.remote.rows.and_then(|rows| usize::try_from(rows).ok());
        // What conditions leave is not known; that it is no more than there is helps little.
        let rows = rows.filter(|_| whole).map_or(Precision::Absent, Precision::Inexact);
        Ok(Arc::new(ForeignScanExec::new(query, columns, rows)))
    }
}
