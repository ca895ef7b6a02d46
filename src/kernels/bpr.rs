//! Recommendations by Bayesian personalized ranking (Rendle, Freudenthaler, Gantner, Schmidt-Thieme 2009).
//!
//! "BPR: Bayesian Personalized Ranking from Implicit Feedback", UAI 2009. Every customer `u` and product `i` gets a
//! vector, every product a bias besides, and the score is `x(u, i) = p·q + b`. Only the order of scores matters: what a
//! customer had, `i`, should stand above what they did not have, `j`. For each such pair a step is taken down
//!
//! ```text
//! −ln σ(x(u, i) − x(u, j)) + λ/2 (|p|² + |q|² + b² + |q'|² + b'²)
//! ```
//!
//! where `q'` and `b'` are those of `j`, which is drawn anew for every entry in every pass, each product with the same
//! chance.
//!
//! Steps are taken on all threads and still come out the same on any number of them (Gemulla, Nijkamp, Haas, Sismanis:
//! "Large-Scale Matrix Factorization with Distributed Stochastic Gradient Descent", KDD 2011): customers and products
//! are cut into blocks, and what pairs a block of one with a block of the other, a stratum, can be walked while others
//! walk strata that share neither. `j` is drawn from the stratum's own products; as products change blocks in every
//! pass, that is a draw from all of them. A block of products fits a cache, which makes the walk quick.

mod strata;
mod stratum;

use ndarray::{Array1, Array2};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::kernels::bpr::strata::Strata;
use crate::kernels::bpr::stratum::Stratum;
use crate::kernels::csr::Csr;
use crate::kernels::dense::{Dense, PANEL};
use crate::kernels::progress::{Progress, Step};
use crate::kernels::{random, simd};

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// Passes over all entries.
    pub iterations: usize,
    /// The length of a step in the first pass; it falls in a straight line, to zero after the last.
    pub learn_rate: f32,
    /// λ, in every step for the vectors and biases that it moves.
    pub regularization: f32,
}

/// What was learnt. A score is `users[u] · items[i] + biases[i]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Factors {
    /// `n_users × factors`.
    pub users: Array2<f32>,
    /// `n_items × factors`.
    pub items: Array2<f32>,
    /// One for each item.
    pub biases: Array1<f32>,
}

impl Factors {
    /// Where to start from when nothing is known: short vectors in random directions, and no biases.
    pub fn random(n_users: usize, n_items: usize, factors: usize, seed: u64) -> Factors {
        let side = |n, number| random::normal(n, factors, 0.1, seed, number);
        Factors { users: side(n_users, 0), items: side(n_items, 1), biases: Array1::zeros(n_items) }
    }
}

/// Learns from `interactions` (customers × products): an entry above zero says that the customer had the product, how
/// far above does not matter.
///
/// Goes on from `start`, and tells `progress` of each pass with the mean of `−ln σ(x(u, i) − x(u, j))` over its steps;
/// in between it asks by telling the last pass again. A customer without an entry gets a vector of zeros. Fails when
/// `start` does not fit the interactions, on ratings that are not finite or below zero, on options out of range, when
/// the factors grow beyond all bounds, and when cancelled.
pub fn fit(interactions: &Csr, start: Factors, options: &Options, seed: u64, progress: Progress) -> Result<Factors> {
    check(interactions, &start, options)?;
    let had = interactions.positive();
    let factors = start.users.ncols();
    let Factors { users, items, biases } = start;
    let mut users = {
        let given = users;
        Dense::of(given.view())
    };
    let width = users.width().max(1);
    for (user, row) in users.values_mut().chunks_exact_mut(width).enumerate() {
        if had.row(user).0.is_empty() {
            row.fill(0.0);
        }
    }
    let mut items = Items::of(items, biases);
    let mut strata = Strata::of(&had, width);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut reached = Step { done: 0, total: options.iterations, loss: None };
    for pass in 0..options.iterations {
        let go_on = || progress(reached);
        items.shuffle(&mut rng);
        strata.deal(&items.places(), &go_on)?;
        let rate = options.learn_rate * (1.0 - pass as f32 / options.iterations as f32);
        // Every block of customers meets every block of products once.
        let mut shifts: Vec<usize> = (0..strata.blocks()).collect();
        shifts.shuffle(&mut rng);
        // Stream 0 is that of the passes themselves.
        let streams = 1 + pass * strata.blocks() * strata.blocks();
        let (mut loss, mut steps) = (0.0, 0);
        for shift in shifts {
            let apart = strata.apart(shift, users.values_mut(), items.rows.values_mut(), &mut items.biases);
            let walks = apart.into_par_iter().with_max_len(1).map(|blocks| {
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                rng.set_stream((streams + blocks.number) as u64);
                let walk = Stratum { blocks, width, rate, regularization: options.regularization, rng };
                let walked = simd::run(walk);
                if go_on() { Ok(walked) } else { Err(Error::cancelled()) }
            });
            for (part, taken) in walks.collect::<Result<Vec<_>>>()? {
                loss += part;
                steps += taken;
            }
        }
        let loss = (steps > 0).then(|| loss / steps as f64);
        if loss.is_some_and(|loss| !loss.is_finite()) {
            return Err(Error::invalid("the factors grew beyond all bounds").hint("lower the learning rate"));
        }
        reached = Step { done: pass + 1, total: options.iterations, loss };
        if !progress(reached) {
            return Err(Error::cancelled());
        }
    }
    let (items, biases) = items.in_order(factors);
    Ok(Factors { users: users.to_array(factors), items, biases })
}

