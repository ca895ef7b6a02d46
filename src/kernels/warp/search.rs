//! The search for products that score too high, on embeddings that are held still.
#![allow(clippy::needless_range_loop)] // Vectors in registers are counted plainest.

use rand::RngCore;
use rand_chacha::ChaCha8Rng;

use crate::kernels::csr::Csr;
use crate::kernels::dense::Dense;
use crate::kernels::simd::{Kernel, Simd};
use crate::kernels::warp::Traits;

/// Entries that are searched one after the other.
pub(super) const CHUNK: usize = 32;

/// What came of one entry's search.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Found {
    pub user: u32,
    /// What the customer had.
    pub item: u32,
    /// What they had not and scores too high; any where the weight is 0.
    pub other: u32,
    /// How much it matters; 0: nothing was found.
    pub weight: f32,
    /// The weight times the gap to the margin.
    pub loss: f32,
}

pub(super) struct Search<'a> {
    /// How many entries to draw and to search for.
    pub entries: usize,
    pub had: &'a Csr,
    /// The customer of each entry.
    pub owners: &'a [u32],
    /// The products to draw from.
    pub drawn: &'a [u32],
    pub traits: &'a Traits<'a>,
    pub users: &'a Dense,
    pub items: &'a Dense,
    pub biases: &'a [f32],
    /// For each draw the weight of a product found with it.
    pub weights: &'a [f32],
    /// For each entry: the customer's vector `p`, to be filled in.
    pub vectors: &'a mut [f32],
    /// And `q(item) − q(other)`.
    pub gaps: &'a mut [f32],
    pub rng: ChaCha8Rng,
}

impl Kernel for Search<'_> {
    type Output = Vec<Found>;

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) -> Vec<Found> {
        let n = self.users.width() / S::LANES;
        let users = Rows { rows: simd.vectors(self.users.values()), n };
        let items = Rows { rows: simd.vectors(self.items.values()), n };
        let vectors = simd.vectors_mut(self.vectors);
        let gaps = simd.vectors_mut(self.gaps);
        let mut all = Vec::with_capacity(self.entries);
        for at in 0..self.entries {
            let entry = below(&mut self.rng, self.owners.len());
            let (user, item) = (self.owners[entry], self.had.columns[entry]);
            let p = &mut vectors[at * n..(at + 1) * n];
            p.fill(simd.splat(0.0));
            users.add(simd, self.traits.users.row(user as usize), 1.0, p);
            let of_item = self.traits.items.row(item as usize);
            let score = items.score(simd, of_item, self.biases, p);
            let seen = self.had.row(user as usize).0;
            let mut found = Found { user, item, other: item, weight: 0.0, loss: 0.0 };
            for weight in self.weights {
                let other = self.drawn[below(&mut self.rng, self.drawn.len())];
                let of_other = self.traits.items.row(other as usize);
                let gap = 1.0 - score + items.score(simd, of_other, self.biases, p);
                // What is no number is found as well: it should come to light in the loss.
                let enough = gap <= 0.0;
                if !enough && seen.binary_search(&other).is_err() {
                    found = Found { other, weight: *weight, loss: weight * gap, ..found };
                    let gaps = &mut gaps[at * n..(at + 1) * n];
                    gaps.fill(simd.splat(0.0));
                    items.add(simd, of_item, 1.0, gaps);
                    items.add(simd, of_other, -1.0, gaps);
                    break;
                }
            }
            all.push(found);
        }
        all
    }
}

/// A number below `n`.
#[inline(always)]
fn below(rng: &mut ChaCha8Rng, n: usize) -> usize {
    // The upper half of a product with `n` is below `n`.
    ((u128::from(rng.next_u64()) * n as u128) >> 64) as usize
}

/// Embeddings, `n` vectors each.
struct Rows<'a, V> {
    rows: &'a [V],
    n: usize,
}

