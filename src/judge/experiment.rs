//! The numbers of an experiment: what each arm's subjects did, and how surely arms differ.
//!
//! Subjects are assigned, so subjects are what is independent; their requests are not (a z test on
//! requests of sticky users finds differences that are not there in 40 of 100 experiments). So an
//! arm's measurements are kept in 256 clusters by a hash of the subject: whatever one subject does
//! falls into one cluster, and the variance between clusters is honest however its requests hang
//! together. Memory is 256 sums an arm and segment, whatever the traffic.

use serde::{Deserialize, Serialize};

use crate::stats::error::{StatsError, finite};

/// What is measured of a subject.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Metric {
    /// Yes or no: the value is 0 or 1.
    Rate,
    /// A number.
    Mean,
    /// A number for so many of something: errors per request, cost per token.
    Ratio,
}

/// One measurement.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Measurement {
    /// The value, or the numerator of a ratio.
    pub value: f64,
    /// The denominator of a ratio; 1 otherwise.
    pub per: f64,
    /// A covariate known before the subject was assigned, 0 where there is none: what it did last
    /// week, the stable model's score on the same input. It sharpens the comparison (CUPED).
    pub before: f64,
}

impl Measurement {
    /// Yes or no.
    #[must_use]
    pub const fn rate(yes: bool) -> Self {
        Self { value: if yes { 1.0 } else { 0.0 }, per: 1.0, before: 0.0 }
    }

    /// A number.
    #[must_use]
    pub const fn mean(value: f64) -> Self {
        Self { value, per: 1.0, before: 0.0 }
    }

    /// `value` for so many.
    #[must_use]
    pub const fn ratio(value: f64, per: f64) -> Self {
        Self { value, per, before: 0.0 }
    }

    /// With a covariate known before assignment.
    #[must_use]
    pub const fn with_before(mut self, before: f64) -> Self {
        self.before = before;
        self
    }

    /// Whether it can be a measurement of `metric`.
    ///
    /// # Errors
    ///
    /// [`StatsError`] for a value that is not finite, a rate that is neither 0 nor 1, or a
    /// denominator that is not positive.
    pub fn check(&self, metric: Metric) -> Result<(), StatsError> {
        finite("value", self.value)?;
        finite("per", self.per)?;
        finite("before", self.before)?;
        if metric == Metric::Rate && self.value != 0.0 && self.value != 1.0 {
            let (name, value) = ("value", self.value);
            return Err(StatsError::OutOfRange { name, value, expected: "0 or 1 for a rate" });
        }
        if self.per <= 0.0 {
            let (name, value) = ("per", self.per);
            return Err(StatsError::OutOfRange { name, value, expected: "above 0" });
        }
        if self.value.abs() > LARGEST || self.per > LARGEST || self.before.abs() > LARGEST {
            let (name, value) = ("value", self.value);
            return Err(StatsError::OutOfRange { name, value, expected: "at most 1e12 in size" });
        }
        Ok(())
    }
}

/// How many clusters an arm's subjects fall into.
pub const CLUSTERS: usize = 256;

/// What was measured of one arm (in one segment).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ArmSums {
    /// Empty until the first measurement, then one for each cluster.
    clusters: Vec<Cluster>,
    /// Measurements.
    count: u64,
    /// Of those, values that are not 0.
    events: u64,
    /// What came without subjects.
    #[serde(default)]
    lump: Lump,
}

/// Measurements of which only the sums are known, as a server's counters have them.
///
/// Nobody knows whose they are, so their variance is that of independent measurements. Where one
/// subject brings many that hang together, measure by subject instead ([`ArmSums::add`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Lump {
    /// How many.
    pub count: u64,
    /// The sum of their values.
    pub sum: f64,
    /// The sum of the squares of their values.
    pub squares: f64,
    /// How many of the values are not 0.
    pub events: u64,
}

impl Lump {
    /// `yes` of `count` were a yes.
    #[must_use]
    pub fn rate(yes: u64, count: u64) -> Self {
        let sum = yes.min(count) as f64;
        Self { count, sum, squares: sum, events: yes.min(count) }
    }

    fn add(&mut self, other: &Self) {
        if !(other.sum.is_finite() && other.squares.is_finite()) {
            return; // whoever counts values refuses what is not a number, and says so
        }
        self.count = self.count.saturating_add(other.count);
        self.sum += other.sum;
        self.squares += other.squares;
        self.events = self.events.saturating_add(other.events);
    }

