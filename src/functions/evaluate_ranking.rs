//! `evaluate_ranking`: how good the recommendations would have been.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Fields, Schema};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::ScalarValue;
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::logical_expr::{AggregateUDF, Expr, LogicalPlan, LogicalPlanBuilder, lit};

use crate::error::{Error, Kind, Result};
use crate::frame::{Keys, sql_name, texts};
use crate::functions::function::{Doc, Function, Relation};
use crate::functions::gather::{AllRows, Finish, Gather, list_value};
use crate::functions::nodes::{input_args, unnested};
use crate::functions::recommend::recommender;
use crate::functions::{Call, Planner};
use crate::models::{Ask, By, Fitted, RankingMetric, Registry, STORED_K, Taken, evaluate_ranking};

pub struct EvaluateRanking;

/// What `by` calls the segments that the model itself tells apart.
const ACTIVITY: &str = "activity";

impl Function for EvaluateRanking {
    fn name(&self) -> &'static str {
        "evaluate_ranking"
    }

    fn doc(&self) -> Doc {
        Doc {
            summary: "How good a model's recommendations would have been for customers whose later products are known: those \
                      of a query, or those of the rows held out at training. Each metric is the mean over customers, with a \
                      95 % bootstrap interval and the popularity ranking's value beside it. Customers whom the model does \
                      not know are counted too: as in recommend(), they get the popular products. Give rows from after the \
                      training data, or the figures flatter the model.",
            syntax: &[
                "evaluate_ranking('model' [, by => 'activity'])",
                "evaluate_ranking('model', (SELECT customer, product …) [, k => 10] [, exclude_seen => true] [, by => '…'])",
            ],
            arguments: &[
                ("model", "a model that recommends: name, or name@version"),
                ("query", "one row for each product that a customer took; without it, the rows held out at training"),
                ("k", "length of the ranking; 10 by default, and always 10 for the rows held out at training"),
                (
                    "exclude_seen",
                    "products the customer had in training are neither recommended nor expected; true by default",
                ),
                (
                    "by",
                    "'activity', or a column of the query: tells of segments of customers too. A customer with several \
                     values in the column counts for the first in order",
                ),
            ],
            returns: &[
                (
                    "segment",
                    "'all'; by activity also 'cold', customers who are not in the training data, 'warm', those with fewer \
                     products there than the median customer, and 'heavy', those with as many or more",
                ),
                ("metric", "ndcg, recall, precision, f1, map, mrr, hit_rate, novelty, coverage, gini"),
                ("k", "length of the ranking"),
                (
                    "value",
                    "mean over customers. novelty: bits that a recommended product tells, −log2 of the share of customers \
                     who had it. coverage: share of all products recommended to anyone. gini: how unequally often products \
                     are recommended, 0 to 1",
                ),
                (
                    "ci_low, ci_high",
                    "95 % bootstrap interval over customers, of more than 20,000 by the normal law; NULL for coverage and gini",
                ),
                ("baseline, baseline_ci_low, baseline_ci_high", "the same of the popularity ranking"),
                ("n_users", "customers with at least one product to be found"),
                ("n_cold_users", "of those, how many the model did not know"),
            ],
            example: "SELECT metric, value >= baseline AS as_good_as_popular\n\
                      FROM evaluate_ranking('taste', (SELECT customer_id, product_id FROM interactions WHERE event_type = 'purchase'), exclude_seen => false)\n\
                      WHERE metric = 'recall'",
        }
    }

    fn relation(&self) -> Option<Relation> {
        Some(relation)
    }
}

