//! Cursors: queries that wait, partly read, for the next FETCH.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
use futures::{Stream, StreamExt};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::engine::Rows;
use crate::engine::session::lock;
use crate::error::{Error, Kind, Result};

/// Each open cursor holds a query.
const MAX_CURSORS: usize = 64;

/// The cursors of a session by name.
#[derive(Default)]
pub(super) struct Cursors(Mutex<Named>);

#[derive(Default)]
struct Named {
    cursors: BTreeMap<String, Entry>,
    /// How many there have been.
    declared: u64,
}

struct Entry {
    schema: SchemaRef,
    binary: bool,
    hold: bool,
    /// Tells it from others that had its name.
    id: u64,
    /// The block it was declared in has not ended.
    in_block: bool,
    /// How many savepoints there were when it was declared.
    savepoints: usize,
    /// `None` while a FETCH reads from it.
    cursor: Option<Cursor>,
}

/// A query's rows, and how far they were read.
struct Cursor {
    rows: Rows,
    /// What is left of the batch at hand.
    rest: Option<RecordBatch>,
    /// How many rows were read.
    read: u64,
}

/// What DECLARE says of a cursor besides its query.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kept {
    pub binary: bool,
    pub hold: bool,
    /// Whether it is declared in a block.
    pub in_block: bool,
    /// How many savepoints the block has.
    pub savepoints: usize,
}

/// How far a FETCH or MOVE goes. Cursors only go forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// This many rows onward; `None`: to the end.
    Forward(Option<u64>),
    /// To the row so many rows further on, and that row alone.
    Relative(u64),
    /// To the row of this number, and that row alone.
    Absolute(u64),
    /// Back, or to the end and back.
    Backward,
}

impl Cursors {
    pub(super) fn declare(&self, name: &str, rows: Rows, kept: Kept) -> Result<()> {
        let mut named = lock(&self.0);
        named.check(name)?;
        named.declared += 1;
        let entry = Entry {
            schema: Arc::clone(&rows.schema),
            binary: kept.binary,
            hold: kept.hold,
            id: named.declared,
            in_block: kept.in_block,
            savepoints: kept.savepoints,
            cursor: Some(Cursor { rows, rest: None, read: 0 }),
        };
        named.cursors.insert(name.to_owned(), entry);
        Ok(())
    }

    /// Whether a cursor of this name may be declared: asked before its query is planned.
    pub(super) fn check(&self, name: &str) -> Result<()> {
        lock(&self.0).check(name)
    }

    /// The columns of a cursor, and whether they are sent in binary.
    pub(super) fn columns(&self, name: &str) -> Option<(SchemaRef, bool)> {
        lock(&self.0).cursors.get(name).map(|entry| (Arc::clone(&entry.schema), entry.binary))
    }

    pub(super) fn close(&self, name: &str) -> bool {
        lock(&self.0).cursors.remove(name).is_some()
    }

    pub(super) fn close_all(&self) {
        lock(&self.0).cursors.clear();
    }

    /// A block has ended: only what was declared WITH HOLD stays, and of a failed block nothing.
    pub(super) fn end_block(&self, committed: bool) {
        let mut named = lock(&self.0);
        named.cursors.retain(|_, entry| entry.hold && (committed || !entry.in_block));
        named.cursors.values_mut().for_each(|entry| entry.in_block = false);
    }

    /// The savepoints from this one on are gone, and what was declared after them belongs to those before.
    pub(super) fn release(&self, savepoint: usize) {
        let mut named = lock(&self.0);
        named.cursors.values_mut().for_each(|entry| entry.savepoints = entry.savepoints.min(savepoint));
    }

    /// The block is taken back to this savepoint.
    pub(super) fn close_since(&self, savepoint: usize) {
        lock(&self.0).cursors.retain(|_, entry| !entry.in_block || entry.savepoints <= savepoint);
    }

