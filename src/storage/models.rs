//! Models at rest: one folder per version, with a manifest that holds the checksum of every part.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use datafusion::parquet::basic::Compression;
use datafusion::parquet::errors::ParquetError;
use datafusion::parquet::file::properties::{EnabledStatistics, WriterPropertiesBuilder};
use rayon::prelude::*;
use rusqlite::params;
use serde::{Deserialize, Serialize};

use super::access::{DefaultOn, RoleId};
use super::catalog::{Found, Reserved};
use super::disk::{Draft, fresh_name, now_micros, sync_dir};
use super::model::{ModelRow, Status};
use super::roles::{forget_rights, grant_defaults};
use super::rows::version_dir;
use super::state::Touched;
use super::store::{IfExists, Store, display_name};
use super::writer::{not_written, parquet_writer};
use crate::error::{Error, Kind, Result};
use crate::frame::Artefact;

/// What the catalog keeps about a model beside its artefact.
#[derive(Debug, Clone)]
pub struct NewModel {
    pub schema: String,
    pub name: String,
    /// Whose it is if it is new.
    pub owner: RoleId,
    pub model_type: String,
    /// Statement, options, metrics, …: stored as given and given back with the version.
    pub facts: serde_json::Value,
}

/// `manifest.json`: the model's own manifest, and what belongs to it.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    format: u32,
    model: serde_json::Value,
    parts: Vec<Part>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Part {
    name: String,
    file: String,
    bytes: u64,
    checksum: String,
}

const FORMAT: u32 = 1;
const MANIFEST: &str = "manifest.json";

impl Store {
    /// All models with their versions, by schema and name.
    pub fn models(&self) -> Result<Vec<ModelRow>> {
        Ok(self.state().models().cloned().collect())
    }

    pub fn model(&self, schema: &str, name: &str) -> Result<Option<ModelRow>> {
        Ok(self.state().model(schema, name).cloned())
    }

    /// Writes the artefact, then commits it as a new version and makes that the default.
    ///
    /// Of a model that exists, `Replace` adds the next version and `Keep` answers the present default.
    pub fn commit_model(&self, new: NewModel, artefact: &Artefact, exists: IfExists) -> Result<u32> {
        let NewModel { schema, name, owner, model_type, facts } = new;
        // Asked before the work of writing, and again inside the transaction, where it counts.
        let state = self.state();
        state.schema_id(&schema)?;
        if let Some(version) = state.model(&schema, &name).map(|model| kept(model, exists)).transpose()?.flatten() {
            return Ok(version);
        }

        let draft = Draft::new(self.root().join("models").join("incoming").join(fresh_name()));
        let (bytes, hash) = write_artefact(draft.path(), artefact)?;
        let facts = serde_json::to_string(&facts)?;
        let (number, version_number, found) = (Reserved::default(), Reserved::default(), Found::default());
        self.commit(move |writing| {
            let db = writing.db;
            let schema_id = writing.state.schema_id(&schema)?;
            let now = now_micros();
            let mut touched = vec![Touched::Model(schema.clone(), name.clone())];
            if exists == IfExists::Replace {
                found.again(writing.state.model(&schema, &name).map(|model| model.id))?;
            }
            let id = match writing.state.model(&schema, &name) {
                Some(model) => match kept(model, exists)? {
                    Some(version) => return Ok((version, vec![])),
                    None => model.id,
                },
                None => {
                    writing.must_have_role(owner)?;
                    let id = writing.number("models", &number);
                    let sql = "INSERT INTO models (id, schema_id, name, default_version, next_version, created, owner)
                               VALUES (?1, ?2, ?3, 1, 1, ?4, ?5)";
                    db.execute(sql, params![id, schema_id, name, now, owner.0])?;
                    touched.extend(grant_defaults(db, DefaultOn::Models, id, schema_id, owner)?);
                    id
                }
            };
            let next = db.query_row("SELECT next_version FROM models WHERE id = ?1", [id], |row| row.get(0))?;
            let version = u32::try_from(writing.version(id, next, &version_number))
                .map_err(|_| Error::internal("a model has too many versions"))?;
            let sql = "UPDATE models SET default_version = ?2, next_version = max(next_version, ?2 + 1) WHERE id = ?1";
            db.execute(sql, params![id, version])?;
            let sql = "INSERT INTO model_versions (model_id, version, model_type, created, bytes, hash, facts)
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
            db.execute(sql, params![id, version, model_type, now, bytes.cast_signed(), hash, facts])?;

            let place = version_dir(writing.root(), id, version);
            let dir = place.parent().unwrap_or(&place);
            fs::create_dir_all(dir)?;
            writing.place(&draft, place.clone())?;
            sync_dir(dir)?;
            sync_dir(&writing.root().join("models"))?;
            Ok((version, touched))
        })
    }

