//! One Parquet file of a table on its way to disk. Its columns are encoded side by side; what becomes of them depends on
//! the rows alone, not on the threads.

use std::fs::File;
use std::mem;
use std::path::PathBuf;
use std::sync::Arc;

use datafusion::arrow::array::Array;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::parquet::arrow::ArrowSchemaConverter;
use datafusion::parquet::arrow::arrow_writer::{
    ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves,
};
use datafusion::parquet::errors::ParquetError;
use datafusion::parquet::file::writer::SerializedFileWriter;
use rayon::prelude::*;

use super::encodings::suited;
use super::threads::pool;
use super::writer::{not_written, parquet_writer};
use crate::error::{Error, Result};

/// Wide rows, such as embeddings, make smaller groups, so that a writer never holds much more than this in memory.
pub(super) const ROW_GROUP_BYTES: usize = 128 << 20;
pub(super) const ROW_GROUP_ROWS: usize = 1 << 17;
/// Rows are encoded together at whichever comes first: enough of them that a thread is worth waking.
const CHUNK_ROWS: usize = 1 << 14;
const CHUNK_BYTES: usize = 8 << 20;
/// What a column of a batch takes beside its values.
const COLUMN_BYTES: usize = 200;
/// Fewer rows are encoded where they are.
const FEW_ROWS: usize = 1 << 11;

#[derive(Debug)]
pub(super) struct ParquetFile {
    schema: SchemaRef,
    body: Body,
    /// Rows that wait for more.
    waiting: Vec<RecordBatch>,
    waiting_rows: usize,
    waiting_bytes: usize,
    /// The row group at hand: the leaves of each column, and its rows with those that wait.
    group: Vec<Vec<ArrowColumnWriter>>,
    group_rows: usize,
}

/// How the columns are written is decided by the first rows that are encoded.
#[derive(Debug)]
enum Body {
    /// There is no file before there are rows to encode.
    Empty(PathBuf),
    Begun(Box<SerializedFileWriter<File>>, ArrowRowGroupWriterFactory),
}

impl ParquetFile {
    pub(super) fn new(path: PathBuf, schema: &SchemaRef) -> Self {
        Self {
            schema: Arc::clone(schema),
            body: Body::Empty(path),
            waiting: Vec::new(),
            waiting_rows: 0,
            waiting_bytes: 0,
            group: Vec::new(),
            group_rows: 0,
        }
    }

