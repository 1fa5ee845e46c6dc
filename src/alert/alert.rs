//! One thing people must know.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::clock::Moment;
use crate::ids::Name;

/// How soon somebody must look.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Good to know; nobody has to do anything.
    Info,
    /// The rollout waits for a person.
    Warning,
    /// Users were or are being harmed, or a model was taken back.
    Critical,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        })
    }
}

/// One thing people must know, with a key that says which incident it belongs to.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Alert {
    /// Which incident of the rollout: alerts with the same key are news of the same incident.
    pub key: String,
    /// How soon somebody must look.
    pub severity: Severity,
    /// Which rollout it is about.
    pub rollout: Name,
    /// When, on the clock that drives the rollout.
    pub at: Moment,
    /// One sentence: what happened, and what was done about it.
    pub summary: String,
    /// Whether this says that the incident with this key is over.
    pub resolved: bool,
    /// Whether this is news of a thing that happened (a rollback, a promotion) rather than of a
    /// condition that lasts (a pause, a full disk). What happened is delivered and not repeated.
    #[serde(default)]
    pub once: bool,
}

impl Alert {
    /// News of an incident.
    #[must_use]
    pub fn new(
        key: impl Into<String>,
        severity: Severity,
        rollout: Name,
        at: Moment,
        summary: impl Into<String>,
    ) -> Self {
        let (key, summary) = (key.into(), summary.into());
        Self { key, severity, rollout, at, summary, resolved: false, once: false }
    }

    /// The same, as the news that the incident is over.
    #[must_use]
    pub const fn resolve(mut self) -> Self {
        self.resolved = true;
        self
    }

    /// The same, as news of a thing that happened rather than of a condition that lasts: it is
    /// delivered, but not repeated.
    #[must_use]
    pub const fn once(mut self) -> Self {
        self.once = true;
        self
    }
}

impl fmt::Display for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let over = if self.resolved { " (resolved)" } else { "" };
        write!(f, "[{}{over}] {}: {}", self.severity, self.rollout, self.summary)
    }
}
