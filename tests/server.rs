//! A server of its own for a test: in this process, on a free port, with a data directory that goes when it goes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use cohort::engine::{Config, Engine};
use cohort::server::{Options, Server};
use futures::StreamExt;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_postgres::error::DbError;
use tokio_postgres::{AsyncMessage, Client, NoTls, SimpleQueryMessage};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Longer than anything here takes; a test that waits for more is stuck.
pub const PATIENCE: Duration = Duration::from_secs(120);

pub fn config(data_dir: &Path) -> Config {
    Config {
        data_dir: data_dir.to_owned(),
        memory_limit: 1 << 30,
        threads: 2,
        environment: |_| None,
        log_min_duration: None,
    }
}

/// Serves until it is dropped.
pub struct TestServer {
    pub address: SocketAddr,
    _stop: DropGuard,
    _data: TempDir,
}

impl TestServer {
    pub async fn start() -> Self {
        Self::with_options(Self::options()).await
    }

    /// A free port of this machine.
    pub fn options() -> Options {
        Options { listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..Options::default() }
    }

    pub async fn with_options(options: Options) -> Self {
        let data = tempfile::tempdir().unwrap();
        let engine = Engine::open(&config(data.path())).unwrap();
        let server = Server::bind(engine, options).await.unwrap();
        let address = server.local_addr();
        let shutdown = CancellationToken::new();
        tokio::spawn(server.run(shutdown.clone()));
        Self { address, _stop: shutdown.drop_guard(), _data: data }
    }

    pub async fn connect(&self) -> Connection {
        Connection::open(self.address).await
    }
}

/// A client, and what the server told it on the side.
pub struct Connection {
    pub client: Client,
    pub notices: Notices,
}

pub struct Notices(mpsc::UnboundedReceiver<DbError>);

impl Notices {
    /// The next one that contains this text.
    pub async fn saying(&mut self, text: &str) -> DbError {
        tokio::time::timeout(PATIENCE, async {
            loop {
                let notice = self.0.recv().await.unwrap_or_else(|| panic!("the server left before it said \"{text}\""));
                if notice.message().contains(text) {
                    return notice;
                }
            }
        })
        .await
        .unwrap_or_else(|_| panic!("no notice says \"{text}\""))
    }
}

impl Connection {
    pub async fn open(address: SocketAddr) -> Self {
        Self::with_options(address, "").await
    }

    pub async fn with_options(address: SocketAddr, options: &str) -> Self {
        Self::as_user(address, &format!("user=cohort {options}")).await
    }

    pub async fn as_user(address: SocketAddr, options: &str) -> Self {
        let url = format!("host={} port={} dbname=cohort {options}", address.ip(), address.port());
        let (client, mut connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
        let (sender, notices) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut messages = futures::stream::poll_fn(move |cx| connection.poll_message(cx));
            while let Some(Ok(message)) = messages.next().await {
                if let AsyncMessage::Notice(notice) = message {
                    let _ = sender.send(notice);
                }
            }
        });
        Self { client, notices: Notices(notices) }
    }

    pub async fn run(&self, sql: &str) {
        if let Err(error) = self.client.batch_execute(sql).await {
            panic!("{}\n{sql}", told(&error));
        }
    }

    /// Rows as text, NULL as `NULL`.
    pub async fn rows(&self, sql: &str) -> Vec<Vec<String>> {
        self.attempt(sql).await.unwrap_or_else(|error| panic!("{error}\n{sql}"))
    }

    /// The same, or the error as it is [told].
    pub async fn attempt(&self, sql: &str) -> Result<Vec<Vec<String>>, String> {
        let messages = self.client.simple_query(sql).await.map_err(|error| told(&error))?;
        let mut rows = Vec::new();
        for message in messages {
            if let SimpleQueryMessage::Row(row) = message {
                rows.push((0..row.len()).map(|at| row.get(at).unwrap_or("NULL").to_owned()).collect());
            }
        }
        Ok(rows)
    }

    /// The only value of the only row.
    pub async fn value(&self, sql: &str) -> String {
        let rows = self.rows(sql).await;
        match rows.as_slice() {
            [row] if row.len() == 1 => row[0].clone(),
            other => panic!("one value is wanted, not {other:?}\n{sql}"),
        }
    }

    /// How the statement is refused.
    pub async fn refusal(&self, sql: &str) -> DbError {
        match self.client.batch_execute(sql).await {
            Ok(()) => panic!("it should have been refused\n{sql}"),
            Err(error) => error.as_db_error().unwrap_or_else(|| panic!("{error:?}\n{sql}")).clone(),
        }
    }
}

/// Tries again and again until it is so.
pub async fn eventually<F: Future<Output = bool>>(mut so: impl FnMut() -> F) {
    let patience = tokio::time::timeout(PATIENCE, async {
        while !so().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(patience.await.is_ok(), "it never came about");
}

/// An error as psql shows it, with its SQLSTATE.
pub fn told(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(error) => {
            let hint = error.hint().map(|hint| format!("\nHINT: {hint}")).unwrap_or_default();
            format!("{}: {}{hint}", error.code().code(), error.message())
        }
        None => format!("{error:?}"),
    }
}

/// A client that says exactly what it is told to.
pub struct Raw(TcpStream);

impl Raw {
    pub fn open(address: SocketAddr) -> Self {
        let mut raw = Self(TcpStream::connect(address).unwrap());
        let startup = b"\0\x03\0\0user\0cohort\0database\0cohort\0\0";
        raw.0.write_all(&(startup.len() as u32 + 4).to_be_bytes()).unwrap();
        raw.0.write_all(startup).unwrap();
        raw.until_ready();
        raw
    }

    pub fn query(&mut self, sql: &str) {
        self.message(b'Q', format!("{sql}\0").as_bytes());
    }

    pub fn message(&mut self, letter: u8, body: &[u8]) {
        self.0.write_all(&[letter]).unwrap();
        self.0.write_all(&(body.len() as u32 + 4).to_be_bytes()).unwrap();
        self.0.write_all(body).unwrap();
    }

    pub fn until_ready(&mut self) -> Vec<(u8, Vec<u8>)> {
        let mut messages = Vec::new();
        loop {
            let mut head = [0; 5];
            self.0.read_exact(&mut head).unwrap();
            let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize - 4;
            let mut body = vec![0; length];
            self.0.read_exact(&mut body).unwrap();
            // Notices and settings come where they come.
            if !matches!(head[0], b'N' | b'S') {
                messages.push((head[0], body));
            }
            if head[0] == b'Z' {
                return messages;
            }
        }
    }
}

impl Raw {
    /// What is said until the server leaves.
    pub fn until_closed(&mut self) -> String {
        let mut said = Vec::new();
        self.0.read_to_end(&mut said).unwrap();
        String::from_utf8_lossy(&said).into_owned()
    }
}

/// Which messages these are.
pub fn letters(messages: &[(u8, Vec<u8>)]) -> String {
    messages.iter().map(|(letter, _)| char::from(*letter)).collect()
}
