//! Statements that SQL does not know, or that a server must answer itself.

mod alter_model;
mod copy;
mod create_model;
mod cursor;
mod describe_model;
mod drop_model;
mod prepare;
mod refresh_model;
mod set;
mod show;
mod show_models;
mod transaction;

pub(in crate::engine) use create_model::CreateModel;

use crate::engine::Grammar;

/// Every statement of ours, in the order they are tried. The parser and the manual read this list.
pub const STATEMENTS: &[&dyn Grammar] = &[
    &alter_model::Grammar,
    &create_model::Grammar,
    &describe_model::Grammar,
    &drop_model::Grammar,
    &refresh_model::Grammar,
    &show_models::Grammar,
    &show::Grammar,
    &transaction::Grammar,
    &set::Grammar,
    &cursor::Grammar,
    &prepare::Grammar,
    &copy::Grammar,
];
