//! Groups of like rows: k-means by Lloyd's passes from a k-means++ start.
//!
//! Lloyd, "Least squares quantization in PCM", 1982; Arthur and Vassilvitskii, "k-means++: the advantages of careful
//! seeding", 2007. Distances are Euclidean: the caller brings columns to one scale.

use std::cmp::Ordering;

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::kernels::progress::{Progress, Step};

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// How many groups to find; at least 1.
    pub clusters: usize,
    /// The most passes over the rows in one start; at least 1.
    pub max_iterations: usize,
    /// Passes end once the centroids together move less than this share of the columns' mean variance (squared).
    pub tolerance: f64,
    /// Independent starts, of which the best is kept; at least 1.
    pub n_init: usize,
}

/// Clusters numbered by falling size, ties by the centroids' coordinates, so that 0 is always the largest.
#[derive(Debug, Clone, PartialEq)]
pub struct Clusters {
    /// `clusters × columns`.
    pub centroids: Array2<f64>,
    /// The cluster of each row: the one of the nearest centroid.
    pub labels: Vec<u32>,
    /// The sum of the squared distances between rows and their centroids.
    pub inertia: f64,
    /// Passes of the start that was kept.
    pub iterations: usize,
}

/// Rows that are summed one after the other; these sums are then added in order.
const CHUNK: usize = 1024;

/// Groups the rows of `x` (`rows × columns`).
///
/// Tells `progress` of each pass, with the inertia before it. Fails when there are no rows, when a value is not
/// finite, when fewer rows differ than there are clusters to find, and when cancelled.
pub fn fit(x: ArrayView2<f64>, options: &Options, seed: u64, progress: Progress) -> Result<Clusters> {
    check(x, options)?;
    let mut best: Option<Clusters> = None;
    for start in 0..options.n_init {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(start as u64);
        let before = start * options.max_iterations;
        let found = lloyd(x, seeds(x, options.clusters, &mut rng)?, options, &|step| {
            progress(Step { done: before + step.done, total: options.n_init * options.max_iterations, ..step })
        })?;
        if best.as_ref().is_none_or(|best| found.inertia < best.inertia) {
            best = Some(found);
        }
    }
    best.map(numbered_by_size).ok_or_else(|| Error::internal("k-means ran without a start"))
}

/// The nearest of `centroids` for each row of `x`, ties to the lower number, and the squared distances to them.
pub fn assign(x: ArrayView2<f64>, centroids: ArrayView2<f64>) -> (Vec<u32>, Vec<f64>) {
    let chunks: Vec<ArrayView2<f64>> = x.axis_chunks_iter(Axis(0), CHUNK).collect();
    let nearest: Vec<Vec<(u32, f64)>> =
        chunks.into_par_iter().map(|chunk| chunk.outer_iter().map(|row| nearest(row, centroids)).collect()).collect();
    nearest.into_iter().flatten().unzip()
}

/// Rows as the first centroids, each drawn with a chance that grows as its squared distance to those before it.
fn seeds(x: ArrayView2<f64>, clusters: usize, rng: &mut ChaCha8Rng) -> Result<Array2<f64>> {
    let mut centroids = Array2::zeros((clusters, x.ncols()));
    let mut distances = vec![f64::INFINITY; x.nrows()];
    let mut chosen = rng.random_range(0..x.nrows());
    for cluster in 0..clusters {
        centroids.row_mut(cluster).assign(&x.row(chosen));
        let (_, fresh) = assign(x, centroids.slice(ndarray::s![cluster..=cluster, ..]));
        distances.iter_mut().zip(fresh).for_each(|(distance, fresh)| *distance = distance.min(fresh));
        if cluster + 1 == clusters {
            break;
        }
        let total: f64 = distances.iter().sum();
        if !total.is_finite() {
            return Err(Error::invalid("the values are too far apart to measure").hint("scale the columns first"));
        }
        if total <= 0.0 {
            return Err(Error::invalid(format!("{clusters} clusters, but only {} different rows", cluster + 1))
                .hint("ask for fewer clusters, or give more columns"));
        }
        chosen = draw(&distances, rng.random::<f64>() * total);
    }
    Ok(centroids)
}

