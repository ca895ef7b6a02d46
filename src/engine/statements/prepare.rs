//! `PREPARE`, `EXECUTE`, `DEALLOCATE`: prepared statements by SQL. Drivers have messages for that, which are quicker.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::sql::parser::Statement as Sql;
use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;
use futures::TryStreamExt;

use crate::engine::rewrite::rewrite;
use crate::engine::session::lock;
use crate::engine::statement::{self, Own, Parsed, at_words, folded, syntax, take_words};
use crate::engine::{Answer, Prepared, Run, Session, Statement};
use crate::error::{Error, Kind, Result};

/// Each prepared statement holds a plan.
const MAX_PREPARED: usize = 1000;

pub struct Grammar;

#[derive(Debug)]
struct Prepare {
    name: String,
    types: Vec<ast::DataType>,
    statement: Statement,
}

#[derive(Debug)]
struct Execute {
    name: String,
    arguments: Vec<ast::Expr>,
}

/// `None`: all.
#[derive(Debug)]
struct Deallocate {
    name: Option<String>,
}

impl statement::Grammar for Grammar {
    fn name(&self) -> &'static str {
        "PREPARE"
    }

    fn doc(&self) -> &'static str {
        "Gives a name to a query or an INSERT with parameters $1, $2, …; EXECUTE runs it with values for them. Types that \
         are not given are found from where the parameters stand. DEALLOCATE forgets it, also what a driver has prepared."
    }

    fn syntax(&self) -> &'static str {
        "PREPARE name [(type [, …])] AS { query | INSERT … }\n\
         EXECUTE name [(value [, …])]\n\
         DEALLOCATE [PREPARE] { name | ALL }"
    }

    fn parse(&self, parser: &mut Parser) -> Result<Option<Arc<dyn Own>>> {
        Ok(Some(if take_words(parser, &["PREPARE"]) {
            Arc::new(prepare(parser)?)
        } else if take_words(parser, &["EXECUTE"]) {
            Arc::new(execute(parser)?)
        } else if take_words(parser, &["DEALLOCATE"]) {
            take_words(parser, &["PREPARE"]);
            let name = if take_words(parser, &["ALL"]) { None } else { Some(name(parser)?) };
            Arc::new(Deallocate { name })
        } else {
            return Ok(None);
        }))
    }
}

fn name(parser: &mut Parser) -> Result<String> {
    Ok(folded(&parser.parse_identifier().map_err(syntax)?))
}

fn prepare(parser: &mut Parser) -> Result<Prepare> {
    let name = name(parser)?;
    let types = listed(parser, |parser| parser.parse_data_type())?;
    if !take_words(parser, &["AS"]) {
        return parser.expected("AS", parser.peek_token()).map_err(syntax);
    }
    let statement = if ["INSERT", "UPDATE", "DELETE", "MERGE"].iter().any(|word| at_words(parser, &[word])) {
        let mut sql = Sql::Statement(Box::new(parser.parse_statement().map_err(syntax)?));
        rewrite(&mut sql);
        Statement(Parsed::Sql(Box::new(sql)))
    } else {
        statement::query(parser)?
    };
    Ok(Prepare { name, types, statement })
}

fn execute(parser: &mut Parser) -> Result<Execute> {
    Ok(Execute { name: name(parser)?, arguments: listed(parser, |parser| parser.parse_expr())? })
}

/// A list in parentheses, which may be missing.
fn listed<T>(parser: &mut Parser, item: impl FnMut(&mut Parser) -> Result<T, ParserError>) -> Result<Vec<T>> {
    if !parser.consume_token(&Token::LParen) {
        return Ok(Vec::new());
    }
    let items = parser.parse_comma_separated(item).map_err(syntax)?;
    parser.expect_token(&Token::RParen).map_err(syntax)?;
    Ok(items)
}

