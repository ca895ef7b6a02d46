//! `SHOW`: one setting, or all.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::sql::sqlparser::parser::Parser;

use crate::engine::session::{lock, ready};
use crate::engine::settings::unknown;
use crate::engine::statement::{self, Own, at_words, take_words};
use crate::engine::statements::set::setting_name;
use crate::engine::{Answer, Run, Session};
use crate::error::Result;

pub struct Grammar;

/// `None`: all.
#[derive(Debug)]
struct Show {
    name: Option<String>,
}

impl statement::Grammar for Grammar {
    fn name(&self) -> &'static str {
        "SHOW"
    }

    fn doc(&self) -> &'static str {
        "Shows a setting of this session, or all."
    }

    fn syntax(&self) -> &'static str {
        "SHOW { name | ALL }"
    }

    fn parse(&self, parser: &mut Parser) -> Result<Option<Arc<dyn Own>>> {
        // SHOW TABLES, SHOW COLUMNS and SHOW FUNCTIONS are DataFusion's.
        let theirs = ["TABLES", "COLUMNS", "FUNCTIONS", "CREATE", "DATABASES", "SCHEMAS", "VIEWS"];
        if !at_words(parser, &["SHOW"]) || theirs.iter().any(|word| at_words(parser, &["SHOW", word])) {
            return Ok(None);
        }
        parser.next_token();
        let name = if take_words(parser, &["ALL"]) {
            None
        } else if take_words(parser, &["TIME", "ZONE"]) {
            Some("timezone".to_owned())
        } else if take_words(parser, &["TRANSACTION", "ISOLATION", "LEVEL"]) {
            Some("transaction_isolation".to_owned())
        } else {
            Some(setting_name(parser)?.to_lowercase())
        };
        Ok(Some(Arc::new(Show { name })))
    }
}

#[async_trait]
impl Own for Show {
    fn columns(&self) -> Option<SchemaRef> {
        let text = |name: &str| Field::new(name, DataType::Utf8, true);
        Some(Arc::new(Schema::new(match &self.name {
            Some(name) => vec![text(name)],
            None => vec![text("name"), text("setting")],
        })))
    }

    async fn run(&self, session: &Session, _run: &Run) -> Result<Answer> {
        let columns: Vec<ArrayRef> = match &self.name {
            Some(name) => {
                let value = session.setting(name).ok_or_else(|| unknown(name))?;
                vec![Arc::new(StringArray::from(vec![value]))]
            }
            None => {
                let all = lock(&session.settings).all();
                let (names, values): (Vec<String>, Vec<String>) = all.into_iter().unzip();
                vec![Arc::new(StringArray::from(names)), Arc::new(StringArray::from(values))]
            }
        };
        let schema = self.columns().unwrap_or_else(|| Arc::new(Schema::empty()));
        Ok(Answer::Rows(ready(RecordBatch::try_new(schema, columns)?), "SHOW"))
    }
}
