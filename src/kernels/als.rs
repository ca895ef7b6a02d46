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
//! Training does not solve it exactly: a few steps of conjugate gradients from where the last iteration left off are
//! enough (Takács, Pilászy, Tikk 2011). They are taken in coordinates in which `YᵀY + λI` is the identity, where two
//! steps come further than three or four in the plain ones, and each costs only the row's own entries.

mod descent;
mod sweep;

use ndarray::{Array1, Array2, ArrayView2, Axis};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::kernels::als::descent::Effort;
use crate::kernels::als::sweep::sweep;
use crate::kernels::cholesky::Cholesky;
use crate::kernels::csr::Csr;
use crate::kernels::dense::{self, Dense};
use crate::kernels::progress::{Progress, Step};

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// Numbers in the vector of a customer or product; at least 1.
    pub factors: usize,
    /// Passes over both sides.
    pub iterations: usize,
    /// λ, added plainly for every customer and product, however much they did.
    pub regularization: f32,
    /// How much surer one unit of rating makes us.
    pub alpha: f32,
}

/// What was learnt: `n_users × factors` and `n_items × factors`. Who or what has no entry has a row of zeros.
#[derive(Debug, Clone, PartialEq)]
pub struct Factors {
    pub users: Array2<f32>,
    pub items: Array2<f32>,
}

/// How far a row is moved in each iteration: a third step gains less than one more iteration does.
const EFFORT: Effort = Effort { steps: 2, tolerance: 1e-7 };
/// And at the very end, where nothing comes after that could go on from there.
const SETTLE: Effort = Effort { steps: 20, tolerance: 1e-9 };

/// Learns factors from `interactions` (customers × products, ratings of 0 or more).
///
/// Tells `progress` of each iteration with its [`objective`], and asks it in between by telling the last one again. At
/// the end the customers' rows are solved as [`fold_in`] would for the same entries, but for rounding. Fails on ratings below zero or not finite, on
/// options out of range, on a system without one answer, and when cancelled.
pub fn fit(interactions: &Csr, options: &Options, seed: u64, progress: Progress) -> Result<Factors> {
    check(options)?;
    interactions.values.iter().try_for_each(|rating| check_rating(*rating))?;
    let by_item = interactions.transpose();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut users = Dense::zeros(interactions.n_rows, options.factors);
    let start = Array2::from_shape_simple_fn((interactions.n_cols, options.factors), || {
        0.1 * rng.sample::<f32, _>(StandardNormal)
    });
    let mut items = Dense::of(start.view());
    drop(start);
    // Room for either side as the other sees it, kept: fresh memory would have to be cleared each time.
    let mut whitened = Dense::zeros(interactions.n_rows.max(interactions.n_cols), options.factors);
    let mut reached = Step { done: 0, total: options.iterations, loss: None };
    for done in 1..=options.iterations {
        let go_on = || progress(reached);
        sweep(&mut users, interactions, &items, &mut whitened, options, EFFORT, &go_on)?;
        let loss = sweep(&mut items, &by_item, &users, &mut whitened, options, EFFORT, &go_on)?;
        if !loss.is_finite() {
            return Err(Error::invalid("the factors grew beyond all bounds")
                .hint("lower alpha, raise regularization, or scale the ratings down"));
        }
        reached = Step { done, total: options.iterations, loss: Some(loss) };
        if !progress(reached) {
            return Err(Error::cancelled());
        }
    }
    sweep(&mut users, interactions, &items, &mut whitened, options, SETTLE, &|| progress(reached))?;
    Ok(Factors { users: users.to_array(options.factors), items: items.to_array(options.factors) })
}

/// The sum that training makes smaller (Hu, Koren, Volinsky 2008, eq. 3):
/// `Σ c (p − x·y)²` over all customers and products, and `λ (Σ|x|² + Σ|y|²)`.
///
/// The pairs without an entry have `c = 1` and `p = 0`: their sum is `Σ xᵀ(YᵀY)x` less what the entries would have been.
pub fn objective(interactions: &Csr, factors: &Factors, options: &Options) -> f64 {
    let (users, items) = (&factors.users, &factors.items);
    let all_pairs = dense::gram(&Dense::of(items.view()), options.factors);
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
    let size = |side: &Array2<f32>| side.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>();
    shares.iter().sum::<f64>() + f64::from(options.regularization) * (size(users) + size(items))
}

/// `YᵀY + λI` of items `Y` (`n_items × factors`): what every [`fold_in`] over them shares.
pub fn gram(items: ArrayView2<f32>, regularization: f32) -> Array2<f32> {
    let mut gram = dense::gram(&Dense::of(items), items.ncols());
    gram.diag_mut().mapv_inplace(|value| value + f64::from(regularization));
    gram.mapv(|value| value as f32)
}

