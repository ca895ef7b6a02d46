//! Transactions: what a session has changed and not committed yet.
//!
//! The changes of a transaction are made at once, on a copy of the catalog that only its session sees, and kept. COMMIT
//! runs them again, on what is committed by then, in one commit. Whoever was faster wins: a change that can no longer be
//! made, because the rows that it changes have changed or the name that it gives is taken, fails the transaction. Files
//! are where they belong from the start; nobody else has their names, and a transaction that ends without COMMIT deletes
//! them.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use rusqlite::Connection;

use super::catalog::{Catalog, Step, Writing};
use super::lock;
use super::relation::TableId;
use super::state::{State, Touched};
use crate::error::{Error, Result};

/// What a transaction sees of the commits of others while it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Each statement sees what was committed when it began.
    ReadCommitted,
    /// All statements see what was committed when the first began.
    RepeatableRead,
    /// The same, and it commits only if nobody else has committed anything since.
    Serializable,
}

#[derive(Default)]
pub(super) struct OpenTransaction {
    own: Option<Own>,
    savepoints: Vec<Savepoint>,
}

/// A copy of the catalog, and what the transaction has made of it.
struct Own {
    db: Connection,
    state: Arc<State>,
    /// The committed state that was copied.
    base: u64,
    steps: Vec<Arc<Step>>,
    /// What it has changed, as others may ask.
    changed: Arc<Mutex<HashSet<TableId>>>,
}

/// Where a transaction was.
struct Savepoint {
    steps: usize,
    /// `None`: there was no copy yet.
    state: Option<Arc<State>>,
}

impl OpenTransaction {
    /// What the session sees; `None`: what is committed.
    pub(super) fn state(&self) -> Option<Arc<State>> {
        self.own.as_ref().map(|own| Arc::clone(&own.state))
    }

    pub(super) fn db(&self) -> Option<&Connection> {
        self.own.as_ref().map(|own| &own.db)
    }

    pub(super) fn steps(&self) -> &[Arc<Step>] {
        self.own.as_ref().map_or(&[], |own| &own.steps)
    }

    /// A statement begins: it sees what others have committed meanwhile, or what the first one saw.
    pub(super) fn enter(&mut self, catalog: &Catalog, isolation: Isolation) -> Result<()> {
        match (&self.own, isolation) {
            (None, Isolation::ReadCommitted) => Ok(()),
            (Some(own), Isolation::ReadCommitted) if own.base != catalog.state().generation => self.catch_up(catalog),
            (Some(_), _) => Ok(()),
            (None, _) => {
                self.own = Some(Own::new(catalog)?);
                Ok(())
            }
        }
    }

    /// Makes a change that nobody else sees before COMMIT.
    pub(super) fn step<T>(
        &mut self,
        catalog: &Catalog,
        change: impl Fn(&Writing<'_>) -> Result<(T, Vec<Touched>)> + Send + Sync + 'static,
    ) -> Result<T> {
        let own = match &mut self.own {
            Some(own) => own,
            None => self.own.insert(Own::new(catalog)?),
        };
        let answer = own.run(catalog, &change)?;
        own.steps.push(Arc::new(move |writing| Ok(change(writing)?.1)));
        Ok(answer)
    }

    /// The state that it must be the first to change, if that is wanted.
    pub(super) fn only_on(&self, isolation: Isolation) -> Option<u64> {
        self.own.as_ref().filter(|_| isolation == Isolation::Serializable).map(|own| own.base)
    }

    /// Whether it has changed a table.
    pub(super) fn has_changed(&self, table: TableId) -> bool {
        let changed = |own: &Own| lock(&own.changed).contains(&table);
        self.own.as_ref().is_some_and(changed)
    }

    pub(super) fn set_savepoint(&mut self) -> Result<()> {
        let state = self.state();
        if let Some(own) = &self.own {
            own.mark(self.savepoints.len())?;
        }
        self.savepoints.push(Savepoint { steps: self.steps().len(), state });
        Ok(())
    }

    /// Forgets a savepoint and those after it.
    pub(super) fn release_savepoint(&mut self, at: usize) -> Result<()> {
        let marked = (at..self.savepoints.len()).find(|at| self.savepoints[*at].state.is_some());
        if let (Some(own), Some(marked)) = (&self.own, marked) {
            own.db.execute_batch(&format!("RELEASE point_{marked}"))?;
        }
        self.savepoints.truncate(at);
        Ok(())
    }

    /// Takes back what was changed since a savepoint, which stays.
    pub(super) fn roll_back_to_savepoint(&mut self, at: usize) -> Result<()> {
        self.savepoints.truncate(at + 1);
        let Some(savepoint) = self.savepoints.get(at) else {
            return Err(Error::internal("a savepoint is not there"));
        };
        match (&mut self.own, &savepoint.state) {
            (Some(own), Some(state)) => {
                own.db.execute_batch(&format!("ROLLBACK TO point_{at}"))?;
                own.state = Arc::clone(state);
                own.steps.truncate(savepoint.steps);
            }
            _ => self.own = None,
        }
        Ok(())
    }

    /// Makes all changes again on what is committed by now. Where that cannot be, all stays as it was.
    fn catch_up(&mut self, catalog: &Catalog) -> Result<()> {
        let Some(old) = &self.own else { return Ok(()) };
        let (mut own, mut states) = (Own::new(catalog)?, Vec::new());
        for done in 0..=old.steps.len() {
            for (at, savepoint) in self.savepoints.iter().enumerate() {
                if savepoint.steps == done && savepoint.state.is_some() {
                    own.mark(at)?;
                    states.push((at, Arc::clone(&own.state)));
                }
            }
            if let Some(step) = old.steps.get(done) {
                own.run(catalog, |writing| Ok(((), step(writing)?)))?;
            }
        }
        own.steps = old.steps.clone();
        self.own = Some(own);
        for (at, state) in states {
            self.savepoints[at].state = Some(state);
        }
        Ok(())
    }
}

impl Own {
    fn new(catalog: &Catalog) -> Result<Self> {
        let (db, state) = catalog.copy()?;
        Ok(Self { db, base: state.generation, state, steps: Vec::new(), changed: catalog.begin() })
    }

