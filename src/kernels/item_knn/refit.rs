//! Neighbours brought up to date: only what new interactions changed is searched again.

use crate::error::{Error, Result};
use crate::kernels::csr::Csr;
use crate::kernels::item_knn::search::{self, Found, Sums};
use crate::kernels::item_knn::shortlist::Shortlist;
use crate::kernels::item_knn::weights::{PATIENCE, Weights};
use crate::kernels::item_knn::{Neighbors, Options, check, fit};
use crate::kernels::progress::{Progress, Step};

/// What was learnt before, with the same options.
#[derive(Debug, Clone, Copy)]
pub struct Before<'a> {
    pub interactions: &'a Csr,
    pub neighbors: &'a Neighbors,
    /// For each user and each item of then the row or column it has now; `None`: it is gone.
    pub users: &'a [Option<u32>],
    pub items: &'a [Option<u32>],
}

/// Neighbours as [`fit`] finds them, and how many items were searched for that.
#[derive(Debug, Clone, PartialEq)]
pub struct Refitted {
    pub neighbors: Neighbors,
    pub n_searched: usize,
}

/// The neighbours that [`fit`] finds in `interactions`, bit for bit, as far as possible from what was known before.
///
/// A similarity changes where a weight of one of its two items does. Items with a changed weight are searched anew. The
/// lists of the others lose these and are offered their new similarities; only where something that was left out
/// before could now belong to a list, its item is searched too. All items are searched where all weights changed
/// (BM25 by nearly any new interaction, TF-IDF by another number of items, ratings that decay), where users who stayed
/// have changed places, and where the changed items make more than half the work. [`Neighbors::beyond`] may be larger
/// than [`fit`] has it. Fails as [`fit`].
pub fn refit(before: &Before, interactions: &Csr, options: &Options, progress: Progress) -> Result<Refitted> {
    check(options)?;
    let fits = before.users.len() == before.interactions.n_rows
        && before.items.len() == before.interactions.n_cols
        && before.neighbors.matrix.n_rows == before.items.len()
        && before.neighbors.beyond.len() == before.items.len();
    if !fits {
        return Err(Error::internal("what was learnt before is of another size than what it was learnt from"));
    }
    let start = Step { done: 0, total: 2 * search::STEPS, loss: None };
    let go_on = || if progress(start) { Ok(()) } else { Err(Error::cancelled()) };
    let weights = Weights::of(interactions, options.similarity, &go_on)?;
    let changed = {
        let then = Weights::of(before.interactions, options.similarity, &go_on)?;
        changed_items(before, &then, &weights, &go_on)?
    };
    let n_items = interactions.n_cols as u32;
    let anew: Vec<u32> = (0..n_items).filter(|item| changed[*item as usize]).collect();
    let cost: usize = anew.iter().map(|item| weights.cost(*item)).sum();
    let whole: usize = (0..interactions.n_rows).map(|user| weights.by_user.row(user).len().pow(2)).sum();
    if 2 * cost > whole || !before.users.iter().flatten().is_sorted() {
        return Ok(Refitted { neighbors: fit(interactions, options, progress)?, n_searched: interactions.n_cols });
    }

    // For each item that stays as it was, where it stood, and what stands against it now.
    let mut stood: Vec<Option<usize>> = vec![None; changed.len()];
    for (then, item) in before.items.iter().enumerate() {
        if let Some(item) = item.map(|item| item as usize).filter(|item| !changed[*item]) {
            stood[item] = Some(then);
        }
    }
    let offer = |item: u32, sums: &Sums| -> Vec<(u32, f32)> {
        let similarities = sums.above_zero().into_iter().filter_map(|(other, sum)| {
            let beyond = before.neighbors.beyond[stood[other as usize]?];
            let similarity = sum * (weights.to[item as usize] * weights.from[other as usize]);
            (similarity > beyond && similarity >= f32::MIN_POSITIVE).then_some((other, similarity))
        });
        similarities.collect()
    };
    let half = |step: Step| progress(Step { total: 2 * step.total, ..step });
    let mut offers: Vec<Vec<(u32, f32)>> = vec![Vec::new(); changed.len()];
    let mut lists: Vec<Option<Found>> = std::iter::repeat_with(|| None).take(changed.len()).collect();
    for (item, (found, offered)) in anew.iter().zip(search::search(&weights, options, &anew, &offer, &half)?) {
        lists[*item as usize] = Some(found);
        offered.into_iter().for_each(|(other, similarity)| offers[other as usize].push((*item, similarity)));
    }
    for (item, then) in stood.iter().enumerate().filter_map(|(item, then)| Some((item, (*then)?))) {
        lists[item] = brought_up_to_date(before, then, &changed, &offers[item], options.neighbors);
    }
    let open: Vec<u32> = (0..n_items).filter(|item| lists[*item as usize].is_none()).collect();
    let rest = |step: Step| progress(Step { done: step.done + step.total, total: 2 * step.total, ..step });
    for (item, (found, ())) in open.iter().zip(search::search(&weights, options, &open, &search::nothing, &rest)?) {
        lists[*item as usize] = Some(found);
    }
    let lists: Vec<Found> = lists.into_iter().flatten().collect();
    Ok(Refitted { neighbors: Neighbors::of(lists.into_iter())?, n_searched: anew.len() + open.len() })
}

