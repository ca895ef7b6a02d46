//! Sizes of memory and times as people write them.

use std::time::Duration;

use crate::error::{Error, Result};

/// Less than this no query could begin with.
const LEAST: usize = 16 << 20;

/// `512MB`, `4GB`, `4GiB`, `1000000`; `None`: it is no size. Units are powers of 1024, as in Postgres.
pub fn bytes(text: &str) -> Option<usize> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim().to_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    let number: usize = number.parse().ok()?;
    number.checked_shl(shift).filter(|bytes| bytes >> shift == number)
}

/// The same of memory that queries are to run in.
pub fn memory(text: &str) -> Result<usize> {
    match bytes(text) {
        Some(bytes @ LEAST..) => Ok(bytes),
        Some(_) => Err(Error::invalid(format!("{text} is out of range; the least is {}MB", LEAST >> 20))),
        None => Err(Error::invalid(format!("\"{text}\" is not a size")).hint("write 512MB or 4GB")),
    }
}

/// `500` (milliseconds), `500ms`, `5s`, `1min`, `2h`, `1d`.
pub fn duration(value: &str) -> Result<Duration> {
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
    fn sizes_have_units() {
        assert_eq!(bytes("512MB"), Some(512 << 20));
        assert_eq!(bytes(" 4 GiB "), Some(4 << 30));
        assert_eq!(bytes("1000000"), Some(1_000_000));
        assert_eq!(bytes("much"), None);
        assert_eq!(bytes("-1"), None);
        assert_eq!(bytes("99999999999999TB"), None);
    }
    #[test]
    fn durations_have_units() {
        assert_eq!(duration("250").unwrap(), Duration::from_millis(250));
        assert_eq!(duration("5s").unwrap(), Duration::from_secs(5));
        assert_eq!(duration("1 min").unwrap(), Duration::from_secs(60));
        assert!(duration("soon").is_err());
    }
}
