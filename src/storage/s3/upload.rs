//! An object that is written: there whole, or not at all.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use object_store::MultipartUpload;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::bucket::Bucket;
use crate::error::{Error, Result};

/// What is sent at once. A store takes 10,000 parts an object: 156 GiB.
const PART_BYTES: usize = 16 << 20;
/// Parts on their way at the same time.
const AT_ONCE: usize = 4;

/// An object on its way. Until the end nobody sees it, and what was there before stays; dropped before, it leaves
/// nothing. Written on threads that may wait.
pub struct Upload {
    bucket: Arc<Bucket>,
    key: String,
    runtime: Handle,
    part: Vec<u8>,
    /// `None`: all of it fits into one part so far.
    begun: Option<Box<dyn MultipartUpload>>,
    sending: JoinSet<object_store::Result<()>>,
}

impl Upload {
    pub fn new(bucket: Arc<Bucket>, key: &str) -> Result<Self> {
        let runtime = Handle::try_current().map_err(|error| Error::internal(error.to_string()))?;
        Ok(Self { bucket, key: key.to_owned(), runtime, part: Vec::new(), begun: None, sending: JoinSet::new() })
    }

    pub fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while self.part.len() + bytes.len() >= PART_BYTES {
            let (fits, rest) = bytes.split_at(PART_BYTES - self.part.len());
            self.part.extend_from_slice(fits);
            bytes = rest;
            self.send_part()?;
        }
        self.part.extend_from_slice(bytes);
        Ok(())
    }

    /// The end of the object: from here on it is there.
    pub fn finish(mut self) -> Result<()> {
        if self.begun.is_none() {
            let bytes = Bytes::from(std::mem::take(&mut self.part));
            return self.runtime.block_on(self.bucket.put(&self.key, bytes));
        }
        if !self.part.is_empty() {
            self.send_part()?;
        }
        while !self.sending.is_empty() {
            self.wait()?;
        }
        let Some(begun) = &mut self.begun else { return Err(Error::internal("an upload that did not begin")) };
        self.runtime.block_on(begun.complete()).map_err(|error| self.bucket.told(&self.key, &error))?;
        self.begun = None;
        Ok(())
    }

    fn send_part(&mut self) -> Result<()> {
        while self.sending.len() >= AT_ONCE {
            self.wait()?;
        }
        let begun = match &mut self.begun {
            Some(begun) => begun,
            None => self.begun.insert(self.runtime.block_on(self.bucket.begin(&self.key))?),
        };
        let part = Bytes::from(std::mem::take(&mut self.part));
        self.sending.spawn_on(begun.put_part(part.into()), &self.runtime);
        Ok(())
    }

    /// Waits for one of the parts to arrive.
    fn wait(&mut self) -> Result<()> {
        match self.runtime.block_on(self.sending.join_next()) {
            None | Some(Ok(Ok(()))) => Ok(()),
            Some(Ok(Err(error))) => Err(self.bucket.told(&self.key, &error)),
            Some(Err(error)) => Err(Error::internal(format!("the sending of a part stopped: {error}"))),
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(mut begun) = self.begun.take() else { return };
        let (mut sending, what) = (std::mem::take(&mut self.sending), format!("{}/{}", self.bucket, self.key));
        self.runtime.spawn(async move {
            sending.shutdown().await;
            if let Err(error) = begun.abort().await {
                tracing::warn!(object = what, %error, "could not take back the parts of an object that was not finished");
            }
        });
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Upload({}/{})", self.bucket, self.key)
    }
}
