//! `COPY`: many rows as one file, out of a query or into a table.

mod options;

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::common::TableReference;
use datafusion::sql::sqlparser::ast::{Ident, ObjectName};
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

use self::options::{Direction, options};
use crate::engine::copy::{CopyIn, CopyOptions};
use crate::engine::definitions::{check_insert, resolve};
use crate::engine::statement::{self, Own, folded, syntax, take_words};
use crate::engine::{Answer, Run, Session, Statement};
use crate::error::{Error, Kind, Result};
use crate::storage::{LakeTable, Privilege};

pub struct Grammar;

#[derive(Debug)]
struct CopyTo {
    query: Statement,
    options: CopyOptions,
}

#[derive(Debug)]
struct CopyFrom {
    table: ObjectName,
    columns: Vec<String>,
    options: CopyOptions,
}

impl statement::Grammar for Grammar {
    fn name(&self) -> &'static str {
        "COPY"
    }

    fn doc(&self) -> &'static str {
        "Sends the rows of a query or a table as one file, or reads a file into a table: all of its rows in one commit, or \
         none. The file is always the client's: psql's \\copy reads and writes it there. An error in a file says the line \
         and the column. Formats are text, csv and binary as PostgreSQL has them; options may also be written as before \
         PostgreSQL 9."
    }

    fn syntax(&self) -> &'static str {
        "COPY { table [(column [, …])] | (query) } TO STDOUT [[WITH] (option [, …])]\n\
         COPY table [(column [, …])] FROM STDIN [[WITH] (option [, …])]\n\
         where option is FORMAT { text | csv | binary } | DELIMITER 'c' | NULL 'text' | HEADER [true | false | match] |\n\
         QUOTE 'c' | ESCAPE 'c' | FORCE_QUOTE { (column [, …]) | * } | FORCE_NOT_NULL … | FORCE_NULL … | ENCODING 'UTF8'"
    }

    fn parse(&self, parser: &mut Parser) -> Result<Option<Arc<dyn Own>>> {
        if !take_words(parser, &["COPY"]) {
            return Ok(None);
        }
        let binary = take_words(parser, &["BINARY"]);
        if parser.consume_token(&Token::LParen) {
            let query = statement::query(parser)?;
            parser.expect_token(&Token::RParen).map_err(syntax)?;
            return Ok(Some(Arc::new(to(parser, query, binary)?)));
        }
        let table = parser.parse_object_name(false).map_err(syntax)?;
        let columns = columns(parser)?;
        if take_words(parser, &["FROM"]) {
            client(parser, "STDIN")?;
            let options = options(parser, Direction::From, binary)?;
            let columns = columns.iter().map(folded).collect();
            return Ok(Some(Arc::new(CopyFrom { table, columns, options })));
        }
        let listed: Vec<String> = columns.iter().map(ToString::to_string).collect();
        let listed = if listed.is_empty() { "*".to_owned() } else { listed.join(", ") };
        let Some(query) = statement::parse(&format!("SELECT {listed} FROM {table}"))?.pop() else {
            return Err(Error::internal("a table that cannot be read"));
        };
        Ok(Some(Arc::new(to(parser, query, binary)?)))
    }
}

fn columns(parser: &mut Parser) -> Result<Vec<Ident>> {
    if !parser.consume_token(&Token::LParen) {
        return Ok(Vec::new());
    }
    let columns = parser.parse_comma_separated(|parser| parser.parse_identifier()).map_err(syntax)?;
    parser.expect_token(&Token::RParen).map_err(syntax)?;
    Ok(columns)
}

fn to(parser: &mut Parser, query: Statement, binary: bool) -> Result<CopyTo> {
    if !take_words(parser, &["TO"]) {
        return parser.expected("TO or FROM", parser.peek_token()).map_err(syntax);
    }
    client(parser, "STDOUT")?;
    Ok(CopyTo { query, options: options(parser, Direction::To, binary)? })
}

/// The other end of every copy is the client, as a server's files are nobody's business.
fn client(parser: &mut Parser, end: &str) -> Result<()> {
    // Postgres takes either word in either direction.
    if take_words(parser, &["STDIN"]) || take_words(parser, &["STDOUT"]) {
        return Ok(());
    }
    let token = parser.next_token();
    match token.token {
        Token::SingleQuotedString(_) | Token::EscapedStringLiteral(_) => Err(denied("a file")),
        Token::Word(word) if word.value.eq_ignore_ascii_case("PROGRAM") => Err(denied("an external program")),
        _ => parser.expected(end, token).map_err(syntax),
    }
}

fn denied(what: &str) -> Error {
    Error::new(Kind::Denied, format!("COPY to or from {what} of the server is not allowed"))
        .hint("let the client read or write the file: COPY … TO STDOUT, COPY … FROM STDIN, psql's \\copy")
}

#[async_trait]
impl Own for CopyTo {
    async fn run(&self, session: &Session, run: &Run) -> Result<Answer> {
        let prepared = session.prepare(self.query.clone(), &[]).await?;
        if !prepared.parameters().is_empty() {
            return Err(Error::new(Kind::UnknownParameter, "there is no parameter $1")
                .hint("COPY takes no parameters: write the values into its query"));
        }
        match session.execute(&prepared, Vec::new(), run).await? {
            Answer::Rows(rows, _) => Ok(Answer::CopyOut(rows, Box::new(self.options.clone()))),
            _ => Err(Error::unsupported("COPY needs a query that returns rows")),
        }
    }
}

#[async_trait]
impl Own for CopyFrom {
    async fn run(&self, session: &Session, _run: &Run) -> Result<Answer> {
        session.may_write("COPY FROM")?;
        let parts: Vec<String> = self.table.0.iter().filter_map(|part| part.as_ident()).map(folded).collect();
        let into = match parts.as_slice() {
            [table] => TableReference::bare(table.as_str()),
            [schema, table] => TableReference::partial(schema.as_str(), table.as_str()),
            _ => return Err(Error::invalid(format!("\"{}\" is not a table's name", self.table))),
        };
        check_insert(session, &into)?;
        let name = resolve(session, &into);
        let store = &session.engine.store;
        let relation = store.relation(&name.schema, &name.table)?.ok_or_else(|| {
            Error::new(Kind::UnknownTable, format!("relation \"{}\" does not exist", self.table))
                .hint("a table is created before it is copied into: CREATE TABLE …")
        })?;
        session.rights()?.must_write(&relation, Privilege::Insert)?;
        let table = LakeTable::new(Arc::clone(store), relation)?;
        let copy = CopyIn::new(table, into, &self.columns, self.options.clone())?;
        Ok(Answer::CopyIn(Box::new(copy)))
    }
}
