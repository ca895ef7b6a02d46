//! Measures of a classifier, by scikit-learn's definitions.

use ndarray::{Array2, ArrayView2};

/// The chance that a positive row scores above a negative one, ties half (the area under the ROC curve, by ranks:
/// Mann and Whitney 1947). `None` when one of the classes has no rows.
pub fn roc_auc(y: &[bool], p: &[f64]) -> Option<f64> {
    let positives = y.iter().filter(|positive| **positive).count() as f64;
    let negatives = y.len() as f64 - positives;
    if positives == 0.0 || negatives == 0.0 {
        return None;
    }
    let (mut rank_sum, mut before) = (0.0, 0.0);
    for (ties, hits) in falling_groups(y, p).into_iter().rev() {
        // Rows that tie share the mean of their ranks.
        rank_sum += hits * (before + (ties + 1.0) / 2.0);
        before += ties;
    }
    Some((rank_sum - positives * (positives + 1.0) / 2.0) / (positives * negatives))
}

/// The area under the precision-recall curve as average precision: `Σ (recallₙ − recallₙ₋₁) precisionₙ` over the
/// distinct scores, falling. `None` without positive rows.
pub fn pr_auc(y: &[bool], p: &[f64]) -> Option<f64> {
    let positives = y.iter().filter(|positive| **positive).count() as f64;
    if positives == 0.0 {
        return None;
    }
    let (mut area, mut rows, mut found) = (0.0, 0.0, 0.0);
    for (ties, hits) in falling_groups(y, p) {
        rows += ties;
        found += hits;
        // Each precision is at most 1, and sums of whole numbers are exact: rounding cannot lift the area above 1.
        area += hits * (found / rows);
    }
    Some(area / positives)
}

/// The mean of `−ln p(what happened)`, with `p` the probability of `true`. Probabilities are kept an epsilon from 0 and
/// 1, so that one sure mistake does not make it infinite. NaN without rows.
pub fn log_loss(y: &[bool], p: &[f64]) -> f64 {
    let surprise = |(happened, p): (&bool, &f64)| -clip(if *happened { *p } else { 1.0 - p }).ln();
    y.iter().zip(p).map(surprise).sum::<f64>() / y.len() as f64
}

/// As [`log_loss`] for classes `y` and probabilities `rows × classes`.
pub fn multinomial_log_loss(y: &[u32], p: ArrayView2<f64>) -> f64 {
    let surprise = |(row, class): (usize, &u32)| -clip(p[[row, *class as usize]]).ln();
    y.iter().enumerate().map(surprise).sum::<f64>() / y.len() as f64
}

/// How often each actual class (row) was predicted as each class (column).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confusion {
    pub counts: Array2<u64>,
}

impl Confusion {
    /// Two classes: 1 is predicted where the probability is at least `threshold`.
    pub fn at(y: &[bool], p: &[f64], threshold: f64) -> Self {
        let mut counts = Array2::zeros((2, 2));
        for (actual, p) in y.iter().zip(p) {
            counts[[usize::from(*actual), usize::from(*p >= threshold)]] += 1;
        }
        Self { counts }
    }

    /// Classes `0..n_classes`, actual and predicted.
    pub fn of(actual: &[u32], predicted: &[u32], n_classes: usize) -> Self {
        let mut counts = Array2::zeros((n_classes, n_classes));
        for (actual, predicted) in actual.iter().zip(predicted) {
            counts[[*actual as usize, *predicted as usize]] += 1;
        }
        Self { counts }
    }

    /// The share of rows that were predicted as what they are.
    pub fn accuracy(&self) -> f64 {
        share(self.counts.diag().sum(), self.counts.sum())
    }

    /// Of the rows predicted as `class`, the share that are. 0 when there are none.
    pub fn precision(&self, class: usize) -> f64 {
        share(self.counts[[class, class]], self.counts.column(class).sum())
    }

    /// Of the rows that are of `class`, the share predicted so. 0 when there are none.
    pub fn recall(&self, class: usize) -> f64 {
        share(self.counts[[class, class]], self.counts.row(class).sum())
    }

    /// The harmonic mean of precision and recall.
    pub fn f1(&self, class: usize) -> f64 {
        share(2 * self.counts[[class, class]], self.counts.row(class).sum() + self.counts.column(class).sum())
    }

    /// The mean of [`Self::precision`] over the classes that occur, large or small.
    pub fn macro_precision(&self) -> f64 {
        self.mean_over_classes(|class| self.precision(class))
    }

    /// The mean of [`Self::recall`] over the classes that occur.
    pub fn macro_recall(&self) -> f64 {
        self.mean_over_classes(|class| self.recall(class))
    }

    /// The mean of [`Self::f1`] over the classes that occur.
    pub fn macro_f1(&self) -> f64 {
        self.mean_over_classes(|class| self.f1(class))
    }

    /// Over the classes that some row has or was given, as scikit-learn does.
    fn mean_over_classes(&self, measure: impl Fn(usize) -> f64) -> f64 {
        let occurs = |class: &usize| self.counts.row(*class).sum() + self.counts.column(*class).sum() > 0;
        let classes: Vec<usize> = (0..self.counts.nrows()).filter(occurs).collect();
        if classes.is_empty() {
            return 0.0;
        }
        classes.iter().map(|class| measure(*class)).sum::<f64>() / classes.len() as f64
    }
}

