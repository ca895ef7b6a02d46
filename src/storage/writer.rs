//! Rows on their way into a table: Parquet files that nothing names before the commit.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::parquet::arrow::{ArrowSchemaConverter, ArrowWriter};
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::errors::ParquetError;
use datafusion::parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use datafusion::physical_plan::PhysicalExpr;

use super::disk::{Draft, fresh_name};
use super::parquet_file::{ParquetFile, ROW_GROUP_BYTES, ROW_GROUP_ROWS};
use super::partitions::{Partition, Partitioning};
use crate::error::{Error, Kind, Result};

/// A file is closed and the next begun at whichever comes first.
const FILE_ROWS: u64 = 1 << 20;
const FILE_BYTES: usize = 256 << 20;
/// Of a partitioned table so many files are open at a time, and so many bytes in memory; the fullest is closed first.
const OPEN_FILES: usize = 512;
const HELD_BYTES: usize = 256 << 20;
/// More files in one commit are a mistake.
const MOST_PARTITIONS: usize = 10_000;

/// Takes rows for one table. Dropping it before a commit deletes what it wrote.
#[derive(Debug)]
pub struct TableWriter {
    dir: PathBuf,
    schema: SchemaRef,
    checks: Vec<Check>,
    /// Of the store's transactions the one that the rows are of.
    pub(super) epoch: u64,
    partitioning: Partitioning,
    rows: u64,
    open: BTreeMap<Partition, OpenFile>,
    /// What they have in memory, and how many of them are on disk, too.
    held_bytes: usize,
    begun: usize,
    done: Vec<NewFile>,
    partitions: HashSet<Partition>,
}

/// A CHECK constraint: no row may make it false.
#[derive(Debug, Clone)]
pub struct Check {
    pub table: String,
    pub name: String,
    /// Of the table's columns; boolean.
    pub holds: Arc<dyn PhysicalExpr>,
}

#[derive(Debug)]
struct OpenFile {
    // Dropped before the draft: a file is closed, then deleted.
    parquet: ParquetFile,
    partition: Partition,
    rows: u64,
    draft: Draft,
}

/// A finished, synced file that waits for its commit.
#[derive(Debug)]
pub(super) struct NewFile {
    pub(super) draft: Draft,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    pub(super) partition: Partition,
}

impl TableWriter {
    pub(super) fn new(dir: PathBuf, schema: SchemaRef) -> Result<Self> {
        // Find out now, not at the first row, that Parquet has no such type.
        ArrowSchemaConverter::new().convert(&schema).map_err(not_written)?;
        Ok(Self {
            dir,
            schema,
            checks: Vec::new(),
            epoch: 0,
            partitioning: Partitioning::default(),
            rows: 0,
            open: BTreeMap::new(),
            held_bytes: 0,
            begun: 0,
            done: Vec::new(),
            partitions: HashSet::new(),
        })
    }

    /// The rows are of this transaction.
    pub(super) fn in_epoch(self, epoch: u64) -> Self {
        Self { epoch, ..self }
    }

    /// Holds the rows to come to these.
    pub fn with_checks(mut self, checks: Vec<Check>) -> Self {
        self.checks = checks;
        self
    }

    /// Each file is to have rows of one partition.
    pub fn partitioned(self, partitioning: Partitioning) -> Self {
        Self { partitioning, ..self }
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// How many files are finished.
    pub fn files(&self) -> usize {
        self.done.len()
    }

    /// Adds rows, their columns by position, turned into the types of the table.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let batch = fit(batch, &self.schema)?;
        if batch.num_rows() == 0 {
            return Ok(());
        }
        self.checks.iter().try_for_each(|check| check.on(&batch))?;
        for (partition, rows) in self.partitioning.split(batch)? {
            self.write_part(partition, &rows)?;
        }
        Ok(())
    }

    fn write_part(&mut self, partition: Partition, batch: &RecordBatch) -> Result<()> {
        let mut at = 0;
        while at < batch.num_rows() {
            let mut file = match self.take_open(&partition) {
                Some(file) => file,
                None => self.open_file(&partition)?,
            };
            let rows = (batch.num_rows() - at).min((FILE_ROWS - file.rows) as usize);
            file.parquet.write(&batch.slice(at, rows))?;
            file.rows += rows as u64;
            self.rows += rows as u64;
            at += rows;
            match file.rows >= FILE_ROWS || file.parquet.bytes() >= FILE_BYTES {
                true => self.done.push(file.finish()?),
                false => {
                    self.held_bytes += file.parquet.held_bytes();
                    self.begun += usize::from(file.parquet.is_begun());
                    self.open.insert(Arc::clone(&partition), file);
                }
            }
        }
        while self.open.len() > 1 && (self.held_bytes > HELD_BYTES || self.begun > OPEN_FILES) {
            self.finish_fullest()?;
        }
        Ok(())
    }

