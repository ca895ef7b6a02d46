//! CSV: a file as records, its columns' types, and its records as rows of a table or rejects.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use csv::ByteRecord;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use rayon::ThreadPool;
use tokio::sync::{mpsc, oneshot};

use super::blocks::{BLOCK, Blocks};
use super::columns::Wanted;
use super::fields::Fields;
use super::guess::Guess;
use super::moments::DateOrder;
use super::records::{Records, Texts, lines};
use super::rejects::Reject;
use crate::error::{Error, Kind, Result};
use crate::storage::pool;

/// Records that types are read from; more where the order of dates is not told by them.
const RECORDS_TO_INFER: u64 = 100_000;

/// A file, how it is written, and what its columns are.
#[derive(Debug, Clone)]
pub(super) struct CsvFile {
    path: Arc<Path>,
    compression: FileCompressionType,
    delimiter: u8,
    /// Where, in bytes, the records begin, behind the one that names the columns; and the line they begin on.
    first_record: u64,
    first_line: u64,
    pub(super) names: Vec<String>,
    guesses: Vec<Guess>,
}

impl CsvFile {
    /// Reads the first line, which names the columns, and types from the beginning of the rest.
    pub(super) fn open(path: &Path, compression: FileCompressionType, delimiter: Option<u8>) -> Result<Self> {
        let delimiter = match delimiter {
            Some(delimiter) => delimiter,
            None => told_by(&first_line(path, compression)?),
        };
        let mut file = Self {
            path: Arc::from(path),
            compression,
            delimiter,
            first_record: 0,
            first_line: 1,
            names: Vec::new(),
            guesses: Vec::new(),
        };
        let mut records = Records::of(file.bytes()?, delimiter);
        let mut record = ByteRecord::new();
        if !records.next(&mut record)? {
            return Err(Error::invalid("the file is empty").hint("the first line must name the columns"));
        }
        for (at, name) in record.iter().enumerate() {
            let name = String::from_utf8_lossy(name);
            file.names.push(if name.is_empty() { format!("column_{}", at + 1) } else { name.into_owned() });
        }
        let names = &file.names;
        if let Some((_, twice)) = names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)) {
            return Err(Error::new(
                Kind::DuplicateColumn,
                format!("two columns are named \"{twice}\" in the first line"),
            )
            .hint("rename one of them in the file"));
        }
        (file.first_record, file.first_line) = records.position();
        file.guesses = vec![Guess::default(); file.names.len()];
        let mut n_records = 0;
        while (n_records < RECORDS_TO_INFER || file.guesses.iter().any(Guess::is_undecided))
            && records.next(&mut record)?
        {
            n_records += 1;
            // A record of another length says nothing of any column.
            if record.len() == file.names.len() {
                for (guess, value) in file.guesses.iter_mut().zip(&record) {
                    guess.see(&String::from_utf8_lossy(value));
                }
            }
        }
        Ok(file)
    }

    /// The columns as a new table has them.
    pub(super) fn schema(&self) -> SchemaRef {
        let fields = self.names.iter().zip(&self.guesses);
        Arc::new(Schema::new(fields.map(|(name, guess)| Field::new(name, guess.data_type(), true)).collect::<Vec<_>>()))
    }

    /// The file's records as rows with these columns, which it must have.
    pub(super) fn rows(&self, columns: &SchemaRef, told: Option<DateOrder>) -> Result<CsvRows> {
        let mut wanted = Vec::with_capacity(columns.fields().len());
        for field in columns.fields() {
            let place = self.names.iter().position(|name| name == field.name()).ok_or_else(|| {
                Error::new(Kind::UnknownColumn, format!("the file has no column \"{}\"", field.name()))
                    .suggest(field.name(), self.names.iter().map(String::as_str))
            })?;
            let is_moment =
                matches!(field.data_type(), DataType::Date32 | DataType::Timestamp(TimeUnit::Microsecond, _));
            let order = is_moment.then(|| self.guesses[place].order(field.name(), told)).transpose()?;
            wanted.push(Wanted { place, field: Arc::clone(field), order });
        }
        // NULLs are refused by the line they stand on, or else by the writer.
        let nullable = columns.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
        let schema = Arc::new(Schema::new(nullable.collect::<Vec<_>>()));
        CsvRows::start(self.clone(), Arc::new(Target { wanted, schema }))
    }

    /// Cuts what comes after the first line into blocks and has them read, for a thread that may block.
    fn cut(
        &self,
        pool: &'static ThreadPool,
        target: &Arc<Target>,
        pieces: &mpsc::Sender<Result<Pending>>,
    ) -> Result<()> {
        let mut file = self.bytes()?;
        io::copy(&mut file.by_ref().take(self.first_record), &mut io::sink())?;
        let mut blocks = Blocks::new(file, self.delimiter, BLOCK);
        let (delimiter, n_columns) = (self.delimiter, self.names.len());
        while let Some(block) = blocks.next()? {
            let (done, pending) = oneshot::channel();
            if pieces.blocking_send(Ok(pending)).is_err() {
                return Ok(());
            }
            let target = Arc::clone(target);
            pool.spawn(move || {
                let _ = done.send(target.read(&block, delimiter, n_columns));
            });
        }
        Ok(())
    }

    /// From its first byte.
    fn bytes(&self) -> Result<Box<dyn Read + Send>> {
        Ok(self.compression.convert_read(File::open(&self.path)?)?)
    }
}

