//! The search over items rounded to eight bits, which tells of nearly all of them that they are not good enough. The
//! scores of the few others are those of the vectors as they are.
//!
//! With x = s·q + e for a user and y = t·r + d for an item, where q and r are whole numbers, the product x·y is
//! s·t·(q·r) + s·q·d + e·y, and the last two are at most s|q||d| + |e||y|. So no item is lost whose score is not below the
//! worst of the best that were found.
#![allow(clippy::needless_range_loop)] // A tile of registers is written plainest by counting over all of its arrays.

use std::cmp::Ordering;
use std::ops::Range;

use ndarray::s;
use rayon::prelude::*;

use super::{Query, Shortlist, length, rounding};
use crate::kernels::dense::Dense;
use crate::kernels::simd::{self, BytesKernel, Line, Simd};

/// Vectors by their places.
#[derive(Debug)]
pub(super) struct Bytes {
    /// As they are, each from a line of its own on.
    rows: Dense,
    panels: Vec<Panel>,
    /// For each panel, and in it for each four factors: [`PANEL`] times four bytes, which are 128 more than the numbers they
    /// stand for.
    lines: Vec<Line>,
}

/// Items that are looked at together.
const PANEL: usize = 32;

/// Lines that hold four factors of a panel.
const LINES: usize = PANEL * 4 / simd::LINE;

#[derive(Debug, Clone, Copy)]
struct Panel {
    /// Bytes to one: 1/t above.
    per_unit: f64,
    /// No vector from here on is longer.
    length: f64,
    /// No vector of the panel has lost more by rounding: |d| above.
    lost: f64,
}

impl Bytes {
    /// Whether sums of products fit their 32 bits, and all lengths are numbers.
    pub fn can_hold(factors: usize, lengths: &[f64]) -> bool {
        factors <= 1 << 14 && lengths.iter().all(|length| length.is_finite())
    }

    /// Of vectors by falling length.
    pub fn of(factors: usize, lengths: &[f64], vector: impl Fn(usize) -> Vec<f32> + Sync) -> Bytes {
        let mut rows = Dense::zeros(lengths.len(), factors);
        let width = rows.width().max(1);
        let n_lines = factors.div_ceil(4) * LINES;
        let mut lines = vec![Line([128; simd::LINE]); lengths.len().div_ceil(PANEL) * n_lines];
        let all_rows = rows.values_mut().par_chunks_mut(PANEL * width).zip(lines.par_chunks_mut(n_lines.max(1)));
        let panels = all_rows
            .zip(lengths.par_chunks(PANEL))
            .enumerate()
            .map(|(panel, ((rows, lines), lengths))| {
                let rows = &mut rows[..lengths.len() * width];
                for (lane, row) in rows.chunks_exact_mut(width).enumerate() {
                    row[..factors].copy_from_slice(&vector(panel * PANEL + lane));
                }
                let scale = scale(rows);
                let mut lost = 0.0f64;
                for (lane, row) in rows.chunks_exact(width).enumerate() {
                    let rounded = Rounded::of(row, scale);
                    for (factor, number) in rounded.numbers.iter().enumerate().take(factors) {
                        let byte = (factor / 4 * PANEL + lane) * 4 + factor % 4;
                        lines[byte / simd::LINE].0[byte % simd::LINE] = number.cast_unsigned() ^ 0x80;
                    }
                    lost = lost.max(rounded.lost);
                }
                Panel { per_unit: 1.0 / scale, length: lengths[0], lost }
            })
            .collect();
        Bytes { rows, panels, lines }
    }

    pub fn vector(&self, place: usize, factors: usize) -> Vec<f32> {
        self.rows.values()[place * self.rows.width()..][..factors].to_vec()
    }

    /// To be run for some of the query's users.
    pub fn search<'q, 'a>(&'q self, query: &'q Query<'a>, ids: &'q [u32], users: Range<usize>) -> Block<'q, 'a> {
        Block { query, items: self, ids, users }
    }
}

/// What a whole number must count so that the largest of `values` is 127.
#[inline(always)]
fn scale(values: &[f32]) -> f64 {
    let mut most = [0.0f32; 16];
    for values in values.as_chunks::<16>().0 {
        for lane in 0..16 {
            most[lane] = most[lane].max(values[lane].abs());
        }
    }
    f64::from(most.iter().fold(0.0f32, |most, value| most.max(*value))) / 127.0
}

/// A vector in whole numbers.
struct Rounded {
    numbers: Vec<i8>,
    sum: i32,
    /// The length of what the numbers stand for.
    length: f64,
    /// The length of the difference.
    lost: f64,
}

