//! Recency, frequency, monetary value: customers by quantiles, and the ten groups that marketing speaks of.

/// The ten groups of the usual grid; [`tier`] answers a position in here.
pub const TIERS: [&str; 10] = [
    "Champions",
    "Loyal Customers",
    "Potential Loyalists",
    "New Customers",
    "Promising",
    "Need Attention",
    "About To Sleep",
    "At Risk",
    "Can't Lose Them",
    "Hibernating",
];

/// One row for each recency score from 5 (lately) to 1, one column for each frequency-monetary score from 1 to 5.
///
/// A convention rather than a result: the grid of recency against frequency and money that is in wide use in marketing
/// tools, in the form of the ten patterns `[1-2][1-2]` Hibernating, `[1-2][3-4]` At Risk, `[1-2]5` Can't Lose Them, `3[1-2]` About To Sleep,
/// `33` Need Attention, `[3-4][4-5]` Loyal Customers, `41` Promising, `51` New Customers, `[4-5][2-3]` Potential
/// Loyalists, `5[4-5]` Champions.
const GRID: [[usize; 5]; 5] = [
    [3, 2, 2, 0, 0], // today's customers
    [4, 2, 2, 1, 1],
    [6, 6, 5, 1, 1],
    [9, 9, 7, 7, 8],
    [9, 9, 7, 7, 8], // long gone
];

/// The `bins − 1` inner quantiles of `values`, ascending, by linear interpolation (type 7 of Hyndman and Fan 1996, as
/// NumPy and DuckDB's `quantile_cont`). Values that are not finite are left out; without any other there are no edges.
pub fn edges(values: &[f64], bins: usize) -> Vec<f64> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return Vec::new() };
    (1..bins)
        .map(|bin| {
            let position = last as f64 * bin as f64 / bins as f64;
            let below = (position as usize).min(last);
            let above = (below + 1).min(last);
            let part = position - below as f64;
            // Not low + part × (high − low), which may end a hair beside two equal neighbours.
            if sorted[below] == sorted[above] {
                sorted[below]
            } else {
                sorted[below] * (1.0 - part) + sorted[above] * part
            }
        })
        .collect()
}

/// The bin of `value`, from 1 (low) to `edges.len() + 1` (high). A value equal to an edge belongs below it, as with
/// pandas' `qcut`; a value that is not a number scores 1.
///
/// Where less is better, as with days since the last purchase, the caller turns the score over: `bins + 1 − score`.
pub fn score(value: f64, edges: &[f64]) -> u32 {
    1 + edges.iter().filter(|edge| **edge < value).count() as u32
}

/// The scores for frequency and monetary value as one: their mean, half up.
pub fn combined(f: u32, m: u32) -> u32 {
    (f + m).div_ceil(2)
}

/// The group of a customer by the score `r` for recency (high: bought lately) and `fm` for frequency and monetary value
/// together, both from 1 to `bins`; a position in [`TIERS`].
pub fn tier(r: u32, fm: u32, bins: usize) -> usize {
    GRID[4 - on_five(r, bins)][on_five(fm, bins)]
}

/// A score from 1 to `bins` as a position from 0 to 4: the ends stay the ends, between them to the nearest.
/// Scores beyond the ends count as the ends.
fn on_five(score: u32, bins: usize) -> usize {
    let Some(last) = bins.checked_sub(1).filter(|last| *last > 0) else { return 2 };
    let position = (score.max(1) as usize - 1).min(last);
    (8 * position + last) / (2 * last)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(r: u32, fm: u32, bins: usize) -> &'static str {
        TIERS[tier(r, fm, bins)]
    }

    #[test]
    fn quintiles_of_one_to_ten() {
        let values: Vec<f64> = (1..=10).map(f64::from).collect();
        let edges = edges(&values, 5);
        let expected = [2.8, 4.6, 6.4, 8.2];
        assert!(edges.iter().zip(expected).all(|(edge, expected)| (edge - expected).abs() < 1e-12), "{edges:?}");
        let scores: Vec<u32> = values.iter().map(|value| score(*value, &edges)).collect();
        assert_eq!(scores, [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]);
    }

    #[test]
    fn an_edge_belongs_below() {
        assert_eq!([1.0, 2.0, 2.5].map(|value| score(value, &[1.0, 2.0])), [1, 2, 3]);
        assert_eq!(score(f64::NAN, &[1.0, 2.0]), 1);
        // Most customers bought once: they all score 1, and the scores between stay empty.
        let once = edges(&[1.0, 1.0, 1.0, 1.0, 7.0], 5);
        assert_eq!((score(1.0, &once), score(7.0, &once)), (1, 5));
    }

    #[test]
    fn nothing_has_no_edges() {
        assert!(edges(&[], 5).is_empty());
        assert!(edges(&[f64::NAN, f64::INFINITY], 5).is_empty());
        assert!(edges(&[1.0, 2.0], 1).is_empty());
        assert_eq!(edges(&[f64::NAN, 3.0], 3), [3.0, 3.0]);
        assert_eq!(score(3.0, &[]), 1);
    }

    #[test]
    fn the_grid_is_the_ten_patterns() {
        // As the source writes them: the first digit is recency, the second frequency and monetary value.
        let patterns = [
            ("Champions", vec![54, 55]),
            ("Loyal Customers", vec![34, 35, 44, 45]),
            ("Potential Loyalists", vec![42, 43, 52, 53]),
            ("New Customers", vec![51]),
            ("Promising", vec![41]),
            ("Need Attention", vec![33]),
            ("About To Sleep", vec![31, 32]),
            ("At Risk", vec![13, 14, 23, 24]),
            ("Can't Lose Them", vec![15, 25]),
            ("Hibernating", vec![11, 12, 21, 22]),
        ];
        assert_eq!(patterns.iter().map(|(_, scores)| scores.len()).sum::<usize>(), 25);
        for (expected, scores) in patterns {
            for both in scores {
                assert_eq!(name(both / 10, both % 10, 5), expected, "{both}");
            }
        }
    }

    #[test]
    fn the_ends_of_every_scale_are_the_ends_of_the_grid() {
        for bins in 2..=10 {
            let top = bins as u32;
            assert_eq!(name(top, top, bins), "Champions");
            assert_eq!(name(top, 1, bins), "New Customers");
            assert_eq!(name(1, top, bins), "Can't Lose Them");
            assert_eq!(name(1, 1, bins), "Hibernating");
            assert!((1..top).all(|score| on_five(score, bins) <= on_five(score + 1, bins)));
        }
        assert_eq!((1..=10).map(|score| on_five(score, 10)).collect::<Vec<_>>(), [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]);
        assert_eq!(name(1, 1, 1), "Need Attention");
    }

    proptest! {
        #[test]
        fn every_score_has_a_tier(r in any::<u32>(), fm in any::<u32>(), bins in 0usize..40) {
            prop_assert!(tier(r, fm, bins) < TIERS.len());
        }

        #[test]
        fn scores_rise_with_values(mut values in prop::collection::vec(-1e6f64..1e6, 1..50), bins in 1usize..12) {
            let edges = edges(&values, bins);
            prop_assert!(edges.is_sorted());
            values.sort_by(f64::total_cmp);
            let scores: Vec<u32> = values.iter().map(|value| score(*value, &edges)).collect();
            prop_assert!(scores.is_sorted() && scores.iter().all(|score| (1..=bins as u32).contains(score)));
        }
    }
}
