//! Logistic regression, for two classes and for many.
//!
//! Minimises `−Σ ln p(class of the row) + l2/2 · |w|²`, with `p` the sigmoid or softmax of `w·x + b`; the intercepts are
//! not drawn to zero. It is scikit-learn's objective with `C = 1 / l2`. The way down is L-BFGS, which wants columns
//! of like scale: the caller standardises.
//!
//! linfa-logistic has the same objective. It is what the tests compare with where its answers are right: 0.8.1 takes
//! one maximum of all scores for its `log_sum_exp`, so that of many classes a row 35 below the surest one loses its loss.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, ArrayViewMut1, Axis, concatenate, s};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::kernels::lbfgs;
use crate::kernels::progress::Progress;

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// How strongly coefficients are drawn to zero.
    pub l2: f64,
    /// Steps of L-BFGS, at most.
    pub max_iterations: u64,
    /// Training ends when the gradient of the mean loss of a row is no longer than this.
    pub tolerance: f64,
}

/// A fitted line for each class, in the order of class indices.
#[derive(Debug, Clone, PartialEq)]
pub struct Weights {
    /// `classes × columns`; for two classes one row, the log-odds of class 1.
    pub coefficients: Array2<f64>,
    pub intercepts: Array1<f64>,
}

/// The intercept of a class that no row has: it is never predicted, and a file can still hold the number.
const NEVER: f64 = -1e9;
/// Rows whose losses are summed one after the other; these sums are then added in order.
const CHUNK: usize = 1024;

/// Learns to tell classes `0..n_classes` apart from rows `x` (`rows × columns`) and their classes `y`.
///
/// Tells `progress` of the loss after each step. Fails when there are no rows, when all rows are
/// of one class, when a value is not finite, on options out of range, and when cancelled.
pub fn fit(x: ArrayView2<f64>, y: &[u32], n_classes: usize, options: &Options, progress: Progress) -> Result<Weights> {
    let present = check(x, y, n_classes, options)?;
    if n_classes == 2 {
        two_classes(x, y, options, progress)
    } else {
        many_classes(x, y, n_classes, &present, options, progress)
    }
}

/// The probability of each class for each row of `x`: `rows × classes`, each row with the sum 1.
pub fn probabilities(weights: &Weights, x: ArrayView2<f64>) -> Array2<f64> {
    let mut scores = x.dot(&weights.coefficients.t()) + &weights.intercepts;
    if weights.intercepts.len() == 1 {
        // The sigmoid is the softmax of two scores of which the first is 0.
        let zeros = Array2::zeros((x.nrows(), 1));
        scores = concatenate![Axis(1), zeros, scores];
    }
    scores.outer_iter_mut().for_each(|row| {
        softmax(row);
    });
    scores
}

/// Turns scores into `exp(sᵢ) / Σ exp(sⱼ)`, and answers `ln Σ exp(sⱼ)`. The largest score is taken out first, so that
/// nothing overflows.
fn softmax(mut scores: ArrayViewMut1<f64>) -> f64 {
    let largest = scores.fold(f64::NEG_INFINITY, |largest, score| largest.max(*score));
    scores.mapv_inplace(|score| (score - largest).exp());
    let sum = scores.sum();
    scores /= sum;
    largest + sum.ln()
}

/// Two classes need one line: the log-odds of class 1.
fn two_classes(x: ArrayView2<f64>, y: &[u32], options: &Options, progress: Progress) -> Result<Weights> {
    let found = lbfgs::minimise(
        Array2::zeros((1, x.ncols() + 1)),
        |place| loss_of_log_odds(place, x, y, options.l2),
        &descent(x.nrows(), options),
        progress,
    )?;
    let (coefficients, intercepts) = found.view().split_at(Axis(1), x.ncols());
    Ok(Weights { coefficients: coefficients.to_owned(), intercepts: intercepts.column(0).to_owned() })
}

