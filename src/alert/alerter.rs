//! Who tells people.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};

use crate::alert::alert::{Alert, Severity};

/// Tells people.
///
/// A user's own takes a few lines:
///
/// ```
/// use pilotage::alert::{Alert, Alerter};
/// use pilotage::alert::alerter::AlertError;
///
/// struct Pager;
///
/// impl Alerter for Pager {
///     fn alert(&self, alert: &Alert) -> Result<(), AlertError> {
///         page_whoever_is_on_call(&alert.to_string()).map_err(AlertError::new)
///     }
/// }
/// # fn page_whoever_is_on_call(_: &str) -> Result<(), std::io::Error> { Ok(()) }
/// ```
pub trait Alerter: Send + Sync {
    /// Tells people of `alert`.
    ///
    /// Called by an [`AlertQueue`](crate::control::alert_queue::AlertQueue) on a thread of its own,
    /// never from a request handler and never under a lock; so it may block, and it may call back
    /// into the crate. A rollback never waits for it.
    ///
    /// One call is made at a time, and it has a deadline (30 seconds, unless the
    /// [`AlertPolicy`](crate::alert::policy::AlertPolicy) says otherwise). A call that takes longer
    /// is left to itself and counted as hung, and the queue goes on beside it: so calls may overlap
    /// while one hangs. If it returns `Ok` after all, its alert counts as delivered. Delivery is
    /// *at least once*: people may be told twice of what was offered again meanwhile.
    ///
    /// # Errors
    ///
    /// When people were not told. The alert is offered again, less and less often but at least
    /// once a minute, until it is delivered or stale; if its incident is over before that, people
    /// hear of neither. A panic is caught and counts as a failure that may have told people.
    fn alert(&self, alert: &Alert) -> Result<(), AlertError>;
}

/// Why people could not be told.
#[derive(Debug, thiserror::Error)]
#[error("alert not delivered: {reason}")]
pub struct AlertError {
    reason: String,
}

impl AlertError {
    /// An error with its reason.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "so that it fits `map_err`")]
    pub fn new(reason: impl ToString) -> Self {
        Self { reason: reason.to_string() }
    }
}

/// Writes each alert as one line to standard error. The default.
#[derive(Clone, Copy, Debug, Default)]
pub struct StderrAlerter;

impl Alerter for StderrAlerter {
    fn alert(&self, alert: &Alert) -> Result<(), AlertError> {
        use std::io::Write;
        writeln!(std::io::stderr().lock(), "{alert}").map_err(AlertError::new)
    }
}

/// Hands each alert to a function, for example one that writes to the host's log.
///
/// ```
/// use pilotage::alert::alerter::FnAlerter;
///
/// let log = FnAlerter::new(|alert| eprintln!("{}: {}", alert.key, alert.summary));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct FnAlerter<F>(pub F);

impl<F: Fn(&Alert) + Send + Sync> FnAlerter<F> {
    /// Hands each alert to `tell`, which cannot fail.
    pub const fn new(tell: F) -> Self {
        Self(tell)
    }
}

impl<F: Fn(&Alert) + Send + Sync> Alerter for FnAlerter<F> {
    fn alert(&self, alert: &Alert) -> Result<(), AlertError> {
        (self.0)(alert);
        Ok(())
    }
}

/// A plain function is an alerter, too: `|alert: &Alert| ..`.
impl<F: Fn(&Alert) + Send + Sync> Alerter for F {
    fn alert(&self, alert: &Alert) -> Result<(), AlertError> {
        self(alert);
        Ok(())
    }
}

/// Puts each alert into a bounded channel; a full or closed one is an error.
#[derive(Clone, Debug)]
pub struct ChannelAlerter(pub SyncSender<Alert>);

impl Alerter for ChannelAlerter {
    fn alert(&self, alert: &Alert) -> Result<(), AlertError> {
        self.0.try_send(alert.clone()).map_err(|error| match error {
            TrySendError::Full(_) => AlertError::new("the channel is full; receive from it"),
            TrySendError::Disconnected(_) => AlertError::new("nobody receives from the channel"),
        })
    }
}

/// Tells all of several alerters; fails if any fails, after all were told.
#[derive(Clone, Default)]
pub struct FanOut(pub Vec<Arc<dyn Alerter>>);

impl std::fmt::Debug for FanOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FanOut({} alerters)", self.0.len())
    }
}

impl Alerter for FanOut {
    fn alert(&self, alert: &Alert) -> Result<(), AlertError> {
        let failed: Vec<String> = self
            .0
            .iter()
            .filter_map(|alerter| alerter.alert(alert).err())
            .map(|error| error.reason)
            .collect();
        if failed.is_empty() { Ok(()) } else { Err(AlertError::new(failed.join("; "))) }
    }
}

/// Passes on alerts of at least one severity.
#[derive(Clone, Copy, Debug)]
pub struct AtLeast<A> {
    /// The lowest severity that passes.
    pub severity: Severity,
    /// Who is told of the rest.
    pub inner: A,
}

impl<A: Alerter> Alerter for AtLeast<A> {
    fn alert(&self, alert: &Alert) -> Result<(), AlertError> {
        if alert.severity >= self.severity { self.inner.alert(alert) } else { Ok(()) }
    }
}

impl<A: Alerter + ?Sized> Alerter for Arc<A> {
    fn alert(&self, alert: &Alert) -> Result<(), AlertError> {
        (**self).alert(alert)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;
    use crate::clock::Moment;
    use crate::ids::Name;

    fn alert(severity: Severity) -> Alert {
        Alert::new("k", severity, Name::new("r").unwrap(), Moment::ZERO, "it broke")
    }

    #[test]
    fn a_full_channel_is_an_error_and_not_a_wait() {
        let (sender, receiver) = sync_channel(1);
        let alerter = ChannelAlerter(sender);
        alerter.alert(&alert(Severity::Info)).unwrap();
        let error = alerter.alert(&alert(Severity::Info)).unwrap_err();
        assert!(error.to_string().contains("full"), "{error}");
        drop(receiver);
        let error = alerter.alert(&alert(Severity::Info)).unwrap_err();
        assert!(error.to_string().contains("nobody"), "{error}");
    }

    #[test]
    fn one_failing_alerter_does_not_silence_the_others() {
        let (sender, receiver) = sync_channel(4);
        let (closed, _) = sync_channel(1);
        let all = FanOut(vec![Arc::new(ChannelAlerter(closed)), Arc::new(ChannelAlerter(sender))]);
        assert!(all.alert(&alert(Severity::Critical)).is_err());
        assert_eq!(receiver.try_recv().unwrap().summary, "it broke");
    }

    #[test]
    fn a_filter_lets_the_severe_through() {
        let (sender, receiver) = sync_channel(4);
        let filter = AtLeast { severity: Severity::Warning, inner: ChannelAlerter(sender) };
        filter.alert(&alert(Severity::Info)).unwrap();
        filter.alert(&alert(Severity::Critical)).unwrap();
        assert_eq!(receiver.try_iter().count(), 1);
    }
}
