//! `recommend`: the products to show to a customer, to many, or to whoever put these things into a basket.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Column, ExprSchema, ScalarValue};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, ScalarUDF, lit};

use crate::error::{Error, Result};
use crate::functions::call::as_relation;
use crate::functions::constant::KeyType;
use crate::functions::function::{Doc, Function, Relation};
use crate::functions::model_function::{Given, ModelFunction};
use crate::functions::nodes::{gathered, one_row, unnested};
use crate::functions::{Call, Planner};
use crate::models::{Ask, Fitted, Recommender, Registry, recommend, recommend_baskets, recommendation_fields};

pub struct Recommend;

const DEFAULT_K: i64 = 10;

impl Function for Recommend {
    fn name(&self) -> &'static str {
        "recommend"
    }

    fn doc(&self) -> Doc {
        Doc {
            summary: "The best products for each customer of a query, for one customer, or for a basket of products that \
                      nobody is known to stand behind. A customer whom the model does not know is answered with the \
                      popular products; source says so.",
            syntax: &[
                "recommend('model', (SELECT customer_id …) [, k => 10] [, option => …])",
                "recommend('model', customer_id [, k => 10] [, option => …])",
                "recommend('model', items => ARRAY['A', 'B'] [, k => 10] [, option => …])",
            ],
            arguments: &[
                ("model", "a model that recommends: name, or name@version"),
                (
                    "users",
                    "a query whose first column, or the one named as in training, is the customer; or one customer",
                ),
                ("items", "products in a basket instead of a customer"),
                ("k", "how many products at most; 10 by default"),
                (
                    "exclude_seen",
                    "leave out what the customer had in the training data, or has in the basket; true by default",
                ),
                ("candidates", "a query, or an array, of the only products to choose from"),
                ("cold_start", "'popular' (default) or 'none': what a customer whom the model does not know gets"),
            ],
            returns: &[
                ("<customer column>", "as in training; not for a basket"),
                ("rank", "from 1"),
                ("<product column>", "as in training"),
                ("score", "higher is better; comparable within one customer and source"),
                ("source", "'als' or 'popular': what ranked it"),
            ],
            example: "SELECT customer_id, rank, product_id, source\n\
                      FROM recommend('taste', (SELECT customer_id FROM customers WHERE customer_id <= 3), k => 2)\n\
                      ORDER BY customer_id, rank",
        }
    }

    fn relation(&self) -> Option<Relation> {
        Some(relation)
    }

    fn scalars(&self, registry: &Arc<Registry>) -> Vec<ScalarUDF> {
        vec![rows_function().udf(registry), basket_function().udf(registry)]
    }
}

/// The model as a recommender, or the error that says what it is.
pub(super) fn recommender(fitted: &Fitted) -> Result<&dyn Recommender> {
    fitted.model.recommender().ok_or_else(|| {
        Error::unsupported(format!(
            "model \"{}\" is a {} model, it does not recommend",
            fitted.asked, fitted.model_type
        ))
        .hint("train one with model_type = 'matrix_factorization' or 'popularity'")
    })
}

/// The keys of the model's customers.
pub(super) fn user_keys(fitted: &Fitted) -> Result<KeyType<'_>> {
    let history = recommender(fitted)?.history();
    let (column, data_type) = (history.names.user.as_str(), history.users.data_type());
    Ok(KeyType { fitted, what: "customers", column, data_type })
}

/// The keys of the model's products.
pub(super) fn item_keys(fitted: &Fitted) -> Result<KeyType<'_>> {
    let history = recommender(fitted)?.history();
    let (column, data_type) = (history.names.item.as_str(), history.items.data_type());
    Ok(KeyType { fitted, what: "products", column, data_type })
}

/// The type of a list of recommendations.
pub(super) fn list_type(fitted: &Fitted, _: &[FieldRef]) -> Result<DataType> {
    let fields = recommendation_fields(recommender(fitted)?.history().items.data_type());
    Ok(DataType::List(Arc::new(Field::new_list_field(DataType::Struct(fields), true))))
}

/// `recommend_rows('m@3', user, k, exclude_seen, candidates, cold_start)`: a list for each user.
fn rows_function() -> ModelFunction {
    ModelFunction {
        name: "recommend_rows",
        returns: list_type,
        run: |fitted, given| {
            let model = recommender(fitted)?;
            Ok(Arc::new(recommend(model, &given.array(0)?, &ask(model, given)?)?) as ArrayRef)
        },
        rewrite: None,
    }
}

/// `recommend_basket('m@3', items, k, exclude_seen, candidates, cold_start)`: a list for each basket.
fn basket_function() -> ModelFunction {
    ModelFunction {
        name: "recommend_basket",
        returns: list_type,
        run: |fitted, given| {
            let model = recommender(fitted)?;
            let baskets = given.array(0)?;
            let baskets = baskets.as_list_opt::<i32>().ok_or_else(|| Error::internal("a basket is not a list"))?;
            let baskets: Vec<ArrayRef> = (0..baskets.len())
                .map(|row| if baskets.is_null(row) { baskets.values().slice(0, 0) } else { baskets.value(row) })
                .collect();
            Ok(Arc::new(recommend_baskets(model, &baskets, &ask(model, given)?)?) as ArrayRef)
        },
        rewrite: None,
    }
}

