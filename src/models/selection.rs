//! Which of the best products are shown: good enough, not all alike, and not too many of one kind.

use std::collections::HashMap;

use rayon::prelude::*;

use crate::error::Result;
use crate::models::{Ask, Recommender, Taste};

/// What is asked of a list besides high scores.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Selection {
    /// Nothing that scores less.
    pub min_score: Option<f32>,
    /// How much unlikeness to what was chosen already counts against the score, from 0 (not at all) to 1 (alone).
    pub diversity: f32,
    pub caps: Vec<Cap>,
}

/// At most so many products of each group.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Cap {
    pub most: usize,
    /// The groups of each product; one that is not here belongs to none.
    pub groups: HashMap<u32, Vec<u32>>,
}

/// The lists of [`Recommender::rank`], chosen from.
pub fn select(
    model: &dyn Recommender,
    tastes: &[Taste],
    ask: &Ask,
    selection: &Selection,
) -> Result<Vec<Vec<(u32, f32)>>> {
    let pool = selection.pool(ask.k);
    let lists = model.rank(tastes, &Ask { k: pool, ..ask.clone() })?;
    if *selection == Selection::default() {
        return Ok(lists);
    }
    let chosen = lists.into_par_iter().zip(tastes).map(|(list, taste)| {
        let more = |k| Ok(model.rank(&[*taste], &Ask { k, ..ask.clone() })?.pop().unwrap_or_default());
        selection.from(model, list, ask.k, more)
    });
    chosen.collect()
}

impl Selection {
    /// How many of the best are looked at to choose `k`.
    pub fn pool(&self, k: usize) -> usize {
        match (self.diversity > 0.0, self.caps.is_empty()) {
            (false, true) => k,
            (false, false) => 4 * k,
            (true, _) => (10 * k).max(100),
        }
    }

    /// `k` of a list that holds the best [`Selection::pool`]. Where too few of them may be shown, `more` gives a longer one.
    pub fn from(
        &self,
        model: &dyn Recommender,
        best: Vec<(u32, f32)>,
        k: usize,
        more: impl Fn(usize) -> Result<Vec<(u32, f32)>>,
    ) -> Result<Vec<(u32, f32)>> {
        let (mut best, mut pool) = (best, self.pool(k));
        loop {
            let all = best.len() < pool;
            let good = best.partition_point(|(_, score)| self.min_score.is_none_or(|least| *score >= least));
            let chosen = self.choose(model, &best[..good], k);
            if chosen.len() == k || all || good < best.len() {
                return Ok(chosen);
            }
            pool = pool.saturating_mul(8);
            best = more(pool)?;
        }
    }

    /// One after the other the best that may still be shown.
    ///
    /// Maximal marginal relevance (Carbonell & Goldstein 1998): `(1 − d) · score − d · max likeness to the chosen`, the
    /// scores stretched from 0 to 1 over the list. The score that comes back is the model's own.
    fn choose(&self, model: &dyn Recommender, best: &[(u32, f32)], k: usize) -> Vec<(u32, f32)> {
        let mut counts: Vec<HashMap<u32, usize>> = vec![HashMap::new(); self.caps.len()];
        if self.diversity <= 0.0 {
            let allowed = best.iter().filter(|(item, _)| self.take(*item, &mut counts));
            return allowed.take(k).copied().collect();
        }
        let (Some((_, highest)), Some((_, lowest))) = (best.first(), best.last()) else { return Vec::new() };
        let stretch = (highest - lowest).max(f32::MIN_POSITIVE);
        // What is left, with its likeness to the nearest of the chosen.
        let mut left: Vec<(u32, f32, f32)> = best.iter().map(|(item, score)| (*item, *score, 0.0)).collect();
        let mut chosen: Vec<(u32, f32)> = Vec::with_capacity(k.min(left.len()));
        while chosen.len() < k && !left.is_empty() {
            let worth = |(_, score, near): &(u32, f32, f32)| {
                (1.0 - self.diversity) * (score - lowest) / stretch - self.diversity * near
            };
            // The first of the best: of equals the one with the higher score.
            let next =
                (0..left.len()).fold(0, |next, at| if worth(&left[at]) > worth(&left[next]) { at } else { next });
            let (item, score, _) = left.remove(next);
            if !self.take(item, &mut counts) {
                continue;
            }
            let first = chosen.is_empty();
            chosen.push((item, score));
            for (other, _, near) in &mut left {
                let likeness = model.likeness(item, *other);
                *near = if first { likeness } else { near.max(likeness) };
            }
        }
        chosen
    }

    /// Whether the product may be shown beside those counted; if so it is counted.
    fn take(&self, item: u32, counts: &mut [HashMap<u32, usize>]) -> bool {
        let groups = |cap: &'_ Cap| cap.groups.get(&item).cloned().unwrap_or_default();
        let is_full = |(cap, counts): (&Cap, &HashMap<u32, usize>)| {
            groups(cap).iter().any(|group| counts.get(group).copied().unwrap_or_default() >= cap.most)
        };
        if self.caps.iter().zip(counts.iter()).any(is_full) {
            return false;
        }
        for (cap, counts) in self.caps.iter().zip(counts) {
            groups(cap).into_iter().for_each(|group| *counts.entry(group).or_default() += 1);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::History;

    /// Ranks products 0, 1, 2, … for everyone; the first fifty are alike, and so are the others.
    struct Counting(u32);

    impl Recommender for Counting {
        fn history(&self) -> &History {
            unreachable!("choosing asks for no history")
        }
        fn source(&self) -> &'static str {
            "counting"
        }
        fn rank(&self, tastes: &[Taste], ask: &Ask) -> Result<Vec<Vec<(u32, f32)>>> {
            let list: Vec<_> = (0..self.0).take(ask.k).map(|item| (item, 1.0 - item as f32 / 1000.0)).collect();
            Ok(vec![list; tastes.len()])
        }
        fn likeness(&self, one: u32, other: u32) -> f32 {
            if (one < 50) == (other < 50) { 1.0 } else { 0.0 }
        }
    }

    fn items(selection: &Selection, k: usize) -> Vec<u32> {
        let ask = Ask { k, ..Ask::default() };
        let list = select(&Counting(900), &[Taste::Known(0)], &ask, selection).unwrap().remove(0);
        list.into_iter().map(|(item, _)| item).collect()
    }

    #[test]
    fn without_a_wish_it_is_the_ranking() {
        assert_eq!(items(&Selection::default(), 3), [0, 1, 2]);
    }

    #[test]
    fn low_scores_are_left_out() {
        assert_eq!(items(&Selection { min_score: Some(0.9985), ..Selection::default() }, 5), [0, 1]);
    }

    #[test]
    fn a_group_is_shown_so_often_and_no_more() {
        // The first 500 products are one group: the list has to be asked for again, longer.
        let groups = (0..500).map(|item| (item, vec![7])).collect();
        let caps = vec![Cap { most: 2, groups }];
        assert_eq!(items(&Selection { caps, ..Selection::default() }, 4), [0, 1, 500, 501]);
    }

    #[test]
    fn what_is_unlike_the_chosen_comes_forward() {
        let diverse = |diversity| items(&Selection { diversity, ..Selection::default() }, 2);
        assert_eq!(diverse(0.1), [0, 1]);
        assert_eq!(diverse(0.9), [0, 50]);
    }
}
