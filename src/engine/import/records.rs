//! Records one after the other, as rows of a table or rejects: the reader of whatever is not well-formed.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use csv::{ByteRecord, Position, Reader, ReaderBuilder};
use datafusion::arrow::array::{Array, BooleanArray, StringArray, StringBuilder};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;

use super::blocks::{MAX_RECORD, too_long};
use super::columns::Wanted;
use super::rejects::Reject;
use crate::error::{Error, Kind, Result};

/// The records of a file, one after the other.
pub(super) struct Records<'a> {
    reader: Reader<Box<dyn Read + Send + 'a>>,
    left: Arc<AtomicU64>,
}

impl<'a> Records<'a> {
    pub(super) fn of(file: Box<dyn Read + Send + 'a>, delimiter: u8) -> Self {
        let left = Arc::new(AtomicU64::new(MAX_RECORD as u64));
        let file: Box<dyn Read + Send + 'a> = Box::new(Bounded { file, left: Arc::clone(&left) });
        let reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(delimiter)
            .buffer_capacity(1 << 17)
            .from_reader(file);
        Self { reader, left }
    }

    /// `false` at the end of the file.
    pub(super) fn next(&mut self, record: &mut ByteRecord) -> Result<bool> {
        self.left.store(MAX_RECORD as u64, Ordering::Relaxed);
        self.reader.read_byte_record(record).map_err(|error| match error.into_kind() {
            csv::ErrorKind::Io(error) if error.kind() == io::ErrorKind::FileTooLarge => too_long(),
            csv::ErrorKind::Io(error) => error.into(),
            other => Error::new(Kind::InvalidFile, format!("the file cannot be read as CSV: {other:?}")),
        })
    }

    /// How many bytes of the file it has read, and the line, from 1, on which it stands.
    pub(super) fn position(&self) -> (u64, u64) {
        (self.reader.position().byte(), self.reader.position().line())
    }
}

/// A file that ends in an error when one record takes too much of it.
struct Bounded<'a> {
    file: Box<dyn Read + Send + 'a>,
    left: Arc<AtomicU64>,
}

impl Read for Bounded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(buffer)?;
        let left = self.left.load(Ordering::Relaxed);
        self.left.store(left.saturating_sub(n as u64), Ordering::Relaxed);
        if left == 0 && n > 0 { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(n) }
    }
}

/// Records column by column; an empty field is NULL.
pub(super) struct Texts<'a> {
    block: &'a [u8],
    columns: Vec<StringBuilder>,
    /// Where each row begins in the block.
    starts: Vec<usize>,
    /// Records that are no rows, whatever the columns are, and where they begin.
    rejects: Vec<(usize, Reject)>,
}

impl<'a> Texts<'a> {
    /// All records of a block, which begins where one does.
    pub(super) fn of(block: &'a [u8], delimiter: u8, n_columns: usize) -> Result<Self> {
        let columns = (0..n_columns).map(|_| StringBuilder::new()).collect();
        let mut texts = Self { block, columns, starts: Vec::new(), rejects: Vec::new() };
        // What looks like the mark of UTF-8 is none within a file. Only at the beginning would it be taken for one, so
        // an empty line comes before it.
        let mut records = Records::of(Box::new((&b"\n"[..]).chain(block)), delimiter);
        let mut record = ByteRecord::new();
        while records.next(&mut record)? {
            texts.push(&record);
        }
        Ok(texts)
    }

    fn push(&mut self, record: &ByteRecord) {
        let start = record.position().map_or(0, Position::byte).saturating_sub(1) as usize;
        // A record is said to begin where the one before it ended, empty lines and all.
        let empty = self.block[start..].iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let start = start + empty;
        let n_columns = self.columns.len();
        let reason = match std::str::from_utf8(record.as_slice()) {
            _ if record.len() != n_columns => format!("{} fields where the first line has {n_columns}", record.len()),
            Ok(text) if (0..n_columns).all(|at| field(text, record, at).is_some()) => {
                for (at, column) in self.columns.iter_mut().enumerate() {
                    column.append_option(field(text, record, at).filter(|value| !value.is_empty()));
                }
                self.starts.push(start);
                return;
            }
            _ => "the line is not UTF-8".to_owned(),
        };
        let fields = record.iter().map(String::from_utf8_lossy);
        self.rejects.push((start, Reject { line: 0, reason, text: written(fields) }));
    }

    /// The rows with these columns, and the records that are none, their lines counted from the block's first, which
    /// is 0.
    pub(super) fn typed(mut self, wanted: &[Wanted], schema: SchemaRef) -> Result<(RecordBatch, Vec<Reject>)> {
        let of_file: Vec<StringArray> = self.columns.iter_mut().map(StringBuilder::finish).collect();
        let mut reasons: Vec<Option<String>> = vec![None; self.starts.len()];
        let mut columns = Vec::with_capacity(wanted.len());
        for wanted in wanted {
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
        let mut batch = RecordBatch::try_new(schema, columns)?;
        if reasons.iter().any(Option::is_some) {
            let good: BooleanArray = reasons.iter().map(|reason| Some(reason.is_none())).collect();
            batch = filter_record_batch(&batch, &good)?;
        }
        let mut rejects = self.rejects;
        for (row, reason) in reasons.into_iter().enumerate() {
            if let Some(reason) = reason {
                let fields = of_file.iter().map(|column| if column.is_valid(row) { column.value(row) } else { "" });
                rejects.push((self.starts[row], Reject { line: 0, reason, text: written(fields) }));
            }
        }
        rejects.sort_by_key(|(start, _)| *start);
        let (mut at, mut line) = (0, 0);
        let numbered = rejects.into_iter().map(|(start, reject)| {
            line += lines(&self.block[at..start]);
            at = start;
            Reject { line, ..reject }
        });
        Ok((batch, numbered.collect()))
    }
}

/// How many lines end in `bytes`.
pub(super) fn lines(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

/// A field of a record whose fields, one behind the other, are that text; `None` where it would begin or end inside a
/// letter.
fn field<'a>(text: &'a str, record: &ByteRecord, at: usize) -> Option<&'a str> {
    text.get(record.range(at)?)
}

/// Fields as a line of CSV.
pub(super) fn written(fields: impl Iterator<Item = impl AsRef<str>>) -> String {
    let quoted = |field: &str| match field.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field.to_owned(),
    };
    fields.map(|field| quoted(field.as_ref())).collect::<Vec<_>>().join(",")
}
