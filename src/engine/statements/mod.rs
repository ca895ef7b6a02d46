//! Statements that SQL does not know, or that a server must answer itself.

mod alter_model;
mod comment;
mod create_model;
mod describe_model;
mod drop_model;
mod refresh_model;
mod rename;
mod set;
mod show;
mod show_models;
mod transaction;

pub(in crate::engine) use create_model::CreateModel;

use crate::engine::Grammar;

/// Every statement of ours, in the order they are tried. The parser and the manual read this list.
pub const STATEMENTS: &[&dyn Grammar] = &[
    &alter_model::Grammar,
    &comment::Grammar,
    &create_model::Grammar,
    &describe_model::Grammar,
    &drop_model::Grammar,
    &refresh_model::Grammar,
    &rename::Grammar,
    &show_models::Grammar,
    &show::Grammar,
    &set::Grammar,
    &transaction::Grammar,
];
