//! What the evidence says, with the numbers it rests on.
//!
//! A [`Verdict`] promotes in one variant only, and that variant holds a [`Proof`], which nothing
//! outside this floor can make: the absence of bad news is not one. Its `Display` is one sentence
//! for the person who is woken by it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::judge::guardrail::{Action, Measure};

/// What follows from everything observed in a stage so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "verdict")]
#[must_use]
#[non_exhaustive]
pub enum Verdict {
    /// Neither harm nor health is shown yet.
    Continue {
        /// What is still needed.
        needed: Needed,
        /// Every guardrail's numbers.
        readings: Vec<Reading>,
    },
    /// The candidate is worse than it may be: all traffic goes back.
    RollBack {
        /// What broke.
        cause: Cause,
        /// Every guardrail's numbers.
        readings: Vec<Reading>,
    },
    /// A guardrail that asks for a person is broken: the share stays where it is.
    Pause {
        /// What broke.
        cause: Cause,
        /// Every guardrail's numbers.
        readings: Vec<Reading>,
    },
    /// Every guardrail is shown to hold.
    Promote {
        /// What was shown.
        proof: Proof,
        /// Every guardrail's numbers.
        readings: Vec<Reading>,
    },
    /// There was time enough and the question is still open, or it cannot be asked.
    Inconclusive {
        /// Why.
        doubt: Doubt,
        /// Every guardrail's numbers.
        readings: Vec<Reading>,
    },
    /// The data cannot carry a verdict. Never a reason to promote, nor one to roll back.
    Invalid {
        /// What is wrong with them.
        flaw: Flaw,
        /// Every guardrail's numbers.
        readings: Vec<Reading>,
    },
}

impl Verdict {
    /// Every guardrail's numbers.
    #[must_use]
    pub fn readings(&self) -> &[Reading] {
        match self {
            Self::Continue { readings, .. }
            | Self::RollBack { readings, .. }
            | Self::Pause { readings, .. }
            | Self::Promote { readings, .. }
            | Self::Inconclusive { readings, .. }
            | Self::Invalid { readings, .. } => readings,
        }
    }

    /// Whether the candidate is shown to hold every guardrail.
    #[must_use]
    pub const fn is_promotion(&self) -> bool {
        matches!(self, Self::Promote { .. })
    }

    /// Whether all traffic is to go back.
    #[must_use]
    pub const fn is_roll_back(&self) -> bool {
        matches!(self, Self::RollBack { .. })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Continue { needed, .. } => write!(f, "continue: {needed}"),
            Self::RollBack { cause, .. } => write!(f, "roll back: {cause}"),
            Self::Pause { cause, .. } => write!(f, "pause: {cause}"),
            Self::Promote { proof, .. } => write!(f, "promote: {proof}"),
            Self::Inconclusive { doubt, .. } => write!(f, "inconclusive: {doubt}"),
            Self::Invalid { flaw, .. } => write!(f, "no verdict: {flaw}"),
        }
    }
}

/// What a stage still waits for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Needed {
    /// Names of the guardrails that are not shown to hold yet.
    pub guardrails: Vec<String>,
    /// About how many more candidate requests that takes if the candidate is as good as the
    /// baseline; `None` where nothing tells yet.
    pub requests: Option<u64>,
    /// What else stands in the way of promotion.
    pub hold: Option<Hold>,
}

impl fmt::Display for Needed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(hold) = &self.hold {
            return write!(f, "{hold}");
        }
        write!(f, "nothing is shown yet of {}", list(&self.guardrails))?;
        match self.requests {
            Some(requests) => write!(f, "; about {requests} more candidate requests are needed"),
            None => write!(f, "; how many requests that takes cannot be told yet"),
        }
    }
}

