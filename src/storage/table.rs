//! A table as DataFusion sees it: scanned with filters and statistics, and written to by INSERT.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{FieldRef, Fields, Schema, SchemaRef};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::stats::Precision;
use datafusion::common::{Result as DFResult, Statistics, project_schema};
use datafusion::config::TableParquetOptions;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::sink::{DataSink, DataSinkExec};
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::mpsc;

use super::relation::{DataFile, Relation, RelationKind, TableId};
use super::store::{Store, display_name};
use super::writer::{Check, TableWriter};
use crate::error::{Error, Kind, Result};

/// One version of a table. Queries planned on it read that version to their last row, whatever is committed meanwhile.
#[derive(Clone)]
pub struct LakeTable {
    store: Arc<Store>,
    relation: Relation,
    id: TableId,
    checks: Vec<Check>,
}

impl LakeTable {
    pub fn new(store: Arc<Store>, relation: Relation) -> Result<LakeTable> {
        match relation.kind {
            RelationKind::Table(id) => Ok(LakeTable { store, relation, id, checks: Vec::new() }),
            RelationKind::View { .. } | RelationKind::External(_) => {
                let name = display_name(&relation.schema, &relation.name);
                Err(Error::new(Kind::NotReady, format!("\"{name}\" is not a table")))
            }
        }
    }

    /// Holds rows that are inserted to these.
    pub fn with_checks(self, checks: Vec<Check>) -> Self {
        Self { checks, ..self }
    }

    pub fn relation(&self) -> &Relation {
        &self.relation
    }

    /// A file as the scan wants it: where it is, what is in it, and a hold on it until it has been read.
    async fn plan_file(&self, state: &dyn Session, file: &DataFile) -> Result<PartitionedFile> {
        let planned = self.place_of(file).with_statistics(self.statistics_of(state, file).await?);
        Ok(planned.with_extension(Arc::clone(&file.stored)))
    }

    fn place_of(&self, file: &DataFile) -> PartitionedFile {
        let path = file.path().strip_prefix(self.store.root()).unwrap_or(file.path());
        PartitionedFile::new(path.to_string_lossy(), file.bytes)
    }

    /// What the footer of a file says of the values in it.
    pub(super) async fn statistics_of(&self, state: &dyn Session, file: &DataFile) -> Result<Arc<Statistics>> {
        if let Some(known) = file.stored.statistics(&self.relation.columns) {
            return Ok(known);
        }
        let cache = state.runtime_env().cache_manager.get_file_metadata_cache();
        let place = self.place_of(file).object_meta;
        let footer = DFParquetMetadata::new(&self.store.directory.objects, &place)
            .with_file_metadata_cache(Some(cache))
            .fetch_statistics(&self.relation.columns)
            .await;
        let name = display_name(&self.relation.schema, &self.relation.name);
        let known =
            footer.map_err(|error| Error::corrupt(format!("a file of table \"{name}\" could not be read: {error}")))?;
        Ok(file.stored.keep_statistics(&self.relation.columns, known))
    }

    /// One file from its first row to its last.
    pub(super) async fn scan_file(
        &self,
        state: &dyn Session,
        file: &DataFile,
        projection: Option<&Vec<usize>>,
    ) -> DFResult<Arc<dyn ExecutionPlan>> {
        let file = self.plan_file(state, file).await?;
        let statistics = file.statistics.as_deref().cloned().unwrap_or_else(|| Statistics::new_unknown(&self.schema()));
        self.read(state, vec![FileGroup::new(vec![file])], statistics, projection, None)
    }

    /// All rows, in the order of the files and of the rows in them.
    pub async fn rows_in_order(
        &self,
        state: &dyn Session,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let mut files = Vec::new();
        for file in self.relation.files.iter() {
            files.push(self.scan_file(state, file, None).await?.execute(0, Arc::clone(&context))?);
        }
        let rows = stream::iter(files).flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }

    fn read(
        &self,
        state: &dyn Session,
        groups: Vec<FileGroup>,
        statistics: Statistics,
        projection: Option<&Vec<usize>>,
        limit: Option<usize>,
    ) -> DFResult<Arc<dyn ExecutionPlan>> {
        let cache = state.runtime_env().cache_manager.get_file_metadata_cache();
        let reader = CachedParquetFileReaderFactory::new(Arc::clone(&self.store.directory.objects), cache);
        let global = state.config_options().execution.parquet.clone();
        let source = ParquetSource::new(self.schema())
            .with_table_parquet_options(TableParquetOptions { global, ..TableParquetOptions::default() })
            .with_parquet_file_reader_factory(Arc::new(reader));
        // The URL is only looked up: reading goes through the factory, relative to the data directory.
        let scan = FileScanConfigBuilder::new(ObjectStoreUrl::local_filesystem(), Arc::new(source))
            .with_file_groups(groups)
            .with_statistics(statistics)
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(scan))
    }
}