fn descent(n_rows: usize, options: &Options) -> lbfgs::Options {
    lbfgs::Options {
        max_iterations: options.max_iterations as usize,
        gradient_tolerance: options.tolerance * n_rows as f64,
    }
}

/// The objective for two classes and its gradient, `Σ (p − y)·x + l2·w` and `Σ (p − y)`, each `1 × (columns + 1)` with
/// the intercept last. One pass over the rows: a row is used for the gradient while it is still at hand.
fn loss_of_log_odds(place: &Array2<f64>, x: ArrayView2<f64>, y: &[u32], l2: f64) -> (f64, Array2<f64>) {
    let columns = x.ncols();
    let (w, intercept) = (place.slice(s![0, ..columns]), place[[0, columns]]);
    let chunks: Vec<_> = x.axis_chunks_iter(Axis(0), CHUNK).zip(y.chunks(CHUNK)).collect();
    let parts: Vec<(f64, Array1<f64>)> =
        chunks.into_par_iter().map(|(x, y)| loss_of_chunk(w, intercept, x, y)).collect();
    let mut loss = l2 / 2.0 * w.dot(&w);
    let mut gradient = place * l2;
    gradient[[0, columns]] = 0.0;
    for (part, slope) in parts {
        loss += part;
        let mut all = gradient.row_mut(0);
        all += &slope;
    }
    (loss, gradient)
}

fn loss_of_chunk(w: ArrayView1<f64>, intercept: f64, x: ArrayView2<f64>, y: &[u32]) -> (f64, Array1<f64>) {
    let columns = x.ncols();
    let (mut loss, mut gap_sum, mut slope) = (0.0, 0.0, Array1::zeros(columns + 1));
    let mut by_coefficient = slope.slice_mut(s![..columns]);
    for (row, class) in x.outer_iter().zip(y) {
        let (score, happened) = (row.dot(&w) + intercept, f64::from(*class));
        // ln(1 + eˢ) − y·s and 1 / (1 + e⁻ˢ) by the exponential that does not overflow
        let small = (-score.abs()).exp();
        loss += score.max(0.0) + small.ln_1p() - happened * score;
        let p = if score >= 0.0 { 1.0 / (1.0 + small) } else { small / (1.0 + small) };
        by_coefficient.scaled_add(p - happened, &row);
        gap_sum += p - happened;
    }
    slope[columns] = gap_sum;
    (loss, slope)
}

/// A line for each of the classes that are `present`.
fn many_classes(
    x: ArrayView2<f64>,
    y: &[u32],
    n_classes: usize,
    present: &[usize],
    options: &Options,
    progress: Progress,
) -> Result<Weights> {
    let mut line = vec![0; n_classes];
    present.iter().enumerate().for_each(|(at, class)| line[*class] = at);
    let lines: Vec<usize> = y.iter().map(|class| line[*class as usize]).collect();
    let found = lbfgs::minimise(
        Array2::zeros((present.len(), x.ncols() + 1)),
        |place| loss_of_lines(place, x, &lines, options.l2),
        &descent(x.nrows(), options),
        progress,
    )?;
    let (coefficients, intercepts) = found.view().split_at(Axis(1), x.ncols());
    let mut weights = Weights {
        coefficients: Array2::zeros((n_classes, x.ncols())),
        intercepts: Array1::from_elem(n_classes, NEVER),
    };
    for (line, class) in present.iter().enumerate() {
        weights.coefficients.row_mut(*class).assign(&coefficients.row(line));
        weights.intercepts[*class] = intercepts[[line, 0]];
    }
    Ok(weights)
}

