//! Why a request came to nothing, by what happens to the connection.

use crate::engine::with_place;
use crate::error::{Error, Kind};

#[derive(Debug, Clone)]
pub(super) enum Failure {
    /// The statement failed; the client is told and the connection goes on.
    Error(Error),
    /// The client is told, and the connection ends.
    Fatal(Error),
    /// There is nobody left to tell.
    Gone,
}

impl Failure {
    pub(super) fn shutting_down() -> Self {
        Self::Fatal(Error::new(Kind::ShuttingDown, "terminating connection due to administrator command"))
    }

    /// With the place in the text of the statement that it is about.
    pub(super) fn with_place(self, sql: &str) -> Self {
        match self {
            Self::Error(error) => Self::Error(with_place(error, sql)),
            other => other,
        }
    }

    pub(super) fn protocol(message: impl Into<String>) -> Self {
        Self::Error(Error::new(Kind::Protocol, message))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// Reading or writing a socket fails for one reason only: the other end is away.
impl From<std::io::Error> for Failure {
    fn from(_: std::io::Error) -> Self {
        Self::Gone
    }
}
