//! What each interaction weighs in the likeness of items.

use rayon::prelude::*;

use crate::error::Result;
use crate::kernels::csr::Csr;
use crate::kernels::item_knn::Similarity;
use crate::kernels::simd;

/// Ratings made into weights: the similarity of `j` to `i` is `from[j] · to[i] · Σᵤ w(u, j) · w(u, i)`.
///
/// The weights of each item are multiplied by a power of two, which `from` and `to` take back, so that the largest is
/// from 1 up to 2: what long ago decayed to almost nothing is compared like what is new, and sums of counts are exact.
#[derive(Debug)]
pub(super) struct Weights {
    /// users × items, above 0.
    pub by_user: Rows,
    /// The same, items × users.
    pub by_item: Rows,
    pub from: Vec<f32>,
    pub to: Vec<f32>,
}

/// A sparse matrix whose columns and values stand together: they are read by the row, in no order of rows.
#[derive(Debug)]
pub(super) struct Rows {
    offsets: Vec<usize>,
    entries: Vec<(u32, f32)>,
    n_cols: usize,
}

impl Rows {
    #[inline]
    pub fn row(&self, i: usize) -> &[(u32, f32)] {
        &self.entries[self.offsets[i]..self.offsets[i + 1]]
    }

    /// Asks the memory for a row.
    #[inline]
    pub fn fetch(&self, i: usize) {
        simd::prefetch(self.row(i));
    }

    /// Asks the memory for where a row is; [`Rows::fetch`] has to know.
    #[inline]
    pub fn fetch_place(&self, i: usize) {
        simd::prefetch(&self.offsets[i..=i]);
    }

    pub fn n_rows(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Each column with the rows it has an entry in, ascending.
    fn transpose(&self, go_on: &dyn Fn() -> Result<()>) -> Result<Rows> {
        let mut offsets = vec![0; self.n_cols + 1];
        for (column, _) in &self.entries {
            offsets[*column as usize + 1] += 1;
        }
        for column in 0..self.n_cols {
            offsets[column + 1] += offsets[column];
        }
        let mut next = offsets.clone();
        let mut entries = vec![(0, 0.0); self.entries.len()];
        for row in 0..self.n_rows() {
            if row % PATIENCE == 0 {
                go_on()?;
            }
            for (column, value) in self.row(row) {
                let at = &mut next[*column as usize];
                entries[*at] = (row as u32, *value);
                *at += 1;
            }
        }
        Ok(Rows { offsets, entries, n_cols: self.n_rows() })
    }
}

/// Rows that are gone through before someone is asked whether to go on: some milliseconds.
pub(super) const PATIENCE: usize = 1 << 12;

impl Weights {
    /// `go_on` fails when it is time to stop.
    pub fn of(interactions: &Csr, similarity: Similarity, go_on: &dyn Fn() -> Result<()>) -> Result<Weights> {
        interactions.check_ratings()?;
        let (by_user, units) = in_units(weighed(interactions, similarity, go_on)?, go_on)?;
        let by_item = by_user.transpose(go_on)?;

        let scales = |of_item: &(dyn Fn(usize) -> f64 + Sync)| -> Vec<f32> {
            // An item without weights is like nothing.
            let scale = |item: usize| if by_item.row(item).is_empty() { 0.0 } else { of_item(item) as f32 };
            (0..by_item.n_rows()).into_par_iter().map(scale).collect()
        };
        let (from, to) = match similarity {
            Similarity::Cosine | Similarity::TfIdf => {
                let squares = |item: usize| by_item.row(item).iter().map(|(_, weight)| f64::from(*weight).powi(2));
                let from = scales(&|item| squares(item).sum::<f64>().sqrt().recip());
                (from.clone(), from)
            }
            Similarity::Bm25 { .. } => {
                let from = scales(&|item| units[item]);
                (from.clone(), from)
            }
            Similarity::Rp3Beta { beta } => {
                let sums = item_sums(interactions);
                let from = scales(&|item| units[item] / sums[item]);
                let to = scales(&|item| units[item] * sums[item].powf(-f64::from(beta)));
                (from, to)
            }
        };
        Ok(Weights { by_user, by_item, from, to })
    }

