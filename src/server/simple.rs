//! The simple protocol: a text of statements, each answered before the next one starts.

use pgwire::messages::response::{CommandComplete, EmptyQueryResponse};

use super::connection::Connection;
use super::encode::Format;
use super::failure::Failure;
use super::portal::{Cursor, Progress};
use super::responses::{row_description, rows_complete};
use super::watch::Watch;
use crate::engine::{Answer, Statement, with_place};
use crate::error::{Error, Kind};

impl Connection {
    /// Runs all statements of a text; the first that fails is the last that runs.
    pub(super) async fn query(&mut self, sql: String) -> Result<(), Failure> {
        // As in Postgres, what has no name does not survive a simple query.
        self.forget("");
        self.portals.remove("");
        let statements = self.parse_text(&sql).await.map_err(|error| with_place(error, &sql))?;
        if statements.is_empty() {
            self.wire.send(&EmptyQueryResponse::new());
        }
        if statements.len() < 2 {
            return self.run_all(statements, &sql).await;
        }
        self.session.begin_implicit_block()?;
        let outcome = self.run_all(statements, &sql).await;
        let ended = self.session.end_implicit_block(outcome.is_ok());
        outcome?;
        Ok(ended?)
    }

    async fn run_all(&mut self, statements: Vec<Statement>, sql: &str) -> Result<(), Failure> {
        for statement in statements {
            self.run_once(statement).await.map_err(|failure| failure.with_place(sql))?;
            self.report_settings();
        }
        Ok(())
    }

    async fn run_once(&mut self, statement: Statement) -> Result<(), Failure> {
        let deallocates = statement.deallocates().map(str::to_owned);
        let mut watch = Watch::new(&self.session, &self.terminate);
        let _running = self.backend.running(&watch.run.cancel);
        let prepared = watch.attend(&mut self.wire, self.session.prepare(statement, &[])).await?;
        if !prepared.parameters().is_empty() {
            let error = Error::new(Kind::UnknownParameter, "there is no parameter $1");
            return Err(error.hint("parameters need a prepared statement").into());
        }
        if self.deallocate(deallocates.as_deref()) {
            self.wire.send(&CommandComplete::new("DEALLOCATE".to_owned()));
            return Ok(());
        }
        let run = watch.run.clone();
        let answer = watch.attend(&mut self.wire, self.session.execute(&prepared, Vec::new(), &run)).await?;
        match answer {
            Answer::Done(tag) => self.done(tag),
            Answer::Rows(rows, verb) => {
                let format = if rows.binary { Format::Binary } else { Format::Text };
                self.wire.send(&row_description(&rows.schema, |_| format)?);
                let mut cursor = Cursor::open(rows, verb, &[format], &self.session, watch)?;
                let (Progress::Complete(sent) | Progress::Suspended(sent)) = cursor.send(&mut self.wire, None).await?;
                self.wire.send(&rows_complete(verb, sent));
            }
            Answer::CopyOut(rows, options) => self.copy_out(rows, &options, watch).await?,
            Answer::CopyToFile(rows, options, file) => self.copy_to_file(rows, &options, file, watch).await?,
            Answer::CopyIn(copy) => self.copy_in(*copy, watch).await?,
        }
        Ok(())
    }
}
