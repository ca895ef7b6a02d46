//! What one session sees of the data directory: what is committed, or what its transaction has made of it.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use datafusion::arrow::datatypes::{Schema, SchemaRef};
use rusqlite::{Connection, params};

use super::access::{DefaultOn, RoleId};
use super::catalog::{Found, Reserved, Writing};
use super::changes::{ChangedRows, record_version};
use super::directory::{Directory, SPILLED};
use super::lock;
use super::partitions::Partitioning;
use super::relation::{Relation, RelationType, TableId};
use super::roles::{forget_rights, grant_defaults, inherit_rights};
use super::rows::{comment_on_column, insert_relation};
use super::state::{State, Touched};
use super::transaction::{Isolation, OpenTransaction};
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

/// An open data directory. Reads answer from memory; each write is one commit, unless a transaction is open.
pub struct Store {
    pub(super) directory: Arc<Directory>,
    session: Mutex<InSession>,
}

#[derive(Default)]
struct InSession {
    open: Option<OpenTransaction>,
    /// Grows with each transaction that begins or ends. A statement that was cancelled may take a moment to notice, and
    /// must not write into the next one.
    epoch: u64,
}

impl InSession {
    /// For what begins or ends here.
    fn next(&mut self) -> &mut Option<OpenTransaction> {
        self.epoch += 1;
        &mut self.open
    }

    fn must_be(&self, epoch: u64) -> Result<()> {
        if self.epoch == epoch { Ok(()) } else { Err(Error::cancelled()) }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({})", self.root().display())
    }
}

impl Store {
    /// How the names of schemas begin that live as long as one session. Those of sessions that did not end are gone at the
    /// next start.
    pub const TEMPORARY: &str = "pg_temp_";

    /// Opens the data directory, or creates it, and sweeps away what was never committed.
    pub fn open(root: &Path) -> Result<Arc<Store>> {
        Ok(Arc::new(Store { directory: Arc::new(Directory::open(root)?), session: Mutex::default() }))
    }

    /// The same data directory, for a session with transactions of its own.
    pub fn for_session(&self) -> Arc<Store> {
        Arc::new(Store { directory: Arc::clone(&self.directory), session: Mutex::default() })
    }

    pub fn root(&self) -> &Path {
        &self.directory.root
    }

    /// The folder for what queries cannot keep in memory.
    pub fn spilled(&self) -> PathBuf {
        self.root().join(SPILLED)
    }

    /// From here on nobody else sees what is changed, until [`Store::commit_transaction`].
    pub fn begin(&self) {
        self.session().next().get_or_insert_default();
    }

    /// A statement of a transaction begins. Fails with [`Kind::Conflict`] if what the transaction has changed can no
    /// longer be committed.
    pub fn enter_statement(&self, isolation: Isolation) -> Result<()> {
        match self.session().open.as_mut() {
            Some(open) => open.enter(&self.directory.catalog, isolation),
            None => Ok(()),
        }
    }

    /// Commits all that the transaction has changed, or nothing of it, and answers which tables these are. It ends,
    /// however this ends.
    pub fn commit_transaction(&self, isolation: Isolation) -> Result<HashSet<TableId>> {
        let Some(open) = self.session().next().take() else { return Ok(HashSet::new()) };
        match open.steps().is_empty() {
            true => Ok(HashSet::new()),
            false => self.directory.commit_all(open.steps(), open.only_on(isolation)),
        }
    }

    /// Takes back all that the transaction has changed.
    pub fn roll_back(&self) {
        let _ = self.session().next().take();
    }

    pub fn set_savepoint(&self) -> Result<()> {
        self.session().open.as_mut().map_or(Ok(()), OpenTransaction::set_savepoint)
    }

    /// Forgets a savepoint, counted from the first one of the transaction, and those after it.
    pub fn release_savepoint(&self, at: usize) -> Result<()> {
        self.session().open.as_mut().map_or(Ok(()), |open| open.release_savepoint(at))
    }