    /// Adds rows with the columns of the file.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let row_bytes = bytes(batch) / batch.num_rows().max(1);
        let most = (CHUNK_BYTES / row_bytes.max(1)).clamp(1, CHUNK_ROWS);
        let mut at = 0;
        while at < batch.num_rows() {
            let rows = most.min(batch.num_rows() - at).min(ROW_GROUP_ROWS - self.group_rows);
            self.waiting.push(batch.slice(at, rows));
            self.waiting_rows += rows;
            self.waiting_bytes += rows * row_bytes;
            self.group_rows += rows;
            at += rows;
            if self.group_rows == ROW_GROUP_ROWS {
                self.end_group()?;
            } else if self.waiting_rows >= CHUNK_ROWS || self.waiting_bytes >= CHUNK_BYTES {
                self.encode()?;
                if self.group_bytes() >= ROW_GROUP_BYTES {
                    self.end_group()?;
                }
            }
        }
        Ok(())
    }

    /// About how many it has so far.
    pub(super) fn bytes(&self) -> usize {
        let written = match &self.body {
            Body::Empty(_) => 0,
            Body::Begun(writer, _) => writer.bytes_written(),
        };
        written + self.group_bytes()
    }

    /// Whether there is a file yet.
    pub(super) fn is_begun(&self) -> bool {
        matches!(self.body, Body::Begun(..))
    }

    /// About how much of it is in memory.
    pub(super) fn held_bytes(&self) -> usize {
        let batches = self.waiting.len() * self.schema.fields().len() * COLUMN_BYTES;
        let group: usize = self.group.iter().flatten().map(ArrowColumnWriter::memory_size).sum();
        self.waiting_bytes + batches + group
    }

    /// Writes all that is left. The file is whole then, but not yet synced.
    pub(super) fn finish(mut self) -> Result<File> {
        self.end_group()?;
        self.begin()?;
        match self.body {
            Body::Begun(writer, _) => writer.into_inner().map_err(not_written),
            Body::Empty(_) => Err(lost()),
        }
    }

    fn group_bytes(&self) -> usize {
        self.group.iter().flatten().map(ArrowColumnWriter::get_estimated_total_bytes).sum()
    }

    /// Encodes the rows that wait.
    fn encode(&mut self) -> Result<()> {
        if self.group.is_empty() {
            let (_, factory) = self.begin()?;
            let leaves = factory.create_column_writers(0).map_err(not_written)?;
            self.group = by_column(leaves, &self.schema)?;
        }
        let (batches, rows) = (mem::take(&mut self.waiting), mem::take(&mut self.waiting_rows));
        self.waiting_bytes = 0;
        let schema = &self.schema;
        let column = |(at, leaves): (usize, &mut Vec<ArrowColumnWriter>)| -> Result<(), ParquetError> {
            for batch in &batches {
                let values = compute_leaves(schema.field(at), batch.column(at))?;
                for (leaf, values) in leaves.iter_mut().zip(&values) {
                    leaf.write(values)?;
                }
            }
            Ok(())
        };
        let encoded = match rows {
            ..FEW_ROWS => self.group.iter_mut().enumerate().try_for_each(column),
            _ => pool()?.install(|| self.group.par_iter_mut().enumerate().try_for_each(column)),
        };
        encoded.map_err(not_written)
    }

    /// Encodes the rows that wait, and makes a row group of all that is encoded.
    fn end_group(&mut self) -> Result<()> {
        if self.waiting_rows > 0 {
            self.encode()?;
        }
        let (columns, rows) = (mem::take(&mut self.group), mem::take(&mut self.group_rows));
        if rows == 0 {
            return Ok(());
        }
        let close = |leaves: Vec<ArrowColumnWriter>| leaves.into_iter().map(ArrowColumnWriter::close).collect();
        let chunks: Result<Vec<Vec<ArrowColumnChunk>>, ParquetError> = match rows {
            ..FEW_ROWS => columns.into_iter().map(close).collect(),
            _ => pool()?.install(|| columns.into_par_iter().map(close).collect()),
        };
        let (writer, _) = self.begin()?;
        let mut group = writer.next_row_group().map_err(not_written)?;
        for chunk in chunks.map_err(not_written)?.into_iter().flatten() {
            chunk.append_to_row_group(&mut group).map_err(not_written)?;
        }
        group.close().map_err(not_written)?;
        Ok(())
    }

    /// The file, begun as suits the rows that wait.
    fn begin(&mut self) -> Result<(&mut SerializedFileWriter<File>, &ArrowRowGroupWriterFactory)> {
        if let Body::Empty(path) = &self.body {
            let leaves = ArrowSchemaConverter::new().convert(&self.schema).map_err(not_written)?;
            let writer = parquet_writer(File::create_new(path)?, &self.schema, |properties| {
                suited(properties, &leaves, &self.waiting)
            })?;
            let (writer, factory) = writer.into_serialized_writer().map_err(not_written)?;
            self.body = Body::Begun(Box::new(writer), factory);
        }
        match &mut self.body {
            Body::Begun(writer, factory) => Ok((writer, factory)),
            Body::Empty(_) => Err(lost()),
        }
    }
}

/// Every column with its leaves: structs and maps have several.
fn by_column(leaves: Vec<ArrowColumnWriter>, schema: &SchemaRef) -> Result<Vec<Vec<ArrowColumnWriter>>> {
    let mut leaves = leaves.into_iter();
    let mut columns = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let one = Schema::new(vec![Arc::clone(field)]);
        let n_leaves = ArrowSchemaConverter::new().convert(&one).map_err(not_written)?.num_columns();
        columns.push(leaves.by_ref().take(n_leaves).collect());
    }
    Ok(columns)
}

