//! How good a ranking would have been, for customers whose later products are known.

use std::collections::BTreeSet;

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::record_batch::RecordBatch;

use crate::error::{Error, Result};
use crate::frame::{Events, EventsBuilder, Keys};
use crate::kernels::metrics;
use crate::models::recommender::popular;
use crate::models::{Ask, Recommender, Taste};

/// Resamples of the customers behind each confidence interval.
const RESAMPLES: usize = 1_000;

/// The seed of the confidence intervals: evaluation is a fact about the model and the rows, not a draw.
const SEED: u64 = 0;

/// What [`crate::models::Model::evaluate`] of a recommender fills; k is 10.
pub(super) const RANKING_METRICS: [&str; 9] = [
    "ndcg_at_10",
    "recall_at_10",
    "precision_at_10",
    "map_at_10",
    "hit_rate_at_10",
    "baseline_ndcg_at_10",
    "baseline_recall_at_10",
    "n_users",
    "n_cold_users",
];

/// The short evaluation of a recommender on a query's rows: the values of [`RANKING_METRICS`].
pub(super) fn evaluate_rows(recommender: &dyn Recommender, rows: &RecordBatch) -> Result<Vec<Option<f64>>> {
    let roles = recommender.history().names.roles(&rows.schema())?;
    let mut builder = EventsBuilder::new(&rows.schema(), roles);
    builder.push(rows)?;
    evaluate_events(recommender, &builder.finish()?, None)
}

/// As [`evaluate_rows`], for the events for which `held_out` holds, or for all.
pub(super) fn evaluate_events(
    recommender: &dyn Recommender,
    events: &Events,
    held_out: Option<&[bool]>,
) -> Result<Vec<Option<f64>>> {
    // A row that takes something back is nothing that could have been recommended.
    let is_taken = |row: usize| {
        held_out.is_none_or(|held_out| held_out[row]) && events.rating.as_ref().is_none_or(|ratings| ratings[row] > 0.0)
    };
    let taken = (0..events.len()).filter(|row| is_taken(*row)).map(|row| (events.user[row], events.item[row]));
    let found = evaluate_pairs(recommender, &events.users, &events.items, taken, 10, true)?;
    let value = |name: &str| found.metrics.iter().find(|metric| metric.name == name);
    let ours = |name: &str| value(name).map(|metric| metric.value);
    let baseline = |name: &str| value(name).map(|metric| metric.baseline);
    Ok(vec![
        ours("ndcg"),
        ours("recall"),
        ours("precision"),
        ours("map"),
        ours("hit_rate"),
        baseline("ndcg"),
        baseline("recall"),
        Some(found.n_users as f64),
        Some(found.n_cold_users as f64),
    ])
}

/// One line of `evaluate_ranking`.
#[derive(Debug, Clone, PartialEq)]
pub struct RankingMetric {
    pub name: &'static str,
    pub value: f64,
    /// 95 % bootstrap interval over customers; none for coverage, which is not a mean.
    pub interval: Option<(f64, f64)>,
    /// The same metric of the popularity ranking on the same customers.
    pub baseline: f64,
}

/// Ranking metrics, and how many customers they rest on.
#[derive(Debug, Clone, PartialEq)]
pub struct RankingEvaluation {
    pub metrics: Vec<RankingMetric>,
    pub n_users: usize,
    /// Of those, how many the model did not know: they were answered with the popular products.
    pub n_cold_users: usize,
}

/// Metrics of one ranked list: name and function of (ranked, relevant, k).
type PerUser = fn(&[u32], &[u32], usize) -> f64;
const PER_USER: [(&str, PerUser); 6] = [
    ("ndcg", metrics::ndcg_at_k),
    ("recall", metrics::recall_at_k),
    ("precision", metrics::precision_at_k),
    ("map", metrics::average_precision_at_k),
    ("mrr", metrics::reciprocal_rank_at_k),
    ("hit_rate", metrics::hit_at_k),
];

