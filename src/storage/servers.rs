//! Foreign servers and the users of them, as the catalog keeps them.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use rusqlite::{Connection, params};

use super::access::RoleId;
use super::catalog::{Found, Reserved};
use super::external::External;
use super::relation::{RelationKind, RelationType};
use super::secrets::Secrets;
use super::state::{State, Touched};
use super::store::{IfExists, NewRelation, Store};
use crate::error::{Error, Kind, Result};

/// Options by name. Which there are is not the store's to know; which of them is a secret is.
pub type ServerOptions = BTreeMap<String, String>;

/// Options as they lie in the catalog: what anybody may see, and the rest sealed.
#[derive(Debug, Clone, Default)]
pub struct KeptOptions {
    pub shown: ServerOptions,
    sealed: Option<Vec<u8>>,
}

impl KeptOptions {
    pub fn has_secret(&self) -> bool {
        self.sealed.is_some()
    }
}

#[derive(Debug, Clone)]
pub struct ForeignServer {
    pub id: i64,
    pub name: String,
    /// Who knows how to talk to it: `postgres`.
    pub wrapper: String,
    pub options: KeptOptions,
}

/// Whom a role, or with [`RoleId::PUBLIC`] everybody else, is over there.
#[derive(Debug, Clone)]
pub struct UserMapping {
    pub server: i64,
    pub role: RoleId,
    pub options: KeptOptions,
}

/// All servers and mappings, by name and by role.
#[derive(Debug, Default)]
pub struct ForeignServers {
    servers: BTreeMap<String, ForeignServer>,
    mappings: Vec<UserMapping>,
}

impl ForeignServers {
    pub(super) fn read(db: &Connection) -> Result<Self> {
        let mut query = db.prepare("SELECT id, name, wrapper, options, sealed FROM foreign_servers")?;
        let rows = query
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get::<_, String>(3)?, row.get(4)?)))?;
        let mut servers = BTreeMap::new();
        for row in rows {
            let (id, name, wrapper, shown, sealed): (i64, String, String, String, Option<Vec<u8>>) = row?;
            let options = KeptOptions { shown: serde_json::from_str(&shown)?, sealed };
            servers.insert(name.clone(), ForeignServer { id, name, wrapper, options });
        }
        let sql = "SELECT server_id, role_id, options, sealed FROM user_mappings ORDER BY server_id, role_id";
        let mut query = db.prepare(sql)?;
        let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, String>(2)?, row.get(3)?)))?;
        let mut mappings = Vec::new();
        for row in rows {
            let (server, role, shown, sealed): (i64, i64, String, Option<Vec<u8>>) = row?;
            let options = KeptOptions { shown: serde_json::from_str(&shown)?, sealed };
            mappings.push(UserMapping { server, role: RoleId(role), options });
        }
        Ok(Self { servers, mappings })
    }

    pub fn all(&self) -> impl Iterator<Item = &ForeignServer> {
        self.servers.values()
    }

    pub fn find(&self, name: &str) -> Option<&ForeignServer> {
        self.servers.get(name)
    }

    pub fn must_find(&self, name: &str) -> Result<&ForeignServer> {
        self.find(name).ok_or_else(|| {
            Error::new(Kind::UnknownServer, format!("server \"{name}\" does not exist"))
                .suggest(name, self.servers.keys().map(String::as_str))
        })
    }

    pub fn get(&self, id: i64) -> Option<&ForeignServer> {
        self.servers.values().find(|server| server.id == id)
    }

    pub fn mappings(&self, server: i64) -> impl Iterator<Item = &UserMapping> {
        self.mappings.iter().filter(move |mapping| mapping.server == server)
    }

    /// The mapping of exactly that role.
    pub fn mapping(&self, server: i64, role: RoleId) -> Option<&UserMapping> {
        self.mappings(server).find(|mapping| mapping.role == role)
    }
}

/// A foreign table that is to be.
#[derive(Debug, Clone)]
pub struct NewForeignTable {
    pub name: String,
    pub external: External,
    pub columns: SchemaRef,
}