    /// Takes back what was changed since a savepoint, which stays.
    pub fn roll_back_to_savepoint(&self, at: usize) -> Result<()> {
        self.session().next().as_mut().map_or(Ok(()), |open| open.roll_back_to_savepoint(at))
    }

    /// Whether a transaction of anybody has changed a table, and may yet commit it.
    pub fn is_being_changed(&self, table: TableId) -> bool {
        self.directory.catalog.is_being_changed(table)
    }

    /// Whether the open transaction has changed a table.
    pub fn has_changed(&self, table: TableId) -> bool {
        self.session().open.as_ref().is_some_and(|open| open.has_changed(table))
    }

    /// Whether rows that were written in an epoch are a transaction's. Fails if that has ended since: whoever wrote them
    /// was cancelled, and does not know yet.
    pub(super) fn is_transaction(&self, epoch: u64) -> Result<bool> {
        let session = self.session();
        session.must_be(epoch)?;
        Ok(session.open.is_some())
    }

    fn session(&self) -> MutexGuard<'_, InSession> {
        lock(&self.session)
    }

    pub(super) fn state(&self) -> Arc<State> {
        let own = self.session().open.as_ref().and_then(OpenTransaction::state);
        own.unwrap_or_else(|| self.directory.catalog.state())
    }

    /// What the state does not show, asked of the database.
    pub(super) fn read<T>(&self, query: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let session = self.session();
        match session.open.as_ref().and_then(OpenTransaction::db) {
            Some(own) => query(own),
            None => {
                drop(session);
                self.directory.catalog.read(query)
            }
        }
    }

    /// Makes a change: all of it or nothing. In a transaction it is made once more when that is committed, so what it
    /// decides it must decide by what it is given.
    pub(super) fn commit<T>(
        &self,
        change: impl Fn(&Writing<'_>) -> Result<(T, Vec<Touched>)> + Send + Sync + 'static,
    ) -> Result<T> {
        self.commit_in(None, change)
    }

    /// The same, of rows that were written in this epoch.
    pub(super) fn commit_in<T>(
        &self,
        epoch: Option<u64>,
        change: impl Fn(&Writing<'_>) -> Result<(T, Vec<Touched>)> + Send + Sync + 'static,
    ) -> Result<T> {
        let mut session = self.session();
        if let Some(epoch) = epoch {
            session.must_be(epoch)?;
        }
        match session.open.as_mut() {
            Some(open) => open.step(&self.directory.catalog, change),
            None => {
                drop(session);
                self.directory.commit(change)
            }
        }
    }

    /// Differs whenever anything does that the session sees: what was planned under another number may be out of date.
    pub fn generation(&self) -> u64 {
        self.state().generation
    }

    /// How many commits there were since the start, of anybody.
    pub fn commits(&self) -> u64 {
        self.directory.catalog.commits()
    }

    pub fn schemas(&self) -> Result<Vec<String>> {
        Ok(self.state().schemas.keys().cloned().collect())
    }

    /// Answers whether it was created.
    pub fn create_schema(&self, name: &str, if_not_exists: bool, owner: RoleId) -> Result<bool> {
        let (name, number) = (name.to_owned(), Reserved::default());
        self.commit(move |writing| {
            if writing.state.schemas.contains_key(&name) {
                return match if_not_exists {
                    true => Ok((false, vec![])),
                    false => Err(Error::new(Kind::SchemaExists, format!("schema \"{name}\" already exists"))),
                };
            }
            writing.must_have_role(owner)?;
            let id = writing.number("schemas", &number);
            let sql = "INSERT INTO schemas (id, name, owner) VALUES (?1, ?2, ?3)";
            writing.db.execute(sql, params![id, name, owner.0])?;
            Ok((true, vec![Touched::Schema(name.clone())]))
        })
    }

    /// Answers whether it was there. With `cascade` goes all that is in it.
    pub fn drop_schema(&self, name: &str, if_exists: bool, cascade: bool) -> Result<bool> {
        let (name, found) = (name.to_owned(), Found::default());
        self.commit(move |writing| {
            found.again(writing.state.schemas.get(&name).map(|contents| contents.id))?;
            let (id, inside) = match writing.state.schemas.get(&name) {
                Some(contents) => (contents.id, contents.relations.len() + contents.models.len()),
                None if if_exists => return Ok((false, vec![])),
                None => return Err(writing.state.unknown_schema(&name)),
            };
            if inside > 0 && !cascade {
                let message =
                    format!("cannot drop schema \"{name}\" because {inside} tables, views or models are in it");
                return Err(Error::new(Kind::StillNeeded, message).hint("DROP SCHEMA … CASCADE drops them too"));
            }
            writing.db.execute("DELETE FROM schemas WHERE id = ?1", [id])?;
            forget_rights(writing.db)?;
            Ok((true, vec![Touched::Schema(name.clone())]))
        })
    }

    /// The tables and views of a schema, by name; none when there is no such schema.
    pub fn relations(&self, schema: &str) -> Result<Vec<Relation>> {
        let state = self.state();
        let contents = state.schemas.get(schema);
        Ok(contents.map(|contents| contents.relations.values().cloned().collect()).unwrap_or_default())
    }

    pub fn relation(&self, schema: &str, name: &str) -> Result<Option<Relation>> {
        Ok(self.state().relation(schema, name).cloned())
    }

    pub fn table(&self, table: TableId) -> Result<Relation> {
        self.state().table(table).cloned()
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
        let [schema, name, sql] = [schema, name, sql].map(str::to_owned);
        let (number, found) = (Reserved::default(), Found::default());
        self.commit(move |writing| {
            let exists = if or_replace { IfExists::Replace } else { IfExists::Error };
            match writing.claim(&schema, &name, RelationType::View, exists, &found)? {
                Claim::Unwanted => Ok(((), vec![])),
                claim => {
                    let new = NewRelation { schema: &schema, name: &name, view: Some(&sql), columns: &columns, owner };
                    Ok(((), writing.insert(new, claim, &number)?.1))
                }
            }
        })
    }

    /// Answers whether it was there.
    pub fn drop_relation(&self, schema: &str, name: &str, kind: RelationType, if_exists: bool) -> Result<bool> {
        let ([schema, name], found) = ([schema, name].map(str::to_owned), Found::default());
        self.commit(move |writing| {
            let id = writing.state.schema_id(&schema)?;
            found.again(writing.state.relation(&schema, &name).map(|relation| relation.id))?;
            match writing.state.relation(&schema, &name) {
                Some(relation) if relation.kind.of() != kind => Err(wrong_kind(&schema, &name, kind)),
                Some(_) => {
                    delete_relation(writing.db, id, &name)?;
                    forget_rights(writing.db)?;
                    Ok((true, vec![Touched::Relation(schema.clone(), name.clone())]))
                }
                None if if_exists => Ok((false, vec![])),
                None => Err(writing.state.unknown_relation(&schema, &name, kind)),
            }
        })
    }

    /// Gives a relation another name in its schema.
    pub fn rename_relation(&self, schema: &str, name: &str, new_name: &str, kind: RelationType) -> Result<()> {
        let ([schema, name, new_name], found) = ([schema, name, new_name].map(str::to_owned), Found::default());
        self.commit(move |writing| {
            let state = writing.state;
            let id = state.schema_id(&schema)?;
            found.again(state.relation(&schema, &name).map(|relation| relation.id))?;
            match state.relation(&schema, &name) {
                None => return Err(state.unknown_relation(&schema, &name, kind)),
                Some(relation) if relation.kind.of() != kind => return Err(wrong_kind(&schema, &name, kind)),
                Some(_) if state.relation(&schema, &new_name).is_some() => {
                    return Err(relation_exists(&schema, &new_name));
                }
                Some(_) => {}
            }
            let sql = "UPDATE relations SET name = ?3 WHERE schema_id = ?1 AND name = ?2";
            writing.db.execute(sql, params![id, name, new_name])?;
            let touched = [&name, &new_name].map(|name| Touched::Relation(schema.clone(), name.clone()));
            Ok(((), touched.into()))
        })
    }

    /// Sets or removes the comment on a relation.
    pub fn comment(&self, schema: &str, name: &str, text: Option<&str>) -> Result<()> {
        let [schema, name] = [schema, name].map(str::to_owned);
        let text = text.map(str::to_owned);
        self.commit(move |writing| {
            let id = writing.state.schema_id(&schema)?;
            let sql = "UPDATE relations SET comment = ?3 WHERE schema_id = ?1 AND name = ?2";
            match writing.db.execute(sql, params![id, name, text])? {
                0 => Err(writing.state.unknown_relation(&schema, &name, RelationType::Table)),
                _ => Ok(((), vec![Touched::Relation(schema.clone(), name.clone())])),
            }
        })
    }

    /// Sets or removes the comment on a column of a relation.
    pub fn comment_on_column(&self, schema: &str, name: &str, column: &str, text: Option<&str>) -> Result<()> {
        let [schema, name, column] = [schema, name, column].map(str::to_owned);
        let text = text.map(str::to_owned);
        self.commit(move |writing| {
            writing.state.schema_id(&schema)?;
            let Some(relation) = writing.state.relation(&schema, &name) else {
                return Err(writing.state.unknown_relation(&schema, &name, RelationType::Table));
            };
            if relation.columns.field_with_name(&column).is_err() {
                let message = format!("column \"{column}\" of relation \"{name}\" does not exist");
                let known = relation.columns.fields().iter().map(|field| field.name().as_str());
                return Err(Error::new(Kind::UnknownColumn, message).suggest(&column, known));
            }
            comment_on_column(writing.db, relation, &column, text.as_deref())?;
            Ok(((), vec![Touched::Relation(schema.clone(), name.clone())]))
        })
    }

    /// Files for a new table or new rows: nothing shows before it is committed, and dropping it deletes them.
    pub fn writer(&self, schema: SchemaRef) -> Result<TableWriter> {
        let epoch = self.session().epoch;
        Ok(TableWriter::new(self.root().join("tables").join("incoming"), schema)?.in_epoch(epoch))
    }

    /// The same for rows of a table that there is.
    pub fn writer_for(&self, relation: &Relation) -> Result<TableWriter> {
        let partitioning = Partitioning::of(&relation.rules.partitioned_by, &relation.columns)?;
        Ok(self.writer(Arc::clone(&relation.columns))?.partitioned(partitioning))
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
        let (columns, inserted, epoch) = (Arc::clone(writer.schema()), writer.rows(), writer.epoch);
        let operation = if inserted > 0 { "CREATE TABLE AS SELECT" } else { "CREATE TABLE" };
        let (files, number, found) = (writer.into_files()?, Reserved::default(), Found::default());
        let [schema, name] = [schema, name].map(str::to_owned);
        self.commit_in(Some(epoch), move |writing| {
            let claim = match writing.claim(&schema, &name, RelationType::Table, exists, &found)? {
                Claim::Unwanted => return Ok((false, vec![])),
                claim => claim,
            };
            let new = NewRelation { schema: &schema, name: &name, view: None, columns: &columns, owner };
            let (id, touched) = writing.insert(new, claim, &number)?;
            writing.name_files(TableId(id), 1, &files)?;
            let rows = ChangedRows { inserted, ..ChangedRows::default() };
            record_version(writing.db, TableId(id), 1, operation, rows, Some(&columns))?;
            Ok((true, touched))
        })
    }
}

/// A relation that is to be.
pub(super) struct NewRelation<'a> {
    pub(super) schema: &'a str,
    pub(super) name: &'a str,
    /// The query of a view.
    pub(super) view: Option<&'a str>,
    pub(super) columns: &'a Schema,
    /// Whose it is, if it takes the place of no other.
    pub(super) owner: RoleId,
}

