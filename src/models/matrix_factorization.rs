//! `matrix_factorization`: customers and products as vectors, learned from what customers did.

use std::sync::Arc;

use datafusion::arrow::array::BooleanArray;
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::{Fields, Float32Type};
use datafusion::arrow::record_batch::RecordBatch;
use ndarray::{Array2, Axis};

use crate::error::{Error, Result};
use crate::frame::{Artefact, matrix_rows, numbers, rows_matrix};
use crate::kernels::csr::Csr;
use crate::kernels::{als, topk};
use crate::models::history::{self, History};
use crate::models::recommender::evaluate_ranking;
use crate::models::{
    Algorithm, Ask, FitContext, Model, Opt, Options, PredictAsk, Range, Recommender, Signature, Task, Value,
};

pub struct MatrixFactorization;

#[derive(Debug)]
struct MatrixFactorizationModel {
    history: History,
    factors: als::Factors,
    /// The products' factors, arranged to be searched.
    items: topk::Items,
    /// YᵀY + λI: what solving a new customer starts from.
    gram: Array2<f32>,
    alpha: f32,
    regularization: f32,
    signature: Signature,
}

/// Columns of the training query; shared by all recommenders.
pub(super) const ROLE_OPTIONS: [Opt; 3] = [USER_COL, ITEM_COL, RATING_COL];

const USER_COL: Opt = Opt {
    name: "user_col",
    aliases: &[],
    range: Range::Text,
    default: None,
    doc: "The customer's column; the query's first column unless named. Any type: bigint, text, uuid.",
};
const ITEM_COL: Opt = Opt {
    name: "item_col",
    aliases: &[],
    range: Range::Text,
    default: None,
    doc: "The product's column; the query's second column unless named.",
};
const RATING_COL: Opt = Opt {
    name: "rating_col",
    aliases: &["weight_col"],
    range: Range::Text,
    default: None,
    doc: "How much an interaction counts; the next numeric column unless named, and 1 a row where there is none. \
          Rows of the same customer and product are summed; only positive sums teach anything.",
};

/// What [`Model::evaluate`] of a recommender fills; k is 10.
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

/// The seed of the confidence intervals: evaluation is a fact about the model and the rows, not a draw.
const EVALUATION_SEED: u64 = 0;

