//! `popularity`: what most customers had. The baseline of every recommender, and the answer for strangers.

use std::borrow::Cow;
use std::sync::Arc;

use datafusion::arrow::datatypes::Fields;
use datafusion::arrow::record_batch::RecordBatch;

use crate::error::{Error, Result};
use crate::frame::Artefact;
use crate::models::ranking::{RANKING_METRICS, evaluate_rows};
use crate::models::recommender::popular;
use crate::models::{
    Algorithm, Ask, EventLearner, FitContext, History, Learner, Model, Opt, Options, PredictAsk, Recommender,
    Signature, Task, Taste,
};

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

    fn answers(&self) -> &'static [&'static str] {
        &["recommend", "recommend_users", "similar_items", "similar_users", "lookalike", "evaluate", "evaluate_ranking"]
    }

    fn options(&self) -> &'static [Opt] {
        &[]
    }

    fn learner(&self) -> Learner {
        Learner::Events(&Self)
    }

    fn load(&self, artefact: &Artefact) -> Result<Arc<dyn Model>> {
        Ok(Arc::new(PopularityModel::new(History::load(artefact)?)))
    }
}

impl EventLearner for Popularity {
    fn fit(
        &self,
        cx: &FitContext,
        history: History,
        _options: &Options,
        _before: Option<&Artefact>,
    ) -> Result<Arc<dyn Model>> {
        if !(cx.progress)(crate::kernels::Step { done: 1, total: 1, loss: None }) {
            return Err(Error::cancelled());
        }
        Ok(Arc::new(PopularityModel::new(history)))
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
        evaluate_rows(self, rows)
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

    fn rank(&self, tastes: &[Taste], ask: &Ask) -> Result<Vec<Vec<(u32, f32)>>> {
        let ranked = |taste: &Taste| {
            let without = if ask.exclude_seen { taste.seen(&self.history) } else { Cow::default() };
            popular(&self.history, &without, ask)
        };
        Ok(tastes.iter().map(ranked).collect())
    }
}
