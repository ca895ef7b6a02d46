//! What stands in a plan until its rights are checked: tables, views and models that cannot be used as they are.
//!
//! The catalog hands out nothing else. A plan that [`crate::engine::rights`] has not seen therefore cannot run, by
//! whatever syntax or path it came about.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DFSchemaRef, Result as DataFusionResult, Statistics};
use datafusion::datasource::source_as_provider;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{
    Expr, Extension, LogicalPlan, TableProviderFilterPushDown, TableSource, TableType, UserDefinedLogicalNodeCore,
};
use datafusion::physical_plan::ExecutionPlan;

use crate::engine::foreign::Unread;
use crate::error::{Error, Kind, Result};
use crate::models::ModelName;
use crate::storage::{LakeTable, NumberedTable, ROW_NUMBER, Relation};

/// A relation that waits to be checked.
#[derive(Debug)]
pub struct Guarded {
    pub relation: Relation,
    /// What the catalog found it by: an earlier version, or a table with its rows' numbers, has a name of its own there.
    pub found_by: String,
    pub behind: Behind,
    /// Of its columns, for the planner of an INSERT.
    pub defaults: HashMap<String, Expr>,
}

/// What a relation becomes once its reader may read it.
#[derive(Debug)]
pub enum Behind {
    Table(Arc<LakeTable>),
    /// A table whose rows' numbers are wanted, by a statement that changes them.
    Numbered(Arc<NumberedTable>),
    /// Rows that are not ours, as their provider reads them.
    External(Arc<dyn TableProvider>),
    /// A table of a foreign server, which is read as who reads it here.
    Foreign {
        unread: Unread,
        columns: SchemaRef,
    },
    /// The view's query, which is checked as its owner's.
    View {
        plan: Box<LogicalPlan>,
        sql: String,
        columns: SchemaRef,
    },
}

impl Guarded {
    /// The relation behind a source, if it waits to be checked.
    pub fn behind(source: &Arc<dyn TableSource>) -> Option<Arc<dyn TableProvider>> {
        source_as_provider(source).ok().filter(|provider| provider.is::<Guarded>())
    }

    fn unchecked(&self) -> DataFusionError {
        Error::internal(format!("nobody checked who reads or writes \"{}\"", self.relation.name)).into()
    }
}

#[async_trait]
impl TableProvider for Guarded {
    fn schema(&self) -> SchemaRef {
        match &self.behind {
            Behind::Table(table) => table.schema(),
            Behind::Numbered(table) => table.schema(),
            Behind::External(table) => table.schema(),
            Behind::Foreign { columns, .. } | Behind::View { columns, .. } => Arc::clone(columns),
        }
    }

    fn table_type(&self) -> TableType {
        match &self.behind {
            Behind::Table(_) | Behind::Numbered(_) | Behind::External(_) | Behind::Foreign { .. } => TableType::Base,
            Behind::View { .. } => TableType::View,
        }
    }

    fn get_table_definition(&self) -> Option<&str> {
        match &self.behind {
            Behind::Table(_) | Behind::Numbered(_) | Behind::External(_) | Behind::Foreign { .. } => None,
            Behind::View { sql, .. } => Some(sql),
        }
    }

    fn get_column_default(&self, column: &str) -> Option<&Expr> {
        self.defaults.get(column)
    }

    fn statistics(&self) -> Option<Statistics> {
        None
    }

    async fn scan(
        &self,
        _: &dyn Session,
        _: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        Err(self.unchecked())
    }

    async fn insert_into(
        &self,
        _: &dyn Session,
        _: Arc<dyn ExecutionPlan>,
        _: InsertOp,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        Err(self.unchecked())
    }
}

/// Files that a query names itself, and that wait for whoever checks who reads them.
#[derive(Debug)]
pub struct GuardedFiles(pub Arc<dyn TableProvider>);

impl GuardedFiles {
    /// The files behind a source, if they wait to be checked.
    pub fn behind(source: &Arc<dyn TableSource>) -> Option<Arc<dyn TableProvider>> {
        let provider = source_as_provider(source).ok()?;
        provider.downcast_ref::<Self>().map(|files| Arc::clone(&files.0))
    }
}

