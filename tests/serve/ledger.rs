//! Two sets of books beside the router's own: what the test saw begin and end, and what the models
//! were asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pilotage::clock::{Clock, ManualClock};
use pilotage::ids::Arm;
use pilotage::model::{Call, Model};
use pilotage::observe::recorder::MAX_ARMS;
use pilotage::outcome::Status;
use pilotage::serve::router::Router;

/// What a [`Scripted`] model does with a call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Script {
    Answer,
    Fail,
    /// Fails and says that the call timed out.
    SayTimeout,
    /// Fails and says that the call was given up.
    SayCancelled,
    /// Fails, and panics when asked what its error is.
    PanicOverTheError,
    Panic,
    /// Takes so many milliseconds of the manual clock, then answers.
    Dawdle(u64),
    /// Never ends.
    Hang,
}

/// What the models were asked, by the arm they were told to serve as, and how that ended.
#[derive(Debug, Default)]
pub struct Asked {
    begun: [AtomicU64; MAX_ARMS],
    answered: [AtomicU64; MAX_ARMS],
    failed: [AtomicU64; MAX_ARMS],
    panicked: [AtomicU64; MAX_ARMS],
    left: [AtomicU64; MAX_ARMS],
}

/// The same as plain numbers: begun, answered, failed, panicked, left.
pub type AskedCounts = [[u64; MAX_ARMS]; 5];

impl Asked {
    pub fn counts(&self) -> AskedCounts {
        [&self.begun, &self.answered, &self.failed, &self.panicked, &self.left]
            .map(|counts| std::array::from_fn(|arm| counts[arm].load(Ordering::SeqCst)))
    }
}

/// Does what its input says on every arm but the baseline's, where it always answers unless
/// `bad_baseline`; keeps books of it.
#[derive(Debug)]
pub struct Scripted {
    pub asked: Arc<Asked>,
    pub clock: ManualClock,
    pub bad_baseline: bool,
}

#[derive(Debug, PartialEq)]
pub struct Failure(pub Script);

/// Counts a call as left unless told how it ended.
struct Open<'a> {
    asked: &'a Asked,
    arm: usize,
    ended: bool,
}

impl Open<'_> {
    fn end(&mut self, counts: &[AtomicU64; MAX_ARMS]) {
        self.ended = true;
        counts[self.arm].fetch_add(1, Ordering::SeqCst);
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.asked.left[self.arm].fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Model for Scripted {
    type Input = Script;
    type Output = Arm;
    type Error = Failure;

    async fn predict(&self, input: &Script, call: &Call) -> Result<Arm, Failure> {
        let asked = &*self.asked;
        asked.begun[call.arm.index()].fetch_add(1, Ordering::SeqCst);
        let mut open = Open { asked, arm: call.arm.index(), ended: false };
        let spared = call.arm == Arm::BASELINE && !self.bad_baseline;
        match *input {
            Script::Dawdle(millis) => self.clock.advance(Duration::from_millis(millis)),
            Script::Hang => std::future::pending().await,
            _ if spared => {}
            Script::Answer => {}
            Script::Panic => {
                open.end(&asked.panicked);
                // A panic without its message, which nobody could read here.
                std::panic::resume_unwind(Box::new("told to"));
            }
            script => {
                open.end(&asked.failed);
                return Err(Failure(script));
            }
        }
        open.end(&asked.answered);
        Ok(call.arm)
    }

    fn status_of(&self, Failure(script): &Failure) -> Status {
        match script {
            Script::SayTimeout => Status::Timeout,
            Script::SayCancelled => Status::Cancelled,
            Script::PanicOverTheError => std::panic::resume_unwind(Box::new("over the error")),
            _ => Status::Error,
        }
    }
}

/// Per arm, how many calls began, how each ended, and how many the baseline answered instead.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Books {
    pub started: [u64; MAX_ARMS],
    pub ended: [[u64; 5]; MAX_ARMS],
    pub fell_back: [u64; MAX_ARMS],
    pub diverted: [u64; MAX_ARMS],
}

impl Books {
    /// What the router has counted since it was made.
    pub fn of<M, C: Clock>(router: &Router<M, C>) -> Self {
        let mut books = Self::default();
        for (arm, counts) in router.totals().iter().enumerate() {
            books.started[arm] = counts.started;
            books.ended[arm] = Status::ALL.map(|status| counts.of(status));
            books.fell_back[arm] = counts.fell_back;
            books.diverted[arm] = counts.diverted;
            assert_eq!(
                counts.started,
                counts.ended.iter().sum::<u64>() + counts.in_flight(),
                "arm {arm} does not add up: {counts:?}"
            );
        }
        books
    }

    pub fn end(&mut self, arm: Arm, status: Status) {
        self.ended[arm.index()][status.index()] += 1;
    }

    /// A call that was begun by hand and ended so.
    pub fn end_by_hand(&mut self, arm: Arm, diverted: bool, status: Status) {
        self.diverted[arm.index()] += u64::from(diverted);
        self.end(arm, status);
    }

    pub fn in_flight(&self) -> [u64; MAX_ARMS] {
        std::array::from_fn(|arm| self.started[arm] - self.ended[arm].iter().sum::<u64>())
    }

    /// Adds another thread's.
    pub fn add(&mut self, other: &Self) {
        for arm in 0..MAX_ARMS {
            self.started[arm] += other.started[arm];
            self.fell_back[arm] += other.fell_back[arm];
            self.diverted[arm] += other.diverted[arm];
            for (mine, theirs) in self.ended[arm].iter_mut().zip(other.ended[arm]) {
                *mine += theirs;
            }
        }
    }
}
