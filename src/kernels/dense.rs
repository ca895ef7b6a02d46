//! Dense matrices laid out for vectors, and the products that training makes of them.
#![allow(clippy::needless_range_loop)] // A tile of registers is written plainest by counting over all of its arrays.

use ndarray::{Array2, ArrayView2};
use rayon::prelude::*;

use crate::kernels::simd::{self, Kernel, LINE, Simd};

/// Columns are padded with zeros to a multiple of this many: one line of memory, one or two vectors.
pub const PANEL: usize = LINE / 4;

/// A matrix of `n_rows` rows, each of [`Dense::width`] numbers that begin on a line of their own.
#[derive(Debug)]
pub struct Dense {
    n_rows: usize,
    width: usize,
    buffer: Vec<f32>,
    /// Where the first row begins in `buffer`, which begins where the allocator liked it to.
    start: usize,
}

impl Dense {
    pub fn zeros(n_rows: usize, columns: usize) -> Dense {
        let width = columns.next_multiple_of(PANEL);
        let buffer = vec![0.0; n_rows * width + PANEL];
        simd::spread_out(&buffer);
        let start = buffer.as_ptr().align_offset(LINE).min(PANEL);
        Dense { n_rows, width, buffer, start }
    }

    pub fn of(matrix: ArrayView2<f32>) -> Dense {
        let mut dense = Dense::zeros(matrix.nrows(), matrix.ncols());
        let width = dense.width.max(1);
        for (padded, row) in dense.values_mut().chunks_exact_mut(width).zip(matrix.outer_iter()) {
            padded.iter_mut().zip(row).for_each(|(to, from)| *to = *from);
        }
        dense
    }

    /// One row.
    pub fn row_of(values: &[f32]) -> Dense {
        let mut dense = Dense::zeros(1, values.len());
        dense.values_mut()[..values.len()].copy_from_slice(values);
        dense
    }

    /// The first `columns` of every row.
    pub fn to_array(&self, columns: usize) -> Array2<f32> {
        let mut matrix = Array2::zeros((self.n_rows, columns));
        if let Some(values) = matrix.as_slice_mut() {
            let rows =
                values.par_chunks_exact_mut(columns.max(1)).zip(self.values().par_chunks_exact(self.width.max(1)));
            rows.with_min_len(1 << 10).for_each(|(row, padded)| row.copy_from_slice(&padded[..columns]));
        }
        matrix
    }

    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Numbers from one row to the next: the columns and their padding.
    pub fn width(&self) -> usize {
        self.width
    }

    /// All rows, one after the other.
    pub fn values(&self) -> &[f32] {
        &self.buffer[self.start..][..self.n_rows * self.width]
    }

    pub fn values_mut(&mut self) -> &mut [f32] {
        &mut self.buffer[self.start..][..self.n_rows * self.width]
    }
}

/// A square matrix on the right side of many products: panels of [`PANEL`] columns, each row by row.
#[derive(Debug)]
pub struct Right {
    width: usize,
    panels: Dense,
    shape: Shape,
}

/// Where a matrix may hold other numbers than zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// On the diagonal and below.
    Lower,
    /// On the diagonal and above.
    Upper,
    Full,
}

impl Right {
    /// Of a square matrix that has `shape`.
    pub fn of(matrix: ArrayView2<f64>, shape: Shape) -> Right {
        let width = matrix.ncols().next_multiple_of(PANEL);
        let mut panels = Dense::zeros(width * width / PANEL, PANEL);
        let values = panels.values_mut();
        for ((row, column), value) in matrix.indexed_iter() {
            values[(column / PANEL * width + row) * PANEL + column % PANEL] = *value as f32;
        }
        Right { width, panels, shape }
    }

    /// Puts `rows · self` in the place of `rows`, which begin on a line and are as wide as the matrix, padding included.
    pub fn multiply(&self, rows: &mut [f32]) {
        simd::run(Multiply { right: self, rows });
    }

    #[inline(always)]
    fn multiply_by<S: Simd>(&self, simd: S, rows: &mut [f32]) {
        if S::LANES == PANEL {
            let done = self.tiles::<S, 12, 2, 1>(simd, 0, rows);
            let done = self.tiles::<S, 4, 2, 1>(simd, done, rows);
            self.tiles::<S, 1, 2, 1>(simd, done, rows);
        } else {
            let done = self.tiles::<S, 6, 1, 2>(simd, 0, rows);
            let done = self.tiles::<S, 3, 1, 2>(simd, done, rows);
            self.tiles::<S, 1, 1, 2>(simd, done, rows);
        }
    }

