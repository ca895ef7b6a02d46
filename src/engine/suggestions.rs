//! What was probably meant: names near those that do not exist.

use datafusion::execution::FunctionRegistry;
use datafusion::execution::session_state::SessionState;

use crate::engine::SYSTEM_TABLES;
use crate::engine::Session;
use crate::engine::temporary;
use crate::error::{Error, Kind};
use crate::functions::{FUNCTIONS, function};

/// The error with a name that is near to the unknown one, if there is one.
pub fn with_suggestion(error: Error, session: &Session, state: &SessionState) -> Error {
    if error.hint.is_some() {
        return error;
    }
    match error.kind {
        Kind::UnknownFunction => {
            let Some(given) = error.message.strip_prefix("function ").and_then(|rest| rest.split([' ', '(']).next())
            else {
                return error;
            };
            let given = given.to_owned();
            if let Some(function) = function(&given).filter(|function| function.relation().is_some()) {
                let example = function.doc().syntax.first().copied().unwrap_or_default();
                return error.hint(format!("it answers with rows, so it stands in FROM: SELECT * FROM {example}"));
            }
            if state.udwfs().contains(&given) {
                let message = format!("window function {given} requires an OVER clause");
                return Error::new(Kind::WrongObject, message).hint(format!("{given}() OVER (ORDER BY …)"));
            }
            let ours: Vec<&str> = FUNCTIONS.iter().map(|function| function.name()).collect();
            let error = error.suggest(&given, ours.iter().copied());
            if error.hint.is_some() {
                return error;
            }
            let theirs = state.udfs().into_iter().chain(state.udafs()).chain(state.udwfs());
            let theirs = theirs.chain(state.table_functions().keys().cloned());
            let mut theirs: Vec<String> = theirs.filter(|name| !name.contains('.')).collect();
            theirs.sort_unstable();
            error.suggest(&given, theirs.iter().map(String::as_str))
        }
        Kind::UnknownTable => {
            let Some(given) = error.message.split('"').nth(1).map(str::to_owned) else { return error };
            let schema = &state.config_options().catalog.default_schema;
            // What is written without a schema is looked for in the first one.
            let mut known: Vec<String> =
                temporary::searched(schema).flat_map(|schema| relations(session, schema)).collect();
            let schemas = session.store().schemas().unwrap_or_default();
            for other in schemas.into_iter().filter(|schema| !schema.starts_with(temporary::PREFIX)) {
                known.extend(relations(session, &other).into_iter().map(|name| format!("{other}.{name}")));
            }
            known.extend(SYSTEM_TABLES.iter().map(|table| format!("ml.{}", table.name)));
            error.suggest(&given, known.iter().map(String::as_str))
        }
        _ => error,
    }
}

fn relations(session: &Session, schema: &str) -> Vec<String> {
    let relations = session.store().relations(schema).unwrap_or_default();
    relations.into_iter().map(|relation| relation.name).collect()
}
