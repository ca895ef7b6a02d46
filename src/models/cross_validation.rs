//! How good a way to learn is, and how sure that is: trained and judged again and again, on other rows each time.

use datafusion::arrow::array::BooleanArray;
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;

use crate::error::{Error, Kind, Result};
use crate::frame::{Events, canonical_order};
use crate::models::ranking::By;
use crate::models::reserve::Reserved;
use crate::models::split::Folds;
use crate::models::train::{accepted, judged};
use crate::models::{
    Algorithm, EventLearner, FitContext, History, Intake, Learner, Metrics, Names, Options, PredictAsk, RowLearner,
    Strategy, Task,
};

/// What came of one fold.
#[derive(Debug, Clone, PartialEq)]
pub struct FoldResult {
    /// Rows learned from and rows held out.
    pub n_rows: usize,
    pub n_eval_rows: usize,
    /// As [`crate::models::Model::evaluate`] gives them.
    pub metrics: Metrics,
}

/// Trains on every fold of the rows that were taken in, and judges each model on what it has not seen.
///
/// Without a strategy: by time where a recommender's rows have one, by class where there is a label, else at random.
/// Fails where a fold cannot be learned from or judged: a mean over the others would be of something else.
pub fn cross_validate(
    algorithm: &dyn Algorithm,
    intake: Intake,
    options: &Options,
    folds: usize,
    strategy: Option<Strategy>,
    cx: &FitContext,
) -> Result<Vec<FoldResult>> {
    match (algorithm.learner(), intake) {
        (Learner::Rows(learner), Intake::Rows { schema, batches }) => {
            let usual = if algorithm.task() == Task::Classify { Strategy::Stratified } else { Strategy::Random };
            of_rows(learner, &schema, &batches, options, folds, strategy.unwrap_or(usual), cx)
        }
        (Learner::Events(learner), Intake::Events { names, builder, .. }) => {
            of_events(learner, &names, builder.finish()?, options, folds, strategy, cx)
        }
        _ => Err(Error::internal("rows were taken in for another algorithm")),
    }
}

fn of_rows(
    learner: &dyn RowLearner,
    schema: &SchemaRef,
    batches: &[RecordBatch],
    options: &Options,
    n: usize,
    strategy: Strategy,
    cx: &FitContext,
) -> Result<Vec<FoldResult>> {
    let rows = learner.accept(cx, &canonical_order(schema, batches)?, options)?;
    let folds = Folds::of_rows(strategy, n, &rows, options, cx.seed)?;
    let reserved = Reserved::new(cx.reserve);
    let cx = &FitContext { reserve: &|bytes| reserved.add(bytes), ..*cx };
    let one = |at: usize| {
        let (learned, held_out) = folds.fold(at)?;
        let learned = filter_record_batch(&rows, &BooleanArray::from(learned))?;
        let held_out = filter_record_batch(&rows, &BooleanArray::from(held_out))?;
        reserved.again();
        let model = learner.fit(cx, &learned, options)?;
        let values = model.evaluate(&held_out, &PredictAsk::default())?;
        Ok(FoldResult {
            n_rows: learned.num_rows(),
            n_eval_rows: held_out.num_rows(),
            metrics: model.metrics().into_iter().map(str::to_owned).zip(values).collect(),
        })
    };
    (0..n).map(|at| one(at).map_err(|error| of_fold(at, error))).collect()
}

fn of_events(
    learner: &dyn EventLearner,
    names: &Names,
    events: Events,
    options: &Options,
    n: usize,
    strategy: Option<Strategy>,
    cx: &FitContext,
) -> Result<Vec<FoldResult>> {
    let events = accepted(names, events, cx)?;
    let usual = if events.time.is_some() { Strategy::Time } else { Strategy::Random };
    let folds = Folds::of_events(strategy.unwrap_or(usual), n, &events, cx.seed)?;
    let reserved = Reserved::new(cx.reserve);
    let cx = &FitContext { reserve: &|bytes| reserved.add(bytes), ..*cx };
    let one = |at: usize| {
        let (learned, held_out) = folds.fold(at)?;
        reserved.again();
        let model = learner.fit(cx, History::of(names, &events, Some(&learned))?, options, None)?;
        let judged = judged(&*model, &events, &held_out, &By::Nothing, cx)?;
        let count = |marks: &[bool]| marks.iter().filter(|mark| **mark).count();
        Ok(FoldResult {
            n_rows: count(&learned),
            n_eval_rows: count(&held_out),
            metrics: model.metrics().into_iter().map(str::to_owned).zip(judged.short()).collect(),
        })
    };
    (0..n).map(|at| one(at).map_err(|error| of_fold(at, error))).collect()
}

fn of_fold(at: usize, error: Error) -> Error {
    if error.kind == Kind::Cancelled {
        return error;
    }
    Error { message: format!("fold {}: {}", at + 1, error.message), ..error }
}
