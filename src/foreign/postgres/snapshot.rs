//! One state of a PostgreSQL for all scans of a query.

use std::sync::Arc;

use tokio::sync::OnceCell;

use crate::error::{Error, Kind, Result};
use crate::foreign::postgres::reading::Reading;
use crate::foreign::postgres::server::{Connection, Server};
use crate::foreign::query::Query;
use crate::foreign::wrapper::{self, Rows, Wanted};

/// The state that the server was in when the first of several scans began. It is held open, in a transaction of its own, as
/// long as the plan lives.
#[derive(Debug)]
pub struct Snapshot {
    server: Arc<Server>,
    holder: OnceCell<Holder>,
}

#[derive(Debug)]
struct Holder {
    /// Its transaction is rolled back when it is dropped.
    _connection: Connection,
    begin: String,
}

const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

impl wrapper::Snapshot for Snapshot {
    fn rows(self: Arc<Self>, query: Query, wanted: Wanted) -> Rows {
        let server = Arc::clone(&self.server);
        Reading::rows(server, query, Some(self), &wanted)
    }
}

impl Snapshot {
    pub fn new(server: Arc<Server>) -> Self {
        Self { server, holder: OnceCell::new() }
    }

    /// A connection in a transaction that sees this state.
    pub async fn join(&self) -> Result<Connection> {
        let holder = self.holder.get_or_try_init(|| self.hold()).await?;
        self.begin(&holder.begin).await
    }

    async fn hold(&self) -> Result<Holder> {
        let connection = self.begin(BEGIN).await?;
        let exported = connection.client()?.query_one("SELECT pg_export_snapshot()", &[]).await;
        let name: String = exported.map_err(|error| connection.failed(&error))?.get(0);
        let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if !is_name {
            return Err(Error::new(Kind::Protocol, "the foreign server exported no snapshot"));
        }
        Ok(Holder { _connection: connection, begin: format!("{BEGIN}; SET TRANSACTION SNAPSHOT '{name}'") })
    }

    /// A connection that has begun so; a new one, where one that was left turns out to be closed.
    async fn begin(&self, sql: &str) -> Result<Connection> {
        let connection = self.server.connect().await?;
        match connection.execute(sql).await {
            Ok(()) => Ok(connection),
            Err(error) if connection.used && error.kind == Kind::ConnectionLost => {
                connection.close();
                let connection = self.server.open().await?;
                connection.execute(sql).await?;
                Ok(connection)
            }
            Err(error) => Err(error),
        }
    }
}
