//! One rollout, from the first request to the last.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use pilotage::clock::Clock;
use pilotage::control::status::Status;
use pilotage::judge::paired::{PairedQuality, PairedReading};
use pilotage::judge::verdict::Reading;
use pilotage::machine::Order;
use pilotage::outcome::Status as Ending;
use pilotage::rollout::pipeline::End;
use pilotage::rollout::plan::{Plan, StageKind};
use serde::Serialize;

use crate::arm::Sabotage;
use crate::client::Client;
use crate::demo::crowd::Crowd;
use crate::demo::line::Line;
use crate::demo::plan::{BETA, MARGIN, plan};
use crate::demo::report::{Outcome, Report, Times};
use crate::fault::Fault;
use crate::model::{Classifier, Confidence, LoadError};
use crate::pack::Sample;
use crate::rollouts::RolloutSettings;
use crate::running::Running;
use crate::service::{Service, Settings, StartError};

/// A rollout to be told.
#[derive(Debug)]
pub struct Story {
    /// Its number among the stories.
    pub title: String,
    /// The model that serves.
    pub baseline: Arc<Classifier>,
    /// The model that wants to, or why it cannot.
    pub candidate: Result<Arc<Classifier>, LoadError>,
    /// The candidate's name.
    pub candidate_name: String,
    /// What goes wrong in the middle of the canary.
    pub fault: Fault,
    /// What users send.
    pub samples: Arc<[Sample]>,
    /// Draws order and users.
    pub seed: u64,
}

/// How things stood at one moment of a story.
#[derive(Clone, Debug, Serialize)]
pub struct Frame {
    /// Seconds since the story began.
    pub at: f64,
    /// The stage.
    pub stage: String,
    /// What is done in it; nothing once the rollout is over.
    #[serde(skip)]
    pub kind: Option<StageKind>,
    /// The candidate's share in force, from 0 to 1.
    pub share: f64,
    /// Each guardrail's evidence.
    pub guardrails: Vec<Reading>,
    /// Evidence on quality, in a shadow.
    pub quality: Option<PairedReading>,
}

impl Frame {
    /// Whether the candidate ran on copies of requests.
    #[must_use]
    pub fn is_shadow(&self) -> bool {
        self.kind == Some(StageKind::Shadow)
    }
}

impl Story {
    /// Plays it. `live` when somebody watches.
    ///
    /// # Errors
    ///
    /// When the server or the rollout cannot start.
    pub fn tell(&self, live: bool) -> Result<Report, StartError> {
        let plan = plan(self.samples.len())?;
        let rollouts =
            RolloutSettings { plan: plan.clone(), every: TICK, ..RolloutSettings::default() };
        let settings = Settings { rollouts, ..Settings::default() };
        let service = Service::start(Arc::clone(&self.baseline), &settings)?;
        let running = Running::start(Arc::clone(&service), "127.0.0.1:0")?;
        let candidate = match &self.candidate {
            Ok(candidate) => Arc::clone(candidate),
            Err(error) => return self.without_candidate(&service, &running, error),
        };
        let sabotage = Arc::new(Sabotage::default());
        let began = Instant::now();
        let moment = service.router().clock().now();
        service.rollouts().roll_out(Arc::clone(&candidate), Arc::clone(&sabotage))?;
        let present = service.rollouts().present();
        let present = present.ok_or("the rollout that was just begun is gone")?;
        let pilot = &present.pilot;
        let crowd = Crowd::gather(running.address(), Arc::clone(&self.samples), self.seed);

        let mut line = Line::new(live);
        let mut frames: Vec<Frame> = Vec::new();
        let mut fault_at = None;
        let (mut told_all_at, mut held) = (None, None);
        // What the pairs said when the shadow was left. Truths that come later change nothing.
        let mut quality = None;
        while !pilot.is_over() {
            let status = pilot.status();
            let frame = self.frame(began, &status, &plan);
            if frames.last().is_none_or(|last| frame.at - last.at >= EVERY) {
                line.show(&status, &frame);
                frames.push(frame);
            }
            if fault_at.is_none() && self.fault != Fault::None && in_mid_canary(&status, &plan) {
                sabotage.turn_on(self.fault);
                fault_at = Some(Instant::now());
            }
            // Once every sample's truth is known, replaying them proves nothing more.
            let told = status.shadow.as_ref().map_or(0, |shadow| shadow.truth.total());
            let in_shadow = plan.stages().get(status.step.0 - 1).map(|stage| stage.kind)
                == Some(StageKind::Shadow);
            if in_shadow && told >= self.samples.len() as u64 {
                told_all_at.get_or_insert_with(Instant::now);
            } else {
                told_all_at = None;
            }
            if in_shadow || quality.is_none() {
                quality = status.shadow.as_ref().and_then(|shadow| reading(shadow.truth));
            }
            let idle = told_all_at.is_some_and(|at: Instant| at.elapsed() > IDLE);
            if idle || began.elapsed() > PATIENCE {
                held = Some(status.reason.clone());
                pilot.order(Order::Abort, "demo", "the story is too long")?;
                break;
            }
            thread::sleep(GLANCE);
        }
        let ended_at = Instant::now();
        frames.push(self.frame(began, &pilot.status(), &plan));
        // The last frames show what it came to; the truths that are due are still posted.
        thread::sleep(AFTERGLOW);
        let status = pilot.status();
        if status.end == Some(End::Refused) {
            quality = status.shadow.as_ref().and_then(|shadow| reading(shadow.truth));
        }
        // Nothing more was weighed after the end: lines of evidence end there.
        let mut last = self.frame(began, &status, &plan);
        (last.guardrails, last.quality) = (Vec::new(), None);
        frames.push(last);
        line.clear();
        let seen = crowd.go_home();

        let promoted = pilot.end() == Some(End::Promoted);
        let winner = if promoted { &candidate } else { &self.baseline };
        let after = self.ask_again(&running, winner)?;
        let outcome = match (held.is_some(), pilot.end()) {
            (false, Some(End::Promoted)) => Outcome::Promoted,
            (false, Some(End::RolledBack)) => Outcome::RolledBack,
            (false, Some(End::Refused)) => Outcome::Refused,
            _ => Outcome::Held,
        };
        // Labels change places with a promotion; models do not.
        let totals = service.router().totals();
        let candidate_started = totals.get(1).map_or(0, |arm| arm.started);
        Ok(Report {
            story: self.title.clone(),
            baseline: self.baseline.name().to_owned(),
            candidate: self.candidate_name.clone(),
            fault: self.fault.to_string(),
            seed: self.seed,
            samples: self.samples.len(),
            outcome,
            stage: status.stage.clone(),
            reason: held.unwrap_or_else(|| status.reason.clone()),
            users: seen,
            served_by_candidate: candidate_started,
            candidate_failed: totals
                .get(1)
                .map_or(0, |arm| arm.of(Ending::Error) + arm.of(Ending::Panicked)),
            harmed: sabotage.harmed(),
            after,
            quality,
            truth: status.shadow.as_ref().map(|shadow| shadow.truth),
            evidence: status.guardrails.clone(),
            arms: status.arms.clone(),
            shadow: status.shadow,
            times: Times {
                story_s: ended_at.duration_since(began).as_secs_f64(),
                fault_to_rollback_s: fault_at
                    .map(|at| ended_at.saturating_duration_since(at).as_secs_f64()),
                fault_at_s: fault_at.map(|at| at.saturating_duration_since(began).as_secs_f64()),
            },
            history: status
                .history
                .iter()
                .map(|step| {
                    (step.at.since(moment).as_secs_f64(), step.to.clone(), step.why.clone())
                })
                .collect(),
            alerts: service
                .rollouts()
                .alerts()
                .iter()
                .map(|told| (told.alert.at.since(moment).as_secs_f64(), told.alert.to_string()))
                .collect(),
            frames,
        })
    }

