//! One column of one batch, ready to be written value by value.

use bytes::{BufMut, BytesMut};
use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::array::timezone::Tz;
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::datatypes::{Field, Schema};
use datafusion::arrow::record_batch::RecordBatch;
use pgwire::api::Type;

use super::super::types::wire_type;
use super::{binary, text};
use crate::error::{Error, Kind, Result};

/// How a value is written down, as the client asked for it in Bind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Format {
    Text,
    Binary,
}

impl Format {
    /// The format of a column or parameter: none are given for all text, one for all alike, or one for each.
    pub(in super::super) fn of(formats: &[Self], at: usize) -> Self {
        match formats {
            [] => Self::Text,
            [all] => *all,
            each => each.get(at).copied().unwrap_or(Self::Text),
        }
    }
}

/// What the session's settings say about how text looks.
#[derive(Debug, Clone, Copy, Default)]
pub(in super::super) struct Style {
    /// Where `timestamp with time zone` is shown; `None` is UTC.
    pub zone: Option<Tz>,
}

/// Writes the value of a row, which is not NULL, without its length.
pub(super) type Write = Box<dyn Fn(usize, &mut BytesMut) -> Result<()> + Send + Sync>;

/// A column's writer and its NULLs.
pub(in super::super) struct Column {
    nulls: Option<NullBuffer>,
    write: Write,
}

impl Column {
    pub(super) fn new(array: &ArrayRef, write: Write) -> Self {
        Self { nulls: array.logical_nulls().filter(|nulls| nulls.null_count() > 0), write }
    }

    pub(super) fn text(array: &ArrayRef, of: &Type, style: Style) -> Result<Self> {
        Ok(Self::new(array, text::writer(array, of, style)?))
    }

    pub(super) fn binary(array: &ArrayRef, of: &Type) -> Result<Self> {
        Ok(Self::new(array, binary::writer(array, of)?))
    }

    pub(super) fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }

    pub(super) fn write(&self, row: usize, out: &mut BytesMut) -> Result<()> {
        (self.write)(row, out)
    }

    /// The value with its length in front; -1 stands for NULL.
    pub(super) fn put(&self, row: usize, out: &mut BytesMut) -> Result<()> {
        if self.is_null(row) {
            out.put_i32(-1);
            return Ok(());
        }
        let start = out.len();
        out.put_i32(0);
        (self.write)(row, out)?;
        set_length(out, start, out.len() - start - 4)
    }
}

/// How the columns of a result are written: settled once, used for each of its batches.
#[derive(Debug, Clone)]
pub(in super::super) struct Encoding {
    types: Vec<Type>,
    formats: Vec<Format>,
    style: Style,
}

impl Encoding {
    pub(in super::super) fn new(schema: &Schema, formats: &[Format], style: Style) -> Result<Self> {
        let types = schema.fields().iter().map(|field| wire_type(field)).collect::<Result<Vec<_>>>()?;
        let formats = (0..types.len()).map(|column| Format::of(formats, column)).collect();
        Ok(Self { types, formats, style })
    }

    pub(in super::super) fn types(&self) -> &[Type] {
        &self.types
    }

    /// The writers for one batch.
    pub(in super::super) fn columns(&self, batch: &RecordBatch) -> Result<Vec<Column>> {
        if batch.num_columns() != self.types.len() {
            let (has, promised) = (batch.num_columns(), self.types.len());
            return Err(Error::internal(format!("a batch has {has} columns, its schema promised {promised}")));
        }
        let schema = batch.schema();
        let columns = batch.columns().iter().zip(schema.fields()).zip(self.types.iter().zip(&self.formats));
        columns
            .map(|((array, field), (of, format))| {
                self.check(field, of)?;
                match format {
                    Format::Text => Column::text(array, of, self.style),
                    Format::Binary => Column::binary(array, of),
                }
            })
            .collect()
    }

