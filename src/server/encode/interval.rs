//! Intervals in the style `postgres`: `1 year 2 mons 3 days 04:05:06`.

use bytes::{BufMut, BytesMut};

use super::calendar::{MICROS_PER_DAY, MICROS_PER_SECOND, put_fraction};
use super::number::{put_integer, put_padded};

/// Months, days and microseconds are counted apart, for no two months or days are equally long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Interval {
    pub months: i32,
    pub days: i32,
    pub micros: i64,
}

impl Interval {
    /// An exact span of time, in days and the time after them as Postgres subtracts timestamps.
    pub(super) fn of_micros(micros: i64) -> Self {
        // 2⁶³ microseconds are 107 million days, so the days fit.
        Self { months: 0, days: (micros / MICROS_PER_DAY) as i32, micros: micros % MICROS_PER_DAY }
    }

    pub(super) fn put(self, out: &mut BytesMut) {
        let start = out.len();
        let mut negative_before = false;
        for (count, unit) in [(self.months / 12, "year"), (self.months % 12, "mon"), (self.days, "day")] {
            if count == 0 {
                continue;
            }
            if out.len() > start {
                out.put_u8(b' ');
            }
            // After something negative a plus is spelt out, or it would read as negative too.
            if negative_before && count > 0 {
                out.put_u8(b'+');
            }
            put_integer(i64::from(count), out);
            out.put_u8(b' ');
            out.put_slice(unit.as_bytes());
            if count != 1 {
                out.put_u8(b's');
            }
            negative_before = count < 0;
        }
        if self.micros == 0 && out.len() > start {
            return;
        }
        if out.len() > start {
            out.put_u8(b' ');
        }
        if self.micros < 0 {
            out.put_u8(b'-');
        } else if negative_before {
            out.put_u8(b'+');
        }
        let micros = self.micros.unsigned_abs();
        let seconds = (micros / MICROS_PER_SECOND.unsigned_abs()).cast_signed();
        put_padded(seconds / 3600, 2, out);
        out.put_u8(b':');
        put_padded(seconds / 60 % 60, 2, out);
        out.put_u8(b':');
        put_padded(seconds % 60, 2, out);
        put_fraction((micros % MICROS_PER_SECOND.unsigned_abs()).cast_signed(), out);
    }

    pub(super) fn put_binary(self, out: &mut BytesMut) {
        out.put_i64(self.micros);
        out.put_i32(self.days);
        out.put_i32(self.months);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(months: i32, days: i32, micros: i64) -> String {
        let mut out = BytesMut::new();
        Interval { months, days, micros }.put(&mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn intervals_read_as_in_postgres() {
        assert_eq!(text(0, 0, 0), "00:00:00");
        assert_eq!(text(14, 3, 14_706_000_000), "1 year 2 mons 3 days 04:05:06");
        assert_eq!(text(0, 1, 0), "1 day");
        assert_eq!(text(-14, 3, -14_706_789_000), "-1 years -2 mons +3 days -04:05:06.789");
        assert_eq!(text(0, -1, 3_600_000_000), "-1 days +01:00:00");
        assert_eq!(text(0, 0, 100 * 3_600_000_000), "100:00:00");
        text(i32::MIN, i32::MIN, i64::MIN);
    }

    #[test]
    fn spans_of_time_are_split_into_days() {
        assert_eq!(Interval::of_micros(-MICROS_PER_DAY - 1), Interval { months: 0, days: -1, micros: -1 });
    }
}
