//! A session's settings: the ones that clients expect of a Postgres server, and DataFusion's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::{ArrayRef, BooleanArray, Int32Array, StringArray};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::config::ConfigField;
use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;

use crate::engine::{temporary, units};
use crate::error::{Error, Kind, Result};

/// A setting and what it is at the start of a session.
struct Setting {
    name: &'static str,
    default: &'static str,
    access: Access,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    /// A client may change it.
    Free,
    /// A client may change it and follows its value.
    Reported,
    /// It is a fact, and clients follow it.
    ReportedFact,
    Fact,
    /// Only superusers may change it.
    Superuser,
}

const fn setting(name: &'static str, default: &'static str, access: Access) -> Setting {
    Setting { name, default, access }
}

/// The settings that clients read and set on connecting (PostgreSQL 16, chapter 20).
const SETTINGS: &[Setting] = &[
    setting("application_name", "", Access::Reported),
    setting("block_size", "8192", Access::Fact),
    setting("bytea_output", "hex", Access::Free),
    setting("client_encoding", "UTF8", Access::Reported),
    setting("client_min_messages", "notice", Access::Free),
    setting("datestyle", "ISO, MDY", Access::Reported),
    setting("default_table_access_method", "heap", Access::Free),
    setting("default_transaction_isolation", "read committed", Access::Free),
    setting("default_transaction_read_only", "off", Access::Reported),
    setting("escape_string_warning", "on", Access::Free),
    setting("extra_float_digits", "1", Access::Free),
    setting("idle_in_transaction_session_timeout", "0", Access::Free),
    setting("idle_session_timeout", "0", Access::Free),
    setting("in_hot_standby", "off", Access::ReportedFact),
    setting("integer_datetimes", "on", Access::ReportedFact),
    setting("intervalstyle", "postgres", Access::Reported),
    setting("is_superuser", "on", Access::ReportedFact),
    setting("jit", "off", Access::Free),
    setting("lc_collate", "C", Access::Fact),
    setting("lc_messages", "C", Access::Free),
    setting("lc_monetary", "C", Access::Free),
    setting("lc_numeric", "C", Access::Free),
    setting("lc_time", "C", Access::Free),
    setting("lock_timeout", "0", Access::Free),
    setting("log_min_duration_statement", "-1", Access::Superuser),
    setting("max_connections", "100", Access::Fact),
    setting("max_identifier_length", "63", Access::Fact),
    setting("max_index_keys", "32", Access::Fact),
    setting("password_encryption", "scram-sha-256", Access::Fact),
    setting("query_memory_limit", "0", Access::Free),
    setting("role", "none", Access::Fact),
    setting("row_security", "on", Access::Free),
    setting("scram_iterations", "4096", Access::Fact),
    setting("search_path", "\"$user\", public", Access::Reported),
    setting("server_encoding", "UTF8", Access::ReportedFact),
    setting("server_version", "16.6", Access::ReportedFact),
    setting("server_version_num", "160006", Access::Fact),
    setting("session_authorization", "", Access::ReportedFact),
    setting("standard_conforming_strings", "on", Access::ReportedFact),
    setting("statement_timeout", "0", Access::Free),
    setting("synchronous_commit", "on", Access::Free),
    setting("timezone", "UTC", Access::Reported),
    setting("transaction_isolation", "read committed", Access::Free),
    setting("transaction_read_only", "off", Access::Free),
    setting("work_mem", "4MB", Access::Free),
    setting("xmloption", "content", Access::Free),
];

/// Names as clients spell them in ParameterStatus, where that is not lower case.
const REPORTED_SPELLING: [(&str, &str); 3] =
    [("datestyle", "DateStyle"), ("intervalstyle", "IntervalStyle"), ("timezone", "TimeZone")];

/// One session's values.
pub struct Settings {
    /// What this server has in place of a default.
    defaults: BTreeMap<&'static str, String>,
    values: BTreeMap<String, String>,
    /// What the transaction block at hand sets for itself alone.
    local: BTreeMap<String, String>,
    changed: Vec<&'static str>,
}

