//! The binary format: what asyncpg, JDBC and psycopg ask for when they can.

use bytes::{BufMut, BytesMut};
use datafusion::arrow::array::types::{
    Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, Float16Type, Float32Type,
    Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Time32MillisecondType, Time32SecondType,
    Time64MicrosecondType, Time64NanosecondType, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use pgwire::api::Type;

use super::super::types::element_of;
use super::calendar::{binary_date, binary_timestamp};
use super::column::{Column, Style, Write};
use super::json;
use super::number::{Digits, put_binary_numeric};
use super::text::{Lists, bytes, each, intervals, strings, try_each};
use crate::error::{Error, Result};

/// The writer for an array that travels as type `of`.
pub(super) fn writer(array: &ArrayRef, of: &Type) -> Result<Write> {
    Ok(match array.data_type() {
        DataType::Null => Box::new(|_, _| Ok(())),
        DataType::Boolean => {
            let values = array.as_boolean().clone();
            Box::new(move |row, out| {
                out.put_u8(u8::from(values.value(row)));
                Ok(())
            })
        }
        DataType::Int8 => each::<Int8Type>(array, |value, out| out.put_i16(i16::from(value))),
        DataType::Int16 => each::<Int16Type>(array, |value, out| out.put_i16(value)),
        DataType::Int32 => each::<Int32Type>(array, |value, out| out.put_i32(value)),
        DataType::Int64 => each::<Int64Type>(array, |value, out| out.put_i64(value)),
        DataType::UInt8 => each::<UInt8Type>(array, |value, out| out.put_i16(i16::from(value))),
        DataType::UInt16 => each::<UInt16Type>(array, |value, out| out.put_i32(i32::from(value))),
        DataType::UInt32 => each::<UInt32Type>(array, |value, out| out.put_i64(i64::from(value))),
        DataType::UInt64 => {
            try_each::<UInt64Type>(array, |value, out| put_binary_numeric(&Digits::of(i128::from(value)), 0, out))
        }
        DataType::Float16 => each::<Float16Type>(array, |value, out| out.put_f32(value.to_f32())),
        DataType::Float32 => each::<Float32Type>(array, |value, out| out.put_f32(value)),
        DataType::Float64 => each::<Float64Type>(array, |value, out| out.put_f64(value)),
        DataType::Decimal32(_, scale) => {
            let scale = *scale;
            try_each::<Decimal32Type>(array, move |value, out| {
                put_binary_numeric(&Digits::of(i128::from(value)), scale, out)
            })
        }
        DataType::Decimal64(_, scale) => {
            let scale = *scale;
            try_each::<Decimal64Type>(array, move |value, out| {
                put_binary_numeric(&Digits::of(i128::from(value)), scale, out)
            })
        }
        DataType::Decimal128(_, scale) => {
            let scale = *scale;
            try_each::<Decimal128Type>(array, move |value, out| put_binary_numeric(&Digits::of(value), scale, out))
        }
        DataType::Decimal256(_, scale) => {
            let scale = *scale;
            try_each::<Decimal256Type>(array, move |value, out| {
                put_binary_numeric(&Digits::parse(&value.to_string())?, scale, out)
            })
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => strings(array),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            bytes(array, |bytes, out| out.put_slice(bytes))?
        }
        DataType::Date32 => try_each::<Date32Type>(array, |days, out| put_date(i64::from(days), out)),
        DataType::Date64 => try_each::<Date64Type>(array, |millis, out| put_date(millis.div_euclid(86_400_000), out)),
        DataType::Time32(TimeUnit::Second) => {
            each::<Time32SecondType>(array, |value, out| out.put_i64(i64::from(value) * 1_000_000))
        }
        DataType::Time32(_) => each::<Time32MillisecondType>(array, |value, out| out.put_i64(i64::from(value) * 1000)),
        DataType::Time64(TimeUnit::Nanosecond) => {
            each::<Time64NanosecondType>(array, |value, out| out.put_i64(value.div_euclid(1000)))
        }
        DataType::Time64(_) => each::<Time64MicrosecondType>(array, |value, out| out.put_i64(value)),
        DataType::Timestamp(unit, _) => timestamps(array, *unit),
        DataType::Interval(_) | DataType::Duration(_) => intervals(array, |interval, out| interval.put_binary(out))?,
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) => lists(array, of)?,
        DataType::Dictionary(..) => {
            let dictionary = array.as_any_dictionary();
            let keys = dictionary.normalized_keys();
            let write = writer(dictionary.values(), of)?;
            Box::new(move |row, out| write(keys[row], out))
        }
        // The binary form of json is its text.
        DataType::Struct(_) | DataType::Map(..) => json::writer(array, Style::default())?,
        other => return Err(Error::unsupported(format!("{other} has no binary form")).hint("cast it to text")),
    })
}

