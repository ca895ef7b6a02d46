//! Recommendations by alternating least squares on what people did (Hu, Koren, Volinsky 2008).
//!
//! "Collaborative Filtering for Implicit Feedback Datasets", ICDM 2008. Every customer and every product gets a
//! vector of `factors` numbers; a high inner product says "this one would want that". What was done is no rating but
//! evidence: an entry `r > 0` says the preference is 1 with confidence `c = 1 + alpha·r`, no entry (or a zero) says it
//! is 0 with confidence 1. With one side held still, each row of the other is a small least squares problem:
//!
//! ```text
//! x = (YᵀY + Yᵀ(C − I)Y + λI)⁻¹ YᵀC p
//! ```
//!
//! λ may grow with what a row did ([`Ridge`]), after Rendle, Krichene, Zhang and Koren, "Revisiting the Performance of
//! iALS on Item Recommendation Benchmarks", RecSys 2022.
//!
//! Training does not solve it exactly: a few steps of conjugate gradients from where the last iteration left off are
//! enough (Takács, Pilászy, Tikk 2011). They are taken in coordinates in which `YᵀY + λI` is the identity, where two
//! steps come further than three or four in the plain ones, and each costs only the row's own entries.

mod descent;
pub mod explicit;
mod gather;
mod sweep;

use ndarray::{Array1, Array2, ArrayView2, Axis};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::kernels::als::descent::Effort;
use crate::kernels::als::sweep::{Task, room, sweep};
use crate::kernels::cholesky::Cholesky;
use crate::kernels::csr::{Csr, check_rating};
use crate::kernels::dense::{self, Dense, PANEL};
use crate::kernels::progress::{Progress, Step};

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// Numbers in the vector of a customer or product; at least 1.
    pub factors: usize,
    /// Passes over both sides.
    pub iterations: usize,
    /// λ; the mean of it where it varies.
    pub regularization: f32,
    /// How much surer one unit of rating makes us.
    pub alpha: f32,
    /// How λ varies with how much a customer or product did ([`Ridge`]): 0, it does not, to 1, in proportion.
    pub frequency_scaling: f32,
}

/// What was learnt: `n_users × factors` and `n_items × factors`. Who or what has no entry has a row of zeros.
#[derive(Debug, Clone, PartialEq)]
pub struct Factors {
    pub users: Array2<f32>,
    pub items: Array2<f32>,
}

/// Where training goes on from: factors of an earlier time, when other customers and products may have been known.
#[derive(Debug, Clone, Copy)]
pub struct Start<'a> {
    pub factors: &'a Factors,
    /// For each customer of now the row there, or `None` for a new one.
    pub users: &'a [Option<u32>],
    pub items: &'a [Option<u32>],
}

/// The λ of each customer or product: `regularization · w^frequency_scaling`, where `w = n + alpha · Σr` is the sum of
/// the row's confidences over all `n` of the other side, divided by the mean of these powers.
///
/// Up to a constant this is the `λ (|I(u)| + α₀|I|)^ν` of Rendle and others, whose weight `α₀` of what was not seen is
/// our `1/alpha`. Divided by the mean, λ says the same whatever the exponent; an exponent of 0 leaves it plain.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ridge {
    regularization: f32,
    alpha: f32,
    exponent: f32,
    mean: f64,
}

impl Ridge {
    /// For these rows and columns, of which those without an entry do not count.
    pub fn of(interactions: &Csr, options: &Options) -> Ridge {
        let Options { regularization, alpha, frequency_scaling: exponent, .. } = *options;
        let mut ridge = Ridge { regularization, alpha, exponent, mean: 1.0 };
        if exponent == 0.0 {
            return ridge;
        }
        let mut by_item = vec![0.0; interactions.n_cols];
        let mut by_user = Vec::with_capacity(interactions.n_rows);
        for user in 0..interactions.n_rows {
            let (items, ratings) = interactions.row(user);
            items.iter().zip(ratings).for_each(|(item, rating)| by_item[*item as usize] += f64::from(*rating));
            by_user.push(ratings.iter().map(|rating| f64::from(*rating)).sum::<f64>());
        }
        let (mut sum, mut count) = (0.0, 0.0f64);
        for (sums, n) in [(by_user, interactions.n_cols), (by_item, interactions.n_rows)] {
            for rated in sums.into_iter().filter(|rated| *rated > 0.0) {
                sum += ridge.power(n, rated);
                count += 1.0;
            }
        }
        ridge.mean = sum / count.max(1.0);
        ridge
    }

    fn is_plain(&self) -> bool {
        self.exponent == 0.0
    }

