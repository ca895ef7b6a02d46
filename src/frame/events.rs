//! Who did what with which product: the rows of a recommender's query, taken in piece by piece and kept as numbers.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{DataType, Int64Type, Schema, SchemaRef, TimeUnit};
use datafusion::arrow::record_batch::RecordBatch;
use rayon::prelude::*;

use crate::error::{Error, Kind, Result};
use crate::frame::keys::{NO_KEY, Numbering};
use crate::frame::{Keys, column, measures, numbers, sql_name, texts};
use crate::kernels::csr::Csr;
use crate::kernels::hash::mixed;

/// Which column plays which part, as positions in the query's schema.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Roles {
    pub user: usize,
    pub item: usize,
    /// The weight of an interaction; without one each row counts 1.
    pub rating: Option<usize>,
    /// When it happened; hold-outs are cut by it.
    pub time: Option<usize>,
    /// What kind of event it was, and what each kind counts: a row's rating is multiplied by it.
    pub kind: Option<(usize, Vec<(String, f32)>)>,
    /// A number, a moment or a truth that the caller splits by.
    pub split: Option<usize>,
    /// Columns that say something about the customer or the product.
    pub traits: Vec<(Side, usize)>,
}

/// The two sides of an interaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    User,
    Item,
}

/// The columns that a user named; what is not named is found by its place and type.
#[derive(Debug, Clone, Copy, Default)]
pub struct Named<'a> {
    pub user: Option<&'a str>,
    pub item: Option<&'a str>,
    pub rating: Option<&'a str>,
    pub time: Option<&'a str>,
    pub kind: Option<(&'a str, &'a [(String, f32)])>,
    pub split: Option<&'a str>,
    pub traits: &'a [(Side, String)],
}

impl Roles {
    /// By the names given, and else by position: user, item, then the first number and the first timestamp.
    pub fn find(schema: &Schema, named: &Named) -> Result<Self> {
        let fields = schema.fields();
        if fields.len() < 2 {
            return Err(Error::invalid("a recommender needs at least two columns: the customer and the product")
                .hint("for example SELECT customer_id, product_id, sum(quantity) AS rating FROM … GROUP BY 1, 2"));
        }
        let find = |name: Option<&str>| name.map(|name| column(schema, name)).transpose();
        let (user, item, rating, time) = (find(named.user)?, find(named.item)?, find(named.rating)?, find(named.time)?);
        let kind = match named.kind {
            Some((name, weights)) => Some((column(schema, name)?, weights.to_vec())),
            None => None,
        };
        let split = find(named.split)?;
        let traits: Vec<(Side, usize)> =
            named.traits.iter().map(|(side, name)| Ok((*side, column(schema, name)?))).collect::<Result<_>>()?;
        let taken = [user, item, rating, time, kind.as_ref().map(|(at, _)| *at), split];
        let is_free = |at: &usize| !taken.contains(&Some(*at)) && !traits.iter().any(|(_, taken)| taken == at);
        let mut free = (0..fields.len()).filter(is_free);
        let user = user.or_else(|| free.next());
        let item = item.or_else(|| free.next());
        let (Some(user), Some(item)) = (user, item) else {
            return Err(Error::invalid("a recommender needs a customer column and a product column"));
        };
        if user == item {
            return Err(Error::invalid("the customer and the product cannot be the same column"));
        }
        let rest: Vec<usize> = free.collect();
        let is_time = |at: usize| matches!(fields[at].data_type(), DataType::Timestamp(_, _) | DataType::Date32);
        if let Some(at) = time.filter(|at| !is_time(*at)) {
            let (name, given) = (fields[at].name(), sql_name(fields[at].data_type()));
            return Err(Error::new(
                Kind::WrongType,
                format!("column \"{name}\" must be a timestamp or a date, not {given}"),
            )
            .hint(format!("cast it in the query: {name}::timestamp")));
        }
        let rating = rating.or_else(|| rest.iter().copied().find(|at| fields[*at].data_type().is_numeric()));
        let time = time.or_else(|| rest.iter().copied().find(|at| is_time(*at) && Some(*at) != rating));
        // A split by time may be by the time that the rows have anyway.
        Ok(Self { user, item, rating, time, kind, split, traits })
    }

