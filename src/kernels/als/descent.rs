//! One row's small least squares problem, by conjugate gradients over the rows it gathers.
#![allow(clippy::needless_range_loop)] // A tile of registers is written plainest by counting over all of its arrays.

use std::marker::PhantomData;

use rayon::prelude::*;

use crate::kernels::dense::Dense;
use crate::kernels::simd::{self, Kernel, Simd};

/// The other side, whitened, and what turns a rating into a confidence.
#[derive(Clone, Copy)]
pub(super) struct Fixed<'a> {
    pub whitened: &'a [f32],
    pub width: usize,
    pub alpha: f32,
}

/// What one row did: rows of the other side, and ratings.
#[derive(Clone, Copy)]
pub(super) struct Entries<'a> {
    pub columns: &'a [u32],
    pub ratings: &'a [f32],
    /// The columns from here on, those of later rows too: what memory is asked for ahead of time.
    pub ahead: &'a [u32],
}

/// How far a descent goes.
#[derive(Clone, Copy)]
pub(super) struct Effort {
    /// Steps of conjugate gradients at most.
    pub steps: usize,
    /// Enough is when the row's share of the objective can fall by no more than this for each of its entries.
    pub tolerance: f32,
}

/// The vectors of a descent, kept from row to row.
pub(super) struct Scratch<'a, V> {
    pub residual: &'a mut [V],
    pub direction: &'a mut [V],
    /// The system's matrix times `direction`.
    pub image: &'a mut [V],
}

/// Conjugate gradients (Hestenes, Stiefel 1952) for `(I + Wᵀ(C − I)W) z = WᵀC p`, from where `z` is.
///
/// The answer is the row's share of the objective where `z` ends, `Σ c (1 − w·z)² − (w·z)² + |z|²`: at the start it is
/// at hand, and each step tells by how much it falls.
#[inline(always)]
pub(super) fn descend<S: Simd>(
    simd: S,
    fixed: Fixed,
    entries: Entries,
    z: &mut [S::Vector],
    scratch: &mut Scratch<S::Vector>,
    effort: Effort,
) -> f64 {
    if entries.ratings.iter().all(|rating| *rating <= 0.0) {
        // Nothing is known of this row, and least squares then answers zero.
        z.fill(simd.splat(0.0));
        return 0.0;
    }
    let Scratch { residual, direction, image } = scratch;
    // r = WᵀC p − z − Wᵀ(C − I)W z
    let minus = simd.splat(-1.0);
    let none = simd.splat(0.0);
    for (residual, z) in residual.iter_mut().zip(z.iter()) {
        *residual = simd.mul_add(minus, *z, none);
    }
    let mut loss = square(simd, z) + gather::<S, Residual>(simd, fixed, entries, z, residual);
    direction.copy_from_slice(residual);
    // |r|², and |p|² of the direction p, which needs no sum of its own: p is r and, at a right angle to it, the last p.
    let mut size = square(simd, residual);
    let mut reach = size;
    // |r|² is no less than what the objective can still fall by: the system's least eigenvalue is 1 or more.
    let enough = effort.tolerance * entries.ratings.len() as f32;
    for step in 1..=effort.steps {
        if size <= enough {
            break;
        }
        if step == effort.steps {
            // The last step asks how long it should be, and no more.
            let length = size / (reach + gather::<S, Curvature>(simd, fixed, entries, direction, image));
            add(simd, length, direction, z);
            loss -= length * size;
            break;
        }
        image.copy_from_slice(direction);
        let length = size / (reach + gather::<S, Image>(simd, fixed, entries, direction, image));
        add(simd, length, direction, z);
        add(simd, -length, image, residual);
        loss -= length * size;
        let smaller = square(simd, residual);
        let turn = smaller / size;
        for (direction, residual) in direction.iter_mut().zip(residual.iter()) {
            *direction = simd.mul_add(simd.splat(turn), *direction, *residual);
        }
        reach = smaller + turn * turn * reach;
        size = smaller;
    }
    f64::from(loss)
}

