//! Files of one format as a table: which they are is looked up with every scan.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::csv;
use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result as DFResult;
use datafusion::common::runtime::SpawnedTask;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;

use super::format::{Format, Options, compression, letter, switch};
use super::location::{Found, files, object};
use super::partitions;
use super::scan::{Columns, scan_files};
use crate::error::{Error, Kind, Result};
use crate::storage::External;

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

    pub fn external(&self) -> &Arc<External> {
        &self.external
    }

    /// The files as they are now, with the values that their folders give.
    async fn list(&self) -> Result<Vec<PartitionedFile>> {
        let (external, format) = (Arc::clone(&self.external), self.format);
        let folders: Vec<(String, DataType)> =
            self.columns.of_folders.iter().map(|field| (field.name().clone(), field.data_type().clone())).collect();
        // Names are compared where the files, not somebody who knew better, have named the columns.
        let names = (!external.declared && format.is_positional() && switch(&external.options, "header", true)?)
            .then(|| Arc::clone(&self.columns.in_files));
        let listing = SpawnedTask::spawn_blocking(move || {
            let mut listed = Vec::new();
            for Found { path, .. } in all_files(&external, format)? {
                let mut file = PartitionedFile::from(object(&path)?);
                // A file without a byte has no row, whatever it is.
                if file.object_meta.size == 0 {
                    continue;
                }
                if let Some(columns) = &names {
                    check_header(&path, &external.options, columns)?;
                }
                file.partition_values = partitions::values(&path, &folders)?;
                listed.push(file);
            }
            Ok(listed)
        });
        listing.join().await.map_err(|error| Error::internal(format!("the listing of files stopped: {error}")))?
    }
}

/// All files of all locations, each once.
pub fn all_files(external: &External, format: Format) -> Result<Vec<Found>> {
    let mut all: Vec<Found> = Vec::new();
    for location in &external.locations {
        for found in files(location, &|name| format.claims(name))? {
            if !all.iter().any(|known| known.path == found.path) {
                all.push(found);
            }
        }
    }
    Ok(all)
}

/// The names in the first line of a CSV file, as its reader sees them.
fn header(path: &Path, options: &Options) -> Result<Vec<String>> {
    let mut format = csv::reader::Format::default().with_header(true);
    format = format.with_delimiter(letter(options, "delimiter")?.unwrap_or(b','));
    format = format.with_quote(letter(options, "quote")?.unwrap_or(b'"'));
    if let Some(escape) = letter(options, "escape")? {
        format = format.with_escape(escape);
    }
    if let Some(comment) = letter(options, "comment")? {
        format = format.with_comment(comment);
    }
    let file = compression(options)?.convert_read(File::open(path)?)?;
    let (schema, _) = format.infer_schema(file, Some(0))?;
    Ok(schema.fields().iter().map(|field| field.name().clone()).collect())
}

/// Values go to columns by their place, so that a file with other names, or the same in another order, is not one of
/// the table's.
pub fn check_header(path: &Path, options: &Options, columns: &Schema) -> Result<()> {
    let found = header(path, options)?;
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

#[async_trait]
impl TableProvider for FilesTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.columns.all)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    // Folders decide for good; the rest of a filter stays in the plan, and readers of Parquet skip by it.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DFResult<Vec<TableProviderFilterPushDown>> {
        let how = |filter: &&Expr| match self.columns.decide(filter) {
            true => TableProviderFilterPushDown::Exact,
            false => TableProviderFilterPushDown::Inexact,
        };
        Ok(filters.iter().map(how).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DFResult<Arc<dyn ExecutionPlan>> {
        let files = self.columns.pruned(self.list().await?, filters)?;
        let format = self.format.reader(&self.external.options, 0, state)?;
        scan_files(state, &format, &self.columns, files, projection, limit).await
    }
}
