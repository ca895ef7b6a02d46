//! Dates and times as files write them: `2026-03-01`, `01/03/2026 14:30`, `1.3.26`, `3/1/2026 2:30 PM`, with zones.

use chrono::{NaiveDate, NaiveDateTime, NaiveTime};

/// Which of two numbers before the year is the day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DateOrder {
    DayFirst,
    MonthFirst,
}

/// A date as it is written, before it is known which number is the day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Written {
    year: i32,
    /// The other numbers as they come.
    numbers: [u32; 2],
    form: Form,
    time: Option<NaiveTime>,
    /// Seconds east of UTC.
    zone: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Year, month, day, as ISO 8601 has them.
    YearFirst,
    /// Day, month, year between dots, as nobody writes them otherwise.
    Dotted,
    /// Day and month in the one order or the other, then the year.
    Open,
}

impl Written {
    /// `None` for what is no date.
    pub(super) fn read(text: &str) -> Option<Self> {
        let mut rest = Rest(text.as_bytes());
        let (first, n_first) = rest.number()?;
        let separator = rest.one_of(b"-/.")?;
        let (second, n_second) = rest.number()?;
        rest.one_of(&[separator])?;
        let (third, n_third) = rest.number()?;
        if n_second > 2 {
            return None;
        }
        let (year, numbers, form) = match (n_first, n_third) {
            (4, 1..=2) => (first as i32, [second, third], Form::YearFirst),
            (1..=2, 2 | 4) => {
                let form = if separator == b'.' { Form::Dotted } else { Form::Open };
                (full_year(third, n_third), [first, second], form)
            }
            _ => return None,
        };
        let mut written = Self { year, numbers, form, time: None, zone: None };
        if !rest.is_empty() {
            rest.one_of(b" Tt")?;
            written.time = Some(rest.time()?);
            written.zone = rest.zone()?;
        }
        let orders = [DateOrder::DayFirst, DateOrder::MonthFirst];
        orders.iter().any(|order| written.date(*order).is_some()).then_some(written)
    }

    pub(super) fn has_time(&self) -> bool {
        self.time.is_some()
    }

    pub(super) fn has_zone(&self) -> bool {
        self.zone.is_some()
    }

    /// The one order in which it is a date; `None` where its form tells already, or where both are possible.
    pub(super) fn evidence(&self) -> Option<DateOrder> {
        match (self.form, self.numbers) {
            (Form::Open, [first, _]) if first > 12 => Some(DateOrder::DayFirst),
            (Form::Open, [_, second]) if second > 12 => Some(DateOrder::MonthFirst),
            _ => None,
        }
    }

    /// Whether it is another date in the other order.
    pub(super) fn is_open(&self) -> bool {
        self.form == Form::Open && self.numbers[0] != self.numbers[1]
    }

    pub(super) fn date(&self, order: DateOrder) -> Option<NaiveDate> {
        let [first, second] = self.numbers;
        let (month, day) = match (self.form, order) {
            (Form::YearFirst, _) | (Form::Open, DateOrder::MonthFirst) => (first, second),
            (Form::Dotted, _) | (Form::Open, DateOrder::DayFirst) => (second, first),
        };
        NaiveDate::from_ymd_opt(self.year, month, day)
    }

    /// Microseconds since 1970 in UTC; without a zone it is taken for UTC, without a time for midnight.
    pub(super) fn microseconds(&self, order: DateOrder) -> Option<i64> {
        let moment = NaiveDateTime::new(self.date(order)?, self.time.unwrap_or_default());
        moment.and_utc().timestamp_micros().checked_sub(self.zone.unwrap_or(0) * 1_000_000)
    }
}

/// Two digits are a year from 1969 to 2068 (POSIX `strptime`).
fn full_year(year: u32, digits: usize) -> i32 {
    match (digits, year) {
        (2, 69..) => 1900 + year as i32,
        (2, _) => 2000 + year as i32,
        _ => year as i32,
    }
}

