//! A thread that ticks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::control::pilot::Pilot;

/// Ticks a [`Pilot`] until its rollout is over, or until it is stopped or dropped.
#[derive(Debug)]
#[must_use = "a driver that is dropped stops ticking"]
pub struct Driver {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Pilot {
    /// Starts a plain thread that calls [`Pilot::tick`] every `every` (at least a millisecond).
    ///
    /// It ends by itself when the rollout is over. A panic of a user's sink or switch is caught;
    /// the next tick comes all the same.
    ///
    /// # Errors
    ///
    /// When the system gives no thread.
    pub fn spawn(&self, every: Duration) -> std::io::Result<Driver> {
        let every = every.max(Duration::from_millis(1));
        let (pilot, stop) = (self.clone(), Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new().name("pilotage-driver".into()).spawn(move || {
            while !stopped.load(Ordering::Acquire) {
                let tick = std::panic::AssertUnwindSafe(|| pilot.tick());
                if matches!(std::panic::catch_unwind(tick), Ok(false)) {
                    return;
                }
                thread::park_timeout(every);
            }
        })?;
        Ok(Driver { stop, thread: Some(thread) })
    }
}

impl Driver {
    /// Stops ticking and waits for a tick under way. The rollout stays where it is.
    pub fn stop(mut self) {
        self.end();
    }

    /// Whether the thread has ended, since the rollout is over.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A tick may drop the last handle on this driver from the driver's own thread.
            if thread.thread().id() != thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.end();
    }
}
