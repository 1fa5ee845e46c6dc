//! How long invented answers take.
//!
//! A [`Latency`] is a law; a [`LatencyTable`] is that law as the probabilities of a histogram's
//! buckets. What a judge sees of latencies is a histogram, so a batch is drawn as the counts of its
//! buckets: the same distribution as recording every answer by itself, at a price that does not
//! grow with traffic.

use std::time::Duration;

use crate::observe::histogram::{BUCKETS, Histogram, bucket_middle, bucket_of, bucket_start};
use crate::sim::rng::Rng;
use crate::stats::special::normal_cdf;

/// The law of the latency of answers: log-normal, with a part of them drawn from a Pareto law.
///
/// Log-normal is what services that do one kind of work show; the Pareto part stands for the few
/// that wait for a lock, a collection or a cold cache, and whose mean may not even exist.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Latency {
    /// Half of the answers take no longer.
    pub median: Duration,
    /// Standard deviation of the logarithm; 0.6 by default. p95 is the median times `e^(1.64 σ)`.
    pub sigma: f64,
    /// The part of answers that come from the heavy tail instead, from 0 to below 1.
    pub tail: f64,
    /// Index of the tail: `P(X > x) = (median / x)^index` from the median on. Below 2 there is no
    /// variance, at 1 and below no mean.
    pub tail_index: f64,
}

impl Latency {
    /// A log-normal law with σ 0.6 and no heavy tail.
    #[must_use]
    pub const fn around(median: Duration) -> Self {
        Self { median, sigma: 0.6, tail: 0.0, tail_index: 1.3 }
    }

    /// With another spread.
    #[must_use]
    pub const fn sigma(mut self, sigma: f64) -> Self {
        self.sigma = sigma;
        self
    }

    /// With this part of answers from the heavy tail.
    #[must_use]
    pub const fn heavy_tail(mut self, part: f64) -> Self {
        self.tail = part;
        self
    }

    /// Whether it can be drawn from.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        !self.median.is_zero()
            && self.median < Duration::from_secs(3600)
            && (0.001..=4.0).contains(&self.sigma)
            && (0.0..1.0).contains(&self.tail)
            && (0.1..=100.0).contains(&self.tail_index)
    }

    /// The part of answers that take at most `nanos` where everything takes `slowness` times as
    /// long.
    fn at_most(&self, nanos: f64, slowness: f64) -> f64 {
        let ratio = nanos / (self.median.as_nanos() as f64 * slowness);
        if ratio <= 0.0 {
            return 0.0;
        }
        let body = normal_cdf(ratio.ln() / self.sigma);
        let tail = if ratio > 1.0 { 1.0 - ratio.powf(-self.tail_index) } else { 0.0 };
        (1.0 - self.tail) * body + self.tail * tail
    }
}

/// A law of latency as probabilities of buckets.
#[derive(Clone, Debug)]
pub struct LatencyTable {
    cells: Vec<Cell>,
    /// For each 1024th of probability, the cell it falls into at the earliest.
    guide: Vec<u32>,
    mean: f64,
}

#[derive(Clone, Copy, Debug)]
struct Cell {
    bucket: usize,
    /// Probability of this cell or one before it.
    up_to: f64,
    /// Probability of this cell, given that it is none before it.
    given: f64,
}

impl LatencyTable {
    /// The table of `law` where everything takes `slowness` (positive) times as long.
    #[must_use]
    pub fn new(law: &Latency, slowness: f64) -> Self {
        let (mut cells, mut below, mut mean) = (Vec::new(), 0.0, 0.0);
        for bucket in 0..BUCKETS {
            let end = bucket_start(bucket + 1) as f64;
            let up_to = if bucket + 1 < BUCKETS { law.at_most(end, slowness) } else { 1.0 };
            let here = up_to - below;
            // Buckets that hold little are drawn together and counted in the last of them: less
            // than one answer in two thousand, or a quarter of those still slower.
            if here > RAREST.min(0.25 * (1.0 - below)) {
                mean += here * bucket_middle(bucket) as f64;
                cells.push(Cell { bucket, up_to, given: here / (1.0 - below) });
                below = up_to;
            }
        }
        if let Some(last) = cells.last_mut() {
            (last.up_to, last.given) = (1.0, 1.0);
        }
        let guide = (0..GUIDE)
            .map(|at| {
                let from = at as f64 / GUIDE as f64;
                cells.partition_point(|cell| cell.up_to <= from) as u32
            })
            .collect();
        Self { cells, guide, mean }
    }

