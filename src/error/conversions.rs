//! The errors of the libraries below us as ours.

use datafusion::arrow::error::ArrowError;
use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;

use super::texts::{from_text, is_disk_full, of_a_filter};
use super::{Error, Kind};

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        // Readers and writers of ours say more than the system does.
        if let Some(ours) = error.get_ref().and_then(|inner| Self::within(inner)) {
            return ours.clone();
        }
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::disk_full(),
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
                Self::new(Kind::Io, format!("not allowed to write or read a file: {error}"))
                    .hint("check who owns the data directory")
            }
            _ => Self::new(Kind::Io, format!("could not read or write a file: {error}")),
        }
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => Self::disk_full(),
            Some(rusqlite::ErrorCode::ReadOnly | rusqlite::ErrorCode::CannotOpen) => {
                Self::new(Kind::Io, format!("could not write the catalog: {error}"))
                    .hint("check who owns the data directory")
            }
            Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
                Self::corrupt(format!("the catalog is damaged: {error}"))
            }
            _ => Self::internal(format!("catalog: {error}")),
        }
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::corrupt(format!("stored JSON could not be read: {error}"))
    }
}

impl From<ArrowError> for Error {
    fn from(error: ArrowError) -> Self {
        match error {
            ArrowError::ExternalError(inner) => match inner.downcast::<DataFusionError>() {
                Ok(inner) => Self::from(*inner),
                Err(inner) => match inner.downcast::<Error>() {
                    Ok(inner) => *inner,
                    Err(inner) => match Self::within(inner.as_ref()) {
                        Some(ours) => ours.clone(),
                        None => Self::internal(inner.to_string()),
                    },
                },
            },
            ArrowError::DivideByZero => Self::new(Kind::DivisionByZero, "division by zero"),
            ArrowError::ArithmeticOverflow(message) => {
                Self::new(Kind::OutOfRange, format!("value out of range: {message}"))
            }
            ArrowError::CastError(message) | ArrowError::ParseError(message) => from_text(&message, Kind::InvalidText),
            ArrowError::InvalidArgumentError(message) if message.contains("to store in a Decimal") => {
                let error = Self::new(Kind::OutOfRange, "numeric field overflow");
                match message.split_once(". M") {
                    Some((_, bound)) => error.hint(format!("the field's m{bound}")),
                    None => error,
                }
            }
            ArrowError::ComputeError(message) => from_text(&message, Kind::Invalid),
            ArrowError::NotYetImplemented(message) => from_text(&message, Kind::Unsupported),
            ArrowError::IoError(message, error) => match error.kind() {
                std::io::ErrorKind::Other => match error.get_ref().and_then(|inner| Self::within(inner)) {
                    Some(ours) => ours.clone(),
                    None => Self::new(Kind::Io, message),
                },
                _ => Self::from(error),
            },
            ArrowError::ParquetError(message) => from_text(&message, Kind::Corrupt),
            ArrowError::CsvError(message) | ArrowError::JsonError(message) | ArrowError::AvroError(message) => {
                from_text(&message, Kind::InvalidFile)
            }
            other => from_text(&other.to_string(), Kind::Internal),
        }
    }
}

