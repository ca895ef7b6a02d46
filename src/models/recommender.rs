//! What all recommenders share: from scores to rows, and an answer for cold customers.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float64Array, Int64Array, ListArray, StringArray};
use datafusion::arrow::datatypes::{DataType, Fields};
use datafusion::arrow::record_batch::RecordBatch;
use ndarray::ArrayView2;

use crate::error::{Error, Result};
use crate::frame::{Side, list_of_structs};
use crate::models::history::{History, field};
use crate::models::live::{baskets, is_as_trained};
use crate::models::selection::{Selection, select};
use crate::models::{likeness, types_for};

/// More than anyone reads, and small enough that a list of it always fits in memory.
pub const MAX_K: usize = 100_000;

/// A model that ranks products for customers. Codes are positions in [`History::users`] and [`History::items`].
pub trait Recommender: Send + Sync {
    fn history(&self) -> &History;
    /// What `source` says of its rows.
    fn source(&self) -> &'static str;
    /// The best products for each taste, best first, at most `k` each.
    fn rank(&self, tastes: &[Taste], ask: &Ask) -> Result<Vec<Vec<(u32, f32)>>>;
    /// The rating that this customer would give this product, where ratings are opinions. `None` is one that the model does
    /// not know: the average one is meant.
    fn foretell(&self, _user: Option<u32>, _item: Option<u32>) -> Result<f32> {
        Err(Error::unsupported("this model does not foretell ratings")
            .hint("train a matrix_factorization with feedback_type = 'explicit'"))
    }
    /// A row for each customer or product, where the model knows them as vectors.
    fn vectors(&self, _side: Side) -> Option<ArrayView2<'_, f32>> {
        None
    }
    /// The products (or customers) most like this one, itself left out, and how like it they are, at most 1.
    fn similar(&self, side: Side, code: u32, k: usize) -> Result<Vec<(u32, f32)>> {
        Ok(likeness::similar(self.history(), self.vectors(side), side, &[code], k))
    }
    /// How alike two products are, at most 1.
    fn likeness(&self, one: u32, other: u32) -> f32 {
        likeness::of_items(self.history(), self.vectors(Side::Item), one, other)
    }
    /// What makes the score that [`Recommender::rank`] gives this product.
    fn explain(&self, _taste: Taste, _item: u32) -> Result<Explanation> {
        Err(Error::unsupported("this model cannot tell what makes its scores")
            .hint(format!("train one with model_type = {}", types_for("explain_recommendation"))))
    }
}

/// A score, taken apart: `because` and `rest` sum to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    pub score: f32,
    /// What each product that the customer had adds, in the order of the products' numbers.
    pub because: Vec<(u32, f32)>,
    /// What no product accounts for: means and biases.
    pub rest: f32,
}

/// Whose taste products are ranked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Taste<'a> {
    /// A customer of the history, as trained on.
    Known(u32),
    /// A customer of the history who by now had these (product, rating), products ascending and each once.
    Changed(u32, &'a [(u32, f32)]),
    /// Whoever had these.
    Basket(&'a [(u32, f32)]),
}

/// What somebody had: products, ascending, and what each counts.
pub type Had<'a> = (Cow<'a, [u32]>, Cow<'a, [f32]>);

/// Products, ascending and each once, and what each counts.
pub type Basket = Vec<(u32, f32)>;

impl<'a> Taste<'a> {
    /// What this one had, with what each counts.
    pub fn had(self, history: &'a History) -> Had<'a> {
        match self {
            Self::Known(user) => {
                let (items, ratings) = history.seen.row(user as usize);
                (Cow::Borrowed(items), Cow::Borrowed(ratings))
            }
            Self::Changed(_, basket) | Self::Basket(basket) => {
                let (items, ratings): (Vec<u32>, Vec<f32>) = basket.iter().copied().unzip();
                (Cow::Owned(items), Cow::Owned(ratings))
            }
        }
    }

    /// What this one had, ascending.
    pub fn seen(self, history: &'a History) -> Cow<'a, [u32]> {
        match self {
            Self::Known(user) => Cow::Borrowed(history.seen_by(user)),
            Self::Changed(_, basket) | Self::Basket(basket) => {
                Cow::Owned(basket.iter().map(|(item, _)| *item).collect())
            }
        }
    }
}

/// What is asked of a ranking.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask {
    /// How many products at most.
    pub k: usize,
    /// Leave out what the customer had in the training data.
    pub exclude_seen: bool,
    /// Only these products, ascending; `None`: all.
    pub candidates: Option<Vec<u32>>,
    /// Answer a customer nobody knows with the popular products.
    pub cold_start: bool,
}

impl Default for Ask {
    fn default() -> Self {
        Self { k: 10, exclude_seen: true, candidates: None, cold_start: true }
    }
}

impl Ask {
    /// `k` as typed by a user.
    pub fn checked_k(k: i64) -> Result<usize> {
        match usize::try_from(k) {
            Ok(k) if (1..=MAX_K).contains(&k) => Ok(k),
            _ => Err(Error::invalid(format!("k must be from 1 to {MAX_K}, not {k}"))),
        }
    }
}

/// The columns of one recommendation, without its customer.
pub fn recommendation_fields(item: &DataType) -> Fields {
    Fields::from(vec![
        field("rank", DataType::Int64),
        field("item", item.clone()),
        field("score", DataType::Float64),
        field("source", DataType::Utf8),
    ])
}

/// A list of recommendations for each customer, NULL customers included: they are cold.
///
/// `live` holds what each customer has done by now, a list of rows with [`super::LIVE_FIELDS`]. Who has done something since the
/// training is judged by it, and so is who was not there yet.
pub fn recommend(
    model: &dyn Recommender,
    users: &ArrayRef,
    live: Option<&ListArray>,
    ask: &Ask,
    selection: &Selection,
) -> Result<ListArray> {
    let history = model.history();
    let codes = history.users.codes(users)?;
    let baskets = live.map(|live| baskets(history, live)).transpose()?;
    let tastes = tastes(history, &codes, baskets.as_deref());
    let known: Vec<Taste> = tastes.iter().flatten().copied().collect();
    let mut ranked = select(model, &known, ask, selection)?.into_iter();
    let cold = if known.len() < tastes.len() { cold(model, ask, selection)? } else { Vec::new() };
    let answer = |taste: &Option<Taste>| match taste {
        Some(_) => (ranked.next().unwrap_or_default(), model.source()),
        None => (cold.clone(), "popular"),
    };
    rows(history, tastes.iter().map(answer).collect())
}

/// Whose taste each customer's is: as trained or, where what they have by now is known and is something else, by all that
/// they have; `None`: nothing is known of them, or nothing any more.
pub(super) fn tastes<'a>(
    history: &History,
    codes: &[Option<u32>],
    baskets: Option<&'a [Option<Basket>]>,
) -> Vec<Option<Taste<'a>>> {
    let taste = |(row, code): (usize, &Option<u32>)| {
        let now = baskets.map(|baskets| baskets[row].as_deref().unwrap_or_default());
        match (*code, now) {
            (Some(code), None) => Some(Taste::Known(code)),
            (Some(code), Some(basket)) if is_as_trained(history, code, basket) => Some(Taste::Known(code)),
            (_, None | Some([])) => None,
            (Some(code), Some(basket)) => Some(Taste::Changed(code, basket)),
            (None, Some(basket)) => Some(Taste::Basket(basket)),
        }
    };
    codes.iter().enumerate().map(taste).collect()
}

