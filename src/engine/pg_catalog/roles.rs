//! Roles, memberships and policies as the tables of `pg_catalog` show them. Never a password, nor what it is kept as.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, BooleanArray, Int32Array, ListBuilder, StringArray, StringBuilder, TimestampMicrosecondArray,
};
use datafusion::arrow::datatypes::{Field, Schema};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;

use crate::engine::activity::{Activity, ActivityTable};
use crate::engine::pg_catalog::objects::{Object, role_number};
use crate::engine::pg_catalog::relation::{Cell, SystemRelation, row};
use crate::error::Result;
use crate::storage::{Access, Policy, PolicyCommand, Role, RoleId, Store};

/// A table: its name, and its columns as they are now.
type Table = (&'static str, fn(&Store) -> Result<Vec<(&'static str, ArrayRef)>>);

const TABLES: [Table; 6] = [
    ("pg_authid", roles),
    ("pg_roles", roles),
    ("pg_shadow", users),
    ("pg_user", users),
    ("pg_auth_members", memberships),
    ("pg_policies", policies),
];

const ACTIVITY: &str = "pg_stat_activity";

/// Where these tables come from.
pub struct Roles {
    pub store: Arc<Store>,
    pub activity: Arc<Activity>,
}

impl Roles {
    pub fn names() -> impl Iterator<Item = &'static str> {
        TABLES.iter().map(|(name, _)| *name).chain([ACTIVITY])
    }

    pub fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if name == ACTIVITY {
            let (activity, store) = (Arc::clone(&self.activity), Arc::clone(&self.store));
            return Ok(Some(Arc::new(ActivityTable { activity, store })));
        }
        match TABLES.iter().find(|(table, _)| *table == name) {
            Some((_, columns)) => Ok(Some(Arc::new(table(columns(&self.store)?)?))),
            None => Ok(None),
        }
    }
}

