//! Files and generated rows into tables.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::csv;
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::TableReference;
use datafusion::common::parsers::CompressionTypeVariant;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::prelude::{CsvReadOptions, DataFrame, JsonReadOptions, ParquetReadOptions, SessionContext};
use futures::StreamExt;

use crate::engine::definitions::resolve;
use crate::engine::session::Session;
use crate::engine::{Engine, Run};
use crate::error::{Error, Kind, Result};
use crate::storage::{IfExists, RelationKind, RoleId, check_footer};

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
}

/// Rows of a CSV or JSON file that its types are read from.
const ROWS_TO_INFER: usize = 100_000;

impl Import {
    /// Loads all files, all or nothing. Gives the number of rows.
    ///
    /// A new table takes the types of the first file; columns whose name is not plain lower case keep it, and are
    /// quoted in SQL.
    pub async fn run(&self, session: &Session, run: &Run, progress: LoadProgress<'_>) -> Result<u64> {
        let Some(first) = self.files.first() else { return Err(Error::invalid("no file to import")) };
        let rights = session.rights()?;
        rights.must_be_superuser("read files of the server")?;
        let name = resolve(session, &TableReference::parse_str(&self.table));
        let store = Arc::clone(&session.engine.store);
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
        let columns = match &there {
            Some(relation) if !self.replace => Arc::clone(&relation.columns),
            _ => plain_types(read(&session.context, first).await?.schema().inner()),
        };
        let mut writer = store.writer(Arc::clone(&columns))?;
        for file in &self.files {
            let frame = read(&session.context, file).await?;
            let frame = in_order(frame, &columns, file)?;
            let mut rows = frame.execute_stream().await?;
            while let Some(batch) = rows.next().await {
                if run.cancel.is_cancelled() {
                    return Err(Error::cancelled());
                }
                let batch = batch.map_err(|error| in_file(error.into(), file))?;
                writer.write(&batch).map_err(|error| in_file(error, file))?;
                progress(writer.rows());
            }
        }
        let rows = writer.rows();
        match table {
            Some(id) => store.append(id, writer)?,
            None => {
                store.create_table(&name.schema, &name.table, writer, IfExists::Replace, rights.role())?;
                rows
            }
        };
        Ok(rows)
    }
}

impl Engine {
    /// Makes a table of generated rows, replacing one of that name.
    pub fn create_table_from(&self, schema: &str, name: &str, comment: &str, batches: &[RecordBatch]) -> Result<u64> {
        let Some(first) = batches.first() else { return Err(Error::internal("a generated table without a batch")) };
        self.store.create_schema(schema, true, RoleId::FIRST)?;
        let mut writer = self.store.writer(first.schema())?;
        for batch in batches {
            writer.write(batch)?;
        }
        let rows = writer.rows();
        self.store.create_table(schema, name, writer, IfExists::Replace, RoleId::FIRST)?;
        self.store.comment(schema, name, Some(comment))?;
        Ok(rows)
    }

    /// Whether there is a relation of that name.
    pub fn has_relation(&self, schema: &str, name: &str) -> Result<bool> {
        Ok(self.store.relation(schema, name)?.is_some())
    }
}

fn in_file(error: Error, file: &Path) -> Error {
    Error { message: format!("{}: {}", file.display(), error.message), ..error }
}

/// The file as a query, its format told by its name.
async fn read(context: &SessionContext, file: &Path) -> Result<DataFrame> {
    if !file.exists() {
        return Err(Error::new(Kind::Io, format!("{} does not exist", file.display())).hint("give the path of a file"));
    }
    // DataFusion reads a path as a URL: an absolute one with nothing in it that a URL would decode.
    let path = file.canonicalize()?;
    let url = format!(
        "file://{}",
        path.display().to_string().replace('%', "%25").replace(' ', "%20").replace('?', "%3F").replace('#', "%23")
    );
    let name = file.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    let (name, compression) = compression(&name);
    // DataFusion compares the end of the path as a URL has it, so only what is plain in both may be named.
    let extension = ending(&file.to_string_lossy());
    let file_compression = FileCompressionType::from(compression);
    let frame = match name.rsplit('.').next() {
        Some(format @ ("csv" | "tsv" | "txt")) => {
            let delimiter = if format == "tsv" { b'\t' } else { b',' };
            if compression == CompressionTypeVariant::UNCOMPRESSED {
                check_header(&path, delimiter).map_err(|error| in_file(error, file))?;
            }
            let options = CsvReadOptions::new()
                .has_header(true)
                .delimiter(delimiter)
                .newlines_in_values(true)
                .schema_infer_max_records(ROWS_TO_INFER)
                .file_extension(&extension)
                .file_compression_type(file_compression);
            context.read_csv(url, options).await
        }
        Some("json" | "jsonl" | "ndjson") => {
            let options = JsonReadOptions {
                file_extension: &extension,
                file_compression_type: file_compression,
                schema_infer_max_records: ROWS_TO_INFER,
                ..Default::default()
            };
            context.read_json(url, options).await
        }
        Some("parquet" | "pq") => {
            check_footer(&path)?;
            let options = ParquetReadOptions { file_extension: &extension, ..Default::default() };
            context.read_parquet(url, options).await
        }
        _ => {
            return Err(Error::unsupported(format!("{} is of no known format", file.display()))
                .hint("the name must end in .csv, .tsv, .json, .jsonl or .parquet, and may be compressed: .gz, .bz2, .xz, .zst"));
        }
    };
    frame.map_err(|error| in_file(error.into(), file))
}

/// `.csv` of `orders.csv`, `.csv.gz` of `orders.csv.gz`, as it is written.
fn ending(name: &str) -> String {
    let (plain, _) = compression(name);
    let start = plain.rfind('.').unwrap_or(plain.len());
    name[start..].to_owned()
}

/// The first line names the columns: there must be one, and each name once.
fn check_header(path: &Path, delimiter: u8) -> Result<()> {
    let format = csv::reader::Format::default().with_header(true).with_delimiter(delimiter);
    let (header, _) = format.infer_schema(File::open(path)?, Some(0))?;
    let names: Vec<&String> = header.fields().iter().map(|field| field.name()).collect();
    if names.is_empty() {
        return Err(Error::invalid("the file is empty").hint("the first line must name the columns"));
    }
    match names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)) {
        Some((_, twice)) => {
            Err(Error::new(Kind::DuplicateColumn, format!("two columns are named \"{twice}\" in the first line"))
                .hint("rename one of them in the file"))
        }
        None => Ok(()),
    }
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
fn in_order(frame: DataFrame, columns: &Schema, file: &Path) -> Result<DataFrame> {
    let names: Vec<&str> = columns.fields().iter().map(|field| field.name().as_str()).collect();
    for name in &names {
        if frame.schema().field_with_unqualified_name(name).is_err() {
            return Err(Error::new(Kind::UnknownColumn, format!("{} has no column \"{name}\"", file.display()))
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
