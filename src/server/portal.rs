//! Prepared statements and portals, and the rows that a portal has still to send.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::ScalarValue;
use futures::{FutureExt as _, StreamExt as _};
use pgwire::api::Type;
use tokio::sync::mpsc;

use super::encode::{Column, CopyEncoding, Encoding, Format, Style, put_rows};
use super::failure::Failure;
use super::watch::Watch;
use super::wire::{ENOUGH, Wire};
use crate::engine::{CopyOptions, Prepared, Rows, Session};
use crate::error::{Error, Result};

/// What Parse leaves behind.
pub(super) struct Statement {
    /// `None` for an empty text, which is a statement too.
    pub prepared: Option<Prepared>,
    /// The types parameters arrive as: declared by the client, or found by the engine.
    pub parameters: Vec<Type>,
    /// The prepared statement this one deallocates.
    pub deallocates: Option<String>,
}

/// What Bind leaves behind: a statement with its parameters, on its way from start to end.
pub(super) struct Portal {
    pub statement: Arc<Statement>,
    /// How each column of its result was asked for.
    pub formats: Vec<Format>,
    pub state: State,
}

pub(super) enum State {
    Bound(Vec<ScalarValue>),
    /// Some rows were sent; the query waits for its client to ask for more.
    Open(Box<Cursor>),
    /// All rows were sent, under this verb: there are none any more.
    Finished(&'static str),
    /// A statement without rows was run, which happens once.
    Done,
}

/// Rows on their way to a client: the stream, the batch at hand and how far it was sent.
pub(super) struct Cursor {
    rows: Rows,
    pub verb: &'static str,
    encoding: Encoding,
    /// How rows are put into messages that are not `DataRow`.
    copy: Option<CopyEncoding>,
    batch: Option<Batch>,
    pub watch: Watch,
}

struct Batch {
    columns: Vec<Column>,
    rows: usize,
    /// The first row that was not sent yet.
    next: usize,
}

/// How far a cursor got, and how many rows that took.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Complete(u64),
    Suspended(u64),
}

impl Cursor {
    pub(super) fn open(
        rows: Rows,
        verb: &'static str,
        formats: &[Format],
        session: &Session,
        watch: Watch,
    ) -> Result<Self> {
        let zone = session.setting("TimeZone").filter(|zone| !zone.eq_ignore_ascii_case("UTC"));
        let style = Style { zone: zone.and_then(|zone| zone.parse().ok()) };
        let encoding = Encoding::new(&rows.schema, formats, style)?;
        Ok(Self { rows, verb, encoding, copy: None, batch: None, watch })
    }

    /// A cursor whose rows are the lines of a file.
    pub(super) fn copy(rows: Rows, options: &CopyOptions, session: &Session, watch: Watch) -> Result<Self> {
        let mut cursor = Self::open(rows, "COPY", &[CopyEncoding::format(options)], session, watch)?;
        cursor.copy = Some(CopyEncoding::new(options, &cursor.rows.schema, cursor.encoding.types())?);
        Ok(cursor)
    }

    /// Sends all rows as one file, and says how many there were.
    pub(super) async fn send_file(&mut self, wire: &mut Wire) -> Result<u64, Failure> {
        if let Some(copy) = &self.copy {
            copy.put_header(&self.rows.schema, wire.outbox())?;
        }
        let (Progress::Complete(sent) | Progress::Suspended(sent)) = self.send(wire, None).await?;
        if let Some(copy) = &self.copy {
            copy.put_end(wire.outbox())?;
        }
        Ok(sent)
    }

    /// Hands all rows over as the pieces of one file, its end as `None`, and says how many there were.
    pub(super) async fn write_file(
        &mut self,
        wire: &mut Wire,
        pieces: &mpsc::Sender<Option<Bytes>>,
    ) -> Result<u64, Failure> {
        let Some(copy) = self.copy.take() else { return Err(Error::internal("rows without a format").into()) };
        let mut copy = copy.without_messages();
        let mut out = BytesMut::new();
        let mut written = 0;
        copy.put_header(&self.rows.schema, &mut out)?;
        while let Some(batch) = self.next_batch(wire).await? {
            let mut next = 0;
            while next < batch.rows {
                next = copy.put_rows(&batch.columns, next..batch.rows, ENOUGH, &mut out)?;
                if out.len() >= ENOUGH {
                    self.hand_over(wire, pieces, Some(out.split().freeze())).await?;
                }
            }
            written += batch.rows as u64;
        }
        copy.put_end(&mut out)?;
        self.hand_over(wire, pieces, Some(out.freeze())).await?;
        self.hand_over(wire, pieces, None).await?;
        Ok(written)
    }

    async fn hand_over(
        &mut self,
        wire: &mut Wire,
        pieces: &mpsc::Sender<Option<Bytes>>,
        piece: Option<Bytes>,
    ) -> Result<(), Failure> {
        // A writer that has given up says itself why.
        let handed = async { Ok(pieces.send(piece).await.is_ok()) };
        self.watch.attend(wire, handed).await.map(|_| ())
    }

    /// Clients read rows by the description they got when the statement was prepared; tables may have changed since.
    pub(super) fn check_promise(&self, promised: Option<&SchemaRef>) -> Result<()> {
        let Some(promised) = promised else {
            return Err(Error::internal("a statement that was described without rows gave some"));
        };
        if Encoding::new(promised, &[], Style::default())?.types() == self.encoding.types() {
            return Ok(());
        }
        Err(Error::unsupported("cached plan must not change result type").hint("prepare the statement again"))
    }

    /// Sends up to `max_rows`, and never looks for a row beyond them: `Suspended` says that the limit was reached,
    /// not that there is more.
    pub(super) async fn send(&mut self, wire: &mut Wire, max_rows: Option<u64>) -> Result<Progress, Failure> {
        let mut sent = 0;
        loop {
            let left = max_rows.map_or(usize::MAX, |max| usize::try_from(max - sent).unwrap_or(usize::MAX));
            if left == 0 {
                return Ok(Progress::Suspended(sent));
            }
            let Some(batch) = &mut self.batch else {
                match self.next_batch(wire).await? {
                    Some(batch) => self.batch = Some(batch),
                    None => return Ok(Progress::Complete(sent)),
                }
                continue;
            };
            let end = batch.rows.min(batch.next.saturating_add(left));
            let next = match &mut self.copy {
                Some(copy) => copy.put_rows(&batch.columns, batch.next..end, ENOUGH, wire.outbox())?,
                None => put_rows(&batch.columns, batch.next..end, ENOUGH, wire.outbox())?,
            };
            sent += (next - batch.next) as u64;
            batch.next = next;
            if batch.next == batch.rows {
                self.batch = None;
            }
            if wire.is_full() {
                self.watch.flush(wire).await?;
            }
        }
    }

    async fn next_batch(&mut self, wire: &mut Wire) -> Result<Option<Batch>, Failure> {
        self.watch.check()?;
        self.watch.forward(wire);
        let batch = match self.rows.next().now_or_never() {
            Some(batch) => batch.transpose()?,
            None => {
                let rows = &mut self.rows;
                self.watch.attend(wire, async { rows.next().await.transpose() }).await?
            }
        };
        // A query that was stopped may end its stream as if there were no more rows.
        self.watch.check()?;
        self.watch.forward(wire);
        let Some(batch) = batch else { return Ok(None) };
        Ok(Some(Batch { columns: self.encoding.columns(&batch)?, rows: batch.num_rows(), next: 0 }))
    }
}
