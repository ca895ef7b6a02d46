//! `GRANT` and `REVOKE`: what roles may do with what there is, and which roles are in which.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::sql::sqlparser::parser::{IsOptional, Parser};
use datafusion::sql::sqlparser::tokenizer::Token;

use self::targets::{On, Target, targets};
pub(super) use self::targets::{Wanted, must_get_relation, must_get_schema, must_get_table, table_reference};
use crate::engine::rights::{Rights, denied};
use crate::engine::statement::{self, Own, at_words, folded, model_name, syntax, take_words};
use crate::engine::statements::create_role::{must_admit_to, names};
use crate::engine::statements::drop_role::role_named;
use crate::engine::{Answer, Run, Session};
use crate::error::{Error, Result};
use crate::storage::{Grant as Granted, Membership, RoleId};

mod targets;

pub struct Grammar;
pub struct RevokeGrammar;

/// Either statement: what is given, or taken.
#[derive(Debug)]
struct Grant {
    what: What,
    roles: Vec<String>,
    /// WITH GRANT OPTION, WITH ADMIN OPTION; or GRANT OPTION FOR, ADMIN OPTION FOR.
    option: bool,
    revoke: bool,
}

#[derive(Debug)]
enum What {
    Roles(Vec<String>),
    Privileges { wanted: Vec<Wanted>, on: On },
}

impl statement::Grammar for Grammar {
    fn name(&self) -> &'static str {
        "GRANT"
    }

    fn doc(&self) -> &'static str {
        "Lets roles do something: read or write tables and views, or some columns of a table; ask a model; use a schema's \
         names or make something in it. Or makes roles members of others. Who owns something needs no grant, and may grant \
         it; superusers need none at all. To whom a model is granted may ask it without being allowed to read what it was \
         trained on. To reach anything in a schema a role needs USAGE of the schema; of public everybody has it."
    }

    fn syntax(&self) -> &'static str {
        "GRANT { { SELECT | INSERT | UPDATE } [(column, …)] | DELETE | TRUNCATE | ALL } [, …]\n\
         \x20 ON { [TABLE] name [, …] | ALL TABLES IN SCHEMA schema [, …] } TO role [, …] [WITH GRANT OPTION]\n\
         GRANT { USAGE | ALL } ON { MODEL name [, …] | ALL MODELS IN SCHEMA schema [, …] } TO role [, …] [WITH GRANT OPTION]\n\
         GRANT { USAGE | CREATE | ALL } [, …] ON SCHEMA schema [, …] TO role [, …] [WITH GRANT OPTION]\n\
         GRANT { CREATE | CONNECT | TEMPORARY | ALL } [, …] ON DATABASE name TO role [, …]\n\
         GRANT role [, …] TO role [, …] [WITH ADMIN OPTION]\n\
         role: name | PUBLIC | CURRENT_USER | SESSION_USER"
    }

    fn parse(&self, parser: &mut Parser) -> Result<Option<Arc<dyn Own>>> {
        if !take_words(parser, &["GRANT"]) {
            return Ok(None);
        }
        let what = what(parser)?;
        expect(parser, "TO")?;
        let roles = grantees(parser)?;
        let option =
            take_words(parser, &["WITH", "GRANT", "OPTION"]) || take_words(parser, &["WITH", "ADMIN", "OPTION"]);
        granted_by(parser)?;
        Ok(Some(Arc::new(Grant { what, roles, option, revoke: false })))
    }
}

impl statement::Grammar for RevokeGrammar {
    fn name(&self) -> &'static str {
        "REVOKE"
    }

    fn doc(&self) -> &'static str {
        "Takes back what GRANT gave. What the same role was given by other names, as PUBLIC or through a role that it is in, \
         stays. Queries that run go on; the next one is refused."
    }

    fn syntax(&self) -> &'static str {
        "REVOKE [GRANT OPTION FOR] privilege [, …] ON object FROM role [, …] [CASCADE | RESTRICT]\n\
         REVOKE [ADMIN OPTION FOR] role [, …] FROM role [, …] [CASCADE | RESTRICT]"
    }

    fn parse(&self, parser: &mut Parser) -> Result<Option<Arc<dyn Own>>> {
        if !take_words(parser, &["REVOKE"]) {
            return Ok(None);
        }
        let option = take_words(parser, &["GRANT", "OPTION", "FOR"]) || take_words(parser, &["ADMIN", "OPTION", "FOR"]);
        let what = what(parser)?;
        expect(parser, "FROM")?;
        let roles = grantees(parser)?;
        granted_by(parser)?;
        let _ = take_words(parser, &["CASCADE"]) || take_words(parser, &["RESTRICT"]);
        Ok(Some(Arc::new(Grant { what, roles, option, revoke: true })))
    }
}