/// What became of a name that a new relation wants.
pub(super) enum Claim {
    Free,
    /// It was this one's, which is gone.
    Replaces(Box<Relation>),
    /// It is taken, and the new relation is not needed.
    Unwanted,
}

impl Writing<'_> {
    /// Makes the name free for a new relation, or says that it is not wanted or, by an error, not possible.
    ///
    /// `found`: what is replaced, and how it was, must be what the statement has seen.
    pub(super) fn claim(
        &self,
        schema: &str,
        name: &str,
        kind: RelationType,
        exists: IfExists,
        found: &Found<Option<(i64, u64)>>,
    ) -> Result<Claim> {
        let id = self.state.schema_id(schema)?;
        if exists == IfExists::Replace {
            found.again(self.state.relation(schema, name).map(|relation| (relation.id, relation.version)))?;
        }
        match (self.state.relation(schema, name), exists) {
            (None, _) => Ok(Claim::Free),
            (Some(_), IfExists::Error) => Err(relation_exists(schema, name)),
            (Some(_), IfExists::Keep) => Ok(Claim::Unwanted),
            (Some(old), IfExists::Replace) if old.kind.of() != kind => Err(wrong_kind(schema, name, kind)),
            (Some(old), IfExists::Replace) => {
                delete_relation(self.db, id, name)?;
                Ok(Claim::Replaces(Box::new(old.clone())))
            }
        }
    }

    /// Writes the row of a new relation, or of one that takes the place of another and is treated as it was.
    pub(super) fn insert(&self, new: NewRelation<'_>, claim: Claim, number: &Reserved) -> Result<(i64, Vec<Touched>)> {
        let touched = Touched::Relation(new.schema.to_owned(), new.name.to_owned());
        let (id, schema) = (self.number("relations", number), self.state.schema_id(new.schema)?);
        let Claim::Replaces(old) = claim else {
            self.must_have_role(new.owner)?;
            insert_relation(self.db, id, schema, &new)?;
            let granted = grant_defaults(self.db, DefaultOn::Relations, id, schema, new.owner)?;
            return Ok((id, [touched].into_iter().chain(granted).collect()));
        };
        insert_relation(self.db, id, schema, &NewRelation { owner: old.owner, ..new })?;
        inherit_rights(self.db, old.id, id)?;
        self.db.execute("UPDATE relations SET row_security = ?2 WHERE id = ?1", params![id, old.row_security])?;
        Ok((id, vec![touched, Touched::Access]))
    }
}

