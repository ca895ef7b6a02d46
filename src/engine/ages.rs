//! `age(later, earlier)`: how long it is between two times in years, months and days, as people count ages.

use std::sync::Arc;

use chrono::{DateTime, Datelike, Months, NaiveDateTime, Utc};
use datafusion::arrow::array::{ArrayRef, AsArray, IntervalMonthDayNanoArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, IntervalMonthDayNano, IntervalUnit, TimeUnit, TimestampMicrosecondType};
use datafusion::common::ScalarValue;
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use datafusion::prelude::SessionContext;

use crate::error::Error;

pub fn register(context: &SessionContext) {
    let takes = TypeSignature::OneOf(vec![TypeSignature::Any(1), TypeSignature::Any(2)]);
    let signature = Signature::new(takes, Volatility::Stable);
    context.register_udf(ScalarUDF::new_from_impl(Age { signature }));
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Age {
    signature: Signature,
}

impl ScalarUDFImpl for Age {
    fn name(&self) -> &str {
        "age"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    /// The age of a transaction is a number.
    fn return_type(&self, args: &[DataType]) -> DataFusionResult<DataType> {
        Ok(match args {
            [of] if of.is_integer() => DataType::Int32,
            _ => DataType::Interval(IntervalUnit::MonthDayNano),
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        if args.args.len() == 1 && args.args[0].data_type().is_integer() {
            return Ok(ColumnarValue::Scalar(ScalarValue::Int32(Some(0))));
        }
        let constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        let times = |arg: &ColumnarValue| -> DataFusionResult<ArrayRef> {
            Ok(cast(&arg.to_array(rows)?, &DataType::Timestamp(TimeUnit::Microsecond, None))?)
        };
        let (later, earlier) = match args.args.as_slice() {
            [later, earlier] => (times(later)?, times(earlier)?),
            // Until the midnight that today began with.
            [earlier] => {
                let today = Utc::now().date_naive().and_time(chrono::NaiveTime::MIN).and_utc().timestamp_micros();
                let today = ScalarValue::TimestampMicrosecond(Some(today), None);
                (today.to_array_of_size(rows)?, times(earlier)?)
            }
            _ => return Err(Error::internal("age takes one or two times").into()),
        };
        let later = later.as_primitive::<TimestampMicrosecondType>();
        let earlier = earlier.as_primitive::<TimestampMicrosecondType>();
        let at = |micros: i64| DateTime::from_timestamp_micros(micros).map(|at| at.naive_utc());
        let ages: IntervalMonthDayNanoArray =
            later.iter().zip(earlier).map(|(later, earlier)| between(at(later?)?, at(earlier?)?)).collect();
        let ages: ArrayRef = Arc::new(ages);
        Ok(if constant {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&ages, 0)?)
        } else {
            ColumnarValue::Array(ages)
        })
    }
}

/// Whole months first, then days and the time that are left. Days are borrowed from the month of the earlier time.
fn between(later: NaiveDateTime, earlier: NaiveDateTime) -> Option<IntervalMonthDayNano> {
    if later < earlier {
        let age = between(earlier, later)?;
        return Some(IntervalMonthDayNano::new(-age.months, -age.days, -age.nanoseconds));
    }
    let month = |at: NaiveDateTime| at.year() * 12 + at.month0().cast_signed();
    let mut months = month(later) - month(earlier);
    let nanoseconds = (later.time() - earlier.time()).num_nanoseconds()?;
    let mut days = later.day().cast_signed() - earlier.day().cast_signed();
    let mut left = nanoseconds;
    if left < 0 {
        left += 86_400_000_000_000;
        days -= 1;
    }
    if days < 0 {
        let first = earlier.date().with_day(1)?;
        let length = (first.checked_add_months(Months::new(1))? - first).num_days();
        days += i32::try_from(length).ok()?;
        months -= 1;
    }
    Some(IntervalMonthDayNano::new(months, days, left))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_counted_like_postgres_does() {
        let at = |text: &str| NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S").unwrap();
        let age = |later: &str, earlier: &str| {
            let age = between(at(later), at(earlier)).unwrap();
            (age.months, age.days, age.nanoseconds / 3_600_000_000_000)
        };
        assert_eq!(age("2024-02-03 00:00:00", "2023-01-01 00:00:00"), (13, 2, 0));
        assert_eq!(age("2024-03-01 00:00:00", "2024-01-31 00:00:00"), (1, 1, 0));
        assert_eq!(age("2024-03-01 06:00:00", "2024-02-29 12:00:00"), (0, 0, 18));
        assert_eq!(age("2023-01-01 00:00:00", "2024-02-03 00:00:00"), (-13, -2, 0));
    }
}
