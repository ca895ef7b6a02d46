//! COPY in: the client's file → batches for the engine.
//!
//! Rows are taken apart as they come; their values are gathered column by column and become arrays once a batch is
//! full. A value that cannot be read is looked for again then, so that the error names its line.

mod binary;
mod columns;
mod csv;
mod lines;
mod text;

use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::arrow::record_batch::{RecordBatch, RecordBatchOptions};
use tokio::sync::mpsc;

use self::binary::BinaryRows;
use self::lines::{Lines, TextRows};
use crate::engine::{self, CopiedRows, CopyFormat, CopyIn, CopyOptions, Reject};
use crate::error::{Error, Kind, Result};

/// A batch is full at whichever comes first.
const BATCH_ROWS: usize = 16 * 1024;
const BATCH_BYTES: usize = 16 * 1024 * 1024;
/// A row that does not end keeps everything before it in memory.
const MAX_ROW: usize = 64 * 1024 * 1024;

/// What comes from the client, in order.
pub(super) enum Piece {
    Data(Bytes),
    Done,
    /// The client, or its absence, ends the copy.
    Failed(Error),
}

/// One kind of file.
trait Rows: Send {
    /// Takes rows off the front of `bytes`, at most until a batch is full, and says how many bytes they took. `last`:
    /// nothing comes after them.
    fn take(&mut self, bytes: &[u8], last: bool) -> Result<usize>;
    /// Whether the file has said that it ends.
    fn ended(&self) -> bool;
    /// How many rows, and bytes of them, are gathered.
    fn gathered(&self) -> (usize, usize);
    /// What was gathered; it begins anew.
    fn finish(&mut self) -> Result<Gathered>;
}

/// Rows column by column, and lines that are none.
struct Gathered {
    columns: Vec<ArrayRef>,
    rows: usize,
    rejects: Vec<Reject>,
}

/// Reads one file.
pub(super) struct Decoder {
    rows: Box<dyn Rows>,
    schema: SchemaRef,
    inbox: BytesMut,
    /// With less than this there is no whole row.
    enough: usize,
}

impl Decoder {
    pub(super) fn new(copy: &CopyIn) -> Result<Self> {
        Self::of(&copy.name, &copy.columns, &copy.options)
    }

    fn of(table: &str, schema: &SchemaRef, options: &CopyOptions) -> Result<Self> {
        let place = Place { table: table.to_owned() };
        let rows: Box<dyn Rows> = match options.format {
            CopyFormat::Text => Box::new(TextRows::new(place, schema, options, Lines::Text)?),
            CopyFormat::Csv => Box::new(TextRows::new(place, schema, options, Lines::Csv)?),
            CopyFormat::Binary => Box::new(BinaryRows::new(place, schema)?),
        };
        Ok(Self { rows, schema: Arc::clone(schema), inbox: BytesMut::new(), enough: 1 })
    }

    /// Reads pieces until the file ends, and gives batches or the error that ends it. It is for a thread that may
    /// block.
    pub(super) fn run(mut self, mut pieces: mpsc::Receiver<Piece>, batches: &mpsc::Sender<engine::Piece>) {
        loop {
            let read = match pieces.blocking_recv() {
                Some(Piece::Data(bytes)) => self.read(&bytes, batches),
                Some(Piece::Done) => self.finish(batches),
                Some(Piece::Failed(error)) => Err(error),
                None => Err(Error::cancelled()),
            };
            match read {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    let _ = batches.blocking_send(Err(error));
                    return;
                }
            }
        }
    }

    /// `false`: nobody wants the batches any more.
    fn read(&mut self, bytes: &[u8], batches: &mpsc::Sender<engine::Piece>) -> Result<bool> {
        if self.rows.ended() {
            return Ok(true);
        }
        self.inbox.extend_from_slice(bytes);
        while self.inbox.len() >= self.enough {
            let taken = self.rows.take(&self.inbox, false)?;
            self.inbox.advance(taken);
            if self.is_full() {
                self.enough = 1;
                if !self.give(batches)? {
                    return Ok(false);
                }
                continue;
            }
            // A long row is not looked at again with every few bytes more of it.
            self.enough = self.inbox.len() + self.inbox.len() / 2 + 1;
            if self.inbox.len() > MAX_ROW {
                let message = format!("a row of the file is larger than {} MB", MAX_ROW >> 20);
                return Err(Error::new(Kind::LimitExceeded, message));
            }
        }
        Ok(true)
    }

    fn finish(&mut self, batches: &mpsc::Sender<engine::Piece>) -> Result<bool> {
        loop {
            let taken = self.rows.take(&self.inbox, true)?;
            self.inbox.advance(taken);
            if !self.is_full() {
                break;
            }
            if !self.give(batches)? {
                return Ok(false);
            }
        }
        if self.give(batches)? {
            // Nobody to hear it: the copy has failed for another reason.
            let _ = batches.blocking_send(Ok(None));
        }
        Ok(false)
    }

    fn is_full(&self) -> bool {
        let (rows, bytes) = self.rows.gathered();
        rows >= BATCH_ROWS || bytes >= BATCH_BYTES
    }

    fn give(&mut self, batches: &mpsc::Sender<engine::Piece>) -> Result<bool> {
        if self.rows.gathered().0 == 0 {
            return Ok(true);
        }
        let Gathered { columns, rows, rejects } = self.rows.finish()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let nullable = self.schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
        let schema = Schema::new(nullable.collect::<Vec<_>>());
        let batch = RecordBatch::try_new_with_options(schema.into(), columns, &options)?;
        Ok(batches.blocking_send(Ok(Some(CopiedRows { rows: batch, rejects }))).is_ok())
    }
}

