//! Arrow types and the Postgres types they travel as.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, IntervalUnit, TimeUnit};
use pgwire::api::Type;

use crate::error::{Error, Result};

/// Scalar types and their arrays: the one list both directions go by.
const ARRAYS: [(Type, Type); 19] = [
    (Type::BOOL, Type::BOOL_ARRAY),
    (Type::INT2, Type::INT2_ARRAY),
    (Type::INT4, Type::INT4_ARRAY),
    (Type::INT8, Type::INT8_ARRAY),
    (Type::FLOAT4, Type::FLOAT4_ARRAY),
    (Type::FLOAT8, Type::FLOAT8_ARRAY),
    (Type::NUMERIC, Type::NUMERIC_ARRAY),
    (Type::TEXT, Type::TEXT_ARRAY),
    (Type::VARCHAR, Type::VARCHAR_ARRAY),
    (Type::BPCHAR, Type::BPCHAR_ARRAY),
    (Type::BYTEA, Type::BYTEA_ARRAY),
    (Type::UUID, Type::UUID_ARRAY),
    (Type::DATE, Type::DATE_ARRAY),
    (Type::TIME, Type::TIME_ARRAY),
    (Type::TIMESTAMP, Type::TIMESTAMP_ARRAY),
    (Type::TIMESTAMPTZ, Type::TIMESTAMPTZ_ARRAY),
    (Type::INTERVAL, Type::INTERVAL_ARRAY),
    (Type::JSON, Type::JSON_ARRAY),
    (Type::OID, Type::OID_ARRAY),
];

/// The type a column travels as. Extension names in the field's metadata tell a uuid and a json document apart
/// from plain bytes and text.
pub(super) fn wire_type(field: &Field) -> Result<Type> {
    let extension = field.metadata().get("ARROW:extension:name").map(String::as_str);
    Ok(match field.data_type() {
        DataType::Null => Type::TEXT,
        DataType::Boolean => Type::BOOL,
        DataType::Int8 | DataType::Int16 | DataType::UInt8 => Type::INT2,
        DataType::Int32 if field.metadata().contains_key("pg.oid_alias") => Type::OID,
        DataType::Int32 | DataType::UInt16 => Type::INT4,
        DataType::Int64 | DataType::UInt32 => Type::INT8,
        DataType::UInt64 => Type::NUMERIC,
        DataType::Float16 | DataType::Float32 => Type::FLOAT4,
        DataType::Float64 => Type::FLOAT8,
        DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..) => {
            Type::NUMERIC
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View if extension == Some("arrow.json") => Type::JSON,
        // Columns of the catalog; a cast makes another kind of text of them, and keeps the metadata.
        DataType::Utf8 if extension == Some("pg.name") => Type::NAME,
        DataType::Utf8 if extension == Some("pg.char") => Type::CHAR,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Type::TEXT,
        DataType::FixedSizeBinary(16) if extension == Some("arrow.uuid") => Type::UUID,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => Type::BYTEA,
        DataType::Date32 | DataType::Date64 => Type::DATE,
        DataType::Time32(_) | DataType::Time64(_) => Type::TIME,
        DataType::Timestamp(_, None) => Type::TIMESTAMP,
        DataType::Timestamp(_, Some(_)) => Type::TIMESTAMPTZ,
        DataType::Interval(_) | DataType::Duration(_) => Type::INTERVAL,
        DataType::Dictionary(_, values) => {
            let values = Field::new(field.name(), values.as_ref().clone(), true);
            wire_type(&values.with_metadata(field.metadata().clone()))?
        }
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            let item = match wire_type(item)? {
                Type::NAME | Type::CHAR => Type::TEXT,
                item => item,
            };
            // A list of lists has the type of its innermost list, as in Postgres.
            if element_of(&item).is_some() { item } else { array_of(&item).ok_or_else(|| unsupported(field))? }
        }
        DataType::Struct(_) | DataType::Map(..) => Type::JSON,
        DataType::Union(..) | DataType::RunEndEncoded(..) | DataType::ListView(_) | DataType::LargeListView(_) => {
            return Err(unsupported(field));
        }
    })
}

/// The type a parameter is planned as when the client declares it. `None`: left to what the statement makes of it.
pub(super) fn parameter_type(declared: &Type) -> Option<DataType> {
    Some(match *declared {
        Type::BOOL => DataType::Boolean,
        Type::INT2 => DataType::Int16,
        Type::INT4 => DataType::Int32,
        Type::INT8 | Type::OID => DataType::Int64,
        Type::FLOAT4 => DataType::Float32,
        Type::FLOAT8 => DataType::Float64,
        // A numeric parameter does not say how many decimals it has; ten leave 28 digits before the point.
        Type::NUMERIC => DataType::Decimal128(38, 10),
        // The engine compares uuids and json documents as text.
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::UUID | Type::JSON | Type::JSONB => {
            DataType::Utf8
        }
        Type::BYTEA => DataType::Binary,
        Type::DATE => DataType::Date32,
        Type::TIME => DataType::Time64(TimeUnit::Microsecond),
        Type::TIMESTAMP => DataType::Timestamp(TimeUnit::Microsecond, None),
        Type::TIMESTAMPTZ => DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC"))),
        Type::INTERVAL => DataType::Interval(IntervalUnit::MonthDayNano),
        _ => {
            let item = parameter_type(&element_of(declared)?)?;
            DataType::List(Arc::new(Field::new_list_field(item, true)))
        }
    })
}

