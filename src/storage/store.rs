//! The data directory: opened by one process at a time, and everything in it that has a name.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::object_store::ObjectStore;
use datafusion::object_store::local::LocalFileSystem;
use rusqlite::{Transaction, params};

use super::access::{DefaultOn, RoleId};
use super::appends::Appends;
use super::catalog::{
    Catalog, Relation, RelationType, Schemas, TableId, Touched, comment_on_column, insert_relation, table_dir,
    version_dir,
};
use super::changes::{ChangedRows, record_version};
use super::delta;
use super::disk::sync_dir;
use super::roles::{forget_rights, grant_defaults, inherit_rights};
use super::secrets::Secrets;
use super::writer::TableWriter;
use crate::error::{Error, Kind, Result};

/// What to do when the name of a new thing is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfExists {
    /// CREATE: refuse.
    Error,
    /// IF NOT EXISTS: leave the old one as it is.
    Keep,
    /// OR REPLACE: put the new one in its place.
    Replace,
}

/// An open data directory. Reads answer from memory; each write is one commit.
pub struct Store {
    root: PathBuf,
    pub(super) catalog: Catalog,
    /// The directory as DataFusion reads it: paths below the root, whatever characters the root has.
    pub(super) objects: Arc<dyn ObjectStore>,
    pub(super) appends: Appends,
    /// Up to which version other readers of Delta tables see each table.
    pub(super) published: Mutex<HashMap<TableId, u64>>,
    pub(super) secrets: Secrets,
    /// Locked as long as the store lives.
    _lock: File,
}

