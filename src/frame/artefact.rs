//! What a trained model leaves behind: a manifest and named tables, free of the model's own types.

use std::collections::BTreeMap;

use datafusion::arrow::record_batch::RecordBatch;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// A model as data. `storage` writes it without looking inside; the algorithm that wrote it reads it back.
#[derive(Debug, Clone, PartialEq)]
pub struct Artefact {
    /// Small facts: signature, options, scalars.
    pub manifest: serde_json::Value,
    /// Large facts, one table each: factors, weights, histories. Stored as Parquet, so other tools can read them.
    pub parts: BTreeMap<String, RecordBatch>,
}

impl Artefact {
    pub fn new(manifest: serde_json::Value) -> Self {
        Self { manifest, parts: BTreeMap::new() }
    }

    #[must_use]
    pub fn with_part(mut self, name: &str, rows: RecordBatch) -> Self {
        self.parts.insert(name.to_owned(), rows);
        self
    }

    /// The table of that name; an artefact without it is damaged.
    pub fn part(&self, name: &str) -> Result<&RecordBatch> {
        self.parts.get(name).ok_or_else(|| Error::corrupt(format!("the model's file lacks its part \"{name}\"")))
    }

    /// One value of the manifest; an artefact without it is damaged.
    pub fn value<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        let value = self.manifest.get(name).cloned().unwrap_or_default();
        serde_json::from_value(value)
            .map_err(|error| Error::corrupt(format!("the model's manifest lacks a good \"{name}\": {error}")))
    }
}