    /// The rows of a FETCH, read from the cursor as they are asked for.
    pub(super) fn fetch(self: &Arc<Self>, name: &str, step: Step, cancel: &CancellationToken) -> Result<Rows> {
        let mut named = lock(&self.0);
        let entry = named.cursors.get_mut(name).ok_or_else(|| unknown(name))?;
        let Some(cursor) = entry.cursor.take() else {
            return Err(Error::new(Kind::NotReady, format!("cursor \"{name}\" is being read by another statement")));
        };
        let (skip, left) = match step.from(cursor.read) {
            Ok(way) => way,
            Err(error) => {
                entry.cursor = Some(cursor);
                return Err(error);
            }
        };
        let (schema, binary) = (Arc::clone(&entry.schema), entry.binary);
        let from = (Arc::clone(self), name.to_owned(), entry.id);
        let stopped = Box::pin(cancel.clone().cancelled_owned());
        let mut rows = Rows::of(schema, Fetch { from, cursor: Some(cursor), skip, left, stopped });
        rows.binary = binary;
        Ok(rows)
    }

    /// What was stopped in its middle, or has failed, is over.
    fn end(&self, name: &str, id: u64) {
        lock(&self.0).cursors.retain(|known, entry| known != name || entry.id != id);
    }

    fn put_back(&self, name: &str, id: u64, cursor: Cursor) {
        // It may have been closed meanwhile.
        if let Some(entry) = lock(&self.0).cursors.get_mut(name).filter(|entry| entry.id == id) {
            entry.cursor = Some(cursor);
        }
    }
}

impl Named {
    fn check(&self, name: &str) -> Result<()> {
        if self.cursors.contains_key(name) {
            return Err(Error::new(Kind::CursorExists, format!("cursor \"{name}\" already exists")));
        }
        if self.cursors.len() >= MAX_CURSORS {
            let message = format!("too many cursors: {MAX_CURSORS} is the most a connection can have");
            return Err(Error::new(Kind::LimitExceeded, message).hint("close those that are not needed any more"));
        }
        Ok(())
    }
}

pub(super) fn unknown(name: &str) -> Error {
    Error::new(Kind::UnknownPortal, format!("cursor \"{name}\" does not exist"))
}

impl Step {
    /// How many rows are skipped and how many given, from where so many have been read; `u64::MAX` is all.
    fn from(self, read: u64) -> Result<(u64, u64)> {
        match self {
            Self::Forward(None) => Ok((0, u64::MAX)),
            Self::Forward(Some(rows)) if rows > 0 || read == 0 => Ok((0, rows)),
            Self::Relative(rows) if rows > 0 => Ok((rows - 1, 1)),
            Self::Relative(_) if read == 0 => Ok((0, 0)),
            Self::Absolute(row) if row > read => Ok((row - read - 1, 1)),
            _ => Err(Error::new(Kind::NotReady, "cursor can only scan forward")
                .hint("declare it again to read it from the start, with an ORDER BY that suits")),
        }
    }
}

impl Cursor {
    /// The next rows, at most so many; `None` at the end.
    fn poll(&mut self, cx: &mut Context<'_>, most: u64) -> Poll<Option<Result<RecordBatch>>> {
        let batch = match self.rest.take() {
            Some(batch) => batch,
            None => match ready!(self.rows.poll_next_unpin(cx)) {
                Some(Ok(batch)) => batch,
                end => return Poll::Ready(end),
            },
        };
        let taken = usize::try_from(most).unwrap_or(usize::MAX).min(batch.num_rows());
        if taken < batch.num_rows() {
            self.rest = Some(batch.slice(taken, batch.num_rows() - taken));
        }
        self.read += taken as u64;
        Poll::Ready(Some(Ok(batch.slice(0, taken))))
    }
}

/// Some rows of a cursor. It goes back to its name once they are read, or nobody wants them any more.
struct Fetch {
    from: (Arc<Cursors>, String, u64),
    cursor: Option<Cursor>,
    skip: u64,
    left: u64,
    /// The statement was told to stop, and the query with it.
    stopped: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Fetch {
    fn put_back(&mut self) {
        if let Some(cursor) = self.cursor.take() {
            let (cursors, name, id) = &self.from;
            cursors.put_back(name, *id, cursor);
        }
    }

    fn end(&mut self) {
        self.cursor = None;
        let (cursors, name, id) = &self.from;
        cursors.end(name, *id);
    }
}

impl Stream for Fetch {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let this = &mut *self;
            let (skipping, most) = if this.skip > 0 { (true, this.skip) } else { (false, this.left) };
            let Some(cursor) = this.cursor.as_mut().filter(|_| most > 0) else {
                this.put_back();
                return Poll::Ready(None);
            };
            if this.stopped.as_mut().poll(cx).is_ready() {
                this.end();
                return Poll::Ready(Some(Err(Error::cancelled())));
            }
            match ready!(cursor.poll(cx, most)) {
                Some(Ok(rows)) if skipping => this.skip -= rows.num_rows() as u64,
                Some(Ok(rows)) => {
                    this.left -= rows.num_rows() as u64;
                    if this.left == 0 {
                        this.put_back();
                    }
                    return Poll::Ready(Some(Ok(rows)));
                }
                Some(Err(error)) => {
                    this.end();
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    this.put_back();
                    return Poll::Ready(None);
                }
            }
        }
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        self.put_back();
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{AsArray, Int64Array};
    use datafusion::arrow::datatypes::Int64Type;
    use futures::{TryStreamExt, stream};

