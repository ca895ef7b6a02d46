//! What all recommenders share: from scores to rows, cold customers, and honest evaluation.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float64Array, Int64Array, ListArray, StringArray};
use datafusion::arrow::datatypes::{DataType, Fields};
use datafusion::arrow::record_batch::RecordBatch;

use crate::error::{Error, Result};
use crate::frame::list_of_structs;
use crate::kernels::metrics;
use crate::models::history::{History, field};

/// More than anyone reads, and small enough that a list of it always fits in memory.
pub const MAX_K: usize = 100_000;

/// Resamples of the customers behind each confidence interval.
const RESAMPLES: usize = 1_000;

/// A model that ranks products for customers. Codes are positions in [`History::users`] and [`History::items`].
pub trait Recommender: Send + Sync {
    fn history(&self) -> &History;
    /// What `source` says of its rows.
    fn source(&self) -> &'static str;
    /// The best products of each customer, best first, at most `k` each.
    fn rank(&self, users: &[u32], ask: &Ask) -> Result<Vec<Vec<(u32, f32)>>>;
    /// The best products for a basket of (product, weight) that no known customer stands behind.
    fn rank_basket(&self, basket: &[(u32, f32)], ask: &Ask) -> Result<Vec<(u32, f32)>>;
    /// The products most like this one, itself left out, and how like it they are.
    fn similar_items(&self, item: u32, k: usize) -> Result<Vec<(u32, f32)>>;
    /// The customer as a vector, where the model has such.
    fn factors(&self, _user: u32) -> Option<Vec<f32>> {
        None
    }
}

/// What is asked of a ranking.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask {
    /// How many products at most.
    pub k: usize,
    /// Leave out what the customer had in the training data.
    pub exclude_seen: bool,
    /// Only these products, ascending; `None`: all.
    pub candidates: Option<Vec<u32>>,
    /// Answer a customer nobody knows with the popular products.
    pub cold_start: bool,
}

impl Ask {
    /// `k` as typed by a user.
    pub fn checked_k(k: i64) -> Result<usize> {
        match usize::try_from(k) {
            Ok(k) if (1..=MAX_K).contains(&k) => Ok(k),
            _ => Err(Error::invalid(format!("k must be from 1 to {MAX_K}, not {k}"))),
        }
    }
}

/// The columns of one recommendation, without its customer.
pub fn recommendation_fields(item: &DataType) -> Fields {
    Fields::from(vec![
        field("rank", DataType::Int64),
        field("item", item.clone()),
        field("score", DataType::Float64),
        field("source", DataType::Utf8),
    ])
}

/// A list of recommendations for each customer, NULL customers included: they are cold.
pub fn recommend(model: &dyn Recommender, users: &ArrayRef, ask: &Ask) -> Result<ListArray> {
    let history = model.history();
    let codes = history.users.codes(users)?;
    let known: Vec<u32> = codes.iter().copied().flatten().collect();
    let mut ranked = model.rank(&known, ask)?.into_iter();
    let cold = if known.len() < codes.len() { popular(history, &[], ask) } else { Vec::new() };
    let mut lists = Vec::with_capacity(codes.len());
    for code in &codes {
        match code {
            Some(_) => lists.push((ranked.next().unwrap_or_default(), model.source())),
            None if ask.cold_start => lists.push((cold.clone(), "popular")),
            None => lists.push((Vec::new(), model.source())),
        }
    }
    rows(history, lists)
}

/// One list of recommendations for each basket of products.
pub fn recommend_baskets(model: &dyn Recommender, baskets: &[ArrayRef], ask: &Ask) -> Result<ListArray> {
    let history = model.history();
    let mut lists = Vec::with_capacity(baskets.len());
    for basket in baskets {
        let mut weights: BTreeMap<u32, f32> = BTreeMap::new();
        for item in history.items.codes(basket)?.into_iter().flatten() {
            *weights.entry(item).or_default() += 1.0;
        }
        let basket: Vec<(u32, f32)> = weights.into_iter().collect();
        lists.push(if basket.is_empty() {
            (if ask.cold_start { popular(history, &[], ask) } else { Vec::new() }, "popular")
        } else {
            (model.rank_basket(&basket, ask)?, model.source())
        });
    }
    rows(history, lists)
}

