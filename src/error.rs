//! One error for the whole house: a sentence to an analyst, by what they can do about it.
//!
//! Messages are lower-case without a full stop; the cure goes into the hint. Foreign errors are turned into ours
//! here and nowhere else.

mod conversions;
mod servers;
mod texts;

use std::fmt;

use datafusion::error::DataFusionError;

#[cfg(feature = "mysql")]
pub use servers::{from_mysql, unreachable_mysql};
pub use servers::{from_server, unreachable_server};
pub use texts::in_sql;
use texts::is_disk_full;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An enum of kinds, each with its SQLSTATE.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $state:literal,)*) => {
        /// What went wrong, as the caller must tell it apart. Each kind has one SQLSTATE.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Kind {
            $($(#[$doc])* $kind,)*
        }

        impl Kind {
            const EACH: &[Self] = &[$(Self::$kind),*];

            /// The five characters that clients match on (PostgreSQL appendix A).
            pub fn sqlstate(self) -> &'static str {
                match self {
                    $(Self::$kind => $state,)*
                }
            }
        }
    };
}

kinds! {
    /// The text is not SQL that we know.
    Syntax = "42601",
    /// A relation, column, function, model or other named thing does not exist.
    UnknownTable = "42P01",
    UnknownColumn = "42703",
    UnknownFunction = "42883",
    UnknownModel = "42704",
    UnknownSchema = "3F000",
    UnknownSetting = "42704",
    UnknownDatabase = "3D000",
    UnknownRole = "42704",
    /// A foreign server, or a mapping of its users.
    UnknownServer = "42704",
    /// A constraint, or another thing that belongs to a table.
    UnknownObject = "42704",
    /// A prepared statement, portal or savepoint of that name does not exist.
    UnknownStatement = "26000",
    UnknownPortal = "34000",
    UnknownSavepoint = "3B001",
    UnknownParameter = "42P02",
    /// The name is taken already.
    TableExists = "42P07",
    ModelExists = "42710",
    SchemaExists = "42P06",
    StatementExists = "42P05",
    CursorExists = "42P03",
    /// A role or a policy of that name.
    ObjectExists = "42710",
    AmbiguousColumn = "42702",
    DuplicateColumn = "42701",
    NotGrouped = "42803",
    /// A type does not fit where it is used.
    WrongType = "42804",
    /// The object is there, but of another kind: a view where a table is needed.
    WrongObject = "42809",
    /// A sub-query that stands for one value gave more.
    TooManyRows = "21000",
    /// A value, option or argument is outside what is accepted.
    Invalid = "22023",
    /// Text that cannot be read as the type it should become.
    InvalidText = "22P02",
    /// Bytes that are not the binary form of the type they should become.
    InvalidBinary = "22P03",
    /// A file that does not have the form that COPY was told of.
    InvalidFile = "22P04",
    InvalidTime = "22007",
    OutOfRange = "22003",
    DivisionByZero = "22012",
    /// NULL where a column was declared NOT NULL.
    NullNotAllowed = "23502",
    /// A row that a CHECK constraint refuses.
    CheckFailed = "23514",
    /// Something else still needs the thing to be dropped.
    StillNeeded = "2BP01",
    /// The object is there but not fit for this: a model that failed to load, a view where a table is needed.
    NotReady = "55000",
    /// Somebody is using it.
    InUse = "55006",
    Denied = "42501",
    /// What a client says to prove who they are does not.
    WrongPassword = "28P01",
    /// The role may not log in, whatever it proves.
    NoLogin = "28000",
    /// A definition that leads back to itself.
    InvalidDefinition = "42P17",
    /// A membership that would lead back to itself.
    InvalidGrant = "0LP01",
    /// A name that only the system may use.
    Reserved = "42939",
    Unsupported = "0A000",
    /// A transaction block that already failed.
    FailedTransaction = "25P02",
    NoTransaction = "25P01",
    ReadOnlyTransaction = "25006",
    /// A transaction block where there must be none.
    OpenTransaction = "25001",
    /// Somebody else changed the same rows first: worth another try.
    Conflict = "40001",
    Cancelled = "57014",
    TooManyConnections = "53300",
    /// A client that says nothing for too long, and one that does so in a transaction block.
    IdleSession = "57P05",
    IdleTransaction = "25P03",
    ShuttingDown = "57P01",
    /// Memory or disk ran out.
    OutOfMemory = "53200",
    DiskFull = "53100",
    /// Too much of something the protocol limits.
    LimitExceeded = "54000",
    /// A statement nested deeper, or joined of more pieces, than can be planned.
    TooComplex = "54001",
    Protocol = "08P01",
    /// There is no way to a foreign server, or it lets nobody in.
    Unreachable = "08001",
    /// A foreign server went away in the middle.
    ConnectionLost = "08006",
    /// A foreign server refused what was asked of it.
    Foreign = "HV000",
    /// Reading or writing files failed.
    Io = "58030",
    /// Stored data is damaged.
    Corrupt = "XX001",
    /// We are wrong, not the user.
    Internal = "XX000",
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

/// How DataFusion is told that a limit of ours was reached; whose limit follows.
pub const MEMORY_LIMIT: &str = "the memory limit of ";

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

    fn out_of_memory(why: &str) -> Self {
        if let Some((_, whose)) = why.split_once(MEMORY_LIMIT) {
            let message = format!("out of memory: the statement needs more than {MEMORY_LIMIT}{whose}");
            return Self::new(Kind::OutOfMemory, message)
                .hint("narrow the query so that it holds fewer rows at once, or raise that limit");
        }
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
}
