//! A rollout of this server: its pilot, and what stands beside it.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use pilotage::clock::{SystemWallClock, WallClock};
use pilotage::control::driver::Driver;
use pilotage::control::pilot::Pilot;
use pilotage::control::pool::WorkerPool;
use pilotage::control::start::StartError as PilotError;
use pilotage::date::Date;
use pilotage::machine::Order;
use pilotage::observe::snapshot::ArmCounts;
use pilotage::rollout::pipeline::End;
use pilotage::rollout::plan::Plan;
use pilotage::serve::shadow_lane::{LaneOptions, ShadowLane};

use crate::arm::{ModelArm, Sabotage};
use crate::journals::Over;
use crate::model::{Answer, Classifier};

/// A rollout, from its beginning until the next one begins.
#[derive(Debug)]
pub struct Present {
    /// Leads it.
    pub pilot: Pilot,
    /// Runs the candidate on copies of requests.
    pub lane: ShadowLane<ModelArm>,
    /// Its stages.
    pub plan: Plan,
    /// The baseline when it began.
    pub baseline: String,
    /// The model that is to be proved.
    pub candidate: String,
    /// Who began it, and why.
    pub begun_by: String,
    /// The counts of all arms when this process began it.
    pub counts: Vec<ArmCounts>,
    /// Ticks as long as it is kept.
    pub(crate) _driver: Driver,
}

impl Present {
    /// How it ended, if it has, and when as far as the wall clock tells.
    fn end(&self) -> Option<(End, Date, String)> {
        let status = self.pilot.status();
        let end = status.end?;
        let ago = status.now.since(status.since).as_secs();
        let date = SystemWallClock.date().as_unix().saturating_sub_unsigned(ago);
        Some((end, Date::from_unix(date), status.reason))
    }
}

pub(crate) fn over_of(present: &Present) -> Option<Over> {
    let (end, date, reason) = present.end()?;
    Some(Over {
        baseline: present.baseline.clone(),
        candidate: present.candidate.clone(),
        end,
        date: Some(date.to_string()),
        reason,
    })
}

/// Ends a rollout, so that its journal is closed when the next one begins.
pub(crate) fn make_room(pilot: &Pilot, who: &str, next: &str) {
    let why = format!("the rollout of {next} takes over");
    let _ = match pilot.end() {
        None => pilot.abort(who, &why),
        Some(End::Promoted) => pilot.order(Order::Finish, who, &why),
        Some(_) => return,
    };
}

/// Waits until all of a rollout is written down: two must not write to one file.
pub(crate) fn written(pilot: &Pilot) -> Result<(), PilotError> {
    let began = Instant::now();
    loop {
        match pilot.status().journal {
            Some(journal) if journal.waiting > 0 || journal.gap.is_some() => {
                if began.elapsed() > JOURNAL_PATIENCE {
                    let why = journal.gap.unwrap_or_else(|| "it does not answer".to_owned());
                    return Err(PilotError::Store(format!(
                        "the former rollout is not written down yet: {why}"
                    )));
                }
                thread::sleep(Duration::from_millis(10));
            }
            _ => return Ok(()),
        }
    }
}

pub(crate) fn lane_of(
    candidate: Arc<Classifier>,
    sabotage: Arc<Sabotage>,
) -> Result<(Arc<ModelArm>, ShadowLane<ModelArm>), PilotError> {
    let failed = |error: &dyn std::fmt::Display| {
        PilotError::Thread(std::io::Error::other(error.to_string()))
    };
    let arm = Arc::new(ModelArm::with_sabotage(candidate, sabotage));
    let same = |old: &Answer, new: &Answer| f64::from(u8::from(old.label == new.label));
    let threads = WorkerPool::new("shadow", SHADOW_THREADS, SHADOW_QUEUE);
    let threads = threads.map_err(|error| failed(&error))?;
    let lane = ShadowLane::new(Arc::clone(&arm), threads, same, LaneOptions::default());
    Ok((arm, lane.map_err(|error| failed(&error))?))
}

/// Threads that ask the candidate in a shadow: as many as ask the baseline, so that it keeps up.
const SHADOW_THREADS: usize = 2;
/// Shadow calls that wait.
const SHADOW_QUEUE: usize = 256;
/// How long a journal is waited for.
const JOURNAL_PATIENCE: Duration = Duration::from_secs(2);
