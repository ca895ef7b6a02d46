//! The search itself: for one item at a time its similarities to all others, and the best of these.

use std::ops::Range;
use std::sync::Mutex;

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::kernels::dense::Dense;
use crate::kernels::item_knn::Options;
use crate::kernels::item_knn::shortlist::Shortlist;
use crate::kernels::item_knn::weights::Weights;
use crate::kernels::progress::{Progress, Step};
use crate::kernels::simd::{self, Kernel, Simd};

/// What was found for one item.
#[derive(Debug)]
pub(super) struct Found {
    /// The most similar others, best first, ties by lower id.
    pub neighbors: Vec<(u32, f32)>,
    /// The similarity of the next one; 0 where there is none.
    pub beyond: f32,
}

/// Steps that a search is told in.
pub(super) const STEPS: usize = 10;
/// Products of a chunk of more than one item, and items of a chunk, at most.
const CHUNK_COST: usize = 1 << 18;
const CHUNK_ITEMS: usize = 256;
/// Products that are summed before someone is asked whether to go on: some milliseconds.
const PATIENCE: usize = 1 << 22;

/// Searches the neighbours of each of `items`, in their order. `look` sees the sums of each on the way; what it answers
/// is handed back beside what was found.
pub(super) fn search<T: Send>(
    weights: &Weights,
    options: &Options,
    items: &[u32],
    look: &(dyn Fn(u32, &Sums) -> T + Sync),
    progress: Progress,
) -> Result<Vec<(Found, T)>> {
    let costs: Vec<usize> = items.par_iter().map(|item| weights.cost(*item)).collect();
    let to = Dense::row_of(&weights.to);
    // One for each thread, kept: to clear a fresh one can take longer than a chunk.
    let rooms: Mutex<Vec<Sums>> = Mutex::new(Vec::new());
    let take = || rooms.lock().ok().and_then(|mut rooms| rooms.pop());
    let give_back = |room: Sums| rooms.lock().map(|mut rooms| rooms.push(room)).ok();

    let chunks = chunk_ranges(&costs);
    let mut found = Vec::with_capacity(items.len());
    let mut reached = Step { done: 0, total: STEPS, loss: None };
    for done in 1..=STEPS {
        let share = chunks.len() * (done - 1) / STEPS..chunks.len() * done / STEPS;
        let go_on = || progress(reached);
        let searched: Vec<Vec<(Found, T)>> = chunks[share]
            .par_iter()
            .with_max_len(1)
            .map(|chunk| {
                let mut sums = take().unwrap_or_else(|| Sums::new(weights.to.len(), options.shrinkage));
                let mut searched = Vec::with_capacity(chunk.len());
                for at in chunk.clone() {
                    sums.fill(weights, items[at], costs[at], &go_on)?;
                    let seen = look(items[at], &sums);
                    searched.push((sums.drain(weights.from[items[at] as usize], &to, options.neighbors), seen));
                }
                give_back(sums);
                if go_on() { Ok(searched) } else { Err(Error::cancelled()) }
            })
            .collect::<Result<_>>()?;
        found.extend(searched.into_iter().flatten());
        reached.done = done;
        if !progress(reached) {
            return Err(Error::cancelled());
        }
    }
    Ok(found)
}

/// Looks at nothing.
pub(super) fn nothing(_item: u32, _sums: &Sums) {}

/// Items that one thread searches one after the other. They depend on the data alone.
fn chunk_ranges(costs: &[usize]) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let (mut start, mut cost) = (0, 0);
    for (at, next) in costs.iter().enumerate() {
        if at > start && (cost + next > CHUNK_COST || at - start == CHUNK_ITEMS) {
            ranges.push(start..at);
            (start, cost) = (at, 0);
        }
        cost += next;
    }
    if start < costs.len() {
        ranges.push(start..costs.len());
    }
    ranges
}

/// What the similarities of one item are made of. All zeros between two items.
#[derive(Debug)]
pub(super) struct Sums {
    /// For each other item the sum of products of weights.
    products: Dense,
    /// How many users had both, where it matters; else nothing.
    users: Vec<f32>,
    shrinkage: f32,
    /// The items with a sum, where they are few: the others need not be looked at.
    touched: Option<Vec<u32>>,
}

/// Where an item's sums have so many times fewer products than there are items, those with a sum are listed.
const SPARSE: usize = 16;
/// Users whose rows are fetched while those before them are summed.
const AHEAD: usize = 4;

impl Sums {
    fn new(n_items: usize, shrinkage: f32) -> Sums {
        let users = vec![0.0; if shrinkage > 0.0 { n_items } else { 0 }];
        Sums { products: Dense::zeros(1, n_items), users, shrinkage, touched: None }
    }

    /// Sums for `item`, which costs so many products.
    fn fill(&mut self, weights: &Weights, item: u32, cost: usize, go_on: &dyn Fn() -> bool) -> Result<()> {
        let is_sparse = cost.saturating_mul(SPARSE) < weights.to.len();
        self.touched = is_sparse.then(|| Vec::with_capacity(cost));
        let sums = self.products.values_mut();
        let users = weights.by_item.row(item as usize);
        let mut since = 0;
        for (at, (user, weight)) in users.iter().enumerate() {
            if let Some((later, _)) = users.get(at + 2 * AHEAD) {
                weights.by_user.fetch_place(*later as usize);
            }
            if let Some((soon, _)) = users.get(at + AHEAD) {
                weights.by_user.fetch(*soon as usize);
            }
            let others = weights.by_user.row(*user as usize);
            if let Some(touched) = &mut self.touched {
                let new = others.iter().filter(|(other, _)| sums[*other as usize] == 0.0 && *other != item);
                touched.extend(new.map(|(other, _)| other));
            }
            for (other, other_weight) in others {
                sums[*other as usize] += weight * other_weight;
            }
            if !self.users.is_empty() {
                others.iter().for_each(|(other, _)| self.users[*other as usize] += 1.0);
            }
            since += others.len();
            if since > PATIENCE {
                since = 0;
                if !go_on() {
                    return Err(Error::cancelled());
                }
            }
        }
        // An item is no neighbour of its own.
        sums[item as usize] = 0.0;
        self.users.get_mut(item as usize).into_iter().for_each(|count| *count = 0.0);
        Ok(())
    }

