//! What is known here of a table over there: written down when it is imported, and kept in the catalog.

use std::sync::Arc;

use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::foreign::types::RemoteType;

/// A table or view of a foreign server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteTable {
    pub schema: String,
    pub table: String,
    pub columns: Vec<RemoteColumn>,
    /// How many rows the server thought that it had, when it was imported.
    pub rows: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteColumn {
    /// Here.
    pub name: String,
    /// Over there.
    pub remote: String,
    pub of: RemoteType,
    pub read: Read,
}

/// How a query names a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Read {
    AsItIs,
    /// Its type is another there than here, or compares otherwise: an enum, char(n), citext.
    AsText,
    /// Its collation takes different texts for the same.
    Collated,
}

impl RemoteTable {
    pub fn columns(&self) -> SchemaRef {
        let field = |column: &RemoteColumn| Field::new(&column.name, column.of.arrow(), true);
        Arc::new(Schema::new(self.columns.iter().map(field).collect::<Vec<_>>()))
    }

    /// As the catalog keeps it.
    pub fn to_json(&self) -> Result<serde_json::Value> {
        Ok(serde_json::to_value(self)?)
    }

    pub fn from_json(json: &serde_json::Value) -> Result<Self> {
        Ok(Self::deserialize(json)?)
    }

    /// Its name in a query.
    pub fn sql(&self) -> String {
        format!("{}.{}", identifier(&self.schema), identifier(&self.table))
    }
}

/// A table over there, and the columns of it that cannot be read here, with their types.
#[derive(Debug)]
pub struct Found {
    pub table: RemoteTable,
    pub unreadable: Vec<(String, String)>,
}

/// A name as SQL reads it whatever is in it.
pub fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
