//! Ratings foretold by alternating least squares on what people said (Zhou, Wilkinson, Schreiber, Pan 2008).
//!
//! "Large-scale Parallel Collaborative Filtering for the Netflix Prize", AAIM 2008, with the biases of Koren, Bell and
//! Volinsky ("Matrix Factorization Techniques for Recommender Systems", 2009). A rating is taken to be
//!
//! ```text
//! r = μ + bᵤ + bᵢ + x·y
//! ```
//!
//! and only those that were given count: `Σ (r − μ − bᵤ − bᵢ − x·y)² + λ Σ nᵤ(|x|² + bᵤ²) + λ Σ nᵢ(|y|² + bᵢ²)` is made
//! small, where `n` is how many ratings a customer gave or a product got. With one side held still, each row of the
//! other is a ridge regression, of `x` and `bᵤ` together. As in the implicit case a few steps of conjugate gradients go
//! on from where the last iteration left it.

use std::ops::Range;

use ndarray::{Array1, Array2, ArrayView1, Axis};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::kernels::als::descent::{Descent, Effort, Rule};
use crate::kernels::als::gather::{Fixed, Rows};
use crate::kernels::als::sweep::{Moved, chunks};
use crate::kernels::als::{Factors, Start, check_item, undetermined};
use crate::kernels::cholesky::Cholesky;
use crate::kernels::csr::Csr;
use crate::kernels::dense::Dense;
use crate::kernels::progress::{Progress, Step};
use crate::kernels::simd;

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// Numbers in the vector of a customer or product, biases not counted; at least 1.
    pub factors: usize,
    /// Passes over both sides.
    pub iterations: usize,
    /// λ, of each rating; above 0.
    pub regularization: f32,
}

/// What was learnt.
#[derive(Debug, Clone, PartialEq)]
pub struct Ratings {
    /// μ, the mean of all ratings.
    pub mean: f32,
    /// Rows `(x, bᵤ, 1)` and `(y, 1, bᵢ)`, two numbers longer than the factors: their inner product is what a rating
    /// differs from the mean by. Who or what has no rating has zeros, but for the 1.
    pub factors: Factors,
}

impl Ratings {
    /// The rating that the customer of this row of [`Factors::users`] would give.
    pub fn predict(&self, user: ArrayView1<f32>, item: u32) -> f32 {
        self.mean + user.dot(&self.factors.items.row(item as usize))
    }

    /// The rating to expect of a customer for a product; of `None` an average one is meant.
    pub fn expected(&self, user: Option<u32>, item: Option<u32>) -> f32 {
        let Factors { users, items } = &self.factors;
        let (item_one, user_one) = (items.ncols() - 2, items.ncols() - 1);
        match (user, item) {
            (Some(user), Some(item)) => self.predict(users.row(user as usize), item),
            (Some(user), None) => self.mean + users[(user as usize, item_one)],
            (None, Some(item)) => self.mean + items[(item as usize, user_one)],
            (None, None) => self.mean,
        }
    }

    /// The row of a customer who rated thus: `rated` holds `(item, rating)`. Exact, in f64.
    ///
    /// An item named twice counts twice. Without any rating the answer is that of an average customer: zeros and the 1.
    /// Fails on an item that there is not and on a rating that is no number.
    pub fn fold_in(&self, rated: &[(u32, f32)], regularization: f32) -> Result<Array1<f32>> {
        let items = self.factors.items.view();
        let n = items.ncols() - 1;
        let mut row = Array1::zeros(n + 1);
        row[n] = 1.0;
        let Some(Regression { y, root, gaps }) = self.regression(rated, regularization)? else { return Ok(row) };
        let solved = root.solve(y.t().dot(&gaps).view());
        row.iter_mut().zip(solved).for_each(|(to, from)| *to = from as f32);
        Ok(row)
    }