/// What is asked, from the arguments after the customer.
fn ask(model: &dyn Recommender, given: &Given) -> Result<Ask> {
    let k = given.whole(1)?.ok_or_else(|| Error::invalid("k must not be NULL"))?;
    let candidates = match given.scalar(3)? {
        ScalarValue::List(lists) if lists.is_valid(0) => {
            let mut codes: Vec<u32> = model.history().items.codes(&lists.value(0))?.into_iter().flatten().collect();
            codes.sort_unstable();
            codes.dedup();
            Some(codes)
        }
        // An empty candidate query gathers to NULL; without candidates the argument is of type Null.
        ScalarValue::List(_) => Some(Vec::new()),
        _ => None,
    };
    let cold_start = match given.scalar(4)?.try_as_str().flatten() {
        Some("popular") => true,
        Some("none") => false,
        other => {
            let other = other.unwrap_or("NULL");
            return Err(Error::invalid(format!("cold_start must be 'popular' or 'none', not '{other}'")));
        }
    };
    let exclude_seen = given.truth(2)?.unwrap_or(true);
    Ok(Ask { k: Ask::checked_k(k)?, exclude_seen, candidates, cold_start })
}

fn relation(mut call: Call, planner: &mut dyn Planner) -> Result<LogicalPlan> {
    let fitted = call.model(planner)?;
    let names = recommender(&fitted)?.history().names.clone();
    let (users, items) = (user_keys(&fitted)?, item_keys(&fitted)?);
    let basket = call.named("items");
    let who = call.next("users");
    let k = call.option(planner, "k", &DataType::Int64)?.unwrap_or_else(|| lit(DEFAULT_K));
    let exclude_seen = call.option(planner, "exclude_seen", &DataType::Boolean)?.unwrap_or_else(|| lit(true));
    let cold_start = call.option(planner, "cold_start", &DataType::Utf8)?.unwrap_or_else(|| lit("popular"));
    let candidates = match call.named("candidates") {
        None => lit(ScalarValue::Null),
        Some(expr) => match as_relation(expr, planner)? {
            Ok(plan) => {
                items.check_first(&plan)?;
                gathered(plan)?
            }
            Err(expr) => items.list(planner.constant(expr)?)?,
        },
    };
    call.finish(&["k", "exclude_seen", "candidates", "cold_start", "items"])?;

    let model = lit(fitted.name.to_string());
    let options = [k, exclude_seen, candidates, cold_start];
    let parts = [("rank", "rank"), ("item", names.item.as_str()), ("score", "score"), ("source", "source")];
    match (who, basket) {
        (Some(_), Some(_)) => Err(Error::invalid("recommend() takes customers or items, not both")),
        (None, None) => Err(Error::invalid("recommend() wants customers or a basket after the model").hint(format!(
            "recommend('{0}', (SELECT {1} FROM …)) or recommend('{0}', items => ARRAY[…])",
            fitted.asked, names.user
        ))),
        (None, Some(items_given)) => {
            let basket = items.list(planner.constant(items_given)?)?;
            let args = [model, basket].into_iter().chain(options).collect();
            let list = Arc::new(basket_function().udf(planner.registry())).call(args);
            unnested(one_row()?, None, list, &parts)
        }
        (Some(who), None) => {
            let input = match as_relation(who, planner)? {
                Ok(plan) => distinct_users(plan, &users)?,
                Err(one) => {
                    let user = users.one(planner.constant(one)?)?.alias(names.user.as_str());
                    LogicalPlanBuilder::empty(true).project(vec![user])?.build()?
                }
            };
            let user = Expr::Column(Column::new_unqualified(names.user.as_str()));
            let args = [model, user.clone()].into_iter().chain(options).collect();
            let list = Arc::new(rows_function().udf(planner.registry())).call(args);
            unnested(input, Some(&names.user), list, &parts)
        }
    }
}

/// The customers of a query, each once: the column named as in training, or else the first.
fn distinct_users(plan: LogicalPlan, keys: &KeyType) -> Result<LogicalPlan> {
    let user = keys.column;
    let columns = plan.schema().columns();
    let named = columns.iter().find(|column| column.name.eq_ignore_ascii_case(user)).or(columns.first());
    let Some(column) = named.cloned() else { return Err(Error::invalid("the query gives no column of customers")) };
    keys.check(plan.schema().data_type(&column)?)?;
    Ok(LogicalPlanBuilder::from(plan).project(vec![Expr::Column(column).alias(user)])?.distinct()?.build()?)
}