    /// Reads a version back. Damage is found here, never loaded.
    pub fn read_artefact(&self, schema: &str, name: &str, version: u32) -> Result<Artefact> {
        let state = self.state();
        let (_, row) = state.model_version(schema, name, version)?;
        read_artefact(row.stored.path(), &row.hash).map_err(|error| about(schema, name, version, error))
    }

    /// Marks a version as not usable. It stays listed, with the reason.
    pub fn mark_failed(&self, schema: &str, name: &str, version: u32, why: &str) -> Result<()> {
        let [schema, name, why] = [schema, name, why].map(str::to_owned);
        self.commit(move |writing| {
            let (model, _) = writing.state.model_version(&schema, &name, version)?;
            let sql = "UPDATE model_versions SET failure = ?3 WHERE model_id = ?1 AND version = ?2";
            writing.db.execute(sql, params![model.id, version, why])?;
            Ok(((), vec![Touched::Model(schema.clone(), name.clone())]))
        })
    }

    /// Drops a model with all its versions. Answers whether it was there.
    pub fn drop_model(&self, schema: &str, name: &str, if_exists: bool) -> Result<bool> {
        let ([schema, name], found) = ([schema, name].map(str::to_owned), Found::default());
        self.commit(move |writing| {
            writing.state.schema_id(&schema)?;
            found.again(writing.state.model(&schema, &name).map(|model| model.id))?;
            if if_exists && writing.state.model(&schema, &name).is_none() {
                return Ok((false, vec![]));
            }
            let model = writing.state.existing_model(&schema, &name)?;
            writing.db.execute("DELETE FROM models WHERE id = ?1", [model.id])?;
            forget_rights(writing.db)?;
            Ok((true, vec![Touched::Model(schema.clone(), name.clone())]))
        })
    }

    /// Gives a model another name in its schema.
    pub fn rename_model(&self, schema: &str, name: &str, new_name: &str) -> Result<()> {
        let [schema, name, new_name] = [schema, name, new_name].map(str::to_owned);
        self.commit(move |writing| {
            let model = writing.state.existing_model(&schema, &name)?;
            if writing.state.model(&schema, &new_name).is_some() {
                let message = format!("model \"{}\" already exists", display_name(&schema, &new_name));
                return Err(Error::new(Kind::ModelExists, message));
            }
            writing.db.execute("UPDATE models SET name = ?2 WHERE id = ?1", params![model.id, new_name])?;
            let touched = [&name, &new_name].map(|name| Touched::Model(schema.clone(), name.clone()));
            Ok(((), touched.into()))
        })
    }

    /// Makes another version the one that is meant by the bare name.
    pub fn set_default_version(&self, schema: &str, name: &str, version: u32) -> Result<()> {
        let [schema, name] = [schema, name].map(str::to_owned);
        self.commit(move |writing| {
            let (model, _) = writing.state.model_version(&schema, &name, version)?;
            let sql = "UPDATE models SET default_version = ?2 WHERE id = ?1";
            writing.db.execute(sql, params![model.id, version])?;
            Ok(((), vec![Touched::Model(schema.clone(), name.clone())]))
        })
    }

