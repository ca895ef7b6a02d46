//! What everybody buys: the answer for customers of whom nothing is known, and the baseline to beat.

use crate::kernels::csr::Csr;

/// For each item the number of distinct users with a weight above zero (`interactions` is users × items).
///
/// People are counted, not weights: one wholesaler who takes a thousand pieces says less about the next
/// customer than ten who take one.
pub fn counts(interactions: &Csr) -> Vec<f64> {
    let mut counts = vec![0.0; interactions.n_cols];
    for (item, weight) in interactions.columns.iter().zip(&interactions.values) {
        if *weight > 0.0 {
            counts[*item as usize] += 1.0;
        }
    }
    counts
}

/// Every item, best first: by [`counts`], ties by the sum of the weights, then by lower id.
pub fn ranking(interactions: &Csr) -> Vec<u32> {
    let counts = counts(interactions);
    let mut weights = vec![0.0; interactions.n_cols];
    for (item, weight) in interactions.columns.iter().zip(&interactions.values) {
        weights[*item as usize] += f64::from(*weight);
    }
    let mut items: Vec<u32> = (0..interactions.n_cols as u32).collect();
    items.sort_by(|a, b| {
        let (a, b) = (*a as usize, *b as usize);
        counts[b].total_cmp(&counts[a]).then(weights[b].total_cmp(&weights[a]))
    });
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_count_before_pieces() {
        // Item 0: one user, 1000 pieces. Items 1 and 2: two users, item 2 with more pieces. Item 3: nobody.
        let entries = [(0, 0, 1000.0), (0, 1, 1.0), (1, 1, 1.0), (1, 2, 5.0), (2, 2, 1.0), (2, 3, 0.0)];
        let interactions = Csr::from_triplets(3, 4, &entries).unwrap();
        assert_eq!(counts(&interactions), [1.0, 2.0, 2.0, 0.0]);
        assert_eq!(ranking(&interactions), [2, 1, 0, 3]);
    }

    #[test]
    fn ties_go_to_the_lower_id() {
        let interactions = Csr::from_triplets(2, 3, &[(0, 2, 1.0), (1, 1, 1.0), (0, 0, 1.0)]).unwrap();
        assert_eq!(ranking(&interactions), [0, 1, 2]);
    }
}