    /// Of a row with these ratings of `n` on the other side.
    fn of_row(&self, n: usize, ratings: &[f32]) -> f32 {
        if self.is_plain() {
            return self.regularization;
        }
        let rated = ratings.iter().map(|rating| f64::from(*rating)).sum();
        (f64::from(self.regularization) * self.power(n, rated) / self.mean) as f32
    }

    fn power(&self, n: usize, rated: f64) -> f64 {
        (n as f64 + f64::from(self.alpha) * rated).powf(f64::from(self.exponent))
    }
}

/// How far a row is moved in each iteration: a third step gains less than one more iteration does.
const EFFORT: Effort = Effort { steps: 2, tolerance: 1e-7, settles: false };
/// And at the very end, where nothing comes after that could go on from there.
const SETTLE: Effort = Effort { steps: 20, tolerance: 1e-9, settles: true };

/// Learns factors from `interactions` (customers × products, ratings of 0 or more), from `start` on or from chance.
///
/// Tells `progress` of each iteration with its [`objective`], and asks it in between by telling the last one again. At
/// the end the customers' rows are solved as [`Solver`] would for the same entries, but for rounding. Fails on ratings
/// below zero or not finite, on options out of range, on a system without one answer, and when cancelled.
pub fn fit(
    interactions: &Csr,
    options: &Options,
    start: Option<Start>,
    seed: u64,
    progress: Progress,
) -> Result<Factors> {
    check(options)?;
    interactions.check_ratings()?;
    let by_item = interactions.transpose();
    let (mut users, mut items) = beginning(interactions, options.factors, start, seed)?;
    let (n_users, n_items, width) = (interactions.n_rows, interactions.n_cols, items.width());
    // Room for either side as the other sees it, kept: fresh memory would have to be cleared each time.
    let most = room(n_items, width, true).max(room(n_users, width, false));
    let mut whitened = Dense::zeros(most.div_ceil(width), width);
    let ridge = Ridge::of(interactions, options);
    let mut reached = Step { done: 0, total: options.iterations, loss: None };
    for done in 1..=options.iterations {
        let go_on = || progress(reached);
        let task = Task { ridge, factors: options.factors, effort: EFFORT, go_on: &go_on };
        let moved_users = sweep(&mut users, interactions, &items, &mut whitened, task)?;
        let loss = sweep(&mut items, &by_item, &users, &mut whitened, task)?.loss + moved_users.penalty;
        if !loss.is_finite() {
            return Err(Error::invalid("the factors grew beyond all bounds")
                .hint("lower alpha, raise regularization, or scale the ratings down"));
        }
        reached = Step { done, total: options.iterations, loss: Some(loss) };
        if !progress(reached) {
            return Err(Error::cancelled());
        }
    }
    let go_on = || progress(reached);
    let task = Task { ridge, factors: options.factors, effort: SETTLE, go_on: &go_on };
    sweep(&mut users, interactions, &items, &mut whitened, task)?;
    Ok(Factors { users: users.to_array(options.factors), items: items.to_array(options.factors) })
}

/// Bytes that [`fit`] holds at its most for `n_entries` of that many customers and products, the interactions that it
/// is given not counted.
pub fn bytes(n_users: usize, n_items: usize, n_entries: usize, factors: usize) -> usize {
    let width = factors.next_multiple_of(PANEL);
    let most = room(n_items, width, true).max(room(n_users, width, false));
    let vectors = (n_users + n_items).saturating_mul(width).saturating_add(most).saturating_mul(4);
    // And once more what is given back, as it is copied; the interactions the other way round.
    let answer = (n_users + n_items).saturating_mul(factors).saturating_mul(4);
    vectors.saturating_add(answer).saturating_add(n_entries.saturating_mul(8)).saturating_add(n_items.saturating_mul(8))
}

/// Numbers that are small next to what training makes of them, and then those that `start` has.
const CHANCE: f32 = 0.1;
/// Smaller where other rows are known: these are to say where the new ones go.
const FRESH: f32 = 0.01;
/// Rows that are filled from one stream of chances.
const RANDOM_ROWS: usize = 1 << 10;