/// What the rows of a batch take, without what lies beside them in the same memory.
fn bytes(batch: &RecordBatch) -> usize {
    let of_column = |column: &dyn Array| column.to_data().get_slice_memory_size().unwrap_or_default();
    batch.columns().iter().map(|column| of_column(column.as_ref())).sum()
}

fn lost() -> Error {
    Error::internal("a file was written to after an error")
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{
        ArrayRef, Float32Array, Int64Array, ListArray, RecordBatchReader, StringArray, StructArray,
    };
    use datafusion::arrow::compute::concat_batches;
    use datafusion::arrow::datatypes::{Field, Float32Type};
    use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    use super::*;

    /// Columns of one leaf and of several, with NULLs in and around them.
    fn rows(n: i64) -> RecordBatch {
        let some = |n: i64| Some(n).filter(|n| n % 7 > 0);
        let list =
            |n: i64| some(n).map(|n| (0..n % 4).map(|i| Some(i as f32).filter(|i| *i != 2.0)).collect::<Vec<_>>());
        let text = |n: i64| some(n).map(|n| format!("caf\u{e9} {n}"));
        let inner: ArrayRef = Arc::new((0..n).map(|n| some(n * 3)).collect::<Int64Array>());
        let texts: ArrayRef = Arc::new((0..n).map(text).collect::<StringArray>());
        let field = |name: &str, array: &ArrayRef| Arc::new(Field::new(name, array.data_type().clone(), true));
        let pair = StructArray::from(vec![(field("n", &inner), inner.clone()), (field("text", &texts), texts.clone())]);
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("pair", Arc::new(pair)),
            ("n", inner),
            ("vector", Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>((0..n).map(list)))),
            ("text", texts),
            ("weight", Arc::new((0..n).map(|n| some(n).map(|n| n as f32 / 3.0)).collect::<Float32Array>())),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
    }

    /// The file that the rows make when they come so many at a time.
    fn written(rows: &RecordBatch, at_a_time: usize) -> File {
        let dir = tempfile::tempdir().unwrap();
        let mut file = ParquetFile::new(dir.path().join("rows.parquet"), &rows.schema());
        for start in (0..rows.num_rows()).step_by(at_a_time) {
            file.write(&rows.slice(start, at_a_time.min(rows.num_rows() - start))).unwrap();
        }
        file.finish().unwrap()
    }

    #[test]
    fn rows_come_back_as_they_went() {
        for (n, at_a_time) in [(0, 1), (1, 1), (100, 7), (20_000, 900), (150_000, 8192), (150_000, 150_000)] {
            let rows = rows(n);
            let file = ParquetRecordBatchReaderBuilder::try_new(written(&rows, at_a_time)).unwrap();
            let groups = file.metadata().row_groups().iter().map(|group| group.num_rows());
            assert_eq!(
                groups.collect::<Vec<_>>(),
                if n > 131_072 { vec![131_072, n - 131_072] } else { Vec::from_iter((n > 0).then_some(n)) }
            );
            let reader = file.build().unwrap();
            let schema = reader.schema();
            let back = reader.collect::<Result<Vec<_>, _>>().unwrap();
            assert_eq!(concat_batches(&schema, &back).unwrap().columns(), rows.columns(), "{n} rows");
        }
    }

    #[test]
    fn the_same_rows_make_the_same_bytes() {
        let rows = rows(60_000);
        let bytes = |mut file: File| {
            let mut bytes = Vec::new();
            std::io::Seek::rewind(&mut file).unwrap();
            std::io::Read::read_to_end(&mut file, &mut bytes).unwrap();
            bytes
        };
        let first = bytes(written(&rows, 5000));
        for _ in 0..5 {
            assert!(first == bytes(written(&rows, 5000)));
        }
    }
}
