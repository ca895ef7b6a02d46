//! Databases of others: the tables of a remote PostgreSQL as relations of a plan.
//!
//! A [`Server`] is reached as one user and lends connections. What is known of a table over there is a [`RemoteTable`],
//! found by [`tables`]; [`ForeignTable`] scans it. [`Pushdown`] makes one query of as much of a plan as means the same over
//! there, which [`sql`] decides; [`ForeignScanExec`] reads its rows in the binary form of COPY.

mod binary;
mod definition;
mod import;
mod options;
mod pushdown;
mod query;
mod scan;
mod server;
mod snapshot;
mod sql;
mod table;
mod tls;
mod types;

pub use definition::{RemoteColumn, RemoteTable};
pub use import::{Found, tables};
pub use options::{OPTIONS, Of, Options, SECRET, check};
pub use pushdown::{Pushdown, Queries};
pub use scan::{ForeignScanExec, consistent};
pub use server::{Server, Servers};
pub use table::ForeignTable;
