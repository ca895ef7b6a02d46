//! The walk over the entries of one stratum, a step down for each.
#![allow(clippy::needless_range_loop)] // A tile of registers is written plainest by counting over all of its arrays.

use rand::RngCore;
use rand_chacha::ChaCha8Rng;

use crate::kernels::bpr::strata::{Blocks, Entry};
use crate::kernels::simd::{Kernel, Simd};

pub(super) struct Stratum<'a> {
    pub blocks: Blocks<'a>,
    /// Numbers to a row.
    pub width: usize,
    pub rate: f32,
    pub regularization: f32,
    pub rng: ChaCha8Rng,
}

impl Kernel for Stratum<'_> {
    /// The sum of `−ln σ(x(u, i) − x(u, j))` before each step, and how many steps were taken.
    type Output = (f64, usize);

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> (f64, usize) {
        match self.width / S::LANES {
            n if n.is_multiple_of(4) => self.walk::<S, 4>(simd),
            n if n.is_multiple_of(2) => self.walk::<S, 2>(simd),
            _ => self.walk::<S, 1>(simd),
        }
    }
}

/// Draws before the next best is taken: of this block the customer had nearly all.
const DRAWS: usize = 10;

impl Stratum<'_> {
    /// A row is parts of `U` vectors.
    #[inline(always)]
    fn walk<S: Simd, const U: usize>(mut self, simd: S) -> (f64, usize) {
        let n = self.width / S::LANES / U;
        let users = simd.vectors_mut(self.blocks.users).as_chunks_mut::<U>().0;
        let items = simd.vectors_mut(self.blocks.items).as_chunks_mut::<U>().0;
        let biases = self.blocks.biases;
        let keep = 1.0 - self.rate * self.regularization;
        let mut losses = Losses::default();
        for had in self.blocks.entries.chunk_by(|a, b| a.user == b.user) {
            let user = &mut users[had[0].user as usize * n..][..n];
            for entry in had {
                let Some(other) = not_had(&mut self.rng, had, biases.len()) else { continue };
                let item = entry.item as usize;
                let rows = [item * n..(item + 1) * n, other * n..(other + 1) * n];
                let Ok([q, r]) = items.get_disjoint_mut(rows) else { continue };
                let gap = lead(simd, user, q, r) + biases[item] - biases[other];
                let chance = 1.0 / (1.0 + (-gap).exp());
                losses.add(chance);
                let step = self.rate * (1.0 - chance);
                part_ways(simd, step, keep, user, q, r);
                biases[item] = keep * biases[item] + step;
                biases[other] = keep * biases[other] - step;
            }
        }
        losses.sum()
    }
}

/// A product of the block that is not among `had`, the products of one customer; none where they had them all.
#[inline(always)]
fn not_had(rng: &mut ChaCha8Rng, had: &[Entry], n_items: usize) -> Option<usize> {
    if had.len() >= n_items {
        return None;
    }
    let fresh = |item: &u32| had.iter().all(|entry| entry.item != *item);
    let mut drawn = 0;
    for _ in 0..DRAWS {
        // The upper half of a product with `n_items` is below it.
        drawn = ((u64::from(rng.next_u32()) * n_items as u64) >> 32) as u32;
        if fresh(&drawn) {
            return Some(drawn as usize);
        }
    }
    (drawn..n_items as u32).chain(0..drawn).find(fresh).map(|item| item as usize)
}

/// `p·(q − r)`
#[inline(always)]
fn lead<S: Simd, const U: usize>(simd: S, p: &[[S::Vector; U]], q: &[[S::Vector; U]], r: &[[S::Vector; U]]) -> f32 {
    let minus = simd.splat(-1.0);
    let mut sums = [simd.splat(0.0); U];
    let (q, r) = (&q[..p.len()], &r[..p.len()]);
    for at in 0..p.len() {
        for u in 0..U {
            sums[u] = simd.mul_add(p[at][u], simd.mul_add(minus, r[at][u], q[at][u]), sums[u]);
        }
    }
    let mut sum = sums[0];
    for other in &sums[1..] {
        sum = simd.add(sum, *other);
    }
    simd.sum(sum)
}

/// One step: all three are drawn to zero, `p` goes where `q` is and `r` is not, `q` goes where `p` was and `r` away.
#[inline(always)]
fn part_ways<S: Simd, const U: usize>(
    simd: S,
    step: f32,
    keep: f32,
    p: &mut [[S::Vector; U]],
    q: &mut [[S::Vector; U]],
    r: &mut [[S::Vector; U]],
) {
    let (up, down, keep) = (simd.splat(step), simd.splat(-step), simd.splat(keep));
    let (minus, none) = (simd.splat(-1.0), simd.splat(0.0));
    let (q, r) = (&mut q[..p.len()], &mut r[..p.len()]);
    for at in 0..p.len() {
        for u in 0..U {
            let (was, q, r) = (p[at][u], &mut q[at][u], &mut r[at][u]);
            p[at][u] = simd.mul_add(up, simd.mul_add(minus, *r, *q), simd.mul_add(keep, was, none));
            *q = simd.mul_add(up, was, simd.mul_add(keep, *q, none));
            *r = simd.mul_add(down, was, simd.mul_add(keep, *r, none));
        }
    }
}

/// A sum of `−ln` of chances: eight of them are multiplied before a logarithm is taken.
struct Losses {
    sum: f64,
    product: f64,
    n: usize,
}

impl Default for Losses {
    fn default() -> Self {
        Losses { sum: 0.0, product: 1.0, n: 0 }
    }
}

impl Losses {
    #[inline(always)]
    fn add(&mut self, chance: f32) {
        // A chance of zero would be a loss without bounds. What is no number stays none.
        self.product *= if chance < f32::MIN_POSITIVE { f64::from(f32::MIN_POSITIVE) } else { f64::from(chance) };
        self.n += 1;
        if self.n.is_multiple_of(8) {
            self.sum -= self.product.ln();
            self.product = 1.0;
        }
    }

    fn sum(self) -> (f64, usize) {
        (self.sum - self.product.ln(), self.n)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn draws_are_even_and_leave_out_what_was_had() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let had = [1, 3].map(|item| Entry { user: 0, item });
        let mut counts = [0; 5];
        for _ in 0..3000 {
            counts[not_had(&mut rng, &had, 5).unwrap()] += 1;
        }
        assert!(counts[1] == 0 && counts[3] == 0 && [0, 2, 4].iter().all(|item| counts[*item] > 900), "{counts:?}");
        let most: Vec<Entry> = (0..99).map(|item| Entry { user: 0, item }).collect();
        assert_eq!(not_had(&mut rng, &most, 100), Some(99));
        let all = [0, 1].map(|item| Entry { user: 0, item });
        assert_eq!(not_had(&mut rng, &all, 2), None);
    }

    #[test]
    fn losses_are_sums_of_logarithms() {
        let mut losses = Losses::default();
        let chances: Vec<f32> = (1..=20).map(|n| n as f32 / 20.0).chain([0.0]).collect();
        chances.iter().for_each(|chance| losses.add(*chance));
        let (sum, n) = losses.sum();
        let slow: f64 = chances.iter().map(|chance| -f64::from(chance.max(f32::MIN_POSITIVE)).ln()).sum();
        assert!((sum - slow).abs() < 1e-9 && n == 21);
        let mut losses = Losses::default();
        losses.add(f32::NAN);
        assert!(losses.sum().0.is_nan());
    }
}
