//! Numbers as Postgres writes them: shortest floats, numerics with all their digits.

use std::fmt::Write as _;

use bytes::{BufMut, BytesMut};

use crate::error::{Error, Kind, Result};

const NUMERIC_NEGATIVE: u16 = 0x4000;

/// A whole number in decimal.
pub(super) fn put_integer(value: i64, out: &mut BytesMut) {
    if value < 0 {
        out.put_u8(b'-');
    }
    put_digits(value.unsigned_abs(), 1, out);
}

/// A number that is not negative, with zeros in front up to `width`.
pub(super) fn put_padded(value: i64, width: usize, out: &mut BytesMut) {
    put_digits(value.unsigned_abs(), width, out);
}

/// By hand rather than by `write!`: this is the inner loop of most results.
fn put_digits(mut value: u64, width: usize, out: &mut BytesMut) {
    let mut digits = [b'0'; 20];
    let mut start = digits.len();
    while value > 0 || digits.len() - start < width.min(20) {
        start -= 1;
        digits[start] = b'0' + (value % 10) as u8;
        value /= 10;
    }
    out.put_slice(&digits[start..]);
}

/// Postgres writes a float4 plainly below a million, a float8 below 10¹⁵.
pub(super) fn put_float4(value: f32, out: &mut BytesMut) {
    let plain = value == 0.0 || (1e-4..1e6).contains(&value.abs());
    put_float(f64::from(value), plain, format_args!("{value}"), format_args!("{value:e}"), out);
}

pub(super) fn put_float8(value: f64, out: &mut BytesMut) {
    let plain = value == 0.0 || (1e-4..1e15).contains(&value.abs());
    put_float(value, plain, format_args!("{value}"), format_args!("{value:e}"), out);
}

/// Rust and Postgres agree on the shortest digits that read back the same; they differ in the exponent's looks:
/// `1e20` is `1e+20` and `1e-5` is `1e-05`.
fn put_float(
    value: f64,
    plain: bool,
    as_plain: std::fmt::Arguments<'_>,
    as_power: std::fmt::Arguments<'_>,
    out: &mut BytesMut,
) {
    if value.is_nan() {
        return out.put_slice(b"NaN");
    }
    if value.is_infinite() {
        return out.put_slice(if value > 0.0 { b"Infinity" } else { b"-Infinity" });
    }
    let start = out.len();
    // Writing to a buffer in memory cannot fail.
    let _ = out.write_fmt(if plain { as_plain } else { as_power });
    if plain {
        return;
    }
    let Some(e) = out[start..].iter().position(|byte| *byte == b'e').map(|at| start + at) else { return };
    let exponent = out.split_off(e + 1);
    let (sign, digits) = match exponent.strip_prefix(b"-") {
        Some(digits) => (b'-', digits),
        None => (b'+', &exponent[..]),
    };
    out.put_u8(sign);
    if digits.len() < 2 {
        out.put_u8(b'0');
    }
    out.put_slice(digits);
}

/// The decimal digits of an unscaled value, on the stack: 78 are the most an `i256` has.
pub(super) struct Digits {
    bytes: [u8; 80],
    start: usize,
    negative: bool,
}

impl Digits {
    pub(super) fn of(value: i128) -> Self {
        let mut digits = Self { bytes: [b'0'; 80], start: 80, negative: value < 0 };
        let mut rest = value.unsigned_abs();
        // Nineteen digits at a time: dividing a u128 is ten times as slow as dividing a u64.
        while rest > u128::from(u64::MAX) {
            let low = (rest % 10_000_000_000_000_000_000) as u64;
            rest /= 10_000_000_000_000_000_000;
            digits.put(low, 19);
        }
        digits.put(rest as u64, 1);
        digits
    }

