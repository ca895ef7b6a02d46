//! A file of the server, or an object of S3, that a statement writes: whole, or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::ipc::MetadataVersion;
use datafusion::arrow::ipc::writer::{FileWriter, IpcWriteOptions};
use datafusion::arrow::json::writer::{LineDelimited, WriterBuilder};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::error::DataFusionError;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::errors::ParquetError;
use datafusion::parquet::file::properties::WriterProperties;
use futures::StreamExt;

use crate::engine::Rows;
use crate::engine::work::not_in_the_way;
use crate::error::{Error, Kind, Result};
use crate::storage::{Format, Upload};

/// A file on its way. It takes its place when it is whole and safe; dropped before, it leaves nothing.
#[derive(Debug)]
pub enum OutFile {
    Local(LocalFile),
    Object(Upload),
}

impl OutFile {
    /// The end of the file: from here on it is there, whatever happens.
    pub fn finish(self) -> Result<()> {
        match self {
            Self::Local(file) => file.finish(),
            Self::Object(upload) => upload.finish(),
        }
    }

    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match self {
            Self::Local(file) => file.write(bytes),
            Self::Object(upload) => upload.write(bytes),
        }
    }

    /// Writes all rows in a format that names columns and types itself, and says how many there were.
    pub(super) async fn write_rows(self, format: Format, mut rows: Rows) -> Result<u64> {
        let schema = Arc::clone(&rows.schema);
        if let Some((at, twice)) = schema
            .fields()
            .iter()
            .enumerate()
            .find(|(at, field)| schema.fields()[..*at].iter().any(|before| before.name() == field.name()))
        {
            let message = format!("two columns of the file would be named \"{}\"", twice.name());
            return Err(Error::new(Kind::DuplicateColumn, message)
                .hint(format!("give column {} another name: … AS name", at + 1)));
        }
        let mut writer = Writer::new(format, self, &schema)?;
        let mut written = 0;
        while let Some(batch) = rows.next().await {
            let batch = batch?;
            written += batch.num_rows() as u64;
            not_in_the_way(|| writer.write(&batch))?;
        }
        not_in_the_way(|| writer.finish()?.finish())?;
        Ok(written)
    }
}

impl Write for OutFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Self::write(self, bytes).map(|()| bytes.len()).map_err(std::io::Error::other)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A file of the server. It is written beside its place.
#[derive(Debug)]
pub struct LocalFile {
    place: PathBuf,
    draft: PathBuf,
    file: File,
    moved: bool,
}

impl LocalFile {
    /// Begins a file. What is at its place stays there until the new one is whole. `ours` is the data directory, in which
    /// nobody else writes.
    pub(super) fn create(place: &Path, ours: &Path) -> Result<Self> {
        let name = place.file_name().ok_or_else(|| failed(place, &ErrorKind::IsADirectory.into()))?;
        let folder = place.parent().unwrap_or(Path::new("/")).canonicalize().map_err(|error| failed(place, &error))?;
        if folder.starts_with(ours) {
            return Err(Error::new(Kind::Denied, "no file can be written into the data directory")
                .hint("write it to another folder"));
        }
        let place = folder.join(name);
        // A pipe, a device or a folder cannot be replaced by a file.
        if fs::metadata(&place).is_ok_and(|meta| !meta.is_file()) {
            return Err(failed(&place, &std::io::Error::other("it is there, and no file")));
        }
        let mut draft = name.to_owned();
        draft.push(format!(".{:016x}.part", rand::random::<u64>()));
        let draft = folder.join(draft);
        let file = OpenOptions::new().write(true).create_new(true).open(&draft);
        let file = file.map_err(|error| failed(&place, &error))?;
        Ok(Self { place, draft, file, moved: false })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|error| failed(&self.place, &error))
    }

    fn finish(mut self) -> Result<()> {
        let synced = self.file.sync_all().and_then(|()| fs::rename(&self.draft, &self.place));
        synced.map_err(|error| failed(&self.place, &error))?;
        self.moved = true;
        let folder = self.place.parent().unwrap_or(Path::new("/"));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| failed(&self.place, &error))
    }
}

