//! Files and folders that delete themselves at the right moment: drafts unless committed, stored ones once dropped.

use std::collections::HashMap;
use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::Statistics;

use super::lock;
use crate::error::{Error, Kind, Result};

/// A file or folder written for a commit that has not happened yet. Dropping it deletes it, unless it has been placed.
#[derive(Debug)]
pub(super) struct Draft {
    path: PathBuf,
    placed: OnceLock<Arc<Stored>>,
}

impl Draft {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, placed: OnceLock::new() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is where it belongs.
    pub(super) fn is_placed(&self) -> bool {
        self.placed.get().is_some()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if self.placed.get().is_none() {
            remove(&self.path);
        }
    }
}

/// A file or folder where it belongs. It deletes itself when its last holder lets go, unless the catalog names it.
#[derive(Debug)]
pub(super) struct Stored {
    path: PathBuf,
    named: AtomicBool,
    /// What the footer of a data file says of the columns that its table had when somebody asked.
    statistics: RwLock<Option<(SchemaRef, Arc<Statistics>)>>,
}

impl Stored {
    fn new(path: PathBuf, named: bool) -> Arc<Self> {
        Arc::new(Self { path, named: AtomicBool::new(named), statistics: RwLock::default() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What is known of the values in these columns of a data file.
    pub(super) fn statistics(&self, columns: &SchemaRef) -> Option<Arc<Statistics>> {
        let known = self.statistics.read().unwrap_or_else(PoisonError::into_inner);
        let (of, statistics) = known.as_ref()?;
        (Arc::ptr_eq(of, columns) || of == columns).then(|| Arc::clone(statistics))
    }

    /// Files never change, so what their footer says is read once, until their table gets other columns.
    pub(super) fn keep_statistics(&self, columns: &SchemaRef, statistics: Statistics) -> Arc<Statistics> {
        let statistics = Arc::new(statistics);
        let known = (Arc::clone(columns), Arc::clone(&statistics));
        *self.statistics.write().unwrap_or_else(PoisonError::into_inner) = Some(known);
        statistics
    }

    /// Hands it over to the catalog. From here on only [`Stored::doom`] and the sweep at start may judge it: a commit
    /// that reports an error may still have reached the disk, and then its rows must find their files.
    pub(super) fn keep(&self) {
        self.named.store(true, Ordering::Release);
    }

    /// The catalog names it no more, and that is on disk.
    pub(super) fn doom(&self) {
        self.named.store(false, Ordering::Release);
    }
}

impl Drop for Stored {
    fn drop(&mut self) {
        if !self.named.load(Ordering::Acquire) {
            remove(&self.path);
            if let Some(parent) = self.path.parent() {
                // The folder of a model or table goes with what was last in it; while it has more this fails, as it should.
                let _ = fs::remove_dir(parent);
            }
        }
    }
}

/// All that anybody holds, by its path, so that nothing on disk has two that would delete it.
#[derive(Debug, Default)]
pub(super) struct Held(Mutex<HashMap<PathBuf, Weak<Stored>>>);

impl Held {
    /// What the catalog names by this path.
    pub(super) fn at(&self, path: &Path) -> Arc<Stored> {
        let mut held = lock(&self.0);
        match held.get(path).and_then(Weak::upgrade) {
            Some(stored) => stored,
            None => hold(&mut held, Stored::new(path.to_owned(), true)),
        }
    }

    /// Moves a draft to where it belongs, unless it is there already. The folder is yet to be synced.
    ///
    /// # Errors
    /// [`Kind::Conflict`] if it was placed elsewhere: what it belongs to is not what it was.
    pub(super) fn place(&self, draft: &Draft, path: PathBuf) -> Result<Arc<Stored>> {
        let mut held = lock(&self.0);
        let placed = match draft.placed.get() {
            Some(placed) => placed,
            None => {
                if path.is_dir() {
                    // A commit that failed at its very end left it there; no row names it.
                    fs::remove_dir_all(&path)?;
                }
                fs::rename(&draft.path, &path)?;
                let stored = hold(&mut held, Stored::new(path.clone(), false));
                draft.placed.get_or_init(|| stored)
            }
        };
        match placed.path == path {
            true => Ok(Arc::clone(placed)),
            false => {
                Err(Error::new(Kind::Conflict, "could not commit: somebody else was faster with what this would make")
                    .hint("run the transaction again"))
            }
        }
    }
}

fn hold(held: &mut HashMap<PathBuf, Weak<Stored>>, stored: Arc<Stored>) -> Arc<Stored> {
    // Before it would grow, what nobody holds any more makes room.
    if held.len() == held.capacity() {
        held.retain(|_, stored| stored.strong_count() > 0);
    }
    held.insert(stored.path.clone(), Arc::downgrade(&stored));
    stored
}

/// Deletes a file or folder. What cannot be deleted now is swept at the next start.
fn remove(path: &Path) {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    if let Err(error) = removed
        && error.kind() != ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "could not delete; the next start will");
    }
}

/// Makes the names in a folder as durable as the files they name.
pub(super) fn sync_dir(path: &Path) -> Result<()> {
    Ok(File::open(path)?.sync_all()?)
}

/// A name that no file had before; later names sort later, so that files read in the order they were written.
pub(super) fn fresh_name() -> String {
    let now = now_micros();
    format!("{now:016x}-{:016x}", RandomState::new().hash_one(now))
}

/// Microseconds since 1970, UTC.
pub(super) fn now_micros() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
