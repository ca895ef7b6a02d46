//! The catalog: which schemas, relations and models there are. SQLite keeps it; memory shows it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::arrow::ipc::reader::StreamReader;
use datafusion::arrow::ipc::writer::StreamWriter;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::access::{Access, RoleId};
use super::delta;
use super::disk::Stored;
use super::external::External;
use super::servers::ForeignServers;
use crate::error::{Error, Result};

/// What to run on a catalog of format 0, 1, …; one entry per format, never edited once released.
pub(super) const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE schemas (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL UNIQUE
    ) STRICT;
    CREATE TABLE relations (
        id INTEGER PRIMARY KEY AUTOINCREMENT,   -- names the folder below tables/
        schema_id INTEGER NOT NULL REFERENCES schemas ON DELETE CASCADE,
        name TEXT NOT NULL,
        view_sql TEXT,                          -- NULL: a table
        columns BLOB NOT NULL,                  -- an Arrow schema, as an IPC stream without rows
        comment TEXT,
        version INTEGER NOT NULL DEFAULT 1,     -- one more with each commit
        UNIQUE (schema_id, name)
    ) STRICT;
    CREATE TABLE table_files (
        id INTEGER PRIMARY KEY AUTOINCREMENT,   -- the order of the commits
        table_id INTEGER NOT NULL REFERENCES relations ON DELETE CASCADE,
        name TEXT NOT NULL,
        rows INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        UNIQUE (table_id, name)
    ) STRICT;
    CREATE TABLE models (
        id INTEGER PRIMARY KEY AUTOINCREMENT,   -- names the folder below models/
        schema_id INTEGER NOT NULL REFERENCES schemas ON DELETE CASCADE,
        name TEXT NOT NULL,
        default_version INTEGER NOT NULL,
        next_version INTEGER NOT NULL,          -- grows for ever: a number is never used twice
        created INTEGER NOT NULL,               -- microseconds since 1970, UTC
        UNIQUE (schema_id, name)
    ) STRICT;
    CREATE TABLE model_versions (
        model_id INTEGER NOT NULL REFERENCES models ON DELETE CASCADE,
        version INTEGER NOT NULL,
        model_type TEXT NOT NULL,
        failure TEXT,                           -- NULL: ready
        created INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        hash TEXT NOT NULL,                     -- checksum of manifest.json, which holds those of the parts
        facts TEXT NOT NULL,                    -- JSON
        PRIMARY KEY (model_id, version)
    ) STRICT;
    INSERT INTO schemas (name) VALUES ('public');
",
    "
    CREATE TABLE roles (
        id INTEGER PRIMARY KEY AUTOINCREMENT,   -- an OID for clients: those of Postgres are below 16384
        name TEXT NOT NULL UNIQUE,
        superuser INTEGER NOT NULL,
        login INTEGER NOT NULL,
        create_role INTEGER NOT NULL,
        inherit INTEGER NOT NULL,
        bypass_rls INTEGER NOT NULL,
        connection_limit INTEGER,               -- NULL: none
        verifier TEXT,                          -- SCRAM-SHA-256$4096:salt$StoredKey:ServerKey; NULL: no password
        valid_until INTEGER                     -- microseconds since 1970, UTC
    ) STRICT;
    CREATE TABLE memberships (
        role_id INTEGER NOT NULL REFERENCES roles ON DELETE CASCADE,
        member_id INTEGER NOT NULL REFERENCES roles ON DELETE CASCADE,
        admin INTEGER NOT NULL,
        PRIMARY KEY (role_id, member_id)
    ) STRICT;
    CREATE TABLE grants (
        object_kind TEXT NOT NULL,              -- database, schema, relation, model
        object_id INTEGER NOT NULL,
        column_name TEXT NOT NULL,              -- empty: the whole object
        grantee INTEGER NOT NULL,               -- 0: PUBLIC
        privilege TEXT NOT NULL,
        grantable INTEGER NOT NULL,
        PRIMARY KEY (object_kind, object_id, column_name, grantee, privilege)
    ) STRICT;
    CREATE TABLE default_grants (               -- what is granted on what is yet to be made
        owner INTEGER NOT NULL,                 -- by whom
        schema_id INTEGER NOT NULL,             -- 0: in any
        object_kind TEXT NOT NULL,
        grantee INTEGER NOT NULL,
        privilege TEXT NOT NULL,
        grantable INTEGER NOT NULL,
        PRIMARY KEY (owner, schema_id, object_kind, grantee, privilege)
    ) STRICT;
    CREATE TABLE policies (
        relation_id INTEGER NOT NULL,
        name TEXT NOT NULL,
        restrictive INTEGER NOT NULL,
        roles TEXT NOT NULL,                    -- JSON: numbers, 0 for PUBLIC
        using_sql TEXT NOT NULL,
        PRIMARY KEY (relation_id, name)
    ) STRICT;
    CREATE TABLE login (mock_key BLOB NOT NULL) STRICT;
    ALTER TABLE schemas ADD COLUMN owner INTEGER NOT NULL DEFAULT 10;
    ALTER TABLE relations ADD COLUMN owner INTEGER NOT NULL DEFAULT 10;
    ALTER TABLE relations ADD COLUMN row_security INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE models ADD COLUMN owner INTEGER NOT NULL DEFAULT 10;
    INSERT INTO login VALUES (randomblob(32));
    INSERT INTO roles VALUES (10, 'cohort', 1, 1, 1, 1, 1, NULL, NULL, NULL);
    UPDATE sqlite_sequence SET seq = 16383 WHERE name = 'roles';
    INSERT INTO grants VALUES ('database', 0, '', 0, 'CONNECT', 0), ('database', 0, '', 0, 'TEMPORARY', 0);
    INSERT INTO grants SELECT 'schema', id, '', 0, 'USAGE', 0 FROM schemas WHERE name = 'public';
