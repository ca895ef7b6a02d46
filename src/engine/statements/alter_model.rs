//! `ALTER MODEL`: what a bare name means, which versions stay, and what the model is called.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

use crate::engine::fitted::must_get_model;
use crate::engine::statement::{self, Own, check_new_name, folded, model_name, syntax, take_words};
use crate::engine::{Answer, Run, Session};
use crate::error::Result;
use crate::models::ModelName;

pub struct Grammar;

#[derive(Debug)]
struct AlterModel {
    name: ModelName,
    change: Change,
}

#[derive(Debug)]
enum Change {
    DropVersion(u32),
    SetDefaultVersion(u32),
    Rename(String),
}

impl statement::Grammar for Grammar {
    fn name(&self) -> &'static str {
        "ALTER MODEL"
    }

    fn doc(&self) -> &'static str {
        "Changes what is known of a model without training it again. DROP VERSION removes one version and its files; \
         its number is not used again, and the default version must stay. SET DEFAULT VERSION says which version the \
         bare name means, for example to go back to an older one. RENAME TO gives the model another name."
    }

    fn syntax(&self) -> &'static str {
        "ALTER MODEL [schema.]name DROP VERSION number\n\
         ALTER MODEL [schema.]name SET DEFAULT VERSION number\n\
         ALTER MODEL [schema.]name RENAME TO new_name"
    }

    fn parse(&self, parser: &mut Parser) -> Result<Option<Arc<dyn Own>>> {
        if !take_words(parser, &["ALTER", "MODEL"]) {
            return Ok(None);
        }
        let name = model_name(parser)?;
        let change = if take_words(parser, &["DROP", "VERSION"]) {
            Change::DropVersion(version(parser)?)
        } else if take_words(parser, &["SET", "DEFAULT", "VERSION"]) {
            Change::SetDefaultVersion(version(parser)?)
        } else if take_words(parser, &["RENAME", "TO"]) {
            Change::Rename(folded(&parser.parse_identifier().map_err(syntax)?))
        } else {
            let next = parser.peek_token();
            return parser.expected("DROP VERSION, SET DEFAULT VERSION or RENAME TO", next).map_err(syntax);
        };
        Ok(Some(Arc::new(AlterModel { name, change })))
    }
}

fn version(parser: &mut Parser) -> Result<u32> {
    let token = parser.next_token();
    match &token.token {
        Token::Number(digits, _) if digits.parse::<u32>().is_ok_and(|version| version > 0) => {
            Ok(digits.parse().unwrap_or_default())
        }
        _ => parser.expected("the number of a version", token).map_err(syntax),
    }
}

#[async_trait]
impl Own for AlterModel {
    async fn run(&self, session: &Session, _run: &Run) -> Result<Answer> {
        session.may_write("ALTER MODEL")?;
        let (store, ModelName { schema, name, .. }) = (&session.store(), &self.name);
        session.rights()?.must_own_model(&must_get_model(store, &self.name)?)?;
        match &self.change {
            Change::DropVersion(version) => store.drop_model_version(schema, name, *version)?,
            Change::SetDefaultVersion(version) => store.set_default_version(schema, name, *version)?,
            Change::Rename(to) => {
                check_new_name(to)?;
                store.rename_model(schema, name, to)?;
            }
        }
        session.audit("ALTER MODEL", &self.name.to_string());
        Ok(Answer::Done("ALTER MODEL".to_owned()))
    }
}
