//! Rules that decide whether a canary goes back.

use std::collections::VecDeque;
use std::time::Duration;

use pilotage::judge::guardrail::Guardrail;
use pilotage::judge::stage::{HardRails, StageJudge};
use pilotage::observe::snapshot::{ArmCounts, Delta};
use pilotage::share::TrafficShare;

/// A rule under trial.
pub trait Rule {
    /// Takes in a batch; true when the canary is to go back.
    fn goes_back(&mut self, share: TrafficShare, delta: &Delta) -> bool;
}

/// What a rule may know before the stage begins.
pub struct Before<'a> {
    pub planned: Duration,
    /// The error rate measured in an hour of the baseline alone.
    pub error_rate: f64,
    /// A minute of the baseline with latencies, or nothing.
    pub counts: &'a ArmCounts,
}

/// The rules on errors, by name.
pub fn on_errors(before: &Before) -> Vec<(&'static str, Box<dyn Rule>)> {
    let five = Duration::from_secs(300);
    let minute = Duration::from_secs(60);
    let twice = 2.0 * before.error_rate;
    let worse = move |canary: &ArmCounts| rate(canary) > twice;
    vec![
        ("pilotage, error rate alone", ours(vec![Guardrail::error_rate()], before)),
        ("pilotage, standard stage", ours(Guardrail::standard(), before)),
        ("5 min > 2x stored baseline", Box::new(Checks::new(five, 1, Count::Total, worse))),
        ("the same 3 times in a row", Box::new(Checks::new(five, 3, Count::InARow, worse))),
        ("1 min > 2x baseline, 3 failures", Box::new(Checks::new(minute, 3, Count::Total, worse))),
        (
            "1 min success < 99 %, 5 failures",
            Box::new(Checks::new(minute, 5, Count::Total, |canary: &ArmCounts| {
                rate(canary) > 0.01
            })),
        ),
        ("Mann-Whitney of minutes, each 10", Box::new(Minutes::default())),
    ]
}

/// The rules on latency, by name.
pub fn on_latency(before: &Before) -> Vec<(&'static str, Box<dyn Rule>)> {
    let bar = before.counts.latency.quantile(0.95).unwrap_or(u64::MAX) as f64 * 1.5;
    let slow = move |canary: &ArmCounts| {
        canary.latency.quantile(0.95).is_some_and(|nanos| nanos as f64 > bar)
    };
    let (five, minute) = (Duration::from_secs(300), Duration::from_secs(60));
    vec![
        ("pilotage, p95 alone", ours(vec![Guardrail::p95()], before)),
        ("pilotage, standard stage", ours(Guardrail::standard(), before)),
        ("5 min p95 > 1.5x stored", Box::new(Checks::new(five, 1, Count::Total, slow))),
        ("the same 3 times in a row", Box::new(Checks::new(five, 3, Count::InARow, slow))),
        ("1 min p95 > 1.5x stored", Box::new(Checks::new(minute, 1, Count::Total, slow))),
    ]
}

fn rate(counts: &ArmCounts) -> f64 {
    if counts.judged() == 0 { 0.0 } else { counts.failures() as f64 / counts.judged() as f64 }
}

struct Ours(StageJudge);

fn ours(guardrails: Vec<Guardrail>, before: &Before) -> Box<dyn Rule> {
    let none = HardRails { panics: None, failures_without_success: None, hung: None };
    let judge = StageJudge::new(guardrails, 0.01, 0.05, before.planned)
        .expect("the usual guardrails can be used")
        .with_rails(none)
        .with_baseline(before.counts);
    Box::new(Ours(judge))
}

impl Rule for Ours {
    fn goes_back(&mut self, share: TrafficShare, delta: &Delta) -> bool {
        self.0.observe(share, delta);
        // Evidence against the candidate grows with its events only, so nothing is lost by not
        // asking after a batch without one.
        let candidate = &delta.arms[1];
        let news = candidate.failures() > 0 || !candidate.latency.is_empty();
        news && self.0.verdict().is_roll_back()
    }
}

