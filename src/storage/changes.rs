//! What happens to the rows of a table: each change is one commit, and makes one version.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::sync::Arc;

use datafusion::arrow::datatypes::{Schema, SchemaRef};
use rusqlite::{Connection, OptionalExtension, params};

use super::catalog::{Found, Writing};
use super::disk::{now_micros, sync_dir};
use super::relation::{DataFile, Relation, Rules, TableId};
use super::rows::{columns_to, table_dir};
use super::state::Touched;
use super::store::{Store, display_name};
use super::writer::{NewFile, TableWriter};
use crate::error::{Error, Kind, Result};

/// A change of a table, whose new rows a [`TableWriter`] holds.
#[derive(Debug)]
pub struct Change {
    pub table: TableId,
    /// What [`Store::history`] says of it: `INSERT`, `UPDATE`, …
    pub operation: &'static str,
    pub replaces: Replaces,
    pub rows: ChangedRows,
    /// What the table is from here on; `None`: what it was.
    pub becomes: Option<Definition>,
}

/// A table without its rows.
#[derive(Debug, Clone)]
pub struct Definition {
    pub columns: SchemaRef,
    pub column_comments: BTreeMap<String, String>,
    pub rules: Rules,
    /// The version that it was made from. If there is a later one by then, it was made from the wrong one.
    pub from: u64,
}

/// What the new rows take the place of.
#[derive(Debug)]
pub enum Replaces {
    Nothing,
    /// All that there is when the change is committed.
    Everything,
    /// These files. If one of them is gone by then, somebody else has changed the same rows.
    Files(Vec<DataFile>),
}

/// How many rows a change has made, changed and taken away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChangedRows {
    pub inserted: u64,
    pub updated: u64,
    pub deleted: u64,
}

impl Change {
    pub fn of_rows(table: TableId, operation: &'static str, replaces: Replaces) -> Self {
        Self { table, operation, replaces, rows: ChangedRows::default(), becomes: None }
    }
}

/// What [`Store::vacuum`] has deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vacuumed {
    pub files: usize,
    pub bytes: u64,
}

impl Store {
    /// Puts rows in place of all that a table has, and answers how many.
    pub fn replace_rows(&self, table: TableId, writer: TableWriter) -> Result<u64> {
        let inserted = writer.rows();
        let rows = ChangedRows { inserted, deleted: self.table(table)?.rows(), ..ChangedRows::default() };
        self.change(Change { rows, ..Change::of_rows(table, "INSERT OVERWRITE", Replaces::Everything) }, writer)?;
        Ok(inserted)
    }

    /// Commits a change. Fails with [`Kind::Conflict`], and has done nothing, where somebody else was faster.
    pub fn change(&self, change: Change, writer: TableWriter) -> Result<()> {
        let (columns, epoch, checks) = (Arc::clone(writer.schema()), writer.epoch, Found::default());
        let files = writer.into_files()?;
        let Change { table, operation, replaces, rows, becomes } = change;
        self.commit_in(Some(epoch), move |writing| {
            let (db, old) = (writing.db, writing.state.table(table)?);
            // Rows were held to the constraints that there were.
            checks.again(old.rules.checks.clone())?;
            if becomes.as_ref().is_some_and(|becomes| becomes.from != old.version) {
                return Err(conflict(old));
            }
            let new_columns = becomes.as_ref().map(|becomes| &becomes.columns);
            must_fit(&columns, new_columns.unwrap_or(&old.columns), &old.name)?;
            let gone = gone(old, &replaces)?;
            if files.is_empty() && gone.is_empty() && becomes.is_none() {
                return Ok(((), vec![]));
            }
            let version = old.version + 1;
            db.execute("UPDATE relations SET version = ?2 WHERE id = ?1", params![table.0, version.cast_signed()])?;
            let described = match &becomes {
                None => old.clone(),
                Some(Definition { columns, column_comments, rules, .. }) => {
                    let (columns, column_comments) = (Arc::clone(columns), column_comments.clone());
                    let new = Relation { columns, column_comments, rules: rules.clone(), ..old.clone() };
                    let sql = "UPDATE relations SET columns = ?2 WHERE id = ?1";
                    db.execute(sql, params![table.0, columns_to(&new.described(&new.columns)?)?])?;
                    new
                }
            };
            let new_columns = becomes.is_some().then(|| described.described(&described.columns)).transpose()?;
            let sql = "UPDATE table_files SET removed = ?3 WHERE table_id = ?1 AND name = ?2";
            for file in &gone {
                db.prepare(sql)?.execute(params![table.0, file.name(), version.cast_signed()])?;
            }
            let added = writing.name_files(table, version, &files)?;
            record_version(db, table, version, operation, rows, new_columns.as_ref())?;
            Ok(((), vec![Touched::Rows(Box::new(described.next(version, added, &gone)))]))
        })
    }