",
    "
    ALTER TABLE relations ADD COLUMN external TEXT; -- JSON: where its rows are; NULL: here, or in a view's query
",
    "
    CREATE TABLE foreign_servers (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL UNIQUE,
        wrapper TEXT NOT NULL,                  -- postgres, mysql
        options TEXT NOT NULL,                  -- JSON: what anybody may see
        sealed BLOB                             -- JSON, encrypted: what nobody may
    ) STRICT;
    CREATE TABLE user_mappings (
        server_id INTEGER NOT NULL REFERENCES foreign_servers ON DELETE CASCADE,
        role_id INTEGER NOT NULL,               -- 0: everybody who has none
        options TEXT NOT NULL,
        sealed BLOB,
        PRIMARY KEY (server_id, role_id)
    ) STRICT;
",
    "
    CREATE TABLE table_versions (
        table_id INTEGER NOT NULL REFERENCES relations ON DELETE CASCADE,
        version INTEGER NOT NULL,
        operation TEXT NOT NULL,
        committed INTEGER NOT NULL,             -- microseconds since 1970, UTC; later versions are later
        inserted INTEGER NOT NULL,
        updated INTEGER NOT NULL,
        deleted INTEGER NOT NULL,
        columns BLOB,                           -- NULL: as in the version before
        PRIMARY KEY (table_id, version)
    ) STRICT, WITHOUT ROWID;
    ALTER TABLE relations ADD COLUMN readable_from INTEGER NOT NULL DEFAULT 1;
    ALTER TABLE table_files ADD COLUMN added INTEGER NOT NULL DEFAULT 1;    -- the first version that has it
    ALTER TABLE table_files ADD COLUMN removed INTEGER;                     -- the first that has it no more
    UPDATE relations SET readable_from = version;
    INSERT INTO table_versions
        SELECT id, version, 'UPGRADE', CAST(unixepoch('subsec') * 1000000 AS INTEGER), 0, 0, 0, columns
        FROM relations WHERE view_sql IS NULL AND external IS NULL;
    UPDATE table_files SET added = (SELECT version FROM relations WHERE id = table_id);
",
];

/// A table's number: never reused, and the same through every change of name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId(pub(super) i64);

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A table or view as one commit left it.
#[derive(Debug, Clone)]
pub struct Relation {
    /// Never used again, and the same through every change of name.
    pub id: i64,
    pub schema: String,
    pub name: String,
    pub kind: RelationKind,
    pub columns: SchemaRef,
    pub comment: Option<String>,
    /// By column; not all have one.
    pub column_comments: BTreeMap<String, String>,
    pub rules: Rules,
    pub owner: RoleId,
    /// Whether its policies hold for whoever does not own it.
    pub row_security: bool,
    /// In the order they were written. They stay on disk as long as somebody holds them here.
    pub files: Arc<[DataFile]>,
    /// Those of earlier versions, until VACUUM.
    pub past: Arc<[DataFile]>,
    pub version: u64,
    /// The earliest version whose files are all there.
    pub readable_from: u64,
}

