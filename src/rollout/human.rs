//! Durations, shares and dates as people write them.
//!
//! A plan is read by the person who is woken by it, so it says `2h30m` and `5 %`. What is written
//! is exact: reading it gives the same nanoseconds and the same parts per million.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserializer, Error, Visitor};
use serde::ser::Serializer;

use crate::share::TrafficShare;

/// A duration from text: `24h`, `30m`, `2h30m`, `1d 12h`, `1.5s`, `250ms`; a number alone is
/// seconds. Units are `d`, `h`, `m` (or `min`), `s`, `ms`, `us`, `ns`, the larger ones first.
///
/// # Errors
///
/// A sentence that names what cannot be read.
///
/// ```
/// use std::time::Duration;
/// use pilotage::rollout::human::parse_duration;
///
/// assert_eq!(parse_duration("2h30m"), Ok(Duration::from_secs(9_000)));
/// assert_eq!(parse_duration("90"), Ok(Duration::from_secs(90)));
/// assert!(parse_duration("2 fortnights").is_err());
/// ```
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let bad = |why: &str| Err(format!("{text:?} is no duration: {why}; write for example 2h30m"));
    let mut rest = text.trim();
    if rest.is_empty() || rest.len() > 64 {
        return bad("it has no digits, or too many");
    }
    let (mut total, mut largest) = (0_u128, u128::MAX);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let after = after.trim_start();
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (word, after) = after.split_at(letters);
        let alone = word.is_empty() && total == 0 && largest == u128::MAX && after.is_empty();
        let unit = match UNITS.iter().find(|(name, _)| *name == word) {
            Some((_, nanos)) => *nanos,
            None if alone => SECOND,
            None if word == "min" => 60 * SECOND,
            None if word.is_empty() => return bad("a number has no unit"),
            None => return bad("the units are d, h, m, s, ms, us and ns"),
        };
        if unit >= largest {
            return bad("larger units come first, each once");
        }
        largest = unit;
        let Some(nanos) = scaled(number, unit) else {
            return bad("a number cannot be read");
        };
        total = total.saturating_add(nanos);
        rest = after.trim_start();
    }
    let (seconds, nanos) = (total / SECOND, (total % SECOND) as u32);
    match u64::try_from(seconds) {
        Ok(seconds) => Ok(Duration::new(seconds, nanos)),
        Err(_) => bad("it is too long"),
    }
}

/// `number`, a decimal, times `unit` nanoseconds; `None` where that is no whole number of them.
fn scaled(number: &str, unit: u128) -> Option<u128> {
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && part.is_empty()) || whole.len() > 20 || part.len() > 18 {
        return None;
    }
    let read = |digits: &str| if digits.is_empty() { Some(0) } else { digits.parse::<u128>().ok() };
    let tens = 10_u128.pow(part.len() as u32);
    let fraction = read(part)?.checked_mul(unit)?;
    if fraction % tens != 0 {
        return None;
    }
    read(whole)?.checked_mul(unit)?.checked_add(fraction / tens)
}