/// What a pass over a row's entries does with each score `w·x`.
trait Pass {
    /// Whether this pass is the one that meets the row's entries first.
    const FIRST: bool = false;
    /// Whether `weight · w` is added up; the sums of `term` always are.
    const SPREADS: bool = true;
    /// `(weight, term)` for a rating, what it adds to the confidence (`c − 1`), and the score.
    fn of(rating: f32, extra: f32, score: f32) -> (f32, f32);
}

/// `WᵀC p − Wᵀ(C − I)W x`, and the entries' share of the objective.
struct Residual;

impl Pass for Residual {
    const FIRST: bool = true;

    #[inline(always)]
    fn of(rating: f32, extra: f32, score: f32) -> (f32, f32) {
        let confidence = if rating > 0.0 { 1.0 + extra } else { 0.0 };
        let gap = 1.0 - score;
        let square = if rating > 0.0 { score * score } else { 0.0 };
        (confidence - extra * score, confidence * gap * gap - square)
    }
}

/// `Wᵀ(C − I)W x`, and `xᵀ` times it.
struct Image;

impl Pass for Image {
    #[inline(always)]
    fn of(_: f32, extra: f32, score: f32) -> (f32, f32) {
        (extra * score, extra * score * score)
    }
}

/// `xᵀWᵀ(C − I)W x` alone.
struct Curvature;

impl Pass for Curvature {
    const SPREADS: bool = false;

    #[inline(always)]
    fn of(_: f32, extra: f32, score: f32) -> (f32, f32) {
        (0.0, extra * score * score)
    }
}

/// Entries of one row that a thread takes at a time. A longer row is shared by threads.
const SEGMENT: usize = 1 << 14;

/// Adds `Σ weight · w` to `spread`, and answers `Σ term`.
#[inline(always)]
fn gather<S: Simd, P: Pass>(simd: S, fixed: Fixed, entries: Entries, x: &[S::Vector], spread: &mut [S::Vector]) -> f32 {
    if entries.columns.len() > SEGMENT {
        return gather_by_segments::<P>(fixed, entries, simd.numbers(x), simd.numbers_mut(spread));
    }
    // The inner loops are unrolled: over the vectors of 64 factors, of 32, or not at all.
    match x.len() {
        n if n.is_multiple_of(8) => gather_unrolled::<S, P, 8>(simd, fixed, entries, x, spread),
        n if n.is_multiple_of(4) => gather_unrolled::<S, P, 4>(simd, fixed, entries, x, spread),
        _ => gather_unrolled::<S, P, 1>(simd, fixed, entries, x, spread),
    }
}

fn gather_by_segments<P: Pass>(fixed: Fixed, entries: Entries, x: &[f32], spread: &mut [f32]) -> f32 {
    let segments = entries.columns.par_chunks(SEGMENT).zip(entries.ratings.par_chunks(SEGMENT));
    let parts: Vec<(Dense, f32)> = segments
        .map(|(columns, ratings)| {
            let entries = Entries { columns, ratings, ahead: columns };
            let mut part = Dense::zeros(1, fixed.width);
            let term = simd::run(Segment::<P> { fixed, entries, x, spread: part.values_mut(), pass: PhantomData });
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
        gather::<S, P>(simd, self.fixed, self.entries, simd.vectors(self.x), simd.vectors_mut(self.spread))
    }
}

/// Entries are taken eight at a time. The rest is filled up with entries that count for nothing.
#[inline(always)]
fn gather_unrolled<S: Simd, P: Pass, const U: usize>(
    simd: S,
    fixed: Fixed,
    entries: Entries,
    x: &[S::Vector],
    spread: &mut [S::Vector],
) -> f32 {
    let mut gatherer = Gatherer::<S, U> {
        simd,
        whitened: simd.vectors(fixed.whitened).as_chunks().0,
        alpha: fixed.alpha,
        x: x.as_chunks().0,
        spread: spread.as_chunks_mut().0,
        sums: [0.0; 8],
    };
    let (eights, last_columns) = entries.columns.as_chunks::<8>();
    let (ratings, last_ratings) = entries.ratings.as_chunks::<8>();
    // Later passes find the rows in the cache.
    let ahead = if P::FIRST { entries.ahead.get(AHEAD..).unwrap_or_default() } else { &[] };
    let mut ahead = ahead.chunks(8);
    for (columns, ratings) in eights.iter().zip(ratings) {
        gatherer.prefetch(ahead.next().unwrap_or_default());
        gatherer.block::<P, 8>(columns, ratings);
    }
    gatherer.prefetch(ahead.next().unwrap_or_default());
    match last_columns.len() {
        0 => {}
        1..=4 => gatherer.block::<P, 4>(&filled(last_columns), &filled(last_ratings)),
        _ => gatherer.block::<P, 8>(&filled(last_columns), &filled(last_ratings)),
    }
    gatherer.sums.iter().sum()
}

/// How many entries ahead memory is asked for a row.
const AHEAD: usize = 16;

#[inline(always)]
fn filled<T: Copy + Default, const B: usize>(few: &[T]) -> [T; B] {
    let mut all = [T::default(); B];
    all[..few.len()].copy_from_slice(few);
    all
}

struct Gatherer<'a, S: Simd, const U: usize> {
    simd: S,
    /// Parts of `U` vectors, as many to a row as `x` has.
    whitened: &'a [[S::Vector; U]],
    alpha: f32,
    x: &'a [[S::Vector; U]],
    spread: &'a mut [[S::Vector; U]],
    sums: [f32; 8],
}