/// The values of a moment, to come back to.
#[derive(Debug, Clone)]
pub struct Saved {
    values: BTreeMap<String, String>,
    local: BTreeMap<String, String>,
}

impl Settings {
    pub fn new(user: &str, is_superuser: bool) -> Self {
        let mut settings =
            Self { defaults: BTreeMap::new(), values: BTreeMap::new(), local: BTreeMap::new(), changed: Vec::new() };
        settings.set_fact("session_authorization", user);
        settings.set_fact("is_superuser", if is_superuser { "on" } else { "off" });
        settings.changed.clear();
        settings
    }

    /// What this server has in place of a default.
    #[must_use]
    pub fn with_default(mut self, name: &'static str, value: Option<String>) -> Self {
        self.defaults.extend(value.map(|value| (name, value)));
        self
    }

    fn default(&self, setting: &Setting) -> String {
        self.defaults.get(setting.name).cloned().unwrap_or_else(|| setting.default.to_owned())
    }

    /// Notes what no client may set.
    pub fn set_fact(&mut self, name: &'static str, value: &str) {
        let before = self.values.insert(name.to_owned(), value.to_owned());
        let is_reported = find(name).is_some_and(|setting| setting.access == Access::ReportedFact);
        if is_reported && before.as_deref() != Some(value) {
            self.changed.push(name);
        }
    }

    /// The value, or `None` for an unknown name.
    pub fn get(&self, name: &str) -> Option<String> {
        let name = name.to_lowercase();
        self.local
            .get(&name)
            .or_else(|| self.values.get(&name))
            .cloned()
            .or_else(|| find(&name).map(|setting| self.default(setting)))
    }

    /// Sets a value; `None` is back to the default.
    pub fn set(&mut self, name: &str, value: Option<&str>, context: &SessionContext) -> Result<()> {
        let name = name.to_lowercase();
        if name.starts_with("datafusion.") {
            return set_datafusion(&name, value, context);
        }
        let Some(setting) = find(&name) else {
            // Names with a dot belong to extensions; Postgres keeps them without asking.
            if name.contains('.') {
                match value {
                    Some(value) => self.values.insert(name, value.to_owned()),
                    None => self.values.remove(&name),
                };
                return Ok(());
            }
            return Err(unknown(&name));
        };
        let default = self.default(setting);
        let value = value.unwrap_or(&default);
        match setting.access {
            Access::Fact | Access::ReportedFact => {
                if self.get(&name).is_some_and(|current| current.eq_ignore_ascii_case(value)) {
                    return Ok(());
                }
                return Err(Error::new(Kind::Denied, format!("parameter \"{name}\" cannot be changed")));
            }
            Access::Superuser if self.get("is_superuser").as_deref() != Some("on") => {
                return Err(Error::new(Kind::Denied, format!("permission denied to set parameter \"{name}\"")));
            }
            Access::Free | Access::Reported | Access::Superuser => {}
        }
        let value = checked(&name, value, context)?;
        if setting.access == Access::Reported {
            self.changed.push(setting.name);
        }
        self.local.remove(&name);
        self.values.insert(name, value);
        Ok(())
    }

    /// Sets a value for the transaction block at hand.
    pub fn set_local(&mut self, name: &str, value: Option<&str>, context: &SessionContext) -> Result<()> {
        let name = name.to_lowercase();
        let before = self.values.get(&name).cloned();
        self.set(&name, value, context)?;
        let local = match before {
            Some(before) => self.values.insert(name.clone(), before),
            None => self.values.remove(&name),
        };
        self.local.extend(local.map(|value| (name, value)));
        Ok(())
    }

    pub fn saved(&self) -> Saved {
        Saved { values: self.values.clone(), local: self.local.clone() }
    }

