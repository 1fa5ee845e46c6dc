//! Page and Hinkley's alarm for a shifted mean.
//!
//! Not a test with a stated error rate: on a stream without end it raises false alarms, at a rate
//! that depends on `delta`, `threshold` and the values. Use it to notice drift, not to promote or
//! roll back. After a detection it starts anew, so one lasting shift under a low threshold can ring
//! more than once.
//!
//! Values may be any finite numbers up to 1e100 in size; they are assumed independent, with
//! `threshold` and `delta` on their scale. Memory is constant.
//!
//! Source: Page, "Continuous inspection schemes", Biometrika 41 (1954); Hinkley, Biometrika 58
//! (1971); forgetting and minimum as in Gama et al., ACM Computing Surveys 46 (2014).

use super::check::{in_range, positive};
use super::error::StatsError;

/// Settings of a [`PageHinkley`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PageHinkleySettings {
    /// No alarm before so many values.
    pub min_instances: u64,
    /// The shift that is tolerated, on the scale of the values; at least 0.
    pub delta: f64,
    /// The sum of deviations that raises an alarm; above 0.
    pub threshold: f64,
    /// What is kept of the sum at each step, in `(0, 1]`; 1 forgets nothing.
    pub alpha: f64,
}

impl Default for PageHinkleySettings {
    fn default() -> Self {
        Self { min_instances: 30, delta: 0.005, threshold: 50.0, alpha: 0.9999 }
    }
}

/// Watches a stream of values for a shift of its mean, up or down.
#[derive(Clone, Debug, PartialEq)]
pub struct PageHinkley {
    settings: PageHinkleySettings,
    seen: u64,
    mean: f64,
    rise: f64,
    lowest_rise: f64,
    fall: f64,
    highest_fall: f64,
}

impl PageHinkley {
    /// An alarm that has seen nothing.
    ///
    /// # Errors
    ///
    /// [`StatsError`] when a setting is out of its range.
    pub fn new(settings: PageHinkleySettings) -> Result<Self, StatsError> {
        in_range("delta", settings.delta, 0.0, 1e100, "at least 0")?;
        positive("threshold", settings.threshold)?;
        positive("alpha", settings.alpha)?;
        in_range("alpha", settings.alpha, 0.0, 1.0, "above 0 and at most 1")?;
        Ok(Self {
            settings,
            seen: 0,
            mean: 0.0,
            rise: 0.0,
            lowest_rise: f64::INFINITY,
            fall: 0.0,
            highest_fall: f64::NEG_INFINITY,
        })
    }

    /// Takes in one more value; `true` when a shift has just been found, after which the alarm
    /// starts anew.
    ///
    /// # Errors
    ///
    /// [`StatsError`] when `value` is not finite or larger than 1e100; nothing changes then.
    pub fn push(&mut self, value: f64) -> Result<bool, StatsError> {
        in_range("value", value, -1e100, 1e100, "at most 1e100 in size")?;
        let PageHinkleySettings { min_instances, delta, threshold, alpha } = self.settings;
        self.seen += 1;
        self.mean += (value - self.mean) / self.seen as f64;
        self.rise = self.rise * alpha + (value - self.mean - delta);
        self.fall = self.fall * alpha + (value - self.mean + delta);
        self.lowest_rise = self.lowest_rise.min(self.rise);
        self.highest_fall = self.highest_fall.max(self.fall);
        let moved =
            self.rise - self.lowest_rise > threshold || self.highest_fall - self.fall > threshold;
        let detected = moved && self.seen >= min_instances;
        if detected {
            *self = Self::new(self.settings)?;
        }
        Ok(detected)
    }

    /// All that is not a setting, bit for bit, for a state that is stored.
    pub(crate) fn words(&self) -> Vec<u64> {
        let numbers = [self.mean, self.rise, self.lowest_rise, self.fall, self.highest_fall];
        [self.seen].into_iter().chain(numbers.map(f64::to_bits)).collect()
    }

    /// The same settings with what [`Self::words`] gave; `None` where that cannot be.
    pub(crate) fn with_words(mut self, words: &[u64]) -> Option<Self> {
        let &[seen, mean, rise, lowest, fall, highest] = words else { return None };
        let numbers = [mean, rise, lowest, fall, highest].map(f64::from_bits);
        if seen == 0 {
            return (words == Self::new(self.settings).ok()?.words()).then_some(self);
        }
        if !numbers.iter().all(|number| number.is_finite()) {
            return None;
        }
        self.seen = seen;
        [self.mean, self.rise, self.lowest_rise, self.fall, self.highest_fall] = numbers;
        (self.lowest_rise <= self.rise && self.highest_fall >= self.fall).then_some(self)
    }

    /// How many values have been seen since the start or the last detection.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shift_is_seen_in_either_direction_and_a_steady_stream_is_not() {
        let settings = PageHinkleySettings { threshold: 5.0, ..PageHinkleySettings::default() };
        for (after, expected) in [(0.9, 1), (0.1, 1), (0.5, 0)] {
            let mut alarm = PageHinkley::new(settings).unwrap();
            let mut alarms = 0;
            for at in 0..600 {
                let value = if at < 500 { 0.5 } else { after };
                alarms += usize::from(alarm.push(value).unwrap());
            }
            assert_eq!(alarms, expected, "shift to {after}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused_and_changes_nothing() {
        let mut alarm = PageHinkley::new(PageHinkleySettings::default()).unwrap();
        alarm.push(0.5).unwrap();
        let before = alarm.clone();
        for bad in [f64::NAN, f64::NEG_INFINITY, -1e101] {
            assert!(alarm.push(bad).is_err());
        }
        assert_eq!(alarm, before);
    }
}
