//! `explain_recommendation`: which of the products that a customer had make the score of another one.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Column, ExprSchema, ScalarValue};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, ScalarUDF, lit};

use crate::error::{Error, Result};
use crate::frame::Side;
use crate::functions::call::as_relation;
use crate::functions::constant::KeyType;
use crate::functions::function::{Doc, Function, Relation};
use crate::functions::live::{fresh, with_live};
use crate::functions::model_function::ModelFunction;
use crate::functions::nodes::unnested;
use crate::functions::recommend::{keys, list_of, recommender};
use crate::functions::{Call, Planner};
use crate::models::{Fitted, ModelName, Registry, explain, explanation_fields};

pub struct ExplainRecommendation;

impl Function for ExplainRecommendation {
    fn name(&self) -> &'static str {
        "explain_recommendation"
    }

    fn doc(&self) -> Doc {
        Doc {
            summary: "Why a customer is recommended a product: what each product that they had adds to its score. The \
                      contributions sum to the score that recommend() gives.",
            syntax: &[
                "explain_recommendation('model', customer_id, product_id [, options])",
                "explain_recommendation('model', (SELECT customer_id, product_id …) [, options])",
            ],
            arguments: &[
                ("model", "a model that recommends and can tell why: name, or name@version"),
                (
                    "user",
                    "the customer; or a query of customers and products, by the columns named as in training or else the \
                     first two, where a pair that the model does not know has no lines",
                ),
                ("item", "the product"),
                (
                    "k",
                    "keep as many products, those that add or take away most, and sum up the others in a last line; all \
                     by default",
                ),
                (
                    "fresh",
                    "as of recommend(): where the tables of the training have changed, customers are explained by what \
                     they have done by now; false: as trained",
                ),
            ],
            returns: &[
                ("<customer column>, <product column>", "as in training: what is explained"),
                ("because_item", "a product that the customer had; NULL for all that no single product accounts for"),
                ("contribution", "what it adds to the score"),
                ("share", "its part of the score; NULL where the score is 0"),
            ],
            example: "SELECT because_item, contribution, share\n\
                      FROM recommend('taste', 42, k => 1) r\n\
                      CROSS JOIN LATERAL explain_recommendation('taste', r.customer_id, r.product_id, k => 3) e\n\
                      ORDER BY contribution DESC",
        }
    }

    fn relation(&self) -> Option<Relation> {
        Some(relation)
    }

    fn scalars(&self, registry: &Arc<Registry>) -> Vec<ScalarUDF> {
        vec![rows_function().udf(registry)]
    }
}

/// `explanation_rows('m@3', user, item, k, must_be_known, live)`: a list of contributions for each pair; k NULL: all.
fn rows_function() -> ModelFunction {
    ModelFunction {
        name: "explanation_rows",
        returns: |fitted, _| Ok(list_of(explanation_fields(recommender(fitted)?.history().items.data_type()))),
        run: |fitted, given| {
            let (users, items) = (given.array(0)?, given.array(1)?);
            let live = given.array(4)?;
            let live = live.as_list_opt::<i32>();
            if given.truth(3)? == Some(true) {
                if live.is_none_or(|live| live.null_count() > 0) {
                    check_known(fitted, Side::User, &users)?;
                }
                check_known(fitted, Side::Item, &items)?;
            }
            let k = if given.scalar(2)?.is_null() { None } else { Some(given.k(2)?) };
            Ok(Arc::new(explain(recommender(fitted)?, &users, &items, live, k)?) as ArrayRef)
        },
        rewrite: None,
    }
}

fn check_known(fitted: &Fitted, side: Side, asked: &ArrayRef) -> Result<()> {
    let codes = recommender(fitted)?.history().keys(side).codes(asked)?;
    let Some(unknown) = codes.iter().position(Option::is_none) else { return Ok(()) };
    let key = ScalarValue::try_from_array(asked, unknown)?;
    let (what, cure) = match side {
        Side::User => {
            ("customer", "who was not in the training data is shown what is popular, for no reason of their own")
        }
        Side::Item => ("product", "only products of the training data have a score"),
    };
    let model = ModelName { version: None, ..fitted.name.clone() };
    Err(Error::invalid(format!("model \"{model}\" does not know {what} {key}")).hint(cure))
}

fn relation(mut call: Call, planner: &mut dyn Planner) -> Result<LogicalPlan> {
    let fitted = call.model(planner)?;
    let (users, items) = (keys(&fitted, Side::User)?, keys(&fitted, Side::Item)?);
    let wanted = || {
        Error::invalid("explain_recommendation() wants a customer and a product after the model").hint(format!(
            "explain_recommendation('{0}', 42, 7) or explain_recommendation('{0}', (SELECT {1}, {2} FROM …))",
            fitted.asked, users.column, items.column
        ))
    };
    let mut only = None;
    let (input, must_be_known) = match as_relation(call.next("user").ok_or_else(wanted)?, planner)? {
        Ok(plan) => (pairs(plan, &users, &items)?, false),
        Err(user) => {
            let user = users.one(planner.constant_or_beside(user)?)?;
            let item = items.one(planner.constant_or_beside(call.next("item").ok_or_else(wanted)?)?)?;
            let beside = user.contains_outer() || item.contains_outer();
            only = Some(user.clone());
            let pair = vec![user.alias(users.column), item.alias(items.column)];
            (LogicalPlanBuilder::empty(true).project(pair)?.build()?, !beside)
        }
    };
    let k = call.option(planner, "k", &DataType::Int64)?;
    let fresh = fresh(&mut call, planner)?;
    call.finish(&["k", "fresh"])?;

    let names = recommender(&fitted)?.history().names.clone();
    let (input, live) = with_live(planner, &fitted, &names, input, only.as_ref(), fresh)?;
    let column = |keys: &KeyType| Expr::Column(Column::new_unqualified(keys.column));
    let k = k.unwrap_or_else(|| lit(ScalarValue::Int64(None)));
    let args = vec![lit(fitted.name.to_string()), column(&users), column(&items), k, lit(must_be_known), live];
    let list = Arc::new(rows_function().udf(planner.registry())).call(args);
    let parts = ["because_item", "contribution", "share"].map(|name| (name, name));
    unnested(input, &[users.column, items.column], list, &parts)
}

/// The pairs of a query, each once: the columns named as in training, or else the first two.
fn pairs(plan: LogicalPlan, users: &KeyType, items: &KeyType) -> Result<LogicalPlan> {
    let columns = plan.schema().columns();
    let named = |keys: &KeyType| columns.iter().find(|column| column.name.eq_ignore_ascii_case(keys.column));
    let found = named(users).zip(named(items)).or_else(|| columns.first().zip(columns.get(1)));
    let Some((user, item)) = found.map(|(user, item)| (user.clone(), item.clone())) else {
        return Err(Error::invalid("the query must give a customer and a product")
            .hint(format!("SELECT {}, {} FROM …", users.column, items.column)));
    };
    users.check(plan.schema().data_type(&user)?)?;
    items.check(plan.schema().data_type(&item)?)?;
    let pair = vec![Expr::Column(user).alias(users.column), Expr::Column(item).alias(items.column)];
    Ok(LogicalPlanBuilder::from(plan).project(pair)?.distinct()?.build()?)
}