    /// What each entry of `rated` adds to the rating of `item` for the one whom [`Ratings::fold_in`] answers, and what
    /// is left: the mean and the product's bias. For `x = A⁻¹Yᵀg` with gaps `g = r − μ − bᵢ` the sum is `Σ yᵢᵀA⁻¹yⱼ gⱼ`.
    pub fn explain(&self, rated: &[(u32, f32)], regularization: f32, item: u32) -> Result<(Vec<f32>, f32)> {
        let items = self.factors.items.view();
        check_item(item, items)?;
        let n = items.ncols() - 1;
        let row = items.row(item as usize);
        let rest = self.mean + row[n];
        let Some(Regression { y, root, gaps }) = self.regression(rated, regularization)? else {
            return Ok((Vec::new(), rest));
        };
        let weights = root.solve(row.slice(ndarray::s![..n]).mapv(f64::from).view());
        Ok(((y.dot(&weights) * gaps).mapv(|share| share as f32).to_vec(), rest))
    }

    /// `None` without ratings.
    fn regression(&self, rated: &[(u32, f32)], regularization: f32) -> Result<Option<Regression>> {
        let items = self.factors.items.view();
        for (item, rating) in rated {
            check_item(*item, items)?;
            check_rating(*rating)?;
        }
        if rated.is_empty() {
            return Ok(None);
        }
        let n = items.ncols() - 1;
        let chosen: Vec<usize> = rated.iter().map(|(item, _)| *item as usize).collect();
        let rows = items.select(Axis(0), &chosen).mapv(f64::from);
        let ratings: Array1<f64> = rated.iter().map(|(_, rating)| f64::from(*rating) - f64::from(self.mean)).collect();
        let gaps = ratings - rows.column(n);
        let y = rows.slice_move(ndarray::s![.., ..n]);
        let mut a = y.t().dot(&y);
        a.diag_mut().mapv_inplace(|value| value + f64::from(regularization) * rated.len() as f64);
        let root = Cholesky::of(&a).ok_or_else(undetermined)?;
        Ok(Some(Regression { y, root, gaps }))
    }
}

/// What one customer's row `(x, bᵤ)` solves: `(YᵀY + λnI)(x, bᵤ) = Yᵀ gaps` over the products that were rated.
struct Regression {
    /// Rows `(y, 1)`.
    y: Array2<f64>,
    /// Of the matrix.
    root: Cholesky,
    /// What is left of each rating without the mean and the product's bias.
    gaps: Array1<f64>,
}

/// Steps for each row in each iteration: what is in the way is mostly one direction, that of the biases.
const EFFORT: Effort = Effort { steps: 4, tolerance: 1e-8, settles: false };
const SETTLE: Effort = Effort { steps: 50, tolerance: 1e-11, settles: true };

/// Learns from `ratings` (customers × products, any finite numbers), from `start` on or from chance.
///
/// Tells `progress` of each iteration with its objective, and asks it in between by telling the last one again. At the
/// end the customers' rows are solved as [`Ratings::fold_in`] would for the same ratings, but for rounding. Fails on
/// ratings that are not finite, on options out of range, and when cancelled.
pub fn fit(ratings: &Csr, options: &Options, start: Option<Start>, seed: u64, progress: Progress) -> Result<Ratings> {
    let Options { factors, iterations, regularization } = *options;
    if factors == 0 {
        return Err(Error::invalid("als needs at least 1 factor, got 0"));
    }
    if !(regularization > 0.0 && regularization.is_finite()) {
        return Err(Error::invalid(format!("regularization must be a number above 0, got {regularization}")));
    }
    ratings.values.iter().try_for_each(|rating| check_rating(*rating))?;
    let mean = ratings.values.iter().map(|rating| f64::from(*rating)).sum::<f64>() / ratings.nnz().max(1) as f64;
    let mean = mean as f32;
    let mut gaps = ratings.clone();
    gaps.values.par_iter_mut().for_each(|rating| *rating -= mean);
    let by_item = gaps.transpose();

    let (mut users, mut items) = super::beginning(ratings, factors + 2, start, seed)?;
    let width = items.width();
    // A customer's 1 is the last number, a product's the one before it; the other is the bias.
    let (user_one, item_one) = (factors + 1, factors);
    users.values_mut().chunks_exact_mut(width).for_each(|row| row[user_one] = 1.0);
    for row in items.values_mut().chunks_exact_mut(width) {
        row[item_one] = 1.0;
        if start.is_none() {
            row[user_one] = 0.0;
        }
    }
    let mut reached = Step { done: 0, total: iterations, loss: None };
    for done in 1..=iterations {
        let go_on = || progress(reached);
        let task = Task { regularization, one: user_one, effort: EFFORT, go_on: &go_on };
        let moved_users = sweep(&mut users, &gaps, &items, task)?;
        let task = Task { one: item_one, ..task };
        let loss = sweep(&mut items, &by_item, &users, task)?.loss + moved_users.penalty;
        if !loss.is_finite() {
            return Err(Error::invalid("the factors grew beyond all bounds")
                .hint("raise regularization, or scale the ratings down"));
        }
        reached = Step { done, total: iterations, loss: Some(loss) };
        if !progress(reached) {
            return Err(Error::cancelled());
        }
    }
    let task = Task { regularization, one: user_one, effort: SETTLE, go_on: &|| progress(reached) };
    sweep(&mut users, &gaps, &items, task)?;
    let factors = Factors { users: users.to_array(factors + 2), items: items.to_array(factors + 2) };
    Ok(Ratings { mean, factors })
}

