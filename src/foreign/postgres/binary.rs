//! `COPY … (FORMAT binary)` to Arrow: bytes as they come off the wire, straight into the columns of a batch.

use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use datafusion::arrow::array::{
    ArrayBuilder, ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float32Builder,
    Float64Builder, Int16Builder, Int32Builder, Int64Builder, IntervalMonthDayNanoBuilder, ListArray,
    NullBufferBuilder, RecordBatch, RecordBatchOptions, StringBuilder, Time64MicrosecondBuilder,
    TimestampMicrosecondBuilder,
};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{IntervalMonthDayNano, SchemaRef};

use crate::error::{Error, Kind, Result};
use crate::foreign::types::{RemoteType, Scalar};

/// What every file begins with; four bytes of flags and four of an extension's length follow.
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";

/// A batch is full when its rows are so many, or its values so large together.
const BATCH_BYTES: usize = 8 << 20;

/// 2000-01-01, from which PostgreSQL counts, in days and in microseconds since 1970-01-01.
const EPOCH_DAYS: i32 = 10_957;
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// Reads a file piece by piece; the pieces may end anywhere.
pub struct Decoder {
    schema: SchemaRef,
    columns: Vec<Column>,
    batch_rows: usize,
    /// What has come of a row that is not whole yet.
    rest: BytesMut,
    begun: bool,
    ended: bool,
    rows: usize,
    bytes: usize,
}

impl Decoder {
    /// `types` are those that the columns of `schema` were asked for as, in their order.
    pub fn new(schema: SchemaRef, types: &[RemoteType], batch_rows: usize) -> Self {
        let columns = types.iter().map(|of| Column::new(*of, batch_rows)).collect();
        Self { schema, columns, batch_rows, rest: BytesMut::new(), begun: false, ended: false, rows: 0, bytes: 0 }
    }

    /// Takes the next piece; answers the batches that it made full.
    pub fn push(&mut self, piece: Bytes) -> Result<Vec<RecordBatch>> {
        let mut full = Vec::new();
        if self.rest.is_empty() {
            let taken = self.read(&piece, &mut full)?;
            self.rest.extend_from_slice(&piece[taken..]);
        } else {
            self.rest.extend_from_slice(&piece);
            let rest = std::mem::take(&mut self.rest);
            let taken = self.read(&rest, &mut full)?;
            self.rest = rest;
            self.rest.advance(taken);
        }
        Ok(full)
    }

    /// The rows that are left when the file has ended.
    pub fn finish(&mut self) -> Result<Option<RecordBatch>> {
        match self.ended {
            true if self.rows == 0 => Ok(None),
            true => self.batch().map(Some),
            false => Err(broken("it ended in the middle")),
        }
    }

    /// Reads whole rows, and answers how many bytes they took.
    fn read(&mut self, bytes: &[u8], full: &mut Vec<RecordBatch>) -> Result<usize> {
        let mut at = 0;
        if !self.begun {
            let Some(header) = bytes.get(..SIGNATURE.len() + 8) else { return Ok(0) };
            if !header.starts_with(SIGNATURE) {
                return Err(broken("it does not begin like one"));
            }
            let Some(extension) = u32_at(header, SIGNATURE.len() + 4) else { return Ok(0) };
            at = header.len() + extension as usize;
            if bytes.len() < at {
                return Ok(0);
            }
            self.begun = true;
        }
        while !self.ended {
            match self.row(&bytes[at..])? {
                Some(taken) => at += taken,
                None => break,
            }
            if self.rows >= self.batch_rows || self.bytes >= BATCH_BYTES {
                full.push(self.batch()?);
            }
        }
        Ok(at)
    }

