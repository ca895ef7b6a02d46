//! Earlier versions of tables in queries.
//!
//! The catalog finds them by the table's name and what follows a NUL, so that they come by the same door as the tables
//! themselves: rights, policies and all. Nobody can write such a name: clients send texts that end at the first NUL.

use std::sync::Arc;

use datafusion::arrow::array::{BooleanArray, Int64Array, StringArray, TimestampMicrosecondArray};
use datafusion::arrow::record_batch::RecordBatch;

use crate::engine::rights::quoted;
use crate::error::{Error, Result};
use crate::storage::{DataFile, Moment, Relation, RelationKind, Store, TableId};

/// At most so many versions are compared in one query.
const MOST_VERSIONS: usize = 500;

/// What is wanted of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    At(u64),
    /// The files that a version was the first to have.
    Added(u64),
    /// Those that it was the first not to have.
    Removed(u64),
}

impl Wanted {
    /// The name by which the catalog finds it.
    pub(super) fn name(self, table: &str) -> String {
        match self {
            Self::At(version) => format!("{table}\0@{version}"),
            Self::Added(version) => format!("{table}\0+{version}"),
            Self::Removed(version) => format!("{table}\0-{version}"),
        }
    }

    /// The table and what is wanted of it, if the name says so.
    pub(super) fn parse(name: &str) -> Option<(&str, Self)> {
        let (table, wanted) = name.split_once('\0')?;
        let version = wanted.get(1..)?.parse().ok()?;
        let wanted = match wanted.chars().next()? {
            '@' => Self::At(version),
            '+' => Self::Added(version),
            '-' => Self::Removed(version),
            _ => return None,
        };
        Some((table, wanted))
    }

    pub(super) fn of(self, store: &Store, relation: &Relation) -> Result<Relation> {
        let keep = |keep: &dyn Fn(&DataFile) -> bool| -> Arc<[DataFile]> {
            relation.past.iter().chain(relation.files.iter()).filter(|file| keep(file)).cloned().collect()
        };
        match self {
            Self::At(version) => store.at(relation, Moment::Version(version)),
            Self::Added(version) => Ok(Relation { files: keep(&|file| file.added == version), ..relation.clone() }),
            Self::Removed(version) => {
                Ok(Relation { files: keep(&|file| file.removed == Some(version)), ..relation.clone() })
            }
        }
    }
}

/// The stored table behind a relation.
pub(super) fn stored(relation: &Relation) -> Result<TableId> {
    match relation.kind {
        RelationKind::Table(table) => Ok(table),
        _ => Err(Error::invalid(format!("{} \"{}\" has no versions", relation.kind.of(), relation.name))
            .hint("tables have: a view is as its tables are")),
    }
}

pub(super) fn history(store: &Store, relation: &Relation) -> Result<RecordBatch> {
    let versions = store.history(stored(relation)?)?;
    let whole = |of: &dyn Fn(usize) -> u64| {
        Arc::new(Int64Array::from_iter_values((0..versions.len()).map(|at| of(at).cast_signed()))) as _
    };
    let committed = versions.iter().map(|version| version.committed);
    let operations = versions.iter().map(|version| version.operation.as_str());
    let readable = versions.iter().map(|version| Some(version.version >= relation.readable_from));
    Ok(RecordBatch::try_from_iter([
        ("version", whole(&|at| versions[at].version)),
        ("operation", Arc::new(StringArray::from_iter_values(operations)) as _),
        ("committed", Arc::new(TimestampMicrosecondArray::from_iter_values(committed).with_timezone("UTC")) as _),
        ("rows_inserted", whole(&|at| versions[at].rows.inserted)),
        ("rows_updated", whole(&|at| versions[at].rows.updated)),
        ("rows_deleted", whole(&|at| versions[at].rows.deleted)),
        ("is_readable", Arc::new(readable.collect::<BooleanArray>()) as _),
    ])?)
}

/// The query that answers `table_changes`: of each version the rows of the files that came, less those of the files that
/// went. A row that is in both was written anew and is the same.
pub(super) fn changes(store: &Store, relation: &Relation, from: u64, to: Option<u64>) -> Result<String> {
    let table = stored(relation)?;
    let to = to.unwrap_or(relation.version);
    if to > relation.version {
        return Err(Error::invalid(format!("table \"{}\" has no version {to}", relation.name))
            .hint(format!("the last one is {}", relation.version)));
    }
    // Rows of the first version have not come from any other.
    if from + 1 < relation.readable_from {
        let message = format!("the changes of table \"{}\" since version {from} were vacuumed away", relation.name);
        return Err(Error::invalid(message).hint(format!("from_version => {} can be read", relation.readable_from)));
    }
    let history = store.history(table)?;
    let mut within = history.iter().filter(|version| from < version.version && version.version <= to);
    if let Some(altered) = within.clone().find(|version| version.operation == "ALTER TABLE") {
        let message = format!("version {} of table \"{}\" changed its columns", altered.version, relation.name);
        return Err(Error::unsupported(message).hint("ask for the changes before it and after it"));
    }
    let files = || relation.past.iter().chain(relation.files.iter());
    let changed: Vec<u64> = within
        .by_ref()
        .map(|version| version.version)
        .filter(|version| files().any(|file| file.added == *version || file.removed == Some(*version)))
        .collect();
    if changed.len() > MOST_VERSIONS {
        return Err(Error::unsupported(format!("{} versions are too many to compare in one query", changed.len()))
            .hint(format!("ask for at most {MOST_VERSIONS} at a time with to_version")));
    }
    let columns: Vec<String> = relation.columns.fields().iter().map(|field| quoted(field.name())).collect();
    let columns = columns.join(", ");
    let part = |wanted: Wanted, version: u64, sign: &str| {
        let (schema, name) = (quoted(&relation.schema), quoted(&wanted.name(&relation.name)));
        format!(
            "SELECT CAST({version} AS BIGINT) AS \"\0version\", {sign} AS \"\0sign\", {columns} FROM {schema}.{name}"
        )
    };
    let mut parts: Vec<String> = Vec::new();
    for version in &changed {
        parts.push(part(Wanted::Added(*version), *version, "1"));
        parts.push(part(Wanted::Removed(*version), *version, "-1"));
    }
    if parts.is_empty() {
        parts.push(format!("{} LIMIT 0", part(Wanted::At(relation.version), relation.version, "1")));
    }
    Ok(format!(
        "SELECT \"change_type\", \"\0version\" AS \"version\", {columns} FROM (
             SELECT CASE WHEN \"\0sum\" > 0 THEN 'insert' ELSE 'delete' END AS \"change_type\", \"\0version\", {columns},
                    unnest(array_repeat(1, abs(\"\0sum\"))) AS \"\0times\"
             FROM (SELECT \"\0version\", {columns}, sum(\"\0sign\") AS \"\0sum\"
                   FROM ({}) AS \"\0parts\" GROUP BY \"\0version\", {columns} HAVING sum(\"\0sign\") <> 0) AS \"\0sums\"
         ) AS \"\0rows\"",
        parts.join(" UNION ALL ")
    ))
}
