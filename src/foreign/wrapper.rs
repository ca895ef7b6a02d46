//! What a kind of database must be able to do, so that its tables can be relations of a plan.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::{Expr, Join, Operator};
use futures::stream::BoxStream;

use crate::error::Result;
use crate::foreign::definition::{Found, RemoteColumn};
use crate::foreign::options::{Of, Options};
use crate::foreign::query::Query;
use crate::foreign::types::RemoteType;

/// A kind of database: PostgreSQL, MySQL.
pub trait Wrapper: Sync {
    /// What FOREIGN DATA WRAPPER calls it: our name, then those that others have for it.
    fn names(&self) -> &'static [&'static str];

    /// The options of its servers and their users: name, where it stands, what it says.
    fn options(&self) -> &'static [(&'static str, Of, &'static str)];

    /// Refuses values that options cannot have.
    fn check(&self, options: &Options) -> Result<()>;

    /// The schema that tables are looked for in where nobody names one; `None`: one must be named.
    fn schema(&self, options: &Options) -> Option<String>;

    /// A server as one user. `options` are its own and those of the user, the password among them. Nothing is opened yet.
    fn server(&self, name: &str, options: &Options) -> Result<Arc<dyn Database>>;
}

/// Batches of rows as they come.
pub type Rows = BoxStream<'static, Result<RecordBatch>>;

/// How the rows of a query are wanted.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub columns: SchemaRef,
    /// Rows a batch has, at most.
    pub batch_rows: usize,
}

/// A database of others, as one user of it, with the connections to it that are open.
#[async_trait]
pub trait Database: fmt::Debug + Send + Sync {
    fn name(&self) -> &str;

    /// How it wants to be spoken to.
    fn dialect(&self) -> &'static dyn Dialect;

    /// The tables and views of a schema that the user may see, by name; `None`: there is no such schema.
    ///
    /// # Errors
    /// 08001 if there is no way to the server.
    async fn tables(self: Arc<Self>, schema: &str) -> Result<Option<Vec<Found>>>;

    /// The rows of a query. Dropped before its end, the query is stopped.
    fn rows(self: Arc<Self>, query: Query, wanted: Wanted) -> Rows;

    /// One state of it, for that many queries of one plan.
    fn snapshot(self: Arc<Self>, queries: usize) -> Arc<dyn Snapshot>;
}

/// One state of a database, held as long as the plan lives.
pub trait Snapshot: fmt::Debug + Send + Sync {
    /// The rows that a query has in that state.
    fn rows(self: Arc<Self>, query: Query, wanted: Wanted) -> Rows;
}

/// How parts of a plan are said to a database: those that mean the same over there, and no others. `None` says that
/// something has to be done here.
pub trait Dialect: fmt::Debug + Send + Sync {
    /// A column of a table, so that it means what it means here.
    fn column(&self, column: &RemoteColumn) -> Written;

    fn write(&self, scope: &Scope<'_>, expr: &Expr) -> Option<Written>;

    /// A condition that rows must meet; where it is not known whether they do, they are left out.
    fn condition(&self, scope: &Scope<'_>, expr: &Expr) -> Option<String>;

    /// `left = right`, or another comparison, of values that the plan compares.
    fn comparison(&self, scope: &Scope<'_>, op: Operator, left: &Expr, right: &Expr) -> Option<String>;

    /// What stands in ORDER BY, so that the first rows are those of the engine.
    fn ordered(&self, value: &Written, ascending: bool, nulls_first: bool) -> Option<String>;

    /// Whether values fall into the groups that they fall into here.
    fn groups(&self, value: &Written) -> bool;

    /// An aggregate, and what it is asked for as.
    fn summary(&self, scope: &Scope<'_>, expr: &Expr, plan: &DataType) -> Option<(String, RemoteType)>;

    /// What a computed value is asked for as, so that it comes as the plan has it.
    fn asked_as(&self, written: &Written, plan: &DataType) -> Option<RemoteType>;

    /// A value in the list of SELECT that must come as that type.
    fn asked(&self, sql: &str, of: RemoteType) -> String;

    /// The list of SELECT where no column is wanted.
    fn no_columns(&self) -> &'static str;

    /// Whether it knows such a join.
    fn joins(&self, join: &Join) -> bool;

    /// So many rows after so many others.
    fn limited(&self, fetch: Option<usize>, skip: usize) -> String;
}

/// The columns that expressions may name, in the order of the schema.
pub struct Scope<'a> {
    pub schema: &'a DFSchema,
    pub columns: Vec<Written>,
}

/// An expression as SQL, and what the server takes it for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    pub sql: String,
    pub of: RemoteType,
    /// The column that it is made of, where an index knows it by that.
    pub bare: Option<String>,
}

impl Written {
    pub fn new(sql: String, of: RemoteType) -> Self {
        Self { sql, of, bare: None }
    }
}

impl Scope<'_> {
    pub fn column(&self, column: &Column) -> Option<Written> {
        let at = self.schema.maybe_index_of_column(column)?;
        self.columns.get(at).cloned()
    }
}
