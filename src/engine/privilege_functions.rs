//! `has_table_privilege` and its like: what a role may do, as clients ask it.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{ScalarValue, TableReference};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::Volatility;
use datafusion::prelude::SessionContext;

use crate::engine::catalog::CATALOG;
use crate::engine::identity::Identity;
use crate::engine::pg_catalog::{FIRST_NUMBER, PUBLIC};
use crate::engine::pg_functions::{Answer, function, texts};
use crate::engine::rights::Rights;
use crate::engine::sight::KeptPlanner;
use crate::engine::temporary;
use crate::error::{Error, Kind, Result};
use crate::models::ModelName;
use crate::storage::{Access, Object, Privilege, Relation, Role, RoleId, Store};

/// What is asked about, after the role and before the privilege.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum About {
    Table,
    Column,
    AnyColumn,
    Schema,
    Database,
    Model,
    Role,
}

impl About {
    /// Arguments without the role.
    fn arguments(self) -> usize {
        if self == Self::Column { 3 } else { 2 }
    }
}

const FUNCTIONS: [(&str, About); 7] = [
    ("has_table_privilege", About::Table),
    ("has_column_privilege", About::Column),
    ("has_any_column_privilege", About::AnyColumn),
    ("has_schema_privilege", About::Schema),
    ("has_database_privilege", About::Database),
    ("has_model_privilege", About::Model),
    ("pg_has_role", About::Role),
];

/// Registers the functions.
pub fn register(context: &SessionContext, store: &Arc<Store>, planner: &Arc<KeptPlanner>) {
    for (name, about) in FUNCTIONS {
        let asked = HasPrivilege { about, store: Arc::clone(store), planner: Arc::clone(planner) };
        let answer = Answer::InSession(Arc::new(move |given, options| {
            let given = given.iter().map(Named::read).collect::<DataFusionResult<Option<Vec<Named>>>>()?;
            let role = Identity::of(options)?.current_role;
            let answer = |given: Vec<Named>| asked.answer(&given, role, &options.catalog.default_schema);
            Ok(ScalarValue::Boolean(given.map(answer).transpose()?.flatten()))
        }));
        let count = about.arguments();
        context.register_udf(function(name, DataType::Boolean, texts(count, count + 1), Volatility::Stable, answer));
    }
}

struct HasPrivilege {
    about: About,
    store: Arc<Store>,
    planner: Arc<KeptPlanner>,
}

/// Something by its name or by its number.
#[derive(Debug)]
enum Named {
    Name(String),
    Oid(i64),
}

impl Named {
    /// `None`: NULL.
    fn read(value: &ScalarValue) -> DataFusionResult<Option<Self>> {
        if value.is_null() {
            return Ok(None);
        }
        if let Some(Some(name)) = value.try_as_str() {
            return Ok(Some(Self::Name(name.to_owned())));
        }
        match value.cast_to(&DataType::Int64)? {
            ScalarValue::Int64(Some(oid)) => Ok(Some(Self::Oid(oid))),
            _ => Ok(None),
        }
    }

    fn name(&self) -> Result<&str> {
        match self {
            Self::Name(name) => Ok(name),
            Self::Oid(oid) => Err(Error::new(Kind::WrongType, format!("a name is wanted here, not {oid}"))),
        }
    }
}

impl HasPrivilege {
    /// `None`: there is nothing of that number.
    fn answer(&self, given: &[Named], current: RoleId, default_schema: &str) -> Result<Option<bool>> {
        let (role, about) = given.split_at(given.len() - self.about.arguments());
        let access = self.store.access();
        let role = match role.first() {
            Some(named) => match find_role(&access, named)? {
                Some(role) => role.id,
                None => return Ok(None),
            },
            None => current,
        };
        let rights = Rights::of(&self.store, &self.planner, role)?;
        let (Some(object), Some(wanted)) = (about.first(), about.last()) else { return Ok(None) };
        let wanted = wanted.name()?;
        match self.about {
            About::Table | About::AnyColumn | About::Column => {
                let Some(relation) = self.relation(object, default_schema)? else {
                    // Everybody reads the system's own tables, and nobody writes them.
                    let is_system = matches!(object, Named::Name(_)) || matches!(object, Named::Oid(..FIRST_NUMBER));
                    return any(wanted, Privilege::ON_RELATIONS, |privilege, _| privilege == Privilege::Select)
                        .map(|may| is_system.then_some(may));
                };
                let column = about.get(1).filter(|_| self.about == About::Column);
                let on = Object::Relation(relation.id);
                any(wanted, Privilege::ON_RELATIONS, |privilege, grantable| match (grantable, self.about) {
                    (true, _) => rights.may_grant(on, relation.owner, privilege),
                    (false, About::Table) => rights.has(on, relation.owner, privilege),
                    (false, _) => {
                        let of_column =
                            |granted: &str| column.is_none_or(|column| is_column(column, granted, &relation));
                        rights.has(on, relation.owner, privilege)
                            || rights.granted(on, privilege).flatten().any(of_column)
                    }
                })
                .map(Some)
            }
            About::Schema => match self.schema(object)? {
                Some((id, owner)) => any(wanted, Privilege::ON_SCHEMAS, |privilege, grantable| match grantable {
                    true => rights.may_grant(Object::Schema(id), owner, privilege),
                    false => rights.has(Object::Schema(id), owner, privilege),
                })
                .map(Some),
                // Of the system's schemas everybody has USAGE.
                None => any(wanted, Privilege::ON_SCHEMAS, |privilege, _| privilege == Privilege::Usage).map(Some),
            },
            About::Database => {
                if let Named::Name(name) = object
                    && name != CATALOG
                {
                    return Err(Error::new(Kind::UnknownDatabase, format!("database \"{name}\" does not exist")));
                }
                any(wanted, Privilege::ON_DATABASE, |privilege, _| {
                    rights.has(Object::Database, RoleId::FIRST, privilege)
                })
                .map(Some)
            }
            About::Model => {
                let name = ModelName::parse(object.name()?)?;
                let model = crate::engine::fitted::must_get_model(&self.store, &name)?;
                let on = Object::Model(model.id);
                any(wanted, Privilege::ON_MODELS, |privilege, _| rights.has(on, model.owner, privilege)).map(Some)
            }
            About::Role => {
                let Some(of) = find_role(&access, object)?.map(|role| role.id) else { return Ok(None) };
                match wanted.to_uppercase().as_str() {
                    "USAGE" => Ok(Some(rights.owns(of))),
                    "MEMBER" | "SET" => Ok(Some(rights.is_superuser() || access.memberships_of(role).contains(&of))),
                    _ => Err(unrecognized(wanted)),
                }
            }
        }
    }

