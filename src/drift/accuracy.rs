//! Whether a model is right as often as when it was deployed.

use serde::{Deserialize, Serialize};

use crate::drift::detector::RateDetector;
use crate::drift::error::{DriftError, within};
use crate::drift::watch::{DOUBT, upper_bound};
use crate::stats::adwin::{Adwin, AdwinSettings};
use crate::stats::interval::Interval;
use crate::stats::page_hinkley::{PageHinkley, PageHinkleySettings};
use crate::stats::special::{normal_isf, normal_sf};

/// How often a model was right, with how much its errors cluster.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    correct: u64,
    wrong: u64,
    design_effect: f64,
}

impl Accuracy {
    /// So many right and so many wrong, of independent requests.
    #[must_use]
    pub const fn new(correct: u64, wrong: u64) -> Self {
        Self { correct, wrong, design_effect: 1.0 }
    }

    /// The same for errors that come in clusters: their design effect, of
    /// [`design_effect`](crate::drift::dependence::design_effect). Without it every interval is too narrow
    /// on a stream of related labels, and every alarm too early.
    ///
    /// # Errors
    ///
    /// [`DriftError::OutOfRange`] unless it is from 1 to 1e9.
    pub fn clustered(mut self, design_effect: f64) -> Result<Self, DriftError> {
        self.design_effect = within("design effect", design_effect, (1.0, 1e9), "from 1 to 1e9")?;
        Ok(self)
    }

    /// Requests whose truth is known.
    #[must_use]
    pub const fn labelled(self) -> u64 {
        self.correct.saturating_add(self.wrong)
    }

    /// The part that was right, from 0 to 1; `None` without labels.
    #[must_use]
    pub fn rate(self) -> Option<f64> {
        let of = self.labelled();
        (of > 0).then(|| self.correct as f64 / of as f64)
    }

    /// The design effect.
    #[must_use]
    pub const fn design_effect(self) -> f64 {
        self.design_effect
    }

    /// Right and wrong.
    pub(crate) const fn counts(self) -> (u64, u64) {
        (self.correct, self.wrong)
    }

    /// Adds labels; the design effect stays.
    pub fn add(&mut self, correct: u64, wrong: u64) {
        self.correct = self.correct.saturating_add(correct);
        self.wrong = self.wrong.saturating_add(wrong);
    }

    /// Wilson's 95 % interval at the effective number of labels; `None` without labels.
    #[must_use]
    pub fn interval(self) -> Option<Interval> {
        let (rate, n, z) = (self.rate()?, self.effective(), normal_isf(0.025));
        let square = z * z / n;
        let middle = (rate + square / 2.0) / (1.0 + square);
        let half = z * (rate * (1.0 - rate) / n + square / (4.0 * n)).sqrt() / (1.0 + square);
        Some(Interval { lo: (middle - half).max(0.0), hi: (middle + half).min(1.0) })
    }

    /// One-sided p-value of "no worse than `then`"; 1 without labels on either side.
    pub(crate) fn fell_p(self, then: Self) -> f64 {
        let (Some(a), Some(b)) = (then.rate(), self.rate()) else { return 1.0 };
        let (n, m) = (then.effective(), self.effective());
        let pooled = (a * n + b * m) / (n + m);
        let variance = pooled * (1.0 - pooled) * (1.0 / n + 1.0 / m);
        if variance > 0.0 { normal_sf((a - b) / variance.sqrt()) } else { 1.0 }
    }

    /// The standard error of the rate.
    pub(crate) fn error(self) -> Option<f64> {
        let rate = self.rate()?;
        Some((rate * (1.0 - rate) / self.effective()).sqrt())
    }

    fn effective(self) -> f64 {
        self.labelled() as f64 / self.design_effect
    }
}

