//! Large symmetric matrices: their inverses, and what becomes of these as rows of data come and go.

mod product;
mod root;

use std::fmt::{Debug, Formatter};

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::kernels::csr::Csr;
use crate::kernels::simd::{self, LINE};
use crate::kernels::symmetric::product::{Product, Shape, transposed};
use crate::kernels::symmetric::root::Root;

/// Rows and columns of a tile, the piece that one thread works on at a time: three of them fit the second-level cache,
/// and rows a power of two apart would crowd into the same places of it.
pub const TILE: usize = 160;
/// Columns that lie side by side in a tile: a panel is [`TILE`] rows of so many, two lines of memory each.
const PANEL: usize = 16;
/// Numbers in a panel and in a tile.
const PANEL_AREA: usize = TILE * PANEL;
const AREA: usize = TILE * TILE;

/// A symmetric `n × n` matrix of f64, by its lower triangle: tiles of 160 × 160, row of tiles by row of tiles. The last
/// ones are filled up with rows of the identity.
///
/// An inverse has to be as exact as it can be: every update of it starts from the last one, and what single precision
/// loses (a relative error of 6e-8 times the condition of the matrix) would already be more than an update may cost.
#[derive(Clone)]
pub struct Symmetric {
    n: usize,
    tiles: Tiles,
}

impl Symmetric {
    /// Bytes that a matrix of `n` rows takes: about `4 n²`, and `1300 n` that its inverse needs on the way.
    pub fn bytes(n: usize) -> usize {
        let side = n.div_ceil(TILE);
        (side * (side + 1) / 2 + side).saturating_mul(AREA * 8)
    }

    /// Of rows that `fill(i, row)` writes: the first `i + 1` numbers of row `i`, which come as zeros.
    pub fn from_rows(n: usize, fill: impl Fn(usize, &mut [f64]) -> Result<()> + Sync) -> Result<Symmetric> {
        let side = n.div_ceil(TILE);
        let mut tiles = Tiles::zeros(side * (side + 1) / 2);
        let mut rows = Vec::with_capacity(side);
        let mut rest = tiles.values_mut();
        for row in 0..side {
            let (first, later) = rest.split_at_mut((row + 1) * AREA);
            rows.push(first);
            rest = later;
        }
        // One row of tiles after the other, the long ones too: a thread that is done takes the next.
        rows.into_par_iter().enumerate().with_max_len(1).try_for_each(|(tile, tiles)| {
            let mut row = vec![0.0; (tile + 1) * TILE];
            for within in 0..TILE {
                let i = tile * TILE + within;
                row.fill(0.0);
                if i < n {
                    fill(i, &mut row[..=i])?;
                } else {
                    row[i] = 1.0;
                }
                for (panel, numbers) in tiles.chunks_exact_mut(PANEL_AREA).zip(row.chunks_exact(PANEL)) {
                    panel[within * PANEL..][..PANEL].copy_from_slice(numbers);
                }
            }
            Ok::<(), Error>(())
        })?;
        let mut matrix = Symmetric { n, tiles };
        matrix.mirror();
        Ok(matrix)
    }

    /// Rows and columns.
    pub fn n(&self) -> usize {
        self.n
    }

    pub fn get(&self, i: usize, j: usize) -> f64 {
        let (row, column) = (i.max(j), i.min(j));
        self.tiles.tile(position(row / TILE, column / TILE))[place(row % TILE, column % TILE)]
    }

    /// Writes the first `row.len()` numbers of row `i` to `row`.
    pub fn copy_row(&self, i: usize, row: &mut [f64]) {
        for (tile, out) in row.chunks_mut(TILE).enumerate() {
            self.copy_part(i, tile, out);
        }
    }

