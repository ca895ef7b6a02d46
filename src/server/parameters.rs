//! Parameters of a Bind message → the values a statement was planned with.

use std::sync::Arc;

use bytes::Buf;
use datafusion::arrow::datatypes::{DataType, IntervalMonthDayNano};
use datafusion::common::ScalarValue;
use pgwire::api::Type;

use super::encode::{Format, read_binary_numeric};
use super::requests::not_utf8;
use super::types::{element_of, name};
use crate::error::{Error, Kind, Result};

/// Days and seconds from 1970, where Arrow counts from, to 2000, where Postgres does.
pub(super) const EPOCH_DAYS: i32 = 10_957;
pub(super) const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// One parameter. `of` is the type it travels as, `planned` the type the statement expects.
pub(super) fn read(bytes: Option<&[u8]>, format: Format, of: &Type, planned: &DataType) -> Result<ScalarValue> {
    let Some(bytes) = bytes else { return Ok(ScalarValue::try_from(planned)?) };
    let value = match format {
        Format::Text => from_text(text(bytes)?, of, planned)?,
        Format::Binary => from_binary(bytes, of, planned)?,
    };
    if value.data_type() == *planned || *planned == DataType::Null {
        return Ok(value);
    }
    let given = value.to_string();
    value.cast_to(planned).map_err(|_| {
        Error::new(Kind::OutOfRange, format!("value \"{given}\" does not fit where type {planned} is needed"))
    })
}

pub(super) fn text(bytes: &[u8]) -> Result<&str> {
    let text = std::str::from_utf8(bytes).map_err(|_| not_utf8())?;
    // Postgres has no zero bytes in text, and clients that read C strings would lose what follows one.
    if text.contains('\0') { Err(not_utf8()) } else { Ok(text) }
}

fn unreadable(of: &Type, text: &str) -> Error {
    let kind = match *of {
        Type::DATE | Type::TIME | Type::TIMESTAMP | Type::TIMESTAMPTZ | Type::INTERVAL => Kind::InvalidTime,
        _ => Kind::InvalidText,
    };
    Error::new(kind, format!("invalid input syntax for type {}: \"{text}\"", name(of)))
}

fn from_text(given: &str, of: &Type, planned: &DataType) -> Result<ScalarValue> {
    let text = given.trim();
    let value = match planned {
        DataType::Utf8 | DataType::Null => Some(ScalarValue::Utf8(Some(given.to_owned()))),
        DataType::LargeUtf8 => Some(ScalarValue::LargeUtf8(Some(given.to_owned()))),
        DataType::Utf8View => Some(ScalarValue::Utf8View(Some(given.to_owned()))),
        DataType::Boolean => truth(text).map(|truth| ScalarValue::Boolean(Some(truth))),
        integer if integer.is_integer() => return integer_from(text, of, planned),
        float if float.is_floating() => float_from(text),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            bytea(given).map(|bytes| ScalarValue::Binary(Some(bytes)))
        }
        DataType::Interval(_) | DataType::Duration(_) => {
            interval(text).map(|interval| ScalarValue::IntervalMonthDayNano(Some(interval)))
        }
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            let element = element_of(of).unwrap_or(Type::TEXT);
            let items = array_items(text).ok_or_else(|| {
                Error::new(Kind::InvalidText, format!("malformed array literal: \"{given}\""))
                    .hint("write {a,b,NULL}; arrays in arrays are not read")
            })?;
            let item_of = |text: Option<String>| {
                read(text.as_deref().map(str::as_bytes), Format::Text, &element, item.data_type())
            };
            Some(list(&items.into_iter().map(item_of).collect::<Result<Vec<_>>>()?, item.data_type())?)
        }
        DataType::Dictionary(_, values) => Some(from_text(given, of, values)?),
        // A moment without a zone ignores the one it is given, as in Postgres.
        DataType::Timestamp(_, None)
        | DataType::Date32
        | DataType::Date64
        | DataType::Time32(_)
        | DataType::Time64(_) => parsed(without_zone(text), planned),
        DataType::Timestamp(..) | DataType::Decimal32(..) | DataType::Decimal64(..) => parsed(text, planned),
        DataType::Decimal128(..) | DataType::Decimal256(..) => parsed(text, planned),
        other => return Err(Error::unsupported(format!("a parameter cannot be of type {other}"))),
    };
    value.ok_or_else(|| unreadable(of, given))
}

