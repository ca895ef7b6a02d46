//! One error for the whole house: a sentence to an analyst, by what they can do about it.
//!
//! Messages are lower-case without a full stop; the cure goes into the hint. Foreign errors are turned into ours
//! here and nowhere else.

use std::fmt;

use datafusion::arrow::error::ArrowError;
use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, as the caller must tell it apart. Each kind has one SQLSTATE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The text is not SQL that we know.
    Syntax,
    /// A relation, column, function, model or other named thing does not exist.
    UnknownTable,
    UnknownColumn,
    UnknownFunction,
    UnknownModel,
    UnknownSchema,
    UnknownSetting,
    UnknownDatabase,
    /// A prepared statement or portal of that name does not exist.
    UnknownStatement,
    UnknownPortal,
    UnknownParameter,
    /// The name is taken already.
    TableExists,
    ModelExists,
    SchemaExists,
    StatementExists,
    AmbiguousColumn,
    DuplicateColumn,
    NotGrouped,
    /// A type does not fit where it is used.
    WrongType,
    /// A value, option or argument is outside what is accepted.
    Invalid,
    /// Text that cannot be read as the type it should become.
    InvalidText,
    OutOfRange,
    DivisionByZero,
    /// NULL where a column was declared NOT NULL.
    NullNotAllowed,
    /// Something else still needs the thing to be dropped.
    StillNeeded,
    /// The object is there but not fit for this: a model that failed to load, a view where a table is needed.
    NotReady,
    Denied,
    Unsupported,
    /// A transaction block that already failed.
    FailedTransaction,
    NoTransaction,
    Cancelled,
    TooManyConnections,
    ShuttingDown,
    /// Memory or disk ran out.
    OutOfMemory,
    DiskFull,
    /// Too much of something the protocol limits.
    LimitExceeded,
    /// A statement nested deeper, or joined of more pieces, than can be planned.
    TooComplex,
    Protocol,
    /// Reading or writing files failed.
    Io,
    /// Stored data is damaged.
    Corrupt,
    /// We are wrong, not the user.
    Internal,
}

impl Kind {
    /// The five characters that clients match on (PostgreSQL appendix A).
    pub fn sqlstate(self) -> &'static str {
        match self {
            Kind::Syntax => "42601",
            Kind::UnknownTable => "42P01",
            Kind::UnknownColumn => "42703",
            Kind::UnknownFunction => "42883",
            Kind::UnknownModel | Kind::UnknownSetting => "42704",
            Kind::UnknownSchema => "3F000",
            Kind::UnknownDatabase => "3D000",
            Kind::UnknownStatement => "26000",
            Kind::UnknownPortal => "34000",
            Kind::UnknownParameter => "42P02",
            Kind::TableExists => "42P07",
            Kind::ModelExists => "42710",
            Kind::SchemaExists => "42P06",
            Kind::StatementExists => "42P05",
            Kind::AmbiguousColumn => "42702",
            Kind::DuplicateColumn => "42701",
            Kind::NotGrouped => "42803",
            Kind::WrongType => "42804",
            Kind::Invalid => "22023",
            Kind::InvalidText => "22P02",
            Kind::OutOfRange => "22003",
            Kind::DivisionByZero => "22012",
            Kind::NullNotAllowed => "23502",
            Kind::StillNeeded => "2BP01",
            Kind::NotReady => "55000",
            Kind::Denied => "42501",
            Kind::Unsupported => "0A000",
            Kind::FailedTransaction => "25P02",
            Kind::NoTransaction => "25P01",
            Kind::Cancelled => "57014",
            Kind::TooManyConnections => "53300",
            Kind::ShuttingDown => "57P01",
            Kind::OutOfMemory => "53200",
            Kind::DiskFull => "53100",
            Kind::LimitExceeded => "54000",
            Kind::TooComplex => "54001",
            Kind::Protocol => "08P01",
            Kind::Io => "58030",
            Kind::Corrupt => "XX001",
            Kind::Internal => "XX000",
        }
    }
}

/// A kind, a sentence and, where there is one, the cure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    pub kind: Kind,
    pub message: String,
    pub hint: Option<String>,
}

impl Error {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None }
    }

    /// A value, option or argument that we do not accept.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, message)
    }

    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(Kind::Unsupported, message)
    }

    /// A bug of ours, reported instead of a panic.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Kind::Internal, message)
    }

    pub fn corrupt(message: impl Into<String>) -> Self {
        Self::new(Kind::Corrupt, message)
    }

    pub fn cancelled() -> Self {
        Self::new(Kind::Cancelled, "canceling statement due to user request")
    }

    /// What the user can do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// A hint that names the closest of the `known` names, when one is close.
    #[must_use]
    pub fn suggest<'a>(self, given: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        match nearest(given, known) {
            Some(name) => self.hint(format!("did you mean \"{name}\"?")),
            None => self,
        }
    }
}