/// Privileges on something, or roles.
fn what(parser: &mut Parser) -> Result<What> {
    let wanted = wanted(parser)?;
    if take_words(parser, &["ON"]) {
        return Ok(What::Privileges { wanted, on: on(parser)? });
    }
    Ok(What::Roles(wanted.into_iter().map(|role| role.privilege.unwrap_or_else(|| "all".to_owned())).collect()))
}

/// Words, each with columns where some follow it in parentheses.
pub(super) fn wanted(parser: &mut Parser) -> Result<Vec<Wanted>> {
    let mut words = Vec::new();
    loop {
        let word = parser.parse_identifier().map_err(syntax)?;
        let all = word.quote_style.is_none() && word.value.eq_ignore_ascii_case("all");
        if all {
            let _ = take_words(parser, &["PRIVILEGES"]);
        }
        let columns = match parser.peek_token().token {
            Token::LParen => parser.parse_parenthesized_column_list(IsOptional::Mandatory, false),
            _ => Ok(Vec::new()),
        };
        let columns: Vec<String> = columns.map_err(syntax)?.iter().map(folded).collect();
        words.push(Wanted { privilege: (!all).then(|| folded(&word)), columns });
        if !parser.consume_token(&Token::Comma) {
            return Ok(words);
        }
    }
}

fn on(parser: &mut Parser) -> Result<On> {
    if take_words(parser, &["ALL", "TABLES", "IN", "SCHEMA"]) {
        Ok(On::RelationsIn(names(parser)?))
    } else if take_words(parser, &["ALL", "MODELS", "IN", "SCHEMA"]) {
        Ok(On::ModelsIn(names(parser)?))
    } else if take_words(parser, &["ALL", "SEQUENCES", "IN", "SCHEMA"])
        || take_words(parser, &["ALL", "FUNCTIONS", "IN", "SCHEMA"])
    {
        names(parser)?;
        Ok(On::Nothing)
    } else if take_words(parser, &["SCHEMA"]) {
        Ok(On::Schemas(names(parser)?))
    } else if take_words(parser, &["DATABASE"]) {
        Ok(On::Databases(names(parser)?))
    } else if take_words(parser, &["MODEL"]) {
        let mut models = vec![model_name(parser)?];
        while parser.consume_token(&Token::Comma) {
            models.push(model_name(parser)?);
        }
        Ok(On::Models(models))
    } else if let Some(kind) =
        ["FUNCTION", "SEQUENCE", "TYPE", "LANGUAGE"].iter().find(|kind| at_words(parser, &[kind]))
    {
        Err(Error::unsupported(format!("GRANT ON {kind} is not supported"))
            .hint("rights are about schemas, tables, views and models"))
    } else {
        let _ = take_words(parser, &["TABLE"]);
        let names = parser.parse_comma_separated(|parser| parser.parse_object_name(false)).map_err(syntax)?;
        Ok(On::Relations(names.iter().map(table_reference).collect::<Result<_>>()?))
    }
}

pub(super) fn grantees(parser: &mut Parser) -> Result<Vec<String>> {
    let _ = take_words(parser, &["GROUP"]);
    names(parser)
}

fn granted_by(parser: &mut Parser) -> Result<()> {
    if take_words(parser, &["GRANTED", "BY"]) {
        parser.parse_identifier().map_err(syntax)?;
    }
    Ok(())
}

pub(super) fn expect(parser: &mut Parser, word: &str) -> Result<()> {
    match take_words(parser, &[word]) {
        true => Ok(()),
        false => parser.expected(word, parser.peek_token()).map_err(syntax),
    }
}

