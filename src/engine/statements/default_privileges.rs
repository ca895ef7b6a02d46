//! `ALTER DEFAULT PRIVILEGES`: what is granted on tables and models as soon as they are made.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::sql::sqlparser::parser::Parser;

use crate::engine::statement::{self, Own, syntax, take_words};
use crate::engine::statements::create_role::names;
use crate::engine::statements::drop_role::role_named;
use crate::engine::statements::grant::{Wanted, expect, grantees, grantees_named, must_get_schema, wanted};
use crate::engine::{Answer, Run, Session};
use crate::error::{Error, Kind, Result};
use crate::storage::{DefaultGrant, DefaultOn, Privilege};

pub struct Grammar;

#[derive(Debug)]
struct Defaults {
    /// Whose new tables and models; none: the session's own.
    owners: Vec<String>,
    /// In which schemas; none: in all.
    schemas: Vec<String>,
    wanted: Vec<Wanted>,
    on: DefaultOn,
    roles: Vec<String>,
    grantable: bool,
    revoke: bool,
}

impl statement::Grammar for Grammar {
    fn name(&self) -> &'static str {
        "ALTER DEFAULT PRIVILEGES"
    }

    fn doc(&self) -> &'static str {
        "Says what is granted on tables, views and models that a role will make, as GRANT … ON ALL does on those that there are. \
         Without FOR ROLE it is about what the current role makes, without IN SCHEMA about all schemas. Where one is \
         replaced, it keeps what was granted."
    }

    fn syntax(&self) -> &'static str {
        "ALTER DEFAULT PRIVILEGES [FOR ROLE role [, …]] [IN SCHEMA schema [, …]]\n\
         \x20 GRANT privilege [, …] ON { TABLES | MODELS } TO role [, …] [WITH GRANT OPTION]\n\
         ALTER DEFAULT PRIVILEGES [FOR ROLE role [, …]] [IN SCHEMA schema [, …]]\n\
         \x20 REVOKE privilege [, …] ON { TABLES | MODELS } FROM role [, …]"
    }

    fn parse(&self, parser: &mut Parser) -> Result<Option<Arc<dyn Own>>> {
        if !take_words(parser, &["ALTER", "DEFAULT", "PRIVILEGES"]) {
            return Ok(None);
        }
        let for_roles = take_words(parser, &["FOR", "ROLE"]) || take_words(parser, &["FOR", "USER"]);
        let owners = if for_roles { names(parser)? } else { Vec::new() };
        let schemas = if take_words(parser, &["IN", "SCHEMA"]) { names(parser)? } else { Vec::new() };
        let revoke = take_words(parser, &["REVOKE"]);
        if !revoke {
            expect(parser, "GRANT")?;
        }
        let wanted = wanted(parser)?;
        expect(parser, "ON")?;
        let on = if take_words(parser, &["TABLES"]) {
            DefaultOn::Relations
        } else if take_words(parser, &["MODELS"]) {
            DefaultOn::Models
        } else {
            return parser.expected("TABLES or MODELS", parser.peek_token()).map_err(syntax);
        };
        expect(parser, if revoke { "FROM" } else { "TO" })?;
        let roles = grantees(parser)?;
        let grantable = take_words(parser, &["WITH", "GRANT", "OPTION"]);
        let _ = take_words(parser, &["CASCADE"]) || take_words(parser, &["RESTRICT"]);
        Ok(Some(Arc::new(Defaults { owners, schemas, wanted, on, roles, grantable, revoke })))
    }
}

#[async_trait]
impl Own for Defaults {
    async fn run(&self, session: &Session, _run: &Run) -> Result<Answer> {
        let rights = session.rights()?;
        let mut owners = vec![rights.role()];
        if !self.owners.is_empty() {
            owners.clear();
            for name in &self.owners {
                owners.push(role_named(session, &rights, name)?.id);
            }
        }
        if !owners.iter().all(|owner| rights.owns(*owner)) {
            return Err(Error::new(Kind::Denied, "permission denied to change default privileges"));
        }
        let mut schemas = vec![None];
        if !self.schemas.is_empty() {
            let found = self.schemas.iter().map(|name| Ok(Some(must_get_schema(session, name)?.0)));
            schemas = found.collect::<Result<_>>()?;
        }
        let (kind, all) = match self.on {
            DefaultOn::Relations => ("table", Privilege::ON_RELATIONS),
            DefaultOn::Models => ("model", Privilege::ON_MODELS),
        };
        let grantees = grantees_named(session, &rights, &self.roles)?;
        let mut defaults = Vec::new();
        for wanted in &self.wanted {
            if !wanted.columns.is_empty() {
                return Err(Error::new(Kind::InvalidGrant, "default privileges cannot be set for columns"));
            }
            for privilege in wanted.among(all, kind)? {
                for (owner, schema) in owners.iter().flat_map(|owner| schemas.iter().map(move |schema| (owner, schema)))
                {
                    defaults.extend(grantees.iter().map(|grantee| DefaultGrant {
                        owner: *owner,
                        schema: *schema,
                        on: self.on,
                        grantee: *grantee,
                        privilege,
                        grantable: self.grantable,
                    }));
                }
            }
        }
        session.store().set_default_grants(&defaults, self.revoke)?;
        session.audit("ALTER DEFAULT PRIVILEGES", &format!("{kind}s: {}", self.roles.join(", ")));
        Ok(Answer::Done("ALTER DEFAULT PRIVILEGES".to_owned()))
    }
}