    /// Deletes what only versions need that were no longer the last one at `before`, in microseconds since 1970, UTC. Files
    /// that somebody reads stay until they have been read.
    pub fn vacuum(&self, table: TableId, before: i64) -> Result<Vacuumed> {
        self.commit(move |writing| {
            let sql = "SELECT max(version) FROM table_versions WHERE table_id = ?1 AND committed <= ?2";
            let last: Option<i64> = writing.db.query_row(sql, params![table.0, before], |row| row.get(0))?;
            delete_past(writing.db, writing.state.table(table)?, last.map_or(0, i64::cast_unsigned))
        })
    }

    /// Deletes files of the earliest versions until no more than so many are left that only earlier versions need.
    pub fn vacuum_down_to(&self, table: TableId, files: usize) -> Result<Vacuumed> {
        self.commit(move |writing| {
            let relation = writing.state.table(table)?;
            let mut removed: Vec<u64> = relation.past.iter().filter_map(|file| file.removed).collect();
            removed.sort_unstable();
            let last = removed.len().checked_sub(files + 1).map_or(0, |at| removed[at]);
            delete_past(writing.db, relation, last)
        })
    }
}

impl Writing<'_> {
    /// Moves finished files to their table and names them. The last step of a change: they are the commit's now.
    pub(super) fn name_files(&self, table: TableId, version: u64, files: &[NewFile]) -> Result<Vec<DataFile>> {
        let dir = table_dir(self.root(), table);
        let moves = files.iter().any(|file| !file.draft.is_placed());
        if moves && !dir.exists() {
            fs::create_dir_all(&dir)?;
            sync_dir(&self.root().join("tables"))?;
        }
        let sql = "INSERT INTO table_files (table_id, name, rows, bytes, added, partition)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let mut insert = self.db.prepare(sql)?;
        let mut named = Vec::with_capacity(files.len());
        for file in files {
            let name = file.draft.path().file_name().unwrap_or_default();
            let stored = self.place(&file.draft, dir.join(name))?;
            let numbers = [file.rows, file.bytes, version].map(u64::cast_signed);
            let partition = match file.partition.is_empty() {
                true => None,
                false => Some(serde_json::to_string(&file.partition[..])?),
            };
            let name = name.to_string_lossy();
            insert.execute(params![table.0, name, numbers[0], numbers[1], numbers[2], partition])?;
            let NewFile { rows, bytes, .. } = *file;
            let partition = Arc::clone(&file.partition);
            named.push(DataFile { rows, bytes, added: version, removed: None, partition, stored });
        }
        if moves {
            sync_dir(&dir)?;
        }
        Ok(named)
    }
}

impl Relation {
    /// The table after a change: `added` are new in `version`, `gone` are in it no more.
    pub(super) fn next(mut self, version: u64, added: Vec<DataFile>, gone: &[DataFile]) -> Self {
        let is_gone = |file: &DataFile| gone.iter().any(|gone| Arc::ptr_eq(&gone.stored, &file.stored));
        if !gone.is_empty() {
            let removed = gone.iter().map(|file| DataFile { removed: Some(version), ..file.clone() });
            self.past = self.past.iter().cloned().chain(removed).collect();
        }
        let kept = self.files.iter().filter(|file| gone.is_empty() || !is_gone(file)).cloned();
        self.files = kept.chain(added).collect();
        self.version = version;
        self
    }
}

