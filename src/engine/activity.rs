//! Who is connected and what they are doing: `pg_stat_activity`, and how one session stops another.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use chrono::Utc;
use datafusion::arrow::array::{ArrayRef, Int32Array, StringArray, TimestampMicrosecondArray};
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::catalog::{Session as Planning, TableProvider};
use datafusion::datasource::MemTable;
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use tokio_util::sync::CancellationToken;

use crate::engine::catalog::CATALOG;
use crate::engine::identity::Identity;
use crate::engine::pg_catalog::field;
use crate::engine::session::lock;
use crate::engine::{Progress, Run, Session, Transaction};
use crate::error::Result;
use crate::storage::{Access, RoleId, Store};

/// All sessions that a client is behind, and counts since the start.
#[derive(Debug, Default)]
pub struct Activity {
    backends: Mutex<BTreeMap<i32, Backend>>,
    pub counts: Counts,
}

/// What happened since the start.
#[derive(Debug, Default)]
pub struct Counts {
    pub sessions: AtomicU64,
    pub refused_logins: AtomicU64,
    pub statements: AtomicU64,
    pub failed_statements: AtomicU64,
}

impl Counts {
    pub fn one_more(count: &AtomicU64) {
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Where a client is, and how it is stopped. The room of the wire hands it in.
#[derive(Clone)]
pub struct Peer {
    pub pid: i32,
    pub address: SocketAddr,
    /// Stops the statement that runs, if one does.
    pub cancel: Arc<dyn Fn() + Send + Sync>,
    /// Ends the connection.
    pub terminate: CancellationToken,
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Peer({} at {})", self.pid, self.address)
    }
}

/// One session, as the others see it.
#[derive(Debug)]
struct Backend {
    peer: Peer,
    role: RoleId,
    application: String,
    state: &'static str,
    /// Its role runs as many statements as it may, and this one waits.
    waits: bool,
    query: Arc<str>,
    /// How far the statement has come.
    progress: Option<Arc<Mutex<Progress>>>,
    /// Microseconds since 1970, UTC.
    started: i64,
    query_started: Option<i64>,
    changed: i64,
}

/// A statement that takes its steps.
#[derive(Debug)]
pub struct Job {
    pub pid: i32,
    pub role: RoleId,
    /// Microseconds since 1970, UTC.
    pub started: Option<i64>,
    pub progress: Progress,
}

impl Backend {
    /// The kind of what it waits for, and that itself.
    fn waits_for(&self) -> Option<(&'static str, &'static str)> {
        match self.state {
            "active" => self.waits.then_some(("Extension", "StatementLimit")),
            _ => Some(("Client", "ClientRead")),
        }
    }
}

/// Longer texts are cut, as in Postgres.
const QUERY_BYTES: usize = 1024;

/// What stands before a secret in a statement, in lower case.
const SECRETS: [&str; 3] = ["password", "secret_access_key", "session_token"];

/// The text of a statement as others may see it: cut, and not at all where it may hold a secret.
pub fn shown(text: &str) -> Arc<str> {
    let start = &text[..text.floor_char_boundary(QUERY_BYTES)];
    let has_secret = |text: &str| {
        let text = text.to_lowercase();
        SECRETS.iter().any(|word| text.contains(word))
    };
    match has_secret(start) || (text.len() < 64 * 1024 && has_secret(text)) {
        true => Arc::from("<a statement about a password>"),
        false => Arc::from(start),
    }
}

/// A session's place in the list; it leaves it when this is dropped.
#[derive(Debug)]
pub struct Entered {
    activity: Arc<Activity>,
    pid: i32,
}

impl Drop for Entered {
    fn drop(&mut self) {
        lock(&self.activity.backends).remove(&self.pid);
    }
}

impl Activity {
    fn enter(self: &Arc<Self>, peer: Peer, role: RoleId, application: String) -> Entered {
        Counts::one_more(&self.counts.sessions);
        let (pid, now) = (peer.pid, Utc::now().timestamp_micros());
        let backend = Backend {
            peer,
            role,
            application,
            state: "idle",
            waits: false,
            query: Arc::from(""),
            progress: None,
            started: now,
            query_started: None,
            changed: now,
        };
        lock(&self.backends).insert(pid, backend);
        Entered { activity: Arc::clone(self), pid }
    }

