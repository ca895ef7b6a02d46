//! `REFRESH MODEL`: a new version from what its query gives now.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::sql::sqlparser::parser::Parser;

use crate::engine::fitted::must_get_model;
use crate::engine::statement::{self, Own, model_name, take_words};
use crate::engine::statements::CreateModel;
use crate::engine::{Answer, Run, Session};
use crate::error::{Error, Kind, Result};
use crate::models::ModelName;

pub struct Grammar;

#[derive(Debug)]
struct RefreshModel {
    name: ModelName,
}

impl statement::Grammar for Grammar {
    fn name(&self) -> &'static str {
        "REFRESH MODEL"
    }

    fn doc(&self) -> &'static str {
        "Runs the model's own statement again on what its tables hold now and makes the result a new version, the \
         default one. The earlier version is where it starts: ease, item_knn and popularity take in only what changed \
         and come out as if trained anew; models of vectors start from the vectors they had, and a notice tells how far \
         these moved. Customers and products that are new or gone are so in the new version. Older versions stay."
    }

    fn syntax(&self) -> &'static str {
        "REFRESH MODEL [schema.]name"
    }

    fn parse(&self, parser: &mut Parser) -> Result<Option<Arc<dyn Own>>> {
        if !take_words(parser, &["REFRESH", "MODEL"]) {
            return Ok(None);
        }
        Ok(Some(Arc::new(RefreshModel { name: model_name(parser)? })))
    }
}

#[async_trait]
impl Own for RefreshModel {
    async fn run(&self, session: &Session, run: &Run) -> Result<Answer> {
        let model = must_get_model(&session.store(), &self.name)?;
        session.rights()?.must_own_model(&model)?;
        let version = model
            .version(model.default_version)
            .ok_or_else(|| Error::new(Kind::UnknownModel, format!("model \"{}\" has no default version", self.name)))?;
        CreateModel::again(&version.facts, self.name.clone())?.train(session, run, Some(version.version)).await?;
        session.audit("REFRESH MODEL", &self.name.to_string());
        Ok(Answer::Done("REFRESH MODEL".to_owned()))
    }
}