/// The short evaluation of a recommender on rows of (customer, product): the values of [`RANKING_METRICS`].
pub(super) fn evaluate_pairs(model: &dyn Recommender, rows: &RecordBatch) -> Result<Vec<Option<f64>>> {
    let names = &model.history().names;
    let (user, item) = names.pair(&rows.schema())?;
    // A row that takes something back is nothing that could have been recommended.
    let rating = names.rating.as_deref().and_then(|rating| rows.schema().index_of(rating).ok());
    let rows = &match rating {
        Some(at) => {
            let ratings = numbers(rows.column(at))?;
            let taken: BooleanArray =
                ratings.iter().map(|rating| Some(rating.is_none_or(|rating| rating > 0.0))).collect();
            filter_record_batch(rows, &taken)?
        }
        None => rows.clone(),
    };
    let found = evaluate_ranking(model, rows.column(user), rows.column(item), 10, true, EVALUATION_SEED)?;
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

impl Algorithm for MatrixFactorization {
    fn name(&self) -> &'static str {
        "matrix_factorization"
    }

    fn doc(&self) -> &'static str {
        "Learns a vector for each customer and each product so that their product says how likely the customer is to \
         take it: implicit alternating least squares (Hu, Koren & Volinsky 2008). What a customer did counts with \
         confidence 1 + alpha · rating; a usual rating is count(*), how often they did it, and amounts are best taken \
         as ln(1 + x). The regularization is added as it is, as in the library implicit. After a \
         hold-out was evaluated, the model learns from all rows. A new customer is solved from a basket on the spot."
    }

    fn example(&self) -> &'static str {
        "CREATE MODEL taste OPTIONS (model_type = 'matrix_factorization', num_factors = 32, seed = 1) AS\n\
         SELECT customer_id, product_id, count(*) AS rating, max(event_ts) AS last_ts\n\
         FROM interactions WHERE event_type = 'purchase' GROUP BY customer_id, product_id"
    }

    fn task(&self) -> Task {
        Task::Recommend
    }

    fn options(&self) -> &'static [Opt] {
        &[
            USER_COL,
            ITEM_COL,
            RATING_COL,
            Opt {
                name: "feedback_type",
                aliases: &[],
                range: Range::Choice(&["implicit"]),
                default: Some("implicit"),
                doc: "implicit: ratings are counts or amounts of what customers did.",
            },
            Opt {
                name: "num_factors",
                aliases: &["factors"],
                range: Range::Whole { min: 1, max: 1024 },
                default: Some("64"),
                doc: "Length of the vectors.",
            },
            Opt {
                name: "max_iterations",
                aliases: &["iterations"],
                range: Range::Whole { min: 1, max: 1000 },
                default: Some("10"),
                doc: "Rounds of solving all customers, then all products.",
            },
            Opt {
                name: "l2_reg",
                aliases: &["regularization"],
                range: Range::Number { min: 1e-6, max: 1e6 },
                default: None,
                doc: "Pulls vectors towards zero (λ). Unless given it is found from the data, and ml.model_options shows \
                      the value: 0.7 · (√(S / products) + √(S / customers)), where S is the sum of \
                      (1 + alpha · rating)² over all pairs of customer and product. More data want more of it.",
            },
            Opt {
                name: "wals_alpha",
                aliases: &["alpha"],
                range: Range::Number { min: 1e-6, max: 1e6 },
                default: Some("1"),
                doc: "How much confidence one unit of rating adds: c = 1 + alpha · rating.",
            },
        ]
    }

    fn accept(&self, cx: &FitContext, rows: &RecordBatch, options: &Options) -> Result<RecordBatch> {
        history::accept(cx, rows, options)
    }

    fn fit(&self, cx: &FitContext, rows: &RecordBatch, options: &Options) -> Result<Arc<dyn Model>> {
        let history = History::from_rows(rows, options)?;
        let alpha = options.number("wals_alpha")?;
        let regularization = options.given_number("l2_reg").unwrap_or_else(|| usual_l2(&history.seen, alpha));
        let settings = als::Options {
            factors: options.whole("num_factors")?,
            iterations: options.whole("max_iterations")?,
            regularization: regularization as f32,
            alpha: alpha as f32,
        };
        let factors = als::fit(&history.seen, &settings, cx.seed, cx.progress)?;
        Ok(Arc::new(MatrixFactorizationModel::new(history, factors, settings.alpha, settings.regularization)))
    }

    fn load(&self, artefact: &Artefact) -> Result<Arc<dyn Model>> {
        let history = History::load(artefact)?;
        let factors = als::Factors {
            users: rows_matrix::<Float32Type>(artefact.part("user_factors")?)?,
            items: rows_matrix::<Float32Type>(artefact.part("item_factors")?)?,
        };
        if factors.users.nrows() != history.users.len() || factors.items.nrows() != history.items.len() {
            return Err(Error::corrupt("the model's factors do not fit its history"));
        }
        let (alpha, regularization) = (artefact.value("alpha")?, artefact.value("regularization")?);
        Ok(Arc::new(MatrixFactorizationModel::new(history, factors, alpha, regularization)))
    }
}

/// The regularization where none is given: `0.7 (√(S / n_items) + √(S / n_users))` with
/// `S = Σ (1 + alpha·r)²` over what was observed, to three digits.
///
/// The scale is that of the noise: a matrix of independent entries with these squares in all has a largest singular
/// value of about `√(S / n_items) + √(S / n_users)` (the edge of the law of Marchenko and Pastur), and what lies below
/// it is better forgotten.
/// The factor was tuned on three data sets, where it comes within a few percent of the best fixed value.
fn usual_l2(seen: &Csr, alpha: f64) -> f64 {
    let squares: f64 = seen.values.iter().map(|rating| (1.0 + alpha * f64::from(*rating)).powi(2)).sum();
    let side = |n: usize| (squares / n.max(1) as f64).sqrt();
    let l2 = (0.7 * (side(seen.n_cols) + side(seen.n_rows))).clamp(1e-6, 1e6);
    let digits = 10f64.powf(2.0 - l2.log10().floor());
    (l2 * digits).round() / digits
}