impl Store {
    /// Opens the data directory, or creates it, and sweeps away what was never committed.
    pub fn open(root: &Path) -> Result<Arc<Store>> {
        let given = root;
        for dir in ["tables", "models"] {
            fs::create_dir_all(given.join(dir)).map_err(|error| unusable(given, &error))?;
        }
        let root = given.canonicalize().map_err(|error| unusable(given, &error))?;
        let lock = lock(given)?;
        let data_exists = !folders(&root.join("tables"))?.is_empty() || !folders(&root.join("models"))?.is_empty();
        let catalog = Catalog::open(&root, data_exists)?;
        sweep(&root, &catalog.show())?;
        for dir in ["tables", "models"] {
            fs::create_dir_all(root.join(dir).join("incoming"))?;
        }
        sync_dir(&root)?;
        let objects = LocalFileSystem::new_with_prefix(&root)
            .map_err(|error| Error::new(Kind::Io, format!("could not read the data directory: {error}")))?;
        let store = Store {
            secrets: Secrets::new(&root),
            root,
            catalog,
            objects: Arc::new(objects),
            appends: Appends::default(),
            published: Mutex::default(),
            _lock: lock,
        };
        store.publish_all();
        Ok(Arc::new(store))
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Grows with each commit: what was planned under another number may be out of date.
    pub fn generation(&self) -> u64 {
        self.catalog.generation()
    }

    pub fn schemas(&self) -> Result<Vec<String>> {
        Ok(self.catalog.show().keys().cloned().collect())
    }

    /// Answers whether it was created.
    pub fn create_schema(&self, name: &str, if_not_exists: bool, owner: RoleId) -> Result<bool> {
        self.catalog.commit(|tx| {
            if self.catalog.show().contains_key(name) {
                return match if_not_exists {
                    true => Ok((false, vec![])),
                    false => Err(Error::new(Kind::SchemaExists, format!("schema \"{name}\" already exists"))),
                };
            }
            tx.execute("INSERT INTO schemas (name, owner) VALUES (?1, ?2)", params![name, owner.0])?;
            Ok((true, vec![Touched::Schema(name.to_owned())]))
        })
    }

    /// Answers whether it was there. With `cascade` goes all that is in it.
    pub fn drop_schema(&self, name: &str, if_exists: bool, cascade: bool) -> Result<bool> {
        self.catalog.commit(|tx| {
            let schemas = self.catalog.show();
            let (id, inside) = match schemas.get(name) {
                Some(contents) => (contents.id, contents.relations.len() + contents.models.len()),
                None if if_exists => return Ok((false, vec![])),
                None => return Err(unknown_schema(&schemas, name)),
            };
            drop(schemas);
            if inside > 0 && !cascade {
                let message =
                    format!("cannot drop schema \"{name}\" because {inside} tables, views or models are in it");
                return Err(Error::new(Kind::StillNeeded, message).hint("DROP SCHEMA … CASCADE drops them too"));
            }
            tx.execute("DELETE FROM schemas WHERE id = ?1", [id])?;
            forget_rights(tx)?;
            Ok((true, vec![Touched::Schema(name.to_owned())]))
        })
    }

    /// The tables and views of a schema, by name; none when there is no such schema.
    pub fn relations(&self, schema: &str) -> Result<Vec<Relation>> {
        let schemas = self.catalog.show();
        Ok(schemas.get(schema).map(|contents| contents.relations.values().cloned().collect()).unwrap_or_default())
    }

    pub fn relation(&self, schema: &str, name: &str) -> Result<Option<Relation>> {
        let schemas = self.catalog.show();
        Ok(schemas.get(schema).and_then(|contents| contents.relations.get(name)).cloned())
    }

    /// A view that is replaced keeps its owner, and what was granted on it.
    pub fn create_view(
        &self,
        schema: &str,
        name: &str,
        sql: &str,
        columns: SchemaRef,
        or_replace: bool,
        owner: RoleId,
    ) -> Result<()> {
        self.catalog.commit(|tx| {
            let exists = if or_replace { IfExists::Replace } else { IfExists::Error };
            match self.claim(tx, schema, name, RelationType::View, exists)? {
                Claim::Unwanted => Ok(((), vec![])),
                claim => Ok(((), self.insert(tx, schema, name, Some(sql), &columns, claim, owner)?.1)),
            }
        })
    }

    /// Writes the row of a new relation, or of one that takes the place of another and is treated as it was.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn insert(
        &self,
        tx: &Transaction<'_>,
        schema: &str,
        name: &str,
        view_sql: Option<&str>,
        columns: &Schema,
        claim: Claim,
        owner: RoleId,
    ) -> Result<(i64, Vec<Touched>)> {
        let touched = Touched::Relation(schema.to_owned(), name.to_owned());
        let schema = self.schema_id(schema)?;
        let Claim::Replaces(old) = claim else {
            let id = insert_relation(tx, schema, name, view_sql, columns, owner)?;
            let granted = grant_defaults(tx, DefaultOn::Relations, id, schema, owner)?;
            return Ok((id, [touched].into_iter().chain(granted).collect()));
        };
        let new = insert_relation(tx, schema, name, view_sql, columns, old.owner)?;
        inherit_rights(tx, old.id, new)?;
        tx.execute("UPDATE relations SET row_security = ?2 WHERE id = ?1", params![new, old.row_security])?;
        Ok((new, vec![touched, Touched::Access]))
    }

    /// Answers whether it was there.
    pub fn drop_relation(&self, schema: &str, name: &str, kind: RelationType, if_exists: bool) -> Result<bool> {
        self.catalog.commit(|tx| {
            self.schema_id(schema)?;
            match self.relation(schema, name)? {
                Some(relation) if relation.kind.of() != kind => Err(wrong_kind(schema, name, kind)),
                Some(_) => {
                    delete_relation(tx, self.schema_id(schema)?, name)?;
                    forget_rights(tx)?;
                    Ok((true, vec![Touched::Relation(schema.to_owned(), name.to_owned())]))
                }
                None if if_exists => Ok((false, vec![])),
                None => Err(self.unknown_relation(schema, name, kind)),
            }
        })
    }

    /// Gives a relation another name in its schema.
    pub fn rename_relation(&self, schema: &str, name: &str, new_name: &str, kind: RelationType) -> Result<()> {
        self.catalog.commit(|tx| {
            let id = self.schema_id(schema)?;
            match self.relation(schema, name)? {
                None => return Err(self.unknown_relation(schema, name, kind)),
                Some(relation) if relation.kind.of() != kind => return Err(wrong_kind(schema, name, kind)),
                Some(_) if self.relation(schema, new_name)?.is_some() => return Err(relation_exists(schema, new_name)),
                Some(_) => {}
            }
            let sql = "UPDATE relations SET name = ?3 WHERE schema_id = ?1 AND name = ?2";
            tx.execute(sql, params![id, name, new_name])?;
            let touched = [name, new_name].map(|name| Touched::Relation(schema.to_owned(), name.to_owned()));
            Ok(((), touched.into()))
        })
    }

