//! Files of one format as a table: which they are is looked up with every scan.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::csv;
use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::arrow::ipc::reader::{FileReader, StreamReader};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result as DFResult;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use futures::{StreamExt, TryStreamExt, stream};

use super::format::{Format, Options, compression, letter, switch};
use super::home::{Home, Readable};
use super::location::Found;
use super::partitions;
use super::scan::{Columns, scan_files};
use crate::error::{Error, Kind, Result};
use crate::storage::External;

/// Files that are looked into at the same time.
const AT_ONCE: usize = 16;

/// Files, wherever their locations say that they are.
#[derive(Debug)]
pub struct FilesTable {
    external: Arc<External>,
    format: Format,
    columns: Columns,
}

impl FilesTable {
    /// The columns that are read from folders are the last.
    pub fn new(external: Arc<External>, format: Format, columns: SchemaRef) -> Self {
        let columns = Columns::new(columns, external.partitions.len());
        Self { external, format, columns }
    }

    /// The files as they are now, with the values that their folders give.
    async fn list(&self, home: &Home) -> Result<Vec<PartitionedFile>> {
        let found = all_files(home, &self.external, self.format).await?;
        // A file without a byte has no row, whatever it is.
        let filled = found.into_iter().filter(|found| found.object.size > 0);
        let checked: Vec<_> = filled.map(|found| self.checked(home, found)).collect();
        stream::iter(checked).buffered(AT_ONCE).try_collect().await
    }

    /// A file, if its columns are those of the table.
    async fn checked(&self, home: &Home, Found { path, object, .. }: Found) -> Result<PartitionedFile> {
        let in_files = Arc::clone(&self.columns.in_files);
        // Names are compared where the files, not somebody who knew better, have named the columns.
        let by_name = !self.external.declared && self.format.is_positional();
        if by_name && switch(&self.external.options, "header", true)? {
            let (path, external) = (path.clone(), Arc::clone(&self.external));
            home.look(&object, move |read| check_header(&path, read, &external.options, &in_files)).await?;
        } else if self.format.is_rigid() {
            let path = path.clone();
            home.look(&object, move |read| check_columns(&path, read, &in_files)).await?;
        }
        let folders: Vec<(String, DataType)> =
            self.columns.of_folders.iter().map(|field| (field.name().clone(), field.data_type().clone())).collect();
        let mut file = PartitionedFile::from(object);
        file.partition_values = partitions::values(&path, &folders)?;
        Ok(file)
    }
}

/// All files of all locations, each once.
pub async fn all_files(home: &Home, external: &External, format: Format) -> Result<Vec<Found>> {
    home.files(&external.locations, move |name| format.claims(name)).await
}

/// The names in the first line of a CSV file, as its reader sees them.
fn header(read: Box<dyn Readable>, options: &Options) -> Result<Vec<String>> {
    let mut format = csv::reader::Format::default().with_header(true);
    format = format.with_delimiter(letter(options, "delimiter")?.unwrap_or(b','));
    format = format.with_quote(letter(options, "quote")?.unwrap_or(b'"'));
    if let Some(escape) = letter(options, "escape")? {
        format = format.with_escape(escape);
    }
    if let Some(comment) = letter(options, "comment")? {
        format = format.with_comment(comment);
    }
    let file = compression(options)?.convert_read(read)?;
    let (schema, _) = format.infer_schema(file, Some(0))?;
    let names = schema.fields().iter().enumerate();
    Ok(names.map(|(at, field)| if at == 0 { without_mark(field.name()) } else { field.name() }.to_owned()).collect())
}

/// The first name of a file without the mark of UTF-8 that some programs begin files with.
pub fn without_mark(name: &str) -> &str {
    name.strip_prefix('\u{feff}').map_or(name, |name| name.trim_matches('"'))
}

/// Values go to columns by their place, so that a file with other names, or the same in another order, is not one of
/// the table's.
pub fn check_header(path: &Path, read: Box<dyn Readable>, options: &Options, columns: &Schema) -> Result<()> {
    let found = header(read, options)?;
    let wanted: Vec<&str> = columns.fields().iter().map(|field| field.name().as_str()).collect();
    if found == wanted {
        return Ok(());
    }
    let message = format!(
        "the first line of {} names other columns than the table has: {} instead of {}",
        path.display(),
        found.join(", "),
        wanted.join(", ")
    );
    Err(Error::new(Kind::InvalidFile, message)
        .hint("give files of other columns a table of their own, or declare the columns: CREATE EXTERNAL TABLE t (…)"))
}

/// Columns of Arrow are read by their place and in their own types, so that all files must have the same.
pub fn check_columns(path: &Path, mut read: Box<dyn Readable>, columns: &Schema) -> Result<()> {
    let file = FileReader::try_new(&mut read, None).map(|reader| reader.schema());
    let found = match file {
        Ok(found) => found,
        Err(_) => {
            read.rewind()?;
            StreamReader::try_new(read, None).map(|reader| reader.schema()).map_err(|error| {
                Error::new(Kind::InvalidFile, format!("{} is no Arrow file: {error}", path.display()))
            })?
        }
    };
    let said = |schema: &Schema| {
        let columns = schema.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type()));
        columns.collect::<Vec<_>>().join(", ")
    };
    let (found, wanted) = (said(&found), said(columns));
    if found == wanted {
        return Ok(());
    }
    let message = format!("{} has other columns than the table: {found} instead of {wanted}", path.display());
    Err(Error::new(Kind::InvalidFile, message).hint("give files of other columns a table of their own"))
}

#[async_trait]
impl TableProvider for FilesTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.columns.all)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DFResult<Vec<TableProviderFilterPushDown>> {
        Ok(self.columns.push_down(filters))
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DFResult<Arc<dyn ExecutionPlan>> {
        let home = Home::of(&self.external, state)?;
        let files = self.columns.pruned(self.list(&home).await?, filters)?;
        let format = self.format.reader(&self.external.options, 0, state)?;
        scan_files(state, &home, &format, &self.columns, files, projection, limit).await
    }
}