    /// Whether a column has any part.
    pub fn has(&self, at: usize) -> bool {
        let parts = [Some(self.user), Some(self.item), self.rating, self.time, self.split];
        parts.contains(&Some(at))
            || self.kind.as_ref().is_some_and(|(kind, _)| *kind == at)
            || self.traits.iter().any(|(_, column)| *column == at)
    }
}

/// Rows as columns of numbers. Customers and products are numbered in no particular order: it is their keys that have
/// one ([`Keys::sorted`]), and what is made of events must not depend on the order in which they came.
#[derive(Debug)]
pub struct Events {
    pub users: Keys,
    pub items: Keys,
    pub user: Vec<u32>,
    pub item: Vec<u32>,
    /// `None`: each counts 1.
    pub rating: Option<Vec<f32>>,
    /// Microseconds since 1970, [`NO_TIME`] for NULL.
    pub time: Option<Vec<i64>>,
    /// What [`Roles::split`] held; NaN for NULL, 1 for true.
    pub split: Option<Vec<f64>>,
    pub traits: Vec<Trait>,
    /// How many rows there were, and of those how many are events: the others lack a customer, a product or a rating.
    pub n_read: usize,
}

/// Before every moment that is known.
pub const NO_TIME: i64 = i64::MIN;

/// What one column says of customers or of products.
#[derive(Debug)]
pub struct Trait {
    pub name: String,
    pub side: Side,
    pub values: Keys,
    /// Customer or product, and value; the same pair may come often.
    pub pairs: Vec<(u32, u32)>,
}

impl Events {
    pub fn len(&self) -> usize {
        self.user.len()
    }

    pub fn is_empty(&self) -> bool {
        self.user.is_empty()
    }

    /// About the memory that the rows take.
    pub fn bytes(&self) -> usize {
        let per_row = 8
            + 4 * usize::from(self.rating.is_some())
            + 8 * usize::from(self.time.is_some())
            + 8 * usize::from(self.split.is_some());
        self.len() * per_row
    }

    /// Customers × products over the numbers that events have, summed where a pair comes more than once. The sum
    /// depends on what is summed alone, not on its order.
    pub fn matrix(&self) -> Result<Csr> {
        Csr::from_events(self.users.len(), self.items.len(), &self.user, &self.item, self.rating.as_deref())
    }

    /// Only the events for which `kept` holds.
    #[must_use]
    pub fn filtered(mut self, kept: &[bool]) -> Self {
        retain(&mut self.user, kept);
        retain(&mut self.item, kept);
        self.rating.iter_mut().for_each(|rating| retain(rating, kept));
        self.time.iter_mut().for_each(|time| retain(time, kept));
        self.split.iter_mut().for_each(|split| retain(split, kept));
        self
    }

    /// Without what teaches nothing: pairs of a customer and a product whose ratings have no positive sum. A purchase
    /// that was taken back whole is none.
    pub fn taught(self) -> Result<Self> {
        let Some(ratings) = &self.rating else { return Ok(self) };
        if ratings.par_iter().all(|rating| *rating > 0.0) {
            return Ok(self);
        }
        let sums = self.matrix()?;
        let is_taught = |(user, item): (&u32, &u32)| {
            let (items, sums) = sums.row(*user as usize);
            items.binary_search(item).is_ok_and(|at| sums[at] > 0.0)
        };
        let kept: Vec<bool> = self.user.par_iter().zip(&self.item).map(is_taught).collect();
        Ok(self.filtered(&kept))
    }

    /// A 64-bit hash for each event's pair of customer and product, by their keys: the same wherever and whenever the
    /// pair is seen. All events of a pair have one hash.
    pub fn pair_hashes(&self, seed: u64) -> Vec<u64> {
        let (users, items) = (self.users.hashes(), self.items.hashes());
        let hash = |(user, item): (&u32, &u32)| {
            mixed(users[*user as usize].wrapping_add(mixed(items[*item as usize].wrapping_add(seed))))
        };
        self.user.par_iter().zip(&self.item).map(hash).collect()
    }
}