    /// Reads one row, or the mark of the end; `None`: it is not whole yet.
    fn row(&mut self, bytes: &[u8]) -> Result<Option<usize>> {
        let Some(fields) = bytes.get(..2).map(|count| i16::from_be_bytes([count[0], count[1]])) else {
            return Ok(None);
        };
        if fields == -1 {
            self.ended = true;
            return Ok(Some(2));
        }
        if usize::try_from(fields) != Ok(self.columns.len()) {
            return Err(broken(&format!("a row has {fields} fields where {} were asked for", self.columns.len())));
        }
        // First whether all of it is there: nothing is taken twice.
        let mut end = 2;
        for _ in 0..fields {
            let Some(length) = u32_at(bytes, end) else { return Ok(None) };
            end += 4 + if length == NULL { 0 } else { length as usize };
        }
        let Some(mut row) = bytes.get(2..end) else { return Ok(None) };
        for (column, field) in self.columns.iter_mut().zip(self.schema.fields()) {
            let value = take_value(&mut row).ok_or_else(|| broken("a row ended early"))?;
            column.push(value).map_err(|error| error.of(field.name()))?;
        }
        self.rows += 1;
        self.bytes += end;
        Ok(Some(end))
    }

    fn batch(&mut self) -> Result<RecordBatch> {
        let mut columns = Vec::with_capacity(self.columns.len());
        for (column, field) in self.columns.iter_mut().zip(self.schema.fields()) {
            let values = column.finish()?;
            // Plans know other layouts of the same: views of text, nanoseconds.
            columns.push(match values.data_type() == field.data_type() {
                true => values,
                false => cast(&values, field.data_type())?,
            });
        }
        let rows = RecordBatchOptions::new().with_row_count(Some(self.rows));
        (self.rows, self.bytes) = (0, 0);
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &rows)?)
    }
}

/// The length that stands for NULL.
const NULL: u32 = u32::MAX;

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes)
}

/// The next value: its length, then its bytes.
fn take_value<'a>(row: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let length = u32_at(row, 0)?;
    if length == NULL {
        *row = &row[4..];
        return Some(None);
    }
    let value = row.get(4..4 + length as usize)?;
    *row = &row[4 + length as usize..];
    Some(Some(value))
}

/// Why a value could not be read.
enum Unreadable {
    /// Not the bytes that its type has.
    Broken,
    /// One that has no place in the type that it is read as.
    NoPlace(&'static str),
}

impl Unreadable {
    fn of(self, column: &str) -> Error {
        match self {
            Self::Broken => broken(&format!("a value of column \"{column}\" is not of the type it was asked for as")),
            Self::NoPlace(what) => Error::new(Kind::OutOfRange, format!("column \"{column}\" holds {what}"))
                .hint("leave such rows out by WHERE, or read a view over there that replaces them"),
        }
    }
}

fn broken(why: &str) -> Error {
    Error::new(Kind::Protocol, format!("the foreign server sent a file of COPY that cannot be read: {why}"))
}

/// A column of the batch that is being made.
struct Column {
    values: Values,
    /// Of a list, where each row's items end, and which rows are NULL.
    lists: Option<Lists>,
    of: RemoteType,
}

struct Lists {
    ends: Vec<i32>,
    nulls: NullBufferBuilder,
}

enum Values {
    Bool(BooleanBuilder),
    Int2(Int16Builder),
    Int4(Int32Builder),
    Int8(Int64Builder),
    Oid(Int64Builder),
    Float4(Float32Builder),
    Float8(Float64Builder),
    Numeric(Decimal128Builder, u8, i8),
    Text(StringBuilder),
    Uuid(StringBuilder),
    Bytea(BinaryBuilder),
    Date(Date32Builder),
    Time(Time64MicrosecondBuilder),
    Timestamp(TimestampMicrosecondBuilder),
    Interval(IntervalMonthDayNanoBuilder),
}

impl Column {
    fn new(of: RemoteType, rows: usize) -> Self {
        let lists = of.list.then(|| Lists { ends: vec![0], nulls: NullBufferBuilder::new(rows) });
        Self { values: Values::new(of.scalar, rows), lists, of }
    }

    fn push(&mut self, value: Option<&[u8]>) -> Result<(), Unreadable> {
        let Some(lists) = &mut self.lists else { return self.values.push(value) };
        if let Some(array) = value {
            self.values.push_items(array)?;
        }
        lists.nulls.append(value.is_some());
        lists.ends.push(i32::try_from(self.values.len()).map_err(|_| Unreadable::NoPlace("too many items"))?);
        Ok(())
    }

