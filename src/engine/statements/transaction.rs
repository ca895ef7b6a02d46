//! `BEGIN`, `COMMIT`, `ROLLBACK`, `SAVEPOINT`: the words and states that clients rely on.
//!
//! Every statement commits by itself; a block only groups them for the client. A ROLLBACK that would have undone
//! something says so in a warning.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

use crate::engine::statement::{self, Own, take_words};
use crate::engine::{Answer, Run, Session, Transaction};
use crate::error::{Error, Kind, Result};

pub struct Grammar;

#[derive(Debug)]
enum Block {
    Begin { tag: &'static str },
    Commit,
    Rollback,
    Savepoint,
    Release,
    RollbackTo,
}

impl statement::Grammar for Grammar {
    fn name(&self) -> &'static str {
        "BEGIN"
    }

    fn doc(&self) -> &'static str {
        "Transaction blocks as clients send them. Each statement is all or nothing and commits by itself: COMMIT and \
         ROLLBACK end the block, and ROLLBACK does not undo what its statements have committed; it warns."
    }

    fn syntax(&self) -> &'static str {
        "BEGIN | START TRANSACTION | COMMIT | END | ROLLBACK | ABORT\n\
         SAVEPOINT name | RELEASE [SAVEPOINT] name | ROLLBACK TO [SAVEPOINT] name"
    }

    fn parse(&self, parser: &mut Parser) -> Result<Option<Arc<dyn Own>>> {
        let block = if take_words(parser, &["BEGIN"]) {
            Block::Begin { tag: "BEGIN" }
        } else if take_words(parser, &["START", "TRANSACTION"]) {
            Block::Begin { tag: "START TRANSACTION" }
        } else if take_words(parser, &["COMMIT"]) || take_words(parser, &["END"]) {
            Block::Commit
        } else if take_words(parser, &["ROLLBACK", "TO"]) || take_words(parser, &["ROLLBACK", "WORK", "TO"]) {
            Block::RollbackTo
        } else if take_words(parser, &["ROLLBACK"]) || take_words(parser, &["ABORT"]) {
            Block::Rollback
        } else if take_words(parser, &["SAVEPOINT"]) {
            Block::Savepoint
        } else if take_words(parser, &["RELEASE"]) {
            Block::Release
        } else {
            return Ok(None);
        };
        // Isolation levels, WORK and the names of savepoints change nothing here.
        while !matches!(parser.peek_token().token, Token::SemiColon | Token::EOF) {
            parser.next_token();
        }
        Ok(Some(Arc::new(block)))
    }
}

#[async_trait]
impl Own for Block {
    fn ends_failure(&self) -> bool {
        matches!(self, Self::Commit | Self::Rollback | Self::RollbackTo)
    }

    async fn run(&self, session: &Session, run: &Run) -> Result<Answer> {
        let state = session.transaction();
        let tag = match self {
            Self::Begin { tag } => {
                if state == Transaction::Open {
                    run.warning("there is already a transaction in progress", "COMMIT or ROLLBACK ends it");
                }
                session.set_transaction(Transaction::Open);
                tag
            }
            Self::Commit | Self::Rollback => {
                if state == Transaction::Idle {
                    run.warning("there is no transaction in progress", "BEGIN starts one");
                }
                let undoes = matches!(self, Self::Rollback) || state == Transaction::Failed;
                if undoes && session.wrote() {
                    run.warning(
                        "what the block has written stays: each statement commits by itself",
                        "drop or replace what should not be there",
                    );
                }
                session.set_transaction(Transaction::Idle);
                if undoes { "ROLLBACK" } else { "COMMIT" }
            }
            Self::Savepoint | Self::Release | Self::RollbackTo => {
                if state == Transaction::Idle {
                    return Err(Error::new(Kind::NoTransaction, "savepoints can only be used in transaction blocks")
                        .hint("BEGIN starts one"));
                }
                if let Self::RollbackTo = self {
                    session.reopen_transaction();
                }
                match self {
                    Self::Savepoint => "SAVEPOINT",
                    Self::Release => "RELEASE",
                    _ => "ROLLBACK",
                }
            }
        };
        Ok(Answer::Done(tag.to_owned()))
    }
}
