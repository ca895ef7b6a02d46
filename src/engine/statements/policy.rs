//! `CREATE POLICY` and what belongs to it: which rows of a table roles see and write that do not own it.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::common::TableReference;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

use crate::engine::files::reads_files;
use crate::engine::rights::{Rights, quoted};
use crate::engine::statement::{self, Own, at_words, folded, syntax, take_words};
use crate::engine::statements::create_role::names;
use crate::engine::statements::grant::{grantees_named, must_get_table, table_reference};
use crate::engine::{Answer, Run, Session};
use crate::error::{Error, Kind, Result};
use crate::storage::{Policy, PolicyCommand, Relation};

pub struct Grammar;
pub struct AlterGrammar;
pub struct DropGrammar;
pub struct SwitchGrammar;

#[derive(Debug)]
struct CreatePolicy {
    name: String,
    table: TableReference,
    command: PolicyCommand,
    restrictive: bool,
    roles: Vec<String>,
    using: Option<String>,
    check: Option<String>,
}

#[derive(Debug)]
struct AlterPolicy {
    name: String,
    table: TableReference,
    to: Altered,
}

#[derive(Debug)]
enum Altered {
    Name(String),
    /// What is not given stays.
    Parts {
        roles: Option<Vec<String>>,
        using: Option<String>,
        check: Option<String>,
    },
}

#[derive(Debug)]
struct DropPolicy {
    name: String,
    table: TableReference,
    if_exists: bool,
}

/// ENABLE or DISABLE ROW LEVEL SECURITY.
#[derive(Debug)]
struct Switch {
    table: TableReference,
    on: bool,
}

impl statement::Grammar for Grammar {
    fn name(&self) -> &'static str {
        "CREATE POLICY"
    }

    fn doc(&self) -> &'static str {
        "Says which rows of a table a role sees and writes, once ALTER TABLE … ENABLE ROW LEVEL SECURITY has been said: \
         those that satisfy one of the policies for it and for what it does, and all restrictive ones. Without a policy \
         there is no such row. USING is about rows that are there: a SELECT, UPDATE or DELETE finds no others. WITH CHECK \
         is about rows that an INSERT or UPDATE writes: any other is an error, and nothing is written; where it is left \
         out, USING holds for them too. An UPDATE or DELETE finds the rows that the policies for SELECT show as well, \
         and an UPDATE leaves rows that they show. MERGE fails where it would change a row that it may not. COPY FROM is \
         refused where policies hold. The table's owner, superusers and roles with BYPASSRLS see and write all rows. \
         Policies hold wherever the table is read: in queries, in views and in training queries, which read as their \
         owners. A condition may name the row's columns, current_user, current_setting() and queries of other tables."
    }

    fn syntax(&self) -> &'static str {
        "CREATE POLICY name ON table [AS { PERMISSIVE | RESTRICTIVE }]\n\
         \x20 [FOR { ALL | SELECT | INSERT | UPDATE | DELETE }] [TO { role | PUBLIC | CURRENT_USER } [, …]]\n\
         \x20 [USING (condition)] [WITH CHECK (condition)]"
    }

    fn parse(&self, parser: &mut Parser) -> Result<Option<Arc<dyn Own>>> {
        if !take_words(parser, &["CREATE", "POLICY"]) {
            return Ok(None);
        }
        let (name, table) = policy_on(parser)?;
        let restrictive = take_words(parser, &["AS", "RESTRICTIVE"]);
        let _ = take_words(parser, &["AS", "PERMISSIVE"]);
        let mut command = PolicyCommand::All;
        if take_words(parser, &["FOR"]) {
            let word = parser.next_token();
            command = match PolicyCommand::parse(&word.to_string()) {
                Some(command) => command,
                None => return parser.expected("ALL, SELECT, INSERT, UPDATE or DELETE", word).map_err(syntax),
            };
        }
        let roles = if take_words(parser, &["TO"]) { names(parser)? } else { vec!["public".to_owned()] };
        let using = condition(parser, &["USING"])?;
        let check = condition(parser, &["WITH", "CHECK"])?;
        if using.is_none() && check.is_none() {
            return parser.expected("USING (condition) or WITH CHECK (condition)", parser.peek_token()).map_err(syntax);
        }
        refuse(command, using.is_some(), check.is_some())?;
        Ok(Some(Arc::new(CreatePolicy { name, table, command, restrictive, roles, using, check })))
    }
}

