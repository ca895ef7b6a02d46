//! Constants of a call in the type that is wanted, and keys of customers and products among them.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, ListArray};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::{DFSchema, ExprSchema, ScalarValue};
use datafusion::logical_expr::expr::Placeholder;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, cast, lit};
use datafusion::sql::sqlparser::ast;

use crate::error::{Error, Kind, Result};
use crate::frame::{comparable, converted, sql_name};
use crate::functions::Planner;
use crate::functions::call::as_relation;
use crate::models::Fitted;

/// Why a constant is not of the type wanted: how it was written, or else its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    pub shown: String,
    pub is_text: bool,
}

/// The constant in that type; a parameter ($1) gets the type too.
///
/// As in Postgres a text is read as a value of the type, and numbers are numbers whatever their width. But nothing is
/// rounded, and no date is taken for a number.
pub fn typed(expr: Expr, wanted: &DataType) -> std::result::Result<Expr, Misfit> {
    match expr {
        Expr::Placeholder(Placeholder { id, field: None }) => {
            let field = Some(Arc::new(Field::new("", wanted.clone(), true)));
            Ok(Expr::Placeholder(Placeholder { id, field }))
        }
        Expr::Literal(value, _) => match literal(&value, wanted) {
            Some(value) => Ok(lit(value)),
            None => Err(misfit(&value)),
        },
        other => match other.get_type(&DFSchema::empty()) {
            Ok(given) if !comparable(wanted, &given) || rounds(wanted, &given) => {
                Err(Misfit { shown: sql_name(&given), is_text: false })
            }
            // What holds a parameter has no type yet.
            _ => Ok(cast(other, wanted.clone())),
        },
    }
}

/// Whether a cast would take fractions away.
fn rounds(wanted: &DataType, given: &DataType) -> bool {
    wanted.is_integer() && !given.is_integer() && given != &DataType::Null
}

/// How a value was written.
pub fn misfit(value: &ScalarValue) -> Misfit {
    match value.try_as_str() {
        Some(text) => Misfit { shown: text.unwrap_or_default().to_owned(), is_text: true },
        None => Misfit { shown: value.to_string(), is_text: false },
    }
}

/// A value in that type, if it is the same value there.
pub fn literal(value: &ScalarValue, wanted: &DataType) -> Option<ScalarValue> {
    let given = value.data_type();
    if value.is_null() {
        return ScalarValue::try_from(wanted).ok();
    }
    let is_text = value.try_as_str().is_some();
    if is_text || (given.is_integer() && comparable(wanted, &DataType::Utf8)) {
        return value.cast_to(wanted).ok();
    }
    if !comparable(wanted, &given) {
        return None;
    }
    let there = converted(&value.to_array().ok()?, wanted).ok()?;
    there.is_valid(0).then(|| ScalarValue::try_from_array(&there, 0).ok()).flatten()
}

/// The keys by which a model knows its customers or its products.
pub struct KeyType<'a> {
    pub fitted: &'a Fitted,
    /// `customers` or `products`.
    pub what: &'static str,
    /// The column in training.
    pub column: &'a str,
    pub data_type: &'a DataType,
}

