//! `segment`: which group each row belongs to, and how sure the model is.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, StructArray};
use datafusion::arrow::datatypes::{DataType, Field, Fields};
use datafusion::functions::core::expr_fn::get_field;
use datafusion::logical_expr::{Expr, LogicalPlan, ScalarUDF, lit};

use crate::error::{Error, Result};
use crate::functions::function::{Doc, Function, Relation};
use crate::functions::model_function::ModelFunction;
use crate::functions::nodes::{beside, call_with_inputs};
use crate::functions::predict::scalar_inputs;
use crate::functions::{Call, Planner};
use crate::models::Registry;

pub struct Segment;

impl Function for Segment {
    fn name(&self) -> &'static str {
        "segment"
    }

    fn doc(&self) -> Doc {
        Doc {
            summary: "Which segment each row belongs to, by name where the model has names and else by number. Works on \
                      kmeans, rfm and classification models.",
            syntax: &["segment('model', (SELECT …))", "segment('model', column, …)"],
            arguments: &[
                ("model", "name, or name@version"),
                ("query", "rows that have the columns the model was trained on; others are passed through"),
            ],
            returns: &[
                ("segment", "name or number of the segment"),
                (
                    "segment_confidence",
                    "kmeans: 1 − d₁/d₂ of the two nearest centroids; classes: the probability; rfm: 1",
                ),
            ],
            example: "SELECT segment, count(*) AS customers\n\
                      FROM segment('tiers', (SELECT * FROM rfm((SELECT customer_id, order_ts, amount FROM orders))))\n\
                      GROUP BY segment ORDER BY customers DESC, segment",
        }
    }

    fn relation(&self) -> Option<Relation> {
        Some(relation)
    }

    fn scalars(&self, registry: &Arc<Registry>) -> Vec<ScalarUDF> {
        let scalar = ModelFunction {
            name: "segment",
            returns: |_, _| Ok(DataType::Utf8),
            run: |_, _| Err(Error::internal("a scalar form was not rewritten while planning")),
            rewrite: Some(first_of_segment),
        };
        vec![rows_function().udf(registry), scalar.udf(registry)]
    }
}

fn answers() -> Fields {
    Fields::from(vec![
        Field::new("segment", DataType::Utf8, true),
        Field::new("segment_confidence", DataType::Float64, true),
    ])
}

/// `segment_rows('m@3', 'a', a, 'b', b, …)`: name and confidence as a struct.
fn rows_function() -> ModelFunction {
    ModelFunction {
        name: "segment_rows",
        returns: |_, _| Ok(DataType::Struct(answers())),
        run: |fitted, given| {
            let (names, confidences) = fitted.model.segment(&given.named_columns(0)?)?;
            let columns: Vec<ArrayRef> = vec![Arc::new(names), Arc::new(confidences)];
            Ok(Arc::new(StructArray::try_new(answers(), columns, None)?) as ArrayRef)
        },
        rewrite: None,
    }
}

fn relation(mut call: Call, planner: &mut dyn Planner) -> Result<LogicalPlan> {
    let fitted = call.model(planner)?;
    let input = call.relation(planner, "query")?.ok_or_else(|| {
        Error::invalid("segment() wants a query after the model")
            .hint(format!("segment('{}', (SELECT …))", fitted.asked))
    })?;
    call.finish(&[])?;
    if fitted.model.recommender().is_some() {
        return Err(Error::unsupported(format!("model \"{}\" recommends, it has no segments", fitted.asked))
            .hint("segment() works on kmeans, rfm and classification models"));
    }
    let function = Arc::new(rows_function().udf(planner.registry()));
    let answer = call_with_inputs(function, &fitted, vec![], &input)?;
    beside(input, answer, &answers(), "segment")
}

fn first_of_segment(registry: &Arc<Registry>, args: Vec<Expr>) -> Result<Expr> {
    let (fitted, named) = scalar_inputs(registry, args)?;
    let mut all = vec![lit(fitted.name.to_string())];
    all.extend(named);
    Ok(get_field(Arc::new(rows_function().udf(registry)).call(all), "segment"))
}
