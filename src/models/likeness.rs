//! Who is like whom, and what is like what: by the angle between vectors that were learned, or between histories.

use ndarray::{ArrayView1, ArrayView2};
use rayon::prelude::*;

use crate::frame::Side;
use crate::kernels::csr::Csr;
use crate::kernels::topk;
use crate::models::History;

/// The customers or products most like the `seeds` together, these left out: cosine similarity, at most 1.
///
/// By `vectors` where the model has learned such, else by histories: two products are alike that the same customers
/// had, two customers that had the same products. Several seeds are one: the mean of their directions.
pub fn similar(
    history: &History,
    vectors: Option<ArrayView2<f32>>,
    side: Side,
    seeds: &[u32],
    k: usize,
) -> Vec<(u32, f32)> {
    let mut seeds = seeds.to_vec();
    seeds.sort_unstable();
    seeds.dedup();
    let scores = match vectors {
        Some(vectors) => cosines_of_vectors(vectors, &seeds),
        None => cosines_of_rows(history.rows(side), &seeds),
    };
    let is_seed = |code: u32| seeds.binary_search(&code).is_ok();
    topk::best((0u32..).zip(scores).filter(|(code, _)| !is_seed(*code)), k)
}

/// How alike two products are, as [`similar`] has it.
pub fn of_items(history: &History, vectors: Option<ArrayView2<f32>>, one: u32, other: u32) -> f32 {
    match vectors {
        Some(vectors) => {
            let (one, other) = (vectors.row(one as usize), vectors.row(other as usize));
            cosine(one.dot(&other), length(one) * length(other))
        }
        None => {
            let rows = history.rows(Side::Item);
            let (one, other) = (rows.row(one as usize), rows.row(other as usize));
            cosine(sparse_dot(one, other), length_of(one.1) * length_of(other.1))
        }
    }
}

fn cosines_of_vectors(vectors: ArrayView2<f32>, seeds: &[u32]) -> Vec<f32> {
    let mut sum = vec![0.0f64; vectors.ncols()];
    for seed in seeds {
        let vector = vectors.row(*seed as usize);
        let scale = scale_to_one(length(vector));
        sum.iter_mut().zip(vector).for_each(|(sum, value)| *sum += scale * f64::from(*value));
    }
    let middle: Vec<f32> = sum.into_iter().map(|sum| sum as f32).collect();
    let (middle, size) = (ndarray::aview1(&middle), length_of(&middle));
    let cosine = |code: usize| {
        let vector = vectors.row(code);
        cosine(vector.dot(&middle), length(vector) * size)
    };
    (0..vectors.nrows()).into_par_iter().map(cosine).collect()
}

fn cosines_of_rows(rows: &Csr, seeds: &[u32]) -> Vec<f32> {
    let mut sum = vec![0.0f64; rows.n_cols];
    for seed in seeds {
        let (columns, values) = rows.row(*seed as usize);
        let scale = scale_to_one(length_of(values));
        columns.iter().zip(values).for_each(|(column, value)| sum[*column as usize] += scale * f64::from(*value));
    }
    let middle: Vec<f32> = sum.into_iter().map(|sum| sum as f32).collect();
    let size = length_of(&middle);
    let cosine = |code: usize| {
        let (columns, values) = rows.row(code);
        let dot: f32 = columns.iter().zip(values).map(|(column, value)| middle[*column as usize] * value).sum();
        cosine(dot, length_of(values) * size)
    };
    (0..rows.n_rows).into_par_iter().map(cosine).collect()
}

/// What makes a vector of that length one of length 1. Thousands of them are summed, so not in single precision.
fn scale_to_one(length: f32) -> f64 {
    1.0 / f64::from(length.max(f32::MIN_POSITIVE))
}

/// What has no length is like nothing.
fn cosine(dot: f32, lengths: f32) -> f32 {
    (dot / lengths.max(f32::MIN_POSITIVE)).clamp(-1.0, 1.0)
}

fn length(vector: ArrayView1<f32>) -> f32 {
    vector.dot(&vector).sqrt()
}

fn length_of(values: &[f32]) -> f32 {
    values.iter().map(|value| value * value).sum::<f32>().sqrt()
}

/// Of two rows with ascending columns.
fn sparse_dot(one: (&[u32], &[f32]), other: (&[u32], &[f32])) -> f32 {
    let shared = one.0.iter().zip(one.1).filter_map(|(column, value)| {
        let at = other.0.binary_search(column).ok()?;
        Some(value * other.1[at])
    });
    shared.sum()
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn vectors_are_alike_by_their_angle() {
        let vectors = array![[1.0, 0.0], [2.0, 0.0], [0.0, 3.0], [1.0, 1.0], [0.0, 0.0]];
        let scores = cosines_of_vectors(vectors.view(), &[0]);
        assert_eq!(scores[..3], [1.0, 1.0, 0.0]);
        assert!((scores[3] - 0.5f32.sqrt()).abs() < 1e-6 && scores[4] == 0.0);
        // Both seeds count the same, however long they are.
        assert!((cosines_of_vectors(vectors.view(), &[1, 2])[3] - 1.0).abs() < 1e-6);
    }

    #[test]
    fn rows_are_alike_by_what_they_share() {
        let rows =
            Csr::from_triplets(3, 3, &[(0, 0, 1.0), (0, 1, 1.0), (1, 1, 1.0), (1, 2, 1.0), (2, 2, 5.0)]).unwrap();
        let scores = cosines_of_rows(&rows, &[0]);
        assert!((scores[1] - 0.5).abs() < 1e-6 && scores[2] == 0.0);
        assert!((sparse_dot(rows.row(1), rows.row(2)) - 5.0).abs() < 1e-6);
    }

    #[test]
    fn seeds_count_once_each_and_in_any_order() {
        let model = crate::models::fake::Fake::of(&[(1, 1), (2, 1), (2, 2), (3, 2), (3, 3), (4, 3), (5, 1)]);
        let of = |seeds: &[u32]| similar(&model.history, None, Side::User, seeds, 9);
        assert_eq!(of(&[1, 0]), of(&[0, 1, 0, 0]));
        assert_eq!(of(&[1, 0]).iter().map(|(code, _)| *code).collect::<Vec<_>>(), [4, 2, 3]);
        assert!(of(&[0, 1, 2, 3, 4]).is_empty());
    }
}
