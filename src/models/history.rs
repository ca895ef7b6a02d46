//! What every recommender remembers: who its customers and products are, and who had what already.

use std::sync::{Arc, OnceLock};

use datafusion::arrow::array::{ArrayRef, AsArray, Float32Array, UInt32Array};
use datafusion::arrow::datatypes::{DataType, Field, Float32Type, Schema, UInt32Type};
use datafusion::arrow::record_batch::RecordBatch;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::frame::{Artefact, Events, Keys, NO_KEY, NO_TIME, Named, Roles, Side, sql_name};
use crate::kernels::csr::Csr;
use crate::kernels::popularity;
use crate::models::split::check_split_column;
use crate::models::{Input, Opt, Options, Range};

/// Customers, products and their interactions, as trained on.
///
/// Customers are numbered in the order of their keys, products from the one with the most events on: what is often
/// wanted lies close together in memory, and of two equal scores the more usual product comes first.
#[derive(Debug, Clone)]
pub struct History {
    pub names: Names,
    pub users: Keys,
    pub items: Keys,
    /// customers × products: what each interaction counts ([`Recipe`]).
    pub seen: Csr,
    /// The same, products × customers; made when it is first asked for.
    seen_by_item: OnceLock<Csr>,
    /// The same of the last [`Recipe::window_days`] alone, where there is such a window.
    pub recent: Option<Csr>,
    /// All products, the most popular first, each with the share of customers who had it; in the window, if there is one.
    pub popular: Vec<(u32, f32)>,
    pub traits: Vec<Traits>,
    pub n_rows: usize,
    /// The moment that ages are counted to; where ratings decay.
    pub as_of: Option<i64>,
}

/// What one column said of the customers or of the products.
#[derive(Debug, Clone)]
pub struct Traits {
    pub name: String,
    pub side: Side,
    pub values: Keys,
    /// customers or products × values, a one where it was said.
    pub matrix: Csr,
}

/// The query's names and types for the columns of a history, and how rows become ratings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Names {
    pub user: String,
    pub item: String,
    pub rating: Option<String>,
    pub time: Option<String>,
    pub kind: Option<(String, Vec<(String, f32)>)>,
    pub traits: Vec<(Side, String)>,
    pub inputs: Vec<Input>,
    pub recipe: Recipe,
}

/// How a customer's rows with one product become one number.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Recipe {
    /// Ratings mean what they say, and are averaged. Otherwise they are evidence: they are summed, and only a positive
    /// sum counts.
    pub explicit: bool,
    /// Days after which a row counts half.
    pub half_life: Option<f64>,
    /// Days before the last row of which rows count for what is popular.
    #[serde(default)]
    pub window_days: Option<f64>,
    /// Whether products and customers of whom only traits are known belong to the history.
    pub keeps_strangers: bool,
}

impl Recipe {
    /// The days by which rows grow old, where they do.
    fn ages(&self) -> Option<f64> {
        self.half_life.or(self.window_days)
    }
}

/// Options of everything that learns from events.
pub(super) const EVENT_OPTIONS: [Opt; 7] = [
    Opt {
        name: "user_col",
        aliases: &[],
        range: Range::Text,
        default: None,
        doc: "The customer's column; the query's first column unless named. Any type: bigint, text, uuid.",
    },
    Opt {
        name: "item_col",
        aliases: &[],
        range: Range::Text,
        default: None,
        doc: "The product's column; the query's second column unless named.",
    },
    Opt {
        name: "rating_col",
        aliases: &["weight_col"],
        range: Range::Text,
        default: None,
        doc: "How much an interaction counts; the next numeric column unless named, and 1 a row where there is none. \
              Rows of the same customer and product are summed, and only positive sums teach anything; explicit ratings \
              are averaged.",
    },
    Opt {
        name: "time_col",
        aliases: &[],
        range: Range::Text,
        default: None,
        doc: "When it happened; the first timestamp or date unless named. The hold-out is cut by it.",
    },
    Opt {
        name: "event_col",
        aliases: &[],
        range: Range::Text,
        default: None,
        doc: "The kind of event, such as view or purchase; it goes with event_weights.",
    },
    Opt {
        name: "event_weights",
        aliases: &[],
        range: Range::Texts,
        default: None,
        doc: "What each kind of event counts: ARRAY['view=1', 'purchase=5']. Rows of other kinds are skipped. A rating \
              is multiplied by it.",
    },
    Opt {
        name: "half_life",
        aliases: &["half_life_days"],
        range: Range::Number { min: 1e-3, max: 1e6 },
        default: None,
        doc: "Days after which a row counts half as much, seen from the last row; it needs a timestamp. Without it old \
              rows count like new ones.",
    },
];

