//! What foreign servers say, and why there is no way to them.

use super::{Error, Kind};

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
