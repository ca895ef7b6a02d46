//! `IMPORT FOREIGN SCHEMA`: foreign tables for all tables of a schema over there.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

use crate::engine::definitions::refuse_virtual;
use crate::engine::statement::{self, Own, folded, syntax, take_words};
use crate::engine::statements::create_role::names;
use crate::engine::statements::foreign_table::{found, leave_out, new_table};
use crate::engine::{Answer, Run, Session};
use crate::error::Result;

pub struct Grammar;

#[derive(Debug)]
struct ImportForeignSchema {
    remote: String,
    which: Which,
    server: String,
    into: String,
}

#[derive(Debug)]
enum Which {
    All,
    Only(Vec<String>),
    Except(Vec<String>),
}

impl statement::Grammar for Grammar {
    fn name(&self) -> &'static str {
        "IMPORT FOREIGN SCHEMA"
    }

    fn doc(&self) -> &'static str {
        "Makes a foreign table of every table and view in a schema of a foreign server, all of them or none. Their rows stay there \
         and are read with each query. A column of a type that cannot be read is left out, and a notice names it: \
         numbers, texts, enums, booleans, dates, times, intervals, uuids, JSON, bytea and arrays of such can be. A numeric without \
         precision is read with ten decimals. For superusers."
    }

    fn syntax(&self) -> &'static str {
        "IMPORT FOREIGN SCHEMA remote_schema [{ LIMIT TO | EXCEPT } (table [, …])]\n\
         \x20 FROM SERVER server INTO schema"
    }

    fn parse(&self, parser: &mut Parser) -> Result<Option<Arc<dyn Own>>> {
        if !take_words(parser, &["IMPORT", "FOREIGN", "SCHEMA"]) {
            return Ok(None);
        }
        let remote = folded(&parser.parse_identifier().map_err(syntax)?);
        let which = if take_words(parser, &["LIMIT", "TO"]) {
            Which::Only(bracketed(parser)?)
        } else if take_words(parser, &["EXCEPT"]) {
            Which::Except(bracketed(parser)?)
        } else {
            Which::All
        };
        if !take_words(parser, &["FROM", "SERVER"]) {
            return parser.expected("FROM SERVER", parser.peek_token()).map_err(syntax);
        }
        let server = folded(&parser.parse_identifier().map_err(syntax)?);
        if !take_words(parser, &["INTO"]) {
            return parser.expected("INTO", parser.peek_token()).map_err(syntax);
        }
        let into = folded(&parser.parse_identifier().map_err(syntax)?);
        Ok(Some(Arc::new(ImportForeignSchema { remote, which, server, into })))
    }
}

fn bracketed(parser: &mut Parser) -> Result<Vec<String>> {
    parser.expect_token(&Token::LParen).map_err(syntax)?;
    let names = names(parser)?;
    parser.expect_token(&Token::RParen).map_err(syntax)?;
    Ok(names)
}

#[async_trait]
impl Own for ImportForeignSchema {
    async fn run(&self, session: &Session, run: &Run) -> Result<Answer> {
        session.may_write("IMPORT FOREIGN SCHEMA")?;
        let rights = session.rights()?;
        rights.must_be_superuser("import foreign schemas")?;
        refuse_virtual(&self.into)?;
        let store = &session.store();
        let servers = store.foreign_servers();
        let server = servers.must_find(&self.server)?;
        let mut found = found(session, run, server, &self.remote).await?;
        match &self.which {
            Which::All => {}
            Which::Except(names) => found.retain(|found| !names.contains(&found.table.table)),
            Which::Only(names) => {
                found.retain(|found| names.contains(&found.table.table));
                for name in names.iter().filter(|name| found.iter().all(|found| found.table.table != **name)) {
                    run.notice(format!("schema \"{}\" over there has no table \"{name}\", skipping", self.remote));
                }
            }
        }
        let mut tables = Vec::new();
        for found in &found {
            leave_out(run, &found.table.table, &found.unreadable);
            match found.table.columns.is_empty() {
                true => run.notice(format!("\"{}\" has no column that can be read, skipping", found.table.table)),
                false => tables.push(new_table(found.table.table.clone(), server, &found.table)?),
            }
        }
        store.create_foreign_tables(&self.into, &tables, rights.role())?;
        let what = format!("{} of {} INTO {}: {} tables", self.remote, self.server, self.into, tables.len());
        session.audit("IMPORT FOREIGN SCHEMA", &what);
        Ok(Answer::Done("IMPORT FOREIGN SCHEMA".to_owned()))
    }
}
