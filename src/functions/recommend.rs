//! `recommend`: the products to show to a customer, to many, or to whoever put these things into a basket.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::Column;
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, ScalarUDF, lit};

use crate::error::{Error, Result};
use crate::frame::Side;
use crate::functions::call::as_relation;
use crate::functions::constant::KeyType;
use crate::functions::function::{Doc, Function, Relation};
use crate::functions::live::{fresh, with_live};
use crate::functions::model_function::ModelFunction;
use crate::functions::nodes::{one_row, unnested};
use crate::functions::{Call, Planner, ask};
use crate::models::{Fitted, Recommender, Registry, recommend, recommend_baskets, recommendation_fields, types_for};

pub struct Recommend;

impl Function for Recommend {
    fn name(&self) -> &'static str {
        "recommend"
    }

    fn doc(&self) -> Doc {
        Doc {
            summary: "The best products for each customer of a query, for one customer, for all, or for a basket of \
                      products that nobody is known to stand behind. What a customer has done since the training counts, \
                      and so does a customer who was not there yet: the training query is asked again for them. A \
                      customer of whom nothing is known is answered with the popular products; source says so.",
            syntax: &[
                "recommend('model', (SELECT customer_id …) [, k => 10] [, option => …])",
                "recommend('model', customer_id [, k => 10] [, option => …])",
                "recommend('model', k => 10 [, option => …])",
                "recommend('model', items => ARRAY['A', 'B'] [, k => 10] [, option => …])",
                "… c CROSS JOIN LATERAL recommend('model', c.customer_id [, k => 10] [, option => …]) r",
            ],
            arguments: &[
                ("model", "a model that recommends: name, or name@version"),
                (
                    "users",
                    "a query whose first column, or the one named as in training, is the customer; or one customer",
                ),
                ("items", "products in a basket instead of a customer"),
                (
                    "k",
                    "how many products at most; 10 by default, and wanted where all customers of the model are meant",
                ),
                ("exclude_seen", "leave out what the customer has had, or has in the basket; true by default"),
                (
                    "fresh",
                    "count what the tables say now, by the training query; true by default where it can still run, an \
                     error where true is asked for and it cannot; false answers as trained",
                ),
                ("candidates", "a query, or an array, of the only products to choose from"),
                ("min_score", "nothing that scores less"),
                (
                    "diversity",
                    "0 (default) to 1: how much likeness to the products ranked before counts against one (maximal \
                     marginal relevance, Carbonell & Goldstein 1998)",
                ),
                (
                    "max_per",
                    "'category:2' or ARRAY['category:2', 'brand:1']: at most so many products with the same value in that \
                     column of the candidates query",
                ),
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
        .hint(format!("train one with model_type = {}", types_for("recommend")))
    })
}

/// The keys of the model's customers or products.
pub(super) fn keys(fitted: &Fitted, side: Side) -> Result<KeyType<'_>> {
    let history = recommender(fitted)?.history();
    let (what, column) = match side {
        Side::User => ("customers", history.names.user.as_str()),
        Side::Item => ("products", history.names.item.as_str()),
    };
    Ok(KeyType { fitted, what, column, data_type: history.keys(side).data_type() })
}

/// The type of a list of recommendations.
fn list_type(fitted: &Fitted, _: &[FieldRef]) -> Result<DataType> {
    let fields = recommendation_fields(recommender(fitted)?.history().items.data_type());
    Ok(list_of(fields))
}

/// The type of a list of rows with these columns.
pub(super) fn list_of(fields: Fields) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(DataType::Struct(fields), true)))
}

/// `recommend_rows('m@3', user, options…, live)`: a list for each user.
fn rows_function() -> ModelFunction {
    ModelFunction {
        name: "recommend_rows",
        returns: list_type,
        run: |fitted, given| {
            let model = recommender(fitted)?;
            let (ask, selection) = ask::read(model, given)?;
            let live = given.array(1 + ask::OPTIONS.len())?;
            Ok(Arc::new(recommend(model, &given.array(0)?, live.as_list_opt(), &ask, &selection)?) as ArrayRef)
        },
        rewrite: None,
    }
}

