//! `cohort sql`: statements from the command line, a file or a person, on a data directory or a running server.

use std::io::{IsTerminal, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use datafusion::arrow::util::display::FormatOptions;
use datafusion::arrow::util::pretty::pretty_format_batches_with_options;
use futures::StreamExt;
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use tokio_postgres::{NoTls, SimpleQueryMessage};

use crate::cli::{EngineArgs, runtime, shown};
use crate::engine::{Answer, Engine, Level, Notice, Rows, Run, Session};
use crate::error::{Error, Kind, Result};

#[derive(Debug, Args)]
pub struct Sql {
    /// Statements to run; may be given more than once
    #[arg(short, long = "command", value_name = "SQL", conflicts_with = "file")]
    commands: Vec<String>,
    /// File of statements to run; - is standard input
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Connect to a running server instead of opening the data directory
    #[arg(long, value_name = "URL", env = "COHORT_URL")]
    url: Option<String>,
    #[command(flatten)]
    engine: EngineArgs,
}

/// Where statements go.
enum Target {
    Here(Arc<Session>),
    Server(tokio_postgres::Client),
}

impl Sql {
    pub fn run(self) -> Result<()> {
        let runtime = runtime()?;
        let target = match &self.url {
            Some(url) => Target::Server(runtime.block_on(connect(url))?),
            None => Target::Here(Arc::new(Engine::open(&self.engine.config())?.local_session()?)),
        };
        if !self.commands.is_empty() {
            return self.commands.iter().try_for_each(|sql| runtime.block_on(target.run(sql)));
        }
        match &self.file {
            Some(file) if file.as_os_str() == "-" => runtime.block_on(target.run(&standard_input()?)),
            Some(file) => {
                let text = std::fs::read_to_string(file)
                    .map_err(|error| Error::new(Kind::Io, format!("{}: {error}", file.display())))?;
                runtime.block_on(target.run(&text))
            }
            None if std::io::stdin().is_terminal() => converse(&runtime, &target),
            None => runtime.block_on(target.run(&standard_input()?)),
        }
    }
}

fn standard_input() -> Result<String> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    Ok(text)
}

async fn connect(url: &str) -> Result<tokio_postgres::Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls)
        .await
        .map_err(|error| from_server(&error).hint("is the server running? cohort serve starts one"))?;
    tokio::spawn(async move {
        futures::pin_mut!(connection);
        let mut messages = futures::stream::poll_fn(move |cx| connection.as_mut().poll_message(cx));
        while let Some(Ok(message)) = messages.next().await {
            if let tokio_postgres::AsyncMessage::Notice(notice) = message {
                eprintln!("{}:  {}", notice.severity(), notice.message());
                if let Some(hint) = notice.hint() {
                    eprintln!("HINT:  {hint}");
                }
            }
        }
    });
    Ok(client)
}

fn from_server(error: &tokio_postgres::Error) -> Error {
    match error.as_db_error() {
        Some(error) => {
            let ours = Error::invalid(error.message());
            error.hint().map_or(ours.clone(), |hint| ours.hint(hint))
        }
        None => {
            let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
            Error::new(Kind::Io, format!("{error}{cause}"))
        }
    }
}

/// Reads statements from a person, up to the semicolon, until \q or the end.
fn converse(runtime: &tokio::runtime::Runtime, target: &Target) -> Result<()> {
    let mut editor = DefaultEditor::new().map_err(|error| Error::new(Kind::Io, error.to_string()))?;
    let history = std::env::home_dir().map(|home| home.join(".cohort_history"));
    if let Some(history) = &history {
        // No history yet is no error.
        let _ = editor.load_history(history);
    }
    println!("cohort {}: statements end with a semicolon; \\q leaves, \\? helps", env!("CARGO_PKG_VERSION"));
    let mut statement = String::new();
    loop {
        let prompt = if statement.is_empty() { "cohort=> " } else { "cohort-> " };
        match editor.readline(prompt) {
            Ok(line) if statement.is_empty() && matches!(line.trim(), "\\q" | "quit" | "exit") => break,
            Ok(line) if statement.is_empty() && matches!(line.trim(), "\\?" | "help") => println!("{HELP}"),
            Ok(line) => {
                statement.push_str(&line);
                statement.push('\n');
                if !line.trim_end().ends_with(';') {
                    continue;
                }
                let sql = std::mem::take(&mut statement);
                let _ = editor.add_history_entry(sql.trim());
                if let Err(error) = runtime.block_on(target.run(&sql)) {
                    eprintln!("{}", shown(&error));
                }
            }
            Err(ReadlineError::Interrupted) => statement.clear(),
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(Error::new(Kind::Io, error.to_string())),
        }
    }
    if let Some(history) = &history {
        let _ = editor.save_history(history);
    }
    Ok(())
}

const HELP: &str = "\
  SHOW TABLES;                      tables and views
  SHOW MODELS;                      models
  DESCRIBE MODEL name;              what a model was trained on and how good it is
  SELECT * FROM ml.model_options;   what CREATE MODEL accepts
  \\q                                leave";