fn retain<T: Copy>(values: &mut Vec<T>, kept: &[bool]) {
    let mut marks = kept.iter();
    values.retain(|_| marks.next().copied().unwrap_or(false));
}

/// Takes in the rows of a query.
#[derive(Debug)]
pub struct EventsBuilder {
    schema: SchemaRef,
    roles: Roles,
    kinds: HashMap<String, f32>,
    users: Numbering,
    items: Numbering,
    events: Columns,
    traits: Vec<(Numbering, Vec<(u32, u32)>)>,
    n_read: usize,
}

#[derive(Debug, Default)]
struct Columns {
    user: Vec<u32>,
    item: Vec<u32>,
    rating: Vec<f32>,
    time: Vec<i64>,
    split: Vec<f64>,
}

impl EventsBuilder {
    pub fn new(schema: &SchemaRef, roles: Roles) -> Self {
        let kinds = roles.kind.iter().flat_map(|(_, kinds)| kinds.iter().cloned()).collect();
        let traits = roles.traits.iter().map(|_| Default::default()).collect();
        Self {
            schema: Arc::clone(schema),
            roles,
            kinds,
            users: Numbering::default(),
            items: Numbering::default(),
            events: Columns::default(),
            traits,
            n_read: 0,
        }
    }

    /// About the memory that it holds.
    pub fn bytes(&self) -> usize {
        let Columns { user, item, rating, time, split } = &self.events;
        let rows =
            4 * (user.capacity() + item.capacity() + rating.capacity()) + 8 * (time.capacity() + split.capacity());
        let traits: usize = self.traits.iter().map(|(values, pairs)| values.bytes() + 8 * pairs.capacity()).sum();
        rows + traits + self.users.bytes() + self.items.bytes()
    }

    /// Adds rows. Fails on ratings that are not finite numbers and on columns that cannot be keys.
    pub fn push(&mut self, rows: &RecordBatch) -> Result<()> {
        self.n_read += rows.num_rows();
        let ratings = self.ratings(rows)?;
        let (mut users, mut items) = (Vec::with_capacity(rows.num_rows()), Vec::with_capacity(rows.num_rows()));
        let (numbered_users, numbered_items) = rayon::join(
            || self.users.number(rows.column(self.roles.user), &mut users),
            || self.items.number(rows.column(self.roles.item), &mut items),
        );
        numbered_users.and(numbered_items)?;
        for ((side, at), (values, pairs)) in self.roles.traits.iter().zip(&mut self.traits) {
            let mut codes = Vec::with_capacity(rows.num_rows());
            values.number(rows.column(*at), &mut codes)?;
            let owners = if *side == Side::User { &users } else { &items };
            for pair in owners.iter().copied().zip(codes).filter(|pair| pair.0 != NO_KEY && pair.1 != NO_KEY) {
                // Rows of one customer tend to come together.
                if pairs.last() != Some(&pair) {
                    pairs.push(pair);
                }
            }
        }
        let is_event = |row: usize| {
            users[row] != NO_KEY
                && items[row] != NO_KEY
                && ratings.as_ref().is_none_or(|ratings| ratings[row].is_some())
        };
        let kept: Vec<usize> = (0..rows.num_rows()).filter(|row| is_event(*row)).collect();
        self.events.user.extend(kept.iter().map(|row| users[*row]));
        self.events.item.extend(kept.iter().map(|row| items[*row]));
        if let Some(ratings) = ratings {
            self.events.rating.extend(kept.iter().map(|row| ratings[*row].unwrap_or_default()));
        }
        if let Some(at) = self.roles.time {
            let times = microseconds(rows.column(at))?;
            self.events.time.extend(kept.iter().map(|row| times[*row]));
        }
        if let Some(at) = self.roles.split {
            let values = split_values(rows.column(at))?;
            self.events.split.extend(kept.iter().map(|row| values[*row]));
        }
        Ok(())
    }

