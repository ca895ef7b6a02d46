//! The versions of a table: how each came about, and the table as it was then.

use datafusion::arrow::datatypes::SchemaRef;
use rusqlite::{Connection, OptionalExtension, params};

use super::changes::ChangedRows;
use super::relation::{DataFile, Relation, TableId};
use super::rows::columns_from;
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
        self.read(|db| versions_from(db, table, 0))
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
        let mut then = Relation { files: files.into(), version, ..relation.clone() };
        if let Some((columns, partitioned_by)) = self.read(|db| columns_at(db, table, version))? {
            then.columns = columns;
            then.rules.partitioned_by = partitioned_by;
        }
        Ok(then)
    }

    fn version_at(&self, table: TableId, time: i64) -> Result<Option<u64>> {
        self.read(|db| {
            let sql = "SELECT version FROM table_versions WHERE table_id = ?1 AND committed <= ?2
                       ORDER BY version DESC LIMIT 1";
            let version = db.query_row(sql, params![table.0, time], |row| row.get::<_, i64>(0)).optional()?;
            Ok(version.map(i64::cast_unsigned))
        })
    }
}

/// The versions of a table from one on.
pub(super) fn versions_from(db: &Connection, table: TableId, version: u64) -> Result<Vec<TableVersion>> {
    let sql = "SELECT version, operation, committed, inserted, updated, deleted
               FROM table_versions WHERE table_id = ?1 AND version >= ?2 ORDER BY version";
    let mut query = db.prepare(sql)?;
    let rows = query.query_map(params![table.0, version.cast_signed()], |row| {
        let count = |at| row.get::<_, i64>(at).map(i64::cast_unsigned);
        Ok(TableVersion {
            version: count(0)?,
            operation: row.get(1)?,
            committed: row.get(2)?,
            rows: ChangedRows { inserted: count(3)?, updated: count(4)?, deleted: count(5)? },
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The columns that a version has, and those that it is partitioned by; `None`: it is not known.
pub(super) fn columns_at(db: &Connection, table: TableId, version: u64) -> Result<Option<(SchemaRef, Vec<String>)>> {
    let sql = "SELECT columns FROM table_versions
               WHERE table_id = ?1 AND version <= ?2 AND columns IS NOT NULL ORDER BY version DESC LIMIT 1";
    let bytes: Option<Vec<u8>> =
        db.query_row(sql, params![table.0, version.cast_signed()], |row| row.get(0)).optional()?;
    let columns = bytes.map(|bytes| columns_from(&bytes)).transpose()?;
    Ok(columns.map(|(columns, _, rules)| (columns, rules.partitioned_by)))
}

impl DataFile {
    /// Whether a version has it.
    pub fn is_in(&self, version: u64) -> bool {
        self.added <= version && self.removed.is_none_or(|removed| version < removed)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use datafusion::arrow::array::Int64Array;
    use datafusion::arrow::datatypes::{DataType, Field, Schema};
    use datafusion::arrow::record_batch::RecordBatch;

    use super::*;
    use crate::storage::{Change, Definition, IfExists, Replaces, RoleId, Rules, TableWriter};

    fn columns(name: &str) -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new(name, DataType::Int64, false)]))
    }

    fn rows(store: &Arc<Store>, name: &str, n: i64) -> TableWriter {
        let mut writer = store.writer(columns(name)).unwrap();
        let ids = Arc::new(Int64Array::from_iter_values(0..n));
        writer.write(&RecordBatch::try_new(columns(name), vec![ids]).unwrap()).unwrap();
        writer
    }

    fn table(store: &Store) -> Relation {
        store.relation("public", "t").unwrap().unwrap()
    }

    /// Version 1 with three rows, 2 with seven, 3 with the first three replaced by one, 4 with another name of the column.
    fn changed(store: &Arc<Store>) -> TableId {
        store.create_table("public", "t", rows(store, "id", 3), IfExists::Error, RoleId::FIRST).unwrap();
        let id = TableId(table(store).id);
        store.append(id, rows(store, "id", 4)).unwrap();
        let first = vec![table(store).files[0].clone()];
        store.change(Change::of_rows(id, "UPDATE", Replaces::Files(first)), rows(store, "id", 1)).unwrap();
        let becomes = Definition {
            columns: columns("number"),
            column_comments: Default::default(),
            rules: Rules::default(),
            from: 3,
        };
        let change = Change { becomes: Some(becomes), ..Change::of_rows(id, "ALTER TABLE", Replaces::Everything) };
        store.change(change, rows(store, "number", 5)).unwrap();
        id
    }

    fn rows_at(store: &Store, version: u64) -> u64 {
        store.at(&table(store), Moment::Version(version)).unwrap().rows()
    }

    #[test]
    fn every_version_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let id = changed(&store);
        drop(store);
        let store = Store::open(dir.path()).unwrap();
        assert_eq!([1, 2, 3, 4].map(|version| rows_at(&store, version)), [3, 7, 5, 5]);
        assert_eq!(store.at(&table(&store), Moment::Version(3)).unwrap().columns, columns("id"));
        assert_eq!(table(&store).columns, columns("number"));
        let history = store.history(id).unwrap();
        let operations: Vec<&str> = history.iter().map(|version| version.operation.as_str()).collect();
        assert_eq!(operations, ["CREATE TABLE AS SELECT", "INSERT", "UPDATE", "ALTER TABLE"]);
        assert!(history.windows(2).all(|pair| pair[0].committed < pair[1].committed));
        let then = store.at(&table(&store), Moment::Time(history[2].committed - 1)).unwrap();
        assert_eq!(then.version, 2);
        for missing in [Moment::Version(0), Moment::Version(5), Moment::Time(history[0].committed - 1)] {
            assert_eq!(store.at(&table(&store), missing).unwrap_err().kind, Kind::Invalid);
        }
    }

    #[test]
    fn whoever_is_slower_is_told_and_has_done_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        store.create_table("public", "t", rows(&store, "id", 3), IfExists::Error, RoleId::FIRST).unwrap();
        let id = TableId(table(&store).id);
        let seen = table(&store).files.to_vec();
        let change = |writer| store.change(Change::of_rows(id, "UPDATE", Replaces::Files(seen.clone())), writer);
        change(rows(&store, "id", 2)).unwrap();
        let error = change(rows(&store, "id", 9)).unwrap_err();
        assert_eq!(error.kind, Kind::Conflict, "{error}");
        assert_eq!((table(&store).rows(), table(&store).version), (2, 2));
        assert_eq!(fs::read_dir(dir.path().join("tables/incoming")).unwrap().count(), 0);
        // Rows that are only added conflict with nothing.
        store.append(id, rows(&store, "id", 1)).unwrap();
        assert_eq!(table(&store).rows(), 3);
    }

    #[test]
    fn vacuum_takes_what_only_earlier_versions_need() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let id = changed(&store);
        let history = store.history(id).unwrap();
        assert_eq!(store.vacuum(id, history[1].committed).unwrap().files, 0);
        assert_eq!(store.vacuum_down_to(id, 3).unwrap().files, 0);
        assert_eq!(store.vacuum(id, history[2].committed).unwrap().files, 1);
        assert_eq!(store.at(&table(&store), Moment::Version(2)).unwrap_err().kind, Kind::Invalid);
        assert_eq!([3, 4].map(|version| rows_at(&store, version)), [5, 5]);
        let reading = store.at(&table(&store), Moment::Version(3)).unwrap();
        assert_eq!(store.vacuum(id, i64::MAX).unwrap().files, 2);
        assert!(reading.files.iter().all(|file| file.path().exists()), "files stay while somebody reads them");
        drop(reading);
        let data = fs::read_dir(store.location(id)).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_file());
        assert_eq!(data.count(), 1);
        drop(store);
        assert_eq!(table(&Store::open(dir.path()).unwrap()).readable_from, 4);
    }

    #[test]
    fn the_log_for_others_follows_and_is_mended() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let id = changed(&store);
        let log = store.location(id).join("_delta_log");
        let lines = |version: u64| fs::read_to_string(log.join(format!("{version:020}.json"))).unwrap();
        let actions = |version: u64, kind: &str| lines(version).matches(&format!("{{\"{kind}\":")).count();
        assert_eq!([0, 1, 2, 3, 4].map(|version| actions(version, "add")), [0, 1, 1, 1, 1]);
        assert_eq!([0, 1, 2, 3, 4].map(|version| actions(version, "remove")), [0, 0, 0, 1, 2]);
        assert_eq!([0, 1, 4].map(|version| actions(version, "metaData")), [1, 0, 1]);
        let before: Vec<String> = (0..5).map(lines).collect();
        drop(store);
        // As a crash may leave it: the last version cut off, or nothing there.
        fs::write(log.join(format!("{:020}.json", 4)), "{\"add\":").unwrap();
        fs::write(log.join("00000000000000000005.draft"), "half").unwrap();
        drop(Store::open(dir.path()).unwrap());
        assert_eq!((0..5).map(lines).collect::<Vec<_>>(), before);
        fs::remove_dir_all(&log).unwrap();
        let store = Store::open(dir.path()).unwrap();
        assert_eq!((0..5).map(lines).collect::<Vec<_>>(), before);
        assert_eq!(fs::read_dir(&log).unwrap().count(), 5);
        store.drop_relation("public", "t", crate::storage::RelationType::Table, false).unwrap();
        assert!(!store.location(id).exists());
    }

    #[test]
    fn a_long_log_has_checkpoints() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        store.create_table("public", "t", rows(&store, "id", 1), IfExists::Error, RoleId::FIRST).unwrap();
        let id = TableId(table(&store).id);
        for _ in 0..100 {
            store.append(id, rows(&store, "id", 1)).unwrap();
        }
        let log = store.location(id).join("_delta_log");
        let last = fs::read_to_string(log.join("_last_checkpoint")).unwrap();
        assert_eq!(last, "{\"size\":102,\"version\":100}");
        assert!(fs::metadata(log.join(format!("{:020}.checkpoint.parquet", 100))).unwrap().len() > 0);
    }
}
