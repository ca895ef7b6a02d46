//! Every proof that needs the whole house, in one binary: each test binary would link the engine again.

// Helpers are tests, too: clippy lets them unwrap.
#![cfg(test)]

mod access;
mod conformance;
mod copy;
mod crash;
mod cursors;
mod external;
mod foreign;
mod fuzz;
mod goldens;
mod layers;
mod manual;
#[cfg(feature = "mysql")]
mod mysql;
mod process;
mod published;
mod s3;
mod server;
mod shop;
mod wire;
