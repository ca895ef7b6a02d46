//! A second port for those who watch the server: `/metrics` for Prometheus, `/healthz` for whoever restarts it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::engine::Engine;
use crate::error::{Error, Kind, Result};

/// More than any request that is meant for us.
const REQUEST_BYTES: usize = 8 * 1024;
/// Connections at a time; more wait.
const CONNECTIONS: usize = 16;
/// A client asks, and takes its answer, within this time.
const PATIENCE: Duration = Duration::from_secs(10);

/// The port, taken and not yet served.
pub struct Monitor {
    listener: TcpListener,
    engine: Arc<Engine>,
}

impl Monitor {
    pub async fn bind(engine: Arc<Engine>, address: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(address).await;
        let listener = listener
            .map_err(|error| Error::new(Kind::Io, format!("cannot listen on {address} for /metrics: {error}")))?;
        Ok(Self { listener, engine })
    }

    pub fn local_addr(&self) -> Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }

    /// Answers until `shutdown`, and from then on says that the server is leaving, until it is dropped.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                Some(_) = connections.join_next() => {}
                accepted = self.listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                    Ok((stream, _)) => {
                        let (engine, leaving) = (Arc::clone(&self.engine), shutdown.is_cancelled());
                        connections.spawn(tokio::time::timeout(PATIENCE, answer(stream, engine, leaving)));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "could not accept a connection for /metrics");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                },
            }
        }
    }
}

/// One request, one answer.
async fn answer(mut stream: TcpStream, engine: Arc<Engine>, leaving: bool) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        if request.len() > REQUEST_BYTES || stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let text = String::from_utf8_lossy(&request);
    let mut words = text.split_whitespace();
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = path.split('?').next().unwrap_or_default();
    let (status, kind, body) = match (method, path) {
        ("GET" | "HEAD", "/metrics") => ("200 OK", "text/plain; version=0.0.4; charset=utf-8", engine.metrics()),
        ("GET" | "HEAD", "/healthz") if leaving => {
            ("503 Service Unavailable", "text/plain", "shutting down\n".to_owned())
        }
        ("GET" | "HEAD", "/healthz") => match engine.is_healthy().await {
            true => ("200 OK", "text/plain", "ok\n".to_owned()),
            false => ("503 Service Unavailable", "text/plain", "queries do not run\n".to_owned()),
        },
        ("GET" | "HEAD", _) => ("404 Not Found", "text/plain", "there are /metrics and /healthz\n".to_owned()),
        _ => ("405 Method Not Allowed", "text/plain", "GET only\n".to_owned()),
    };
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    if method != "HEAD" {
        stream.write_all(body.as_bytes()).await?;
    }
    stream.shutdown().await
}
