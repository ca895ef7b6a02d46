//! Cancel requests: they come on a connection of their own and name their target by a number and a secret.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use pgwire::messages::startup::SecretKey;
use tokio_util::sync::CancellationToken;

/// Everybody who is connected.
pub(super) struct Registry {
    known: Mutex<Known>,
    /// The standard library's keyed hash has its key from the operating system: without it no secret can be guessed.
    secrets: RandomState,
}

#[derive(Default)]
struct Known {
    last: i32,
    backends: HashMap<i32, (Bytes, Slot)>,
}

/// What the connection runs at the moment.
type Slot = Arc<Mutex<Option<CancellationToken>>>;

/// A connection's place in the registry; it leaves with the connection.
pub(super) struct Backend {
    pub pid: i32,
    pub secret: SecretKey,
    running: Slot,
    registry: Arc<Registry>,
}

/// A statement that can be cancelled, as long as this is held.
pub(super) struct Running(Slot);

impl Registry {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { known: Mutex::default(), secrets: RandomState::new() })
    }

    /// A number nobody else has, and a secret of four bytes or, where the client can keep it, of 32.
    pub(super) fn enter(self: &Arc<Self>, long_secret: bool) -> Backend {
        let mut known = lock(&self.known);
        loop {
            known.last = known.last.checked_add(1).unwrap_or(1);
            if !known.backends.contains_key(&known.last) {
                break;
            }
        }
        let pid = known.last;
        let secret = self.secret(pid, long_secret);
        let running = Slot::default();
        known.backends.insert(pid, (secret.to_bytes(), Arc::clone(&running)));
        Backend { pid, secret, running, registry: Arc::clone(self) }
    }

    /// Cancels what the connection runs. As in Postgres nobody is told whether there was anything to cancel.
    pub(super) fn cancel(&self, pid: i32, secret: &SecretKey) {
        let target = lock(&self.known).backends.get(&pid).cloned();
        if let Some((expected, running)) = target
            && same(&expected, &secret.to_bytes())
            && let Some(running) = &*lock(&running)
        {
            running.cancel();
        }
    }

    fn secret(&self, pid: i32, long: bool) -> SecretKey {
        let part = |index: u32| self.secrets.hash_one((pid, index)).to_be_bytes();
        if !long {
            let [a, b, c, d, ..] = part(0);
            return SecretKey::I32(i32::from_be_bytes([a, b, c, d]));
        }
        let mut bytes = BytesMut::new();
        (0..4).for_each(|index| bytes.extend_from_slice(&part(index)));
        SecretKey::Bytes(bytes.freeze())
    }
}

impl Backend {
    /// Cancels what the connection runs, as a cancel request does: for whoever may without its secret.
    pub(super) fn canceller(&self) -> Arc<dyn Fn() + Send + Sync> {
        let running = Arc::clone(&self.running);
        Arc::new(move || {
            if let Some(running) = &*lock(&running) {
                running.cancel();
            }
        })
    }

    /// From here on a cancel request reaches `cancel`.
    pub(super) fn running(&self, cancel: &CancellationToken) -> Running {
        *lock(&self.running) = Some(cancel.clone());
        Running(Arc::clone(&self.running))
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        lock(&self.registry.known).backends.remove(&self.pid);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        *lock(&self.0) = None;
    }
}

/// Takes as long for a wrong secret as for the right one.
fn same(expected: &[u8], given: &[u8]) -> bool {
    expected.len() == given.len() && expected.iter().zip(given).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

/// Nothing is ever left half done under these locks, so a panic elsewhere is no reason to stop.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_secret_cancels_and_only_what_runs() {
        let registry = Registry::new();
        let (ann, bob) = (registry.enter(false), registry.enter(true));
        let (a, b) = (CancellationToken::new(), CancellationToken::new());
        let running = ann.running(&a);
        let _also = bob.running(&b);
        registry.cancel(ann.pid, &bob.secret);
        registry.cancel(ann.pid, &SecretKey::I32(0));
        assert!(!a.is_cancelled());
        drop(running);
        registry.cancel(ann.pid, &ann.secret);
        assert!(!a.is_cancelled(), "it was not running any more");
        let _again = ann.running(&a);
        registry.cancel(ann.pid, &SecretKey::Bytes(ann.secret.to_bytes()));
        assert!(a.is_cancelled() && !b.is_cancelled());
    }

    #[test]
    fn who_leaves_is_forgotten_and_secrets_differ() {
        let registry = Registry::new();
        let (one, two) = (registry.enter(true), registry.enter(true));
        assert_ne!(one.secret, two.secret);
        assert_eq!(one.secret.to_bytes().len(), 32);
        drop(one);
        assert_eq!(lock(&registry.known).backends.len(), 1);
    }
}
