//! Dates and times of day as Postgres writes them: ISO, no trailing zeros, any year.

use bytes::{BufMut, BytesMut};
use chrono::{DateTime, Offset, TimeZone};
use datafusion::arrow::array::timezone::Tz;
use datafusion::arrow::datatypes::TimeUnit;

use super::number::put_padded;
use crate::error::{Error, Kind, Result};

pub(super) const MICROS_PER_SECOND: i64 = 1_000_000;
pub(super) const SECONDS_PER_DAY: i64 = 86_400;
pub(super) const MICROS_PER_DAY: i64 = SECONDS_PER_DAY * MICROS_PER_SECOND;
/// Postgres counts from 2000-01-01, Arrow from 1970-01-01.
const EPOCH_DAYS: i64 = 10_957;

/// `2024-02-29`, `0044-03-15 BC`; `days` since 1970.
pub(super) fn put_date(days: i64, out: &mut BytesMut) {
    let before_christ = put_year_month_day(days, out);
    put_era(before_christ, out);
}

/// `04:05:06.789`; `micros` since midnight.
pub(super) fn put_time(micros: i64, out: &mut BytesMut) {
    let seconds = micros.div_euclid(MICROS_PER_SECOND);
    put_padded(seconds / 3600, 2, out);
    out.put_u8(b':');
    put_padded(seconds / 60 % 60, 2, out);
    out.put_u8(b':');
    put_padded(seconds % 60, 2, out);
    put_fraction(micros.rem_euclid(MICROS_PER_SECOND), out);
}

/// `2024-01-01 00:00:00.123456`
pub(super) fn put_timestamp(value: i64, unit: TimeUnit, out: &mut BytesMut) {
    let (seconds, micros) = split(value, unit);
    let before_christ = put_seconds(seconds, micros, out);
    put_era(before_christ, out);
}

/// `2024-01-01 01:00:00+01`, shown in `zone`.
pub(super) fn put_timestamp_in(value: i64, unit: TimeUnit, zone: Option<Tz>, out: &mut BytesMut) {
    let (seconds, micros) = split(value, unit);
    let offset = zone.map_or(0, |zone| offset_at(zone, seconds));
    let before_christ = put_seconds(seconds.saturating_add(offset), micros, out);
    out.put_u8(if offset < 0 { b'-' } else { b'+' });
    let offset = offset.abs();
    put_padded(offset / 3600, 2, out);
    if offset % 3600 != 0 {
        out.put_u8(b':');
        put_padded(offset / 60 % 60, 2, out);
    }
    if offset % 60 != 0 {
        out.put_u8(b':');
        put_padded(offset % 60, 2, out);
    }
    put_era(before_christ, out);
}

/// Days since 2000, as the binary format has them.
pub(super) fn binary_date(days: i64) -> Result<i32> {
    i32::try_from(days - EPOCH_DAYS).map_err(|_| Error::new(Kind::OutOfRange, "date out of range"))
}

/// Microseconds since 2000, as the binary format has them.
pub(super) fn binary_timestamp(value: i64, unit: TimeUnit) -> Result<i64> {
    let (seconds, micros) = split(value, unit);
    seconds
        .checked_sub(EPOCH_DAYS * SECONDS_PER_DAY)
        .and_then(|seconds| seconds.checked_mul(MICROS_PER_SECOND))
        .and_then(|whole| whole.checked_add(micros))
        .ok_or_else(|| Error::new(Kind::OutOfRange, "timestamp out of range"))
}

/// Any count of time as microseconds; what is finer is cut off, as Postgres has nothing finer.
pub(super) fn micros(value: i64, unit: TimeUnit) -> Result<i64> {
    match unit {
        TimeUnit::Second => value.checked_mul(MICROS_PER_SECOND),
        TimeUnit::Millisecond => value.checked_mul(1000),
        TimeUnit::Microsecond => Some(value),
        TimeUnit::Nanosecond => Some(value / 1000),
    }
    .ok_or_else(|| Error::new(Kind::OutOfRange, "interval out of range"))
}

/// Whole seconds and the microseconds after them; never overflows.
fn split(value: i64, unit: TimeUnit) -> (i64, i64) {
    match unit {
        TimeUnit::Second => (value, 0),
        TimeUnit::Millisecond => (value.div_euclid(1000), value.rem_euclid(1000) * 1000),
        TimeUnit::Microsecond => (value.div_euclid(1_000_000), value.rem_euclid(1_000_000)),
        TimeUnit::Nanosecond => (value.div_euclid(1_000_000_000), value.rem_euclid(1_000_000_000) / 1000),
    }
}

fn put_seconds(seconds: i64, micros: i64, out: &mut BytesMut) -> bool {
    let before_christ = put_year_month_day(seconds.div_euclid(SECONDS_PER_DAY), out);
    out.put_u8(b' ');
    put_time(seconds.rem_euclid(SECONDS_PER_DAY) * MICROS_PER_SECOND + micros, out);
    before_christ
}

