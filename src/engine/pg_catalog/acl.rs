//! What has been granted on an object, as Postgres writes it: `grantee=letters/grantor`.

use crate::engine::pg_catalog::objects::{Namespace, Object, Objects};
use crate::storage::{self, Grant, Privilege, RoleId};

/// The letter of each privilege, in the order that Postgres writes them in.
const LETTERS: [(Privilege, char); 9] = [
    (Privilege::Insert, 'a'),
    (Privilege::Select, 'r'),
    (Privilege::Update, 'w'),
    (Privilege::Delete, 'd'),
    (Privilege::Truncate, 'D'),
    (Privilege::Usage, 'U'),
    (Privilege::Create, 'C'),
    (Privilege::Temporary, 'T'),
    (Privilege::Connect, 'c'),
];

/// The grants on a relation as a whole; `None`: nothing was ever granted on it, and its owner has it alone.
pub fn of_relation(objects: &Objects, relation: &Object) -> Option<Vec<String>> {
    written(
        objects,
        relation.owner,
        Privilege::ON_RELATIONS,
        on_relation(objects, relation).filter(|grant| grant.column.is_none()),
    )
}

/// The grants on one column of a relation.
pub fn of_column(objects: &Objects, relation: &Object, column: &str) -> Option<Vec<String>> {
    written(objects, relation.owner, &[], on_relation(objects, relation).filter(|grant| is_of(grant, column)))
}

/// The grants on a schema.
pub fn of_schema(objects: &Objects, schema: &Namespace) -> Option<Vec<String>> {
    let grants = schema.id.map(|id| objects.access.grants(storage::Object::Schema(id))).unwrap_or_default();
    written(objects, schema.owner, Privilege::ON_SCHEMAS, grants.iter())
}

/// All grants on a relation and on its columns.
pub fn on_relation<'a>(objects: &'a Objects, relation: &Object) -> impl Iterator<Item = &'a Grant> {
    let grants = relation.id.map(|id| objects.access.grants(storage::Object::Relation(id))).unwrap_or_default();
    grants.iter()
}

fn is_of(grant: &Grant, column: &str) -> bool {
    grant.column.as_deref() == Some(column)
}

/// One text for the owner, who has `owners` without a grant, and one for every other grantee.
fn written<'a>(
    objects: &Objects,
    owner: RoleId,
    owners: &[Privilege],
    grants: impl Iterator<Item = &'a Grant>,
) -> Option<Vec<String>> {
    let grants: Vec<&Grant> = grants.collect();
    let grantor = objects.access.name(owner);
    let mut grantees: Vec<RoleId> = grants.iter().map(|grant| grant.grantee).collect();
    grantees.sort_unstable();
    grantees.dedup();
    let letters = |grantee: RoleId| -> String {
        let has = |privilege: Privilege| {
            grants.iter().filter(move |grant| grant.grantee == grantee && grant.privilege == privilege)
        };
        let letter = |(privilege, letter): &(Privilege, char)| {
            let grantable = has(*privilege).any(|grant| grant.grantable);
            has(*privilege).next().map(|_| if grantable { format!("{letter}*") } else { letter.to_string() })
        };
        LETTERS.iter().filter_map(letter).collect()
    };
    let item = |grantee: RoleId| {
        let name = if grantee == RoleId::PUBLIC { "" } else { objects.access.name(grantee) };
        format!("{name}={}/{grantor}", letters(grantee))
    };
    let of_owner = (!owners.is_empty()).then(|| {
        let letters = LETTERS.iter().filter(|(privilege, _)| owners.contains(privilege)).map(|(_, letter)| letter);
        format!("{grantor}={}/{grantor}", letters.collect::<String>())
    });
    let others = grantees.iter().filter(|grantee| **grantee != owner).map(|grantee| item(*grantee));
    (!grants.is_empty()).then(|| of_owner.into_iter().chain(others).collect())
}
