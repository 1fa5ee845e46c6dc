//! A classifier as one arm of a rollout, with a switch for rehearsed faults.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pilotage::model::{Call, SyncModel};

use crate::fault::Fault;
use crate::model::{Answer, CallError, Classifier, Confidence};

/// A model that can be served, shadowed and made to fail on purpose.
#[derive(Debug)]
pub struct ModelArm {
    classifier: Arc<Classifier>,
    sabotage: Arc<Sabotage>,
}

/// The switch of a rehearsed fault. It is off until it is [turned on](Sabotage::turn_on).
#[derive(Debug, Default)]
pub struct Sabotage {
    /// The errors' part of calls in 2^32; above the lowest 33 bits the slowness in thousandths.
    word: AtomicU64,
    calls: AtomicU64,
    harmed: AtomicU64,
}

impl Sabotage {
    /// From now on calls fail like this.
    pub fn turn_on(&self, fault: Fault) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked ranges"
        )]
        let word = match fault {
            Fault::None => 0,
            Fault::Errors(rate) => (rate * 4_294_967_296.0) as u64,
            Fault::Slow(factor) => ((factor * 1000.0) as u64) << 33,
            Fault::Hang => HANG << 33,
        };
        self.word.store(word, Ordering::Release);
    }

    /// Calls of users that failed or were slowed.
    #[must_use]
    pub fn harmed(&self) -> u64 {
        self.harmed.load(Ordering::Acquire)
    }

    /// Whether this call fails, spread evenly over calls; and how many times longer it takes.
    fn strike(&self) -> (bool, f64) {
        let word = self.word.load(Ordering::Acquire);
        let (errors, slow) = (word & ((1 << 33) - 1), word >> 33);
        // The golden ratio's multiples fill the circle evenly: no run of luck, good or bad.
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        let drawn = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        (drawn < errors, if slow == 0 { 1.0 } else { slow as f64 / 1000.0 })
    }
}

impl ModelArm {
    /// An arm that never fails on purpose.
    #[must_use]
    pub fn new(classifier: Arc<Classifier>) -> Self {
        Self { classifier, sabotage: Arc::default() }
    }

    /// An arm whose faults are switched by `sabotage`.
    #[must_use]
    pub const fn with_sabotage(classifier: Arc<Classifier>, sabotage: Arc<Sabotage>) -> Self {
        Self { classifier, sabotage }
    }

    /// Asks a real sample, past the router, and says what is wrong with the answer.
    ///
    /// # Errors
    ///
    /// Why the model gave none.
    pub fn probe(&self) -> Result<(), String> {
        let answer = self.classifier.classify(PROBE, Confidence::Raw);
        answer.map(drop).map_err(|error| error.to_string())
    }
}

impl SyncModel for ModelArm {
    type Input = [u8];
    type Output = Answer;
    type Error = CallError;

    fn predict_sync(&self, content: &[u8], call: &Call) -> Result<Answer, CallError> {
        let (fails, longer) = self.sabotage.strike();
        if (fails || longer > 1.0) && !call.is_shadow() {
            self.sabotage.harmed.fetch_add(1, Ordering::AcqRel);
        }
        if fails {
            return Err(CallError::Injected);
        }
        let began = Instant::now();
        let answer = self.classifier.classify(content, Confidence::Raw);
        if longer > 1.0 {
            thread::sleep(began.elapsed().mul_f64(longer - 1.0).min(LONGEST_SLEEP));
        }
        answer
    }

    fn error_for_panic(&self) -> Option<CallError> {
        Some(CallError::Panicked)
    }

    /// A classification has no side effects.
    fn shadowable(&self) -> bool {
        true
    }
}

/// A content like those that users send.
const PROBE: &[u8] = include_bytes!("arm.rs");
/// A factor in thousandths that ends at the longest sleep.
const HANG: u64 = (1 << 31) - 1;
const LONGEST_SLEEP: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_strikes_as_often_as_it_says() {
        let sabotage = Sabotage::default();
        sabotage.turn_on(Fault::Errors(0.15));
        let struck = (0..10_000).filter(|_| sabotage.strike().0).count();
        assert!((1495..=1505).contains(&struck), "{struck}");
        sabotage.turn_on(Fault::Errors(1.0));
        assert!((0..1_000).all(|_| sabotage.strike().0));
        sabotage.turn_on(Fault::Slow(2.5));
        assert_eq!(sabotage.strike(), (false, 2.5));
        sabotage.turn_on(Fault::None);
        assert_eq!(sabotage.strike(), (false, 1.0));
    }
}
