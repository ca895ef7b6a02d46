//! How the numbers of a column lie: mean, spread and quantiles from one summary that merges.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::kernels::exact_sum::ExactSum;

/// Different numbers that are told apart; beyond that neighbours are counted together.
pub const CAPACITY: usize = 1 << 18;
/// Bits by which numbers grow coarser when there are too many of them.
const COARSER: u32 = 2;

/// A summary of numbers. NaN is none and left out; infinities are the largest and the smallest.
///
/// It holds how often each number occurs, so quantiles are exact. Past [`CAPACITY`] different numbers it forgets their
/// lowest bits, as few as will do, and quantiles are right to within the numbers that became one: a 65,536th of them or
/// less where they are spread evenly. How many bits that is depends on all numbers together and on no order; mean and
/// standard deviation are exact at any size ([`ExactSum`]). So summaries of parts merge to the summary of the whole, bit
/// for bit.
#[derive(Debug, Clone)]
pub struct Distribution {
    n: u64,
    sum: ExactSum,
    squares: ExactSum,
    min: f64,
    max: f64,
    /// Bits that are forgotten.
    forgotten: u32,
    /// By [`ordered`] bits, without those forgotten.
    counts: HashMap<u64, u64, RandomState>,
    capacity: usize,
}

impl Default for Distribution {
    fn default() -> Self {
        Self::with_capacity(CAPACITY)
    }
}

impl Distribution {
    fn with_capacity(capacity: usize) -> Self {
        Self {
            n: 0,
            sum: ExactSum::default(),
            squares: ExactSum::default(),
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            forgotten: 0,
            counts: HashMap::default(),
            capacity,
        }
    }

    pub fn add(&mut self, value: f64) {
        if value.is_nan() {
            return;
        }
        self.n += 1;
        self.sum.add(value);
        self.squares.add_product(value, value);
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        *self.counts.entry(ordered(value) >> self.forgotten).or_default() += 1;
        self.make_room();
    }

    pub fn merge(&mut self, other: &Self) {
        self.n += other.n;
        self.sum.merge(&other.sum);
        self.squares.merge(&other.squares);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        if other.forgotten > self.forgotten {
            self.forget(other.forgotten - self.forgotten);
        }
        for (bits, count) in &other.counts {
            // More may have been forgotten since the last one.
            *self.counts.entry(bits >> (self.forgotten - other.forgotten)).or_default() += count;
            self.make_room();
        }
    }

    /// How many numbers.
    pub fn n(&self) -> u64 {
        self.n
    }

    /// `None` of no numbers.
    pub fn mean(&self) -> Option<f64> {
        (self.n > 0).then(|| self.sum.value() / self.n as f64)
    }

    /// The standard deviation of a sample, over n − 1; `None` of fewer than two numbers.
    pub fn deviation(&self) -> Option<f64> {
        let mean = self.mean().filter(|_| self.n > 1)?;
        if !mean.is_finite() {
            return Some(f64::NAN);
        }
        // Σ(x − m)² = Σx² − 2 m Σx + n m², each product added without rounding: the large terms cancel to the last bit.
        let mut gaps = self.squares.clone();
        self.sum.parts().into_iter().for_each(|part| gaps.add_product(-2.0 * mean, part));
        let square = mean * mean;
        let n = self.n as f64;
        gaps.add_product(n, square);
        gaps.add_product(n, mean.mul_add(mean, -square));
        let gaps = gaps.value();
        // Squares of what is over 10¹⁵⁴ are no doubles any more.
        Some(if gaps.is_finite() { (gaps.max(0.0) / (n - 1.0)).sqrt() } else { f64::INFINITY })
    }

    pub fn is_exact(&self) -> bool {
        self.forgotten == 0
    }

    /// Bytes of memory, about.
    pub fn size(&self) -> usize {
        self.counts.capacity() * (2 * size_of::<u64>() + 1)
    }

    /// As numbers that [`Distribution::from_words`] reads.
    pub fn to_words(&self) -> Vec<u64> {
        let mut words = vec![self.n, self.min.to_bits(), self.max.to_bits(), u64::from(self.forgotten)];
        words.extend(self.sum.to_words());
        words.extend(self.squares.to_words());
        words.extend(self.counts.iter().flat_map(|(bits, count)| [*bits, *count]));
        words
    }