    fn finish(&mut self) -> Result<ArrayRef> {
        let values = self.values.finish()?;
        let Some(lists) = &mut self.lists else { return Ok(values) };
        let ends = OffsetBuffer::new(std::mem::replace(&mut lists.ends, vec![0]).into());
        Ok(Arc::new(ListArray::try_new(self.of.item(), ends, values, lists.nulls.finish())?))
    }
}

impl Values {
    fn new(of: Scalar, rows: usize) -> Self {
        match of {
            Scalar::Bool => Self::Bool(BooleanBuilder::with_capacity(rows)),
            Scalar::Int2 => Self::Int2(Int16Builder::with_capacity(rows)),
            Scalar::Int4 => Self::Int4(Int32Builder::with_capacity(rows)),
            Scalar::Int8 => Self::Int8(Int64Builder::with_capacity(rows)),
            Scalar::Oid => Self::Oid(Int64Builder::with_capacity(rows)),
            Scalar::Float4 => Self::Float4(Float32Builder::with_capacity(rows)),
            Scalar::Float8 => Self::Float8(Float64Builder::with_capacity(rows)),
            Scalar::Numeric { precision, scale } => {
                let data_type = RemoteType::scalar(of).arrow();
                Self::Numeric(Decimal128Builder::with_capacity(rows).with_data_type(data_type), precision, scale)
            }
            Scalar::Text | Scalar::Json => Self::Text(StringBuilder::new()),
            Scalar::Uuid => Self::Uuid(StringBuilder::new()),
            Scalar::Bytea => Self::Bytea(BinaryBuilder::new()),
            Scalar::Date => Self::Date(Date32Builder::with_capacity(rows)),
            Scalar::Time => Self::Time(Time64MicrosecondBuilder::with_capacity(rows)),
            Scalar::Timestamp | Scalar::Timestamptz => {
                let data_type = RemoteType::scalar(of).arrow();
                Self::Timestamp(TimestampMicrosecondBuilder::with_capacity(rows).with_data_type(data_type))
            }
            Scalar::Interval => Self::Interval(IntervalMonthDayNanoBuilder::with_capacity(rows)),
        }
    }

    fn push(&mut self, value: Option<&[u8]>) -> Result<(), Unreadable> {
        match self {
            Self::Bool(to) => to.append_option(value.map(|value| fixed(value).map(|[b]: [u8; 1]| b != 0)).transpose()?),
            Self::Int2(to) => to.append_option(value.map(|value| fixed(value).map(i16::from_be_bytes)).transpose()?),
            Self::Int4(to) => to.append_option(value.map(|value| fixed(value).map(i32::from_be_bytes)).transpose()?),
            Self::Int8(to) => to.append_option(value.map(|value| fixed(value).map(i64::from_be_bytes)).transpose()?),
            Self::Oid(to) => {
                to.append_option(value.map(|value| fixed(value).map(u32::from_be_bytes)).transpose()?.map(i64::from));
            }
            Self::Float4(to) => to.append_option(value.map(|value| fixed(value).map(f32::from_be_bytes)).transpose()?),
            Self::Float8(to) => to.append_option(value.map(|value| fixed(value).map(f64::from_be_bytes)).transpose()?),
            Self::Numeric(to, precision, scale) => {
                to.append_option(value.map(|value| decimal(value, *precision, *scale)).transpose()?);
            }
            Self::Text(to) => to.append_option(value.map(text).transpose()?),
            Self::Uuid(to) => match value {
                Some(value) => to.append_value(uuid(fixed(value)?)),
                None => to.append_null(),
            },
            Self::Bytea(to) => to.append_option(value),
            Self::Date(to) => to.append_option(value.map(date).transpose()?),
            Self::Time(to) => to.append_option(value.map(|value| fixed(value).map(i64::from_be_bytes)).transpose()?),
            Self::Timestamp(to) => to.append_option(value.map(timestamp).transpose()?),
            Self::Interval(to) => to.append_option(value.map(interval).transpose()?),
        }
        Ok(())
    }

