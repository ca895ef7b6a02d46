//! `ALTER TABLE … RENAME TO` and `ALTER VIEW … RENAME TO`: a relation keeps everything but its name.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::common::TableReference;
use datafusion::sql::sqlparser::parser::Parser;

use crate::engine::definitions::{refuse_virtual, resolve};
use crate::engine::statement::{self, Own, at_words, folded, syntax, take_words};
use crate::engine::statements::grant::table_reference;
use crate::engine::{Answer, Run, Session};
use crate::error::{Error, Kind, Result};
use crate::storage::RelationType;

pub struct Grammar;

#[derive(Debug)]
struct Rename {
    kind: RelationType,
    relation: TableReference,
    if_exists: bool,
    new_name: String,
}

impl statement::Grammar for Grammar {
    fn name(&self) -> &'static str {
        "ALTER TABLE RENAME"
    }

    fn doc(&self) -> &'static str {
        "Gives a table or a view another name in its schema. Views that read it by its old name no longer find it."
    }

    fn syntax(&self) -> &'static str {
        "ALTER { TABLE | VIEW } [IF EXISTS] [schema.]name RENAME TO new_name"
    }

    fn parse(&self, parser: &mut Parser) -> Result<Option<Arc<dyn Own>>> {
        let kind = match () {
            () if at_words(parser, &["ALTER", "TABLE"]) => RelationType::Table,
            () if at_words(parser, &["ALTER", "VIEW"]) => RelationType::View,
            () => return Ok(None),
        };
        // Only the words after the name tell this statement from others that alter the same.
        let parsed = parser.maybe_parse(|parser| {
            parser.next_token();
            parser.next_token();
            let if_exists = take_words(parser, &["IF", "EXISTS"]);
            let name = parser.parse_object_name(false)?;
            match take_words(parser, &["RENAME", "TO"]) {
                true => Ok((if_exists, name, parser.parse_identifier()?)),
                false => parser.expected("RENAME TO", parser.peek_token()),
            }
        });
        let Some((if_exists, name, new_name)) = parsed.map_err(syntax)? else { return Ok(None) };
        let relation = table_reference(&name)?;
        Ok(Some(Arc::new(Rename { kind, relation, if_exists, new_name: folded(&new_name) })))
    }
}

#[async_trait]
impl Own for Rename {
    async fn run(&self, session: &Session, run: &Run) -> Result<Answer> {
        let name = resolve(session, &self.relation);
        refuse_virtual(&name.schema)?;
        if self.new_name.is_empty() {
            return Err(Error::new(Kind::Syntax, "zero-length delimited identifier"));
        }
        let store = &session.store();
        let found = store.relation(&name.schema, &name.table)?;
        let tag = format!("ALTER {}", self.kind.to_string().to_uppercase());
        if found.is_none() && self.if_exists {
            run.notice(format!("relation \"{}\" does not exist, skipping", name.table));
            return Ok(Answer::Done(tag));
        }
        session.may_write(&tag)?;
        if let Some(found) = &found {
            let rights = session.rights()?;
            rights.must_own(found)?;
            rights.must_create_in(&name.schema)?;
        }
        // As in Postgres ALTER TABLE renames views, too.
        let kind = match (self.kind, found) {
            (RelationType::Table, Some(found)) => found.kind.of(),
            (kind, _) => kind,
        };
        store.rename_relation(&name.schema, &name.table, &self.new_name, kind)?;
        Ok(Answer::Done(tag))
    }
}