    /// Sets or removes the comment on a relation.
    pub fn comment(&self, schema: &str, name: &str, text: Option<&str>) -> Result<()> {
        self.catalog.commit(|tx| {
            let id = self.schema_id(schema)?;
            let sql = "UPDATE relations SET comment = ?3 WHERE schema_id = ?1 AND name = ?2";
            match tx.execute(sql, params![id, name, text])? {
                0 => Err(self.unknown_relation(schema, name, RelationType::Table)),
                _ => Ok(((), vec![Touched::Relation(schema.to_owned(), name.to_owned())])),
            }
        })
    }

    /// Sets or removes the comment on a column of a relation.
    pub fn comment_on_column(&self, schema: &str, name: &str, column: &str, text: Option<&str>) -> Result<()> {
        self.catalog.commit(|tx| {
            self.schema_id(schema)?;
            let Some(relation) = self.relation(schema, name)? else {
                return Err(self.unknown_relation(schema, name, RelationType::Table));
            };
            if relation.columns.field_with_name(column).is_err() {
                let message = format!("column \"{column}\" of relation \"{name}\" does not exist");
                let known = relation.columns.fields().iter().map(|field| field.name().as_str());
                return Err(Error::new(Kind::UnknownColumn, message).suggest(column, known));
            }
            comment_on_column(tx, &relation, column, text)?;
            Ok(((), vec![Touched::Relation(schema.to_owned(), name.to_owned())]))
        })
    }

    /// Files for a new table or new rows: nothing shows before it is committed, and dropping it deletes them.
    pub fn writer(self: &Arc<Self>, schema: SchemaRef) -> Result<TableWriter> {
        TableWriter::new(self.root.join("tables").join("incoming"), schema)
    }

    /// A new table with the columns and rows of `writer`. Answers whether it was created. One that is replaced keeps its
    /// owner, and what was granted on it.
    pub fn create_table(
        &self,
        schema: &str,
        name: &str,
        writer: TableWriter,
        exists: IfExists,
        owner: RoleId,
    ) -> Result<bool> {
        let (columns, inserted) = (Arc::clone(writer.schema()), writer.rows());
        let operation = if inserted > 0 { "CREATE TABLE AS SELECT" } else { "CREATE TABLE" };
        let files = writer.into_files()?;
        let created = self.catalog.commit(|tx| {
            let claim = match self.claim(tx, schema, name, RelationType::Table, exists)? {
                Claim::Unwanted => return Ok((false, vec![])),
                claim => claim,
            };
            let (id, touched) = self.insert(tx, schema, name, None, &columns, claim, owner)?;
            self.name_files(tx, TableId(id), 1, files)?;
            let rows = ChangedRows { inserted, ..ChangedRows::default() };
            record_version(tx, TableId(id), 1, operation, rows, Some(&columns))?;
            Ok((true, touched))
        })?;
        if let (true, Some(relation)) = (created, self.relation(schema, name)?) {
            self.publish(&relation);
        }
        Ok(created)
    }

    /// Makes the name free for a new relation, or says that it is not wanted or, by an error, not possible.
    pub(super) fn claim(
        &self,
        tx: &Transaction<'_>,
        schema: &str,
        name: &str,
        kind: RelationType,
        exists: IfExists,
    ) -> Result<Claim> {
        let id = self.schema_id(schema)?;
        match (self.relation(schema, name)?, exists) {
            (None, _) => Ok(Claim::Free),
            (Some(_), IfExists::Error) => Err(relation_exists(schema, name)),
            (Some(_), IfExists::Keep) => Ok(Claim::Unwanted),
            (Some(old), IfExists::Replace) if old.kind.of() != kind => Err(wrong_kind(schema, name, kind)),
            (Some(old), IfExists::Replace) => {
                delete_relation(tx, id, name)?;
                Ok(Claim::Replaces(Box::new(old)))
            }
        }
    }

    pub(super) fn schema_id(&self, name: &str) -> Result<i64> {
        let schemas = self.catalog.show();
        schemas.get(name).map(|contents| contents.id).ok_or_else(|| unknown_schema(&schemas, name))
    }

