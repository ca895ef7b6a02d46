//! What columns files have, when nobody has said it.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::catalog::Session;

use super::format::{Format, compression, switch};
use super::home::Home;
use super::location::Found;
use super::partitions;
use super::table::{all_files, check_columns, check_header, without_mark};
use crate::error::{Error, Kind, Result};
use crate::storage::{DeltaTable, External};

/// Rows of text that types are guessed from.
const SAMPLED_ROWS: usize = 100_000;
/// Files of text that are looked into; the others must be like them.
const SAMPLED_FILES: usize = 32;

/// The columns of files, those that are read from folders last. What the files say of how they are written, and of how
/// their folders are named, goes into `external`.
pub async fn infer(external: &mut External, format: Format, state: &dyn Session) -> Result<SchemaRef> {
    let home = Home::of(external, state)?;
    for location in &external.locations {
        if DeltaTable::is_at(&home, location).await? {
            let message = format!("\"{location}\" is a Delta table: not all files in it are the table's");
            return Err(Error::new(Kind::WrongObject, message).hint("STORED AS DELTA"));
        }
    }
    let files = all_files(&home, external, format).await?;
    let filled: Vec<&Found> = files.iter().filter(|found| found.object.size > 0).collect();
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
    adopted(external, format, &files);
    if format == Format::Json
        && !external.options.contains_key("newline_delimited")
        && is_array(&home, first, external).await?
    {
        external.options.insert("newline_delimited".to_owned(), "false".to_owned());
    }
    let folders = match external.partitions.as_slice() {
        [] => partitions::inferred(&files),
        named => named.iter().map(|name| (name.clone(), of_folder(name, &files))).collect(),
    };

    let sampled = if format.is_text() { &filled[..filled.len().min(SAMPLED_FILES)] } else { &filled[..] };
    let reader = format.reader(&external.options, (SAMPLED_ROWS / sampled.len()).max(1_000), state)?;
    let store = home.store(state)?;
    let mut columns = Columns { format, fields: Vec::new() };
    for found in sampled {
        if format == Format::Parquet {
            let path = found.path.clone();
            home.look(&found.object, move |read| check_footer(&path, read)).await?;
        }
        let of_file = reader.infer_schema(state, &store, std::slice::from_ref(&found.object)).await;
        let of_file = of_file.map_err(|error| in_file(&found.path, error.into()))?;
        if format.is_positional() && switch(&external.options, "header", true)? && !columns.fields.is_empty() {
            let (path, options, known) = (found.path.clone(), external.options.clone(), columns.schema());
            home.look(&found.object, move |read| check_header(&path, read, &options, &known)).await?;
        }
        if format.is_rigid() && !columns.fields.is_empty() {
            let (path, known) = (found.path.clone(), columns.schema());
            home.look(&found.object, move |read| check_columns(&path, read, &known)).await?;
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

/// Takes from the names of files what they say of how the files are written, where nobody has said it.
pub async fn adopt(external: &mut External, format: Format, state: &dyn Session) -> Result<()> {
    let home = Home::of(external, state)?;
    // There may be none yet.
    let files = all_files(&home, external, format).await.unwrap_or_default();
    adopted(external, format, &files);
    Ok(())
}

fn adopted(external: &mut External, format: Format, files: &[Found]) {
    // Of a folder the first file speaks for all.
    let first = files.first().map(|found| found.path.to_string_lossy().into_owned());
    let options = external.locations.iter().chain(&first).find_map(|name| match Format::of_file(name) {
        Some((of, options)) if of == format => Some(options),
        _ => None,
    });
    for (name, value) in options.into_iter().flatten() {
        external.options.entry(name).or_insert(value);
    }
}

/// The type of a column that somebody said is read from folders.
fn of_folder(name: &str, files: &[Found]) -> DataType {
    let whole: Vec<Found> = files.iter().map(|found| Found { fixed: 0, ..found.clone() }).collect();
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
            let name = if at == 0 { without_mark(field.name()) } else { field.name() };
            let data_type = if self.format.is_rigid() { field.data_type().clone() } else { plain(field.data_type()) };
            let field = Field::new(name, data_type, true);
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
async fn is_array(home: &Home, file: &Found, external: &External) -> Result<bool> {
    let compression = compression(&external.options)?;
    let looked = home.look(&file.object, move |read| {
        let mut start = [0; 512];
        let read = compression.convert_read(read)?.read(&mut start)?;
        Ok(start[..read].iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'['))
    });
    looked.await
}

/// The reader trusts the length of the metadata that stands at the end of a Parquet file; a damaged one would lead it
/// out of the file.
pub fn check_footer(path: &Path, mut file: impl Read + Seek) -> Result<()> {
    const MAGIC: &[u8] = b"PAR1";
    let length = file.seek(SeekFrom::End(0))?;
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
    // What its reader did not expect is the file's doing.
    let kind = if error.kind == Kind::Internal { Kind::InvalidFile } else { error.kind };
    Error { kind, message: format!("{}: {}", path.display(), error.message), ..error }
}
