//! `CREATE EXTERNAL TABLE` and `DROP EXTERNAL TABLE`: files of other programs under a name.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::TableReference;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{DdlStatement, LogicalPlan};
use datafusion::sql::parser::{CreateExternalTable as Sketch, Statement as Sql};
use datafusion::sql::sqlparser::ast::{ColumnDef, ObjectName};
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

use crate::engine::definitions::{check_create, drop_relation, new_name, stored, writable};
use crate::engine::statement::{self, Own, at_words, folded, relation_named, syntax, take_words};
use crate::engine::{Answer, Run, Session};
use crate::error::{Error, Kind, Result};
use crate::storage::{
    Buckets, DeltaTable, External, Format, IfExists, RelationType, S3Options, absolute, adopt, divided, infer, is_s3,
};

pub struct Grammar;

pub struct DropGrammar;

#[derive(Debug, Default)]
struct Clauses {
    provider: Option<String>,
    locations: Vec<String>,
    /// Names, and types where they are given.
    partitions: Vec<(String, Option<ColumnDef>)>,
    options: Given,
}

/// Options as they were written. Some are secrets: nothing shows their values.
#[derive(Default)]
struct Given(Vec<(String, String)>);

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

#[derive(Debug)]
struct CreateExternalTable {
    name: ObjectName,
    exists: IfExists,
    columns: Vec<ColumnDef>,
    clauses: Clauses,
}

#[derive(Debug)]
struct DropExternalTable {
    name: TableReference,
    if_exists: bool,
}

impl statement::Grammar for Grammar {
    fn name(&self) -> &'static str {
        "CREATE EXTERNAL TABLE"
    }

    fn doc(&self) -> &'static str {
        "Gives files of other programs a name, so that queries, views and models read them as a table. The files stay \
         where they are, and are looked for anew with each query: new ones in a folder are there at once. A location is \
         a path of the server: a file, a folder with all below it, or a pattern with *, ?, [a-z] and ** for folders; or the same \
         in S3, s3://bucket/key, reached as the options or else the variables AWS_… of the server's environment say; secrets \
         are kept encrypted and never shown. \
         Without a list of columns they are read from the files, types of CSV and JSON from their first 100,000 rows; \
         folders named key=value become columns, the last of the table, and queries that ask for some values read \
         those folders only. Of a Delta table the log is read, with each query anew, and says which files are its own. Columns are found by name, those of CSV by their place: a CSV file whose first line names \
         others is refused, unless the columns were listed. An empty field of CSV is NULL. Only superusers make \
         external tables; GRANT SELECT, views and policies on them are as on any table, and DROP TABLE forgets the \
         name and leaves the files. Superusers also read files without making a table: SELECT … FROM '/path/file.parquet'."
    }

    fn syntax(&self) -> &'static str {
        "CREATE [OR REPLACE] EXTERNAL TABLE [IF NOT EXISTS] [schema.]name [(column type [, …])]\n\
         STORED AS { PARQUET | CSV | JSON | AVRO | ARROW | DELTA }\n\
         LOCATION { 'place' | ('place' [, …]) }\n\
         [PARTITIONED BY (column [type] [, …])]\n\
         [OPTIONS (name value [, …])]\n\
         where options of CSV are header { true | false }, delimiter 'c', quote 'c', escape 'c', comment 'c', null 'text',\n\
         newlines_in_values { true | false }, compression { gzip | bzip2 | xz | zstd }; of JSON compression, newline_delimited;\n\
         of s3:// access_key_id, secret_access_key, session_token, region, endpoint, allow_http { true | false }"
    }

    fn parse(&self, parser: &mut Parser) -> Result<Option<Arc<dyn Own>>> {
        let or_replace = at_words(parser, &["CREATE", "OR", "REPLACE", "EXTERNAL", "TABLE"]);
        if !or_replace && !at_words(parser, &["CREATE", "EXTERNAL", "TABLE"]) {
            return Ok(None);
        }
        while !take_words(parser, &["EXTERNAL", "TABLE"]) {
            parser.next_token();
        }
        let exists = match (or_replace, take_words(parser, &["IF", "NOT", "EXISTS"])) {
            (false, false) => IfExists::Error,
            (false, true) => IfExists::Keep,
            (true, false) => IfExists::Replace,
            (true, true) => {
                return Err(Error::new(Kind::Syntax, "OR REPLACE and IF NOT EXISTS contradict each other"));
            }
        };
        let name = parser.parse_object_name(false).map_err(syntax)?;
        let (columns, constraints) = parser.parse_columns().map_err(syntax)?;
        if !constraints.is_empty() {
            return Err(Error::unsupported("constraints of external tables are not supported")
                .hint("nobody holds other programs to them: leave them out"));
        }
        let clauses = Clauses::parse(parser)?;
        Ok(Some(Arc::new(CreateExternalTable { name, exists, columns, clauses })))
    }
}

