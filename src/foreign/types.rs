//! Types of a remote PostgreSQL: which there are, what they are to Arrow, and how a query asks for them.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, IntervalUnit, TimeUnit};
use serde::{Deserialize, Serialize};

/// Digits of a numeric that says neither how many it has nor how many are decimals, as a parameter of that type has them.
const NUMERIC: (u8, i8) = (38, 10);

/// What one value is over there, as its binary form says.
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

    fn sql(self) -> &'static str {
        match self {
            Self::Bool => "boolean",
            Self::Int2 => "smallint",
            Self::Int4 => "integer",
            Self::Int8 => "bigint",
            Self::Oid => "oid",
            Self::Float4 => "real",
            Self::Float8 => "double precision",
            Self::Numeric { .. } => "numeric",
            // A document is asked for as text: jsonb has another binary form than json.
            Self::Text | Self::Json => "text",
            Self::Uuid => "uuid",
            Self::Bytea => "bytea",
            Self::Date => "date",
            Self::Time => "time",
            Self::Timestamp => "timestamp",
            Self::Timestamptz => "timestamptz",
            Self::Interval => "interval",
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

    /// A type by its name in pg_type, where `typmod` is what stands in parentheses after it; `None`: one that we do not
    /// read.
    fn named(name: &str, typmod: i32) -> Option<Self> {
        Some(match name {
            "bool" => Self::Bool,
            "int2" => Self::Int2,
            "int4" => Self::Int4,
            "int8" => Self::Int8,
            "oid" => Self::Oid,
            "float4" => Self::Float4,
            "float8" => Self::Float8,
            "numeric" => numeric(typmod)?,
            "text" | "varchar" | "name" | "bpchar" | "char" | "citext" | "xml" | "inet" | "cidr" | "macaddr"
            | "macaddr8" => Self::Text,
            "uuid" => Self::Uuid,
            "json" | "jsonb" => Self::Json,
            "bytea" => Self::Bytea,
            "date" => Self::Date,
            "time" => Self::Time,
            "timestamp" => Self::Timestamp,
            "timestamptz" => Self::Timestamptz,
            "interval" => Self::Interval,
            _ => return None,
        })
    }
}

/// `numeric(10, 2)` and its like. More than 38 digits have no place in an Arrow decimal: where a value has so many, reading
/// it fails, and no other does.
fn numeric(typmod: i32) -> Option<Scalar> {
    let (precision, scale) = match typmod {
        ..4 => NUMERIC,
        _ => {
            let typmod = typmod - 4;
            // Eleven bits with a sign (PostgreSQL 15, numeric.c).
            let scale = ((typmod & 0x7ff) ^ 1024) - 1024;
            let scale = i8::try_from(scale.max(0)).ok().filter(|scale| *scale <= 38)?;
            let precision = if scale > 0 || typmod & 0x400 == 0 { (typmod >> 16) & 0xffff } else { 38 };
            (u8::try_from(precision.clamp(i32::from(scale).max(1), 38)).ok()?, scale)
        }
    };
    Some(Scalar::Numeric { precision, scale })
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

    /// What a query casts it to, so that it comes in the form that is expected whatever became of the column since.
    pub fn sql(self) -> String {
        format!("{}{}", self.scalar.sql(), if self.list { "[]" } else { "" })
    }

    /// The type that values of a plan's type are asked for as; `None`: there is none that means the same.
    pub fn of(arrow: &DataType) -> Option<Self> {
        match arrow {
            DataType::List(item) => Some(Self { scalar: Scalar::of(item.data_type())?, list: true }),
            other => Scalar::of(other).map(Self::scalar),
        }
    }

    /// A type as pg_type describes it.
    pub fn described(described: &Described) -> Option<Self> {
        let list = !described.element.is_empty();
        let (name, kind, schema) = match list {
            true => (&described.element, &described.element_kind, &described.element_schema),
            false => (&described.name, &described.kind, &described.schema),
        };
        let scalar = match kind.as_str() {
            "e" => Scalar::Text,
            "b" if schema == "pg_catalog" || name == "citext" => Scalar::named(name, described.typmod)?,
            _ => return None,
        };
        Some(Self { scalar, list })
    }
}

/// What pg_type says of a type, domains taken away; of an array also what it says of its element.
#[derive(Debug, Default)]
pub struct Described {
    pub name: String,
    pub kind: String,
    pub schema: String,
    pub typmod: i32,
    /// Empty: no array.
    pub element: String,
    pub element_kind: String,
    pub element_schema: String,
}

impl Described {
    /// Whether a column of it is compared over there as what it is read as is compared here.
    pub fn is_compared_as_it_is(&self) -> bool {
        let (name, kind) = match self.element.is_empty() {
            true => (&self.name, &self.kind),
            false => (&self.element, &self.element_kind),
        };
        let otherwise = ["bpchar", "char", "citext", "xml", "inet", "cidr", "macaddr", "macaddr8"];
        kind == "b" && !otherwise.contains(&name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(name: &str, typmod: i32) -> Option<RemoteType> {
        let (kind, schema) = ("b".to_owned(), "pg_catalog".to_owned());
        RemoteType::described(&Described { name: name.to_owned(), kind, schema, typmod, ..Described::default() })
    }

    #[test]
    fn a_numeric_has_the_digits_it_was_declared_with() {
        let declared = |precision: i32, scale: i32| ((precision << 16) | (scale & 0x7ff)) + 4;
        let read = |typmod| described("numeric", typmod).map(RemoteType::arrow);
        assert_eq!(read(declared(10, 2)), Some(DataType::Decimal128(10, 2)));
        assert_eq!(read(declared(3, 5)), Some(DataType::Decimal128(5, 5)));
        assert_eq!(read(declared(60, 4)), Some(DataType::Decimal128(38, 4)));
        assert_eq!(read(declared(5, -3)), Some(DataType::Decimal128(38, 0)));
        assert_eq!(read(declared(60, 50)), None);
        assert_eq!(read(-1), Some(DataType::Decimal128(38, 10)));
    }

    #[test]
    fn types_that_we_do_not_know_are_left_out() {
        assert_eq!(described("tsvector", -1), None);
        assert_eq!(described("point", -1), None);
        let composite = Described { name: "pair".to_owned(), kind: "c".to_owned(), ..Described::default() };
        assert_eq!(RemoteType::described(&composite), None);
        let mood = Described { name: "mood".to_owned(), kind: "e".to_owned(), ..Described::default() };
        assert_eq!(RemoteType::described(&mood), Some(RemoteType::scalar(Scalar::Text)));
        assert!(!mood.is_compared_as_it_is());
    }
}