/// The objective for many classes and its gradient, `(P − Y)ᵀX + l2·W` and `Σ (P − Y)`, each `classes × (columns + 1)`
/// with the intercepts last.
fn loss_of_lines(place: &Array2<f64>, x: ArrayView2<f64>, y: &[usize], l2: f64) -> (f64, Array2<f64>) {
    let columns = x.ncols();
    let coefficients = place.slice(s![.., ..columns]);
    let intercepts = place.column(columns);
    let chunks: Vec<_> = x.axis_chunks_iter(Axis(0), CHUNK).zip(y.chunks(CHUNK)).collect();
    let parts: Vec<(f64, Array2<f64>)> = chunks
        .into_par_iter()
        .map(|(x, y)| {
            let mut gaps = x.dot(&coefficients.t()) + intercepts;
            let mut loss = 0.0;
            for (mut row, class) in gaps.outer_iter_mut().zip(y) {
                loss -= row[*class];
                loss += softmax(row.view_mut());
                row[*class] -= 1.0;
            }
            let mut gradient = Array2::zeros(place.dim());
            gradient.slice_mut(s![.., ..columns]).assign(&gaps.t().dot(&x));
            gradient.column_mut(columns).assign(&gaps.sum_axis(Axis(0)));
            (loss, gradient)
        })
        .collect();
    let mut loss = l2 / 2.0 * coefficients.iter().map(|value| value * value).sum::<f64>();
    let mut gradient = Array2::zeros(place.dim());
    gradient.slice_mut(s![.., ..columns]).assign(&(&coefficients * l2));
    for (part, slope) in parts {
        loss += part;
        gradient += &slope;
    }
    (loss, gradient)
}

/// The classes that have rows, ascending.
fn check(x: ArrayView2<f64>, y: &[u32], n_classes: usize, options: &Options) -> Result<Vec<usize>> {
    if !(options.l2 >= 0.0 && options.l2.is_finite()) {
        return Err(Error::invalid(format!("l2 must be a number of 0 or more, got {}", options.l2)));
    }
    if !(options.tolerance > 0.0 && options.tolerance.is_finite()) {
        return Err(Error::invalid(format!("tolerance must be a number above 0, got {}", options.tolerance)));
    }
    if x.nrows() != y.len() {
        return Err(Error::internal(format!("{} rows with {} classes", x.nrows(), y.len())));
    }
    if y.is_empty() {
        return Err(Error::invalid("there are no rows to learn from"));
    }
    if x.iter().any(|value| !value.is_finite()) {
        return Err(Error::invalid("rows to learn from must hold finite numbers only"));
    }
    let mut rows = vec![0; n_classes];
    for class in y {
        match rows.get_mut(*class as usize) {
            Some(rows) => *rows += 1,
            None => return Err(Error::internal(format!("class {class} of {n_classes} classes"))),
        }
    }
    let present: Vec<usize> = (0..n_classes).filter(|class| rows[*class] > 0).collect();
    if present.len() < 2 {
        return Err(Error::invalid("all rows have the same label, so there is nothing to tell apart")
            .hint("choose rows with at least two labels"));
    }
    Ok(present)
}

#[cfg(test)]
mod tests {
    use linfa::DatasetBase;
    use linfa::traits::Fit;
    use ndarray::array;
    use proptest::prelude::*;

    use super::*;
    use crate::kernels::cholesky::Cholesky;

    const OPTIONS: Options = Options { l2: 1.0, max_iterations: 200, tolerance: 1e-8 };

    fn quietly(x: &Array2<f64>, y: &[u32], n_classes: usize, options: &Options) -> Weights {
        fit(x.view(), y, n_classes, options, &|_| true).unwrap()
    }

