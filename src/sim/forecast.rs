//! What many rehearsals say together, each figure with what chance does to it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::rollout::pipeline::End;
use crate::sim::rehearsal::Course;
use crate::stats::interval::clopper_pearson_interval;
use crate::stats::proportion::Proportion;

/// How often something happened, and between which values its probability lies.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Chance {
    /// Runs in which it happened.
    pub events: u64,
    /// Runs.
    pub runs: u64,
    /// Their ratio; 0 without runs.
    pub rate: f64,
    /// Lower end of the 95 % interval (Clopper and Pearson 1934: never too narrow).
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Chance {
    /// `events` of `runs`; more events than runs count as all of them.
    #[must_use]
    pub fn of(events: u64, runs: u64) -> Self {
        let events = events.min(runs);
        let rate = if runs == 0 { 0.0 } else { events as f64 / runs as f64 };
        let interval = Proportion::new(events, runs)
            .ok()
            .and_then(|seen| clopper_pearson_interval(seen, 0.05).ok());
        let (low, high) = interval.map_or((0.0, 1.0), |own| (own.lo, own.hi));
        Self { events, runs, rate, low, high }
    }
}

/// Where the values of some runs lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Spread {
    /// In how many runs there is a value.
    pub runs: u64,
    /// One in twenty is lower.
    pub p5: f64,
    /// Half are.
    pub p50: f64,
    /// Nineteen in twenty are.
    pub p95: f64,
    /// The mean.
    pub mean: f64,
}

impl Spread {
    /// Where `values` lie; those that are not finite are left out, and none at all is `None`.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let last = values.len().checked_sub(1)?;
        let at = |q: f64| values[(q * last as f64).round() as usize];
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        Some(Self { runs: values.len() as u64, p5: at(0.05), p50: at(0.5), p95: at(0.95), mean })
    }
}

/// What is to be expected of a rollout, from many rehearsals of it.
///
/// ```
/// use pilotage::rollout::plan::Plan;
/// use pilotage::sim::forecast::Forecast;
/// use pilotage::sim::rehearsal::{Looks, Rehearsal, RehearsalError};
/// use pilotage::sim::world::Climate;
/// use std::time::Duration;
///
/// let hour = Duration::from_secs(3600);
/// let courses: Result<Vec<_>, RehearsalError> = (0..5)
///     .map(|seed| {
///         let climate = Climate::new(200.0);
///         Ok(Rehearsal::begin(Plan::quick(), climate, seed, Looks::default())?.run(hour))
///     })
///     .collect();
/// let forecast = Forecast::of(&courses?);
/// assert_eq!(forecast.promoted.events, 5);
/// assert_eq!(forecast.stopped.rate, 0.0);
/// # Ok::<(), RehearsalError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Forecast {
    /// The machine took the candidate back or turned it away.
    pub stopped: Chance,
    /// It was promoted.
    pub promoted: Chance,
    /// It was still under way, and people had been told that it holds.
    pub holding: Chance,
    /// It was still under way.
    pub unfinished: Chance,
    /// In how many runs it was stopped in which stage.
    pub stopped_in: BTreeMap<String, u64>,
    /// Seconds until the candidate served everybody.
    pub seconds_to_everybody: Option<Spread>,
    /// Seconds until it was promoted.
    pub seconds_to_promotion: Option<Spread>,
    /// Seconds until it was stopped.
    pub seconds_to_stop: Option<Spread>,
    /// Requests the candidate served until the end.
    pub exposed: Option<Spread>,
    /// Bad answers that users met and would not have met without the rollout.
    pub harm: Option<Spread>,
    /// Seconds by which answers came later, all together.
    pub waited: Option<Spread>,
}

impl Forecast {
    /// What these runs say.
    #[must_use]
    pub fn of(courses: &[Course]) -> Self {
        Self::since(courses, Duration::ZERO)
    }

    /// What these runs say of a fault that began at `began`: times count from there.
    #[must_use]
    pub fn since(courses: &[Course], began: Duration) -> Self {
        let chance = |test: &dyn Fn(&Course) -> bool| {
            let events = courses.iter().filter(|course| test(course)).count();
            Chance::of(events as u64, courses.len() as u64)
        };
        let seconds = |at: Duration| at.saturating_sub(began).as_secs_f64();
        let ended = |end: End| courses.iter().filter(move |course| course.end == Some(end));
        let stopped = courses.iter().filter(|course| course.is_stopped());
        let mut stopped_in = BTreeMap::new();
        for course in stopped.clone() {
            *stopped_in.entry(course.stage.clone()).or_default() += 1;
        }
        Self {
            stopped: chance(&Course::is_stopped),
            promoted: chance(&Course::is_promoted),
            holding: chance(&|course| course.end.is_none() && course.holding.is_some()),
            unfinished: chance(&|course| course.end.is_none()),
            stopped_in,
            seconds_to_everybody: Spread::of(
                courses.iter().filter_map(|course| course.everybody).map(seconds),
            ),
            seconds_to_promotion: Spread::of(ended(End::Promoted).map(|own| seconds(own.at))),
            seconds_to_stop: Spread::of(stopped.map(|course| seconds(course.at))),
            exposed: Spread::of(courses.iter().map(|course| course.toll.candidate as f64)),
            harm: Spread::of(courses.iter().map(|course| course.toll.harm())),
            waited: Spread::of(courses.iter().map(|course| course.toll.waited)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_of_many_is_not_never() {
        let chance = Chance::of(0, 300);
        // 1 − 0.025^(1/300).
        assert!(chance.rate == 0.0 && (chance.high - 0.012_22).abs() < 1e-4, "{chance:?}");
        assert_eq!((Chance::of(0, 0).low, Chance::of(0, 0).high), (0.0, 1.0));
    }

    #[test]
    fn a_spread_leaves_out_what_is_no_number() {
        let spread = Spread::of([f64::NAN, 1.0, 3.0, 2.0, f64::INFINITY]).unwrap();
        assert_eq!((spread.runs, spread.p5, spread.p50, spread.p95), (3, 1.0, 2.0, 3.0));
        assert_eq!(Spread::of([f64::NAN]), None);
    }
}
