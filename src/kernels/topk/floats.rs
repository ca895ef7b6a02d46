//! The search over items as they are, sixteen to a panel, each panel factor by factor.

use std::cmp::Ordering;
use std::ops::Range;

use ndarray::s;
use rayon::prelude::*;

use super::{Query, Shortlist, length, rounding};
use crate::kernels::dense::{Dense, PANEL, tile};
use crate::kernels::simd::{Kernel, Simd};

/// Vectors by their places.
#[derive(Debug)]
pub(super) struct Floats {
    factors: usize,
    /// For each panel no less than the length of any vector from there on, and of rounding's share in a score.
    lengths: Vec<f32>,
    /// `factors` rows of [`PANEL`] numbers for each panel.
    panels: Dense,
}

impl Floats {
    /// Of vectors by falling length.
    pub fn of(factors: usize, lengths: &[f64], vector: impl Fn(usize) -> Vec<f32> + Sync) -> Floats {
        let slack = 1.0 + rounding(factors);
        let mut panels = Dense::zeros(lengths.len().div_ceil(PANEL) * factors, PANEL);
        let panel = (factors * PANEL).max(1);
        panels.values_mut().par_chunks_mut(panel).enumerate().for_each(|(at, panel)| {
            for lane in 0..PANEL.min(lengths.len() - at * PANEL) {
                for (row, value) in panel.chunks_exact_mut(PANEL).zip(vector(at * PANEL + lane)) {
                    row[lane] = value;
                }
            }
        });
        let lengths = lengths.iter().step_by(PANEL).map(|length| (length * slack) as f32).collect();
        Floats { factors, lengths, panels }
    }

    pub fn vector(&self, place: usize) -> Vec<f32> {
        let start = place / PANEL * self.factors * PANEL + place % PANEL;
        (0..self.factors).map(|factor| self.panels.values()[start + factor * PANEL]).collect()
    }

    /// To be run for some of the query's users.
    pub fn search<'q, 'a>(&'q self, query: &'q Query<'a>, ids: &'q [u32], users: Range<usize>) -> Block<'q, 'a> {
        Block { query, items: self, ids, users }
    }
}

/// The users of one block.
pub(super) struct Block<'q, 'a> {
    query: &'q Query<'a>,
    /// Those of the query, or its candidates.
    items: &'q Floats,
    ids: &'q [u32],
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
                let seen = self.query.seen.map_or(&[][..], |seen| seen[user]);
                Search { vector, length: length(vector) as f32, list: Shortlist::new(seen, self.query.k) }
            })
            .collect();
        let panels = simd.vectors(self.items.panels.values()).as_chunks::<V>().0;
        for (panel, longest) in self.items.lengths.iter().enumerate() {
            let mut open = false;
            let ids = &self.ids[panel * PANEL..self.ids.len().min((panel + 1) * PANEL)];
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
pub(in crate::kernels) fn good_ones<S: Simd, const V: usize>(
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
        (self.length * length).partial_cmp(&self.list.floor()) != Some(Ordering::Less)
    }
}
