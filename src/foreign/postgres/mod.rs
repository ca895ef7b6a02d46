//! PostgreSQL: its types, what of a plan it can do, binary COPY into Arrow.

mod binary;
mod dialect;
mod import;
mod reading;
mod server;
mod snapshot;
mod sql;
mod tls;
mod types;

use std::sync::Arc;

use self::server::Server;
use crate::error::Result;
use crate::foreign::options::{Of, Options, port};
use crate::foreign::wrapper::{Database, Wrapper};

pub struct PostgresWrapper;

const PORT: u16 = 5432;

const OPTIONS: &[(&str, Of, &str)] = &[
    ("host", Of::Server, "a name, an address or the folder of a socket; localhost"),
    ("port", Of::Server, "1 to 65535; 5432"),
    ("dbname", Of::Server, "the database; as the user is called"),
    (
        "sslmode",
        Of::Server,
        "disable, prefer (encrypted where the server can), require (encrypted), verify-ca (by an authority that is known), \
         verify-full (and the server is who it says); prefer",
    ),
    ("sslrootcert", Of::Server, "a PEM file of authorities, for verify-ca and verify-full"),
    ("connect_timeout", Of::Server, "seconds, 1 to 3600; 10"),
    ("user", Of::User, "the role over there"),
    ("password", Of::User, "its password: kept encrypted, and never shown"),
    ("password_env", Of::User, "the variable in the environment of this server that holds the password"),
];

impl Wrapper for PostgresWrapper {
    fn names(&self) -> &'static [&'static str] {
        &["postgres", "postgres_fdw"]
    }

    fn options(&self) -> &'static [(&'static str, Of, &'static str)] {
        OPTIONS
    }

    fn check(&self, options: &Options) -> Result<()> {
        port(options, PORT).map(|_| ())
    }

    fn schema(&self, _: &Options) -> Option<String> {
        Some("public".to_owned())
    }

    fn server(&self, name: &str, options: &Options) -> Result<Arc<dyn Database>> {
        Ok(Arc::new(Server::new(name, options)?))
    }
}
