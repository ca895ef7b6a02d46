//! `describe_data`: one row a column: what it holds, how it lies, and what is missing.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::functions::core::expr_fn::{get_field, named_struct};
use datafusion::functions_aggregate::expr_fn::{count, max, min};
use datafusion::functions_nested::expr_fn::make_array;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast, lit};

use crate::error::{Error, Result};
use crate::frame::sql_name;
use crate::functions::distribution::Question;
use crate::functions::function::{Doc, Function, Relation};
use crate::functions::nodes::{bared, col, unnested};
use crate::functions::tally::tally;
use crate::functions::{Call, Planner};

pub struct DescribeData;

impl Function for DescribeData {
    fn name(&self) -> &'static str {
        "describe_data"
    }

    fn doc(&self) -> Doc {
        Doc {
            summary: "One row for each column of a query, in one pass over its rows: how many values there are and how \
                      many are missing, how many differ and which occurs most, and for numbers how they lie. Counts, \
                      min, max, mean and std are always exact. Up to 262,144 different values a column the rest is, \
                      too. Beyond that exact is false: n_distinct is estimated to within about 0.3 %, quantiles to \
                      within neighbouring numbers that are counted as one, and the top value is not told.",
            syntax: &["describe_data((SELECT …))"],
            arguments: &[("query", "the rows to look at; a table may be given by its name")],
            returns: &[
                ("column_name, column_type", "as in the query"),
                ("n_values, n_nulls", "rows with a value, and without one"),
                ("n_distinct", "different values; NULL is none"),
                ("exact", "whether n_distinct and the quantiles are exact"),
                ("min, max", "as text; NULL for lists and records"),
                (
                    "mean, std",
                    "numbers: mean, and standard deviation of a sample (over n − 1); of truths the share of true",
                ),
                (
                    "p25, median, p75",
                    "numbers: quantiles, interpolated as percentile_cont() does. NaN counts as no number",
                ),
                (
                    "top, top_count",
                    "the value that occurs most, as text, and how often; of equally frequent ones the least",
                ),
            ],
            example: "SELECT column_name, n_nulls, n_distinct, min, max, median FROM describe_data((SELECT * FROM orders))",
        }
    }

    fn relation(&self) -> Option<Relation> {
        Some(relation)
    }
}

const SHAPE: Question = Question {
    name: "shape",
    answers: &["mean", "std", "p25", "median", "p75"],
    answer: |numbers, sorted, _| {
        let [p25, median, p75] = [0.25, 0.5, 0.75].map(|share| sorted.quantile(share));
        vec![numbers.mean(), numbers.deviation(), p25, median, p75]
    },
};

const COLUMNS: [&str; 15] = [
    "column_name",
    "column_type",
    "n_values",
    "n_nulls",
    "n_distinct",
    "exact",
    "min",
    "max",
    "mean",
    "std",
    "p25",
    "median",
    "p75",
    "top",
    "top_count",
];

fn relation(mut call: Call, planner: &mut dyn Planner) -> Result<LogicalPlan> {
    let input = call
        .relation(planner, "query")?
        .ok_or_else(|| Error::invalid("describe_data() wants a query").hint("describe_data((SELECT * FROM orders))"))?;
    call.finish(&[])?;
    if input.schema().fields().is_empty() {
        return Err(Error::invalid("the query gives no column to describe"));
    }
    let input = bared(input)?;
    let mut aggregates = vec![count(lit(1i64)).alias("__rows")];
    let mut rows = Vec::new();
    for (at, field) in input.schema().fields().iter().enumerate() {
        let column = Described { at, name: field.name(), data_type: field.data_type() };
        aggregates.extend(column.aggregates());
        rows.push(column.row());
    }
    let described = LogicalPlanBuilder::from(input).aggregate(Vec::<Expr>::new(), aggregates)?.build()?;
    let parts: Vec<(&str, &str)> = COLUMNS.iter().map(|name| (*name, *name)).collect();
    unnested(described, &[], make_array(rows), &parts)
}

/// One column of the query.
struct Described<'a> {
    at: usize,
    name: &'a str,
    data_type: &'a DataType,
}

impl Described<'_> {
    fn aggregates(&self) -> Vec<Expr> {
        let column = || col(self.name);
        let mut all = vec![count(column()).alias(self.called("values")), tally(column()).alias(self.called("tally"))];
        if self.is_ordered() {
            all.extend([min(column()).alias(self.called("min")), max(column()).alias(self.called("max"))]);
        }
        if self.is_measured() {
            all.push(SHAPE.of(column(), &[]).alias(self.called("shape")));
        }
        all
    }

    /// Its row of the answer.
    fn row(&self) -> Expr {
        let text = |value: Expr| cast(value, DataType::Utf8);
        let end = |name| if self.is_ordered() { text(col(self.called(name))) } else { lit(ScalarValue::Utf8(None)) };
        let counted = |name| get_field(col(self.called("tally")), name);
        let shape = |name| match self.is_measured() {
            true => get_field(col(self.called("shape")), name),
            false => lit(ScalarValue::Float64(None)),
        };
        let values = [
            lit(self.name),
            lit(sql_name(self.data_type)),
            col(self.called("values")),
            col("__rows") - col(self.called("values")),
            counted("n_distinct"),
            counted("is_exact"),
            end("min"),
            end("max"),
            shape("mean"),
            shape("std"),
            shape("p25"),
            shape("median"),
            shape("p75"),
            text(counted("top")),
            counted("top_count"),
        ];
        named_struct(COLUMNS.iter().zip(values).flat_map(|(name, value)| [lit(*name), value]).collect())
    }

    fn called(&self, what: &str) -> String {
        format!("__{what}_{}", self.at)
    }

    fn is_ordered(&self) -> bool {
        !self.data_type.is_nested() && self.data_type != &DataType::Null
    }

    fn is_measured(&self) -> bool {
        self.data_type.is_numeric() || self.data_type == &DataType::Boolean
    }
}
