//! `cohort serve`: the server, until it is told to stop.

use std::net::{SocketAddr, ToSocketAddrs};

use clap::Args;
use tokio_util::sync::CancellationToken;

use crate::cli::{EngineArgs, demo, runtime};
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};
use crate::server::{Options, Server};

#[derive(Debug, Args)]
pub struct Serve {
    #[command(flatten)]
    engine: EngineArgs,
    /// Address to listen on; without users only this machine may connect
    #[arg(long, value_name = "HOST:PORT", env = "COHORT_LISTEN", default_value = "127.0.0.1:5433")]
    listen: String,
    /// Connections at most
    #[arg(long, value_name = "N", default_value_t = 100)]
    max_connections: usize,
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
        let listen = loopback(&self.listen)?;
        let engine = Engine::open(&self.engine.config())?;
        let runtime = runtime()?;
        runtime.block_on(async {
            // The port is taken before the demo is made, so that a second server fails at once.
            let options = Options { listen, max_connections: self.max_connections };
            let server = Server::bind(engine.clone(), options).await?;
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
            tokio::select! {
                done = server.run(shutdown.clone()) => done,
                done = async {
                    stopped().await?;
                    println!("shutting down");
                    shutdown.cancel();
                    std::future::pending::<Result<()>>().await
                } => done,
            }
        })
    }
}

/// The address, if nobody but this machine can reach it.
fn loopback(listen: &str) -> Result<SocketAddr> {
    let mut addresses = listen.to_socket_addrs().map_err(|error| {
        Error::invalid(format!("--listen {listen}: {error}")).hint("write HOST:PORT, such as 127.0.0.1:5433")
    })?;
    let Some(address) = addresses.next() else {
        return Err(Error::invalid(format!("--listen {listen} is no address")));
    };
    if !address.ip().is_loopback() {
        return Err(Error::new(
            Kind::Denied,
            format!("no users are configured, so {listen} would let anyone in: only loopback addresses are served"),
        )
        .hint("listen on 127.0.0.1 or [::1], and reach it from elsewhere through an SSH tunnel: ssh -L 5433:127.0.0.1:5433 HOST"));
    }
    Ok(address)
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
    fn only_loopback_is_served_without_users() {
        assert!(loopback("127.0.0.1:0").is_ok());
        assert!(loopback("[::1]:0").is_ok());
        assert_eq!(loopback("0.0.0.0:5433").unwrap_err().kind, Kind::Denied);
        assert!(loopback("nonsense").is_err());
    }
}
