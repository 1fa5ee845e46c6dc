//! A thread that ticks.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::Mutex;

use crate::alert::alert::Severity;
use crate::control::pilot::Pilot;
use crate::machine::News;

/// Ticks a [`Pilot`] until its rollout is over, or until it is stopped or dropped.
///
/// Dropping it while the candidate has a share takes everybody back to the baseline, and people are
/// told: nobody would look after it. [`Driver::stop`] is for who goes on ticking otherwise.
#[derive(Debug)]
#[must_use = "dropping a driver takes everybody back to the baseline; keep it as long as the rollout"]
pub struct Driver {
    ticking: Arc<Ticking>,
    pilot: Pilot,
}

#[derive(Debug)]
struct Ticking {
    stop: AtomicBool,
    every: Duration,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// The driver of a pilot, as the pilot knows it.
#[derive(Debug, Default)]
pub(super) struct DriverCell(Mutex<Weak<Ticking>>);

impl Pilot {
    /// Starts a plain thread that calls [`Pilot::tick`] every `every` (at least a millisecond).
    ///
    /// It ends by itself when the rollout is over, which is after the time in which a promotion can
    /// be taken back, and begins again where a retry leads on. A panic of a user's sink or switch is
    /// caught; the next tick comes all the same.
    ///
    /// # Errors
    ///
    /// When the system gives no thread.
    pub fn spawn(&self, every: Duration) -> std::io::Result<Driver> {
        let every = every.max(Duration::from_millis(1));
        let ticking =
            Arc::new(Ticking { stop: AtomicBool::new(false), every, thread: Mutex::new(None) });
        ticking.begin(self)?;
        *self.shared.driver.0.lock() = Arc::downgrade(&ticking);
        Ok(Driver { ticking, pilot: self.clone() })
    }

    /// Whoever ticked is gone.
    fn lost_its_driver(&self) {
        let candidate = self.shared.about.candidate.clone();
        if self.park("its driver was dropped, and nobody looked after it") {
            let summary = format!(
                "the driver of {candidate} was dropped while it had users: everybody is on the \
                 baseline; keep the driver as long as the rollout runs, then order a retry"
            );
            let news = News::lasting(format!("{candidate}/dropped"), Severity::Critical, summary);
            self.tell(self.now(), News { once: true, ..news });
        }
    }
}

impl Ticking {
    fn begin(self: &Arc<Self>, pilot: &Pilot) -> std::io::Result<()> {
        let (pilot, stopped) = (pilot.clone(), Arc::clone(self));
        let thread = thread::Builder::new().name("pilotage-driver".into()).spawn(move || {
            while !stopped.stop.load(Ordering::Acquire) {
                let tick = AssertUnwindSafe(|| pilot.tick());
                if matches!(catch_unwind(tick), Ok(false)) {
                    return;
                }
                thread::park_timeout(stopped.every);
            }
        })?;
        *self.thread.lock() = Some(thread);
        Ok(())
    }
}

impl DriverCell {
    /// Makes the next tick come at once.
    pub(super) fn wake(&self) {
        if let Some(ticking) = self.0.lock().upgrade() {
            if let Some(thread) = &*ticking.thread.lock() {
                thread.thread().unpark();
            }
        }
    }

    /// Goes on ticking where the thread had ended, and there is something to do again.
    pub(super) fn revive(&self, pilot: &Pilot) {
        let Some(ticking) = self.0.lock().upgrade() else { return };
        let ended = ticking.thread.lock().as_ref().is_none_or(JoinHandle::is_finished);
        if ended && !ticking.stop.load(Ordering::Acquire) && pilot.has_work() {
            // Without a thread nobody looks, and what nobody looks after goes back by itself.
            let _ = ticking.begin(pilot);
        } else {
            self.wake();
        }
    }
}

impl Driver {
    /// Stops ticking and waits for a tick under way. The rollout stays where it is, for whoever
    /// ticks it from now on; if nobody does, everybody goes back to the baseline after
    /// [`unattended_after`](crate::control::start::PilotBuilder::unattended_after).
    pub fn stop(self) {
        self.end();
    }

    /// Whether the thread has ended, since the rollout is over.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.ticking.thread.lock().as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn end(&self) -> bool {
        let ended = self.ticking.stop.swap(true, Ordering::AcqRel);
        let thread = self.ticking.thread.lock().take();
        if let Some(thread) = thread {
            thread.thread().unpark();
            // A tick may drop the last handle on this driver from the driver's own thread.
            if thread.thread().id() != thread::current().id() {
                let _ = thread.join();
            }
        }
        ended
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if !self.end() {
            self.pilot.lost_its_driver();
        }
    }
}