    /// Drops one version; its number is not used again. The default version must stay.
    pub fn drop_model_version(&self, schema: &str, name: &str, version: u32) -> Result<()> {
        let [schema, name] = [schema, name].map(str::to_owned);
        self.commit(move |writing| {
            let (model, _) = writing.state.model_version(&schema, &name, version)?;
            if model.default_version == version {
                let shown = display_name(&schema, &name);
                let message = format!("version {version} is the default of model \"{shown}\"");
                let cure = match model.versions.len() {
                    1 => "it is the only version: drop the model instead",
                    _ => "make another version the default first: ALTER MODEL name SET DEFAULT VERSION number",
                };
                return Err(Error::new(Kind::StillNeeded, message).hint(cure));
            }
            let sql = "DELETE FROM model_versions WHERE model_id = ?1 AND version = ?2";
            writing.db.execute(sql, params![model.id, version])?;
            Ok(((), vec![Touched::Model(schema.clone(), name.clone())]))
        })
    }

    /// Checks that the files of every ready version are there and unharmed, and marks the damaged ones as failed.
    /// Answers what it found, as `schema.name@version` and why.
    pub fn verify_models(&self) -> Result<Vec<(String, String)>> {
        let mut found = Vec::new();
        for model in self.models()? {
            for row in model.versions.iter().filter(|row| row.status == Status::Ready) {
                let Err(error) = check_artefact(row.stored.path(), &row.hash) else { continue };
                // A disk that cannot be read today may be well tomorrow; only damage is for ever.
                if error.kind == Kind::Corrupt {
                    self.mark_failed(&model.schema, &model.name, row.version, &error.message)?;
                }
                found.push((format!("{}.{}@{}", model.schema, model.name, row.version), error.message));
            }
        }
        Ok(found)
    }
}

/// Of a model that is there already: its version, if that is to stay; `None`: it gets a new one.
fn kept(model: &ModelRow, exists: IfExists) -> Result<Option<u32>> {
    match exists {
        IfExists::Error => {
            let message = format!("model \"{}\" already exists", display_name(&model.schema, &model.name));
            Err(Error::new(Kind::ModelExists, message).hint("CREATE OR REPLACE MODEL adds a new version of it"))
        }
        IfExists::Keep => Ok(Some(model.default_version)),
        IfExists::Replace => Ok(None),
    }
}

fn about(schema: &str, name: &str, version: u32, error: Error) -> Error {
    let message = format!("model \"{}\" version {version}: {}", display_name(schema, name), error.message);
    Error { message, ..error }
}

/// Writes and syncs all files of an artefact. Answers their size and the checksum of the manifest.
fn write_artefact(dir: &Path, artefact: &Artefact) -> Result<(u64, String)> {
    fs::create_dir(dir)?;
    let named: Vec<(&String, &RecordBatch)> = artefact.parts.iter().collect();
    // A part at a time: one of them may be as large as all others.
    let written = named.into_par_iter().enumerate().with_max_len(1).map(|(index, (name, rows))| {
        let file = part_file(index, name);
        let path = dir.join(&file);
        write_part(&path, rows)?;
        let (bytes, checksum) = checksum(File::open(path)?)?;
        Ok(Part { name: name.clone(), file, bytes, checksum })
    });
    let parts = written.collect::<Result<Vec<Part>>>()?;
    let all: u64 = parts.iter().map(|part| part.bytes).sum();
    let manifest = serde_json::to_vec_pretty(&Manifest { format: FORMAT, model: artefact.manifest.clone(), parts })?;
    let mut file = File::create_new(dir.join(MANIFEST))?;
    file.write_all(&manifest)?;
    file.sync_all()?;
    sync_dir(dir)?;
    let (bytes, hash) = checksum(manifest.as_slice())?;
    Ok((all + bytes, hash))
}

/// `factors` becomes `0-factors.parquet`: the number keeps it unique, the rest is for people.
fn part_file(index: usize, name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    format!("{index}-{}.parquet", name.chars().take(40).map(plain).collect::<String>())
}

