//! Pieces of plan that several functions build.

use datafusion::arrow::datatypes::{DataType, Fields};
use datafusion::common::{Column, ScalarValue};
use datafusion::functions::core::expr_fn::get_field;
use datafusion::functions::math::expr_fn::isnan;
use datafusion::functions_aggregate::expr_fn::array_agg;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_fn::scalar_subquery;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, ScalarUDF, cast, lit, try_cast};
use std::sync::Arc;

use crate::error::{Error, Kind, Result};
use crate::frame::{column, sql_name};
use crate::models::{Fitted, Input, MAX_K, ModelName};

/// The column that holds a struct or a list of structs until it is taken apart.
pub const ANSWER: &str = "__answer";

/// The functions that answer a row with a list, and the place among their arguments of how many it may hold.
const LISTS: [(&str, usize); 7] = [
    ("explanation_rows", 3),
    ("lookalike_rows", 2),
    ("recommend_basket", 2),
    ("recommend_rows", 2),
    ("recommend_users_rows", 2),
    ("similar_item_rows", 2),
    ("similar_user_rows", 2),
];

/// About the bytes that a function makes for one row, if it makes a list.
pub fn list_bytes(call: &ScalarFunction) -> usize {
    /// A rank, a key, a score and a source, once as they are found and once as columns.
    const ROW_BYTES: usize = 64;
    let place = LISTS.iter().find(|(name, _)| *name == call.name()).map(|(_, place)| *place);
    match place.and_then(|place| call.args.get(place)) {
        Some(Expr::Literal(ScalarValue::Int64(Some(k)), _)) => {
            usize::try_from(*k).map_or(0, |k| k.min(MAX_K)) * ROW_BYTES
        }
        _ => 0,
    }
}

/// The plan's columns under their bare names.
pub fn bare_columns(plan: &LogicalPlan) -> Vec<Expr> {
    plan.schema().columns().into_iter().map(|column| bare(&column)).collect()
}

fn bare(column: &Column) -> Expr {
    let expr = Expr::Column(column.clone());
    // A bare column under its own name again would be taken for a second one by the optimizer.
    if column.relation.is_none() { expr } else { expr.alias(column.name.clone()) }
}

/// The plan with its columns under their bare names alone.
pub fn bared(plan: LogicalPlan) -> Result<LogicalPlan> {
    let columns = bare_columns(&plan);
    Ok(LogicalPlanBuilder::from(plan).project(columns)?.build()?)
}

/// A column by its bare name.
pub fn col(name: impl Into<String>) -> Expr {
    Expr::Column(Column::new_unqualified(name))
}

/// The named columns of a plan, each once, as positions in its schema.
pub fn positions(plan: &LogicalPlan, names: &[String]) -> Result<Vec<usize>> {
    let mut found = Vec::with_capacity(names.len());
    for name in names {
        let at = column(plan.schema().as_arrow(), name)?;
        if !found.contains(&at) {
            found.push(at);
        }
    }
    Ok(found)
}

/// As [`positions`]; without names all columns that `fit`. Fails where a named one does not, saying what is `wanted`.
pub fn fitting_positions(
    plan: &LogicalPlan,
    names: Option<&[String]>,
    fit: fn(&DataType) -> bool,
    wanted: &str,
) -> Result<Vec<usize>> {
    let fields = plan.schema().fields();
    let Some(names) = names else {
        return Ok((0..fields.len()).filter(|at| fit(fields[*at].data_type())).collect());
    };
    let found = positions(plan, names)?;
    match found.iter().map(|at| &fields[*at]).find(|field| !fit(field.data_type())) {
        Some(field) => {
            let (name, given) = (field.name(), sql_name(field.data_type()));
            Err(Error::new(Kind::WrongType, format!("column \"{name}\" must be {wanted}, not {given}"))
                .hint("leave it out of columns, or cast it in the query"))
        }
        None => Ok(found),
    }
}

/// Whether a column has no value in a row: NULL, or NaN among floats.
pub fn missing(name: &str, data_type: &DataType) -> Expr {
    match data_type.is_floating() {
        true => col(name).is_null().or(isnan(col(name))),
        false => col(name).is_null(),
    }
}

/// The columns of a plan's rows, each row beside one row that is computed of all of them: `values` of `aggregates`. The
/// plan is run twice, and no row is kept.
pub fn beside_totals(
    input: LogicalPlan,
    aggregates: Vec<Expr>,
    values: Vec<Expr>,
    columns: Vec<Expr>,
) -> Result<LogicalPlan> {
    let totals = LogicalPlanBuilder::from(input.clone()).aggregate(Vec::<Expr>::new(), aggregates)?.project(values)?;
    Ok(totals.cross_join(input)?.project(columns)?.build()?)
}

/// The input's columns and, next to them, the fields of a struct that `function` answers for each row.
pub fn beside(input: LogicalPlan, function: Expr, answers: &Fields, called: &str) -> Result<LogicalPlan> {
    refuse_taken(&input, answers.iter().map(|answer| answer.name().as_str()), called)?;
    let mut with_answer = bare_columns(&input);
    let names: Vec<String> = input.schema().columns().into_iter().map(|column| column.name).collect();
    with_answer.push(function.alias(ANSWER));
    let mut columns: Vec<Expr> = names.iter().map(|name| Expr::Column(Column::new_unqualified(name))).collect();
    columns.extend(answers.iter().map(|answer| part(answer.name())));
    Ok(LogicalPlanBuilder::from(input).project(with_answer)?.project(columns)?.build()?)
}

