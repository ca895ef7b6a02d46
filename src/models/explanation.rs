//! Explanations as rows: what each product that a customer had adds to a score.

use std::cmp::Ordering;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float64Array, ListArray, UInt32Array};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::{DataType, Fields, Schema};
use datafusion::arrow::record_batch::RecordBatch;
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::frame::list_of_structs;
use crate::models::history::field;
use crate::models::live::baskets;
use crate::models::recommender::tastes;
use crate::models::{Explanation, History, Recommender, Taste};

/// One line of an explanation: a product, or none for what no single product accounts for, and what it adds.
type Line = (Option<u32>, f64);

/// The columns of one line of an explanation.
pub fn explanation_fields(item: &DataType) -> Fields {
    Fields::from(vec![
        field("because_item", item.clone()),
        field("contribution", DataType::Float64),
        field("share", DataType::Float64),
    ])
}

/// What makes the score of each (customer, product): at most `k` products, those that add or take away most, and a last
/// line for all that is left. The lines sum to the score. A pair of which one is unknown has an empty list.
///
/// `live` is as in [`crate::models::recommend`]: who has done something since the training is explained by it.
pub fn explain(
    model: &dyn Recommender,
    users: &ArrayRef,
    items: &ArrayRef,
    live: Option<&ListArray>,
    k: Option<usize>,
) -> Result<ListArray> {
    let history = model.history();
    let (users, items) = (history.users.codes(users)?, history.items.codes(items)?);
    if users.len() != items.len() {
        return Err(Error::internal(format!("{} customers and {} products to explain", users.len(), items.len())));
    }
    let baskets = live.map(|live| baskets(history, live)).transpose()?;
    let tastes = tastes(history, &users, baskets.as_deref());
    let explained = |(taste, item): (&Option<Taste>, &Option<u32>)| match (taste, item) {
        (Some(taste), Some(item)) => model.explain(*taste, *item).map(Some),
        _ => Ok(None),
    };
    rows(history, tastes.par_iter().zip(&items).map(explained).collect::<Result<Vec<_>>>()?, k)
}

fn rows(history: &History, explanations: Vec<Option<Explanation>>, k: Option<usize>) -> Result<ListArray> {
    let (mut products, mut contributions, mut shares) = (Vec::new(), Vec::new(), Vec::new());
    let mut lengths = Vec::with_capacity(explanations.len());
    for explanation in explanations {
        let Some(explanation) = explanation else {
            lengths.push(Some(0));
            continue;
        };
        let score = f64::from(explanation.score);
        let lines = lines(explanation, k);
        lengths.push(Some(lines.len()));
        for (product, contribution) in lines {
            products.push(product);
            contributions.push(contribution);
            shares.push((score != 0.0).then_some(contribution / score));
        }
    }
    let fields = explanation_fields(history.items.data_type());
    let columns: Vec<ArrayRef> = vec![
        take(history.items.values(), &UInt32Array::from(products), None)?,
        Arc::new(Float64Array::from(contributions)),
        Arc::new(Float64Array::from(shares)),
    ];
    list_of_structs(&fields, &RecordBatch::try_new(Arc::new(Schema::new(fields.clone())), columns)?, &lengths)
}

/// The largest contributions first, then what is left; a pair that is known has a line at least.
fn lines(explanation: Explanation, k: Option<usize>) -> Vec<Line> {
    let Explanation { mut because, rest, .. } = explanation;
    because.sort_by(|a, b| b.1.abs().partial_cmp(&a.1.abs()).unwrap_or(Ordering::Equal).then(a.0.cmp(&b.0)));
    let small = because.split_off(k.unwrap_or(usize::MAX).min(because.len()));
    let left = f64::from(rest) + small.iter().map(|(_, part)| f64::from(*part)).sum::<f64>();
    let mut lines: Vec<Line> = because.into_iter().map(|(item, part)| (Some(item), f64::from(part))).collect();
    if lines.is_empty() || !small.is_empty() || rest != 0.0 {
        lines.push((None, left));
    }
    lines
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Array, AsArray};
    use datafusion::arrow::datatypes::{Float64Type, Int64Type};

    use super::*;
    use crate::models::fake::{Fake, numbers};

    /// Product and contribution of each line.
    fn told(lists: &ListArray, at: usize) -> Vec<(Option<i64>, f64)> {
        let list = lists.value(at);
        let rows = list.as_struct();
        let products = rows.column(0).as_primitive::<Int64Type>().iter();
        products.zip(rows.column(1).as_primitive::<Float64Type>().values().iter().copied()).collect()
    }

    #[test]
    fn contributions_sum_to_the_score() {
        // Products by falling number of customers: 7, then 5, 6 and 8. Customer 20 is number 1.
        let model = Fake::of(&[(10, 7), (20, 7), (20, 5), (20, 6), (30, 8)]);
        let (users, items) =
            (numbers(&[Some(20), Some(20), Some(99), None]), numbers(&[Some(8), Some(99), Some(8), Some(8)]));
        let found = explain(&model, &users, &items, None, None).unwrap();
        assert_eq!(told(&found, 0), [(Some(7), 6.5), (Some(5), 3.25), (Some(6), 3.25)]);
        assert!((1..4).all(|at| found.value(at).is_empty()));
        let shares = found.value(0).as_struct().column(2).as_primitive::<Float64Type>().values().to_vec();
        assert_eq!(shares, [0.5, 0.25, 0.25]);

        let found = explain(&model, &users, &items, None, Some(1)).unwrap();
        assert_eq!(told(&found, 0), [(Some(7), 6.5), (None, 6.5)]);
        assert_eq!(told(&explain(&model, &users, &items, None, Some(3)).unwrap(), 0).len(), 3);
    }

    #[test]
    fn what_nothing_accounts_for_has_a_line_of_its_own() {
        let of = |because: &[(u32, f32)], rest: f32| Explanation { score: 0.0, because: because.to_vec(), rest };
        assert_eq!(lines(of(&[], 0.0), None), [(None, 0.0)]);
        assert_eq!(lines(of(&[], 3.5), Some(2)), [(None, 3.5)]);
        assert_eq!(lines(of(&[(1, 0.5), (2, -2.0)], 0.0), None), [(Some(2), -2.0), (Some(1), 0.5)]);
        assert_eq!(lines(of(&[(1, 0.5), (2, -2.0), (3, 0.25)], 3.0), Some(1)), [(Some(2), -2.0), (None, 3.75)]);
    }
}
