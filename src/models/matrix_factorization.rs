//! `matrix_factorization`: customers and products as vectors, learned from what customers did.

use std::borrow::Cow;
use std::sync::Arc;

use datafusion::arrow::datatypes::{Fields, Float32Type};
use datafusion::arrow::record_batch::RecordBatch;
use ndarray::{Array2, ArrayView2};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::frame::{Artefact, Side, matrix_rows, rows_matrix};
use crate::kernels::csr::Csr;
use crate::kernels::{als, topk};
use crate::models::ranking::{RANKING_METRICS, evaluate_rows};
use crate::models::{
    Algorithm, Ask, EventLearner, FitContext, History, Learner, Model, Opt, Options, PredictAsk, Range, Recommender,
    Signature, Task, Taste, Value,
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

    fn learner(&self) -> Learner {
        Learner::Events(&Self)
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

impl EventLearner for MatrixFactorization {
    fn fit(
        &self,
        cx: &FitContext,
        history: History,
        options: &Options,
        _before: Option<&Artefact>,
    ) -> Result<Arc<dyn Model>> {
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

    /// A row for each taste: of a known customer the one that was learned, of a basket one that is solved for it.
    fn solved(&self, tastes: &[Taste]) -> Result<Array2<f32>> {
        let items = self.factors.items.view();
        let mut vectors = vec![0.0; tastes.len() * items.ncols()];
        vectors.par_chunks_mut(items.ncols()).zip(tastes).try_for_each(|(vector, taste)| {
            let mut vector = ndarray::aview_mut1(vector);
            match taste {
                Taste::Known(user) => vector.assign(&self.factors.users.row(*user as usize)),
                Taste::Changed(_, basket) | Taste::Basket(basket) => {
                    vector.assign(&als::fold_in(self.gram.view(), items, basket, self.alpha)?);
                }
            }
            Ok::<(), Error>(())
        })?;
        Array2::from_shape_vec((tastes.len(), items.ncols()), vectors)
            .map_err(|error| Error::internal(error.to_string()))
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
        evaluate_rows(self, rows)
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

    fn rank(&self, tastes: &[Taste], ask: &Ask) -> Result<Vec<Vec<(u32, f32)>>> {
        let vectors = self.solved(tastes)?;
        let seen: Vec<Cow<[u32]>> = tastes.iter().map(|taste| taste.seen(&self.history)).collect();
        let seen: Vec<&[u32]> = seen.iter().map(AsRef::as_ref).collect();
        topk::top_k(&topk::Query {
            users: vectors.view(),
            items: &self.items,
            k: ask.k,
            seen: ask.exclude_seen.then_some(&seen[..]),
            candidates: ask.candidates.as_deref(),
        })
    }

    fn vectors(&self, side: Side) -> Option<ArrayView2<'_, f32>> {
        Some(if side == Side::User { self.factors.users.view() } else { self.factors.items.view() })
    }
}
