//! What every recommender remembers: who its customers and products are, and who had what already.

use datafusion::arrow::array::AsArray;
use datafusion::arrow::array::{ArrayRef, Float32Array, UInt32Array};
use datafusion::arrow::datatypes::{DataType, Schema, UInt32Type};
use datafusion::arrow::datatypes::{Field, Float32Type};
use datafusion::arrow::record_batch::RecordBatch;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::frame::{Artefact, Interactions, Keys, Roles, sql_name, taught};
use crate::kernels::csr::Csr;
use crate::kernels::popularity;
use crate::models::{FitContext, Input, Options};

/// Customers, products and their interactions, as trained on.
#[derive(Debug, Clone)]
pub struct History {
    pub names: Names,
    pub users: Keys,
    pub items: Keys,
    /// customers × products, summed ratings.
    pub seen: Csr,
    /// All products, the most popular first, each with the share of customers who had it.
    pub popular: Vec<(u32, f32)>,
    pub n_rows: usize,
}

/// The query's names and types for the columns of a history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Names {
    pub user: String,
    pub item: String,
    pub rating: Option<String>,
    pub inputs: Vec<Input>,
}

impl History {
    pub fn from_rows(rows: &RecordBatch, options: &Options) -> Result<Self> {
        let roles = roles(rows, options)?;
        let Interactions { users, items, matrix } = Interactions::from_rows(rows, &roles)?;
        let names = Names::new(&rows.schema(), &roles);
        Ok(Self::new(names, users, items, matrix, rows.num_rows()))
    }

    fn new(names: Names, users: Keys, items: Keys, seen: Csr, n_rows: usize) -> Self {
        let counts = popularity::counts(&seen);
        let n_users = seen.n_rows.max(1) as f64;
        let share = |item: u32| (item, (counts[item as usize] / n_users) as f32);
        let popular = popularity::ranking(&seen).into_iter().map(share).collect();
        Self { names, users, items, seen, popular, n_rows }
    }

    /// The products a customer had, ascending.
    pub fn seen_by(&self, user: u32) -> &[u32] {
        self.seen.row(user as usize).0
    }

    /// Adds the history to a model's artefact.
    pub fn save(&self, artefact: Artefact) -> Result<Artefact> {
        let mut artefact = artefact;
        artefact.manifest["names"] = serde_json::to_value(&self.names)?;
        artefact.manifest["n_rows"] = self.n_rows.into();
        let mut rows = Vec::with_capacity(self.seen.nnz());
        for user in 0..self.seen.n_rows {
            rows.extend(std::iter::repeat_n(user as u32, self.seen.row(user).0.len()));
        }
        let seen: [(&str, ArrayRef); 3] = [
            ("user", Arc::new(UInt32Array::from(rows))),
            ("item", Arc::new(UInt32Array::from(self.seen.columns.clone()))),
            ("rating", Arc::new(Float32Array::from(self.seen.values.clone()))),
        ];
        Ok(artefact
            .with_part("users", RecordBatch::try_from_iter([("key", Arc::clone(self.users.values()))])?)
            .with_part("items", RecordBatch::try_from_iter([("key", Arc::clone(self.items.values()))])?)
            .with_part("seen", RecordBatch::try_from_iter(seen)?))
    }

    pub fn load(artefact: &Artefact) -> Result<Self> {
        let users = Keys::stored(artefact.part("users")?.column(0))?;
        let items = Keys::stored(artefact.part("items")?.column(0))?;
        let seen = artefact.part("seen")?;
        let damaged = || Error::corrupt("the model's history is damaged");
        let codes = |at: usize| seen.column(at).as_primitive_opt::<UInt32Type>().ok_or_else(damaged);
        let ratings = seen.column(2).as_primitive_opt::<Float32Type>().ok_or_else(damaged)?;
        let (rows, columns) = (codes(0)?, codes(1)?);
        let triplets: Vec<(u32, u32, f32)> = rows
            .values()
            .iter()
            .zip(columns.values())
            .zip(ratings.values())
            .map(|((user, item), rating)| (*user, *item, *rating))
            .collect();
        let inside =
            |(user, item, _): &(u32, u32, f32)| (*user as usize) < users.len() && (*item as usize) < items.len();
        if !triplets.iter().all(inside) {
            return Err(damaged());
        }
        let matrix = Csr::from_triplets(users.len(), items.len(), &triplets)?;
        Ok(Self::new(artefact.value("names")?, users, items, matrix, artefact.value("n_rows")?))
    }
}

/// Which column of the query plays which part.
pub(super) fn roles(rows: &RecordBatch, options: &Options) -> Result<Roles> {
    let (user, item, rating) = (options.text("user_col"), options.text("item_col"), options.text("rating_col"));
    Roles::find(&rows.schema(), user, item, rating)
}

/// The rows that a recommender learns from. Says how many it leaves out, and which columns have no part.
pub(super) fn accept(cx: &FitContext, rows: &RecordBatch, options: &Options) -> Result<RecordBatch> {
    let roles = roles(rows, options)?;
    let kept = taught(rows, &roles)?;
    let n_skipped = rows.num_rows() - kept.num_rows();
    if n_skipped > 0 {
        (cx.notice)(format!(
            "skipped {n_skipped} of {} rows: without a customer or product, or without a rating above zero in all",
            rows.num_rows()
        ));
    }
    let split = options.text("data_split_col");
    for (at, field) in rows.schema().fields().iter().enumerate() {
        let has_part = [Some(roles.user), Some(roles.item), roles.rating, roles.time].contains(&Some(at));
        if !has_part && !split.is_some_and(|split| split.eq_ignore_ascii_case(field.name())) {
            let cure = match roles.rating {
                None => "; a rating must be a number, such as count(*)",
                Some(_) => "",
            };
            let (name, data_type) = (field.name(), sql_name(field.data_type()));
            (cx.notice)(format!("column \"{name}\" of type {data_type} is not learned from{cure}"));
        }
    }
    Ok(kept)
}

impl Names {
    fn new(schema: &Schema, roles: &Roles) -> Self {
        let field = |at: usize| schema.field(at);
        let input = |at: usize, role: &str| Input {
            name: field(at).name().clone(),
            data_type: sql_name(field(at).data_type()),
            role: role.to_owned(),
        };
        let mut inputs = vec![input(roles.user, "user"), input(roles.item, "item")];
        inputs.extend(roles.rating.map(|at| input(at, "rating")));
        inputs.extend(roles.time.map(|at| input(at, "time")));
        Self {
            user: field(roles.user).name().clone(),
            item: field(roles.item).name().clone(),
            rating: roles.rating.map(|at| field(at).name().clone()),
            inputs,
        }
    }

    /// The key columns of a row of evaluation data: by name, or else the first two.
    pub fn pair(&self, schema: &Schema) -> Result<(usize, usize)> {
        let find = |name: &str| schema.fields().iter().position(|field| field.name().eq_ignore_ascii_case(name));
        match (find(&self.user), find(&self.item)) {
            (Some(user), Some(item)) => Ok((user, item)),
            _ if schema.fields().len() >= 2 => Ok((0, 1)),
            _ => Err(Error::invalid(format!("the query must give \"{}\" and \"{}\"", self.user, self.item))),
        }
    }
}

/// A nullable column of that type.
pub fn field(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, true)
}
