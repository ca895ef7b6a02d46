//! Where clients come in, and how they are shown out at shutdown.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::cancel::Registry;
use super::connection::{Shared, serve};
use super::tls::Tls;
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};

/// Clients that wait for us to accept them.
const BACKLOG: u32 = 1024;
/// Connections beyond those allowed: cancel requests, and clients about to be told that there is no place.
const VISITORS: usize = 100;
/// Without file handles, accepting at once again would only burn the processor.
const BREATH: Duration = Duration::from_millis(50);
/// What runs at shutdown may finish within this time.
const DRAIN: Duration = Duration::from_secs(5);
/// What was told to stop after that gets this long to say goodbye.
const GOODBYE: Duration = Duration::from_secs(3);

#[derive(Clone)]
pub struct Options {
    pub listen: SocketAddr,
    pub max_connections: usize,
    /// `None`: nothing is encrypted.
    pub tls: Option<Arc<Tls>>,
}

impl Default for Options {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 5432)), max_connections: 100, tls: None }
    }
}

/// A server with its port taken, ready to run.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    max_connections: usize,
    tls: Option<Arc<Tls>>,
    engine: Arc<Engine>,
}

impl Server {
    /// Takes the port. Nobody is served before [`Server::run`].
    // Async because a listener belongs to the runtime it is made in.
    #[allow(clippy::unused_async)]
    pub async fn bind(engine: Arc<Engine>, options: Options) -> Result<Self> {
        let Options { listen: address, max_connections, tls } = options;
        if !address.ip().is_loopback() && !engine.is_locked() {
            return Err(unlocked(address));
        }
        let refused = |error| refused(address, &error);
        let listener = listen(address).map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        Ok(Self { listener, address, max_connections, tls, engine })
    }

    /// Where clients find us, with the port that port 0 became.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves clients until `shutdown`; then whoever is idle is shown out at once, and the others when they are done
    /// or when the time for it is over.
    pub async fn run(self, shutdown: CancellationToken) -> Result<()> {
        let shared = Arc::new(Shared {
            engine: self.engine,
            registry: Registry::new(),
            places: Arc::new(Semaphore::new(self.max_connections)),
            tls: self.tls,
            closing: shutdown.clone(),
            terminate: CancellationToken::new(),
        });
        let mut connections = JoinSet::new();
        loop {
            let room = connections.len() < self.max_connections + VISITORS;
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(ended) = connections.join_next() => note(ended),
                accepted = self.listener.accept(), if room => match accepted {
                    Ok((stream, _)) => {
                        prepare(&stream);
                        connections.spawn(serve(stream, Arc::clone(&shared)));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "could not accept a connection");
                        tokio::time::sleep(BREATH).await;
                    }
                },
            }
        }
        drop(self.listener);
        if tokio::time::timeout(DRAIN, finish(&mut connections)).await.is_err() {
            shared.terminate.cancel();
            // Who does not leave now is dropped with the set.
            let _ = tokio::time::timeout(GOODBYE, finish(&mut connections)).await;
        }
        Ok(())
    }
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restart need not wait for the last connections of the server before it.
    #[cfg(not(windows))]
    socket.set_reuseaddr(true)?;
    // Accepted connections inherit this: a client whose machine went away is noticed some day.
    socket.set_keepalive(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Without a password whoever reaches the port is a superuser.
fn unlocked(address: SocketAddr) -> Error {
    let message =
        format!("no superuser has a password, so {address} would let anyone in: only loopback addresses are served");
    Error::new(Kind::Denied, message).hint(
        "set one with COHORT_PASSWORD or --password-file, or listen on 127.0.0.1 and reach it from elsewhere through an SSH \
         tunnel: ssh -L 5433:127.0.0.1:5433 HOST",
    )
}

fn refused(address: SocketAddr, error: &std::io::Error) -> Error {
    let problem = |what: &str| Error::new(Kind::Io, format!("cannot listen on {address}: {what}"));
    match error.kind() {
        ErrorKind::AddrInUse => {
            problem("the address is in use").hint("another server listens there; stop it, or choose another port")
        }
        ErrorKind::PermissionDenied => {
            problem("permission denied").hint("ports below 1024 are for root; choose a higher one")
        }
        ErrorKind::AddrNotAvailable => problem("this machine does not have that address"),
        _ => problem(&error.to_string()),
    }
}

/// Answers are small and waited for: they leave at once.
fn prepare(stream: &TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection will answer slowly");
    }
}

async fn finish(connections: &mut JoinSet<()>) {
    while let Some(ended) = connections.join_next().await {
        note(ended);
    }
}

/// A connection that panicked is a bug of ours, and takes nobody else along.
fn note(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection ended unexpectedly");
    }
}
