//! The binary format: a signature, then for each row the number of its columns and each value behind its length.

use std::sync::Arc;

use bytes::Buf;
use datafusion::arrow::array::{
    ArrayRef, ArrowPrimitiveType, BinaryBuilder, BooleanBuilder, Decimal128Builder, PrimitiveBuilder, StringBuilder,
};
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Field, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, SchemaRef, TimeUnit,
    TimestampMicrosecondType, TimestampNanosecondType,
};
use datafusion::common::ScalarValue;
use pgwire::api::Type;

use super::super::encode::{Format, read_binary_decimal};
use super::super::parameters::{self, EPOCH_DAYS, EPOCH_MICROS};
use super::super::types::{name, wire_type};
use super::columns::array;
use super::{BATCH_BYTES, BATCH_ROWS, Gathered, Place, Rows, malformed, null_not_allowed};
use crate::error::{Error, Kind, Result};

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// Flags that a reader has to understand; there is none any more.
const CRITICAL_FLAGS: u32 = 0xffff_0000;

pub(super) struct BinaryRows {
    schema: SchemaRef,
    columns: Vec<Box<dyn Build>>,
    place: Place,
    /// The number of the next row.
    line: u64,
    rows: usize,
    bytes: usize,
    started: bool,
    ended: bool,
}

impl BinaryRows {
    pub(super) fn new(place: Place, schema: &SchemaRef) -> Result<Self> {
        let schema = Arc::clone(schema);
        let columns = schema.fields().iter().map(|field| builder(field)).collect::<Result<_>>()?;
        Ok(Self { schema, columns, place, line: 1, rows: 0, bytes: 0, started: false, ended: false })
    }

    /// The row that `bytes` begins with; `None` if it is not all there.
    fn row(&mut self, bytes: &[u8]) -> Result<Option<usize>> {
        let mut rest = bytes;
        let Ok(fields) = rest.try_get_i16() else { return Ok(None) };
        if fields == -1 {
            self.ended = true;
            return Ok(Some(2));
        }
        let wanted = self.columns.len();
        if usize::try_from(fields) != Ok(wanted) {
            return Err(malformed(format!("row field count is {fields}, expected {wanted}"))
                .context(self.place.line(self.line)));
        }
        // Nothing is taken before the row is known to be whole.
        let mut ahead = rest;
        for _ in 0..wanted {
            let Ok(length) = ahead.try_get_i32() else { return Ok(None) };
            match usize::try_from(length) {
                Ok(length) if length > ahead.len() => return Ok(None),
                Ok(length) => ahead.advance(length),
                Err(_) if length == -1 => {}
                Err(_) => return Err(malformed("invalid field size").context(self.place.line(self.line))),
            }
        }
        for at in 0..wanted {
            let value = usize::try_from(rest.get_i32()).ok().map(|length| {
                let (value, after) = rest.split_at(length);
                rest = after;
                value
            });
            let field = self.schema.field(at);
            let taken = match value {
                None if !field.is_nullable() => Err(null_not_allowed(field.name())),
                value => self.columns[at].append(value),
            };
            taken.map_err(|error| error.context(self.place.column(self.line, field.name())))?;
        }
        Ok(Some(bytes.len() - rest.len()))
    }

    /// The signature and what belongs to it; `None` if it is not all there.
    fn start(&mut self, bytes: &[u8]) -> Result<Option<usize>> {
        let seen = bytes.len().min(SIGNATURE.len());
        if bytes[..seen] != SIGNATURE[..seen] {
            return Err(malformed("COPY file signature not recognized").hint("the file is not of FORMAT binary"));
        }
        let mut rest = &bytes[seen..];
        let (Ok(flags), Ok(extension)) = (rest.try_get_u32(), rest.try_get_i32()) else { return Ok(None) };
        if flags & CRITICAL_FLAGS != 0 {
            return Err(malformed("unrecognized critical flags in COPY file header"));
        }
        let extension = usize::try_from(extension).map_err(|_| malformed("invalid COPY file header (wrong length)"))?;
        if rest.len() < extension {
            return Ok(None);
        }
        self.started = true;
        Ok(Some(bytes.len() - rest.len() + extension))
    }
}

