//! One training run: options checked, rows held out, the model fitted, evaluated and described.

use std::sync::{Arc, Mutex};

use datafusion::arrow::array::{Array, BooleanArray};
use datafusion::arrow::compute::{filter_record_batch, not};
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::arrow::record_batch::RecordBatch;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::frame::{Artefact, Events, EventsBuilder, Feature, Features, Keys, canonical_order, column, sql_name};
use crate::kernels::Step;
use crate::models::history::{EVENT_OPTIONS, nothing_to_learn};
use crate::models::ranking::{By, RankingEvaluation, RankingMetric, evaluate_events};
use crate::models::reserve::Reserved;
use crate::models::split::{MIN_ROWS_TO_SPLIT, chosen_by_us, held_out_events, held_out_rows, tried_rows};
use crate::models::tuning::Tuning;
use crate::models::{
    Algorithm, EventLearner, FitContext, History, Input, Learner, Model, Names, Opt, Options, PredictAsk, Range,
    RowLearner, Trial,
};

/// Options that every model type takes.
const COMMON: [Opt; 7] = [
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
    Opt {
        name: "num_trials",
        aliases: &[],
        range: Range::Whole { min: 1, max: 1_000 },
        default: None,
        doc: "How many trials a search for options makes, where one is given as hparam_range(low, high) or \
              hparam_candidates(ARRAY[…]); 10 unless given, and with the grid all. Trials learn from a part of the \
              training rows and are judged on the rest of them; the rows held out for evaluation have no part in it.",
    },
    Opt {
        name: "hparam_tuning_objectives",
        aliases: &["hparam_tuning_objective"],
        range: Range::Text,
        default: None,
        doc: "The metric of evaluate() that a search makes best; unless given ndcg_at_10 of recommenders, \
              root_mean_squared_error of explicit ratings, log_loss of classes, davies_bouldin_index of clusters.",
    },
    Opt {
        name: "hparam_tuning_algorithm",
        aliases: &[],
        range: Range::Choice(&["random", "grid", "random_search", "grid_search"]),
        default: None,
        doc: "random, unless given: values are drawn by the seed, from a range over more than a decade evenly by their \
              logarithm. grid: every combination of candidates.",
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

/// The names of metrics and their values; `None`: not defined on the rows that were judged.
pub type Metrics = Vec<(String, Option<f64>)>;

/// A fitted model and what there is to say about its training.
#[derive(Debug)]
pub struct Trained {
    pub model: Arc<dyn Model>,
    /// Metric name and value on the rows held out; empty where none were.
    pub evaluation: Metrics,
    /// Of a recommender all that can be said of its rankings for the rows held out.
    pub ranking: Vec<RankingMetric>,
    pub steps: Vec<TrainingStep>,
    /// What a search for options tried.
    pub trials: Vec<Trial>,
    /// As given or chosen by a search.
    pub chosen: Options,
    /// Those and what was found from the data.
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
    Events { names: Box<Names>, builder: Box<EventsBuilder>, without_part: Vec<String> },
}

impl Intake {
    /// For what that algorithm learns from. Fails where the columns cannot be what it wants.
    pub fn new(algorithm: &dyn Algorithm, schema: &SchemaRef, options: &Options) -> Result<Self> {
        // What cannot be searched is better refused before all rows are read.
        Tuning::of(algorithm, options)?;
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
        Ok(Self::Events { names: Box::new(names), builder: Box::new(EventsBuilder::new(schema, roles)), without_part })
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
/// model, where there is one to start from. Options that are to be searched are found first, on a part of the rows that
/// are learned from: the held-out ones have no part in it.
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
    let tuning = Tuning::of(algorithm, options)?;
    let reserved = Reserved::new(cx.reserve);
    let reserve = |bytes: usize| reserved.add(bytes);
    let fits = Fits {
        kept: FitContext { progress: &counted, reserve: &reserve, ..*cx },
        tried: FitContext { notice: &|_| (), reserve: &reserve, ..*cx },
        reserved: &reserved,
        tuning: tuning.as_ref(),
    };
    let fitted = match (algorithm.learner(), intake) {
        (Learner::Rows(learner), Intake::Rows { schema, batches }) => {
            let rows = canonical_order(&schema, &batches)?;
            drop(batches);
            train_on_rows(algorithm, learner, &rows, options, &fits)?
        }
        (Learner::Events(learner), Intake::Events { names, builder, without_part }) => {
            without_part.into_iter().for_each(|remark| (cx.notice)(remark));
            train_on_events(learner, &names, builder.finish()?, options, before, &fits)?
        }
        _ => return Err(Error::internal("rows were taken in for another algorithm")),
    };
    let Fitted { model, evaluation, ranking, chosen, trials, n_rows, n_eval_rows } = fitted;
    let steps = steps.into_inner().map_err(|_| Error::internal("a training thread panicked"))?;
    let found = model.found_options().into_iter();
    let options = found.fold(chosen.clone(), |options, (name, value)| options.with(name, value));
    Ok(Trained { model, evaluation, ranking, steps, trials, chosen, options, n_rows, n_eval_rows })
}

/// A model, and how good it was on rows that it had not seen.
struct Fitted {
    model: Arc<dyn Model>,
    evaluation: Metrics,
    ranking: Vec<RankingMetric>,
    chosen: Options,
    trials: Vec<Trial>,
    n_rows: usize,
    n_eval_rows: usize,
}

/// The circumstances of the models that are fitted in one training, one after the other.
struct Fits<'a> {
    /// Of those that are evaluated or kept.
    kept: FitContext<'a>,
    /// Of those that are only tried: their steps and remarks are nobody's.
    tried: FitContext<'a>,
    reserved: &'a Reserved<'a>,
    tuning: Option<&'a Tuning>,
}

impl Fits<'_> {
    /// The options to learn with and what was tried to find them; `judge` learns with some and says how good that was.
    fn chosen(&self, options: &Options, judge: &dyn Fn(&Options) -> Result<Metrics>) -> Result<(Options, Vec<Trial>)> {
        match self.tuning {
            None => Ok((options.clone(), Vec::new())),
            Some(tuning) => tuning.search(options, &self.kept, judge),
        }
    }

    fn on_rows(
        &self,
        cx: &FitContext,
        learner: &dyn RowLearner,
        rows: &RecordBatch,
        options: &Options,
    ) -> Result<Arc<dyn Model>> {
        self.reserved.again();
        learner.fit(cx, rows, options)
    }
}

fn train_on_rows(
    algorithm: &dyn Algorithm,
    learner: &dyn RowLearner,
    rows: &RecordBatch,
    options: &Options,
    fits: &Fits,
) -> Result<Fitted> {
    let cx = &fits.kept;
    let rows = learner.accept(cx, rows, options)?;
    let held_out = held_out_rows(algorithm.task(), &rows, options, cx.seed)?.map(BooleanArray::from);
    let (mut train, mut held_out) = match held_out {
        Some(marks) => {
            let train = filter_record_batch(&rows, &not(&marks)?)?;
            (train, Some(filter_record_batch(&rows, &marks)?))
        }
        None => (rows.clone(), None),
    };
    let (chosen, trials) = fits.chosen(options, &|options| {
        let marks = BooleanArray::from(tried_rows(&train, options, cx.seed)?);
        let learned = filter_record_batch(&train, &not(&marks)?)?;
        let model = fits.on_rows(&fits.tried, learner, &learned, options)?;
        let values = model.evaluate(&filter_record_batch(&train, &marks)?, &PredictAsk::default())?;
        Ok(model.metrics().into_iter().map(str::to_owned).zip(values).collect())
    })?;
    let options = &chosen;
    let model = match fits.on_rows(cx, learner, &train, options) {
        // All rows were accepted, so it is the hold-out that took too many: a whole class, for instance.
        Err(error) if error.kind == Kind::Invalid && held_out.is_some() && chosen_by_us(options) => {
            (cx.notice)(too_few(&error));
            (train, held_out) = (rows, None);
            fits.on_rows(cx, learner, &train, options)?
        }
        fitted => fitted?,
    };
    let evaluation = match &held_out {
        Some(held_out) => evaluation(&*model, model.evaluate(held_out, &PredictAsk::default()), cx)?,
        None => Vec::new(),
    };
    let n_eval_rows = held_out.as_ref().map_or(0, RecordBatch::num_rows);
    let n_rows = train.num_rows();
    Ok(Fitted { model, evaluation, ranking: Vec::new(), chosen, trials, n_rows, n_eval_rows })
}

fn train_on_events(
    learner: &dyn EventLearner,
    names: &Names,
    events: Events,
    options: &Options,
    before: Option<&Artefact>,
    fits: &Fits,
) -> Result<Fitted> {
    let cx = &fits.kept;
    let events = accepted(names, events, cx)?;
    let n_rows = events.len();
    let held_out = held_out_events(&events, None, options, cx.seed)?;
    let learned: Vec<bool> = match &held_out {
        Some(held_out) => held_out.iter().map(|out| !out).collect(),
        None => vec![true; n_rows],
    };
    let (chosen, trials) = fits.chosen(options, &|options| {
        if learner.recipe(options) != names.recipe {
            return Err(Error::unsupported("options that change how rows are read cannot be searched"));
        }
        try_on_events(learner, names, &events, &learned, options, fits)
    })?;
    let options = &chosen;
    let fit_from = |before, history: Result<History>| {
        fits.reserved.again();
        learner.fit(cx, history?, options, before)
    };
    let fit = |history| fit_from(before, history);
    let unseen = before.filter(|_| learner.refreshes_exactly());
    let unjudged = |model: Arc<dyn Model>| Fitted {
        model,
        evaluation: Vec::new(),
        ranking: Vec::new(),
        chosen: chosen.clone(),
        trials: trials.clone(),
        n_rows,
        n_eval_rows: 0,
    };
    let Some(held_out) = held_out else {
        let history = History::of(names, &events, None);
        drop(events);
        return fit(history).map(unjudged);
    };
    let evaluated = match fit_from(unseen, History::of(names, &events, Some(&learned))) {
        Err(error) if error.kind == Kind::Invalid && chosen_by_us(options) => {
            (cx.notice)(too_few(&error));
            return fit(History::of(names, &events, None)).map(unjudged);
        }
        fitted => fitted?,
    };
    let judged = judged(&*evaluated, &events, &held_out, &By::Activity, cx);
    let n_eval_rows = held_out.iter().filter(|out| **out).count();
    let (ranking, n_users, n_cold) = match &judged {
        Ok(judged) => (judged.lines(), judged.n_users(), judged.n_cold_users()),
        Err(_) => (Vec::new(), 0, 0),
    };
    let evaluation = evaluation(&*evaluated, judged.map(|judged| judged.short()), cx)?;
    drop((evaluated, held_out, learned));
    if !ranking.is_empty() {
        (cx.notice)(format!(
            "evaluated on {n_eval_rows} rows held out ({n_users} customers, {n_cold} of them new); fitting again on all rows"
        ));
    }
    let history = History::of(names, &events, None);
    drop(events);
    let model = fit(history)?;
    Ok(Fitted { model, evaluation, ranking, chosen, trials, n_rows, n_eval_rows })
}

/// How good a model with these options is on the last part of what is learned from.
fn try_on_events(
    learner: &dyn EventLearner,
    names: &Names,
    events: &Events,
    learned: &[bool],
    options: &Options,
    fits: &Fits,
) -> Result<Metrics> {
    let cx = &fits.tried;
    let held_out = held_out_events(events, Some(learned), options, cx.seed)?
        .ok_or_else(|| Error::invalid("too few rows to hold some out and try options on them"))?;
    let learned: Vec<bool> = learned.iter().zip(&held_out).map(|(learned, out)| *learned && !out).collect();
    fits.reserved.again();
    let model = learner.fit(cx, History::of(names, events, Some(&learned))?, options, None)?;
    let values = judged(&*model, events, &held_out, &By::Nothing, cx)?.short();
    Ok(model.metrics().into_iter().map(str::to_owned).zip(values).collect())
}

/// The events that teach something, or why none does.
pub(super) fn accepted(names: &Names, events: Events, cx: &FitContext) -> Result<Events> {
    if names.recipe.explicit && names.rating.is_none() {
        return Err(Error::invalid("explicit feedback is made of ratings, and the query gives none")
            .hint("give a column of numbers beside customer and product; rating_col = '…' says which"));
    }
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
    Ok(events)
}

/// How good a model of events is on those held out.
pub(super) fn judged(
    model: &dyn Model,
    events: &Events,
    held_out: &[bool],
    by: &By,
    cx: &FitContext,
) -> Result<RankingEvaluation> {
    match model.recommender() {
        Some(recommender) => {
            evaluate_events(recommender, events, Some(held_out), by, &|| (cx.progress)(Step::QUESTION))
        }
        None => Err(Error::internal("what learned from events does not recommend")),
    }
}

fn too_few(error: &Error) -> String {
    format!("too few rows to hold some out ({error}): learning from all of them")
}

/// The metrics under their names. A hold-out without a known label or a new product is no reason to lose the model.
fn evaluation(model: &dyn Model, values: Result<Vec<Option<f64>>>, cx: &FitContext) -> Result<Metrics> {
    match values {
        Ok(values) => Ok(model.metrics().into_iter().map(str::to_owned).zip(values).collect()),
        Err(error) if error.kind == Kind::Cancelled => Err(error),
        Err(error) => {
            (cx.notice)(format!("the hold-out could not be evaluated: {error}"));
            Ok(Vec::new())
        }
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