/// One list of recommendations for each basket of products.
pub fn recommend_baskets(
    model: &dyn Recommender,
    baskets: &[ArrayRef],
    ask: &Ask,
    selection: &Selection,
) -> Result<ListArray> {
    let history = model.history();
    let mut lists = Vec::with_capacity(baskets.len());
    for basket in baskets {
        let mut weights: BTreeMap<u32, f32> = BTreeMap::new();
        for item in history.items.codes(basket)?.into_iter().flatten() {
            *weights.entry(item).or_default() += 1.0;
        }
        let basket: Vec<(u32, f32)> = weights.into_iter().collect();
        lists.push(if basket.is_empty() {
            (cold(model, ask, selection)?, "popular")
        } else {
            let list = select(model, &[Taste::Basket(&basket)], ask, selection)?.pop();
            (list.unwrap_or_default(), model.source())
        });
    }
    rows(history, lists)
}

/// What somebody of whom nothing is known is shown.
fn cold(model: &dyn Recommender, ask: &Ask, selection: &Selection) -> Result<Vec<(u32, f32)>> {
    if !ask.cold_start {
        return Ok(Vec::new());
    }
    let best = |k| Ok(popular(model.history(), &[], &Ask { k, ..ask.clone() }));
    selection.from(model, best(selection.pool(ask.k))?, ask.k, best)
}

/// The most popular products, those in `without` (ascending) and outside the candidates left out.
pub fn popular(history: &History, without: &[u32], ask: &Ask) -> Vec<(u32, f32)> {
    popular_of(history.popular.iter().copied(), without, ask)
}

/// As [`popular`], of a ranking of other customers.
pub fn popular_of(ranking: impl Iterator<Item = (u32, f32)>, without: &[u32], ask: &Ask) -> Vec<(u32, f32)> {
    let allowed = |item: &u32| {
        without.binary_search(item).is_err()
            && ask.candidates.as_ref().is_none_or(|candidates| candidates.binary_search(item).is_ok())
    };
    ranking.filter(|(item, _)| allowed(item)).take(ask.k).collect()
}

fn rows(history: &History, lists: Vec<(Vec<(u32, f32)>, &'static str)>) -> Result<ListArray> {
    let n = lists.iter().map(|(list, _)| list.len()).sum();
    let (mut ranks, mut items, mut scores, mut sources) =
        (Vec::with_capacity(n), Vec::with_capacity(n), Vec::with_capacity(n), Vec::with_capacity(n));
    let mut lengths = Vec::with_capacity(lists.len());
    for (list, source) in lists {
        lengths.push(Some(list.len()));
        for (rank, (item, score)) in list.into_iter().enumerate() {
            ranks.push(rank as i64 + 1);
            items.push(item);
            scores.push(f64::from(score));
            sources.push(source);
        }
    }
    let fields = recommendation_fields(history.items.data_type());
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(ranks)),
        history.items.take(&items)?,
        Arc::new(Float64Array::from(scores)),
        Arc::new(StringArray::from(sources)),
    ];
    let schema = Arc::new(datafusion::arrow::datatypes::Schema::new(fields.clone()));
    list_of_structs(&fields, &RecordBatch::try_new(schema, columns)?, &lengths)
}
