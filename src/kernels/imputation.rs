//! Holes in columns of numbers, filled by regressions of each column on the others.

use ndarray::{Array1, Array2};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{ChiSquared, Distribution, StandardNormal};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::kernels::cholesky::Cholesky;
use crate::kernels::{Progress, Step};

/// Rounds over all columns: a round more hardly moves anything (van Buuren and Groothuis-Oudshoorn 2011, 3.4).
const ROUNDS: usize = 10;
/// Where expected values move by less than this many standard deviations, further rounds are not worth their time.
const SETTLED: f64 = 1e-3;
/// The share of its own variance that a column is penalised by, so that columns which say the same do not blow up.
const RIDGE: f64 = 1e-5;
/// Rows with a value among whose nearest a hole finds its donor (Morris, White and Royston 2014).
const DONORS: usize = 5;
/// Pieces that sums over rows are cut into, whatever the number of threads.
const PIECES: usize = 64;

/// What a hole is filled with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Draw {
    /// What the regression expects. One answer, and less spread than the truth has.
    Expected,
    /// Predictive mean matching: the value of a row for which a regression drawn at random expects nearly the same
    /// (Rubin 1986; Little 1988). Of one seed, each `number` is a draw of its own.
    Matched { seed: u64, number: u32 },
}

/// The values of the holes, those of each column in order of rows, by chained equations: each column in turn, those with
/// the fewest holes first, is regressed on all others as they are filled by then, and its holes are filled anew.
///
/// Holes are NaN; other values must be finite, and columns of one length. A column without any value keeps its holes, and
/// tells nothing of the others. Sums are cut by rows in a fixed way, so the answer does not depend on the number of
/// threads.
///
/// # Errors
/// Cancelled, when `progress` said stop.
pub fn chained_equations(columns: &[Vec<f64>], draw: Draw, progress: Progress) -> Result<Vec<Vec<f64>>> {
    let mut chain = Chain::start(columns, draw);
    let mut order: Vec<usize> = (0..columns.len()).filter(|at| chain.is_wanted(*at)).collect();
    order.sort_by_key(|at| chain.holes[*at].len());
    for round in 0..ROUNDS {
        let mut moved: f64 = 0.0;
        for at in &order {
            let step = Step { done: round, total: ROUNDS, loss: None };
            if !progress(step) {
                return Err(Error::cancelled());
            }
            moved = moved.max(chain.refill(*at, round, draw));
        }
        if draw == Draw::Expected && moved < SETTLED {
            break;
        }
    }
    Ok(chain.filled)
}

/// Columns on the way.
struct Chain<'a> {
    columns: &'a [Vec<f64>],
    n_rows: usize,
    /// Row by row, each column with mean 0 and deviation 1 of its known values; holes as they are filled by now.
    rows: Vec<f64>,
    scales: Vec<Scale>,
    /// Rows of the holes of each column.
    holes: Vec<Vec<usize>>,
    /// What they are filled with by now, in the columns' own units.
    filled: Vec<Vec<f64>>,
}

/// Mean and standard deviation of a column's known values.
#[derive(Debug, Clone, Copy)]
struct Scale {
    n: usize,
    mean: f64,
    deviation: f64,
}

impl Scale {
    fn of(column: &[f64]) -> Self {
        let known = || column.iter().filter(|value| !value.is_nan());
        let n = known().count();
        let mean = known().sum::<f64>() / n as f64;
        let squares: f64 = known().map(|value| (value - mean).powi(2)).sum();
        Self { n, mean, deviation: (squares / n as f64).sqrt() }
    }

    /// Whether it tells rows apart.
    fn varies(&self) -> bool {
        self.n > 0 && self.deviation > self.mean.abs() * 1e-12
    }

    fn there(&self, value: f64) -> f64 {
        if self.varies() { (value - self.mean) / self.deviation } else { 0.0 }
    }

    fn back(&self, value: f64) -> f64 {
        if self.varies() { self.mean + value * self.deviation } else { self.mean }
    }
}

