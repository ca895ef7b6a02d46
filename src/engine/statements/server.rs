//! `CREATE SERVER`, `ALTER SERVER` and `DROP SERVER`: other databases, by name.

pub(super) mod options;

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::sql::sqlparser::parser::Parser;

use self::options::{Changes, Given};
use crate::engine::statement::{self, Own, folded, syntax, take_words};
use crate::engine::statements::create_role::names;
use crate::engine::{Answer, Run, Session};
use crate::error::Result;
use crate::foreign::{Of, SECRET, check, wrapper};

pub struct Grammar;
pub struct AlterGrammar;
pub struct DropGrammar;

#[derive(Debug)]
struct CreateServer {
    name: String,
    if_not_exists: bool,
    wrapper: String,
    options: Given,
}

#[derive(Debug)]
struct AlterServer {
    name: String,
    changes: Changes,
}

#[derive(Debug)]
struct DropServer {
    names: Vec<String>,
    if_exists: bool,
    cascade: bool,
}

impl statement::Grammar for Grammar {
    fn name(&self) -> &'static str {
        "CREATE SERVER"
    }

    fn doc(&self) -> &'static str {
        "Names a PostgreSQL or MySQL database whose tables are to be read here, live, as foreign tables: IMPORT FOREIGN SCHEMA makes \
         them. Queries of them are sent there: conditions, columns, first rows, and joins and aggregates of tables of one \
         server, so far as they mean the same there; the rest is done here. All scans of one query see one state of the \
         server. Nothing is written there. Options are host, port, dbname, sslmode, sslrootcert and connect_timeout, and \
         user, password and password_env for every role that has no user mapping. A password is kept encrypted, under a key in the \
         data directory, and no view, log or error shows it; password_env names a variable in the server's environment \
         instead. The wrapper mysql, also for MariaDB, is in programs that were built with the feature mysql; its schemas are \
         the databases of the server, and dbname is the one that tables are looked for in. For superusers. ml.servers shows \
         what there is."
    }

    fn syntax(&self) -> &'static str {
        "CREATE SERVER [IF NOT EXISTS] name FOREIGN DATA WRAPPER { postgres | mysql }\n\
         \x20 OPTIONS (host 'name', port '5432', dbname 'name'\n\
         \x20          [, sslmode { 'disable' | 'prefer' | 'require' | 'verify-ca' | 'verify-full' }] [, sslrootcert 'file']\n\
         \x20          [, connect_timeout 'seconds'] [, user 'name'] [, { password 'text' | password_env 'VARIABLE' }])"
    }

    fn parse(&self, parser: &mut Parser) -> Result<Option<Arc<dyn Own>>> {
        if !take_words(parser, &["CREATE", "SERVER"]) {
            return Ok(None);
        }
        let if_not_exists = take_words(parser, &["IF", "NOT", "EXISTS"]);
        let name = folded(&parser.parse_identifier().map_err(syntax)?);
        for what in ["TYPE", "VERSION"] {
            if take_words(parser, &[what]) {
                parser.parse_literal_string().map_err(syntax)?;
            }
        }
        if !take_words(parser, &["FOREIGN", "DATA", "WRAPPER"]) {
            return parser.expected("FOREIGN DATA WRAPPER", parser.peek_token()).map_err(syntax);
        }
        let wrapper = folded(&parser.parse_identifier().map_err(syntax)?);
        Ok(Some(Arc::new(CreateServer { name, if_not_exists, wrapper, options: Given::parse(parser)? })))
    }
}

impl statement::Grammar for AlterGrammar {
    fn name(&self) -> &'static str {
        "ALTER SERVER"
    }

    fn doc(&self) -> &'static str {
        "Adds, changes or drops options of a foreign server. The next query connects anew. For superusers."
    }

    fn syntax(&self) -> &'static str {
        "ALTER SERVER name OPTIONS ([ADD | SET | DROP] option ['value'] [, …])"
    }

    fn parse(&self, parser: &mut Parser) -> Result<Option<Arc<dyn Own>>> {
        if !take_words(parser, &["ALTER", "SERVER"]) {
            return Ok(None);
        }
        let name = folded(&parser.parse_identifier().map_err(syntax)?);
        Ok(Some(Arc::new(AlterServer { name, changes: Changes::parse(parser)? })))
    }
}

impl statement::Grammar for DropGrammar {
    fn name(&self) -> &'static str {
        "DROP SERVER"
    }

    fn doc(&self) -> &'static str {
        "Forgets a foreign server; with CASCADE also the users of it and its foreign tables here. Nothing happens there. For \
         superusers."
    }

    fn syntax(&self) -> &'static str {
        "DROP SERVER [IF EXISTS] name [, …] [CASCADE | RESTRICT]"
    }

    fn parse(&self, parser: &mut Parser) -> Result<Option<Arc<dyn Own>>> {
        if !take_words(parser, &["DROP", "SERVER"]) {
            return Ok(None);
        }
        let if_exists = take_words(parser, &["IF", "EXISTS"]);
        let names = names(parser)?;
        let cascade = take_words(parser, &["CASCADE"]);
        let _ = take_words(parser, &["RESTRICT"]);
        Ok(Some(Arc::new(DropServer { names, if_exists, cascade })))
    }
}

#[async_trait]
impl Own for CreateServer {
    async fn run(&self, session: &Session, run: &Run) -> Result<Answer> {
        session.may_write("CREATE SERVER")?;
        session.rights()?.must_be_superuser("create servers")?;
        let kind = wrapper(&self.wrapper)?;
        check(kind, &self.options.0, Of::Server)?;
        let store = &session.store();
        if self.if_not_exists && store.foreign_servers().find(&self.name).is_some() {
            run.notice(format!("server \"{}\" already exists, skipping", self.name));
        } else {
            let name = kind.names().first().copied().unwrap_or(&self.wrapper);
            store.create_server(&self.name, name, &self.options.0, SECRET)?;
        }
        session.audit("CREATE SERVER", &self.name);
        Ok(Answer::Done("CREATE SERVER".to_owned()))
    }
}

#[async_trait]
impl Own for AlterServer {
    async fn run(&self, session: &Session, _run: &Run) -> Result<Answer> {
        session.may_write("ALTER SERVER")?;
        session.rights()?.must_be_superuser("alter servers")?;
        let store = &session.store();
        let servers = store.foreign_servers();
        let server = servers.must_find(&self.name)?;
        let options = self.changes.over(store.server_options(server)?)?;
        check(wrapper(&server.wrapper)?, &options, Of::Server)?;
        store.set_server_options(server.id, &options, SECRET)?;
        session.sight().gateway.forget(server.id);
        session.audit("ALTER SERVER", &self.name);
        Ok(Answer::Done("ALTER SERVER".to_owned()))
    }
}

#[async_trait]
impl Own for DropServer {
    async fn run(&self, session: &Session, run: &Run) -> Result<Answer> {
        session.may_write("DROP SERVER")?;
        session.rights()?.must_be_superuser("drop servers")?;
        let store = &session.store();
        for name in &self.names {
            let servers = store.foreign_servers();
            let server = match servers.must_find(name) {
                Ok(server) => server.id,
                Err(error) if self.if_exists => {
                    run.notice(format!("{}, skipping", error.message));
                    continue;
                }
                Err(error) => return Err(error),
            };
            let dropped = store.drop_server(name, self.cascade)?;
            if !dropped.is_empty() {
                run.notice(format!("drop cascades to {} foreign tables", dropped.len()));
            }
            session.sight().gateway.forget(server);
            session.audit("DROP SERVER", name);
        }
        Ok(Answer::Done("DROP SERVER".to_owned()))
    }
}
