//! Statements that SQL does not know, or that a server must answer itself.

mod alter_model;
mod alter_role;
mod alter_table;
mod comment;
mod copy;
mod create_model;
mod create_role;
mod cursor;
mod default_privileges;
mod describe_model;
mod drop_model;
mod drop_role;
mod external_table;
mod foreign_table;
mod grant;
mod import_foreign_schema;
mod owner;
mod policy;
mod prepare;
mod refresh_model;
mod rename;
mod server;
mod set;
mod set_role;
mod show;
mod show_models;
mod transaction;
mod truncate;
mod user_mapping;
mod vacuum;

pub(in crate::engine) use create_model::CreateModel;

use crate::engine::Grammar;

/// Every statement of ours, in the order they are tried. The parser and the manual read this list.
pub const STATEMENTS: &[&dyn Grammar] = &[
    &owner::Grammar,
    // Before those of roles, who are users, too.
    &user_mapping::Grammar,
    &user_mapping::AlterGrammar,
    &user_mapping::DropGrammar,
    &server::Grammar,
    &server::AlterGrammar,
    &server::DropGrammar,
    &foreign_table::Grammar,
    &foreign_table::DropGrammar,
    &import_foreign_schema::Grammar,
    &policy::SwitchGrammar,
    &default_privileges::Grammar,
    &alter_model::Grammar,
    &comment::Grammar,
    &alter_role::Grammar,
    &create_model::Grammar,
    &policy::Grammar,
    &policy::AlterGrammar,
    &create_role::Grammar,
    &external_table::Grammar,
    &describe_model::Grammar,
    &drop_model::Grammar,
    &external_table::DropGrammar,
    &policy::DropGrammar,
    &drop_role::Grammar,
    &grant::Grammar,
    &owner::ReassignGrammar,
    &refresh_model::Grammar,
    &rename::Grammar,
    &alter_table::Grammar,
    &grant::RevokeGrammar,
    &set_role::Grammar,
    &show_models::Grammar,
    &show::Grammar,
    &transaction::Grammar,
    &truncate::Grammar,
    &vacuum::Grammar,
    &vacuum::OptimizeGrammar,
    &set::Grammar,
    &cursor::Grammar,
    &prepare::Grammar,
    &copy::Grammar,
];
