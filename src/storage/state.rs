//! All that the catalog says at one moment. Whoever holds a state reads it to the end, whatever is committed meanwhile.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::access::{Access, RoleId};
use super::disk::Stored;
use super::model::{ModelRow, ModelVersion};
use super::relation::{Relation, RelationKind, RelationType, TableId};
use super::rows::Rows;
use super::servers::ForeignServers;
use super::store::display_name;
use crate::error::{Error, Kind, Result};

#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) schemas: BTreeMap<String, Arc<Contents>>,
    pub(super) access: Arc<Access>,
    pub(super) servers: Arc<ForeignServers>,
    /// No two states of a process have the same.
    pub(super) generation: u64,
}

/// What is in a schema.
#[derive(Debug, Clone)]
pub(super) struct Contents {
    pub(super) id: i64,
    pub(super) owner: RoleId,
    pub(super) relations: BTreeMap<String, Relation>,
    pub(super) models: BTreeMap<String, ModelRow>,
}

/// What a change has changed in the database, and a state must show anew.
#[derive(Debug)]
pub(super) enum Touched {
    Schema(String),
    Relation(String, String),
    /// Rows of a table: this is what it has become, and nothing has lost its name.
    Rows(Box<Relation>),
    Model(String, String),
    Access,
    Servers,
}

/// What changes have left behind.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// Tables that are new, or have changed.
    pub(super) changed: HashSet<TableId>,
    /// Tables that are no more.
    pub(super) gone: HashSet<TableId>,
    /// What on disk has lost its name.
    pub(super) stored: Vec<Arc<Stored>>,
}

impl State {
    pub(super) fn read(rows: &Rows<'_>) -> Result<Self> {
        let mut schemas = BTreeMap::new();
        for name in rows.schemas()? {
            if let Some(contents) = rows.schema(&name)? {
                schemas.insert(name, Arc::new(contents));
            }
        }
        let (access, servers) = (Access::read(rows.db)?, ForeignServers::read(rows.db)?);
        Ok(Self { schemas, access: Arc::new(access), servers: Arc::new(servers), generation: next_generation() })
    }

    /// The state after a change of the database, which `rows` reads.
    pub(super) fn take_in(&mut self, touched: Vec<Touched>, rows: &Rows<'_>, left: &mut Left) -> Result<()> {
        if touched.is_empty() {
            return Ok(());
        }
        self.generation = next_generation();
        let (mut before, mut after) = (Vec::new(), Vec::new());
        let (mut tables_before, mut tables_after) = (HashSet::new(), HashSet::new());
        for touched in touched {
            match touched {
                Touched::Schema(name) => {
                    let new = rows.schema(&name)?.map(Arc::new);
                    after.extend(new.iter().flat_map(|contents| contents.stored()));
                    tables_after.extend(new.iter().flat_map(|contents| contents.tables()));
                    let old = put(&mut self.schemas, name, new);
                    before.extend(old.iter().flat_map(|contents| contents.stored()));
                    tables_before.extend(old.iter().flat_map(|contents| contents.tables()));
                }
                Touched::Relation(schema, name) => {
                    let new = rows.relation(&schema, &name)?;
                    after.extend(new.iter().flat_map(Relation::stored));
                    tables_after.extend(new.iter().filter_map(Relation::table));
                    let old = self.contents(&schema).and_then(|contents| put(&mut contents.relations, name, new));
                    before.extend(old.iter().flat_map(Relation::stored));
                    tables_before.extend(old.iter().filter_map(Relation::table));
                }
                Touched::Rows(new) => {
                    left.changed.extend(new.table());
                    if let Some(contents) = self.contents(&new.schema) {
                        contents.relations.insert(new.name.clone(), *new);
                    }
                }
                Touched::Model(schema, name) => {
                    let new = rows.model(&schema, &name)?;
                    after.extend(new.iter().flat_map(ModelRow::stored));
                    let old = self.contents(&schema).and_then(|contents| put(&mut contents.models, name, new));
                    before.extend(old.iter().flat_map(ModelRow::stored));
                }
                Touched::Access => self.access = Arc::new(Access::read(rows.db)?),
                Touched::Servers => self.servers = Arc::new(ForeignServers::read(rows.db)?),
            }
        }
        let named: HashSet<&Path> = after.iter().map(|stored| stored.path()).collect();
        before.retain(|stored| !named.contains(stored.path()));
        tables_before.retain(|table| !tables_after.contains(table));
        left.stored.extend(before);
        left.gone.extend(tables_before);
        left.changed.extend(tables_after);
        Ok(())
    }

