//! Days people put into calendars.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A date: whole seconds since 1970-01-01 00:00:00 UTC.
///
/// Flags outlive processes, so their ages and schedules are dates, not moments of one process's
/// clock. A wall clock may jump: that is why a ramp moves one step a tick at most, and why a jump
/// forward can only open a scheduled flag or call it stale, never promote anything.
#[derive(
    Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Date(i64);

impl Date {
    /// The date `seconds` seconds after (or, if negative, before) the first second of 1970, UTC.
    #[must_use]
    pub const fn from_unix(seconds: i64) -> Self {
        Self(seconds)
    }

    /// Seconds since the first second of 1970, UTC.
    #[must_use]
    pub const fn as_unix(self) -> i64 {
        self.0
    }

    /// The time from `earlier` to `self`, zero when `earlier` is not earlier.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_secs(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The date `wait` later (whole seconds), saturating at the end of time.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(wait.as_secs()).unwrap_or(i64::MAX)))
    }
}

/// `2026-03-29T01:30:00Z`, by the proleptic Gregorian calendar.
impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, second) = (self.0.div_euclid(86_400), self.0.rem_euclid(86_400));
        let (year, month, day) = civil(days);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

/// A text that is no date.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{shown:?} is no date; write it in UTC, for example 2026-03-29T01:30:00Z or 2026-03-29")]
pub struct DateError {
    /// The text.
    pub shown: String,
}

/// Reads what `Display` writes, and a day alone, which then is its first second, UTC. The seconds
/// may be left out.
impl std::str::FromStr for Date {
    type Err = DateError;

    fn from_str(text: &str) -> Result<Self, DateError> {
        let bad = || DateError { shown: text.chars().take(64).collect() };
        let (day, time) = match text.trim().split_once(['T', ' ']) {
            Some((day, time)) => (day, time.strip_suffix('Z').ok_or_else(bad)?),
            None => (text.trim(), "00:00:00"),
        };
        let numbers = |text: &str, by: char| -> Option<Vec<i64>> {
            let digits = |part: &str| {
                (1..=4).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit())
            };
            text.split(by).map(|part| if digits(part) { part.parse().ok() } else { None }).collect()
        };
        let (day, time) = (numbers(day, '-').ok_or_else(bad)?, numbers(time, ':').ok_or_else(bad)?);
        let ([year, month, day], [hour, minute, rest @ ..]) = (&day[..], &time[..]) else {
            return Err(bad());
        };
        let second = match rest {
            [] => 0,
            [second] => *second,
            _ => return Err(bad()),
        };
        let days = days_from_civil(*year, *month, *day);
        // A day that does not exist comes back as another.
        let exists = civil(days) == (*year, *month, *day);
        if !exists || *hour > 23 || *minute > 59 || second > 59 {
            return Err(bad());
        }
        Ok(Self(days * 86_400 + hour * 3_600 + minute * 60 + second))
    }
}

/// The inverse of [`civil`], for years from 0 to 9999.
const fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Year, month and day of the day `days` after 1970-01-01.
///
/// The year is counted from 1 March, so that the leap day is its last; an era has 146,097 days.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = i128::from(days) + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + i128::from(month <= 2);
    (year as i64, month as i64, day as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_read_as_people_write_them() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_774_747_800, "2026-03-29T01:30:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(Date::from_unix(seconds).to_string(), text);
        }
    }

    #[test]
    fn what_is_shown_is_read_back_and_days_that_do_not_exist_are_refused() {
        for seconds in (-62_000_000_000..250_000_000_000_i64).step_by(86_399 * 97) {
            let date = Date::from_unix(seconds);
            assert_eq!(date.to_string().parse(), Ok(date), "{date}");
        }
        let noon = Date::from_unix(1_774_747_800);
        assert_eq!("2026-03-29T01:30Z".parse(), Ok(noon));
        assert_eq!("2026-03-29".parse(), Ok(Date::from_unix(1_774_742_400)));
        for text in [
            "",
            "2026-02-29",
            "2026-13-01",
            "2026-00-01",
            "2026-03-29T24:00:00Z",
            "2026-03-29T01:30:00",
            "2026-03-29T01:30:00+02:00",
            "-1-01-01",
            "99999-01-01",
            "2026-03",
            "2026-03-29T1Z",
        ] {
            assert!(text.parse::<Date>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_ends_of_time_saturate() {
        let (first, last) = (Date::from_unix(i64::MIN), Date::from_unix(i64::MAX));
        assert_eq!(last.after(Duration::MAX), last);
        assert_eq!(first.since(last), Duration::ZERO);
        assert_eq!(last.since(first).as_secs(), i64::MAX as u64);
        assert!(!first.to_string().is_empty() && !last.to_string().is_empty());
    }
}
