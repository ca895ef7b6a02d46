//! Who may do what: roles and their memberships, what was granted to whom, and the policies of rows.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use rusqlite::Connection;

use crate::error::{Error, Kind, Result};

/// A role's number: never reused, and the same through every change of name. Clients see it as its OID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoleId(pub(super) i64);

impl RoleId {
    /// Everybody, where something is granted to them.
    pub const PUBLIC: RoleId = RoleId(0);
    /// The superuser that every data directory begins with, by the name of [`Role::FIRST`].
    pub const FIRST: RoleId = RoleId(10);

    pub fn oid(self) -> i64 {
        self.0
    }
}

/// A user or a group.
#[derive(Debug, Clone)]
pub struct Role {
    pub id: RoleId,
    pub name: String,
    pub superuser: bool,
    pub login: bool,
    pub create_role: bool,
    /// It may do what the roles may that it is a member of, without SET ROLE.
    pub inherit: bool,
    pub bypass_rls: bool,
    pub connection_limit: Option<u32>,
    /// How many statements of all its sessions run at once.
    pub statement_limit: Option<u32>,
    /// Bytes that all its sessions may hold.
    pub memory_limit: Option<u64>,
    pub verifier: Option<Verifier>,
    /// When its password ends: microseconds since 1970, UTC.
    pub valid_until: Option<i64>,
}

impl Role {
    pub const FIRST: &str = "cohort";
}

/// What a password is checked against, `SCRAM-SHA-256$4096:salt$StoredKey:ServerKey`. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier(pub String);

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A role that is in another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Membership {
    pub role: RoleId,
    pub member: RoleId,
    /// The member may let others in.
    pub admin: bool,
}

/// What rights are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Object {
    Database,
    Schema(i64),
    Relation(i64),
    Model(i64),
}

impl Object {
    /// How it is kept: its kind and its number.
    pub(super) fn stored(self) -> (&'static str, i64) {
        match self {
            Object::Database => ("database", 0),
            Object::Schema(id) => ("schema", id),
            Object::Relation(id) => ("relation", id),
            Object::Model(id) => ("model", id),
        }
    }

    fn read(kind: &str, id: i64) -> Result<Self> {
        match kind {
            "database" => Ok(Object::Database),
            "schema" => Ok(Object::Schema(id)),
            "relation" => Ok(Object::Relation(id)),
            "model" => Ok(Object::Model(id)),
            other => Err(Error::corrupt(format!("the catalog grants something on a {other}"))),
        }
    }
}

/// One thing that a role may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Privilege {
    Select,
    Insert,
    Update,
    Delete,
    Truncate,
    Usage,
    Create,
    Connect,
    Temporary,
}

impl Privilege {
    pub const ON_RELATIONS: &[Privilege] = &[Self::Select, Self::Insert, Self::Update, Self::Delete, Self::Truncate];
    pub const ON_COLUMNS: &[Privilege] = &[Self::Select, Self::Insert, Self::Update];
    pub const ON_SCHEMAS: &[Privilege] = &[Self::Usage, Self::Create];
    pub const ON_MODELS: &[Privilege] = &[Self::Usage];
    pub const ON_DATABASE: &[Privilege] = &[Self::Create, Self::Connect, Self::Temporary];

    pub fn parse(name: &str) -> Option<Self> {
        Some(match name.to_uppercase().as_str() {
            "SELECT" => Self::Select,
            "INSERT" => Self::Insert,
            "UPDATE" => Self::Update,
            "DELETE" => Self::Delete,
            "TRUNCATE" => Self::Truncate,
            "USAGE" => Self::Usage,
            "CREATE" => Self::Create,
            "CONNECT" => Self::Connect,
            "TEMPORARY" | "TEMP" => Self::Temporary,
            _ => return None,
        })
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Select => "SELECT",
            Self::Insert => "INSERT",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Truncate => "TRUNCATE",
            Self::Usage => "USAGE",
            Self::Create => "CREATE",
            Self::Connect => "CONNECT",
            Self::Temporary => "TEMPORARY",
        }
    }
}