    /// Writes what row `i` holds from column `tile ·` [`TILE`] on, at most so many numbers.
    pub fn copy_part(&self, i: usize, tile: usize, out: &mut [f64]) {
        let own = i / TILE;
        if own >= tile {
            let numbers = &self.tiles.tile(position(own, tile))[i % TILE * PANEL..];
            for (out, numbers) in out.chunks_mut(PANEL).zip(numbers.chunks(PANEL_AREA)) {
                out.copy_from_slice(&numbers[..out.len()]);
            }
        } else {
            let numbers = &self.tiles.tile(position(tile, own))[place(0, i % TILE)..];
            out.iter_mut().zip(numbers.iter().step_by(PANEL)).for_each(|(out, number)| *out = *number);
        }
    }

    /// The inverse of a positive definite matrix, in its place.
    ///
    /// By sweeping (Goodnight, "A Tutorial on the SWEEP Operator", 1979), a tile of rows at a time: with `D = L Lᵀ` the
    /// tile on the diagonal, `C` the other rows of its columns and `W = C L⁻ᵀ`, all else becomes `A − W Wᵀ`, the columns
    /// `W L⁻¹`, and the tile itself `−L⁻ᵀ L⁻¹`. After the last one the matrix is `−A⁻¹`. Half the matrix is enough, no
    /// second one is needed, and nearly all of the `n³` operations are one product that every step has in full.
    ///
    /// `go_on(step, steps)` tells where it is, and is asked often. Fails when the matrix is not positive definite, and
    /// when cancelled.
    pub fn inverse(mut self, go_on: &(dyn Fn(usize, usize) -> bool + Sync)) -> Result<Symmetric> {
        let side = self.side();
        let mut columns = Tiles::zeros(side);
        let mut root = if side > 0 { Root::of(self.tiles.tile(0)) } else { None };
        for step in 0..side {
            let now = root.take().ok_or_else(not_definite)?;
            self.whiten_columns(step, &now, &mut columns);
            let next = (step + 1 < side).then(|| {
                let mut tile = Tiles::zeros(1);
                tile.values_mut().copy_from_slice(self.tiles.tile(position(step + 1, step + 1)));
                let w = columns.tile(step + 1);
                let (out, add, shape) = (tile.values_mut(), Some(-1.0), Shape::Below);
                simd::run(Product { a: w, b: w, out, add, shape, rows: TILE, depth: TILE });
                tile
            });
            // The next root is taken while all others are busy with this step.
            let (next, swept) = rayon::join(
                || next.and_then(|tile| Root::of(tile.values())),
                || self.sweep(step, &now, &columns, &|| go_on(step, side)),
            );
            swept?;
            root = next;
        }
        self.tiles
            .values_mut()
            .par_chunks_mut(AREA)
            .for_each(|tile| tile.iter_mut().for_each(|value| *value = -*value));
        self.mirror();
        Ok(self)
    }

    /// `Wᵀ = L⁻¹ Cᵀ` of the columns of tile `step`, a tile for each row of tiles but that one.
    fn whiten_columns(&self, step: usize, root: &Root, columns: &mut Tiles) {
        let depth = self.used(step);
        columns.values_mut().par_chunks_mut(AREA).enumerate().filter(|(row, _)| *row != step).for_each(|(row, out)| {
            if row < step {
                root.whiten(self.tiles.tile(position(step, row)), out, depth);
            } else {
                root.whiten(transposed(self.tiles.tile(position(row, step))).values(), out, depth);
            }
        });
    }

    fn sweep(&mut self, step: usize, root: &Root, columns: &Tiles, go_on: &(dyn Fn() -> bool + Sync)) -> Result<()> {
        let (inverse, depth) = (root.inverse(), self.used(step));
        self.each_tile(go_on, |row, column, rows, out| {
            let (a, b, add, shape) = match (row == step, column == step) {
                (false, false) if row == column => (columns.tile(row), columns.tile(row), Some(-1.0), Shape::Below),
                (false, false) => (columns.tile(row), columns.tile(column), Some(-1.0), Shape::Full),
                (false, true) => (columns.tile(row), inverse, None, Shape::LowerRight),
                (true, false) => (inverse, columns.tile(column), None, Shape::LowerLeft),
                (true, true) => (inverse, inverse, None, Shape::LowerBoth),
            };
            simd::run(Product { a, b, out, add, shape, rows, depth });
            if row == step && column == step {
                out.iter_mut().for_each(|value| *value = -*value);
            }
        })
    }

