//! The schema `information_schema`: what there is, in the words of the SQL standard and with Postgres' values.

use datafusion::arrow::datatypes::Field;
use serde_json::{Value, json};

use crate::engine::catalog::CATALOG;
use crate::engine::pg_catalog::acl;
use crate::engine::pg_catalog::objects::{Object, Objects};
use crate::engine::pg_catalog::relation::{Cell, Row, SystemRelation, row};
use crate::engine::pg_catalog::types::{self, ColumnType};
use crate::engine::temporary;
use crate::storage::{Grant, RoleId};

use Cell::{Int4, Text};

/// Every relation of the schema. Of what there is none of, keys above all, the rows are none; clients ask all the same.
pub const RELATIONS: &[SystemRelation] = &[
    SCHEMATA,
    TABLES,
    VIEWS,
    COLUMNS,
    TABLE_PRIVILEGES,
    ENABLED_ROLES,
    APPLICABLE_ROLES,
    INFORMATION_SCHEMA_CATALOG_NAME,
    CHARACTER_SETS,
    TABLE_CONSTRAINTS,
    KEY_COLUMN_USAGE,
    REFERENTIAL_CONSTRAINTS,
    CONSTRAINT_COLUMN_USAGE,
    CONSTRAINT_TABLE_USAGE,
    CHECK_CONSTRAINTS,
    COLUMN_PRIVILEGES,
    DOMAINS,
    ELEMENT_TYPES,
    SEQUENCES,
    TRIGGERS,
    USER_DEFINED_TYPES,
    VIEW_TABLE_USAGE,
    VIEW_COLUMN_USAGE,
];

const SCHEMATA: SystemRelation = SystemRelation {
    name: "schemata",
    columns: &[
        ("catalog_name", Text),
        ("schema_name", Text),
        ("schema_owner", Text),
        ("default_character_set_catalog", Text),
        ("default_character_set_schema", Text),
        ("default_character_set_name", Text),
        ("sql_path", Text),
    ],
    rows: |objects| {
        let namespaces = objects.namespaces.iter();
        namespaces.map(|schema| row![CATALOG, schema.name.as_str(), objects.access.name(schema.owner)]).collect()
    },
};

const TABLES: SystemRelation = SystemRelation {
    name: "tables",
    columns: &[
        ("table_catalog", Text),
        ("table_schema", Text),
        ("table_name", Text),
        ("table_type", Text),
        ("self_referencing_column_name", Text),
        ("reference_generation", Text),
        ("user_defined_type_catalog", Text),
        ("user_defined_type_schema", Text),
        ("user_defined_type_name", Text),
        ("is_insertable_into", Text),
        ("is_typed", Text),
        ("commit_action", Text),
    ],
    rows: |objects| {
        let table = |object: &Object| {
            let (kind, insertable) = match object.kind {
                'r' if object.schema.starts_with(temporary::PREFIX) => ("LOCAL TEMPORARY", "YES"),
                'r' => ("BASE TABLE", "YES"),
                'f' => ("FOREIGN", "NO"),
                _ => ("VIEW", "NO"),
            };
            let nothing = Value::Null;
            row![
                CATALOG,
                object.schema.as_str(),
                object.name.as_str(),
                kind,
                nothing.clone(),
                nothing.clone(),
                nothing.clone(),
                nothing.clone(),
                nothing,
                insertable,
                "NO",
            ]
        };
        objects.relations.iter().map(table).collect()
    },
};

const VIEWS: SystemRelation = SystemRelation {
    name: "views",
    columns: &[
        ("table_catalog", Text),
        ("table_schema", Text),
        ("table_name", Text),
        ("view_definition", Text),
        ("check_option", Text),
        ("is_updatable", Text),
        ("is_insertable_into", Text),
        ("is_trigger_updatable", Text),
        ("is_trigger_deletable", Text),
        ("is_trigger_insertable_into", Text),
    ],
    rows: |objects| {
        let views = objects.relations.iter().filter(|object| object.kind == 'v');
        let view = |object: &Object| {
            row![
                CATALOG,
                object.schema.as_str(),
                object.name.as_str(),
                object.view_sql.as_deref(),
                "NONE",
                "NO",
                "NO",
                "NO",
                "NO",
                "NO",
            ]
        };
        views.map(view).collect()
    },
};

