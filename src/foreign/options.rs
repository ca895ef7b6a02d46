//! The options of a server and of a user mapping: which there are, and what they must look like.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::foreign::wrapper::Wrapper;

/// Options by name, as they were written.
pub type Options = BTreeMap<String, String>;

/// Where an option may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    Server,
    /// Of a user mapping, or of the server for everybody.
    User,
}

/// The one option whose value nobody sees again.
pub const SECRET: &str = "password";

/// How much is checked before a connection is trusted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Encryption {
    Disable,
    Prefer,
    Require,
    /// By the authorities in that file; `host`: the certificate must be that host's, too.
    Verify {
        authorities: String,
        host: bool,
    },
}

/// Refuses an option that there is not, that does not belong there, or whose value is none.
pub fn check(kind: &dyn Wrapper, given: &Options, of: Of) -> Result<()> {
    let all = kind.options();
    for (name, value) in given {
        let found = all.iter().find(|(known, ..)| known == name);
        let Some((_, place, _)) = found.filter(|(_, place, _)| of == Of::Server || *place == Of::User) else {
            let known = all.iter().filter(|(_, place, _)| of == Of::Server || *place == Of::User);
            let known: Vec<&str> = known.map(|(name, ..)| *name).collect();
            return Err(Error::invalid(format!("invalid option \"{name}\""))
                .hint(format!("valid options in this context are: {}", known.join(", "))));
        };
        if value.contains('\0') || (*place == Of::Server && value.is_empty()) {
            return Err(Error::invalid(format!("option \"{name}\" has no value")));
        }
    }
    if given.contains_key(SECRET) && given.contains_key("password_env") {
        return Err(Error::invalid("password and password_env cannot both be given"));
    }
    connect_timeout(given)?;
    encryption(given)?;
    kind.check(given)
}

pub fn port(options: &Options, default: u16) -> Result<u16> {
    number(options, "port", default.into(), 1..=65_535).map(|port| u16::try_from(port).unwrap_or(default))
}

pub fn connect_timeout(options: &Options) -> Result<Duration> {
    number(options, "connect_timeout", 10, 1..=3_600).map(Duration::from_secs)
}

fn number(options: &Options, name: &str, default: u64, range: std::ops::RangeInclusive<u64>) -> Result<u64> {
    let Some(text) = options.get(name) else { return Ok(default) };
    text.parse().ok().filter(|number| range.contains(number)).ok_or_else(|| {
        let (low, high) = range.into_inner();
        Error::invalid(format!("option \"{name}\" must be a whole number from {low} to {high}, not \"{text}\""))
    })
}

pub fn encryption(options: &Options) -> Result<Encryption> {
    let mode = options.get("sslmode").map_or("prefer", String::as_str);
    Ok(match mode {
        "disable" => Encryption::Disable,
        "allow" | "prefer" => Encryption::Prefer,
        "require" => Encryption::Require,
        "verify-ca" | "verify-full" => {
            let authorities = options.get("sslrootcert").cloned().ok_or_else(|| {
                Error::invalid(format!("sslmode \"{mode}\" needs the option sslrootcert"))
                    .hint("name the PEM file of the authority that signed the server's certificate")
            })?;
            Encryption::Verify { authorities, host: mode == "verify-full" }
        }
        other => {
            return Err(Error::invalid(format!("invalid sslmode value \"{other}\""))
                .hint("valid values are: disable, prefer, require, verify-ca, verify-full"));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::foreign::postgres::PostgresWrapper;

    fn options(given: &[(&str, &str)]) -> Options {
        given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn options_are_checked_where_they_stand() {
        let ok = |given: &[(&str, &str)], of| check(&PostgresWrapper, &options(given), of).is_ok();
        assert!(ok(&[("host", "shop"), ("port", "5433"), ("user", "u"), ("password", "")], Of::Server));
        assert!(ok(&[("user", "u"), ("password_env", "SHOP")], Of::User));
        assert!(!ok(&[("host", "shop")], Of::User));
        assert!(!ok(&[("hots", "shop")], Of::Server));
        assert!(!ok(&[("port", "0")], Of::Server));
        assert!(!ok(&[("port", "99999")], Of::Server));
        assert!(!ok(&[("password", "a"), ("password_env", "B")], Of::User));
        assert!(!ok(&[("sslmode", "verify-full")], Of::Server));
        assert!(!ok(&[("sslmode", "sometimes")], Of::Server));
        assert!(ok(&[("sslmode", "verify-ca"), ("sslrootcert", "ca.pem")], Of::Server));
    }
}
