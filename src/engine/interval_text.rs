//! Intervals as Postgres reads them: `1 day 02:00:00`, `P1Y2M3DT4H5M6S`, `1-2`, `3 4:05`, `2 weeks ago`.

/// Months, days and microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Interval {
    pub months: i64,
    pub days: i64,
    pub micros: i64,
}

const SECOND: f64 = 1e6;
const DAY: f64 = 86_400.0 * SECOND;

impl Interval {
    /// What the text says; `None` if it is no interval. A number without a unit counts seconds.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_lowercase();
        if let Some(iso) = text.strip_prefix('p') {
            return Self::parse_iso(iso);
        }
        let (text, ago) = match text.strip_suffix("ago") {
            Some(before) if before.ends_with(' ') => (before.trim_end(), true),
            _ => (text.as_str(), false),
        };
        let text = text.strip_prefix('@').unwrap_or(text);
        let words = words(text);
        let mut interval = Self::default();
        let mut words = words.iter().map(String::as_str).peekable();
        words.peek()?;
        while let Some(word) = words.next() {
            if word.contains(':') {
                interval.micros += clock(word)?;
                continue;
            }
            if let Some((years, months)) = years_and_months(word) {
                interval.add(years, "year")?;
                interval.add(months, "month")?;
                continue;
            }
            let number: f64 = word.parse().ok()?;
            match words.peek() {
                Some(unit) if unit.starts_with(|letter: char| letter.is_ascii_alphabetic()) => {
                    interval.add(number, unit)?;
                    words.next();
                }
                // `3 4:05` is days and a time.
                Some(time) if time.contains(':') => interval.add(number, "day")?,
                _ => interval.add(number, "second")?,
            }
        }
        Some(if ago { interval.negated() } else { interval })
    }

    /// What follows the P of ISO 8601: `1Y2M3DT4H5M6S`.
    fn parse_iso(text: &str) -> Option<Self> {
        let mut interval = Self::default();
        let mut number = String::new();
        let mut in_time = false;
        for letter in text.chars() {
            match letter {
                't' => in_time = true,
                '0'..='9' | '.' | '-' | '+' => number.push(letter),
                unit => {
                    let unit = match (unit, in_time) {
                        ('y', false) => "year",
                        ('m', false) => "month",
                        ('w', false) => "week",
                        ('d', false) => "day",
                        ('h', true) => "hour",
                        ('m', true) => "minute",
                        ('s', true) => "second",
                        _ => return None,
                    };
                    interval.add(number.parse().ok()?, unit)?;
                    number.clear();
                }
            }
        }
        (number.is_empty() && !text.is_empty()).then_some(interval)
    }

    /// Adds so many of a unit. What is left of a month goes into days, of which it has 30, and what is left of a day
    /// into its time.
    fn add(&mut self, number: f64, unit: &str) -> Option<()> {
        match unit.strip_suffix('s').filter(|unit| unit.len() > 1).unwrap_or(unit) {
            "millennium" | "millennia" | "mil" => self.add_months(number * 12_000.0),
            "century" | "centurie" | "c" | "cent" => self.add_months(number * 1_200.0),
            "decade" | "dec" => self.add_months(number * 120.0),
            "year" | "yr" | "y" => self.add_months((number * 12.0).round()),
            "month" | "mon" => self.add_months(number),
            "week" | "w" => self.add_days(number * 7.0),
            "day" | "d" => self.add_days(number),
            "hour" | "hr" | "h" => self.add_micros(number * 3_600.0 * SECOND),
            "minute" | "min" | "m" => self.add_micros(number * 60.0 * SECOND),
            "second" | "sec" | "s" => self.add_micros(number * SECOND),
            "millisecond" | "msec" | "m s" | "ms" => self.add_micros(number * 1e3),
            "microsecond" | "usec" | "us" => self.add_micros(number),
            _ => return None,
        }
        Some(())
    }

    #[expect(clippy::cast_possible_truncation)] // What does not fit an i64 is cut to its ends, and refused by the planner.
    fn add_months(&mut self, months: f64) {
        self.months = self.months.saturating_add(months.trunc() as i64);
        self.add_days(((months - months.trunc()) * 30.0 * 1e6).round() / 1e6);
    }

    #[expect(clippy::cast_possible_truncation)]
    fn add_days(&mut self, days: f64) {
        self.days = self.days.saturating_add(days.trunc() as i64);
        self.add_micros((days - days.trunc()) * DAY);
    }

    #[expect(clippy::cast_possible_truncation)]
    fn add_micros(&mut self, micros: f64) {
        self.micros = self.micros.saturating_add(micros.round() as i64);
    }

    fn negated(self) -> Self {
        Self { months: -self.months, days: -self.days, micros: -self.micros }
    }

    /// In the words that every reader of intervals knows.
    pub fn plain(self) -> String {
        let (seconds, micros) = (self.micros / 1_000_000, (self.micros % 1_000_000).abs());
        let sign = if self.micros < 0 && seconds == 0 { "-" } else { "" };
        format!("{} months {} days {sign}{seconds}.{micros:06} seconds", self.months, self.days)
    }
}

