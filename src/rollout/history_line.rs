//! A step of a rollout with the numbers it was taken on.

use serde::{Deserialize, Serialize};

use crate::date::Date;
use crate::judge::verdict::Reading;
use crate::machine::{Effect, Transition};
use crate::rollout::pipeline::Rollout;
use crate::share::TrafficShare;

/// How many lines of a rollout are kept; the oldest go first.
pub const HISTORY: usize = 1024;

/// A step of a rollout, with the numbers it was taken on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Line {
    /// When, from where, to where, who and why.
    pub transition: Transition,
    /// The date, where a wall clock was known.
    pub date: Option<Date>,
    /// The candidate's share from then on.
    pub share: TrafficShare,
    /// Judged calls of the candidate (in a shadow, pairs) in the stage that was left.
    pub samples: u64,
    /// Each guardrail's numbers when it was decided.
    pub numbers: Vec<Reading>,
}

impl Line {
    /// A step that is not the machine's.
    #[must_use]
    pub const fn note(transition: Transition, date: Option<Date>, share: TrafficShare) -> Self {
        Self { transition, date, share, samples: 0, numbers: Vec::new() }
    }

    /// The steps among what a machine answered, with the numbers of the state it answered from.
    #[must_use]
    pub fn of(
        before: &Rollout,
        after: &Rollout,
        effects: &[Effect],
        date: Option<Date>,
    ) -> Vec<Self> {
        let mut lines = Vec::new();
        for effect in effects {
            let Effect::Record(transition) = effect else { continue };
            let numbers = match after.readings() {
                // An end keeps its numbers, which include the batch that brought it about.
                ended if after.stage().is_none() && !ended.is_empty() => ended,
                _ => before.readings(),
            };
            let samples = before.trial().map_or(0, |trial| trial.samples());
            let share = after.share();
            let transition = transition.clone();
            lines.push(Self { transition, date, share, samples, numbers });
        }
        lines
    }
}
