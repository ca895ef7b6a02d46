//! Kernels alone, on made data of one seed: `cargo bench --bench kernels [-- FILTER]`, a minute or less.
//!
//! A name holds the size: `als/64f-2it-20000x2000-400k` is 64 factors, two iterations, 20,000 customers, 2,000
//! products, 400,000 entries. Threads are rayon's: one a core, or as `RAYON_NUM_THREADS` says. The clock is our own:
//! criterion would turn on a feature of serde that all of DataFusion builds on, and build the engine twice.
#![allow(clippy::unwrap_used)] // A kernel that fails here has no time to be told.

use std::hint::black_box;
use std::time::{Duration, Instant};

use cohort::kernels::csr::Csr;
use cohort::kernels::{als, bpr, ease, item_knn, kmeans, logistic, topk, warp};
use ndarray::{Array1, Array2};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

const SEED: u64 = 42;

fn main() {
    // Cargo adds --bench to the arguments.
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with("--")).unwrap_or_default();
    let bench = Bench { filter };
    println!("{:<36} {:>12} {:>12} {:>6} {:>16}", "kernel", "median", "fastest", "runs", "elements/s");
    for kernel in [als, topk, ease, item_knn, bpr, warp, kmeans, logistic] {
        kernel(&bench);
    }
}

/// Times what its filter lets through.
struct Bench {
    filter: String,
}

impl Bench {
    /// Prints how long `work` over so many `elements` takes: the median of 5 runs or more, for about 3 seconds.
    fn time<T>(&self, name: &str, elements: usize, mut work: impl FnMut() -> T) {
        const RUNS: usize = 5;
        const PATIENCE: Duration = Duration::from_secs(3);
        if !name.contains(&self.filter) {
            return;
        }
        // The first time warms up, and tells how often makes a hundredth of a second.
        let started = Instant::now();
        black_box(work());
        let repeats = (Duration::from_millis(10).as_nanos() / started.elapsed().as_nanos().max(1)).max(1) as u32;
        let mut runs = Vec::new();
        let started = Instant::now();
        while runs.len() < RUNS || started.elapsed() < PATIENCE {
            let run = Instant::now();
            (0..repeats).for_each(|_| {
                black_box(work());
            });
            runs.push(run.elapsed() / repeats);
        }
        runs.sort();
        let (median, fastest) = (runs[runs.len() / 2], runs[0]);
        let rate = elements as f64 / median.as_secs_f64();
        println!("{name:<36} {median:>12.2?} {fastest:>12.2?} {:>6} {rate:>16.0}", runs.len());
    }
}

fn als(bench: &Bench) {
    let interactions = shopping(20_000, 2_000, 20);
    for factors in [16, 64] {
        let options = als::Options { factors, iterations: 2, regularization: 10.0, alpha: 1.0, frequency_scaling: 0.0 };
        bench.time(&format!("als/{factors}f-2it-20000x2000-400k"), interactions.nnz(), || {
            als::fit(black_box(&interactions), &options, None, SEED, &|_| true).unwrap()
        });
    }
    let options = als::Options { factors: 64, iterations: 1, regularization: 10.0, alpha: 1.0, frequency_scaling: 0.0 };
    let factors = als::fit(&interactions, &options, None, SEED, &|_| true).unwrap();
    let solver = als::Solver::of(factors.items.view(), als::Ridge::of(&interactions, &options));
    let basket: Vec<(u32, f32)> = (0..20).map(|item| (item * 97, 1.0)).collect();
    bench.time("als/64f-fold-in-20-items", basket.len(), || {
        solver.fold_in(factors.items.view(), black_box(&basket)).unwrap()
    });
}

