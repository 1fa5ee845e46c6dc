//! What a pilot keeps between two ticks.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Moment;
use crate::machine::{Drilled, Effect, Seen, Shadowing};
use crate::observe::shadow::ShadowCounts;
use crate::observe::snapshot::Snapshot;
use crate::rollout::history::{HISTORY, Line};
use crate::rollout::pipeline::Rollout;
use crate::route::switch::Split;
use crate::share::TrafficShare;

/// Where a rollout stands, and what was told of it: held for moments only.
pub(super) struct Desk {
    pub(super) rollout: Rollout,
    pub(super) last: Snapshot,
    pub(super) last_at: Moment,
    pub(super) last_shadow: ShadowCounts,
    /// A share that was ordered and could not be brought into force yet.
    pub(super) owed: Option<Owed>,
    pub(super) history: VecDeque<Line>,
    /// Whether the candidate was made the baseline, in the switch and not only in the books.
    pub(super) promoted: bool,
    pub(super) last_drill: Option<Drilled>,
    /// Since when a drill is due.
    pub(super) drill_since: Moment,
    pub(super) drill_told: bool,
    pub(super) journal_told: bool,
    /// Whether people know of a step back that is written nowhere.
    pub(super) unkept_told: bool,
    pub(super) ticks: u64,
    /// When the rollout was last told the date, where its plan has dates.
    pub(super) told_date: Option<Moment>,
}

/// What was ordered and is not in force yet.
#[derive(Clone, Copy)]
pub(super) enum Owed {
    Share(TrafficShare),
    Promotion,
}

impl Desk {
    /// What came since the last tick. Counts of another split than the one in force are left out:
    /// they belong to nobody's stage.
    pub(super) fn seen(
        &self,
        now: Moment,
        split: Split,
        snapshot: &Snapshot,
        shadow: Option<&ShadowCounts>,
    ) -> Seen {
        let mut live = snapshot.since(&self.last);
        live.lasted = now.since(self.last_at);
        live.to = now;
        if snapshot.epoch != split.epoch {
            live.arms.clear();
        }
        let mut seen = Seen::live(split.candidate, live);
        if let Some(shadow) = shadow {
            seen = seen.with_shadow(shadow.since(&self.last_shadow));
        }
        seen
    }

    pub(super) fn note(&mut self, line: Line) {
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(line);
    }

    pub(super) fn is_drill_overdue(&self, now: Moment, due: Duration) -> bool {
        let since = match &self.last_drill {
            Some(drill) if drill.passed => drill.at,
            Some(_) => return true,
            None => self.drill_since,
        };
        now.since(since) > due
    }
}

impl Owed {
    pub(super) fn order(self, split: Split) -> Split {
        match self {
            Self::Share(share) if share == split.candidate => split,
            Self::Share(share) => split.shifted(share),
            Self::Promotion => split.promoted(),
        }
    }
}

/// Whether carrying these out leaves the candidate with nothing.
pub(super) fn takes_back(effects: &[Effect]) -> bool {
    let promotes = effects.iter().any(|effect| matches!(effect, Effect::Promote));
    !promotes && last_share(effects) == Some(TrafficShare::NONE)
}

/// Whether carrying these out shows the candidate more than `split` does.
pub(super) fn raises(effects: &[Effect], split: Split) -> bool {
    let exposes =
        |effect: &Effect| matches!(effect, Effect::Promote | Effect::Shadow(Shadowing::On));
    effects.iter().any(exposes) || last_share(effects).is_some_and(|share| share > split.candidate)
}

fn last_share(effects: &[Effect]) -> Option<TrafficShare> {
    effects.iter().rev().find_map(|effect| match effect {
        Effect::Shift(share) => Some(*share),
        _ => None,
    })
}

pub(super) fn orders_traffic(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::Shift(_) | Effect::Promote))
}
