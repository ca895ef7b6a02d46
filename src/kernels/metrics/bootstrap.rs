//! How sure one can be of a mean.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// An interval that holds the mean of the population with the probability `level` (0.95, say), by the percentile
/// bootstrap (Efron 1979): the means of `resamples` draws with replacement, less the outer ones.
///
/// `(NaN, NaN)` without values or resamples.
pub fn bootstrap_mean_interval(values: &[f64], resamples: usize, level: f64, seed: u64) -> (f64, f64) {
    if values.is_empty() || resamples == 0 {
        return (f64::NAN, f64::NAN);
    }
    let mut means: Vec<f64> = (0..resamples)
        .into_par_iter()
        .map(|resample| {
            // Each draw has a stream of its own, so that it does not matter which thread makes it.
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(resample as u64);
            let sum: f64 = (0..values.len()).map(|_| values[rng.random_range(0..values.len())]).sum();
            sum / values.len() as f64
        })
        .collect();
    means.sort_by(f64::total_cmp);
    let outside = (1.0 - level.clamp(0.0, 1.0)) / 2.0;
    (quantile(&means, outside), quantile(&means, 1.0 - outside))
}

/// By linear interpolation between the two nearest of `sorted`.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len() - 1;
    let position = last as f64 * share;
    let below = (position as usize).min(last);
    let above = (below + 1).min(last);
    sorted[below] + (position - below as f64) * (sorted[above] - sorted[below])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_of_equal_values_is_sure() {
        assert_eq!(bootstrap_mean_interval(&[2.0; 9], 100, 0.95, 1), (2.0, 2.0));
    }

    #[test]
    fn the_interval_is_that_of_the_normal_law() {
        // 0 and 1 in equal parts, 400 of them: the mean's deviation is 0.5 / 20 = 0.025, and 95 % are ± 1.96 of it.
        let values: Vec<f64> = (0..400).map(|at| f64::from(at % 2)).collect();
        let (low, high) = bootstrap_mean_interval(&values, 4000, 0.95, 7);
        assert!((low - 0.451).abs() < 0.004 && (high - 0.549).abs() < 0.004, "{low} to {high}");
        assert_eq!(bootstrap_mean_interval(&values, 4000, 0.95, 7), (low, high));
    }

    #[test]
    fn nothing_has_no_interval() {
        assert!(bootstrap_mean_interval(&[], 100, 0.95, 1).0.is_nan());
        assert!(bootstrap_mean_interval(&[1.0], 0, 0.95, 1).1.is_nan());
    }

    #[test]
    fn quantiles_lie_between_their_neighbours() {
        assert_eq!([0.0, 0.25, 0.5, 1.0].map(|share| quantile(&[1.0, 2.0, 4.0], share)), [1.0, 1.5, 2.0, 4.0]);
    }
}
