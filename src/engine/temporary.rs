//! Temporary tables: those of one session, which go when it goes.
//!
//! They are stored as others are, in a schema of the session's own, whose name no client can give to another. As long as
//! it has one, its default schema is a path of two: bare names are looked up among its temporary tables first.

use std::borrow::Cow;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::common::{ResolvedTableReference, TableReference};
use datafusion::error::Result as DataFusionResult;
use datafusion::sql::parser::Statement as Sql;
use datafusion::sql::sqlparser::ast::{self, Ident, ObjectNamePart, OnCommit, visit_relations_mut};

use crate::engine::Session;
use crate::engine::catalog::CATALOG;
use crate::engine::session::lock;
use crate::engine::work::not_in_the_way;
use crate::error::{Error, Kind, Result};
use crate::storage::{Change, RelationKind, RelationType, Replaces, Store};

/// How the names of such schemas begin.
pub const PREFIX: &str = Store::TEMPORARY;

/// By this name each session means its own.
const ALIAS: &str = "pg_temp";

/// What a COMMIT does with a temporary table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AtCommit {
    Preserve,
    DeleteRows,
    Drop,
}

/// What a session has of them.
#[derive(Default)]
pub(super) struct Temporary {
    schema: Option<String>,
    /// Tables that a COMMIT does something with.
    at_commit: Vec<(String, AtCommit)>,
}

/// Takes the words out of a CREATE TABLE that make it one of a temporary table, which DataFusion does not know.
pub(super) fn take(sql: &mut Sql) -> Option<AtCommit> {
    let Sql::Statement(statement) = sql else { return None };
    let ast::Statement::CreateTable(table) = statement.as_mut() else { return None };
    let parts: Vec<_> = table.name.0.iter().filter_map(|part| part.as_ident()).collect();
    let in_temporary = matches!(parts.as_slice(), [schema, _] if schema.value.eq_ignore_ascii_case(ALIAS));
    // GLOBAL and LOCAL mean nothing in Postgres either.
    table.global = None;
    if !std::mem::take(&mut table.temporary) && !in_temporary {
        return None;
    }
    Some(match table.on_commit.take() {
        None | Some(OnCommit::PreserveRows) => AtCommit::Preserve,
        Some(OnCommit::DeleteRows) => AtCommit::DeleteRows,
        Some(OnCommit::Drop) => AtCommit::Drop,
    })
}

/// The default schema of a session that has temporary tables.
fn path(temporary: &str, default: &str) -> String {
    format!("\0{temporary}\0{default}")
}

/// The schemas of a path; `None`: it is a schema itself.
fn parts(schema: &str) -> Option<(&str, &str)> {
    schema.strip_prefix('\0')?.split_once('\0')
}

/// The schemas that bare names are looked up in.
pub fn searched(default_schema: &str) -> impl Iterator<Item = &str> {
    let (first, then) = parts(default_schema).map_or((None, default_schema), |(first, then)| (Some(first), then));
    first.into_iter().chain([then])
}

/// The schema that is not for temporary tables.
pub fn lasting(default_schema: &str) -> &str {
    parts(default_schema).map_or(default_schema, |(_, lasting)| lasting)
}

/// Another schema for what is not temporary, where this one was the default.
pub fn with_lasting<'a>(default_schema: &str, lasting: &'a str) -> Cow<'a, str> {
    match parts(default_schema) {
        Some((temporary, _)) => Cow::Owned(path(temporary, lasting)),
        None => Cow::Borrowed(lasting),
    }
}

/// The name with its schema: as written, or else the first that has such a relation.
pub fn resolved(name: TableReference, default_schema: &str, store: &Store) -> ResolvedTableReference {
    let Some((temporary, lasting)) = parts(default_schema) else { return name.resolve(CATALOG, default_schema) };
    match &name {
        TableReference::Bare { table } => {
            let is_there = store.relation(temporary, table).ok().flatten().is_some();
            name.resolve(CATALOG, if is_there { temporary } else { lasting })
        }
        TableReference::Partial { schema, table } if schema.as_ref() == ALIAS => {
            TableReference::partial(temporary, table.as_ref()).resolve(CATALOG, temporary)
        }
        _ => name.resolve(CATALOG, lasting),
    }
}

impl Session {
    /// Writes the name of the session's own schema where a statement says `pg_temp`.
    pub(super) fn spell_temporary(&self, sql: &mut Sql) {
        let Some(schema) = lock(&self.temporary).schema.clone() else { return };
        let Sql::Statement(statement) = sql else { return };
        let _ = visit_relations_mut(statement.as_mut(), |name| {
            if let [ObjectNamePart::Identifier(first), _] = name.0.as_mut_slice()
                && first.value.eq_ignore_ascii_case(ALIAS)
            {
                *first = Ident::with_quote('"', schema.as_str());
            }
            ControlFlow::<()>::Continue(())
        });
    }

