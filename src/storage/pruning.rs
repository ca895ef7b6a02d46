//! The files of a table that a query need not open.

use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::Session;
use datafusion::common::pruning::PrunableStatistics;
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{Result as DFResult, ToDFSchema};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::utils::conjunction;
use datafusion::physical_optimizer::pruning::{PruningPredicate, PruningPredicateBuilder};

use futures::{StreamExt, TryStreamExt, stream};

use super::table::LakeTable;
use crate::error::Result;

impl LakeTable {
    /// The places of the files that may have rows which pass all filters: first by what the table is partitioned by, then
    /// by the least and greatest values in a file.
    ///
    /// `schema`: the columns that the filters may name.
    pub(super) async fn files_with(
        &self,
        state: &dyn Session,
        filters: &[Expr],
        schema: &SchemaRef,
    ) -> Result<Vec<usize>> {
        let relation = self.relation();
        let mut places: Vec<usize> = (0..relation.files.len()).collect();
        // What cannot be said of a least or greatest value may well be said of the rows.
        let Ok(Some(predicate)) = predicate(state, filters, schema) else { return Ok(places) };
        let prune = |places: Vec<usize>, statistics: Vec<_>| -> Vec<usize> {
            match predicate.prune(&PrunableStatistics::new(statistics, Arc::clone(&relation.columns))) {
                Ok(may_have) => places.into_iter().zip(may_have).filter_map(|(at, has)| has.then_some(at)).collect(),
                Err(_) => places,
            }
        };
        if !relation.rules.partitioned_by.is_empty() {
            let known = relation.files.iter().map(|file| Arc::new(relation.statistics_by_partition(file))).collect();
            places = prune(places, known);
        }
        let footers: Vec<_> = places.iter().map(|at| self.statistics_of(state, &relation.files[*at])).collect();
        let footers = stream::iter(footers).buffered(16).try_collect().await?;
        Ok(prune(places, footers))
    }
}

/// What can be said of files by filters; `None`: nothing.
fn predicate(state: &dyn Session, filters: &[Expr], schema: &SchemaRef) -> DFResult<Option<PruningPredicate>> {
    // What a query in a filter answers is not known yet.
    let known = filters.iter().filter(|filter| !has_query(filter));
    let Some(filter) = conjunction(known.cloned()) else { return Ok(None) };
    let filter = state.create_physical_expr(filter, &schema.as_ref().clone().to_dfschema()?)?;
    PruningPredicateBuilder::new().with_file_schema(Arc::clone(schema)).try_build(filter).map(Some)
}

fn has_query(filter: &Expr) -> bool {
    let is_query = |expr: &Expr| {
        Ok(matches!(expr, Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_)))
    };
    filter.exists(is_query).unwrap_or(true)
}
