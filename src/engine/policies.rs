//! What row level security leaves of a table to a role: which rows it sees, and which it may write.
//!
//! A row must satisfy one of the permissive policies for what is done, and all restrictive ones. Rows that are read are
//! filtered; a row that is written and does not satisfy them is an error.

use std::sync::Arc;

use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{Field, Schema};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use futures::{FutureExt, TryStreamExt};
use tokio_util::sync::CancellationToken;

use crate::engine::Session;
use crate::engine::barrier::Barrier;
use crate::engine::rights::{Rights, quoted};
use crate::error::{Error, Kind, Result};
use crate::storage::{Policy, PolicyCommand, Relation, RoleId};

/// What rows must satisfy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Demand {
    /// Rows as they are, so that this may be done with them.
    There(PolicyCommand),
    /// Rows as this makes them.
    New(PolicyCommand),
}

impl Demand {
    fn command(self) -> PolicyCommand {
        match self {
            Self::There(command) | Self::New(command) => command,
        }
    }

    /// What a policy for it says of such rows. A policy that says nothing of new rows holds them to what it says of old ones.
    fn condition(self, policy: &Policy) -> Option<&str> {
        let new = policy.check.as_deref().filter(|_| matches!(self, Self::New(_)));
        new.or(policy.using.as_deref())
    }
}

/// A condition in SQL, and the restrictive policy that it is of.
struct Condition {
    policy: Option<String>,
    sql: String,
}

impl Rights {
    /// Whether no policy stands between this role and the rows of a relation.
    pub fn sees_all_rows(&self, relation: &Relation) -> bool {
        let bypasses = || self.access().role(self.role()).is_some_and(|role| role.bypass_rls);
        !relation.row_security || self.owns(relation.owner) || bypasses()
    }

    /// For what writes rows past the policies.
    pub fn must_be_above_policies(&self, relation: &Relation, what: &str) -> Result<()> {
        match self.sees_all_rows(relation) {
            true => Ok(()),
            false => Err(Error::unsupported(format!("{what} not supported with row-level security"))
                .hint("Use INSERT statements instead.")),
        }
    }

    /// The rows that policies leave for all that is to be done with them; `None`: all.
    pub(super) fn visible_rows(
        &self,
        relation: &Relation,
        found_by: &str,
        commands: &[PolicyCommand],
    ) -> Result<Option<LogicalPlan>> {
        if self.sees_all_rows(relation) || self.is_inside(relation) {
            return Ok(None);
        }
        let applying = self.applying_policies_of(relation)?;
        let conditions = commands.iter().flat_map(|command| self.conditions(relation, Demand::There(*command)));
        let conditions: Vec<String> = conditions.map(|condition| condition.sql).collect();
        let plan = self.planned(relation, "*", found_by, &conditions.join(" AND "))?;
        applying.checked(plan).map(Barrier::over).map(Some)
    }

    /// Without any permissive policy there is no row.
    fn conditions(&self, relation: &Relation, demand: Demand) -> Vec<Condition> {
        let concerns = |policy: &&Policy| {
            let is_for = |role: &RoleId| *role == RoleId::PUBLIC || self.is_active(*role);
            [PolicyCommand::All, demand.command()].contains(&policy.command) && policy.roles.iter().any(is_for)
        };
        let policies = self.access().policies(relation.id).iter().filter(concerns);
        let (restrictive, permissive): (Vec<&Policy>, Vec<&Policy>) = policies.partition(|policy| policy.restrictive);
        let sql = |policy: &Policy| demand.condition(policy).map(|condition| format!("({condition})"));
        let any: Vec<String> = permissive.into_iter().filter_map(sql).collect();
        let any = if any.is_empty() { "false".to_owned() } else { format!("({})", any.join(" OR ")) };
        let restrictive = restrictive
            .into_iter()
            .filter_map(|policy| Some(Condition { policy: Some(policy.name.clone()), sql: sql(policy)? }));
        std::iter::once(Condition { policy: None, sql: any }).chain(restrictive).collect()
    }

