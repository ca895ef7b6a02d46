//! Commits that change who may do what.

use std::sync::Arc;

use rusqlite::{Connection, params};

use super::access::{Access, DefaultGrant, DefaultOn, Grant, Membership, Object, Policy, Role, RoleId, Verifier};
use super::catalog::{Reserved, conflict};
use super::state::{State, Touched};
use super::store::Store;
use crate::error::{Error, Kind, Result};

/// A role to be: what is `None` is as it was, or as a new role has it.
#[derive(Debug, Clone, Default)]
pub struct RoleChange {
    pub superuser: Option<bool>,
    pub login: Option<bool>,
    pub create_role: Option<bool>,
    pub inherit: Option<bool>,
    pub bypass_rls: Option<bool>,
    /// `Some(None)`: no limit any more.
    pub connection_limit: Option<Option<u32>>,
    pub statement_limit: Option<Option<u32>>,
    pub memory_limit: Option<Option<u64>>,
    pub verifier: Option<Option<Verifier>>,
    pub valid_until: Option<Option<i64>>,
}

impl Store {
    /// The roles and their rights, as they are now.
    pub fn access(&self) -> Arc<Access> {
        Arc::clone(&self.state().access)
    }

    pub fn create_role(&self, name: &str, new: &RoleChange) -> Result<RoleId> {
        let (name, new, number) = (name.to_owned(), new.clone(), Reserved::default());
        self.commit(move |writing| {
            if writing.state.access.find(&name).is_some() {
                return Err(Error::new(Kind::ObjectExists, format!("role \"{name}\" already exists")));
            }
            let sql = "INSERT INTO roles (id, name, superuser, login, create_role, inherit, bypass_rls)
                       VALUES (?1, ?2, 0, 0, 0, 1, 0)";
            let id = RoleId(writing.number("roles", &number));
            writing.db.execute(sql, params![id.0, name])?;
            write_role(writing.db, id, &new)?;
            Ok((id, vec![Touched::Access]))
        })
    }

    pub fn alter_role(&self, role: RoleId, change: &RoleChange) -> Result<()> {
        let change = change.clone();
        self.commit(move |writing| {
            write_role(writing.db, role, &change)?;
            Ok(((), vec![Touched::Access]))
        })
    }

    pub fn rename_role(&self, role: RoleId, name: &str) -> Result<()> {
        let name = name.to_owned();
        self.commit(move |writing| {
            if writing.state.access.find(&name).is_some() {
                return Err(Error::new(Kind::ObjectExists, format!("role \"{name}\" already exists")));
            }
            writing.db.execute("UPDATE roles SET name = ?2 WHERE id = ?1", params![role.0, name])?;
            Ok(((), vec![Touched::Access]))
        })
    }

    /// Drops roles that own nothing. What was granted to them goes with them.
    pub fn drop_roles(&self, roles: &[RoleId]) -> Result<()> {
        let roles = roles.to_vec();
        self.commit(move |writing| {
            for role in &roles {
                let owned = owned_by(writing.state, *role).len();
                if owned > 0 {
                    let name = writing.state.access.name(*role).to_owned();
                    let message = format!("role \"{name}\" cannot be dropped because some objects depend on it");
                    return Err(Error::new(Kind::StillNeeded, message).hint(format!(
                        "it owns {owned} of the schemas, tables, views and models: REASSIGN OWNED BY {name} TO another role"
                    )));
                }
                writing.db.execute("DELETE FROM grants WHERE grantee = ?1", [role.0])?;
                writing.db.execute("DELETE FROM default_grants WHERE grantee = ?1 OR owner = ?1", [role.0])?;
                writing.db.execute("DELETE FROM user_mappings WHERE role_id = ?1", [role.0])?;
                for (relation, policy) in policies_for(writing.state, *role) {
                    let left: Vec<i64> = policy.roles.iter().filter(|of| *of != role).map(|of| of.0).collect();
                    if left.is_empty() {
                        let sql = "DELETE FROM policies WHERE relation_id = ?1 AND name = ?2";
                        writing.db.execute(sql, params![relation, policy.name])?;
                    } else {
                        let sql = "UPDATE policies SET roles = ?3 WHERE relation_id = ?1 AND name = ?2";
                        writing.db.execute(sql, params![relation, policy.name, serde_json::to_string(&left)?])?;
                    }
                }
                writing.db.execute("DELETE FROM roles WHERE id = ?1", [role.0])?;
            }
            Ok(((), vec![Touched::Access, Touched::Servers]))
        })
    }

