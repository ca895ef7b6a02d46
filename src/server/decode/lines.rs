//! Files of lines: what text and csv have in common.

use std::sync::Arc;

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::SchemaRef;

use super::columns::Texts;
use super::{BATCH_BYTES, BATCH_ROWS, Place, Rows, csv, malformed, shown, text};
use crate::engine::{CopyOptions, Header};
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
        while self.lines.len() < BATCH_ROWS && self.bytes < BATCH_BYTES && !self.ended {
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
                self.row(line).map_err(|error| here(error, &self.place, self.line))?;
                self.lines.push(self.line);
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
        (self.lines.len(), self.bytes)
    }

    fn columns(&mut self) -> Result<Vec<ArrayRef>> {
        let lines = std::mem::take(&mut self.lines);
        self.bytes = 0;
        let columns = self.columns.iter_mut().zip(self.schema.fields());
        columns.map(|(column, field)| column.finish(field, &lines, &self.place)).collect()
    }
}
