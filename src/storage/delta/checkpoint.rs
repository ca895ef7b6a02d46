//! A checkpoint: the state of a version in one Parquet file, so that a reader need not read the log from its beginning.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use datafusion::arrow::json::ReaderBuilder;
use serde_json::{Value, json};

use super::{Described, actions, file_name, write_whole};
use crate::error::{Error, Result};
use crate::storage::writer::{not_written, parquet_writer};

/// Writes the checkpoint of a version, and the file that names the last one.
pub(super) fn write(log: &Path, table: &Described<'_>, version: u64) -> Result<()> {
    let mut rows = vec![actions::protocol(table.columns), actions::meta_data(table)];
    let files = table.relation.past.iter().chain(table.relation.files.iter()).filter(|file| file.is_in(version));
    rows.extend(files.map(|file| actions::add(table, file, 0, false)));
    let batch = batch(&rows)?;
    let draft = log.join(format!("{version:020}.draft"));
    let mut parquet = parquet_writer(File::create(&draft)?, &batch.schema(), Ok)?;
    parquet.write(&batch).map_err(not_written)?;
    parquet.close().map_err(not_written)?;
    fs::rename(&draft, log.join(file_name(version, "checkpoint.parquet")))?;
    let last = json!({ "version": version, "size": rows.len() });
    write_whole(log, "_last_checkpoint", last.to_string().as_bytes())
}

fn batch(rows: &[Value]) -> Result<RecordBatch> {
    let mut decoder = ReaderBuilder::new(schema()).with_batch_size(rows.len()).build_decoder()?;
    decoder.serialize(rows)?;
    decoder.flush()?.ok_or_else(|| Error::internal("a checkpoint has no rows"))
}

/// The columns of a checkpoint, as far as we use them.
fn schema() -> SchemaRef {
    let text = |name: &str, nullable| Arc::new(Field::new(name, DataType::Utf8, nullable));
    let whole = |name: &str| Arc::new(Field::new(name, DataType::Int64, false));
    let small = |name: &str| Arc::new(Field::new(name, DataType::Int32, false));
    let texts = |name: &str, nullable| {
        Arc::new(Field::new(name, DataType::List(Arc::new(Field::new("element", DataType::Utf8, true))), nullable))
    };
    let map = |name: &str| {
        let pair = Fields::from(vec![text("key", false), text("value", true)]);
        let entries = Field::new("key_value", DataType::Struct(pair), false);
        Arc::new(Field::new(name, DataType::Map(Arc::new(entries), false), false))
    };
    let format = Fields::from(vec![text("provider", false), map("options")]);
    let action = |name: &str, fields: Vec<Arc<Field>>| Field::new(name, DataType::Struct(Fields::from(fields)), true);
    Arc::new(Schema::new(vec![
        action(
            "protocol",
            vec![
                small("minReaderVersion"),
                small("minWriterVersion"),
                texts("readerFeatures", true),
                texts("writerFeatures", true),
            ],
        ),
        action(
            "metaData",
            vec![
                text("id", false),
                text("name", true),
                text("description", true),
                Arc::new(Field::new("format", DataType::Struct(format), false)),
                text("schemaString", false),
                texts("partitionColumns", false),
                map("configuration"),
            ],
        ),
        action(
            "add",
            vec![
                text("path", false),
                map("partitionValues"),
                whole("size"),
                whole("modificationTime"),
                Arc::new(Field::new("dataChange", DataType::Boolean, false)),
                text("stats", true),
            ],
        ),
    ]))
}
