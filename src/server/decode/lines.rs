//! Files of lines: what text and csv have in common.

use std::sync::Arc;

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::SchemaRef;

use super::columns::Texts;
use super::{BATCH_BYTES, BATCH_ROWS, Gathered, Place, Rows, csv, malformed, shown, text};
use crate::engine::{CopyOptions, Header, OnError, Reject};
use crate::error::{Error, Result};

/// How a line ends, and how it is taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lines {
    Text,
    Csv,
}

/// One field of a line.
pub(super) enum Field {
    /// What stands for NULL.
    Null,
    /// Its text, which has been written to the end of the buffer.
    Text,
}

pub(super) struct TextRows {
    kind: Lines,
    options: CopyOptions,
    schema: SchemaRef,
    columns: Vec<Texts>,
    never_null: Vec<bool>,
    null_if_quoted: Vec<bool>,
    place: Place,
    /// The number of the next line.
    line: u64,
    /// The line that each gathered row begins on.
    lines: Vec<u64>,
    bytes: usize,
    /// Lines that were left out.
    rejects: Vec<Reject>,
    header: Header,
    ended: bool,
}

impl TextRows {
    pub(super) fn new(place: Place, schema: &SchemaRef, options: &CopyOptions, kind: Lines) -> Result<Self> {
        Ok(Self {
            kind,
            options: options.clone(),
            columns: schema.fields().iter().map(|_| Texts::default()).collect(),
            never_null: options.force_not_null.among(schema)?,
            null_if_quoted: options.force_null.among(schema)?,
            place,
            line: 1,
            lines: Vec::new(),
            bytes: 0,
            rejects: Vec::new(),
            header: options.header,
            ended: false,
            schema: Arc::clone(schema),
        })
    }

    /// The end of the line that `bytes` begins with, and where the next one starts.
    fn end_of_line(&self, bytes: &[u8], last: bool) -> Result<Option<(usize, usize)>> {
        let found = match self.kind {
            Lines::Text => text::newline(bytes),
            Lines::Csv => csv::newline(bytes, &self.options),
        };
        match found {
            Some(at) => {
                let end = if at > 0 && bytes[at - 1] == b'\r' { at - 1 } else { at };
                Ok(Some((end, at + 1)))
            }
            None if !last || bytes.is_empty() => Ok(None),
            None => {
                let end = if bytes.ends_with(b"\r") { bytes.len() - 1 } else { bytes.len() };
                Ok(Some((end, bytes.len())))
            }
        }
    }

    /// Takes the values of one line.
    fn row(&mut self, line: &[u8]) -> Result<()> {
        let mut rest = Some(line);
        for at in 0..self.columns.len() {
            let Some(field) = rest else {
                return Err(malformed(format!("missing data for column \"{}\"", self.schema.field(at).name())));
            };
            let column = &mut self.columns[at];
            let start = column.start();
            let (found, after) = match self.kind {
                Lines::Text => text::field(field, &self.options, column.bytes())?,
                Lines::Csv => {
                    csv::field(field, &self.options, self.never_null[at], self.null_if_quoted[at], column.bytes())?
                }
            };
            column.end(start, matches!(found, Field::Null));
            rest = after;
        }
        // A table without columns has empty lines.
        if rest.is_some_and(|rest| !self.columns.is_empty() || !rest.is_empty()) {
            return Err(malformed("extra data after last expected column"));
        }
        Ok(())
    }

    /// Whether a line is left out that has a value which cannot be read.
    fn leaves_out(&self) -> bool {
        self.options.on_error != OnError::Abort
    }

    /// Whether so is a line that has too few values, or too many. One whose quotes do not end is not: it may be the rest of
    /// the file.
    fn leaves_out_line(&self, line: &[u8]) -> bool {
        let ends = || self.kind == Lines::Text || csv::newline(&[line, b"\n"].concat(), &self.options).is_some();
        self.options.on_error == OnError::Skip && ends()
    }

