//! The text format: what psql shows and most drivers read.

use std::ops::Range;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use datafusion::arrow::array::types::{
    Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, DurationMicrosecondType,
    DurationMillisecondType, DurationNanosecondType, DurationSecondType, Float16Type, Float32Type, Float64Type,
    Int8Type, Int16Type, Int32Type, Int64Type, IntervalDayTimeType, IntervalMonthDayNanoType, IntervalYearMonthType,
    Time32MillisecondType, Time32SecondType, Time64MicrosecondType, Time64NanosecondType, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use datafusion::arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::datatypes::{DataType, IntervalUnit, TimeUnit};
use pgwire::api::Type;

use super::super::types::element_of;
use super::calendar::{self, put_date, put_time, put_timestamp, put_timestamp_in};
use super::column::{Column, Style, Write};
use super::interval::Interval;
use super::json;
use super::number::{Digits, put_float4, put_float8, put_integer, put_numeric};
use crate::error::{Error, Result};

/// The writer for an array that travels as type `of`.
pub(super) fn writer(array: &ArrayRef, of: &Type, style: Style) -> Result<Write> {
    Ok(match array.data_type() {
        // Every value is NULL, and NULL is not written.
        DataType::Null => Box::new(|_, _| Ok(())),
        DataType::Boolean => {
            let values = array.as_boolean().clone();
            Box::new(move |row, out| {
                out.put_u8(if values.value(row) { b't' } else { b'f' });
                Ok(())
            })
        }
        DataType::Int8 => each::<Int8Type>(array, |value, out| put_integer(i64::from(value), out)),
        DataType::Int16 => each::<Int16Type>(array, |value, out| put_integer(i64::from(value), out)),
        DataType::Int32 => each::<Int32Type>(array, |value, out| put_integer(i64::from(value), out)),
        DataType::Int64 => each::<Int64Type>(array, put_integer),
        DataType::UInt8 => each::<UInt8Type>(array, |value, out| put_integer(i64::from(value), out)),
        DataType::UInt16 => each::<UInt16Type>(array, |value, out| put_integer(i64::from(value), out)),
        DataType::UInt32 => each::<UInt32Type>(array, |value, out| put_integer(i64::from(value), out)),
        DataType::UInt64 => each::<UInt64Type>(array, |value, out| put_numeric(&Digits::of(i128::from(value)), 0, out)),
        DataType::Float16 => each::<Float16Type>(array, |value, out| put_float4(value.to_f32(), out)),
        DataType::Float32 => each::<Float32Type>(array, put_float4),
        DataType::Float64 => each::<Float64Type>(array, put_float8),
        DataType::Decimal32(_, scale) => {
            let scale = *scale;
            each::<Decimal32Type>(array, move |value, out| put_numeric(&Digits::of(i128::from(value)), scale, out))
        }
        DataType::Decimal64(_, scale) => {
            let scale = *scale;
            each::<Decimal64Type>(array, move |value, out| put_numeric(&Digits::of(i128::from(value)), scale, out))
        }
        DataType::Decimal128(_, scale) => {
            let scale = *scale;
            each::<Decimal128Type>(array, move |value, out| put_numeric(&Digits::of(value), scale, out))
        }
        DataType::Decimal256(_, scale) => {
            let scale = *scale;
            try_each::<Decimal256Type>(array, move |value, out| {
                put_numeric(&Digits::parse(&value.to_string())?, scale, out);
                Ok(())
            })
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => strings(array),
        DataType::FixedSizeBinary(_) if *of == Type::UUID => bytes(array, put_uuid)?,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            bytes(array, put_hex)?
        }
        DataType::Date32 => each::<Date32Type>(array, |days, out| put_date(i64::from(days), out)),
        DataType::Date64 => each::<Date64Type>(array, |millis, out| put_date(millis.div_euclid(86_400_000), out)),
        DataType::Time32(TimeUnit::Second) => {
            each::<Time32SecondType>(array, |value, out| put_time(i64::from(value) * 1_000_000, out))
        }
        DataType::Time32(_) => {
            each::<Time32MillisecondType>(array, |value, out| put_time(i64::from(value) * 1000, out))
        }
        DataType::Time64(TimeUnit::Nanosecond) => {
            each::<Time64NanosecondType>(array, |value, out| put_time(value.div_euclid(1000), out))
        }
        DataType::Time64(_) => each::<Time64MicrosecondType>(array, put_time),
        DataType::Timestamp(unit, zone) => timestamps(array, *unit, zone.is_some(), style),
        DataType::Interval(_) | DataType::Duration(_) => intervals(array, |interval, out| interval.put(out))?,
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) => lists(array, of, style)?,
        DataType::Dictionary(..) => {
            let dictionary = array.as_any_dictionary();
            let keys = dictionary.normalized_keys();
            let write = writer(dictionary.values(), of, style)?;
            Box::new(move |row, out| write(keys[row], out))
        }
        DataType::Struct(_) | DataType::Map(..) => json::writer(array, style)?,
        other => return Err(Error::unsupported(format!("{other} has no text form")).hint("cast it to text")),
    })
}

