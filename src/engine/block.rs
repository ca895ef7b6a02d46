//! What lies between BEGIN and COMMIT: whether it still stands, its savepoints, and what its end takes back.
//!
//! The store takes back what was written; settings, roles and cursors are taken back here.

use std::sync::Arc;

use crate::engine::Session;
use crate::engine::identity::Identity;
use crate::engine::session::lock;
use crate::engine::settings::Saved;
use crate::engine::work::not_in_the_way;
use crate::error::{Error, Kind, Result};
use crate::storage::Isolation;

/// Where a session stands between BEGIN and COMMIT.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Transaction {
    #[default]
    Idle,
    Open,
    Failed,
}

#[derive(Default)]
pub(super) struct Block {
    state: Transaction,
    /// Several statements in one message are a block too, which nobody has to begin or end.
    implicit: bool,
    /// What the session was before such a message, unless a block has begun or ended in it.
    before_implicit: Option<Before>,
    /// What the session was before it.
    before: Option<Before>,
    /// Who the session was before SET LOCAL ROLE, to be it again when the block ends.
    before_local: Option<Identity>,
    savepoints: Vec<Savepoint>,
}

/// What an end that takes back brings back.
#[derive(Clone)]
struct Before {
    settings: Saved,
    identity: Identity,
}

struct Savepoint {
    name: String,
    before: Before,
}

impl Session {
    pub fn transaction(&self) -> Transaction {
        lock(&self.block).state
    }

    /// An open block has failed: until its end nothing else runs.
    pub fn fail_transaction(&self) {
        let mut block = lock(&self.block);
        if block.state == Transaction::Open {
            block.state = Transaction::Failed;
        }
    }

    /// The statements from here on belong together, as those of one message do.
    pub fn begin_implicit_block(&self) -> Result<()> {
        self.open_transaction()?;
        let before = self.before();
        let mut block = lock(&self.block);
        (block.implicit, block.before_implicit) = (true, Some(before));
        Ok(())
    }

    /// They end here. Unless one of them has begun a block, what they have written is committed if all went well.
    pub fn end_implicit_block(&self, went_well: bool) -> Result<()> {
        let mut block = lock(&self.block);
        block.implicit = false;
        let (state, before) = (block.state, block.before_implicit.take());
        drop(block);
        if state != Transaction::Idle {
            return Ok(());
        }
        let ended = self.close_transaction(went_well);
        let committed = went_well && ended.is_ok();
        if let Some(before) = before.filter(|_| !committed) {
            self.bring_back(before);
        }
        self.cursors.end_block(committed);
        ended
    }