impl Store {
    /// New foreign tables in a schema: all of them or none.
    pub fn create_foreign_tables(&self, schema: &str, tables: &[NewForeignTable], owner: RoleId) -> Result<()> {
        let schema = schema.to_owned();
        let tables: Vec<_> = tables.iter().map(|table| (table.clone(), Reserved::default())).collect();
        self.commit(move |writing| {
            writing.state.schema_id(&schema)?;
            let mut all = Vec::new();
            for (NewForeignTable { name, external, columns }, number) in &tables {
                let claim = writing.claim(&schema, name, RelationType::External, IfExists::Error, &Found::default())?;
                let new = NewRelation { schema: &schema, name, view: None, columns, owner };
                let (id, touched) = writing.insert(new, claim, number)?;
                let external = serde_json::to_string(external)?;
                writing.db.execute("UPDATE relations SET external = ?2 WHERE id = ?1", params![id, external])?;
                all.extend(touched);
            }
            Ok(((), all))
        })
    }

    /// The foreign servers and their users, from memory.
    pub fn foreign_servers(&self) -> Arc<ForeignServers> {
        Arc::clone(&self.state().servers)
    }

    pub fn create_server(&self, name: &str, wrapper: &str, options: &ServerOptions, secret: &str) -> Result<()> {
        let (number, directory) = (Reserved::default(), Arc::clone(&self.directory));
        let ([name, wrapper, secret], options) = ([name, wrapper, secret].map(str::to_owned), options.clone());
        self.commit(move |writing| {
            if writing.state.servers.find(&name).is_some() {
                return Err(Error::new(Kind::ObjectExists, format!("server \"{name}\" already exists")));
            }
            let id = writing.number("foreign_servers", &number);
            let (shown, sealed) = directory.secrets.kept(&options, &secret, &server_label(id))?;
            let sql = "INSERT INTO foreign_servers (id, name, wrapper, options, sealed) VALUES (?1, ?2, ?3, ?4, ?5)";
            writing.db.execute(sql, params![id, name, wrapper, shown, sealed])?;
            Ok(((), vec![Touched::Servers]))
        })
    }

    /// Puts other options in the place of all that a server has. The one called `secret` is sealed.
    pub fn set_server_options(&self, server: i64, options: &ServerOptions, secret: &str) -> Result<()> {
        let (shown, sealed) = self.directory.secrets.kept(options, secret, &server_label(server))?;
        self.commit(move |writing| {
            let sql = "UPDATE foreign_servers SET options = ?2, sealed = ?3 WHERE id = ?1";
            writing.db.execute(sql, params![server, shown, sealed])?;
            Ok(((), vec![Touched::Servers]))
        })
    }

    /// Drops a server; with `cascade` also the users of it and the tables that are read from it, which are answered by schema
    /// and name.
    pub fn drop_server(&self, name: &str, cascade: bool) -> Result<Vec<(String, String)>> {
        let name = name.to_owned();
        self.commit(move |writing| {
            let servers = &writing.state.servers;
            let server = servers.must_find(&name)?.id;
            let tables = tables_of_server(writing.state, server);
            let mappings = servers.mappings(server).count();
            if !cascade && (mappings > 0 || !tables.is_empty()) {
                let message = format!("cannot drop server {name} because other objects depend on it");
                let hint = format!(
                    "{mappings} user mappings and {} foreign tables do: DROP SERVER … CASCADE drops them too",
                    tables.len()
                );
                return Err(Error::new(Kind::StillNeeded, message).hint(hint));
            }
            let mut touched = vec![Touched::Servers, Touched::Access];
            for (schema, table) in &tables {
                let id = writing.state.schema_id(schema)?;
                writing.db.execute("DELETE FROM relations WHERE schema_id = ?1 AND name = ?2", params![id, table])?;
                touched.push(Touched::Relation(schema.clone(), table.clone()));
            }
            writing.db.execute("DELETE FROM foreign_servers WHERE id = ?1", [server])?;
            super::roles::forget_rights(writing.db)?;
            Ok((tables, touched))
        })
    }

    /// Says whom a role is on a server, or says it anew.
    pub fn set_mapping(&self, server: i64, role: RoleId, options: &ServerOptions, secret: &str) -> Result<()> {
        let (shown, sealed) = self.directory.secrets.kept(options, secret, &mapping_label(server, role))?;
        self.commit(move |writing| {
            let sql = "INSERT OR REPLACE INTO user_mappings (server_id, role_id, options, sealed)
                       VALUES (?1, ?2, ?3, ?4)";
            writing.db.execute(sql, params![server, role.0, shown, sealed])?;
            Ok(((), vec![Touched::Servers]))
        })
    }

