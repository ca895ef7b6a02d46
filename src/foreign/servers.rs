//! Foreign servers that are in use.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::Result;
use crate::foreign::options::Options;
use crate::foreign::wrapper::{Database, Wrapper};

/// The servers that are in use, so that queries share connections.
#[derive(Default)]
pub struct Servers(Mutex<HashMap<(i64, Options), Arc<dyn Database>>>);

impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Servers")
    }
}

impl Servers {
    /// The server of that number and kind as the user whom the options name.
    pub fn get(&self, server: i64, kind: &dyn Wrapper, name: &str, options: Options) -> Result<Arc<dyn Database>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.get(&(server, options.clone())) {
            return Ok(Arc::clone(found));
        }
        let fresh = kind.server(name, &options)?;
        known.insert((server, options), Arc::clone(&fresh));
        Ok(fresh)
    }

    /// Closes what is open to a server.
    pub fn forget(&self, server: i64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|(of, _), _| *of != server);
    }
}