/// The first position at which the running sum of `weights` passes `mark`; never one without weight.
fn draw(weights: &[f64], mark: f64) -> usize {
    let mut sum = 0.0;
    let mut last = 0;
    for (at, weight) in weights.iter().enumerate().filter(|(_, weight)| **weight > 0.0) {
        sum += weight;
        last = at;
        if sum > mark {
            break;
        }
    }
    last
}

/// Lloyd's passes: rows to their nearest centroid, centroids to the mean of their rows.
fn lloyd(x: ArrayView2<f64>, mut centroids: Array2<f64>, options: &Options, progress: Progress) -> Result<Clusters> {
    let still = options.tolerance * x.var_axis(Axis(0), 0.0).mean().unwrap_or(0.0);
    let mut iterations = 0;
    loop {
        iterations += 1;
        let (mut labels, mut distances) = assign(x, centroids.view());
        let inertia = sum(&distances);
        if !progress(Step { done: iterations, total: options.max_iterations, loss: Some(inertia) }) {
            return Err(Error::cancelled());
        }
        let refilled = refill(&mut labels, &mut distances, options.clusters);
        let means = means(x, &labels, options.clusters);
        let moved: f64 = (&means - &centroids).iter().map(|step| step * step).sum();
        centroids = means;
        // A centroid just put elsewhere has yet to gather its rows.
        if iterations >= options.max_iterations || (moved <= still && !refilled) {
            let (labels, distances) = assign(x, centroids.view());
            return Ok(Clusters { centroids, labels, inertia: sum(&distances), iterations });
        }
    }
}

/// Gives each cluster without rows the row that is farthest from its centroid, out of a cluster that keeps others.
/// Says whether there was one.
fn refill(labels: &mut [u32], distances: &mut [f64], clusters: usize) -> bool {
    let mut sizes = sizes(labels, clusters);
    let mut refilled = false;
    for empty in 0..clusters {
        if sizes[empty] > 0 {
            continue;
        }
        let farthest = (0..labels.len())
            .filter(|row| sizes[labels[*row] as usize] > 1)
            .max_by(|a, b| distances[*a].total_cmp(&distances[*b]).then(b.cmp(a)));
        if let Some(row) = farthest {
            sizes[labels[row] as usize] -= 1;
            sizes[empty] += 1;
            labels[row] = empty as u32;
            distances[row] = 0.0;
            refilled = true;
        }
    }
    refilled
}

/// The mean of the rows of each cluster, summed by chunks.
fn means(x: ArrayView2<f64>, labels: &[u32], clusters: usize) -> Array2<f64> {
    let chunks: Vec<_> = x.axis_chunks_iter(Axis(0), CHUNK).zip(labels.chunks(CHUNK)).collect();
    let parts: Vec<Array2<f64>> = chunks
        .into_par_iter()
        .map(|(rows, labels)| {
            let mut sums = Array2::zeros((clusters, rows.ncols()));
            for (row, label) in rows.outer_iter().zip(labels) {
                let mut sum = sums.row_mut(*label as usize);
                sum += &row;
            }
            sums
        })
        .collect();
    let mut means = parts.into_iter().fold(Array2::zeros((clusters, x.ncols())), |all, part| all + part);
    let sizes = Array1::from_iter(sizes(labels, clusters).into_iter().map(|size| size.max(1) as f64));
    means /= &sizes.insert_axis(Axis(1));
    means
}

fn nearest(row: ArrayView1<f64>, centroids: ArrayView2<f64>) -> (u32, f64) {
    let mut best = (0, f64::INFINITY);
    for (cluster, centroid) in centroids.outer_iter().enumerate() {
        let distance: f64 = row.iter().zip(centroid).map(|(a, b)| (a - b) * (a - b)).sum();
        if distance < best.1 {
            best = (cluster as u32, distance);
        }
    }
    best
}

