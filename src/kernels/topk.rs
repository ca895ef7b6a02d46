//! The few best of many: exact top-k by inner product, and the selection that others share.

mod bytes;
mod floats;
mod shortlist;

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use ndarray::ArrayView2;
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::kernels::simd;
use crate::kernels::topk::bytes::Bytes;
use crate::kernels::topk::floats::Floats;
pub(super) use crate::kernels::topk::floats::good_ones;
pub(super) use crate::kernels::topk::shortlist::Shortlist;

/// Items laid out to be searched: the long vectors first.
#[derive(Debug)]
pub struct Items {
    factors: usize,
    /// The id of each place: its row in the matrix they came from.
    ids: Vec<u32>,
    /// The place of each id.
    places: Vec<u32>,
    layout: Layout,
}

#[derive(Debug)]
enum Layout {
    Floats(Floats),
    Bytes(Bytes),
}

impl Items {
    /// Of `n_items × factors`; an item's id is its row.
    pub fn of(items: ArrayView2<f32>) -> Items {
        let ids = (0..items.nrows() as u32).collect();
        Items::arranged(items.ncols(), ids, |id| items.row(id as usize).to_vec(), simd::has_bytes())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Those of `ids` alone, which are ids of these items, without one twice.
    fn only(&self, ids: Vec<u32>) -> Items {
        let vector = |id: u32| self.vector(self.places[id as usize] as usize);
        Items::arranged(self.factors, ids, vector, matches!(self.layout, Layout::Bytes(_)))
    }

    fn vector(&self, place: usize) -> Vec<f32> {
        match &self.layout {
            Layout::Floats(floats) => floats.vector(place),
            Layout::Bytes(bytes) => bytes.vector(place, self.factors),
        }
    }

    /// `as_bytes` where the processor has what a search of bytes takes.
    fn arranged(factors: usize, ids: Vec<u32>, vector: impl Fn(u32) -> Vec<f32> + Sync, as_bytes: bool) -> Items {
        let mut by_length: Vec<(f64, u32)> = ids.par_iter().map(|id| (length(&vector(*id)), *id)).collect();
        by_length.par_sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let (lengths, ids): (Vec<f64>, Vec<u32>) = by_length.into_iter().unzip();
        let mut places = vec![u32::MAX; ids.iter().max().map_or(0, |last| *last as usize + 1)];
        ids.iter().enumerate().for_each(|(place, id)| places[*id as usize] = place as u32);
        let vector = |place: usize| vector(ids[place]);
        let layout = if as_bytes && Bytes::can_hold(factors, &lengths) {
            Layout::Bytes(Bytes::of(factors, &lengths, vector))
        } else {
            Layout::Floats(Floats::of(factors, &lengths, vector))
        };
        Items { factors, ids, places, layout }
    }
}

/// Of a vector.
#[inline(always)]
fn length(vector: &[f32]) -> f64 {
    // In as many sums as need not wait for one another.
    let mut sums = [0.0; 16];
    let (whole, rest) = vector.as_chunks::<16>();
    for values in whole {
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum += f64::from(*value) * f64::from(*value);
        }
    }
    rest.iter().zip(&mut sums).for_each(|(value, sum)| *sum += f64::from(*value) * f64::from(*value));
    sums.iter().sum::<f64>().sqrt()
}

/// What rounding may add to a score of `factors` products, as a share of the product of the lengths: a sum of n products
/// is off by at most about n roundings.
fn rounding(factors: usize) -> f64 {
    (factors + 8) as f64 * f64::from(f32::EPSILON)
}

/// Which items suit which users best.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    /// `n_users × factors`.
    pub users: ArrayView2<'a, f32>,
    pub items: &'a Items,
    /// How many to find for each user.
    pub k: usize,
    /// For each user the items to leave out, ids ascending.
    pub seen: Option<&'a [&'a [u32]]>,
    /// The only items to choose from, in any order; without it all of them.
    pub candidates: Option<&'a [u32]>,
}

/// Users that share one pass over the items: each panel is read once for all of them.
const USERS: usize = 96;

