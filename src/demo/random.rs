//! Chance by seed: one stream of numbers per concern and subject, so that a new table never shifts an old one.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Exp1, Gamma, StandardNormal};

use crate::error::{Error, Result};

/// What a stream is drawn for. The number is part of the demo's format: give a new concern a new number.
#[derive(Debug, Clone, Copy)]
pub(super) enum Concern {
    Products = 1,
    Pairs = 2,
    Signups = 3,
    Customer = 4,
    Purchases = 5,
    Fraud = 6,
    Sessions = 7,
    Reviews = 8,
    Payments = 9,
}

/// The numbers of one concern about one subject, such as the purchases of the seventh customer.
pub(super) fn stream(seed: u64, concern: Concern, subject: usize) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(((concern as u64) << 48) | subject as u64);
    rng
}

/// True with the given probability.
pub(super) fn chance(rng: &mut ChaCha8Rng, probability: f64) -> bool {
    rng.random::<f64>() < probability
}

/// Any one of `items`, which must not be empty.
pub(super) fn pick<T: Copy>(rng: &mut ChaCha8Rng, items: &[T]) -> T {
    items[below(rng, items.len())]
}

/// A whole number from 0 to `n - 1`; 0 when `n` is 0. Drawn from 64 bits, so that 32-bit machines agree.
pub(super) fn below(rng: &mut ChaCha8Rng, n: usize) -> usize {
    rng.random_range(0..(n as u64).max(1)) as usize
}

/// A number in `from..to`.
pub(super) fn between(rng: &mut ChaCha8Rng, from: f64, to: f64) -> f64 {
    from + (to - from) * rng.random::<f64>()
}

/// An index, each as likely as its weight. The weights need not sum to one.
pub(super) fn weighted(rng: &mut ChaCha8Rng, weights: impl Iterator<Item = f64> + Clone) -> usize {
    let mut left = rng.random::<f64>() * weights.clone().sum::<f64>();
    let mut last = 0;
    for (i, weight) in weights.enumerate() {
        last = i;
        left -= weight;
        if left < 0.0 {
            break;
        }
    }
    last
}

/// A waiting time of mean 1.
pub(super) fn wait(rng: &mut ChaCha8Rng) -> f64 {
    Exp1.sample(rng)
}

/// A draw from the standard normal.
pub(super) fn normal(rng: &mut ChaCha8Rng) -> f64 {
    StandardNormal.sample(rng)
}

/// A gamma draw of the given shape and mean.
pub(super) fn gamma(rng: &mut ChaCha8Rng, shape: f64, mean: f64) -> Result<f64> {
    let gamma = Gamma::new(shape, mean / shape)
        .map_err(|error| Error::internal(format!("gamma of shape {shape} and mean {mean}: {error}")))?;
    Ok(gamma.sample(rng))
}

/// A beta draw, as the share of one gamma in two.
pub(super) fn beta(rng: &mut ChaCha8Rng, a: f64, b: f64) -> Result<f64> {
    let x = gamma(rng, a, a)?;
    let y = gamma(rng, b, b)?;
    Ok(x / (x + y))
}

/// `0..n` in an order of chance (Fisher and Yates).
pub(super) fn shuffled(rng: &mut ChaCha8Rng, n: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        order.swap(i, below(rng, i + 1));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_repeat_and_differ() {
        let draw = |seed, concern, subject| stream(seed, concern, subject).random::<u64>();
        assert_eq!(draw(1, Concern::Customer, 7), draw(1, Concern::Customer, 7));
        assert_ne!(draw(1, Concern::Customer, 7), draw(2, Concern::Customer, 7));
        assert_ne!(draw(1, Concern::Customer, 7), draw(1, Concern::Customer, 8));
        assert_ne!(draw(1, Concern::Customer, 7), draw(1, Concern::Fraud, 7));
    }

    #[test]
    fn draws_have_the_means_they_were_asked_for() -> Result<()> {
        let mut rng = stream(1, Concern::Customer, 0);
        let n = 20_000;
        let mut sums = [0.0; 3];
        for _ in 0..n {
            sums[0] += gamma(&mut rng, 3.0, 42.0)?;
            sums[1] += beta(&mut rng, 1.0, 3.0)?;
            sums[2] += weighted(&mut rng, [1.0, 0.0, 3.0].into_iter()) as f64;
        }
        let means = sums.map(|sum| sum / f64::from(n));
        assert!((means[0] - 42.0).abs() < 0.6 && (means[1] - 0.25).abs() < 0.01 && (means[2] - 1.5).abs() < 0.03);
        Ok(())
    }

    #[test]
    fn a_shuffle_keeps_every_number() {
        let mut order = shuffled(&mut stream(1, Concern::Pairs, 0), 100);
        assert_ne!(order, (0..100).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..100).collect::<Vec<_>>());
    }
}