impl fmt::Debug for LakeTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LakeTable").field("relation", &self.relation).finish_non_exhaustive()
    }
}

#[async_trait]
impl TableProvider for LakeTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.relation.columns)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn statistics(&self) -> Option<Statistics> {
        let rows = usize::try_from(self.relation.rows()).ok()?;
        Some(Statistics { num_rows: Precision::Exact(rows), ..Statistics::new_unknown(&self.relation.columns) })
    }

    // The plan keeps the filter, and the physical optimizer gives it to the Parquet reader, which skips by it.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DFResult<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DFResult<Arc<dyn ExecutionPlan>> {
        let schema = self.schema();
        // One file alone is left out as well as found by the reader that opens it.
        let filters = if self.relation.files.len() > 1 { filters } else { &[] };
        let wanted = self.files_with(state, filters, &schema).await?;
        if wanted.is_empty() {
            return Ok(Arc::new(EmptyExec::new(project_schema(&schema, projection)?)));
        }
        let planned: Vec<_> = wanted.iter().map(|at| self.plan_file(state, &self.relation.files[*at])).collect();
        let files: Vec<PartitionedFile> = stream::iter(planned).buffered(16).try_collect().await?;
        let all = Statistics::try_merge_iter(files.iter().filter_map(|file| file.statistics.as_deref()), &schema)?;
        let groups = FileGroup::new(files).split_files(state.config().target_partitions());
        let groups = groups.into_iter().map(|group| {
            let files = group.iter().filter_map(|file| file.statistics.as_deref());
            let statistics = Statistics::try_merge_iter(files, &schema)?;
            Ok(group.with_statistics(Arc::new(statistics)))
        });
        let groups = groups.collect::<DFResult<Vec<_>>>()?;
        self.read(state, groups, all, projection, limit)
    }

    async fn insert_into(
        &self,
        _state: &dyn Session,
        input: Arc<dyn ExecutionPlan>,
        how: InsertOp,
    ) -> DFResult<Arc<dyn ExecutionPlan>> {
        let overwrite = match how {
            InsertOp::Append => false,
            InsertOp::Overwrite => true,
            InsertOp::Replace => return Err(Error::unsupported("REPLACE INTO is not supported").into()),
        };
        // NULLs may come as far as the writer, who refuses them by the column's name.
        let nullable = |field: &FieldRef| field.as_ref().clone().with_nullable(true);
        let accepts = Arc::new(Schema::new(self.schema().fields().iter().map(nullable).collect::<Fields>()));
        let sink = LakeSink { into: self.clone(), accepts, overwrite };
        Ok(Arc::new(DataSinkExec::new(input, Arc::new(sink), None)))
    }
}

/// The end of an INSERT: all its rows in one commit.
struct LakeSink {
    into: LakeTable,
    accepts: SchemaRef,
    overwrite: bool,
}

#[async_trait]
impl DataSink for LakeSink {
    fn schema(&self) -> &SchemaRef {
        &self.accepts
    }

    async fn write_all(&self, rows: SendableRecordBatchStream, _context: &Arc<TaskContext>) -> DFResult<u64> {
        let LakeTable { store, relation, id, checks } = &self.into;
        let writer = fill(store.writer_for(relation)?.with_checks(checks.clone()), rows).await?;
        // No await between here and the answer: a cancelled INSERT has committed nothing.
        Ok(match self.overwrite {
            true => store.replace_rows(*id, writer)?,
            false => store.append(*id, writer)?,
        })
    }
}

impl fmt::Debug for LakeSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LakeSink(table={}, overwrite={})", self.into.id, self.overwrite)
    }
}

