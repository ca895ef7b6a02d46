//! The rows of the catalog's tables as nouns, and back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::arrow::ipc::reader::StreamReader;
use datafusion::arrow::ipc::writer::StreamWriter;
use rusqlite::{Connection, OptionalExtension, params};

use super::access::RoleId;
use super::disk::Held;
use super::model::{ModelRow, ModelVersion, Status};
use super::partitions::Partition;
use super::relation::{DataFile, Relation, RelationKind, Rules, TableId};
use super::state::Contents;
use super::store::NewRelation;
use crate::error::{Error, Result};

/// Reads rows as nouns.
pub(super) struct Rows<'a> {
    pub(super) db: &'a Connection,
    pub(super) root: &'a Path,
    pub(super) held: &'a Held,
}

impl Rows<'_> {
    pub(super) fn schemas(&self) -> Result<Vec<String>> {
        self.names("SELECT name FROM schemas", &[])
    }

    fn names(&self, sql: &str, given: &[&dyn rusqlite::ToSql]) -> Result<Vec<String>> {
        let mut query = self.db.prepare(sql)?;
        let names = query.query_map(given, |row| row.get(0))?;
        Ok(names.collect::<rusqlite::Result<_>>()?)
    }

    pub(super) fn schema(&self, name: &str) -> Result<Option<Contents>> {
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

    pub(super) fn relation(&self, schema: &str, name: &str) -> Result<Option<Relation>> {
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

    fn files(&self, table: TableId) -> Result<Vec<DataFile>> {
        let dir = table_dir(self.root, table);
        let sql =
            "SELECT name, rows, bytes, added, removed, partition FROM table_files WHERE table_id = ?1 ORDER BY id";
        let mut query = self.db.prepare(sql)?;
        let rows = query.query_map([table.0], |row| {
            let numbers = [row.get::<_, i64>(1)?, row.get(2)?, row.get(3)?];
            let (removed, partition): (Option<i64>, Option<String>) = (row.get(4)?, row.get(5)?);
            Ok((row.get::<_, String>(0)?, numbers.map(i64::cast_unsigned), removed, partition))
        })?;
        rows.map(|row| {
            let (name, [rows, bytes, added], removed, partition) = row?;
            let removed = removed.map(i64::cast_unsigned);
            let partition = match partition {
                Some(json) => serde_json::from_str::<Vec<Option<String>>>(&json)?.into(),
                None => Partition::default(),
            };
            Ok(DataFile { rows, bytes, added, removed, partition, stored: self.held.at(&dir.join(name)) })
        })
        .collect()
    }

    pub(super) fn model(&self, schema: &str, name: &str) -> Result<Option<ModelRow>> {
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

    fn versions(&self, model: i64) -> Result<Vec<ModelVersion>> {
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
                stored: self.held.at(&version_dir(self.root, model, version)),
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

/// Writes a new row of `relations`.
pub(super) fn insert_relation(db: &Connection, id: i64, schema: i64, new: &NewRelation<'_>) -> Result<()> {
    let sql = "INSERT INTO relations (id, schema_id, name, view_sql, columns, owner) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    db.execute(sql, params![id, schema, new.name, new.view, columns_to(new.columns)?, new.owner.0])?;
    Ok(())
}

pub(super) fn columns_to(columns: &Schema) -> Result<Vec<u8>> {
    let mut stream = StreamWriter::try_new(Vec::new(), columns)?;
    stream.finish()?;
    Ok(stream.into_inner()?)
}

/// Sets or removes the comment on a column. Comments are kept beside the columns, in the metadata of the schema.
pub(super) fn comment_on_column(db: &Connection, relation: &Relation, column: &str, text: Option<&str>) -> Result<()> {
    let mut comments = relation.column_comments.clone();
    match text {
        Some(text) => comments.insert(column.to_owned(), text.to_owned()),
        None => comments.remove(column),
    };
    let columns = Relation { column_comments: comments, ..relation.clone() }.described(&relation.columns)?;
    db.execute("UPDATE relations SET columns = ?2 WHERE id = ?1", params![relation.id, columns_to(&columns)?])?;
    Ok(())
}

/// Where in the metadata of a relation's schema the comments on its columns are, and its rules.
pub(super) const COMMENTS: &str = "cohort.comments";
pub(super) const DEFAULTS: &str = "cohort.defaults";
pub(super) const CHECKS: &str = "cohort.checks";
pub(super) const PARTITIONED_BY: &str = "cohort.partitioned_by";

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
    let (comments, defaults, checks) = (take(COMMENTS)?, take(DEFAULTS)?, take(CHECKS)?);
    let partitioned_by = match metadata.remove(PARTITIONED_BY) {
        Some(json) => serde_json::from_str(&json)?,
        None => Vec::new(),
    };
    let rules = Rules { defaults, checks, partitioned_by };
    Ok((Arc::new(Schema::new_with_metadata(schema.fields().clone(), metadata)), comments, rules))
}
