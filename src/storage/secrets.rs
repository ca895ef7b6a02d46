//! Secrets at rest: sealed with a key that lies beside the catalog, so that the catalog alone gives nothing away.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};

use super::disk::sync_dir;
use crate::error::{Error, Kind, Result};

const FILE: &str = "secret.key";
const KEY_BYTES: usize = 32;

/// The key of a data directory, read when it is first needed and made when it is first needed to seal.
pub(super) struct Secrets {
    root: PathBuf,
    key: OnceLock<LessSafeKey>,
}

impl Secrets {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), key: OnceLock::new() }
    }

    /// The secret as it may be written down, by AES-256-GCM: nonce, then text, then tag. `whose` says what it belongs to; sealed
    /// for one thing it cannot be opened for another.
    pub(super) fn seal(&self, secret: &[u8], whose: &str) -> Result<Vec<u8>> {
        let key = self.key(true)?;
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| no_randomness())?;
        let mut sealed = secret.to_vec();
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(whose.as_bytes()), &mut sealed)
            .map_err(|_| Error::internal("a secret could not be sealed"))?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    /// The secret again.
    ///
    /// # Errors
    /// 55000 if the key is gone or is another.
    pub(super) fn open(&self, sealed: &[u8], whose: &str) -> Result<Vec<u8>> {
        let key = self.key(false)?;
        let (nonce, rest) = sealed.split_first_chunk::<NONCE_LEN>().ok_or_else(|| self.wrong_key())?;
        let mut rest = rest.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = key.open_in_place(nonce, Aad::from(whose.as_bytes()), &mut rest);
        Ok(opened.map_err(|_| self.wrong_key())?.to_vec())
    }

    fn key(&self, make: bool) -> Result<&LessSafeKey> {
        if let Some(key) = self.key.get() {
            return Ok(key);
        }
        let path = self.root.join(FILE);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound && make => self.make(&path)?,
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(self.wrong_key()),
            Err(error) => return Err(error.into()),
        };
        if fs::metadata(&path)?.mode() & 0o077 != 0 {
            return Err(Error::new(Kind::NotReady, format!("{} can be read by others", path.display()))
                .hint(format!("chmod 600 {}", path.display())));
        }
        let key = UnboundKey::new(&AES_256_GCM, &bytes).map_err(|_| self.wrong_key())?;
        Ok(self.key.get_or_init(|| LessSafeKey::new(key)))
    }

    fn make(&self, path: &Path) -> Result<Vec<u8>> {
        let mut bytes = vec![0; KEY_BYTES];
        SystemRandom::new().fill(&mut bytes).map_err(|_| no_randomness())?;
        // Whole or not at all: half a key after a crash would open nothing.
        let draft = path.with_extension("key.new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        sync_dir(&self.root)?;
        Ok(bytes)
    }

    fn wrong_key(&self) -> Error {
        let path = self.root.join(FILE);
        Error::new(
            Kind::NotReady,
            format!(
                "a password or another secret cannot be read: {} is not the key it was sealed with",
                path.display()
            ),
        )
        .hint("put the key back, or drop the user mapping, server or external table and create it again")
    }
}

fn no_randomness() -> Error {
    Error::new(Kind::Io, "the system gives no random numbers")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_opens_for_whom_it_was_sealed_and_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let secrets = Secrets::new(dir.path());
        let sealed = secrets.seal("pässwörd".as_bytes(), "server 1").unwrap();
        assert!(!sealed.windows(4).any(|four| four == b"ssw\xc3"));
        assert_ne!(sealed, secrets.seal("pässwörd".as_bytes(), "server 1").unwrap());
        let again = Secrets::new(dir.path());
        assert_eq!(again.open(&sealed, "server 1").unwrap(), "pässwörd".as_bytes());
        assert_eq!(again.open(&sealed, "server 2").unwrap_err().kind, Kind::NotReady);
        let mut damaged = sealed.clone();
        *damaged.last_mut().unwrap() ^= 1;
        assert_eq!(again.open(&damaged, "server 1").unwrap_err().kind, Kind::NotReady);
        let mode = fs::metadata(dir.path().join(FILE)).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_key_that_is_gone_or_that_others_can_read_is_said_so() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let sealed = Secrets::new(dir.path()).seal(b"x", "a").unwrap();
        let file = dir.path().join(FILE);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let error = Secrets::new(dir.path()).open(&sealed, "a").unwrap_err();
        assert!(error.message.contains("can be read by others"), "{error}");
        fs::remove_file(&file).unwrap();
        assert_eq!(Secrets::new(dir.path()).open(&sealed, "a").unwrap_err().kind, Kind::NotReady);
    }
}
