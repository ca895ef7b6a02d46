//! Products of tiles, which is where the time goes.
#![allow(clippy::needless_range_loop)] // A tile of registers is written plainest by counting over all of its arrays.

use std::ops::Range;

use crate::kernels::simd::{Kernel, Simd};
use crate::kernels::symmetric::{PANEL, PANEL_AREA, Tiles};

/// `out = aᵀ b`, or what is there and `add` times that.
pub(super) struct Product<'a> {
    pub(super) a: &'a [f64],
    pub(super) b: &'a [f64],
    pub(super) out: &'a mut [f64],
    pub(super) add: Option<f64>,
    pub(super) shape: Shape,
    /// Rows of `out` that count, and rows of `a` and `b`: in the others there are zeros.
    pub(super) rows: usize,
    pub(super) depth: usize,
}

/// What is known of the tiles, so that only numbers which are not zero need be multiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Full,
    /// Of the result only what is on and below the diagonal is wanted.
    Below,
    /// `a` is an upper triangle.
    UpperLeft,
    /// `a`, `b` or both are lower triangles.
    LowerLeft,
    LowerRight,
    LowerBoth,
}

impl Shape {
    /// The rows of `a` and `b` that matter to a square of the result, by its first row and column.
    fn rows(self, row: usize, column: usize, depth: usize) -> Range<usize> {
        match self {
            Self::Full => 0..depth,
            Self::Below => 0..if row >= column { depth } else { 0 },
            Self::UpperLeft => 0..depth.min(row + PANEL),
            Self::LowerLeft => row..depth,
            Self::LowerRight => column..depth,
            Self::LowerBoth => row.max(column)..depth,
        }
    }
}

impl Kernel for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        if S::LANES == PANEL { self.squares::<S, 8, 2, 2>(simd) } else { self.squares::<S, 4, 2, 4>(simd) }
    }
}

