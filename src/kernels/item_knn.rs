//! Items that the same users had: nearest neighbours of items (Sarwar, Karypis, Konstan & Riedl 2001).
//!
//! "Item-Based Collaborative Filtering Recommendation Algorithms", WWW 2001; Deshpande & Karypis, "Item-Based Top-N
//! Recommendation Algorithms", TOIS 2004. How like item `j` item `i` is, is a sum over the users who had both,
//! scaled on either side:
//!
//! ```text
//! s(j, i) = a(j) · b(i) · Σᵤ w(u, j) · w(u, i)
//! ```
//!
//! Of each item only the most similar others are kept. A user's score of item `i` is the sum of `r(u, j) · s(j, i)`
//! over the items `j` that they had. An item is no neighbour of its own.

mod refit;
mod scores;
mod search;
mod shortlist;
mod weights;

use crate::error::{Error, Result};
use crate::kernels::csr::Csr;
use crate::kernels::progress::{Progress, Step};

pub use refit::{Before, Refitted, refit};
pub use scores::{Query, rank};

use search::Found;
use weights::Weights;

/// What makes two items alike. `r` are the ratings, `n_u` how many items user `u` had.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Similarity {
    /// The angle between the items' columns: `w = r`, `a = b = 1 / |w|`.
    Cosine,
    /// The same of `w = √r · idf(u)` with `idf(u) = ln(n_items / (1 + n_u))`: who had few items says more of each.
    TfIdf,
    /// Okapi BM25, with items as documents and users as their words: `w = r (k1 + 1) / (r + k1 · l) · idf(u)` with
    /// `l = 1 − b + b · Σᵤ r / (its mean over items)`, and `a = b = 1`. It has no upper bound.
    Bm25 { k1: f32, b: f32 },
    /// RP³β (Paudel, Christoffel, Newell & Bernstein 2017): the chance that a walk from the item to one of its users
    /// and on to one of theirs ends there, over the other item's popularity to the power of `beta`: `w = r / √Σᵢ r`,
    /// `a = 1 / Σᵤ r`, `b = (Σᵤ r)^−beta`.
    Rp3Beta { beta: f32 },
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    pub similarity: Similarity,
    /// How many are kept of each item; at least 1.
    pub neighbors: usize,
    /// Of a pair that `n` users had, `n / (n + shrinkage)` of the similarity counts; 0 or more. Users of whom nothing
    /// weighs anything are not among the `n`.
    pub shrinkage: f32,
}

/// What was learnt.
#[derive(Debug, Clone, PartialEq)]
pub struct Neighbors {
    /// items × items. Row `j` holds the items that are most like `j`, at most `neighbors` of them, with their
    /// similarity, which is above 0.
    pub matrix: Csr,
    /// For each item no less than the similarity of any other that was left out; 0 where none was.
    pub beyond: Vec<f32>,
}

/// Finds the neighbours of every item of `interactions` (users × items, ratings of 0 or more; a 0 is no interaction).
///
/// Of equally similar items the lower ids are kept. Tells `progress` of tenths of the work, and asks it in between by
/// telling the last one again. Fails on ratings below zero or not finite, on options out of range, on similarities
/// beyond all bounds, and when cancelled.
pub fn fit(interactions: &Csr, options: &Options, progress: Progress) -> Result<Neighbors> {
    check(options)?;
    let start = Step { done: 0, total: search::STEPS, loss: None };
    let go_on = || if progress(start) { Ok(()) } else { Err(Error::cancelled()) };
    let weights = Weights::of(interactions, options.similarity, &go_on)?;
    let items: Vec<u32> = (0..interactions.n_cols as u32).collect();
    let found = search::search(&weights, options, &items, &search::nothing, progress)?;
    Neighbors::of(found.into_iter().map(|(found, ())| found))
}

