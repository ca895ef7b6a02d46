//! One half of an iteration: all rows of one side move towards their solutions while the other side is held still.

use std::ops::Range;

use ndarray::{Array1, Array2};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::kernels::als::Ridge;
use crate::kernels::als::descent::{Descent, Effort, Rule};
use crate::kernels::als::gather::{Fixed, Rows};
use crate::kernels::cholesky::Cholesky;
use crate::kernels::csr::Csr;
use crate::kernels::dense::{Dense, PANEL, Right, Shape, gram};
use crate::kernels::eigen::Eigen;
use crate::kernels::simd::{self, Kernel, Simd};

/// How a sweep goes about it.
#[derive(Clone, Copy)]
pub(super) struct Task<'a> {
    pub ridge: Ridge,
    pub factors: usize,
    pub effort: Effort,
    /// Is asked after every chunk of rows.
    pub go_on: &'a (dyn Fn() -> bool + Sync),
}

/// Where the rows that moved then are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moved {
    /// Their share of the objective: all of it but the penalty of the other side.
    pub loss: f64,
    /// And of this their penalty, `Σ λ|x|²`.
    pub penalty: f64,
}

impl std::iter::Sum for Moved {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self { loss: 0.0, penalty: 0.0 }, |sum, part| Self {
            loss: sum.loss + part.loss,
            penalty: sum.penalty + part.penalty,
        })
    }
}

/// Moves every row of `x`, whose entries `rows` holds by row of `fixed`. `room` is for the other side as this one sees
/// it ([`room`]).
///
/// With `YᵀY + λI = L Lᵀ`, `w = L⁻¹y` and `x = L⁻ᵀz` a row's problem becomes `(I + Wᵀ(C − I)W) z = WᵀC p`: the large
/// matrix has gone, and a [`Descent`] touches only the row's own entries. Where each row has a λ of its own the root is
/// `L = Q√(Λ + λ)`, for then what is left of the large matrix is diagonal: `(Λ + λ_row)/(Λ + λ)`.
pub(super) fn sweep(x: &mut Dense, rows: &Csr, fixed: &Dense, room: &mut Dense, task: Task) -> Result<Moved> {
    let width = fixed.width();
    let whitening = Whitening::of(&gram_of(fixed, &task)?, &task.ridge)?;
    let halves = is_large(fixed.n_rows(), width) && !task.effort.settles;
    let held = &mut room.values_mut()[..room_of(fixed.n_rows(), width, halves)];
    let block = (WHITEN * width).max(1);
    held.par_chunks_mut(if halves { block / 2 } else { block }).zip(fixed.values().par_chunks(block)).try_for_each(
        |(w, y)| {
            whiten(&whitening.outward, y, w, halves);
            if (task.go_on)() { Ok(()) } else { Err(Error::cancelled()) }
        },
    )?;
    let fixed = Fixed { width, rows: if halves { Rows::Halves(held) } else { Rows::Whole(held) } };

    let moved: Vec<Moved> = chunks(x, rows)
        .into_par_iter()
        .with_max_len(1)
        .map(|(range, x)| {
            let moved = move_chunk(&whitening, fixed, rows, range, x, &task);
            if (task.go_on)() { Ok(moved) } else { Err(Error::cancelled()) }
        })
        .collect::<Result<_>>()?;
    Ok(moved.into_iter().sum())
}

/// Numbers that a sweep needs room for, of `n_rows` rows that are held still.
pub(super) fn room(n_rows: usize, width: usize, settles: bool) -> usize {
    room_of(n_rows, width, is_large(n_rows, width) && !settles)
}

fn room_of(n_rows: usize, width: usize, halves: bool) -> usize {
    if halves { n_rows * width / 2 } else { n_rows * width }
}

/// Whether a side is so large that fetching its rows takes longer than working on them.
fn is_large(n_rows: usize, width: usize) -> bool {
    n_rows * width > LARGE
}

/// Numbers of a side that is [`is_large`], at least: more than the caches near a core hold.
const LARGE: usize = 1 << 20;
/// Rows that are whitened at a time.
const WHITEN: usize = 120;
/// Rows of a chunk, and entries of a chunk of more than one row, at most.
const CHUNK_ROWS: usize = 96;
const CHUNK_ENTRIES: usize = 8192;

/// `YᵀY`
fn gram_of(fixed: &Dense, task: &Task) -> Result<Array2<f64>> {
    // So many rows at a time that a stop is not long in coming.
    const PRODUCTS: usize = 1 << 32;
    let width = fixed.width();
    let stretch = (PRODUCTS / (width * width).max(1)).max(1024) * width;
    let mut sum = Array2::zeros((task.factors, task.factors));
    for rows in fixed.values().chunks(stretch.max(1)) {
        sum += &gram(rows, width, task.factors);
        if !(task.go_on)() {
            return Err(Error::cancelled());
        }
    }
    Ok(sum)
}

/// The ways between a row and what it is where `YᵀY + λI` is the identity.
struct Whitening {
    /// From `y` to `w`.
    outward: Right,
    /// From `x` to `z`.
    into: Right,
    /// From `z` to `x`.
    back: Right,
    /// Where each row has a λ of its own.
    spectrum: Option<Spectrum>,
}

