//! `SET`, `RESET`, `DISCARD`, `UNLISTEN`: what clients say to tidy up.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

use crate::engine::session::lock;
use crate::engine::statement::{self, Own, at_words, syntax, take_words};
use crate::engine::{Answer, Run, Session, Transaction};
use crate::error::{Error, Kind, Result};

pub struct Grammar;

#[derive(Debug)]
enum Set {
    /// `None`: back to the default.
    One {
        name: String,
        value: Option<String>,
        /// For the transaction block at hand only.
        local: bool,
        tag: &'static str,
    },
    ResetAll,
    DiscardAll,
    DiscardTemporary,
    /// Accepted, with nothing to do.
    Nothing {
        tag: &'static str,
    },
}

impl statement::Grammar for Grammar {
    fn name(&self) -> &'static str {
        "SET"
    }

    fn doc(&self) -> &'static str {
        "Changes a setting of this session, such as statement_timeout, timezone or search_path. With LOCAL it lasts \
         until the end of the transaction block; a block that is rolled back takes back what it has set. RESET takes a \
         setting back, RESET ALL all of them. DISCARD ALL makes the session as new: settings, cursors and prepared \
         statements go. LISTEN and NOTIFY are refused; UNLISTEN has nothing to do. Settings of the query engine start \
         with datafusion."
    }

    fn syntax(&self) -> &'static str {
        "SET [SESSION | LOCAL] name { = | TO } { value | DEFAULT }\n\
         SET TIME ZONE 'zone'\n\
         RESET { name | ALL }\n\
         DISCARD { ALL | PLANS | TEMP | TEMPORARY | SEQUENCES }\n\
         UNLISTEN { channel | * }"
    }

    fn parse(&self, parser: &mut Parser) -> Result<Option<Arc<dyn Own>>> {
        let set = if take_words(parser, &["SET"]) {
            set(parser)?
        } else if take_words(parser, &["RESET", "ALL"]) {
            Set::ResetAll
        } else if take_words(parser, &["RESET"]) {
            Set::One { name: setting_name(parser)?, value: None, local: false, tag: "RESET" }
        } else if take_words(parser, &["DISCARD"]) {
            discard(parser)?
        } else if take_words(parser, &["UNLISTEN"]) {
            parser.next_token();
            Set::Nothing { tag: "UNLISTEN" }
        } else if at_words(parser, &["LISTEN"]) || at_words(parser, &["NOTIFY"]) {
            return Err(Error::unsupported("LISTEN and NOTIFY are not supported")
                .hint("ask for what is new by a query, such as one of ml.model_versions"));
        } else {
            return Ok(None);
        };
        Ok(Some(Arc::new(set)))
    }
}

fn discard(parser: &mut Parser) -> Result<Set> {
    for (word, discard) in [
        ("ALL", Set::DiscardAll),
        ("PLANS", Set::Nothing { tag: "DISCARD PLANS" }),
        ("TEMP", Set::DiscardTemporary),
        ("TEMPORARY", Set::DiscardTemporary),
        ("SEQUENCES", Set::Nothing { tag: "DISCARD SEQUENCES" }),
    ] {
        if take_words(parser, &[word]) {
            return Ok(discard);
        }
    }
    parser.expected("ALL, PLANS, TEMP or SEQUENCES", parser.peek_token()).map_err(syntax)
}

fn set(parser: &mut Parser) -> Result<Set> {
    let tag = "SET";
    let local = take_words(parser, &["LOCAL"]);
    if !local {
        take_words(parser, &["SESSION"]);
    }
    if take_words(parser, &["TIME", "ZONE"]) {
        return Ok(Set::One { name: "timezone".to_owned(), value: default_or(rest(parser)), local, tag });
    }
    if take_words(parser, &["NAMES"]) {
        return Ok(Set::One { name: "client_encoding".to_owned(), value: default_or(rest(parser)), local, tag });
    }
    let name = setting_name(parser)?;
    if !parser.consume_token(&Token::Eq) && !take_words(parser, &["TO"]) {
        return parser.expected("= or TO", parser.peek_token()).map_err(syntax);
    }
    Ok(Set::One { name, value: default_or(rest(parser)), local, tag })
}

pub(super) fn setting_name(parser: &mut Parser) -> Result<String> {
    Ok(parser.parse_object_name(false).map_err(syntax)?.to_string().replace('"', ""))
}

fn default_or(value: String) -> Option<String> {
    (!value.eq_ignore_ascii_case("default")).then_some(value)
}

/// The tokens up to the end of the statement, quotes taken off.
fn rest(parser: &mut Parser) -> String {
    let mut value = String::new();
    while !matches!(parser.peek_token().token, Token::SemiColon | Token::EOF) {
        match parser.next_token().token {
            Token::SingleQuotedString(text) => value += &text,
            Token::Comma => value += ", ",
            other => value += &other.to_string(),
        }
    }
    value
}

#[async_trait]
impl Own for Set {
    async fn run(&self, session: &Session, run: &Run) -> Result<Answer> {
        let settings = || lock(&session.settings);
        let tag = match self {
            Self::One { local: true, tag, .. } if session.transaction() == Transaction::Idle => {
                run.warning("SET LOCAL can only be used in transaction blocks", "BEGIN starts one");
                tag
            }
            Self::One { name, value, local: true, tag } => {
                settings().set_local(name, value.as_deref(), &session.context)?;
                tag
            }
            Self::One { name, value, local: false, tag } => {
                settings().set(name, value.as_deref(), &session.context)?;
                tag
            }
            Self::ResetAll => {
                settings().reset_all(&session.context)?;
                "RESET"
            }
            Self::DiscardAll => {
                if session.in_block() {
                    let message = "DISCARD ALL cannot run inside a transaction block";
                    return Err(Error::new(Kind::OpenTransaction, message).hint("COMMIT or ROLLBACK ends it"));
                }
                settings().reset_all(&session.context)?;
                session.set_role(None, false, run)?;
                session.cursors.close_all();
                session.drop_temporary()?;
                lock(&session.prepared).clear();
                "DISCARD ALL"
            }
            Self::DiscardTemporary => {
                session.drop_temporary()?;
                "DISCARD TEMP"
            }
            Self::Nothing { tag } => tag,
        };
        Ok(Answer::Done(tag.to_owned()))
    }
}