impl Clauses {
    /// The clauses up to the end of the statement, in any order.
    fn parse(parser: &mut Parser) -> Result<Self> {
        let mut clauses = Self::default();
        loop {
            if take_words(parser, &["STORED", "AS"]) {
                let format = parser.parse_identifier().map_err(syntax)?;
                if clauses.provider.replace(format.value).is_some() {
                    return Err(Error::new(Kind::Syntax, "STORED AS is given twice"));
                }
            } else if take_words(parser, &["LOCATION"]) {
                clauses.locations.extend(locations(parser)?);
            } else if take_words(parser, &["PARTITIONED", "BY"]) {
                clauses.partitions.extend(partitions(parser)?);
            } else if take_words(parser, &["OPTIONS"]) {
                clauses.options.0.extend(options(parser)?);
            } else if matches!(parser.peek_token().token, Token::EOF | Token::SemiColon) {
                return Ok(clauses);
            } else {
                let wanted = "STORED AS, LOCATION, PARTITIONED BY or OPTIONS";
                return parser.expected(wanted, parser.peek_token()).map_err(syntax);
            }
        }
    }
}

fn locations(parser: &mut Parser) -> Result<Vec<String>> {
    if !parser.consume_token(&Token::LParen) {
        return Ok(vec![parser.parse_literal_string().map_err(syntax)?]);
    }
    let locations = parser.parse_comma_separated(|parser| parser.parse_literal_string()).map_err(syntax)?;
    parser.expect_token(&Token::RParen).map_err(syntax)?;
    Ok(locations)
}

fn partitions(parser: &mut Parser) -> Result<Vec<(String, Option<ColumnDef>)>> {
    parser.expect_token(&Token::LParen).map_err(syntax)?;
    let mut partitions = Vec::new();
    loop {
        let typed = !matches!(parser.peek_nth_token(1).token, Token::Comma | Token::RParen);
        partitions.push(match typed {
            true => {
                let column = parser.parse_column_def().map_err(syntax)?;
                (folded(&column.name), Some(column))
            }
            false => (folded(&parser.parse_identifier().map_err(syntax)?), None),
        });
        if !parser.consume_token(&Token::Comma) {
            break;
        }
    }
    parser.expect_token(&Token::RParen).map_err(syntax)?;
    Ok(partitions)
}

/// `(header true, 'format.delimiter' ';')`: names and values, quoted or not.
fn options(parser: &mut Parser) -> Result<Vec<(String, String)>> {
    parser.expect_token(&Token::LParen).map_err(syntax)?;
    let mut options = Vec::new();
    loop {
        let mut name = word(parser, "the name of an option")?;
        while parser.consume_token(&Token::Period) {
            name = format!("{name}.{}", word(parser, "the name of an option")?);
        }
        let _ = parser.consume_token(&Token::Eq);
        options.push((name, word(parser, "the value of an option")?));
        if !parser.consume_token(&Token::Comma) {
            break;
        }
    }
    parser.expect_token(&Token::RParen).map_err(syntax)?;
    Ok(options)
}

fn word(parser: &mut Parser, wanted: &str) -> Result<String> {
    let token = parser.next_token();
    match token.token {
        Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text) => Ok(text),
        Token::Word(word) => Ok(word.value),
        Token::Number(digits, _) => Ok(digits),
        _ => parser.expected(wanted, token).map_err(syntax),
    }
}

