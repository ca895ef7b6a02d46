//! One socket and its two buffers: bytes that came and wait to be read, bytes that wait to be sent.
//!
//! Every method that waits can be dropped at any point without losing a byte, which is what lets a statement be
//! stopped while its rows are on their way.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::Poll;

use bytes::{Buf, Bytes, BytesMut};
use pgwire::messages::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::failure::Failure;
use super::stream::Stream;
use crate::error::{Error, Kind};

/// A client has no business sending more than this before it has logged in.
pub(super) const STARTUP_LIMIT: usize = 8 * 1024;
/// A statement of many megabytes is unusual but honest; a gigabyte is not.
pub(super) const MESSAGE_LIMIT: usize = 64 * 1024 * 1024;
/// How much is sent at once, and thus how much of a result waits in memory.
pub(super) const ENOUGH: usize = 64 * 1024;
/// How far we read ahead of a running statement: beyond this the client has to wait, like its network.
const READ_AHEAD: usize = 1024 * 1024;
/// Buffers that grew for one large message are given back.
const KEEP: usize = 1024 * 1024;

pub(super) struct Wire {
    stream: Stream,
    peer: SocketAddr,
    inbox: BytesMut,
    outbox: BytesMut,
    /// Bytes have been written that encryption may still hold back.
    unflushed: bool,
    /// The client closed its end; what it sent before may still be here.
    closed: bool,
}

