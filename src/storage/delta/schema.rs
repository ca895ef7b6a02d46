//! The columns of a table as Delta writes them.

use datafusion::arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use serde_json::{Value, json};

/// Whether Delta has all of a table's types. A table with others is read by us alone.
pub(super) fn can_publish(columns: &Schema) -> bool {
    columns.fields().iter().all(|field| type_of(field.data_type()).is_some())
}

/// Whether a table has timestamps without a zone, which readers of old do not know.
pub(super) fn has_local_times(columns: &Schema) -> bool {
    fn within(data_type: &DataType) -> bool {
        match data_type {
            DataType::Timestamp(_, None) => true,
            DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
                within(item.data_type())
            }
            DataType::Struct(fields) => fields.iter().any(|field| within(field.data_type())),
            DataType::Map(entries, _) => within(entries.data_type()),
            _ => false,
        }
    }
    columns.fields().iter().any(|field| within(field.data_type()))
}

/// `schemaString` of the protocol.
pub(super) fn schema_string(columns: &Schema) -> String {
    json!({ "type": "struct", "fields": fields(columns.fields()) }).to_string()
}

fn fields<'a>(fields: impl IntoIterator<Item = &'a std::sync::Arc<Field>>) -> Option<Vec<Value>> {
    let field = |field: &std::sync::Arc<Field>| {
        let data_type = type_of(field.data_type())?;
        Some(json!({ "name": field.name(), "type": data_type, "nullable": field.is_nullable(), "metadata": {} }))
    };
    fields.into_iter().map(field).collect()
}

fn type_of(data_type: &DataType) -> Option<Value> {
    let primitive = match data_type {
        DataType::Boolean => "boolean",
        DataType::Int8 => "byte",
        DataType::Int16 | DataType::UInt8 => "short",
        DataType::Int32 | DataType::UInt16 => "integer",
        DataType::Int64 | DataType::UInt32 => "long",
        DataType::Float32 => "float",
        DataType::Float64 => "double",
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "string",
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "binary",
        DataType::Date32 => "date",
        DataType::Timestamp(TimeUnit::Microsecond, None) => "timestamp_ntz",
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => "timestamp",
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
            if *scale >= 0 =>
        {
            return Some(Value::String(format!("decimal({precision},{scale})")));
        }
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            let element = type_of(item.data_type())?;
            return Some(json!({ "type": "array", "elementType": element, "containsNull": item.is_nullable() }));
        }
        DataType::Struct(inner) => return Some(json!({ "type": "struct", "fields": fields(inner)? })),
        DataType::Map(entries, _) => {
            let DataType::Struct(pair) = entries.data_type() else { return None };
            let (key, value) = (pair.first()?, pair.get(1)?);
            return Some(json!({
                "type": "map",
                "keyType": type_of(key.data_type())?,
                "valueType": type_of(value.data_type())?,
                "valueContainsNull": value.is_nullable(),
            }));
        }
        _ => return None,
    };
    Some(Value::String(primitive.to_owned()))
}
