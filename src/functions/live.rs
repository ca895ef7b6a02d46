//! What customers have done by now, beside each of them: the query of the training, over the tables as they are.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Column, ScalarValue};
use datafusion::functions::core::expr_fn::named_struct;
use datafusion::functions_aggregate::expr_fn::array_agg;
use datafusion::logical_expr::{Expr, JoinType, LogicalPlan, LogicalPlanBuilder, lit};

use crate::error::{Error, Kind, Result};
use crate::functions::{Call, Planner};
use crate::models::{Fitted, LIVE_FIELDS, Names};

/// The columns that live history comes in until a function has taken it.
const OWNER: &str = "__live_owner";
const ROWS: &str = "__live_rows";

/// The option `fresh` of a call.
pub fn fresh(call: &mut Call, planner: &mut dyn Planner) -> Result<Option<bool>> {
    match call.option(planner, "fresh", &DataType::Boolean)? {
        None => Ok(None),
        Some(Expr::Literal(ScalarValue::Boolean(Some(fresh)), _)) => Ok(Some(fresh)),
        Some(_) => Err(Error::invalid("fresh must be true or false")),
    }
}

/// `customers`, and an expression over the answer for the rows of each: a list of [`LIVE_FIELDS`], NULL for who has none.
///
/// Where nothing that the model was trained on has changed, there is nothing to add. `fresh` says what was asked for:
/// true wants the rows or an error, false wants none, and without it they come where they can be had. `only` is the one
/// customer, where there is but one that the query itself names: only their rows are read then.
pub fn with_live(
    planner: &mut dyn Planner,
    fitted: &Fitted,
    names: &Names,
    customers: LogicalPlan,
    only: Option<&Expr>,
    fresh: Option<bool>,
) -> Result<(LogicalPlan, Expr)> {
    let none = lit(ScalarValue::Null);
    if fresh == Some(false) || planner.registry().is_current(fitted)? {
        return Ok((customers, none));
    }
    let only = only.filter(|only| !only.contains_outer());
    match planner.training_query(fitted).and_then(|query| rows_of_each(query, names, only)) {
        Ok(live) => {
            let is_owner = column(&names.user).eq(column(OWNER));
            let mut columns: Vec<Expr> = customers.schema().columns().into_iter().map(Expr::Column).collect();
            columns.push(column(ROWS));
            let joined = LogicalPlanBuilder::from(customers).join_on(live, JoinType::Left, [is_owner])?;
            Ok((joined.project(columns)?.build()?, column(ROWS)))
        }
        Err(error) if fresh == Some(true) => Err(error),
        Err(_) => Ok((customers, none)),
    }
}

/// A row for each customer of the training query, with all their rows as a list.
fn rows_of_each(query: LogicalPlan, names: &Names, only: Option<&Expr>) -> Result<LogicalPlan> {
    let columns = query.schema().columns();
    let find = |name: &str| {
        let found = columns.iter().find(|column| column.name.eq_ignore_ascii_case(name)).cloned();
        let gone = || Error::new(Kind::UnknownColumn, format!("the training query no longer gives \"{name}\""));
        found.map(Expr::Column).ok_or_else(gone)
    };
    let kind = names.kind.as_ref().map(|(name, _)| name.as_str());
    let parts = [Some(names.item.as_str()), names.rating.as_deref(), names.time.as_deref(), kind];
    let mut fields = Vec::new();
    for (field, name) in LIVE_FIELDS.iter().zip(parts) {
        if let Some(name) = name {
            fields.extend([lit(*field), find(name)?]);
        }
    }
    let owner = find(&names.user)?;
    let mut rows = LogicalPlanBuilder::from(query);
    if let Some(only) = only {
        rows = rows.filter(owner.clone().eq(only.clone()))?;
    }
    let rows = rows.project([owner.alias(OWNER), named_struct(fields).alias(ROWS)])?;
    Ok(rows.aggregate([column(OWNER)], [array_agg(column(ROWS)).alias(ROWS)])?.build()?)
}

fn column(name: &str) -> Expr {
    Expr::Column(Column::new_unqualified(name))
}