impl CreateExternalTable {
    /// `None`: a Delta table, whose log says all that there is to say.
    fn format(&self) -> Result<Option<Format>> {
        let names = Format::ALL.iter().map(|(_, name, _)| *name).chain(["delta"]);
        let Some(given) = &self.clauses.provider else {
            return Err(Error::new(Kind::Syntax, "STORED AS is missing")
                .hint("STORED AS PARQUET, CSV, JSON, AVRO, ARROW or DELTA"));
        };
        if given.eq_ignore_ascii_case("delta") {
            return match self.columns.is_empty() && self.clauses.partitions.is_empty() {
                true => Ok(None),
                false => Err(delta_says_it_itself()),
            };
        }
        Format::named(given).map(Some).ok_or_else(|| {
            Error::unsupported(format!("files stored as {} are not supported", given.to_uppercase()))
                .hint("PARQUET, CSV, JSON, AVRO, ARROW or DELTA")
                .suggest(&given.to_lowercase(), names)
        })
    }

    /// The listed columns, those that are read from folders last; `None`: they are left to the files.
    async fn listed(&self, state: &SessionState) -> Result<Option<SchemaRef>> {
        let partitions = &self.clauses.partitions;
        if self.columns.is_empty() && partitions.iter().all(|(_, column)| column.is_none()) {
            return Ok(None);
        }
        let all = self.columns.iter().chain(partitions.iter().filter_map(|(_, column)| column.as_ref()));
        let sketch = Sketch {
            name: self.name.clone(),
            columns: all.cloned().collect(),
            file_type: String::new(),
            locations: vec![String::new()],
            table_partition_cols: Vec::new(),
            order_exprs: Vec::new(),
            if_not_exists: false,
            or_replace: false,
            temporary: false,
            unbounded: false,
            options: Vec::new(),
            constraints: Vec::new(),
        };
        let LogicalPlan::Ddl(DdlStatement::CreateExternalTable(sketch)) =
            state.statement_to_plan(Sql::CreateExternalTable(sketch)).await?
        else {
            return Err(Error::internal("an external table was planned as something else"));
        };
        let listed = stored(sketch.schema.inner());
        let is_partition = |field: &&Arc<Field>| partitions.iter().any(|(name, _)| name == field.name());
        let in_files = listed.fields().iter().filter(|field| !is_partition(field));
        let mut fields: Vec<Field> = in_files.map(|field| field.as_ref().clone()).collect();
        for (name, _) in partitions {
            let field = listed.field_with_name(name).map_err(|_| {
                Error::new(Kind::UnknownColumn, format!("column \"{name}\" of PARTITIONED BY has no type"))
                    .hint(format!("PARTITIONED BY ({name} text), or list it among the columns"))
            })?;
            fields.push(field.clone());
        }
        // Nobody holds other programs to a NOT NULL.
        let fields = fields.into_iter().map(|field| field.with_nullable(true));
        Ok(Some(Arc::new(Schema::new(fields.collect::<Vec<_>>()))))
    }
}

