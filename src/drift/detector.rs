//! An alarm for a rate that rises, with a stated mean time between false alarms.
//!
//! Before the change the rate is at most `null`, and nothing else is assumed: the requests may be
//! mixed, the rate may move below its bound, and batches may have any size. Then the mean number of
//! requests until a false alarm is at least the stated one, for ever. After the change the alarm
//! comes about as soon as any test could that does not know how large the change will be.
//!
//! For each of a few higher rates `q` there is one number: the likelihood ratio of `q` against
//! `null` of everything since a possible change, added up over all possible changes (Shiryaev and
//! Roberts). Each batch multiplies it, and adds a new possible change for each request. Its mean
//! grows by one a request as long as nothing has changed, so when the weighted sum first reaches `A`
//! the mean of the requests that took is at least `A`. Taking the largest instead of the sum gives
//! the CUSUM; it promises the same at the same threshold and is never sooner, hence the sum.
//!
//! Where values depend on each other a likelihood ratio of independent ones overstates. It is then
//! raised to one over the design effect (see [`crate::drift::dependence`]): for counts over longer than
//! the correlation lasts this makes its mean one again, as far as those counts are normal.
//!
//! Source: Shin, Ramdas and Rinaldo, "E-detectors: a nonparametric framework for sequential change
//! detection", New England Journal of Statistics in Data Science (2023); Pollak, Annals of
//! Statistics 13 (1985) for the sum.

use serde::{Deserialize, Serialize};

use crate::drift::error::{DriftError, within};

/// How many higher rates are looked for at once.
pub(crate) const ALTERNATIVES: usize = 5;

/// Odds of the higher rates, as multiples of the odds of the null.
const ODDS: [f64; ALTERNATIVES - 1] = [1.35, 1.9, 3.2, 8.0];

/// The largest logarithm that is worth telling from others.
const MOST_LN: f64 = 600.0;

/// The largest sum.
const MOST_SUM: f64 = 1e300;

/// Watches a stream of yes and no for a rate above `null`.
///
/// ```
/// use pilotage::drift::detector::RateDetector;
///
/// // At most 5 % errors, and one false alarm in 100,000 requests on average, or fewer.
/// let mut alarm = RateDetector::new(0.05, 100_000.0)?;
/// for _ in 0..50 {
///     assert!(!alarm.push(4, 100)); // 4 errors in 100 requests
/// }
/// let batches = (1..).find(|_| alarm.push(15, 100)).unwrap();
/// assert!(batches <= 3);
/// # Ok::<(), pilotage::drift::error::DriftError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RateDetector {
    bank: RateBank,
    threshold: f64,
    requests: u64,
    alarmed_at: Option<u64>,
}

impl RateDetector {
    /// A detector of rates above `null`, with at least `requests_between` requests between false
    /// alarms on average. A null of 1 leaves nothing to find; 0 makes the first hit an alarm as soon
    /// as any.
    ///
    /// # Errors
    ///
    /// [`DriftError::OutOfRange`] unless `null` is from 0 to 1 and `requests_between` from 1 to 1e15.
    pub fn new(null: f64, requests_between: f64) -> Result<Self, DriftError> {
        Self::dependent(null, requests_between, 1.0)
    }

    /// The same for values that depend on each other, by their design effect (at least 1).
    ///
    /// # Errors
    ///
    /// As [`Self::new`], and unless the design effect is from 1 to 1e9.
    pub fn dependent(
        null: f64,
        requests_between: f64,
        design_effect: f64,
    ) -> Result<Self, DriftError> {
        within("null rate", null, (0.0, 1.0), "from 0 to 1")?;
        within("requests between false alarms", requests_between, (1.0, 1e15), "from 1 to 1e15")?;
        within("design effect", design_effect, (1.0, 1e9), "from 1 to 1e9")?;
        let bank = RateBank::new(null, design_effect);
        Ok(Self { bank, threshold: requests_between, requests: 0, alarmed_at: None })
    }

    /// Takes in a batch of `requests` with `hits` among them (more hits than requests count as all).
    /// True from the batch that raised the alarm until [`Self::reset`].
    pub fn push(&mut self, hits: u64, requests: u64) -> bool {
        self.requests = self.requests.saturating_add(requests);
        self.bank.push(hits.min(requests), requests);
        if self.alarmed_at.is_none() && self.bank.evidence() >= self.threshold {
            self.alarmed_at = Some(self.requests);
        }
        self.alarmed_at.is_some()
    }

    /// Evidence for a change, on the scale of requests: the alarm is raised when it reaches the
    /// stated mean between false alarms. Before a change it averages at most the requests seen.
    #[must_use]
    pub fn evidence(&self) -> f64 {
        self.bank.evidence()
    }

    /// After how many requests the alarm was raised, if it was.
    #[must_use]
    pub const fn alarmed_at(&self) -> Option<u64> {
        self.alarmed_at
    }

    /// The rate that is tolerated.
    #[must_use]
    pub const fn null(&self) -> f64 {
        self.bank.null
    }

    /// All that is not a setting, for a state that is stored.
    pub(crate) fn words(&self) -> Vec<u64> {
        let alarm = self.alarmed_at.map_or([0, 0], |at| [1, at]);
        self.bank.words().chain([self.requests]).chain(alarm).collect()
    }

    /// The same settings with what [`Self::words`] gave; `None` where that cannot be.
    pub(crate) fn with_words(mut self, words: &[u64]) -> Option<Self> {
        let (sums, rest) = words.split_at_checked(ALTERNATIVES)?;
        let &[requests, alarmed, at] = rest else { return None };
        self.bank.set_words(sums)?;
        self.requests = requests;
        self.alarmed_at = match (alarmed, at) {
            (0, 0) => None,
            (1, at) if at <= requests => Some(at),
            _ => return None,
        };
        Some(self)
    }

