//! Single columns: found by name, read as numbers or texts, and put together again.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, ListArray, StructArray, new_empty_array};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{DataType, Field, Fields, Float64Type, Schema};
use datafusion::arrow::record_batch::RecordBatch;

use crate::error::{Error, Kind, Result, nearest};
use crate::frame::sql_name;

/// The position of a column by name: exactly, or else ignoring case.
pub fn column(schema: &Schema, name: &str) -> Result<usize> {
    let fields = schema.fields();
    let exact = fields.iter().position(|field| field.name() == name);
    if let Some(at) = exact.or_else(|| fields.iter().position(|field| field.name().eq_ignore_ascii_case(name))) {
        return Ok(at);
    }
    let names = || fields.iter().map(|field| field.name().as_str());
    let error = Error::new(Kind::UnknownColumn, format!("column \"{name}\" does not exist in the query"));
    Err(match nearest(name, names()) {
        Some(near) => error.hint(format!("did you mean \"{near}\"?")),
        None => error.hint(format!("the query gives {}", names().collect::<Vec<_>>().join(", "))),
    })
}

/// A column as 64-bit floats; NULL stays NULL. Dates and times become seconds since 1970.
pub fn numbers(array: &ArrayRef) -> Result<Vec<Option<f64>>> {
    let strict = CastOptions { safe: false, ..Default::default() };
    let seconds = match array.data_type() {
        DataType::Timestamp(unit, _) => {
            let ticks = cast_with_options(array, &DataType::Int64, &strict)?;
            let per_second = match unit {
                datafusion::arrow::datatypes::TimeUnit::Second => 1.0,
                datafusion::arrow::datatypes::TimeUnit::Millisecond => 1e3,
                datafusion::arrow::datatypes::TimeUnit::Microsecond => 1e6,
                datafusion::arrow::datatypes::TimeUnit::Nanosecond => 1e9,
            };
            Some((ticks, per_second))
        }
        DataType::Date32 => Some((cast_with_options(array, &DataType::Int32, &strict)?, 1.0 / 86_400.0)),
        DataType::Date64 => Some((cast_with_options(array, &DataType::Int64, &strict)?, 1e3)),
        _ => None,
    };
    let (array, per_second) = seconds.unwrap_or_else(|| (Arc::clone(array), 1.0));
    let floats = cast_with_options(&array, &DataType::Float64, &strict)?;
    Ok(floats.as_primitive::<Float64Type>().iter().map(|value| value.map(|value| value / per_second)).collect())
}

/// A column of numbers as 64-bit floats. Texts, times and truths are no numbers, even where they could be cast to some.
pub fn measures(array: &ArrayRef, name: &str) -> Result<Vec<Option<f64>>> {
    match array.data_type() {
        data_type if data_type.is_numeric() || data_type == &DataType::Null => numbers(array),
        other => {
            Err(Error::new(Kind::WrongType, format!("column \"{name}\" must be a number, not {}", sql_name(other)))
                .hint(format!("cast it in the query if it holds numbers: {name}::double precision")))
        }
    }
}

/// A column as text; NULL stays NULL.
pub fn texts(array: &ArrayRef) -> Result<Vec<Option<String>>> {
    let texts = cast_with_options(array, &DataType::Utf8, &CastOptions { safe: false, ..Default::default() })?;
    Ok(texts.as_string::<i32>().iter().map(|value| value.map(str::to_owned)).collect())
}

/// A list column whose elements are rows: list `i` holds the rows `lengths[..i].sum()..` of `rows`.
///
/// `None` makes the whole list NULL.
pub fn list_of_structs(fields: &Fields, rows: &RecordBatch, lengths: &[Option<usize>]) -> Result<ListArray> {
    let structs: ArrayRef = if fields.is_empty() {
        new_empty_array(&DataType::Struct(fields.clone()))
    } else {
        Arc::new(StructArray::try_new(fields.clone(), rows.columns().to_vec(), None)?)
    };
    let offsets = OffsetBuffer::from_lengths(lengths.iter().map(|length| length.unwrap_or(0)));
    let nulls = lengths
        .iter()
        .any(Option::is_none)
        .then(|| NullBuffer::from(lengths.iter().map(Option::is_some).collect::<Vec<_>>()));
    let element = Arc::new(Field::new_list_field(DataType::Struct(fields.clone()), true));
    Ok(ListArray::try_new(element, offsets, structs, nulls)?)
}
