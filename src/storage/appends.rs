//! Rows that are added to tables: those that come at the same time share one commit.
//!
//! What takes long in a commit is to wait for the disk, and one wait serves many. Whoever comes while a commit is under
//! way queues up; the first of them then commits for all.

use std::collections::BTreeMap;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion::arrow::datatypes::SchemaRef;
use rusqlite::{Transaction, params};

use super::catalog::{Relation, TableId, Touched};
use super::changes::{ChangedRows, must_fit, record_version};
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
        let files = writer.into_files()?;
        if files.is_empty() {
            must_fit(&columns, &self.table(table)?)?;
            return Ok(0);
        }
        let outcome = Arc::default();
        lock(&self.appends.waiting).push(Append { table, rows, files, columns, outcome: Arc::clone(&outcome) });
        let _leader = lock(&self.appends.leader);
        if lock(&outcome).is_none() {
            // Nobody has committed for us: we do it for all who wait.
            let together = mem::take(&mut *lock(&self.appends.waiting));
            self.commit_together(together);
        }
        let outcome = lock(&outcome).take();
        outcome.unwrap_or_else(|| Err(Error::internal("nobody committed these rows")))?;
        Ok(rows)
    }

    fn commit_together(&self, together: Vec<Append>) {
        let mut outcomes = Vec::with_capacity(together.len());
        let mut by_table: BTreeMap<TableId, Vec<Append>> = BTreeMap::new();
        for append in together {
            match self.table(append.table).and_then(|relation| must_fit(&append.columns, &relation)) {
                Ok(()) => {
                    outcomes.push((Arc::clone(&append.outcome), append.table));
                    by_table.entry(append.table).or_default().push(append);
                }
                Err(error) => *lock(&append.outcome) = Some(Err(error)),
            }
        }
        let mut failed = BTreeMap::new();
        let committed = self.catalog.commit(|tx| {
            let (mut changed, mut touched) = (Vec::new(), Vec::new());
            for (table, appends) in by_table {
                // A table may have been dropped since it was looked at; the others do not suffer for it.
                match self.table(table) {
                    Ok(old) => {
                        let new = self.append_all(tx, table, old, appends)?;
                        touched.push(Touched::Rows(Box::new(new.clone())));
                        changed.push(new);
                    }
                    Err(error) => {
                        failed.insert(table, error);
                    }
                }
            }
            Ok((changed, touched))
        });
        let changed = match committed {
            Ok(changed) => changed,
            Err(error) => {
                for (outcome, _) in outcomes {
                    *lock(&outcome) = Some(Err(error.clone()));
                }
                return;
            }
        };
        changed.iter().for_each(|relation| self.publish(relation));
        for (outcome, table) in outcomes {
            *lock(&outcome) = Some(failed.get(&table).map_or(Ok(()), |error| Err(error.clone())));
        }
    }

    /// One version with all of these rows.
    fn append_all(
        &self,
        tx: &Transaction<'_>,
        table: TableId,
        old: Relation,
        appends: Vec<Append>,
    ) -> Result<Relation> {
        let version = old.version + 1;
        let sql = "UPDATE relations SET version = ?2 WHERE id = ?1";
        tx.execute(sql, params![table.0, version.cast_signed()])?;
        let inserted = appends.iter().map(|append| append.rows).sum();
        let files = appends.into_iter().flat_map(|append| append.files).collect();
        let added = self.name_files(tx, table, version, files)?;
        let rows = ChangedRows { inserted, ..ChangedRows::default() };
        record_version(tx, table, version, "INSERT", rows, None)?;
        Ok(old.next(version, added, &[]))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