#[async_trait]
impl TableProvider for GuardedFiles {
    fn schema(&self) -> SchemaRef {
        self.0.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn Session,
        _: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        Err(Error::internal("nobody checked who reads files").into())
    }
}

/// A table of which somebody may read some columns: which of them a query does read is known when it is scanned.
#[derive(Debug)]
pub struct SomeColumns {
    pub table: Arc<dyn TableProvider>,
    pub relation: Relation,
    pub readable: Vec<String>,
}

impl SomeColumns {
    fn check(&self, projection: Option<&Vec<usize>>, filters: &[Expr]) -> Result<()> {
        let columns = self.table.schema();
        let mut read: Vec<&str> = match projection {
            Some(projection) => projection
                .iter()
                .filter_map(|at| columns.fields().get(*at))
                .map(|field| field.name().as_str())
                .collect(),
            None => columns.fields().iter().map(|field| field.name().as_str()).collect(),
        };
        read.extend(filters.iter().flat_map(Expr::column_refs).map(|column| column.name.as_str()));
        let may = |column: &str| column == ROW_NUMBER || self.readable.iter().any(|readable| readable == column);
        if read.iter().all(|column| may(column)) {
            return Ok(());
        }
        Err(Error::new(Kind::Denied, format!("permission denied for table {}", self.relation.name))
            .hint(format!("only these of its columns may be read: {}", self.readable.join(", "))))
    }
}

#[async_trait]
impl TableProvider for SomeColumns {
    fn schema(&self) -> SchemaRef {
        self.table.schema()
    }

    fn table_type(&self) -> TableType {
        self.table.table_type()
    }

    fn statistics(&self) -> Option<Statistics> {
        self.table.statistics()
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DataFusionResult<Vec<TableProviderFilterPushDown>> {
        self.table.supports_filters_pushdown(filters)
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        self.check(projection, filters)?;
        self.table.scan(state, projection, filters, limit).await
    }
}

/// The stored table that a source reads, once it has been checked.
pub fn table_read(source: &Arc<dyn TableSource>) -> Option<Relation> {
    let provider = source_as_provider(source).ok()?;
    let some = provider.downcast_ref::<SomeColumns>().map(|some| &some.relation);
    let whole = || provider.downcast_ref::<LakeTable>().map(LakeTable::relation);
    some.or_else(whole).or_else(|| numbered(provider.as_ref())).cloned()
}

/// The table whose rows a provider numbers.
pub fn numbered(provider: &dyn TableProvider) -> Option<&Relation> {
    let inner = provider.downcast_ref::<SomeColumns>().map_or(provider, |some| some.table.as_ref());
    inner.downcast_ref::<NumberedTable>().map(|numbered| numbered.table.relation())
}

/// A note in a plan for whoever checks it. It is taken out there, and cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd)]
pub struct Note {
    input: LogicalPlan,
    pub says: Says,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd)]
pub enum Says {
    /// A function asks these models, which may have left no other trace.
    Asks(Vec<ModelName>),
    /// What is below was checked, as somebody else's.
    Checked,
}

impl Note {
    pub fn on(input: LogicalPlan, says: Says) -> LogicalPlan {
        LogicalPlan::Extension(Extension { node: Arc::new(Note { input, says }) })
    }

    /// The note that stands here, and what it is about.
    pub fn at(plan: &LogicalPlan) -> Option<(&Says, &LogicalPlan)> {
        let LogicalPlan::Extension(extension) = plan else { return None };
        extension.node.as_any().downcast_ref::<Note>().map(|note| (&note.says, &note.input))
    }
}

impl UserDefinedLogicalNodeCore for Note {
    fn name(&self) -> &'static str {
        "Note"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Note: {:?}", self.says)
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> DataFusionResult<Self> {
        match (inputs.pop(), inputs.is_empty()) {
            (Some(input), true) => Ok(Self { input, says: self.says.clone() }),
            _ => Err(Error::internal("a note is about one plan").into()),
        }
    }
}
