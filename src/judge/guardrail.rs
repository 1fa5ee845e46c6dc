//! What must not get worse.
//!
//! A [`Guardrail`] names a measure and two bounds. Up to the *null* a candidate is fine: rolling
//! one back that stays within it is a false alarm, and its probability is bounded. From the *limit*
//! on it must not pass: promoting it is a false proof, and that is bounded too. In between, either
//! verdict is legitimate, and more data does not make one wrong.
//!
//! The null is not the limit because of time: at an error rate of 0.1 % and 5 % of traffic, a
//! candidate that errs twice as often is caught in some 17,000 of its requests against a null of
//! "no worse", and never against a null of "at most twice". So that a harmless 1.1× is not taken
//! back merely because traffic is huge, a rollback also needs the estimate to lie beyond the
//! geometric middle of null and limit. A second condition can only lower the false alarms.

use serde::{Deserialize, Serialize};

use crate::outcome::Marks;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Measure {
    /// Calls that ended in an error or a panic, of all judged.
    Errors,
    /// Calls that timed out, of all judged.
    Timeouts,
    /// Calls whose caller went away before there was an answer ([`Status::Cancelled`]), of all that
    /// ended. People give up on what is slow, and what they gave up on is in no other measure.
    ///
    /// [`Status::Cancelled`]: crate::outcome::Status::Cancelled
    Abandoned,
    /// The quantile `0 < q < 1` of latency; a timeout counts as slower than everything. The latency
    /// of a stream is the time to its first item.
    Latency {
        /// Which quantile, for example 0.95.
        quantile: f64,
    },
    /// The quantile `0 < q < 1` of the pace of streams: of the mean time for an item after the first
    /// within a stream, over the streams that gave at least two. The time to the first item is
    /// [`Measure::Latency`].
    Pace {
        /// Which quantile, for example 0.95.
        quantile: f64,
    },
    /// The mean of the scores, which lie between `low` and `high`; more is better.
    Score {
        /// The lowest possible score.
        low: f64,
        /// The highest possible score.
        high: f64,
    },
    /// Calls that carried the user's mark of this number, of all judged; fewer is better.
    Mark {
        /// The mark's number, below [`Marks::COUNT`].
        number: u8,
    },
    /// Answers known to be wrong, of those whose truth arrived.
    WrongAnswers,
}

impl Measure {
    /// Whether it is a share of calls (rather than a latency or a mean).
    #[must_use]
    pub const fn is_rate(self) -> bool {
        matches!(
            self,
            Self::Errors
                | Self::Timeouts
                | Self::Abandoned
                | Self::Mark { .. }
                | Self::WrongAnswers
        )
    }
}

/// What happens when a guardrail is broken.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Action {
    /// All traffic goes back.
    RollBack,
    /// The share stays where it is until a person decides.
    Pause,
    /// It is reported and decides nothing, neither harm nor promotion.
    ReportOnly,
}

/// What a guardrail says when it never saw a value.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum NoData {
    /// No promotion without it: the default, and the only one that shows anything.
    Hold,
    /// Leave this guardrail out while it has no data, for example scores that only some models
    /// give. As soon as one value was seen, it holds like the others.
    Skip,
}

/// Which ratios above the null the evidence looks for first.
///
/// Every choice keeps the level; they differ in how soon which regression is seen.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Prior {
    /// Small and large alike.
    #[default]
    Balanced,
    /// Leans to doublings: sooner at ×2, later at disasters.
    SmallRegressions,
    /// Leans to disasters: two or three events suffice, later at ×2.
    Disasters,
}

/// One thing that must not get worse, how much worse is too much, and what then happens.
///
/// Constructors give the usual limits; methods change them; [`StageJudge::new`] checks the whole.
///
/// [`StageJudge::new`]: crate::judge::stage::StageJudge::new
///
/// ```
/// use pilotage::judge::guardrail::{Action, Guardrail};
///
/// let strict = Guardrail::error_rate().limit(1.5).floor(0.0005);
/// let cost = Guardrail::score("cost saved", 0.0, 1.0).limit(0.02).action(Action::Pause);
/// assert_eq!(strict.name, "error rate");
/// assert_eq!(cost.limit, 0.02);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Guardrail {
    /// How people call it; unique in a stage.
    pub name: String,
    /// What is measured.
    pub measure: Measure,
    /// Up to here the candidate is fine: a ratio of candidate to baseline, or for a score the drop
    /// of its mean, in the score's own unit.
    pub null: f64,
    /// From here on it must not pass; same unit, above `null`.
    pub limit: f64,
    /// Its part of the stage's α, relative to the other guardrails'. Positive.
    pub weight: f64,
    /// Events on the candidate (scores: values) before anything may be concluded against it.
    pub min_events: u64,
    /// Rates only: nobody minds a rate below this. It spares a candidate whose estimate is below
    /// it, and a candidate shown to lie below it has passed, even where there is no event on either
    /// arm to compare. Between 0 (no such rate) and 1.
    pub floor: f64,
    /// What happens when it is broken.
    pub action: Action,
    /// What it says without data.
    pub no_data: NoData,
    /// Which regressions are looked for first.
    pub prior: Prior,
}

