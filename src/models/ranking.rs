//! How good a ranking would have been, for customers whose later products are known.

use datafusion::arrow::record_batch::RecordBatch;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::frame::{Events, EventsBuilder, Keys};
use crate::kernels::metrics::{self, Sample};
use crate::models::ratings::{RATING_METRICS, rating_errors};
use crate::models::recommender::popular;
use crate::models::{Ask, History, Recommender, Taste};

/// The seed of the confidence intervals: evaluation is a fact about the model and the rows, not a draw.
const SEED: u64 = 0;

/// How good rankings are, next to those by popularity; k is 10.
const RANKING_METRICS: [&str; 9] = [
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

/// The length of the ranking that is evaluated at training.
pub const STORED_K: usize = 10;

/// What [`RankingEvaluation::short`] gives the values of.
pub(super) fn metrics(recommender: &dyn Recommender) -> Vec<&'static str> {
    let of_ratings: &[&str] = if recommender.history().names.recipe.explicit { &RATING_METRICS } else { &[] };
    of_ratings.iter().chain(&RANKING_METRICS).copied().collect()
}

/// The short evaluation of a recommender on a query's rows: the values of [`metrics`].
pub(super) fn evaluate_rows(recommender: &dyn Recommender, rows: &RecordBatch) -> Result<Vec<Option<f64>>> {
    let roles = recommender.history().names.roles(&rows.schema())?;
    let mut builder = EventsBuilder::new(&rows.schema(), roles);
    builder.push(rows)?;
    Ok(evaluate_events(recommender, &builder.finish()?, None, &By::Nothing, &|| true)?.short())
}

/// Ranks for the customers of the events for which `held_out` holds, or of all; `go_on` is asked now and then.
pub(super) fn evaluate_events(
    recommender: &dyn Recommender,
    events: &Events,
    held_out: Option<&[bool]>,
    by: &By,
    go_on: &dyn Fn() -> bool,
) -> Result<RankingEvaluation> {
    // A row that takes something back is nothing that could have been recommended.
    let is_taken = |row: usize| {
        held_out.is_none_or(|held_out| held_out[row]) && events.rating.as_ref().is_none_or(|ratings| ratings[row] > 0.0)
    };
    let mut pairs = (0..events.len()).filter(|row| is_taken(*row)).map(|row| (events.user[row], events.item[row]));
    let taken = Taken { users: &events.users, items: &events.items, pairs: &mut pairs };
    let ranked = evaluate_ranking(recommender, taken, STORED_K, true, by, go_on);
    let Some(errors) = rating_errors(recommender, events, held_out)? else { return ranked };
    match ranked {
        // Ratings that were learned from have errors too; only there is nothing new to rank.
        Err(error) if error.kind == Kind::Invalid => Ok(RankingEvaluation::without_ranking(recommender, errors)),
        ranked => Ok(RankingEvaluation { errors, ..ranked? }),
    }
}

/// What customers took, as numbers of these keys.
pub struct Taken<'a> {
    pub users: &'a Keys,
    pub items: &'a Keys,
    pub pairs: &'a mut dyn Iterator<Item = (u32, u32)>,
}

/// Which segments of customers are told of besides all.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum By<'a> {
    Nothing,
    /// cold: not in the training; warm and heavy: with fewer products than the median customer of the training, and
    /// with as many or more.
    Activity,
    /// Names, and for each customer of [`Taken::users`] which of them it is.
    Named {
        names: &'a [Option<String>],
        of_user: &'a [u32],
    },
}

/// One line of `evaluate_ranking`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RankingMetric {
    /// `None`: the customers whose segment is NULL.
    pub segment: Option<String>,
    pub metric: String,
    pub value: f64,
    /// 95 % interval over customers; none for coverage and Gini, which are no means.
    pub interval: Option<(f64, f64)>,
    /// The same of the popularity ranking for the same customers.
    pub baseline: f64,
    pub baseline_interval: Option<(f64, f64)>,
    pub n_users: usize,
    /// Of those, how many the model did not know: they were answered with the popular products.
    pub n_cold_users: usize,
}

/// Sums over the customers, those of all and those of each segment.
#[derive(Debug)]
pub struct RankingEvaluation {
    all: Tally,
    segments: Vec<(Option<String>, Tally)>,
    /// The values of [`RATING_METRICS`] where ratings are foretold.
    errors: Vec<Option<f64>>,
}

