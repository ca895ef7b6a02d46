//! Values as files mostly write them, read without detours. What is written otherwise is `None`, and left to readers
//! that know more forms.

/// A whole number of up to 18 digits.
#[inline]
pub(super) fn whole(text: &[u8]) -> Option<i64> {
    let (negative, digits) = signed(text);
    if !(1..=18).contains(&digits.len()) {
        return None;
    }
    let mut number = 0;
    for digit in digits {
        number = number * 10 + i64::from(digit_of(*digit)?);
    }
    Some(if negative { -number } else { number })
}

/// A decimal number whose digits a double holds: one division, rounded once, is exact (Clinger 1990).
#[inline]
pub(super) fn decimal(text: &[u8]) -> Option<f64> {
    const POWERS: [f64; 16] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];
    let (negative, digits) = signed(text);
    // 15 digits are below 2^53, with a point among them.
    if !(1..=16).contains(&digits.len()) {
        return None;
    }
    let (mut number, mut point) = (0_u64, None);
    for (at, digit) in digits.iter().enumerate() {
        if *digit == b'.' && point.is_none() && at > 0 {
            point = Some(at);
        } else {
            number = number * 10 + u64::from(digit_of(*digit)?);
        }
    }
    let n_decimals = match point {
        Some(at) => digits.len() - 1 - at,
        None if digits.len() == 16 => return None,
        None => 0,
    };
    if point.is_some() && n_decimals == 0 {
        return None;
    }
    let value = number as f64 / POWERS.get(n_decimals)?;
    Some(if negative { -value } else { value })
}

/// Days since 1970 of `2026-03-01`.
#[inline]
pub(super) fn day(text: &[u8]) -> Option<i32> {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = *text.first_chunk::<10>()? else { return None };
    if text.len() > 10 {
        return None;
    }
    let year = two(y1, y2)? * 100 + two(y3, y4)?;
    days(year, two(m1, m2)?, two(d1, d2)?)
}

/// Microseconds since 1970 of `2026-03-01 14:30:05`, with a `T` between or fractions behind as well.
#[inline]
pub(super) fn moment(text: &[u8]) -> Option<i64> {
    let (date, time) = text.split_at_checked(10)?;
    let [b' ' | b'T', h1, h2, b':', m1, m2, b':', s1, s2] = *time.first_chunk::<9>()? else { return None };
    let (hour, minute, second) = (two(h1, h2)?, two(m1, m2)?, two(s1, s2)?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let micros = match time.get(9..)? {
        [] => 0,
        [b'.', digits @ ..] if (1..=6).contains(&digits.len()) => {
            whole(digits).filter(|_| digits[0] != b'-')? * 10_i64.pow(6 - digits.len() as u32)
        }
        _ => return None,
    };
    let seconds = i64::from(day(date)?) * 86_400 + i64::from(hour * 3600 + minute * 60 + second);
    Some(seconds * 1_000_000 + micros)
}

#[inline]
pub(super) fn truth(text: &[u8]) -> Option<bool> {
    match text {
        _ if text.eq_ignore_ascii_case(b"true") => Some(true),
        _ if text.eq_ignore_ascii_case(b"false") => Some(false),
        _ => None,
    }
}

#[inline]
fn signed(text: &[u8]) -> (bool, &[u8]) {
    match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    }
}

#[inline(always)]
fn digit_of(byte: u8) -> Option<u8> {
    let digit = byte.wrapping_sub(b'0');
    (digit < 10).then_some(digit)
}

#[inline(always)]
fn two(tens: u8, ones: u8) -> Option<i32> {
    Some(i32::from(digit_of(tens)? * 10 + digit_of(ones)?))
}

/// Days since 1970 in the Gregorian calendar. (Hinnant, `days_from_civil`: years begin in March, so that the leap day is
/// their last, and come in eras of 400.)
#[inline]
fn days(year: i32, month: i32, day: i32) -> Option<i32> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=length).contains(&day) {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

#[cfg(test)]
mod tests {
    use chrono::{NaiveDate, NaiveDateTime};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn common_values_are_read_and_others_left() {
        assert_eq!(
            [whole(b"0"), whole(b"-007"), whole(b"999999999999999999")],
            [Some(0), Some(-7), Some(10_i64.pow(18) - 1)]
        );
        for text in ["", "-", "+1", " 1", "1 ", "1.0", "--1", "9223372036854775807", "\u{663}"] {
            assert_eq!(whole(text.as_bytes()), None, "{text}");
        }
        assert_eq!([decimal(b"293.34"), decimal(b"-0.5"), decimal(b"12")], [Some(293.34), Some(-0.5), Some(12.0)]);
        assert!(decimal(b"-0").is_some_and(|zero| zero == 0.0 && zero.is_sign_negative()));
        for text in ["", ".", ".5", "5.", "-", "1e5", "1..2", "1.2.3", "nan", "1234567890123456", "0.1234567890123456"]
        {
            assert_eq!(decimal(text.as_bytes()), None, "{text}");
        }
        for text in ["2026-02-29", "2026-13-01", "2026-00-01", "2026-1-01", "2026-01-01 ", "2026/01/01", "-026-01-01"] {
            assert_eq!(day(text.as_bytes()), None, "{text}");
        }
        for text in
            ["2026-01-01", "2026-01-01 24:00:00", "2026-01-01 10:00", "2026-01-01 10:00:00Z", "2026-01-01 10:00:00.-1"]
        {
            assert_eq!(moment(text.as_bytes()), None, "{text}");
        }
        assert_eq!([truth(b"True"), truth(b"FALSE"), truth(b"t")], [Some(true), Some(false), None]);
    }

    proptest! {
        #[test]
        fn days_and_moments_are_those_of_chrono(days in -719_528..2_932_897_i32, micros in 0..86_400_000_000_i64) {
            let date = NaiveDate::default() + chrono::TimeDelta::days(i64::from(days));
            prop_assert_eq!(day(date.format("%Y-%m-%d").to_string().as_bytes()), Some(days));
            let at = NaiveDateTime::from(date) + chrono::TimeDelta::microseconds(micros);
            for form in ["%Y-%m-%d %H:%M:%S%.6f", "%Y-%m-%dT%H:%M:%S%.6f"] {
                let read = moment(at.format(form).to_string().as_bytes());
                prop_assert_eq!(read, Some(at.and_utc().timestamp_micros()));
            }
        }

        #[test]
        fn decimals_are_rounded_as_the_library_rounds(text in "-?[0-9]{1,9}(\\.[0-9]{1,8})?") {
            if let Some(value) = decimal(text.as_bytes()) {
                prop_assert_eq!(value.to_bits(), text.parse::<f64>().unwrap().to_bits());
            }
        }
    }
}
