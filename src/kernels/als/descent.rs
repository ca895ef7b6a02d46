//! The small least squares problems of rows, by conjugate gradients over what each gathers.
#![allow(clippy::needless_range_loop, clippy::manual_memcpy)] // Written out, loops over vectors stay free of calls.

use std::ops::Range;

use crate::kernels::als::gather::{BLOCK, Curvature, Entries, Fixed, Image, Pass, Pull, gather};
use crate::kernels::csr::Csr;
use crate::kernels::dense::Dense;
use crate::kernels::simd::{Kernel, Simd};

/// How far a descent goes.
#[derive(Clone, Copy)]
pub(super) struct Effort {
    /// Steps of conjugate gradients at most.
    pub steps: usize,
    /// Enough is when the row's share of the objective can fall by no more than this for each of its entries.
    pub tolerance: f32,
    /// Whether this is the last word: then all numbers are taken whole.
    pub settles: bool,
}

/// What a rating says.
#[derive(Clone, Copy)]
pub(super) enum Rule {
    /// `c (1 − s)² − s²` with `c = 1 + alpha · rating` for the score `s`: an `s²` for everything there could be an entry
    /// for is in `|z|²`. A rating of zero is no entry.
    Evidence { alpha: f32 },
    /// `(rating − s)²`, and `|x|²` counts `regularization` times for each rating.
    Opinion { regularization: f32 },
}

/// Rows that move, each from where `z` has it. The answer is their share of the objective where they end: `|z|²` and a
/// term for each entry.
pub(super) struct Descent<'a> {
    pub fixed: Fixed<'a>,
    pub rows: &'a Csr,
    pub range: Range<usize>,
    pub z: &'a mut [f32],
    pub rule: Rule,
    /// Rows `D` as wide as those of `z`: an entry sees `Dz` in place of `z`. Empty where it is the identity.
    pub scales: &'a [f32],
    /// The place of a number of each row that stays as it is.
    pub held: Option<usize>,
    pub effort: Effort,
}

impl Kernel for Descent<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f64 {
        let Self { fixed, rows, range, z, rule, scales, held, effort } = self;
        let width = fixed.width;
        let mut room = Dense::zeros(5, width);
        let mut scratch = Scratch::of(simd, room.values_mut(), width);
        let (mut extras, mut pulls) = (Vec::new(), Vec::new());
        let mut loss = 0.0;
        let mut start = 0;
        for row in range {
            let (columns, ratings) = rows.row(row);
            let z = &mut z[start..start + width];
            let scale = if scales.is_empty() { scales } else { &scales[start..start + width] };
            start += width;
            extras.resize(ratings.len().next_multiple_of(BLOCK), 0.0);
            pulls.resize(extras.len(), 0.0);
            let Some(Terms { constant, unit }) = rule.terms(ratings, &mut extras, &mut pulls) else {
                // Nothing is known of this row, and least squares then answers zero.
                for at in 0..width {
                    z[at] = if held == Some(at) { z[at] } else { 0.0 };
                }
                continue;
            };
            let ahead = &rows.columns[rows.offsets[row]..];
            let entries = Entries { columns, extras: &extras, pulls: &pulls, ahead };
            let problem = Problem { fixed, entries, scale: simd.vectors(scale), held };
            let fallen = descend(simd, problem, simd.vectors_mut(z), &mut scratch, effort);
            loss += f64::from(unit) * (constant + f64::from(fallen));
        }
        loss
    }
}

/// What is the same for all entries of a row.
struct Terms {
    /// The sum of what in their terms does not depend on the scores.
    constant: f64,
    /// What the row's share of the objective is divided by.
    unit: f32,
}

impl Rule {
    /// Writes what a row's entries say of their scores, and zeros behind; `None` if nothing is known of the row.
    #[inline(always)]
    fn terms(self, ratings: &[f32], extras: &mut [f32], pulls: &mut [f32]) -> Option<Terms> {
        let n = ratings.len();
        // In as many sums as one need not wait for another; f64, for a row may be long.
        let mut constants = [0.0; BLOCK];
        let unit = match self {
            Self::Evidence { .. } => 1.0,
            Self::Opinion { regularization } => regularization * n as f32,
        };
        let mut start = 0;
        while start < extras.len() {
            let mut block = [0.0; BLOCK];
            match ratings[start..].first_chunk() {
                Some(ratings) => block = *ratings,
                None => block[..n - start].copy_from_slice(&ratings[start..]),
            }
            let (extras, pulls) = (&mut extras[start..start + BLOCK], &mut pulls[start..start + BLOCK]);
            match self {
                Self::Evidence { alpha } => {
                    for b in 0..BLOCK {
                        extras[b] = alpha * block[b];
                        pulls[b] = if block[b] > 0.0 { 1.0 + extras[b] } else { 0.0 };
                        constants[b] += f64::from(pulls[b]);
                    }
                }
                Self::Opinion { .. } => {
                    for b in 0..BLOCK {
                        extras[b] = if start + b < n { 1.0 / unit } else { 0.0 };
                        pulls[b] = extras[b] * block[b];
                        constants[b] += f64::from(pulls[b]) * f64::from(block[b]);
                    }
                }
            }
            start += BLOCK;
        }
        let constant = constants.iter().sum();
        // Every rating above zero has added 1 or more to the evidence.
        let is_known = match self {
            Self::Evidence { .. } => constant > 0.0,
            Self::Opinion { .. } => n > 0,
        };
        is_known.then_some(Terms { constant, unit })
    }
}