/// A privilege on an object, or on one column of it, in the hands of a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    pub object: Object,
    /// `None`: the whole object.
    pub column: Option<String>,
    pub grantee: RoleId,
    pub privilege: Privilege,
    /// The grantee may grant it to others.
    pub grantable: bool,
}

/// What is granted on what a role is yet to make.
#[derive(Debug, Clone)]
pub struct DefaultGrant {
    pub owner: RoleId,
    /// `None`: in any.
    pub schema: Option<i64>,
    pub on: DefaultOn,
    pub grantee: RoleId,
    pub privilege: Privilege,
    pub grantable: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DefaultOn {
    Relations,
    Models,
}

/// Which rows of a table the others see and write.
#[derive(Debug, Clone)]
pub struct Policy {
    pub name: String,
    pub command: PolicyCommand,
    /// Rows must satisfy all restrictive policies, and one of the others.
    pub restrictive: bool,
    /// Whom it is for; [`RoleId::PUBLIC`]: everybody.
    pub roles: Vec<RoleId>,
    /// A condition on rows that are there, as SQL.
    pub using: Option<String>,
    /// A condition on rows as they are written.
    pub check: Option<String>,
}

/// What a policy is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyCommand {
    All,
    Select,
    Insert,
    Update,
    Delete,
}

impl PolicyCommand {
    const EACH: [(Self, &str); 5] = [
        (Self::All, "ALL"),
        (Self::Select, "SELECT"),
        (Self::Insert, "INSERT"),
        (Self::Update, "UPDATE"),
        (Self::Delete, "DELETE"),
    ];

    pub fn parse(word: &str) -> Option<Self> {
        Self::EACH.iter().find(|(_, known)| known.eq_ignore_ascii_case(word)).map(|(command, _)| *command)
    }

    pub fn word(self) -> &'static str {
        Self::EACH.iter().find(|(command, _)| *command == self).map_or("", |(_, word)| word)
    }
}

/// All of it, as one commit left it.
#[derive(Debug, Default)]
pub struct Access {
    roles: BTreeMap<RoleId, Role>,
    memberships: Vec<Membership>,
    grants: HashMap<Object, Vec<Grant>>,
    policies: HashMap<i64, Vec<Policy>>,
    /// Makes up the salt of users that do not exist, the same at every try.
    pub mock_key: Vec<u8>,
}

impl Access {
    pub fn roles(&self) -> impl Iterator<Item = &Role> {
        self.roles.values()
    }

    pub fn role(&self, id: RoleId) -> Option<&Role> {
        self.roles.get(&id)
    }

    pub fn find(&self, name: &str) -> Option<&Role> {
        self.roles.values().find(|role| role.name == name)
    }

    pub fn must_find(&self, name: &str) -> Result<&Role> {
        self.find(name).ok_or_else(|| {
            Error::new(Kind::UnknownRole, format!("role \"{name}\" does not exist"))
                .suggest(name, self.roles.values().map(|role| role.name.as_str()))
        })
    }

    /// The name of a role, for messages and lists.
    pub fn name(&self, id: RoleId) -> &str {
        match self.roles.get(&id) {
            Some(role) => &role.name,
            None if id == RoleId::PUBLIC => "public",
            None => "unknown",
        }
    }

    pub fn memberships(&self) -> &[Membership] {
        &self.memberships
    }

    /// The role and all those that it is a member of, through others too.
    pub fn memberships_of(&self, member: RoleId) -> HashSet<RoleId> {
        self.upwards(member, |_| true)
    }

    /// The role and all those whose rights it has without SET ROLE.
    pub fn inherited_by(&self, member: RoleId) -> HashSet<RoleId> {
        self.upwards(member, |role| self.role(role).is_some_and(|role| role.inherit))
    }

