//! Recommendations from what customers did and from what is known of them and of the products: WARP over sums of
//! embeddings.
//!
//! Every value of a trait has an embedding, and so has every identity that the caller gives as one more trait. A
//! customer or a product is the sum of the embeddings of its values (Kula: "Metadata Embeddings for User and Item
//! Cold-start Recommendations", 2015), so that one who did nothing yet is known by its traits. A score is
//! `p·q + b`, where the product's bias `b` is a sum as well.
//!
//! The loss is that of Weston, Bengio, Usunier ("WSABIE: Scaling Up To Large Vocabulary Image Annotation", IJCAI 2011):
//! for something a customer had, products they had not are drawn until one scores above it, less a margin of 1. If that
//! took `t` draws, about `rank = (n − 1) / t` of the `n` products do. The step is taken for the two, weighted by
//! `1 + 1/2 + … + 1/rank` as a share of the same up to `n − 1`: what stands low in a ranking matters more. Where some
//! draws find nothing, the ranking is good enough, and no step is taken.
//!
//! Entries are taken in batches. All searches of a batch see the same embeddings, on as many threads as there are;
//! then each value's gradients are added up in the order of the entries, and its embedding moves once (Duchi, Hazan,
//! Singer: "Adaptive Subgradient Methods", 2011). So the threads do not show in the result.

mod search;
mod table;

use ndarray::{Array1, Array2, ArrayView2};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::kernels::csr::Csr;
use crate::kernels::dense::{Dense, PANEL};
use crate::kernels::progress::{Progress, Step};
use crate::kernels::warp::search::{CHUNK, Found, Search};
use crate::kernels::warp::table::{Pull, Table};
use crate::kernels::{random, simd};

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// As many entries are drawn in each as there are.
    pub iterations: usize,
    /// The length of a number's first steps, about; later ones are shorter, by the root of what gradients it has met.
    pub learn_rate: f32,
    /// λ: for each entry that moves an embedding, `λ/2` of its square is added to the loss.
    pub regularization: f32,
    /// The most draws in search of a product that scores too high, at least 1.
    pub draws: usize,
}

/// What is known of either side: `owners × values`, and how much a value counts for its owner, usually 1.
#[derive(Debug, Clone, Copy)]
pub struct Traits<'a> {
    pub users: &'a Csr,
    pub items: &'a Csr,
}

/// What was learnt of each value.
#[derive(Debug, Clone, PartialEq)]
pub struct Embeddings {
    /// `values of users × factors`.
    pub users: Array2<f32>,
    /// `values of items × factors`.
    pub items: Array2<f32>,
    /// One for each value of items.
    pub biases: Array1<f32>,
}

impl Embeddings {
    /// Where to start from when nothing is known: short vectors in random directions, and no biases.
    pub fn random(traits: &Traits, factors: usize, seed: u64) -> Embeddings {
        // As long with few factors as with many: short ones would take long to grow.
        let size = 0.4 / (factors as f32).sqrt();
        let side = |n, number| random::normal(n, factors, size, seed, number);
        let (n_users, n_items) = (traits.users.n_cols, traits.items.n_cols);
        Embeddings { users: side(n_users, 0), items: side(n_items, 1), biases: Array1::zeros(n_items) }
    }
}

/// For each owner the sum of the `embeddings` (`values × factors`) of its values: `owners × factors`.
pub fn sums(traits: &Csr, embeddings: ArrayView2<f32>) -> Array2<f32> {
    let mut sums = Array2::zeros((traits.n_rows, embeddings.ncols()));
    let rows: Vec<_> = sums.outer_iter_mut().enumerate().collect();
    rows.into_par_iter().for_each(|(owner, mut sum)| {
        let (values, weights) = traits.row(owner);
        for (value, weight) in values.iter().zip(weights) {
            sum.scaled_add(*weight, &embeddings.row(*value as usize));
        }
    });
    sums
}

