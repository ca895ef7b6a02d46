//! Where files are: a path of a file, of a folder, or with wildcards, and the files that it means at the moment.

use std::cmp::Ordering;
use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use datafusion::object_store::ObjectMeta;
use datafusion::object_store::path::Path as ObjectPath;
use glob::{MatchOptions, Pattern};

use crate::error::{Error, Kind, Result};
use crate::storage::s3::{Location, is_s3};

/// Folders inside one another, at most: one that is linked into itself has no end.
const MAX_DEPTH: usize = 64;

/// A file, and where in its path the part begins that the location left open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// As people know it; of an object its URL.
    pub path: PathBuf,
    /// How many components of the path the location named itself.
    pub fixed: usize,
    /// As DataFusion knows it.
    pub object: ObjectMeta,
}

impl Found {
    fn new(path: PathBuf, fixed: usize) -> Result<Self> {
        Ok(Self { object: object(&path)?, path, fixed })
    }
}

impl Ord for Found {
    fn cmp(&self, other: &Self) -> Ordering {
        self.path.cmp(&other.path)
    }
}

impl PartialOrd for Found {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The location as the catalog keeps it: an absolute path, whatever the server's working directory will be, or a URL.
pub fn absolute(location: &str) -> Result<String> {
    if is_s3(location) {
        return Ok(Location::parse(location)?.url());
    }
    let path = match location.split_once("://") {
        Some(("file", path)) => path,
        Some((scheme, _)) if scheme.chars().all(|letter| letter.is_ascii_alphanumeric() || "+-.".contains(letter)) => {
            return Err(Error::unsupported(format!("locations of {scheme}:// are not supported"))
                .hint("paths of the server and s3://bucket/key are; mount other stores as a folder of the server"));
        }
        _ => location,
    };
    if path.is_empty() {
        return Err(Error::invalid("a location must not be empty").hint("LOCATION '/path/of/a/file/or/folder'"));
    }
    let folder = path.ends_with('/');
    let mut clean = PathBuf::new();
    for component in std::path::absolute(path)?.components() {
        match component {
            Component::ParentDir => {
                clean.pop();
            }
            Component::CurDir => {}
            other => clean.push(other),
        }
    }
    let clean = clean.into_os_string().into_string();
    let clean = clean.map_err(|_| Error::invalid("the path of a location must be UTF-8"))?;
    Ok(if folder && clean != "/" { format!("{clean}/") } else { clean })
}

/// The files that a location means now, by name. In folders, and where wildcards stand for folders, those whose names
/// end as `wanted` says, at any depth; names that begin with `.` or `_` are notes of the programs that wrote the files.
pub fn files(location: &str, wanted: &dyn Fn(&str) -> bool) -> Result<Vec<Found>> {
    let path = Path::new(location);
    let mut found = Vec::new();
    match fs::metadata(path) {
        Ok(meta) if meta.is_dir() => {
            let fixed = path.components().count();
            walk(path, fixed, wanted, 0, &mut found)?;
        }
        Ok(_) => {
            found.push(Found::new(path.to_owned(), path.components().count())?);
        }
        Err(error) if error.kind() == ErrorKind::NotFound || error.kind() == ErrorKind::NotADirectory => {
            if !is_open(location) {
                return Err(missing(location));
            }
            let parts: Vec<&str> = location.split('/').filter(|part| !part.is_empty()).collect();
            let fixed = parts.iter().take_while(|part| !is_open(part)).count();
            let root: PathBuf = Path::new("/").join(parts[..fixed].join("/"));
            if !root.is_dir() {
                return Err(missing(&root.to_string_lossy()));
            }
            let patterns = parts[fixed..].iter().map(|part| pattern(location, part)).collect::<Result<Vec<_>>>()?;
            expand(&root, &patterns, fixed + 1, wanted, 0, &mut found)?;
        }
        Err(error) => return Err(unreadable(path, &error)),
    }
    found.sort();
    found.dedup();
    Ok(found)
}

/// Whether wildcards leave open what is meant.
pub(super) fn is_open(part: &str) -> bool {
    part.contains(['*', '?', '['])
}

fn missing(path: &str) -> Error {
    Error::new(Kind::Io, format!("\"{path}\" does not exist"))
        .hint("the path is one of the server: a file, a folder, or with wildcards (*, ?, [a-z], **)")
}

/// One part of a path with wildcards; `None` is `**`.
pub(super) type Part = Option<Pattern>;

pub(super) fn pattern(location: &str, part: &str) -> Result<Part> {
    if part == "**" {
        return Ok(None);
    }
    let pattern = Pattern::new(part)
        .map_err(|error| Error::invalid(format!("\"{location}\" is no path with wildcards: {}", error.msg)))?;
    Ok(Some(pattern))
}

fn expand(
    at: &Path,
    parts: &[Part],
    fixed: usize,
    wanted: &dyn Fn(&str) -> bool,
    depth: usize,
    found: &mut Vec<Found>,
) -> Result<()> {
    check_depth(at, depth)?;
    let Some((part, rest)) = parts.split_first() else {
        if at.is_dir() {
            return walk(at, fixed, wanted, depth, found);
        }
        found.push(Found::new(at.to_owned(), fixed)?);
        return Ok(());
    };
    if part.is_none() {
        expand(at, rest, fixed, wanted, depth, found)?;
    }
    for (name, path, meta) in entries(at)? {
        match part {
            // A file that no further part is about.
            Some(_) if !rest.is_empty() && !meta.is_dir() => {}
            Some(pattern) if matches(pattern, &name) => {
                expand(&path, rest, fixed, wanted, depth + 1, found)?;
            }
            None if meta.is_dir() && !is_note(&name) => expand(&path, parts, fixed, wanted, depth + 1, found)?,
            _ => {}
        }
    }
    Ok(())
}

/// As a shell does it: what is hidden must be named.
pub(super) fn matches(pattern: &Pattern, name: &str) -> bool {
    let options =
        MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };
    pattern.matches_with(name, options)
}

