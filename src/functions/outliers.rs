//! `outliers`: the rows of a query, and how far each is from where the others are.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::functions::core::expr_fn::{coalesce, get_field, greatest};
use datafusion::logical_expr::expr_fn::when;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast, lit};

use crate::error::{Error, Result};
use crate::functions::distribution::Question;
use crate::functions::function::{Doc, Function, Relation};
use crate::functions::nodes::{bare_columns, bared, beside_totals, col, fitting_positions, missing, refuse_taken};
use crate::functions::{Call, Planner};

pub struct Outliers;

impl Function for Outliers {
    fn name(&self) -> &'static str {
        "outliers"
    }

    fn doc(&self) -> Doc {
        Doc {
            summary: "The rows of a query, each with how far it lies out by its farthest column, and whether that is \
                      too far. The query is run twice, and no row is kept in memory.",
            syntax: &[
                "outliers((SELECT …) [, columns => ARRAY['a', 'b']] [, method => 'iqr'] [, threshold => 1.5])",
                "outliers((SELECT …) [, columns => ARRAY['a', 'b']], method => 'mad' [, threshold => 3.5])",
            ],
            arguments: &[
                ("query", "the rows; a table may be given by its name"),
                ("columns", "the columns to look at, an array or one name; all numbers by default"),
                (
                    "method",
                    "'iqr' (default): how far beyond the quartiles, in distances between them (Tukey 1977). 'mad': the \
                     modified z-score 0.6745 · |x − median| / MAD, where MAD is the median of the distances from the \
                     median; where that is 0, |x − median| / (1.253314 · their mean) (Iglewicz and Hoaglin 1993)",
                ),
                ("threshold", "the score over which a row is an outlier; 1.5 of iqr and 3.5 of mad by default"),
            ],
            returns: &[
                ("<columns of the query>", "as they are"),
                ("is_outlier", "whether the score is over the threshold"),
                (
                    "outlier_score",
                    "the largest of its columns' scores; infinite where all quartiles are one number and this is another. \
                     NULL where no column has a value; NULL and NaN are none",
                ),
                ("reason", "the column of that score, of an outlier; NULL of others"),
            ],
            example: "SELECT is_outlier, count(*) AS orders, max(amount) AS largest FROM\n\
                      outliers((SELECT amount FROM orders), method => 'mad') GROUP BY is_outlier",
        }
    }

    fn relation(&self) -> Option<Relation> {
        Some(relation)
    }
}

/// Where a column's scores begin, below and above, and what they are counted in.
const QUARTILES: Question = Question {
    name: "quartiles",
    answers: &["low", "high", "unit"],
    answer: |_, sorted, _| {
        let (low, high) = (sorted.quantile(0.25), sorted.quantile(0.75));
        vec![low, high, low.zip(high).map(|(low, high)| high - low)]
    },
};

/// As [`QUARTILES`]: both ends are the median. 0.6745 is the MAD, and 1/1.253314 the mean distance, of a standard normal
/// variable.
const MEDIAN_DISTANCE: Question = Question {
    name: "median_distance",
    answers: QUARTILES.answers,
    answer: |_, sorted, _| {
        let median = sorted.quantile(0.5);
        let mad = median.and_then(|median| sorted.median_distance(median));
        let unit = match mad {
            Some(0.0) => median.and_then(|median| sorted.mean_distance(median)).map(|mean| 1.253314 * mean),
            mad => mad.map(|mad| mad / 0.6745),
        };
        vec![median, median, unit]
    },
};

const ADDED: [&str; 3] = ["is_outlier", "outlier_score", "reason"];
const SCORE: &str = "__score";

fn relation(mut call: Call, planner: &mut dyn Planner) -> Result<LogicalPlan> {
    let input = call.relation(planner, "query")?.ok_or_else(|| {
        Error::invalid("outliers() wants a query").hint("outliers((SELECT * FROM orders), columns => 'amount')")
    })?;
    let names = call.names(planner, "columns")?;
    let by_mad = call.word(planner, "method", &["iqr", "mad"])? == Some("mad");
    let threshold = call.number(planner, "threshold", 0.0, f64::MAX)?;
    call.finish(&["columns", "method", "threshold"])?;
    let (question, threshold) = match by_mad {
        true => (MEDIAN_DISTANCE, threshold.unwrap_or(3.5)),
        false => (QUARTILES, threshold.unwrap_or(1.5)),
    };
    refuse_taken(&input, ADDED, Outliers.name())?;
    let input = bared(input)?;
    let chosen = fitting_positions(&input, names.as_deref(), DataType::is_numeric, "a number")?;
    if chosen.is_empty() {
        return Err(Error::invalid("the query gives no column of numbers to look at"));
    }
    let fields = input.schema().fields().clone();
    let columns = bare_columns(&input);
    let called = |what: &str, at: usize| format!("__{what}_{at}");
    let aggregates = chosen.iter().map(|at| question.of(col(fields[*at].name()), &[]).alias(called("spread", *at)));
    let spread = |at: &usize, name: &str| get_field(col(called("spread", *at)), name).alias(called(name, *at));
    let values = chosen.iter().flat_map(|at| question.answers.iter().map(move |name| spread(at, name)));
    let mut scored = columns.clone();
    for at in &chosen {
        let [low, high, unit] = ["low", "high", "unit"].map(|name| col(called(name, *at)));
        scored.push(score(fields[*at].name(), fields[*at].data_type(), low, high, unit)?.alias(called("score", *at)));
    }
    let scored = beside_totals(input, aggregates.collect(), values.collect(), scored)?;
    let scores: Vec<Expr> = chosen.iter().map(|at| col(called("score", *at))).collect();
    let largest = if scores.len() == 1 { scores[0].clone() } else { greatest(scores) };
    let mut with_largest = columns.clone();
    with_largest.extend(chosen.iter().map(|at| col(called("score", *at))));
    with_largest.push(largest.alias(SCORE));

    let is_outlier = || coalesce(vec![col(SCORE).gt(lit(threshold)), lit(false)]);
    let none = lit(ScalarValue::Utf8(None));
    // Of columns that are as far out the first in the query is the reason.
    let mut reasons = when(is_outlier().is_false(), none.clone());
    for at in &chosen {
        reasons = reasons.when(col(called("score", *at)).eq(col(SCORE)), lit(fields[*at].name().as_str()));
    }
    let mut answer = columns;
    answer.extend([is_outlier().alias(ADDED[0]), col(SCORE).alias(ADDED[1]), reasons.otherwise(none)?.alias(ADDED[2])]);
    Ok(LogicalPlanBuilder::from(scored).project(with_largest)?.project(answer)?.build()?)
}

/// How far a value is below `low` or above `high`, in units; NULL of no value.
fn score(name: &str, data_type: &DataType, low: Expr, high: Expr, unit: Expr) -> Result<Expr> {
    let value = || cast(col(name), DataType::Float64);
    let beyond =
        |gap: Expr| Ok::<_, Error>(when(unit.clone().eq(lit(0.0)), lit(f64::INFINITY)).otherwise(gap / unit.clone())?);
    Ok(when(missing(name, data_type), lit(ScalarValue::Float64(None)))
        .when(value().lt(low.clone()), beyond(low.clone() - value())?)
        .when(value().gt(high.clone()), beyond(value() - high)?)
        .otherwise(lit(0.0))?)
}
