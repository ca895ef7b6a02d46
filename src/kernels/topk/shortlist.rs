//! What one user's search has found so far.

use crate::kernels::hash::GOLDEN;

/// The best that one user has been offered so far, and some that were good enough at the time.
pub(in crate::kernels) struct Shortlist<'a> {
    seen: Seen<'a>,
    k: usize,
    /// The worst score of `k` that were found; a lower one need not be offered.
    floor: f32,
    /// As [`rank`] has them.
    found: Vec<u64>,
}

impl<'a> Shortlist<'a> {
    /// With the ids to leave out, ascending.
    pub(in crate::kernels) fn new(seen: &'a [u32], k: usize) -> Self {
        Self { seen: Seen::of(seen), k, floor: f32::NEG_INFINITY, found: Vec::new() }
    }

    /// A score below this need not be offered.
    pub(in crate::kernels) fn floor(&self) -> f32 {
        self.floor
    }

    /// Whether `id` may be offered at all.
    pub(super) fn admits(&self, id: u32) -> bool {
        self.k > 0 && !self.seen.has(id)
    }

    pub(in crate::kernels) fn offer(&mut self, id: u32, score: f32) {
        if self.admits(id) {
            self.take(id, score);
        }
    }

    /// Of an id that [may be offered](Shortlist::admits).
    pub(super) fn take(&mut self, id: u32, score: f32) {
        self.found.push(rank(id, score));
        // The first floor is wanted soon, the next ones when it pays to look for them.
        let enough = if self.floor == f32::NEG_INFINITY { self.k } else { self.k.saturating_add(self.k.max(32)) };
        if self.found.len() >= enough {
            self.raise_floor();
        }
    }

    fn raise_floor(&mut self) {
        let (_, worst, _) = self.found.select_nth_unstable(self.k - 1);
        let (_, worst) = ranked(*worst);
        if !worst.is_nan() {
            self.floor = worst;
        }
        self.found.truncate(self.k);
    }

    pub(in crate::kernels) fn into_sorted(mut self) -> Vec<(u32, f32)> {
        self.found.sort_unstable();
        self.found.truncate(self.k);
        self.found.into_iter().map(ranked).collect()
    }
}

/// Ids to leave out. Most ids are not among them, and that is seen by one bit.
struct Seen<'a> {
    /// Ascending.
    ids: &'a [u32],
    /// A bit for each, by the [`Seen::place`] of the id: eight times as many as ids, so that few others have one that is set.
    bits: Vec<u64>,
}

impl<'a> Seen<'a> {
    fn of(ids: &'a [u32]) -> Self {
        let mut bits = vec![0; (ids.len() / 8).next_power_of_two()];
        for id in ids {
            let place = Self::place(*id, bits.len());
            bits[place / 64] |= 1 << (place % 64);
        }
        Self { ids, bits }
    }

    #[inline(always)]
    fn has(&self, id: u32) -> bool {
        let place = Self::place(id, self.bits.len());
        self.bits[place / 64] >> (place % 64) & 1 == 1 && self.ids.binary_search(&id).is_ok()
    }

    /// A number below `64 · words`, which are a power of two.
    #[inline(always)]
    fn place(id: u32, words: usize) -> usize {
        (u64::from(id).wrapping_mul(GOLDEN) >> 32) as usize & (64 * words - 1)
    }
}

/// A number that is less the better an item is: by falling score, then by id. Two zeros are the same, and what is no
/// number comes last.
///
/// Such numbers are compared more quickly than scores and ids.
fn rank(id: u32, score: f32) -> u64 {
    let bits = (score + 0.0).to_bits();
    let falling = match bits >> 31 {
        _ if score.is_nan() => u32::MAX,
        0 => !(bits | 1 << 31),
        _ => bits,
    };
    u64::from(falling) << 32 | u64::from(id)
}

/// What [`rank`] was given, a zero without its sign.
fn ranked(rank: u64) -> (u32, f32) {
    let falling = (rank >> 32) as u32;
    let score = match falling >> 31 {
        _ if falling == u32::MAX => f32::NAN,
        0 => f32::from_bits(!falling & !(1 << 31)),
        _ => f32::from_bits(falling),
    };
    (rank as u32, score)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_seen_is_left_out() {
        for ids in [vec![], vec![7], (0..1000).map(|id| id * id).collect::<Vec<u32>>()] {
            let seen = Seen::of(&ids);
            assert!((0..20_000).all(|id| seen.has(id) == ids.binary_search(&id).is_ok()));
            assert!(!seen.has(u32::MAX));
        }
    }

    #[test]
    fn ranks_are_in_the_order_of_scores() {
        let falling =
            [f32::INFINITY, 3e38, 1.5, 1.0, f32::MIN_POSITIVE, 1e-45, 0.0, -1e-45, -1.0, -3e38, f32::NEG_INFINITY];
        let ranks = falling.map(|score| rank(7, score));
        assert!(ranks.is_sorted_by(|a, b| a < b));
        assert_eq!(ranks.map(ranked), falling.map(|score| (7, score)));
        assert!(rank(u32::MAX, f32::NEG_INFINITY) < rank(0, f32::NAN) && rank(3, 1.0) < rank(4, 1.0));
        assert!(rank(9, -0.0) == rank(9, 0.0) && rank(9, -f32::NAN) == rank(9, f32::NAN));
        assert!(ranked(rank(5, f32::NAN)).1.is_nan());
    }
}