/// What the rows of a table are held to, as SQL has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// By column: what it gets where an INSERT gives nothing.
    pub defaults: BTreeMap<String, String>,
    /// By the name of the constraint: what no row may make false.
    pub checks: BTreeMap<String, String>,
}

impl Rules {
    /// The columns with these rules beside them, as they are stored: in the metadata of the schema.
    pub fn beside(&self, columns: &Schema) -> Result<Schema> {
        let mut metadata = columns.metadata().clone();
        for (key, rules) in [(DEFAULTS, &self.defaults), (CHECKS, &self.checks)] {
            match rules.is_empty() {
                true => metadata.remove(key),
                false => metadata.insert(key.to_owned(), serde_json::to_string(rules)?),
            };
        }
        Ok(Schema::new_with_metadata(columns.fields().clone(), metadata))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RelationKind {
    Table(TableId),
    View {
        sql: String,
    },
    /// Its rows are not ours: in files of other programs, or on another server.
    External(Arc<External>),
}

/// A kind of relation without a particular one, as in DROP TABLE or DROP VIEW.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelationType {
    Table,
    View,
    External,
}

impl RelationKind {
    pub fn of(&self) -> RelationType {
        match self {
            RelationKind::Table(_) => RelationType::Table,
            RelationKind::View { .. } => RelationType::View,
            RelationKind::External(_) => RelationType::External,
        }
    }
}

impl fmt::Display for RelationType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RelationType::Table => "table",
            RelationType::View => "view",
            RelationType::External => "external table",
        })
    }
}

impl Relation {
    pub fn rows(&self) -> u64 {
        self.files.iter().map(|file| file.rows).sum()
    }

    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Whether a foreign server has its rows.
    pub fn is_foreign(&self) -> bool {
        matches!(&self.kind, RelationKind::External(external) if external.foreign.is_some())
    }

    fn table(&self) -> Option<TableId> {
        match self.kind {
            RelationKind::Table(table) => Some(table),
            _ => None,
        }
    }

    /// Columns of this table with the comments and rules that it has on them, as they are stored.
    pub(super) fn described(&self, columns: &Schema) -> Result<Schema> {
        let comments = self.column_comments.iter().filter(|(column, _)| columns.field_with_name(column).is_ok());
        let comments: BTreeMap<&String, &String> = comments.collect();
        let metadata = match comments.is_empty() {
            true => HashMap::new(),
            false => HashMap::from([(COMMENTS.to_owned(), serde_json::to_string(&comments)?)]),
        };
        self.rules.beside(&Schema::new_with_metadata(columns.fields().clone(), metadata))
    }

    fn stored(&self) -> impl Iterator<Item = Arc<Stored>> {
        self.files.iter().chain(self.past.iter()).map(|file| Arc::clone(&file.stored))
    }
}

/// One Parquet file of a table.
#[derive(Debug, Clone)]
pub struct DataFile {
    pub rows: u64,
    pub bytes: u64,
    /// The first version that has it, and the first that has it no more.
    pub added: u64,
    pub removed: Option<u64>,
    pub(super) stored: Arc<Stored>,
}

impl DataFile {
    pub fn path(&self) -> &Path {
        self.stored.path()
    }

    /// Its name in the folder of its table.
    pub fn name(&self) -> &str {
        self.path().file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }
}

/// A model with all its versions. Its type is that of the default version.
#[derive(Debug, Clone)]
pub struct ModelRow {
    pub id: i64,
    pub schema: String,
    pub name: String,
    pub owner: RoleId,
    pub model_type: String,
    pub default_version: u32,
    /// Microseconds since 1970, UTC.
    pub created: i64,
    pub versions: Vec<ModelVersion>,
}

#[derive(Debug, Clone)]
pub struct ModelVersion {
    pub version: u32,
    pub model_type: String,
    pub status: Status,
    pub failure: Option<String>,
    pub created: i64,
    pub bytes: u64,
    /// The same for the same artefact: it names what the model learnt.
    pub hash: String,
    pub facts: serde_json::Value,
    pub(super) stored: Arc<Stored>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Ready,
    Failed,
}

impl ModelRow {
    pub fn version(&self, version: u32) -> Option<&ModelVersion> {
        self.versions.iter().find(|row| row.version == version)
    }