    /// A query of the table's rows that satisfy a condition of its policies.
    fn planned(&self, relation: &Relation, columns: &str, found_by: &str, condition: &str) -> Result<LogicalPlan> {
        let (schema, found_by, name) = (quoted(&relation.schema), quoted(found_by), quoted(&relation.name));
        let sql = format!("SELECT {columns} FROM {schema}.{found_by} AS {name} WHERE {condition}");
        let planner = self.planner()?;
        // Tables are found in memory: nothing waits.
        let planned = planner.create_logical_plan(&sql).now_or_never();
        planned.ok_or_else(|| Error::internal("planning a policy waits"))?.map_err(|error| {
            let error = Error::from(error);
            Error { message: format!("a policy of table \"{}\" cannot be applied: {error}", relation.name), ..error }
        })
    }
}

/// The policies that hold for the rows that a role writes into a table.
pub(super) struct RowPolicies {
    rights: Rights,
    relation: Relation,
}

impl RowPolicies {
    /// `None`: the role writes what it wants.
    pub(super) fn of(rights: Rights, relation: &Relation) -> Option<Self> {
        (!rights.sees_all_rows(relation)).then(|| Self { rights, relation: relation.clone() })
    }

    /// Refuses rows of all columns of the table that do not satisfy a demand.
    pub(super) async fn check(
        &self,
        state: &SessionState,
        rows: &RecordBatch,
        demand: Demand,
        cancel: &CancellationToken,
    ) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        for condition in self.rights.conditions(&self.relation, demand) {
            let plan = self.rights.planned(&self.relation, "1", &self.relation.name, &condition.sql)?;
            let plan = self.rights.applying_policies_of(&self.relation)?.checked(self.over(plan, rows)?)?;
            let mut satisfying = Session::stream(state.clone(), plan, cancel).await?;
            let mut n = 0;
            while let Some(batch) = satisfying.try_next().await? {
                n += batch.num_rows();
            }
            if n < rows.num_rows() {
                return Err(self.refused(&condition, demand));
            }
        }
        Ok(())
    }

    /// The query with these rows in the place of the table's, though not where its condition reads the table itself.
    fn over(&self, plan: LogicalPlan, rows: &RecordBatch) -> Result<LogicalPlan> {
        let columns = self.relation.columns.fields().iter().zip(rows.columns());
        let columns =
            columns.map(|(field, column)| Ok(cast(column, field.data_type())?)).collect::<Result<Vec<_>>>()?;
        // NULL where there may be none is refused by the writer.
        let fields = self.relation.columns.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<Field>>()));
        let rows = RecordBatch::try_new(Arc::clone(&schema), columns)?;
        let source = provider_as_source(Arc::new(MemTable::try_new(schema, vec![vec![rows]])?));
        let replaced = plan.transform_up(|node| match node {
            LogicalPlan::TableScan(scan) => {
                let scan = LogicalPlanBuilder::scan(scan.table_name, Arc::clone(&source), scan.projection)?;
                Ok(Transformed::yes(scan.build()?))
            }
            other => Ok(Transformed::no(other.recompute_schema()?)),
        })?;
        Ok(replaced.data)
    }

    fn refused(&self, condition: &Condition, demand: Demand) -> Error {
        let policy = condition.policy.as_ref().map_or(String::new(), |policy| format!(" \"{policy}\""));
        let name = &self.relation.name;
        let message = match demand {
            Demand::New(_) => format!("new row violates row-level security policy{policy} for table \"{name}\""),
            Demand::There(_) => {
                format!("target row violates row-level security policy{policy} (USING expression) for table \"{name}\"")
            }
        };
        Error::new(Kind::Denied, message)
            .hint(format!("SELECT * FROM pg_policies WHERE tablename = '{name}' shows what rows must satisfy"))
    }
}
