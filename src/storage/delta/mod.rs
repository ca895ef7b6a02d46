//! Our tables as others read them: beside its Parquet files each table has the log of a Delta table.
//!
//! The catalog is what counts, and the log follows it: a version is published when it has been committed. What a crash
//! kept from being published is published at the next start, so a reader sees some version, whole, and never one that was
//! not committed. The protocol is at <https://github.com/delta-io/delta/blob/master/PROTOCOL.md>.

mod actions;
mod checkpoint;
mod schema;

use std::collections::HashSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::datatypes::Schema;

use super::directory::Directory;
use super::history::{TableVersion, columns_at, versions_from};
use super::lock;
use super::relation::{Relation, RelationKind, TableId};
use super::rows::table_dir;
use super::store::Store;
use crate::error::Result;

/// The folder of the log in the folder of a table.
pub(super) const LOG: &str = "_delta_log";

/// So many versions lie between two checkpoints, so that a reader never reads many small files.
const CHECKPOINT_EVERY: u64 = 100;

impl Store {
    /// Where a table is, as a Delta table for others to read.
    pub fn location(&self, table: TableId) -> PathBuf {
        table_dir(self.root(), table)
    }
}

impl Directory {
    /// Publishes what was committed of all tables and not published yet.
    pub(super) fn publish_all(&self) {
        let state = self.catalog.state();
        state.relations().filter(|relation| matches!(relation.kind, RelationKind::Table(_))).for_each(|relation| {
            self.publish_table(relation);
        });
    }

    /// Publishes what was committed of these.
    pub(super) fn publish(&self, tables: &HashSet<TableId>) {
        let state = self.catalog.state();
        // What is no longer there has been dropped meanwhile.
        tables.iter().filter_map(|table| state.table(*table).ok()).for_each(|relation| self.publish_table(relation));
    }

    /// Publishes a table's versions up to this one. What keeps it from that keeps nobody else from anything: the next
    /// commit tries again.
    fn publish_table(&self, relation: &Relation) {
        if let Err(error) = self.try_publish(relation) {
            tracing::warn!(table = %relation.name, %error, "the table's Delta log could not be written");
        }
    }

    fn try_publish(&self, relation: &Relation) -> Result<()> {
        let mut published = lock(&self.published);
        let table = TableId(relation.id);
        let log = table_dir(&self.root, table).join(LOG);
        if !schema::can_publish(&relation.columns) {
            return Ok(());
        }
        let next = match published.get(&table) {
            Some(last) => last + 1,
            None => next_version(&log)?,
        };
        if next <= relation.version {
            for version in self.unpublished(table, next, relation.version)? {
                self.write_version(relation, &log, &version)?;
            }
            published.insert(table, relation.version);
        }
        Ok(())
    }

    fn write_version(&self, relation: &Relation, log: &Path, version: &Published) -> Result<()> {
        // The first one only says what the second one is made of.
        let columns = self.catalog.read(|db| columns_at(db, TableId(relation.id), version.number.max(1)))?;
        let (columns, partitioned_by) =
            columns.unwrap_or_else(|| (Arc::clone(&relation.columns), relation.rules.partitioned_by.clone()));
        let described = Described { relation, columns: &columns, partitioned_by: &partitioned_by };
        let lines = actions::of(&described, version);
        write_whole(log, &file_name(version.number, "json"), lines.as_bytes())?;
        if version.number > 0 && version.number.is_multiple_of(CHECKPOINT_EVERY) {
            checkpoint::write(log, &described, version.number)?;
        }
        Ok(())
    }

    /// The versions to publish, from `next` on. Those that the catalog knows nothing of, the first of them with number 0,
    /// which only says that there is a table, have no facts.
    fn unpublished(&self, table: TableId, next: u64, last: u64) -> Result<Vec<Published>> {
        let mut known = self.catalog.read(|db| versions_from(db, table, next))?.into_iter().peekable();
        Ok((next..=last)
            .map(|number| Published { number, facts: known.next_if(|version| version.version == number) })
            .collect())
    }
}

/// A table as it is at one version, but for its files.
struct Described<'a> {
    relation: &'a Relation,
    columns: &'a Schema,
    partitioned_by: &'a [String],
}

/// A version on its way into the log.
struct Published {
    number: u64,
    facts: Option<TableVersion>,
}

/// Deletes the log of a table that is no more.
pub(super) fn remove_log(table: &Path) {
    let removed = fs::remove_dir_all(table.join(LOG));
    if let Err(error) = removed
        && error.kind() != ErrorKind::NotFound
    {
        tracing::warn!(path = %table.display(), %error, "could not delete; the next start will");
    }
    // With its last file the folder goes; while it has one this fails, as it should.
    let _ = fs::remove_dir(table);
}

fn file_name(version: u64, extension: &str) -> String {
    format!("{version:020}.{extension}")
}

/// The first version that the log does not have. Drafts of a process that died are deleted.
fn next_version(log: &Path) -> Result<u64> {
    fs::create_dir_all(log)?;
    let mut next = 0;
    for entry in fs::read_dir(log)? {
        let path = entry?.path();
        let Some((stem, extension)) = path.file_name().and_then(|name| name.to_str()?.split_once('.')) else {
            continue;
        };
        match extension {
            "draft" => fs::remove_file(&path)?,
            "json" => next = next.max(stem.parse::<u64>().map_or(0, |version| version + 1)),
            _ => {}
        }
    }
    // The last one may have lost its end to a crash of the machine: nothing waited for it to reach the disk.
    Ok(next.saturating_sub(1))
}

/// Writes a file that is there whole or not at all.
fn write_whole(log: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let stem = name.split('.').next().unwrap_or(name);
    let draft = log.join(stem).with_extension("draft");
    fs::write(&draft, bytes)?;
    fs::rename(&draft, log.join(name))?;
    Ok(())
}
