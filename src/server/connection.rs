//! A connection after login: one message after the other, until one of the two sides leaves.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgwire::messages::startup::ParameterStatus;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::cancel::{Backend, Registry};
use super::failure::Failure;
use super::portal::{Portal, Statement};
use super::requests::Request;
use super::tls::Tls;
use super::wire::Wire;
use super::{responses, startup};
use crate::engine::{self, Engine, Prepared, Session, Transaction};
use crate::error::{Error, Kind, Result};

/// A client has to say who it is within this time.
const STARTUP_TIME: Duration = Duration::from_secs(30);
/// Texts longer than this are parsed away from the threads that serve the sockets.
const LONG_TEXT: usize = 64 * 1024;

/// What all connections have in common.
pub(super) struct Shared {
    pub engine: Arc<Engine>,
    pub registry: Arc<Registry>,
    pub places: Arc<Semaphore>,
    /// `None`: nothing is encrypted.
    pub tls: Option<Arc<Tls>>,
    /// The server is closing: whoever has nothing running leaves now.
    pub closing: CancellationToken,
    /// The server cannot wait any longer: whoever runs something leaves too.
    pub terminate: CancellationToken,
}

/// Who logged in.
pub(super) struct Login {
    pub session: Arc<Session>,
    pub backend: Backend,
    /// The server cannot wait any longer, or an administrator ends this connection.
    pub terminate: CancellationToken,
    /// One of the connections that are allowed at a time.
    pub place: OwnedSemaphorePermit,
}

pub(super) struct Connection {
    pub wire: Wire,
    pub session: Arc<Session>,
    pub backend: Backend,
    pub statements: HashMap<String, Arc<Statement>>,
    pub portals: HashMap<String, Portal>,
    pub terminate: CancellationToken,
    closing: CancellationToken,
    /// After an error in the extended protocol everything is skipped until Sync.
    skipping: bool,
    /// It was told last that it is its turn.
    at_rest: bool,
    /// Several statements before one Sync are a transaction, which has begun.
    pipelined: bool,
    _place: OwnedSemaphorePermit,
}

/// Serves a client from its first byte to its last.
pub(super) async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let mut wire = Wire::new(stream);
    let opened = tokio::select! {
        biased;
        () = shared.closing.cancelled() => Err(Failure::shutting_down()),
        opened = tokio::time::timeout(STARTUP_TIME, startup::open(&mut wire, &shared)) => {
            opened.unwrap_or(Err(Failure::Gone))
        }
    };
    let login = match opened {
        Ok(Some(login)) => login,
        Ok(None) | Err(Failure::Gone) => return,
        Err(Failure::Error(error) | Failure::Fatal(error)) => return leave(wire, &error).await,
    };
    let mut connection = Connection::new(wire, login, &shared);
    if let Failure::Fatal(error) | Failure::Error(error) = connection.run().await {
        leave(connection.wire, &error).await;
    }
}

/// Ends when the client has said nothing for too long, with what it is told.
async fn idle(timeout: Option<(Duration, Error)>) -> Error {
    match timeout {
        Some((timeout, told)) => {
            tokio::time::sleep(timeout).await;
            told
        }
        None => std::future::pending().await,
    }
}

async fn leave(mut wire: Wire, error: &Error) {
    tracing::debug!(%error, "connection ended");
    wire.send(&responses::error("FATAL", error));
    wire.close().await;
}

impl Connection {
    fn new(wire: Wire, login: Login, shared: &Shared) -> Self {
        Self {
            wire,
            session: login.session,
            backend: login.backend,
            statements: HashMap::new(),
            portals: HashMap::new(),
            terminate: login.terminate,
            closing: shared.closing.clone(),
            skipping: false,
            at_rest: true,
            pipelined: false,
            _place: login.place,
        }
    }

    /// Answers messages until the connection ends, and says why it did.
    async fn run(&mut self) -> Failure {
        loop {
            let idle = idle(if self.at_rest { self.session.idle_timeout() } else { None });
            let message = tokio::select! {
                biased;
                () = self.closing.cancelled() => Err(Failure::shutting_down()),
                () = self.terminate.cancelled() => Err(Failure::shutting_down()),
                message = self.wire.message() => message,
                told = idle => Err(Failure::Fatal(told)),
            };
            self.at_rest = false;
            let (letter, body) = match message {
                Ok(Some(message)) => message,
                Ok(None) => return Failure::Gone,
                Err(failure) => return failure,
            };
            if self.skipping && !matches!(letter, b'S' | b'X') {
                continue;
            }
            let answered = match Request::read(letter, body) {
                Ok(Request::Terminate) => return Failure::Gone,
                Ok(request) => self.answer(request).await,
                Err(failure) => Err(failure),
            };
            if let Err(failure) = self.settle(answered, letter).await {
                return failure;
            }
        }
    }