    /// The client reads bytes by the type it was told: a batch of another type must never reach it. Metadata may get
    /// lost on the way through a plan, so bytes that were described as a uuid may come without their name.
    fn check(&self, field: &Field, described: &Type) -> Result<()> {
        let is = wire_type(field)?;
        let named = match *described {
            Type::UUID => is == Type::BYTEA,
            Type::JSON | Type::NAME | Type::CHAR => is == Type::TEXT,
            Type::OID => is == Type::INT4,
            Type::INT4 => is == Type::OID,
            Type::TEXT => matches!(is, Type::NAME | Type::CHAR),
            Type::OID_ARRAY => is == Type::INT4_ARRAY,
            _ => false,
        };
        if is == *described || named {
            return Ok(());
        }
        Err(Error::internal(format!("column \"{}\" was described as {described} but is {is}", field.name())))
    }
}

/// Appends rows from `from` on as `DataRow` messages until `enough` bytes are in `out`, and says which row is next.
/// When a row fails, `out` ends with the row before.
pub(in super::super) fn put_rows(
    columns: &[Column],
    rows: std::ops::Range<usize>,
    enough: usize,
    out: &mut BytesMut,
) -> Result<usize> {
    for row in rows.clone() {
        if out.len() >= enough {
            return Ok(row);
        }
        let start = out.len();
        if let Err(error) = put_row(columns, row, out) {
            out.truncate(start);
            return Err(error);
        }
    }
    Ok(rows.end)
}

fn put_row(columns: &[Column], row: usize, out: &mut BytesMut) -> Result<()> {
    out.put_u8(b'D');
    let start = out.len();
    out.put_i32(0);
    // More columns than fit were refused when the row was described.
    out.put_u16(columns.len() as u16);
    for column in columns {
        column.put(row, out)?;
    }
    set_length(out, start, out.len() - start)
}

/// Fills in a length that was left open at `start`.
pub(super) fn set_length(out: &mut BytesMut, start: usize, length: usize) -> Result<()> {
    let Ok(length) = i32::try_from(length) else {
        return Err(Error::new(Kind::LimitExceeded, "a row is larger than 2 GB").hint("select fewer columns"));
    };
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{Int32Array, StringArray};
    use datafusion::arrow::datatypes::DataType;

    use super::*;

    fn people() -> RecordBatch {
        let schema =
            Schema::new(vec![Field::new("id", DataType::Int32, true), Field::new("name", DataType::Utf8, true)]);
        let ids = Int32Array::from(vec![Some(1), None, Some(3)]);
        let names = StringArray::from(vec![Some("ann"), Some("bob"), None]);
        RecordBatch::try_new(Arc::new(schema), vec![Arc::new(ids), Arc::new(names)]).unwrap()
    }

    #[test]
    fn a_row_is_a_message() {
        let batch = people();
        let encoding = Encoding::new(&batch.schema(), &[], Style::default()).unwrap();
        let mut out = BytesMut::new();
        assert_eq!(put_rows(&encoding.columns(&batch).unwrap(), 0..1, usize::MAX, &mut out).unwrap(), 1);
        assert_eq!(&out[..], b"D\0\0\0\x12\0\x02\0\0\0\x011\0\0\0\x03ann");
    }

    #[test]
    fn a_slice_starts_where_it_starts_and_null_has_no_bytes() {
        let batch = people().slice(1, 2);
        let encoding = Encoding::new(&batch.schema(), &[Format::Binary], Style::default()).unwrap();
        let mut out = BytesMut::new();
        put_rows(&encoding.columns(&batch).unwrap(), 0..2, usize::MAX, &mut out).unwrap();
        let bob = b"D\0\0\0\x11\0\x02\xff\xff\xff\xff\0\0\0\x03bob";
        let nobody = b"D\0\0\0\x12\0\x02\0\0\0\x04\0\0\0\x03\xff\xff\xff\xff";
        assert_eq!(&out[..], [bob.as_slice(), nobody].concat());
    }

    #[test]
    fn writing_stops_when_there_is_enough() {
        let batch = people();
        let encoding = Encoding::new(&batch.schema(), &[], Style::default()).unwrap();
        let mut out = BytesMut::new();
        assert_eq!(put_rows(&encoding.columns(&batch).unwrap(), 0..3, 1, &mut out).unwrap(), 1);
    }

    #[test]
    fn a_batch_of_another_type_is_not_sent() {
        let batch = people();
        let promised =
            Schema::new(vec![Field::new("id", DataType::Int64, true), Field::new("name", DataType::Utf8, true)]);
        let encoding = Encoding::new(&promised, &[], Style::default()).unwrap();
        assert!(encoding.columns(&batch).is_err());
    }
}