/// Learns from `interactions` (customers × products): an entry above zero says that the customer had the product, how
/// far above does not matter.
///
/// Goes on from `start`, and tells `progress` of each iteration with the mean loss of its entries; in between it asks
/// by telling the last one again. Only products that somebody had are ever drawn, and values that no entry speaks
/// of have embeddings of zeros: a product that nobody had yet is the sum of what others teach of its traits. Fails
/// when shapes do not fit, on ratings that are not finite or below zero, on options out of range, when the
/// embeddings grow beyond all bounds, and when cancelled.
pub fn fit(
    interactions: &Csr,
    traits: &Traits,
    start: Embeddings,
    options: &Options,
    seed: u64,
    progress: Progress,
) -> Result<Embeddings> {
    check(interactions, traits, &start, options)?;
    let factors = start.users.ncols();
    let had = interactions.positive();
    let mut learning = Learning::of(&had, traits, start, options, seed);
    let mut reached = Step { done: 0, total: options.iterations, loss: None };
    for done in 1..=options.iterations {
        let mut loss = 0.0;
        for first in (0..had.nnz()).step_by(learning.batch) {
            loss += learning.learn(learning.batch.min(had.nnz() - first));
            if !progress(reached) {
                return Err(Error::cancelled());
            }
        }
        let loss = (had.nnz() > 0).then(|| loss / had.nnz() as f64);
        if loss.is_some_and(|loss| !loss.is_finite()) {
            return Err(Error::invalid("the embeddings grew beyond all bounds").hint("lower the learning rate"));
        }
        reached = Step { done, total: options.iterations, loss };
        if !progress(reached) {
            return Err(Error::cancelled());
        }
    }
    let (users, _) = learning.users.into_arrays(factors);
    let (items, biases) = learning.items.into_arrays(factors);
    Ok(Embeddings { users, items, biases })
}

/// What [`fit`] works with.
struct Learning<'a> {
    had: &'a Csr,
    traits: &'a Traits<'a>,
    options: &'a Options,
    seed: u64,
    /// The customer of each entry.
    owners: Vec<u32>,
    /// The products to draw from: those that somebody had.
    drawn: Vec<u32>,
    /// For each draw the weight of what is found with it.
    weights: Vec<f32>,
    users: Table,
    items: Table,
    /// Entries to a batch.
    batch: usize,
    /// For each entry of a batch its customer's vector.
    vectors: Dense,
    /// And the vector of what they had, less that of what was found to score too high.
    gaps: Dense,
    /// Chunks of entries so far: each draws from a stream of its own.
    chunks: u64,
}

