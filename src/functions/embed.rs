//! `embed`: a customer or a product as a vector.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float32Builder, ListBuilder};
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{ColumnarValue, ScalarUDF};
use ndarray::ArrayView2;

use crate::error::{Error, Kind, Result};
use crate::frame::{Side, texts};
use crate::functions::constant::{literal, misfit};
use crate::functions::function::{Doc, Function};
use crate::functions::model_function::{Given, ModelFunction};
use crate::functions::recommend::{keys, recommender};
use crate::models::{Fitted, Registry, types_for};

pub struct Embed;

impl Function for Embed {
    fn name(&self) -> &'static str {
        "embed"
    }

    fn doc(&self) -> Doc {
        Doc {
            summary: "The vector that a model has learned for a customer or a product. NULL for NULL and for one whom \
                      the model does not know. All of them as a table: factors().",
            syntax: &["embed('model', customer_id)", "embed('model', product_id, 'item')"],
            arguments: &[
                ("model", "a model that learns vectors: name, or name@version"),
                ("customer_id", "the customer's key, of the type in training"),
                ("side", "'user' (default), or 'item': the key is a product's"),
            ],
            returns: &[("embed", "real[], as long for products as for customers")],
            example: "SELECT customer_id, embed('taste', customer_id) AS vector FROM customers WHERE customer_id = 1",
        }
    }

    fn scalars(&self, registry: &Arc<Registry>) -> Vec<ScalarUDF> {
        vec![function().udf(registry)]
    }
}

/// `embed('m@3', key [, 'user' | 'item'])`.
pub(super) fn function() -> ModelFunction {
    ModelFunction {
        name: "embed",
        returns: |fitted, args| {
            recommender(fitted)?;
            if !matches!(args.len(), 1 | 2) {
                return Err(Error::invalid("embed() takes a model and a customer, or a model, a product and 'item'")
                    .hint(format!("embed('{0}', customer_id) or embed('{0}', product_id, 'item')", fitted.asked)));
            }
            Ok(DataType::List(Arc::new(Field::new_list_field(DataType::Float32, true))))
        },
        run: |fitted, given| {
            let side = if given.args.len() == 1 { Side::User } else { side(given)? };
            let vectors = vectors(fitted, side)?;
            let mut lists = ListBuilder::new(Float32Builder::new());
            for code in recommender(fitted)?.history().keys(side).codes(&asked(fitted, side, given)?)? {
                if let Some(code) = code {
                    vectors.row(code as usize).iter().for_each(|value| lists.values().append_value(*value));
                }
                lists.append(code.is_some());
            }
            Ok(Arc::new(lists.finish()) as ArrayRef)
        },
        rewrite: None,
    }
}

/// The side named last. The engine may have turned a constant into a column of equal values; others are refused.
fn side(given: &Given) -> Result<Side> {
    let first = given.scalar(1)?;
    if let Some(ColumnarValue::Array(names)) = given.args.get(1)
        && texts(names)?.iter().any(|name| name.as_deref() != first.try_as_str().flatten())
    {
        return Err(Error::invalid("embed() knows one side for all rows: 'user' or 'item'"));
    }
    side_named("embed", &first)
}

/// The vectors of the model's customers or products, or the error that says which models have some.
pub(super) fn vectors(fitted: &Fitted, side: Side) -> Result<ArrayView2<'_, f32>> {
    recommender(fitted)?.vectors(side).ok_or_else(|| {
        let whose = if side == Side::User { "customers" } else { "products" };
        let message =
            format!("model \"{}\" is a {} model, it has no vectors of {whose}", fitted.asked, fitted.model_type);
        Error::unsupported(message).hint(format!("train one with model_type = {}", types_for("embed")))
    })
}

/// `'user'` or `'item'`.
pub(super) fn side_named(function: &str, name: &ScalarValue) -> Result<Side> {
    let given = name.try_as_str().flatten();
    match given.map(str::to_lowercase).as_deref() {
        Some("user") => Ok(Side::User),
        Some("item") => Ok(Side::Item),
        _ => {
            let shown = given.map_or_else(|| name.to_string(), |text| format!("'{text}'"));
            Err(Error::new(Kind::Invalid, format!("{function}() knows 'user' and 'item', not {shown}")))
        }
    }
}

/// The keys asked for: a column of the model's type, or one that stands in the query and is read as such.
fn asked(fitted: &Fitted, side: Side, given: &Given) -> Result<ArrayRef> {
    let keys = keys(fitted, side)?;
    match given.args.first() {
        Some(ColumnarValue::Scalar(one)) => match literal(one, keys.data_type) {
            Some(one) => Ok(one.to_array_of_size(given.n_rows)?),
            None => Err(keys.refused(&misfit(one))),
        },
        _ => {
            let column = given.array(0)?;
            keys.check(column.data_type())?;
            Ok(column)
        }
    }
}
