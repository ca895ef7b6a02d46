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
    UnknownRole,
    /// A foreign server, or a mapping of its users.
    UnknownServer,
    /// A constraint, or another thing that belongs to a table.
    UnknownObject,
    /// A prepared statement, portal or savepoint of that name does not exist.
    UnknownStatement,
    UnknownPortal,
    UnknownSavepoint,
    UnknownParameter,
    /// The name is taken already.
    TableExists,
    ModelExists,
    SchemaExists,
    StatementExists,
    CursorExists,
    /// A role or a policy of that name.
    ObjectExists,
    AmbiguousColumn,
    DuplicateColumn,
    NotGrouped,
    /// A type does not fit where it is used.
    WrongType,
    /// The object is there, but of another kind: a view where a table is needed.
    WrongObject,
    /// A sub-query that stands for one value gave more.
    TooManyRows,
    /// A value, option or argument is outside what is accepted.
    Invalid,
    /// Text that cannot be read as the type it should become.
    InvalidText,
    /// Bytes that are not the binary form of the type they should become.
    InvalidBinary,
    /// A file that does not have the form that COPY was told of.
    InvalidFile,
    InvalidTime,
    OutOfRange,
    DivisionByZero,
    /// NULL where a column was declared NOT NULL.
    NullNotAllowed,
    /// A row that a CHECK constraint refuses.
    CheckFailed,
    /// Something else still needs the thing to be dropped.
    StillNeeded,
    /// The object is there but not fit for this: a model that failed to load, a view where a table is needed.
    NotReady,
    /// Somebody is using it.
    InUse,
    Denied,
    /// What a client says to prove who they are does not.
    WrongPassword,
    /// The role may not log in, whatever it proves.
    NoLogin,
    /// A membership that would lead back to itself.
    InvalidGrant,
    /// A name that only the system may use.
    Reserved,
    Unsupported,
    /// A transaction block that already failed.
    FailedTransaction,
    NoTransaction,
    ReadOnlyTransaction,
    /// A transaction block where there must be none.
    OpenTransaction,
    /// Somebody else changed the same rows first: worth another try.
    Conflict,
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
    /// There is no way to a foreign server, or it lets nobody in.
    Unreachable,
    /// A foreign server went away in the middle.
    ConnectionLost,
    /// A foreign server refused what was asked of it.
    Foreign,
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
            Kind::UnknownModel | Kind::UnknownSetting | Kind::UnknownRole | Kind::UnknownServer => "42704",
            Kind::UnknownObject => "42704",
            Kind::UnknownSchema => "3F000",
            Kind::UnknownDatabase => "3D000",
            Kind::UnknownStatement => "26000",
            Kind::UnknownPortal => "34000",
            Kind::UnknownSavepoint => "3B001",
            Kind::UnknownParameter => "42P02",
            Kind::TableExists => "42P07",
            Kind::ModelExists | Kind::ObjectExists => "42710",
            Kind::SchemaExists => "42P06",
            Kind::StatementExists => "42P05",
            Kind::CursorExists => "42P03",
            Kind::AmbiguousColumn => "42702",
            Kind::DuplicateColumn => "42701",
            Kind::NotGrouped => "42803",
            Kind::WrongType => "42804",
            Kind::WrongObject => "42809",
            Kind::TooManyRows => "21000",
            Kind::Invalid => "22023",
            Kind::InvalidText => "22P02",
            Kind::InvalidBinary => "22P03",
            Kind::InvalidFile => "22P04",
            Kind::InvalidTime => "22007",
            Kind::OutOfRange => "22003",
            Kind::DivisionByZero => "22012",
            Kind::NullNotAllowed => "23502",
            Kind::CheckFailed => "23514",
            Kind::StillNeeded => "2BP01",
            Kind::NotReady => "55000",
            Kind::InUse => "55006",
            Kind::Denied => "42501",
            Kind::WrongPassword => "28P01",
            Kind::NoLogin => "28000",
            Kind::InvalidGrant => "0LP01",
            Kind::Reserved => "42939",
            Kind::Unsupported => "0A000",
            Kind::FailedTransaction => "25P02",
            Kind::NoTransaction => "25P01",
            Kind::ReadOnlyTransaction => "25006",
            Kind::OpenTransaction => "25001",
            Kind::Conflict => "40001",
            Kind::Cancelled => "57014",
            Kind::TooManyConnections => "53300",
            Kind::ShuttingDown => "57P01",
            Kind::OutOfMemory => "53200",
            Kind::DiskFull => "53100",
            Kind::LimitExceeded => "54000",
            Kind::TooComplex => "54001",
            Kind::Protocol => "08P01",
            Kind::Unreachable => "08001",
            Kind::ConnectionLost => "08006",
            Kind::Foreign => "HV000",
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
    /// The letter of the statement's text that it is about, counted from 1.
    pub position: Option<usize>,
    /// Where in a file it happened: `COPY people, line 3, column age: "x"`.
    pub context: Option<String>,
}

