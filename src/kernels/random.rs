//! Matrices of chance to start from.

use ndarray::Array2;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use rayon::prelude::*;

/// Rows that are drawn from one stream.
const CHUNK: usize = 1024;

/// `n_rows × columns` of normal numbers with mean 0 and that standard deviation. Matrices of one seed and different
/// `number` have nothing to do with each other; the first rows do not depend on how many there are.
pub fn normal(n_rows: usize, columns: usize, deviation: f32, seed: u64, number: u32) -> Array2<f32> {
    let mut matrix = Array2::zeros((n_rows, columns));
    let values = matrix.as_slice_mut().unwrap_or_default();
    values.par_chunks_mut((CHUNK * columns).max(1)).enumerate().for_each(|(chunk, values)| {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream((u64::from(number) << 32) + chunk as u64);
        values.iter_mut().for_each(|value| *value = deviation * rng.sample::<f32, _>(StandardNormal));
    });
    matrix
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_normal_and_their_own() {
        let matrix = normal(3000, 7, 0.5, 1, 0);
        let n = matrix.len() as f32;
        let (mean, square) = (matrix.sum() / n, matrix.mapv(|value| value * value).sum() / n);
        assert!(mean.abs() < 0.02 && (square - 0.25).abs() < 0.02, "{mean} {square}");
        assert_eq!(normal(2000, 7, 0.5, 1, 0), matrix.slice(ndarray::s![..2000, ..]));
        for other in [normal(3000, 7, 0.5, 1, 1), normal(3000, 7, 0.5, 2, 0)] {
            let both = (&other * &matrix).sum() / n;
            assert!(both.abs() < 0.02, "{both}");
        }
        assert_eq!(normal(0, 3, 1.0, 1, 0).dim(), (0, 3));
        assert_eq!(normal(3, 0, 1.0, 1, 0).dim(), (3, 0));
    }
}