fn relation(mut call: Call, planner: &mut dyn Planner) -> Result<LogicalPlan> {
    let fitted = call.model(planner)?;
    recommender(&fitted)?;
    let input = call.relation(planner, "query")?;
    let k = call.option(planner, "k", &DataType::Int64)?;
    let exclude_seen = call.option(planner, "exclude_seen", &DataType::Boolean)?;
    let by = match call.option(planner, "by", &DataType::Utf8)? {
        None => None,
        Some(Expr::Literal(by, _)) => by.try_as_str().flatten().map(str::to_owned),
        Some(_) => {
            return Err(Error::new(Kind::WrongType, "by must stand in the query as a text, not as a parameter")
                .hint("by => 'activity', or the name of a column"));
        }
    };
    call.finish(&["k", "exclude_seen", "by"])?;
    let Some(input) = input else {
        if k.is_some() || exclude_seen.is_some() || by.as_ref().is_some_and(|by| by != ACTIVITY) {
            return Err(Error::invalid("only by => 'activity' can be asked of the rows held out at training")
                .hint(format!("give rows to rank for: evaluate_ranking('{}', (SELECT …), k => 20)", fitted.asked)));
        }
        return stored(planner.registry(), &fitted, by.is_some());
    };
    let mut args = vec![
        lit(fitted.name.to_string()),
        k.unwrap_or_else(|| lit(STORED_K as i64)),
        exclude_seen.unwrap_or_else(|| lit(true)),
        lit(ScalarValue::Utf8(by.clone())),
    ];
    args.extend(input_args(&fitted, &fitted.model.signature().inputs[..2], &input)?);
    if let Some(by) = by.filter(|by| by != ACTIVITY) {
        args.extend(segment_args(&by, &input)?);
    }
    let aggregate = ranking_rows(planner.registry()).call(args).alias("__metrics");
    let gathered = LogicalPlanBuilder::from(input).aggregate(Vec::<Expr>::new(), vec![aggregate])?.build()?;
    let fields = fields();
    let parts: Vec<(&str, &str)> = fields.iter().map(|field| (field.name().as_str(), field.name().as_str())).collect();
    unnested(gathered, &[], Expr::Column("__metrics".into()), &parts)
}

/// What was found at training.
fn stored(registry: &Registry, fitted: &Fitted, by_activity: bool) -> Result<LogicalPlan> {
    let mut found = registry.ranking(fitted)?;
    if found.is_empty() {
        return Err(Error::new(
            Kind::NotReady,
            format!("no rows were held out when model \"{}\" was trained", fitted.asked),
        )
        .hint(format!("give rows: evaluate_ranking('{}', (SELECT …))", fitted.asked)));
    }
    found.retain(|line| by_activity || line.segment.as_deref() == Some("all"));
    let rows = table(STORED_K as i64, &found)?;
    let provider = MemTable::try_new(rows.schema(), vec![vec![rows]])?;
    Ok(LogicalPlanBuilder::scan("evaluate_ranking", provider_as_source(Arc::new(provider)), None)?.build()?)
}

/// Name and column of the segments that a query names itself.
fn segment_args(by: &str, input: &LogicalPlan) -> Result<[Expr; 2]> {
    let columns = input.schema().columns();
    let Some(column) = columns.iter().find(|column| column.name.eq_ignore_ascii_case(by)) else {
        let error = Error::new(Kind::UnknownColumn, format!("by: the query gives no column \"{by}\""));
        return Err(error.hint("by is 'activity', or names a column of the query"));
    };
    Ok([lit(by), Expr::Column(column.clone())])
}

fn fields() -> Fields {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let number = |name: &str| Field::new(name, DataType::Float64, true);
    let whole = |name: &str| Field::new(name, DataType::Int64, true);
    Fields::from(vec![
        text("segment"),
        text("metric"),
        whole("k"),
        number("value"),
        number("ci_low"),
        number("ci_high"),
        number("baseline"),
        number("baseline_ci_low"),
        number("baseline_ci_high"),
        whole("n_users"),
        whole("n_cold_users"),
    ])
}

/// `ranking_rows('m@3', k, exclude_seen, by, 'user', user, 'item', item [, 'segment', segment])`: a list of metrics.
fn ranking_rows(registry: &Arc<Registry>) -> AggregateUDF {
    let gather = Gather { name: "ranking_rows", n_options: 3, finish: Finish::Model(finish) };
    gather.udaf(registry, DataType::List(Arc::new(Field::new_list_field(DataType::Struct(fields()), true))))
}

