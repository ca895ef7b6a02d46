//! The few best of many: exact top-k by inner product, and the selection that others share.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayView2, Axis, s};
use rayon::prelude::*;

use crate::error::{Error, Result};

/// Which items suit which users best.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    /// `n_users × factors`.
    pub users: ArrayView2<'a, f32>,
    /// `n_items × factors`; an item's id is its row.
    pub items: ArrayView2<'a, f32>,
    /// How many to find for each user.
    pub k: usize,
    /// For each user the items to leave out, ids ascending.
    pub seen: Option<&'a [&'a [u32]]>,
    /// The only items to choose from, in any order; without it all of them.
    pub candidates: Option<&'a [u32]>,
}

/// Users that share one pass over the items, and the items of one tile: their scores stay in the second-level cache.
const USERS: usize = 64;
const TILE: usize = 512;
/// Scores that are compared with the threshold at once.
const LANES: usize = 16;

/// For each user up to `k` pairs of item and score, best first, ties by lower id; fewer when fewer are left.
///
/// Every item is scored, a tile at a time; the whole score matrix never exists. Scores that are not a number rank
/// last. Fails when the shapes do not fit together or a candidate is no item.
pub fn top_k(query: &Query) -> Result<Vec<Vec<(u32, f32)>>> {
    check(query)?;
    let ids = query.candidates.map(|candidates| {
        let mut ids = candidates.to_vec();
        ids.sort_unstable();
        ids.dedup();
        ids
    });
    let gathered = ids.as_ref().map(|ids| {
        let rows: Vec<usize> = ids.iter().map(|id| *id as usize).collect();
        query.items.select(Axis(0), &rows)
    });
    let items = gathered.as_ref().map_or(query.items.view(), |rows| rows.view());

    let n_users = query.users.nrows();
    let blocks: Vec<Vec<Vec<(u32, f32)>>> = (0..n_users.div_ceil(USERS))
        .into_par_iter()
        .map(|block| block_top_k(query, block * USERS..((block + 1) * USERS).min(n_users), items, ids.as_deref()))
        .collect();
    Ok(blocks.into_iter().flatten().collect())
}

/// The `k` best of `scores`, best first, ties by lower id. Scores that are not a number rank last.
pub fn best(scores: impl Iterator<Item = (u32, f32)>, k: usize) -> Vec<(u32, f32)> {
    let mut best = Best::new(k);
    scores.for_each(|(id, score)| best.offer(id, score));
    best.into_sorted()
}

/// The users of one block. `items` are all items, or those of `ids`.
fn block_top_k(
    query: &Query,
    users: std::ops::Range<usize>,
    items: ArrayView2<f32>,
    ids: Option<&[u32]>,
) -> Vec<Vec<(u32, f32)>> {
    let block = query.users.slice(s![users.clone(), ..]);
    let mut best: Vec<Best> = users.clone().map(|_| Best::new(query.k)).collect();
    let mut scores = Array2::<f32>::zeros((users.len(), TILE));
    for (tile, items) in items.axis_chunks_iter(Axis(0), TILE).enumerate() {
        let mut scores = scores.slice_mut(s![.., ..items.nrows()]);
        general_mat_mul(1.0, &block, &items.t(), 0.0, &mut scores);
        for (user, (best, scores)) in best.iter_mut().zip(scores.outer_iter()).enumerate() {
            let seen = query.seen.map_or(&[][..], |seen| seen[users.start + user]);
            for (lane, scores) in scores.axis_chunks_iter(Axis(0), LANES).enumerate() {
                // Nearly every score is too low. One look at sixteen of them, without a branch, tells so.
                let floor = best.floor();
                if scores.fold(true, |low, score| low & (*score < floor)) {
                    continue;
                }
                for (offset, score) in scores.iter().enumerate() {
                    let position = tile * TILE + lane * LANES + offset;
                    let id = ids.map_or(position as u32, |ids| ids[position]);
                    if best.admits(id, *score) && seen.binary_search(&id).is_err() {
                        best.offer(id, *score);
                    }
                }
            }
        }
    }
    best.into_iter().map(Best::into_sorted).collect()
}

/// The `k` best that were offered so far.
struct Best {
    k: usize,
    /// The worst of them on top.
    heap: BinaryHeap<Ranked>,
}

impl Best {
    fn new(k: usize) -> Self {
        Self { k, heap: BinaryHeap::new() }
    }

    /// A score below it need not be offered.
    fn floor(&self) -> f32 {
        match self.heap.peek() {
            Some(worst) if self.heap.len() >= self.k && !worst.score.is_nan() => worst.score,
            _ => f32::NEG_INFINITY,
        }
    }

    fn admits(&self, id: u32, score: f32) -> bool {
        self.heap.len() < self.k || self.heap.peek().is_some_and(|worst| Ranked { id, score } < *worst)
    }

    fn offer(&mut self, id: u32, score: f32) {
        if self.admits(id, score) {
            if self.heap.len() == self.k {
                self.heap.pop();
            }
            self.heap.push(Ranked { id, score });
        }
    }

    fn into_sorted(self) -> Vec<(u32, f32)> {
        self.heap.into_sorted_vec().into_iter().map(|ranked| (ranked.id, ranked.score)).collect()
    }
}