/// Bytes that [`fit`] takes at its most, what it is given and what it answers included; the interactions are not.
pub fn bytes(n_users: usize, n_items: usize, n_entries: usize, factors: usize) -> usize {
    let row = 4 * factors.next_multiple_of(PANEL);
    let rows = n_users.saturating_mul(2).saturating_add(n_items.saturating_mul(3));
    row.saturating_mul(rows).saturating_add(n_entries.saturating_mul(8))
}

/// The items in the order of the current pass: each block's rows stand together.
struct Items {
    rows: Dense,
    biases: Vec<f32>,
    /// The item at each place.
    ids: Vec<u32>,
    /// Room for the rows in their next order.
    spare: Dense,
}

impl Items {
    fn of(rows: Array2<f32>, biases: Array1<f32>) -> Items {
        let ids = (0..rows.nrows() as u32).collect();
        let spare = Dense::zeros(rows.nrows(), rows.ncols());
        Items { rows: Dense::of(rows.view()), biases: biases.to_vec(), ids, spare }
    }

    fn shuffle(&mut self, rng: &mut ChaCha8Rng) {
        let mut order: Vec<u32> = (0..self.ids.len() as u32).collect();
        order.shuffle(rng);
        let width = self.rows.width().max(1);
        let rows = self.rows.values();
        let moved = self.spare.values_mut().par_chunks_exact_mut(width).zip(&order);
        moved.for_each(|(to, from)| to.copy_from_slice(&rows[*from as usize * width..][..width]));
        std::mem::swap(&mut self.rows, &mut self.spare);
        self.ids = order.iter().map(|from| self.ids[*from as usize]).collect();
        self.biases = order.iter().map(|from| self.biases[*from as usize]).collect();
    }

    /// The place of each item.
    fn places(&self) -> Vec<u32> {
        let mut places = vec![0; self.ids.len()];
        self.ids.iter().enumerate().for_each(|(place, id)| places[*id as usize] = place as u32);
        places
    }

    /// Vectors and biases by item.
    fn in_order(&self, factors: usize) -> (Array2<f32>, Array1<f32>) {
        let width = self.rows.width().max(1);
        let mut items = Array2::zeros((self.ids.len(), factors));
        let mut biases = Array1::zeros(self.ids.len());
        for ((id, bias), row) in self.ids.iter().zip(&self.biases).zip(self.rows.values().chunks_exact(width)) {
            items.row_mut(*id as usize).assign(&ndarray::aview1(&row[..factors]));
            biases[*id as usize] = *bias;
        }
        (items, biases)
    }
}

fn check(interactions: &Csr, start: &Factors, options: &Options) -> Result<()> {
    let (users, items) = (start.users.dim(), start.items.dim());
    if (users.0, items.0, start.biases.len()) != (interactions.n_rows, interactions.n_cols, interactions.n_cols)
        || users.1 != items.1
    {
        return Err(Error::internal(format!(
            "factors of {users:?} and {items:?} for {} × {} interactions",
            interactions.n_rows, interactions.n_cols
        )));
    }
    if users.1 == 0 {
        return Err(Error::invalid("bpr needs at least 1 factor, got 0"));
    }
    for (name, value) in [("learning rate", options.learn_rate), ("regularization", options.regularization)] {
        if !(value >= 0.0 && value.is_finite()) {
            return Err(Error::invalid(format!("the {name} must be a number of 0 or more, got {value}")));
        }
    }
    interactions.check_ratings()
}

#[cfg(test)]
mod tests {
    use ndarray::array;
    use proptest::prelude::{ProptestConfig, any, prop_assert, proptest};
    use rand::Rng;

    use super::*;
    use crate::kernels::popularity;

    const OPTIONS: Options = Options { iterations: 30, learn_rate: 0.1, regularization: 0.03 };

    fn quietly(interactions: &Csr, factors: usize, options: &Options, seed: u64) -> Factors {
        let start = Factors::random(interactions.n_rows, interactions.n_cols, factors, seed);
        fit(interactions, start, options, seed, &|_| true).unwrap()
    }

