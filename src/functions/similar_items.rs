//! `similar_items`: products that the same customers like.

use std::sync::Arc;

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::Column;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, ScalarUDF, lit};

use crate::error::{Error, Result};
use crate::functions::call::as_relation;
use crate::functions::function::{Doc, Function, Relation};
use crate::functions::model_function::ModelFunction;
use crate::functions::nodes::unnested;
use crate::functions::recommend::{item_keys, list_type, recommender};
use crate::functions::{Call, Planner};
use crate::models::{Ask, Registry, similar};

pub struct SimilarItems;

impl Function for SimilarItems {
    fn name(&self) -> &'static str {
        "similar_items"
    }

    fn doc(&self) -> Doc {
        Doc {
            summary: "The products most like one, or like each of a query, by the cosine of their factors. An unknown \
                      product has none.",
            syntax: &[
                "similar_items('model', item [, k => 10])",
                "similar_items('model', (SELECT item …) [, k => 10])",
            ],
            arguments: &[
                ("model", "a matrix_factorization model: name, or name@version"),
                ("item", "one product, or a query of products"),
                ("k", "how many at most; 10 by default"),
            ],
            returns: &[
                ("item", "the product asked for"),
                ("rank", "from 1"),
                ("<product column>", "as in training"),
                ("score", "cosine similarity, at most 1"),
            ],
            example: "SELECT rank, product_id FROM similar_items('taste', 7, k => 3) ORDER BY rank",
        }
    }

    fn relation(&self) -> Option<Relation> {
        Some(relation)
    }

    fn scalars(&self, registry: &Arc<Registry>) -> Vec<ScalarUDF> {
        vec![rows_function().udf(registry)]
    }
}

/// `similar_rows('m@3', item, k)`: a list for each item.
fn rows_function() -> ModelFunction {
    ModelFunction {
        name: "similar_rows",
        returns: list_type,
        run: |fitted, given| {
            let k = given.whole(1)?.ok_or_else(|| Error::invalid("k must not be NULL"))?;
            let list = similar(recommender(fitted)?, &given.array(0)?, Ask::checked_k(k)?)?;
            Ok(Arc::new(list) as ArrayRef)
        },
        rewrite: None,
    }
}

fn relation(mut call: Call, planner: &mut dyn Planner) -> Result<LogicalPlan> {
    let fitted = call.model(planner)?;
    let items = item_keys(&fitted)?;
    let name = items.column.to_owned();
    let asked = call.next("item").ok_or_else(|| {
        Error::invalid("similar_items() wants a product after the model")
            .hint(format!("similar_items('{}', 42, k => 10)", fitted.asked))
    })?;
    let k = call.option(planner, "k", &DataType::Int64)?.unwrap_or_else(|| lit(10i64));
    call.finish(&["k"])?;
    let input = match as_relation(asked, planner)? {
        Ok(plan) => {
            items.check_first(&plan)?;
            let Some(column) = plan.schema().columns().into_iter().next() else {
                return Err(Error::invalid("the query gives no column of products"));
            };
            LogicalPlanBuilder::from(plan).project(vec![Expr::Column(column).alias("item")])?.distinct()?.build()?
        }
        Err(one) => {
            let item = items.one(planner.constant(one)?)?.alias("item");
            LogicalPlanBuilder::empty(true).project(vec![item])?.build()?
        }
    };
    let item = Expr::Column(Column::new_unqualified("item"));
    let args = vec![lit(fitted.name.to_string()), item, k];
    let list = Arc::new(rows_function().udf(planner.registry())).call(args);
    unnested(input, Some("item"), list, &[("rank", "rank"), ("item", &name), ("score", "score")])
}
