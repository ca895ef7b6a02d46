//! Types of a remote PostgreSQL: which of them are read as what, and how a query asks for them.

use crate::foreign::types::{RemoteType, Scalar};

/// Digits of a numeric that says neither how many it has nor how many are decimals, as a parameter of that type has them.
const NUMERIC: (u8, i8) = (38, 10);

/// What a query casts it to, so that it comes in the form that is expected whatever became of the column since.
pub fn sql(of: RemoteType) -> String {
    format!("{}{}", scalar(of.scalar), if of.list { "[]" } else { "" })
}

fn scalar(of: Scalar) -> &'static str {
    match of {
        Scalar::Bool => "boolean",
        Scalar::Int2 => "smallint",
        Scalar::Int4 => "integer",
        Scalar::Int8 => "bigint",
        Scalar::Oid => "oid",
        Scalar::Float4 => "real",
        Scalar::Float8 => "double precision",
        Scalar::Numeric { .. } => "numeric",
        // A document is asked for as text: jsonb has another binary form than json.
        Scalar::Text | Scalar::Json => "text",
        Scalar::Uuid => "uuid",
        Scalar::Bytea => "bytea",
        Scalar::Date => "date",
        Scalar::Time => "time",
        Scalar::Timestamp => "timestamp",
        Scalar::Timestamptz => "timestamptz",
        Scalar::Interval => "interval",
    }
}

/// A type as pg_type describes it.
pub fn described(described: &Described) -> Option<RemoteType> {
    let list = !described.element.is_empty();
    let (name, kind, schema) = match list {
        true => (&described.element, &described.element_kind, &described.element_schema),
        false => (&described.name, &described.kind, &described.schema),
    };
    let scalar = match kind.as_str() {
        "e" => Scalar::Text,
        "b" if schema == "pg_catalog" || name == "citext" => named(name, described.typmod)?,
        _ => return None,
    };
    Some(RemoteType { scalar, list })
}

/// A type by its name in pg_type, where `typmod` is what stands in parentheses after it; `None`: one that we do not
/// read.
fn named(name: &str, typmod: i32) -> Option<Scalar> {
    Some(match name {
        "bool" => Scalar::Bool,
        "int2" => Scalar::Int2,
        "int4" => Scalar::Int4,
        "int8" => Scalar::Int8,
        "oid" => Scalar::Oid,
        "float4" => Scalar::Float4,
        "float8" => Scalar::Float8,
        "numeric" => numeric(typmod)?,
        "text" | "varchar" | "name" | "bpchar" | "char" | "citext" | "xml" | "inet" | "cidr" | "macaddr"
        | "macaddr8" => Scalar::Text,
        "uuid" => Scalar::Uuid,
        "json" | "jsonb" => Scalar::Json,
        "bytea" => Scalar::Bytea,
        "date" => Scalar::Date,
        "time" => Scalar::Time,
        "timestamp" => Scalar::Timestamp,
        "timestamptz" => Scalar::Timestamptz,
        "interval" => Scalar::Interval,
        _ => return None,
    })
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
    use datafusion::arrow::datatypes::DataType;

    use super::*;

    fn described(name: &str, typmod: i32) -> Option<RemoteType> {
        let (kind, schema) = ("b".to_owned(), "pg_catalog".to_owned());
        super::described(&Described { name: name.to_owned(), kind, schema, typmod, ..Described::default() })
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
        assert_eq!(super::described(&composite), None);
        let mood = Described { name: "mood".to_owned(), kind: "e".to_owned(), ..Described::default() };
        assert_eq!(super::described(&mood), Some(RemoteType::scalar(Scalar::Text)));
        assert!(!mood.is_compared_as_it_is());
    }
}