/// A measure of one ranked list: of the ranked, the relevant, k.
type PerUser = fn(&[u32], &[u32], usize) -> f64;
const PER_USER: [(&str, PerUser); 7] = [
    ("ndcg", metrics::ndcg_at_k),
    ("recall", metrics::recall_at_k),
    ("precision", metrics::precision_at_k),
    ("f1", metrics::f1_at_k),
    ("map", metrics::average_precision_at_k),
    ("mrr", metrics::reciprocal_rank_at_k),
    ("hit_rate", metrics::hit_at_k),
];
/// Novelty is a mean over customers too; it needs no relevant products.
const N_MEANS: usize = PER_USER.len() + 1;

/// Ranks for every customer of `taken` and compares with what they took.
///
/// With `exclude_seen`, what a customer had in training is neither recommended nor expected: the question is which
/// *new* products they will take. Products the model does not know count as missed. A customer left without a
/// product is not counted. A customer that the model does not know is answered with the popular products, as
/// `recommend()` does. Definitions: recall = hits / |relevant|, NDCG with binary gain and the ideal over
/// min(|relevant|, k), MAP divided by min(|relevant|, k); means over customers.
pub fn evaluate_ranking(
    model: &dyn Recommender,
    taken: Taken,
    k: usize,
    exclude_seen: bool,
    by: &By,
    go_on: &dyn Fn() -> bool,
) -> Result<RankingEvaluation> {
    let history = model.history();
    let known_users = history.users.codes(taken.users.values())?;
    let order = taken.users.sorted();
    let wanted = Wanted::of(history, taken, &known_users, &order, exclude_seen)?;
    if wanted.customers.is_empty() {
        return Err(Error::invalid("no customer of the query took a product that could have been recommended")
            .hint("give rows of customers and products from after the training data, or exclude_seen => false"));
    }
    let segments = Segments::of(history, by)?;
    let bits = bits(history);
    let mut all = Tally::new(history);
    let mut tallies: Vec<Tally> = segments.names.iter().map(|_| Tally::new(history)).collect();

    let ask = Ask { k, exclude_seen, ..Ask::default() };
    for block in wanted.customers.chunks(block_len(history.items.len())) {
        if !go_on() {
            return Err(Error::cancelled());
        }
        let known = |customer: &Customer| known_users[customer.user as usize];
        let tastes: Vec<Taste> = block.iter().filter_map(known).map(Taste::Known).collect();
        let mut ranked = model.rank(&tastes, &ask)?.into_iter();
        let ranked: Vec<Option<Vec<(u32, f32)>>> =
            block.iter().map(|customer| known(customer).and_then(|_| ranked.next())).collect();
        let judged: Vec<Judged> = block
            .par_iter()
            .zip(ranked)
            .map(|(customer, ranked)| {
                let known = known(customer);
                let without = known.filter(|_| exclude_seen).map_or(&[][..], |known| history.seen_by(known));
                let baseline = items_of(popular(history, without, &ask));
                let is_cold = known.is_none();
                let ranked = if is_cold { baseline.clone() } else { ranked.map(items_of).unwrap_or_default() };
                let relevant = &wanted.items[customer.start..customer.end];
                let mut values = [0.0; 2 * N_MEANS];
                measure(&ranked, relevant, k, &bits, &mut values[..N_MEANS]);
                measure(&baseline, relevant, k, &bits, &mut values[N_MEANS..]);
                Judged { values, ranked, baseline, is_cold }
            })
            .collect();
        // In the order of the customers' keys: sums do not depend on who came first, or on the threads.
        for (customer, judged) in block.iter().zip(&judged) {
            all.add(judged);
            if let Some(segment) = segments.of_customer(customer.user, known(customer)) {
                tallies[segment].add(judged);
            }
        }
    }
    let segments = segments.names.into_iter().zip(tallies).filter(|(_, tally)| !tally.sample.is_empty());
    Ok(RankingEvaluation { all, segments: segments.collect(), errors: Vec::new() })
}

/// Customers that are ranked for at a time: enough for all threads, and few enough that a cancel is soon seen.
fn block_len(n_items: usize) -> usize {
    const SCORES: usize = 1 << 27;
    (SCORES / n_items.max(1)).clamp(192, 8_192)
}

