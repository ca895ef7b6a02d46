//! Functions that make text as Postgres does it: `to_char`, `format`, `quote_ident` and so on.

mod moments;
mod numbers;
mod quoting;

use std::sync::Arc;

use chrono::{DateTime, NaiveDateTime};
use datafusion::arrow::array::timezone::Tz;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{
    DataType, IntervalMonthDayNanoType, IntervalUnit, TimeUnit, TimestampMicrosecondType,
};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use datafusion::prelude::SessionContext;

use crate::error::{Error, Kind, Result};

/// Registers them, `to_char` in the place of DataFusion's, which reads other patterns.
pub fn register(context: &SessionContext) {
    let signature = Signature::any(2, Volatility::Stable);
    // DataFusion's own has another name, too, under which it would come back.
    context.register_udf(ScalarUDF::new_from_impl(ToChar { signature }).with_aliases(["date_format"]));
    quoting::register(context);
}

/// `to_char(time or number, pattern)`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ToChar {
    signature: Signature,
}

impl ScalarUDFImpl for ToChar {
    fn name(&self) -> &str {
        "to_char"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, args: &[DataType]) -> DataFusionResult<DataType> {
        match args.first() {
            Some(of) if of.is_numeric() || of.is_temporal() || *of == DataType::Null => Ok(DataType::Utf8),
            Some(of) => {
                let of = crate::error::in_sql(&of.to_string());
                Err(Error::new(Kind::UnknownFunction, format!("function to_char({of}, text) does not exist"))
                    .hint("to_char writes times, intervals and numbers; cast the value")
                    .into())
            }
            None => Err(Error::internal("to_char without arguments").into()),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let n_rows = if constant { 1 } else { args.number_rows };
        let [values, patterns] = args.args.as_slice() else {
            return Err(Error::internal("to_char takes two arguments").into());
        };
        let values = values.to_array(n_rows)?;
        let patterns = cast(&patterns.to_array(n_rows)?, &DataType::Utf8)?;
        let zone = args.config_options.execution.time_zone.as_deref().unwrap_or("UTC");
        let texts = written(&values, patterns.as_string::<i32>(), zone)?;
        Ok(if constant {
            ColumnarValue::Scalar(datafusion::common::ScalarValue::try_from_array(&texts, 0)?)
        } else {
            ColumnarValue::Array(Arc::new(texts))
        })
    }
}

fn written(values: &ArrayRef, patterns: &StringArray, zone: &str) -> Result<StringArray> {
    let zone: Tz = zone.parse().map_err(|_| Error::internal("the session has no time zone"))?;
    match values.data_type() {
        of if of.is_numeric() => {
            // Sixteen digits are what a double has; the rest of its text is noise.
            let texts = match of {
                DataType::Float32 | DataType::Float64 | DataType::Float16 => {
                    let doubles = cast(values, &DataType::Float64)?;
                    let doubles = doubles.as_primitive::<datafusion::arrow::datatypes::Float64Type>();
                    doubles.iter().map(|number| number.map(numbers::digits)).collect::<StringArray>()
                }
                _ => cast(values, &DataType::Utf8)?.as_string::<i32>().clone(),
            };
            each(texts.iter(), patterns, numbers::written)
        }
        DataType::Interval(_) | DataType::Duration(_) => {
            let intervals = cast(values, &DataType::Interval(IntervalUnit::MonthDayNano))?;
            let intervals = intervals.as_primitive::<IntervalMonthDayNanoType>();
            each(intervals.iter(), patterns, moments::interval_written)
        }
        of => {
            let zoned = matches!(of, DataType::Timestamp(_, Some(_)));
            let instants = match of {
                DataType::Timestamp(_, zone) => {
                    cast(values, &DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))?
                }
                DataType::Time32(_) | DataType::Time64(_) => {
                    let micros = cast(&cast(values, &DataType::Time64(TimeUnit::Microsecond))?, &DataType::Int64)?;
                    cast(&micros, &DataType::Timestamp(TimeUnit::Microsecond, None))?
                }
                _ => cast(values, &DataType::Timestamp(TimeUnit::Microsecond, None))?,
            };
            let instants = instants.as_primitive::<TimestampMicrosecondType>();
            each(instants.iter(), patterns, |micros, pattern| {
                let utc = DateTime::from_timestamp_micros(micros)
                    .ok_or_else(|| Error::new(Kind::OutOfRange, "timestamp out of range"))?;
                let local: NaiveDateTime = if zoned { utc.with_timezone(&zone).naive_local() } else { utc.naive_utc() };
                let offset = if zoned { (local - utc.naive_utc()).num_seconds() } else { 0 };
                moments::written(local, offset, pattern)
            })
        }
    }
}

fn each<T>(
    values: impl Iterator<Item = Option<T>>,
    patterns: &StringArray,
    write: impl Fn(T, &str) -> Result<String>,
) -> Result<StringArray>
where
    T: Sized,
{
    values
        .zip(patterns.iter())
        .map(|pair| match pair {
            (Some(value), Some(pattern)) => write(value, pattern).map(Some),
            _ => Ok(None),
        })
        .collect()
}
