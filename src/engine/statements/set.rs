//! `SET`, `RESET`, `DISCARD`, `DEALLOCATE`, `UNLISTEN`: what clients say to tidy up.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

use crate::engine::session::lock;
use crate::engine::statement::{self, Own, at_words, syntax, take_words};
use crate::engine::{Answer, Run, Session};
use crate::error::Result;

pub struct Grammar;

#[derive(Debug)]
enum Set {
    /// `None`: back to the default.
    One {
        name: String,
        value: Option<String>,
        tag: &'static str,
    },
    ResetAll {
        tag: &'static str,
    },
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
        "Changes a setting of this session, such as statement_timeout, timezone or search_path. RESET takes it back, \
         RESET ALL and DISCARD ALL take all back. DEALLOCATE, CLOSE and UNLISTEN are what clients tidy up with. Settings of the query engine start with datafusion."
    }

    fn syntax(&self) -> &'static str {
        "SET [SESSION | LOCAL] name { = | TO } { value | DEFAULT }\n\
         SET TIME ZONE 'zone'\n\
         RESET { name | ALL }\n\
         DISCARD { ALL | PLANS | TEMP }\n\
         DEALLOCATE { name | ALL }\n\
         CLOSE ALL\n\
         UNLISTEN { channel | * }"
    }

    fn parse(&self, parser: &mut Parser) -> Result<Option<Arc<dyn Own>>> {
        let set = if take_words(parser, &["SET"]) {
            set(parser)?
        } else if take_words(parser, &["RESET", "ALL"]) {
            Set::ResetAll { tag: "RESET" }
        } else if take_words(parser, &["RESET"]) {
            Set::One { name: setting_name(parser)?, value: None, tag: "RESET" }
        } else if take_words(parser, &["DISCARD", "ALL"]) {
            Set::ResetAll { tag: "DISCARD ALL" }
        } else if take_words(parser, &["DISCARD", "PLANS"]) {
            Set::Nothing { tag: "DISCARD PLANS" }
        } else if take_words(parser, &["DISCARD", "TEMP"]) {
            Set::Nothing { tag: "DISCARD TEMP" }
        } else if take_words(parser, &["DEALLOCATE", "ALL"]) {
            Set::Nothing { tag: "DEALLOCATE ALL" }
        } else if take_words(parser, &["CLOSE", "ALL"]) {
            Set::Nothing { tag: "CLOSE CURSOR ALL" }
        } else if at_words(parser, &["UNLISTEN"]) {
            parser.next_token();
            parser.next_token();
            Set::Nothing { tag: "UNLISTEN" }
        } else {
            return Ok(None);
        };
        Ok(Some(Arc::new(set)))
    }
}

fn set(parser: &mut Parser) -> Result<Set> {
    let tag = "SET";
    if take_words(parser, &["SESSION", "CHARACTERISTICS"]) || take_words(parser, &["TRANSACTION"]) {
        rest(parser);
        return Ok(Set::Nothing { tag });
    }
    let _scope = take_words(parser, &["SESSION"]) || take_words(parser, &["LOCAL"]);
    if take_words(parser, &["TIME", "ZONE"]) {
        return Ok(Set::One { name: "timezone".to_owned(), value: default_or(rest(parser)), tag });
    }
    if take_words(parser, &["NAMES"]) {
        return Ok(Set::One { name: "client_encoding".to_owned(), value: default_or(rest(parser)), tag });
    }
    let name = setting_name(parser)?;
    if !parser.consume_token(&Token::Eq) && !take_words(parser, &["TO"]) {
        return parser.expected("= or TO", parser.peek_token()).map_err(syntax);
    }
    Ok(Set::One { name, value: default_or(rest(parser)), tag })
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
        let tag = match self {
            Self::One { name, value, tag } => {
                lock(&session.settings).set(name, value.as_deref(), &session.context)?;
                tag
            }
            Self::ResetAll { tag } => {
                lock(&session.settings).reset_all(&session.context)?;
                if *tag == "DISCARD ALL" {
                    session.set_role(None, false, run)?;
                }
                tag
            }
            Self::Nothing { tag } => tag,
        };
        Ok(Answer::Done((*tag).to_owned()))
    }
}