impl History {
    /// Of the events for which `kept` holds (or of all): those of them that teach something.
    pub fn of(names: &Names, events: &Events, kept: Option<&[bool]>) -> Result<Self> {
        let recipe = &names.recipe;
        let as_of = match (recipe.ages(), &events.time) {
            (Some(_), Some(times)) => {
                let counted = |(row, time): (usize, &i64)| is_kept(kept, row).then_some(*time);
                times.par_iter().enumerate().filter_map(counted).max()
            }
            _ => None,
        };
        let (users, items) = rayon::join(
            || present(&events.users, &events.user, kept, Side::User, events, recipe),
            || present(&events.items, &events.item, kept, Side::Item, events, recipe),
        );
        let ((users, user_numbers), (items, item_numbers)) = (users?, items?);
        let renumbered = |codes: &[u32], numbers: &[u32]| -> Vec<u32> {
            let number = |code: &u32| numbers[*code as usize];
            match kept {
                None => codes.par_iter().map(number).collect(),
                Some(kept) => {
                    let of_row = |(code, kept): (&u32, &bool)| kept.then(|| number(code));
                    codes.par_iter().zip(kept).filter_map(of_row).collect()
                }
            }
        };
        let (user, item) = (renumbered(&events.user, &user_numbers), renumbered(&events.item, &item_numbers));
        let ratings = weighed(names, events, kept, as_of);
        let mut seen = Csr::from_events(users.len(), items.len(), &user, &item, ratings.as_deref())?;
        if recipe.explicit && ratings.is_some() {
            let counts = Csr::from_events(users.len(), items.len(), &user, &item, None)?;
            seen.values.par_iter_mut().zip(&counts.values).for_each(|(sum, count)| *sum /= count);
        } else if !recipe.explicit && seen.values.par_iter().any(|sum| *sum <= 0.0) {
            // Of a pair that was given and taken back, or the other way round, these events hold the wrong half.
            let counts = |row: usize| {
                let (user, item) = (user_numbers[events.user[row] as usize], item_numbers[events.item[row] as usize]);
                let (items, sums) = seen.row(user as usize);
                items.binary_search(&item).is_ok_and(|at| sums[at] > 0.0)
            };
            let counting: Vec<bool> = (0..events.len()).map(|row| is_kept(kept, row) && counts(row)).collect();
            return Self::of(names, events, Some(&counting));
        }
        if seen.nnz() == 0 {
            return Err(nothing_to_learn(events));
        }
        let recent = match recipe.window_days.zip(as_of) {
            Some((days, as_of)) => {
                let in_window = in_window(days, as_of, events, kept)?;
                let chosen = |codes: &[u32]| only(codes, &in_window);
                let ratings = ratings.as_ref().map(|ratings| only(ratings, &in_window));
                Some(Csr::from_events(users.len(), items.len(), &chosen(&user), &chosen(&item), ratings.as_deref())?)
            }
            None => None,
        };
        let traits = events
            .traits
            .iter()
            .map(|one| {
                let numbers = if one.side == Side::User { &user_numbers } else { &item_numbers };
                let owners = if one.side == Side::User { users.len() } else { items.len() };
                traits_of(one, numbers, owners)
            })
            .collect::<Result<_>>()?;
        Ok(Self::new(names.clone(), users, items, seen, recent, traits, user.len(), as_of))
    }

