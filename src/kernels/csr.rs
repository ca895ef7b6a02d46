//! Sparse matrices by compressed rows: who did what, how much.

use std::borrow::Cow;
use std::ops::Range;

use rayon::prelude::*;

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
    /// A matrix from `(row, column, value)` in any order. As [`Csr::from_events`].
    pub fn from_triplets(n_rows: usize, n_cols: usize, triplets: &[(u32, u32, f32)]) -> Result<Csr> {
        check(n_rows, n_cols, triplets.par_iter().map(|(row, column, _)| (*row, *column)))?;
        let events = |range: Range<usize>| triplets[range].iter().copied();
        Ok(bucket(n_rows, n_cols, triplets.len(), events, Order::Sorted).with_duplicates_summed())
    }

    /// A matrix from events: `rows` and `columns` of one length, and as many `values`, or 1 for each.
    ///
    /// Values given more than once for one place are summed; the sum depends on what is summed alone, not on its order.
    /// A sum of zero stays an entry. Fails when a row or column lies outside the matrix, and when lengths differ.
    pub fn from_events(
        n_rows: usize,
        n_cols: usize,
        rows: &[u32],
        columns: &[u32],
        values: Option<&[f32]>,
    ) -> Result<Csr> {
        let n = rows.len();
        if columns.len() != n || values.is_some_and(|values| values.len() != n) {
            return Err(Error::internal("events need a row, a column and a value each"));
        }
        check(n_rows, n_cols, rows.par_iter().zip(columns).map(|(row, column)| (*row, *column)))?;
        let matrix = match values {
            Some(values) => {
                let events = |range: Range<usize>| {
                    let pairs = rows[range.clone()].iter().zip(&columns[range.clone()]);
                    pairs.zip(&values[range]).map(|((row, column), value)| (*row, *column, *value))
                };
                bucket(n_rows, n_cols, n, events, Order::Sorted)
            }
            None => {
                let events = |range: Range<usize>| {
                    rows[range.clone()].iter().zip(&columns[range]).map(|(row, column)| (*row, *column, 1.0))
                };
                bucket(n_rows, n_cols, n, events, Order::Sorted)
            }
        };
        Ok(matrix.with_duplicates_summed())
    }

    /// The columns of row `i`, ascending, and the values in them.
    pub fn row(&self, i: usize) -> (&[u32], &[f32]) {
        let entries = self.offsets[i]..self.offsets[i + 1];
        (&self.columns[entries.clone()], &self.values[entries])
    }

    /// The same matrix with rows and columns changed over.
    #[must_use]
    pub fn transpose(&self) -> Csr {
        let entries = |range: Range<usize>| {
            // The row of the first entry; then rows are left as their ends are reached.
            let mut row = self.offsets.partition_point(|offset| *offset <= range.start).saturating_sub(1);
            range.map(move |at| {
                while self.offsets[row + 1] <= at {
                    row += 1;
                }
                (self.columns[at], row as u32, self.values[at])
            })
        };
        bucket(self.n_cols, self.n_rows, self.nnz(), entries, Order::AsGiven)
    }

    /// The entries with a value above zero.
    pub fn positive(&self) -> Cow<'_, Csr> {
        if self.values.iter().all(|value| *value > 0.0) {
            return Cow::Borrowed(self);
        }
        let mut kept = Csr { offsets: vec![0], columns: Vec::new(), values: Vec::new(), ..*self };
        for row in 0..self.n_rows {
            let (columns, values) = self.row(row);
            let positive = columns.iter().zip(values).filter(|(_, value)| **value > 0.0);
            positive.for_each(|(column, value)| {
                kept.columns.push(*column);
                kept.values.push(*value);
            });
            kept.offsets.push(kept.columns.len());
        }
        Cow::Owned(kept)
    }

    /// Fails where a value is below zero or not finite: as evidence of what somebody did it says nothing.
    pub fn check_ratings(&self) -> Result<()> {
        self.values.par_iter().try_for_each(|rating| check_rating(*rating))
    }

    /// The number of entries.
    pub fn nnz(&self) -> usize {
        self.columns.len()
    }

    /// Of rows that are sorted by column and value: one entry for each column.
    fn with_duplicates_summed(mut self) -> Csr {
        let is_repeated = |row: &[usize]| self.columns[row[0]..row[1]].windows(2).any(|pair| pair[0] == pair[1]);
        if !self.offsets.par_windows(2).any(is_repeated) {
            return self;
        }
        let (mut read, mut kept) = (0, 0);
        for row in 0..self.n_rows {
            let end = self.offsets[row + 1];
            while read < end {
                let column = self.columns[read];
                let mut sum = f64::from(self.values[read]);
                read += 1;
                while read < end && self.columns[read] == column {
                    sum += f64::from(self.values[read]);
                    read += 1;
                }
                self.columns[kept] = column;
                self.values[kept] = sum as f32;
                kept += 1;
            }
            self.offsets[row + 1] = kept;
        }
        self.columns.truncate(kept);
        self.values.truncate(kept);
        self.columns.shrink_to_fit();
        self.values.shrink_to_fit();
        self
    }
}