    /// Begins anew: no evidence, no alarm.
    pub fn reset(&mut self) {
        *self = Self {
            bank: RateBank::new(self.bank.null, self.bank.design_effect),
            threshold: self.threshold,
            requests: 0,
            alarmed_at: None,
        };
    }
}

/// The numbers behind one alarm, without its threshold: several of these share one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RateBank {
    pub(crate) null: f64,
    design_effect: f64,
    rates: [Rate; ALTERNATIVES],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Rate {
    /// `ln(q / null)` and `ln((1 − q) / (1 − null))`, each over the design effect.
    hit: f64,
    miss: f64,
    sum: f64,
}

impl RateBank {
    /// `null` from 0 to 1 and `design_effect` from 1, both finite.
    pub(crate) fn new(null: f64, design_effect: f64) -> Self {
        let mut rates = [Rate::default(); ALTERNATIVES];
        let floor = null.max(1e-12);
        let odds = floor / (1.0 - floor).max(1e-12);
        // The last one is for rates that leap: half of the requests, or what is left above.
        let leap = (odds * 30.0).max(1.0);
        for (rate, odds) in rates.iter_mut().zip(ODDS.map(|by| odds * by).into_iter().chain([leap]))
        {
            let q = odds / (1.0 + odds);
            if floor < 1.0 - 1e-9 {
                rate.hit = (q / floor).ln() / design_effect;
                rate.miss = (-odds.ln_1p() - (-floor).ln_1p()) / design_effect;
            }
        }
        Self { null, design_effect, rates }
    }

    pub(crate) fn push(&mut self, hits: u64, requests: u64) {
        if requests == 0 || self.null >= 1.0 - 1e-9 {
            return;
        }
        let (hits, misses) = (hits as f64, requests.saturating_sub(hits) as f64);
        for rate in &mut self.rates {
            let ln = (hits * rate.hit + misses * rate.miss).min(MOST_LN);
            rate.sum = ((rate.sum + hits + misses) * ln.exp()).min(MOST_SUM);
        }
    }

    /// The mean of the sums: before a change it averages at most the requests seen.
    pub(crate) fn evidence(&self) -> f64 {
        self.rates.iter().map(|rate| rate.sum / ALTERNATIVES as f64).sum()
    }

    /// The sums, bit for bit.
    pub(crate) fn words(&self) -> impl Iterator<Item = u64> {
        self.rates.iter().map(|rate| rate.sum.to_bits())
    }

    /// Goes on from these sums; `None`, and nothing changes, where one can never have been.
    pub(crate) fn set_words(&mut self, words: &[u64]) -> Option<()> {
        let sums: Vec<f64> = words.iter().map(|word| f64::from_bits(*word)).collect();
        let good = |sum: &f64| sum.is_finite() && *sum >= 0.0 && *sum <= MOST_SUM;
        if sums.len() != ALTERNATIVES || !sums.iter().all(good) {
            return None;
        }
        self.rates.iter_mut().zip(sums).for_each(|(rate, sum)| rate.sum = sum);
        Some(())
    }

    pub(crate) fn clear(&mut self) {
        self.rates.iter_mut().for_each(|rate| rate.sum = 0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every batch of 12 requests, with its probability: the mean of the sum after two batches is
    /// the number of requests seen, exactly, when the rate is the null.
    #[test]
    fn before_a_change_the_evidence_averages_the_requests_seen() {
        let null: f64 = 0.2;
        let binomial = |hits: u64| {
            let ways = (0..hits).fold(1.0, |ways, at| ways * (12 - at) as f64 / (at + 1) as f64);
            ways * null.powi(hits as i32) * (1.0 - null).powi(12 - hits as i32)
        };
        let mut mean = 0.0;
        for first in 0..=12 {
            for second in 0..=12 {
                let mut bank = RateBank::new(null, 1.0);
                bank.push(first, 12);
                bank.push(second, 12);
                mean += binomial(first) * binomial(second) * bank.evidence();
            }
        }
        assert!((mean - 24.0).abs() < 1e-9, "{mean}");
    }

    #[test]
    fn three_hits_of_what_never_happened_are_enough() {
        let mut alarm = RateDetector::new(0.001, 1e6).unwrap();
        assert!(!alarm.push(0, 10_000));
        let hits = (1..10).find(|_| alarm.push(1, 1)).unwrap();
        assert!(hits <= 3, "{hits}");
        assert_eq!(alarm.alarmed_at(), Some(10_000 + hits));
    }

    #[test]
    fn settings_that_are_no_rates_are_refused() {
        for (null, between) in [(f64::NAN, 1e5), (1.5, 1e5), (0.1, 0.0), (0.1, f64::INFINITY)] {
            assert!(RateDetector::new(null, between).is_err(), "{null} {between}");
        }
        assert!(RateDetector::dependent(0.1, 1e5, 0.5).is_err());
    }

    #[test]
    fn the_extremes_neither_panic_nor_become_infinite() {
        for null in [0.0, 1e-300, 0.5, 1.0 - 1e-12, 1.0] {
            let mut alarm = RateDetector::new(null, 1e6).unwrap();
            for (hits, requests) in [(0, 0), (u64::MAX, u64::MAX), (5, 1), (0, u64::MAX), (1, 1)] {
                alarm.push(hits, requests);
                assert!(alarm.evidence().is_finite(), "{null}");
            }
        }
        let mut all = RateDetector::new(1.0, 10.0).unwrap();
        assert!(!all.push(1_000, 1_000)); // above a rate of 1 there is nothing
    }
}
