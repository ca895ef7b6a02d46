//! Rows of a MySQL to Arrow.

use chrono::{NaiveDate, NaiveDateTime};
use datafusion::arrow::array::{ArrayBuilder, PrimitiveBuilder};
use datafusion::arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float32Builder, Float64Builder,
    Int16Builder, Int32Builder, Int64Builder, RecordBatch, RecordBatchOptions, StringBuilder, Time64MicrosecondBuilder,
    TimestampMicrosecondBuilder,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::ArrowPrimitiveType;
use mysql_async::{Row, Value};

use crate::error::{Error, Kind, Result};
use crate::foreign::types::{RemoteType, Scalar};
use crate::foreign::wrapper::Wanted;

/// A batch is full when its rows are so many, or its values so large together.
const BATCH_BYTES: usize = 8 << 20;

/// Gathers rows into batches.
pub struct Decoder {
    wanted: Wanted,
    columns: Vec<Column>,
    rows: usize,
    bytes: usize,
}

/// Values of one column, by what they are read as.
enum Column {
    Bool(BooleanBuilder),
    Int2(Int16Builder),
    Int4(Int32Builder),
    Int8(Int64Builder),
    Float4(Float32Builder),
    Float8(Float64Builder),
    Numeric(Decimal128Builder, u8, i8),
    Text(StringBuilder),
    Bytes(BinaryBuilder),
    Date(Date32Builder),
    Time(Time64MicrosecondBuilder),
    Moment(TimestampMicrosecondBuilder),
}

impl Decoder {
    /// `types` are those that the columns were asked for as, in their order.
    pub fn new(wanted: Wanted, types: &[RemoteType]) -> Self {
        let columns = types.iter().map(|of| Column::new(of.scalar)).collect();
        Self { wanted, columns, rows: 0, bytes: 0 }
    }

    /// Takes a row; answers the batch that it made full.
    ///
    /// # Errors
    /// 22003 where a value is out of range here, 22P03 where it is not what it was asked for as.
    pub fn push(&mut self, row: Row) -> Result<Option<RecordBatch>> {
        let values = row.unwrap();
        // Where no column is wanted there is one all the same.
        if !self.columns.is_empty() && values.len() != self.columns.len() {
            let message = format!("a row has {} fields where {} were asked for", values.len(), self.columns.len());
            return Err(Error::new(Kind::Protocol, message));
        }
        for ((column, value), field) in self.columns.iter_mut().zip(values).zip(self.wanted.columns.fields()) {
            self.bytes += 8 + if let Value::Bytes(bytes) = &value { bytes.len() } else { 0 };
            column.push(value).map_err(|wrong| {
                let error = Error::new(wrong.kind, format!("column \"{}\": {}", field.name(), wrong.why));
                error.hint("leave the column out, or make a view of the table over there that casts it")
            })?;
        }
        self.rows += 1;
        let is_full = self.rows >= self.wanted.batch_rows || self.bytes >= BATCH_BYTES;
        is_full.then(|| self.batch()).transpose()
    }

    /// The rows that are left when all have come.
    pub fn finish(&mut self) -> Result<Option<RecordBatch>> {
        (self.rows > 0).then(|| self.batch()).transpose()
    }

    fn batch(&mut self) -> Result<RecordBatch> {
        let mut columns = Vec::with_capacity(self.columns.len());
        for (column, field) in self.columns.iter_mut().zip(self.wanted.columns.fields()) {
            let values = column.finish()?;
            // Plans know other layouts of the same: views of text, nanoseconds.
            columns.push(match values.data_type() == field.data_type() {
                true => values,
                false => cast(&values, field.data_type())?,
            });
        }
        let rows = RecordBatchOptions::new().with_row_count(Some(self.rows));
        (self.rows, self.bytes) = (0, 0);
        Ok(RecordBatch::try_new_with_options(self.wanted.columns.clone(), columns, &rows)?)
    }
}

/// What is wrong with a value.
#[derive(Debug)]
struct Wrong {
    kind: Kind,
    why: String,
}

fn out_of_range(why: String) -> Wrong {
    Wrong { kind: Kind::OutOfRange, why }
}

fn unexpected(value: &Value) -> Wrong {
    Wrong { kind: Kind::InvalidBinary, why: format!("a value is of another type over there than before: {value:?}") }
}