fn walk(
    folder: &Path,
    fixed: usize,
    wanted: &dyn Fn(&str) -> bool,
    depth: usize,
    found: &mut Vec<Found>,
) -> Result<()> {
    check_depth(folder, depth)?;
    for (name, path, meta) in entries(folder)? {
        match meta.is_dir() {
            _ if is_note(&name) => {}
            true => walk(&path, fixed, wanted, depth + 1, found)?,
            false if wanted(&name) => {
                found.push(Found::new(path, fixed)?);
            }
            false => {}
        }
    }
    Ok(())
}

fn check_depth(at: &Path, depth: usize) -> Result<()> {
    match depth > MAX_DEPTH {
        true => {
            Err(Error::new(Kind::LimitExceeded, format!("folders nested more than {MAX_DEPTH} deep: {}", at.display()))
                .hint("is a folder linked into itself?"))
        }
        false => Ok(()),
    }
}

pub(super) fn is_note(name: &str) -> bool {
    name.starts_with('.') || (name.starts_with('_') && !name.contains('='))
}

/// What is in a folder, links followed; what went away meanwhile, or a link that leads nowhere, is not.
fn entries(folder: &Path) -> Result<Vec<(String, PathBuf, Metadata)>> {
    let listed = match fs::read_dir(folder) {
        Ok(listed) => listed,
        Err(error) if error.kind() == ErrorKind::NotFound || error.kind() == ErrorKind::NotADirectory => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(unreadable(folder, &error)),
    };
    let mut entries = Vec::new();
    for entry in listed {
        let path = entry.map_err(|error| unreadable(folder, &error))?.path();
        let (Ok(meta), Some(name)) = (fs::metadata(&path), path.file_name()) else { continue };
        entries.push((name.to_string_lossy().into_owned(), path, meta));
    }
    Ok(entries)
}

