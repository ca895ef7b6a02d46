//! What a table holds its rows to: the defaults of its columns, and CHECK constraints; and what it is partitioned by.
//!
//! The catalog keeps them as SQL. DataFusion's planner knows of no CHECK and no partitions of a table, so they are taken out
//! of a CREATE TABLE before it sees them.

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{Expr, ExprSchemable};
use datafusion::sql::parser::Statement as Sql;
use datafusion::sql::sqlparser::ast::{
    self, ColumnOption, FunctionArg, FunctionArgExpr, FunctionArguments, HiveDistributionStyle, ObjectName,
    TableConstraint,
};
use datafusion::sql::sqlparser::parser::Parser;

use crate::engine::Session;
use crate::engine::dialect::DIALECT;
use crate::engine::statement::{folded, syntax};
use crate::error::{Error, Kind, Result};
use crate::storage::{Check, Partitioning, Relation, Rules};

/// Takes the rules out of a CREATE TABLE; other statements have none.
pub(super) fn take(sql: &mut Sql) -> Result<Rules> {
    let mut rules = Rules::default();
    let Sql::Statement(statement) = sql else { return Ok(rules) };
    let ast::Statement::CreateTable(table) = statement.as_mut() else { return Ok(rules) };
    rules.partitioned_by = take_partitioning(table)?;
    let of = table_name(&table.name);
    let add_check = |rules: &mut Rules, name: Option<String>, column: Option<&str>, expr: &ast::Expr| {
        let name = name.unwrap_or_else(|| check_name(rules, &of, column));
        rules.checks.insert(name, expr.to_string());
    };
    for column in &mut table.columns {
        let name = folded(&column.name);
        column.options.retain(|option| match &option.option {
            ColumnOption::Default(expr) => {
                rules.defaults.insert(name.clone(), expr.to_string());
                false
            }
            ColumnOption::Check(check) => {
                let given = option.name.as_ref().or(check.name.as_ref()).map(folded);
                add_check(&mut rules, given, Some(&name), &check.expr);
                false
            }
            _ => true,
        });
    }
    table.constraints.retain(|constraint| match constraint {
        TableConstraint::Check(check) => {
            add_check(&mut rules, check.name.as_ref().map(folded), None, &check.expr);
            false
        }
        _ => true,
    });
    Ok(rules)
}

/// `PARTITIONED BY (a, b)`, or as Postgres has it, `PARTITION BY LIST (a)`: each value is a partition of its own.
fn take_partitioning(table: &mut ast::CreateTable) -> Result<Vec<String>> {
    const HINT: &str = "write PARTITIONED BY (column, …): each value has files of its own";
    let unknown = |written: &str| Error::unsupported(format!("{written} is not supported")).hint(HINT);
    if let HiveDistributionStyle::PARTITIONED { columns } =
        mem::replace(&mut table.hive_distribution, HiveDistributionStyle::NONE)
    {
        let is_named = |column: &&ast::ColumnDef| column.data_type == ast::DataType::Unspecified;
        if let Some(typed) = columns.iter().find(|column| !is_named(column)) {
            let message = format!("column \"{}\" in PARTITIONED BY has a type", folded(&typed.name));
            return Err(Error::new(Kind::Syntax, message).hint("declare it with the others, and only name it here"));
        }
        return Ok(columns.iter().map(|column| folded(&column.name)).collect());
    }
    let Some(by) = table.partition_by.take() else { return Ok(Vec::new()) };
    let ast::Expr::Function(function) = by.as_ref() else { return Err(unknown("PARTITION BY without LIST")) };
    let FunctionArguments::List(list) = &function.args else { return Err(unknown(&format!("PARTITION BY {by}"))) };
    if !function.name.to_string().eq_ignore_ascii_case("list") {
        return Err(unknown(&format!("PARTITION BY {}", function.name.to_string().to_uppercase())));
    }
    let column = |argument: &FunctionArg| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(ast::Expr::Identifier(name))) => Ok(folded(name)),
        other => Err(unknown(&format!("PARTITION BY the expression {other}"))),
    };
    list.args.iter().map(column).collect()
}

fn table_name(name: &ObjectName) -> String {
    name.0.last().and_then(|part| part.as_ident()).map(folded).unwrap_or_default()
}

/// What a CHECK without a name is called, as Postgres has it: the first such name that no other one has.
pub(super) fn check_name(rules: &Rules, table: &str, column: Option<&str>) -> String {
    let base = column.map_or_else(|| format!("{table}_check"), |column| format!("{table}_{column}_check"));
    let numbered = (1..).map(|n| format!("{base}{n}"));
    let mut names = std::iter::once(base.clone()).chain(numbered);
    names.find(|name| !rules.checks.contains_key(name)).unwrap_or_default()
}

