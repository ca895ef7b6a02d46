//! What customers have done by now, by the same recipe as in training.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int64Array, ListArray};
use datafusion::arrow::datatypes::{Field, Int64Type, Schema};
use datafusion::arrow::record_batch::RecordBatch;

use crate::error::{Error, Result};
use crate::frame::{EventsBuilder, Roles};
use crate::kernels::csr::Csr;
use crate::models::history::weighed;
use crate::models::{Basket, History};

/// The fields of a row of live history, in this order; those that the training query lacks are left out.
pub const LIVE_FIELDS: [&str; 4] = ["item", "rating", "time", "kind"];

/// For each list of rows (a struct of [`LIVE_FIELDS`]) the products in it that the model knows, ascending, and what they
/// count; `None` where the list is NULL.
pub fn baskets(history: &History, lists: &ListArray) -> Result<Vec<Option<Basket>>> {
    let (first, last) = (lists.value_offsets()[0], lists.value_offsets()[lists.len()]);
    let rows = lists.values().slice(first as usize, (last - first) as usize);
    let rows = rows.as_struct_opt().ok_or_else(|| Error::internal("live history is a list of rows"))?;
    let owners = lists.value_offsets().windows(2).enumerate();
    let owners = owners.flat_map(|(owner, ends)| std::iter::repeat_n(owner as i64, (ends[1] - ends[0]) as usize));
    let mut columns: Vec<(Field, ArrayRef)> = vec![(
        Field::new("owner", datafusion::arrow::datatypes::DataType::Int64, false),
        Arc::new(Int64Array::from_iter_values(owners)),
    )];
    columns.extend(rows.fields().iter().map(|field| field.as_ref().clone()).zip(rows.columns().iter().cloned()));
    let (fields, columns): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?;

    let place = |name: &str| batch.schema().index_of(name).ok();
    let kind = history.names.kind.as_ref().and_then(|(_, weights)| Some((place("kind")?, weights.clone())));
    let (rating, time) = (place("rating"), place("time"));
    let roles = Roles { user: 0, item: 1, rating, time, kind, ..Roles::default() };
    let mut builder = EventsBuilder::new(&batch.schema(), roles);
    builder.push(&batch)?;
    let events = builder.finish()?;

    let owners = events.users.values().as_primitive::<Int64Type>().values().to_vec();
    let codes = history.items.codes(events.items.values())?;
    let known: Vec<bool> = events.item.iter().map(|item| codes[*item as usize].is_some()).collect();
    let events = events.filtered(&known);
    let user: Vec<u32> = events.user.iter().map(|user| owners[*user as usize] as u32).collect();
    let item: Vec<u32> = events.item.iter().filter_map(|item| codes[*item as usize]).collect();
    let values = weighed(&history.names, &events, None, history.as_of);
    let sums = Csr::from_events(lists.len(), history.items.len(), &user, &item, values.as_deref())?;
    let recipe = &history.names.recipe;
    let counts = match recipe.explicit && values.is_some() {
        true => Some(Csr::from_events(lists.len(), history.items.len(), &user, &item, None)?),
        false => None,
    };
    let basket = |owner: usize| {
        let (items, sums) = sums.row(owner);
        let means = counts.as_ref().map(|counts| counts.row(owner).1);
        let value = |at: usize| means.map_or(sums[at], |counts| sums[at] / counts[at]);
        let entries = items.iter().enumerate().map(|(at, item)| (*item, value(at)));
        entries.filter(|(_, value)| recipe.explicit || *value > 0.0).collect::<Basket>()
    };
    Ok((0..lists.len()).map(|owner| lists.is_valid(owner).then(|| basket(owner))).collect())
}

/// Whether a customer has done nothing since the training.
pub fn is_as_trained(history: &History, user: u32, basket: &[(u32, f32)]) -> bool {
    let (items, values) = history.seen.row(user as usize);
    let is_close = |a: f32, b: f32| (a - b).abs() <= 1e-5 * a.abs().max(b.abs());
    items.len() == basket.len()
        && items
            .iter()
            .zip(values)
            .zip(basket)
            .all(|((item, value), (other, now))| item == other && is_close(*value, *now))
}
