//! `cohort serve`: the server, until it is told to stop.

use std::env::VarError;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio_util::sync::CancellationToken;

use crate::cli::{EngineArgs, demo, runtime};
use crate::engine::{Config, Engine, units};
use crate::error::{Error, Kind, Result};
use crate::server::{Monitor, Options, Server, Tls};

#[derive(Debug, Args)]
pub struct Serve {
    #[command(flatten)]
    engine: EngineArgs,
    /// Address to listen on; until a superuser has a password only this machine may connect
    #[arg(long, value_name = "HOST:PORT", env = "COHORT_LISTEN", default_value = "127.0.0.1:5433")]
    listen: String,
    /// Connections at most
    #[arg(long, value_name = "N", default_value_t = 100)]
    max_connections: usize,
    /// File whose first line becomes the password of the superuser "cohort", unless it has one; or COHORT_PASSWORD
    #[arg(long, value_name = "FILE", env = "COHORT_PASSWORD_FILE")]
    password_file: Option<PathBuf>,
    /// Certificate chain as PEM: connections can be encrypted
    #[arg(long, value_name = "FILE", env = "COHORT_TLS_CERT", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its private key as PEM: PKCS#8, PKCS#1 or SEC1
    #[arg(long, value_name = "FILE", env = "COHORT_TLS_KEY", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Refuse connections that are not encrypted
    #[arg(long, requires = "tls_cert")]
    tls_required: bool,
    /// Address of a second port with /metrics for Prometheus and /healthz; whoever reaches it may read them
    #[arg(long, value_name = "HOST:PORT", env = "COHORT_METRICS_LISTEN")]
    metrics_listen: Option<String>,
    /// Log statements that take at least so long, such as 500ms or 5s; none unless given
    #[arg(long, value_name = "TIME", env = "COHORT_LOG_MIN_DURATION", value_parser = duration)]
    log_min_duration: Option<Duration>,
    /// Generate the demo shop if it is not there
    #[arg(long)]
    demo: bool,
    /// Size of the demo shop; 1 is about 5,000 customers
    #[arg(long, value_name = "X", default_value_t = 1.0, requires = "demo")]
    demo_scale: f64,
}

/// Three things to try on the demo shop.
const TO_TRY: &str = "
  -- who are my customers?
  SELECT tier, count(*) AS customers, round(sum(monetary_value)) AS revenue
  FROM rfm((SELECT customer_id, order_ts, amount FROM orders)) GROUP BY tier ORDER BY revenue DESC;

  -- learn what they like (a few seconds)
  CREATE MODEL taste OPTIONS (model_type = 'matrix_factorization') AS
  SELECT customer_id, product_id, count(*) AS rating, max(event_ts) AS last_ts
  FROM interactions WHERE event_type = 'purchase' GROUP BY customer_id, product_id;

  -- what should I show to customer 42?
  SELECT r.rank, p.name, p.category, r.source
  FROM recommend('taste', 42, k => 5) r JOIN products p USING (product_id) ORDER BY r.rank;
";

impl Serve {
    pub fn run(self) -> Result<()> {
        let listen = address(&self.listen)?;
        let tls = match (&self.tls_cert, &self.tls_key) {
            (Some(cert), Some(key)) => Some(Tls::load(cert, key, self.tls_required)?),
            _ => None,
        };
        let log_min_duration = self.log_min_duration;
        let engine = Engine::open(&Config { log_min_duration, ..self.engine.config() })?;
        if let Some(password) = self.password()?
            && !engine.set_first_password(&password)?
        {
            tracing::info!("the superuser has a password already: the given one is not used");
        }
        let runtime = runtime()?;
        runtime.block_on(async {
            // The port is taken before the demo is made, so that a second server fails at once.
            let options = Options { listen, max_connections: self.max_connections, tls: tls.clone() };
            let server = Server::bind(Arc::clone(&engine), options).await?;
            let monitor = match &self.metrics_listen {
                Some(listen) => Some(Monitor::bind(Arc::clone(&engine), address(listen)?).await?),
                None => None,
            };
            if self.demo {
                println!("{}", demo::load(&engine, self.demo_scale)?);
            }
            let address = server.local_addr();
            println!("cohort {} is ready; data in {}", env!("CARGO_PKG_VERSION"), self.engine.data_dir.display());
            println!("connect with: psql -h {} -p {} -U cohort cohort", address.ip(), address.port());
            if self.demo {
                println!("{TO_TRY}");
            }
            let shutdown = CancellationToken::new();
            if let Some(monitor) = monitor {
                println!("metrics at: http://{}/metrics", monitor.local_addr()?);
                tokio::spawn(monitor.run(shutdown.clone()));
            }
            tokio::select! {
                done = server.run(shutdown.clone()) => done,
                done = reloaded(tls) => done,
                done = async {
                    stopped().await?;
                    println!("shutting down");
                    shutdown.cancel();
                    std::future::pending::<Result<()>>().await
                } => done,
            }
        })
    }

    /// The password for the first superuser, if one is given.
    fn password(&self) -> Result<Option<String>> {
        if let Some(file) = &self.password_file {
            let text = std::fs::read_to_string(file)
                .map_err(|error| Error::new(Kind::Io, format!("{}: {error}", file.display())))?;
            return Ok(Some(text.lines().next().unwrap_or_default().to_owned()));
        }
        match std::env::var("COHORT_PASSWORD") {
            Ok(password) => Ok(Some(password)),
            Err(VarError::NotPresent) => Ok(None),
            Err(VarError::NotUnicode(_)) => Err(Error::invalid("COHORT_PASSWORD is not text in UTF-8")),
        }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    units::duration(text).map_err(|error| error.message)
}

fn address(listen: &str) -> Result<SocketAddr> {
    let mut addresses = listen.to_socket_addrs().map_err(|error| {
        Error::invalid(format!("--listen {listen}: {error}")).hint("write HOST:PORT, such as 127.0.0.1:5433")
    })?;
    addresses.next().ok_or_else(|| Error::invalid(format!("--listen {listen} is no address")))
}

/// Reads the certificate again at each SIGHUP.
async fn reloaded(tls: Option<Arc<Tls>>) -> Result<()> {
    let mut hangup = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())?;
    while hangup.recv().await.is_some() {
        match tls.as_ref().map(|tls| tls.reload()) {
            Some(Ok(())) => tracing::info!("the certificate was read again"),
            Some(Err(error)) => tracing::error!(%error, "the certificate could not be read again: the old one stays"),
            None => tracing::info!("there is nothing to read again"),
        }
    }
    std::future::pending().await
}

/// Waits for SIGINT or SIGTERM.
async fn stopped() -> Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        done = tokio::signal::ctrl_c() => Ok(done?),
        _ = terminate.recv() => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        assert!(address("127.0.0.1:0").is_ok());
        assert!(address("[::1]:0").is_ok());
        assert!(address("nonsense").is_err());
    }
}
