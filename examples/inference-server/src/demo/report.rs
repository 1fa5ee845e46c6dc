//! What a story came to.

use pilotage::control::status::{ArmStatus, ShadowStatus};
use pilotage::judge::paired::PairedReading;
use pilotage::judge::verdict::Reading;
use pilotage::observe::shadow::PairedTruth;
use serde::Serialize;

use crate::demo::crowd::Seen;
use crate::demo::story::Frame;

/// How a rollout ended.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The candidate became the baseline.
    Promoted,
    /// It had served users, and everything went back.
    RolledBack,
    /// It was turned away before it served anybody.
    #[default]
    Refused,
    /// No verdict in the time and with the samples there were.
    Held,
}

impl Outcome {
    /// The word for people.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Promoted => "promoted",
            Self::RolledBack => "rolled back",
            Self::Refused => "refused",
            Self::Held => "held",
        }
    }
}

/// Everything about one story.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Its number among the stories.
    pub story: String,
    /// The model that served.
    pub baseline: String,
    /// The model that wanted to.
    pub candidate: String,
    /// What went wrong on purpose.
    pub fault: String,
    /// What drew the order and the users.
    pub seed: u64,
    /// How many distinct samples there were.
    pub samples: usize,
    /// How it ended.
    pub outcome: Outcome,
    /// In which stage.
    pub stage: String,
    /// Why, in one sentence.
    pub reason: String,
    /// What users saw.
    pub users: Seen,
    /// Requests given to the candidate.
    pub served_by_candidate: u64,
    /// Of those, how many failed.
    pub candidate_failed: u64,
    /// Requests of users that the rehearsed fault made fail or wait.
    pub harmed: u64,
    /// Requests sent after the story, and how many were answered as the winner answers.
    pub after: (u64, u64),
    /// Evidence on quality from the shadow.
    pub quality: Option<PairedReading>,
    /// Which of the two was right, sample by sample.
    pub truth: Option<PairedTruth>,
    /// Each guardrail's evidence at the end.
    pub evidence: Vec<Reading>,
    /// Each arm's calls.
    pub arms: Vec<ArmStatus>,
    /// What the shadow saw.
    pub shadow: Option<ShadowStatus>,
    /// How long things took.
    pub times: Times,
    /// Seconds, stage reached, reason.
    pub history: Vec<(f64, String, String)>,
    /// Seconds, alert.
    pub alerts: Vec<(f64, String)>,
    /// How things stood, moment by moment: for the picture, and left out of the JSON.
    #[serde(skip)]
    pub frames: Vec<Frame>,
}

/// How long things took, in seconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Times {
    /// The whole story.
    pub story_s: f64,
    /// When the fault was switched on, since the story began.
    pub fault_at_s: Option<f64>,
    /// From the fault to the end of the rollout.
    pub fault_to_rollback_s: Option<f64>,
}

impl Report {
    /// Whether there was a verdict.
    #[must_use]
    pub fn is_verdict(&self) -> bool {
        self.outcome != Outcome::Held
    }

    /// The number that decided, in a few words.
    fn evidence(&self) -> String {
        let loudest = self
            .evidence
            .iter()
            .filter(|reading| reading.ln_e >= reading.threshold)
            .max_by(|a, b| a.ln_e.total_cmp(&b.ln_e));
        match (self.outcome, &self.quality, loudest) {
            (Outcome::RolledBack, _, Some(reading)) => {
                format!("{} ln E {:.1}", reading.guardrail, reading.ln_e)
            }
            (Outcome::Refused | Outcome::Promoted | Outcome::Held, Some(quality), _) => {
                let truth = self.truth.unwrap_or_default();
                let (word, ln_e) = match self.outcome {
                    Outcome::Promoted => ("as good", quality.ln_good),
                    _ => ("worse", quality.ln_bad),
                };
                format!(
                    "{} fixed, {} broken; {word} ln E {ln_e:.1}",
                    truth.only_candidate, truth.only_baseline
                )
            }
            _ => "-".to_owned(),
        }
    }
}

/// The stories side by side.
#[must_use]
pub fn table(reports: &[Report]) -> String {
    let heads = [
        "story",
        "verdict",
        "stage",
        "evidence",
        "by candidate",
        "harmed",
        "fault to rollback",
        "took",
    ];
    let mut rows = vec![heads.map(str::to_owned)];
    for report in reports {
        let fault =
            if report.fault == "none" { String::new() } else { format!(", {}", report.fault) };
        rows.push([
            format!("{} → {}{fault}", report.baseline, report.candidate),
            report.outcome.word().to_owned(),
            report.stage.clone(),
            report.evidence(),
            report.served_by_candidate.to_string(),
            report.harmed.to_string(),
            report.times.fault_to_rollback_s.map_or("-".to_owned(), |s| format!("{s:.2} s")),
            format!("{:.1} s", report.times.story_s),
        ]);
    }
    let width = |column: usize| {
        rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default()
    };
    let widths: [usize; 8] = std::array::from_fn(width);
    let line = |row: &[String; 8]| {
        let cells: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    let mut lines: Vec<String> = rows.iter().map(line).collect();
    let rule = widths.map(|width| "-".repeat(width)).join("  ");
    lines.insert(1, rule);
    for report in reports {
        let (asked, agreed) = report.after;
        lines.push(format!(
            "story {}: {agreed} of {asked} later answers are {}'s own",
            report.story,
            if report.outcome == Outcome::Promoted { &report.candidate } else { &report.baseline }
        ));
    }
    lines.join("\n") + "\n"
}