fn put_year_month_day(days: i64, out: &mut BytesMut) -> bool {
    let (year, month, day) = civil(days);
    // There was no year zero: what astronomers call 0 is 1 BC.
    let before_christ = year <= 0;
    put_padded(if before_christ { 1 - year } else { year }, 4, out);
    out.put_u8(b'-');
    put_padded(month, 2, out);
    out.put_u8(b'-');
    put_padded(day, 2, out);
    before_christ
}

fn put_era(before_christ: bool, out: &mut BytesMut) {
    if before_christ {
        out.put_slice(b" BC");
    }
}

/// `.5`, `.123456`, or nothing for a whole second.
pub(super) fn put_fraction(micros: i64, out: &mut BytesMut) {
    if micros == 0 {
        return;
    }
    out.put_u8(b'.');
    let (mut digits, mut width) = (micros, 6);
    while digits % 10 == 0 {
        digits /= 10;
        width -= 1;
    }
    put_padded(digits, width, out);
}

/// Year, month and day of a count of days since 1970 (Howard Hinnant, "chrono-compatible low-level date algorithms"):
/// eras of 400 years, and years that begin in March so that the leap day comes last.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Seconds east of Greenwich at an instant; instants beyond the calendar count as UTC.
fn offset_at(zone: Tz, seconds: i64) -> i64 {
    DateTime::from_timestamp(seconds, 0)
        .map_or(0, |at| i64::from(zone.offset_from_utc_datetime(&at.naive_utc()).fix().local_minus_utc()))
}

#[cfg(test)]
mod tests {
    use chrono::{Datelike, NaiveDate};
    use proptest::prelude::*;

    use super::*;

    fn written(put: impl FnOnce(&mut BytesMut)) -> String {
        let mut out = BytesMut::new();
        put(&mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn dates_around_the_edges() {
        assert_eq!(written(|out| put_date(0, out)), "1970-01-01");
        assert_eq!(written(|out| put_date(19_782, out)), "2024-02-29");
        assert_eq!(written(|out| put_date(-719_163, out)), "0001-12-31 BC");
        assert_eq!(written(|out| put_date(2_932_897, out)), "10000-01-01");
    }

    #[test]
    fn fractions_have_no_trailing_zeros() {
        let at = |micros: i64| written(|out| put_timestamp(1_704_067_200_000_000 + micros, TimeUnit::Microsecond, out));
        assert_eq!(at(0), "2024-01-01 00:00:00");
        assert_eq!(at(500_000), "2024-01-01 00:00:00.5");
        assert_eq!(at(123_456), "2024-01-01 00:00:00.123456");
        assert_eq!(at(7), "2024-01-01 00:00:00.000007");
        assert_eq!(at(-1), "2023-12-31 23:59:59.999999");
    }

    #[test]
    fn zones_show_as_little_of_their_offset_as_there_is() {
        let at = |zone: &str| written(|out| put_timestamp_in(1_720_000_000, TimeUnit::Second, zone.parse().ok(), out));
        assert_eq!(at("UTC"), "2024-07-03 09:46:40+00");
        assert_eq!(at("Europe/Berlin"), "2024-07-03 11:46:40+02");
        assert_eq!(at("Asia/Kolkata"), "2024-07-03 15:16:40+05:30");
        assert_eq!(at("America/New_York"), "2024-07-03 05:46:40-04");
    }

    #[test]
    fn no_count_of_anything_panics() {
        for unit in [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond] {
            for value in [i64::MIN, -1, 0, i64::MAX] {
                written(|out| put_timestamp(value, unit, out));
                written(|out| put_timestamp_in(value, unit, "Europe/Berlin".parse().ok(), out));
                let _ = binary_timestamp(value, unit);
            }
        }
        assert!(binary_timestamp(i64::MAX, TimeUnit::Second).is_err());
        assert_eq!(binary_timestamp(946_684_801, TimeUnit::Second).unwrap(), 1_000_000);
        assert_eq!(binary_date(10_958).unwrap(), 1);
    }

    proptest! {
        #[test]
        fn days_are_what_chrono_says(days in -700_000i32..2_900_000) {
            let date = NaiveDate::from_num_days_from_ce_opt(days + 719_163).unwrap();
            let (year, month, day) = civil(i64::from(days));
            prop_assert_eq!((year, month, day), (i64::from(date.year()), i64::from(date.month()), i64::from(date.day())));
        }

        #[test]
        fn timestamps_read_back_as_they_were(micros in -60_000_000_000_000_000i64..250_000_000_000_000_000) {
            let text = written(|out| put_timestamp(micros, TimeUnit::Microsecond, out));
            let read = chrono::NaiveDateTime::parse_from_str(&text, "%Y-%m-%d %H:%M:%S%.f").unwrap();
            prop_assert_eq!(read.and_utc().timestamp_micros(), micros);
        }
    }
}