const COLUMNS: SystemRelation = SystemRelation {
    name: "columns",
    columns: &[
        ("table_catalog", Text),
        ("table_schema", Text),
        ("table_name", Text),
        ("column_name", Text),
        ("ordinal_position", Int4),
        ("column_default", Text),
        ("is_nullable", Text),
        ("data_type", Text),
        ("character_maximum_length", Int4),
        ("character_octet_length", Int4),
        ("numeric_precision", Int4),
        ("numeric_precision_radix", Int4),
        ("numeric_scale", Int4),
        ("datetime_precision", Int4),
        ("interval_type", Text),
        ("interval_precision", Int4),
        ("character_set_catalog", Text),
        ("character_set_schema", Text),
        ("character_set_name", Text),
        ("collation_catalog", Text),
        ("collation_schema", Text),
        ("collation_name", Text),
        ("domain_catalog", Text),
        ("domain_schema", Text),
        ("domain_name", Text),
        ("udt_catalog", Text),
        ("udt_schema", Text),
        ("udt_name", Text),
        ("scope_catalog", Text),
        ("scope_schema", Text),
        ("scope_name", Text),
        ("maximum_cardinality", Int4),
        ("dtd_identifier", Text),
        ("is_self_referencing", Text),
        ("is_identity", Text),
        ("identity_generation", Text),
        ("identity_start", Text),
        ("identity_increment", Text),
        ("identity_maximum", Text),
        ("identity_minimum", Text),
        ("identity_cycle", Text),
        ("is_generated", Text),
        ("generation_expression", Text),
        ("is_updatable", Text),
    ],
    rows: |objects| {
        let mut rows = Vec::new();
        for object in &objects.relations {
            rows.extend(
                object.columns.fields().iter().zip(1..).map(|(field, position)| column(object, field, position)),
            );
        }
        rows
    },
};

fn column(object: &Object, field: &Field, position: i32) -> Row {
    let of = types::of_column(field);
    let (digits, radix, decimals) = digits(of);
    let data_type = if of.is_array { "ARRAY" } else { of.of.sql };
    let short = if of.is_array { format!("_{}", of.of.name) } else { of.of.name.to_owned() };
    let moment = match of.of.name {
        _ if of.is_array => None,
        "date" => Some(0),
        "time" | "timestamp" | "timestamptz" | "interval" => Some(6),
        _ => None,
    };
    let octets = (!of.is_array && of.of.name == "text").then_some(1_073_741_824);
    let mut row = row![
        CATALOG,
        object.schema.as_str(),
        object.name.as_str(),
        field.name().as_str(),
        position,
        object.rules.defaults.get(field.name()).map(String::as_str),
        if field.is_nullable() { "YES" } else { "NO" },
        data_type,
        Value::Null,
        octets,
        digits,
        radix,
        decimals,
        moment,
    ];
    row.resize(25, Value::Null);
    row.extend(row![CATALOG, "pg_catalog", short]);
    row.resize(32, Value::Null);
    row.extend(row![position.to_string(), "NO", "NO"]);
    row.resize(40, Value::Null);
    let updatable = if object.kind == 'r' { "YES" } else { "NO" };
    row.extend([json!("NO"), json!("NEVER"), Value::Null, json!(updatable)]);
    row
}

/// How many digits a number has, of what base, and how many of them are decimals.
fn digits(of: ColumnType) -> (Option<i32>, Option<i32>, Option<i32>) {
    let binary = |bits, decimals| (Some(bits), Some(2), decimals);
    match of.of.name {
        _ if of.is_array => (None, None, None),
        "int2" => binary(16, Some(0)),
        "int4" => binary(32, Some(0)),
        "int8" => binary(64, Some(0)),
        "float4" => binary(24, None),
        "float8" => binary(53, None),
        "numeric" => match of.digits() {
            Some((digits, decimals)) => (Some(digits), Some(10), Some(decimals)),
            None => (None, Some(10), None),
        },
        _ => (None, None, None),
    }
}

const TABLE_PRIVILEGES: SystemRelation = SystemRelation {
    name: "table_privileges",
    columns: &[
        ("grantor", Text),
        ("grantee", Text),
        ("table_catalog", Text),
        ("table_schema", Text),
        ("table_name", Text),
        ("privilege_type", Text),
        ("is_grantable", Text),
        ("with_hierarchy", Text),
    ],
    rows: |objects| {
        let privileges = |object: &Object| {
            let kinds: &[&str] = if object.kind == 'r' { &["INSERT", "SELECT"] } else { &["SELECT"] };
            let owner = objects.access.name(object.owner);
            let privilege = |grantee: &str, kind: &str, grantable: bool| {
                let grantable = if grantable { "YES" } else { "NO" };
                let (schema, name) = (object.schema.as_str(), object.name.as_str());
                row![owner, grantee, CATALOG, schema, name, kind, grantable, "NO"]
            };
            let of_owner = kinds.iter().map(|kind| privilege(owner, kind, true));
            let granted = acl::on_relation(objects, object).filter(|grant| grant.column.is_none());
            let granted =
                granted.map(|grant| privilege(grantee(objects, grant), grant.privilege.name(), grant.grantable));
            of_owner.chain(granted).collect::<Vec<_>>()
        };
        objects.relations.iter().flat_map(privileges).collect()
    },
};