fn first_line(path: &Path, compression: FileCompressionType) -> Result<Vec<u8>> {
    let mut line = vec![0; 1 << 16];
    let mut file = compression.convert_read(File::open(path)?)?;
    let mut n = 0;
    while n < line.len() {
        match file.read(&mut line[n..])? {
            0 => break,
            more => n += more,
        }
        if line[..n].contains(&b'\n') {
            break;
        }
    }
    line.truncate(line[..n].iter().position(|byte| *byte == b'\n').unwrap_or(n));
    Ok(line)
}

/// The delimiter that the first line has most of outside of quotes; a comma where it has none.
fn told_by(line: &[u8]) -> u8 {
    let mut counts = [(b',', 0), (b';', 0), (b'\t', 0), (b'|', 0)];
    let mut quoted = false;
    for byte in line {
        quoted ^= *byte == b'"';
        if let Some((_, count)) = counts.iter_mut().find(|(delimiter, _)| delimiter == byte && !quoted) {
            *count += 1;
        }
    }
    // Of equals max_by_key takes the last, and the comma is the first.
    counts.iter().rev().max_by_key(|(_, count)| *count).map_or(b',', |(delimiter, _)| *delimiter)
}

/// The table that the rows are for.
#[derive(Debug)]
struct Target {
    wanted: Vec<Wanted>,
    schema: SchemaRef,
}

impl Target {
    /// The rows of a block of records, whose fields are so many.
    fn read(&self, block: &[u8], delimiter: u8, n_columns: usize) -> Result<Piece> {
        let (rows, rejects) = match self.quick(block, delimiter, n_columns)? {
            Some(rows) => (rows, Vec::new()),
            None => Texts::of(block, delimiter, n_columns)?.typed(&self.wanted, Arc::clone(&self.schema))?,
        };
        Ok(Piece { rows, rejects, lines: lines(block) })
    }

    /// The rows of a block where every record is one.
    fn quick(&self, block: &[u8], delimiter: u8, n_columns: usize) -> Result<Option<RecordBatch>> {
        let fields = std::str::from_utf8(block).ok().and_then(|text| Fields::of(text, delimiter, n_columns));
        let Some(fields) = fields else { return Ok(None) };
        let mut columns = Vec::with_capacity(self.wanted.len());
        for wanted in &self.wanted {
            match wanted.quick(&fields)? {
                Some(column) => columns.push(column),
                None => return Ok(None),
            }
        }
        Ok(Some(RecordBatch::try_new(Arc::clone(&self.schema), columns)?))
    }
}

/// What a block has become.
struct Piece {
    rows: RecordBatch,
    /// Records that are no rows; their lines are counted from the block's first, which is 0.
    rejects: Vec<Reject>,
    /// How many lines end in it.
    lines: u64,
}

/// A block that is being read.
type Pending = oneshot::Receiver<Result<Piece>>;

