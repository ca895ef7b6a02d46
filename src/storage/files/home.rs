//! Where the files of a table are: on this machine, or in a bucket.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::DateTime;
use datafusion::catalog::Session;
use datafusion::common::runtime::SpawnedTask;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::object_store::{ObjectMeta, ObjectStore};

use super::keys::objects;
use super::location::{Found, files, object};
use crate::error::{Error, Result};
use crate::storage::External;
use crate::storage::s3::{Bucket, Buckets, Location, ObjectReader, is_s3};

#[derive(Debug, Clone)]
pub enum Home {
    Here,
    Bucket(Arc<Bucket>),
}

/// A file that somebody looks into.
pub trait Readable: Read + Seek + Send {}

impl<T: Read + Seek + Send> Readable for T {}

impl Home {
    pub fn of(external: &External, state: &dyn Session) -> Result<Self> {
        if !external.locations.iter().any(|location| is_s3(location)) {
            return Ok(Self::Here);
        }
        Ok(Buckets::of(state)?.of_table(external)?.map_or(Self::Here, Self::Bucket))
    }

    /// What DataFusion knows the store of the files by.
    pub fn url(&self) -> ObjectStoreUrl {
        match self {
            Self::Here => ObjectStoreUrl::local_filesystem(),
            Self::Bucket(bucket) => bucket.url().clone(),
        }
    }

    /// The store, which plans of this session find from now on.
    pub fn store(&self, state: &dyn Session) -> Result<Arc<dyn ObjectStore>> {
        let url = self.url();
        if let Self::Bucket(bucket) = self {
            state.runtime_env().register_object_store(url.as_ref(), bucket.store());
        }
        Ok(state.runtime_env().object_store(&url)?)
    }

    /// The files that these locations mean now, each once, by name; in folders those whose names are `wanted`.
    pub async fn files(
        &self,
        locations: &[String],
        wanted: impl Fn(&str) -> bool + Send + Sync + Copy + 'static,
    ) -> Result<Vec<Found>> {
        let mut all = match self {
            Self::Here => {
                let locations = locations.to_vec();
                waiting(move || {
                    let found = locations.iter().map(|location| files(location, &wanted));
                    Ok(found.collect::<Result<Vec<_>>>()?.concat())
                })
                .await?
            }
            Self::Bucket(bucket) => {
                let mut all = Vec::new();
                for location in locations {
                    all.extend(objects(bucket, location, &wanted).await?);
                }
                all
            }
        };
        all.sort();
        all.dedup_by(|one, other| one.path == other.path);
        Ok(all)
    }

    /// A file as people know it.
    pub fn path(&self, object: &ObjectMeta) -> PathBuf {
        match self {
            Self::Here => Path::new("/").join(object.location.as_ref()),
            Self::Bucket(bucket) => bucket.location(object).into(),
        }
    }

    /// A file that somebody else has listed, with its size in bytes and when it was written, in milliseconds since 1970.
    pub fn object(&self, path: &Path, size: u64, modified: i64) -> Result<ObjectMeta> {
        match self {
            Self::Here => object(path),
            Self::Bucket(bucket) => {
                let location = Location::parse(&path.to_string_lossy())?;
                let last_modified = DateTime::from_timestamp_millis(modified).unwrap_or_default();
                bucket.object(&location, size, last_modified)
            }
        }
    }

    /// Looks into a file, on a thread that may wait for it.
    pub async fn look<T: Send + 'static>(
        &self,
        object: &ObjectMeta,
        look: impl FnOnce(Box<dyn Readable>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (home, object) = (self.clone(), object.clone());
        waiting(move || {
            look(match &home {
                Self::Here => Box::new(File::open(home.path(&object))?),
                Self::Bucket(bucket) => Box::new(ObjectReader::new(Arc::clone(bucket), object)?),
            })
        })
        .await
    }

    /// Whether there is a folder at that location with such a folder in it.
    pub async fn has_folder(&self, location: &str, name: &str) -> Result<bool> {
        match self {
            Self::Here => Ok(Path::new(location).join(name).is_dir()),
            Self::Bucket(bucket) => {
                let mut parts = Location::parse(location)?.parts().join("/");
                if parts.contains(['*', '?', '[']) {
                    return Ok(false);
                }
                if !parts.is_empty() {
                    parts.push('/');
                }
                let mut below = bucket.below(&format!("{parts}{name}"))?;
                Ok(futures::StreamExt::next(&mut below).await.transpose()?.is_some())
            }
        }
    }
}

async fn waiting<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = SpawnedTask::spawn_blocking(work).join().await;
    done.map_err(|error| Error::internal(format!("the look at files stopped: {error}")))?
}
