//! COPY: how its files are written, and a table that waits for one.

use std::fmt;
use std::io::Read;
use std::sync::{Arc, Mutex};
use std::task::Poll;

use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::catalog::streaming::StreamingTable;
use datafusion::common::{ScalarValue, TableReference};
use datafusion::datasource::provider_as_source;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::{StreamExt, stream};
use tokio::sync::mpsc;

use crate::engine::import::{OnError, Reject, Rejects};
use crate::engine::session::lock;
use crate::engine::{Run, Session, rules};
use crate::error::{Error, Kind, Result};
use crate::storage::{LakeTable, RoleId};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyFormat {
    Text,
    Csv,
    Binary,
}

/// Whether the first line holds the names of the columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    Absent,
    Present,
    /// It does, and they must be the table's.
    Match,
}

/// How a file is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyOptions {
    pub format: CopyFormat,
    pub delimiter: u8,
    /// What stands for NULL.
    pub null: String,
    pub header: Header,
    pub quote: u8,
    pub escape: u8,
    /// Columns whose values are always quoted.
    pub force_quote: Chosen,
    /// Columns that are never NULL, whatever is written.
    pub force_not_null: Chosen,
    /// Columns that are NULL even where what stands for it is quoted.
    pub force_null: Chosen,
    /// What becomes of a line that cannot be read.
    pub on_error: OnError,
    /// With more such lines than this the copy fails after all.
    pub reject_limit: Option<u64>,
}

/// Some columns of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chosen {
    All,
    Named(Vec<String>),
}

impl Chosen {
    pub const NONE: Self = Self::Named(Vec::new());

    /// Which of these columns they are.
    pub fn among(&self, columns: &Schema) -> Result<Vec<bool>> {
        let Self::Named(names) = self else { return Ok(vec![true; columns.fields().len()]) };
        let names_of = |field: &Arc<Field>| names.contains(field.name());
        if let Some(unknown) = names.iter().find(|name| columns.index_of(name).is_err()) {
            return Err(Error::new(Kind::UnknownColumn, format!("column \"{unknown}\" is not one of those copied"))
                .suggest(unknown, columns.fields().iter().map(|field| field.name().as_str())));
        }
        Ok(columns.fields().iter().map(names_of).collect())
    }
}

/// A table that waits for rows.
pub struct CopyIn {
    /// The table's name, for those who are told what is wrong with a row.
    pub name: String,
    /// The columns of the file, in its order.
    pub columns: SchemaRef,
    pub options: CopyOptions,
    /// The file, where it is one of the server, or an object of S3.
    pub file: Option<Box<dyn Read + Send>>,
    /// What the file is called where lines of it are kept.
    pub called: String,
    table: Arc<LakeTable>,
    into: TableReference,
    /// Where the file has each column of the table.
    places: Vec<Option<usize>>,
}

impl CopyIn {
    /// `listed` are the columns of the file; all of the table unless some are named.
    pub(super) fn new(table: LakeTable, into: TableReference, listed: &[String], options: CopyOptions) -> Result<Self> {
        let all = Arc::clone(&table.relation().columns);
        let mut places = vec![None; all.fields().len()];
        let mut fields = Vec::new();
        for name in listed {
            let at = all.index_of(name).map_err(|_| {
                let message = format!("column \"{name}\" of relation \"{}\" does not exist", into.table());
                Error::new(Kind::UnknownColumn, message)
                    .suggest(name, all.fields().iter().map(|field| field.name().as_str()))
            })?;
            if places[at].replace(fields.len()).is_some() {
                let message = format!("column \"{name}\" specified more than once");
                return Err(Error::new(Kind::DuplicateColumn, message));
            }
            fields.push(Arc::clone(&all.fields()[at]));
        }
        let columns = if listed.is_empty() {
            places = (0..all.fields().len()).map(Some).collect();
            all
        } else {
            Arc::new(Schema::new(fields))
        };
        let name = into.table().to_owned();
        let called = "STDIN".to_owned();
        Ok(Self { name, columns, options, file: None, called, table: Arc::new(table), into, places })
    }

    /// Writes what comes, in one commit at its end. `None` says that this is the end: an error, or nothing more,
    /// leaves nothing.
    pub async fn load(self, session: &Session, rows: mpsc::Receiver<Piece>, run: &Run) -> Result<u64> {
        // Lines that are kept are committed with the rows.
        match self.options.on_error == OnError::Skip && !session.in_block() {
            true => {
                let block = session.implicit_block()?;
                let loaded = self.load_rows(session, rows, run).await?;
                block.commit()?;
                Ok(loaded)
            }
            false => self.load_rows(session, rows, run).await,
        }
    }