/// Which alarm watches the accuracy.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum AccuracyRule {
    /// The e-detector of [`RateDetector`], against the accuracy at deployment. The only one with a
    /// stated mean time between false alarms, in labels. The default.
    Detector {
        /// Labels between false alarms, on average, at least.
        labels_between: f64,
    },
    /// ADWIN. It knows nothing of the deployment: what declines slowly it takes for usual.
    Adwin(AdwinSettings),
    /// Page and Hinkley's. Its rate of false alarms depends on threshold and stream.
    PageHinkley(PageHinkleySettings),
}

impl Default for AccuracyRule {
    fn default() -> Self {
        Self::Detector { labels_between: 100_000.0 }
    }
}

/// Watches answers for errors that become more frequent.
///
/// ```
/// use pilotage::drift::accuracy::{Accuracy, AccuracyRule, AccuracyWatch};
///
/// let deployed = Accuracy::new(9_200, 800);
/// let mut watch = AccuracyWatch::new(deployed, AccuracyRule::default())?;
/// let falls = (1..).find(|_| watch.push(85, 15)).unwrap(); // 85 % in batches of 100
/// assert!((2..12).contains(&falls));
/// # Ok::<(), pilotage::drift::error::DriftError>(())
/// ```
#[derive(Clone, Debug)]
pub struct AccuracyWatch {
    deployed: Accuracy,
    rule: AccuracyRule,
    labels: u64,
    alarmed_at: Option<u64>,
    alarm: Alarm,
}

#[derive(Clone, Debug)]
enum Alarm {
    Detector(RateDetector),
    Adwin(Adwin),
    PageHinkley(PageHinkley),
}

impl AccuracyWatch {
    /// A watch against the accuracy at deployment.
    ///
    /// That accuracy is itself an estimate: the null is the upper 95 % bound of its error rate, and
    /// the threshold is raised by what that bound may be wrong, so that the mean time between false
    /// alarms holds over deployments too. Without labels at deployment there is no alarm, ever.
    ///
    /// # Errors
    ///
    /// [`DriftError`] when a setting is out of its range.
    pub fn new(deployed: Accuracy, rule: AccuracyRule) -> Result<Self, DriftError> {
        let alarm = match rule {
            AccuracyRule::Detector { labels_between } => {
                let effect = deployed.design_effect;
                let (wrong, of) = (deployed.wrong as f64 / effect, deployed.effective());
                let null = upper_bound(wrong, of, DOUBT);
                let threshold = labels_between / (1.0 - DOUBT);
                Alarm::Detector(RateDetector::dependent(null, threshold, effect)?)
            }
            AccuracyRule::Adwin(settings) => Alarm::Adwin(Adwin::new(settings)?),
            AccuracyRule::PageHinkley(settings) => Alarm::PageHinkley(PageHinkley::new(settings)?),
        };
        Ok(Self { deployed, rule, labels: 0, alarmed_at: None, alarm })
    }

    /// Takes in a batch of labels; true from the batch that raised the alarm until [`Self::reset`].
    /// The rules that depend on the order within a batch are given one that spreads the errors evenly.
    pub fn push(&mut self, correct: u64, wrong: u64) -> bool {
        let labels = correct.saturating_add(wrong);
        let before = self.labels;
        self.labels = self.labels.saturating_add(labels);
        let found = match &mut self.alarm {
            Alarm::Detector(detector) => detector.push(wrong, labels).then_some(self.labels),
            Alarm::Adwin(adwin) => spread(wrong, labels, |error| {
                let mean = adwin.mean();
                // A window that shrinks because errors became rarer is no alarm.
                adwin.push(error).is_ok_and(|found| found && adwin.mean() > mean)
            })
            .map(|at| before + at),
            Alarm::PageHinkley(page) => {
                spread(wrong, labels, |error| page.push(error).is_ok_and(|found| found))
                    .map(|at| before + at)
            }
        };
        self.alarmed_at = self.alarmed_at.or(found);
        self.alarmed_at.is_some()
    }

    /// After how many labels the alarm was raised, if it was.
    #[must_use]
    pub const fn alarmed_at(&self) -> Option<u64> {
        self.alarmed_at
    }

