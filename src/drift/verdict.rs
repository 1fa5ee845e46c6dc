//! What is said of a feature, of the answers, of a model.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Whether something moved.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Verdict {
    /// There are not the data to say. Never the same as stable.
    #[default]
    NotEnough,
    /// A move that matters would have been seen, and none was.
    Stable,
    /// It moved, too little to matter yet; or less evidence than it takes to say more.
    Watch,
    /// It moved, and by much.
    Drifted,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::NotEnough => "not enough",
            Self::Stable => "stable",
            Self::Watch => "watch",
            Self::Drifted => "drifted",
        })
    }
}

/// How large a move is, apart from whether it is certain.
#[derive(
    Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Size {
    /// Below half the limit: with much data even this is significant, and hardly ever matters.
    #[default]
    Tiny,
    /// From half the limit up to it.
    Moderate,
    /// At the limit or beyond.
    Large,
}

impl Size {
    /// The size of `effect`, held against the limit from which it is large.
    #[must_use]
    pub fn of(effect: f64, limit: f64) -> Self {
        if effect >= limit {
            Self::Large
        } else if effect >= limit / 2.0 {
            Self::Moderate
        } else {
            Self::Tiny
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tiny => "tiny",
            Self::Moderate => "moderate",
            Self::Large => "large",
        })
    }
}

/// What of a feature moved. Each is watched on its own, so that a feature that goes missing is not
/// taken for one whose values moved.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Aspect {
    /// How often there is no value.
    Missing,
    /// Numbers beyond the reference's range, or not finite.
    Range,
    /// Categories the reference never had.
    Unseen,
    /// How the values are distributed.
    Values,
}

impl fmt::Display for Aspect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Missing => "missing rate moved",
            Self::Range => "out of range",
            Self::Unseen => "unseen category",
            Self::Values => "values moved",
        })
    }
}
