//! Files and generated rows into tables.

mod blocks;
mod columns;
mod csv_file;
mod fields;
mod guess;
mod moments;
mod records;
mod rejects;
mod values;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::TableReference;
use datafusion::common::parsers::CompressionTypeVariant;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::prelude::{DataFrame, JsonReadOptions, ParquetReadOptions, SessionContext};
use futures::StreamExt;

use self::csv_file::CsvFile;
pub use self::moments::DateOrder;
pub(super) use self::rejects::Rejects;
pub use self::rejects::{OnError, Reject};
use crate::engine::definitions::new_name;
use crate::engine::session::Session;
use crate::engine::{Engine, Run, rules};
use crate::error::{Error, Kind, Result};
use crate::storage::{IfExists, RelationKind, RoleId, TableWriter, check_footer};

/// Is told how many rows are in so far.
pub type LoadProgress<'a> = &'a (dyn Fn(u64) + Send + Sync);

/// Files to load into one table.
#[derive(Debug, Clone)]
pub struct Import {
    /// `table` or `schema.table`; created with the columns of the files if it is not there.
    pub table: String,
    /// CSV, JSON (one object a line) or Parquet, by their names; `.gz`, `.bz2`, `.xz` and `.zst` too.
    pub files: Vec<PathBuf>,
    /// Replace what is in the table instead of adding to it.
    pub replace: bool,
    /// What becomes of lines of CSV that are no rows.
    pub on_error: OnError,
    /// Which of two numbers is the day in dates such as 01/02/2026; by what the file holds where it is not said.
    pub date_order: Option<DateOrder>,
}

/// What an import has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Imported {
    pub rows: u64,
    /// Lines that were left out.
    pub rejected: u64,
}

/// Rows of a JSON file that its types are read from.
const ROWS_TO_INFER: usize = 100_000;

impl Import {
    /// Loads all files, all or nothing but for lines that are to be left out.
    ///
    /// A new table takes the types of the first file; columns whose name is not plain lower case keep it, and are
    /// quoted in SQL.
    pub async fn run(&self, session: &Session, run: &Run, progress: LoadProgress<'_>) -> Result<Imported> {
        let Some(first) = self.files.first() else { return Err(Error::invalid("no file to import")) };
        let rights = session.rights()?;
        rights.must_be_superuser("read files of the server")?;
        let name = new_name(session, &TableReference::parse_str(&self.table));
        let store = session.store();
        if !store.schemas()?.contains(&name.schema.to_string()) {
            return Err(Error::new(Kind::UnknownSchema, format!("schema \"{}\" does not exist", name.schema))
                .hint(format!("create it with: cohort sql -c 'CREATE SCHEMA {}'", name.schema)));
        }
        let there = store.relation(&name.schema, &name.table)?;
        let table = match there.as_ref().map(|relation| &relation.kind) {
            Some(RelationKind::View { .. }) => {
                return Err(
                    Error::new(Kind::NotReady, format!("\"{}\" is a view", name.table)).hint("import into a table")
                );
            }
            Some(RelationKind::External(_)) => {
                return Err(Error::new(Kind::NotReady, format!("\"{}\" is an external table", name.table))
                    .hint("import into a table of another name"));
            }
            Some(RelationKind::Table(id)) if !self.replace => Some(*id),
            _ => None,
        };
        let mut opened = None;
        let columns = match &there {
            Some(relation) if !self.replace => Arc::clone(&relation.columns),
            _ => opened.insert(Source::open(&session.context, first).await?).columns(),
        };
        let mut writer = match (&there, table) {
            (Some(relation), Some(_)) => {
                store.writer_for(relation)?.with_checks(rules::checks(&session.context.state(), relation)?)
            }
            _ => store.writer(Arc::clone(&columns))?,
        };
        let mut rejects = Rejects::new(&store, &name.schema, &name.table);
        for file in &self.files {
            let load = Load { file, columns: &columns, run, progress };
            // The first is open already where its columns were wanted.
            let source = match opened.take() {
                Some(source) => source,
                None => Source::open(&session.context, file).await?,
            };
            match source {
                Source::Csv(csv) => self.load_csv(&load, &csv, &mut writer, &mut rejects).await,
                Source::Frame(frame) => load_frame(&load, frame, &mut writer).await,
            }
            .map_err(|error| in_file(error, file))?;
        }
        let imported = Imported { rows: writer.rows(), rejected: rejects.rows() };
        // First, so that no line is left out without being kept.
        rejects.commit(rights.role())?;
        match table {
            Some(id) => {
                store.append(id, writer)?;
            }
            None => {
                store.create_table(&name.schema, &name.table, writer, IfExists::Replace, rights.role())?;
            }
        }
        Ok(imported)
    }

