//! Many small files of a table become few large ones, while others read and write it.

use std::sync::Arc;

use datafusion::execution::session_state::SessionState;

use crate::engine::Engine;
use crate::engine::session::lock;
use crate::engine::work::not_in_the_way;
use crate::error::{Error, Kind, Result};
use crate::storage::{Change, DataFile, LakeTable, Relation, Replaces, Store, TableId, fill};

/// A file with fewer rows, and fewer bytes, is small.
const SMALL_ROWS: u64 = 1 << 19;
const SMALL_BYTES: u64 = 64 << 20;

/// With so many small files a table is compacted without being asked.
const MANY: usize = 64;

/// The small files that there would be fewer of, those of one partition side by side, and in how many partitions they are.
fn small_files(relation: &Relation) -> (Vec<DataFile>, usize) {
    let mut small: Vec<&DataFile> =
        relation.files.iter().filter(|file| file.rows < SMALL_ROWS && file.bytes < SMALL_BYTES).collect();
    small.sort_by(|a, b| a.partition().cmp(b.partition()));
    let together = small.chunk_by(|a, b| a.partition() == b.partition()).filter(|files| files.len() > 1);
    let partitions = together.clone().count();
    (together.flatten().map(|file| (*file).clone()).collect(), partitions)
}

/// Where rows come one by one all day, so many files of earlier versions are kept, whatever their age.
const MOST_EARLIER_FILES: usize = 10_000;

impl Engine {
    /// Compacts a table in the background if it has many small files, and nobody is at it already. A transaction that has
    /// changed it would lose its files, and could not be committed: it is left alone until that ends.
    pub(super) fn tidy(self: &Arc<Self>, table: TableId) {
        let has_many = |relation: Relation| {
            let (files, partitions) = small_files(&relation);
            files.len() >= MANY + partitions - 1
        };
        if !self.sight.store.table(table).is_ok_and(has_many)
            || self.sight.store.is_being_changed(table)
            || !lock(&self.tidied).insert(table)
        {
            return;
        }
        let (engine, state) = (Arc::downgrade(self), self.base.clone());
        let store = Arc::clone(&self.sight.store);
        let work = async move {
            let done = compact(&store, table, &state).await;
            let kept = store.vacuum_down_to(table, MOST_EARLIER_FILES);
            if let Some(engine) = engine.upgrade() {
                lock(&engine.tidied).remove(&table);
            }
            match done {
                Ok(Some((from, to))) => tracing::debug!(%table, from, to, "small files were compacted"),
                Ok(None) => {}
                Err(error) => tracing::warn!(%table, %error, "small files could not be compacted"),
            }
            if let Err(error) = kept {
                tracing::warn!(%table, %error, "files of earlier versions could not be deleted");
            }
        };
        match self.work() {
            Ok(threads) => drop(threads.spawn(work)),
            Err(_) => drop(lock(&self.tidied).remove(&table)),
        }
    }
}

/// Writes the small files of a table into as few as there need be, and answers how many there were and are; `None`: there
/// is nothing to do. Rows that come meanwhile stay where they are. Where somebody changes the same files meanwhile the
/// work was for nothing, and is done again.
pub(super) async fn compact(
    store: &Arc<Store>,
    table: TableId,
    state: &SessionState,
) -> Result<Option<(usize, usize)>> {
    const TRIES: usize = 5;
    for _ in 0..TRIES {
        match once(store, table, state).await {
            Err(error) if error.kind == Kind::Conflict => {}
            done => return done,
        }
    }
    Err(Error::new(Kind::Conflict, "the table changes faster than it can be compacted")
        .hint("run OPTIMIZE again later"))
}

async fn once(store: &Arc<Store>, table: TableId, state: &SessionState) -> Result<Option<(usize, usize)>> {
    let relation = store.table(table)?;
    let (small, _) = small_files(&relation);
    if small.is_empty() {
        return Ok(None);
    }
    let part = Relation { files: small.clone().into(), ..relation };
    let empty = store.writer_for(&part)?;
    let lake = LakeTable::new(Arc::clone(store), part)?;
    let writer = fill(empty, lake.rows_in_order(state, state.task_ctx()).await?).await?;
    let (from, to) = (small.len(), writer.files());
    // No await from here to the answer: what is cancelled has committed nothing.
    not_in_the_way(|| store.change(Change::of_rows(table, "OPTIMIZE", Replaces::Files(small)), writer))?;
    Ok(Some((from, to)))
}