/// By falling score: how many rows share it, and how many of them are positive.
fn falling_groups(y: &[bool], p: &[f64]) -> Vec<(f64, f64)> {
    // Adding 0 makes −0 a 0, so that both tie.
    let mut rows: Vec<(f64, bool)> = p.iter().map(|p| p + 0.0).zip(y.iter().copied()).collect();
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));
    rows.chunk_by(|a, b| a.0.total_cmp(&b.0).is_eq())
        .map(|group| (group.len() as f64, group.iter().filter(|(_, positive)| *positive).count() as f64))
        .collect()
}

fn clip(p: f64) -> f64 {
    p.clamp(f64::EPSILON, 1.0 - f64::EPSILON)
}

fn share(part: u64, whole: u64) -> f64 {
    if whole > 0 { part as f64 / whole as f64 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use ndarray::array;
    use proptest::prelude::*;

    use super::*;

    const Y: [bool; 4] = [false, false, true, true];
    const P: [f64; 4] = [0.1, 0.4, 0.35, 0.8];

    #[test]
    fn curves_by_hand() {
        // The example of scikit-learn's manual: three of four pairs are in order.
        assert_eq!(roc_auc(&Y, &P), Some(0.75));
        assert!((pr_auc(&Y, &P).unwrap() - (0.5 + 0.5 * 2.0 / 3.0)).abs() < 1e-12);
        // All tie: half of the pairs, and the share of positives.
        assert_eq!((roc_auc(&Y, &[0.0, -0.0, 0.0, 0.0]), pr_auc(&Y, &[0.5; 4])), (Some(0.5), Some(0.5)));
        assert_eq!((roc_auc(&[true], &[0.5]), pr_auc(&[false], &[0.5])), (None, None));
        assert_eq!((roc_auc(&[], &[]), pr_auc(&[], &[])), (None, None));
    }

    #[test]
    fn losses_by_hand() {
        let expected = -(0.9f64.ln() + 0.6f64.ln() + 0.35f64.ln() + 0.8f64.ln()) / 4.0;
        assert!((log_loss(&Y, &P) - expected).abs() < 1e-12);
        assert!(log_loss(&[true], &[0.0]) < 37.0);
        let p = array![[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]];
        assert!((multinomial_log_loss(&[2, 0], p.view()) + 0.5f64.ln() / 2.0).abs() < 1e-12);
    }

    #[test]
    fn a_threshold_by_hand() {
        let confusion = Confusion::at(&Y, &P, 0.4);
        assert_eq!(confusion.counts, array![[1, 1], [1, 1]]);
        assert_eq!(
            (confusion.accuracy(), confusion.precision(1), confusion.recall(1), confusion.f1(1)),
            (0.5, 0.5, 0.5, 0.5)
        );
        let none = Confusion::at(&Y, &P, 0.9);
        assert_eq!((none.precision(1), none.recall(1), none.f1(1)), (0.0, 0.0, 0.0));
    }

    #[test]
    fn many_classes_by_hand() {
        // The example of scikit-learn's f1_score: macro 0.26…; class 3 never occurs and does not count.
        let confusion = Confusion::of(&[0, 1, 2, 0, 1, 2], &[0, 2, 1, 0, 0, 1], 4);
        assert!((confusion.macro_f1() - 0.8 / 3.0).abs() < 1e-12);
        assert!((confusion.macro_precision() - 2.0 / 9.0).abs() < 1e-12);
        assert!((confusion.macro_recall() - 1.0 / 3.0).abs() < 1e-12);
        assert_eq!(Confusion::of(&[], &[], 2).macro_f1(), 0.0);
    }

    proptest! {
        #[test]
        fn areas_are_what_counting_says(rows in prop::collection::vec((any::<bool>(), 0u8..6), 1..40)) {
            let (y, p): (Vec<bool>, Vec<f64>) = rows.into_iter().map(|(y, p)| (y, f64::from(p) / 5.0)).unzip();
            let (mut won, mut pairs) = (0.0, 0.0);
            for (_, positive) in y.iter().zip(&p).filter(|(y, _)| **y) {
                for (_, negative) in y.iter().zip(&p).filter(|(y, _)| !**y) {
                    pairs += 1.0;
                    won += if positive > negative { 1.0 } else if positive == negative { 0.5 } else { 0.0 };
                }
            }
            match roc_auc(&y, &p) {
                Some(area) => prop_assert!((area - won / pairs).abs() < 1e-12),
                None => prop_assert_eq!(pairs, 0.0),
            }

            let mut thresholds = p.clone();
            thresholds.sort_by(|a, b| b.total_cmp(a));
            thresholds.dedup();
            let (mut area, mut last) = (0.0, 0.0);
            for confusion in thresholds.iter().map(|threshold| Confusion::at(&y, &p, *threshold)) {
                area += (confusion.recall(1) - last) * confusion.precision(1);
                last = confusion.recall(1);
            }
            prop_assert!((pr_auc(&y, &p).unwrap_or(0.0) - area).abs() < 1e-12);
            prop_assert!(pr_auc(&y, &p).is_none_or(|area| area <= 1.0));
            let sure: Vec<f64> = y.iter().map(|y| f64::from(u8::from(*y))).collect();
            prop_assert!(pr_auc(&y, &sure).is_none_or(|area| area == 1.0));
        }
    }
}
