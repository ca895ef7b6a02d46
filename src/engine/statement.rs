//! Text to statements: our own grammar first, then SQL.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::common::TableReference;
use datafusion::error::DataFusionError;
use datafusion::sql::parser::{DFParser, DFParserBuilder, Statement as Sql};
use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use crate::engine::dialect::DIALECT;
use crate::engine::rewrite::{rewrite, rewrite_query};
use crate::engine::row_changes::spell_nothing;
use crate::engine::statements::STATEMENTS;
use crate::engine::{Answer, Run, Session};
use crate::error::{Error, Kind, Result};

/// One statement, parsed and not yet planned.
#[derive(Debug, Clone)]
pub struct Statement(pub(super) Parsed);

#[derive(Debug, Clone)]
pub(super) enum Parsed {
    Own(Arc<dyn Own>),
    Sql(Box<Sql>),
}

/// A statement that SQL does not know: one file, one line in [`STATEMENTS`].
pub trait Grammar: Send + Sync {
    /// How the manual heads its page: `CREATE MODEL`.
    fn name(&self) -> &'static str;
    /// What it does, for the manual.
    fn doc(&self) -> &'static str;
    /// How it is written.
    fn syntax(&self) -> &'static str;
    /// Reads the statement at the parser's position; `None`, with nothing consumed, if it is another one.
    fn parse(&self, parser: &mut Parser) -> Result<Option<Arc<dyn Own>>>;
}

/// A parsed statement of ours: what it returns, and how it runs.
#[async_trait]
pub trait Own: Send + Sync + fmt::Debug {
    /// The columns it answers with; `None`: no rows.
    fn columns(&self) -> Option<SchemaRef> {
        None
    }
    /// The same where they depend on what the session holds.
    fn columns_in(&self, _session: &Session) -> Option<SchemaRef> {
        self.columns()
    }
    /// Whether it runs another statement by its name.
    fn executes(&self) -> bool {
        false
    }
    /// The prepared statement that it forgets, which may be one that only the connection knows.
    fn deallocates(&self) -> Option<&str> {
        None
    }
    /// Whether it runs in a transaction block that has failed.
    fn ends_failure(&self) -> bool {
        false
    }
    /// Whether it cannot run in a transaction block.
    fn runs_alone(&self) -> bool {
        false
    }
    /// The types of the parameters ($1, $2, …) in it; `declared` are those that the client named.
    async fn parameters(&self, _session: &Session, _declared: &[Option<DataType>]) -> Result<Vec<DataType>> {
        Ok(Vec::new())
    }
    /// The statement with these values for its parameters; `None`: it has none and can run as it is.
    fn bind(&self, _parameters: &[ScalarValue]) -> Result<Option<Arc<dyn Own>>> {
        Ok(None)
    }
    async fn run(&self, session: &Session, run: &Run) -> Result<Answer>;
}

/// Splits text into statements and parses each.
pub fn parse(sql: &str) -> Result<Vec<Statement>> {
    let mut parser = parser(sql)?;
    let mut statements = Vec::new();
    loop {
        while parser.parser.consume_token(&Token::SemiColon) {}
        if parser.parser.peek_token() == Token::EOF {
            return Ok(statements);
        }
        let mut parsed = parse_one(&mut parser)?;
        if let Parsed::Sql(sql) = &mut parsed {
            rewrite(sql);
        }
        statements.push(Statement(parsed));
        let next = parser.parser.peek_token();
        if next != Token::SemiColon && next != Token::EOF {
            return parser.parser.expected("end of statement", next).map_err(syntax);
        }
    }
}

/// The one statement of a text that SQL knows: the query of a view.
pub(super) fn parse_sql(sql: &str) -> Result<Sql> {
    match parse(sql)?.pop() {
        Some(Statement(Parsed::Sql(sql))) => Ok(*sql),
        _ => Err(Error::internal(format!("not a statement of SQL: {sql}"))),
    }
}

/// A parser at the beginning of that text.
pub(super) fn parser(sql: &str) -> Result<DFParser<'static>> {
    let mut tokens = Tokenizer::new(&DIALECT, sql).tokenize_with_location().map_err(|error| syntax(error.into()))?;
    spell_nothing(&mut tokens);
    refuse_long_chains(&tokens)?;
    Ok(DFParserBuilder::new(tokens).with_dialect(&DIALECT).with_recursion_limit(MAX_DEPTH).build()?)
}

/// Parentheses, sub-queries and the like inside one another.
const MAX_DEPTH: usize = 128;

/// Arrays in arrays: their types take a planner twice the time with each.
const MAX_BRACKETS: usize = 12;

/// Operators in a row, as in `a + b + …`. AND and OR end a row: their chains are made even ([`super::rewrite`]).
const MAX_OPERATORS: usize = 500;

/// Tables joined, or queries united, in a row.
const MAX_RELATIONS: usize = 300;

