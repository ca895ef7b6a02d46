//! A bucket as one user of it: where DataFusion finds its objects, and what is asked of it besides.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use datafusion::execution::object_store::ObjectStoreUrl;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::aws::AmazonS3;
use object_store::path::Path as ObjectPath;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult,
};

use super::location::{Location, object_key};
use super::refusal::{missing, told};
use super::way::Way;
use crate::error::{Error, Result};

/// What DataFusion remembers of files it remembers by their paths alone. So the paths it is given begin with what tells
/// this bucket from all others, and from files of this machine: [`Bucket::root`].
pub struct Bucket {
    way: Way,
    root: ObjectPath,
    url: ObjectStoreUrl,
    store: AmazonS3,
}

impl Bucket {
    /// `number` is no other's in this process.
    pub(super) fn new(way: Way, number: usize) -> Result<Self> {
        let root = object_key(&format!("s3:{number}/{}", way.bucket))?;
        let url = ObjectStoreUrl::parse(format!("s3://cohort-{number}"))?;
        let store = way.client()?;
        Ok(Self { way, root, url, store })
    }

    /// What DataFusion knows this store by.
    pub fn url(&self) -> &ObjectStoreUrl {
        &self.url
    }

    pub fn name(&self) -> &str {
        &self.way.bucket
    }

    /// The object of that key; `None`: there is none.
    pub async fn find(&self, key: &str) -> Result<Option<ObjectMeta>> {
        let path = object_key(key)?;
        match self.store.head(&path).await {
            Ok(meta) => Ok(Some(self.rooted(meta))),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            // The answer to HEAD has no body that would say why; a listing that fails has one.
            Err(error) => match self.store.list(Some(&path)).next().await {
                Some(Err(reason)) => Err(self.told(key, &reason)),
                _ => Err(self.told(key, &error)),
            },
        }
    }

    /// All objects below a folder, or with an empty name in the bucket, with their keys.
    pub fn below(&self, folder: &str) -> Result<BoxStream<'_, Result<(String, ObjectMeta)>>> {
        let prefix = object_key(folder)?;
        let listed = self.store.list(Some(&prefix)).map(move |found| match found {
            Ok(meta) => Ok((meta.location.to_string(), self.rooted(meta))),
            Err(error) => Err(self.told(prefix.as_ref(), &error)),
        });
        Ok(listed.boxed())
    }

    pub(super) async fn put(&self, key: &str, bytes: Bytes) -> Result<()> {
        let put = self.store.put(&object_key(key)?, bytes.into()).await;
        put.map(|_| ()).map_err(|error| self.told(key, &error))
    }

    pub(super) async fn begin(&self, key: &str) -> Result<Box<dyn MultipartUpload>> {
        self.store.put_multipart(&object_key(key)?).await.map_err(|error| self.told(key, &error))
    }

    /// An error of a request about a key.
    pub(super) fn told(&self, key: &str, error: &object_store::Error) -> Error {
        let location = Location { bucket: self.way.bucket.clone(), key: key.to_owned() };
        told(&self.way, &location.url(), error)
    }

    /// The URL of an object.
    pub fn location(&self, object: &ObjectMeta) -> String {
        let key = self.key(&object.location).map_or_else(|_| object.location.to_string(), |key| key.to_string());
        Location { bucket: self.way.bucket.clone(), key }.url()
    }

    /// An object that somebody else has listed.
    pub fn object(&self, location: &Location, size: u64, last_modified: DateTime<Utc>) -> Result<ObjectMeta> {
        if location.bucket != self.way.bucket {
            let message = format!("{} is not in bucket \"{}\"", location.url(), self.way.bucket);
            return Err(Error::unsupported(message).hint("all files of a table must be in one bucket"));
        }
        let location = object_key(&location.key)?;
        Ok(self.rooted(ObjectMeta { location, last_modified, size, e_tag: None, version: None }))
    }

    /// There is nothing at that location.
    pub fn missing(&self, location: &str) -> Error {
        missing(location)
    }

    fn rooted(&self, meta: ObjectMeta) -> ObjectMeta {
        ObjectMeta { location: self.root.parts().chain(meta.location.parts()).collect(), ..meta }
    }

    /// The key of a path that DataFusion was given.
    pub(super) fn key(&self, path: &ObjectPath) -> Result<ObjectPath, object_store::Error> {
        match path.prefix_match(&self.root) {
            Some(parts) => Ok(parts.collect()),
            None => Err(refused(Error::internal(format!("{path} is not in bucket {}", self.way.bucket)))),
        }
    }

    fn unwritable(&self) -> object_store::Error {
        refused(Error::internal(format!("a plan writes into bucket {}", self.way.bucket)))
    }
}

/// One of our errors on its way through DataFusion.
fn refused(error: Error) -> object_store::Error {
    object_store::Error::Generic { store: "S3", source: Box::new(error) }
}

/// Nothing of how one gets in.
impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bucket({})", self.way.bucket)
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}", self.way.bucket)
    }
}

/// Plans read. What is written goes by [`Upload`](super::Upload).
#[async_trait]
impl ObjectStore for Bucket {
    async fn get_opts(&self, path: &ObjectPath, options: GetOptions) -> object_store::Result<GetResult> {
        let key = self.key(path)?;
        let tell = {
            let (way, what) = (self.way.clone(), key.to_string());
            move |error: &object_store::Error| {
                let location = Location { bucket: way.bucket.clone(), key: what.clone() };
                refused(told(&way, &location.url(), error))
            }
        };
        let got = self.store.get_opts(&key, options).await.map_err(|error| tell(&error))?;
        let payload = match got.payload {
            GetResultPayload::Stream(bytes) => {
                GetResultPayload::Stream(bytes.map_err(move |error| tell(&error)).boxed())
            }
            other => other,
        };
        Ok(GetResult { payload, meta: self.rooted(got.meta), ..got })
    }

    fn list(&self, prefix: Option<&ObjectPath>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        let error = Error::internal(format!("a plan lists {}", prefix.map_or("", |prefix| prefix.as_ref())));
        stream::once(async move { Err(refused(error)) }).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&ObjectPath>) -> object_store::Result<ListResult> {
        Err(refused(Error::internal(format!("a plan lists {}", prefix.map_or("", |prefix| prefix.as_ref())))))
    }

    async fn put_opts(&self, _: &ObjectPath, _: PutPayload, _: PutOptions) -> object_store::Result<PutResult> {
        Err(self.unwritable())
    }

    async fn put_multipart_opts(
        &self,
        _: &ObjectPath,
        _: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        Err(self.unwritable())
    }

    fn delete_stream(
        &self,
        _: BoxStream<'static, object_store::Result<ObjectPath>>,
    ) -> BoxStream<'static, object_store::Result<ObjectPath>> {
        let error = self.unwritable();
        stream::once(async move { Err(error) }).boxed()
    }

    async fn copy_opts(&self, _: &ObjectPath, _: &ObjectPath, _: CopyOptions) -> object_store::Result<()> {
        Err(self.unwritable())
    }
}

/// For whoever wants it as DataFusion does.
impl Bucket {
    pub fn store(self: &Arc<Self>) -> Arc<dyn ObjectStore> {
        Arc::clone(self) as Arc<dyn ObjectStore>
    }
}
