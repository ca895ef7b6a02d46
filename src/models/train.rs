//! One training run: options checked, rows held out, the model fitted, evaluated and described.

use std::sync::{Arc, Mutex};

use datafusion::arrow::array::{Array, AsArray, BooleanArray};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::arrow::record_batch::RecordBatch;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::frame::{
    Artefact, Events, EventsBuilder, Feature, Features, Keys, NO_TIME, canonical_order, column, numbers, row_hashes,
    sql_name,
};
use crate::kernels::Step;
use crate::models::history::{EVENT_OPTIONS, nothing_to_learn};
use crate::models::ranking::{By, RankingMetric, evaluate_events};
use crate::models::{
    Algorithm, EventLearner, FitContext, History, Input, Learner, Model, Names, Opt, Options, PredictAsk, Range,
    RowLearner, Task,
};

/// Options that every model type takes.
const COMMON: [Opt; 4] = [
    Opt {
        name: "seed",
        aliases: &["random_state"],
        range: Range::Whole { min: 0, max: i64::MAX },
        default: Some("0"),
        doc: "The same data, statement and seed give the same model, bit for bit.",
    },
    Opt {
        name: "data_split_method",
        aliases: &[],
        range: Range::Choice(&["AUTO_SPLIT", "RANDOM", "CUSTOM", "SEQ", "LEAVE_LAST", "NO_SPLIT"]),
        default: Some("AUTO_SPLIT"),
        doc: "Which rows are held out for evaluation. RANDOM: by a hash of the row; for a recommender, of the customer and \
              the product. SEQ: the last ones by data_split_col. CUSTOM: those where data_split_col is true. LEAVE_LAST: \
              what each customer took last, for recommenders. AUTO_SPLIT: of a recommender whose query has a timestamp \
              the latest rows of all, else RANDOM; none for clusters and tiers, and none under 50 rows.",
    },
    Opt {
        name: "data_split_col",
        aliases: &[],
        range: Range::Text,
        default: None,
        doc: "The column that SEQ and CUSTOM split by. It is not learned from.",
    },
    Opt {
        name: "data_split_eval_fraction",
        aliases: &[],
        range: Range::Number { min: 0.0, max: 0.9 },
        default: Some("0.2"),
        doc: "Share of the rows held out by AUTO_SPLIT, RANDOM and SEQ.",
    },
];

/// The label's column, for models that have one.
pub(super) const LABEL_COLS: Opt = Opt {
    name: "input_label_cols",
    aliases: &["label", "label_col", "target"],
    range: Range::Texts,
    default: None,
    doc: "The column to learn; \"label\" unless named. Rows where it is NULL are skipped.",
};

pub fn common_options() -> &'static [Opt] {
    &COMMON
}

/// All options of an algorithm: its own, those of events where it learns from them, then the common ones.
pub fn declared_options(algorithm: &'static dyn Algorithm) -> impl Iterator<Item = &'static Opt> + Clone {
    let events: &'static [Opt] = if let Learner::Events(_) = algorithm.learner() { &EVENT_OPTIONS } else { &[] };
    events.iter().chain(algorithm.options()).chain(COMMON.iter())
}

/// A fitted model and what there is to say about its training.
#[derive(Debug)]
pub struct Trained {
    pub model: Arc<dyn Model>,
    /// Metric name and value on the rows held out; empty where none were.
    pub evaluation: Vec<(String, Option<f64>)>,
    /// Of a recommender all that can be said of its rankings for the rows held out.
    pub ranking: Vec<RankingMetric>,
    pub steps: Vec<TrainingStep>,
    /// As given, and with what was found from the data.
    pub options: Options,
    pub n_rows: usize,
    pub n_eval_rows: usize,
}

/// One step of the training loop, for `ml.training_info`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingStep {
    pub iteration: usize,
    pub loss: Option<f64>,
}

/// The rows of a training query on their way in: as they are, or as events.
pub enum Intake {
    Rows { schema: SchemaRef, batches: Vec<RecordBatch> },
    Events { names: Names, builder: Box<EventsBuilder>, without_part: Vec<String> },
}