/// What is left to read.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn one_of(&mut self, bytes: &[u8]) -> Option<u8> {
        let (first, rest) = self.0.split_first().filter(|(first, _)| bytes.contains(first))?;
        self.0 = rest;
        Some(*first)
    }

    /// A number of up to nine digits, and how many they are.
    fn number(&mut self) -> Option<(u32, usize)> {
        let digits = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if !(1..=9).contains(&digits) {
            return None;
        }
        let (number, rest) = self.0.split_at(digits);
        self.0 = rest;
        Some((number.iter().fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0')), digits))
    }

    /// `14:30`, `14:30:05.250`, `2:30 PM`.
    fn time(&mut self) -> Option<NaiveTime> {
        let (mut hour, _) = self.number().filter(|(_, digits)| *digits <= 2)?;
        self.one_of(b":")?;
        let (minute, _) = self.number().filter(|(_, digits)| *digits == 2)?;
        let (mut second, mut micro) = (0, 0);
        if self.one_of(b":").is_some() {
            second = self.number().filter(|(_, digits)| *digits == 2)?.0;
            if self.one_of(b".,").is_some() {
                let (fraction, digits) = self.number()?;
                // What is finer than a microsecond is cut off.
                micro = match digits as u32 {
                    digits @ ..=6 => fraction * 10u32.pow(6 - digits),
                    digits => fraction / 10u32.pow(digits - 6),
                };
            }
        }
        let spaced = self.0.strip_prefix(b" ").unwrap_or(self.0);
        if let Some((half, rest)) = spaced.split_at_checked(2)
            && let Some(afternoon) = [b"am", b"pm"].iter().position(|known| half.eq_ignore_ascii_case(*known))
        {
            if !(1..=12).contains(&hour) {
                return None;
            }
            hour = hour % 12 + 12 * afternoon as u32;
            self.0 = rest;
        }
        NaiveTime::from_hms_micro_opt(hour, minute, second, micro)
    }

    /// `Z`, `+02`, `+0200`, `-05:30`, ` UTC` or nothing, up to the end; `None` for anything else.
    fn zone(&mut self) -> Option<Option<i64>> {
        if self.is_empty() {
            return Some(None);
        }
        self.one_of(b" ");
        if [&b"Z"[..], b"UTC", b"GMT"].iter().any(|name| self.0.eq_ignore_ascii_case(name)) {
            return Some(Some(0));
        }
        let sign = if self.one_of(b"+-")? == b'-' { -1 } else { 1 };
        let (number, digits) = self.number()?;
        let (hours, minutes) = match (digits, self.is_empty()) {
            (4, true) => (number / 100, number % 100),
            (2, true) => (number, 0),
            (2, false) => {
                self.one_of(b":")?;
                (number, self.number().filter(|(_, digits)| *digits == 2)?.0)
            }
            _ => return None,
        };
        (self.is_empty() && hours <= 15 && minutes < 60).then(|| Some(sign * i64::from(hours * 3600 + minutes * 60)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, order: DateOrder) -> Option<String> {
        let micros = Written::read(text)?.microseconds(order)?;
        Some(chrono::DateTime::from_timestamp_micros(micros)?.format("%Y-%m-%d %H:%M:%S%.f").to_string())
    }

    #[test]
    fn common_forms_are_read() {
        use DateOrder::{DayFirst, MonthFirst};
        for (text, order, expected) in [
            ("2026-03-01", DayFirst, "2026-03-01 00:00:00"),
            ("2026/3/1", MonthFirst, "2026-03-01 00:00:00"),
            ("2026-03-01T14:30:05.25Z", DayFirst, "2026-03-01 14:30:05.250"),
            ("2026-03-01 14:30:05+02:30", DayFirst, "2026-03-01 12:00:05"),
            ("2026-03-01 14:30 -0500", DayFirst, "2026-03-01 19:30:00"),
            ("01/03/2026", DayFirst, "2026-03-01 00:00:00"),
            ("01/03/2026", MonthFirst, "2026-01-03 00:00:00"),
            ("12/1/2010 8:26", MonthFirst, "2010-12-01 08:26:00"),
            ("1.3.26", MonthFirst, "2026-03-01 00:00:00"),
            ("3/1/69 2:30 PM", MonthFirst, "1969-03-01 14:30:00"),
            ("3/1/2068 12:05am", MonthFirst, "2068-03-01 00:05:00"),
            ("29/02/2024 23:59:59.9999999", DayFirst, "2024-02-29 23:59:59.999999"),
        ] {
            assert_eq!(shown(text, order).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_date_is_none() {
        for text in [
            "",
            "2026",
            "2026-13-01",
            "2026-02-30",
            "31/02/2026",
            "13/13/2026",
            "1-2",
            "1/2/3",
            "1/2-2026",
            "2026-03-01 ",
            "2026-03-01 25:00",
            "2026-03-01 10",
            "2026-03-01 10:00 XX",
            "2026-03-01 13:00 PM",
            "2026-03-01 10:00+2",
            "2026-03-01 10:00+02:",
            "1.2.3.4",
            "99999999999/1/2026",
            "٣/٤/٢٠٢٦",
        ] {
            assert_eq!(Written::read(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_over_twelve_are_evidence() {
        let read = |text| Written::read(text).unwrap();
        assert_eq!(read("13/01/2026").evidence(), Some(DateOrder::DayFirst));
        assert_eq!(read("01/13/2026").evidence(), Some(DateOrder::MonthFirst));
        assert_eq!((read("01/02/2026").evidence(), read("01/02/2026").is_open()), (None, true));
        assert!(!read("02/02/2026").is_open() && !read("13.1.2026").is_open() && !read("2026-01-13").is_open());
        assert_eq!(read("2026-01-13").evidence(), None);
        assert_eq!(read("13/01/2026").date(DateOrder::MonthFirst), None);
    }
}
