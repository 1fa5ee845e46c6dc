//! Times in which nobody gets more of a candidate.
//!
//! A freeze holds a stage that has passed until it is over. It never holds a rollback, and it stops
//! no evidence from being gathered.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::Serialize;

use crate::date::Date;

/// A time in which no stage is left forward: hours that come back every week, or a span of dates.
/// All in UTC.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Freeze {
    /// The same hours of the same days, every week. Where `to` is not after `from`, it lasts into
    /// the next day.
    Weekly {
        /// The days on which it begins.
        days: Days,
        /// When it begins.
        from: DayTime,
        /// When it ends.
        to: DayTime,
    },
    /// From one date up to another.
    Dated {
        /// The first second.
        from: Date,
        /// The first second after it.
        until: Date,
    },
}

/// A freeze that is none.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FreezeError {
    /// No day of the week.
    #[error("{shown:?} is no day; write mon, tue, wed, thu, fri, sat or sun")]
    Day {
        /// What was given.
        shown: String,
    },
    /// No time of the day.
    #[error("{shown:?} is no time of the day; write it as 18:00, from 00:00 to 24:00")]
    Time {
        /// What was given.
        shown: String,
    },
    /// It freezes nothing.
    #[error("the freeze from {from} until {until} is empty; let it end after it begins")]
    Empty {
        /// When it begins.
        from: String,
        /// When it ends.
        until: String,
    },
}

/// Days of the week.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Days(u8);

/// A time of the day, to the minute; `24:00` is the end of the day.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct DayTime(u16);

impl Freeze {
    /// Whether it can be one.
    ///
    /// # Errors
    ///
    /// [`FreezeError`] when it is empty.
    pub fn check(&self) -> Result<(), FreezeError> {
        let empty = |from: String, until: String| Err(FreezeError::Empty { from, until });
        match self {
            Self::Weekly { days, from, .. } if days.0 & Days::EVERY.0 == 0 => {
                empty(format!("no day {from}"), "no day".to_owned())
            }
            Self::Weekly { from, to, .. } if from == to => empty(from.to_string(), to.to_string()),
            Self::Dated { from, until } if until <= from => {
                empty(from.to_string(), until.to_string())
            }
            _ => Ok(()),
        }
    }

    /// When the freeze that is on at `date` ends; `None` when none is.
    #[must_use]
    pub fn thaw(&self, date: Date) -> Option<Date> {
        match *self {
            Self::Dated { from, until } => (from <= date && date < until).then_some(until),
            Self::Weekly { days, from, to } => {
                let minute = date.as_unix().div_euclid(60);
                let (day, at) = (minute.div_euclid(DAY), minute.rem_euclid(DAY));
                let (from, to) = (i64::from(from.0), i64::from(to.0));
                let lasts = if to > from { to - from } else { to + DAY - from };
                // The one that began today, or yesterday and lasts into today.
                [day, day - 1].into_iter().find_map(|begun| {
                    let begins = begun * DAY + from;
                    let on = days.has(begun) && begins <= day * DAY + at;
                    let ends = begins + lasts;
                    (on && day * DAY + at < ends).then(|| Date::from_unix(ends * 60))
                })
            }
        }
    }
}

/// When nothing is frozen any more, from `date` on: `date` itself when nothing is. `None` when that
/// is more than ten years off.
#[must_use]
pub fn thaw(freezes: &[Freeze], date: Date) -> Option<Date> {
    let latest = date.after(Duration::from_secs(10 * 366 * 86_400));
    let mut at = date;
    // Each step is to the end of some freeze, so a week has two a freeze at the most.
    for _ in 0..MOST_STEPS {
        match freezes.iter().filter_map(|freeze| freeze.thaw(at)).max() {
            None => return Some(at),
            Some(later) if later > latest => return None,
            Some(later) => at = later,
        }
    }
    None
}

impl Days {
    /// Every day.
    pub const EVERY: Self = Self(0b111_1111);
    /// Saturday and Sunday.
    pub const WEEKEND: Self = Self(0b110_0000);

    /// The days of these names.
    ///
    /// # Errors
    ///
    /// [`FreezeError::Day`] for a name that is none.
    pub fn named<T: AsRef<str>>(names: impl IntoIterator<Item = T>) -> Result<Self, FreezeError> {
        names.into_iter().try_fold(Self(0), |days, name| {
            let shown = name.as_ref().trim().to_lowercase();
            match NAMES
                .iter()
                .zip(LONG_NAMES)
                .position(|(day, long)| shown == *day || shown == long)
            {
                Some(at) => Ok(Self(days.0 | 1 << at)),
                None => Err(FreezeError::Day { shown: shown.chars().take(32).collect() }),
            }
        })
    }

    /// Whether the day so many days after 1970-01-01, a Thursday, is one of them.
    const fn has(self, day: i64) -> bool {
        self.0 >> (day + 3).rem_euclid(7) & 1 == 1
    }

    fn names(self) -> Vec<&'static str> {
        (0..7).filter(|at| self.0 >> at & 1 == 1).map(|at| NAMES[at]).collect()
    }
}

impl FromStr for DayTime {
    type Err = FreezeError;