    /// The digits of a number that is written already, as `i256` does it for itself.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let (negative, text) = text.strip_prefix('-').map_or((false, text), |text| (true, text));
        if text.len() > 80 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Error::internal(format!("{text} is not a decimal of 256 bits")));
        }
        let mut digits = Self { bytes: [b'0'; 80], start: 80 - text.len(), negative };
        digits.bytes[80 - text.len()..].copy_from_slice(text.as_bytes());
        Ok(digits)
    }

    fn put(&mut self, mut value: u64, width: usize) {
        let end = self.start;
        while value > 0 || end - self.start < width {
            self.start -= 1;
            self.bytes[self.start] = b'0' + (value % 10) as u8;
            value /= 10;
        }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    fn is_zero(&self) -> bool {
        self.as_bytes().iter().all(|digit| *digit == b'0')
    }
}

/// `-12.340`: every decimal the type has. A negative scale counts zeros before the point.
pub(super) fn put_numeric(digits: &Digits, scale: i8, out: &mut BytesMut) {
    if digits.negative && !digits.is_zero() {
        out.put_u8(b'-');
    }
    let all = digits.as_bytes();
    if scale <= 0 {
        out.put_slice(all);
        if !digits.is_zero() {
            out.put_bytes(b'0', usize::from(scale.unsigned_abs()));
        }
        return;
    }
    let decimals = usize::from(scale.unsigned_abs());
    let whole = all.len().saturating_sub(decimals);
    out.put_slice(if whole == 0 { b"0" } else { &all[..whole] });
    out.put_u8(b'.');
    out.put_bytes(b'0', decimals.saturating_sub(all.len()));
    out.put_slice(&all[whole..]);
}

/// The binary form: groups of four decimal digits, the weight of the first (in powers of 10 000), and how many
/// decimals to show. Groups of zeros at either end are left out.
pub(super) fn put_binary_numeric(digits: &Digits, scale: i8, out: &mut BytesMut) -> Result<()> {
    let all = digits.as_bytes();
    let shown = i16::from(scale).max(0);
    let decimals = usize::from(shown.unsigned_abs());
    let zeros = usize::from((-i16::from(scale)).max(0).unsigned_abs());

    // The digit at distance `place` from the point, counted upwards to the left: 0 is the ones, -1 the tenths.
    let digit = |place: i64| -> u16 {
        let from_end = place + decimals as i64 - zeros as i64;
        let at = all.len() as i64 - 1 - from_end;
        usize::try_from(at).ok().and_then(|at| all.get(at)).map_or(0, |digit| u16::from(digit - b'0'))
    };
    let group = |weight: i64| (0..4).rev().fold(0, |sum, place| sum * 10 + digit(weight * 4 + place));

    let top = (all.len() + zeros).saturating_sub(decimals).div_ceil(4) as i64 - 1;
    let bottom = -(decimals.div_ceil(4) as i64);
    let mut first = top.max(bottom);
    while first >= bottom && group(first) == 0 {
        first -= 1;
    }
    let mut last = bottom;
    while last <= first && group(last) == 0 {
        last += 1;
    }
    let groups = (first - last + 1).max(0);
    let weight = if groups == 0 { 0 } else { first };
    let fits = |value: i64| i16::try_from(value).map_err(|_| Error::new(Kind::OutOfRange, "numeric out of range"));
    out.put_i16(fits(groups)?);
    out.put_i16(fits(weight)?);
    out.put_u16(if digits.negative && groups > 0 { NUMERIC_NEGATIVE } else { 0 });
    out.put_i16(shown);
    for weight in (0..groups).map(|group| first - group) {
        out.put_u16(group(weight));
    }
    Ok(())
}