/// As [`Csr::check_ratings`], of one rating.
pub fn check_rating(rating: f32) -> Result<()> {
    if rating >= 0.0 && rating.is_finite() {
        return Ok(());
    }
    Err(Error::invalid(format!("ratings must be numbers of 0 or more, got {rating}"))
        .hint("leave out refunds and unknown values, for example with WHERE quantity > 0"))
}

/// How the entries of a row are to follow one another.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    AsGiven,
    /// By column, then by value.
    Sorted,
}

/// Entries that a thread takes at a time.
const CHUNK: usize = 1 << 18;
/// Groups of rows that entries are first divided into: so few that a processor writes to all at once.
const GROUPS: usize = 256;

/// A chunk of entries by group, and where in it each group begins.
type Divided = (Vec<(u32, u32, f32)>, Vec<usize>);

/// `n` entries put into their rows, which may then hold a column more than once.
///
/// A counting sort in two rounds, for in one it would write all over a large memory: first each chunk of entries is
/// divided into groups of neighbouring rows, about as many entries to each, then each group into its rows. `entries`
/// gives those of a range; the order in which they are given stays within each row, unless rows are to be sorted.
fn bucket<E: Iterator<Item = (u32, u32, f32)>>(
    n_rows: usize,
    n_cols: usize,
    n: usize,
    entries: impl Fn(Range<usize>) -> E + Sync,
    order: Order,
) -> Csr {
    let offsets = offsets(n_rows, n, &entries);
    let groups = groups(&offsets);
    let mut group_of = vec![0u8; n_rows];
    groups.iter().enumerate().for_each(|(group, rows)| group_of[rows.clone()].fill(group as u8));

    let chunks: Vec<Divided> = (0..n.div_ceil(CHUNK))
        .into_par_iter()
        .map(|chunk| {
            let range = chunk * CHUNK..n.min((chunk + 1) * CHUNK);
            let mut starts = vec![0; groups.len() + 1];
            entries(range.clone()).for_each(|(row, _, _)| starts[group_of[row as usize] as usize + 1] += 1);
            (0..groups.len()).for_each(|group| starts[group + 1] += starts[group]);
            let mut next = starts.clone();
            let mut divided = vec![(0, 0, 0.0); range.len()];
            for entry in entries(range) {
                let at = &mut next[group_of[entry.0 as usize] as usize];
                divided[*at] = entry;
                *at += 1;
            }
            (divided, starts)
        })
        .collect();

    let (mut columns, mut values) = (vec![0; n], vec![0.0; n]);
    let mut parts = Vec::with_capacity(groups.len());
    let (mut columns_left, mut values_left) = (columns.as_mut_slice(), values.as_mut_slice());
    for rows in &groups {
        let (part, left) = columns_left.split_at_mut(offsets[rows.end] - offsets[rows.start]);
        let (part_values, values_after) = values_left.split_at_mut(part.len());
        parts.push((rows, part, part_values));
        (columns_left, values_left) = (left, values_after);
    }
    parts.into_par_iter().enumerate().for_each(|(group, (rows, columns, values))| {
        let offsets = &offsets[rows.start..=rows.end];
        let start = offsets[0];
        let mut next: Vec<usize> = offsets.iter().map(|offset| offset - start).collect();
        for (divided, starts) in &chunks {
            for (row, column, value) in &divided[starts[group]..starts[group + 1]] {
                let at = &mut next[*row as usize - rows.start];
                columns[*at] = *column;
                values[*at] = *value;
                *at += 1;
            }
        }
        if order == Order::Sorted {
            let mut keys = Vec::new();
            for row in offsets.windows(2) {
                let row = row[0] - start..row[1] - start;
                sort(&mut columns[row.clone()], &mut values[row], &mut keys);
            }
        }
    });
    Csr { n_rows, n_cols, offsets, columns, values }
}

/// Where each row begins, and the last ends.
fn offsets<E: Iterator<Item = (u32, u32, f32)>>(
    n_rows: usize,
    n: usize,
    entries: &(impl Fn(Range<usize>) -> E + Sync),
) -> Vec<usize> {
    // Counts by stretch of the entries: no more of them than there is work in each.
    let stretches = (n / n_rows.max(CHUNK)).clamp(1, 16);
    let stretch = n.div_ceil(stretches);
    let counts: Vec<Vec<u32>> = (0..stretches)
        .into_par_iter()
        .map(|at| {
            let mut counts = vec![0u32; n_rows];
            entries(n.min(at * stretch)..n.min((at + 1) * stretch)).for_each(|(row, _, _)| counts[row as usize] += 1);
            counts
        })
        .collect();
    let mut offsets = vec![0; n_rows + 1];
    for row in 0..n_rows {
        offsets[row + 1] = offsets[row] + counts.iter().map(|counts| counts[row] as usize).sum::<usize>();
    }
    offsets
}

