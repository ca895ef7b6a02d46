//! `table_at`, `table_history`, `table_changes`: a table as it was, how it came to be what it is, and what has changed.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::sql::sqlparser::ast;

use crate::error::{Error, Kind, Result};
use crate::functions::function::{Doc, Function, Relation};
use crate::functions::{Call, Planner};

pub struct TableAt;

pub struct TableHistory;

pub struct TableChanges;

/// Which version of a table is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    Version(u64),
    /// The last one committed at this time or before, in microseconds since 1970, UTC.
    Time(i64),
}

impl Function for TableAt {
    fn name(&self) -> &'static str {
        "table_at"
    }

    fn doc(&self) -> Doc {
        Doc {
            summary: "A table as it was: at a version, or at a time. VACUUM ends how far back one can look. Whoever may read \
                      the table may read what it was; policies of rows hold as they are now.",
            syntax: &["table_at('table', version => 3)", "table_at('table', timestamp => '2026-01-31 12:00')"],
            arguments: &[
                ("table", "name, or schema.name"),
                ("version", "as table_history() counts them"),
                ("timestamp", "the last version that was committed then or before"),
            ],
            returns: &[("<columns>", "of the table, as it had them then")],
            example: "SELECT count(*) FROM table_at('customers', version => 1)",
        }
    }

    fn relation(&self) -> Option<Relation> {
        Some(at)
    }
}

impl Function for TableHistory {
    fn name(&self) -> &'static str {
        "table_history"
    }

    fn doc(&self) -> Doc {
        Doc {
            summary: "The versions of a table, the first one first: what made each of them, when, and how many rows it changed.",
            syntax: &["table_history('table')"],
            arguments: &[("table", "name, or schema.name")],
            returns: &[
                ("version", "from 1; ml.model_versions says which one a model was trained on"),
                ("operation", "CREATE TABLE, INSERT, UPDATE, DELETE, MERGE, TRUNCATE, ALTER TABLE, OPTIMIZE …"),
                ("committed", "when; later versions are later"),
                ("rows_inserted", "how many rows it added"),
                ("rows_updated", "how many it changed"),
                ("rows_deleted", "how many it took away"),
                ("is_readable", "whether table_at() can still read it: VACUUM has not deleted its files"),
            ],
            example: "SELECT version, operation, rows_inserted FROM table_history('customers') ORDER BY version",
        }
    }

    fn relation(&self) -> Option<Relation> {
        Some(history)
    }
}

impl Function for TableChanges {
    fn name(&self) -> &'static str {
        "table_changes"
    }

    fn doc(&self) -> Doc {
        Doc {
            summary: "What has changed in a table since a version: the rows that each later version has added and taken away. \
                      A row that was changed was taken away as it was, and added as it is. Versions that only wrote the \
                      same rows into other files show nothing.",
            syntax: &["table_changes('table', from_version => 5 [, to_version => 8])"],
            arguments: &[
                ("table", "name, or schema.name"),
                ("from_version", "changes after this version"),
                ("to_version", "up to this one; the last one by default"),
            ],
            returns: &[
                ("change_type", "insert or delete"),
                ("version", "the version that did it"),
                ("<columns>", "of the table"),
            ],
            example: "SELECT change_type, count(*) FROM table_changes('customers', from_version => 0) GROUP BY change_type",
        }
    }

    fn relation(&self) -> Option<Relation> {
        Some(changes)
    }
}

fn at(mut call: Call, planner: &mut dyn Planner) -> Result<LogicalPlan> {
    let table = table(&mut call)?;
    let version = version(&mut call, planner, "version")?;
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let time = call.option(planner, "timestamp", &time)?.map(|expr| value(expr, "timestamp")).transpose()?;
    call.finish(&["version", "timestamp"])?;
    let moment = match (version, time) {
        (Some(version), None) => Moment::Version(version),
        (None, Some(ScalarValue::TimestampMicrosecond(Some(time), _))) => Moment::Time(time),
        (None, Some(_)) => return Err(Error::invalid("timestamp must not be NULL")),
        _ => {
            return Err(Error::invalid("table_at() wants a version or a timestamp")
                .hint("table_at('table', version => 3), or timestamp => '2026-01-31 12:00'"));
        }
    };
    planner.table_at(&table, moment)
}

fn history(mut call: Call, planner: &mut dyn Planner) -> Result<LogicalPlan> {
    let table = table(&mut call)?;
    call.finish(&[])?;
    let rows = planner.table_history(&table)?;
    let provider = MemTable::try_new(rows.schema(), vec![vec![rows]])?;
    Ok(LogicalPlanBuilder::scan("table_history", provider_as_source(Arc::new(provider)), None)?.build()?)
}

fn changes(mut call: Call, planner: &mut dyn Planner) -> Result<LogicalPlan> {
    let table = table(&mut call)?;
    let from = version(&mut call, planner, "from_version")?;
    let to = version(&mut call, planner, "to_version")?;
    call.finish(&["from_version", "to_version"])?;
    let from = from.ok_or_else(|| {
        Error::invalid("table_changes() wants a version to begin from").hint("from_version => 1; see table_history()")
    })?;
    planner.table_changes(&table, from, to)
}

/// The table's name, as a literal: its columns decide what the query returns.
fn table(call: &mut Call) -> Result<String> {
    let function = call.function;
    let wanted = || {
        Error::new(Kind::WrongType, format!("{function}() wants the table's name as a text first"))
            .hint(format!("{function}('table', …)"))
    };
    match call.next("table") {
        Some(ast::Expr::Value(value)) => value.value.into_string().ok_or_else(wanted),
        _ => Err(wanted()),
    }
}

fn version(call: &mut Call, planner: &mut dyn Planner, name: &str) -> Result<Option<u64>> {
    let Some(expr) = call.option(planner, name, &DataType::Int64)? else { return Ok(None) };
    match value(expr, name)? {
        ScalarValue::Int64(Some(version)) if version >= 0 => Ok(Some(version.cast_unsigned())),
        other => Err(Error::invalid(format!("{name} must be a number from 0, not {other}"))),
    }
}

/// The value of a constant while the query is planned: the files to read depend on it.
fn value(expr: Expr, name: &str) -> Result<ScalarValue> {
    let context = SimplifyContext::builder().with_current_time().build();
    match ExprSimplifier::new(context).simplify(expr)? {
        Expr::Literal(value, _) => Ok(value),
        other => Err(Error::unsupported(format!("{name} must be known when the query is planned, not {other}"))
            .hint("write the value itself")),
    }
}
