//! From the first byte to the first `ReadyForQuery`.

use std::collections::BTreeMap;
use std::sync::Arc;

use pgwire::messages::cancel::CancelRequest;
use pgwire::messages::startup::{
    Authentication, BackendKeyData, GssEncRequest, NegotiateProtocolVersion, ParameterStatus, SslRequest, Startup,
};
use pgwire::messages::{DecodeContext, Message, ProtocolVersion};

use super::connection::{Login, Shared};
use super::failure::Failure;
use super::tls::ALPN;
use super::wire::Wire;
use super::{login, responses};
use crate::engine::{Peer, Session};
use crate::error::{Error, Kind, Result};

/// The newest minor version of protocol 3 that we speak.
const NEWEST_MINOR: u16 = 2;

/// Lets a client in. `None` when there is nobody to serve: it was a cancel request, or the client left.
pub(super) async fn open(wire: &mut Wire, shared: &Shared) -> Result<Option<Login>, Failure> {
    if wire.begins_with_tls().await? {
        direct_tls(wire, shared).await?;
    }
    let Some(startup) = first_packet(wire, shared).await? else { return Ok(None) };
    if shared.tls.as_ref().is_some_and(|tls| tls.required) && !wire.is_encrypted() {
        let message = "this server accepts encrypted connections only";
        return Err(Failure::Fatal(Error::new(Kind::NoLogin, message).hint("connect with sslmode=require")));
    }
    let Ok(place) = Arc::clone(&shared.places).try_acquire_owned() else {
        let full = Error::new(Kind::TooManyConnections, "sorry, too many clients already");
        return Err(Failure::Fatal(full.hint("raise --max-connections, or close some connections")));
    };
    negotiate(wire, &startup);

    let parameters = &startup.parameters;
    let Some(user) = parameters.get("user").filter(|user| !user.is_empty()) else {
        return Err(Failure::protocol("no user name specified in startup packet"));
    };
    let database = parameters.get("database").filter(|database| !database.is_empty()).unwrap_or(user);
    let session = match log_in(wire, shared, user, database).await {
        Ok(session) => Arc::new(session),
        Err(failure) => {
            if let Failure::Error(error) | Failure::Fatal(error) = &failure {
                shared.engine.note_refused_login();
                tracing::warn!(target: "audit", user, database, from = %wire.peer(), %error, "login refused");
            }
            return Err(failure);
        }
    };
    apply(&session, parameters)?;

    let backend = shared.registry.enter(startup.protocol_number_minor >= 2);
    let terminate = shared.terminate.child_token();
    session.attach(Peer {
        pid: backend.pid,
        address: wire.peer(),
        cancel: backend.canceller(),
        terminate: terminate.clone(),
    });
    wire.send(&Authentication::Ok);
    for (name, value) in session.reported_settings() {
        wire.send(&ParameterStatus::new(name.to_owned(), value));
    }
    // What the startup packet set has just been reported.
    session.take_changed_settings();
    wire.send(&BackendKeyData::new(backend.pid, backend.secret.clone()));
    wire.send(&responses::ready(session.transaction()));
    wire.flush().await?;
    tracing::info!(target: "audit", pid = backend.pid, user, database, from = %wire.peer(), "login");
    Ok(Some(Login { session, backend, terminate, place }))
}

/// A session for whoever has proved to be that user.
async fn log_in(wire: &mut Wire, shared: &Shared, user: &str, database: &str) -> Result<Session, Failure> {
    login::prove(wire, shared, user).await?;
    Ok(shared.engine.session(user, database)?)
}

/// A client that encrypts from its first byte, as libpq's sslnegotiation=direct does, must say that it means us.
async fn direct_tls(wire: &mut Wire, shared: &Shared) -> Result<(), Failure> {
    let Some(tls) = &shared.tls else { return Err(Failure::Gone) };
    match wire.encrypt(tls.acceptor()).await?.as_deref() {
        Some(ALPN) => Ok(()),
        _ => {
            Err(Failure::protocol("received direct SSL connection request without ALPN protocol negotiation extension"))
        }
    }
}

