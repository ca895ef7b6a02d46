//! The shape of a table while an ALTER TABLE works on it, and how old rows are brought into it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::ExprSchemable;
use datafusion::physical_plan::PhysicalExpr;
use datafusion::sql::sqlparser::ast::{self, visit_expressions, visit_expressions_mut};

use crate::engine::row_changes::quoted;
use crate::engine::statement::folded;
use crate::engine::{Session, rules};
use crate::error::{Error, Kind, Result};
use crate::storage::{Definition, Relation, Rules};

pub(super) struct Shape {
    relation: Relation,
    columns: Vec<Column>,
    rules: Rules,
    column_comments: BTreeMap<String, String>,
    /// A column that was there may hold no NULL any more, or a constraint is new.
    asks_more: bool,
}

struct Column {
    field: Field,
    from: From,
}

/// Where the values of a column come from.
enum From {
    /// The column that was there, by its place.
    Old(usize),
    Value(ScalarValue),
    /// An expression over the columns that were there.
    Using(String),
}

impl Shape {
    pub(super) fn of(relation: &Relation) -> Self {
        let columns = relation.columns.fields().iter().enumerate();
        let columns = columns.map(|(at, field)| Column { field: field.as_ref().clone(), from: From::Old(at) });
        Self {
            columns: columns.collect(),
            rules: relation.rules.clone(),
            column_comments: relation.column_comments.clone(),
            relation: relation.clone(),
            asks_more: false,
        }
    }

    pub(super) fn table(&self) -> &str {
        &self.relation.name
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.columns.iter().any(|column| column.field.name() == name)
    }

    fn at(&self, name: &str) -> Result<usize> {
        let found = self.columns.iter().position(|column| column.field.name() == name);
        found.ok_or_else(|| {
            let message = format!("column \"{name}\" of relation \"{}\" does not exist", self.table());
            let known = self.columns.iter().map(|column| column.field.name().as_str());
            Error::new(Kind::UnknownColumn, message).suggest(name, known)
        })
    }

    fn must_be_free(&self, name: &str) -> Result<()> {
        if name.is_empty() {
            return Err(Error::new(Kind::Syntax, "zero-length delimited identifier"));
        }
        if self.has(name) {
            let message = format!("column \"{name}\" of relation \"{}\" already exists", self.table());
            return Err(Error::new(Kind::DuplicateColumn, message));
        }
        Ok(())
    }

    pub(super) async fn add(
        &mut self,
        session: &Session,
        name: &str,
        data_type: &ast::DataType,
        nullable: bool,
        default: Option<String>,
    ) -> Result<()> {
        self.must_be_free(name)?;
        let data_type = stored_type(session, data_type)?;
        // The rows that are there get what the default is now.
        let value = match &default {
            Some(text) => rules::value_now(session, text, &data_type).await?,
            None => ScalarValue::try_from(&data_type)?,
        };
        if !nullable && value.is_null() && self.relation.rows() > 0 {
            let message = format!("column \"{name}\" of relation \"{}\" contains null values", self.table());
            return Err(Error::new(Kind::NullNotAllowed, message).hint("give it a DEFAULT for the rows that are there"));
        }
        self.columns.push(Column { field: Field::new(name, data_type, nullable), from: From::Value(value) });
        if let Some(text) = default {
            self.rules.defaults.insert(name.to_owned(), text);
        }
        Ok(())
    }

    /// With it go the constraints that name it.
    pub(super) fn drop_column(&mut self, name: &str) -> Result<()> {
        let at = self.at(name)?;
        if self.columns.len() == 1 {
            return Err(Error::unsupported("a table needs a column: this is the last one")
                .hint(format!("DROP TABLE {} drops the table", self.table())));
        }
        if self.rules.partitioned_by.iter().any(|column| column == name) {
            let message = format!(
                "cannot drop column \"{name}\" because it is part of the partition key of relation \"{}\"",
                self.table()
            );
            return Err(Error::invalid(message).hint("make a table of the others: CREATE TABLE … AS SELECT …"));
        }
        self.columns.remove(at);
        self.rules.defaults.remove(name);
        self.column_comments.remove(name);
        self.rules.checks.retain(|_, text| !names(text, name));
        Ok(())
    }

    pub(super) fn rename(&mut self, name: &str, new_name: &str) -> Result<()> {
        let at = self.at(name)?;
        self.must_be_free(new_name)?;
        let field = &mut self.columns[at].field;
        *field = field.clone().with_name(new_name);
        if let Some(text) = self.rules.defaults.remove(name) {
            self.rules.defaults.insert(new_name.to_owned(), text);
        }
        if let Some(comment) = self.column_comments.remove(name) {
            self.column_comments.insert(new_name.to_owned(), comment);
        }
        for column in self.rules.partitioned_by.iter_mut().filter(|column| *column == name) {
            *column = new_name.to_owned();
        }
        for text in self.rules.checks.values_mut() {
            *text = renamed(text, name, new_name)?;
        }
        Ok(())
    }

    pub(super) fn set_nullable(&mut self, name: &str, nullable: bool) -> Result<()> {
        let at = self.at(name)?;
        let field = &mut self.columns[at].field;
        self.asks_more |= field.is_nullable() && !nullable;
        *field = field.clone().with_nullable(nullable);
        Ok(())
    }

    pub(super) fn set_default(&mut self, name: &str, text: Option<String>) -> Result<()> {
        self.at(name)?;
        match text {
            Some(text) => self.rules.defaults.insert(name.to_owned(), text),
            None => self.rules.defaults.remove(name),
        };
        Ok(())
    }

