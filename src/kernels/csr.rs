//! Sparse matrices by compressed rows: who did what, how much.

use crate::error::{Error, Result};

/// A sparse `n_rows × n_cols` matrix. Row `i` holds `columns[offsets[i]..offsets[i + 1]]`, ascending and distinct,
/// with `values` beside them.
#[derive(Debug, Clone, PartialEq)]
pub struct Csr {
    pub n_rows: usize,
    pub n_cols: usize,
    /// `n_rows + 1` positions, from 0 up to the number of entries.
    pub offsets: Vec<usize>,
    pub columns: Vec<u32>,
    pub values: Vec<f32>,
}

impl Csr {
    /// A matrix from `(row, column, value)` in any order. Values given twice for one place are summed in the order
    /// given; a sum of zero stays an entry. Fails when a row or column lies outside the matrix.
    pub fn from_triplets(n_rows: usize, n_cols: usize, triplets: &[(u32, u32, f32)]) -> Result<Csr> {
        if let Some((row, column, _)) =
            triplets.iter().find(|(row, column, _)| *row as usize >= n_rows || *column as usize >= n_cols)
        {
            return Err(Error::invalid(format!("entry ({row}, {column}) lies outside a {n_rows} × {n_cols} matrix")));
        }
        // Bucketed by column, then turned over: each row meets its columns in rising order, and no sort is needed.
        let by_column = bucket(n_cols, n_rows, triplets.iter().map(|(row, column, value)| (*column, *row, *value)));
        Ok(by_column.transpose().with_duplicates_summed())
    }

    pub fn from_events(
        n_rows: usize,
        n_cols: usize,
        rows: &[u32],
        columns: &[u32],
        values: Option<&[f32]>,
    ) -> Result<Csr> {
        let t: Vec<(u32, u32, f32)> =
            rows.iter().zip(columns).enumerate().map(|(at, (r, c))| (*r, *c, values.map_or(1.0, |v| v[at]))).collect();
        Self::from_triplets(n_rows, n_cols, &t)
    }

    /// The columns of row `i`, ascending, and the values in them.
    pub fn row(&self, i: usize) -> (&[u32], &[f32]) {
        let entries = self.offsets[i]..self.offsets[i + 1];
        (&self.columns[entries.clone()], &self.values[entries])
    }

    /// The same matrix with rows and columns changed over.
    #[must_use]
    pub fn transpose(&self) -> Csr {
        let entries = (0..self.n_rows).flat_map(|row| {
            let (columns, values) = self.row(row);
            columns.iter().zip(values).map(move |(column, value)| (*column, row as u32, *value))
        });
        bucket(self.n_cols, self.n_rows, entries)
    }

    /// The number of entries.
    pub fn nnz(&self) -> usize {
        self.columns.len()
    }

    fn with_duplicates_summed(mut self) -> Csr {
        let (mut read, mut kept) = (0, 0);
        for row in 0..self.n_rows {
            let (start, end) = (kept, self.offsets[row + 1]);
            while read < end {
                if kept > start && self.columns[kept - 1] == self.columns[read] {
                    self.values[kept - 1] += self.values[read];
                } else {
                    self.columns[kept] = self.columns[read];
                    self.values[kept] = self.values[read];
                    kept += 1;
                }
                read += 1;
            }
            self.offsets[row + 1] = kept;
        }
        self.columns.truncate(kept);
        self.values.truncate(kept);
        self
    }
}

/// Entries put into their rows by a counting sort, which keeps the order they come in within each row.
fn bucket(n_rows: usize, n_cols: usize, entries: impl Iterator<Item = (u32, u32, f32)> + Clone) -> Csr {
    let mut offsets = vec![0; n_rows + 1];
    for (row, _, _) in entries.clone() {
        offsets[row as usize + 1] += 1;
    }
    for row in 0..n_rows {
        offsets[row + 1] += offsets[row];
    }
    let mut next = offsets.clone();
    let mut columns = vec![0; offsets[n_rows]];
    let mut values = vec![0.0; offsets[n_rows]];
    for (row, column, value) in entries {
        let at = &mut next[row as usize];
        columns[*at] = column;
        values[*at] = value;
        *at += 1;
    }
    Csr { n_rows, n_cols, offsets, columns, values }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn triplets_become_rows() {
        let matrix = Csr::from_triplets(3, 3, &[(2, 1, 4.0), (0, 2, 1.0), (0, 0, 2.0), (0, 2, 0.5)]).unwrap();
        assert_eq!(matrix.row(0), (&[0, 2][..], &[2.0, 1.5][..]));
        assert_eq!(matrix.row(1), (&[][..], &[][..]));
        assert_eq!(matrix.row(2), (&[1][..], &[4.0][..]));
        assert_eq!(matrix.nnz(), 3);
    }

    #[test]
    fn a_matrix_may_be_empty() {
        let matrix = Csr::from_triplets(0, 0, &[]).unwrap();
        assert_eq!((matrix.nnz(), matrix.offsets.as_slice()), (0, &[0][..]));
        assert_eq!(matrix.transpose(), matrix);
    }

    #[test]
    fn an_entry_outside_is_refused() {
        let error = Csr::from_triplets(2, 2, &[(0, 2, 1.0)]).unwrap_err();
        assert_eq!(error.message, "entry (0, 2) lies outside a 2 × 2 matrix");
    }

    proptest! {
        #[test]
        fn rows_are_what_a_sorted_map_holds(triplets in prop::collection::vec((0u32..5, 0u32..7, 1u8..9), 0..60)) {
            let triplets: Vec<_> =
                triplets.into_iter().map(|(row, column, value)| (row, column, f32::from(value))).collect();
            let mut expected = BTreeMap::new();
            for (row, column, value) in &triplets {
                *expected.entry((*row, *column)).or_insert(0.0) += value;
            }
            let matrix = Csr::from_triplets(5, 7, &triplets).unwrap();
            let entries: Vec<_> = (0..5).flat_map(|row| {
                let (columns, values) = matrix.row(row as usize);
                columns.iter().zip(values).map(move |(column, value)| ((row, *column), *value)).collect::<Vec<_>>()
            }).collect();
            prop_assert_eq!(entries, expected.into_iter().collect::<Vec<_>>());
            prop_assert_eq!(matrix.transpose().transpose(), matrix);
        }
    }
}
