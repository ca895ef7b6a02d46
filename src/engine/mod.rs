//! SQL in, rows out: sessions, statements, and what DataFusion must know of our tables, models and functions.

mod activity;
mod answer;
mod arithmetic;
mod barrier;
mod bounded;
mod catalog;
mod definitions;
#[allow(clippy::module_inception)]
mod engine;
mod fitted;
mod guarded;
mod headings;
mod identity;
mod import;
mod lateral;
mod login;
mod metrics;
mod parameters;
mod pg_catalog;
mod pg_functions;
mod pg_queries;
mod privilege_functions;
mod relations;
mod rewrite;
mod rights;
mod role_tables;
mod session;
mod settings;
mod signals;
mod sources;
mod statement;
pub mod statements;
mod stoppable;
mod suggestions;
mod system_tables;
mod wildcards;
mod work;

pub use activity::Peer;
pub use answer::{Answer, Level, Notice, Rows, Run};
pub use engine::{Config, Engine};
pub use import::{Import, LoadProgress};
pub use login::{Asked, Door};
pub use session::{Prepared, Session, Transaction};
pub use statement::{Grammar, Statement};
pub use system_tables::{SYSTEM_TABLES, SystemTable};