    pub(super) fn default_schema(&self) -> String {
        self.context.state_ref().read().config_options().catalog.default_schema.clone()
    }

    fn set_default_schema(&self, schema: String) {
        self.context.state_ref().write().config_mut().options_mut().catalog.default_schema = schema;
    }

    /// The name of a temporary table to be, in the session's schema for them, which is there from here on.
    pub(super) fn temporary_name(&self, name: &TableReference) -> Result<ResolvedTableReference> {
        let identity = self.identity();
        let schema = format!("{PREFIX}{}", identity.backend_pid);
        if name.schema().is_some_and(|named| named != ALIAS && named != schema) {
            let message = "cannot create temporary relation in non-temporary schema";
            return Err(Error::new(Kind::Invalid, message).hint("leave out the schema"));
        }
        self.store().create_schema(&schema, true, identity.session_role)?;
        let default = self.default_schema();
        if parts(&default).is_none() {
            self.set_default_schema(path(&schema, &default));
        }
        lock(&self.temporary).schema = Some(schema.clone());
        Ok(TableReference::partial(schema.as_str(), name.table()).resolve(CATALOG, &schema))
    }

    /// From here on a COMMIT does this with a temporary table.
    pub(super) fn at_commit(&self, table: &str, does: AtCommit) -> Result<()> {
        let mut temporary = lock(&self.temporary);
        temporary.at_commit.retain(|(name, _)| name != table);
        if does != AtCommit::Preserve {
            temporary.at_commit.push((table.to_owned(), does));
        }
        drop(temporary);
        if self.in_block() { Ok(()) } else { self.commit_temporary() }
    }

    /// Does what a COMMIT does with temporary tables.
    pub(super) fn commit_temporary(&self) -> Result<()> {
        let mut temporary = lock(&self.temporary);
        let Some(schema) = temporary.schema.clone() else { return Ok(()) };
        let store = self.store();
        let tables = std::mem::take(&mut temporary.at_commit);
        for (table, does) in tables {
            let Some(relation) = store.relation(&schema, &table)? else { continue };
            match (does, &relation.kind) {
                (AtCommit::Drop, _) => drop(store.drop_relation(&schema, &table, RelationType::Table, true)?),
                (AtCommit::DeleteRows, RelationKind::Table(id)) => {
                    let nothing = store.writer_for(&relation)?;
                    store.change(Change::of_rows(*id, "TRUNCATE", Replaces::Everything), nothing)?;
                    temporary.at_commit.push((table, does));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Drops all temporary tables of the session.
    pub(super) fn drop_temporary(&self) -> Result<()> {
        let Temporary { schema, .. } = std::mem::take(&mut *lock(&self.temporary));
        let Some(schema) = schema else { return Ok(()) };
        let store = self.store();
        not_in_the_way(|| store.drop_schema(&schema, true, true))?;
        let default = self.default_schema();
        self.set_default_schema(lasting(&default).to_owned());
        Ok(())
    }
}

/// Both schemas of a path.
pub struct Path {
    temporary: Option<Arc<dyn SchemaProvider>>,
    lasting: Option<Arc<dyn SchemaProvider>>,
}

impl Path {
    /// The path of that name, of schemas that `schema` finds; `None`: the name is no path's.
    pub fn of(name: &str, schema: impl Fn(&str) -> Option<Arc<dyn SchemaProvider>>) -> Option<Self> {
        let (temporary, lasting) = parts(name)?;
        Some(Self { temporary: schema(temporary), lasting: schema(lasting) })
    }

    fn schemas(&self) -> impl Iterator<Item = &Arc<dyn SchemaProvider>> {
        self.temporary.iter().chain(&self.lasting)
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.schemas()).finish()
    }
}

#[async_trait]
impl SchemaProvider for Path {
    fn table_names(&self) -> Vec<String> {
        self.schemas().flat_map(|schema| schema.table_names()).collect()
    }

    async fn table(&self, name: &str) -> DataFusionResult<Option<Arc<dyn TableProvider>>> {
        for schema in self.schemas() {
            if let Some(table) = schema.table(name).await? {
                return Ok(Some(table));
            }
        }
        Ok(None)
    }

    fn table_exist(&self, name: &str) -> bool {
        self.schemas().any(|schema| schema.table_exist(name))
    }
}
