//! The relations of `pg_catalog` that show what is here.

use std::collections::HashMap;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::{Int16Type, Int32Type};
use serde_json::{Value, json};

use crate::engine::catalog::CATALOG;
use crate::engine::pg_catalog::exports::Exports;
use crate::engine::pg_catalog::objects::{
    CLASS_OF_FUNCTIONS, CLASS_OF_RELATIONS, CLASS_OF_TYPES, Object, Objects, role_number,
};
use crate::engine::pg_catalog::relation::{Cell, Row, SystemRelation, row};
use crate::engine::pg_catalog::{acl, foreign, roles, types};
use crate::engine::temporary;
use crate::storage::RoleId;

/// Every relation that is made of what is here; the others are Postgres' own.
pub const RELATIONS: &[SystemRelation] = &[
    PG_NAMESPACE,
    PG_CLASS,
    PG_ATTRIBUTE,
    PG_ATTRDEF,
    PG_CONSTRAINT,
    PG_DESCRIPTION,
    PG_DATABASE,
    foreign::PG_FOREIGN_DATA_WRAPPER,
    foreign::PG_FOREIGN_SERVER,
    foreign::PG_FOREIGN_TABLE,
    foreign::PG_USER_MAPPING,
    foreign::PG_USER_MAPPINGS,
    roles::PG_POLICY,
    PG_TABLES,
    PG_VIEWS,
    PG_MATVIEWS,
    PG_INDEXES,
    PG_SEQUENCES,
    PG_RULES,
    PG_STAT_USER_TABLES,
    PG_LOCKS,
    PG_AVAILABLE_EXTENSIONS,
    PG_TIMEZONE_NAMES,
];

const PG_NAMESPACE: SystemRelation = SystemRelation {
    name: "pg_namespace",
    columns: &[("oid", Cell::Oid), ("nspname", Cell::Name), ("nspowner", Cell::Oid), ("nspacl", Cell::Texts)],
    rows: |objects| {
        let namespaces = objects.namespaces.iter();
        namespaces
            .map(|schema| {
                row![schema.oid, schema.name.as_str(), role_number(schema.owner), acl::of_schema(objects, schema)]
            })
            .collect()
    },
};

const PG_CLASS: SystemRelation = SystemRelation {
    name: "pg_class",
    columns: &[
        ("oid", Cell::Oid),
        ("relname", Cell::Name),
        ("relnamespace", Cell::Oid),
        ("reltype", Cell::Oid),
        ("reloftype", Cell::Oid),
        ("relowner", Cell::Oid),
        ("relam", Cell::Oid),
        ("relfilenode", Cell::Oid),
        ("reltablespace", Cell::Oid),
        ("relpages", Cell::Int4),
        ("reltuples", Cell::Real),
        ("relallvisible", Cell::Int4),
        ("reltoastrelid", Cell::Oid),
        ("relhasindex", Cell::Bool),
        ("relisshared", Cell::Bool),
        ("relpersistence", Cell::Char),
        ("relkind", Cell::Char),
        ("relnatts", Cell::Int2),
        ("relchecks", Cell::Int2),
        ("relhasrules", Cell::Bool),
        ("relhastriggers", Cell::Bool),
        ("relhassubclass", Cell::Bool),
        ("relrowsecurity", Cell::Bool),
        ("relforcerowsecurity", Cell::Bool),
        ("relispopulated", Cell::Bool),
        ("relreplident", Cell::Char),
        ("relispartition", Cell::Bool),
        ("relrewrite", Cell::Oid),
        ("relfrozenxid", Cell::Int4),
        ("relminmxid", Cell::Int4),
        ("relacl", Cell::Texts),
        ("reloptions", Cell::Texts),
        ("relpartbound", Cell::Text),
    ],
    rows: |objects| {
        let class = |object: &Object| {
            // Heap, as tables that are no views have it.
            let method = if object.kind == 'r' { 2 } else { 0 };
            row![
                object.oid,
                object.name.as_str(),
                object.schema_oid,
                0,
                0,
                role_number(object.owner),
                method,
                object.oid,
                0,
                object.bytes.div_ceil(8_192),
                object.rows,
                0,
                0,
                false,
                false,
                if object.schema.starts_with(temporary::PREFIX) { "t" } else { "p" },
                object.kind.to_string(),
                object.columns.fields().len(),
                object.rules.checks.len(),
                object.kind == 'v',
                false,
                false,
                object.row_security,
                false,
                true,
                "n",
                false,
                0,
                0,
                0,
                acl::of_relation(objects, object),
                Value::Null,
                Value::Null,
            ]
        };
        objects.relations.iter().map(class).collect()
    },
};

