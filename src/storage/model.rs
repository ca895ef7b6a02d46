//! The noun model: its versions, and where each is kept.

use std::sync::Arc;

use super::access::RoleId;
use super::disk::Stored;

/// A model with all its versions. Its type is that of the default version.
#[derive(Debug, Clone)]
pub struct ModelRow {
    pub id: i64,
    pub schema: String,
    pub name: String,
    pub owner: RoleId,
    pub model_type: String,
    pub default_version: u32,
    /// Microseconds since 1970, UTC.
    pub created: i64,
    pub versions: Vec<ModelVersion>,
}

#[derive(Debug, Clone)]
pub struct ModelVersion {
    pub version: u32,
    pub model_type: String,
    pub status: Status,
    pub failure: Option<String>,
    pub created: i64,
    pub bytes: u64,
    /// The same for the same artefact: it names what the model learnt.
    pub hash: String,
    pub facts: serde_json::Value,
    pub(super) stored: Arc<Stored>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Ready,
    Failed,
}

impl ModelRow {
    pub fn version(&self, version: u32) -> Option<&ModelVersion> {
        self.versions.iter().find(|row| row.version == version)
    }

    pub(super) fn stored(&self) -> impl Iterator<Item = Arc<Stored>> {
        self.versions.iter().map(|version| Arc::clone(&version.stored))
    }
}
