//! MySQL and MariaDB: their types, what of a plan they can do, rows of the binary protocol into Arrow.

mod decode;
mod dialect;
mod import;
mod server;
mod sql;
mod types;

use std::sync::Arc;

use self::server::Server;
use crate::error::Result;
use crate::foreign::options::{Of, Options, port};
use crate::foreign::wrapper::{Database, Wrapper};

pub struct MySqlWrapper;

const PORT: u16 = 3306;

const OPTIONS: &[(&str, Of, &str)] = &[
    ("host", Of::Server, "a name, an address or the file of a socket; localhost"),
    ("port", Of::Server, "1 to 65535; 3306"),
    ("dbname", Of::Server, "the database that tables are looked for in"),
    (
        "sslmode",
        Of::Server,
        "disable, prefer (encrypted where the server can), require (encrypted), verify-ca (by an authority that is known), \
         verify-full (and the server is who it says); prefer",
    ),
    ("sslrootcert", Of::Server, "a PEM file of authorities, for verify-ca and verify-full"),
    ("connect_timeout", Of::Server, "seconds, 1 to 3600; 10"),
    ("user", Of::User, "the user over there"),
    ("password", Of::User, "its password: kept encrypted, and never shown"),
    ("password_env", Of::User, "the variable in the environment of this server that holds the password"),
];

impl Wrapper for MySqlWrapper {
    fn names(&self) -> &'static [&'static str] {
        &["mysql", "mysql_fdw", "mariadb"]
    }

    fn options(&self) -> &'static [(&'static str, Of, &'static str)] {
        OPTIONS
    }

    fn check(&self, options: &Options) -> Result<()> {
        port(options, PORT).map(|_| ())
    }

    fn schema(&self, options: &Options) -> Option<String> {
        options.get("dbname").cloned()
    }

    fn server(&self, name: &str, options: &Options) -> Result<Arc<dyn Database>> {
        Ok(Arc::new(Server::new(name, options)?))
    }
}