    /// `None` for numbers that are no summary.
    pub fn from_words(mut words: impl Iterator<Item = u64>) -> Option<Self> {
        let words = &mut words;
        let mut found = Self {
            n: words.next()?,
            min: f64::from_bits(words.next()?),
            max: f64::from_bits(words.next()?),
            forgotten: u32::try_from(words.next()?).ok().filter(|bits| *bits < 64)?,
            sum: ExactSum::from_words(words)?,
            squares: ExactSum::from_words(words)?,
            ..Self::default()
        };
        while let Some(bits) = words.next() {
            found.counts.insert(bits, words.next()?);
        }
        Some(found)
    }

    /// The numbers in order.
    pub fn sorted(&self) -> Sorted {
        let mut counts: Vec<(u64, u64)> = self.counts.iter().map(|(bits, count)| (*bits, *count)).collect();
        counts.sort_unstable();
        let mut before = 0;
        let steps = counts.into_iter().map(|(bits, count)| {
            let low = number(bits << self.forgotten).clamp(self.min, self.max);
            let high = number((bits << self.forgotten) | ((1u64 << self.forgotten) - 1)).clamp(self.min, self.max);
            before += count;
            Step { low, high, count, upto: before }
        });
        Sorted { steps: steps.collect(), n: self.n }
    }

    fn make_room(&mut self) {
        while self.counts.len() > self.capacity {
            self.forget(COARSER);
        }
    }

    fn forget(&mut self, bits: u32) {
        self.forgotten += bits;
        let fine = std::mem::take(&mut self.counts);
        for (number, count) in fine {
            *self.counts.entry(number >> bits).or_default() += count;
        }
    }
}

/// The numbers of a [`Distribution`] in order, equal ones together.
#[derive(Debug, Clone)]
pub struct Sorted {
    steps: Vec<Step>,
    n: u64,
}

/// Numbers from `low` to `high`: equal unless the summary is coarse.
#[derive(Debug, Clone, Copy)]
struct Step {
    low: f64,
    high: f64,
    count: u64,
    /// How many numbers there are up to here.
    upto: u64,
}

impl Step {
    fn middle(&self) -> f64 {
        between(self.low, self.high, 0.5)
    }
}

impl Sorted {
    /// The number at that place, from 0. `None` where there is none.
    pub fn at(&self, place: u64) -> Option<f64> {
        let step = self.steps.get(self.steps.partition_point(|step| step.upto <= place))?;
        let within = place - (step.upto - step.count);
        let part = match place {
            // The ends are known however coarse the rest is.
            0 => 0.0,
            last if last + 1 == self.n => 1.0,
            _ => (within as f64 + 0.5) / step.count as f64,
        };
        Some(between(step.low, step.high, part))
    }

    /// The quantile at `share`, from 0 to 1, by linear interpolation (type 7 of Hyndman and Fan 1996, as NumPy and
    /// `percentile_cont`). `None` of no numbers.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let position = self.n.checked_sub(1)? as f64 * share.clamp(0.0, 1.0);
        let below = position.floor();
        let low = self.at(below as u64)?;
        Some(between(low, self.at(below as u64 + 1).unwrap_or(low), position - below))
    }

    /// The numbers to which the extreme ones are pulled in: those next to the ⌊n · lower⌋ lowest and to the
    /// ⌊n · (1 − upper)⌋ highest (Dixon 1960). `None` where nothing is left between.
    pub fn winsorized(&self, lower: f64, upper: f64) -> Option<(f64, f64)> {
        // A share such as 0.29 is no sum of halves: 100 · 0.29 falls short of 29 by a hair.
        let whole = |share: f64| (self.n as f64 * share + 1e-9).floor() as u64;
        let (low, high) = (whole(lower), self.n.checked_sub(1 + whole(1.0 - upper))?);
        if low > high {
            return None;
        }
        Some((self.at(low)?, self.at(high)?))
    }

    /// The median distance from `center`: the MAD where `center` is the median. `None` of no numbers.
    pub fn median_distance(&self, center: f64) -> Option<f64> {
        let mut gaps: Vec<(f64, u64)> = self.distances(center).collect();
        gaps.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut upto = 0;
        let steps = gaps.into_iter().map(|(gap, count)| {
            upto += count;
            Step { low: gap, high: gap, count, upto }
        });
        Sorted { steps: steps.collect(), n: self.n }.quantile(0.5)
    }

    /// The mean distance from `center`. `None` of no numbers.
    pub fn mean_distance(&self, center: f64) -> Option<f64> {
        (self.n > 0).then(|| self.distances(center).map(|(gap, count)| gap * count as f64).sum::<f64>() / self.n as f64)
    }

    /// The number that occurs most, of several the lowest. `None` of no numbers.
    pub fn mode(&self) -> Option<f64> {
        // Of equals max_by keeps the last it sees.
        self.steps.iter().rev().max_by_key(|step| step.count).map(Step::middle)
    }

    fn distances(&self, center: f64) -> impl Iterator<Item = (f64, u64)> {
        // An infinite number at an infinite center is in the middle of it.
        self.steps.iter().map(move |step| {
            let middle = step.middle();
            (if middle == center { 0.0 } else { (middle - center).abs() }, step.count)
        })
    }
}

