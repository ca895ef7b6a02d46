//! Columns that are read from the names of folders, `year=2024/month=07`, as Hive and Spark write them.

use std::borrow::Cow;
use std::path::{Component, Path};

use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;

use super::location::Found;
use crate::error::{Error, Kind, Result};

/// How Hive writes NULL.
const NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// The names and values in the folders of a path, from the `skip`th component on; the name of the file is no folder.
fn pairs(path: &Path, skip: usize) -> impl Iterator<Item = (&str, Cow<'_, str>)> {
    let folders = path.parent().into_iter().flat_map(Path::components).skip(skip);
    folders.filter_map(|component| match component {
        Component::Normal(name) => {
            let (name, value) = name.to_str()?.split_once('=')?;
            Some((name, decoded(value)))
        }
        _ => None,
    })
}

fn decoded(value: &str) -> Cow<'_, str> {
    percent_encoding::percent_decode_str(value).decode_utf8().unwrap_or(Cow::Borrowed(value))
}

/// The columns that the folders of these files agree upon, with the type that all values have: bigint, date or text.
pub fn inferred(files: &[Found]) -> Vec<(String, DataType)> {
    let of = |file: &Found| -> Vec<String> { pairs(&file.path, file.fixed).map(|(name, _)| name.to_owned()).collect() };
    let Some(first) = files.first().map(of) else { return Vec::new() };
    if files.iter().any(|file| of(file) != first) {
        return Vec::new();
    }
    let typed = |name: String| {
        let values = || {
            let all = files.iter().flat_map(|file| pairs(&file.path, file.fixed));
            all.filter(|(of, value)| *of == name && value != NULL).map(|(_, value)| value)
        };
        let all_are = |data_type: &DataType| {
            values().all(|value| ScalarValue::try_from_string(value.into_owned(), data_type).is_ok())
        };
        // 007 is text: as a number it would be another.
        let plain = |value: Cow<'_, str>| value.parse::<i64>().is_ok_and(|number| number.to_string() == value);
        let data_type = match values().next() {
            None => DataType::Utf8,
            Some(_) if values().all(plain) => DataType::Int64,
            Some(_) if all_are(&DataType::Date32) => DataType::Date32,
            Some(_) => DataType::Utf8,
        };
        (name, data_type)
    };
    first.into_iter().map(typed).collect()
}

/// The values of these columns for a file.
pub fn values(path: &Path, columns: &[(String, DataType)]) -> Result<Vec<ScalarValue>> {
    let value = |(name, data_type): &(String, DataType)| {
        let Some((_, value)) = pairs(path, 0).filter(|(of, _)| of == name).last() else {
            let message = format!("the file {} is in no folder named {name}=…", path.display());
            return Err(Error::new(Kind::InvalidFile, message)
                .hint(format!("the table is partitioned by {name}: a file belongs into the folder of its value")));
        };
        if value == NULL {
            return Ok(ScalarValue::try_from(data_type)?);
        }
        ScalarValue::try_from_string(value.to_string(), data_type).map_err(|_| {
            let message = format!("the value \"{value}\" of {name} in the path {} is no {data_type}", path.display());
            Error::new(Kind::InvalidText, message).hint("declare the column as text: PARTITIONED BY (name text)")
        })
    };
    columns.iter().map(value).collect()
}

#[cfg(test)]
mod tests {
    use datafusion::object_store::ObjectMeta;

    use super::*;

    fn file(path: &str) -> Found {
        let last_modified = chrono::DateTime::UNIX_EPOCH;
        let object = ObjectMeta { location: path.into(), last_modified, size: 1, e_tag: None, version: None };
        Found { path: path.into(), fixed: 2, object }
    }

    fn names(files: &[Found]) -> Vec<(String, DataType)> {
        inferred(files)
    }

    #[test]
    fn types_are_those_of_all_values() {
        let files = [file("/d/y=2024/day=2024-01-01/z=01/a"), file("/d/y=2025/day=2024-01-02/z=2/b")];
        let expected = [("y", DataType::Int64), ("day", DataType::Date32), ("z", DataType::Utf8)];
        assert_eq!(names(&files), expected.map(|(name, of)| (name.to_owned(), of)));
        // What the location names itself is no partition unless somebody says so; where files differ there are none.
        assert!(names(&[Found { fixed: 3, ..file("/d/y=1/a") }]).is_empty());
        assert!(names(&[file("/d/y=1/a"), file("/d/b")]).is_empty());
    }

    #[test]
    fn values_are_decoded_and_null_is_null() {
        let columns = [("a".to_owned(), DataType::Utf8), ("n".to_owned(), DataType::Int64)];
        let read = values(Path::new("/x/a=S%C3%A3o%2FPaulo/n=__HIVE_DEFAULT_PARTITION__/f"), &columns).unwrap();
        assert_eq!(read, [ScalarValue::Utf8(Some("São/Paulo".into())), ScalarValue::Int64(None)]);
        assert_eq!(values(Path::new("/x/a=1/f"), &columns).unwrap_err().kind, Kind::InvalidFile);
        assert_eq!(values(Path::new("/x/a=1/n=one/f"), &columns).unwrap_err().kind, Kind::InvalidText);
    }
}