impl<'a> Learning<'a> {
    fn of(had: &'a Csr, traits: &'a Traits, start: Embeddings, options: &'a Options, seed: u64) -> Learning<'a> {
        let factors = start.users.ncols();
        let mut taken = vec![0.0; had.n_cols];
        had.columns.iter().for_each(|item| taken[*item as usize] += 1.0);
        let drawn: Vec<u32> = (0..had.n_cols as u32).filter(|item| taken[*item as usize] > 0.0).collect();
        // An item is met as often as it was had, and all are drawn alike.
        let share = had.nnz() as f64 / drawn.len().max(1) as f64;
        taken.iter_mut().filter(|taken| **taken > 0.0).for_each(|taken| *taken += share);
        let active: Vec<f64> = had.offsets.windows(2).map(|ends| (ends[1] - ends[0]) as f64).collect();
        let batch = (had.nnz() / BATCHES).clamp(BATCH.0, BATCH.1);
        Learning {
            had,
            traits,
            options,
            seed,
            owners: (0..had.n_rows).flat_map(|user| had.row(user).0.iter().map(move |_| user as u32)).collect(),
            weights: weights(drawn.len(), options.draws),
            drawn,
            users: Table::of(&start.users, None, &load(traits.users, &active)),
            items: Table::of(&start.items, Some(&start.biases), &load(traits.items, &taken)),
            batch,
            vectors: Dense::zeros(batch, factors),
            gaps: Dense::zeros(batch, factors),
            chunks: 0,
        }
    }

    /// Takes that many entries by chance and moves what they speak of; answers the sum of their losses before.
    fn learn(&mut self, entries: usize) -> f64 {
        let width = self.vectors.width() * CHUNK;
        let (vectors, gaps) = (self.vectors.values_mut(), self.gaps.values_mut());
        let found: Vec<Vec<Found>> = (vectors.par_chunks_mut(width), gaps.par_chunks_mut(width))
            .into_par_iter()
            .enumerate()
            .take(entries.div_ceil(CHUNK))
            .map(|(chunk, (vectors, gaps))| {
                let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
                rng.set_stream(self.chunks + chunk as u64);
                simd::run(Search {
                    entries: CHUNK.min(entries - chunk * CHUNK),
                    had: self.had,
                    owners: &self.owners,
                    drawn: &self.drawn,
                    traits: self.traits,
                    users: self.users.rows(),
                    items: self.items.rows(),
                    biases: self.items.biases(),
                    weights: &self.weights,
                    vectors,
                    gaps,
                    rng,
                })
            })
            .collect();
        self.chunks += found.len() as u64;
        let mut loss = 0.0;
        let (mut of_users, mut of_items) = (Vec::new(), Vec::new());
        for (entry, found) in found.iter().flatten().enumerate().filter(|(_, found)| found.weight > 0.0) {
            loss += f64::from(found.loss);
            let entry = entry as u32;
            of_users.extend(pulls(self.traits.users, found.user, entry, -found.weight));
            of_items.extend(pulls(self.traits.items, found.item, entry, -found.weight));
            of_items.extend(pulls(self.traits.items, found.other, entry, found.weight));
        }
        let (users, items, options) = (&mut self.users, &mut self.items, self.options);
        rayon::join(|| users.step(&of_users, &self.gaps, options), || items.step(&of_items, &self.vectors, options));
        loss
    }
}

/// Bytes that [`fit`] takes at its most, what it is given and what it answers included; the interactions and the
/// traits are not.
pub fn bytes(traits: &Traits, n_entries: usize, factors: usize) -> usize {
    let values = traits.users.n_cols.saturating_add(traits.items.n_cols);
    let row = 4 * factors.next_multiple_of(PANEL);
    values.saturating_mul(3 * row).saturating_add(n_entries.saturating_mul(4))
}

/// Batches in an iteration, and entries in a batch at least and at most: enough steps where data are few, enough work
/// for threads where they are many.
const BATCHES: usize = 256;
const BATCH: (usize, usize) = (64, 4096);

/// How often each value's embedding will be asked for, about: what its owners are met.
fn load(traits: &Csr, owners: &[f64]) -> Vec<f64> {
    let mut load = vec![0.0; traits.n_cols];
    for (owner, met) in owners.iter().enumerate() {
        traits.row(owner).0.iter().for_each(|value| load[*value as usize] += met);
    }
    load
}

/// The weight of a step for a product that was found at the first draw, the second, …: `1 + 1/2 + … + 1/rank`, of the
/// rank that it tells, and 1 for the last rank of all.
fn weights(n_items: usize, draws: usize) -> Vec<f32> {
    let harmonic = |n: usize| (1..=n).map(|rank| 1.0 / rank as f64).sum::<f64>();
    let last = n_items.saturating_sub(1).max(1);
    let whole = harmonic(last);
    (1..=draws).map(|draw| (harmonic((last / draw).max(1)) / whole) as f32).collect()
}

/// What an owner's values are moved by, for one entry.
fn pulls(traits: &Csr, owner: u32, entry: u32, weight: f32) -> impl Iterator<Item = Pull> {
    let (values, counts) = traits.row(owner as usize);
    values.iter().zip(counts).map(move |(value, count)| Pull { value: *value, entry, weight: weight * count })
}

fn check(interactions: &Csr, traits: &Traits, start: &Embeddings, options: &Options) -> Result<()> {
    let (users, items) = (start.users.dim(), start.items.dim());
    let fits = (traits.users.n_rows, traits.items.n_rows) == (interactions.n_rows, interactions.n_cols)
        && (users.0, items.0, start.biases.len()) == (traits.users.n_cols, traits.items.n_cols, traits.items.n_cols)
        && users.1 == items.1;
    if !fits {
        return Err(Error::internal(format!(
            "embeddings of {users:?} and {items:?} for traits of {} × {} and {} × {}",
            traits.users.n_rows, traits.users.n_cols, traits.items.n_rows, traits.items.n_cols
        )));
    }
    if users.1 == 0 || options.draws == 0 {
        return Err(Error::invalid(format!(
            "warp needs at least 1 factor and 1 draw, got {} and {}",
            users.1, options.draws
        )));
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
    use rand::Rng;

    use super::*;
    use crate::kernels::popularity;
    use crate::kernels::topk;

    const OPTIONS: Options = Options { iterations: 20, learn_rate: 0.05, regularization: 0.1, draws: 10 };

    /// Each owner's group, and its identity beside it where `identities` says so.
    fn grouped(groups: &[u32], n_groups: u32, identities: bool) -> Csr {
        let n = groups.len();
        let mut triplets: Vec<_> =
            groups.iter().enumerate().map(|(owner, group)| (owner as u32, *group, 1.0)).collect();
        if identities {
            triplets.extend((0..n as u32).map(|owner| (owner, n_groups + owner, 1.0)));
        }
        Csr::from_triplets(n, n_groups as usize + if identities { n } else { 0 }, &triplets).unwrap()
    }

    /// A shop of four tastes: customers mostly take products of their own kind. Of every kind the last products are
    /// new, and nobody had them yet.
    struct Shop {
        had: Csr,
        users: Vec<u32>,
        items: Vec<u32>,
    }

    impl Shop {
        fn of(n_users: u32, n_items: u32) -> Shop {
            let kind = |item: u32| item % 4;
            let mut rng = ChaCha8Rng::seed_from_u64(3);
            let mut had = Vec::new();
            for user in 0..n_users {
                for _ in 0..40 {
                    let item = rng.random_range(0..n_items - 8);
                    let own = kind(item) == kind(user);
                    if own || rng.random_range(0..10) == 0 {
                        had.push((user, item, 1.0));
                    }
                }
            }
            let mut had = Csr::from_triplets(n_users as usize, n_items as usize, &had).unwrap();
            had.values.fill(1.0);
            Shop { had, users: (0..n_users).map(kind).collect(), items: (0..n_items).map(kind).collect() }
        }
    }

    /// What share of each customer's ten best products, that they have not had, are of their own kind.
    fn share_of_own_kind(shop: &Shop, ranked: &[Vec<(u32, f32)>]) -> f64 {
        let n: usize = ranked.iter().map(Vec::len).sum();
        let lists = ranked.iter().zip(&shop.users);
        let own = |(list, kind): (&Vec<(u32, f32)>, &u32)| {
            list.iter().filter(|(item, _)| shop.items[*item as usize] == *kind).count()
        };
        lists.map(own).sum::<usize>() as f64 / n as f64
    }

    /// The ten best for each customer by sums of embeddings, the bias being one more factor.
    fn ranked(shop: &Shop, traits: &Traits, found: &Embeddings, only: Option<&[u32]>) -> Vec<Vec<(u32, f32)>> {
        let biases = sums(traits.items, found.biases.view().insert_axis(ndarray::Axis(1)));
        let items = ndarray::concatenate![ndarray::Axis(1), sums(traits.items, found.items.view()), biases];
        let users = sums(traits.users, found.users.view());
        let users = ndarray::concatenate![ndarray::Axis(1), users, Array2::ones((traits.users.n_rows, 1))];
        let seen: Vec<&[u32]> = (0..shop.had.n_rows).map(|user| shop.had.row(user).0).collect();
        let items = topk::Items::of(items.view());
        let query = topk::Query { users: users.view(), items: &items, k: 10, seen: Some(&seen), candidates: only };
        topk::top_k(&query).unwrap()
    }

    #[test]
    fn an_early_find_weighs_more() {
        // Five products: found at once, four others stand above; at the second draw two; then one.
        let whole = 1.0 + 1.0 / 2.0 + 1.0 / 3.0 + 1.0 / 4.0;
        let expected = [1.0, 1.5 / whole, 1.0 / whole, 1.0 / whole, 1.0 / whole];
        assert!(weights(5, 5).iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-6));
        assert_eq!(weights(1, 2), [1.0, 1.0]);
        assert_eq!(weights(0, 1), [1.0]);
    }

    #[test]
    fn sums_are_products_with_the_traits() {
        let traits = Csr::from_triplets(3, 2, &[(0, 0, 1.0), (0, 1, 2.0), (2, 1, 1.0)]).unwrap();
        let embeddings = array![[1.0, 0.0, 3.0], [0.5, 1.0, 0.0]];
        assert_eq!(sums(&traits, embeddings.view()), array![[2.0, 2.0, 3.0], [0.0, 0.0, 0.0], [0.5, 1.0, 0.0]]);
    }

    #[test]
    fn tastes_are_found_by_identities_alone() {
        let shop = Shop::of(400, 200);
        let (users, items) = (grouped(&vec![0; 400], 0, true), grouped(&vec![0; 200], 0, true));
        let traits = Traits { users: &users, items: &items };
        let start = Embeddings::random(&traits, 8, 1);
        let found = fit(&shop.had, &traits, start, &OPTIONS, 1, &|_| true).unwrap();
        let share = share_of_own_kind(&shop, &ranked(&shop, &traits, &found, None));
        let popular: Vec<(u32, f32)> =
            popularity::ranking(&shop.had)[..10].iter().map(|(item, _)| (*item, 0.0)).collect();
        let by_popularity = share_of_own_kind(&shop, &vec![popular; 400]);
        assert!(share > 0.8 && by_popularity < 0.4, "{share}, by popularity {by_popularity}");
    }

    #[test]
    fn a_product_that_nobody_had_is_known_by_its_traits() {
        let shop = Shop::of(400, 200);
        let (users, items) = (grouped(&shop.users, 4, true), grouped(&shop.items, 4, true));
        let traits = Traits { users: &users, items: &items };
        let start = Embeddings::random(&traits, 8, 1);
        let found = fit(&shop.had, &traits, start, &OPTIONS, 1, &|_| true).unwrap();
        // Their identities are not known, and add nothing.
        assert!(found.items.slice(ndarray::s![4 + 192.., ..]).iter().all(|value| *value == 0.0));
        let fresh: Vec<u32> = (192..200).collect();
        let ranked = ranked(&shop, &traits, &found, Some(&fresh));
        let two: Vec<Vec<(u32, f32)>> = ranked.iter().map(|list| list[..2].to_vec()).collect();
        assert!(share_of_own_kind(&shop, &two) > 0.95);
    }

    #[test]
    fn the_same_bits_on_one_thread_and_on_many() {
        let shop = Shop::of(1500, 150);
        let (users, items) = (grouped(&shop.users, 4, true), grouped(&shop.items, 4, true));
        let traits = Traits { users: &users, items: &items };
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let start = Embeddings::random(&traits, 5, 1);
            pool.install(|| fit(&shop.had, &traits, start, &Options { iterations: 3, ..OPTIONS }, 9, &|_| true))
                .unwrap()
        };
        assert_eq!(on(1), on(3));
    }

