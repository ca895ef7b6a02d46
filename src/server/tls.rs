//! Encryption: the server's certificate and key, read at the start and again when it is told to.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::error::{Error, Kind, Result};

/// What clients that begin with TLS at once must ask for, so that no other protocol is taken for ours.
pub(super) const ALPN: &[u8] = b"postgresql";

/// A certificate with its key.
pub struct Tls {
    cert: PathBuf,
    key: PathBuf,
    /// Whether clients without encryption are refused.
    pub(super) required: bool,
    config: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    /// Reads a certificate chain and its key, both PEM; the key in PKCS#8, PKCS#1 or SEC1.
    pub fn load(cert: &Path, key: &Path, required: bool) -> Result<Arc<Self>> {
        let config = RwLock::new(config(cert, key)?);
        Ok(Arc::new(Self { cert: cert.to_owned(), key: key.to_owned(), required, config }))
    }

    /// Reads both again. Where that fails the old ones stay.
    pub fn reload(&self) -> Result<()> {
        let fresh = config(&self.cert, &self.key)?;
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn config(cert: &Path, key: &Path) -> Result<Arc<ServerConfig>> {
    check_permissions(key)?;
    let certs = CertificateDer::pem_slice_iter(&read(cert)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unusable(cert, "certificate", &error.to_string()))?;
    if certs.is_empty() {
        return Err(unusable(cert, "certificate", "there is none in it"));
    }
    let secret =
        PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|error| unusable(key, "key", &error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::internal(error.to_string()))?
        .with_no_client_auth()
        .with_single_cert(certs, secret)
        .map_err(|error| unusable(key, "key", &error.to_string()))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).map_err(|error| Error::new(Kind::Io, format!("{}: {error}", file.display())))
}

/// A key that everybody can read is no secret.
fn check_permissions(key: &Path) -> Result<()> {
    let found = fs::metadata(key).map_err(|error| Error::new(Kind::Io, format!("{}: {error}", key.display())))?;
    match found.permissions().mode() & 0o007 {
        0 => Ok(()),
        _ => Err(unusable(key, "key", "everybody may read it").hint(format!("chmod 600 {}", key.display()))),
    }
}

fn unusable(file: &Path, what: &str, why: &str) -> Error {
    Error::invalid(format!("{} is no usable {what}: {why}", file.display()))
        .hint("--tls-cert wants a certificate chain as PEM, --tls-key its private key as PEM without a passphrase")
}