/// Why a candidate that shows no harm is not promoted at this moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Hold {
    /// Evidence of harm is gathering: it is more than half way to a rollback.
    HarmGathers {
        /// Which guardrail.
        guardrail: String,
    },
    /// More of the candidate's calls have begun and not ended than the baseline's explain.
    Hanging {
        /// Calls of the candidate in flight.
        in_flight: u64,
    },
    /// More of the candidate's calls were answered by the baseline's model, because the candidate was
    /// as busy as it may be, than by its own: what was seen is mostly not of it.
    Diverted {
        /// How many.
        diverted: u64,
        /// Of how many.
        calls: u64,
    },
    /// A guardrail has seen no value.
    NoData {
        /// Which guardrail.
        guardrail: String,
    },
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HarmGathers { guardrail } => {
                write!(f, "{guardrail} looks worse than it should, though not surely yet")
            }
            Self::Hanging { in_flight } => {
                write!(f, "{in_flight} candidate calls have begun and not ended")
            }
            Self::Diverted { diverted, calls } => write!(
                f,
                "{diverted} of the candidate's {calls} calls were answered by the baseline, since the \
                 candidate was as busy as it may be"
            ),
            Self::NoData { guardrail } => write!(f, "{guardrail} has seen no value yet"),
        }
    }
}

/// What broke.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Cause {
    /// A guardrail, by evidence at its level.
    Guardrail(Box<Reading>),
    /// A hard rail: a fixed rule beside the statistics, without an error rate.
    Rail(Rail),
}

impl Cause {
    /// The name of what broke.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Guardrail(reading) => &reading.guardrail,
            Self::Rail(Rail::Panics { .. }) => "panics",
            Self::Rail(Rail::OnlyFailures { .. }) => "failures without a success",
            Self::Rail(Rail::Hung { .. }) => "calls that do not end",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Guardrail(reading) => write!(f, "{reading}"),
            Self::Rail(rail) => write!(f, "{rail}"),
        }
    }
}

/// A hard rail that was hit.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Rail {
    /// The candidate panicked so often.
    Panics {
        /// How often, in this stage.
        panics: u64,
    },
    /// The latest candidate calls failed, so many of them, and not one succeeded.
    OnlyFailures {
        /// How many.
        failures: u64,
    },
    /// Calls of the candidate do not end.
    Hung {
        /// How many at least.
        calls: u64,
        /// They began longer ago than this.
        after: Duration,
    },
}

impl fmt::Display for Rail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panics { panics } => {
                write!(f, "the candidate panicked {panics} times (hard rail)")
            }
            Self::OnlyFailures { failures } => write!(
                f,
                "the candidate's last {failures} calls failed and none succeeded, while the baseline \
                 answered (hard rail)"
            ),
            Self::Hung { calls: 1, after } => write!(
                f,
                "a call of the candidate began more than {after:.0?} ago and has not ended, unlike the \
                 baseline's (hard rail)"
            ),
            Self::Hung { calls, after } => write!(
                f,
                "{calls} calls of the candidate began more than {after:.0?} ago and have not ended, \
                 unlike the baseline's (hard rail)"
            ),
        }
    }
}

/// That every guardrail holds. Made by the judge alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Proof {
    shown: Vec<String>,
    beta: f64,
}

impl Proof {
    pub(in crate::judge) const fn new(shown: Vec<String>, beta: f64) -> Self {
        Self { shown, beta }
    }

    /// What was shown, one sentence a guardrail.
    #[must_use]
    pub fn shown(&self) -> &[String] {
        &self.shown
    }

    /// The probability with which a candidate at one of the limits would get this far.
    #[must_use]
    pub const fn beta(&self) -> f64 {
        self.beta
    }
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (each wrongly with probability at most {})", self.shown.join("; "), self.beta)
    }
}