    /// From row `start` on, `R` rows at a time, as long as there are as many; tells where it stopped. `P` panels are
    /// multiplied together, each of `V` vectors a row, and their `R · P · V` sums stay in registers.
    #[inline(always)]
    fn tiles<S: Simd, const R: usize, const P: usize, const V: usize>(
        &self,
        simd: S,
        start: usize,
        rows: &mut [f32],
    ) -> usize {
        let width = self.width;
        let n_panels = width / PANEL;
        let mut before = Dense::zeros(if self.shape == Shape::Full { R } else { 0 }, width);
        let mut start = start;
        while width > 0 && (start + R) * width <= rows.len() {
            let rows = &mut rows[start * width..(start + R) * width];
            if self.shape == Shape::Full {
                before.values_mut().copy_from_slice(rows);
            }
            // In an order in which a panel is written when no other needs what stood there: from the left where the
            // matrix is a lower triangle, from the right where it is an upper one.
            let mut done = 0;
            while done < n_panels {
                let count = if done + P <= n_panels { P } else { 1 };
                let panel = if self.shape == Shape::Upper { n_panels - done - count } else { done };
                if count == P {
                    self.tile::<S, R, P, V>(simd, panel, before.values(), rows);
                } else {
                    self.tile::<S, R, 1, V>(simd, panel, before.values(), rows);
                }
                done += count;
            }
            start += R;
        }
        start
    }

    /// Multiplies `R` rows by `P` panels: the rows of `before`, where there are any, else those that are overwritten.
    #[inline(always)]
    fn tile<S: Simd, const R: usize, const P: usize, const V: usize>(
        &self,
        simd: S,
        panel: usize,
        before: &[f32],
        rows: &mut [f32],
    ) {
        let width = self.width;
        // The rows of these panels that are not all zeros.
        let (first, end) = match self.shape {
            Shape::Lower => (panel * PANEL, width),
            Shape::Upper => (0, (panel + P) * PANEL),
            Shape::Full => (0, width),
        };
        let depth = end - first;
        let mut panels: [&[[S::Vector; V]]; P] = [&[]; P];
        for p in 0..P {
            let matrix = &self.panels.values()[((panel + p) * width + first) * PANEL..][..depth * PANEL];
            panels[p] = &simd.vectors(matrix).as_chunks::<V>().0[..depth];
        }
        let left = if before.is_empty() { &*rows } else { before };
        let mut lefts: [&[f32]; R] = [&[]; R];
        for r in 0..R {
            lefts[r] = &left[r * width + first..][..depth];
        }
        let mut sums = [[[simd.splat(0.0); V]; P]; R];
        for k in 0..depth {
            for r in 0..R {
                let factor = simd.splat(lefts[r][k]);
                for p in 0..P {
                    for v in 0..V {
                        sums[r][p][v] = simd.mul_add(factor, panels[p][k][v], sums[r][p][v]);
                    }
                }
            }
        }
        for r in 0..R {
            let out = simd.vectors_mut(&mut rows[r * width + panel * PANEL..][..P * PANEL]);
            for p in 0..P {
                for v in 0..V {
                    out[p * V + v] = sums[r][p][v];
                }
            }
        }
    }
}

struct Multiply<'a> {
    right: &'a Right,
    rows: &'a mut [f32],
}

impl Kernel for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        self.right.multiply_by(simd, self.rows);
    }
}

/// `R` rows times one panel, which holds a row of [`PANEL`] numbers for each number of theirs: `V` vectors each.
///
/// The sums stay in registers from the first to the last number, and are formed in that order.
#[inline(always)]
pub fn tile<S: Simd, const R: usize, const V: usize>(
    simd: S,
    left: [&[f32]; R],
    panel: &[[S::Vector; V]],
) -> [[S::Vector; V]; R] {
    let mut left = left;
    for r in 0..R {
        left[r] = &left[r][..panel.len()];
    }
    let mut sums = [[simd.splat(0.0); V]; R];
    for k in 0..panel.len() {
        for r in 0..R {
            let factor = simd.splat(left[r][k]);
            for v in 0..V {
                sums[r][v] = simd.mul_add(factor, panel[k][v], sums[r][v]);
            }
        }
    }
    sums
}

/// Rows whose products are added in f32 before they go into an f64 sum.
const GRAM_ROWS: usize = 1024;

/// `aᵀa` over the first `columns` of `a`, which has rows of `width` numbers that begin on a line of their own.
///
/// Summed by stretches of rows that depend on nothing but the shape, so that the bits do not depend on the threads.
pub fn gram(a: &[f32], width: usize, columns: usize) -> Array2<f64> {
    let n_rows = a.len() / width.max(1);
    // Each stretch has a matrix of its own: many of them for balance, but no more than a few megabytes in all.
    let stretches = (4_000_000 / (width * width).max(1)).clamp(4, 64);
    let stretch = n_rows.div_ceil(stretches).next_multiple_of(GRAM_ROWS).max(GRAM_ROWS);
    let parts: Vec<Vec<f64>> = a
        .par_chunks((stretch * width).max(1))
        .map(|rows| {
            let mut sum = vec![0.0; width * width];
            let mut part = Dense::zeros(width, width);
            for rows in rows.chunks(GRAM_ROWS * width) {
                simd::run(Gram { rows, width, sum: part.values_mut() });
                for (sum, part) in sum.iter_mut().zip(part.values_mut()) {
                    *sum += f64::from(*part);
                    *part = 0.0;
                }
            }
            sum
        })
        .collect();
    let mut gram = Array2::<f64>::zeros((width, width));
    for part in parts {
        gram.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
    }
    // Only panels that touch the upper triangle were computed.
    Array2::from_shape_fn((columns, columns), |(i, j)| gram[[i.min(j), i.max(j)]])
}

