//! The few best of many: exact top-k by inner product, and the selection that others share.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::ops::Range;

use ndarray::{ArrayView2, s};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::kernels::dense::{Dense, PANEL, tile};
use crate::kernels::simd::{self, Kernel, Simd};

/// Items laid out to be searched: the long vectors first, sixteen to a panel, each panel factor by factor.
#[derive(Debug)]
pub struct Items {
    factors: usize,
    /// The id of each place: its row in the matrix they came from.
    ids: Vec<u32>,
    /// The place of each id.
    places: Vec<u32>,
    /// For each panel no less than the length of any vector from there on, and of rounding's share in a score.
    lengths: Vec<f32>,
    /// `factors` rows of [`PANEL`] numbers for each panel.
    panels: Dense,
}

impl Items {
    /// Of `n_items × factors`; an item's id is its row.
    pub fn of(items: ArrayView2<f32>) -> Items {
        let ids = (0..items.nrows() as u32).collect();
        Items::arranged(items.ncols(), ids, |id| items.row(id as usize).to_vec())
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
        let panels = self.panels.values();
        Items::arranged(self.factors, ids, |id| {
            let place = self.places[id as usize] as usize;
            let start = place / PANEL * self.factors * PANEL + place % PANEL;
            (0..self.factors).map(|factor| panels[start + factor * PANEL]).collect()
        })
    }

    fn arranged(factors: usize, ids: Vec<u32>, vector: impl Fn(u32) -> Vec<f32> + Sync) -> Items {
        let length = |id: &u32| vector(*id).iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        let mut by_length: Vec<(f64, u32)> = ids.par_iter().map(|id| (length(id), *id)).collect();
        by_length.par_sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        // A sum of n products is off by at most about n roundings of |x||y|.
        let slack = 1.0 + (factors + 8) as f64 * f64::from(f32::EPSILON);
        let lengths = by_length.iter().step_by(PANEL).map(|(length, _)| (length * slack) as f32).collect();
        let ids: Vec<u32> = by_length.into_iter().map(|(_, id)| id).collect();
        let mut places = vec![u32::MAX; ids.iter().max().map_or(0, |last| *last as usize + 1)];
        ids.iter().enumerate().for_each(|(place, id)| places[*id as usize] = place as u32);
        let mut panels = Dense::zeros(ids.len().div_ceil(PANEL) * factors, PANEL);
        let panel = (factors * PANEL).max(1);
        panels.values_mut().par_chunks_mut(panel).zip(ids.par_chunks(PANEL)).for_each(|(panel, ids)| {
            for (lane, id) in ids.iter().enumerate() {
                for (row, value) in panel.chunks_exact_mut(PANEL).zip(vector(*id)) {
                    row[lane] = value;
                }
            }
        });
        Items { factors, ids, places, lengths, panels }
    }
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
const USERS: usize = 48;

/// For each user up to `k` pairs of item and score, best first, ties by lower id; fewer when fewer are left.
///
/// Exact. A block of users looks at the items from the longest vector on, and stops where none that comes can reach
/// the worst of the `k` best so far: a score is at most the product of the lengths (Cauchy and Schwarz). The whole
/// score matrix never exists. Scores that are not a number rank last. Fails when the shapes do not fit together or a
/// candidate is no item.
pub fn top_k(query: &Query) -> Result<Vec<Vec<(u32, f32)>>> {
    check(query)?;
    let chosen = query.candidates.map(|candidates| {
        let mut ids = candidates.to_vec();
        ids.sort_unstable();
        ids.dedup();
        query.items.only(ids)
    });
    let items = chosen.as_ref().unwrap_or(query.items);

    let n_users = query.users.nrows();
    let blocks: Vec<Vec<Vec<(u32, f32)>>> = (0..n_users.div_ceil(USERS))
        .into_par_iter()
        .map(|block| simd::run(Block { query, items, users: block * USERS..((block + 1) * USERS).min(n_users) }))
        .collect();
    Ok(blocks.into_iter().flatten().collect())
}

/// The `k` best of `scores`, best first, ties by lower id. Scores that are not a number rank last.
pub fn best(scores: impl Iterator<Item = (u32, f32)>, k: usize) -> Vec<(u32, f32)> {
    let mut best = Best::new(k);
    scores.for_each(|(id, score)| best.offer(id, score));
    best.into_sorted()
}

/// The users of one block.
struct Block<'q, 'a> {
    query: &'q Query<'a>,
    /// Those of the query, or its candidates.
    items: &'q Items,
    users: Range<usize>,
}

impl Kernel for Block<'_, '_> {
    type Output = Vec<Vec<(u32, f32)>>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Self::Output {
        if S::LANES == PANEL { self.search::<S, 12, 1>(simd) } else { self.search::<S, 6, 2>(simd) }
    }
}

impl Block<'_, '_> {
    /// `R` users at a time, `V` vectors to a panel.
    #[inline(always)]
    fn search<S: Simd, const R: usize, const V: usize>(self, simd: S) -> Vec<Vec<(u32, f32)>> {
        let vectors = self.query.users.slice(s![self.users.clone(), ..]);
        let vectors: Vec<f32> = vectors.iter().copied().collect();
        let mut searches: Vec<Search> = self
            .users
            .enumerate()
            .map(|(row, user)| {
                let vector = &vectors[row * self.items.factors..][..self.items.factors];
                let length = vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
                let seen = self.query.seen.map_or(&[][..], |seen| seen[user]);
                Search { vector, length: length as f32, list: Shortlist::new(seen, self.query.k) }
            })
            .collect();
        let panels = simd.vectors(self.items.panels.values()).as_chunks::<V>().0;
        for (panel, longest) in self.items.lengths.iter().enumerate() {
            let mut open = false;
            let ids = &self.items.ids[panel * PANEL..self.items.ids.len().min((panel + 1) * PANEL)];
            let panel = &panels[panel * self.items.factors..][..self.items.factors];
            let mut groups = searches.chunks_exact_mut(R);
            for group in &mut groups {
                if group.iter().any(|search| search.is_open(*longest)) {
                    look::<S, R, V>(simd, group, panel, ids);
                    open = true;
                }
            }
            for search in groups.into_remainder().chunks_exact_mut(1).filter(|search| search[0].is_open(*longest)) {
                look::<S, 1, V>(simd, search, panel, ids);
                open = true;
            }
            if !open {
                break;
            }
        }
        searches.into_iter().map(|search| search.list.into_sorted()).collect()
    }
}

/// Scores one panel for `R` users, and keeps what is good enough.
#[inline(always)]
fn look<S: Simd, const R: usize, const V: usize>(simd: S, group: &mut [Search], panel: &[[S::Vector; V]], ids: &[u32]) {
    let mut users: [&[f32]; R] = [&[]; R];
    for (user, search) in users.iter_mut().zip(group.iter()) {
        *user = search.vector;
    }
    let scores = tile(simd, users, panel);
    for (search, scores) in group.iter_mut().zip(scores) {
        good_ones(simd, &scores, search.list.floor(), |lane, score| {
            if let Some(id) = ids.get(lane) {
                search.list.offer(*id, score);
            }
        });
    }
}

/// Gives to `take` the place of each score that is not below `floor`, and the score.
///
/// Nearly every score is too low: one look tells for as many as a vector holds.
#[inline(always)]
pub(super) fn good_ones<S: Simd, const V: usize>(
    simd: S,
    scores: &[S::Vector; V],
    floor: f32,
    mut take: impl FnMut(usize, f32),
) {
    let floor = simd.splat(floor);
    for (v, vector) in scores.iter().enumerate() {
        let mut good = simd.not_below(*vector, floor);
        if good != 0 {
            let mut room = [*vector];
            let scores = simd.numbers_mut(&mut room);
            while good != 0 {
                let lane = good.trailing_zeros() as usize;
                good &= good - 1;
                take(v * S::LANES + lane, scores[lane]);
            }
        }
    }
}

/// One user's search: what has been found so far, and what may still be.
struct Search<'a> {
    vector: &'a [f32],
    length: f32,
    list: Shortlist<'a>,
}