/// Why time ran out without a verdict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Doubt {
    /// The planned time is over and some guardrails are still open.
    TimeIsUp {
        /// What is still needed.
        needed: Needed,
        /// How long the stage was planned to take.
        planned: Duration,
    },
    /// Both arms fail: what they share is broken, and a comparison says nothing of the candidate.
    BothArmsFail {
        /// The baseline's part of failed calls.
        baseline: f64,
        /// The candidate's.
        candidate: f64,
    },
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimeIsUp { needed, planned } => {
                write!(f, "the planned {} s are over and {needed}", planned.as_secs())
            }
            Self::BothArmsFail { baseline, candidate } => write!(
                f,
                "both arms fail (baseline {}, candidate {}): look for what they share",
                percent(*baseline),
                percent(*candidate)
            ),
        }
    }
}

/// What is wrong with the data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Flaw {
    /// Nothing was seen of the candidate in all the planned time.
    NoTraffic,
    /// Nothing was seen of the candidate for a while.
    Starved {
        /// For how long.
        silent: Duration,
    },
    /// Nothing was seen of the baseline at the same time, so there is nothing to compare with.
    NoControl,
    /// The arms do not have the shares they should have.
    SampleRatio {
        /// The candidate's share as planned, from 0 to 1.
        planned: f64,
        /// As seen.
        seen: f64,
    },
    /// Truth arrives for one arm more often than for the other.
    MissingLabels {
        /// The part of the baseline's units whose truth is known.
        baseline: f64,
        /// The candidate's.
        candidate: f64,
    },
    /// Values outside their stated range.
    OutOfRange {
        /// Which guardrail.
        guardrail: String,
        /// How many values were in batches that had to be left out.
        values: u64,
    },
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTraffic => write!(f, "the candidate has had no request"),
            Self::Starved { silent } => {
                write!(f, "the candidate has had no request for {} s", silent.as_secs())
            }
            Self::NoControl => {
                write!(
                    f,
                    "the baseline had no request at the same time, so nothing can be compared"
                )
            }
            Self::SampleRatio { planned, seen } => write!(
                f,
                "the candidate has {} of the subjects and should have {}: assignment or recording \
                 is broken",
                percent(*seen),
                percent(*planned)
            ),
            Self::MissingLabels { baseline, candidate } => write!(
                f,
                "the truth is known of {} of the baseline's answers and of {} of the candidate's: \
                 the missing ones may be the wrong ones",
                percent(*baseline),
                percent(*candidate)
            ),
            Self::OutOfRange { guardrail, values } => {
                write!(f, "{guardrail} has values outside its range ({values} left out)")
            }
        }
    }
}

/// What a guardrail has come to.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Finding {
    /// It saw no value.
    NoData,
    /// Neither is shown.
    Open,
    /// The candidate is worse than the null, and looks worse than the middle of null and limit.
    Harm,
    /// The candidate is better than the limit.
    Safe,
    /// The candidate's rate is below the one nobody minds.
    BelowFloor,
}

/// What one arm showed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ArmReading {
    /// Exposures: calls, or subjects and windows where subjects are known; scores for a score.
    pub n: u64,
    /// Events among them; 0 for a latency or a score.
    pub events: u64,
    /// The rate, the quantile in seconds, or the mean. `None` without data, or when the quantile is
    /// a timeout.
    pub value: Option<f64>,
}

