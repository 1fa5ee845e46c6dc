//! What goes wrong, to which arm, and when.
//!
//! A [`Fault`] begins at an hour of the rollout, may grow, come and go, end, touch one segment
//! only, and hit the candidate, the baseline or both. Times count from the start of the rollout.

use std::time::Duration;

use crate::ids::Arm;

/// Something that goes wrong for a while.
///
/// ```
/// use pilotage::sim::fault::{Fault, Kind};
/// use std::time::Duration;
///
/// let hour = Duration::from_secs(3600);
/// let fault = Fault::new(Kind::ErrorsTimes(5.0)).from(30 * hour).lasting(2 * hour);
/// assert_eq!(fault.intensity(29 * hour), 0.0);
/// assert_eq!(fault.intensity(31 * hour), 1.0);
/// assert_eq!(fault.next_edge(hour), Some(30 * hour));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Fault {
    /// What goes wrong.
    pub kind: Kind,
    /// Whose answers it touches.
    pub whom: Whom,
    /// When it begins.
    pub from: Duration,
    /// How long it lasts; `None` for ever.
    pub lasting: Option<Duration>,
    /// Over this time it grows evenly, in sixteen steps, to what its kind says.
    pub ramp: Duration,
    /// It is there for the first time and away for the second, over and over; `None` without pause.
    pub pulse: Option<(Duration, Duration)>,
    /// Only in the segment of this place in the climate's list; `None` everywhere.
    pub segment: Option<usize>,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Kind {
    /// Errors come so many times as often.
    ErrorsTimes(f64),
    /// This part of calls fails on top, from 0 to 1.
    Errors(f64),
    /// This part of calls times out on top, from 0 to 1.
    Timeouts(f64),
    /// This part of calls never ends, from 0 to 1: no error, no latency, and in a shadow no pair.
    Hangs(f64),
    /// Answers take so many times as long.
    LatencyTimes(f64),
    /// The mean score falls by so much.
    ScoreDrop(f64),
    /// The models agree on this part of requests only, from 0 to 1.
    Agreement(f64),
    /// This part of what the arm does is never recorded, from 0 to 1; 1 is no data at all.
    Lost(f64),
    /// Scores arrive that are no numbers.
    NanScores,
    /// Requests come so many times as often, to both arms, whomever the fault touches.
    TrafficTimes(f64),
    /// The clock jumps once by so many seconds, forward or back.
    ClockJump(f64),
    /// The process is away for the fault's whole time: it serves and records nothing, and what was
    /// recorded since the last look is lost. Without an end it is away for a minute.
    Restart,
}

/// Whose answers a fault touches.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Whom {
    /// The candidate's: what a rollout is there to find.
    #[default]
    Candidate,
    /// The baseline's.
    Baseline,
    /// Everybody's, as when what both depend on is down.
    Both,
}

impl Fault {
    /// A fault of the candidate from the beginning and for ever.
    #[must_use]
    pub const fn new(kind: Kind) -> Self {
        Self {
            kind,
            whom: Whom::Candidate,
            from: Duration::ZERO,
            lasting: None,
            ramp: Duration::ZERO,
            pulse: None,
            segment: None,
        }
    }

    /// Beginning at this time of the rollout.
    #[must_use]
    pub const fn from(mut self, from: Duration) -> Self {
        self.from = from;
        self
    }

    /// Ending after this time.
    #[must_use]
    pub const fn lasting(mut self, lasting: Duration) -> Self {
        self.lasting = Some(lasting);
        self
    }

    /// Growing over this time.
    #[must_use]
    pub const fn ramping(mut self, ramp: Duration) -> Self {
        self.ramp = ramp;
        self
    }

    /// Coming and going.
    #[must_use]
    pub const fn pulsing(mut self, there: Duration, away: Duration) -> Self {
        self.pulse = Some((there, away));
        self
    }

    /// Touching somebody else.
    #[must_use]
    pub const fn hitting(mut self, whom: Whom) -> Self {
        self.whom = whom;
        self
    }

    /// Touching one segment only.
    #[must_use]
    pub const fn in_segment(mut self, segment: usize) -> Self {
        self.segment = Some(segment);
        self
    }

    /// When it is over; `None` when it never is.
    #[must_use]
    pub fn ends(&self) -> Option<Duration> {
        if matches!(self.kind, Kind::ClockJump(_)) {
            return Some(self.from);
        }
        let lasting = match self.kind {
            Kind::Restart => Some(self.lasting.unwrap_or(Duration::from_secs(60))),
            _ => self.lasting,
        };
        lasting.map(|lasting| self.from.saturating_add(lasting))
    }

