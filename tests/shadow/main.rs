//! Promises of a shadow: nobody waits for it, everything is counted, and what it says holds.
#![cfg(not(loom))]

mod cases;
mod covariate;
mod lane;
mod rates;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pilotage::outcome::Status;
use pilotage::serve::executor::{Executor, Job, Rejected};
use pilotage::serve::shadow_lane::Offer;
use pollster::block_on;

/// Keeps jobs until the test runs them.
#[derive(Clone, Default)]
struct Later(Arc<Mutex<Vec<Job>>>);

impl Executor for Later {
    fn spawn(&self, job: Job) -> Result<(), Rejected> {
        self.0.lock().push(job);
        Ok(())
    }
}

impl Later {
    fn run(&self) -> usize {
        let jobs = std::mem::take(&mut *self.0.lock());
        jobs.into_iter().map(|job| job()).count()
    }
}

/// A request that the baseline answered with `output`.
fn served<I, O>(input: I, output: O) -> Offer<I, O> {
    Offer {
        input: Arc::new(input),
        bytes: 8,
        status: Status::Ok,
        latency: Duration::from_millis(1),
        output: Some(output),
        sample: None,
    }
}