fn put_date(days: i64, out: &mut BytesMut) -> Result<()> {
    out.put_i32(binary_date(days)?);
    Ok(())
}

fn timestamps(array: &ArrayRef, unit: TimeUnit) -> Write {
    let put = move |value, out: &mut BytesMut| {
        out.put_i64(binary_timestamp(value, unit)?);
        Ok(())
    };
    match unit {
        TimeUnit::Second => try_each::<TimestampSecondType>(array, put),
        TimeUnit::Millisecond => try_each::<TimestampMillisecondType>(array, put),
        TimeUnit::Microsecond => try_each::<TimestampMicrosecondType>(array, put),
        TimeUnit::Nanosecond => try_each::<TimestampNanosecondType>(array, put),
    }
}

/// Lists inside one another, down to the array that holds the values.
struct Levels {
    lists: Vec<Lists>,
    /// NULLs of the lists below the first.
    inner: Vec<Option<datafusion::arrow::buffer::NullBuffer>>,
    items: Column,
    element: u32,
}

/// A Postgres array is a box: its number of dimensions, the length of each, then all items.
fn lists(array: &ArrayRef, of: &Type) -> Result<Write> {
    let element = element_of(of).unwrap_or(Type::TEXT);
    let mut lists = vec![Lists::of(array)?];
    let mut inner = Vec::new();
    let mut items = lists[0].items.clone();
    while let Ok(next) = Lists::of(&items) {
        inner.push(items.logical_nulls());
        items = next.items.clone();
        lists.push(next);
    }
    let levels = Levels { lists, inner, items: Column::binary(&items, &element)?, element: element.oid() };
    Ok(Box::new(move |row, out| levels.put(row, out)))
}

