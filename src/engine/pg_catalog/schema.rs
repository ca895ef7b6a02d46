//! `pg_catalog` and `information_schema` as DataFusion looks them up.

use std::sync::{Arc, Weak};

use async_trait::async_trait;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::catalog::information_schema::InformationSchemaProvider;
use datafusion::catalog::{CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::datasource::MemTable;
use datafusion::error::Result as DataFusionResult;

use crate::engine::pg_catalog::objects::Source;
use crate::engine::pg_catalog::relation::SystemRelation;
use crate::engine::pg_catalog::roles::Roles;
use crate::engine::pg_catalog::{information_schema, procedures, relations};
use crate::error::Result;

/// The schema `pg_catalog`.
pub struct PgCatalog {
    pub source: Arc<Source>,
    pub roles: Roles,
    /// The crate's own.
    pub others: Arc<dyn SchemaProvider>,
}

impl std::fmt::Debug for PgCatalog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PgCatalog")
    }
}

/// Relations that are looked up in the crate's schema.
const OTHERS: &[&str] = &["pg_replication_slots", "pg_stat_gssapi"];

/// Whether `pg_catalog` has a relation of that name: it is found without its schema, as in Postgres.
pub fn has_relation(name: &str) -> bool {
    OTHERS.contains(&name)
        || Roles::names().any(|known| known == name)
        || relations::RELATIONS.iter().any(|relation| relation.name == name)
        || datafusion_pg_catalog::pg_catalog::PG_CATALOG_TABLES.contains(&name)
}

#[async_trait]
impl SchemaProvider for PgCatalog {
    fn table_names(&self) -> Vec<String> {
        let ours = relations::RELATIONS.iter().map(|relation| relation.name);
        let exported = self.source.exports().tables.keys().copied();
        let others = OTHERS.iter().copied().chain(Roles::names());
        let mut names: Vec<String> = ours.chain(exported).chain(others).map(str::to_owned).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    async fn table(&self, name: &str) -> DataFusionResult<Option<Arc<dyn TableProvider>>> {
        if let Some(relation) = relations::RELATIONS.iter().find(|relation| relation.name == name) {
            return Ok(Some(rows_of(relation, &self.source)?));
        }
        if name == "pg_proc" {
            let objects = self.source.objects()?;
            return Ok(Some(in_memory(procedures::batch(&objects)?)?));
        }
        if let Some(rows) = self.source.exports().tables.get(name) {
            return Ok(Some(in_memory(rows.clone())?));
        }
        if let Some(table) = self.roles.table(name)? {
            return Ok(Some(table));
        }
        if OTHERS.contains(&name) { self.others.table(name).await } else { Ok(None) }
    }

    fn table_exist(&self, name: &str) -> bool {
        has_relation(name)
    }
}

/// The schema `information_schema`.
pub struct InformationSchema {
    pub source: Arc<Source>,
    /// Whose functions and settings DataFusion describes. The list holds this schema, so that this must not hold the list.
    pub catalogs: Weak<dyn CatalogProviderList>,
}

impl std::fmt::Debug for InformationSchema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InformationSchema")
    }
}

/// Relations of DataFusion's own that its SHOW FUNCTIONS reads.
const OF_FUNCTIONS: &[&str] = &["routines", "parameters", "df_settings"];

#[async_trait]
impl SchemaProvider for InformationSchema {
    fn table_names(&self) -> Vec<String> {
        information_schema::RELATIONS
            .iter()
            .map(|relation| relation.name)
            .chain(OF_FUNCTIONS.iter().copied())
            .map(str::to_owned)
            .collect()
    }

    async fn table(&self, name: &str) -> DataFusionResult<Option<Arc<dyn TableProvider>>> {
        let name = name.to_lowercase();
        if let Some(relation) = information_schema::RELATIONS.iter().find(|relation| relation.name == name) {
            return Ok(Some(rows_of(relation, &self.source)?));
        }
        match self.catalogs.upgrade() {
            Some(catalogs) if OF_FUNCTIONS.contains(&name.as_str()) => {
                InformationSchemaProvider::new(catalogs).table(&name).await
            }
            _ => Ok(None),
        }
    }

    fn table_exist(&self, name: &str) -> bool {
        let name = name.to_lowercase();
        OF_FUNCTIONS.contains(&name.as_str())
            || information_schema::RELATIONS.iter().any(|relation| relation.name == name)
    }
}

fn rows_of(relation: &SystemRelation, source: &Source) -> Result<Arc<dyn TableProvider>> {
    let objects = source.objects()?;
    in_memory(relation.batch(&objects)?)
}

fn in_memory(rows: RecordBatch) -> Result<Arc<dyn TableProvider>> {
    Ok(Arc::new(MemTable::try_new(rows.schema(), vec![vec![rows]])?))
}
