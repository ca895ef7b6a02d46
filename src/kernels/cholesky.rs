//! Square roots of symmetric matrices, to solve small dense systems with.

use ndarray::{Array1, Array2, ArrayView1};

/// The lower triangle `L` of a positive definite matrix `a = L Lᵀ` (`n × n`, row by row).
#[derive(Debug, Clone, PartialEq)]
pub struct Cholesky {
    n: usize,
    lower: Vec<f64>,
}

impl Cholesky {
    /// Factors `a`, of which only the lower triangle is read. `None` when `a` is not positive definite: then the
    /// system has no one answer. Row by row (Cholesky and Banachiewicz), so that every inner product is of two
    /// neighbouring stretches of memory.
    pub fn of(a: &Array2<f64>) -> Option<Self> {
        let n = a.nrows();
        let mut lower = vec![0.0; n * n];
        for i in 0..n {
            let (above, row) = lower.split_at_mut(i * n);
            for j in 0..i {
                let other = &above[j * n..=j * n + j];
                row[j] = (a[[i, j]] - dot(&row[..j], &other[..j])) / other[j];
            }
            let pivot = a[[i, i]] - dot(&row[..i], &row[..i]);
            // Written so that a NaN fails as well. What is left of a[i, i] below its rounding error is nothing.
            if !(pivot > a[[i, i]] * f64::EPSILON && pivot.is_finite()) {
                return None;
            }
            row[i] = pivot.sqrt();
        }
        Some(Self { n, lower })
    }

    /// The `x` of `a x = b`.
    pub fn solve(&self, b: ArrayView1<f64>) -> Array1<f64> {
        let mut x = b.to_vec();
        for i in 0..self.n {
            x[i] = (x[i] - dot(self.row(i), &x[..i])) / self.diagonal(i);
        }
        for i in (0..self.n).rev() {
            x[i] /= self.diagonal(i);
            let known = x[i];
            for (earlier, factor) in x.iter_mut().zip(self.row(i)) {
                *earlier -= factor * known;
            }
        }
        Array1::from(x)
    }

    /// `L` itself.
    pub fn lower(&self) -> Array2<f64> {
        Array2::from_shape_fn((self.n, self.n), |(i, j)| self.lower[i * self.n + j])
    }

    /// `L⁻¹`, itself a lower triangle.
    pub fn inverse_lower(&self) -> Array2<f64> {
        let n = self.n;
        let mut inverse = vec![0.0; n * n];
        for i in 0..n {
            // Row i of L · L⁻¹ = I, solved for row i of L⁻¹: the earlier rows are known.
            let (known, row) = inverse.split_at_mut(i * n);
            for (factor, earlier) in self.row(i).iter().zip(known.chunks_exact(n)) {
                for (value, known) in row[..i].iter_mut().zip(earlier) {
                    *value -= factor * known;
                }
            }
            row[i] = 1.0;
            row[..=i].iter_mut().for_each(|value| *value /= self.diagonal(i));
        }
        Array2::from_shape_fn((n, n), |(i, j)| inverse[i * n + j])
    }

    /// Row `i` of `L`, left of the diagonal.
    fn row(&self, i: usize) -> &[f64] {
        &self.lower[i * self.n..i * self.n + i]
    }

    fn diagonal(&self, i: usize) -> f64 {
        self.lower[i * self.n + i]
    }
}

/// Eight sums side by side: one chain of additions would leave most of the processor waiting.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (a_eights, a_rest) = a.as_chunks::<8>();
    let (b_eights, b_rest) = b.as_chunks::<8>();
    let mut sums = [0.0; 8];
    for (a, b) in a_eights.iter().zip(b_eights) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use ndarray::array;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_root_of_a_small_matrix() {
        let root = Cholesky::of(&array![[4.0, 2.0], [2.0, 10.0]]).unwrap();
        assert_eq!(root.lower(), array![[2.0, 0.0], [1.0, 3.0]]);
        assert_eq!(root.inverse_lower(), array![[0.5, 0.0], [-0.5 / 3.0, 1.0 / 3.0]]);
        assert_eq!(root.solve(array![8.0, 22.0].view()), array![1.0, 2.0]);
    }

    #[test]
    fn a_matrix_without_a_root_is_told() {
        assert_eq!(Cholesky::of(&array![[1.0, 1.0], [1.0, 1.0]]), None);
        assert_eq!(Cholesky::of(&array![[1.0, 2.0], [2.0, 1.0]]), None);
        assert_eq!(Cholesky::of(&array![[0.0]]), None);
        assert_eq!(Cholesky::of(&array![[f64::NAN]]), None);
    }

    proptest! {
        #[test]
        fn a_solution_solves(
            n in 1usize..20,
            cells in prop::collection::vec(-1.0f64..1.0, 400),
            b in prop::collection::vec(-9.0f64..9.0, 20),
        ) {
            let half = Array2::from_shape_fn((n, n), |(i, j)| cells[i * 20 + j]);
            let a = half.dot(&half.t()) + Array2::<f64>::eye(n);
            let b = Array1::from(b[..n].to_vec());
            let root = Cholesky::of(&a).unwrap();
            let x = root.solve(b.view());
            prop_assert!((a.dot(&x) - &b).iter().all(|gap| gap.abs() < 1e-9));
            let unit = root.inverse_lower().dot(&root.lower()) - Array2::<f64>::eye(n);
            prop_assert!(unit.iter().all(|gap| gap.abs() < 1e-9));
        }
    }
}
