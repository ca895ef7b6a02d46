//! What one user's search has found so far.

use super::Ranked;

/// The best that one user has been offered so far, and some that were good enough at the time.
pub(in crate::kernels) struct Shortlist<'a> {
    /// Ids to leave out, ascending.
    seen: &'a [u32],
    k: usize,
    /// The worst score of `k` that were found; a lower one need not be offered.
    floor: f32,
    found: Vec<Ranked>,
}

impl<'a> Shortlist<'a> {
    pub(in crate::kernels) fn new(seen: &'a [u32], k: usize) -> Self {
        Self { seen, k, floor: f32::NEG_INFINITY, found: Vec::new() }
    }

    /// A score below this need not be offered.
    pub(in crate::kernels) fn floor(&self) -> f32 {
        self.floor
    }

    /// Whether `id` may be offered at all.
    pub(super) fn admits(&self, id: u32) -> bool {
        self.k > 0 && self.seen.binary_search(&id).is_err()
    }

    pub(in crate::kernels) fn offer(&mut self, id: u32, score: f32) {
        if self.admits(id) {
            self.take(id, score);
        }
    }

    /// Of an id that [may be offered](Shortlist::admits).
    pub(super) fn take(&mut self, id: u32, score: f32) {
        self.found.push(Ranked { id, score });
        // The first floor is wanted soon, the next ones when it pays to look for them.
        let enough = if self.floor == f32::NEG_INFINITY { self.k } else { self.k.saturating_add(self.k.max(32)) };
        if self.found.len() >= enough {
            self.raise_floor();
        }
    }

    fn raise_floor(&mut self) {
        let (_, worst, _) = self.found.select_nth_unstable(self.k - 1);
        if !worst.score.is_nan() {
            self.floor = worst.score;
        }
        self.found.truncate(self.k);
    }

    pub(in crate::kernels) fn into_sorted(mut self) -> Vec<(u32, f32)> {
        self.found.sort_unstable();
        self.found.truncate(self.k);
        self.found.into_iter().map(|ranked| (ranked.id, ranked.score)).collect()
    }
}
