//! How things stand, for a person at three in the morning and for programs.
//!
//! As text it is a page of at most [`WIDTH`](crate::page_text::WIDTH) columns: the first line says what is rolling out, how
//! far it is, how healthy it looks and what it waits for; then what is wrong; then the reasons, one a
//! line. As JSON it is the same, and the whole [`Status`] of the crate beside it. Dates are UTC.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pilotage::clock::{Moment, SystemWallClock, WallClock};
use pilotage::control::status::{ArmStatus, Status};
use pilotage::date::Date;
use pilotage::ids::Arm;
use pilotage::judge::verdict::{Finding, Reading};
use pilotage::rollout::human::show_duration;
use pilotage::rollout::pipeline::{End, HoldKind};
use pilotage::rollout::plan::StageKind;
use pilotage::share::TrafficShare;
use pilotage::strategy::conclusion::Step;
use serde::Serialize;
use serde_json::{Value, json};

use crate::journals::Over;
use crate::present::Present;
use crate::rollouts::Told;
use crate::service::Service;

/// How things stand.
#[derive(Clone, Debug, Serialize)]
pub struct Page {
    /// All of it in one line.
    pub summary: String,
    /// When it was looked at.
    pub now: String,
    /// What is wrong and needs a person, one a line.
    pub trouble: Vec<String>,
    /// The server.
    pub server: ServerView,
    /// The present rollout, or the last one.
    pub rollout: Option<RolloutView>,
    /// Why there is none, or not the one that was asked for.
    pub no_rollout_because: Option<String>,
    /// Alerts, oldest first.
    pub alerts: Vec<AlertView>,
    /// Rollouts before this one, oldest first.
    pub earlier: Vec<Over>,
    /// Everything the crate knows of the rollout.
    pub status: Option<Status>,
}

/// The server.
#[derive(Clone, Debug, Serialize)]
pub struct ServerView {
    /// The model that serves.
    pub baseline: String,
    /// Whether it should be sent requests; if not, why.
    pub ready: bool,
    /// Why not.
    pub not_ready_because: Option<String>,
    /// Requests turned away since the queue was full.
    pub overloaded: u64,
}

/// A rollout.
#[derive(Clone, Debug, Serialize)]
pub struct RolloutView {
    /// The model that is to be proved.
    pub candidate: String,
    /// The baseline when it began.
    pub baseline: String,
    /// Who began it, and why.
    pub begun_by: String,
    /// The stage it is in, or ended in.
    pub stage: String,
    /// That stage's number, from 1.
    pub stage_number: usize,
    /// How many there are.
    pub stages: usize,
    /// To be sent with orders.
    pub revision: u64,
    /// To be sent with orders: `waiting`, a stage, or an end.
    pub place: String,
    /// How it ended.
    pub end: Option<End>,
    /// Whether an operator paused it.
    pub paused: bool,
    /// The candidate's share of users, in percent.
    pub share_percent: f64,
    /// How it looks, in a word.
    pub health: &'static str,
    /// What it waits for.
    pub waits_for: Option<String>,
    /// Why it stands where it stands, one reason a line.
    pub reasons: Vec<String>,
    /// Since when it is there.
    pub since: String,
    /// Until when one order takes the promotion back.
    pub way_back_until: Option<String>,
    /// The two models.
    pub arms: Vec<ArmView>,
    /// Since when they are counted.
    pub counted: &'static str,
    /// One line for each guardrail, and for the evidence of a shadow.
    pub evidence: Vec<String>,
    /// What happened, oldest first.
    pub steps: Vec<StepView>,
    /// Where it is written down.
    pub journal: String,
    /// The last rollback drill.
    pub drill: String,
    /// When the pilot looked last.
    pub last_look: String,
}

/// One model.
#[derive(Clone, Debug, Serialize)]
pub struct ArmView {
    /// `baseline`, `candidate`, or `in shadow` for the candidate on copies of requests.
    pub arm: &'static str,
    /// Its name.
    pub model: String,
    /// Calls begun.
    pub calls: u64,
    /// Calls under way.
    pub in_flight: u64,
    /// Errors and panics among judged calls, in percent.
    pub errors_percent: Option<f64>,
    /// Median latency.
    pub p50_ms: Option<f64>,
    /// 95th percentile.
    pub p95_ms: Option<f64>,
    /// Answers known to be right, in percent of those whose truth is known.
    pub right_percent: Option<f64>,
}