#[derive(Clone, Copy)]
struct Task<'a> {
    regularization: f32,
    /// The place of the 1 in the rows that move.
    one: usize,
    effort: Effort,
    /// Is asked after every chunk of rows.
    go_on: &'a (dyn Fn() -> bool + Sync),
}

/// Moves every row of `x`, whose ratings `rows` holds by row of `fixed`.
fn sweep(x: &mut Dense, rows: &Csr, fixed: &Dense, task: Task) -> Result<Moved> {
    let fixed = Fixed { width: fixed.width(), rows: Rows::Whole(fixed.values()) };
    let moved: Vec<Moved> = chunks(x, rows)
        .into_par_iter()
        .with_max_len(1)
        .map(|(range, x)| {
            let moved = move_chunk(fixed, rows, range, x, &task);
            if (task.go_on)() { Ok(moved) } else { Err(Error::cancelled()) }
        })
        .collect::<Result<_>>()?;
    Ok(moved.into_iter().sum())
}

fn move_chunk(fixed: Fixed, rows: &Csr, range: Range<usize>, x: &mut [f32], task: &Task) -> Moved {
    let Task { regularization, one, effort, .. } = *task;
    let descent = Descent {
        fixed,
        rows,
        range: range.clone(),
        z: x,
        rule: Rule::Opinion { regularization },
        scales: &[],
        held: Some(one),
        effort,
    };
    let loss = simd::run(descent);
    // The 1 of each row costs nothing.
    let (mut penalty, mut free) = (0.0, 0.0);
    for (row, x) in range.zip(x.chunks_exact(fixed.width)) {
        let lambda = f64::from(regularization * rows.row(row).0.len() as f32);
        penalty += lambda * f64::from(x.iter().map(|value| value * value).sum::<f32>() - 1.0);
        free += lambda;
    }
    Moved { loss: loss - free, penalty }
}

fn check_rating(rating: f32) -> Result<()> {
    if rating.is_finite() {
        return Ok(());
    }
    Err(Error::invalid(format!("ratings must be numbers, got {rating}")))
}