/// The factors of one customer from what they did: `liked` holds `(item, rating)`, `gram` comes from [`gram`].
///
/// An item named twice counts twice. Without any rating above zero the answer is zeros. Fails on an item outside
/// `items`, on ratings below zero or not finite, and on a system without one answer.
pub fn fold_in(gram: ArrayView2<f32>, items: ArrayView2<f32>, liked: &[(u32, f32)], alpha: f32) -> Result<Array1<f32>> {
    for (item, rating) in liked {
        check_rating(*rating)?;
        if *item as usize >= items.nrows() {
            return Err(Error::internal(format!("item {item} of {} items", items.nrows())));
        }
    }
    let entries = liked.iter().map(|(item, rating)| (*item, *rating));
    solve_row(&gram.mapv(f64::from), items, entries, alpha)
}

/// Solves one row exactly, in f64: `x = (G + Yᵀ(C − I)Y)⁻¹ YᵀC p` with `G = YᵀY + λI`.
fn solve_row(
    gram: &Array2<f64>,
    items: ArrayView2<f32>,
    entries: impl Iterator<Item = (u32, f32)>,
    alpha: f32,
) -> Result<Array1<f32>> {
    let (liked, ratings): (Vec<usize>, Vec<f64>) =
        entries.filter(|(_, rating)| *rating > 0.0).map(|(item, rating)| (item as usize, f64::from(rating))).unzip();
    if liked.is_empty() {
        return Ok(Array1::zeros(gram.nrows()));
    }
    // Of Y only the rows of entries matter: elsewhere C − I and p are zero.
    let y = items.select(Axis(0), &liked).mapv(f64::from);
    let extra = Array1::from(ratings) * f64::from(alpha);
    let confidence = &extra + 1.0;
    let a = gram + &y.t().dot(&(&y * &extra.insert_axis(Axis(1))));
    let root = Cholesky::of(&a).ok_or_else(undetermined)?;
    Ok(root.solve(y.t().dot(&confidence).view()).mapv(|value| value as f32))
}

fn check(options: &Options) -> Result<()> {
    if options.factors == 0 {
        return Err(Error::invalid("als needs at least 1 factor, got 0"));
    }
    for (name, value) in [("regularization", options.regularization), ("alpha", options.alpha)] {
        if !(value >= 0.0 && value.is_finite()) {
            return Err(Error::invalid(format!("{name} must be a number of 0 or more, got {value}")));
        }
    }
    Ok(())
}