impl Error {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None, position: None, context: None }
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

    fn disk_full() -> Self {
        Self::new(Kind::DiskFull, "no space left on the disk").hint("free some space and try again")
    }

    /// Rows could not be written, as a writer of files says it.
    pub fn not_written(message: &str) -> Self {
        match is_disk_full(message) {
            true => Self::disk_full(),
            false => Self::internal(format!("could not write rows: {message}")),
        }
    }

    fn out_of_memory() -> Self {
        Self::new(Kind::OutOfMemory, "out of memory: the statement needs more than the server may hold")
            .hint("raise --memory-limit, or narrow the query so that it holds fewer rows at once")
    }

    pub fn cancelled() -> Self {
        Self::new(Kind::Cancelled, "canceling statement due to user request")
    }

    /// The error of ours that another one was caused by, however deep.
    pub fn within<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Self> {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if let Some(ours) = error.downcast_ref() {
                return Some(ours);
            }
            cause = error.source();
        }
        None
    }

    /// What the user can do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Where it happened.
    #[must_use]
    pub fn context(mut self, context: impl Into<String>) -> Self {
        self.context = Some(context.into());
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
            DataFusionError::ResourcesExhausted(_) => Self::out_of_memory(),
            DataFusionError::IoError(inner) => Self::from(inner),
            DataFusionError::ObjectStore(inner) => match Self::within(&*inner) {
                Some(ours) => ours.clone(),
                None => from_text(&inner.to_string(), Kind::Io),
            },
            DataFusionError::ParquetError(inner) => match (Self::within(&*inner), inner.to_string()) {
                (Some(ours), _) => ours.clone(),
                (None, message) if is_disk_full(&message) => Self::disk_full(),
                (None, message) => Self::corrupt(format!("a table file could not be read: {message}")),
            },
            other => from_text(&other.strip_backtrace(), Kind::Internal),
        }
    }
}

/// What a foreign server said, or why it says nothing. Its own hint goes along.
pub fn from_server(server: &str, error: &tokio_postgres::Error) -> Error {
    let Some(said) = error.as_db_error() else {
        return Error::new(Kind::ConnectionLost, format!("lost server \"{server}\": {}", with_causes(error)))
            .hint("try again once it is back; nothing was changed over there");
    };
    let kinds = [
        ("28P01", Kind::WrongPassword),
        ("28000", Kind::NoLogin),
        ("42501", Kind::Denied),
        ("42P01", Kind::UnknownTable),
        ("42703", Kind::UnknownColumn),
        ("22012", Kind::DivisionByZero),
        ("22003", Kind::OutOfRange),
        ("57P01", Kind::ConnectionLost),
        ("57P02", Kind::ConnectionLost),
        ("57P03", Kind::ConnectionLost),
    ];
    let state = said.code().code();
    let kind = kinds.iter().find(|(known, _)| *known == state).map_or(Kind::Foreign, |(_, kind)| *kind);
    let told = Error::new(kind, format!("server \"{server}\": {}", said.message()));
    match (said.hint(), kind) {
        (Some(hint), _) => told.hint(hint),
        (None, Kind::UnknownTable | Kind::UnknownColumn) => {
            told.hint("what was imported has changed over there: drop the foreign table and import it again")
        }
        (None, Kind::ConnectionLost) => told.hint("try again once it is back; nothing was changed over there"),
        (None, _) => told,
    }
}

/// Why there is no way to a foreign server, or why it lets nobody in.
pub fn unreachable_server(server: &str, error: &tokio_postgres::Error) -> Error {
    let said = error.as_db_error();
    let why = said.map_or_else(|| with_causes(error), |said| said.message().to_owned());
    let hint = match said.map(|said| said.code().code()) {
        Some("28P01" | "28000") => {
            "give user and password in CREATE USER MAPPING … SERVER …, or in the options of the server"
        }
        _ => "see that the server is up, and that host, port, dbname and sslmode in ml.servers lead to it",
    };
    Error::new(Kind::Unreachable, format!("could not connect to server \"{server}\": {why}")).hint(hint)
}

