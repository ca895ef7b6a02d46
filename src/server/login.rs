//! A client proves who it is, before it gets a session.

use bytes::Bytes;
use pgwire::messages::startup::Authentication;

use super::connection::Shared;
use super::failure::Failure;
use super::scram::{Exchange, MECHANISM};
use super::wire::{STARTUP_LIMIT, Wire};
use crate::engine::Door;
use crate::error::{Error, Kind, Result};

/// Asks the client for what its user needs to be let in.
pub(super) async fn prove(wire: &mut Wire, shared: &Shared, user: &str) -> Result<(), Failure> {
    let is_local = wire.peer().ip().to_canonical().is_loopback();
    let Door::Locked(asked) = shared.engine.door(user, is_local) else { return Ok(()) };
    wire.send(&Authentication::SASL(vec![MECHANISM.to_owned()]));
    wire.flush().await?;
    let first = initial_response(&answer(wire).await?)?;
    let exchange = Exchange::begin(&first, &asked.verifier.0)?;
    wire.send(&Authentication::SASLContinue(exchange.server_first()));
    wire.flush().await?;
    let proof = exchange.finish(&answer(wire).await?, &asked.verifier.0)?;
    match proof.filter(|_| asked.opens) {
        Some(ours) => {
            wire.send(&Authentication::SASLFinal(ours));
            Ok(())
        }
        None => {
            let message = format!("password authentication failed for user \"{user}\"");
            Err(Failure::Fatal(Error::new(Kind::WrongPassword, message)))
        }
    }
}

/// The client's next message, which can only be an answer of a login.
async fn answer(wire: &mut Wire) -> Result<Bytes, Failure> {
    match wire.message_within(STARTUP_LIMIT).await? {
        Some((b'p', body)) => Ok(body),
        Some(_) => Err(Failure::protocol("expected an answer to the request for a password")),
        None => Err(Failure::Gone),
    }
}

/// `SCRAM-SHA-256`, a zero, a length, and so many bytes.
fn initial_response(body: &[u8]) -> Result<Bytes> {
    let malformed = || Error::new(Kind::Protocol, "malformed SASL response");
    let end = body.iter().position(|byte| *byte == 0).ok_or_else(malformed)?;
    if &body[..end] != MECHANISM.as_bytes() {
        return Err(Error::new(Kind::Protocol, "client selected an invalid SASL authentication mechanism"));
    }
    let (length, data) = body[end + 1..].split_first_chunk::<4>().ok_or_else(malformed)?;
    match i32::from_be_bytes(*length) == data.len() as i32 {
        true => Ok(Bytes::copy_from_slice(data)),
        false => Err(malformed()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_response_is_read_strictly() {
        assert_eq!(initial_response(b"SCRAM-SHA-256\0\0\0\0\x02hi").unwrap(), "hi");
        for strange in
            [&b""[..], b"SCRAM-SHA-256", b"SCRAM-SHA-256\0", b"MD5\0\0\0\0\0", b"SCRAM-SHA-256\0\0\0\0\x09hi"]
        {
            assert!(initial_response(strange).is_err());
        }
        assert!(initial_response(b"SCRAM-SHA-256\0\xff\xff\xff\xffhi").is_err());
    }
}
