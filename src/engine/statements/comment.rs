//! `COMMENT ON`: what people should know of a table, a view or a column.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::common::TableReference;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

use crate::engine::definitions::{refuse_virtual, resolve};
use crate::engine::statement::{self, Own, at_words, folded, relation_named, syntax, take_words};
use crate::engine::{Answer, Run, Session};
use crate::error::{Error, Kind, Result};

pub struct Grammar;

/// `None`: the comment goes.
#[derive(Debug)]
struct Comment {
    relation: TableReference,
    column: Option<String>,
    text: Option<String>,
}

impl statement::Grammar for Grammar {
    fn name(&self) -> &'static str {
        "COMMENT ON"
    }

    fn doc(&self) -> &'static str {
        "Says of a table, a view or a column what people should know of it; NULL takes it back. `\\d+` in psql and other \
         clients show it."
    }

    fn syntax(&self) -> &'static str {
        "COMMENT ON { TABLE [schema.]name | VIEW [schema.]name | COLUMN [schema.]name.column } IS { 'text' | NULL }"
    }

    fn parse(&self, parser: &mut Parser) -> Result<Option<Arc<dyn Own>>> {
        let of_column = at_words(parser, &["COMMENT", "ON", "COLUMN"]);
        if !of_column && !at_words(parser, &["COMMENT", "ON", "TABLE"]) && !at_words(parser, &["COMMENT", "ON", "VIEW"])
        {
            return Ok(None);
        }
        for _ in 0..3 {
            parser.next_token();
        }
        let name = parser.parse_object_name(false).map_err(syntax)?;
        let mut parts: Vec<String> = name.0.iter().filter_map(|part| part.as_ident()).map(folded).collect();
        let column = if of_column { parts.pop() } else { None };
        let relation = relation_named(&parts).ok_or_else(|| {
            Error::new(Kind::Syntax, "the name of the relation is missing")
                .hint("write COMMENT ON COLUMN table.column IS …")
        })?;
        if !take_words(parser, &["IS"]) {
            return parser.expected("IS", parser.peek_token()).map_err(syntax);
        }
        let text = if take_words(parser, &["NULL"]) {
            None
        } else {
            match parser.next_token().token {
                Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text) => Some(text),
                Token::DollarQuotedString(text) => Some(text.value),
                _ => {
                    parser.prev_token();
                    return parser.expected("a text or NULL", parser.peek_token()).map_err(syntax);
                }
            }
        };
        Ok(Some(Arc::new(Comment { relation, column, text })))
    }
}

#[async_trait]
impl Own for Comment {
    async fn run(&self, session: &Session, _run: &Run) -> Result<Answer> {
        let name = resolve(session, &self.relation);
        refuse_virtual(&name.schema)?;
        session.may_write("COMMENT")?;
        let store = &session.store();
        if let Some(relation) = store.relation(&name.schema, &name.table)? {
            session.rights()?.must_own(&relation)?;
        }
        // An empty comment is none.
        let text = self.text.as_deref().filter(|text| !text.is_empty());
        match &self.column {
            Some(column) => store.comment_on_column(&name.schema, &name.table, column, text)?,
            None => store.comment(&name.schema, &name.table, text)?,
        }
        Ok(Answer::Done("COMMENT".to_owned()))
    }
}