/// By Arrow's own reading of text.
fn parsed(text: &str, planned: &DataType) -> Option<ScalarValue> {
    ScalarValue::try_from_string(text.to_owned(), planned).ok().filter(|value| !value.is_null())
}

fn truth(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "t" | "true" | "y" | "yes" | "on" | "1" => Some(true),
        "f" | "false" | "n" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}

fn integer_from(text: &str, of: &Type, planned: &DataType) -> Result<ScalarValue> {
    let whole: i128 = text.parse().map_err(|_| unreadable(of, text))?;
    let out_of_range =
        || Error::new(Kind::OutOfRange, format!("value \"{text}\" is out of range for type {}", name(of)));
    let value = match u64::try_from(whole) {
        Ok(unsigned) if *planned == DataType::UInt64 => ScalarValue::UInt64(Some(unsigned)),
        _ => ScalarValue::Int64(Some(i64::try_from(whole).map_err(|_| out_of_range())?)),
    };
    value.cast_to(planned).ok().filter(|value| !value.is_null()).ok_or_else(out_of_range)
}

fn float_from(text: &str) -> Option<ScalarValue> {
    // Rust reads `inf`, `infinity` and `nan` in any case, as Postgres does.
    text.parse().ok().map(|float| ScalarValue::Float64(Some(float)))
}

/// `\x00ff`, or the older form with octal escapes.
fn bytea(text: &str) -> Option<Vec<u8>> {
    if let Some(hex) = text.strip_prefix("\\x") {
        let digits = hex.bytes().filter(|byte| !byte.is_ascii_whitespace());
        let digits = digits.map(|byte| char::from(byte).to_digit(16)).collect::<Option<Vec<_>>>()?;
        let (pairs, rest) = digits.as_chunks::<2>();
        return rest.is_empty().then(|| pairs.iter().map(|[high, low]| (high * 16 + low) as u8).collect());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    loop {
        match rest {
            [] => return Some(bytes),
            [b'\\', b'\\', after @ ..] => {
                bytes.push(b'\\');
                rest = after;
            }
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..] => {
                bytes.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
                rest = after;
            }
            [b'\\', ..] => return None,
            [byte, after @ ..] => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
}

/// `1 year 2 mons -3 days 04:05:06.7`, also with the commas and plain numbers of seconds that drivers write.
fn interval(text: &str) -> Option<IntervalMonthDayNano> {
    const NANOS: i64 = 1_000_000_000;
    let (mut months, mut days, mut nanos) = (0_i32, 0_i32, 0_i64);
    let words: Vec<_> = text.split([' ', ',', '\t']).filter(|word| !word.is_empty()).collect();
    if words.is_empty() {
        return None;
    }
    let mut at = 0;
    while let Some(word) = words.get(at) {
        at += 1;
        if word.contains(':') {
            nanos = nanos.checked_add(clock(word)?)?;
            continue;
        }
        let Some(unit) = words.get(at) else {
            nanos = nanos.checked_add(decimal(word, NANOS)?)?;
            break;
        };
        at += 1;
        let whole = || word.parse::<i32>().ok();
        let unit = match unit.to_ascii_lowercase().as_str() {
            short @ ("s" | "ms" | "us") => short.to_owned(),
            long => long.trim_end_matches('s').to_owned(),
        };
        match unit.as_str() {
            "year" | "yr" | "y" => months = months.checked_add(whole()?.checked_mul(12)?)?,
            "month" | "mon" => months = months.checked_add(whole()?)?,
            "week" | "w" => days = days.checked_add(whole()?.checked_mul(7)?)?,
            "day" | "d" => days = days.checked_add(whole()?)?,
            "hour" | "hr" | "h" => nanos = nanos.checked_add(decimal(word, 3600 * NANOS)?)?,
            "minute" | "min" | "m" => nanos = nanos.checked_add(decimal(word, 60 * NANOS)?)?,
            "second" | "sec" | "s" => nanos = nanos.checked_add(decimal(word, NANOS)?)?,
            "millisecond" | "msec" | "ms" => nanos = nanos.checked_add(decimal(word, NANOS / 1000)?)?,
            "microsecond" | "usec" | "us" => nanos = nanos.checked_add(decimal(word, 1000)?)?,
            _ => return None,
        }
    }
    Some(IntervalMonthDayNano::new(months, days, nanos))
}

/// `[-]hours:minutes[:seconds[.fraction]]` in nanoseconds.
fn clock(text: &str) -> Option<i64> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let mut parts = text.split(':');
    let hours: i64 = parts.next()?.parse().ok()?;
    let minutes: i64 = parts.next()?.parse().ok()?;
    let seconds = parts.next().map_or(Some(0), |seconds| decimal(seconds, 1_000_000_000))?;
    if parts.next().is_some() || !(0..60).contains(&minutes) || hours < 0 || seconds < 0 {
        return None;
    }
    let nanos = hours.checked_mul(60)?.checked_add(minutes)?.checked_mul(60_000_000_000)?.checked_add(seconds)?;
    Some(if negative { -nanos } else { nanos })
}

/// A decimal number times `unit`, without the error of a float.
fn decimal(text: &str, unit: i64) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let negative = whole.starts_with('-');
    let whole = if matches!(whole, "" | "-" | "+") { 0 } else { whole.parse::<i64>().ok()? };
    if fraction.len() > 12 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let part = if fraction.is_empty() { 0 } else { fraction.parse::<i128>().ok()? };
    let part = part * i128::from(unit) / 10_i128.pow(fraction.len() as u32);
    let part = i64::try_from(if negative { -part } else { part }).ok()?;
    whole.checked_mul(unit)?.checked_add(part)
}

