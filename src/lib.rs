//! Cohort: customer intelligence in SQL. The rooms, in reading order; docs/ARCHITECTURE.md is the map.

/// One error, by what its reader can do about it.
pub mod error;

/// Arithmetic on slices and matrices.
pub mod kernels;

/// Arrow on one side, matrices on the other.
pub mod frame;

/// Ways to learn, and what they leave behind.
pub mod models;

/// What users call in SQL.
pub mod functions;

/// Tables of other databases.
pub mod foreign;

/// What outlives the process.
pub mod storage;

/// SQL in, rows out.
pub mod engine;

/// The generated demo shop.
pub mod demo;

/// The Postgres wire.
pub mod server;

/// Flags and what they start.
pub mod cli;
