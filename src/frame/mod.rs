//! Arrow on one side, matrices on the other: the only room that speaks both.

mod artefact;
mod columns;
pub mod exact;
mod features;
mod interactions;
mod keys;
mod matrices;
mod order;
mod types;

pub use artefact::Artefact;
pub use columns::{column, list_of_structs, measures, numbers, texts};
pub use features::{Feature, Features};
pub use interactions::{Interactions, Roles, taught};
pub use keys::Keys;
pub use matrices::{matrix_rows, rows_matrix};
pub use order::{canonical_order, row_hashes};
pub use types::{comparable, converted, sql_name};
