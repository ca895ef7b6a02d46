//! The two traits of the room: a way to learn, and what learning leaves behind.

use std::fmt::Debug;
use std::sync::Arc;

use datafusion::arrow::array::{Float64Array, StringArray};
use datafusion::arrow::datatypes::Fields;
use datafusion::arrow::record_batch::RecordBatch;

use crate::error::{Error, Result};
use crate::frame::{Artefact, Side};
use crate::kernels::Progress;
use crate::models::ranking;
use crate::models::{History, Opt, Options, Recipe, Recommender, Value};

/// A way to learn from rows: one file, one unit struct, one line in [`super::ALGORITHMS`].
pub trait Algorithm: Send + Sync {
    /// File name, `model_type` in SQL and anchor in the manual.
    fn name(&self) -> &'static str;
    /// What it does, for the manual: a sentence or two, with the source.
    fn doc(&self) -> &'static str;
    /// A statement that trains one on the demo shop.
    fn example(&self) -> &'static str;
    fn task(&self) -> Task;
    /// The functions that take such a model, for the manual.
    fn answers(&self) -> &'static [&'static str] {
        match self.task() {
            Task::Recommend => &[
                "recommend",
                "recommend_users",
                "similar_items",
                "similar_users",
                "lookalike",
                "explain_recommendation",
                "embed",
                "factors",
                "evaluate",
                "evaluate_ranking",
            ],
            Task::Classify => &["predict", "segment", "weights", "evaluate"],
            Task::Cluster => &["predict", "segment", "centroids", "evaluate"],
            Task::Segment => &["predict", "segment", "evaluate"],
        }
    }
    fn options(&self) -> &'static [Opt];
    /// How it learns.
    fn learner(&self) -> Learner;
    /// Reads back what [`Model::artefact`] gave.
    fn load(&self, artefact: &Artefact) -> Result<Arc<dyn Model>>;
}

/// The two ways to learn: from rows of features, and from events of customers and products.
#[derive(Clone, Copy)]
pub enum Learner {
    Rows(&'static dyn RowLearner),
    Events(&'static dyn EventLearner),
}

/// Learns from rows that each describe one thing.
pub trait RowLearner: Send + Sync {
    /// Those of the query's rows that can be learned from, or why none can.
    ///
    /// It is asked before any are held out, so that errors and remarks speak of the rows that the query gave.
    fn accept(&self, cx: &FitContext, rows: &RecordBatch, options: &Options) -> Result<RecordBatch>;
    /// Learns from `rows`, which are in canonical order and were accepted.
    fn fit(&self, cx: &FitContext, rows: &RecordBatch, options: &Options) -> Result<Arc<dyn Model>>;
}

/// Learns from who did what with which product.
pub trait EventLearner: Send + Sync {
    /// How rows become ratings.
    fn recipe(&self, options: &Options) -> Recipe {
        Recipe { half_life: options.given_number("half_life"), ..Recipe::default() }
    }
    /// Columns that say something about customers or products.
    fn traits(&self, _options: &Options) -> Vec<(Side, String)> {
        Vec::new()
    }
    /// Whether what it learns from an earlier model is what it would learn anew. Where not, the earlier model, which saw all
    /// rows, has no part in what is evaluated.
    fn refreshes_exactly(&self) -> bool {
        false
    }
    /// Learns from a history. `before` is an earlier model of the same options, to start from where that helps.
    fn fit(
        &self,
        cx: &FitContext,
        history: History,
        options: &Options,
        before: Option<&Artefact>,
    ) -> Result<Arc<dyn Model>>;
}

/// What a model is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    Recommend,
    Classify,
    Cluster,
    Segment,
}

/// The circumstances of one training run.
pub struct FitContext<'a> {
    pub seed: u64,
    /// Is told of each step; `false` stops the training.
    pub progress: Progress<'a>,
    /// Remarks for the person who trains: skipped rows, likely leakage.
    pub notice: &'a (dyn Fn(String) + Sync),
    /// Sets aside that many bytes for the rest of the training, or says that there are not so many.
    pub reserve: &'a (dyn Fn(usize) -> Result<()> + Sync),
}

/// What training leaves behind. Answers questions; never changes.
pub trait Model: Send + Sync + Debug {
    fn signature(&self) -> &Signature;

    /// Options that were not given and were found from the data, with the values used.
    fn found_options(&self) -> Vec<(&'static str, Value)> {
        Vec::new()
    }

    /// The model as data.
    fn artefact(&self) -> Result<Artefact>;

    /// One row of [`Signature::outputs`] for each row; inputs are found by name.
    fn predict(&self, _rows: &RecordBatch, _ask: &PredictAsk) -> Result<RecordBatch> {
        Err(Error::unsupported("this model does not predict"))
    }

    /// The segment of each row and how sure the model is of it, 0 to 1.
    fn segment(&self, _rows: &RecordBatch) -> Result<(StringArray, Float64Array)> {
        Err(Error::unsupported("this model has no segments")
            .hint("segment() works on kmeans, rfm and classification models"))
    }

    /// Names of the columns that [`Model::evaluate`] fills, in order.
    fn metrics(&self) -> Vec<&'static str> {
        self.recommender().map(ranking::metrics).unwrap_or_default()
    }

    /// How good the model is on rows it has not seen, and how good the baseline. `None`: not defined on these rows.
    fn evaluate(&self, rows: &RecordBatch, _ask: &PredictAsk) -> Result<Vec<Option<f64>>> {
        match self.recommender() {
            Some(recommender) => ranking::evaluate_rows(recommender, rows),
            None => Err(Error::unsupported("this model cannot be evaluated")),
        }
    }

    fn recommender(&self) -> Option<&dyn Recommender> {
        None
    }

    /// A part of the model as a table: `weights`, `centroids`, …
    fn table(&self, name: &str) -> Result<RecordBatch> {
        Err(Error::unsupported(format!("this model has no {name}")))
    }
}

/// What may be asked of a prediction besides its rows.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct PredictAsk {
    /// The probability from which the positive class is predicted; `None`: one half, or the largest of many.
    pub threshold: Option<f64>,
}

/// What a model takes and gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Signature {
    pub inputs: Vec<Input>,
    /// The column it learned to predict.
    pub label: Option<String>,
    pub outputs: Fields,
}

impl Signature {
    /// The columns that an answer is made of: of a recommender the customer and the product alone.
    pub fn asked(&self) -> &[Input] {
        match self.inputs.first() {
            Some(first) if first.role == "user" => &self.inputs[..2.min(self.inputs.len())],
            _ => &self.inputs,
        }
    }
}

/// One column that a model reads.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Input {
    pub name: String,
    /// The SQL type it had in training.
    pub data_type: String,
    /// How it is used: `number`, `category`, `time`, `user`, `item`, `rating`.
    pub role: String,
}
