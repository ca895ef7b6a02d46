//! Joins, aggregates and first rows of tables of one server are done by that server.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{DFSchemaRef, Result as DataFusionResult};
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{
    Expr, Extension, LogicalPlan, Sort, UserDefinedLogicalNode, UserDefinedLogicalNodeCore,
};
use datafusion::optimizer::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};

use crate::error::Error;
use crate::foreign::query::Query;
use crate::foreign::scan::ForeignScanExec;
use crate::foreign::table::ForeignTable;

/// Puts one query in the place of the largest parts of a plan that a server can do. Comes after the rules that move
/// conditions and columns down.
#[derive(Debug)]
pub struct Pushdown;

impl OptimizerRule for Pushdown {
    fn name(&self) -> &str {
        "foreign_pushdown"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        None
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> DataFusionResult<Transformed<LogicalPlan>> {
        let mut has_foreign = false;
        plan.apply_with_subqueries(|node| {
            has_foreign |= is_foreign(node);
            Ok(if has_foreign { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })?;
        match has_foreign {
            true => plan.transform_down_with_subqueries(pushed),
            false => Ok(Transformed::no(plan)),
        }
    }
}

fn pushed(plan: LogicalPlan) -> DataFusionResult<Transformed<LogicalPlan>> {
    match plan {
        // The server finds the first rows, and the order is made here, where it is relied on.
        LogicalPlan::Sort(sort) => Ok(first(sort)),
        plan if is_ordered(&plan) || !is_worth_it(&plan) => Ok(Transformed::no(plan)),
        plan => Ok(match Query::of(&plan) {
            Some(query) => Transformed::new(Remote::node(query, &plan, None), true, TreeNodeRecursion::Jump),
            None => Transformed::no(plan),
        }),
    }
}

fn first(sort: Sort) -> Transformed<LogicalPlan> {
    let (Some(fetch), limited) = (sort.fetch, Remote::at(&sort.input).and_then(|remote| remote.first)) else {
        return Transformed::no(LogicalPlan::Sort(sort));
    };
    if limited == Some(fetch) {
        return Transformed::new(LogicalPlan::Sort(sort), false, TreeNodeRecursion::Jump);
    }
    let sort = LogicalPlan::Sort(sort);
    match (Query::of(&sort), sort) {
        (Some(query), LogicalPlan::Sort(sort)) => {
            let input = Arc::new(Remote::node(query, &sort.input, Some(fetch)));
            Transformed::new(LogicalPlan::Sort(Sort { input, ..sort }), true, TreeNodeRecursion::Jump)
        }
        (_, sort) => Transformed::no(sort),
    }
}

/// Whether the rows come in an order that somebody may rely on.
fn is_ordered(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Sort(_) => true,
        LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) | LogicalPlan::Limit(_) | LogicalPlan::Filter(_) => {
            plan.inputs().into_iter().any(is_ordered)
        }
        _ => false,
    }
}

/// Whether the server is to do more than a scan does: choose columns and rows of one table.
fn is_worth_it(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Join(_) | LogicalPlan::Aggregate(_) => true,
        LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) | LogicalPlan::Filter(_) | LogicalPlan::Limit(_) => {
            plan.inputs().into_iter().any(|input| is_worth_it(input) || Remote::at(input).is_some())
        }
        _ => false,
    }
}

fn is_foreign(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::TableScan(scan) => {
            source_as_provider(&scan.source).is_ok_and(|provider| provider.is::<ForeignTable>())
        }
        plan => Remote::at(plan).is_some(),
    }
}

/// The rows that a query of a foreign server gives.
#[derive(Debug, Clone)]
pub struct Remote {
    pub query: Query,
    schema: DFSchemaRef,
    /// Only so many come, the first by the order that stands above.
    first: Option<usize>,
}

impl Remote {
    /// The query in the place of the plan.
    fn node(query: Query, plan: &LogicalPlan, first: Option<usize>) -> LogicalPlan {
        let schema = Arc::clone(plan.schema());
        LogicalPlan::Extension(Extension { node: Arc::new(Self { query, schema, first }) })
    }

    fn at(plan: &LogicalPlan) -> Option<&Self> {
        let LogicalPlan::Extension(extension) = plan else { return None };
        extension.node.as_any().downcast_ref()
    }
}

impl PartialEq for Remote {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.query.server, &other.query.server)
            && self.query.sql == other.query.sql
            && self.schema == other.schema
            && self.first == other.first
    }
}

impl Eq for Remote {}

impl Hash for Remote {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.query.sql.hash(state);
    }
}

impl PartialOrd for Remote {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.query.sql.cmp(&other.query.sql)).filter(|order| *order != Ordering::Equal || self == other)
    }
}

impl UserDefinedLogicalNodeCore for Remote {
    fn name(&self) -> &'static str {
        "ForeignQuery"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        Vec::new()
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ForeignQuery: server={}, query={}", self.query.server.name(), self.query.sql)
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, inputs: Vec<LogicalPlan>) -> DataFusionResult<Self> {
        match inputs.is_empty() {
            true => Ok(self.clone()),
            false => Err(Error::internal("a foreign query stands over no plan").into()),
        }
    }
}

/// Makes scans of foreign queries.
pub struct Queries;

#[async_trait]
impl ExtensionPlanner for Queries {
    async fn plan_extension(
        &self,
        _: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _: &[&LogicalPlan],
        _: &[Arc<dyn ExecutionPlan>],
        _: &dyn Session,
        _: &PhysicalPlanningContext,
    ) -> DataFusionResult<Option<Arc<dyn ExecutionPlan>>> {
        let Some(remote) = node.as_any().downcast_ref::<Remote>() else { return Ok(None) };
        let columns = Arc::clone(remote.schema.inner());
        let rows = remote.first.map_or(Precision::Absent, Precision::Inexact);
        Ok(Some(Arc::new(ForeignScanExec::new(remote.query.clone(), columns, rows))))
    }
}