impl statement::Grammar for AlterGrammar {
    fn name(&self) -> &'static str {
        "ALTER POLICY"
    }

    fn doc(&self) -> &'static str {
        "Changes whom a policy is for, or what rows must satisfy; or what it is called. What it is about stays: drop it, and \
         create another."
    }

    fn syntax(&self) -> &'static str {
        "ALTER POLICY name ON table [TO { role | PUBLIC | CURRENT_USER } [, …]]\n\
         \x20 [USING (condition)] [WITH CHECK (condition)]\n\
         ALTER POLICY name ON table RENAME TO name"
    }

    fn parse(&self, parser: &mut Parser) -> Result<Option<Arc<dyn Own>>> {
        if !take_words(parser, &["ALTER", "POLICY"]) {
            return Ok(None);
        }
        let (name, table) = policy_on(parser)?;
        let to = match take_words(parser, &["RENAME", "TO"]) {
            true => Altered::Name(folded(&parser.parse_identifier().map_err(syntax)?)),
            false => {
                let roles = if take_words(parser, &["TO"]) { Some(names(parser)?) } else { None };
                let using = condition(parser, &["USING"])?;
                Altered::Parts { roles, using, check: condition(parser, &["WITH", "CHECK"])? }
            }
        };
        Ok(Some(Arc::new(AlterPolicy { name, table, to })))
    }
}

impl statement::Grammar for DropGrammar {
    fn name(&self) -> &'static str {
        "DROP POLICY"
    }

    fn doc(&self) -> &'static str {
        "Removes a policy of a table. Without any left, and with row level security enabled, only the owner sees rows."
    }

    fn syntax(&self) -> &'static str {
        "DROP POLICY [IF EXISTS] name ON table"
    }

    fn parse(&self, parser: &mut Parser) -> Result<Option<Arc<dyn Own>>> {
        if !take_words(parser, &["DROP", "POLICY"]) {
            return Ok(None);
        }
        let if_exists = take_words(parser, &["IF", "EXISTS"]);
        let (name, table) = policy_on(parser)?;
        let _ = take_words(parser, &["CASCADE"]) || take_words(parser, &["RESTRICT"]);
        Ok(Some(Arc::new(DropPolicy { name, table, if_exists })))
    }
}

impl statement::Grammar for SwitchGrammar {
    fn name(&self) -> &'static str {
        "ALTER TABLE ROW LEVEL SECURITY"
    }

    fn doc(&self) -> &'static str {
        "From here on the policies of a table hold for whoever does not own it, or no longer do."
    }

    fn syntax(&self) -> &'static str {
        "ALTER TABLE name { ENABLE | DISABLE } ROW LEVEL SECURITY"
    }

    fn parse(&self, parser: &mut Parser) -> Result<Option<Arc<dyn Own>>> {
        if !at_words(parser, &["ALTER", "TABLE"]) {
            return Ok(None);
        }
        // Only the words after the name tell this statement from others that alter a table.
        let parsed = parser.maybe_parse(|parser| {
            parser.next_token();
            parser.next_token();
            let name = parser.parse_object_name(false)?;
            let words = ["ROW", "LEVEL", "SECURITY"];
            let found = ["ENABLE", "DISABLE", "FORCE", "NO"].into_iter().find(|word| take_words(parser, &[word]));
            let forced = found == Some("NO") && take_words(parser, &["FORCE"]);
            match found.filter(|_| take_words(parser, &words)) {
                Some(found) => Ok((name, if forced { "NO FORCE" } else { found })),
                None => parser.expected("ROW LEVEL SECURITY", parser.peek_token()),
            }
        });
        match parsed.map_err(syntax)? {
            Some((name, on @ ("ENABLE" | "DISABLE"))) => {
                Ok(Some(Arc::new(Switch { table: table_reference(&name)?, on: on == "ENABLE" })))
            }
            Some((_, other)) => Err(Error::unsupported(format!("{other} ROW LEVEL SECURITY is not supported"))
                .hint("policies never hold for the owner of a table: let another role own it")),
            None => Ok(None),
        }
    }
}

/// `name ON table`.
fn policy_on(parser: &mut Parser) -> Result<(String, TableReference)> {
    let name = folded(&parser.parse_identifier().map_err(syntax)?);
    if !take_words(parser, &["ON"]) {
        return parser.expected("ON", parser.peek_token()).map_err(syntax);
    }
    Ok((name, table_reference(&parser.parse_object_name(false).map_err(syntax)?)?))
}

/// `words (condition)`, if that is what comes.
fn condition(parser: &mut Parser, words: &[&str]) -> Result<Option<String>> {
    if !take_words(parser, words) {
        return Ok(None);
    }
    parser.expect_token(&Token::LParen).map_err(syntax)?;
    let condition = parser.parse_expr().map_err(syntax)?.to_string();
    parser.expect_token(&Token::RParen).map_err(syntax)?;
    Ok(Some(condition))
}

/// Conditions on rows that a command does not have.
fn refuse(command: PolicyCommand, using: bool, check: bool) -> Result<()> {
    match command {
        PolicyCommand::Insert if using => {
            Err(Error::new(Kind::Syntax, "only WITH CHECK expression allowed for INSERT"))
        }
        PolicyCommand::Select | PolicyCommand::Delete if check => {
            Err(Error::new(Kind::Syntax, "WITH CHECK cannot be applied to SELECT or DELETE"))
        }
        _ => Ok(()),
    }
}

