//! `OPTIONS (name 'value', …)` of foreign servers, users and tables.

use std::fmt;

use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

use crate::engine::statement::{folded, syntax, take_words};
use crate::error::{Error, Kind, Result};
use crate::foreign::Options;

/// Options as a statement gives them. One may be a password: nothing shows their values.
#[derive(Clone, Default)]
pub struct Given(pub Options);

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Changes to options, in the order they were written.
#[derive(Default)]
pub struct Changes(Vec<Change>);

enum Change {
    Add(String, String),
    Set(String, String),
    Drop(String),
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} changes", self.0.len())
    }
}

impl Given {
    /// The clause, if it comes next.
    pub fn parse(parser: &mut Parser) -> Result<Self> {
        let mut given = Options::new();
        if !take_words(parser, &["OPTIONS"]) {
            return Ok(Self(given));
        }
        each(parser, |parser| {
            let name = name(parser)?;
            let value = value(parser, &name)?;
            match given.insert(name.clone(), value) {
                None => Ok(()),
                Some(_) => Err(Error::new(Kind::Syntax, format!("option \"{name}\" provided more than once"))),
            }
        })?;
        Ok(Self(given))
    }

    /// Takes an option out; what is left can be refused.
    pub fn take(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }
}

impl Changes {
    /// The clause, which must come next.
    pub fn parse(parser: &mut Parser) -> Result<Self> {
        if !take_words(parser, &["OPTIONS"]) {
            return parser.expected("OPTIONS", parser.peek_token()).map_err(syntax);
        }
        let mut changes = Vec::new();
        each(parser, |parser| {
            changes.push(if take_words(parser, &["DROP"]) {
                Change::Drop(name(parser)?)
            } else {
                let set = take_words(parser, &["SET"]);
                let _ = !set && take_words(parser, &["ADD"]);
                let name = name(parser)?;
                let value = value(parser, &name)?;
                if set { Change::Set(name, value) } else { Change::Add(name, value) }
            });
            Ok(())
        })?;
        Ok(Self(changes))
    }

    /// The options with the changes made.
    pub fn over(&self, mut options: Options) -> Result<Options> {
        let missing = |name: &str| Error::new(Kind::UnknownServer, format!("option \"{name}\" not found"));
        for change in &self.0 {
            match change {
                Change::Add(name, _) if options.contains_key(name) => {
                    let message = format!("option \"{name}\" provided more than once");
                    return Err(Error::new(Kind::ObjectExists, message).hint(format!("SET {name} '…' changes it")));
                }
                Change::Add(name, value) => options.insert(name.clone(), value.clone()),
                Change::Set(name, value) => match options.get_mut(name) {
                    Some(old) => Some(std::mem::replace(old, value.clone())),
                    None => return Err(missing(name)),
                },
                Change::Drop(name) => Some(options.remove(name).ok_or_else(|| missing(name))?),
            };
        }
        Ok(options)
    }
}

fn each(parser: &mut Parser, mut one: impl FnMut(&mut Parser) -> Result<()>) -> Result<()> {
    parser.expect_token(&Token::LParen).map_err(syntax)?;
    loop {
        one(parser)?;
        if !parser.consume_token(&Token::Comma) {
            parser.expect_token(&Token::RParen).map_err(syntax)?;
            return Ok(());
        }
    }
}

fn name(parser: &mut Parser) -> Result<String> {
    Ok(folded(&parser.parse_identifier().map_err(syntax)?))
}

/// A text. What stands there instead is not repeated: it may be a password.
fn value(parser: &mut Parser, name: &str) -> Result<String> {
    match parser.next_token().token {
        Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text) => Ok(text),
        _ => Err(Error::new(Kind::Syntax, format!("syntax error: option \"{name}\" needs a value in single quotes"))),
    }
}