impl DisplayAs for LakeSink {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Writes a stream to its end and syncs it, on a thread that may block. Ready to be committed; cancelled or failed,
/// it leaves no files.
pub async fn fill(mut writer: TableWriter, mut rows: SendableRecordBatchStream) -> Result<TableWriter> {
    let (batches, mut arriving) = mpsc::channel::<RecordBatch>(2);
    let work = SpawnedTask::spawn_blocking(move || {
        while let Some(batch) = arriving.blocking_recv() {
            writer.write(&batch)?;
        }
        writer.finish()?;
        Ok(writer)
    });
    let fed = async {
        while let Some(batch) = rows.try_next().await? {
            if batches.send(batch).await.is_err() {
                break; // The writer gave up; what it answers below says why.
            }
        }
        drop(batches);
        Ok(())
    };
    let fed: Result<()> = fed.await;
    let written: Result<TableWriter> =
        work.join().await.map_err(|error| Error::internal(format!("the writer stopped: {error}")))?;
    fed.and(written)
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::{DataType, Field};
    use datafusion::arrow::util::pretty::pretty_format_batches;
    use datafusion::physical_plan::displayable;
    use datafusion::prelude::{SessionConfig, SessionContext};

    use super::*;
    use crate::storage::{IfExists, RelationType, RoleId};

    fn lake() -> (tempfile::TempDir, Arc<Store>) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("Ünï cödé %41 #1?")).unwrap();
        let columns = Arc::new(Schema::new(vec![
            Field::new("id", DataType::Int64, false),
            Field::new("name", DataType::Utf8, true),
        ]));
        let writer = store.writer(columns).unwrap();
        store.create_table("public", "t", writer, IfExists::Error, RoleId::FIRST).unwrap();
        (dir, store)
    }

    fn session() -> SessionContext {
        SessionContext::new_with_config(SessionConfig::new().with_target_partitions(4))
    }

    fn shown(store: &Arc<Store>) -> SessionContext {
        let cx = session();
        let relation = store.relation("public", "t").unwrap().unwrap();
        cx.register_table("t", Arc::new(LakeTable::new(Arc::clone(store), relation).unwrap())).unwrap();
        cx
    }

    async fn run(store: &Arc<Store>, sql: &str) -> Result<String> {
        let rows = shown(store).sql(sql).await?.collect().await?;
        let table = pretty_format_batches(&rows)?.to_string();
        let cells = table.lines().skip(3).filter(|line| line.starts_with('|'));
        Ok(cells.map(|line| line.replace([' ', '|'], "")).collect::<Vec<_>>().join(" "))
    }

    async fn plan(cx: &SessionContext, sql: &str) -> String {
        let plan = cx.sql(sql).await.unwrap().create_physical_plan().await.unwrap();
        displayable(plan.as_ref()).indent(true).to_string()
    }

    fn drafts(store: &Store) -> usize {
        std::fs::read_dir(store.root().join("tables/incoming")).unwrap().count()
    }

    #[tokio::test]
    async fn an_empty_table_scans() {
        let (_dir, store) = lake();
        assert_eq!(run(&store, "SELECT count(*), max(name) FROM t").await.unwrap(), "0");
        assert_eq!(run(&store, "SELECT name FROM t WHERE id = 1 LIMIT 3").await.unwrap(), "");
    }

    #[tokio::test]
    async fn inserted_rows_are_there_at_once_and_after_a_restart() {
        let (_dir, store) = lake();
        assert_eq!(run(&store, "INSERT INTO t VALUES (1, 'ann'), (2, NULL)").await.unwrap(), "2");
        assert_eq!(run(&store, "INSERT INTO t (name, id) SELECT name, id + 10 FROM t").await.unwrap(), "2");
        let rows = run(&store, "SELECT id FROM t ORDER BY id").await.unwrap();
        assert_eq!(rows, "1 2 11 12");
        let root = store.root().to_owned();
        drop(store);
        let store = Store::open(&root).unwrap();
        assert_eq!(run(&store, "SELECT count(*), count(name), min(id) FROM t").await.unwrap(), "421");
        assert_eq!(run(&store, "SELECT name FROM t WHERE id = 11").await.unwrap(), "ann");
        assert_eq!(run(&store, "INSERT OVERWRITE t SELECT id, name FROM t WHERE id < 2").await.unwrap(), "1");
        assert_eq!(run(&store, "SELECT id FROM t").await.unwrap(), "1");
    }

    #[tokio::test]
    async fn filters_projections_and_statistics_reach_the_files() {
        let (_dir, store) = lake();
        run(&store, "INSERT INTO t SELECT value, 'x' FROM generate_series(1, 1000)").await.unwrap();
        let cx = shown(&store);
        let scan = plan(&cx, "SELECT name FROM t WHERE id = 7").await;
        assert!(scan.contains("DataSourceExec") && scan.contains("pruning_predicate=id_null_count"), "{scan}");
        assert!(scan.contains("projection=[name]") || scan.contains("projection=[id, name]"), "{scan}");
        let counted = plan(&cx, "SELECT count(*), min(id), max(id) FROM t").await;
        assert!(counted.contains("PlaceholderRowExec"), "{counted}");
        assert_eq!(run(&store, "SELECT count(*), min(id), max(id) FROM t").await.unwrap(), "100011000");
    }

    #[tokio::test]
    async fn a_failed_insert_leaves_nothing() {
        let (_dir, store) = lake();
        let missing = "INSERT INTO t (name) VALUES ('ann')";
        let null = "INSERT INTO t SELECT CASE WHEN value < 20000 THEN value END, 'x' FROM generate_series(1, 30000)";
        for sql in [missing, null] {
            let error = run(&store, sql).await.unwrap_err();
            assert_eq!(error.kind, Kind::NullNotAllowed, "{error}");
            assert_eq!(error.message, "null value in column \"id\" violates not-null constraint");
        }
        let late = "INSERT INTO t SELECT 1 / (100000 - value), 'x' FROM generate_series(1, 200000)";
        let error = run(&store, late).await.unwrap_err();
        assert_eq!(error.kind, Kind::DivisionByZero, "{error}");
        assert_eq!(drafts(&store), 0);
        assert_eq!(run(&store, "SELECT count(*) FROM t").await.unwrap(), "0");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_cancelled_insert_leaves_nothing() {
        let (_dir, store) = lake();
        let (cx, sql) = (shown(&store), "INSERT INTO t SELECT value, 'x' FROM generate_series(1, 100000000)");
        let insert = cx.sql(sql).await.unwrap();
        let cancelled = tokio::time::timeout(std::time::Duration::from_millis(300), insert.collect()).await;
        assert!(cancelled.is_err());
        for _ in 0..100 {
            match drafts(&store) {
                0 => break,
                _ => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
            }
        }
        assert_eq!(drafts(&store), 0);
        assert_eq!(run(&store, "SELECT count(*) FROM t").await.unwrap(), "0");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn concurrent_inserts_all_survive() {
        let (_dir, store) = lake();
        let inserts = (0..8).map(|n| {
            let store = Arc::clone(&store);
            async move { run(&store, &format!("INSERT INTO t VALUES ({n}, 'x')")).await.unwrap() }
        });
        futures::future::join_all(inserts).await;
        assert_eq!(run(&store, "SELECT count(*), sum(id) FROM t").await.unwrap(), "828");
    }

    #[tokio::test]
    async fn a_query_reads_its_version_to_the_last_row() {
        let (_dir, store) = lake();
        for n in 0..3 {
            run(&store, &format!("INSERT INTO t SELECT value + {n}, 'x' FROM generate_series(1, 50000)"))
                .await
                .unwrap();
        }
        let cx = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
        let relation = store.relation("public", "t").unwrap().unwrap();
        cx.register_table("t", Arc::new(LakeTable::new(Arc::clone(&store), relation).unwrap())).unwrap();
        let mut rows = cx.sql("SELECT * FROM t").await.unwrap().execute_stream().await.unwrap();
        cx.deregister_table("t").unwrap();
        let mut seen = rows.try_next().await.unwrap().unwrap().num_rows();
        store.drop_relation("public", "t", RelationType::Table, false).unwrap();
        while let Some(batch) = rows.try_next().await.unwrap() {
            seen += batch.num_rows();
        }
        assert_eq!(seen, 150_000);
        drop((rows, cx));
        assert!(!store.root().join("tables/1").exists());
    }

    #[tokio::test]
    async fn a_lost_file_is_named_as_damage() {
        let (_dir, store) = lake();
        run(&store, "INSERT INTO t VALUES (1, 'ann')").await.unwrap();
        std::fs::remove_file(store.relation("public", "t").unwrap().unwrap().files[0].path()).unwrap();
        let error = run(&store, "SELECT * FROM t").await.unwrap_err();
        assert_eq!(error.kind, Kind::Corrupt, "{error}");
    }

    #[test]
    fn a_view_is_not_a_table() {
        let (_dir, store) = lake();
        store.create_view("public", "v", "SELECT 1", Arc::new(Schema::empty()), false, RoleId::FIRST).unwrap();
        let view = store.relation("public", "v").unwrap().unwrap();
        assert_eq!(LakeTable::new(store, view).map(|_| ()).unwrap_err().kind, Kind::NotReady);
    }
}
