//! `CREATE POLICY` and what belongs to it: which rows of a table roles see that do not own it.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::common::TableReference;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

use crate::engine::files::reads_files;
use crate::engine::rights::quoted;
use crate::engine::statement::{self, Own, at_words, folded, syntax, take_words};
use crate::engine::statements::create_role::names;
use crate::engine::statements::drop_role::role_named;
use crate::engine::statements::grant::{must_get_table, table_reference};
use crate::engine::{Answer, Run, Session};
use crate::error::{Error, Kind, Result};
use crate::storage::{Policy, RoleId};

pub struct Grammar;
pub struct DropGrammar;
pub struct SwitchGrammar;

#[derive(Debug)]
struct CreatePolicy {
    name: String,
    table: TableReference,
    restrictive: bool,
    roles: Vec<String>,
    using: String,
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
        "Says which rows of a table a role sees, once ALTER TABLE … ENABLE ROW LEVEL SECURITY has been said: those that \
         satisfy one of the policies for it, and all restrictive ones. Without a policy it sees none. The table's owner, \
         superusers and roles with BYPASSRLS see all rows. Policies hold wherever the table is read: in queries, in views \
         and in training queries, which read as their owners. A condition may name the row's columns, current_user, \
         current_setting() and queries of other tables. Policies are about reading; with row level security only the owner writes."
    }

    fn syntax(&self) -> &'static str {
        "CREATE POLICY name ON table [AS { PERMISSIVE | RESTRICTIVE }] [FOR { SELECT | ALL }]\n\
         \x20 [TO { role | PUBLIC | CURRENT_USER } [, …]] USING (condition)"
    }

    fn parse(&self, parser: &mut Parser) -> Result<Option<Arc<dyn Own>>> {
        if !take_words(parser, &["CREATE", "POLICY"]) {
            return Ok(None);
        }
        let (name, table) = policy_on(parser)?;
        let restrictive = take_words(parser, &["AS", "RESTRICTIVE"]);
        let _ = take_words(parser, &["AS", "PERMISSIVE"]);
        if take_words(parser, &["FOR"]) && !take_words(parser, &["SELECT"]) && !take_words(parser, &["ALL"]) {
            return Err(only_reading());
        }
        let roles = if take_words(parser, &["TO"]) { names(parser)? } else { vec!["public".to_owned()] };
        if at_words(parser, &["WITH", "CHECK"]) {
            return Err(only_reading());
        }
        if !take_words(parser, &["USING"]) {
            return parser.expected("USING (condition)", parser.peek_token()).map_err(syntax);
        }
        parser.expect_token(&Token::LParen).map_err(syntax)?;
        let using = parser.parse_expr().map_err(syntax)?.to_string();
        parser.expect_token(&Token::RParen).map_err(syntax)?;
        if at_words(parser, &["WITH", "CHECK"]) {
            return Err(only_reading());
        }
        Ok(Some(Arc::new(CreatePolicy { name, table, restrictive, roles, using })))
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

fn only_reading() -> Error {
    Error::unsupported("policies are about reading only").hint("write FOR SELECT … USING (condition)")
}

#[async_trait]
impl Own for CreatePolicy {
    async fn run(&self, session: &Session, run: &Run) -> Result<Answer> {
        let rights = session.rights()?;
        let table = must_get_table(session, &rights, &self.table)?;
        rights.must_own(&table)?;
        let mut roles = Vec::new();
        for role in &self.roles {
            roles.push(match role.as_str() {
                "public" => RoleId::PUBLIC,
                role => role_named(session, &rights, role)?.id,
            });
        }
        // A condition that cannot be planned now would keep everybody out later.
        let (schema, name) = (quoted(&table.schema), quoted(&table.name));
        let sql = format!("SELECT 1 FROM {schema}.{name} AS {name} WHERE ({})", self.using);
        // It is planned for nobody, who could not be refused before a file is looked at.
        if reads_files(&statement::parse_sql(&sql)?) {
            return Err(Error::unsupported("a policy cannot read files of the server")
                .hint("make a table of them, CREATE EXTERNAL TABLE, and read that"));
        }
        let planner = session.sight().planner.get()?;
        session.on_work_threads(run, |_| async move { Ok(planner.create_logical_plan(&sql).await?) }).await?;
        let (name, restrictive, using) = (self.name.clone(), self.restrictive, self.using.clone());
        session.store().create_policy(table.id, &Policy { name, restrictive, roles, using })?;
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
impl Own for DropPolicy {
    async fn run(&self, session: &Session, run: &Run) -> Result<Answer> {
        let rights = session.rights()?;
        let table = must_get_table(session, &rights, &self.table)?;
        rights.must_own(&table)?;
        if !session.store().drop_policy(table.id, &self.name)? {
            let message = format!("policy \"{}\" for table \"{}\" does not exist", self.name, table.name);
            if !self.if_exists {
                let access = rights.access();
                let known = access.policies(table.id).iter().map(|policy| policy.name.as_str());
                return Err(Error::new(Kind::UnknownRole, message).suggest(&self.name, known));
            }
            run.notice(format!("{message}, skipping"));
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