/// Whether failed checks must follow each other.
pub enum Count {
    InARow,
    Total,
}

/// A check at the end of every period, on that period's canary counts.
struct Checks<F> {
    period: Duration,
    limit: u32,
    count: Count,
    failed: F,
    elapsed: Duration,
    seen: ArmCounts,
    failures: u32,
}

impl<F> Checks<F> {
    fn new(period: Duration, limit: u32, count: Count, failed: F) -> Self {
        let (elapsed, seen) = (Duration::ZERO, ArmCounts::default());
        Self { period, limit, count, failed, elapsed, seen, failures: 0 }
    }
}

impl<F: FnMut(&ArmCounts) -> bool> Rule for Checks<F> {
    fn goes_back(&mut self, _: TrafficShare, delta: &Delta) -> bool {
        self.seen.merge(&delta.arms[1]);
        self.elapsed += delta.lasted;
        // Half a microsecond: periods are sums of rounded steps.
        if self.elapsed + Duration::from_nanos(500) < self.period {
            return false;
        }
        self.elapsed = Duration::ZERO;
        if (self.failed)(&self.seen) {
            self.failures += 1;
        } else if matches!(self.count, Count::InARow) {
            self.failures = 0;
        }
        self.seen = ArmCounts::default();
        self.failures >= self.limit
    }
}

/// Error rates of the minutes so far, canary against control, every ten minutes from the thirtieth:
/// back when the canary's are higher at the 98 % level and by half.
#[derive(Default)]
struct Minutes {
    elapsed: Duration,
    now: [ArmCounts; 2],
    rates: [VecDeque<f64>; 2],
}

impl Rule for Minutes {
    fn goes_back(&mut self, _: TrafficShare, delta: &Delta) -> bool {
        for (now, batch) in self.now.iter_mut().zip(&delta.arms) {
            now.merge(batch);
        }
        self.elapsed += delta.lasted;
        if self.elapsed + Duration::from_nanos(500) < Duration::from_secs(60) {
            return false;
        }
        self.elapsed = Duration::ZERO;
        for (rates, now) in self.rates.iter_mut().zip(&mut self.now) {
            rates.push_back(rate(now));
            *now = ArmCounts::default();
        }
        let minutes = self.rates[0].len();
        let mean = |rates: &VecDeque<f64>| rates.iter().sum::<f64>() / rates.len() as f64;
        minutes >= 30
            && minutes % 10 == 0
            && mean(&self.rates[1]) > 1.5 * mean(&self.rates[0])
            && mann_whitney_z(&self.rates[1], &self.rates[0]) > 2.054
    }
}

/// Standardised Mann-Whitney statistic with the correction for ties; 0 when all values are equal.
fn mann_whitney_z(high: &VecDeque<f64>, low: &VecDeque<f64>) -> f64 {
    let mut all: Vec<(f64, bool)> =
        high.iter().map(|x| (*x, true)).chain(low.iter().map(|x| (*x, false))).collect();
    all.sort_by(|one, other| one.0.total_cmp(&other.0));
    let (n, m, total) = (high.len() as f64, low.len() as f64, all.len() as f64);
    let (mut ranks, mut ties, mut at) = (0.0, 0.0, 0);
    while at < all.len() {
        let same = all[at..].iter().take_while(|other| other.0 == all[at].0).count();
        let rank = at as f64 + (same as f64 + 1.0) / 2.0;
        ranks += rank * all[at..at + same].iter().filter(|other| other.1).count() as f64;
        ties += (same as f64).powi(3) - same as f64;
        at += same;
    }
    let u = ranks - n * (n + 1.0) / 2.0;
    let variance = n * m / 12.0 * (total + 1.0 - ties / (total * (total - 1.0)));
    if variance > 0.0 { (u - n * m / 2.0) / variance.sqrt() } else { 0.0 }
}