impl Intake {
    /// For what that algorithm learns from. Fails where the columns cannot be what it wants.
    pub fn new(algorithm: &dyn Algorithm, schema: &SchemaRef, options: &Options) -> Result<Self> {
        let Learner::Events(learner) = algorithm.learner() else {
            return Ok(Self::Rows { schema: Arc::clone(schema), batches: Vec::new() });
        };
        let (names, roles) = Names::find(schema, options, &learner.traits(options), learner.recipe(options))?;
        let cure = if roles.rating.is_none() { "; a rating must be a number, such as count(*)" } else { "" };
        let without_part = schema.fields().iter().enumerate().filter(|(at, _)| !roles.has(*at));
        let without_part = without_part.map(|(_, field)| {
            let (name, data_type) = (field.name(), sql_name(field.data_type()));
            format!("column \"{name}\" of type {data_type} is not learned from{cure}")
        });
        let without_part = without_part.collect();
        Ok(Self::Events { names, builder: Box::new(EventsBuilder::new(schema, roles)), without_part })
    }

    pub fn push(&mut self, rows: RecordBatch) -> Result<()> {
        match self {
            Self::Rows { batches, .. } => batches.push(rows),
            Self::Events { builder, .. } => builder.push(&rows)?,
        }
        Ok(())
    }

    /// About the memory that it and what training makes of it take.
    pub fn bytes(&self) -> usize {
        match self {
            // The rows, their sorted copy, and about as much again for the matrix.
            Self::Rows { batches, .. } => 3 * batches.iter().map(RecordBatch::get_array_memory_size).sum::<usize>(),
            // The events and two matrices of them.
            Self::Events { builder, .. } => 2 * builder.bytes(),
        }
    }
}

/// Trains on the rows that were taken in.
///
/// A recommender that was evaluated on held-out events is then fitted again on all of them: what customers bought last
/// is what it should know best. Other models are the ones that were evaluated. `before` is an earlier version of the
/// model, where there is one to start from.
pub fn train(
    algorithm: &dyn Algorithm,
    intake: Intake,
    options: &Options,
    before: Option<&Artefact>,
    cx: &FitContext,
) -> Result<Trained> {
    let steps = Mutex::new(Vec::new());
    let counted = |step: Step| {
        if step != Step::QUESTION
            && let Ok(mut steps) = steps.lock()
        {
            // A step told again is a question whether to go on.
            let last = steps.last().map_or(0, |last: &TrainingStep| last.iteration);
            if step.done < last {
                // Fitted again on more rows: what is told is of the model that stays.
                steps.clear();
            }
            if last != step.done {
                steps.push(TrainingStep { iteration: step.done, loss: step.loss });
            }
        }
        (cx.progress)(step)
    };
    let cx = FitContext { progress: &counted, ..*cx };
    let fitted = match (algorithm.learner(), intake) {
        (Learner::Rows(learner), Intake::Rows { schema, batches }) => {
            let rows = canonical_order(&schema, &batches)?;
            drop(batches);
            train_on_rows(algorithm, learner, &rows, options, &cx)?
        }
        (Learner::Events(learner), Intake::Events { names, builder, without_part }) => {
            without_part.into_iter().for_each(|remark| (cx.notice)(remark));
            train_on_events(learner, &names, builder.finish()?, options, before, &cx)?
        }
        _ => return Err(Error::internal("rows were taken in for another algorithm")),
    };
    let Fitted { model, evaluation, ranking, n_rows, n_eval_rows } = fitted;
    let steps = steps.into_inner().map_err(|_| Error::internal("a training thread panicked"))?;
    let options =
        model.found_options().into_iter().fold(options.clone(), |options, (name, value)| options.with(name, value));
    Ok(Trained { model, evaluation, ranking, steps, options, n_rows, n_eval_rows })
}

/// A model, and how good it was on rows that it had not seen.
struct Fitted {
    model: Arc<dyn Model>,
    evaluation: Vec<(String, Option<f64>)>,
    ranking: Vec<RankingMetric>,
    n_rows: usize,
    n_eval_rows: usize,
}

impl Fitted {
    /// Of which nothing is known but that it learned from so many rows.
    fn unjudged(model: Arc<dyn Model>, n_rows: usize) -> Self {
        Self { model, evaluation: Vec::new(), ranking: Vec::new(), n_rows, n_eval_rows: 0 }
    }
}

