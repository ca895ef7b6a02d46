//! The buckets that are in use, so that queries share connections.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use datafusion::catalog::Session;

use super::bucket::Bucket;
use super::location::{Location, is_s3};
use super::way::{OPTIONS, S3Options, Way};
use crate::error::{Error, Result};
use crate::storage::{External, Store};

/// The way to buckets, for all sessions: they find it among the extensions of their settings.
pub struct Buckets {
    store: Arc<Store>,
    environment: fn(&str) -> Option<String>,
    known: Mutex<HashMap<Way, Arc<Bucket>>>,
}

impl fmt::Debug for Buckets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Buckets")
    }
}

impl Buckets {
    pub fn new(store: Arc<Store>, environment: fn(&str) -> Option<String>) -> Self {
        Self { store, environment, known: Mutex::default() }
    }

    pub fn of(state: &dyn Session) -> Result<Arc<Self>> {
        state.config().get_extension().ok_or_else(|| Error::internal("a session without the way to buckets"))
    }

    /// Gives an external table its options, those that are secrets sealed.
    pub fn set_options(&self, external: &mut External, options: S3Options) -> Result<()> {
        let is_secret = |name: &str| OPTIONS.iter().any(|(known, _, secret)| *secret && *known == name);
        let (hidden, shown): (S3Options, S3Options) = options.into_iter().partition(|(name, _)| is_secret(name));
        external.options.extend(shown);
        if !hidden.is_empty() {
            let sealed =
                self.store.directory.secrets.seal(serde_json::to_string(&hidden)?.as_bytes(), &whose(external))?;
            external.sealed = Some(BASE64.encode(sealed));
        }
        Ok(())
    }

    /// The bucket that an external table is in; `None`: it is not in S3.
    ///
    /// # Errors
    /// 0A000 where there is more than one, 55000 where its secrets cannot be opened, 22023 where it cannot be reached as its
    /// options say.
    pub fn of_table(&self, external: &External) -> Result<Option<Arc<Bucket>>> {
        if !external.locations.iter().any(|location| is_s3(location)) {
            return Ok(None);
        }
        let mut name: Option<String> = None;
        for location in &external.locations {
            let here = if is_s3(location) { Location::parse(location)?.bucket } else { String::new() };
            if name.replace(here.clone()).is_some_and(|before| before != here) {
                return Err(Error::unsupported(
                    "the locations of a table must all be in one bucket, or all of this server",
                )
                .hint("make a table of each, and a view of them all: SELECT … UNION ALL SELECT …"));
            }
        }
        let mut options = external.options.clone();
        if let Some(sealed) = &external.sealed {
            let sealed = BASE64.decode(sealed).map_err(|_| Error::corrupt("a sealed secret of a table is damaged"))?;
            let hidden: S3Options =
                serde_json::from_slice(&self.store.directory.secrets.open(&sealed, &whose(external))?)?;
            options.extend(hidden);
        }
        self.get(&name.unwrap_or_default(), &options).map(Some)
    }

    /// A bucket, reached as these options and the environment say.
    pub fn get(&self, bucket: &str, options: &S3Options) -> Result<Arc<Bucket>> {
        let way = Way::new(bucket, options, self.environment)?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.get(&way) {
            return Ok(Arc::clone(found));
        }
        let fresh = Arc::new(Bucket::new(way.clone(), known.len())?);
        known.insert(way, Arc::clone(&fresh));
        Ok(fresh)
    }
}

/// What a secret is sealed for: a table at other places cannot use it.
fn whose(external: &External) -> String {
    format!("external table at {}", external.locations.join(" "))
}
