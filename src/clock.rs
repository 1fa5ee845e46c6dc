//! Time as a value.
//!
//! A [`Moment`] is nanoseconds since a clock's own origin. Decisions are given moments; only what
//! serves requests or drives the machines holds a [`Clock`]. Wall time never decides anything: it
//! jumps, and a jump must not promote a model.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use crate::date::Date;

/// A point in time: nanoseconds since the origin of the clock that gave it.
///
/// Moments of different clocks do not compare. A clock may stand still or step back between two
/// readings; [`Moment::since`] then answers zero.
#[derive(
    Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Moment(u64);

impl Moment {
    /// The origin of the clock.
    pub const ZERO: Self = Self(0);

    /// The moment `nanos` nanoseconds after the origin.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// The moment `seconds` seconds after the origin, saturating after 584 years.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1_000_000_000))
    }

    /// Nanoseconds since the origin.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Seconds since the origin, for display and for rates.
    #[must_use]
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// The time from `earlier` to `self`, zero when `earlier` is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The moment `wait` later, saturating at the end of time.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// Something that tells the time.
///
/// Called on the request path, twice a call: it must not block, allocate or panic. It may stand
/// still or step back; every difference taken of it saturates at zero.
pub trait Clock: Send + Sync {
    /// The present moment.
    fn now(&self) -> Moment;

    /// A reading to measure from, in whatever form this clock reads cheapest: the request path
    /// takes one as a call begins. A clock whose [`Clock::now`] is a plain read keeps the default.
    #[inline]
    fn mark(&self) -> Mark {
        Mark(Reading::Moment(self.now()))
    }

    /// The moment of a mark of this clock. For a mark of another kind of clock: the origin.
    #[inline]
    fn moment_of(&self, mark: Mark) -> Moment {
        match mark.0 {
            Reading::Moment(moment) => moment,
            Reading::Instant(_) => Moment::ZERO,
        }
    }

    /// Nanoseconds from a mark of this clock to now, zero when the clock has stepped back behind
    /// it or the mark is of another kind of clock.
    #[inline]
    fn nanos_since(&self, mark: Mark) -> u64 {
        match mark.0 {
            Reading::Moment(moment) => self.now().0.saturating_sub(moment.0),
            Reading::Instant(_) => 0,
        }
    }
}

/// A reading of a clock as the clock took it; see [`Clock::mark`].
///
/// The standard library's clock counts seconds and nanoseconds apart. Bringing each of two readings
/// to one number takes longer than their difference does, and the second waits for the first, so
/// a call keeps the reading and computes the difference alone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Mark(Reading);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Reading {
    Moment(Moment),
    Instant(Instant),
}

/// Something that tells the date, for plans with dates in them. It decides nothing by itself: a
/// wall clock jumps, and a jump must not promote a model.
///
/// Called by a pilot's tick, about once a minute; must not block for long.
///
/// ```
/// use pilotage::clock::WallClock;
/// use pilotage::date::Date;
///
/// let fixed = || Date::from_unix(1_774_747_800);
/// assert_eq!(fixed.date().to_string(), "2026-03-29T01:30:00Z");
/// ```
pub trait WallClock: Send + Sync {
    /// The present date.
    fn date(&self) -> Date;
}

impl<F: Fn() -> Date + Send + Sync> WallClock for F {
    fn date(&self) -> Date {
        self()
    }
}

/// The system's wall clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemWallClock;

impl WallClock for SystemWallClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    fn date(&self) -> Date {
        let seconds = |span: Duration| i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
        Date::from_unix(match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => seconds(after),
            Err(before) => -seconds(before.duration()),
        })
    }
}

/// [`std::time::Instant`], counted from when this clock was made.
///
/// On Linux it does not advance while the machine is suspended.
#[derive(Clone, Copy, Debug)]
pub struct StdClock {
    origin: Instant,
}

impl StdClock {
    /// A clock whose origin is now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn new() -> Self {
        Self { origin: Instant::now() }
    }
}

impl Default for StdClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for StdClock {
    #[inline]
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    fn now(&self) -> Moment {
        Moment(nanos_between(self.origin, Instant::now()))
    }