    /// Customers of four kinds who mostly take products of their own kind, which are those of the same rest by four;
    /// the products of kind 0 are taken by all. The last customer and the last product have no entries.
    fn shop(n_users: u32, n_items: u32) -> Csr {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut had = Vec::new();
        for user in 0..n_users - 1 {
            for _ in 0..30 {
                let item = rng.random_range(0..n_items - 1);
                if item % 4 == 0 || item % 4 == user % 4 || rng.random_range(0..10) == 0 {
                    had.push((user, item, 1.0));
                }
            }
        }
        Csr::from_triplets(n_users as usize, n_items as usize, &had).unwrap()
    }

    /// How often a product of the customer's kind, that they have not had, scores above one of no kind they like.
    fn order(interactions: &Csr, score: impl Fn(usize, usize) -> f32) -> f64 {
        let (mut right, mut all) = (0.0, 0.0);
        for user in (0..interactions.n_rows - 1).filter(|user| user % 4 != 0) {
            let fresh = |item: &usize| interactions.row(user).0.binary_search(&(*item as u32)).is_err();
            let items = || (0..interactions.n_cols - 1).filter(fresh);
            for wanted in items().filter(|item| item % 4 == user % 4) {
                for other in items().filter(|item| item % 4 != 0 && item % 4 != user % 4) {
                    right += f64::from(score(user, wanted) > score(user, other));
                    all += 1.0;
                }
            }
        }
        right / all
    }

    #[test]
    fn a_step_by_hand() {
        // One customer had product 0 and not product 1, so that there is no choice.
        let interactions = Csr::from_triplets(1, 2, &[(0, 0, 5.0)]).unwrap();
        let start = Factors { users: array![[1.0]], items: array![[0.5], [0.25]], biases: array![0.0, 0.25] };
        let options = Options { iterations: 1, learn_rate: 0.5, regularization: 0.5 };
        let told = std::sync::Mutex::new(None);
        let found = fit(&interactions, start, &options, 1, &|step| {
            *told.lock().unwrap() = step.loss;
            true
        })
        .unwrap();
        // The scores are .5 and .25 + .25: even, so that σ = 1/2 and the loss ln 2. Rows keep 1 − .5 · .5 = .75.
        let expected =
            Factors { users: array![[0.8125]], items: array![[0.625], [-0.0625]], biases: array![0.25, -0.0625] };
        assert_eq!(found, expected);
        assert!((told.into_inner().unwrap().unwrap() - std::f64::consts::LN_2).abs() < 1e-7);
    }

    #[test]
    fn tastes_are_found() {
        let interactions = shop(400, 200);
        let found = quietly(&interactions, 8, &OPTIONS, 1);
        let by_taste =
            order(&interactions, |user, item| found.users.row(user).dot(&found.items.row(item)) + found.biases[item]);
        let counts = popularity::counts(&interactions);
        let by_popularity = order(&interactions, |_, item| counts[item] as f32);
        assert!(by_taste > 0.92 && by_popularity < 0.5, "{by_taste}, by popularity {by_popularity}");
    }

    #[test]
    fn the_loss_falls() {
        let losses = std::sync::Mutex::new(Vec::new());
        let interactions = shop(300, 300);
        fit(&interactions, Factors::random(300, 300, 8, 1), &OPTIONS, 1, &|step| {
            losses.lock().unwrap().push((step.done, step.loss));
            true
        })
        .unwrap();
        let mut losses = losses.into_inner().unwrap();
        losses.dedup();
        let losses: Vec<f64> = losses.into_iter().filter_map(|(_, loss)| loss).collect();
        assert_eq!(losses.len(), 30);
        assert!(losses[0] > 1.6 * losses[29], "{losses:?}");
    }