    /// Everything as it was then.
    pub fn restore(&mut self, saved: Saved, context: &SessionContext) {
        let names: BTreeSet<String> = self
            .values
            .keys()
            .chain(self.local.keys())
            .chain(saved.values.keys())
            .chain(saved.local.keys())
            .cloned()
            .collect();
        let before: Vec<(String, Option<String>)> =
            names.into_iter().map(|name| (name.clone(), self.get(&name))).collect();
        (self.values, self.local) = (saved.values, saved.local);
        for (name, before) in before {
            let now = self.get(&name);
            if now == before {
                continue;
            }
            // It was accepted once, so it is accepted again.
            let _ = checked(&name, now.as_deref().unwrap_or_default(), context);
            self.changed
                .extend(find(&name).filter(|setting| setting.access == Access::Reported).map(|setting| setting.name));
        }
    }

    /// The transaction block is over, and what it set for itself.
    pub fn end_local(&mut self, context: &SessionContext) {
        self.restore(Saved { values: self.values.clone(), local: BTreeMap::new() }, context);
    }

    /// Whether statements may only read: as the block says, or else as blocks are by default.
    pub fn is_read_only(&self) -> bool {
        let local = self.local.get("transaction_read_only");
        local.or_else(|| self.values.get("default_transaction_read_only")).is_some_and(|value| is_on(value))
    }

    pub fn reset_all(&mut self, context: &SessionContext) -> Result<()> {
        let is_fact = |name: &str| {
            find(name).is_some_and(|setting| matches!(setting.access, Access::Fact | Access::ReportedFact))
        };
        // Who it is now need not be who set it.
        self.values.retain(|name, _| find(name).is_none_or(|setting| setting.access != Access::Superuser));
        let changed: Vec<String> = self.values.keys().filter(|name| !is_fact(name)).cloned().collect();
        changed.iter().try_for_each(|name| self.set(name, None, context))
    }

    /// Every known setting: name and value.
    pub fn all(&self) -> Vec<(String, String)> {
        let mut all: BTreeMap<String, String> =
            SETTINGS.iter().map(|setting| (setting.name.to_owned(), self.default(setting))).collect();
        all.extend(self.values.clone());
        all.extend(self.local.clone());
        all.into_iter().collect()
    }

    /// The relation `pg_settings`.
    pub fn table(&self) -> Result<MemTable> {
        let all = self.all();
        let texts = |of: fn(&str, &str) -> Option<String>| -> ArrayRef {
            Arc::new(all.iter().map(|(name, value)| of(name, value)).collect::<StringArray>())
        };
        let kind = |value: &str| match value {
            "on" | "off" => "bool",
            value if !value.is_empty() && value.bytes().all(|digit| digit.is_ascii_digit()) => "integer",
            _ => "string",
        };
        let columns: [(&str, ArrayRef); 17] = [
            ("name", texts(|name, _| Some(name.to_owned()))),
            ("setting", texts(|_, value| Some(value.to_owned()))),
            ("unit", texts(|_, _| None)),
            ("category", texts(|_, _| Some("Client Connection Defaults".to_owned()))),
            ("short_desc", texts(|_, _| None)),
            ("extra_desc", texts(|_, _| None)),
            ("context", texts(|name, _| Some(context(name).to_owned()))),
            ("vartype", Arc::new(all.iter().map(|(_, value)| Some(kind(value))).collect::<StringArray>())),
            ("source", texts(|_, _| Some("default".to_owned()))),
            ("min_val", texts(|_, _| None)),
            ("max_val", texts(|_, _| None)),
            ("enumvals", texts(|_, _| None)),
            ("boot_val", texts(|name, _| find(name).map(|setting| setting.default.to_owned()))),
            ("reset_val", texts(|name, _| find(name).map(|setting| setting.default.to_owned()))),
            ("sourcefile", texts(|_, _| None)),
            ("sourceline", Arc::new(Int32Array::new_null(all.len()))),
            ("pending_restart", Arc::new(BooleanArray::from(vec![false; all.len()]))),
        ];
        let rows = RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true)))?;
        Ok(MemTable::try_new(rows.schema(), vec![vec![rows]])?)
    }

    pub fn reported(&self) -> Vec<(&'static str, String)> {
        let followed = |setting: &&Setting| matches!(setting.access, Access::Reported | Access::ReportedFact);
        SETTINGS.iter().filter(followed).map(|setting| self.reported_as(setting.name)).collect()
    }

    pub fn take_changed(&mut self) -> Vec<(&'static str, String)> {
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().map(|name| self.reported_as(name)).collect()
    }

    fn reported_as(&self, name: &'static str) -> (&'static str, String) {
        let spelling =
            REPORTED_SPELLING.iter().find(|(lower, _)| *lower == name).map_or(name, |(_, spelling)| spelling);
        (spelling, self.get(name).unwrap_or_default())
    }

    /// One of the settings that are a time; `None`: no limit.
    pub fn timeout(&self, name: &str) -> Option<Duration> {
        units::duration(&self.get(name)?).ok().filter(|timeout| !timeout.is_zero())
    }

    /// Statements that take so long are logged; `None`: none is.
    pub fn log_min_duration(&self) -> Option<Duration> {
        match self.get("log_min_duration_statement")?.as_str() {
            "-1" => None,
            value => units::duration(value).ok(),
        }
    }

    /// Bytes that a statement may hold; 0: no limit.
    pub fn query_memory_limit(&self) -> usize {
        self.get("query_memory_limit").and_then(|value| units::bytes(&value)).unwrap_or(0)
    }
}