/// For each user up to `k` pairs of item and score, best first, ties by lower id; fewer when fewer are left.
///
/// Exact. A block of users looks at the items from the longest vector on, and stops where none that comes can reach
/// the worst of the `k` best so far: a score is at most the product of the lengths (Cauchy and Schwarz). Where the
/// processor multiplies bytes, vectors rounded to bytes tell first which items may be good enough, with what rounding may
/// have taken from them. The whole score matrix never exists. Scores that are not a number rank last. Fails when the
/// shapes do not fit together or a candidate is no item.
pub fn top_k(query: &Query) -> Result<Vec<Vec<(u32, f32)>>> {
    check(query)?;
    let n_users = query.users.nrows();
    if query.k == 0 {
        return Ok(vec![Vec::new(); n_users]);
    }
    let chosen = query.candidates.map(|candidates| {
        let mut ids = candidates.to_vec();
        ids.sort_unstable();
        ids.dedup();
        query.items.only(ids)
    });
    let items = chosen.as_ref().unwrap_or(query.items);

    let of_block = |block: usize| {
        let users = block * USERS..((block + 1) * USERS).min(n_users);
        match &items.layout {
            Layout::Floats(floats) => simd::run(floats.search(query, &items.ids, users)),
            Layout::Bytes(bytes) => simd::run_bytes(bytes.search(query, &items.ids, users)).unwrap_or_default(),
        }
    };
    let n_blocks = n_users.div_ceil(USERS);
    // To hand a single one to other threads, and to wait for them, may take longer than to do it.
    if n_blocks == 1 {
        return Ok(of_block(0));
    }
    let blocks: Vec<Vec<Vec<(u32, f32)>>> = (0..n_blocks).into_par_iter().map(of_block).collect();
    Ok(blocks.into_iter().flatten().collect())
}

