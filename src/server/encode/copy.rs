//! COPY out: rows of a batch → `CopyData` messages, one a row, as text, csv or binary.

use std::ops::Range;

use bytes::{BufMut, BytesMut};
use datafusion::arrow::datatypes::Schema;
use pgwire::api::Type;

use super::column::{Column, Format, set_length};
use crate::engine::{CopyFormat, CopyOptions, Header};
use crate::error::Result;

/// What a binary file starts with: its signature, no flags, no extension.
const BINARY_START: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What it ends with, instead of a number of columns.
const BINARY_END: &[u8] = b"\xff\xff";

/// How the rows of one COPY are written.
pub(in super::super) struct CopyEncoding {
    options: CopyOptions,
    /// Letters that a value may not hold as they are.
    special: Box<[bool; 256]>,
    /// Columns of types whose values never hold one.
    plain: Vec<bool>,
    /// Columns that are quoted whatever they hold.
    quoted: Vec<bool>,
    /// What goes in front of the first row, in the same message.
    start: &'static [u8],
    /// Whether each row is a message, and not just a part of a file.
    messages: bool,
}

impl CopyEncoding {
    pub(in super::super) fn new(options: &CopyOptions, schema: &Schema, types: &[Type]) -> Result<Self> {
        let mut special = Box::new([false; 256]);
        let letters: &[u8] = match options.format {
            CopyFormat::Text => b"\\\x08\x0c\n\r\t\x0b",
            CopyFormat::Csv => &[b'\n', b'\r', options.quote],
            CopyFormat::Binary => b"",
        };
        letters.iter().chain([&options.delimiter]).for_each(|letter| special[usize::from(*letter)] = true);
        // In numbers, times and the like there is nothing else than this.
        let in_plain = |letter: &u8| letter.is_ascii_alphanumeric() || b" -+.:".contains(letter);
        let none = [options.delimiter, options.quote].iter().any(in_plain);
        let none = none || !(options.null.is_empty() || options.null.starts_with('\\'));
        Ok(Self {
            options: options.clone(),
            special,
            plain: types.iter().map(|of| !none && is_plain(of)).collect(),
            quoted: options.force_quote.among(schema)?,
            start: if options.format == CopyFormat::Binary { BINARY_START } else { b"" },
            messages: true,
        })
    }

    /// The same for a file that is ours to write.
    pub(in super::super) fn without_messages(self) -> Self {
        Self { messages: false, ..self }
    }

    /// How the columns themselves are written.
    pub(in super::super) fn format(options: &CopyOptions) -> Format {
        match options.format {
            CopyFormat::Text | CopyFormat::Csv => Format::Text,
            CopyFormat::Binary => Format::Binary,
        }
    }

    /// The line of names, where one is wanted.
    pub(in super::super) fn put_header(&self, schema: &Schema, out: &mut BytesMut) -> Result<()> {
        if self.options.header == Header::Absent {
            return Ok(());
        }
        message(self.messages, out, |out| {
            for (at, field) in schema.fields().iter().enumerate() {
                if at > 0 {
                    out.put_u8(self.options.delimiter);
                }
                let start = out.len();
                out.put_slice(field.name().as_bytes());
                self.secure(start, false, schema.fields().len() == 1, out);
            }
            out.put_u8(b'\n');
            Ok(())
        })
    }

    /// Appends rows until `enough` bytes are in `out`, and says which row is next.
    pub(in super::super) fn put_rows(
        &mut self,
        columns: &[Column],
        rows: Range<usize>,
        enough: usize,
        out: &mut BytesMut,
    ) -> Result<usize> {
        for row in rows.clone() {
            if out.len() >= enough {
                return Ok(row);
            }
            message(self.messages, out, |out| match self.options.format {
                CopyFormat::Text | CopyFormat::Csv => self.put_line(columns, row, out),
                CopyFormat::Binary => {
                    out.put_slice(self.start);
                    // More columns than fit were refused before.
                    out.put_u16(columns.len() as u16);
                    columns.iter().try_for_each(|column| column.put(row, out))
                }
            })?;
            self.start = b"";
        }
        Ok(rows.end)
    }

    /// What comes after the last row.
    pub(in super::super) fn put_end(&self, out: &mut BytesMut) -> Result<()> {
        if self.options.format != CopyFormat::Binary {
            return Ok(());
        }
        message(self.messages, out, |out| {
            out.put_slice(self.start);
            out.put_slice(BINARY_END);
            Ok(())
        })
    }

    fn put_line(&self, columns: &[Column], row: usize, out: &mut BytesMut) -> Result<()> {
        for (at, column) in columns.iter().enumerate() {
            if at > 0 {
                out.put_u8(self.options.delimiter);
            }
            if column.is_null(row) {
                out.put_slice(self.options.null.as_bytes());
                continue;
            }
            let start = out.len();
            column.write(row, out)?;
            if !self.plain[at] || self.quoted[at] {
                self.secure(start, self.quoted[at], columns.len() == 1, out);
            }
        }
        out.put_u8(b'\n');
        Ok(())
    }

    /// Escapes or quotes the value that begins at `start`, if it would be misread as it is.
    fn secure(&self, start: usize, quoted: bool, alone: bool, out: &mut BytesMut) {
        let value = &out[start..];
        let special = value.iter().any(|byte| self.special[usize::from(*byte)]);
        if self.options.format == CopyFormat::Text {
            if special {
                self.escape(start, out);
            }
        } else if quoted || special || value == self.options.null.as_bytes() || (alone && value == b"\\.") {
            self.quote(start, out);
        }
    }

    fn escape(&self, start: usize, out: &mut BytesMut) {
        let plain = out.split_off(start);
        for byte in &plain {
            if self.special[usize::from(*byte)] {
                out.put_u8(b'\\');
            }
            out.put_u8(match byte {
                0x08 => b'b',
                0x0c => b'f',
                b'\n' => b'n',
                b'\r' => b'r',
                b'\t' => b't',
                0x0b => b'v',
                byte => *byte,
            });
        }
    }

    fn quote(&self, start: usize, out: &mut BytesMut) {
        let CopyOptions { quote, escape, .. } = self.options;
        let plain = out.split_off(start);
        out.put_u8(quote);
        for byte in &plain {
            if *byte == quote || *byte == escape {
                out.put_u8(escape);
            }
            out.put_u8(*byte);
        }
        out.put_u8(quote);
    }
}

fn is_plain(of: &Type) -> bool {
    matches!(
        *of,
        Type::BOOL
            | Type::INT2
            | Type::INT4
            | Type::INT8
            | Type::FLOAT4
            | Type::FLOAT8
            | Type::NUMERIC
            | Type::DATE
            | Type::TIME
            | Type::TIMESTAMP
            | Type::TIMESTAMPTZ
            | Type::INTERVAL
            | Type::UUID
    )
}

/// What `put` writes, as a `CopyData` message if it shall be one; nothing if that fails.
fn message(is_one: bool, out: &mut BytesMut, put: impl FnOnce(&mut BytesMut) -> Result<()>) -> Result<()> {
    let start = out.len();
    if is_one {
        out.put_slice(b"d\0\0\0\0");
    }
    let put = put(out).and_then(|()| match is_one {
        true => set_length(out, start + 1, out.len() - start - 1),
        false => Ok(()),
    });
    if put.is_err() {
        out.truncate(start);
    }
    put
}
