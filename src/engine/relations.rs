//! Functions in FROM: each call is handed to its function, which plans it as ordinary nodes.

use std::cell::RefCell;
use std::fmt::{self, Debug};
use std::sync::Arc;

use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::{DFSchema, TableReference};
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::sql::parser::Statement as Sql;
use datafusion::sql::sqlparser::ast::{self, Ident, TableAlias, TableFactor};
use futures::FutureExt;

use crate::engine::fitted::must_get_model;
use crate::engine::guarded::{Note, Says};
use crate::engine::identity::Identity;
use crate::engine::rights::{Rights, quoted};
use crate::engine::sight::KeptPlanner;
use crate::engine::statements::CreateModel;
use crate::engine::temporary;
use crate::engine::versions::{self, Wanted};
use crate::error::{Error, Kind, Result};
use crate::functions::{Call, Moment, Planner, function};
use crate::models::{Fitted, ModelName, Registry};
use crate::storage::{self, Privilege, Store};

/// Plans the relations of [`crate::functions::FUNCTIONS`].
pub struct FunctionPlanner {
    store: Arc<Store>,
    registry: Arc<Registry>,
    /// Plans the queries that models were trained on.
    kept: Arc<KeptPlanner>,
}

impl FunctionPlanner {
    pub fn new(store: Arc<Store>, registry: Arc<Registry>, kept: Arc<KeptPlanner>) -> Self {
        Self { store, registry, kept }
    }
}

impl Debug for FunctionPlanner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FunctionPlanner")
    }
}

impl RelationPlanner for FunctionPlanner {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> DataFusionResult<RelationPlanning> {
        let name = match &relation {
            TableFactor::Table { name, args: Some(_), .. } | TableFactor::Function { name, .. } => name.to_string(),
            _ => return Ok(RelationPlanning::Original(Box::new(relation))),
        };
        let Some(function) = function(&name) else {
            // DataFusion plans the arguments first, and complains of a query among them before it finds that nobody
            // wants it.
            let known =
                context.context_provider().get_table_function_source(&name.to_lowercase().replace('"', ""), Vec::new());
            return match known.err().map(Error::from) {
                Some(unknown) if unknown.kind == Kind::UnknownFunction => Err(unknown.into()),
                _ => Ok(RelationPlanning::Original(Box::new(relation))),
            };
        };
        let (args, alias, lateral) = match relation {
            TableFactor::Table { args: Some(args), alias, .. } => (args.args, alias, false),
            TableFactor::Function { args, alias, lateral, .. } => (args, alias, lateral),
            other => return Ok(RelationPlanning::Original(Box::new(other))),
        };
        let Some(plan) = function.relation() else {
            let example = function.doc().syntax.first().copied().unwrap_or_default();
            return Err(Error::unsupported(format!("{name}() gives one value, it is not a table"))
                .hint(format!("call it in SELECT: {example}"))
                .into());
        };
        let call = Call::new(function.name(), args)?;
        let mut context = Context { planner: self, context, lateral, asked: RefCell::default() };
        let plan = plan(call, &mut context)?;
        let plan = match context.asked.into_inner() {
            asked if asked.is_empty() => plan,
            asked => Note::on(plan, Says::Asks(asked)),
        };
        // As in Postgres a function is called by its own name unless it is given another. And DataFusion finds columns
        // without any ambiguous as soon as a query in WHERE has some of their names.
        let alias = alias.or_else(|| Some(named(function.name())));
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
    }
}

fn named(function: &str) -> TableAlias {
    TableAlias { explicit: true, name: Ident::new(function), columns: Vec::new(), at: None }
}

/// DataFusion's planner as functions see it.
struct Context<'a> {
    planner: &'a FunctionPlanner,
    context: &'a mut dyn RelationPlannerContext,
    /// The function stands beside a relation, and may be asked about its rows.
    lateral: bool,
    /// The models that the function asked for.
    asked: RefCell<Vec<ModelName>>,
}