impl Product<'_> {
    /// `R` rows of the result at a time, and `V` vectors of the `W` that are a row of a panel.
    #[inline(always)]
    fn squares<S: Simd, const R: usize, const V: usize, const W: usize>(self, simd: S) {
        let panels = self.b.chunks_exact(PANEL_AREA).zip(self.out.chunks_exact_mut(PANEL_AREA));
        for (panel, (right, out)) in panels.enumerate() {
            let right = simd.doubles(right).as_chunks::<W>().0;
            let out = simd.doubles_mut(out).as_chunks_mut::<W>().0;
            for (left, row) in self.a.chunks_exact(PANEL_AREA).zip((0..self.rows).step_by(PANEL)) {
                let depth = self.shape.rows(row, panel * PANEL, self.depth);
                if depth.is_empty() {
                    if self.add.is_none() {
                        out[row..row + PANEL].as_flattened_mut().fill(simd.splat_double(0.0));
                    }
                    continue;
                }
                let (left, right) = (&left.as_chunks::<PANEL>().0[depth.clone()], &right[depth]);
                for first_row in (0..PANEL).step_by(R) {
                    for first in (0..W).step_by(V) {
                        let sums = sums::<S, R, V, W>(simd, left, first_row, right, first);
                        for r in 0..R {
                            for v in 0..V {
                                let place = &mut out[row + first_row + r][first + v];
                                *place = match self.add {
                                    Some(factor) => simd.mul_add_doubles(simd.splat_double(factor), sums[r][v], *place),
                                    None => sums[r][v],
                                };
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The sums over all rows of the products of `R` numbers on the left and `V` vectors on the right, formed in that order
/// and kept in registers.
#[inline(always)]
fn sums<S: Simd, const R: usize, const V: usize, const W: usize>(
    simd: S,
    left: &[[f64; PANEL]],
    first_row: usize,
    right: &[[S::Doubles; W]],
    first: usize,
) -> [[S::Doubles; V]; R] {
    let mut sums = [[simd.splat_double(0.0); V]; R];
    for (left, right) in left.iter().zip(right) {
        for r in 0..R {
            let factor = simd.splat_double(left[first_row + r]);
            for v in 0..V {
                sums[r][v] = simd.mul_add_doubles(factor, right[first + v], sums[r][v]);
            }
        }
    }
    sums
}

/// The tile with rows and columns changed over.
pub(super) fn transposed(tile: &[f64]) -> Tiles {
    let mut turned = Tiles::zeros(1);
    for (panel, out) in turned.values_mut().chunks_exact_mut(PANEL_AREA).enumerate() {
        // By squares, which lie in one piece both here and there.
        for (from, out) in tile.chunks_exact(PANEL_AREA).zip(out.chunks_exact_mut(PANEL * PANEL)) {
            let from = &from[panel * PANEL * PANEL..][..PANEL * PANEL];
            for i in 0..PANEL {
                for j in 0..PANEL {
                    out[i * PANEL + j] = from[j * PANEL + i];
                }
            }
        }
    }
    turned
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::simd::run_on_all;
    use crate::kernels::symmetric::{TILE, place};

    /// A product into a tile of its own.
    struct Case<'a> {
        a: &'a Tiles,
        b: &'a Tiles,
        out: Tiles,
        product: fn(&'a [f64], &'a [f64]) -> Product<'a>,
    }

    impl Kernel for Case<'_> {
        type Output = Tiles;

        #[inline(always)]
        fn run<S: Simd>(mut self, simd: S) -> Tiles {
            let product = (self.product)(self.a.values(), self.b.values());
            Product { out: self.out.values_mut(), ..product }.run(simd);
            self.out
        }
    }

    /// Small whole numbers, whose sums are exact, where `holds`.
    fn tile(salt: usize, holds: impl Fn(usize, usize) -> bool) -> Tiles {
        let mut tile = Tiles::zeros(1);
        for i in 0..TILE {
            for j in (0..TILE).filter(|j| holds(i, *j)) {
                tile.values_mut()[place(i, j)] = ((i * 31 + j * 17 + salt) * 2_654_435_761 % 13) as f64 - 6.0;
            }
        }
        tile
    }

    fn is_right<'a>(a: &'a Tiles, b: &'a Tiles, product: fn(&'a [f64], &'a [f64]) -> Product<'a>) {
        let before = tile(3, |_, _| true);
        let Product { add, shape, rows, .. } = product(a.values(), b.values());
        for after in run_on_all(|| Case { a, b, out: before.clone(), product }) {
            for (i, j) in (0..rows).flat_map(|i| (0..TILE).map(move |j| (i, j))) {
                if shape == Shape::Below && j > i {
                    continue;
                }
                let sum: f64 = (0..TILE).map(|k| a.values()[place(k, i)] * b.values()[place(k, j)]).sum();
                let expected = add.map_or(sum, |add| before.values()[place(i, j)] + add * sum);
                assert_eq!(after.values()[place(i, j)], expected, "{shape:?} {i} {j}");
            }
            if rows + PANEL <= TILE {
                assert_eq!(after.values()[place(TILE - 1, 7)], before.values()[place(TILE - 1, 7)]);
            }
        }
    }

    fn plain<'a>(a: &'a [f64], b: &'a [f64]) -> Product<'a> {
        Product { a, b, out: &mut [], add: None, shape: Shape::Full, rows: TILE, depth: TILE }
    }

    #[test]
    fn products_are_the_plain_sums() {
        let few = |i: usize, _: usize| i < 5;
        let (a, b) = (tile(1, few), tile(2, few));
        is_right(&a, &b, |a, b| Product { add: Some(-1.0), rows: 40, depth: 5, ..plain(a, b) });
        let (full, other) = (tile(1, |_, _| true), tile(2, |_, _| true));
        is_right(&full, &other, plain);
        is_right(&full, &other, |a, b| Product { add: Some(2.0), shape: Shape::Below, ..plain(a, b) });
        let (lower, upper) = (tile(4, |i, j| i >= j), tile(5, |i, j| i <= j));
        is_right(&upper, &full, |a, b| Product { shape: Shape::UpperLeft, ..plain(a, b) });
        is_right(&lower, &full, |a, b| Product { shape: Shape::LowerLeft, ..plain(a, b) });
        is_right(&full, &lower, |a, b| Product { shape: Shape::LowerRight, ..plain(a, b) });
        is_right(&lower, &lower, |a, b| Product { shape: Shape::LowerBoth, ..plain(a, b) });
    }

    #[test]
    fn a_tile_turns_over() {
        let before = tile(1, |_, _| true);
        let after = transposed(before.values());
        assert!((0..TILE * TILE).all(|at| {
            let (i, j) = (at / TILE, at % TILE);
            after.values()[place(i, j)] == before.values()[place(j, i)]
        }));
    }
}