impl Drop for LocalFile {
    fn drop(&mut self) {
        if !self.moved
            && let Err(error) = fs::remove_file(&self.draft)
        {
            tracing::warn!(path = %self.draft.display(), %error, "could not delete a file that was not finished");
        }
    }
}

/// One file being written.
enum Writer {
    Parquet(Box<ArrowWriter<OutFile>>),
    Json(Box<datafusion::arrow::json::Writer<OutFile, LineDelimited>>),
    Arrow(Box<FileWriter<OutFile>>),
}

impl Writer {
    fn new(format: Format, file: OutFile, schema: &SchemaRef) -> Result<Self> {
        Ok(match format {
            Format::Parquet => {
                let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default()));
                Self::Parquet(Box::new(
                    ArrowWriter::try_new(file, Arc::clone(schema), Some(properties.build())).map_err(not_written)?,
                ))
            }
            // A column that is always NULL is one of the file's, too.
            Format::Json => Self::Json(Box::new(WriterBuilder::new().with_explicit_nulls(true).build(file))),
            // With more than eight bytes, DataFusion does not find the schema of an object.
            Format::Arrow => {
                let aligned = IpcWriteOptions::try_new(8, false, MetadataVersion::V5)?;
                Self::Arrow(Box::new(FileWriter::try_new_with_options(file, schema, aligned)?))
            }
            Format::Csv | Format::Avro => {
                return Err(Error::unsupported(format!("files of {} are not written so", format.name())));
            }
        })
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        match self {
            Self::Parquet(writer) => writer.write(batch).map_err(not_written)?,
            Self::Json(writer) => writer.write(batch)?,
            Self::Arrow(writer) => writer.write(batch)?,
        }
        Ok(())
    }

    /// The file, with all that was written in it.
    fn finish(self) -> Result<OutFile> {
        Ok(match self {
            Self::Parquet(writer) => writer.into_inner().map_err(not_written)?,
            Self::Json(mut writer) => {
                writer.finish()?;
                writer.into_inner()
            }
            Self::Arrow(writer) => writer.into_inner()?,
        })
    }
}

fn not_written(error: ParquetError) -> Error {
    match error {
        // What the disk said is said as it is of any file.
        ParquetError::External(inner) => match inner.downcast::<std::io::Error>() {
            Ok(error) => Error::from(*error),
            Err(inner) => Error::from(DataFusionError::External(inner)),
        },
        other => Error::from(DataFusionError::from(other)),
    }
}

fn failed(place: &Path, error: &std::io::Error) -> Error {
    let kind = match error.kind() {
        ErrorKind::PermissionDenied => Kind::Denied,
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Kind::DiskFull,
        _ => Kind::Io,
    };
    Error::new(kind, format!("could not write file \"{}\": {error}", place.display()))
        .hint("the server writes it, as the user that it runs as")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_there_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("Ünï 🛒.csv");
        fs::write(&place, "old").unwrap();
        let mut file = LocalFile::create(&place, Path::new("/nowhere")).unwrap();
        file.write(b"ne").unwrap();
        assert_eq!(fs::read_to_string(&place).unwrap(), "old");
        drop(file);
        assert_eq!((names(dir.path()).len(), fs::read_to_string(&place).unwrap().as_str()), (1, "old"));
        let mut file = LocalFile::create(&place, Path::new("/nowhere")).unwrap();
        file.write(b"new").unwrap();
        file.finish().unwrap();
        assert_eq!((names(dir.path()).len(), fs::read_to_string(&place).unwrap().as_str()), (1, "new"));
    }

    #[test]
    fn what_cannot_be_written_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let ours = dir.path().canonicalize().unwrap();
        let kind = |place: &Path, ours: &Path| LocalFile::create(place, ours).map(|_| ()).unwrap_err().kind;
        assert_eq!(kind(&dir.path().join("catalog.db"), &ours), Kind::Denied);
        assert_eq!(kind(dir.path(), Path::new("/nowhere")), Kind::Io);
        assert_eq!(kind(&dir.path().join("no/folder"), Path::new("/nowhere")), Kind::Io);
        assert!(names(dir.path()).is_empty());
    }
}
