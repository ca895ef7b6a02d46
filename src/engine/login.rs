//! Who is let in: what a client has to prove, and how many of a role there may be at a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::engine::session::lock;
use crate::engine::{Engine, Run, Session};
use crate::error::{Error, Kind, Result};
use crate::storage::{Access, Role, RoleChange, RoleId, Verifier};

/// What stands between a client and its session.
#[derive(Debug)]
pub enum Door {
    /// Nothing: no superuser has a password, and the client is on this machine.
    Open,
    Locked(Asked),
}

/// What a client is asked for.
#[derive(Debug)]
pub struct Asked {
    /// What its password is checked against, `SCRAM-SHA-256$4096:salt$StoredKey:ServerKey`. Of a user who does not exist,
    /// too: nobody can find out by trying who does.
    pub verifier: Verifier,
    /// Whether the right password lets it in.
    pub opens: bool,
}

impl Engine {
    /// What a client must show to be let in as that user. `local`: it is on this machine.
    pub fn door(&self, user: &str, local: bool) -> Door {
        let access = self.sight.store.access();
        let now = chrono::Utc::now().timestamp_micros();
        match access.find(user) {
            Some(Role { verifier: Some(verifier), .. }) => {
                let opens = access.find(user).is_some_and(|role| !role.is_expired(now));
                Door::Locked(Asked { verifier: verifier.clone(), opens })
            }
            _ if local && !access.is_locked() => Door::Open,
            _ => Door::Locked(Asked { verifier: mock(&access.mock_key, user), opens: false }),
        }
    }

    /// Whether a superuser has a password. Without one only this machine is served.
    pub fn is_locked(&self) -> bool {
        self.sight.store.access().is_locked()
    }

    /// The password of the superuser that the data directory began with, unless it has one. Answers whether it was set.
    pub fn set_first_password(&self, password: &str) -> Result<bool> {
        let access = self.sight.store.access();
        if access.role(RoleId::FIRST).is_none_or(|role| role.verifier.is_some()) {
            return Ok(false);
        }
        let verifier = verifier(password)?
            .ok_or_else(|| Error::invalid("the password is empty").hint("put one into COHORT_PASSWORD or the file"))?;
        self.sight
            .store
            .alter_role(RoleId::FIRST, &RoleChange { verifier: Some(Some(verifier)), ..RoleChange::default() })?;
        Ok(true)
    }

    /// A session for whoever may open the data directory itself: no password keeps them from anything in it.
    pub fn local_session(self: &Arc<Self>) -> Result<Session> {
        let access = self.sight.store.access();
        let first = access.role(RoleId::FIRST).ok_or_else(|| Error::corrupt("the first superuser is lost"))?;
        Session::new(Arc::clone(self), first)
    }
}

/// The role of a user who has proved to be it, if it may log in.
pub fn admitted<'a>(access: &'a Access, user: &str) -> Result<&'a Role> {
    match access.find(user) {
        Some(role) if role.login => Ok(role),
        Some(_) => Err(Error::new(Kind::NoLogin, format!("role \"{user}\" is not permitted to log in"))
            .hint("ALTER ROLE … LOGIN permits it")),
        None => Err(Error::new(Kind::NoLogin, format!("role \"{user}\" does not exist"))),
    }
}

/// What a password is kept as; `None`: an empty one is none. Clients may have made the verifier themselves, as psql's
/// `\password` does.
pub fn verifier(password: &str) -> Result<Option<Verifier>> {
    if password.is_empty() {
        return Ok(None);
    }
    if is_verifier(password) {
        return Ok(Some(Verifier(password.to_owned())));
    }
    if password.len() == 35 && password.starts_with("md5") && password[3..].bytes().all(|c| c.is_ascii_hexdigit()) {
        return Err(Error::unsupported("MD5 passwords are not supported").hint("use scram-sha-256"));
    }
    Ok(Some(Verifier(postgres_protocol::password::scram_sha_256(password.as_bytes()))))
}