    pub(super) fn set_type(
        &mut self,
        session: &Session,
        name: &str,
        data_type: &ast::DataType,
        using: Option<&ast::Expr>,
    ) -> Result<()> {
        let at = self.at(name)?;
        let data_type = stored_type(session, data_type)?;
        let column = &mut self.columns[at];
        column.field = column.field.clone().with_data_type(data_type);
        if let Some(using) = using {
            column.from = From::Using(using.to_string());
        }
        Ok(())
    }

    pub(super) fn add_check(&mut self, given: Option<String>, column: Option<&str>, text: &str) {
        let name = given.unwrap_or_else(|| rules::check_name(&self.rules, self.table(), column));
        self.rules.checks.insert(name, text.to_owned());
        self.asks_more = true;
    }

    pub(super) fn drop_check(&mut self, name: &str) -> bool {
        self.rules.checks.remove(name).is_some()
    }

    pub(super) fn validate(&self, session: &Session) -> Result<()> {
        rules::validate(&session.context.state(), &self.rules, &self.columns())
    }

    /// Whether files have to be written anew. A column that is new and NULL everywhere is in no file.
    pub(super) fn changes_values(&self) -> bool {
        let old = self.relation.columns.fields();
        let is_as_it_was = |(at, column): (usize, &Column)| match &column.from {
            From::Old(from) => {
                let was = &old[*from];
                *from == at && (was.name(), was.data_type()) == (column.field.name(), column.field.data_type())
            }
            From::Value(value) => value.is_null(),
            From::Using(_) => false,
        };
        let kept = self.columns.iter().filter(|column| matches!(column.from, From::Old(_))).count();
        kept < old.len() || !self.columns.iter().enumerate().all(is_as_it_was)
    }

    /// Whether the rows that are there have to be looked at.
    pub(super) fn asks_more(&self) -> bool {
        self.asks_more
    }

    pub(super) fn definition(&self) -> Definition {
        Definition {
            columns: Arc::new(self.columns()),
            column_comments: self.column_comments.clone(),
            rules: self.rules.clone(),
            from: self.relation.version,
        }
    }

    fn columns(&self) -> Schema {
        Schema::new(self.columns.iter().map(|column| column.field.clone()).collect::<Vec<_>>())
    }
}

/// Brings old rows into a shape.
pub(super) struct Filler {
    schema: SchemaRef,
    columns: Vec<Values>,
}

enum Values {
    Old(usize),
    Value(ScalarValue),
    Using(Arc<dyn PhysicalExpr>),
}

impl Filler {
    pub(super) fn new(shape: &Shape, state: &SessionState, old: &Schema) -> Result<Self> {
        let over = DFSchema::try_from(old.clone())?;
        let values = |column: &Column| {
            Ok(match &column.from {
                From::Old(at) => Values::Old(*at),
                From::Value(value) => Values::Value(value.clone()),
                From::Using(text) => {
                    let expr = state.create_logical_expr(text, &over)?.cast_to(column.field.data_type(), &over)?;
                    Values::Using(state.create_physical_expr(expr, &over)?)
                }
            })
        };
        let columns = shape.columns.iter().map(values).collect::<Result<_>>()?;
        // NULLs are refused by the writer, who names the column.
        let fields = shape.columns.iter().map(|column| column.field.clone().with_nullable(true));
        Ok(Self { schema: Arc::new(Schema::new(fields.collect::<Vec<_>>())), columns })
    }

    pub(super) fn fill(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let rows = batch.num_rows();
        let options = CastOptions { safe: false, ..CastOptions::default() };
        let column = |(values, field): (&Values, &Arc<Field>)| -> Result<ArrayRef> {
            let array = match values {
                Values::Old(at) => Arc::clone(batch.column(*at)),
                Values::Value(value) => value.to_array_of_size(rows)?,
                Values::Using(expr) => expr.evaluate(batch)?.into_array(rows)?,
            };
            Ok(cast_with_options(&array, field.data_type(), &options)?)
        };
        let columns = self.columns.iter().zip(self.schema.fields()).map(column).collect::<Result<_>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }
}

/// A type of SQL as a table keeps it.
fn stored_type(session: &Session, data_type: &ast::DataType) -> Result<DataType> {
    let none = DFSchema::empty();
    let null = session.context.state().create_logical_expr(&format!("CAST(NULL AS {data_type})"), &none)?;
    let schema = Arc::new(Schema::new(vec![Field::new("it", null.get_type(&none)?, true)]));
    Ok(crate::engine::definitions::stored(&schema).field(0).data_type().clone())
}

/// Whether a condition names a column.
fn names(text: &str, column: &str) -> bool {
    let Ok(expr) = rules::parsed(text) else { return false };
    let found = visit_expressions(&expr, |expr| match named_column(expr) {
        Some(ident) if folded(ident) == column => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    found.is_break()
}

fn renamed(text: &str, column: &str, new_name: &str) -> Result<String> {
    let mut expr = rules::parsed(text)?;
    let _ = visit_expressions_mut(&mut expr, |expr| {
        if named_column(expr).is_some_and(|ident| folded(ident) == column) {
            *expr = ast::Expr::Identifier(quoted(new_name));
        }
        ControlFlow::<()>::Continue(())
    });
    Ok(expr.to_string())
}

/// The column that an expression is: bare, or with the table's name before it.
fn named_column(expr: &ast::Expr) -> Option<&ast::Ident> {
    match expr {
        ast::Expr::Identifier(ident) => Some(ident),
        ast::Expr::CompoundIdentifier(parts) => parts.last(),
        _ => None,
    }
}
