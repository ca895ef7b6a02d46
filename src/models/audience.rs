//! Lists of customers and products by score: what is like these, and who would like that.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float64Array, Int64Array, ListArray};
use datafusion::arrow::datatypes::{DataType, Fields, Schema};
use datafusion::arrow::record_batch::RecordBatch;
use rayon::prelude::*;

use crate::error::Result;
use crate::frame::{Keys, Side, list_of_structs};
use crate::kernels::topk;
use crate::models::history::field;
use crate::models::likeness;
use crate::models::{Ask, Recommender, Taste};

/// Customers that are scored at a time.
const BLOCK: usize = 4096;

/// Products that are scored together, as long as what is kept of each is small.
const TOGETHER: usize = 256;

/// Scores that are kept between two blocks, of all products together.
const KEPT: usize = 1 << 22;

/// What is asked of a ranking of customers.
#[derive(Debug, Clone, PartialEq)]
pub struct AudienceAsk {
    /// How many customers at most.
    pub k: usize,
    /// Leave out who had the product in the training data.
    pub exclude_seen: bool,
    /// Only these customers, ascending; `None`: all.
    pub candidates: Option<Vec<u32>>,
}

/// The columns of one place in a list of customers or products.
pub fn ranked_fields(key: &DataType) -> Fields {
    Fields::from(vec![field("rank", DataType::Int64), field("key", key.clone()), field("score", DataType::Float64)])
}

/// The customers or products most like each given one; an unknown one has an empty list.
pub fn similar(model: &dyn Recommender, side: Side, asked: &ArrayRef, k: usize) -> Result<ListArray> {
    let keys = model.history().keys(side);
    let of = |code: &Option<u32>| code.map_or_else(|| Ok(Vec::new()), |code| model.similar(side, code, k));
    let lists = keys.codes(asked)?.par_iter().map(of).collect::<Result<Vec<_>>>()?;
    ranked(keys, lists)
}

/// The customers most like each set of seeds, these left out; no seeds have an empty list.
pub fn lookalike(model: &dyn Recommender, seeds: &[Vec<u32>], k: usize) -> Result<ListArray> {
    let (history, vectors) = (model.history(), model.vectors(Side::User));
    let of = |seeds: &Vec<u32>| match seeds.as_slice() {
        [] => Vec::new(),
        seeds => likeness::similar(history, vectors, Side::User, seeds, k),
    };
    ranked(&history.users, seeds.iter().map(of).collect())
}

/// The customers for whom each product scores best; an unknown product has an empty list.
///
/// Scores are those of [`Recommender::rank`], and of equal ones the customer with the lower number comes first. The
/// matrix of all scores never exists: customers come in blocks, and of each block only what is among the best stays.
pub fn recommend_users(model: &dyn Recommender, items: &ArrayRef, ask: &AudienceAsk) -> Result<ListArray> {
    let history = model.history();
    let codes = history.items.codes(items)?;
    let mut products: Vec<u32> = codes.iter().copied().flatten().collect();
    products.sort_unstable();
    products.dedup();
    let mut audiences = BTreeMap::new();
    for together in products.chunks((KEPT / ask.k.max(1)).clamp(1, TOGETHER)) {
        audiences.extend(together.iter().copied().zip(audience(model, together, ask)?));
    }
    let list = |code: &Option<u32>| code.and_then(|code| audiences.get(&code).cloned()).unwrap_or_default();
    ranked(&history.users, codes.iter().map(list).collect())
}

/// The best customers of each of a few products, which are ascending.
fn audience(model: &dyn Recommender, products: &[u32], ask: &AudienceAsk) -> Result<Vec<Vec<(u32, f32)>>> {
    let scores = Ask {
        k: products.len(),
        exclude_seen: ask.exclude_seen,
        candidates: Some(products.to_vec()),
        ..Ask::default()
    };
    let customers: Vec<u32> = match &ask.candidates {
        Some(candidates) => candidates.clone(),
        None => (0..model.history().users.len() as u32).collect(),
    };
    // Sorting out pays when there is about as much to throw away as to keep.
    let full = ask.k.saturating_add(ask.k.max(BLOCK));
    let mut best: Vec<Vec<(u32, f32)>> = vec![Vec::new(); products.len()];
    for block in customers.chunks(BLOCK) {
        let tastes: Vec<Taste> = block.iter().copied().map(Taste::Known).collect();
        for (user, ranked) in block.iter().zip(model.rank(&tastes, &scores)?) {
            for (item, score) in ranked {
                if let Ok(at) = products.binary_search(&item) {
                    best[at].push((*user, score));
                }
            }
        }
        for found in best.iter_mut().filter(|found| found.len() >= full) {
            *found = topk::best(std::mem::take(found).into_iter(), ask.k);
        }
    }
    Ok(best.into_iter().map(|found| topk::best(found.into_iter(), ask.k)).collect())
}