    /// Numbers between −1 and 1 that look like noise, the same in every run.
    fn noise(at: usize) -> f64 {
        ((at as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f64 / f64::from(1 << 23) - 1.0
    }

    /// Rows whose class follows a line, not without mistakes.
    fn overlapping(n: usize, n_classes: u32) -> (Array2<f64>, Vec<u32>) {
        let x = Array2::from_shape_fn((n, 2), |(row, column)| noise(row * 2 + column + 1));
        let y = x.outer_iter().enumerate().map(|(row, x)| {
            let place = (x[0] - 0.5 * x[1] + 0.8 * noise(row + 100_000) + 1.5) / 3.0;
            ((place * f64::from(n_classes)) as u32).min(n_classes - 1)
        });
        let y = y.collect();
        (x, y)
    }

    /// Newton's method on the same objective (iteratively reweighted least squares), intercept last.
    fn newton(x: &Array2<f64>, y: &[u32], l2: f64) -> Array1<f64> {
        let x = concatenate![Axis(1), *x, Array2::ones((x.nrows(), 1))];
        let penalty = Array1::from_shape_fn(x.ncols(), |column| if column + 1 == x.ncols() { 1e-12 } else { l2 });
        let mut w = Array1::zeros(x.ncols());
        for _ in 0..30 {
            let p = x.dot(&w).mapv(|score: f64| 1.0 / (1.0 + (-score).exp()));
            let gap = &p - &Array1::from_iter(y.iter().map(|class| f64::from(*class)));
            let gradient = x.t().dot(&gap) + &penalty * &w;
            let curved = &x * &p.mapv(|p| p * (1.0 - p)).insert_axis(Axis(1));
            let hessian = x.t().dot(&curved) + Array2::from_diag(&penalty);
            w -= &Cholesky::of(&hessian).unwrap().solve(gradient.view());
        }
        w
    }

    fn close(a: &Array1<f64>, b: &Array1<f64>, tolerance: f64) -> bool {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < tolerance)
    }

    fn line(weights: &Weights) -> Array1<f64> {
        concatenate![Axis(0), weights.coefficients.row(0), weights.intercepts]
    }

    #[test]
    fn an_intercept_is_the_log_odds() {
        // The column says nothing; three of four rows are of class 1.
        let weights = quietly(&array![[0.0], [0.0], [0.0], [0.0]], &[1, 0, 1, 1], 2, &OPTIONS);
        assert!((weights.intercepts[0] - 3f64.ln()).abs() < 1e-6);
        assert_eq!(weights.coefficients, array![[0.0]]);
        let p = probabilities(&weights, array![[0.0]].view());
        assert!((p[[0, 1]] - 0.75).abs() < 1e-6 && (p.sum() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn newton_finds_the_same() {
        for (n, l2) in [(30, 1.0), (200, 0.1), (200, 10.0)] {
            let (x, y) = overlapping(n, 2);
            let weights = quietly(&x, &y, 2, &Options { l2, ..OPTIONS });
            assert!(close(&line(&weights), &newton(&x, &y, l2), 1e-5), "{weights:?}");
        }
    }

    #[test]
    fn class_one_is_class_one_whichever_comes_first_or_is_larger() {
        for y in [[0, 0, 0, 1, 1], [0, 0, 1, 1, 1], [0, 1, 0, 1, 1], [0, 1, 1, 0, 0]] {
            let x = array![[-2.0], [-1.0], [0.0], [1.0], [2.0]];
            for order in [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0]] {
                let (x, y) = (x.select(Axis(0), &order), order.map(|row| y[row]));
                assert!(close(&line(&quietly(&x, &y, 2, &OPTIONS)), &newton(&x, &y, 1.0), 1e-5), "{y:?}");
            }
        }
    }

    #[test]
    fn linfa_finds_the_same_for_two_classes() {
        for (n, l2) in [(300, 0.01), (300, 1.0), (3000, 1.0), (3000, 100.0)] {
            let (x, y) = overlapping(n, 2);
            let targets: Array1<u32> = y.iter().copied().collect();
            let theirs = linfa_logistic::LogisticRegression::default()
                .alpha(l2)
                .gradient_tolerance(1e-8)
                .max_iterations(1000)
                .fit(&DatasetBase::new(x.view(), targets))
                .unwrap();
            let sign = if theirs.labels().pos.class == 1 { 1.0 } else { -1.0 };
            let theirs = concatenate![Axis(0), theirs.params().view(), array![theirs.intercept()]] * sign;
            let ours = line(&quietly(&x, &y, 2, &Options { l2, ..OPTIONS }));
            assert!(close(&ours, &theirs, 1e-4), "{n} rows, l2 {l2}: {ours} and {theirs}");
        }
    }

    #[test]
    fn rows_told_apart_without_a_mistake_end_in_an_answer() {
        let x = Array2::from_shape_fn((200, 1), |(row, _)| row as f64 / 100.0 - 1.0);
        let y: Vec<u32> = (0..200).map(|row| u32::from(row >= 100)).collect();
        let weights = quietly(&x, &y, 2, &Options { l2: 0.0, max_iterations: 1000, tolerance: 1e-6 });
        let p = probabilities(&weights, x.view());
        assert!((0..200).all(|row| p[[row, y[row] as usize]] > 0.5));
    }

    #[test]
    fn linfa_finds_the_same_for_many_classes() {
        let (x, y) = overlapping(300, 3);
        let targets: Array1<u32> = y.iter().copied().collect();
        let theirs = linfa_logistic::MultiLogisticRegression::default()
            .alpha(OPTIONS.l2)
            .gradient_tolerance(1e-6)
            .fit(&DatasetBase::new(x.view(), targets))
            .unwrap()
            .predict_probabilities(&x);
        let ours = probabilities(&quietly(&x, &y, 3, &OPTIONS), x.view());
        assert!((ours - theirs).iter().all(|gap| gap.abs() < 1e-5));
    }

    #[test]
    fn classes_without_a_mistake_are_learnt_too() {
        // Hardly held back, the scores spread far: here linfa's way would lose its.
        let x = Array2::from_shape_fn((900, 1), |(row, _)| row as f64 / 150.0 - 3.0);
        let y: Vec<u32> = (0..900).map(|row| row / 300).collect();
        let weights = quietly(&x, &y, 3, &Options { l2: 1e-4, max_iterations: 2000, tolerance: 1e-7 });
        let p = probabilities(&weights, x.view());
        assert!((0..900).all(|row| p[[row, y[row] as usize]] > 0.5));
        let scores = x.dot(&weights.coefficients.t()) + &weights.intercepts;
        assert!(scores.fold(0.0, |largest: f64, score| largest.max(*score)) > 100.0);
    }

    #[test]
    fn the_same_bits_on_one_thread_and_on_many() {
        for n_classes in [2, 3] {
            let (x, y) = overlapping(3000, n_classes);
            let on = |threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| quietly(&x, &y, n_classes as usize, &OPTIONS))
            };
            assert_eq!(on(1), on(3));
        }
    }

    #[test]
    fn two_of_many_classes_are_as_two() {
        // The softmax of two lines has each with half of the coefficient: l2 then weighs half as much.
        let (x, y) = overlapping(100, 2);
        let apart: Vec<u32> = y.iter().map(|class| class * 2).collect();
        let many = quietly(&x, &apart, 4, &Options { l2: 2.0, ..OPTIONS });
        let two = quietly(&x, &y, 2, &OPTIONS);
        let (many, two) = (probabilities(&many, x.view()), probabilities(&two, x.view()));
        assert_eq!(many.ncols(), 4);
        for row in 0..100 {
            assert!((many[[row, 0]] - two[[row, 0]]).abs() < 1e-5 && (many[[row, 2]] - two[[row, 1]]).abs() < 1e-5);
            assert_eq!((many[[row, 1]], many[[row, 3]]), (0.0, 0.0));
        }
    }

    #[test]
    fn many_classes_follow_the_line() {
        let (x, y) = overlapping(300, 4);
        let p = probabilities(&quietly(&x, &y, 4, &OPTIONS), array![[-1.0, 0.0], [1.0, 0.0]].view());
        assert!(p[[0, 0]] > p[[0, 3]] && p[[1, 3]] > p[[1, 0]]);
    }

    #[test]
    fn gradients_are_those_of_the_losses() {
        let (x, y) = overlapping(40, 2);
        let at = |place: &Array2<f64>| loss_of_log_odds(place, x.view(), &y, 0.5);
        check_gradient(&array![[0.3, -0.2, 0.1]], at);
        let (x, y) = overlapping(40, 3);
        let lines: Vec<usize> = y.iter().map(|class| *class as usize).collect();
        let at = |place: &Array2<f64>| loss_of_lines(place, x.view(), &lines, 0.5);
        check_gradient(&array![[0.3, -0.2, 0.1], [-0.4, 0.5, 0.2], [0.0, 0.1, -0.3]], at);
    }

    /// Against the differences of the loss itself.
    fn check_gradient(place: &Array2<f64>, at: impl Fn(&Array2<f64>) -> (f64, Array2<f64>)) {
        let (_, gradient) = at(place);
        for (index, slope) in gradient.indexed_iter() {
            let loss = |step: f64| {
                let mut moved = place.clone();
                moved[index] += step;
                at(&moved).0
            };
            assert!((slope - (loss(1e-5) - loss(-1e-5)) / 2e-5).abs() < 1e-5);
        }
    }

    #[test]
    fn columns_of_wild_scale_still_end_in_an_answer() {
        let (mut x, y) = overlapping(100, 2);
        x.column_mut(0).mapv_inplace(|value| value * 1e6);
        let weights = quietly(&x, &y, 2, &OPTIONS);
        assert!(probabilities(&weights, x.view()).iter().all(|p| (0.0..=1.0).contains(p)));
        let (mut x, y) = overlapping(100, 3);
        x.column_mut(0).mapv_inplace(|value| value * 1e6);
        let weights = quietly(&x, &y, 3, &OPTIONS);
        assert!(probabilities(&weights, x.view()).iter().all(|p| (0.0..=1.0).contains(p)));
    }

    #[test]
    fn what_cannot_be_learnt_from_is_refused() {
        let message = |x: Array2<f64>, y: &[u32]| fit(x.view(), y, 2, &OPTIONS, &|_| true).unwrap_err().message;
        assert_eq!(message(Array2::zeros((0, 1)), &[]), "there are no rows to learn from");
        assert!(message(array![[1.0], [2.0]], &[1, 1]).starts_with("all rows have the same label"));
        assert!(message(array![[1.0], [f64::NAN]], &[0, 1]).contains("finite"));
        let x = array![[1.0], [2.0]];
        assert!(fit(x.view(), &[0, 1], 2, &Options { l2: -1.0, ..OPTIONS }, &|_| true).is_err());
        assert!(fit(x.view(), &[0, 1], 2, &Options { tolerance: 0.0, ..OPTIONS }, &|_| true).is_err());
        assert!(fit(x.view(), &[0, 2], 2, &OPTIONS, &|_| true).is_err());
        assert_eq!(fit(x.view(), &[0, 1], 2, &OPTIONS, &|_| false), Err(Error::cancelled()));
    }

    proptest! {
        #[test]
        fn probabilities_sum_to_one(
            cells in prop::collection::vec(-1e4f64..1e4, 12),
            lines in prop::sample::select(vec![1usize, 3]),
        ) {
            let weights = Weights {
                coefficients: Array2::from_shape_fn((lines, 2), |(line, column)| cells[line * 2 + column]),
                intercepts: Array1::from_shape_fn(lines, |line| cells[6 + line]),
            };
            let p = probabilities(&weights, array![[cells[9], cells[10]], [0.0, cells[11]]].view());
            prop_assert_eq!(p.dim(), (2, lines.max(2)));
            prop_assert!(p.iter().all(|p| (0.0..=1.0).contains(p)));
            prop_assert!(p.sum_axis(Axis(1)).iter().all(|sum| (sum - 1.0).abs() < 1e-12));
        }
    }
}