impl Whitening {
    fn of(gram: &Array2<f64>, ridge: &Ridge) -> Result<Self> {
        let lambda = f64::from(ridge.regularization);
        if !ridge.is_plain() {
            let Eigen { values, vectors } = Eigen::of(gram).ok_or_else(super::undetermined)?;
            let shifted = &values + lambda;
            let rounding = values.iter().fold(0.0, |most: f64, value| most.max(*value)) * f64::EPSILON;
            if shifted.iter().any(|value| value.is_nan() || *value <= rounding) {
                return Err(super::undetermined());
            }
            let roots = shifted.mapv(f64::sqrt);
            return Ok(Self {
                outward: Right::of((&vectors / &roots).view(), Shape::Full),
                into: Right::of((&vectors * &roots).view(), Shape::Full),
                back: Right::of((&vectors / &roots).t(), Shape::Full),
                spectrum: Some(Spectrum::of(&values, &shifted)),
            });
        }
        let mut matrix = gram.clone();
        matrix.diag_mut().mapv_inplace(|value| value + lambda);
        let root = Cholesky::of(&matrix).ok_or_else(super::undetermined)?;
        let inverse = root.inverse_lower();
        Ok(Self {
            outward: Right::of(inverse.t(), Shape::Upper),
            into: Right::of(root.lower().view(), Shape::Lower),
            back: Right::of(inverse.view(), Shape::Lower),
            spectrum: None,
        })
    }
}

/// `Λ` and `Λ + λ`, padded.
struct Spectrum {
    values: Vec<f32>,
    shifted: Vec<f32>,
}

impl Spectrum {
    fn of(values: &Array1<f64>, shifted: &Array1<f64>) -> Self {
        let padded = |numbers: &Array1<f64>, padding: f32| {
            let mut padded: Vec<f32> = numbers.iter().map(|number| *number as f32).collect();
            padded.resize(numbers.len().next_multiple_of(PANEL), padding);
            padded
        };
        Self { values: padded(values, 0.0), shifted: padded(shifted, 1.0) }
    }

    /// Writes `D = √((Λ + λ)/(Λ + λ_row))`, where the system of that row is the identity but for its entries.
    fn scale(&self, lambda: f32, scale: &mut [f32]) {
        for ((scale, value), shifted) in scale.iter_mut().zip(&self.values).zip(&self.shifted) {
            *scale = (shifted / (value + lambda)).sqrt();
        }
    }
}

/// Rows of `x` that are worked on together. They depend on the data alone: sums are formed by chunk, then in their order.
pub(super) fn chunks<'a>(x: &'a mut Dense, rows: &Csr) -> Vec<(Range<usize>, &'a mut [f32])> {
    let width = x.width();
    let mut chunks = Vec::new();
    let mut rest = x.values_mut();
    let mut start = 0;
    while start < rows.n_rows {
        let full = rows.offsets[start] + CHUNK_ENTRIES;
        let most = (start + CHUNK_ROWS).min(rows.n_rows);
        let end = (start + 1..most).find(|end| rows.offsets[end + 1] > full).unwrap_or(most);
        let (chunk, later) = rest.split_at_mut((end - start) * width);
        chunks.push((start..end, chunk));
        rest = later;
        start = end;
    }
    chunks
}

/// Writes the rows `y`, whitened, whole or in halves.
fn whiten(outward: &Right, y: &[f32], w: &mut [f32], halves: bool) {
    if !halves {
        w.copy_from_slice(y);
        outward.multiply(w);
        return;
    }
    let mut whole = Dense::zeros(1, y.len());
    whole.values_mut().copy_from_slice(y);
    outward.multiply(whole.values_mut());
    simd::run(Narrow { whole: whole.values(), halves: w });
}

struct Narrow<'a> {
    whole: &'a [f32],
    halves: &'a mut [f32],
}

impl Kernel for Narrow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let (whole, halves) = (simd.vectors(self.whole), simd.halves_mut(self.halves));
        for i in 0..whole.len().min(halves.len()) {
            halves[i] = simd.narrow(whole[i]);
        }
    }
}

fn move_chunk(
    whitening: &Whitening,
    fixed: Fixed,
    rows: &Csr,
    range: Range<usize>,
    x: &mut [f32],
    task: &Task,
) -> Moved {
    let width = fixed.width;
    let lambda = |row: usize| task.ridge.of_row(rows.n_cols, rows.row(row).1);
    whitening.into.multiply(x);
    let mut scales = Dense::zeros(if whitening.spectrum.is_some() { range.len() } else { 0 }, width);
    if let Some(spectrum) = &whitening.spectrum {
        for ((row, scale), x) in
            range.clone().zip(scales.values_mut().chunks_exact_mut(width)).zip(x.chunks_exact_mut(width))
        {
            spectrum.scale(lambda(row), scale);
            x.iter_mut().zip(scale).for_each(|(x, scale)| *x /= *scale);
        }
    }
    let loss = simd::run(Descent {
        fixed,
        rows,
        range: range.clone(),
        z: x,
        rule: Rule::Evidence { alpha: task.ridge.alpha },
        scales: scales.values(),
        held: None,
        effort: task.effort,
    });
    x.iter_mut().zip(scales.values()).for_each(|(x, scale)| *x *= scale);
    whitening.back.multiply(x);
    let size = |x: &[f32]| f64::from(x.iter().map(|value| value * value).sum::<f32>());
    let penalty = range.zip(x.chunks_exact(width)).map(|(row, x)| f64::from(lambda(row)) * size(x)).sum();
    Moved { loss, penalty }
}
