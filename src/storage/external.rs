//! External tables: relations whose rows are not ours, and where they are.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::Schema;
use datafusion::catalog::TableProvider;
use rusqlite::params;
use serde::{Deserialize, Serialize};

use super::access::RoleId;
use super::catalog::{Found, Reserved};
use super::delta_read::{DELTA, DeltaTable};
use super::files::{FilesTable, Format};
use super::relation::{Relation, RelationType};
use super::store::{Claim, IfExists, NewRelation, Store};
use crate::error::{Error, Result};

/// Where the rows of an external table are, and how they are read. The catalog keeps it as JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct External {
    /// Who knows how to read them: `parquet`, `csv`, … for files of that format.
    pub provider: String,
    /// What the provider finds them by: of files their paths, of objects their URLs.
    pub locations: Vec<String>,
    /// The columns that are read from the names of folders, `year=2024`.
    #[serde(default)]
    pub partitions: Vec<String>,
    /// What else the provider must know. No secrets: whoever may look at the catalog sees them.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// Options that are secrets, sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<String>,
    /// Which table of which foreign server it is; `None`: its rows are in files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreign: Option<Foreign>,
    /// Whether somebody named the columns, instead of the files.
    #[serde(default)]
    pub declared: bool,
}

/// A table of a foreign server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Foreign {
    /// The server's number.
    pub server: i64,
    /// What is known of the table over there. Who talks to the server reads it.
    pub table: serde_json::Value,
}

impl External {
    /// What stands for all files where clients want the name of a server.
    pub const FILES: &str = "files";

    /// The table as DataFusion reads it. Nothing is opened before it is scanned.
    pub fn provider(self: &Arc<Self>, relation: &Relation) -> Result<Arc<dyn TableProvider>> {
        if let Some(format) = Format::named(&self.provider) {
            return Ok(Arc::new(FilesTable::new(Arc::clone(self), format, Arc::clone(&relation.columns))));
        }
        if self.provider == DELTA {
            return Ok(Arc::new(DeltaTable::new(self, Arc::clone(&relation.columns))));
        }
        let message = format!("external table \"{}\" is stored as {}", relation.name, self.provider);
        Err(Error::unsupported(message).hint("a newer version made it"))
    }

    /// What of it clients are shown, by name.
    pub fn shown(&self) -> impl Iterator<Item = (&str, &str)> {
        let locations = self.locations.iter().map(|location| ("location", location.as_str()));
        let options = self.options.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        [("format", self.provider.as_str())].into_iter().chain(locations).chain(options)
    }
}

impl Store {
    /// A new external table. Answers whether it was created. One that is replaced keeps its owner, and what was granted
    /// on it.
    pub fn create_external(
        &self,
        schema: &str,
        name: &str,
        external: &External,
        columns: &Schema,
        exists: IfExists,
        owner: RoleId,
    ) -> Result<bool> {
        let (stored, columns) = (serde_json::to_string(external)?, columns.clone());
        let (number, found) = (Reserved::default(), Found::default());
        let [schema, name] = [schema, name].map(str::to_owned);
        self.commit(move |writing| {
            let claim = match writing.claim(&schema, &name, RelationType::External, exists, &found)? {
                Claim::Unwanted => return Ok((false, vec![])),
                claim => claim,
            };
            let new = NewRelation { schema: &schema, name: &name, view: None, columns: &columns, owner };
            let (id, touched) = writing.insert(new, claim, &number)?;
            writing.db.execute("UPDATE relations SET external = ?2 WHERE id = ?1", params![id, stored])?;
            Ok((true, touched))
        })
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::{DataType, Field};

    use super::*;
    use crate::error::Kind;
    use crate::storage::RelationKind;

    #[test]
    fn what_was_said_of_it_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let columns = Schema::new(vec![Field::new("id", DataType::Int64, true)]);
        let external = External {
            provider: "csv".to_owned(),
            locations: vec!["/data/Ünï 🛒/*.csv".to_owned()],
            options: BTreeMap::from([("delimiter".to_owned(), ";".to_owned())]),
            ..External::default()
        };
        let store = Store::open(dir.path()).unwrap();
        let create = |store: &Store, name: &str, exists: IfExists| {
            store.create_external("public", name, &external, &columns, exists, RoleId::FIRST)
        };
        let before = store.generation();
        assert!(create(&store, "t", IfExists::Error).unwrap());
        assert_ne!(store.generation(), before);
        assert_eq!(create(&store, "t", IfExists::Error).unwrap_err().kind, Kind::TableExists);
        assert!(!create(&store, "t", IfExists::Keep).unwrap());
        assert!(create(&store, "t", IfExists::Replace).unwrap());
        // It takes the place of nothing that has rows.
        store.create_view("public", "v", "SELECT 1", Arc::new(columns.clone()), false, RoleId::FIRST).unwrap();
        assert_eq!(create(&store, "v", IfExists::Replace).unwrap_err().kind, Kind::NotReady);
        drop(store);

        let store = Store::open(dir.path()).unwrap();
        let relation = store.relation("public", "t").unwrap().unwrap();
        assert_eq!(relation.kind, RelationKind::External(Arc::new(external)));
        assert_eq!((relation.columns.as_ref(), relation.rows()), (&columns, 0));
        assert!(store.drop_relation("public", "t", RelationType::External, false).unwrap());
    }
}
