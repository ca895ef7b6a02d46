//! The command line: flags to commands, one file each. The only room that reads the environment.

mod demo;
mod import;
mod serve;
mod sql;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::engine::{Config, units};
use crate::error::{Error, Result};

/// Customer intelligence in SQL.
///
/// Cohort is a database server that any Postgres client can talk to. In it, models are SQL objects: train one with
/// CREATE MODEL, ask it with predict(), segment() and recommend().
#[derive(Debug, Parser)]
#[command(name = "cohort", version, max_term_width = 100, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  cohort serve --demo                           start a server with a generated shop to try things on
  psql -h 127.0.0.1 -p 5433 -U cohort cohort    connect to it from another terminal
  cohort import orders orders.csv               load a file into a table, with no server running
  cohort sql -c 'SELECT count(*) FROM orders'   run a statement and leave
  cohort sql -f segments.sql                    run a file of statements
  cohort sql --url postgres://cohort@127.0.0.1:5433/cohort    the same, on a running server

A first model, in psql:
  CREATE MODEL taste OPTIONS (model_type = 'matrix_factorization') AS
    SELECT customer_id, product_id, count(*) AS rating FROM interactions GROUP BY 1, 2;
  SELECT * FROM recommend('taste', 42, k => 5);";

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the server and listen for Postgres clients.
    Serve(serve::Serve),
    /// Run SQL: a statement, a file, or what you type.
    Sql(sql::Sql),
    /// Load CSV, JSON or Parquet files into a table.
    Import(import::Import),
}

/// Where the data is and what the engine may use.
#[derive(Debug, Clone, Args)]
struct EngineArgs {
    /// Directory that holds tables, models and the catalog; created if it is not there
    #[arg(long, value_name = "DIR", env = "COHORT_DATA_DIR", default_value = "./cohort-data")]
    data_dir: PathBuf,
    /// Memory that queries and training may hold at once, such as 4GB; half of the machine's unless given
    #[arg(long, value_name = "SIZE", env = "COHORT_MEMORY_LIMIT", value_parser = size)]
    memory_limit: Option<usize>,
    /// Threads for queries and training; one a core unless given
    #[arg(long, value_name = "N", env = "COHORT_THREADS", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

impl EngineArgs {
    fn config(&self) -> Config {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Config {
            data_dir: self.data_dir.clone(),
            memory_limit: self.memory_limit.unwrap_or_else(half_the_memory),
            threads: self.threads.map_or(cores, usize::from),
            environment: |name| std::env::var(name).ok(),
            log_min_duration: None,
        }
    }
}

/// Half of what the machine has, or 2 GiB where it does not say.
fn half_the_memory() -> usize {
    const UNKNOWN: usize = 2 << 30;
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = info.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes = total.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse::<usize>().ok());
    kilobytes.map_or(UNKNOWN, |kilobytes| kilobytes * 1024 / 2)
}

fn size(text: &str) -> Result<usize, String> {
    units::memory(text).map_err(|error| match error.hint {
        Some(hint) => format!("{}; {hint}", error.message),
        None => error.message,
    })
}

/// Reads the command line and runs the command.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let level = if matches!(cli.command, Command::Serve(_)) { "info" } else { "warn" };
    let filter = EnvFilter::try_from_env("COHORT_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    // Colours are for people, not for files.
    let colours = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    log.with_target(false).with_ansi(colours).init();
    let done = match cli.command {
        Command::Serve(command) => command.run(),
        Command::Sql(command) => command.run(),
        Command::Import(command) => command.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", shown(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error as psql shows it.
fn shown(error: &Error) -> String {
    let hint = error.hint.as_ref().map(|hint| format!("\nHINT:  {hint}")).unwrap_or_default();
    format!("ERROR:  {}{hint}", error.message)
}

/// The threads that sockets, terminals and files are served on; queries have their own in the engine.
fn runtime() -> Result<tokio::runtime::Runtime> {
    // Statements are parsed here; a long one is a deep tree. The memory is only touched where it is needed.
    const STACK_BYTES: usize = 64 << 20;
    Ok(tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("cohort-io")
        .thread_stack_size(STACK_BYTES)
        .enable_all()
        .build()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_are_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn sizes_have_units_and_bounds() {
        assert_eq!(size("4GB"), Ok(4 << 30));
        assert_eq!(size("512 MiB"), Ok(512 << 20));
        assert!(size("4 apples").is_err());
        assert!(size("1kb").is_err());
        assert!(size("99999999999999999TB").is_err());
    }
}