impl Rounded {
    /// Of a vector with its padding.
    #[inline(always)]
    fn of(values: &[f32], scale: f64) -> Rounded {
        // Added to a small number, this leaves the nearest whole one in the last bits.
        const TO_WHOLE: f32 = 1.5 * (1 << 23) as f32;
        let per_unit = if scale > 0.0 { (1.0 / scale) as f32 } else { 0.0 };
        let mut numbers = vec![0; values.len()];
        let (mut sum, mut length, mut lost) = ([0; 16], [0.0; 16], [0.0; 16]);
        for (values, numbers) in values.as_chunks::<16>().0.iter().zip(numbers.as_chunks_mut::<16>().0) {
            for lane in 0..16 {
                let number = (values[lane] * per_unit + TO_WHOLE).to_bits() as i8;
                let close = f64::from(number) * scale;
                sum[lane] += i32::from(number);
                let gap = f64::from(values[lane]) - close;
                length[lane] += close * close;
                lost[lane] += gap * gap;
                numbers[lane] = number;
            }
        }
        let sum = sum.iter().sum();
        Rounded { numbers, sum, length: length.iter().sum::<f64>().sqrt(), lost: lost.iter().sum::<f64>().sqrt() }
    }
}

/// The users of one block.
pub(super) struct Block<'q, 'a> {
    query: &'q Query<'a>,
    items: &'q Bytes,
    ids: &'q [u32],
    users: Range<usize>,
}

impl BytesKernel for Block<'_, '_> {
    type Output = Vec<Vec<(u32, f32)>>;

    #[inline(always)]
    fn run<S: Simd, B: simd::Bytes>(self, simd: S, bytes: B) -> Self::Output {
        if B::LANES == 16 {
            self.search::<S, B, 12, 6, 2>(simd, bytes)
        } else {
            self.search::<S, B, 3, 2, 4>(simd, bytes)
        }
    }
}

impl Block<'_, '_> {
    /// `R` users at a time, then `Q`, then one; `V` vectors to a panel.
    #[inline(always)]
    fn search<S: Simd, B: simd::Bytes, const R: usize, const Q: usize, const V: usize>(
        self,
        simd: S,
        bytes: B,
    ) -> Vec<Vec<(u32, f32)>> {
        let vectors = Dense::of(self.query.users.slice(s![self.users.clone(), ..]));
        let width = vectors.width();
        let factors = self.query.users.ncols();
        let longest = self.items.panels.first().map_or(0.0, |panel| panel.length);
        let mut searches: Vec<Search> = self
            .users
            .clone()
            .enumerate()
            .map(|(row, user)| {
                let list = Shortlist::new(self.query.seen.map_or(&[][..], |seen| seen[user]), self.query.k);
                Search::of(row, &vectors.values()[row * width..][..width], factors, longest, list)
            })
            .collect();
        let n_lines = factors.div_ceil(4) * LINES;
        // The first of them are still searching.
        let mut n_open = searches.len();
        for (at, panel) in self.items.panels.iter().enumerate() {
            let mut next = 0;
            while next < n_open {
                if searches[next].is_open(panel.length) {
                    next += 1;
                } else {
                    n_open -= 1;
                    searches.swap(next, n_open);
                }
            }
            if n_open == 0 {
                break;
            }
            let looked = Looked {
                panel,
                lines: self.items.lines[at * n_lines..][..n_lines].as_chunks::<LINES>().0,
                ids: &self.ids[at * PANEL..self.ids.len().min((at + 1) * PANEL)],
                rows: &self.items.rows.values()[at * PANEL * width..],
            };
            let mut groups = searches[..n_open].chunks_exact_mut(R);
            for group in &mut groups {
                looked.at_by::<S, B, R, V>(simd, bytes, group);
            }
            let mut groups = groups.into_remainder().chunks_exact_mut(Q);
            for group in &mut groups {
                looked.at_by::<S, B, Q, V>(simd, bytes, group);
            }
            for search in groups.into_remainder().chunks_exact_mut(1) {
                looked.at_by::<S, B, 1, V>(simd, bytes, search);
            }
        }
        let mut found = vec![Vec::new(); searches.len()];
        searches.into_iter().for_each(|search| found[search.row] = search.list.into_sorted());
        found
    }
}

/// One user's search.
struct Search<'a> {
    /// Which of the block it is.
    row: usize,
    vector: &'a [f32],
    /// The whole numbers of four factors each, the first of them lowest.
    fours: Vec<i32>,
    /// 128 times the sum of the whole numbers.
    offset: i32,
    /// Whole numbers to one: 1/s above.
    per_unit: f64,
    /// The length of the vector, with what rounding may add to a score.
    reach: f64,
    /// s|q| above.
    kept: f64,
    /// |e| above, and what else rounding may add to a score.
    lost: f64,
    list: Shortlist<'a>,
}

