//! Two models over the same samples, on this machine alone: what a rollout should find out.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::model::{CallError, Classifier, Confidence};
use crate::pack::Sample;

/// What one pass over the samples showed.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Samples both models were asked about.
    pub samples: usize,
    /// Samples the baseline labelled truly.
    pub baseline_correct: usize,
    /// Samples the candidate labelled truly.
    pub candidate_correct: usize,
    /// Samples only the candidate labelled truly.
    pub fixed: usize,
    /// Samples only the baseline labelled truly.
    pub broken: usize,
    /// The baseline's times for one call, sorted.
    pub baseline_times: Vec<Duration>,
    /// The candidate's times for one call, sorted.
    pub candidate_times: Vec<Duration>,
    /// The whole pass, on [`CALLERS`] threads.
    pub took: Duration,
}

/// Asks both models about every sample, each sample on one of [`CALLERS`] threads.
///
/// # Errors
///
/// [`CallError`] when a model leaves a sample unanswered.
///
/// # Panics
///
/// When a model panics.
pub fn compare(
    baseline: &Classifier,
    candidate: &Classifier,
    confidence: Confidence,
    samples: &[Sample],
) -> Result<Comparison, CallError> {
    let next = AtomicUsize::new(0);
    let began = Instant::now();
    let work = || {
        let mut pairs = Vec::new();
        while let Some(sample) = samples.get(next.fetch_add(1, Ordering::Relaxed)) {
            let ask = |model: &Classifier| -> Result<(bool, Duration), CallError> {
                let began = Instant::now();
                let answer = model.classify(&sample.content, confidence)?;
                Ok((*answer.label == *sample.label, began.elapsed()))
            };
            pairs.push((ask(baseline)?, ask(candidate)?));
        }
        Ok(pairs)
    };
    let pairs: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..CALLERS).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a model panicked"))
            .collect::<Result<Vec<_>, _>>()
    })?
    .into_iter()
    .flatten()
    .collect();
    let count = |wanted: fn(bool, bool) -> bool| {
        pairs.iter().filter(|(old, new)| wanted(old.0, new.0)).count()
    };
    let sorted = |mut times: Vec<Duration>| {
        times.sort_unstable();
        times
    };
    Ok(Comparison {
        samples: pairs.len(),
        baseline_correct: count(|old, _| old),
        candidate_correct: count(|_, new| new),
        fixed: count(|old, new| !old && new),
        broken: count(|old, new| old && !new),
        baseline_times: sorted(pairs.iter().map(|(old, _)| old.1).collect()),
        candidate_times: sorted(pairs.iter().map(|(_, new)| new.1).collect()),
        took: began.elapsed(),
    })
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = |f: &mut fmt::Formatter<'_>, name, correct: usize, times: &[Duration]| {
            let share = 100.0 * correct as f64 / self.samples.max(1) as f64;
            let at = |percent: usize| match times.get(times.len() * percent / 100) {
                Some(time) => 1e3 * time.as_secs_f64(),
                None => f64::NAN,
            };
            writeln!(
                f,
                "{name:<10} {correct:>6} of {} ({share:.2} %)   p50 {:>6.1} ms   p95 {:>6.1} ms",
                self.samples,
                at(50),
                at(95)
            )
        };
        row(f, "baseline", self.baseline_correct, &self.baseline_times)?;
        row(f, "candidate", self.candidate_correct, &self.candidate_times)?;
        writeln!(f, "fixed {}, broken {}", self.fixed, self.broken)?;
        write!(
            f,
            "one pass of both models took {:.1} s on {CALLERS} threads",
            self.took.as_secs_f64()
        )
    }
}

/// Threads that call the models at once.
pub const CALLERS: usize = 2;