    fn relation(&self, named: &Named, default_schema: &str) -> Result<Option<Relation>> {
        let name = match named {
            Named::Name(name) => temporary::resolved(TableReference::parse_str(name), default_schema, &self.store),
            Named::Oid(oid) => {
                for schema in self.store.schemas()? {
                    let mut relations = self.store.relations(&schema)?.into_iter();
                    if let Some(found) = relations.find(|relation| relation.id + FIRST_NUMBER == *oid) {
                        return Ok(Some(found));
                    }
                }
                return Ok(None);
            }
        };
        let found = self.store.relation(&name.schema, &name.table)?;
        if found.is_none() && self.store.schema_owner(&name.schema).is_some() {
            return Err(Error::new(Kind::UnknownTable, format!("relation \"{}\" does not exist", name.table)));
        }
        Ok(found)
    }

    /// The number and the owner; `None`: it is a schema of the system.
    fn schema(&self, named: &Named) -> Result<Option<(i64, RoleId)>> {
        match named {
            Named::Name(name) => match self.store.schema_owner(name) {
                None if !["pg_catalog", "information_schema", "ml"].contains(&name.as_str()) => {
                    Err(Error::new(Kind::UnknownSchema, format!("schema \"{name}\" does not exist")))
                }
                found => Ok(found),
            },
            Named::Oid(oid) if *oid == i64::from(PUBLIC) => Ok(self.store.schema_owner("public")),
            Named::Oid(oid) => {
                let schemas = self.store.schemas()?;
                let mut known = schemas.iter().filter_map(|name| self.store.schema_owner(name));
                Ok(known.find(|(id, _)| id + FIRST_NUMBER == *oid))
            }
        }
    }
}

fn is_column(column: &Named, granted: &str, relation: &Relation) -> bool {
    match column {
        Named::Name(name) => name == granted,
        Named::Oid(number) => {
            let at = usize::try_from(number - 1).ok();
            at.and_then(|at| relation.columns.fields().get(at)).is_some_and(|field| field.name() == granted)
        }
    }
}

fn find_role<'a>(access: &'a Access, named: &Named) -> Result<Option<&'a Role>> {
    match named {
        Named::Name(name) => access.must_find(name).map(Some),
        Named::Oid(oid) => Ok(access.roles().find(|role| role.id.oid() == *oid)),
    }
}

/// Whether one of the privileges is there, written as `SELECT, INSERT WITH GRANT OPTION`.
fn any(wanted: &str, all: &[Privilege], has: impl Fn(Privilege, bool) -> bool) -> Result<bool> {
    let mut found = false;
    for text in wanted.split(',') {
        let text = text.trim();
        let bare = text.to_uppercase();
        let (name, grantable) = match bare.strip_suffix(" WITH GRANT OPTION") {
            Some(name) => (name.trim().to_owned(), true),
            None => (bare, false),
        };
        match Privilege::parse(&name).filter(|privilege| all.contains(privilege)) {
            Some(privilege) => found |= has(privilege, grantable),
            // Privileges of Postgres about what there is not here: nobody has them.
            None if ["REFERENCES", "TRIGGER", "MAINTAIN"].contains(&name.as_str()) => {}
            None => return Err(unrecognized(text)),
        }
    }
    Ok(found)
}

fn unrecognized(privilege: &str) -> Error {
    Error::invalid(format!("unrecognized privilege type: \"{privilege}\""))
}
