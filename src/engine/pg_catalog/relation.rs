//! A relation of the catalog: its columns, and the function that makes its rows of what there is.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, BooleanArray, Float32Array, Int16Array, Int32Array, Int64Array, ListBuilder, PrimitiveBuilder,
    StringArray, StringBuilder, TimestampMicrosecondArray,
};
use datafusion::arrow::datatypes::{
    ArrowPrimitiveType, DataType, Field, Int16Type, Int32Type, Schema, SchemaRef, TimeUnit,
};
use datafusion::arrow::record_batch::RecordBatch;
use serde_json::Value;

use crate::engine::pg_catalog::objects::Objects;
use crate::error::Result;

/// Marks a column of numbers as numbers of objects: `oid`, `regclass`, `regproc`, … The crate's own relations use it too.
pub const OID_ALIAS: &str = "pg.oid_alias";

/// Where Arrow keeps the name of a type that it does not have.
const EXTENSION: &str = "ARROW:extension:name";

pub struct SystemRelation {
    pub name: &'static str,
    pub columns: &'static [(&'static str, Cell)],
    pub rows: fn(&Objects) -> Vec<Row>,
}

/// One row, as loosely typed as the facts it is made of; [`Cell`] says what each value becomes.
pub type Row = Vec<Value>;

/// A row of anything that JSON can hold.
macro_rules! row {
    ($($value:expr),* $(,)?) => { vec![$(serde_json::Value::from($value)),*] };
}
pub(super) use row;

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    Oid,
    Regproc,
    Text,
    /// Text that clients know as the type `name`, and as `"char"`.
    Name,
    Char,
    Bool,
    Int2,
    Int4,
    Int8,
    Real,
    Moment,
    Oids,
    Int2s,
    Texts,
}

impl SystemRelation {
    pub fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.columns.iter().map(|(name, cell)| cell.field(name)).collect::<Vec<_>>()))
    }

    pub fn batch(&self, objects: &Objects) -> Result<RecordBatch> {
        let rows = (self.rows)(objects);
        let null = Value::Null;
        let column =
            |(at, (_, cell)): (usize, &(&str, Cell))| cell.array(rows.iter().map(|row| row.get(at).unwrap_or(&null)));
        Ok(RecordBatch::try_new(self.schema(), self.columns.iter().enumerate().map(column).collect())?)
    }
}

impl Cell {
    pub fn field(self, name: &str) -> Field {
        let field = Field::new(name, self.data_type(), true);
        let (key, value) = match self {
            Self::Oid => (OID_ALIAS, "oid"),
            Self::Regproc => (OID_ALIAS, "regproc"),
            Self::Name => (EXTENSION, "pg.name"),
            Self::Char => (EXTENSION, "pg.char"),
            _ => return field,
        };
        field.with_metadata(HashMap::from([(key.to_owned(), value.to_owned())]))
    }

    fn data_type(self) -> DataType {
        match self {
            Self::Text | Self::Name | Self::Char => DataType::Utf8,
            Self::Bool => DataType::Boolean,
            Self::Int2 => DataType::Int16,
            Self::Oid | Self::Regproc | Self::Int4 => DataType::Int32,
            Self::Int8 => DataType::Int64,
            Self::Real => DataType::Float32,
            Self::Moment => DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC"))),
            Self::Oids => DataType::new_list(DataType::Int32, true),
            Self::Int2s => DataType::new_list(DataType::Int16, true),
            Self::Texts => DataType::new_list(DataType::Utf8, true),
        }
    }

    pub fn array<'a>(self, values: impl Iterator<Item = &'a Value>) -> ArrayRef {
        match self {
            Self::Text | Self::Name | Self::Char => Arc::new(values.map(Value::as_str).collect::<StringArray>()),
            Self::Bool => Arc::new(values.map(Value::as_bool).collect::<BooleanArray>()),
            Self::Int2 => Arc::new(values.map(whole::<Int16Type>).collect::<Int16Array>()),
            Self::Oid | Self::Regproc | Self::Int4 => Arc::new(values.map(whole::<Int32Type>).collect::<Int32Array>()),
            Self::Int8 => Arc::new(values.map(Value::as_i64).collect::<Int64Array>()),
            #[expect(clippy::cast_possible_truncation)] // Costs and counts, which nobody wants to more digits.
            Self::Real => Arc::new(values.map(|value| value.as_f64().map(|n| n as f32)).collect::<Float32Array>()),
            Self::Moment => {
                let moments: TimestampMicrosecondArray = values.map(Value::as_i64).collect();
                Arc::new(moments.with_timezone("UTC"))
            }
            Self::Oids => numbers::<Int32Type>(values),
            Self::Int2s => numbers::<Int16Type>(values),
            Self::Texts => {
                let mut lists = ListBuilder::new(StringBuilder::new());
                for value in values {
                    for item in value.as_array().into_iter().flatten() {
                        lists.values().append_option(item.as_str());
                    }
                    lists.append(value.is_array());
                }
                Arc::new(lists.finish())
            }
        }
    }
}

fn whole<T: ArrowPrimitiveType>(value: &Value) -> Option<T::Native>
where
    T::Native: TryFrom<i64>,
{
    T::Native::try_from(value.as_i64()?).ok()
}

fn numbers<'a, T: ArrowPrimitiveType>(values: impl Iterator<Item = &'a Value>) -> ArrayRef
where
    T::Native: TryFrom<i64>,
{
    let mut lists = ListBuilder::new(PrimitiveBuilder::<T>::new());
    for value in values {
        for item in value.as_array().into_iter().flatten() {
            lists.values().append_option(whole::<T>(item));
        }
        lists.append(value.is_array());
    }
    Arc::new(lists.finish())
}
