//! COPY: a file to the client or from it, in the middle of either protocol.

use std::io::Read;
use std::pin::pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use pgwire::messages::copy::{CopyDone, CopyInResponse, CopyOutResponse};
use tokio::sync::mpsc;

use super::connection::Connection;
use super::decode::{Decoder, Piece};
use super::failure::Failure;
use super::portal::Cursor;
use super::responses::rows_complete;
use super::watch::Watch;
use super::wire::Wire;
use crate::engine::{CopyFormat, CopyIn, CopyOptions, OutFile, Rows};
use crate::error::{Error, Kind, Result};

/// Small messages are read together.
const PIECE: usize = 256 * 1024;
/// How many pieces of a file wait to be read.
const PIECES_AHEAD: usize = 2;
/// How many batches wait to be written.
const BATCHES_AHEAD: usize = 2;

impl Connection {
    /// Sends rows as a file.
    pub(super) async fn copy_out(&mut self, rows: Rows, options: &CopyOptions, watch: Watch) -> Result<(), Failure> {
        let _running = self.backend.running(&watch.run.cancel);
        let (format, columns, formats) = formats(options.format, rows.schema.fields().len())?;
        let mut cursor = Cursor::copy(rows, options, &self.session, watch)?;
        self.wire.send(&CopyOutResponse::new(format, columns, formats));
        let sent = cursor.send_file(&mut self.wire).await?;
        self.wire.send(&CopyDone::new());
        self.wire.send(&rows_complete("COPY", sent));
        Ok(())
    }

    /// Writes rows into a file of the server: they are put into words here, and written on a thread of its own.
    pub(super) async fn copy_to_file(
        &mut self,
        rows: Rows,
        options: &CopyOptions,
        mut file: OutFile,
        watch: Watch,
    ) -> Result<(), Failure> {
        let _running = self.backend.running(&watch.run.cancel);
        let mut cursor = Cursor::copy(rows, options, &self.session, watch)?;
        let (pieces, mut arriving) = mpsc::channel::<Option<Bytes>>(PIECES_AHEAD);
        let writing = tokio::task::spawn_blocking(move || {
            while let Some(piece) = arriving.blocking_recv() {
                match piece {
                    Some(bytes) => file.write(&bytes)?,
                    None => return file.finish(),
                }
            }
            Err(Error::cancelled())
        });
        let written = cursor.write_file(&mut self.wire, &pieces).await;
        drop(pieces);
        let done = writing.await.map_err(|error| Error::internal(format!("the writer of a file stopped: {error}")))?;
        let written = written?;
        done?;
        self.wire.send(&rows_complete("COPY", written));
        Ok(())
    }

    /// Reads a file of the server into a table.
    async fn copy_from_file(
        &mut self,
        file: Box<dyn Read + Send>,
        copy: CopyIn,
        mut watch: Watch,
    ) -> Result<(), Failure> {
        let _running = self.backend.running(&watch.run.cancel);
        let decoder = Decoder::new(&copy)?;
        let (pieces, arriving) = mpsc::channel(PIECES_AHEAD);
        let (batches, rows) = mpsc::channel(BATCHES_AHEAD);
        tokio::task::spawn_blocking(move || decoder.run(arriving, &batches));
        tokio::task::spawn_blocking(move || read_pieces(file, &pieces));
        let (session, run) = (Arc::clone(&self.session), watch.run.clone());
        let loaded = watch.attend(&mut self.wire, copy.load(&session, rows, &run)).await?;
        self.wire.send(&rows_complete("COPY", loaded));
        Ok(())
    }

    /// Reads a file into a table: the socket is read here, the file is taken apart on a thread of its own, and the
    /// engine writes what comes of it.
    pub(super) async fn copy_in(&mut self, mut copy: CopyIn, mut watch: Watch) -> Result<(), Failure> {
        if let Some(file) = copy.file.take() {
            return self.copy_from_file(file, copy, watch).await;
        }
        let _running = self.backend.running(&watch.run.cancel);
        let decoder = Decoder::new(&copy)?;
        let (format, columns, formats) = formats(copy.options.format, copy.columns.fields().len())?;
        self.wire.send(&CopyInResponse::new(format, columns, formats));
        watch.flush(&mut self.wire).await?;

        let (pieces, arriving) = mpsc::channel(PIECES_AHEAD);
        let (batches, rows) = mpsc::channel(BATCHES_AHEAD);
        tokio::task::spawn_blocking(move || decoder.run(arriving, &batches));
        let (session, run) = (Arc::clone(&self.session), watch.run.clone());
        let mut loading = pin!(copy.load(&session, rows, &run));
        let fed = watch.limited(async {
            tokio::select! {
                biased;
                // It ends before its file does only if it fails.
                loaded = &mut loading => loaded.map(Some).map_err(Failure::from),
                fed = feed(&mut self.wire, pieces) => fed.map(|()| None),
            }
        });
        let loaded = match fed.await? {
            Some(loaded) => loaded,
            None => watch.attend(&mut self.wire, loading).await?,
        };
        self.wire.send(&rows_complete("COPY", loaded));
        Ok(())
    }
}

/// How a copy is described: its format as a whole, and that of each column.
fn formats(format: CopyFormat, columns: usize) -> Result<(i8, i16, Vec<i16>)> {
    let code = i8::from(format == CopyFormat::Binary);
    let columns =
        i16::try_from(columns).map_err(|_| Error::new(Kind::LimitExceeded, "too many columns for one COPY"))?;
    Ok((code, columns, vec![i16::from(code); columns.unsigned_abs().into()]))
}

/// Reads a file to its end, as long as somebody wants it.
fn read_pieces(mut file: Box<dyn Read + Send>, pieces: &mpsc::Sender<Piece>) {
    let mut piece = BytesMut::zeroed(PIECE);
    loop {
        let next = match file.read(&mut piece) {
            Ok(0) => Piece::Done,
            Ok(read) => Piece::Data(Bytes::copy_from_slice(&piece[..read])),
            Err(error) => Piece::Failed(error.into()),
        };
        let last = !matches!(next, Piece::Data(_));
        if pieces.blocking_send(next).is_err() || last {
            return;
        }
    }
}

/// Takes what the client sends up to the end of its file.
async fn feed(wire: &mut Wire, pieces: mpsc::Sender<Piece>) -> Result<(), Failure> {
    let mut held = BytesMut::new();
    loop {
        let Some((letter, body)) = wire.message().await? else { return Err(Failure::Gone) };
        let last = match letter {
            b'd' => {
                held.extend_from_slice(&body);
                None
            }
            b'c' => Some(Piece::Done),
            b'f' => {
                let reason = String::from_utf8_lossy(body.strip_suffix(b"\0").unwrap_or(&body)).into_owned();
                let error = Error::new(Kind::Cancelled, format!("COPY from stdin failed: {reason}"));
                Some(Piece::Failed(error))
            }
            // Sent behind an Execute before its client could know that a file is wanted.
            b'H' | b'S' => continue,
            b'X' => return Err(Failure::Gone),
            other => {
                let message = format!("unexpected message type 0x{other:02X} during COPY from stdin");
                Some(Piece::Failed(Error::new(Kind::Protocol, message)))
            }
        };
        if held.len() < PIECE && last.is_none() {
            continue;
        }
        // A reader that has given up says itself why.
        if pieces.send(Piece::Data(held.split().freeze())).await.is_err() {
            return Ok(());
        }
        if let Some(last) = last {
            pieces.send(last).await.ok();
            return Ok(());
        }
    }
}