fn items_of(list: Vec<(u32, f32)>) -> Vec<u32> {
    list.into_iter().map(|(item, _)| item).collect()
}

fn measure(ranked: &[u32], relevant: &[u32], k: usize, bits: &[f64], values: &mut [f64]) {
    for (value, (_, metric)) in values.iter_mut().zip(PER_USER) {
        *value = metric(ranked, relevant, k);
    }
    values[N_MEANS - 1] = metrics::novelty_at_k(ranked, bits, k);
}

/// What each product tells, −log2 of the share of customers who had it. One that nobody had tells as much as one that
/// a single customer had.
fn bits(history: &History) -> Vec<f64> {
    let least = 1.0 / history.users.len().max(1) as f64;
    let mut bits = vec![0.0; history.items.len()];
    for (item, share) in &history.popular {
        bits[*item as usize] = -f64::from(*share).max(least).min(1.0).log2();
    }
    bits
}

/// The customers that are counted, in the order of their keys, and what each took.
struct Wanted {
    customers: Vec<Customer>,
    /// Ascending for each customer.
    items: Vec<u32>,
}

struct Customer {
    user: u32,
    start: usize,
    end: usize,
}

impl Wanted {
    fn of(
        history: &History,
        taken: Taken,
        known_users: &[Option<u32>],
        order: &[u32],
        exclude_seen: bool,
    ) -> Result<Self> {
        // Products unknown to the model still count as wanted: they get numbers beyond the known ones.
        let known_items = history.items.codes(taken.items.values())?;
        let item_code = |code: u32| known_items[code as usize].unwrap_or(history.items.len() as u32 + code);
        let mut places = vec![0u32; order.len()];
        order.iter().zip(0..).for_each(|(user, place)| places[*user as usize] = place);
        let wanted = |(user, item): (u32, u32)| {
            let item = item_code(item);
            let had = exclude_seen
                && known_users[user as usize].is_some_and(|known| history.seen_by(known).binary_search(&item).is_ok());
            (!had).then_some((places[user as usize], item))
        };
        let mut pairs: Vec<(u32, u32)> = taken.pairs.filter_map(wanted).collect();
        pairs.par_sort_unstable();
        pairs.dedup();
        let mut customers: Vec<Customer> = Vec::new();
        for (at, (place, _)) in pairs.iter().enumerate() {
            let user = order[*place as usize];
            match customers.last_mut() {
                Some(last) if last.user == user => last.end = at + 1,
                _ => customers.push(Customer { user, start: at, end: at + 1 }),
            }
        }
        Ok(Self { customers, items: pairs.into_iter().map(|(_, item)| item).collect() })
    }
}

/// Bytes that the counts of all segments may take.
const MAX_COUNT_BYTES: usize = 1 << 30;

struct Segments<'a> {
    names: Vec<Option<String>>,
    by: By<'a>,
    history: &'a History,
    /// The number of products of the median customer.
    median: usize,
}

impl<'a> Segments<'a> {
    fn of(history: &'a History, by: &By<'a>) -> Result<Self> {
        let names = match by {
            By::Nothing => Vec::new(),
            By::Activity => ["cold", "warm", "heavy"].map(|name| Some(name.to_owned())).to_vec(),
            By::Named { names, .. } => names.to_vec(),
        };
        let bytes = names.len() * Tally::bytes(history);
        if bytes > MAX_COUNT_BYTES {
            let (n, items) = (names.len(), history.items.len());
            return Err(Error::new(
                Kind::OutOfMemory,
                format!("{n} segments of {items} products are too many to count"),
            )
            .hint("give \"by\" a column with fewer values"));
        }
        let mut lengths: Vec<usize> = history.seen.offsets.windows(2).map(|row| row[1] - row[0]).collect();
        let middle = lengths.len() / 2;
        let median = if lengths.is_empty() { 0 } else { *lengths.select_nth_unstable(middle).1 };
        Ok(Self { names, by: *by, history, median })
    }

    fn of_customer(&self, user: u32, known: Option<u32>) -> Option<usize> {
        match self.by {
            By::Nothing => None,
            By::Activity => {
                Some(known.map_or(0, |known| if self.history.seen_by(known).len() < self.median { 1 } else { 2 }))
            }
            By::Named { of_user, .. } => Some(of_user[user as usize] as usize),
        }
    }
}

