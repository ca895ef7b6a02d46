//! Measures of a grouping of rows.

use std::collections::BTreeMap;

use ndarray::{ArrayView1, ArrayView2};

/// How far two groupings of the same rows agree, less what chance would give: 1 when they are the same up to names,
/// around 0 for independent ones (Hubert, Arabie 1985). Rows beyond the shorter grouping are not looked at.
pub fn adjusted_rand_index(a: &[u32], b: &[u32]) -> f64 {
    let (mut cells, mut rows, mut columns) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for (a, b) in a.iter().zip(b) {
        *cells.entry((*a, *b)).or_insert(0) += 1;
        *rows.entry(*a).or_insert(0) += 1;
        *columns.entry(*b).or_insert(0) += 1;
    }
    let pairs = |count: &u64| *count as f64 * (*count as f64 - 1.0) / 2.0;
    let together: f64 = cells.values().map(pairs).sum();
    let (in_a, in_b): (f64, f64) = (rows.values().map(pairs).sum(), columns.values().map(pairs).sum());
    let all = pairs(&(a.len().min(b.len()) as u64));
    let by_chance = if all > 0.0 { in_a * in_b / all } else { 0.0 };
    let most = f64::midpoint(in_a, in_b);
    // One group of everything, or every row its own: there is only one such grouping, and both are it.
    if most == by_chance { 1.0 } else { (together - by_chance) / (most - by_chance) }
}

/// How much clusters run into each other: the mean over clusters of their worst `(spread + other's spread) / distance
/// between centroids` (Davies, Bouldin 1979). Low is good. Clusters without rows are not looked at; `None` when fewer
/// than two are left.
pub fn davies_bouldin_index(x: ArrayView2<f64>, labels: &[u32], centroids: ArrayView2<f64>) -> Option<f64> {
    let mut spread = vec![0.0; centroids.nrows()];
    let mut size = vec![0.0; centroids.nrows()];
    for (row, label) in x.outer_iter().zip(labels) {
        let cluster = *label as usize;
        spread[cluster] += squared_distance(row, centroids.row(cluster)).sqrt();
        size[cluster] += 1.0;
    }
    let clusters: Vec<usize> = (0..size.len()).filter(|cluster| size[*cluster] > 0.0).collect();
    if clusters.len() < 2 {
        return None;
    }
    for cluster in &clusters {
        spread[*cluster] /= size[*cluster];
    }
    let likeness = |a: usize, b: usize| {
        let spreads = spread[a] + spread[b];
        // As scikit-learn: two points in one place are not alike, they are one.
        if spreads == 0.0 { 0.0 } else { spreads / squared_distance(centroids.row(a), centroids.row(b)).sqrt() }
    };
    let worst = |a: usize| clusters.iter().filter(|b| **b != a).map(|b| likeness(a, *b)).fold(0.0, f64::max);
    Some(clusters.iter().map(|cluster| worst(*cluster)).sum::<f64>() / clusters.len() as f64)
}

/// The mean over rows of the squared distance to their centroid; `None` without rows.
pub fn mean_squared_distance(x: ArrayView2<f64>, labels: &[u32], centroids: ArrayView2<f64>) -> Option<f64> {
    let distances =
        x.outer_iter().zip(labels).map(|(row, label)| squared_distance(row, centroids.row(*label as usize)));
    (!labels.is_empty()).then(|| distances.sum::<f64>() / labels.len() as f64)
}

fn squared_distance(a: ArrayView1<f64>, b: ArrayView1<f64>) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn agreement_by_hand() {
        // Pairs together in both: 1. Pairs in a: 2, in b: 2, of 6: by chance 4/6, at most 2.
        let index = adjusted_rand_index(&[0, 0, 1, 1], &[0, 0, 1, 2]);
        let expected = (1.0 - 2.0 * 1.0 / 6.0) / (1.5 - 2.0 * 1.0 / 6.0);
        assert!((index - expected).abs() < 1e-12);
        assert_eq!(adjusted_rand_index(&[0, 0, 1, 1], &[5, 5, 2, 2]), 1.0);
        assert!((adjusted_rand_index(&[0, 0, 1, 1], &[0, 1, 0, 1]) + 0.5).abs() < 1e-12);
        assert_eq!(adjusted_rand_index(&[0, 0, 0], &[1, 1, 1]), 1.0);
        assert_eq!(adjusted_rand_index(&[0, 1, 2], &[2, 1, 0]), 1.0);
        assert_eq!(adjusted_rand_index(&[], &[]), 1.0);
    }

    #[test]
    fn overlap_by_hand() {
        // Spreads 1, 2 and 0; distances 10, 20 and 10.
        let x = array![[-1.0], [1.0], [8.0], [12.0], [20.0]];
        let centroids = array![[0.0], [10.0], [20.0], [99.0]];
        let labels = [0, 0, 1, 1, 2];
        let expected = (3.0 / 10.0 + 3.0 / 10.0 + 2.0 / 10.0) / 3.0;
        let index = davies_bouldin_index(x.view(), &labels, centroids.view()).unwrap();
        assert!((index - expected).abs() < 1e-12);
        assert_eq!(mean_squared_distance(x.view(), &labels, centroids.view()), Some(10.0 / 5.0));
        assert_eq!(davies_bouldin_index(x.view(), &[0; 5], centroids.view()), None);
        assert_eq!(mean_squared_distance(Array2::zeros((0, 1)).view(), &[], centroids.view()), None);
    }

    proptest! {
        #[test]
        fn agreement_is_what_counting_pairs_says(both in prop::collection::vec((0u32..4, 0u32..4), 2..40)) {
            let (a, b): (Vec<u32>, Vec<u32>) = both.into_iter().unzip();
            // With tp, fn, fp, tn over pairs: 2 (tp·tn − fn·fp) / ((tp + fn)(fn + tn) + (tp + fp)(fp + tn))
            let mut counts = [[0.0; 2]; 2];
            for i in 0..a.len() {
                for j in 0..i {
                    counts[usize::from(a[i] == a[j])][usize::from(b[i] == b[j])] += 1.0;
                }
            }
            let [[tn, fp], [fn_, tp]] = counts;
            let below = (tp + fn_) * (fn_ + tn) + (tp + fp) * (fp + tn);
            let slow = if below == 0.0 { 1.0 } else { 2.0 * (tp * tn - fn_ * fp) / below };
            prop_assert!((adjusted_rand_index(&a, &b) - slow).abs() < 1e-9);
        }
    }
}