    /// Everything that a role owns.
    pub fn owned_by(&self, role: RoleId) -> Vec<Object> {
        owned_by(&self.state(), role)
    }

    /// Lets roles into others, or changes whether they may let others in.
    pub fn add_members(&self, memberships: &[Membership]) -> Result<()> {
        let memberships = memberships.to_vec();
        self.commit(move |writing| {
            for Membership { role, member, admin } in &memberships {
                let access = &writing.state.access;
                if access.memberships_of(*role).contains(member) {
                    let message = match role == member {
                        true => format!("role \"{0}\" is a member of role \"{0}\"", access.name(*role)),
                        false => {
                            format!("role \"{}\" is a member of role \"{}\"", access.name(*role), access.name(*member))
                        }
                    };
                    return Err(Error::new(Kind::InvalidGrant, message));
                }
                let sql = "INSERT INTO memberships (role_id, member_id, admin) VALUES (?1, ?2, ?3)
                           ON CONFLICT DO UPDATE SET admin = max(admin, excluded.admin)";
                writing.db.execute(sql, params![role.0, member.0, admin])?;
            }
            Ok(((), vec![Touched::Access]))
        })
    }

    /// Lets roles out, or with `admin_only` takes from them that they may let others in.
    pub fn remove_members(&self, memberships: &[Membership], admin_only: bool) -> Result<()> {
        let memberships = memberships.to_vec();
        self.commit(move |writing| {
            for Membership { role, member, .. } in &memberships {
                let sql = match admin_only {
                    true => "UPDATE memberships SET admin = 0 WHERE role_id = ?1 AND member_id = ?2",
                    false => "DELETE FROM memberships WHERE role_id = ?1 AND member_id = ?2",
                };
                writing.db.execute(sql, params![role.0, member.0])?;
            }
            Ok(((), vec![Touched::Access]))
        })
    }

    pub fn grant(&self, grants: &[Grant]) -> Result<()> {
        let grants = grants.to_vec();
        self.commit(move |writing| {
            for grant in &grants {
                writing.must_have(grant.object)?;
                let (kind, id) = grant.object.stored();
                let sql = "INSERT INTO grants (object_kind, object_id, column_name, grantee, privilege, grantable)
                           VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO UPDATE SET grantable = max(grantable, excluded.grantable)";
                let column = grant.column.as_deref().unwrap_or_default();
                writing.db.execute(sql, params![kind, id, column, grant.grantee.0, grant.privilege.name(), grant.grantable])?;
            }
            Ok(((), vec![Touched::Access]))
        })
    }

    /// Takes back what was granted; of the whole object also what was granted of its columns. With `option_only` the
    /// grantee keeps the privilege and may no longer grant it.
    pub fn revoke(&self, grants: &[Grant], option_only: bool) -> Result<()> {
        let grants = grants.to_vec();
        self.commit(move |writing| {
            for grant in &grants {
                writing.must_have(grant.object)?;
                let (kind, id) = grant.object.stored();
                let which = "object_kind = ?1 AND object_id = ?2 AND grantee = ?3 AND privilege = ?4
                             AND (?5 IS NULL OR column_name = ?5)";
                let sql = match option_only {
                    true => format!("UPDATE grants SET grantable = 0 WHERE {which}"),
                    false => format!("DELETE FROM grants WHERE {which}"),
                };
                writing.db.execute(&sql, params![kind, id, grant.grantee.0, grant.privilege.name(), grant.column])?;
            }
            Ok(((), vec![Touched::Access]))
        })
    }

