//! Lines of files that are no rows: what is done with them, and the table that keeps them.

use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int64Array, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::record_batch::RecordBatch;

use crate::error::{Error, Kind, Result};
use crate::storage::{IfExists, RelationKind, RoleId, Store, TableWriter};

/// What becomes of an import that meets a line which is no row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// It fails, and changes nothing.
    Abort,
    /// The line is left out and kept, with the reason, in the table `<table>_rejects`.
    Skip,
}

/// A line that is no row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reject {
    /// Where it begins, from 1.
    pub(super) line: u64,
    pub(super) reason: String,
    /// Its fields as CSV.
    pub(super) text: String,
}

/// The lines left out so far.
pub(super) struct Rejects {
    store: Arc<Store>,
    schema: String,
    table: String,
    writer: Option<TableWriter>,
}

impl Rejects {
    pub(super) fn new(store: &Arc<Store>, schema: &str, of_table: &str) -> Self {
        let table = format!("{of_table}_rejects");
        Self { store: Arc::clone(store), schema: schema.to_owned(), table, writer: None }
    }

    pub(super) fn rows(&self) -> u64 {
        self.writer.as_ref().map_or(0, TableWriter::rows)
    }

    /// Keeps the lines, or fails with the first.
    pub(super) fn take(&mut self, file: &Path, rejects: Vec<Reject>, on_error: OnError) -> Result<()> {
        let Some(first) = rejects.first() else { return Ok(()) };
        if on_error == OnError::Abort {
            let message = format!("line {}: {}", first.line, first.reason);
            return Err(Error::new(Kind::InvalidText, message)
                .hint(format!("--on-error skip leaves such lines out and keeps them in {}", self.table)));
        }
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => none.insert(self.store.writer(columns())?),
        };
        let file = file.display().to_string();
        let all = |of: fn(&Reject) -> &str| Arc::new(StringArray::from_iter_values(rejects.iter().map(of))) as ArrayRef;
        let values: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec![file.as_str(); rejects.len()])),
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
    pub(super) fn commit(self, owner: RoleId) -> Result<()> {
        let Some(writer) = self.writer else { return Ok(()) };
        match self.store.relation(&self.schema, &self.table)? {
            None => self.store.create_table(&self.schema, &self.table, writer, IfExists::Replace, owner).map(|_| ()),
            Some(relation) => match relation.kind {
                RelationKind::Table(id) if same(&relation.columns, &columns()) => {
                    self.store.append(id, writer).map(|_| ())
                }
                _ => Err(Error::new(
                    Kind::TableExists,
                    format!("\"{}\" is there and is no table of rejects", self.table),
                )
                .hint("rename it: rejected lines are kept under that name")),
            },
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