    fn stored(&self) -> impl Iterator<Item = Arc<Stored>> {
        self.versions.iter().map(|version| Arc::clone(&version.stored))
    }
}

/// What is in a schema.
#[derive(Debug, Clone)]
pub(super) struct Contents {
    pub(super) id: i64,
    pub(super) owner: RoleId,
    pub(super) relations: BTreeMap<String, Relation>,
    pub(super) models: BTreeMap<String, ModelRow>,
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

/// What a transaction changed, and memory must show anew.
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

/// The same, as the transaction left it; `None` is gone.
enum Fresh {
    Schema(String, Option<Contents>),
    Relation(String, String, Option<Relation>),
    Rows(Box<Relation>),
    Model(String, String, Option<ModelRow>),
    Access(Access),
    Servers(ForeignServers),
}

pub(super) type Schemas = BTreeMap<String, Contents>;

pub(super) struct Catalog {
    root: PathBuf,
    db: Mutex<Db>,
    shown: RwLock<Schemas>,
    access: RwLock<Arc<Access>>,
    servers: RwLock<Arc<ForeignServers>>,
    generation: AtomicU64,
}

struct Db {
    connection: Connection,
    /// Everything on disk that a row names, so that each has one [`Stored`] through all commits.
    stored: HashMap<PathBuf, Arc<Stored>>,
}

impl Catalog {
    /// Opens the catalog below `root`, bringing an older one up to date. `data_exists`: there are tables or models.
    pub(super) fn open(root: &Path, data_exists: bool) -> Result<Self> {
        let mut connection = Connection::open(root.join("catalog.db"))?;
        let format: usize = connection.query_row("PRAGMA user_version", [], |row| row.get::<_, u32>(0))? as usize;
        if format > MIGRATIONS.len() {
            let message = format!(
                "the catalog in \"{}\" was written by a newer cohort: it has format {format}, this one knows {}",
                root.display(),
                MIGRATIONS.len()
            );
            return Err(Error::unsupported(message).hint("start the newer version on this data directory"));
        }
        // Never take a lost catalog for a new one: the sweep would delete every table.
        if format == 0 && data_exists {
            let message = format!("\"{}\" holds tables or models, but no catalog that names them", root.display());
            return Err(
                Error::corrupt(message).hint("put its catalog.db and catalog.db-wal back, or move the data away")
            );
        }
        connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")?;
        for (format, sql) in MIGRATIONS.iter().enumerate().skip(format) {
            let tx = connection.transaction()?;
            tx.execute_batch(sql)?;
            tx.pragma_update(None, "user_version", format as u32 + 1)?;
            tx.commit()?;
        }

        let mut stored = HashMap::new();
        let mut rows = Rows { db: &connection, root, stored: &mut stored };
        let mut schemas = Schemas::new();
        for name in rows.names("SELECT name FROM schemas", &[])? {
            if let Some(contents) = rows.schema(&name)? {
                schemas.insert(name, contents);
            }
        }
        let (access, servers) = (Access::read(&connection)?, ForeignServers::read(&connection)?);
        Ok(Self {
            root: root.to_owned(),
            access: RwLock::new(Arc::new(access)),
            servers: RwLock::new(Arc::new(servers)),
            db: Mutex::new(Db { connection, stored }),
            shown: RwLock::new(schemas),
            generation: AtomicU64::new(0),
        })
    }