impl<'a> Chain<'a> {
    fn start(columns: &'a [Vec<f64>], draw: Draw) -> Self {
        let n_rows = columns.first().map_or(0, Vec::len);
        let scales: Vec<Scale> = columns.iter().map(|column| Scale::of(column)).collect();
        let mut rows = vec![0.0; n_rows * columns.len()];
        let (mut holes, mut filled) = (Vec::new(), Vec::new());
        for (at, (column, scale)) in columns.iter().zip(&scales).enumerate() {
            let known: Vec<usize> = (0..n_rows).filter(|row| !column[*row].is_nan()).collect();
            let of_column: Vec<usize> = (0..n_rows).filter(|row| column[*row].is_nan()).collect();
            let mut rng = stream(draw, ROUNDS, at);
            let first = |_: &usize| match &mut rng {
                _ if known.is_empty() => f64::NAN,
                Some(rng) => column[known[rng.random_range(0..known.len())]],
                None => scale.mean,
            };
            filled.push(of_column.iter().map(first).collect::<Vec<f64>>());
            known.iter().for_each(|row| rows[row * columns.len() + at] = scale.there(column[*row]));
            for (row, value) in of_column.iter().zip(&filled[at]) {
                rows[row * columns.len() + at] = scale.there(*value);
            }
            holes.push(of_column);
        }
        Self { columns, n_rows, rows, scales, holes, filled }
    }

    fn is_wanted(&self, at: usize) -> bool {
        !self.holes[at].is_empty() && self.scales[at].varies()
    }

    /// Fills the holes of a column anew; how far the farthest has moved, in standard deviations.
    fn refill(&mut self, target: usize, round: usize, draw: Draw) -> f64 {
        let others: Vec<usize> =
            (0..self.columns.len()).filter(|at| *at != target && self.scales[*at].varies()).collect();
        let fit = Regression::fit(self, target, &others);
        let width = self.columns.len();
        let scale = self.scales[target];
        let found: Vec<f64> = match stream(draw, round, target) {
            None => {
                let holes = self.holes[target].par_iter().with_min_len(1024);
                holes.map(|row| scale.back(fit.expected(self.row(*row), &fit.weights))).collect()
            }
            Some(mut rng) => self.matched(&fit, target, &mut rng),
        };
        let mut moved: f64 = 0.0;
        for (row, value) in self.holes[target].iter().zip(&found) {
            let cell = &mut self.rows[row * width + target];
            let now = scale.there(*value);
            moved = moved.max((now - *cell).abs());
            *cell = now;
        }
        self.filled[target] = found;
        moved
    }

    /// For each hole the value of a donor: one of the rows for which the regression expects nearly what a regression
    /// drawn at random expects of the hole.
    fn matched(&self, fit: &Regression, target: usize, rng: &mut ChaCha8Rng) -> Vec<f64> {
        let known: Vec<usize> = (0..self.n_rows).filter(|row| !self.columns[target][*row].is_nan()).collect();
        let expected = |row: &usize, weights: &Array1<f64>| fit.expected(self.row(*row), weights);
        let of_known: Vec<f64> = known.par_iter().with_min_len(1024).map(|row| expected(row, &fit.weights)).collect();
        let gap = |(row, expected): (&usize, &f64)| (self.row(*row)[target] - expected).powi(2);
        let squares: f64 = known.iter().zip(&of_known).map(gap).sum();
        let weights = fit.drawn(squares, known.len(), rng);
        // Rows of which the same is expected stand in an order of chance: none of them is always the donor.
        let mut donors: Vec<(f64, u64, usize)> =
            of_known.iter().zip(&known).map(|(expected, row)| (*expected, rng.random(), *row)).collect();
        donors.par_sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let holes = self.holes[target].par_iter().with_min_len(1024);
        let of_holes: Vec<f64> = holes.map(|row| expected(row, &weights)).collect();
        let mut donor = |expected: &f64| {
            let nearest = nearest(&donors, *expected);
            self.columns[target][donors[nearest.start + rng.random_range(0..nearest.len())].2]
        };
        of_holes.iter().map(&mut donor).collect()
    }

    fn row(&self, row: usize) -> &[f64] {
        let width = self.columns.len();
        &self.rows[row * width..(row + 1) * width]
    }
}

