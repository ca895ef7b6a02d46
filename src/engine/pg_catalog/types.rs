//! The Postgres types that Arrow's are, by the names and numbers that the catalog has for them.

use datafusion::arrow::datatypes::{DataType, Field};

/// A type of Postgres, under its short name, its name in SQL, and other names.
#[derive(Debug, PartialEq, Eq)]
pub struct PgType {
    pub name: &'static str,
    pub sql: &'static str,
    aliases: &'static [&'static str],
    pub oid: i32,
    pub array: i32,
}

const fn pg(name: &'static str, sql: &'static str, aliases: &'static [&'static str], oid: i32, array: i32) -> PgType {
    PgType { name, sql, aliases, oid, array }
}

/// The types that have other names than their short one, and those that columns of ours can be.
const TYPES: &[PgType] = &[
    pg("bool", "boolean", &[], 16, 1000),
    pg("bytea", "bytea", &[], 17, 1001),
    pg("char", "\"char\"", &[], 18, 1002),
    pg("name", "name", &[], 19, 1003),
    pg("int8", "bigint", &[], 20, 1016),
    pg("int2", "smallint", &[], 21, 1005),
    pg("int4", "integer", &["int"], 23, 1007),
    pg("text", "text", &["string"], 25, 1009),
    pg("oid", "oid", &[], 26, 1028),
    pg("json", "json", &[], 114, 199),
    pg("float4", "real", &[], 700, 1021),
    pg("float8", "double precision", &["float"], 701, 1022),
    pg("bpchar", "character", &["char"], 1042, 1014),
    pg("varchar", "character varying", &[], 1043, 1015),
    pg("date", "date", &[], 1082, 1182),
    pg("time", "time without time zone", &[], 1083, 1183),
    pg("timestamp", "timestamp without time zone", &[], 1114, 1115),
    pg("timestamptz", "timestamp with time zone", &[], 1184, 1185),
    pg("interval", "interval", &[], 1186, 1187),
    pg("timetz", "time with time zone", &[], 1266, 1270),
    pg("bit", "bit", &[], 1560, 1561),
    pg("varbit", "bit varying", &[], 1562, 1563),
    pg("numeric", "numeric", &["decimal"], 1700, 1231),
    pg("uuid", "uuid", &[], 2950, 2951),
    pg("jsonb", "jsonb", &[], 3802, 3807),
];

/// The type of that name, and whether it is an array of it: `int4`, `double precision`, `text[]`, `_text`.
pub fn named(name: &str) -> Option<(&'static PgType, bool)> {
    let name = name.trim().to_lowercase();
    let name = name.strip_prefix("pg_catalog.").unwrap_or(&name);
    let (bare, is_array) = match name.strip_suffix("[]") {
        Some(bare) => (bare, true),
        None => match name.strip_prefix('_') {
            Some(bare) => (bare, true),
            None => (name, false),
        },
    };
    let bare = bare.trim_matches('"').split('(').next()?.trim();
    // What is `char` to SQL is `bpchar` to the catalog, whose own `char` is written in quotes.
    let by_sql = TYPES.iter().find(|of| of.sql == bare || of.aliases.contains(&bare));
    let found = by_sql.or_else(|| TYPES.iter().find(|of| of.name == bare))?;
    Some((found, is_array))
}

/// The type of that number, and whether it is its array.
pub fn numbered(oid: i32) -> Option<(&'static PgType, bool)> {
    TYPES.iter().find_map(|of| match oid {
        oid if oid == of.oid => Some((of, false)),
        oid if oid == of.array => Some((of, true)),
        _ => None,
    })
}

fn short(name: &str) -> &'static PgType {
    TYPES.iter().find(|of| of.name == name).unwrap_or(&TYPES[7])
}

/// What a column is to a client: its type, whether it is an array of it, and the modifier, -1 where there is none.
#[derive(Debug, Clone, Copy)]
pub struct ColumnType {
    pub of: &'static PgType,
    pub is_array: bool,
    pub modifier: i32,
}

impl ColumnType {
    pub fn oid(self) -> i32 {
        if self.is_array { self.of.array } else { self.of.oid }
    }

    /// (digits, decimals) of a numeric that says how many it has.
    pub fn digits(self) -> Option<(i32, i32)> {
        (self.of.name == "numeric" && self.modifier > 0)
            .then(|| ((self.modifier - 4) >> 16, (self.modifier - 4) & 0x7ff))
    }
}

