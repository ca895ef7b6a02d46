//! One order for the same rows, however many threads delivered them.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};

use datafusion::arrow::array::UInt32Array;
use datafusion::arrow::compute::{concat_batches, take_record_batch};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::arrow::row::{RowConverter, SortField};

use crate::error::{Error, Result};
use crate::kernels::hash::{Fnv, GOLDEN, mixed};

/// All rows in one batch, sorted by their content.
///
/// A query's partitions finish in any order; training sums floats, and sums depend on the order. Sorting here is
/// what makes the same data and the same seed give the same bits on any number of threads.
pub fn canonical_order(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<RecordBatch> {
    let all = concat_batches(schema, batches)?;
    if all.num_rows() < 2 || all.num_columns() == 0 {
        return Ok(all);
    }
    if u32::try_from(all.num_rows()).is_err() {
        return Err(Error::unsupported(format!("cannot train on {} rows at once", all.num_rows()))
            .hint("train on a sample: add a WHERE clause on a hash of the key"));
    }
    let rows = converted(&all)?;
    let mut order: Vec<u32> = (0..all.num_rows() as u32).collect();
    order.sort_unstable_by(|a, b| rows.row(*a as usize).cmp(&rows.row(*b as usize)));
    Ok(take_record_batch(&all, &UInt32Array::from(order))?)
}

/// A 64-bit hash of each row, the same on every machine: what random splits are cut by.
///
/// It is made of the row's content and of how many rows of that content stand before it. So rows that are alike are
/// not all held out together, and which of them is which does not matter: the hashes of the same rows in another order
/// are the same hashes.
pub fn row_hashes(rows: &RecordBatch, seed: u64) -> Result<Vec<u64>> {
    let encoded = converted(rows)?;
    let mut before: HashMap<u64, u64> = HashMap::new();
    Ok(encoded
        .iter()
        .map(|row| {
            let mut hasher = Fnv::seeded(seed);
            row.as_ref().hash(&mut hasher);
            let content = hasher.finish();
            let alike = before.entry(content).or_default();
            let hash = if *alike == 0 { content } else { mixed(content.wrapping_add(alike.wrapping_mul(GOLDEN))) };
            *alike += 1;
            hash
        })
        .collect())
}

fn converted(rows: &RecordBatch) -> Result<datafusion::arrow::row::Rows> {
    let fields = rows.schema().fields().iter().map(|field| SortField::new(field.data_type().clone())).collect();
    Ok(RowConverter::new(fields)?.convert_columns(rows.columns())?)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{Int64Array, StringArray};
    use datafusion::arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    fn batch(ids: Vec<Option<i64>>, names: Vec<&str>) -> RecordBatch {
        let schema =
            Schema::new(vec![Field::new("id", DataType::Int64, true), Field::new("name", DataType::Utf8, true)]);
        RecordBatch::try_new(
            Arc::new(schema),
            vec![Arc::new(Int64Array::from(ids)), Arc::new(StringArray::from(names))],
        )
        .unwrap()
    }

    #[test]
    fn the_order_of_batches_does_not_matter() {
        let a = batch(vec![Some(2), None], vec!["b", "x"]);
        let b = batch(vec![Some(1), Some(2)], vec!["a", "a"]);
        let one = canonical_order(&a.schema(), &[a.clone(), b.clone()]).unwrap();
        let other = canonical_order(&a.schema(), &[b, a]).unwrap();
        assert_eq!(one, other);
        assert_eq!(one.num_rows(), 4);
    }

    #[test]
    fn a_seed_changes_the_hash_and_content_decides_it() {
        let rows = batch(vec![Some(1), Some(2)], vec!["a", "b"]);
        let turned = batch(vec![Some(2), Some(1)], vec!["b", "a"]);
        let (hashes, others) = (row_hashes(&rows, 7).unwrap(), row_hashes(&turned, 7).unwrap());
        assert_eq!((hashes[0], hashes[1]), (others[1], others[0]));
        assert_ne!(hashes, row_hashes(&rows, 8).unwrap());
    }

    #[test]
    fn rows_that_are_alike_do_not_go_together() {
        let rows = batch(vec![Some(1); 1000], vec!["a"; 1000]);
        let out = row_hashes(&rows, 7).unwrap().into_iter().filter(|hash| *hash < u64::MAX / 5).count();
        assert!((150..250).contains(&out), "{out}");
    }
}