    fn from_str(text: &str) -> Result<Self, FreezeError> {
        let read = || {
            let (hour, minute) = text.trim().split_once(':')?;
            let digits = |part: &str| {
                (1..=2).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
            };
            if !digits(hour) || minute.len() != 2 || !digits(minute) {
                return None;
            }
            let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
            let at = hour * 60 + minute;
            (minute < 60 && i64::from(at) <= DAY).then_some(Self(at))
        };
        read().ok_or_else(|| FreezeError::Time { shown: text.chars().take(32).collect() })
    }
}

impl fmt::Display for DayTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

impl fmt::Display for Freeze {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Weekly { days, from, to } if *days == Days::EVERY => {
                write!(f, "every day from {from} to {to} UTC")
            }
            Self::Weekly { days, from, to } => {
                write!(f, "{} from {from} to {to} UTC", days.names().join(", "))
            }
            Self::Dated { from, until } => write!(f, "from {from} until {until}"),
        }
    }
}

/// As a plan holds it: `{ days = ["fri"], from = "18:00", to = "24:00" }`, or
/// `{ from = "2026-12-20", until = "2027-01-02" }`.
impl Serialize for Freeze {
    fn serialize<S: serde::Serializer>(&self, to_where: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(untagged)]
        enum Form {
            Weekly { days: Vec<&'static str>, from: String, to: String },
            Dated { from: String, until: String },
        }
        match self {
            Self::Weekly { days, from, to } => {
                Form::Weekly { days: days.names(), from: from.to_string(), to: to.to_string() }
            }
            Self::Dated { from, until } => {
                Form::Dated { from: from.to_string(), until: until.to_string() }
            }
        }
        .serialize(to_where)
    }
}

const NAMES: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const LONG_NAMES: [&str; 7] =
    ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
/// Minutes.
const DAY: i64 = 24 * 60;
const MOST_STEPS: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn weekly(days: &[&str], from: &str, to: &str) -> Freeze {
        let days = Days::named(days).unwrap();
        Freeze::Weekly { days, from: from.parse().unwrap(), to: to.parse().unwrap() }
    }

    fn date(text: &str) -> Date {
        text.parse().unwrap()
    }

    #[test]
    fn a_weekend_freeze_lasts_from_friday_evening_to_monday_morning() {
        let freezes = [
            weekly(&["fri"], "18:00", "24:00"),
            weekly(&["sat", "sun"], "00:00", "24:00"),
            weekly(&["mon"], "00:00", "08:00"),
        ];
        // 2026-03-27 is a Friday.
        let at = |text| thaw(&freezes, date(text)).unwrap();
        assert_eq!(at("2026-03-27T17:59:59Z"), date("2026-03-27T17:59:59Z"));
        assert_eq!(at("2026-03-27T18:00:00Z"), date("2026-03-30T08:00:00Z"));
        assert_eq!(at("2026-03-29T23:59:59Z"), date("2026-03-30T08:00:00Z"));
        assert_eq!(at("2026-03-30T08:00:00Z"), date("2026-03-30T08:00:00Z"));
    }

    #[test]
    fn a_night_reaches_into_the_next_day() {
        let night = weekly(&["sun"], "22:00", "06:00");
        assert_eq!(night.thaw(date("2026-03-29T21:59:00Z")), None);
        assert_eq!(night.thaw(date("2026-03-29T22:00:00Z")), Some(date("2026-03-30T06:00:00Z")));
        assert_eq!(night.thaw(date("2026-03-30T05:59:59Z")), Some(date("2026-03-30T06:00:00Z")));
        assert_eq!(night.thaw(date("2026-03-30T22:00:00Z")), None, "only the one of Sunday");
    }

    #[test]
    fn a_freeze_of_the_whole_week_never_thaws() {
        let always = [Freeze::Weekly {
            days: Days::EVERY,
            from: "00:00".parse().unwrap(),
            to: "24:00".parse().unwrap(),
        }];
        assert_eq!(thaw(&always, date("2026-03-29")), None);
        let dated = [Freeze::Dated { from: date("2026-12-20"), until: date("2027-01-02") }];
        assert_eq!(thaw(&dated, date("2026-12-31")), Some(date("2027-01-02")));
        assert_eq!(thaw(&dated, date("2027-01-02")), Some(date("2027-01-02")));
    }

    #[test]
    fn what_is_no_freeze_is_refused() {
        assert!(Days::named(["someday"]).unwrap_err().to_string().contains("someday"));
        assert!(Days::named(["monkey"]).is_err());
        assert_eq!(Days::named(["Saturday", "SUN"]), Ok(Days::WEEKEND));
        for text in ["", "24:01", "7", "07:60", "7:5", "-1:00", "1:000"] {
            assert!(text.parse::<DayTime>().is_err(), "{text}");
        }
        assert!(weekly(&["fri"], "18:00", "18:00").check().is_err());
        assert!(weekly(&[], "18:00", "19:00").check().is_err());
        let backwards = Freeze::Dated { from: date("2027-01-02"), until: date("2026-12-20") };
        assert!(backwards.check().unwrap_err().to_string().contains("2027-01-02"));
    }
}
