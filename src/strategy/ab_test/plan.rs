//! What is compared, and when one may look.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{Name, Segment};
use crate::judge::experiment::Metric;
use crate::judge::guardrail::Guardrail;

/// A comparison that can be run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ABTestPlan {
    /// The arms, the baseline first, with the weight of each in the split.
    pub arms: Vec<(Name, f64)>,
    /// What is measured.
    pub metric: Metric,
    /// Whether more of it is better.
    pub better: Better,
    /// The chance, at the most, of declaring a difference between arms that do not differ.
    pub alpha: f64,
    /// When one may look.
    pub horizon: Horizon,
    /// The smallest difference worth finding, in the metric's own unit.
    pub effect: f64,
    /// Arms whose difference is shown to be smaller than this are equivalent.
    pub margin: f64,
    /// Groups of subjects looked at one by one, declared before the data.
    pub segments: Vec<Name>,
    /// Whether measurements carry a covariate known before assignment.
    pub covariate: bool,
    /// Whether each subject brings one measurement. Then the exact test of small counts may be
    /// used; where it brings many, their dependence forbids that.
    pub one_each: bool,
    /// What must not get worse meanwhile; these end the test at once.
    pub guardrails: Vec<Guardrail>,
}

/// Which direction is better.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// More is better: accuracy, conversions.
    Higher,
    /// Less is better: cost, errors.
    Lower,
}

/// When one may look.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Horizon {
    /// Up to so many measurements an arm, with that many looks evenly spread: the most powerful
    /// where the end is known.
    Planned {
        /// Measurements an arm at the end.
        per_arm: u64,
        /// How often the test looks on the way, 1 to 100.
        looks: u16,
        /// How the error is spread over the looks.
        spending: Spread,
    },
    /// For as long as it takes; every look is valid. `tuned_to` measurements an arm is where it is
    /// sharpest.
    Open {
        /// Measurements an arm.
        tuned_to: u64,
    },
    /// One look, when every arm has so many measurements, and none before or after: the textbook
    /// z test, for those who ask for it by name.
    FixedOneLook {
        /// Measurements an arm.
        per_arm: u64,
    },
}

/// How the error is spread over planned looks.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spread {
    /// Hardly any early, nearly all at the end (O'Brien and Fleming).
    #[default]
    OBrienFleming,
    /// About the same at each look (Pocock).
    Pocock,
}

/// A comparison that cannot be run.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ABTestError {
    /// Fewer than two arms, or more than 32.
    #[error("{arms} arms; a test needs from 2 to 32")]
    Arms {
        /// How many were given.
        arms: usize,
    },
    /// Two arms or two segments have the same name.
    #[error("two {what}s are named {name}; give each its own name")]
    SameName {
        /// `arm` or `segment`.
        what: &'static str,
        /// The name.
        name: Name,
    },
    /// More segments than a record can tell apart.
    #[error("{segments} segments; at most 254 can be declared")]
    Segments {
        /// How many were given.
        segments: usize,
    },
    /// A setting out of range.
    #[error("{field} is {value}; it must be {expected}")]
    Value {
        /// Which.
        field: &'static str,
        /// What was given.
        value: f64,
        /// What can be given.
        expected: &'static str,
    },
    /// A guardrail or its level cannot be used, or a statistic cannot be computed.
    #[error("{0}")]
    Judge(String),
    /// An arm or segment that was not declared.
    #[error("{what} {number} was not declared; there are {declared}")]
    Undeclared {
        /// `arm` or `segment`.
        what: &'static str,
        /// Its number.
        number: usize,
        /// How many were declared.
        declared: usize,
    },
    /// A measurement that cannot be one of this metric. It is not counted.
    #[error("measurement refused: {0}")]
    Measurement(#[from] crate::stats::error::StatsError),
}

impl ABTestPlan {
    /// A test of `candidate` against `baseline` with half of the subjects each: a planned horizon
    /// of `per_arm` measurements an arm with 24 looks and O'Brien and Fleming's boundary, α 5 %,
    /// more is better, differences of `effect` worth finding, equivalence inside the same.
    #[must_use]
    pub fn new(baseline: Name, candidate: Name, metric: Metric, effect: f64, per_arm: u64) -> Self {
        Self {
            arms: vec![(baseline, 1.0), (candidate, 1.0)],
            metric,
            better: Better::Higher,
            alpha: 0.05,
            horizon: Horizon::Planned { per_arm, looks: 24, spending: Spread::OBrienFleming },
            effect,
            margin: effect,
            segments: Vec::new(),
            covariate: false,
            one_each: false,
            guardrails: Vec::new(),
        }
    }