    fn upwards(&self, from: RoleId, passes: impl Fn(RoleId) -> bool) -> HashSet<RoleId> {
        let mut found = HashSet::from([from]);
        let mut todo = vec![from];
        while let Some(member) = todo.pop() {
            if passes(member) {
                let above = self.memberships.iter().filter(|membership| membership.member == member);
                todo.extend(above.map(|membership| membership.role).filter(|role| found.insert(*role)));
            }
        }
        found
    }

    /// What was granted on an object; its owner needs none of it.
    pub fn grants(&self, object: Object) -> &[Grant] {
        self.grants.get(&object).map(Vec::as_slice).unwrap_or_default()
    }

    /// The policies of a relation, by its number.
    pub fn policies(&self, relation: i64) -> &[Policy] {
        self.policies.get(&relation).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether whoever says that they are a superuser is asked to prove it.
    pub fn is_locked(&self) -> bool {
        self.roles().any(|role| role.superuser && role.login && role.verifier.is_some())
    }

    pub(super) fn read(db: &Connection) -> Result<Self> {
        let mut access =
            Self { mock_key: db.query_row("SELECT mock_key FROM login", [], |row| row.get(0))?, ..Self::default() };
        let mut query = db.prepare(
            "SELECT id, name, superuser, login, create_role, inherit, bypass_rls, connection_limit, verifier, valid_until,
                    statement_limit, memory_limit
             FROM roles",
        )?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let role = Role {
                id: RoleId(row.get(0)?),
                name: row.get(1)?,
                superuser: row.get(2)?,
                login: row.get(3)?,
                create_role: row.get(4)?,
                inherit: row.get(5)?,
                bypass_rls: row.get(6)?,
                connection_limit: row.get(7)?,
                verifier: row.get::<_, Option<String>>(8)?.map(Verifier),
                valid_until: row.get(9)?,
                statement_limit: row.get(10)?,
                memory_limit: row.get::<_, Option<i64>>(11)?.map(i64::cast_unsigned),
            };
            access.roles.insert(role.id, role);
        }
        let mut query = db.prepare("SELECT role_id, member_id, admin FROM memberships ORDER BY 1, 2")?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let (role, member) = (RoleId(row.get(0)?), RoleId(row.get(1)?));
            access.memberships.push(Membership { role, member, admin: row.get(2)? });
        }
        let mut query = db.prepare(
            "SELECT object_kind, object_id, column_name, grantee, privilege, grantable FROM grants ORDER BY 1, 2, 4, 5, 3",
        )?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let object = Object::read(&row.get::<_, String>(0)?, row.get(1)?)?;
            let privilege: String = row.get(4)?;
            let grant = Grant {
                object,
                column: Some(row.get::<_, String>(2)?).filter(|column| !column.is_empty()),
                grantee: RoleId(row.get(3)?),
                privilege: Privilege::parse(&privilege)
                    .ok_or_else(|| Error::corrupt(format!("the catalog grants {privilege}")))?,
                grantable: row.get(5)?,
            };
            access.grants.entry(object).or_default().push(grant);
        }
        let mut query = db.prepare(
            "SELECT relation_id, name, restrictive, roles, using_sql, check_sql, command FROM policies ORDER BY 1, 2",
        )?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let roles: Vec<i64> = serde_json::from_str(&row.get::<_, String>(3)?)?;
            let command: String = row.get(6)?;
            let policy = Policy {
                name: row.get(1)?,
                command: PolicyCommand::parse(&command)
                    .ok_or_else(|| Error::corrupt(format!("the catalog has a policy for {command}")))?,
                restrictive: row.get(2)?,
                roles: roles.into_iter().map(RoleId).collect(),
                using: row.get(4)?,
                check: row.get(5)?,
            };
            access.policies.entry(row.get(0)?).or_default().push(policy);
        }
        Ok(access)
    }
}
