//! A MySQL as one user sees it, with the connections to it that are open.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use datafusion::arrow::record_batch::RecordBatch;
use futures::{StreamExt, stream};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, DriverError, Error as MySqlError, Opts, OptsBuilder, SslOpts};
use tokio::runtime::Handle;
use tokio::sync::{Mutex as AsyncMutex, OnceCell, mpsc};
use tokio::time::timeout;

use crate::error::{Error, Kind, Result, from_mysql, unreachable_mysql};
use crate::foreign::definition::Found;
use crate::foreign::mysql::PORT;
use crate::foreign::mysql::decode::Decoder;
use crate::foreign::mysql::dialect::MySql;
use crate::foreign::mysql::import::tables;
use crate::foreign::options::{self, Encryption, Options};
use crate::foreign::query::Query;
use crate::foreign::wrapper::{Database, Dialect, Rows, Snapshot, Wanted};

/// Connections that stay open for whoever comes next, and for how long.
const IDLE: usize = 4;
const IDLE_TIME: Duration = Duration::from_secs(60);

/// Batches that wait for whoever reads them.
const BATCHES_AHEAD: usize = 2;

/// How long a query is asked to stop.
const KILL_TIME: Duration = Duration::from_secs(5);

/// What a connection is made to be: names and text are written as SQL has them, moments are in UTC, nothing is written over
/// there, and whoever reads slowly is waited for.
const SETTINGS: [&str; 4] = [
    "SET NAMES utf8mb4",
    "SET SESSION sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES', time_zone = '+00:00', net_write_timeout = 3600",
    "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    "SET SESSION TRANSACTION READ ONLY",
];

const BEGIN: &str = "START TRANSACTION WITH CONSISTENT SNAPSHOT";

/// One server, one user over there.
pub struct Server {
    name: String,
    options: OptsBuilder,
    encryption: Encryption,
    is_socket: bool,
    connect_timeout: Duration,
    idle: Mutex<Vec<(Conn, Instant)>>,
}

impl Server {
    /// The server called `name`. `options` are its own and those of the user; the password is in them.
    ///
    /// # Errors
    /// 22023 where an option is wrong.
    pub fn new(name: &str, given: &Options) -> Result<Self> {
        let host = given.get("host").map_or("localhost", String::as_str);
        let is_socket = host.starts_with('/');
        let options = OptsBuilder::default()
            .user(given.get("user").cloned())
            .pass(given.get(options::SECRET).cloned())
            .db_name(given.get("dbname").cloned())
            .prefer_socket(false)
            .stmt_cache_size(0);
        let options = match is_socket {
            true => options.socket(Some(host)),
            false => options.ip_or_hostname(host).tcp_port(options::port(given, PORT)?),
        };
        Ok(Self {
            name: name.to_owned(),
            options,
            encryption: options::encryption(given)?,
            is_socket,
            connect_timeout: options::connect_timeout(given)?,
            idle: Mutex::default(),
        })
    }

    /// A connection of one's own: one that somebody left and that still answers, or a new one.
    ///
    /// # Errors
    /// 08001 if there is no way to the server, or it lets nobody in.
    async fn connect(&self) -> Result<Conn> {
        loop {
            let left = self.idle().pop();
            match left {
                Some((mut connection, since)) => {
                    let is_fresh = since.elapsed() < IDLE_TIME;
                    if is_fresh && matches!(timeout(self.connect_timeout, connection.ping()).await, Ok(Ok(()))) {
                        return Ok(connection);
                    }
                }
                None => return self.open().await,
            }
        }
    }

    async fn open(&self) -> Result<Conn> {
        let unreachable = |error: &MySqlError| unreachable_mysql(&self.name, error);
        let opened = timeout(self.connect_timeout, async {
            let mut connection = match (self.is_socket, &self.encryption) {
                (true, _) | (_, Encryption::Disable) => Conn::new(self.options.clone()).await,
                (_, Encryption::Prefer) => match Conn::new(self.options(&Encryption::Prefer)).await {
                    Err(MySqlError::Driver(DriverError::NoClientSslFlagFromServer)) => {
                        Conn::new(self.options.clone()).await
                    }
                    opened => opened,
                },
                (_, encryption) => Conn::new(self.options(encryption)).await,
            }?;
            for setting in SETTINGS {
                connection.query_drop(setting).await?;
            }
            Ok(connection)
        });
        match opened.await {
            Ok(opened) => opened.map_err(|error| unreachable(&error)),
            Err(_) => Err(Error::new(
                Kind::Unreachable,
                format!("could not connect to server \"{}\": it did not answer in time", self.name),
            )
            .hint("the option connect_timeout of the server says how long it is waited for")),
        }
    }

    /// The options of a connection that is encrypted.
    fn options(&self, encryption: &Encryption) -> Opts {
        let ssl = match encryption {
            Encryption::Verify { authorities, host } => SslOpts::default()
                .with_root_certs(vec![PathBuf::from(authorities).into()])
                .with_disable_built_in_roots(true)
                .with_danger_skip_domain_validation(!host),
            _ => SslOpts::default().with_danger_accept_invalid_certs(true).with_danger_skip_domain_validation(true),
        };
        self.options.clone().ssl_opts(Some(ssl)).into()
    }

