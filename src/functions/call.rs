//! A call as the user wrote it, taken apart argument by argument.

use std::collections::VecDeque;

use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::sql::sqlparser::ast::{self, FunctionArg, FunctionArgExpr};
use std::sync::Arc;

use crate::error::{Error, Kind, Result};
use crate::frame::sql_name;
use crate::functions::constant::typed;
use crate::functions::{Moment, function};
use crate::models::{Fitted, Registry};

/// What a function needs from whoever plans the query around it.
pub trait Planner {
    fn registry(&self) -> &Arc<Registry>;
    /// The model of that name, for whoever may ask it.
    fn model(&self, name: &str) -> Result<Fitted>;
    fn query(&mut self, query: ast::Query) -> Result<LogicalPlan>;
    /// A constant expression: literals, parameters, arrays and functions of them.
    fn constant(&mut self, expr: ast::Expr) -> Result<Expr>;
    /// The query that a model was trained on, over the tables as they are now. Fails where a table or a column of it is
    /// gone, and where the query asks the model itself.
    fn training_query(&mut self, fitted: &Fitted) -> Result<LogicalPlan>;
    /// A table as it was.
    fn table_at(&mut self, table: &str, moment: Moment) -> Result<LogicalPlan>;
    /// The versions of a table, a row each.
    fn table_history(&mut self, table: &str) -> Result<RecordBatch>;
    /// What has changed in a table after a version, up to another or the last.
    fn table_changes(&mut self, table: &str, from: u64, to: Option<u64>) -> Result<LogicalPlan>;
    /// As [`Planner::constant`]; but of a call that stands beside a row (LATERAL) it may name the row's columns.
    fn constant_or_beside(&mut self, expr: ast::Expr) -> Result<Expr>;
}

/// The arguments not yet taken.
pub struct Call {
    pub function: &'static str,
    positional: VecDeque<ast::Expr>,
    named: Vec<(String, ast::Expr)>,
}

impl Call {
    pub fn new(function: &'static str, args: Vec<FunctionArg>) -> Result<Self> {
        let (mut positional, mut named) = (VecDeque::new(), Vec::new());
        for arg in args {
            let (name, value) = match arg {
                FunctionArg::Unnamed(value) => (None, value),
                FunctionArg::Named { name, arg, .. } => (Some(name.value.to_lowercase()), arg),
                FunctionArg::ExprNamed { name, arg, .. } => (Some(name.to_string().to_lowercase()), arg),
            };
            let FunctionArgExpr::Expr(value) = value else {
                return Err(Error::new(Kind::Syntax, format!("{function}() cannot take *"))
                    .hint("give a query in its own parentheses: (SELECT * FROM …)"));
            };
            match name {
                Some(name) => named.push((name, value)),
                None if named.is_empty() => positional.push_back(value),
                None => {
                    return Err(Error::new(
                        Kind::Syntax,
                        format!("{function}(): a positional argument follows a named one"),
                    )
                    .hint("put the arguments without => first"));
                }
            }
        }
        Ok(Self { function, positional, named })
    }

    /// The argument of that name, if it was given by name.
    pub fn named(&mut self, name: &str) -> Option<ast::Expr> {
        let at = self.named.iter().position(|(given, _)| given == name)?;
        Some(self.named.remove(at).1)
    }

    /// Whether an argument of that name is still there.
    pub fn has(&self, name: &str) -> bool {
        self.named.iter().any(|(given, _)| given == name)
    }

    /// The next positional argument, or else the one of that name.
    pub fn next(&mut self, name: &str) -> Option<ast::Expr> {
        self.positional.pop_front().or_else(|| self.named(name))
    }

    /// The model, named by a literal: its columns decide what the query returns.
    pub fn model(&mut self, planner: &dyn Planner) -> Result<Fitted> {
        let function = self.function;
        match self.next("model") {
            Some(ast::Expr::Value(value)) => match value.value.into_string() {
                Some(name) => planner.model(&name),
                None => {
                    Err(Error::new(Kind::WrongType, format!("{function}() wants the model's name as a text first")))
                }
            },
            Some(other) => {
                Err(Error::new(Kind::WrongType, format!("{function}() wants the model's name as a text, not {other}"))
                    .hint("the columns of the result depend on the model, so its name must stand in the query"))
            }
            None => Err(Error::invalid(format!("{function}() wants a model's name first"))
                .hint(format!("{function}('model', …)"))),
        }
    }

    /// The sub-query given next, if there is one and it is one.
    pub fn relation(&mut self, planner: &mut dyn Planner, name: &str) -> Result<Option<LogicalPlan>> {
        match self.next(name) {
            None => Ok(None),
            Some(expr) => as_relation(expr, planner).and_then(|found| {
                found.map(Some).map_err(|expr| {
                    let doc = function(self.function).map(|function| function.doc());
                    let first = doc.as_ref().and_then(|doc| doc.arguments.first()).map(|(first, _)| *first);
                    let model = if first == Some("model") { "'model', " } else { "" };
                    Error::new(Kind::WrongType, format!("{}() wants a query here, not {expr}", self.function))
                        .hint(format!("write it in its own parentheses: {}({model}(SELECT …))", self.function))
                })
            }),
        }
    }

