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
mod disk;
mod encodings;
mod external;
mod files;
mod history;
mod models;
mod numbered;
mod parquet_file;
mod roles;
mod secrets;
mod servers;
mod store;
mod table;
mod threads;
mod writer;

pub use access::{
    Access, DefaultGrant, DefaultOn, Grant, Membership, Object, Policy, Privilege, Role, RoleId, Verifier,
};
pub use catalog::{DataFile, ModelRow, ModelVersion, Relation, RelationKind, RelationType, Rules, Status, TableId};
pub use changes::{Change, ChangedRows, Definition, Replaces};
pub use delta_read::DeltaTable;
pub use external::{External, Foreign};
pub use files::{FilesTable, Format, absolute, adopt, check_footer, infer};
pub use history::{Moment, TableVersion};
pub use models::NewModel;
pub use numbered::{NumberedTable, ROW_BITS, ROW_NUMBER};
pub use roles::{RoleChange, check_role_name};
pub use servers::{ForeignServer, ForeignServers, KeptOptions, NewForeignTable, ServerOptions, UserMapping};
pub use store::{IfExists, Store};
pub use table::{LakeTable, fill};
pub use threads::pool;
pub use writer::{Check, TableWriter};
