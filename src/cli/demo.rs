//! The demo shop into the data directory, once.

use std::sync::Arc;
use std::time::Instant;

use datafusion::arrow::array::{ArrayRef, Float64Array, Int64Array};
use datafusion::arrow::record_batch::RecordBatch;

use crate::demo;
use crate::engine::Engine;
use crate::error::Result;

/// Written last: where it is, the shop is whole.
const LAST_TABLE: (&str, &str, &str) =
    ("demo", "about", "How the shop was generated; it is whole if this table is here");

/// Generates and loads the shop unless it is there. Gives the line to print.
pub fn load(engine: &Engine, scale: f64) -> Result<String> {
    let (schema, name, comment) = LAST_TABLE;
    if engine.has_relation(schema, name)? {
        return Ok("the demo shop is there already".to_owned());
    }
    let started = Instant::now();
    let tables = demo::shop(scale, demo::SEED)?;
    let mut rows = 0;
    for table in &tables {
        rows += engine.create_table_from(table.schema, table.name, table.comment, &table.batches)?;
    }
    engine.create_table_from(schema, name, comment, &[about(scale)?])?;
    let seconds = started.elapsed().as_secs_f64();
    Ok(format!("generated the demo shop: {} tables, {rows} rows in {seconds:.1} s", tables.len()))
}

fn about(scale: f64) -> Result<RecordBatch> {
    let columns: [(&str, ArrayRef); 2] = [
        ("scale", Arc::new(Float64Array::from(vec![scale]))),
        ("seed", Arc::new(Int64Array::from(vec![demo::SEED as i64]))),
    ];
    Ok(RecordBatch::try_from_iter(columns)?)
}