    fn estimate(&self) -> Option<Estimate> {
        if self.count < 2 {
            return None;
        }
        let n = self.count as f64;
        let value = self.sum / n;
        let variance = (self.squares - self.sum * value).max(0.0) / (n - 1.0) / n;
        let is_number = value.is_finite() && variance.is_finite();
        let (n, events) = (self.count, self.events);
        is_number.then_some(Estimate { value, variance, n, events })
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Cluster {
    count: f64,
    value: f64,
    per: f64,
    before: f64,
}

/// An arm's estimate: a mean (or ratio), and the variance of that estimate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Estimate {
    /// The mean or ratio.
    pub value: f64,
    /// The variance of `value`.
    pub variance: f64,
    /// Measurements behind it.
    pub n: u64,
    /// Measurements whose value is not 0.
    pub events: u64,
}

impl ArmSums {
    /// Adds a measurement of a subject whose id hashes to `subject`. It must have been checked.
    pub fn add(&mut self, subject: u64, measurement: &Measurement) {
        if self.clusters.is_empty() {
            self.clusters = vec![Cluster::default(); CLUSTERS];
        }
        // The lowest bits: the highest decide the arm, and must not decide the cluster too.
        let cluster = &mut self.clusters[(subject as usize) % CLUSTERS];
        cluster.count += 1.0;
        cluster.value += measurement.value;
        cluster.per += measurement.per;
        cluster.before += measurement.before;
        self.count += 1;
        self.events += u64::from(measurement.value != 0.0);
    }

    /// Adds measurements without subjects. An arm has either these or those of subjects, not both:
    /// once there are subjects, these are left out of its estimate.
    pub fn add_lump(&mut self, lump: &Lump) {
        self.lump.add(lump);
    }

    /// Adds all of `other`, for example another replica's.
    pub fn merge(&mut self, other: &Self) {
        self.lump.add(&other.lump);
        if other.clusters.is_empty() {
            return;
        }
        if self.clusters.is_empty() {
            self.clusters = vec![Cluster::default(); CLUSTERS];
        }
        for (mine, theirs) in self.clusters.iter_mut().zip(&other.clusters) {
            mine.count += theirs.count;
            mine.value += theirs.value;
            mine.per += theirs.per;
            mine.before += theirs.before;
        }
        self.count = self.count.saturating_add(other.count);
        self.events = self.events.saturating_add(other.events);
    }

    /// Measurements.
    #[must_use]
    pub const fn count(&self) -> u64 {
        if self.count > 0 { self.count } else { self.lump.count }
    }

    /// Measurements whose value is not 0; for a rate, the successes.
    #[must_use]
    pub const fn events(&self) -> u64 {
        if self.count > 0 { self.events } else { self.lump.events }
    }

    /// The estimate, adjusted for the covariate by `theta` (see [`theta`]; 0 for none), where
    /// `center` is the covariate's mean over all arms. `None` below 2 clusters with data. The
    /// estimate of a lump is its mean.
    ///
    /// Sum of values over sum of denominators, with the variance of a ratio of sums over clusters
    /// (the delta method; Deng, Knoblich & Lu, KDD 2018). For a rate or mean the denominator is the
    /// count, which allows for clusters of different sizes.
    #[must_use]
    pub fn estimate(&self, theta: f64, center: f64) -> Option<Estimate> {
        if self.count == 0 {
            return self.lump.estimate();
        }
        let used = || self.clusters.iter().filter(|cluster| cluster.count > 0.0);
        let k = used().count() as f64;
        if k < 2.0 {
            return None;
        }
        let adjusted =
            |cluster: &Cluster| cluster.value - theta * (cluster.before - center * cluster.count);
        let (top, bottom) = used().fold((0.0, 0.0), |(top, bottom), cluster| {
            (top + adjusted(cluster), bottom + cluster.per)
        });
        let value = top / bottom;
        let squares: f64 =
            used().map(|cluster| (adjusted(cluster) - value * cluster.per).powi(2)).sum();
        let variance = k / (k - 1.0) * squares / (bottom * bottom);
        (value.is_finite() && variance.is_finite()).then_some(Estimate {
            value,
            variance,
            n: self.count,
            events: self.events,
        })
    }
}

/// The regression of values on the covariate, pooled within arms, and the covariate's mean over all
/// arms. `(0, 0)` where the covariate does not vary, so that nothing is adjusted.
///
/// The covariate must be known before assignment; then the adjustment moves no expectation and the
/// variance shrinks by the squared correlation (CUPED: Deng, Xu, Kohavi & Walker, WSDM 2013).
#[must_use]
pub fn theta<'a>(arms: impl Iterator<Item = &'a ArmSums> + Clone) -> (f64, f64) {
    let (mut cross, mut square) = (0.0, 0.0);
    let (mut total, mut count) = (0.0, 0.0);
    for arm in arms {
        let n: f64 = arm.clusters.iter().map(|cluster| cluster.count).sum();
        if n <= 0.0 {
            continue;
        }
        let mean = |of: fn(&Cluster) -> f64| arm.clusters.iter().map(of).sum::<f64>() / n;
        let (value, before) = (mean(|cluster| cluster.value), mean(|cluster| cluster.before));
        for cluster in &arm.clusters {
            let x = cluster.before - before * cluster.count;
            cross += x * (cluster.value - value * cluster.count);
            square += x * x;
        }
        total += before * n;
        count += n;
    }
    let slope = cross / square;
    if square > 0.0 && slope.is_finite() { (slope, total / count) } else { (0.0, 0.0) }
}

