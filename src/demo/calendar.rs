//! Two years of shop time: when they begin and end, and which hours, weekdays and months are busy.

/// A moment, in microseconds since 1970-01-01 00:00 UTC, as Arrow keeps it.
pub(super) type Moment = i64;

pub(super) const SECOND: Moment = 1_000_000;
pub(super) const MINUTE: Moment = 60 * SECOND;
pub(super) const HOUR: Moment = 60 * MINUTE;
pub(super) const DAY: Moment = 24 * HOUR;

/// 2024-01-01 00:00, when the shop opens.
pub(super) const START: Moment = 19_723 * DAY;
/// 2026-01-01 00:00, the shop's "today": nothing has happened at or after it.
pub(super) const END: Moment = START + DAYS * DAY;
/// Days from [`START`] to [`END`]; 2024 had 366.
pub(super) const DAYS: i64 = 731;

/// How busy each hour of the day is: quiet nights, a bump at lunch, the peak in the evening.
const HOURS: [f64; 24] = [
    0.30, 0.16, 0.10, 0.08, 0.08, 0.15, 0.40, 0.70, 0.90, 1.05, 1.15, 1.25, 1.40, 1.25, 1.10, 1.10, 1.20, 1.35, 1.60,
    1.90, 2.05, 1.90, 1.25, 0.60,
];
/// Monday to Sunday.
const WEEKDAYS: [f64; 7] = [1.02, 0.94, 0.93, 0.98, 1.06, 1.02, 1.15];
const MONTHS: [f64; 12] = [0.95, 0.85, 0.90, 0.92, 0.98, 0.92, 0.82, 0.85, 0.97, 1.05, 1.40, 1.45];
/// Gifts are bought for Saint Valentine, in May for mothers, and above all before Christmas.
const GIFT_MONTHS: [f64; 12] = [0.25, 0.90, 0.20, 0.35, 1.00, 0.35, 0.15, 0.15, 0.25, 0.60, 3.60, 4.60];
const MONTH_DAYS: [i64; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// A clock that runs fast in busy hours and slowly in quiet ones; over the two years it shows as many days as the wall.
///
/// A Poisson process on this clock is a Poisson process with seasonal rate on the wall: the same as thinning a plain one,
/// without draws thrown away.
#[derive(Debug)]
pub(super) struct Season {
    /// Days on this clock at the start of each wall hour since [`START`], and at [`END`].
    elapsed: Vec<f64>,
}

impl Season {
    /// The season of the shop as a whole.
    pub(super) fn of_the_shop() -> Self {
        Self::new(&MONTHS)
    }

    /// The season of those who buy gifts.
    pub(super) fn of_gifts() -> Self {
        Self::new(&GIFT_MONTHS)
    }

    fn new(months: &[f64; 12]) -> Self {
        let mut elapsed = vec![0.0];
        let mut total = 0.0;
        for day in 0..DAYS {
            let weight = day_weight(day, months);
            for hour in HOURS {
                total += weight * hour;
                elapsed.push(total);
            }
        }
        let stretch = DAYS as f64 / total;
        elapsed.iter_mut().for_each(|days| *days *= stretch);
        Self { elapsed }
    }

    /// The moment when this clock shows `days`, to the second; none when that is past the end.
    pub(super) fn at(&self, days: f64) -> Option<Moment> {
        let next = self.elapsed.partition_point(|elapsed| *elapsed <= days);
        if next == 0 || next >= self.elapsed.len() {
            return None;
        }
        let (from, to) = (self.elapsed[next - 1], self.elapsed[next]);
        let seconds = ((days - from) / (to - from) * 3_600.0) as i64;
        Some(START + (next as i64 - 1) * HOUR + seconds.min(3_599) * SECOND)
    }

    /// The moment `days` of this clock after another moment; none when that is past the end.
    pub(super) fn after(&self, moment: Moment, days: f64) -> Option<Moment> {
        let since = (moment - START).clamp(0, END - START - 1);
        let hour = (since / HOUR) as usize;
        let part = (since % HOUR) as f64 / HOUR as f64;
        let now = self.elapsed[hour] + part * (self.elapsed[hour + 1] - self.elapsed[hour]);
        self.at(now + days)
    }
}

/// How busy a day is, by weekday, month and feast.
fn day_weight(day: i64, months: &[f64; 12]) -> f64 {
    let (month, date) = month_and_date(day);
    let feast = match (month, date) {
        // The sales around Black Friday, and the days when nobody shops.
        (10, 22..=30) => 1.5,
        (11, 24..=26) => 0.4,
        (11, 31) | (0, 1) => 0.6,
        _ => 1.0,
    };
    // 2024-01-01 was a Monday.
    WEEKDAYS[(day % 7) as usize] * months[month] * feast
}

/// Month (0 to 11) and day of the month (1 to 31) of a day since [`START`].
fn month_and_date(day: i64) -> (usize, i64) {
    let (mut rest, leap) = if day < 366 { (day, 1) } else { (day - 366, 0) };
    for (month, days) in MONTH_DAYS.iter().enumerate() {
        let days = days + if month == 1 { leap } else { 0 };
        if rest < days {
            return (month, rest + 1);
        }
        rest -= days;
    }
    (11, 31)
}

/// True in the weeks of price cuts: January and late November.
pub(super) fn is_sale(moment: Moment) -> bool {
    matches!(month_and_date((moment - START) / DAY), (0, 2..=25) | (10, 20..=30))
}

/// The hour of the day, 0 to 23.
#[cfg(test)]
pub(super) fn hour(moment: Moment) -> i64 {
    moment / HOUR % 24
}

/// The same day at another time of day.
pub(super) fn at_hour(moment: Moment, hour: i64, within: Moment) -> Moment {
    moment / DAY * DAY + hour * HOUR + within
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_years_end_on_new_years_eve() {
        assert_eq!(month_and_date(0), (0, 1));
        assert_eq!(month_and_date(59), (1, 29));
        assert_eq!(month_and_date(366), (0, 1));
        assert_eq!(month_and_date(DAYS - 1), (11, 31));
        assert_eq!(END / SECOND, 1_767_225_600);
    }

    #[test]
    fn the_clock_ends_with_the_wall_and_never_runs_back() {
        for season in [Season::of_the_shop(), Season::of_gifts()] {
            assert_eq!(season.at(0.0), Some(START));
            assert_eq!(season.at(DAYS as f64 + 0.001), None);
            assert_eq!(season.at(-1.0), None);
            let mut last = START;
            for step in 0..7_000 {
                let now = season.at(f64::from(step) / 10.0).unwrap();
                assert!(now >= last && now < END);
                last = now;
            }
            let noon = START + 100 * DAY + 12 * HOUR;
            assert!((season.after(noon, 0.0).unwrap() - noon).abs() <= SECOND);
        }
    }

    #[test]
    fn evenings_and_decembers_are_busy() {
        let season = Season::of_gifts();
        let in_two_months = (0..73_100).filter_map(|step| season.at(f64::from(step) / 100.0));
        let gifts = in_two_months.filter(|moment| month_and_date((moment - START) / DAY).0 >= 10).count();
        assert!(gifts > 73_100 / 2);
        let season = Season::of_the_shop();
        let moments = (0..73_100).filter_map(|step| season.at(f64::from(step) / 100.0));
        let nights = moments.filter(|moment| hour(*moment) < 6).count();
        assert!(nights < 73_100 / 16);
    }
}