    async fn load_csv(
        &self,
        load: &Load<'_>,
        csv: &CsvFile,
        writer: &mut TableWriter,
        rejects: &mut Rejects,
    ) -> Result<()> {
        let mut rows = csv.rows(load.columns, self.date_order)?;
        while let Some(next) = rows.next().await {
            let (batch, bad) = next?;
            load.go_on()?;
            if let (OnError::Abort, Some(first)) = (self.on_error, bad.first()) {
                return Err(rejects.refused(first));
            }
            rejects.take(&load.file.display().to_string(), &bad, self.on_error)?;
            writer.write(&batch)?;
            (load.progress)(writer.rows());
        }
        Ok(())
    }
}

/// One file on its way into the table.
struct Load<'a> {
    file: &'a Path,
    columns: &'a SchemaRef,
    run: &'a Run,
    progress: LoadProgress<'a>,
}

impl Load<'_> {
    fn go_on(&self) -> Result<()> {
        if self.run.cancel.is_cancelled() { Err(Error::cancelled()) } else { Ok(()) }
    }
}

async fn load_frame(load: &Load<'_>, frame: DataFrame, writer: &mut TableWriter) -> Result<()> {
    let mut rows = in_order(frame, load.columns)?.execute_stream().await?;
    while let Some(batch) = rows.next().await {
        load.go_on()?;
        writer.write(&batch?)?;
        (load.progress)(writer.rows());
    }
    Ok(())
}

impl Engine {
    /// Makes a table of generated rows, replacing one of that name.
    pub fn create_table_from(&self, schema: &str, name: &str, comment: &str, batches: &[RecordBatch]) -> Result<u64> {
        let Some(first) = batches.first() else { return Err(Error::internal("a generated table without a batch")) };
        self.sight.store.create_schema(schema, true, RoleId::FIRST)?;
        let mut writer = self.sight.store.writer(first.schema())?;
        for batch in batches {
            writer.write(batch)?;
        }
        let rows = writer.rows();
        self.sight.store.create_table(schema, name, writer, IfExists::Replace, RoleId::FIRST)?;
        self.sight.store.comment(schema, name, Some(comment))?;
        Ok(rows)
    }

    /// Whether there is a relation of that name.
    pub fn has_relation(&self, schema: &str, name: &str) -> Result<bool> {
        Ok(self.sight.store.relation(schema, name)?.is_some())
    }
}

fn in_file(error: Error, file: &Path) -> Error {
    Error { message: format!("{}: {}", file.display(), error.message), ..error }
}

/// A file, by its format.
enum Source {
    Csv(CsvFile),
    Frame(DataFrame),
}

