//! How widely recommendations spread over the items, and how far from the usual they are.

/// The share of items that were recommended to anyone (catalogue coverage): `counts` says how often each one was. 0
/// without items.
pub fn coverage(counts: &[u32]) -> f64 {
    let shown = counts.iter().filter(|count| **count > 0).count();
    if counts.is_empty() { 0.0 } else { shown as f64 / counts.len() as f64 }
}

/// How unequally recommendations are spread: Gini's coefficient of `counts`, one for each item, those that are never
/// recommended included. 0: all items equally often; (n − 1)/n, nearly 1: always the same one. 0 without any.
///
/// With the counts in ascending order, `Σ (2i − n − 1) x_i / (n Σ x)`, i from 1 (Gini 1912; Fleder, Hosanagar 2009 for
/// recommenders).
pub fn gini(counts: &[u32]) -> f64 {
    let total: u64 = counts.iter().map(|count| u64::from(*count)).sum();
    if total == 0 {
        return 0.0;
    }
    let mut sorted = counts.to_vec();
    sorted.sort_unstable();
    let n = sorted.len() as f64;
    let weighted: f64 =
        sorted.iter().zip(1..).map(|(count, i)| (2.0 * f64::from(i) - n - 1.0) * f64::from(*count)).sum();
    weighted / (n * total as f64)
}

/// The mean self-information of the first `k` of `ranked`, in bits (Vargas, Castells 2011): what an item tells is
/// `−log2` of the share of users who had it, in `bits`. 0 where nothing was ranked.
pub fn novelty_at_k(ranked: &[u32], bits: &[f64], k: usize) -> f64 {
    let n = ranked.len().min(k);
    let sum: f64 = ranked.iter().take(k).map(|item| bits[*item as usize]).sum();
    if n == 0 { 0.0 } else { sum / n as f64 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn by_hand() {
        assert_eq!((coverage(&[3, 0, 1, 0]), gini(&[2, 2, 2])), (0.5, 0.0));
        // One item of four gets all: (n − 1) / n.
        assert_eq!(gini(&[0, 7, 0, 0]), 0.75);
        // 1, 2, 3, 4 of 10: (−3·1 − 1·2 + 1·3 + 3·4) / (4 · 10).
        assert_eq!(gini(&[4, 1, 3, 2]), 0.25);
        // Shares of a half, a quarter and an eighth are 1, 2 and 3 bits.
        assert_eq!(
            (novelty_at_k(&[2, 0], &[1.0, 2.0, 3.0], 10), novelty_at_k(&[2, 0], &[1.0, 2.0, 3.0], 1)),
            (2.0, 3.0)
        );
    }

    #[test]
    fn nothing_is_zero() {
        assert_eq!((coverage(&[]), gini(&[]), gini(&[0, 0])), (0.0, 0.0, 0.0));
        assert_eq!((novelty_at_k(&[], &[1.0], 3), novelty_at_k(&[0], &[1.0], 0)), (0.0, 0.0));
    }

    proptest! {
        #[test]
        fn it_is_half_the_mean_difference(counts in prop::collection::vec(0u32..9, 1..30)) {
            let mean = counts.iter().map(|count| f64::from(*count)).sum::<f64>() / counts.len() as f64;
            let differences: f64 =
                counts.iter().flat_map(|a| counts.iter().map(move |b| f64::from(a.abs_diff(*b)))).sum();
            let slow = if mean > 0.0 { differences / (2.0 * (counts.len() * counts.len()) as f64 * mean) } else { 0.0 };
            prop_assert!((gini(&counts) - slow).abs() < 1e-9);
        }
    }
}
