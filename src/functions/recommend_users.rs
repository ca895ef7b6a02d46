//! `recommend_users`: the customers to show a product to.

use std::sync::Arc;

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::Column;
use datafusion::logical_expr::{Expr, LogicalPlan, ScalarUDF, lit};

use crate::error::{Error, Result};
use crate::frame::Side;
use crate::functions::ask::{candidate_keys, chosen};
use crate::functions::function::{Doc, Function, Relation};
use crate::functions::model_function::{Given, ModelFunction};
use crate::functions::nodes::unnested;
use crate::functions::recommend::{keys, recommender};
use crate::functions::similar::list_type;
use crate::functions::{Call, Planner};
use crate::models::{AudienceAsk, Recommender, Registry, recommend_users};

pub struct RecommendUsers;

const DEFAULT_K: i64 = 1000;

impl Function for RecommendUsers {
    fn name(&self) -> &'static str {
        "recommend_users"
    }

    fn doc(&self) -> Doc {
        Doc {
            summary: "The customers for whom a product, or each product of a query, scores best: whom to tell of it. An \
                      unknown product has none.",
            syntax: &[
                "recommend_users('model', item [, k => 1000] [, option => …])",
                "recommend_users('model', (SELECT item …) [, k => 1000] [, option => …])",
            ],
            arguments: &[
                ("model", "a model that recommends: name, or name@version"),
                ("item", "one product, or a query whose first column, or the one named as in training, is the product"),
                ("k", "how many customers at most; 1000 by default"),
                ("exclude_seen", "leave out customers who had the product in the training data; true by default"),
                ("candidates", "a query, or an array, of the only customers to choose from"),
            ],
            returns: &[
                ("<product column>", "as in training"),
                ("rank", "from 1"),
                ("<customer column>", "as in training"),
                (
                    "score",
                    "that of recommend(): comparable within one product where the model's scores are between customers",
                ),
            ],
            example: "SELECT rank, customer_id FROM recommend_users('taste', 7, k => 3) ORDER BY rank",
        }
    }

    fn relation(&self) -> Option<Relation> {
        Some(relation)
    }

    fn scalars(&self, registry: &Arc<Registry>) -> Vec<ScalarUDF> {
        vec![rows_function().udf(registry)]
    }
}

/// `recommend_users_rows('m@3', item, k, exclude_seen, candidates)`: a list of customers for each product.
fn rows_function() -> ModelFunction {
    ModelFunction {
        name: "recommend_users_rows",
        returns: |fitted, _| list_type(fitted, Side::User),
        run: |fitted, given| {
            let model = recommender(fitted)?;
            Ok(Arc::new(recommend_users(model, &given.array(0)?, &ask(model, given)?)?) as ArrayRef)
        },
        rewrite: None,
    }
}

/// What is asked, from the arguments after the product.
fn ask(model: &dyn Recommender, given: &Given) -> Result<AudienceAsk> {
    let candidates = chosen(&model.history().users, &given.scalar(3)?)?;
    Ok(AudienceAsk { k: given.k(1)?, exclude_seen: given.truth(2)?.unwrap_or(true), candidates })
}

fn relation(mut call: Call, planner: &mut dyn Planner) -> Result<LogicalPlan> {
    let fitted = call.model(planner)?;
    let (users, items) = (keys(&fitted, Side::User)?, keys(&fitted, Side::Item)?);
    let item = call.next("item").ok_or_else(|| {
        Error::invalid("recommend_users() wants a product after the model")
            .hint(format!("recommend_users('{}', 42, k => 1000)", fitted.asked))
    })?;
    let k = call.option(planner, "k", &DataType::Int64)?.unwrap_or_else(|| lit(DEFAULT_K));
    let exclude_seen = call.option(planner, "exclude_seen", &DataType::Boolean)?.unwrap_or_else(|| lit(true));
    let candidates = candidate_keys(&mut call, planner, &users)?;
    call.finish(&["k", "exclude_seen", "candidates"])?;

    let input = items.asked(item, planner, items.column)?;
    let item = Expr::Column(Column::new_unqualified(items.column));
    let args = vec![lit(fitted.name.to_string()), item, k, exclude_seen, candidates];
    let list = Arc::new(rows_function().udf(planner.registry())).call(args);
    unnested(input, &[items.column], list, &[("rank", "rank"), ("key", users.column), ("score", "score")])
}
