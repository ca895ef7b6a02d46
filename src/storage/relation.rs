//! The nouns of a schema: tables, views, and the files that tables are in.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::datatypes::{Schema, SchemaRef};

use super::access::RoleId;
use super::disk::Stored;
use super::external::External;
use super::partitions::Partition;
use super::rows::{CHECKS, COMMENTS, DEFAULTS, PARTITIONED_BY};
use crate::error::Result;

/// A table's number: never reused, and the same through every change of name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId(pub(super) i64);

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A table or view as one commit left it.
#[derive(Debug, Clone)]
pub struct Relation {
    /// Never used again, and the same through every change of name.
    pub id: i64,
    pub schema: String,
    pub name: String,
    pub kind: RelationKind,
    pub columns: SchemaRef,
    pub comment: Option<String>,
    /// By column; not all have one.
    pub column_comments: BTreeMap<String, String>,
    pub rules: Rules,
    pub owner: RoleId,
    /// Whether its policies hold for whoever does not own it.
    pub row_security: bool,
    /// In the order they were written. They stay on disk as long as somebody holds them here.
    pub files: Arc<[DataFile]>,
    /// Those of earlier versions, until VACUUM.
    pub past: Arc<[DataFile]>,
    pub version: u64,
    /// The earliest version whose files are all there.
    pub readable_from: u64,
}

/// What the rows of a table are held to, as SQL has it, and how they are laid out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// By column: what it gets where an INSERT gives nothing.
    pub defaults: BTreeMap<String, String>,
    /// By the name of the constraint: what no row may make false.
    pub checks: BTreeMap<String, String>,
    /// Columns of which each file has one value.
    pub partitioned_by: Vec<String>,
}

impl Rules {
    /// The columns with these rules beside them, as they are stored: in the metadata of the schema.
    pub fn beside(&self, columns: &Schema) -> Result<Schema> {
        let mut metadata = columns.metadata().clone();
        let Self { defaults, checks, partitioned_by } = self;
        for (key, is_empty, rules) in [
            (DEFAULTS, defaults.is_empty(), serde_json::to_string(defaults)?),
            (CHECKS, checks.is_empty(), serde_json::to_string(checks)?),
            (PARTITIONED_BY, partitioned_by.is_empty(), serde_json::to_string(partitioned_by)?),
        ] {
            match is_empty {
                true => metadata.remove(key),
                false => metadata.insert(key.to_owned(), rules),
            };
        }
        Ok(Schema::new_with_metadata(columns.fields().clone(), metadata))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RelationKind {
    Table(TableId),
    View {
        sql: String,
    },
    /// Its rows are not ours: in files of other programs, or on another server.
    External(Arc<External>),
}

/// A kind of relation without a particular one, as in DROP TABLE or DROP VIEW.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelationType {
    Table,
    View,
    External,
}

impl RelationKind {
    pub fn of(&self) -> RelationType {
        match self {
            RelationKind::Table(_) => RelationType::Table,
            RelationKind::View { .. } => RelationType::View,
            RelationKind::External(_) => RelationType::External,
        }
    }
}

impl fmt::Display for RelationType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RelationType::Table => "table",
            RelationType::View => "view",
            RelationType::External => "external table",
        })
    }
}

impl Relation {
    pub fn rows(&self) -> u64 {
        self.files.iter().map(|file| file.rows).sum()
    }

    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Whether a foreign server has its rows.
    pub fn is_foreign(&self) -> bool {
        matches!(&self.kind, RelationKind::External(external) if external.foreign.is_some())
    }

    pub(super) fn table(&self) -> Option<TableId> {
        match self.kind {
            RelationKind::Table(table) => Some(table),
            _ => None,
        }
    }

    /// Columns of this table with the comments and rules that it has on them, as they are stored.
    pub(super) fn described(&self, columns: &Schema) -> Result<Schema> {
        let comments = self.column_comments.iter().filter(|(column, _)| columns.field_with_name(column).is_ok());
        let comments: BTreeMap<&String, &String> = comments.collect();
        let metadata = match comments.is_empty() {
            true => HashMap::new(),
            false => HashMap::from([(COMMENTS.to_owned(), serde_json::to_string(&comments)?)]),
        };
        self.rules.beside(&Schema::new_with_metadata(columns.fields().clone(), metadata))
    }

    pub(super) fn stored(&self) -> impl Iterator<Item = Arc<Stored>> {
        self.files.iter().chain(self.past.iter()).map(|file| Arc::clone(&file.stored))
    }
}

/// One Parquet file of a table.
#[derive(Debug, Clone)]
pub struct DataFile {
    pub rows: u64,
    pub bytes: u64,
    /// The first version that has it, and the first that has it no more.
    pub added: u64,
    pub removed: Option<u64>,
    pub(super) partition: Partition,
    pub(super) stored: Arc<Stored>,
}

impl DataFile {
    pub fn path(&self) -> &Path {
        self.stored.path()
    }

    /// What its rows have in the columns that its table is partitioned by.
    pub fn partition(&self) -> &[Option<String>] {
        &self.partition
    }

    /// Its name in the folder of its table.
    pub fn name(&self) -> &str {
        self.path().file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }
}
