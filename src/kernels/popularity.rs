//! What everybody buys: the answer for customers of whom nothing is known, and the baseline to beat.

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::kernels::csr::Csr;

/// For each item the number of distinct users with a weight above zero (`interactions` is users × items).
///
/// People are counted, not weights: one wholesaler who takes a thousand pieces says less about the next
/// customer than ten who take one.
pub fn counts(interactions: &Csr) -> Vec<f64> {
    counts_and_weights(interactions).into_iter().map(|(count, _)| count).collect()
}

/// For each item its [`counts`], and the sum of its weights.
fn counts_and_weights(interactions: &Csr) -> Vec<(f64, f64)> {
    let mut sums = vec![(0.0, 0.0); interactions.n_cols];
    for (item, weight) in interactions.columns.iter().zip(&interactions.values) {
        let (count, weights) = &mut sums[*item as usize];
        *count += f64::from(u8::from(*weight > 0.0));
        *weights += f64::from(*weight);
    }
    sums
}

/// The number of users with a weight above zero for any item.
pub fn active_users(interactions: &Csr) -> usize {
    (0..interactions.n_rows).filter(|user| interactions.row(*user).1.iter().any(|weight| *weight > 0.0)).count()
}

/// Every item with its count, best first: by [`counts`], ties by the sum of the weights, then by lower id.
pub fn ranking(interactions: &Csr) -> Vec<(u32, f64)> {
    let sums = counts_and_weights(interactions);
    let mut items: Vec<u32> = (0..interactions.n_cols as u32).collect();
    items.par_sort_by(|a, b| {
        let (a, b) = (sums[*a as usize], sums[*b as usize]);
        b.0.total_cmp(&a.0).then(b.1.total_cmp(&a.1))
    });
    items.into_iter().map(|item| (item, sums[item as usize].0)).collect()
}

/// For each segment the number of its users who had each item: segments × items, as [`counts`] counts; items that none of
/// them had have no entry. `segments` is users × segments, with an entry for each segment that a user belongs to.
pub fn counts_by_segment(interactions: &Csr, segments: &Csr) -> Result<Csr> {
    if segments.n_rows != interactions.n_rows {
        let (users, rows) = (interactions.n_rows, segments.n_rows);
        return Err(Error::internal(format!("segments of {rows} users for interactions of {users}")));
    }
    let members = segments.transpose();
    let rows: Vec<Vec<(u32, f32)>> = (0..members.n_rows)
        .into_par_iter()
        .map_init(
            || vec![0.0; interactions.n_cols],
            |counts, segment| {
                let mut had_by_some = Vec::new();
                for user in members.row(segment).0 {
                    let (items, weights) = interactions.row(*user as usize);
                    for (item, _) in items.iter().zip(weights).filter(|(_, weight)| **weight > 0.0) {
                        let count: &mut f32 = &mut counts[*item as usize];
                        if *count == 0.0 {
                            had_by_some.push(*item);
                        }
                        *count += 1.0;
                    }
                }
                had_by_some.sort_unstable();
                had_by_some.into_iter().map(|item| (item, std::mem::take(&mut counts[item as usize]))).collect()
            },
        )
        .collect();
    let mut offsets = vec![0];
    rows.iter().for_each(|row| offsets.push(offsets[offsets.len() - 1] + row.len()));
    let (columns, values) = rows.into_iter().flatten().unzip();
    Ok(Csr { n_rows: segments.n_cols, n_cols: interactions.n_cols, offsets, columns, values })
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
        assert_eq!(ranking(&interactions), [(2, 2.0), (1, 2.0), (0, 1.0), (3, 0.0)]);
        assert_eq!(active_users(&Csr::from_triplets(4, 1, &[(0, 0, 1.0), (2, 0, 0.0)]).unwrap()), 1);
    }

    #[test]
    fn ties_go_to_the_lower_id() {
        let interactions = Csr::from_triplets(2, 3, &[(0, 2, 1.0), (1, 1, 1.0), (0, 0, 1.0)]).unwrap();
        assert_eq!(ranking(&interactions), [(0, 1.0), (1, 1.0), (2, 1.0)]);
    }

    #[test]
    fn each_segment_counts_its_own_users() {
        let entries = [(0, 0, 9.0), (0, 1, 1.0), (1, 1, 1.0), (2, 2, 5.0), (2, 1, 0.0), (3, 0, 1.0)];
        let interactions = Csr::from_triplets(4, 3, &entries).unwrap();
        // User 1 belongs to both segments, user 3 to none; nobody is in segment 2.
        let segments = Csr::from_triplets(4, 3, &[(0, 0, 1.0), (1, 0, 1.0), (1, 1, 1.0), (2, 1, 1.0)]).unwrap();
        let counts = counts_by_segment(&interactions, &segments).unwrap();
        assert_eq!((counts.n_rows, counts.n_cols), (3, 3));
        assert_eq!(counts.row(0), (&[0, 1][..], &[1.0, 2.0][..]));
        assert_eq!(counts.row(1), (&[1, 2][..], &[1.0, 1.0][..]));
        assert_eq!(counts.row(2), (&[][..], &[][..]));
        assert!(counts_by_segment(&interactions, &Csr::from_triplets(3, 3, &[]).unwrap()).is_err());
    }
}