/// The vectors of a descent, kept from row to row.
struct Scratch<'a, V> {
    residual: &'a mut [V],
    direction: &'a mut [V],
    /// The system's matrix times `direction`.
    image: &'a mut [V],
    /// What the entries see of a vector, and what they answer, where they see it scaled.
    seen: &'a mut [V],
    answer: &'a mut [V],
}

impl<'a, V> Scratch<'a, V> {
    /// Of room for five rows.
    #[inline(always)]
    fn of<S: Simd<Vector = V>>(simd: S, room: &'a mut [f32], width: usize) -> Self {
        let n = width / S::LANES;
        let (residual, rest) = simd.vectors_mut(room).split_at_mut(n);
        let (direction, rest) = rest.split_at_mut(n);
        let (image, rest) = rest.split_at_mut(n);
        let (seen, answer) = rest.split_at_mut(n);
        Self { residual, direction, image, seen, answer }
    }
}

/// The problem of one row: `(I + D Σ extra · wwᵀ D) z = D Σ pull · w` over its entries, where `D` is diagonal.
#[derive(Clone, Copy)]
struct Problem<'a, V> {
    fixed: Fixed<'a>,
    entries: Entries<'a>,
    /// `D`; empty where it is the identity.
    scale: &'a [V],
    /// The place of a number of `z` that stays as it is.
    held: Option<usize>,
}

/// Conjugate gradients (Hestenes, Stiefel 1952) for the problem of one row, from where `z` is.
///
/// The answer is the row's share of the objective where `z` ends, but for what does not depend on `z`: at the start it
/// is at hand, and each step tells by how much it falls.
#[inline(always)]
fn descend<S: Simd>(
    simd: S,
    problem: Problem<S::Vector>,
    z: &mut [S::Vector],
    scratch: &mut Scratch<S::Vector>,
    effort: Effort,
) -> f32 {
    let n = z.len();
    let Scratch { residual, direction, image, seen, answer } = scratch;
    let (residual, direction, image) = (&mut residual[..n], &mut direction[..n], &mut image[..n]);
    let (seen, answer) = (&mut seen[..n], &mut answer[..n]);
    // r = D Σ pull · w − z − D Σ extra · wwᵀ D z
    let (none, minus) = (simd.splat(0.0), simd.splat(-1.0));
    for i in 0..n {
        residual[i] = simd.mul_add(minus, z[i], none);
    }
    let mut loss = square(simd, z) + pass::<S, Pull>(simd, problem, z, residual, seen, answer);
    hold(simd, problem, residual);
    for i in 0..n {
        direction[i] = residual[i];
    }
    // |r|², and |p|² of the direction p, which needs no sum of its own: p is r and, at a right angle to it, the last p.
    let mut size = square(simd, residual);
    let mut reach = size;
    // |r|² is no less than what the objective can still fall by: the system's least eigenvalue is 1 or more.
    let enough = effort.tolerance * problem.entries.columns.len() as f32;
    let mut step = 1;
    while step <= effort.steps && size > enough {
        if step == effort.steps {
            // The last step asks how long it should be, and no more.
            let length = size / (reach + pass::<S, Curvature>(simd, problem, direction, image, seen, answer));
            add(simd, length, direction, z);
            loss -= length * size;
            break;
        }
        for i in 0..n {
            image[i] = direction[i];
        }
        let length = size / (reach + pass::<S, Image>(simd, problem, direction, image, seen, answer));
        hold(simd, problem, image);
        add(simd, length, direction, z);
        add(simd, -length, image, residual);
        loss -= length * size;
        let smaller = square(simd, residual);
        let turn = smaller / size;
        let turns = simd.splat(turn);
        for i in 0..n {
            direction[i] = simd.mul_add(turns, direction[i], residual[i]);
        }
        reach = smaller + turn * turn * reach;
        size = smaller;
        step += 1;
    }
    loss
}

/// A pass over the entries, which see `x` scaled.
#[inline(always)]
fn pass<S: Simd, P: Pass>(
    simd: S,
    problem: Problem<S::Vector>,
    x: &[S::Vector],
    spread: &mut [S::Vector],
    seen: &mut [S::Vector],
    answer: &mut [S::Vector],
) -> f32 {
    let (none, scale) = (simd.splat(0.0), problem.scale);
    for i in 0..scale.len() {
        seen[i] = simd.mul_add(scale[i], x[i], none);
        answer[i] = none;
    }
    let plain = scale.is_empty();
    let (x, sum) = if plain { (x, &mut *spread) } else { (&*seen, &mut *answer) };
    let term = gather::<S, P>(simd, problem.fixed, problem.entries, x, sum);
    if P::SPREADS && !plain {
        for i in 0..scale.len() {
            spread[i] = simd.mul_add(scale[i], answer[i], spread[i]);
        }
    }
    term
}

#[inline(always)]
fn hold<S: Simd>(simd: S, problem: Problem<S::Vector>, x: &mut [S::Vector]) {
    if let Some(held) = problem.held {
        simd.numbers_mut(x)[held] = 0.0;
    }
}

/// `y += a x`
#[inline(always)]
fn add<S: Simd>(simd: S, a: f32, x: &[S::Vector], y: &mut [S::Vector]) {
    let a = simd.splat(a);
    for i in 0..x.len().min(y.len()) {
        y[i] = simd.mul_add(a, x[i], y[i]);
    }
}

/// `|x|²`, in two sums: one would wait for itself.
#[inline(always)]
fn square<S: Simd>(simd: S, x: &[S::Vector]) -> f32 {
    let mut sums = [simd.splat(0.0); 2];
    for i in 0..x.len() {
        sums[i % 2] = simd.mul_add(x[i], x[i], sums[i % 2]);
    }
    simd.sum(simd.add(sums[0], sums[1]))
}
