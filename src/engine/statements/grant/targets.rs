//! What is granted: privileges as they are written, and the objects that they are about.

use datafusion::common::TableReference;
use datafusion::sql::sqlparser::ast::ObjectName;

use crate::engine::Session;
use crate::engine::catalog::CATALOG;
use crate::engine::definitions::resolve;
use crate::engine::fitted::must_get_model;
use crate::engine::rights::{Rights, spoken};
use crate::engine::statement::{folded, relation_named};
use crate::error::{Error, Kind, Result};
use crate::models::ModelName;
use crate::storage::{ModelRow, Object, Privilege, Relation, RelationType, RoleId};

/// A privilege as it is written, and the columns it is about.
#[derive(Debug)]
pub struct Wanted {
    /// `None`: all that there are of such an object.
    pub privilege: Option<String>,
    pub columns: Vec<String>,
}

/// What it is about.
#[derive(Debug)]
pub enum On {
    Relations(Vec<TableReference>),
    RelationsIn(Vec<String>),
    Models(Vec<ModelName>),
    ModelsIn(Vec<String>),
    Schemas(Vec<String>),
    Databases(Vec<String>),
    /// Of these there are none.
    Nothing,
}

/// A table's name as it is looked up: with its schema where one is given.
pub fn table_reference(name: &ObjectName) -> Result<TableReference> {
    let parts: Vec<String> = name.0.iter().filter_map(|part| part.as_ident()).map(folded).collect();
    relation_named(&parts).ok_or_else(|| {
        Error::new(Kind::Syntax, format!("\"{name}\" is not the name of a table")).hint("write name or schema.name")
    })
}

impl Wanted {
    /// The privileges that are meant, of all that there are of such an object.
    pub fn among(&self, all: &[Privilege], kind: &str) -> Result<Vec<Privilege>> {
        let Some(name) = &self.privilege else { return Ok(all.to_vec()) };
        let Some(privilege) = Privilege::parse(name) else {
            return Err(Error::new(Kind::Syntax, format!("unrecognized privilege type \"{name}\""))
                .suggest(name, all.iter().map(|privilege| privilege.name())));
        };
        match all.contains(&privilege) {
            true => Ok(vec![privilege]),
            false if self.columns.is_empty() => {
                let message = format!("invalid privilege type {} for {kind}", privilege.name());
                Err(Error::new(Kind::InvalidGrant, message))
            }
            false => Err(Error::unsupported(format!("{} of single columns is not supported", privilege.name()))),
        }
    }
}

/// Something that rights are about.
pub struct Target {
    pub object: Object,
    pub owner: RoleId,
    /// How it is called: table, model …
    pub kind: &'static str,
    pub name: String,
    /// The privileges that there are of it.
    all: &'static [Privilege],
    columns: Vec<String>,
}

impl Target {
    pub fn privileges(&self, wanted: &Wanted) -> Result<Vec<Privilege>> {
        wanted.among(if wanted.columns.is_empty() { self.all } else { Privilege::ON_COLUMNS }, self.kind)
    }

    /// `None`: the whole.
    pub fn columns(&self, wanted: &Wanted) -> Result<Vec<Option<String>>> {
        if wanted.columns.is_empty() {
            return Ok(vec![None]);
        }
        if !["table", "external table", "foreign table"].contains(&self.kind) {
            return Err(Error::unsupported(format!("columns of a {} cannot be granted", self.kind))
                .hint("make a view of these columns and grant that"));
        }
        for column in &wanted.columns {
            if !self.columns.contains(column) {
                let message = format!("column \"{column}\" of relation \"{}\" does not exist", self.name);
                let known = self.columns.iter().map(String::as_str);
                return Err(Error::new(Kind::UnknownColumn, message).suggest(column, known));
            }
        }
        Ok(wanted.columns.iter().cloned().map(Some).collect())
    }

    fn relation(relation: &Relation) -> Self {
        Self {
            object: Object::Relation(relation.id),
            owner: relation.owner,
            kind: spoken(relation),
            name: relation.name.clone(),
            all: Privilege::ON_RELATIONS,
            columns: relation.columns.fields().iter().map(|field| field.name().clone()).collect(),
        }
    }

    fn model(model: &ModelRow) -> Self {
        let object = Object::Model(model.id);
        let (kind, all) = ("model", Privilege::ON_MODELS);
        Self { object, owner: model.owner, kind, name: model.name.clone(), all, columns: Vec::new() }
    }
}

pub fn targets(session: &Session, rights: &Rights, on: &On) -> Result<Vec<Target>> {
    let store = &session.store();
    let mut targets = Vec::new();
    match on {
        On::Relations(names) => {
            for name in names {
                targets.push(Target::relation(&must_get_relation(session, rights, name)?));
            }
        }
        On::RelationsIn(schemas) => {
            for schema in schemas {
                must_get_schema(session, schema)?;
                targets.extend(store.relations(schema)?.iter().map(Target::relation));
            }
        }
        On::Models(names) => {
            for name in names {
                rights.must_use_schema(&name.schema)?;
                targets.push(Target::model(&must_get_model(store, name)?));
            }
        }
        On::ModelsIn(schemas) => {
            for schema in schemas {
                must_get_schema(session, schema)?;
                targets.extend(store.models()?.iter().filter(|model| model.schema == *schema).map(Target::model));
            }
        }
        On::Schemas(names) => {
            for name in names {
                let (id, owner) = must_get_schema(session, name)?;
                let (kind, all) = ("schema", Privilege::ON_SCHEMAS);
                let object = Object::Schema(id);
                targets.push(Target { object, owner, kind, name: name.clone(), all, columns: Vec::new() });
            }
        }
        On::Databases(names) => {
            for name in names {
                if name != CATALOG {
                    return Err(Error::new(Kind::UnknownDatabase, format!("database \"{name}\" does not exist")));
                }
                let (kind, all, owner) = ("database", Privilege::ON_DATABASE, RoleId::FIRST);
                let object = Object::Database;
                targets.push(Target { object, owner, kind, name: name.clone(), all, columns: Vec::new() });
            }
        }
        On::Nothing => {}
    }
    Ok(targets)
}

pub fn must_get_schema(session: &Session, name: &str) -> Result<(i64, RoleId)> {
    let found = session.store().schema_owner(name);
    found.ok_or_else(|| Error::new(Kind::UnknownSchema, format!("schema \"{name}\" does not exist")))
}

/// The relation of that name, or the error that suggests one near it.
pub fn must_get_relation(session: &Session, rights: &Rights, name: &TableReference) -> Result<Relation> {
    let store = &session.store();
    let name = resolve(session, name);
    rights.must_use_schema(&name.schema)?;
    if let Some(relation) = store.relation(&name.schema, &name.table)? {
        return Ok(relation);
    }
    let relations = store.relations(&name.schema)?;
    Err(Error::new(Kind::UnknownTable, format!("relation \"{}\" does not exist", name.table))
        .suggest(&name.table, relations.iter().map(|relation| relation.name.as_str())))
}

/// The table of that name; a view is refused.
pub fn must_get_table(session: &Session, rights: &Rights, name: &TableReference) -> Result<Relation> {
    let relation = must_get_relation(session, rights, name)?;
    match relation.kind.of() {
        RelationType::Table | RelationType::External => Ok(relation),
        RelationType::View => Err(Error::new(Kind::WrongObject, format!("\"{}\" is not a table", relation.name))),
    }
}
