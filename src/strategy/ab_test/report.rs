//! What a test has come to, with its numbers.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::Name;

/// What a test has come to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "result")]
#[non_exhaustive]
pub enum Outcome {
    /// Not decided yet.
    Running {
        /// About how many more measurements are needed over all arms, where that can be told.
        needed: Option<u64>,
    },
    /// This arm is better than the baseline; or, if it is the baseline, than every other.
    Winner {
        /// Its number; 0 is the baseline.
        arm: usize,
    },
    /// No arm differs from the baseline by as much as the margin.
    Equivalent,
    /// The horizon is reached, and neither a difference nor its absence is shown.
    Inconclusive,
    /// The data cannot carry a result.
    Invalid {
        /// Why not.
        reason: String,
    },
    /// A guardrail broke: the candidate harms, whatever the metric says.
    RolledBack {
        /// Which, with its numbers.
        reason: String,
    },
}

/// One arm's numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ArmReport {
    /// Its name.
    pub name: Name,
    /// Measurements.
    pub n: u64,
    /// Measurements that are not 0; for a rate, the successes.
    pub events: u64,
    /// The mean, rate or ratio (adjusted for the covariate, where there is one).
    pub value: Option<f64>,
    /// Subjects seen, as far as they are told apart (the first million or so).
    pub subjects: u64,
}

/// An arm against the baseline.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Comparison {
    /// The arm's number.
    pub arm: usize,
    /// Its value less the baseline's.
    pub effect: f64,
    /// An interval of the effect that holds at the looks of the plan; `None` before the first.
    pub interval: Option<(f64, f64)>,
    /// Effect over its standard error.
    pub z: f64,
    /// What `|z|` must reach now; `None` where the interval or the exact test decides.
    pub boundary: Option<f64>,
    /// `ln E` of the exact test of small counts, where it is used.
    pub ln_e: Option<f64>,
    /// Whether the difference is shown.
    pub differs: bool,
    /// Whether it is shown to be smaller than the margin.
    pub within_margin: bool,
}

/// One segment's numbers, arm 1 against the baseline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SegmentReport {
    /// Its name.
    pub name: Name,
    /// The baseline's measurements and value.
    pub baseline: (u64, Option<f64>),
    /// The candidate's.
    pub candidate: (u64, Option<f64>),
    /// Candidate less baseline.
    pub effect: Option<f64>,
    /// An interval that holds at every look and for all segments together.
    pub interval: Option<(f64, f64)>,
}

/// What the aggregate hides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "flag")]
#[non_exhaustive]
pub enum Flag {
    /// One arm is better in some segments and worse in others, shown for each: no single winner
    /// serves everybody best. Route by segment.
    QualitativeInteraction {
        /// Segments in which the candidate is better.
        candidate_better: Vec<Name>,
        /// Segments in which the baseline is.
        baseline_better: Vec<Name>,
    },
    /// The aggregate contradicts what holds within segments: the arms got different mixes of
    /// segments, so the assignment is suspect. Believe the segments.
    Simpson {
        /// The effect over everybody.
        crude: f64,
        /// The effect within segments, weighted by their size.
        within: f64,
    },
}

/// Everything known about a test at this moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Report {
    /// What it has come to.
    pub outcome: Outcome,
    /// The arms, the baseline first.
    pub arms: Vec<ArmReport>,
    /// Each further arm against the baseline.
    pub comparisons: Vec<Comparison>,
    /// Measurements an arm needs, from the observed baseline and the smallest difference worth
    /// finding, for 80 % power at one look; the plan's looks cost a little more.
    pub required_per_arm: Option<u64>,
    /// How far along the horizon, from 0 to 1; `None` for an open one.
    pub information: Option<f64>,
    /// Looks taken.
    pub looks: usize,
    /// Segments, as declared.
    pub segments: Vec<SegmentReport>,
    /// What the aggregate hides.
    pub flags: Vec<Flag>,
    /// The anytime-valid p-value of "subjects were split as planned".
    pub sample_ratio_p: f64,
    /// α.
    pub alpha: f64,
    /// The margin of equivalence.
    pub margin: f64,
}

impl Report {
    /// Whether the test is over.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        !matches!(self.outcome, Outcome::Running { .. })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |arm: usize| self.arms.get(arm).map_or("?", |arm| arm.name.as_str());
        match &self.outcome {
            Outcome::Running { needed: Some(needed) } => {
                write!(f, "not decided yet; about {needed} more measurements are needed")?;
            }
            Outcome::Running { needed: None } => {
                write!(f, "not decided yet; how many measurements that takes cannot be told")?;
            }
            Outcome::Winner { arm } => write!(f, "{} is the best", name(*arm))?,
            Outcome::Equivalent => write!(
                f,
                "equivalent: no arm differs from {} by as much as {}",
                name(0),
                self.margin
            )?,
            Outcome::Inconclusive => write!(
                f,
                "inconclusive: neither a difference nor one below {} is shown",
                self.margin
            )?,
            Outcome::Invalid { reason } => write!(f, "invalid: {reason}")?,
            Outcome::RolledBack { reason } => write!(f, "rolled back: {reason}")?,
        }
        for comparison in &self.comparisons {
            let arm = |at: usize| match &self.arms[at] {
                ArmReport { value: Some(value), n, .. } => format!("{value:.4} over {n}"),
                ArmReport { n, .. } => format!("nothing over {n}"),
            };
            write!(
                f,
                "; {} {} against {} {}: difference {:+.4}",
                name(comparison.arm),
                arm(comparison.arm),
                name(0),
                arm(0),
                comparison.effect
            )?;
            if let Some((low, high)) = comparison.interval {
                write!(f, ", between {low:+.4} and {high:+.4}")?;
            }
            write!(f, " (α {})", self.alpha)?;
        }
        for flag in &self.flags {
            match flag {
                Flag::QualitativeInteraction { candidate_better, baseline_better } => write!(
                    f,
                    "; route by segment: {} better served by {}, {} by {}",
                    list(candidate_better),
                    name(1),
                    list(baseline_better),
                    name(0)
                )?,
                Flag::Simpson { crude, within } => write!(
                    f,
                    "; the aggregate ({crude:+.4}) contradicts the segments ({within:+.4}): the arms \
                     got different mixes, check the assignment"
                )?,
            }
        }
        Ok(())
    }
}

fn list(names: &[Name]) -> String {
    names.iter().map(Name::as_str).collect::<Vec<_>>().join(", ")
}