/// What became of one customer: the values of [`N_MEANS`] metrics, then those of the baseline, and the two rankings.
struct Judged {
    values: [f64; 2 * N_MEANS],
    ranked: Vec<u32>,
    baseline: Vec<u32>,
    is_cold: bool,
}

/// Sums over customers.
#[derive(Debug)]
struct Tally {
    sample: Sample,
    n_cold: usize,
    /// How often each product was recommended, and how often by popularity.
    counts: [Vec<u32>; 2],
}

impl Tally {
    fn new(history: &History) -> Self {
        let counts = [0, 1].map(|_| vec![0; history.items.len()]);
        Self { sample: Sample::new(2 * N_MEANS), n_cold: 0, counts }
    }

    fn bytes(history: &History) -> usize {
        8 * history.items.len()
    }

    fn add(&mut self, judged: &Judged) {
        self.sample.push(&judged.values);
        self.n_cold += usize::from(judged.is_cold);
        for (counts, list) in self.counts.iter_mut().zip([&judged.ranked, &judged.baseline]) {
            list.iter().for_each(|item| counts[*item as usize] = counts[*item as usize].saturating_add(1));
        }
    }

    fn lines(&self, segment: Option<&str>, lines: &mut Vec<RankingMetric>) {
        let (means, intervals) = (self.sample.means(), self.sample.intervals(SEED));
        let mut line = |metric: &str, value, interval, baseline, baseline_interval| {
            lines.push(RankingMetric {
                segment: segment.map(str::to_owned),
                metric: metric.to_owned(),
                value,
                interval,
                baseline,
                baseline_interval,
                n_users: self.sample.len(),
                n_cold_users: self.n_cold,
            });
        };
        for (at, metric) in PER_USER.map(|(name, _)| name).into_iter().chain(["novelty"]).enumerate() {
            let other = at + N_MEANS;
            line(metric, means[at], Some(intervals[at]), means[other], Some(intervals[other]));
        }
        let [ours, baseline] = &self.counts;
        line("coverage", metrics::coverage(ours), None, metrics::coverage(baseline), None);
        line("gini", metrics::gini(ours), None, metrics::gini(baseline), None);
    }
}

impl RankingEvaluation {
    fn without_ranking(model: &dyn Recommender, errors: Vec<Option<f64>>) -> Self {
        Self { all: Tally::new(model.history()), segments: Vec::new(), errors }
    }

    /// A line for each metric, of all customers first; none where nobody was ranked for.
    pub fn lines(&self) -> Vec<RankingMetric> {
        let mut lines = Vec::new();
        if self.n_users() == 0 {
            return lines;
        }
        self.all.lines(Some("all"), &mut lines);
        self.segments.iter().for_each(|(name, tally)| tally.lines(name.as_deref(), &mut lines));
        lines
    }

    /// The values of [`metrics`].
    pub(super) fn short(&self) -> Vec<Option<f64>> {
        let means = if self.n_users() > 0 { self.all.sample.means() } else { Vec::new() };
        let mean = |name: &str, offset: usize| {
            let at = PER_USER.iter().position(|(metric, _)| *metric == name)?;
            means.get(at + offset).copied()
        };
        let of_rankings = [
            mean("ndcg", 0),
            mean("recall", 0),
            mean("precision", 0),
            mean("map", 0),
            mean("hit_rate", 0),
            mean("ndcg", N_MEANS),
            mean("recall", N_MEANS),
            Some(self.n_users() as f64),
            Some(self.n_cold_users() as f64),
        ];
        self.errors.iter().copied().chain(of_rankings).collect()
    }

    pub fn n_users(&self) -> usize {
        self.all.sample.len()
    }

