//! `to_char` of times: the template patterns of PostgreSQL, table 9.31.

use chrono::{Datelike, NaiveDateTime, Timelike};
use datafusion::arrow::datatypes::IntervalMonthDayNano;

use crate::error::Result;

/// What a pattern takes its numbers from.
struct Parts {
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    micros: i64,
    /// Of times that are on a day: ISO year and week, day of the year, day of the week with Monday 0.
    on: Option<On>,
    offset: i64,
}

struct On {
    iso_year: i64,
    iso_week: i64,
    day_of_year: i64,
    weekday: usize,
    julian: i64,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const ROMAN: [&str; 12] = ["I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII"];

/// A time as the pattern wants it; `offset` are the seconds it is ahead of UTC.
pub fn written(at: NaiveDateTime, offset: i64, pattern: &str) -> Result<String> {
    let week = at.iso_week();
    let parts = Parts {
        year: at.year().into(),
        month: at.month().into(),
        day: at.day().into(),
        hour: at.hour().into(),
        minute: at.minute().into(),
        second: at.second().into(),
        micros: (at.nanosecond() / 1_000).into(),
        on: Some(On {
            iso_year: week.year().into(),
            iso_week: week.week().into(),
            day_of_year: at.ordinal().into(),
            weekday: at.weekday().num_days_from_monday() as usize,
            // Day 0 of the Julian calendar is 1,721,425 days before 0001-01-01.
            julian: i64::from(at.num_days_from_ce()) + 1_721_425,
        }),
        offset,
    };
    Ok(parts.fill(pattern))
}

/// An interval as the pattern wants it.
pub fn interval_written(of: IntervalMonthDayNano, pattern: &str) -> Result<String> {
    let micros = of.nanoseconds / 1_000;
    let parts = Parts {
        year: (of.months / 12).into(),
        month: (of.months % 12).into(),
        day: of.days.into(),
        hour: micros / 3_600_000_000,
        minute: micros / 60_000_000 % 60,
        second: micros / 1_000_000 % 60,
        micros: micros % 1_000_000,
        on: None,
        offset: 0,
    };
    Ok(parts.fill(pattern))
}

/// Patterns, of which the longest that fits counts.
const PATTERNS: [&str; 56] = [
    "HH24", "HH12", "HH", "MI", "SSSSS", "SSSS", "SS", "MS", "US", "FF1", "FF2", "FF3", "FF4", "FF5", "FF6", "A.M.",
    "P.M.", "a.m.", "p.m.", "AM", "PM", "am", "pm", "Y,YYY", "YYYY", "YYY", "YY", "Y", "IYYY", "IYY", "IY", "I",
    "MONTH", "Month", "month", "MON", "Mon", "mon", "MM", "DAY", "Day", "day", "DY", "Dy", "dy", "DDD", "DD", "IDDD",
    "ID", "D", "WW", "W", "IW", "CC", "J", "Q",
];
const MORE: [&str; 11] = ["RM", "rm", "TZH", "TZM", "TZ", "tz", "OF", "BC", "AD", "bc", "ad"];

impl Parts {
    fn fill(&self, pattern: &str) -> String {
        let mut text = String::new();
        let mut rest = pattern;
        let mut tight = false;
        while let Some(first) = rest.chars().next() {
            if let Some(quoted) = rest.strip_prefix('"') {
                let mut letters = quoted.char_indices();
                let mut end = quoted.len();
                while let Some((at, letter)) = letters.next() {
                    match letter {
                        '"' => {
                            end = at;
                            break;
                        }
                        '\\' => text.extend(letters.next().map(|(_, letter)| letter)),
                        letter => text.push(letter),
                    }
                }
                rest = quoted.get(end + 1..).unwrap_or_default();
                continue;
            }
            if let Some(after) = rest.strip_prefix("FM") {
                tight = true;
                rest = after;
                continue;
            }
            if let Some(after) = rest.strip_prefix("TM") {
                rest = after;
                continue;
            }
            let found = PATTERNS.iter().chain(&MORE).filter(|known| {
                let numeric = !known.bytes().any(|letter| letter.is_ascii_lowercase());
                rest.starts_with(**known) || (numeric && case_is_free(known) && starts_with_ignoring_case(rest, known))
            });
            let Some(known) = found.max_by_key(|known| known.len()) else {
                text.push(first);
                rest = &rest[first.len_utf8()..];
                continue;
            };
            let (value, number) = self.value(known, tight);
            text.push_str(&value);
            rest = &rest[known.len()..];
            if let Some(number) = number {
                for (suffix, upper) in [("TH", true), ("th", false)] {
                    if let Some(after) = rest.strip_prefix(suffix) {
                        let ordinal = ordinal(number);
                        text.push_str(&if upper { ordinal.to_uppercase() } else { ordinal.to_owned() });
                        rest = after;
                        break;
                    }
                }
            }
            tight = false;
        }
        text
    }

