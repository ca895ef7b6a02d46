//! Lines of files that are no rows: what is done with them, and the table that keeps them.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int64Array, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::record_batch::RecordBatch;

use crate::error::{Error, Kind, Result};
use crate::storage::{IfExists, Relation, RelationKind, RoleId, Store, TableWriter};

/// What becomes of an import or a COPY that meets a line which is no row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// It fails, and changes nothing.
    Abort,
    /// The line is left out.
    Ignore,
    /// The line is left out and kept, with the reason, in the table `<table>_rejects`.
    Skip,
}

/// A line that is no row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// Where it begins, from 1.
    pub line: u64,
    pub reason: String,
    /// Its fields as CSV, or the line as it is where it has none.
    pub text: String,
}

/// The lines left out so far.
pub(in crate::engine) struct Rejects {
    store: Arc<Store>,
    schema: String,
    table: String,
    rows: u64,
    writer: Option<TableWriter>,
}

impl Rejects {
    pub(in crate::engine) fn new(store: &Arc<Store>, schema: &str, of_table: &str) -> Self {
        let table = Self::table(of_table);
        Self { store: Arc::clone(store), schema: schema.to_owned(), table, rows: 0, writer: None }
    }

    /// What the table is called that keeps the lines.
    pub(in crate::engine) fn table(of_table: &str) -> String {
        format!("{of_table}_rejects")
    }

    /// How many lines were left out.
    pub(in crate::engine) fn rows(&self) -> u64 {
        self.rows
    }

    pub(in crate::engine) fn kept_in(&self) -> &str {
        &self.table
    }

    /// Why an import ends that leaves nothing out.
    pub(super) fn refused(&self, first: &Reject) -> Error {
        let message = format!("line {}: {}", first.line, first.reason);
        Error::new(Kind::InvalidText, message)
            .hint(format!("--on-error skip leaves such lines out and keeps them in {}", self.table))
    }

    /// Counts lines that were left out, and keeps them where they are to be kept.
    pub(in crate::engine) fn take(&mut self, file: &str, rejects: &[Reject], on_error: OnError) -> Result<()> {
        self.rows += rejects.len() as u64;
        if rejects.is_empty() || on_error != OnError::Skip {
            return Ok(());
        }
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => none.insert(self.store.writer(columns())?),
        };
        let all = |of: fn(&Reject) -> &str| Arc::new(StringArray::from_iter_values(rejects.iter().map(of))) as ArrayRef;
        let values: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec![file; rejects.len()])),
            Arc::new(rejects.iter().map(|reject| Some(reject.line as i64)).collect::<Int64Array>()),
            all(|reject| &reject.reason),
            all(|reject| &reject.text),
        ];
        writer.write(&RecordBatch::try_new(columns(), values)?)
    }

    /// Puts the lines into their table, behind those of earlier imports.
    ///
    /// # Errors
    /// Where another table has taken its name.
    pub(in crate::engine) fn commit(&mut self, owner: RoleId) -> Result<()> {
        let Some(writer) = self.writer.take() else { return Ok(()) };
        if self.store.relation(&self.schema, &self.table)?.is_none() {
            let empty = self.store.writer(columns())?;
            self.store.create_table(&self.schema, &self.table, empty, IfExists::Keep, owner)?;
        }
        match self.store.relation(&self.schema, &self.table)? {
            Some(Relation { kind: RelationKind::Table(id), columns: there, .. }) if same(&there, &columns()) => {
                self.store.append(id, writer).map(|_| ())
            }
            _ => Err(Error::new(Kind::TableExists, format!("\"{}\" is there and is no table of rejects", self.table))
                .hint("rename it: rejected lines are kept under that name")),
        }
    }
}

fn same(a: &Schema, b: &Schema) -> bool {
    let shape = |schema: &Schema| -> Vec<(String, DataType)> {
        schema.fields().iter().map(|field| (field.name().clone(), field.data_type().clone())).collect()
    };
    shape(a) == shape(b)
}

fn columns() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("file", DataType::Utf8, true),
        Field::new("line", DataType::Int64, true),
        Field::new("reason", DataType::Utf8, true),
        Field::new("text", DataType::Utf8, true),
    ]))
}
