//! What the sessions of a role may take of the server at once: how many statements run, how much memory they hold.
//!
//! A statement beyond the limit waits for its turn, in the order in which they came. A session that has a turn keeps it
//! for all that it runs beside, such as an open cursor, and never waits for itself. Memory beyond the limit is refused as
//! that of the whole server is: an operator that can spill does so.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::logical_expr::LogicalPlan;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::engine::session::lock;
use crate::engine::{Run, Session, definitions};
use crate::error::{Error, MEMORY_LIMIT, Result};
use crate::storage::{Role, RoleId};

/// What the sessions of each role have at the moment.
#[derive(Debug, Default)]
pub struct Shares(Mutex<HashMap<RoleId, Arc<Share>>>);

impl Shares {
    pub fn of(&self, role: RoleId) -> Arc<Share> {
        Arc::clone(lock(&self.0).entry(role).or_default())
    }

    /// How many statements wait for their turns.
    pub fn waiting(&self) -> usize {
        lock(&self.0).values().map(|share| share.waiting()).sum()
    }
}

/// What the sessions of one role have.
#[derive(Debug, Default)]
pub struct Share {
    turns: Mutex<Turns>,
    bytes: AtomicUsize,
    /// 0: as many as there are.
    most_bytes: AtomicUsize,
}

#[derive(Debug, Default)]
struct Turns {
    running: usize,
    most: usize,
    waiting: VecDeque<oneshot::Sender<Turn>>,
}

/// A statement's turn; the next one has it when this is dropped.
#[derive(Debug)]
pub struct Turn(Option<Arc<Share>>);

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(share) = self.0.take() {
            lock(&share.turns).running -= 1;
            share.hand_out();
        }
    }
}

impl Share {
    /// Waits until no more than `most` statements run with this one.
    async fn turn(self: &Arc<Self>, most: usize, cancel: &CancellationToken) -> Result<Turn> {
        let (give, mut given) = oneshot::channel();
        {
            let mut turns = lock(&self.turns);
            turns.most = most;
            turns.waiting.push_back(give);
        }
        self.hand_out();
        tokio::select! {
            biased;
            turn = &mut given => turn.map_err(|_| Error::internal("a statement lost its turn")),
            () = cancel.cancelled() => Err(Error::cancelled()),
        }
    }

    /// Gives turns to those who wait, as long as there are any.
    fn hand_out(self: &Arc<Self>) {
        let mut turns = lock(&self.turns);
        while turns.running < turns.most {
            let Some(next) = turns.waiting.pop_front() else { return };
            match next.send(Turn(Some(Arc::clone(self)))) {
                Ok(()) => turns.running += 1,
                // It was stopped while it waited. Nobody was counted.
                Err(mut turn) => turn.0 = None,
            }
        }
    }

    /// From here on so many run at once; `None`: as many as want to.
    pub fn limit(self: &Arc<Self>, most: Option<u32>) {
        lock(&self.turns).most = most.map_or(usize::MAX, |most| most as usize);
        self.hand_out();
    }

    /// How many statements wait.
    fn waiting(&self) -> usize {
        lock(&self.turns).waiting.iter().filter(|next| !next.is_closed()).count()
    }
}

/// What a session has of its role's share.
#[derive(Debug)]
pub(super) struct Part {
    share: Arc<Share>,
    memory: Arc<Memory>,
    turn: Mutex<Weak<Turn>>,
}

impl Part {
    pub(super) fn new(shares: &Shares, role: &Role, runtime: &RuntimeEnv) -> Self {
        let share = shares.of(role.id);
        let memory = Memory {
            share: Arc::clone(&share),
            role: role.name.clone(),
            bytes: AtomicUsize::new(0),
            most_bytes: AtomicUsize::new(0),
            all: Arc::clone(&runtime.memory_pool),
        };
        Self { share, memory: Arc::new(memory), turn: Mutex::default() }
    }

    /// The same surroundings, with the session's part of the memory.
    pub(super) fn runtime(&self, of: &RuntimeEnv) -> Arc<RuntimeEnv> {
        Arc::new(RuntimeEnv {
            memory_pool: Arc::clone(&self.memory) as Arc<dyn MemoryPool>,
            disk_manager: Arc::clone(&of.disk_manager),
            cache_manager: Arc::clone(&of.cache_manager),
            object_store_registry: Arc::clone(&of.object_store_registry),
        })
    }
}

/// The memory of a session: within its own limit, its role's and the server's.
#[derive(Debug)]
struct Memory {
    share: Arc<Share>,
    role: String,
    bytes: AtomicUsize,
    /// 0: as many as there are.
    most_bytes: AtomicUsize,
    all: Arc<dyn MemoryPool>,
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the memory of a session of {}", self.role)
    }
}

/// Adds, unless it would be too much.
fn add(bytes: &AtomicUsize, most: &AtomicUsize, additional: usize) -> bool {
    let most = Some(most.load(Ordering::Relaxed)).filter(|most| *most > 0).unwrap_or(usize::MAX);
    let sum = |bytes: usize| bytes.checked_add(additional).filter(|sum| *sum <= most);
    bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum).is_ok()
}

impl Memory {
    fn refused(whose: &str, most: &AtomicUsize) -> DataFusionError {
        let mib = most.load(Ordering::Relaxed) >> 20;
        DataFusionError::ResourcesExhausted(format!("{MEMORY_LIMIT}{whose}, {mib} MiB"))
    }
}