    async fn load_rows(self, session: &Session, rows: mpsc::Receiver<Piece>, run: &Run) -> Result<u64> {
        // NULLs may come as far as the writer, who refuses them by the column's name.
        let fields = self.table.relation().columns.fields().iter();
        let fields = fields.map(|field| field.as_ref().clone().with_nullable(true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let relation = self.table.relation();
        let mut columns = Vec::with_capacity(self.places.len());
        for (place, field) in self.places.iter().zip(schema.fields()) {
            columns.push(match (place, relation.rules.defaults.get(field.name())) {
                (Some(at), _) => Column::File(*at),
                (None, Some(text)) => Column::Value(rules::value_now(session, text, field.data_type()).await?),
                (None, None) => Column::Value(ScalarValue::try_from(field.data_type())?),
            });
        }
        let checks = rules::checks(&session.context.state(), relation)?;
        let table = LakeTable::new(session.store(), relation.clone())?.with_checks(checks);
        let rejects = LeftOut {
            rejects: Rejects::new(&session.store(), &relation.schema, &relation.name),
            file: self.called,
            on_error: self.options.on_error,
            limit: self.options.reject_limit,
            owner: session.rights()?.role(),
        };
        let rejects = Arc::new(Mutex::new(rejects));
        let file = File {
            schema: Arc::clone(&schema),
            columns: columns.into(),
            rows: Mutex::new(Some(rows)),
            rejects: Arc::clone(&rejects),
        };
        let file = StreamingTable::try_new(schema, vec![Arc::new(file)])?;
        let scan = LogicalPlanBuilder::scan("copied", provider_as_source(Arc::new(file)), None)?.build()?;
        let table = provider_as_source(Arc::new(table));
        let insert = LogicalPlanBuilder::insert_into(scan, self.into, table, InsertOp::Append)?.build()?;
        let LogicalPlan::Dml(insert) = insert else {
            return Err(Error::internal(format!("an INSERT was planned as {}", insert.display())));
        };
        let written = session.write(insert, run).await?;
        let mut rejects = lock(&rejects);
        rejects.keep()?;
        rejects.tell(run);
        Ok(written)
    }
}

/// Rows of a file, its end, or why it has none.
pub type Piece = Result<Option<CopiedRows>>;

/// Rows that could be read, and lines among them that could not.
#[derive(Debug)]
pub struct CopiedRows {
    pub rows: RecordBatch,
    pub rejects: Vec<Reject>,
}

/// The lines of a file that are left out.
struct LeftOut {
    rejects: Rejects,
    file: String,
    on_error: OnError,
    limit: Option<u64>,
    owner: RoleId,
}

impl LeftOut {
    fn take(&mut self, rejects: &[Reject]) -> Result<()> {
        self.rejects.take(&self.file, rejects, self.on_error)?;
        match self.limit {
            Some(limit) if self.rejects.rows() > limit => {
                let message = format!("skipped more than REJECT_LIMIT ({limit}) rows");
                let last = rejects.last().map(|reject| format!("line {}: {}", reject.line, reject.reason));
                Err(Error::new(Kind::InvalidText, message).hint(last.unwrap_or_default()))
            }
            _ => Ok(()),
        }
    }

    fn keep(&mut self) -> Result<()> {
        self.rejects.commit(self.owner)
    }

    fn tell(&self, run: &Run) {
        let kept = match self.on_error {
            OnError::Skip => format!(" and kept in \"{}\"", self.rejects.kept_in()),
            _ => String::new(),
        };
        match self.rejects.rows() {
            0 => {}
            1 => run.notice(format!("1 row was skipped{kept}: it cannot be read")),
            rows => run.notice(format!("{rows} rows were skipped{kept}: they cannot be read")),
        }
    }
}

/// Where a column of the table comes from.
enum Column {
    /// From the file, which has it there.
    File(usize),
    /// The file does not have it.
    Value(ScalarValue),
}

/// The rows of a file as a table, which is read once.
struct File {
    schema: SchemaRef,
    columns: Arc<[Column]>,
    rows: Mutex<Option<mpsc::Receiver<Piece>>>,
    rejects: Arc<Mutex<LeftOut>>,
}

impl PartitionStream for File {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (schema, columns) = (Arc::clone(&self.schema), Arc::clone(&self.columns));
        let (mut rows, rejects) = (lock(&self.rows).take(), Arc::clone(&self.rejects));
        let cut = || Error::internal("the file was left before its end");
        let batches = stream::poll_fn(move |cx| match &mut rows {
            Some(waiting) => waiting.poll_recv(cx).map(|piece| {
                let piece = piece.unwrap_or_else(|| Err(cut())).transpose();
                let piece = piece.map(|copied| {
                    let CopiedRows { rows, rejects: left_out } = copied?;
                    lock(&rejects).take(&left_out).map(|()| rows)
                });
                if !matches!(piece, Some(Ok(_))) {
                    rows = None;
                }
                piece
            }),
            None => Poll::Ready(None),
        });
        let whole = batches.map(move |batch| {
            batch.and_then(|batch| completed(&batch, &schema, &columns)).map_err(DataFusionError::from)
        });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), whole))
    }
}

/// The rows with all columns of the table; those that the file does not have are as their defaults say, or NULL.
fn completed(batch: &RecordBatch, schema: &SchemaRef, columns: &[Column]) -> Result<RecordBatch> {
    let columns = columns.iter().map(|column| match column {
        Column::File(at) => Ok(Arc::clone(batch.column(*at))),
        Column::Value(value) => Ok(value.to_array_of_size(batch.num_rows())?),
    });
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns.collect::<Result<_>>()?, &options)?)
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File").field("schema", &self.schema).finish_non_exhaustive()
    }
}
