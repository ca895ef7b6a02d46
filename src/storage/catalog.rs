//! The catalog: SQLite keeps it, and memory shows it as a [`State`]. Each commit makes a new one.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, Weak};

use rusqlite::backup::Backup;
use rusqlite::{Connection, TransactionBehavior};

use super::access::{Object, RoleId};
use super::delta;
use super::disk::{Draft, Held, Stored};
use super::lock;
use super::migrations::MIGRATIONS;
use super::relation::TableId;
use super::roles::forget_rights;
use super::rows::{Rows, table_dir};
use super::state::{Left, State, Touched};
use super::store::Store;
use crate::error::{Error, Kind, Result};

pub(super) struct Catalog {
    root: PathBuf,
    db: Mutex<Connection>,
    shown: RwLock<Arc<State>>,
    held: Held,
    numbers: Numbers,
    commits: AtomicU64,
    /// Of each open transaction the tables that it has changed.
    under_way: Mutex<Vec<Weak<Mutex<HashSet<TableId>>>>>,
}

/// A change under way. It may be run more than once: in a transaction when its statement runs, and again to commit it.
pub(super) struct Writing<'a> {
    pub(super) db: &'a Connection,
    /// What it starts from.
    pub(super) state: &'a State,
    catalog: &'a Catalog,
    /// What on disk it gives to the catalog.
    placed: RefCell<Vec<Arc<Stored>>>,
}

