//! `BEGIN`, `COMMIT`, `ROLLBACK`, `SAVEPOINT`: what is written in between is committed as one, or not at all.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

use crate::engine::session::lock;
use crate::engine::statement::{self, Own, at_words, folded, syntax, take_words};
use crate::engine::{Answer, Run, Session, Transaction};
use crate::error::{Error, Kind, Result};

pub struct Grammar;

#[derive(Debug)]
enum Block {
    Begin {
        tag: &'static str,
        modes: Vec<Mode>,
    },
    Commit {
        chain: bool,
    },
    Rollback {
        chain: bool,
    },
    Savepoint(String),
    Release(String),
    RollbackTo(String),
    /// `SET TRANSACTION`: of the block at hand.
    Modes(Vec<Mode>),
    /// `SET SESSION CHARACTERISTICS AS TRANSACTION`: of the blocks to come.
    DefaultModes(Vec<Mode>),
}

/// How a block is to be: the setting that says so, and its value.
#[derive(Debug, Clone, Copy)]
struct Mode {
    setting: &'static str,
    default: &'static str,
    value: &'static str,
}

impl statement::Grammar for Grammar {
    fn name(&self) -> &'static str {
        "BEGIN"
    }

    fn doc(&self) -> &'static str {
        "What is written between BEGIN and COMMIT, to tables, models, views, roles or rights, is committed as one, and \
         nobody else sees it before; ROLLBACK takes it back, and ROLLBACK TO what came after a savepoint. Statements \
         in one message are such a block, too. Nobody waits for anybody: where two change the same rows, whoever \
         commits first wins, and the other fails with SQLSTATE 40001 and is to be run again. Rows may be added to one \
         table by many at a time. READ COMMITTED: each statement sees what was committed when it began; REPEATABLE \
         READ: all see what was when the first began; SERIALIZABLE: besides, it commits only if nobody else has \
         meanwhile. In a block that is READ ONLY nothing is written. VACUUM cannot run in a block. After an error a block answers \
         nothing but its end, or ROLLBACK TO a savepoint."
    }

    fn syntax(&self) -> &'static str {
        "{ BEGIN [WORK | TRANSACTION] | START TRANSACTION } [mode [, …]]\n\
         { COMMIT | END | ROLLBACK | ABORT } [WORK | TRANSACTION] [AND [NO] CHAIN]\n\
         SAVEPOINT name | RELEASE [SAVEPOINT] name | ROLLBACK TO [SAVEPOINT] name\n\
         SET TRANSACTION mode [, …]\n\
         SET SESSION CHARACTERISTICS AS TRANSACTION mode [, …]\n\
         where mode is READ ONLY | READ WRITE | [NOT] DEFERRABLE |\n\
         ISOLATION LEVEL { SERIALIZABLE | REPEATABLE READ | READ COMMITTED | READ UNCOMMITTED }"
    }

    fn parse(&self, parser: &mut Parser) -> Result<Option<Arc<dyn Own>>> {
        let block = if take_words(parser, &["BEGIN"]) {
            take_work(parser);
            Block::Begin { tag: "BEGIN", modes: modes(parser)? }
        } else if take_words(parser, &["START", "TRANSACTION"]) {
            Block::Begin { tag: "START TRANSACTION", modes: modes(parser)? }
        } else if TWO_PHASES.iter().any(|words| at_words(parser, words)) {
            return Err(
                Error::unsupported("two-phase commit is not supported").hint("COMMIT and ROLLBACK end a transaction")
            );
        } else if take_words(parser, &["COMMIT"]) || take_words(parser, &["END"]) {
            take_work(parser);
            Block::Commit { chain: chain(parser)? }
        } else if take_words(parser, &["ROLLBACK"]) || take_words(parser, &["ABORT"]) {
            take_work(parser);
            match take_words(parser, &["TO"]) {
                true => Block::RollbackTo(savepoint(parser)?),
                false => Block::Rollback { chain: chain(parser)? },
            }
        } else if take_words(parser, &["SAVEPOINT"]) {
            Block::Savepoint(savepoint(parser)?)
        } else if take_words(parser, &["RELEASE"]) {
            Block::Release(savepoint(parser)?)
        } else if take_words(parser, &["SET", "TRANSACTION"]) {
            Block::Modes(modes(parser)?)
        } else if take_words(parser, &["SET", "SESSION", "CHARACTERISTICS", "AS", "TRANSACTION"]) {
            Block::DefaultModes(modes(parser)?)
        } else {
            return Ok(None);
        };
        Ok(Some(Arc::new(block)))
    }
}

/// Statements of two-phase commit.
const TWO_PHASES: [[&str; 2]; 3] = [["COMMIT", "PREPARED"], ["ROLLBACK", "PREPARED"], ["PREPARE", "TRANSACTION"]];

fn take_work(parser: &mut Parser) {
    let _ = take_words(parser, &["WORK"]) || take_words(parser, &["TRANSACTION"]);
}

