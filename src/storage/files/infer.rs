//! What columns files have, when nobody has said it.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::catalog::Session;
use datafusion::execution::object_store::ObjectStoreUrl;

use super::format::{Format, compression, switch};
use super::location::{Found, object};
use super::partitions;
use super::table::{all_files, check_header};
use crate::error::{Error, Kind, Result};
use crate::storage::External;

/// Rows of text that types are guessed from.
const SAMPLED_ROWS: usize = 100_000;
/// Files of text that are looked into; the others must be like them.
const SAMPLED_FILES: usize = 32;

/// The columns of files, those that are read from folders last. What the files say of how they are written, and of how
/// their folders are named, goes into `external`.
pub async fn infer(external: &mut External, format: Format, state: &dyn Session) -> Result<SchemaRef> {
    let files = all_files(external, format)?;
    let filled: Vec<&Found> =
        files.iter().filter(|found| found.path.metadata().is_ok_and(|meta| meta.len() > 0)).collect();
    let Some(first) = filled.first() else {
        let locations = external.locations.join("\", \"");
        return Err(Error::invalid(format!(
            "there is no {} file with anything in it at \"{locations}\"",
            format.name()
        ))
        .hint(
            "name the columns to make a table of files that are yet to come: CREATE EXTERNAL TABLE t (column type, …)",
        ));
    };
    external.adopt(format, &first.path.to_string_lossy());
    if format == Format::Json && !external.options.contains_key("newline_delimited") && is_array(&first.path, external)?
    {
        external.options.insert("newline_delimited".to_owned(), "false".to_owned());
    }
    let folders = match external.partitions.as_slice() {
        [] => partitions::inferred(&files),
        named => named.iter().map(|name| (name.clone(), of_folder(name, &files))).collect(),
    };

    let sampled = if format.is_text() { &filled[..filled.len().min(SAMPLED_FILES)] } else { &filled[..] };
    let reader = format.reader(&external.options, (SAMPLED_ROWS / sampled.len()).max(1_000), state)?;
    let store = state.runtime_env().object_store(ObjectStoreUrl::local_filesystem())?;
    let mut columns = Columns { format, fields: Vec::new() };
    for found in sampled {
        if format == Format::Parquet {
            check_footer(&found.path)?;
        }
        let of_file = reader.infer_schema(state, &store, &[object(&found.path)?]).await;
        let of_file = of_file.map_err(|error| in_file(&found.path, error.into()))?;
        if format.is_positional() && switch(&external.options, "header", true)? && !columns.fields.is_empty() {
            check_header(&found.path, &external.options, &columns.schema())?;
        }
        columns.add(&found.path, &of_file)?;
    }
    let mut fields: Vec<Field> = columns.schema().fields().iter().map(|field| field.as_ref().clone()).collect();
    if fields.is_empty() {
        return Err(Error::invalid(format!("{} has no columns", first.path.display())));
    }
    fields.retain(|field| !folders.iter().any(|(name, _)| name == field.name()));
    external.partitions = folders.iter().map(|(name, _)| name.clone()).collect();
    fields.extend(folders.into_iter().map(|(name, data_type)| Field::new(name, data_type, true)));
    Ok(Arc::new(Schema::new(fields)))
}

/// The type of a column that somebody said is read from folders.
fn of_folder(name: &str, files: &[Found]) -> DataType {
    let whole: Vec<Found> = files.iter().map(|found| Found { path: found.path.clone(), fixed: 0 }).collect();
    let found = partitions::inferred(&whole).into_iter().find(|(of, _)| of == name);
    found.map_or(DataType::Utf8, |(_, data_type)| data_type)
}

/// The columns found so far, each with the file that it was first seen in.
struct Columns<'a> {
    format: Format,
    fields: Vec<(Field, &'a Path)>,
}

impl<'a> Columns<'a> {
    /// What is never anything but NULL is text.
    fn schema(&self) -> Schema {
        let typed = |(field, _): &(Field, &Path)| match field.data_type() {
            DataType::Null => Field::new(field.name(), DataType::Utf8, true),
            _ => field.clone(),
        };
        Schema::new(self.fields.iter().map(typed).collect::<Vec<_>>())
    }

    fn add(&mut self, path: &'a Path, schema: &Schema) -> Result<()> {
        for (at, field) in schema.fields().iter().enumerate() {
            if schema.fields()[..at].iter().any(|before| before.name() == field.name()) {
                let message = format!("two columns of {} are named \"{}\"", path.display(), field.name());
                return Err(Error::new(Kind::DuplicateColumn, message).hint("rename one of them in the file"));
            }
            let field = Field::new(field.name(), plain(field.data_type()), true);
            match self.fields.iter_mut().find(|(known, _)| known.name() == field.name()) {
                Some((known, of)) => match widened(known.data_type(), field.data_type(), self.format.is_text()) {
                    Some(data_type) => *known = Field::new(field.name(), data_type, true),
                    None => {
                        let message = format!(
                            "column \"{}\" is {} in {} and {} in {}",
                            field.name(),
                            known.data_type(),
                            of.display(),
                            field.data_type(),
                            path.display()
                        );
                        return Err(Error::new(Kind::WrongType, message).hint(
                            "declare the columns with a type that both fit: CREATE EXTERNAL TABLE t (column type, …)",
                        ));
                    }
                },
                None => self.fields.push((field, path)),
            }
        }
        Ok(())
    }
}

/// The type that values of both types fit.
fn widened(a: &DataType, b: &DataType, guessed: bool) -> Option<DataType> {
    match (a, b) {
        _ if a == b => Some(a.clone()),
        (DataType::Null, other) | (other, DataType::Null) => Some(other.clone()),
        _ if a.is_integer() && b.is_integer() => Some(DataType::Int64),
        _ if (a.is_integer() || a.is_floating()) && (b.is_integer() || b.is_floating()) => Some(DataType::Float64),
        (DataType::Date32, DataType::Timestamp(..)) => Some(b.clone()),
        (DataType::Timestamp(..), DataType::Date32) => Some(a.clone()),
        _ if guessed => Some(DataType::Utf8),
        _ => None,
    }
}

/// A type as our own tables have it: plain text, and times in microseconds.
fn plain(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
        DataType::Dictionary(_, values) => plain(values),
        other => other.clone(),
    }
}

/// Whether a file of JSON holds one array, instead of an object a line.
fn is_array(path: &Path, external: &External) -> Result<bool> {
    let mut start = [0; 512];
    let read = compression(&external.options)?.convert_read(File::open(path)?)?.read(&mut start)?;
    Ok(start[..read].iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'['))
}

/// The reader trusts the length of the metadata that stands at the end of a Parquet file; a damaged one would lead it
/// out of the file.
pub fn check_footer(path: &Path) -> Result<()> {
    const MAGIC: &[u8] = b"PAR1";
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut footer = [0; 8];
    if length >= 12 {
        file.seek(SeekFrom::End(-8))?;
        file.read_exact(&mut footer)?;
    }
    let [a, b, c, d, magic @ ..] = footer;
    if magic != MAGIC || u64::from(u32::from_le_bytes([a, b, c, d])) + 12 > length {
        return Err(Error::corrupt(format!("{} is no Parquet file, or was cut off", path.display())));
    }
    Ok(())
}

fn in_file(path: &Path, error: Error) -> Error {
    Error { message: format!("{}: {}", path.display(), error.message), ..error }
}
