//! Plans as clients see them.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, StringArray};
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::record_batch::RecordBatch;
use futures::TryStreamExt;

use crate::engine::Rows;
use crate::error::Result;

/// The rows of an EXPLAIN. Names that only we can write begin after a NUL, where texts of clients end.
pub(super) fn readable(rows: Rows) -> Rows {
    Rows::of(Arc::clone(&rows.schema), rows.and_then(|batch| async move { without_nul(&batch) }))
}

fn without_nul(batch: &RecordBatch) -> Result<RecordBatch> {
    let column = |column: &ArrayRef| -> ArrayRef {
        match column.data_type() {
            DataType::Utf8 => {
                let texts = column.as_string::<i32>().iter();
                Arc::new(texts.map(|text| text.map(|text| text.replace('\0', ""))).collect::<StringArray>())
            }
            _ => Arc::clone(column),
        }
    };
    Ok(RecordBatch::try_new(batch.schema(), batch.columns().iter().map(column).collect())?)
}