fn beginning(interactions: &Csr, factors: usize, start: Option<Start>, seed: u64) -> Result<(Dense, Dense)> {
    let (n_users, n_items) = (interactions.n_rows, interactions.n_cols);
    let mut users = Dense::zeros(n_users, factors);
    let mut items = Dense::zeros(n_items, factors);
    let spread = if start.is_some() { FRESH } else { CHANCE };
    let width = items.width();
    // Each block of products has chances of its own, so that it does not matter which thread comes to it.
    items.values_mut().par_chunks_mut(RANDOM_ROWS * width).enumerate().for_each(|(block, rows)| {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(block as u64);
        for row in rows.chunks_exact_mut(width) {
            row[..factors].fill_with(|| spread * rng.sample::<f32, _>(StandardNormal));
        }
    });
    let Some(Start { factors: known, users: user_rows, items: item_rows }) = start else {
        return Ok((users, items));
    };
    for (side, rows, known, n) in
        [(&mut users, user_rows, &known.users, n_users), (&mut items, item_rows, &known.items, n_items)]
    {
        if rows.len() != n || known.ncols() != factors {
            return Err(Error::internal("the factors to start from do not fit"));
        }
        for (row, known_row) in side.values_mut().chunks_exact_mut(width).zip(rows) {
            let Some(at) = known_row else { continue };
            if *at as usize >= known.nrows() {
                return Err(Error::internal(format!("row {at} of {} to start from", known.nrows())));
            }
            row.iter_mut().zip(known.row(*at as usize)).for_each(|(to, from)| *to = *from);
        }
    }
    Ok((users, items))
}

/// The sum that training makes smaller (Hu, Koren, Volinsky 2008, eq. 3):
/// `Σ c (p − x·y)²` over all customers and products, and `Σ λ|x|² + Σ λ|y|²`.
///
/// The pairs without an entry have `c = 1` and `p = 0`: their sum is `Σ xᵀ(YᵀY)x` less what the entries would have been.
pub fn objective(interactions: &Csr, factors: &Factors, options: &Options) -> f64 {
    let (users, items) = (&factors.users, &factors.items);
    let all_pairs = gram(items.view());
    let shares: Vec<f64> = (0..interactions.n_rows)
        .into_par_iter()
        .map(|user| {
            let x = users.row(user);
            let (liked, ratings) = interactions.row(user);
            let entries = liked.iter().zip(ratings).filter(|(_, rating)| **rating > 0.0).map(|(item, rating)| {
                let score = f64::from(x.dot(&items.row(*item as usize)));
                let confidence = 1.0 + f64::from(options.alpha) * f64::from(*rating);
                confidence * (1.0 - score).powi(2) - score.powi(2)
            });
            let x = x.mapv(f64::from);
            entries.sum::<f64>() + x.dot(&all_pairs.dot(&x))
        })
        .collect();
    let ridge = Ridge::of(interactions, options);
    let penalty = |rows: &Csr, side: &Array2<f32>| -> f64 {
        let size = |row: usize| side.row(row).iter().map(|value| f64::from(*value).powi(2)).sum::<f64>();
        (0..rows.n_rows).map(|row| f64::from(ridge.of_row(rows.n_cols, rows.row(row).1)) * size(row)).sum()
    };
    shares.iter().sum::<f64>() + penalty(interactions, users) + penalty(&interactions.transpose(), items)
}

/// Solves single customers exactly, against products that are known.
#[derive(Debug, Clone)]
pub struct Solver {
    /// `YᵀY`
    gram: Array2<f64>,
    ridge: Ridge,
}

impl Solver {
    /// Of `items` (`n_items × factors`), by the options and interactions that they were learnt with.
    pub fn of(items: ArrayView2<f32>, ridge: Ridge) -> Solver {
        Solver { gram: gram(items), ridge }
    }

    /// The factors of one customer from what they did: `liked` holds `(item, rating)`, `items` those of [`Solver::of`].
    ///
    /// An item named twice counts twice. Without any rating above zero the answer is zeros. Fails on an item outside
    /// `items`, on ratings below zero or not finite, and on a system without one answer.
    pub fn fold_in(&self, items: ArrayView2<f32>, liked: &[(u32, f32)]) -> Result<Array1<f32>> {
        let Some(System { y, confidence, root }) = self.system(items, liked)? else {
            return Ok(Array1::zeros(items.ncols()));
        };
        Ok(root.solve(y.t().dot(&confidence).view()).mapv(|value| value as f32))
    }

    /// What each entry of `liked` adds to the score of `item` for the one whom [`Solver::fold_in`] answers: the score
    /// is `Σ c yᵢᵀA⁻¹yⱼ` over the entries, for `x = A⁻¹YᵀC p` (Hu, Koren, Volinsky 2008, §5).
    pub fn explain(&self, items: ArrayView2<f32>, liked: &[(u32, f32)], item: u32) -> Result<Vec<f32>> {
        check_item(item, items)?;
        let Some(System { y, confidence, root }) = self.system(items, liked)? else {
            return Ok(vec![0.0; liked.len()]);
        };
        let weights = root.solve(items.row(item as usize).mapv(f64::from).view());
        let mut shares = (y.dot(&weights) * confidence).into_iter();
        let share =
            |(_, rating): &(u32, f32)| if *rating > 0.0 { shares.next().unwrap_or_default() as f32 } else { 0.0 };
        Ok(liked.iter().map(share).collect())
    }

