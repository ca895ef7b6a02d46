//! `CREATE FOREIGN TABLE` and `DROP FOREIGN TABLE`: one table of a foreign server.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{ResolvedTableReference, TableReference};
use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

use crate::engine::definitions::{check_create, drop_relation, new_name, writable};
use crate::engine::statement::{self, Own, folded, syntax, take_words};
use crate::engine::statements::grant::table_reference;
use crate::engine::statements::server::options::Given;
use crate::engine::{Answer, Run, Session};
use crate::error::{Error, Kind, Result, in_sql};
use crate::foreign::{Found, RemoteColumn, RemoteTable, wrapper};
use crate::storage::{External, Foreign, ForeignServer, NewForeignTable, RelationType, Store};

pub struct Grammar;
pub struct DropGrammar;

#[derive(Debug)]
struct CreateForeignTable {
    name: TableReference,
    if_not_exists: bool,
    /// Empty: all that the table over there has.
    columns: Vec<Column>,
    server: String,
    options: Given,
}

#[derive(Debug)]
struct Column {
    name: String,
    of: ast::DataType,
    options: Given,
}

#[derive(Debug)]
struct DropForeignTable {
    names: Vec<TableReference>,
    if_exists: bool,
}

impl statement::Grammar for Grammar {
    fn name(&self) -> &'static str {
        "CREATE FOREIGN TABLE"
    }

    fn doc(&self) -> &'static str {
        "Names one table or view of a foreign server, to be read here as a table. Its schema there is public, and its name the \
         same as here, unless options say otherwise. Without a list of columns it has all that can be read; a listed column has the \
         type of the one there, and its name unless column_name says otherwise. The server is asked when the table is made. \
         For superusers; GRANT SELECT, views and policies on it are as on any table."
    }

    fn syntax(&self) -> &'static str {
        "CREATE FOREIGN TABLE [IF NOT EXISTS] [schema.]name\n\
         \x20 [(column type [OPTIONS (column_name 'name')] [, …])]\n\
         \x20 SERVER server [OPTIONS ([schema_name 'name'] [, table_name 'name'])]"
    }

    fn parse(&self, parser: &mut Parser) -> Result<Option<Arc<dyn Own>>> {
        if !take_words(parser, &["CREATE", "FOREIGN", "TABLE"]) {
            return Ok(None);
        }
        let if_not_exists = take_words(parser, &["IF", "NOT", "EXISTS"]);
        let name = table_reference(&parser.parse_object_name(false).map_err(syntax)?)?;
        let columns = columns(parser)?;
        if !take_words(parser, &["SERVER"]) {
            return parser.expected("SERVER", parser.peek_token()).map_err(syntax);
        }
        let server = folded(&parser.parse_identifier().map_err(syntax)?);
        let options = Given::parse(parser)?;
        Ok(Some(Arc::new(CreateForeignTable { name, if_not_exists, columns, server, options })))
    }
}

fn columns(parser: &mut Parser) -> Result<Vec<Column>> {
    let mut columns = Vec::new();
    if !parser.consume_token(&Token::LParen) || parser.consume_token(&Token::RParen) {
        return Ok(columns);
    }
    loop {
        let name = folded(&parser.parse_identifier().map_err(syntax)?);
        let of = parser.parse_data_type().map_err(syntax)?;
        let options = Given::parse(parser)?;
        // Whether it has NULLs is for the server over there to say.
        let _ = take_words(parser, &["NOT", "NULL"]) || take_words(parser, &["NULL"]);
        columns.push(Column { name, of, options });
        if !parser.consume_token(&Token::Comma) {
            parser.expect_token(&Token::RParen).map_err(syntax)?;
            return Ok(columns);
        }
    }
}

