//! One half of an iteration: all rows of one side move towards their solutions while the other side is held still.

use std::ops::Range;

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::kernels::als::Options;
use crate::kernels::als::descent::{Effort, Entries, Fixed, Scratch, descend};
use crate::kernels::cholesky::Cholesky;
use crate::kernels::csr::Csr;
use crate::kernels::dense::{Dense, Triangle, gram};
use crate::kernels::simd::{self, Kernel, Simd};

/// Moves every row of `x`, whose entries `rows` holds by row of `fixed`; answers the objective where it then is.
///
/// With `YᵀY + λI = L Lᵀ`, `w = L⁻¹y` and `x = L⁻ᵀz` a row's problem becomes `(I + Wᵀ(C − I)W) z = WᵀC p`: the large
/// matrix has gone, and [`descend`] touches only the row's own entries. `whitened` has room for `W`, the rows of the
/// other side so transformed. `go_on` is asked after every chunk of rows.
pub(super) fn sweep(
    x: &mut Dense,
    rows: &Csr,
    fixed: &Dense,
    whitened: &mut Dense,
    options: &Options,
    effort: Effort,
    go_on: &(dyn Fn() -> bool + Sync),
) -> Result<f64> {
    let width = fixed.width();
    let mut gram = gram(fixed, options.factors);
    let size = gram.diag().sum();
    gram.diag_mut().mapv_inplace(|value| value + f64::from(options.regularization));
    let root = Cholesky::of(&gram).ok_or_else(super::undetermined)?;
    let inverse = root.inverse_lower();
    // X = Z L⁻¹ and Z = X L by rows: x = L⁻ᵀz. W = Y L⁻ᵀ.
    let into = Triangle::of(root.lower().view(), true);
    let back = Triangle::of(inverse.view(), true);
    let whitening = Triangle::of(inverse.t(), false);

    let whitened = &mut whitened.values_mut()[..fixed.n_rows() * width];
    let block = (WHITEN * width).max(1);
    whitened
        .par_chunks_mut(block)
        .zip(fixed.values().par_chunks(block))
        .for_each(|(w, y)| simd::run(Whiten { whitening: &whitening, y, w }));

    let fixed = Fixed { whitened, width, alpha: options.alpha };
    let mut chunks = Vec::new();
    let mut rest = x.values_mut();
    for range in chunk_ranges(rows) {
        let (chunk, later) = rest.split_at_mut(range.len() * width);
        chunks.push((range, chunk));
        rest = later;
    }
    let losses: Vec<f64> = chunks
        .into_par_iter()
        .with_max_len(1)
        .map(|(range, x)| {
            let loss = simd::run(Chunk { into: &into, back: &back, fixed, rows, range, x, effort });
            if go_on() { Ok(loss) } else { Err(Error::cancelled()) }
        })
        .collect::<Result<_>>()?;
    Ok(losses.iter().sum::<f64>() + f64::from(options.regularization) * size)
}

/// Rows that are whitened at a time.
const WHITEN: usize = 120;
/// Rows of a chunk, and entries of a chunk of more than one row, at most.
const CHUNK_ROWS: usize = 96;
const CHUNK_ENTRIES: usize = 8192;

/// Rows that are worked on together. They depend on the data alone: sums are formed by chunk, then in their order.
fn chunk_ranges(rows: &Csr) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut start = 0;
    while start < rows.n_rows {
        let full = rows.offsets[start] + CHUNK_ENTRIES;
        let most = (start + CHUNK_ROWS).min(rows.n_rows);
        let end = (start + 1..most).find(|end| rows.offsets[end + 1] > full).unwrap_or(most);
        ranges.push(start..end);
        start = end;
    }
    ranges
}

struct Whiten<'a> {
    whitening: &'a Triangle,
    y: &'a [f32],
    w: &'a mut [f32],
}

impl Kernel for Whiten<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        self.whitening.multiply(simd, self.y, self.w);
    }
}

struct Chunk<'a> {
    /// `L`
    into: &'a Triangle,
    /// `L⁻¹`
    back: &'a Triangle,
    fixed: Fixed<'a>,
    rows: &'a Csr,
    range: Range<usize>,
    x: &'a mut [f32],
    effort: Effort,
}

impl Kernel for Chunk<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f64 {
        let width = self.fixed.width;
        let mut z = Dense::zeros(self.range.len(), width);
        self.into.multiply(simd, self.x, z.values_mut());
        let mut spare = Dense::zeros(3, width);
        let (residual, spare) = spare.values_mut().split_at_mut(width);
        let (direction, image) = spare.split_at_mut(width);
        let mut scratch = Scratch {
            residual: simd.vectors_mut(residual),
            direction: simd.vectors_mut(direction),
            image: simd.vectors_mut(image),
        };
        let mut loss = 0.0;
        for (row, z) in self.range.zip(z.values_mut().chunks_exact_mut(width)) {
            let (columns, ratings) = self.rows.row(row);
            let entries = Entries { columns, ratings, ahead: &self.rows.columns[self.rows.offsets[row]..] };
            loss += descend(simd, self.fixed, entries, simd.vectors_mut(z), &mut scratch, self.effort);
        }
        self.back.multiply(simd, z.values(), self.x);
        loss
    }
}