/// A file's rows as they come: blocks are read side by side, and given in their order.
pub(super) struct CsvRows {
    arriving: mpsc::Receiver<Result<Pending>>,
    /// The line on which the next block begins.
    line: u64,
}

impl CsvRows {
    fn start(file: CsvFile, target: Arc<Target>) -> Result<Self> {
        let pool = pool()?;
        // One block a thread, and one more that waits for it.
        let (blocks, arriving) = mpsc::channel(2 * pool.current_num_threads());
        let line = file.first_line;
        tokio::task::spawn_blocking(move || {
            if let Err(error) = file.cut(pool, &target, &blocks) {
                // Nobody to hear it: the import has failed for another reason.
                let _ = blocks.blocking_send(Err(error));
            }
        });
        Ok(Self { arriving, line })
    }

    /// The next rows, and the records before the end of them that are none. `None` at the end of the file.
    pub(super) async fn next(&mut self) -> Option<Result<(RecordBatch, Vec<Reject>)>> {
        let pending = match self.arriving.recv().await? {
            Ok(pending) => pending,
            Err(error) => return Some(Err(error)),
        };
        let piece = pending.await.unwrap_or_else(|_| Err(Error::internal("reading a block of the file panicked")));
        Some(piece.map(|mut piece| {
            piece.rejects.iter_mut().for_each(|reject| reject.line += self.line);
            self.line += piece.lines;
            (piece.rows, piece.rejects)
        }))
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Array, ArrayRef, StringArray};
    use datafusion::arrow::compute::{concat, concat_batches};
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::engine::import::records::written;

