//! Arrow on one side, matrices on the other: the only room that speaks both.

mod artefact;
mod columns;
mod events;
pub mod exact;
mod features;
mod keys;
mod matrices;
mod order;
mod types;

pub use artefact::Artefact;
pub use columns::{column, list_of_structs, measures, numbers, texts};
pub use events::{Events, EventsBuilder, NO_TIME, Named, Roles, Side, Trait, microseconds, ratings};
pub use features::{Feature, Features};
pub use keys::{Keys, NO_KEY, Numbering};
pub use matrices::{matrix_rows, rows_matrix};
pub use order::{canonical_order, row_hashes};
pub use types::{comparable, converted, sql_name};
