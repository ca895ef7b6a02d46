//! Passes over what one row did: the rows of the other side that it names are gathered, scored and added up.
#![allow(clippy::needless_range_loop)] // A tile of registers is written plainest by counting over all of its arrays.

use std::marker::PhantomData;

use rayon::prelude::*;

use crate::kernels::dense::Dense;
use crate::kernels::simd::{self, Kernel, Simd, Table};

/// The side that is held still: rows `w` of `width` numbers.
#[derive(Clone, Copy)]
pub(super) struct Fixed<'a> {
    pub width: usize,
    pub rows: Rows<'a>,
}

/// How the rows lie in memory, one after the other.
#[derive(Clone, Copy)]
pub(super) enum Rows<'a> {
    Whole(&'a [f32]),
    /// In sixteen bits a number ([`Simd::narrow`]): half of the memory to wait for.
    Halves(&'a [f32]),
}

/// What one row did: the row `w` of the other side that each entry names, and what it says of the score `s = w·x`.
///
/// The entry's term of the objective is `extra · s² − 2 pull · s`, and something that does not depend on `s`.
#[derive(Clone, Copy)]
pub(super) struct Entries<'a> {
    pub columns: &'a [u32],
    /// As many as columns, and zeros up to a multiple of [`BLOCK`].
    pub extras: &'a [f32],
    /// As `extras`.
    pub pulls: &'a [f32],
    /// The columns from here on, those of later rows too: what memory is asked for ahead of time.
    pub ahead: &'a [u32],
}

/// Entries that are taken together.
pub(super) const BLOCK: usize = 8;

/// What a pass over a row's entries does with each score.
pub(super) trait Pass {
    /// Whether this pass is the one that meets the row's entries first.
    const FIRST: bool = false;
    /// Whether `factor · w` is added up; the sums of `term` always are.
    const SPREADS: bool = true;
    /// `(factor, term)`
    fn of(extra: f32, pull: f32, score: f32) -> (f32, f32);
}

/// Half of what the objective's terms fall by along each number of `x`, and their sum.
pub(super) struct Pull;

impl Pass for Pull {
    const FIRST: bool = true;

    #[inline(always)]
    fn of(extra: f32, pull: f32, score: f32) -> (f32, f32) {
        let factor = pull - extra * score;
        (factor, -score * (factor + pull))
    }
}

/// `Σ extra · wwᵀ x`, and `xᵀ` times it.
pub(super) struct Image;

impl Pass for Image {
    #[inline(always)]
    fn of(extra: f32, _: f32, score: f32) -> (f32, f32) {
        (extra * score, extra * score * score)
    }
}

/// `Σ extra · (w·x)²` alone.
pub(super) struct Curvature;

impl Pass for Curvature {
    const SPREADS: bool = false;

    #[inline(always)]
    fn of(extra: f32, _: f32, score: f32) -> (f32, f32) {
        (0.0, extra * score * score)
    }
}

/// Entries of one row that a thread takes at a time. A longer row is shared by threads.
const SEGMENT: usize = 1 << 14;

/// Adds `Σ factor · w` to `spread`, and answers `Σ term`.
#[inline(always)]
pub(super) fn gather<S: Simd, P: Pass>(
    simd: S,
    fixed: Fixed,
    entries: Entries,
    x: &[S::Vector],
    spread: &mut [S::Vector],
) -> f32 {
    if entries.columns.len() > SEGMENT {
        return gather_by_segments::<P>(fixed, entries, simd.numbers(x), simd.numbers_mut(spread));
    }
    gather_segment::<S, P>(simd, fixed, entries, x, spread)
}

fn gather_by_segments<P: Pass>(fixed: Fixed, entries: Entries, x: &[f32], spread: &mut [f32]) -> f32 {
    let parts: Vec<(Dense, f32)> = (0..entries.columns.len().div_ceil(SEGMENT))
        .into_par_iter()
        .map(|segment| {
            let start = segment * SEGMENT;
            let columns = &entries.columns[start..entries.columns.len().min(start + SEGMENT)];
            let entries =
                Entries { columns, extras: &entries.extras[start..], pulls: &entries.pulls[start..], ahead: columns };
            let mut part = Dense::zeros(1, fixed.width);
            let (spread, pass) = (part.values_mut(), PhantomData::<P>);
            let term = simd::run(Segment { fixed, entries, x, spread, pass });
            (part, term)
        })
        .collect();
    for (part, _) in &parts {
        spread.iter_mut().zip(part.values()).for_each(|(sum, part)| *sum += part);
    }
    parts.iter().map(|(_, term)| term).sum()
}

struct Segment<'a, P> {
    fixed: Fixed<'a>,
    entries: Entries<'a>,
    x: &'a [f32],
    spread: &'a mut [f32],
    pass: PhantomData<P>,
}

impl<P: Pass> Kernel for Segment<'_, P> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f32 {
        let (x, spread) = (simd.vectors(self.x), simd.vectors_mut(self.spread));
        gather_segment::<S, P>(simd, self.fixed, self.entries, x, spread)
    }
}

#[inline(always)]
fn gather_segment<S: Simd, P: Pass>(
    simd: S,
    fixed: Fixed,
    entries: Entries,
    x: &[S::Vector],
    spread: &mut [S::Vector],
) -> f32 {
    match fixed.rows {
        Rows::Whole(rows) => gather_cells::<S, P, Whole>(simd, simd.vectors(rows), entries, x, spread),
        Rows::Halves(rows) => gather_cells::<S, P, Half>(simd, simd.halves(rows), entries, x, spread),
    }
}