const PG_ATTRIBUTE: SystemRelation = SystemRelation {
    name: "pg_attribute",
    columns: &[
        ("attrelid", Cell::Oid),
        ("attname", Cell::Name),
        ("atttypid", Cell::Oid),
        ("attstattarget", Cell::Int4),
        ("attlen", Cell::Int2),
        ("attnum", Cell::Int2),
        ("attndims", Cell::Int4),
        ("attcacheoff", Cell::Int4),
        ("atttypmod", Cell::Int4),
        ("attbyval", Cell::Bool),
        ("attalign", Cell::Char),
        ("attstorage", Cell::Char),
        ("attcompression", Cell::Char),
        ("attnotnull", Cell::Bool),
        ("atthasdef", Cell::Bool),
        ("atthasmissing", Cell::Bool),
        ("attidentity", Cell::Char),
        ("attgenerated", Cell::Char),
        ("attisdropped", Cell::Bool),
        ("attislocal", Cell::Bool),
        ("attinhcount", Cell::Int4),
        ("attcollation", Cell::Oid),
        ("attacl", Cell::Texts),
        ("attoptions", Cell::Texts),
        ("attfdwoptions", Cell::Texts),
        ("attmissingval", Cell::Text),
    ],
    rows: |objects| {
        let layouts = layouts(&objects.exports);
        let unknown =
            Layout { bytes: -1, by_value: false, align: "i".to_owned(), storage: "x".to_owned(), collation: 0 };
        let mut rows = Vec::new();
        for object in &objects.relations {
            for (field, number) in object.columns.fields().iter().zip(1..) {
                let of = types::of_column(field);
                let layout = layouts.get(&of.oid()).unwrap_or(&unknown);
                rows.push(row![
                    object.oid,
                    field.name().as_str(),
                    of.oid(),
                    -1,
                    layout.bytes,
                    number,
                    i32::from(of.is_array),
                    -1,
                    of.modifier,
                    layout.by_value,
                    layout.align.as_str(),
                    layout.storage.as_str(),
                    "",
                    !field.is_nullable(),
                    object.rules.defaults.contains_key(field.name()),
                    false,
                    "",
                    "",
                    false,
                    true,
                    0,
                    layout.collation,
                    acl::of_column(objects, object, field.name()),
                    Value::Null,
                    Value::Null,
                    Value::Null,
                ]);
            }
        }
        rows
    },
};

const PG_ATTRDEF: SystemRelation = SystemRelation {
    name: "pg_attrdef",
    columns: &[("oid", Cell::Oid), ("adrelid", Cell::Oid), ("adnum", Cell::Int2), ("adbin", Cell::Text)],
    rows: |objects| {
        let mut rows = Vec::new();
        for object in objects.relations.iter().filter(|object| !object.rules.defaults.is_empty()) {
            for (field, number) in object.columns.fields().iter().zip(1..) {
                if let Some(default) = object.rules.defaults.get(field.name()) {
                    rows.push(row![object.number_of(field.name()), object.oid, number, default.as_str()]);
                }
            }
        }
        rows
    },
};