impl Rows for BinaryRows {
    fn take(&mut self, bytes: &[u8], last: bool) -> Result<usize> {
        let mut at = 0;
        while self.rows < BATCH_ROWS && self.bytes < BATCH_BYTES && !self.ended && at < bytes.len() {
            let is_row = self.started;
            let taken = if is_row { self.row(&bytes[at..])? } else { self.start(&bytes[at..])? };
            let Some(taken) = taken else {
                if last {
                    return Err(malformed("unexpected EOF in COPY data").context(self.place.line(self.line)));
                }
                return Ok(at);
            };
            if is_row && !self.ended {
                self.rows += 1;
                self.line += 1;
                self.bytes += taken;
            }
            at += taken;
        }
        Ok(if self.ended { bytes.len() } else { at })
    }

    fn ended(&self) -> bool {
        self.ended
    }

    fn gathered(&self) -> (usize, usize) {
        (self.rows, self.bytes)
    }

    fn finish(&mut self) -> Result<Gathered> {
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        let columns = self.columns.iter_mut().map(|column| column.finish()).collect::<Result<_>>()?;
        Ok(Gathered { columns, rows, rejects: Vec::new() })
    }
}

/// Gathers the values of one column.
trait Build: Send {
    fn append(&mut self, value: Option<&[u8]>) -> Result<()>;
    fn finish(&mut self) -> Result<ArrayRef>;
}

fn builder(field: &Field) -> Result<Box<dyn Build>> {
    let of = wire_type(field)?;
    Ok(match field.data_type() {
        DataType::Boolean => Box::new(Booleans(BooleanBuilder::new())),
        DataType::Int16 => fixed::<Int16Type, 2>(of, |bytes| Some(i16::from_be_bytes(bytes))),
        DataType::Int32 => fixed::<Int32Type, 4>(of, |bytes| Some(i32::from_be_bytes(bytes))),
        DataType::Int64 => fixed::<Int64Type, 8>(of, |bytes| Some(i64::from_be_bytes(bytes))),
        DataType::Float32 => fixed::<Float32Type, 4>(of, |bytes| Some(f32::from_be_bytes(bytes))),
        DataType::Float64 => fixed::<Float64Type, 8>(of, |bytes| Some(f64::from_be_bytes(bytes))),
        DataType::Date32 => fixed::<Date32Type, 4>(of, |bytes| i32::from_be_bytes(bytes).checked_add(EPOCH_DAYS)),
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let builder = PrimitiveBuilder::<TimestampMicrosecondType>::new().with_timezone_opt(zone.clone());
            let read = |bytes| i64::from_be_bytes(bytes).checked_add(EPOCH_MICROS);
            Box::new(Fixed { builder, read, of })
        }
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => {
            let builder = PrimitiveBuilder::<TimestampNanosecondType>::new().with_timezone_opt(zone.clone());
            let read = |bytes| i64::from_be_bytes(bytes).checked_add(EPOCH_MICROS)?.checked_mul(1000);
            Box::new(Fixed { builder, read, of })
        }
        DataType::Decimal128(precision, scale) => {
            let builder = Decimal128Builder::new().with_precision_and_scale(*precision, *scale)?;
            let bound = 10_i128.checked_pow(u32::from(*precision)).unwrap_or(i128::MAX);
            Box::new(Decimals { builder, bound, scale: *scale, planned: field.data_type().clone() })
        }
        DataType::Utf8 if of == Type::TEXT => Box::new(Strings(StringBuilder::new())),
        DataType::Binary => Box::new(Bytes(BinaryBuilder::new())),
        planned => Box::new(Scalars { values: Vec::new(), of, planned: planned.clone() }),
    })
}