    fn contents(&mut self, schema: &str) -> Option<&mut Contents> {
        self.schemas.get_mut(schema).map(Arc::make_mut)
    }

    pub(super) fn relations(&self) -> impl Iterator<Item = &Relation> {
        self.schemas.values().flat_map(|contents| contents.relations.values())
    }

    pub(super) fn models(&self) -> impl Iterator<Item = &ModelRow> {
        self.schemas.values().flat_map(|contents| contents.models.values())
    }

    pub(super) fn relation(&self, schema: &str, name: &str) -> Option<&Relation> {
        self.schemas.get(schema)?.relations.get(name)
    }

    pub(super) fn table(&self, table: TableId) -> Result<&Relation> {
        self.relations().find(|relation| relation.kind == RelationKind::Table(table)).ok_or_else(|| {
            Error::new(Kind::UnknownTable, "the table was dropped or replaced while rows were written to it")
        })
    }

    pub(super) fn model(&self, schema: &str, name: &str) -> Option<&ModelRow> {
        self.schemas.get(schema)?.models.get(name)
    }

    pub(super) fn existing_model(&self, schema: &str, name: &str) -> Result<&ModelRow> {
        self.model(schema, name).ok_or_else(|| {
            let known = self.schemas.get(schema).into_iter().flat_map(|contents| contents.models.keys());
            Error::new(Kind::UnknownModel, format!("model \"{}\" does not exist", display_name(schema, name)))
                .suggest(name, known.map(String::as_str))
        })
    }

    pub(super) fn model_version(&self, schema: &str, name: &str, version: u32) -> Result<(&ModelRow, &ModelVersion)> {
        let model = self.existing_model(schema, name)?;
        let found = model.version(version).ok_or_else(|| {
            let message = format!("model \"{}\" has no version {version}", display_name(schema, name));
            let known: Vec<_> = model.versions.iter().map(|row| row.version.to_string()).collect();
            Error::new(Kind::UnknownModel, message).hint(format!("it has version {}", known.join(", ")))
        })?;
        Ok((model, found))
    }

    pub(super) fn schema_id(&self, name: &str) -> Result<i64> {
        self.schemas.get(name).map(|contents| contents.id).ok_or_else(|| self.unknown_schema(name))
    }

    pub(super) fn unknown_schema(&self, name: &str) -> Error {
        Error::new(Kind::UnknownSchema, format!("schema \"{name}\" does not exist"))
            .suggest(name, self.schemas.keys().map(String::as_str))
    }

    pub(super) fn unknown_relation(&self, schema: &str, name: &str, kind: RelationType) -> Error {
        let known = self.schemas.get(schema).into_iter().flat_map(|contents| contents.relations.keys());
        Error::new(Kind::UnknownTable, format!("{kind} \"{}\" does not exist", display_name(schema, name)))
            .suggest(name, known.map(String::as_str))
    }
}

impl Contents {
    fn tables(&self) -> impl Iterator<Item = TableId> {
        self.relations.values().filter_map(Relation::table)
    }

    fn stored(&self) -> impl Iterator<Item = Arc<Stored>> {
        let relations = self.relations.values().flat_map(Relation::stored);
        relations.chain(self.models.values().flat_map(ModelRow::stored))
    }
}

fn next_generation() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn put<T>(map: &mut BTreeMap<String, T>, name: String, new: Option<T>) -> Option<T> {
    match new {
        Some(new) => map.insert(name, new),
        None => map.remove(&name),
    }
}