/// A duration as [`parse_duration`] reads it, exactly.
///
/// ```
/// use std::time::Duration;
/// use pilotage::rollout::human::show_duration;
///
/// assert_eq!(show_duration(Duration::from_secs(9_000)), "2h30m");
/// assert_eq!(show_duration(Duration::from_secs(172_800)), "48h");
/// assert_eq!(show_duration(Duration::ZERO), "0s");
/// ```
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    let mut left = duration.as_nanos();
    let mut text = String::new();
    // People say 48 hours, so the largest unit written is the hour.
    for (name, nanos) in UNITS.iter().skip(1) {
        let count = left / nanos;
        if count > 0 {
            text.push_str(&format!("{count}{name}"));
            left %= nanos;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// A share from text: `5 %`, `5%`, `0.05 %`, `500 ppm`.
///
/// # Errors
///
/// A sentence that names what cannot be read. A number alone is refused: it could mean either.
///
/// ```
/// use pilotage::rollout::human::parse_share;
/// use pilotage::share::TrafficShare;
///
/// assert_eq!(parse_share("5 %"), Ok(TrafficShare::percent(5.0)?));
/// assert_eq!(parse_share("500ppm"), Ok(TrafficShare::percent(0.05)?));
/// # Ok::<(), pilotage::share::ShareError>(())
/// ```
pub fn parse_share(text: &str) -> Result<TrafficShare, String> {
    let bad = |why: &str| format!("{text:?} is no share: {why}; write for example \"5 %\"");
    let trimmed = text.trim();
    let (number, unit) = if let Some(number) = trimmed.strip_suffix('%') {
        (number, 10_000)
    } else if let Some(number) = trimmed.strip_suffix("ppm") {
        (number, 1)
    } else {
        return Err(bad("it has no unit, neither % nor ppm"));
    };
    let ppm = scaled(number.trim_end(), unit)
        .ok_or_else(|| bad("it is no whole number of parts per million"))?;
    let ppm = u32::try_from(ppm).map_err(|_| bad("it is more than everybody"))?;
    TrafficShare::from_ppm(ppm).map_err(|_| bad("it is more than everybody"))
}

/// A share given as a number: parts per million, unless it may have been meant as percent.
pub(crate) fn share_of_number(number: f64) -> Result<TrafficShare, String> {
    let whole = number.fract() == 0.0 && (0.0..=1e6).contains(&number);
    if number == 0.0 || (whole && number > 100.0) {
        return TrafficShare::from_ppm(number as u32).map_err(|error| error.to_string());
    }
    Err(format!(
        "{number} may mean percent or parts per million; write \"{number} %\" or \"… ppm\""
    ))
}

pub(crate) fn duration<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&show_duration(*value))
}

/// Reads what [`duration`] writes, and plain seconds.
pub(crate) fn read_duration<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    from.deserialize_any(Span)
}

/// For `#[serde(with = …)]`.
pub(crate) mod text {
    pub(crate) use super::{duration as serialize, read_duration as deserialize};
}

struct Span;

impl Visitor<'_> for Span {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration such as \"2h30m\", or seconds")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
        parse_duration(text).map_err(E::custom)
    }

    fn visit_u64<E>(self, seconds: u64) -> Result<Duration, E> {
        Ok(Duration::from_secs(seconds))
    }

    fn visit_i64<E: Error>(self, seconds: i64) -> Result<Duration, E> {
        let seconds = u64::try_from(seconds);
        seconds.map(Duration::from_secs).map_err(|_| E::custom("a duration is not negative"))
    }

    fn visit_f64<E: Error>(self, seconds: f64) -> Result<Duration, E> {
        Duration::try_from_secs_f64(seconds)
            .map_err(|_| E::custom(format!("{seconds} seconds is not a duration")))
    }
}

const SECOND: u128 = 1_000_000_000;
const UNITS: [(&str, u128); 7] = [
    ("d", 86_400 * SECOND),
    ("h", 3_600 * SECOND),
    ("m", 60 * SECOND),
    ("s", SECOND),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_back(seconds in any::<u64>(), nanos in 0..1_000_000_000_u32) {
            let duration = Duration::new(seconds, nanos);
            prop_assert_eq!(parse_duration(&show_duration(duration)), Ok(duration));
        }

        #[test]
        fn every_share_is_read_back(ppm in 0..=1_000_000_u32) {
            let share = TrafficShare::from_ppm(ppm).unwrap();
            prop_assert_eq!(parse_share(&share.to_string()), Ok(share));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = (parse_duration(&text), parse_share(&text));
        }
    }

    #[test]
    fn durations_as_people_write_them() {
        for (text, seconds) in
            [("24h", 86_400.0), ("30m", 1800.0), ("1d 12h", 129_600.0), ("1.5s", 1.5), ("90", 90.0)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs_f64(seconds)), "{text}");
        }
        for text in
            ["", "h", "-1h", "1h1h", "1m2h", "1x", "1h30", "1e9s", "NaN", "inf", "1.0000000001s"]
        {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert!(parse_duration("99999999999999999999d").unwrap_err().contains("too long"));
    }

    #[test]
    fn a_share_without_a_unit_is_ambiguous() {
        for text in ["5", "0.05", "five %", "101 %", "-1 %", "1000001ppm", "0.00001 %"] {
            assert!(parse_share(text).is_err(), "{text}");
        }
        assert!(share_of_number(5.0).unwrap_err().contains("5 %"));
        assert_eq!(share_of_number(50_000.0), Ok(TrafficShare::percent(5.0).unwrap()));
        assert!(share_of_number(f64::NAN).is_err());
    }
}
