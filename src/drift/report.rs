//! How a deployed model is, on one page.
//!
//! A [`HealthReport`] is plain data: it is serialised as it is, shown as text by its `Display`, and
//! drawn by [`HealthReport::to_svg`]. It says what was measured, how certain that is and how much it
//! matters, and what to do.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::drift::compare::Comparison;
use crate::drift::value::Role;
use crate::drift::verdict::{Aspect, Size, Verdict};
use crate::ids::Name;

/// What somebody should do.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Recommendation {
    /// Nothing.
    #[default]
    None,
    /// Look: something moved and nobody knows yet whether it hurts, or the data to say are lacking.
    Investigate,
    /// Train a new model. It enters a plan of its own; nothing here ever promotes it.
    Retrain,
    /// Give traffic back to the model that is still warm: answers became worse while inputs stayed
    /// as they were, so new data would not help.
    RollBack,
}

impl fmt::Display for Recommendation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::None => "nothing to do",
            Self::Investigate => "investigate",
            Self::Retrain => "retrain",
            Self::RollBack => "roll back",
        })
    }
}

/// A rate with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Rate {
    /// The estimate, from 0 to 1.
    pub rate: f64,
    /// The interval's lower end.
    pub low: f64,
    /// The interval's upper end.
    pub high: f64,
    /// How many labels it rests on.
    pub labels: u64,
}

/// How often the model is right, then and now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Performance {
    /// The verdict: drifted means decayed.
    pub verdict: Verdict,
    /// At deployment.
    pub then: Option<Rate>,
    /// In this window.
    pub now: Option<Rate>,
    /// The part of the accuracy that was lost; negative where it rose.
    pub loss: Option<f64>,
    /// One-sided p-value of "no worse than at deployment".
    pub p: Option<f64>,
    /// After how many labels since deployment, or since the last acknowledgement, the alarm was raised.
    pub alarmed_after: Option<u64>,
}

/// What became of the labels of the requests that were due in a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LabelHealth {
    /// Requests that were due.
    pub served: u64,
    /// Those whose truth had come.
    pub labelled: u64,
    /// P-value of "as often as at deployment"; `None` when that is not known.
    pub over_time_p: Option<f64>,
    /// P-value of "as often on each arm"; `None` when only one arm served.
    pub by_arm_p: Option<f64>,
    /// Whether either is too small to be chance.
    pub suspicious: bool,
}

/// One feature in one window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FeatureHealth {
    /// Its name.
    pub name: Name,
    /// What it is to the model.
    pub role: Role,
    /// The verdict.
    pub verdict: Verdict,
    /// What moved, where something did.
    pub aspect: Option<Aspect>,
    /// How far it moved.
    pub size: Size,
    /// Whether the move is certain, at the level asked for and over all features.
    pub certain: bool,
    /// After how many rows the watch between windows raised its alarm.
    pub alarmed_after: Option<u64>,
    /// The figures.
    pub comparison: Comparison,
    /// One sentence.
    pub note: String,
    /// Cells with their parts of the rows, then and now; kept for features that moved.
    pub shape: Vec<(String, f64, f64)>,
}

/// One window that is over.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WindowSummary {
    /// The model's age at its end, in seconds.
    pub age_seconds: u64,
    /// Rows measured.
    pub rows: u64,
    /// How often the model was right.
    pub accuracy: Option<Rate>,
    /// Features that drifted.
    pub drifted: usize,
    /// The verdict on the data.
    pub data: Verdict,
    /// The verdict on the accuracy.
    pub performance: Verdict,
}

