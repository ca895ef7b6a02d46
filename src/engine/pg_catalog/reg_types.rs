//! `regclass`, `regtype` and their kin: numbers of objects that are written as their names.
//!
//! `'orders'::regclass` is planned as `regclassin('orders')`, a number that knows what it is a number of by the metadata
//! of its field. Cast to text, and shown to a client, it is `regclassout(…)`, the name.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int32Array, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Int32Type};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::config::ConfigOptions;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, ReturnFieldArgs, ScalarFunctionArgs,
    ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::prelude::SessionContext;

use crate::engine::expressions::rewrite_expressions;
use crate::engine::identifiers;
use crate::engine::pg_catalog::objects::{Objects, PG_CATALOG, Source, role_number, type_names};
use crate::engine::pg_catalog::relation::OID_ALIAS;
use crate::engine::pg_catalog::types;
use crate::engine::temporary;
use crate::error::{Error, Kind, Result};

/// The types, and the functions that read them, read them if there is such an object, and write them.
const KINDS: &[(&str, &str, &str, &str)] = &[
    ("oid", "oidin", "to_oid", "oidout"),
    ("regclass", "regclassin", "to_regclass", "regclassout"),
    ("regtype", "regtypein", "to_regtype", "regtypeout"),
    ("regproc", "regprocin", "to_regproc", "regprocout"),
    ("regprocedure", "regprocedurein", "to_regprocedure", "regprocedureout"),
    ("regnamespace", "regnamespacein", "to_regnamespace", "regnamespaceout"),
    ("regrole", "regrolein", "to_regrole", "regroleout"),
];

/// The function that reads values of that type, if it is one of these.
pub fn is_reg_type(name: &str) -> Option<&'static str> {
    KINDS.iter().find(|(kind, ..)| *kind == name).map(|(_, input, ..)| *input)
}

/// Registers the functions, and the rule that names what is cast to text.
pub fn register(context: &mut SessionContext, source: &Arc<Source>) {
    for (kind, input, lenient, output) in KINDS {
        for (name, does) in [(*input, Does::Read), (*lenient, Does::Find), (*output, Does::Write)] {
            let signature = Signature::any(1, Volatility::Stable);
            let function = RegType { kind, name, does, signature, source: Arc::clone(source) };
            SessionContext::register_udf(context, ScalarUDF::new_from_impl(function));
        }
    }
    let outputs = KINDS.iter().filter_map(|(kind, .., output)| Some((*kind, context.udf(output).ok()?))).collect();
    context.add_analyzer_rule(Arc::new(NamesInText { outputs }));
}

/// The plan of a query with names in place of the numbers that are shown by them.
pub fn shown(plan: LogicalPlan, functions: &dyn FunctionRegistry) -> DataFusionResult<LogicalPlan> {
    let output = |field: &Field| {
        // A cast keeps the metadata of what it casts.
        let alias = field.metadata().get(OID_ALIAS).filter(|_| field.data_type() == &DataType::Int32)?;
        KINDS.iter().find(|(kind, ..)| kind == alias && *kind != "oid").map(|(.., output)| *output)
    };
    if !plan.schema().fields().iter().any(|field| output(field).is_some()) {
        return Ok(plan);
    }
    let columns = plan.schema().iter().map(|(qualifier, field)| {
        let column = Expr::Column(Column::new(qualifier.cloned(), field.name()));
        match output(field) {
            Some(output) => {
                Ok(functions.udf(output)?.call(vec![column]).alias_qualified(qualifier.cloned(), field.name()))
            }
            None => Ok(column),
        }
    });
    let columns = columns.collect::<DataFusionResult<Vec<_>>>()?;
    LogicalPlanBuilder::from(plan).project(columns)?.build()
}

/// `CAST(x AS text)` of a number that is written as a name.
#[derive(Debug)]
struct NamesInText {
    outputs: HashMap<&'static str, Arc<ScalarUDF>>,
}