/// The list of an item that had number `then` and whose weights are as they were; `None`: only a search can tell.
fn brought_up_to_date(
    before: &Before,
    then: usize,
    changed: &[bool],
    offered: &[(u32, f32)],
    k: usize,
) -> Option<Found> {
    let (others, similarities) = before.neighbors.matrix.row(then);
    let beyond = before.neighbors.beyond[then];
    let kept = others.iter().zip(similarities).filter_map(|(other, similarity)| {
        let other = before.items[*other as usize].filter(|other| !changed[*other as usize])?;
        Some((other, *similarity))
    });
    let mut best = Shortlist::new(k);
    kept.chain(offered.iter().copied()).for_each(|(other, similarity)| best.consider(other, similarity));
    let Found { neighbors, beyond: next } = best.into_found();
    // What was left out before is not known, only that it is no better than `beyond`; of equals the ids decide.
    let is_sure = beyond == 0.0 || neighbors.get(k - 1).is_some_and(|(_, worst)| *worst > beyond);
    is_sure.then(|| Found { neighbors, beyond: beyond.max(next) })
}

/// Whether any weight of each item of now differs from what it was.
fn changed_items(before: &Before, then: &Weights, now: &Weights, go_on: &dyn Fn() -> Result<()>) -> Result<Vec<bool>> {
    let mut changed = vec![true; now.to.len()];
    for (item, number) in before.items.iter().enumerate() {
        if let Some(number) = number.map(|number| number as usize) {
            changed[number] = (then.from[item], then.to[item]) != (now.from[number], now.to[number]);
        }
    }
    let mut before_of: Vec<Option<usize>> = vec![None; now.by_user.n_rows()];
    let mut row: Vec<(u32, f32)> = Vec::new();
    let old_row = |user: usize, row: &mut Vec<(u32, f32)>| {
        let known = then.by_user.row(user).iter().filter_map(|(item, w)| Some((before.items[*item as usize]?, *w)));
        row.clear();
        row.extend(known);
        row.sort_unstable_by_key(|(item, _)| *item);
    };
    for (user, number) in before.users.iter().enumerate() {
        match number {
            Some(number) => before_of[*number as usize] = Some(user),
            None => {
                old_row(user, &mut row);
                row.iter().for_each(|(item, _)| changed[*item as usize] = true);
            }
        }
    }
    for (user, then_user) in before_of.iter().enumerate() {
        if user % PATIENCE == 0 {
            go_on()?;
        }
        match then_user {
            Some(then_user) => old_row(*then_user, &mut row),
            None => row.clear(),
        }
        let mut old = row.iter().copied().peekable();
        for (item, weight) in now.by_user.row(user) {
            while let Some((gone, _)) = old.next_if(|(other, _)| other < item) {
                changed[gone as usize] = true;
            }
            if old.next_if_eq(&(*item, *weight)).is_none() {
                changed[*item as usize] = true;
                old.next_if(|(other, _)| other == item);
            }
        }
        old.for_each(|(gone, _)| changed[gone as usize] = true);
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::kernels::item_knn::Similarity;
    use crate::kernels::item_knn::tests::{EVERY, quietly};

    /// Who had what, by keys: users and items come and go.
    type Had = BTreeMap<(u32, u32), f32>;

    /// Users numbered by key, items by how many had them and then by key, as a history has them.
    fn numbered(had: &Had) -> (Csr, Vec<u32>, Vec<u32>) {
        let mut users: Vec<u32> = had.keys().map(|(user, _)| *user).collect();
        users.dedup();
        let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
        had.keys().for_each(|(_, item)| *counts.entry(*item).or_default() += 1);
        let mut items: Vec<u32> = counts.keys().copied().collect();
        items.sort_by_key(|item| std::cmp::Reverse(counts[item]));
        let at = |keys: &[u32], key: u32| keys.iter().position(|other| *other == key).unwrap() as u32;
        let triplets: Vec<_> = had.iter().map(|((user, item), r)| (at(&users, *user), at(&items, *item), *r)).collect();
        (Csr::from_triplets(users.len(), items.len(), &triplets).unwrap(), users, items)
    }

    fn mapped(then: &[u32], now: &[u32]) -> Vec<Option<u32>> {
        then.iter().map(|key| now.iter().position(|other| other == key).map(|at| at as u32)).collect()
    }

    fn refitted(then: &Had, now: &Had, options: &Options) -> (Refitted, Neighbors) {
        let (old, old_users, old_items) = numbered(then);
        let (new, users, items) = numbered(now);
        let before = Before {
            interactions: &old,
            neighbors: &quietly(&old, options),
            users: &mapped(&old_users, &users),
            items: &mapped(&old_items, &items),
        };
        (refit(&before, &new, options, &|_| true).unwrap(), quietly(&new, options))
    }

    /// Ratings below `ratings`, which is 2 or more; of ones alone many similarities are equal.
    fn shop(rng: &mut ChaCha8Rng, ratings: u8) -> Had {
        let pairs = (0..60).flat_map(|user| (0..40).map(move |item| (user, item)));
        let had: Vec<_> = pairs.filter(|(_, item)| rng.random_range(0..4 + item) == 0).collect();
        had.into_iter().map(|pair| (pair, f32::from(rng.random_range(1..ratings)))).collect()
    }

    #[test]
    fn it_finds_what_a_fit_finds() {
        let (mut partly, mut searched) = (0, 0);
        for seed in 0..120 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let ratings = if seed % 4 < 2 { 2 } else { 4 };
            let then = shop(&mut rng, ratings);
            let mut now = then.clone();
            for _ in 0..rng.random_range(0..4) {
                // Somebody buys, buys more, or takes something back; users 60 and items 40 and above are new.
                let pair = (rng.random_range(0..62), rng.random_range(5..42));
                match rng.random_range(0..3) {
                    0 => now.remove(&pair),
                    _ => now.insert(pair, f32::from(rng.random_range(1..ratings))),
                };
            }
            if seed % 10 == 0 {
                now.retain(|(user, item), _| *user != 7 && *item != 30);
            }
            for similarity in EVERY {
                let shrinkage = (seed % 2) as f32;
                let options = Options { similarity, neighbors: 1 + seed as usize % 6, shrinkage };
                let (refitted, expected) = refitted(&then, &now, &options);
                let found = &refitted.neighbors;
                assert_eq!(found.matrix, expected.matrix, "seed {seed}, {similarity:?}");
                assert!(found.beyond.iter().zip(&expected.beyond).all(|(bound, next)| bound >= next));
                if similarity == Similarity::Cosine && refitted.n_searched < found.beyond.len() {
                    partly += 1;
                    searched += refitted.n_searched;
                }
            }
        }
        assert!(partly > 100 && searched < 25 * partly, "{partly} of 120 in part, {searched} items searched");
    }

    #[test]
    fn it_stays_true_from_one_refit_to_the_next() {
        let options = Options { similarity: Similarity::Cosine, neighbors: 4, shrinkage: 0.0 };
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut had = shop(&mut rng, 3);
        let (mut interactions, mut users, mut items) = numbered(&had);
        let mut neighbors = quietly(&interactions, &options);
        for _ in 0..40 {
            had.insert((rng.random_range(0..60), rng.random_range(5..40)), 1.0);
            let (now, now_users, now_items) = numbered(&had);
            let (old_users, old_items) = (mapped(&users, &now_users), mapped(&items, &now_items));
            let before =
                Before { interactions: &interactions, neighbors: &neighbors, users: &old_users, items: &old_items };
            neighbors = refit(&before, &now, &options, &|_| true).unwrap().neighbors;
            assert_eq!(neighbors.matrix, quietly(&now, &options).matrix);
            (interactions, users, items) = (now, now_users, now_items);
        }
    }

    #[test]
    fn what_nobody_touched_is_not_searched() {
        // Two halves that share no user; in one of them somebody buys.
        let half = |first: u32| (0..400u32).map(move |at| ((first + at % 20, first + at * 7 % 23), 1.0));
        let then: Had = half(0).chain(half(100)).collect();
        let mut now = then.clone();
        now.insert((100, 123), 1.0);
        let options = Options { similarity: Similarity::Cosine, neighbors: 30, shrinkage: 0.0 };
        let (refitted, expected) = refitted(&then, &now, &options);
        assert_eq!((refitted.neighbors, refitted.n_searched), (expected, 1));
    }

    #[test]
    fn nothing_new_is_no_work() {
        let had = shop(&mut ChaCha8Rng::seed_from_u64(3), 4);
        for similarity in EVERY {
            let options = Options { similarity, neighbors: 50, shrinkage: 0.0 };
            let (refitted, expected) = refitted(&had, &had, &options);
            assert_eq!((refitted.neighbors, refitted.n_searched), (expected, 0));
        }
    }

    #[test]
    fn a_memory_of_another_size_is_refused() {
        let (interactions, ..) = numbered(&shop(&mut ChaCha8Rng::seed_from_u64(3), 4));
        let options = Options { similarity: Similarity::Cosine, neighbors: 5, shrinkage: 0.0 };
        let neighbors = quietly(&interactions, &options);
        let before = Before { interactions: &interactions, neighbors: &neighbors, users: &[], items: &[] };
        assert!(refit(&before, &interactions, &options, &|_| true).is_err());
    }
}