/// A writer over the plain values of a primitive array.
pub(super) fn each<T: ArrowPrimitiveType>(
    array: &ArrayRef,
    put: impl Fn(T::Native, &mut BytesMut) + Send + Sync + 'static,
) -> Write {
    let values = array.as_primitive::<T>().values().clone();
    Box::new(move |row, out| {
        put(values[row], out);
        Ok(())
    })
}

/// The same for what may not fit its Postgres type.
pub(super) fn try_each<T: ArrowPrimitiveType>(
    array: &ArrayRef,
    put: impl Fn(T::Native, &mut BytesMut) -> Result<()> + Send + Sync + 'static,
) -> Write {
    let values = array.as_primitive::<T>().values().clone();
    Box::new(move |row, out| put(values[row], out))
}

/// Text is the same in both formats.
pub(super) fn strings(array: &ArrayRef) -> Write {
    fn written(text: &str, out: &mut BytesMut) -> Result<()> {
        out.put_slice(text.as_bytes());
        Ok(())
    }
    if let Some(values) = array.as_string_opt::<i32>().cloned() {
        return Box::new(move |row, out| written(values.value(row), out));
    }
    if let Some(values) = array.as_string_opt::<i64>().cloned() {
        return Box::new(move |row, out| written(values.value(row), out));
    }
    let values = array.as_string_view().clone();
    Box::new(move |row, out| written(values.value(row), out))
}

pub(super) fn bytes(array: &ArrayRef, put: fn(&[u8], &mut BytesMut)) -> Result<Write> {
    Ok(match array.data_type() {
        DataType::Binary => {
            let values = array.as_binary::<i32>().clone();
            Box::new(move |row, out| {
                put(values.value(row), out);
                Ok(())
            })
        }
        DataType::LargeBinary => {
            let values = array.as_binary::<i64>().clone();
            Box::new(move |row, out| {
                put(values.value(row), out);
                Ok(())
            })
        }
        DataType::BinaryView => {
            let values = array.as_binary_view().clone();
            Box::new(move |row, out| {
                put(values.value(row), out);
                Ok(())
            })
        }
        DataType::FixedSizeBinary(_) => {
            let values = array.as_fixed_size_binary().clone();
            Box::new(move |row, out| {
                put(values.value(row), out);
                Ok(())
            })
        }
        other => return Err(Error::internal(format!("{other} is not bytes"))),
    })
}

fn put_hex(bytes: &[u8], out: &mut BytesMut) {
    out.put_slice(b"\\x");
    hex(bytes, out);
}

fn put_uuid(bytes: &[u8], out: &mut BytesMut) {
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            out.put_u8(b'-');
        }
        hex(std::slice::from_ref(byte), out);
    }
}