    /// Of `A⁻¹`, which this is: `(A + XᵀX)⁻¹` where `rows` (some × n) come, `(A − XᵀX)⁻¹` where they go.
    ///
    /// By Woodbury's identity, some rows at a time: with `Q = X A⁻¹` and `I ± Q Xᵀ = L Lᵀ` it is `A⁻¹ ∓ WᵀW` where
    /// `W = L⁻¹ Q`. Each row costs about `n²` operations; for `n` of them a new inverse is as quick.
    ///
    /// `go_on` is asked often. Fails when what is left is not positive definite, and when cancelled.
    pub fn updated(mut self, rows: &Csr, change: Change, go_on: &(dyn Fn() -> bool + Sync)) -> Result<Symmetric> {
        if rows.n_cols != self.n {
            return Err(Error::internal(format!("rows of {} columns, a matrix of {}", rows.n_cols, self.n)));
        }
        let sign = if change == Change::Come { 1.0 } else { -1.0 };
        let (mut images, mut columns) = (Tiles::zeros(self.side()), Tiles::zeros(self.side()));
        for first in (0..rows.n_rows).step_by(TILE) {
            let some: Vec<(&[u32], &[f32])> = (first..rows.n_rows.min(first + TILE)).map(|row| rows.row(row)).collect();
            let depth = some.len();
            self.images(&some, &mut images, go_on)?;
            let root = Root::of(core(&some, &images, sign).values()).ok_or_else(not_definite)?;
            let whiten = |(out, image): (&mut [f64], &[f64])| root.whiten(image, out, depth);
            columns.values_mut().par_chunks_mut(AREA).zip(images.values().par_chunks(AREA)).for_each(whiten);
            self.each_tile(go_on, |row, column, rows, out| {
                let shape = if row == column { Shape::Below } else { Shape::Full };
                let (a, b, add) = (columns.tile(row), columns.tile(column), Some(-sign));
                simd::run(Product { a, b, out, add, shape, rows, depth });
            })?;
            self.mirror();
        }
        Ok(self)
    }

    /// `X A⁻¹`, a row for each of at most [`TILE`] sparse ones.
    fn images(&self, rows: &[(&[u32], &[f32])], images: &mut Tiles, go_on: &(dyn Fn() -> bool + Sync)) -> Result<()> {
        // By item: a row of the matrix is laid out once for all that have it.
        let mut entries: Vec<(u32, usize, f64)> = Vec::new();
        for (k, (items, values)) in rows.iter().enumerate() {
            entries.extend(items.iter().zip(*values).map(|(item, value)| (*item, k, f64::from(*value))));
        }
        entries.sort_unstable_by_key(|(item, k, _)| (*item, *k));
        images.values_mut().par_chunks_mut(AREA).enumerate().with_max_len(1).try_for_each(|(tile, out)| {
            out.fill(0.0);
            let mut part = [0.0; TILE];
            for of_item in entries.chunk_by(|a, b| a.0 == b.0) {
                self.copy_part(of_item[0].0 as usize, tile, &mut part);
                for (panel, numbers) in out.chunks_exact_mut(PANEL_AREA).zip(part.chunks_exact(PANEL)) {
                    for (_, k, value) in of_item {
                        let sums = &mut panel[k * PANEL..][..PANEL];
                        sums.iter_mut().zip(numbers).for_each(|(sum, number)| *sum += value * number);
                    }
                }
            }
            if go_on() { Ok(()) } else { Err(Error::cancelled()) }
        })
    }

