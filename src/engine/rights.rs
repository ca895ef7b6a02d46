//! What a role may do, and the one place where plans are held against it.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::Column;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::datasource::provider_as_source;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{DmlStatement, Expr, LogicalPlan, LogicalPlanBuilder, TableScan, WriteOp};

use crate::engine::guarded::{Behind, Guarded, GuardedFiles, Note, Says, SomeColumns};
use crate::engine::sight::KeptPlanner;
use crate::engine::{identity, rules};
use crate::error::{Error, Kind, Result};
use crate::functions::asked_model;
use crate::models::ModelName;
use crate::storage::{Access, ModelRow, Object, PolicyCommand, Privilege, Relation, RelationType, RoleId, Store};

const READING: &[PolicyCommand] = &[PolicyCommand::Select];

/// The rights of one role, as the catalog has them now.
pub struct Rights {
    store: Arc<Store>,
    access: Arc<Access>,
    /// Plans the conditions of policies.
    planner: Arc<KeptPlanner>,
    role: RoleId,
    /// The role, and those whose rights it has without SET ROLE.
    active: HashSet<RoleId>,
    superuser: bool,
    /// The tables whose policies are being applied, one inside the other: what they read of the last is not filtered again.
    inside: Vec<i64>,
    /// What is to be done with the rows of a table whose rows' numbers are read.
    changing: &'static [PolicyCommand],
}

impl Rights {
    pub fn of(store: &Arc<Store>, planner: &Arc<KeptPlanner>, role: RoleId) -> Result<Self> {
        let access = store.access();
        let Some(found) = access.role(role) else {
            return Err(Error::new(Kind::UnknownRole, "the role that this session acts as was dropped")
                .hint("RESET ROLE, or connect again"));
        };
        Ok(Self {
            store: Arc::clone(store),
            planner: Arc::clone(planner),
            role,
            active: access.inherited_by(role),
            superuser: found.superuser,
            inside: Vec::new(),
            changing: READING,
            access,
        })
    }

    /// The rights of another role, for what is done in its name: its views, its models.
    pub fn acting_as(&self, role: RoleId) -> Result<Self> {
        Ok(Self { inside: self.inside.clone(), ..Self::of(&self.store, &self.planner, role)? })
    }

    /// The same rights, for a statement that does this with the rows that it numbers.
    pub fn changing(self, changing: &'static [PolicyCommand]) -> Self {
        Self { changing, ..self }
    }

    /// The same rights, for what the policies of a table read.
    pub fn applying_policies_of(&self, relation: &Relation) -> Result<Self> {
        let mut rights = self.acting_as(self.role)?;
        if rights.inside.contains(&relation.id) {
            let message = format!("infinite recursion detected in policy for relation \"{}\"", relation.name);
            return Err(Error::new(Kind::InvalidDefinition, message)
                .hint("its policies read a table whose policies read it: let one read a view of the tables' owner, who sees all rows"));
        }
        rights.inside.push(relation.id);
        Ok(rights)
    }

    /// Whether it is this table whose policies are being applied.
    pub fn is_inside(&self, relation: &Relation) -> bool {
        self.inside.last() == Some(&relation.id)
    }

    /// What plans conditions.
    pub fn planner(&self) -> Result<Arc<SessionState>> {
        self.planner.get()
    }

    pub fn role(&self) -> RoleId {
        self.role
    }

    /// Whether it is this role, or has its rights without SET ROLE.
    pub fn is_active(&self, role: RoleId) -> bool {
        self.active.contains(&role)
    }

    pub fn access(&self) -> &Access {
        &self.access
    }

    pub fn is_superuser(&self) -> bool {
        self.superuser
    }

    /// Whether it may do all that the owner may.
    pub fn owns(&self, owner: RoleId) -> bool {
        self.superuser || self.active.contains(&owner)
    }

    /// Whether it has a privilege on the whole of an object.
    pub fn has(&self, object: Object, owner: RoleId, privilege: Privilege) -> bool {
        self.owns(owner) || self.granted(object, privilege).any(|column| column.is_none())
    }