/// When a setting can be changed, in Postgres' words.
fn context(name: &str) -> &'static str {
    match find(name).map(|setting| setting.access) {
        Some(Access::Fact | Access::ReportedFact) => "internal",
        Some(Access::Superuser) => "superuser",
        _ => "user",
    }
}

fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}

pub fn unknown(name: &str) -> Error {
    Error::new(Kind::UnknownSetting, format!("unrecognized configuration parameter \"{name}\""))
        .suggest(name, SETTINGS.iter().map(|setting| setting.name))
}

/// The value as it is kept, or why it is refused.
fn checked(name: &str, value: &str, context: &SessionContext) -> Result<String> {
    match name {
        // Drivers quote the name, and write it in all the ways that Postgres knows it by.
        "client_encoding" => match value.trim_matches(['\'', '"', ' ']).to_uppercase().replace(['-', '_'], "").as_str()
        {
            "UTF8" | "UNICODE" | "SQLASCII" => Ok("UTF8".to_owned()),
            _ => Err(Error::invalid(format!("client_encoding \"{value}\" is not supported")).hint("use UTF8")),
        },
        "statement_timeout" | "lock_timeout" | "idle_session_timeout" | "idle_in_transaction_session_timeout" => {
            units::duration(value)?;
            Ok(value.to_owned())
        }
        "query_memory_limit" if units::bytes(value) == Some(0) => Ok(value.to_owned()),
        "query_memory_limit" => units::memory(value).map(|_| value.to_owned()),
        "log_min_duration_statement" if value == "-1" => Ok(value.to_owned()),
        "log_min_duration_statement" => units::duration(value).map(|_| value.to_owned()),
        "default_transaction_read_only" | "transaction_read_only" => match value.to_ascii_lowercase().as_str() {
            "off" | "false" | "no" | "0" | "f" | "n" => Ok("off".to_owned()),
            _ if is_on(value) => Ok("on".to_owned()),
            _ => Err(Error::invalid(format!("parameter \"{name}\" requires a Boolean value"))),
        },
        "default_transaction_isolation" | "transaction_isolation" => {
            let level = value.to_lowercase();
            match level.as_str() {
                "serializable" | "repeatable read" | "read committed" | "read uncommitted" => Ok(level),
                _ => Err(Error::invalid(format!("invalid value for parameter \"{name}\": \"{value}\""))
                    .hint("available values: serializable, repeatable read, read committed, read uncommitted")),
            }
        }
        "timezone" => {
            let zone = if value.eq_ignore_ascii_case("default") { "UTC" } else { value };
            zone.parse::<datafusion::arrow::array::timezone::Tz>()
                .map_err(|_| Error::invalid(format!("invalid value for parameter \"TimeZone\": \"{value}\"")))?;
            set_datafusion("datafusion.execution.time_zone", Some(zone), context)?;
            Ok(zone.to_owned())
        }
        "search_path" => {
            let schemas = value.split(',').map(|name| name.trim().trim_matches(['"', '\'']));
            let first = schemas.into_iter().find(|name| *name != "$user" && !name.is_empty()).unwrap_or("public");
            let now = context.state_ref().read().config_options().catalog.default_schema.clone();
            let schema = temporary::with_lasting(&now, first);
            set_datafusion("datafusion.catalog.default_schema", Some(&schema), context)?;
            Ok(value.to_owned())
        }
        _ => Ok(value.to_owned()),
    }
}