/// A chain of operators becomes a tree as deep as the chain is long. A planner walks trees by recursion: it needs time
/// that grows with the square of the depth, and one that is too deep would end the process for everybody.
fn refuse_long_chains(tokens: &[TokenWithSpan]) -> Result<()> {
    let mut chains = vec![Chain::default()];
    for token in tokens {
        let inside = chains.len() > 1;
        let Some(chain) = chains.last_mut() else { break };
        match &token.token {
            Token::LParen | Token::LBracket => {
                let bracket = usize::from(token.token == Token::LBracket);
                chain.operators += bracket;
                let brackets = chain.brackets + bracket;
                if brackets > MAX_BRACKETS {
                    return Err(too_deep(MAX_BRACKETS));
                }
                chains.push(Chain { brackets, ..Chain::default() });
                if chains.len() > MAX_DEPTH {
                    return Err(too_deep(MAX_DEPTH));
                }
            }
            Token::RParen | Token::RBracket if inside => {
                chains.pop();
            }
            Token::Comma => {
                chain.operators = 0;
                chain.relations += usize::from(chain.in_from);
            }
            Token::SemiColon => *chain = Chain { brackets: chain.brackets, ..Chain::default() },
            Token::Word(word) => chain.word(word.keyword),
            Token::Whitespace(_) | Token::Period | Token::Colon | Token::EOF => {}
            Token::Number(..) | Token::SingleQuotedString(_) | Token::Placeholder(_) => {}
            _ => chain.operators += 1,
        }
        match chains.last() {
            Some(chain) if chain.operators > MAX_OPERATORS => {
                return Err(too_long(format!("more than {MAX_OPERATORS} operators in one expression"))
                    .hint("put the values into a list, x IN (…), or into a table and join it"));
            }
            Some(chain) if chain.relations > MAX_RELATIONS => {
                return Err(too_long(format!("more than {MAX_RELATIONS} joins or unions in one query"))
                    .hint("write a part of them into a table first: CREATE TABLE … AS SELECT …"));
            }
            _ => {}
        }
    }
    Ok(())
}

fn too_deep(limit: usize) -> Error {
    Error::new(Kind::TooComplex, format!("nested more than {limit} deep"))
        .hint("name parts of it: WITH part AS (SELECT …) SELECT … FROM part")
}

fn too_long(message: String) -> Error {
    Error::new(Kind::TooComplex, message)
}

/// What has been joined so far between one pair of parentheses.
#[derive(Default)]
struct Chain {
    operators: usize,
    relations: usize,
    in_from: bool,
    /// Brackets around it.
    brackets: usize,
}

impl Chain {
    fn word(&mut self, keyword: Keyword) {
        match keyword {
            Keyword::UNION | Keyword::EXCEPT | Keyword::INTERSECT | Keyword::JOIN => {
                self.operators = 0;
                self.relations += 1;
            }
            Keyword::FROM => {
                self.operators = 0;
                self.in_from = true;
            }
            Keyword::SELECT | Keyword::WHERE | Keyword::GROUP | Keyword::HAVING | Keyword::ORDER | Keyword::ON => {
                self.operators = 0;
                self.in_from &= keyword == Keyword::ON;
            }
            Keyword::AND | Keyword::OR | Keyword::WHEN | Keyword::THEN | Keyword::ELSE => self.operators = 0,
            Keyword::NOT
            | Keyword::LIKE
            | Keyword::ILIKE
            | Keyword::SIMILAR
            | Keyword::BETWEEN
            | Keyword::IN
            | Keyword::IS
            | Keyword::COLLATE
            | Keyword::AT => self.operators += 1,
            _ => {}
        }
    }
}

fn parse_one(parser: &mut DFParser) -> Result<Parsed> {
    for grammar in STATEMENTS {
        if let Some(own) = grammar.parse(&mut parser.parser)? {
            return Ok(Parsed::Own(own));
        }
    }
    parser.parse_statement().map(|sql| Parsed::Sql(Box::new(sql))).map_err(|error| match error {
        DataFusionError::SQL(error, _) => syntax(*error),
        other => other.into(),
    })
}

/// The query at the parser's position, as a statement of its own.
pub(super) fn query(parser: &mut Parser) -> Result<Statement> {
    // The parser would take an INSERT for a query as well.
    let begins = ["SELECT", "WITH", "VALUES", "TABLE"].iter().any(|word| at_words(parser, &[word]));
    if !begins && parser.peek_token() != Token::LParen {
        return parser.expected("a query", parser.peek_token()).map_err(syntax);
    }
    let mut query = parser.parse_query().map_err(syntax)?;
    rewrite_query(&mut query);
    let query = ast::Statement::Query(query);
    Ok(Statement(Parsed::Sql(Box::new(Sql::Statement(Box::new(query))))))
}

pub(super) fn syntax(error: ParserError) -> Error {
    if error == ParserError::RecursionLimitExceeded {
        return too_deep(MAX_DEPTH);
    }
    DataFusionError::SQL(Box::new(error), None).into()
}

/// Whether the next words are these, case ignored.
pub(super) fn at_words(parser: &Parser, words: &[&str]) -> bool {
    words.iter().enumerate().all(|(n, word)| match &parser.peek_nth_token(n).token {
        Token::Word(found) => found.quote_style.is_none() && found.value.eq_ignore_ascii_case(word),
        _ => false,
    })
}