/// The type of a column. It is the one that its values travel as.
pub fn of_column(field: &Field) -> ColumnType {
    let extension = field.metadata().get("ARROW:extension:name").map(String::as_str);
    let plain = |name: &str| ColumnType { of: short(name), is_array: false, modifier: -1 };
    match field.data_type() {
        DataType::Boolean => plain("bool"),
        DataType::Int8 | DataType::Int16 | DataType::UInt8 => plain("int2"),
        DataType::Int32 if field.metadata().contains_key("pg.oid_alias") => plain("oid"),
        DataType::Int32 | DataType::UInt16 => plain("int4"),
        DataType::Int64 | DataType::UInt32 => plain("int8"),
        DataType::UInt64 => plain("numeric"),
        DataType::Float16 | DataType::Float32 => plain("float4"),
        DataType::Float64 => plain("float8"),
        DataType::Decimal32(digits, decimals)
        | DataType::Decimal64(digits, decimals)
        | DataType::Decimal128(digits, decimals)
        | DataType::Decimal256(digits, decimals) => ColumnType {
            modifier: ((i32::from(*digits) << 16) | (i32::from(*decimals) & 0x7ff)) + 4,
            ..plain("numeric")
        },
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View if extension == Some("arrow.json") => plain("json"),
        DataType::Utf8 if extension == Some("pg.name") => plain("name"),
        DataType::Utf8 if extension == Some("pg.char") => plain("char"),
        DataType::FixedSizeBinary(16) if extension == Some("arrow.uuid") => plain("uuid"),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            plain("bytea")
        }
        DataType::Date32 | DataType::Date64 => plain("date"),
        DataType::Time32(_) | DataType::Time64(_) => plain("time"),
        DataType::Timestamp(_, None) => plain("timestamp"),
        DataType::Timestamp(_, Some(_)) => plain("timestamptz"),
        DataType::Interval(_) | DataType::Duration(_) => plain("interval"),
        DataType::Dictionary(_, values) => of_column(&Field::new("", values.as_ref().clone(), true)),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            ColumnType { is_array: true, ..of_column(item) }
        }
        DataType::Struct(_) | DataType::Map(..) => plain("json"),
        _ => plain("text"),
    }
}

/// A type as `format_type` writes it: `numeric(12,2)`, `text[]`.
pub fn written(of: &PgType, is_array: bool, modifier: i32) -> String {
    let with_modifier = match of.name {
        "numeric" if modifier >= 4 => format!("numeric({},{})", (modifier - 4) >> 16, (modifier - 4) & 0x7ff),
        "varchar" | "bpchar" if modifier >= 4 => format!("{}({})", of.sql, modifier - 4),
        "time" | "timestamp" | "timetz" | "timestamptz" if modifier >= 0 => match of.sql.split_once(' ') {
            Some((name, zone)) => format!("{name}({modifier}) {zone}"),
            None => of.sql.to_owned(),
        },
        _ => of.sql.to_owned(),
    };
    if is_array { format!("{with_modifier}[]") } else { with_modifier }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_known_by_all_their_names() {
        let oid = |name: &str| named(name).map(|(of, is_array)| if is_array { of.array } else { of.oid });
        assert_eq!(oid("int4"), Some(23));
        assert_eq!(oid("Double Precision"), Some(701));
        assert_eq!(oid("pg_catalog.text[]"), Some(1009));
        assert_eq!(oid("_int8"), Some(1016));
        assert_eq!(oid("numeric(12,2)"), Some(1700));
        assert_eq!(oid("char"), Some(1042));
        assert_eq!(oid("hstore"), None);
    }

    #[test]
    fn types_are_written_like_postgres_does() {
        let shown = |data_type: DataType| {
            let column = of_column(&Field::new("c", data_type, true));
            written(column.of, column.is_array, column.modifier)
        };
        assert_eq!(shown(DataType::Decimal128(12, 2)), "numeric(12,2)");
        assert_eq!(shown(DataType::new_list(DataType::Float32, true)), "real[]");
        assert_eq!(shown(DataType::Utf8View), "text");
        assert_eq!(written(named("timestamp").unwrap().0, false, 3), "timestamp(3) without time zone");
        assert_eq!(written(named("varchar").unwrap().0, false, 24), "character varying(20)");
    }
}