impl Source {
    /// Opens a file whose format is told by its name.
    async fn open(context: &SessionContext, file: &Path) -> Result<Self> {
        if !file.exists() {
            return Err(
                Error::new(Kind::Io, format!("{} does not exist", file.display())).hint("give the path of a file")
            );
        }
        let path = file.canonicalize()?;
        let name = file.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
        let (name, compression) = compression(&name);
        let compression = FileCompressionType::from(compression);
        // DataFusion compares the end of the path as a URL has it, so only what is plain in both may be named.
        let extension = ending(&file.to_string_lossy());
        let opened = match name.rsplit('.').next() {
            Some(format @ ("csv" | "tsv" | "txt")) => {
                let delimiter = (format == "tsv").then_some(b'\t');
                // The file is read for its types first: from here on the thread may block.
                tokio::task::spawn_blocking(move || CsvFile::open(&path, compression, delimiter))
                    .await
                    .map_err(|error| Error::internal(format!("reading the file panicked: {error}")))
                    .flatten()
                    .map(Self::Csv)
            }
            Some("json" | "jsonl" | "ndjson") => {
                let options = JsonReadOptions {
                    file_extension: &extension,
                    file_compression_type: compression,
                    schema_infer_max_records: ROWS_TO_INFER,
                    ..Default::default()
                };
                context.read_json(url(&path), options).await.map(Self::Frame).map_err(Error::from)
            }
            Some("parquet" | "pq") => {
                check_footer(&path, std::fs::File::open(&path)?)?;
                let options = ParquetReadOptions { file_extension: &extension, ..Default::default() };
                context.read_parquet(url(&path), options).await.map(Self::Frame).map_err(Error::from)
            }
            _ => {
                return Err(Error::unsupported(format!("{} is of no known format", file.display()))
                    .hint("the name must end in .csv, .tsv, .json, .jsonl or .parquet, and may be compressed: .gz, .bz2, .xz, .zst"));
            }
        };
        opened.map_err(|error| in_file(error, file))
    }

    /// The columns that a new table takes from it.
    fn columns(&self) -> SchemaRef {
        match self {
            Self::Csv(csv) => csv.schema(),
            Self::Frame(frame) => plain_types(frame.schema().inner()),
        }
    }
}

/// DataFusion reads a path as a URL: an absolute one with nothing in it that a URL would decode.
fn url(path: &Path) -> String {
    let path = path.display().to_string();
    format!("file://{}", path.replace('%', "%25").replace(' ', "%20").replace('?', "%3F").replace('#', "%23"))
}

/// `.csv` of `orders.csv`, `.csv.gz` of `orders.csv.gz`, as it is written.
fn ending(name: &str) -> String {
    let (plain, _) = compression(name);
    let start = plain.rfind('.').unwrap_or(plain.len());
    name[start..].to_owned()
}

fn compression(name: &str) -> (&str, CompressionTypeVariant) {
    for (suffix, variant) in [
        (".gz", CompressionTypeVariant::GZIP),
        (".bz2", CompressionTypeVariant::BZIP2),
        (".xz", CompressionTypeVariant::XZ),
        (".zst", CompressionTypeVariant::ZSTD),
    ] {
        if let Some(name) = name.strip_suffix(suffix) {
            return (name, variant);
        }
    }
    (name, CompressionTypeVariant::UNCOMPRESSED)
}

/// The columns of a file in the order of the table; none may be missing.
fn in_order(frame: DataFrame, columns: &Schema) -> Result<DataFrame> {
    let names: Vec<&str> = columns.fields().iter().map(|field| field.name().as_str()).collect();
    for name in &names {
        if frame.schema().field_with_unqualified_name(name).is_err() {
            return Err(Error::new(Kind::UnknownColumn, format!("the file has no column \"{name}\""))
                .suggest(name, frame.schema().fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>()));
        }
    }
    let selected = names.iter().map(|name| datafusion::prelude::ident(*name)).collect::<Vec<_>>();
    Ok(frame.select(selected)?)
}

/// The types of a new table: text as text, and times in microseconds as Postgres has them.
fn plain_types(schema: &Schema) -> Arc<Schema> {
    let field = |field: &Arc<Field>| {
        let data_type = match field.data_type() {
            DataType::Utf8View | DataType::LargeUtf8 | DataType::Null => DataType::Utf8,
            DataType::Timestamp(_, zone) => {
                DataType::Timestamp(datafusion::arrow::datatypes::TimeUnit::Microsecond, zone.clone())
            }
            other => other.clone(),
        };
        Field::new(field.name(), data_type, true)
    };
    Arc::new(Schema::new(schema.fields().iter().map(field).collect::<Vec<_>>()))
}
