//! Functions that describe an object of the catalog by its number: comments, definitions, signatures, sizes.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Volatility;
use datafusion::prelude::SessionContext;

use crate::engine::pg_catalog::objects::{
    CLASS_OF_FUNCTIONS, CLASS_OF_RELATIONS, Object, Objects, Routine, Source, type_names,
};
use crate::engine::pg_catalog::{reg_types, types};
use crate::engine::pg_functions::{Answer, any, function};
use crate::engine::temporary;
use crate::error::{Error, Kind, Result};

/// Answers about the objects; the text is the schema that names without one are looked for in.
type About = fn(&Objects, &[ScalarValue], &str) -> Result<ScalarValue>;

/// Registers them.
pub fn register(context: &SessionContext, source: &Arc<Source>) {
    let text = || DataType::Utf8;
    let all: [(&[&'static str], DataType, About); 16] = [
        (&["format_type"], text(), format_type),
        (&["obj_description"], text(), |objects, given, _| Ok(described(objects, given))),
        (&["col_description"], text(), |objects, given, _| Ok(column_described(objects, given))),
        (&["pg_get_viewdef"], text(), |objects, given, schema| {
            let view = relation(objects, given.first(), schema)?;
            Ok(ScalarValue::Utf8(view.and_then(|view| view.view_sql.clone()).map(|sql| format!(" {sql};"))))
        }),
        // What the catalog has of an expression is its text.
        (&["pg_get_expr"], text(), |_, given, _| Ok(ScalarValue::Utf8(name(given.first())))),
        (&["pg_get_constraintdef"], text(), |objects, given, _| {
            let wanted = oid(given.first());
            let mut checks = objects.relations.iter().flat_map(Object::checks);
            let found = checks.find(|(oid, ..)| Some(*oid) == wanted);
            Ok(ScalarValue::Utf8(found.map(|(.., check)| format!("CHECK ({check})"))))
        }),
        (&["pg_get_functiondef"], text(), |objects, given, _| {
            Ok(of_routine(objects, given, |routine| Some(format!("-- {}\n{}()", routine.summary, routine.name))))
        }),
        (&["pg_get_function_arguments", "pg_get_function_identity_arguments"], text(), |objects, given, _| {
            Ok(of_routine(objects, given, |routine| Some(routine.arguments.join(", "))))
        }),
        (&["pg_get_function_result"], text(), |objects, given, _| {
            Ok(of_routine(objects, given, |routine| match routine.columns.as_slice() {
                [] => Some("\"any\"".to_owned()),
                columns => Some(format!("TABLE({})", columns.join(", "))),
            }))
        }),
        (&["pg_get_userbyid"], text(), |objects, given, _| {
            let unknown = |oid: i32| format!("unknown (OID={oid})");
            let named = |oid| objects.role(oid).map_or_else(|| unknown(oid), |role| role.name.clone());
            Ok(ScalarValue::Utf8(oid(given.first()).map(named)))
        }),
        (&["pg_table_is_visible"], DataType::Boolean, |objects, given, schema| {
            let found = oid(given.first()).and_then(|oid| objects.relation(oid));
            let visible = |object: &Object| {
                temporary::searched(schema).any(|schema| object.schema == schema) || object.schema == "pg_catalog"
            };
            Ok(ScalarValue::Boolean(found.map(visible)))
        }),
        (
            &["pg_relation_size", "pg_table_size", "pg_total_relation_size"],
            DataType::Int64,
            |objects, given, schema| {
                let found = relation(objects, given.first(), schema)?;
                Ok(ScalarValue::Int64(found.map(|object| i64::try_from(object.bytes).unwrap_or(i64::MAX))))
            },
        ),
        (&["pg_database_size"], DataType::Int64, |objects, _, _| {
            let bytes: u64 = objects.relations.iter().map(|object| object.bytes).sum();
            Ok(ScalarValue::Int64(i64::try_from(bytes).ok()))
        }),
        (&["pg_indexes_size", "pg_stat_get_numscans", "pg_tablespace_size"], DataType::Int64, |_, _, _| {
            Ok(ScalarValue::Int64(Some(0)))
        }),
        (&["pg_size_pretty"], text(), |_, given, _| {
            let bytes = given.first().filter(|bytes| !bytes.is_null());
            let bytes = bytes.map(|bytes| bytes.cast_to(&DataType::Int64)).transpose()?;
            Ok(ScalarValue::Utf8(match bytes {
                Some(ScalarValue::Int64(Some(bytes))) => Some(pretty(bytes)),
                _ => None,
            }))
        }),
        (&["pg_typeof"], text(), |_, given, _| {
            let of = given.first().map_or(DataType::Null, ScalarValue::data_type);
            let of = types::of_column(&datafusion::arrow::datatypes::Field::new("", of, true));
            Ok(ScalarValue::Utf8(Some(types::written(of.of, of.is_array, -1))))
        }),
    ];
    for (names, returns, about) in all {
        for name in names {
            let source = Arc::clone(source);
            let answer = Answer::InSession(Arc::new(move |given, options| {
                about(&*source.objects()?, given, &options.catalog.default_schema)
            }));
            context.register_udf(function(name, returns.clone(), any(), Volatility::Stable, answer));
        }
    }
}

fn oid(value: Option<&ScalarValue>) -> Option<i32> {
    match value?.cast_to(&DataType::Int32) {
        Ok(ScalarValue::Int32(oid)) => oid,
        _ => None,
    }
}

fn name(value: Option<&ScalarValue>) -> Option<String> {
    match value?.cast_to(&DataType::Utf8) {
        Ok(ScalarValue::Utf8(name)) => name,
        _ => None,
    }
}

/// The relation that is named by its number or by its name; `None` for a number that nothing has.
fn relation<'a>(objects: &'a Objects, value: Option<&ScalarValue>, schema: &str) -> Result<Option<&'a Object>> {
    let is_text = value.is_some_and(|value| value.data_type().is_string());
    match name(value).filter(|_| is_text) {
        Some(name) => match reg_types::number("regclass", &name, objects, schema)? {
            Some(oid) => Ok(objects.relation(oid)),
            None => Err(Error::new(Kind::UnknownTable, format!("relation \"{name}\" does not exist"))),
        },
        None => Ok(oid(value).and_then(|oid| objects.relation(oid))),
    }
}