/// Less is lost to numbers that are too small to be told exactly.
const TINY: f64 = f32::MIN_POSITIVE as f64;

impl<'a> Search<'a> {
    /// Of a vector with its padding; `longest` is the length of the longest item.
    #[inline(always)]
    fn of(row: usize, vector: &'a [f32], factors: usize, longest: f64, list: Shortlist<'a>) -> Search<'a> {
        let length = length(vector);
        // Where a score may be too large for a number, or is none, every item is looked at as it is.
        let plain = length * longest < f64::from(f32::MAX) / 4.0;
        let scale = if plain { scale(vector) } else { 0.0 };
        let rounded = Rounded::of(vector, scale);
        let fours = rounded.numbers.as_chunks::<4>().0[..factors.div_ceil(4)].iter();
        Search {
            row,
            vector,
            fours: fours.map(|four| i32::from_le_bytes(four.map(i8::cast_unsigned))).collect(),
            offset: 128 * rounded.sum,
            per_unit: 1.0 / scale,
            reach: if plain { length * (1.0 + rounding(factors)) } else { f64::INFINITY },
            kept: rounded.length,
            lost: if plain { rounded.lost + rounding(factors) * length } else { f64::INFINITY },
            list,
        }
    }

    /// Whether a vector of this length may still score enough. (What does not compare may.)
    #[inline(always)]
    fn is_open(&self, length: f64) -> bool {
        (self.reach * length + TINY).partial_cmp(&f64::from(self.list.floor())) != Some(Ordering::Less)
    }

    /// The least sum of products of bytes with which an item of the panel may score enough.
    #[inline(always)]
    fn floor(&self, panel: &Panel) -> i32 {
        let most_lost = self.kept * panel.lost + self.lost * panel.length + TINY;
        let least = (f64::from(self.list.floor()) - most_lost) * (self.per_unit * panel.per_unit);
        // What does not compare may be good enough.
        if least > f64::from(i32::MIN) { (least as i32).saturating_add(self.offset - 1) } else { i32::MIN }
    }
}

/// A panel, its items' ids, and their vectors as they are.
struct Looked<'a> {
    panel: &'a Panel,
    lines: &'a [[Line; LINES]],
    ids: &'a [u32],
    rows: &'a [f32],
}

impl Looked<'_> {
    /// Keeps what is good enough for `R` users.
    #[inline(always)]
    fn at_by<S: Simd, B: simd::Bytes, const R: usize, const V: usize>(&self, simd: S, bytes: B, group: &mut [Search]) {
        let mut users: [&[i32]; R] = [&[]; R];
        let mut floors = [0; R];
        for r in 0..R {
            users[r] = &group[r].fours;
            floors[r] = group[r].floor(self.panel);
        }
        let sums = bytes.tile::<R, V, LINES>(users, self.lines);
        let mut good = [0; R];
        for r in 0..R {
            for v in 0..V {
                good[r] |= bytes.not_below(sums[r][v], floors[r]) << (v * B::LANES);
            }
        }
        for r in 0..R {
            let mut good = good[r];
            while good != 0 {
                let lane = good.trailing_zeros() as usize;
                good &= good - 1;
                self.offer(simd, &mut group[r], lane);
            }
        }
    }

    #[inline(always)]
    fn offer<S: Simd>(&self, simd: S, search: &mut Search, lane: usize) {
        let Some(id) = self.ids.get(lane).filter(|id| search.list.admits(**id)) else { return };
        let width = search.vector.len();
        let score = product(simd, search.vector, &self.rows[lane * width..][..width]);
        if score.partial_cmp(&search.list.floor()) != Some(Ordering::Less) {
            search.list.take(*id, score);
        }
    }
}

/// Of two vectors with their padding. (Written out, for an iterator would be a call of a function.)
#[inline(always)]
fn product<S: Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    let (a, b) = (simd.vectors(a), simd.vectors(b));
    let n = a.len().min(b.len());
    let mut sums = [simd.splat(0.0); 4];
    let mut at = 0;
    while at + 4 <= n {
        for v in 0..4 {
            sums[v] = simd.mul_add(a[at + v], b[at + v], sums[v]);
        }
        at += 4;
    }
    while at < n {
        sums[0] = simd.mul_add(a[at], b[at], sums[0]);
        at += 1;
    }
    simd.sum(simd.add(simd.add(sums[0], sums[1]), simd.add(sums[2], sums[3])))
}
