//! A PostgreSQL as one user sees it, with the connections to it that are open.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config, Row};

use crate::error::{Error, Result, from_server, unreachable_server};
use crate::foreign::definition::Found;
use crate::foreign::options::{self, Encryption, Options};
use crate::foreign::postgres::dialect::Postgres;
use crate::foreign::postgres::import::tables;
use crate::foreign::postgres::reading::Reading;
use crate::foreign::postgres::snapshot::Snapshot;
use crate::foreign::postgres::{PORT, tls::Tls};
use crate::foreign::query::Query;
use crate::foreign::wrapper::{self, Database, Dialect, Rows, Wanted};

/// Connections that stay open for whoever comes next, and for how long.
const IDLE: usize = 4;
const IDLE_TIME: Duration = Duration::from_secs(60);

/// What a connection is made to be: text means the same as here, and nothing is written over there.
const SETTINGS: &str = "SET standard_conforming_strings = on; SET search_path = pg_catalog; SET timezone = 'UTC'; \
                        SET datestyle = 'ISO'; SET intervalstyle = 'postgres'; SET extra_float_digits = 3; \
                        SET default_transaction_read_only = on";

/// One server, one user over there.
pub struct Server {
    name: String,
    config: Config,
    tls: Tls,
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    opened: Opened,
    since: Instant,
}

/// A connection, and the task that moves its bytes.
struct Opened {
    client: Client,
    task: AbortHandle,
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[async_trait]
impl Database for Server {
    fn name(&self) -> &str {
        &self.name
    }

    fn dialect(&self) -> &'static dyn Dialect {
        &Postgres
    }

    async fn tables(self: Arc<Self>, schema: &str) -> Result<Option<Vec<Found>>> {
        tables(&self, schema).await
    }

    fn rows(self: Arc<Self>, query: Query, wanted: Wanted) -> Rows {
        Reading::rows(self, query, None, &wanted)
    }

    fn snapshot(self: Arc<Self>, _: usize) -> Arc<dyn wrapper::Snapshot> {
        Arc::new(Snapshot::new(self))
    }
}

impl Server {
    /// The server called `name`. `options` are its own and those of the user; the password is in them.
    ///
    /// # Errors
    /// 22023 where an option is wrong, 58030 where the authorities of its certificate cannot be read.
    pub fn new(name: &str, given: &Options) -> Result<Self> {
        let encryption = options::encryption(given)?;
        let mut config = Config::new();
        config
            .host(given.get("host").map_or("localhost", String::as_str))
            .port(options::port(given, PORT)?)
            .connect_timeout(options::connect_timeout(given)?)
            .application_name("cohort")
            .ssl_mode(match encryption {
                Encryption::Disable => SslMode::Disable,
                Encryption::Prefer => SslMode::Prefer,
                Encryption::Require | Encryption::Verify { .. } => SslMode::Require,
            });
        if let Some(user) = given.get("user") {
            config.user(user);
        }
        if let Some(dbname) = given.get("dbname") {
            config.dbname(dbname);
        }
        if let Some(password) = given.get(options::SECRET) {
            config.password(password);
        }
        Ok(Self { name: name.to_owned(), config, tls: Tls::new(&encryption)?, idle: Mutex::default() })
    }

    /// A connection of one's own: one that somebody left, or a new one.
    ///
    /// # Errors
    /// 08001 if there is no way to the server, or it lets nobody in.
    pub async fn connect(self: &Arc<Self>) -> Result<Connection> {
        loop {
            let left = self.idle().pop();
            match left {
                Some(left) if left.opened.client.is_closed() || left.since.elapsed() > IDLE_TIME => {}
                Some(left) => return Ok(Connection::of(self, left.opened, true)),
                None => return self.open().await,
            }
        }
    }

    /// A connection that nobody used before.
    pub async fn open(self: &Arc<Self>) -> Result<Connection> {
        let (client, connection) =
            self.config.connect(self.tls.clone()).await.map_err(|error| unreachable_server(&self.name, &error))?;
        let task = tokio::spawn(async move {
            // What goes wrong on it is said by whatever waits for an answer.
            let _ = connection.await;
        });
        let opened = Opened { client, task: task.abort_handle() };
        opened.client.batch_execute(SETTINGS).await.map_err(|error| unreachable_server(&self.name, &error))?;
        Ok(Connection::of(self, opened, false))
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a connection for a while.
    fn keep(self: &Arc<Self>, opened: Opened) {
        let mut idle = self.idle();
        if idle.len() >= IDLE || opened.client.is_closed() {
            return;
        }
        idle.push(Idle { opened, since: Instant::now() });
        let server = Arc::downgrade(self);
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                tokio::time::sleep(IDLE_TIME).await;
                if let Some(server) = server.upgrade() {
                    server.idle().retain(|idle| idle.since.elapsed() < IDLE_TIME);
                }
            });
        }
    }
}

/// Nothing of how one gets in.
impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Server({})", self.name)
    }
}

/// A connection that one query has for itself. Dropped before its answer has come to the end, it tells the server to stop.
#[derive(Debug)]
pub struct Connection {
    server: Arc<Server>,
    opened: Option<Opened>,
    /// Whether another query had it before: the server may have closed it meanwhile.
    pub used: bool,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opened")
    }
}

impl Connection {
    fn of(server: &Arc<Server>, opened: Opened, used: bool) -> Self {
        Self { server: Arc::clone(server), opened: Some(opened), used }
    }

    pub fn client(&self) -> Result<&Client> {
        match &self.opened {
            Some(opened) => Ok(&opened.client),
            None => Err(Error::internal("a connection was used after it was given back")),
        }
    }

    pub async fn execute(&self, sql: &str) -> Result<()> {
        self.client()?.batch_execute(sql).await.map_err(|error| self.failed(&error))
    }

    pub async fn rows(&self, sql: &str, schema: &str) -> Result<Vec<Row>> {
        self.client()?.query(sql, &[&schema]).await.map_err(|error| self.failed(&error))
    }

    /// What an error on it is to whoever asked.
    pub fn failed(&self, error: &tokio_postgres::Error) -> Error {
        from_server(&self.server.name, error)
    }

    /// Closes it: the server has nothing to do for it.
    pub fn close(mut self) {
        self.opened = None;
    }

    /// Gives it back: its answer has been read to the end.
    pub fn done(mut self) {
        if let Some(opened) = self.opened.take() {
            self.server.keep(opened);
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let (Some(opened), Ok(runtime)) = (self.opened.take(), Handle::try_current()) else { return };
        if opened.client.is_closed() {
            return;
        }
        // Closing is not enough: a server that computes notices only when it next writes.
        let (cancel, tls) = (opened.client.cancel_token(), self.server.tls.clone());
        runtime.spawn(async move {
            let _ = tokio::time::timeout(Duration::from_secs(5), cancel.cancel_query(tls)).await;
            drop(opened);
        });
    }
}
