//! Watching over a statement while it runs: its notices go out, and it ends when it must.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use futures::FutureExt as _;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::failure::Failure;
use super::responses;
use super::wire::Wire;
use crate::engine::{Level, Notice, Run, Session};
use crate::error::{Error, Kind, Result};

/// Answers queued before a statement starts leave with its own when it is quick, and on their own when it is not.
const QUICK: Duration = Duration::from_millis(5);
/// A statement told to stop may finish what cannot be left half done; longer than this we do not wait for it.
const GRACE: Duration = Duration::from_secs(1);

pub(super) struct Watch {
    pub run: Run,
    notices: mpsc::UnboundedReceiver<Notice>,
    /// Which notices the client wants to hear.
    wanted: Wanted,
    limits: Limits,
    /// Why the statement was told to stop, once it was.
    stopped: Option<Failure>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    All,
    Warnings,
    Nothing,
}

/// Whatever can end a statement from outside, except its client.
struct Limits {
    cancel: CancellationToken,
    deadline: Option<Instant>,
    /// The server cannot wait any longer.
    terminate: CancellationToken,
}

impl Watch {
    pub(super) fn new(session: &Session, terminate: &CancellationToken) -> Self {
        let (run, notices) = Run::new();
        let limits = Limits { cancel: run.cancel.clone(), deadline: None, terminate: terminate.clone() };
        let mut watch = Self { run, notices, wanted: Wanted::All, limits, stopped: None };
        watch.start(session);
        watch
    }

    /// The clock starts anew: for a statement, and for each part of a portal that is fetched.
    pub(super) fn start(&mut self, session: &Session) {
        self.limits.deadline = session.statement_timeout().map(|timeout| Instant::now() + timeout);
        self.wanted = match session.setting("client_min_messages").as_deref() {
            Some("warning") => Wanted::Warnings,
            Some("error") => Wanted::Nothing,
            _ => Wanted::All,
        };
    }

    /// Sees `work` to its end. It may end early, by a cancel request, its timeout, the client's or the server's leave.
    pub(super) async fn attend<T>(
        &mut self,
        wire: &mut Wire,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T, Failure> {
        let mut work = pin!(work);
        let mut patience = pin!(tokio::time::sleep(QUICK));
        let mut slow = false;
        let stopped = loop {
            tokio::select! {
                biased;
                done = &mut work => {
                    self.forward(wire);
                    return done.map_err(Failure::from);
                }
                Some(notice) = self.notices.recv() => {
                    // Nobody waits for the end to hear how it goes.
                    slow = true;
                    self.say(wire, &notice);
                }
                stopped = self.limits.reached() => break stopped,
                gone = wire.until_gone(slow) => break gone,
                () = &mut patience, if !slow => slow = true,
            }
        };
        self.stop(stopped.clone());
        // What was done by the time it stopped was done, and is reported so.
        match tokio::time::timeout(GRACE, work).await {
            Ok(Ok(done)) => Ok(done),
            _ => Err(stopped),
        }
    }

    /// Sees `work`, which reads the wire itself, to its end, unless the statement must end before.
    pub(super) async fn limited<T>(&mut self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        tokio::select! {
            biased;
            stopped = self.limits.reached() => {
                self.stop(stopped.clone());
                Err(stopped)
            }
            done = work => done,
        }
    }

    /// Sends what is queued, unless the statement must end before the client takes it.
    pub(super) async fn flush(&mut self, wire: &mut Wire) -> Result<(), Failure> {
        tokio::select! {
            biased;
            sent = wire.flush() => sent,
            stopped = self.limits.reached() => {
                self.stop(stopped.clone());
                Err(stopped)
            }
        }
    }

    /// Whether the statement may go on to its next rows: for when they are there without waiting.
    pub(super) fn check(&mut self) -> Result<(), Failure> {
        if let Some(stopped) = &self.stopped {
            return Err(stopped.clone());
        }
        let Some(stopped) = self.limits.reached().now_or_never() else { return Ok(()) };
        self.stop(stopped.clone());
        Err(stopped)
    }

    fn stop(&mut self, why: Failure) {
        self.run.cancel.cancel();
        self.stopped.get_or_insert(why);
    }

    /// Queues the notices that have come in the meantime.
    pub(super) fn forward(&mut self, wire: &mut Wire) {
        while let Ok(notice) = self.notices.try_recv() {
            self.say(wire, &notice);
        }
    }

    fn say(&self, wire: &mut Wire, notice: &Notice) {
        let wanted = match self.wanted {
            Wanted::All => true,
            Wanted::Warnings => notice.level == Level::Warning,
            Wanted::Nothing => false,
        };
        if wanted {
            wire.send(&responses::notice(notice));
        }
    }
}

impl Limits {
    async fn reached(&self) -> Failure {
        let deadline = async {
            match self.deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.terminate.cancelled() => Failure::shutting_down(),
            () = self.cancel.cancelled() => Error::cancelled().into(),
            () = deadline => timed_out(),
        }
    }
}

fn timed_out() -> Failure {
    Error::new(Kind::Cancelled, "canceling statement due to statement timeout").into()
}