    /// The products that the similarities of an item are summed of.
    pub fn cost(&self, item: u32) -> usize {
        self.by_item.row(item as usize).iter().map(|(user, _)| self.by_user.row(*user as usize).len()).sum()
    }
}

/// The weights as the formula has them.
fn weighed(interactions: &Csr, similarity: Similarity, go_on: &dyn Fn() -> Result<()>) -> Result<Rows> {
    let n_items = interactions.n_cols as f64;
    let ratings = |user: usize| interactions.row(user).1.iter().filter(|rating| **rating > 0.0);
    // Exactly 0 for one who had all but one, and below for one who had everything; what counts is its square.
    let idf = |user: usize| (n_items / (1.0 + ratings(user).count() as f64)).ln();
    let share = |user: usize| match similarity {
        Similarity::Cosine => 1.0,
        Similarity::TfIdf | Similarity::Bm25 { .. } => idf(user).abs(),
        Similarity::Rp3Beta { .. } => ratings(user).map(|rating| f64::from(*rating)).sum::<f64>().sqrt().recip(),
    };
    let shares: Vec<f64> = (0..interactions.n_rows).into_par_iter().map(share).collect();
    match similarity {
        Similarity::Cosine | Similarity::Rp3Beta { .. } => {
            each(interactions, |user, _, rating| shares[user] * rating, go_on)
        }
        Similarity::TfIdf => each(interactions, |user, _, rating| shares[user] * rating.sqrt(), go_on),
        Similarity::Bm25 { k1, b } => {
            let (sums, k1, b) = (item_sums(interactions), f64::from(k1), f64::from(b));
            let mean = sums.iter().sum::<f64>() / n_items;
            let norms: Vec<f64> = sums.into_iter().map(|sum| k1 * (1.0 - b + b * sum / mean)).collect();
            let weight = |user: usize, item: u32, rating: f64| {
                shares[user] * rating * (k1 + 1.0) / (norms[item as usize] + rating)
            };
            each(interactions, weight, go_on)
        }
    }
}

/// A weight so much smaller than the item's largest counts nothing: products of two are then normal numbers.
const SMALLEST: f32 = 1.0 / (1u64 << 60) as f32;

/// The weights in units of the largest power of two that is not above all weights of the item; and these units.
fn in_units(mut weights: Rows, go_on: &dyn Fn() -> Result<()>) -> Result<(Rows, Vec<f64>)> {
    let mut largest = vec![0.0f32; weights.n_cols];
    for (item, weight) in &weights.entries {
        largest[*item as usize] = largest[*item as usize].max(*weight);
    }
    let unit = |largest: f32| if largest > 0.0 { f64::from(largest).log2().floor().exp2() } else { 1.0 };
    let units: Vec<f64> = largest.into_iter().map(unit).collect();
    let (mut read, mut kept) = (0, 0);
    for row in 0..weights.n_rows() {
        if row % PATIENCE == 0 {
            go_on()?;
        }
        while read < weights.offsets[row + 1] {
            let (item, weight) = weights.entries[read];
            let weight = (f64::from(weight) / units[item as usize]) as f32;
            weights.entries[kept] = (item, weight);
            kept += usize::from(weight > SMALLEST);
            read += 1;
        }
        weights.offsets[row + 1] = kept;
    }
    weights.entries.truncate(kept);
    Ok((weights, units))
}

/// What `weight` makes of each entry's row, column and value, where it is above 0.
fn each(matrix: &Csr, weight: impl Fn(usize, u32, f64) -> f64, go_on: &dyn Fn() -> Result<()>) -> Result<Rows> {
    let mut offsets = Vec::with_capacity(matrix.n_rows + 1);
    let mut entries = Vec::with_capacity(matrix.nnz());
    offsets.push(0);
    for row in 0..matrix.n_rows {
        if row % PATIENCE == 0 {
            go_on()?;
        }
        let (columns, values) = matrix.row(row);
        for (column, value) in columns.iter().zip(values) {
            let weight = weight(row, *column, f64::from(*value)) as f32;
            if weight > 0.0 {
                entries.push((*column, weight));
            }
        }
        offsets.push(entries.len());
    }
    Ok(Rows { offsets, entries, n_cols: matrix.n_cols })
}

fn item_sums(interactions: &Csr) -> Vec<f64> {
    let mut sums = vec![0.0; interactions.n_cols];
    for (item, rating) in interactions.columns.iter().zip(&interactions.values) {
        sums[*item as usize] += f64::from(*rating);
    }
    sums
}