    pub fn n_cold_users(&self) -> usize {
        self.all.n_cold
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{ArrayRef, Int64Array, StringArray};

    use super::*;
    use crate::models::{Algorithm, FitContext, Learner, Model, Names, Options, Recipe, algorithm};

    fn events(pairs: &[(i64, &str)]) -> (Events, Names) {
        let users: ArrayRef = Arc::new(Int64Array::from_iter_values(pairs.iter().map(|pair| pair.0)));
        let items: ArrayRef = Arc::new(StringArray::from_iter_values(pairs.iter().map(|pair| pair.1)));
        let rows = RecordBatch::try_from_iter([("who", users), ("what", items)]).unwrap();
        let (names, roles) = Names::find(&rows.schema(), &Options::default(), &[], Recipe::default()).unwrap();
        let mut builder = EventsBuilder::new(&rows.schema(), roles);
        builder.push(&rows).unwrap();
        (builder.finish().unwrap(), names)
    }

    /// Recommends what is popular, learned from these.
    fn popularity(pairs: &[(i64, &str)]) -> Arc<dyn Model> {
        let (events, names) = events(pairs);
        let cx = FitContext { seed: 0, progress: &|_| true, notice: &|_| (), reserve: &|_| Ok(()) };
        let algorithm: &dyn Algorithm = algorithm("popularity").unwrap();
        let Learner::Events(learner) = algorithm.learner() else { panic!("popularity learns from events") };
        learner.fit(&cx, History::of(&names, &events, None).unwrap(), &Options::default(), None).unwrap()
    }

    const HAD: [(i64, &str); 7] = [(1, "a"), (2, "a"), (2, "b"), (3, "a"), (3, "b"), (3, "c"), (4, "a")];

    fn evaluated(later: &[(i64, &str)], by: &By, k: usize) -> Result<Vec<RankingMetric>> {
        let model = popularity(&HAD);
        let (events, _) = events(later);
        let mut pairs = events.user.iter().copied().zip(events.item.iter().copied());
        let taken = Taken { users: &events.users, items: &events.items, pairs: &mut pairs };
        Ok(evaluate_ranking(model.recommender().unwrap(), taken, k, true, by, &|| true)?.lines())
    }

    #[test]
    fn by_hand() {
        // 1 gets b and 2 gets c, as they took; 9 is unknown, gets a, and took something nobody knows besides. That 1 took
        // a again is nothing new.
        let later = [(1, "b"), (2, "c"), (9, "a"), (9, "d"), (1, "a")];
        let lines = evaluated(&later, &By::Activity, 1).unwrap();
        let value = |segment: &str, metric: &str| {
            let of = |line: &&RankingMetric| line.segment.as_deref() == Some(segment) && line.metric == metric;
            lines.iter().find(of).map(|line| line.value)
        };
        // Shares of 1, 1/2 and 1/4 of the customers are 0, 1 and 2 bits.
        let expected = [("ndcg", 1.0), ("recall", 2.5 / 3.0), ("precision", 1.0), ("hit_rate", 1.0), ("novelty", 1.0)];
        for (metric, expected) in expected.into_iter().chain([("coverage", 1.0), ("gini", 0.0)]) {
            assert!((value("all", metric).unwrap() - expected).abs() < 1e-12, "{metric}");
        }
        // The median customer had two products.
        assert_eq!((value("cold", "recall"), value("warm", "novelty")), (Some(0.5), Some(1.0)));
        assert_eq!((value("heavy", "novelty"), value("heavy", "coverage")), (Some(2.0), Some(1.0 / 3.0)));
        assert!((value("heavy", "gini").unwrap() - 2.0 / 3.0).abs() < 1e-12);
        assert!(lines.iter().filter(|line| line.segment.as_deref() == Some("cold")).all(|line| line.n_cold_users == 1));
        assert!(lines.iter().all(|line| line.value == line.baseline && line.interval == line.baseline_interval));
    }

    #[test]
    fn named_segments_and_none() {
        let named = By::Named { names: &[Some("north".to_owned()), None], of_user: &[0, 1] };
        let lines = evaluated(&[(1, "b"), (2, "c")], &named, 2).unwrap();
        let segments: Vec<Option<&str>> =
            lines.iter().filter(|line| line.metric == "recall").map(|line| line.segment.as_deref()).collect();
        assert_eq!(segments, [Some("all"), Some("north"), None]);
        assert!(evaluated(&[(1, "a"), (3, "c")], &By::Nothing, 2).is_err());
    }

    #[test]
    fn a_query_that_is_given_up_stops() {
        let model = popularity(&HAD);
        let (events, _) = events(&[(1, "b")]);
        let stopped = evaluate_events(model.recommender().unwrap(), &events, None, &By::Nothing, &|| false);
        assert_eq!(stopped.unwrap_err().kind, Kind::Cancelled);
    }
}
