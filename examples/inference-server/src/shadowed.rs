//! A candidate in the shadow of a baseline, over samples whose truth is known: what a shadow lane
//! would come to, and how sure that is.
//!
//! A pack is not a stream of users. Its samples are sorted, so they are shuffled first: evidence
//! that may be read at any time takes them as they come. And samples of one package are alike, so
//! packages, not samples, are what is independent; what that does to the certainty is worked out.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use pilotage::compare::comparator::{By, Exact};
use pilotage::control::shadow_page::{Names, page};
use pilotage::ids::Segment;
use pilotage::judge::clustering::Clustering;
use pilotage::judge::paired::{PairedQuality, PairedReading};
use pilotage::judge::shadow::{ShadowReport, ShadowRules};
use pilotage::observe::explorer::explorer::{Exploration, ExplorerOptions};
use pilotage::observe::shadow::{PairedTruth, ShadowCounts};
use pilotage::outcome::Status;
use pilotage::serve::executor::{Executor, Job, Rejected};
use pilotage::serve::request::Request;
use pilotage::serve::shadow_lane::{LaneOptions, Offer, ShadowLane};
use pilotage::sim::rng::Rng;
use pilotage::stats::moments::PairMoments;
use pilotage::stats::ratio::ratio_estimate;

use crate::arm::ModelArm;
use crate::compare::CALLERS;
use crate::model::{Answer, Classifier, Confidence};
use crate::pack::Sample;

/// What a shadow over a pack came to.
#[derive(Debug)]
pub struct Shadowed {
    baseline: String,
    candidate: String,
    labels: Vec<String>,
    /// The verdict and its numbers.
    pub report: ShadowReport,
    /// What was counted.
    pub counts: ShadowCounts,
    /// Where the models differ.
    pub cases: Exploration,
    /// What packages do to the certainty of the agreement.
    pub agreement: Option<Clustering>,
    /// What they do to that of the accuracy lost.
    pub loss: Option<Loss>,
    /// Quality by one sample of each package, which are independent.
    pub one_each: PairedReading,
}

/// The accuracy lost, as a part of samples, with its errors.
#[derive(Clone, Copy, Debug)]
pub struct Loss {
    /// The part of samples by which fewer are right; negative when more are.
    pub loss: f64,
    /// Its standard error if samples were independent.
    pub plain_error: f64,
    /// Its standard error between packages.
    pub package_error: f64,
    /// How many packages.
    pub packages: u64,
}

/// Jobs wait for whoever offered them: here there is nobody who must not wait.
#[derive(Clone, Debug, Default)]
struct Here(Arc<Queue>);

#[derive(Default)]
struct Queue(Mutex<Vec<Job>>);

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Queue")
    }
}

impl Executor for Here {
    fn spawn(&self, job: Job) -> Result<(), Rejected> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).push(job);
        Ok(())
    }
}

impl Here {
    fn run_one(&self) {
        let job = self.0.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(job) = job {
            job();
        }
    }
}

