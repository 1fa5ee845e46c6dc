//! Tells people, without anybody waiting for it.
//!
//! Alerts go through a bounded queue to one thread, which applies the [`AlertPolicy`] and calls
//! the [`Alerter`]. A blocked alerter fills the queue; beyond that alerts are counted as lost. A
//! failing one is offered each alert [`TRIES`] times.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use serde::Serialize;

use crate::alert::alert::Alert;
use crate::alert::alerter::Alerter;
use crate::alert::policy::AlertPolicy;

/// How many alerts wait at the most.
pub const QUEUE: usize = 256;
/// How often an alert is offered to an alerter that fails.
pub const TRIES: u32 = 3;
/// How long a failing alerter is left alone before the next try.
const PAUSE: Duration = Duration::from_millis(200);

/// The queue's end that control holds. Dropping the last one ends the thread once the queue is
/// empty; nobody waits for that.
#[derive(Clone, Debug)]
pub struct AlertQueue {
    queue: SyncSender<Alert>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    delivered: AtomicU64,
    suppressed: AtomicU64,
    undelivered: AtomicU64,
    lost: AtomicU64,
}

/// What became of the alerts so far.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct AlertCounts {
    /// Told.
    pub delivered: u64,
    /// The same news again, or too many in a minute.
    pub suppressed: u64,
    /// The alerter failed or panicked every time.
    pub undelivered: u64,
    /// The queue was full.
    pub lost: u64,
}

impl AlertQueue {
    /// Starts the alert thread.
    ///
    /// # Errors
    ///
    /// When the system gives no thread.
    pub fn start(alerter: Arc<dyn Alerter>, policy: AlertPolicy) -> std::io::Result<Self> {
        let (queue, waiting) = sync_channel(QUEUE);
        let counts = Arc::new(Counts::default());
        let theirs = Arc::clone(&counts);
        thread::Builder::new()
            .name("pilotage-alerts".into())
            .spawn(move || deliver(&*alerter, policy, &waiting, &theirs))?;
        Ok(Self { queue, counts })
    }

    /// Queues an alert. Never waits.
    pub fn send(&self, alert: Alert) {
        match self.queue.try_send(alert) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.counts.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// What became of the alerts so far.
    #[must_use]
    pub fn counts(&self) -> AlertCounts {
        AlertCounts {
            delivered: self.counts.delivered.load(Ordering::Relaxed),
            suppressed: self.counts.suppressed.load(Ordering::Relaxed),
            undelivered: self.counts.undelivered.load(Ordering::Relaxed),
            lost: self.counts.lost.load(Ordering::Relaxed),
        }
    }
}

fn deliver(
    alerter: &dyn Alerter,
    mut policy: AlertPolicy,
    waiting: &Receiver<Alert>,
    counts: &Counts,
) {
    while let Ok(alert) = waiting.recv() {
        if !policy.admit(alert.at, &alert) {
            counts.suppressed.store(policy.suppressed(), Ordering::Relaxed);
            continue;
        }
        let told = (1..=TRIES).any(|attempt| {
            let told = catch_unwind(AssertUnwindSafe(|| alerter.alert(&alert)));
            if matches!(told, Ok(Ok(()))) {
                return true;
            }
            if attempt < TRIES {
                pause();
            }
            false
        });
        let count = if told { &counts.delivered } else { &counts.undelivered };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

#[expect(clippy::disallowed_methods, reason = "the alert thread has nothing else to do")]
fn pause() {
    thread::sleep(PAUSE);
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{RecvTimeoutError, channel};

    use super::*;
    use crate::alert::alert::Severity;
    use crate::alert::alerter::{AlertError, FnAlerter};
    use crate::clock::Moment;
    use crate::ids::Name;

    fn alert(key: usize) -> Alert {
        let rollout = Name::new("r").unwrap();
        Alert::new(key.to_string(), Severity::Critical, rollout, Moment::ZERO, "s")
    }

    fn open() -> AlertPolicy {
        AlertPolicy::new(Duration::ZERO, usize::MAX)
    }

    fn wait_for(what: impl Fn() -> bool) {
        let (_keep, never) = channel::<()>();
        for _ in 0..500 {
            if what() {
                return;
            }
            let _ = never.recv_timeout(Duration::from_millis(10)) == Err(RecvTimeoutError::Timeout);
        }
        panic!("it did not happen within five seconds");
    }

    #[test]
    fn an_alerter_that_never_returns_holds_nobody_up() {
        let (_hold, held) = channel::<()>();
        let held = parking_lot::Mutex::new(held);
        let blocked = FnAlerter(move |_: &Alert| {
            let _ = held.lock().recv();
        });
        let queue = AlertQueue::start(Arc::new(blocked), open()).unwrap();
        (0..QUEUE + 50).for_each(|key| queue.send(alert(key)));
        let lost = queue.counts().lost;
        assert!((49..=50).contains(&lost), "{lost} lost");
    }

    #[test]
    fn a_panicking_alerter_is_counted_and_does_not_end_the_alerts() {
        struct Bomb(AtomicU64);
        impl Alerter for Bomb {
            fn alert(&self, alert: &Alert) -> Result<(), AlertError> {
                self.0.fetch_add(1, Ordering::Relaxed);
                if alert.key == "0" { panic!("as the test wants it") } else { Ok(()) }
            }
        }
        let queue = AlertQueue::start(Arc::new(Bomb(AtomicU64::new(0))), open()).unwrap();
        queue.send(alert(0));
        queue.send(alert(1));
        wait_for(|| queue.counts().delivered == 1);
        assert_eq!(queue.counts().undelivered, 1);
    }

    #[test]
    fn the_same_news_is_told_once() {
        let queue =
            AlertQueue::start(Arc::new(FnAlerter(|_: &Alert| ())), AlertPolicy::default()).unwrap();
        (0..10).for_each(|_| queue.send(alert(7)));
        wait_for(|| queue.counts().suppressed == 9);
        assert_eq!(queue.counts().delivered, 1);
    }
}
