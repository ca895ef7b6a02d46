//! Types of values over there: which there are, and what they are to Arrow.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, IntervalUnit, TimeUnit};
use serde::{Deserialize, Serialize};

/// What one value is over there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scalar {
    Bool,
    Int2,
    Int4,
    Int8,
    Oid,
    Float4,
    Float8,
    Numeric { precision: u8, scale: i8 },
    Text,
    Uuid,
    Json,
    Bytea,
    Date,
    Time,
    Timestamp,
    Timestamptz,
    Interval,
}

/// A scalar, or a list of such.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RemoteType {
    pub scalar: Scalar,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub list: bool,
}

impl Scalar {
    fn arrow(self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Int2 => DataType::Int16,
            Self::Int4 => DataType::Int32,
            Self::Int8 | Self::Oid => DataType::Int64,
            Self::Float4 => DataType::Float32,
            Self::Float8 => DataType::Float64,
            Self::Numeric { precision, scale } => DataType::Decimal128(precision, scale),
            // The engine keeps, compares and joins uuids and json documents as the text they are written as.
            Self::Text | Self::Uuid | Self::Json => DataType::Utf8,
            Self::Bytea => DataType::Binary,
            Self::Date => DataType::Date32,
            Self::Time => DataType::Time64(TimeUnit::Microsecond),
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::Timestamptz => DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC"))),
            Self::Interval => DataType::Interval(IntervalUnit::MonthDayNano),
        }
    }

    /// The scalar that values of a plan's type are asked for as; `None`: there is none that means the same.
    fn of(arrow: &DataType) -> Option<Self> {
        Some(match arrow {
            DataType::Boolean => Self::Bool,
            DataType::Int16 => Self::Int2,
            DataType::Int32 => Self::Int4,
            DataType::Int64 => Self::Int8,
            DataType::Float32 => Self::Float4,
            DataType::Float64 => Self::Float8,
            DataType::Decimal128(precision, scale) => Self::Numeric { precision: *precision, scale: *scale },
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Self::Text,
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => Self::Bytea,
            DataType::Date32 => Self::Date,
            DataType::Time64(_) => Self::Time,
            DataType::Timestamp(_, None) => Self::Timestamp,
            DataType::Timestamp(_, Some(_)) => Self::Timestamptz,
            _ => return None,
        })
    }
}

impl RemoteType {
    pub fn scalar(scalar: Scalar) -> Self {
        Self { scalar, list: false }
    }

    /// The Arrow type that it is read as.
    pub fn arrow(self) -> DataType {
        match self.list {
            true => DataType::List(self.item()),
            false => self.scalar.arrow(),
        }
    }

    /// An item of it as a list.
    pub fn item(self) -> FieldRef {
        Arc::new(Field::new_list_field(self.scalar.arrow(), true))
    }

    /// The type that values of a plan's type are asked for as; `None`: there is none that means the same.
    pub fn of(arrow: &DataType) -> Option<Self> {
        match arrow {
            DataType::List(item) => Some(Self { scalar: Scalar::of(item.data_type())?, list: true }),
            other => Scalar::of(other).map(Self::scalar),
        }
    }
}
