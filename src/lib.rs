//! Cohort: customer intelligence in SQL. The rooms, in reading order; docs/ARCHITECTURE.md is the map.

/// One error, by what its reader can do about it.
pub mod error;

/// Arithmetic on slices and matrices.
pub mod kernels;