    /// From here on these are granted on what is made, or no longer.
    pub fn set_default_grants(&self, defaults: &[DefaultGrant], revoke: bool) -> Result<()> {
        let defaults = defaults.to_vec();
        self.commit(move |writing| {
            for default in &defaults {
                let DefaultGrant { owner, schema, on, grantee, privilege, grantable } = default;
                let key = params![owner.0, schema.unwrap_or(0), kind_of(*on), grantee.0, privilege.name()];
                let which = "owner = ?1 AND schema_id = ?2 AND object_kind = ?3 AND grantee = ?4 AND privilege = ?5";
                writing.db.execute(&format!("DELETE FROM default_grants WHERE {which}"), key)?;
                if !revoke {
                    let sql = format!("INSERT INTO default_grants VALUES (?1, ?2, ?3, ?4, ?5, {grantable})");
                    writing.db.execute(&sql, key)?;
                }
            }
            Ok(((), vec![]))
        })
    }

    /// Gives objects to another owner.
    pub fn set_owner(&self, objects: &[Object], owner: RoleId) -> Result<()> {
        let objects = objects.to_vec();
        self.commit(move |writing| {
            for object in &objects {
                let (sql, id) = match object {
                    Object::Schema(id) => ("UPDATE schemas SET owner = ?2 WHERE id = ?1", id),
                    Object::Relation(id) => ("UPDATE relations SET owner = ?2 WHERE id = ?1", id),
                    Object::Model(id) => ("UPDATE models SET owner = ?2 WHERE id = ?1", id),
                    Object::Database => return Err(Error::unsupported("the database belongs to the superusers")),
                };
                writing.db.execute(sql, params![id, owner.0])?;
            }
            Ok(((), writing.state.schemas.keys().cloned().map(Touched::Schema).collect()))
        })
    }

    /// A new policy, or one in the place of that which is called `replaced`.
    pub fn put_policy(&self, relation: i64, policy: &Policy, replaced: Option<&str>) -> Result<()> {
        let (policy, replaced) = (policy.clone(), replaced.map(str::to_owned));
        self.commit(move |writing| {
            writing.must_have(Object::Relation(relation))?;
            if let Some(replaced) = &replaced {
                let sql = "DELETE FROM policies WHERE relation_id = ?1 AND name = ?2";
                if writing.db.execute(sql, params![relation, replaced])? == 0 {
                    return Err(conflict());
                }
            }
            let others = writing.state.access.policies(relation).iter();
            let mut others = others.filter(|there| Some(&there.name) != replaced.as_ref());
            if others.any(|there| there.name == policy.name) {
                return Err(Error::new(Kind::ObjectExists, format!("policy \"{}\" already exists", policy.name)));
            }
            let Policy { name, command, restrictive, roles, using, check } = &policy;
            let roles = serde_json::to_string(&roles.iter().map(|role| role.0).collect::<Vec<_>>())?;
            let sql = "INSERT INTO policies (relation_id, name, command, restrictive, roles, using_sql, check_sql)
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
            writing.db.execute(sql, params![relation, name, command.word(), restrictive, roles, using, check])?;
            Ok(((), vec![Touched::Access]))
        })
    }

    /// Answers whether it was there.
    pub fn drop_policy(&self, relation: i64, name: &str) -> Result<bool> {
        let name = name.to_owned();
        self.commit(move |writing| {
            let gone = writing
                .db
                .execute("DELETE FROM policies WHERE relation_id = ?1 AND name = ?2", params![relation, name])?;
            Ok((gone > 0, vec![Touched::Access]))
        })
    }

    /// From here on the policies of a table hold for whoever does not own it; or they no longer do.
    pub fn set_row_security(&self, schema: &str, name: &str, enabled: bool) -> Result<()> {
        let [schema, name] = [schema, name].map(str::to_owned);
        self.commit(move |writing| {
            let id = writing.state.schema_id(&schema)?;
            let sql = "UPDATE relations SET row_security = ?3 WHERE schema_id = ?1 AND name = ?2";
            if writing.db.execute(sql, params![id, name, enabled])? == 0 {
                return Err(conflict());
            }
            Ok(((), vec![Touched::Relation(schema.clone(), name.clone())]))
        })
    }

    /// The owner and the number of a schema.
    pub fn schema_owner(&self, name: &str) -> Option<(i64, RoleId)> {
        self.state().schemas.get(name).map(|contents| (contents.id, contents.owner))
    }
}

fn policies_for(state: &State, role: RoleId) -> Vec<(i64, Policy)> {
    let access = &state.access;
    let policies =
        state.relations().flat_map(|relation| access.policies(relation.id).iter().map(|policy| (relation.id, policy)));
    policies.filter(|(_, policy)| policy.roles.contains(&role)).map(|(id, policy)| (id, policy.clone())).collect()
}