    #[allow(clippy::too_many_arguments)] // The fields that the others are made of.
    fn new(
        names: Names,
        users: Keys,
        items: Keys,
        seen: Csr,
        recent: Option<Csr>,
        traits: Vec<Traits>,
        n_rows: usize,
        as_of: Option<i64>,
    ) -> Self {
        let (counted, n_users) = match &recent {
            Some(recent) => (recent, popularity::active_users(recent)),
            None => (&seen, seen.n_rows),
        };
        let share = |(item, count): (u32, f64)| (item, (count / n_users.max(1) as f64) as f32);
        let popular = popularity::ranking(counted).into_iter().map(share).collect();
        Self { names, users, items, seen, seen_by_item: OnceLock::new(), recent, popular, traits, n_rows, as_of }
    }

    /// The products a customer had, ascending.
    pub fn seen_by(&self, user: u32) -> &[u32] {
        self.seen.row(user as usize).0
    }

    /// A row of interactions for each customer, or for each product.
    pub fn rows(&self, side: Side) -> &Csr {
        match side {
            Side::User => &self.seen,
            Side::Item => self.seen_by_item.get_or_init(|| self.seen.transpose()),
        }
    }

    /// The keys of the customers, or of the products.
    pub fn keys(&self, side: Side) -> &Keys {
        if side == Side::User { &self.users } else { &self.items }
    }

    /// Adds the history to a model's artefact.
    pub fn save(&self, artefact: Artefact) -> Result<Artefact> {
        let mut artefact = artefact;
        artefact.manifest["names"] = serde_json::to_value(&self.names)?;
        artefact.manifest["n_rows"] = self.n_rows.into();
        if let Some(as_of) = self.as_of {
            artefact.manifest["as_of"] = as_of.into();
        }
        let entries = |matrix: &Csr| {
            let entries: [(&str, ArrayRef); 2] = [
                ("item", Arc::new(UInt32Array::from(matrix.columns.clone()))),
                ("rating", Arc::new(Float32Array::from(matrix.values.clone()))),
            ];
            RecordBatch::try_from_iter(entries)
        };
        let lengths = |matrix: &Csr| Arc::new(row_lengths(matrix)) as ArrayRef;
        let users = [("key", Arc::clone(self.users.values())), ("n_items", lengths(&self.seen))];
        artefact = artefact
            .with_part("users", RecordBatch::try_from_iter(users)?)
            .with_part("items", RecordBatch::try_from_iter([("key", Arc::clone(self.items.values()))])?)
            .with_part("seen", entries(&self.seen)?);
        if let Some(recent) = &self.recent {
            artefact = artefact
                .with_part("recent_users", RecordBatch::try_from_iter([("n_items", lengths(recent))])?)
                .with_part("recent", entries(recent)?);
        }
        for (at, traits) in self.traits.iter().enumerate() {
            let (values, owners, said) = trait_parts(at);
            let numbers: ArrayRef = Arc::new(UInt32Array::from(traits.matrix.columns.clone()));
            let counts: ArrayRef = Arc::new(row_lengths(&traits.matrix));
            artefact = artefact
                .with_part(&values, RecordBatch::try_from_iter([("key", Arc::clone(traits.values.values()))])?)
                .with_part(&owners, RecordBatch::try_from_iter([("n_values", counts)])?)
                .with_part(&said, RecordBatch::try_from_iter([("value", numbers)])?);
        }
        Ok(artefact)
    }

    pub fn load(artefact: &Artefact) -> Result<Self> {
        let names: Names = artefact.value("names")?;
        let users = Keys::stored(artefact.part("users")?.column(0))?;
        let items = Keys::stored(artefact.part("items")?.column(0))?;
        let stored = |part: &str, lengths: Vec<u32>| {
            let entries = artefact.part(part)?;
            let ratings = entries.columns().get(1).and_then(|column| column.as_primitive_opt::<Float32Type>());
            let ratings = ratings.ok_or_else(damaged)?.values().to_vec();
            let rows = stored_rows(lengths, numbers_in(entries, 0)?, ratings, items.len())?;
            if rows.n_rows == users.len() { Ok(rows) } else { Err(damaged()) }
        };
        let seen = stored("seen", numbers_in(artefact.part("users")?, 1)?)?;
        let recent = match names.recipe.window_days {
            Some(_) => Some(stored("recent", numbers_in(artefact.part("recent_users")?, 0)?)?),
            None => None,
        };
        let mut traits = Vec::with_capacity(names.traits.len());
        for (at, (side, name)) in names.traits.iter().enumerate() {
            let (values, owners, said) = trait_parts(at);
            let values = Keys::stored(artefact.part(&values)?.column(0))?;
            let said = numbers_in(artefact.part(&said)?, 0)?;
            let ones = vec![1.0; said.len()];
            let matrix = stored_rows(numbers_in(artefact.part(&owners)?, 0)?, said, ones, values.len())?;
            let n_owners = if *side == Side::User { users.len() } else { items.len() };
            if matrix.n_rows != n_owners {
                return Err(damaged());
            }
            traits.push(Traits { name: name.clone(), side: *side, values, matrix });
        }
        let as_of = names.recipe.ages().map(|_| artefact.value("as_of")).transpose()?;
        Ok(Self::new(names, users, items, seen, recent, traits, artefact.value("n_rows")?, as_of))
    }
}