/// The startup packet, after the offers of encryption: each is made once at most.
async fn first_packet(wire: &mut Wire, shared: &Shared) -> Result<Option<Startup>, Failure> {
    let context = DecodeContext::new(ProtocolVersion::PROTOCOL3_2);
    for _ in 0..3 {
        let Some(mut packet) = wire.packet().await? else { return Ok(None) };
        if SslRequest::is_ssl_request_packet(&packet) {
            match &shared.tls {
                Some(tls) if !wire.is_encrypted() => {
                    wire.answer(b'S').await?;
                    wire.encrypt(tls.acceptor()).await?;
                }
                _ => wire.answer(b'N').await?,
            }
            continue;
        }
        if GssEncRequest::is_gss_enc_request_packet(&packet) {
            wire.answer(b'N').await?;
            continue;
        }
        if CancelRequest::is_cancel_request_packet(&packet) {
            if let Ok(Some(request)) = CancelRequest::decode(&mut packet, &context) {
                shared.registry.cancel(request.pid, &request.secret_key);
            }
            return Ok(None);
        }
        let version = packet.get(4..6).map(|major| u16::from_be_bytes([major[0], major[1]]));
        if version != Some(3) {
            let spoken = format!("unsupported frontend protocol: server supports 3.0 to 3.{NEWEST_MINOR}");
            return Err(Error::unsupported(spoken).into());
        }
        return match Startup::decode(&mut packet, &context) {
            Ok(startup) => Ok(startup),
            Err(_) => Err(Failure::protocol("invalid startup packet layout")),
        };
    }
    Err(Failure::protocol("encryption was offered more than once"))
}

/// Tells a client that asks for more than we know what we do know.
fn negotiate(wire: &mut Wire, startup: &Startup) {
    let unknown: Vec<_> = startup.parameters.keys().filter(|name| name.starts_with("_pq_.")).cloned().collect();
    let asked = startup.protocol_number_minor;
    if asked > NEWEST_MINOR || !unknown.is_empty() {
        let version = (3 << 16) | i32::from(asked.min(NEWEST_MINOR));
        wire.send(&NegotiateProtocolVersion::new(version, unknown));
    }
}

/// Settings that came with the login. What we do not know we leave alone: drivers send more than they need.
fn apply(session: &Session, parameters: &BTreeMap<String, String>) -> Result<()> {
    for (name, value) in parameters {
        match name.as_str() {
            "user" | "database" | "replication" => {}
            "options" => {
                for (name, value) in options(value)? {
                    session.set(&name, &value)?;
                }
            }
            // What psql says in a plain C locale: it takes bytes as they are.
            "client_encoding" if value.eq_ignore_ascii_case("SQL_ASCII") => {}
            name if name.starts_with("_pq_.") => {}
            name => match session.set(name, value) {
                Err(error) if error.kind == Kind::UnknownSetting => {
                    tracing::debug!(name, value, "unknown startup parameter");
                }
                set => set?,
            },
        }
    }
    Ok(())
}

/// `-c name=value` and `--name=value`, as PGOPTIONS has them; a backslash keeps the space after it.
fn options(text: &str) -> Result<Vec<(String, String)>> {
    let invalid =
        |word: &str| Error::invalid(format!("invalid option in startup packet: {word}")).hint("write -c name=value");
    let mut words = words(text).into_iter();
    let mut settings = Vec::new();
    while let Some(word) = words.next() {
        let setting = match (word.strip_prefix("--"), word.strip_prefix("-c")) {
            (Some(setting), _) => setting.to_owned(),
            (None, Some("")) => words.next().ok_or_else(|| invalid(&word))?,
            (None, Some(setting)) => setting.to_owned(),
            (None, None) => return Err(invalid(&word)),
        };
        let (name, value) = setting.split_once('=').ok_or_else(|| invalid(&setting))?;
        // On a command line names are written with dashes, too.
        settings.push((name.replace('-', "_"), value.to_owned()));
    }
    Ok(settings)
}

fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (letter, words.last_mut()) {
            ('\\', Some(word)) => word.extend(letters.next()),
            (letter, _) if letter.is_whitespace() => words.push(String::new()),
            (letter, Some(word)) => word.push(letter),
            (_, None) => {}
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_in_all_their_spellings() {
        let read = options("-c statement_timeout=5s -cdatestyle=ISO,\\ MDY --search-path=public").unwrap();
        let expected = [("statement_timeout", "5s"), ("datestyle", "ISO, MDY"), ("search_path", "public")];
        assert_eq!(read, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert!(options("-x").is_err());
        assert!(options("-c").is_err());
        assert!(options("").unwrap().is_empty());
    }
}