    fn unknown_relation(&self, schema: &str, name: &str, kind: RelationType) -> Error {
        let schemas = self.catalog.show();
        let known = schemas.get(schema).into_iter().flat_map(|contents| contents.relations.keys());
        Error::new(Kind::UnknownTable, format!("{kind} \"{}\" does not exist", display_name(schema, name)))
            .suggest(name, known.map(String::as_str))
    }
}

/// What became of a name that a new relation wants.
pub(super) enum Claim {
    Free,
    /// It was this one's, which is gone.
    Replaces(Box<Relation>),
    /// It is taken, and the new relation is not needed.
    Unwanted,
}

/// A name as people write it: without the schema where that is the usual one.
pub(super) fn display_name(schema: &str, name: &str) -> String {
    if schema == "public" { name.to_owned() } else { format!("{schema}.{name}") }
}

fn delete_relation(tx: &Transaction<'_>, schema: i64, name: &str) -> Result<()> {
    tx.execute("DELETE FROM relations WHERE schema_id = ?1 AND name = ?2", params![schema, name])?;
    Ok(())
}

fn relation_exists(schema: &str, name: &str) -> Error {
    Error::new(Kind::TableExists, format!("relation \"{}\" already exists", display_name(schema, name)))
}

fn wrong_kind(schema: &str, name: &str, wanted: RelationType) -> Error {
    let article = if wanted == RelationType::External { "an" } else { "a" };
    Error::new(Kind::NotReady, format!("\"{}\" is not {article} {wanted}", display_name(schema, name)))
}

fn unknown_schema(schemas: &Schemas, name: &str) -> Error {
    Error::new(Kind::UnknownSchema, format!("schema \"{name}\" does not exist"))
        .suggest(name, schemas.keys().map(String::as_str))
}

fn unusable(root: &Path, error: &std::io::Error) -> Error {
    Error::new(Kind::Io, format!("could not use data directory \"{}\": {error}", root.display()))
        .hint("name a folder that this user may write to")
}

/// Takes the directory for this process, until the file is closed, be it by a crash.
fn lock(root: &Path) -> Result<File> {
    let unusable = |error: &std::io::Error| unusable(root, error);
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(root.join("LOCK"));
    let mut file = open.map_err(|error| unusable(&error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            file.read_to_string(&mut pid).map_err(|error| unusable(&error))?;
            let who = if pid.trim().is_empty() { String::new() } else { format!(" (pid {})", pid.trim()) };
            let message = format!("data directory \"{}\" is in use by another cohort process{who}", root.display());
            return Err(
                Error::new(Kind::NotReady, message).hint("stop that process, or give this one another data directory")
            );
        }
        Err(TryLockError::Error(error)) => return Err(unusable(&error)),
    }
    let pid = format!("{}\n", std::process::id());
    file.set_len(0).and_then(|()| file.write_all(pid.as_bytes())).map_err(|error| unusable(&error))?;
    Ok(file)
}

/// Deletes what no row names: drafts of a process that died, and what it had no time to delete.
///
/// Only folders named by a number are ours; whatever else people put beside them stays.
fn sweep(root: &Path, schemas: &Schemas) -> Result<()> {
    for kind in ["tables", "models"] {
        let incoming = root.join(kind).join("incoming");
        if incoming.exists() {
            fs::remove_dir_all(incoming)?;
        }
    }
    let relations = || schemas.values().flat_map(|contents| contents.relations.values());
    let tables: HashSet<PathBuf> = relations().map(|row| table_dir(root, TableId(row.id))).collect();
    let named = relations().flat_map(|row| row.files.iter().chain(row.past.iter())).map(|file| file.path());
    let files: HashSet<&Path> = named.collect();
    for dir in folders(&root.join("tables"))? {
        let mut empty = true;
        for entry in fs::read_dir(&dir)? {
            let path = entry?.path();
            let is_log = path.ends_with(delta::LOG) && tables.contains(dir.as_path());
            match is_log || files.contains(path.as_path()) {
                true => empty = false,
                false if path.is_dir() => fs::remove_dir_all(&path)?,
                false => fs::remove_file(&path)?,
            }
        }
        if empty {
            fs::remove_dir(&dir)?;
        }
    }

    let models = schemas.values().flat_map(|contents| contents.models.values());
    let versions: HashSet<PathBuf> =
        models.flat_map(|model| model.versions.iter().map(|row| version_dir(root, model.id, row.version))).collect();
    for dir in folders(&root.join("models"))? {
        let (named, unnamed): (Vec<_>, Vec<_>) = folders(&dir)?.into_iter().partition(|path| versions.contains(path));
        for path in unnamed {
            fs::remove_dir_all(path)?;
        }
        if named.is_empty() {
            fs::remove_dir_all(dir)?;
        }
    }
    Ok(())
}