/// What a foreign MySQL said, or why it says nothing.
#[cfg(feature = "mysql")]
pub fn from_mysql(server: &str, error: &mysql_async::Error) -> Error {
    let mysql_async::Error::Server(said) = error else {
        return Error::new(Kind::ConnectionLost, format!("lost server \"{server}\": {}", with_causes(error)))
            .hint("try again once it is back; nothing was changed over there");
    };
    let kind = match said.code {
        1044 | 1142 | 1143 | 1227 => Kind::Denied,
        1045 => Kind::WrongPassword,
        1146 => Kind::UnknownTable,
        1054 => Kind::UnknownColumn,
        1365 => Kind::DivisionByZero,
        1264 | 1690 => Kind::OutOfRange,
        1053 | 1927 => Kind::ConnectionLost,
        _ => Kind::Foreign,
    };
    let told = Error::new(kind, format!("server \"{server}\": {}", said.message));
    match kind {
        Kind::UnknownTable | Kind::UnknownColumn => {
            told.hint("what was imported has changed over there: drop the foreign table and import it again")
        }
        _ => told,
    }
}

/// Why there is no way to a foreign MySQL, or why it lets nobody in.
#[cfg(feature = "mysql")]
pub fn unreachable_mysql(server: &str, error: &mysql_async::Error) -> Error {
    let (why, hint) = match error {
        mysql_async::Error::Server(said) => (
            said.message.clone(),
            "give user and password in CREATE USER MAPPING … SERVER …, or in the options of the server",
        ),
        other => (
            with_causes(other),
            "see that the server is up, and that host, port, dbname and sslmode in ml.servers lead to it",
        ),
    };
    Error::new(Kind::Unreachable, format!("could not connect to server \"{server}\": {why}")).hint(hint)
}

/// The error, and what each was caused by where that says more.
fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let told = inner.to_string();
        if !message.contains(&told) {
            message = format!("{message}: {told}");
        }
        cause = inner.source();
    }
    message
}

/// A shared error is behind an `Arc`, so what it wraps is looked at, not taken.
fn from_shared(error: &DataFusionError) -> Error {
    match error.find_root() {
        DataFusionError::External(inner) => match inner.downcast_ref::<Error>() {
            Some(ours) => ours.clone(),
            None => Error::internal(inner.to_string()),
        },
        DataFusionError::ResourcesExhausted(_) => Error::out_of_memory(),
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

/// What the system says through whatever writer there is between it and us.
fn is_disk_full(message: &str) -> bool {
    message.contains("No space left on device") || message.contains("Disk quota exceeded")
}

/// DataFusion and Arrow have few error codes of their own: the rest is told by its text, and by nothing but these
/// functions.
fn from_text(message: &str, otherwise: Kind) -> Error {
    if is_disk_full(message) {
        return Error::disk_full();
    }
    let message = unwrapped(message);
    if let Some(error) = about_names(message).or_else(|| about_types(message)).or_else(|| about_values(message)) {
        return error;
    }
    // What follows tells users to write to the makers of a library.
    let message = message.split("\nThis issue was likely caused by a bug").next().unwrap_or(message);
    let kinds = [
        ("declared as non-nullable but contains null", Kind::NullNotAllowed),
        ("table '", Kind::UnknownTable),
        ("failed to resolve schema", Kind::UnknownSchema),
        ("There is no UDF", Kind::UnknownFunction),
        ("could not be resolved from available columns", Kind::NotGrouped),
        ("Cannot coerce", Kind::WrongType),
        ("Cannot infer common argument type", Kind::WrongType),
        ("Cannot cast", Kind::InvalidText),
        ("already exists", Kind::TableExists),
        ("ivide by zero", Kind::DivisionByZero),
        ("not implemented", Kind::Unsupported),
        ("nsupported", Kind::Unsupported),
    ];
    let kind = kinds.iter().find(|(text, _)| message.contains(text)).map_or(otherwise, |(_, kind)| *kind);
    Error::new(kind, uncapitalised(&in_sql(message)))
}

/// The message without the names of the errors that were put around it.
fn unwrapped(mut message: &str) -> &str {
    const AROUND: [&str; 12] = [
        "Error during planning: ",
        "Execution error: ",
        "Internal error: ",
        "This feature is not implemented: ",
        "Optimizer rule 'simplify_expressions' failed\ncaused by\n",
        "Arrow error: ",
        "Cast error: ",
        "Parser error: ",
        "Compute error: ",
        "External error: ",
        "Invalid argument error: ",
        "type_coercion\ncaused by\n",
    ];
    while let Some(rest) = AROUND.iter().find_map(|around| message.strip_prefix(around)) {
        message = rest;
    }
    message
}

/// `Cannot do` as `cannot do`, but `LIMIT must` as it is.
fn uncapitalised(message: &str) -> String {
    let mut letters = message.chars();
    match (letters.next(), letters.clone().next()) {
        (Some(first), Some(second)) if second.is_lowercase() || second == ' ' => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => message.to_owned(),
    }
}

/// What stands between two pieces of a message.
fn between<'a>(message: &'a str, before: &str, after: &str) -> Option<&'a str> {
    message.split_once(before)?.1.split_once(after).map(|(found, _)| found)
}