/// The known name nearest to `given`, if near enough to be a slip of the keyboard.
pub fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let given = given.to_lowercase();
    known
        .into_iter()
        .map(|name| (strsim::jaro_winkler(&given, &name.to_lowercase()), name))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<Error> for DataFusionError {
    fn from(error: Error) -> Self {
        DataFusionError::External(Box::new(error))
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                Self::new(Kind::DiskFull, format!("no space left: {error}")).hint("free some space and try again")
            }
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
            Some(rusqlite::ErrorCode::DiskFull) => Self::new(Kind::DiskFull, format!("no space left: {error}")),
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
                    Err(inner) => Self::internal(inner.to_string()),
                },
            },
            ArrowError::DivideByZero => Self::new(Kind::DivisionByZero, "division by zero"),
            ArrowError::ArithmeticOverflow(message) => {
                Self::new(Kind::OutOfRange, format!("value out of range: {message}"))
            }
            ArrowError::CastError(message) | ArrowError::ParseError(message) => Self::new(Kind::InvalidText, message),
            ArrowError::NotYetImplemented(message) => Self::unsupported(message),
            ArrowError::IoError(message, error) => match error.kind() {
                std::io::ErrorKind::Other => Self::new(Kind::Io, message),
                _ => Self::from(error),
            },
            other => Self::internal(other.to_string()),
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
            DataFusionError::ResourcesExhausted(message) => Self::new(Kind::OutOfMemory, message)
                .hint("raise --memory-limit, or narrow the query so that it holds fewer rows at once"),
            DataFusionError::IoError(inner) => Self::from(inner),
            DataFusionError::ObjectStore(inner) => Self::new(Kind::Io, inner.to_string()),
            DataFusionError::ParquetError(inner) => Self::corrupt(format!("a table file could not be read: {inner}")),
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
        DataFusionError::ResourcesExhausted(message) => Error::new(Kind::OutOfMemory, message.clone())
            .hint("raise --memory-limit, or narrow the query so that it holds fewer rows at once"),
        root => from_text(&root.strip_backtrace(), Kind::Internal),
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

/// DataFusion has few error codes of its own: the rest is told by its text, and by nothing but this table.
fn from_text(message: &str, otherwise: Kind) -> Error {
    let quoted = |text: &str| text.split('\'').nth(1).unwrap_or(text).to_owned();
    // `table 'cohort.public.nope' not found`: a person typed only the last name.
    if message.starts_with("table '") && message.ends_with("not found") {
        let name = quoted(message);
        let short = name.strip_prefix("cohort.public.").or_else(|| name.strip_prefix("cohort.")).unwrap_or(&name);
        return Error::new(Kind::UnknownTable, format!("relation \"{short}\" does not exist"));
    }
    let kinds = [
        ("declared as non-nullable but contains null", Kind::NullNotAllowed),
        ("table '", Kind::UnknownTable),
        ("failed to resolve schema", Kind::UnknownSchema),
        ("Invalid function", Kind::UnknownFunction),
        ("No function matches", Kind::UnknownFunction),
        ("There is no UDF", Kind::UnknownFunction),
        ("must appear in the GROUP BY", Kind::NotGrouped),
        ("could not be resolved from available columns", Kind::NotGrouped),
        ("Column in SELECT must be in GROUP BY", Kind::NotGrouped),
        ("Cannot coerce", Kind::WrongType),
        ("Cannot infer common argument type", Kind::WrongType),
        ("Cannot cast", Kind::InvalidText),
        ("already exists", Kind::TableExists),
        ("Projections require unique expression names", Kind::DuplicateColumn),
        ("Divide by zero", Kind::DivisionByZero),
        ("not implemented", Kind::Unsupported),
        ("nsupported", Kind::Unsupported),
    ];
    let kind = kinds.iter().find(|(text, _)| message.contains(text)).map_or(otherwise, |(_, kind)| *kind);
    Error::new(kind, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_keyboard_is_recognised() {
        assert_eq!(nearest("num_factor", ["num_factors", "max_iterations"]), Some("num_factors"));
        assert_eq!(nearest("xyz", ["num_factors"]), None);
    }

    #[test]
    fn ours_survives_a_journey_through_datafusion() {
        let ours = Error::new(Kind::UnknownModel, "model \"churn\" does not exist").hint("see SHOW MODELS");
        let there: DataFusionError = DataFusionError::from(ours.clone()).context("while planning");
        assert_eq!(Error::from(there), ours);
    }

    #[test]
    fn parser_errors_read_like_postgres() {
        let error = from_parser("sql parser error: Expected: an expression, found: FROM at Line: 1, Column: 8");
        assert_eq!(error.kind.sqlstate(), "42601");
        assert_eq!(error.message, "syntax error at or near \"FROM\"");
        assert_eq!(error.hint.as_deref(), Some("expected an expression at line: 1, column: 8"));
    }
}