impl<V: Copy> Rows<'_, V> {
    /// Adds the embeddings of some values, each as often as it counts, to `sum`.
    #[inline(always)]
    fn add<S: Simd<Vector = V>>(&self, simd: S, (values, counts): (&[u32], &[f32]), sign: f32, sum: &mut [V]) {
        let sum = &mut sum[..self.n];
        for at in 0..values.len() {
            let row = &self.rows[values[at] as usize * self.n..][..self.n];
            let count = simd.splat(sign * counts[at]);
            for k in 0..self.n {
                sum[k] = simd.mul_add(count, row[k], sum[k]);
            }
        }
    }

    /// The sum's product with `p`, and the sum of the biases, without forming the sum.
    #[inline(always)]
    fn score<S: Simd<Vector = V>>(&self, simd: S, (values, counts): (&[u32], &[f32]), biases: &[f32], p: &[V]) -> f32 {
        let p = &p[..self.n];
        let (mut sum, mut bias) = (simd.splat(0.0), 0.0);
        for at in 0..values.len() {
            let value = values[at] as usize;
            let row = &self.rows[value * self.n..][..self.n];
            let mut product = simd.splat(0.0);
            for k in 0..self.n {
                product = simd.mul_add(p[k], row[k], product);
            }
            sum = simd.mul_add(simd.splat(counts[at]), product, sum);
            bias += counts[at] * biases[value];
        }
        simd.sum(sum) + bias
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array};
    use rand::SeedableRng;

    use super::*;
    use crate::kernels::simd;

    #[test]
    fn what_scores_too_high_is_found_and_its_gap_told() {
        // Customer 0 had product 0, customer 1 products 0 and 2. Product 0 has two traits, one of them twice.
        let had = Csr::from_triplets(2, 4, &[(0, 0, 1.0), (1, 0, 1.0), (1, 2, 1.0)]).unwrap();
        let users = Csr::from_triplets(2, 2, &[(0, 0, 1.0), (1, 0, 1.0), (1, 1, 1.0)]).unwrap();
        let items =
            Csr::from_triplets(4, 3, &[(0, 0, 1.0), (0, 1, 2.0), (1, 1, 1.0), (2, 2, 1.0), (3, 2, 1.0)]).unwrap();
        let of_users = array![[1.0, 0.0], [0.0, 1.0]];
        let of_items = array![[0.5, 0.0], [0.25, 0.5], [9.0, -8.0]];
        let (user_rows, item_rows) = (Dense::of(of_users.view()), Dense::of(of_items.view()));
        let search = || Room { vectors: Dense::zeros(CHUNK, 2), gaps: Dense::zeros(CHUNK, 2) };
        struct Room {
            vectors: Dense,
            gaps: Dense,
        }
        struct Run<'a>(Search<'a>);
        impl Kernel for Run<'_> {
            type Output = Vec<Found>;
            #[inline(always)]
            fn run<S: Simd>(self, simd: S) -> Vec<Found> {
                self.0.run(simd)
            }
        }
        let mut room = search();
        let found = simd::run(Run(Search {
            entries: CHUNK,
            had: &had,
            owners: &[0, 1, 1],
            drawn: &[0, 1, 2],
            traits: &Traits { users: &users, items: &items },
            users: &user_rows,
            items: &item_rows,
            biases: &[0.0, 0.1, -7.0],
            weights: &[1.0, 0.5, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25],
            vectors: room.vectors.values_mut(),
            gaps: room.gaps.values_mut(),
            rng: ChaCha8Rng::seed_from_u64(5),
        }));
        // By hand: q = (1, 1), (.25, .5), (9, −8) and b = .2, .1, −7.
        let q: Array2<f32> = array![[1.0, 1.0], [0.25, 0.5], [9.0, -8.0]];
        let b = [0.2, 0.1, -7.0];
        let p = [array![1.0, 0.0], array![1.0, 1.0]];
        let (vectors, gaps) = (room.vectors.to_array(2), room.gaps.to_array(2));
        let mut others = Vec::new();
        for (at, found) in found.iter().enumerate() {
            let (user, item, other) = (found.user as usize, found.item as usize, found.other as usize);
            assert!(had.row(user).0.contains(&found.item));
            assert_eq!(vectors.row(at), p[user]);
            let gap = |other: usize| 1.0 - p[user].dot(&q.row(item)) - b[item] + p[user].dot(&q.row(other)) + b[other];
            if found.weight > 0.0 {
                assert!(!had.row(user).0.contains(&found.other));
                assert!((found.loss - found.weight * gap(other)).abs() < 1e-6 && found.loss > 0.0);
                assert_eq!(gaps.row(at), &q.row(item) - &q.row(other));
                others.push((user, item, other));
            }
        }
        others.sort_unstable();
        others.dedup();
        // Customer 0 misses product 1 by too little and product 2 by too much; customer 1 scores 2 for product 0, more
        // than a margin above product 1, and −6 for product 2, which they had.
        assert_eq!(others, [(0, 0, 1), (0, 0, 2), (1, 2, 1)]);
    }
}
