//! A vector for somebody new, where products have vectors and biases and only the order of scores counts.
//!
//! The products are held still. What the newcomer had, `B`, should score above what they had not: their vector `p` is
//! where
//!
//! ```text
//! Σ over i in B of ( mean over j not in B of −ln σ(x(i) − x(j))  +  λ/2 |p|² ),   x(i) = p·q(i) + b(i)
//! ```
//!
//! is lowest, which is what Bayesian personalized ranking (Rendle et al. 2009) would move the vector to in the long
//! run. Where something is known of the newcomer besides, `p` is drawn to what that tells instead of to zero. The sum is
//! convex, so there is one such place, and no random choice is needed to find it: the `j` are all products, or some
//! hundred of them that are spread evenly. At the lowest place the gradient is zero, which gives each product's share
//! in `p` (a representer theorem; Yeh, Kim, Yen, Ravikumar: "Representer Point Selection", 2018):
//!
//! ```text
//! p = Σ over i in B of  1 / (λ |B|) · mean over j not in B of σ(x(j) − x(i)) · (q(i) − q(j))
//! ```

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis};

use crate::error::{Error, Result};
use crate::kernels::csr::check_rating;
use crate::kernels::lbfgs;

/// What a newcomer's products are held against.
#[derive(Debug)]
pub struct Rivals {
    items: Vec<u32>,
    /// A row for each.
    vectors: Array2<f64>,
    biases: Array1<f64>,
}

/// Rivals at most.
const RIVALS: usize = 512;

impl Rivals {
    /// Of `items` (`n_items × factors`) those `among`, ascending: all, or some hundred at even distances.
    pub fn of(items: ArrayView2<f32>, biases: ArrayView1<f32>, among: &[u32]) -> Rivals {
        let n = among.len().min(RIVALS);
        // The middle of each of n equal stretches.
        let chosen: Vec<u32> = (0..n).map(|at| among[(2 * at + 1) * among.len() / (2 * n)]).collect();
        let rows: Vec<usize> = chosen.iter().map(|item| *item as usize).collect();
        Rivals {
            vectors: items.select(Axis(0), &rows).mapv(f64::from),
            biases: biases.select(Axis(0), &rows).mapv(f64::from),
            items: chosen,
        }
    }
}

/// Products as vectors and biases.
#[derive(Debug, Clone, Copy)]
pub struct Shelf<'a> {
    /// `n_items × factors`.
    pub vectors: ArrayView2<'a, f32>,
    pub biases: ArrayView1<'a, f32>,
    pub rivals: &'a Rivals,
    /// λ, above zero.
    pub regularization: f32,
}

/// How near the lowest place is near enough: as a share of the gradient at zero it is far below what a ranking shows.
const TOLERANCE: f64 = 1e-3;
const STEPS: usize = 50;

impl Shelf<'_> {
    /// The vector of who had `basket` (item and rating; only whether the rating is above zero matters), drawn to
    /// `known`, or to zeros.
    ///
    /// Without such an item, or with nothing to hold them against, that is the answer. Fails on an item outside the
    /// shelf and on ratings below zero or not finite.
    pub fn fold_in(&self, basket: &[(u32, f32)], known: Option<ArrayView1<f32>>) -> Result<Array1<f32>> {
        let known = known.map_or_else(|| Array1::zeros(self.vectors.ncols()), |known| known.mapv(f64::from));
        let mut contest = self.contest(basket)?;
        if contest.is_empty() {
            return Ok(known.mapv(|value| value as f32));
        }
        // What is looked for is the way from there, and the scores there are as good as biases.
        contest.biases += &contest.vectors.dot(&known);
        contest.other_biases += &contest.other_vectors.dot(&known);
        let options =
            lbfgs::Options { max_iterations: STEPS, gradient_tolerance: TOLERANCE * contest.biases.len() as f64 };
        let start = Array2::zeros((1, self.vectors.ncols()));
        let found = lbfgs::minimise(start, |p| contest.slope(p), &options, &|_| true)?;
        Ok((&found.row(0) + &known).mapv(|value| value as f32))
    }

    /// What each product of `basket` adds to `vector · vectors[item]`, by the equation above. They sum to it as far as
    /// the vector is where the sum is lowest, being drawn to zeros.
    pub fn shares(&self, vector: ArrayView1<f32>, basket: &[(u32, f32)], item: u32) -> Result<Vec<(u32, f32)>> {
        let contest = self.contest(basket)?;
        if contest.is_empty() {
            return Ok(Vec::new());
        }
        let target = self.vectors.row(item as usize).mapv(f64::from);
        let shares = contest.shares(&vector.mapv(f64::from)).dot(&target);
        Ok(contest.items.iter().copied().zip(shares.iter().map(|share| *share as f32)).collect())
    }

    fn contest(&self, basket: &[(u32, f32)]) -> Result<Contest> {
        for (item, rating) in basket {
            if *item as usize >= self.vectors.nrows() {
                return Err(Error::internal(format!("item {item} of {} items", self.vectors.nrows())));
            }
            check_rating(*rating)?;
        }
        let mut items: Vec<u32> = basket.iter().filter(|(_, rating)| *rating > 0.0).map(|(item, _)| *item).collect();
        items.sort_unstable();
        items.dedup();
        let others = self.rivals.items.iter().enumerate();
        let others: Vec<usize> =
            others.filter(|(_, item)| items.binary_search(item).is_err()).map(|(at, _)| at).collect();
        let had: Vec<usize> = items.iter().map(|item| *item as usize).collect();
        Ok(Contest {
            vectors: self.vectors.select(Axis(0), &had).mapv(f64::from),
            biases: self.biases.select(Axis(0), &had).mapv(f64::from),
            other_vectors: self.rivals.vectors.select(Axis(0), &others),
            other_biases: self.rivals.biases.select(Axis(0), &others),
            regularization: f64::from(self.regularization),
            items,
        })
    }
}

