//! The square root of a tile, turned over.

use crate::kernels::simd::{self, Kernel, Simd};
use crate::kernels::symmetric::product::{Product, Shape, transposed};
use crate::kernels::symmetric::{PANEL, PANEL_AREA, TILE, Tiles, place};

/// `L⁻¹` of a tile `L Lᵀ`.
pub(super) struct Root {
    inverse: Tiles,
    transposed: Tiles,
}

impl Root {
    /// Reads the lower triangle of the tile. `None` when it is not positive definite.
    pub(super) fn of(tile: &[f64]) -> Option<Root> {
        let inverse = simd::run(Elimination { tile })?;
        let transposed = transposed(inverse.values());
        Some(Root { inverse, transposed })
    }

    /// `L⁻¹`, a lower triangle.
    pub(super) fn inverse(&self) -> &[f64] {
        self.inverse.values()
    }

    /// `out = L⁻¹ tile`, of whose rows the first `depth` are not zero.
    pub(super) fn whiten(&self, tile: &[f64], out: &mut [f64], depth: usize) {
        let (a, shape) = (self.transposed.values(), Shape::UpperLeft);
        simd::run(Product { a, b: tile, out, add: None, shape, rows: TILE, depth });
    }
}

/// What turns `L Lᵀ` into `Lᵀ`, row by row, turns the identity into `L⁻¹`.
struct Elimination<'a> {
    tile: &'a [f64],
}

impl Kernel for Elimination<'_> {
    type Output = Option<Tiles>;

    #[inline(always)]
    fn run<S: Simd>(self, _simd: S) -> Option<Tiles> {
        let mut upper = vec![[0.0; TILE]; TILE];
        let mut inverse = vec![[0.0; TILE]; TILE];
        for i in 0..TILE {
            for (j, row) in upper[..=i].iter_mut().enumerate() {
                row[i] = self.tile[place(i, j)];
            }
            inverse[i][i] = 1.0;
        }
        for k in 0..TILE {
            let (above, below) = upper.split_at_mut(k + 1);
            let (known, later) = inverse.split_at_mut(k + 1);
            let (row, known) = (&mut above[k], &mut known[k]);
            // Written so that a NaN fails as well. What is left of a pivot below its rounding error is nothing.
            if !(row[k] > self.tile[place(k, k)] * f64::EPSILON && row[k].is_finite()) {
                return None;
            }
            let scale = 1.0 / row[k].sqrt();
            row[k..].iter_mut().for_each(|value| *value *= scale);
            known[..=k].iter_mut().for_each(|value| *value *= scale);
            for (i, (upper, inverse)) in (k + 1..).zip(below.iter_mut().zip(later)) {
                let factor = row[i];
                upper[i..].iter_mut().zip(&row[i..]).for_each(|(value, pivot)| *value -= factor * pivot);
                inverse[..=k].iter_mut().zip(&known[..=k]).for_each(|(value, pivot)| *value -= factor * pivot);
            }
        }
        let mut tiles = Tiles::zeros(1);
        for (panel, out) in tiles.values_mut().chunks_exact_mut(PANEL_AREA).enumerate() {
            for (out, row) in out.chunks_exact_mut(PANEL).zip(&inverse) {
                out.copy_from_slice(&row[panel * PANEL..][..PANEL]);
            }
        }
        Some(tiles)
    }
}
