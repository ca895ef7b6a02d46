//! CSV: a file as records, its columns' types, and its records as rows of a table or rejects.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use csv::{ByteRecord, Reader, ReaderBuilder};
use datafusion::arrow::array::{Array, ArrayRef, BooleanArray, StringArray, StringBuilder};
use datafusion::arrow::array::{Date32Array, TimestampMicrosecondArray};
use datafusion::arrow::compute::{CastOptions, cast_with_options, filter_record_batch};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use tokio::sync::mpsc;

use super::guess::Guess;
use super::moments::{DateOrder, Written};
use super::rejects::Reject;
use crate::error::{Error, Kind, Result};
use crate::frame::sql_name;

/// Records that types are read from; more where the order of dates is not told by them.
const RECORDS_TO_INFER: u64 = 100_000;
/// A batch is full at whichever comes first.
const BATCH_ROWS: usize = 16 * 1024;
const BATCH_BYTES: usize = 16 << 20;
/// How many batches wait to be written.
const BATCHES_AHEAD: usize = 2;
/// A record that does not end, for want of a quote, would take the rest of the file into memory.
const MAX_RECORD: u64 = 64 << 20;

/// A file, how it is written, and what its columns are.
#[derive(Debug, Clone)]
pub(super) struct CsvFile {
    path: Arc<Path>,
    compression: FileCompressionType,
    delimiter: u8,
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
        let mut file = Self { path: Arc::from(path), compression, delimiter, names: Vec::new(), guesses: Vec::new() };
        let mut records = file.records()?;
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
        let (batches, arriving) = mpsc::channel(BATCHES_AHEAD);
        let file = self.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = file.read(&batches) {
                // Nobody to hear it: the import has failed for another reason.
                let _ = batches.blocking_send(Err(error));
            }
        });
        Ok(CsvRows { arriving, wanted, schema: Arc::clone(columns) })
    }

    /// Reads all records behind the first, for a thread that may block.
    fn read(&self, batches: &mpsc::Sender<Result<Texts>>) -> Result<()> {
        let mut records = self.records()?;
        let mut record = ByteRecord::new();
        records.next(&mut record)?;
        let mut texts = Texts::new(self.names.len());
        while records.next(&mut record)? {
            texts.push(&record);
            if texts.is_full() {
                let full = std::mem::replace(&mut texts, Texts::new(self.names.len()));
                if batches.blocking_send(Ok(full)).is_err() {
                    return Ok(());
                }
            }
        }
        let _ = batches.blocking_send(Ok(texts));
        Ok(())
    }

    fn records(&self) -> Result<Records> {
        let left = Arc::new(AtomicU64::new(MAX_RECORD));
        let file = self.compression.convert_read(File::open(&self.path)?)?;
        let file: Box<dyn Read + Send> = Box::new(Bounded { file, left: Arc::clone(&left) });
        let reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(self.delimiter)
            .buffer_capacity(1 << 17)
            .from_reader(file);
        Ok(Records { reader, left })
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

/// The records of a file, one after the other.
struct Records {
    reader: Reader<Box<dyn Read + Send>>,
    left: Arc<AtomicU64>,
}

impl Records {
    /// `false` at the end of the file.
    fn next(&mut self, record: &mut ByteRecord) -> Result<bool> {
        self.left.store(MAX_RECORD, Ordering::Relaxed);
        self.reader.read_byte_record(record).map_err(|error| match error.into_kind() {
            csv::ErrorKind::Io(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                let message = format!("a record is larger than {} MB", MAX_RECORD >> 20);
                Error::new(Kind::LimitExceeded, message).hint("a quote that is not closed may be the reason")
            }
            csv::ErrorKind::Io(error) => error.into(),
            other => Error::new(Kind::InvalidFile, format!("the file cannot be read as CSV: {other:?}")),
        })
    }
}

/// A file that ends in an error when one record takes too much of it.
struct Bounded {
    file: Box<dyn Read + Send>,
    left: Arc<AtomicU64>,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(buffer)?;
        let left = self.left.load(Ordering::Relaxed);
        self.left.store(left.saturating_sub(n as u64), Ordering::Relaxed);
        if left == 0 && n > 0 { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(n) }
    }
}

/// Records on their way, column by column; an empty field is NULL.
struct Texts {
    columns: Vec<StringBuilder>,
    lines: Vec<u64>,
    bytes: usize,
    /// Records that are no rows, whatever the columns are.
    rejects: Vec<Reject>,
}

impl Texts {
    fn new(n_columns: usize) -> Self {
        let columns = (0..n_columns).map(|_| StringBuilder::new()).collect();
        Self { columns, lines: Vec::new(), bytes: 0, rejects: Vec::new() }
    }

    fn is_full(&self) -> bool {
        self.lines.len() + self.rejects.len() >= BATCH_ROWS || self.bytes >= BATCH_BYTES
    }

    fn push(&mut self, record: &ByteRecord) {
        let line = record.position().map_or(0, csv::Position::line);
        self.bytes += record.as_slice().len();
        let n_columns = self.columns.len();
        let reason = match std::str::from_utf8(record.as_slice()) {
            _ if record.len() != n_columns => format!("{} fields where the first line has {n_columns}", record.len()),
            Ok(text) if (0..n_columns).all(|at| field(text, record, at).is_some()) => {
                for (at, column) in self.columns.iter_mut().enumerate() {
                    column.append_option(field(text, record, at).filter(|value| !value.is_empty()));
                }
                self.lines.push(line);
                return;
            }
            _ => "the line is not UTF-8".to_owned(),
        };
        let fields = record.iter().map(String::from_utf8_lossy);
        self.rejects.push(Reject { line, reason, text: written(fields) });
    }
}

