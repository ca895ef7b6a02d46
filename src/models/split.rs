//! Which rows a model does not learn from: those held out for its evaluation, and those of each fold.

use std::collections::HashMap;

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::record_batch::RecordBatch;

use crate::error::{Error, Kind, Result};
use crate::frame::{Events, Keys, NO_TIME, column, numbers, row_hashes, sql_name};
use crate::kernels::hash::mixed;
use crate::models::{Options, Task};

/// Whether nobody asked for a hold-out by name.
pub(super) fn chosen_by_us(options: &Options) -> bool {
    options.text("data_split_method").is_none_or(|method| method == "AUTO_SPLIT")
}

/// Fewer rows than this are all needed for learning.
pub(super) const MIN_ROWS_TO_SPLIT: usize = 50;

/// Which rows are held out; `None`: none.
pub(super) fn held_out_rows(task: Task, rows: &RecordBatch, options: &Options, seed: u64) -> Result<Option<Vec<bool>>> {
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
    if held_out.iter().all(|out| *out) {
        return Err(all_held_out());
    }
    Ok(held_out.contains(&true).then_some(held_out))
}

/// Which of the rows that are learned from a search for options judges its trials on.
pub(super) fn tried_rows(rows: &RecordBatch, options: &Options, seed: u64) -> Result<Vec<bool>> {
    let fraction = options.number("data_split_eval_fraction")?;
    let held_out = match (options.text("data_split_method"), options.text("data_split_col")) {
        (Some("SEQ"), Some(name)) => last(&numbers(rows.column(column(&rows.schema(), name)?))?, fraction),
        // Another draw than the one that left these rows to learn from.
        _ => by_hash(row_hashes(rows, seed.wrapping_add(1))?, fraction),
    };
    if held_out.iter().all(|out| *out) || !held_out.contains(&true) {
        return Err(Error::invalid("too few rows to hold some out and try options on them"));
    }
    Ok(held_out)
}

/// Which events are held out; `None`: none. Of the events in `among` where it is given: those that a search for options
/// tries its candidates on, cut the same way from what is left to learn from.
pub(super) fn held_out_events(
    events: &Events,
    among: Option<&[bool]>,
    options: &Options,
    seed: u64,
) -> Result<Option<Vec<bool>>> {
    let fraction = options.number("data_split_eval_fraction")?;
    let split = |method: &str| {
        events.split.as_ref().ok_or_else(|| Error::invalid(format!("data_split_method {method} needs data_split_col")))
    };
    let is_among = |row: usize| among.is_none_or(|among| among[row]);
    let held_out = match (options.text("data_split_method").unwrap_or("AUTO_SPLIT"), among) {
        ("NO_SPLIT", None) => return Ok(None),
        ("CUSTOM", None) => split("CUSTOM")?.iter().map(|mark| *mark > 0.0).collect(),
        ("LEAVE_LAST", _) => last_of_each(events, times(events, "data_split_method LEAVE_LAST")?, is_among),
        ("SEQ", _) => {
            let known = |(row, value): (usize, &f64)| (!value.is_nan() && is_among(row)).then_some(*value);
            last(&split("SEQ")?.iter().enumerate().map(known).collect::<Vec<_>>(), fraction)
        }
        ("AUTO_SPLIT", None) if events.len() < MIN_ROWS_TO_SPLIT => return Ok(None),
        (method, _) => {
            let moment = |(row, time): (usize, &i64)| (*time != NO_TIME && is_among(row)).then_some(*time);
            let latest = events.time.as_ref().filter(|_| method != "RANDOM").map(|times| {
                let moments: Vec<Option<i64>> = times.iter().enumerate().map(moment).collect();
                last(&moments, fraction)
            });
            match latest {
                // Where all rows are of one moment, none is the latest.
                Some(latest) if (0..latest.len()).any(|row| is_among(row) && !latest[row]) => latest,
                _ => {
                    // Another draw than the one that left these rows to learn from.
                    let seed = if among.is_some() { seed.wrapping_add(1) } else { seed };
                    let mut held_out = by_hash(events.pair_hashes(seed), fraction);
                    held_out.iter_mut().enumerate().for_each(|(row, out)| *out &= is_among(row));
                    held_out
                }
            }
        }
    };
    if (0..held_out.len()).all(|row| held_out[row] || !is_among(row)) {
        return Err(all_held_out());
    }
    Ok(held_out.contains(&true).then_some(held_out))
}