pub(super) fn array_of(element: &Type) -> Option<Type> {
    ARRAYS.iter().find(|(of, _)| of == element).map(|(_, array)| array.clone())
}

pub(super) fn element_of(array: &Type) -> Option<Type> {
    ARRAYS.iter().find(|(_, of)| of == array).map(|(element, _)| element.clone())
}

/// The size a row description gives: bytes, or -1 where it varies.
pub(super) fn size(of: &Type) -> i16 {
    match *of {
        Type::BOOL => 1,
        Type::INT2 => 2,
        Type::CHAR => 1,
        Type::NAME => 64,
        Type::INT4 | Type::FLOAT4 | Type::DATE | Type::OID => 4,
        Type::INT8 | Type::FLOAT8 | Type::TIME | Type::TIMESTAMP | Type::TIMESTAMPTZ => 8,
        Type::INTERVAL | Type::UUID => 16,
        _ => -1,
    }
}

/// The modifier a row description gives: digits and decimals of a numeric, -1 for everything else.
pub(super) fn modifier(of: &DataType) -> i32 {
    match of {
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => ((i32::from(*precision) << 16) | (i32::from(*scale) & 0x7ff)) + 4,
        DataType::Dictionary(_, values) => modifier(values),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            modifier(item.data_type())
        }
        _ => -1,
    }
}

/// The name people know a type by; the short names are for the wire.
pub(super) fn name(of: &Type) -> &str {
    match *of {
        Type::BOOL => "boolean",
        Type::INT2 => "smallint",
        Type::INT4 => "integer",
        Type::INT8 => "bigint",
        Type::FLOAT4 => "real",
        Type::FLOAT8 => "double precision",
        Type::TIMESTAMPTZ => "timestamp with time zone",
        Type::VARCHAR => "character varying",
        _ => of.name(),
    }
}

fn unsupported(field: &Field) -> Error {
    Error::unsupported(format!("column \"{}\" has a type that clients cannot receive", field.name()))
        .hint(format!("it is {}; cast it to text", field.data_type()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(data_type: DataType) -> Type {
        wire_type(&Field::new("x", data_type, true)).unwrap()
    }

    #[test]
    fn what_is_received_is_what_was_declared() {
        for (scalar, array) in ARRAYS {
            let planned = parameter_type(&scalar).unwrap();
            // Several text types are one in Arrow; a uuid is compared as text.
            let text = [Type::VARCHAR, Type::BPCHAR, Type::UUID, Type::JSON].contains(&scalar);
            // A number of an object is compared with numbers of any size.
            let (scalar, array) = match scalar {
                Type::OID => (Type::INT8, Type::INT8_ARRAY),
                scalar => (scalar, array),
            };
            assert_eq!(of(planned), if text { Type::TEXT } else { scalar });
            assert_eq!(of(parameter_type(&array).unwrap()), if text { Type::TEXT_ARRAY } else { array });
        }
        assert_eq!(parameter_type(&Type::POINT), None);
    }

    #[test]
    fn unsigned_numbers_get_the_next_wider_type() {
        assert_eq!(of(DataType::UInt8), Type::INT2);
        assert_eq!(of(DataType::UInt16), Type::INT4);
        assert_eq!(of(DataType::UInt32), Type::INT8);
        assert_eq!(of(DataType::UInt64), Type::NUMERIC);
    }

    #[test]
    fn lists_of_lists_are_arrays_of_their_innermost_type() {
        let inner = DataType::new_list(DataType::Float32, true);
        assert_eq!(of(DataType::new_list(inner, true)), Type::FLOAT4_ARRAY);
    }

    #[test]
    fn digits_and_decimals_travel_in_the_modifier() {
        assert_eq!(modifier(&DataType::Decimal128(12, 2)), ((12 << 16) | 2) + 4);
        assert_eq!(modifier(&DataType::Int64), -1);
    }

    #[test]
    fn a_uuid_is_known_by_its_extension_name() {
        let bytes = Field::new("id", DataType::FixedSizeBinary(16), true);
        assert_eq!(wire_type(&bytes).unwrap(), Type::BYTEA);
        let uuid = bytes.with_metadata([("ARROW:extension:name".to_owned(), "arrow.uuid".to_owned())].into());
        assert_eq!(wire_type(&uuid).unwrap(), Type::UUID);
    }
}
