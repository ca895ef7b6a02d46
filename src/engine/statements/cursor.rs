//! `DECLARE`, `FETCH`, `MOVE`, `CLOSE`: a query that is read in pieces.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;
use futures::StreamExt;

use crate::engine::cursors::{Kept, Step, unknown};
use crate::engine::statement::{self, Own, folded, syntax, take_words};
use crate::engine::{Answer, Run, Session, Statement};
use crate::error::{Error, Kind, Result};

pub struct Grammar;

#[derive(Debug, Clone)]
struct Declare {
    name: String,
    binary: bool,
    scroll: bool,
    hold: bool,
    query: Statement,
    parameters: Vec<ScalarValue>,
}

/// `FETCH` and `MOVE`, which goes the same way and gives no rows.
#[derive(Debug)]
struct Fetch {
    name: String,
    step: Step,
    rows: bool,
}

/// `None`: all.
#[derive(Debug)]
struct Close {
    name: Option<String>,
}

impl statement::Grammar for Grammar {
    fn name(&self) -> &'static str {
        "DECLARE"
    }

    fn doc(&self) -> &'static str {
        "Reads a query in pieces. DECLARE starts it, FETCH gives its next rows, MOVE skips them, CLOSE ends it. Its rows \
         are made as they are fetched, and only forward. A cursor lasts until the end of its transaction block, or WITH \
         HOLD until it is closed; it reads the state that was committed when it was declared."
    }

    fn syntax(&self) -> &'static str {
        "DECLARE name [BINARY] [ASENSITIVE | INSENSITIVE] [NO SCROLL] CURSOR [{ WITH | WITHOUT } HOLD] FOR query\n\
         { FETCH | MOVE } [step] [FROM | IN] name\n\
         CLOSE { name | ALL }\n\
         where step is NEXT | count | ALL | FORWARD [count | ALL] | FIRST | ABSOLUTE row | RELATIVE count"
    }

    fn parse(&self, parser: &mut Parser) -> Result<Option<Arc<dyn Own>>> {
        Ok(Some(if take_words(parser, &["DECLARE"]) {
            Arc::new(declare(parser)?)
        } else if take_words(parser, &["FETCH"]) {
            Arc::new(fetch(parser, true)?)
        } else if take_words(parser, &["MOVE"]) {
            Arc::new(fetch(parser, false)?)
        } else if take_words(parser, &["CLOSE"]) {
            let name = if take_words(parser, &["ALL"]) { None } else { Some(name(parser)?) };
            Arc::new(Close { name })
        } else {
            return Ok(None);
        }))
    }
}

fn name(parser: &mut Parser) -> Result<String> {
    Ok(folded(&parser.parse_identifier().map_err(syntax)?))
}

fn declare(parser: &mut Parser) -> Result<Declare> {
    let name = name(parser)?;
    let (mut binary, mut scroll) = (false, false);
    while !take_words(parser, &["CURSOR"]) {
        if take_words(parser, &["BINARY"]) {
            binary = true;
        } else if take_words(parser, &["SCROLL"]) {
            scroll = true;
        } else if !["NO SCROLL", "ASENSITIVE", "INSENSITIVE"]
            .iter()
            .any(|words| take_words(parser, &words.split(' ').collect::<Vec<_>>()))
        {
            return parser.expected("CURSOR", parser.peek_token()).map_err(syntax);
        }
    }
    let hold = take_words(parser, &["WITH", "HOLD"]);
    if !hold {
        take_words(parser, &["WITHOUT", "HOLD"]);
    }
    if !take_words(parser, &["FOR"]) {
        return parser.expected("FOR", parser.peek_token()).map_err(syntax);
    }
    let query = statement::query(parser)?;
    take_words(parser, &["FOR", "READ", "ONLY"]);
    Ok(Declare { name, binary, scroll, hold, query, parameters: Vec::new() })
}

fn fetch(parser: &mut Parser, rows: bool) -> Result<Fetch> {
    let step = step(parser)?;
    let _ = take_words(parser, &["FROM"]) || take_words(parser, &["IN"]);
    Ok(Fetch { name: name(parser)?, step, rows })
}

