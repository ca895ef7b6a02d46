//! The threads that take files apart and put them together.

use std::sync::OnceLock;

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::{Error, Result};

/// As many threads as rayon's own pool has. They are apart from it, so that rows are written while a model is trained.
pub fn pool() -> Result<&'static ThreadPool> {
    static POOL: OnceLock<ThreadPool> = OnceLock::new();
    if let Some(pool) = POOL.get() {
        return Ok(pool);
    }
    let pool = ThreadPoolBuilder::new()
        .num_threads(rayon::current_num_threads())
        .thread_name(|n| format!("cohort-file-{n}"))
        .build()
        .map_err(|error| Error::internal(format!("no threads for files: {error}")))?;
    Ok(POOL.get_or_init(|| pool))
}
