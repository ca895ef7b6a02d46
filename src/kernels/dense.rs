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
        for (mut row, padded) in matrix.outer_iter_mut().zip(self.values().chunks_exact(self.width.max(1))) {
            row.assign(&ndarray::aview1(&padded[..columns]));
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

/// A triangular matrix on the right side of many products: panels of [`PANEL`] columns, each row by row.
#[derive(Debug)]
pub struct Triangle {
    width: usize,
    panels: Dense,
    lower: bool,
}

impl Triangle {
    /// Of a matrix in which all above the diagonal is zero (`lower`), or all below it.
    pub fn of(matrix: ArrayView2<f64>, lower: bool) -> Triangle {
        let width = matrix.ncols().next_multiple_of(PANEL);
        let mut panels = Dense::zeros(width * width / PANEL, PANEL);
        let values = panels.values_mut();
        for ((row, column), value) in matrix.indexed_iter() {
            values[(column / PANEL * width + row) * PANEL + column % PANEL] = *value as f32;
        }
        Triangle { width, panels, lower }
    }

    /// `out = a · self`, where the rows of `a` and `out` are as wide as the triangle, padding included.
    #[inline(always)]
    pub fn multiply<S: Simd>(&self, simd: S, a: &[f32], out: &mut [f32]) {
        let width = self.width;
        for (panel, matrix) in self.panels.values().chunks_exact((width * PANEL).max(1)).enumerate() {
            // The rows of this panel that are not all zeros.
            let rows = if self.lower { panel * PANEL..width } else { 0..(panel + 1) * PANEL };
            let matrix = &matrix[rows.start * PANEL..rows.end * PANEL];
            let product = PanelProduct { panel, first: rows.start, matrix, width };
            if S::LANES == PANEL {
                let done = product.rows::<S, 12, 1>(simd, 0, a, out);
                let done = product.rows::<S, 4, 1>(simd, done, a, out);
                product.rows::<S, 1, 1>(simd, done, a, out);
            } else {
                let done = product.rows::<S, 6, 2>(simd, 0, a, out);
                let done = product.rows::<S, 3, 2>(simd, done, a, out);
                product.rows::<S, 1, 2>(simd, done, a, out);
            }
        }
    }
}

/// Rows `first..` of one panel of a matrix of `width` columns.
struct PanelProduct<'a> {
    panel: usize,
    first: usize,
    matrix: &'a [f32],
    width: usize,
}

impl PanelProduct<'_> {
    /// Writes the panel of the product for rows from `start` on, `R` at a time, as long as there are as many; tells
    /// where it stopped. `V` vectors make a panel, and their `R · V` sums stay in registers.
    #[inline(always)]
    fn rows<S: Simd, const R: usize, const V: usize>(
        &self,
        simd: S,
        start: usize,
        a: &[f32],
        out: &mut [f32],
    ) -> usize {
        let matrix = simd.vectors(self.matrix).as_chunks::<V>().0;
        let out = simd.vectors_mut(out);
        let (n_rows, depth) = (a.len() / self.width, matrix.len());
        let mut row = start;
        while row + R <= n_rows {
            let mut left: [&[f32]; R] = [&[]; R];
            for r in 0..R {
                left[r] = &a[(row + r) * self.width + self.first..][..depth];
            }
            let sums = tile(simd, left, matrix);
            for r in 0..R {
                let at = ((row + r) * self.width + self.panel * PANEL) / S::LANES;
                out[at..at + V].copy_from_slice(&sums[r]);
            }
            row += R;
        }
        row
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

/// `aᵀa` over the first `columns` of `a`.
///
/// Summed by stretches of rows that depend on nothing but the shape, so that the bits do not depend on the threads.
pub fn gram(a: &Dense, columns: usize) -> Array2<f64> {
    let width = a.width;
    // Each stretch has a matrix of its own: many of them for balance, but no more than a few megabytes in all.
    let stretches = (4_000_000 / (width * width).max(1)).clamp(4, 64);
    let stretch = a.n_rows.div_ceil(stretches).next_multiple_of(GRAM_ROWS);
    let parts: Vec<Vec<f64>> = a
        .values()
        .par_chunks((stretch * width).max(1))
        .map(|rows| {
            let mut sum = vec![0.0; width * width];
            for rows in rows.chunks(GRAM_ROWS * width) {
                let mut part = Dense::zeros(width, width);
                simd::run(Gram { rows, width, sum: part.values_mut() });
                sum.iter_mut().zip(part.values()).for_each(|(sum, part)| *sum += f64::from(*part));
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
        // As many rows at a time as stay in the first-level cache.
        let few = (4096 / self.width).max(8) * self.width;
        for rows in self.rows.chunks(few) {
            for panel in (0..self.width).step_by(PANEL) {
                if S::LANES == PANEL {
                    gram_panel::<S, 8, 1>(simd, rows, panel, self.width, self.sum);
                } else {
                    gram_panel::<S, 4, 2>(simd, rows, panel, self.width, self.sum);
                }
            }
        }
    }
}

/// The columns of one panel, down to the diagonal, `R` rows of the sum at a time.
#[inline(always)]
fn gram_panel<S: Simd, const R: usize, const V: usize>(
    simd: S,
    rows: &[f32],
    panel: usize,
    width: usize,
    sum: &mut [f32],
) {
    let sum = simd.vectors_mut(sum);
    let (per_row, at) = (width / S::LANES, panel / S::LANES);
    let right = simd.vectors(rows);
    for above in (0..panel + PANEL).step_by(R) {
        let mut sums = [[simd.splat(0.0); V]; R];
        for (left, right) in rows.chunks_exact(width).zip(right.chunks_exact(per_row)) {
            let (left, right) = (&left[above..above + R], &right[at..at + V]);
            for r in 0..R {
                let factor = simd.splat(left[r]);
                for v in 0..V {
                    sums[r][v] = simd.mul_add(factor, right[v], sums[r][v]);
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (v, part) in sums.iter().enumerate() {
                let place = &mut sum[(above + r) * per_row + at + v];
                *place = simd.add(*place, *part);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Multiply<'a> {
        triangle: &'a Triangle,
        a: &'a Dense,
        out: Dense,
    }

    impl Kernel for Multiply<'_> {
        type Output = Dense;

        #[inline(always)]
        fn run<S: Simd>(mut self, simd: S) -> Dense {
            self.triangle.multiply(simd, self.a.values(), self.out.values_mut());
            self.out
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
        fn products_are_those_of_ndarray(n_rows in 0usize..40, n in 1usize..70, lower: bool, salt in 0usize..1000) {
            let mut matrix = whole(n, n, salt).mapv(f64::from);
            matrix.indexed_iter_mut().for_each(|((i, j), value)| if (j > i) == lower && i != j { *value = 0.0 });
            let a = whole(n_rows, n, salt + 1);
            let (triangle, dense) = (Triangle::of(matrix.view(), lower), Dense::of(a.view()));
            let expected = a.dot(&matrix.mapv(|value| value as f32));
            for found in simd::run_on_all(|| Multiply { triangle: &triangle, a: &dense, out: Dense::zeros(n_rows, n) }) {
                prop_assert_eq!(&found.to_array(n), &expected);
            }
        }

        #[test]
        fn grams_are_those_of_ndarray(n_rows in 0usize..5000, n in 1usize..70, salt in 0usize..1000) {
            let a = whole(n_rows, n, salt);
            let exact = a.mapv(f64::from);
            prop_assert_eq!(gram(&Dense::of(a.view()), n), exact.t().dot(&exact));
        }
    }
}
