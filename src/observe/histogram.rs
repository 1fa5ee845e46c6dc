//! Latencies, kept as counts.
//!
//! A [`Histogram`] is log-linear: every power of two of nanoseconds is cut into 64 equal steps, so
//! a value is known to within 0.8 % of itself (half a step) and two histograms add and subtract
//! exactly. Sorting a list of results would be exact too, and cost memory without bound.

use serde::{Deserialize, Serialize};

/// Sub-bucket bits: 64 steps to each power of two.
const BITS: u32 = 6;
const STEPS: u64 = 1 << BITS;
/// Values of this many bits and more share the last bucket: 2^42 ns is 73 minutes.
const TOP_BITS: u32 = 42;

/// How many buckets a histogram has.
pub const BUCKETS: usize = ((TOP_BITS - BITS + 1) as usize) << BITS;

/// 64 buckets are an octave, but for the first two, which together are the values below 128.
const OCTAVES: usize = BUCKETS >> BITS;

/// The most by which a reported value can differ from a recorded one, relative to it.
pub const RELATIVE_ERROR: f64 = 1.0 / (2.0 * STEPS as f64);

/// The bucket that holds a latency of `nanos`.
#[inline]
#[must_use]
pub const fn bucket_of(nanos: u64) -> usize {
    // Below 128 each value has its own bucket. From there on the leading 7 bits count, one of
    // which is always set and so adds up to the next octave by itself. No branch: it is on the
    // request path.
    let shift = u64::BITS - 1 - BITS - (nanos | STEPS).leading_zeros();
    let bucket = ((shift as usize) << BITS) + (nanos >> shift) as usize;
    if bucket < BUCKETS { bucket } else { BUCKETS - 1 }
}

/// The smallest latency that falls into `bucket`, in nanoseconds.
#[must_use]
pub const fn bucket_start(bucket: usize) -> u64 {
    let octave = (bucket >> BITS) as u32;
    let step = bucket as u64 & (STEPS - 1);
    if octave == 0 { step } else { (STEPS + step) << (octave - 1) }
}

/// The value reported for `bucket`: its middle, in nanoseconds.
#[must_use]
pub const fn bucket_middle(bucket: usize) -> u64 {
    let octave = (bucket >> BITS) as u32;
    if octave <= 1 { bucket_start(bucket) } else { bucket_start(bucket) + (1 << (octave - 2)) }
}

/// Counts of latencies by size, exact under addition and subtraction.
///
/// Memory: [`BUCKETS`] counters of 8 bytes (19 KB), allocated with the first value, and one for
/// each octave, so that a quantile is found by looking at one octave closely.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Sparse", into = "Sparse")]
pub struct Histogram {
    counts: Vec<u64>,
    octaves: [u64; OCTAVES],
    total: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

impl Histogram {
    /// A histogram without values.
    #[must_use]
    pub const fn new() -> Self {
        Self { counts: Vec::new(), octaves: [0; OCTAVES], total: 0 }
    }

    /// Counts a latency of `nanos`. 73 minutes and more fall into the last bucket.
    pub fn record(&mut self, nanos: u64) {
        self.record_bucket(bucket_of(nanos), 1);
    }

    /// Adds `count` values to `bucket`; a bucket that does not exist is the last one.
    pub fn record_bucket(&mut self, bucket: usize, count: u64) {
        if count == 0 {
            return;
        }
        if self.counts.is_empty() {
            self.counts = vec![0; BUCKETS];
        }
        let bucket = bucket.min(BUCKETS - 1);
        let slot = &mut self.counts[bucket];
        *slot = slot.saturating_add(count);
        let octave = &mut self.octaves[bucket >> BITS];
        *octave = octave.saturating_add(count);
        self.total = self.total.saturating_add(count);
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        if other.total == 0 {
            return;
        }
        if self.counts.is_empty() {
            self.clone_from(other);
            return;
        }
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine = mine.saturating_add(*theirs);
        }
        for (mine, theirs) in self.octaves.iter_mut().zip(&other.octaves) {
            *mine = mine.saturating_add(*theirs);
        }
        self.total = self.total.saturating_add(other.total);
    }