    /// The committed state, from memory.
    pub(super) fn show(&self) -> RwLockReadGuard<'_, Schemas> {
        self.shown.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who may do what, from memory.
    pub(super) fn access(&self) -> Arc<Access> {
        Arc::clone(&self.access.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The foreign servers, from memory.
    pub(super) fn servers(&self) -> Arc<ForeignServers> {
        Arc::clone(&self.servers.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many commits there were since the start.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Runs one transaction: all of `change` or nothing of it. Commits come one after the other, so inside `change`
    /// memory shows exactly what the transaction started from.
    pub(super) fn commit<T>(&self, change: impl FnOnce(&Transaction<'_>) -> Result<(T, Vec<Touched>)>) -> Result<T> {
        let mut db: MutexGuard<'_, Db> = self.db.lock().unwrap_or_else(PoisonError::into_inner);
        let Db { connection, stored } = &mut *db;
        let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let (answer, touched) = change(&tx)?;
        let mut rows = Rows { db: &tx, root: &self.root, stored };
        let fresh = touched.into_iter().map(|touched| rows.fresh(touched)).collect::<Result<Vec<_>>>()?;
        tx.commit()?;
        let (gone, tables) = self.replace(fresh);
        for gone in gone {
            stored.remove(gone.path());
            gone.doom();
        }
        tables.into_iter().for_each(|table| delta::remove_log(&table_dir(&self.root, table)));
        Ok(answer)
    }

    /// What memory does not show, asked of the database.
    pub(super) fn read<T>(&self, query: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        query(&self.db.lock().unwrap_or_else(PoisonError::into_inner).connection)
    }

    /// Puts the fresh state into memory and answers what on disk has lost its name, and which tables are no more.
    fn replace(&self, fresh: Vec<Fresh>) -> (Vec<Arc<Stored>>, HashSet<TableId>) {
        let mut before: Vec<Arc<Stored>> = Vec::new();
        let mut after: Vec<Arc<Stored>> = Vec::new();
        let (mut tables_before, mut tables_after) = (HashSet::new(), HashSet::new());
        let mut schemas = self.shown.write().unwrap_or_else(PoisonError::into_inner);
        if !fresh.is_empty() {
            self.generation.fetch_add(1, Ordering::AcqRel);
        }
        for fresh in fresh {
            match fresh {
                Fresh::Schema(name, new) => {
                    after.extend(new.iter().flat_map(Contents::stored));
                    tables_after.extend(new.iter().flat_map(Contents::tables));
                    let old = put(&mut schemas, name, new);
                    tables_before.extend(old.iter().flat_map(Contents::tables));
                    before.extend(old.iter().flat_map(Contents::stored));
                }
                Fresh::Relation(schema, name, new) => {
                    after.extend(new.iter().flat_map(Relation::stored));
                    tables_after.extend(new.iter().filter_map(Relation::table));
                    let relations = schemas.get_mut(&schema).map(|contents| &mut contents.relations);
                    let old = relations.and_then(|relations| put(relations, name, new));
                    tables_before.extend(old.iter().filter_map(Relation::table));
                    before.extend(old.iter().flat_map(Relation::stored));
                }
                Fresh::Rows(new) => {
                    if let Some(contents) = schemas.get_mut(&new.schema) {
                        contents.relations.insert(new.name.clone(), *new);
                    }
                }
                Fresh::Model(schema, name, new) => {
                    after.extend(new.iter().flat_map(ModelRow::stored));
                    let models = schemas.get_mut(&schema).map(|contents| &mut contents.models);
                    let old = models.and_then(|models| put(models, name, new));
                    before.extend(old.iter().flat_map(ModelRow::stored));
                }
                Fresh::Access(new) => *self.access.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new),
                Fresh::Servers(new) => *self.servers.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new),
            }
        }
        let named: HashSet<&Path> = after.iter().map(|stored| stored.path()).collect();
        before.retain(|stored| !named.contains(stored.path()));
        tables_before.retain(|table| !tables_after.contains(table));
        (before, tables_before)
    }
}

fn put<T>(map: &mut BTreeMap<String, T>, name: String, new: Option<T>) -> Option<T> {
    match new {
        Some(new) => map.insert(name, new),
        None => map.remove(&name),
    }
}

/// Reads rows as the nouns above.
struct Rows<'a> {
    db: &'a Connection,
    root: &'a Path,
    stored: &'a mut HashMap<PathBuf, Arc<Stored>>,
}

impl Rows<'_> {
    fn fresh(&mut self, touched: Touched) -> Result<Fresh> {
        Ok(match touched {
            Touched::Schema(name) => {
                let contents = self.schema(&name)?;
                Fresh::Schema(name, contents)
            }
            Touched::Relation(schema, name) => {
                let relation = self.relation(&schema, &name)?;
                Fresh::Relation(schema, name, relation)
            }
            Touched::Rows(relation) => {
                let new = relation.files.iter().filter(|file| file.added == relation.version);
                self.stored.extend(new.map(|file| (file.path().to_owned(), Arc::clone(&file.stored))));
                Fresh::Rows(relation)
            }
            Touched::Model(schema, name) => {
                let model = self.model(&schema, &name)?;
                Fresh::Model(schema, name, model)
            }
            Touched::Access => Fresh::Access(Access::read(self.db)?),
            Touched::Servers => Fresh::Servers(ForeignServers::read(self.db)?),
        })
    }

    fn names(&self, sql: &str, given: &[&dyn rusqlite::ToSql]) -> Result<Vec<String>> {
        let mut query = self.db.prepare(sql)?;
        let names = query.query_map(given, |row| row.get(0))?;
        Ok(names.collect::<rusqlite::Result<_>>()?)
    }

    fn stored(&mut self, path: &Path) -> Arc<Stored> {
        let stored = self.stored.entry(path.to_owned()).or_insert_with(|| Arc::new(Stored::new(path.to_owned())));
        Arc::clone(stored)
    }

    fn schema(&mut self, name: &str) -> Result<Option<Contents>> {
        let sql = "SELECT id, owner FROM schemas WHERE name = ?1";
        let row = self.db.query_row(sql, [name], |row| Ok((row.get(0)?, RoleId(row.get(1)?)))).optional()?;
        let Some((id, owner)) = row else { return Ok(None) };
        let mut contents = Contents { id, owner, relations: BTreeMap::new(), models: BTreeMap::new() };
        for relation in self.names("SELECT name FROM relations WHERE schema_id = ?1", &[&id])? {
            if let Some(row) = self.relation(name, &relation)? {
                contents.relations.insert(relation, row);
            }
        }
        for model in self.names("SELECT name FROM models WHERE schema_id = ?1", &[&id])? {
            if let Some(row) = self.model(name, &model)? {
                contents.models.insert(model, row);
            }
        }
        Ok(Some(contents))
    }

    fn relation(&mut self, schema: &str, name: &str) -> Result<Option<Relation>> {
        let sql = "SELECT r.id, r.view_sql, r.columns, r.comment, r.version, r.owner, r.row_security, r.readable_from,
                          r.external
                   FROM relations r JOIN schemas s ON s.id = r.schema_id WHERE s.name = ?1 AND r.name = ?2";
        let row = self.db.query_row(sql, [schema, name], |row| {
            let columns: Vec<u8> = row.get(2)?;
            let (owner, row_security, external) = (RoleId(row.get(5)?), row.get(6)?, row.get::<_, Option<String>>(8)?);
            let versions: (i64, i64) = (row.get(4)?, row.get(7)?);
            Ok((row.get(0)?, row.get(1)?, columns, row.get(3)?, versions, owner, row_security, external))
        });
        let Some((id, view_sql, columns, comment, versions, owner, row_security, external)) = row.optional()? else {
            return Ok(None);
        };
        let (columns, column_comments, rules) = columns_from(&columns)?;
        let (past, files): (Vec<DataFile>, Vec<DataFile>) =
            self.files(TableId(id))?.into_iter().partition(|file| file.removed.is_some());
        Ok(Some(Relation {
            id,
            owner,
            row_security,
            schema: schema.to_owned(),
            name: name.to_owned(),
            kind: match (view_sql, external) {
                (Some(sql), _) => RelationKind::View { sql },
                (None, Some(external)) => RelationKind::External(Arc::new(serde_json::from_str(&external)?)),
                (None, None) => RelationKind::Table(TableId(id)),
            },
            columns,
            comment,
            column_comments,
            rules,
            files: files.into(),
            past: past.into(),
            version: versions.0.cast_unsigned(),
            readable_from: versions.1.cast_unsigned(),
        }))
    }

    fn files(&mut self, table: TableId) -> Result<Vec<DataFile>> {
        let dir = table_dir(self.root, table);
        let sql = "SELECT name, rows, bytes, added, removed FROM table_files WHERE table_id = ?1 ORDER BY id";
        let mut query = self.db.prepare(sql)?;
        let rows = query.query_map([table.0], |row| {
            let numbers = [row.get::<_, i64>(1)?, row.get(2)?, row.get(3)?];
            Ok((row.get::<_, String>(0)?, numbers.map(i64::cast_unsigned), row.get::<_, Option<i64>>(4)?))
        })?;
        rows.map(|row| {
            let (name, [rows, bytes, added], removed) = row?;
            let removed = removed.map(i64::cast_unsigned);
            Ok(DataFile { rows, bytes, added, removed, stored: self.stored(&dir.join(name)) })
        })
        .collect()
    }

    fn model(&mut self, schema: &str, name: &str) -> Result<Option<ModelRow>> {
        let sql = "SELECT m.id, m.default_version, m.created, m.owner
                   FROM models m JOIN schemas s ON s.id = m.schema_id WHERE s.name = ?1 AND m.name = ?2";
        let row = self
            .db
            .query_row(sql, [schema, name], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, RoleId(row.get(3)?))));
        let Some((id, default_version, created, owner)) = row.optional()? else { return Ok(None) };
        let mut model = ModelRow {
            id,
            schema: schema.to_owned(),
            name: name.to_owned(),
            owner,
            model_type: String::new(),
            default_version,
            created,
            versions: self.versions(id)?,
        };
        model.model_type = model.version(default_version).map(|row| row.model_type.clone()).unwrap_or_default();
        Ok(Some(model))
    }

