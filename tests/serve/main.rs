//! Promises of `serve`: every call counts once, and nothing reaches the caller but an answer.

mod arms;
mod audience;
mod calls;
mod conservation;
mod crowd;
mod ledger;
mod limit;
mod shadow;
mod truth;

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};

use pilotage::clock::{Clock, ManualClock};
use pilotage::ids::Arm;
use pilotage::model::{Call, Model};
use pilotage::observe::snapshot::ArmCounts;
use pilotage::outcome::Status;
use pilotage::route::switch::TrafficSwitch;
use pilotage::serve::router::Router;
use pilotage::share::TrafficShare;
use pollster::block_on;

/// What a [`Told`] model is to do with its next calls.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Do {
    Answer(u32),
    Fail,
    Panic,
    /// Takes so many milliseconds of the manual clock, then answers.
    Dawdle(u64),
    /// Never ends.
    Hang,
}

/// A model that does what its input says on one arm, and answers 1 on the other.
#[derive(Debug)]
struct Told {
    bad_arm: Option<Arm>,
    clock: ManualClock,
}

#[derive(Debug, PartialEq)]
struct Failed;

impl Model for Told {
    type Input = Do;
    type Output = u32;
    type Error = Failed;

    async fn predict(&self, input: &Do, call: &Call) -> Result<u32, Failed> {
        if self.bad_arm.is_some_and(|bad| bad != call.arm) {
            return Ok(1);
        }
        match *input {
            Do::Answer(number) => Ok(number),
            Do::Fail => Err(Failed),
            Do::Panic => panic!("told to"),
            Do::Dawdle(millis) => {
                self.clock.advance(std::time::Duration::from_millis(millis));
                Ok(2)
            }
            Do::Hang => std::future::pending().await,
        }
    }

    fn shadowable(&self) -> bool {
        true
    }
}

/// Polls a future once and drops it.
fn begin_and_leave<F: Future>(future: F) {
    let mut future = pin!(future);
    assert!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
}

/// Sends this share of traffic to the candidate.
fn shift<M, C: Clock>(router: &Router<M, C>, share: TrafficShare) {
    router.switch().shift(&router.split().shifted(share)).unwrap();
}

/// What was counted of an arm: ok, error, timeout, cancelled, panicked.
fn ended(counts: &[ArmCounts], arm: Arm) -> [u64; 5] {
    Status::ALL.map(|status| counts[arm.index()].of(status))
}

/// A closure that cannot fail.
fn length() -> impl Fn(&str) -> Result<usize, Infallible> + Send + Sync {
    |text: &str| Ok(text.len())
}