impl Target {
    /// Runs all statements of a text and prints their answers; stops at the first error, or at Ctrl-C.
    async fn run(&self, sql: &str) -> Result<()> {
        match self {
            Self::Here(session) => run_here(session, sql).await,
            Self::Server(client) => run_there(client, sql).await,
        }
    }
}

async fn run_here(session: &Session, sql: &str) -> Result<()> {
    for statement in session.parse(sql)? {
        let (run, mut notices) = Run::new();
        let work = async {
            let prepared = session.prepare(statement, &[]).await?;
            match session.execute(&prepared, Vec::new(), &run).await? {
                Answer::Done(tag) => say(&tag)?,
                Answer::Rows(rows, _) => print(rows).await?,
                Answer::CopyOut(..) | Answer::CopyToFile(..) | Answer::CopyIn(_) => {
                    let message = "COPY needs a client that reads and writes files";
                    return Err(Error::unsupported(message).hint("use psql's \\copy with a server, or cohort import"));
                }
            }
            Ok::<_, Error>(())
        };
        tokio::pin!(work);
        let done = loop {
            tokio::select! {
                biased;
                Some(notice) = notices.recv() => tell(&notice),
                done = &mut work => break done,
                _ = tokio::signal::ctrl_c() => run.cancel.cancel(),
            }
        };
        while let Ok(notice) = notices.try_recv() {
            tell(&notice);
        }
        done?;
    }
    Ok(())
}

fn tell(notice: &Notice) {
    let level = match notice.level {
        Level::Notice => "NOTICE",
        Level::Warning => "WARNING",
    };
    eprintln!("{level}:  {}", notice.message);
    if let Some(hint) = &notice.hint {
        eprintln!("HINT:  {hint}");
    }
}

/// Prints rows as a table, some thousands at a time so that a large result need not fit in memory.
async fn print(mut rows: Rows) -> Result<()> {
    const ROWS_A_TABLE: usize = 10_000;
    let options = FormatOptions::new().with_null("NULL");
    let (mut batches, mut held, mut count) = (Vec::new(), 0, 0);
    let show =
        |batches: &[_]| -> Result<()> { say(&pretty_format_batches_with_options(batches, &options)?.to_string()) };
    let schema = Arc::clone(&rows.schema);
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        held += batch.num_rows();
        count += batch.num_rows();
        batches.push(batch);
        if held >= ROWS_A_TABLE {
            show(&batches)?;
            batches.clear();
            held = 0;
        }
    }
    if count == 0 {
        batches = vec![datafusion::arrow::record_batch::RecordBatch::new_empty(schema)];
    }
    if !batches.is_empty() {
        show(&batches)?;
    }
    say(&format!("({})", rows_in_words(count)))
}

fn rows_in_words(count: impl std::fmt::Display + PartialEq + From<u8>) -> String {
    format!("{count} {}", if count == 1.into() { "row" } else { "rows" })
}

/// Prints to standard output. Whoever reads it may leave in the middle, as `head` does, and then there is nothing left
/// to do and nobody to tell.
fn say(text: &str) -> Result<()> {
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        written => Ok(written?),
    }
}

async fn run_there(client: &tokio_postgres::Client, sql: &str) -> Result<()> {
    let cancel = client.cancel_token();
    let query = client.simple_query(sql);
    tokio::pin!(query);
    let messages = loop {
        tokio::select! {
            messages = &mut query => break messages.map_err(|error| from_server(&error))?,
            _ = tokio::signal::ctrl_c() => {
                // If the request does not get through, the statement just goes on.
                let _ = cancel.cancel_query(NoTls).await;
            }
        }
    };
    let mut table = comfy_table(None);
    for message in messages {
        match message {
            SimpleQueryMessage::RowDescription(columns) => {
                table = comfy_table(Some(columns.iter().map(|column| column.name().to_owned()).collect()));
            }
            SimpleQueryMessage::Row(row) => {
                table.1.push((0..row.len()).map(|at| row.get(at).unwrap_or("NULL").to_owned()).collect());
            }
            SimpleQueryMessage::CommandComplete(count) => match std::mem::replace(&mut table, comfy_table(None)) {
                (Some(columns), rows) => print_text(&columns, &rows)?,
                // Of a tag, the client library keeps only the number.
                (None, _) if count == 0 => say("OK")?,
                (None, _) => say(&format!("OK, {}", rows_in_words(count)))?,
            },
            _ => {}
        }
    }
    Ok(())
}

/// Columns, once known, and rows of text.
type TextTable = (Option<Vec<String>>, Vec<Vec<String>>);

fn comfy_table(columns: Option<Vec<String>>) -> TextTable {
    (columns, Vec::new())
}

fn print_text(columns: &[String], rows: &[Vec<String>]) -> Result<()> {
    let width = |at: usize| {
        let cells = rows.iter().map(|row| row[at].chars().count());
        cells.chain([columns[at].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let line = |cells: &[String]| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        say(&format!(" {}", padded.collect::<Vec<_>>().join(" | ")))
    };
    line(columns)?;
    say(&format!("-{}-", widths.iter().map(|width| "-".repeat(*width)).collect::<Vec<_>>().join("-+-")))?;
    rows.iter().try_for_each(|row| line(row))?;
    say(&format!("({})", rows_in_words(rows.len())))
}
