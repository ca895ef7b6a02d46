//! Models out of the store: the registry's way to what is on disk.

use std::sync::Arc;

use serde_json::Value;

use crate::engine::sources::{Source, unchanged};
use crate::error::{Error, Kind, Result};
use crate::frame::Artefact;
use crate::models::{ModelName, ModelStore, Resolved};
use crate::storage::{ModelRow, Status, Store};

pub struct FittedModels {
    store: Arc<Store>,
}

impl FittedModels {
    pub fn new(store: Arc<Store>) -> Self {
        Self { store }
    }
}

impl ModelStore for FittedModels {
    fn resolve(&self, name: &ModelName) -> Result<Resolved> {
        let model = must_get_model(&self.store, name)?;
        let wanted = name.version.unwrap_or(model.default_version);
        let Some(version) = model.version(wanted) else {
            let versions: Vec<String> = model.versions.iter().map(|version| version.version.to_string()).collect();
            return Err(Error::new(Kind::UnknownModel, format!("model \"{}\" has no version {wanted}", name.name))
                .hint(format!("it has {}", versions.join(", "))));
        };
        match version.status {
            Status::Ready => Ok(Resolved { model: model.id, version: wanted, model_type: model.model_type }),
            Status::Failed => {
                let why = version.failure.as_deref().unwrap_or("unknown damage");
                Err(Error::new(Kind::NotReady, format!("model \"{}\" version {wanted} is FAILED: {why}", name.name))
                    .hint("train it again with CREATE OR REPLACE MODEL; its statement is in ml.model_versions"))
            }
        }
    }

    fn read(&self, name: &ModelName, version: u32) -> Result<Artefact> {
        self.store.read_artefact(&name.schema, &name.name, version).inspect_err(|error| {
            if error.kind == Kind::Corrupt
                && let Err(error) = self.store.mark_failed(&name.schema, &name.name, version, &error.message)
            {
                tracing::error!("could not mark model {name} as FAILED: {error}");
            }
        })
    }

    fn is_current(&self, name: &ModelName, version: u32) -> Result<bool> {
        match self.fact(name, version, "sources")? {
            Value::Null => Ok(true),
            sources => unchanged(&serde_json::from_value::<Vec<Source>>(sources)?, &self.store),
        }
    }

    fn fact(&self, name: &ModelName, version: u32, fact: &str) -> Result<Value> {
        let model = must_get_model(&self.store, name)?;
        Ok(model.version(version).map(|version| version.facts[fact].clone()).unwrap_or_default())
    }
}

/// The model, or the error that suggests a name near it.
pub fn must_get_model(store: &Store, name: &ModelName) -> Result<ModelRow> {
    if let Some(model) = store.model(&name.schema, &name.name)? {
        return Ok(model);
    }
    let shown = ModelName { version: None, ..name.clone() };
    let error = Error::new(Kind::UnknownModel, format!("model \"{shown}\" does not exist"));
    let models = store.models()?;
    let names = models.iter().map(|model| model.name.as_str());
    Err(match crate::error::nearest(&name.name, names) {
        Some(near) => error.hint(format!("did you mean \"{near}\"?")),
        None => error.hint("see SHOW MODELS"),
    })
}
