//! The schemas `pg_catalog` and `information_schema`, and the functions that clients ask for as soon as they connect.
//!
//! What there is here is shown under stable numbers ([`objects`]) by relations of ours ([`relations`],
//! [`information_schema`]); what every Postgres has alike comes from the crate datafusion-pg-catalog ([`exports`]).

mod acl;
mod describe;
mod exports;
mod foreign;
mod information_schema;
mod objects;
mod procedures;
mod reg_types;
mod relation;
mod relations;
mod roles;
mod schema;
mod types;

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::catalog::{CatalogProviderList, SchemaProvider, TableFunction};
use datafusion::common::ScalarValue;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::SessionStateBuilder;
use datafusion::logical_expr::planner::TypePlanner;
use datafusion::logical_expr::{ColumnarValue, ScalarUDF, Volatility, create_udf};
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::sqlparser::ast;
use datafusion_pg_catalog::pg_catalog::context::EmptyContextProvider;
use datafusion_pg_catalog::pg_catalog::oid_type_planner::PgOidTypePlanner;
use datafusion_pg_catalog::pg_catalog::setup_pg_catalog;

pub use exports::is_array;
pub use objects::{FIRST_NUMBER, PUBLIC};
pub use reg_types::{is_reg_type, shown};
pub use roles::field;
pub use schema::has_relation;

use crate::engine::catalog::CATALOG;
use crate::engine::pg_functions;
use crate::engine::sight::{Common, KeptPlanner};
use crate::error::{Error, Result};
use crate::storage::Store;

/// What `version()` says: the server version that clients parse, and who really answers.
pub const VERSION: &str = concat!("PostgreSQL 16.6 (Cohort ", env!("CARGO_PKG_VERSION"), ")");

/// What the crate has for every Postgres alike. It takes long to read, and never changes.
pub struct Fixed {
    exports: Arc<exports::Exports>,
    schema: Arc<dyn SchemaProvider>,
    scalars: Vec<Arc<ScalarUDF>>,
    tables: Vec<Arc<TableFunction>>,
}

impl Fixed {
    pub fn read() -> Result<Self> {
        let settings = SessionConfig::new().with_default_catalog_and_schema(CATALOG, "public");
        let context = SessionContext::new_with_config(settings);
        setup_pg_catalog(&context, CATALOG, EmptyContextProvider).map_err(|error| Error::from(*error))?;
        let catalog = context.catalog(CATALOG).ok_or_else(|| Error::internal("there is no catalog"))?;
        let schema = catalog.schema("pg_catalog").ok_or_else(|| Error::internal("there is no pg_catalog"))?;
        let state = context.state();
        Ok(Self {
            exports: Arc::new(exports::Exports::read()?),
            schema,
            scalars: state.scalar_functions().values().cloned().collect(),
            tables: state.table_functions().values().cloned().collect(),
        })
    }

    fn register_functions(&self, context: &SessionContext) {
        for scalar in &self.scalars {
            context.register_udf(scalar.as_ref().clone());
        }
        for table in &self.tables {
            context.register_udtf(table.name(), Arc::clone(table.function()));
        }
    }
}

/// Registers schemas, types and functions. `catalogs` is the list that the context has, and `state` will know all
/// functions.
pub fn register(
    context: &mut SessionContext,
    common: &Common,
    store: &Arc<Store>,
    catalogs: &Arc<dyn CatalogProviderList>,
    state: Arc<KeptPlanner>,
) -> Result<()> {
    let fixed = &common.postgres;
    fixed.register_functions(context);
    let catalog = context.catalog(CATALOG).ok_or_else(|| Error::internal("there is no catalog"))?;
    let roles = roles::Roles { store: Arc::clone(store), activity: Arc::clone(&common.activity) };
    let source = Arc::new(objects::Source::new(Arc::clone(store), Arc::clone(&fixed.exports), state));
    let others = Arc::clone(&fixed.schema);
    catalog
        .register_schema("pg_catalog", Arc::new(schema::PgCatalog { source: Arc::clone(&source), roles, others }))?;
    let catalogs = Arc::downgrade(catalogs);
    let information = schema::InformationSchema { source: Arc::clone(&source), catalogs };
    catalog.register_schema("information_schema", Arc::new(information))?;

    let shared = context.state_ref();
    let with_types = SessionStateBuilder::new_from_existing(shared.read().clone()).with_type_planner(Arc::new(Types));
    *shared.write() = with_types.build();
    pg_functions::register(context, common.started);
    reg_types::register(context, &source);
    describe::register(context, &source);
    context.register_udf(
        constant("version", ScalarValue::Utf8(Some(VERSION.to_owned()))).with_aliases(["pg_catalog.version"]),
    );
    Ok(())
}

/// Types that SQL names and Arrow does not have.
#[derive(Debug)]
struct Types;

impl TypePlanner for Types {
    fn plan_type_field(&self, of: &ast::DataType) -> DataFusionResult<Option<FieldRef>> {
        let text = |yes: bool| yes.then(|| Arc::new(Field::new("", DataType::Utf8, true)));
        match of {
            // A uuid or a JSON document is kept, compared and joined as the text that it is written as.
            ast::DataType::Uuid | ast::DataType::JSON | ast::DataType::JSONB => Ok(text(true)),
            // `oid[]`, whose items are numbers of objects.
            ast::DataType::Array(ast::ArrayElemTypeDef::SquareBracket(item, _))
                if item.to_string().ends_with("oid") =>
            {
                let item = relation::Cell::Oid.field("item");
                Ok(Some(Arc::new(Field::new("", DataType::List(Arc::new(item)), true))))
            }
            ast::DataType::Custom(name, _) => {
                let name = name.0.last().and_then(|part| part.as_ident()).map(|name| name.value.to_lowercase());
                let texts = ["name", "bpchar", "citext", "sql_identifier", "character_data", "yes_or_no", "cstring"];
                match name.as_deref() {
                    Some("cardinal_number") => Ok(Some(Arc::new(Field::new("", DataType::Int32, true)))),
                    Some(name) if texts.contains(&name) => Ok(text(true)),
                    _ => PgOidTypePlanner.plan_type_field(of),
                }
            }
            other => PgOidTypePlanner.plan_type_field(other),
        }
    }
}

/// A function without arguments that always gives the same.
fn constant(name: &str, value: ScalarValue) -> ScalarUDF {
    let data_type: DataType = value.data_type();
    let answer = Arc::new(move |_: &[ColumnarValue]| Ok(ColumnarValue::Scalar(value.clone())));
    create_udf(name, vec![], data_type, Volatility::Stable, answer)
}