    /// Whether it has a privilege that it may hand on.
    pub fn may_grant(&self, object: Object, owner: RoleId, privilege: Privilege) -> bool {
        let grants = self.access.grants(object).iter();
        self.owns(owner)
            || grants
                .filter(|grant| grant.grantable && grant.column.is_none())
                .any(|grant| grant.privilege == privilege && self.active.contains(&grant.grantee))
    }

    /// The columns, or `None` for the whole, that a privilege was granted on.
    pub fn granted(&self, object: Object, privilege: Privilege) -> impl Iterator<Item = Option<&str>> {
        let grants = self.access.grants(object).iter();
        let held = grants.filter(move |grant| {
            grant.privilege == privilege && (grant.grantee == RoleId::PUBLIC || self.active.contains(&grant.grantee))
        });
        held.map(|grant| grant.column.as_deref())
    }

    pub fn must_be_superuser(&self, what: &str) -> Result<()> {
        match self.superuser {
            true => Ok(()),
            false => Err(Error::new(Kind::Denied, format!("must be superuser to {what}"))),
        }
    }

    /// The files of the server are the superuser's.
    pub fn must_read_files(&self) -> Result<()> {
        self.must_be_superuser("read files of the server").map_err(|error| {
            error.hint("a superuser makes a table of them, CREATE EXTERNAL TABLE, and grants SELECT on it")
        })
    }

    pub fn must(&self, relation: &Relation, privilege: Privilege) -> Result<()> {
        self.must_use_schema(&relation.schema)?;
        match self.has(Object::Relation(relation.id), relation.owner, privilege) {
            true => Ok(()),
            false => Err(denied(spoken(relation), &relation.name)),
        }
    }

    /// The same of some columns, which the privilege may have been granted on one by one.
    pub fn must_on_columns(&self, relation: &Relation, privilege: Privilege, columns: &[usize]) -> Result<()> {
        self.must_use_schema(&relation.schema)?;
        let object = Object::Relation(relation.id);
        if self.has(object, relation.owner, privilege) {
            return Ok(());
        }
        let granted: HashSet<&str> = self.granted(object, privilege).flatten().collect();
        let may = |at: &usize| granted.contains(relation.columns.field(*at).name().as_str());
        match !columns.is_empty() && columns.iter().all(may) {
            true => Ok(()),
            false => Err(denied(spoken(relation), &relation.name)),
        }
    }

    /// Names in a schema mean something to whoever has USAGE of it. Of the system's everybody has.
    pub fn must_use_schema(&self, schema: &str) -> Result<()> {
        self.must_on_schema(schema, Privilege::Usage)
    }

    pub fn must_create_in(&self, schema: &str) -> Result<()> {
        self.must_on_schema(schema, Privilege::Create)
    }

    fn must_on_schema(&self, schema: &str, privilege: Privilege) -> Result<()> {
        match self.store.schema_owner(schema) {
            Some((id, owner)) if !self.has(Object::Schema(id), owner, privilege) => Err(denied("schema", schema)),
            _ => Ok(()),
        }
    }

    pub fn must_create_schemas(&self) -> Result<()> {
        match self.has(Object::Database, RoleId::FIRST, Privilege::Create) {
            true => Ok(()),
            false => Err(denied("database", crate::engine::catalog::CATALOG)),
        }
    }

    pub fn must_own(&self, relation: &Relation) -> Result<()> {
        self.must_be_owner(relation.owner, spoken(relation), &relation.name)
    }

    /// DROP is for the owner of the relation, and for the owner of its schema.
    pub fn must_be_allowed_to_drop(&self, relation: &Relation) -> Result<()> {
        match self.store.schema_owner(&relation.schema) {
            Some((_, owner)) if self.owns(owner) => Ok(()),
            _ => self.must_own(relation),
        }
    }

    pub fn must_own_schema(&self, schema: &str) -> Result<()> {
        match self.store.schema_owner(schema) {
            Some((_, owner)) => self.must_be_owner(owner, "schema", schema),
            None => Ok(()),
        }
    }