    /// The value of a pattern, and the number that it is.
    fn value(&self, pattern: &str, tight: bool) -> (String, Option<i64>) {
        let padded = |number: i64, width: usize| {
            let text = if tight {
                number.to_string()
            } else if number < 0 {
                format!("-{:0width$}", number.abs())
            } else {
                format!("{number:0width$}")
            };
            (text, Some(number))
        };
        let word = |word: &str, width: usize| {
            let text = if tight { word.to_owned() } else { format!("{word:width$}") };
            (text, None)
        };
        let month = usize::try_from(self.month - 1).ok().and_then(|at| MONTHS.get(at)).copied().unwrap_or_default();
        let day = self.on.as_ref().map(|on| DAYS[on.weekday]).unwrap_or_default();
        let on = |number: fn(&On) -> i64| self.on.as_ref().map(number).unwrap_or_default();
        let half = |hour: i64| if hour.rem_euclid(24) < 12 { "AM" } else { "PM" };
        let hour12 = match self.hour % 12 {
            0 => 12,
            hour => hour,
        };
        match pattern {
            "HH24" => padded(self.hour, 2),
            "HH12" | "HH" => padded(hour12, 2),
            "MI" => padded(self.minute, 2),
            "SS" => padded(self.second, 2),
            "SSSS" | "SSSSS" => padded(self.hour * 3_600 + self.minute * 60 + self.second, 1),
            "MS" => padded(self.micros / 1_000, 3),
            "US" => padded(self.micros, 6),
            "FF1" => padded(self.micros / 100_000, 1),
            "FF2" => padded(self.micros / 10_000, 2),
            "FF3" => padded(self.micros / 1_000, 3),
            "FF4" => padded(self.micros / 100, 4),
            "FF5" => padded(self.micros / 10, 5),
            "FF6" => padded(self.micros, 6),
            "AM" | "PM" => (half(self.hour).to_owned(), None),
            "am" | "pm" => (half(self.hour).to_lowercase(), None),
            "A.M." | "P.M." => (if half(self.hour) == "AM" { "A.M." } else { "P.M." }.to_owned(), None),
            "a.m." | "p.m." => (if half(self.hour) == "AM" { "a.m." } else { "p.m." }.to_owned(), None),
            "Y,YYY" => (format!("{},{:03}", self.year / 1_000, self.year % 1_000), Some(self.year)),
            "YYYY" => padded(self.year, 4),
            "YYY" => padded(self.year % 1_000, 3),
            "YY" => padded(self.year % 100, 2),
            "Y" => padded(self.year % 10, 1),
            "IYYY" => padded(on(|on| on.iso_year), 4),
            "IYY" => padded(on(|on| on.iso_year) % 1_000, 3),
            "IY" => padded(on(|on| on.iso_year) % 100, 2),
            "I" => padded(on(|on| on.iso_year) % 10, 1),
            "MM" => padded(self.month, 2),
            "MONTH" => word(&month.to_uppercase(), 9),
            "Month" => word(month, 9),
            "month" => word(&month.to_lowercase(), 9),
            "MON" => word(month.get(..3).unwrap_or_default().to_uppercase().as_str(), 3),
            "Mon" => word(month.get(..3).unwrap_or_default(), 3),
            "mon" => word(month.get(..3).unwrap_or_default().to_lowercase().as_str(), 3),
            "DAY" => word(&day.to_uppercase(), 9),
            "Day" => word(day, 9),
            "day" => word(&day.to_lowercase(), 9),
            "DY" => word(day.get(..3).unwrap_or_default().to_uppercase().as_str(), 3),
            "Dy" => word(day.get(..3).unwrap_or_default(), 3),
            "dy" => word(day.get(..3).unwrap_or_default().to_lowercase().as_str(), 3),
            "DDD" => padded(on(|on| on.day_of_year), 3),
            "DD" => padded(self.day, 2),
            "D" => padded(on(|on| (on.weekday as i64 + 1) % 7 + 1), 1),
            "ID" => padded(on(|on| on.weekday as i64 + 1), 1),
            "IDDD" => padded(on(|on| (on.iso_week - 1) * 7 + on.weekday as i64 + 1), 3),
            "WW" => padded(on(|on| (on.day_of_year - 1) / 7 + 1), 2),
            "W" => padded((self.day - 1) / 7 + 1, 1),
            "IW" => padded(on(|on| on.iso_week), 2),
            "CC" => padded((self.year + 99) / 100, 2),
            "J" => padded(on(|on| on.julian), 1),
            "Q" => padded((self.month - 1) / 3 + 1, 1),
            "RM" | "rm" => {
                let roman =
                    usize::try_from(self.month - 1).ok().and_then(|at| ROMAN.get(at)).copied().unwrap_or_default();
                if pattern == "RM" { word(roman, 4) } else { word(&roman.to_lowercase(), 4) }
            }
            "BC" | "AD" => (if self.year > 0 { "AD" } else { "BC" }.to_owned(), None),
            "bc" | "ad" => (if self.year > 0 { "ad" } else { "bc" }.to_owned(), None),
            "TZ" => (if self.offset == 0 { "UTC".to_owned() } else { self.offset_written() }, None),
            "tz" => (if self.offset == 0 { "utc".to_owned() } else { self.offset_written() }, None),
            "TZH" => (format!("{}{:02}", self.sign(), self.offset.abs() / 3_600), None),
            "TZM" => (format!("{:02}", self.offset.abs() / 60 % 60), None),
            _ => (self.offset_written(), None),
        }
    }