    fn idle(&self) -> MutexGuard<'_, Vec<(Conn, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a connection for a while: its answer has been read to the end.
    fn keep(self: &Arc<Self>, connection: Conn) {
        let mut idle = self.idle();
        if idle.len() >= IDLE {
            return;
        }
        idle.push((connection, Instant::now()));
        let server = Arc::downgrade(self);
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                tokio::time::sleep(IDLE_TIME).await;
                if let Some(server) = server.upgrade() {
                    server.idle().retain(|(_, since)| since.elapsed() < IDLE_TIME);
                }
            });
        }
    }

    /// Has a query stopped: closing its connection is not enough, the server notices that only when it next writes.
    async fn kill(&self, connection: u32) {
        let killed = timeout(KILL_TIME, async {
            let mut other = self.open().await?;
            other.query_drop(format!("KILL {connection}")).await.map_err(|error| from_mysql(&self.name, &error))
        });
        if let Ok(Err(error)) = killed.await {
            tracing::debug!(server = self.name, %error, "could not stop a query of a foreign server");
        }
    }

    /// Sends the batches of a query until nobody wants more. Answers whether the connection can be used again.
    async fn send(
        &self,
        connection: &mut Conn,
        query: &Query,
        wanted: Wanted,
        batches: &mpsc::Sender<Result<RecordBatch>>,
    ) -> Result<bool> {
        let failed = |error: MySqlError| {
            let error = from_mysql(&self.name, &error);
            match error.kind {
                Kind::ConnectionLost => error,
                // A refusal is about the query, which whoever asked has never seen.
                _ => error.context(format!("query of the foreign server: {}", query.sql)),
            }
        };
        let mut decoder = Decoder::new(wanted, &query.columns);
        let begun = tokio::select! {
            biased;
            () = batches.closed() => return Ok(false),
            begun = connection.exec_iter(query.sql.as_str(), ()) => begun,
        };
        let mut rows = begun.map_err(failed)?;
        loop {
            let row = tokio::select! {
                biased;
                () = batches.closed() => return Ok(false),
                row = rows.next() => row.map_err(failed)?,
            };
            let Some(row) = row else { break };
            if let Some(batch) = decoder.push(row)?
                && batches.send(Ok(batch)).await.is_err()
            {
                return Ok(false);
            }
        }
        drop(rows);
        if let Some(batch) = decoder.finish()? {
            let _ = batches.send(Ok(batch)).await;
        }
        Ok(true)
    }

    /// The rows of a query, read by a task of its own, which ends when nobody waits for them any more.
    fn read<F>(self: Arc<Self>, connection: F, query: Query, wanted: Wanted, in_transaction: bool) -> Rows
    where
        F: Future<Output = Result<Conn>> + Send + 'static,
    {
        let started = async move {
            let (batches, arriving) = mpsc::channel(BATCHES_AHEAD);
            tokio::spawn(async move {
                let mut connection = match connection.await {
                    Ok(connection) => connection,
                    Err(error) => {
                        let _ = batches.send(Err(error)).await;
                        return;
                    }
                };
                let number = connection.id();
                match self.send(&mut connection, &query, wanted, &batches).await {
                    Ok(true) if in_transaction => {
                        if connection.query_drop("COMMIT").await.is_ok() {
                            self.keep(connection);
                        }
                    }
                    Ok(true) => self.keep(connection),
                    Ok(false) => {
                        self.kill(number).await;
                        drop(connection);
                    }
                    Err(error) => {
                        let _ = batches.send(Err(error)).await;
                    }
                }
            });
            stream::unfold(arriving, |mut arriving| async move { Some((arriving.recv().await?, arriving)) })
        };
        stream::once(started).flatten().boxed()
    }
}

#[async_trait]
impl Database for Server {
    fn name(&self) -> &str {
        &self.name
    }

    fn dialect(&self) -> &'static dyn Dialect {
        &MySql
    }

    async fn tables(self: Arc<Self>, schema: &str) -> Result<Option<Vec<Found>>> {
        let mut connection = self.connect().await?;
        let found = tables(&mut connection, schema).await.map_err(|error| from_mysql(&self.name, &error))?;
        self.keep(connection);
        Ok(found)
    }

    fn rows(self: Arc<Self>, query: Query, wanted: Wanted) -> Rows {
        let server = Arc::clone(&self);
        self.read(async move { server.connect().await }, query, wanted, false)
    }

    fn snapshot(self: Arc<Self>, queries: usize) -> Arc<dyn Snapshot> {
        Arc::new(Moment { server: self, queries, begun: OnceCell::new() })
    }
}

/// Nothing of how one gets in.
impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Server({})", self.name)
    }
}

/// The state of a server when the first of several queries began. MySQL has no way to show one transaction's state to
/// another: so a transaction is begun for each query at once, before the first of them reads.
#[derive(Debug)]
struct Moment {
    server: Arc<Server>,
    queries: usize,
    begun: OnceCell<AsyncMutex<Vec<Conn>>>,
}

impl Moment {
    async fn join(&self) -> Result<Conn> {
        let begun = self.begun.get_or_try_init(|| self.begin()).await?;
        if let Some(left) = begun.lock().await.pop() {
            return Ok(left);
        }
        // A part of a plan that is run again, as that of a recursion is.
        self.one().await
    }

    async fn one(&self) -> Result<Conn> {
        let mut connection = self.server.connect().await?;
        connection.query_drop(BEGIN).await.map_err(|error| from_mysql(&self.server.name, &error))?;
        Ok(connection)
    }

    async fn begin(&self) -> Result<AsyncMutex<Vec<Conn>>> {
        let mut connections = Vec::with_capacity(self.queries);
        for _ in 0..self.queries {
            connections.push(self.server.connect().await?);
        }
        let begun = connections.iter_mut().map(|connection| connection.query_drop(BEGIN));
        let begun = futures::future::try_join_all(begun).await;
        begun.map_err(|error| from_mysql(&self.server.name, &error))?;
        Ok(AsyncMutex::new(connections))
    }
}

impl Snapshot for Moment {
    fn rows(self: Arc<Self>, query: Query, wanted: Wanted) -> Rows {
        let server = Arc::clone(&self.server);
        server.read(async move { self.join().await }, query, wanted, true)
    }
}