fn grantee<'a>(objects: &'a Objects, grant: &Grant) -> &'a str {
    if grant.grantee == RoleId::PUBLIC { "PUBLIC" } else { objects.access.name(grant.grantee) }
}

const ENABLED_ROLES: SystemRelation = SystemRelation {
    name: "enabled_roles",
    columns: &[("role_name", Text)],
    rows: |objects| objects.access.roles().map(|role| row![role.name.as_str()]).collect(),
};

const APPLICABLE_ROLES: SystemRelation = SystemRelation {
    name: "applicable_roles",
    columns: &[("grantee", Text), ("role_name", Text), ("is_grantable", Text)],
    rows: |objects| {
        let access = &objects.access;
        let memberships = access.memberships().iter();
        memberships
            .map(|of| row![access.name(of.member), access.name(of.role), if of.admin { "YES" } else { "NO" }])
            .collect()
    },
};

const INFORMATION_SCHEMA_CATALOG_NAME: SystemRelation = SystemRelation {
    name: "information_schema_catalog_name",
    columns: &[("catalog_name", Text)],
    rows: |_| vec![row![CATALOG]],
};

const CHARACTER_SETS: SystemRelation = SystemRelation {
    name: "character_sets",
    columns: &[
        ("character_set_catalog", Text),
        ("character_set_schema", Text),
        ("character_set_name", Text),
        ("character_repertoire", Text),
        ("form_of_use", Text),
        ("default_collate_catalog", Text),
        ("default_collate_schema", Text),
        ("default_collate_name", Text),
    ],
    rows: |_| vec![row![Value::Null, Value::Null, "UTF8", "UCS", "UTF8", CATALOG, "pg_catalog", "C"]],
};

fn none(_: &Objects) -> Vec<Row> {
    Vec::new()
}