const PG_CONSTRAINT: SystemRelation = SystemRelation {
    name: "pg_constraint",
    columns: &[
        ("oid", Cell::Oid),
        ("conname", Cell::Name),
        ("connamespace", Cell::Oid),
        ("contype", Cell::Char),
        ("condeferrable", Cell::Bool),
        ("condeferred", Cell::Bool),
        ("convalidated", Cell::Bool),
        ("conrelid", Cell::Oid),
        ("contypid", Cell::Oid),
        ("conindid", Cell::Oid),
        ("conparentid", Cell::Oid),
        ("confrelid", Cell::Oid),
        ("confupdtype", Cell::Char),
        ("confdeltype", Cell::Char),
        ("confmatchtype", Cell::Char),
        ("conislocal", Cell::Bool),
        ("coninhcount", Cell::Int4),
        ("connoinherit", Cell::Bool),
        ("conkey", Cell::Int2s),
        ("confkey", Cell::Int2s),
        ("conpfeqop", Cell::Oids),
        ("conppeqop", Cell::Oids),
        ("conffeqop", Cell::Oids),
        ("confdelsetcols", Cell::Int2s),
        ("conexclop", Cell::Oids),
        ("conbin", Cell::Text),
    ],
    rows: |objects| {
        let mut rows = Vec::new();
        for object in &objects.relations {
            for (oid, name, check) in object.checks() {
                rows.push(row![
                    oid,
                    name,
                    object.schema_oid,
                    "c",
                    false,
                    false,
                    true,
                    object.oid,
                    0,
                    0,
                    0,
                    0,
                    " ",
                    " ",
                    " ",
                    true,
                    0,
                    false,
                    Value::Null,
                    Value::Null,
                    Value::Null,
                    Value::Null,
                    Value::Null,
                    Value::Null,
                    Value::Null,
                    check,
                ]);
            }
        }
        rows
    },
};

/// How values of a type lie in a Postgres: clients read it, and expect it to be the same for a type everywhere.
struct Layout {
    bytes: i16,
    by_value: bool,
    align: String,
    storage: String,
    collation: i32,
}

fn layouts(exports: &Exports) -> HashMap<i32, Layout> {
    let read = || {
        let types = exports.tables.get("pg_type")?;
        let column = |name: &str| types.column_by_name(name);
        let oids = column("oid")?.as_primitive_opt::<Int32Type>()?;
        let bytes = column("typlen")?.as_primitive_opt::<Int16Type>()?;
        let by_value = column("typbyval")?.as_boolean_opt()?;
        let align = column("typalign")?.as_string_opt::<i32>()?;
        let storage = column("typstorage")?.as_string_opt::<i32>()?;
        let collation = column("typcollation")?.as_primitive_opt::<Int32Type>()?;
        let layout = |at: usize| Layout {
            bytes: bytes.value(at),
            by_value: by_value.value(at),
            align: align.value(at).to_owned(),
            storage: storage.value(at).to_owned(),
            collation: collation.value(at),
        };
        Some((0..types.num_rows()).map(|at| (oids.value(at), layout(at))).collect())
    };
    read().unwrap_or_default()
}

const PG_DESCRIPTION: SystemRelation = SystemRelation {
    name: "pg_description",
    columns: &[("objoid", Cell::Oid), ("classoid", Cell::Oid), ("objsubid", Cell::Int4), ("description", Cell::Text)],
    rows: |objects| {
        let mut rows: Vec<Row> = Vec::new();
        for object in &objects.relations {
            if let Some(comment) = &object.comment {
                rows.push(row![object.oid, CLASS_OF_RELATIONS, 0, comment.as_str()]);
            }
            for (field, number) in object.columns.fields().iter().zip(1..) {
                if let Some(comment) = object.column_comments.get(field.name()) {
                    rows.push(row![object.oid, CLASS_OF_RELATIONS, number, comment.as_str()]);
                }
            }
        }
        let routines = objects.routines.iter();
        rows.extend(routines.map(|routine| row![routine.oid, CLASS_OF_FUNCTIONS, 0, routine.summary]));
        rows.extend(of_types(&objects.exports).unwrap_or_default());
        rows
    },
};

