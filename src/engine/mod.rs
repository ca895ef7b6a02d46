//! SQL in, rows out: sessions, statements, and what DataFusion must know of our tables, models and functions.

mod answer;
mod arithmetic;
mod block;
mod bounded;
mod catalog;
mod copy;
mod cursors;
mod definitions;
#[allow(clippy::module_inception)]
mod engine;
mod fitted;
mod headings;
mod import;
mod lateral;
mod parameters;
mod pg_catalog;
mod pg_functions;
mod pg_queries;
mod relations;
mod rewrite;
mod session;
mod settings;
mod sources;
mod spare;
mod statement;
pub mod statements;
mod stoppable;
mod suggestions;
mod system_tables;
mod wildcards;
mod work;

pub use answer::{Answer, Level, Notice, Rows, Run};
pub use block::Transaction;
pub use copy::{Chosen, CopyFormat, CopyIn, CopyOptions, Header, Piece};
pub use engine::{Config, Engine};
pub use import::{Import, LoadProgress};
pub use session::{Prepared, Session};
pub use statement::{Grammar, Statement};
pub use system_tables::{SYSTEM_TABLES, SystemTable};
