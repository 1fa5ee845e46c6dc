//! How often people are told, and for how long it is tried.

use std::time::Duration;

/// How often people are told of one incident, how many lesser alerts they get, and for how long an
/// alert is offered to an alerter that fails.
///
/// It is a value; an [`AlertQueue`](crate::control::alert_queue::AlertQueue) acts on it and states
/// the rules.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AlertPolicy {
    pub(crate) repeat_after: Duration,
    pub(crate) burst: usize,
    pub(crate) stale_after: Duration,
    pub(crate) call_deadline: Duration,
}

impl AlertPolicy {
    /// The largest burst: a larger one counts as this one.
    pub const MOST_BURST: usize = 10_000;

    /// A policy that repeats what goes on every `repeat_after`, and lets at most `burst` lesser
    /// alerts through in any minute (at least one).
    ///
    /// With `repeat_after` of zero nothing is repeated by itself, and whatever is sent is news.
    /// Critical alerts and resolves are no part of the burst.
    #[must_use]
    pub fn new(repeat_after: Duration, burst: usize) -> Self {
        Self {
            repeat_after,
            burst: burst.clamp(1, Self::MOST_BURST),
            stale_after: Duration::from_secs(24 * 3600),
            call_deadline: Duration::from_secs(30),
        }
    }

    /// For how long an alert is offered before it is given up as stale (at least a second). The
    /// default is 24 hours.
    #[must_use]
    pub fn stale_after(mut self, after: Duration) -> Self {
        self.stale_after = after.max(Duration::from_secs(1));
        self
    }

    /// How long one call of the alerter may take (at least a millisecond) before it is left to
    /// itself and counted as hung. The default is 30 seconds.
    #[must_use]
    pub fn call_deadline(mut self, deadline: Duration) -> Self {
        self.call_deadline = deadline.max(Duration::from_millis(1));
        self
    }
}

impl Default for AlertPolicy {
    /// Repeats what goes on every 4 hours, and lets at most 30 lesser alerts through in a minute.
    fn default() -> Self {
        Self::new(Duration::from_secs(4 * 3600), 30)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_without_room_or_time_still_tells_people() {
        let none = AlertPolicy::new(Duration::ZERO, 0)
            .stale_after(Duration::ZERO)
            .call_deadline(Duration::ZERO);
        assert_eq!(none.burst, 1);
        assert!(none.stale_after > Duration::ZERO && none.call_deadline > Duration::ZERO);
        let most = AlertPolicy::new(Duration::ZERO, usize::MAX);
        assert_eq!(most.burst, AlertPolicy::MOST_BURST);
    }
}
