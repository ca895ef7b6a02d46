//! The store's schemas, tables and views as DataFusion looks them up, and the virtual schema `ml`.

use std::collections::HashMap;
use std::fmt::{self, Debug};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, MemoryCatalogProvider, SchemaProvider, TableProvider};
use datafusion::error::Result as DataFusionResult;

use crate::engine::activity::Activity;
use crate::engine::foreign::Gateway;
use crate::engine::guarded::{Behind, Guarded};
use crate::engine::rules;
use crate::engine::sight::KeptPlanner;
use crate::engine::statement::parse_sql;
use crate::engine::system_tables::SystemTables;
use crate::engine::temporary::Path;
use crate::engine::versions::Wanted;
use crate::error::Result;
use crate::storage::{LakeTable, NumberedTable, ROW_NUMBER, Relation, RelationKind, Store};

/// The one database.
pub const CATALOG: &str = "cohort";

/// The list of databases, of which there is one.
pub struct Catalogs {
    catalog: Arc<Catalog>,
}

impl Catalogs {
    /// `planner` plans the queries that are kept: of views and of models. It is set when all functions are registered.
    pub fn new(store: Arc<Store>, gateway: Arc<Gateway>, planner: Arc<KeptPlanner>, activity: Arc<Activity>) -> Self {
        let system = Arc::new(SystemTables::new(Arc::clone(&store), activity));
        let extra = MemoryCatalogProvider::new();
        Self { catalog: Arc::new(Catalog { store, system, extra, gateway, planner }) }
    }
}

impl Debug for Catalogs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Catalogs")
    }
}

impl CatalogProviderList for Catalogs {
    fn register_catalog(&self, _name: String, _catalog: Arc<dyn CatalogProvider>) -> Option<Arc<dyn CatalogProvider>> {
        None
    }

    fn catalog_names(&self) -> Vec<String> {
        vec![CATALOG.to_owned()]
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        (name == CATALOG).then(|| Arc::clone(&self.catalog) as Arc<dyn CatalogProvider>)
    }
}

struct Catalog {
    store: Arc<Store>,
    system: Arc<SystemTables>,
    /// Schemas that are registered rather than stored: `pg_catalog`.
    extra: MemoryCatalogProvider,
    gateway: Arc<Gateway>,
    planner: Arc<KeptPlanner>,
}

impl Debug for Catalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Catalog")
    }
}

impl CatalogProvider for Catalog {
    fn schema_names(&self) -> Vec<String> {
        let mut names = self.store.schemas().unwrap_or_default();
        names.push(SystemTables::SCHEMA.to_owned());
        names.extend(self.extra.schema_names());
        names
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        if name == SystemTables::SCHEMA {
            return Some(Arc::clone(&self.system) as Arc<dyn SchemaProvider>);
        }
        if let Some(path) = Path::of(name, |name| self.schema(name)) {
            return Some(Arc::new(path));
        }
        if let Some(inner) = self.extra.schema(name) {
            return Some(inner);
        }
        let known = self.store.schemas().ok()?.iter().any(|schema| schema == name);
        known.then(|| {
            Arc::new(Schema {
                name: name.to_owned(),
                store: Arc::clone(&self.store),
                gateway: Arc::clone(&self.gateway),
                planner: Arc::clone(&self.planner),
            }) as Arc<dyn SchemaProvider>
        })
    }

    fn register_schema(
        &self,
        name: &str,
        schema: Arc<dyn SchemaProvider>,
    ) -> DataFusionResult<Option<Arc<dyn SchemaProvider>>> {
        self.extra.register_schema(name, schema)
    }
}

/// One schema of the store.
struct Schema {
    name: String,
    store: Arc<Store>,
    gateway: Arc<Gateway>,
    planner: Arc<KeptPlanner>,
}

impl Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Schema({})", self.name)
    }
}

impl Schema {
    /// The relation, to be used by whoever may: see [`Guarded`].
    async fn provider(&self, relation: Relation, found_by: &str) -> Result<Arc<dyn TableProvider>> {
        let mut defaults = HashMap::new();
        let behind = match &relation.kind {
            RelationKind::Table(_) => {
                defaults = rules::defaults(&*self.planner.get()?, &relation)?;
                Behind::Table(Arc::new(LakeTable::new(Arc::clone(&self.store), relation.clone())?))
            }
            RelationKind::View { sql } => {
                let plan = Box::new(self.planner.get()?.statement_to_plan(parse_sql(sql)?).await?);
                Behind::View { sql: sql.clone(), columns: Arc::clone(plan.schema().inner()), plan }
            }
            RelationKind::External(external) => match &external.foreign {
                Some(foreign) => {
                    let unread = self.gateway.unread(&relation, foreign)?;
                    Behind::Foreign { unread, columns: Arc::clone(&relation.columns) }
                }
                None => Behind::External(external.provider(&relation)?),
            },
        };
        Ok(Arc::new(Guarded { relation, found_by: found_by.to_owned(), behind, defaults }))
    }

    /// The same with its rows' numbers, for whoever may change them.
    fn numbered(&self, relation: Relation) -> Result<Arc<dyn TableProvider>> {
        let table = Arc::new(LakeTable::new(Arc::clone(&self.store), relation.clone())?);
        let found_by = format!("{}{ROW_NUMBER}", relation.name);
        let behind = Behind::Numbered(Arc::new(NumberedTable::new(table)));
        Ok(Arc::new(Guarded { relation, found_by, behind, defaults: HashMap::new() }))
    }
}

#[async_trait]
impl SchemaProvider for Schema {
    fn table_names(&self) -> Vec<String> {
        let relations = self.store.relations(&self.name).unwrap_or_default();
        relations.into_iter().map(|relation| relation.name).collect()
    }

    async fn table(&self, name: &str) -> DataFusionResult<Option<Arc<dyn TableProvider>>> {
        if let Some(table) = name.strip_suffix(ROW_NUMBER) {
            return match self.store.relation(&self.name, table)? {
                Some(relation) => Ok(Some(self.numbered(relation)?)),
                None => Ok(None),
            };
        }
        if let Some((table, wanted)) = Wanted::parse(name) {
            return match self.store.relation(&self.name, table)? {
                Some(relation) => Ok(Some(self.provider(wanted.of(&self.store, &relation)?, name).await?)),
                None => Ok(None),
            };
        }
        match self.store.relation(&self.name, name)? {
            Some(relation) => Ok(Some(self.provider(relation, name).await?)),
            None => Ok(None),
        }
    }

    fn table_exist(&self, name: &str) -> bool {
        let name = name.split('\0').next().unwrap_or(name);
        self.store.relation(&self.name, name).is_ok_and(|relation| relation.is_some())
    }
}
