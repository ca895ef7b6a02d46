//! SCRAM-SHA-256 from the server's side (RFC 5802, RFC 7677): the client proves that it knows the password, and the
//! server that it knows the verifier, and neither tells the other anything to keep.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::error::{Error, Kind, Result};

/// What this server offers.
pub(super) const MECHANISM: &str = "SCRAM-SHA-256";

/// Bytes of ours in the nonce.
const NONCE: usize = 18;

/// A verifier, taken apart: `SCRAM-SHA-256$4096:salt$StoredKey:ServerKey`.
struct Verifier<'a> {
    iterations: &'a str,
    salt: &'a str,
    stored_key: [u8; 32],
    server_key: [u8; 32],
}

impl<'a> Verifier<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let (iterations, rest) = text.strip_prefix("SCRAM-SHA-256$")?.split_once(':')?;
        let (salt, keys) = rest.split_once('$')?;
        let (stored, server) = keys.split_once(':')?;
        let key = |text: &str| STANDARD.decode(text).ok()?.try_into().ok();
        Some(Self { iterations, salt, stored_key: key(stored)?, server_key: key(server)? })
    }
}

/// An exchange after the client's first message.
pub(super) struct Exchange {
    /// What the client said about channel binding, which it must say again.
    gs2_header: String,
    client_first: String,
    nonce: String,
    server_first: String,
}

impl Exchange {
    /// Reads the client's first message and answers it, with the salt that its password is to be mixed with.
    pub(super) fn begin(client_first: &[u8], verifier: &str) -> Result<Self> {
        let mut random = [0; NONCE];
        getrandom::fill(&mut random).map_err(|error| Error::internal(format!("no randomness: {error}")))?;
        Self::with_nonce(client_first, verifier, &STANDARD.encode(random))
    }

    fn with_nonce(client_first: &[u8], verifier: &str, ours: &str) -> Result<Self> {
        let verifier = Verifier::read(verifier).ok_or_else(|| Error::corrupt("a verifier is damaged"))?;
        let text = std::str::from_utf8(client_first).map_err(|_| malformed())?;
        // `n,,n=user,r=nonce`; the user is the one of the startup packet, whatever stands here.
        let mut parts = text.splitn(3, ',');
        let (Some(binding), Some(name), Some(bare)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(malformed());
        };
        if binding != "n" && binding != "y" {
            return Err(Error::new(Kind::Protocol, "channel binding is not supported")
                .hint("connect with channel_binding=disable"));
        }
        if !name.is_empty() {
            return Err(Error::unsupported("SCRAM authorization identities are not supported"));
        }
        let theirs = bare.split(',').nth(1).and_then(|part| part.strip_prefix("r="));
        let theirs = theirs.filter(|nonce| !nonce.is_empty() && nonce.bytes().all(|c| c.is_ascii_graphic()));
        let nonce = format!("{}{ours}", theirs.ok_or_else(malformed)?);
        Ok(Self {
            gs2_header: format!("{binding},,"),
            client_first: bare.to_owned(),
            server_first: format!("r={nonce},s={},i={}", verifier.salt, verifier.iterations),
            nonce,
        })
    }

    pub(super) fn server_first(&self) -> Bytes {
        Bytes::copy_from_slice(self.server_first.as_bytes())
    }

    /// Reads the client's last message. `Some`: its proof is right, and this is ours.
    pub(super) fn finish(&self, client_final: &[u8], verifier: &str) -> Result<Option<Bytes>> {
        let verifier = Verifier::read(verifier).ok_or_else(|| Error::corrupt("a verifier is damaged"))?;
        let text = std::str::from_utf8(client_final).map_err(|_| malformed())?;
        // `c=biws,r=nonce,p=proof`
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or_else(malformed)?;
        let expected = format!("c={},r={}", STANDARD.encode(&self.gs2_header), self.nonce);
        if without_proof != expected {
            return Err(malformed());
        }
        let proof: [u8; 32] =
            STANDARD.decode(proof).ok().and_then(|proof| proof.try_into().ok()).ok_or_else(malformed)?;
        let said = format!("{},{},{without_proof}", self.client_first, self.server_first);
        let mut client_key = hmac(&verifier.stored_key, said.as_bytes())?;
        client_key.iter_mut().zip(proof).for_each(|(byte, proof)| *byte ^= proof);
        let stored_key: [u8; 32] = Sha256::digest(client_key).into();
        if !bool::from(stored_key.ct_eq(&verifier.stored_key)) {
            return Ok(None);
        }
        let signature = hmac(&verifier.server_key, said.as_bytes())?;
        Ok(Some(Bytes::from(format!("v={}", STANDARD.encode(signature)))))
    }
}

fn hmac(key: &[u8], message: &[u8]) -> Result<[u8; 32]> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).map_err(|error| Error::internal(error.to_string()))?;
    mac.update(message);
    Ok(mac.finalize().into_bytes().into())
}

fn malformed() -> Error {
    Error::new(Kind::Protocol, "malformed SCRAM message")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The exchange of RFC 7677, section 3, whose password is `pencil`.
    const SALT: &str = "W22ZaJ0SNY7soEsUEjb6gQ==";
    const OURS: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    const FIRST: &[u8] = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const LAST: &str =
        "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

    /// By the definitions, slowly: what a client computes from the password.
    fn verifier() -> String {
        let salt = STANDARD.decode(SALT).unwrap();
        let mut block = hmac(b"pencil", &[&salt[..], &[0, 0, 0, 1]].concat()).unwrap();
        let mut salted = block;
        for _ in 1..4096 {
            block = hmac(b"pencil", &block).unwrap();
            salted.iter_mut().zip(block).for_each(|(sum, byte)| *sum ^= byte);
        }
        let stored = Sha256::digest(hmac(&salted, b"Client Key").unwrap());
        let server = hmac(&salted, b"Server Key").unwrap();
        format!("SCRAM-SHA-256$4096:{SALT}${}:{}", STANDARD.encode(stored), STANDARD.encode(server))
    }

    #[test]
    fn the_exchange_of_the_rfc() {
        let exchange = Exchange::with_nonce(FIRST, &verifier(), OURS).unwrap();
        let first = format!("r=rOprNGfwEbeRWgbNEkqO{OURS},s={SALT},i=4096");
        assert_eq!(exchange.server_first(), first.as_bytes());
        let proof = exchange.finish(LAST.as_bytes(), &verifier()).unwrap();
        assert_eq!(proof.unwrap(), "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=".as_bytes());
    }

    #[test]
    fn a_wrong_proof_is_refused_and_a_strange_message_is_an_error() {
        let exchange = Exchange::with_nonce(FIRST, &verifier(), OURS).unwrap();
        let wrong = LAST.replace("dHzb", "eHzb");
        assert!(exchange.finish(wrong.as_bytes(), &verifier()).unwrap().is_none());
        for strange in ["", "c=biws", "c=eSws,r=x,p=AA==", &LAST.replace("biws", "eSws"), &LAST[..LAST.len() - 4]] {
            assert!(exchange.finish(strange.as_bytes(), &verifier()).is_err(), "{strange}");
        }
        for strange in [&b""[..], b"n,,", b"p=tls-unique,,n=,r=abc", b"n,a=ann,n=,r=abc", b"n,,n=,r=", b"n,,n=\xff,r=a"]
        {
            assert!(Exchange::with_nonce(strange, &verifier(), OURS).is_err());
        }
    }
}
