//! What a drift monitor is asked to find, and how sure it must be.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::drift::accuracy::{Accuracy, AccuracyRule};
use crate::drift::error::{DriftError, within};
use crate::ids::{Arm, Name};

const DAY: Duration = Duration::from_secs(86_400);

/// Settings of a [`DriftMonitor`](crate::drift::monitor::DriftMonitor). The defaults are the usual ones; change
/// the fields that matter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MonitorSettings {
    /// How long a window lasts, after which it is judged. A week: its days differ, weeks differ less.
    pub window: Duration,
    /// The chance, at the most, that a window in which nothing moved is called moved, over all
    /// features together. From 1e-9 to 0.5.
    pub alpha: f64,
    /// Requests between false alarms of the watch that needs no window, on average, at least, over all
    /// features together. From 1 to 1e12.
    pub requests_between: f64,
    /// The PSI from which a move of values is large.
    pub psi_limit: f64,
    /// The change of the missing rate from which it is large, from 0 to 1.
    pub missing_limit: f64,
    /// The part of values out of range or never seen, beyond what was usual, from which it is large,
    /// from 0 to 1.
    pub outside_limit: f64,
    /// The relative loss of accuracy that is a decay: 0.05 is a twentieth of what it was.
    pub decay: f64,
    /// Which alarm watches the accuracy between windows.
    pub accuracy: AccuracyRule,
    /// Rows the reference must have; below that the verdict is "not enough". At least 100.
    pub min_reference: u64,
    /// Rows a window must have before it is called stable. At least 30.
    pub min_window: u64,
    /// Labels a window must have before its accuracy is judged. At least 30.
    pub min_labels: u64,
    /// How old a model's last training may be before the next is due.
    pub retrain_every: Duration,
    /// How long after a call for retraining none other is made.
    pub retrain_cooldown: Duration,
    /// The arm the monitored model serves on.
    pub arm: Arm,
}

impl Default for MonitorSettings {
    fn default() -> Self {
        Self {
            window: 7 * DAY,
            alpha: 0.01,
            requests_between: 1e6,
            psi_limit: 0.2,
            missing_limit: 0.05,
            outside_limit: 0.02,
            decay: 0.05,
            accuracy: AccuracyRule::default(),
            min_reference: 200,
            min_window: 100,
            min_labels: 100,
            retrain_every: 30 * DAY,
            retrain_cooldown: 7 * DAY,
            arm: Arm::BASELINE,
        }
    }
}

impl MonitorSettings {
    pub(crate) fn check(&self) -> Result<(), DriftError> {
        within(
            "window in seconds",
            self.window.as_secs_f64(),
            (1e-3, 1e12),
            "a millisecond at least",
        )?;
        within("alpha", self.alpha, (1e-9, 0.5), "from 1e-9 to 0.5")?;
        let between = self.requests_between;
        within("requests between false alarms", between, (1.0, 1e12), "from 1 to 1e12")?;
        within("psi limit", self.psi_limit, (1e-3, 100.0), "from 0.001 to 100")?;
        within("missing limit", self.missing_limit, (1e-6, 1.0), "from 1e-6 to 1")?;
        within("outside limit", self.outside_limit, (1e-6, 1.0), "from 1e-6 to 1")?;
        within("decay", self.decay, (1e-6, 1.0), "from 1e-6 to 1")?;
        let least = |name, count: u64, least: f64, expected| {
            within(name, count as f64, (least, 1e18), expected)
        };
        least("rows of the reference", self.min_reference, 100.0, "at least 100")?;
        least("rows of a window", self.min_window, 30.0, "at least 30")?;
        least("labels of a window", self.min_labels, 30.0, "at least 30")?;
        Ok(())
    }
}

/// A model as it was put into service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Deployment {
    /// Its name.
    pub model: Name,
    /// How often it was right when it was deployed, if that is known. Without it no decay is seen.
    pub accuracy: Option<Accuracy>,
    /// Of the requests then, the part whose truth came in time: `(labelled, served)`.
    pub labels: Option<(u64, u64)>,
    /// How old the data was that it was last trained on, at deployment.
    pub trained_before: Duration,
    /// A model that is still warm and could take over at once.
    pub warm: Option<Name>,
}

impl Deployment {
    /// A model of which nothing is known but its name, trained just now.
    #[must_use]
    pub const fn new(model: Name) -> Self {
        let trained_before = Duration::ZERO;
        Self { model, accuracy: None, labels: None, trained_before, warm: None }
    }

    /// With its accuracy at deployment.
    #[must_use]
    pub const fn accuracy(mut self, accuracy: Accuracy) -> Self {
        self.accuracy = Some(accuracy);
        self
    }

    /// With the part of requests whose truth came in time.
    #[must_use]
    pub const fn labels(mut self, labelled: u64, served: u64) -> Self {
        self.labels = Some((labelled, served));
        self
    }

    /// With a model that is still warm.
    #[must_use]
    pub fn warm(mut self, model: Name) -> Self {
        self.warm = Some(model);
        self
    }
}
