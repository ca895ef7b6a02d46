//! What a statement gives back: rows as they come, or the tag of a thing done.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
use futures::Stream;
use futures::stream;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::engine::copy::{CopyIn, CopyOptions};
use crate::engine::out_file::OutFile;
use crate::engine::session::lock;
use crate::engine::shares::Turn;
use crate::error::Result;

/// The outcome of one statement.
pub enum Answer {
    /// Rows, and the verb of their command tag: `SELECT`, `SHOW`, `EXPLAIN` …
    Rows(Rows, &'static str),
    /// No rows; the whole command tag: `CREATE MODEL`, `INSERT 0 5` …
    Done(String),
    /// Rows that the client takes as a file: `COPY … TO STDOUT`.
    CopyOut(Rows, Box<CopyOptions>),
    /// Rows that become a file of the server, as text is written to clients: `COPY … TO 'file'`.
    CopyToFile(Rows, Box<CopyOptions>, OutFile),
    /// A table that waits for a file, the client's or one of the server: `COPY … FROM`.
    CopyIn(Box<CopyIn>),
}

/// Rows on their way from the engine's own threads, at most two batches ahead of the reader.
///
/// Dropping it stops the query.
pub struct Rows {
    pub schema: SchemaRef,
    /// Rows of a BINARY cursor: they are sent in binary whatever the protocol.
    pub binary: bool,
    batches: Pin<Box<dyn Stream<Item = Result<RecordBatch>> + Send + Sync>>,
}

impl Rows {
    /// Batches as they are made, what stops their making, and the turn that they are made in.
    pub(super) fn running(
        schema: SchemaRef,
        mut batches: mpsc::Receiver<Result<RecordBatch>>,
        held: (DropGuard, Option<Arc<Turn>>),
    ) -> Self {
        let batches = stream::poll_fn(move |cx| {
            let _held = &held;
            batches.poll_recv(cx)
        });
        Self::of(schema, batches)
    }

    pub(super) fn of(
        schema: SchemaRef,
        batches: impl Stream<Item = Result<RecordBatch>> + Send + Sync + 'static,
    ) -> Self {
        Self { schema, binary: false, batches: Box::pin(batches) }
    }
}

impl Stream for Rows {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.batches.as_mut().poll_next(cx)
    }
}

/// One run of one statement: how to stop it and where its notices go.
#[derive(Debug, Clone)]
pub struct Run {
    pub cancel: CancellationToken,
    pub notices: mpsc::UnboundedSender<Notice>,
    progress: Arc<Mutex<Progress>>,
}

/// How far a run has come, for who looks at it from elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// What it is at; empty: nothing that takes steps.
    pub doing: String,
    pub done: usize,
    /// 0: nobody knows.
    pub total: usize,
}

/// A remark beside the result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    pub level: Level,
    pub message: String,
    pub hint: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Notice,
    Warning,
}

impl Run {
    /// A run and the receiving end of its notices.
    pub fn new() -> (Self, mpsc::UnboundedReceiver<Notice>) {
        let (notices, receiver) = mpsc::unbounded_channel();
        (Self { cancel: CancellationToken::new(), notices, progress: Arc::default() }, receiver)
    }

    /// It is at something new.
    pub(super) fn begin(&self, doing: impl Into<String>) {
        *lock(&self.progress) = Progress { doing: doing.into(), ..Progress::default() };
    }

    /// So many steps of it are done.
    pub(super) fn step(&self, done: usize, total: usize) {
        let mut progress = lock(&self.progress);
        (progress.done, progress.total) = (done, total);
    }

    pub(super) fn progress(&self) -> Arc<Mutex<Progress>> {
        Arc::clone(&self.progress)
    }

    pub fn notice(&self, message: impl Into<String>) {
        self.say(Level::Notice, message.into(), None);
    }

    pub fn warning(&self, message: impl Into<String>, hint: impl Into<String>) {
        self.say(Level::Warning, message.into(), Some(hint.into()));
    }

    fn say(&self, level: Level, message: String, hint: Option<String>) {
        // Nobody listening any more is no reason to fail the statement.
        let _ = self.notices.send(Notice { level, message, hint });
    }
}