/// A step of the rollout.
#[derive(Clone, Debug, Serialize)]
pub struct StepView {
    /// When.
    pub date: String,
    /// Who decided.
    pub who: String,
    /// From where.
    pub from: String,
    /// To where.
    pub to: String,
    /// Why.
    pub why: String,
}

/// An alert.
#[derive(Clone, Debug, Serialize)]
pub struct AlertView {
    /// When people were told.
    pub date: String,
    /// How soon somebody must look.
    pub severity: String,
    /// What happened.
    pub summary: String,
    /// Whether it says that it is over.
    pub resolved: bool,
}

impl Page {
    /// How things stand with `service`.
    #[must_use]
    pub fn of(service: &Service) -> Self {
        let rollouts = service.rollouts();
        let now = SystemWallClock.date();
        let ready = service.readiness();
        let server = ServerView {
            baseline: service.baseline(),
            ready: ready.is_ok(),
            not_ready_because: ready.err(),
            overloaded: service.overloaded(),
        };
        let present = rollouts.present();
        let status = present.as_ref().map(|present| present.pilot.status());
        let dates = status.as_ref().map(|status| Dates::at(status.now));
        let mut trouble: Vec<String> =
            server.not_ready_because.iter().map(|why| format!("not ready: {why}")).collect();
        let notes = rollouts.notes();
        trouble.extend(notes.iter().cloned());
        let rollout =
            present.as_ref().zip(status.as_ref()).zip(dates).map(|((present, status), dates)| {
                trouble.extend(troubles(status, dates));
                RolloutView::of(service, present, status, dates)
            });
        let summary = match &rollout {
            Some(rollout) => rollout.summary(&server.baseline),
            None => format!("No rollout. {} serves everybody.", server.baseline),
        };
        Self {
            summary,
            now: now.to_string(),
            trouble,
            server,
            rollout,
            no_rollout_because: (!notes.is_empty()).then(|| notes.join("; ")),
            alerts: rollouts.alerts().iter().map(AlertView::of).collect(),
            earlier: rollouts.over(),
            status,
        }
    }

    /// The page as JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        // All of it can be written: texts, numbers and lists of them.
        serde_json::to_value(self).unwrap_or_else(|error| json!({ "error": error.to_string() }))
    }
}

/// The date of a moment of the rollout's clock.
#[derive(Clone, Copy)]
struct Dates {
    /// Since 1970; fractions of a second count, so that one moment is one date.
    now: Duration,
    moment: Moment,
}

impl Dates {
    fn at(moment: Moment) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { now, moment }
    }

    fn of(self, at: Moment) -> Date {
        let (ago, ahead) = (self.moment.since(at), at.since(self.moment));
        let seconds = (self.now + ahead).saturating_sub(ago).as_secs();
        Date::from_unix(i64::try_from(seconds).unwrap_or(i64::MAX))
    }
}

impl RolloutView {
    fn of(service: &Service, present: &Present, status: &Status, dates: Dates) -> Self {
        let stage = present.plan.stages().get(status.step.0.saturating_sub(1));
        let (arms, counted) = arms(service, present, status);
        let mut evidence: Vec<String> = status.guardrails.iter().map(shown).collect();
        let paired = [&status.quality, &status.agreement];
        evidence.extend(paired.into_iter().flatten().map(ToString::to_string));
        Self {
            candidate: status.candidate.to_string(),
            baseline: present.baseline.clone(),
            begun_by: present.begun_by.clone(),
            stage: status.stage.clone(),
            stage_number: status.step.0,
            stages: status.step.1,
            revision: status.at.revision,
            place: status.at.stage.clone(),
            end: status.end,
            paused: status.paused.is_some(),
            share_percent: percent_of(match status.end {
                Some(End::Promoted) => TrafficShare::ALL,
                _ => status.share,
            }),
            health: health(status),
            waits_for: waits_for(status, stage),
            reasons: reasons(status),
            since: dates.of(status.since).to_string(),
            way_back_until: status.way_back_until.map(|until| dates.of(until).to_string()),
            arms,
            counted,
            evidence,
            steps: steps(present, dates),
            journal: journal(service, status),
            drill: drill(status, dates),
            last_look: format!("{} ago, {} looks in all", about(status.last_look), status.ticks),
        }
    }