fn is_kept(kept: Option<&[bool]>, row: usize) -> bool {
    kept.is_none_or(|kept| kept[row])
}

/// The keys that the kept events name, in their order, and the new number of each old one.
fn present(
    keys: &Keys,
    codes: &[u32],
    kept: Option<&[bool]>,
    side: Side,
    events: &Events,
    recipe: &Recipe,
) -> Result<(Keys, Vec<u32>)> {
    let mut counts = vec![0u32; keys.len()];
    for (row, code) in codes.iter().enumerate() {
        if is_kept(kept, row) {
            counts[*code as usize] = counts[*code as usize].saturating_add(1);
        }
    }
    let mut strangers = vec![false; if recipe.keeps_strangers { keys.len() } else { 0 }];
    if recipe.keeps_strangers {
        for one in events.traits.iter().filter(|one| one.side == side) {
            one.pairs.iter().for_each(|(owner, _)| strangers[*owner as usize] = true);
        }
    }
    let mut order = keys.sorted();
    order.retain(|code| counts[*code as usize] > 0 || strangers.get(*code as usize) == Some(&true));
    if side == Side::Item {
        // Stable: products with as many events stay in the order of their keys.
        order.sort_by_key(|code| std::cmp::Reverse(counts[*code as usize]));
    }
    let mut numbers = vec![NO_KEY; keys.len()];
    order.iter().enumerate().for_each(|(number, code)| numbers[*code as usize] = number as u32);
    Ok((keys.chosen(&order)?, numbers))
}

/// What each kept event counts; `None`: 1.
pub(super) fn weighed(names: &Names, events: &Events, kept: Option<&[bool]>, as_of: Option<i64>) -> Option<Vec<f32>> {
    let decays = names.recipe.half_life.zip(as_of).zip(events.time.as_ref());
    if events.rating.is_none() && decays.is_none() {
        return None;
    }
    let weight = |row: usize| {
        let rating = events.rating.as_ref().map_or(1.0, |ratings| ratings[row]);
        match decays {
            Some(((half_life, as_of), times)) => rating * decay(half_life, as_of, times[row]),
            None => rating,
        }
    };
    Some(match kept {
        None => (0..events.len()).into_par_iter().map(weight).collect(),
        Some(kept) => (0..events.len()).into_par_iter().filter(|row| kept[*row]).map(weight).collect(),
    })
}

/// A day in microseconds.
const DAY: f64 = 86_400e6;

/// Of each kept event whether it is of the last so many days. Without a moment it is too old.
fn in_window(days: f64, as_of: i64, events: &Events, kept: Option<&[bool]>) -> Result<Vec<bool>> {
    if as_of == NO_TIME {
        return Err(Error::invalid("no row of the query has a time, so none lies within window_days")
            .hint("name the column that tells when it happened: time_col = '…'"));
    }
    let since = as_of.saturating_sub((days * DAY) as i64);
    let times = events.time.as_deref().unwrap_or_default();
    let of_row = |(row, time): (usize, &i64)| is_kept(kept, row).then_some(*time > since);
    Ok(times.par_iter().enumerate().filter_map(of_row).collect())
}

/// The values whose mark is set.
fn only<T: Copy>(values: &[T], marks: &[bool]) -> Vec<T> {
    values.iter().zip(marks).filter(|(_, mark)| **mark).map(|(value, _)| *value).collect()
}