    /// The matrix whose row `i` is row `from[i]` of this one; where there is none, the row of the identity times
    /// `diagonal`. `go_on` is asked often.
    pub fn rearranged(
        &self,
        from: &[Option<u32>],
        diagonal: f64,
        go_on: &(dyn Fn() -> bool + Sync),
    ) -> Result<Symmetric> {
        Symmetric::from_rows(from.len(), |i, row| {
            if !go_on() {
                return Err(Error::cancelled());
            }
            let Some(own) = from[i] else {
                row[i] = diagonal;
                return Ok(());
            };
            let mut numbers = vec![0.0; self.n];
            self.copy_row(own as usize, &mut numbers);
            for (out, from) in row.iter_mut().zip(from) {
                *out = from.map_or(0.0, |from| numbers[from as usize]);
            }
            Ok(())
        })
    }

    fn side(&self) -> usize {
        self.n.div_ceil(TILE)
    }

    /// How many rows of a row of tiles are the matrix's own, or share a panel with such.
    fn used(&self, tile: usize) -> usize {
        (self.n - tile * TILE).next_multiple_of(PANEL).min(TILE)
    }

    /// Does `work(row, column, used, tile)` on all tiles.
    fn each_tile(
        &mut self,
        go_on: &(dyn Fn() -> bool + Sync),
        work: impl Fn(usize, usize, usize, &mut [f64]) + Sync,
    ) -> Result<()> {
        let used: Vec<usize> = (0..self.side()).map(|row| self.used(row)).collect();
        self.tiles.values_mut().par_chunks_mut(AREA).enumerate().try_for_each(|(at, tile)| {
            let (row, column) = row_and_column(at);
            work(row, column, used[row], tile);
            if go_on() { Ok(()) } else { Err(Error::cancelled()) }
        })
    }

    /// Fills the upper half of the tiles on the diagonal, of which only the lower one is worked on.
    fn mirror(&mut self) {
        self.tiles.values_mut().par_chunks_mut(AREA).enumerate().for_each(|(at, tile)| {
            let (row, column) = row_and_column(at);
            if row == column {
                for i in 0..TILE {
                    for j in 0..i {
                        tile[place(j, i)] = tile[place(i, j)];
                    }
                }
            }
        });
    }
}

impl Debug for Symmetric {
    fn fmt(&self, f: &mut Formatter) -> std::fmt::Result {
        write!(f, "Symmetric {{ n: {} }}", self.n)
    }
}

/// What rows of data do to a sum over them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Come,
    Go,
}

/// `I ± Q Xᵀ` of rows `X` and their images `Q`, in the lower triangle of a tile.
fn core(rows: &[(&[u32], &[f32])], images: &Tiles, sign: f64) -> Tiles {
    let column = |(l, (items, values)): (usize, &(&[u32], &[f32]))| {
        let mut sums = vec![0.0; rows.len() - l];
        for (item, value) in items.iter().zip(*values) {
            let item = *item as usize;
            let image = images.tile(item / TILE)[place(l, item % TILE)..].iter().step_by(PANEL);
            sums.iter_mut().zip(image).for_each(|(sum, image)| *sum += f64::from(*value) * image);
        }
        sums
    };
    let columns: Vec<Vec<f64>> = rows.par_iter().enumerate().map(column).collect();
    let mut core = Tiles::zeros(1);
    let out = core.values_mut();
    for k in 0..TILE {
        out[place(k, k)] = 1.0;
    }
    for (l, sums) in columns.iter().enumerate() {
        sums.iter().enumerate().for_each(|(at, sum)| out[place(l + at, l)] += sign * sum);
    }
    core
}

fn not_definite() -> Error {
    Error::invalid("the matrix has no inverse: it is not positive definite")
}

/// The position of a tile of the lower triangle.
fn position(row: usize, column: usize) -> usize {
    row * (row + 1) / 2 + column
}

