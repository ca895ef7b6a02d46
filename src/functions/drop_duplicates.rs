//! `drop_duplicates`: the rows of a query, of those that are alike in some columns one.

use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::{Expr, ExprFunctionExt, LogicalPlan, LogicalPlanBuilder, lit};

use crate::error::{Error, Result};
use crate::functions::function::{Doc, Function, Relation};
use crate::functions::nodes::{bare_columns, bared, col, positions};
use crate::functions::{Call, Planner};

pub struct DropDuplicates;

impl Function for DropDuplicates {
    fn name(&self) -> &'static str {
        "drop_duplicates"
    }

    fn doc(&self) -> Doc {
        Doc {
            summary: "The rows of a query without duplicates: of rows that are equal in the columns `by` one is kept. \
                      Which one is decided by what is in the rows, so the same rows give the same answer every time. \
                      NULLs are equal here.",
            syntax: &[
                "drop_duplicates((SELECT …))",
                "drop_duplicates((SELECT …), by => ARRAY['a', 'b'] [, order_by => 'c'] [, keep => 'first'])",
            ],
            arguments: &[
                ("query", "the rows; a table may be given by its name"),
                ("by", "the columns in which duplicates are equal, an array or one name; all by default"),
                (
                    "order_by",
                    "the column, or an array of them, that says which row is first; where they are equal, or without it, \
                     the other columns say it, from left to right. Rows without a value there come last either way",
                ),
                ("keep", "'first', the row of the lowest values (default), or 'last', that of the highest"),
            ],
            returns: &[("<columns of the query>", "of the rows that are kept, in no order")],
            example: "SELECT count(*) AS customers FROM\n\
                      drop_duplicates((SELECT customer_id, order_ts, amount FROM orders), by => 'customer_id', order_by => 'order_ts', keep => 'last')",
        }
    }

    fn relation(&self) -> Option<Relation> {
        Some(relation)
    }
}

const NUMBER: &str = "__number";

fn relation(mut call: Call, planner: &mut dyn Planner) -> Result<LogicalPlan> {
    let input = call.relation(planner, "query")?.ok_or_else(|| {
        Error::invalid("drop_duplicates() wants a query")
            .hint("drop_duplicates((SELECT * FROM orders), by => 'order_id')")
    })?;
    let by = call.names(planner, "by")?;
    let order_by = call.names(planner, "order_by")?;
    let keep = call.word(planner, "keep", &["first", "last"])?;
    call.finish(&["by", "order_by", "keep"])?;
    let input = bared(input)?;
    let names: Vec<String> = input.schema().fields().iter().map(|field| field.name().clone()).collect();
    let Some(by) = by else {
        return match (order_by, keep) {
            (None, None) => Ok(LogicalPlanBuilder::from(input).distinct()?.build()?),
            _ => Err(Error::invalid("rows that are equal in all columns have no first and no last")
                .hint("say which columns make a duplicate: by => ARRAY['a', 'b']")),
        };
    };
    let by = positions(&input, &by)?;
    let mut order = positions(&input, &order_by.unwrap_or_default())?;
    order.extend((0..names.len()).filter(|at| !order.contains(at)).collect::<Vec<_>>());
    // Within equal rows these say nothing.
    order.retain(|at| !by.contains(at));
    let (ascending, nulls_first) = (keep != Some("last"), false);
    let order = order.iter().map(|at| col(&names[*at]).sort(ascending, nulls_first)).collect::<Vec<_>>();
    if order.is_empty() {
        return Ok(LogicalPlanBuilder::from(input).distinct()?.build()?);
    }
    let alike: Vec<Expr> = by.iter().map(|at| col(&names[*at])).collect();
    let columns = bare_columns(&input);
    let number = row_number().partition_by(alike).order_by(order).build()?.alias(NUMBER);
    Ok(LogicalPlanBuilder::from(input)
        .window(vec![number])?
        .filter(col(NUMBER).eq(lit(1u64)))?
        .project(columns)?
        .build()?)
}
