//! `embed`: a customer as a vector.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float32Builder, ListBuilder};
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::logical_expr::{ColumnarValue, ScalarUDF};

use crate::error::{Error, Result};
use crate::frame::Side;
use crate::functions::constant::{literal, misfit};
use crate::functions::function::{Doc, Function};
use crate::functions::model_function::{Given, ModelFunction};
use crate::functions::recommend::{recommender, user_keys};
use crate::models::{Fitted, Registry};

pub struct Embed;

impl Function for Embed {
    fn name(&self) -> &'static str {
        "embed"
    }

    fn doc(&self) -> Doc {
        Doc {
            summary: "The vector that a matrix_factorization model has learned for a customer. NULL for NULL and for a \
                      customer whom the model does not know.",
            syntax: &["embed('model', customer_id)"],
            arguments: &[
                ("model", "name, or name@version"),
                ("customer_id", "the customer's key, of the type in training"),
            ],
            returns: &[("embed", "real[] of length num_factors")],
            example: "SELECT customer_id, embed('taste', customer_id) AS vector FROM customers WHERE customer_id = 1",
        }
    }

    fn scalars(&self, registry: &Arc<Registry>) -> Vec<ScalarUDF> {
        let function = ModelFunction {
            name: "embed",
            returns: |fitted, args| {
                recommender(fitted)?;
                if args.len() != 1 {
                    return Err(
                        Error::invalid("embed() takes a model and a customer").hint("embed('taste', customer_id)")
                    );
                }
                Ok(DataType::List(Arc::new(Field::new_list_field(DataType::Float32, true))))
            },
            run: |fitted, given| {
                let model = recommender(fitted)?;
                let vectors = model.vectors(Side::User).ok_or_else(|| {
                    Error::unsupported(format!("model \"{}\" has no vectors", fitted.asked))
                        .hint("train a matrix_factorization model for embed()")
                })?;
                let mut lists = ListBuilder::new(Float32Builder::new());
                for code in model.history().users.codes(&customers(fitted, given)?)? {
                    match code {
                        None => lists.append(false),
                        Some(code) => {
                            lists.values().append_slice(&vectors.row(code as usize).to_vec());
                            lists.append(true);
                        }
                    }
                }
                Ok(Arc::new(lists.finish()) as ArrayRef)
            },
            rewrite: None,
        };
        vec![function.udf(registry)]
    }
}

/// The keys asked for: a column of the model's type, or one that stands in the query and is read as such.
fn customers(fitted: &Fitted, given: &Given) -> Result<ArrayRef> {
    let keys = user_keys(fitted)?;
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