/// A relation without rows.
const fn empty(name: &'static str, columns: &'static [(&'static str, Cell)]) -> SystemRelation {
    SystemRelation { name, columns, rows: none }
}

const TABLE_CONSTRAINTS: SystemRelation = SystemRelation {
    name: "table_constraints",
    columns: &[
        ("constraint_catalog", Text),
        ("constraint_schema", Text),
        ("constraint_name", Text),
        ("table_catalog", Text),
        ("table_schema", Text),
        ("table_name", Text),
        ("constraint_type", Text),
        ("is_deferrable", Text),
        ("initially_deferred", Text),
        ("enforced", Text),
        ("nulls_distinct", Text),
    ],
    rows: |objects| {
        let of_table = |object: &Object| {
            let (schema, table) = (object.schema.as_str(), object.name.as_str());
            let row = |(_, name, _)| {
                row![CATALOG, schema, name, CATALOG, schema, table, "CHECK", "NO", "NO", "YES", Value::Null]
            };
            object.checks().map(row).collect::<Vec<_>>()
        };
        objects.of_users().flat_map(of_table).collect()
    },
};

const KEY_COLUMN_USAGE: SystemRelation = empty(
    "key_column_usage",
    &[
        ("constraint_catalog", Text),
        ("constraint_schema", Text),
        ("constraint_name", Text),
        ("table_catalog", Text),
        ("table_schema", Text),
        ("table_name", Text),
        ("column_name", Text),
        ("ordinal_position", Int4),
        ("position_in_unique_constraint", Int4),
    ],
);

const REFERENTIAL_CONSTRAINTS: SystemRelation = empty(
    "referential_constraints",
    &[
        ("constraint_catalog", Text),
        ("constraint_schema", Text),
        ("constraint_name", Text),
        ("unique_constraint_catalog", Text),
        ("unique_constraint_schema", Text),
        ("unique_constraint_name", Text),
        ("match_option", Text),
        ("update_rule", Text),
        ("delete_rule", Text),
    ],
);

const CONSTRAINT_COLUMN_USAGE: SystemRelation = empty(
    "constraint_column_usage",
    &[
        ("table_catalog", Text),
        ("table_schema", Text),
        ("table_name", Text),
        ("column_name", Text),
        ("constraint_catalog", Text),
        ("constraint_schema", Text),
        ("constraint_name", Text),
    ],
);

const CONSTRAINT_TABLE_USAGE: SystemRelation = empty(
    "constraint_table_usage",
    &[
        ("table_catalog", Text),
        ("table_schema", Text),
        ("table_name", Text),
        ("constraint_catalog", Text),
        ("constraint_schema", Text),
        ("constraint_name", Text),
    ],
);

const CHECK_CONSTRAINTS: SystemRelation = SystemRelation {
    name: "check_constraints",
    columns: &[
        ("constraint_catalog", Text),
        ("constraint_schema", Text),
        ("constraint_name", Text),
        ("check_clause", Text),
    ],
    rows: |objects| {
        let of_table = |object: &Object| {
            let row = |(_, name, check)| row![CATALOG, object.schema.as_str(), name, check];
            object.checks().map(row).collect::<Vec<_>>()
        };
        objects.of_users().flat_map(of_table).collect()
    },
};

const COLUMN_PRIVILEGES: SystemRelation = SystemRelation {
    name: "column_privileges",
    columns: &[
        ("grantor", Text),
        ("grantee", Text),
        ("table_catalog", Text),
        ("table_schema", Text),
        ("table_name", Text),
        ("column_name", Text),
        ("privilege_type", Text),
        ("is_grantable", Text),
    ],
    rows: |objects| {
        let of_columns = |object: &Object| {
            let granted = acl::on_relation(objects, object);
            let row = |grant: &Grant| {
                let column = grant.column.as_deref()?;
                let grantable = if grant.grantable { "YES" } else { "NO" };
                let (owner, schema) = (objects.access.name(object.owner), object.schema.as_str());
                let (to, kind) = (grantee(objects, grant), grant.privilege.name());
                Some(row![owner, to, CATALOG, schema, object.name.as_str(), column, kind, grantable])
            };
            granted.filter_map(row).collect::<Vec<_>>()
        };
        objects.relations.iter().flat_map(of_columns).collect()
    },
};

const DOMAINS: SystemRelation = empty(
    "domains",
    &[
        ("domain_catalog", Text),
        ("domain_schema", Text),
        ("domain_name", Text),
        ("data_type", Text),
        ("domain_default", Text),
        ("udt_catalog", Text),
        ("udt_schema", Text),
        ("udt_name", Text),
    ],
);

const ELEMENT_TYPES: SystemRelation = SystemRelation {
    name: "element_types",
    columns: &[
        ("object_catalog", Text),
        ("object_schema", Text),
        ("object_name", Text),
        ("object_type", Text),
        ("collection_type_identifier", Text),
        ("data_type", Text),
        ("udt_catalog", Text),
        ("udt_schema", Text),
        ("udt_name", Text),
    ],
    rows: |objects| {
        let mut rows = Vec::new();
        for object in &objects.relations {
            for (field, position) in object.columns.fields().iter().zip(1..) {
                let of = types::of_column(field);
                if of.is_array {
                    rows.push(row![
                        CATALOG,
                        object.schema.as_str(),
                        object.name.as_str(),
                        "TABLE",
                        i32::to_string(&position),
                        of.of.sql,
                        CATALOG,
                        "pg_catalog",
                        of.of.name,
                    ]);
                }
            }
        }
        rows
    },
};

const SEQUENCES: SystemRelation = empty(
    "sequences",
    &[
        ("sequence_catalog", Text),
        ("sequence_schema", Text),
        ("sequence_name", Text),
        ("data_type", Text),
        ("numeric_precision", Int4),
        ("numeric_precision_radix", Int4),
        ("numeric_scale", Int4),
        ("start_value", Text),
        ("minimum_value", Text),
        ("maximum_value", Text),
        ("increment", Text),
        ("cycle_option", Text),
    ],
);

const TRIGGERS: SystemRelation = empty(
    "triggers",
    &[
        ("trigger_catalog", Text),
        ("trigger_schema", Text),
        ("trigger_name", Text),
        ("event_manipulation", Text),
        ("event_object_catalog", Text),
        ("event_object_schema", Text),
        ("event_object_table", Text),
        ("action_statement", Text),
        ("action_timing", Text),
    ],
);

const USER_DEFINED_TYPES: SystemRelation = empty(
    "user_defined_types",
    &[
        ("user_defined_type_catalog", Text),
        ("user_defined_type_schema", Text),
        ("user_defined_type_name", Text),
        ("user_defined_type_category", Text),
    ],
);

const VIEW_TABLE_USAGE: SystemRelation = empty(
    "view_table_usage",
    &[
        ("view_catalog", Text),
        ("view_schema", Text),
        ("view_name", Text),
        ("table_catalog", Text),
        ("table_schema", Text),
        ("table_name", Text),
    ],
);

const VIEW_COLUMN_USAGE: SystemRelation = empty(
    "view_column_usage",
    &[
        ("view_catalog", Text),
        ("view_schema", Text),
        ("view_name", Text),
        ("table_catalog", Text),
        ("table_schema", Text),
        ("table_name", Text),
        ("column_name", Text),
    ],
);