/// A change to be run again.
pub(super) type Step = dyn Fn(&Writing<'_>) -> Result<Vec<Touched>> + Send + Sync;

impl Catalog {
    /// Opens the catalog below `root`, bringing an older one up to date. `data_exists`: there are tables or models.
    pub(super) fn open(root: &Path, data_exists: bool) -> Result<Self> {
        let mut connection = Connection::open(root.join("catalog.db"))?;
        let format: usize = connection.query_row("PRAGMA user_version", [], |row| row.get::<_, u32>(0))? as usize;
        if format > MIGRATIONS.len() {
            let message = format!(
                "the catalog in \"{}\" was written by a newer cohort: it has format {format}, this one knows {}",
                root.display(),
                MIGRATIONS.len()
            );
            return Err(Error::unsupported(message).hint("start the newer version on this data directory"));
        }
        // Never take a lost catalog for a new one: the sweep would delete every table.
        if format == 0 && data_exists {
            let message = format!("\"{}\" holds tables or models, but no catalog that names them", root.display());
            return Err(
                Error::corrupt(message).hint("put its catalog.db and catalog.db-wal back, or move the data away")
            );
        }
        connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")?;
        for (format, sql) in MIGRATIONS.iter().enumerate().skip(format) {
            let tx = connection.transaction()?;
            tx.execute_batch(sql)?;
            tx.pragma_update(None, "user_version", format as u32 + 1)?;
            tx.commit()?;
        }
        let sql = "DELETE FROM schemas WHERE substr(name, 1, length(?1)) = ?1";
        if connection.execute(sql, [Store::TEMPORARY])? > 0 {
            forget_rights(&connection)?;
        }
        let held = Held::default();
        let state = State::read(&Rows { db: &connection, root, held: &held })?;
        Ok(Self {
            root: root.to_owned(),
            shown: RwLock::new(Arc::new(state)),
            held,
            numbers: Numbers::read(&connection)?,
            commits: AtomicU64::new(0),
            under_way: Mutex::default(),
            db: Mutex::new(connection),
        })
    }

    /// What is committed.
    pub(super) fn state(&self) -> Arc<State> {
        Arc::clone(&self.shown.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many commits there were since the start.
    pub(super) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    /// What the state does not show, asked of the database.
    pub(super) fn read<T>(&self, query: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        query(&self.db())
    }

    /// All of `change` or nothing of it, and the tables that have changed. Commits come one after the other.
    pub(super) fn commit<T>(
        &self,
        change: impl FnOnce(&Writing<'_>) -> Result<(T, Vec<Touched>)>,
    ) -> Result<(T, HashSet<TableId>)> {
        self.commit_steps(None, |steps| steps.take(change))
    }

    /// All of these steps, one after the other, or nothing of them.
    ///
    /// `only_on`: the number of the state that they must be the first to change.
    pub(super) fn commit_all(&self, steps: &[Arc<Step>], only_on: Option<u64>) -> Result<HashSet<TableId>> {
        let take_all =
            |under_way: &mut Steps<'_>| steps.iter().try_for_each(|step| under_way.take(|w| Ok(((), step(w)?))));
        Ok(self.commit_steps(only_on, take_all)?.1)
    }

    fn commit_steps<T>(
        &self,
        only_on: Option<u64>,
        run: impl FnOnce(&mut Steps<'_>) -> Result<T>,
    ) -> Result<(T, HashSet<TableId>)> {
        let mut db = self.db();
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let before = self.state();
        if only_on.is_some_and(|only_on| only_on != before.generation) {
            return Err(Error::new(Kind::Conflict, "could not serialize access: others have committed since it began")
                .hint("run the transaction again"));
        }
        let mut steps =
            Steps { db: &tx, catalog: self, state: State::clone(&before), left: Left::default(), placed: vec![] };
        let answer = run(&mut steps)?;
        let Steps { state, left, placed, .. } = steps;
        placed.iter().for_each(|stored| stored.keep());
        tx.commit()?;
        if state.generation != before.generation {
            *self.shown.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(state);
            self.commits.fetch_add(1, Ordering::Relaxed);
        }
        left.stored.iter().for_each(|stored| stored.doom());
        left.gone.iter().for_each(|table| delta::remove_log(&table_dir(&self.root, *table)));
        Ok((answer, left.changed))
    }

    /// A copy of the database in memory, and the state that it is in.
    pub(super) fn copy(&self) -> Result<(Connection, Arc<State>)> {
        let db = self.db();
        let mut copy = Connection::open_in_memory()?;
        Backup::new(&db, &mut copy)?.step(-1)?;
        copy.execute_batch("PRAGMA foreign_keys = ON")?;
        Ok((copy, self.state()))
    }

    /// Where a transaction notes the tables that it changes, as long as it lives.
    pub(super) fn begin(&self) -> Arc<Mutex<HashSet<TableId>>> {
        let changed = Arc::default();
        lock(&self.under_way).push(Arc::downgrade(&changed));
        changed
    }

    /// Whether an open transaction has changed a table.
    pub(super) fn is_being_changed(&self, table: TableId) -> bool {
        let mut under_way = lock(&self.under_way);
        under_way.retain(|changed| changed.strong_count() > 0);
        under_way.iter().filter_map(Weak::upgrade).any(|changed| lock(&changed).contains(&table))
    }

    /// The state after a step that changes a copy, and the tables that are new in it or changed.
    pub(super) fn step<T>(
        &self,
        db: &Connection,
        state: &State,
        change: impl FnOnce(&Writing<'_>) -> Result<(T, Vec<Touched>)>,
    ) -> Result<(T, State, HashSet<TableId>)> {
        let mut steps = Steps { db, catalog: self, state: state.clone(), left: Left::default(), placed: vec![] };
        let answer = steps.take(change)?;
        Ok((answer, steps.state, steps.left.changed))
    }

    fn db(&self) -> MutexGuard<'_, Connection> {
        lock(&self.db)
    }
}

/// Steps that are being taken, and how far they have come.
struct Steps<'a> {
    db: &'a Connection,
    catalog: &'a Catalog,
    state: State,
    left: Left,
    placed: Vec<Arc<Stored>>,
}

impl Steps<'_> {
    fn take<T>(&mut self, change: impl FnOnce(&Writing<'_>) -> Result<(T, Vec<Touched>)>) -> Result<T> {
        let Catalog { root, held, .. } = self.catalog;
        let writing = Writing { db: self.db, state: &self.state, catalog: self.catalog, placed: RefCell::default() };
        let (answer, touched) = change(&writing)?;
        self.placed.extend(writing.placed.take());
        self.state.take_in(touched, &Rows { db: self.db, root, held }, &mut self.left)?;
        Ok(answer)
    }
}

impl Writing<'_> {
    pub(super) fn root(&self) -> &Path {
        &self.catalog.root
    }

    /// Gives a draft to the catalog, by this path.
    pub(super) fn place(&self, draft: &Draft, path: PathBuf) -> Result<Arc<Stored>> {
        let stored = self.catalog.held.place(draft, path)?;
        self.placed.borrow_mut().push(Arc::clone(&stored));
        Ok(stored)
    }

    /// A role may have been dropped since it did what is being committed.
    pub(super) fn must_have_role(&self, role: RoleId) -> Result<()> {
        self.state.access.role(role).map(|_| ()).ok_or_else(conflict)
    }

    /// So may have been, or replaced, what a right is about.
    pub(super) fn must_have(&self, object: Object) -> Result<()> {
        let is_there = match object {
            Object::Database => true,
            Object::Schema(id) => self.state.schemas.values().any(|contents| contents.id == id),
            Object::Relation(id) => self.state.relations().any(|relation| relation.id == id),
            Object::Model(id) => self.state.models().any(|model| model.id == id),
        };
        if is_there { Ok(()) } else { Err(conflict()) }
    }

    /// A number for a new row of `table`.
    pub(super) fn number(&self, table: &'static str, reserved: &Reserved) -> i64 {
        *reserved.0.get_or_init(|| self.catalog.numbers.next((table, 0), 1))
    }

    /// A number for a new version of a model: at least `least`.
    pub(super) fn version(&self, model: i64, least: i64, reserved: &Reserved) -> i64 {
        *reserved.0.get_or_init(|| self.catalog.numbers.next(("model_versions", model), least))
    }
}

/// A number that is chosen when a change is first run, and stays the same when it is run again: by then others may have
/// things of their own, and folders that are named by their numbers.
#[derive(Debug, Default)]
pub(super) struct Reserved(OnceLock<i64>);

/// What a change has found when it was first run, and must find again.
#[derive(Debug)]
pub(super) struct Found<T>(OnceLock<T>);

impl<T> Default for Found<T> {
    fn default() -> Self {
        Self(OnceLock::new())
    }
}

impl<T: Clone + PartialEq> Found<T> {
    /// Fails with [`Kind::Conflict`] if it is something else now.
    pub(super) fn again(&self, now: T) -> Result<()> {
        match *self.0.get_or_init(|| now.clone()) == now {
            true => Ok(()),
            false => Err(conflict()),
        }
    }
}

/// Somebody else was faster with what a transaction wants to change.
pub(super) fn conflict() -> Error {
    Error::new(Kind::Conflict, "could not commit: somebody else has changed the same meanwhile")
        .hint("run the transaction again")
}

/// The last numbers given to rows of each table, and to versions of each model. None is given twice.
struct Numbers(Mutex<HashMap<(&'static str, i64), i64>>);

/// The tables whose rows get their numbers here.
const NUMBERED: [&str; 5] = ["schemas", "relations", "models", "roles", "foreign_servers"];

impl Numbers {
    fn read(db: &Connection) -> Result<Self> {
        let mut last = HashMap::new();
        for table in NUMBERED {
            let sql = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = ?1";
            last.insert((table, 0), db.query_row(sql, [table], |row| row.get(0))?);
        }
        Ok(Self(Mutex::new(last)))
    }

    fn next(&self, of: (&'static str, i64), least: i64) -> i64 {
        let mut last = lock(&self.0);
        let number = last.entry(of).or_default();
        *number = least.max(*number + 1);
        *number
    }
}
