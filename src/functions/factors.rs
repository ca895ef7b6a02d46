//! `factors`: the vectors that a model has learned, as a table.

use std::sync::Arc;

use datafusion::arrow::array::Array;
use datafusion::arrow::datatypes::{Field, Schema};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::Column;
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit};

use crate::error::{Error, Result};
use crate::frame::Side;
use crate::functions::embed::{function, side_named, vectors};
use crate::functions::function::{Doc, Function, Relation};
use crate::functions::recommend::{keys, recommender};
use crate::functions::{Call, Planner};

pub struct Factors;

/// Keys in a batch of the scan.
const BATCH_ROWS: usize = 8192;

impl Function for Factors {
    fn name(&self) -> &'static str {
        "factors"
    }

    fn doc(&self) -> Doc {
        Doc {
            summary: "The vectors that a model has learned for all its customers, or for all its products: features for \
                      other models, or a table to search by distance. In no particular order. One vector alone: embed().",
            syntax: &["factors('model', 'user')", "factors('model', 'item')"],
            arguments: &[
                ("model", "a model that learns vectors: name, or name@version"),
                ("side", "'user' for the customers, 'item' for the products"),
            ],
            returns: &[
                ("<customer column> or <product column>", "as in training"),
                ("factors", "real[], as long for products as for customers"),
            ],
            example: "SELECT product_id, factors[1] AS first FROM factors('taste', 'item') ORDER BY product_id LIMIT 3",
        }
    }

    fn relation(&self) -> Option<Relation> {
        Some(relation)
    }
}

/// A scan of the keys, which lie in memory anyway, and a projection that looks their vectors up a batch at a time.
fn relation(mut call: Call, planner: &mut dyn Planner) -> Result<LogicalPlan> {
    let fitted = call.model(planner)?;
    let side = call.next("side").ok_or_else(|| {
        Error::invalid("factors() wants to know whose: 'user' or 'item'")
            .hint(format!("factors('{0}', 'user') or factors('{0}', 'item')", fitted.asked))
    })?;
    let side = match planner.constant(side)? {
        Expr::Literal(name, _) => side_named("factors", &name)?,
        other => {
            return Err(Error::invalid(format!("factors() knows 'user' and 'item', not {other}"))
                .hint("the columns of the result depend on it, so it must stand in the query"));
        }
    };
    call.finish(&[])?;
    vectors(&fitted, side)?;
    let column = keys(&fitted, side)?.column;
    let values = recommender(&fitted)?.history().keys(side).values();
    let schema = Arc::new(Schema::new(vec![Field::new(column, values.data_type().clone(), false)]));
    let batch = |start: usize| {
        let rows = values.slice(start, BATCH_ROWS.min(values.len() - start));
        RecordBatch::try_new(Arc::clone(&schema), vec![rows])
    };
    let batches = (0..values.len()).step_by(BATCH_ROWS).map(batch).collect::<Result<Vec<_>, _>>()?;
    let scanned = MemTable::try_new(Arc::clone(&schema), vec![batches])?;
    let whose = if side == Side::User { "user" } else { "item" };
    let key = Expr::Column(Column::new(Some("keys"), column));
    let vector =
        Arc::new(function().udf(planner.registry())).call(vec![lit(fitted.name.to_string()), key.clone(), lit(whose)]);
    Ok(LogicalPlanBuilder::scan("keys", provider_as_source(Arc::new(scanned)), None)?
        .project(vec![key.alias(column), vector.alias("factors")])?
        .build()?)
}