/// A switch, in any of the ways that Postgres reads one.
fn is_on(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "on" | "true" | "yes" | "1" | "t" | "y")
}

fn set_datafusion(name: &str, value: Option<&str>, context: &SessionContext) -> Result<()> {
    let state = context.state_ref();
    let mut state = state.write();
    let options = state.config_mut().options_mut();
    match value {
        Some(value) => options.set(name, value),
        None => ConfigField::reset(options, name.trim_start_matches("datafusion.")),
    }
    .map_err(|error| Error::new(Kind::UnknownSetting, error.strip_backtrace()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_checked_followed_and_reset() {
        let context = SessionContext::new();
        let mut settings = Settings::new("ann", true);
        settings.set("Application_Name", Some("psql"), &context).unwrap();
        assert_eq!(settings.take_changed(), [("application_name", "psql".to_owned())]);
        assert!(settings.take_changed().is_empty());
        assert_eq!(settings.set("server_version", Some("9"), &context).unwrap_err().kind.sqlstate(), "42501");
        assert_eq!(settings.set("statment_timeout", Some("9"), &context).unwrap_err().kind.sqlstate(), "42704");
        settings.reset_all(&context).unwrap();
        assert_eq!(settings.get("application_name").as_deref(), Some(""));
        assert_eq!(settings.get("session_authorization").as_deref(), Some("ann"));
        let denied = settings.set("log_min_duration_statement", Some("1s"), &context);
        assert!(denied.is_ok(), "a superuser may");
        settings.set_fact("is_superuser", "off");
        assert_eq!(settings.set("log_min_duration_statement", Some("2s"), &context).unwrap_err().kind, Kind::Denied);
        let mut settings = settings.with_default("log_min_duration_statement", Some("5s".to_owned()));
        settings.reset_all(&context).unwrap();
        assert_eq!(settings.log_min_duration(), Some(Duration::from_secs(5)));
        settings.set("query_memory_limit", Some("1GB"), &context).unwrap();
        assert_eq!(settings.query_memory_limit(), 1 << 30);
        assert!(settings.set("query_memory_limit", Some("1 horse"), &context).is_err());
        assert!(settings.set("query_memory_limit", Some("1kB"), &context).is_err());
    }

    #[test]
    fn what_a_block_sets_ends_with_it() {
        let context = SessionContext::new();
        let mut settings = Settings::new("ann", false);
        let before = settings.saved();
        settings.set("work_mem", Some("8MB"), &context).unwrap();
        settings.set_local("application_name", Some("brief"), &context).unwrap();
        settings.take_changed();
        settings.end_local(&context);
        assert_eq!(settings.take_changed(), [("application_name", String::new())]);
        assert_eq!(settings.get("work_mem").as_deref(), Some("8MB"));
        settings.restore(before, &context);
        assert_eq!(settings.get("work_mem").as_deref(), Some("4MB"));
    }
}
