//! `DESCRIBE MODEL`: everything there is to know about one version, as property and value.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

use crate::engine::fitted::must_get_model;
use crate::engine::session::ready;
use crate::engine::statement::{self, Own, model_name, take_words};
use crate::engine::system_tables::{moment, text_of};
use crate::engine::{Answer, Run, Session};
use crate::error::{Error, Kind, Result};
use crate::models::ModelName;

pub struct Grammar;

#[derive(Debug)]
struct DescribeModel {
    name: ModelName,
}

impl statement::Grammar for Grammar {
    fn name(&self) -> &'static str {
        "DESCRIBE MODEL"
    }

    fn doc(&self) -> &'static str {
        "Shows what a model was trained on, with which options, and how good it was on the rows held out."
    }

    fn syntax(&self) -> &'static str {
        "DESCRIBE MODEL [schema.]name[@version]"
    }

    fn parse(&self, parser: &mut Parser) -> Result<Option<Arc<dyn Own>>> {
        if !take_words(parser, &["DESCRIBE", "MODEL"]) && !take_words(parser, &["DESC", "MODEL"]) {
            return Ok(None);
        }
        // 'name@2' as a text, or name@2 as it stands in SQL: an identifier, an operator and a number.
        if let Token::SingleQuotedString(text) = parser.peek_token().token {
            parser.next_token();
            return Ok(Some(Arc::new(DescribeModel { name: ModelName::parse(&text)? })));
        }
        let mut name = model_name(parser)?;
        if parser.consume_token(&Token::AtSign) {
            let version = parser.parse_literal_uint().map_err(statement::syntax)?;
            name.version = u32::try_from(version).ok();
        }
        Ok(Some(Arc::new(DescribeModel { name })))
    }
}

#[async_trait]
impl Own for DescribeModel {
    fn columns(&self) -> Option<SchemaRef> {
        let text = |name: &str| Field::new(name, DataType::Utf8, true);
        Some(Arc::new(Schema::new(vec![text("property"), text("value")])))
    }

    async fn run(&self, session: &Session, _run: &Run) -> Result<Answer> {
        let model = must_get_model(&session.store(), &self.name)?;
        let wanted = self.name.version.unwrap_or(model.default_version);
        let version = model.version(wanted).ok_or_else(|| {
            Error::new(Kind::UnknownModel, format!("model \"{}\" has no version {wanted}", self.name.name))
        })?;
        let facts = &version.facts;
        let versions: Vec<String> = model.versions.iter().map(|version| version.version.to_string()).collect();
        let mut lines = vec![
            ("model", format!("{}.{}", model.schema, model.name)),
            ("model_type", model.model_type.clone()),
            ("version", format!("{wanted} of {}; default {}", versions.join(", "), model.default_version)),
            ("status", format!("{:?}", version.status).to_uppercase()),
        ];
        lines.extend(version.failure.clone().map(|failure| ("failure", failure)));
        lines.push(("created", moment(version.created)));
        lines.push(("trained_rows", facts["n_rows"].to_string()));
        lines.push(("held_out_rows", facts["n_eval_rows"].to_string()));
        lines.push(("training_seconds", format!("{:.1}", facts["seconds"].as_f64().unwrap_or_default())));
        lines.extend(facts["label"].as_str().map(|label| ("label", label.to_owned())));
        for input in facts["inputs"].as_array().into_iter().flatten() {
            lines.push((
                "input",
                format!("{} {} ({})", text_of(&input["name"]), text_of(&input["data_type"]), text_of(&input["role"])),
            ));
        }
        for (name, value) in facts["options"].as_object().into_iter().flatten() {
            lines.push(("option", format!("{name} = {}", text_of(value))));
        }
        for metric in facts["evaluation"].as_array().into_iter().flatten() {
            lines.push(("metric", format!("{} = {}", text_of(&metric[0]), text_of(&metric[1]))));
        }
        lines.push(("statement", text_of(&facts["statement"])));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(lines.iter().map(|(property, _)| property))),
            Arc::new(StringArray::from_iter_values(lines.iter().map(|(_, value)| value))),
        ];
        let schema = self.columns().ok_or_else(|| Error::internal("DESCRIBE MODEL has columns"))?;
        Ok(Answer::Rows(ready(RecordBatch::try_new(schema, columns)?), "DESCRIBE MODEL"))
    }
}