/// As the audit log tells it.
impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |names: &[String]| names.join(", ");
        match self {
            What::Roles(roles) => f.write_str(&list(roles)),
            What::Privileges { wanted, on } => {
                let wanted: Vec<String> = wanted.iter().map(Wanted::to_string).collect();
                write!(f, "{} ON ", list(&wanted))?;
                match on {
                    On::Relations(names) => {
                        f.write_str(&list(&names.iter().map(ToString::to_string).collect::<Vec<_>>()))
                    }
                    On::RelationsIn(schemas) => write!(f, "ALL TABLES IN SCHEMA {}", list(schemas)),
                    On::Models(names) => {
                        write!(f, "MODEL {}", list(&names.iter().map(ToString::to_string).collect::<Vec<_>>()))
                    }
                    On::ModelsIn(schemas) => write!(f, "ALL MODELS IN SCHEMA {}", list(schemas)),
                    On::Schemas(names) => write!(f, "SCHEMA {}", list(names)),
                    On::Databases(names) => write!(f, "DATABASE {}", list(names)),
                    On::Nothing => f.write_str("nothing"),
                }
            }
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.privilege.as_deref().unwrap_or("all").to_uppercase())?;
        match self.columns.is_empty() {
            true => Ok(()),
            false => write!(f, " ({})", self.columns.join(", ")),
        }
    }
}

#[async_trait]
impl Own for Grant {
    async fn run(&self, session: &Session, _run: &Run) -> Result<Answer> {
        let (store, rights) = (&session.store(), session.rights()?);
        let (verb, tag) = match (self.revoke, &self.what) {
            (false, What::Roles(_)) => ("GRANT", "GRANT ROLE"),
            (true, What::Roles(_)) => ("REVOKE", "REVOKE ROLE"),
            (false, _) => ("GRANT", "GRANT"),
            (true, _) => ("REVOKE", "REVOKE"),
        };
        match &self.what {
            What::Roles(roles) => {
                let memberships = self.memberships(session, &rights, roles)?;
                match self.revoke {
                    true => store.remove_members(&memberships, self.option)?,
                    false => store.add_members(&memberships)?,
                }
            }
            What::Privileges { wanted, on } => {
                let mut grants = Vec::new();
                for target in targets(session, &rights, on)? {
                    self.grants(session, &rights, wanted, &target, &mut grants)?;
                }
                match self.revoke {
                    true => store.revoke(&grants, self.option)?,
                    false => store.grant(&grants)?,
                }
            }
        }
        session.audit(
            verb,
            &format!("{:?} {} {}", self.what, if self.revoke { "from" } else { "to" }, self.roles.join(", ")),
        );
        Ok(Answer::Done(tag.to_owned()))
    }
}

impl Grant {
    fn memberships(&self, session: &Session, rights: &Rights, roles: &[String]) -> Result<Vec<Membership>> {
        let mut memberships = Vec::new();
        for role in roles {
            let role = rights.access().must_find(role)?.id;
            must_admit_to(rights, role)?;
            for member in &self.roles {
                let member = role_named(session, rights, member)?.id;
                memberships.push(Membership { role, member, admin: self.option });
            }
        }
        Ok(memberships)
    }

    /// All that the statement says of one object.
    fn grants(
        &self,
        session: &Session,
        rights: &Rights,
        wanted: &[Wanted],
        target: &Target,
        grants: &mut Vec<Granted>,
    ) -> Result<()> {
        let grantees = grantees_named(session, rights, &self.roles)?;
        for wanted in wanted {
            let columns = target.columns(wanted)?;
            for privilege in target.privileges(wanted)? {
                if !rights.may_grant(target.object, target.owner, privilege) {
                    return Err(denied(target.kind, &target.name));
                }
                for (column, grantee) in columns.iter().flat_map(|column| grantees.iter().map(move |to| (column, *to)))
                {
                    let (object, grantable) = (target.object, self.option);
                    grants.push(Granted { object, column: column.clone(), grantee, privilege, grantable });
                }
            }
        }
        Ok(())
    }
}

/// The roles that something is granted to, among them perhaps everybody.
pub(super) fn grantees_named(session: &Session, rights: &Rights, names: &[String]) -> Result<Vec<RoleId>> {
    let grantee = |name: &String| match name.as_str() {
        "public" => Ok(RoleId::PUBLIC),
        name => Ok(role_named(session, rights, name)?.id),
    };
    names.iter().map(grantee).collect()
}