/// The moments of the events, which `what` needs.
fn times<'a>(events: &'a Events, what: &str) -> Result<&'a [i64]> {
    events.time.as_deref().ok_or_else(|| {
        Error::invalid(format!("{what} needs a timestamp or a date in the query"))
            .hint("give one and name it: time_col = '…'")
    })
}

fn all_held_out() -> Error {
    Error::invalid("the split holds out every row: nothing is left to learn from")
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
fn last_of_each(events: &Events, times: &[i64], is_among: impl Fn(usize) -> bool) -> Vec<bool> {
    let (mut first, mut last) = (vec![i64::MAX; events.users.len()], vec![NO_TIME; events.users.len()]);
    for (_, (user, time)) in events.user.iter().zip(times).enumerate().filter(|(row, _)| is_among(*row)) {
        let user = *user as usize;
        (first[user], last[user]) = (first[user].min(*time), last[user].max(*time));
    }
    let is_last = |(row, (user, time)): (usize, (&u32, &i64))| {
        is_among(row) && *time == last[*user as usize] && *time > first[*user as usize]
    };
    events.user.iter().zip(times).enumerate().map(is_last).collect()
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

/// How rows are cut into folds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Strategy {
    /// By a hash of the row, or of customer and product: each part is held out once.
    Random,
    /// As `Random`, with each class spread evenly over the parts.
    Stratified,
    /// By time: a fold learns from all parts before the one that it holds out.
    Time,
    /// Each customer's last purchases, then those before them, learning from what came earlier still.
    LeaveLast,
    /// Rows with the same value of this column stay together, of the model's `id_col` without one: each part is held out
    /// once, and is of whom the others know nothing.
    Group(Option<String>),
}

impl Strategy {
    /// By name; `group` is the column that a grouping is by, and asks for one.
    pub fn parse(text: Option<&str>, group: Option<&str>) -> Result<Option<Self>> {
        const NAMES: [&str; 5] = ["random", "stratified", "time", "leave_last", "group"];
        let Some(text) = text.or(group.map(|_| "group")) else { return Ok(None) };
        let strategy = match NAMES.iter().position(|name| name.eq_ignore_ascii_case(text)) {
            Some(0) => Self::Random,
            Some(1) => Self::Stratified,
            Some(2) => Self::Time,
            Some(3) => Self::LeaveLast,
            Some(_) => Self::Group(group.map(str::to_owned)),
            None => {
                let names = NAMES.join(", ");
                return Err(
                    Error::invalid(format!("strategy must be one of {names}, not \"{text}\"")).suggest(text, NAMES)
                );
            }
        };
        match (&strategy, group) {
            (Self::Group(_), _) | (_, None) => Ok(Some(strategy)),
            _ => Err(Error::invalid(format!("strategy {} takes no group", text.to_ascii_lowercase()))
                .hint("leave one of them out")),
        }
    }
}

/// Rows cut into parts, and which parts a fold learns from.
pub(super) struct Folds {
    strategy: Strategy,
    /// The part of each row.
    part: Vec<u32>,
}

/// A part that is always learned from: what a customer did first.
const FIRST: u32 = u32::MAX;

impl Folds {
    /// Of the rows of a table.
    pub fn of_rows(strategy: Strategy, n: usize, rows: &RecordBatch, options: &Options, seed: u64) -> Result<Self> {
        let schema = rows.schema();
        let part = match &strategy {
            Strategy::Random => buckets(&row_hashes(rows, seed)?, n),
            Strategy::Stratified => {
                let label = options.texts("input_label_cols").and_then(|labels| labels.first());
                let label = label.map_or("label", String::as_str);
                let classes = Keys::of(rows.column(column(&schema, label)?))?.1;
                let hashes = row_hashes(rows, seed)?;
                let mut order: Vec<usize> = (0..hashes.len()).collect();
                order.sort_by_key(|row| hashes[*row]);
                // Where one class ends the next goes on, so that the parts are of one size.
                order.sort_by_key(|row| classes[*row]);
                let mut part = vec![0; hashes.len()];
                order.into_iter().enumerate().for_each(|(at, row)| part[row] = (at % n) as u32);
                part
            }
            Strategy::Time => {
                let name = options.text("data_split_col").ok_or_else(|| {
                    Error::invalid("strategy time needs the option data_split_col, the column that orders the rows")
                        .hint("train the model with data_split_method = 'SEQ', or take another strategy")
                })?;
                let at = column(&schema, name)?;
                check_order(rows.column(at).data_type())?;
                periods(&numbers(rows.column(at))?, n)
            }
            Strategy::LeaveLast => return Err(only_for_recommenders()),
            Strategy::Group(name) => {
                let ids = options.texts("id_col").unwrap_or_default();
                let name = name.as_deref().or(ids.first().map(String::as_str)).ok_or_else(|| {
                    Error::invalid("strategy group needs the column whose rows stay together")
                        .hint("name it, group => 'customer_id', or train the model with id_col")
                })?;
                groups(rows.column(column(&schema, name)?), n, seed)?
            }
        };
        Ok(Self { strategy, part })
    }

    pub fn of_events(strategy: Strategy, n: usize, events: &Events, seed: u64) -> Result<Self> {
        let part = match &strategy {
            Strategy::Random => buckets(&events.pair_hashes(seed), n),
            Strategy::Time => {
                let moments = times(events, "strategy time")?.iter().map(|time| (*time != NO_TIME).then_some(*time));
                periods(&moments.collect::<Vec<_>>(), n)
            }
            Strategy::LeaveLast => moments_from_last(events, times(events, "strategy leave_last")?),
            Strategy::Stratified => {
                return Err(Error::invalid("strategy stratified is for models that learn a label")
                    .hint("recommenders take time, leave_last or random"));
            }
            Strategy::Group(_) => {
                return Err(Error::invalid(
                    "strategy group leaves nothing to judge a recommender by: it cannot know whom it \
                                           has not seen",
                )
                .hint("recommenders take time, leave_last or random"));
            }
        };
        Ok(Self { strategy, part })
    }

    /// What fold `at`, from 0, learns from and what it holds out. Fails where either is nothing.
    pub fn fold(&self, at: usize) -> Result<(Vec<bool>, Vec<bool>)> {
        let at = at as u32;
        let marks = |is: &dyn Fn(u32) -> bool| self.part.iter().map(|part| is(*part)).collect::<Vec<bool>>();
        let (learned, held_out) = match self.strategy {
            Strategy::Random | Strategy::Stratified | Strategy::Group(_) => {
                (marks(&|part| part != at), marks(&|part| part == at))
            }
            Strategy::Time => (marks(&|part| part <= at), marks(&|part| part == at + 1)),
            Strategy::LeaveLast => (marks(&|part| part > at), marks(&|part| part == at)),
        };
        if !learned.contains(&true) || !held_out.contains(&true) {
            let fold = at + 1;
            return Err(Error::invalid(format!(
                "there are too few rows for so many folds: nothing is left for fold {fold}"
            ))
            .hint("ask for fewer folds, or take another strategy"));
        }
        Ok((learned, held_out))
    }
}

/// `n` parts of about one size.
fn buckets(hashes: &[u64], n: usize) -> Vec<u32> {
    hashes.iter().map(|hash| ((u128::from(*hash) * n as u128) >> 64) as u32).collect()
}

/// `n` parts of about one size in rows; those with the same value stay together, and each without one is by itself.
fn groups(values: &ArrayRef, n: usize, seed: u64) -> Result<Vec<u32>> {
    let (keys, codes) = Keys::of(values)?;
    let mut rows_of = vec![0u64; keys.len()];
    codes.iter().flatten().for_each(|code| rows_of[*code as usize] += 1);
    // The large ones first, each to the part that is smallest by then. Which of two of one size comes first is drawn.
    let mut order: Vec<usize> = (0..keys.len()).collect();
    order.sort_by_key(|group| (std::cmp::Reverse(rows_of[*group]), mixed(seed ^ *group as u64)));
    let (mut sizes, mut part_of) = (vec![0u64; n], vec![0; keys.len()]);
    let mut add = |rows: u64| {
        let smallest = (0..n).min_by_key(|part| sizes[*part]).unwrap_or_default();
        sizes[smallest] += rows;
        smallest as u32
    };
    order.into_iter().for_each(|group| part_of[group] = add(rows_of[group]));
    Ok(codes.into_iter().map(|code| code.map_or_else(|| add(1), |code| part_of[code as usize])).collect())
}

/// `n + 1` parts of about one size, in order; equal values stay together, and what has none is early.
fn periods<T: PartialOrd + Copy>(values: &[Option<T>], n: usize) -> Vec<u32> {
    let mut known: Vec<T> = values.iter().copied().flatten().collect();
    known.sort_unstable_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    let border = |at: usize| known.get(known.len() * at / (n + 1)).copied();
    let borders: Vec<T> = (1..=n).filter_map(border).collect();
    let part = |value: &Option<T>| value.map_or(0, |value| borders.partition_point(|border| *border <= value) as u32);
    values.iter().map(part).collect()
}

/// How many later moments the customer of an event has; [`FIRST`] at their first.
fn moments_from_last(events: &Events, times: &[i64]) -> Vec<u32> {
    let mut moments: Vec<(u32, i64)> = events.user.iter().copied().zip(times.iter().copied()).collect();
    moments.sort_unstable();
    moments.dedup();
    let mut parts: HashMap<(u32, i64), u32> = HashMap::with_capacity(moments.len());
    for of_one in moments.chunk_by(|a, b| a.0 == b.0) {
        for (later, moment) in of_one.iter().rev().enumerate() {
            let is_first = later + 1 == of_one.len();
            parts.insert(*moment, if is_first { FIRST } else { later as u32 });
        }
    }
    let part = |moment: (&u32, &i64)| parts.get(&(*moment.0, *moment.1)).copied().unwrap_or(FIRST);
    events.user.iter().zip(times).map(part).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{ArrayRef, BooleanArray, Int64Array, StringArray, TimestampMicrosecondArray};
    use proptest::prelude::*;

    use super::*;
    // The library of the property tests has one of its own.
    use super::Strategy;
    use crate::frame::{EventsBuilder, Named, Roles};
    use crate::models::Value;

    fn events(rows: &[(i64, i64, i64)]) -> Events {
        let whole = |of: fn(&(i64, i64, i64)) -> i64| Int64Array::from_iter_values(rows.iter().map(of));
        let users: ArrayRef = Arc::new(whole(|row| row.0));
        let items: ArrayRef = Arc::new(whole(|row| row.1));
        let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from_iter_values(rows.iter().map(|row| row.2)));
        let batch = RecordBatch::try_from_iter([("who", users), ("what", items), ("at", times)]).unwrap();
        let schema = batch.schema();
        let mut builder = EventsBuilder::new(&schema, Roles::find(&schema, &Named::default()).unwrap());
        builder.push(&batch).unwrap();
        builder.finish().unwrap()
    }

    fn options(given: &[(&str, &str)]) -> Options {
        let start = Options::default().with("data_split_eval_fraction", Value::Number(0.25));
        given.iter().fold(start, |options, (name, value)| options.with(name, Value::Text((*value).to_owned())))
    }

    #[test]
    fn a_search_tries_on_the_last_of_what_is_left_to_learn_from() {
        let events = events(&(0..16).map(|at| (at % 4, at, at)).collect::<Vec<_>>());
        let given = options(&[("data_split_method", "AUTO_SPLIT")]);
        let all = [true; 16];
        let outer = held_out_events(&events, Some(&all), &given, 0).unwrap().unwrap();
        assert_eq!(outer.iter().position(|out| *out), Some(12));
        let left: Vec<bool> = outer.iter().map(|out| !out).collect();
        let inner = held_out_events(&events, Some(&left), &given, 0).unwrap().unwrap();
        assert_eq!((0..16).filter(|row| inner[*row]).collect::<Vec<_>>(), [9, 10, 11]);
        let random = options(&[("data_split_method", "RANDOM")]);
        let inner = held_out_events(&events, Some(&left), &random, 0).unwrap().unwrap_or_default();
        assert!(inner.iter().zip(&left).all(|(inner, left)| !inner || *left));
    }

    #[test]
    fn the_last_purchases_of_each_customer() {
        // One has three moments, one two, one a single one.
        let events = events(&[(1, 1, 10), (1, 2, 20), (1, 3, 30), (1, 4, 30), (2, 1, 5), (2, 2, 6), (3, 1, 9)]);
        let folds = Folds::of_events(Strategy::LeaveLast, 2, &events, 0).unwrap();
        assert_eq!(folds.part, [FIRST, 1, 0, 0, FIRST, 0, FIRST]);
        let (learned, held_out) = folds.fold(1).unwrap();
        assert_eq!(learned, [true, false, false, false, true, false, true]);
        assert_eq!(held_out, [false, true, false, false, false, false, false]);
        assert!(folds.fold(2).is_err());
    }

    #[test]
    fn time_moves_on_from_fold_to_fold() {
        let folds = Folds { strategy: Strategy::Time, part: periods(&[Some(5), Some(1), None, Some(3), Some(3)], 2) };
        assert_eq!(folds.part, [2, 0, 0, 2, 2]);
        let even = periods(&(0..9).map(Some).collect::<Vec<_>>(), 2);
        assert_eq!(even, [0, 0, 0, 1, 1, 1, 2, 2, 2]);
        let (learned, held_out) = Folds { strategy: Strategy::Time, part: even }.fold(1).unwrap();
        assert_eq!(learned, [true, true, true, true, true, true, false, false, false]);
        assert_eq!(held_out, [false, false, false, false, false, false, true, true, true]);
    }

    proptest! {
        #[test]
        fn classes_are_spread_evenly(labels in prop::collection::vec(0i64..3, 4..60), n in 2usize..5) {
            let names: ArrayRef = Arc::new(StringArray::from_iter_values(labels.iter().map(|label| format!("c{label}"))));
            let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..labels.len() as i64));
            let odd: ArrayRef = Arc::new(labels.iter().map(|label| Some(label % 2 == 1)).collect::<BooleanArray>());
            let rows = RecordBatch::try_from_iter([("label", names), ("id", ids), ("odd", odd)]).unwrap();
            let folds = Folds::of_rows(Strategy::Stratified, n, &rows, &Options::default(), 1).unwrap();
            let count = |class: i64, part: u32| {
                labels.iter().zip(&folds.part).filter(|(label, at)| **label == class && **at == part).count()
            };
            for class in 0..3 {
                let counts: Vec<usize> = (0..n as u32).map(|part| count(class, part)).collect();
                prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{counts:?}");
            }
        }

        #[test]
        fn every_row_is_held_out_once(hashes in prop::collection::vec(any::<u64>(), 1..80), n in 2usize..9) {
            let part = buckets(&hashes, n);
            prop_assert!(part.iter().all(|part| (*part as usize) < n));
        }
    }
}
