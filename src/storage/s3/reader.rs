//! An object as a file: read on a thread that may wait.

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

use bytes::Bytes;
use datafusion::object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore};
use tokio::runtime::Handle;

use super::bucket::Bucket;
use crate::error::Error;

/// What is fetched at once: little first, for whoever looks at the beginning only, then more and more.
const FIRST_BYTES: u64 = 64 << 10;
const MOST_BYTES: u64 = 4 << 20;

/// One object, as it was when it was found: replaced meanwhile, it is not read on.
pub struct ObjectReader {
    bucket: Arc<Bucket>,
    object: ObjectMeta,
    runtime: Handle,
    at: u64,
    held: Bytes,
    held_at: u64,
    next_bytes: u64,
}

impl ObjectReader {
    /// Must be made on a thread of a runtime, and read on one that may wait for it.
    pub fn new(bucket: Arc<Bucket>, object: ObjectMeta) -> io::Result<Self> {
        let runtime = Handle::try_current().map_err(io::Error::other)?;
        Ok(Self { bucket, object, runtime, at: 0, held: Bytes::new(), held_at: 0, next_bytes: FIRST_BYTES })
    }

    fn fetch(&self, from: u64, to: u64) -> io::Result<Bytes> {
        let options = GetOptions {
            range: Some(GetRange::Bounded(from..to)),
            if_match: self.object.e_tag.clone(),
            ..GetOptions::default()
        };
        let got =
            self.runtime.block_on(async { self.bucket.get_opts(&self.object.location, options).await?.bytes().await });
        got.map_err(|error| match Error::within(&error) {
            Some(ours) => io::Error::other(ours.clone()),
            None => io::Error::other(error),
        })
    }
}

impl Read for ObjectReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let end = self.object.size;
        if into.is_empty() || self.at >= end {
            return Ok(0);
        }
        let held_end = self.held_at + self.held.len() as u64;
        if self.at < self.held_at || self.at >= held_end {
            // Whoever jumps does not read on from there.
            self.next_bytes = if self.at == held_end { (self.next_bytes * 2).min(MOST_BYTES) } else { FIRST_BYTES };
            let to = self.at.saturating_add(self.next_bytes).min(end);
            self.held = self.fetch(self.at, to)?;
            self.held_at = self.at;
        }
        let from = usize::try_from(self.at - self.held_at).unwrap_or(usize::MAX);
        let rest = self.held.get(from..).unwrap_or_default();
        let taken = rest.len().min(into.len());
        into[..taken].copy_from_slice(&rest[..taken]);
        self.at += taken as u64;
        Ok(taken)
    }
}

impl Seek for ObjectReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.object.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = to.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}