/// What a row of that moment still counts at `as_of`, in microseconds since 1970. Without a moment it is too old to count.
pub fn decay(half_life_days: f64, as_of: i64, time: i64) -> f32 {
    if time == NO_TIME {
        return 0.0;
    }
    (-((as_of - time) as f64) / DAY / half_life_days).exp2() as f32
}

fn traits_of(one: &crate::frame::Trait, numbers: &[u32], n_owners: usize) -> Result<Traits> {
    let pairs = || one.pairs.iter().filter(|(owner, _)| numbers[*owner as usize] != NO_KEY);
    let mut said = vec![false; one.values.len()];
    pairs().for_each(|(_, value)| said[*value as usize] = true);
    let mut order = one.values.sorted();
    order.retain(|value| said[*value as usize]);
    let mut value_numbers = vec![NO_KEY; one.values.len()];
    order.iter().enumerate().for_each(|(number, value)| value_numbers[*value as usize] = number as u32);
    let owners: Vec<u32> = pairs().map(|(owner, _)| numbers[*owner as usize]).collect();
    let values: Vec<u32> = pairs().map(|(_, value)| value_numbers[*value as usize]).collect();
    let mut matrix = Csr::from_events(n_owners, order.len(), &owners, &values, None)?;
    matrix.values.fill(1.0);
    Ok(Traits { name: one.name.clone(), side: one.side, values: one.values.chosen(&order)?, matrix })
}

/// The number of entries in each row.
pub(super) fn row_lengths(matrix: &Csr) -> UInt32Array {
    matrix.offsets.windows(2).map(|pair| Some((pair[1] - pair[0]) as u32)).collect()
}

fn trait_parts(at: usize) -> (String, String, String) {
    (format!("trait_{at}_values"), format!("trait_{at}_owners"), format!("trait_{at}_said"))
}

fn damaged() -> Error {
    Error::corrupt("the model's history is damaged")
}

/// A column of numbers of customers, products or entries.
pub(super) fn numbers_in(part: &RecordBatch, at: usize) -> Result<Vec<u32>> {
    let column = part.columns().get(at).and_then(|column| column.as_primitive_opt::<UInt32Type>());
    Ok(column.ok_or_else(damaged)?.values().to_vec())
}

/// A matrix from the lengths of its rows, and what stands in them one after the other.
pub(super) fn stored_rows(lengths: Vec<u32>, columns: Vec<u32>, values: Vec<f32>, n_cols: usize) -> Result<Csr> {
    let mut offsets = Vec::with_capacity(lengths.len() + 1);
    offsets.push(0usize);
    for length in &lengths {
        offsets.push(offsets[offsets.len() - 1] + *length as usize);
    }
    let ascend = |row: &[usize]| columns.get(row[0]..row[1]).is_some_and(|row| row.is_sorted_by(|a, b| a < b));
    let fits = offsets[lengths.len()] == columns.len()
        && values.len() == columns.len()
        && columns.iter().all(|column| (*column as usize) < n_cols)
        && offsets.windows(2).all(ascend);
    if !fits {
        return Err(damaged());
    }
    Ok(Csr { n_rows: lengths.len(), n_cols, offsets, columns, values })
}

/// The error of rows that teach nothing.
pub(super) fn nothing_to_learn(events: &Events) -> Error {
    Error::invalid(match events.n_read {
        0 => "the query gives no rows to train on".to_owned(),
        n => format!("none of the query's {n} rows has a customer, a product and a positive rating"),
    })
    .hint("run the SELECT alone and look at its rows")
}

/// The column of a kind of event, and what each kind counts.
type EventWeights = (String, Vec<(String, f32)>);