/// The root of the mean squared difference between what is predicted and `ratings`; 0 without any.
pub fn rmse(learnt: &Ratings, ratings: &Csr) -> f64 {
    let squares: f64 = (0..ratings.n_rows)
        .map(|user| {
            let (items, given) = ratings.row(user);
            let row = learnt.factors.users.row(user);
            let gap = |(item, rating): (&u32, &f32)| f64::from(learnt.predict(row, *item) - rating).powi(2);
            items.iter().zip(given).map(gap).sum::<f64>()
        })
        .sum();
    (squares / ratings.nnz().max(1) as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use proptest::prelude::*;

    use super::*;

    const OPTIONS: Options = Options { factors: 3, iterations: 20, regularization: 0.1 };

    /// Ratings from 1 to 5 by a product's worth, a customer's mildness and two tastes; the last of each have none.
    fn rated(n_users: u32, n_items: u32) -> Csr {
        let rating = |user: u32, item: u32| {
            let taste = if (user + item).is_multiple_of(2) { 1.0 } else { -1.0 };
            3.0 + (item % 3) as f32 * 0.5 - 0.5 + (user % 5) as f32 * 0.2 - 0.4 + taste
        };
        let entries: Vec<_> = (0..n_users - 1)
            .flat_map(|user| (0..n_items - 1).map(move |item| (user, item)))
            .filter(|(user, item)| (user * 7 + item * 3) % 5 < 3)
            .map(|(user, item)| (user, item, rating(user, item)))
            .collect();
        Csr::from_triplets(n_users as usize, n_items as usize, &entries).unwrap()
    }

    fn quietly(ratings: &Csr, options: &Options, seed: u64) -> Ratings {
        fit(ratings, options, None, seed, &|_| true).unwrap()
    }

    /// The sum that is made small, from its printed form.
    fn objective(ratings: &Csr, learnt: &Ratings, options: &Options) -> f64 {
        let penalty = |rows: &Csr, side: &Array2<f32>| -> f64 {
            let one = |row: usize| {
                let size: f64 = side.row(row).iter().map(|value| f64::from(*value).powi(2)).sum();
                f64::from(options.regularization) * rows.row(row).0.len() as f64 * (size - 1.0)
            };
            (0..rows.n_rows).map(one).sum()
        };
        rmse(learnt, ratings).powi(2) * ratings.nnz() as f64
            + penalty(ratings, &learnt.factors.users)
            + penalty(&ratings.transpose(), &learnt.factors.items)
    }

    #[test]
    fn ratings_are_found_again_and_foretold() {
        let all = rated(60, 40);
        let mut some = Vec::new();
        let mut kept_back = Vec::new();
        for user in 0..60u32 {
            let (items, ratings) = all.row(user as usize);
            for (item, rating) in items.iter().zip(ratings) {
                let place = if (user * 31 + item * 17) % 11 == 3 { &mut kept_back } else { &mut some };
                place.push((user, *item, *rating));
            }
        }
        let of = |triplets: &[(u32, u32, f32)]| Csr::from_triplets(60, 40, triplets).unwrap();
        let learnt = quietly(&of(&some), &OPTIONS, 1);
        assert!(rmse(&learnt, &of(&some)) < 0.2, "{}", rmse(&learnt, &of(&some)));
        assert!(rmse(&learnt, &of(&kept_back)) < 0.2, "{}", rmse(&learnt, &of(&kept_back)));
        // Without tastes, by means and biases alone, it would be 1.
        let nobody = learnt.factors.users.row(59);
        assert_eq!(nobody.to_vec(), [0.0, 0.0, 0.0, 0.0, 1.0]);
        let bias = learnt.factors.items[[0, 4]];
        assert_eq!(learnt.predict(nobody, 0), learnt.mean + bias);
    }

    #[test]
    fn training_leaves_what_folding_in_answers() {
        let ratings = rated(90, 40);
        for factors in [1, 5, 14, 33, 62] {
            let options = Options { factors, iterations: 5, regularization: 0.05 };
            let learnt = quietly(&ratings, &options, 1);
            for user in 0..90 {
                let (items, given) = ratings.row(user);
                let said: Vec<_> = items.iter().copied().zip(given.iter().copied()).collect();
                let again = learnt.fold_in(&said, options.regularization).unwrap();
                let gap = (&again - &learnt.factors.users.row(user)).mapv(f32::abs).into_iter().fold(0.0, f32::max);
                assert!(gap < 1e-3, "{factors} factors, {gap} apart");
            }
        }
    }

    #[test]
    fn the_objective_is_told_and_falls() {
        let ratings = rated(70, 50);
        let losses = Mutex::new(Vec::new());
        let told = |step: Step| {
            losses.lock().unwrap().push((step.done, step.loss));
            true
        };
        let learnt = fit(&ratings, &OPTIONS, None, 5, &told).unwrap();
        let mut losses = losses.into_inner().unwrap();
        losses.dedup();
        let losses: Vec<f64> = losses.into_iter().filter_map(|(_, loss)| loss).collect();
        assert_eq!(losses.len(), 20);
        assert!(losses.windows(2).all(|pair| pair[1] <= pair[0] * 1.000_1), "{losses:?}");
        // The customers were solved once more since.
        let end = objective(&ratings, &learnt, &OPTIONS);
        assert!(end <= losses[19] && end > 0.98 * losses[19], "{end} after {}", losses[19]);
    }

    #[test]
    fn what_was_said_makes_the_rating() {
        let ratings = rated(60, 40);
        let learnt = quietly(&ratings, &OPTIONS, 1);
        for user in [0, 31, 59] {
            let (items, given) = ratings.row(user);
            let said: Vec<_> = items.iter().copied().zip(given.iter().copied()).collect();
            for item in [0, 13, 38, 39] {
                let (shares, rest) = learnt.explain(&said, OPTIONS.regularization, item).unwrap();
                let rating = learnt.predict(learnt.factors.users.row(user), item);
                assert!((shares.iter().sum::<f32>() + rest - rating).abs() < 1e-4);
            }
        }
        assert!(learnt.explain(&[], OPTIONS.regularization, 40).is_err());
    }

    #[test]
    fn training_goes_on_from_known_ratings() {
        let ratings = rated(60, 40);
        let before = quietly(&ratings, &OPTIONS, 1);
        let users: Vec<_> = (0..60).map(|user| Some(user).filter(|user| *user != 4)).collect();
        let items: Vec<_> = (0..40).map(|item| Some(item).filter(|item| *item != 4)).collect();
        let start = Start { factors: &before.factors, users: &users, items: &items };
        let options = Options { iterations: 2, ..OPTIONS };
        let further = fit(&ratings, &options, Some(start), 3, &|_| true).unwrap();
        let (reached, before) = (objective(&ratings, &further, &OPTIONS), objective(&ratings, &before, &OPTIONS));
        assert!(reached < 1.02 * before, "{reached} after {before}");
    }

    #[test]
    fn the_same_bits_on_one_thread_and_on_many() {
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| quietly(&rated(300, 120), &OPTIONS, 11))
        };
        assert_eq!(on(1), on(3));
    }

    #[test]
    fn any_finite_ratings_will_do() {
        let none = Csr::from_triplets(2, 2, &[]).unwrap();
        assert_eq!(quietly(&none, &OPTIONS, 1).mean, 0.0);
        let one = Csr::from_triplets(1, 1, &[(0, 0, -3.0)]).unwrap();
        let learnt = quietly(&one, &OPTIONS, 1);
        assert!((learnt.predict(learnt.factors.users.row(0), 0) + 3.0).abs() < 1e-3);
        let odd = Csr::from_triplets(1, 1, &[(0, 0, f32::NAN)]).unwrap();
        let error = fit(&odd, &OPTIONS, None, 1, &|_| true).unwrap_err();
        assert_eq!(error.message, "ratings must be numbers, got NaN");
        assert!(fit(&one, &Options { factors: 0, ..OPTIONS }, None, 1, &|_| true).is_err());
        assert!(fit(&one, &Options { regularization: 0.0, ..OPTIONS }, None, 1, &|_| true).is_err());
        assert_eq!(fit(&one, &OPTIONS, None, 1, &|_| false), Err(Error::cancelled()));
        assert!(learnt.fold_in(&[(1, 1.0)], 0.1).is_err());
        assert!(learnt.fold_in(&[(0, f32::INFINITY)], 0.1).is_err());
    }

    proptest! {
        #[test]
        fn a_folded_in_row_solves_the_normal_equations(
            cells in prop::collection::vec(-1.0f64..1.0, 24),
            rated in prop::collection::vec((0u32..6, -2.0f32..5.0), 1..9),
            lambda in 0.01f32..2.0,
        ) {
            let mut items = Array2::from_shape_vec((6, 4), cells.iter().map(|cell| *cell as f32).collect()).unwrap();
            items.column_mut(2).fill(1.0);
            let learnt = Ratings { mean: 1.5, factors: Factors { users: Array2::zeros((0, 4)), items } };
            let row = learnt.fold_in(&rated, lambda).unwrap().mapv(f64::from);
            prop_assert_eq!(row[3], 1.0);
            // The gradient of the printed sum is zero there.
            for at in 0..3 {
                let pull: f64 = rated.iter().map(|(item, rating)| {
                    let item = learnt.factors.items.row(*item as usize).mapv(f64::from);
                    (f64::from(*rating) - 1.5 - item.dot(&row)) * item[at]
                }).sum();
                let gap = pull - f64::from(lambda) * rated.len() as f64 * row[at];
                prop_assert!(gap.abs() < 1e-4, "{}", gap);
            }
        }
    }
}
