//! `CREATE USER MAPPING` and its kin: whom a role is on a foreign server.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::sql::sqlparser::parser::Parser;

use crate::engine::statement::{self, Own, folded, syntax, take_words};
use crate::engine::statements::drop_role::role_named;
use crate::engine::statements::server::options::{Changes, Given};
use crate::engine::{Answer, Run, Session};
use crate::error::{Error, Kind, Result};
use crate::foreign::{Of, SECRET, Wrapper, check, wrapper};
use crate::storage::RoleId;

pub struct Grammar;
pub struct AlterGrammar;
pub struct DropGrammar;

#[derive(Debug)]
struct CreateMapping {
    of: Mapping,
    if_not_exists: bool,
    options: Given,
}

#[derive(Debug)]
struct AlterMapping {
    of: Mapping,
    changes: Changes,
}

#[derive(Debug)]
struct DropMapping {
    of: Mapping,
    if_exists: bool,
}

/// `FOR role SERVER name`.
#[derive(Debug)]
struct Mapping {
    role: String,
    server: String,
}

impl statement::Grammar for Grammar {
    fn name(&self) -> &'static str {
        "CREATE USER MAPPING"
    }

    fn doc(&self) -> &'static str {
        "Says as whom a role connects to a foreign server: its own mapping first, else that of PUBLIC, else the user in the \
         options of the server. A view reads as its owner. Without user it is the role's own name. A password is kept encrypted and \
         never shown; password_env names a variable in the server's environment that holds it. For superusers."
    }

    fn syntax(&self) -> &'static str {
        "CREATE USER MAPPING [IF NOT EXISTS] FOR { role | CURRENT_USER | PUBLIC } SERVER name\n\
         \x20 [OPTIONS (user 'name' [, { password 'text' | password_env 'VARIABLE' }])]"
    }

    fn parse(&self, parser: &mut Parser) -> Result<Option<Arc<dyn Own>>> {
        if !take_words(parser, &["CREATE", "USER", "MAPPING"]) {
            return Ok(None);
        }
        let if_not_exists = take_words(parser, &["IF", "NOT", "EXISTS"]);
        let of = Mapping::parse(parser)?;
        Ok(Some(Arc::new(CreateMapping { of, if_not_exists, options: Given::parse(parser)? })))
    }
}

impl statement::Grammar for AlterGrammar {
    fn name(&self) -> &'static str {
        "ALTER USER MAPPING"
    }

    fn doc(&self) -> &'static str {
        "Adds, changes or drops options of a user mapping. The next query connects anew. For superusers."
    }

    fn syntax(&self) -> &'static str {
        "ALTER USER MAPPING FOR { role | CURRENT_USER | PUBLIC } SERVER name\n\
         \x20 OPTIONS ([ADD | SET | DROP] option ['value'] [, …])"
    }

    fn parse(&self, parser: &mut Parser) -> Result<Option<Arc<dyn Own>>> {
        if !take_words(parser, &["ALTER", "USER", "MAPPING"]) {
            return Ok(None);
        }
        let of = Mapping::parse(parser)?;
        Ok(Some(Arc::new(AlterMapping { of, changes: Changes::parse(parser)? })))
    }
}

impl statement::Grammar for DropGrammar {
    fn name(&self) -> &'static str {
        "DROP USER MAPPING"
    }

    fn doc(&self) -> &'static str {
        "Forgets whom a role is on a foreign server. For superusers."
    }

    fn syntax(&self) -> &'static str {
        "DROP USER MAPPING [IF EXISTS] FOR { role | CURRENT_USER | PUBLIC } SERVER name"
    }

    fn parse(&self, parser: &mut Parser) -> Result<Option<Arc<dyn Own>>> {
        if !take_words(parser, &["DROP", "USER", "MAPPING"]) {
            return Ok(None);
        }
        let if_exists = take_words(parser, &["IF", "EXISTS"]);
        Ok(Some(Arc::new(DropMapping { of: Mapping::parse(parser)?, if_exists })))
    }
}

