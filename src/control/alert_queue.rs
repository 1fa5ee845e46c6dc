//! Tells people, until they were told, without anybody waiting for it.
//!
//! An [`AlertQueue`] takes alerts in, and its thread offers them to an [`Alerter`]. The rules:
//!
//! - **Until delivered.** An alert is offered until the alerter returns `Ok` or the alert is stale
//!   (24 hours). After a failure it is left alone for 0.2 seconds, then twice as long each time, up
//!   to a minute, less up to half by chance. Each alert waits for itself, so one that always fails
//!   holds up no other. Once a call gets through, all that failed more than a second ago is
//!   offered again.
//! - **What matters first.** Critical alerts come first and the newest of them before older ones;
//!   then resolves, warnings and information, in their order. So that nothing waits for ever, every
//!   fourth call goes to what has been passed over for a minute.
//! - **Bounded.** [`QUEUE`] alerts wait at the most. Beyond that the oldest of the least important
//!   ones is dropped and counted as lost; where everything that waits is critical, that is the
//!   oldest critical one. [`KEYS`] incidents are remembered beside those that wait: what is over
//!   or has only happened is forgotten first, then the lesser, then the older.
//! - **One of each.** An incident is a key of a rollout. Newer news of it replaces what waits of it,
//!   unless it is less severe. What is over before people were told is cancelled: they hear
//!   neither of it nor of its end. If it is [once](Alert::once) news, it did happen: they hear of
//!   both. A resolve is as severe as what it ends, so that it reaches whoever heard of that. A
//!   resolve of something this queue knows nothing of is delivered, since a process before this
//!   one may have told people.
//! - **The same news.** What people know already is suppressed: what goes on, unless it has become
//!   more severe; and what happened, in the same words within `repeat_after` (if it is critical,
//!   only the same event: at the same moment).
//! - **Repeated.** The queue repeats a warning or a critical alert every `repeat_after` (4 hours)
//!   until its resolve is delivered. It repeats neither information nor once news.
//! - **Burst.** Of lesser alerts at most `burst` a minute (30) are let through, the rest is
//!   suppressed. Critical alerts, resolves and repeats are not counted.
//! - **Hanging.** A call that takes longer than its deadline (30 seconds) is left to itself, its
//!   alert is offered again, and the queue goes on beside it. When [`HUNG`] calls hang, the queue
//!   waits for one of them; no alert takes more than half of them for itself. If such a call
//!   returns `Ok`, its alert counts as delivered: people may be told twice, and are told last what
//!   is so.
//!
//! Repeats, pauses and deadlines go by the time of the system, not by the clock of the rollout.