    #[inline]
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    fn mark(&self) -> Mark {
        Mark(Reading::Instant(Instant::now()))
    }

    #[inline]
    fn moment_of(&self, mark: Mark) -> Moment {
        match mark.0 {
            Reading::Instant(instant) => Moment(nanos_between(self.origin, instant)),
            Reading::Moment(_) => Moment::ZERO,
        }
    }

    #[inline]
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    fn nanos_since(&self, mark: Mark) -> u64 {
        match mark.0 {
            Reading::Instant(instant) => nanos_between(instant, Instant::now()),
            Reading::Moment(_) => 0,
        }
    }
}

/// Wraps after 584 years.
#[inline]
fn nanos_between(earlier: Instant, later: Instant) -> u64 {
    let between = later.saturating_duration_since(earlier);
    between.as_secs().wrapping_mul(1_000_000_000).wrapping_add(between.subsec_nanos().into())
}

/// A clock that moves only when told to, for tests and rehearsals. Clones share the time.
///
/// ```
/// use pilotage::clock::{Clock, ManualClock};
/// use std::time::Duration;
///
/// let clock = ManualClock::new();
/// let start = clock.now();
/// clock.advance(Duration::from_secs(5));
/// assert_eq!(clock.now().since(start), Duration::from_secs(5));
/// ```
#[derive(Clone, Debug, Default)]
pub struct ManualClock {
    nanos: Arc<AtomicU64>,
}

impl ManualClock {
    /// A clock that stands at its origin.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Moves time forward, saturating.
    pub fn advance(&self, by: Duration) {
        self.set(self.now().after(by));
    }

    /// Sets the time, forward or back.
    pub fn set(&self, to: Moment) {
        self.nanos.store(to.0, Ordering::Release);
    }
}

impl Clock for ManualClock {
    #[inline]
    fn now(&self) -> Moment {
        Moment(self.nanos.load(Ordering::Acquire))
    }
}

impl<C: Clock + ?Sized> Clock for Arc<C> {
    #[inline]
    fn now(&self) -> Moment {
        (**self).now()
    }

    #[inline]
    fn mark(&self) -> Mark {
        (**self).mark()
    }

    #[inline]
    fn moment_of(&self, mark: Mark) -> Moment {
        (**self).moment_of(mark)
    }

    #[inline]
    fn nanos_since(&self, mark: Mark) -> u64 {
        (**self).nanos_since(mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_that_steps_back_takes_no_time() {
        let early = Moment::from_secs(1);
        let late = Moment::from_secs(2);
        assert_eq!(early.since(late), Duration::ZERO);
        assert_eq!(late.since(early), Duration::from_secs(1));
    }

    #[test]
    fn the_end_of_time_saturates() {
        assert_eq!(Moment::from_secs(5).after(Duration::MAX).as_nanos(), u64::MAX);
        assert_eq!(Moment::from_secs(u64::MAX).as_nanos(), u64::MAX);
    }

    #[test]
    fn a_mark_measures_what_two_moments_do() {
        let clock = ManualClock::new();
        clock.set(Moment::from_nanos(70));
        let mark = clock.mark();
        clock.set(Moment::from_nanos(170));
        assert_eq!((clock.nanos_since(mark), clock.moment_of(mark)), (100, Moment(70)));
        clock.set(Moment::ZERO);
        assert_eq!(clock.nanos_since(mark), 0, "a clock that steps back");

        let shared = Arc::new(StdClock::new());
        let (before, mark, after) = (shared.now(), shared.mark(), shared.now());
        assert!((before..=after).contains(&shared.moment_of(mark)));
        assert!(shared.nanos_since(mark) >= after.since(shared.moment_of(mark)).as_nanos() as u64);
        assert_eq!(clock.nanos_since(mark), 0, "a mark of another clock");
        assert_eq!(shared.nanos_since(clock.mark()), 0, "a mark of another clock");
    }

    #[test]
    fn the_std_clock_moves_forward() {
        let clock = StdClock::new();
        let first = clock.now();
        assert!(clock.now() >= first);
    }
}
