//! Where a rollout stands, as its pilot keeps it: held for moments only, never while code of the
//! host's runs.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Moment;
use crate::date::Date;
use crate::machine::{Drilled, Effect, Seen, Shadowing};
use crate::observe::shadow::ShadowCounts;
use crate::observe::snapshot::Snapshot;
use crate::rollout::history::{HISTORY, Line};
use crate::rollout::pipeline::Rollout;
use crate::route::switch::Split;
use crate::share::TrafficShare;

/// Where a rollout stands, and what was told of it.
pub(super) struct PilotState {
    pub(super) rollout: Rollout,
    /// Counts every change of `rollout`: who decided on a copy sees whether it is still the one.
    pub(super) version: u64,
    pub(super) last: Snapshot,
    pub(super) last_at: Moment,
    pub(super) last_shadow: ShadowCounts,
    /// A step that was decided and is not in force yet.
    pub(super) change: Option<Change>,
    /// How many steps were proposed, and which of them came into force last.
    pub(super) proposals: u64,
    pub(super) in_force: u64,
    pub(super) history: VecDeque<Line>,
    /// Whether the candidate was made the baseline, in the switch and not only in the books.
    pub(super) promoted: bool,
    /// Why everything went back although the rollout is not over: nobody looked after it. Whoever
    /// looks next hears of it.
    pub(super) parked: Option<String>,
    /// Whether another process has taken the journal over: nothing is raised here any more.
    pub(super) fenced: bool,
    /// Whether another rollout has begun since this one was over: nothing leads out of its end, and
    /// its journal is closed.
    pub(super) superseded: bool,
    /// The revision that whoever gives orders could know of.
    pub(super) known_revision: u64,
    pub(super) last_drill: Option<Drilled>,
    /// Since when a drill is due.
    pub(super) drill_since: Moment,
    pub(super) drill_told: bool,
    pub(super) journal_told: bool,
    /// Whether people know of a step back that is written nowhere.
    pub(super) unkept_told: bool,
    pub(super) switch_told: bool,
    pub(super) back_told: bool,
    pub(super) ticks: u64,
    /// When the rollout was last told the date, where its plan has dates.
    pub(super) told_date: Option<Moment>,
    /// What the wall clock read last.
    pub(super) known_date: Option<(Moment, Date)>,
}

/// A step that was decided and is not in force yet.
pub(super) struct Change {
    pub(super) to: Wanted,
    /// What becomes of the books when it is in force. `None` where the books say it already: at the
    /// beginning, and after a restart.
    pub(super) proposal: Option<Box<Proposal>>,
    /// The journal's job that must be written first.
    pub(super) journal: Option<u64>,
    /// The order at the switch outside, by number.
    pub(super) asked: Option<u64>,
    /// Whether the switch outside obeyed.
    pub(super) obeyed: bool,
}

/// A decision that gives the candidate more, for as long as it is not in force: until then the
/// rollout is where it was, and its guardrails with it.
pub(super) struct Proposal {
    pub(super) number: u64,
    pub(super) rollout: Rollout,
    pub(super) effects: Vec<Effect>,
    pub(super) lines: Vec<Line>,
    /// Made of this version.
    pub(super) version: u64,
    /// By an order of a person's, which is not what a look would have brought about.
    pub(super) ordered: bool,
}

/// What is to be in force.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Wanted {
    Share(TrafficShare),
    Promotion,
}

impl PilotState {
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

impl Wanted {
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
    let restores = effects.iter().any(|effect| matches!(effect, Effect::Restore));
    restores || !promotes && last_share(effects) == Some(TrafficShare::NONE)
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

/// What is to be in force after these, where they say so.
pub(super) fn wanted(effects: &[Effect]) -> Option<Wanted> {
    if effects.iter().any(|effect| matches!(effect, Effect::Promote)) {
        return Some(Wanted::Promotion);
    }
    last_share(effects).map(Wanted::Share)
}