impl Column {
    fn new(scalar: Scalar) -> Self {
        match scalar {
            Scalar::Bool => Self::Bool(BooleanBuilder::new()),
            Scalar::Int2 => Self::Int2(Int16Builder::new()),
            Scalar::Int4 => Self::Int4(Int32Builder::new()),
            Scalar::Int8 | Scalar::Oid => Self::Int8(Int64Builder::new()),
            Scalar::Float4 => Self::Float4(Float32Builder::new()),
            Scalar::Float8 => Self::Float8(Float64Builder::new()),
            Scalar::Numeric { precision, scale } => Self::Numeric(Decimal128Builder::new(), precision, scale),
            Scalar::Text | Scalar::Json | Scalar::Uuid | Scalar::Interval => Self::Text(StringBuilder::new()),
            Scalar::Bytea => Self::Bytes(BinaryBuilder::new()),
            Scalar::Date => Self::Date(Date32Builder::new()),
            Scalar::Time => Self::Time(Time64MicrosecondBuilder::new()),
            Scalar::Timestamp | Scalar::Timestamptz => Self::Moment(TimestampMicrosecondBuilder::new()),
        }
    }

    fn push(&mut self, value: Value) -> Result<(), Wrong> {
        match self {
            Self::Bool(column) => column.append_option(integer(&value)?.map(|value| value != 0)),
            Self::Int2(column) => append_integer(column, &value)?,
            Self::Int4(column) => append_integer(column, &value)?,
            Self::Int8(column) => append_integer(column, &value)?,
            Self::Float4(column) => column.append_option(match value {
                Value::NULL => None,
                Value::Float(value) => Some(value),
                other => return Err(unexpected(&other)),
            }),
            Self::Float8(column) => column.append_option(float(&value)?),
            Self::Numeric(column, precision, scale) => column.append_option(decimal(&value, *precision, *scale)?),
            Self::Text(column) => column.append_option(match value {
                Value::NULL => None,
                Value::Bytes(bytes) => Some(String::from_utf8(bytes).map_err(|error| Wrong {
                    kind: Kind::InvalidBinary,
                    why: format!("a text is not UTF-8: {error}"),
                })?),
                other => return Err(unexpected(&other)),
            }),
            Self::Bytes(column) => column.append_option(match value {
                Value::NULL => None,
                Value::Bytes(bytes) => Some(bytes),
                other => return Err(unexpected(&other)),
            }),
            Self::Date(column) => column.append_option(moment(&value)?.map(|at| at.date().to_epoch_days())),
            Self::Moment(column) => column.append_option(moment(&value)?.map(|at| at.and_utc().timestamp_micros())),
            Self::Time(column) => column.append_option(time(&value)?),
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<ArrayRef> {
        Ok(match self {
            Self::Bool(column) => ArrayBuilder::finish(column),
            Self::Int2(column) => ArrayBuilder::finish(column),
            Self::Int4(column) => ArrayBuilder::finish(column),
            Self::Int8(column) => ArrayBuilder::finish(column),
            Self::Float4(column) => ArrayBuilder::finish(column),
            Self::Float8(column) => ArrayBuilder::finish(column),
            Self::Numeric(column, precision, scale) => {
                std::sync::Arc::new(column.finish().with_precision_and_scale(*precision, *scale)?)
            }
            Self::Text(column) => ArrayBuilder::finish(column),
            Self::Bytes(column) => ArrayBuilder::finish(column),
            Self::Date(column) => ArrayBuilder::finish(column),
            Self::Time(column) => ArrayBuilder::finish(column),
            Self::Moment(column) => ArrayBuilder::finish(column),
        })
    }
}

fn append_integer<T>(column: &mut PrimitiveBuilder<T>, value: &Value) -> Result<(), Wrong>
where
    T: ArrowPrimitiveType,
    T::Native: TryFrom<i128>,
{
    let value = match integer(value)? {
        Some(whole) => Some(T::Native::try_from(whole).map_err(|_| out_of_range(format!("{whole} is out of range")))?),
        None => None,
    };
    column.append_option(value);
    Ok(())
}

/// An integer; sums of integers come as decimals.
fn integer(value: &Value) -> Result<Option<i128>, Wrong> {
    Ok(match value {
        Value::NULL => None,
        Value::Int(value) => Some((*value).into()),
        Value::UInt(value) => Some((*value).into()),
        Value::Bytes(_) => decimal(value, 38, 0)?,
        other => return Err(unexpected(other)),
    })
}

fn float(value: &Value) -> Result<Option<f64>, Wrong> {
    Ok(match value {
        Value::NULL => None,
        Value::Float(value) => Some((*value).into()),
        Value::Double(value) => Some(*value),
        other => return Err(unexpected(other)),
    })
}

/// The units of a decimal with so many digits after the point.
fn decimal(value: &Value, precision: u8, scale: i8) -> Result<Option<i128>, Wrong> {
    let units = match value {
        Value::NULL => return Ok(None),
        Value::Int(value) => parsed(&value.to_string(), scale),
        Value::UInt(value) => parsed(&value.to_string(), scale),
        Value::Bytes(text) => parsed(&String::from_utf8_lossy(text), scale),
        other => return Err(unexpected(other)),
    };
    let most = 10_i128.checked_pow(precision.into()).unwrap_or(i128::MAX);
    match units.filter(|units| units.checked_abs().is_some_and(|units| units < most)) {
        Some(units) => Ok(Some(units)),
        None => Err(out_of_range(format!("{} does not fit numeric({precision}, {scale})", value.as_sql(true)))),
    }
}

/// `-12.50` in units of `10^-scale`; `None`: it has more digits, or is no decimal.
fn parsed(text: &str, scale: i8) -> Option<i128> {
    let (is_negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (whole, decimals) = digits.split_once('.').unwrap_or((digits, ""));
    let scale = usize::try_from(scale).ok()?;
    let (kept, rest) = decimals.split_at_checked(scale).unwrap_or((decimals, ""));
    if !whole.bytes().chain(decimals.bytes()).all(|byte| byte.is_ascii_digit()) || rest.bytes().any(|byte| byte != b'0')
    {
        return None;
    }
    let units: i128 = format!("{whole}{kept:0<scale$}").parse().ok()?;
    Some(if is_negative { -units } else { units })
}

/// A date, or a date and a time; one of which a part is 0 is none.
fn moment(value: &Value) -> Result<Option<NaiveDateTime>, Wrong> {
    match value {
        Value::NULL => Ok(None),
        Value::Date(year, month, day, hour, minute, second, micros) => {
            let date = NaiveDate::from_ymd_opt((*year).into(), (*month).into(), (*day).into());
            let at =
                |date: NaiveDate| date.and_hms_micro_opt((*hour).into(), (*minute).into(), (*second).into(), *micros);
            Ok(date.and_then(at))
        }
        other => Err(unexpected(other)),
    }
}

/// A time of day, in microseconds.
fn time(value: &Value) -> Result<Option<i64>, Wrong> {
    match value {
        Value::NULL => Ok(None),
        Value::Time(false, 0, hour, minute, second, micros) => {
            let seconds = i64::from(*hour) * 3600 + i64::from(*minute) * 60 + i64::from(*second);
            Ok(Some(seconds * 1_000_000 + i64::from(*micros)))
        }
        Value::Time(..) => Err(out_of_range(format!("{} is no time of a day", value.as_sql(true)))),
        other => Err(unexpected(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_keep_all_their_digits_or_are_refused() {
        assert_eq!(parsed("-12.50", 2), Some(-1250));
        assert_eq!(parsed("-0.05", 2), Some(-5));
        assert_eq!(parsed("7", 3), Some(7000));
        assert_eq!(parsed("7.1000", 1), Some(71));
        assert_eq!(parsed("7.15", 1), None);
        assert_eq!(parsed("1e5", 0), None);
        assert_eq!(decimal(&Value::UInt(u64::MAX), 20, 0).unwrap(), Some(u64::MAX.into()));
        assert_eq!(decimal(&Value::Bytes(b"1000".to_vec()), 3, 0).unwrap_err().kind, Kind::OutOfRange);
    }

    #[test]
    fn dates_that_are_none_are_null() {
        assert_eq!(moment(&Value::Date(0, 0, 0, 0, 0, 0, 0)).unwrap(), None);
        assert_eq!(moment(&Value::Date(2024, 0, 10, 0, 0, 0, 0)).unwrap(), None);
        let at = moment(&Value::Date(1970, 1, 2, 0, 0, 1, 5)).unwrap().unwrap();
        assert_eq!(at.and_utc().timestamp_micros(), 86_401_000_005);
        assert_eq!(time(&Value::Time(false, 0, 1, 2, 3, 4)).unwrap(), Some(3_723_000_004));
        assert_eq!(time(&Value::Time(true, 0, 1, 2, 3, 4)).unwrap_err().kind, Kind::OutOfRange);
    }
}
