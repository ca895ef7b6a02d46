//! Recommendations by a linear map of what one had onto what one would want, in closed form (EASE).
//!
//! Steck, "Embarrassingly Shallow Autoencoders for Sparse Data", WWW 2019. Of all matrices `B` (items × items) with a
//! diagonal of zeros, so that no item may speak for itself, the one that makes `‖X − XB‖² + λ‖B‖²` least over the
//! users' rows `X` is
//!
//! ```text
//! P = (XᵀX + λI)⁻¹        B_ij = −P_ij / P_jj        scores = x B
//! ```
//!
//! There are no passes over the data, no seed, and no vectors of users: whoever has a row has scores.

mod refit;
mod weights;

pub use refit::{Earlier, Refit, refit};
pub use weights::{Query, Row, Weights};

use crate::error::{Error, Kind, Result};
use crate::kernels::csr::Csr;
use crate::kernels::progress::{Progress, Step};
use crate::kernels::symmetric::{Symmetric, TILE};

/// Bytes that `P` and `B` of so many items take, `4 n²` each: the first in f64 as half a matrix, the second in f32.
pub fn bytes(n_items: usize) -> usize {
    Symmetric::bytes(n_items).saturating_add(Weights::bytes(n_items))
}

/// `P = (XᵀX + λI)⁻¹` of `x` (users × items), a row for each item.
///
/// Costs about `n_items³` operations, however many users there are. Tells `progress` of the steps of the inverse. Fails
/// on values that are not finite, on a `λ` that is not above zero, on a matrix whose inverse is beyond f64, and when
/// cancelled.
pub fn fit(x: &Csr, l2: f64, progress: Progress) -> Result<Symmetric> {
    check(x, l2)?;
    let total = x.n_cols.div_ceil(TILE);
    let gram = gram(x, l2, &|| progress(Step { done: 0, total, loss: None }))?;
    let inverse = gram.inverse(&|done, total| progress(Step { done, total, loss: None }));
    let inverse = inverse.map_err(|error| match error.kind {
        Kind::Invalid => Error::invalid(format!("l2_reg {l2} is too small beside these ratings"))
            .hint("raise l2_reg, or scale the ratings down"),
        _ => error,
    })?;
    if progress(Step { done: total, total, loss: None }) { Ok(inverse) } else { Err(Error::cancelled()) }
}

fn check(x: &Csr, l2: f64) -> Result<()> {
    if !(l2 > 0.0 && l2.is_finite()) {
        return Err(Error::invalid(format!("l2_reg must be a number above 0, got {l2}")));
    }
    if let Some(value) = x.values.iter().find(|value| !value.is_finite()) {
        return Err(Error::invalid(format!("ratings must be numbers, got {value}")));
    }
    Ok(())
}