impl AnalyzerRule for NamesInText {
    fn name(&self) -> &str {
        "names_in_text"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> DataFusionResult<LogicalPlan> {
        rewrite_expressions(plan, |expr, schema| Ok(self.named(expr, schema)))
    }
}

impl NamesInText {
    fn named(&self, expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
        let Expr::Cast(cast) = &expr else { return Transformed::no(expr) };
        if !matches!(cast.field.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) {
            return Transformed::no(expr);
        }
        let Ok((_, of)) = cast.expr.to_field(schema) else { return Transformed::no(expr) };
        let output = of.metadata().get(OID_ALIAS).and_then(|alias| self.outputs.get(alias.as_str()));
        match output {
            Some(output) if of.data_type() == &DataType::Int32 => {
                let name = output.call(vec![cast.expr.as_ref().clone()]);
                match cast.field.data_type() {
                    DataType::Utf8 => Transformed::yes(name),
                    other => Transformed::yes(datafusion::logical_expr::cast(name, other.clone())),
                }
            }
            _ => Transformed::no(expr),
        }
    }
}

/// What a function does with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    Read,
    /// Reads it; what does not exist is NULL.
    Find,
    Write,
}

/// `regclassin` and so on.
#[derive(Debug)]
struct RegType {
    kind: &'static str,
    name: &'static str,
    does: Does,
    signature: Signature,
    source: Arc<Source>,
}

impl PartialEq for RegType {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for RegType {}

impl Hash for RegType {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for RegType {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DataFusionResult<DataType> {
        Ok(if self.does == Does::Write { DataType::Utf8 } else { DataType::Int32 })
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs) -> DataFusionResult<FieldRef> {
        let field = Field::new(self.name, self.return_type(&[])?, true);
        let alias = HashMap::from([(OID_ALIAS.to_owned(), self.kind.to_owned())]);
        Ok(Arc::new(if self.does == Does::Write { field } else { field.with_metadata(alias) }))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let schema = &args.config_options.catalog.default_schema;
        let objects = self.source.objects()?;
        let [value] = args.args.as_slice() else { return Err(Error::internal("one argument is wanted").into()) };
        let (array, constant) = match value {
            ColumnarValue::Scalar(scalar) => (scalar.to_array()?, true),
            ColumnarValue::Array(array) => (Arc::clone(array), false),
        };
        let answer: ArrayRef = if self.does == Does::Write {
            let numbers = cast(&array, &DataType::Int32)?;
            let numbers = numbers.as_primitive::<Int32Type>();
            let names = numbers.iter().map(|oid| oid.map(|oid| written(self.kind, oid, &objects, schema)));
            Arc::new(names.collect::<StringArray>())
        } else {
            Arc::new(self.read(&array, &objects, schema)?)
        };
        Ok(if constant {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&answer, 0)?)
        } else {
            ColumnarValue::Array(answer)
        })
    }
}

impl RegType {
    fn read(&self, array: &ArrayRef, objects: &Objects, schema: &str) -> Result<Int32Array> {
        if array.data_type().is_integer() || array.data_type() == &DataType::Null {
            return Ok(cast(array, &DataType::Int32)?.as_primitive::<Int32Type>().clone());
        }
        let texts = cast(array, &DataType::Utf8)?;
        let read = |text: Option<&str>| match text {
            Some(text) => match number(self.kind, text, objects, schema)? {
                None if self.does == Does::Read => Err(missing(self.kind, text)),
                found => Ok(found),
            },
            None => Ok(None),
        };
        texts.as_string::<i32>().iter().map(read).collect()
    }
}

