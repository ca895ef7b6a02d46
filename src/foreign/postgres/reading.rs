//! Reading the rows of a query of a PostgreSQL.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;

use datafusion::arrow::record_batch::RecordBatch;
use futures::{StreamExt, TryStreamExt, stream};
use tokio_postgres::CopyOutStream;

use crate::error::{Error, Kind, Result};
use crate::foreign::postgres::binary::Decoder;
use crate::foreign::postgres::server::{Connection, Server};
use crate::foreign::postgres::snapshot::Snapshot;
use crate::foreign::query::Query;
use crate::foreign::wrapper::{Rows, Wanted};

/// An answer on its way. Dropped before its end, it takes the connection along, which stops the query over there.
pub struct Reading {
    connection: Option<Connection>,
    copy: Pin<Box<CopyOutStream>>,
    decoder: Decoder,
    ready: VecDeque<RecordBatch>,
    in_transaction: bool,
}

impl Reading {
    /// The rows of a query, in that state of the server if there is one.
    pub fn rows(server: Arc<Server>, query: Query, snapshot: Option<Arc<Snapshot>>, wanted: &Wanted) -> Rows {
        let decoder = Decoder::new(Arc::clone(&wanted.columns), &query.columns, wanted.batch_rows);
        let reading = Self::begin(server, query, snapshot, decoder);
        stream::once(reading).map_ok(Self::batches).try_flatten().boxed()
    }

    async fn begin(
        server: Arc<Server>,
        query: Query,
        snapshot: Option<Arc<Snapshot>>,
        decoder: Decoder,
    ) -> Result<Self> {
        let copy = format!("COPY ({}) TO STDOUT (FORMAT binary)", query.sql);
        let in_transaction = snapshot.is_some();
        let (connection, copy) = match snapshot {
            Some(snapshot) => {
                let connection = snapshot.join().await?;
                let begun = begin_copy(&connection, &copy).await?;
                (connection, begun)
            }
            None => {
                let connection = server.connect().await?;
                match begin_copy(&connection, &copy).await {
                    Ok(begun) => (connection, begun),
                    // The server may have closed it while nobody used it.
                    Err(error) if connection.used && error.kind == Kind::ConnectionLost => {
                        connection.close();
                        let connection = server.open().await?;
                        let begun = begin_copy(&connection, &copy).await?;
                        (connection, begun)
                    }
                    Err(error) => {
                        connection.close();
                        return Err(error);
                    }
                }
            }
        };
        let copy = Box::pin(copy);
        Ok(Self { connection: Some(connection), copy, decoder, ready: VecDeque::new(), in_transaction })
    }

    fn batches(self) -> impl futures::Stream<Item = Result<RecordBatch>> {
        stream::try_unfold(self, |mut reading| async move { Ok(reading.next().await?.map(|batch| (batch, reading))) })
    }

    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Ok(Some(batch));
            }
            let Some(connection) = &self.connection else { return Ok(None) };
            match self.copy.next().await {
                Some(Ok(piece)) => self.ready.extend(self.decoder.push(piece)?),
                Some(Err(error)) => {
                    let error = connection.failed(&error);
                    if let Some(connection) = self.connection.take() {
                        connection.close();
                    }
                    return Err(error);
                }
                None => {
                    let last = self.decoder.finish()?;
                    if let Some(connection) = self.connection.take() {
                        if self.in_transaction {
                            connection.execute("COMMIT").await?;
                        }
                        connection.done();
                    }
                    return Ok(last);
                }
            }
        }
    }
}

async fn begin_copy(connection: &Connection, copy: &str) -> Result<CopyOutStream> {
    let begun = connection.client()?.copy_out(copy).await;
    begun.map_err(|error| with_query(connection.failed(&error), copy))
}

/// A refusal is about the query, which whoever asked has never seen.
fn with_query(error: Error, copy: &str) -> Error {
    match error.kind {
        Kind::ConnectionLost => error,
        _ => error.context(format!("query of the foreign server: {copy}")),
    }
}