    /// What a customer's row solves; `None` where nothing is known of them.
    fn system(&self, items: ArrayView2<f32>, liked: &[(u32, f32)]) -> Result<Option<System>> {
        for (item, rating) in liked {
            check_rating(*rating)?;
            check_item(*item, items)?;
        }
        let ratings: Vec<f32> = liked.iter().map(|(_, rating)| *rating).collect();
        let counted = || liked.iter().filter(|(_, rating)| *rating > 0.0);
        let chosen: Vec<usize> = counted().map(|(item, _)| *item as usize).collect();
        if chosen.is_empty() {
            return Ok(None);
        }
        // Of Y only the rows of entries matter: elsewhere C − I and p are zero.
        let y = items.select(Axis(0), &chosen).mapv(f64::from);
        let extra: Array1<f64> =
            counted().map(|(_, rating)| f64::from(self.ridge.alpha) * f64::from(*rating)).collect();
        let confidence = &extra + 1.0;
        let mut a = &self.gram + &y.t().dot(&(&y * &extra.insert_axis(Axis(1))));
        let lambda = f64::from(self.ridge.of_row(items.nrows(), &ratings));
        a.diag_mut().mapv_inplace(|value| value + lambda);
        let root = Cholesky::of(&a).ok_or_else(undetermined)?;
        Ok(Some(System { y, confidence, root }))
    }
}

/// `A x = YᵀC p` with `A = YᵀCY + λI`.
struct System {
    /// The rows of `Y` that have an entry.
    y: Array2<f64>,
    confidence: Array1<f64>,
    /// Of `A`.
    root: Cholesky,
}

/// `YᵀY` of rows `Y`.
fn gram(rows: ArrayView2<f32>) -> Array2<f64> {
    let padded = Dense::of(rows);
    dense::gram(padded.values(), padded.width(), rows.ncols())
}

fn check(options: &Options) -> Result<()> {
    if options.factors == 0 {
        return Err(Error::invalid("als needs at least 1 factor, got 0"));
    }
    for (name, value) in [
        ("regularization", options.regularization),
        ("alpha", options.alpha),
        ("frequency scaling", options.frequency_scaling),
    ] {
        if !(value >= 0.0 && value.is_finite()) {
            return Err(Error::invalid(format!("{name} must be a number of 0 or more, got {value}")));
        }
    }
    Ok(())
}

fn check_item(item: u32, items: ArrayView2<f32>) -> Result<()> {
    if (item as usize) < items.nrows() {
        return Ok(());
    }
    Err(Error::internal(format!("item {item} of {} items", items.nrows())))
}

