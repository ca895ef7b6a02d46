//! What every Postgres has in its catalog and nobody changes: types, collations, access methods. The rows were written
//! out of a PostgreSQL by the crate datafusion-pg-catalog, as text; here they get the types that clients expect.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, BooleanArray};
use datafusion::arrow::compute::{concat_batches, filter_record_batch};
use datafusion::arrow::datatypes::{DataType, Int32Type, Schema};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion_pg_catalog::pg_catalog::{ArrowTable, PgCatalogStaticTables};
use serde_json::Value;

use crate::engine::array_text;
use crate::engine::pg_catalog::relation::{Cell, OID_ALIAS};
use crate::error::{Error, Result};

/// Relations of which the rows are about objects that only a Postgres has: here they are empty.
const EMPTY: &[&str] = &[
    "pg_attrdef",
    "pg_constraint",
    "pg_db_role_setting",
    "pg_default_acl",
    "pg_depend",
    "pg_enum",
    "pg_event_trigger",
    "pg_extension",
    "pg_foreign_data_wrapper",
    "pg_foreign_server",
    "pg_foreign_table",
    "pg_index",
    "pg_inherits",
    "pg_init_privs",
    "pg_largeobject",
    "pg_largeobject_metadata",
    "pg_partitioned_table",
    "pg_policy",
    "pg_publication",
    "pg_publication_namespace",
    "pg_publication_rel",
    "pg_replication_origin",
    "pg_rewrite",
    "pg_seclabel",
    "pg_sequence",
    "pg_shdepend",
    "pg_shseclabel",
    "pg_statistic",
    "pg_statistic_ext",
    "pg_statistic_ext_data",
    "pg_subscription",
    "pg_subscription_rel",
    "pg_trigger",
    "pg_user_mapping",
];

/// Columns that are vectors or arrays, and of what.
const ARRAYS: &[(&str, Cell)] = &[
    ("indkey", Cell::Int2s),
    ("indoption", Cell::Int2s),
    ("indcollation", Cell::Oids),
    ("indclass", Cell::Oids),
    ("conkey", Cell::Int2s),
    ("confkey", Cell::Int2s),
    ("confdelsetcols", Cell::Int2s),
    ("conpfeqop", Cell::Oids),
    ("conppeqop", Cell::Oids),
    ("conffeqop", Cell::Oids),
    ("conexclop", Cell::Oids),
    ("proargtypes", Cell::Oids),
    ("proallargtypes", Cell::Oids),
    ("proargmodes", Cell::Texts),
    ("proargnames", Cell::Texts),
    ("protrftypes", Cell::Oids),
    ("proconfig", Cell::Texts),
    ("stxkeys", Cell::Int2s),
    ("stxkind", Cell::Texts),
    ("tgattr", Cell::Int2s),
    ("prattrs", Cell::Int2s),
    ("polroles", Cell::Oids),
    ("extconfig", Cell::Oids),
    ("extcondition", Cell::Texts),
    ("setconfig", Cell::Texts),
];

/// Columns of one letter, which clients know as the type `"char"`.
const LETTERS: &[&str] = &[
    "typtype",
    "typcategory",
    "typdelim",
    "typalign",
    "typstorage",
    "relpersistence",
    "relkind",
    "relreplident",
    "attalign",
    "attstorage",
    "attcompression",
    "attidentity",
    "attgenerated",
    "prokind",
    "provolatile",
    "proparallel",
    "contype",
    "confupdtype",
    "confdeltype",
    "confmatchtype",
    "castcontext",
    "castmethod",
    "amtype",
    "aggkind",
    "aggfinalmodify",
    "aggmfinalmodify",
    "deptype",
    "oprkind",
    "collprovider",
    "datlocprovider",
    "evtenabled",
    "tgenabled",
    "polcmd",
    "ev_type",
    "ev_enabled",
];