/// The files that a change takes away, or the conflict that keeps it from doing so.
fn gone(table: &Relation, replaces: &Replaces) -> Result<Vec<DataFile>> {
    match replaces {
        Replaces::Nothing => Ok(Vec::new()),
        Replaces::Everything => Ok(table.files.to_vec()),
        Replaces::Files(files) => {
            let wanted: HashSet<_> = files.iter().map(|file| Arc::as_ptr(&file.stored)).collect();
            let there = table.files.iter().filter(|file| wanted.contains(&Arc::as_ptr(&file.stored)));
            // As they are now: in a transaction they may have been added in another version when this was first done.
            let there: Vec<DataFile> = there.cloned().collect();
            if there.len() == wanted.len() { Ok(there) } else { Err(conflict(table)) }
        }
    }
}

fn conflict(table: &Relation) -> Error {
    let name = display_name(&table.schema, &table.name);
    Error::new(Kind::Conflict, format!("could not change table \"{name}\": somebody else changed it at the same time"))
        .hint("run the statement again, in a transaction all of that")
}

/// Takes the names from files that only versions before `last` need.
fn delete_past(db: &Connection, table: &Relation, last: u64) -> Result<(Vacuumed, Vec<Touched>)> {
    let is_gone = |file: &&DataFile| file.removed.is_some_and(|removed| removed <= last);
    let gone: Vec<&DataFile> = table.past.iter().filter(is_gone).collect();
    let vacuumed = Vacuumed { files: gone.len(), bytes: gone.iter().map(|file| file.bytes).sum() };
    let Some(readable_from) = gone.iter().filter_map(|file| file.removed).max() else {
        return Ok((vacuumed, vec![]));
    };
    for file in gone {
        let sql = "DELETE FROM table_files WHERE table_id = ?1 AND name = ?2";
        db.execute(sql, params![table.id, file.name()])?;
    }
    let sql = "UPDATE relations SET readable_from = ?2 WHERE id = ?1";
    db.execute(sql, params![table.id, readable_from.cast_signed()])?;
    Ok((vacuumed, vec![Touched::Relation(table.schema.clone(), table.name.clone())]))
}

/// Writes the row that says how a version came about. Its time is after that of the version before.
pub(super) fn record_version(
    db: &Connection,
    table: TableId,
    version: u64,
    operation: &str,
    rows: ChangedRows,
    columns: Option<&Schema>,
) -> Result<()> {
    let sql = "SELECT committed FROM table_versions WHERE table_id = ?1 ORDER BY version DESC LIMIT 1";
    let last: Option<i64> = db.prepare(sql)?.query_row([table.0], |row| row.get(0)).optional()?;
    let committed = now_micros().max(last.map_or(0, |last| last + 1));
    let columns = columns.map(columns_to).transpose()?;
    let sql = "INSERT INTO table_versions VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let counts = [rows.inserted, rows.updated, rows.deleted].map(u64::cast_signed);
    db.prepare(sql)?.execute(params![
        table.0,
        version.cast_signed(),
        operation,
        committed,
        counts[0],
        counts[1],
        counts[2],
        columns
    ])?;
    Ok(())
}

/// Rows with these columns can only be those of a table that has them, too.
pub(super) fn must_fit(columns: &Schema, wanted: &Schema, table: &str) -> Result<()> {
    match same_columns(columns, wanted) {
        true => Ok(()),
        false => {
            let message = format!("table \"{table}\" has other columns than the rows written to it");
            Err(Error::new(Kind::WrongType, message))
        }
    }
}

/// The same names, types and NOT NULLs; what the metadata says does not matter to the rows.
fn same_columns(a: &Schema, b: &Schema) -> bool {
    a.fields().len() == b.fields().len()
        && a.fields()
            .iter()
            .zip(b.fields())
            .all(|(a, b)| (a.name(), a.data_type(), a.is_nullable()) == (b.name(), b.data_type(), b.is_nullable()))
}
