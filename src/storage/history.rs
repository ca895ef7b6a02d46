//! The versions of a table: how each came about, and the table as it was then.

use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use rusqlite::{OptionalExtension, params};

use super::catalog::{DataFile, Relation, TableId, columns_from};
use super::changes::ChangedRows;
use super::store::{Store, display_name};
use crate::error::{Error, Kind, Result};

/// How a version of a table came about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableVersion {
    pub version: u64,
    /// `CREATE TABLE`, `INSERT`, `UPDATE`, …
    pub operation: String,
    /// Microseconds since 1970, UTC. Later versions are later.
    pub committed: i64,
    pub rows: ChangedRows,
}

/// Which version of a table is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    Version(u64),
    /// The last one committed at this time or before, in microseconds since 1970, UTC.
    Time(i64),
}

impl Store {
    /// The versions of a table, the first one first.
    pub fn history(&self, table: TableId) -> Result<Vec<TableVersion>> {
        self.catalog.read(|db| {
            let sql = "SELECT version, operation, committed, inserted, updated, deleted
                       FROM table_versions WHERE table_id = ?1 ORDER BY version";
            let mut query = db.prepare(sql)?;
            let rows = query.query_map([table.0], |row| {
                let count = |at| row.get::<_, i64>(at).map(i64::cast_unsigned);
                Ok(TableVersion {
                    version: count(0)?,
                    operation: row.get(1)?,
                    committed: row.get(2)?,
                    rows: ChangedRows { inserted: count(3)?, updated: count(4)?, deleted: count(5)? },
                })
            })?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// The table as it was.
    pub fn at(&self, relation: &Relation, moment: Moment) -> Result<Relation> {
        let table = TableId(relation.id);
        let name = display_name(&relation.schema, &relation.name);
        let range = format!("it can be read from version {} to {}", relation.readable_from, relation.version);
        let version = match moment {
            Moment::Version(version) => version,
            Moment::Time(time) => self
                .version_at(table, time)?
                .ok_or_else(|| Error::invalid(format!("table \"{name}\" did not exist then")).hint(range.clone()))?,
        };
        if version > relation.version || version == 0 {
            return Err(Error::invalid(format!("table \"{name}\" has no version {version}")).hint(range));
        }
        if version < relation.readable_from {
            let message = format!("version {version} of table \"{name}\" was vacuumed away");
            return Err(Error::new(Kind::Invalid, message).hint(range));
        }
        let mut files: Vec<DataFile> =
            relation.past.iter().chain(relation.files.iter()).filter(|file| file.is_in(version)).cloned().collect();
        // Names grow with time.
        files.sort_by(|a, b| a.name().cmp(b.name()));
        let columns = self.columns_at(table, version)?.unwrap_or_else(|| Arc::clone(&relation.columns));
        Ok(Relation { files: files.into(), columns, version, ..relation.clone() })
    }

    fn version_at(&self, table: TableId, time: i64) -> Result<Option<u64>> {
        self.catalog.read(|db| {
            let sql = "SELECT version FROM table_versions WHERE table_id = ?1 AND committed <= ?2
                       ORDER BY version DESC LIMIT 1";
            let version = db.query_row(sql, params![table.0, time], |row| row.get::<_, i64>(0)).optional()?;
            Ok(version.map(i64::cast_unsigned))
        })
    }

    /// The columns that a version has; `None`: it is not known.
    pub(super) fn columns_at(&self, table: TableId, version: u64) -> Result<Option<SchemaRef>> {
        self.catalog.read(|db| {
            let sql = "SELECT columns FROM table_versions
                       WHERE table_id = ?1 AND version <= ?2 AND columns IS NOT NULL ORDER BY version DESC LIMIT 1";
            let bytes: Option<Vec<u8>> =
                db.query_row(sql, params![table.0, version.cast_signed()], |row| row.get(0)).optional()?;
            Ok(bytes.map(|bytes| columns_from(&bytes)).transpose()?.map(|(columns, ..)| columns))
        })
    }
}

impl DataFile {
    /// Whether a version has it.
    pub fn is_in(&self, version: u64) -> bool {
        self.added <= version && self.removed.is_none_or(|removed| version < removed)
    }
}