/// Names that do not exist, are given twice, or stand where they may not.
fn about_names(message: &str) -> Option<Error> {
    // `table 'cohort.public.nope' not found`: a person typed only the last name.
    if let Some(name) = message.strip_prefix("table '").and_then(|rest| rest.strip_suffix("' not found")) {
        let short = name.strip_prefix("cohort.public.").or_else(|| name.strip_prefix("cohort.")).unwrap_or(name);
        return Some(Error::new(Kind::UnknownTable, format!("relation \"{short}\" does not exist")));
    }
    let unknown = |name: &str| Error::new(Kind::UnknownFunction, format!("function {name} does not exist"));
    if let Some(call) = between(message, "the given name and argument types '", "'") {
        return Some(unknown(&in_sql(call)).hint("no function of this name takes arguments of these types; cast them"));
    }
    if let Some(name) = message.strip_prefix("Invalid function '").or_else(|| message.strip_prefix("table function '"))
    {
        return Some(unknown(name.split('\'').next().unwrap_or(name)));
    }
    if let Some(name) = between(message, "Projections require unique expression names but the expression \"", "\" at ")
    {
        let name = name.rsplit('.').next().unwrap_or(name);
        return Some(
            Error::new(Kind::DuplicateColumn, format!("column \"{name}\" specified more than once"))
                .hint("give one of them another name: … AS other_name"),
        );
    }
    if let Some(column) = between(message, "column \"", "\" must appear in the GROUP BY") {
        let message =
            format!("column \"{column}\" must appear in the GROUP BY clause or be used in an aggregate function");
        return Some(Error::new(Kind::NotGrouped, message));
    }
    if message.starts_with("Aggregate functions are not allowed in the WHERE clause") {
        return Some(
            Error::new(Kind::NotGrouped, "aggregate functions are not allowed in WHERE")
                .hint("conditions on aggregates stand in HAVING, after GROUP BY"),
        );
    }
    let statement = message.strip_prefix("Unsupported SQL statement: ")?;
    let words: Vec<&str> = statement.split_whitespace().take(2).collect();
    let of_things = ["TABLE", "VIEW", "SCHEMA", "INDEX", "FUNCTION", "ROLE", "USER", "DATABASE", "SEQUENCE", "TYPE"];
    let verb = match words.as_slice() {
        [verb, thing] if of_things.contains(thing) => format!("{verb} {thing}"),
        [verb, ..] => (*verb).to_owned(),
        [] => "this statement".to_owned(),
    };
    Some(Error::unsupported(format!("{verb} is not supported")))
}