    fn run<T>(
        &mut self,
        catalog: &Catalog,
        change: impl FnOnce(&Writing<'_>) -> Result<(T, Vec<Touched>)>,
    ) -> Result<T> {
        self.db.execute_batch("SAVEPOINT step")?;
        match catalog.step(&self.db, &self.state, change) {
            Ok((answer, state, changed)) => {
                lock(&self.changed).extend(changed);
                self.db.execute_batch("RELEASE step")?;
                self.state = Arc::new(state);
                Ok(answer)
            }
            Err(error) => {
                self.db.execute_batch("ROLLBACK TO step; RELEASE step")?;
                Err(error)
            }
        }
    }

    fn mark(&self, at: usize) -> Result<()> {
        Ok(self.db.execute_batch(&format!("SAVEPOINT point_{at}"))?)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::error::Kind;
    use crate::frame::Artefact;
    use crate::storage::store::tests::{create, files_on_disk, writer};
    use crate::storage::{IfExists, NewModel, RelationType, RoleId, Store};

    const READ_COMMITTED: Isolation = Isolation::ReadCommitted;

    fn rows(store: &Store, name: &str) -> Option<u64> {
        store.relation("public", name).unwrap().map(|relation| relation.rows())
    }

    #[test]
    fn nobody_else_sees_a_transaction_before_it_commits() {
        let dir = tempfile::tempdir().unwrap();
        let others = Store::open(dir.path()).unwrap();
        let orders = create(&others, "orders", 1);
        let store = others.for_session();
        store.begin();
        store.append(orders, writer(&store, 2)).unwrap();
        store.append(orders, writer(&store, 3)).unwrap();
        create(&store, "fresh", 4);
        store.drop_relation("public", "fresh", RelationType::Table, false).unwrap();
        create(&store, "fresh", 5);
        assert_eq!((rows(&store, "orders"), rows(&store, "fresh")), (Some(6), Some(5)));
        assert_eq!((rows(&others, "orders"), rows(&others, "fresh")), (Some(1), None));
        assert_eq!(store.history(orders).unwrap().len(), 3);
        store.commit_transaction(READ_COMMITTED).unwrap();
        for seen in [&store, &others] {
            assert_eq!((rows(seen, "orders"), rows(seen, "fresh")), (Some(6), Some(5)));
        }
        let id = |store: &Store| store.relation("public", "fresh").unwrap().unwrap().id;
        assert_eq!(id(&store), id(&others));
        assert_eq!(files_on_disk(dir.path()), 4);
        drop((store, others));
        let store = Store::open(dir.path()).unwrap();
        assert_eq!((rows(&store, "orders"), rows(&store, "fresh")), (Some(6), Some(5)));
    }

    #[test]
    fn what_is_rolled_back_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let others = Store::open(dir.path()).unwrap();
        let orders = create(&others, "orders", 1);
        let store = others.for_session();
        store.begin();
        store.replace_rows(orders, writer(&store, 2)).unwrap();
        create(&store, "fresh", 5);
        store.create_schema("shop", false, RoleId::FIRST).unwrap();
        assert_eq!(files_on_disk(dir.path()), 3);
        store.roll_back();
        assert_eq!((rows(&store, "orders"), rows(&store, "fresh")), (Some(1), None));
        assert_eq!(store.schemas().unwrap(), ["public"]);
        assert_eq!(files_on_disk(dir.path()), 1);
        // A session that is gone has committed nothing.
        store.begin();
        create(&store, "fresh", 5);
        drop(store);
        assert_eq!((rows(&others, "fresh"), files_on_disk(dir.path())), (None, 1));
        assert_eq!(fs::read_dir(dir.path().join("tables")).unwrap().count(), 2, "incoming, and the table");
    }

    #[test]
    fn rows_are_added_by_many_and_changed_by_one() {
        let dir = tempfile::tempdir().unwrap();
        let others = Store::open(dir.path()).unwrap();
        let orders = create(&others, "orders", 1);
        let (first, second) = (others.for_session(), others.for_session());
        for store in [&first, &second] {
            store.begin();
            store.append(orders, writer(store, 10)).unwrap();
        }
        others.append(orders, writer(&others, 100)).unwrap();
        first.commit_transaction(READ_COMMITTED).unwrap();
        second.commit_transaction(READ_COMMITTED).unwrap();
        assert_eq!(rows(&others, "orders"), Some(121));

        let files = || crate::storage::Replaces::Files(others.table(orders).unwrap().files.to_vec());
        let change = || crate::storage::Change::of_rows(orders, "UPDATE", files());
        for store in [&first, &second] {
            store.begin();
            create(store, if Arc::ptr_eq(store, &first) { "by_first" } else { "by_second" }, 1);
            store.change(change(), writer(store, 7)).unwrap();
        }
        first.commit_transaction(READ_COMMITTED).unwrap();
        let error = second.commit_transaction(READ_COMMITTED).unwrap_err();
        assert_eq!(error.kind, Kind::Conflict, "{error}");
        assert_eq!((rows(&others, "orders"), rows(&others, "by_second")), (Some(7), None));
        // Two of the same name cannot be.
        second.begin();
        create(&second, "wanted", 1);
        create(&others, "wanted", 2);
        assert_eq!(second.commit_transaction(READ_COMMITTED).unwrap_err().kind, Kind::TableExists);
        assert_eq!(rows(&second, "wanted"), Some(2));
    }

    #[test]
    fn each_isolation_sees_what_it_should() {
        let dir = tempfile::tempdir().unwrap();
        let others = Store::open(dir.path()).unwrap();
        let orders = create(&others, "orders", 1);
        let seen = |isolation: Isolation| {
            let store = others.for_session();
            store.begin();
            store.enter_statement(isolation).unwrap();
            let before = rows(&store, "orders").unwrap();
            store.append(orders, writer(&store, 10)).unwrap();
            others.append(orders, writer(&others, 1)).unwrap();
            store.enter_statement(isolation).unwrap();
            let after = rows(&store, "orders").unwrap() - before;
            (after, store.commit_transaction(isolation).map(|_| ()).map_err(|error| error.kind))
        };
        assert_eq!(seen(READ_COMMITTED), (11, Ok(())));
        assert_eq!(seen(Isolation::RepeatableRead), (10, Ok(())));
        assert_eq!(seen(Isolation::Serializable), (10, Err(Kind::Conflict)));
        assert_eq!(rows(&others, "orders"), Some(1 + 3 + 20));
    }

    #[test]
    fn savepoints_take_back_what_came_after_them() {
        let dir = tempfile::tempdir().unwrap();
        let others = Store::open(dir.path()).unwrap();
        let orders = create(&others, "orders", 0);
        let store = others.for_session();
        let add = |n: i64| store.append(orders, writer(&store, n)).unwrap();
        store.begin();
        store.set_savepoint().unwrap();
        add(1);
        store.set_savepoint().unwrap();
        add(10);
        store.set_savepoint().unwrap();
        add(100);
        store.roll_back_to_savepoint(2).unwrap();
        assert_eq!(rows(&store, "orders"), Some(11));
        // Others commit meanwhile, and the savepoints are still where they were.
        others.append(orders, writer(&others, 1000)).unwrap();
        store.enter_statement(READ_COMMITTED).unwrap();
        add(100);
        store.roll_back_to_savepoint(1).unwrap();
        assert_eq!(rows(&store, "orders"), Some(1001));
        add(20);
        store.set_savepoint().unwrap();
        store.release_savepoint(1).unwrap();
        add(30);
        assert_eq!(rows(&store, "orders"), Some(1051));
        store.roll_back_to_savepoint(0).unwrap();
        assert_eq!(rows(&store, "orders"), Some(1000));
        add(2);
        store.commit_transaction(READ_COMMITTED).unwrap();
        assert_eq!(rows(&others, "orders"), Some(1002));
    }

    #[test]
    fn models_get_numbers_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let others = Store::open(dir.path()).unwrap();
        let artefact = Artefact::new(serde_json::json!({}));
        let train = |store: &Store| {
            let (schema, name) = ("public".to_owned(), "churn".to_owned());
            let facts = serde_json::json!({});
            let new = NewModel { schema, name, owner: RoleId::FIRST, model_type: "kmeans".to_owned(), facts };
            store.commit_model(new, &artefact, IfExists::Replace).unwrap()
        };
        assert_eq!(train(&others), 1);
        let store = others.for_session();
        store.begin();
        assert_eq!(train(&store), 2);
        assert_eq!(train(&others), 3);
        assert_eq!(others.model("public", "churn").unwrap().unwrap().versions.len(), 2);
        store.commit_transaction(READ_COMMITTED).unwrap();
        let model = others.model("public", "churn").unwrap().unwrap();
        assert_eq!(model.versions.iter().map(|version| version.version).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(model.default_version, 2, "the one that was committed last");
        store.begin();
        assert_eq!(train(&store), 4);
        store.roll_back();
        assert_eq!(train(&others), 5);
        assert_eq!(fs::read_dir(dir.path().join("models").join(model.id.to_string())).unwrap().count(), 4);
    }
}
