//! `evaluate`: how good a model is, next to the baseline it has to beat.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float64Array};
use datafusion::arrow::datatypes::{DataType, Field, Fields, Schema};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::{Column, ScalarValue};
use datafusion::functions::core::expr_fn::get_field;
use datafusion::logical_expr::{AggregateUDF, Expr, LogicalPlan, LogicalPlanBuilder, lit};

use crate::error::{Error, Kind, Result};
use crate::functions::function::{Doc, Function, Relation};
use crate::functions::gather::{Finish, Gather, struct_value};
use crate::functions::nodes::{input_args, metric, numbers_row};
use crate::functions::{Call, Planner};
use crate::models::{Fitted, Input, PredictAsk, Registry};

pub struct Evaluate;

impl Function for Evaluate {
    fn name(&self) -> &'static str {
        "evaluate"
    }

    fn doc(&self) -> Doc {
        Doc {
            summary: "How good a model is on rows it has not learned from: those held out at training, or those of a \
                      query. Baselines stand beside: the majority class, a single cluster, the most popular products.",
            syntax: &["evaluate('model')", "evaluate('model', (SELECT …) [, threshold => 0.5])"],
            arguments: &[
                ("model", "name, or name@version"),
                ("query", "rows with the columns of training and, where there is one, the label"),
                ("threshold", "probability from which the positive of two classes is predicted"),
            ],
            returns: &[
                (
                    "precision, recall, accuracy, f1_score, log_loss, roc_auc, pr_auc",
                    "classification; macro averages for more than two classes",
                ),
                ("davies_bouldin_index, mean_squared_distance", "kmeans, on standardised columns"),
                (
                    "root_mean_squared_error, mean_absolute_error, mean_squared_error, r2_score",
                    "explicit ratings; the baseline foretells each customer's own mean",
                ),
                (
                    "ndcg_at_10, recall_at_10, precision_at_10, map_at_10, hit_rate_at_10",
                    "recommenders; evaluate_ranking() has more",
                ),
                (
                    "population_stability_index",
                    "rfm: how far the tiers have moved since training; over 0.25 is a shift",
                ),
                ("baseline_…", "the same metric of the baseline"),
                ("n_rows, n_users, n_cold_users", "what the figures rest on"),
            ],
            example: "SELECT roc_auc > 0.5 AS better_than_chance, accuracy >= baseline_accuracy AS beats_majority FROM evaluate('fraud')",
        }
    }

    fn relation(&self) -> Option<Relation> {
        Some(relation)
    }
}

fn relation(mut call: Call, planner: &mut dyn Planner) -> Result<LogicalPlan> {
    let fitted = call.model(planner)?;
    let input = call.relation(planner, "query")?;
    let threshold = call.option(planner, "threshold", &DataType::Float64)?;
    call.finish(&["threshold"])?;
    match (input, threshold) {
        (None, Some(_)) => Err(Error::invalid("a threshold needs rows to evaluate on")
            .hint(format!("evaluate('{}', (SELECT …), threshold => 0.4)", fitted.asked))),
        (None, None) => {
            let stored = planner.registry().evaluation(&fitted)?;
            if stored.is_empty() {
                return Err(Error::new(
                    Kind::NotReady,
                    format!("no rows were held out when model \"{}\" was trained", fitted.asked),
                )
                .hint(format!("give rows: evaluate('{}', (SELECT …))", fitted.asked)));
            }
            numbers_row(&stored)
        }
        (Some(input), threshold) => {
            let names = fitted.model.metrics();
            let threshold = threshold.unwrap_or_else(|| lit(ScalarValue::Float64(None)));
            let mut args = vec![lit(fitted.name.to_string()), threshold];
            args.extend(input_args(&fitted, &evaluated_inputs(&fitted), &input)?);
            let aggregate = evaluate_rows(planner.registry(), &names).call(args).alias("__metrics");
            let value = |name: &&str| {
                metric(get_field(Expr::Column(Column::new_unqualified("__metrics")), *name), name).alias(*name)
            };
            let columns: Vec<Expr> = names.iter().map(value).collect();
            Ok(LogicalPlanBuilder::from(input)
                .aggregate(Vec::<Expr>::new(), vec![aggregate])?
                .project(columns)?
                .build()?)
        }
    }
}

/// What the model answers for, and the truth: the label, or the rating where ratings are foretold.
fn evaluated_inputs(fitted: &Fitted) -> Vec<Input> {
    let signature = fitted.model.signature();
    let mut inputs = signature.asked().to_vec();
    if fitted.model.recommender().is_some_and(|recommender| recommender.history().names.recipe.explicit) {
        inputs.extend(signature.inputs.iter().find(|input| input.role == "rating").cloned());
    }
    if let Some(label) = &signature.label {
        inputs.push(Input { name: label.clone(), data_type: String::new(), role: "label".to_owned() });
    }
    inputs
}

/// `evaluate_rows('m@3', threshold, 'a', a, …)`: all metrics as a struct.
fn evaluate_rows(registry: &Arc<Registry>, names: &[&str]) -> AggregateUDF {
    let fields: Fields = names.iter().map(|name| Field::new(*name, DataType::Float64, true)).collect();
    let gather = Gather {
        name: "evaluate_rows",
        n_options: 1,
        finish: Finish::Model(|fitted, all| {
            let threshold = match all.options {
                [ScalarValue::Float64(threshold)] => *threshold,
                _ => return Err(Error::internal("threshold is not a double")),
            };
            let values = fitted.model.evaluate(&all.in_order()?, &PredictAsk { threshold })?;
            let fields: Fields =
                fitted.model.metrics().iter().map(|name| Field::new(*name, DataType::Float64, true)).collect();
            let columns =
                values.into_iter().map(|value| Arc::new(Float64Array::from(vec![value])) as ArrayRef).collect();
            struct_value(&RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
        }),
    };
    gather.udaf(registry, DataType::Struct(fields))
}
