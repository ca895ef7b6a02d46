//! The values of one column as text → an array of the column's type.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, StringArray};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::ScalarValue;

use super::super::encode::Format;
use super::super::parameters;
use super::super::requests::not_utf8;
use super::super::types::wire_type;
use super::{Place, null_not_allowed};
use crate::error::{Error, Result};

/// Texts one behind the other, and where each ends.
#[derive(Debug, Default, Clone)]
pub(super) struct Texts {
    bytes: Vec<u8>,
    ends: Vec<i32>,
    nulls: Vec<bool>,
}

impl Texts {
    /// Where the next text is to be written.
    pub(super) fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    pub(super) fn start(&self) -> usize {
        self.bytes.len()
    }

    /// The text that began at `start` is written.
    pub(super) fn end(&mut self, start: usize, is_null: bool) {
        if is_null {
            self.bytes.truncate(start);
        }
        // Batches and rows are far smaller than 2 GB.
        self.ends.push(self.bytes.len() as i32);
        self.nulls.push(is_null);
    }

    /// The text of a row; `None` is NULL.
    pub(super) fn value(&self, row: usize) -> Option<&[u8]> {
        let start = if row == 0 { 0 } else { self.ends[row - 1] as usize };
        (!self.nulls[row]).then(|| &self.bytes[start..self.ends[row] as usize])
    }

    /// Forgets what is behind so many rows: a line that failed may have left a value of its own.
    pub(super) fn truncate(&mut self, rows: usize) {
        self.ends.truncate(rows);
        self.nulls.truncate(rows);
        self.bytes.truncate(self.ends.last().map_or(0, |end| *end as usize));
    }

    /// Some of the rows.
    pub(super) fn only(&self, rows: &[usize]) -> Self {
        let mut only = Self::default();
        for row in rows {
            let start = only.start();
            only.bytes.extend_from_slice(self.value(*row).unwrap_or_default());
            only.end(start, self.nulls[*row]);
        }
        only
    }

    /// The array; what cannot be read is told by its line.
    pub(super) fn array(&self, field: &Field, lines: &[u64], place: &Place) -> Result<ArrayRef> {
        if !field.is_nullable()
            && let Some(row) = self.nulls.iter().position(|null| *null)
        {
            return Err(null_not_allowed(field.name()).context(place.column(lines[row], field.name())));
        }
        match self.strings() {
            Some(strings) => match self.quickly(&strings, field.data_type())? {
                Some(array) => Ok(array),
                None => self.one_by_one(field, lines, place),
            },
            None => Err(self.not_utf8(field, lines, place)),
        }
    }

    /// Whether one row can be read.
    pub(super) fn check(&self, row: usize, field: &Field) -> Result<()> {
        let text = self.value(row);
        match text {
            None if !field.is_nullable() => Err(null_not_allowed(field.name())),
            Some(text) if text.contains(&0) || std::str::from_utf8(text).is_err() => Err(not_utf8()),
            text => parameters::read(text, Format::Text, &wire_type(field)?, field.data_type()).map(|_| ()),
        }
    }

    /// The texts as an array; `None` if one of them is not a text.
    fn strings(&self) -> Option<StringArray> {
        if memchr::memchr(0, &self.bytes).is_some() {
            return None;
        }
        let offsets: Vec<i32> = std::iter::once(0).chain(self.ends.iter().copied()).collect();
        let nulls = self.nulls.contains(&true).then(|| self.nulls.iter().map(|null| !null).collect::<NullBuffer>());
        StringArray::try_new(OffsetBuffer::new(ScalarBuffer::from(offsets)), self.bytes.clone().into(), nulls).ok()
    }

    /// All at once, where Arrow reads the type as Postgres does; `None` if there is a value that it does not read.
    fn quickly(&self, strings: &StringArray, of: &DataType) -> Result<Option<ArrayRef>> {
        let as_arrow = match of {
            DataType::Utf8 => return Ok(Some(Arc::new(strings.clone()))),
            DataType::Timestamp(_, zone) => zone.is_some() || !self.zoned(),
            DataType::Date32 | DataType::Boolean => true,
            DataType::Decimal128(..) => true,
            of => of.is_integer() || of.is_floating(),
        };
        if !as_arrow {
            return Ok(None);
        }
        let options = CastOptions { safe: true, ..CastOptions::default() };
        let array = cast_with_options(strings, of, &options)?;
        Ok((array.null_count() == strings.null_count()).then_some(array))
    }

    /// Whether a moment may have a time zone, which a column without one ignores.
    fn zoned(&self) -> bool {
        (0..self.ends.len()).filter_map(|row| self.value(row)).any(|text| {
            text.get(10..).is_some_and(|clock| clock.iter().any(|byte| matches!(byte, b'+' | b'-' | b'Z' | b'z')))
        })
    }

    fn one_by_one(&self, field: &Field, lines: &[u64], place: &Place) -> Result<ArrayRef> {
        let (of, planned) = (wire_type(field)?, field.data_type());
        let value = |row: usize| {
            let text = self.value(row);
            parameters::read(text, Format::Text, &of, planned).map_err(|error| {
                let text = text.unwrap_or_default();
                error.context(place.value(lines[row], field.name(), text))
            })
        };
        let values: Vec<ScalarValue> = (0..lines.len()).map(value).collect::<Result<_>>()?;
        array(values, planned)
    }

    /// The error of the first text that is none.
    fn not_utf8(&self, field: &Field, lines: &[u64], place: &Place) -> Error {
        let wrong =
            |row: &usize| self.value(*row).is_some_and(|text| text.contains(&0) || std::str::from_utf8(text).is_err());
        match (0..lines.len()).find(wrong) {
            Some(row) => not_utf8().context(place.column(lines[row], field.name())),
            None => not_utf8(),
        }
    }
}

/// The values as one array.
pub(super) fn array(values: Vec<ScalarValue>, of: &DataType) -> Result<ArrayRef> {
    if values.is_empty() {
        return Ok(datafusion::arrow::array::new_empty_array(of));
    }
    if let Some(odd) = values.iter().find(|value| value.data_type() != *of) {
        return Err(Error::internal(format!("a column of {of} got a {}", odd.data_type())));
    }
    Ok(ScalarValue::iter_to_array(values)?)
}