/// No fewer than the neighbors that [`fit`] keeps of all items together, each of which takes 16 bytes on the way.
pub fn most_neighbors(interactions: &Csr, neighbors: usize) -> usize {
    let mut met = vec![0usize; interactions.n_cols];
    for user in 0..interactions.n_rows {
        let items = interactions.row(user).0;
        items.iter().for_each(|item| met[*item as usize] += items.len() - 1);
    }
    let others = interactions.n_cols.saturating_sub(1);
    met.into_iter().map(|met| met.min(neighbors).min(others)).sum()
}

impl Neighbors {
    /// From what was found for each item in turn.
    fn of(found: impl ExactSizeIterator<Item = Found>) -> Result<Neighbors> {
        let n_items = found.len();
        let mut matrix = Csr {
            n_rows: n_items,
            n_cols: n_items,
            offsets: Vec::with_capacity(n_items + 1),
            columns: Vec::new(),
            values: Vec::new(),
        };
        let mut beyond = Vec::with_capacity(n_items);
        matrix.offsets.push(0);
        for mut found in found {
            found.neighbors.sort_unstable_by_key(|(item, _)| *item);
            for (item, similarity) in found.neighbors {
                if !similarity.is_finite() {
                    return Err(
                        Error::invalid("the similarities grew beyond all bounds").hint("scale the ratings down")
                    );
                }
                matrix.columns.push(item);
                matrix.values.push(similarity);
            }
            matrix.offsets.push(matrix.columns.len());
            beyond.push(found.beyond);
        }
        Ok(Neighbors { matrix, beyond })
    }
}

