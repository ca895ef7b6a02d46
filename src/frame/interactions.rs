//! Who did what with which product: rows of events as one sparse matrix.

use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::arrow::record_batch::RecordBatch;

use crate::error::{Error, Result};
use crate::frame::{Keys, column, numbers};
use crate::kernels::csr::Csr;

/// Which column plays which part, as positions in the query's schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roles {
    pub user: usize,
    pub item: usize,
    /// The weight of an interaction; without one each row counts 1.
    pub rating: Option<usize>,
    /// When it happened; hold-outs are cut by it.
    pub time: Option<usize>,
}

impl Roles {
    /// By the names given, and else by position: user, item, then the first number and the first timestamp.
    pub fn find(schema: &Schema, user: Option<&str>, item: Option<&str>, rating: Option<&str>) -> Result<Self> {
        let fields = schema.fields();
        if fields.len() < 2 {
            return Err(Error::invalid("a recommender needs at least two columns: the customer and the product")
                .hint("for example SELECT customer_id, product_id, sum(quantity) AS rating FROM … GROUP BY 1, 2"));
        }
        let named = |name: Option<&str>| name.map(|name| column(schema, name)).transpose();
        let (user, item, rating) = (named(user)?, named(item)?, named(rating)?);
        let mut free = (0..fields.len()).filter(|at| ![user, item, rating].contains(&Some(*at)));
        let user = user.or_else(|| free.next());
        let item = item.or_else(|| free.next());
        let (Some(user), Some(item)) = (user, item) else {
            return Err(Error::invalid("a recommender needs a customer column and a product column"));
        };
        let rest: Vec<usize> = free.collect();
        let is_time = |at: &usize| matches!(fields[*at].data_type(), DataType::Timestamp(_, _) | DataType::Date32);
        let rating = rating.or_else(|| rest.iter().copied().find(|at| fields[*at].data_type().is_numeric()));
        let time = rest.iter().copied().find(|at| is_time(at) && Some(*at) != rating);
        Ok(Self { user, item, rating, time })
    }
}

/// Rows as a matrix of customers × products, with the keys of both sides.
#[derive(Debug, Clone)]
pub struct Interactions {
    pub users: Keys,
    pub items: Keys,
    /// Sum of the ratings of each (customer, product).
    pub matrix: Csr,
    /// Rows left out: a key or the rating was NULL, or the rating was not positive.
    pub n_skipped: usize,
}

impl Interactions {
    /// `rows` in canonical order (see [`super::canonical_order`]), so that codes and sums are always the same.
    pub fn from_rows(rows: &RecordBatch, roles: &Roles) -> Result<Self> {
        let (users, user_codes) = Keys::of(rows.column(roles.user))?;
        let (items, item_codes) = Keys::of(rows.column(roles.item))?;
        let ratings = match roles.rating {
            Some(at) => numbers(rows.column(at))?,
            None => vec![Some(1.0); rows.num_rows()],
        };
        let mut triplets = Vec::with_capacity(rows.num_rows());
        for ((user, item), rating) in user_codes.iter().zip(&item_codes).zip(&ratings) {
            let (Some(user), Some(item), Some(rating)) = (user, item, rating) else { continue };
            if !rating.is_finite() {
                return Err(Error::invalid(format!(
                    "the rating column holds {rating}, which is not a number to learn from"
                ))
                .hint("filter such rows out in the query: WHERE rating < 'Infinity'"));
            }
            if *rating > 0.0 {
                triplets.push((*user, *item, *rating as f32));
            }
        }
        let n_skipped = rows.num_rows() - triplets.len();
        if triplets.is_empty() {
            return Err(Error::invalid(match rows.num_rows() {
                0 => "the query gives no rows to train on".to_owned(),
                n => format!("none of the query's {n} rows has a customer, a product and a positive rating"),
            })
            .hint("run the SELECT alone and look at its rows"));
        }
        let matrix = Csr::from_triplets(users.len(), items.len(), &triplets)?;
        Ok(Self { users, items, matrix, n_skipped })
    }
}