/// Ranks for every customer of `pairs` and compares with what they took.
///
/// With `exclude_seen`, what a customer had in training is neither recommended nor expected: the question is which
/// *new* products they will take. Products the model does not know count as missed. A customer left without a
/// product is not counted. Definitions: recall = hits / |relevant|, NDCG with binary gain and the ideal over
/// min(|relevant|, k), MAP divided by min(|relevant|, k); means over customers.
pub fn evaluate_ranking(
    model: &dyn Recommender,
    users: &ArrayRef,
    items: &ArrayRef,
    k: usize,
    exclude_seen: bool,
) -> Result<RankingEvaluation> {
    let (users, user_codes) = Keys::of(users)?;
    let (items, item_codes) = Keys::of(items)?;
    let pairs = user_codes.into_iter().zip(item_codes).filter_map(|(user, item)| user.zip(item));
    evaluate_pairs(model, &users, &items, pairs, k, exclude_seen)
}

/// As [`evaluate_ranking`], for pairs of numbers of these keys.
fn evaluate_pairs(
    model: &dyn Recommender,
    test_users: &Keys,
    test_items: &Keys,
    pairs: impl Iterator<Item = (u32, u32)>,
    k: usize,
    exclude_seen: bool,
) -> Result<RankingEvaluation> {
    let history = model.history();
    // Products unknown to the model still count as wanted: they get numbers beyond the known ones.
    let known_items = history.items.codes(test_items.values())?;
    let item_code = |code: u32| known_items[code as usize].unwrap_or(history.items.len() as u32 + code);
    let known_users = history.users.codes(test_users.values())?;

    let mut wanted: Vec<BTreeSet<u32>> = vec![BTreeSet::new(); test_users.len()];
    for (user, item) in pairs {
        let item = item_code(item);
        let had = exclude_seen
            && known_users[user as usize].is_some_and(|known| history.seen_by(known).binary_search(&item).is_ok());
        if !had {
            wanted[user as usize].insert(item);
        }
    }
    // In the order of their keys: sums over customers then do not depend on which came first.
    let counted = test_users.sorted().into_iter().map(|user| user as usize);
    let counted: Vec<usize> = counted.filter(|user| !wanted[*user].is_empty()).collect();
    if counted.is_empty() {
        return Err(Error::invalid("no customer of the query took a product that could have been recommended")
            .hint("give rows of customers and products from after the training data, or exclude_seen => false"));
    }

    let ask = Ask { k, exclude_seen, ..Ask::default() };
    let known: Vec<Taste> = counted.iter().filter_map(|user| known_users[*user]).map(Taste::Known).collect();
    let mut ranked_known = model.rank(&known, &ask)?.into_iter();
    let (mut values, mut baselines) = (vec![Vec::new(); PER_USER.len()], vec![Vec::new(); PER_USER.len()]);
    let (mut covered, mut covered_baseline) = (BTreeSet::new(), BTreeSet::new());
    for user in &counted {
        let without = known_users[*user].filter(|_| exclude_seen).map_or(&[][..], |known| history.seen_by(known));
        let baseline = popular(history, without, &ask);
        let ranked = match known_users[*user] {
            Some(_) => ranked_known.next().unwrap_or_default(),
            None => baseline.clone(),
        };
        let items_of = |list: Vec<(u32, f32)>| list.into_iter().map(|(item, _)| item).collect::<Vec<u32>>();
        let (ranked, baseline) = (items_of(ranked), items_of(baseline));
        let relevant: Vec<u32> = wanted[*user].iter().copied().collect();
        for (at, (_, metric)) in PER_USER.iter().enumerate() {
            values[at].push(metric(&ranked, &relevant, k));
            baselines[at].push(metric(&baseline, &relevant, k));
        }
        covered.extend(ranked);
        covered_baseline.extend(baseline);
    }

    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let mut metrics: Vec<RankingMetric> = PER_USER
        .iter()
        .enumerate()
        .map(|(at, (name, _))| RankingMetric {
            name,
            value: mean(&values[at]),
            interval: Some(metrics::bootstrap_mean_interval(&values[at], RESAMPLES, 0.95, SEED)),
            baseline: mean(&baselines[at]),
        })
        .collect();
    let share = |covered: &BTreeSet<u32>| covered.len() as f64 / history.items.len() as f64;
    metrics.push(RankingMetric {
        name: "coverage",
        value: share(&covered),
        interval: None,
        baseline: share(&covered_baseline),
    });
    Ok(RankingEvaluation { metrics, n_users: counted.len(), n_cold_users: counted.len() - known.len() })
}
