//! Invented traffic: what two arms would have shown.
//!
//! A [`Traffic`] draws one batch after another, in the form in which a judge gets them from real
//! servers. What happens when is said by a [`Weather`]: a function of time and arm, so that a fault
//! may begin in the middle and an incident may hit both arms.

use std::time::Duration;

use crate::clock::Moment;
use crate::ids::{Arm, Epoch};
use crate::observe::snapshot::{ArmCounts, Delta};
use crate::outcome::Status;
use crate::share::TrafficShare;
use crate::sim::rng::Rng;

/// How an arm does at a moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weather {
    /// Requests per second of both arms together.
    pub rate: f64,
    /// The candidate's share.
    pub share: TrafficShare,
    /// The probability of an error.
    pub errors: f64,
    /// The probability of a timeout.
    pub timeouts: f64,
    /// Latency relative to the usual.
    pub slowness: f64,
}

/// How long an answer usually takes.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum LatencyLaw {
    /// Latencies are not drawn.
    None,
    /// Log-normal with median 0.2 s and σ 0.6.
    LogNormal,
    /// The same, with 3 % of requests drawn from a Pareto law of index 1.3 instead.
    HeavyTail,
}

/// A source of batches.
#[derive(Clone, Debug)]
pub struct Traffic {
    rng: Rng,
    law: LatencyLaw,
    /// Mean number of failing calls of one client in a row.
    burst: f64,
    by_subject: bool,
    at: Duration,
}

impl Traffic {
    /// Traffic that is determined by `seed`.
    #[must_use]
    pub fn new(seed: u64, law: LatencyLaw) -> Self {
        Self { rng: Rng::new(seed), law, burst: 1.0, by_subject: false, at: Duration::ZERO }
    }

    /// With clients that fail `mean` times in a row whenever they fail, on the arm where they are;
    /// `by_subject` says whether the batches also count subjects, as a recorder that knows them does.
    #[must_use]
    pub const fn with_bursts(mut self, mean: f64, by_subject: bool) -> Self {
        self.burst = mean;
        self.by_subject = by_subject;
        self
    }

    /// What comes in the next `span`, where `weather` tells how each arm does at its start.
    pub fn next(&mut self, span: Duration, weather: impl Fn(Duration, Arm) -> Weather) -> Delta {
        let seconds = span.as_secs_f64();
        let arms = [Arm::BASELINE, Arm::CANDIDATE].map(|arm| {
            let now = weather(self.at, arm);
            let share = if arm == Arm::CANDIDATE { now.share } else { now.share.rest() };
            self.arm(now, now.rate * seconds * share.fraction())
        });
        self.at += span;
        let to = Moment::from_nanos(self.at.as_nanos() as u64);
        Delta::new(to, span, Epoch::default(), arms.into())
    }

    fn arm(&mut self, now: Weather, calls: f64) -> ArmCounts {
        let mut counts = ArmCounts::default();
        let failing = self.rng.poisson(calls * now.errors);
        let timeouts = self.rng.poisson(calls * now.timeouts);
        let ok = self.rng.poisson(calls * (1.0 - now.errors - now.timeouts).max(0.0));
        let errors = if self.burst > 1.0 {
            (0..failing).map(|_| self.rng.geometric(self.burst)).sum()
        } else {
            failing
        };
        counts.ended[Status::Ok.index()] = ok;
        counts.ended[Status::Error.index()] = errors;
        counts.ended[Status::Timeout.index()] = timeouts;
        counts.started = counts.finished();
        if self.by_subject {
            counts.subjects.exposed = ok + failing + timeouts;
            counts.subjects.failed = failing;
            counts.subjects.timed_out = timeouts;
        }
        if self.law != LatencyLaw::None {
            for _ in 0..ok {
                let seconds = self.latency() * now.slowness;
                counts.latency.record((seconds * 1e9) as u64);
            }
        }
        counts
    }

    fn latency(&mut self) -> f64 {
        if self.law == LatencyLaw::HeavyTail && self.rng.chance(0.03) {
            return 0.2 * (1.0 - self.rng.unit()).powf(-1.0 / 1.3);
        }
        0.2 * (0.6 * self.rng.normal()).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_has_the_rates_it_was_told() {
        let mut traffic = Traffic::new(1, LatencyLaw::LogNormal);
        let share = TrafficShare::percent(5.0).unwrap();
        let mut seen = [ArmCounts::default(), ArmCounts::default()];
        for _ in 0..400 {
            let delta = traffic.next(Duration::from_secs(1), |_, arm| Weather {
                rate: 100.0,
                share,
                errors: if arm == Arm::CANDIDATE { 0.1 } else { 0.01 },
                timeouts: 0.0,
                slowness: 1.0,
            });
            for (seen, counts) in seen.iter_mut().zip(&delta.arms) {
                seen.merge(counts);
            }
        }
        // 38,000 and 2,000 calls; 380 and 200 errors: four standard deviations are 80 and 57.
        assert!(seen[0].failures().abs_diff(380) < 80, "{}", seen[0].failures());
        assert!(seen[1].failures().abs_diff(200) < 57, "{}", seen[1].failures());
        let median = seen[0].latency.quantile(0.5).unwrap() as f64 / 1e9;
        assert!((median / 0.2 - 1.0).abs() < 0.03, "{median}");
    }
}
