//! What a strategy concludes from its evidence.

use serde::{Deserialize, Serialize};

use crate::judge::verdict::Verdict;

/// A conclusion, and the sentence that explains it with its numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Conclusion {
    /// What follows.
    pub step: Step,
    /// Why, in one sentence.
    pub why: String,
}

/// What follows from a conclusion.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Step {
    /// Nothing yet: too little was seen, or what was seen allows no conclusion.
    Wait,
    /// What was asked for is shown. Rests on positive evidence.
    Pass,
    /// A person has to look; nothing is taken back.
    Pause,
    /// Harm is shown.
    TakeBack,
}

impl Conclusion {
    /// A conclusion.
    #[must_use]
    pub fn new(step: Step, why: impl Into<String>) -> Self {
        Self { step, why: why.into() }
    }
}

impl From<&Verdict> for Step {
    fn from(verdict: &Verdict) -> Self {
        match verdict {
            Verdict::RollBack { .. } => Self::TakeBack,
            Verdict::Pause { .. } => Self::Pause,
            Verdict::Promote { .. } => Self::Pass,
            Verdict::Continue { .. } | Verdict::Inconclusive { .. } | Verdict::Invalid { .. } => {
                Self::Wait
            }
        }
    }
}

impl From<&Verdict> for Conclusion {
    fn from(verdict: &Verdict) -> Self {
        Self::new(Step::from(verdict), verdict.to_string())
    }
}
