//! What all sessions share: the data, the threads and the memory.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use datafusion::common::config::Dialect;
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::SessionState;
use datafusion::prelude::SessionConfig;
use tokio::runtime::Handle;

use crate::engine::catalog::CATALOG;
use crate::engine::login::{Connected, admitted};
use crate::engine::rights::{Rights, denied};
use crate::engine::runtimes::{Runtimes, ask_for_less};
use crate::engine::shares::Shares;
use crate::engine::sight::{Common, Sight};
use crate::engine::{Session, pg_catalog};
use crate::error::{Error, Kind, Result};
use crate::storage::{Buckets, Object, Privilege, RoleId, Store, TableId};

/// How an engine is started.
#[derive(Debug, Clone)]
pub struct Config {
    pub data_dir: PathBuf,
    /// Bytes that queries may hold at once; what is more spills to disk or is refused.
    pub memory_limit: usize,
    /// Threads for queries and training.
    pub threads: usize,
    /// Variables that passwords of foreign servers may be in, and the way to S3.
    pub environment: fn(&str) -> Option<String>,
    /// Statements that take so long are logged; `None`: none is.
    pub log_min_duration: Option<Duration>,
}

/// The database: shared by all connections.
pub struct Engine {
    /// What is committed.
    pub(super) sight: Arc<Sight>,
    pub(super) common: Common,
    /// The state that every session starts from a copy of.
    pub(super) base: SessionState,
    /// How many sessions of each role there are.
    pub(super) connected: Arc<Connected>,
    /// What the sessions of each role have of the threads and the memory.
    pub(super) shares: Shares,
    pub(super) memory_limit: usize,
    pub(super) log_min_duration: Option<Duration>,
    /// Tables whose small files are being compacted.
    pub(super) tidied: Mutex<HashSet<TableId>>,
    /// Plans run here, so that whoever serves sockets stays responsive. Taken out when the engine is dropped.
    runtimes: Option<Runtimes>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Engine({})", self.sight.store.root().display())
    }
}

impl Engine {
    /// Opens or creates the data directory. Models that cannot be read are marked FAILED, and the rest goes on.
    pub fn open(config: &Config) -> Result<Arc<Self>> {
        let store = Store::open(&config.data_dir)?;
        for (model, why) in store.verify_models()? {
            tracing::warn!("model {model} is damaged and marked FAILED: {why}");
        }
        // Kernels share one pool; the first engine of a process sizes it, and its results do not depend on the size.
        let kernels = rayon::ThreadPoolBuilder::new().num_threads(config.threads).start_handler(|_| ask_for_less());
        let _ = kernels.build_global();
        let common = common(config, &store)?;
        let sight = Sight::new(store, config.environment);
        Ok(Arc::new(Self {
            base: sight.state(&common)?,
            sight: Arc::new(sight),
            common,
            connected: Arc::default(),
            shares: Shares::default(),
            memory_limit: config.memory_limit,
            log_min_duration: config.log_min_duration,
            tidied: Mutex::default(),
            runtimes: Some(Runtimes::start(config.threads)?),
        }))
    }

    /// A session of its own for one connection of a role, which has proved who it is.
    pub fn session(self: &Arc<Self>, user: &str, database: &str) -> Result<Session> {
        let access = self.sight.store.access();
        let role = admitted(&access, user)?;
        if database != CATALOG {
            return Err(Error::new(Kind::UnknownDatabase, format!("database \"{database}\" does not exist"))
                .hint(format!("there is one database, \"{CATALOG}\": connect with dbname={CATALOG}")));
        }
        let rights = Rights::of(&self.sight.store, &self.sight.planner, role.id)?;
        if !rights.has(Object::Database, RoleId::FIRST, Privilege::Connect) {
            return Err(denied("database", CATALOG).hint("GRANT CONNECT ON DATABASE lets the role in"));
        }
        Session::new(Arc::clone(self), role)
    }

    /// The threads that plans run on.
    pub(super) fn work(&self) -> Result<&Handle> {
        self.runtimes().map(Runtimes::work)
    }

    /// The threads that plans are made on, and small ones run on.
    pub(super) fn quick(&self) -> Result<&Handle> {
        self.runtimes().map(Runtimes::quick)
    }

    fn runtimes(&self) -> Result<&Runtimes> {
        self.runtimes.as_ref().ok_or_else(|| Error::new(Kind::ShuttingDown, "the server is shutting down"))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.sight.close();
        if let Some(runtimes) = self.runtimes.take() {
            runtimes.shut_down();
        }
    }
}

/// What every state begins with.
fn common(config: &Config, store: &Arc<Store>) -> Result<Common> {
    let mut settings = SessionConfig::new()
        .with_default_catalog_and_schema(CATALOG, "public")
        .with_create_default_catalog_and_schema(false)
        .with_target_partitions(config.threads)
        .with_extension(Arc::new(Buckets::new(Arc::clone(store), config.environment)));
    let options = settings.options_mut();
    options.sql_parser.dialect = Dialect::PostgreSQL;
    options.execution.parquet.pushdown_filters = true;
    // In 55.2 the rule puts a column and its bare twin into one projection, and then finds the name ambiguous.
    options.optimizer.enable_leaf_expression_pushdown = false;
    options.execution.time_zone = Some("UTC".to_owned());
    let pool = FairSpillPool::new(config.memory_limit);
    let consumers = std::num::NonZeroUsize::MIN.saturating_add(4);
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(TrackConsumersPool::new(pool, consumers)))
        .with_temp_file_path(store.spilled())
        .build_arc()?;
    Ok(Common {
        settings,
        runtime,
        activity: Arc::default(),
        started: chrono::Utc::now().timestamp_micros(),
        postgres: pg_catalog::Fixed::read()?,
    })
}
