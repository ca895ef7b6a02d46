//! `cohort import`: files into a table, with a bar to watch.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use indicatif::{HumanCount, ProgressBar, ProgressStyle};

use crate::cli::{EngineArgs, runtime};
use crate::engine::{self, DateOrder, Engine, OnError, Run};
use crate::error::{Error, Result};

#[derive(Debug, Args)]
pub struct Import {
    /// Table to load into, name or schema.name; created with the files' columns if it is not there
    table: String,
    /// CSV, TSV, JSON (one object a line) or Parquet files, also .gz, .bz2, .xz and .zst
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Replace the table instead of adding rows to it
    #[arg(long)]
    replace: bool,
    /// What to do with lines of CSV that are no rows of the table: fail and change nothing, or leave them out and keep
    /// them with the reason in the table `<table>_rejects`
    #[arg(long, value_enum, default_value = "abort")]
    on_error: Policy,
    /// Whether dates such as 01/02/2026 have the day first or the month; told by the file where it is not said
    #[arg(long, value_enum)]
    date_order: Option<Order>,
    #[command(flatten)]
    engine: EngineArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Policy {
    Abort,
    Skip,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Order {
    Dmy,
    Mdy,
}

impl Import {
    pub fn run(self) -> Result<()> {
        let engine = Engine::open(&self.engine.config())?;
        let session = engine.local_session()?;
        let bar = ProgressBar::new_spinner().with_style(
            ProgressStyle::with_template("{spinner} {msg} rows  {elapsed}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner()),
        );
        bar.enable_steady_tick(Duration::from_millis(100));
        let import = engine::Import {
            table: self.table.clone(),
            files: self.files,
            replace: self.replace,
            on_error: match self.on_error {
                Policy::Abort => OnError::Abort,
                Policy::Skip => OnError::Skip,
            },
            date_order: self.date_order.map(|order| match order {
                Order::Dmy => DateOrder::DayFirst,
                Order::Mdy => DateOrder::MonthFirst,
            }),
        };
        let imported = runtime()?.block_on(async {
            let (run, _notices) = Run::new();
            let progress = |rows| bar.set_message(HumanCount(rows).to_string());
            tokio::select! {
                imported = import.run(&session, &run, &progress) => imported,
                _ = tokio::signal::ctrl_c() => Err(Error::cancelled()),
            }
        })?;
        bar.finish_and_clear();
        println!("{} rows into {}", imported.rows, self.table);
        if imported.rejected > 0 {
            println!("{} lines left out, kept in {}_rejects", imported.rejected, self.table);
        }
        Ok(())
    }
}