/// The type of a column of text.
fn cell(name: &str) -> Cell {
    match ARRAYS.iter().find(|(array, _)| *array == name) {
        Some((_, cell)) => *cell,
        None if name.ends_with("acl") || name.ends_with("options") || name == "evttags" => Cell::Texts,
        None if LETTERS.contains(&name) => Cell::Char,
        None if name.ends_with("name") => Cell::Name,
        None => Cell::Text,
    }
}

/// Whether the catalog has arrays in columns of that name.
pub fn is_array(column: &str) -> bool {
    matches!(cell(column), Cell::Int2s | Cell::Oids | Cell::Texts)
}

/// The relations by their names.
pub struct Exports {
    pub tables: BTreeMap<&'static str, RecordBatch>,
}

/// Each field of the crate's struct under its name.
macro_rules! named {
    ($tables:ident, $($name:ident),* $(,)?) => { [$((stringify!($name), &$tables.$name)),*] };
}

impl Exports {
    pub fn read() -> Result<Self> {
        let all = PgCatalogStaticTables::try_new()?;
        let named = named!(
            all,
            pg_aggregate,
            pg_am,
            pg_amop,
            pg_amproc,
            pg_cast,
            pg_collation,
            pg_conversion,
            pg_language,
            pg_opclass,
            pg_operator,
            pg_opfamily,
            pg_proc,
            pg_range,
            pg_ts_config,
            pg_ts_dict,
            pg_ts_parser,
            pg_ts_template,
            pg_type,
            pg_attrdef,
            pg_constraint,
            pg_db_role_setting,
            pg_default_acl,
            pg_depend,
            pg_description,
            pg_enum,
            pg_event_trigger,
            pg_extension,
            pg_foreign_data_wrapper,
            pg_foreign_server,
            pg_foreign_table,
            pg_index,
            pg_inherits,
            pg_init_privs,
            pg_largeobject,
            pg_largeobject_metadata,
            pg_partitioned_table,
            pg_policy,
            pg_publication,
            pg_publication_namespace,
            pg_publication_rel,
            pg_replication_origin,
            pg_rewrite,
            pg_seclabel,
            pg_sequence,
            pg_shdepend,
            pg_shdescription,
            pg_shseclabel,
            pg_statistic,
            pg_statistic_ext,
            pg_statistic_ext_data,
            pg_subscription,
            pg_subscription_rel,
            pg_tablespace,
            pg_trigger,
            pg_user_mapping,
            pg_get_keywords,
        );
        let mut tables = BTreeMap::new();
        let functions = functions(&whole(&all.pg_proc)?)?;
        for (name, table) in named {
            let rows = whole(table)?;
            let rows = if EMPTY.contains(&name) { rows.slice(0, 0) } else { rows };
            tables.insert(name, retyped(&rows, &functions)?);
        }
        if let Some(types) = tables.get_mut("pg_type") {
            *types = without_rows(types)?;
        }
        Ok(Self { tables })
    }

    pub fn table(&self, name: &str) -> Result<&RecordBatch> {
        self.tables.get(name).ok_or_else(|| Error::internal(format!("{name} was not exported")))
    }
}

fn whole(table: &Arc<ArrowTable>) -> Result<RecordBatch> {
    Ok(concat_batches(&table.schema(), table.data())?)
}

/// The numbers of functions by their names; of several the first.
fn functions(pg_proc: &RecordBatch) -> Result<HashMap<String, i32>> {
    let missing = || Error::internal("pg_proc has no names");
    let oids =
        pg_proc.column_by_name("oid").and_then(|oids| oids.as_primitive_opt::<Int32Type>()).ok_or_else(missing)?;
    let names = pg_proc.column_by_name("proname").and_then(|names| names.as_string_opt::<i32>()).ok_or_else(missing)?;
    let mut functions = HashMap::new();
    for (oid, name) in oids.iter().flatten().zip(names.iter().flatten()) {
        functions.entry(name.to_owned()).or_insert(oid);
    }
    Ok(functions)
}