/// Types that do not go together.
fn about_types(message: &str) -> Option<Error> {
    let operator = |operation: &str| {
        Error::new(Kind::UnknownFunction, format!("operator does not exist: {}", in_sql(operation)))
            .hint("no operator of this name takes arguments of these types; cast one of them")
    };
    if let Some(operation) = between(message, "Cannot coerce arithmetic expression ", " to valid types") {
        return Some(operator(operation));
    }
    if let Some(operation) = between(message, "Cannot get result type for temporal operation ", ": ") {
        return Some(operator(operation));
    }
    if let Some((_, operation)) = message.split_once("Cannot infer common argument type for comparison operation ") {
        return Some(operator(operation));
    }
    if let Some((_, found)) = message
        .strip_prefix("Cannot create filter with non-boolean predicate '")
        .and_then(|rest| rest.split_once("' returning "))
    {
        let message = format!("argument of WHERE must be type boolean, not type {}", in_sql(found));
        return Some(Error::new(Kind::WrongType, message));
    }
    if let Some(rest) = message.strip_prefix("Unsupported ast node in sqltorel: ") {
        if let Some(collation) = rest.strip_prefix("Collate ").and_then(|rest| between(rest, "Ident { value: \"", "\""))
        {
            let message = format!("collation \"{collation}\" for encoding \"UTF8\" does not exist");
            return Some(
                Error::new(Kind::UnknownSetting, message)
                    .hint("texts are compared byte by byte, as COLLATE \"C\" does"),
            );
        }
        let node = rest.split([' ', '(', '{']).next().unwrap_or(rest);
        return Some(Error::unsupported(format!("expressions of the kind {node} are not supported")));
    }
    if let Some(name) = message.strip_prefix("Unsupported SQL type ") {
        return Some(Error::unsupported(format!("type {} is not supported", name.to_lowercase())));
    }
    message
        .contains("queries have different number of columns")
        .then(|| Error::new(Kind::Syntax, "each UNION query must have the same number of columns"))
}

/// Values that cannot be read, or do not fit.
fn about_values(message: &str) -> Option<Error> {
    if message.starts_with("Scalar subquery returned more than one row") {
        return Some(Error::new(Kind::TooManyRows, "more than one row returned by a subquery used as an expression"));
    }
    let cast = |rest: &str, end: &str| -> Option<Error> {
        let (value, of) = rest.rsplit_once("' to value of ")?;
        Some(unreadable(value, &in_sql(of.strip_suffix(end)?)))
    };
    if let Some(rest) =
        message.strip_prefix("Cannot cast string '").or_else(|| message.strip_prefix("Cannot cast value '"))
    {
        return cast(rest, " type");
    }
    if let Some((value, of)) = message.strip_prefix("Can't cast value ").and_then(|rest| rest.rsplit_once(" to type "))
    {
        return Some(out_of_range(value, &in_sql(of)));
    }
    let text = between(message, "Error parsing timestamp from '", "': ")?;
    Some(unreadable(text, "timestamp"))
}

/// In the words of Postgres: a number that is too large for its type is readable, and does not fit.
fn unreadable(value: &str, of: &str) -> Error {
    let is_integer = matches!(of, "smallint" | "integer" | "bigint");
    let digits = value.trim().strip_prefix(['-', '+']).unwrap_or(value.trim());
    if is_integer && !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return out_of_range(value, of);
    }
    let kind = if of == "date" || of.starts_with("time") { Kind::InvalidTime } else { Kind::InvalidText };
    // The digits of a numeric are of no interest for what is no number.
    let of = of.split('(').next().unwrap_or(of);
    Error::new(kind, format!("invalid input syntax for type {of}: \"{value}\""))
}

fn out_of_range(value: &str, of: &str) -> Error {
    Error::new(Kind::OutOfRange, format!("value \"{value}\" is out of range for type {of}"))
}

/// A message with Arrow's names of types replaced by those of SQL; what is quoted stays as it is.
pub fn in_sql(message: &str) -> String {
    let mut text = String::with_capacity(message.len());
    let mut rest = message;
    while let Some(letter) = rest.chars().next() {
        if matches!(letter, '"' | '\'')
            && let Some(end) = rest[1..].find(letter)
        {
            text.push_str(&rest[..end + 2]);
            rest = &rest[end + 2..];
        } else if letter.is_ascii_alphanumeric() || letter == '_' {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            let (name, after) = sql_name(word, after).unwrap_or_else(|| (word.to_owned(), after));
            text.push_str(&name);
            rest = after;
        } else {
            text.push(letter);
            rest = &rest[letter.len_utf8()..];
        }
    }
    text
}