/// Numbers, units and times, also where no space is between them: `1day`.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for part in text.split([' ', '\t', '\n', ',']).filter(|part| !part.is_empty()) {
        let unit = part.find(|letter: char| letter.is_ascii_alphabetic());
        match unit {
            Some(at) if at > 0 => words.extend([part[..at].to_owned(), part[at..].to_owned()]),
            _ => words.push(part.to_owned()),
        }
    }
    words
}

/// `hh:mm`, `hh:mm:ss.fff`, with a sign.
#[expect(clippy::cast_possible_truncation)]
fn clock(word: &str) -> Option<i64> {
    let (negative, word) = match word.strip_prefix('-') {
        Some(word) => (true, word),
        None => (false, word.strip_prefix('+').unwrap_or(word)),
    };
    let parts: Vec<&str> = word.split(':').collect();
    let whole = |part: &str| part.parse::<u32>().ok().map(i64::from);
    let (hours, minutes, seconds) = match parts.as_slice() {
        [hours, minutes] => (whole(hours)?, whole(minutes)?, 0.0),
        [hours, minutes, seconds] => (whole(hours)?, whole(minutes)?, seconds.parse::<f64>().ok()?),
        _ => return None,
    };
    if minutes > 59 || !(0.0..60.0).contains(&seconds) {
        return None;
    }
    let micros = (hours * 3_600 + minutes * 60) * 1_000_000 + (seconds * SECOND).round() as i64;
    Some(if negative { -micros } else { micros })
}

/// `1-2`: a year and two months.
fn years_and_months(word: &str) -> Option<(f64, f64)> {
    let (sign, word) = match word.strip_prefix('-') {
        Some(word) => (-1.0, word),
        None => (1.0, word),
    };
    let (years, months) = word.split_once('-')?;
    let whole = |part: &str| part.parse::<u32>().ok().map(f64::from);
    Some((sign * whole(years)?, sign * whole(months)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<(i64, i64, i64)> {
        Interval::parse(text).map(|interval| (interval.months, interval.days, interval.micros))
    }

    #[test]
    fn intervals_are_read_like_postgres_reads_them() {
        const HOUR: i64 = 3_600_000_000;
        assert_eq!(read("1 day 02:00:00"), Some((0, 1, 2 * HOUR)));
        assert_eq!(read("1 year 2 mons -3 days"), Some((14, -3, 0)));
        assert_eq!(read("1.5 months"), Some((1, 15, 0)));
        assert_eq!(read("-00:00:00.5"), Some((0, 0, -500_000)));
        assert_eq!(read("1-2"), Some((14, 0, 0)));
        assert_eq!(read("3 4:05"), Some((0, 3, 4 * HOUR + 300_000_000)));
        assert_eq!(read("2 weeks ago"), Some((0, -14, 0)));
        assert_eq!(read("P1Y2M3DT4H5M6.5S"), Some((14, 3, 4 * HOUR + 306_500_000)));
        assert_eq!(read("90"), Some((0, 0, 90_000_000)));
        assert_eq!(read("1day2hours"), None);
        assert_eq!(read("1 fortnight"), None);
        assert_eq!(read(""), None);
        assert_eq!(Interval::parse("-00:00:00.5").unwrap().plain(), "0 months 0 days -0.500000 seconds");
    }
}
