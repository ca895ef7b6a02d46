//! Documents made of values: `json_build_object`, `json_build_array`, `to_json`.

use std::sync::Arc;

use datafusion::arrow::array::Array;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Volatility;
use datafusion::prelude::SessionContext;

use crate::engine::parameters;
use crate::engine::pg_functions::{Answer, any, function};
use crate::error::{Error, Result};

type Build = fn(&[ScalarValue]) -> Result<ScalarValue>;

pub fn register(context: &SessionContext) {
    let each: [(&'static str, Build); 6] = [
        ("json_build_object", object),
        ("jsonb_build_object", object),
        ("json_build_array", array),
        ("jsonb_build_array", array),
        ("to_json", of_one),
        ("to_jsonb", of_one),
    ];
    for (name, build) in each {
        let answer = Answer::OfValues(Arc::new(build));
        context.register_udf(function(name, DataType::Utf8, any(), Volatility::Immutable, answer));
    }
}

/// `{"key" : value, …}` of key, value, key, value, …
fn object(given: &[ScalarValue]) -> Result<ScalarValue> {
    let (pairs, odd) = given.as_chunks::<2>();
    if !odd.is_empty() {
        return Err(Error::invalid("argument list must have even number of elements")
            .hint("the arguments are key, value, key, value, …"));
    }
    let pair = |[key, value]: &[ScalarValue; 2]| {
        if key.is_null() {
            return Err(Error::invalid("a key of a JSON object must not be NULL"));
        }
        let key = serde_json::Value::String(parameters::text_of(key)?);
        Ok(format!("{key} : {}", written(value)?))
    };
    let pairs = pairs.iter().map(pair).collect::<Result<Vec<_>>>()?;
    Ok(ScalarValue::Utf8(Some(format!("{{{}}}", pairs.join(", ")))))
}

fn array(given: &[ScalarValue]) -> Result<ScalarValue> {
    let items = given.iter().map(written).collect::<Result<Vec<_>>>()?;
    Ok(ScalarValue::Utf8(Some(format!("[{}]", items.join(", ")))))
}

fn of_one(given: &[ScalarValue]) -> Result<ScalarValue> {
    match given {
        [value] if value.is_null() => Ok(ScalarValue::Utf8(None)),
        [value] => Ok(ScalarValue::Utf8(Some(written(value)?))),
        _ => Err(Error::invalid("to_json takes one value")),
    }
}

/// A value as JSON has it. A text is a string, also where it is a document: `'[1]'` and `'[1]'::json` are the same here.
fn written(value: &ScalarValue) -> Result<String> {
    let is_bare = |text: &str| !matches!(text, "NaN" | "Infinity" | "-Infinity");
    Ok(match value {
        value if value.is_null() => "null".to_owned(),
        ScalarValue::List(list) => {
            let items = list.value(0);
            let item = |at: usize| written(&ScalarValue::try_from_array(&items, at)?);
            format!("[{}]", (0..items.len()).map(item).collect::<Result<Vec<_>>>()?.join(","))
        }
        value => {
            let text = parameters::text_of(value)?;
            let bare = value.data_type().is_numeric() || value.data_type() == DataType::Boolean;
            if bare && is_bare(&text) { text } else { serde_json::Value::String(text).to_string() }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_written_like_postgres_does() {
        let given = ["a", "it \"is\""].map(|text| ScalarValue::Utf8(Some(text.to_owned())));
        let more = [ScalarValue::Utf8(Some("n".to_owned())), ScalarValue::Int64(Some(1))];
        let written = object(&[given.to_vec(), more.to_vec()].concat()).unwrap();
        assert_eq!(written, ScalarValue::Utf8(Some(r#"{"a" : "it \"is\"", "n" : 1}"#.to_owned())));
        assert!(object(&given[..1]).is_err());
        assert_eq!(array(&more).unwrap(), ScalarValue::Utf8(Some("[\"n\", 1]".to_owned())));
        assert_eq!(of_one(&[ScalarValue::Utf8(None)]).unwrap(), ScalarValue::Utf8(None));
    }
}