impl Levels {
    fn put(&self, row: usize, out: &mut BytesMut) -> Result<()> {
        let mut range = self.lists[0].range(row);
        let mut lengths = vec![range.len()];
        for (lists, nulls) in self.lists[1..].iter().zip(&self.inner) {
            if range.is_empty() {
                break;
            }
            let length = lists.range(range.start).len();
            let same = range
                .clone()
                .all(|at| lists.range(at).len() == length && !nulls.as_ref().is_some_and(|nulls| nulls.is_null(at)));
            if !same {
                let what = "an array whose inner lists differ in length or are NULL cannot be sent in binary";
                return Err(Error::unsupported(what).hint("cast it to text, or ask for it in text format"));
            }
            lengths.push(length);
            range = lists.range(range.start).start..lists.range(range.end - 1).end;
        }
        // However many dimensions: without an item it is the empty array.
        let empty = range.is_empty();
        out.put_i32(if empty { 0 } else { i32::try_from(lengths.len()).unwrap_or(i32::MAX) });
        out.put_i32(i32::from(range.clone().any(|item| self.items.is_null(item))));
        out.put_u32(self.element);
        if empty {
            return Ok(());
        }
        for length in lengths {
            let length = i32::try_from(length).map_err(|_| Error::internal("an array has more than 2³¹ items"))?;
            out.put_i32(length);
            out.put_i32(1);
        }
        range.into_iter().try_for_each(|item| self.items.put(item, out))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::*;
    use datafusion::arrow::datatypes::{Field, IntervalMonthDayNano};

    use super::super::super::types::wire_type;
    use super::*;

    /// The bytes of the first row, with their length in front.
    fn first(array: impl Array + 'static) -> Vec<u8> {
        let array: ArrayRef = Arc::new(array);
        let of = wire_type(&Field::new("x", array.data_type().clone(), true)).unwrap();
        let mut out = BytesMut::new();
        Column::binary(&array, &of).unwrap().put(0, &mut out).unwrap();
        out.to_vec()
    }

    fn with_length(bytes: &[u8]) -> Vec<u8> {
        [&(bytes.len() as i32).to_be_bytes(), bytes].concat()
    }

    #[test]
    fn numbers_are_big_endian_in_the_width_of_their_type() {
        assert_eq!(first(BooleanArray::from(vec![true])), with_length(&[1]));
        assert_eq!(first(Int8Array::from(vec![-1])), with_length(&(-1i16).to_be_bytes()));
        assert_eq!(first(Int16Array::from(vec![2])), with_length(&2i16.to_be_bytes()));
        assert_eq!(first(Int32Array::from(vec![3])), with_length(&3i32.to_be_bytes()));
        assert_eq!(first(Int64Array::from(vec![4])), with_length(&4i64.to_be_bytes()));
        assert_eq!(first(UInt8Array::from(vec![255])), with_length(&255i16.to_be_bytes()));
        assert_eq!(first(UInt16Array::from(vec![5])), with_length(&5i32.to_be_bytes()));
        assert_eq!(first(UInt32Array::from(vec![6])), with_length(&6i64.to_be_bytes()));
        assert_eq!(first(UInt64Array::from(vec![7])), with_length(&[0, 1, 0, 0, 0, 0, 0, 0, 0, 7]));
        assert_eq!(
            first(Float16Array::from(vec![<Float16Type as ArrowPrimitiveType>::Native::ONE])),
            with_length(&1f32.to_be_bytes())
        );
        assert_eq!(first(Float32Array::from(vec![1.5])), with_length(&1.5f32.to_be_bytes()));
        assert_eq!(first(Float64Array::from(vec![1.5])), with_length(&1.5f64.to_be_bytes()));
        assert_eq!(first(Int32Array::from(vec![None])), (-1i32).to_be_bytes());
    }

    #[test]
    fn moments_count_from_2000() {
        assert_eq!(first(Date32Array::from(vec![10_957])), with_length(&0i32.to_be_bytes()));
        assert_eq!(first(Date64Array::from(vec![0])), with_length(&(-10_957i32).to_be_bytes()));
        assert_eq!(first(TimestampSecondArray::from(vec![946_684_801])), with_length(&1_000_000i64.to_be_bytes()));
        assert_eq!(first(Time32SecondArray::from(vec![1])), with_length(&1_000_000i64.to_be_bytes()));
        assert_eq!(first(Time64NanosecondArray::from(vec![1000])), with_length(&1i64.to_be_bytes()));
        let interval = IntervalMonthDayNanoArray::from(vec![IntervalMonthDayNano::new(1, 2, 3000)]);
        assert_eq!(first(interval), with_length(&[0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 1]));
    }

    #[test]
    fn arrays_say_their_shape_first() {
        let numbers = vec![Some(vec![Some(1), None])];
        let list = ListArray::from_iter_primitive::<Int32Type, _, _>(numbers);
        let shape = [1, 1, 23, 2, 1, 4, 1, -1];
        assert_eq!(first(list), with_length(&shape.map(i32::to_be_bytes).concat()));
        let empty = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(vec![])]);
        assert_eq!(first(empty), with_length(&[0, 0, 23].map(i32::to_be_bytes).concat()));
    }

    #[test]
    fn boxes_have_two_dimensions_and_ragged_ones_are_refused() {
        let rows = |second: &[Option<i32>]| {
            let mut nested = ListBuilder::new(ListBuilder::new(Int32Builder::new()));
            nested.values().append_value([Some(1), Some(2)]);
            nested.values().append_value(second.iter().copied());
            nested.append(true);
            nested.finish()
        };
        let shape = [2, 0, 23, 2, 1, 2, 1, 4, 1, 4, 2, 4, 3, 4, 4];
        assert_eq!(first(rows(&[Some(3), Some(4)])), with_length(&shape.map(i32::to_be_bytes).concat()));
        let ragged: ArrayRef = Arc::new(rows(&[Some(3)]));
        assert!(Column::binary(&ragged, &Type::INT4_ARRAY).unwrap().put(0, &mut BytesMut::new()).is_err());
    }

    #[test]
    fn text_bytes_and_documents_are_themselves() {
        assert_eq!(first(StringViewArray::from(vec!["a"])), with_length(b"a"));
        assert_eq!(first(BinaryArray::from(vec![&b"\0"[..]])), with_length(b"\0"));
        assert_eq!(first(DictionaryArray::<Int32Type>::from_iter([Some("b")])), with_length(b"b"));
        let structs = StructArray::from(vec![(
            Arc::new(Field::new("n", DataType::Int32, true)),
            Arc::new(Int32Array::from(vec![1])) as ArrayRef,
        )]);
        assert_eq!(first(structs), with_length(br#"{"n":1}"#));
    }
}