/// `{a,"b c",NULL}` without the arrays in arrays.
fn array_items(text: &str) -> Option<Vec<Option<String>>> {
    let inside = text.strip_prefix('{')?.strip_suffix('}')?;
    let mut items = Vec::new();
    if inside.trim().is_empty() {
        return Some(items);
    }
    let mut letters = inside.chars().peekable();
    loop {
        while letters.next_if(|letter| letter.is_whitespace()).is_some() {}
        let mut item = String::new();
        let quoted = letters.next_if_eq(&'"').is_some();
        if quoted {
            loop {
                match letters.next()? {
                    '"' => break,
                    '\\' => item.push(letters.next()?),
                    letter => item.push(letter),
                }
            }
            while letters.next_if(|letter| letter.is_whitespace()).is_some() {}
        } else {
            while let Some(letter) = letters.next_if(|letter| *letter != ',') {
                match letter {
                    '{' | '}' | '"' => return None,
                    '\\' => item.push(letters.next()?),
                    letter => item.push(letter),
                }
            }
            item.truncate(item.trim_end().len());
            if item.is_empty() {
                return None;
            }
        }
        items.push(if !quoted && item.eq_ignore_ascii_case("NULL") { None } else { Some(item) });
        match letters.next() {
            None => return Some(items),
            Some(',') => {}
            Some(_) => return None,
        }
    }
}

fn list(items: &[ScalarValue], item: &DataType) -> Result<ScalarValue> {
    // All of one type by now, which is what keeps the conversion below from failing.
    if let Some(odd) = items.iter().find(|value| value.data_type() != *item) {
        return Err(Error::internal(format!("an array of {item} got a {}", odd.data_type())));
    }
    Ok(ScalarValue::List(ScalarValue::new_list(items, item, true)))
}

/// `2024-01-01 00:00:00+01` without its `+01`, and `2024-01-01 +01`, as JDBC writes a date, too.
fn without_zone(text: &str) -> &str {
    let text = text.strip_suffix(['Z', 'z']).unwrap_or(text);
    let Some(clock) = text.find(':') else {
        return match text.split_once(' ') {
            Some((date, zone)) if zone.starts_with(['+', '-']) => date,
            _ => text,
        };
    };
    match text[clock..].find(['+', '-']) {
        Some(zone) => text[..clock + zone].trim_end(),
        None => text,
    }
}