/// `XᵀX + λI`. Each number is summed in the order of the users.
fn gram(x: &Csr, l2: f64, go_on: &(dyn Fn() -> bool + Sync)) -> Result<Symmetric> {
    let by_item = x.transpose();
    Symmetric::from_rows(x.n_cols, |item, row| {
        let (users, values) = by_item.row(item);
        for (user, value) in users.iter().zip(values) {
            let (items, others) = x.row(*user as usize);
            let value = f64::from(*value);
            for (other, with) in items.iter().zip(others).take_while(|(other, _)| **other as usize <= item) {
                row[*other as usize] += value * f64::from(*with);
            }
        }
        row[item] += l2;
        if go_on() { Ok(()) } else { Err(Error::cancelled()) }
    })
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;
    use proptest::prelude::*;

    use super::*;
    use crate::kernels::cholesky::Cholesky;
    use crate::kernels::topk;

    /// Users with a few items each, of which the low numbers are the usual ones.
    fn shop(n_users: usize, n_items: usize, salt: u64) -> Csr {
        let mixed = |at: usize| ((at as u64 ^ salt).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33) as usize;
        let entries = (0..n_users).flat_map(|user| (0..mixed(user) % 7).map(move |at| (user, at)));
        let triplets: Vec<(u32, u32, f32)> = entries
            .map(|(user, at)| {
                let item = mixed(user * 8 + at) % n_items * (mixed(user * 8 + at + 1) % n_items) / n_items;
                (user as u32, item as u32, 1.0)
            })
            .collect();
        Csr::from_triplets(n_users, n_items, &triplets).unwrap()
    }

    /// `B` by its definition.
    fn plain(x: &Csr, l2: f64) -> Array2<f64> {
        let mut gram = Array2::eye(x.n_cols) * l2;
        for user in 0..x.n_rows {
            let (items, values) = x.row(user);
            for (i, a) in items.iter().zip(values) {
                for (j, b) in items.iter().zip(values) {
                    gram[[*i as usize, *j as usize]] += f64::from(*a) * f64::from(*b);
                }
            }
        }
        let half = Cholesky::of(&gram).unwrap().inverse_lower();
        weights_of(&half.t().dot(&half))
    }

    fn weights_of(inverse: &Array2<f64>) -> Array2<f64> {
        Array2::from_shape_fn(inverse.dim(), |(i, j)| if i == j { 0.0 } else { -inverse[[i, j]] / inverse[[j, j]] })
    }

    fn exact(inverse: &Symmetric) -> Array2<f64> {
        weights_of(&Array2::from_shape_fn((inverse.n(), inverse.n()), |(i, j)| inverse.get(i, j)))
    }

    fn gap(a: &Array2<f64>, b: &Array2<f64>) -> f64 {
        a.iter().zip(b).fold(0.0, |worst, (a, b)| (a - b).abs().max(worst))
    }

    fn go_on(_: Step) -> bool {
        true
    }

    #[test]
    fn two_items_on_paper() {
        // XᵀX + I is [[3, 1], [1, 2]], its inverse [[2, −1], [−1, 3]] / 5.
        let x = Csr::from_triplets(2, 2, &[(0, 0, 1.0), (0, 1, 1.0), (1, 0, 1.0)]).unwrap();
        let inverse = fit(&x, 1.0, &go_on).unwrap();
        assert!((inverse.get(0, 0) - 0.4).abs() < 1e-15 && (inverse.get(1, 0) + 0.2).abs() < 1e-15);
        let weights = Weights::of(&inverse, &|| true).unwrap();
        assert_eq!([(0, 0), (0, 1), (1, 0), (1, 1)].map(|(i, j)| weights.get(i, j)), [0.0, 1.0 / 3.0, 0.5, 0.0]);
        let users: [Row; 2] = [(&[0], &[3.0]), (&[], &[])];
        let query = Query { users: &users, k: 5, seen: None, candidates: None };
        assert_eq!(weights.top_k(&query).unwrap(), [vec![(1, 1.0), (0, 0.0)], vec![(0, 0.0), (1, 0.0)]]);
        let query = Query { seen: Some(&[&[0], &[1]]), candidates: Some(&[1]), ..query };
        assert_eq!(weights.top_k(&query).unwrap(), [vec![(1, 1.0)], vec![]]);
    }

    #[test]
    fn what_cannot_be_learned_from_is_refused() {
        let x = shop(5, 4, 1);
        assert_eq!(fit(&x, 0.0, &go_on).unwrap_err().message, "l2_reg must be a number above 0, got 0");
        assert!(fit(&x, f64::NAN, &go_on).is_err());
        let odd = Csr::from_triplets(1, 1, &[(0, 0, f32::NAN)]).unwrap();
        assert_eq!(fit(&odd, 1.0, &go_on).unwrap_err().message, "ratings must be numbers, got NaN");
        let twins = Csr::from_triplets(1, 2, &[(0, 0, 1e9), (0, 1, 1e9)]).unwrap();
        assert_eq!(fit(&twins, 1e-6, &go_on).unwrap_err().hint.unwrap(), "raise l2_reg, or scale the ratings down");
        assert_eq!(fit(&x, 1.0, &|_| false).unwrap_err().kind, Kind::Cancelled);
        // Nothing at all is learned from no items.
        let nothing = fit(&Csr::from_triplets(3, 0, &[]).unwrap(), 1.0, &go_on).unwrap();
        assert_eq!(Weights::of(&nothing, &|| true).unwrap().n_items(), 0);
        assert_eq!(Weights::of(&fit(&x, 1.0, &go_on).unwrap(), &|| false).unwrap_err().kind, Kind::Cancelled);
    }

    #[test]
    fn an_item_outside_the_weights_is_refused() {
        let weights = Weights::of(&fit(&shop(9, 3, 1), 1.0, &go_on).unwrap(), &|| true).unwrap();
        let query = Query { users: &[(&[3], &[1.0])], k: 2, seen: None, candidates: None };
        assert!(weights.top_k(&query).is_err());
        let query = Query { users: &[], candidates: Some(&[3]), ..query };
        assert!(weights.top_k(&query).is_err());
        assert!(weights.top_k(&Query { candidates: None, seen: Some(&[&[]]), ..query }).is_err());
        assert!(weights.top_k(&Query { candidates: None, ..query }).unwrap().is_empty());
    }

    #[test]
    fn the_same_bits_on_any_number_of_threads() {
        let x = shop(700, 400, 3);
        let rows: Vec<Row> = (0..x.n_rows).map(|user| x.row(user)).collect();
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let weights = Weights::of(&fit(&x, 5.0, &go_on).unwrap(), &|| true).unwrap();
                weights.top_k(&Query { users: &rows, k: 10, seen: None, candidates: None }).unwrap()
            })
        };
        let one = on(1);
        assert!(one == on(2) && one == on(3));
    }

    /// Some users gone, some new, some with other rows; items renumbered, some gone, some new.
    fn later(x: &Csr, salt: u64) -> (Csr, Vec<Option<u32>>, Vec<Option<u32>>) {
        let mixed = |at: usize| ((at as u64 ^ salt).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33) as usize;
        let gone = x.n_cols - 1 - mixed(1) % (x.n_cols / 2);
        let mut items: Vec<Option<u32>> =
            (0..x.n_cols as u32).rev().filter(|item| *item as usize != gone).map(Some).collect();
        items.insert(items.len() / 2, None);
        let mut users: Vec<Option<u32>> = (0..x.n_rows as u32).filter(|user| user % 50 != 7).map(Some).collect();
        users.insert(0, None);
        let mut triplets = Vec::new();
        for (now, then) in users.iter().enumerate() {
            let number = |then: u32| items.iter().position(|item| *item == Some(then)).map(|item| item as u32);
            let (old, values) = then.map_or((&[][..], &[][..]), |then| x.row(then as usize));
            let kept = old.iter().zip(values).filter_map(|(item, value)| Some((now as u32, number(*item)?, *value)));
            triplets.extend(kept);
            if mixed(now) % 40 == 0 {
                triplets.push((now as u32, (mixed(now + 1) % items.len()) as u32, 1.0));
            }
        }
        (Csr::from_triplets(users.len(), items.len(), &triplets).unwrap(), users, items)
    }

    #[test]
    fn where_most_changed_it_is_learned_anew() {
        let (x, y) = (shop(60, 20, 1), shop(60, 20, 2));
        let inverse = fit(&x, 2.0, &go_on).unwrap();
        let (users, items): (Vec<_>, Vec<_>) = ((0..60).map(Some).collect(), (0..20).map(Some).collect());
        let earlier = || Earlier { inverse: inverse.clone(), x: &x, users: &users, items: &items };
        let (anew, how) = refit(&y, 2.0, earlier(), &go_on).unwrap();
        assert!(matches!(how, Refit::Anew { changed } if changed > 40), "{how:?}");
        assert_eq!(exact(&anew), exact(&fit(&y, 2.0, &go_on).unwrap()));
        // The same again is no change, bit for bit.
        let (same, how) = refit(&x, 2.0, earlier(), &go_on).unwrap();
        assert_eq!((how, exact(&same)), (Refit::Updated { came: 0, went: 0 }, exact(&inverse)));
        assert_eq!(refit(&x, 2.0, earlier(), &|_| false).unwrap_err().kind, Kind::Cancelled);
    }

    #[test]
    fn an_inverse_that_is_off_is_thrown_away() {
        let x = shop(60, 20, 1);
        let (users, items): (Vec<_>, Vec<_>) = ((0..60).map(Some).collect(), (0..20).map(Some).collect());
        let off = fit(&x, 2.1, &go_on).unwrap();
        let (anew, how) =
            refit(&x, 2.0, Earlier { inverse: off, x: &x, users: &users, items: &items }, &go_on).unwrap();
        assert_eq!((how, exact(&anew)), (Refit::Worn, exact(&fit(&x, 2.0, &go_on).unwrap())));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]

        #[test]
        fn weights_and_scores_are_those_of_the_definition(
            n_users in 0usize..200,
            n_items in 1usize..200,
            k in 0usize..20,
            salt in any::<u64>(),
        ) {
            let x = shop(n_users, n_items, salt);
            let inverse = fit(&x, 3.0, &go_on).unwrap();
            let b = plain(&x, 3.0);
            prop_assert!(gap(&exact(&inverse), &b) < 1e-10);
            let weights = Weights::of(&inverse, &|| true).unwrap();
            let rows: Vec<Row> = (0..n_users).map(|user| x.row(user)).collect();
            let seen: Vec<&[u32]> = rows.iter().map(|(items, _)| *items).collect();
            let query = Query { users: &rows, k, seen: Some(&seen), candidates: None };
            let found = weights.top_k(&query).unwrap();
            for (user, found) in found.iter().enumerate() {
                let (items, values) = rows[user];
                let score = |j: u32| {
                    let terms = items.iter().zip(values).map(|(i, value)| value * weights.get(*i, j));
                    terms.sum::<f32>()
                };
                let unseen = (0..n_items as u32).filter(|item| items.binary_search(item).is_err());
                let expected = topk::best(unseen.map(|item| (item, score(item))), k);
                prop_assert_eq!(found.len(), expected.len());
                for ((item, found), (_, expected)) in found.iter().zip(&expected) {
                    prop_assert!((found - expected).abs() < 1e-5 && (found - score(*item)).abs() < 1e-5);
                    let by_definition: f64 =
                        items.iter().zip(values).map(|(i, value)| f64::from(*value) * b[[*i as usize, *item as usize]]).sum();
                    prop_assert!((f64::from(*found) - by_definition).abs() < 1e-5);
                }
            }
            // Chosen from some, they are the ones of all that are among these.
            let some: Vec<u32> = (0..n_items as u32).filter(|item| item % 3 == 0).collect();
            let all = weights.top_k(&Query { k: n_items, ..query }).unwrap();
            let chosen = weights.top_k(&Query { k: n_items, candidates: Some(&some), ..query }).unwrap();
            for (all, chosen) in all.iter().zip(chosen) {
                prop_assert_eq!(all.iter().filter(|(item, _)| item % 3 == 0).copied().collect::<Vec<_>>(), chosen);
            }
        }

        #[test]
        fn an_update_is_what_learning_anew_would_be(n_items in 160usize..400, salt in any::<u64>(), l2 in 0.5f64..50.0) {
            let x = shop(600, n_items, salt);
            let (y, users, items) = later(&x, salt);
            let inverse = fit(&x, l2, &go_on).unwrap();
            let (updated, how) = refit(&y, l2, Earlier { inverse, x: &x, users: &users, items: &items }, &go_on).unwrap();
            // Where too much is new an update would cost more than the whole: rarely so here.
            prop_assert!(matches!(how, Refit::Updated { came: 1.., went: 1.. } | Refit::Anew { .. }), "{:?}", how);
            prop_assert!(gap(&exact(&updated), &exact(&fit(&y, l2, &go_on).unwrap())) < 1e-6);
        }
    }
}