    /// The items with a sum, and it, as far as it counts.
    pub fn above_zero(&self) -> Vec<(u32, f32)> {
        let of = |item: u32| {
            let sum = self.products.values()[item as usize];
            self.users.get(item as usize).map_or(sum, |users| shrunk(sum, *users, self.shrinkage))
        };
        let items: Vec<u32> = match &self.touched {
            Some(touched) => touched.clone(),
            None => (0..self.products.width() as u32).collect(),
        };
        items.into_iter().map(|item| (item, of(item))).filter(|(_, sum)| *sum > 0.0).collect()
    }

    /// The `k` items most similar to one of the scale `from`.
    fn drain(&mut self, from: f32, to: &Dense, k: usize) -> Found {
        let mut best = Shortlist::new(k);
        match self.touched.take() {
            Some(touched) => {
                let (sums, to) = (self.products.values_mut(), to.values());
                for item in touched {
                    let at = item as usize;
                    let mut sum = std::mem::take(&mut sums[at]);
                    if let Some(users) = self.users.get_mut(at) {
                        sum = shrunk(sum, std::mem::take(users), self.shrinkage);
                    }
                    best.consider(item, sum * (to[at] * from));
                }
            }
            None => simd::run(Drain { sums: self, from, to, best: &mut best }),
        }
        best.into_found()
    }
}

/// What is left of a sum over so many users.
#[inline(always)]
fn shrunk(sum: f32, users: f32, shrinkage: f32) -> f32 {
    sum * (users / (users + shrinkage))
}

/// [`Sums::drain`] where every item is looked at, a vector of them at a time.
struct Drain<'a> {
    sums: &'a mut Sums,
    from: f32,
    to: &'a Dense,
    best: &'a mut Shortlist,
}

impl Kernel for Drain<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Sums { products, users, shrinkage, .. } = self.sums;
        let sums = products.values_mut();
        for (sum, users) in sums.iter_mut().zip(users.iter_mut()) {
            *sum = shrunk(*sum, *users, *shrinkage);
            *users = 0.0;
        }
        let (zero, from) = (simd.splat(0.0), simd.splat(self.from));
        let mut floor = simd.splat(self.best.floor());
        for (at, (sums, to)) in simd.vectors_mut(sums).iter_mut().zip(simd.vectors(self.to.values())).enumerate() {
            let similarities = simd.mul_add(*sums, simd.mul_add(*to, from, zero), zero);
            *sums = zero;
            // Nearly every one is too low: one look tells for as many as a vector holds.
            let mut good = simd.not_below(similarities, floor);
            if good != 0 {
                let mut room = [similarities];
                let similarities = simd.numbers_mut(&mut room);
                while good != 0 {
                    let lane = good.trailing_zeros() as usize;
                    good &= good - 1;
                    self.best.consider((at * S::LANES + lane) as u32, similarities[lane]);
                }
                floor = simd.splat(self.best.floor());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sums of which every third is 0, drained on one processor.
    struct Case(Sums);

    impl Kernel for Case {
        type Output = (Vec<(u32, f32)>, f32, Vec<f32>);

        #[inline(always)]
        fn run<S: Simd>(mut self, simd: S) -> Self::Output {
            let to: Vec<f32> = (0..100).map(|item| 1.0 + (item % 7) as f32).collect();
            let (to, mut best) = (Dense::row_of(&to), Shortlist::new(9));
            Drain { sums: &mut self.0, from: 0.5, to: &to, best: &mut best }.run(simd);
            let Found { neighbors, beyond } = best.into_found();
            (neighbors, beyond, [self.0.products.values(), &self.0.users].concat())
        }
    }

    #[test]
    fn all_processors_find_the_same() {
        for shrinkage in [0.0, 2.0] {
            let case = || {
                let mut sums = Sums::new(100, shrinkage);
                for (item, sum) in sums.products.values_mut()[..100].iter_mut().enumerate() {
                    *sum = (item % 3 * (item * 37 % 11)) as f32;
                }
                sums.users.iter_mut().enumerate().for_each(|(item, users)| *users = (item % 3 + item % 2) as f32);
                Case(sums)
            };
            let outputs = simd::run_on_all(case);
            for (neighbors, beyond, rest) in &outputs {
                assert_eq!((neighbors, beyond), (&outputs[0].0, &outputs[0].1));
                assert!(neighbors.len() == 9 && *beyond > 0.0 && rest.iter().all(|value| *value == 0.0));
            }
        }
    }

    #[test]
    fn chunks_hold_every_item_once() {
        let costs: Vec<usize> = (0..2000).map(|at| if at < 9 { CHUNK_COST } else { at % 5 }).collect();
        let chunks = chunk_ranges(&costs);
        assert!(chunks.iter().flat_map(Clone::clone).eq(0..2000));
        assert!(chunks.iter().all(|chunk| chunk.len() <= CHUNK_ITEMS));
        assert!(chunks[..8].iter().all(|chunk| chunk.len() == 1));
        assert!(chunk_ranges(&[]).is_empty());
    }
}
