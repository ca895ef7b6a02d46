//! `COPY`: many rows as one file, out of a query or into a table.

mod options;

use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::common::TableReference;
use datafusion::sql::sqlparser::ast::{Ident, ObjectName};
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

use self::options::{Direction, How, options};
use crate::engine::copy::CopyIn;
use crate::engine::definitions::{check_insert, resolve};
use crate::engine::import::{OnError, Rejects};
use crate::engine::out_file::LocalFile;
use crate::engine::rights::quoted;
use crate::engine::statement::{self, Own, folded, syntax, take_words};
use crate::engine::{Answer, OutFile, Run, Session, Statement};
use crate::error::{Error, Kind, Result};
use crate::storage::{
    Bucket, Buckets, Format, LakeTable, Location, ObjectReader, Privilege, Relation, S3Options, Upload, is_s3,
};

pub struct Grammar;

#[derive(Debug)]
struct CopyTo {
    query: Statement,
    to: End,
    how: How,
}

#[derive(Debug)]
struct CopyFrom {
    table: ObjectName,
    columns: Vec<String>,
    from: End,
    how: How,
}

#[derive(Debug)]
enum End {
    Client,
    File(String),
}

impl End {
    fn path(&self) -> Option<&str> {
        match self {
            Self::Client => None,
            Self::File(path) => Some(path),
        }
    }
}

impl statement::Grammar for Grammar {
    fn name(&self) -> &'static str {
        "COPY"
    }

    fn doc(&self) -> &'static str {
        "Sends the rows of a query or a table as one file, or reads a file into a table: all of its rows in one commit, or \
         none. The file is the client's, which psql's \\copy reads and writes, or for superusers one of the server: a file \
         there is written whole or not at all, and takes the place of one that has its name. An error in a file says the \
         line and the column. Formats are text, csv and binary as PostgreSQL has them; options may also be written as \
         before PostgreSQL 9. Files of the server may also be parquet, json (an object a line) and arrow, whose columns \
         are found by name; without FORMAT the end of the file's name says it: .csv, .parquet, .json, .arrow. \
         ON_ERROR says what becomes of a line of text or csv with a value that cannot be read: stop fails, ignore leaves it \
         out, and skip leaves it out and keeps it with the reason in the table <table>_rejects, as it does with lines that \
         have too few values or too many; with more such lines than REJECT_LIMIT the copy fails after all. A path may be an object of S3, s3://bucket/key, reached as the variables AWS_… of the server's environment say."
    }

    fn syntax(&self) -> &'static str {
        "COPY { table [(column [, …])] | (query) } TO { STDOUT | 'path' } [[WITH] (option [, …])]\n\
         COPY table [(column [, …])] FROM { STDIN | 'path' } [[WITH] (option [, …])]\n\
         where option is FORMAT { text | csv | binary | parquet | json | arrow } | DELIMITER 'c' | NULL 'text' | HEADER [true | false | match] |\n\
         QUOTE 'c' | ESCAPE 'c' | FORCE_QUOTE { (column [, …]) | * } | FORCE_NOT_NULL … | FORCE_NULL … | ENCODING 'UTF8' |\n\
         ON_ERROR { stop | ignore | skip } | REJECT_LIMIT n"
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
            let from = end(parser, "STDIN")?;
            let how = options(parser, Direction::From, binary, from.path())?;
            let columns = columns.iter().map(folded).collect();
            return Ok(Some(Arc::new(CopyFrom { table, columns, from, how })));
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
    let to = end(parser, "STDOUT")?;
    let how = options(parser, Direction::To, binary, to.path())?;
    Ok(CopyTo { query, to, how })
}

/// The other end of a copy: the client, in either of its words as Postgres takes them, or a file of the server.
fn end(parser: &mut Parser, wanted: &str) -> Result<End> {
    if take_words(parser, &["STDIN"]) || take_words(parser, &["STDOUT"]) {
        return Ok(End::Client);
    }
    let token = parser.next_token();
    match token.token {
        Token::SingleQuotedString(path) | Token::EscapedStringLiteral(path) => Ok(End::File(path)),
        Token::Word(word) if word.value.eq_ignore_ascii_case("PROGRAM") => {
            Err(Error::new(Kind::Denied, "COPY to or from an external program of the server is not allowed")
                .hint("let the client run it: COPY … TO STDOUT, COPY … FROM STDIN, psql's \\copy"))
        }
        _ => parser.expected(wanted, token).map_err(syntax),
    }
}

