//! How sure one can be of a mean.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// Resamples behind each interval.
const RESAMPLES: usize = 1_000;

/// Up to so many rows are drawn again and again; more are summed up as they come, and their means follow the normal law.
const DRAWN: usize = 20_000;

/// Rows of the same few measurements, of which means are wanted: one row a person, one column a measure.
///
/// What it says depends on the rows and their order alone. It never holds more than 20,000 rows.
#[derive(Debug, Clone)]
pub struct Sample {
    n_columns: usize,
    len: usize,
    sums: Vec<f64>,
    squares: Vec<f64>,
    /// All rows, one after the other, while there are few.
    rows: Vec<f64>,
}

impl Sample {
    pub fn new(n_columns: usize) -> Self {
        Self { n_columns, len: 0, sums: vec![0.0; n_columns], squares: vec![0.0; n_columns], rows: Vec::new() }
    }

    /// Adds a row of as many finite numbers as there are columns; what is beyond them is not looked at.
    pub fn push(&mut self, row: &[f64]) {
        self.len += 1;
        for (value, (sum, square)) in row.iter().zip(self.sums.iter_mut().zip(&mut self.squares)) {
            *sum += value;
            *square += value * value;
        }
        if self.len <= DRAWN {
            self.rows.extend(row.iter().take(self.n_columns));
        } else {
            self.rows = Vec::new();
        }
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The mean of each column; NaN without rows.
    pub fn means(&self) -> Vec<f64> {
        self.sums.iter().map(|sum| sum / self.len as f64).collect()
    }

    /// For each column an interval that holds the mean of the population with a probability of 95 %; NaN without rows.
    ///
    /// By the percentile bootstrap (Efron 1979): the means of 1,000 draws of the rows with replacement, less the outer
    /// ones. Of more than 20,000 rows such means follow the normal law closely, and the interval is taken from it.
    pub fn intervals(&self, seed: u64) -> Vec<(f64, f64)> {
        if self.len > DRAWN {
            return self.normal_intervals();
        }
        let draws: Vec<Vec<f64>> = (0..if self.is_empty() { 0 } else { RESAMPLES })
            .into_par_iter()
            .map(|resample| self.draw(seed, resample as u64))
            .collect();
        let interval = |column: usize| {
            let mut means: Vec<f64> = draws.iter().map(|means| means[column]).collect();
            means.sort_by(f64::total_cmp);
            (quantile(&means, 0.025), quantile(&means, 0.975))
        };
        (0..self.n_columns).map(interval).collect()
    }

    /// The means of as many rows as there are, each drawn from all.
    fn draw(&self, seed: u64, resample: u64) -> Vec<f64> {
        // Each draw has a stream of its own, so that it does not matter which thread makes it.
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(resample);
        let mut sums = vec![0.0; self.n_columns];
        for _ in 0..self.len {
            let start = rng.random_range(0..self.len as u32) as usize * self.n_columns;
            for (sum, value) in sums.iter_mut().zip(&self.rows[start..start + self.n_columns]) {
                *sum += value;
            }
        }
        sums.iter().map(|sum| sum / self.len as f64).collect()
    }

    fn normal_intervals(&self) -> Vec<(f64, f64)> {
        const DEVIATIONS: f64 = 1.959_963_984_540_054;
        let n = self.len as f64;
        let interval = |(sum, square): (&f64, &f64)| {
            let mean = sum / n;
            let variance = (square / n - mean * mean).max(0.0);
            let reach = DEVIATIONS * (variance / n).sqrt();
            (mean - reach, mean + reach)
        };
        self.sums.iter().zip(&self.squares).map(interval).collect()
    }
}

/// By linear interpolation between the two nearest of `sorted`; NaN of none.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let position = last as f64 * share;
    let below = (position as usize).min(last);
    let above = (below + 1).min(last);
    sorted[below] + (position - below as f64) * (sorted[above] - sorted[below])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(n: usize, row: impl Fn(usize) -> Vec<f64>) -> Sample {
        let mut sample = Sample::new(row(0).len());
        (0..n).for_each(|at| sample.push(&row(at)));
        sample
    }

    #[test]
    fn a_mean_of_equal_values_is_sure() {
        let sample = sample(9, |_| vec![2.0, -1.0]);
        assert_eq!((sample.len(), sample.means()), (9, vec![2.0, -1.0]));
        assert_eq!(sample.intervals(1), [(2.0, 2.0), (-1.0, -1.0)]);
    }

    #[test]
    fn the_interval_is_that_of_the_normal_law() {
        // 0 and 1 in equal parts, 400 of them: the mean's deviation is 0.5 / 20 = 0.025, and 95 % are ± 1.96 of it.
        let few = sample(400, |at| vec![(at % 2) as f64, 7.0]);
        let (low, high) = few.intervals(7)[0];
        assert!((low - 0.451).abs() < 0.006 && (high - 0.549).abs() < 0.006, "{low} to {high}");
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        assert_eq!(pool.install(|| few.intervals(7)), few.intervals(7));
    }

    #[test]
    fn many_rows_are_not_kept_and_say_the_same() {
        let row = |at: usize| vec![(at % 2) as f64, (at % 5) as f64];
        let (few, many) = (sample(DRAWN, row), sample(DRAWN + 1, row));
        assert!(many.rows.is_empty() && !few.rows.is_empty());
        for ((low, high), (other_low, other_high)) in few.intervals(3).into_iter().zip(many.intervals(3)) {
            let width = other_high - other_low;
            assert!((low - other_low).abs() < 0.1 * width && (high - other_high).abs() < 0.1 * width);
        }
    }

    #[test]
    fn nothing_has_no_interval() {
        let nothing = Sample::new(1);
        assert!(nothing.is_empty() && nothing.means()[0].is_nan());
        assert!(nothing.intervals(1)[0].0.is_nan());
    }

    #[test]
    fn quantiles_lie_between_their_neighbours() {
        assert_eq!([0.0, 0.25, 0.5, 1.0].map(|share| quantile(&[1.0, 2.0, 4.0], share)), [1.0, 1.5, 2.0, 4.0]);
    }
}