    /// The same, which is taken back unless it is committed.
    pub(super) fn implicit_block(&self) -> Result<ImplicitBlock<'_>> {
        self.begin_implicit_block()?;
        Ok(ImplicitBlock { session: Some(self) })
    }

    /// From here on nobody else sees what the session writes. For that it needs a sight of its own.
    fn open_transaction(&self) -> Result<()> {
        let mut sight = lock(&self.sight);
        if Arc::ptr_eq(&sight, &self.engine.sight) {
            let own = sight.for_session();
            let state = own.state(&self.engine.common)?;
            self.look_through(state);
            *sight = Arc::new(own);
        }
        sight.store.begin();
        Ok(())
    }

    fn close_transaction(&self, commit: bool) -> Result<()> {
        let store = self.store();
        if !commit {
            store.roll_back();
            return Ok(());
        }
        if let Err(error) = self.commit_temporary() {
            store.roll_back();
            return Err(error);
        }
        let changed = not_in_the_way(|| store.commit_transaction(self.isolation()))?;
        changed.into_iter().for_each(|table| self.engine.tidy(table));
        Ok(())
    }

    /// A statement begins; in a block it may see what others have committed since the last one.
    pub(super) fn enter_statement(&self) -> Result<()> {
        if !self.in_block() {
            return Ok(());
        }
        let store = self.store();
        not_in_the_way(|| store.enter_statement(self.isolation()))
    }

    fn isolation(&self) -> Isolation {
        match self.setting("transaction_isolation").as_deref() {
            Some("repeatable read") => Isolation::RepeatableRead,
            Some("serializable") => Isolation::Serializable,
            _ => Isolation::ReadCommitted,
        }
    }

    /// Whether what lasts as long as a block has one to last for.
    pub(super) fn in_block(&self) -> bool {
        let block = lock(&self.block);
        block.implicit || block.state != Transaction::Idle
    }

    pub(super) fn begin_block(&self) -> Result<()> {
        self.open_transaction()?;
        let before = self.before();
        let mut block = lock(&self.block);
        if block.state == Transaction::Idle {
            *block = Block { implicit: block.implicit, before: Some(before), ..Block::default() };
        }
        block.state = Transaction::Open;
        Ok(())
    }

    /// Ends the block, if there is one. What cannot be committed is taken back, and the error says why.
    pub(super) fn end_block(&self, commit: bool) -> Result<()> {
        let ended = self.close_transaction(commit);
        let committed = commit && ended.is_ok();
        let block = std::mem::take(&mut *lock(&self.block));
        lock(&self.block).implicit = block.implicit;
        match block.before {
            Some(before) if !committed => self.bring_back(before),
            _ => {
                if let Some(identity) = block.before_local {
                    self.set_identity(identity);
                }
                lock(&self.settings).end_local(&self.context);
            }
        }
        self.cursors.end_block(committed);
        ended?;
        match block.implicit {
            true => self.open_transaction(),
            false => Ok(()),
        }
    }

    fn before(&self) -> Before {
        Before { settings: lock(&self.settings).saved(), identity: self.identity() }
    }

    fn bring_back(&self, before: Before) {
        self.set_identity(before.identity);
        lock(&self.settings).restore(before.settings, &self.context);
    }

    /// Remembers who the session is until the block ends; `false`: there is no block.
    pub(super) fn keep_identity(&self) -> bool {
        let mut block = lock(&self.block);
        if block.state == Transaction::Idle {
            return false;
        }
        block.before_local.get_or_insert_with(|| self.identity());
        true
    }

    pub(super) fn set_savepoint(&self, name: &str) -> Result<()> {
        let before = self.before();
        self.store().set_savepoint()?;
        lock(&self.block).savepoints.push(Savepoint { name: name.to_owned(), before });
        Ok(())
    }

    pub(super) fn release_savepoint(&self, name: &str) -> Result<()> {
        let mut block = lock(&self.block);
        let at = position(&block.savepoints, name)?;
        self.store().release_savepoint(at)?;
        block.savepoints.truncate(at);
        self.cursors.release(at);
        Ok(())
    }

    /// Brings a failed block back to where it was.
    pub(super) fn rollback_to_savepoint(&self, name: &str) -> Result<()> {
        let mut block = lock(&self.block);
        let at = position(&block.savepoints, name)?;
        self.store().roll_back_to_savepoint(at)?;
        block.savepoints.truncate(at + 1);
        let before = block.savepoints[at].before.clone();
        block.state = Transaction::Open;
        drop(block);
        self.bring_back(before);
        self.cursors.close_since(at);
        Ok(())
    }

    /// How many savepoints there are.
    pub(super) fn savepoints(&self) -> usize {
        lock(&self.block).savepoints.len()
    }

    /// Whether a statement may run that nothing can take back.
    pub(super) fn must_be_outside_block(&self, statement: &str) -> Result<()> {
        if !self.in_block() {
            return Ok(());
        }
        let message = format!("{statement} cannot run inside a transaction block");
        Err(Error::new(Kind::OpenTransaction, message).hint("run it by itself, after COMMIT or ROLLBACK"))
    }

    /// Whether a statement that begins with these words may write.
    pub(super) fn may_write(&self, statement: &str) -> Result<()> {
        if !lock(&self.settings).is_read_only() {
            return Ok(());
        }
        let message = format!("cannot execute {statement} in a read-only transaction");
        Err(Error::new(Kind::ReadOnlyTransaction, message))
    }
}

/// What one statement does in several commits, as one.
pub(super) struct ImplicitBlock<'a> {
    session: Option<&'a Session>,
}

impl ImplicitBlock<'_> {
    pub(super) fn commit(mut self) -> Result<()> {
        self.session.take().map_or(Ok(()), |session| session.end_implicit_block(true))
    }
}

impl Drop for ImplicitBlock<'_> {
    fn drop(&mut self) {
        if let Some(session) = self.session {
            let _ = session.end_implicit_block(false);
        }
    }
}

fn position(savepoints: &[Savepoint], name: &str) -> Result<usize> {
    savepoints
        .iter()
        .rposition(|savepoint| savepoint.name == name)
        .ok_or_else(|| Error::new(Kind::UnknownSavepoint, format!("savepoint \"{name}\" does not exist")))
}