/// The `k` best of `scores`, best first, ties by lower id. Scores that are not a number rank last.
pub fn best(scores: impl Iterator<Item = (u32, f32)>, k: usize) -> Vec<(u32, f32)> {
    let mut best = Best::new(k);
    scores.for_each(|(id, score)| best.offer(id, score));
    best.into_sorted()
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
    let (users, items) = (query.users.dim(), query.items);
    if users.1 != items.factors {
        return Err(Error::internal(format!("users have {} factors, items have {}", users.1, items.factors)));
    }
    if let Some(seen) = query.seen.filter(|seen| seen.len() != users.0) {
        return Err(Error::internal(format!("seen items for {} users, asked for {}", seen.len(), users.0)));
    }
    if let Some(id) = query.candidates.and_then(|ids| ids.iter().find(|id| **id as usize >= items.len())) {
        return Err(Error::internal(format!("candidate {id} of {} items", items.len())));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use ndarray::{Array2, array};
    use proptest::prelude::*;

    use super::*;

    /// Scores every pair and sorts them all.
    fn slow(query: &Query, items: &Array2<f32>) -> Vec<Vec<(u32, f32)>> {
        let one = |user: usize| {
            let mut ranked: Vec<(u32, f32)> = (0..items.nrows())
                .map(|item| (item as u32, query.users.row(user).dot(&items.row(item))))
                .filter(|(item, _)| query.candidates.is_none_or(|ids| ids.contains(item)))
                .filter(|(item, _)| query.seen.is_none_or(|seen| !seen[user].contains(item)))
                .collect();
            ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            ranked.truncate(query.k);
            ranked
        };
        (0..query.users.nrows()).map(one).collect()
    }

    /// What each kind of vectors of this processor finds.
    fn on_all(query: &Query, items: &Array2<f32>, users: Range<usize>) -> Vec<Vec<Vec<(u32, f32)>>> {
        let mut found = Vec::new();
        for as_bytes in [false, true] {
            let ids = (0..items.nrows() as u32).collect();
            let items = Items::arranged(items.ncols(), ids, |id| items.row(id as usize).to_vec(), as_bytes);
            match &items.layout {
                Layout::Floats(floats) => {
                    found.extend(simd::run_on_all(|| floats.search(query, &items.ids, users.clone())));
                }
                Layout::Bytes(bytes) => {
                    found.extend(simd::run_bytes_on_all(|| bytes.search(query, &items.ids, users.clone())));
                }
            }
        }
        found
    }

    #[test]
    fn the_best_of_a_few() {
        let users = array![[1.0, 0.0], [0.0, 1.0]];
        let items = Items::of(array![[3.0, 1.0], [5.0, 0.0], [3.0, 2.0], [1.0, 9.0]].view());
        let query = Query { users: users.view(), items: &items, k: 2, seen: None, candidates: None };
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
        let query = Query { users: users.view(), items: &Items::of(items.view()), k: 3, seen: None, candidates: None };
        assert_eq!(top_k(&query).unwrap(), [vec![(39, 39.0), (38, 38.0), (37, 37.0)]]);
    }

    #[test]
    fn the_search_stops_only_where_nothing_better_comes() {
        // Lengths fall slowly and directions vary, so that searches stop at many places.
        let cell = |row: usize, column: usize| ((row * 7 + column * 13) as f32).sin();
        let users = Array2::from_shape_fn((70, 20), |(row, column)| cell(row, column));
        let items = Array2::from_shape_fn((3000, 20), |(row, column)| {
            cell(row + 999, column) * 40.0 / (40.0 + (row * 37 % 3000) as f32)
        });
        let arranged = Items::of(items.view());
        let query = Query { users: users.view(), items: &arranged, k: 10, seen: None, candidates: None };
        let expected = slow(&query, &items);
        for found in on_all(&query, &items, 0..70).iter().chain([&top_k(&query).unwrap()]) {
            for (found, expected) in found.iter().zip(&expected) {
                assert_eq!(found.len(), 10);
                assert!(found.iter().zip(expected).all(|(a, b)| (a.1 - b.1).abs() < 1e-4), "{found:?} or {expected:?}");
            }
        }
    }

    #[test]
    fn numbers_of_all_sizes_are_searched() {
        // Exact in f32: one factor of each vector is not zero, and a power of two.
        for power in [-70i32, -60, 0, 60, 63] {
            let size = 2f32.powi(power);
            let users = Array2::from_shape_fn((20, 5), |(row, column)| if row % 5 == column { size } else { 0.0 });
            let items = Array2::from_shape_fn((200, 5), |(row, column)| {
                if row % 5 == column { size * (1.0 + (row * 37 % 200) as f32 / 256.0) } else { 0.0 }
            });
            let arranged = Items::of(items.view());
            let query = Query { users: users.view(), items: &arranged, k: 7, seen: None, candidates: None };
            let expected = slow(&query, &items);
            for found in on_all(&query, &items, 0..20).iter().chain([&top_k(&query).unwrap()]) {
                assert_eq!(found, &expected, "2^{power}");
            }
        }
        // A user, or an item, that is no number, or whose scores are too large to be one.
        let mut users = Array2::from_elem((4, 3), 1.0);
        users.row_mut(0).fill(f32::NAN);
        users.row_mut(1).fill(0.0);
        users.row_mut(2).fill(1e38);
        let items = Array2::from_shape_fn((100, 3), |(row, column)| (row * 7 % 100 + column) as f32);
        let mut odd = items.clone();
        odd[[40, 1]] = f32::NAN;
        for items in [items, odd] {
            let arranged = Items::of(items.view());
            let query = Query { users: users.view(), items: &arranged, k: 5, seen: None, candidates: None };
            for found in on_all(&query, &items, 0..4).iter().chain([&top_k(&query).unwrap()]) {
                let ids = |user: usize| found[user].iter().map(|(id, _)| *id).collect::<Vec<_>>();
                assert_eq!(ids(0), [0, 1, 2, 3, 4]);
                assert!(found[0].iter().all(|(_, score)| score.is_nan()));
                assert_eq!(ids(1), [0, 1, 2, 3, 4]);
                assert!(found[2].iter().all(|(_, score)| *score == f32::INFINITY), "{:?}", found[2]);
                assert_eq!(ids(3), [57, 14, 71, 28, 85]);
            }
        }
    }

    #[test]
    fn many_factors_are_searched() {
        let cell = |row: usize, column: usize| ((row * 7919 + column * 104_729) as f32).sin();
        for factors in [1, 4, 17, 256] {
            let users = Array2::from_shape_fn((30, factors), |(row, column)| cell(row, column));
            let items = Array2::from_shape_fn((700, factors), |(row, column)| cell(row + 999, column + 7));
            let arranged = Items::of(items.view());
            let query = Query { users: users.view(), items: &arranged, k: 10, seen: None, candidates: None };
            let expected = slow(&query, &items);
            for found in on_all(&query, &items, 0..30).iter().chain([&top_k(&query).unwrap()]) {
                for (found, expected) in found.iter().zip(&expected) {
                    assert!(
                        found.iter().zip(expected).all(|(a, b)| (a.1 - b.1).abs() < 1e-4),
                        "{found:?} or {expected:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let (users, short) = (array![[1.0, 0.0]], array![[1.0], [2.0]]);
        let items = Items::of(short.view());
        let query = Query { users: users.view(), items: &items, k: 2, seen: None, candidates: None };
        assert!(top_k(&query).is_err());
        let query = Query { users: short.view(), ..query };
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
            let arranged = Items::of(items.view());
            let query = Query { users: users.view(), items: &arranged, k, seen: Some(&seen), candidates };
            let expected = slow(&query, &items);
            prop_assert_eq!(&top_k(&query).unwrap(), &expected);
            if candidates.is_none() {
                let users = 0..n_users.min(USERS);
                for found in on_all(&query, &items, users.clone()) {
                    prop_assert_eq!(&found, &expected[users.clone()]);
                }
            }
        }
    }
}