impl From<DataFusionError> for Error {
    fn from(error: DataFusionError) -> Self {
        match error {
            DataFusionError::External(inner) => match inner.downcast::<Error>() {
                Ok(ours) => *ours,
                Err(inner) => match inner.downcast::<DataFusionError>() {
                    Ok(inner) => Self::from(*inner),
                    Err(inner) => Self::internal(inner.to_string()),
                },
            },
            DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => Self::from(*inner),
            DataFusionError::Shared(inner) => from_shared(&inner),
            DataFusionError::Collection(mut many) if !many.is_empty() => Self::from(many.swap_remove(0)),
            DataFusionError::ArrowError(inner, _) => Self::from(*inner),
            DataFusionError::SQL(inner, _) => from_parser(&inner.to_string()),
            DataFusionError::SchemaError(inner, _) => from_schema(&inner),
            DataFusionError::Plan(message) => from_text(&message, Kind::Invalid),
            DataFusionError::Execution(message) => from_text(&message, Kind::Invalid),
            DataFusionError::NotImplemented(message) => from_text(&message, Kind::Unsupported),
            DataFusionError::Configuration(message) => Self::new(Kind::UnknownSetting, message),
            DataFusionError::ResourcesExhausted(why) => Self::out_of_memory(&why),
            DataFusionError::IoError(inner) => Self::from(inner),
            DataFusionError::ObjectStore(inner) => match Self::within(&*inner) {
                Some(ours) => ours.clone(),
                None => from_text(&inner.to_string(), Kind::Io),
            },
            DataFusionError::ParquetError(inner) => match (Self::within(&*inner), inner.to_string()) {
                (Some(ours), _) => ours.clone(),
                (None, message) => of_a_filter(&message).unwrap_or_else(|| match is_disk_full(&message) {
                    true => Self::disk_full(),
                    false => Self::corrupt(format!("a table file could not be read: {message}")),
                }),
            },
            other => from_text(&other.strip_backtrace(), Kind::Internal),
        }
    }
}

/// A shared error is behind an `Arc`, so what it wraps is looked at, not taken.
fn from_shared(error: &DataFusionError) -> Error {
    match error.find_root() {
        DataFusionError::External(inner) => match inner.downcast_ref::<Error>() {
            Some(ours) => ours.clone(),
            None => Error::internal(inner.to_string()),
        },
        DataFusionError::ResourcesExhausted(why) => Error::out_of_memory(why),
        root => match Error::within(root) {
            Some(ours) => ours.clone(),
            None => from_text(&root.strip_backtrace(), Kind::Internal),
        },
    }
}

fn from_parser(message: &str) -> Error {
    let message = message.trim_start_matches("sql parser error: ");
    // sqlparser says `Expected: X, found: Y at Line: 1, Column: 8`; Postgres clients look for `syntax error`.
    match message.split_once("found: ") {
        Some((expected, found)) => {
            let token = found.split(" at Line").next().unwrap_or(found);
            let place = found.split_once(" at ").map(|(_, place)| place.to_lowercase()).unwrap_or_default();
            let what = if token == "EOF" { "at end of input".to_owned() } else { format!("at or near \"{token}\"") };
            let expected = expected.trim().trim_start_matches("Expected:").trim().trim_end_matches(',');
            let error = Error::new(Kind::Syntax, format!("syntax error {what}"));
            match (expected.is_empty(), place.is_empty()) {
                (true, true) => error,
                (true, false) => error.hint(place),
                (false, true) => error.hint(format!("expected {expected}")),
                (false, false) => error.hint(format!("expected {expected} at {place}")),
            }
        }
        None => Error::new(Kind::Syntax, format!("syntax error: {}", message.trim_start_matches("ParserError: "))),
    }
}

fn from_schema(error: &SchemaError) -> Error {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let missing = Error::new(Kind::UnknownColumn, format!("column \"{}\" does not exist", field.flat_name()));
            missing.suggest(&field.name, valid_fields.iter().map(|field| field.name.as_str()))
        }
        SchemaError::AmbiguousReference { field } => {
            Error::new(Kind::AmbiguousColumn, format!("column reference \"{}\" is ambiguous", field.name))
                .hint("put the table's name or alias in front of it")
        }
        SchemaError::DuplicateQualifiedField { name, .. } | SchemaError::DuplicateUnqualifiedField { name } => {
            Error::new(Kind::DuplicateColumn, format!("column \"{name}\" specified more than once"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parser_errors_read_like_postgres() {
        let error = from_parser("sql parser error: Expected: an expression, found: FROM at Line: 1, Column: 8");
        assert_eq!(error.kind.sqlstate(), "42601");
        assert_eq!(error.message, "syntax error at or near \"FROM\"");
        assert_eq!(error.hint.as_deref(), Some("expected an expression at line: 1, column: 8"));
    }
}