impl MemoryPool for Memory {
    fn name(&self) -> &'static str {
        "session"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.all.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.all.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.bytes.fetch_add(additional, Ordering::Relaxed);
        self.share.bytes.fetch_add(additional, Ordering::Relaxed);
        self.all.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.bytes.fetch_sub(shrink, Ordering::Relaxed);
        self.share.bytes.fetch_sub(shrink, Ordering::Relaxed);
        self.all.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> DataFusionResult<()> {
        if !add(&self.bytes, &self.most_bytes, additional) {
            return Err(Self::refused("the session (query_memory_limit)", &self.most_bytes));
        }
        if !add(&self.share.bytes, &self.share.most_bytes, additional) {
            self.bytes.fetch_sub(additional, Ordering::Relaxed);
            return Err(Self::refused(&format!("role \"{}\"", self.role), &self.share.most_bytes));
        }
        let grown = self.all.try_grow(reservation, additional);
        if grown.is_err() {
            self.bytes.fetch_sub(additional, Ordering::Relaxed);
            self.share.bytes.fetch_sub(additional, Ordering::Relaxed);
        }
        grown
    }

    fn reserved(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    fn memory_limit(&self) -> MemoryLimit {
        self.all.memory_limit()
    }
}

impl Session {
    /// Waits for the turn of a statement, which lasts as long as what is returned; `None`: its role has as many as it
    /// wants. Limits are those of who logged in, whatever role the session acts as, and no superuser has any.
    pub(super) async fn turn(&self, run: &Run) -> Result<Option<Arc<Turn>>> {
        match self.limit_memory() {
            Some(most) => self.turn_of(most, run).await.map(Some),
            None => Ok(None),
        }
    }

    /// The same of a plan, which may be so light that nobody waits for it.
    pub(super) async fn turn_to_run(&self, plan: &LogicalPlan, run: &Run) -> Result<Option<Arc<Turn>>> {
        match self.limit_memory() {
            Some(most) if !is_light(plan)? => self.turn_of(most, run).await.map(Some),
            _ => Ok(None),
        }
    }

    async fn turn_of(&self, most: u32, run: &Run) -> Result<Arc<Turn>> {
        if let Some(turn) = lock(&self.part.turn).upgrade() {
            return Ok(turn);
        }
        self.note_waiting(true);
        let turn = self.part.share.turn(most as usize, &run.cancel).await;
        self.note_waiting(false);
        let turn = Arc::new(turn?);
        *lock(&self.part.turn) = Arc::downgrade(&turn);
        Ok(turn)
    }

    /// Holds the session to the limits of memory as they are now, and answers how many statements of its role may run.
    fn limit_memory(&self) -> Option<u32> {
        let access = self.engine.sight.store.access();
        let role = access.role(self.identity().session_role).filter(|role| !role.superuser);
        let memory = role.and_then(|role| role.memory_limit).unwrap_or(0);
        self.part.share.most_bytes.store(usize::try_from(memory).unwrap_or(usize::MAX), Ordering::Relaxed);
        self.part.memory.most_bytes.store(lock(&self.settings).query_memory_limit(), Ordering::Relaxed);
        role.and_then(|role| role.statement_limit)
    }
}

/// Whether a plan takes so little that nobody waits for it: it reads what the system says of itself, or nothing.
fn is_light(plan: &LogicalPlan) -> Result<bool> {
    let mut light = true;
    plan.apply_with_subqueries(|node| {
        light &= match node {
            LogicalPlan::TableScan(scan) => scan.table_name.schema().is_some_and(definitions::is_virtual),
            LogicalPlan::Join(join) => !join.on.is_empty() || join.filter.is_some(),
            // These make many rows of one.
            LogicalPlan::Unnest(_) | LogicalPlan::RecursiveQuery(_) | LogicalPlan::Extension(_) => false,
            _ => true,
        };
        Ok(if light { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    Ok(light)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn turns_are_given_in_the_order_in_which_they_are_asked_for() {
        let (share, cancel) = (Arc::new(Share::default()), CancellationToken::new());
        let first = share.turn(1, &cancel).await.unwrap();
        let wait = |share: &Arc<Share>, cancel: &CancellationToken| {
            let (share, cancel) = (Arc::clone(share), cancel.clone());
            tokio::spawn(async move { share.turn(1, &cancel).await })
        };
        let until_waiting = async |n: usize| {
            while share.waiting() < n {
                tokio::task::yield_now().await;
            }
        };
        let stop = CancellationToken::new();
        let second = wait(&share, &stop);
        until_waiting(1).await;
        let third = wait(&share, &cancel);
        until_waiting(2).await;
        // Who is stopped while waiting takes nobody's turn.
        stop.cancel();
        assert!(second.await.unwrap().is_err());
        drop(first);
        let third = third.await.unwrap().unwrap();
        assert_eq!(lock(&share.turns).running, 1);
        // A higher limit lets in more.
        let fourth = share.turn(2, &cancel).await.unwrap();
        assert_eq!(lock(&share.turns).running, 2);
        drop((third, fourth));
        assert_eq!(lock(&share.turns).running, 0);
        assert_eq!(share.waiting(), 0);
    }

    #[test]
    fn no_more_is_added_than_there_may_be() {
        let bytes = AtomicUsize::new(0);
        assert!(add(&bytes, &AtomicUsize::new(10), 10));
        assert!(!add(&bytes, &AtomicUsize::new(10), 1));
        assert!(add(&bytes, &AtomicUsize::new(0), 1_000));
        assert_eq!(bytes.into_inner(), 1_010);
    }
}
