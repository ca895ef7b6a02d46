//! `B`, laid out to score many users against all items.
#![allow(clippy::needless_range_loop)] // A row of registers is written plainest by counting over all of its arrays.

use std::ops::Range;

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::kernels::dense::Dense;
use crate::kernels::simd::{self, Kernel, Simd};
use crate::kernels::symmetric::{Symmetric, TILE};
use crate::kernels::topk::{Shortlist, good_ones};

/// Columns that are scored together: they stay in registers while a user's items pass by.
const PANEL: usize = 64;
/// Users that go through a panel together, at most: what they share of its rows is read from memory once.
const USERS: usize = 1024;

/// How much having one item speaks for another: `B` in f32, in panels of 64 columns, each row by row.
#[derive(Debug)]
pub struct Weights {
    n_items: usize,
    panels: Dense,
}

/// What one user had: items, ascending, and what each counts.
pub type Row<'a> = (&'a [u32], &'a [f32]);

/// Which items suit which users best.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    pub users: &'a [Row<'a>],
    /// How many to find for each user.
    pub k: usize,
    /// For each user the items to leave out, ascending.
    pub seen: Option<&'a [&'a [u32]]>,
    /// The only items to choose from, in any order; without it all of them.
    pub candidates: Option<&'a [u32]>,
}

impl Weights {
    /// Bytes that the weights of so many items take.
    pub fn bytes(n_items: usize) -> usize {
        n_items.next_multiple_of(PANEL).saturating_mul(n_items).saturating_mul(4)
    }

    /// Of `P`: `B_ij = −P_ij / P_jj`, and zero on the diagonal. `go_on` is asked often.
    pub fn of(inverse: &Symmetric, go_on: &(dyn Fn() -> bool + Sync)) -> Result<Weights> {
        let n_items = inverse.n();
        let mut panels = Dense::zeros(n_items.div_ceil(PANEL) * n_items, PANEL);
        let panel_area = (n_items * PANEL).max(1);
        panels.values_mut().par_chunks_mut(panel_area).enumerate().try_for_each(|(panel, weights)| {
            let columns = panel * PANEL..n_items.min((panel + 1) * PANEL);
            let mut parts = [[0.0; TILE]; PANEL];
            // By symmetry the columns are rows of P: a part of each, and then these turned over.
            for (tile, weights) in weights.chunks_mut(TILE * PANEL).enumerate() {
                let n_rows = weights.len() / PANEL;
                for (lane, column) in columns.clone().enumerate() {
                    inverse.copy_part(column, tile, &mut parts[lane][..n_rows]);
                    let scale = -1.0 / inverse.get(column, column);
                    parts[lane][..n_rows].iter_mut().for_each(|value| *value *= scale);
                    if column / TILE == tile {
                        parts[lane][column % TILE] = 0.0;
                    }
                }
                for (at, row) in weights.chunks_exact_mut(PANEL).enumerate() {
                    row.iter_mut().zip(&parts[..columns.len()]).for_each(|(weight, part)| *weight = part[at] as f32);
                }
            }
            if go_on() { Ok(()) } else { Err(Error::cancelled()) }
        })?;
        Ok(Weights { n_items, panels })
    }

    pub fn n_items(&self) -> usize {
        self.n_items
    }

    /// `B_ij`: how much having `i` speaks for `j`.
    pub fn get(&self, i: u32, j: u32) -> f32 {
        let (i, j) = (i as usize, j as usize);
        self.panels.values()[(j / PANEL * self.n_items + i) * PANEL + j % PANEL]
    }

    /// For each user up to `k` pairs of item and score, best first, ties by lower id; fewer when fewer are left.
    ///
    /// A score is the sum of the user's values times the items' weights, each rounded to f32, in the order of the items:
    /// the same on every processor. Scores that are not a number rank last. The whole score matrix never exists. Fails when an item lies outside the weights.
    pub fn top_k(&self, query: &Query) -> Result<Vec<Vec<(u32, f32)>>> {
        self.check(query)?;
        let is_candidate = query.candidates.map(|candidates| {
            let mut is_candidate = vec![false; self.n_items];
            candidates.iter().for_each(|item| is_candidate[*item as usize] = true);
            is_candidate
        });
        let is_candidate = is_candidate.as_deref();
        // Each user's sums are their own: how many go together changes nothing but the time it takes.
        let together = query.users.len().div_ceil(16).clamp(1, USERS);
        let blocks: Vec<Vec<Vec<(u32, f32)>>> = (0..query.users.len())
            .into_par_iter()
            .step_by(together)
            .map(|first| {
                let users = first..query.users.len().min(first + together);
                simd::run(Block { weights: self, query, is_candidate, users })
            })
            .collect();
        Ok(blocks.into_iter().flatten().collect())
    }

