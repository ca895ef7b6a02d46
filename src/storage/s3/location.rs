//! `s3://bucket/key`: where objects are.

use datafusion::object_store::path::Path as ObjectPath;

use crate::error::{Error, Result};

const SCHEME: &str = "s3://";

/// Whether a location is one of S3; the other spelling is Hadoop's.
pub fn is_s3(location: &str) -> bool {
    let scheme = location.split_once("://").map(|(scheme, _)| scheme);
    scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("s3") || scheme.eq_ignore_ascii_case("s3a"))
}

/// A bucket, and what of it is meant: an object, all below a folder, or a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    pub bucket: String,
    /// As it was written, without the `/` in front. Empty: the whole bucket.
    pub key: String,
}

impl Location {
    /// # Errors
    /// 22023 where there is no bucket of such a name, or no such key.
    pub fn parse(location: &str) -> Result<Self> {
        let rest = location.split_once("://").map_or(location, |(_, rest)| rest);
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        let fits = |letter: char| letter.is_ascii_alphanumeric() || ".-_".contains(letter);
        if bucket.is_empty() || !bucket.chars().all(fits) {
            return Err(Error::invalid(format!("\"{location}\" names no bucket")).hint(
                "a location of S3 is s3://bucket/folder/file.parquet, s3://bucket/folder/ or s3://bucket/*.csv",
            ));
        }
        object_key(key)?;
        Ok(Self { bucket: bucket.to_owned(), key: key.to_owned() })
    }

    /// As it is written.
    pub fn url(&self) -> String {
        format!("{SCHEME}{}/{}", self.bucket, self.key)
    }

    /// Its folders, and the name of its object.
    pub fn parts(&self) -> Vec<&str> {
        self.key.split('/').filter(|part| !part.is_empty()).collect()
    }
}

/// A key as requests have it.
pub(super) fn object_key(key: &str) -> Result<ObjectPath> {
    ObjectPath::parse(key).map_err(|error| {
        Error::invalid(format!("\"{key}\" is no key of an object: {error}"))
            .hint("keys have no empty parts, and no . or .. among their folders")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn a_location_has_a_bucket_and_a_key() {
        let of = |location: &str| Location::parse(location).map(|of| (of.bucket, of.key));
        let owned = |bucket: &str, key: &str| Ok((bucket.to_owned(), key.to_owned()));
        assert_eq!(of("s3://shop/a/b.csv"), owned("shop", "a/b.csv"));
        assert_eq!(of("S3A://shop/a/"), owned("shop", "a/"));
        assert_eq!(of("s3://shop"), owned("shop", ""));
        assert_eq!(of("s3://shop/Ünï 100%/*.csv"), owned("shop", "Ünï 100%/*.csv"));
        for wrong in ["s3://", "s3:///a", "s3://sh op/a", "s3://shop/a//b", "s3://shop/../b"] {
            assert_eq!(of(wrong).unwrap_err().kind, Kind::Invalid, "{wrong}");
        }
        assert!(is_s3("s3://x") && is_s3("s3a://x") && !is_s3("/s3/x") && !is_s3("gs://x"));
    }
}