/// Refuses rules that could never be kept.
pub(super) fn validate(state: &SessionState, rules: &Rules, columns: &Schema) -> Result<()> {
    Partitioning::of(&rules.partitioned_by, columns)?;
    for (column, text) in &rules.defaults {
        let field = columns.field_with_name(column).map_err(|_| unknown(column))?;
        let expr = planned(state, text, &DFSchema::empty()).map_err(|error| {
            let message = format!("the default of column \"{column}\" cannot be used: {error}");
            Error { message, ..error }.hint("a default reads no columns and no tables")
        })?;
        let value = expr.cast_to(field.data_type(), &DFSchema::empty())?;
        let (one_row, none) = (RecordBatchOptions::new().with_row_count(Some(1)), Arc::new(Schema::empty()));
        let one_row = RecordBatch::try_new_with_options(none, Vec::new(), &one_row)?;
        // A value that is none of the type is refused now, not when it is first needed.
        state.create_physical_expr(value, &DFSchema::empty())?.evaluate(&one_row)?;
    }
    let schema = DFSchema::try_from(columns.clone())?;
    for (name, text) in &rules.checks {
        let expr = planned(state, text, &schema)?;
        match expr.get_type(&schema)? {
            DataType::Boolean | DataType::Null => {}
            other => {
                let message = format!("argument of CHECK \"{name}\" must be type boolean, not {other}");
                return Err(Error::new(Kind::WrongType, message));
            }
        }
        state.create_physical_expr(expr, &schema).map_err(|error| {
            let error = Error::from(error);
            Error { message: format!("CHECK \"{name}\" cannot be used: {error}"), ..error }
                .hint("a constraint reads the columns of one row, and no tables")
        })?;
    }
    Ok(())
}

fn unknown(column: &str) -> Error {
    Error::new(Kind::UnknownColumn, format!("column \"{column}\" does not exist"))
}

/// A rule as it was written.
pub(super) fn parsed(text: &str) -> Result<ast::Expr> {
    Parser::new(&DIALECT).try_with_sql(text).and_then(|mut parser| parser.parse_expr()).map_err(syntax)
}

fn planned(state: &SessionState, text: &str, schema: &DFSchema) -> Result<Expr> {
    Ok(state.create_logical_expr(text, schema)?)
}

/// The table's CHECK constraints, ready to be held against rows.
pub(super) fn checks(planner: &SessionState, relation: &Relation) -> Result<Vec<Check>> {
    let rules = &relation.rules.checks;
    if rules.is_empty() {
        return Ok(Vec::new());
    }
    let schema = DFSchema::try_from(relation.columns.as_ref().clone())?;
    let check = |(name, text): (&String, &String)| {
        let holds = planner.create_physical_expr(planned(planner, text, &schema)?, &schema)?;
        Ok(Check { table: relation.name.clone(), name: name.clone(), holds })
    };
    rules.iter().map(check).collect()
}

/// What the planner of an INSERT puts where nothing is given.
pub(super) fn defaults(planner: &SessionState, relation: &Relation) -> Result<HashMap<String, Expr>> {
    let none = DFSchema::empty();
    let default = |(column, text): (&String, &String)| Ok((column.clone(), planned(planner, text, &none)?));
    relation.rules.defaults.iter().map(default).collect()
}

/// The value of a default now: what a column that is added gets in the rows that are there.
pub(super) async fn value_now(session: &Session, text: &str, data_type: &DataType) -> Result<ScalarValue> {
    let state = session.context.state();
    let expr = planned(&state, text, &DFSchema::empty())?.cast_to(data_type, &DFSchema::empty())?;
    let frame = session.context.read_empty()?.select([expr])?;
    let batches = frame.collect().await?;
    match batches.iter().find(|batch| batch.num_rows() > 0) {
        Some(batch) => Ok(ScalarValue::try_from_array(batch.column(0), 0)?),
        None => Err(Error::internal("a default has no value")),
    }
}

impl Session {
    /// The default of a column, as one would write it.
    pub(super) fn default_of(&self, relation: &Relation, at: usize) -> Result<Option<ast::Expr>> {
        let Some(text) = relation.rules.defaults.get(relation.columns.field(at).name()) else { return Ok(None) };
        parsed(text).map(Some)
    }
}
