//! Types of columns: what SQL calls them, and which of them can hold the same value.

use std::sync::Arc;

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::compute::kernels::cmp::not_distinct;
use datafusion::arrow::compute::{CastOptions, cast_with_options, not, nullif};
use datafusion::arrow::datatypes::DataType;

use crate::error::Result;

/// The name of a type in SQL, as messages and system tables show it: `bigint`, `text`, `double precision[]`.
pub fn sql_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "boolean".to_owned(),
        DataType::Int8 | DataType::Int16 | DataType::UInt8 => "smallint".to_owned(),
        DataType::Int32 | DataType::UInt16 => "integer".to_owned(),
        DataType::Int64 | DataType::UInt32 => "bigint".to_owned(),
        DataType::UInt64 => "numeric(20,0)".to_owned(),
        DataType::Float16 | DataType::Float32 => "real".to_owned(),
        DataType::Float64 => "double precision".to_owned(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text".to_owned(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            "bytea".to_owned()
        }
        DataType::Timestamp(_, None) => "timestamp".to_owned(),
        DataType::Timestamp(_, Some(_)) => "timestamp with time zone".to_owned(),
        DataType::Date32 | DataType::Date64 => "date".to_owned(),
        DataType::Time32(_) | DataType::Time64(_) => "time".to_owned(),
        DataType::Interval(_) | DataType::Duration(_) => "interval".to_owned(),
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => format!("numeric({precision},{scale})"),
        DataType::Dictionary(_, values) => sql_name(values),
        DataType::List(element)
        | DataType::LargeList(element)
        | DataType::ListView(element)
        | DataType::LargeListView(element)
        | DataType::FixedSizeList(element, _) => format!("{}[]", sql_name(element.data_type())),
        DataType::Struct(_) => "record".to_owned(),
        DataType::Null => "unknown".to_owned(),
        other => other.to_string().to_lowercase(),
    }
}

/// Whether a column of type `given` can hold values of type `wanted` without being cast by hand: numbers of any
/// width, texts of any encoding, dates where moments are wanted. NULL has every type.
pub fn comparable(wanted: &DataType, given: &DataType) -> bool {
    wanted == given
        || given == &DataType::Null
        || (wanted.is_numeric() && given.is_numeric())
        || (is_text(wanted) && is_text(given))
        || (is_moment(wanted) && (is_moment(given) || is_date(given)))
        || (is_date(wanted) && is_date(given))
}

/// The column in a [`comparable`] type. A value that the type cannot hold exactly becomes NULL: 2.5 is no bigint.
pub fn converted(column: &ArrayRef, wanted: &DataType) -> Result<ArrayRef> {
    let given = column.data_type();
    if given == wanted {
        return Ok(Arc::clone(column));
    }
    let lenient = CastOptions { safe: true, ..Default::default() };
    let there = cast_with_options(column, wanted, &lenient)?;
    if is_text(wanted) || given == &DataType::Null {
        return Ok(there);
    }
    let back = cast_with_options(&there, given, &lenient)?;
    Ok(nullif(&there, &not(&not_distinct(&back, column)?)?)?)
}

pub(super) fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, values) => is_text(values),
        _ => false,
    }
}

pub(super) fn is_moment(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(_, _))
}

pub(super) fn is_date(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Date32 | DataType::Date64)
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{AsArray, Float64Array, Int64Array};
    use datafusion::arrow::datatypes::{Field, Int64Type, TimeUnit};

    use super::*;

    #[test]
    fn names_are_those_of_sql() {
        let list = DataType::List(Arc::new(Field::new_list_field(DataType::Float64, true)));
        assert_eq!(sql_name(&list), "double precision[]");
        assert_eq!(sql_name(&DataType::Utf8View), "text");
        assert_eq!(sql_name(&DataType::Timestamp(TimeUnit::Nanosecond, None)), "timestamp");
        assert_eq!(sql_name(&DataType::Decimal128(12, 2)), "numeric(12,2)");
    }

    #[test]
    fn families_of_types() {
        let moment = DataType::Timestamp(TimeUnit::Microsecond, None);
        assert!(comparable(&DataType::Int64, &DataType::Decimal128(10, 2)));
        assert!(comparable(&DataType::Utf8, &DataType::Utf8View));
        assert!(comparable(&moment, &DataType::Date32) && !comparable(&DataType::Date32, &moment));
        assert!(!comparable(&DataType::Int64, &DataType::Utf8) && !comparable(&DataType::Utf8, &DataType::Int64));
        assert!(!comparable(&DataType::Int64, &DataType::Boolean) && !comparable(&DataType::Int64, &moment));
        assert!(comparable(&DataType::Date32, &DataType::Null));
    }

    #[test]
    fn what_does_not_fit_is_null() {
        let floats: ArrayRef = Arc::new(Float64Array::from(vec![Some(2.0), Some(2.5), None, Some(1e30)]));
        let whole = converted(&floats, &DataType::Int64).unwrap();
        assert_eq!(whole.as_primitive::<Int64Type>().iter().collect::<Vec<_>>(), [Some(2), None, None, None]);
        let big: ArrayRef = Arc::new(Int64Array::from(vec![7, 1000]));
        let narrow = converted(&big, &DataType::Int8).unwrap();
        assert_eq!((narrow.null_count(), narrow.len()), (1, 2));
    }
}