    /// An option by name, as an expression of that type; a parameter ($1) gets the type too.
    pub fn option(&mut self, planner: &mut dyn Planner, name: &str, data_type: &DataType) -> Result<Option<Expr>> {
        let Some(expr) = self.named(name) else { return Ok(None) };
        typed(planner.constant(expr)?, data_type).map(Some).map_err(|misfit| {
            let (wanted, shown) = (sql_name(data_type), misfit.shown);
            match misfit.is_text {
                true => Error::new(Kind::InvalidText, format!("invalid input syntax for type {wanted}: \"{shown}\"")),
                false => Error::new(Kind::WrongType, format!("{name} must be of type {wanted}, not {shown}")),
            }
            .hint(format!("{name} is an argument of {}()", self.function))
        })
    }

    /// Names of columns by name: `ARRAY['a', 'b']`, or one as a text. They decide what the query returns or reads, so they
    /// must stand in it.
    pub fn names(&mut self, planner: &mut dyn Planner, name: &str) -> Result<Option<Vec<String>>> {
        let Some(expr) = self.named(name) else { return Ok(None) };
        let shown = expr.to_string();
        let refused = || {
            Error::new(Kind::WrongType, format!("{name} must be an array of names of columns, not {shown}"))
                .hint(format!("{name} => ARRAY['a', 'b']"))
        };
        let text = |expr: &Expr| match expr {
            Expr::Literal(value, _) => value.try_as_str().flatten().map(str::to_owned).ok_or_else(refused),
            _ => Err(refused()),
        };
        match planner.constant(expr)? {
            Expr::ScalarFunction(array) if array.name() == "make_array" => {
                array.args.iter().map(text).collect::<Result<_>>().map(Some)
            }
            one => Ok(Some(vec![text(&one)?])),
        }
    }

    /// An option by name that is one of these words.
    pub fn word(
        &mut self,
        planner: &mut dyn Planner,
        name: &str,
        known: &[&'static str],
    ) -> Result<Option<&'static str>> {
        let refused = |shown: &str| {
            let all: Vec<String> = known.iter().map(|word| format!("'{word}'")).collect();
            Error::invalid(format!("{name} must be one of {}, not {shown}", all.join(", ")))
                .suggest(shown.trim_matches('\''), known.iter().copied())
        };
        match self.option(planner, name, &DataType::Utf8)? {
            None => Ok(None),
            Some(Expr::Literal(word, _)) => {
                let word = word.try_as_str().flatten().unwrap_or("NULL").to_lowercase();
                let found = known.iter().find(|known| **known == word).copied();
                found.map(Some).ok_or_else(|| refused(&format!("'{word}'")))
            }
            Some(_) => Err(Error::invalid(format!("{name} must be a text that stands in the query"))),
        }
    }

    /// An option by name that is a number which stands in the query, from `least` to `most`; `f64::MAX` is no bound.
    pub fn number(&mut self, planner: &mut dyn Planner, name: &str, least: f64, most: f64) -> Result<Option<f64>> {
        match self.option(planner, name, &DataType::Float64)? {
            None => Ok(None),
            Some(Expr::Literal(ScalarValue::Float64(Some(value)), _)) if (least..=most).contains(&value) => {
                Ok(Some(value))
            }
            Some(Expr::Literal(value, _)) => {
                let range =
                    if most < f64::MAX { format!("from {least} to {most}") } else { format!("{least} or more") };
                Err(Error::invalid(format!("{name} must be {range}, not {value}")))
            }
            Some(_) => Err(Error::invalid(format!("{name} must be a number that stands in the query"))),
        }
    }

    /// Refuses what nobody took.
    pub fn finish(self, known: &[&str]) -> Result<()> {
        if let Some((name, _)) = self.named.first() {
            return Err(Error::invalid(format!("{}() has no argument \"{name}\"", self.function))
                .suggest(name, known.iter().copied()));
        }
        match self.positional.front() {
            Some(extra) => {
                let error = Error::invalid(format!("{}(): one argument too many: {extra}", self.function));
                Err(match function(self.function) {
                    Some(function) if known.is_empty() => error.hint(function.doc().syntax.join(" or ")),
                    _ => error.hint(format!("options are given by name: {}", known.join(", "))),
                })
            }
            None => Ok(()),
        }
    }
}

/// The plan of a sub-query; anything else comes back as it was.
pub fn as_relation(expr: ast::Expr, planner: &mut dyn Planner) -> Result<Result<LogicalPlan, ast::Expr>> {
    match expr {
        ast::Expr::Subquery(query) => planner.query(*query).map(Ok),
        ast::Expr::Nested(inner) => as_relation(*inner, planner),
        other => Ok(Err(other)),
    }
}
