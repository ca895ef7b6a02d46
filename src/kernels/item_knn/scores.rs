//! Which items suit users best, by the neighbours of what they had.

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::kernels::csr::Csr;
use crate::kernels::topk;

/// Whose best items are asked for.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    /// items × items, as [`super::Neighbors::matrix`].
    pub neighbors: &'a Csr,
    /// For each user the items that they had, and their ratings.
    pub had: &'a [(&'a [u32], &'a [f32])],
    /// How many to find for each user.
    pub k: usize,
    /// For each user the items to leave out, ids ascending.
    pub seen: Option<&'a [&'a [u32]]>,
    /// The only items to choose from, ids ascending; without it all of them.
    pub candidates: Option<&'a [u32]>,
}

/// Users that one thread answers one after the other.
const USERS: usize = 64;

/// For each user up to `k` pairs of item and score, best first, ties by lower id; items with a score of 0 are none.
///
/// The score of item `i` is the sum of `r(j) · s(j, i)` over what the user had, in that order. Fails when the shapes do
/// not fit together.
pub fn rank(query: &Query) -> Result<Vec<Vec<(u32, f32)>>> {
    let n_items = query.neighbors.n_rows;
    if let Some(seen) = query.seen.filter(|seen| seen.len() != query.had.len()) {
        return Err(Error::internal(format!("seen items for {} users, asked for {}", seen.len(), query.had.len())));
    }
    if let Some(item) = query.had.iter().flat_map(|(items, _)| *items).find(|item| **item as usize >= n_items) {
        return Err(Error::internal(format!("item {item} of {n_items} items")));
    }
    let blocks: Vec<Vec<Vec<(u32, f32)>>> = (0..query.had.len().div_ceil(USERS))
        .into_par_iter()
        .map_init(
            || (vec![0.0; n_items], Vec::new()),
            |(scores, touched), block| {
                let users = block * USERS..((block + 1) * USERS).min(query.had.len());
                users.map(|user| query.best(user, scores, touched)).collect()
            },
        )
        .collect();
    Ok(blocks.into_iter().flatten().collect())
}

impl Query<'_> {
    /// The best of one user. `scores` has a zero for each item, now and afterwards.
    fn best(&self, user: usize, scores: &mut [f32], touched: &mut Vec<u32>) -> Vec<(u32, f32)> {
        let (items, ratings) = self.had[user];
        for (item, rating) in items.iter().zip(ratings) {
            let (others, similarities) = self.neighbors.row(*item as usize);
            for (other, similarity) in others.iter().zip(similarities) {
                let score = &mut scores[*other as usize];
                if *score == 0.0 {
                    touched.push(*other);
                }
                *score += rating * similarity;
            }
        }
        let seen = self.seen.map_or(&[][..], |seen| seen[user]);
        seen.iter().filter_map(|item| scores.get_mut(*item as usize).map(std::mem::take)).for_each(drop);
        // What was touched twice has no score the second time.
        let scored = touched.drain(..).map(|item| (item, std::mem::take(&mut scores[item as usize])));
        let is_candidate = |item: &u32| self.candidates.is_none_or(|candidates| candidates.binary_search(item).is_ok());
        topk::best(scored.filter(|(item, score)| *score > 0.0 && is_candidate(item)), self.k)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Item 0 is like 1 and 2, item 1 like 2 and 3; 3 is like nothing.
    fn neighbors() -> Csr {
        Csr::from_triplets(4, 4, &[(0, 1, 0.5), (0, 2, 0.25), (1, 2, 0.5), (1, 3, 0.25), (2, 0, 0.5)]).unwrap()
    }

    #[test]
    fn scores_add_up_over_what_was_had() {
        let neighbors = neighbors();
        let had: [(&[u32], &[f32]); 3] = [(&[0, 1], &[1.0, 2.0]), (&[3], &[1.0]), (&[], &[])];
        let query = Query { neighbors: &neighbors, had: &had, k: 3, seen: None, candidates: None };
        assert_eq!(rank(&query).unwrap(), [vec![(2, 1.25), (1, 0.5), (3, 0.5)], vec![], vec![]]);

        let seen: [&[u32]; 3] = [&[0, 1], &[3], &[]];
        let query = Query { seen: Some(&seen), ..query };
        assert_eq!(rank(&query).unwrap()[0], [(2, 1.25), (3, 0.5)]);
        assert_eq!(rank(&Query { k: 1, ..query }).unwrap()[0], [(2, 1.25)]);
        assert_eq!(rank(&Query { k: 0, ..query }).unwrap()[0], []);
        assert_eq!(rank(&Query { candidates: Some(&[1, 3]), ..query }).unwrap()[0], [(3, 0.5)]);
        assert_eq!(rank(&Query { candidates: Some(&[]), ..query }).unwrap()[0], []);
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let neighbors = neighbors();
        let had: [(&[u32], &[f32]); 1] = [(&[4], &[1.0])];
        let query = Query { neighbors: &neighbors, had: &had, k: 3, seen: None, candidates: None };
        assert!(rank(&query).is_err());
        let had: [(&[u32], &[f32]); 1] = [(&[0], &[1.0])];
        assert!(rank(&Query { had: &had, seen: Some(&[]), ..query }).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        // Small whole numbers: every sum is exact, and there are many ties.
        #[test]
        fn a_full_sort_finds_the_same(
            entries in prop::collection::vec((0u32..20, 0u32..20, 1u8..4), 0..80),
            users in prop::collection::vec(prop::collection::btree_map(0u32..20, 1u8..4, 0..6), 0..150),
            k in 0usize..8,
            chosen in prop::option::of(prop::collection::btree_set(0u32..20, 0..9)),
        ) {
            let entries: Vec<_> = entries.into_iter().map(|(j, i, s)| (j, i, f32::from(s))).collect();
            let neighbors = Csr::from_triplets(20, 20, &entries).unwrap();
            let users: Vec<(Vec<u32>, Vec<f32>)> =
                users.into_iter().map(|had| had.into_iter().map(|(item, r)| (item, f32::from(r))).unzip()).collect();
            let had: Vec<(&[u32], &[f32])> = users.iter().map(|(items, ratings)| (&items[..], &ratings[..])).collect();
            let seen: Vec<&[u32]> = had.iter().map(|(items, _)| *items).collect();
            let chosen: Option<Vec<u32>> = chosen.map(|chosen| chosen.into_iter().collect());
            let candidates = chosen.as_deref();
            let query = Query { neighbors: &neighbors, had: &had, k, seen: Some(&seen), candidates };
            let expected = had.iter().map(|(items, ratings)| {
                let score = |item: u32| -> f32 {
                    let add = |(j, r): (&u32, &f32)| {
                        let (others, similarities) = neighbors.row(*j as usize);
                        others.binary_search(&item).map_or(0.0, |at| r * similarities[at])
                    };
                    items.iter().zip(*ratings).map(add).sum()
                };
                let mut ranked: Vec<(u32, f32)> = (0..20)
                    .filter(|item| !items.contains(item) && candidates.is_none_or(|ids| ids.contains(item)))
                    .map(|item| (item, score(item)))
                    .filter(|(_, score)| *score > 0.0)
                    .collect();
                ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
                ranked.truncate(k);
                ranked
            });
            prop_assert_eq!(rank(&query).unwrap(), expected.collect::<Vec<_>>());
        }
    }
}
