//! SQL in, rows out: sessions, statements, and what DataFusion must know of our tables, models and functions.

mod ages;
mod answer;
mod arithmetic;
mod array_text;
mod bounded;
mod catalog;
mod definitions;
mod dialect;
mod empty_arrays;
#[allow(clippy::module_inception)]
mod engine;
mod expressions;
mod fitted;
mod headings;
mod identifiers;
mod import;
mod interval_text;
mod lateral;
mod literals;
mod parameters;
mod pg_catalog;
mod pg_functions;
mod pg_text;
mod places;
mod postgres_sql;
mod relations;
mod rewrite;
mod session;
mod settings;
mod sources;
mod statement;
pub mod statements;
mod stoppable;
mod suggestions;
mod system_tables;
mod text_casts;
mod wildcards;
mod work;

pub use answer::{Answer, Level, Notice, Rows, Run};
pub use engine::{Config, Engine};
pub use import::{Import, LoadProgress};
pub use places::with_place;
pub use session::{Prepared, Session, Transaction};
pub use statement::{Grammar, Statement};
pub use system_tables::{SYSTEM_TABLES, SystemTable};