/// The row and the column of the tile at a position.
fn row_and_column(at: usize) -> (usize, usize) {
    let row = ((8 * at + 1).isqrt() - 1) / 2;
    (row, at - position(row, 0))
}

/// Where a number stands in its tile.
fn place(row: usize, column: usize) -> usize {
    column / PANEL * PANEL_AREA + row * PANEL + column % PANEL
}

/// Tiles one after the other, the first at the beginning of a line of memory.
struct Tiles {
    buffer: Vec<f64>,
    start: usize,
    len: usize,
}

impl Tiles {
    fn zeros(tiles: usize) -> Tiles {
        let buffer = vec![0.0; tiles * AREA + LINE / 8];
        let start = buffer.as_ptr().align_offset(LINE).min(LINE / 8);
        Tiles { buffer, start, len: tiles * AREA }
    }

    fn values(&self) -> &[f64] {
        &self.buffer[self.start..][..self.len]
    }

    fn values_mut(&mut self) -> &mut [f64] {
        &mut self.buffer[self.start..][..self.len]
    }

    fn tile(&self, at: usize) -> &[f64] {
        &self.values()[at * AREA..(at + 1) * AREA]
    }
}

impl Clone for Tiles {
    /// By hand: another buffer may begin elsewhere.
    fn clone(&self) -> Tiles {
        let mut tiles = Tiles::zeros(self.len / AREA);
        tiles.values_mut().copy_from_slice(self.values());
        tiles
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;
    use proptest::prelude::*;

    use super::*;
    use crate::error::Kind;
    use crate::kernels::cholesky::Cholesky;

    fn of(dense: &Array2<f64>) -> Symmetric {
        Symmetric::from_rows(dense.nrows(), |i, row| {
            row.iter_mut().enumerate().for_each(|(j, value)| *value = dense[[i, j]]);
            Ok(())
        })
        .unwrap()
    }

    fn dense(matrix: &Symmetric) -> Array2<f64> {
        let mut dense = Array2::zeros((matrix.n(), matrix.n()));
        for (i, mut row) in dense.outer_iter_mut().enumerate() {
            matrix.copy_row(i, row.as_slice_mut().unwrap());
        }
        dense
    }

    /// Rows with up to four entries each.
    fn rows(n_rows: usize, n: usize, salt: u64) -> Csr {
        let mixed = |at: u64| (at ^ salt).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33;
        let entries = (0..n_rows as u64).flat_map(|row| (0..4).map(move |at| (row, at)));
        let triplets: Vec<(u32, u32, f32)> = entries
            .map(|(row, at)| {
                let column = mixed(row * 8 + at) % n as u64;
                (row as u32, column as u32, 1.0 + (mixed(row * 8 + at + 4) % 8) as f32 / 4.0)
            })
            .collect();
        Csr::from_triplets(n_rows, n, &triplets).unwrap()
    }

    fn gram(x: &Csr, diagonal: f64) -> Array2<f64> {
        let mut gram = Array2::eye(x.n_cols) * diagonal;
        for row in 0..x.n_rows {
            let (columns, values) = x.row(row);
            for (i, a) in columns.iter().zip(values) {
                for (j, b) in columns.iter().zip(values) {
                    gram[[*i as usize, *j as usize]] += f64::from(*a) * f64::from(*b);
                }
            }
        }
        gram
    }

    fn gap(a: &Array2<f64>, b: &Array2<f64>) -> f64 {
        a.iter().zip(b).fold(0.0, |worst, (a, b)| (a - b).abs().max(worst))
    }

    #[test]
    fn the_inverse_of_a_small_matrix() {
        let matrix = of(&ndarray::array![[4.0, 2.0], [2.0, 10.0]]);
        assert_eq!((matrix.n(), matrix.get(0, 1), matrix.get(1, 0)), (2, 2.0, 2.0));
        let inverse = dense(&matrix.inverse(&|_, _| true).unwrap());
        assert!(gap(&inverse, &(ndarray::array![[10.0, -2.0], [-2.0, 4.0]] / 36.0)) < 1e-16);
    }

    #[test]
    fn a_matrix_may_be_empty() {
        let matrix = Symmetric::from_rows(0, |_, _| Ok(())).unwrap().inverse(&|_, _| true).unwrap();
        assert_eq!(matrix.updated(&rows(0, 1, 1), Change::Come, &|| true).unwrap_err().kind, Kind::Internal);
    }

    #[test]
    fn what_has_no_inverse_is_refused() {
        for matrix in [ndarray::array![[1.0, 1.0], [1.0, 1.0]], ndarray::array![[f64::NAN]], ndarray::array![[0.0]]] {
            assert_eq!(of(&matrix).inverse(&|_, _| true).unwrap_err().kind, Kind::Invalid);
        }
        // The last of several tiles.
        let mut matrix = Array2::eye(TILE + 3);
        matrix[[TILE + 1, TILE + 1]] = -1.0;
        assert_eq!(of(&matrix).inverse(&|_, _| true).unwrap_err().kind, Kind::Invalid);
        // More goes than there was.
        let one = Csr::from_triplets(1, 2, &[(0, 0, 2.0)]).unwrap();
        assert_eq!(of(&Array2::eye(2)).updated(&one, Change::Go, &|| true).unwrap_err().kind, Kind::Invalid);
    }

    #[test]
    fn it_stops_when_asked() {
        let (matrix, some) = (of(&Array2::eye(2 * TILE)), rows(3, 2 * TILE, 1));
        assert_eq!(matrix.clone().updated(&some, Change::Come, &|| false).unwrap_err().kind, Kind::Cancelled);
        assert_eq!(matrix.inverse(&|step, steps| step + 1 < steps).unwrap_err().kind, Kind::Cancelled);
    }

    #[test]
    fn the_same_bits_on_any_number_of_threads() {
        let x = rows(900, 3 * TILE + 7, 5);
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let inverse = of(&gram(&x, 2.0)).inverse(&|_, _| true).unwrap();
                let updated = inverse.clone().updated(&rows(200, x.n_cols, 6), Change::Come, &|| true).unwrap();
                [inverse, updated].map(|matrix| dense(&matrix).mapv(f64::to_bits))
            })
        };
        let one = on(1);
        assert!(one == on(2) && one == on(5));
    }

    #[test]
    fn rows_change_places() {
        let matrix = of(&ndarray::array![[1.0, 2.0, 3.0], [2.0, 4.0, 5.0], [3.0, 5.0, 6.0]]);
        let arranged = matrix.rearranged(&[Some(2), None, Some(0)], 9.0, &|| true).unwrap();
        assert_eq!(dense(&arranged), ndarray::array![[6.0, 0.0, 3.0], [0.0, 9.0, 0.0], [3.0, 0.0, 1.0]]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]

        #[test]
        fn inverses_and_their_updates_are_those_of_plain_elimination(
            n in 1usize..3 * TILE,
            salt in any::<u64>(),
            n_more in 0usize..2 * TILE,
        ) {
            let (x, more) = (rows(n, n, salt), rows(n_more, n, salt ^ 77));
            let inverse = of(&gram(&x, 1.5)).inverse(&|_, _| true).unwrap();
            let plain = |matrix: &Array2<f64>| {
                let half = Cholesky::of(matrix).unwrap().inverse_lower();
                half.t().dot(&half)
            };
            prop_assert!(gap(&dense(&inverse), &plain(&gram(&x, 1.5))) < 1e-12);
            let with = inverse.clone().updated(&more, Change::Come, &|| true).unwrap();
            prop_assert!(gap(&dense(&with), &plain(&(gram(&x, 1.5) + gram(&more, 0.0)))) < 1e-12);
            let without = with.updated(&more, Change::Go, &|| true).unwrap();
            prop_assert!(gap(&dense(&without), &dense(&inverse)) < 1e-10);
        }
    }
}