/// A condition that cannot be planned now would keep everybody out later.
async fn must_be_planned(session: &Session, run: &Run, table: &Relation, condition: &str) -> Result<()> {
    let (schema, name) = (quoted(&table.schema), quoted(&table.name));
    let sql = format!("SELECT 1 FROM {schema}.{name} AS {name} WHERE ({condition})");
    // It is planned for nobody, who could not be refused before a file is looked at.
    if reads_files(&statement::parse_sql(&sql)?) {
        return Err(Error::unsupported("a policy cannot read files of the server")
            .hint("make a table of them, CREATE EXTERNAL TABLE, and read that"));
    }
    let planner = session.sight().planner.get()?;
    session.on_quick_threads(run, async move { Ok(planner.create_logical_plan(&sql).await?) }).await?;
    Ok(())
}

fn no_policy(rights: &Rights, name: &str, table: &Relation) -> Error {
    let known = rights.access().policies(table.id).iter().map(|policy| policy.name.as_str());
    Error::new(Kind::UnknownRole, format!("policy \"{name}\" for table \"{}\" does not exist", table.name))
        .suggest(name, known)
}

#[async_trait]
impl Own for CreatePolicy {
    async fn run(&self, session: &Session, run: &Run) -> Result<Answer> {
        let rights = session.rights()?;
        let table = must_get_table(session, &rights, &self.table)?;
        rights.must_own(&table)?;
        let roles = grantees_named(session, &rights, &self.roles)?;
        for condition in [&self.using, &self.check].into_iter().flatten() {
            must_be_planned(session, run, &table, condition).await?;
        }
        let policy = Policy {
            name: self.name.clone(),
            command: self.command,
            restrictive: self.restrictive,
            roles,
            using: self.using.clone(),
            check: self.check.clone(),
        };
        session.store().put_policy(table.id, &policy, None)?;
        if !table.row_security {
            run.notice(format!(
                "the policy holds once row level security is enabled: ALTER TABLE {} ENABLE ROW LEVEL SECURITY",
                self.table
            ));
        }
        session.audit("CREATE POLICY", &format!("{} ON {}", self.name, self.table));
        Ok(Answer::Done("CREATE POLICY".to_owned()))
    }
}

#[async_trait]
impl Own for AlterPolicy {
    async fn run(&self, session: &Session, run: &Run) -> Result<Answer> {
        let rights = session.rights()?;
        let table = must_get_table(session, &rights, &self.table)?;
        rights.must_own(&table)?;
        let there = rights.access().policies(table.id).iter().find(|policy| policy.name == self.name);
        let mut policy = there.cloned().ok_or_else(|| no_policy(&rights, &self.name, &table))?;
        match &self.to {
            Altered::Name(name) => policy.name.clone_from(name),
            Altered::Parts { roles, using, check } => {
                refuse(policy.command, using.is_some(), check.is_some())?;
                for condition in [using, check].into_iter().flatten() {
                    must_be_planned(session, run, &table, condition).await?;
                }
                if let Some(roles) = roles {
                    policy.roles = grantees_named(session, &rights, roles)?;
                }
                policy.using = using.clone().or(policy.using);
                policy.check = check.clone().or(policy.check);
            }
        }
        session.store().put_policy(table.id, &policy, Some(&self.name))?;
        session.audit("ALTER POLICY", &format!("{} ON {}", self.name, self.table));
        Ok(Answer::Done("ALTER POLICY".to_owned()))
    }
}

#[async_trait]
impl Own for DropPolicy {
    async fn run(&self, session: &Session, run: &Run) -> Result<Answer> {
        let rights = session.rights()?;
        let table = must_get_table(session, &rights, &self.table)?;
        rights.must_own(&table)?;
        if !session.store().drop_policy(table.id, &self.name)? {
            let missing = no_policy(&rights, &self.name, &table);
            if !self.if_exists {
                return Err(missing);
            }
            run.notice(format!("{}, skipping", missing.message));
        }
        session.audit("DROP POLICY", &format!("{} ON {}", self.name, self.table));
        Ok(Answer::Done("DROP POLICY".to_owned()))
    }
}

#[async_trait]
impl Own for Switch {
    async fn run(&self, session: &Session, _run: &Run) -> Result<Answer> {
        let rights = session.rights()?;
        let table = must_get_table(session, &rights, &self.table)?;
        rights.must_own(&table)?;
        session.store().set_row_security(&table.schema, &table.name, self.on)?;
        let what = if self.on { "ENABLE ROW LEVEL SECURITY" } else { "DISABLE ROW LEVEL SECURITY" };
        session.audit(what, &self.table.to_string());
        Ok(Answer::Done("ALTER TABLE".to_owned()))
    }
}