/// How a deployed model is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HealthReport {
    /// Which model.
    pub model: Name,
    /// How long it has served, in seconds.
    pub age_seconds: u64,
    /// How long this window has lasted, in seconds.
    pub window_seconds: u64,
    /// Rows measured in this window.
    pub rows: u64,
    /// Rows of the reference.
    pub reference_rows: u64,
    /// The fingerprint of the reference.
    pub reference: String,
    /// The verdict on the data.
    pub data: Verdict,
    /// The model's answers against the truth.
    pub performance: Performance,
    /// The features, what moved most first.
    pub features: Vec<FeatureHealth>,
    /// Features that came and that the reference does not know.
    pub appeared: Vec<String>,
    /// The labels.
    pub labels: LabelHealth,
    /// How long ago the model was last trained, in seconds.
    pub trained_seconds: u64,
    /// When the next training is due, in seconds from now; negative when it is overdue.
    pub training_due_seconds: i64,
    /// What to do.
    pub recommendation: Recommendation,
    /// Why.
    pub why: String,
    /// A model that is still warm.
    pub warm: Option<Name>,
    /// Requests between false alarms of the watch between windows, on average, at least.
    pub requests_between: f64,
    /// The chance of a false call in a window.
    pub alpha: f64,
    /// The windows before this one, oldest first.
    pub history: Vec<WindowSummary>,
}

impl HealthReport {
    /// Features that are drifted or to be watched, what moved most first.
    pub fn moved(&self) -> impl Iterator<Item = &FeatureHealth> {
        self.features.iter().filter(|of| matches!(of.verdict, Verdict::Drifted | Verdict::Watch))
    }

    /// The features with this role that moved.
    pub fn moved_of(&self, role: Role) -> impl Iterator<Item = &FeatureHealth> {
        self.moved().filter(move |feature| feature.role == role)
    }
}

/// A stretch of time as people say it.
pub(crate) fn span(seconds: u64) -> String {
    let of = Duration::from_secs(seconds).as_secs();
    match of {
        0..120 => format!("{of} s"),
        120..7_200 => format!("{} min", of / 60),
        7_200..172_800 => format!("{} h", of / 3_600),
        _ => format!("{} days", of / 86_400),
    }
}

pub(crate) fn percent(rate: f64) -> String {
    format!("{:.1} %", rate * 100.0)
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (low, high) = (self.low * 100.0, self.high * 100.0);
        write!(f, "{} [{low:.1} to {high:.1}], {} labels", percent(self.rate), self.labels)
    }
}

impl fmt::Display for HealthReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {} ({})", self.model, self.recommendation, self.why)?;
        writeln!(
            f,
            "  in service {}, trained {} ago, next training {}",
            span(self.age_seconds),
            span(self.trained_seconds),
            due(self.training_due_seconds)
        )?;
        let or_unknown =
            |rate: Option<Rate>| rate.map_or_else(|| "unknown".to_owned(), |rate| rate.to_string());
        let performance = &self.performance;
        write!(f, "  accuracy then {}", or_unknown(performance.then))?;
        write!(f, "; now {}", or_unknown(performance.now))?;
        writeln!(
            f,
            ": {}",
            if performance.verdict == Verdict::Drifted {
                "decayed".to_owned()
            } else {
                performance.verdict.to_string()
            }
        )?;
        writeln!(
            f,
            "  data: {} over {} rows against a reference of {}",
            self.data, self.rows, self.reference_rows
        )?;
        for feature in &self.features {
            writeln!(
                f,
                "    {:<24} {:<10} {}",
                feature.name.as_str(),
                feature.verdict,
                feature.note
            )?;
        }
        for name in &self.appeared {
            writeln!(f, "    {name:<24} appeared; the reference does not know it")?;
        }
        if self.labels.served > 0 {
            let LabelHealth { served, labelled, suspicious, .. } = self.labels;
            let doubt =
                if suspicious { "; not missing at random, so accuracy is in doubt" } else { "" };
            writeln!(f, "  labels: {labelled} of {served} requests that were due{doubt}")?;
        }
        Ok(())
    }
}

pub(crate) fn due(seconds: i64) -> String {
    if seconds >= 0 {
        format!("due in {}", span(seconds.unsigned_abs()))
    } else {
        format!("overdue since {}", span(seconds.unsigned_abs()))
    }
}