#[async_trait]
impl Own for Prepare {
    async fn run(&self, session: &Session, _run: &Run) -> Result<Answer> {
        if session.executed_statement(&self.name).is_some() {
            let message = format!("prepared statement \"{}\" already exists", self.name);
            return Err(Error::new(Kind::StatementExists, message));
        }
        check_room(&lock(&session.prepared))?;
        let types: Vec<_> = self.types(session).await?.into_iter().map(Some).collect();
        let prepared = session.prepare(self.statement.clone(), &types).await?;
        lock(&session.prepared).insert(self.name.clone(), prepared);
        Ok(Answer::Done("PREPARE".to_owned()))
    }
}

impl Prepare {
    /// The types as the planner understands them.
    async fn types(&self, session: &Session) -> Result<Vec<DataType>> {
        let nulls: Vec<String> = self.types.iter().map(|of| format!("CAST(NULL AS {of})")).collect();
        if nulls.is_empty() {
            return Ok(Vec::new());
        }
        let Some(query) = statement::parse(&format!("SELECT {}", nulls.join(", ")))?.pop() else {
            return Err(Error::internal("types that are no statement"));
        };
        let columns = session.prepare(query, &[]).await?;
        let fields = columns.columns().map(|columns| columns.fields().iter());
        Ok(fields.into_iter().flatten().map(|field| field.data_type().clone()).collect())
    }
}

fn check_room(prepared: &BTreeMap<String, Prepared>) -> Result<()> {
    if prepared.len() >= MAX_PREPARED {
        let message = format!("too many prepared statements: {MAX_PREPARED} is the most a connection can have");
        return Err(Error::new(Kind::LimitExceeded, message).hint("DEALLOCATE those that are not needed any more"));
    }
    Ok(())
}

#[async_trait]
impl Own for Execute {
    fn executes(&self) -> bool {
        true
    }

    fn columns_in(&self, session: &Session) -> Option<SchemaRef> {
        session.executed_statement(&self.name)?.columns_in(session)
    }

    async fn run(&self, session: &Session, run: &Run) -> Result<Answer> {
        let prepared = session.executed_statement(&self.name).ok_or_else(|| unknown(&self.name))?;
        let values = self.values(session, prepared.parameters(), run).await?;
        session.execute(&prepared, values, run).await
    }
}

impl Execute {
    /// The arguments as the types that the statement was prepared with.
    async fn values(&self, session: &Session, types: &[DataType], run: &Run) -> Result<Vec<ScalarValue>> {
        let (given, wanted) = (self.arguments.len(), types.len());
        if given != wanted {
            let message = format!("wrong number of parameters for prepared statement \"{}\"", self.name);
            return Err(Error::new(Kind::Syntax, message).hint(format!("it takes {wanted}, and {given} are given")));
        }
        if self.arguments.is_empty() {
            return Ok(Vec::new());
        }
        let listed: Vec<String> = self.arguments.iter().map(ToString::to_string).collect();
        let Some(query) = statement::parse(&format!("SELECT {}", listed.join(", ")))?.pop() else {
            return Err(Error::internal("arguments that are no statement"));
        };
        let query = session.prepare(query, &[]).await?;
        let Answer::Rows(rows, _) = session.execute(&query, Vec::new(), run).await? else {
            return Err(Error::internal("arguments without values"));
        };
        let batches: Vec<_> = rows.try_collect().await?;
        let Some(row) = batches.iter().find(|batch| batch.num_rows() > 0) else {
            return Err(Error::internal("arguments without values"));
        };
        let values = row.columns().iter().zip(types);
        values.map(|(value, of)| Ok(ScalarValue::try_from_array(value, 0)?.cast_to(of)?)).collect()
    }
}

#[async_trait]
impl Own for Deallocate {
    fn deallocates(&self) -> Option<&str> {
        self.name.as_deref()
    }

    async fn run(&self, session: &Session, _run: &Run) -> Result<Answer> {
        let mut prepared = lock(&session.prepared);
        let Some(name) = &self.name else {
            prepared.clear();
            return Ok(Answer::Done("DEALLOCATE ALL".to_owned()));
        };
        match prepared.remove(name) {
            Some(_) => Ok(Answer::Done("DEALLOCATE".to_owned())),
            None => Err(unknown(name)),
        }
    }
}

fn unknown(name: &str) -> Error {
    Error::new(Kind::UnknownStatement, format!("prepared statement \"{name}\" does not exist"))
}