    /// The items of an array of one dimension: dimensions, flags and the item's type, then length and lower bound of each
    /// dimension, then the items.
    fn push_items(&mut self, array: &[u8]) -> Result<(), Unreadable> {
        let dimensions = u32_at(array, 0).ok_or(Unreadable::Broken)?;
        match dimensions {
            0 => return Ok(()),
            1 => {}
            _ => return Err(Unreadable::NoPlace("an array of more than one dimension")),
        }
        let length = u32_at(array, 12).ok_or(Unreadable::Broken)?;
        let mut items = array.get(20..).ok_or(Unreadable::Broken)?;
        for _ in 0..length {
            self.push(take_value(&mut items).ok_or(Unreadable::Broken)?)?;
        }
        Ok(())
    }

    fn builder(&mut self) -> &mut dyn ArrayBuilder {
        match self {
            Self::Bool(builder) => builder,
            Self::Int2(builder) => builder,
            Self::Int4(builder) => builder,
            Self::Int8(builder) | Self::Oid(builder) => builder,
            Self::Float4(builder) => builder,
            Self::Float8(builder) => builder,
            Self::Numeric(builder, ..) => builder,
            Self::Text(builder) | Self::Uuid(builder) => builder,
            Self::Bytea(builder) => builder,
            Self::Date(builder) => builder,
            Self::Time(builder) => builder,
            Self::Timestamp(builder) => builder,
            Self::Interval(builder) => builder,
        }
    }

    fn len(&mut self) -> usize {
        self.builder().len()
    }