fn undetermined() -> Error {
    Error::invalid("the factors are not determined by the data").hint("raise regularization, or ask for fewer factors")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use ndarray::array;
    use proptest::prelude::*;

    use super::*;

    const OPTIONS: Options =
        Options { factors: 2, iterations: 30, regularization: 0.01, alpha: 40.0, frequency_scaling: 0.0 };

    /// Two tastes: the first customer likes products 0 and 2, the second only 1, the third all of them.
    fn worked_example() -> Csr {
        Csr::from_triplets(3, 3, &[(0, 0, 1.0), (0, 2, 1.0), (1, 1, 1.0), (2, 0, 1.0), (2, 1, 1.0), (2, 2, 1.0)])
            .unwrap()
    }

    /// Checkered entries with holes, of `n_users × n_items`, the last user and the last item without any.
    fn checkered(n_users: u32, n_items: u32) -> Csr {
        let entries: Vec<_> = (0..n_users - 1)
            .flat_map(|user| (0..n_items - 1).map(move |item| (user, item)))
            .filter(|(user, item)| (user + item) % 2 == 0 && (user * 7 + item * 3) % 5 != 0)
            .map(|(user, item)| (user, item, 1.0 + (user % 3) as f32))
            .collect();
        Csr::from_triplets(n_users as usize, n_items as usize, &entries).unwrap()
    }

    fn quietly(interactions: &Csr, options: &Options, seed: u64) -> Factors {
        fit(interactions, options, None, seed, &|_| true).unwrap()
    }

    /// The normal equations as they are printed, over every item, by Gauss and Jordan.
    fn slow_row(items: &Array2<f32>, liked: &[(u32, f32)], regularization: f32, alpha: f32) -> Vec<f64> {
        let n = items.ncols();
        let mut system = Array2::<f64>::zeros((n, n + 1));
        for (item, y) in items.outer_iter().enumerate() {
            let rating: f32 = liked.iter().filter(|(id, _)| *id as usize == item).map(|(_, rating)| rating).sum();
            let confidence = 1.0 + f64::from(alpha) * f64::from(rating);
            let preference = if rating > 0.0 { 1.0 } else { 0.0 };
            for i in 0..n {
                for j in 0..n {
                    system[[i, j]] += confidence * f64::from(y[i]) * f64::from(y[j]);
                }
                system[[i, n]] += confidence * preference * f64::from(y[i]);
            }
        }
        for i in 0..n {
            system[[i, i]] += f64::from(regularization);
        }
        for i in 0..n {
            let pivot = system.row(i).to_owned() / system[[i, i]];
            system.row_mut(i).assign(&pivot);
            for other in (0..n).filter(|other| *other != i) {
                let factor = system[[other, i]];
                system.row_mut(other).scaled_add(-factor, &pivot);
            }
        }
        system.column(n).to_vec()
    }

    #[test]
    fn two_tastes_are_found_again() {
        let factors = quietly(&worked_example(), &OPTIONS, 7);
        let scores = factors.users.dot(&factors.items.t()).mapv(f32::round);
        assert_eq!(scores, array![[1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 1.0, 1.0]]);
    }

    #[test]
    fn a_new_basket_is_folded_in() {
        let items = quietly(&worked_example(), &OPTIONS, 7).items;
        let solver = Solver::of(items.view(), Ridge::of(&worked_example(), &OPTIONS));
        let basket = solver.fold_in(items.view(), &[(0, 1.0)]).unwrap();
        let scores = items.dot(&basket);
        assert!(scores[2] > 0.9 && scores[1] < 0.1, "{scores}");
    }

    /// Every row as [`Solver::fold_in`] answers it.
    fn folded_in(rows: &Csr, fixed: &Array2<f32>, options: &Options) -> Array2<f32> {
        let solver = Solver::of(fixed.view(), Ridge::of(rows, options));
        let mut solved = Array2::zeros((rows.n_rows, options.factors));
        for (row, mut x) in solved.outer_iter_mut().enumerate() {
            let (columns, ratings) = rows.row(row);
            let liked: Vec<_> = columns.iter().copied().zip(ratings.iter().copied()).collect();
            x.assign(&solver.fold_in(fixed.view(), &liked).unwrap());
        }
        solved
    }

    fn apart(a: &Array2<f32>, b: &Array2<f32>) -> f32 {
        (a - b).mapv(f32::abs).into_iter().fold(0.0, f32::max)
    }

    #[test]
    fn training_leaves_what_folding_in_answers() {
        let interactions = checkered(90, 40);
        for (factors, frequency_scaling) in
            [(1, 0.0), (5, 1.0), (16, 0.0), (33, 0.5), (70, 0.0), (128, 0.0), (128, 1.0)]
        {
            let options = Options { factors, iterations: 4, regularization: 0.1, alpha: 3.0, frequency_scaling };
            let learnt = quietly(&interactions, &options, 1);
            let again = folded_in(&interactions, &learnt.items, &options);
            assert!(apart(&learnt.users, &again) < 1e-3, "{factors} factors, {} apart", apart(&learnt.users, &again));
        }
    }

    #[test]
    fn a_row_too_long_for_one_thread_is_solved_as_well() {
        // Two products that (nearly) all of 40,000 customers had.
        let had = (0..40_000).flat_map(|user| (0..2 + user % 3).map(move |item| (user, item, 1.0 + (user % 7) as f32)));
        let interactions = Csr::from_triplets(40_000, 4, &had.collect::<Vec<_>>()).unwrap();
        let options = Options { factors: 3, iterations: 0, regularization: 1.0, alpha: 2.0, ..OPTIONS };
        let users = quietly(&interactions, &options, 4).users;
        let by_item = interactions.transpose();
        let (mut items, fixed) = (Dense::zeros(4, 3), Dense::of(users.view()));
        let mut room = Dense::zeros(40_000, 3);
        let task = Task { ridge: Ridge::of(&interactions, &options), factors: 3, effort: SETTLE, go_on: &|| true };
        sweep(&mut items, &by_item, &fixed, &mut room, task).unwrap();
        let exact = folded_in(&by_item, &users, &options);
        assert!(apart(&items.to_array(3), &exact) < 1e-3, "{} for {exact}", items.to_array(3));
    }

    #[test]
    fn few_steps_reach_what_exact_solves_reach() {
        let interactions = checkered(90, 40);
        let options = Options { factors: 6, iterations: 15, regularization: 0.1, alpha: 10.0, ..OPTIONS };
        let fast = objective(&interactions, &quietly(&interactions, &options, 3), &options);

        let by_item = interactions.transpose();
        let mut exact = quietly(&interactions, &Options { iterations: 0, ..options }, 3);
        for _ in 0..options.iterations {
            exact.items = folded_in(&by_item, &exact.users, &options);
            exact.users = folded_in(&interactions, &exact.items, &options);
        }
        let exact = objective(&interactions, &exact, &options);
        // Either may end in a better valley than the other; what few steps reach must not be worse.
        assert!(fast < 1.02 * exact, "{fast} by few steps, {exact} exactly");
    }

    #[test]
    fn a_sweep_knows_the_objective() {
        let interactions = checkered(90, 40);
        for frequency_scaling in [0.0, 0.7] {
            let options = Options { factors: 6, iterations: 2, regularization: 0.1, alpha: 10.0, frequency_scaling };
            let ridge = Ridge::of(&interactions, &options);
            let Factors { users, items } = quietly(&interactions, &options, 3);
            let (mut moved, mut room) = (Dense::of(users.view()), Dense::zeros(90, 6));
            for steps in 0..4 {
                let effort = Effort { steps, tolerance: 0.0, settles: false };
                let task = Task { ridge, factors: 6, effort, go_on: &|| true };
                let told = sweep(&mut moved, &interactions, &Dense::of(items.view()), &mut room, task).unwrap();
                let factors = Factors { users: moved.to_array(6), items: items.clone() };
                let expected = objective(&interactions, &factors, &options);
                let penalty_of = |rows: &Csr, side: &Array2<f32>| -> f64 {
                    let penalty = |(row, x): (usize, ndarray::ArrayView1<f32>)| {
                        f64::from(ridge.of_row(rows.n_cols, rows.row(row).1) * x.dot(&x))
                    };
                    side.outer_iter().enumerate().map(penalty).sum()
                };
                let total = told.loss + penalty_of(&interactions.transpose(), &items);
                assert!((total - expected).abs() < 1e-4 * expected, "{total} was told, it is {expected}");
                let penalty = penalty_of(&interactions, &factors.users);
                assert!((told.penalty - penalty).abs() < 1e-4 * penalty);
            }
        }
    }

    #[test]
    fn a_side_in_sixteen_bits_moves_the_other_to_nearly_the_same_place() {
        // Rows of 16 numbers, so many that they are taken as halves: each user had 8 of 140,000 products.
        let had = |user: u32| (0..8).map(move |at| (user, (user * 7919 + at * at * 1013) % 140_000, 1.0));
        let interactions = Csr::from_triplets(500, 140_000, &(0..500).flat_map(had).collect::<Vec<_>>()).unwrap();
        let options = Options { factors: 10, iterations: 1, regularization: 1.0, alpha: 5.0, ..OPTIONS };
        let items = Dense::of(quietly(&interactions, &options, 3).items.view());
        let moved = |settles: bool| {
            let mut users = Dense::zeros(500, 10);
            let mut room = Dense::zeros(140_000, 16);
            let effort = Effort { steps: 3, tolerance: 0.0, settles };
            let task = Task { ridge: Ridge::of(&interactions, &options), factors: 10, effort, go_on: &|| true };
            sweep(&mut users, &interactions, &items, &mut room, task).unwrap();
            users.to_array(10)
        };
        let (whole, halves) = (moved(true), moved(false));
        let size = whole.iter().fold(0.0f32, |most, value| most.max(value.abs()));
        assert!(whole != halves && apart(&whole, &halves) < 0.01 * size, "{} of {size}", apart(&whole, &halves));
    }

    #[test]
    fn what_did_more_is_pulled_more() {
        let options = Options { frequency_scaling: 1.0, alpha: 2.0, ..OPTIONS };
        let interactions = Csr::from_triplets(3, 2, &[(0, 0, 1.0), (1, 0, 1.0), (1, 1, 2.0), (2, 1, 0.0)]).unwrap();
        let ridge = Ridge::of(&interactions, &options);
        // By hand: confidences sum to 2 + 2 and 2 + 6 for two customers, 3 + 4 and 3 + 4 for two products.
        let mean = (4.0 + 8.0 + 7.0 + 7.0) / 4.0;
        for (n, ratings, sum) in [(2, &[1.0][..], 4.0), (2, &[1.0, 2.0], 8.0), (3, &[1.0, 1.0], 7.0)] {
            let expected = OPTIONS.regularization * sum / mean;
            assert!((ridge.of_row(n, ratings) - expected).abs() < 1e-8);
        }
        let plain = Ridge::of(&interactions, &OPTIONS);
        assert_eq!(plain.of_row(2, &[5.0]), OPTIONS.regularization);
    }

    #[test]
    fn training_goes_on_from_known_factors() {
        let interactions = checkered(70, 50);
        let options = Options { factors: 6, iterations: 12, regularization: 0.05, alpha: 10.0, ..OPTIONS };
        let before = quietly(&interactions, &options, 5);
        let reached = objective(&interactions, &before, &options);
        // The same rows in another order, and one that is new.
        let turned: Vec<_> = (0..70u32)
            .flat_map(|user| interactions.row(user as usize).0.iter().map(move |item| (69 - user, *item, 1.0)))
            .chain([(70, 3, 1.0)])
            .collect();
        let turned = Csr::from_triplets(71, 50, &turned).unwrap();
        let users: Vec<_> = (0..70u32).rev().map(Some).chain([None]).collect();
        let items: Vec<_> = (0..50u32).map(Some).collect();
        let start = Start { factors: &before, users: &users, items: &items };
        let still = fit(&turned, &Options { iterations: 0, ..options }, Some(start), 9, &|_| true).unwrap();
        assert_eq!(still.items, before.items);
        assert!(still.users.row(70).dot(&before.items.row(3)) > 0.1);

        let rows: Vec<_> = (0..70u32).map(Some).collect();
        let start = Start { users: &rows, ..start };
        let one = Options { iterations: 1, ..options };
        let further = fit(&interactions, &one, Some(start), 9, &|_| true).unwrap();
        let afresh = quietly(&interactions, &one, 9);
        assert!(objective(&interactions, &further, &options) <= reached * 1.000_01);
        assert!(objective(&interactions, &afresh, &options) > reached * 1.01);
        // A product without a row to start from finds its place.
        let mut some = items.clone();
        some[7] = None;
        let start = Start { items: &some, ..start };
        let again = fit(&interactions, &Options { iterations: 3, ..options }, Some(start), 9, &|_| true).unwrap();
        assert!(objective(&interactions, &again, &options) < reached * 1.01);

        let short = Start { users: &rows[1..], ..start };
        assert!(fit(&interactions, &options, Some(short), 9, &|_| true).is_err());
        let beyond = vec![Some(70); 70];
        assert!(fit(&interactions, &options, Some(Start { users: &beyond, ..start }), 9, &|_| true).is_err());
        assert!(fit(&interactions, &OPTIONS, Some(start), 9, &|_| true).is_err());
    }

    #[test]
    fn what_a_customer_did_makes_the_score() {
        let interactions = checkered(90, 40);
        for frequency_scaling in [0.0, 0.7] {
            let options = Options { factors: 8, iterations: 6, regularization: 0.1, alpha: 10.0, frequency_scaling };
            let Factors { users, items } = quietly(&interactions, &options, 3);
            let solver = Solver::of(items.view(), Ridge::of(&interactions, &options));
            for user in [0, 17, 88, 89] {
                let (columns, ratings) = interactions.row(user);
                let liked: Vec<_> = columns.iter().copied().zip(ratings.iter().copied()).chain([(39, 0.0)]).collect();
                for item in [0, 5, 38] {
                    let shares = solver.explain(items.view(), &liked, item).unwrap();
                    assert_eq!((shares.len(), shares[liked.len() - 1]), (liked.len(), 0.0));
                    let score = users.row(user).dot(&items.row(item as usize));
                    assert!((shares.iter().sum::<f32>() - score).abs() < 1e-4, "{shares:?} for {score}");
                }
            }
            assert!(solver.explain(items.view(), &[], 40).is_err());
        }
    }

    #[test]
    fn the_objective_is_the_sum_over_all_pairs() {
        let interactions = worked_example();
        let factors = Factors { users: array![[1.0], [0.5], [2.0]], items: array![[0.25], [1.0], [0.5]] };
        let options = Options { factors: 1, iterations: 0, regularization: 0.5, alpha: 3.0, ..OPTIONS };
        // By hand: each entry weighs 4, the three pairs without one weigh 1.
        let entries = 4.0 * (0.5625 + 0.25 + 0.25 + 0.25 + 1.0 + 0.0);
        let others = 1.0 + 0.015_625 + 0.0625;
        let sizes = 0.5 * (1.0 + 0.25 + 4.0 + 0.0625 + 1.0 + 0.25);
        assert!((objective(&interactions, &factors, &options) - (entries + others + sizes)).abs() < 1e-6);
    }

    #[test]
    fn the_objective_falls_with_every_iteration() {
        let losses = std::sync::Mutex::new(Vec::new());
        let options = Options { factors: 6, iterations: 12, regularization: 0.05, alpha: 10.0, ..OPTIONS };
        fit(&checkered(70, 50), &options, None, 5, &|step| {
            losses.lock().unwrap().push((step.done, step.loss));
            true
        })
        .unwrap();
        let mut losses = losses.into_inner().unwrap();
        losses.dedup();
        let losses: Vec<f64> = losses.into_iter().filter_map(|(_, loss)| loss).collect();
        assert_eq!(losses.len(), 12);
        assert!(losses.windows(2).all(|pair| pair[1] <= pair[0] * 1.000_01), "{losses:?}");
    }

    #[test]
    fn the_same_bits_on_one_thread_and_on_many() {
        for frequency_scaling in [0.0, 1.0] {
            let options = Options { factors: 7, iterations: 5, regularization: 0.05, alpha: 10.0, frequency_scaling };
            let on = |threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| quietly(&checkered(300, 1100), &options, 11))
            };
            assert_eq!(on(1), on(3));
        }
    }

    #[test]
    fn rows_without_entries_are_zero() {
        let factors = quietly(&checkered(20, 10), &OPTIONS, 2);
        assert!(factors.users.row(19).iter().chain(factors.items.row(9)).all(|value| *value == 0.0));
        let zeros = Csr::from_triplets(1, 2, &[(0, 1, 0.0)]).unwrap();
        assert_eq!(quietly(&zeros, &OPTIONS, 2).users, Array2::<f32>::zeros((1, 2)));
        assert_eq!(quietly(&Csr::from_triplets(0, 0, &[]).unwrap(), &OPTIONS, 2).items.dim(), (0, 2));
    }

    #[test]
    fn a_loop_stops_when_told() {
        let last = AtomicUsize::new(0);
        let stop = |step: Step| {
            last.fetch_max(step.done, Ordering::Relaxed);
            step.done < 3
        };
        assert_eq!(fit(&worked_example(), &OPTIONS, None, 1, &stop), Err(Error::cancelled()));
        assert_eq!(last.into_inner(), 3);
        // And within an iteration.
        assert_eq!(fit(&worked_example(), &OPTIONS, None, 1, &|_| false), Err(Error::cancelled()));
    }

    #[test]
    fn what_cannot_be_learnt_from_is_refused() {
        for rating in [-1.0, f32::NAN, f32::INFINITY] {
            let interactions = Csr::from_triplets(1, 1, &[(0, 0, rating)]).unwrap();
            let error = fit(&interactions, &OPTIONS, None, 1, &|_| true).unwrap_err();
            assert!(error.message.starts_with("ratings must be numbers of 0 or more"), "{}", error.message);
        }
        let none = Options { factors: 0, ..OPTIONS };
        assert!(fit(&worked_example(), &none, None, 1, &|_| true).is_err());
        // Three products cannot tell four factors apart without regularisation.
        let loose = Options { factors: 4, regularization: 0.0, ..OPTIONS };
        let error = fit(&worked_example(), &loose, None, 1, &|_| true).unwrap_err();
        assert_eq!(error.message, "the factors are not determined by the data");
        let huge = Csr::from_triplets(1, 1, &[(0, 0, f32::MAX)]).unwrap();
        assert!(fit(&huge, &OPTIONS, None, 1, &|_| true).is_err());
    }

    proptest! {
        #[test]
        fn a_folded_in_row_solves_the_printed_equations(
            cells in prop::collection::vec(-1.0f32..1.0, 24),
            liked in prop::collection::btree_map(0u32..8, 0u8..4, 0..8),
            alpha in 0.0f32..50.0,
            frequency_scaling in prop::sample::select(vec![0.0f32, 0.5, 1.0]),
        ) {
            let items = Array2::from_shape_vec((8, 3), cells).unwrap();
            let liked: Vec<_> = liked.into_iter().map(|(item, rating)| (item, f32::from(rating))).collect();
            let ridge = Ridge { regularization: 0.1, alpha, exponent: frequency_scaling, mean: 3.0 };
            let fast = Solver::of(items.view(), ridge).fold_in(items.view(), &liked).unwrap();
            let confidence: f64 = 8.0 + liked.iter().map(|(_, rating)| f64::from(alpha * rating)).sum::<f64>();
            let lambda = if ridge.is_plain() { 0.1 } else { 0.1 * confidence.powf(f64::from(frequency_scaling)) / 3.0 };
            for (fast, slow) in fast.iter().zip(slow_row(&items, &liked, lambda as f32, alpha)) {
                prop_assert!((f64::from(*fast) - slow).abs() < 1e-3 * (1.0 + slow.abs()), "{} or {}", fast, slow);
            }
        }
    }
}