/// What somebody had, and what they had not.
struct Contest {
    items: Vec<u32>,
    vectors: Array2<f64>,
    biases: Array1<f64>,
    other_vectors: Array2<f64>,
    other_biases: Array1<f64>,
    regularization: f64,
}

impl Contest {
    fn is_empty(&self) -> bool {
        self.biases.is_empty() || self.other_biases.is_empty()
    }

    /// The sum to make small, and its gradient.
    fn slope(&self, place: &Array2<f64>) -> (f64, Array2<f64>) {
        let p = place.row(0);
        let n = self.biases.len() as f64;
        let (pulls, others, loss) = self.pulls(p);
        let gradient =
            &p * (n * self.regularization) - self.vectors.t().dot(&pulls) + self.other_vectors.t().dot(&others);
        (loss + n * self.regularization / 2.0 * p.dot(&p), gradient.insert_axis(Axis(0)))
    }

    /// For each that was had the mean of `σ(x(j) − x(i))`, for each other the sum of its parts of these means, and the
    /// sum of the mean losses.
    fn pulls(&self, p: ArrayView1<f64>) -> (Array1<f64>, Array1<f64>, f64) {
        let scores = self.vectors.dot(&p) + &self.biases;
        let other_scores = self.other_vectors.dot(&p) + &self.other_biases;
        let n = other_scores.len() as f64;
        let mut others = Array1::zeros(other_scores.len());
        let mut loss = 0.0;
        let pulls = scores.mapv(|score| {
            // −ln σ(−g) = max(g, 0) + ln(1 + e^−|g|); of factors between 1 and 2 many make one logarithm.
            let (mut sum, mut product, mut pull) = (0.0, 1.0, 0.0);
            for (other, part) in other_scores.iter().zip(&mut others) {
                let gap = other - score;
                let odds = (-gap.abs()).exp();
                sum += gap.max(0.0);
                product *= 1.0 + odds;
                let chance = if gap > 0.0 { 1.0 } else { odds } / (1.0 + odds);
                *part += chance / n;
                pull += chance / n;
            }
            loss += (sum + product.ln()) / n;
            pull
        });
        (pulls, others, loss)
    }