/// One guardrail's numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Reading {
    /// Its name.
    pub guardrail: String,
    /// What it measures.
    pub measure: Measure,
    /// What happens when it is broken.
    pub action: Action,
    /// What it has come to.
    pub finding: Finding,
    /// The baseline.
    pub baseline: ArmReading,
    /// The candidate.
    pub candidate: ArmReading,
    /// Candidate over baseline, or for a score the drop of its mean.
    pub estimate: Option<f64>,
    /// An interval of the ratio of rates that covers with 95 % at every look.
    pub interval: Option<(f64, f64)>,
    /// Up to here the candidate is fine.
    pub null: f64,
    /// From here on it must not pass.
    pub limit: f64,
    /// The level of this guardrail against false alarms.
    pub alpha: f64,
    /// `ln E` against "at most the null".
    pub ln_e: f64,
    /// `ln E` from which on that is refuted: `ln(1/α)`.
    pub threshold: f64,
    /// The estimate over the span of time in which harm speaks loudest.
    pub loudest: Option<f64>,
    /// The level against false proofs.
    pub beta: f64,
    /// `ln E` against "at least the limit".
    pub ln_safe: f64,
    /// `ln E` from which on that is refuted: `ln(1/β)`.
    pub safe_threshold: f64,
    /// The rate nobody minds; 0 for none.
    pub floor: f64,
    /// `ln E` against "the candidate's rate is at least the floor".
    pub ln_floor: Option<f64>,
    /// About how many more candidate requests show that it holds, if it is as good as the baseline.
    pub needed: Option<u64>,
}

impl Reading {
    /// Whether it is shown to hold.
    #[must_use]
    pub const fn is_safe(&self) -> bool {
        matches!(self.finding, Finding::Safe | Finding::BelowFloor)
    }

    fn shown(&self, value: Option<f64>) -> String {
        match (value, self.measure) {
            (None, Measure::Latency { .. }) => "a timeout".to_owned(),
            (None, _) => "nothing".to_owned(),
            (Some(value), Measure::Latency { .. } | Measure::Pace { .. }) => {
                format!("{:.1} ms", value * 1e3)
            }
            (Some(value), Measure::Score { .. }) => format!("{value:.4}"),
            (Some(value), _) => percent(value),
        }
    }
}

impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mine, theirs) = (self.shown(self.candidate.value), self.shown(self.baseline.value));
        write!(f, "{} of the candidate is {mine}", self.guardrail)?;
        if self.measure.is_rate() {
            write!(f, " ({} of {})", self.candidate.events, self.candidate.n)?;
        }
        write!(f, " against {theirs} of the baseline")?;
        if self.measure.is_rate() {
            write!(f, " ({} of {})", self.baseline.events, self.baseline.n)?;
        }
        let (null, limit) = (self.null, self.limit);
        let odds = |ln_e: f64| odds(ln_e);
        match (self.finding, self.measure) {
            (Finding::NoData, _) => write!(f, ": no data"),
            (Finding::Open, _) => write!(f, ": neither harm nor health is shown yet"),
            (Finding::BelowFloor, _) => write!(
                f,
                ": shown to be below {}, which nobody minds, at {}",
                percent(self.floor),
                odds(self.ln_floor.unwrap_or(0.0))
            ),
            (Finding::Safe, Measure::Score { .. }) => {
                write!(f, ": a drop of {limit} is ruled out at {}", odds(self.ln_safe))
            }
            (Finding::Safe, _) => {
                write!(f, ": {limit} times the baseline's is ruled out at {}", odds(self.ln_safe))
            }
            (Finding::Harm, Measure::Score { .. }) => write!(
                f,
                ": a drop of at most {null} is refuted at {} ({} were needed)",
                odds(self.ln_e),
                odds(self.threshold)
            ),
            (Finding::Harm, _) => write!(
                f,
                ": at most {null} times the baseline's is refuted at {} ({} were needed)",
                odds(self.ln_e),
                odds(self.threshold)
            ),
        }
    }
}

/// `ln E` as odds a person can read.
fn odds(ln_e: f64) -> String {
    let tens = ln_e / std::f64::consts::LN_10;
    if tens < 5.0 { format!("{:.0} to 1", ln_e.exp()) } else { format!("10^{tens:.0} to 1") }
}

fn percent(rate: f64) -> String {
    let percent = rate * 100.0;
    if percent == 0.0 || percent >= 0.1 {
        format!("{percent:.2} %")
    } else {
        format!("{percent:.2e} %")
    }
}

pub(in crate::judge) fn list(names: &[String]) -> String {
    match names {
        [] => "anything".to_owned(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}
