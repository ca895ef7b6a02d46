//! The schema `pg_catalog` and the functions that clients ask for as soon as they connect.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::ScalarValue;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::SessionStateBuilder;
use datafusion::logical_expr::planner::TypePlanner;
use datafusion::logical_expr::{ColumnarValue, ScalarUDF, Volatility, create_udf};
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::ast;
use datafusion_pg_catalog::pg_catalog::context::EmptyContextProvider;
use datafusion_pg_catalog::pg_catalog::oid_type_planner::PgOidTypePlanner;
use datafusion_pg_catalog::pg_catalog::setup_pg_catalog;

use crate::engine::catalog::CATALOG;
use crate::engine::pg_functions;
use crate::error::{Error, Result};

/// What `version()` says: the server version that clients parse, and who really answers.
pub const VERSION: &str = concat!("PostgreSQL 16.6 (Cohort ", env!("CARGO_PKG_VERSION"), ")");

/// Registers tables and functions that are the same for all sessions.
pub fn register(context: &SessionContext) -> Result<()> {
    setup_pg_catalog(context, CATALOG, EmptyContextProvider).map_err(|error| Error::from(*error))?;
    let state = context.state_ref();
    let with_types = SessionStateBuilder::new_from_existing(state.read().clone()).with_type_planner(Arc::new(Types));
    *state.write() = with_types.build();
    pg_functions::register(context);
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
        match of {
            // A uuid is kept, compared and joined as the text that it is written as.
            ast::DataType::Uuid => Ok(Some(Arc::new(Field::new("", DataType::Utf8, true)))),
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
