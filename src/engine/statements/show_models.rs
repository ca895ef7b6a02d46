//! `SHOW MODELS`: `ml.models`, for those who type.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{AsArray, BooleanArray};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::sql::sqlparser::parser::Parser;

use crate::engine::session::ready;
use crate::engine::statement::{self, Own, syntax, take_words};
use crate::engine::system_tables::{MODELS, Shown};
use crate::engine::{Answer, Run, Session};
use crate::error::{Error, Result};

pub struct Grammar;

#[derive(Debug)]
struct ShowModels {
    like: Option<String>,
}

impl statement::Grammar for Grammar {
    fn name(&self) -> &'static str {
        "SHOW MODELS"
    }

    fn doc(&self) -> &'static str {
        "Lists the models; the same as SELECT * FROM ml.models."
    }

    fn syntax(&self) -> &'static str {
        "SHOW MODELS [LIKE 'pattern']"
    }

    fn parse(&self, parser: &mut Parser) -> Result<Option<Arc<dyn Own>>> {
        if !take_words(parser, &["SHOW", "MODELS"]) {
            return Ok(None);
        }
        let like = take_words(parser, &["LIKE"]).then(|| parser.parse_literal_string()).transpose().map_err(syntax)?;
        Ok(Some(Arc::new(ShowModels { like })))
    }
}

#[async_trait]
impl Own for ShowModels {
    fn columns(&self) -> Option<SchemaRef> {
        Some(MODELS.schema())
    }

    async fn run(&self, session: &Session, _run: &Run) -> Result<Answer> {
        let mut rows = MODELS.rows(&Shown::of(&session.store(), &session.engine.common.activity)?)?;
        if let Some(pattern) = &self.like {
            let at = rows.schema().index_of("model_name").map_err(Error::from)?;
            let pattern = datafusion::arrow::array::StringArray::new_scalar(pattern);
            let names = rows.column(at).as_string::<i32>();
            let alike: BooleanArray = datafusion::arrow::compute::like(names, &pattern)?;
            rows = filter_record_batch(&rows, &alike)?;
        }
        Ok(Answer::Rows(ready(rows), "SHOW"))
    }
}