#[async_trait]
impl Own for CreateExternalTable {
    async fn run(&self, session: &Session, run: &Run) -> Result<Answer> {
        const TAG: &str = "CREATE EXTERNAL TABLE";
        session.may_write(TAG)?;
        let rights = session.rights()?;
        rights.must_be_superuser("create external tables")?;
        let name = new_name(session, &named(&self.name)?);
        writable(&name)?;
        let store = session.store();
        let there = store.relation(&name.schema, &name.table)?;
        check_create(&rights, &name.schema, there.as_ref(), self.exists == IfExists::Replace)?;
        match (&there, self.exists) {
            (Some(_), IfExists::Keep) => {
                run.notice(format!("relation \"{}\" already exists, skipping", name.table));
                return Ok(Answer::Done(TAG.to_owned()));
            }
            (Some(_), IfExists::Error) => {
                let message = format!("relation \"{}\" already exists", name.table);
                return Err(Error::new(Kind::TableExists, message).hint("CREATE OR REPLACE EXTERNAL TABLE replaces it"));
            }
            _ => {}
        }
        let format = self.format()?;
        if self.clauses.locations.is_empty() {
            return Err(Error::new(Kind::Syntax, "LOCATION is missing").hint("LOCATION '/path/of/a/file/or/folder'"));
        }
        if format == Some(Format::Arrow) && !self.columns.is_empty() {
            return Err(Error::unsupported("files stored as ARROW say themselves what their columns are")
                .hint("leave out the list of columns, and cast in a view what shall be of another type"));
        }
        let state = session.context.state();
        let listed = self.listed(&state).await?;
        let (of_s3, options) = match self.clauses.locations.iter().any(|location| is_s3(location)) {
            true => divided(self.clauses.options.0.clone())?,
            false => (S3Options::new(), self.clauses.options.0.clone()),
        };
        if format.is_none() && !options.is_empty() {
            return Err(delta_says_it_itself());
        }
        let mut external = External {
            provider: format.map_or("delta", Format::name).to_owned(),
            locations: self.clauses.locations.iter().map(|location| absolute(location)).collect::<Result<_>>()?,
            partitions: self.clauses.partitions.iter().map(|(name, _)| name.clone()).collect(),
            options: format.map(|format| format.checked(&options)).transpose()?.unwrap_or_default(),
            sealed: None,
            foreign: None,
            declared: !self.columns.is_empty(),
        };
        if !of_s3.is_empty() {
            Buckets::of(&state)?.set_options(&mut external, of_s3)?;
        }
        let declared = external.declared;
        let (external, columns) = session
            .on_work_threads(run, |_| async move {
                let columns = match (format, listed) {
                    (None, _) => DeltaTable::infer(&mut external, &state).await?,
                    (Some(format), Some(listed)) if declared => {
                        adopt(&mut external, format, &state).await?;
                        listed
                    }
                    (Some(format), listed) => {
                        let found = infer(&mut external, format, &state).await?;
                        typed(&found, listed.as_deref())
                    }
                };
                Ok((external, columns))
            })
            .await?;
        store.create_external(&name.schema, &name.table, &external, &columns, self.exists, rights.role())?;
        session.audit(TAG, &self.name.to_string());
        Ok(Answer::Done(TAG.to_owned()))
    }
}

fn delta_says_it_itself() -> Error {
    Error::unsupported("a Delta table says itself what its columns and partitions are")
        .hint("CREATE EXTERNAL TABLE name STORED AS DELTA LOCATION '/folder'")
}

/// The columns found, those that were listed with the type that they were given.
fn typed(found: &SchemaRef, listed: Option<&Schema>) -> SchemaRef {
    let typed = |field: &Arc<Field>| match listed.and_then(|listed| listed.field_with_name(field.name()).ok()) {
        Some(listed) => Arc::new(listed.clone()),
        None => Arc::clone(field),
    };
    Arc::new(Schema::new(found.fields().iter().map(typed).collect::<Vec<_>>()))
}

fn named(name: &ObjectName) -> Result<TableReference> {
    let parts: Vec<String> = name.0.iter().filter_map(|part| part.as_ident()).map(folded).collect();
    relation_named(&parts).ok_or_else(|| Error::new(Kind::Syntax, format!("\"{name}\" is not a relation's name")))
}

impl statement::Grammar for DropGrammar {
    fn name(&self) -> &'static str {
        "DROP EXTERNAL TABLE"
    }

    fn doc(&self) -> &'static str {
        "Forgets an external table. Its files stay where they are. DROP TABLE does the same."
    }

    fn syntax(&self) -> &'static str {
        "DROP EXTERNAL TABLE [IF EXISTS] [schema.]name"
    }

    fn parse(&self, parser: &mut Parser) -> Result<Option<Arc<dyn Own>>> {
        if !take_words(parser, &["DROP", "EXTERNAL", "TABLE"]) {
            return Ok(None);
        }
        let if_exists = take_words(parser, &["IF", "EXISTS"]);
        let name = named(&parser.parse_object_name(false).map_err(syntax)?)?;
        Ok(Some(Arc::new(DropExternalTable { name, if_exists })))
    }
}

#[async_trait]
impl Own for DropExternalTable {
    async fn run(&self, session: &Session, run: &Run) -> Result<Answer> {
        const TAG: &str = "DROP EXTERNAL TABLE";
        session.may_write(TAG)?;
        drop_relation(session, &self.name, RelationType::External, self.if_exists, run)?;
        session.audit(TAG, &self.name.to_string());
        Ok(Answer::Done(TAG.to_owned()))
    }
}