    use super::*;

    /// A cursor over 1 to 10, in batches of four.
    fn ten(hold: bool) -> Arc<Cursors> {
        let batch = |from: i64, to: i64| {
            let numbers = Arc::new(Int64Array::from_iter_values(from..=to));
            RecordBatch::try_from_iter([("i", numbers as _)]).unwrap()
        };
        let batches = [batch(1, 4), batch(5, 8), batch(9, 10)];
        let schema = batches[0].schema();
        let cursors = Arc::new(Cursors::default());
        let rows = Rows::of(schema, stream::iter(batches.map(Ok)));
        cursors.declare("c", rows, Kept { binary: false, hold, in_block: true, savepoints: 0 }).unwrap();
        cursors
    }

    async fn fetched(cursors: &Arc<Cursors>, step: Step) -> Vec<i64> {
        let rows = cursors.fetch("c", step, &CancellationToken::new()).unwrap();
        let batches: Vec<RecordBatch> = rows.try_collect().await.unwrap();
        batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
    }

    #[tokio::test]
    async fn rows_come_once_and_in_order() {
        let cursors = ten(false);
        assert_eq!(fetched(&cursors, Step::Forward(Some(3))).await, [1, 2, 3]);
        assert_eq!(fetched(&cursors, Step::Forward(Some(3))).await, [4, 5, 6]);
        assert_eq!(fetched(&cursors, Step::Relative(2)).await, [8]);
        assert_eq!(fetched(&cursors, Step::Absolute(9)).await, [9]);
        let back = cursors.fetch("c", Step::Absolute(9), &CancellationToken::new()).err().unwrap();
        assert_eq!(back.kind.sqlstate(), "55000");
        assert_eq!(fetched(&cursors, Step::Forward(None)).await, [10]);
        assert!(fetched(&cursors, Step::Forward(None)).await.is_empty());
        assert!(cursors.fetch("c", Step::Backward, &CancellationToken::new()).is_err());
    }

    #[tokio::test]
    async fn who_leaves_a_fetch_leaves_the_cursor_where_it_is() {
        let cursors = ten(false);
        let mut rows = cursors.fetch("c", Step::Forward(None), &CancellationToken::new()).unwrap();
        assert_eq!(rows.next().await.unwrap().unwrap().num_rows(), 4);
        assert!(cursors.fetch("c", Step::Forward(None), &CancellationToken::new()).is_err());
        drop(rows);
        assert_eq!(fetched(&cursors, Step::Forward(Some(1))).await, [5]);
    }

    #[tokio::test]
    async fn a_fetch_that_is_stopped_ends_its_cursor() {
        let cursors = ten(true);
        let cancel = CancellationToken::new();
        let mut rows = cursors.fetch("c", Step::Forward(None), &cancel).unwrap();
        assert!(rows.next().await.unwrap().is_ok());
        cancel.cancel();
        assert!(rows.next().await.unwrap().is_err());
        assert!(cursors.columns("c").is_none());
    }

    #[test]
    fn a_cursor_lasts_as_long_as_its_block_unless_it_is_held() {
        let (brief, held) = (ten(false), ten(true));
        brief.end_block(true);
        held.end_block(true);
        assert!(brief.columns("c").is_none() && held.columns("c").is_some());
        held.end_block(false);
        assert!(held.columns("c").is_some(), "a later block has nothing to do with it");
        let undone = ten(true);
        undone.end_block(false);
        assert!(undone.columns("c").is_none());
    }
}
