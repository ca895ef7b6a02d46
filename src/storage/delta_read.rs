//! Delta tables of other programs: their log is read anew with each scan, and says which files are the table's.
//!
//! The log is a folder of numbered commits, each a file of JSON with an action a line, and of checkpoints, which hold
//! all actions up to a number as Parquet (the Delta transaction log protocol, <https://github.com/delta-io/delta>).

use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use datafusion::arrow::json::LineDelimitedWriter;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Result as DFResult, ScalarValue};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use datafusion::physical_plan::ExecutionPlan;
use serde_json::Value;

use super::External;
use super::files::{Columns, Format, Found, Home, Readable, check_footer, scan_files};
use crate::error::{Error, Kind, Result};

/// How the catalog calls the provider.
pub const DELTA: &str = "delta";

/// The folder of the log.
const LOG: &str = "_delta_log";

/// What readers may be asked to know, and we do, at least as long as a table makes no use of it.
const KNOWN_FEATURES: &[&str] = &["columnMapping", "deletionVectors", "timestampNtz", "vacuumProtocolCheck"];

/// A Delta table that another program writes.
#[derive(Debug)]
pub struct DeltaTable {
    external: External,
    columns: Columns,
}

impl DeltaTable {
    /// The columns that files are partitioned by are the last.
    pub fn new(external: &External, columns: SchemaRef) -> Self {
        Self { external: external.clone(), columns: Columns::new(columns, external.partitions.len()) }
    }

    /// Whether a folder is one of a Delta table.
    pub async fn is_at(home: &Home, location: &str) -> Result<bool> {
        home.has_folder(location, LOG).await
    }

    /// The columns of the table as its log has them now; what it is partitioned by goes into `external`.
    pub async fn infer(external: &mut External, state: &dyn Session) -> Result<SchemaRef> {
        let home = Home::of(external, state)?;
        let snapshot = Snapshot::read(&home, folder(external)?).await?;
        external.partitions.clone_from(&snapshot.partitions);
        let fields = snapshot.schema.fields();
        let is_partition = |field: &&Arc<Field>| snapshot.partitions.contains(field.name());
        let in_files = fields.iter().filter(|field| !is_partition(field)).cloned();
        let of_folders = snapshot.partitions.iter().map(|name| {
            let field = snapshot.schema.field_with_name(name);
            let missing = |_| damaged(folder(external).unwrap_or(Path::new("")), format!("there is no column {name}"));
            field.cloned().map(Arc::new).map_err(missing)
        });
        let fields = in_files.map(Ok).chain(of_folders).collect::<Result<Vec<_>>>()?;
        Ok(Arc::new(Schema::new(fields)))
    }

    /// The files of the table now, with the values that they are partitioned by.
    async fn list(&self, home: &Home) -> Result<Vec<PartitionedFile>> {
        let (folder, of_folders) = (folder(&self.external)?, &self.columns.of_folders);
        let snapshot = Snapshot::read(home, folder).await?;
        let wanted: Vec<&String> = of_folders.iter().map(|field| field.name()).collect();
        if wanted != snapshot.partitions.iter().collect::<Vec<_>>() {
            let message =
                format!("the Delta table at {} is partitioned by other columns than before", folder.display());
            return Err(
                Error::new(Kind::NotReady, message).hint("CREATE OR REPLACE EXTERNAL TABLE reads its columns anew")
            );
        }
        let mut listed = Vec::with_capacity(snapshot.files.len());
        for Added { path, size, modified, values } in snapshot.files {
            let mut file = PartitionedFile::from(home.object(&path, size, modified)?);
            let values =
                of_folders.iter().map(|field| value(field, values.get(field.name()).and_then(Option::as_deref)));
            file.partition_values = values.collect::<Result<_>>()?;
            listed.push(file);
        }
        Ok(listed)
    }
}

/// The folder of a table.
fn folder(external: &External) -> Result<&Path> {
    match external.locations.as_slice() {
        [location] => Ok(Path::new(location)),
        _ => Err(Error::invalid("a Delta table has one location").hint("LOCATION '/folder/of/the/table'")),
    }
}