/// What a row's vectors are stored as.
trait Cells<S: Simd> {
    type Cell: Copy;
    fn vector(simd: S, cell: Self::Cell) -> S::Vector;
}

struct Whole;

impl<S: Simd> Cells<S> for Whole {
    type Cell = S::Vector;

    #[inline(always)]
    fn vector(_: S, cell: S::Vector) -> S::Vector {
        cell
    }
}

struct Half;

impl<S: Simd> Cells<S> for Half {
    type Cell = S::Half;

    #[inline(always)]
    fn vector(simd: S, cell: S::Half) -> S::Vector {
        simd.widen(cell)
    }
}

#[inline(always)]
fn gather_cells<S: Simd, P: Pass, C: Cells<S>>(
    simd: S,
    rows: &[C::Cell],
    entries: Entries,
    x: &[S::Vector],
    spread: &mut [S::Vector],
) -> f32 {
    // The inner loops are unrolled, where there is something to unroll.
    if x.len().is_multiple_of(4) {
        gather_unrolled::<S, P, C, 4>(simd, rows, entries, x, spread)
    } else {
        gather_unrolled::<S, P, C, 1>(simd, rows, entries, x, spread)
    }
}

#[inline(always)]
fn gather_unrolled<S: Simd, P: Pass, C: Cells<S>, const U: usize>(
    simd: S,
    rows: &[C::Cell],
    entries: Entries,
    x: &[S::Vector],
    spread: &mut [S::Vector],
) -> f32 {
    let parts = x.len() / U;
    let mut gatherer = Gatherer::<S, C, U> {
        simd,
        rows: Table::of(rows.as_chunks().0, parts),
        x: &x.as_chunks().0[..parts],
        spread: &mut spread.as_chunks_mut().0[..parts],
        sums: [0.0; BLOCK],
    };
    let n = entries.columns.len();
    let mut done = 0;
    while done < n {
        let count = (n - done).min(BLOCK);
        if P::FIRST {
            // Later passes find the rows in the cache.
            gatherer.prefetch(entries.ahead, done + AHEAD, count);
        }
        let (extras, pulls) = (&entries.extras[done..], &entries.pulls[done..]);
        // A block is filled up with the row's last entry, which then counts for nothing.
        let columns: [u32; BLOCK] = match entries.columns[done..].first_chunk() {
            Some(columns) => *columns,
            None => std::array::from_fn(|b| entries.columns[(done + b).min(n - 1)]),
        };
        if count > 4 {
            gatherer.block::<P, BLOCK>(&columns, extras, pulls);
        } else {
            gatherer.block::<P, 4>(&columns, extras, pulls);
        }
        done += count;
    }
    let [a, b, c, d, e, f, g, h] = gatherer.sums;
    ((a + b) + (c + d)) + ((e + f) + (g + h))
}

/// How many entries ahead memory is asked for a row.
const AHEAD: usize = 16;

struct Gatherer<'a, S: Simd, C: Cells<S>, const U: usize> {
    simd: S,
    /// Parts of `U` vectors, as many to a row as `x` has.
    rows: Table<'a, [C::Cell; U]>,
    x: &'a [[S::Vector; U]],
    spread: &'a mut [[S::Vector; U]],
    sums: [f32; BLOCK],
}

impl<S: Simd, C: Cells<S>, const U: usize> Gatherer<'_, S, C, U> {
    #[inline(always)]
    fn prefetch(&self, columns: &[u32], from: usize, count: usize) {
        let mut at = from;
        while at < (from + count).min(columns.len()) {
            let row = self.rows.row(columns[at]);
            for j in 0..row.len() {
                self.simd.prefetch(&row[j]);
            }
            at += 1;
        }
    }

    /// `B` entries together: each part of `x` and of the spread is loaded once for all of them.
    #[inline(always)]
    fn block<P: Pass, const B: usize>(&mut self, columns: &[u32; BLOCK], extras: &[f32], pulls: &[f32]) {
        let (simd, n) = (self.simd, self.rows.width());
        let (extras, pulls) = (&extras[..B], &pulls[..B]);
        let (all_x, all_spread) = (&self.x[..n], &mut self.spread[..n]);
        let mut rows: [&[[C::Cell; U]]; B] = [&[]; B];
        for b in 0..B {
            rows[b] = self.rows.row(columns[b]);
        }
        let mut scores = [simd.splat(0.0); B];
        for j in 0..n {
            let x = all_x[j];
            for u in 0..U {
                for b in 0..B {
                    scores[b] = simd.mul_add(C::vector(simd, rows[b][j][u]), x[u], scores[b]);
                }
            }
        }
        let scores = simd.sums(scores);
        let mut factors = [0.0; B];
        for b in 0..B {
            let (factor, term) = P::of(extras[b], pulls[b], scores[b]);
            factors[b] = factor;
            self.sums[b] += term;
        }
        if P::SPREADS {
            let mut vectors = [simd.splat(0.0); B];
            for b in 0..B {
                vectors[b] = simd.splat(factors[b]);
            }
            for j in 0..n {
                let spread = &mut all_spread[j];
                for u in 0..U {
                    // Two sums: one would wait for itself.
                    let mut sums = [spread[u], simd.splat(0.0)];
                    for b in 0..B {
                        sums[b % 2] = simd.mul_add(vectors[b], C::vector(simd, rows[b][j][u]), sums[b % 2]);
                    }
                    spread[u] = simd.add(sums[0], sums[1]);
                }
            }
        }
    }
}
