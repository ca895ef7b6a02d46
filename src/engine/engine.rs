//! What all sessions share: the store, the models, the threads and the memory.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};

use datafusion::catalog::CatalogProviderList;
use datafusion::common::config::Dialect;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::SessionState;
use datafusion::optimizer::{Analyzer, AnalyzerRule};
use datafusion::prelude::{SessionConfig, SessionContext};
use tokio::runtime::{Handle, Runtime};

use crate::engine::activity::Activity;
use crate::engine::catalog::{CATALOG, Catalogs};
use crate::engine::files::FilePlanner;
use crate::engine::fitted::FittedModels;
use crate::engine::foreign::Gateway;
use crate::engine::lateral::Lateral;
use crate::engine::login::{Connected, admitted};
use crate::engine::pieces::Cuts;
use crate::engine::relations::FunctionPlanner;
use crate::engine::rights::{Rights, denied};
use crate::engine::sorts::QuickSorts;
use crate::engine::wildcards::Wildcards;
use crate::engine::{
    Session, ages, arithmetic, barrier, bounded, empty_arrays, identity, literals, pg_catalog, pg_text,
    privilege_functions, signals, text_casts,
};
use crate::error::{Error, Kind, Result};
use crate::foreign::Pushdown;
use crate::functions::FUNCTIONS;
use crate::models::Registry;
use crate::storage::{Object, Privilege, RoleId, Store, TableId};

/// How an engine is started.
#[derive(Debug, Clone)]
pub struct Config {
    pub data_dir: PathBuf,
    /// Bytes that queries may hold at once; what is more spills to disk or is refused.
    pub memory_limit: usize,
    /// Threads for queries and training.
    pub threads: usize,
    /// Variables that passwords of foreign servers may be in.
    pub environment: fn(&str) -> Option<String>,
}

/// The database: shared by all connections.
pub struct Engine {
    pub(super) store: Arc<Store>,
    pub(super) registry: Arc<Registry>,
    pub(super) base: SessionState,
    /// Plans what is kept as SQL: views, training queries, policies.
    pub(super) planner: Arc<OnceLock<SessionState>>,
    /// How many sessions of each role there are.
    pub(super) connected: Arc<Connected>,
    pub(super) activity: Arc<Activity>,
    /// The way to foreign servers.
    pub(super) gateway: Arc<Gateway>,
    /// Microseconds since 1970, UTC.
    pub(super) started: i64,
    pub(super) memory_limit: usize,
    /// Tables whose small files are being compacted.
    pub(super) tidied: Mutex<HashSet<TableId>>,
    /// Plans run here, so that whoever serves sockets stays responsive. Taken out when the engine is dropped.
    work: Option<Runtime>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Engine({})", self.store.root().display())
    }
}

/// Large enough for a plan of thousands of expressions, which DataFusion walks recursively.
const STACK_BYTES: usize = 64 << 20;

/// A worker that is deep in one batch does not give way to other queries; the system's scheduler does that, between
/// more workers than there are processors.
const WORKERS_PER_THREAD: usize = 8;

impl Engine {
    /// Opens or creates the data directory. Models that cannot be read are marked FAILED, and the rest goes on.
    pub fn open(config: &Config) -> Result<Arc<Self>> {
        let store = Store::open(&config.data_dir)?;
        for (model, why) in store.verify_models()? {
            tracing::warn!("model {model} is damaged and marked FAILED: {why}");
        }
        let work = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(config.threads * WORKERS_PER_THREAD)
            .thread_name("cohort-work")
            .thread_stack_size(STACK_BYTES)
            .enable_all()
            .build()?;
        // Kernels share one pool; the first engine of a process sizes it, and its results do not depend on the size.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(config.threads).build_global();
        let registry = Arc::new(Registry::new(Arc::new(FittedModels::new(Arc::clone(&store)))));
        let activity = Arc::default();
        let gateway = Arc::new(Gateway::new(Arc::clone(&store), config.environment));
        let (base, planner) = base_state(config, &store, &registry, &activity, &gateway)?;
        Ok(Arc::new(Self {
            store,
            registry,
            base,
            planner,
            connected: Arc::default(),
            activity,
            gateway,
            started: chrono::Utc::now().timestamp_micros(),
            memory_limit: config.memory_limit,
            tidied: Mutex::default(),
            work: Some(work),
        }))
    }

