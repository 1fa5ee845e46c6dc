//! Tells metrics sinks, each on a thread of its own.
//!
//! A sink that blocks must hold up neither a decision nor another sink. So whoever drains hands the
//! closed windows over: at most [`WAITING`] wait for each sink, and beyond that the oldest goes and
//! is counted.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::observe::sink::MetricsSink;
use crate::observe::window::Window;
use crate::serve::catch::{caught, discard};

/// Windows that wait for one sink, at most.
pub const WAITING: usize = 64;

/// The sinks of a router.
pub(crate) struct SinkQueues {
    sinks: Vec<Arc<Queue>>,
}

struct Queue {
    sink: Arc<dyn MetricsSink>,
    state: Mutex<State>,
    changed: Condvar,
    errors: AtomicU64,
}

#[derive(Default)]
struct State {
    windows: VecDeque<Arc<Window>>,
    dropped: u64,
    begun: bool,
    closing: bool,
}

impl SinkQueues {
    pub(crate) fn new(sinks: Vec<Arc<dyn MetricsSink>>) -> Self {
        let queue = |sink| Queue {
            sink,
            state: Mutex::default(),
            changed: Condvar::new(),
            errors: AtomicU64::new(0),
        };
        Self { sinks: sinks.into_iter().map(|sink| Arc::new(queue(sink))).collect() }
    }

    /// Tells all sinks, on this thread.
    pub(crate) fn tell(&self, windows: &[Window]) {
        for window in windows {
            self.sinks.iter().for_each(|queue| queue.tell(window));
        }
    }

    /// Hands the windows over and waits for nobody.
    pub(crate) fn hand_over(&self, windows: Vec<Window>) {
        if self.sinks.is_empty() {
            return;
        }
        for window in windows.into_iter().map(Arc::new) {
            self.sinks.iter().for_each(|queue| queue.hand_over(Arc::clone(&window)));
        }
    }

    /// Windows a sink refused or panicked over.
    pub(crate) fn errors(&self) -> u64 {
        self.sinks.iter().map(|queue| queue.errors.load(Ordering::Relaxed)).sum()
    }

    /// Windows that went, since a sink was too slow for them.
    pub(crate) fn dropped(&self) -> u64 {
        self.sinks.iter().map(|queue| queue.state.lock().dropped).sum()
    }
}

impl Drop for SinkQueues {
    fn drop(&mut self) {
        for queue in &self.sinks {
            queue.state.lock().closing = true;
            queue.changed.notify_all();
        }
    }
}

impl Queue {
    fn tell(&self, window: &Window) {
        match caught(|| self.sink.window(window)) {
            Ok(Ok(())) => return,
            Ok(Err(_)) => {}
            Err(payload) => discard(payload),
        }
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    fn hand_over(self: &Arc<Self>, window: Arc<Window>) {
        let mut state = self.state.lock();
        if state.windows.len() == WAITING {
            state.windows.pop_front();
            state.dropped += 1;
        }
        state.windows.push_back(window);
        if !state.begun {
            let theirs = Arc::clone(self);
            let thread = thread::Builder::new().name("pilotage-sink".into());
            // Without a thread the windows wait, and the next one asks again.
            state.begun = thread.spawn(move || theirs.tell_all()).is_ok();
        }
        self.changed.notify_all();
    }

    fn tell_all(&self) {
        let mut state = self.state.lock();
        loop {
            match state.windows.pop_front() {
                Some(window) => MutexGuard::unlocked(&mut state, || self.tell(&window)),
                None if state.closing => return,
                None => self.changed.wait(&mut state),
            }
        }
    }
}

impl std::fmt::Debug for SinkQueues {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SinkQueues({} sinks)", self.sinks.len())
    }
}