fn train_on_rows(
    algorithm: &dyn Algorithm,
    learner: &dyn RowLearner,
    rows: &RecordBatch,
    options: &Options,
    cx: &FitContext,
) -> Result<Fitted> {
    let rows = learner.accept(cx, rows, options)?;
    let held_out = held_out_rows(algorithm.task(), &rows, options, cx.seed)?.map(BooleanArray::from);
    let (mut train, mut held_out) = match held_out {
        Some(marks) => {
            let train = filter_record_batch(&rows, &datafusion::arrow::compute::not(&marks)?)?;
            (train, Some(filter_record_batch(&rows, &marks)?))
        }
        None => (rows.clone(), None),
    };
    let model = match learner.fit(cx, &train, options) {
        // All rows were accepted, so it is the hold-out that took too many: a whole class, for instance.
        Err(error) if error.kind == Kind::Invalid && held_out.is_some() && chosen_by_us(options) => {
            (cx.notice)(too_few(&error));
            (train, held_out) = (rows, None);
            learner.fit(cx, &train, options)?
        }
        fitted => fitted?,
    };
    let evaluation = match &held_out {
        Some(held_out) => evaluation(&*model, model.evaluate(held_out, &PredictAsk::default()), cx)?,
        None => Vec::new(),
    };
    let n_eval_rows = held_out.as_ref().map_or(0, RecordBatch::num_rows);
    Ok(Fitted { model, evaluation, ranking: Vec::new(), n_rows: train.num_rows(), n_eval_rows })
}

fn train_on_events(
    learner: &dyn EventLearner,
    names: &Names,
    events: Events,
    options: &Options,
    before: Option<&Artefact>,
    cx: &FitContext,
) -> Result<Fitted> {
    let n_read = events.n_read;
    let events = if names.recipe.explicit { events } else { events.taught()? };
    if events.is_empty() {
        return Err(nothing_to_learn(&events));
    }
    if events.len() < n_read {
        let which = match names.recipe.explicit {
            true => "without a customer, a product or a rating",
            false => "without a customer or product, or without a rating above zero in all",
        };
        (cx.notice)(format!("skipped {} of {n_read} rows: {which}", n_read - events.len()));
    }
    let n_rows = events.len();
    let Some(held_out) = held_out_events(&events, options, cx.seed)? else {
        let history = History::of(names, &events, None)?;
        drop(events);
        return Ok(Fitted::unjudged(learner.fit(cx, history, options, before)?, n_rows));
    };
    let learned: Vec<bool> = held_out.iter().map(|out| !out).collect();
    let fit = |history: Result<History>| learner.fit(cx, history?, options, before);
    let evaluated = match fit(History::of(names, &events, Some(&learned))) {
        Err(error) if error.kind == Kind::Invalid && chosen_by_us(options) => {
            (cx.notice)(too_few(&error));
            return Ok(Fitted::unjudged(fit(History::of(names, &events, None))?, n_rows));
        }
        fitted => fitted?,
    };
    let judged = match evaluated.recommender() {
        Some(recommender) => {
            evaluate_events(recommender, &events, Some(&held_out), &By::Activity, &|| (cx.progress)(Step::QUESTION))
        }
        None => Err(Error::internal("what learned from events does not recommend")),
    };
    let n_eval_rows = held_out.iter().filter(|out| **out).count();
    let (ranking, n_users, n_cold) = match &judged {
        Ok(judged) => (judged.lines(), judged.n_users(), judged.n_cold_users()),
        Err(_) => (Vec::new(), 0, 0),
    };
    let evaluation = evaluation(&*evaluated, judged.map(|judged| judged.short()), cx)?;
    drop((evaluated, held_out, learned));
    if !ranking.is_empty() {
        (cx.notice)(format!(
            "evaluated on {n_eval_rows} rows held out, of {n_users} customers with something new, {n_cold} of them unknown \
             to the training; fitting again on all rows"
        ));
    }
    let history = History::of(names, &events, None)?;
    drop(events);
    Ok(Fitted { model: learner.fit(cx, history, options, before)?, evaluation, ranking, n_rows, n_eval_rows })
}

fn too_few(error: &Error) -> String {
    format!("too few rows to hold some out ({error}): learning from all of them")
}

/// The metrics under their names. A hold-out without a known label or a new product is no reason to lose the model.
fn evaluation(
    model: &dyn Model,
    values: Result<Vec<Option<f64>>>,
    cx: &FitContext,
) -> Result<Vec<(String, Option<f64>)>> {
    match values {
        Ok(values) => Ok(model.metrics().into_iter().map(str::to_owned).zip(values).collect()),
        Err(error) if error.kind == Kind::Cancelled => Err(error),
        Err(error) => {
            (cx.notice)(format!("the hold-out could not be evaluated: {error}"));
            Ok(Vec::new())
        }
    }
}