/// The rows with functions as numbers, and vectors and arrays as lists.
fn retyped(rows: &RecordBatch, functions: &HashMap<String, i32>) -> Result<RecordBatch> {
    let schema = rows.schema();
    let mut fields = Vec::new();
    let mut columns: Vec<ArrayRef> = Vec::new();
    for (field, column) in schema.fields().iter().zip(rows.columns()) {
        let is_function = field.metadata().get(OID_ALIAS).is_some_and(|alias| alias == "regproc");
        let cell = match (field.data_type(), is_function) {
            (DataType::Utf8, true) => Cell::Regproc,
            (DataType::Utf8, false) => cell(field.name()),
            _ => {
                fields.push(field.as_ref().clone());
                columns.push(Arc::clone(column));
                continue;
            }
        };
        let texts = column.as_string_opt::<i32>().ok_or_else(|| Error::internal("an export is not text"))?;
        let read = |text: Option<&str>| match (text, cell) {
            (None, _) => Value::Null,
            (Some(text), Cell::Text | Cell::Name | Cell::Char) => Value::from(text),
            (Some(text), Cell::Regproc) => Value::from(functions.get(text).copied().unwrap_or(0)),
            (Some(text), cell) => Value::Array(items(text).iter().map(|item| one(item, cell)).collect()),
        };
        let values: Vec<Value> = texts.iter().map(read).collect();
        // The rows are of a newer server than we say to be.
        let name = if field.name() == "colllocale" { "colliculocale" } else { field.name() };
        fields.push(cell.field(name));
        columns.push(cell.array(values.iter()));
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

/// The items of `{a,b}` or of the vector `1 2`.
fn items(text: &str) -> Vec<Option<String>> {
    array_text::items(text).unwrap_or_else(|| text.split_whitespace().map(|item| Some(item.to_owned())).collect())
}

fn one(item: &Option<String>, cell: Cell) -> Value {
    match (item, cell) {
        (None, _) => Value::Null,
        (Some(item), Cell::Texts) => Value::from(item.as_str()),
        (Some(item), _) => item.parse::<i64>().map_or(Value::Null, Value::from),
    }
}

/// `pg_type` without the types of the rows of a Postgres' system tables.
fn without_rows(types: &RecordBatch) -> Result<RecordBatch> {
    let missing = || Error::internal("pg_type is not as it was");
    let numbers = |name: &str| types.column_by_name(name)?.as_primitive_opt::<Int32Type>();
    let (oids, rows, items) = (
        numbers("oid").ok_or_else(missing)?,
        numbers("typrelid").ok_or_else(missing)?,
        numbers("typelem").ok_or_else(missing)?,
    );
    let of_rows: Vec<i32> =
        oids.iter().zip(rows).filter(|(_, row)| *row != Some(0)).filter_map(|(oid, _)| oid).collect();
    let kept: BooleanArray =
        (0..types.num_rows()).map(|at| Some(rows.value(at) == 0 && !of_rows.contains(&items.value(at)))).collect();
    Ok(filter_record_batch(types, &kept)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_numbers_and_vectors_are_lists() {
        let exports = Exports::read().unwrap();
        let types = exports.table("pg_type").unwrap();
        let receive = types.column_by_name("typreceive").unwrap().as_primitive::<Int32Type>();
        let oids = types.column_by_name("oid").unwrap().as_primitive::<Int32Type>();
        let int8 = oids.iter().position(|oid| oid == Some(20)).unwrap();
        // int8recv
        assert_eq!(receive.value(int8), 2408);
        let kinds = types.column_by_name("typtype").unwrap().as_string::<i32>();
        assert!(kinds.iter().flatten().all(|kind| kind != "c"), "no types of rows");
        let keys = exports.table("pg_index").unwrap().column_by_name("indkey").unwrap();
        assert_eq!(keys.data_type(), &DataType::new_list(DataType::Int16, true));
        assert_eq!(exports.table("pg_index").unwrap().num_rows(), 0);
        let arguments = exports.table("pg_proc").unwrap().column_by_name("proargtypes").unwrap();
        assert_eq!(arguments.data_type(), &DataType::new_list(DataType::Int32, true));
    }
}
