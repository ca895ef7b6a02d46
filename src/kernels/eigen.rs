//! The eigenvalues and eigenvectors of symmetric matrices.

use ndarray::{Array1, Array2};
use rayon::prelude::*;

use crate::kernels::simd::{self, Kernel, Simd};

/// `a = Q Λ Qᵀ` of a symmetric `a` (`n × n`).
#[derive(Debug, Clone, PartialEq)]
pub struct Eigen {
    /// `Λ`, rising.
    pub values: Array1<f64>,
    /// `Q`: its columns are the eigenvectors, of length 1 and at right angles to one another.
    pub vectors: Array2<f64>,
}

impl Eigen {
    /// Of a symmetric matrix, of which only the lower triangle is read. `None` when it holds what is no number.
    ///
    /// Householder's reflections leave three diagonals, and the QL algorithm with Wilkinson's shifts turns these into
    /// one (Bowdler, Martin, Reinsch, Wilkinson 1968). Its rotations are collected, and carried out on many vectors at a
    /// time.
    pub fn of(a: &Array2<f64>) -> Option<Eigen> {
        let n = a.nrows();
        let mut a = Array2::from_shape_fn((n, n), |(i, j)| a[[i.max(j), i.min(j)]]).into_raw_vec_and_offset().0;
        if a.iter().any(|value| !value.is_finite()) {
            return None;
        }
        let (mut diagonal, mut beside, reflections) = tridiagonal(&mut a, n);

        // One block of columns of Qᵀ each, all rows of it together: blocks change by themselves.
        let blocks = (0..n).step_by(BLOCK).map(|first| BLOCK.min(n - first));
        let mut vectors: Vec<Vec<f64>> = blocks.map(|columns| vec![0.0; n * columns]).collect();
        for (block, rows) in vectors.iter_mut().enumerate() {
            let columns = BLOCK.min(n - block * BLOCK);
            (0..columns).for_each(|column| rows[(block * BLOCK + column) * columns + column] = 1.0);
        }
        let mut rotations = Vec::new();
        for first in 0..n {
            for round in 0.. {
                let last = (first..n).find(|at| is_free(&diagonal, &beside, *at)).unwrap_or(first);
                if last == first {
                    break;
                }
                if round == ROUNDS {
                    return None;
                }
                chase(&mut diagonal, &mut beside, first, last, &mut rotations);
                if rotations.len() > 8 * n {
                    vectors.par_iter_mut().for_each(|rows| simd::run(Rotate { rotations: &rotations, rows, n }));
                    rotations.clear();
                }
            }
        }
        vectors.par_iter_mut().for_each(|rows| simd::run(Rotate { rotations: &rotations, rows, n }));
        // These were the vectors of the three diagonals, each a row: by the reflections they become those of `a`.
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|i, j| diagonal[*i].total_cmp(&diagonal[*j]));
        let mut rows: Vec<Vec<f64>> = order
            .iter()
            .map(|row| {
                let parts = vectors.iter().map(|rows| {
                    let columns = rows.len() / n;
                    &rows[row * columns..][..columns]
                });
                parts.flatten().copied().collect()
            })
            .collect();
        rows.par_iter_mut().for_each(|vector| simd::run(Reflect { reflections: &reflections, vector }));
        Some(Eigen {
            values: order.iter().map(|at| diagonal[*at]).collect(),
            vectors: Array2::from_shape_fn((n, n), |(i, j)| rows[j][i]),
        })
    }
}

/// Columns of the eigenvectors that are turned together.
const BLOCK: usize = 32;
/// Far more than any eigenvalue needs.
const ROUNDS: usize = 100;

