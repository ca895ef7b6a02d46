//! `pg_proc`: our functions, and those of Postgres that can be called here or that its types name.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, BooleanArray};
use datafusion::arrow::compute::{concat_batches, filter_record_batch};
use datafusion::arrow::datatypes::{DataType, Int32Type};
use datafusion::arrow::record_batch::RecordBatch;
use serde_json::{Value, json};

use crate::engine::pg_catalog::objects::{Objects, PG_CATALOG, Routine, role_number};
use crate::engine::pg_catalog::relation::Cell;
use crate::error::{Error, Result};
use crate::storage::RoleId;

/// The pseudo-types `any` and `record`, and the language of functions that are built in.
const ANY: i32 = 2_276;
const RECORD: i32 = 2_249;
const INTERNAL: i32 = 12;

pub fn batch(objects: &Objects) -> Result<RecordBatch> {
    let postgres = callable(objects)?;
    let public = objects.namespaces.iter().find(|schema| schema.name == "public");
    let public = public.map_or(PG_CATALOG, |schema| schema.oid);
    let column = |name: &str, of: &DataType| -> ArrayRef {
        let values: Vec<Value> = objects.routines.iter().map(|routine| fact(name, routine, public)).collect();
        let cell = match of {
            DataType::Int32 => Cell::Int4,
            DataType::Int16 => Cell::Int2,
            DataType::Boolean => Cell::Bool,
            DataType::Float32 => Cell::Real,
            DataType::List(item) if item.data_type() == &DataType::Int32 => Cell::Oids,
            DataType::List(_) => Cell::Texts,
            _ => Cell::Text,
        };
        cell.array(values.iter())
    };
    let schema = postgres.schema();
    let columns = schema.fields().iter().map(|field| column(field.name(), field.data_type())).collect();
    let ours = RecordBatch::try_new(Arc::clone(&schema), columns)?;
    Ok(concat_batches(&schema, [&ours, &postgres])?)
}

/// What `pg_proc` says of a function of ours in one of its columns.
fn fact(column: &str, routine: &Routine, schema: i32) -> Value {
    let gives_rows = !routine.columns.is_empty();
    match column {
        "oid" => json!(routine.oid),
        "proname" | "prosrc" => json!(routine.name),
        "pronamespace" => json!(schema),
        "proowner" => json!(role_number(RoleId::FIRST)),
        "prolang" => json!(INTERNAL),
        "procost" => json!(1),
        "prorows" => json!(if gives_rows { 1_000 } else { 0 }),
        "provariadic" | "prosupport" | "pronargdefaults" => json!(0),
        "prokind" => json!("f"),
        "prosecdef" | "proleakproof" | "proisstrict" => json!(false),
        "proretset" => json!(gives_rows),
        "provolatile" | "proparallel" => json!("s"),
        "pronargs" => json!(routine.arguments.len()),
        "prorettype" => json!(if gives_rows { RECORD } else { ANY }),
        "proargtypes" => json!(vec![ANY; routine.arguments.len()]),
        "proargnames" => json!(routine.arguments),
        _ => Value::Null,
    }
}

/// The rows of Postgres' functions that can be called here or read and write its types.
fn callable(objects: &Objects) -> Result<RecordBatch> {
    let all = objects.exports.table("pg_proc")?;
    let missing = || Error::internal("pg_proc is not as it was");
    let oids = all.column_by_name("oid").and_then(|oids| oids.as_primitive_opt::<Int32Type>()).ok_or_else(missing)?;
    let names = all.column_by_name("proname").and_then(|names| names.as_string_opt::<i32>()).ok_or_else(missing)?;
    let of_types = of_types(objects).unwrap_or_default();
    let kept: BooleanArray = (0..all.num_rows())
        .map(|at| Some(objects.callable.contains(names.value(at)) || of_types.contains(&oids.value(at))))
        .collect();
    Ok(filter_record_batch(all, &kept)?)
}

/// The functions that types name.
fn of_types(objects: &Objects) -> Option<HashSet<i32>> {
    let types = objects.exports.tables.get("pg_type")?;
    let mut functions = HashSet::new();
    for column in ["typinput", "typoutput", "typreceive", "typsend", "typmodin", "typmodout", "typanalyze"] {
        let oids = types.column_by_name(column)?.as_primitive_opt::<Int32Type>()?;
        functions.extend(oids.iter().flatten());
    }
    Some(functions)
}
