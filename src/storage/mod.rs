//! What outlives the process: tables as Parquet files, models as artefacts, and the catalog that names them.
//!
//! A commit is all or nothing: files are written and synced first, then one SQLite transaction names them. What no
//! row names was never committed, and is swept away at the next start.

mod access;
mod appends;
mod catalog;
mod changes;
mod delta;
mod delta_read;
mod directory;
mod disk;
mod encodings;
mod external;
mod files;
mod history;
mod migrations;
mod model;
mod models;
mod numbered;
mod parquet_file;
mod partitions;
mod pruning;
mod relation;
mod roles;
mod rows;
mod s3;
mod secrets;
mod servers;
mod state;
mod store;
mod table;
mod threads;
mod transaction;
mod writer;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use access::{
    Access, DefaultGrant, DefaultOn, Grant, Membership, Object, Policy, PolicyCommand, Privilege, Role, RoleId,
    Verifier,
};
pub use changes::{Change, ChangedRows, Definition, Replaces};
pub use delta_read::DeltaTable;
pub use external::{External, Foreign};
pub use files::{FilesTable, Format, Home, absolute, adopt, check_footer, infer};
pub use history::{Moment, TableVersion};
pub use model::{ModelRow, ModelVersion, Status};
pub use models::NewModel;
pub use numbered::{NumberedTable, ROW_BITS, ROW_NUMBER};
pub use partitions::Partitioning;
pub use relation::{DataFile, Relation, RelationKind, RelationType, Rules, TableId};
pub use roles::{RoleChange, check_role_name};
pub use s3::{Bucket, Buckets, Location, ObjectReader, S3Options, Upload, divided, is_s3};
pub use servers::{ForeignServer, ForeignServers, KeptOptions, NewForeignTable, ServerOptions, UserMapping};
pub use store::{IfExists, Store};
pub use table::{LakeTable, fill};
pub use threads::pool;
pub use transaction::Isolation;
pub use writer::{Check, TableWriter};

/// A lock whose holder panicked still guards good data: every change under it is made at its end.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