/// Shadows `baseline` with `candidate` over `samples`, in an order drawn by `seed`.
///
/// # Errors
///
/// When the lane cannot be opened or its rules cannot be judged by.
///
/// # Panics
///
/// When the baseline panics.
pub fn shadow(
    baseline: &Arc<Classifier>,
    candidate: &Arc<Classifier>,
    samples: &[Sample],
    seed: u64,
) -> Result<Shadowed, Box<dyn std::error::Error + Send + Sync>> {
    let mut labels: Vec<String> = samples.iter().map(|sample| sample.label.clone()).collect();
    labels.sort();
    labels.dedup();
    labels.truncate(Segment::MAX_DECLARED);
    let here = Here::default();
    let lane = ShadowLane::builder(Arc::new(ModelArm::new(Arc::clone(candidate))), here.clone())
        .compare(By::new(|answer: &Answer| Arc::clone(&answer.label), Exact))
        .classes(|answer| answer.label.to_string())
        .explore(ExplorerOptions::default())
        .describe_input(beginning)
        .describe_output(|answer| format!("{} ({:.3})", answer.label, answer.score))
        .options(LaneOptions {
            in_flight: u64::MAX,
            input_bytes: usize::MAX,
            deadline: Duration::from_secs(60),
            samples: samples.len(),
            segments: labels.clone(),
            ..LaneOptions::default()
        })
        .open()?;

    let order = shuffled(samples.len(), seed);
    let next = AtomicUsize::new(0);
    let answers: Vec<(usize, Option<Answer>)> = thread::scope(|scope| {
        let work = || {
            let mut answers = Vec::new();
            while let Some(at) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                let sample = &samples[*at];
                let began = Instant::now();
                let answer = baseline.classify(&sample.content, Confidence::Raw);
                let latency = began.elapsed();
                let who = Request::of(&sample.package).segment(&sample.label);
                lane.offer(&who, || Offer {
                    input: sample.content.as_slice().into(),
                    bytes: sample.content.len(),
                    status: if answer.is_ok() { Status::Ok } else { Status::Error },
                    latency,
                    output: answer.clone().ok(),
                    sample: Some(sample.id),
                });
                here.run_one();
                answers.push((*at, answer.ok()));
            }
            answers
        };
        let threads: Vec<_> = (0..CALLERS).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no model panics")).collect()
    });
    while lane.in_flight() > 0 {
        here.run_one();
    }
    // The truth comes later, as it does; which of the two was right is noted for the packages.
    let mut pairs = Vec::new();
    for (at, answer) in answers {
        let sample = &samples[at];
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (truth, note) = (sample.label.clone(), Arc::clone(&seen));
        lane.truth(sample.id, move |answer| {
            note.lock().unwrap_or_else(PoisonError::into_inner).push(answer.label.to_string());
            *answer.label == *truth
        });
        // The baseline is asked about first, where it answered.
        let seen = seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let theirs = seen.get(usize::from(answer.is_some()));
        let same = answer.as_ref().is_some_and(|old| theirs.is_some_and(|new| *old.label == **new));
        let right = answer.is_some_and(|answer| *answer.label == *sample.label);
        pairs.push((at, right, theirs.is_some_and(|new| *new == sample.label), same));
    }

    let counts = lane.counts();
    let mut packages: HashMap<&str, Package> = HashMap::new();
    for (at, baseline, candidate, same) in pairs {
        let package = packages.entry(&samples[at].package).or_default();
        package.pairs += 1.0;
        package.matches += f64::from(u8::from(same));
        package.lost += f64::from(u8::from(baseline)) - f64::from(u8::from(candidate));
        package.first.get_or_insert((baseline, candidate));
    }
    let units = |value: fn(&Package) -> f64| {
        let mut units = PairMoments::new();
        let mut all: Vec<_> = packages.iter().collect();
        all.sort_by_key(|(name, _)| **name); // one order, one sum
        all.iter().for_each(|(_, package)| units.push(value(package), package.pairs));
        units
    };
    let mut one_each = PairedTruth::default();
    packages.values().filter_map(|package| package.first).for_each(|(b, c)| one_each.add(b, c));
    let mut quality = PairedQuality::new(MARGIN, 0.01, 0.05)?.with_min_pairs(100);
    quality.observe(&one_each);

    // Where nothing else is asked, what is held against the truth is two points.
    let rules = ShadowRules { quality: Some(MARGIN), ..ShadowRules::default() };
    let name = |segment: Segment| {
        let label = segment.index().checked_sub(1).and_then(|at| labels.get(at));
        label.map_or_else(|| "other labels".to_owned(), |label| format!("`{label}`"))
    };
    let (classes, clusters) = (lane.classes(), lane.clusters());
    let report = rules.judge_named(&counts, Some(&classes), Some(&clusters), &name)?;
    Ok(Shadowed {
        baseline: baseline.name().to_owned(),
        candidate: candidate.name().to_owned(),
        labels,
        report,
        agreement: Clustering::of_units(&units(|package| package.matches)),
        loss: loss(&units(|package| package.lost), &counts.truth),
        one_each: quality.reading(),
        cases: lane.exploration().unwrap_or_default(),
        counts,
    })
}

#[derive(Default)]
struct Package {
    pairs: f64,
    matches: f64,
    lost: f64,
    first: Option<(bool, bool)>,
}

/// The loss, by samples and by packages (delta method).
fn loss(units: &PairMoments, truth: &PairedTruth) -> Option<Loss> {
    let estimate = ratio_estimate("loss", units).ok()?;
    let all = truth.total() as f64;
    let apart = (truth.only_baseline + truth.only_candidate) as f64 / all;
    Some(Loss {
        loss: estimate.ratio,
        plain_error: ((apart - estimate.ratio * estimate.ratio) / all).sqrt(),
        package_error: (estimate.variance / units.n() as f64).sqrt(),
        packages: units.n(),
    })
}

fn shuffled(len: usize, seed: u64) -> Vec<usize> {
    let mut rng = Rng::new(seed);
    let mut order: Vec<usize> = (0..len).collect();
    for at in (1..len).rev() {
        let other = rng.below(at as u64 + 1);
        order.swap(at, usize::try_from(other).unwrap_or(at));
    }
    order
}

/// The first characters of a content, for people.
fn beginning(content: &[u8]) -> String {
    String::from_utf8_lossy(&content[..content.len().min(400)]).into_owned()
}