use std::hash::{BuildHasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::alert::alert::Alert;
use crate::alert::alerter::Alerter;
pub use crate::alert::counts::{AlertCounts, GivenUp, Untold};
use crate::alert::delivery::{self, Delivery, Next, Outcome, Ticket};
use crate::alert::policy::AlertPolicy;
use crate::clock::Moment;

/// How many alerts wait at the most.
pub const QUEUE: usize = delivery::WAITING;
/// How many incidents are remembered of which nothing waits.
pub const KEYS: usize = delivery::KEYS;
/// How many alerts that were given up are shown by [`AlertQueue::untold`].
pub const GIVEN_UP: usize = delivery::GIVEN_UP;
/// How many calls of an alerter may hang before the queue waits for one of them.
pub const HUNG: usize = delivery::HUNG;

/// The end of the queue that alerts go into. Cloning it gives another handle on the same queue.
///
/// When the last handle is dropped, nothing is repeated any more; the thread goes on until what
/// waits is delivered or stale, and ends. Nobody waits for that: a process that exits before takes
/// what waits with it.
#[derive(Clone, Debug)]
pub struct AlertQueue {
    handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    delivery: Mutex<Delivery>,
    changed: Condvar,
    origin: Instant,
}

impl AlertQueue {
    /// Starts the alert thread. Each call of the alerter gets a thread of its own, too.
    ///
    /// # Errors
    ///
    /// When the system gives no thread.
    #[expect(clippy::disallowed_methods, reason = "pauses and deadlines go by the system's time")]
    pub fn start(alerter: Arc<dyn Alerter>, policy: AlertPolicy) -> std::io::Result<Self> {
        let seed = RandomState::new().hash_one(0);
        let delivery = Mutex::new(Delivery::new(policy, seed));
        let shared = Shared { delivery, changed: Condvar::new(), origin: Instant::now() };
        let shared = Arc::new(shared);
        let theirs = Arc::clone(&shared);
        thread::Builder::new()
            .name("pilotage-alerts".into())
            .spawn(move || deliver(&theirs, &alerter))?;
        Ok(Self { handle: Arc::new(Handle(shared)) })
    }

    /// Queues an alert. Never waits for the alerter, whatever it does.
    pub fn send(&self, alert: Alert) {
        let shared = &self.handle.0;
        shared.delivery.lock().send(shared.now(), alert);
        shared.changed.notify_one();
    }

    /// What became of the alerts so far.
    #[must_use]
    pub fn counts(&self) -> AlertCounts {
        let shared = &self.handle.0;
        shared.delivery.lock().counts(shared.now())
    }

    /// What people could not be told of: the last [`GIVEN_UP`] alerts that were given up, and those
    /// that wait and have failed or waited for a second, each oldest first.
    #[must_use]
    pub fn untold(&self) -> Vec<Untold> {
        let shared = &self.handle.0;
        shared.delivery.lock().untold(shared.now())
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.delivery.lock().close();
        self.0.changed.notify_one();
    }
}

impl Shared {
    fn now(&self) -> Moment {
        Moment::ZERO.after(self.origin.elapsed())
    }

    fn ended(&self, ticket: Ticket, outcome: Outcome) {
        self.delivery.lock().ended(self.now(), ticket, outcome);
        self.changed.notify_one();
    }
}

/// The alert thread. It only waits and hands out calls: it must notice when one takes too long.
fn deliver(shared: &Arc<Shared>, alerter: &Arc<dyn Alerter>) {
    let mut delivery = shared.delivery.lock();
    loop {
        let now = shared.now();
        match delivery.next(now) {
            Next::Call(alert, ticket) => {
                MutexGuard::unlocked(&mut delivery, || call(shared, alerter, alert, ticket));
            }
            Next::Wait(None) => shared.changed.wait(&mut delivery),
            Next::Wait(Some(until)) => {
                shared.changed.wait_for(&mut delivery, until.since(now));
            }
            Next::Done => return,
        }
    }
}

/// Calls the alerter on a thread that may be left behind.
fn call(shared: &Arc<Shared>, alerter: &Arc<dyn Alerter>, alert: Box<Alert>, ticket: Ticket) {
    let (theirs, alerter) = (Arc::clone(shared), Arc::clone(alerter));
    let spawned = thread::Builder::new().name("pilotage-alert".into()).spawn(move || {
        let ended = catch_unwind(AssertUnwindSafe(|| alerter.alert(&alert)));
        let outcome = match &ended {
            Ok(Ok(())) => Outcome::Told,
            Ok(Err(error)) => Outcome::Refused(error.to_string()),
            Err(panic) => {
                let text = panic.downcast_ref::<&str>().copied();
                let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
                Outcome::Unclear(
                    text.map_or("it panicked".into(), |text| format!("it panicked: {text}")),
                )
            }
        };
        theirs.ended(ticket, outcome);
    });
    if let Err(error) = spawned {
        shared.ended(ticket, Outcome::Refused(format!("no thread for the call: {error}")));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Duration;

    use super::*;
    use crate::alert::alert::Severity;
    use crate::alert::alerter::{AlertError, FnAlerter};
    use crate::ids::Name;

    fn alert(key: &str) -> Alert {
        Alert::new(key, Severity::Critical, Name::new("r").unwrap(), Moment::ZERO, "s")
    }

    /// Waits without turning: for a channel that nothing is sent into.
    fn wait(span: Duration) {
        let (_keep, never) = channel::<()>();
        let _ = never.recv_timeout(span);
    }

    fn wait_for(what: impl Fn() -> bool) {
        for _ in 0..1_000 {
            if what() {
                return;
            }
            wait(Duration::from_millis(10));
        }
        panic!("it did not happen within ten seconds");
    }

    fn is_next(told: &Receiver<String>, key: &str) -> bool {
        told.recv_timeout(Duration::from_secs(10)).is_ok_and(|told| told == key)
    }

    #[derive(Default)]
    struct Flaky {
        up: AtomicBool,
        told: Mutex<Vec<String>>,
    }

    impl Alerter for Flaky {
        fn alert(&self, alert: &Alert) -> Result<(), AlertError> {
            if !self.up.load(Ordering::SeqCst) {
                return Err(AlertError::new("connection refused"));
            }
            self.told.lock().push(alert.to_string());
            Ok(())
        }
    }

    #[test]
    fn a_receiver_that_was_down_for_a_second_hears_of_everything() {
        let receiver = Arc::new(Flaky::default());
        let queue = AlertQueue::start(receiver.clone(), AlertPolicy::default()).unwrap();
        (0..20).for_each(|key| queue.send(alert(&key.to_string())));
        wait(Duration::from_secs(1));
        let untold = queue.untold();
        assert_eq!(untold.len(), 20);
        assert!(untold[0].attempts > 1, "{untold:?}");
        assert!(untold[0].last_error.as_ref().unwrap().contains("connection refused"));
        receiver.up.store(true, Ordering::SeqCst);
        wait_for(|| queue.counts().delivered == 20);
        assert!(queue.untold().is_empty() && queue.counts().oldest_waiting_seconds.is_none());
        assert_eq!(receiver.told.lock().len(), 20, "each of them once");
    }

    #[test]
    fn a_queue_that_nobody_holds_delivers_what_waits_and_ends() {
        let receiver = Arc::new(Flaky::default());
        let queue = AlertQueue::start(receiver.clone(), AlertPolicy::default()).unwrap();
        let other = queue.clone();
        drop(queue);
        other.send(alert("disk"));
        wait_for(|| other.counts().failed_calls > 0);
        drop(other);
        receiver.up.store(true, Ordering::SeqCst);
        wait_for(|| receiver.told.lock().len() == 1);
        wait_for(|| Arc::strong_count(&receiver) == 1);
    }

    #[test]
    fn what_goes_on_is_repeated_and_what_happened_is_not() {
        let (sender, told) = channel();
        let alerter = FnAlerter::new(move |alert| sender.send(alert.key.clone()).unwrap());
        let policy = AlertPolicy::new(Duration::from_millis(200), 30);
        let queue = AlertQueue::start(Arc::new(alerter), policy).unwrap();
        queue.send(alert("rolled back").once());
        queue.send(alert("disk"));
        let heard: Vec<_> = (0..4).map(|_| told.recv_timeout(Duration::from_secs(5))).collect();
        let of = |key: &str| heard.iter().filter(|told| told.as_deref() == Ok(key)).count();
        assert_eq!((of("disk"), of("rolled back")), (3, 1));
    }

    /// Says that it was called, and hangs where the key is "hang" until something comes.
    struct Hangs {
        release: Mutex<Receiver<()>>,
        told: Sender<String>,
    }

    impl Alerter for Hangs {
        fn alert(&self, alert: &Alert) -> Result<(), AlertError> {
            self.told.send(alert.key.clone()).map_err(AlertError::new)?;
            if alert.key.starts_with("hang") {
                let _ = self.release.lock().recv();
            }
            Ok(())
        }
    }

    fn hangs(deadline: Duration) -> (AlertQueue, Receiver<String>, Sender<()>) {
        let (told, heard) = channel();
        let (release, held) = channel();
        let alerter = Hangs { release: Mutex::new(held), told };
        let policy = AlertPolicy::default().call_deadline(deadline);
        (AlertQueue::start(Arc::new(alerter), policy).unwrap(), heard, release)
    }

    #[test]
    fn an_alerter_that_never_returns_delays_no_send_and_loses_nothing_critical() {
        let (queue, heard, _hold) = hangs(Duration::from_secs(30));
        queue.send(alert("hang"));
        assert!(is_next(&heard, "hang"));
        let mut lesser = alert("");
        lesser.severity = Severity::Info;
        for n in 0..2 * QUEUE {
            lesser.key = n.to_string();
            queue.send(lesser.clone());
            queue.send(alert("rolled back"));
        }
        let counts = queue.counts();
        assert_eq!((counts.lost, counts.delivered, counts.waiting), (0, 0, 32));
    }

    #[test]
    fn a_critical_alert_reaches_a_second_call_while_the_first_hangs() {
        let (queue, heard, release) = hangs(Duration::from_millis(300));
        queue.send(alert("hang"));
        assert!(is_next(&heard, "hang"));
        queue.send(alert("rolled back"));
        assert!(is_next(&heard, "rolled back"));
        wait_for(|| queue.counts().delivered == 1);
        assert!(queue.counts().hung >= 1);
        // What hung returns, and counts.
        release.send(()).unwrap();
        release.send(()).unwrap();
        wait_for(|| queue.counts().hung == 0 && queue.counts().waiting == 0);
        assert!(queue.counts().delivered >= 2);
    }

    #[test]
    fn at_most_a_stated_number_of_calls_hang() {
        let (queue, heard, _hold) = hangs(Duration::from_millis(20));
        (0..20).for_each(|n| queue.send(alert(&format!("hang {n}"))));
        wait_for(|| queue.counts().hung == HUNG);
        wait(Duration::from_millis(300));
        assert_eq!((queue.counts().hung, heard.try_iter().count()), (HUNG, HUNG));
        assert_eq!(queue.counts().waiting, 20);
    }

    #[test]
    fn a_panicking_alerter_is_a_failing_one_and_ends_nothing() {
        struct Bomb(AtomicUsize);
        impl Alerter for Bomb {
            fn alert(&self, alert: &Alert) -> Result<(), AlertError> {
                let first = self.0.fetch_add(1, Ordering::SeqCst) < 2;
                if alert.key == "0" && first { panic!("as the test wants it") } else { Ok(()) }
            }
        }
        let queue =
            AlertQueue::start(Arc::new(Bomb(AtomicUsize::new(0))), AlertPolicy::default()).unwrap();
        queue.send(alert("0"));
        wait_for(|| queue.counts().failed_calls > 0);
        queue.send(alert("1"));
        wait_for(|| queue.counts().delivered == 2);
        assert!(queue.counts().failed_calls >= 1 && queue.untold().is_empty());
    }

    #[test]
    fn an_alerter_may_call_back_into_the_queue() {
        let own: Arc<Mutex<Option<AlertQueue>>> = Arc::default();
        let (theirs, (sender, told)) = (Arc::clone(&own), channel());
        let alerter = move |alert: &Alert| {
            let queue = theirs.lock().clone().expect("it was set before the first alert");
            let seen = queue.counts().waiting;
            if alert.key == "disk" {
                queue.send(self::alert("second"));
            }
            sender.send(seen).unwrap();
        };
        let queue = AlertQueue::start(Arc::new(alerter), AlertPolicy::default()).unwrap();
        *own.lock() = Some(queue.clone());
        queue.send(alert("disk"));
        for _ in 0..2 {
            assert_eq!(told.recv_timeout(Duration::from_secs(5)), Ok(1));
        }
        own.lock().take();
    }

    #[test]
    fn the_same_news_is_told_once() {
        let queue =
            AlertQueue::start(Arc::new(FnAlerter(|_: &Alert| ())), AlertPolicy::default()).unwrap();
        (0..10).for_each(|_| queue.send(alert("disk")));
        wait_for(|| queue.counts().suppressed == 9 && queue.counts().waiting == 0);
        assert_eq!(queue.counts().delivered, 1);
    }
}
