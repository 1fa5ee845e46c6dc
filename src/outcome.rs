//! How a call ended.

use serde::{Deserialize, Serialize};

/// How a call ended. Complete: every call that was started ends in exactly one of these.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The model answered.
    Ok,
    /// The model returned an error.
    Error,
    /// The model did not answer in time.
    Timeout,
    /// The caller went away before there was an answer. Blames nobody.
    Cancelled,
    /// The model panicked.
    Panicked,
}

impl Status {
    /// Every status, in the order of its number.
    pub const ALL: [Self; 5] =
        [Self::Ok, Self::Error, Self::Timeout, Self::Cancelled, Self::Panicked];

    /// Its number, from 0, as records store it.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// Yes/no events of the user's own that are counted per arm: a refusal, a schema violation.
///
/// Five marks, numbered `0..5`; what each means is named where guardrails are declared.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Marks(u8);

impl Marks {
    /// How many marks there are.
    pub const COUNT: usize = 5;
    /// None.
    pub const NONE: Self = Self(0);

    /// With mark `number` set. A number of 5 or more has no mark and changes nothing.
    #[must_use]
    pub const fn with(self, number: u8) -> Self {
        if (number as usize) < Self::COUNT { Self(self.0 | (1 << number)) } else { self }
    }

    /// Whether mark `number` is set.
    #[must_use]
    pub const fn has(self, number: u8) -> bool {
        (number as usize) < Self::COUNT && self.0 & (1 << number) != 0
    }

    /// The marks as bits, lowest first.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Marks from bits; bits above the fifth are dropped.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits & 0b1_1111)
    }
}

/// What is known of one call: how it ended, and how good the answer was where that is known.
///
/// ```
/// use pilotage::outcome::{Outcome, Status};
///
/// let answered = Outcome::ok().with_score(0.93);
/// assert_eq!(answered.status, Status::Ok);
/// let judged = Outcome::correct(false);
/// assert_eq!(judged.correct, Some(false));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Outcome {
    /// How the call ended. Ignored when a late truth is posted: the call was counted then.
    pub status: Status,
    /// Whether the answer was right, where the truth is known.
    pub correct: Option<bool>,
    /// A bounded or unbounded figure of merit of the answer. A score that is not finite is counted
    /// as rejected and never enters a mean.
    pub score: Option<f32>,
    /// The user's own yes/no events.
    pub marks: Marks,
}

impl Outcome {
    const fn of(status: Status) -> Self {
        Self { status, correct: None, score: None, marks: Marks::NONE }
    }

    /// The model answered.
    #[must_use]
    pub const fn ok() -> Self {
        Self::of(Status::Ok)
    }

    /// The model returned an error.
    #[must_use]
    pub const fn error() -> Self {
        Self::of(Status::Error)
    }

    /// The model did not answer in time.
    #[must_use]
    pub const fn timeout() -> Self {
        Self::of(Status::Timeout)
    }

    /// The caller went away.
    #[must_use]
    pub const fn cancelled() -> Self {
        Self::of(Status::Cancelled)
    }

    /// The model panicked.
    #[must_use]
    pub const fn panicked() -> Self {
        Self::of(Status::Panicked)
    }

    /// The model answered, and the truth says whether it was right.
    #[must_use]
    pub const fn correct(correct: bool) -> Self {
        let mut outcome = Self::ok();
        outcome.correct = Some(correct);
        outcome
    }

    /// With a score.
    #[must_use]
    pub const fn with_score(mut self, score: f32) -> Self {
        self.score = Some(score);
        self
    }

    /// With mark `number` set; see [`Marks::with`].
    #[must_use]
    pub const fn with_mark(mut self, number: u8) -> Self {
        self.marks = self.marks.with(number);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_that_does_not_exist_changes_nothing() {
        let marks = Marks::NONE.with(0).with(4).with(5).with(255);
        assert_eq!(marks.bits(), 0b1_0001);
        assert!(!marks.has(5) && marks.has(4));
        assert_eq!(Marks::from_bits(0xff).bits(), 0b1_1111);
    }
}
