//! Arithmetic you could check on paper: slices and matrices in, values out, the seed a parameter.

pub mod als;
pub mod bpr;
pub mod cholesky;
pub mod csr;
pub mod dense;
pub mod distribution;
pub mod ease;
pub mod eigen;
pub mod exact_sum;
pub mod hash;
pub mod imputation;
pub mod item_knn;
pub mod kmeans;
pub mod lbfgs;
pub mod logistic;
pub mod metrics;
pub mod newcomer;
pub mod popularity;
pub mod progress;
pub mod random;
pub mod rfm;
pub mod simd;
pub mod symmetric;
pub mod tally;
pub mod topk;
pub mod warp;

pub use progress::{Progress, Step};
