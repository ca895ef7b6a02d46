//! `VACUUM` and `OPTIMIZE`: what tables keep of earlier versions, and in how many files they lie.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use datafusion::common::TableReference;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

use crate::engine::compaction::compact;
use crate::engine::definitions::the_table;
use crate::engine::statement::{self, Own, relation, syntax, take_words};
use crate::engine::{Answer, Run, Session};
use crate::error::{Error, Kind, Result};
use crate::storage::{Relation, RelationKind, TableId};

/// Earlier versions stay readable so long unless somebody says otherwise.
const RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);

pub struct Grammar;

pub struct OptimizeGrammar;

#[derive(Debug)]
struct Vacuum {
    /// `None`: all.
    table: Option<TableReference>,
    retain: Duration,
    /// `VACUUM ANALYZE`, `ANALYZE`: statistics are kept with the files anyway.
    only_analyze: bool,
}

#[derive(Debug)]
struct Optimize {
    table: TableReference,
}

impl statement::Grammar for Grammar {
    fn name(&self) -> &'static str {
        "VACUUM"
    }

    fn doc(&self) -> &'static str {
        "Deletes files that only versions from before the last seven days need, or from before the time that RETAIN gives: \
         these versions cannot be read any more. Without a name it does so in all tables of the role. ANALYZE is accepted \
         and does nothing: what is known of the values is kept with each file. Of a table that is compacted in the background \
         the server keeps at most 10000 files of earlier versions."
    }

    fn syntax(&self) -> &'static str {
        "VACUUM [FULL] [VERBOSE] [ANALYZE] [[schema.]table] [RETAIN number HOURS]\n\
         ANALYZE [VERBOSE] [[schema.]table]"
    }

    fn parse(&self, parser: &mut Parser) -> Result<Option<Arc<dyn Own>>> {
        let only_analyze = take_words(parser, &["ANALYZE"]) || take_words(parser, &["ANALYSE"]);
        if !only_analyze && !take_words(parser, &["VACUUM"]) {
            return Ok(None);
        }
        if parser.consume_token(&Token::LParen) {
            while !parser.consume_token(&Token::RParen) {
                if parser.next_token().token == Token::EOF {
                    return parser.expected(")", parser.peek_token()).map_err(syntax);
                }
            }
        }
        while ["FULL", "FREEZE", "VERBOSE", "ANALYZE"].iter().any(|word| take_words(parser, &[word])) {}
        let is_named = matches!(parser.peek_token().token, Token::Word(_)) && !statement::at_words(parser, &["RETAIN"]);
        let table = if is_named { Some(relation(parser)?) } else { None };
        if only_analyze && parser.consume_token(&Token::LParen) {
            parser.parse_comma_separated(|parser| parser.parse_identifier()).map_err(syntax)?;
            parser.expect_token(&Token::RParen).map_err(syntax)?;
        }
        let mut retain = RETENTION;
        if take_words(parser, &["RETAIN"]) {
            let hours = parser.parse_number_value().map_err(syntax)?.to_string();
            let hours: f64 = hours.parse().map_err(|_| Error::invalid(format!("\"{hours}\" is no number of hours")))?;
            retain = Duration::try_from_secs_f64(hours * 3600.0)
                .map_err(|_| Error::new(Kind::OutOfRange, "RETAIN is out of range"))?;
            if !take_words(parser, &["HOURS"]) && !take_words(parser, &["HOUR"]) {
                return parser.expected("HOURS", parser.peek_token()).map_err(syntax);
            }
        }
        Ok(Some(Arc::new(Vacuum { table, retain, only_analyze })))
    }
}

impl statement::Grammar for OptimizeGrammar {
    fn name(&self) -> &'static str {
        "OPTIMIZE"
    }

    fn doc(&self) -> &'static str {
        "Writes the small files of a table into large ones, which are read faster. The server does this by itself when there \
         are many."
    }

    fn syntax(&self) -> &'static str {
        "OPTIMIZE [TABLE] [schema.]name"
    }

    fn parse(&self, parser: &mut Parser) -> Result<Option<Arc<dyn Own>>> {
        if !take_words(parser, &["OPTIMIZE"]) {
            return Ok(None);
        }
        take_words(parser, &["TABLE"]);
        Ok(Some(Arc::new(Optimize { table: relation(parser)? })))
    }
}

#[async_trait]
impl Own for Vacuum {
    fn runs_alone(&self) -> bool {
        !self.only_analyze
    }

    async fn run(&self, session: &Session, run: &Run) -> Result<Answer> {
        let tag = if self.only_analyze { "ANALYZE" } else { "VACUUM" };
        if let Some(name) = &self.table {
            the_table(session, name, "vacuum")?;
        }
        if self.only_analyze {
            return Ok(Answer::Done(tag.to_owned()));
        }
        session.may_write(tag)?;
        session.must_be_outside_block(tag)?;
        let (rights, store) = (session.rights()?, &session.store());
        let tables: Vec<(TableId, Relation)> = match &self.table {
            Some(name) => {
                let found = the_table(session, name, "vacuum")?;
                rights.must_own(&found.1)?;
                vec![found]
            }
            None => {
                let mut all = Vec::new();
                for schema in store.schemas()? {
                    all.extend(store.relations(&schema)?.into_iter().filter_map(|relation| match relation.kind {
                        RelationKind::Table(table) if rights.owns(relation.owner) => Some((table, relation)),
                        _ => None,
                    }));
                }
                all
            }
        };
        let before = chrono::Utc::now().timestamp_micros() - i64::try_from(self.retain.as_micros()).unwrap_or(i64::MAX);
        let (mut files, mut bytes) = (0, 0);
        for (table, _) in tables {
            let gone = store.vacuum(table, before)?;
            files += gone.files;
            bytes += gone.bytes;
        }
        run.notice(format!("{files} files of earlier versions deleted, {:.1} MiB", bytes as f64 / f64::from(1 << 20)));
        Ok(Answer::Done(tag.to_owned()))
    }
}

#[async_trait]
impl Own for Optimize {
    async fn run(&self, session: &Session, run: &Run) -> Result<Answer> {
        session.may_write("OPTIMIZE")?;
        let (table, relation) = the_table(session, &self.table, "optimize")?;
        session.rights()?.must_own(&relation)?;
        let (store, state) = (session.store(), session.context.state());
        let done = session.on_work_threads(run, |_| async move { compact(&store, table, &state).await });
        match done.await? {
            Some((from, to)) => run.notice(format!("{from} files written into {to}")),
            None => run.notice("there are no small files"),
        }
        Ok(Answer::Done("OPTIMIZE".to_owned()))
    }
}
