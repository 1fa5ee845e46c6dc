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
    fn the_ends_of_time_saturate() {
        let (first, last) = (Date::from_unix(i64::MIN), Date::from_unix(i64::MAX));
        assert_eq!(last.after(Duration::MAX), last);
        assert_eq!(first.since(last), Duration::ZERO);
        assert_eq!(last.since(first).as_secs(), i64::MAX as u64);
        assert!(!first.to_string().is_empty() && !last.to_string().is_empty());
    }
}
