//! The extended protocol: statements are prepared, bound to parameters, described and executed in separate messages.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use pgwire::api::Type;
use pgwire::messages::data::{NoData, ParameterDescription};
use pgwire::messages::extendedquery::{BindComplete, CloseComplete, ParseComplete, PortalSuspended};
use pgwire::messages::response::{CommandComplete, EmptyQueryResponse};

use super::connection::Connection;
use super::encode::Format;
use super::failure::Failure;
use super::parameters;
use super::portal::{Cursor, Portal, Progress, State, Statement};
use super::requests::{Bind, Target};
use super::responses::{row_description, rows_complete};
use super::types::{parameter_type, wire_type};
use super::watch::Watch;
use crate::engine::{self, Answer, Prepared, Transaction, with_place};
use crate::error::{Error, Kind, Result};

/// A client that prepares more than this forgets to close.
const MAX_STATEMENTS: usize = 1000;
/// Each open portal holds a query.
const MAX_PORTALS: usize = 64;

impl Connection {
    pub(super) async fn parse(
        &mut self,
        name: String,
        sql: String,
        declared: Vec<Option<Type>>,
    ) -> Result<(), Failure> {
        if name.is_empty() {
            self.forget("");
        } else if self.statements.contains_key(&name) || self.session.named_statement(&name).is_some() {
            let message = format!("prepared statement \"{name}\" already exists");
            return Err(Error::new(Kind::StatementExists, message).into());
        }
        limit(self.statements.len(), MAX_STATEMENTS, "prepared statements")?;

        let mut texts = self.parse_text(&sql).await.map_err(|error| with_place(error, &sql))?;
        if texts.len() > 1 {
            let message = "cannot insert multiple commands into a prepared statement";
            return Err(Error::new(Kind::Syntax, message).into());
        }
        let statement = match texts.pop() {
            Some(text) => {
                let deallocates = text.deallocates().map(str::to_owned);
                let prepared = self.prepare(text, &declared).await.map_err(|failure| failure.with_place(&sql))?;
                let parameters = parameter_types(&prepared, &declared)?;
                Statement { prepared: Some(prepared), parameters, deallocates }
            }
            None => Statement { prepared: None, parameters: Vec::new(), deallocates: None },
        };
        if let Some(prepared) = statement.prepared.as_ref().filter(|_| !name.is_empty()) {
            self.session.lend(&name, prepared);
        }
        self.statements.insert(name, Arc::new(statement));
        self.wire.send(&ParseComplete::new());
        Ok(())
    }

    async fn prepare(&mut self, text: engine::Statement, declared: &[Option<Type>]) -> Result<Prepared, Failure> {
        let types: Vec<_> = declared.iter().map(|declared| declared.as_ref().and_then(parameter_type)).collect();
        let mut watch = Watch::new(&self.session, &self.terminate);
        let _running = self.backend.running(&watch.run.cancel);
        watch.attend(&mut self.wire, self.session.prepare(text, &types)).await
    }

    pub(super) fn bind(&mut self, bind: Bind) -> Result<(), Failure> {
        let statement = self.statement(&bind.statement)?;
        if bind.portal.is_empty() {
            self.portals.remove("");
        } else if self.portals.contains_key(&bind.portal) {
            let message = format!("portal \"{}\" already exists", bind.portal);
            return Err(Error::new(Kind::StatementExists, message).into());
        }
        limit(self.portals.len(), MAX_PORTALS, "portals")?;

        let parameters = bound(&statement, &bind)?;
        let columns = statement.prepared.as_ref().and_then(|prepared| prepared.columns_in(&self.session));
        let columns = columns.map_or(0, |columns| columns.fields().len());
        if columns > 0 && bind.results.len() > 1 && bind.results.len() != columns {
            let given = bind.results.len();
            let message = format!("bind message has {given} result formats but query has {columns} columns");
            return Err(Failure::protocol(message));
        }
        let portal = Portal { statement, formats: bind.results, state: State::Bound(parameters) };
        self.portals.insert(bind.portal, portal);
        self.wire.send(&BindComplete::new());
        Ok(())
    }

    pub(super) fn describe(&mut self, target: &Target) -> Result<(), Failure> {
        match target {
            Target::Statement(name) => {
                let statement = self.statement(name)?;
                let oids = statement.parameters.iter().map(Type::oid).collect();
                self.wire.send(&ParameterDescription::new(oids));
                self.describe_rows(&statement, &[])
            }
            Target::Portal(name) => {
                let Some(portal) = self.portals.get(name) else { return self.describe_cursor(name) };
                let (statement, formats) = (Arc::clone(&portal.statement), portal.formats.clone());
                self.describe_rows(&statement, &formats)
            }
        }
    }

