//! What lies between BEGIN and COMMIT: whether it still stands, its savepoints, and what its end takes back.
//!
//! Every statement commits by itself, so an end never undoes rows. It does take back settings and roles, and close cursors.

use crate::engine::Session;
use crate::engine::identity::Identity;
use crate::engine::session::lock;
use crate::engine::settings::Saved;
use crate::error::{Error, Kind, Result};

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
    /// Whether it has written: what is written stays, whatever becomes of the block.
    wrote: bool,
    /// Several statements in one message are a block too, which nobody has to begin or end.
    implicit: bool,
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

    /// The statements from here to the next call belong together, as those of one message do.
    pub fn set_implicit_block(&self, implicit: bool) {
        lock(&self.block).implicit = implicit;
        if !implicit && self.transaction() == Transaction::Idle {
            self.cursors.end_block(true);
        }
    }

    /// Whether what lasts as long as a block has one to last for.
    pub(super) fn in_block(&self) -> bool {
        let block = lock(&self.block);
        block.implicit || block.state != Transaction::Idle
    }

    pub(super) fn begin_block(&self) {
        let before = self.before();
        let mut block = lock(&self.block);
        if block.state == Transaction::Idle {
            *block = Block { implicit: block.implicit, before: Some(before), ..Block::default() };
        }
        block.state = Transaction::Open;
    }

    /// Ends the block, if there is one.
    pub(super) fn end_block(&self, committed: bool) {
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

    pub(super) fn set_savepoint(&self, name: &str) {
        let before = self.before();
        lock(&self.block).savepoints.push(Savepoint { name: name.to_owned(), before });
    }

    pub(super) fn release_savepoint(&self, name: &str) -> Result<()> {
        let mut block = lock(&self.block);
        let at = position(&block.savepoints, name)?;
        block.savepoints.truncate(at);
        self.cursors.release(at);
        Ok(())
    }

    /// Brings a failed block back to where it was.
    pub(super) fn rollback_to_savepoint(&self, name: &str) -> Result<()> {
        let mut block = lock(&self.block);
        let at = position(&block.savepoints, name)?;
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

    /// Whether the open block has written.
    pub(super) fn wrote(&self) -> bool {
        lock(&self.block).wrote
    }

    pub(super) fn note_write(&self) {
        let mut block = lock(&self.block);
        block.wrote |= block.state == Transaction::Open;
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

fn position(savepoints: &[Savepoint], name: &str) -> Result<usize> {
    savepoints
        .iter()
        .rposition(|savepoint| savepoint.name == name)
        .ok_or_else(|| Error::new(Kind::UnknownSavepoint, format!("savepoint \"{name}\" does not exist")))
}
