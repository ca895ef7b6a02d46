//! `DROP ROLE`: a role that owns nothing goes, with all that was granted to it.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::sql::sqlparser::parser::Parser;

use crate::engine::rights::Rights;
use crate::engine::statement::{self, Own, take_words};
use crate::engine::statements::create_role::{must_manage_roles, names};
use crate::engine::{Answer, Run, Session};
use crate::error::{Error, Kind, Result};
use crate::storage::{Role, RoleId};

pub struct Grammar;

#[derive(Debug)]
struct DropRole {
    names: Vec<String>,
    if_exists: bool,
}

impl statement::Grammar for Grammar {
    fn name(&self) -> &'static str {
        "DROP ROLE"
    }

    fn doc(&self) -> &'static str {
        "Removes roles, with their memberships and all that was granted to them. A role that owns something stays: give \
         it to another first, with REASSIGN OWNED."
    }

    fn syntax(&self) -> &'static str {
        "DROP { ROLE | USER | GROUP } [IF EXISTS] name [, …]"
    }

    fn parse(&self, parser: &mut Parser) -> Result<Option<Arc<dyn Own>>> {
        if !["ROLE", "USER", "GROUP"].iter().any(|word| take_words(parser, &["DROP", word])) {
            return Ok(None);
        }
        let if_exists = take_words(parser, &["IF", "EXISTS"]);
        Ok(Some(Arc::new(DropRole { names: names(parser)?, if_exists })))
    }
}

#[async_trait]
impl Own for DropRole {
    async fn run(&self, session: &Session, run: &Run) -> Result<Answer> {
        let rights = session.rights()?;
        must_manage_roles(&rights, "permission denied to drop role")?;
        let mut roles = Vec::new();
        for name in &self.names {
            if self.if_exists && rights.access().find(name).is_none() {
                run.notice(format!("role \"{name}\" does not exist, skipping"));
                continue;
            }
            let role = rights.access().must_find(name)?;
            if role.superuser {
                rights.must_be_superuser("drop superusers")?;
            }
            let identity = session.identity();
            for (who, what) in [(identity.current_role, "current"), (identity.session_role, "session")] {
                if role.id == who {
                    return Err(Error::new(Kind::InUse, format!("{what} user cannot be dropped")));
                }
            }
            if role.id == RoleId::FIRST {
                let message = format!("cannot drop role \"{name}\" because it is required by the database system");
                return Err(Error::new(Kind::StillNeeded, message));
            }
            roles.push(role.id);
        }
        session.store().drop_roles(&roles)?;
        session.audit("DROP ROLE", &self.names.join(", "));
        Ok(Answer::Done("DROP ROLE".to_owned()))
    }
}

/// The role of that name, which may be the session's own.
pub(super) fn role_named(session: &Session, rights: &Rights, name: &str) -> Result<Role> {
    let identity = session.identity();
    let name = match name {
        "current_user" | "current_role" => &identity.current,
        "session_user" => &identity.session,
        name => name,
    };
    rights.access().must_find(name).cloned()
}