/// Whether nobody asked for a hold-out by name.
fn chosen_by_us(options: &Options) -> bool {
    options.text("data_split_method").is_none_or(|method| method == "AUTO_SPLIT")
}

/// Fewer rows than this are all needed for learning.
const MIN_ROWS_TO_SPLIT: usize = 50;

/// Which rows are held out; `None`: none.
fn held_out_rows(task: Task, rows: &RecordBatch, options: &Options, seed: u64) -> Result<Option<Vec<bool>>> {
    let fraction = options.number("data_split_eval_fraction")?;
    let column_given = options.text("data_split_col").map(|name| column(&rows.schema(), name)).transpose()?;
    let by_column = |method: &str| {
        column_given.ok_or_else(|| Error::invalid(format!("data_split_method {method} needs data_split_col")))
    };
    let held_out = match options.text("data_split_method").unwrap_or("AUTO_SPLIT") {
        "NO_SPLIT" => return Ok(None),
        "LEAVE_LAST" => return Err(only_for_recommenders()),
        "RANDOM" => by_hash(row_hashes(rows, seed)?, fraction),
        "SEQ" => {
            let at = by_column("SEQ")?;
            check_order(rows.column(at).data_type())?;
            last(&numbers(rows.column(at))?, fraction)
        }
        "CUSTOM" => {
            let at = by_column("CUSTOM")?;
            check_marks(rows.column(at).data_type())?;
            let marks = rows.column(at).as_boolean();
            (0..marks.len()).map(|row| marks.is_valid(row) && marks.value(row)).collect()
        }
        _ if matches!(task, Task::Cluster | Task::Segment) || rows.num_rows() < MIN_ROWS_TO_SPLIT => return Ok(None),
        _ => by_hash(row_hashes(rows, seed)?, fraction),
    };
    not_all(held_out)
}

/// Which events are held out; `None`: none.
fn held_out_events(events: &Events, options: &Options, seed: u64) -> Result<Option<Vec<bool>>> {
    let fraction = options.number("data_split_eval_fraction")?;
    let by_column = |method: &str| {
        events.split.as_ref().ok_or_else(|| Error::invalid(format!("data_split_method {method} needs data_split_col")))
    };
    let known = |value: &f64| (!value.is_nan()).then_some(*value);
    let moment = |time: &i64| (*time != NO_TIME).then_some(*time);
    let held_out = match options.text("data_split_method").unwrap_or("AUTO_SPLIT") {
        "NO_SPLIT" => return Ok(None),
        "LEAVE_LAST" => match &events.time {
            Some(times) => last_of_each(events, times),
            None => {
                return Err(Error::invalid("data_split_method LEAVE_LAST needs a timestamp or a date in the query")
                    .hint("give one and name it: time_col = '…'"));
            }
        },
        "SEQ" => last(&by_column("SEQ")?.iter().map(known).collect::<Vec<_>>(), fraction),
        "CUSTOM" => by_column("CUSTOM")?.iter().map(|mark| *mark > 0.0).collect(),
        method => {
            if method == "AUTO_SPLIT" && events.len() < MIN_ROWS_TO_SPLIT {
                return Ok(None);
            }
            let latest = match &events.time {
                Some(times) if method == "AUTO_SPLIT" => {
                    Some(last(&times.iter().map(moment).collect::<Vec<_>>(), fraction))
                }
                _ => None,
            };
            match latest {
                // Where all rows are of one moment, none is the latest.
                Some(latest) if !latest.iter().all(|out| *out) => latest,
                _ => by_hash(events.pair_hashes(seed), fraction),
            }
        }
    };
    not_all(held_out)
}

fn not_all(held_out: Vec<bool>) -> Result<Option<Vec<bool>>> {
    if held_out.iter().all(|out| *out) {
        return Err(Error::invalid("the split holds out every row: nothing is left to learn from"));
    }
    Ok(held_out.contains(&true).then_some(held_out))
}

fn by_hash(hashes: Vec<u64>, fraction: f64) -> Vec<bool> {
    let limit = (fraction * u64::MAX as f64) as u64;
    hashes.into_iter().map(|hash| hash < limit).collect()
}