fn from_binary(mut bytes: &[u8], of: &Type, planned: &DataType) -> Result<ScalarValue> {
    let wrong = || {
        let message = format!("incorrect binary data format in bind parameter of type {}", name(of));
        Error::new(Kind::InvalidText, message)
    };
    let value = match *of {
        Type::BOOL => bytes.try_get_u8().ok().map(|byte| ScalarValue::Boolean(Some(byte != 0))),
        Type::INT2 => bytes.try_get_i16().ok().map(|value| ScalarValue::Int16(Some(value))),
        Type::INT4 => bytes.try_get_i32().ok().map(|value| ScalarValue::Int32(Some(value))),
        Type::INT8 => bytes.try_get_i64().ok().map(|value| ScalarValue::Int64(Some(value))),
        Type::OID => bytes.try_get_u32().ok().map(|value| ScalarValue::Int64(Some(i64::from(value)))),
        Type::FLOAT4 => bytes.try_get_f32().ok().map(|value| ScalarValue::Float32(Some(value))),
        Type::FLOAT8 => bytes.try_get_f64().ok().map(|value| ScalarValue::Float64(Some(value))),
        Type::NUMERIC => {
            let written = read_binary_numeric(bytes).ok_or_else(wrong)?;
            return if planned.is_integer() && written.contains('.') {
                // 5.00 is a whole number; 5.25 where a whole number is needed is not.
                from_text(written.trim_end_matches('0').trim_end_matches('.'), of, planned)
            } else {
                from_text(&written, of, planned)
            };
        }
        Type::JSONB => match bytes.split_first() {
            Some((1, document)) => return from_text(text(document)?, of, planned),
            _ => return Err(wrong()),
        },
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::JSON | Type::UNKNOWN => {
            return from_text(text(bytes)?, of, planned);
        }
        Type::UUID => {
            let [a, b, c, d, e, f, g, h, rest @ ..] = bytes else { return Err(wrong()) };
            let hex = |part: &[u8]| part.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            let [i, j, end @ ..] = rest else { return Err(wrong()) };
            if end.len() != 6 {
                return Err(wrong());
            }
            let parts = [hex(&[*a, *b, *c, *d]), hex(&[*e, *f]), hex(&[*g, *h]), hex(&[*i, *j]), hex(end)];
            return Ok(ScalarValue::Utf8(Some(parts.join("-"))));
        }
        Type::BYTEA => return Ok(ScalarValue::Binary(Some(bytes.to_vec()))),
        Type::DATE => {
            let days = bytes.try_get_i32().ok().and_then(|days| days.checked_add(EPOCH_DAYS));
            days.map(|days| ScalarValue::Date32(Some(days)))
        }
        Type::TIME => bytes.try_get_i64().ok().map(|micros| ScalarValue::Time64Microsecond(Some(micros))),
        Type::TIMESTAMP | Type::TIMESTAMPTZ => {
            let micros = bytes.try_get_i64().ok().and_then(|micros| micros.checked_add(EPOCH_MICROS));
            let zone = (*of == Type::TIMESTAMPTZ).then(|| match planned {
                DataType::Timestamp(_, Some(zone)) => Arc::clone(zone),
                _ => Arc::from("UTC"),
            });
            micros.map(|micros| ScalarValue::TimestampMicrosecond(Some(micros), zone))
        }
        Type::INTERVAL => {
            let parts = (bytes.try_get_i64(), bytes.try_get_i32(), bytes.try_get_i32());
            match parts {
                (Ok(micros), Ok(days), Ok(months)) => micros.checked_mul(1000).map(|nanos| {
                    ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano::new(months, days, nanos)))
                }),
                _ => None,
            }
        }
        _ if element_of(of).is_some() => return binary_array(bytes, planned)?.ok_or_else(wrong),
        _ => {
            let message = format!("parameters of type {} are read in text format only", name(of));
            return Err(Error::unsupported(message));
        }
    };
    // What has bytes left over was not of this type.
    value.filter(|_| bytes.is_empty()).ok_or_else(wrong)
}