fn owned_by(state: &State, role: RoleId) -> Vec<Object> {
    let mut owned = Vec::new();
    for contents in state.schemas.values() {
        owned.extend((contents.owner == role).then_some(Object::Schema(contents.id)));
        let relations = contents.relations.values().filter(|relation| relation.owner == role);
        owned.extend(relations.map(|relation| Object::Relation(relation.id)));
        let models = contents.models.values().filter(|model| model.owner == role);
        owned.extend(models.map(|model| Object::Model(model.id)));
    }
    owned
}

fn write_role(db: &Connection, role: RoleId, change: &RoleChange) -> Result<()> {
    let set = |column: &str, value: &dyn rusqlite::ToSql| {
        db.execute(&format!("UPDATE roles SET {column} = ?2 WHERE id = ?1"), params![role.0, value])
    };
    let flags = [
        ("superuser", change.superuser),
        ("login", change.login),
        ("create_role", change.create_role),
        ("inherit", change.inherit),
        ("bypass_rls", change.bypass_rls),
    ];
    for (column, flag) in flags {
        if let Some(flag) = flag {
            set(column, &flag)?;
        }
    }
    if let Some(limit) = &change.connection_limit {
        set("connection_limit", limit)?;
    }
    if let Some(limit) = &change.statement_limit {
        set("statement_limit", limit)?;
    }
    if let Some(limit) = &change.memory_limit {
        set("memory_limit", &limit.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX)))?;
    }
    if let Some(verifier) = &change.verifier {
        set("verifier", &verifier.as_ref().map(|verifier| &verifier.0))?;
    }
    if let Some(until) = &change.valid_until {
        set("valid_until", until)?;
    }
    Ok(())
}

fn kind_of(on: DefaultOn) -> &'static str {
    match on {
        DefaultOn::Relations => "relation",
        DefaultOn::Models => "model",
    }
}

/// Grants on something new what its owner wants granted on such. Answers what memory must show anew.
pub(super) fn grant_defaults(
    db: &Connection,
    on: DefaultOn,
    id: i64,
    schema: i64,
    owner: RoleId,
) -> Result<Option<Touched>> {
    let sql = "INSERT INTO grants SELECT ?1, ?2, '', grantee, privilege, max(grantable) FROM default_grants
               WHERE owner = ?3 AND object_kind = ?1 AND schema_id IN (0, ?4) GROUP BY grantee, privilege";
    let granted = db.execute(sql, params![kind_of(on), id, owner.0, schema])?;
    Ok((granted > 0).then_some(Touched::Access))
}

/// What was granted on, and the policies of, relation `old` are those of `new` from here on.
pub(super) fn inherit_rights(db: &Connection, old: i64, new: i64) -> Result<()> {
    db.execute(
        "UPDATE grants SET object_id = ?2 WHERE object_kind = 'relation' AND object_id = ?1",
        params![old, new],
    )?;
    db.execute("UPDATE policies SET relation_id = ?2 WHERE relation_id = ?1", params![old, new])?;
    Ok(())
}

/// Deletes the rights to what is not there any more.
pub(super) fn forget_rights(db: &Connection) -> Result<()> {
    db.execute_batch(
        "DELETE FROM grants WHERE object_kind = 'relation' AND object_id NOT IN (SELECT id FROM relations);
         DELETE FROM grants WHERE object_kind = 'model' AND object_id NOT IN (SELECT id FROM models);
         DELETE FROM grants WHERE object_kind = 'schema' AND object_id NOT IN (SELECT id FROM schemas);
         DELETE FROM default_grants WHERE schema_id <> 0 AND schema_id NOT IN (SELECT id FROM schemas);
         DELETE FROM policies WHERE relation_id NOT IN (SELECT id FROM relations);",
    )?;
    Ok(())
}

/// Whether a role may be called that: some names mean something else where a role is named.
pub fn check_role_name(name: &str) -> Result<()> {
    let reserved = ["public", "none", "current_user", "session_user", "current_role"];
    if reserved.contains(&name) || name.starts_with("pg_") {
        return Err(Error::new(Kind::Reserved, format!("role name \"{name}\" is reserved"))
            .hint("names that start with pg_ are Postgres's own"));
    }
    if name.is_empty() {
        return Err(Error::new(Kind::Syntax, "zero-length delimited identifier").hint("a role needs a name"));
    }
    Ok(())
}

