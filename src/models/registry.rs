//! Where fitted models are found by name: read once, shared by all, never changed.

use std::collections::HashMap;
use std::fmt::{self, Debug};
use std::sync::{Arc, RwLock};

use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::frame::Artefact;
use crate::models::{Model, Options, RankingMetric, Trial, algorithm};

/// `schema.name` and, where one is meant, the version: `churn`, `shop.churn`, `churn@2`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Hash)]
pub struct ModelName {
    pub schema: String,
    pub name: String,
    pub version: Option<u32>,
}

impl ModelName {
    /// Reads a name as a user types it; without a schema it is in `public`.
    pub fn parse(text: &str) -> Result<Self> {
        let (path, version) = match text.rsplit_once('@') {
            None => (text, None),
            Some((path, version)) => match version.parse::<u32>() {
                Ok(version) if version > 0 => (path, Some(version)),
                _ => {
                    return Err(Error::invalid(format!("\"{version}\" is not a version of a model"))
                        .hint("write model@2 for its second version"));
                }
            },
        };
        let (schema, name) = path.split_once('.').unwrap_or(("public", path));
        if name.is_empty() || schema.is_empty() {
            return Err(Error::invalid("a model's name is empty"));
        }
        Ok(Self { schema: schema.to_owned(), name: name.to_owned(), version })
    }
}

/// How it is written in a plan and in messages; `public` goes without saying.
impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.schema != "public" {
            write!(f, "{}.", self.schema)?;
        }
        f.write_str(&self.name)?;
        self.version.map_or(Ok(()), |version| write!(f, "@{version}"))
    }
}

/// What keeps models: the engine hands its storage in.
pub trait ModelStore: Send + Sync {
    /// The version meant. An unknown or failed model is an error that says so.
    fn resolve(&self, name: &ModelName) -> Result<Resolved>;
    fn read(&self, name: &ModelName, version: u32) -> Result<Artefact>;
    /// Whether the tables that it was trained on are as they were then; also where it is not known which they are.
    fn is_current(&self, name: &ModelName, version: u32) -> Result<bool>;
    /// Something that was noted of a training; null where it was not.
    fn fact(&self, name: &ModelName, version: u32, fact: &str) -> Result<serde_json::Value>;
}

/// Which version of which model a name means.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// The model's number, the same through every change of name.
    pub model: i64,
    pub version: u32,
    pub model_type: String,
}

/// One version of a model, loaded.
#[derive(Debug, Clone)]
pub struct Fitted {
    /// With its version.
    pub name: ModelName,
    /// As the user wrote it: how messages call it.
    pub asked: String,
    pub model_type: String,
    pub model: Arc<dyn Model>,
}

/// The loaded models. A version is immutable, so what was loaded once stays right.
pub struct Registry {
    store: Arc<dyn ModelStore>,
    loaded: Arc<Loaded>,
}

/// By the number of the model and its version.
type Loaded = RwLock<HashMap<(i64, u32), Arc<dyn Model>>>;

impl Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Registry")
    }
}

impl Registry {
    pub fn new(store: Arc<dyn ModelStore>) -> Self {
        Self { store, loaded: Arc::default() }
    }

    /// Names as this store knows them, and the same loaded models.
    pub fn with_store(&self, store: Arc<dyn ModelStore>) -> Self {
        Self { store, loaded: Arc::clone(&self.loaded) }
    }

    /// The model of that name; without a version its default one.
    pub fn get(&self, name: &str) -> Result<Fitted> {
        let asked = name.to_owned();
        let mut name = ModelName::parse(name)?;
        let Resolved { model, version, model_type } = self.store.resolve(&name)?;
        name.version = Some(version);
        let poisoned = |_| Error::internal("a thread panicked while it loaded a model");
        let known = self.loaded.read().map_err(poisoned)?.get(&(model, version)).cloned();
        let fitted = match known {
            Some(fitted) => fitted,
            None => {
                let artefact = self.store.read(&name, version)?;
                let fitted = algorithm(&model_type)?.load(&artefact)?;
                let poisoned = |_| Error::internal("a thread panicked while it loaded a model");
                self.loaded.write().map_err(poisoned)?.insert((model, version), Arc::clone(&fitted));
                fitted
            }
        };
        Ok(Fitted { name, asked, model_type, model: fitted })
    }

    /// The evaluation stored at training, by metric.
    pub fn evaluation(&self, fitted: &Fitted) -> Result<Vec<(String, Option<f64>)>> {
        Ok(self.fact(fitted, "evaluation")?.unwrap_or_default())
    }

    /// Of a recommender all that was said at training of its rankings for the rows held out, by activity of customers.
    pub fn ranking(&self, fitted: &Fitted) -> Result<Vec<RankingMetric>> {
        Ok(self.fact(fitted, "ranking")?.unwrap_or_default())
    }

    /// The options that it was trained with, without those that were found from the data.
    pub fn options(&self, fitted: &Fitted) -> Result<Options> {
        let chosen = self.fact(fitted, "chosen")?;
        let all = || self.fact(fitted, "options");
        Ok(if chosen.is_some() { chosen } else { all()? }.unwrap_or_default())
    }

    /// What a search for its options tried.
    pub fn trials(&self, fitted: &Fitted) -> Result<Vec<Trial>> {
        Ok(self.fact(fitted, "trials")?.unwrap_or_default())
    }

    /// The statement that trained it, and the schema that its tables are in unless they name one.
    pub fn statement(&self, fitted: &Fitted) -> Result<(String, String)> {
        let statement = self
            .fact(fitted, "statement")?
            .ok_or_else(|| Error::corrupt(format!("the statement that trained model \"{}\" is lost", fitted.asked)))?;
        Ok((statement, self.fact(fitted, "default_schema")?.unwrap_or_else(|| "public".to_owned())))
    }

    /// What was noted of a version's training under that name; `None`: nothing, it is of an older server.
    fn fact<T: DeserializeOwned>(&self, fitted: &Fitted, name: &str) -> Result<Option<T>> {
        let fact = self.store.fact(&fitted.name, fitted.name.version.unwrap_or_default(), name)?;
        Ok(serde_json::from_value(fact)?)
    }

    /// Whether nothing that the model was trained on has changed since.
    pub fn is_current(&self, fitted: &Fitted) -> Result<bool> {
        self.store.is_current(&fitted.name, fitted.name.version.unwrap_or_default())
    }

    /// Forgets every version of a model, which was dropped.
    pub fn forget(&self, model: i64) {
        if let Ok(mut loaded) = self.loaded.write() {
            loaded.retain(|(loaded, _), _| *loaded != model);
        }
    }
}
