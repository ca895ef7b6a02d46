//! `cohort import`: files into a table, with a bar to watch.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use indicatif::{HumanCount, ProgressBar, ProgressStyle};

use crate::cli::{EngineArgs, runtime};
use crate::engine::{self, Engine, Run};
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
    #[command(flatten)]
    engine: EngineArgs,
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
        let import = engine::Import { table: self.table.clone(), files: self.files, replace: self.replace };
        let rows = runtime()?.block_on(async {
            let (run, _notices) = Run::new();
            let progress = |rows| bar.set_message(HumanCount(rows).to_string());
            tokio::select! {
                rows = import.run(&session, &run, &progress) => rows,
                _ = tokio::signal::ctrl_c() => Err(Error::cancelled()),
            }
        })?;
        bar.finish_and_clear();
        println!("{rows} rows into {}", self.table);
        Ok(())
    }
}