impl Guardrail {
    fn of(name: impl Into<String>, measure: Measure, null: f64, limit: f64, weight: f64) -> Self {
        Self {
            name: name.into(),
            measure,
            null,
            limit,
            weight,
            min_events: 2,
            floor: if measure.is_rate() { 0.001 } else { 0.0 },
            action: Action::RollBack,
            no_data: NoData::Hold,
            prior: Prior::Balanced,
        }
    }

    /// Errors and panics: at most twice the baseline's.
    ///
    /// Two events suffice by default. The evidence itself asks for a third wherever two are not
    /// enough for the level; a fixed third would cost a 15 % disaster six more harmed requests.
    #[must_use]
    pub fn error_rate() -> Self {
        Self::of("error rate", Measure::Errors, 1.0, 2.0, 0.4)
    }

    /// Timeouts: at most twice the baseline's.
    #[must_use]
    pub fn timeout_rate() -> Self {
        Self::of("timeout rate", Measure::Timeouts, 1.0, 2.0, 0.15)
    }

    /// Calls that their callers gave up: at most twice the baseline's; 1.2 times is fine.
    ///
    /// Its floor is 1 %, ten times that of errors: readers go away for reasons of their own.
    #[must_use]
    pub fn abandonment_rate() -> Self {
        Self::of("abandonment rate", Measure::Abandoned, 1.2, 2.0, 0.05).min_events(20).floor(0.01)
    }

    /// Median latency: at most 1.2 times the baseline's; 1.1 is fine.
    #[must_use]
    pub fn p50() -> Self {
        Self::of("p50 latency", Measure::Latency { quantile: 0.5 }, 1.1, 1.2, 0.1)
    }

    /// 95th percentile of latency: at most 1.5 times the baseline's; 1.2 is fine.
    #[must_use]
    pub fn p95() -> Self {
        Self::of("p95 latency", Measure::Latency { quantile: 0.95 }, 1.2, 1.5, 0.3)
    }

    /// 99th percentile of latency: at most twice the baseline's; 1.4 is fine.
    ///
    /// Wider than at the 95th because one request in a hundred exceeds it rather than one in
    /// twenty: at the limits of the 95th a stage would have to last five times as long.
    #[must_use]
    pub fn p99() -> Self {
        Self::of("p99 latency", Measure::Latency { quantile: 0.99 }, 1.4, 2.0, 0.1)
    }

    /// 95th percentile of the pace of streams, the time per item after the first: at most 1.5 times
    /// the baseline's; 1.2 is fine.
    ///
    /// Not among the standard ones, since not every model streams. A candidate that says more is not
    /// slower by this; one whose tokens trickle is.
    #[must_use]
    pub fn pace() -> Self {
        Self::of("pace", Measure::Pace { quantile: 0.95 }, 1.2, 1.5, 0.3)
    }

    /// The mean of a score between `low` and `high`, where more is better: it may fall by at most
    /// 5 % of that range.
    #[must_use]
    pub fn score(name: impl Into<String>, low: f64, high: f64) -> Self {
        let mut guardrail =
            Self::of(name, Measure::Score { low, high }, 0.0, 0.05 * (high - low), 0.1);
        guardrail.min_events = 20;
        guardrail
    }

    /// Calls with the user's mark `number` (below [`Marks::COUNT`]), for example refusals: at most
    /// twice the baseline's.
    #[must_use]
    pub fn mark(number: u8, name: impl Into<String>) -> Self {
        Self::of(name, Measure::Mark { number }, 1.0, 2.0, 0.1)
    }

    /// Answers that late truth shows to be wrong: at most 1.5 times the baseline's.
    #[must_use]
    pub fn wrong_answers() -> Self {
        let mut guardrail = Self::of("wrong answers", Measure::WrongAnswers, 1.0, 1.5, 0.1);
        guardrail.min_events = 5;
        guardrail
    }

    /// Errors, timeouts, abandonment, p50 and p95, with the usual limits.
    #[must_use]
    pub fn standard() -> Vec<Self> {
        vec![
            Self::error_rate(),
            Self::timeout_rate(),
            Self::abandonment_rate(),
            Self::p50(),
            Self::p95(),
        ]
    }

    /// With another name.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// With another bound up to which the candidate is fine.
    #[must_use]
    pub const fn null(mut self, null: f64) -> Self {
        self.null = null;
        self
    }

    /// With another limit.
    #[must_use]
    pub const fn limit(mut self, limit: f64) -> Self {
        self.limit = limit;
        self
    }

    /// With another part of the stage's α.
    #[must_use]
    pub const fn weight(mut self, weight: f64) -> Self {
        self.weight = weight;
        self
    }

    /// With another least number of events.
    #[must_use]
    pub const fn min_events(mut self, events: u64) -> Self {
        self.min_events = events;
        self
    }

