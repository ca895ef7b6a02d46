//! Types of a remote MySQL: which of them are read as what.

use crate::foreign::types::Scalar;

/// A column as information_schema.columns describes it.
#[derive(Debug, Default)]
pub struct Described {
    /// `decimal`
    pub name: String,
    /// `decimal(10,2) unsigned`
    pub whole: String,
    pub precision: Option<u64>,
    pub scale: Option<u64>,
}

/// What its values are read as; `None`: they are not.
pub fn described(column: &Described) -> Option<Scalar> {
    let (name, whole) = (column.name.to_lowercase(), column.whole.to_lowercase());
    let is_unsigned = whole.contains("unsigned");
    Some(match name.as_str() {
        // As MySQL writes boolean.
        "tinyint" if whole.starts_with("tinyint(1)") && !is_unsigned => Scalar::Bool,
        "tinyint" | "year" => Scalar::Int2,
        "smallint" if !is_unsigned => Scalar::Int2,
        "smallint" | "mediumint" => Scalar::Int4,
        "int" if !is_unsigned => Scalar::Int4,
        "int" => Scalar::Int8,
        "bigint" if !is_unsigned => Scalar::Int8,
        "bigint" => Scalar::Numeric { precision: 20, scale: 0 },
        "float" => Scalar::Float4,
        "double" => Scalar::Float8,
        // More than 38 digits have no place in an Arrow decimal: where a value has so many, reading it fails.
        "decimal" => Scalar::Numeric {
            precision: u8::try_from(column.precision?.clamp(1, 38)).ok()?,
            scale: i8::try_from(column.scale?).ok().filter(|scale| *scale <= 38)?,
        },
        "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" | "enum" | "set" | "uuid" | "inet4"
        | "inet6" => Scalar::Text,
        "json" => Scalar::Json,
        "bit" | "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => Scalar::Bytea,
        "date" => Scalar::Date,
        "time" => Scalar::Time,
        "datetime" => Scalar::Timestamp,
        "timestamp" => Scalar::Timestamptz,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_have_room_for_all_their_values() {
        let of = |whole: &str| {
            let name = whole.split(['(', ' ']).next().unwrap().to_owned();
            described(&Described { name, whole: whole.to_owned(), precision: Some(10), scale: Some(2) })
        };
        assert_eq!(of("tinyint(1)"), Some(Scalar::Bool));
        assert_eq!(of("tinyint(1) unsigned"), Some(Scalar::Int2));
        assert_eq!(of("tinyint(4)"), Some(Scalar::Int2));
        assert_eq!(of("smallint(5) unsigned"), Some(Scalar::Int4));
        assert_eq!(of("int(10) unsigned"), Some(Scalar::Int8));
        assert_eq!(of("bigint unsigned"), Some(Scalar::Numeric { precision: 20, scale: 0 }));
        assert_eq!(of("decimal(10,2)"), Some(Scalar::Numeric { precision: 10, scale: 2 }));
        assert_eq!(of("enum('a','unsigned')"), Some(Scalar::Text));
        assert_eq!(of("point"), None);
    }
}