    fn summary(&self, serves: &str) -> String {
        let Self { candidate, stage, stage_number, stages, .. } = self;
        let share = share_text(self.share_percent);
        let named = if stage == &share { String::new() } else { format!(" ({stage})") };
        match self.end {
            None => {
                let waits = self.waits_for.as_deref().unwrap_or("nothing");
                let paused = if self.paused { "PAUSED in " } else { "" };
                let place = if stage == "waiting" {
                    format!("not begun yet, {stages} stages")
                } else {
                    format!("{paused}stage {stage_number} of {stages}{named}, {share} of users")
                };
                format!("{candidate}: {place}, {}; waits for {waits}", self.health)
            }
            Some(End::Promoted) => match &self.way_back_until {
                Some(until) => format!(
                    "{candidate}: PROMOTED; abort brings {} back until {until}",
                    self.baseline
                ),
                None => format!("{candidate}: PROMOTED, serves everybody"),
            },
            Some(end) => format!(
                "{candidate}: {} in stage {stage_number} of {stages} ({stage}); {serves} serves \
                 everybody",
                end.word().replace('_', " ").to_uppercase()
            ),
        }
    }
}

/// What is wrong with the rollout and needs a person.
fn troubles(status: &Status, dates: Dates) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(parked) = &status.parked {
        lines.push(format!("everybody is on the baseline for now: {parked}"));
    }
    if let Some(journal) = &status.journal {
        if let Some(unkept) = &journal.unkept {
            lines.push(format!("a step back is written nowhere ({unkept}): do not restart now"));
        }
        if let Some(gap) = &journal.gap {
            lines.push(format!(
                "the journal cannot be written ({gap}): nothing gives the candidate more, and a \
                 restart may forget what happened since; make it writable"
            ));
        }
    }
    if let Some(switch) = &status.switch {
        if let Some(trouble) = &switch.trouble {
            lines.push(format!("the switch outside does not obey: {trouble}"));
        }
        if switch.owes_back {
            lines.push("the switch outside has not been told that everybody is back".to_owned());
        }
    }
    if let Some(change) = &status.change {
        lines.push(format!("{} is decided and waits for {}", change.to, change.waits_for));
    }
    if status.end.is_none() && status.last_look > LOOK_LATE {
        let after = status.unattended_after.map_or_else(String::new, |after| {
            format!("; after {} everybody goes back", show_duration(after))
        });
        let age = about(status.last_look);
        lines.push(format!("nobody has looked after the rollout for {age}{after}"));
    }
    if status.end.is_none() && !status.owner {
        lines.push("it does not move the traffic any more: it was left".to_owned());
    }
    for untold in &status.untold {
        let why = untold.last_error.as_deref().unwrap_or("the alerter has not answered");
        lines.push(format!(
            "people could not be told since {} ({why}): {}",
            dates.of(untold.since),
            untold.summary
        ));
    }
    lines
}

/// How it looks, in a word.
fn health(status: &Status) -> &'static str {
    match status.end {
        Some(End::Promoted) => return "promoted",
        Some(End::RolledBack) => return "harmful",
        Some(End::Refused) => return "refused",
        Some(_) => return "stopped",
        None => {}
    }
    let step = status.conclusion.as_ref().map(|conclusion| conclusion.step);
    let suspect = status.guardrails.iter().any(|reading| reading.ln_e > reading.threshold / 2.0);
    let seen = status.samples.0 > 0
        || status.guardrails.iter().any(|reading| reading.finding != Finding::NoData);
    match step {
        Some(Step::TakeBack) => "harmful",
        Some(Step::Pause) => "BROKEN",
        Some(Step::Pass) => "healthy",
        _ if suspect => "SUSPECT",
        _ if seen => "no harm seen",
        _ => "no data yet",
    }
}

