//! One training run: options checked, rows held out, the model fitted, evaluated and described.

use std::sync::{Arc, Mutex};

use datafusion::arrow::array::{Array, BooleanArray};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::Schema;
use datafusion::arrow::record_batch::RecordBatch;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::frame::{Feature, Features, Keys, Roles, column, numbers, row_hashes, sql_name};
use crate::kernels::{Progress, Step};
use crate::models::{Algorithm, FitContext, Input, Model, Opt, Options, PredictAsk, Range, Task};

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
        range: Range::Choice(&["AUTO_SPLIT", "RANDOM", "CUSTOM", "SEQ", "NO_SPLIT"]),
        default: Some("AUTO_SPLIT"),
        doc: "Which rows are held out for evaluation. RANDOM: by a hash of the row. SEQ: the last ones by \
              data_split_col. CUSTOM: those where data_split_col is true. AUTO_SPLIT: by time where a recommender's \
              query has a timestamp, else RANDOM; none for clusters and tiers, and none under 50 rows.",
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
        doc: "Share of the rows held out by RANDOM and SEQ.",
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

/// All options of an algorithm: its own, then the common ones.
pub fn declared_options(algorithm: &'static dyn Algorithm) -> impl Iterator<Item = &'static Opt> + Clone {
    algorithm.options().iter().chain(COMMON.iter())
}

/// A fitted model and what there is to say about its training.
#[derive(Debug)]
pub struct Trained {
    pub model: Arc<dyn Model>,
    /// Metric name and value on the rows held out; empty where none were.
    pub evaluation: Vec<(String, Option<f64>)>,
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

/// Trains on `rows` (in canonical order).
///
/// A recommender that was evaluated on held-out rows is then fitted again on all of them: what customers bought last
/// is what it should know best. Other models are the ones that were evaluated.
pub fn train(
    algorithm: &dyn Algorithm,
    rows: &RecordBatch,
    options: &Options,
    progress: Progress,
    notice: &(dyn Fn(String) + Sync),
) -> Result<Trained> {
    let seed = options.whole("seed")? as u64;
    let rows = &algorithm.accept(&FitContext { seed, progress, notice }, rows, options)?;
    let (mut train, mut held_out) = split(algorithm.task(), rows, options, seed)?;
    let steps = Mutex::new(Vec::new());
    let fit = |rows: &RecordBatch| {
        let counted = |step: Step| {
            if let Ok(mut steps) = steps.lock() {
                // A step told again is a question whether to go on.
                if steps.last().map_or(0, |last: &TrainingStep| last.iteration) != step.done {
                    steps.push(TrainingStep { iteration: step.done, loss: step.loss });
                }
            }
            progress(step)
        };
        algorithm.fit(&FitContext { seed, progress: &counted, notice }, rows, options)
    };
    let mut model = match fit(&train) {
        // All rows were accepted, so it is the hold-out that took too many: a whole class, for instance.
        Err(error) if error.kind == Kind::Invalid && held_out.is_some() && chosen_by_us(options) => {
            notice(format!("too few rows to hold some out ({error}): learning from all of them"));
            (train, held_out) = (rows.clone(), None);
            fit(&train)?
        }
        fitted => fitted?,
    };
    let mut evaluation = Vec::new();
    if let Some(held_out) = &held_out {
        match model.evaluate(held_out, &PredictAsk::default()) {
            Ok(values) => evaluation = model.metrics().into_iter().map(str::to_owned).zip(values).collect(),
            // A hold-out without a known label or a new product is no reason to lose the model.
            Err(error) => notice(format!("the hold-out could not be evaluated: {error}")),
        }
        if algorithm.task() == Task::Recommend {
            if let Ok(mut steps) = steps.lock() {
                steps.clear();
            }
            notice(format!("evaluated on {} rows held out; fitting again on all rows", held_out.num_rows()));
            model = fit(rows)?;
        }
    }
    let n_eval_rows = held_out.as_ref().map_or(0, RecordBatch::num_rows);
    let n_rows = if algorithm.task() == Task::Recommend { rows.num_rows() } else { train.num_rows() };
    let steps = steps.into_inner().map_err(|_| Error::internal("a training thread panicked"))?;
    let options =
        model.found_options().into_iter().fold(options.clone(), |options, (name, value)| options.with(name, value));
    Ok(Trained { model, evaluation, steps, options, n_rows, n_eval_rows })
}

/// Whether nobody asked for a hold-out by name.
fn chosen_by_us(options: &Options) -> bool {
    options.text("data_split_method").is_none_or(|method| method == "AUTO_SPLIT")
}

/// Fewer rows than this are all needed for learning.
const MIN_ROWS_TO_SPLIT: usize = 50;

/// The rows to learn from, and those held out.
fn split(task: Task, rows: &RecordBatch, options: &Options, seed: u64) -> Result<(RecordBatch, Option<RecordBatch>)> {
    let fraction = options.number("data_split_eval_fraction")?;
    let column_given = options.text("data_split_col").map(|name| column(&rows.schema(), name)).transpose()?;
    let by_column = |method: &str| {
        column_given.ok_or_else(|| Error::invalid(format!("data_split_method {method} needs data_split_col")))
    };
    let held_out: Vec<bool> = match options.text("data_split_method").unwrap_or("AUTO_SPLIT") {
        "NO_SPLIT" => return Ok((rows.clone(), None)),
        "RANDOM" => by_hash(rows, fraction, seed)?,
        "SEQ" => last(rows, by_column("SEQ")?, fraction)?,
        "CUSTOM" => marked(rows, by_column("CUSTOM")?)?,
        _ => match task {
            Task::Cluster | Task::Segment => return Ok((rows.clone(), None)),
            _ if rows.num_rows() < MIN_ROWS_TO_SPLIT => return Ok((rows.clone(), None)),
            Task::Recommend => {
                let latest = time_column(rows, options)?.map(|time| last(rows, time, fraction)).transpose()?;
                match latest {
                    // Where all rows are of one moment, none is the latest.
                    Some(latest) if !latest.iter().all(|out| *out) => latest,
                    _ => by_hash(rows, fraction, seed)?,
                }
            }
            Task::Classify => by_hash(rows, fraction, seed)?,
        },
    };
    let held_out = BooleanArray::from(held_out);
    if held_out.true_count() == 0 {
        return Ok((rows.clone(), None));
    }
    let train = filter_record_batch(rows, &datafusion::arrow::compute::not(&held_out)?)?;
    if train.num_rows() == 0 {
        return Err(Error::invalid("the split holds out every row: nothing is left to learn from"));
    }
    Ok((train, Some(filter_record_batch(rows, &held_out)?)))
}

fn time_column(rows: &RecordBatch, options: &Options) -> Result<Option<usize>> {
    let (user, item, rating) = (options.text("user_col"), options.text("item_col"), options.text("rating_col"));
    Ok(Roles::find(&rows.schema(), user, item, rating)?.time)
}

fn by_hash(rows: &RecordBatch, fraction: f64, seed: u64) -> Result<Vec<bool>> {
    let limit = (fraction * u64::MAX as f64) as u64;
    Ok(row_hashes(rows, seed)?.into_iter().map(|hash| hash < limit).collect())
}

/// The last rows by a column; rows with the same value stay together, NULL is early.
fn last(rows: &RecordBatch, at: usize, fraction: f64) -> Result<Vec<bool>> {
    let array = rows.column(at);
    if !array.data_type().is_numeric() && !array.data_type().is_temporal() {
        let given = sql_name(array.data_type());
        return Err(Error::new(Kind::WrongType, format!("data_split_col must have an order in time, not be {given}"))
            .hint("SEQ holds out the last rows by a number, date or timestamp"));
    }
    let values = numbers(array)?;
    let mut known: Vec<f64> = values.iter().copied().flatten().collect();
    known.sort_by(f64::total_cmp);
    let first_out = ((known.len() as f64) * (1.0 - fraction)).floor() as usize;
    let Some(border) = known.get(first_out) else { return Ok(vec![false; rows.num_rows()]) };
    Ok(values.iter().map(|value| value.is_some_and(|value| value >= *border)).collect())
}

fn marked(rows: &RecordBatch, at: usize) -> Result<Vec<bool>> {
    use datafusion::arrow::array::AsArray;
    let marks = rows.column(at).as_boolean_opt().ok_or_else(|| {
        let given = sql_name(rows.column(at).data_type());
        Error::new(Kind::WrongType, format!("data_split_col must be boolean, not {given}"))
            .hint("true marks the rows to hold out")
    })?;
    Ok((0..marks.len()).map(|row| marks.is_valid(row) && marks.value(row)).collect())
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