impl Mapping {
    fn parse(parser: &mut Parser) -> Result<Self> {
        if !take_words(parser, &["FOR"]) {
            return parser.expected("FOR", parser.peek_token()).map_err(syntax);
        }
        let role = match take_words(parser, &["USER"]) {
            true => "current_user".to_owned(),
            false => folded(&parser.parse_identifier().map_err(syntax)?),
        };
        if !take_words(parser, &["SERVER"]) {
            return parser.expected("SERVER", parser.peek_token()).map_err(syntax);
        }
        Ok(Self { role, server: folded(&parser.parse_identifier().map_err(syntax)?) })
    }

    /// What kind of database the server is.
    fn kind(&self, session: &Session) -> Result<&'static dyn Wrapper> {
        wrapper(&session.store().foreign_servers().must_find(&self.server)?.wrapper)
    }

    /// The role and the server that are meant.
    fn found(&self, session: &Session) -> Result<(RoleId, i64)> {
        session.may_write("USER MAPPING")?;
        let rights = session.rights()?;
        rights.must_be_superuser("say who roles are on a server")?;
        let role = match self.role.as_str() {
            "public" => RoleId::PUBLIC,
            name => role_named(session, &rights, name)?.id,
        };
        Ok((role, session.store().foreign_servers().must_find(&self.server)?.id))
    }

    fn missing(&self) -> Error {
        let message = format!("user mapping for \"{}\" does not exist for server \"{}\"", self.role, self.server);
        Error::new(Kind::UnknownServer, message)
    }

    fn done(&self, session: &Session, tag: &str) -> Answer {
        session.audit(tag, &format!("FOR {} SERVER {}", self.role, self.server));
        Answer::Done(tag.to_owned())
    }
}

#[async_trait]
impl Own for CreateMapping {
    async fn run(&self, session: &Session, run: &Run) -> Result<Answer> {
        let (role, server) = self.of.found(session)?;
        check(self.of.kind(session)?, &self.options.0, Of::User)?;
        let store = &session.store();
        match store.foreign_servers().mapping(server, role) {
            Some(_) => {
                let (role, server) = (&self.of.role, &self.of.server);
                let message = format!("user mapping for \"{role}\" already exists for server \"{server}\"");
                if !self.if_not_exists {
                    return Err(Error::new(Kind::ObjectExists, message).hint("ALTER USER MAPPING changes it"));
                }
                run.notice(format!("{message}, skipping"));
            }
            None => store.set_mapping(server, role, &self.options.0, SECRET)?,
        }
        Ok(self.of.done(session, "CREATE USER MAPPING"))
    }
}

#[async_trait]
impl Own for AlterMapping {
    async fn run(&self, session: &Session, _run: &Run) -> Result<Answer> {
        let (role, server) = self.of.found(session)?;
        let store = &session.store();
        let servers = store.foreign_servers();
        let mapping = servers.mapping(server, role).ok_or_else(|| self.of.missing())?;
        let options = self.changes.over(store.mapping_options(mapping)?)?;
        check(self.of.kind(session)?, &options, Of::User)?;
        store.set_mapping(server, role, &options, SECRET)?;
        session.sight().gateway.forget(server);
        Ok(self.of.done(session, "ALTER USER MAPPING"))
    }
}

#[async_trait]
impl Own for DropMapping {
    async fn run(&self, session: &Session, run: &Run) -> Result<Answer> {
        let (role, server) = match self.of.found(session) {
            Err(error) if self.if_exists && error.kind == Kind::UnknownServer => {
                run.notice(format!("{}, skipping", error.message));
                return Ok(self.of.done(session, "DROP USER MAPPING"));
            }
            found => found?,
        };
        if !session.store().drop_mapping(server, role)? {
            if !self.if_exists {
                return Err(self.of.missing());
            }
            run.notice(format!("{}, skipping", self.of.missing().message));
        }
        session.sight().gateway.forget(server);
        Ok(self.of.done(session, "DROP USER MAPPING"))
    }
}