/// The products most like each given one; an unknown product has an empty list.
pub fn similar(model: &dyn Recommender, items: &ArrayRef, k: usize) -> Result<ListArray> {
    let history = model.history();
    let mut lists = Vec::new();
    for code in history.items.codes(items)? {
        let list = code.map(|code| model.similar_items(code, k)).transpose()?.unwrap_or_default();
        lists.push((list, model.source()));
    }
    rows(history, lists)
}

/// The most popular products, those in `without` (ascending) and outside the candidates left out.
pub fn popular(history: &History, without: &[u32], ask: &Ask) -> Vec<(u32, f32)> {
    let allowed = |item: &u32| {
        without.binary_search(item).is_err()
            && ask.candidates.as_ref().is_none_or(|candidates| candidates.binary_search(item).is_ok())
    };
    history.popular.iter().filter(|(item, _)| allowed(item)).take(ask.k).copied().collect()
}

fn rows(history: &History, lists: Vec<(Vec<(u32, f32)>, &'static str)>) -> Result<ListArray> {
    let n = lists.iter().map(|(list, _)| list.len()).sum();
    let (mut ranks, mut items, mut scores, mut sources) =
        (Vec::with_capacity(n), Vec::with_capacity(n), Vec::with_capacity(n), Vec::with_capacity(n));
    let mut lengths = Vec::with_capacity(lists.len());
    for (list, source) in lists {
        lengths.push(Some(list.len()));
        for (rank, (item, score)) in list.into_iter().enumerate() {
            ranks.push(rank as i64 + 1);
            items.push(item);
            scores.push(f64::from(score));
            sources.push(source);
        }
    }
    let fields = recommendation_fields(history.items.data_type());
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(ranks)),
        history.items.take(&items)?,
        Arc::new(Float64Array::from(scores)),
        Arc::new(StringArray::from(sources)),
    ];
    let schema = Arc::new(datafusion::arrow::datatypes::Schema::new(fields.clone()));
    list_of_structs(&fields, &RecordBatch::try_new(schema, columns)?, &lengths)
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
    seed: u64,
) -> Result<RankingEvaluation> {
    let history = model.history();
    // Products unknown to the model still count as wanted: they get numbers beyond the known ones.
    let (test_items, test_codes) = crate::frame::Keys::of(items)?;
    let known_items = history.items.codes(test_items.values())?;
    let item_code = |code: u32| known_items[code as usize].unwrap_or(history.items.len() as u32 + code);
    let (test_users, user_codes) = crate::frame::Keys::of(users)?;
    let known_users = history.users.codes(test_users.values())?;

    let mut wanted: Vec<BTreeSet<u32>> = vec![BTreeSet::new(); test_users.len()];
    for (user, item) in user_codes.iter().zip(&test_codes) {
        let (Some(user), Some(item)) = (user, item) else { continue };
        let item = item_code(*item);
        let had = exclude_seen
            && known_users[*user as usize].is_some_and(|known| history.seen_by(known).binary_search(&item).is_ok());
        if !had {
            wanted[*user as usize].insert(item);
        }
    }
    let counted: Vec<usize> = (0..wanted.len()).filter(|user| !wanted[*user].is_empty()).collect();
    if counted.is_empty() {
        return Err(Error::invalid("no customer of the query took a product that could have been recommended")
            .hint("give rows of customers and products from after the training data, or exclude_seen => false"));
    }

    let ask = Ask { k, exclude_seen, candidates: None, cold_start: true };
    let known: Vec<u32> = counted.iter().filter_map(|user| known_users[*user]).collect();
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
            interval: Some(metrics::bootstrap_mean_interval(&values[at], RESAMPLES, 0.95, seed)),
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
