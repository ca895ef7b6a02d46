//! A session's state to plan with, used again from statement to statement.
//!
//! A state knows some hundreds of functions by name: copying one takes longer than most small queries.

use std::sync::{Arc, Mutex};

use datafusion::common::config::ConfigOptions;
use datafusion::execution::session_state::SessionState;

use crate::engine::Session;
use crate::engine::session::lock;

/// A state that nobody uses at the moment, and the options it was copied with.
#[derive(Default)]
pub(super) struct Spare(Mutex<Option<(Arc<ConfigOptions>, SessionState)>>);

/// Where a state goes back to.
pub(super) struct Home {
    spare: Arc<Spare>,
    options: Arc<ConfigOptions>,
}

impl Spare {
    /// The next plan needs another state.
    pub(super) fn forget(&self) {
        *lock(&self.0) = None;
    }
}

impl Session {
    /// The session's options as they are now.
    pub(super) fn options(&self) -> Arc<ConfigOptions> {
        Arc::clone(self.context.state_ref().read().config().options())
    }

    /// A state as the session's is now, but for the size of batches, which is each plan's own.
    pub(super) fn spare_state(&self) -> (SessionState, Home) {
        let options = self.options();
        let spare = lock(&self.spare.0).take();
        // Whoever changes an option makes a copy of all, as long as they are held here too.
        let state = match spare.filter(|(copied, _)| Arc::ptr_eq(copied, &options)) {
            Some((_, mut state)) => {
                state.mark_start_execution();
                state
            }
            None => self.context.state(),
        };
        (state, Home { spare: Arc::clone(&self.spare), options })
    }
}

impl Home {
    /// The options that the state was copied with.
    pub(super) fn options(&self) -> &Arc<ConfigOptions> {
        &self.options
    }

    pub(super) fn take_back(self, state: SessionState) {
        *lock(&self.spare.0) = Some((self.options, state));
    }
}