/// Reads the binary form back into plain decimal text.
pub(in super::super) fn read_binary_numeric(bytes: &[u8]) -> Option<String> {
    let word = |at: usize| Some(i16::from_be_bytes([*bytes.get(at * 2)?, *bytes.get(at * 2 + 1)?]));
    let (groups, weight, sign, scale) = (word(0)?, word(1)?, word(2)?, word(3)?);
    if groups < 0 || scale < 0 || bytes.len() != 8 + 2 * usize::from(groups.unsigned_abs()) {
        return None;
    }
    let negative = match sign.cast_unsigned() {
        0 => false,
        NUMERIC_NEGATIVE => true,
        _ => return None,
    };
    let group = |weight_of: i32| -> Option<i16> {
        match usize::try_from(i32::from(weight) - weight_of) {
            Ok(at) if at < usize::from(groups.unsigned_abs()) => {
                word(4 + at).filter(|group| (0..10_000).contains(group))
            }
            _ => Some(0),
        }
    };
    let mut text = String::from(if negative { "-" } else { "" });
    let whole = i32::from(weight).max(0);
    for at in (0..=whole).rev() {
        let _ = if at == whole { write!(text, "{}", group(at)?) } else { write!(text, "{:04}", group(at)?) };
    }
    if scale > 0 {
        text.push('.');
        let point = text.len();
        let mut at = -1;
        while text.len() - point < usize::from(scale.unsigned_abs()) {
            let _ = write!(text, "{:04}", group(at)?);
            at -= 1;
        }
        text.truncate(point + usize::from(scale.unsigned_abs()));
    }
    Some(text)
}