/// What each kind of event counts, from `event_weights`.
fn event_weights(options: &Options) -> Result<Option<EventWeights>> {
    let (column, given) = (options.text("event_col"), options.texts("event_weights"));
    let (column, given) = match (column, given) {
        (None, None) => return Ok(None),
        (Some(column), Some(given)) => (column, given),
        (Some(_), None) => {
            return Err(Error::invalid("event_col needs event_weights, which say what each kind of event counts")
                .hint("event_weights = ARRAY['view=1', 'purchase=5']"));
        }
        (None, Some(_)) => {
            return Err(Error::invalid("event_weights needs event_col, the column that names the kind of event")
                .hint("event_col = 'event_type'"));
        }
    };
    let mut weights: Vec<(String, f32)> = Vec::with_capacity(given.len());
    for text in given {
        let parsed = text.rsplit_once(['=', ':']).and_then(|(kind, weight)| {
            let weight = weight.trim().parse::<f32>().ok().filter(|weight| weight.is_finite())?;
            Some((kind.trim().to_owned(), weight))
        });
        let Some((kind, weight)) = parsed else {
            return Err(Error::invalid(format!("event_weights: \"{text}\" is not a kind of event and its weight"))
                .hint("write ARRAY['view=1', 'purchase=5']"));
        };
        if weights.iter().any(|(known, _)| *known == kind) {
            return Err(Error::invalid(format!("event_weights: \"{kind}\" is given twice")));
        }
        weights.push((kind, weight));
    }
    Ok(Some((column.to_owned(), weights)))
}

impl Names {
    /// Which column of the query plays which part, by the options and else by place and type.
    pub fn find(
        schema: &Schema,
        options: &Options,
        traits: &[(Side, String)],
        recipe: Recipe,
    ) -> Result<(Self, Roles)> {
        let kind = event_weights(options)?;
        let named = Named {
            user: options.text("user_col"),
            item: options.text("item_col"),
            rating: options.text("rating_col"),
            time: options.text("time_col"),
            kind: kind.as_ref().map(|(column, weights)| (column.as_str(), weights.as_slice())),
            split: options.text("data_split_col"),
            traits,
        };
        let roles = Roles::find(schema, &named)?;
        let aging = [("half_life", recipe.half_life), ("window_days", recipe.window_days)];
        if let Some((option, _)) = aging.iter().find(|(_, days)| days.is_some() && roles.time.is_none()) {
            return Err(Error::invalid(format!("{option} needs a timestamp or a date among the query's columns"))
                .hint("give one and name it: time_col = '…'"));
        }
        if let Some(at) = roles.split {
            check_split_column(options, schema.field(at).data_type())?;
        }
        let name = |at: usize| schema.field(at).name().clone();
        let input = |at: usize, role: &str| Input {
            name: name(at),
            data_type: sql_name(schema.field(at).data_type()),
            role: role.to_owned(),
        };
        let mut inputs = vec![input(roles.user, "user"), input(roles.item, "item")];
        inputs.extend(roles.rating.map(|at| input(at, "rating")));
        inputs.extend(roles.time.map(|at| input(at, "time")));
        inputs.extend(roles.kind.as_ref().map(|(at, _)| input(*at, "event")));
        inputs.extend(roles.traits.iter().map(|(side, at)| match side {
            Side::User => input(*at, "user feature"),
            Side::Item => input(*at, "item feature"),
        }));
        let names = Self {
            user: name(roles.user),
            item: name(roles.item),
            rating: roles.rating.map(name),
            time: roles.time.map(name),
            kind: roles.kind.as_ref().map(|(at, weights)| (name(*at), weights.clone())),
            traits: roles.traits.iter().map(|(side, at)| (*side, name(*at))).collect(),
            inputs,
            recipe,
        };
        Ok((names, roles))
    }

    /// The parts of the columns of evaluation data: customer and product by name, or else the first two; the rating
    /// and the kind of event where they are given.
    pub fn roles(&self, schema: &Schema) -> Result<Roles> {
        let find = |name: &str| schema.fields().iter().position(|field| field.name().eq_ignore_ascii_case(name));
        let (user, item) = match (find(&self.user), find(&self.item)) {
            (Some(user), Some(item)) => (user, item),
            _ if schema.fields().len() >= 2 => (0, 1),
            _ => return Err(Error::invalid(format!("the query must give \"{}\" and \"{}\"", self.user, self.item))),
        };
        let kind = self.kind.as_ref().and_then(|(name, weights)| Some((find(name)?, weights.clone())));
        let rating = self.rating.as_deref().and_then(find);
        Ok(Roles { user, item, rating, kind, ..Roles::default() })
    }
}

/// A nullable column of that type.
pub fn field(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, true)
}