fn chain(parser: &mut Parser) -> Result<bool> {
    if !take_words(parser, &["AND"]) {
        return Ok(false);
    }
    let no = take_words(parser, &["NO"]);
    if !take_words(parser, &["CHAIN"]) {
        return parser.expected("CHAIN", parser.peek_token()).map_err(syntax);
    }
    Ok(!no)
}

fn savepoint(parser: &mut Parser) -> Result<String> {
    take_words(parser, &["SAVEPOINT"]);
    Ok(folded(&parser.parse_identifier().map_err(syntax)?))
}

/// Modes with commas between them, or without, as Postgres takes them.
fn modes(parser: &mut Parser) -> Result<Vec<Mode>> {
    const READ_ONLY: Mode =
        Mode { setting: "transaction_read_only", default: "default_transaction_read_only", value: "on" };
    const ISOLATION: Mode =
        Mode { setting: "transaction_isolation", default: "default_transaction_isolation", value: "serializable" };
    let mut modes = Vec::new();
    loop {
        if take_words(parser, &["READ", "ONLY"]) {
            modes.push(READ_ONLY);
        } else if take_words(parser, &["READ", "WRITE"]) {
            modes.push(Mode { value: "off", ..READ_ONLY });
        } else if take_words(parser, &["ISOLATION", "LEVEL"]) {
            let levels = ["serializable", "repeatable read", "read committed", "read uncommitted"];
            let is_next = |level: &&str| take_words(parser, &level.split(' ').collect::<Vec<_>>());
            match levels.into_iter().find(is_next) {
                Some(value) => modes.push(Mode { value, ..ISOLATION }),
                None => return parser.expected("an isolation level", parser.peek_token()).map_err(syntax),
            }
        } else if !take_words(parser, &["DEFERRABLE"]) && !take_words(parser, &["NOT", "DEFERRABLE"]) {
            return match parser.peek_token().token {
                Token::SemiColon | Token::EOF => Ok(modes),
                _ => parser.expected("a transaction mode", parser.peek_token()).map_err(syntax),
            };
        }
        let _ = parser.consume_token(&Token::Comma);
    }
}

#[async_trait]
impl Own for Block {
    fn ends_failure(&self) -> bool {
        matches!(self, Self::Commit { .. } | Self::Rollback { .. } | Self::RollbackTo(_))
    }

    async fn run(&self, session: &Session, run: &Run) -> Result<Answer> {
        let state = session.transaction();
        let tag = match self {
            Self::Begin { tag, modes } => {
                if state == Transaction::Open {
                    run.warning("there is already a transaction in progress", "COMMIT or ROLLBACK ends it");
                }
                session.begin_block()?;
                set(session, modes)?;
                tag
            }
            Self::Commit { chain } | Self::Rollback { chain } => {
                let undoes = matches!(self, Self::Rollback { .. }) || state == Transaction::Failed;
                end(session, run, undoes, *chain)?;
                if undoes { "ROLLBACK" } else { "COMMIT" }
            }
            Self::Savepoint(name) => {
                in_block(state, "SAVEPOINT")?;
                session.set_savepoint(name)?;
                "SAVEPOINT"
            }
            Self::Release(name) => {
                in_block(state, "RELEASE SAVEPOINT")?;
                session.release_savepoint(name)?;
                "RELEASE"
            }
            Self::RollbackTo(name) => {
                in_block(state, "ROLLBACK TO SAVEPOINT")?;
                session.rollback_to_savepoint(name)?;
                "ROLLBACK"
            }
            Self::Modes(modes) => {
                match state {
                    Transaction::Idle => {
                        run.warning("SET TRANSACTION can only be used in transaction blocks", "BEGIN starts one")
                    }
                    _ => set(session, modes)?,
                }
                "SET"
            }
            Self::DefaultModes(modes) => {
                for mode in modes {
                    session.set(mode.default, mode.value)?;
                }
                "SET"
            }
        };
        Ok(Answer::Done(tag.to_owned()))
    }
}

fn set(session: &Session, modes: &[Mode]) -> Result<()> {
    let mut settings = lock(&session.settings);
    modes.iter().try_for_each(|mode| settings.set_local(mode.setting, Some(mode.value), &session.context))
}

fn end(session: &Session, run: &Run, undoes: bool, chain: bool) -> Result<()> {
    if session.transaction() == Transaction::Idle {
        if chain {
            return Err(Error::new(Kind::NoTransaction, "AND CHAIN can only be used in transaction blocks")
                .hint("BEGIN starts one"));
        }
        run.warning("there is no transaction in progress", "BEGIN starts one");
    }
    session.end_block(!undoes)?;
    if chain {
        session.begin_block()?;
    }
    Ok(())
}

fn in_block(state: Transaction, statement: &str) -> Result<()> {
    if state != Transaction::Idle {
        return Ok(());
    }
    Err(Error::new(Kind::NoTransaction, format!("{statement} can only be used in transaction blocks"))
        .hint("BEGIN starts one"))
}
