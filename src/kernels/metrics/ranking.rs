//! Measures of a ranking for one user; means over users are the caller's.
//!
//! `ranked` holds distinct items, best first, of which the first `k` are looked at; `relevant` holds the distinct items
//! that the user really took, ascending. All measures lie between 0 (bad) and 1. Without relevant items they are 0:
//! such a user says nothing, and is left out of means.

/// Hits among the first `k`, as a share of the relevant items.
pub fn recall_at_k(ranked: &[u32], relevant: &[u32], k: usize) -> f64 {
    share(hits(ranked, relevant, k).count() as f64, relevant.len() as f64)
}

/// Hits among the first `k`, as a share of `k`, even where fewer were ranked.
pub fn precision_at_k(ranked: &[u32], relevant: &[u32], k: usize) -> f64 {
    share(hits(ranked, relevant, k).count() as f64, k as f64)
}

/// The harmonic mean of recall and precision.
pub fn f1_at_k(ranked: &[u32], relevant: &[u32], k: usize) -> f64 {
    share(2.0 * hits(ranked, relevant, k).count() as f64, (k + relevant.len()) as f64)
}

/// 1 when any of the first `k` is relevant.
pub fn hit_at_k(ranked: &[u32], relevant: &[u32], k: usize) -> f64 {
    if hits(ranked, relevant, k).next().is_some() { 1.0 } else { 0.0 }
}

/// One over the rank of the first hit.
pub fn reciprocal_rank_at_k(ranked: &[u32], relevant: &[u32], k: usize) -> f64 {
    hits(ranked, relevant, k).next().map_or(0.0, |rank| 1.0 / rank as f64)
}

/// The precision at each hit, summed, over `min(k, relevant)`: 1 when the ranking begins with hits only.
pub fn average_precision_at_k(ranked: &[u32], relevant: &[u32], k: usize) -> f64 {
    let sum: f64 = hits(ranked, relevant, k).enumerate().map(|(before, rank)| (before + 1) as f64 / rank as f64).sum();
    share(sum, relevant.len().min(k) as f64)
}

/// Discounted gain `Σ 1/log2(rank + 1)` over the hits, as a share of what the best ranking would gain
/// (Järvelin, Kekäläinen 2002; every relevant item gains the same).
pub fn ndcg_at_k(ranked: &[u32], relevant: &[u32], k: usize) -> f64 {
    let gain = |rank: usize| 1.0 / (rank as f64 + 1.0).log2();
    share(hits(ranked, relevant, k).map(gain).sum(), (1..=relevant.len().min(k)).map(gain).sum())
}

/// The ranks of the hits, from 1.
fn hits(ranked: &[u32], relevant: &[u32], k: usize) -> impl Iterator<Item = usize> {
    ranked.iter().take(k).zip(1..).filter(|(item, _)| relevant.binary_search(item).is_ok()).map(|(_, rank)| rank)
}

fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Measure = fn(&[u32], &[u32], usize) -> f64;
    const MEASURES: [Measure; 7] =
        [recall_at_k, precision_at_k, f1_at_k, hit_at_k, reciprocal_rank_at_k, average_precision_at_k, ndcg_at_k];

    #[test]
    fn by_hand() {
        // Hits at ranks 2 and 4 of 5; three items are relevant, one was not found.
        let all = MEASURES.map(|measure| measure(&[9, 1, 8, 2, 7], &[1, 2, 3], 5));
        let ndcg = (1.0 / 3f64.log2() + 1.0 / 5f64.log2()) / (1.0 + 1.0 / 3f64.log2() + 0.5);
        let expected = [2.0 / 3.0, 2.0 / 5.0, 0.5, 1.0, 0.5, (0.5 + 0.5) / 3.0, ndcg];
        assert!(all.iter().zip(expected).all(|(got, expected)| (got - expected).abs() < 1e-12), "{all:?}");
        // The first one alone is no hit.
        assert_eq!(MEASURES.map(|measure| measure(&[9, 1, 8, 2, 7], &[1, 2, 3], 1)), [0.0; 7]);
    }

    #[test]
    fn the_best_ranking_has_all_it_can() {
        // More relevant items than places: recall cannot be 1, the others can.
        let all = MEASURES.map(|measure| measure(&[1, 2], &[1, 2, 3, 4], 2));
        assert_eq!(all, [0.5, 1.0, 2.0 / 3.0, 1.0, 1.0, 1.0, 1.0]);
    }

    #[test]
    fn nothing_is_zero() {
        for measure in MEASURES {
            assert_eq!((measure(&[], &[1], 3), measure(&[1], &[], 3), measure(&[1], &[1], 0)), (0.0, 0.0, 0.0));
        }
    }

    proptest! {
        #[test]
        fn a_hit_moved_forward_is_never_worse(
            ranked in Just((0u32..12).collect::<Vec<_>>()).prop_shuffle(),
            relevant in prop::sample::subsequence((0u32..16).collect::<Vec<_>>(), 1..10),
            k in 1usize..14,
            at in 1usize..12,
        ) {
            let mut better = ranked.clone();
            if relevant.contains(&better[at]) {
                better.swap(at, at - 1);
            }
            for measure in MEASURES {
                let (now, then) = (measure(&ranked, &relevant, k), measure(&better, &relevant, k));
                prop_assert!((0.0..=1.0 + 1e-12).contains(&now));
                // Two hits that change places change nothing.
                prop_assert!(then >= now - 1e-12 || relevant.contains(&ranked[at - 1]));
            }
        }
    }
}
