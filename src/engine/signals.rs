//! `pg_cancel_backend` and `pg_terminate_backend`: one session stops what another does.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Volatility;
use datafusion::prelude::SessionContext;

use crate::engine::activity::Activity;
use crate::engine::identity::Identity;
use crate::engine::pg_functions::{Answer, function, texts};
use crate::error::{Error, Kind, Result};
use crate::storage::{RoleId, Store};

/// Registers both functions.
pub fn register(context: &SessionContext, store: &Arc<Store>, activity: &Arc<Activity>) {
    // The second argument of pg_terminate_backend is how long to wait for the end, which is never waited for.
    for (name, ends, arguments) in [("pg_cancel_backend", false, 1), ("pg_terminate_backend", true, 2)] {
        let signal = Signal { name, ends, store: Arc::clone(store), activity: Arc::clone(activity) };
        let answer = Answer::InSession(Arc::new(move |given, options| {
            let pid = given.first().map(|pid| pid.cast_to(&DataType::Int32)).transpose()?;
            Ok(ScalarValue::Boolean(match pid {
                Some(ScalarValue::Int32(Some(pid))) => Some(signal.send(pid, Identity::of(options)?.current_role)?),
                _ => None,
            }))
        }));
        context.register_udf(function(name, DataType::Boolean, texts(1, arguments), Volatility::Volatile, answer));
    }
}

struct Signal {
    name: &'static str,
    /// The whole session ends, not just what it runs.
    ends: bool,
    store: Arc<Store>,
    activity: Arc<Activity>,
}

impl Signal {
    /// Answers whether there was such a session.
    fn send(&self, pid: i32, asks: RoleId) -> Result<bool> {
        let Some((role, peer)) = self.activity.find(pid) else { return Ok(false) };
        let access = self.store.access();
        let is_superuser = |role: RoleId| access.role(role).is_some_and(|role| role.superuser);
        let what = if self.ends { "terminate process" } else { "cancel query" };
        if is_superuser(role) && !is_superuser(asks) {
            return Err(Error::new(Kind::Denied, format!("must be a superuser to {what} of a superuser")));
        }
        if !is_superuser(asks) && !access.inherited_by(asks).contains(&role) {
            return Err(Error::new(Kind::Denied, format!("must be a member of the role to {what}")));
        }
        match self.ends {
            true => peer.terminate.cancel(),
            false => (peer.cancel)(),
        }
        tracing::info!(target: "audit", by = access.name(asks), pid, "{}", self.name);
        Ok(true)
    }
}