impl Role {
    /// Whether its password counts no longer.
    pub fn is_expired(&self, now: i64) -> bool {
        self.valid_until.is_some_and(|until| until <= now)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::Schema;

    use super::super::access::Privilege;
    use super::super::migrations::MIGRATIONS;
    use super::*;

    #[test]
    fn a_catalog_of_before_there_were_roles_opens() {
        let dir = tempfile::tempdir().unwrap();
        let db = rusqlite::Connection::open(dir.path().join("catalog.db")).unwrap();
        db.execute_batch(MIGRATIONS[0]).unwrap();
        db.execute_batch("INSERT INTO schemas (name) VALUES ('shop'); PRAGMA user_version = 1").unwrap();
        drop(db);
        let store = Store::open(dir.path()).unwrap();
        let access = store.access();
        let first = access.find(Role::FIRST).unwrap();
        assert!(first.superuser && first.login && first.verifier.is_none() && first.id == RoleId::FIRST);
        assert_eq!(store.schema_owner("shop").map(|(_, owner)| owner), Some(RoleId::FIRST));
        let (public, _) = store.schema_owner("public").unwrap();
        let [usage] = access.grants(Object::Schema(public)) else { panic!("PUBLIC has USAGE of public") };
        assert_eq!((usage.grantee, usage.privilege), (RoleId::PUBLIC, Privilege::Usage));
        assert!(access.grants(Object::Schema(public + 1)).is_empty());
    }

    #[test]
    fn roles_and_rights_outlive_a_restart_and_go_with_what_they_are_about() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let login = RoleChange { login: Some(true), connection_limit: Some(Some(2)), ..RoleChange::default() };
        let (ann, team) = (store.create_role("ann", &login).unwrap(), store.create_role("team", &login).unwrap());
        assert!(ann.oid() >= 16_384);
        assert_eq!(store.create_role("ann", &login).unwrap_err().kind, Kind::ObjectExists);
        store.add_members(&[Membership { role: team, member: ann, admin: false }]).unwrap();
        let circle = store.add_members(&[Membership { role: ann, member: team, admin: false }]);
        assert_eq!(circle.unwrap_err().kind, Kind::InvalidGrant);
        store.create_view("public", "v", "SELECT 1", Arc::new(Schema::empty()), false, ann).unwrap();
        let view = store.relation("public", "v").unwrap().unwrap();
        let object = Object::Relation(view.id);
        let grant = |grantee| Grant { object, column: None, grantee, privilege: Privilege::Select, grantable: false };
        store.grant(&[grant(team), grant(RoleId::PUBLIC)]).unwrap();
        drop(store);

        let store = Store::open(dir.path()).unwrap();
        let access = store.access();
        assert_eq!(access.role(ann).unwrap().connection_limit, Some(2));
        assert!(access.memberships_of(ann).contains(&team) && !access.memberships_of(team).contains(&ann));
        assert_eq!(access.grants(object).len(), 2);
        assert_eq!(store.drop_roles(&[ann]).unwrap_err().kind, Kind::StillNeeded);

        // A view that is replaced is the same to whom it was granted.
        store.create_view("public", "v", "SELECT 2", Arc::new(Schema::empty()), true, RoleId::FIRST).unwrap();
        let again = store.relation("public", "v").unwrap().unwrap();
        assert_eq!((again.owner, store.access().grants(Object::Relation(again.id)).len()), (ann, 2));
        store.drop_roles(&[team]).unwrap();
        assert_eq!(store.access().grants(Object::Relation(again.id)).len(), 1);
        assert!(store.access().memberships().is_empty());
        store.drop_relation("public", "v", super::super::relation::RelationType::View, false).unwrap();
        store.drop_roles(&[ann]).unwrap();
        drop(store);
        let db = rusqlite::Connection::open(dir.path().join("catalog.db")).unwrap();
        let left: i64 =
            db.query_row("SELECT count(*) FROM grants WHERE object_kind = 'relation'", [], |row| row.get(0)).unwrap();
        assert_eq!(left, 0);
    }
}
