//! One order for the same rows, however many threads delivered them.

use std::hash::{Hash, Hasher};

use datafusion::arrow::array::UInt32Array;
use datafusion::arrow::compute::{concat_batches, take_record_batch};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::arrow::row::{RowConverter, SortField};

use crate::error::{Error, Result};

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

/// A 64-bit hash of each row's content, the same on every machine: what random splits are cut by.
pub fn row_hashes(rows: &RecordBatch, seed: u64) -> Result<Vec<u64>> {
    let encoded = converted(rows)?;
    Ok(encoded
        .iter()
        .map(|row| {
            let mut hasher = Fnv(0xcbf2_9ce4_8422_2325 ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            row.as_ref().hash(&mut hasher);
            hasher.finish()
        })
        .collect())
}

fn converted(rows: &RecordBatch) -> Result<datafusion::arrow::row::Rows> {
    let fields = rows.schema().fields().iter().map(|field| SortField::new(field.data_type().clone())).collect();
    Ok(RowConverter::new(fields)?.convert_columns(rows.columns())?)
}

/// FNV-1a with a final mix: stable across releases, unlike the standard library's hasher.
struct Fnv(u64);

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
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
        let rows = batch(vec![Some(1), Some(1)], vec!["a", "a"]);
        let hashes = row_hashes(&rows, 7).unwrap();
        assert_eq!(hashes[0], hashes[1]);
        assert_ne!(hashes, row_hashes(&rows, 8).unwrap());
    }
}