    /// With another rate nobody minds.
    #[must_use]
    pub const fn floor(mut self, rate: f64) -> Self {
        self.floor = rate;
        self
    }

    /// With another action.
    #[must_use]
    pub const fn action(mut self, action: Action) -> Self {
        self.action = action;
        self
    }

    /// With another answer to having no data.
    #[must_use]
    pub const fn no_data(mut self, no_data: NoData) -> Self {
        self.no_data = no_data;
        self
    }

    /// With another idea of which regressions to look for first.
    #[must_use]
    pub const fn prior(mut self, prior: Prior) -> Self {
        self.prior = prior;
        self
    }

    /// Where the estimate must lie for a rollback: the middle of null and limit.
    #[must_use]
    pub fn gate(&self) -> f64 {
        match self.measure {
            Measure::Score { .. } => f64::midpoint(self.null, self.limit),
            _ => (self.null * self.limit).sqrt(),
        }
    }

    /// Whether it can be used.
    ///
    /// # Errors
    ///
    /// [`GuardrailError`] naming the value that cannot be.
    pub fn check(&self) -> Result<(), GuardrailError> {
        let name = || self.name.clone();
        let bad = |what: &'static str, value: f64, expected: &'static str| {
            Err(GuardrailError::Value { guardrail: name(), what, value, expected })
        };
        if self.name.trim().is_empty() || self.name.chars().any(char::is_control) {
            return Err(GuardrailError::Name { shown: self.name.escape_debug().collect() });
        }
        let least = match self.measure {
            Measure::Latency { quantile } | Measure::Pace { quantile }
                if !(0.01..=0.999).contains(&quantile) =>
            {
                return bad("quantile", quantile, "from 0.01 to 0.999");
            }
            Measure::Mark { number } if usize::from(number) >= Marks::COUNT => {
                return bad("mark", f64::from(number), "a number from 0 to 4");
            }
            Measure::Score { low, high } => {
                if !(low.is_finite() && high.is_finite() && low < high) {
                    return bad("score range", high - low, "finite and above 0");
                }
                let fits = self.limit < high - low;
                if !fits {
                    return bad("limit", self.limit, "smaller than the range of the score");
                }
                0.0
            }
            _ => 0.05,
        };
        if !(self.null.is_finite() && self.null >= least) {
            return bad("null", self.null, "a ratio of at least 0.05, or a drop of at least 0");
        }
        if !(self.limit > self.null && self.limit <= 1e6) {
            return bad("limit", self.limit, "above the null and at most 1000000");
        }
        if !(self.weight > 0.0 && self.weight <= 1e6) {
            return bad("weight", self.weight, "above 0 and at most 1000000");
        }
        if !(0.0..1.0).contains(&self.floor) {
            return bad("floor", self.floor, "a rate from 0 up to, not including, 1");
        }
        if self.floor > 0.0 && self.floor < 1e-9 {
            return bad("floor", self.floor, "0 or at least 1e-9");
        }
        Ok(())
    }
}

/// A guardrail that cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GuardrailError {
    /// Its name is empty or holds a control character.
    #[error("a guardrail cannot be called \"{shown}\"; give it a name a person can read")]
    Name {
        /// The name, escaped.
        shown: String,
    },
    /// A setting is out of range.
    #[error("guardrail \"{guardrail}\": {what} is {value}; it must be {expected}")]
    Value {
        /// Which guardrail.
        guardrail: String,
        /// Which setting.
        what: &'static str,
        /// What was given.
        value: f64,
        /// What can be given.
        expected: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_guardrails_can_be_used() {
        let more = [Guardrail::p99(), Guardrail::score("similarity", 0.0, 1.0)];
        let rates = [
            Guardrail::mark(4, "refusals"),
            Guardrail::wrong_answers(),
            Guardrail::abandonment_rate(),
        ];
        for guardrail in Guardrail::standard().iter().chain(&more).chain(&rates) {
            assert_eq!(guardrail.check(), Ok(()), "{}", guardrail.name);
            assert!(guardrail.gate() > guardrail.null && guardrail.gate() < guardrail.limit);
        }
    }

    #[test]
    fn a_setting_that_is_no_number_is_refused_by_name() {
        let wrong = [
            Guardrail::error_rate().limit(f64::NAN),
            Guardrail::error_rate().null(f64::INFINITY),
            Guardrail::error_rate().limit(1.0),
            Guardrail::error_rate().weight(0.0),
            Guardrail::error_rate().floor(-0.1),
            Guardrail::error_rate().floor(f64::NAN),
            Guardrail::score("s", 1.0, 1.0),
            Guardrail::score("s", f64::NAN, 1.0),
            Guardrail::mark(5, "m"),
            Guardrail::error_rate().named("\n"),
        ];
        for guardrail in wrong {
            let error = guardrail.check().unwrap_err().to_string();
            assert!(error.contains("must be") || error.contains("person"), "{error}");
        }
    }
}