    /// How many sessions there are in each state.
    pub fn states(&self) -> BTreeMap<&'static str, u64> {
        let mut states = BTreeMap::from([("active", 0), ("idle", 0)]);
        for backend in lock(&self.backends).values() {
            *states.entry(backend.state).or_default() += 1;
        }
        states
    }

    /// What takes its steps at the moment.
    pub fn jobs(&self) -> Vec<Job> {
        let backends = lock(&self.backends);
        let job = |backend: &Backend| {
            let progress = lock(backend.progress.as_deref()?).clone();
            let (pid, role, started) = (backend.peer.pid, backend.role, backend.query_started);
            (!progress.doing.is_empty()).then_some(Job { pid, role, started, progress })
        };
        backends.values().filter_map(job).collect()
    }

    /// The role behind a session, and how to stop it.
    pub fn find(&self, pid: i32) -> Option<(RoleId, Peer)> {
        lock(&self.backends).get(&pid).map(|backend| (backend.role, backend.peer.clone()))
    }

    fn columns(&self, access: &Access, asks: Option<RoleId>) -> Vec<(&'static str, ArrayRef)> {
        let backends = lock(&self.backends);
        let all: Vec<&Backend> = backends.values().collect();
        let is_superuser = asks.and_then(|role| access.role(role)).is_some_and(|role| role.superuser);
        let active = asks.map(|role| access.inherited_by(role)).unwrap_or_default();
        let may_see = |backend: &Backend| is_superuser || active.contains(&backend.role);
        let text = |of: &dyn Fn(&Backend) -> Option<String>| -> ArrayRef {
            Arc::new(all.iter().map(|backend| of(backend).filter(|_| may_see(backend))).collect::<StringArray>())
        };
        let number = |of: &dyn Fn(&Backend) -> Option<i32>| -> ArrayRef {
            Arc::new(all.iter().map(|backend| of(backend)).collect::<Int32Array>())
        };
        let moment = |of: &dyn Fn(&Backend) -> Option<i64>| -> ArrayRef {
            let moments: TimestampMicrosecondArray =
                all.iter().map(|backend| of(backend).filter(|_| may_see(backend))).collect();
            Arc::new(moments.with_timezone("UTC"))
        };
        let query = |backend: &&Backend| match may_see(backend) {
            true => backend.query.to_string(),
            false => "<insufficient privilege>".to_owned(),
        };
        vec![
            ("datid", number(&|_| Some(5))),
            ("datname", Arc::new(all.iter().map(|_| Some(CATALOG)).collect::<StringArray>())),
            ("pid", number(&|backend| Some(backend.peer.pid))),
            ("leader_pid", number(&|_| None)),
            ("usesysid", number(&|backend| i32::try_from(backend.role.oid()).ok())),
            ("usename", Arc::new(all.iter().map(|backend| Some(access.name(backend.role))).collect::<StringArray>())),
            ("application_name", text(&|backend| Some(backend.application.clone()))),
            ("client_addr", text(&|backend| Some(backend.peer.address.ip().to_string()))),
            ("client_hostname", text(&|_| None)),
            ("client_port", number(&|backend| Some(backend.peer.address.port().into()).filter(|_| may_see(backend)))),
            ("backend_start", moment(&|backend| Some(backend.started))),
            ("xact_start", moment(&|backend| backend.query_started.filter(|_| backend.state != "idle"))),
            ("query_start", moment(&|backend| backend.query_started)),
            ("state_change", moment(&|backend| Some(backend.changed))),
            ("wait_event_type", text(&|backend| backend.waits_for().map(|(kind, _)| kind.to_owned()))),
            ("wait_event", text(&|backend| backend.waits_for().map(|(_, event)| event.to_owned()))),
            ("state", text(&|backend| Some(backend.state.to_owned()))),
            ("backend_xid", number(&|_| None)),
            ("backend_xmin", number(&|_| None)),
            ("query_id", number(&|_| None)),
            ("query", Arc::new(all.iter().map(query).map(Some).collect::<StringArray>())),
            ("backend_type", text(&|_| Some("client backend".to_owned()))),
        ]
    }
}

