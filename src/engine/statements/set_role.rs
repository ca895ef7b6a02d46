//! `SET ROLE`: the session acts as another role that it is a member of.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

use crate::engine::statement::{self, Own, at_words, folded, syntax, take_words};
use crate::engine::{Answer, Run, Session};
use crate::error::Result;

pub struct Grammar;

/// `None`: the role that logged in.
#[derive(Debug)]
struct SetRole {
    role: Option<String>,
    local: bool,
    tag: &'static str,
}

impl statement::Grammar for Grammar {
    fn name(&self) -> &'static str {
        "SET ROLE"
    }

    fn doc(&self) -> &'static str {
        "From here on the session acts as that role: current_user is the role, and rights are the role's. session_user stays who logged in. For superusers, and for members of the role. With LOCAL it is \
         until the transaction block ends. RESET ROLE and SET ROLE NONE take it back."
    }

    fn syntax(&self) -> &'static str {
        "SET [SESSION | LOCAL] ROLE { name | NONE }\n\
         RESET ROLE"
    }

    fn parse(&self, parser: &mut Parser) -> Result<Option<Arc<dyn Own>>> {
        if take_words(parser, &["RESET", "ROLE"]) {
            return Ok(Some(Arc::new(SetRole { role: None, local: false, tag: "RESET" })));
        }
        let local = at_words(parser, &["SET", "LOCAL", "ROLE"]);
        let starts: [&[&str]; 3] = [&["SET", "ROLE"], &["SET", "SESSION", "ROLE"], &["SET", "LOCAL", "ROLE"]];
        if !starts.iter().any(|words| take_words(parser, words)) {
            return Ok(None);
        }
        let _ = parser.consume_token(&Token::Eq) || take_words(parser, &["TO"]);
        let token = parser.next_token();
        let role = match &token.token {
            Token::SingleQuotedString(name) => Some(name.clone()),
            Token::Word(word) if word.quote_style.is_none() => match word.value.to_lowercase() {
                word if word == "none" || word == "default" => None,
                name => Some(name),
            },
            Token::Word(word) => Some(folded(&word.clone().into_ident(token.span))),
            _ => return parser.expected("the name of a role", token).map_err(syntax),
        };
        Ok(Some(Arc::new(SetRole { role: role.filter(|role| role != "none"), local, tag: "SET" })))
    }
}

#[async_trait]
impl Own for SetRole {
    async fn run(&self, session: &Session, run: &Run) -> Result<Answer> {
        session.set_role(self.role.as_deref(), self.local, run)?;
        session.audit("SET ROLE", self.role.as_deref().unwrap_or("none"));
        Ok(Answer::Done(self.tag.to_owned()))
    }
}