    #[test]
    fn the_loss_falls_and_a_loop_stops_when_told() {
        let shop = Shop::of(300, 100);
        let (users, items) = (grouped(&shop.users, 4, true), grouped(&shop.items, 4, true));
        let traits = Traits { users: &users, items: &items };
        let losses = std::sync::Mutex::new(Vec::new());
        let told = |step: Step| {
            losses.lock().unwrap().extend(step.loss);
            step.done < 15
        };
        let cancelled = fit(&shop.had, &traits, Embeddings::random(&traits, 8, 1), &OPTIONS, 1, &told);
        assert_eq!(cancelled, Err(Error::cancelled()));
        let mut losses: Vec<f64> = losses.into_inner().unwrap();
        losses.dedup();
        assert!(losses[0] > 1.1 * losses[losses.len() - 1], "{losses:?}");
    }

    #[test]
    fn there_may_be_little_to_learn() {
        let nothing = Csr::from_triplets(0, 0, &[]).unwrap();
        let none = Traits { users: &nothing, items: &nothing };
        assert!(fit(&nothing, &none, Embeddings::random(&none, 3, 1), &OPTIONS, 1, &|_| true).is_ok());
        // One product, which all had; a customer without traits; a rating of zero.
        let had = Csr::from_triplets(3, 2, &[(0, 0, 1.0), (1, 0, 1.0), (2, 1, 0.0)]).unwrap();
        let users = Csr::from_triplets(3, 1, &[(1, 0, 1.0)]).unwrap();
        let items = Csr::from_triplets(2, 2, &[(0, 0, 1.0), (1, 1, 1.0)]).unwrap();
        let traits = Traits { users: &users, items: &items };
        let start = Embeddings::random(&traits, 3, 1);
        let found = fit(&had, &traits, start.clone(), &OPTIONS, 1, &|_| true).unwrap();
        assert_eq!(found.items.row(0), start.items.row(0));
        assert_eq!(found.items.row(1), Array1::<f32>::zeros(3));
    }

