//! What the catalog is made of: schemas, relations and functions, each with the number that clients know it by.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, OnceLock};

use crc64fast::Digest;
use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::{Int32Type, SchemaRef};

use crate::engine::SYSTEM_TABLES;
use crate::engine::pg_catalog::exports::Exports;
use crate::engine::pg_catalog::{information_schema, relations};
use crate::engine::session::lock;
use crate::engine::sight::KeptPlanner;
use crate::engine::system_tables::SystemTables;
use crate::error::Result;
use crate::functions::FUNCTIONS;
use crate::storage::{Access, External, ForeignServers, RelationKind, Role, RoleId, Rules, Store};

/// The first number that is not Postgres' own. What the store keeps is numbered from here on by its row there, so that
/// a number stays with its object for good.
pub const FIRST_NUMBER: i64 = 16_384;
/// Numbers of what every server has and Postgres does not number the same everywhere.
const INFORMATION_SCHEMA: i32 = 13_000;
const ML: i32 = 13_001;
const FIRST_OF_INFORMATION_SCHEMA: i32 = 13_100;
const FIRST_OF_ML: i32 = 13_300;
const FIRST_OF_OURS: i32 = 13_400;
const FIRST_FUNCTION: i32 = 13_600;
pub const PG_CATALOG: i32 = 11;
/// The schema `public` has the number that it has in Postgres.
pub const PUBLIC: i32 = 2_200;
/// The numbers of the tables whose rows have comments.
pub const CLASS_OF_RELATIONS: i32 = 1_259;
pub const CLASS_OF_FUNCTIONS: i32 = 1_255;
pub const CLASS_OF_TYPES: i32 = 1_247;

/// A schema.
#[derive(Debug, Clone)]
pub struct Namespace {
    pub oid: i32,
    /// The number in the store; `None`: it is the system's.
    pub id: Option<i64>,
    pub name: String,
    pub owner: RoleId,
}

/// A table or view.
#[derive(Debug, Clone)]
pub struct Object {
    pub oid: i32,
    /// The number in the store; `None`: it is the system's.
    pub id: Option<i64>,
    pub owner: RoleId,
    /// Whether it has policies that hold.
    pub row_security: bool,
    pub schema: String,
    pub schema_oid: i32,
    pub name: String,
    /// `r` table, `v` view, `f` a table whose rows are elsewhere.
    pub kind: char,
    pub columns: SchemaRef,
    pub comment: Option<String>,
    pub column_comments: BTreeMap<String, String>,
    pub rules: Rules,
    pub rows: u64,
    pub bytes: u64,
    pub view_sql: Option<String>,
    /// Where the rows of one of kind `f` are.
    pub external: Option<Arc<External>>,
}

/// A function of ours.
#[derive(Debug, Clone)]
pub struct Routine {
    pub oid: i32,
    pub name: &'static str,
    pub summary: &'static str,
    pub arguments: Vec<&'static str>,
    /// The columns of its rows; empty: it gives one value.
    pub columns: Vec<&'static str>,
}

/// Numbers from here on are those of defaults and constraints.
const FIRST_OF_RULES: i32 = 1_600_000_000;

/// Everything at one moment.
pub struct Objects {
    pub exports: Arc<Exports>,
    /// Roles, and what was granted to them.
    pub access: Arc<Access>,
    pub namespaces: Vec<Namespace>,
    pub relations: Vec<Object>,
    pub routines: Vec<Routine>,
    /// Foreign servers, and who roles are on them.
    pub servers: Arc<ForeignServers>,
    /// Names of functions that can be called.
    pub callable: Arc<HashSet<String>>,
}

impl Object {
    /// Its CHECK constraints: number, name and condition.
    pub fn checks(&self) -> impl Iterator<Item = (i32, &str, &str)> {
        self.rules.checks.iter().map(|(name, check)| (self.number_of(name), name.as_str(), check.as_str()))
    }

    /// The number of a default or constraint, which the store knows by its name. Where two names had the same number,
    /// clients would show one of them twice.
    pub fn number_of(&self, name: &str) -> i32 {
        let mut digest = Digest::new();
        digest.write(&self.oid.to_le_bytes());
        digest.write(name.as_bytes());
        let spread = digest.sum64() % u64::from(FIRST_OF_RULES.unsigned_abs() / 4);
        FIRST_OF_RULES + i32::try_from(spread).unwrap_or_default()
    }
}

impl Objects {
    pub fn relation(&self, oid: i32) -> Option<&Object> {
        self.relations.iter().find(|object| object.oid == oid)
    }