/// Adds `rowsᵀrows` to `sum`, at least where the column is not left of the row.
struct Gram<'a> {
    rows: &'a [f32],
    width: usize,
    sum: &'a mut [f32],
}

impl Kernel for Gram<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let n_panels = self.width / PANEL;
        // As many rows at a time as stay in the first-level cache, and enough to be worth a visit to the sums.
        let few = (8192 / self.width.max(1)).max(48) * self.width;
        for rows in self.rows.chunks(few) {
            let mut panel = 0;
            if S::LANES == PANEL {
                while panel + 2 <= n_panels {
                    gram_panels::<S, 8, 2>(simd, rows, panel, self.width, self.sum);
                    panel += 2;
                }
                while panel < n_panels {
                    gram_panels::<S, 8, 1>(simd, rows, panel, self.width, self.sum);
                    panel += 1;
                }
            } else {
                while panel < n_panels {
                    gram_panels::<S, 4, 2>(simd, rows, panel, self.width, self.sum);
                    panel += 1;
                }
            }
        }
    }
}

/// The columns of a panel or two, `V` vectors in all, down to the diagonal: `R` rows of the sum at a time.
#[inline(always)]
fn gram_panels<S: Simd, const R: usize, const V: usize>(
    simd: S,
    rows: &[f32],
    panel: usize,
    width: usize,
    sum: &mut [f32],
) {
    let (at, columns) = (panel * PANEL, V * S::LANES);
    let vectors = simd.vectors(rows);
    let sum = simd.vectors_mut(sum);
    for above in (0..at + columns).step_by(R) {
        let mut sums = [[simd.splat(0.0); V]; R];
        let mut start = 0;
        while start + width <= rows.len() {
            let left = &rows[start + above..][..R];
            let right = &vectors[(start + at) / S::LANES..][..V];
            for r in 0..R {
                let factor = simd.splat(left[r]);
                for v in 0..V {
                    sums[r][v] = simd.mul_add(factor, right[v], sums[r][v]);
                }
            }
            start += width;
        }
        for r in 0..R {
            let places = &mut sum[((above + r) * width + at) / S::LANES..][..V];
            for v in 0..V {
                places[v] = simd.add(places[v], sums[r][v]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Product<'a> {
        right: &'a Right,
        rows: Dense,
    }

    impl Kernel for Product<'_> {
        type Output = Dense;

        #[inline(always)]
        fn run<S: Simd>(mut self, simd: S) -> Dense {
            self.right.multiply_by(simd, self.rows.values_mut());
            self.rows
        }
    }

    /// Small whole numbers: every sum is exact.
    fn whole(rows: usize, columns: usize, salt: usize) -> Array2<f32> {
        Array2::from_shape_fn((rows, columns), |(i, j)| ((i * 31 + j * 17 + salt) * 2_654_435_761 % 13) as f32 - 6.0)
    }

    #[test]
    fn rows_begin_on_lines() {
        for (rows, columns) in [(0, 3), (3, 0), (1, 1), (5, 16), (7, 17), (400, 100)] {
            let matrix = whole(rows, columns, 1);
            let dense = Dense::of(matrix.view());
            assert_eq!(dense.values().as_ptr().align_offset(LINE), 0);
            assert_eq!((dense.n_rows(), dense.width()), (rows, columns.next_multiple_of(PANEL)));
            assert_eq!(dense.to_array(columns), matrix);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn products_are_those_of_ndarray(n_rows in 0usize..40, n in 1usize..70, shape in 0usize..3, salt in 0usize..1000) {
            let shape = [Shape::Lower, Shape::Upper, Shape::Full][shape];
            let mut matrix = whole(n, n, salt).mapv(f64::from);
            matrix.indexed_iter_mut().for_each(|((i, j), value)| {
                if shape == Shape::Lower && j > i || shape == Shape::Upper && i > j {
                    *value = 0.0;
                }
            });
            let a = whole(n_rows, n, salt + 1);
            let right = Right::of(matrix.view(), shape);
            let expected = a.dot(&matrix.mapv(|value| value as f32));
            for found in simd::run_on_all(|| Product { right: &right, rows: Dense::of(a.view()) }) {
                prop_assert_eq!(&found.to_array(n), &expected);
            }
        }

        #[test]
        fn grams_are_those_of_ndarray(n_rows in 0usize..5000, n in 1usize..70, salt in 0usize..1000) {
            let a = whole(n_rows, n, salt);
            let exact = a.mapv(f64::from);
            let dense = Dense::of(a.view());
            prop_assert_eq!(gram(dense.values(), dense.width(), n), exact.t().dot(&exact));
        }
    }
}
