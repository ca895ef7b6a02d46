//! `similar_items` and `similar_users`: what the same customers like, and who likes the same things.

use std::sync::Arc;

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::Column;
use datafusion::logical_expr::{Expr, LogicalPlan, ScalarUDF, lit};

use crate::error::{Error, Result};
use crate::frame::Side;
use crate::functions::function::{Doc, Function, Relation};
use crate::functions::model_function::{Given, ModelFunction};
use crate::functions::nodes::unnested;
use crate::functions::recommend::{keys, list_of, recommender};
use crate::functions::{Call, Planner};
use crate::models::{Fitted, Registry, ranked_fields, similar};

pub struct SimilarItems;
pub struct SimilarUsers;

impl Function for SimilarItems {
    fn name(&self) -> &'static str {
        "similar_items"
    }

    fn doc(&self) -> Doc {
        Doc {
            summary: "The products most like one, or like each of a query: those that the same customers like. An \
                      unknown product has none.",
            syntax: &[
                "similar_items('model', item [, k => 10])",
                "similar_items('model', (SELECT item …) [, k => 10])",
            ],
            arguments: &[
                ("model", "a model that recommends: name, or name@version"),
                ("item", "one product, or a query whose first column, or the one named as in training, is the product"),
                ("k", "how many at most; 10 by default"),
            ],
            returns: &[
                ("asked", "the product asked for"),
                ("rank", "from 1"),
                ("<product column>", "as in training"),
                (
                    "score",
                    "at most 1: the cosine of the products' vectors where the model learns such, else of their histories, \
                     or the model's own measure",
                ),
            ],
            example: "SELECT rank, product_id FROM similar_items('taste', 7, k => 3) ORDER BY rank",
        }
    }

    fn relation(&self) -> Option<Relation> {
        Some(|call, planner| relation(call, planner, Side::Item))
    }

    fn scalars(&self, registry: &Arc<Registry>) -> Vec<ScalarUDF> {
        vec![rows_function(Side::Item).udf(registry)]
    }
}

impl Function for SimilarUsers {
    fn name(&self) -> &'static str {
        "similar_users"
    }

    fn doc(&self) -> Doc {
        Doc {
            summary: "The customers most like one, or like each of a query: those who like the same products. An unknown \
                      customer has none. For a whole group see lookalike().",
            syntax: &[
                "similar_users('model', user [, k => 10])",
                "similar_users('model', (SELECT user …) [, k => 10])",
            ],
            arguments: &[
                ("model", "a model that recommends: name, or name@version"),
                (
                    "user",
                    "one customer, or a query whose first column, or the one named as in training, is the customer",
                ),
                ("k", "how many at most; 10 by default"),
            ],
            returns: &[
                ("asked", "the customer asked for"),
                ("rank", "from 1"),
                ("<customer column>", "as in training"),
                (
                    "score",
                    "at most 1: the cosine of the customers' vectors where the model learns such, else of their histories",
                ),
            ],
            example: "SELECT rank, customer_id FROM similar_users('taste', 42, k => 3) ORDER BY rank",
        }
    }

    fn relation(&self) -> Option<Relation> {
        Some(|call, planner| relation(call, planner, Side::User))
    }

    fn scalars(&self, registry: &Arc<Registry>) -> Vec<ScalarUDF> {
        vec![rows_function(Side::User).udf(registry)]
    }
}

/// `similar_item_rows('m@3', item, k)` and `similar_user_rows('m@3', user, k)`: a list for each.
fn rows_function(side: Side) -> ModelFunction {
    match side {
        Side::Item => ModelFunction {
            name: "similar_item_rows",
            returns: |fitted, _| list_type(fitted, Side::Item),
            run: |fitted, given| rows(fitted, given, Side::Item),
            rewrite: None,
        },
        Side::User => ModelFunction {
            name: "similar_user_rows",
            returns: |fitted, _| list_type(fitted, Side::User),
            run: |fitted, given| rows(fitted, given, Side::User),
            rewrite: None,
        },
    }
}

/// The type of a ranked list of customers or products.
pub(super) fn list_type(fitted: &Fitted, side: Side) -> Result<DataType> {
    Ok(list_of(ranked_fields(recommender(fitted)?.history().keys(side).data_type())))
}

fn rows(fitted: &Fitted, given: &Given, side: Side) -> Result<ArrayRef> {
    Ok(Arc::new(similar(recommender(fitted)?, side, &given.array(0)?, given.k(1)?)?))
}

fn relation(mut call: Call, planner: &mut dyn Planner, side: Side) -> Result<LogicalPlan> {
    let fitted = call.model(planner)?;
    let keys = keys(&fitted, side)?;
    let (argument, what) = match side {
        Side::Item => ("item", "product"),
        Side::User => ("user", "customer"),
    };
    let function = call.function;
    let asked = call.next(argument).ok_or_else(|| {
        Error::invalid(format!("{function}() wants a {what} after the model"))
            .hint(format!("{function}('{}', 42, k => 10)", fitted.asked))
    })?;
    let k = call.option(planner, "k", &DataType::Int64)?.unwrap_or_else(|| lit(10i64));
    call.finish(&["k"])?;
    let input = keys.asked(asked, planner, "asked")?;
    let args = vec![lit(fitted.name.to_string()), Expr::Column(Column::new_unqualified("asked")), k];
    let list = Arc::new(rows_function(side).udf(planner.registry())).call(args);
    unnested(input, &["asked"], list, &[("rank", "rank"), ("key", keys.column), ("score", "score")])
}