    pub fn must_own_model(&self, model: &ModelRow) -> Result<()> {
        self.must_be_owner(model.owner, "model", &model.name)
    }

    fn must_be_owner(&self, owner: RoleId, kind: &str, name: &str) -> Result<()> {
        match self.owns(owner) {
            true => Ok(()),
            false => Err(Error::new(Kind::Denied, format!("must be owner of {kind} {name}"))),
        }
    }

    /// Asking a model is for whoever has USAGE of it.
    pub fn must_ask(&self, name: &ModelName) -> Result<()> {
        let Some(model) = self.store.model(&name.schema, &name.name)? else { return Ok(()) };
        self.must_use_schema(&model.schema)?;
        match self.has(Object::Model(model.id), model.owner, Privilege::Usage) {
            true => Ok(()),
            false => Err(denied("model", &model.name)),
        }
    }

    /// The plan as this role may run it: every table, view and model in it is allowed, or this is an error. Whoever
    /// may see some rows or some columns of a table only gets a plan that reads no others.
    pub fn checked(&self, plan: LogicalPlan) -> Result<LogicalPlan> {
        Ok(plan.transform_down_with_subqueries(|node| Ok(self.node(node)?))?.data)
    }

    /// The same, of a query that is run in this role's name, whoever asks for it.
    pub fn checked_as_own(&self, plan: LogicalPlan) -> Result<LogicalPlan> {
        identity::acting(self.checked(plan)?, self.access.name(self.role))
    }

    fn node(&self, node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
        if let Some((says, input)) = Note::at(&node) {
            let input = match says {
                Says::Checked => input.clone(),
                Says::Asks(models) => {
                    for model in models {
                        self.must_ask(model)?;
                        let role = self.access.name(self.role);
                        tracing::debug!(target: "audit", role, %model, "a model is asked");
                    }
                    self.checked(input.clone())?
                }
            };
            return Ok(Transformed::new(input, true, TreeNodeRecursion::Jump));
        }
        self.expressions(&node)?;
        match node {
            LogicalPlan::TableScan(scan) => match Guarded::behind(&scan.source) {
                Some(guarded) => {
                    let read = self.read(scan, guarded.downcast_ref())?;
                    Ok(Transformed::new(read, true, TreeNodeRecursion::Jump))
                }
                None => match GuardedFiles::behind(&scan.source) {
                    Some(files) => {
                        self.must_read_files()?;
                        let scan = TableScan { source: provider_as_source(files), ..scan };
                        Ok(Transformed::new(LogicalPlan::TableScan(scan), true, TreeNodeRecursion::Jump))
                    }
                    None => Ok(Transformed::no(LogicalPlan::TableScan(scan))),
                },
            },
            LogicalPlan::Dml(write) => self.write(write).map(|write| Transformed::yes(LogicalPlan::Dml(write))),
            other => Ok(Transformed::no(other)),
        }
    }