fn write_part(path: &Path, rows: &RecordBatch) -> Result<()> {
    // Factors and weights hardly repeat, and hardly shrink; parts are read whole, so nobody asks for their bounds.
    let plain = |properties: WriterPropertiesBuilder| {
        Ok(properties
            .set_dictionary_enabled(false)
            .set_compression(Compression::UNCOMPRESSED)
            .set_statistics_enabled(EnabledStatistics::None))
    };
    let mut parquet = parquet_writer(File::create_new(path)?, &rows.schema(), plain)?;
    parquet.write(rows).map_err(not_written)?;
    Ok(parquet.into_inner().map_err(not_written)?.sync_all()?)
}

fn read_artefact(dir: &Path, hash: &str) -> Result<Artefact> {
    let manifest = read_manifest(dir, hash)?;
    let mut parts = BTreeMap::new();
    for part in manifest.parts {
        let bytes = read(dir, &part.file)?;
        part.check(checksum(bytes.as_slice())?)?;
        parts.insert(part.name, rows_from(bytes).map_err(|error| damaged(&part.file, &error))?);
    }
    Ok(Artefact { manifest: manifest.model, parts })
}

/// As reading, without keeping anything in memory.
fn check_artefact(dir: &Path, hash: &str) -> Result<()> {
    for part in read_manifest(dir, hash)?.parts {
        let file = File::open(dir.join(&part.file)).map_err(|error| missing(&part.file, error))?;
        part.check(checksum(file)?)?;
    }
    Ok(())
}

fn read_manifest(dir: &Path, hash: &str) -> Result<Manifest> {
    let bytes = read(dir, MANIFEST)?;
    if checksum(bytes.as_slice())?.1 != hash {
        return Err(Error::corrupt(format!("its file {MANIFEST} is damaged: the checksum differs")));
    }
    let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|error| damaged(MANIFEST, &error))?;
    match manifest.format {
        FORMAT => Ok(manifest),
        other => Err(Error::unsupported(format!("its files have format {other}, this cohort knows {FORMAT}"))),
    }
}

impl Part {
    fn check(&self, (bytes, checksum): (u64, String)) -> Result<()> {
        if bytes != self.bytes {
            let message = format!("its file {} is damaged: it has {bytes} bytes, not {}", self.file, self.bytes);
            return Err(Error::corrupt(message));
        }
        match checksum == self.checksum {
            true => Ok(()),
            false => Err(Error::corrupt(format!("its file {} is damaged: the checksum differs", self.file))),
        }
    }
}

fn read(dir: &Path, file: &str) -> Result<Vec<u8>> {
    fs::read(dir.join(file)).map_err(|error| missing(file, error))
}

fn rows_from(bytes: Vec<u8>) -> Result<RecordBatch, ParquetError> {
    let parquet = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes))?;
    let schema = Arc::clone(parquet.schema());
    let batches = parquet.with_batch_size(1 << 16).build()?.collect::<Result<Vec<_>, _>>()?;
    Ok(concat_batches(&schema, &batches)?)
}

fn missing(file: &str, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound => Error::corrupt(format!("its file {file} is missing")),
        _ => Error::from(error),
    }
}

fn damaged(file: &str, error: &dyn std::error::Error) -> Error {
    Error::corrupt(format!("its file {file} is damaged: {error}"))
}