fn hex(bytes: &[u8], out: &mut BytesMut) {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    for byte in bytes {
        out.put_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
}

fn timestamps(array: &ArrayRef, unit: TimeUnit, zoned: bool, style: Style) -> Write {
    let put = move |value, out: &mut BytesMut| {
        if zoned { put_timestamp_in(value, unit, style.zone, out) } else { put_timestamp(value, unit, out) }
    };
    match unit {
        TimeUnit::Second => each::<TimestampSecondType>(array, put),
        TimeUnit::Millisecond => each::<TimestampMillisecondType>(array, put),
        TimeUnit::Microsecond => each::<TimestampMicrosecondType>(array, put),
        TimeUnit::Nanosecond => each::<TimestampNanosecondType>(array, put),
    }
}

pub(super) fn intervals(array: &ArrayRef, put: fn(Interval, &mut BytesMut)) -> Result<Write> {
    let span = move |unit| {
        move |value, out: &mut BytesMut| {
            put(Interval::of_micros(calendar::micros(value, unit)?), out);
            Ok(())
        }
    };
    Ok(match array.data_type() {
        DataType::Interval(IntervalUnit::YearMonth) => each::<IntervalYearMonthType>(array, move |months, out| {
            put(Interval { months, days: 0, micros: 0 }, out);
        }),
        DataType::Interval(IntervalUnit::DayTime) => each::<IntervalDayTimeType>(array, move |value, out| {
            put(Interval { months: 0, days: value.days, micros: i64::from(value.milliseconds) * 1000 }, out);
        }),
        DataType::Interval(IntervalUnit::MonthDayNano) => each::<IntervalMonthDayNanoType>(array, move |value, out| {
            put(Interval { months: value.months, days: value.days, micros: value.nanoseconds / 1000 }, out);
        }),
        DataType::Duration(TimeUnit::Second) => try_each::<DurationSecondType>(array, span(TimeUnit::Second)),
        DataType::Duration(TimeUnit::Millisecond) => {
            try_each::<DurationMillisecondType>(array, span(TimeUnit::Millisecond))
        }
        DataType::Duration(TimeUnit::Microsecond) => {
            try_each::<DurationMicrosecondType>(array, span(TimeUnit::Microsecond))
        }
        DataType::Duration(TimeUnit::Nanosecond) => {
            try_each::<DurationNanosecondType>(array, span(TimeUnit::Nanosecond))
        }
        other => return Err(Error::internal(format!("{other} is not an interval"))),
    })
}

/// Where each row's items lie in the one array that holds them all.
pub(super) struct Lists {
    pub items: ArrayRef,
    bounds: Bounds,
}

enum Bounds {
    Small(OffsetBuffer<i32>),
    Large(OffsetBuffer<i64>),
    Every(usize),
}

impl Lists {
    pub(super) fn of(array: &ArrayRef) -> Result<Self> {
        Ok(match array.data_type() {
            DataType::List(_) => {
                let lists = array.as_list::<i32>();
                Self { items: Arc::clone(lists.values()), bounds: Bounds::Small(lists.offsets().clone()) }
            }
            DataType::LargeList(_) => {
                let lists = array.as_list::<i64>();
                Self { items: Arc::clone(lists.values()), bounds: Bounds::Large(lists.offsets().clone()) }
            }
            DataType::FixedSizeList(_, length) => {
                let length = usize::try_from(*length).unwrap_or_default();
                Self { items: Arc::clone(array.as_fixed_size_list().values()), bounds: Bounds::Every(length) }
            }
            other => return Err(Error::internal(format!("{other} is not a list"))),
        })
    }

    pub(super) fn range(&self, row: usize) -> Range<usize> {
        match &self.bounds {
            Bounds::Small(offsets) => offsets[row] as usize..offsets[row + 1] as usize,
            Bounds::Large(offsets) => offsets[row] as usize..offsets[row + 1] as usize,
            Bounds::Every(length) => row * length..(row + 1) * length,
        }
    }
}

fn lists(array: &ArrayRef, of: &Type, style: Style) -> Result<Write> {
    let lists = Lists::of(array)?;
    let nested =
        matches!(lists.items.data_type(), DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..));
    // The items of a list of lists are arrays of the same Postgres type, and are not quoted.
    let item = if nested { of.clone() } else { element_of(of).unwrap_or(Type::TEXT) };
    let items = Column::text(&lists.items, &item, style)?;
    Ok(Box::new(move |row, out| {
        out.put_u8(b'{');
        let range = lists.range(row);
        for item in range.clone() {
            if item > range.start {
                out.put_u8(b',');
            }
            if items.is_null(item) {
                out.put_slice(b"NULL");
                continue;
            }
            let start = out.len();
            items.write(item, out)?;
            if !nested && needs_quotes(&out[start..]) {
                quote(start, out);
            }
        }
        out.put_u8(b'}');
        Ok(())
    }))
}

fn needs_quotes(item: &[u8]) -> bool {
    let special =
        |byte: &u8| matches!(byte, b'"' | b'\\' | b'{' | b'}' | b',' | b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c);
    item.is_empty() || item.eq_ignore_ascii_case(b"NULL") || item.iter().any(special)
}

