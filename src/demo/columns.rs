//! From rows of Rust to tables of Arrow: one constructor per SQL type the shop uses.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, BooleanArray, Decimal128Array, Float64Array, Int32Array, Int64Array, StringArray,
    TimestampMicrosecondArray,
};
use datafusion::arrow::datatypes::{Field, Schema};
use datafusion::arrow::record_batch::RecordBatch;

use super::calendar::Moment;
use crate::error::Result;

/// Rows per batch: large enough to be fast, small enough to write one after the other.
const BATCH_ROWS: usize = 65_536;

/// One generated table: where it goes and its rows.
#[derive(Debug, Clone)]
pub struct Table {
    /// `public` for the shop, `demo` for the planted truths.
    pub schema: &'static str,
    pub name: &'static str,
    /// One sentence on what a row is, for `COMMENT ON TABLE`.
    pub comment: &'static str,
    /// At least one batch, all of one schema.
    pub batches: Vec<RecordBatch>,
}

impl Table {
    /// A table of the shop itself.
    pub(super) fn of_shop(name: &'static str, comment: &'static str, columns: Vec<Column>) -> Result<Self> {
        Self::new("public", name, comment, columns)
    }

    /// A table of what was planted.
    pub(super) fn of_truth(name: &'static str, comment: &'static str, columns: Vec<Column>) -> Result<Self> {
        Self::new("demo", name, comment, columns)
    }

    fn new(schema: &'static str, name: &'static str, comment: &'static str, columns: Vec<Column>) -> Result<Self> {
        // Every column may be null, as in a table created without NOT NULL: people insert into these tables.
        let fields: Vec<Field> =
            columns.iter().map(|(name, values)| Field::new(*name, values.data_type().clone(), true)).collect();
        let whole = RecordBatch::try_new(
            Arc::new(Schema::new(fields)),
            columns.into_iter().map(|(_, values)| values).collect(),
        )?;
        let rows = whole.num_rows();
        let starts = (0..rows.max(1)).step_by(BATCH_ROWS);
        let batches = starts.map(|start| whole.slice(start, BATCH_ROWS.min(rows - start))).collect();
        Ok(Self { schema, name, comment, batches })
    }
}

/// A name and its values.
pub(super) type Column = (&'static str, ArrayRef);

/// `bigint`
pub(super) fn keys(name: &'static str, values: impl Iterator<Item = i64>) -> Column {
    (name, Arc::new(Int64Array::from_iter_values(values)))
}

/// `bigint`, with nulls
pub(super) fn some_keys(name: &'static str, values: impl Iterator<Item = Option<i64>>) -> Column {
    (name, Arc::new(values.collect::<Int64Array>()))
}

/// `integer`
pub(super) fn counts(name: &'static str, values: impl Iterator<Item = i32>) -> Column {
    (name, Arc::new(Int32Array::from_iter_values(values)))
}

/// `numeric(12,2)`, from cents
pub(super) fn money(name: &'static str, cents: impl Iterator<Item = i64>) -> Result<Column> {
    let values = Decimal128Array::from_iter_values(cents.map(i128::from)).with_precision_and_scale(12, 2)?;
    Ok((name, Arc::new(values)))
}

/// `timestamp`
pub(super) fn times(name: &'static str, values: impl Iterator<Item = Moment>) -> Column {
    (name, Arc::new(TimestampMicrosecondArray::from_iter_values(values)))
}

/// `text`
pub(super) fn texts(name: &'static str, values: impl Iterator<Item = impl AsRef<str>>) -> Column {
    (name, Arc::new(values.map(Some).collect::<StringArray>()))
}

/// `text`, with nulls
pub(super) fn some_texts(name: &'static str, values: impl Iterator<Item = Option<impl AsRef<str>>>) -> Column {
    (name, Arc::new(values.collect::<StringArray>()))
}

/// `double precision`
pub(super) fn floats(name: &'static str, values: impl Iterator<Item = f64>) -> Column {
    (name, Arc::new(Float64Array::from_iter_values(values)))
}

/// `boolean`
pub(super) fn flags(name: &'static str, values: impl Iterator<Item = bool>) -> Column {
    (name, Arc::new(values.map(Some).collect::<BooleanArray>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_tables_are_cut_and_empty_ones_keep_their_schema() -> Result<()> {
        let rows = |n: i64| Table::of_shop("t", "", vec![keys("id", 0..n)]);
        let sizes = |table: &Table| table.batches.iter().map(RecordBatch::num_rows).collect::<Vec<_>>();
        assert_eq!(sizes(&rows(0)?), [0]);
        assert_eq!(sizes(&rows(65_536)?), [65_536]);
        assert_eq!(sizes(&rows(65_537)?), [65_536, 1]);
        Ok(())
    }
}
