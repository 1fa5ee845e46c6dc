//! What became of the alerts.

use serde::Serialize;

use crate::alert::alert::{Alert, Severity};
use crate::clock::Moment;
use crate::ids::Name;

/// What became of the alerts so far.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct AlertCounts {
    /// Calls that told people, repeats among them.
    pub delivered: u64,
    /// Not told: the same news again, news that newer news of its key replaced, too many lesser
    /// ones in a minute, or the end of something people were not told of.
    pub suppressed: u64,
    /// Incidents that were over before people could be told of them.
    pub cancelled: u64,
    /// Given up as stale: the alerter failed all the time.
    pub undelivered: u64,
    /// Dropped for lack of room.
    pub lost: u64,
    /// Calls of the alerter that returned an error, panicked or took too long.
    pub failed_calls: u64,
    /// Alerts that wait to be told now.
    pub waiting: usize,
    /// For how many seconds the oldest of them has waited; `None` when none waits.
    pub oldest_waiting_seconds: Option<u64>,
    /// Calls of the alerter that are past their deadline and have not returned yet.
    pub hung: usize,
}

/// An alert that people could not be told of yet, or that was given up.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Untold {
    /// Which incident.
    pub key: String,
    /// How soon somebody must look.
    pub severity: Severity,
    /// Which rollout it is about.
    pub rollout: Name,
    /// What happened.
    pub summary: String,
    /// Whether it says that the incident is over.
    pub resolved: bool,
    /// When, on the clock that drives the rollout.
    pub since: Moment,
    /// How many calls of the alerter failed.
    pub attempts: u32,
    /// Why the last of them failed; `None` before the first.
    pub last_error: Option<String>,
    /// Why it is offered no longer; `None` while it still is.
    pub given_up: Option<GivenUp>,
}

/// Why an alert is offered no longer.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum GivenUp {
    /// The alerter failed until the alert was stale.
    Stale,
    /// There was no room: only alerts at least as severe were waiting.
    NoRoom,
}

impl Untold {
    pub(crate) fn new(alert: &Alert, attempts: u32, last_error: Option<String>) -> Self {
        Self {
            key: alert.key.clone(),
            severity: alert.severity,
            rollout: alert.rollout.clone(),
            summary: alert.summary.clone(),
            resolved: alert.resolved,
            since: alert.at,
            attempts,
            last_error,
            given_up: None,
        }
    }
}