impl KeyType<'_> {
    /// The keys that are asked for, each once, in a column of that name: those of a query, or one.
    pub fn asked(&self, expr: ast::Expr, planner: &mut dyn Planner, name: &str) -> Result<LogicalPlan> {
        match as_relation(expr, planner)? {
            Ok(plan) => self.distinct(plan, name),
            Err(one) => {
                let key = self.one(planner.constant_or_beside(one)?)?.alias(name);
                Ok(LogicalPlanBuilder::empty(true).project(vec![key])?.build()?)
            }
        }
    }

    /// The keys of a query, each once: the column named as in training, or else the first.
    pub fn distinct(&self, plan: LogicalPlan, name: &str) -> Result<LogicalPlan> {
        let columns = plan.schema().columns();
        let named = columns.iter().find(|column| column.name.eq_ignore_ascii_case(self.column)).or(columns.first());
        let Some(column) = named.cloned() else {
            return Err(Error::invalid(format!("the query gives no column of {}", self.what)));
        };
        self.check(plan.schema().data_type(&column)?)?;
        Ok(LogicalPlanBuilder::from(plan).project(vec![Expr::Column(column).alias(name)])?.distinct()?.build()?)
    }

    /// One key that stands in the query.
    pub fn one(&self, expr: Expr) -> Result<Expr> {
        match expr {
            Expr::Literal(value, _) if value.is_null() => {
                Err(Error::invalid(format!("one of the {} is wanted, not NULL", self.what))
                    .hint("NULL is nobody; in a query of many it is answered as unknown"))
            }
            // As in a column of a query: nothing is read as another type, and the lookup finds what is the same.
            beside if beside.contains_outer() => {
                self.check(&beside.get_type(&DFSchema::empty())?)?;
                Ok(beside)
            }
            other => typed(other, self.data_type).map_err(|misfit| self.refused(&misfit)),
        }
    }

    /// Refuses a column of a query that cannot hold such keys.
    pub fn check(&self, given: &DataType) -> Result<()> {
        match comparable(self.data_type, given) {
            true => Ok(()),
            false => Err(self.refused(&Misfit { shown: sql_name(given), is_text: false })),
        }
    }

    /// As [`Self::check`], for the first column of a plan.
    pub fn check_first(&self, plan: &LogicalPlan) -> Result<()> {
        plan.schema().fields().first().map_or(Ok(()), |field| self.check(field.data_type()))
    }

    /// An array of keys, as a list of their type or one comparable to it.
    pub fn list(&self, expr: Expr) -> Result<Expr> {
        let element = Arc::new(Field::new_list_field(self.data_type.clone(), true));
        let list = DataType::List(Arc::clone(&element));
        match expr {
            // '{A,B}' is how Postgres clients send an array as text.
            Expr::Literal(ScalarValue::Utf8(Some(text)), _) => {
                let values = self.read_array(&text)?;
                let offsets = OffsetBuffer::from_lengths([values.len()]);
                Ok(lit(ScalarValue::List(Arc::new(ListArray::try_new(element, offsets, values, None)?))))
            }
            Expr::Literal(value, _) if !matches!(value, ScalarValue::List(_)) => {
                Err(Error::new(Kind::WrongType, format!("an array of {} is wanted, not {value}", self.what))
                    .hint("write ARRAY['A', 'B']"))
            }
            // A parameter whose type the client declared is judged like any array.
            Expr::Placeholder(Placeholder { field: None, .. }) => {
                typed(expr, &list).map_err(|misfit| self.refused(&misfit))
            }
            other => match other.get_type(&DFSchema::empty()) {
                Ok(DataType::List(given) | DataType::LargeList(given) | DataType::FixedSizeList(given, _)) => {
                    self.of_elements(other, given.data_type(), list)
                }
                Ok(given) if given != DataType::Null => {
                    let message = format!("an array of {} is wanted, not {}", self.what, sql_name(&given));
                    Err(Error::new(Kind::WrongType, message).hint("write ARRAY['A', 'B']"))
                }
                _ => Ok(cast(other, list)),
            },
        }
    }

    fn of_elements(&self, list: Expr, given: &DataType, wanted: DataType) -> Result<Expr> {
        let is_empty = matches!(&list, Expr::ScalarFunction(array) if array.args.is_empty());
        let reads_as_text = given.is_integer() && comparable(self.data_type, &DataType::Utf8);
        if is_empty || reads_as_text || self.data_type == given {
            return Ok(cast(list, wanted));
        }
        self.check(given)?;
        // Not in the key's own type, which would round: the lookup finds what is the same and nothing else.
        Ok(cast(list, DataType::List(Arc::new(Field::new_list_field(given.clone(), true)))))
    }

    fn read_array(&self, text: &str) -> Result<ArrayRef> {
        let inner = text.trim().trim_start_matches('{').trim_end_matches('}');
        let names = inner.split(',').map(|one| one.trim().trim_matches('"')).filter(|_| !inner.trim().is_empty());
        let key = |name: &str| {
            literal(&ScalarValue::from(name), self.data_type)
                .ok_or_else(|| self.refused(&Misfit { shown: name.to_owned(), is_text: true }))
        };
        let keys = names.map(key).collect::<Result<Vec<ScalarValue>>>()?;
        match keys.is_empty() {
            true => Ok(datafusion::arrow::array::new_empty_array(self.data_type)),
            false => Ok(ScalarValue::iter_to_array(keys)?),
        }
    }

    pub fn refused(&self, misfit: &Misfit) -> Error {
        let data_type = sql_name(self.data_type);
        let shown = if misfit.is_text { format!("'{}'", misfit.shown) } else { misfit.shown.clone() };
        let message =
            format!("model \"{}\" knows its {} by keys of type {data_type}, not {shown}", self.fitted.asked, self.what);
        Error::new(Kind::WrongType, message)
            .hint(format!("give {} as in training, or cast the key: …::{data_type}", self.column))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_the_same_value_converts() {
        let whole = |value: ScalarValue| literal(&value, &DataType::Int64);
        assert_eq!(whole(ScalarValue::Int32(Some(7))), Some(ScalarValue::Int64(Some(7))));
        assert_eq!(whole(ScalarValue::Float64(Some(7.0))), Some(ScalarValue::Int64(Some(7))));
        assert_eq!(whole(ScalarValue::Float64(Some(7.5))), None);
        assert_eq!(whole(ScalarValue::from("7")), Some(ScalarValue::Int64(Some(7))));
        assert_eq!(whole(ScalarValue::from("alice")), None);
        assert_eq!(whole(ScalarValue::Boolean(Some(true))), None);
        assert_eq!(whole(ScalarValue::Date32(Some(7))), None);
        assert_eq!(whole(ScalarValue::Null), Some(ScalarValue::Int64(None)));
        assert_eq!(literal(&ScalarValue::Int64(Some(42)), &DataType::Utf8), Some(ScalarValue::from("42")));
        assert_eq!(literal(&ScalarValue::Float64(Some(4.2)), &DataType::Utf8), None);
    }
}
