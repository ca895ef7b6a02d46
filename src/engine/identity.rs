//! Who a session is: the role that logged in, the one it acts as, and the functions that tell of it.

use std::any::Any;
use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::common::config::{ConfigEntry, ConfigExtension, ConfigOptions, ExtensionOptions};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, LogicalPlan, TypeSignature, Volatility, lit};
use datafusion::prelude::SessionContext;

use crate::engine::pg_functions::{Answer, function};
use crate::error::{Error, Result};
use crate::storage::RoleId;

/// It travels with the session's configuration, so that a function finds it wherever the plan runs that calls it, be
/// it the plan of a view.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Who logged in.
    pub session: Arc<str>,
    /// Who acts: the same, or another by SET ROLE.
    pub current: Arc<str>,
    pub session_role: RoleId,
    pub current_role: RoleId,
    pub backend_pid: i32,
}

impl Identity {
    /// The identity of the session with these options.
    pub fn of(options: &ConfigOptions) -> DataFusionResult<&Self> {
        let missing = || DataFusionError::from(Error::internal("a function was called outside of a session"));
        options.extensions.get::<Self>().ok_or_else(missing)
    }

    /// From here on the session is this.
    pub fn store(self, context: &SessionContext) {
        context.state_ref().write().config_mut().options_mut().extensions.insert(self);
    }
}

impl ConfigExtension for Identity {
    const PREFIX: &'static str = "identity";
}

impl ExtensionOptions for Identity {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(self.clone())
    }

    fn set(&mut self, key: &str, _value: &str) -> DataFusionResult<()> {
        Err(Error::invalid(format!("\"{key}\" is no setting: SET ROLE changes who acts")).into())
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        Vec::new()
    }
}

/// What a function says of a session.
type Tells = fn(&Identity) -> ScalarValue;

/// Registers `current_user` and its like.
pub fn register(context: &SessionContext) {
    let current = |identity: &Identity| ScalarValue::from(&*identity.current);
    let session = |identity: &Identity| ScalarValue::from(&*identity.session);
    let pid = |identity: &Identity| ScalarValue::Int32(Some(identity.backend_pid));
    let functions: [(&'static str, DataType, Tells); 5] = [
        ("current_user", DataType::Utf8, current),
        ("current_role", DataType::Utf8, current),
        ("user", DataType::Utf8, current),
        ("session_user", DataType::Utf8, session),
        ("pg_backend_pid", DataType::Int32, pid),
    ];
    for (name, returns, tell) in functions {
        let answer = Answer::InSession(Arc::new(move |_, options| Ok(tell(Identity::of(options)?))));
        context.register_udf(function(name, returns, TypeSignature::Nullary, Volatility::Stable, answer));
    }
}

/// The plan with that role as its current user, whoever runs it: it is done in the role's name.
pub fn acting(plan: LogicalPlan, role: &str) -> Result<LogicalPlan> {
    let is_current = |expr: &Expr| match expr {
        Expr::ScalarFunction(call) => ["current_user", "current_role", "user"].contains(&call.func.name()),
        _ => false,
    };
    let acting = plan.transform_down_with_subqueries(|node| {
        let names = NamePreserver::new(&node);
        node.map_expressions(|expr| {
            let name = names.save(&expr);
            let expr = expr.transform_down(|expr| match is_current(&expr) {
                true => Ok(Transformed::yes(lit(role))),
                false => Ok(Transformed::no(expr)),
            })?;
            Ok(expr.update_data(|expr| name.restore(expr)))
        })
    })?;
    Ok(acting.data)
}