    fn check(&self, query: &Query) -> Result<()> {
        let users = query.users.iter().flat_map(|(items, _)| items.iter());
        let candidates = query.candidates.unwrap_or_default();
        if let Some(item) = users.chain(candidates).find(|item| **item as usize >= self.n_items) {
            return Err(Error::internal(format!("item {item} of {} items", self.n_items)));
        }
        if let Some(seen) = query.seen.filter(|seen| seen.len() != query.users.len()) {
            return Err(Error::internal(format!(
                "seen items for {} users, asked for {}",
                seen.len(),
                query.users.len()
            )));
        }
        Ok(())
    }
}

/// Some of a query's users.
struct Block<'q, 'a> {
    weights: &'q Weights,
    query: &'q Query<'a>,
    is_candidate: Option<&'q [bool]>,
    users: Range<usize>,
}

impl Kernel for Block<'_, '_> {
    type Output = Vec<Vec<(u32, f32)>>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Self::Output {
        if S::LANES == 16 { self.search::<S, 4>(simd) } else { self.search::<S, 8>(simd) }
    }
}

impl Block<'_, '_> {
    /// `V` vectors make a row of a panel.
    #[inline(always)]
    fn search<S: Simd, const V: usize>(self, simd: S) -> Vec<Vec<(u32, f32)>> {
        let list = |user: usize| Shortlist::new(self.query.seen.map_or(&[][..], |seen| seen[user]), self.query.k);
        let mut lists: Vec<Shortlist> = self.users.clone().map(list).collect();
        let panel_area = (self.weights.n_items * PANEL).max(1);
        for (panel, weights) in self.weights.panels.values().chunks_exact(panel_area).enumerate() {
            let columns = panel * PANEL..self.weights.n_items.min((panel + 1) * PANEL);
            let is_candidate = self.is_candidate.map(|is_candidate| &is_candidate[columns.clone()]);
            if is_candidate.is_some_and(|is_candidate| !is_candidate.contains(&true)) {
                continue;
            }
            let weights = simd.vectors(weights).as_chunks::<V>().0;
            for (list, (items, values)) in lists.iter_mut().zip(&self.query.users[self.users.clone()]) {
                // Products are rounded before they are added, as whoever explains a score will do it.
                let (mut sums, zero) = ([simd.splat(0.0); V], simd.splat(0.0));
                for (item, value) in items.iter().zip(*values) {
                    let (weights, value) = (&weights[*item as usize], simd.splat(*value));
                    for v in 0..V {
                        sums[v] = simd.add(sums[v], simd.mul_add(value, weights[v], zero));
                    }
                }
                good_ones(simd, &sums, list.floor(), |lane, score| {
                    if lane < columns.len() && is_candidate.is_none_or(|is_candidate| is_candidate[lane]) {
                        list.offer((columns.start + lane) as u32, score);
                    }
                });
            }
        }
        lists.into_iter().map(Shortlist::into_sorted).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::simd::run_on_all;

    #[test]
    fn every_processor_finds_the_same() {
        let n_items = 2 * PANEL + 9;
        let mixed = |at: usize| (at as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
        let inverse = Symmetric::from_rows(n_items, |i, row| {
            row.iter_mut().enumerate().for_each(|(j, value)| *value = mixed(i * 1000 + j) as f64 / 1e7 - 0.8);
            row[i] = 1.0 + i as f64 / 7.0;
            Ok(())
        })
        .unwrap();
        let weights = Weights::of(&inverse, &|| true).unwrap();
        let (items, values): (Vec<u32>, Vec<f32>) = (0..40).map(|at| (at * 3, 1.0 + at as f32 / 3.0)).unzip();
        let rows: [Row; 3] = [(&items, &values), (&[], &[]), (&items[..1], &values[..1])];
        let query = Query { users: &rows, k: n_items, seen: None, candidates: None };
        let block = || Block { weights: &weights, query: &query, is_candidate: None, users: 0..3 };
        for lists in run_on_all(block) {
            for (list, (items, values)) in lists.iter().zip(&rows) {
                assert!(list.len() == n_items && list.is_sorted_by(|a, b| a.1 > b.1 || (a.1 == b.1 && a.0 < b.0)));
                for (item, score) in list {
                    let terms = items.iter().zip(*values).map(|(had, value)| value * weights.get(*had, *item));
                    assert_eq!(*score, terms.fold(0.0, |sum, term| sum + term), "to the last bit");
                }
            }
        }
    }
}
