//! The store as a session sees it, and a state that plans and reads through it.
//!
//! Sessions share one sight of what is committed. One that opens a transaction gets its own, and keeps it: names in its
//! statements, views, policies, models and `pg_catalog` are then looked up in what its transaction has made.

use std::sync::{Arc, PoisonError, RwLock};

use datafusion::catalog::CatalogProviderList;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::session_state::SessionState;
use datafusion::optimizer::{Analyzer, AnalyzerRule};
use datafusion::prelude::{SessionConfig, SessionContext};

use crate::engine::activity::Activity;
use crate::engine::catalog::Catalogs;
use crate::engine::files::FilePlanner;
use crate::engine::fitted::FittedModels;
use crate::engine::foreign::Gateway;
use crate::engine::lateral::Lateral;
use crate::engine::lifted::Lifted;
use crate::engine::pieces::Cuts;
use crate::engine::relations::FunctionPlanner;
use crate::engine::sorts::QuickSorts;
use crate::engine::wildcards::Wildcards;
use crate::engine::{
    ages, arithmetic, barrier, bounded, empty_arrays, identity, literals, pg_catalog, pg_json, pg_text,
    privilege_functions, signals, sleep, text_casts,
};
use crate::error::{Error, Kind, Result};
use crate::foreign::Pushdown;
use crate::functions::FUNCTIONS;
use crate::models::Registry;
use crate::storage::Store;

/// Plans what is kept as SQL: views, training queries, policies.
///
/// It knows all that is looked up here, and some of that knows it: whoever no longer needs it must close it.
#[derive(Default)]
pub struct KeptPlanner {
    state: RwLock<Option<Arc<SessionState>>>,
}

impl KeptPlanner {
    pub fn get(&self) -> Result<Arc<SessionState>> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.clone().ok_or_else(|| Error::new(Kind::ShuttingDown, "the session has ended"))
    }

    fn set(&self, state: Option<SessionState>) {
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = state.map(Arc::new);
    }
}

pub struct Sight {
    pub store: Arc<Store>,
    pub registry: Arc<Registry>,
    /// The way to foreign servers.
    pub gateway: Arc<Gateway>,
    pub planner: Arc<KeptPlanner>,
}

/// What all sights have in common.
pub struct Common {
    pub settings: SessionConfig,
    pub runtime: Arc<RuntimeEnv>,
    pub activity: Arc<Activity>,
    /// When the server was, in microseconds since 1970, UTC.
    pub started: i64,
    pub postgres: pg_catalog::Fixed,
}

impl Sight {
    /// The first sight of a store.
    pub fn new(store: Arc<Store>, environment: fn(&str) -> Option<String>) -> Self {
        let registry = Registry::new(Arc::new(FittedModels::new(Arc::clone(&store))));
        let gateway = Gateway::new(Arc::clone(&store), environment);
        Self { store, registry: Arc::new(registry), gateway: Arc::new(gateway), planner: Arc::default() }
    }

    /// Another sight, with transactions of its own. What is loaded and what is connected is shared.
    pub fn for_session(&self) -> Self {
        let store = self.store.for_session();
        let registry = self.registry.with_store(Arc::new(FittedModels::new(Arc::clone(&store))));
        let gateway = self.gateway.with_store(Arc::clone(&store));
        Self { store, registry: Arc::new(registry), gateway: Arc::new(gateway), planner: Arc::default() }
    }

    /// A state that looks names up here, and from here on the planner of what is kept.
    pub fn state(&self, common: &Common) -> Result<SessionState> {
        let (store, planner) = (&self.store, &self.planner);
        let activity = Arc::clone(&common.activity);
        let catalogs = Catalogs::new(Arc::clone(store), Arc::clone(&self.gateway), Arc::clone(planner), activity);
        let catalogs: Arc<dyn CatalogProviderList> = Arc::new(catalogs);
        let functions = FunctionPlanner::new(Arc::clone(store), Arc::clone(&self.registry), Arc::clone(planner));
        let files = FilePlanner::new(Arc::clone(store), Arc::clone(planner));
        let mut rules = Analyzer::default().rules;
        rules.splice(
            0..0,
            [Arc::new(Wildcards) as Arc<dyn AnalyzerRule + Send + Sync>, Arc::new(Lateral), Arc::new(Lifted)],
        );
        let state = SessionStateBuilder::new()
            .with_config(common.settings.clone())
            .with_runtime_env(Arc::clone(&common.runtime))
            .with_catalog_list(Arc::clone(&catalogs))
            .with_default_features()
            .with_analyzer_rules(rules)
            .with_optimizer_rule(Arc::new(Pushdown))
            .with_physical_optimizer_rule(Arc::new(Cuts))
            .with_physical_optimizer_rule(Arc::new(QuickSorts))
            .with_query_planner(Arc::new(barrier::Planner))
            .with_relation_planners(vec![Arc::new(functions), Arc::new(files)])
            .build();
        let mut context = SessionContext::new_with_state(state);
        pg_catalog::register(&mut context, common, store, &catalogs, Arc::clone(planner))?;
        pg_text::register(&context);
        pg_json::register(&mut context)?;
        ages::register(&context);
        text_casts::register(&mut context);
        literals::register(&mut context)?;
        empty_arrays::register(&context);
        identity::register(&context);
        privilege_functions::register(&context, store, planner);
        signals::register(&context, store, &common.activity);
        sleep::register(&context);
        bounded::register(&context)?;
        arithmetic::register(&mut context)?;
        for function in FUNCTIONS {
            for scalar in function.scalars(&self.registry) {
                context.register_udf(scalar);
            }
            for aggregate in function.aggregates(&self.registry) {
                context.register_udaf(aggregate);
            }
        }
        let state = context.state();
        planner.set(Some(state.clone()));
        Ok(state)
    }

    /// Nobody looks through it any more: what was not committed is taken back.
    pub fn close(&self) {
        self.store.roll_back();
        self.planner.set(None);
    }
}
