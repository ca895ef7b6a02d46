//! UPDATE, DELETE, MERGE, and INSERT that returns rows.
//!
//! Such a statement becomes a query that says which rows change, by their numbers, and into what. It is planned, checked
//! and run like any other. Then the files that have such rows are written anew, and one commit puts them in the place of
//! the old ones. Who is slower than another that changes the same files finds them gone, and begins again.

mod apply;
mod merge;
mod query;

pub(super) use merge::spell_nothing;
pub(super) use query::quoted;

use std::sync::Arc;

use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::Statement as Sql;
use datafusion::sql::sqlparser::ast;

use crate::engine::Session;
use crate::engine::definitions::the_table;
use crate::error::{Error, Kind, Result};
use crate::storage::{PolicyCommand, Privilege, Relation, Store};

/// What the columns of the query mean. First is the row's number, except in an INSERT; then the action in a MERGE; then the
/// new values; and at last what is returned.
#[derive(Debug, Clone)]
pub(super) struct RowChange {
    pub(super) schema: String,
    pub(super) table: String,
    pub(super) what: What,
    /// The first of the columns that are returned, which are the last ones; `None`: no rows are.
    pub(super) returning: Option<usize>,
    /// What its role must be allowed, and on which columns of the table.
    needs: Vec<(Privilege, Vec<usize>)>,
}

#[derive(Debug, Clone)]
pub(super) enum What {
    Delete,
    /// New values of these columns of the table.
    Update(Vec<usize>),
    /// Values of all columns.
    Insert,
    /// An [`Action`] by its number, and values of all columns.
    Merge,
}

/// What MERGE does with a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Update = 1,
    Delete = 2,
    Insert = 3,
}

impl Action {
    /// As `merge_action()` has it.
    fn word(self) -> &'static str {
        match self {
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Insert => "INSERT",
        }
    }
}

impl RowChange {
    /// The change that a statement makes, and the query for it in the statement's place; `None`: it makes none.
    pub(super) fn of(session: &Session, sql: &mut Sql) -> Result<Option<Self>> {
        if let Sql::Explain(explain) = sql {
            // What is explained is the query.
            Self::of(session, explain.statement.as_mut())?;
            return Ok(None);
        }
        let Sql::Statement(statement) = sql else { return Ok(None) };
        let (change, query) = match statement.as_mut() {
            ast::Statement::Delete(delete) => query::delete(session, delete)?,
            ast::Statement::Update(update) => query::update(session, update)?,
            ast::Statement::Insert(insert)
                if insert.returning.is_some()
                    || query::reads_values(insert)
                    || query::is_looked_at(session, insert)? =>
            {
                query::insert(session, insert)?
            }
            ast::Statement::Merge(merge) => merge::query(session, merge)?,
            _ => return Ok(None),
        };
        **statement = ast::Statement::Query(Box::new(query));
        Ok(Some(change))
    }

    pub(super) fn word(&self) -> &'static str {
        match self.what {
            What::Delete => "DELETE",
            What::Update(_) => "UPDATE",
            What::Insert => "INSERT",
            What::Merge => "MERGE",
        }
    }

    /// The columns that are returned, of those that the query has.
    pub(super) fn returned(&self, columns: Option<SchemaRef>) -> Option<SchemaRef> {
        let (from, columns) = (self.returning?, columns?);
        Some(Arc::new(Schema::new(columns.fields()[from..].to_vec())))
    }

    pub(super) fn check_rights(&self, session: &Session) -> Result<()> {
        let relation = current(&session.store(), self)?;
        let rights = session.rights()?;
        self.needs.iter().try_for_each(|(privilege, columns)| rights.must_on_columns(&relation, *privilege, columns))
    }

    /// What policies must allow of the rows that its query reads. Rows that are seen and may not be changed fail a MERGE,
    /// which would else take them for missing.
    pub(super) fn reads_for(&self) -> &'static [PolicyCommand] {
        match self.what {
            What::Delete => &[PolicyCommand::Select, PolicyCommand::Delete],
            What::Update(_) => &[PolicyCommand::Select, PolicyCommand::Update],
            What::Insert | What::Merge => &[PolicyCommand::Select],
        }
    }
}

/// The table that a statement wants to change.
fn target(session: &Session, name: &ast::ObjectName, verb: &str) -> Result<Relation> {
    let parts: Vec<String> = name.0.iter().filter_map(|part| part.as_ident()).map(super::statement::folded).collect();
    let reference = super::statement::relation_named(&parts)
        .ok_or_else(|| Error::new(Kind::Syntax, format!("\"{name}\" is not a table's name")))?;
    Ok(the_table(session, &reference, verb)?.1)
}

/// The table as the query of a change reads it, which is the state that is changed.
fn read_by(plan: &LogicalPlan) -> Result<Option<Relation>> {
    let mut found = None;
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Ok(provider) = source_as_provider(&scan.source)
            && let Some(relation) = super::guarded::numbered(provider.as_ref())
        {
            found = Some(relation.clone());
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

/// The table of a change whose query does not read it.
fn current(store: &Store, change: &RowChange) -> Result<Relation> {
    let found = store.relation(&change.schema, &change.table)?;
    found.ok_or_else(|| Error::new(Kind::UnknownTable, format!("relation \"{}\" does not exist", change.table)))
}