    pub fn relation_named(&self, schema: &str, name: &str) -> Option<&Object> {
        self.relations.iter().find(|object| object.schema == schema && object.name == name)
    }

    pub fn role(&self, oid: i32) -> Option<&Role> {
        self.access.roles().find(|role| role_number(role.id) == oid)
    }

    /// Relations that are not the system's.
    pub fn of_users(&self) -> impl Iterator<Item = &Object> {
        self.relations
            .iter()
            .filter(|object| object.schema_oid != PG_CATALOG && object.schema_oid != INFORMATION_SCHEMA)
    }
}

/// Where the objects come from.
pub struct Source {
    store: Arc<Store>,
    exports: Arc<Exports>,
    /// Knows all functions; set once they are registered.
    state: Arc<KeptPlanner>,
    callable: OnceLock<Arc<HashSet<String>>>,
    /// The objects as the store's last commit left them.
    latest: Mutex<Option<(u64, Arc<Objects>)>>,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Source")
    }
}

impl Source {
    pub fn new(store: Arc<Store>, exports: Arc<Exports>, state: Arc<KeptPlanner>) -> Self {
        Self { store, exports, state, callable: OnceLock::new(), latest: Mutex::new(None) }
    }

    pub fn exports(&self) -> &Exports {
        &self.exports
    }

    pub fn objects(&self) -> Result<Arc<Objects>> {
        let generation = self.store.generation();
        if let Some((of, objects)) = lock(&self.latest).as_ref()
            && *of == generation
        {
            return Ok(Arc::clone(objects));
        }
        let objects = Arc::new(self.gather()?);
        *lock(&self.latest) = Some((generation, Arc::clone(&objects)));
        Ok(objects)
    }

    fn gather(&self) -> Result<Objects> {
        let system = |oid: i32, name: &str| Namespace { oid, id: None, name: name.to_owned(), owner: RoleId::FIRST };
        let mut namespaces = vec![
            system(PG_CATALOG, "pg_catalog"),
            system(INFORMATION_SCHEMA, "information_schema"),
            system(ML, SystemTables::SCHEMA),
        ];
        let mut objects = self.system_relations()?;
        for name in self.store.schemas()? {
            let Some((id, owner)) = self.store.schema_owner(&name) else { continue };
            let schema_oid = if name == "public" { PUBLIC } else { number(id) };
            for relation in self.store.relations(&name)? {
                let (kind, view_sql, external) = match &relation.kind {
                    RelationKind::Table(_) => ('r', None, None),
                    RelationKind::View { sql } => ('v', Some(sql.clone()), None),
                    RelationKind::External(external) => ('f', None, Some(Arc::clone(external))),
                };
                objects.push(Object {
                    oid: number(relation.id),
                    id: Some(relation.id),
                    owner: relation.owner,
                    row_security: relation.row_security,
                    schema: name.clone(),
                    schema_oid,
                    kind,
                    rows: relation.rows(),
                    bytes: relation.bytes(),
                    name: relation.name,
                    columns: relation.columns,
                    comment: relation.comment,
                    column_comments: relation.column_comments,
                    rules: relation.rules,
                    view_sql,
                    external,
                });
            }
            namespaces.push(Namespace { oid: schema_oid, id: Some(id), name, owner });
        }
        let callable = self.callable.get_or_init(|| Arc::new(self.functions()));
        Ok(Objects {
            exports: Arc::clone(&self.exports),
            access: self.store.access(),
            namespaces,
            relations: objects,
            routines: routines(),
            servers: self.store.foreign_servers(),
            callable: Arc::clone(callable),
        })
    }

    fn functions(&self) -> HashSet<String> {
        let Ok(state) = self.state.get() else { return HashSet::new() };
        let scalars = state.scalar_functions().keys();
        let names = scalars.chain(state.aggregate_functions().keys()).chain(state.window_functions().keys());
        names.chain(state.table_functions().keys()).cloned().collect()
    }