    /// All rows that were added.
    pub fn finish(self) -> Result<Events> {
        let Self { schema, roles, users, items, events, traits, n_read, .. } = self;
        let type_of = |at: usize| schema.field(at).data_type();
        let has_ratings = roles.rating.is_some() || roles.kind.is_some();
        let traits = roles
            .traits
            .iter()
            .zip(traits)
            .map(|((side, at), (values, pairs))| {
                let values = values.finish(type_of(*at))?;
                Ok(Trait { name: schema.field(*at).name().clone(), side: *side, values, pairs })
            })
            .collect::<Result<_>>()?;
        Ok(Events {
            users: users.finish(type_of(roles.user))?,
            items: items.finish(type_of(roles.item))?,
            user: events.user,
            item: events.item,
            rating: has_ratings.then_some(events.rating),
            time: roles.time.map(|_| events.time),
            split: roles.split.map(|_| events.split),
            traits,
            n_read,
        })
    }

    /// The rating of each row, `None` where it is NULL or its kind of event counts nothing; no ratings: each counts 1.
    fn ratings(&self, rows: &RecordBatch) -> Result<Option<Vec<Option<f32>>>> {
        let given = match self.roles.rating {
            Some(at) => Some(ratings(rows.column(at), self.schema.field(at).name())?),
            None => None,
        };
        let Some((at, _)) = &self.roles.kind else { return Ok(given) };
        let kinds = texts(rows.column(*at))?;
        let weigh = |(row, kind): (usize, Option<String>)| {
            let weight = self.kinds.get(&kind?).copied().filter(|weight| *weight != 0.0)?;
            let rating = match &given {
                Some(ratings) => ratings[row]?,
                None => 1.0,
            };
            Some(weight * rating)
        };
        Ok(Some(kinds.into_iter().enumerate().map(weigh).collect()))
    }
}

/// Ratings as the 32-bit floats that matrices hold.
pub fn ratings(column: &ArrayRef, name: &str) -> Result<Vec<Option<f32>>> {
    let ratings = measures(column, name)?;
    match ratings.iter().flatten().find(|rating| !(**rating as f32).is_finite()) {
        Some(odd) => {
            Err(Error::invalid(format!("the rating column holds {odd:e}, which is not a number to learn from"))
                .hint("filter such rows out in the query: WHERE rating < 'Infinity'"))
        }
        None => Ok(ratings.into_iter().map(|rating| rating.map(|rating| rating as f32)).collect()),
    }
}

/// A column of moments or dates as microseconds since 1970; [`NO_TIME`] for NULL.
pub fn microseconds(column: &ArrayRef) -> Result<Vec<i64>> {
    let strict = CastOptions { safe: false, ..Default::default() };
    let zone = match column.data_type() {
        DataType::Timestamp(_, zone) => zone.clone(),
        _ => None,
    };
    let moments = cast_with_options(column, &DataType::Timestamp(TimeUnit::Microsecond, zone), &strict)?;
    let ticks = cast_with_options(&moments, &DataType::Int64, &strict)?;
    Ok(ticks.as_primitive::<Int64Type>().iter().map(|tick| tick.unwrap_or(NO_TIME)).collect())
}