fn check_rating(rating: f32) -> Result<()> {
    if rating >= 0.0 && rating.is_finite() {
        return Ok(());
    }
    Err(Error::invalid(format!("ratings must be numbers of 0 or more, got {rating}"))
        .hint("leave out refunds and unknown values, for example with WHERE quantity > 0"))
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

    const OPTIONS: Options = Options { factors: 2, iterations: 30, regularization: 0.01, alpha: 40.0 };

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
        fit(interactions, options, seed, &|_| true).unwrap()
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
        let gram = gram(items.view(), OPTIONS.regularization);
        let basket = fold_in(gram.view(), items.view(), &[(0, 1.0)], OPTIONS.alpha).unwrap();
        let scores = items.dot(&basket);
        assert!(scores[2] > 0.9 && scores[1] < 0.1, "{scores}");
    }

    /// Every row as [`fold_in`] answers it.
    fn folded_in(rows: &Csr, fixed: &Array2<f32>, options: &Options) -> Array2<f32> {
        let gram = gram(fixed.view(), options.regularization);
        let mut solved = Array2::zeros((rows.n_rows, options.factors));
        for (row, mut x) in solved.outer_iter_mut().enumerate() {
            let (columns, ratings) = rows.row(row);
            let liked: Vec<_> = columns.iter().copied().zip(ratings.iter().copied()).collect();
            x.assign(&fold_in(gram.view(), fixed.view(), &liked, options.alpha).unwrap());
        }
        solved
    }

    fn apart(a: &Array2<f32>, b: &Array2<f32>) -> f32 {
        (a - b).mapv(f32::abs).into_iter().fold(0.0, f32::max)
    }

    #[test]
    fn training_leaves_what_folding_in_answers() {
        let interactions = checkered(90, 40);
        for factors in [1, 5, 16, 33, 70, 128] {
            let options = Options { factors, iterations: 4, regularization: 0.1, alpha: 3.0 };
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
        let options = Options { factors: 3, iterations: 0, regularization: 1.0, alpha: 2.0 };
        let users = quietly(&interactions, &options, 4).users;
        let by_item = interactions.transpose();
        let (mut items, fixed) = (Dense::zeros(4, 3), Dense::of(users.view()));
        let mut room = Dense::zeros(40_000, 3);
        sweep(&mut items, &by_item, &fixed, &mut room, &options, SETTLE, &|| true).unwrap();
        let exact = folded_in(&by_item, &users, &options);
        assert!(apart(&items.to_array(3), &exact) < 1e-3, "{} for {exact}", items.to_array(3));
    }

    #[test]
    fn few_steps_reach_what_exact_solves_reach() {
        let interactions = checkered(90, 40);
        let options = Options { factors: 6, iterations: 15, regularization: 0.1, alpha: 10.0 };
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
        let options = Options { factors: 6, iterations: 2, regularization: 0.1, alpha: 10.0 };
        let Factors { users, items } = quietly(&interactions, &options, 3);
        let (mut moved, mut room) = (Dense::of(users.view()), Dense::zeros(90, 6));
        for steps in 0..4 {
            let effort = Effort { steps, tolerance: 0.0 };
            let told =
                sweep(&mut moved, &interactions, &Dense::of(items.view()), &mut room, &options, effort, &|| true)
                    .unwrap();
            let factors = Factors { users: moved.to_array(6), items: items.clone() };
            let expected = objective(&interactions, &factors, &options);
            assert!((told - expected).abs() < 1e-4 * expected, "{told} was told, it is {expected}");
        }
    }

    #[test]
    fn the_objective_is_the_sum_over_all_pairs() {
        let interactions = worked_example();
        let factors = Factors { users: array![[1.0], [0.5], [2.0]], items: array![[0.25], [1.0], [0.5]] };
        let options = Options { factors: 1, iterations: 0, regularization: 0.5, alpha: 3.0 };
        // By hand: each entry weighs 4, the three pairs without one weigh 1.
        let entries = 4.0 * (0.5625 + 0.25 + 0.25 + 0.25 + 1.0 + 0.0);
        let others = 1.0 + 0.015_625 + 0.0625;
        let sizes = 0.5 * (1.0 + 0.25 + 4.0 + 0.0625 + 1.0 + 0.25);
        assert!((objective(&interactions, &factors, &options) - (entries + others + sizes)).abs() < 1e-6);
    }

    #[test]
    fn the_objective_falls_with_every_iteration() {
        let losses = std::sync::Mutex::new(Vec::new());
        let options = Options { factors: 6, iterations: 12, regularization: 0.05, alpha: 10.0 };
        fit(&checkered(70, 50), &options, 5, &|step| {
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
        let options = Options { factors: 7, iterations: 5, regularization: 0.05, alpha: 10.0 };
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| quietly(&checkered(300, 1100), &options, 11))
        };
        assert_eq!(on(1), on(3));
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
        assert_eq!(fit(&worked_example(), &OPTIONS, 1, &stop), Err(Error::cancelled()));
        assert_eq!(last.into_inner(), 3);
        // And within an iteration.
        assert_eq!(fit(&worked_example(), &OPTIONS, 1, &|_| false), Err(Error::cancelled()));
    }

    #[test]
    fn what_cannot_be_learnt_from_is_refused() {
        for rating in [-1.0, f32::NAN, f32::INFINITY] {
            let interactions = Csr::from_triplets(1, 1, &[(0, 0, rating)]).unwrap();
            let error = fit(&interactions, &OPTIONS, 1, &|_| true).unwrap_err();
            assert!(error.message.starts_with("ratings must be numbers of 0 or more"), "{}", error.message);
        }
        let none = Options { factors: 0, ..OPTIONS };
        assert!(fit(&worked_example(), &none, 1, &|_| true).is_err());
        // Three products cannot tell four factors apart without regularisation.
        let loose = Options { factors: 4, regularization: 0.0, ..OPTIONS };
        let error = fit(&worked_example(), &loose, 1, &|_| true).unwrap_err();
        assert_eq!(error.message, "the factors are not determined by the data");
        let huge = Csr::from_triplets(1, 1, &[(0, 0, f32::MAX)]).unwrap();
        assert!(fit(&huge, &OPTIONS, 1, &|_| true).is_err());
    }

    proptest! {
        #[test]
        fn a_folded_in_row_solves_the_printed_equations(
            cells in prop::collection::vec(-1.0f32..1.0, 24),
            liked in prop::collection::btree_map(0u32..8, 0u8..4, 0..8),
            alpha in 0.0f32..50.0,
        ) {
            let items = Array2::from_shape_vec((8, 3), cells).unwrap();
            let liked: Vec<_> = liked.into_iter().map(|(item, rating)| (item, f32::from(rating))).collect();
            let gram = gram(items.view(), 0.1);
            let fast = fold_in(gram.view(), items.view(), &liked, alpha).unwrap();
            for (fast, slow) in fast.iter().zip(slow_row(&items, &liked, 0.1, alpha)) {
                prop_assert!((f64::from(*fast) - slow).abs() < 1e-3 * (1.0 + slow.abs()), "{} or {}", fast, slow);
            }
        }
    }
}
