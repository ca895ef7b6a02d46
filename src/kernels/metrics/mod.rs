//! How good is it: measures of classifiers, clusters and rankings, and how sure one can be of their means.

mod bootstrap;
mod classification;
mod clustering;
mod ranking;
mod spread;

pub use bootstrap::Sample;
pub use classification::{Confusion, log_loss, multinomial_log_loss, pr_auc, roc_auc};
pub use clustering::{adjusted_rand_index, davies_bouldin_index, mean_squared_distance};
pub use ranking::{
    average_precision_at_k, f1_at_k, hit_at_k, ndcg_at_k, precision_at_k, recall_at_k, reciprocal_rank_at_k,
};
pub use spread::{coverage, gini, novelty_at_k};