    /// Adds an arm with a weight in the split.
    #[must_use]
    pub fn arm(mut self, name: Name, weight: f64) -> Self {
        self.arms.push((name, weight));
        self
    }

    /// Says which direction is better.
    #[must_use]
    pub const fn better(mut self, better: Better) -> Self {
        self.better = better;
        self
    }

    /// Sets α.
    #[must_use]
    pub const fn alpha(mut self, alpha: f64) -> Self {
        self.alpha = alpha;
        self
    }

    /// Sets when one may look.
    #[must_use]
    pub const fn horizon(mut self, horizon: Horizon) -> Self {
        self.horizon = horizon;
        self
    }

    /// Sets how small a difference counts as none.
    #[must_use]
    pub const fn margin(mut self, margin: f64) -> Self {
        self.margin = margin;
        self
    }

    /// Declares segments, before the data.
    #[must_use]
    pub fn segments(mut self, names: impl IntoIterator<Item = Name>) -> Self {
        self.segments = names.into_iter().collect();
        self
    }

    /// Says that measurements carry a covariate known before assignment.
    #[must_use]
    pub const fn with_covariate(mut self) -> Self {
        self.covariate = true;
        self
    }

    /// Says that each subject brings one measurement.
    #[must_use]
    pub const fn one_each(mut self) -> Self {
        self.one_each = true;
        self
    }

    /// Sets what must not get worse meanwhile (two arms only).
    #[must_use]
    pub fn guardrails(mut self, guardrails: Vec<Guardrail>) -> Self {
        self.guardrails = guardrails;
        self
    }

    /// Whether it can be run.
    ///
    /// # Errors
    ///
    /// [`ABTestError`] for the first setting that cannot be used.
    pub fn check(&self) -> Result<(), ABTestError> {
        if !(2..=32).contains(&self.arms.len()) {
            return Err(ABTestError::Arms { arms: self.arms.len() });
        }
        distinct("arm", self.arms.iter().map(|(name, _)| name))?;
        distinct("segment", self.segments.iter())?;
        if self.segments.len() > Segment::MAX_DECLARED {
            return Err(ABTestError::Segments { segments: self.segments.len() });
        }
        for (_, weight) in &self.arms {
            within("weight", *weight, 1e-6, 1e6, "from 0.000001 to 1000000")?;
        }
        within("alpha", self.alpha, 1e-9, 0.5, "from 1e-9 to 0.5")?;
        within("effect", self.effect, 1e-12, 1e12, "above 0")?;
        within("margin", self.margin, 1e-12, 1e12, "above 0")?;
        if self.metric == Metric::Rate && self.effect >= 1.0 {
            let (field, value) = ("effect", self.effect);
            return Err(ABTestError::Value { field, value, expected: "below 1 for a rate" });
        }
        let (field, n) = match self.horizon {
            Horizon::Planned { per_arm, looks, .. } => {
                within("looks", f64::from(looks), 1.0, 100.0, "from 1 to 100")?;
                ("per_arm", per_arm)
            }
            Horizon::Open { tuned_to } => ("tuned_to", tuned_to),
            Horizon::FixedOneLook { per_arm } => ("per_arm", per_arm),
        };
        within(field, n as f64, 10.0, 1e15, "from 10 to 10^15")?;
        if !self.guardrails.is_empty() && self.arms.len() != 2 {
            let (field, value) = ("arms", self.arms.len() as f64);
            return Err(ABTestError::Value {
                field,
                value,
                expected: "2 where guardrails are given",
            });
        }
        Ok(())
    }
}

impl fmt::Display for Better {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Higher => "higher is better",
            Self::Lower => "lower is better",
        })
    }
}

fn distinct<'a>(
    what: &'static str,
    names: impl Iterator<Item = &'a Name> + Clone,
) -> Result<(), ABTestError> {
    for (at, name) in names.clone().enumerate() {
        if names.clone().take(at).any(|earlier| earlier == name) {
            return Err(ABTestError::SameName { what, name: name.clone() });
        }
    }
    Ok(())
}

fn within(
    field: &'static str,
    value: f64,
    low: f64,
    high: f64,
    expected: &'static str,
) -> Result<(), ABTestError> {
    if value >= low && value <= high {
        Ok(())
    } else {
        Err(ABTestError::Value { field, value, expected })
    }
}
