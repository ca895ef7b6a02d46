//! Who did what with which product: rows of events as one sparse matrix.

use std::collections::HashMap;

use datafusion::arrow::array::{Array, BooleanArray};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::arrow::record_batch::RecordBatch;

use crate::error::{Error, Result};
use crate::frame::{Keys, column, measures};
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

/// Rows as a matrix of customers × products, with the keys of both sides. Who is in it has an interaction.
#[derive(Debug, Clone)]
pub struct Interactions {
    pub users: Keys,
    pub items: Keys,
    /// Sum of the ratings of each (customer, product).
    pub matrix: Csr,
}

impl Interactions {
    /// Of `rows` in canonical order (see [`super::canonical_order`]), so that codes and sums are always the same, what
    /// [`taught`] leaves. Fails when that is nothing, and on ratings that are not finite numbers.
    pub fn from_rows(rows: &RecordBatch, roles: &Roles) -> Result<Self> {
        let rows = taught(rows, roles)?;
        let (users, user_codes) = Keys::of(rows.column(roles.user))?;
        let (items, item_codes) = Keys::of(rows.column(roles.item))?;
        let ratings = ratings(&rows, roles)?;
        let triplets: Vec<(u32, u32, f32)> = user_codes
            .iter()
            .zip(&item_codes)
            .zip(&ratings)
            .filter_map(|((user, item), rating)| Some(((*user)?, (*item)?, (*rating)? as f32)))
            .collect();
        let matrix = Csr::from_triplets(users.len(), items.len(), &triplets)?;
        Ok(Self { users, items, matrix })
    }
}

/// The rows that teach something: with a customer, a product and a rating, and of a pair of customer and product whose
/// ratings have a positive sum. A purchase that was taken back whole is none.
pub fn taught(rows: &RecordBatch, roles: &Roles) -> Result<RecordBatch> {
    let ratings = ratings(rows, roles)?;
    let nulls = [roles.user, roles.item].map(|at| rows.column(at).logical_nulls());
    let has_keys = |row: usize| nulls.iter().flatten().all(|nulls| nulls.is_valid(row));
    // Where nothing is taken back, a row's own rating says it all.
    let sums = match ratings.iter().flatten().any(|rating| *rating <= 0.0) {
        true => pair_sums(rows, roles, &ratings)?,
        false => ratings,
    };
    let teaches = |row: usize| has_keys(row) && sums[row].is_some_and(|sum| sum > 0.0);
    let kept: BooleanArray = (0..rows.num_rows()).map(|row| Some(teaches(row))).collect();
    match kept.true_count() {
        0 => Err(Error::invalid(match rows.num_rows() {
            0 => "the query gives no rows to train on".to_owned(),
            n => format!("none of the query's {n} rows has a customer, a product and a positive rating"),
        })
        .hint("run the SELECT alone and look at its rows")),
        n if n == rows.num_rows() => Ok(rows.clone()),
        _ => Ok(filter_record_batch(rows, &kept)?),
    }
}

/// For each row with a rating, the sum of the ratings of its customer and product.
fn pair_sums(rows: &RecordBatch, roles: &Roles, ratings: &[Option<f64>]) -> Result<Vec<Option<f64>>> {
    let (_, users) = Keys::of(rows.column(roles.user))?;
    let (_, items) = Keys::of(rows.column(roles.item))?;
    let mut sums: HashMap<(Option<u32>, Option<u32>), f64> = HashMap::new();
    for ((user, item), rating) in users.iter().zip(&items).zip(ratings) {
        *sums.entry((*user, *item)).or_default() += rating.unwrap_or_default();
    }
    let sum = |((user, item), rating): ((&Option<u32>, &Option<u32>), &Option<f64>)| {
        rating.and_then(|_| sums.get(&(*user, *item)).copied())
    };
    Ok(users.iter().zip(&items).zip(ratings).map(sum).collect())
}

fn ratings(rows: &RecordBatch, roles: &Roles) -> Result<Vec<Option<f64>>> {
    let Some(at) = roles.rating else { return Ok(vec![Some(1.0); rows.num_rows()]) };
    let ratings = measures(rows.column(at), rows.schema().field(at).name())?;
    // The matrix holds 32-bit floats.
    match ratings.iter().flatten().find(|rating| !(**rating as f32).is_finite()) {
        Some(odd) => {
            Err(Error::invalid(format!("the rating column holds {odd:e}, which is not a number to learn from"))
                .hint("filter such rows out in the query: WHERE rating < 'Infinity'"))
        }
        None => Ok(ratings),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{ArrayRef, AsArray, Float64Array, StringArray};

    use super::*;

    fn rows(cells: &[(Option<&str>, Option<&str>, Option<f64>)]) -> RecordBatch {
        let users: ArrayRef = Arc::new(cells.iter().map(|cell| cell.0).collect::<StringArray>());
        let items: ArrayRef = Arc::new(cells.iter().map(|cell| cell.1).collect::<StringArray>());
        let ratings: ArrayRef = Arc::new(cells.iter().map(|cell| cell.2).collect::<Float64Array>());
        let columns = [("who", users), ("what", items), ("rating", ratings)];
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
    }

    fn interactions(rows: &RecordBatch) -> Result<Interactions> {
        Interactions::from_rows(rows, &Roles::find(&rows.schema(), None, None, None)?)
    }

    #[test]
    fn who_did_nothing_that_counts_is_not_known() {
        let found = interactions(&rows(&[
            (Some("ann"), Some("a"), Some(1.0)),
            (None, Some("b"), Some(1.0)),
            (Some("bob"), None, Some(1.0)),
            (Some("cat"), Some("c"), None),
            (Some("dan"), Some("d"), Some(-1.0)),
            (Some("eve"), Some("a"), Some(2.0)),
        ]))
        .unwrap();
        let texts =
            |keys: &Keys| keys.values().as_string::<i32>().iter().flatten().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!((texts(&found.users), texts(&found.items)), (vec!["ann".into(), "eve".into()], vec!["a".into()]));
        assert_eq!(found.matrix.values, [1.0, 2.0]);
    }

    #[test]
    fn what_was_taken_back_does_not_count() {
        let found = interactions(&rows(&[
            (Some("ann"), Some("a"), Some(3.0)),
            (Some("ann"), Some("a"), Some(-1.0)),
            (Some("ann"), Some("b"), Some(2.0)),
            (Some("ann"), Some("b"), Some(-2.0)),
        ]))
        .unwrap();
        assert_eq!((found.items.len(), found.matrix.values), (1, vec![2.0]));
        assert_eq!(found.items.values().len(), 1);
    }

    #[test]
    fn nothing_to_learn_from_is_said() {
        let none = interactions(&rows(&[(Some("ann"), None, Some(1.0))])).unwrap_err();
        assert!(none.message.starts_with("none of the query's 1 rows"), "{none}");
        let odd = interactions(&rows(&[(Some("ann"), Some("a"), Some(1e300))])).unwrap_err();
        assert!(odd.message.contains("not a number to learn from"), "{odd}");
    }
}
