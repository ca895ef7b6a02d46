//! A statement that is run again and again, as drivers and dashboards do: what was made of its plan is kept for the next run.
//!
//! Only where that is sure to be the same: a query of stored tables as they were, of functions that always answer alike. Of
//! one with parameters the plan is kept that is optimised without their values, from its second run on: the first, which
//! may be the only one, is made for its values. Where the values are but what a model is asked about, the plan that ran is
//! kept, too, and the next values are put into it where the last ones are.

mod parameters;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use datafusion::arrow::record_batch::RecordBatch;
use datafusion::catalog::memory::DataSourceExec;
use datafusion::common::ScalarValue;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};
use datafusion::physical_expr::expressions::Literal;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::placeholder_row::PlaceholderRowExec;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};

use crate::engine::again::parameters::{are_alike, bound, can_be_bound, marked, only_asks};
use crate::engine::bounded::batch_rows;
use crate::engine::guarded::table_read;
use crate::engine::session::lock;
use crate::error::Result;
use crate::functions::asked_model;
use crate::storage::RelationKind;

/// What was made of a plan, by the options that it was made with.
#[derive(Debug, Default)]
pub(super) struct Again {
    kept: Mutex<Option<(Arc<ConfigOptions>, Made)>>,
    has_run: AtomicBool,
}

/// One of the runs of a plan, with the values of its parameters.
pub(super) struct Run {
    pub again: Arc<Again>,
    pub values: Vec<ScalarValue>,
}

/// How far a plan is on its way to being run.
#[derive(Debug, Clone)]
pub(super) struct Made {
    pub optimized: LogicalPlan,
    /// So many rows are in its batches.
    pub batch_rows: usize,
    /// It asks a model, which may take long for each row.
    pub asks_models: bool,
    physical: Option<Arc<dyn ExecutionPlan>>,
    /// The values that go into `physical`, or that are in it where it is kept; none where it is for one statement alone.
    values: Vec<ScalarValue>,
    /// What it answers, where that is in the plan.
    answer: Option<RecordBatch>,
}

impl Made {
    pub(super) fn new(optimized: LogicalPlan) -> Result<Self> {
        let (batch_rows, asks_models) = (batch_rows(&optimized)?, asks_models(&optimized)?);
        Ok(Self { optimized, batch_rows, asks_models, physical: None, values: Vec::new(), answer: None })
    }

    /// A plan that lacks the values of its parameters. It asks models where it does nothing else with them.
    fn for_all(optimized: LogicalPlan) -> Self {
        let asks_models = only_asks(&optimized).unwrap_or(false);
        Self { optimized, batch_rows: 0, asks_models, physical: None, values: Vec::new(), answer: None }
    }

    /// The plan that has run before, ready to run again.
    pub(super) fn physical(&self) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(physical) = self.physical.clone() else { return Ok(None) };
        Ok(Some(if self.values.is_empty() { reset_plan_states(physical)? } else { bound(physical, &self.values)? }))
    }
}

impl Again {
    /// For a plan that may be kept; `None`: it is made anew each time.
    pub(super) fn of(plan: &LogicalPlan) -> Option<Arc<Self>> {
        is_alike(plan).is_ok_and(|alike| alike).then(Arc::default)
    }

    /// Something of what was made under these options.
    fn made<T>(&self, options: &Arc<ConfigOptions>, part: impl FnOnce(&Made) -> T) -> Option<T> {
        let kept = lock(&self.kept);
        kept.as_ref().filter(|(of, _)| Arc::ptr_eq(of, options)).map(|(_, made)| part(made))
    }

    fn keep(&self, options: &Arc<ConfigOptions>, made: Made) {
        *lock(&self.kept) = Some((Arc::clone(options), made));
    }
}

impl Run {
    /// What is to be run this time.
    pub(super) fn made(&self, state: &SessionState, plan: LogicalPlan, options: &Arc<ConfigOptions>) -> Result<Made> {
        if self.values.is_empty() {
            return self.again.made(options, Made::clone).map_or_else(|| Made::new(state.optimize(&plan)?), Ok);
        }
        let is_first = !self.again.has_run.swap(true, Ordering::Relaxed);
        let for_all = match self.again.made(options, Made::clone) {
            Some(kept) if kept.physical.is_some() && are_alike(&kept.values, &self.values) => {
                return Ok(Made { values: self.values.clone(), ..kept });
            }
            Some(kept) => Some(kept),
            None if is_first => None,
            None => state.optimize(&plan).ok().map(Made::for_all),
        };
        let Some(for_all) = for_all else {
            return Made::new(state.optimize(&plan.with_param_values(self.values.clone())?)?);
        };
        self.again.keep(options, for_all.clone());
        let values = if for_all.asks_models { marked(&self.values) } else { self.values.clone().into() };
        Made::new(for_all.optimized.with_param_values(values)?)
    }