    #[test]
    fn what_cannot_be_learnt_from_is_refused() {
        let one = Csr::from_triplets(1, 1, &[(0, 0, 1.0)]).unwrap();
        let traits = Traits { users: &one, items: &one };
        let start = || Embeddings::random(&traits, 3, 1);
        let refused = |interactions: &Csr, start, options: &Options| {
            fit(interactions, &traits, start, options, 1, &|_| true).unwrap_err().message
        };
        let below = Csr::from_triplets(1, 1, &[(0, 0, -1.0)]).unwrap();
        assert_eq!(refused(&below, start(), &OPTIONS), "ratings must be numbers of 0 or more, got -1");
        let wide = Csr::from_triplets(1, 2, &[(0, 0, 1.0)]).unwrap();
        assert!(refused(&wide, start(), &OPTIONS).starts_with("embeddings of (1, 3) and (1, 3) for traits of"));
        let none = Embeddings::random(&traits, 0, 1);
        assert_eq!(refused(&one, none, &OPTIONS), "warp needs at least 1 factor and 1 draw, got 0 and 10");
        let rate = Options { learn_rate: f32::NAN, ..OPTIONS };
        assert_eq!(refused(&one, start(), &rate), "the learning rate must be a number of 0 or more, got NaN");
        // Two products and customers, so that there is something to find.
        let had = Csr::from_triplets(2, 2, &[(0, 0, 1.0), (1, 1, 1.0)]).unwrap();
        let traits = Traits { users: &had, items: &had };
        let huge = Options { learn_rate: 1e30, ..OPTIONS };
        let error = fit(&had, &traits, Embeddings::random(&traits, 3, 1), &huge, 1, &|_| true).unwrap_err();
        assert_eq!(error.message, "the embeddings grew beyond all bounds");
    }
}
