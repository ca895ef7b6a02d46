//! Which tables a query reads, and in which state.

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::LogicalPlan;
use serde::{Deserialize, Serialize};

use crate::engine::guarded::table_read;
use crate::error::Result;
use crate::storage::{RelationKind, Store};

/// A table as a model was trained on it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Source {
    pub schema: String,
    pub table: String,
    /// One more with each commit to the table.
    pub version: u64,
    /// The table itself: a new one of the same name is another.
    pub id: String,
}

/// The stored tables that a plan reads, sub-queries and views included, each once.
pub fn sources(plan: &LogicalPlan) -> Result<Vec<Source>> {
    let mut found = Vec::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Some(relation) = table_read(&scan.source)
            && let RelationKind::Table(id) = &relation.kind
        {
            let id = id.to_string();
            found.push(Source { schema: relation.schema, table: relation.name, version: relation.version, id });
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    found.sort();
    found.dedup();
    Ok(found)
}

/// Whether each of these tables is still as it was.
pub fn unchanged(sources: &[Source], store: &Store) -> Result<bool> {
    for source in sources {
        let same = store.relation(&source.schema, &source.table)?.is_some_and(|relation| {
            let is_same = matches!(&relation.kind, RelationKind::Table(id) if id.to_string() == source.id);
            is_same && relation.version == source.version
        });
        if !same {
            return Ok(false);
        }
    }
    Ok(true)
}
