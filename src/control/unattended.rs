//! Sees to candidates that nobody looks after.
//!
//! A rollout needs somebody who ticks it: a driver, or a loop of the host's. Where that is gone (a
//! driver that was dropped, a thread that hangs, a loop that nobody wrote) its guardrails are blind.
//! One thread for all rollouts of a process looks whether each was looked at lately, and takes the
//! candidate back where it was not. Requests know nothing of it.

use std::sync::{Arc, OnceLock, Weak};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// Something that must be looked at now and then.
pub(super) trait Attended: Send + Sync {
    /// Takes back what nobody looks after; must not wait. Says in how long to ask again, `None` for
    /// never.
    fn attend(self: Arc<Self>) -> Option<Duration>;
}

/// When something was looked at last.
#[derive(Debug)]
pub(super) struct LastLook(Mutex<Instant>);

impl LastLook {
    pub(super) fn now() -> Self {
        Self(Mutex::new(now()))
    }

    pub(super) fn renew(&self) {
        *self.0.lock() = now();
    }

    pub(super) fn age(&self) -> Duration {
        self.0.lock().elapsed()
    }
}

#[derive(Default)]
struct Attendant {
    those: Mutex<Vec<Weak<dyn Attended>>>,
    more: Condvar,
}

/// Looks after `one` from now on, until it is dropped or says that it is done.
///
/// # Errors
///
/// When the system gives no thread.
pub(super) fn attend(one: Weak<dyn Attended>) -> std::io::Result<()> {
    static ATTENDANT: OnceLock<Arc<Attendant>> = OnceLock::new();
    static STARTED: Mutex<bool> = Mutex::new(false);
    let attendant = ATTENDANT.get_or_init(Arc::default);
    {
        let mut started = STARTED.lock();
        if !*started {
            let theirs = Arc::clone(attendant);
            let name = "pilotage-attendant".to_owned();
            thread::Builder::new().name(name).spawn(move || look_after(&theirs))?;
            *started = true;
        }
    }
    attendant.those.lock().push(one);
    attendant.more.notify_all();
    Ok(())
}

fn look_after(attendant: &Attendant) {
    loop {
        // Not held while anything is taken back.
        let those = std::mem::take(&mut *attendant.those.lock());
        let mut next = None;
        let mut left = Vec::with_capacity(those.len());
        for one in those {
            let Some(strong) = one.upgrade() else { continue };
            if let Some(wait) = strong.attend() {
                next = Some(next.map_or(wait, |next: Duration| next.min(wait)));
                left.push(one);
            }
        }
        let mut those = attendant.those.lock();
        let new = !those.is_empty();
        those.append(&mut left);
        match next {
            _ if new => {}
            None => attendant.more.wait(&mut those),
            Some(wait) => {
                let _ = attendant.more.wait_for(&mut those, wait.clamp(SHORTEST, LONGEST));
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "whether anybody looks is about this machine")]
fn now() -> Instant {
    Instant::now()
}

const SHORTEST: Duration = Duration::from_millis(5);
const LONGEST: Duration = Duration::from_secs(5);