    /// Models may be asked in any expression.
    fn expressions(&self, node: &LogicalPlan) -> Result<()> {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Some(model) = asked_model(expr)? {
                    self.must_ask(&ModelName::parse(model)?)?;
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })?;
        Ok(())
    }

    fn read(&self, scan: TableScan, guarded: Option<&Guarded>) -> Result<LogicalPlan> {
        let Guarded { relation, found_by, behind, .. } =
            guarded.ok_or_else(|| Error::internal("a relation without a guard"))?;
        self.must_use_schema(&relation.schema)?;
        match behind {
            Behind::View { plan, .. } => {
                self.must(relation, Privilege::Select)?;
                inlined(self.acting_as(relation.owner)?.checked(plan.as_ref().clone())?, scan)
            }
            Behind::Table(table) => self.read_table(relation, found_by, Arc::clone(table) as _, READING, scan),
            Behind::External(table) => self.read_table(relation, found_by, Arc::clone(table), READING, scan),
            Behind::Numbered(table) => self.read_table(relation, found_by, Arc::clone(table) as _, self.changing, scan),
            Behind::Foreign { unread, .. } => {
                // Nobody without the right learns whether they would be let in over there.
                self.readable(relation)?;
                self.read_table(relation, found_by, unread.read_by(self.role)?, READING, scan)
            }
        }
    }

    /// A table as this role sees it.
    fn read_table(
        &self,
        relation: &Relation,
        found_by: &str,
        table: Arc<dyn TableProvider>,
        commands: &[PolicyCommand],
        scan: TableScan,
    ) -> Result<LogicalPlan> {
        let readable = self.readable(relation)?;
        if let Some(rows) = self.visible_rows(relation, found_by, commands)? {
            return inlined(rows, scan);
        }
        let provider: Arc<dyn TableProvider> = match readable {
            Some(readable) => Arc::new(SomeColumns { table, relation: relation.clone(), readable }),
            None => table,
        };
        Ok(LogicalPlan::TableScan(TableScan { source: provider_as_source(provider), ..scan }))
    }

    /// The columns of a table that may be read; `None`: all.
    fn readable(&self, relation: &Relation) -> Result<Option<Vec<String>>> {
        let object = Object::Relation(relation.id);
        if self.has(object, relation.owner, Privilege::Select) {
            return Ok(None);
        }
        let columns: Vec<String> = self.granted(object, Privilege::Select).flatten().map(str::to_owned).collect();
        match columns.is_empty() {
            true => Err(denied(spoken(relation), &relation.name)),
            false => Ok(Some(columns)),
        }
    }

    fn write(&self, write: DmlStatement) -> Result<DmlStatement> {
        let Some(provider) = Guarded::behind(&write.target) else { return Ok(write) };
        let Some(Guarded { relation, behind, .. }) = provider.downcast_ref() else { return Ok(write) };
        let wanted: &[Privilege] = match write.op {
            WriteOp::Insert(_) | WriteOp::Ctas => &[Privilege::Insert],
            WriteOp::Delete => &[Privilege::Delete],
            WriteOp::Update => &[Privilege::Update],
            WriteOp::Truncate => &[Privilege::Truncate],
            // MERGE, and whatever else may come.
            _ => Privilege::ON_RELATIONS,
        };
        wanted.iter().try_for_each(|privilege| self.must(relation, *privilege))?;
        // Where policies hold an INSERT is planned as one of rows that are looked at.
        self.must_be_above_policies(relation, "this INSERT, which was prepared before they held, is")?;
        match behind {
            Behind::Table(table) => {
                let checks = rules::checks(&*self.planner.get()?, relation)?;
                let table = table.as_ref().clone().with_checks(checks);
                Ok(DmlStatement { target: provider_as_source(Arc::new(table)), ..write })
            }
            // Refused as what they are when they are written to.
            Behind::Numbered(_) | Behind::View { .. } | Behind::External(_) | Behind::Foreign { .. } => Ok(write),
        }
    }
}

pub fn denied(kind: &str, name: &str) -> Error {
    Error::new(Kind::Denied, format!("permission denied for {kind} {name}"))
}

/// What a relation is called in a message.
pub fn spoken(relation: &Relation) -> &'static str {
    match relation.kind.of() {
        RelationType::External if relation.is_foreign() => "foreign table",
        RelationType::Table => "table",
        RelationType::View => "view",
        RelationType::External => "external table",
    }
}

/// The plan in place of the scan that it stands for.
fn inlined(plan: LogicalPlan, scan: TableScan) -> Result<LogicalPlan> {
    let mut plan = LogicalPlanBuilder::from(plan);
    if let Some(projection) = &scan.projection {
        let columns = projection.iter().map(|at| Expr::Column(Column::from(plan.schema().qualified_field(*at))));
        let columns: Vec<Expr> = columns.collect();
        plan = plan.project(columns)?;
    }
    Ok(plan.alias(scan.table_name)?.build()?)
}

/// A name as SQL reads it whatever is in it.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