/// A value that a file is partitioned by, as the log writes it: no text, and empty text, is NULL.
fn value(field: &Field, written: Option<&str>) -> Result<ScalarValue> {
    let Some(written) = written.filter(|written| !written.is_empty()) else {
        return Ok(ScalarValue::try_from(field.data_type())?);
    };
    ScalarValue::try_from_string(written.to_owned(), field.data_type()).map_err(|_| {
        let message = format!("the value \"{written}\" of {} in the log is no {}", field.name(), field.data_type());
        Error::corrupt(message)
    })
}

#[async_trait]
impl TableProvider for DeltaTable {
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
        let format = Format::Parquet.reader(&BTreeMap::new(), 0, state)?;
        scan_files(state, &home, &format, &self.columns, files, projection, limit).await
    }
}

/// A table as the last commit of its log left it.
#[derive(Debug)]
struct Snapshot {
    schema: Schema,
    partitions: Vec<String>,
    files: Vec<Added>,
}

/// A file of the table, as the log describes it.
#[derive(Debug)]
struct Added {
    path: PathBuf,
    /// In bytes.
    size: u64,
    /// In milliseconds since 1970.
    modified: i64,
    /// The values that it is partitioned by; `None` is NULL.
    values: BTreeMap<String, Option<String>>,
}

/// What the actions read so far have come to.
#[derive(Default)]
struct Replay {
    protocol: Option<Value>,
    metadata: Option<Value>,
    /// By path, as the log writes it.
    live: BTreeMap<String, Value>,
}

impl Snapshot {
    async fn read(home: &Home, folder: &Path) -> Result<Self> {
        let location = folder.to_string_lossy();
        if !DeltaTable::is_at(home, &location).await? {
            return Err(Error::new(Kind::Io, format!("there is no Delta table at \"{location}\""))
                .hint("its folder is the one that holds the folder _delta_log"));
        }
        let log = folder.join(LOG);
        let found = home.files(&[format!("{}/", log.display())], |_| true).await?;
        let (checkpoint, commits) = segments(folder, found.into_iter().filter(|of| of.path.parent() == Some(&log)))?;
        let mut replay = Replay::default();
        for Found { path, object, .. } in checkpoint {
            let folder = folder.to_owned();
            let part = move |read| {
                replay.checkpoint(&folder, &path, read)?;
                Ok(replay)
            };
            replay = home.look(&object, part).await?;
        }
        for Found { path, object, .. } in commits {
            let folder = folder.to_owned();
            let commit = move |mut read: Box<dyn Readable>| {
                let mut text = String::new();
                let read = read.read_to_string(&mut text);
                read.map_err(|error| damaged(&folder, format!("{}: {error}", path.display())))?;
                replay.actions(&folder, &text)?;
                Ok(replay)
            };
            replay = home.look(&object, commit).await?;
        }
        replay.snapshot(folder)
    }
}

/// The parts of the newest whole checkpoint among the files of a log, and the commits after it, in order.
fn segments(folder: &Path, log: impl Iterator<Item = Found>) -> Result<(Vec<Found>, Vec<Found>)> {
    let mut commits: BTreeMap<u64, Found> = BTreeMap::new();
    // By version and number of parts: the parts that are there.
    let mut checkpoints: BTreeMap<(u64, usize), BTreeMap<usize, Found>> = BTreeMap::new();
    for found in log {
        let name = found.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let parts: Vec<&str> = name.split('.').collect();
        let Some(version) = parts[0].parse::<u64>().ok().filter(|_| parts[0].len() == 20) else { continue };
        match parts[1..] {
            ["json"] => {
                commits.insert(version, found);
            }
            ["checkpoint", "parquet"] => {
                checkpoints.entry((version, 1)).or_default().insert(1, found);
            }
            ["checkpoint", part, of, "parquet"] => {
                if let (Ok(part), Ok(of)) = (part.parse(), of.parse()) {
                    checkpoints.entry((version, of)).or_default().insert(part, found);
                }
            }
            _ => {}
        }
    }
    let whole = checkpoints.into_iter().rev().find(|((_, of), parts)| parts.len() == *of);
    let (first, checkpoint) = match whole {
        Some(((version, _), parts)) => (version + 1, parts.into_values().collect()),
        None => (0, Vec::new()),
    };
    let commits = commits.split_off(&first);
    if let Some((missing, _)) = (first..).zip(commits.keys()).find(|(expected, found)| expected != *found) {
        return Err(damaged(folder, format!("commit {missing} is missing, or a checkpoint that we can read")));
    }
    if commits.is_empty() && first == 0 {
        return Err(damaged(folder, "it has no commit".to_owned()));
    }
    Ok((checkpoint, commits.into_values().collect()))
}

