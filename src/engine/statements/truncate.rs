//! `TRUNCATE`: a table without its rows.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::common::TableReference;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

use crate::engine::definitions::the_table;
use crate::engine::statement::{self, Own, relation, take_words};
use crate::engine::{Answer, Run, Session};
use crate::error::Result;
use crate::storage::{Change, ChangedRows, Privilege, Replaces, TableId};

pub struct Grammar;

#[derive(Debug)]
struct Truncate {
    tables: Vec<TableReference>,
}

impl statement::Grammar for Grammar {
    fn name(&self) -> &'static str {
        "TRUNCATE"
    }

    fn doc(&self) -> &'static str {
        "Takes all rows out of tables. Their earlier versions can be read until VACUUM."
    }

    fn syntax(&self) -> &'static str {
        "TRUNCATE [TABLE] [schema.]name [, …] [RESTART IDENTITY | CONTINUE IDENTITY] [CASCADE | RESTRICT]"
    }

    fn parse(&self, parser: &mut Parser) -> Result<Option<Arc<dyn Own>>> {
        if !take_words(parser, &["TRUNCATE"]) {
            return Ok(None);
        }
        take_words(parser, &["TABLE"]);
        let mut tables = Vec::new();
        loop {
            take_words(parser, &["ONLY"]);
            tables.push(relation(parser)?);
            if !parser.consume_token(&Token::Comma) {
                break;
            }
        }
        // There are no sequences that would begin again, and no other tables that would have to follow.
        let _ = take_words(parser, &["RESTART", "IDENTITY"]) || take_words(parser, &["CONTINUE", "IDENTITY"]);
        let _ = take_words(parser, &["CASCADE"]) || take_words(parser, &["RESTRICT"]);
        Ok(Some(Arc::new(Truncate { tables })))
    }
}

#[async_trait]
impl Own for Truncate {
    async fn run(&self, session: &Session, _: &Run) -> Result<Answer> {
        session.may_write("TRUNCATE")?;
        let rights = session.rights()?;
        let found = self.tables.iter().map(|name| the_table(session, name, "truncate")).collect::<Result<Vec<_>>>()?;
        found.iter().try_for_each(|(_, relation)| rights.must(relation, Privilege::Truncate))?;
        for (table, relation) in found {
            truncate(session, table, relation.rows())?;
            session.audit("TRUNCATE", &relation.name);
        }
        Ok(Answer::Done("TRUNCATE TABLE".to_owned()))
    }
}

fn truncate(session: &Session, table: TableId, deleted: u64) -> Result<()> {
    let store = &session.store();
    let columns = store.table(table)?.columns;
    let rows = ChangedRows { deleted, ..ChangedRows::default() };
    let change = Change { rows, ..Change::of_rows(table, "TRUNCATE", Replaces::Everything) };
    store.change(change, store.writer(columns)?)
}
