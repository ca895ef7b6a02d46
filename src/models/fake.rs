//! A recommender whose every score is plain to see, for the tests of what all recommenders share.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int64Array};
use datafusion::arrow::record_batch::RecordBatch;

use crate::error::Result;
use crate::frame::{EventsBuilder, Named, Roles};
use crate::kernels::topk;
use crate::models::{Ask, Explanation, History, Names, Recipe, Recommender, Taste};

pub struct Fake {
    pub history: History,
    /// Of a customer and a product, by their numbers.
    pub score: fn(u32, u32) -> f32,
}

impl Fake {
    /// Of (customer, product); a score is ten times the customer's number and the product's.
    pub fn of(pairs: &[(i64, i64)]) -> Self {
        let (users, items): (Vec<i64>, Vec<i64>) = pairs.iter().copied().unzip();
        let columns: [(&str, ArrayRef); 2] =
            [("customer", Arc::new(Int64Array::from(users))), ("product", Arc::new(Int64Array::from(items)))];
        let rows = RecordBatch::try_from_iter(columns).unwrap();
        let mut builder = EventsBuilder::new(&rows.schema(), Roles::find(&rows.schema(), &Named::default()).unwrap());
        builder.push(&rows).unwrap();
        let names = Names {
            user: "customer".to_owned(),
            item: "product".to_owned(),
            rating: None,
            time: None,
            kind: None,
            traits: Vec::new(),
            inputs: Vec::new(),
            recipe: Recipe::default(),
        };
        let history = History::of(&names, &builder.finish().unwrap(), None).unwrap();
        Self { history, score: |user, item| (10 * user + item) as f32 }
    }
}

impl Recommender for Fake {
    fn history(&self) -> &History {
        &self.history
    }

    fn source(&self) -> &'static str {
        "fake"
    }

    fn rank(&self, tastes: &[Taste], ask: &Ask) -> Result<Vec<Vec<(u32, f32)>>> {
        let ranked = |taste: &Taste| {
            let user = if let Taste::Known(user) | Taste::Changed(user, _) = taste { *user } else { 0 };
            let seen = taste.seen(&self.history);
            let allowed = |item: &u32| {
                !(ask.exclude_seen && seen.contains(item))
                    && ask.candidates.as_ref().is_none_or(|candidates| candidates.contains(item))
            };
            let items = (0..self.history.items.len() as u32).filter(allowed);
            topk::best(items.map(|item| (item, (self.score)(user, item))), ask.k)
        };
        Ok(tastes.iter().map(ranked).collect())
    }

    /// A half of the score is the first product's, a quarter each other's, and the rest nobody's.
    fn explain(&self, taste: Taste, item: u32) -> Result<Explanation> {
        let user = if let Taste::Known(user) | Taste::Changed(user, _) = taste { user } else { 0 };
        let score = (self.score)(user, item);
        let share = |(at, item): (usize, &u32)| (*item, if at == 0 { score / 2.0 } else { score / 4.0 });
        let because: Vec<(u32, f32)> = taste.seen(&self.history).iter().enumerate().map(share).collect();
        let rest = score - because.iter().map(|(_, part)| part).sum::<f32>();
        Ok(Explanation { score, because, rest })
    }
}

/// A column of keys.
pub fn numbers(keys: &[Option<i64>]) -> ArrayRef {
    Arc::new(Int64Array::from(keys.to_vec()))
}
