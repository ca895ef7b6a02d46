//! The type of a column, told by its values.

use datafusion::arrow::datatypes::{DataType, TimeUnit};

use super::moments::{DateOrder, Written};
use crate::error::{Error, Result};

/// What the values of a column seen so far can all be.
#[derive(Debug, Clone)]
pub(super) struct Guess {
    /// Values that are not empty.
    n: u64,
    whole: bool,
    number: bool,
    truth: bool,
    date: bool,
    has_time: bool,
    has_zone: bool,
    day_first: bool,
    month_first: bool,
    /// A date that is another one in the other order.
    open: Option<String>,
}

impl Default for Guess {
    fn default() -> Self {
        Self {
            n: 0,
            whole: true,
            number: true,
            truth: true,
            date: true,
            has_time: false,
            has_zone: false,
            day_first: false,
            month_first: false,
            open: None,
        }
    }
}

impl Guess {
    pub(super) fn see(&mut self, text: &str) {
        let text = text.trim();
        if text.is_empty() {
            return;
        }
        self.n += 1;
        let fits = text.parse::<i64>().is_ok();
        self.whole &= is_number(text) && fits;
        // Digits alone that no bigint holds are a key, and a double would change them.
        self.number &= is_number(text) && text.parse::<f64>().is_ok() && (fits || !is_digits(text));
        self.truth &= text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false");
        if self.date {
            let written = Written::read(text);
            self.date = written.is_some();
            if let Some(written) = written {
                self.has_time |= written.has_time();
                self.has_zone |= written.has_zone();
                self.day_first |= written.evidence() == Some(DateOrder::DayFirst);
                self.month_first |= written.evidence() == Some(DateOrder::MonthFirst);
                if self.open.is_none() && written.is_open() {
                    self.open = Some(text.to_owned());
                }
            }
        }
    }

    /// Whether further values may tell in which order its dates are written.
    pub(super) fn is_undecided(&self) -> bool {
        self.n > 0 && self.date && self.open.is_some() && !self.day_first && !self.month_first
    }

    pub(super) fn data_type(&self) -> DataType {
        match self {
            Self { n: 0, .. } => DataType::Utf8,
            Self { truth: true, .. } => DataType::Boolean,
            Self { whole: true, .. } => DataType::Int64,
            Self { number: true, .. } => DataType::Float64,
            // Some dates have the day first and some the month: whatever it is, it is not read one way.
            Self { day_first: true, month_first: true, .. } => DataType::Utf8,
            Self { date: true, has_zone: true, .. } => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self { date: true, has_time: true, .. } => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self { date: true, .. } => DataType::Date32,
            _ => DataType::Utf8,
        }
    }

    /// In which order the dates of the column are written, as `told` or as the values themselves say.
    ///
    /// # Errors
    /// Where nobody says it, and it makes a difference.
    pub(super) fn order(&self, column: &str, told: Option<DateOrder>) -> Result<DateOrder> {
        match (told, &self.open) {
            (Some(told), _) => Ok(told),
            (None, Some(open)) if self.is_undecided() => Err(Error::invalid(format!(
                "column \"{column}\": nothing says whether {open} has the day or the month first"
            ))
            .hint("say it with --date-order dmy or --date-order mdy")),
            _ if self.month_first => Ok(DateOrder::MonthFirst),
            _ => Ok(DateOrder::DayFirst),
        }
    }
}

/// Whether it is written as a number: no words, no telephone number, and no code that would lose its leading zeros.
fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text).as_bytes();
    match digits {
        [b'0', next, ..] => matches!(next, b'.' | b'e' | b'E'),
        [first, ..] => first.is_ascii_digit() || *first == b'.',
        [] => false,
    }
}

fn is_digits(text: &str) -> bool {
    text.strip_prefix('-').unwrap_or(text).bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guess(values: &[&str]) -> Guess {
        let mut guess = Guess::default();
        values.iter().for_each(|value| guess.see(value));
        guess
    }

    #[test]
    fn types_are_told_by_all_values() {
        let moment = DataType::Timestamp(TimeUnit::Microsecond, None);
        for (values, expected) in [
            (&["1", "", "-20", " 3 "][..], DataType::Int64),
            (&["1", "2.5", "1e3", ".5"], DataType::Float64),
            (&["TRUE", "false"], DataType::Boolean),
            (&["2026-01-01", "31/12/2025", "1.2.26"], DataType::Date32),
            (&["2026-01-01", "2026-01-01 10:00"], moment),
            (&["2026-01-01T10:00:00Z"], DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
            (&["01234", "56789"], DataType::Utf8),
            (&["+41791234567"], DataType::Utf8),
            (&["1", "12345678901234567890"], DataType::Utf8),
            (&["nan", "inf"], DataType::Utf8),
            (&["1", "x"], DataType::Utf8),
            (&["13/01/2026", "01/13/2026"], DataType::Utf8),
            (&["", ""], DataType::Utf8),
            (&["0", "0.5", "-0.25"], DataType::Float64),
        ] {
            assert_eq!(guess(values).data_type(), expected, "{values:?}");
        }
    }

    #[test]
    fn the_order_of_dates_needs_evidence() {
        let order = |values: &[&str], told| guess(values).order("d", told);
        assert_eq!(order(&["01/02/2026", "25/02/2026"], None), Ok(DateOrder::DayFirst));
        assert_eq!(order(&["01/02/2026", "02/25/2026"], None), Ok(DateOrder::MonthFirst));
        assert_eq!(order(&["02/02/2026", "2026-01-02"], None), Ok(DateOrder::DayFirst));
        assert_eq!(order(&["01/02/2026"], Some(DateOrder::MonthFirst)), Ok(DateOrder::MonthFirst));
        let refused = order(&["03/03/2026", "01/02/2026"], None).unwrap_err();
        assert!(refused.message.contains("01/02/2026") && refused.hint.unwrap().contains("--date-order"));
    }
}