fn format_type(objects: &Objects, given: &[ScalarValue], _: &str) -> Result<ScalarValue> {
    let Some(of) = oid(given.first()) else { return Ok(ScalarValue::Utf8(None)) };
    let modifier = oid(given.get(1)).unwrap_or(-1);
    let written = match types::numbered(of) {
        _ if of == 0 => "-".to_owned(),
        Some((of, is_array)) => types::written(of, is_array, modifier),
        None => match type_names(&objects.exports).remove(&of) {
            Some(name) => match name.strip_prefix('_') {
                Some(item) => format!("{item}[]"),
                None => name,
            },
            None => "???".to_owned(),
        },
    };
    Ok(ScalarValue::Utf8(Some(written)))
}

/// The comment on an object; which catalog has it is the second argument.
fn described(objects: &Objects, given: &[ScalarValue]) -> ScalarValue {
    let Some(oid) = oid(given.first()) else { return ScalarValue::Utf8(None) };
    let class = match name(given.get(1)).as_deref() {
        None => None,
        Some("pg_class") => Some(CLASS_OF_RELATIONS),
        Some("pg_proc") => Some(CLASS_OF_FUNCTIONS),
        Some(_) => return ScalarValue::Utf8(None),
    };
    let relation = || objects.relation(oid).and_then(|object| object.comment.clone());
    let routine =
        || objects.routines.iter().find(|routine| routine.oid == oid).map(|routine| routine.summary.to_owned());
    ScalarValue::Utf8(match class {
        Some(CLASS_OF_RELATIONS) => relation(),
        Some(_) => routine(),
        None => relation().or_else(routine),
    })
}

fn column_described(objects: &Objects, given: &[ScalarValue]) -> ScalarValue {
    let found = || {
        let object = objects.relation(oid(given.first())?)?;
        let number = usize::try_from(oid(given.get(1))?).ok()?;
        let field = object.columns.fields().get(number.checked_sub(1)?)?;
        object.column_comments.get(field.name()).cloned()
    };
    ScalarValue::Utf8(found())
}

fn of_routine(objects: &Objects, given: &[ScalarValue], fact: fn(&Routine) -> Option<String>) -> ScalarValue {
    let found = oid(given.first()).and_then(|oid| objects.routines.iter().find(|routine| routine.oid == oid));
    ScalarValue::Utf8(found.and_then(fact))
}

/// Bytes as people read them, rounded as Postgres does it.
fn pretty(bytes: i64) -> String {
    let mut size = bytes;
    for unit in ["bytes", "kB", "MB", "GB", "TB"] {
        if size.abs() < 10 * 1024 || unit == "TB" {
            return format!("{size} {unit}");
        }
        // Half is rounded away from zero, once, at the unit that is shown.
        size = (size + size.signum() * 512) / 1024;
    }
    format!("{size} PB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rounded() {
        assert_eq!(pretty(8_192), "8192 bytes");
        assert_eq!(pretty(10 * 1024), "10 kB");
        assert_eq!(pretty(1_500_000), "1465 kB");
        assert_eq!(pretty(-20_000_000), "-19 MB");
    }
}