fn ease(bench: &Bench) {
    let x = shopping(20_000, 2_000, 20);
    let fit = || ease::fit(black_box(&x), 300.0, &|_| true).unwrap();
    bench.time("ease/fit-20000x2000-400k", x.n_cols * x.n_cols, fit);
    let inverse = fit();
    // A hundred customers have gone and as many come.
    let users: Vec<Option<u32>> =
        (100..x.n_rows as u32).chain(0..100).map(|user| (user >= 100).then_some(user)).collect();
    let items: Vec<Option<u32>> = (0..x.n_cols as u32).map(Some).collect();
    let rows: Vec<ease::Row> = (100..x.n_rows).chain(300..400).map(|user| x.row(user)).collect();
    let triplets: Vec<(u32, u32, f32)> =
        (0u32..).zip(&rows).flat_map(|(user, row)| row.0.iter().map(move |item| (user, *item, 1.0))).collect();
    let later = Csr::from_triplets(x.n_rows, x.n_cols, &triplets).unwrap();
    bench.time("ease/refit-200-rows-2000", x.n_cols * x.n_cols, || {
        let earlier = ease::Earlier { inverse: inverse.clone(), x: &x, users: &users, items: &items };
        ease::refit(black_box(&later), 300.0, earlier, &|_| true).unwrap()
    });
    let weights = ease::Weights::of(&inverse, &|| true).unwrap();
    let seen: Vec<&[u32]> = rows.iter().map(|(items, _)| *items).collect();
    for n_users in [1, 20_000] {
        let query = ease::Query { users: &rows[..n_users], k: 10, seen: Some(&seen[..n_users]), candidates: None };
        bench.time(&format!("ease/top-{n_users}x2000-k10"), n_users * x.n_cols, || {
            weights.top_k(black_box(&query)).unwrap()
        });
    }
}

fn topk(bench: &Bench) {
    let seen = shopping(4_300, 4_000, 60);
    let seen: Vec<&[u32]> = (0..seen.n_rows).map(|user| seen.row(user).0).collect();
    for (factors, n_users, n_items) in [(64, 1, 4_000), (64, 4_300, 4_000), (256, 4_300, 4_000)] {
        let (users, items) = (normal(n_users, factors, SEED), normal(n_items, factors, SEED + 1));
        let (users, items) = (users.mapv(|value| value as f32), items.mapv(|value| value as f32));
        let arranged = topk::Items::of(items.view());
        let query = topk::Query {
            users: users.view(),
            items: &arranged,
            k: 10,
            seen: Some(&seen[..n_users]),
            candidates: None,
        };
        bench.time(&format!("topk/{factors}f-{n_users}x{n_items}-k10"), n_users * n_items, || {
            topk::top_k(black_box(&query)).unwrap()
        });
    }
}

fn item_knn(bench: &Bench) {
    let interactions = shopping(40_000, 8_000, 25);
    for (name, similarity) in
        [("cosine", item_knn::Similarity::Cosine), ("bm25", item_knn::Similarity::Bm25 { k1: 1.2, b: 0.75 })]
    {
        let options = item_knn::Options { similarity, neighbors: 20, shrinkage: 0.0 };
        bench.time(&format!("item_knn/{name}-20n-40000x8000-1m"), interactions.nnz(), || {
            item_knn::fit(black_box(&interactions), &options, &|_| true).unwrap()
        });
    }
    let options = item_knn::Options { similarity: item_knn::Similarity::Cosine, neighbors: 20, shrinkage: 0.0 };
    let neighbors = item_knn::fit(&interactions, &options, &|_| true).unwrap().matrix;
    let had: Vec<(&[u32], &[f32])> = (0..interactions.n_rows).map(|user| interactions.row(user)).collect();
    let seen: Vec<&[u32]> = had.iter().map(|(items, _)| *items).collect();
    let query = item_knn::Query { neighbors: &neighbors, had: &had, k: 10, seen: Some(&seen), candidates: None };
    bench.time("item_knn/rank-40000x8000-k10", interactions.nnz(), || item_knn::rank(black_box(&query)).unwrap());
}

fn bpr(bench: &Bench) {
    let interactions = shopping(20_000, 2_000, 20);
    let options = bpr::Options { iterations: 2, learn_rate: 0.05, regularization: 0.005 };
    bench.time("bpr/64f-2it-20000x2000-400k", interactions.nnz(), || {
        let start = bpr::Factors::random(20_000, 2_000, 64, SEED);
        bpr::fit(black_box(&interactions), start, &options, SEED, &|_| true).unwrap()
    });
}

