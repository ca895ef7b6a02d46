//! Memory for one fit after the other.

use std::sync::Mutex;

use crate::error::{Error, Result};

/// What fits set aside, where each begins anew: the most that any of them needed.
pub(super) struct Reserved<'a> {
    more: &'a (dyn Fn(usize) -> Result<()> + Sync),
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    /// By the fit that runs.
    now: usize,
    most: usize,
}

impl<'a> Reserved<'a> {
    pub fn new(more: &'a (dyn Fn(usize) -> Result<()> + Sync)) -> Self {
        Self { more, held: Mutex::default() }
    }

    /// The fit is over, and what it had serves the next one.
    pub fn again(&self) {
        if let Ok(mut held) = self.held.lock() {
            held.now = 0;
        }
    }

    /// More for the fit that runs.
    pub fn add(&self, bytes: usize) -> Result<()> {
        let mut held = self.held.lock().map_err(|_| Error::internal("a training thread panicked"))?;
        let now = held.now.saturating_add(bytes);
        if now > held.most {
            (self.more)(now - held.most)?;
            held.most = now;
        }
        held.now = now;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_fit_has_what_the_last_one_had() {
        let asked = Mutex::new(Vec::new());
        let more = |bytes| {
            asked.lock().unwrap().push(bytes);
            Ok(())
        };
        let reserved = Reserved::new(&more);
        reserved.add(10).unwrap();
        reserved.add(5).unwrap();
        reserved.again();
        reserved.add(12).unwrap();
        reserved.add(4).unwrap();
        assert_eq!(*asked.lock().unwrap(), [10, 5, 1]);
    }
}