    /// Answers whether there was one.
    pub fn drop_mapping(&self, server: i64, role: RoleId) -> Result<bool> {
        self.commit(move |writing| {
            let sql = "DELETE FROM user_mappings WHERE server_id = ?1 AND role_id = ?2";
            Ok((writing.db.execute(sql, params![server, role.0])? > 0, vec![Touched::Servers]))
        })
    }

    /// All options of a server, its secrets opened.
    pub fn server_options(&self, server: &ForeignServer) -> Result<ServerOptions> {
        self.directory.secrets.opened(&server.options, &server_label(server.id))
    }

    /// The same of a mapping.
    pub fn mapping_options(&self, mapping: &UserMapping) -> Result<ServerOptions> {
        self.directory.secrets.opened(&mapping.options, &mapping_label(mapping.server, mapping.role))
    }
}

impl Secrets {
    /// Options as they are stored: what anybody may see, and sealed what nobody may.
    fn kept(&self, options: &ServerOptions, secret: &str, whose: &str) -> Result<(String, Option<Vec<u8>>)> {
        let (hidden, shown): (ServerOptions, ServerOptions) =
            options.clone().into_iter().partition(|(name, _)| name == secret);
        let sealed = match hidden.is_empty() {
            true => None,
            false => Some(self.seal(serde_json::to_string(&hidden)?.as_bytes(), whose)?),
        };
        Ok((serde_json::to_string(&shown)?, sealed))
    }

    fn opened(&self, kept: &KeptOptions, whose: &str) -> Result<ServerOptions> {
        let mut options = kept.shown.clone();
        if let Some(sealed) = &kept.sealed {
            let hidden: ServerOptions = serde_json::from_slice(&self.open(sealed, whose)?)?;
            options.extend(hidden);
        }
        Ok(options)
    }
}

fn tables_of_server(state: &State, server: i64) -> Vec<(String, String)> {
    let read = state.relations().filter(|relation| match &relation.kind {
        RelationKind::External(external) => external.foreign.as_ref().is_some_and(|of| of.server == server),
        _ => false,
    });
    read.map(|relation| (relation.schema.clone(), relation.name.clone())).collect()
}

fn server_label(server: i64) -> String {
    format!("server {server}")
}

fn mapping_label(server: i64, role: RoleId) -> String {
    format!("server {server} role {}", role.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(given: &[(&str, &str)]) -> ServerOptions {
        given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn secrets_outlive_a_restart_and_are_nowhere_in_plain() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let given = options(&[("host", "db.shop"), ("password", "swordfish-1")]);
        store.create_server("shop", "postgres", &given, "password").unwrap();
        let id = store.foreign_servers().must_find("shop").unwrap().id;
        let user = options(&[("user", "ann"), ("password", "swordfish-2")]);
        store.set_mapping(id, RoleId::PUBLIC, &user, "password").unwrap();
        drop(store);
        for file in ["catalog.db", "catalog.db-wal"] {
            let bytes = std::fs::read(dir.path().join(file)).unwrap_or_default();
            assert!(!bytes.windows(9).any(|nine| nine == b"swordfish"), "{file}");
        }
        let store = Store::open(dir.path()).unwrap();
        let servers = store.foreign_servers();
        let server = servers.must_find("shop").unwrap();
        assert_eq!(server.options.shown, options(&[("host", "db.shop")]));
        assert!(server.options.has_secret());
        assert_eq!(store.server_options(server).unwrap(), given);
        let mapping = servers.mapping(id, RoleId::PUBLIC).unwrap();
        assert_eq!(store.mapping_options(mapping).unwrap(), user);
        assert_eq!(store.drop_server("shop", false).unwrap_err().kind, Kind::StillNeeded);
        store.drop_server("shop", true).unwrap();
        assert!(store.foreign_servers().find("shop").is_none());
        assert_eq!(store.drop_server("shop", true).unwrap_err().kind, Kind::UnknownServer);
    }
}