/// A field of a record whose fields, one behind the other, are that text; `None` where it would begin or end inside a
/// letter.
fn field<'a>(text: &'a str, record: &ByteRecord, at: usize) -> Option<&'a str> {
    text.get(record.range(at)?)
}

/// Fields as a line of CSV.
fn written(fields: impl Iterator<Item = impl AsRef<str>>) -> String {
    let quoted = |field: &str| match field.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field.to_owned(),
    };
    fields.map(|field| quoted(field.as_ref())).collect::<Vec<_>>().join(",")
}

/// A column of the table and where the file has it.
struct Wanted {
    place: usize,
    field: Arc<Field>,
    /// Of dates and moments.
    order: Option<DateOrder>,
}

/// A file's rows as they come.
pub(super) struct CsvRows {
    arriving: mpsc::Receiver<Result<Texts>>,
    wanted: Vec<Wanted>,
    schema: SchemaRef,
}

impl CsvRows {
    /// The next rows, and the records before the end of them that are none. `None` at the end of the file.
    pub(super) async fn next(&mut self) -> Option<Result<(RecordBatch, Vec<Reject>)>> {
        let texts = self.arriving.recv().await?;
        Some(texts.and_then(|texts| self.typed(texts)))
    }

    fn typed(&self, mut texts: Texts) -> Result<(RecordBatch, Vec<Reject>)> {
        let of_file: Vec<StringArray> = texts.columns.iter_mut().map(StringBuilder::finish).collect();
        let mut reasons: Vec<Option<String>> = vec![None; texts.lines.len()];
        let mut columns = Vec::with_capacity(self.wanted.len());
        for wanted in &self.wanted {
            let column = wanted.read(&of_file[wanted.place])?;
            if column.null_count() > of_file[wanted.place].null_count() || !wanted.field.is_nullable() {
                for (row, reason) in reasons.iter_mut().enumerate().filter(|(row, _)| column.is_null(*row)) {
                    if reason.is_none() {
                        *reason = wanted.refusal(&of_file[wanted.place], row);
                    }
                }
            }
            columns.push(column);
        }
        let nullable = self.schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
        let batch = RecordBatch::try_new(Arc::new(Schema::new(nullable.collect::<Vec<_>>())), columns)?;
        if reasons.iter().all(Option::is_none) {
            return Ok((batch, texts.rejects));
        }
        let good: BooleanArray = reasons.iter().map(|reason| Some(reason.is_none())).collect();
        let batch = filter_record_batch(&batch, &good)?;
        let mut rejects = texts.rejects;
        for (row, reason) in reasons.into_iter().enumerate() {
            if let Some(reason) = reason {
                let fields = of_file.iter().map(|column| if column.is_valid(row) { column.value(row) } else { "" });
                rejects.push(Reject { line: texts.lines[row], reason, text: written(fields) });
            }
        }
        rejects.sort_by_key(|reject| reject.line);
        Ok((batch, rejects))
    }
}

impl Wanted {
    /// The column in its type; what cannot be read as one is NULL.
    fn read(&self, texts: &StringArray) -> Result<ArrayRef> {
        let data_type = self.field.data_type();
        let lenient = CastOptions { safe: true, ..Default::default() };
        let written = |order| texts.iter().map(move |text| Some((Written::read(text?.trim())?, order)));
        match (data_type, self.order) {
            (data_type, _) if data_type.is_string() => Ok(cast_with_options(texts, data_type, &lenient)?),
            (DataType::Date32, Some(order)) => {
                // A moment within a day is no date, and would be cut down to one.
                let days = written(order).map(|read| {
                    let (written, order) = read.filter(|(written, _)| !written.has_time())?;
                    Some(written.date(order)?.signed_duration_since(chrono::NaiveDate::default()).num_days() as i32)
                });
                Ok(Arc::new(days.collect::<Date32Array>()))
            }
            (DataType::Timestamp(_, zone), Some(order)) => {
                let micros = written(order).map(|read| read.and_then(|(written, order)| written.microseconds(order)));
                Ok(Arc::new(micros.collect::<TimestampMicrosecondArray>().with_timezone_opt(zone.clone())))
            }
            _ => {
                let trimmed = match texts.iter().flatten().any(|text| text.trim().len() < text.len()) {
                    true => Arc::new(texts.iter().map(|text| text.and_then(not_blank)).collect::<StringArray>()),
                    false => Arc::new(texts.clone()) as ArrayRef,
                };
                Ok(cast_with_options(&trimmed, data_type, &lenient)?)
            }
        }
    }

    /// Why a NULL of the column stands where it must not; `None`: it may.
    fn refusal(&self, texts: &StringArray, row: usize) -> Option<String> {
        let (name, wanted) = (self.field.name(), sql_name(self.field.data_type()));
        match texts.is_valid(row).then(|| texts.value(row)).and_then(not_blank) {
            Some(text) => Some(format!("column \"{name}\": invalid input syntax for type {wanted}: \"{text}\"")),
            None if self.field.is_nullable() => None,
            None => Some(format!("column \"{name}\": null value violates not-null constraint")),
        }
    }
}

/// What is written of a value that is no text; blanks are nothing.
fn not_blank(text: &str) -> Option<&str> {
    Some(text.trim()).filter(|text| !text.is_empty())
}
