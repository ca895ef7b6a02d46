//! Structs and maps travel as JSON documents, for Postgres clients have no ready type for them.

use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::datatypes::{DataType, Field};

use super::super::types::wire_type;
use super::column::{Column, Style, Write};
use super::text;
use crate::error::{Error, Result};

/// Writes any value as JSON: numbers and truth bare, structs and maps as objects, lists as arrays, the rest as the
/// string it has in text.
pub(super) fn writer(array: &ArrayRef, style: Style) -> Result<Write> {
    Ok(match array.data_type() {
        DataType::Struct(fields) => {
            let members = fields
                .iter()
                .zip(array.as_struct().columns())
                .map(|(field, member)| Ok((quoted(field.name())?, column(member, style)?)))
                .collect::<Result<Vec<_>>>()?;
            Box::new(move |row, out| {
                put_between(b"{}", 0..members.len(), out, |member, out| {
                    let (name, column) = &members[member];
                    out.put_slice(name.as_bytes());
                    out.put_u8(b':');
                    put_or_null(column, row, out)
                })
            })
        }
        DataType::Map(..) => {
            let map = array.as_map();
            let offsets = map.offsets().clone();
            let keys = text::writer(
                map.keys(),
                &wire_type(&Field::new("key", map.keys().data_type().clone(), false))?,
                style,
            )?;
            let values = column(map.values(), style)?;
            Box::new(move |row, out| {
                put_between(b"{}", offsets[row] as usize..offsets[row + 1] as usize, out, |entry, out| {
                    put_quoted(out, |out| keys(entry, out))?;
                    out.put_u8(b':');
                    put_or_null(&values, entry, out)
                })
            })
        }
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) => {
            let lists = text::Lists::of(array)?;
            let items = column(&lists.items, style)?;
            Box::new(move |row, out| {
                put_between(b"[]", lists.range(row), out, |item, out| put_or_null(&items, item, out))
            })
        }
        DataType::Boolean => {
            let values = array.as_boolean().clone();
            Box::new(move |row, out| {
                out.put_slice(if values.value(row) { b"true" } else { b"false" });
                Ok(())
            })
        }
        number if number.is_numeric() => {
            let write = text::writer(array, &wire_type(&Field::new("number", number.clone(), true))?, style)?;
            Box::new(move |row, out| {
                let start = out.len();
                write(row, out)?;
                // JSON has no NaN and no infinity.
                if out.last().is_some_and(u8::is_ascii_alphabetic) {
                    out.truncate(start);
                    out.put_slice(b"null");
                }
                Ok(())
            })
        }
        other => {
            let write = text::writer(array, &wire_type(&Field::new("value", other.clone(), true))?, style)?;
            Box::new(move |row, out| put_quoted(out, |out| write(row, out)))
        }
    })
}

fn column(array: &ArrayRef, style: Style) -> Result<Column> {
    Ok(Column::new(array, writer(&Arc::clone(array), style)?))
}

fn put_or_null(column: &Column, row: usize, out: &mut BytesMut) -> Result<()> {
    if column.is_null(row) {
        out.put_slice(b"null");
        return Ok(());
    }
    column.write(row, out)
}

fn put_between(
    brackets: &[u8; 2],
    items: std::ops::Range<usize>,
    out: &mut BytesMut,
    put: impl Fn(usize, &mut BytesMut) -> Result<()>,
) -> Result<()> {
    out.put_u8(brackets[0]);
    for item in items.clone() {
        if item > items.start {
            out.put_u8(b',');
        }
        put(item, out)?;
    }
    out.put_u8(brackets[1]);
    Ok(())
}

fn put_quoted(out: &mut BytesMut, write: impl FnOnce(&mut BytesMut) -> Result<()>) -> Result<()> {
    let start = out.len();
    write(out)?;
    let plain = out.split_off(start);
    out.put_slice(quoted(&String::from_utf8_lossy(&plain))?.as_bytes());
    Ok(())
}

fn quoted(text: &str) -> Result<String> {
    serde_json::to_string(text).map_err(|error| Error::internal(format!("text does not fit into JSON: {error}")))
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::Int64Builder;
    use datafusion::arrow::array::{
        Float64Array, Int32Array, ListArray, MapBuilder, StringArray, StringBuilder, StructArray,
    };
    use datafusion::arrow::datatypes::Int32Type;

    use super::*;

    fn texts(array: ArrayRef) -> Vec<String> {
        let column = column(&array, Style::default()).unwrap();
        let text = |row| {
            let mut out = BytesMut::new();
            put_or_null(&column, row, &mut out).unwrap();
            String::from_utf8(out.to_vec()).unwrap()
        };
        (0..array.len()).map(text).collect()
    }

    #[test]
    fn structs_are_objects() {
        let name: ArrayRef = Arc::new(StringArray::from(vec![Some("a \"b\""), None]));
        let share: ArrayRef = Arc::new(Float64Array::from(vec![0.5, f64::NAN]));
        let lists = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(vec![Some(1), None]), Some(vec![])]);
        let structs = StructArray::from(vec![
            (Arc::new(Field::new("name", DataType::Utf8, true)), name),
            (Arc::new(Field::new("share", DataType::Float64, true)), share),
            (Arc::new(Field::new("ids", lists.data_type().clone(), true)), Arc::new(lists) as ArrayRef),
        ]);
        assert_eq!(
            texts(Arc::new(structs)),
            [r#"{"name":"a \"b\"","share":0.5,"ids":[1,null]}"#, r#"{"name":null,"share":null,"ids":[]}"#]
        );
    }

    #[test]
    fn maps_are_objects_also_when_sliced() {
        let mut maps = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
        for row in 0..3 {
            maps.keys().append_value(format!("k{row}"));
            maps.values().append_value(row);
            maps.append(true).unwrap();
        }
        assert_eq!(texts(Arc::new(maps.finish().slice(1, 2))), [r#"{"k1":1}"#, r#"{"k2":2}"#]);
    }

    #[test]
    fn numbers_stay_numbers() {
        assert_eq!(texts(Arc::new(Int32Array::from(vec![Some(1), None]))), ["1", "null"]);
    }
}
