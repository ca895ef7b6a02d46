//! The Postgres wire: the only room that knows Postgres bytes.
//!
//! `pgwire` gives the messages the server sends and reads the startup packet; the socket loop, the strict reading of
//! client messages and the encoding of rows are ours, so that a running statement can always be stopped, a message
//! is measured before it is read, and rows go from Arrow to the socket without a detour.

/// Where clients come in, and how they are shown out at shutdown.
mod listener;
pub use listener::{Options, Server};

/// The port of those who watch.
mod http;
pub use http::Monitor;

/// Encryption of what goes over the wire.
mod stream;
mod tls;
pub use tls::Tls;

/// A connection's life: from the first byte to `ReadyForQuery`, then message by message.
mod connection;
mod login;
mod scram;
mod startup;

/// Both ways to run a statement, and what runs it.
mod copy;
mod extended;
mod portal;
mod simple;

/// Watching over a statement while it runs.
mod cancel;
mod watch;

/// Bytes in, bytes out.
mod failure;
mod requests;
mod responses;
mod wire;

/// Values: types, parameters and files in, rows out.
mod decode;
mod encode;
mod parameters;
mod types;