/// Turns `a` (`n × n`, symmetric) into three diagonals: the middle one, the one beside it, and the reflections
/// `I − v vᵀ` that did it, the first first. `v` belongs to the last numbers of a vector.
fn tridiagonal(a: &mut [f64], n: usize) -> (Vec<f64>, Vec<f64>, Vec<Vec<f64>>) {
    let (mut diagonal, mut beside, mut reflections) = (vec![0.0; n], vec![0.0; n], Vec::new());
    for k in 0..n {
        diagonal[k] = a[k * n + k];
        if k + 1 == n {
            break;
        }
        let column: Vec<f64> = a[k * n + k + 1..(k + 1) * n].to_vec();
        let most = column.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
        let rest = column[1..].iter().any(|value| *value != 0.0);
        if !rest {
            beside[k] = column[0];
            reflections.push(Vec::new());
            continue;
        }
        // The reflection takes the column to (∓|column|, 0, 0, …), away from where it would cancel.
        let size = most * column.iter().map(|value| (value / most).powi(2)).sum::<f64>().sqrt();
        beside[k] = -size.copysign(column[0]);
        let mut v = column;
        v[0] -= beside[k];
        // |v|² = 2 size (size + |first|); of length √2 the reflection is I − v vᵀ.
        let length = (size * v[0].abs()).sqrt();
        v.iter_mut().for_each(|value| *value /= length);
        simd::run(TwoSided { a, n, first: k + 1, v: &v });
        reflections.push(v);
    }
    (diagonal, beside, reflections)
}

/// `a := (I − v vᵀ) a (I − v vᵀ)` on the rows and columns from `first` on.
struct TwoSided<'a> {
    a: &'a mut [f64],
    n: usize,
    first: usize,
    v: &'a [f64],
}

impl Kernel for TwoSided<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { a, n, first, v } = self;
        let m = v.len();
        let mut p = vec![0.0; m];
        for i in 0..m {
            p[i] = dot(&a[(first + i) * n + first..][..m], v);
        }
        let half = 0.5 * dot(&p, v);
        for i in 0..m {
            p[i] -= half * v[i];
        }
        for i in 0..m {
            let row = &mut a[(first + i) * n + first..][..m];
            let (left, right) = (v[i], p[i]);
            for j in 0..m {
                row[j] -= left * p[j] + right * v[j];
            }
        }
    }
}

/// Whether what stands beside the diagonal at `at` is nothing next to it.
fn is_free(diagonal: &[f64], beside: &[f64], at: usize) -> bool {
    at + 1 == diagonal.len() || beside[at].abs() <= f64::EPSILON * (diagonal[at].abs() + diagonal[at + 1].abs())
}

/// A rotation of rows `row` and `row + 1`.
struct Rotation {
    row: usize,
    cosine: f64,
    sine: f64,
}

/// One implicit QL step between `first` and `last`: a shift near an eigenvalue makes a bulge at the end, and rotations
/// chase it to the front.
fn chase(diagonal: &mut [f64], beside: &mut [f64], first: usize, last: usize, rotations: &mut Vec<Rotation>) {
    let slope = (diagonal[first + 1] - diagonal[first]) / (2.0 * beside[first]);
    let shift = diagonal[first] - beside[first] / (slope + slope.hypot(1.0).copysign(slope));
    let (mut bulge, mut cosine, mut sine, mut moved) = (diagonal[last] - shift, 1.0, 1.0, 0.0);
    for row in (first..last).rev() {
        let (out, kept) = (sine * beside[row], cosine * beside[row]);
        let length = out.hypot(bulge);
        beside[row + 1] = length;
        if length == 0.0 {
            // It came apart on the way: two smaller problems.
            diagonal[row + 1] -= moved;
            beside[last] = 0.0;
            return;
        }
        (sine, cosine) = (out / length, bulge / length);
        let above = diagonal[row + 1] - moved;
        let change = (diagonal[row] - above) * sine + 2.0 * cosine * kept;
        moved = sine * change;
        diagonal[row + 1] = above + moved;
        bulge = cosine * change - kept;
        rotations.push(Rotation { row, cosine, sine });
    }
    diagonal[first] -= moved;
    beside[first] = bulge;
    beside[last] = 0.0;
}

struct Rotate<'a> {
    rotations: &'a [Rotation],
    /// `n` rows.
    rows: &'a mut [f64],
    n: usize,
}