/// Whether this is a verifier and no password.
fn is_verifier(text: &str) -> bool {
    let parts = || {
        let (iterations, rest) = text.strip_prefix("SCRAM-SHA-256$")?.split_once(':')?;
        let (salt, keys) = rest.split_once('$')?;
        let (stored, server) = keys.split_once(':')?;
        let is_key = |key: &str| STANDARD.decode(key).is_ok_and(|key| key.len() == 32);
        let fits = iterations.parse::<u32>().is_ok_and(|n| n > 0) && STANDARD.decode(salt).is_ok();
        Some(fits && is_key(stored) && is_key(server))
    };
    parts().unwrap_or(false)
}

/// The verifier of a user who does not exist: the same at each try, as that of one who does.
fn mock(key: &[u8], user: &str) -> Verifier {
    let part = |what: &str| {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return [0; 32] };
        mac.update(what.as_bytes());
        mac.update(user.as_bytes());
        mac.finalize().into_bytes().into()
    };
    let (salt, stored, server) = (part("salt"), part("stored"), part("server"));
    let text = |bytes: &[u8]| STANDARD.encode(bytes);
    Verifier(format!("SCRAM-SHA-256$4096:{}${}:{}", text(&salt[..16]), text(&stored), text(&server)))
}

/// How many sessions of each role there are.
#[derive(Debug, Default)]
pub struct Connected(Mutex<HashMap<RoleId, u32>>);

/// A session's place among those of its role; it is free when this is dropped.
#[derive(Debug)]
pub struct Place {
    connected: Arc<Connected>,
    role: RoleId,
}

impl Place {
    /// A place for one session more, if the role's limit allows it.
    pub fn take(connected: &Arc<Connected>, role: &Role) -> Result<Self> {
        let mut counts = lock(&connected.0);
        let count = counts.entry(role.id).or_default();
        if let Some(limit) = role.connection_limit.filter(|limit| !role.superuser && *count >= *limit) {
            let message = format!("too many connections for role \"{}\"", role.name);
            return Err(Error::new(Kind::TooManyConnections, message).hint(format!("its limit is {limit}")));
        }
        *count += 1;
        Ok(Self { connected: Arc::clone(connected), role: role.id })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(count) = lock(&self.connected.0).get_mut(&self.role) {
            *count = count.saturating_sub(1);
        }
    }
}

impl Session {
    /// SET ROLE: from here on the session acts as that role; `None`: as itself again. `local`: until the block ends.
    pub(super) fn set_role(&self, name: Option<&str>, local: bool, run: &Run) -> Result<()> {
        let access = self.store().access();
        let mut identity = self.identity();
        let role = match name {
            None => access.role(identity.session_role),
            Some(name) => access.find(name),
        };
        let Some(role) = role else {
            return Err(Error::invalid(format!("role \"{}\" does not exist", name.unwrap_or(&identity.session))));
        };
        let is_superuser = access.role(identity.session_role).is_some_and(|role| role.superuser);
        if !is_superuser && !access.memberships_of(identity.session_role).contains(&role.id) {
            return Err(Error::new(Kind::Denied, format!("permission denied to set role \"{}\"", role.name)));
        }
        if local && !self.keep_identity() {
            run.warning("SET LOCAL can only be used in transaction blocks", "BEGIN starts one");
            return Ok(());
        }
        identity.current = Arc::from(role.name.as_str());
        identity.current_role = role.id;
        self.set_identity(identity);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifier_is_told_from_a_password() {
        let made = verifier("secret").unwrap().unwrap();
        assert!(is_verifier(&made.0) && !made.0.contains("secret"));
        assert_eq!(verifier(&made.0).unwrap(), Some(made.clone()));
        assert_ne!(verifier("secret").unwrap(), Some(made), "the salt differs");
        assert!(verifier("").unwrap().is_none());
        assert!(verifier("md5d41d8cd98f00b204e9800998ecf8427e").is_err());
        assert!(!is_verifier("SCRAM-SHA-256$4096:x$y:z"));
        assert_eq!(format!("{:?}", verifier("secret").unwrap()), "Some(***)");
    }

    #[test]
    fn users_that_do_not_exist_look_the_same_at_each_try() {
        assert_eq!(mock(b"key", "ann").0, mock(b"key", "ann").0);
        assert_ne!(mock(b"key", "ann").0, mock(b"key", "bob").0);
        assert!(is_verifier(&mock(b"key", "ann").0));
    }
}
