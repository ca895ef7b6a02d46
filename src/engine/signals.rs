//! `pg_cancel_backend` and `pg_terminate_backend`: one session stops what another does.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{AsArray, BooleanArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int32Type};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use datafusion::prelude::SessionContext;

use crate::engine::activity::Activity;
use crate::engine::identity::Identity;
use crate::error::{Error, Kind, Result};
use crate::storage::{RoleId, Store};

/// Registers both functions.
pub fn register(context: &SessionContext, store: &Arc<Store>, activity: &Arc<Activity>) {
    let one = TypeSignature::Any(1);
    // The second argument of pg_terminate_backend is how long to wait for the end, which is never waited for.
    let takes = [one.clone(), TypeSignature::OneOf(vec![one, TypeSignature::Any(2)])];
    for ((name, ends), takes) in [("pg_cancel_backend", false), ("pg_terminate_backend", true)].into_iter().zip(takes) {
        context.register_udf(ScalarUDF::new_from_impl(Signal {
            name,
            aliases: vec![format!("pg_catalog.{name}")],
            ends,
            signature: Signature::new(takes, Volatility::Volatile),
            store: Arc::clone(store),
            activity: Arc::clone(activity),
        }));
    }
}

struct Signal {
    name: &'static str,
    aliases: Vec<String>,
    /// The whole session ends, not just what it runs.
    ends: bool,
    signature: Signature,
    store: Arc<Store>,
    activity: Arc<Activity>,
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Signal {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Signal {}

impl std::hash::Hash for Signal {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
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

impl ScalarUDFImpl for Signal {
    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DataFusionResult<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let asks = Identity::of(&args.config_options)?.current_role;
        let Some(pids) = args.args.first() else { return Err(Error::internal("a signal to nobody").into()) };
        let pids = cast(&pids.to_array(args.number_rows)?, &DataType::Int32)?;
        let pids = pids.as_primitive::<Int32Type>();
        let sent = pids.iter().map(|pid| pid.map(|pid| self.send(pid, asks)).transpose());
        let sent: BooleanArray = sent.collect::<Result<Vec<_>>>()?.into();
        Ok(ColumnarValue::Array(Arc::new(sent)))
    }
}