    /// A table of a column that must not be NULL, one of text and one of the type given.
    fn target(data_type: DataType) -> Target {
        let order = matches!(data_type, DataType::Date32 | DataType::Timestamp(..)).then_some(DateOrder::DayFirst);
        let columns = [("a", DataType::Int64, false), ("b", DataType::Utf8, true), ("c", data_type, true)];
        let wanted = columns.into_iter().enumerate().map(|(place, (name, data_type, nullable))| Wanted {
            place,
            field: Arc::new(Field::new(name, data_type, nullable)),
            order: order.filter(|_| place == 2),
        });
        let wanted: Vec<Wanted> = wanted.collect();
        let fields = wanted.iter().map(|wanted| wanted.field.as_ref().clone().with_nullable(true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        Target { wanted, schema }
    }

    /// The rows and rejects of records, read in blocks of about that size.
    fn in_blocks(target: &Target, file: &[u8], size: usize) -> (RecordBatch, Vec<Reject>) {
        let mut blocks = Blocks::new(file, b',', size);
        let (mut rows, mut rejects, mut line) =
            (vec![RecordBatch::new_empty(Arc::clone(&target.schema))], Vec::new(), 1);
        while let Some(block) = blocks.next().unwrap() {
            let piece = target.read(&block, b',', 3).unwrap();
            rows.push(piece.rows);
            rejects.extend(piece.rejects.into_iter().map(|reject| Reject { line: reject.line + line, ..reject }));
            line += piece.lines;
        }
        (concat_batches(&target.schema, &rows).unwrap(), rejects)
    }

    /// The same, one record and one value after the other.
    fn one_by_one(target: &Target, file: &[u8]) -> (RecordBatch, Vec<Reject>) {
        // An empty line keeps a mark of UTF-8 from being taken off.
        let file = [b"\n", file].concat();
        let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(file.as_slice());
        let mut columns: Vec<Vec<ArrayRef>> = target
            .schema
            .fields()
            .iter()
            .map(|field| vec![datafusion::arrow::array::new_empty_array(field.data_type())])
            .collect();
        let mut rejects = Vec::new();
        for record in reader.byte_records() {
            let record = record.unwrap();
            let mut start = record.position().unwrap().byte() as usize;
            start += file[start..].iter().take_while(|byte| **byte == b'\n' || **byte == b'\r').count();
            let line = file[..start].iter().filter(|byte| **byte == b'\n').count() as u64;
            let mut refuse = |reason: String| {
                let text = written(record.iter().map(String::from_utf8_lossy));
                rejects.push(Reject { line, reason, text });
            };
            if record.len() != 3 {
                refuse(format!("{} fields where the first line has 3", record.len()));
                continue;
            }
            let Ok(fields) = record.iter().map(std::str::from_utf8).collect::<std::result::Result<Vec<_>, _>>() else {
                refuse("the line is not UTF-8".to_owned());
                continue;
            };
            let texts =
                fields.iter().map(|field| StringArray::from(vec![Some(*field).filter(|text| !text.is_empty())]));
            let texts: Vec<StringArray> = texts.collect();
            let values =
                target.wanted.iter().map(|wanted| wanted.read(&texts[wanted.place]).unwrap()).collect::<Vec<_>>();
            let refusal = target.wanted.iter().zip(&values).find_map(|(wanted, value)| {
                if value.is_null(0) { wanted.refusal(&texts[wanted.place], 0) } else { None }
            });
            match refusal {
                Some(reason) => refuse(reason),
                None => columns.iter_mut().zip(values).for_each(|(column, value)| column.push(value)),
            }
        }
        let columns = columns.iter().map(|values| {
            let values: Vec<&dyn Array> = values.iter().map(AsRef::as_ref).collect();
            concat(&values).unwrap()
        });
        (RecordBatch::try_new(Arc::clone(&target.schema), columns.collect()).unwrap(), rejects)
    }

    fn a_type() -> impl Strategy<Value = DataType> {
        let moment = |zone: Option<&str>| DataType::Timestamp(TimeUnit::Microsecond, zone.map(Into::into));
        select(vec![
            DataType::Float64,
            DataType::Boolean,
            DataType::Date32,
            moment(None),
            moment(Some("UTC")),
            DataType::Int32,
            DataType::Decimal128(10, 2),
            DataType::Utf8,
        ])
    }

    fn a_field() -> impl Strategy<Value = Vec<u8>> {
        let values: Vec<&[u8]> = vec![
            b"",
            b"1",
            b"-20",
            b"007",
            b"2.5",
            b"-0",
            b".5",
            b"1e3",
            b"123456789012345678901",
            b" 7 ",
            b"  ",
            b"true",
            b"F",
            b"2026-03-01",
            b"2026-02-30",
            b"2026-03-01 14:30:05",
            b"2026-03-01T14:30:05.25Z",
            b"01/03/2026 2:30 PM",
            b"\"\"",
            b"\"a,b\"",
            b"\"a\nb\"",
            b"\"a\r\n\"\"b\"\"\"",
            b"\"q\"r",
            b"x\"y",
            b"\"12\"",
            "\u{fc}\u{1f600}".as_bytes(),
            b"\xef\xbb\xbf",
            b"NULL",
            b"\xe9",
        ];
        prop_oneof![
            8 => select(vec![&b"1"[..], b"22", b"-3"]).prop_map(<[u8]>::to_vec),
            8 => select(values).prop_map(<[u8]>::to_vec),
            1 => proptest::collection::vec(select(b"a1,\"\r\n \xff\xc3\xa9".to_vec()), 0..4),
        ]
    }

    fn a_file() -> impl Strategy<Value = Vec<u8>> {
        let ends = select(vec![&b"\n"[..], b"\n", b"\r\n", b"\r\n", b"\r", b"\n\n"]);
        let fields =
            prop_oneof![9 => 3..4_usize, 1 => 1..5_usize].prop_flat_map(|n| proptest::collection::vec(a_field(), n));
        let lines = proptest::collection::vec((fields, ends), 0..12);
        (lines, any::<bool>()).prop_map(|(lines, cut)| {
            let mut file = Vec::new();
            let n_lines = lines.len();
            for (n, (fields, end)) in lines.into_iter().enumerate() {
                file.extend(fields.join(&b','));
                if !cut || n + 1 < n_lines {
                    file.extend(end);
                }
            }
            file
        })
    }

    proptest! {
        #[test]
        fn blocks_make_the_rows_that_records_one_by_one_make(file in a_file(), size in 1..200_usize, data_type in a_type()) {
            let target = target(data_type);
            let (rows, rejects) = in_blocks(&target, &file, size);
            let (expected, refused) = one_by_one(&target, &file);
            prop_assert_eq!(rows, expected);
            prop_assert_eq!(rejects, refused);
        }
    }
}
