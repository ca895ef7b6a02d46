//! `predict`: what the model says of each row, as a relation and as a scalar.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, StructArray};
use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::ScalarValue;
use datafusion::functions::core::expr_fn::get_field;
use datafusion::logical_expr::{Expr, LogicalPlan, ScalarUDF, lit};

use crate::error::{Error, Kind, Result};
use crate::functions::function::{Doc, Function, Relation};
use crate::functions::model_function::{Given, ModelFunction};
use crate::functions::nodes::{beside, call_with_inputs, lacks};
use crate::functions::{Call, Planner};
use crate::models::{Fitted, PredictAsk, Registry};

pub struct Predict;

impl Function for Predict {
    fn name(&self) -> &'static str {
        "predict"
    }

    fn doc(&self) -> Doc {
        Doc {
            summary: "What a model says of each row. As a relation it adds the model's columns to those of the query; \
                      as a scalar it gives the first of them. Columns are found by name, in any order.",
            syntax: &[
                "predict('model', (SELECT …) [, threshold => 0.5])",
                "predict('model', column, …)",
                "predict_proba('model', column, …)",
            ],
            arguments: &[
                ("model", "name, or name@version"),
                ("query", "rows that have the columns the model was trained on; others are passed through"),
                ("threshold", "probability from which the positive of two classes is predicted; 0.5 by default"),
            ],
            returns: &[
                ("predicted_<label>", "classification: the class"),
                ("predicted_<label>_prob", "its probability; of true or 1 where the label is boolean or 0/1"),
                (
                    "centroid_id, centroid_distance",
                    "kmeans: the nearest cluster, from 1, and the distance to its middle",
                ),
                (
                    "predicted_<rating>",
                    "matrix_factorization of explicit ratings: what the customer would give the product",
                ),
                ("r_score, f_score, m_score, rfm_score", "rfm: the scores"),
            ],
            example: "SELECT payment_id, predicted_is_fraud_prob\n\
                      FROM predict('fraud', (SELECT payment_id, method, amount, date_part('hour', paid_ts) AS hour FROM payments))\n\
                      ORDER BY predicted_is_fraud_prob DESC, payment_id LIMIT 5",
        }
    }

    fn relation(&self) -> Option<Relation> {
        Some(relation)
    }

    fn scalars(&self, registry: &Arc<Registry>) -> Vec<ScalarUDF> {
        let scalar = |name, returns, rewrite| {
            ModelFunction { name, returns, run: |_, _| Err(unplanned()), rewrite: Some(rewrite) }.udf(registry)
        };
        vec![
            rows_function().udf(registry),
            scalar("predict", first_output, first_of_prediction),
            scalar("predict_proba", second_output, second_of_prediction),
        ]
    }
}

fn unplanned() -> Error {
    Error::internal("a scalar form was not rewritten while planning")
}

/// `predict_rows('m@3', threshold, 'a', a, 'b', b, …)`: all outputs as a struct.
fn rows_function() -> ModelFunction {
    ModelFunction {
        name: "predict_rows",
        returns: |fitted, _| Ok(DataType::Struct(outputs(fitted)?.clone())),
        run: |fitted, given| {
            let ask = PredictAsk { threshold: threshold(given)? };
            let predicted = fitted.model.predict(&given.named_columns(1)?, &ask)?;
            let fields = fitted.model.signature().outputs.clone();
            Ok(Arc::new(StructArray::try_new(fields, predicted.columns().to_vec(), None)?) as ArrayRef)
        },
        rewrite: None,
    }
}

fn threshold(given: &Given) -> Result<Option<f64>> {
    match given.scalar(0)? {
        ScalarValue::Float64(threshold) => Ok(threshold),
        _ => Err(Error::internal("threshold is not a double")),
    }
}

/// The model's output columns; a model that does not predict is refused with what it does instead.
fn outputs(fitted: &Fitted) -> Result<&datafusion::arrow::datatypes::Fields> {
    let outputs = &fitted.model.signature().outputs;
    if outputs.is_empty() {
        return Err(Error::unsupported(format!("model \"{}\" recommends, it does not predict", fitted.asked))
            .hint(format!("use recommend('{}', …)", fitted.asked)));
    }
    Ok(outputs)
}

