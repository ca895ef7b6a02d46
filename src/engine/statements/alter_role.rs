//! `ALTER ROLE`: what a role may do, its password and its name.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::sql::sqlparser::parser::Parser;

use crate::engine::statement::{self, Own, folded, syntax, take_words};
use crate::engine::statements::create_role::{RoleOptions, must_manage_roles};
use crate::engine::statements::drop_role::role_named;
use crate::engine::{Answer, Run, Session};
use crate::error::{Error, Kind, Result};
use crate::storage::{RoleId, check_role_name};

pub struct Grammar;

#[derive(Debug)]
struct AlterRole {
    name: String,
    change: Change,
}

#[derive(Debug)]
enum Change {
    Options(Box<RoleOptions>),
    Rename(String),
}

impl statement::Grammar for Grammar {
    fn name(&self) -> &'static str {
        "ALTER ROLE"
    }

    fn doc(&self) -> &'static str {
        "Changes what a role may do, its password or its name. Everybody may change their own password, as psql's \\password \
         does; the rest is for superusers and roles with CREATEROLE. Once a superuser has a password, nobody is let in without one."
    }

    fn syntax(&self) -> &'static str {
        "ALTER { ROLE | USER } { name | CURRENT_USER | SESSION_USER } [WITH] option [option …]\n\
         ALTER { ROLE | USER } name RENAME TO new_name\n\
         option: [NO]LOGIN | [NO]SUPERUSER | [NO]CREATEROLE | [NO]INHERIT | [NO]BYPASSRLS\n\
         \x20      | PASSWORD { 'password' | NULL } | VALID UNTIL 'timestamp' | CONNECTION LIMIT number\n\
         \x20      | STATEMENT LIMIT number | MEMORY LIMIT 'size'"
    }

    fn parse(&self, parser: &mut Parser) -> Result<Option<Arc<dyn Own>>> {
        if !take_words(parser, &["ALTER", "ROLE"]) && !take_words(parser, &["ALTER", "USER"]) {
            return Ok(None);
        }
        let name = folded(&parser.parse_identifier().map_err(syntax)?);
        let change = if take_words(parser, &["RENAME", "TO"]) {
            Change::Rename(folded(&parser.parse_identifier().map_err(syntax)?))
        } else {
            let options = RoleOptions::parse(parser)?;
            if options.has_memberships() {
                return Err(Error::new(Kind::Syntax, "ALTER ROLE does not change who is in a role")
                    .hint("GRANT role TO member, or REVOKE role FROM member"));
            }
            Change::Options(Box::new(options))
        };
        Ok(Some(Arc::new(AlterRole { name, change })))
    }
}

#[async_trait]
impl Own for AlterRole {
    async fn run(&self, session: &Session, run: &Run) -> Result<Answer> {
        let (store, rights) = (&session.store(), session.rights()?);
        let role = role_named(session, &rights, &self.name)?;
        let own_password = match &self.change {
            Change::Options(options) => options.is_password_only() && role.id == rights.role(),
            Change::Rename(_) => false,
        };
        if !own_password {
            must_manage_roles(&rights, "permission denied")?;
        }
        if role.superuser {
            rights.must_be_superuser("alter superuser roles or change superuser attribute")?;
        }
        match &self.change {
            Change::Options(options) => {
                options.must_be_allowed(&rights, "alter")?;
                if role.id == RoleId::FIRST && options.change.superuser == Some(false) {
                    let message = format!("role \"{}\" must be superuser", role.name);
                    return Err(Error::new(Kind::Denied, message).hint("the data directory began with it"));
                }
                let was_locked = store.access().is_locked();
                let change = options.change(run)?;
                store.alter_role(role.id, &change)?;
                if let Some(most) = change.statement_limit {
                    session.engine.shares.of(role.id).limit(most);
                }
                options.warn_of_limits(&role.name, change.login.unwrap_or(role.login), run);
                if was_locked && !store.access().is_locked() {
                    run.warning(
                        "no superuser has a password any more: who is on this machine is let in without one",
                        "ALTER ROLE … PASSWORD sets one",
                    );
                }
            }
            Change::Rename(to) => {
                check_role_name(to)?;
                if role.id == session.identity().session_role {
                    return Err(Error::unsupported("session user cannot be renamed"));
                }
                store.rename_role(role.id, to)?;
            }
        }
        session.audit("ALTER ROLE", &role.name);
        Ok(Answer::Done("ALTER ROLE".to_owned()))
    }
}