/// Where a file is that a copy reads or writes, which is for superusers.
enum Place<'a> {
    Local(&'a Path),
    S3(Location),
}

fn place<'a>(session: &Session, path: &'a str) -> Result<Place<'a>> {
    session.rights()?.must_be_superuser("COPY to or from a file of the server").map_err(|error| {
        error.hint("let the client read or write the file: COPY … TO STDOUT, COPY … FROM STDIN, psql's \\copy")
    })?;
    if is_s3(path) {
        let location = Location::parse(path)?;
        return match location.key.is_empty() || location.key.ends_with('/') {
            true => Err(Error::invalid(format!("\"{path}\" names no object")).hint("s3://bucket/folder/file.csv")),
            false => Ok(Place::S3(location)),
        };
    }
    let path = Path::new(path);
    match path.is_absolute() {
        true => Ok(Place::Local(path)),
        false => Err(Error::invalid("relative path not allowed for COPY to or from a file")
            .hint("write the whole path, as the server has it")),
    }
}

#[async_trait]
impl Own for CopyTo {
    async fn run(&self, session: &Session, run: &Run) -> Result<Answer> {
        let prepared = session.prepare(self.query.clone(), &[]).await?;
        if !prepared.parameters().is_empty() {
            return Err(Error::new(Kind::UnknownParameter, "there is no parameter $1")
                .hint("COPY takes no parameters: write the values into its query"));
        }
        // Whether the file may be written is known before the query runs.
        let file = match &self.to {
            End::Client => None,
            End::File(to) => Some(match place(session, to)? {
                Place::Local(path) => OutFile::Local(LocalFile::create(path, session.store().root())?),
                Place::S3(location) => OutFile::Object(Upload::new(bucket(session, &location)?, &location.key)?),
            }),
        };
        let Answer::Rows(rows, _) = session.execute(&prepared, Vec::new(), run).await? else {
            return Err(Error::unsupported("COPY needs a query that returns rows"));
        };
        if let End::File(to) = &self.to {
            session.audit("COPY TO", to);
        }
        match (&self.how, file) {
            (How::Text(options), None) => Ok(Answer::CopyOut(rows, Box::new(options.clone()))),
            (How::Text(options), Some(file)) => Ok(Answer::CopyToFile(rows, Box::new(options.clone()), file)),
            (How::Data(format), Some(file)) => {
                let format = *format;
                let written = session.in_turn(run, |_| file.write_rows(format, rows)).await?;
                Ok(Answer::Done(format!("COPY {written}")))
            }
            (How::Data(_), None) => Err(Error::internal("a file without a path")),
        }
    }
}

#[async_trait]
impl Own for CopyFrom {
    async fn run(&self, session: &Session, run: &Run) -> Result<Answer> {
        session.may_write("COPY FROM")?;
        let file = self.from.path().map(|from| place(session, from)).transpose()?;
        let parts: Vec<String> = self.table.0.iter().filter_map(|part| part.as_ident()).map(folded).collect();
        let into = match parts.as_slice() {
            [table] => TableReference::bare(table.as_str()),
            [schema, table] => TableReference::partial(schema.as_str(), table.as_str()),
            _ => return Err(Error::invalid(format!("\"{}\" is not a table's name", self.table))),
        };
        check_insert(session, &into)?;
        let name = resolve(session, &into);
        let store = &session.store();
        let relation = store.relation(&name.schema, &name.table)?.ok_or_else(|| {
            Error::new(Kind::UnknownTable, format!("relation \"{}\" does not exist", self.table))
                .hint("a table is created before it is copied into: CREATE TABLE …")
        })?;
        let rights = session.rights()?;
        let columns: Vec<usize> = match self.columns.is_empty() {
            true => (0..relation.columns.fields().len()).collect(),
            // What is no column is said where the lines are read.
            false => self.columns.iter().filter_map(|name| relation.columns.index_of(name).ok()).collect(),
        };
        rights.must_on_columns(&relation, Privilege::Insert, &columns)?;
        if let Some(from) = self.from.path() {
            session.audit("COPY FROM", from);
        }
        let options = match &self.how {
            How::Text(options) => options.clone(),
            How::Data(format) => return self.insert(session, &relation, *format, run).await,
        };
        rights.must_be_above_policies(&relation, "COPY FROM")?;
        if options.on_error == OnError::Skip {
            may_keep_rejects(session, &relation)?;
        }
        let table = LakeTable::new(Arc::clone(store), relation)?;
        let mut copy = CopyIn::new(table, into, &self.columns, options)?;
        if let Some(path) = self.from.path() {
            copy.called = path.to_owned();
        }
        copy.file = match file {
            None => None,
            Some(Place::Local(path)) => Some(Box::new(opened(path)?)),
            Some(Place::S3(location)) => Some(Box::new(object(session, &location, run).await?)),
        };
        Ok(Answer::CopyIn(Box::new(copy)))
    }
}