/// Length and CRC-64/XZ of what can be read. It tells damage, not forgery.
fn checksum(mut from: impl Read) -> Result<(u64, String)> {
    let (mut length, mut crc) = (0, crc64fast::Digest::new());
    let mut chunk = vec![0; 1 << 16];
    loop {
        let n = from.read(&mut chunk)?;
        if n == 0 {
            return Ok((length, format!("{:016x}", crc.sum64())));
        }
        length += n as u64;
        crc.write(&chunk[..n]);
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{FixedSizeListArray, Float32Array, StringArray};
    use datafusion::arrow::datatypes::{DataType, Field};
    use serde_json::json;

    use super::*;

    fn artefact(seed: f32) -> Artefact {
        let values = Arc::new(Float32Array::from(vec![seed, 2.0, f32::NAN, f32::MIN_POSITIVE]));
        let item = Arc::new(Field::new("item", DataType::Float32, false));
        let vectors = FixedSizeListArray::new(item, 2, values, None);
        let names = StringArray::from(vec![Some("ann"), None]);
        let factors = [("name", Arc::new(names) as _), ("vector", Arc::new(vectors) as _)];
        let factors = RecordBatch::try_from_iter(factors).unwrap();
        let empty = factors.slice(0, 0);
        Artefact::new(json!({"rank": 2})).with_part("user factors/ü", factors).with_part("empty", empty)
    }

    fn commit(store: &Store, name: &str, seed: f32) -> u32 {
        let new = NewModel {
            schema: "public".into(),
            name: name.into(),
            owner: RoleId::FIRST,
            model_type: "als".into(),
            facts: json!({"seed": seed}),
        };
        store.commit_model(new, &artefact(seed), IfExists::Replace).unwrap()
    }

    /// The parts, bit by bit: NaN is not equal to itself.
    fn same(a: &Artefact, b: &Artefact) -> bool {
        a.manifest == b.manifest && format!("{:?}", a.parts) == format!("{:?}", b.parts)
    }

    /// One flipped bit in the middle of a file of a version.
    fn damage(store: &Store, name: &str, version: u32, file: &str) {
        let state = store.state();
        let (_, row) = state.model_version("public", name, version).unwrap();
        let path = row.stored.path().join(file);
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(path, bytes).unwrap();
    }

    #[test]
    fn the_checksum_is_the_known_one() {
        assert_eq!(checksum("123456789".as_bytes()).unwrap(), (9, "995dc9bbdf1939fa".to_owned()));
    }

    #[test]
    fn a_model_reads_back_as_written_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(commit(&store, "Ünï \"cödé\".x", 1.0), 1);
        drop(store);
        let store = Store::open(dir.path()).unwrap();
        let model = store.model("public", "Ünï \"cödé\".x").unwrap().unwrap();
        assert_eq!((model.default_version, model.model_type.as_str()), (1, "als"));
        assert_eq!((model.versions[0].status, &model.versions[0].facts), (Status::Ready, &json!({"seed": 1.0})));
        assert!(same(&store.read_artefact("public", &model.name, 1).unwrap(), &artefact(1.0)));
        assert_eq!(store.verify_models().unwrap(), []);
    }

    #[test]
    fn the_same_artefact_has_the_same_hash() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        for seed in [1.0, 1.0, 2.0] {
            commit(&store, "shop", seed);
        }
        let versions = store.model("public", "shop").unwrap().unwrap().versions;
        assert_eq!(versions[0].hash, versions[1].hash);
        assert_ne!(versions[0].hash, versions[2].hash);
    }

    #[test]
    fn a_damaged_version_fails_and_the_others_are_fine() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        for name in ["flipped", "flipped", "short", "manifest", "gone", "fine"] {
            commit(&store, name, 1.0);
        }
        damage(&store, "flipped", 2, "1-user_factors__.parquet");
        damage(&store, "manifest", 1, MANIFEST);
        let path = |name| store.state().model_version("public", name, 1).unwrap().1.stored.path().to_owned();
        File::options().write(true).open(path("short").join("0-empty.parquet")).unwrap().set_len(10).unwrap();
        fs::remove_dir_all(path("gone")).unwrap();

        let error = store.read_artefact("public", "flipped", 2).unwrap_err();
        assert_eq!(error.kind, Kind::Corrupt);
        assert!(error.message.starts_with("model \"flipped\" version 2: its file 1-user_factors__.parquet"), "{error}");
        let found = store.verify_models().unwrap();
        let names: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["public.flipped@2", "public.gone@1", "public.manifest@1", "public.short@1"]);
        assert_eq!(store.verify_models().unwrap(), []);
        drop(store);

        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.models().unwrap().len(), 5);
        let flipped = store.model("public", "flipped").unwrap().unwrap();
        let status: Vec<_> = flipped.versions.iter().map(|row| row.status).collect();
        assert_eq!((flipped.default_version, status), (2, vec![Status::Ready, Status::Failed]));
        assert!(same(&store.read_artefact("public", "flipped", 1).unwrap(), &artefact(1.0)));
        assert!(same(&store.read_artefact("public", "fine", 1).unwrap(), &artefact(1.0)));
    }

    #[test]
    fn version_numbers_are_never_used_twice() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        assert_eq!([1.0, 2.0, 3.0].map(|seed| commit(&store, "shop", seed)), [1, 2, 3]);
        assert_eq!(store.drop_model_version("public", "shop", 3).unwrap_err().kind, Kind::StillNeeded);
        store.set_default_version("public", "shop", 1).unwrap();
        let path = store.state().model_version("public", "shop", 3).unwrap().1.stored.path().to_owned();
        store.drop_model_version("public", "shop", 3).unwrap();
        assert!(!path.exists());
        drop(store);
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(commit(&store, "shop", 4.0), 4);
        assert_eq!(store.set_default_version("public", "shop", 3).unwrap_err().kind, Kind::UnknownModel);
        store.mark_failed("public", "shop", 4, "it smells").unwrap();
        let model = store.model("public", "shop").unwrap().unwrap();
        assert_eq!((model.default_version, model.version(4).unwrap().failure.as_deref()), (4, Some("it smells")));
    }

    #[test]
    fn models_are_kept_replaced_renamed_and_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        commit(&store, "shop", 1.0);
        let new = |schema: &str| NewModel {
            schema: schema.into(),
            name: "shop".into(),
            owner: RoleId::FIRST,
            model_type: "bpr".into(),
            facts: json!(null),
        };
        let again = |exists| store.commit_model(new("public"), &artefact(2.0), exists);
        assert_eq!(again(IfExists::Error).unwrap_err().kind, Kind::ModelExists);
        assert_eq!(again(IfExists::Keep).unwrap(), 1);
        assert_eq!(again(IfExists::Replace).unwrap(), 2);
        let error = store.commit_model(new("nope"), &artefact(2.0), IfExists::Error).unwrap_err();
        assert_eq!(error.kind, Kind::UnknownSchema);
        assert_eq!(store.model("public", "shop").unwrap().unwrap().model_type, "bpr");
        store.set_default_version("public", "shop", 1).unwrap();
        assert_eq!(store.model("public", "shop").unwrap().unwrap().model_type, "als");

        store.rename_model("public", "shop", "market").unwrap();
        assert!(store.model("public", "shop").unwrap().is_none());
        assert!(same(&store.read_artefact("public", "market", 2).unwrap(), &artefact(2.0)));
        assert!(store.drop_model("public", "market", false).unwrap());
        assert!(!store.drop_model("public", "market", true).unwrap());
        assert_eq!(store.drop_model("public", "market", false).unwrap_err().kind, Kind::UnknownModel);
        assert_eq!(fs::read_dir(dir.path().join("models/incoming")).unwrap().count(), 0);
        assert!(!dir.path().join("models/1").exists());
    }

    #[test]
    fn a_folder_left_by_a_failed_commit_is_no_hindrance() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        fs::create_dir_all(dir.path().join("models/1/1/old")).unwrap();
        assert_eq!(commit(&store, "shop", 1.0), 1);
        assert!(same(&store.read_artefact("public", "shop", 1).unwrap(), &artefact(1.0)));
    }

    #[test]
    fn a_schema_with_a_model_is_not_empty() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        commit(&store, "shop", 1.0);
        assert_eq!(store.drop_schema("public", false, false).unwrap_err().kind, Kind::StillNeeded);
        assert!(store.drop_schema("public", false, true).unwrap());
        assert!(store.models().unwrap().is_empty());
        assert!(!dir.path().join("models/1/1").exists());
    }
}
