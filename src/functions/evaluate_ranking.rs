//! `evaluate_ranking`: how good the recommendations would have been.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Fields, Schema};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{AggregateUDF, Expr, LogicalPlan, LogicalPlanBuilder, lit};

use crate::error::{Error, Result};
use crate::functions::function::{Doc, Function, Relation};
use crate::functions::gather::{Gather, list_value};
use crate::functions::nodes::{input_args, unnested};
use crate::functions::recommend::recommender;
use crate::functions::{Call, Planner};
use crate::models::{Ask, Fitted, RankingEvaluation, Registry, evaluate_ranking};

pub struct EvaluateRanking;

impl Function for EvaluateRanking {
    fn name(&self) -> &'static str {
        "evaluate_ranking"
    }

    fn doc(&self) -> Doc {
        Doc {
            summary: "How good a model's recommendations would have been for customers whose later products are known. \
                      Each metric is the mean over customers, with a 95 % bootstrap interval and the popularity ranking's \
                      value beside it. Give rows from after the training data, or the figures flatter the model.",
            syntax: &["evaluate_ranking('model', (SELECT customer, product …) [, k => 10] [, exclude_seen => true])"],
            arguments: &[
                ("model", "a model that recommends: name, or name@version"),
                ("query", "one row for each product that a customer took"),
                ("k", "length of the ranking; 10 by default"),
                (
                    "exclude_seen",
                    "products the customer had in training are neither recommended nor expected; true by default",
                ),
            ],
            returns: &[
                ("metric", "ndcg, recall, precision, map, mrr, hit_rate, coverage"),
                ("k", "length of the ranking"),
                ("value", "mean over customers; of coverage: share of all products recommended to anyone"),
                ("ci_low, ci_high", "95 % bootstrap interval over customers"),
                ("baseline", "the same of the popularity ranking"),
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
    let names = recommender(&fitted)?.history().names.clone();
    let input = call.relation(planner, "query")?.ok_or_else(|| {
        Error::invalid("evaluate_ranking() wants a query of customers and products after the model")
            .hint(format!("evaluate_ranking('{}', (SELECT {}, {} FROM …))", fitted.asked, names.user, names.item))
    })?;
    let k = call.option(planner, "k", &DataType::Int64)?.unwrap_or_else(|| lit(10i64));
    let exclude_seen = call.option(planner, "exclude_seen", &DataType::Boolean)?.unwrap_or_else(|| lit(true));
    call.finish(&["k", "exclude_seen"])?;
    let mut args = vec![lit(fitted.name.to_string()), k, exclude_seen];
    args.extend(input_args(&fitted, &fitted.model.signature().inputs[..2], &input)?);
    let aggregate = ranking_rows(planner.registry()).call(args).alias("__metrics");
    let gathered = LogicalPlanBuilder::from(input).aggregate(Vec::<Expr>::new(), vec![aggregate])?.build()?;
    let fields = fields();
    let parts: Vec<(&str, &str)> = fields.iter().map(|field| (field.name().as_str(), field.name().as_str())).collect();
    unnested(gathered, None, Expr::Column("__metrics".into()), &parts)
}

fn fields() -> Fields {
    let number = |name: &str| Field::new(name, DataType::Float64, true);
    let whole = |name: &str| Field::new(name, DataType::Int64, true);
    Fields::from(vec![
        Field::new("metric", DataType::Utf8, true),
        whole("k"),
        number("value"),
        number("ci_low"),
        number("ci_high"),
        number("baseline"),
        whole("n_users"),
        whole("n_cold_users"),
    ])
}

/// `ranking_rows('m@3', k, exclude_seen, 'user', user, 'item', item)`: a list of metrics.
fn ranking_rows(registry: &Arc<Registry>) -> AggregateUDF {
    let gather = Gather { name: "ranking_rows", n_options: 2, finish };
    gather.udaf(registry, DataType::List(Arc::new(Field::new_list_field(DataType::Struct(fields()), true))))
}

fn finish(fitted: &Fitted, options: &[ScalarValue], rows: &RecordBatch) -> Result<ScalarValue> {
    let (k, exclude_seen) = match options {
        [ScalarValue::Int64(Some(k)), ScalarValue::Boolean(exclude_seen)] => (*k, exclude_seen.unwrap_or(true)),
        _ => return Err(Error::invalid("k must be a whole number and exclude_seen true or false")),
    };
    let found =
        evaluate_ranking(recommender(fitted)?, rows.column(0), rows.column(1), Ask::checked_k(k)?, exclude_seen)?;
    list_value(&table(k, found)?)
}

fn table(k: i64, found: RankingEvaluation) -> Result<RecordBatch> {
    let RankingEvaluation { metrics, n_users, n_cold_users } = found;
    let n = metrics.len();
    let number = |values: Vec<Option<f64>>| Arc::new(Float64Array::from(values)) as ArrayRef;
    let same = |value: i64| Arc::new(Int64Array::from(vec![value; n])) as ArrayRef;
    let columns = vec![
        Arc::new(StringArray::from_iter_values(metrics.iter().map(|metric| metric.name))) as ArrayRef,
        same(k),
        number(metrics.iter().map(|metric| Some(metric.value)).collect()),
        number(metrics.iter().map(|metric| metric.interval.map(|interval| interval.0)).collect()),
        number(metrics.iter().map(|metric| metric.interval.map(|interval| interval.1)).collect()),
        number(metrics.iter().map(|metric| Some(metric.baseline)).collect()),
        same(n_users as i64),
        same(n_cold_users as i64),
    ];
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields())), columns)?)
}