impl Planner for Context<'_> {
    fn registry(&self) -> &Arc<Registry> {
        &self.planner.registry
    }

    fn model(&self, name: &str) -> Result<Fitted> {
        let fitted = self.planner.registry.get(name)?;
        // What is planned for a session is refused here already, before a function tells anything of the model. What is
        // kept is planned for nobody, and checked as its owner's.
        let planner = self.planner;
        if let Some(identity) = self.context.context_provider().options().extensions.get::<Identity>() {
            Rights::of(&planner.store, &planner.kept, identity.current_role)?.must_ask(&fitted.name)?;
        }
        self.asked.borrow_mut().push(fitted.name.clone());
        Ok(fitted)
    }

    fn query(&mut self, query: ast::Query) -> Result<LogicalPlan> {
        let subquery = TableFactor::Derived { lateral: false, subquery: Box::new(query), alias: None, sample: None };
        Ok(self.context.plan(subquery)?)
    }

    fn constant(&mut self, expr: ast::Expr) -> Result<Expr> {
        let shown = expr.to_string();
        match self.constant_or_beside(expr)? {
            beside if beside.contains_outer() && self.lateral => {
                Err(Error::unsupported(format!("this argument is the same for all rows, it cannot be {shown}"))
                    .hint("of each row are the customer, the product, the basket or the seeds, and nothing else"))
            }
            beside if beside.contains_outer() => Err(not_constant(&shown)),
            constant => Ok(constant),
        }
    }

    fn table_at(&mut self, table: &str, moment: Moment) -> Result<LogicalPlan> {
        let relation = self.relation(table)?;
        versions::stored(&relation)?;
        let moment = match moment {
            Moment::Version(version) => storage::Moment::Version(version),
            Moment::Time(time) => storage::Moment::Time(time),
        };
        let version = self.planner.store.at(&relation, moment)?.version;
        let (schema, name) = (quoted(&relation.schema), quoted(&Wanted::At(version).name(&relation.name)));
        self.sql(&format!("SELECT * FROM {schema}.{name}"))
    }

    fn table_history(&mut self, table: &str) -> Result<RecordBatch> {
        let relation = self.relation(table)?;
        // What is planned for a session is refused here already: the rows are made while the query is planned.
        let planner = self.planner;
        if let Some(identity) = self.context.context_provider().options().extensions.get::<Identity>() {
            let rights = Rights::of(&planner.store, &planner.kept, identity.current_role)?;
            rights.must(&relation, Privilege::Select)?;
        }
        versions::history(&planner.store, &relation)
    }

    fn table_changes(&mut self, table: &str, from: u64, to: Option<u64>) -> Result<LogicalPlan> {
        let relation = self.relation(table)?;
        let query = versions::changes(&self.planner.store, &relation, from, to)?;
        self.sql(&query)
    }

    fn constant_or_beside(&mut self, expr: ast::Expr) -> Result<Expr> {
        let shown = expr.to_string();
        self.context.sql_to_expr(expr, &DFSchema::empty()).map_err(|error| {
            let error = Error::from(error);
            if error.kind == Kind::UnknownColumn && !self.lateral { not_constant(&shown) } else { error }
        })
    }

    fn training_query(&mut self, fitted: &Fitted) -> Result<LogicalPlan> {
        let _guard = Asked::once(fitted)?;
        let kept = self.planner.kept.get()?;
        let (statement, schema) = self.planner.registry.statement(fitted)?;
        let query = ast::Statement::Query(CreateModel::stored(&statement)?.query);
        let mut state = SessionState::clone(&kept);
        state.config_mut().options_mut().catalog.default_schema = schema;
        // Tables are found in memory: nothing waits.
        let planning = state.statement_to_plan(Sql::Statement(Box::new(query))).now_or_never();
        let plan = planning.ok_or_else(|| Error::internal("planning a training query waits"))?;
        // Whoever asks a model need not be allowed to read what it was trained on: its owner is.
        let store = &self.planner.store;
        let model = must_get_model(store, &fitted.name)?;
        let rights = Rights::of(store, &self.planner.kept, model.owner)?;
        let plan = plan.map_err(Error::from).and_then(|plan| rights.checked_as_own(plan));
        plan.map(|plan| Note::on(plan, Says::Checked)).map_err(|error| {
            if error.kind == Kind::Unsupported {
                return error;
            }
            let message = format!("the query that trained model \"{}\" cannot run: {error}", fitted.asked);
            Error { message, ..error }
        })
    }
}

impl Context<'_> {
    /// The relation of that name.
    fn relation(&self, name: &str) -> Result<storage::Relation> {
        let schema = &self.context.context_provider().options().catalog.default_schema;
        let store = &self.planner.store;
        let name = temporary::resolved(TableReference::parse_str(name), schema, store);
        match store.relation(&name.schema, &name.table)? {
            Some(relation) => Ok(relation),
            None => {
                let known = store.relations(&name.schema)?;
                let message = format!("relation \"{}\" does not exist", name.table);
                Err(Error::new(Kind::UnknownTable, message)
                    .suggest(&name.table, known.iter().map(|relation| relation.name.as_str())))
            }
        }
    }

    /// Plans a query of ours. Its tables are looked up here: the query around it was searched for names before.
    fn sql(&mut self, query: &str) -> Result<LogicalPlan> {
        let kept = self.planner.kept.get()?;
        // Tables are found in memory: nothing waits.
        let planned = kept.create_logical_plan(query).now_or_never();
        Ok(planned.ok_or_else(|| Error::internal("planning a version of a table waits"))??)
    }
}

thread_local! {
    /// The models whose training queries are being planned on this thread, one inside the other.
    static ASKED: RefCell<Vec<ModelName>> = const { RefCell::new(Vec::new()) };
}

/// A training query that is being planned. One that asks its own model would be planned without end.
struct Asked;

impl Asked {
    fn once(fitted: &Fitted) -> Result<Self> {
        ASKED.with_borrow_mut(|asked| {
            if asked.contains(&fitted.name) {
                return Err(Error::unsupported(format!(
                    "the query that trained model \"{}\" asks it itself",
                    fitted.asked
                ))
                .hint("name an older version in the query: model@1"));
            }
            asked.push(fitted.name.clone());
            Ok(Self)
        })
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        ASKED.with_borrow_mut(Vec::pop);
    }
}

fn not_constant(shown: &str) -> Error {
    Error::invalid(format!("an argument must be a constant, not {shown}"))
        .hint("for many values give a query in its own parentheses: (SELECT … FROM …)")
}