/// The point between two numbers, at 0 the lower and at 1 the higher one. Not low + part × (high − low), which may end a
/// hair beside two equal neighbours, and nowhere between two infinities.
fn between(low: f64, high: f64, part: f64) -> f64 {
    if low == high || part == 0.0 {
        low
    } else if part == 1.0 {
        high
    } else {
        low * (1.0 - part) + high * part
    }
}

/// The bits of a number, so that they compare as the numbers do. Both zeros are one.
fn ordered(value: f64) -> u64 {
    let bits = (value + 0.0).to_bits();
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}

/// The number of such bits.
fn number(ordered: u64) -> f64 {
    f64::from_bits(if ordered >> 63 == 1 { ordered & !(1 << 63) } else { !ordered })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn distribution(values: &[f64], capacity: usize) -> Distribution {
        let mut found = Distribution::with_capacity(capacity);
        values.iter().for_each(|value| found.add(*value));
        found
    }

    /// By sorting them all.
    fn slow_quantile(values: &[f64], share: f64) -> f64 {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let position = (sorted.len() - 1) as f64 * share;
        let below = position.floor() as usize;
        let (low, high) = (sorted[below], sorted[(below + 1).min(sorted.len() - 1)]);
        low + (high - low) * (position - below as f64)
    }

    #[test]
    fn a_hand_worked_case() {
        let found = distribution(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0, f64::NAN], 64);
        assert_eq!((found.n(), found.mean()), (8, Some(5.0)));
        assert_eq!(found.deviation(), Some((32.0f64 / 7.0).sqrt()));
        let sorted = found.sorted();
        assert_eq!(sorted.quantile(0.25), Some(4.0));
        assert_eq!(sorted.quantile(0.5), Some(4.5));
        assert_eq!(sorted.quantile(1.0), Some(9.0));
        assert_eq!(sorted.mode(), Some(4.0));
        // Distances from 4.5: 2.5 .5 .5 .5 .5 .5 2.5 4.5
        assert_eq!(sorted.median_distance(4.5), Some(0.5));
        assert_eq!(sorted.mean_distance(4.5), Some(1.5));
    }

    #[test]
    fn a_spread_far_from_zero_is_not_lost() {
        let values: Vec<f64> = (0..1000).map(|value| 1.7e15 + f64::from(value % 2)).collect();
        let expected = (1000.0f64 * 0.25 / 999.0).sqrt();
        assert!((distribution(&values, 64).deviation().unwrap() - expected).abs() < 1e-15);
    }

    #[test]
    fn nothing_has_no_quantiles() {
        let none = distribution(&[f64::NAN], 64);
        assert_eq!((none.n(), none.mean(), none.deviation()), (0, None, None));
        let sorted = none.sorted();
        assert_eq!((sorted.quantile(0.5), sorted.mode(), sorted.winsorized(0.1, 0.9)), (None, None, None));
        assert_eq!((sorted.median_distance(0.0), sorted.mean_distance(0.0)), (None, None));
        assert_eq!(distribution(&[3.0], 64).deviation(), None);
    }

    #[test]
    fn infinities_are_the_ends() {
        let sorted = distribution(&[f64::NEG_INFINITY, 1.0, 2.0, f64::INFINITY, f64::INFINITY], 64).sorted();
        assert_eq!((sorted.quantile(0.0), sorted.quantile(0.5)), (Some(f64::NEG_INFINITY), Some(2.0)));
        assert_eq!((sorted.quantile(0.75), sorted.quantile(1.0)), (Some(f64::INFINITY), Some(f64::INFINITY)));
        assert_eq!(distribution(&[f64::INFINITY, 1.0], 64).mean(), Some(f64::INFINITY));
    }

    #[test]
    fn extremes_are_pulled_in() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        let sorted = distribution(&values, 200).sorted();
        assert_eq!(sorted.winsorized(0.05, 0.95), Some((6.0, 95.0)));
        assert_eq!(sorted.winsorized(0.29, 0.71), Some((30.0, 71.0)));
        assert_eq!(sorted.winsorized(0.0, 1.0), Some((1.0, 100.0)));
        assert_eq!(sorted.winsorized(0.5, 0.5), None);
        // Of ten numbers one in a hundred is none.
        assert_eq!(distribution(&values[..10], 200).sorted().winsorized(0.01, 0.99), Some((1.0, 10.0)));
    }

    #[test]
    fn many_numbers_grow_coarse_but_stay_near() {
        let values: Vec<f64> = (0..100_000).map(|value| 1e9 + f64::from(value) * 0.37).collect();
        let found = distribution(&values, 4096);
        assert!(!found.is_exact() && found.counts.len() > 512);
        let sorted = found.sorted();
        for share in [0.01, 0.25, 0.5, 0.9, 0.999] {
            let gap = (sorted.quantile(share).unwrap() - slow_quantile(&values, share)).abs();
            assert!(gap < 37_000.0 / 512.0, "{share}: {gap}");
        }
        assert_eq!((sorted.quantile(0.0), sorted.quantile(1.0)), (Some(1e9), Some(values[99_999])));
    }

    #[test]
    fn the_sign_of_zero_is_nothing() {
        assert_eq!(distribution(&[0.0, -0.0], 64).counts.len(), 1);
    }

    proptest! {
        #[test]
        fn bits_order_as_numbers(a in any::<f64>(), b in any::<f64>()) {
            prop_assume!(!a.is_nan() && !b.is_nan());
            prop_assert_eq!(ordered(a).cmp(&ordered(b)), a.partial_cmp(&b).unwrap());
            prop_assert_eq!(number(ordered(a)), a);
        }

        #[test]
        fn quantiles_are_those_of_sorting(
            values in prop::collection::vec(-50i32..50, 1..80),
            share in 0.0f64..=1.0,
        ) {
            let values: Vec<f64> = values.into_iter().map(|value| f64::from(value) / 4.0).collect();
            let found = distribution(&values, 128);
            let sorted = found.sorted();
            let slow = slow_quantile(&values, share);
            prop_assert!((sorted.quantile(share).unwrap() - slow).abs() < 1e-9);
            let gaps: Vec<f64> = values.iter().map(|value| (value - slow).abs()).collect();
            prop_assert!((sorted.median_distance(slow).unwrap() - slow_quantile(&gaps, 0.5)).abs() < 1e-9);
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            prop_assert!((found.mean().unwrap() - mean).abs() < 1e-9);
            if values.len() > 1 {
                let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
                let deviation = (squares / (values.len() - 1) as f64).sqrt();
                prop_assert!((found.deviation().unwrap() - deviation).abs() < 1e-9);
            }
        }

        #[test]
        fn parts_merge_to_the_whole(values in prop::collection::vec(any::<f64>(), 0..300), at in 0usize..300) {
            let whole = distribution(&values, 32);
            let (left, right) = values.split_at(at.min(values.len()));
            let right = Distribution::from_words(distribution(right, 32).to_words().into_iter()).unwrap();
            let mut merged = Distribution { capacity: 32, ..right };
            merged.merge(&distribution(left, 32));
            prop_assert_eq!(merged.forgotten, whole.forgotten);
            prop_assert_eq!(&merged.counts, &whole.counts);
            let bits = |found: &Distribution| (found.mean().map(f64::to_bits), found.deviation().map(f64::to_bits));
            prop_assert_eq!(bits(&merged), bits(&whole));
        }
    }
}
