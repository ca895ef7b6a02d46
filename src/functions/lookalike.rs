//! `lookalike`: the customers who are most like a group.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::datatypes::DataType;
use datafusion::logical_expr::{LogicalPlan, ScalarUDF, lit};

use crate::error::{Error, Result};
use crate::frame::Side;
use crate::functions::call::as_relation;
use crate::functions::function::{Doc, Function, Relation};
use crate::functions::model_function::{Given, ModelFunction};
use crate::functions::nodes::{gathered_column, one_row, unnested};
use crate::functions::recommend::{keys, recommender};
use crate::functions::similar::list_type;
use crate::functions::{Call, Planner};
use crate::models::{Fitted, ModelName, Registry, lookalike};

pub struct Lookalike;

const DEFAULT_K: i64 = 5000;

impl Function for Lookalike {
    fn name(&self) -> &'static str {
        "lookalike"
    }

    fn doc(&self) -> Doc {
        Doc {
            summary: "The customers most like a group of seeds together, the seeds left out: the audience next to the \
                      one that is known. All seeds count the same. Those whom the model does not know say nothing; it is \
                      an error if it knows none of them.",
            syntax: &[
                "lookalike('model', (SELECT customer_id …) [, k => 5000])",
                "lookalike('model', ARRAY[1, 2] [, k => 5000])",
            ],
            arguments: &[
                ("model", "a model that recommends: name, or name@version"),
                (
                    "users",
                    "a query whose first column, or the one named as in training, is the customer; or an array of them. \
                     Without any the answer is empty",
                ),
                ("k", "how many customers at most; 5000 by default"),
            ],
            returns: &[
                ("rank", "from 1"),
                ("<customer column>", "as in training"),
                (
                    "score",
                    "at most 1: the cosine between the customer and the mean direction of the seeds, of vectors where the \
                     model learns such, else of histories",
                ),
            ],
            example: "SELECT rank, customer_id\n\
                      FROM lookalike('taste', (SELECT customer_id FROM customers WHERE customer_id <= 20), k => 3)\n\
                      ORDER BY rank",
        }
    }

    fn relation(&self) -> Option<Relation> {
        Some(relation)
    }

    fn scalars(&self, registry: &Arc<Registry>) -> Vec<ScalarUDF> {
        vec![rows_function().udf(registry)]
    }
}

/// `lookalike_rows('m@3', seeds, k)`: a list of customers for each list of seeds.
fn rows_function() -> ModelFunction {
    ModelFunction {
        name: "lookalike_rows",
        returns: |fitted, _| list_type(fitted, Side::User),
        run: |fitted, given| {
            let seeds = seeds(fitted, given)?;
            Ok(Arc::new(lookalike(recommender(fitted)?, &seeds, given.k(1)?)?) as ArrayRef)
        },
        rewrite: None,
    }
}

/// The numbers of the seeds that are known, of each list.
fn seeds(fitted: &Fitted, given: &Given) -> Result<Vec<Vec<u32>>> {
    let users = &recommender(fitted)?.history().users;
    let lists = given.array(0)?;
    let lists = lists.as_list_opt::<i32>().ok_or_else(|| Error::internal("seeds are not a list"))?;
    let known = |row: usize| {
        if lists.is_null(row) {
            return Ok(Vec::new());
        }
        let seeds = lists.value(row);
        let known: Vec<u32> = users.codes(&seeds)?.into_iter().flatten().collect();
        let asked = seeds.len() - seeds.logical_null_count();
        if known.is_empty() && asked > 0 {
            let model = ModelName { version: None, ..fitted.name.clone() };
            let message = match asked {
                1 => format!("model \"{model}\" does not know the customer that is the seed"),
                n => format!("model \"{model}\" knows none of the {n} customers that are the seeds"),
            };
            return Err(Error::invalid(message).hint("seeds must have been in the training data, under the same keys"));
        }
        Ok(known)
    };
    (0..lists.len()).map(known).collect()
}

fn relation(mut call: Call, planner: &mut dyn Planner) -> Result<LogicalPlan> {
    let fitted = call.model(planner)?;
    let users = keys(&fitted, Side::User)?;
    let seeds = call.next("users").ok_or_else(|| {
        Error::invalid("lookalike() wants the seeds after the model")
            .hint(format!("lookalike('{}', (SELECT {} FROM …), k => 5000)", fitted.asked, users.column))
    })?;
    let k = call.option(planner, "k", &DataType::Int64)?.unwrap_or_else(|| lit(DEFAULT_K));
    call.finish(&["k"])?;
    let seeds = match as_relation(seeds, planner)? {
        Ok(plan) => gathered_column(users.distinct(plan, users.column)?)?,
        Err(array) => users.list(planner.constant_or_beside(array)?)?,
    };
    let list = Arc::new(rows_function().udf(planner.registry())).call(vec![lit(fitted.name.to_string()), seeds, k]);
    unnested(one_row()?, &[], list, &[("rank", "rank"), ("key", users.column), ("score", "score")])
}