/// What Postgres says of its types.
fn of_types(exports: &Exports) -> Option<Vec<Row>> {
    let all = exports.tables.get("pg_description")?;
    let oids = all.column_by_name("objoid")?.as_primitive_opt::<Int32Type>()?;
    let classes = all.column_by_name("classoid")?.as_primitive_opt::<Int32Type>()?;
    let texts = all.column_by_name("description")?.as_string_opt::<i32>()?;
    let kept = (0..all.num_rows()).filter(|at| classes.value(*at) == CLASS_OF_TYPES);
    Some(kept.map(|at| row![oids.value(at), CLASS_OF_TYPES, 0, texts.value(at)]).collect())
}

const PG_DATABASE: SystemRelation = SystemRelation {
    name: "pg_database",
    columns: &[
        ("oid", Cell::Oid),
        ("datname", Cell::Name),
        ("datdba", Cell::Oid),
        ("encoding", Cell::Int4),
        ("datlocprovider", Cell::Char),
        ("datistemplate", Cell::Bool),
        ("datallowconn", Cell::Bool),
        ("datconnlimit", Cell::Int4),
        ("datfrozenxid", Cell::Int4),
        ("datminmxid", Cell::Int4),
        ("dattablespace", Cell::Oid),
        ("datcollate", Cell::Text),
        ("datctype", Cell::Text),
        ("daticulocale", Cell::Text),
        ("daticurules", Cell::Text),
        ("datcollversion", Cell::Text),
        ("datacl", Cell::Texts),
    ],
    rows: |_| {
        let nothing = Value::Null;
        vec![row![
            5,
            CATALOG,
            role_number(RoleId::FIRST),
            6,
            "c",
            false,
            true,
            -1,
            0,
            0,
            1_663,
            "C",
            "C",
            nothing.clone(),
            nothing.clone(),
            nothing.clone(),
            nothing,
        ]]
    },
};

const PG_TABLES: SystemRelation = SystemRelation {
    name: "pg_tables",
    columns: &[
        ("schemaname", Cell::Name),
        ("tablename", Cell::Name),
        ("tableowner", Cell::Name),
        ("tablespace", Cell::Text),
        ("hasindexes", Cell::Bool),
        ("hasrules", Cell::Bool),
        ("hastriggers", Cell::Bool),
        ("rowsecurity", Cell::Bool),
    ],
    rows: |objects| {
        let tables = objects.relations.iter().filter(|object| object.kind == 'r');
        let table = |object: &Object| {
            row![
                object.schema.as_str(),
                object.name.as_str(),
                objects.access.name(object.owner),
                Value::Null,
                false,
                false,
                false,
                object.row_security,
            ]
        };
        tables.map(table).collect()
    },
};

const PG_VIEWS: SystemRelation = SystemRelation {
    name: "pg_views",
    columns: &[
        ("schemaname", Cell::Name),
        ("viewname", Cell::Name),
        ("viewowner", Cell::Name),
        ("definition", Cell::Text),
    ],
    rows: |objects| {
        let views = objects.relations.iter().filter(|object| object.kind == 'v');
        let view = |object: &Object| {
            let owner = objects.access.name(object.owner);
            row![object.schema.as_str(), object.name.as_str(), owner, object.view_sql.as_deref()]
        };
        views.map(view).collect()
    },
};

/// Of what Postgres has and we have not, there is nothing to show.
fn none(_: &Objects) -> Vec<Row> {
    Vec::new()
}

const PG_MATVIEWS: SystemRelation = SystemRelation {
    name: "pg_matviews",
    columns: &[
        ("schemaname", Cell::Name),
        ("matviewname", Cell::Name),
        ("matviewowner", Cell::Text),
        ("tablespace", Cell::Text),
        ("hasindexes", Cell::Bool),
        ("ispopulated", Cell::Bool),
        ("definition", Cell::Text),
    ],
    rows: none,
};