impl Wire {
    pub(super) fn new(stream: TcpStream) -> Self {
        // Whose address is not known is treated as if it came from far away.
        let peer = stream.peer_addr().unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)));
        Self {
            stream: Stream::Plain(stream),
            peer,
            inbox: BytesMut::with_capacity(8 * 1024),
            outbox: BytesMut::with_capacity(8 * 1024),
            unflushed: false,
            closed: false,
        }
    }

    /// Where the client is.
    pub(super) fn peer(&self) -> SocketAddr {
        self.peer
    }

    pub(super) fn is_encrypted(&self) -> bool {
        self.stream.is_encrypted()
    }

    pub(super) async fn begins_with_tls(&self) -> Result<bool, Failure> {
        Ok(self.stream.begins_with_tls().await?)
    }

    /// Encrypts all that follows, and gives the protocol that the client asked for within TLS.
    pub(super) async fn encrypt(&mut self, acceptor: TlsAcceptor) -> Result<Option<Vec<u8>>, Failure> {
        if !self.inbox.is_empty() {
            // Somebody in between could have put it there, to be taken for what the client says under encryption.
            return Err(Failure::Fatal(Error::new(Kind::Protocol, "received unencrypted data after SSL request")));
        }
        Ok(self.stream.encrypt(acceptor).await?)
    }

    /// Queues a message; it leaves with the next `flush`.
    pub(super) fn send(&mut self, message: &impl Message) {
        let start = self.outbox.len();
        if let Err(error) = message.encode(&mut self.outbox) {
            // Half a message would take the client out of step.
            self.outbox.truncate(start);
            tracing::error!(%error, "a message could not be sent");
        }
    }

    /// Where rows are written to.
    pub(super) fn outbox(&mut self) -> &mut BytesMut {
        &mut self.outbox
    }

    pub(super) fn is_full(&self) -> bool {
        self.outbox.len() >= ENOUGH
    }

    /// Sends all that is queued, and reads on meanwhile: a client that writes before it reads must not wait for us
    /// while we wait for it.
    pub(super) async fn flush(&mut self) -> Result<(), Failure> {
        while !self.outbox.is_empty() || self.unflushed {
            self.step(true).await?;
        }
        if self.outbox.capacity() > KEEP {
            self.outbox = BytesMut::with_capacity(8 * 1024);
        }
        Ok(())
    }

    /// Reads ahead, and sends what is queued if asked to, until the client is gone: it never ends well.
    pub(super) async fn until_gone(&mut self, send: bool) -> Failure {
        loop {
            if self.closed {
                return Failure::Gone;
            }
            if let Err(gone) = self.step(send && (!self.outbox.is_empty() || self.unflushed)).await {
                return gone;
            }
        }
    }

    /// Some bytes out or some bytes in.
    async fn step(&mut self, write: bool) -> Result<(), Failure> {
        let read = !self.closed && self.inbox.len() < READ_AHEAD;
        if read {
            make_room(&mut self.inbox, 0);
        }
        let Self { stream, inbox, outbox, unflushed, closed, .. } = self;
        poll_fn(|cx| {
            if write && !outbox.is_empty() {
                if let Poll::Ready(written) = pin!(stream.write_buf(outbox)).poll(cx) {
                    *unflushed = true;
                    return Poll::Ready(match written? {
                        0 => Err(Failure::Gone),
                        _ => Ok(()),
                    });
                }
            } else if write
                && *unflushed
                && let Poll::Ready(flushed) = pin!(stream.flush()).poll(cx)
            {
                *unflushed = false;
                return Poll::Ready(Ok(flushed?));
            }
            if read && let Poll::Ready(count) = pin!(stream.read_buf(inbox)).poll(cx) {
                *closed = count? == 0;
                return Poll::Ready(Ok(()));
            }
            // Nothing to send and no room to read: wait for whoever watches us to lose patience.
            Poll::Pending
        })
        .await
    }

    /// The next message: its letter and its body. `None` when the client closed its end between two messages.
    pub(super) async fn message(&mut self) -> Result<Option<(u8, Bytes)>, Failure> {
        self.message_within(MESSAGE_LIMIT).await
    }

    /// Takes in what the client has sent so far, without waiting for more.
    pub(super) async fn take_what_came(&mut self) -> Result<(), Failure> {
        let mut step = pin!(self.step(false));
        poll_fn(|cx| match step.as_mut().poll(cx) {
            Poll::Ready(taken) => Poll::Ready(taken),
            Poll::Pending => Poll::Ready(Ok(())),
        })
        .await
    }

    /// Whether a Sync has come, and nothing before it that runs.
    pub(super) fn sync_is_next(&self) -> bool {
        let mut rest = &self.inbox[..];
        while let Some([letter, length @ ..]) = rest.first_chunk::<5>().copied() {
            match letter {
                b'S' => return true,
                b'C' | b'D' | b'H' => {}
                _ => return false,
            }
            let Ok(length) = message_length(length, 4, MESSAGE_LIMIT) else { return false };
            let Some(after) = rest.get(1 + length..) else { return false };
            rest = after;
        }
        false
    }

    /// The same, of a client that may not send as much.
    pub(super) async fn message_within(&mut self, limit: usize) -> Result<Option<(u8, Bytes)>, Failure> {
        loop {
            if let Some(header) = self.inbox.first_chunk::<5>() {
                let [letter, length @ ..] = *header;
                let length = message_length(length, 4, limit)?;
                if self.inbox.len() > length {
                    let mut message = self.inbox.split_to(1 + length).freeze();
                    message.advance(5);
                    return Ok(Some((letter, message)));
                }
                make_room(&mut self.inbox, 1 + length);
            }
            if !self.read().await? {
                return Ok(None);
            }
        }
    }

    /// A packet of the time before login, which has no letter: with its length, as pgwire reads it.
    pub(super) async fn packet(&mut self) -> Result<Option<BytesMut>, Failure> {
        loop {
            if let Some(length) = self.inbox.first_chunk::<4>() {
                let length = message_length(*length, 8, STARTUP_LIMIT)?;
                if self.inbox.len() >= length {
                    return Ok(Some(self.inbox.split_to(length)));
                }
            }
            if !self.read().await? {
                return Ok(None);
            }
        }
    }

    /// A byte outside of any message: the answer to a request for encryption.
    pub(super) async fn answer(&mut self, byte: u8) -> Result<(), Failure> {
        self.stream.write_all(&[byte]).await?;
        self.stream.flush().await?;
        Ok(())
    }

    /// Says goodbye, as far as the client listens. Its last bytes are read and thrown away: a socket that is closed
    /// over unread bytes takes back what it has said.
    pub(super) async fn close(mut self) {
        let goodbye = async {
            self.flush().await.ok();
            self.stream.shutdown().await.ok();
            let mut rest = [0; 4096];
            while let Ok(1..) = self.stream.read(&mut rest).await {}
        };
        tokio::time::timeout(std::time::Duration::from_secs(1), goodbye).await.ok();
    }

    /// More bytes; `false` when there are none any more.
    async fn read(&mut self) -> Result<bool, Failure> {
        if !self.closed {
            make_room(&mut self.inbox, 0);
            self.closed = self.stream.read_buf(&mut self.inbox).await? == 0;
        }
        if self.closed && !self.inbox.is_empty() {
            // The rest of this message will never come.
            return Err(Failure::Gone);
        }
        Ok(!self.closed)
    }
}