    /// A cursor of SQL is a portal that was opened by DECLARE.
    fn describe_cursor(&mut self, name: &str) -> Result<(), Failure> {
        let (columns, binary) = self.session.cursor(name).ok_or_else(|| unknown_portal(name))?;
        let format = if binary { Format::Binary } else { Format::Text };
        self.wire.send(&row_description(&columns, |_| format)?);
        Ok(())
    }

    fn describe_rows(&mut self, statement: &Statement, formats: &[Format]) -> Result<(), Failure> {
        match statement.prepared.as_ref().and_then(|prepared| prepared.columns_in(&self.session)) {
            Some(columns) => self.wire.send(&row_description(&columns, |column| Format::of(formats, column))?),
            None => self.wire.send(&NoData::new()),
        }
        Ok(())
    }

    pub(super) async fn execute(&mut self, name: String, max_rows: Option<u64>) -> Result<(), Failure> {
        // A portal that fails is gone: it is put back only when it did not.
        let mut portal = self.portals.remove(&name).ok_or_else(|| unknown_portal(&name))?;
        let before = self.session.transaction();
        self.advance(&mut portal, &name, max_rows).await?;
        self.report_settings();
        if before != Transaction::Idle && self.session.transaction() == Transaction::Idle {
            // The transaction block ended, and its portals with it.
            self.portals.clear();
        } else {
            self.portals.insert(name, portal);
        }
        Ok(())
    }

    async fn advance(&mut self, portal: &mut Portal, name: &str, max_rows: Option<u64>) -> Result<(), Failure> {
        let cursor = match std::mem::replace(&mut portal.state, State::Done) {
            State::Bound(parameters) => match &portal.statement.prepared {
                None => {
                    portal.state = State::Bound(parameters);
                    self.wire.send(&EmptyQueryResponse::new());
                    return Ok(());
                }
                Some(_) if self.deallocate(portal.statement.deallocates.as_deref()) => {
                    self.wire.send(&CommandComplete::new("DEALLOCATE".to_owned()));
                    return Ok(());
                }
                Some(prepared) => match self.start(prepared, parameters, &portal.formats).await? {
                    Some(cursor) => cursor,
                    None => return Ok(()),
                },
            },
            State::Open(mut cursor) => {
                cursor.watch.start(&self.session);
                cursor
            }
            State::Finished(verb) => {
                portal.state = State::Finished(verb);
                self.wire.send(&rows_complete(verb, 0));
                return Ok(());
            }
            State::Done => {
                return Err(Error::new(Kind::NotReady, format!("portal \"{name}\" cannot be run")).into());
            }
        };
        portal.state = self.fetch(cursor, max_rows).await?;
        Ok(())
    }

    /// Starts a statement: a cursor over its rows, or nothing more when it has none.
    async fn start(
        &mut self,
        prepared: &Prepared,
        parameters: Vec<ScalarValue>,
        formats: &[Format],
    ) -> Result<Option<Box<Cursor>>, Failure> {
        let mut watch = Watch::new(&self.session, &self.terminate);
        let _running = self.backend.running(&watch.run.cancel);
        let run = watch.run.clone();
        match watch.attend(&mut self.wire, self.session.execute(prepared, parameters, &run)).await? {
            Answer::Done(tag) => {
                self.done(tag);
                Ok(None)
            }
            Answer::Rows(rows, verb) => {
                let cursor = Cursor::open(rows, verb, formats, &self.session, watch)?;
                cursor.check_promise(prepared.columns_in(&self.session).as_ref())?;
                Ok(Some(Box::new(cursor)))
            }
            Answer::CopyOut(rows, options) => self.copy_out(rows, &options, watch).await.map(|()| None),
            Answer::CopyToFile(rows, options, file) => {
                self.copy_to_file(rows, &options, file, watch).await.map(|()| None)
            }
            Answer::CopyIn(copy) => self.copy_in(*copy, watch).await.map(|()| None),
        }
    }

    async fn fetch(&mut self, mut cursor: Box<Cursor>, max_rows: Option<u64>) -> Result<State, Failure> {
        let _running = self.backend.running(&cursor.watch.run.cancel);
        Ok(match cursor.send(&mut self.wire, max_rows).await? {
            Progress::Complete(sent) => {
                self.wire.send(&rows_complete(cursor.verb, sent));
                State::Finished(cursor.verb)
            }
            Progress::Suspended(_) => {
                self.wire.send(&PortalSuspended::new());
                State::Open(cursor)
            }
        })
    }

