//! One incident, one alert.

use std::collections::VecDeque;
use std::time::Duration;

use crate::alert::alert::Alert;
use crate::clock::Moment;

/// Decides which alerts are news.
///
/// An alert with a key that was sent within `repeat_after` is the same news and is suppressed; a
/// resolve is passed on if its incident was sent, and forgets it. Beyond `burst` alerts in a
/// minute further ones are suppressed too, whatever their key. Suppressed alerts are counted.
/// At most [`AlertPolicy::KEYS`] incidents are remembered; the oldest is forgotten first.
#[derive(Clone, Debug)]
pub struct AlertPolicy {
    repeat_after: Duration,
    burst: usize,
    open: VecDeque<(String, Moment)>,
    recent: VecDeque<Moment>,
    suppressed: u64,
}

impl AlertPolicy {
    /// How many incidents are remembered.
    pub const KEYS: usize = 256;

    /// A policy that repeats an incident after `repeat_after` and sends at most `burst` alerts in
    /// any minute (at least one).
    #[must_use]
    pub fn new(repeat_after: Duration, burst: usize) -> Self {
        Self {
            repeat_after,
            burst: burst.max(1),
            open: VecDeque::new(),
            recent: VecDeque::new(),
            suppressed: 0,
        }
    }

    /// Whether `alert` is news at `now`.
    pub fn admit(&mut self, now: Moment, alert: &Alert) -> bool {
        let known = self.open.iter().position(|(key, _)| *key == alert.key);
        let news = match known {
            Some(at) if alert.resolved => {
                self.open.remove(at);
                true
            }
            None if alert.resolved => false,
            Some(at) => now.since(self.open[at].1) >= self.repeat_after,
            None => true,
        };
        while self.recent.front().is_some_and(|sent| now.since(*sent) >= MINUTE) {
            self.recent.pop_front();
        }
        if !news || self.recent.len() >= self.burst {
            self.suppressed += 1;
            return false;
        }
        self.recent.push_back(now);
        if !alert.resolved {
            self.open.retain(|(key, _)| *key != alert.key);
            self.open.push_back((alert.key.clone(), now));
            if self.open.len() > Self::KEYS {
                self.open.pop_front();
            }
        }
        true
    }

    /// How many alerts were not news.
    #[must_use]
    pub const fn suppressed(&self) -> u64 {
        self.suppressed
    }
}

impl Default for AlertPolicy {
    /// Repeats an incident after an hour, and sends at most 30 alerts a minute.
    fn default() -> Self {
        Self::new(Duration::from_secs(3600), 30)
    }
}

const MINUTE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::alert::Severity;
    use crate::ids::Name;

    fn alert(key: &str) -> Alert {
        Alert::new(key, Severity::Critical, Name::new("r").unwrap(), Moment::ZERO, "s")
    }

    #[test]
    fn the_same_incident_is_told_once_an_hour() {
        let mut policy = AlertPolicy::default();
        let told: Vec<u64> = (0..7200)
            .step_by(10)
            .filter(|second| policy.admit(Moment::from_secs(*second), &alert("a")))
            .collect();
        assert_eq!(told, [0, 3600]);
        assert_eq!(policy.suppressed(), 718);
    }

    #[test]
    fn an_incident_that_is_over_may_come_back() {
        let mut policy = AlertPolicy::default();
        let now = Moment::from_secs(1);
        assert!(!policy.admit(now, &alert("a").resolve()), "nothing was open");
        assert!(policy.admit(now, &alert("a")));
        assert!(policy.admit(now, &alert("a").resolve()));
        assert!(policy.admit(now, &alert("a")));
    }

    #[test]
    fn a_storm_of_different_keys_is_bounded() {
        let mut policy = AlertPolicy::new(Duration::ZERO, 3);
        let sent =
            (0..1_000).filter(|n| policy.admit(Moment::ZERO, &alert(&n.to_string()))).count();
        assert_eq!(sent, 3);
        assert!(policy.admit(Moment::from_secs(60), &alert("later")));
        assert!(policy.open.len() <= AlertPolicy::KEYS);
    }
}