/// Room for a message of which the first bytes are here, a megabyte at a time: a length is only a claim.
fn make_room(inbox: &mut BytesMut, message: usize) {
    if inbox.is_empty() && inbox.capacity() > KEEP {
        *inbox = BytesMut::with_capacity(8 * 1024);
    }
    let missing = message.saturating_sub(inbox.len());
    inbox.reserve(missing.clamp(4 * 1024, 1024 * 1024));
}

/// A message's length, which counts itself but not its letter, held against what is allowed before any of it is read.
fn message_length(bytes: [u8; 4], at_least: usize, limit: usize) -> Result<usize, Failure> {
    let length = u32::from_be_bytes(bytes) as usize;
    if length < at_least {
        return Err(Failure::Fatal(Error::new(Kind::Protocol, "invalid message length")));
    }
    if length > limit {
        let message = format!("a message of {length} bytes is larger than the {limit} that are accepted");
        return Err(Failure::Fatal(Error::new(Kind::LimitExceeded, message)));
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (Wire, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (Wire::new(listener.accept().await.unwrap().0), client)
    }

    #[tokio::test]
    async fn messages_come_whole_and_one_by_one() {
        let (mut wire, mut client) = pair().await;
        client.write_all(b"Q\0\0\0\x06a\0S\0\0\0\x04Q\0\0").await.unwrap();
        assert_eq!(wire.message().await.unwrap(), Some((b'Q', Bytes::from_static(b"a\0"))));
        assert_eq!(wire.message().await.unwrap(), Some((b'S', Bytes::new())));
        client.write_all(b"\0\x05x").await.unwrap();
        assert_eq!(wire.message().await.unwrap(), Some((b'Q', Bytes::from_static(b"x"))));
        drop(client);
        assert!(wire.message().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_message_is_measured_before_it_is_read() {
        let (mut wire, mut client) = pair().await;
        client.write_all(b"Q\x7f\xff\xff\xff").await.unwrap();
        let Err(Failure::Fatal(error)) = wire.message().await else { panic!("it was read") };
        assert_eq!(error.kind, Kind::LimitExceeded);
        let (mut wire, mut client) = pair().await;
        client.write_all(b"Q\0\0\0\x03").await.unwrap();
        assert!(matches!(wire.message().await, Err(Failure::Fatal(_))));
    }

    #[tokio::test]
    async fn a_client_that_leaves_is_noticed_and_its_messages_are_kept() {
        let (mut wire, mut client) = pair().await;
        client.write_all(b"S\0\0\0\x04").await.unwrap();
        drop(client);
        assert!(matches!(wire.until_gone(false).await, Failure::Gone));
        assert_eq!(wire.message().await.unwrap(), Some((b'S', Bytes::new())));
    }

    #[tokio::test]
    async fn reading_ahead_has_an_end() {
        let (mut wire, mut client) = pair().await;
        let flood = tokio::spawn(async move {
            let block = vec![0; 1024 * 1024];
            for _ in 0..64 {
                if client.write_all(&block).await.is_err() {
                    return;
                }
            }
        });
        let patience = tokio::time::timeout(std::time::Duration::from_millis(300), wire.until_gone(false)).await;
        assert!(patience.is_err());
        assert!(wire.inbox.len() < 3 * READ_AHEAD, "read {} bytes ahead", wire.inbox.len());
        flood.abort();
    }
}