    /// Closing what does not exist is no error.
    pub(super) fn close(&mut self, target: &Target) -> Result<(), Failure> {
        match target {
            Target::Statement(name) => drop(self.forget(name)),
            Target::Portal(name) => {
                if self.portals.remove(name).is_none() {
                    self.session.close_cursor(name);
                }
            }
        }
        self.wire.send(&CloseComplete::new());
        Ok(())
    }

    /// A statement without rows is done; some of them concern what this connection holds.
    pub(super) fn done(&mut self, tag: String) {
        if tag == "DEALLOCATE ALL" || tag == "DISCARD ALL" {
            let names: Vec<String> = self.statements.keys().cloned().collect();
            names.iter().for_each(|name| drop(self.forget(name)));
        }
        if tag == "CLOSE CURSOR ALL" || tag == "DISCARD ALL" {
            self.portals.clear();
        }
        self.wire.send(&CommandComplete::new(tag));
    }

    /// Drivers prepare by message and deallocate by SQL. `false`: not one of ours, the engine knows what to say.
    pub(super) fn deallocate(&mut self, name: Option<&str>) -> bool {
        name.is_some_and(|name| self.forget(name).is_some())
    }

    /// A statement that was prepared by message is no more.
    pub(super) fn forget(&mut self, name: &str) -> Option<Arc<Statement>> {
        self.session.take_back(name);
        self.statements.remove(name)
    }

    /// What was prepared by message, or else by SQL.
    fn statement(&self, name: &str) -> Result<Arc<Statement>> {
        if let Some(statement) = self.statements.get(name) {
            return Ok(Arc::clone(statement));
        }
        let Some(prepared) = self.session.named_statement(name) else {
            let message = match name {
                "" => "unnamed prepared statement does not exist".to_owned(),
                _ => format!("prepared statement \"{name}\" does not exist"),
            };
            return Err(Error::new(Kind::UnknownStatement, message));
        };
        let parameters = parameter_types(&prepared, &[])?;
        Ok(Arc::new(Statement { prepared: Some(prepared), parameters, deallocates: None }))
    }
}

fn unknown_portal(name: &str) -> Error {
    Error::new(Kind::UnknownPortal, format!("portal \"{name}\" does not exist"))
}

fn limit(have: usize, most: usize, what: &str) -> Result<()> {
    if have < most {
        return Ok(());
    }
    Err(Error::new(Kind::LimitExceeded, format!("too many {what}: {most} is the most a connection can have"))
        .hint("close those that are not needed any more"))
}

/// The types parameters arrive as. What the client declared stands, so that it reads back what it said; the engine's
/// own finding is used for the rest.
fn parameter_types(prepared: &Prepared, declared: &[Option<Type>]) -> Result<Vec<Type>> {
    let found =
        |found: &DataType| wire_type(&datafusion::arrow::datatypes::Field::new("parameter", found.clone(), true));
    let declared = |at: usize| declared.get(at).cloned().flatten().filter(|of| parameter_type(of).is_some());
    prepared.parameters().iter().enumerate().map(|(at, of)| declared(at).map_or_else(|| found(of), Ok)).collect()
}

/// The values of a Bind message, as the types the statement was planned with.
fn bound(statement: &Statement, bind: &Bind) -> Result<Vec<ScalarValue>, Failure> {
    let (given, wanted) = (bind.values.len(), statement.parameters.len());
    if bind.formats.len() > 1 && bind.formats.len() != given {
        let formats = bind.formats.len();
        return Err(Failure::protocol(format!("bind message has {formats} parameter formats but {given} parameters")));
    }
    if given != wanted {
        let name = &bind.statement;
        let message =
            format!("bind message supplies {given} parameters, but prepared statement \"{name}\" requires {wanted}");
        return Err(Failure::protocol(message));
    }
    let planned = statement.prepared.as_ref().map_or(&[][..], |prepared| prepared.parameters());
    let values = bind.values.iter().zip(&statement.parameters).zip(planned).enumerate();
    let value = |(at, ((bytes, of), planned)): (usize, _)| {
        let bytes: &Option<bytes::Bytes> = bytes;
        parameters::read(bytes.as_deref(), Format::of(&bind.formats, at), of, planned)
    };
    Ok(values.map(value).collect::<Result<_>>()?)
}