    /// A session of its own for one connection of a role, which has proved who it is.
    pub fn session(self: &Arc<Self>, user: &str, database: &str) -> Result<Session> {
        let access = self.store.access();
        let role = admitted(&access, user)?;
        if database != CATALOG {
            return Err(Error::new(Kind::UnknownDatabase, format!("database \"{database}\" does not exist"))
                .hint(format!("there is one database, \"{CATALOG}\": connect with dbname={CATALOG}")));
        }
        let rights = Rights::of(&self.store, &self.planner, role.id)?;
        if !rights.has(Object::Database, RoleId::FIRST, Privilege::Connect) {
            return Err(denied("database", CATALOG).hint("GRANT CONNECT ON DATABASE lets the role in"));
        }
        Session::new(Arc::clone(self), role)
    }

    /// The threads that plans run on.
    pub(super) fn work(&self) -> Result<&Handle> {
        self.work
            .as_ref()
            .map(Runtime::handle)
            .ok_or_else(|| Error::new(Kind::ShuttingDown, "the server is shutting down"))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // A runtime may not block on its threads inside another runtime's task.
        if let Some(work) = self.work.take() {
            work.shutdown_background();
        }
    }
}

/// The state that every session starts from a copy of.
fn base_state(
    config: &Config,
    store: &Arc<Store>,
    registry: &Arc<Registry>,
    activity: &Arc<Activity>,
    gateway: &Arc<Gateway>,
) -> Result<(SessionState, Arc<OnceLock<SessionState>>)> {
    let mut settings = SessionConfig::new()
        .with_default_catalog_and_schema(CATALOG, "public")
        .with_create_default_catalog_and_schema(false)
        .with_target_partitions(config.threads);
    let options = settings.options_mut();
    options.sql_parser.dialect = Dialect::PostgreSQL;
    options.execution.parquet.pushdown_filters = true;
    // In 55.2 the rule puts a column and its bare twin into one projection, and then finds the name ambiguous.
    options.optimizer.enable_leaf_expression_pushdown = false;
    options.execution.time_zone = Some("UTC".to_owned());
    let pool = FairSpillPool::new(config.memory_limit);
    let consumers = std::num::NonZeroUsize::MIN.saturating_add(4);
    let runtime =
        RuntimeEnvBuilder::new().with_memory_pool(Arc::new(TrackConsumersPool::new(pool, consumers))).build_arc()?;
    let catalogs = Arc::new(Catalogs::new(Arc::clone(store), Arc::clone(gateway)));
    let functions = FunctionPlanner::new(Arc::clone(store), Arc::clone(registry), catalogs.planner());
    let files = FilePlanner::new(Arc::clone(store), catalogs.planner());
    let mut rules = Analyzer::default().rules;
    rules.splice(0..0, [Arc::new(Wildcards) as Arc<dyn AnalyzerRule + Send + Sync>, Arc::new(Lateral)]);
    let state = SessionStateBuilder::new()
        .with_config(settings)
        .with_runtime_env(runtime)
        .with_catalog_list(Arc::clone(&catalogs) as Arc<dyn CatalogProviderList>)
        .with_default_features()
        .with_analyzer_rules(rules)
        .with_optimizer_rule(Arc::new(Pushdown))
        .with_physical_optimizer_rule(Arc::new(Cuts))
        .with_physical_optimizer_rule(Arc::new(QuickSorts))
        .with_query_planner(Arc::new(barrier::Planner))
        .with_relation_planners(vec![Arc::new(functions), Arc::new(files)])
        .build();
    let mut context = SessionContext::new_with_state(state);
    let list = Arc::clone(&catalogs) as Arc<dyn CatalogProviderList>;
    pg_catalog::register(&mut context, store, activity, &list, catalogs.planner())?;
    pg_text::register(&context);
    ages::register(&context);
    text_casts::register(&mut context);
    literals::register(&mut context)?;
    empty_arrays::register(&context);
    identity::register(&context);
    privilege_functions::register(&context, store, &catalogs.planner());
    signals::register(&context, store, activity);
    bounded::register(&context)?;
    arithmetic::register(&mut context)?;
    for function in FUNCTIONS {
        for scalar in function.scalars(registry) {
            context.register_udf(scalar);
        }
        for aggregate in function.aggregates(registry) {
            context.register_udaf(aggregate);
        }
    }
    let state = context.state();
    let planner = catalogs.planner();
    let _ = planner.set(state.clone());
    Ok((state, planner))
}
