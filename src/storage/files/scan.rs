//! The scan of a list of files as one table.

use std::sync::Arc;

use datafusion::arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::stats::Precision;
use datafusion::common::{DFSchema, Result as DFResult, ScalarValue, Statistics, project_schema};
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::listing::helpers::{expr_applicable_for_cols, filter_partitioned_file};
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder};
use datafusion::datasource::table_schema::TableSchemaBuilder;
use datafusion::execution::cache::TableScopedPath;
use datafusion::execution::cache::cache_manager::{CachedFileMetadata, SchemaFingerprint};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::object_store::ObjectStore;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use futures::{StreamExt, TryStreamExt, stream};

use super::home::Home;
use super::infer::check_footer;

/// Files whose footers are read at the same time.
const AT_ONCE: usize = 16;

/// The columns of a table of files: first those that stand in the files, then those that their folders say.
#[derive(Debug, Clone)]
pub struct Columns {
    pub all: SchemaRef,
    pub in_files: SchemaRef,
    pub of_folders: Vec<FieldRef>,
}

impl Columns {
    /// The last `of_folders` columns are those of the folders.
    pub fn new(all: SchemaRef, of_folders: usize) -> Self {
        let (in_files, of_folders) = all.fields().split_at(all.fields().len().saturating_sub(of_folders));
        let in_files = Arc::new(Schema::new(in_files.iter().map(Arc::clone).collect::<Vec<_>>()));
        Self { in_files, of_folders: of_folders.to_vec(), all }
    }

    /// Whether a filter is decided by the folders alone.
    fn decide(&self, filter: &Expr) -> bool {
        let names: Vec<&str> = self.of_folders.iter().map(|field| field.name().as_str()).collect();
        !names.is_empty() && expr_applicable_for_cols(&names, filter)
    }

    /// Folders decide for good; the rest of a filter stays in the plan, and readers of Parquet skip by it.
    pub fn push_down(&self, filters: &[&Expr]) -> Vec<TableProviderFilterPushDown> {
        let how = |filter: &&Expr| match self.decide(filter) {
            true => TableProviderFilterPushDown::Exact,
            false => TableProviderFilterPushDown::Inexact,
        };
        filters.iter().map(how).collect()
    }

    /// The files that these filters, as far as folders decide them, leave.
    pub fn pruned(&self, files: Vec<PartitionedFile>, filters: &[Expr]) -> DFResult<Vec<PartitionedFile>> {
        let decided: Vec<Expr> = filters.iter().filter(|filter| self.decide(filter)).cloned().collect();
        if decided.is_empty() {
            return Ok(files);
        }
        let fields: Vec<Field> = self.of_folders.iter().map(|field| field.as_ref().clone()).collect();
        let schema = DFSchema::from_unqualified_fields(fields.into(), Default::default())?;
        let left = files.into_iter().map(|file| filter_partitioned_file(file, &decided, &schema));
        left.filter_map(Result::transpose).collect()
    }
}

/// Reads these files with what their footers say of them: rows that cannot matter are skipped.
pub async fn scan_files(
    state: &dyn Session,
    home: &Home,
    format: &Arc<dyn FileFormat>,
    columns: &Columns,
    files: Vec<PartitionedFile>,
    projection: Option<&Vec<usize>>,
    limit: Option<usize>,
) -> DFResult<Arc<dyn ExecutionPlan>> {
    if files.is_empty() {
        return Ok(Arc::new(EmptyExec::new(project_schema(&columns.all, projection)?)));
    }
    let store = home.store(state)?;
    let fingerprint = Arc::new(SchemaFingerprint::from_schema(&columns.in_files));
    let known = files.into_iter().map(|file| with_statistics(state, home, &store, format, columns, &fingerprint, file));
    let known: Vec<_> = known.collect();
    let files: Vec<PartitionedFile> = stream::iter(known).buffered(AT_ONCE).try_collect().await?;

    let merged = |files: &[&PartitionedFile]| {
        Statistics::try_merge_iter(files.iter().filter_map(|file| file.statistics.as_deref()), &columns.all)
    };
    let all = merged(&files.iter().collect::<Vec<_>>())?;
    let groups = FileGroup::new(files).split_files(state.config().target_partitions());
    let groups = groups.into_iter().map(|group| {
        let statistics = merged(&group.iter().collect::<Vec<_>>())?;
        Ok(group.with_statistics(Arc::new(statistics)))
    });
    let groups = groups.collect::<DFResult<Vec<_>>>()?;
    let schema =
        TableSchemaBuilder::from(&columns.in_files).with_table_partition_cols(columns.of_folders.clone()).build();
    let scan = FileScanConfigBuilder::new(home.url(), format.file_source(schema))
        .with_file_groups(groups)
        .with_statistics(all)
        .with_projection_indices(projection.cloned())?
        .with_limit(limit)
        .build();
    format.create_physical_plan(state, scan).await
}

/// A file with what is known of its rows: read once, as long as the file stays as it is.
async fn with_statistics(
    state: &dyn Session,
    home: &Home,
    store: &Arc<dyn ObjectStore>,
    format: &Arc<dyn FileFormat>,
    columns: &Columns,
    fingerprint: &Arc<SchemaFingerprint>,
    file: PartitionedFile,
) -> DFResult<PartitionedFile> {
    let path = TableScopedPath { table: None, path: file.object_meta.location.clone() };
    let cache = state.runtime_env().cache_manager.get_file_statistic_cache();
    if let Some(cached) = cache.as_ref().and_then(|cache| cache.get(&path))
        && cached.is_valid_for(&file.object_meta, fingerprint)
    {
        return Ok(file.with_statistics(Arc::clone(&cached.statistics)));
    }
    if format.is::<ParquetFormat>() {
        let path = home.path(&file.object_meta);
        home.look(&file.object_meta, move |read| check_footer(&path, read)).await?;
    }
    let found = format.infer_stats(state, store, Arc::clone(&columns.in_files), &file.object_meta).await?;
    let statistics = Arc::new(typed(found, &columns.in_files));
    if let Some(cache) = cache {
        let entry =
            CachedFileMetadata::new(file.object_meta.clone(), Arc::clone(fingerprint), Arc::clone(&statistics), None);
        cache.put(&path, entry);
    }
    Ok(file.with_statistics(statistics))
}

/// Statistics in the types of the table: a file may have a narrower one, which the scan casts as well.
fn typed(mut statistics: Statistics, schema: &Schema) -> Statistics {
    for (column, field) in statistics.column_statistics.iter_mut().zip(schema.fields()) {
        let of = |bound: &Precision<ScalarValue>| match bound {
            Precision::Exact(value) => value.cast_to(field.data_type()).map_or(Precision::Absent, Precision::Exact),
            Precision::Inexact(value) => value.cast_to(field.data_type()).map_or(Precision::Absent, Precision::Inexact),
            Precision::Absent => Precision::Absent,
        };
        column.min_value = of(&column.min_value);
        column.max_value = of(&column.max_value);
    }
    statistics
}