fn split_values(column: &ArrayRef) -> Result<Vec<f64>> {
    if let Some(marks) = column.as_boolean_opt() {
        return Ok(marks.iter().map(|mark| mark.map_or(f64::NAN, f64::from)).collect());
    }
    Ok(numbers(column)?.into_iter().map(|value| value.unwrap_or(f64::NAN)).collect())
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Float64Array, StringArray, TimestampSecondArray};

    use super::*;

    fn rows(cells: &[(Option<&str>, Option<&str>, Option<f64>)]) -> RecordBatch {
        let users: ArrayRef = Arc::new(cells.iter().map(|cell| cell.0).collect::<StringArray>());
        let items: ArrayRef = Arc::new(cells.iter().map(|cell| cell.1).collect::<StringArray>());
        let ratings: ArrayRef = Arc::new(cells.iter().map(|cell| cell.2).collect::<Float64Array>());
        let columns = [("who", users), ("what", items), ("rating", ratings)];
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
    }

    fn events(rows: &[RecordBatch], named: &Named) -> Result<Events> {
        let schema = rows[0].schema();
        let mut builder = EventsBuilder::new(&schema, Roles::find(&schema, named)?);
        rows.iter().try_for_each(|rows| builder.push(rows))?;
        builder.finish()
    }

    #[test]
    fn rows_without_a_key_or_a_rating_are_no_events() {
        let found = events(
            &[
                rows(&[
                    (Some("ann"), Some("a"), Some(1.0)),
                    (None, Some("b"), Some(1.0)),
                    (Some("bob"), None, Some(1.0)),
                ]),
                rows(&[(Some("cat"), Some("c"), None), (Some("eve"), Some("a"), Some(2.0))]),
            ],
            &Named::default(),
        )
        .unwrap();
        assert_eq!((found.n_read, found.len()), (5, 2));
        assert_eq!(found.rating, Some(vec![1.0, 2.0]));
        assert_eq!(found.item[0], found.item[1]);
    }

    #[test]
    fn what_was_taken_back_teaches_nothing() {
        let cells = [
            (Some("ann"), Some("a"), Some(3.0)),
            (Some("ann"), Some("b"), Some(2.0)),
            (Some("ann"), Some("a"), Some(-1.0)),
            (Some("ann"), Some("b"), Some(-2.0)),
        ];
        let found = events(&[rows(&cells)], &Named::default()).unwrap().taught().unwrap();
        assert_eq!(found.rating, Some(vec![3.0, -1.0]));
        assert_eq!(found.matrix().unwrap().values, [2.0]);
    }

    #[test]
    fn kinds_of_events_weigh_and_strange_kinds_do_not_count() {
        let cells = [("view", "a"), ("buy", "a"), ("chat", "b")];
        let column = |of: fn(&(&'static str, &'static str)) -> &'static str| {
            Arc::new(StringArray::from_iter_values(cells.iter().map(of))) as ArrayRef
        };
        let users: ArrayRef = Arc::new(StringArray::from(vec!["ann"; 3]));
        let times: ArrayRef = Arc::new(TimestampSecondArray::from(vec![Some(7), None, Some(9)]));
        let batch = RecordBatch::try_from_iter_with_nullable([
            ("who", users, true),
            ("kind", column(|cell| cell.0), true),
            ("what", column(|cell| cell.1), true),
            ("at", times, true),
        ])
        .unwrap();
        let weights = [("view".to_owned(), 1.0), ("buy".to_owned(), 5.0)];
        let named = Named { kind: Some(("kind", &weights)), ..Named::default() };
        let found = events(&[batch], &named).unwrap();
        assert_eq!((found.rating.clone(), found.time.clone()), (Some(vec![1.0, 5.0]), Some(vec![7_000_000, NO_TIME])));
        assert_eq!(found.matrix().unwrap().values, [6.0]);
    }

    #[test]
    fn pairs_have_one_hash_however_they_are_numbered() {
        let there = rows(&[(Some("ann"), Some("a"), Some(1.0)), (Some("bob"), Some("b"), Some(2.0))]);
        let back = rows(&[(Some("bob"), Some("b"), Some(2.0)), (Some("ann"), Some("a"), Some(3.0))]);
        let [there, back] = [there, back].map(|rows| events(&[rows], &Named::default()).unwrap().pair_hashes(7));
        assert_eq!((there[0], there[1]), (back[1], back[0]));
        assert_ne!(there[0], there[1]);
    }

    #[test]
    fn odd_ratings_are_refused() {
        let odd = events(&[rows(&[(Some("ann"), Some("a"), Some(1e300))])], &Named::default()).unwrap_err();
        assert!(odd.message.contains("not a number to learn from"), "{odd}");
    }
}