impl Kernel for Rotate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let columns = self.rows.len() / self.n;
        for Rotation { row, cosine, sine } in self.rotations {
            let (upper, lower) = self.rows[row * columns..(row + 2) * columns].split_at_mut(columns);
            for i in 0..columns {
                let (a, b) = (upper[i], lower[i]);
                upper[i] = cosine * a - sine * b;
                lower[i] = sine * a + cosine * b;
            }
        }
    }
}

struct Reflect<'a> {
    reflections: &'a [Vec<f64>],
    vector: &'a mut [f64],
}

impl Kernel for Reflect<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let n = self.vector.len();
        // The last was done first on the way to the three diagonals' vectors.
        for v in self.reflections.iter().rev() {
            let part = &mut self.vector[n - v.len()..];
            let along = dot(part, v);
            for i in 0..v.len() {
                part[i] -= along * v[i];
            }
        }
    }
}

/// Eight sums side by side, as one chain of additions would wait for itself.
#[inline(always)]
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let n = a.len().min(b.len());
    let mut sums = [0.0; 8];
    let mut done = 0;
    while done + 8 <= n {
        let (a, b) = (&a[done..done + 8], &b[done..done + 8]);
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
        done += 8;
    }
    let mut rest = 0.0;
    for at in done..n {
        rest += a[at] * b[at];
    }
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use ndarray::array;
    use proptest::prelude::*;

    use super::*;

    fn check(a: &Array2<f64>) {
        let n = a.nrows();
        let Eigen { values, vectors } = Eigen::of(a).unwrap();
        let size = a.iter().fold(1e-300, |most: f64, value| most.max(value.abs())) * n as f64;
        let again = (&vectors * &values).dot(&vectors.t());
        assert!((a - &again).iter().all(|gap| gap.abs() <= 1e-14 * size), "{}", (a - &again) / size);
        let unit = vectors.t().dot(&vectors) - Array2::<f64>::eye(n);
        assert!(unit.iter().all(|gap| gap.abs() <= 1e-13 * n as f64), "{unit}");
        assert!(values.windows(2).into_iter().all(|pair| pair[0] <= pair[1]));
    }

    #[test]
    fn a_small_matrix() {
        let Eigen { values, vectors } = Eigen::of(&array![[2.0, 1.0], [1.0, 2.0]]).unwrap();
        assert!((&values - &array![1.0, 3.0]).iter().all(|gap| gap.abs() < 1e-15));
        assert!((vectors[[0, 1]] - vectors[[1, 1]]).abs() < 1e-15);
        assert!((vectors[[0, 1]].abs() - 0.5f64.sqrt()).abs() < 1e-15);
    }

    #[test]
    fn strange_matrices() {
        assert_eq!(Eigen::of(&Array2::zeros((0, 0))).unwrap().values.len(), 0);
        assert_eq!(Eigen::of(&array![[7.0]]).unwrap().values, array![7.0]);
        check(&Array2::zeros((5, 5)));
        check(&Array2::eye(40));
        check(&Array2::from_diag(&array![3.0, -1.0, 3.0, 1e-200, 1e200]));
        check(&Array2::ones((33, 33)));
        // Half of the numbers are many orders of magnitude below the others.
        check(&Array2::from_shape_fn((20, 20), |(i, j)| 10f64.powi(-((i + j) as i32)) * ((i * j) as f64 + 1.0).sin()));
        assert_eq!(Eigen::of(&array![[f64::NAN]]), None);
        assert_eq!(Eigen::of(&array![[1.0, 9.0], [f64::INFINITY, 1.0]]), None);
    }

    #[test]
    fn the_same_bits_on_one_thread_and_on_many() {
        let a = Array2::from_shape_fn((150, 150), |(i, j)| ((i * j) as f64).sin() + (i + j) as f64 / 99.0);
        check(&a);
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| Eigen::of(&a))
        };
        assert_eq!(on(1), on(3));
    }

    proptest! {
        #[test]
        fn vectors_and_values_make_the_matrix(n in 1usize..40, cells in prop::collection::vec(-1.0f64..1.0, 1600)) {
            check(&Array2::from_shape_fn((n, n), |(i, j)| cells[i.max(j) * 40 + i.min(j)]));
        }
    }
}
