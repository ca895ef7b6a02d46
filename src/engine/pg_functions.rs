//! Functions of `pg_catalog` that clients call to find their way: few of them have something to find here.

use std::sync::{Arc, Mutex};

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use datafusion::prelude::SessionContext;

use crate::engine::parameters;
use crate::engine::session::lock;
use crate::engine::settings::{Settings, unknown};
use crate::error::{Error, Result};

/// Registers the functions that answer the same in all sessions.
pub fn register(context: &SessionContext) {
    let text = ScalarValue::Utf8(None);
    let yes = ScalarValue::Boolean(Some(true));
    let no = ScalarValue::Boolean(Some(false));
    let constants: [(&[&'static str], ScalarValue); 6] = [
        // Whatever a client can name, it sees and may use.
        (
            &[
                "pg_type_is_visible",
                "pg_function_is_visible",
                "pg_collation_is_visible",
                "pg_conversion_is_visible",
                "pg_operator_is_visible",
                "pg_opclass_is_visible",
                "pg_opfamily_is_visible",
                "pg_statistics_obj_is_visible",
                "has_function_privilege",
                "has_sequence_privilege",
                "has_type_privilege",
                "has_language_privilege",
                "has_tablespace_privilege",
                "pg_advisory_unlock",
            ],
            yes,
        ),
        (&["pg_is_in_recovery", "pg_is_other_temp_schema"], no),
        // There are no comments, sequences, indexes, rules, triggers or functions of users to be described.
        (
            &[
                "obj_description",
                "col_description",
                "shobj_description",
                "pg_get_serial_sequence",
                "pg_get_viewdef",
                "pg_get_indexdef",
                "pg_get_ruledef",
                "pg_get_triggerdef",
                "pg_get_functiondef",
                "pg_get_function_arguments",
                "pg_get_function_identity_arguments",
                "pg_get_function_result",
                "pg_get_function_sqlbody",
                "pg_tablespace_location",
                "pg_advisory_unlock_all",
                "inet_server_addr",
                "inet_client_addr",
            ],
            text,
        ),
        (&["pg_my_temp_schema"], ScalarValue::Int32(Some(0))),
        // The number of UTF8.
        (&["pg_char_to_encoding"], ScalarValue::Int32(Some(6))),
        (&["inet_server_port", "inet_client_port"], ScalarValue::Int32(None)),
    ];
    for (names, value) in constants {
        for name in names {
            let value = value.clone();
            let answer = Answer::Same(value.clone());
            context.register_udf(function(name, value.data_type(), any(), Volatility::Stable, answer));
        }
    }
    let to_regtype = Answer::OfTexts(Arc::new(|given| {
        let oid = given.first().cloned().flatten().and_then(|name| type_oid(&name));
        Ok(ScalarValue::Int32(oid))
    }));
    context.register_udf(function("to_regtype", DataType::Int32, texts(1, 1), Volatility::Stable, to_regtype));
    let object = Answer::OfValues(Arc::new(json_object));
    context.register_udf(function("json_build_object", DataType::Utf8, any(), Volatility::Immutable, object.clone()));
    context.register_udf(function("jsonb_build_object", DataType::Utf8, any(), Volatility::Immutable, object));
}

/// `{"key" : value, …}` of key, value, key, value, …
fn json_object(given: &[ScalarValue]) -> Result<ScalarValue> {
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
        let value = match value {
            value if value.is_null() => "null".to_owned(),
            value if value.data_type().is_numeric() || value.data_type() == DataType::Boolean => {
                parameters::text_of(value)?
            }
            value => serde_json::Value::String(parameters::text_of(value)?).to_string(),
        };
        Ok(format!("{key} : {value}"))
    };
    let pairs = pairs.iter().map(pair).collect::<Result<Vec<_>>>()?;
    Ok(ScalarValue::Utf8(Some(format!("{{{}}}", pairs.join(", ")))))
}

/// Registers the functions that read and change the settings of a session.
pub fn register_settings(context: &SessionContext, settings: &Arc<Mutex<Settings>>) {
    let read = Arc::clone(settings);
    let current = Answer::OfTexts(Arc::new(move |given| {
        let Some(name) = given.first().cloned().flatten() else { return Ok(ScalarValue::Utf8(None)) };
        let missing_ok = given.get(1).cloned().flatten().is_some_and(|flag| flag == "true");
        match lock(&read).get(&name) {
            None if !missing_ok => Err(unknown(&name)),
            value => Ok(ScalarValue::Utf8(value)),
        }
    }));
    context.register_udf(function("current_setting", DataType::Utf8, texts(1, 2), Volatility::Stable, current));

    let written = Arc::clone(settings);
    // The state holds the function, so the function must not hold the state.
    let state = context.state_weak_ref();
    let set = Answer::OfTexts(Arc::new(move |given| {
        let name = given.first().cloned().flatten().ok_or_else(|| Error::invalid("SET requires parameter name"))?;
        let value = given.get(1).cloned().flatten();
        let state = state.upgrade().ok_or_else(|| Error::internal("a setting was changed after its session"))?;
        let context = SessionContext::from(state.read().clone());
        let mut settings = lock(&written);
        settings.set(&name, value.as_deref(), &context)?;
        *state.write() = context.state();
        Ok(ScalarValue::Utf8(settings.get(&name)))
    }));
    context.register_udf(function("set_config", DataType::Utf8, texts(3, 3), Volatility::Volatile, set));
}

/// The number by which clients know a type of that name, `[]` for its array.
fn type_oid(name: &str) -> Option<i32> {
    const TYPES: [(&[&str], i32, i32); 19] = [
        (&["bool", "boolean"], 16, 1000),
        (&["bytea"], 17, 1001),
        (&["name"], 19, 1003),
        (&["int8", "bigint"], 20, 1016),
        (&["int2", "smallint"], 21, 1005),
        (&["int4", "int", "integer"], 23, 1007),
        (&["text"], 25, 1009),
        (&["oid"], 26, 1028),
        (&["json"], 114, 199),
        (&["float4", "real"], 700, 1021),
        (&["float8", "double precision", "float"], 701, 1022),
        (&["bpchar", "character", "char"], 1042, 1014),
        (&["varchar", "character varying"], 1043, 1015),
        (&["date"], 1082, 1182),
        (&["time", "time without time zone"], 1083, 1183),
        (&["timestamp", "timestamp without time zone"], 1114, 1115),
        (&["timestamptz", "timestamp with time zone"], 1184, 1185),
        (&["interval"], 1186, 1187),
        (&["numeric", "decimal"], 1700, 1231),
    ];
    let name = name.trim().to_lowercase();
    let name = name.strip_prefix("pg_catalog.").unwrap_or(&name);
    let (bare, is_array) = match name.strip_suffix("[]") {
        Some(bare) => (bare, true),
        None => (name, false),
    };
    let (_, oid, array) = TYPES.iter().find(|(names, ..)| names.contains(&bare))?;
    Some(if is_array { *array } else { *oid })
}

/// The answer for one row whose arguments were cast to text.
type OfTexts = Arc<dyn Fn(&[Option<String>]) -> Result<ScalarValue> + Send + Sync>;

/// The answer for one row.
type OfValues = Arc<dyn Fn(&[ScalarValue]) -> Result<ScalarValue> + Send + Sync>;

#[derive(Clone)]
enum Answer {
    Same(ScalarValue),
    OfTexts(OfTexts),
    OfValues(OfValues),
}

/// Any arguments, or none.
fn any() -> TypeSignature {
    TypeSignature::OneOf(vec![TypeSignature::Nullary, TypeSignature::VariadicAny])
}

/// So many arguments.
fn texts(from: usize, to: usize) -> TypeSignature {
    TypeSignature::OneOf((from..=to).map(TypeSignature::Any).collect())
}

fn function(
    name: &'static str,
    returns: DataType,
    takes: TypeSignature,
    volatility: Volatility,
    answer: Answer,
) -> ScalarUDF {
    let signature = Signature::new(takes, volatility);
    ScalarUDF::new_from_impl(Known { name, aliases: vec![format!("pg_catalog.{name}")], returns, signature, answer })
}

/// A function known by its name: there is one of each.
struct Known {
    name: &'static str,
    aliases: Vec<String>,
    returns: DataType,
    signature: Signature,
    answer: Answer,
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Known {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Known {}

impl std::hash::Hash for Known {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Known {
    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DataFusionResult<DataType> {
        Ok(self.returns.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        if let Answer::Same(value) = &self.answer {
            return Ok(ColumnarValue::Scalar(value.clone()));
        }
        let constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let n_rows = if constant { 1 } else { args.number_rows };
        let columns: Vec<ArrayRef> =
            args.args.iter().map(|arg| arg.to_array(n_rows)).collect::<DataFusionResult<_>>()?;
        let row = |at: usize| -> DataFusionResult<ScalarValue> {
            let given: Vec<ScalarValue> = columns
                .iter()
                .map(|column| ScalarValue::try_from_array(column, at))
                .collect::<DataFusionResult<_>>()?;
            let text = |value: &ScalarValue| match value.is_null() {
                true => Ok(None),
                false => parameters::text_of(value).map(Some),
            };
            Ok(match &self.answer {
                Answer::Same(value) => value.clone(),
                Answer::OfTexts(answer) => answer(&given.iter().map(text).collect::<Result<Vec<_>>>()?)?,
                Answer::OfValues(answer) => answer(&given)?,
            })
        };
        let values = (0..n_rows).map(row).collect::<DataFusionResult<Vec<_>>>()?;
        match values.first() {
            Some(value) if constant => Ok(ColumnarValue::Scalar(value.clone())),
            Some(_) => Ok(ColumnarValue::Array(ScalarValue::iter_to_array(values)?)),
            None => Ok(ColumnarValue::Array(datafusion::arrow::array::new_empty_array(&self.returns))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_known_by_all_their_names() {
        assert_eq!(type_oid("int4"), Some(23));
        assert_eq!(type_oid("Double Precision"), Some(701));
        assert_eq!(type_oid("pg_catalog.text[]"), Some(1009));
        assert_eq!(type_oid("hstore"), None);
    }

    #[test]
    fn objects_are_written_like_postgres_does() {
        let given = ["a", "it \"is\""].map(|text| ScalarValue::Utf8(Some(text.to_owned())));
        let more = [ScalarValue::Utf8(Some("n".to_owned())), ScalarValue::Int64(Some(1))];
        let object = json_object(&[given.to_vec(), more.to_vec()].concat()).unwrap();
        assert_eq!(object, ScalarValue::Utf8(Some(r#"{"a" : "it \"is\"", "n" : 1}"#.to_owned())));
        assert!(json_object(&given[..1]).is_err());
    }
}
