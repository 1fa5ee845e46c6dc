//! Where closed windows go: a dashboard, a time series, a log.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::observe::window::Window;

/// A sink that did not take a window.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the sink {sink} did not take a window: {reason}")]
pub struct SinkError {
    /// Which sink.
    pub sink: String,
    /// What went wrong, for people.
    pub reason: String,
}

/// Something that is told what was seen.
///
/// ```
/// use pilotage::ids::Arm;
/// use pilotage::observe::sink::{MetricsSink, SinkError};
/// use pilotage::observe::window::Window;
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// #[derive(Default)]
/// struct Failures(AtomicU64);
///
/// impl MetricsSink for Failures {
///     fn name(&self) -> &str {
///         "failures"
///     }
///     fn window(&self, window: &Window) -> Result<(), SinkError> {
///         let failed = window.arm(Arm::CANDIDATE).map_or(0, |arm| arm.failures());
///         self.0.fetch_add(failed, Ordering::Relaxed);
///         Ok(())
///     }
/// }
/// # Failures::default().window(&Window::default())?;
/// # Ok::<(), SinkError>(())
/// ```
pub trait MetricsSink: Send + Sync {
    /// Its name, in messages.
    fn name(&self) -> &str;

    /// Takes a window that has just closed.
    ///
    /// Called from a thread of its own where a pilot looks, from the thread that drains where
    /// [`Router::drain`] is called; never from a request and never under a lock of ours, in the
    /// order in which windows close. It may block: nothing waits for it then, and when more windows
    /// close than wait for it, the oldest go and are counted. A panic is caught and treated as an
    /// error.
    ///
    /// [`Router::drain`]: crate::serve::router::Router::drain
    ///
    /// # Errors
    ///
    /// [`SinkError`] when the window was not taken. It is counted and not offered again; the
    /// counts a snapshot holds are not touched by it.
    fn window(&self, window: &Window) -> Result<(), SinkError>;
}

impl<S: MetricsSink + ?Sized> MetricsSink for Arc<S> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn window(&self, window: &Window) -> Result<(), SinkError> {
        (**self).window(window)
    }
}

/// Keeps the last windows in memory.
#[derive(Debug)]
pub struct MemorySink {
    windows: Mutex<VecDeque<Window>>,
    most: usize,
}

impl MemorySink {
    /// Keeps the last `most` windows, at least one.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { windows: Mutex::default(), most: most.max(1) }
    }

    /// The windows kept, oldest first.
    #[must_use]
    pub fn windows(&self) -> Vec<Window> {
        self.windows.lock().iter().cloned().collect()
    }
}

impl Default for MemorySink {
    /// Keeps five minutes of windows.
    fn default() -> Self {
        Self::new(30)
    }
}

impl MetricsSink for MemorySink {
    fn name(&self) -> &str {
        "memory"
    }

    fn window(&self, window: &Window) -> Result<(), SinkError> {
        let mut windows = self.windows.lock();
        while windows.len() >= self.most {
            windows.pop_front();
        }
        windows.push_back(window.clone());
        Ok(())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::clock::Moment;

    #[test]
    fn the_memory_sink_keeps_the_last_windows() {
        let sink = MemorySink::new(2);
        for second in 1..=3 {
            let window = Window { to: Moment::from_secs(second), ..Window::default() };
            sink.window(&window).unwrap();
        }
        let kept: Vec<_> = sink.windows().iter().map(|window| window.to).collect();
        assert_eq!(kept, [Moment::from_secs(2), Moment::from_secs(3)]);
    }
}