impl statement::Grammar for DropGrammar {
    fn name(&self) -> &'static str {
        "DROP FOREIGN TABLE"
    }

    fn doc(&self) -> &'static str {
        "Forgets foreign tables. Nothing happens on their server."
    }

    fn syntax(&self) -> &'static str {
        "DROP FOREIGN TABLE [IF EXISTS] name [, …] [CASCADE | RESTRICT]"
    }

    fn parse(&self, parser: &mut Parser) -> Result<Option<Arc<dyn Own>>> {
        if !take_words(parser, &["DROP", "FOREIGN", "TABLE"]) {
            return Ok(None);
        }
        let if_exists = take_words(parser, &["IF", "EXISTS"]);
        let names = parser.parse_comma_separated(|parser| parser.parse_object_name(false)).map_err(syntax)?;
        let names = names.iter().map(table_reference).collect::<Result<_>>()?;
        let _ = take_words(parser, &["CASCADE"]) || take_words(parser, &["RESTRICT"]);
        Ok(Some(Arc::new(DropForeignTable { names, if_exists })))
    }
}

#[async_trait]
impl Own for CreateForeignTable {
    async fn run(&self, session: &Session, run: &Run) -> Result<Answer> {
        session.may_write("CREATE FOREIGN TABLE")?;
        let rights = session.rights()?;
        rights.must_be_superuser("create foreign tables")?;
        let store = &session.store();
        let name = new_name(session, &self.name);
        writable(&name)?;
        let there = store.relation(&name.schema, &name.table)?;
        check_create(&rights, &name.schema, there.as_ref(), false)?;
        if there.is_some() && self.if_not_exists {
            run.notice(format!("relation \"{}\" already exists, skipping", name.table));
            return Ok(Answer::Done("CREATE FOREIGN TABLE".to_owned()));
        }
        let servers = store.foreign_servers();
        let server = servers.must_find(&self.server)?;
        let (schema, table) = self.remote_name(&name, store, server)?;
        let found = found(session, run, server, &schema).await?;
        let known: Vec<String> = found.iter().map(|found| found.table.table.clone()).collect();
        let Some(found) = found.into_iter().find(|found| found.table.table == table) else {
            let message = format!("server \"{}\" has no table \"{schema}\".\"{table}\"", self.server);
            let error = Error::new(Kind::UnknownTable, message).suggest(&table, known.iter().map(String::as_str));
            return Err(error);
        };
        let remote = self.chosen(session, run, found).await?;
        let new = new_table(name.table.to_string(), server, &remote)?;
        store.create_foreign_tables(&name.schema, &[new], rights.role())?;
        session.audit("CREATE FOREIGN TABLE", &name.to_string());
        Ok(Answer::Done("CREATE FOREIGN TABLE".to_owned()))
    }
}

impl CreateForeignTable {
    /// Schema and name over there.
    fn remote_name(
        &self,
        name: &ResolvedTableReference,
        store: &Store,
        server: &ForeignServer,
    ) -> Result<(String, String)> {
        let mut options = self.options.clone();
        let schema = match options.take("schema_name") {
            Some(schema) => schema,
            None => wrapper(&server.wrapper)?.schema(&store.server_options(server)?).ok_or_else(|| {
                Error::invalid("it is not said which database of the server the table is in")
                    .hint("OPTIONS (schema_name '…'), or the option dbname of the server")
            })?,
        };
        let table = options.take("table_name").unwrap_or_else(|| name.table.to_string());
        match options.0.keys().next() {
            None => Ok((schema, table)),
            Some(other) => Err(Error::invalid(format!("invalid option \"{other}\""))
                .hint("valid options in this context are: schema_name, table_name")),
        }
    }

    /// The table with the columns that were listed.
    async fn chosen(&self, session: &Session, run: &Run, found: Found) -> Result<RemoteTable> {
        let mut table = found.table;
        if self.columns.is_empty() {
            leave_out(run, &table.table, &found.unreadable);
            return must_have_columns(table);
        }
        let mut chosen: Vec<RemoteColumn> = Vec::new();
        for column in &self.columns {
            let mut options = column.options.clone();
            let remote = options.take("column_name").unwrap_or_else(|| column.name.clone());
            if let Some(other) = options.0.keys().next() {
                return Err(Error::invalid(format!("invalid option \"{other}\""))
                    .hint("valid options in this context are: column_name"));
            }
            if chosen.iter().any(|before| before.name == column.name) {
                let message = format!("column \"{}\" specified more than once", column.name);
                return Err(Error::new(Kind::DuplicateColumn, message));
            }
            let there = table.columns.iter().find(|there| there.remote == remote).ok_or_else(|| {
                let message =
                    format!("table \"{}\" over there has no column \"{remote}\" that can be read", table.table);
                let known = table.columns.iter().map(|column| column.remote.as_str());
                Error::new(Kind::UnknownColumn, message).suggest(&remote, known)
            })?;
            let declared = arrow_type(session, run, &column.of).await?;
            if !is_same(&declared, &there.of.arrow()) {
                let is = in_sql(&there.of.arrow().to_string());
                let message = format!("column \"{}\" is {is} over there, not {}", column.name, column.of);
                return Err(Error::new(Kind::WrongType, message)
                    .hint("leave the list of columns out to have them as they are there"));
            }
            chosen.push(RemoteColumn { name: column.name.clone(), ..there.clone() });
        }
        table.columns = chosen;
        Ok(table)
    }
}