    fn sign(&self) -> char {
        if self.offset < 0 { '-' } else { '+' }
    }

    fn offset_written(&self) -> String {
        let (hours, minutes) = (self.offset.abs() / 3_600, self.offset.abs() / 60 % 60);
        let minutes = if minutes > 0 { format!(":{minutes:02}") } else { String::new() };
        format!("{}{hours:02}{minutes}", self.sign())
    }
}

/// Patterns of numbers may be written in small letters; those of words say by their letters how the word is written.
fn case_is_free(pattern: &str) -> bool {
    !["MONTH", "MON", "DAY", "DY", "AM", "PM", "A.M.", "P.M.", "BC", "AD", "RM", "TZ"].contains(&pattern)
}

fn starts_with_ignoring_case(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

fn ordinal(number: i64) -> &'static str {
    match (number % 100, number % 10) {
        (11..=13, _) => "th",
        (_, 1) => "st",
        (_, 2) => "nd",
        (_, 3) => "rd",
        _ => "th",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_like_postgres_does() {
        let at = chrono::NaiveDate::from_ymd_opt(2024, 2, 3).unwrap().and_hms_micro_opt(14, 5, 6, 7_890).unwrap();
        let shown = |pattern: &str| written(at, 0, pattern).unwrap();
        // What PostgreSQL 15 answers for timestamp '2024-02-03 14:05:06.00789'.
        for (pattern, expected) in [
            ("YYYY-MM-DD HH24:MI:SS", "2024-02-03 14:05:06"),
            ("yyyy/mm/dd hh12:mi am", "2024/02/03 02:05 pm"),
            ("FMMonth DDth, YYYY", "February 03rd, 2024"),
            ("Month|MON|mon", "February |FEB|feb"),
            ("FMDay, DD Mon", "Saturday, 03 Feb"),
            ("Q IYYY-IW WW W", "1 2024-05 05 1"),
            ("MS US", "007 007890"),
            ("DDD D ID J", "034 7 6 2460344"),
            ("\"week\" IW", "week 05"),
            ("YYYY-\"Q\"Q", "2024-Q1"),
            ("CC HH PM", "21 02 PM"),
        ] {
            assert_eq!(shown(pattern), expected, "{pattern}");
        }
    }
}