    /// The candidate cannot be loaded: it is refused, and the baseline serves as ever.
    fn without_candidate(
        &self,
        service: &Service,
        running: &Running,
        error: &LoadError,
    ) -> Result<Report, StartError> {
        service.rollouts().note(error.to_string());
        let after = self.ask_again(running, &self.baseline)?;
        Ok(Report {
            story: self.title.clone(),
            baseline: self.baseline.name().to_owned(),
            candidate: self.candidate_name.clone(),
            fault: self.fault.to_string(),
            seed: self.seed,
            samples: self.samples.len(),
            stage: "not begun".to_owned(),
            reason: format!("the candidate could not be loaded: {error}"),
            after,
            ..Report::default()
        })
    }

    /// Asks a few dozen samples more: how many were asked, and how many answered as `winner` does.
    fn ask_again(&self, running: &Running, winner: &Classifier) -> Result<(u64, u64), StartError> {
        let mut client = Client::new(running.address());
        let (mut asked, mut agreed) = (0, 0);
        for (number, sample) in self.samples.iter().take(AFTER).enumerate() {
            let user = format!("later-{number}");
            let reply = client.post("/classify", &[("x-user-id", &user)], &sample.content)?;
            asked += 1;
            let expected = winner.classify(&sample.content, Confidence::Raw)?;
            agreed += u64::from(reply.status == 200 && reply.text("label") == &*expected.label);
        }
        Ok((asked, agreed))
    }

    fn frame(&self, began: Instant, status: &Status, plan: &Plan) -> Frame {
        let running = status.end.is_none().then(|| plan.stages().get(status.step.0 - 1)).flatten();
        Frame {
            at: began.elapsed().as_secs_f64(),
            stage: status.stage.clone(),
            kind: running.map(|stage| stage.kind),
            share: match status.end {
                Some(End::Promoted) => 1.0,
                _ => status.share.fraction(),
            },
            guardrails: status.guardrails.clone(),
            quality: status.shadow.as_ref().and_then(|shadow| reading(shadow.truth)),
        }
    }
}

/// The evidence on quality that these pairs carry.
fn reading(truth: pilotage::observe::shadow::PairedTruth) -> Option<PairedReading> {
    let mut quality = PairedQuality::new(MARGIN, 0.01, BETA).ok()?;
    quality.observe(&truth);
    Some(quality.reading())
}

/// The middle of the canary: half way through the second stage that serves users.
fn in_mid_canary(status: &Status, plan: &Plan) -> bool {
    let canaries = plan
        .stages()
        .iter()
        .enumerate()
        .filter(|(_, stage)| stage.kind == StageKind::Canary)
        .map(|(at, _)| at + 1);
    canaries.clone().nth(1).or_else(|| canaries.clone().next()) == Some(status.step.0)
        && 2 * status.samples.0 >= status.samples.1
}

/// How often the pilot looks.
const TICK: Duration = Duration::from_millis(100);
/// How often the story looks at the pilot.
const GLANCE: Duration = Duration::from_millis(10);
/// Seconds between two frames.
const EVERY: f64 = 0.1;
/// How long after the verdict users go on.
const AFTERGLOW: Duration = Duration::from_millis(1_500);
/// How long a shadow may go on without a verdict once all truths are told.
const IDLE: Duration = Duration::from_secs(5);
/// How long a story may take.
const PATIENCE: Duration = Duration::from_secs(240);
/// Requests sent after the story, to see who answers.
const AFTER: usize = 60;