/// One dimension or none; `None` when the bytes are not an array.
fn binary_array(mut bytes: &[u8], planned: &DataType) -> Result<Option<ScalarValue>> {
    let (DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _)) = planned else {
        return Err(Error::new(Kind::WrongType, format!("an array was given where {planned} is needed")));
    };
    let header = (bytes.try_get_i32(), bytes.try_get_i32(), bytes.try_get_u32());
    let (Ok(dimensions), Ok(_), Ok(oid)) = header else { return Ok(None) };
    if dimensions > 1 {
        return Err(Error::unsupported("arrays in arrays are not read as parameters"));
    }
    // The array says itself what its items are, and that may be a cousin of what was declared.
    let Some(given) = Type::from_oid(oid) else { return Ok(None) };
    let mut items = Vec::new();
    if dimensions == 1 {
        let (Ok(length), Ok(_)) = (bytes.try_get_i32(), bytes.try_get_i32()) else { return Ok(None) };
        for _ in 0..length {
            let Ok(length) = bytes.try_get_i32() else { return Ok(None) };
            let value = match usize::try_from(length) {
                Ok(length) => {
                    let Some((value, rest)) = bytes.split_at_checked(length) else { return Ok(None) };
                    bytes = rest;
                    Some(value)
                }
                Err(_) => None,
            };
            items.push(read(value, Format::Binary, &given, item.data_type())?);
        }
    }
    if !bytes.is_empty() {
        return Ok(None);
    }
    Ok(Some(list(&items, item.data_type())?))
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::TimeUnit;
    use proptest::prelude::*;

    use super::super::types::parameter_type;
    use super::*;

    fn written(text: &str, of: &Type) -> Result<ScalarValue> {
        read(Some(text.as_bytes()), Format::Text, of, &parameter_type(of).unwrap())
    }

    fn sent(bytes: &[u8], of: &Type) -> Result<ScalarValue> {
        read(Some(bytes), Format::Binary, of, &parameter_type(of).unwrap())
    }

    #[test]
    fn numbers_and_truth() {
        assert_eq!(written(" 42 ", &Type::INT4).unwrap(), ScalarValue::Int32(Some(42)));
        assert_eq!(sent(&42i64.to_be_bytes(), &Type::INT8).unwrap(), ScalarValue::Int64(Some(42)));
        assert_eq!(written("1e3", &Type::FLOAT8).unwrap(), ScalarValue::Float64(Some(1000.0)));
        assert_eq!(written("on", &Type::BOOL).unwrap(), ScalarValue::Boolean(Some(true)));
        assert_eq!(written("12.5", &Type::NUMERIC).unwrap(), ScalarValue::Decimal128(Some(125_000_000_000), 38, 10));
        let binary = [0, 2, 0, 0, 0x40, 0, 0, 1, 0, 12, 0x13, 0x88];
        assert_eq!(sent(&binary, &Type::NUMERIC).unwrap(), ScalarValue::Decimal128(Some(-125_000_000_000), 38, 10));
        assert_eq!(read(None, Format::Text, &Type::INT4, &DataType::Int32).unwrap(), ScalarValue::Int32(None));
    }

    #[test]
    fn what_cannot_be_read_says_so_in_postgres_words() {
        let error = written("abc", &Type::INT4).unwrap_err();
        assert_eq!(
            (error.kind.sqlstate(), error.message.as_str()),
            ("22P02", "invalid input syntax for type integer: \"abc\"")
        );
        assert_eq!(written("99999", &Type::INT2).unwrap_err().kind, Kind::OutOfRange);
        assert_eq!(sent(b"\0\x01", &Type::INT4).unwrap_err().kind, Kind::InvalidText);
        assert_eq!(sent(b"a\0b", &Type::TEXT).unwrap_err().kind, Kind::InvalidText);
        assert_eq!(sent(b"\xff", &Type::TEXT).unwrap_err().kind, Kind::InvalidText);
    }

    #[test]
    fn a_declared_type_is_fitted_to_the_planned_one() {
        let value = read(Some(&7i32.to_be_bytes()), Format::Binary, &Type::INT4, &DataType::Int64).unwrap();
        assert_eq!(value, ScalarValue::Int64(Some(7)));
        let value = read(Some(b"x"), Format::Text, &Type::VARCHAR, &DataType::Utf8View).unwrap();
        assert_eq!(value, ScalarValue::Utf8View(Some("x".into())));
    }

    #[test]
    fn moments() {
        assert_eq!(written("2024-01-01", &Type::DATE).unwrap(), ScalarValue::Date32(Some(19_723)));
        assert_eq!(sent(&8766i32.to_be_bytes(), &Type::DATE).unwrap(), ScalarValue::Date32(Some(19_723)));
        let noon = Some(1_704_110_400_000_000);
        for text in ["2024-01-01 12:00:00", "2024-01-01T12:00:00", "2024-01-01 12:00:00+05"] {
            assert_eq!(
                written(text, &Type::TIMESTAMP).unwrap(),
                ScalarValue::TimestampMicrosecond(noon, None),
                "{text}"
            );
        }
        let midnight = ScalarValue::TimestampMicrosecond(Some(1_704_067_200_000_000), None);
        assert_eq!(written("2024-01-01 +00", &Type::TIMESTAMP).unwrap(), midnight);
        let utc = Some(Arc::from("UTC"));
        let zoned = written("2024-01-01 13:00:00+01", &Type::TIMESTAMPTZ).unwrap();
        assert_eq!(zoned, ScalarValue::TimestampMicrosecond(noon, utc.clone()));
        let bytes = 757_425_600_000_000i64.to_be_bytes();
        assert_eq!(sent(&bytes, &Type::TIMESTAMPTZ).unwrap(), ScalarValue::TimestampMicrosecond(noon, utc));
        let nanos = read(
            Some(b"1970-01-01 00:00:01"),
            Format::Text,
            &Type::TIMESTAMP,
            &DataType::Timestamp(TimeUnit::Nanosecond, None),
        );
        assert_eq!(nanos.unwrap(), ScalarValue::TimestampNanosecond(Some(1_000_000_000), None));
        assert_eq!(written("04:05:06.5", &Type::TIME).unwrap(), ScalarValue::Time64Microsecond(Some(14_706_500_000)));
    }

    #[test]
    fn intervals_in_the_ways_drivers_write_them() {
        let of = |months, days, nanos| Some(IntervalMonthDayNano::new(months, days, nanos));
        assert_eq!(interval("1 year 2 mons 3 days 04:05:06.7"), of(14, 3, 14_706_700_000_000));
        assert_eq!(interval("1 day, 2:00:00"), of(0, 1, 7_200_000_000_000));
        assert_eq!(interval("-1 days -00:00:01"), of(0, -1, -1_000_000_000));
        assert_eq!(interval("90 seconds"), of(0, 0, 90_000_000_000));
        assert_eq!(interval("5 ms"), of(0, 0, 5_000_000));
        assert_eq!(interval("1.5 hours"), of(0, 0, 5_400_000_000_000));
        assert_eq!(interval("soon"), None);
        assert_eq!(interval(""), None);
    }

    #[test]
    fn bytes_and_uuids() {
        assert_eq!(written("\\x00fF", &Type::BYTEA).unwrap(), ScalarValue::Binary(Some(vec![0, 255])));
        assert_eq!(written("a\\\\\\001", &Type::BYTEA).unwrap(), ScalarValue::Binary(Some(vec![b'a', b'\\', 1])));
        let text = ScalarValue::Utf8(Some("12121212-1212-1212-1212-121212121212".into()));
        assert_eq!(sent(&[0x12; 16], &Type::UUID).unwrap(), text);
        assert!(sent(&[0x12; 15], &Type::UUID).is_err());
    }

    #[test]
    fn arrays() {
        let items = array_items(r#"{a, "b \"c\"" ,NULL,"null"}"#).unwrap();
        assert_eq!(items, [Some("a".into()), Some("b \"c\"".into()), None, Some("null".into())]);
        assert_eq!(array_items("{}"), Some(vec![]));
        for wrong in ["", "{", "{a,}", "{{1},{2}}", "{\"a}", "{\"a\"b}"] {
            assert_eq!(array_items(wrong), None, "{wrong}");
        }
        let written = written("{1,NULL}", &Type::INT4_ARRAY).unwrap();
        let bytes = [1, 1, 23, 2, 1, 4, 1, -1].map(i32::to_be_bytes).concat();
        assert_eq!(sent(&bytes, &Type::INT4_ARRAY).unwrap(), written);
        assert_eq!(written.to_string(), "[1, ]");
        assert!(sent(&[0, 0, 23].map(i32::to_be_bytes).concat(), &Type::INT4_ARRAY).is_ok());
        assert!(sent(&[1, 0, 23, i32::MAX, 1].map(i32::to_be_bytes).concat(), &Type::INT4_ARRAY).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_can_make_us_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            for oid in 16..4000 {
                let Some(of) = Type::from_oid(oid) else { continue };
                let Some(planned) = parameter_type(&of) else { continue };
                let _ = read(Some(&bytes), Format::Binary, &of, &planned);
                let _ = read(Some(&bytes), Format::Text, &of, &planned);
            }
        }

        #[test]
        fn no_text_can_make_us_panic(text in "[-+{}0-9a-z:., \"\\\\]{0,20}") {
            let _ = (interval(&text), array_items(&text), bytea(&text), clock(&text), without_zone(&text));
        }
    }
}
