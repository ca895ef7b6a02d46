//! One version of a table as the lines of its file in the log.

use std::fmt::Write;

use datafusion::arrow::datatypes::Schema;
use serde_json::{Map, Value, json};

use super::{Described, Published, schema};
use crate::storage::relation::DataFile;

/// The actions of a version, a line each. The first one makes the table, the first readable one has all of its files.
pub(super) fn of(table: &Described<'_>, version: &Published) -> String {
    let (number, relation) = (version.number, table.relation);
    let mut actions = vec![commit_info(version)];
    if number == 0 {
        actions.push(protocol(table.columns));
    }
    let is_first = number == relation.readable_from;
    if number == 0 || version.facts.as_ref().is_some_and(|facts| facts.operation == "ALTER TABLE") {
        actions.push(meta_data(table));
    }
    let time = version.facts.as_ref().map_or(0, |facts| facts.committed / 1000);
    let is_compaction = version.facts.as_ref().is_some_and(|facts| facts.operation == "OPTIMIZE");
    for file in relation.past.iter().chain(relation.files.iter()) {
        if file.added == number || (is_first && file.is_in(number)) {
            actions.push(add(table, file, time, !is_compaction));
        } else if file.removed == Some(number) && !is_first {
            actions.push(remove(table, file, time, !is_compaction));
        }
    }
    let mut lines = String::new();
    for action in actions {
        let _ = writeln!(lines, "{action}");
    }
    lines
}

fn commit_info(version: &Published) -> Value {
    let (operation, time, rows) = match &version.facts {
        Some(facts) => (facts.operation.as_str(), facts.committed / 1000, facts.rows),
        None if version.number == 0 => ("CREATE TABLE", 0, Default::default()),
        None => ("UNKNOWN", 0, Default::default()),
    };
    json!({ "commitInfo": {
        "timestamp": time,
        "operation": operation,
        "operationParameters": {},
        "operationMetrics": {
            "numInsertedRows": rows.inserted.to_string(),
            "numUpdatedRows": rows.updated.to_string(),
            "numDeletedRows": rows.deleted.to_string(),
        },
        "engineInfo": concat!("cohort/", env!("CARGO_PKG_VERSION")),
    }})
}

/// What a reader must know. A writer must know something that only we do: the table is written by Cohort, and others would
/// write what its catalog knows nothing of.
pub(super) fn protocol(columns: &Schema) -> Value {
    const OURS: &str = "cohortManaged";
    match schema::has_local_times(columns) {
        true => json!({ "protocol": {
            "minReaderVersion": 3,
            "minWriterVersion": 7,
            "readerFeatures": ["timestampNtz"],
            "writerFeatures": ["timestampNtz", OURS],
        }}),
        false => json!({ "protocol": { "minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": [OURS] } }),
    }
}

pub(super) fn meta_data(table: &Described<'_>) -> Value {
    let relation = table.relation;
    json!({ "metaData": {
        "id": format!("c0407000-0000-4000-8000-{:012x}", relation.id),
        "name": relation.name,
        "description": relation.comment,
        "format": { "provider": "parquet", "options": {} },
        "schemaString": schema::schema_string(table.columns),
        "partitionColumns": table.partitioned_by,
        "configuration": {},
    }})
}

pub(super) fn add(table: &Described<'_>, file: &DataFile, time: i64, is_change: bool) -> Value {
    json!({ "add": {
        "path": file.name(),
        "partitionValues": partition_values(table, file),
        "size": file.bytes,
        "modificationTime": time,
        "dataChange": is_change,
        "stats": stats(file),
    }})
}

fn stats(file: &DataFile) -> String {
    json!({ "numRecords": file.rows }).to_string()
}

fn remove(table: &Described<'_>, file: &DataFile, time: i64, is_change: bool) -> Value {
    json!({ "remove": {
        "path": file.name(),
        "deletionTimestamp": time,
        "dataChange": is_change,
        "extendedFileMetadata": true,
        "partitionValues": partition_values(table, file),
        "size": file.bytes,
    }})
}

fn partition_values(table: &Described<'_>, file: &DataFile) -> Value {
    let values = table.partitioned_by.iter().zip(file.partition.iter());
    values.map(|(column, value)| (column.clone(), json!(value))).collect::<Map<_, _>>().into()
}