/// Where in the file an error is, as Postgres says it.
#[derive(Debug, Clone)]
struct Place {
    table: String,
}

impl Place {
    fn line(&self, line: u64) -> String {
        format!("COPY {}, line {line}", self.table)
    }

    fn column(&self, line: u64, column: &str) -> String {
        format!("{}, column {column}", self.line(line))
    }

    fn value(&self, line: u64, column: &str, value: &[u8]) -> String {
        format!("{}: \"{}\"", self.column(line, column), shown(value))
    }
}

/// The beginning of a value or a line, for an error.
fn shown(bytes: &[u8]) -> String {
    const LONG: usize = 100;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(LONG)]);
    if bytes.len() > LONG { format!("{text}...") } else { text.into_owned() }
}

fn malformed(message: impl Into<String>) -> Error {
    Error::new(Kind::InvalidFile, message)
}

fn null_not_allowed(column: &str) -> Error {
    Error::new(Kind::NullNotAllowed, format!("null value in column \"{column}\" violates not-null constraint"))
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::{DataType, Field, TimeUnit};
    use proptest::prelude::*;

    use super::*;
    use crate::engine::{Chosen, Header, OnError};

    fn options(format: CopyFormat) -> CopyOptions {
        let csv = format == CopyFormat::Csv;
        CopyOptions {
            format,
            delimiter: if csv { b',' } else { b'\t' },
            null: if csv { String::new() } else { "\\N".to_owned() },
            header: Header::Absent,
            quote: b'"',
            escape: b'"',
            force_quote: Chosen::NONE,
            force_not_null: Chosen::NONE,
            force_null: Chosen::NONE,
            on_error: OnError::Abort,
            reject_limit: None,
        }
    }

    fn schema() -> SchemaRef {
        let at = DataType::Timestamp(TimeUnit::Microsecond, None);
        Arc::new(Schema::new(vec![
            Field::new("id", DataType::Int64, false),
            Field::new("name", DataType::Utf8, true),
            Field::new("at", at, true),
        ]))
    }

    /// The rows that come of a file in pieces of this size, or the error.
    fn decoded(file: &[u8], piece: usize, options: &CopyOptions) -> Result<usize> {
        let mut decoder = Decoder::of("t", &schema(), options)?;
        let (batches, mut rows) = mpsc::channel(1000);
        for piece in file.chunks(piece) {
            decoder.read(piece, &batches)?;
        }
        decoder.finish(&batches)?;
        let mut count = 0;
        while let Ok(piece) = rows.try_recv() {
            count += piece?.map_or(0, |copied| copied.rows.num_rows());
        }
        Ok(count)
    }

    #[test]
    fn a_file_may_be_cut_anywhere() {
        let csv = b"1,\"a\nb\"\"c\",2024-01-01\r\n2,,\n3,\"\",2024-01-01 10:00:00";
        let text = b"1\ta\\\nb\t2024-01-01\n2\t\\N\t\\N\n3\t\\\\\t2024-01-01 10:00:00+05\n\\.\n";
        for piece in 1..60 {
            assert_eq!(decoded(csv, piece, &options(CopyFormat::Csv)).unwrap(), 3, "csv in pieces of {piece}");
            assert_eq!(decoded(text, piece, &options(CopyFormat::Text)).unwrap(), 3, "text in pieces of {piece}");
        }
    }

    #[test]
    fn lines_that_are_no_rows_are_left_out() {
        let file = b"1,ann,2024-01-01\nx,bob,2024-01-02\n3,cid\n5,\"eve, jr\",never\n,fay,\n7,\"gus\n\",\n8,,\n";
        for piece in [1, 7, 100] {
            let lenient = CopyOptions { on_error: OnError::Skip, ..options(CopyFormat::Csv) };
            let mut decoder = Decoder::of("t", &schema(), &lenient).unwrap();
            let (batches, mut rows) = mpsc::channel(1000);
            for piece in file.chunks(piece) {
                decoder.read(piece, &batches).unwrap();
            }
            decoder.finish(&batches).unwrap();
            let copied = rows.try_recv().unwrap().unwrap().unwrap();
            assert_eq!(copied.rows.num_rows(), 3);
            let said = |reject: &Reject| (reject.line, reject.reason.clone(), reject.text.clone());
            let all = [
                (2, "id: invalid input syntax for type bigint: \"x\"", "x,bob,2024-01-02"),
                (3, "missing data for column \"at\"", "3,cid"),
                (4, "at: invalid input syntax for type timestamp: \"never\"", "5,\"eve, jr\",never"),
                (5, "id: null value in column \"id\" violates not-null constraint", ",fay,"),
            ];
            let all = all.map(|(line, reason, text)| (line, reason.to_owned(), text.to_owned()));
            assert_eq!(copied.rejects.iter().map(said).collect::<Vec<_>>(), all);
        }
    }

    proptest! {
        #[test]
        fn no_file_can_make_us_panic(
            text in "[0-9a,\"\\\\\t\r\n.N-]{0,60}",
            mut rest in proptest::collection::vec(any::<u8>(), 0..60),
            piece in 1usize..20,
        ) {
            for format in [CopyFormat::Text, CopyFormat::Csv, CopyFormat::Binary] {
                let mut odd = options(format);
                let _ = decoded(text.as_bytes(), piece, &odd);
                let _ = decoded(&rest, piece, &odd);
                odd.escape = b'\\';
                let _ = decoded(text.as_bytes(), piece, &odd);
                odd.on_error = OnError::Skip;
                let _ = decoded(text.as_bytes(), piece, &odd);
            }
            rest.splice(0..0, *b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0");
            let _ = decoded(&rest, piece, &options(CopyFormat::Binary));
        }
    }
}