/// The type that a column of that type has here.
async fn arrow_type(session: &Session, run: &Run, of: &ast::DataType) -> Result<DataType> {
    let planner = session.sight().planner.get()?;
    let sql = format!("SELECT CAST(NULL AS {of})");
    let plan = session.on_quick_threads(run, async move { Ok(planner.create_logical_plan(&sql).await?) }).await?;
    Ok(plan.schema().field(0).data_type().clone())
}

/// Layouts in memory, units of time and digits of numbers are as the server has them.
fn is_same(declared: &DataType, there: &DataType) -> bool {
    match (declared, there) {
        (DataType::Timestamp(_, a), DataType::Timestamp(_, b)) => a.is_some() == b.is_some(),
        (DataType::Time64(_), DataType::Time64(_)) | (DataType::Decimal128(..), DataType::Decimal128(..)) => true,
        (DataType::Utf8View | DataType::LargeUtf8, DataType::Utf8) => true,
        (DataType::BinaryView | DataType::LargeBinary, DataType::Binary) => true,
        (DataType::List(a), DataType::List(b)) => is_same(a.data_type(), b.data_type()),
        (a, b) => a == b,
    }
}

#[async_trait]
impl Own for DropForeignTable {
    async fn run(&self, session: &Session, run: &Run) -> Result<Answer> {
        session.may_write("DROP FOREIGN TABLE")?;
        for name in &self.names {
            drop_relation(session, name, RelationType::External, self.if_exists, run)?;
            session.audit("DROP FOREIGN TABLE", &name.to_string());
        }
        Ok(Answer::Done("DROP FOREIGN TABLE".to_owned()))
    }
}

/// The tables of a schema over there, as the session's role sees them.
pub(super) async fn found(session: &Session, run: &Run, server: &ForeignServer, schema: &str) -> Result<Vec<Found>> {
    let there = session.sight().gateway.server(server, session.rights()?.role())?;
    let asked = schema.to_owned();
    let found = session.on_work_threads(run, |_| async move { there.tables(&asked).await }).await?;
    found.ok_or_else(|| {
        Error::new(
            Kind::UnknownSchema,
            format!("schema \"{schema}\" is not present on foreign server \"{}\"", server.name),
        )
    })
}

/// Says which columns there are that cannot be read.
pub(super) fn leave_out(run: &Run, table: &str, unreadable: &[(String, String)]) {
    for (column, of) in unreadable {
        run.notice(format!("column \"{column}\" of \"{table}\" is left out: values of type {of} cannot be read"));
    }
}

fn must_have_columns(table: RemoteTable) -> Result<RemoteTable> {
    match table.columns.is_empty() {
        true => Err(Error::new(Kind::WrongObject, format!("table \"{}\" has no column that can be read", table.table))),
        false => Ok(table),
    }
}

/// A table over there as the catalog keeps it.
pub(super) fn new_table(name: String, server: &ForeignServer, remote: &RemoteTable) -> Result<NewForeignTable> {
    let (schema, table) = (remote.schema.clone(), remote.table.clone());
    let external = External {
        provider: server.wrapper.clone(),
        options: [("schema_name".to_owned(), schema), ("table_name".to_owned(), table)].into(),
        foreign: Some(Foreign { server: server.id, table: remote.to_json()? }),
        ..External::default()
    };
    Ok(NewForeignTable { name, external, columns: remote.columns() })
}