/// The places of the [`DONORS`] nearest to `expected`, among donors in order.
fn nearest(donors: &[(f64, u64, usize)], expected: f64) -> std::ops::Range<usize> {
    let at = donors.partition_point(|donor| donor.0 < expected);
    let (mut start, mut end) = (at, at);
    while end - start < DONORS.min(donors.len()) {
        let below = start.checked_sub(1).map(|below| expected - donors[below].0);
        let above = donors.get(end).map(|donor| donor.0 - expected);
        match (below, above) {
            (Some(below), Some(above)) if below <= above => start -= 1,
            (Some(_), None) => start -= 1,
            _ => end += 1,
        }
    }
    start..end
}

/// The chance of one column in one round; `None` where nothing is drawn.
fn stream(draw: Draw, round: usize, column: usize) -> Option<ChaCha8Rng> {
    let Draw::Matched { seed, number } = draw else { return None };
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream((u64::from(number) << 32) | ((round as u64) << 24) | column as u64);
    Some(rng)
}

/// A column as a weighted sum of others and a constant, by least squares.
struct Regression<'a> {
    others: &'a [usize],
    /// Of the constant, then of the others.
    weights: Array1<f64>,
    root: Option<Cholesky>,
}

impl<'a> Regression<'a> {
    /// w = (XᵀX + R)⁻¹ Xᵀy over the rows whose `target` is known, R = [`RIDGE`] · diag(XᵀX) but for the constant.
    fn fit(chain: &Chain, target: usize, others: &'a [usize]) -> Self {
        let n = others.len() + 1;
        let piece = chain.n_rows.div_ceil(PIECES).max(1);
        let sums: Vec<(Vec<f64>, Vec<f64>)> = (0..chain.n_rows.div_ceil(piece))
            .into_par_iter()
            .map(|at| {
                let rows = at * piece..((at + 1) * piece).min(chain.n_rows);
                Self::sums(chain, target, others, rows)
            })
            .collect();
        let (mut products, mut with_target) = (Array2::<f64>::zeros((n, n)), Array1::<f64>::zeros(n));
        for (of_pairs, of_target) in &sums {
            products.iter_mut().zip(of_pairs).for_each(|(sum, part)| *sum += part);
            with_target.iter_mut().zip(of_target).for_each(|(sum, part)| *sum += part);
        }
        // Never nothing: a column may be all the same where the target is known.
        let least = RIDGE * products[[0, 0]];
        (1..n).for_each(|at| products[[at, at]] += (RIDGE * products[[at, at]]).max(least * RIDGE));
        let root = Cholesky::of(&products);
        let weights = root.as_ref().map_or_else(|| Array1::zeros(n), |root| root.solve(with_target.view()));
        Self { others, weights, root }
    }

    /// The lower triangle of XᵀX, and Xᵀy, over some rows.
    fn sums(chain: &Chain, target: usize, others: &[usize], rows: std::ops::Range<usize>) -> (Vec<f64>, Vec<f64>) {
        let n = others.len() + 1;
        let (mut products, mut with_target, mut x) = (vec![0.0; n * n], vec![0.0; n], vec![1.0; n]);
        for row in rows.filter(|row| !chain.columns[target][*row].is_nan()) {
            let cells = chain.row(row);
            others.iter().zip(&mut x[1..]).for_each(|(at, value)| *value = cells[*at]);
            for (at, factor) in x.iter().enumerate() {
                let sums = &mut products[at * n..=at * n + at];
                sums.iter_mut().zip(&x).for_each(|(sum, value)| *sum += factor * value);
                with_target[at] += factor * cells[target];
            }
        }
        (products, with_target)
    }

    fn expected(&self, row: &[f64], weights: &Array1<f64>) -> f64 {
        let of_others: f64 = self.others.iter().zip(weights.iter().skip(1)).map(|(at, weight)| weight * row[*at]).sum();
        weights[0] + of_others
    }