impl Session {
    /// From here on a client is behind this session: others see it, and may stop it.
    pub fn attach(&self, peer: Peer) {
        let mut identity = self.identity();
        identity.backend_pid = peer.pid;
        let role = identity.session_role;
        self.set_identity(identity);
        let application = self.setting("application_name").unwrap_or_default();
        *lock(&self.entered) = Some(self.engine.common.activity.enter(peer, role, application));
    }

    /// A statement begins.
    pub(super) fn note_active(&self, query: &Arc<str>) {
        let now = Utc::now().timestamp_micros();
        self.note(|backend| {
            backend.state = "active";
            backend.query = Arc::clone(query);
            (backend.query_started, backend.changed) = (Some(now), now);
        });
    }

    /// The statement that runs, or ran last, as others may see it.
    pub(super) fn noted_query(&self) -> Arc<str> {
        let mut query = Arc::from("");
        self.note(|backend| query = Arc::clone(&backend.query));
        query
    }

    /// A statement is run.
    pub(super) fn note_run(&self, query: &Arc<str>, run: &Run) {
        Counts::one_more(&self.engine.common.activity.counts.statements);
        self.note_active(query);
        self.note(|backend| backend.progress = Some(run.progress()));
    }

    /// A statement waits for its turn; or no longer does.
    pub(super) fn note_waiting(&self, waits: bool) {
        self.note(|backend| backend.waits = waits);
    }

    /// The client's turn.
    pub fn note_idle(&self) {
        let state = match self.transaction() {
            Transaction::Idle => "idle",
            Transaction::Open => "idle in transaction",
            Transaction::Failed => "idle in transaction (aborted)",
        };
        let application = self.setting("application_name").unwrap_or_default();
        self.note(|backend| {
            backend.state = state;
            backend.progress = None;
            backend.changed = Utc::now().timestamp_micros();
            backend.application = application;
        });
    }

    /// A statement failed.
    pub fn note_failed(&self) {
        Counts::one_more(&self.engine.common.activity.counts.failed_statements);
    }

    fn note(&self, change: impl FnOnce(&mut Backend)) {
        if let Some(entered) = &*lock(&self.entered)
            && let Some(backend) = lock(&self.engine.common.activity.backends).get_mut(&entered.pid)
        {
            change(backend);
        }
    }
}

/// `pg_stat_activity`. Of sessions of others a role sees that they are there, and nothing of what they do.
pub struct ActivityTable {
    pub activity: Arc<Activity>,
    pub store: Arc<Store>,
}

impl fmt::Debug for ActivityTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ActivityTable")
    }
}

impl ActivityTable {
    fn rows(&self, asks: Option<RoleId>) -> Result<(SchemaRef, RecordBatch)> {
        let columns = self.activity.columns(&self.store.access(), asks);
        let schema = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
        let rows = RecordBatch::try_new(Arc::clone(&schema), columns.into_iter().map(|(_, column)| column).collect())?;
        Ok((schema, rows))
    }
}

#[async_trait]
impl TableProvider for ActivityTable {
    fn schema(&self) -> SchemaRef {
        self.rows(None).map_or_else(|_| Arc::new(Schema::empty()), |(schema, _)| schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        state: &dyn Planning,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let asks = Identity::of(state.config_options())?.current_role;
        let (schema, rows) = self.rows(Some(asks))?;
        MemTable::try_new(schema, vec![vec![rows]])?.scan(state, projection, filters, limit).await
    }
}
