//! One incident: what people know of it, and what they must be told.

use std::time::Duration;

use crate::alert::alert::{Alert, Severity};
use crate::clock::Moment;
use crate::ids::Name;

/// What the queue knows of one key of one rollout.
#[derive(Clone, Debug)]
pub(crate) struct Incident {
    pub(crate) key: String,
    pub(crate) rollout: Name,
    pub(crate) known: Known,
    pub(crate) waiting: Option<Waiting>,
    /// The end of something that happened and is still untold: it follows once that was told.
    pub(crate) end: Option<Alert>,
    /// Whether a call that failed may have told people all the same.
    pub(crate) in_doubt: bool,
}

/// What people know of an incident.
#[derive(Clone, Debug)]
pub(crate) enum Known {
    /// Nothing that this queue knows of; a process before this one may have told them.
    Unsure,
    /// Nothing, since what there was to tell was suppressed or given up.
    Nothing,
    /// The alert that was delivered last.
    Told(Told),
}

/// An alert that was delivered.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    /// The number of the news it was.
    pub(crate) number: u64,
    /// How severe it was when it was told.
    pub(crate) severity: Severity,
    /// When it was told.
    pub(crate) at: Moment,
    /// Its latest wording, for the next repeat.
    pub(crate) alert: Alert,
}

/// An alert that waits to be told.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    pub(crate) alert: Alert,
    /// Counts news: the newest has the highest.
    pub(crate) number: u64,
    pub(crate) kind: Kind,
    /// When it began to wait.
    pub(crate) queued: Moment,
    /// When it is to be offered next.
    pub(crate) due: Moment,
    pub(crate) attempts: u32,
    pub(crate) failed: Option<Moment>,
    pub(crate) error: Option<String>,
}

/// Whether people have heard it before.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Kind {
    /// They have: it is said again.
    Repeat,
    /// They have not.
    News,
}

/// How much an alert matters: what is offered first, and dropped last.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Rank {
    Info,
    Warning,
    Resolve,
    ResolveOfCritical,
    Critical,
}

impl Rank {
    pub(crate) const fn of(alert: &Alert) -> Self {
        match (alert.severity, alert.resolved) {
            (Severity::Critical, false) => Self::Critical,
            (Severity::Critical, true) => Self::ResolveOfCritical,
            (Severity::Info | Severity::Warning, true) => Self::Resolve,
            (Severity::Warning, false) => Self::Warning,
            (Severity::Info, false) => Self::Info,
        }
    }

    /// Whether newer ones are offered before older ones. Lesser news is told in its order.
    pub(crate) fn is_newest_first(self) -> bool {
        self >= Self::ResolveOfCritical
    }
}

impl Incident {
    /// The incident `alert` is news of, with nothing known of it yet.
    pub(crate) fn of(alert: &Alert) -> Self {
        let (key, rollout) = (alert.key.clone(), alert.rollout.clone());
        let (known, waiting, end, in_doubt) = (Known::Unsure, None, None, false);
        Self { key, rollout, known, waiting, end, in_doubt }
    }

    pub(crate) fn is_about(&self, alert: &Alert) -> bool {
        self.key == alert.key && self.rollout == alert.rollout
    }

    /// What people were told, while as far as they know it goes on.
    pub(crate) fn firing(&self) -> Option<&Told> {
        match &self.known {
            Known::Told(told) if !told.alert.resolved => Some(told),
            Known::Told(_) | Known::Unsure | Known::Nothing => None,
        }
    }

    /// When it must be said again.
    pub(crate) fn repeat_due(&self, every: Duration) -> Option<Moment> {
        let told = self.firing()?;
        let lasts = !told.alert.once && told.alert.severity > Severity::Info;
        (lasts && self.waiting.is_none() && !every.is_zero()).then(|| told.at.after(every))
    }
}

impl Told {
    /// Whether `alert` says no more than people were told, at `now`.
    pub(crate) fn covers(&self, alert: &Alert, now: Moment, repeat_after: Duration) -> bool {
        if self.alert.resolved != alert.resolved || now.since(self.at) >= repeat_after {
            return false;
        }
        if alert.once || self.alert.once {
            return is_same_event(&self.alert, alert);
        }
        alert.resolved || alert.severity <= self.severity
    }
}

impl Waiting {
    pub(crate) const fn new(alert: Alert, number: u64, kind: Kind, now: Moment) -> Self {
        let (queued, due) = (now, now);
        Self { alert, number, kind, queued, due, attempts: 0, failed: None, error: None }
    }
}

/// Whether two alerts of one key tell of the same thing. What lasts is one thing whatever is said of
/// it. What happened is told by its words; and if it is critical by its moment too, since a second
/// rollback for the same reason is news.
pub(crate) fn is_same_event(one: &Alert, other: &Alert) -> bool {
    if !one.once && !other.once {
        return true;
    }
    let critical = one.severity == Severity::Critical || other.severity == Severity::Critical;
    one.once == other.once
        && one.severity == other.severity
        && one.summary == other.summary
        && (!critical || one.at == other.at)
}