const PG_INDEXES: SystemRelation = SystemRelation {
    name: "pg_indexes",
    columns: &[
        ("schemaname", Cell::Name),
        ("tablename", Cell::Name),
        ("indexname", Cell::Name),
        ("tablespace", Cell::Text),
        ("indexdef", Cell::Text),
    ],
    rows: none,
};

const PG_SEQUENCES: SystemRelation = SystemRelation {
    name: "pg_sequences",
    columns: &[
        ("schemaname", Cell::Name),
        ("sequencename", Cell::Name),
        ("sequenceowner", Cell::Text),
        ("data_type", Cell::Text),
        ("start_value", Cell::Int8),
        ("min_value", Cell::Int8),
        ("max_value", Cell::Int8),
        ("increment_by", Cell::Int8),
        ("cycle", Cell::Bool),
        ("cache_size", Cell::Int8),
        ("last_value", Cell::Int8),
    ],
    rows: none,
};

const PG_RULES: SystemRelation = SystemRelation {
    name: "pg_rules",
    columns: &[
        ("schemaname", Cell::Name),
        ("tablename", Cell::Name),
        ("rulename", Cell::Name),
        ("definition", Cell::Text),
    ],
    rows: none,
};

const PG_STAT_USER_TABLES: SystemRelation = SystemRelation {
    name: "pg_stat_user_tables",
    columns: &[
        ("relid", Cell::Oid),
        ("schemaname", Cell::Name),
        ("relname", Cell::Name),
        ("seq_scan", Cell::Int8),
        ("seq_tup_read", Cell::Int8),
        ("idx_scan", Cell::Int8),
        ("idx_tup_fetch", Cell::Int8),
        ("n_tup_ins", Cell::Int8),
        ("n_tup_upd", Cell::Int8),
        ("n_tup_del", Cell::Int8),
        ("n_live_tup", Cell::Int8),
        ("n_dead_tup", Cell::Int8),
        ("last_vacuum", Cell::Moment),
        ("last_autovacuum", Cell::Moment),
        ("last_analyze", Cell::Moment),
        ("last_autoanalyze", Cell::Moment),
    ],
    rows: |objects| {
        let table = |object: &Object| {
            let mut row = row![object.oid, object.schema.as_str(), object.name.as_str()];
            row.resize(10, Value::Null);
            row.extend([json!(object.rows), json!(0)]);
            row
        };
        objects.of_users().filter(|object| object.kind == 'r').map(table).collect()
    },
};

const PG_LOCKS: SystemRelation = SystemRelation {
    name: "pg_locks",
    columns: &[
        ("locktype", Cell::Text),
        ("database", Cell::Oid),
        ("relation", Cell::Oid),
        ("page", Cell::Int4),
        ("tuple", Cell::Int2),
        ("virtualxid", Cell::Text),
        ("transactionid", Cell::Int8),
        ("classid", Cell::Oid),
        ("objid", Cell::Oid),
        ("objsubid", Cell::Int2),
        ("virtualtransaction", Cell::Text),
        ("pid", Cell::Int4),
        ("mode", Cell::Text),
        ("granted", Cell::Bool),
        ("fastpath", Cell::Bool),
        ("waitstart", Cell::Moment),
    ],
    rows: none,
};

const PG_AVAILABLE_EXTENSIONS: SystemRelation = SystemRelation {
    name: "pg_available_extensions",
    columns: &[
        ("name", Cell::Text),
        ("default_version", Cell::Text),
        ("installed_version", Cell::Text),
        ("comment", Cell::Text),
    ],
    rows: none,
};

const PG_TIMEZONE_NAMES: SystemRelation = SystemRelation {
    name: "pg_timezone_names",
    columns: &[("name", Cell::Text), ("abbrev", Cell::Text), ("utc_offset", Cell::Text), ("is_dst", Cell::Bool)],
    rows: |_| vec![row!["UTC", "UTC", "00:00:00", false]],
};