fn step(parser: &mut Parser) -> Result<Step> {
    if take_words(parser, &["NEXT"]) {
        return Ok(Step::Forward(Some(1)));
    }
    if take_words(parser, &["FIRST"]) {
        return Ok(Step::Absolute(1));
    }
    if take_words(parser, &["PRIOR"]) || take_words(parser, &["LAST"]) {
        return Ok(Step::Backward);
    }
    if take_words(parser, &["ABSOLUTE"]) {
        return counted(parser, Step::Absolute);
    }
    if take_words(parser, &["RELATIVE"]) {
        return counted(parser, Step::Relative);
    }
    if take_words(parser, &["BACKWARD"]) {
        // Back by less than nothing is forward.
        let count = if take_words(parser, &["ALL"]) { None } else { count(parser)? };
        let forward = count.and_then(|count| u64::try_from(-count).ok());
        return Ok(forward.map_or(Step::Backward, |count| Step::Forward(Some(count))));
    }
    take_words(parser, &["FORWARD"]);
    if take_words(parser, &["ALL"]) {
        return Ok(Step::Forward(None));
    }
    match count(parser)? {
        Some(count) => Ok(u64::try_from(count).map_or(Step::Backward, |count| Step::Forward(Some(count)))),
        None => Ok(Step::Forward(Some(1))),
    }
}

fn counted(parser: &mut Parser, step: impl Fn(u64) -> Step) -> Result<Step> {
    match count(parser)? {
        Some(count) => Ok(u64::try_from(count).map_or(Step::Backward, step)),
        None => parser.expected("a number", parser.peek_token()).map_err(syntax),
    }
}

/// A whole number, if one comes next.
fn count(parser: &mut Parser) -> Result<Option<i64>> {
    let negative = parser.consume_token(&Token::Minus);
    if !negative {
        let _ = parser.consume_token(&Token::Plus);
    }
    let Token::Number(digits, _) = parser.peek_token().token else { return Ok(None) };
    parser.next_token();
    let count: i64 = digits.parse().map_err(|_| Error::invalid(format!("{digits} is not a number of rows")))?;
    Ok(Some(if negative { -count } else { count }))
}

#[async_trait]
impl Own for Declare {
    async fn parameters(&self, session: &Session, declared: &[Option<DataType>]) -> Result<Vec<DataType>> {
        Ok(session.prepare(self.query.clone(), declared).await?.parameters().to_vec())
    }

    fn bind(&self, parameters: &[ScalarValue]) -> Result<Option<Arc<dyn Own>>> {
        Ok((!parameters.is_empty()).then(|| Arc::new(Self { parameters: parameters.to_vec(), ..self.clone() }) as _))
    }

    async fn run(&self, session: &Session, run: &Run) -> Result<Answer> {
        if !self.hold && !session.in_block() {
            let message = "DECLARE CURSOR can only be used in transaction blocks";
            return Err(Error::new(Kind::NoTransaction, message).hint("BEGIN starts one; WITH HOLD needs none"));
        }
        session.cursors.check(&self.name)?;
        if self.scroll {
            run.warning(format!("cursor \"{}\" can only scan forward", self.name), "declare it again to read it again");
        }
        let types: Vec<_> = self.parameters.iter().map(|value| Some(value.data_type())).collect();
        let prepared = session.prepare(self.query.clone(), &types).await?;
        let Answer::Rows(rows, _) = session.execute(&prepared, self.parameters.clone(), run).await? else {
            return Err(Error::new(Kind::Syntax, "a cursor needs a query that returns rows"));
        };
        let kept = Kept {
            binary: self.binary,
            hold: self.hold,
            in_block: session.in_block(),
            savepoints: session.savepoints(),
        };
        session.cursors.declare(&self.name, rows, kept)?;
        Ok(Answer::Done("DECLARE CURSOR".to_owned()))
    }
}

#[async_trait]
impl Own for Fetch {
    fn columns_in(&self, session: &Session) -> Option<SchemaRef> {
        session.cursors.columns(&self.name).map(|(columns, _)| columns).filter(|_| self.rows)
    }

    async fn run(&self, session: &Session, run: &Run) -> Result<Answer> {
        let mut rows = session.cursors.fetch(&self.name, self.step, &run.cancel)?;
        if self.rows {
            return Ok(Answer::Rows(rows, "FETCH"));
        }
        let mut moved = 0;
        while let Some(batch) = rows.next().await {
            moved += batch?.num_rows();
        }
        Ok(Answer::Done(format!("MOVE {moved}")))
    }
}

#[async_trait]
impl Own for Close {
    async fn run(&self, session: &Session, _run: &Run) -> Result<Answer> {
        let Some(name) = &self.name else {
            session.cursors.close_all();
            return Ok(Answer::Done("CLOSE CURSOR ALL".to_owned()));
        };
        if !session.cursors.close(name) {
            return Err(unknown(name));
        }
        Ok(Answer::Done("CLOSE CURSOR".to_owned()))
    }
}