impl MatrixFactorizationModel {
    fn new(history: History, factors: als::Factors, alpha: f32, regularization: f32) -> Self {
        let signature = Signature { inputs: history.names.inputs.clone(), label: None, outputs: Fields::empty() };
        let items = topk::Items::of(factors.items.view());
        let gram = als::gram(factors.items.view(), regularization);
        Self { history, factors, items, gram, alpha, regularization, signature }
    }
}

impl Model for MatrixFactorizationModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn found_options(&self) -> Vec<(&'static str, Value)> {
        // As typed by a user the same number has fewer digits than as a 32-bit float made longer.
        let typed = self.regularization.to_string().parse();
        typed.map(|l2| ("l2_reg", Value::Number(l2))).into_iter().collect()
    }

    fn artefact(&self) -> Result<Artefact> {
        let manifest = serde_json::json!({ "alpha": self.alpha, "regularization": self.regularization });
        let artefact = self.history.save(Artefact::new(manifest))?;
        Ok(artefact
            .with_part("user_factors", matrix_rows::<Float32Type>("factors", &self.factors.users)?)
            .with_part("item_factors", matrix_rows::<Float32Type>("factors", &self.factors.items)?))
    }

    fn metrics(&self) -> Vec<&'static str> {
        RANKING_METRICS.to_vec()
    }

    fn evaluate(&self, rows: &RecordBatch, _ask: &PredictAsk) -> Result<Vec<Option<f64>>> {
        evaluate_pairs(self, rows)
    }

    fn recommender(&self) -> Option<&dyn Recommender> {
        Some(self)
    }
}

impl Recommender for MatrixFactorizationModel {
    fn history(&self) -> &History {
        &self.history
    }

    fn source(&self) -> &'static str {
        "als"
    }

    fn rank(&self, users: &[u32], ask: &Ask) -> Result<Vec<Vec<(u32, f32)>>> {
        let rows: Vec<usize> = users.iter().map(|user| *user as usize).collect();
        let vectors = self.factors.users.select(Axis(0), &rows);
        let seen: Vec<&[u32]> = users.iter().map(|user| self.history.seen_by(*user)).collect();
        topk::top_k(&topk::Query {
            users: vectors.view(),
            items: &self.items,
            k: ask.k,
            seen: ask.exclude_seen.then_some(&seen[..]),
            candidates: ask.candidates.as_deref(),
        })
    }

    fn rank_basket(&self, basket: &[(u32, f32)], ask: &Ask) -> Result<Vec<(u32, f32)>> {
        let vector = als::fold_in(self.gram.view(), self.factors.items.view(), basket, self.alpha)?;
        let items: Vec<u32> = basket.iter().map(|(item, _)| *item).collect();
        let ranked = topk::top_k(&topk::Query {
            users: vector.view().insert_axis(Axis(0)),
            items: &self.items,
            k: ask.k,
            seen: ask.exclude_seen.then_some(&[&items[..]]),
            candidates: ask.candidates.as_deref(),
        })?;
        Ok(ranked.into_iter().next().unwrap_or_default())
    }

    fn similar_items(&self, item: u32, k: usize) -> Result<Vec<(u32, f32)>> {
        let items = &self.factors.items;
        let this = items.row(item as usize);
        let length = |vector: ndarray::ArrayView1<f32>| vector.dot(&vector).sqrt();
        let cosine = |other: u32| {
            let vector = items.row(other as usize);
            // A product without a vector is like nothing.
            (this.dot(&vector) / (length(this) * length(vector)).max(f32::MIN_POSITIVE)).clamp(-1.0, 1.0)
        };
        let others = (0..items.nrows() as u32).filter(|other| *other != item);
        Ok(topk::best(others.map(|other| (other, cosine(other))), k))
    }

    fn factors(&self, user: u32) -> Option<Vec<f32>> {
        Some(self.factors.users.row(user as usize).to_vec())
    }
}