/// Ranges of rows with about as many entries each.
fn groups(offsets: &[usize]) -> Vec<Range<usize>> {
    let (n_rows, n) = (offsets.len() - 1, offsets[offsets.len() - 1]);
    let each = n.div_ceil(GROUPS - 1).max(CHUNK / GROUPS);
    let mut groups = Vec::new();
    let mut start = 0;
    for group in 1.. {
        // A group ends with the row in which its fair share is reached; a long row may be the share of several.
        let end = match group * each {
            share if share < n => offsets.partition_point(|offset| *offset < share),
            _ => n_rows,
        };
        if end > start {
            groups.push(start..end);
            start = end;
        }
        if end == n_rows {
            break;
        }
    }
    groups
}

/// Sorts the entries of one row by column, then by value.
fn sort(columns: &mut [u32], values: &mut [f32], keys: &mut Vec<u64>) {
    if columns.is_sorted_by(|a, b| a < b) {
        return;
    }
    // The bits of floats are in their order, once those of negative ones are turned over.
    let ordered = |value: f32| {
        let bits = value.to_bits();
        if bits >> 31 == 0 { bits | 1 << 31 } else { !bits }
    };
    let restored = |key: u32| f32::from_bits(if key >> 31 == 1 { key & !(1 << 31) } else { !key });
    keys.clear();
    keys.extend(
        columns.iter().zip(values.iter()).map(|(column, value)| u64::from(*column) << 32 | u64::from(ordered(*value))),
    );
    keys.sort_unstable();
    for ((column, value), key) in columns.iter_mut().zip(values).zip(keys) {
        *column = (*key >> 32) as u32;
        *value = restored(*key as u32);
    }
}

fn check(n_rows: usize, n_cols: usize, places: impl IndexedParallelIterator<Item = (u32, u32)>) -> Result<()> {
    match places.find_first(|(row, column)| *row as usize >= n_rows || *column as usize >= n_cols) {
        Some((row, column)) => {
            Err(Error::invalid(format!("entry ({row}, {column}) lies outside a {n_rows} × {n_cols} matrix")))
        }
        None => Ok(()),
    }
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
    fn entries_of_zero_can_be_left_out() {
        let matrix = Csr::from_triplets(3, 2, &[(0, 1, 0.0), (0, 0, 2.0), (1, 1, -1.0), (2, 1, 3.0)]).unwrap();
        let kept = Csr::from_triplets(3, 2, &[(0, 0, 2.0), (2, 1, 3.0)]).unwrap();
        assert_eq!(*matrix.positive(), kept);
        assert!(matches!(kept.positive(), Cow::Borrowed(_)));
    }

    #[test]
    fn an_entry_outside_is_refused() {
        let error = Csr::from_triplets(2, 2, &[(0, 2, 1.0)]).unwrap_err();
        assert_eq!(error.message, "entry (0, 2) lies outside a 2 × 2 matrix");
    }

    #[test]
    fn lengths_that_differ_are_refused() {
        assert!(Csr::from_events(2, 2, &[0], &[0, 1], None).is_err());
        assert!(Csr::from_events(2, 2, &[0], &[0], Some(&[])).is_err());
        assert_eq!(Csr::from_events(1, 1, &[0, 0], &[0, 0], None).unwrap().values, [2.0]);
    }

    #[test]
    fn a_sum_does_not_depend_on_the_order() {
        let values = [1e8, 1.0, -1e8, 3.0, -0.0, 0.1, f32::MIN_POSITIVE, -7.0];
        let sum = |turn: usize| {
            let turned: Vec<f32> = (0..8).map(|at| values[(at + turn) % 8]).collect();
            Csr::from_events(1, 1, &[0; 8], &[0; 8], Some(&turned)).unwrap().values
        };
        assert!((1..8).all(|turn| sum(turn) == sum(0)));
        assert_eq!(sum(0), [-2.9]);
    }

    /// Entries of which most are in few rows, as with popular products.
    fn skewed(n: u32) -> Vec<(u32, u32, f32)> {
        let mixed = |at: u32| at.wrapping_mul(2_654_435_761) >> 8;
        let row = |at: u32| (f64::from(mixed(at)) / f64::from(1 << 24)).powi(5) * 3000.0;
        (0..n).map(|at| (row(at) as u32, mixed(at ^ 0x5555) % 700, (at % 5) as f32 - 1.0)).collect()
    }

    #[test]
    fn many_entries_become_rows() {
        // More than a chunk of them, and groups of which one holds a single long row.
        let triplets = skewed(600_000);
        let mut expected = BTreeMap::new();
        for (row, column, value) in &triplets {
            *expected.entry((*row, *column)).or_insert(0.0) += value;
        }
        let matrix = Csr::from_triplets(3001, 700, &triplets).unwrap();
        let entries = (0..3001).flat_map(|row| {
            let (columns, values) = matrix.row(row as usize);
            columns.iter().zip(values).map(move |(column, value)| ((row, *column), *value))
        });
        assert!(entries.eq(expected));
        assert_eq!(matrix.transpose().transpose(), matrix);
    }

    #[test]
    fn the_same_on_one_thread_and_on_many() {
        let triplets = skewed(300_000);
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| Csr::from_triplets(3000, 700, &triplets).unwrap().transpose())
        };
        assert_eq!(on(1), on(3));
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
