//! The relations of `pg_catalog` about rows that are elsewhere: in files, and on foreign servers.

use serde_json::Value;

use crate::engine::pg_catalog::objects::{FIRST_NUMBER, Object, role_number};
use crate::engine::pg_catalog::relation::{Cell, SystemRelation, row};
use crate::foreign::WRAPPERS;
use crate::storage::{External, ForeignServer, KeptOptions, RoleId, UserMapping};

/// The numbers of the wrapper of files and of the one server that all files are behind; of the first of the others.
const FILES_WRAPPER: i32 = 13_900;
const FILES_SERVER: i32 = 13_901;
const FIRST_WRAPPER: i32 = 13_902;

/// The number of a server for clients: those of objects of other kinds may be the same.
fn server_number(id: i64) -> i32 {
    i32::try_from(FIRST_NUMBER + id).unwrap_or(i32::MAX)
}

/// The kinds of databases, by number and name.
fn wrappers() -> impl Iterator<Item = (i32, &'static str)> {
    (FIRST_WRAPPER..).zip(WRAPPERS.iter().filter_map(|kind| kind.names().first().copied()))
}

/// `name=value`, of what anybody may see.
fn shown(options: &KeptOptions) -> Value {
    let options: Vec<String> = options.shown.iter().map(|(name, value)| format!("{name}={value}")).collect();
    if options.is_empty() { Value::Null } else { options.into() }
}

pub const PG_FOREIGN_DATA_WRAPPER: SystemRelation = SystemRelation {
    name: "pg_foreign_data_wrapper",
    columns: &[
        ("oid", Cell::Oid),
        ("fdwname", Cell::Name),
        ("fdwowner", Cell::Oid),
        ("fdwhandler", Cell::Oid),
        ("fdwvalidator", Cell::Oid),
        ("fdwacl", Cell::Texts),
        ("fdwoptions", Cell::Texts),
    ],
    rows: |_| {
        let owner = role_number(RoleId::FIRST);
        let wrapper = |oid: i32, name: &str| row![oid, name, owner, 0, 0, Value::Null, Value::Null];
        let others = wrappers().map(|(number, name)| wrapper(number, name));
        [wrapper(FILES_WRAPPER, External::FILES)].into_iter().chain(others).collect()
    },
};

pub const PG_FOREIGN_SERVER: SystemRelation = SystemRelation {
    name: "pg_foreign_server",
    columns: &[
        ("oid", Cell::Oid),
        ("srvname", Cell::Name),
        ("srvowner", Cell::Oid),
        ("srvfdw", Cell::Oid),
        ("srvtype", Cell::Text),
        ("srvversion", Cell::Text),
        ("srvacl", Cell::Texts),
        ("srvoptions", Cell::Texts),
    ],
    rows: |objects| {
        let owner = role_number(RoleId::FIRST);
        let server = |oid: i32, name: &str, wrapper: i32, options: Value| {
            row![oid, name, owner, wrapper, Value::Null, Value::Null, Value::Null, options]
        };
        let files = server(FILES_SERVER, External::FILES, FILES_WRAPPER, Value::Null);
        // A server of a kind that this program was built without has no wrapper.
        let of = |name: &str| wrappers().find(|(_, known)| *known == name).map_or(0, |(number, _)| number);
        let other = |found: &ForeignServer| {
            server(server_number(found.id), &found.name, of(&found.wrapper), shown(&found.options))
        };
        let others = objects.servers.all().map(other);
        [files].into_iter().chain(others).collect()
    },
};

pub const PG_FOREIGN_TABLE: SystemRelation = SystemRelation {
    name: "pg_foreign_table",
    columns: &[("ftrelid", Cell::Oid), ("ftserver", Cell::Oid), ("ftoptions", Cell::Texts)],
    rows: |objects| {
        let table = |object: &Object| {
            let external = object.external.as_ref()?;
            let options = |shown: Vec<(&str, &str)>| {
                shown.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>()
            };
            Some(match &external.foreign {
                Some(foreign) => {
                    let named = external.options.iter().map(|(name, value)| (name.as_str(), value.as_str()));
                    row![object.oid, server_number(foreign.server), options(named.collect())]
                }
                None => row![object.oid, FILES_SERVER, options(external.shown().collect())],
            })
        };
        objects.relations.iter().filter_map(table).collect()
    },
};

pub const PG_USER_MAPPING: SystemRelation = SystemRelation {
    name: "pg_user_mapping",
    columns: &[("oid", Cell::Oid), ("umuser", Cell::Oid), ("umserver", Cell::Oid), ("umoptions", Cell::Texts)],
    rows: |objects| {
        let mappings = objects.servers.all().flat_map(|server| objects.servers.mappings(server.id));
        let mapping = |(at, mapping): (usize, &UserMapping)| {
            let user = if mapping.role == RoleId::PUBLIC { 0 } else { role_number(mapping.role) };
            row![
                MAPPINGS + i64::try_from(at).unwrap_or_default(),
                user,
                server_number(mapping.server),
                shown(&mapping.options)
            ]
        };
        mappings.enumerate().map(mapping).collect()
    },
};

/// Mappings have no number of their own.
const MAPPINGS: i64 = 14_000;

pub const PG_USER_MAPPINGS: SystemRelation = SystemRelation {
    name: "pg_user_mappings",
    columns: &[
        ("umid", Cell::Oid),
        ("srvid", Cell::Oid),
        ("srvname", Cell::Name),
        ("umuser", Cell::Oid),
        ("usename", Cell::Name),
        ("umoptions", Cell::Texts),
    ],
    rows: |objects| {
        let mut rows = Vec::new();
        for server in objects.servers.all() {
            for mapping in objects.servers.mappings(server.id) {
                let (user, name) = match mapping.role {
                    RoleId::PUBLIC => (0, "public"),
                    role => (role_number(role), objects.access.name(role)),
                };
                let oid = MAPPINGS + i64::try_from(rows.len()).unwrap_or_default();
                let number = server_number(server.id);
                rows.push(row![oid, number, server.name.as_str(), user, name, shown(&mapping.options)]);
            }
        }
        rows
    },
};