impl Replay {
    /// The actions of a part of a checkpoint: its rows are what the lines of a commit are.
    fn checkpoint(&mut self, folder: &Path, part: &Path, mut read: Box<dyn Readable>) -> Result<()> {
        let unreadable = |error: &dyn std::fmt::Display| damaged(folder, format!("{}: {error}", part.display()));
        let mut bytes = Vec::new();
        read.read_to_end(&mut bytes)?;
        check_footer(part, Cursor::new(&bytes))?;
        let bytes = Bytes::from(bytes);
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).and_then(|builder| builder.build());
        for batch in reader.map_err(|error| unreadable(&error))? {
            let mut lines = LineDelimitedWriter::new(Vec::new());
            let written = batch.and_then(|batch| lines.write(&batch)).and_then(|()| lines.finish());
            written.map_err(|error| unreadable(&error))?;
            let text = String::from_utf8(lines.into_inner()).map_err(|error| unreadable(&error))?;
            self.actions(folder, &text)?;
        }
        Ok(())
    }

    fn actions(&mut self, folder: &Path, text: &str) -> Result<()> {
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let action: Value = serde_json::from_str(line).map_err(|error| damaged(folder, error.to_string()))?;
            let Value::Object(actions) = action else {
                return Err(damaged(folder, "an action is no object".to_owned()));
            };
            for (kind, what) in actions.into_iter().filter(|(_, what)| !what.is_null()) {
                match kind.as_str() {
                    "protocol" => self.protocol = Some(what),
                    "metaData" => self.metadata = Some(what),
                    "add" => {
                        self.live.insert(path_of(folder, &what)?, what);
                    }
                    "remove" => {
                        self.live.remove(&path_of(folder, &what)?);
                    }
                    // Of no concern to readers: commitInfo, txn, cdc, domainMetadata.
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn snapshot(self, folder: &Path) -> Result<Snapshot> {
        let protocol = self.protocol.ok_or_else(|| damaged(folder, "it has no protocol".to_owned()))?;
        let metadata = self.metadata.ok_or_else(|| damaged(folder, "it has no metadata".to_owned()))?;
        check_protocol(folder, &protocol, &metadata)?;
        let schema: Value = serde_json::from_str(metadata["schemaString"].as_str().unwrap_or_default())
            .map_err(|error| damaged(folder, format!("its schema: {error}")))?;
        let partitions = metadata["partitionColumns"].as_array().into_iter().flatten();
        let partitions = partitions.filter_map(Value::as_str).map(str::to_owned).collect();
        let file = |(path, add): (String, Value)| {
            if !add["deletionVector"].is_null() {
                return Err(unknown(folder, "rows of its files are deleted by deletion vectors"));
            }
            let values = add["partitionValues"].as_object().into_iter().flatten();
            let values = values.map(|(name, value)| (name.clone(), value.as_str().map(str::to_owned)));
            Ok(Added {
                path: located(folder, &path)?,
                size: add["size"].as_u64().unwrap_or_default(),
                modified: add["modificationTime"].as_i64().unwrap_or_default(),
                values: values.collect(),
            })
        };
        Ok(Snapshot {
            schema: Schema::new(fields(folder, &schema)?),
            partitions,
            files: self.live.into_iter().map(file).collect::<Result<_>>()?,
        })
    }
}

fn path_of(folder: &Path, action: &Value) -> Result<String> {
    let path = action["path"].as_str().ok_or_else(|| damaged(folder, "a file has no path".to_owned()))?;
    Ok(path.to_owned())
}

/// Where a file is: paths in the log are relative to the table, and written as in a URL.
fn located(folder: &Path, path: &str) -> Result<PathBuf> {
    let decoded = percent_encoding::percent_decode_str(path).decode_utf8();
    let decoded = decoded.map_err(|_| damaged(folder, format!("the path {path} is not UTF-8")))?;
    match decoded.split_once("://").map_or(decoded.split_once(":/"), Some) {
        Some(("file", rest)) => Ok(Path::new("/").join(rest.trim_start_matches('/'))),
        // As another program calls the same bucket.
        Some(("s3" | "s3a", rest)) if folder.starts_with("s3:") => {
            Ok(format!("s3://{}", rest.trim_start_matches('/')).into())
        }
        Some((scheme, _)) if scheme.chars().all(|letter| letter.is_ascii_alphanumeric()) => {
            Err(unknown(folder, &format!("one of its files is at {scheme}://")))
        }
        _ => Ok(folder.join(decoded.as_ref())),
    }
}

/// A table that asks its readers to know what we do not is refused: its rows would be read wrongly.
fn check_protocol(folder: &Path, protocol: &Value, metadata: &Value) -> Result<()> {
    let version = protocol["minReaderVersion"].as_u64().unwrap_or(u64::MAX);
    if version > 3 {
        return Err(unknown(folder, &format!("it wants readers of version {version}, this one knows 3")));
    }
    let features = protocol["readerFeatures"].as_array().into_iter().flatten().filter_map(Value::as_str);
    if let Some(feature) = features.filter(|_| version == 3).find(|feature| !KNOWN_FEATURES.contains(feature)) {
        return Err(unknown(folder, &format!("it wants readers that know {feature}")));
    }
    match metadata["configuration"]["delta.columnMapping.mode"].as_str() {
        None | Some("none") => Ok(()),
        Some(mode) => Err(unknown(folder, &format!("its columns are mapped by {mode}"))),
    }
}

fn fields(folder: &Path, of: &Value) -> Result<Fields> {
    let listed = of["fields"].as_array().ok_or_else(|| damaged(folder, "a struct has no fields".to_owned()))?;
    let field = |field: &Value| {
        let name = field["name"].as_str().ok_or_else(|| damaged(folder, "a column has no name".to_owned()))?;
        // Nobody holds other programs to a NOT NULL.
        Ok(Field::new(name, data_type(folder, &field["type"])?, true))
    };
    listed.iter().map(field).collect::<Result<Vec<_>>>().map(Fields::from)
}

fn data_type(folder: &Path, of: &Value) -> Result<DataType> {
    let Some(name) = of.as_str() else {
        return match of["type"].as_str() {
            Some("struct") => Ok(DataType::Struct(fields(folder, of)?)),
            Some("array") => {
                Ok(DataType::List(Arc::new(Field::new("element", data_type(folder, &of["elementType"])?, true))))
            }
            Some("map") => {
                let key = Field::new("key", data_type(folder, &of["keyType"])?, false);
                let value = Field::new("value", data_type(folder, &of["valueType"])?, true);
                let entries = Field::new("key_value", DataType::Struct(Fields::from(vec![key, value])), false);
                Ok(DataType::Map(Arc::new(entries), false))
            }
            other => Err(unknown(folder, &format!("a column is of type {}", other.unwrap_or("unknown")))),
        };
    };
    Ok(match name {
        "string" => DataType::Utf8,
        "long" => DataType::Int64,
        "integer" => DataType::Int32,
        "short" => DataType::Int16,
        "byte" => DataType::Int8,
        "float" => DataType::Float32,
        "double" => DataType::Float64,
        "boolean" => DataType::Boolean,
        "binary" => DataType::Binary,
        "date" => DataType::Date32,
        "timestamp" => DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC"))),
        "timestamp_ntz" => DataType::Timestamp(TimeUnit::Microsecond, None),
        _ => {
            let digits = name.strip_prefix("decimal(").and_then(|rest| rest.strip_suffix(')'));
            let digits = digits.and_then(|digits| digits.split_once(','));
            let (precision, scale) = digits.ok_or_else(|| unknown(folder, &format!("a column is of type {name}")))?;
            let (Ok(precision), Ok(scale)) = (precision.trim().parse(), scale.trim().parse()) else {
                return Err(damaged(folder, format!("a column is of type {name}")));
            };
            DataType::Decimal128(precision, scale)
        }
    })
}

fn damaged(folder: &Path, why: String) -> Error {
    Error::corrupt(format!("the log of the Delta table at {} cannot be read: {why}", folder.display()))
}

fn unknown(folder: &Path, why: &str) -> Error {
    Error::unsupported(format!("the Delta table at {} cannot be read: {why}", folder.display()))
        .hint("let the program that writes it rewrite it without this, or export it as Parquet")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use datafusion::prelude::SessionContext;

    use super::*;

    const PROTOCOL: &str = r#"{"protocol":{"minReaderVersion":1,"minWriterVersion":2}}"#;
    const METADATA: &str = r#"{"metaData":{"id":"x","format":{"provider":"parquet"},"schemaString":"{\"type\":\"struct\",\"fields\":[{\"name\":\"y\",\"type\":\"integer\"},{\"name\":\"amount\",\"type\":\"decimal(12,2)\"},{\"name\":\"tags\",\"type\":{\"type\":\"array\",\"elementType\":\"string\"}}]}","partitionColumns":["y"],"configuration":{}}}"#;

    fn table(commits: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(LOG)).unwrap();
        for (version, commit) in commits.iter().enumerate() {
            fs::write(dir.path().join(LOG).join(format!("{version:020}.json")), commit).unwrap();
        }
        dir
    }

    fn add(path: &str) -> String {
        format!(r#"{{"add":{{"path":"{path}","partitionValues":{{"y":"1"}},"size":1,"dataChange":true}}}}"#)
    }

    fn read(dir: &tempfile::TempDir) -> Result<Snapshot> {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(Snapshot::read(&Home::Here, dir.path()))
    }

    fn names(dir: &tempfile::TempDir) -> Vec<String> {
        let files = read(dir).unwrap().files;
        files
            .into_iter()
            .map(|Added { path, .. }| path.strip_prefix(dir.path()).unwrap().to_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn files_are_those_added_and_not_removed() {
        let first = [PROTOCOL, METADATA, &add("a"), &add("y=1/S%C3%A3o%20%25.parquet")].join("\n");
        let second = [add("b"), r#"{"remove":{"path":"a","dataChange":true}}"#.to_owned()].join("\n");
        let dir = table(&[&first, &second]);
        assert_eq!(names(&dir), ["b", "y=1/São %.parquet"]);
        let location = dir.path().to_str().unwrap().to_owned();
        let mut external = External { locations: vec![location], ..External::default() };
        let (runtime, state) = (tokio::runtime::Runtime::new().unwrap(), SessionContext::new().state());
        let columns = runtime.block_on(DeltaTable::infer(&mut external, &state)).unwrap();
        let columns: Vec<&str> = columns.fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(
            (columns.as_slice(), external.partitions.as_slice()),
            (&["amount", "tags", "y"][..], &["y".to_owned()][..])
        );
    }

    #[test]
    fn a_gap_in_the_log_is_damage() {
        let dir = table(&[&[PROTOCOL, METADATA].join("\n"), &add("a"), &add("b")]);
        fs::remove_file(dir.path().join(LOG).join(format!("{:020}.json", 1))).unwrap();
        assert_eq!(read(&dir).unwrap_err().kind, Kind::Corrupt);
        fs::remove_dir_all(dir.path().join(LOG)).unwrap();
        assert_eq!(read(&dir).unwrap_err().kind, Kind::Io);
    }

    #[test]
    fn what_readers_must_know_and_we_do_not_is_refused() {
        let refused = |commit: &[&str]| read(&table(&[&commit.join("\n")])).unwrap_err().kind;
        let feature = r#"{"protocol":{"minReaderVersion":3,"readerFeatures":["typeWidening"]}}"#;
        assert_eq!(refused(&[feature, METADATA]), Kind::Unsupported);
        let mapped =
            METADATA.replace(r#""configuration":{}"#, r#""configuration":{"delta.columnMapping.mode":"name"}"#);
        assert_eq!(refused(&[PROTOCOL, &mapped]), Kind::Unsupported);
        let deleted = add("a").replace(r#""size""#, r#""deletionVector":{"storageType":"u"},"size""#);
        assert_eq!(refused(&[PROTOCOL, METADATA, &deleted]), Kind::Unsupported);
        assert_eq!(refused(&[PROTOCOL, METADATA, &add("s3://b/a")]), Kind::Unsupported);
        // A table that could have deletion vectors, and has none, is read.
        let could = r#"{"protocol":{"minReaderVersion":3,"readerFeatures":["deletionVectors"]}}"#;
        assert!(names(&table(&[&[could, METADATA].join("\n")])).is_empty());
    }
}