/// What it waits for, and how to end that.
fn waits_for(status: &Status, stage: Option<&pilotage::rollout::plan::Stage>) -> Option<String> {
    if status.end.is_some() {
        return None;
    }
    if status.paused.is_some() {
        return Some("POST /rollout/resume".to_owned());
    }
    if let Some(hold) = &status.hold {
        return Some(match hold.kind {
            HoldKind::Approval => "POST /rollout/approve".to_owned(),
            HoldKind::Start => "POST /rollout/start".to_owned(),
            HoldKind::Drill => "POST /rollout/drill".to_owned(),
            kind if needs_person(kind) => {
                format!("a person ({})", kind.word().replace('_', " "))
            }
            _ => hold.kind.word().replace('_', " "),
        });
    }
    let (seen, needed) = status.samples;
    let unit = match stage.map(|stage| stage.kind) {
        Some(StageKind::Shadow) => "pairs",
        _ => "calls",
    };
    let mut waits = Vec::new();
    if seen < needed {
        waits.push(format!("{} more {unit}", thousands(needed - seen)));
    }
    let least = stage.map_or(Duration::ZERO, |stage| stage.warm_up + stage.at_least);
    let left = least.saturating_sub(status.now.since(status.since));
    if left >= Duration::from_secs(1) {
        waits.push(about(left));
    }
    let passed = status.conclusion.as_ref().is_some_and(|found| found.step == Step::Pass);
    if waits.is_empty() {
        waits.push(if passed { "the next look" } else { "proof" }.to_owned());
    }
    Some(waits.join(" and "))
}

const fn needs_person(kind: HoldKind) -> bool {
    matches!(
        kind,
        HoldKind::Person
            | HoldKind::Late
            | HoldKind::Stuck
            | HoldKind::Inconclusive
            | HoldKind::Underpowered
            | HoldKind::NoData
    )
}

/// Why it stands where it stands.
fn reasons(status: &Status) -> Vec<String> {
    let mut reasons: Vec<String> = Vec::new();
    if let Some(paused) = &status.paused {
        reasons.push(format!("paused by {paused}"));
    }
    if let Some(hold) = status.hold.as_ref().filter(|_| status.paused.is_none()) {
        reasons.push(hold.why.clone());
        if needs_person(hold.kind) {
            reasons.push("a person decides: extend, promote or abort".to_owned());
        }
    }
    let parts = bare(&status.reason).split("; ").filter(|part| !part.is_empty());
    for part in parts {
        if !reasons.iter().any(|reason| reason.contains(part)) {
            reasons.push(part.to_owned());
        }
    }
    reasons
}

/// A reason without the verdict's own word, which the first line says.
fn bare(reason: &str) -> &str {
    let words = ["continue: ", "roll back: ", "pause: ", "promote: "];
    words.iter().find_map(|word| reason.strip_prefix(word)).unwrap_or(reason)
}

/// A guardrail's numbers; of one that cannot be judged yet they mean nothing.
fn shown(reading: &Reading) -> String {
    match reading.finding {
        Finding::NoData => format!("{}: too little was seen to judge it", reading.guardrail),
        _ => reading.to_string(),
    }
}

/// The two models, by name. Labels change places with a promotion, so from then on only what came
/// since is shown.
fn arms(service: &Service, present: &Present, status: &Status) -> (Vec<ArmView>, &'static str) {
    let router = service.router();
    if status.end == Some(End::Promoted) {
        let snapshot = router.snapshot();
        let counts = snapshot.arms.first().map(ArmStatus::from).unwrap_or_default();
        return (vec![ArmView::of("baseline", &present.candidate, &counts)], "since the promotion");
    }
    let totals = router.totals();
    let counts = |arm: Arm| {
        let (now, then) = (totals.get(arm.index()), present.counts.get(arm.index()));
        match (now, then) {
            (Some(now), Some(then)) => ArmStatus::from(&now.since(then)),
            (Some(now), None) => ArmStatus::from(now),
            _ => ArmStatus::default(),
        }
    };
    let mut views = vec![
        ArmView::of("baseline", &present.baseline, &counts(Arm::BASELINE)),
        ArmView::of("candidate", &present.candidate, &counts(Arm::CANDIDATE)),
    ];
    if let Some(shadow) = status.shadow.as_ref().filter(|shadow| shadow.run > 0) {
        views.push(ArmView::of("in shadow", &present.candidate, &shadow.candidate));
    }
    (views, "since this process began the rollout")
}