/// Consumes these words if they come next.
pub(super) fn take_words(parser: &mut Parser, words: &[&str]) -> bool {
    let there = at_words(parser, words);
    if there {
        for _ in words {
            parser.next_token();
        }
    }
    there
}

/// The relation that the parts of a name name: `[[catalog.]schema.]name`.
pub(super) fn relation_named(parts: &[String]) -> Option<TableReference> {
    match parts {
        [name] => Some(TableReference::bare(name.as_str())),
        [schema, name] => Some(TableReference::partial(schema.as_str(), name.as_str())),
        [catalog, schema, name] => Some(TableReference::full(catalog.as_str(), schema.as_str(), name.as_str())),
        _ => None,
    }
}

/// The relation whose name is at the parser's position.
pub(super) fn relation(parser: &mut Parser) -> Result<TableReference> {
    let name = parser.parse_object_name(false).map_err(syntax)?;
    let parts: Vec<String> = name.0.iter().filter_map(|part| part.as_ident()).map(folded).collect();
    relation_named(&parts).ok_or_else(|| Error::new(Kind::Syntax, format!("\"{name}\" is not a relation's name")))
}

/// A name with or without its schema, folded to lower case unless quoted.
pub(super) fn model_name(parser: &mut Parser) -> Result<crate::models::ModelName> {
    let name = parser.parse_object_name(false).map_err(syntax)?;
    let parts: Vec<String> = name.0.iter().filter_map(|part| part.as_ident()).map(folded).collect();
    if let Some(empty) = parts.iter().find(|part| part.is_empty()) {
        check_new_name(empty)?;
    }
    match <[String; 1]>::try_from(parts) {
        Ok([name]) => Ok(crate::models::ModelName { schema: "public".to_owned(), name, version: None }),
        Err(parts) => match <[String; 2]>::try_from(parts) {
            Ok([schema, name]) => Ok(crate::models::ModelName { schema, name, version: None }),
            Err(_) => {
                Err(Error::invalid(format!("\"{name}\" is not a model's name")).hint("write name or schema.name"))
            }
        },
    }
}

/// Whether a model may be called that: `name@2` and `schema.name` mean something else.
pub(super) fn check_new_name(name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(Error::new(Kind::Syntax, "zero-length delimited identifier").hint("a model needs a name"));
    }
    if name.contains('@') || name.contains('.') {
        return Err(Error::invalid(format!("a model's name must not contain @ or .: \"{name}\"")));
    }
    Ok(())
}

pub(super) fn folded(ident: &ast::Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

impl Statement {
    /// The prepared statement that it forgets.
    pub fn deallocates(&self) -> Option<&str> {
        match &self.0 {
            Parsed::Own(own) => own.deallocates(),
            Parsed::Sql(_) => None,
        }
    }
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Parsed::Own(own) => write!(f, "{own:?}"),
            Parsed::Sql(sql) => write!(f, "{sql}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_split_and_ours_is_told_from_sql() {
        let statements =
            parse("; SELECT 1;; SHOW MODELS; CREATE MODEL m OPTIONS (model_type = 'kmeans') AS SELECT 1; ").unwrap();
        let own: Vec<bool> = statements.iter().map(|statement| matches!(statement.0, Parsed::Own(_))).collect();
        assert_eq!(own, [false, true, true]);
        assert!(parse("  ;").unwrap().is_empty());
    }

    #[test]
    fn a_chain_has_an_end_and_a_list_has_none() {
        let sqlstate = |sql: &str| parse(sql).unwrap_err().kind.sqlstate();
        assert_eq!(sqlstate(&format!("SELECT {}", vec!["1"; 20_000].join(" + "))), "54001");
        assert_eq!(sqlstate(&format!("SELECT ARRAY[1]{}", "[1]".repeat(2_000))), "54001");
        assert_eq!(sqlstate(&vec!["SELECT 1"; 2_000].join(" UNION ")), "54001");
        assert_eq!(sqlstate(&format!("SELECT * FROM {}", vec!["t"; 2_000].join(", "))), "54001");
        let list = vec!["-1"; 20_000].join(", ");
        assert!(parse(&format!("SELECT 1 IN ({list})")).is_ok());
        assert!(parse(&format!("SELECT {}", vec!["a = 1"; 20_000].join(" OR "))).is_ok());
        let nested = format!("SELECT {}1{}", "(".repeat(5_000), ")".repeat(5_000));
        assert_eq!(sqlstate(&nested), "54001");
        assert_eq!(sqlstate(&format!("SELECT {}1", "- ".repeat(200))), "54001");
        assert_eq!(sqlstate(&format!("SELECT {}1{}", "ARRAY[".repeat(20), "]".repeat(20))), "54001");
    }

    #[test]
    fn what_follows_a_statement_must_be_its_end() {
        assert_eq!(parse("SELECT 1 SELECT 2").unwrap_err().kind.sqlstate(), "42601");
        assert_eq!(parse("SHOW MODELS nonsense").unwrap_err().kind.sqlstate(), "42601");
        assert_eq!(parse("CREATE MODEL").unwrap_err().kind.sqlstate(), "42601");
    }
}
