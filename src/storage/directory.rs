//! The data directory: opened by one process at a time, and all that its sessions share.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use datafusion::object_store::ObjectStore;
use datafusion::object_store::local::LocalFileSystem;

use super::appends::Appends;
use super::catalog::{Catalog, Step, Writing};
use super::delta;
use super::disk::sync_dir;
use super::relation::TableId;
use super::rows::{table_dir, version_dir};
use super::secrets::Secrets;
use super::state::{State, Touched};
use crate::error::{Error, Kind, Result};

pub(super) struct Directory {
    pub(super) root: PathBuf,
    pub(super) catalog: Catalog,
    /// The directory as DataFusion reads it: paths below the root, whatever characters the root has.
    pub(super) objects: Arc<dyn ObjectStore>,
    pub(super) appends: Appends,
    /// Up to which version other readers of Delta tables see each table.
    pub(super) published: Mutex<HashMap<TableId, u64>>,
    pub(super) secrets: Secrets,
    /// Locked as long as the directory is open.
    _lock: File,
}

impl Directory {
    /// Opens the data directory, or creates it, and sweeps away what was never committed.
    pub(super) fn open(root: &Path) -> Result<Self> {
        let given = root;
        for dir in ["tables", "models"] {
            fs::create_dir_all(given.join(dir)).map_err(|error| unusable(given, &error))?;
        }
        let root = given.canonicalize().map_err(|error| unusable(given, &error))?;
        let lock = lock(given)?;
        let data_exists = !folders(&root.join("tables"))?.is_empty() || !folders(&root.join("models"))?.is_empty();
        let catalog = Catalog::open(&root, data_exists)?;
        sweep(&root, &catalog.state())?;
        for dir in ["tables", "models"] {
            fs::create_dir_all(root.join(dir).join("incoming"))?;
        }
        fs::create_dir_all(root.join(SPILLED))?;
        sync_dir(&root)?;
        let objects = LocalFileSystem::new_with_prefix(&root)
            .map_err(|error| Error::new(Kind::Io, format!("could not read the data directory: {error}")))?;
        let directory = Self {
            secrets: Secrets::new(&root),
            root,
            catalog,
            objects: Arc::new(objects),
            appends: Appends::default(),
            published: Mutex::default(),
            _lock: lock,
        };
        directory.publish_all();
        Ok(directory)
    }

    /// Commits a change, and publishes the tables that it has changed.
    pub(super) fn commit<T>(&self, change: impl FnOnce(&Writing<'_>) -> Result<(T, Vec<Touched>)>) -> Result<T> {
        let (answer, changed) = self.catalog.commit(change)?;
        self.publish(&changed);
        Ok(answer)
    }

    /// Commits the steps of a transaction, and answers which tables have changed.
    pub(super) fn commit_all(&self, steps: &[Arc<Step>], only_on: Option<u64>) -> Result<HashSet<TableId>> {
        let changed = self.catalog.commit_all(steps, only_on)?;
        self.publish(&changed);
        Ok(changed)
    }
}

fn unusable(root: &Path, error: &std::io::Error) -> Error {
    Error::new(Kind::Io, format!("could not use data directory \"{}\": {error}", root.display()))
        .hint("name a folder that this user may write to")
}

/// Takes the directory for this process, until the file is closed, be it by a crash.
fn lock(root: &Path) -> Result<File> {
    let unusable = |error: &std::io::Error| unusable(root, error);
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(root.join("LOCK"));
    let mut file = open.map_err(|error| unusable(&error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            file.read_to_string(&mut pid).map_err(|error| unusable(&error))?;
            let who = if pid.trim().is_empty() { String::new() } else { format!(" (pid {})", pid.trim()) };
            let message = format!("data directory \"{}\" is in use by another cohort process{who}", root.display());
            return Err(
                Error::new(Kind::NotReady, message).hint("stop that process, or give this one another data directory")
            );
        }
        Err(TryLockError::Error(error)) => return Err(unusable(&error)),
    }
    let pid = format!("{}\n", std::process::id());
    file.set_len(0).and_then(|()| file.write_all(pid.as_bytes())).map_err(|error| unusable(&error))?;
    Ok(file)
}

/// Where queries put what does not fit into their memory. Not in the system's folder, which may be in memory itself.
pub(super) const SPILLED: &str = "spilled";

/// Deletes what no row names: drafts of a process that died, and what it had no time to delete.
///
/// Only folders named by a number are ours; whatever else people put beside them stays.
fn sweep(root: &Path, state: &State) -> Result<()> {
    for left in [root.join("tables/incoming"), root.join("models/incoming"), root.join(SPILLED)] {
        if left.exists() {
            fs::remove_dir_all(left)?;
        }
    }
    let tables: HashSet<PathBuf> = state.relations().map(|row| table_dir(root, TableId(row.id))).collect();
    let named = state.relations().flat_map(|row| row.files.iter().chain(row.past.iter())).map(|file| file.path());
    let files: HashSet<&Path> = named.collect();
    for dir in folders(&root.join("tables"))? {
        let mut empty = true;
        for entry in fs::read_dir(&dir)? {
            let path = entry?.path();
            let is_log = path.ends_with(delta::LOG) && tables.contains(dir.as_path());
            match is_log || files.contains(path.as_path()) {
                true => empty = false,
                false if path.is_dir() => fs::remove_dir_all(&path)?,
                false => fs::remove_file(&path)?,
            }
        }
        if empty {
            fs::remove_dir(&dir)?;
        }
    }

    let versions: HashSet<PathBuf> = state
        .models()
        .flat_map(|model| model.versions.iter().map(|row| version_dir(root, model.id, row.version)))
        .collect();
    for dir in folders(&root.join("models"))? {
        let (named, unnamed): (Vec<_>, Vec<_>) = folders(&dir)?.into_iter().partition(|path| versions.contains(path));
        for path in unnamed {
            fs::remove_dir_all(path)?;
        }
        if named.is_empty() {
            fs::remove_dir_all(dir)?;
        }
    }
    Ok(())
}

/// The folders in `dir` that are named by a number.
fn folders(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let number = entry.file_name().to_str().is_some_and(|name| name.parse::<u64>().is_ok());
        if number && entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}