    /// Leaves out the lines gathered that cannot be read, and answers the others with their numbers.
    fn readable(&mut self, columns: &[Texts], lines: &[u64]) -> (Vec<Texts>, Vec<u64>) {
        let mut readable = Vec::with_capacity(lines.len());
        for (row, line) in lines.iter().enumerate() {
            let mut checked = columns.iter().zip(self.schema.fields()).map(|(column, field)| {
                column.check(row, field).map_err(|error| format!("{}: {}", field.name(), error.message))
            });
            match checked.find_map(Result::err) {
                None => readable.push(row),
                Some(reason) => {
                    let values = columns.iter().map(|column| column.value(row));
                    self.rejects.push(Reject { line: *line, reason, text: csv::line(values) });
                }
            }
        }
        let lines = readable.iter().map(|row| lines[*row]).collect();
        (columns.iter().map(|column| column.only(&readable)).collect(), lines)
    }

    /// The first line, which names the columns.
    fn check_header(&mut self, line: &[u8]) -> Result<()> {
        if std::mem::replace(&mut self.header, Header::Absent) != Header::Match {
            return Ok(());
        }
        let mut names = vec![Texts::default(); self.columns.len()];
        std::mem::swap(&mut self.columns, &mut names);
        let read = self.row(line);
        std::mem::swap(&mut self.columns, &mut names);
        read?;
        for (at, field) in self.schema.fields().iter().enumerate() {
            let name = names[at].value(0).map(String::from_utf8_lossy);
            if name.as_deref() != Some(field.name().as_str()) {
                let found = name.map_or("NULL".to_owned(), |name| format!("\"{name}\""));
                let message = format!(
                    "column name mismatch in header line field {}: got {found}, expected \"{}\"",
                    at + 1,
                    field.name()
                );
                return Err(malformed(message));
            }
        }
        Ok(())
    }
}

impl Rows for TextRows {
    fn take(&mut self, bytes: &[u8], last: bool) -> Result<usize> {
        let mut at = 0;
        while self.gathered().0 < BATCH_ROWS && self.bytes < BATCH_BYTES && !self.ended {
            let Some((end, next)) = self.end_of_line(&bytes[at..], last)? else { return Ok(at) };
            let line = &bytes[at..at + end];
            let here = |error: Error, place: &Place, number| {
                let context = format!("{}: \"{}\"", place.line(number), shown(line));
                if error.context.is_some() { error } else { error.context(context) }
            };
            if line == b"\\." {
                self.ended = true;
            } else if self.header != Header::Absent {
                self.check_header(line).map_err(|error| here(error, &self.place, self.line))?;
            } else {
                match self.row(line) {
                    Ok(()) => self.lines.push(self.line),
                    Err(error) if self.leaves_out_line(line) => {
                        let rows = self.lines.len();
                        self.columns.iter_mut().for_each(|column| column.truncate(rows));
                        let text = csv::shown(line);
                        self.rejects.push(Reject { line: self.line, reason: error.message, text });
                    }
                    Err(error) => return Err(here(error, &self.place, self.line)),
                }
                self.bytes += line.len();
            }
            // A value may hold line breaks of its own.
            self.line += bytes[at..at + next].iter().filter(|byte| **byte == b'\n').count().max(1) as u64;
            at += next;
        }
        // What comes after the end is of no interest.
        Ok(if self.ended { bytes.len() } else { at })
    }

    fn ended(&self) -> bool {
        self.ended
    }

    fn gathered(&self) -> (usize, usize) {
        (self.lines.len() + self.rejects.len(), self.bytes)
    }

    fn finish(&mut self) -> Result<Gathered> {
        let mut lines = std::mem::take(&mut self.lines);
        let mut columns: Vec<Texts> = self.columns.iter_mut().map(std::mem::take).collect();
        columns.iter_mut().for_each(|column| column.truncate(lines.len()));
        self.bytes = 0;
        let arrays = |columns: &[Texts], lines: &[u64]| -> Result<Vec<ArrayRef>> {
            let columns = columns.iter().zip(self.schema.fields());
            columns.map(|(column, field)| column.array(field, lines, &self.place)).collect()
        };
        let arrays = match arrays(&columns, &lines) {
            Err(_) if self.leaves_out() => {
                (columns, lines) = self.readable(&columns, &lines);
                let columns = columns.iter().zip(self.schema.fields());
                columns.map(|(column, field)| column.array(field, &lines, &self.place)).collect::<Result<_>>()?
            }
            arrays => arrays?,
        };
        let mut rejects = std::mem::take(&mut self.rejects);
        rejects.sort_by_key(|reject| reject.line);
        Ok(Gathered { columns: arrays, rows: lines.len(), rejects })
    }
}