    fn versions(&mut self, model: i64) -> Result<Vec<ModelVersion>> {
        let sql = "SELECT version, model_type, failure, created, bytes, hash, facts
                   FROM model_versions WHERE model_id = ?1 ORDER BY version";
        let mut query = self.db.prepare(sql)?;
        let mut rows = query.query([model])?;
        let mut versions = Vec::new();
        while let Some(row) = rows.next()? {
            let version = row.get(0)?;
            let failure: Option<String> = row.get(2)?;
            versions.push(ModelVersion {
                version,
                model_type: row.get(1)?,
                status: if failure.is_some() { Status::Failed } else { Status::Ready },
                failure,
                created: row.get(3)?,
                bytes: row.get::<_, i64>(4)?.cast_unsigned(),
                hash: row.get(5)?,
                facts: serde_json::from_str(&row.get::<_, String>(6)?)?,
                stored: self.stored(&version_dir(self.root, model, version)),
            });
        }
        Ok(versions)
    }
}

pub(super) fn table_dir(root: &Path, table: TableId) -> PathBuf {
    root.join("tables").join(table.to_string())
}

pub(super) fn version_dir(root: &Path, model: i64, version: u32) -> PathBuf {
    root.join("models").join(model.to_string()).join(version.to_string())
}

/// Writes a new row of `relations` and answers its number.
pub(super) fn insert_relation(
    tx: &Transaction<'_>,
    schema: i64,
    name: &str,
    view_sql: Option<&str>,
    columns: &Schema,
    owner: RoleId,
) -> Result<i64> {
    let sql = "INSERT INTO relations (schema_id, name, view_sql, columns, owner) VALUES (?1, ?2, ?3, ?4, ?5)";
    tx.execute(sql, params![schema, name, view_sql, columns_to(columns)?, owner.0])?;
    Ok(tx.last_insert_rowid())
}