/// The SQL name of the Arrow type that begins with `word`, and what comes after the type.
fn sql_name<'a>(word: &str, after: &'a str) -> Option<(String, &'a str)> {
    let plain = match word {
        "Boolean" => "boolean",
        "Int8" | "Int16" | "UInt8" => "smallint",
        "Int32" | "UInt16" => "integer",
        "Int64" | "UInt32" => "bigint",
        "UInt64" => "numeric",
        "Float16" | "Float32" => "real",
        "Float64" => "double precision",
        "Utf8" | "LargeUtf8" | "Utf8View" => "text",
        "Binary" | "LargeBinary" | "BinaryView" => "bytea",
        "Date32" | "Date64" => "date",
        _ => {
            let (inside, after) = parenthesised(after)?;
            let name = match word {
                "Decimal32" | "Decimal64" | "Decimal128" | "Decimal256" => format!("numeric({inside})"),
                "Timestamp" if inside.contains('"') || inside.contains("Some") => "timestamp with time zone".to_owned(),
                "Timestamp" => "timestamp".to_owned(),
                "Time32" | "Time64" => "time".to_owned(),
                "Interval" | "Duration" => "interval".to_owned(),
                "FixedSizeBinary" => "bytea".to_owned(),
                "List" | "LargeList" | "FixedSizeList" => {
                    let item = inside.split_once(" x ").map_or(inside, |(_, item)| item);
                    format!("{}[]", in_sql(item.strip_prefix("non-null ").unwrap_or(item)))
                }
                "Dictionary" => in_sql(inside.split_once(", ")?.1),
                _ => return None,
            };
            return Some((name, after));
        }
    };
    Some((plain.to_owned(), after))
}

/// What stands in the parentheses that the text begins with, and what comes after them.
fn parenthesised(text: &str) -> Option<(&str, &str)> {
    let inner = text.strip_prefix('(')?;
    let mut depth = 1;
    for (at, letter) in inner.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some((&inner[..at], &inner[at + 1..]));
        }
    }
    None
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

    #[test]
    fn types_have_their_sql_names() {
        let sql = [
            ("Utf8 + Int64", "text + bigint"),
            ("sum(Utf8View)", "sum(text)"),
            ("List(Float64) of \"Int64\"", "double precision[] of \"Int64\""),
            ("Decimal128(12, 2), Boolean", "numeric(12, 2), boolean"),
            ("Timestamp(µs)", "timestamp"),
            ("Timestamp(ns, \"UTC\")", "timestamp with time zone"),
            ("Interval(MonthDayNano)", "interval"),
            ("a word", "a word"),
        ];
        for (arrow, expected) in sql {
            assert_eq!(in_sql(arrow), expected);
        }
    }

    #[test]
    fn texts_of_others_become_sentences_of_ours() {
        let told = |message: &str| {
            let error = from_text(message, Kind::Internal);
            format!("{}: {}", error.kind.sqlstate(), error.message)
        };
        let cases = [
            (
                "Internal error: Function 'sum' failed to match any signature.\nThis issue was likely caused by a bug in \
                 X. No function matches the given name and argument types 'sum(Utf8)'. You might",
                "42883: function sum(text) does not exist",
            ),
            (
                "Function 'sum' failed. No function matches the given name and argument types 'sum(Utf8)'. You might",
                "42883: function sum(text) does not exist",
            ),
            ("Invalid function 'roun'.\nDid you mean 'x'?", "42883: function roun does not exist"),
            ("table function 'nope' not found", "42883: function nope does not exist"),
            ("table 'cohort.public.nope' not found", "42P01: relation \"nope\" does not exist"),
            ("Cannot cast string 'a' to value of Int64 type", "22P02: invalid input syntax for type bigint: \"a\""),
            (
                "Cannot cast string '99999999999999999999' to value of Int64 type",
                "22003: value \"99999999999999999999\" is out of range for type bigint",
            ),
            (
                "Cannot cast string '2024-13-01' to value of Date32 type",
                "22007: invalid input syntax for type date: \"2024-13-01\"",
            ),
            (
                "Cannot coerce arithmetic expression Utf8 + Int64 to valid types",
                "42883: operator does not exist: text + bigint",
            ),
            ("Unsupported SQL statement: ALTER TABLE t ADD x int", "0A000: ALTER TABLE is not supported"),
            ("IO error: No space left on device (os error 28)", "53100: no space left on the disk"),
            (
                "Projections require unique expression names but the expression \"t.i\" at position 0 and",
                "42701: column \"i\" specified more than once",
            ),
        ];
        for (message, expected) in cases {
            assert_eq!(told(message), expected);
        }
    }
}
