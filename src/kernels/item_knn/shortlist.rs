//! The few most similar of many.

use crate::kernels::item_knn::search::Found;

/// The most similar items so far.
#[derive(Debug)]
pub(super) struct Shortlist {
    /// How many are wanted, and one to tell what comes after them.
    wanted: usize,
    floor: f32,
    /// The best so far and some that were better than the floor: the bits of the similarity, which are in its order
    /// above 0, and below them those of the item turned over, for of equals the lower comes first.
    found: Vec<u64>,
}

impl Shortlist {
    pub fn new(k: usize) -> Shortlist {
        Shortlist { wanted: k.saturating_add(1), floor: f32::MIN_POSITIVE, found: Vec::new() }
    }

    /// What is less similar need not be considered.
    #[inline(always)]
    pub fn floor(&self) -> f32 {
        self.floor
    }

    #[inline]
    pub fn consider(&mut self, item: u32, similarity: f32) {
        if similarity >= self.floor {
            self.found.push(u64::from(similarity.to_bits()) << 32 | u64::from(!item));
            // The first floor is wanted soon, the next ones when it pays to look for them.
            let spare = if self.floor == f32::MIN_POSITIVE { 0 } else { self.wanted.max(32) };
            if self.found.len() >= self.wanted.saturating_add(spare) {
                self.raise_floor();
            }
        }
    }

    fn raise_floor(&mut self) {
        let (_, worst, _) = self.found.select_nth_unstable_by(self.wanted - 1, |a, b| b.cmp(a));
        self.floor = similarity(*worst);
        self.found.truncate(self.wanted);
    }

    /// What was wanted of all that was considered.
    pub fn into_found(mut self) -> Found {
        self.found.sort_unstable_by(|a, b| b.cmp(a));
        self.found.truncate(self.wanted);
        let next = if self.found.len() == self.wanted { self.found.pop() } else { None };
        let neighbors = self.found.into_iter().map(|key| (!(key as u32), similarity(key))).collect();
        Found { neighbors, beyond: next.map_or(0.0, similarity) }
    }
}

fn similarity(key: u64) -> f32 {
    f32::from_bits((key >> 32) as u32)
}
