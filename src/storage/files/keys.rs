//! The objects that a location of S3 means at the moment: as files in folders, which the keys are as if they were.

use std::path::PathBuf;

use futures::TryStreamExt;

use super::location::{Found, Part, is_note, is_open, matches, pattern};
use crate::error::Result;
use crate::storage::s3::{Bucket, Location};

/// Components of a path that `s3://bucket` has.
const OF_BUCKET: usize = 2;

/// The objects that a location means now. In folders, and where wildcards stand for folders, those whose names are
/// `wanted`, at any depth, without the notes of the programs that wrote them.
pub async fn objects(bucket: &Bucket, location: &str, wanted: &(dyn Fn(&str) -> bool + Sync)) -> Result<Vec<Found>> {
    let place = Location::parse(location)?;
    let parts = place.parts();
    let fixed = parts.iter().take_while(|part| !is_open(part)).count();
    let found = |key: &str, object, fixed: usize| {
        let url = Location { bucket: place.bucket.clone(), key: key.to_owned() }.url();
        Found { path: PathBuf::from(url), fixed: OF_BUCKET + fixed, object }
    };
    let is_pattern = fixed < parts.len();
    if !is_pattern
        && !parts.is_empty()
        && !place.key.ends_with('/')
        && let Some(object) = bucket.find(&place.key).await?
    {
        return Ok(vec![found(&place.key, object, parts.len())]);
    }
    let patterns = parts[fixed..].iter().map(|part| pattern(location, part)).collect::<Result<Vec<_>>>()?;
    let mut is_there = false;
    let mut all = Vec::new();
    let mut listed = bucket.below(&parts[..fixed].join("/"))?;
    while let Some((key, object)) = listed.try_next().await? {
        is_there = true;
        // A name that looks like a pattern may be one.
        if is_pattern && key == place.key {
            return Ok(vec![found(&key, object, parts.len())]);
        }
        let names: Vec<&str> = key.split('/').skip(fixed).collect();
        if means(&patterns, &names, wanted) {
            all.push(found(&key, object, fixed));
        }
    }
    match is_there {
        true => Ok(all),
        false => Err(bucket.missing(location)),
    }
}

/// Whether patterns, one a folder and the last for a file or a folder, mean the object with these folders and that name.
fn means(patterns: &[Part], names: &[&str], wanted: &dyn Fn(&str) -> bool) -> bool {
    let Some((first, rest)) = patterns.split_first() else {
        // The object itself, or something in a folder that was meant.
        return names.iter().all(|name| !is_note(name)) && names.last().is_none_or(|name| wanted(name));
    };
    let Some((name, inside)) = names.split_first() else { return false };
    match first {
        // A file that no further part is about.
        Some(_) if !rest.is_empty() && inside.is_empty() => false,
        Some(pattern) => matches(pattern, name) && means(rest, inside, wanted),
        None => means(rest, names, wanted) || (!inside.is_empty() && !is_note(name) && means(patterns, inside, wanted)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(location: &str) -> Vec<&'static str> {
        let keys = ["b.csv", "a.csv", "note.txt", "_SUCCESS", ".b.csv", "y=1/c.csv", "deep/er/d.csv", "_old/e.csv"];
        let parts = location.split('/').filter(|part| !part.is_empty());
        let patterns: Vec<Part> = parts.map(|part| pattern(location, part).unwrap()).collect();
        let wanted = |name: &str| name.ends_with(".csv");
        let mut found: Vec<&str> =
            keys.into_iter().filter(|key| means(&patterns, &key.split('/').collect::<Vec<_>>(), &wanted)).collect();
        found.sort_unstable();
        found
    }

    /// As files are found in folders: the same names, the same answers.
    #[test]
    fn a_pattern_means_what_it_means_of_files() {
        assert_eq!(found("note.txt"), ["note.txt"]);
        assert_eq!(found(""), ["a.csv", "b.csv", "deep/er/d.csv", "y=1/c.csv"]);
        assert_eq!(found("*.csv"), ["a.csv", "b.csv"]);
        assert_eq!(found("[b-z].csv"), ["b.csv"]);
        assert_eq!(found("*/*.csv"), ["_old/e.csv", "y=1/c.csv"]);
        assert_eq!(found("**/?.csv"), ["a.csv", "b.csv", "deep/er/d.csv", "y=1/c.csv"]);
        assert_eq!(found("d*"), ["deep/er/d.csv"]);
        assert!(found("z*.csv").is_empty());
    }
}