/// Reads the binary form as a whole number of the last of `scale` decimals; what is finer is rounded. `None`: it is no
/// number, or one of more digits than can be counted this way.
pub(in super::super) fn read_binary_decimal(bytes: &[u8], scale: i8) -> Option<i128> {
    let (header, groups) = bytes.split_at_checked(8)?;
    let word = |bytes: &[u8], at: usize| i16::from_be_bytes([bytes[at], bytes[at + 1]]);
    let (count, weight, sign) = (word(header, 0), word(header, 2), word(header, 4).cast_unsigned());
    if usize::try_from(count).ok()? * 2 != groups.len() || ![0, NUMERIC_NEGATIVE].contains(&sign) {
        return None;
    }
    let mut value = 0_i128;
    for at in (0..groups.len()).step_by(2) {
        let group = i128::from(word(groups, at));
        if !(0..10_000).contains(&group) {
            return None;
        }
        value = value.checked_mul(10_000)?.checked_add(group)?;
    }
    let zeros = 4 * (i32::from(weight) - i32::from(count) + 1) + i32::from(scale);
    let power = 10_i128.checked_pow(zeros.unsigned_abs());
    value = match power {
        _ if value == 0 => 0,
        Some(power) if zeros >= 0 => value.checked_mul(power)?,
        Some(power) => value / power + i128::from(value % power >= power / 2 + power % 2),
        None => return None,
    };
    Some(if sign == NUMERIC_NEGATIVE { -value } else { value })
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::i256;
    use proptest::prelude::*;

    use super::*;

    fn written(put: impl FnOnce(&mut BytesMut)) -> String {
        let mut out = BytesMut::new();
        put(&mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    fn numeric(value: i128, scale: i8) -> String {
        written(|out| put_numeric(&Digits::of(value), scale, out))
    }

    fn binary(value: i128, scale: i8) -> Vec<i16> {
        let mut out = BytesMut::new();
        put_binary_numeric(&Digits::of(value), scale, &mut out).unwrap();
        out.chunks(2).map(|word| i16::from_be_bytes([word[0], word[1]])).collect()
    }

    #[test]
    fn integers_to_the_ends() {
        assert_eq!(written(|out| put_integer(0, out)), "0");
        assert_eq!(written(|out| put_integer(i64::MIN, out)), "-9223372036854775808");
        assert_eq!(written(|out| put_padded(7, 4, out)), "0007");
    }

    #[test]
    fn floats_look_as_in_postgres() {
        let float8 = |value: f64| written(|out| put_float8(value, out));
        assert_eq!(float8(1.0), "1");
        assert_eq!(float8(0.1), "0.1");
        assert_eq!(float8(-0.0), "-0");
        assert_eq!(float8(1e20), "1e+20");
        assert_eq!(float8(1.5e-7), "1.5e-07");
        assert_eq!(float8(0.0001), "0.0001");
        assert_eq!(float8(0.00001), "1e-05");
        assert_eq!(float8(1e15), "1e+15");
        assert_eq!(float8(123_456_789_012_345.0), "123456789012345");
        assert_eq!(float8(f64::MAX), "1.7976931348623157e+308");
        assert_eq!(float8(f64::NAN), "NaN");
        assert_eq!(float8(f64::NEG_INFINITY), "-Infinity");
        let float4 = |value: f32| written(|out| put_float4(value, out));
        assert_eq!(float4(0.1), "0.1");
        assert_eq!(float4(1e6), "1e+06");
        assert_eq!(float4(999_999.0), "999999");
        assert_eq!(float4(f32::INFINITY), "Infinity");
    }

    #[test]
    fn numerics_keep_every_decimal() {
        assert_eq!(numeric(0, 2), "0.00");
        assert_eq!(numeric(-5, 2), "-0.05");
        assert_eq!(numeric(1230, 2), "12.30");
        assert_eq!(numeric(123, 0), "123");
        assert_eq!(numeric(123, -2), "12300");
        assert_eq!(numeric(i128::MAX, 10), "17014118346046923173168730371.5884105727");
        let widest = Digits::parse(&i256::MAX.to_string()).unwrap();
        assert_eq!(
            written(|out| put_numeric(&widest, 76, out)),
            "5.7896044618658097711785492504343953926634992332820282019728792003956564819967"
        );
    }

    #[test]
    fn binary_numerics_as_postgres_sends_them() {
        // groups, weight, sign, decimals, then the groups; taken from PostgreSQL 15.
        assert_eq!(binary(0, 2), [0, 0, 0, 2]);
        assert_eq!(binary(123_456_789, 4), [3, 1, 0, 4, 1, 2345, 6789]);
        assert_eq!(binary(-5, 2), [1, -1, 0x4000, 2, 500]);
        assert_eq!(binary(10_000, 0), [1, 1, 0, 0, 1]);
        assert_eq!(binary(1, 8), [1, -2, 0, 8, 1]);
        assert_eq!(binary(15, -4), [1, 1, 0, 0, 15]);
        let read = |words: &[i16], scale| {
            read_binary_decimal(&words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<_>>(), scale)
        };
        assert_eq!(read(&[3, 1, 0, 4, 1, 2345, 6789], 4), Some(123_456_789));
        assert_eq!(read(&[3, 1, 0, 4, 1, 2345, 6789], 2), Some(1_234_568));
        assert_eq!(read(&[1, -1, 0x4000, 2, 500], 2), Some(-5));
        assert_eq!(read(&[0, 0, 0, 2], 2), Some(0));
        assert_eq!(read(&[0, 0, -16384, 0], 2), None);
    }

    proptest! {
        #[test]
        fn floats_read_back_the_same(value in any::<f64>()) {
            let read: f64 = written(|out| put_float8(value, out)).parse().unwrap();
            prop_assert!(read == value || (read.is_nan() && value.is_nan()));
        }

        #[test]
        fn binary_and_text_numerics_say_the_same(value in any::<i128>(), scale in 0i8..38) {
            let mut out = BytesMut::new();
            put_binary_numeric(&Digits::of(value), scale, &mut out).unwrap();
            prop_assert_eq!(read_binary_numeric(&out), Some(numeric(value, scale)));
        }

        #[test]
        fn binary_numerics_are_read_as_they_were(value in any::<i128>(), shift in 8u32..127, scale in 0i8..38) {
            let value = value >> shift;
            let mut out = BytesMut::new();
            put_binary_numeric(&Digits::of(value), scale, &mut out).unwrap();
            if let Some(read) = read_binary_decimal(&out, scale) {
                prop_assert_eq!(read, value);
            }
            if let Some(rounded) = read_binary_decimal(&out, scale - 1) {
                prop_assert_eq!(rounded, value / 10 + (value % 10 / 5));
            }
        }

        #[test]
        fn digits_of_every_size(value in any::<i128>(), shift in 0u32..127) {
            let value = value >> shift;
            prop_assert_eq!(numeric(value, 0), value.to_string());
        }
    }
}