/// `recommend_basket('m@3', items, options…)`: a list for each basket.
fn basket_function() -> ModelFunction {
    ModelFunction {
        name: "recommend_basket",
        returns: list_type,
        run: |fitted, given| {
            let model = recommender(fitted)?;
            let (ask, selection) = ask::read(model, given)?;
            let baskets = given.array(0)?;
            let baskets = baskets.as_list_opt::<i32>().ok_or_else(|| Error::internal("a basket is not a list"))?;
            let baskets: Vec<ArrayRef> = (0..baskets.len())
                .map(|row| if baskets.is_null(row) { baskets.values().slice(0, 0) } else { baskets.value(row) })
                .collect();
            Ok(Arc::new(recommend_baskets(model, &baskets, &ask, &selection)?) as ArrayRef)
        },
        rewrite: None,
    }
}

fn relation(mut call: Call, planner: &mut dyn Planner) -> Result<LogicalPlan> {
    let fitted = call.model(planner)?;
    let names = recommender(&fitted)?.history().names.clone();
    let (users, items) = (keys(&fitted, Side::User)?, keys(&fitted, Side::Item)?);
    let basket = call.named("items");
    let who = call.next("users");
    let has_k = call.has("k");
    let options = ask::arguments(&mut call, planner, &fitted)?;
    let fresh = fresh(&mut call, planner)?;
    call.finish(&[&ask::OPTIONS[..], &["fresh", "items"]].concat())?;

    let model = lit(fitted.name.to_string());
    let parts = [("rank", "rank"), ("item", names.item.as_str()), ("score", "score"), ("source", "source")];
    if let Some(items_given) = basket {
        if who.is_some() {
            return Err(Error::invalid("recommend() takes customers or items, not both"));
        }
        let basket = items.list(planner.constant_or_beside(items_given)?)?;
        let args = [model, basket].into_iter().chain(options).collect();
        let list = Arc::new(basket_function().udf(planner.registry())).call(args);
        return unnested(one_row()?, &[], list, &parts);
    }
    let mut only = None;
    let customers = match who.map(|who| as_relation(who, planner)).transpose()? {
        Some(Ok(plan)) => users.distinct(plan, &names.user)?,
        Some(Err(one)) => {
            let one = users.one(planner.constant_or_beside(one)?)?;
            only = Some(one.clone());
            LogicalPlanBuilder::empty(true).project(vec![one.alias(names.user.as_str())])?.build()?
        }
        None if has_k => all_users(&fitted)?,
        None => {
            return Err(Error::invalid("recommend() wants customers or a basket after the model").hint(format!(
                "recommend('{0}', (SELECT {1} FROM …)), recommend('{0}', items => ARRAY[…]), or recommend('{0}', k => 10) \
                 for all customers of the model",
                fitted.asked, names.user
            )));
        }
    };
    let (customers, live) = with_live(planner, &fitted, &names, customers, only.as_ref(), fresh)?;
    let user = Expr::Column(Column::new_unqualified(names.user.as_str()));
    let args = [model, user].into_iter().chain(options).chain([live]).collect();
    let list = Arc::new(rows_function().udf(planner.registry())).call(args);
    unnested(customers, &[&names.user], list, &parts)
}

/// Customers of a model that come as one batch.
const BATCH: usize = 8192;

/// All customers that the model knows.
fn all_users(fitted: &Fitted) -> Result<LogicalPlan> {
    let history = recommender(fitted)?.history();
    let (name, keys) = (history.names.user.as_str(), history.users.values());
    let schema = Arc::new(Schema::new(vec![Field::new(name, keys.data_type().clone(), true)]));
    let batch = |from: usize| {
        let keys = keys.slice(from, BATCH.min(keys.len() - from));
        RecordBatch::try_new(Arc::clone(&schema), vec![keys])
    };
    let batches = (0..keys.len()).step_by(BATCH).map(batch).collect::<std::result::Result<Vec<_>, _>>()?;
    let table = MemTable::try_new(Arc::clone(&schema), vec![batches])?;
    let scan = LogicalPlanBuilder::scan("customers", provider_as_source(Arc::new(table)), None)?;
    let column = scan.schema().columns().into_iter().map(|column| Expr::Column(column).alias(name));
    let columns: Vec<Expr> = column.collect();
    Ok(scan.project(columns)?.build()?)
}