/// Lists of numbers and scores, best first, as rows of [`ranked_fields`].
fn ranked(keys: &Keys, lists: Vec<Vec<(u32, f32)>>) -> Result<ListArray> {
    let lengths: Vec<Option<usize>> = lists.iter().map(|list| Some(list.len())).collect();
    let ranks: Int64Array = lists.iter().flat_map(|list| 1..=list.len() as i64).collect();
    let scores: Float64Array = lists.iter().flatten().map(|(_, score)| f64::from(*score)).collect();
    let codes: Vec<u32> = lists.iter().flatten().map(|(code, _)| *code).collect();
    let fields = ranked_fields(keys.data_type());
    let columns: Vec<ArrayRef> = vec![Arc::new(ranks), keys.take(&codes)?, Arc::new(scores)];
    list_of_structs(&fields, &RecordBatch::try_new(Arc::new(Schema::new(fields.clone())), columns)?, &lengths)
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Array, AsArray};
    use datafusion::arrow::datatypes::{Float64Type, Int64Type};
    use proptest::prelude::*;

    use super::*;
    use crate::models::fake::{Fake, numbers};

    /// Customer and score of each place in a list.
    fn places(lists: &ListArray, at: usize) -> Vec<(i64, f64)> {
        let list = lists.value(at);
        let rows = list.as_struct();
        assert!(rows.column(0).as_primitive::<Int64Type>().values().iter().copied().eq(1..=rows.len() as i64));
        let keys = rows.column(1).as_primitive::<Int64Type>().values();
        keys.iter().copied().zip(rows.column(2).as_primitive::<Float64Type>().values().iter().copied()).collect()
    }

    fn ask(k: usize) -> AudienceAsk {
        AudienceAsk { k, exclude_seen: true, candidates: None }
    }

    #[test]
    fn the_best_customers_of_a_product_in_the_order_of_their_scores() {
        // Keys 10, 11, 12 are the customers 0, 1, 2; a score is 10 · customer + product, unless it says otherwise.
        let model = Fake::of(&[(10, 1), (11, 2), (12, 1)]);
        let found = recommend_users(&model, &numbers(&[Some(1), Some(2), Some(9), None, Some(1)]), &ask(5)).unwrap();
        assert_eq!(places(&found, 0), [(11, 10.0)]);
        assert_eq!(places(&found, 1), [(12, 21.0), (10, 1.0)]);
        assert!(places(&found, 2).is_empty() && places(&found, 3).is_empty());
        assert_eq!(places(&found, 4), places(&found, 0));

        let everyone = AudienceAsk { exclude_seen: false, ..ask(2) };
        let found = recommend_users(&model, &numbers(&[Some(1)]), &everyone).unwrap();
        assert_eq!(places(&found, 0), [(12, 20.0), (11, 10.0)]);
        let few = AudienceAsk { candidates: Some(vec![0, 1]), ..everyone };
        let found = recommend_users(&model, &numbers(&[Some(1)]), &few).unwrap();
        assert_eq!(places(&found, 0), [(11, 10.0), (10, 0.0)]);
        let nobody = AudienceAsk { candidates: Some(Vec::new()), ..ask(2) };
        assert!(places(&recommend_users(&model, &numbers(&[Some(1)]), &nobody).unwrap(), 0).is_empty());
    }

    #[test]
    fn of_equal_scores_the_lower_customer_comes_first() {
        let model = Fake { score: |_, _| 0.5, ..Fake::of(&(0..9000).map(|user| (user, 1)).collect::<Vec<_>>()) };
        let found = recommend_users(&model, &numbers(&[Some(1)]), &AudienceAsk { exclude_seen: false, ..ask(3) });
        assert_eq!(places(&found.unwrap(), 0), [(0, 0.5), (1, 0.5), (2, 0.5)]);
    }

    #[test]
    fn nobody_is_like_no_seeds() {
        let model = Fake::of(&[(10, 1), (11, 1), (12, 2)]);
        let found = lookalike(&model, &[vec![], vec![0], vec![0, 1, 2]], 9).unwrap();
        assert!(places(&found, 0).is_empty() && places(&found, 2).is_empty());
        assert_eq!(places(&found, 1), [(11, 1.0), (12, 0.0)]);
        let found = similar(&model, Side::User, &numbers(&[Some(12), Some(99), None]), 1).unwrap();
        assert_eq!(places(&found, 0), [(10, 0.0)]);
        assert!(places(&found, 1).is_empty() && places(&found, 2).is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn blocks_find_what_one_look_finds(n_users in 1i64..10_000, k in 1usize..6000, step in 1u32..50) {
            let model = Fake {
                score: |user, item| ((user * 7919 + item * 31) % 1000) as f32,
                ..Fake::of(&(0..n_users).map(|user| (user, user % 5)).collect::<Vec<_>>())
            };
            let some: Vec<u32> = (0..n_users as u32).step_by(step as usize).collect();
            let ask = AudienceAsk { candidates: Some(some.clone()), ..ask(k) };
            let found = recommend_users(&model, &numbers(&[Some(3), Some(0)]), &ask).unwrap();
            for (at, product) in [3u32, 0].into_iter().enumerate() {
                let item = model.history().items.codes(&numbers(&[Some(i64::from(product))])).unwrap()[0];
                let Some(item) = item else { continue };
                let mut all: Vec<(i64, f64)> = some
                    .iter()
                    .filter(|user| **user % 5 != product)
                    .map(|user| (i64::from(*user), f64::from((model.score)(*user, item))))
                    .collect();
                all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
                all.truncate(k);
                prop_assert_eq!(places(&found, at), all);
            }
        }
    }
}