    /// The relations of `pg_catalog`, `information_schema` and `ml`.
    fn system_relations(&self) -> Result<Vec<Object>> {
        let postgres = self.numbers_of_postgres();
        let object = |oid: i32, schema_oid: i32, schema: &str, name: &str, kind: char, columns: SchemaRef| Object {
            oid,
            id: None,
            owner: RoleId::FIRST,
            row_security: false,
            schema: schema.to_owned(),
            schema_oid,
            name: name.to_owned(),
            kind,
            columns,
            comment: None,
            column_comments: BTreeMap::new(),
            rules: Rules::default(),
            rows: 0,
            bytes: 0,
            view_sql: None,
            external: None,
        };
        let ours = relations::RELATIONS.iter().map(|relation| (relation.name, relation.schema()));
        let exported = self.exports.tables.iter().map(|(name, rows)| (*name, rows.schema()));
        let mut objects: Vec<Object> = ours
            .chain(exported.filter(|(name, _)| !relations::RELATIONS.iter().any(|ours| ours.name == *name)))
            .filter(|(name, _)| *name != "pg_get_keywords")
            .zip(FIRST_OF_OURS..)
            .map(|((name, columns), next)| {
                let (oid, kind) = postgres.get(name).copied().unwrap_or((next, 'v'));
                object(oid, PG_CATALOG, "pg_catalog", name, kind, columns)
            })
            .collect();
        objects.extend(information_schema::RELATIONS.iter().zip(FIRST_OF_INFORMATION_SCHEMA..).map(
            |(relation, oid)| {
                object(oid, INFORMATION_SCHEMA, "information_schema", relation.name, 'v', relation.schema())
            },
        ));
        objects.extend(SYSTEM_TABLES.iter().zip(FIRST_OF_ML..).map(|(table, oid)| {
            let mut object = object(oid, ML, SystemTables::SCHEMA, table.name, 'v', table.schema());
            object.comment = Some(table.doc.split_whitespace().collect::<Vec<_>>().join(" "));
            object
        }));
        Ok(objects)
    }

    /// The number and kind that a Postgres gives each of its own relations.
    fn numbers_of_postgres(&self) -> HashMap<String, (i32, char)> {
        const NUMBERS: &[(&str, i32)] = &[
            ("pg_type", 1_247),
            ("pg_attribute", 1_249),
            ("pg_proc", 1_255),
            ("pg_class", 1_259),
            ("pg_authid", 1_260),
            ("pg_auth_members", 1_261),
            ("pg_database", 1_262),
            ("pg_attrdef", 2_604),
            ("pg_constraint", 2_606),
            ("pg_description", 2_609),
            ("pg_index", 2_610),
            ("pg_inherits", 2_611),
            ("pg_language", 2_612),
            ("pg_namespace", 2_615),
            ("pg_operator", 2_617),
            ("pg_rewrite", 2_618),
            ("pg_trigger", 2_620),
            ("pg_cast", 2_605),
            ("pg_am", 2_601),
            ("pg_depend", 2_608),
            ("pg_extension", 3_079),
            ("pg_enum", 3_501),
            ("pg_collation", 3_456),
            ("pg_tablespace", 1_213),
            ("pg_range", 3_541),
            ("pg_sequence", 2_224),
            ("pg_policy", 3_256),
        ];
        NUMBERS.iter().map(|(name, oid)| ((*name).to_owned(), (*oid, 'r'))).collect()
    }
}

/// The number of a row of the store. Numbers of objects have 32 bits; nobody makes two thousand million tables.
fn number(id: i64) -> i32 {
    i32::try_from(id + FIRST_NUMBER).unwrap_or(i32::MAX)
}

pub fn role_number(role: RoleId) -> i32 {
    i32::try_from(role.oid()).unwrap_or(i32::MAX)
}

fn routines() -> Vec<Routine> {
    let routine = |(function, oid): (&&dyn crate::functions::Function, i32)| {
        let doc = function.doc();
        Routine {
            oid,
            name: function.name(),
            summary: doc.summary,
            arguments: doc.arguments.iter().map(|(name, _)| *name).collect(),
            columns: match function.relation() {
                Some(_) => doc.returns.iter().map(|(name, _)| *name).collect(),
                None => Vec::new(),
            },
        }
    };
    FUNCTIONS.iter().zip(FIRST_FUNCTION..).map(routine).collect()
}

/// The numbers and names of the types of Postgres.
pub fn type_names(exports: &Exports) -> HashMap<i32, String> {
    let Some(types) = exports.tables.get("pg_type") else { return HashMap::new() };
    let oids = types.column_by_name("oid").and_then(|oids| oids.as_primitive_opt::<Int32Type>());
    let names = types.column_by_name("typname").and_then(|names| names.as_string_opt::<i32>());
    let (Some(oids), Some(names)) = (oids, names) else { return HashMap::new() };
    oids.iter().flatten().zip(names.iter().flatten().map(str::to_owned)).collect()
}