    /// How much of it there is at `at`, from 0 to 1.
    #[must_use]
    pub fn intensity(&self, at: Duration) -> f64 {
        if at < self.from || self.ends().is_some_and(|ends| at >= ends) {
            return 0.0;
        }
        let since = at - self.from;
        if let Some((there, away)) = self.pulse {
            if into(since, there.saturating_add(away)) >= there {
                return 0.0;
            }
        }
        if since >= self.ramp {
            return 1.0;
        }
        let part = since.as_secs_f64() / self.ramp.as_secs_f64();
        ((part * STEPS).floor() + 1.0) / STEPS
    }

    /// The next time after `at` at which its intensity may change; `None` when it never will.
    #[must_use]
    pub fn next_edge(&self, at: Duration) -> Option<Duration> {
        if at < self.from {
            return Some(self.from);
        }
        let ends = self.ends();
        if ends.is_some_and(|ends| at >= ends) {
            return None;
        }
        let since = at - self.from;
        let step = self.ramp / STEPS as u32;
        let growing = (since < self.ramp && !step.is_zero())
            .then(|| since.saturating_sub(into(since, step)).saturating_add(step));
        let turning = self.pulse.and_then(|(there, away)| {
            let whole = there.saturating_add(away);
            let phase = into(since, whole);
            let turn = if phase < there { there } else { whole };
            (!whole.is_zero()).then(|| since.saturating_sub(phase).saturating_add(turn))
        });
        let edges = [growing, turning].into_iter().flatten();
        edges.map(|edge| self.from.saturating_add(edge)).chain(ends).min()
    }

    /// Whether it touches this arm.
    #[must_use]
    pub fn hits(&self, arm: Arm) -> bool {
        match self.whom {
            Whom::Candidate => arm == Arm::CANDIDATE,
            Whom::Baseline => arm == Arm::BASELINE,
            Whom::Both => true,
        }
    }

    /// Whether its numbers can be used.
    pub(crate) fn is_usable(&self) -> bool {
        let part = |part: f64| (0.0..=1.0).contains(&part);
        let factor = |factor: f64| (0.0..=1e4).contains(&factor);
        let kind = match self.kind {
            Kind::ErrorsTimes(times) | Kind::TrafficTimes(times) => factor(times),
            Kind::LatencyTimes(times) => (1e-3..=1e4).contains(&times),
            Kind::Errors(rate) | Kind::Timeouts(rate) | Kind::Hangs(rate) => part(rate),
            Kind::Agreement(rate) | Kind::Lost(rate) => part(rate),
            Kind::ScoreDrop(drop) => drop.is_finite(),
            Kind::ClockJump(seconds) => seconds.abs() <= 1e9,
            Kind::NanScores | Kind::Restart => true,
        };
        let pulse = self.pulse.is_none_or(|(there, away)| there >= SECOND && away >= SECOND);
        kind && pulse && self.lasting.is_none_or(|lasting| lasting >= SECOND)
    }
}

/// How far `since` is into its present period.
fn into(since: Duration, period: Duration) -> Duration {
    let nanos = since.as_nanos() % period.as_nanos().max(1);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// A fault that grows does so in so many steps.
const STEPS: f64 = 16.0;
const SECOND: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_fault_grows_and_ends() {
        let fault = Fault::new(Kind::Errors(0.1)).from(secs(100)).ramping(secs(160));
        let fault = fault.lasting(secs(400));
        assert_eq!(fault.intensity(secs(99)), 0.0);
        assert_eq!(fault.intensity(secs(180)), 9.0 / 16.0);
        assert_eq!(fault.intensity(secs(499)), 1.0);
        assert_eq!(fault.intensity(secs(500)), 0.0);
        assert_eq!((fault.next_edge(secs(500)), fault.ends()), (None, Some(secs(500))));
    }

    proptest! {
        #[test]
        fn nothing_changes_between_two_edges(
            from in 0_u64..500, lasting in prop::option::of(1_u64..900), ramp in 0_u64..300,
            pulse in prop::option::of((1_u64..90, 1_u64..90)), at in 0_u64..2_000,
        ) {
            let mut fault = Fault::new(Kind::ErrorsTimes(2.0)).from(secs(from)).ramping(secs(ramp));
            fault.lasting = lasting.map(secs);
            fault.pulse = pulse.map(|(there, away)| (secs(there), secs(away)));
            let edge = fault.next_edge(secs(at)).unwrap_or(secs(at + 1_000));
            prop_assert!(edge > secs(at));
            let now = fault.intensity(secs(at));
            let gap = edge - secs(at);
            for part in 1..8 {
                prop_assert_eq!(fault.intensity(secs(at) + gap * part / 8), now, "{:?}", edge);
            }
        }
    }
}
