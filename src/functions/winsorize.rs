//! `winsorize`: the rows of a query, their extreme numbers pulled in.

use datafusion::arrow::datatypes::DataType;
use datafusion::functions::core::expr_fn::{get_field, greatest, least};
use datafusion::logical_expr::expr_fn::when;
use datafusion::logical_expr::{Expr, LogicalPlan, cast};

use crate::error::{Error, Result};
use crate::functions::distribution::Question;
use crate::functions::function::{Doc, Function, Relation};
use crate::functions::nodes::{bared, beside_totals, col, fitting_positions, missing};
use crate::functions::{Call, Planner};

pub struct Winsorize;

impl Function for Winsorize {
    fn name(&self) -> &'static str {
        "winsorize"
    }

    fn doc(&self) -> Doc {
        Doc {
            summary: "The rows of a query with their extreme numbers pulled in: the lowest ones become the lowest that is \
                      left, the highest ones the highest (Dixon 1960). No row is lost and every column keeps its type. \
                      The query is run twice, and no row is kept in memory.",
            syntax: &["winsorize((SELECT …) [, columns => ARRAY['a', 'b']] [, lower => 0.01] [, upper => 0.99])"],
            arguments: &[
                ("query", "the rows; a table may be given by its name"),
                ("columns", "the columns to change, an array or one name; all numbers by default"),
                ("lower", "the share of a column's values that is pulled up, from 0 to 1; 0.01 by default"),
                (
                    "upper",
                    "1 minus the share that is pulled down; 0.99 by default. Shares are of the values that there are and \
                     rounded down: of ten numbers one in a hundred is none. Past 262,144 different numbers the ends are \
                     found to within neighbouring ones",
                ),
            ],
            returns: &[("<columns of the query>", "NULL and NaN stay as they are")],
            example: "SELECT max(amount) < (SELECT max(amount) FROM orders) AS pulled_in FROM\n\
                      winsorize((SELECT order_id, amount FROM orders), columns => 'amount', upper => 0.95)",
        }
    }

    fn relation(&self) -> Option<Relation> {
        Some(relation)
    }
}

const ENDS: Question = Question {
    name: "winsor_ends",
    answers: &["low", "high"],
    answer: |_, sorted, shares| {
        let ends = match shares {
            [lower, upper] => sorted.winsorized(*lower, *upper),
            _ => None,
        };
        vec![ends.map(|ends| ends.0), ends.map(|ends| ends.1)]
    },
};

fn relation(mut call: Call, planner: &mut dyn Planner) -> Result<LogicalPlan> {
    let input = call.relation(planner, "query")?.ok_or_else(|| {
        Error::invalid("winsorize() wants a query").hint("winsorize((SELECT * FROM orders), columns => 'amount')")
    })?;
    let names = call.names(planner, "columns")?;
    let lower = call.number(planner, "lower", 0.0, 1.0)?.unwrap_or(0.01);
    let upper = call.number(planner, "upper", 0.0, 1.0)?.unwrap_or(0.99);
    call.finish(&["columns", "lower", "upper"])?;
    if lower >= upper {
        return Err(Error::invalid(format!("lower must be below upper, not {lower} and {upper}"))
            .hint("lower => 0.01, upper => 0.99 pulls in one value in a hundred at either end"));
    }
    let input = bared(input)?;
    let chosen = fitting_positions(&input, names.as_deref(), DataType::is_numeric, "a number")?;
    if chosen.is_empty() {
        return Ok(input);
    }
    let fields = input.schema().fields().clone();
    let end = |end: &str, at: usize| format!("__{end}_{at}");
    let of = |at: usize| format!("__ends_{at}");
    let aggregates = chosen.iter().map(|at| ENDS.of(col(fields[*at].name()), &[lower, upper]).alias(of(*at))).collect();
    let ends =
        chosen.iter().flat_map(|at| ["low", "high"].map(|name| get_field(col(of(*at)), name).alias(end(name, *at))));
    let ends = ends.collect();
    let mut columns: Vec<Expr> = fields.iter().map(|field| col(field.name())).collect();
    for at in chosen {
        let (name, data_type) = (fields[at].name(), fields[at].data_type());
        let (low, high) = (col(end("low", at)), col(end("high", at)));
        let end = |end: Expr| cast(end, data_type.clone());
        // Of these, an end that is NULL is none.
        let pulled = greatest(vec![end(low), least(vec![end(high), col(name)])]);
        let pulled = when(missing(name, data_type), col(name)).otherwise(pulled)?;
        columns[at] = pulled.alias(name);
    }
    beside_totals(input, aggregates, ends, columns)
}