/// The folders in `dir` that are named by a number.
fn folders(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let number = entry.file_name().to_str().is_some_and(|name| name.parse::<u64>().is_ok());
        if number && entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use crate::storage::RelationKind;
    use datafusion::arrow::array::Int64Array;
    use datafusion::arrow::datatypes::{DataType, Field};
    use datafusion::arrow::record_batch::RecordBatch;

    use super::*;

    fn columns() -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)]))
    }

    fn writer(store: &Arc<Store>, rows: i64) -> TableWriter {
        let mut writer = store.writer(columns()).unwrap();
        let ids = Arc::new(Int64Array::from_iter_values(0..rows));
        writer.write(&RecordBatch::try_new(columns(), vec![ids]).unwrap()).unwrap();
        writer
    }

    fn create(store: &Arc<Store>, name: &str, rows: i64) -> TableId {
        assert!(store.create_table("public", name, writer(store, rows), IfExists::Error, RoleId::FIRST).unwrap());
        id(store, name)
    }

    fn id(store: &Store, name: &str) -> TableId {
        match store.relation("public", name).unwrap().unwrap().kind {
            RelationKind::Table(id) => id,
            other => panic!("{name} is no table: {other:?}"),
        }
    }

    fn rows(store: &Store, name: &str) -> u64 {
        store.relation("public", name).unwrap().unwrap().rows()
    }

    /// All data files below the root, committed or not.
    fn files_on_disk(root: &Path) -> usize {
        let mut found = 0;
        for dir in fs::read_dir(root.join("tables")).unwrap() {
            let entries = fs::read_dir(dir.unwrap().path()).unwrap();
            found += entries.filter(|entry| entry.as_ref().unwrap().path().is_file()).count();
        }
        found
    }

    #[test]
    fn what_was_committed_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.schemas().unwrap(), ["public"]);
        let table = create(&store, "orders", 3);
        store.append(table, writer(&store, 4)).unwrap();
        store.comment("public", "orders", Some("one row per order")).unwrap();
        store.create_view("public", "recent", "SELECT 1", columns(), false, RoleId::FIRST).unwrap();
        store.create_schema("shop", false, RoleId::FIRST).unwrap();
        let before = store.relation("public", "orders").unwrap().unwrap();
        drop(store);

        let store = Store::open(dir.path()).unwrap();
        let after = store.relation("public", "orders").unwrap().unwrap();
        assert_eq!((after.rows(), after.version, after.files.len()), (7, 2, 2));
        assert_eq!((&after.kind, &after.columns, &after.comment), (&before.kind, &before.columns, &before.comment));
        let view = store.relation("public", "recent").unwrap().unwrap();
        assert_eq!(view.kind, RelationKind::View { sql: "SELECT 1".into() });
        assert_eq!(store.schemas().unwrap(), ["public", "shop"]);
        assert_eq!(store.relations("public").unwrap().len(), 2);
        assert_eq!(store.relation("nowhere", "orders").unwrap().map(|row| row.name), None);
    }

    #[test]
    fn a_second_server_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let error = Store::open(dir.path()).map(|_| ()).unwrap_err();
        assert_eq!(error.kind, Kind::NotReady);
        let pid = std::process::id();
        let message =
            format!("data directory \"{}\" is in use by another cohort process (pid {pid})", dir.path().display());
        assert_eq!(error.message, message);
        drop(store);
        Store::open(dir.path()).unwrap();
    }

    #[test]
    fn a_directory_that_cannot_be_is_refused_in_a_sentence() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        let error = Store::open(&dir.path().join("file")).map(|_| ()).unwrap_err();
        assert_eq!(error.kind, Kind::Io);
        assert!(error.message.starts_with("could not use data directory"), "{error}");
    }

    #[test]
    fn a_newer_or_lost_catalog_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        create(&Store::open(dir.path()).unwrap(), "orders", 1);
        let db = rusqlite::Connection::open(dir.path().join("catalog.db")).unwrap();
        db.pragma_update(None, "user_version", 999).unwrap();
        drop(db);
        let error = Store::open(dir.path()).map(|_| ()).unwrap_err();
        assert_eq!(error.kind, Kind::Unsupported, "{error}");

        for file in ["catalog.db", "catalog.db-wal", "catalog.db-shm"] {
            let _ = fs::remove_file(dir.path().join(file));
        }
        let error = Store::open(dir.path()).map(|_| ()).unwrap_err();
        assert_eq!(error.kind, Kind::Corrupt, "{error}");
        assert_eq!(files_on_disk(dir.path()), 1);
    }

    #[test]
    fn files_without_rows_are_swept_and_files_with_rows_stay() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let table = create(&store, "orders", 1);
        drop(store);
        // As a crash leaves them: before the files were moved, before the commit, and of a table that never was.
        let tables = dir.path().join("tables");
        for orphan in [format!("{table}/x.parquet"), "incoming/y.parquet".into(), "77/z.parquet".into()] {
            fs::create_dir_all(tables.join(&orphan).parent().unwrap()).unwrap();
            fs::write(tables.join(orphan), "half a file").unwrap();
        }
        for orphan in ["models/5/1", "models/incoming/m"] {
            fs::create_dir_all(dir.path().join(orphan)).unwrap();
            fs::write(dir.path().join(orphan).join("manifest.json"), "{").unwrap();
        }
        fs::write(tables.join("notes.txt"), "not ours").unwrap();

        let store = Store::open(dir.path()).unwrap();
        fs::remove_file(tables.join("notes.txt")).unwrap();
        assert_eq!(files_on_disk(dir.path()), 1);
        assert_eq!(rows(&store, "orders"), 1);
        assert!(!tables.join("77").exists() && !dir.path().join("models/5").exists());
        assert_eq!(fs::read_dir(dir.path().join("models/incoming")).unwrap().count(), 0);
    }

    #[test]
    fn appends_from_many_threads_all_survive() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let table = create(&store, "orders", 0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..5 {
                        store.append(table, writer(&store, 10)).unwrap();
                        store.relation("public", "orders").unwrap().unwrap();
                    }
                });
            }
        });
        assert_eq!(rows(&store, "orders"), 400);
        drop(store);
        assert_eq!(rows(&Store::open(dir.path()).unwrap(), "orders"), 400);
    }

    #[test]
    fn a_dropped_or_replaced_table_takes_no_more_rows() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let old = create(&store, "orders", 1);
        let late = writer(&store, 5);
        assert!(store.create_table("public", "orders", writer(&store, 2), IfExists::Replace, RoleId::FIRST).unwrap());
        assert_ne!(id(&store, "orders"), old);
        assert_eq!(store.append(old, late).unwrap_err().kind, Kind::UnknownTable);
        assert_eq!(rows(&store, "orders"), 2);
        assert_eq!(files_on_disk(dir.path()), 1);

        let other = Arc::new(Schema::new(vec![Field::new("id", DataType::Int32, false)]));
        let error = store.append(id(&store, "orders"), store.writer(other).unwrap()).unwrap_err();
        assert_eq!(error.kind, Kind::WrongType);
    }

    #[test]
    fn files_outlive_the_table_while_somebody_reads() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let table = create(&store, "orders", 1);
        store.replace_rows(table, writer(&store, 2)).unwrap();
        // What an earlier version needs stays until it is vacuumed.
        assert_eq!((rows(&store, "orders"), files_on_disk(dir.path())), (2, 2));
        store.vacuum(table, i64::MAX).unwrap();
        assert_eq!(files_on_disk(dir.path()), 1);
        let reading = store.relation("public", "orders").unwrap();
        store.replace_rows(table, store.writer(columns()).unwrap()).unwrap();
        store.drop_relation("public", "orders", RelationType::Table, false).unwrap();
        assert_eq!(files_on_disk(dir.path()), 1);
        drop(reading);
        assert_eq!(files_on_disk(dir.path()), 0);
    }

    #[test]
    fn a_renamed_relation_keeps_its_rows() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let table = create(&store, "orders", 3);
        store.rename_relation("public", "orders", "sales", RelationType::Table).unwrap();
        assert_eq!((id(&store, "sales"), rows(&store, "sales")), (table, 3));
        assert!(store.relation("public", "orders").unwrap().is_none());
        assert_eq!(files_on_disk(dir.path()), 1);
    }

    #[test]
    fn names_may_hold_anything() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("Ünï cödé %20 #1? ");
        let long = "x".repeat(200);
        let names = ["Ünï cödé", "it's", "say \"hi\"", "a.b.c", "../../etc", "%", "select", "🛒", &long];
        let store = Store::open(&root).unwrap();
        for name in names {
            create(&store, name, 1);
        }
        drop(store);
        let store = Store::open(&root).unwrap();
        for name in names {
            assert_eq!(rows(&store, name), 1, "{name}");
            assert!(store.drop_relation("public", name, RelationType::Table, false).unwrap());
        }
        assert_eq!(files_on_disk(&root), 0);
    }

    #[test]
    fn taken_and_missing_names_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        create(&store, "orders", 1);
        store.create_view("public", "recent", "SELECT 1", columns(), false, RoleId::FIRST).unwrap();
        let kind = |result: Result<bool>| result.unwrap_err().kind;

        let before = store.generation();
        let empty = || store.writer(columns()).unwrap();
        assert_eq!(
            kind(store.create_table("public", "orders", empty(), IfExists::Error, RoleId::FIRST)),
            Kind::TableExists
        );
        assert_eq!(
            kind(store.create_table("public", "recent", empty(), IfExists::Replace, RoleId::FIRST)),
            Kind::NotReady
        );
        assert!(!store.create_table("public", "orders", empty(), IfExists::Keep, RoleId::FIRST).unwrap());
        assert_eq!(
            kind(store.create_table("nope", "orders", empty(), IfExists::Error, RoleId::FIRST)),
            Kind::UnknownSchema
        );
        assert_eq!(kind(store.drop_relation("public", "orders", RelationType::View, true)), Kind::NotReady);
        assert_eq!(kind(store.drop_relation("public", "nope", RelationType::Table, false)), Kind::UnknownTable);
        assert!(!store.drop_relation("public", "nope", RelationType::Table, true).unwrap());
        assert_eq!(store.comment("public", "nope", None).unwrap_err().kind, Kind::UnknownTable);
        let error = store.drop_relation("public", "order", RelationType::Table, false).unwrap_err();
        assert_eq!(error.hint.as_deref(), Some("did you mean \"orders\"?"));
        assert_eq!(
            store.create_view("public", "recent", "", columns(), false, RoleId::FIRST).unwrap_err().kind,
            Kind::TableExists
        );
        assert_eq!(store.generation(), before);
        store.create_view("public", "recent", "SELECT 2", columns(), true, RoleId::FIRST).unwrap();
        assert_eq!(store.generation(), before + 1);
    }

    #[test]
    fn a_schema_goes_only_when_empty_or_with_all_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        assert!(store.create_schema("shop", false, RoleId::FIRST).unwrap());
        assert!(!store.create_schema("shop", true, RoleId::FIRST).unwrap());
        assert_eq!(store.create_schema("shop", false, RoleId::FIRST).unwrap_err().kind, Kind::SchemaExists);
        store.create_table("shop", "orders", writer(&store, 1), IfExists::Error, RoleId::FIRST).unwrap();
        assert_eq!(store.drop_schema("shop", false, false).unwrap_err().kind, Kind::StillNeeded);
        assert!(store.drop_schema("shop", false, true).unwrap());
        assert!(!store.drop_schema("shop", true, false).unwrap());
        assert_eq!(store.drop_schema("shop", false, false).unwrap_err().kind, Kind::UnknownSchema);
        assert!(store.relation("shop", "orders").unwrap().is_none());
        assert_eq!(files_on_disk(dir.path()), 0);
    }
}