/// The last by a value; those with the same value stay together, and what has none is early.
fn last<T: PartialOrd + Copy>(values: &[Option<T>], fraction: f64) -> Vec<bool> {
    let mut known: Vec<T> = values.iter().copied().flatten().collect();
    let first_out = ((known.len() as f64) * (1.0 - fraction)).floor() as usize;
    if first_out >= known.len() {
        return vec![false; values.len()];
    }
    let (_, border, _) =
        known.select_nth_unstable_by(first_out, |a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    let border = *border;
    values.iter().map(|value| value.is_some_and(|value| value >= border)).collect()
}

/// Each customer's events of their last moment, if they have earlier ones.
fn last_of_each(events: &Events, times: &[i64]) -> Vec<bool> {
    let (mut first, mut last) = (vec![i64::MAX; events.users.len()], vec![NO_TIME; events.users.len()]);
    for (user, time) in events.user.iter().zip(times) {
        let user = *user as usize;
        (first[user], last[user]) = (first[user].min(*time), last[user].max(*time));
    }
    let is_last = |(user, time): (&u32, &i64)| *time == last[*user as usize] && *time > first[*user as usize];
    events.user.iter().zip(times).map(is_last).collect()
}

fn only_for_recommenders() -> Error {
    Error::invalid("data_split_method LEAVE_LAST is for models that recommend")
        .hint("use SEQ with data_split_col to hold out the last rows")
}

fn check_order(given: &DataType) -> Result<()> {
    if given.is_numeric() || given.is_temporal() {
        return Ok(());
    }
    let given = sql_name(given);
    Err(Error::new(Kind::WrongType, format!("data_split_col must have an order in time, not be {given}"))
        .hint("SEQ holds out the last rows by a number, date or timestamp"))
}

fn check_marks(given: &DataType) -> Result<()> {
    if given == &DataType::Boolean {
        return Ok(());
    }
    Err(Error::new(Kind::WrongType, format!("data_split_col must be boolean, not {}", sql_name(given)))
        .hint("true marks the rows to hold out"))
}

/// Whether the column that a split is by can be split by.
pub(super) fn check_split_column(options: &Options, given: &DataType) -> Result<()> {
    match options.text("data_split_method") {
        Some("SEQ") => check_order(given),
        Some("CUSTOM") => check_marks(given),
        _ => Ok(()),
    }
}

/// The columns to learn from: all but the label, the ids and the split column.
pub(super) fn feature_names(rows: &RecordBatch, options: &Options, label: Option<&str>) -> Result<Vec<String>> {
    let schema = rows.schema();
    let ids = options.texts("id_col").unwrap_or_default();
    for id in ids {
        column(&schema, id)?;
    }
    let left_out = |name: &str| {
        label.is_some_and(|label| label == name)
            || ids.iter().any(|id| id.eq_ignore_ascii_case(name))
            || options.text("data_split_col").is_some_and(|split| split.eq_ignore_ascii_case(name))
    };
    let names: Vec<String> =
        schema.fields().iter().map(|field| field.name().clone()).filter(|name| !left_out(name)).collect();
    let mut sorted: Vec<&String> = names.iter().collect();
    sorted.sort();
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(twice) => Err(Error::new(Kind::DuplicateColumn, format!("column \"{}\" appears twice", twice[0]))),
        None => Ok(names),
    }
}

/// The inputs of a model with these features, with the types they had in training.
pub(super) fn inputs(schema: &Schema, features: &Features) -> Result<Vec<Input>> {
    let input = |feature: &Feature| {
        let data_type = schema.field(column(schema, feature.name())?).data_type();
        let role = match feature {
            Feature::Number { .. } => "number",
            Feature::Category { .. } => "category",
            Feature::Time { .. } => "time",
        };
        Ok(Input { name: feature.name().to_owned(), data_type: sql_name(data_type), role: role.to_owned() })
    };
    features.features.iter().map(input).collect()
}

/// Says which columns look like the name of a row rather than like something about it.
pub(super) fn warn_of_ids(cx: &FitContext, rows: &RecordBatch, names: &[String]) -> Result<()> {
    for name in names {
        let array = rows.column(column(&rows.schema(), name)?);
        let whole = array.data_type().is_integer();
        let called_id = name.eq_ignore_ascii_case("id")
            || name.to_lowercase().ends_with("_id")
            || name.ends_with("Id")
            || name.ends_with("ID");
        let why = if called_id && !array.data_type().is_floating() {
            "is called an id"
        } else if whole && array.len() >= MIN_ROWS_TO_SPLIT && Keys::of(array)?.0.len() == array.len() {
            "is another whole number in each row"
        } else {
            continue;
        };
        (cx.notice)(format!(
            "column \"{name}\" {why}, and is learned from; if it only names the row, leave it out: id_col = '{name}'"
        ));
    }
    Ok(())
}