impl<S: Simd, const U: usize> Gatherer<'_, S, U> {
    #[inline(always)]
    fn prefetch(&self, columns: &[u32]) {
        let n = self.x.len();
        for column in columns {
            for part in &self.whitened[*column as usize * n..][..n] {
                self.simd.prefetch(part);
            }
        }
    }

    /// `B` entries together: each part of `x` and of the spread is loaded once for all of them.
    #[inline(always)]
    fn block<P: Pass, const B: usize>(&mut self, columns: &[u32; B], ratings: &[f32; B]) {
        let (simd, n) = (self.simd, self.x.len());
        let mut rows: [&[[S::Vector; U]]; B] = [&[]; B];
        for b in 0..B {
            rows[b] = &self.whitened[columns[b] as usize * n..][..n];
        }
        let mut scores = [simd.splat(0.0); B];
        for j in 0..n {
            for u in 0..U {
                for b in 0..B {
                    scores[b] = simd.mul_add(rows[b][j][u], self.x[j][u], scores[b]);
                }
            }
        }
        let scores = simd.sums(scores);
        let mut weights = [0.0; B];
        for b in 0..B {
            let (weight, term) = P::of(ratings[b], self.alpha * ratings[b], scores[b]);
            weights[b] = weight;
            self.sums[b] += term;
        }
        if P::SPREADS {
            let mut factors = [simd.splat(0.0); B];
            for b in 0..B {
                factors[b] = simd.splat(weights[b]);
            }
            for (j, spread) in self.spread[..n].iter_mut().enumerate() {
                for u in 0..U {
                    let mut sum = spread[u];
                    for b in 0..B {
                        sum = simd.mul_add(factors[b], rows[b][j][u], sum);
                    }
                    spread[u] = sum;
                }
            }
        }
    }
}

/// `y += a x`
#[inline(always)]
fn add<S: Simd>(simd: S, a: f32, x: &[S::Vector], y: &mut [S::Vector]) {
    let a = simd.splat(a);
    for (y, x) in y.iter_mut().zip(x) {
        *y = simd.mul_add(a, *x, *y);
    }
}

/// `|x|²`, in two sums: one would wait for itself.
#[inline(always)]
fn square<S: Simd>(simd: S, x: &[S::Vector]) -> f32 {
    let (pairs, odd) = x.as_chunks::<2>();
    let mut sums = [simd.splat(0.0); 2];
    for [a, b] in pairs {
        sums = [simd.mul_add(*a, *a, sums[0]), simd.mul_add(*b, *b, sums[1])];
    }
    for last in odd {
        sums[0] = simd.mul_add(*last, *last, sums[0]);
    }
    simd.sum(simd.add(sums[0], sums[1]))
}