fn fixed<T: ArrowPrimitiveType, const N: usize>(of: Type, read: fn([u8; N]) -> Option<T::Native>) -> Box<dyn Build> {
    Box::new(Fixed { builder: PrimitiveBuilder::<T>::new(), read, of })
}

/// Values of one width.
struct Fixed<T: ArrowPrimitiveType, const N: usize> {
    builder: PrimitiveBuilder<T>,
    read: fn([u8; N]) -> Option<T::Native>,
    of: Type,
}

impl<T: ArrowPrimitiveType, const N: usize> Build for Fixed<T, N> {
    fn append(&mut self, value: Option<&[u8]>) -> Result<()> {
        let Some(bytes) = value else {
            self.builder.append_null();
            return Ok(());
        };
        let bytes = <[u8; N]>::try_from(bytes).map_err(|_| {
            let message = format!("incorrect binary data format for type {}", name(&self.of));
            Error::new(Kind::InvalidBinary, message).hint(format!("it has {N} bytes, and {} came", bytes.len()))
        })?;
        let out_of_range = || Error::new(Kind::OutOfRange, format!("{} out of range", name(&self.of)));
        self.builder.append_value((self.read)(bytes).ok_or_else(out_of_range)?);
        Ok(())
    }

    fn finish(&mut self) -> Result<ArrayRef> {
        Ok(Arc::new(self.builder.finish()))
    }
}

struct Booleans(BooleanBuilder);

impl Build for Booleans {
    fn append(&mut self, value: Option<&[u8]>) -> Result<()> {
        match value {
            None => self.0.append_null(),
            Some([byte]) => self.0.append_value(*byte != 0),
            Some(_) => {
                return Err(Error::new(Kind::InvalidBinary, "incorrect binary data format for type boolean"));
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<ArrayRef> {
        Ok(Arc::new(self.0.finish()))
    }
}

/// Numerics of one scale.
struct Decimals {
    builder: Decimal128Builder,
    /// More than the type holds.
    bound: i128,
    scale: i8,
    planned: DataType,
}

impl Build for Decimals {
    fn append(&mut self, value: Option<&[u8]>) -> Result<()> {
        let read = value.and_then(|bytes| read_binary_decimal(bytes, self.scale));
        if let Some(number) = read.filter(|number| number.abs() < self.bound) {
            self.builder.append_value(number);
            return Ok(());
        }
        // NULL, what is longer than a number of the processor, and what is no number of this type.
        match parameters::read(value, Format::Binary, &Type::NUMERIC, &self.planned)? {
            ScalarValue::Decimal128(number, ..) => self.builder.append_option(number),
            other => return Err(Error::internal(format!("a numeric was read as {}", other.data_type()))),
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<ArrayRef> {
        Ok(Arc::new(self.builder.finish()))
    }
}

struct Strings(StringBuilder);

impl Build for Strings {
    fn append(&mut self, value: Option<&[u8]>) -> Result<()> {
        self.0.append_option(value.map(parameters::text).transpose()?);
        Ok(())
    }

    fn finish(&mut self) -> Result<ArrayRef> {
        Ok(Arc::new(self.0.finish()))
    }
}

struct Bytes(BinaryBuilder);

impl Build for Bytes {
    fn append(&mut self, value: Option<&[u8]>) -> Result<()> {
        self.0.append_option(value);
        Ok(())
    }

    fn finish(&mut self) -> Result<ArrayRef> {
        Ok(Arc::new(self.0.finish()))
    }
}

/// Every other type, as parameters are read.
struct Scalars {
    values: Vec<ScalarValue>,
    of: Type,
    planned: DataType,
}

impl Build for Scalars {
    fn append(&mut self, value: Option<&[u8]>) -> Result<()> {
        self.values.push(parameters::read(value, Format::Binary, &self.of, &self.planned)?);
        Ok(())
    }

    fn finish(&mut self) -> Result<ArrayRef> {
        array(std::mem::take(&mut self.values), &self.planned)
    }
}