/// Refuses a query that has a column which the function adds.
pub fn refuse_taken<'a>(input: &LogicalPlan, added: impl IntoIterator<Item = &'a str>, called: &str) -> Result<()> {
    let fields = input.schema().fields();
    match added.into_iter().find(|added| fields.iter().any(|field| field.name() == added)) {
        None => Ok(()),
        Some(twice) => Err(Error::new(
            Kind::DuplicateColumn,
            format!("{called}() adds a column \"{twice}\", which the query has already"),
        )
        .hint("rename it in the query: … AS other_name")),
    }
}

/// One row for each element of a list of structs: the `kept` columns of `input`, then `parts`.
pub fn unnested(input: LogicalPlan, kept: &[&str], list: Expr, parts: &[(&str, &str)]) -> Result<LogicalPlan> {
    let mut with_answer = Vec::new();
    let mut columns = Vec::new();
    for name in kept {
        let column = Expr::Column(Column::new_unqualified(*name));
        // DataFusion 55 lets a column that was a key before the unnesting pass for one after it, and then drops other
        // columns from ORDER BY and GROUP BY. A cast ends the key, costs nothing, and lets a filter on the column through.
        let same_type = column.get_type(input.schema())?;
        with_answer.push(try_cast(column.clone(), same_type).alias(*name));
        columns.push(column);
    }
    with_answer.push(list.alias(ANSWER));
    columns.extend(parts.iter().map(|(field, name)| part(field).alias(*name)));
    Ok(LogicalPlanBuilder::from(input)
        .project(with_answer)?
        .unnest_column(Column::new_unqualified(ANSWER))?
        .project(columns)?
        .build()?)
}

fn part(name: &str) -> Expr {
    get_field(Expr::Column(Column::new_unqualified(ANSWER)), name).alias(name)
}

/// A one-row plan without columns: what a call without a query starts from.
pub fn one_row() -> Result<LogicalPlan> {
    Ok(LogicalPlanBuilder::empty(true).build()?)
}

/// `function('model@3', before…, 'name', column, …)` for every input that the model wants.
pub fn call_with_inputs(
    function: Arc<ScalarUDF>,
    fitted: &Fitted,
    before: Vec<Expr>,
    input: &LogicalPlan,
) -> Result<Expr> {
    let mut args = vec![lit(fitted.name.to_string())];
    args.extend(before);
    args.extend(input_args(fitted, fitted.model.signature().asked(), input)?);
    Ok(function.call(args))
}

/// Name, column, name, column, … of what the model reads from this plan.
pub fn input_args(fitted: &Fitted, inputs: &[Input], plan: &LogicalPlan) -> Result<Vec<Expr>> {
    let columns = plan.schema().columns();
    let mut args = Vec::with_capacity(inputs.len() * 2);
    for input in inputs {
        let found = columns
            .iter()
            .find(|column| column.name == input.name)
            .or_else(|| columns.iter().find(|column| column.name.eq_ignore_ascii_case(&input.name)));
        let Some(found) = found else { return Err(lacks(fitted, &input.name, "the query does not give")) };
        args.extend([lit(input.name.clone()), Expr::Column(found.clone())]);
    }
    Ok(args)
}

/// The error of a call that leaves out a column the model was trained on.
pub fn lacks(fitted: &Fitted, column: &str, who: &str) -> Error {
    let name = ModelName { version: None, ..fitted.name.clone() };
    let inputs: Vec<&str> = fitted.model.signature().inputs.iter().map(|input| input.name.as_str()).collect();
    Error::new(Kind::UnknownColumn, format!("model \"{name}\" needs column \"{column}\", which {who}"))
        .hint(format!("it was trained on {}; see DESCRIBE MODEL {name}", inputs.join(", ")))
}

/// All values of the plan's first column as one list, to be an argument; computed once.
pub fn gathered_column(plan: LogicalPlan) -> Result<Expr> {
    match plan.schema().columns().into_iter().next() {
        Some(column) => gathered(plan, Expr::Column(column)),
        None => Err(Error::invalid("the query gives no column")),
    }
}

/// All rows of a plan as one list of these values, to be an argument; computed once.
pub fn gathered(plan: LogicalPlan, value: Expr) -> Result<Expr> {
    if let Some(Expr::OuterReferenceColumn(_, column)) = plan.all_out_ref_exprs().first() {
        let column = column.flat_name();
        return Err(Error::unsupported(format!("this query is read once for all rows, it cannot depend on {column}"))
            .hint("leave the condition out of it, and filter what the function returns"));
    }
    let list = array_agg(value).alias("list");
    let plan = LogicalPlanBuilder::from(plan).aggregate(Vec::<Expr>::new(), vec![list])?.build()?;
    Ok(scalar_subquery(Arc::new(plan)))
}

/// One row of numbers under their names; counts (`n_…`) as bigint.
pub fn numbers_row(values: &[(String, Option<f64>)]) -> Result<LogicalPlan> {
    let column =
        |(name, value): &(String, Option<f64>)| metric(lit(ScalarValue::Float64(*value)), name).alias(name.clone());
    let columns: Vec<Expr> = values.iter().map(column).collect();
    Ok(LogicalPlanBuilder::empty(true).project(columns)?.build()?)
}

/// A metric in the type it is shown in.
pub fn metric(value: Expr, name: &str) -> Expr {
    if name.starts_with("n_") { cast(value, DataType::Int64) } else { value }
}