    fn take_open(&mut self, partition: &Partition) -> Option<OpenFile> {
        let file = self.open.remove(partition)?;
        self.held_bytes -= file.parquet.held_bytes();
        self.begun -= usize::from(file.parquet.is_begun());
        Some(file)
    }

    fn open_file(&mut self, partition: &Partition) -> Result<OpenFile> {
        if self.partitions.insert(Arc::clone(partition)) && self.partitions.len() > MOST_PARTITIONS {
            let message = format!("these rows are of more than {MOST_PARTITIONS} partitions");
            return Err(Error::invalid(message).hint("partition the table by a column of fewer values"));
        }
        Ok(OpenFile::new(&self.dir, &self.schema, partition))
    }

    fn finish_fullest(&mut self) -> Result<()> {
        let fullest = self.open.iter().max_by_key(|(_, file)| file.parquet.held_bytes());
        let fullest = fullest.map(|(partition, _)| Arc::clone(partition));
        let Some(file) = fullest.and_then(|partition| self.take_open(&partition)) else { return Ok(()) };
        self.done.push(file.finish()?);
        Ok(())
    }

    /// Refuses rows that it would refuse to write.
    pub fn verify(&self, batch: &RecordBatch) -> Result<()> {
        let batch = fit(batch, &self.schema)?;
        self.checks.iter().try_for_each(|check| check.on(&batch))
    }

    /// Closes and syncs the last files. A commit does this too; done before, it keeps the commit short.
    pub fn finish(&mut self) -> Result<()> {
        (self.held_bytes, self.begun) = (0, 0);
        for file in mem::take(&mut self.open).into_values() {
            self.done.push(file.finish()?);
        }
        Ok(())
    }

    /// The finished files, for the commit to name.
    pub(super) fn into_files(mut self) -> Result<Vec<NewFile>> {
        self.finish()?;
        Ok(mem::take(&mut self.done))
    }
}

impl Check {
    fn on(&self, batch: &RecordBatch) -> Result<()> {
        let holds = self.holds.evaluate(batch)?.into_array(batch.num_rows())?;
        let is_false = holds.as_boolean_opt().is_some_and(|holds| holds.false_count() > 0);
        if !is_false {
            return Ok(());
        }
        let message = format!("new row for relation \"{}\" violates check constraint \"{}\"", self.table, self.name);
        Err(Error::new(Kind::CheckFailed, message))
    }
}

impl OpenFile {
    fn new(dir: &Path, schema: &SchemaRef, partition: &Partition) -> Self {
        let path = dir.join(fresh_name()).with_extension("parquet");
        let draft = Draft::new(path.clone());
        let parquet = ParquetFile::new(path, schema);
        Self { parquet, partition: Arc::clone(partition), rows: 0, draft }
    }

    fn finish(self) -> Result<NewFile> {
        let file = self.parquet.finish()?;
        file.sync_all()?;
        let bytes = file.metadata()?.len();
        Ok(NewFile { draft: self.draft, rows: self.rows, bytes, partition: self.partition })
    }
}

/// The one way we write Parquet, tables and models alike: plain enough for any other tool to read. `special` is what suits
/// the one or the other.
pub(super) fn parquet_writer(
    file: File,
    schema: &SchemaRef,
    special: impl FnOnce(WriterPropertiesBuilder) -> Result<WriterPropertiesBuilder>,
) -> Result<ArrowWriter<File>> {
    let properties = WriterProperties::builder()
        .set_compression(zstd()?)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_max_row_group_bytes(Some(ROW_GROUP_BYTES));
    ArrowWriter::try_new(file, Arc::clone(schema), Some(special(properties)?.build())).map_err(not_written)
}

/// At its quickest, which makes files hardly larger.
pub(super) fn zstd() -> Result<Compression> {
    Ok(Compression::ZSTD(ZstdLevel::try_new(1).map_err(not_written)?))
}