impl CopyFrom {
    /// Rows of a file that names its columns: an INSERT of what is selected from it.
    async fn insert(&self, session: &Session, into: &Relation, format: Format, run: &Run) -> Result<Answer> {
        let path = self.from.path().unwrap_or_default();
        if !format.claims(path) {
            return Err(Error::unsupported(format!("the name of a file of {} must say so", format.name())).hint(
                "or give it a name of its own: CREATE EXTERNAL TABLE … STORED AS …, and INSERT … SELECT from it",
            ));
        }
        let all = into.columns.fields().iter().map(|field| field.name());
        let columns: Vec<String> = match self.columns.is_empty() {
            true => all.map(|name| quoted(name)).collect(),
            false => self.columns.iter().map(|name| quoted(name)).collect(),
        };
        let (columns, path) = (columns.join(", "), path.replace('\'', "''"));
        let sql = format!("INSERT INTO {} ({columns}) SELECT {columns} FROM '{path}'", self.table);
        let Some(insert) = statement::parse(&sql)?.pop() else { return Err(Error::internal("an INSERT of a file")) };
        let prepared = session.prepare(insert, &[]).await?;
        match session.execute(&prepared, Vec::new(), run).await? {
            Answer::Done(tag) => Ok(Answer::Done(tag.replace("INSERT 0", "COPY"))),
            _ => Err(Error::internal("an INSERT that returned rows")),
        }
    }
}

/// Lines that are left out are rows of another table, which may have to be made.
fn may_keep_rejects(session: &Session, into: &Relation) -> Result<()> {
    let rights = session.rights()?;
    match session.store().relation(&into.schema, &Rejects::table(&into.name))? {
        Some(rejects) => {
            rights.must(&rejects, Privilege::Insert)?;
            rights.must_be_above_policies(&rejects, "COPY FROM")
        }
        None => rights.must_create_in(&into.schema),
    }
}

/// A bucket as the environment says that it is reached.
fn bucket(session: &Session, location: &Location) -> Result<Arc<Bucket>> {
    Buckets::of(&session.context.state())?.get(&location.bucket, &S3Options::new())
}

async fn object(session: &Session, location: &Location, run: &Run) -> Result<ObjectReader> {
    let (bucket, location) = (bucket(session, location)?, location.clone());
    let open = async move {
        let found = bucket.find(&location.key).await?.ok_or_else(|| bucket.missing(&location.url()))?;
        Ok(ObjectReader::new(bucket, found)?)
    };
    session.on_work_threads(run, |_| open).await
}

fn opened(path: &Path) -> Result<File> {
    let file = File::open(path).and_then(|file| match file.metadata()?.is_dir() {
        true => Err(ErrorKind::IsADirectory.into()),
        false => Ok(file),
    });
    file.map_err(|error| {
        let kind = if error.kind() == ErrorKind::PermissionDenied { Kind::Denied } else { Kind::Io };
        Error::new(kind, format!("could not open file \"{}\" for reading: {error}", path.display()))
            .hint("COPY FROM reads a file of the server; a client's file is read by psql's \\copy")
    })
}