pub(super) fn columns_to(columns: &Schema) -> Result<Vec<u8>> {
    let mut stream = StreamWriter::try_new(Vec::new(), columns)?;
    stream.finish()?;
    Ok(stream.into_inner()?)
}

/// Sets or removes the comment on a column. Comments are kept beside the columns, in the metadata of the schema.
pub(super) fn comment_on_column(
    tx: &Transaction<'_>,
    relation: &Relation,
    column: &str,
    text: Option<&str>,
) -> Result<()> {
    let mut comments = relation.column_comments.clone();
    match text {
        Some(text) => comments.insert(column.to_owned(), text.to_owned()),
        None => comments.remove(column),
    };
    let columns = Relation { column_comments: comments, ..relation.clone() }.described(&relation.columns)?;
    tx.execute("UPDATE relations SET columns = ?2 WHERE id = ?1", params![relation.id, columns_to(&columns)?])?;
    Ok(())
}

/// Where in the metadata of a relation's schema the comments on its columns are, and its rules.
const COMMENTS: &str = "cohort.comments";
const DEFAULTS: &str = "cohort.defaults";
const CHECKS: &str = "cohort.checks";

/// The columns of a relation, the comments on them and its rules.
pub(super) fn columns_from(bytes: &[u8]) -> Result<(SchemaRef, BTreeMap<String, String>, Rules)> {
    let stream = StreamReader::try_new(bytes, None)
        .map_err(|error| Error::corrupt(format!("the columns of a relation could not be read: {error}")))?;
    let schema = stream.schema();
    let mut metadata = schema.metadata().clone();
    let mut take = |key: &str| match metadata.remove(key) {
        Some(json) => serde_json::from_str(&json),
        None => Ok(BTreeMap::new()),
    };
    let (comments, rules) = (take(COMMENTS)?, Rules { defaults: take(DEFAULTS)?, checks: take(CHECKS)? });
    Ok((Arc::new(Schema::new_with_metadata(schema.fields().clone(), metadata)), comments, rules))
}