    /// A row for each that was had: its share in the vector `p`.
    fn shares(&self, p: &Array1<f64>) -> Array2<f64> {
        let scores = self.vectors.dot(p) + &self.biases;
        let other_scores = self.other_vectors.dot(p) + &self.other_biases;
        let chances = Array2::from_shape_fn((scores.len(), other_scores.len()), |(i, j)| {
            1.0 / (1.0 + (scores[i] - other_scores[j]).exp()) / other_scores.len() as f64
        });
        let pulls = chances.sum_axis(Axis(1)).insert_axis(Axis(1));
        (&self.vectors * &pulls - chances.dot(&self.other_vectors)) / (self.regularization * scores.len() as f64)
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_factor_by_hand() {
        // −ln σ(p) + λ/2 p² is lowest where λp = σ(−p): for λ = 1/2 at p = .67483.
        let (items, biases) = (array![[1.0], [0.0]], array![0.0, 0.0]);
        let rivals = Rivals::of(items.view(), biases.view(), &[0, 1]);
        let shelf = Shelf { vectors: items.view(), biases: biases.view(), rivals: &rivals, regularization: 0.5 };
        let found = shelf.fold_in(&[(0, 3.0)], None).unwrap();
        assert!((found[0] - 0.674_83).abs() < 1e-3, "{found}");
        let shares = shelf.shares(found.view(), &[(0, 3.0)], 0).unwrap();
        assert!(shares.len() == 1 && (shares[0].1 - found[0]).abs() < 2e-3, "{shares:?}");
    }

    #[test]
    fn who_had_nothing_or_everything_has_no_taste() {
        let (items, biases) = (array![[1.0, 2.0], [0.0, 1.0]], array![0.0, 1.0]);
        let rivals = Rivals::of(items.view(), biases.view(), &[0, 1]);
        let shelf = Shelf { vectors: items.view(), biases: biases.view(), rivals: &rivals, regularization: 0.1 };
        for basket in [&[][..], &[(0, 0.0)], &[(0, 1.0), (1, 1.0)]] {
            assert_eq!(shelf.fold_in(basket, None).unwrap(), array![0.0, 0.0]);
            assert!(shelf.shares(array![1.0, 1.0].view(), basket, 0).unwrap().is_empty());
        }
        assert!(shelf.fold_in(&[(2, 1.0)], None).is_err());
        assert_eq!(
            shelf.fold_in(&[(0, -1.0)], None).unwrap_err().message,
            "ratings must be numbers of 0 or more, got -1"
        );
        let none = Array2::zeros((0, 2));
        let rivals = Rivals::of(none.view(), Array1::zeros(0).view(), &[]);
        let biases = Array1::zeros(0);
        let empty = Shelf { vectors: none.view(), biases: biases.view(), rivals: &rivals, regularization: 0.1 };
        assert_eq!(empty.fold_in(&[], None).unwrap(), array![0.0, 0.0]);
    }

    #[test]
    fn what_is_known_besides_is_where_it_starts() {
        // Nothing was had: it ends there as well.
        let (items, biases) = (array![[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]], array![0.0, 0.0, 0.0]);
        let rivals = Rivals::of(items.view(), biases.view(), &[1, 2]);
        let shelf =
            |regularization| Shelf { vectors: items.view(), biases: biases.view(), rivals: &rivals, regularization };
        let known = array![3.0, -2.0];
        assert_eq!(shelf(0.1).fold_in(&[], Some(known.view())).unwrap(), known);
        // The stronger it is drawn there, the nearer it stays; what speaks against it moves it away.
        let way = |regularization| {
            let found = shelf(regularization).fold_in(&[(1, 1.0)], Some(known.view())).unwrap();
            assert!(found[1] > known[1]);
            (&found - &known).mapv(|gap| gap * gap).sum()
        };
        assert!(way(0.1) > way(1.0) && way(100.0) < 1e-3);
    }

    #[test]
    fn rivals_are_spread_evenly() {
        let items = Array2::from_shape_fn((10_000, 1), |(item, _)| item as f32);
        let rivals = Rivals::of(items.view(), Array1::zeros(10_000).view(), &(0..10_000).collect::<Vec<_>>());
        assert_eq!((rivals.items.len(), rivals.items[0], rivals.items[RIVALS - 1]), (RIVALS, 9, 9990));
        assert!(rivals.items.windows(2).all(|pair| (19..=20).contains(&(pair[1] - pair[0]))));
        assert_eq!(rivals.vectors[[7, 0]], f64::from(rivals.items[7]));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn the_gradient_is_zero_there_and_shares_sum_to_the_score(
            cells in prop::collection::vec(-1.0f32..1.0, 40),
            basket in prop::collection::btree_set(0u32..10, 1..9),
            regularization in 0.02f32..1.0,
            item in 0u32..10,
        ) {
            let items = Array2::from_shape_vec((10, 3), cells[..30].to_vec()).unwrap();
            let biases = Array1::from(cells[30..].to_vec());
            let rivals = Rivals::of(items.view(), biases.view(), &(0..10).collect::<Vec<_>>());
            let shelf = Shelf { vectors: items.view(), biases: biases.view(), rivals: &rivals, regularization };
            let basket: Vec<(u32, f32)> = basket.into_iter().map(|item| (item, 1.0)).collect();
            let found = shelf.fold_in(&basket, None).unwrap();
            let (items, p) = (items.mapv(f64::from), found.mapv(f64::from));
            let score = |item: usize| p.dot(&items.row(item)) + f64::from(biases[item]);
            let is_other = |item: &usize| basket.iter().all(|(had, _)| *had as usize != *item);
            let others: Vec<usize> = (0..10).filter(is_other).collect();
            let mut gradient = &p * (f64::from(regularization) * basket.len() as f64);
            for (had, _) in &basket {
                for other in &others {
                    let pull = 1.0 / (1.0 + (score(*had as usize) - score(*other)).exp()) / others.len() as f64;
                    gradient = gradient - (&items.row(*had as usize) - &items.row(*other)) * pull;
                }
            }
            let length = gradient.dot(&gradient).sqrt();
            prop_assert!(length < 2e-3 * basket.len() as f64, "{length}");
            let shares = shelf.shares(found.view(), &basket, item).unwrap();
            let sum: f64 = shares.iter().map(|(_, share)| f64::from(*share)).sum();
            let expected = p.dot(&items.row(item as usize));
            prop_assert!((sum - expected).abs() < 4e-3 / f64::from(regularization), "{sum} or {expected}");
        }
    }
}
