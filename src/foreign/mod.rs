//! Databases of others: their tables as relations of a plan.
//!
//! A kind of database is a [`Wrapper`], one entry of [`WRAPPERS`]. A [`Database`] is a server of that kind, reached as one
//! user. What is known of a table over there is a [`RemoteTable`]; [`ForeignTable`] scans it. [`Pushdown`] makes one query of
//! as much of a plan as means the same over there, which the [`Dialect`](wrapper::Dialect) decides; [`ForeignScanExec`] reads
//! its rows.

mod definition;
#[cfg(feature = "mysql")]
mod mysql;
mod options;
mod postgres;
mod pushdown;
mod query;
mod scan;
mod servers;
mod table;
mod types;
mod wrapper;

pub use definition::{Found, RemoteColumn, RemoteTable};
pub use options::{Of, Options, SECRET, check};
pub use pushdown::{Pushdown, Queries};
pub use scan::{ForeignScanExec, consistent};
pub use servers::Servers;
pub use table::ForeignTable;
pub use wrapper::{Database, Wrapper};

use crate::error::{Error, Result};

/// All kinds of databases that this program can talk to.
pub const WRAPPERS: &[&dyn Wrapper] = &[
    &postgres::PostgresWrapper,
    #[cfg(feature = "mysql")]
    &mysql::MySqlWrapper,
];

/// Kinds that a program may be built with, and the feature that has them.
const BY_FEATURE: &[(&[&str], &str)] = &[(&["mysql", "mysql_fdw", "mariadb"], "mysql")];

/// The kind of that name, or of one that others have for it.
///
/// # Errors
/// 0A000 if there is none, or this program was built without.
pub fn wrapper(name: &str) -> Result<&'static dyn Wrapper> {
    if let Some(found) = WRAPPERS.iter().find(|kind| kind.names().contains(&name)) {
        return Ok(*found);
    }
    let error = Error::unsupported(format!("foreign-data wrapper \"{name}\" is not supported"));
    Err(match BY_FEATURE.iter().find(|(names, _)| names.contains(&name)) {
        Some((_, feature)) => {
            error.hint(format!("this program was built without it: cargo build --release --features {feature}"))
        }
        None => {
            let known: Vec<&str> = WRAPPERS.iter().filter_map(|kind| kind.names().first().copied()).collect();
            error.hint(format!("there are: {}", known.join(", ")))
        }
    })
}