    /// Evidence of the detector, in labels: the alarm is raised when it reaches the stated mean between
    /// false alarms over 0.95. `None` for the other rules.
    #[must_use]
    pub fn evidence(&self) -> Option<f64> {
        match &self.alarm {
            Alarm::Detector(detector) => Some(detector.evidence()),
            Alarm::Adwin(_) | Alarm::PageHinkley(_) => None,
        }
    }

    /// The accuracy at deployment.
    #[must_use]
    pub const fn deployed(&self) -> Accuracy {
        self.deployed
    }

    /// All that is not a setting, for a state that is stored.
    pub(crate) fn words(&self) -> Vec<u64> {
        let mut words = vec![self.labels];
        words.extend(self.alarmed_at.map_or([0, 0], |at| [1, at]));
        words.extend(match &self.alarm {
            Alarm::Detector(detector) => detector.words(),
            Alarm::Adwin(adwin) => adwin.words(),
            Alarm::PageHinkley(page) => page.words(),
        });
        words
    }

    /// The same settings with what [`Self::words`] gave; `None` where that cannot be.
    pub(crate) fn with_words(mut self, words: &[u64]) -> Option<Self> {
        let (head, rest) = words.split_at_checked(3)?;
        self.labels = head[0];
        self.alarmed_at = match (head[1], head[2]) {
            (0, 0) => None,
            (1, at) if at <= self.labels => Some(at),
            _ => return None,
        };
        self.alarm = match self.alarm {
            Alarm::Detector(detector) => Alarm::Detector(detector.with_words(rest)?),
            Alarm::Adwin(adwin) => Alarm::Adwin(adwin.with_words(rest)?),
            Alarm::PageHinkley(page) => Alarm::PageHinkley(page.with_words(rest)?),
        };
        Some(self)
    }

    /// Begins anew: no evidence, no alarm.
    pub fn reset(&mut self) {
        // The settings were good once.
        if let Ok(new) = Self::new(self.deployed, self.rule) {
            *self = new;
        }
    }
}

/// Feeds `of` values with `hits` ones among them, evenly; the number of the first that is found.
fn spread(hits: u64, of: u64, mut push: impl FnMut(f64) -> bool) -> Option<u64> {
    let mut found = None;
    for at in 0..of {
        let share = |at: u64| u128::from(at) * u128::from(hits) / u128::from(of);
        let hit = share(at + 1) > share(at);
        if push(f64::from(u8::from(hit))) && found.is_none() {
            found = Some(at + 1);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_finds_a_fall_and_not_a_rise() {
        let rules = [
            AccuracyRule::default(),
            AccuracyRule::Adwin(AdwinSettings::default()),
            AccuracyRule::PageHinkley(PageHinkleySettings {
                threshold: 15.0,
                ..PageHinkleySettings::default()
            }),
        ];
        for rule in rules {
            let mut watch = AccuracyWatch::new(Accuracy::new(1_800, 200), rule).unwrap();
            assert!((0..20).all(|_| !watch.push(90, 10)), "{rule:?}");
            let falls = (0..40).position(|_| watch.push(60, 40));
            assert!(falls.is_some_and(|at| at < 4), "{rule:?} {falls:?}");
            watch.reset();
            assert_eq!(watch.alarmed_at(), None);
        }
    }

    #[test]
    fn without_labels_at_deployment_nothing_is_ever_an_alarm() {
        let mut watch = AccuracyWatch::new(Accuracy::new(0, 0), AccuracyRule::default()).unwrap();
        assert!(!watch.push(0, 100_000));
        assert_eq!(Accuracy::new(0, 0).interval(), None);
    }

    #[test]
    fn clustered_errors_widen_the_interval() {
        let plain = Accuracy::new(800, 200);
        let clustered = plain.clustered(9.0).unwrap();
        let width =
            |accuracy: Accuracy| accuracy.interval().unwrap().hi - accuracy.interval().unwrap().lo;
        assert!(width(clustered) > 2.8 * width(plain));
        assert!(plain.clustered(0.0).is_err() && plain.clustered(f64::NAN).is_err());
    }
}