    fn finish(&mut self) -> Result<ArrayRef> {
        Ok(self.builder().finish())
    }
}

fn fixed<const N: usize>(value: &[u8]) -> Result<[u8; N], Unreadable> {
    value.try_into().map_err(|_| Unreadable::Broken)
}

fn text(value: &[u8]) -> Result<&str, Unreadable> {
    std::str::from_utf8(value).map_err(|_| Unreadable::NoPlace("text that is not UTF-8"))
}

fn uuid(bytes: [u8; 16]) -> String {
    let hex = format!("{:032x}", u128::from_be_bytes(bytes));
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

fn date(value: &[u8]) -> Result<i32, Unreadable> {
    match i32::from_be_bytes(fixed(value)?) {
        i32::MIN | i32::MAX => Err(Unreadable::NoPlace("a date that is infinity, which cannot be read")),
        days => days.checked_add(EPOCH_DAYS).ok_or(Unreadable::Broken),
    }
}

fn timestamp(value: &[u8]) -> Result<i64, Unreadable> {
    match i64::from_be_bytes(fixed(value)?) {
        i64::MIN | i64::MAX => Err(Unreadable::NoPlace("a timestamp that is infinity, which cannot be read")),
        micros => micros.checked_add(EPOCH_MICROS).ok_or(Unreadable::Broken),
    }
}

/// Microseconds, then days, then months.
fn interval(value: &[u8]) -> Result<IntervalMonthDayNano, Unreadable> {
    let value: [u8; 16] = fixed(value)?;
    let (micros, rest) = value.split_at(8);
    let (days, months) = rest.split_at(4);
    let micros = i64::from_be_bytes(fixed(micros)?);
    let nanos = micros.checked_mul(1_000).ok_or(Unreadable::NoPlace("an interval of more than 292 years in hours"))?;
    Ok(IntervalMonthDayNano::new(i32::from_be_bytes(fixed(months)?), i32::from_be_bytes(fixed(days)?), nanos))
}

/// A numeric as a whole number of its last decimals. Digits come four together, `digit · 10000^(weight − i)` each; what has
/// more decimals than the column is rounded, half away from zero, as PostgreSQL rounds.
fn decimal(value: &[u8], precision: u8, scale: i8) -> Result<i128, Unreadable> {
    const TOO_LARGE: Unreadable = Unreadable::NoPlace("a number of more digits than a numeric here can have");
    let (header, digits) = value.split_at_checked(8).ok_or(Unreadable::Broken)?;
    let header = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let weight = i32::from(header(2).cast_signed());
    let negative = match header(4) {
        0x0000 => false,
        0x4000 => true,
        0xc000 => return Err(Unreadable::NoPlace("NaN, which no numeric here can be")),
        _ => return Err(Unreadable::NoPlace("infinity, which no numeric here can be")),
    };
    if digits.len() != 2 * usize::from(header(0)) {
        return Err(Unreadable::Broken);
    }
    let mut sum: i128 = 0;
    let mut exponent = 4 * weight + i32::from(scale);
    for pair in digits.chunks_exact(2) {
        let digit = u32::from(u16::from_be_bytes([pair[0], pair[1]]));
        if exponent >= 0 {
            let power = 10_i128.checked_pow(exponent.unsigned_abs()).filter(|_| digit > 0);
            let part = power.and_then(|power| power.checked_mul(i128::from(digit)));
            sum = match (digit, part) {
                (0, _) => sum,
                (_, Some(part)) => sum.checked_add(part).ok_or(TOO_LARGE)?,
                (_, None) => return Err(TOO_LARGE),
            };
        } else if exponent >= -4 {
            let kept = digit / 10_u32.pow(exponent.unsigned_abs());
            let next = digit / 10_u32.pow(exponent.unsigned_abs() - 1) % 10;
            sum = sum.checked_add(i128::from(kept) + i128::from(next >= 5)).ok_or(TOO_LARGE)?;
        }
        exponent -= 4;
    }
    match 10_i128.checked_pow(precision.into()) {
        Some(bound) if sum >= bound => Err(TOO_LARGE),
        _ => Ok(if negative { -sum } else { sum }),
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::{Field, Schema};
    use datafusion::arrow::util::pretty::pretty_format_batches;
    use proptest::prelude::*;

    use super::*;

    /// A numeric as PostgreSQL writes it, from text.
    fn numeric(text: &str) -> Vec<u8> {
        let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
        let whole = format!("{}{whole}", "0".repeat((4 - whole.len() % 4) % 4));
        let padded = format!("{decimals}{}", "0".repeat((4 - decimals.len() % 4) % 4));
        let weight = i16::try_from(whole.len() / 4).unwrap() - 1;
        let digits: Vec<u16> = format!("{whole}{padded}")
            .as_bytes()
            .chunks(4)
            .map(|four| std::str::from_utf8(four).unwrap().parse().unwrap())
            .collect();
        let mut bytes = Vec::new();
        bytes.extend(u16::try_from(digits.len()).unwrap().to_be_bytes());
        bytes.extend(weight.to_be_bytes());
        bytes.extend((if negative { 0x4000_u16 } else { 0 }).to_be_bytes());
        bytes.extend(u16::try_from(decimals.len()).unwrap().to_be_bytes());
        bytes.extend(digits.into_iter().flat_map(u16::to_be_bytes));
        bytes
    }

    fn read(text: &str, precision: u8, scale: i8) -> Option<i128> {
        decimal(&numeric(text), precision, scale).ok()
    }

    #[test]
    fn numbers_are_rounded_as_postgres_rounds_them() {
        assert_eq!(read("0", 10, 2), Some(0));
        assert_eq!(read("12.34", 10, 2), Some(1_234));
        assert_eq!(read("-12.345", 10, 2), Some(-1_235));
        assert_eq!(read("0.00005", 10, 4), Some(1));
        assert_eq!(read("0.00004999", 10, 4), Some(0));
        assert_eq!(read("99999999.995", 10, 2), None);
        assert_eq!(read("99999999999999999999999999999999999999", 38, 0), Some(10_i128.pow(38) - 1));
        assert_eq!(read("100000000000000000000000000000000000000", 38, 0), None);
        assert_eq!(read("1.00000000000000000000000000000000000000000001", 38, 10), Some(10_000_000_000));
        let nan = [0, 0, 0, 0, 0xc0, 0, 0, 0];
        assert!(decimal(&nan, 10, 2).is_err());
    }

    proptest! {
        #[test]
        fn numbers_are_read_as_they_are_written(units in -1_000_000_000_000_i64..1_000_000_000_000, scale in 0_u32..9) {
            let (size, power) = (units.unsigned_abs(), 10_u64.pow(scale));
            let sign = if units < 0 { "-" } else { "" };
            let width = scale as usize;
            let text = match scale {
                0 => format!("{sign}{size}"),
                _ => format!("{sign}{}.{:0width$}", size / power, size % power),
            };
            prop_assert_eq!(read(&text, 38, i8::try_from(scale).unwrap()), Some(i128::from(units)));
        }

        #[test]
        fn pieces_may_end_anywhere(cuts in proptest::collection::vec(0_usize..200, 0..8), batch_rows in 1_usize..5) {
            let rows: Vec<(Option<i32>, Option<String>)> =
                (0..5).map(|n| ((n % 2 == 0).then_some(n), (n != 3).then(|| "ü".repeat(n as usize)))).collect();
            let mut file = SIGNATURE.to_vec();
            file.extend([0; 8]);
            for (number, text) in &rows {
                file.extend(2_i16.to_be_bytes());
                put(&mut file, number.map(i32::to_be_bytes).as_ref().map(<[u8; 4]>::as_slice));
                put(&mut file, text.as_ref().map(String::as_bytes));
            }
            file.extend((-1_i16).to_be_bytes());
            let types = [RemoteType::scalar(Scalar::Int4), RemoteType::scalar(Scalar::Text)];
            let fields = ["n", "t"].into_iter().zip(types).map(|(name, of)| Field::new(name, of.arrow(), true));
            let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(file.len())).chain([0, file.len()]).collect();
            cuts.sort_unstable();
            let mut decoder = Decoder::new(Arc::clone(&schema), &types, batch_rows);
            let mut batches = Vec::new();
            for cut in cuts.windows(2) {
                batches.extend(decoder.push(Bytes::copy_from_slice(&file[cut[0]..cut[1]])).unwrap());
            }
            batches.extend(decoder.finish().unwrap());
            prop_assert!(batches.iter().all(|batch| batch.num_rows() <= batch_rows));
            let mut whole = Decoder::new(schema, &types, 100);
            let mut expected = whole.push(Bytes::from(file)).unwrap();
            expected.extend(whole.finish().unwrap());
            let shown = |batches: &[RecordBatch]| pretty_format_batches(batches).unwrap().to_string();
            prop_assert_eq!(expected[0].num_rows(), 5);
            prop_assert_eq!(shown(&batches), shown(&expected));
        }
    }

    fn put(file: &mut Vec<u8>, value: Option<&[u8]>) {
        match value {
            Some(value) => {
                file.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
                file.extend(value);
            }
            None => file.extend(NULL.to_be_bytes()),
        }
    }

    #[test]
    fn a_file_that_is_none_or_ends_early_is_refused() {
        let schema = Arc::new(Schema::empty());
        let mut decoder = Decoder::new(Arc::clone(&schema), &[], 10);
        assert!(decoder.push(Bytes::from_static(b"not a file of that format")).is_err());
        let mut decoder = Decoder::new(schema, &[], 10);
        assert!(decoder.push(Bytes::from_static(SIGNATURE)).unwrap().is_empty());
        assert!(decoder.finish().is_err());
    }

    #[test]
    fn lists_of_one_dimension_are_read() {
        let of = RemoteType { scalar: Scalar::Int4, list: true };
        let mut column = Column::new(of, 4);
        let mut array: Vec<u8> = [1_u32, 1, 23, 2, 1].into_iter().flat_map(u32::to_be_bytes).collect();
        put(&mut array, Some(&7_i32.to_be_bytes()));
        put(&mut array, None);
        assert!(column.push(Some(&array)).is_ok());
        assert!(column.push(None).is_ok());
        assert!(column.push(Some(&[0; 12])).is_ok());
        let lists = column.finish().unwrap();
        let shown = |at| datafusion::arrow::util::display::array_value_to_string(&lists, at).unwrap();
        assert_eq!([shown(0), shown(1), shown(2)], ["[7, ]", "", "[]"]);
        array[3] = 2;
        assert!(column.push(Some(&array)).is_err());
    }
}