impl Shadowed {
    /// The report as a page.
    #[must_use]
    pub fn page(&self) -> String {
        let segment = |segment: Segment| self.label(segment).map(str::to_owned);
        let names =
            Names { baseline: &self.baseline, candidate: &self.candidate, segment: &segment };
        page(&names, &self.report, &self.counts, &self.cases)
    }

    fn label(&self, segment: Segment) -> Option<&str> {
        self.labels.get(segment.index().checked_sub(1)?).map(String::as_str)
    }
}

impl fmt::Display for Shadowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |part: f64| 100.0 * part;
        let Self { counts, report, .. } = self;
        let truth = &counts.truth;
        writeln!(f, "shadow of {} by {}", self.baseline, self.candidate)?;
        writeln!(
            f,
            "  agreement      {:.2} % of {} pairs ({} differ)",
            percent(counts.agreement().unwrap_or(f64::NAN)),
            counts.pairs,
            counts.pairs - counts.matches
        )?;
        writeln!(f, "  beyond chance  {}", kappa(report))?;
        writeln!(
            f,
            "  discordant     {} broken, {} mended; {} right both, {} wrong both",
            truth.only_baseline, truth.only_candidate, truth.both_right, truth.both_wrong
        )?;
        if let Some(ratio) = report.median_ratio {
            writeln!(f, "  time           {ratio:.2} of the baseline's in the median")?;
        }
        if let Some(agreement) = &self.agreement {
            writeln!(
                f,
                "  agreement by package: {:.2} % ± {:.2} between {} packages, ± {:.2} if samples were \
                 independent; design effect {:.2}, worth {:.0} samples",
                percent(agreement.agreement),
                percent(agreement.cluster_error),
                agreement.clusters,
                percent(agreement.plain_error),
                agreement.design_effect,
                agreement.effective_pairs()
            )?;
        }
        if let Some(loss) = &self.loss {
            writeln!(
                f,
                "  loss by package: {:.2} points ± {:.2} between {} packages, ± {:.2} if samples were \
                 independent; {:.1} against {:.1} standard errors from 0",
                percent(loss.loss),
                percent(loss.package_error),
                loss.packages,
                percent(loss.plain_error),
                loss.loss / loss.package_error,
                loss.loss / loss.plain_error
            )?;
        }
        writeln!(f, "  one sample of each package: {}", self.one_each)?;
        if let Some(agreement) = self.agreement.filter(Clustering::is_clear) {
            writeln!(
                f,
                "  certainty: what the verdict says of accuracy takes samples for independent, and \
                 these are not: for files of other packages it is as sure as {:.0} samples, not {}",
                agreement.effective_pairs(),
                agreement.pairs
            )?;
        }
        let worse = report.segments.iter().filter(|segment| segment.worse);
        for segment in worse {
            let seen = &segment.counts;
            writeln!(
                f,
                "  worse at {}: {} of {} agree, {} broken, {} mended, evidence 10^{:.1}",
                self.label(seen.segment).unwrap_or("other labels"),
                seen.matches,
                seen.pairs,
                seen.truth.only_baseline,
                seen.truth.only_candidate,
                segment.ln_bad / std::f64::consts::LN_10
            )?;
        }
        let mut lost: Vec<_> = (report.segments.iter().map(|segment| &segment.counts))
            .filter(|seen| seen.truth.only_baseline > seen.truth.only_candidate)
            .collect();
        lost.sort_by_key(|seen| {
            std::cmp::Reverse(seen.truth.only_baseline - seen.truth.only_candidate)
        });
        for seen in lost.iter().take(5) {
            writeln!(
                f,
                "  lost at {}: {} broken, {} mended of {}",
                self.label(seen.segment).unwrap_or("other labels"),
                seen.truth.only_baseline,
                seen.truth.only_candidate,
                seen.truth.total()
            )?;
        }
        for pattern in self.cases.patterns.iter().take(5) {
            writeln!(
                f,
                "  differs: {} → {} where it is {}, {} times",
                pattern.from,
                pattern.to,
                self.label(pattern.segment).unwrap_or("other labels"),
                pattern.count
            )?;
        }
        write!(f, "  verdict: {report}")
    }
}

fn kappa(report: &ShadowReport) -> String {
    use pilotage::compare::agreement::Kappa;
    match report.kappa {
        Kappa::Known { kappa, error, .. } => format!("kappa {kappa:.3} ± {error:.3}"),
        Kappa::OneClass { .. } => "one class only".to_owned(),
        _ => "no pairs".to_owned(),
    }
}

/// The accuracy that may be lost.
const MARGIN: f64 = 0.02;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shuffle_has_everything_once_and_follows_its_seed() {
        let mut order = shuffled(1_000, 7);
        assert_eq!(order, shuffled(1_000, 7));
        assert_ne!(order, shuffled(1_000, 8));
        order.sort_unstable();
        assert!(order.iter().copied().eq(0..1_000));
    }
}
