//! How often each value occurs: exactly for as many as fit, and from a fair sample of the values beyond that.

use std::hash::Hasher;

use hashbrown::HashTable;

use crate::kernels::hash::Fnv;

/// Values that are counted exactly.
pub const CAPACITY: usize = 1 << 18;

/// Bytes of values that are kept, were there fewer of them even.
const CAPACITY_BYTES: usize = 32 << 20;
/// Zeros that no hash need end in more of: one value in a trillion.
const LAST_LEVEL: u32 = 40;

/// Counts of values, which are told apart by their bytes.
///
/// Past [`CAPACITY`] different values, or 32 MiB of them, only those are kept whose hash ends in a zero, then in two, and so on (Gibbons
/// 2001, "Distinct sampling"). Which values that are depends on all values together and on no order, so tallies of parts
/// merge to what one tally of all would be.
#[derive(Debug, Clone)]
pub struct Tally {
    /// Zeros that the hash of a value must end in to be counted.
    level: u32,
    counts: HashTable<Entry>,
    /// Bytes of the values that are kept.
    key_bytes: usize,
    capacity: usize,
}

#[derive(Debug, Clone)]
struct Entry {
    hash: u64,
    key: Box<[u8]>,
    count: u64,
}

impl Default for Tally {
    fn default() -> Self {
        Self::with_capacity(CAPACITY)
    }
}

impl Tally {
    fn with_capacity(capacity: usize) -> Self {
        Self { level: 0, counts: HashTable::new(), key_bytes: 0, capacity }
    }

    /// Counts a value that occurs `count` times more.
    pub fn add(&mut self, key: &[u8], count: u64) {
        let mut hasher = Fnv::seeded(0);
        hasher.write(key);
        let hash = hasher.finish();
        if hash.trailing_zeros() < self.level {
            return;
        }
        match self.counts.find_mut(hash, |entry| *entry.key == *key) {
            Some(entry) => entry.count += count,
            None => {
                self.counts.insert_unique(hash, Entry { hash, key: key.into(), count }, |entry| entry.hash);
                self.key_bytes += key.len();
                let is_full = |tally: &Self| tally.counts.len() > tally.capacity || tally.key_bytes > CAPACITY_BYTES;
                while is_full(self) && self.level < LAST_LEVEL {
                    self.rise(self.level + 1);
                }
            }
        }
    }

    pub fn merge(&mut self, other: &Self) {
        self.rise(other.level);
        other.counts.iter().for_each(|entry| self.add(&entry.key, entry.count));
    }

    /// How many different values there are; an estimate unless [`Tally::is_exact`], with a standard error below
    /// 1/√(capacity / 2), 0.3 %, where values are short.
    pub fn distinct(&self) -> u64 {
        (self.counts.len() as u64) << self.level
    }

    pub fn is_exact(&self) -> bool {
        self.level == 0
    }

    /// The value that occurs most, and how often; of those that occur as often the one of the lowest bytes. `None` for no
    /// value, and where it may be among those that were not kept.
    pub fn top(&self) -> Option<(&[u8], u64)> {
        let best = |a: &&Entry, b: &&Entry| a.count.cmp(&b.count).then_with(|| b.key.cmp(&a.key));
        let top = self.counts.iter().max_by(best).filter(|_| self.is_exact())?;
        Some((&top.key, top.count))
    }

    /// Bytes of memory, about.
    pub fn size(&self) -> usize {
        /// What an allocator adds to a small piece of memory.
        const OVERHEAD: usize = 16;
        self.key_bytes + self.counts.len() * OVERHEAD + self.counts.capacity() * (size_of::<Entry>() + 1)
    }

    /// As bytes that [`Tally::from_bytes`] reads.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(4 + self.key_bytes + 12 * self.counts.len());
        bytes.extend(self.level.to_le_bytes());
        for entry in &self.counts {
            bytes.extend((entry.key.len() as u32).to_le_bytes());
            bytes.extend(entry.count.to_le_bytes());
            bytes.extend(&*entry.key);
        }
        bytes
    }

    /// `None` for bytes that are no tally.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (level, mut rest) = bytes.split_first_chunk()?;
        let mut tally = Self { level: u32::from_le_bytes(*level), ..Self::default() };
        while !rest.is_empty() {
            let (length, after) = rest.split_first_chunk()?;
            let (count, after) = after.split_first_chunk()?;
            let (key, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            tally.add(key, u64::from_le_bytes(*count));
            rest = after;
        }
        Some(tally)
    }

    fn rise(&mut self, level: u32) {
        if level > self.level {
            self.level = level;
            self.counts.retain(|entry| entry.hash.trailing_zeros() >= level);
            self.key_bytes = self.counts.iter().map(|entry| entry.key.len()).sum();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn tally(values: &[u16], capacity: usize) -> Tally {
        let mut tally = Tally::with_capacity(capacity);
        values.iter().for_each(|value| tally.add(&value.to_be_bytes(), 1));
        tally
    }

    fn counts(tally: &Tally) -> BTreeMap<Vec<u8>, u64> {
        tally.counts.iter().map(|entry| (entry.key.to_vec(), entry.count)).collect()
    }

    #[test]
    fn many_are_estimated() {
        let values: Vec<u16> = (0..50_000).collect();
        let tally = tally(&values, 4096);
        assert!(!tally.is_exact() && tally.top().is_none());
        assert!((47_000..53_000).contains(&tally.distinct()), "{}", tally.distinct());
    }

    #[test]
    fn nothing_has_no_top() {
        let none = Tally::default();
        assert_eq!((none.distinct(), none.top(), none.is_exact()), (0, None, true));
        assert!(Tally::from_bytes(b"no").is_none() && Tally::from_bytes(&[0, 0, 0, 0, 9, 0, 0, 0]).is_none());
    }

    proptest! {
        #[test]
        fn few_are_counted_as_in_a_map(values in prop::collection::vec(0u16..50, 0..200)) {
            let mut expected: BTreeMap<u16, u64> = BTreeMap::new();
            values.iter().for_each(|value| *expected.entry(*value).or_default() += 1);
            let tally = tally(&values, 64);
            prop_assert_eq!(tally.distinct(), expected.len() as u64);
            let most = expected.values().max().copied();
            let top = expected.iter().find(|(_, count)| Some(**count) == most);
            let top = top.map(|(value, count)| (value.to_be_bytes().to_vec(), *count));
            prop_assert_eq!(tally.top().map(|(key, count)| (key.to_vec(), count)), top);
        }

        #[test]
        fn parts_merge_to_the_whole(values in prop::collection::vec(0u16..400, 0..600), at in 0usize..600) {
            let whole = tally(&values, 64);
            let (left, right) = values.split_at(at.min(values.len()));
            let mut merged = Tally { capacity: 64, ..Tally::from_bytes(&tally(right, 64).to_bytes()).unwrap() };
            merged.merge(&tally(left, 64));
            prop_assert_eq!(merged.level, whole.level);
            prop_assert_eq!(counts(&merged), counts(&whole));
            prop_assert_eq!(merged.key_bytes, 2 * merged.counts.len());
        }
    }
}
