//! `DROP MODEL`: the model, all its versions and its files go.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::sql::sqlparser::parser::Parser;

use crate::engine::fitted::must_get_model;
use crate::engine::statement::{self, Own, model_name, take_words};
use crate::engine::{Answer, Run, Session};
use crate::error::Result;
use crate::models::ModelName;

pub struct Grammar;

#[derive(Debug)]
struct DropModel {
    name: ModelName,
    if_exists: bool,
}

impl statement::Grammar for Grammar {
    fn name(&self) -> &'static str {
        "DROP MODEL"
    }

    fn doc(&self) -> &'static str {
        "Removes a model with all its versions."
    }

    fn syntax(&self) -> &'static str {
        "DROP MODEL [IF EXISTS] [schema.]name"
    }

    fn parse(&self, parser: &mut Parser) -> Result<Option<Arc<dyn Own>>> {
        if !take_words(parser, &["DROP", "MODEL"]) {
            return Ok(None);
        }
        let if_exists = take_words(parser, &["IF", "EXISTS"]);
        Ok(Some(Arc::new(DropModel { name: model_name(parser)?, if_exists })))
    }
}

#[async_trait]
impl Own for DropModel {
    async fn run(&self, session: &Session, run: &Run) -> Result<Answer> {
        session.may_write("DROP MODEL")?;
        let (store, ModelName { schema, name, .. }) = (&session.store(), &self.name);
        let model = match store.model(schema, name)? {
            None if self.if_exists => None,
            _ => Some(must_get_model(store, &self.name)?),
        };
        if let Some(model) = &model {
            session.rights()?.must_own_model(model)?;
        }
        if store.drop_model(schema, name, self.if_exists)? {
            if let Some(model) = model {
                session.sight().registry.forget(model.id);
            }
            session.audit("DROP MODEL", &self.name.to_string());
        } else {
            run.notice(format!("model \"{}\" does not exist, skipping", self.name));
        }
        Ok(Answer::Done("DROP MODEL".to_owned()))
    }
}
