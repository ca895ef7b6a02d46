//! Rows that are added to tables: those that come at the same time share one commit.
//!
//! What takes long in a commit is to wait for the disk, and one wait serves many. Whoever comes while a commit is under
//! way queues up; the first of them then commits for all.

use std::collections::BTreeMap;
use std::mem;
use std::sync::{Arc, Mutex};

use datafusion::arrow::datatypes::SchemaRef;
use rusqlite::params;

use super::catalog::Writing;
use super::changes::{Change, ChangedRows, Replaces, must_fit, record_version};
use super::directory::Directory;
use super::lock;
use super::relation::{Relation, TableId};
use super::state::Touched;
use super::store::Store;
use super::writer::{NewFile, TableWriter};
use crate::error::{Error, Result};

#[derive(Default)]
pub(super) struct Appends {
    waiting: Mutex<Vec<Append>>,
    /// Held by the one that commits.
    leader: Mutex<()>,
}

/// Rows that wait for their commit, and whoever waits for it with them.
struct Append {
    table: TableId,
    rows: u64,
    files: Vec<NewFile>,
    columns: SchemaRef,
    outcome: Arc<Mutex<Option<Result<()>>>>,
}

impl Store {
    /// Adds rows to a table and answers how many.
    pub fn append(&self, table: TableId, writer: TableWriter) -> Result<u64> {
        let (rows, columns) = (writer.rows(), Arc::clone(writer.schema()));
        if self.is_transaction(writer.epoch)? {
            let inserted = ChangedRows { inserted: rows, ..ChangedRows::default() };
            self.change(Change { rows: inserted, ..Change::of_rows(table, "INSERT", Replaces::Nothing) }, writer)?;
            return Ok(rows);
        }
        let files = writer.into_files()?;
        if files.is_empty() {
            let relation = self.table(table)?;
            must_fit(&columns, &relation.columns, &relation.name)?;
            return Ok(0);
        }
        let (appends, outcome) = (&self.directory.appends, Arc::default());
        lock(&appends.waiting).push(Append { table, rows, files, columns, outcome: Arc::clone(&outcome) });
        let _leader = lock(&appends.leader);
        if lock(&outcome).is_none() {
            // Nobody has committed for us: we do it for all who wait.
            let together = mem::take(&mut *lock(&appends.waiting));
            self.directory.commit_together(together);
        }
        let outcome = lock(&outcome).take();
        outcome.unwrap_or_else(|| Err(Error::internal("nobody committed these rows")))?;
        Ok(rows)
    }
}

impl Directory {
    fn commit_together(&self, together: Vec<Append>) {
        let mut outcomes = Vec::with_capacity(together.len());
        let mut by_table: BTreeMap<TableId, Vec<Append>> = BTreeMap::new();
        let state = self.catalog.state();
        for append in together {
            let fits = |relation: &Relation| must_fit(&append.columns, &relation.columns, &relation.name);
            match state.table(append.table).and_then(fits) {
                Ok(()) => {
                    outcomes.push((Arc::clone(&append.outcome), append.table));
                    by_table.entry(append.table).or_default().push(append);
                }
                Err(error) => *lock(&append.outcome) = Some(Err(error)),
            }
        }
        let committed = self.commit(|writing| {
            let (mut failed, mut touched) = (BTreeMap::new(), Vec::new());
            for (table, appends) in by_table {
                // A table may have been dropped since it was looked at; the others do not suffer for it.
                match writing.state.table(table) {
                    Ok(old) => touched.push(Touched::Rows(Box::new(append_all(writing, table, old, appends)?))),
                    Err(error) => drop(failed.insert(table, error)),
                }
            }
            Ok((failed, touched))
        });
        for (outcome, table) in outcomes {
            *lock(&outcome) = Some(match &committed {
                Ok(failed) => failed.get(&table).map_or(Ok(()), |error| Err(error.clone())),
                Err(error) => Err(error.clone()),
            });
        }
    }
}

/// One version with all of these rows.
fn append_all(writing: &Writing<'_>, table: TableId, old: &Relation, appends: Vec<Append>) -> Result<Relation> {
    let version = old.version + 1;
    let sql = "UPDATE relations SET version = ?2 WHERE id = ?1";
    writing.db.prepare(sql)?.execute(params![table.0, version.cast_signed()])?;
    let inserted = appends.iter().map(|append| append.rows).sum();
    let files: Vec<NewFile> = appends.into_iter().flat_map(|append| append.files).collect();
    let added = writing.name_files(table, version, &files)?;
    let rows = ChangedRows { inserted, ..ChangedRows::default() };
    record_version(writing.db, table, version, "INSERT", rows, None)?;
    Ok(old.clone().next(version, added, &[]))
}