/// The largest size of a value: sums of squares of 10^18 of them stay finite.
const LARGEST: f64 = 1e12;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::rng::Rng;

    /// Users with their own rate, each with many requests.
    fn sticky(rng: &mut Rng, users: u64, requests: u64, arm: &mut ArmSums) {
        for _ in 0..users {
            let (id, rate) = (rng.bits(), 0.5 + 0.4 * (rng.unit() - 0.5) * 2.0);
            for _ in 0..requests {
                arm.add(id, &Measurement::rate(rng.unit() < rate));
            }
        }
    }

    /// 400 A/A experiments at a nominal 5 %: 20 expected, standard error 4.4, so 6..=36 covers
    /// three standard errors and a little of the normal approximation. The naive test rejects about
    /// 40 % here.
    #[test]
    fn users_with_many_requests_do_not_make_differences() {
        let mut rng = Rng::new(7);
        let (mut ours, mut naive) = (0, 0);
        for _ in 0..400 {
            let (mut a, mut b) = (ArmSums::default(), ArmSums::default());
            sticky(&mut rng, 300, 20, &mut a);
            sticky(&mut rng, 300, 20, &mut b);
            let (a, b) = (a.estimate(0.0, 0.0).unwrap(), b.estimate(0.0, 0.0).unwrap());
            let z = (b.value - a.value) / (a.variance + b.variance).sqrt();
            ours += u32::from(z.abs() > 1.96);
            let iid = |e: Estimate| e.value * (1.0 - e.value) / e.n as f64;
            naive += u32::from(((b.value - a.value) / (iid(a) + iid(b)).sqrt()).abs() > 1.96);
        }
        assert!((6..=36).contains(&ours), "{ours} of 400");
        assert!(naive > 80, "{naive} of 400: the trap this test is about");
    }

    #[test]
    fn a_covariate_known_before_shrinks_the_variance() {
        let mut rng = Rng::new(3);
        let mut arms = [ArmSums::default(), ArmSums::default()];
        for _ in 0..20_000 {
            let id = rng.bits();
            let before = rng.unit() * 10.0;
            let value = before + rng.unit();
            arms[(id >> 63) as usize].add(id, &Measurement::mean(value).with_before(before));
        }
        let (slope, center) = theta(arms.iter());
        assert!((slope - 1.0).abs() < 0.05, "{slope}");
        let plain = arms[0].estimate(0.0, 0.0).unwrap();
        let sharp = arms[0].estimate(slope, center).unwrap();
        // Correlation squared is 100/101 here; the clusters estimate it roughly.
        assert!(sharp.variance < 0.05 * plain.variance, "{sharp:?} {plain:?}");
    }

    #[test]
    fn no_data_and_no_variation_are_not_numbers_to_divide_by() {
        assert_eq!(ArmSums::default().estimate(0.0, 0.0), None);
        let mut same = ArmSums::default();
        (0..1_000).for_each(|id| same.add(id, &Measurement::rate(true)));
        assert_eq!(same.estimate(0.0, 0.0).unwrap().variance, 0.0);
        assert_eq!(theta([ArmSums::default()].iter()), (0.0, 0.0));
    }

    #[test]
    fn a_measurement_that_cannot_be_is_refused_by_name() {
        assert!(Measurement::mean(f64::NAN).check(Metric::Mean).is_err());
        assert!(Measurement::mean(0.5).check(Metric::Rate).is_err());
        assert!(Measurement::ratio(1.0, 0.0).check(Metric::Ratio).is_err());
        assert!(Measurement::mean(1e300).check(Metric::Mean).is_err());
        assert!(Measurement::ratio(1.0, 3.0).check(Metric::Ratio).is_ok());
    }
}
