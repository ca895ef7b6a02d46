//! Sizes of memory as people write them.

use crate::error::Error;

/// Less than this no query could begin with.
pub const LEAST: usize = 16 << 20;

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

pub fn not_a_size(text: &str) -> Error {
    Error::invalid(format!("\"{text}\" is not a size")).hint("write 512MB or 4GB")
}

pub fn too_small(text: &str) -> Error {
    Error::invalid(format!("{text} is out of range; the least is {}MB", LEAST >> 20))
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
}