    /// The mean, in nanoseconds. 73 minutes and more count as 73 minutes.
    #[must_use]
    pub const fn mean(&self) -> f64 {
        self.mean
    }

    /// The part of answers that take longer than `nanos`, to within a bucket.
    #[must_use]
    pub fn above(&self, nanos: u64) -> f64 {
        let bucket = bucket_of(nanos);
        let at = self.cells.partition_point(|cell| cell.bucket <= bucket);
        at.checked_sub(1).map_or(1.0, |at| 1.0 - self.cells[at].up_to)
    }

    /// The value of rank `quantile`, in nanoseconds.
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> u64 {
        let at = self.cells.partition_point(|cell| cell.up_to < quantile);
        self.cells.get(at).or(self.cells.last()).map_or(0, |cell| bucket_middle(cell.bucket))
    }

    /// Adds `answers` latencies to `histogram`.
    pub fn draw(&self, rng: &mut Rng, answers: u64, histogram: &mut Histogram) {
        // One binomial a cell costs as much as a handful of single draws.
        if answers < 4 * self.cells.len() as u64 {
            for _ in 0..answers {
                let unit = rng.unit();
                let mut at = self.guide[(unit * GUIDE as f64) as usize] as usize;
                while self.cells[at].up_to <= unit && at + 1 < self.cells.len() {
                    at += 1;
                }
                histogram.record_bucket(self.cells[at].bucket, 1);
            }
            return;
        }
        let mut left = answers;
        for cell in &self.cells {
            if left == 0 {
                return;
            }
            let here = rng.binomial(left, cell.given);
            histogram.record_bucket(cell.bucket, here);
            left -= here;
        }
    }
}

const GUIDE: usize = 1024;
const RAREST: f64 = 5e-4;

#[cfg(test)]
mod tests {
    use super::*;

    fn law() -> Latency {
        Latency::around(Duration::from_millis(200))
    }

    #[test]
    fn few_and_many_answers_have_the_quantiles_of_the_law() {
        for slowness in [1.0, 2.5] {
            let table = LatencyTable::new(&law(), slowness);
            for (pieces, answers) in [(1, 40_000_u64), (400, 100)] {
                let mut rng = Rng::new(5);
                let mut histogram = Histogram::new();
                (0..pieces).for_each(|_| table.draw(&mut rng, answers, &mut histogram));
                assert_eq!(histogram.count(), 40_000);
                for (q, z) in [(0.5, 0.0), (0.95, 1.644_854), (0.99, 2.326_348)] {
                    let exact = 0.2e9 * slowness * f64::exp(0.6 * z);
                    let seen = histogram.quantile(q).unwrap() as f64;
                    // A quantile of 40,000 has a standard error of σ √(q(1-q)/n) / φ(z).
                    let density = (-z * z / 2.0).exp() / std::f64::consts::TAU.sqrt();
                    let error = 0.6 * (q * (1.0 - q) / 40_000.0_f64).sqrt() / density;
                    assert!((seen / exact).ln().abs() < 5.0 * error + 0.008, "{q} {seen} {exact}");
                    let told = table.quantile(q) as f64;
                    assert!((told / exact - 1.0).abs() < 0.017, "{q} {told} {exact}");
                }
            }
        }
    }

    #[test]
    fn the_heavy_tail_is_heavy() {
        let table = LatencyTable::new(&law().heavy_tail(0.03), 1.0);
        // Of the body (2.986 standard deviations) and of the tail; cells hold up to 0.05 % each.
        let exact = 0.97 * 0.001_413 + 0.03 * 6.0_f64.powf(-1.3);
        let beyond = table.above(1_200_000_000);
        assert!((beyond - exact).abs() < 6e-4, "{beyond} {exact}");
        assert!(table.mean() > LatencyTable::new(&law(), 1.0).mean());
    }
}
