//! `popularity`: what most customers had. The baseline of every recommender, and the answer for strangers.

use std::sync::Arc;

use datafusion::arrow::datatypes::Fields;
use datafusion::arrow::record_batch::RecordBatch;

use crate::error::{Error, Result};
use crate::frame::Artefact;
use crate::models::history::{self, History};
use crate::models::matrix_factorization::{RANKING_METRICS, ROLE_OPTIONS, evaluate_pairs};
use crate::models::recommender::popular;
use crate::models::{Algorithm, Ask, FitContext, Model, Opt, Options, PredictAsk, Recommender, Signature, Task};

pub struct Popularity;

#[derive(Debug)]
struct PopularityModel {
    history: History,
    signature: Signature,
}

impl Algorithm for Popularity {
    fn name(&self) -> &'static str {
        "popularity"
    }

    fn doc(&self) -> &'static str {
        "Recommends to everyone the products that most customers had. The baseline that any other recommender has \
         to beat. The score is the share of customers who had the product."
    }

    fn example(&self) -> &'static str {
        "CREATE MODEL bestsellers OPTIONS (model_type = 'popularity') AS\n\
         SELECT customer_id, product_id FROM interactions WHERE event_type = 'purchase'"
    }

    fn task(&self) -> Task {
        Task::Recommend
    }

    /// It has no vectors, by which products could be alike.
    fn answers(&self) -> &'static [&'static str] {
        &["recommend", "evaluate", "evaluate_ranking"]
    }

    fn options(&self) -> &'static [Opt] {
        &ROLE_OPTIONS
    }

    fn accept(&self, cx: &FitContext, rows: &RecordBatch, options: &Options) -> Result<RecordBatch> {
        history::accept(cx, rows, options)
    }

    fn fit(&self, cx: &FitContext, rows: &RecordBatch, options: &Options) -> Result<Arc<dyn Model>> {
        let history = History::from_rows(rows, options)?;
        if !(cx.progress)(crate::kernels::Step { done: 1, total: 1, loss: None }) {
            return Err(Error::cancelled());
        }
        Ok(Arc::new(PopularityModel::new(history)))
    }

    fn load(&self, artefact: &Artefact) -> Result<Arc<dyn Model>> {
        Ok(Arc::new(PopularityModel::new(History::load(artefact)?)))
    }
}

impl PopularityModel {
    fn new(history: History) -> Self {
        let signature = Signature { inputs: history.names.inputs.clone(), label: None, outputs: Fields::empty() };
        Self { history, signature }
    }
}

impl Model for PopularityModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn artefact(&self) -> Result<Artefact> {
        self.history.save(Artefact::new(serde_json::json!({})))
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

impl Recommender for PopularityModel {
    fn history(&self) -> &History {
        &self.history
    }

    fn source(&self) -> &'static str {
        "popular"
    }

    fn rank(&self, users: &[u32], ask: &Ask) -> Result<Vec<Vec<(u32, f32)>>> {
        let without = |user: &u32| if ask.exclude_seen { self.history.seen_by(*user) } else { &[] };
        Ok(users.iter().map(|user| popular(&self.history, without(user), ask)).collect())
    }

    fn rank_basket(&self, basket: &[(u32, f32)], ask: &Ask) -> Result<Vec<(u32, f32)>> {
        let without: Vec<u32> = basket.iter().map(|(item, _)| *item).collect();
        Ok(popular(&self.history, if ask.exclude_seen { &without } else { &[] }, ask))
    }

    fn similar_items(&self, _item: u32, _k: usize) -> Result<Vec<(u32, f32)>> {
        Err(Error::unsupported("a popularity model does not know which products are alike")
            .hint("train a matrix_factorization model for similar_items()"))
    }
}