/// A file as an object of DataFusion's store of local files.
pub fn object(path: &Path) -> Result<ObjectMeta> {
    let meta = fs::metadata(path).map_err(|error| unreadable(path, &error))?;
    let location = ObjectPath::from_absolute_path(path)
        .map_err(|error| Error::new(Kind::Io, format!("the path {} cannot be read: {error}", path.display())))?;
    let last_modified = meta.modified().map_err(|error| unreadable(path, &error))?.into();
    Ok(ObjectMeta { location, last_modified, size: meta.len(), e_tag: None, version: None })
}

fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    let kind = if error.kind() == ErrorKind::PermissionDenied { Kind::Denied } else { Kind::Io };
    Error::new(kind, format!("could not read \"{}\": {error}", path.display()))
        .hint("the server reads it, as the user that it runs as")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(names: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        dir
    }

    fn found(dir: &tempfile::TempDir, location: &str) -> Vec<String> {
        let root = dir.path().to_str().unwrap();
        let location = absolute(&format!("{root}/{location}")).unwrap();
        let files = files(&location, &|name| name.ends_with(".csv")).unwrap();
        files.iter().map(|file| file.path.strip_prefix(dir.path()).unwrap().to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_location_is_a_file_a_folder_or_a_pattern() {
        let dir =
            tree(&["b.csv", "a.csv", "note.txt", "_SUCCESS", ".b.csv", "y=1/c.csv", "deep/er/d.csv", "_old/e.csv"]);
        assert_eq!(found(&dir, "a.csv"), ["a.csv"]);
        assert_eq!(found(&dir, "note.txt"), ["note.txt"]);
        assert_eq!(found(&dir, ""), ["a.csv", "b.csv", "deep/er/d.csv", "y=1/c.csv"]);
        assert_eq!(found(&dir, "*.csv"), ["a.csv", "b.csv"]);
        assert_eq!(found(&dir, "[b-z].csv"), ["b.csv"]);
        assert_eq!(found(&dir, "*/*.csv"), ["_old/e.csv", "y=1/c.csv"]);
        assert_eq!(found(&dir, "**/?.csv"), ["a.csv", "b.csv", "deep/er/d.csv", "y=1/c.csv"]);
        assert_eq!(found(&dir, "d*"), ["deep/er/d.csv"]);
        assert!(found(&dir, "z*.csv").is_empty());
    }

    #[test]
    fn names_may_hold_anything() {
        let dir = tree(&["Ünï cödé/100% #1?.csv", "it's [1].csv", "🛒.csv"]);
        assert_eq!(found(&dir, "it's [1].csv"), ["it's [1].csv"]);
        assert_eq!(found(&dir, "Ünï*/100%*"), ["Ünï cödé/100% #1?.csv"]);
        for file in files(dir.path().to_str().unwrap(), &|_| true).unwrap() {
            assert_eq!(object(&file.path).unwrap().size, 1);
        }
    }

    #[test]
    fn what_is_not_there_or_not_here_is_refused() {
        let missing = files("/nowhere/at/all.csv", &|_| true).unwrap_err();
        assert_eq!((missing.kind, missing.message.as_str()), (Kind::Io, "\"/nowhere/at/all.csv\" does not exist"));
        let missing = files("/nowhere/at/*.csv", &|_| true).unwrap_err();
        assert_eq!(missing.message, "\"/nowhere/at\" does not exist");
        assert_eq!(absolute("gs://bucket/x").unwrap_err().kind, Kind::Unsupported);
        assert_eq!(absolute("s3a://bucket/x/").unwrap(), "s3://bucket/x/");
        assert_eq!(absolute("").unwrap_err().kind, Kind::Invalid);
        assert_eq!(absolute("/a/./b/../c/").unwrap(), "/a/c/");
        assert_eq!(absolute("file:///a/b").unwrap(), "/a/b");
        assert!(absolute("x.csv").unwrap().starts_with('/'));
    }
}