    /// Weights as they may as well be, by how far the known values lie from the expected (`squares`, summed): the variance
    /// σ² is drawn as squares / χ²(n − p), the weights from N(w, σ² (XᵀX + R)⁻¹) (Rubin 1987, p. 167).
    fn drawn(&self, squares: f64, n_rows: usize, rng: &mut ChaCha8Rng) -> Array1<f64> {
        let n = self.weights.len();
        let freedom = n_rows.saturating_sub(n).max(1) as f64;
        let chance: f64 = ChiSquared::new(freedom).map_or(freedom, |chi| chi.sample(rng));
        let deviation = (squares / chance).sqrt();
        let normal: Array1<f64> = (0..n).map(|_| rng.sample::<f64, _>(StandardNormal)).collect();
        match &self.root {
            Some(root) if deviation.is_finite() => &self.weights + &(root.inverse_lower().t().dot(&normal) * deviation),
            _ => self.weights.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NONE: f64 = f64::NAN;

    fn fill(columns: &[Vec<f64>], draw: Draw) -> Vec<Vec<f64>> {
        chained_equations(columns, draw, &|_| true).unwrap()
    }

    /// Numbers that look like chance, from −0.5 to 0.5.
    fn noise(at: usize) -> f64 {
        crate::kernels::hash::mixed(at as u64 + 1) as f64 / u64::MAX as f64 - 0.5
    }

    #[test]
    fn what_is_on_a_line_is_found() {
        let x: Vec<f64> = (0..50).map(f64::from).collect();
        let y: Vec<f64> = x.iter().map(|x| if *x as u32 % 7 == 3 { NONE } else { 3.0 * x - 20.0 }).collect();
        let found = fill(&[x, y], Draw::Expected);
        assert!(found[0].is_empty());
        let expected = [3.0, 10.0, 17.0, 24.0, 31.0, 38.0, 45.0].map(|x| 3.0 * x - 20.0);
        assert!(found[1].iter().zip(expected).all(|(a, b)| (a - b).abs() < 0.01), "{found:?}");
    }

    #[test]
    fn holes_in_both_columns() {
        // y = 2x with noise; where one is missing the other tells.
        let n = 400;
        let x: Vec<f64> = (0..n).map(|at| if at % 10 == 0 { NONE } else { noise(at) }).collect();
        let y = (0..n).map(|at| if at % 10 == 5 { NONE } else { 2.0 * noise(at) + 0.01 * noise(at + n) }).collect();
        let found = fill(&[x, y], Draw::Expected);
        let near = |found: &[f64], first: usize, factor: f64| {
            found.iter().enumerate().all(|(at, value)| (value - factor * noise(10 * at + first)).abs() < 0.03)
        };
        assert!(near(&found[0], 0, 1.0) && near(&found[1], 5, 2.0), "{found:?}");
    }

    #[test]
    fn columns_that_tell_nothing() {
        assert_eq!(fill(&[], Draw::Expected), Vec::<Vec<f64>>::new());
        assert_eq!(fill(&[vec![], vec![]], Draw::Expected), [vec![], vec![]] as [Vec<f64>; 2]);
        let found = fill(&[vec![NONE, NONE, NONE], vec![1.0, NONE, 5.0], vec![7.0, 7.0, NONE]], Draw::Expected);
        assert!(found[0].iter().all(|value| value.is_nan()));
        assert_eq!((&found[1], &found[2]), (&vec![3.0], &vec![7.0]));
        let drawn = fill(&[vec![1.0, NONE, 5.0], vec![7.0, 7.0, NONE]], Draw::Matched { seed: 1, number: 0 });
        assert!([1.0, 5.0].contains(&drawn[0][0]) && drawn[1] == [7.0], "{drawn:?}");
        // Two columns that say the same are no reason to fail.
        let twice: Vec<f64> = (0..9).map(f64::from).collect();
        let third = (0..9).map(|at| if at == 4 { NONE } else { f64::from(at) * 2.0 }).collect();
        assert!((fill(&[twice.clone(), twice, third], Draw::Expected)[2][0] - 8.0).abs() < 0.01);
    }

    #[test]
    fn a_stop_stops() {
        let stopped = chained_equations(&[vec![1.0, 2.0, NONE]], Draw::Expected, &|_| false);
        assert_eq!(stopped, Err(Error::cancelled()));
    }

    /// Values are missing more often where x is large: means of what is left are too small, imputed ones are not, and the
    /// spread of the truth is kept, which expected values lose.
    #[test]
    fn multiple_imputation_undoes_the_bias() {
        let n = 4000;
        let x: Vec<f64> = (0..n).map(|at| 4.0 * noise(at)).collect();
        let truth: Vec<f64> = (0..n).map(|at| x[at] + 2.0 * noise(at + n)).collect();
        let y: Vec<f64> =
            (0..n).map(|at| if x[at] > 0.0 && noise(at + 2 * n) > -0.2 { NONE } else { truth[at] }).collect();
        let spread = |values: &[f64]| {
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            (mean, (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt())
        };
        let (true_mean, true_deviation) = spread(&truth);
        let known: Vec<f64> = y.iter().copied().filter(|value| !value.is_nan()).collect();
        assert!(spread(&known).0 < true_mean - 0.3);
        let mut answers = Vec::new();
        for number in 0..4 {
            let drawn = fill(&[x.clone(), y.clone()], Draw::Matched { seed: 7, number });
            let mut whole = known.clone();
            whole.extend(&drawn[1]);
            let (mean, deviation) = spread(&whole);
            assert!((mean - true_mean).abs() < 0.08 && (deviation - true_deviation).abs() < 0.08, "{mean} {deviation}");
            assert!(drawn[1].iter().all(|value| known.contains(value)));
            answers.push(drawn);
        }
        assert_ne!(answers[0], answers[1]);
        assert_eq!(answers[0], fill(&[x, y], Draw::Matched { seed: 7, number: 0 }));
    }

    #[test]
    fn threads_do_not_matter() {
        let columns: Vec<Vec<f64>> = (0..4)
            .map(|at| (0..5000).map(|row| if (row + at) % 9 == 0 { NONE } else { noise(row * 4 + at) }).collect())
            .collect();
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| [Draw::Expected, Draw::Matched { seed: 3, number: 1 }].map(|draw| fill(&columns, draw)))
        };
        let bits = |found: [Vec<Vec<f64>>; 2]| -> Vec<u64> {
            found.iter().flatten().flatten().map(|value| value.to_bits()).collect()
        };
        assert_eq!(bits(with(1)), bits(with(3)));
    }

    proptest! {
        /// The reference: normal equations of two columns, solved by hand.
        #[test]
        fn one_other_column_is_a_line(
            pairs in prop::collection::vec((-9.0f64..9.0, -9.0f64..9.0), 3..40),
            at in -9.0f64..9.0,
        ) {
            let n = pairs.len() as f64;
            let (mx, my) = pairs.iter().fold((0.0, 0.0), |sum, pair| (sum.0 + pair.0 / n, sum.1 + pair.1 / n));
            let sxx: f64 = pairs.iter().map(|(x, _)| (x - mx).powi(2)).sum();
            let sxy: f64 = pairs.iter().map(|(x, y)| (x - mx) * (y - my)).sum();
            prop_assume!(sxx > 1.0);
            let mut x: Vec<f64> = pairs.iter().map(|pair| pair.0).collect();
            let mut y: Vec<f64> = pairs.iter().map(|pair| pair.1).collect();
            x.push(at);
            y.push(NONE);
            let expected = my + sxy / sxx * (at - mx);
            let found = fill(&[x, y], Draw::Expected)[1][0];
            prop_assert!((found - expected).abs() < 2e-2, "{found} {expected}");
        }

        #[test]
        fn donors_are_the_nearest(
            mut values in prop::collection::vec(-20i32..20, 1..30),
            expected in -25i32..25,
        ) {
            values.sort_unstable();
            let donors: Vec<(f64, u64, usize)> = values.iter().map(|value| (f64::from(*value), 0, 0)).collect();
            let found = nearest(&donors, f64::from(expected));
            let mut gaps: Vec<i32> = values.iter().map(|value| (value - expected).abs()).collect();
            gaps.sort_unstable();
            let mut of_found: Vec<i32> = values[found].iter().map(|value| (value - expected).abs()).collect();
            of_found.sort_unstable();
            prop_assert_eq!(&of_found[..], &gaps[..DONORS.min(values.len())]);
        }
    }
}