/// Everybody has a value of their own, and one of a hundred in common with others.
fn warp(bench: &Bench) {
    let interactions = shopping(20_000, 2_000, 20);
    let traits = |n: u32| {
        let values: Vec<_> = (0..n).flat_map(|owner| [(owner, owner, 1.0), (owner, n + owner % 100, 1.0)]).collect();
        Csr::from_triplets(n as usize, n as usize + 100, &values).unwrap()
    };
    let (users, items) = (traits(20_000), traits(2_000));
    let traits = warp::Traits { users: &users, items: &items };
    let options = warp::Options { iterations: 1, learn_rate: 0.05, regularization: 1e-5, draws: 10 };
    bench.time("warp/32f-1it-20000x2000-400k", interactions.nnz(), || {
        let start = warp::Embeddings::random(&traits, 32, SEED);
        warp::fit(black_box(&interactions), &traits, start, &options, SEED, &|_| true).unwrap()
    });
}

fn kmeans(bench: &Bench) {
    let (rows, columns, clusters) = (100_000, 16, 16);
    let middles = normal(clusters, columns, SEED) * 3.0;
    let mut x = normal(rows, columns, SEED + 1);
    for (row, mut values) in x.outer_iter_mut().enumerate() {
        values += &middles.row(row % clusters);
    }
    // Exactly ten passes: how many a start needs is luck, how long a pass takes is not.
    let options = kmeans::Options { clusters, max_iterations: 10, tolerance: -1.0, n_init: 1 };
    bench.time("kmeans/16k-10it-100000x16", rows, || {
        kmeans::fit(black_box(x.view()), &options, SEED, &|_| true).unwrap()
    });
    let centroids = kmeans::fit(x.view(), &options, SEED, &|_| true).unwrap().centroids;
    bench.time("kmeans/16k-assign-100000x16", rows, || kmeans::assign(black_box(x.view()), centroids.view()));
}

fn logistic(bench: &Bench) {
    let (rows, columns) = (100_000, 20);
    let x = normal(rows, columns, SEED);
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let mut classes_by = |n_classes: usize| -> Vec<u32> {
        let slopes = normal(columns, n_classes, SEED + 1) * 0.5;
        let scores = x.dot(&slopes);
        let noisy = scores.outer_iter().map(|row| {
            // Gumbel noise makes the argmax a draw from the softmax.
            let noisy: Array1<f64> = row.mapv(|score| score - (-rng.random::<f64>().max(1e-300).ln()).ln());
            noisy.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(class, _)| class as u32)
        });
        noisy.collect()
    };
    let labels = [classes_by(2), classes_by(5)];
    let options = logistic::Options { l2: 1.0, max_iterations: 100, tolerance: 1e-4 };
    for (n_classes, y) in [2, 5].into_iter().zip(&labels) {
        bench.time(&format!("logistic/{n_classes}c-100000x20"), rows, || {
            logistic::fit(black_box(x.view()), y, n_classes, &options, &|_| true).unwrap()
        });
    }
    let weights = logistic::fit(x.view(), &labels[0], 2, &options, &|_| true).unwrap();
    bench.time("logistic/2c-probabilities-100000x20", rows, || logistic::probabilities(&weights, black_box(x.view())));
}

/// Customers who each bought about `each` products, low numbers more often than high ones.
fn shopping(n_users: u32, n_items: u32, each: usize) -> Csr {
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let mut bought = Vec::with_capacity(n_users as usize * each);
    for user in 0..n_users {
        for _ in 0..each {
            let place = rng.random::<f64>().powi(2) * f64::from(n_items);
            bought.push((user, place as u32, 1.0));
        }
    }
    Csr::from_triplets(n_users as usize, n_items as usize, &bought).unwrap()
}

fn normal(rows: usize, columns: usize, seed: u64) -> Array2<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    Array2::from_shape_simple_fn((rows, columns), || rng.sample(StandardNormal))
}