/// A name as people write it: without the schema where that is the usual one.
pub(super) fn display_name(schema: &str, name: &str) -> String {
    if schema == "public" { name.to_owned() } else { format!("{schema}.{name}") }
}

fn delete_relation(db: &Connection, schema: i64, name: &str) -> Result<()> {
    db.execute("DELETE FROM relations WHERE schema_id = ?1 AND name = ?2", params![schema, name])?;
    Ok(())
}

fn relation_exists(schema: &str, name: &str) -> Error {
    Error::new(Kind::TableExists, format!("relation \"{}\" already exists", display_name(schema, name)))
}

fn wrong_kind(schema: &str, name: &str, wanted: RelationType) -> Error {
    let article = if wanted == RelationType::External { "an" } else { "a" };
    Error::new(Kind::NotReady, format!("\"{}\" is not {article} {wanted}", display_name(schema, name)))
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;

    use datafusion::arrow::array::Int64Array;
    use datafusion::arrow::datatypes::{DataType, Field};
    use datafusion::arrow::record_batch::RecordBatch;

    use super::*;
    use crate::storage::RelationKind;

    fn columns() -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)]))
    }

    pub(in crate::storage) fn writer(store: &Store, rows: i64) -> TableWriter {
        let mut writer = store.writer(columns()).unwrap();
        let ids = Arc::new(Int64Array::from_iter_values(0..rows));
        writer.write(&RecordBatch::try_new(columns(), vec![ids]).unwrap()).unwrap();
        writer
    }

    pub(in crate::storage) fn create(store: &Store, name: &str, rows: i64) -> TableId {
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
    pub(in crate::storage) fn files_on_disk(root: &Path) -> usize {
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
        assert_ne!(store.generation(), before);
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