impl Search<'_> {
    /// Whether a vector of this length may still score enough. (What does not compare may.)
    fn is_open(&self, length: f32) -> bool {
        self.list.k > 0 && (self.length * length).partial_cmp(&self.list.floor) != Some(Ordering::Less)
    }
}

/// The best that one user has been offered so far, and some that were good enough at the time.
pub(super) struct Shortlist<'a> {
    /// Ids to leave out, ascending.
    seen: &'a [u32],
    k: usize,
    /// The worst score of `k` that were found; a lower one need not be offered.
    floor: f32,
    found: Vec<Ranked>,
}

impl<'a> Shortlist<'a> {
    pub(super) fn new(seen: &'a [u32], k: usize) -> Self {
        Self { seen, k, floor: f32::NEG_INFINITY, found: Vec::new() }
    }

    /// A score below this need not be offered.
    pub(super) fn floor(&self) -> f32 {
        self.floor
    }

    pub(super) fn offer(&mut self, id: u32, score: f32) {
        if self.k == 0 || self.seen.binary_search(&id).is_ok() {
            return;
        }
        self.found.push(Ranked { id, score });
        // The first floor is wanted soon, the next ones when it pays to look for them.
        let enough = if self.floor == f32::NEG_INFINITY { self.k } else { self.k.saturating_add(self.k.max(32)) };
        if self.found.len() >= enough {
            self.raise_floor();
        }
    }

    fn raise_floor(&mut self) {
        let (_, worst, _) = self.found.select_nth_unstable(self.k - 1);
        if !worst.score.is_nan() {
            self.floor = worst.score;
        }
        self.found.truncate(self.k);
    }

    pub(super) fn into_sorted(mut self) -> Vec<(u32, f32)> {
        self.found.sort_unstable();
        self.found.truncate(self.k);
        self.found.into_iter().map(|ranked| (ranked.id, ranked.score)).collect()
    }
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
        for (found, expected) in top_k(&query).unwrap().iter().zip(slow(&query, &items)) {
            assert_eq!(found.len(), 10);
            assert!(found.iter().zip(&expected).all(|(a, b)| (a.1 - b.1).abs() < 1e-4), "{found:?} or {expected:?}");
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
                let first = || Block { query: &query, items: &arranged, users: users.clone() };
                for found in simd::run_on_all(first) {
                    prop_assert_eq!(&found, &expected[users.clone()]);
                }
            }
        }
    }
}
