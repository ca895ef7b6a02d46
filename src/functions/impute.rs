//! `impute`: the rows of a query with their holes filled.

use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::ScalarValue;
use datafusion::functions::core::expr_fn::get_field;
use datafusion::functions::math::expr_fn::round;
use datafusion::logical_expr::expr_fn::when;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast, lit};
use datafusion::sql::sqlparser::ast;

use crate::error::{Error, Kind, Result};
use crate::frame::sql_name;
use crate::functions::constant::typed;
use crate::functions::distribution::Question;
use crate::functions::function::{Doc, Function, Relation};
use crate::functions::imputed_rows::imputed_rows;
use crate::functions::nodes::{
    bare_columns, bared, beside_totals, col, fitting_positions, missing, positions, refuse_taken, unnested,
};
use crate::functions::tally::tally;
use crate::functions::{Call, Planner};

pub struct Impute;

impl Function for Impute {
    fn name(&self) -> &'static str {
        "impute"
    }

    fn doc(&self) -> Doc {
        Doc {
            summary: "The rows of a query with their missing values, NULL and NaN, filled in. Every column keeps its type: \
                      whole numbers are filled with whole numbers. mean, median, mode and constant run the query twice \
                      and keep no row in memory; regression and multiple keep all of them.",
            syntax: &[
                "impute((SELECT …) [, columns => ARRAY['a', 'b']] [, strategy => 'mean'])",
                "impute((SELECT …), columns => ARRAY['a', 'b'], strategy => 'constant', value => 0)",
                "impute((SELECT …) [, columns => ARRAY['a', 'b']], strategy => 'multiple' [, imputations => 5] [, seed => 0])",
            ],
            arguments: &[
                ("query", "the rows; a table may be given by its name"),
                (
                    "columns",
                    "the columns to fill, an array or one name; by default all numbers, of mode all columns. constant \
                     wants them named",
                ),
                (
                    "strategy",
                    "mean (default), median: of the column's numbers. mode: its most frequent value, of whatever type, the \
                     least of equally frequent ones (a column of more than 262,144 different values has none, and stays). \
                     constant: `value`. regression: what a linear regression on all other numbers and truths of the query \
                     expects, their own holes filled likewise, in rounds until nothing moves. multiple: multiple \
                     imputation by chained equations with predictive mean matching (van Buuren and Groothuis-Oudshoorn \
                     2011): the value of a row that is alike, drawn at random",
                ),
                ("value", "of constant: what to fill in"),
                ("imputations", "of multiple: how many answers, 1 to 100; 5 by default. Analyse each, then compare"),
                ("seed", "of multiple: of one seed the draws are always the same; 0 by default"),
            ],
            returns: &[
                (
                    "<columns of the query>",
                    "with the holes of the chosen ones filled; one without any value keeps them",
                ),
                ("imputation", "of multiple: the number of the answer, from 1; each holds all rows"),
            ],
            example: "SELECT count(*) AS orders, count(amount) AS with_amount FROM\n\
                      impute((SELECT order_id, nullif(amount, 19.99) AS amount FROM orders), columns => 'amount', strategy => 'median')",
        }
    }

    fn relation(&self) -> Option<Relation> {
        Some(relation)
    }
}

const STRATEGIES: [&str; 6] = ["mean", "median", "mode", "constant", "regression", "multiple"];
const MAX_IMPUTATIONS: i64 = 100;

const CENTER: Question = Question {
    name: "center",
    answers: &["mean", "median"],
    answer: |numbers, sorted, _| vec![numbers.mean(), sorted.quantile(0.5)],
};

fn relation(mut call: Call, planner: &mut dyn Planner) -> Result<LogicalPlan> {
    let input = call.relation(planner, "query")?.ok_or_else(|| {
        Error::invalid("impute() wants a query").hint("impute((SELECT * FROM orders), columns => 'amount')")
    })?;
    let names = call.names(planner, "columns")?;
    let strategy = call.word(planner, "strategy", &STRATEGIES)?.unwrap_or("mean");
    let value = call.named("value");
    let imputations = whole(&mut call, planner, "imputations", 1, MAX_IMPUTATIONS)?;
    let seed = whole(&mut call, planner, "seed", 0, i64::MAX)?;
    call.finish(&["columns", "strategy", "value", "imputations", "seed"])?;
    let of_multiple = [("imputations", imputations), ("seed", seed)];
    match of_multiple.iter().find(|(_, given)| given.is_some()) {
        Some((name, _)) if strategy != "multiple" => {
            return Err(Error::invalid(format!("{name} is of no use to strategy '{strategy}'"))
                .hint("strategy => 'multiple' draws several answers"));
        }
        _ if value.is_some() && strategy != "constant" => {
            return Err(Error::invalid(format!("a value is of no use to strategy '{strategy}'"))
                .hint("strategy => 'constant' fills in a value"));
        }
        _ => {}
    }
    let input = bared(input)?;
    let holes = Holes { input, names, strategy };
    match strategy {
        "constant" => holes.constant(value, planner),
        "mode" => holes.mode(),
        "mean" | "median" => holes.center(),
        _ => holes.regressed(planner, imputations.unwrap_or(5), seed.unwrap_or(0)),
    }
}

/// A whole number that stands in the query.
fn whole(call: &mut Call, planner: &mut dyn Planner, name: &str, least: i64, most: i64) -> Result<Option<i64>> {
    match call.option(planner, name, &DataType::Int64)? {
        None => Ok(None),
        Some(Expr::Literal(ScalarValue::Int64(Some(value)), _)) if (least..=most).contains(&value) => Ok(Some(value)),
        Some(Expr::Literal(value, _)) => Err(Error::invalid(match most {
            i64::MAX => format!("{name} must be {least} or more, not {value}"),
            most => format!("{name} must be from {least} to {most}, not {value}"),
        })),
        Some(_) => Err(Error::invalid(format!("{name} must be a number that stands in the query"))),
    }
}