fn check(options: &Options) -> Result<()> {
    if options.neighbors == 0 {
        return Err(Error::invalid("item_knn needs at least 1 neighbor, got 0"));
    }
    let numbers = match options.similarity {
        Similarity::Cosine | Similarity::TfIdf => vec![],
        Similarity::Bm25 { k1, b } => vec![("bm25_k1", k1, f32::INFINITY), ("bm25_b", b, 1.0)],
        Similarity::Rp3Beta { beta } => vec![("beta", beta, f32::INFINITY)],
    };
    for (name, value, most) in numbers.into_iter().chain([("shrinkage", options.shrinkage, f32::INFINITY)]) {
        if !(value >= 0.0 && value.is_finite() && value <= most) {
            let bounds = if most.is_finite() { format!("from 0 to {most}") } else { "of 0 or more".to_owned() };
            return Err(Error::invalid(format!("{name} must be a number {bounds}, got {value}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use proptest::prelude::*;

    use super::*;
    use crate::error::Kind;

    const COSINE: Options = Options { similarity: Similarity::Cosine, neighbors: 5, shrinkage: 0.0 };

    pub(super) const EVERY: [Similarity; 4] = [
        Similarity::Cosine,
        Similarity::TfIdf,
        Similarity::Bm25 { k1: 1.2, b: 0.75 },
        Similarity::Rp3Beta { beta: 0.6 },
    ];

    pub(super) fn quietly(interactions: &Csr, options: &Options) -> Neighbors {
        fit(interactions, options, &|_| true).unwrap()
    }

    /// Two users had items 0 and 1, one had 1 and 2, nobody had 3.
    fn worked_example() -> Csr {
        let had = [(0, 0, 1.0), (0, 1, 1.0), (1, 0, 1.0), (1, 1, 1.0), (2, 1, 1.0), (2, 2, 1.0)];
        Csr::from_triplets(3, 4, &had).unwrap()
    }

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-5 * a.abs().max(b.abs())
    }

    /// The formulas as they are printed, for every pair: `s[j][i]`.
    fn slow(interactions: &Csr, options: &Options) -> Vec<Vec<f64>> {
        let (n_users, n_items) = (interactions.n_rows, interactions.n_cols);
        let mut r = vec![vec![0.0; n_items]; n_users];
        for (user, ratings) in r.iter_mut().enumerate() {
            let (items, values) = interactions.row(user);
            items.iter().zip(values).for_each(|(item, value)| ratings[*item as usize] = f64::from(*value));
        }
        let of_user = |user: usize| r[user].iter().sum::<f64>();
        let of_item = |item: usize| r.iter().map(|ratings| ratings[item]).sum::<f64>();
        let idf =
            |user: usize| (n_items as f64 / (1.0 + r[user].iter().filter(|rating| **rating > 0.0).count() as f64)).ln();
        let mean = (0..n_items).map(of_item).sum::<f64>() / n_items as f64;
        let w = |user: usize, item: usize| match options.similarity {
            _ if r[user][item] == 0.0 => 0.0,
            Similarity::Cosine => r[user][item],
            Similarity::TfIdf => r[user][item].sqrt() * idf(user),
            Similarity::Bm25 { k1, b } => {
                let (k1, b) = (f64::from(k1), f64::from(b));
                let norm = k1 * (1.0 - b + b * of_item(item) / mean);
                r[user][item] * (k1 + 1.0) / (r[user][item] + norm) * idf(user)
            }
            Similarity::Rp3Beta { .. } => r[user][item] / of_user(user).sqrt(),
        };
        let length = |item: usize| (0..n_users).map(|user| w(user, item).powi(2)).sum::<f64>().sqrt();
        let one = |j: usize, i: usize| {
            let both = |user: &usize| w(*user, j) * w(*user, i) > 0.0;
            let sum: f64 = (0..n_users).map(|user| w(user, j) * w(user, i)).sum();
            if i == j || sum == 0.0 {
                return 0.0;
            }
            let n = (0..n_users).filter(both).count() as f64;
            n / (n + f64::from(options.shrinkage))
                * match options.similarity {
                    Similarity::Cosine | Similarity::TfIdf => sum / (length(i) * length(j)),
                    Similarity::Bm25 { .. } => sum,
                    Similarity::Rp3Beta { beta } => sum / of_item(j) / of_item(i).powf(f64::from(beta)),
                }
        };
        (0..n_items).map(|j| (0..n_items).map(|i| one(j, i)).collect()).collect()
    }

    #[test]
    fn pairs_are_alike_by_who_had_both() {
        let found = quietly(&worked_example(), &COSINE);
        let (two_of_three, one_of_three) = ((2.0f32 / 3.0).sqrt(), (1.0f32 / 3.0).sqrt());
        let near = |a: &[f32], b: &[f32]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6);
        assert_eq!(found.matrix.columns, [1, 0, 2, 1]);
        assert!(near(&found.matrix.values, &[two_of_three, two_of_three, one_of_three, one_of_three]), "{found:?}");
        assert_eq!((found.matrix.row(3).0, &found.beyond[..]), (&[][..], &[0.0; 4][..]));
        assert_eq!((most_neighbors(&worked_example(), 5), most_neighbors(&worked_example(), 1)), (6, 3));

        // Of one neighbor the better stays; what was left out is remembered.
        let found = quietly(&worked_example(), &Options { neighbors: 1, ..COSINE });
        assert_eq!(found.matrix.row(1).0, [0]);
        assert!((found.beyond[1] - one_of_three).abs() < 1e-6);

        // Two users of three count two parts of three, with one in doubt.
        let found = quietly(&worked_example(), &Options { shrinkage: 1.0, ..COSINE });
        assert!(near(found.matrix.row(1).1, &[two_of_three * 2.0 / 3.0, one_of_three / 2.0]), "{found:?}");

        // From item 0 half the walks end at 1; from 1 one of three times a half at 0 for each of two users.
        let walk = Options { similarity: Similarity::Rp3Beta { beta: 0.0 }, ..COSINE };
        let found = quietly(&worked_example(), &walk);
        assert!(near(&found.matrix.values, &[0.5, 1.0 / 3.0, 1.0 / 6.0, 0.5]), "{found:?}");
    }

    #[test]
    fn of_equals_the_lower_ids_are_kept() {
        let all: Vec<_> = (0..4).flat_map(|user| (0..6).map(move |item| (user, item, 1.0))).collect();
        let interactions = Csr::from_triplets(4, 6, &all).unwrap();
        let found = quietly(&interactions, &Options { neighbors: 2, ..COSINE });
        assert_eq!(found.matrix.columns, [1, 2, 0, 2, 0, 1, 0, 1, 0, 1, 0, 1]);
        assert!(found.beyond.iter().all(|next| (next - 1.0).abs() < 1e-6));
    }

    #[test]
    fn what_has_nearly_decayed_is_compared_all_the_same() {
        // The first two items were had together, at weights whose products are too small to write down.
        let had = [(0, 0, 1e-30), (0, 1, 2e-30), (1, 0, 3e-30), (1, 1, 1e-30), (1, 2, 1.0), (2, 2, 1.0)];
        let interactions = Csr::from_triplets(3, 3, &had).unwrap();
        for similarity in [Similarity::Cosine, Similarity::TfIdf] {
            let found = quietly(&interactions, &Options { similarity, ..COSINE });
            let expected = slow(&interactions, &Options { similarity, ..COSINE })[0][1];
            assert!(near(f64::from(found.matrix.row(0).1[0]), expected), "{found:?} for {expected}");
        }
    }

    #[test]
    fn an_item_of_very_many_is_counted_exactly() {
        // Sums of ones stay whole numbers: 300,000 users who had both, and one more for each.
        let n = 300_000u32;
        let both = (0..n).flat_map(|user| [(user, 0, 1.0), (user, 1, 1.0)]);
        let had: Vec<_> = both.chain([(n, 0, 1.0), (n + 1, 1, 1.0)]).collect();
        let found = quietly(&Csr::from_triplets(n as usize + 2, 2, &had).unwrap(), &COSINE);
        let expected = f64::from(n) / f64::from(n + 1);
        assert!((f64::from(found.matrix.values[0]) - expected).abs() < 2e-7, "{found:?}");
    }

    #[test]
    fn nothing_and_one_of_anything() {
        for (n_users, n_items, had) in
            [(0, 0, vec![]), (2, 3, vec![]), (1, 1, vec![(0, 0, 2.0)]), (1, 2, vec![(0, 0, 0.0), (0, 1, 1.0)])]
        {
            let interactions = Csr::from_triplets(n_users, n_items, &had).unwrap();
            for similarity in EVERY {
                let found = quietly(&interactions, &Options { similarity, ..COSINE });
                assert_eq!((found.matrix.n_rows, found.matrix.nnz()), (n_items, 0));
                assert_eq!(found.beyond, vec![0.0; n_items]);
            }
        }
    }

    #[test]
    fn odd_ratings_and_options_are_refused() {
        let refused = |rating: f32, options: &Options| {
            let interactions = Csr::from_triplets(1, 2, &[(0, 0, rating), (0, 1, rating)]).unwrap();
            fit(&interactions, options, &|_| true).unwrap_err()
        };
        for rating in [-1.0, f32::NAN, f32::INFINITY] {
            assert_eq!(refused(rating, &COSINE).kind, Kind::Invalid);
        }
        for options in [
            Options { neighbors: 0, ..COSINE },
            Options { shrinkage: -1.0, ..COSINE },
            Options { similarity: Similarity::Bm25 { k1: 1.0, b: 1.1 }, ..COSINE },
            Options { similarity: Similarity::Rp3Beta { beta: f32::NAN }, ..COSINE },
        ] {
            assert_eq!(refused(1.0, &options).kind, Kind::Invalid);
        }
        let beyond = refused(1e-30, &Options { similarity: Similarity::Rp3Beta { beta: 3.0 }, ..COSINE });
        assert!(beyond.message.contains("beyond all bounds"), "{beyond}");
    }

    #[test]
    fn it_stops_when_told() {
        let asked = AtomicUsize::new(0);
        let error = fit(&worked_example(), &COSINE, &|_| asked.fetch_add(1, Ordering::Relaxed) < 2).unwrap_err();
        assert_eq!(error.kind, Kind::Cancelled);
        assert!(asked.into_inner() <= 4);
    }

    #[test]
    fn steps_come_in_order_to_the_last() {
        let steps = std::sync::Mutex::new(vec![0]);
        let told = |step: Step| {
            let mut steps = steps.lock().unwrap();
            assert!(step.done >= *steps.last().unwrap() && step.total == 10);
            steps.push(step.done);
            true
        };
        fit(&worked_example(), &COSINE, &told).unwrap();
        assert_eq!(steps.into_inner().unwrap().last(), Some(&10));
    }

    /// Entries of a made-up shop, some items had by nearly everybody and most by few.
    fn shop(n_users: u32, n_items: u32, salt: u32) -> Csr {
        let mixed = |user: u32, item: u32| (user * 7919 + item * 104_729 + salt).wrapping_mul(2_654_435_761) >> 12;
        let pairs = (0..n_users).flat_map(|user| (0..n_items).map(move |item| (user, item)));
        let had = pairs.filter(|(user, item)| mixed(*user, *item) % (2 + item / 3) == 0);
        let had: Vec<_> = had.map(|(user, item)| (user, item, 1.0 + (mixed(item, user) % 4) as f32)).collect();
        Csr::from_triplets(n_users as usize, n_items as usize, &had).unwrap()
    }

    #[test]
    fn any_number_of_threads_finds_the_same_bits() {
        let interactions = shop(400, 300, 5);
        for similarity in EVERY {
            for shrinkage in [0.0, 3.0] {
                let options = Options { similarity, neighbors: 7, shrinkage };
                let on = |threads| {
                    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                    pool.install(|| quietly(&interactions, &options))
                };
                assert!(on(1) == on(3));
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn every_pair_and_a_full_sort_find_the_same(
            // Few interactions of many items are listed, many are looked through.
            (n_items, triplets) in (1u32..80).prop_flat_map(|n_items| {
                (Just(n_items), prop::collection::vec((0u32..9, 0..n_items, 0u8..5), 0..60))
            }),
            similarity in prop::sample::select(EVERY.to_vec()),
            shrinkage in prop::sample::select(vec![0.0, 0.5, 10.0]),
            neighbors in 1usize..8,
        ) {
            let triplets: Vec<_> = triplets.into_iter().map(|(user, item, r)| (user, item, f32::from(r))).collect();
            let interactions = Csr::from_triplets(9, n_items as usize, &triplets).unwrap();
            let options = Options { similarity, neighbors, shrinkage };
            let found = quietly(&interactions, &options);
            for (item, similarities) in slow(&interactions, &options).iter().enumerate() {
                let (others, values) = found.matrix.row(item);
                prop_assert!(others.is_sorted_by(|a, b| a < b));
                for (other, value) in others.iter().zip(values) {
                    prop_assert!(near(f64::from(*value), similarities[*other as usize]));
                }
                let mut values: Vec<f64> = values.iter().map(|value| f64::from(*value)).collect();
                values.push(f64::from(found.beyond[item]));
                values.sort_by(|a, b| b.total_cmp(a));
                let mut best: Vec<f64> = similarities.iter().copied().filter(|value| *value > 0.0).collect();
                best.sort_by(|a, b| b.total_cmp(a));
                best.resize(values.len().max(best.len().min(neighbors + 1)), 0.0);
                prop_assert!(best.len() == values.len(), "{:?} for {:?}", values, best);
                prop_assert!(values.iter().zip(&best).all(|(a, b)| near(*a, *b)), "{:?} for {:?}", values, best);
            }
            prop_assert!(found.matrix.nnz() <= most_neighbors(&interactions, neighbors));
        }
    }
}