/// What kept rows from being written, told apart by what the user can do.
pub(super) fn not_written(error: ParquetError) -> Error {
    match error {
        ParquetError::NYI(message) => Error::unsupported(format!("a column of this type cannot be stored: {message}"))
            .hint("cast it to a type that Parquet knows"),
        ParquetError::External(inner) => match inner.downcast::<std::io::Error>() {
            Ok(io) => Error::from(*io),
            Err(inner) => match inner.downcast::<ArrowError>() {
                Ok(arrow) => Error::from(*arrow),
                Err(inner) => Error::internal(inner.to_string()),
            },
        },
        other => Error::not_written(&other.to_string()),
    }
}

/// The batch with the table's types, if its values allow them.
fn fit(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let (given, wanted) = (batch.num_columns(), schema.fields().len());
    if given != wanted {
        return Err(Error::new(Kind::Syntax, format!("the table has {wanted} columns, but the rows have {given}")));
    }
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let mut columns = Vec::with_capacity(wanted);
    for (column, field) in batch.columns().iter().zip(schema.fields()) {
        let column = cast_with_options(column, field.data_type(), &options)?;
        if !field.is_nullable() && column.logical_null_count() > 0 {
            let message = format!("null value in column \"{}\" violates not-null constraint", field.name());
            return Err(Error::new(Kind::NullNotAllowed, message));
        }
        columns.push(column);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use datafusion::arrow::array::{Int32Array, Int64Array, StringArray};
    use datafusion::arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false), Field::new("name", DataType::Utf8, true)]))
    }

    fn rows(ids: Vec<Option<i32>>) -> RecordBatch {
        let names = StringArray::from(vec!["x"; ids.len()]);
        RecordBatch::try_from_iter([("a", Arc::new(Int32Array::from(ids)) as _), ("b", Arc::new(names) as _)]).unwrap()
    }

    #[test]
    fn rows_are_cast_by_position_and_counted() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = TableWriter::new(dir.path().to_owned(), schema()).unwrap();
        writer.write(&rows(vec![Some(1), Some(2)])).unwrap();
        writer.write(&rows(vec![])).unwrap();
        assert_eq!(writer.rows(), 2);
        let files = writer.into_files().unwrap();
        assert_eq!((files.len(), files[0].rows), (1, 2));
        assert_eq!(fs::metadata(files[0].draft.path()).unwrap().len(), files[0].bytes);
    }

    #[test]
    fn null_where_none_may_be_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = TableWriter::new(dir.path().to_owned(), schema()).unwrap();
        let error = writer.write(&rows(vec![Some(1), None])).unwrap_err();
        assert_eq!(error.kind, Kind::NullNotAllowed);
        assert_eq!(error.message, "null value in column \"id\" violates not-null constraint");
    }

    #[test]
    fn a_value_that_does_not_fit_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let narrow = Arc::new(Schema::new(vec![Field::new("id", DataType::Int8, false)]));
        let mut writer = TableWriter::new(dir.path().to_owned(), narrow).unwrap();
        let wide = RecordBatch::try_from_iter([("id", Arc::new(Int64Array::from(vec![300])) as _)]).unwrap();
        assert!(writer.write(&wide).is_err());
        assert_eq!(writer.write(&rows(vec![Some(1)])).unwrap_err().kind, Kind::Syntax);
    }

    #[test]
    fn a_dropped_writer_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = TableWriter::new(dir.path().to_owned(), schema()).unwrap();
        writer.write(&rows(vec![Some(1)])).unwrap();
        writer.finish().unwrap();
        writer.write(&rows(vec![Some(2); 1 << 15])).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        drop(writer);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn long_tables_roll_over_into_files() {
        let dir = tempfile::tempdir().unwrap();
        let one = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)]));
        let mut writer = TableWriter::new(dir.path().to_owned(), one).unwrap();
        let most = Int64Array::from_iter_values(0..(FILE_ROWS / 4 * 3) as i64);
        let most = RecordBatch::try_from_iter([("id", Arc::new(most) as _)]).unwrap();
        for _ in 0..2 {
            writer.write(&most).unwrap();
        }
        let files = writer.into_files().unwrap();
        assert_eq!(files.iter().map(|file| file.rows).collect::<Vec<_>>(), [FILE_ROWS, FILE_ROWS / 2]);
        assert!(files[0].draft.path() < files[1].draft.path());
    }
}