fn finish(fitted: &Fitted, all: &AllRows) -> Result<ScalarValue> {
    let (k, exclude_seen, by) = match all.options {
        [ScalarValue::Int64(Some(k)), ScalarValue::Boolean(exclude_seen), ScalarValue::Utf8(by)] => {
            (*k, exclude_seen.unwrap_or(true), by)
        }
        _ => return Err(Error::invalid("k must be a whole number and exclude_seen true or false")),
    };
    let rows = all.in_order()?;
    let (users, user_codes) = Keys::of(rows.column(0))?;
    let (items, item_codes) = Keys::of(rows.column(1))?;
    let named = match by.as_deref() {
        Some(ACTIVITY) | None => None,
        Some(by) => Some(named_segments(by, rows.column(2), &user_codes, users.len())?),
    };
    let by = match (&named, by) {
        (Some((names, of_user)), _) => By::Named { names, of_user },
        (None, Some(_)) => By::Activity,
        (None, None) => By::Nothing,
    };
    let mut pairs = user_codes.iter().zip(item_codes).filter_map(|(user, item)| user.zip(item));
    let taken = Taken { users: &users, items: &items, pairs: &mut pairs };
    let model = recommender(fitted)?;
    let found = evaluate_ranking(model, taken, Ask::checked_k(k)?, exclude_seen, &by, &|| all.work.go_on())?;
    list_value(&table(k, &found.lines())?)
}

/// The values of a column in order, NULL last, and for each customer the first of its values.
fn named_segments(
    by: &str,
    column: &ArrayRef,
    users: &[Option<u32>],
    n_users: usize,
) -> Result<(Vec<Option<String>>, Vec<u32>)> {
    const MAX_SEGMENTS: usize = 100;
    let wrong = |_| {
        let given = sql_name(column.data_type());
        Error::new(Kind::WrongType, format!("by: column \"{by}\" of type {given} names no segments"))
    };
    let values = texts(column).map_err(wrong)?;
    // NULL sorts first among options: the flag puts it last.
    let mut numbers: BTreeMap<(bool, Option<&str>), u32> = BTreeMap::new();
    for value in &values {
        numbers.insert((value.is_none(), value.as_deref()), 0);
        if numbers.len() > MAX_SEGMENTS {
            return Err(Error::invalid(format!("by: column \"{by}\" has more than {MAX_SEGMENTS} values"))
                .hint("group them in the query: CASE WHEN … END AS segment"));
        }
    }
    numbers.values_mut().zip(0..).for_each(|(number, at)| *number = at);
    let mut of_user = vec![u32::MAX; n_users];
    for (user, value) in users.iter().zip(&values) {
        if let (Some(user), Some(number)) = (user, numbers.get(&(value.is_none(), value.as_deref()))) {
            let first = &mut of_user[*user as usize];
            *first = (*first).min(*number);
        }
    }
    Ok((numbers.into_keys().map(|(_, name)| name.map(str::to_owned)).collect(), of_user))
}

fn table(k: i64, found: &[RankingMetric]) -> Result<RecordBatch> {
    let text = |of: fn(&RankingMetric) -> Option<&str>| Arc::new(found.iter().map(of).collect::<StringArray>());
    let number = |of: fn(&RankingMetric) -> Option<f64>| Arc::new(found.iter().map(of).collect::<Float64Array>());
    let whole = |of: &dyn Fn(&RankingMetric) -> i64| Arc::new(Int64Array::from_iter_values(found.iter().map(of)));
    let columns: Vec<ArrayRef> = vec![
        text(|line| line.segment.as_deref()),
        text(|line| Some(&line.metric)),
        whole(&|_| k),
        number(|line| Some(line.value)),
        number(|line| line.interval.map(|interval| interval.0)),
        number(|line| line.interval.map(|interval| interval.1)),
        number(|line| Some(line.baseline)),
        number(|line| line.baseline_interval.map(|interval| interval.0)),
        number(|line| line.baseline_interval.map(|interval| interval.1)),
        whole(&|line| line.n_users as i64),
        whole(&|line| line.n_cold_users as i64),
    ];
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields())), columns)?)
}