    async fn answer(&mut self, request: Request) -> Result<(), Failure> {
        match request {
            Request::Query(sql) => {
                self.end_pipeline(true)?;
                let started = Instant::now();
                let answered = self.query(sql).await;
                self.session.note_duration(started.elapsed());
                answered?;
                self.ready().await
            }
            Request::Parse { statement, sql, declared } => self.parse(statement, sql, declared).await,
            Request::Bind(bind) => self.bind(bind),
            Request::Describe(target) => self.describe(&target),
            Request::Execute { portal, max_rows } => {
                self.begin_pipeline(&portal).await?;
                let started = Instant::now();
                let answered = self.execute(portal, max_rows).await;
                self.session.note_duration(started.elapsed());
                answered
            }
            Request::Close(target) => self.close(&target),
            Request::Flush => self.wire.flush().await,
            Request::Sync => {
                let went_well = !std::mem::replace(&mut self.skipping, false);
                self.end_pipeline(went_well)?;
                self.ready().await
            }
            Request::Terminate | Request::Stray => Ok(()),
        }
    }

    /// A statement is to run. Unless it is the only one before the next Sync, those up to there belong together; as long as
    /// nothing else has come, nobody knows. What must run by itself may be the first of them.
    async fn begin_pipeline(&mut self, portal: &str) -> Result<(), Failure> {
        if self.pipelined || self.session.transaction() != Transaction::Idle || self.wire.sync_is_next() {
            return Ok(());
        }
        self.wire.take_what_came().await?;
        let prepared = self.portals.get(portal).and_then(|portal| portal.statement.prepared.as_ref());
        if self.wire.sync_is_next() || prepared.is_some_and(Prepared::runs_alone) {
            return Ok(());
        }
        self.session.begin_implicit_block()?;
        self.pipelined = true;
        Ok(())
    }

    /// What ran since the last Sync is committed, if all of it went well.
    fn end_pipeline(&mut self, went_well: bool) -> Result<()> {
        match std::mem::replace(&mut self.pipelined, false) {
            true => self.session.end_implicit_block(went_well),
            false => Ok(()),
        }
    }

    /// Reports an error and decides how the conversation goes on.
    async fn settle(&mut self, answered: Result<(), Failure>, letter: u8) -> Result<(), Failure> {
        match answered {
            // A client may send many messages before its first Sync; their answers do not pile up.
            Ok(()) if self.wire.is_full() => self.wire.flush().await,
            Ok(()) => Ok(()),
            Err(Failure::Error(error)) => {
                match error.kind {
                    Kind::Internal | Kind::Corrupt => tracing::error!(%error, "a statement failed"),
                    _ => tracing::debug!(%error, "a statement failed"),
                }
                self.session.fail_transaction();
                self.session.note_failed();
                self.wire.send(&responses::error("ERROR", &error));
                self.skipping = Request::is_extended(letter) && letter != b'S';
                if self.skipping {
                    return self.wire.flush().await;
                }
                // A message of the other protocol that cannot be read ends it, too.
                let _ = self.end_pipeline(false);
                self.ready().await
            }
            Err(failure) => Err(failure),
        }
    }

    /// The end of an exchange: portals outlive it only inside a transaction block.
    async fn ready(&mut self) -> Result<(), Failure> {
        let transaction = self.session.transaction();
        if transaction == Transaction::Idle {
            self.portals.clear();
        }
        self.report_settings();
        self.session.note_idle();
        self.wire.send(&responses::ready(transaction));
        self.at_rest = true;
        self.wire.flush().await
    }

    /// Drivers follow some settings, such as the time zone.
    pub(super) fn report_settings(&mut self) {
        for (name, value) in self.session.take_changed_settings() {
            self.wire.send(&ParameterStatus::new(name.to_owned(), value));
        }
    }

    pub(super) async fn parse_text(&self, sql: &str) -> Result<Vec<engine::Statement>> {
        if sql.len() < LONG_TEXT {
            return self.session.parse(sql);
        }
        let (session, sql) = (Arc::clone(&self.session), sql.to_owned());
        match tokio::task::spawn_blocking(move || session.parse(&sql)).await {
            Ok(statements) => statements,
            Err(error) => Err(Error::internal(format!("parsing ended unexpectedly: {error}"))),
        }
    }
}