fn relation(mut call: Call, planner: &mut dyn Planner) -> Result<LogicalPlan> {
    let fitted = call.model(planner)?;
    let input = call.relation(planner, "query")?.ok_or_else(|| {
        Error::invalid("predict() wants a query after the model")
            .hint(format!("predict('{}', (SELECT …))", fitted.asked))
    })?;
    let threshold = call.option(planner, "threshold", &DataType::Float64)?;
    call.finish(&["threshold"])?;
    let outputs = outputs(&fitted)?.clone();
    let threshold = threshold.unwrap_or_else(|| lit(ScalarValue::Float64(None)));
    let function = Arc::new(rows_function().udf(planner.registry()));
    let answer = call_with_inputs(function, &fitted, vec![threshold], &input)?;
    beside(input, answer, &outputs, "predict")
}

fn first_output(fitted: &Fitted, _: &[FieldRef]) -> Result<DataType> {
    Ok(outputs(fitted)?[0].data_type().clone())
}

fn second_output(fitted: &Fitted, _: &[FieldRef]) -> Result<DataType> {
    match fitted.model.signature().label {
        Some(_) => Ok(outputs(fitted)?[1].data_type().clone()),
        None => Err(Error::unsupported(format!("model \"{}\" gives no probabilities", fitted.asked))
            .hint("predict_proba() works on classification models")),
    }
}

fn first_of_prediction(registry: &Arc<Registry>, args: Vec<Expr>) -> Result<Expr> {
    of_prediction(registry, args, 0)
}

fn second_of_prediction(registry: &Arc<Registry>, args: Vec<Expr>) -> Result<Expr> {
    of_prediction(registry, args, 1)
}

fn of_prediction(registry: &Arc<Registry>, args: Vec<Expr>, output: usize) -> Result<Expr> {
    let (fitted, named) = scalar_inputs(registry, args)?;
    let name = outputs(&fitted)?[output].name().clone();
    let mut all = vec![lit(fitted.name.to_string()), lit(ScalarValue::Float64(None))];
    all.extend(named);
    Ok(get_field(Arc::new(rows_function().udf(registry)).call(all), name))
}

/// The model of a scalar call and its arguments as name, column, name, column, …
///
/// Arguments that are columns are matched by their names; if one is an expression without a name, all are taken in
/// the order of training.
pub(super) fn scalar_inputs(registry: &Arc<Registry>, args: Vec<Expr>) -> Result<(Fitted, Vec<Expr>)> {
    let mut args = args.into_iter();
    let fitted = match args.next() {
        Some(Expr::Literal(name, _)) => registry.get(name.try_as_str().flatten().unwrap_or_default())?,
        _ => return Err(Error::new(Kind::WrongType, "the model's name must be a text that stands in the query")),
    };
    let inputs = fitted.model.signature().asked();
    let args: Vec<Expr> = args.collect();
    let names: Option<Vec<String>> = args.iter().map(name_of).collect();
    let mut named = Vec::with_capacity(inputs.len() * 2);
    match names {
        Some(names) if inputs.iter().any(|input| names.iter().any(|name| name.eq_ignore_ascii_case(&input.name))) => {
            for input in inputs {
                let at = names.iter().position(|name| name.eq_ignore_ascii_case(&input.name));
                let at = at.ok_or_else(|| lacks(&fitted, &input.name, "the call does not give"))?;
                named.extend([lit(input.name.clone()), args[at].clone()]);
            }
        }
        _ if args.len() == inputs.len() => {
            named.extend(inputs.iter().zip(args).flat_map(|(input, arg)| [lit(input.name.clone()), arg]));
        }
        _ => {
            let wanted: Vec<&str> = inputs.iter().map(|input| input.name.as_str()).collect();
            let (given, n) = (args.len(), inputs.len());
            return Err(Error::invalid(format!("model \"{}\" needs {n} columns, not {given}", fitted.asked))
                .hint(format!("give {}", wanted.join(", "))));
        }
    }
    Ok((fitted, named))
}

/// The column that an argument is, casts looked through.
fn name_of(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Column(column) => Some(column.name.clone()),
        Expr::Alias(alias) => Some(alias.name.clone()),
        Expr::Cast(cast) => name_of(&cast.expr),
        _ => None,
    }
}