    #[test]
    fn the_same_bits_on_one_thread_and_on_many() {
        let interactions = shop(3000, 700);
        assert!(Strata::of(&interactions, 16).blocks() > 2);
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| quietly(&interactions, 5, &Options { iterations: 3, ..OPTIONS }, 11))
        };
        assert_eq!(on(1), on(3));
    }

    #[test]
    fn it_goes_on_from_where_it_was() {
        let interactions = shop(400, 200);
        let first = quietly(&interactions, 8, &OPTIONS, 1);
        let reached = |start| {
            let last = std::sync::Mutex::new(f64::INFINITY);
            fit(&interactions, start, &Options { iterations: 1, ..OPTIONS }, 2, &|step| {
                step.loss.into_iter().for_each(|loss| *last.lock().unwrap() = loss);
                true
            })
            .unwrap();
            last.into_inner().unwrap()
        };
        assert!(reached(first) < 0.8 * reached(Factors::random(400, 200, 8, 1)));
    }

    #[test]
    fn there_may_be_little_to_learn() {
        let nothing = Csr::from_triplets(0, 0, &[]).unwrap();
        assert_eq!(quietly(&nothing, 3, &OPTIONS, 1).items.dim(), (0, 3));
        // All there is was had: there is nothing to draw.
        let all = Csr::from_triplets(1, 1, &[(0, 0, 1.0)]).unwrap();
        assert_eq!(quietly(&all, 3, &OPTIONS, 1), Factors::random(1, 1, 3, 1));
        // A rating of zero is no entry, and a customer without entries gets zeros.
        let zero = Csr::from_triplets(2, 2, &[(0, 0, 1.0), (1, 1, 0.0)]).unwrap();
        let one = Csr::from_triplets(2, 2, &[(0, 0, 1.0)]).unwrap();
        let found = quietly(&zero, 3, &OPTIONS, 1);
        assert_eq!(found, quietly(&one, 3, &OPTIONS, 1));
        assert_eq!(found.users.row(1), Array1::<f32>::zeros(3));
    }

    #[test]
    fn a_loop_stops_when_told() {
        let interactions = shop(400, 200);
        let stopped = |when: usize| {
            let start = Factors::random(400, 200, 4, 1);
            fit(&interactions, start, &OPTIONS, 1, &|step| step.done < when)
        };
        assert_eq!(stopped(0), Err(Error::cancelled()));
        assert_eq!(stopped(3), Err(Error::cancelled()));
    }

    #[test]
    fn what_cannot_be_learnt_from_is_refused() {
        let one = Csr::from_triplets(1, 2, &[(0, 0, 1.0)]).unwrap();
        let refused = |interactions: &Csr, factors, options: &Options| {
            fit(interactions, Factors::random(1, 2, factors, 1), options, 1, &|_| true).unwrap_err().message
        };
        for (rating, shown) in [(-1.0, "-1"), (f32::NAN, "NaN"), (f32::INFINITY, "inf")] {
            let interactions = Csr::from_triplets(1, 2, &[(0, 0, rating)]).unwrap();
            assert_eq!(
                refused(&interactions, 3, &OPTIONS),
                format!("ratings must be numbers of 0 or more, got {shown}")
            );
        }
        assert_eq!(refused(&one, 0, &OPTIONS), "bpr needs at least 1 factor, got 0");
        let negative = Options { regularization: -0.5, ..OPTIONS };
        assert_eq!(refused(&one, 3, &negative), "the regularization must be a number of 0 or more, got -0.5");
        let huge = Options { learn_rate: 1e30, ..OPTIONS };
        assert_eq!(refused(&one, 3, &huge), "the factors grew beyond all bounds");
        let wide = Csr::from_triplets(1, 3, &[]).unwrap();
        assert_eq!(refused(&wide, 3, &OPTIONS), "factors of (1, 3) and (2, 3) for 1 × 3 interactions");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        /// With two products, one of which was had, every step is known: it can be followed one number at a time.
        #[test]
        fn steps_are_those_of_the_printed_loss(
            factors in 1usize..70,
            iterations in 1usize..6,
            learn_rate in 0.0f32..0.5,
            regularization in 0.0f32..0.5,
            seed in any::<u64>(),
        ) {
            let interactions = Csr::from_triplets(1, 2, &[(0, 1, 1.0)]).unwrap();
            let options = Options { iterations, learn_rate, regularization };
            let start = Factors::random(1, 2, factors, seed);
            let wide = |matrix: &Array2<f32>, row: usize| matrix.row(row).mapv(f64::from);
            let (mut p, mut q, mut r) = (wide(&start.users, 0), wide(&start.items, 1), wide(&start.items, 0));
            let (mut b, mut c) = (0.0, 0.0);
            let lambda = f64::from(regularization);
            for pass in 0..iterations {
                let rate = f64::from(learn_rate) * (1.0 - pass as f64 / iterations as f64);
                let gap = p.dot(&(&q - &r)) + b - c;
                let pull = 1.0 / (1.0 + gap.exp());
                let slopes = (&p * lambda - (&q - &r) * pull, &q * lambda - &p * pull, &r * lambda + &p * pull);
                (b, c) = (b - rate * (lambda * b - pull), c - rate * (lambda * c + pull));
                (p, q, r) = (p - slopes.0 * rate, q - slopes.1 * rate, r - slopes.2 * rate);
            }
            let found = fit(&interactions, start, &options, seed, &|_| true).unwrap();
            let pairs = [(wide(&found.users, 0), p), (wide(&found.items, 1), q), (wide(&found.items, 0), r)];
            for (found, expected) in pairs {
                prop_assert!((&found - &expected).iter().all(|gap| gap.abs() < 1e-4), "{found} or {expected}");
            }
            let [c_found, b_found] = [0, 1].map(|item| f64::from(found.biases[item]));
            prop_assert!((b_found - b).abs() < 1e-4 && (c_found - c).abs() < 1e-4);
        }
    }
}
