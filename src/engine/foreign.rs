//! Foreign tables as queries reach them: which server, and as whom.

use std::fmt;
use std::sync::Arc;

use datafusion::catalog::TableProvider;

use crate::error::{Error, Kind, Result};
use crate::foreign::{Database, ForeignTable, Options, RemoteTable, Servers, wrapper};
use crate::storage::{Foreign, ForeignServer, Relation, RoleId, Store};

/// The way to foreign servers.
pub struct Gateway {
    store: Arc<Store>,
    servers: Arc<Servers>,
    environment: fn(&str) -> Option<String>,
}

/// A foreign table, before it is known who reads it.
#[derive(Debug)]
pub struct Unread {
    gateway: Arc<Gateway>,
    server: i64,
    pub table: RemoteTable,
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gateway")
    }
}

impl Gateway {
    pub fn new(store: Arc<Store>, environment: fn(&str) -> Option<String>) -> Self {
        Self { store, servers: Arc::default(), environment }
    }

    /// The same way, for those who see this store.
    pub fn with_store(&self, store: Arc<Store>) -> Self {
        Self { store, servers: Arc::clone(&self.servers), environment: self.environment }
    }

    /// What a relation reads over there.
    pub fn unread(self: &Arc<Self>, relation: &Relation, foreign: &Foreign) -> Result<Unread> {
        let table = RemoteTable::from_json(&foreign.table).map_err(|error| Error {
            message: format!("foreign table \"{}\" is damaged: {error}", relation.name),
            ..error
        })?;
        Ok(Unread { gateway: Arc::clone(self), server: foreign.server, table })
    }

    /// A server as a role sees it: the role's own user over there, or else everybody's, or else that of the server's options.
    ///
    /// # Errors
    /// 42704 if the role is nobody over there, 55000 if a password is not where it was, 0A000 if this program was built without
    /// what talks to such a server.
    pub fn server(&self, server: &ForeignServer, role: RoleId) -> Result<Arc<dyn Database>> {
        let known = self.store.foreign_servers();
        let mapping = known.mapping(server.id, role).or_else(|| known.mapping(server.id, RoleId::PUBLIC));
        let mut options = self.store.server_options(server)?;
        let access = self.store.access();
        let role_name = access.name(role);
        match mapping {
            Some(mapping) => {
                // One user's name and another's password do not go together.
                options.retain(|name, _| !["user", "password", "password_env"].contains(&name.as_str()));
                options.extend(self.store.mapping_options(mapping)?);
                options.entry("user".to_owned()).or_insert_with(|| role_name.to_owned());
            }
            None if options.contains_key("user") => {}
            None => {
                return Err(Error::new(Kind::UnknownServer, format!("user mapping not found for \"{role_name}\""))
                    .hint(format!(
                        "CREATE USER MAPPING FOR {role_name} SERVER {} OPTIONS (user '…', password '…')",
                        server.name
                    )));
            }
        }
        self.with_password(&mut options, &server.name)?;
        self.servers.get(server.id, wrapper(&server.wrapper)?, &server.name, options)
    }

    /// Looks a password up where the options say that it is.
    fn with_password(&self, options: &mut Options, server: &str) -> Result<()> {
        let Some(variable) = options.remove("password_env") else { return Ok(()) };
        let password = (self.environment)(&variable).ok_or_else(|| {
            let message = format!("the password for server \"{server}\" is not there: {variable} is not set");
            Error::new(Kind::NotReady, message)
                .hint("set the variable in the environment of the server and start it again")
        })?;
        options.insert(crate::foreign::SECRET.to_owned(), password);
        Ok(())
    }

    /// Closes what is open to a server.
    pub fn forget(&self, server: i64) {
        self.servers.forget(server);
    }
}

impl Unread {
    /// The table as a role reads it.
    pub fn read_by(&self, role: RoleId) -> Result<Arc<dyn TableProvider>> {
        let servers = self.gateway.store.foreign_servers();
        let server = servers.get(self.server).ok_or_else(|| {
            Error::new(Kind::UnknownServer, "the server of a foreign table was dropped while the table was read")
        })?;
        let server = self.gateway.server(server, role)?;
        Ok(Arc::new(ForeignTable::new(server, self.table.clone())?))
    }
}