/// In the order of a ranking: less is better.
#[derive(Debug, Clone, Copy)]
struct Ranked {
    id: u32,
    score: f32,
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        // Two numbers compare as numbers (0 and −0 are a tie); what is not a number comes after them.
        let by_score =
            other.score.partial_cmp(&self.score).unwrap_or_else(|| self.score.is_nan().cmp(&other.score.is_nan()));
        by_score.then(self.id.cmp(&other.id))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ranked {}

fn check(query: &Query) -> Result<()> {
    let (users, items) = (query.users.dim(), query.items.dim());
    if users.1 != items.1 {
        return Err(Error::internal(format!("users have {} factors, items have {}", users.1, items.1)));
    }
    if let Some(seen) = query.seen.filter(|seen| seen.len() != users.0) {
        return Err(Error::internal(format!("seen items for {} users, asked for {}", seen.len(), users.0)));
    }
    if let Some(id) = query.candidates.and_then(|ids| ids.iter().find(|id| **id as usize >= items.0)) {
        return Err(Error::internal(format!("candidate {id} of {} items", items.0)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use ndarray::array;
    use proptest::prelude::*;

    use super::*;

    /// Scores every pair and sorts them all.
    fn slow(query: &Query) -> Vec<Vec<(u32, f32)>> {
        let one = |user: usize| {
            let mut ranked: Vec<(u32, f32)> = (0..query.items.nrows())
                .map(|item| (item as u32, query.users.row(user).dot(&query.items.row(item))))
                .filter(|(item, _)| query.candidates.is_none_or(|ids| ids.contains(item)))
                .filter(|(item, _)| query.seen.is_none_or(|seen| !seen[user].contains(item)))
                .collect();
            ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            ranked.truncate(query.k);
            ranked
        };
        (0..query.users.nrows()).map(one).collect()
    }

    #[test]
    fn the_best_of_a_few() {
        let users = array![[1.0, 0.0], [0.0, 1.0]];
        let items = array![[3.0, 1.0], [5.0, 0.0], [3.0, 2.0], [1.0, 9.0]];
        let query = Query { users: users.view(), items: items.view(), k: 2, seen: None, candidates: None };
        assert_eq!(top_k(&query).unwrap(), [vec![(1, 5.0), (0, 3.0)], vec![(3, 9.0), (2, 2.0)]]);

        let seen: [&[u32]; 2] = [&[0, 1], &[]];
        let query = Query { seen: Some(&seen), ..query };
        assert_eq!(top_k(&query).unwrap(), [vec![(2, 3.0), (3, 1.0)], vec![(3, 9.0), (2, 2.0)]]);

        let query = Query { candidates: Some(&[2, 0, 2]), k: 9, ..query };
        assert_eq!(top_k(&query).unwrap(), [vec![(2, 3.0)], vec![(2, 2.0), (0, 1.0)]]);
    }

    #[test]
    fn selection_knows_ties_and_what_is_no_number() {
        let scores = [(4, 1.0), (3, f32::NAN), (2, 1.0), (9, 2.0), (1, -0.0), (0, 0.0)];
        let ids = |k| best(scores.into_iter(), k).into_iter().map(|(id, _)| id).collect::<Vec<_>>();
        assert_eq!(ids(2), [9, 2]);
        assert_eq!(ids(usize::MAX), [9, 2, 4, 0, 1, 3]);
        assert!(ids(0).is_empty());
        assert!(best(std::iter::empty(), 3).is_empty());
    }

    #[test]
    fn a_score_that_is_no_number_gives_way() {
        let users = array![[1.0]];
        let items = Array2::from_shape_fn((40, 1), |(item, _)| if item < 20 { f32::NAN } else { item as f32 });
        let query = Query { users: users.view(), items: items.view(), k: 3, seen: None, candidates: None };
        assert_eq!(top_k(&query).unwrap(), [vec![(39, 39.0), (38, 38.0), (37, 37.0)]]);
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let (users, items) = (array![[1.0, 0.0]], array![[1.0], [2.0]]);
        let query = Query { users: users.view(), items: items.view(), k: 2, seen: None, candidates: None };
        assert!(top_k(&query).is_err());
        let query = Query { users: items.view(), ..query };
        assert!(top_k(&Query { seen: Some(&[]), ..query }).is_err());
        assert!(top_k(&Query { candidates: Some(&[2]), ..query }).is_err());
        assert_eq!(top_k(&Query { k: 0, ..query }).unwrap(), [vec![], vec![]]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        // Small whole numbers: every sum is exact, and there are many ties.
        #[test]
        fn a_full_sort_finds_the_same(
            n_users in 0usize..140,
            n_items in 0usize..1200,
            k in 0usize..30,
            salt in any::<u32>(),
            chosen in prop::option::of(prop::collection::vec(any::<u32>(), 0..40)),
        ) {
            let cell = |row: usize, column: usize| {
                let mixed = (row as u32 * 31 + column as u32 + salt).wrapping_mul(2_654_435_761) >> 16;
                (mixed % 7) as f32 - 3.0
            };
            let users = Array2::from_shape_fn((n_users, 3), |(row, column)| cell(row, column));
            let items = Array2::from_shape_fn((n_items, 3), |(row, column)| cell(row + 500, column));
            let third = |user: u32| (0..n_items as u32).filter(|item| (item + user).is_multiple_of(3)).collect();
            let seen: Vec<Vec<u32>> = (0..n_users as u32).map(third).collect();
            let seen: Vec<&[u32]> = seen.iter().map(Vec::as_slice).collect();
            let chosen: Option<Vec<u32>> = chosen
                .filter(|_| n_items > 0)
                .map(|ids| ids.into_iter().map(|id| id % n_items as u32).collect());
            let candidates = chosen.as_deref();
            let query = Query { users: users.view(), items: items.view(), k, seen: Some(&seen), candidates };
            prop_assert_eq!(top_k(&query).unwrap(), slow(&query));
        }
    }
}