    /// What came since `earlier`, an older copy of this histogram. Where `earlier` holds more than
    /// this one (it is not an older copy), the difference is zero.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        if earlier.total == 0 || self.total == 0 {
            return self.clone();
        }
        let counts: Vec<u64> = self
            .counts
            .iter()
            .zip(&earlier.counts)
            .map(|(now, then)| now.saturating_sub(*then))
            .collect();
        let mut octaves = [0; OCTAVES];
        for (octave, counts) in octaves.iter_mut().zip(counts.chunks(1 << BITS)) {
            *octave = counts.iter().sum();
        }
        let total = octaves.iter().sum();
        if total == 0 { Self::new() } else { Self { counts, octaves, total } }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.counts.fill(0);
        self.octaves.fill(0);
        self.total = 0;
    }

    /// How many values were counted.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.total
    }

    /// Whether no value was counted.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// How many values lie in buckets above the one that holds `nanos`.
    ///
    /// Values in the same bucket do not count, so against an exact comparison this can only miss
    /// values within 1.6 % of `nanos`.
    #[must_use]
    pub fn count_above(&self, nanos: u64) -> u64 {
        if self.counts.is_empty() {
            return 0;
        }
        self.counts[bucket_of(nanos) + 1..].iter().sum()
    }

    /// The value of rank `rank`, counted from 1 for the smallest, as the middle of its bucket in
    /// nanoseconds. `None` when there are fewer values, or `rank` is 0.
    #[must_use]
    pub fn value_at_rank(&self, rank: u64) -> Option<u64> {
        if rank == 0 || rank > self.total {
            return None;
        }
        Some(ranked(self, &Self::new(), [rank])[0])
    }

    /// Three quantiles of this histogram and `other` together, in one pass; each as
    /// [`Histogram::quantile`] says, and `q` rising. `None` without values or when a `q` is not in
    /// `0..=1`.
    #[must_use]
    pub fn quantiles_with(&self, other: &Self, q: [f64; 3]) -> Option<[u64; 3]> {
        let total = self.total.saturating_add(other.total);
        if total == 0 || q.iter().any(|q| !(0.0..=1.0).contains(q)) {
            return None;
        }
        let ranks = q.map(|q| (q * (total - 1) as f64).floor() as u64 + 1);
        Some(ranked(self, other, ranks))
    }

    /// The `q` quantile in nanoseconds, within [`RELATIVE_ERROR`] of the value of rank
    /// `floor(q (n - 1)) + 1`. `None` without values or when `q` is not in `0..=1`.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<u64> {
        if self.total == 0 || !(0.0..=1.0).contains(&q) {
            return None;
        }
        let rank = (q * (self.total - 1) as f64).floor() as u64 + 1;
        self.value_at_rank(rank.min(self.total))
    }

    /// The buckets that hold values, smallest first, as `(bucket, count)`.
    pub fn filled(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        self.counts
            .iter()
            .enumerate()
            .filter(|(_, count)| **count > 0)
            .map(|(at, count)| (at, *count))
    }

    /// Bytes held.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.counts.capacity() * size_of::<u64>()
    }
}

/// The values of these ranks, rising and counted from 1, in two histograms together: the middles
/// of their buckets. A rank beyond the last value gives 0.
fn ranked<const N: usize>(one: &Histogram, two: &Histogram, ranks: [u64; N]) -> [u64; N] {
    let (mut found, mut next, mut below) = ([0; N], 0, 0_u64);
    for octave in 0..OCTAVES {
        let within = one.octaves[octave].saturating_add(two.octaves[octave]);
        let up_to = below.saturating_add(within);
        if next < N && up_to >= ranks[next] {
            let buckets = octave << BITS..(octave + 1) << BITS;
            let of = |histogram: &Histogram, bucket| histogram.counts.get(bucket).copied();
            let mut seen = below;
            for bucket in buckets {
                let (one, two) = (of(one, bucket), of(two, bucket));
                seen = seen.saturating_add(one.unwrap_or(0)).saturating_add(two.unwrap_or(0));
                while next < N && seen >= ranks[next] {
                    found[next] = bucket_middle(bucket);
                    next += 1;
                }
            }
        }
        below = up_to;
    }
    found
}

/// As stored: pairs of bucket and count, so that an empty stretch costs nothing.
#[derive(Serialize, Deserialize)]
struct Sparse(Vec<(u32, u64)>);

impl From<Sparse> for Histogram {
    fn from(sparse: Sparse) -> Self {
        let mut histogram = Self::new();
        for (bucket, count) in sparse.0 {
            histogram.record_bucket(bucket as usize, count);
        }
        histogram
    }
}

impl From<Histogram> for Sparse {
    fn from(histogram: Histogram) -> Self {
        Self(histogram.filled().map(|(bucket, count)| (bucket as u32, count)).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn buckets_follow_each_other_without_a_gap() {
        for bucket in 1..BUCKETS {
            let start = bucket_start(bucket);
            assert_eq!(bucket_of(start), bucket, "start of {bucket}");
            assert_eq!(bucket_of(start - 1), bucket - 1, "before {bucket}");
        }
    }

    #[test]
    fn a_century_falls_into_the_last_bucket() {
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
        let mut histogram = Histogram::new();
        histogram.record(u64::MAX);
        assert_eq!(histogram.count(), 1);
        assert_eq!(histogram.count_above(u64::MAX), 0);
    }

    proptest! {
        #[test]
        fn a_quantile_is_within_the_stated_error(
            mut values in prop::collection::vec(1_u64..1 << 41, 1..200), q in 0.0..=1.0_f64,
        ) {
            let mut histogram = Histogram::new();
            values.iter().for_each(|value| histogram.record(*value));
            values.sort_unstable();
            let exact = values[(q * (values.len() - 1) as f64).floor() as usize] as f64;
            let got = histogram.quantile(q).unwrap() as f64;
            prop_assert!((got - exact).abs() <= RELATIVE_ERROR * exact + 0.5, "{got} for {exact}");
        }

        #[test]
        fn what_was_merged_can_be_taken_out_again(
            first in prop::collection::vec(any::<u64>(), 0..50),
            second in prop::collection::vec(any::<u64>(), 0..50),
        ) {
            let of = |values: &[u64]| {
                let mut histogram = Histogram::new();
                values.iter().for_each(|value| histogram.record(*value));
                histogram
            };
            let mut both = of(&first);
            both.merge(&of(&second));
            prop_assert_eq!(both.count(), (first.len() + second.len()) as u64);
            let rest = both.since(&of(&first));
            prop_assert_eq!(rest.filled().collect::<Vec<_>>(), of(&second).filled().collect::<Vec<_>>());
            let stored = serde_json::to_string(&both).unwrap();
            prop_assert_eq!(serde_json::from_str::<Histogram>(&stored).unwrap(), both);
        }
    }
}