/// A query, which of its columns are to be filled, and how.
struct Holes {
    input: LogicalPlan,
    names: Option<Vec<String>>,
    strategy: &'static str,
}

impl Holes {
    fn constant(self, value: Option<ast::Expr>, planner: &mut dyn Planner) -> Result<LogicalPlan> {
        let (Some(value), Some(names)) = (value, &self.names) else {
            return Err(Error::invalid("strategy 'constant' wants a value, and the columns to fill with it")
                .hint("columns => ARRAY['a', 'b'], strategy => 'constant', value => 0"));
        };
        let value = planner.constant(value)?;
        let mut columns = bare_columns(&self.input);
        for at in positions(&self.input, names)? {
            let (name, data_type) = self.field(at);
            let value = typed(value.clone(), data_type).map_err(|misfit| {
                let wanted = sql_name(data_type);
                let shown = if misfit.is_text { format!("'{}'", misfit.shown) } else { misfit.shown };
                Error::new(Kind::WrongType, format!("column \"{name}\" is of type {wanted} and cannot hold {shown}"))
                    .hint("fill columns of different types in turn, one impute() around the other")
            })?;
            columns[at] = self.filled(at, value)?;
        }
        Ok(LogicalPlanBuilder::from(self.input).project(columns)?.build()?)
    }

    fn mode(self) -> Result<LogicalPlan> {
        let chosen = match &self.names {
            Some(names) => positions(&self.input, names)?,
            None => (0..self.input.schema().fields().len()).collect(),
        };
        self.beside(&chosen, tally, |found, _| Ok(get_field(found, "top")))
    }

    fn center(self) -> Result<LogicalPlan> {
        let chosen = self.numbers()?;
        let strategy = self.strategy;
        self.beside(
            &chosen,
            |column| CENTER.of(column, &[]),
            |found, data_type| {
                let center = get_field(found, strategy);
                Ok(cast(if data_type.is_integer() { round(vec![center]) } else { center }, data_type.clone()))
            },
        )
    }

    /// Fills the chosen columns with what is made of an aggregate over each.
    fn beside(
        self,
        chosen: &[usize],
        aggregate: impl Fn(Expr) -> Expr,
        fill: impl Fn(Expr, &DataType) -> Result<Expr>,
    ) -> Result<LogicalPlan> {
        if chosen.is_empty() {
            return Ok(self.input);
        }
        let (mut aggregates, mut fills) = (Vec::new(), Vec::new());
        let mut columns = bare_columns(&self.input);
        for at in chosen {
            let (name, data_type) = self.field(*at);
            let (found, filling) = (format!("__found_{at}"), format!("__fill_{at}"));
            // What is missing is no value to count: NaN may be the most frequent one.
            let known = when(missing(name, data_type), lit(ScalarValue::try_from(data_type)?)).otherwise(col(name))?;
            aggregates.push(aggregate(known).alias(&found));
            fills.push(fill(col(found), data_type)?.alias(&filling));
            columns[*at] = self.filled(*at, col(filling))?;
        }
        beside_totals(self.input, aggregates, fills, columns)
    }

    fn regressed(self, planner: &mut dyn Planner, imputations: i64, seed: i64) -> Result<LogicalPlan> {
        let chosen = self.numbers()?;
        let is_multiple = self.strategy == "multiple";
        let mut fields: Vec<Field> =
            self.input.schema().fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
        if is_multiple {
            refuse_taken(&self.input, ["imputation"], Impute.name())?;
            fields.push(Field::new("imputation", DataType::Int64, true));
        } else if chosen.is_empty() {
            return Ok(self.input);
        }
        let targets: Vec<ScalarValue> = chosen.iter().map(|at| ScalarValue::from(self.field(*at).0)).collect();
        let mut args = vec![
            lit(ScalarValue::List(ScalarValue::new_list_nullable(&targets, &DataType::Utf8))),
            lit(ScalarValue::Int64(is_multiple.then_some(imputations))),
            lit(seed),
        ];
        for field in self.input.schema().fields() {
            args.extend([lit(field.name().as_str()), col(field.name())]);
        }
        let parts: Vec<(String, String)> =
            fields.iter().map(|field| (field.name().clone(), field.name().clone())).collect();
        let parts: Vec<(&str, &str)> = parts.iter().map(|(field, name)| (field.as_str(), name.as_str())).collect();
        let rows = imputed_rows(planner.registry(), fields.into()).call(args).alias("__rows");
        let gathered = LogicalPlanBuilder::from(self.input).aggregate(Vec::<Expr>::new(), vec![rows])?.build()?;
        unnested(gathered, &[], col("__rows"), &parts)
    }

    /// The chosen columns, which must be numbers.
    fn numbers(&self) -> Result<Vec<usize>> {
        let names = self.names.as_deref();
        fitting_positions(&self.input, names, DataType::is_numeric, "a number").map_err(|error| match error.kind {
            Kind::WrongType => {
                let strategy = self.strategy;
                Error::new(Kind::WrongType, format!("{error}: strategy '{strategy}' fills numbers only"))
                    .hint("strategy => 'mode' or 'constant' fills columns of any type")
            }
            _ => error,
        })
    }

    /// The column with its holes filled.
    fn filled(&self, at: usize, value: Expr) -> Result<Expr> {
        let (name, data_type) = self.field(at);
        Ok(when(missing(name, data_type), value).otherwise(col(name))?.alias(name))
    }

    fn field(&self, at: usize) -> (&str, &DataType) {
        let field = self.input.schema().field(at);
        (field.name(), field.data_type())
    }
}