/// The number of the object of that name, or of the number that the text is.
pub fn number(kind: &str, text: &str, objects: &Objects, schema: &str) -> Result<Option<i32>> {
    let text = text.trim();
    if text == "-" {
        return Ok(Some(0));
    }
    if let Ok(oid) = text.parse() {
        return Ok(Some(oid));
    }
    let parts = identifiers::parts(text).ok_or_else(|| {
        Error::new(Kind::Syntax, format!("invalid name syntax: \"{text}\"")).hint("write name or schema.name")
    })?;
    Ok(match (kind, parts.as_slice()) {
        ("regclass", [name]) => {
            let mut schemas = temporary::searched(schema).chain(["pg_catalog"]);
            schemas.find_map(|schema| objects.relation_named(schema, name)).map(|object| object.oid)
        }
        ("regclass", [.., schema, name]) => objects.relation_named(schema, name).map(|object| object.oid),
        ("regnamespace", [name]) => objects.namespaces.iter().find(|of| of.name == *name).map(|of| of.oid),
        ("regrole", [name]) => objects.access.find(name).map(|role| role_number(role.id)),
        ("regtype", _) => match types::named(text) {
            Some((of, is_array)) => Some(if is_array { of.array } else { of.oid }),
            None => {
                let name = parts.last().map(String::as_str).unwrap_or_default();
                type_names(&objects.exports).into_iter().find(|(_, found)| found == name).map(|(oid, _)| oid)
            }
        },
        ("regproc" | "regprocedure", [.., name]) => {
            let name = name.split('(').next().unwrap_or(name);
            let ours = objects.routines.iter().find(|routine| routine.name == name).map(|routine| routine.oid);
            ours.or_else(|| function_named(objects, name))
        }
        _ => None,
    })
}

fn function_named(objects: &Objects, name: &str) -> Option<i32> {
    let functions = objects.exports.tables.get("pg_proc")?;
    let names = functions.column_by_name("proname")?.as_string_opt::<i32>()?;
    let oids = functions.column_by_name("oid")?.as_primitive_opt::<Int32Type>()?;
    names.iter().position(|found| found == Some(name)).map(|at| oids.value(at))
}

fn missing(kind: &str, text: &str) -> Error {
    match kind {
        "regclass" => Error::new(Kind::UnknownTable, format!("relation \"{text}\" does not exist")),
        "regnamespace" => Error::new(Kind::UnknownSchema, format!("schema \"{text}\" does not exist")),
        "regtype" => Error::new(Kind::UnknownSetting, format!("type \"{text}\" does not exist")),
        "oid" => Error::new(Kind::InvalidText, format!("invalid input syntax for type oid: \"{text}\"")),
        "regrole" => Error::new(Kind::UnknownRole, format!("role \"{text}\" does not exist")),
        _ => Error::new(Kind::UnknownFunction, format!("function \"{text}\" does not exist")),
    }
}

/// The name of an object; its number if there is none.
pub fn written(kind: &str, oid: i32, objects: &Objects, schema: &str) -> String {
    let named = |of: &str, name: &str, hidden: bool| {
        let name = identifiers::quoted(name);
        if hidden { name } else { format!("{}.{name}", identifiers::quoted(of)) }
    };
    let found = match kind {
        "oid" => None,
        _ if oid == 0 => Some("-".to_owned()),
        "regclass" => objects.relation(oid).map(|object| {
            let hidden = temporary::searched(schema).any(|schema| object.schema == schema);
            named(&object.schema, &object.name, hidden || object.schema_oid == PG_CATALOG)
        }),
        "regtype" => match types::numbered(oid) {
            Some((of, is_array)) => Some(types::written(of, is_array, -1)),
            None => type_names(&objects.exports).remove(&oid),
        },
        "regnamespace" => objects.namespaces.iter().find(|of| of.oid == oid).map(|of| identifiers::quoted(&of.name)),
        "regrole" => objects.role(oid).map(|role| identifiers::quoted(&role.name)),
        _ => {
            let ours =
                objects.routines.iter().find(|routine| routine.oid == oid).map(|routine| routine.name.to_owned());
            ours.or_else(|| name_of_function(objects, oid))
        }
    };
    found.unwrap_or_else(|| oid.to_string())
}

fn name_of_function(objects: &Objects, oid: i32) -> Option<String> {
    let functions = objects.exports.tables.get("pg_proc")?;
    let names = functions.column_by_name("proname")?.as_string_opt::<i32>()?;
    let oids = functions.column_by_name("oid")?.as_primitive_opt::<Int32Type>()?;
    oids.iter().position(|found| found == Some(oid)).map(|at| names.value(at).to_owned())
}