    /// Keeps what was made for the next run.
    pub(super) fn keep(&self, options: &Arc<ConfigOptions>, made: Made, physical: &Arc<dyn ExecutionPlan>) {
        if self.values.is_empty() {
            let answer = answer(physical);
            let physical = can_run_again(physical).then(|| Arc::clone(physical));
            return self.again.keep(options, Made { physical, answer, ..made });
        }
        let for_all = self.again.made(options, |kept| kept.asks_models.then(|| kept.optimized.clone())).flatten();
        let is_plain = are_alike(&self.values, &self.values);
        if let Some(optimized) = for_all.filter(|for_all| is_plain && can_be_bound(for_all, physical)) {
            let (physical, values) = (Some(Arc::clone(physical)), self.values.clone());
            self.again.keep(options, Made { optimized, physical, values, ..made });
        }
    }

    /// The one row that a query without tables answers, as pools of connections ask it to see whether anybody is there.
    pub(super) fn answer(&self, options: &Arc<ConfigOptions>) -> Option<RecordBatch> {
        self.again.made(options, |made| made.answer.clone()).flatten()
    }
}

fn asks_models(plan: &LogicalPlan) -> Result<bool> {
    let mut asks = false;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            asks |= expr.exists(|expr| Ok(asked_model(expr)?.is_some()))?;
            Ok(if asks { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })
    })?;
    Ok(asks)
}

/// Whether a query of the same tables answers the same whenever it runs.
fn is_alike(plan: &LogicalPlan) -> DataFusionResult<bool> {
    let mut alike = true;
    plan.apply_with_subqueries(|node| {
        alike &= match node {
            LogicalPlan::TableScan(scan) => {
                table_read(&scan.source).is_some_and(|read| matches!(read.kind, RelationKind::Table(_)))
            }
            LogicalPlan::Extension(_)
            | LogicalPlan::RecursiveQuery(_)
            | LogicalPlan::Ddl(_)
            | LogicalPlan::Dml(_)
            | LogicalPlan::Copy(_)
            | LogicalPlan::Statement(_)
            | LogicalPlan::Explain(_)
            | LogicalPlan::Analyze(_) => false,
            // In 55.2 the operator of ORDER BY with LIMIT panics at 0: the optimizer has to see it.
            LogicalPlan::Limit(_) => !node.expressions().iter().any(has_parameter),
            _ => true,
        };
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                alike &= is_constant(expr);
                Ok(if alike { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
            })
        })?;
        Ok(if alike { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    Ok(alike)
}

/// Whether this much of an expression answers the same whenever it is asked the same.
fn is_constant(expr: &Expr) -> bool {
    match expr {
        // A model's version is in the plan, and a version never changes.
        Expr::ScalarFunction(call) => {
            call.func.signature().volatility == Volatility::Immutable
                || asked_model(expr).is_ok_and(|model| model.is_some())
        }
        // What it will be is known, so that it can be planned around it.
        Expr::Placeholder(parameter) => parameter.field.is_some(),
        _ => true,
    }
}

fn has_parameter(expr: &Expr) -> bool {
    expr.exists(|expr| Ok(matches!(expr, Expr::Placeholder(_)))).unwrap_or(true)
}

/// The row of a plan that consists of nothing but its values.
fn answer(plan: &Arc<dyn ExecutionPlan>) -> Option<RecordBatch> {
    let projection = plan.downcast_ref::<ProjectionExec>().filter(|made| made.input().is::<PlaceholderRowExec>())?;
    let value = |made: &ProjectionExpr| made.expr.downcast_ref::<Literal>()?.value().to_array_of_size(1).ok();
    let values = projection.expr().iter().map(value).collect::<Option<Vec<_>>>()?;
    RecordBatch::try_new(plan.schema(), values).ok()
}

/// Whether nothing in a plan remembers that it has run: joins and sorts tell the scans below them what they have found.
fn can_run_again(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let forgets = plan.is::<ProjectionExec>()
        || plan.is::<FilterExec>()
        || plan.is::<CoalescePartitionsExec>()
        || plan.is::<DataSourceExec>()
        || plan.is::<PlaceholderRowExec>()
        || plan.is::<EmptyExec>();
    forgets && plan.children().into_iter().all(can_run_again)
}
