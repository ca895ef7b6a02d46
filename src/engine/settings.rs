//! A session's settings: the ones that clients expect of a Postgres server, and DataFusion's.

use std::collections::BTreeMap;
use std::time::Duration;

use datafusion::common::config::ConfigField;
use datafusion::prelude::SessionContext;

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
}

const fn setting(name: &'static str, default: &'static str, access: Access) -> Setting {
    Setting { name, default, access }
}

/// The settings that clients read and set on connecting (PostgreSQL 16, chapter 20).
const SETTINGS: &[Setting] = &[
    setting("application_name", "", Access::Reported),
    setting("bytea_output", "hex", Access::Free),
    setting("client_encoding", "UTF8", Access::Reported),
    setting("client_min_messages", "notice", Access::Free),
    setting("datestyle", "ISO, MDY", Access::Reported),
    setting("default_transaction_isolation", "read committed", Access::Free),
    setting("default_transaction_read_only", "off", Access::Reported),
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
    setting("max_connections", "100", Access::Fact),
    setting("max_identifier_length", "63", Access::Fact),
    setting("max_index_keys", "32", Access::Fact),
    setting("password_encryption", "scram-sha-256", Access::Fact),
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
    values: BTreeMap<String, String>,
    changed: Vec<&'static str>,
}

impl Settings {
    pub fn new(user: &str, is_superuser: bool) -> Self {
        let mut settings = Self { values: BTreeMap::new(), changed: Vec::new() };
        settings.set_fact("session_authorization", user);
        settings.set_fact("is_superuser", if is_superuser { "on" } else { "off" });
        settings.changed.clear();
        settings
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
        self.values.get(&name).cloned().or_else(|| find(&name).map(|setting| setting.default.to_owned()))
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
        let value = value.unwrap_or(setting.default);
        match setting.access {
            Access::Fact | Access::ReportedFact => {
                if self.get(&name).is_some_and(|current| current.eq_ignore_ascii_case(value)) {
                    return Ok(());
                }
                return Err(Error::new(Kind::Denied, format!("parameter \"{name}\" cannot be changed")));
            }
            Access::Free | Access::Reported => {}
        }
        let value = checked(&name, value, context)?;
        if setting.access == Access::Reported {
            self.changed.push(setting.name);
        }
        self.values.insert(name, value);
        Ok(())
    }

    pub fn reset_all(&mut self, context: &SessionContext) -> Result<()> {
        let is_fact = |name: &str| {
            find(name).is_some_and(|setting| matches!(setting.access, Access::Fact | Access::ReportedFact))
        };
        let changed: Vec<String> = self.values.keys().filter(|name| !is_fact(name)).cloned().collect();
        changed.iter().try_for_each(|name| self.set(name, None, context))
    }

    /// Every known setting: name and value.
    pub fn all(&self) -> Vec<(String, String)> {
        let mut all: BTreeMap<String, String> =
            SETTINGS.iter().map(|setting| (setting.name.to_owned(), setting.default.to_owned())).collect();
        all.extend(self.values.clone());
        all.into_iter().collect()
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

    /// `None`: no limit.
    pub fn statement_timeout(&self) -> Option<Duration> {
        let value = self.get("statement_timeout")?;
        duration(&value).ok().filter(|timeout| !timeout.is_zero())
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
            duration(value)?;
            Ok(value.to_owned())
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
            set_datafusion("datafusion.catalog.default_schema", Some(first), context)?;
            Ok(value.to_owned())
        }
        _ => Ok(value.to_owned()),
    }
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

/// `500` (milliseconds), `500ms`, `5s`, `1min`, `2h`.
fn duration(value: &str) -> Result<Duration> {
    let value = value.trim();
    let digits = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    let (number, unit) = value.split_at(digits);
    let milliseconds = match unit.trim() {
        "" | "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(not_a_duration(value)),
    };
    let number: u64 = number.parse().map_err(|_| not_a_duration(value))?;
    Ok(Duration::from_millis(number.saturating_mul(milliseconds)))
}

fn not_a_duration(value: &str) -> Error {
    Error::invalid(format!("\"{value}\" is not a duration")).hint("write 500ms, 5s, 1min or 2h; 0 is no limit")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("250").unwrap(), Duration::from_millis(250));
        assert_eq!(duration("5s").unwrap(), Duration::from_secs(5));
        assert_eq!(duration("1 min").unwrap(), Duration::from_secs(60));
        assert!(duration("soon").is_err());
    }

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
    }
}
