//! Functions of `pg_catalog` that clients call to find their way: few of them have something to find here.

use std::sync::{Arc, Mutex};

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::DataType;
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::ScalarValue;
use datafusion::common::config::ConfigOptions;
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
///
/// `started`: when the server was, in microseconds since 1970, UTC.
pub fn register(context: &SessionContext, started: i64) {
    let text = ScalarValue::Utf8(None);
    let yes = ScalarValue::Boolean(Some(true));
    let no = ScalarValue::Boolean(Some(false));
    let started = ScalarValue::TimestampMicrosecond(Some(started), Some(Arc::from("UTC")));
    let constants: [(&[&'static str], ScalarValue); 9] = [
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
        (
            &[
                "pg_is_in_recovery",
                "pg_is_other_temp_schema",
                "pg_relation_is_publishable",
                "pg_index_column_has_property",
            ],
            no,
        ),
        // There are no sequences, keys, indexes, rules, triggers or comments on shared objects.
        (
            &[
                "shobj_description",
                "pg_get_indexdef",
                "pg_get_function_sqlbody",
                "pg_get_partition_constraintdef",
                "pg_get_partkeydef",
                "pg_get_ruledef",
                "pg_get_serial_sequence",
                "pg_get_statisticsobjdef_columns",
                "pg_get_triggerdef",
                "pg_tablespace_location",
                "pg_advisory_unlock_all",
                "inet_server_addr",
                "inet_client_addr",
            ],
            text,
        ),
        (&["pg_postmaster_start_time", "pg_conf_load_time"], started),
        (&["pg_my_temp_schema"], ScalarValue::Int32(Some(0))),
        (&["txid_current", "pg_current_xact_id"], ScalarValue::Int64(Some(1))),
        // The number and name of UTF8.
        (&["pg_char_to_encoding"], ScalarValue::Int32(Some(6))),
        (&["pg_encoding_to_char", "getdatabaseencoding"], ScalarValue::Utf8(Some("UTF8".to_owned()))),
        (&["inet_server_port", "inet_client_port"], ScalarValue::Int32(None)),
    ];
    for (names, value) in constants {
        for name in names {
            let value = value.clone();
            let answer = Answer::Same(value.clone());
            context.register_udf(function(name, value.data_type(), any(), Volatility::Stable, answer));
        }
    }
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

    let path = Arc::clone(settings);
    let schemas = Answer::OfValues(Arc::new(move |given| {
        let system = matches!(given.first(), Some(ScalarValue::Boolean(Some(true))));
        let path = lock(&path).get("search_path").unwrap_or_default();
        let named = path.split(',').map(|name| name.trim().trim_matches(['"', '\'']).to_owned());
        let named = named.filter(|name| !name.is_empty() && name != "$user");
        let schemas = system.then(|| "pg_catalog".to_owned()).into_iter().chain(named);
        let schemas: Vec<_> = schemas.map(|name| ScalarValue::Utf8(Some(name))).collect();
        Ok(ScalarValue::List(ScalarValue::new_list(&schemas, &DataType::Utf8, true)))
    }));
    let names = DataType::new_list(DataType::Utf8, true);
    context.register_udf(function("current_schemas", names, texts(1, 1), Volatility::Stable, schemas));

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
    context.register_udtf("pg_show_all_settings", Arc::new(AllSettings(Arc::clone(settings))));
}

/// `pg_show_all_settings()`, which is `pg_settings`.
struct AllSettings(Arc<Mutex<Settings>>);

impl std::fmt::Debug for AllSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("pg_show_all_settings")
    }
}

impl TableFunctionImpl for AllSettings {
    fn call_with_args(&self, _: TableFunctionArgs) -> DataFusionResult<Arc<dyn TableProvider>> {
        Ok(Arc::new(lock(&self.0).table()?))
    }
}

/// The answer for one row whose arguments were cast to text.
type OfTexts = Arc<dyn Fn(&[Option<String>]) -> Result<ScalarValue> + Send + Sync>;

/// The answer for one row.
type OfValues = Arc<dyn Fn(&[ScalarValue]) -> Result<ScalarValue> + Send + Sync>;

/// The answer for one row in the session with these options: its identity and its schema are there.
type InSession = Arc<dyn Fn(&[ScalarValue], &ConfigOptions) -> Result<ScalarValue> + Send + Sync>;

#[derive(Clone)]
pub enum Answer {
    Same(ScalarValue),
    OfTexts(OfTexts),
    OfValues(OfValues),
    InSession(InSession),
}

/// Any arguments, or none.
pub fn any() -> TypeSignature {
    TypeSignature::OneOf(vec![TypeSignature::Nullary, TypeSignature::VariadicAny])
}

/// So many arguments.
pub fn texts(from: usize, to: usize) -> TypeSignature {
    TypeSignature::OneOf((from..=to).map(TypeSignature::Any).collect())
}

/// A function of that name, also found in `pg_catalog`.
pub fn function(
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
        let n_rows = if constant { args.number_rows.min(1) } else { args.number_rows };
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
                Answer::InSession(answer) => answer(&given, &args.config_options)?,
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
