//! Proves that the way back is open, without going it.
//!
//! A rollback that was never tried is a hope. A drill asks everything a rollback needs, on the
//! live process, and moves nobody: the stable model is loaded and answers, as quickly as the second
//! call as at the first (so it is warm); the split's word takes an order (the one in force, once
//! more, which changes nothing); and a switch outside tells what is in force and takes the same
//! order again. It runs on the caller's thread, beside the requests; its calls are made on the
//! model itself, past the router, so they are counted nowhere and are evidence of nothing.
//!
//! What it cannot prove: that a switch outside, which takes the order in force, would also take
//! another one.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use serde::Serialize;

use crate::clock::{Clock, Moment};
use crate::control::pilot::Pilot;
use crate::ids::Arm;
use crate::machine::Drilled;
use crate::route::switch::{Split, SwitchError};
use crate::serve::router::Router;

/// What a drill found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Drill {
    /// When it ended, on the rollout's clock.
    pub at: Moment,
    /// One after the other; after the first that failed none is tried.
    pub steps: Vec<DrillStep>,
}

/// One thing that a rollback needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DrillStep {
    /// What.
    pub what: &'static str,
    /// How long it took.
    pub took: Duration,
    /// Why it failed; `None` when it did not.
    pub failed: Option<String>,
}

impl Drill {
    /// Whether the way back is open.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.steps.iter().all(|step| step.failed.is_none())
    }

    /// How long all of it took.
    #[must_use]
    pub fn took(&self) -> Duration {
        self.steps.iter().map(|step| step.took).sum()
    }
}

/// `rollback drill passed in 1.2ms: stable is loaded (0ns); …`
impl fmt::Display for Drill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.passed() { "passed" } else { "failed" };
        write!(f, "rollback drill {word} in {:?}: ", self.took())?;
        for (place, DrillStep { what, took, failed }) in self.steps.iter().enumerate() {
            let comma = if place == 0 { "" } else { "; " };
            match failed {
                None => write!(f, "{comma}{what} ({took:?})")?,
                Some(why) => write!(f, "{comma}not so: {what} ({why})")?,
            }
        }
        Ok(())
    }
}

impl Pilot {
    /// Makes a rollback drill and tells the rollout of it. `router` is the one this pilot leads;
    /// `probe` asks a model something and says what is wrong with the answer. It is called
    /// [`PROBES`] times on the stable model; a panic counts as a failure.
    ///
    /// Blocks for as long as the probes and the switch do: call it from a thread of its own or
    /// the loop that ticks, never from a request. A call that takes longer than `at_most` fails.
    pub fn drill<M, C>(
        &self,
        router: &Router<M, C>,
        at_most: Duration,
        probe: impl Fn(&M) -> Result<(), String>,
    ) -> Drill
    where
        C: Clock,
    {
        let clock = router.clock();
        let mut steps = Vec::new();
        let mut step = |what, check: &mut dyn FnMut() -> Result<(), String>| -> bool {
            if steps.iter().any(|step: &DrillStep| step.failed.is_some()) {
                return false;
            }
            let from = clock.now();
            let caught = catch_unwind(AssertUnwindSafe(check));
            let found = caught.unwrap_or_else(|_| Err("it panicked".to_owned()));
            let took = clock.now().since(from);
            let late = (took > at_most).then(|| format!("it took {took:?}, more than {at_most:?}"));
            steps.push(DrillStep { what, took, failed: found.err().or(late) });
            true
        };
        let mut model = None;
        step("stable is loaded", &mut || {
            model = router.model(Arm::BASELINE);
            model.as_ref().map(drop).ok_or_else(|| "no model stands there".to_owned())
        });
        for what in PROBES {
            step(what, &mut || model.as_ref().map_or(Ok(()), |model| probe(model)));
        }
        step("the split takes an order", &mut || self.same_again().map(drop));
        step("the switch takes an order", &mut || {
            let Some(told) = self.same_again_outside(at_most)? else { return Ok(()) };
            let here = router.split();
            if told.candidate == here.candidate {
                Ok(())
            } else {
                Err(format!("it gives the candidate {} and not {}", told.candidate, here.candidate))
            }
        });
        let at = self.moment();
        let drill = Drill { at, steps };
        let (passed, report) = (drill.passed(), drill.to_string());
        self.drilled(Drilled { at, passed, report });
        drill
    }
}

impl Pilot {
    /// Gives the split the order in force once more. Somebody may move it meanwhile; then again.
    fn same_again(&self) -> Result<Split, String> {
        let mut last = String::new();
        for _ in 0..MOST_RACES {
            let split = self.shared.plane.split();
            match self.shared.ownership.shift(&split) {
                Ok(()) => return Ok(split),
                Err(error @ SwitchError::Superseded { .. }) => last = error.to_string(),
                Err(error) => return Err(error.to_string()),
            }
        }
        Err(last)
    }

    /// Asks a switch outside what is in force, and gives it that order once more: by its own thread,
    /// so that no order that comes in between is undone. `None` without such a switch.
    fn same_again_outside(&self, at_most: Duration) -> Result<Option<Split>, String> {
        let Some(outside) = &self.shared.outside else { return Ok(None) };
        let order = outside.drill();
        match outside.wait_for_drill(order, at_most) {
            None => Err(format!("it has not answered for {at_most:?}")),
            Some(told) => told.map(Some),
        }
    }
}

/// The calls of a probe, by what they show.
pub const PROBES: [&str; 3] =
    ["stable answers", "stable answers warm", "stable answers a third time"];
const MOST_RACES: u32 = 5;