fn numbered_by_size(clusters: Clusters) -> Clusters {
    let n = clusters.centroids.nrows();
    let sizes = sizes(&clusters.labels, n);
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|a, b| {
        let coordinates = clusters.centroids.row(*a).into_iter().zip(clusters.centroids.row(*b));
        let by_place = coordinates.map(|(a, b)| a.total_cmp(b)).find(|order| order.is_ne()).unwrap_or(Ordering::Equal);
        sizes[*b].cmp(&sizes[*a]).then(by_place)
    });
    let mut number = vec![0; n];
    for (new, old) in order.iter().enumerate() {
        number[*old] = new as u32;
    }
    Clusters {
        centroids: clusters.centroids.select(Axis(0), &order),
        labels: clusters.labels.into_iter().map(|label| number[label as usize]).collect(),
        ..clusters
    }
}

fn sizes(labels: &[u32], clusters: usize) -> Vec<usize> {
    let mut sizes = vec![0; clusters];
    labels.iter().for_each(|label| sizes[*label as usize] += 1);
    sizes
}

/// By chunks, as every sum over rows is.
fn sum(values: &[f64]) -> f64 {
    values.chunks(CHUNK).map(|chunk| chunk.iter().sum::<f64>()).sum()
}

fn check(x: ArrayView2<f64>, options: &Options) -> Result<()> {
    for (name, value) in
        [("clusters", options.clusters), ("max_iterations", options.max_iterations), ("n_init", options.n_init)]
    {
        if value == 0 {
            return Err(Error::invalid(format!("{name} must be at least 1, got 0")));
        }
    }
    if x.nrows() == 0 {
        return Err(Error::invalid("there are no rows to group"));
    }
    if x.iter().any(|value| !value.is_finite()) {
        return Err(Error::invalid("rows to group must hold finite numbers only"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use ndarray::array;
    use proptest::prelude::*;

    use super::*;

    const OPTIONS: Options = Options { clusters: 2, max_iterations: 100, tolerance: 1e-4, n_init: 3 };

    fn quietly(x: &Array2<f64>, options: &Options, seed: u64) -> Clusters {
        fit(x.view(), options, seed, &|_| true).unwrap()
    }

    /// Rows around three far corners, 3 : 2 : 1 in number.
    fn three_clouds(n: usize) -> Array2<f64> {
        Array2::from_shape_fn((n, 2), |(row, column)| {
            let corner = [[0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [50.0, 0.0], [50.0, 0.0], [0.0, 80.0]][row % 6];
            corner[column] + ((row * 37 + column * 17) % 23) as f64 / 10.0
        })
    }

    #[test]
    fn two_pairs_and_one_apart() {
        let x = array![[10.0, 0.0], [0.0, 0.0], [0.0, 2.0], [12.0, 0.0], [0.0, 1.0]];
        let clusters = quietly(&x, &OPTIONS, 1);
        assert_eq!(clusters.labels, [1, 0, 0, 1, 0]);
        assert_eq!(clusters.centroids, array![[0.0, 1.0], [11.0, 0.0]]);
        assert!((clusters.inertia - 4.0).abs() < 1e-12);
    }

    #[test]
    fn clouds_are_found_and_numbered_by_size() {
        let x = three_clouds(6000);
        let clusters = quietly(&x, &Options { clusters: 3, ..OPTIONS }, 9);
        let expected: Vec<u32> = (0..6000).map(|row| [0, 0, 0, 1, 1, 2][row % 6]).collect();
        assert_eq!(clusters.labels, expected);
    }

    #[test]
    fn clusters_of_one_size_are_numbered_by_place() {
        let x = array![[5.0], [-5.0], [0.0]];
        let clusters = quietly(&x, &Options { clusters: 3, ..OPTIONS }, 4);
        assert_eq!(clusters.centroids, array![[-5.0], [0.0], [5.0]]);
        assert_eq!((clusters.labels, clusters.inertia), (vec![2, 0, 1], 0.0));
    }

    #[test]
    fn an_empty_cluster_takes_the_farthest_row() {
        let (mut labels, mut distances) = (vec![0, 0, 1, 0], vec![1.0, 4.0, 9.0, 4.0]);
        // Row 2 is farther, but it is all that cluster 1 has.
        assert!(refill(&mut labels, &mut distances, 3));
        assert_eq!((labels, distances), (vec![0, 2, 1, 0], vec![1.0, 0.0, 9.0, 4.0]));
        // A centroid that no row is near to comes back among the rows.
        let far = array![[0.0], [1e6]];
        let found = lloyd(array![[0.0], [1.0], [9.0]].view(), far, &OPTIONS, &|_| true).unwrap();
        assert_eq!(found.centroids, array![[0.5], [9.0]]);
    }

    #[test]
    fn the_same_bits_on_one_thread_and_on_many() {
        let x = three_clouds(5000);
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| quietly(&x, &Options { clusters: 5, ..OPTIONS }, 3))
        };
        assert_eq!(on(1), on(3));
    }

    #[test]
    fn what_cannot_be_grouped_is_refused() {
        let message = |x: Array2<f64>, options: Options| fit(x.view(), &options, 1, &|_| true).unwrap_err().message;
        assert_eq!(message(array![[1.0]], Options { clusters: 0, ..OPTIONS }), "clusters must be at least 1, got 0");
        assert_eq!(message(Array2::zeros((0, 2)), OPTIONS), "there are no rows to group");
        assert_eq!(message(array![[1.0], [1.0]], OPTIONS), "2 clusters, but only 1 different rows");
        assert_eq!(message(Array2::zeros((3, 0)), OPTIONS), "2 clusters, but only 1 different rows");
        assert_eq!(message(array![[1e300], [-1e300]], OPTIONS), "the values are too far apart to measure");
        assert!(message(array![[f64::NAN]], OPTIONS).contains("finite"));
    }

    #[test]
    fn a_loop_stops_when_told() {
        assert_eq!(fit(three_clouds(60).view(), &OPTIONS, 1, &|_| false), Err(Error::cancelled()));
    }

    proptest! {
        #[test]
        fn rows_lie_with_their_nearest_mean(
            cells in prop::collection::vec(-20i32..20, 20..160),
            clusters in 1usize..4,
            seed in any::<u64>(),
        ) {
            let rows = cells.len() / 2;
            let x = Array2::from_shape_fn((rows, 2), |(row, column)| {
                f64::from(cells[row * 2 + column]) + row as f64 / 1e3
            });
            let options = Options { clusters, max_iterations: 1000, tolerance: 0.0, n_init: 2 };
            let found = quietly(&x, &options, seed);
            prop_assert_eq!(found.centroids.nrows(), clusters);
            let (labels, distances) = assign(x.view(), found.centroids.view());
            prop_assert_eq!(&found.labels, &labels);
            prop_assert!((found.inertia - distances.iter().sum::<f64>()).abs() < 1e-9);
            for (row, distance) in distances.iter().enumerate() {
                let slow = (0..clusters)
                    .map(|cluster| (&x.row(row) - &found.centroids.row(cluster)).mapv(|gap| gap * gap).sum())
                    .fold(f64::INFINITY, f64::min);
                prop_assert!((distance - slow).abs() < 1e-9);
            }
            for cluster in 0..clusters {
                let members: Vec<usize> = (0..rows).filter(|row| labels[*row] == cluster as u32).collect();
                let mean = x.select(Axis(0), &members).mean_axis(Axis(0)).unwrap();
                prop_assert!((&mean - &found.centroids.row(cluster)).iter().all(|gap| gap.abs() < 1e-9));
            }
        }
    }
}