/// The field of a column; the wire is told which numbers are OIDs.
pub fn field((name, column): &(&'static str, ArrayRef)) -> Field {
    let field = Field::new(*name, column.data_type().clone(), true);
    match ["oid", "datid", "usesysid", "roleid", "member", "grantor"].contains(name) {
        true => field.with_metadata(HashMap::from([("pg.oid_alias".to_owned(), "oid".to_owned())])),
        false => field,
    }
}

fn table(columns: Vec<(&'static str, ArrayRef)>) -> Result<MemTable> {
    let schema = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
    let rows = RecordBatch::try_new(Arc::clone(&schema), columns.into_iter().map(|(_, column)| column).collect())?;
    Ok(MemTable::try_new(schema, vec![vec![rows]])?)
}

fn roles(store: &Store) -> Result<Vec<(&'static str, ArrayRef)>> {
    let access = store.access();
    let roles: Vec<&Role> = access.roles().collect();
    let flag = |of: fn(&Role) -> bool| flags(roles.iter().map(|role| of(role)));
    let limit = |role: &&Role| role.connection_limit.map_or(-1, |limit| i32::try_from(limit).unwrap_or(i32::MAX));
    Ok(vec![
        ("oid", oids(roles.iter().map(|role| role.id))),
        ("rolname", texts(roles.iter().map(|role| role.name.as_str()))),
        ("rolsuper", flag(|role| role.superuser)),
        ("rolinherit", flag(|role| role.inherit)),
        ("rolcreaterole", flag(|role| role.create_role || role.superuser)),
        ("rolcreatedb", flag(|_| false)),
        ("rolcanlogin", flag(|role| role.login)),
        ("rolreplication", flag(|_| false)),
        ("rolconnlimit", Arc::new(roles.iter().map(limit).collect::<Int32Array>())),
        ("rolpassword", texts(roles.iter().map(|_| "********"))),
        ("rolvaliduntil", moments(roles.iter().map(|role| role.valid_until))),
        ("rolbypassrls", flag(|role| role.bypass_rls)),
        ("rolconfig", lists(roles.iter().map(|_| None))),
    ])
}

/// Those that may log in, as an older table shows them.
fn users(store: &Store) -> Result<Vec<(&'static str, ArrayRef)>> {
    let access = store.access();
    let users: Vec<&Role> = access.roles().filter(|role| role.login).collect();
    let flag = |of: fn(&Role) -> bool| flags(users.iter().map(|role| of(role)));
    Ok(vec![
        ("usename", texts(users.iter().map(|role| role.name.as_str()))),
        ("usesysid", oids(users.iter().map(|role| role.id))),
        ("usecreatedb", flag(|_| false)),
        ("usesuper", flag(|role| role.superuser)),
        ("userepl", flag(|_| false)),
        ("usebypassrls", flag(|role| role.bypass_rls)),
        ("passwd", texts(users.iter().map(|_| "********"))),
        ("valuntil", moments(users.iter().map(|role| role.valid_until))),
        ("useconfig", lists(users.iter().map(|_| None))),
    ])
}

fn memberships(store: &Store) -> Result<Vec<(&'static str, ArrayRef)>> {
    let access = store.access();
    let all = access.memberships();
    let inherits = |member: RoleId| access.role(member).is_some_and(|role| role.inherit);
    Ok(vec![
        ("roleid", oids(all.iter().map(|membership| membership.role))),
        ("member", oids(all.iter().map(|membership| membership.member))),
        ("grantor", oids(all.iter().map(|_| RoleId::FIRST))),
        ("admin_option", flags(all.iter().map(|membership| membership.admin))),
        ("inherit_option", flags(all.iter().map(|membership| inherits(membership.member)))),
        ("set_option", flags(all.iter().map(|_| true))),
    ])
}

fn policies(store: &Store) -> Result<Vec<(&'static str, ArrayRef)>> {
    let access = store.access();
    let mut all = Vec::new();
    for schema in store.schemas()? {
        for relation in store.relations(&schema)? {
            all.extend(
                access.policies(relation.id).iter().map(|policy| (schema.clone(), relation.name.clone(), policy)),
            );
        }
    }
    let names = |access: &Access, roles: &[RoleId]| roles.iter().map(|role| access.name(*role).to_owned()).collect();
    let kinds = all.iter().map(|(_, _, policy)| if policy.restrictive { "RESTRICTIVE" } else { "PERMISSIVE" });
    Ok(vec![
        ("schemaname", texts(all.iter().map(|(schema, _, _)| schema.as_str()))),
        ("tablename", texts(all.iter().map(|(_, table, _)| table.as_str()))),
        ("policyname", texts(all.iter().map(|(_, _, policy)| policy.name.as_str()))),
        ("permissive", texts(kinds)),
        ("roles", lists(all.iter().map(|(_, _, policy)| Some(names(&access, &policy.roles))))),
        ("cmd", texts(all.iter().map(|(_, _, policy)| policy.command.word()))),
        ("qual", maybe(all.iter().map(|(_, _, policy)| policy.using.as_deref()))),
        ("with_check", maybe(all.iter().map(|(_, _, policy)| policy.check.as_deref()))),
    ])
}

pub const PG_POLICY: SystemRelation = SystemRelation {
    name: "pg_policy",
    columns: &[
        ("oid", Cell::Oid),
        ("polname", Cell::Name),
        ("polrelid", Cell::Oid),
        ("polcmd", Cell::Char),
        ("polpermissive", Cell::Bool),
        ("polroles", Cell::Oids),
        ("polqual", Cell::Text),
        ("polwithcheck", Cell::Text),
    ],
    rows: |objects| {
        let of = |object: &Object| {
            let policies = object.id.map_or(&[][..], |id| objects.access.policies(id));
            let row = |policy: &Policy| {
                let letter = match policy.command {
                    PolicyCommand::All => "*",
                    PolicyCommand::Select => "r",
                    PolicyCommand::Insert => "a",
                    PolicyCommand::Update => "w",
                    PolicyCommand::Delete => "d",
                };
                let name = policy.name.as_str();
                let roles: Vec<i32> = policy.roles.iter().map(|role| role_number(*role)).collect();
                let (using, check) = (policy.using.as_deref(), policy.check.as_deref());
                row![object.number_of(name), name, object.oid, letter, !policy.restrictive, roles, using, check]
            };
            policies.iter().map(row).collect::<Vec<_>>()
        };
        objects.relations.iter().flat_map(of).collect()
    },
};

fn oids(roles: impl Iterator<Item = RoleId>) -> ArrayRef {
    Arc::new(roles.map(role_number).collect::<Int32Array>())
}

fn texts<'a>(values: impl Iterator<Item = &'a str>) -> ArrayRef {
    maybe(values.map(Some))
}

fn maybe<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

fn flags(values: impl Iterator<Item = bool>) -> ArrayRef {
    Arc::new(values.map(Some).collect::<BooleanArray>())
}

fn moments(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(values.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
}

fn lists(values: impl Iterator<Item = Option<Vec<String>>>) -> ArrayRef {
    let mut lists = ListBuilder::new(StringBuilder::new());
    for value in values {
        let is_list = value.is_some();
        value.into_iter().flatten().for_each(|text| lists.values().append_value(text));
        lists.append(is_list);
    }
    Arc::new(lists.finish())
}