impl ArmView {
    fn of(arm: &'static str, model: &str, counts: &ArmStatus) -> Self {
        let known = counts.correct + counts.wrong;
        Self {
            arm,
            model: model.to_owned(),
            calls: counts.started,
            in_flight: counts.in_flight,
            errors_percent: counts.error_rate.map(|rate| rate * 100.0),
            p50_ms: counts.p50_ms,
            p95_ms: counts.p95_ms,
            right_percent: (known > 0).then(|| counts.correct as f64 * 100.0 / known as f64),
        }
    }
}

fn steps(present: &Present, dates: Dates) -> Vec<StepView> {
    let lines = present.pilot.history().lines;
    let view = |line: &pilotage::rollout::history::Line| {
        let step = &line.transition;
        StepView {
            date: line.date.unwrap_or_else(|| dates.of(step.at)).to_string(),
            who: step.who.clone(),
            from: step.from.clone(),
            to: step.to.clone(),
            // Who it was is said already.
            why: bare(step.why.strip_prefix(&format!("{}: ", step.who)).unwrap_or(&step.why))
                .to_owned(),
        }
    };
    lines.iter().map(view).collect()
}

fn journal(service: &Service, status: &Status) -> String {
    let path = service.rollouts().settings().journal.as_ref();
    match (&status.journal, path) {
        (Some(journal), Some(path)) => {
            let path = path.display();
            match (&journal.gap, journal.waiting) {
                (Some(gap), _) => format!("NOT WRITTEN to {path}: {gap}"),
                (None, 0) => format!("written to {path}, {} entries", journal.entries),
                (None, waiting) => format!("{waiting} entries wait to be written to {path}"),
            }
        }
        _ => "none is kept: a restart forgets this rollout (--journal FILE)".to_owned(),
    }
}

fn drill(status: &Status, dates: Dates) -> String {
    let due = if status.drill_overdue { "; one is due: POST /rollout/drill" } else { "" };
    match &status.drill {
        None => format!("none since this process began{due}"),
        Some(drill) => {
            let word = if drill.passed { "passed" } else { "FAILED" };
            let report = if drill.passed { String::new() } else { format!(": {}", drill.report) };
            format!("{word} at {}{report}{due}", dates.of(drill.at))
        }
    }
}

impl AlertView {
    fn of(told: &Told) -> Self {
        let alert = &told.alert;
        Self {
            date: told.date.to_string(),
            severity: alert.severity.to_string(),
            summary: alert.summary.clone(),
            resolved: alert.resolved,
        }
    }
}

/// A duration in its two largest units.
fn about(duration: Duration) -> String {
    if duration < Duration::from_secs(10) {
        return format!("{:.1}s", duration.as_secs_f64());
    }
    let seconds = duration.as_secs();
    let whole = if seconds >= 3600 { seconds / 60 * 60 } else { seconds };
    show_duration(Duration::from_secs(whole))
}

/// `1,234,567`.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn percent_of(share: TrafficShare) -> f64 {
    f64::from(share.ppm()) / 10_000.0
}

fn share_text(percent: f64) -> String {
    format!("{percent} %")
}

/// A look that is older than this is late.
const LOOK_LATE: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_has_one_date_whenever_one_looks() {
        let (begun, at) = (Duration::from_millis(1_774_747_800_900), Moment::from_secs(5));
        for later in [0, 300, 999, 61_050] {
            let later = Duration::from_millis(later);
            let dates = Dates { now: begun + later, moment: at.after(later) };
            assert_eq!(dates.of(at).to_string(), "2026-03-29T01:30:00Z");
            let until = at.after(Duration::from_secs(3600));
            assert_eq!(dates.of(until).to_string(), "2026-03-29T02:30:00Z");
        }
    }

    #[test]
    fn durations_are_short() {
        let text = |seconds| about(Duration::from_secs_f64(seconds));
        assert_eq!((thousands(7), thousands(1_234_567)), ("7".into(), "1,234,567".into()));
        assert_eq!(
            (text(0.24), text(75.3), text(9_015.0)),
            ("0.2s".into(), "1m15s".into(), "2h30m".into())
        );
    }
}
