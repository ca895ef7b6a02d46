//! The trait of the room: a function of the SQL surface, its forms and its page in the manual.

use std::sync::Arc;

use datafusion::logical_expr::{AggregateUDF, LogicalPlan, ScalarUDF};

use crate::error::Result;
use crate::functions::{Call, Planner};
use crate::models::Registry;

/// Plans a call in FROM as ordinary plan nodes.
pub type Relation = fn(Call, &mut dyn Planner) -> Result<LogicalPlan>;

/// One function: one file, one unit struct, one line in [`super::FUNCTIONS`].
pub trait Function: Send + Sync {
    fn name(&self) -> &'static str;
    fn doc(&self) -> Doc;
    /// How it is planned in FROM; `None`: it is no relation.
    fn relation(&self) -> Option<Relation> {
        None
    }
    /// The scalar functions it consists of: its scalar form and the ones that its relation calls.
    fn scalars(&self, _registry: &Arc<Registry>) -> Vec<ScalarUDF> {
        Vec::new()
    }
    fn aggregates(&self, _registry: &Arc<Registry>) -> Vec<AggregateUDF> {
        Vec::new()
    }
}

/// A function's page in the manual.
pub struct Doc {
    /// What it does, in a sentence or two.
    pub summary: &'static str,
    /// Every way to call it.
    pub syntax: &'static [&'static str],
    /// (argument, what it means and its default).
    pub arguments: &'static [(&'static str, &'static str)],
    /// (column, what it holds).
    pub returns: &'static [(&'static str, &'static str)],
    /// A query on the demo shop; a test runs it after the models' own examples.
    pub example: &'static str,
}