fn quote(start: usize, out: &mut BytesMut) {
    let plain = out.split_off(start);
    out.put_u8(b'"');
    for byte in &plain {
        if matches!(byte, b'"' | b'\\') {
            out.put_u8(b'\\');
        }
        out.put_u8(*byte);
    }
    out.put_u8(b'"');
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::*;
    use datafusion::arrow::buffer::NullBuffer;
    use datafusion::arrow::datatypes::{Field, IntervalDayTime, IntervalMonthDayNano, i256};

    use super::super::super::types::wire_type;
    use super::*;

    /// The text of each row, NULL where it is NULL.
    fn texts(array: impl Array + 'static) -> Vec<String> {
        let array: ArrayRef = Arc::new(array);
        let of = wire_type(&Field::new("x", array.data_type().clone(), true)).unwrap();
        typed(&array, &of)
    }

    fn typed(array: &ArrayRef, of: &Type) -> Vec<String> {
        let column = Column::text(array, of, Style::default()).unwrap();
        let text = |row| {
            let mut out = BytesMut::new();
            if column.is_null(row) {
                return "NULL".to_owned();
            }
            column.write(row, &mut out).unwrap();
            String::from_utf8(out.to_vec()).unwrap()
        };
        (0..array.len()).map(text).collect()
    }

    #[test]
    fn truth_and_numbers() {
        assert_eq!(texts(BooleanArray::from(vec![Some(true), None, Some(false)])), ["t", "NULL", "f"]);
        assert_eq!(texts(Int8Array::from(vec![-1])), ["-1"]);
        assert_eq!(texts(Int16Array::from(vec![i16::MIN])), ["-32768"]);
        assert_eq!(texts(Int32Array::from(vec![Some(5), None])), ["5", "NULL"]);
        assert_eq!(texts(Int64Array::from(vec![i64::MAX])), ["9223372036854775807"]);
        assert_eq!(texts(UInt8Array::from(vec![255])), ["255"]);
        assert_eq!(texts(UInt16Array::from(vec![65_535])), ["65535"]);
        assert_eq!(texts(UInt32Array::from(vec![u32::MAX])), ["4294967295"]);
        assert_eq!(texts(UInt64Array::from(vec![u64::MAX])), ["18446744073709551615"]);
        assert_eq!(
            texts(Float16Array::from(vec![<Float16Type as ArrowPrimitiveType>::Native::from_f32(1.5)])),
            ["1.5"]
        );
        assert_eq!(texts(Float32Array::from(vec![Some(0.1), None])), ["0.1", "NULL"]);
        assert_eq!(texts(Float64Array::from(vec![1.0, 1e20])), ["1", "1e+20"]);
    }

    #[test]
    fn decimals_of_every_width() {
        assert_eq!(texts(Decimal32Array::from(vec![12_345]).with_precision_and_scale(9, 2).unwrap()), ["123.45"]);
        assert_eq!(texts(Decimal64Array::from(vec![-5]).with_precision_and_scale(18, 1).unwrap()), ["-0.5"]);
        assert_eq!(
            texts(Decimal128Array::from(vec![Some(1), None]).with_precision_and_scale(38, 38).unwrap())[0].len(),
            40
        );
        let widest = Decimal256Array::from(vec![i256::from_i128(-1234)]).with_precision_and_scale(76, 4).unwrap();
        assert_eq!(texts(widest), ["-0.1234"]);
    }

    #[test]
    fn text_and_bytes() {
        assert_eq!(texts(StringArray::from(vec![Some("a"), None, Some("")])), ["a", "NULL", ""]);
        assert_eq!(texts(LargeStringArray::from(vec!["ü"])), ["ü"]);
        assert_eq!(texts(StringViewArray::from(vec!["longer than twelve bytes"])), ["longer than twelve bytes"]);
        assert_eq!(texts(BinaryArray::from(vec![&b"\x00\xff"[..]])), ["\\x00ff"]);
        assert_eq!(texts(LargeBinaryArray::from(vec![&b"a"[..]])), ["\\x61"]);
        assert_eq!(texts(BinaryViewArray::from(vec![&b""[..]])), ["\\x"]);
        let id: ArrayRef = Arc::new(FixedSizeBinaryArray::try_from_iter([[0x12_u8; 16]].iter()).unwrap());
        assert_eq!(typed(&id, &Type::UUID), ["12121212-1212-1212-1212-121212121212"]);
        assert_eq!(typed(&id, &Type::BYTEA)[0].len(), 34);
    }

    #[test]
    fn days_and_times() {
        assert_eq!(texts(Date32Array::from(vec![Some(0), None])), ["1970-01-01", "NULL"]);
        assert_eq!(texts(Date64Array::from(vec![-1])), ["1969-12-31"]);
        assert_eq!(texts(Time32SecondArray::from(vec![3661])), ["01:01:01"]);
        assert_eq!(texts(Time32MillisecondArray::from(vec![1500])), ["00:00:01.5"]);
        assert_eq!(texts(Time64MicrosecondArray::from(vec![1])), ["00:00:00.000001"]);
        assert_eq!(texts(Time64NanosecondArray::from(vec![1999])), ["00:00:00.000001"]);
        assert_eq!(texts(TimestampSecondArray::from(vec![0])), ["1970-01-01 00:00:00"]);
        assert_eq!(texts(TimestampMillisecondArray::from(vec![1])), ["1970-01-01 00:00:00.001"]);
        assert_eq!(texts(TimestampNanosecondArray::from(vec![-1])), ["1969-12-31 23:59:59.999999"]);
        let zoned = TimestampMicrosecondArray::from(vec![Some(0), None]).with_timezone("Europe/Berlin");
        assert_eq!(texts(zoned), ["1970-01-01 00:00:00+00", "NULL"]);
    }

    #[test]
    fn intervals_and_durations() {
        assert_eq!(texts(IntervalYearMonthArray::from(vec![Some(14), None])), ["1 year 2 mons", "NULL"]);
        assert_eq!(texts(IntervalDayTimeArray::from(vec![IntervalDayTime::new(1, 1000)])), ["1 day 00:00:01"]);
        let precise = IntervalMonthDayNanoArray::from(vec![IntervalMonthDayNano::new(1, 2, 3000)]);
        assert_eq!(texts(precise), ["1 mon 2 days 00:00:00.000003"]);
        assert_eq!(texts(DurationSecondArray::from(vec![90_000])), ["1 day 01:00:00"]);
        assert_eq!(texts(DurationMillisecondArray::from(vec![1])), ["00:00:00.001"]);
        assert_eq!(texts(DurationMicrosecondArray::from(vec![-1])), ["-00:00:00.000001"]);
        assert_eq!(texts(DurationNanosecondArray::from(vec![1000])), ["00:00:00.000001"]);
    }

    #[test]
    fn arrays_quote_what_would_be_misread() {
        let mut lists = ListBuilder::new(StringBuilder::new());
        for item in [Some("a"), Some("b c"), None, Some(""), Some("null"), Some("q\"\\"), Some("{x}")] {
            lists.values().append_option(item);
        }
        lists.append(true);
        lists.append(false);
        lists.append(true);
        assert_eq!(texts(lists.finish()), [r#"{a,"b c",NULL,"","null","q\"\\","{x}"}"#, "NULL", "{}"]);
    }

    #[test]
    fn arrays_of_every_kind_and_slices_of_them() {
        let numbers = vec![Some(vec![Some(1), None]), None, Some(vec![Some(3)])];
        let small = ListArray::from_iter_primitive::<Int32Type, _, _>(numbers.clone());
        assert_eq!(texts(small.slice(1, 2)), ["NULL", "{3}"]);
        let large = LargeListArray::from_iter_primitive::<Int32Type, _, _>(numbers);
        assert_eq!(texts(large), ["{1,NULL}", "NULL", "{3}"]);
        let pairs = vec![Some(vec![Some(1.0), Some(2.5)]), Some(vec![Some(3.0), None])];
        let fixed = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(pairs, 2);
        assert_eq!(texts(fixed.slice(1, 1)), ["{3,NULL}"]);
        let mut nested = ListBuilder::new(ListBuilder::new(Int32Builder::new()));
        nested.values().append_value([Some(1), Some(2)]);
        nested.values().append_value([Some(3), Some(4)]);
        nested.append(true);
        assert_eq!(texts(nested.finish()), ["{{1,2},{3,4}}"]);
    }

    #[test]
    fn dictionaries_are_their_values() {
        let words = DictionaryArray::<Int32Type>::from_iter([Some("a"), None, Some("b"), Some("a")]);
        assert_eq!(texts(words.slice(1, 3)), ["NULL", "b", "a"]);
        let values = StringArray::new(
            ["x", "y"].iter().map(|s| Some(*s)).collect::<StringArray>().offsets().clone(),
            StringArray::from(vec!["x", "y"]).values().clone(),
            Some(NullBuffer::from(vec![true, false])),
        );
        let holes = DictionaryArray::new(Int8Array::from(vec![0, 1]), Arc::new(values));
        assert_eq!(texts(holes), ["x", "NULL"]);
    }

    #[test]
    fn null_and_structs() {
        assert_eq!(texts(NullArray::new(2)), ["NULL", "NULL"]);
        let structs = StructArray::from(vec![(
            Arc::new(Field::new("n", DataType::Int32, true)),
            Arc::new(Int32Array::from(vec![1])) as ArrayRef,
        )]);
        assert_eq!(texts(structs), [r#"{"n":1}"#]);
    }
}
