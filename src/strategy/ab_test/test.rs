//! The test itself: measurements in, a report out.

use serde::{Deserialize, Serialize};

use crate::clock::Moment;
use crate::ids::Segment;
use crate::judge::experiment::{ArmSums, Estimate, Lump, Measurement, Metric, theta};
use crate::judge::stage::StageJudge;
use crate::judge::verdict::Verdict;
use crate::machine::Seen;
use crate::route::bucket::{Bucketing, Scheme, hash_of};
use crate::stats::asymptotic::anytime_difference;
use crate::stats::eprocess::eprocess_binomial_two_sided_beta_mixture;
use crate::stats::error::StatsError;
use crate::stats::sample_ratio::{SampleRatioTest, USUAL_CONCENTRATION};
use crate::stats::spending::{Boundaries, Spending};
use crate::stats::tails::normal_upper_quantile;
use crate::strategy::ab_test::plan::{ABTestError, ABTestPlan, Better, Horizon, Spread};
use crate::strategy::ab_test::report::{ArmReport, Comparison, Flag, Outcome, Report};
use crate::strategy::ab_test::segments::{Pair, SegmentRoutes, Setting, flags, report};

/// A comparison under way.
///
/// ```
/// use pilotage::ids::{Name, Segment};
/// use pilotage::judge::experiment::{Measurement, Metric};
/// use pilotage::strategy::ab_test::plan::ABTestPlan;
/// use pilotage::strategy::ab_test::report::Outcome;
/// use pilotage::strategy::ab_test::test::ABTest;
///
/// let (old, new) = (Name::new("v1")?, Name::new("v2")?);
/// let mut test = ABTest::new(ABTestPlan::new(old, new, Metric::Rate, 0.05, 2_000), "ranker")?;
/// for user in 0_u32..4_000 {
///     let id = user.to_string();
///     let arm = test.assign(id.as_bytes());
///     let clicked = if arm == 0 { user % 2 == 0 } else { user % 5 != 0 };
///     test.record(arm, Segment::NONE, id.as_bytes(), Measurement::rate(clicked))?;
/// }
/// let report = test.report();
/// assert_eq!(report.outcome, Outcome::Winner { arm: 1 }, "{report}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored")]
pub struct ABTest {
    plan: ABTestPlan,
    salt: String,
    #[serde(skip)]
    bucketing: Bucketing,
    /// Upper end of each arm's part of the hash, from 0 to 1.
    #[serde(skip)]
    ends: Vec<f64>,
    /// By arm: everybody, then each declared segment.
    sums: Vec<Vec<ArmSums>>,
    subjects: Subjects,
    /// What the looks at [`ABTest::looked_at`] left to spend; made anew from those when loaded.
    #[serde(skip)]
    boundaries: Option<Boundaries>,
    /// The information at each planned look, at most 100.
    looked_at: Vec<f64>,
    steps: u32,
    looks: usize,
    information: f64,
    latest: Vec<Comparison>,
    sample_ratio: SampleRatioTest,
    guard: Option<StageJudge>,
    decided: Option<Outcome>,
}

/// A test as it is stored: what cannot be computed from the rest.
#[derive(Deserialize)]
struct Stored {
    plan: ABTestPlan,
    salt: String,
    sums: Vec<Vec<ArmSums>>,
    subjects: Subjects,
    looked_at: Vec<f64>,
    steps: u32,
    looks: usize,
    information: f64,
    latest: Vec<Comparison>,
    sample_ratio: SampleRatioTest,
    guard: Option<StageJudge>,
    decided: Option<Outcome>,
}

impl TryFrom<Stored> for ABTest {
    type Error = ABTestError;

    fn try_from(stored: Stored) -> Result<Self, ABTestError> {
        let mut test = Self::new(stored.plan, &stored.salt)?;
        let shape = |sums: &[Vec<ArmSums>]| sums.iter().map(Vec::len).collect::<Vec<_>>();
        if shape(&stored.sums) != shape(&test.sums) || !stored.subjects.fits(test.plan.arms.len()) {
            return Err(ABTestError::Judge("stored sums do not fit the plan".to_owned()));
        }
        if let Some(boundaries) = &mut test.boundaries {
            for information in &stored.looked_at {
                let judge = |error: StatsError| ABTestError::Judge(error.to_string());
                boundaries.next(*information).map_err(judge)?;
            }
        }
        Ok(Self {
            sums: stored.sums,
            subjects: stored.subjects,
            looked_at: stored.looked_at,
            steps: stored.steps,
            looks: stored.looks,
            information: stored.information,
            latest: stored.latest,
            sample_ratio: stored.sample_ratio,
            guard: stored.guard,
            decided: stored.decided,
            ..test
        })
    }
}

impl ABTest {
    /// A test of `plan`. `salt` decides who is on which arm: another salt, another split.
    ///
    /// # Errors
    ///
    /// [`ABTestError`] when the plan cannot be run.
    pub fn new(plan: ABTestPlan, salt: &str) -> Result<Self, ABTestError> {
        plan.check()?;
        let judge = |error: &dyn std::fmt::Display| ABTestError::Judge(error.to_string());
        let total: f64 = plan.arms.iter().map(|(_, weight)| weight).sum();
        let mut end = 0.0;
        let ends = plan.arms.iter().map(|(_, weight)| {
            end += weight / total;
            end
        });
        let ends: Vec<f64> = ends.collect();
        let alpha = plan.alpha / (plan.arms.len() - 1) as f64;
        let boundaries = match plan.horizon {
            Horizon::Planned { spending, .. } => {
                let spending = match spending {
                    Spread::OBrienFleming => Spending::OBrienFleming,
                    Spread::Pocock => Spending::Pocock,
                };
                let alpha = alpha * (1.0 - exact_part(&plan));
                Some(Boundaries::new(spending, alpha / 2.0).map_err(|error| judge(&error))?)
            }
            Horizon::Open { .. } | Horizon::FixedOneLook { .. } => None,
        };
        let weights: Vec<f64> = plan.arms.iter().map(|(_, weight)| *weight).collect();
        let sample_ratio = SampleRatioTest::new(&weights, USUAL_CONCENTRATION)?;
        let guard = if plan.guardrails.is_empty() {
            None
        } else {
            let guard = StageJudge::open(plan.guardrails.clone(), GUARD_ALPHA, GUARD_BETA);
            Some(guard.map_err(|error| judge(&error))?)
        };
        let sums = vec![vec![ArmSums::default(); plan.segments.len() + 1]; plan.arms.len()];
        Ok(Self {
            salt: salt.to_owned(),
            bucketing: Bucketing::new(&Scheme::new(salt)),
            ends,
            sums,
            subjects: Subjects::new(plan.arms.len()),
            boundaries,
            looked_at: Vec::new(),
            steps: 0,
            looks: 0,
            information: 0.0,
            latest: Vec::new(),
            sample_ratio,
            guard,
            decided: None,
            plan,
        })
    }

    /// The arm of a subject: the same for ever, on every replica.
    #[must_use]
    pub fn assign(&self, subject: &[u8]) -> usize {
        let place = self.bucketing.arm_hash(subject) as f64 / TWO_64;
        let last = self.ends.len() - 1;
        self.ends.iter().position(|end| place < *end).unwrap_or(last)
    }

    /// Takes in a measurement of a subject on `arm`. After the test is over it changes nothing.
    ///
    /// # Errors
    ///
    /// [`ABTestError`] for an arm or segment that was not declared, or a value that is no
    /// measurement of the metric; it is not counted then.
    pub fn record(
        &mut self,
        arm: usize,
        segment: Segment,
        subject: &[u8],
        measurement: Measurement,
    ) -> Result<(), ABTestError> {
        let declared = self.plan.arms.len();
        if arm >= declared {
            return Err(ABTestError::Undeclared { what: "arm", number: arm, declared });
        }
        measurement.check(self.plan.metric)?;
        let hash = hash_of(subject, CLUSTER_SEED);
        if self.subjects.first(arm, hash) {
            let mut counts = vec![0.0; declared];
            counts[arm] = 1.0;
            self.sample_ratio.push(&counts)?;
        }
        let own = segment.index();
        self.sums[arm][0].add(hash, &measurement);
        if (1..=self.plan.segments.len()).contains(&own) {
            self.sums[arm][own].add(hash, &measurement);
        }
        self.look();
        Ok(())
    }

    /// Takes in measurements of which only the sums are known, of one segment (or of everybody, for
    /// [`Segment::NONE`]); segments that were not declared are left out. Takes no look yet: see
    /// [`ABTest::look_now`]. Who was measured is not known, so the split is not checked by these.
    pub fn add_lump(&mut self, arm: usize, segment: Segment, lump: &Lump) {
        let own = segment.index();
        if own <= self.plan.segments.len() {
            if let Some(sums) = self.sums.get_mut(arm).and_then(|arm| arm.get_mut(own)) {
                sums.add_lump(lump);
            }
        }
    }

    /// Takes the planned look that is due, if one is, also after the test is decided: what won
    /// early may lose later, and whoever serves it wants to know ([`ABTest::comparisons`]).
    pub fn look_now(&mut self) {
        if let Horizon::Planned { .. } | Horizon::FixedOneLook { .. } = self.plan.horizon {
            let decided = self.look_whatever_is_decided();
            self.decided = self.decided.take().or(decided);
        }
    }

    /// What each further arm shows against the baseline: with an open horizon now, with a planned
    /// one at the latest planned look.
    #[must_use]
    pub fn comparisons(&self) -> Vec<Comparison> {
        match self.plan.horizon {
            Horizon::Open { .. } => self.compare(None),
            Horizon::Planned { .. } | Horizon::FixedOneLook { .. } => self.latest.clone(),
        }
    }

    /// Takes in a batch of calls for the guardrails. Returns whether one broke.
    pub fn observe(&mut self, _now: Moment, seen: &Seen) -> bool {
        let Some(guard) = &mut self.guard else { return false };
        guard.observe(seen.share, &seen.live);
        let verdict = guard.verdict();
        if let (Verdict::RollBack { .. }, None) = (&verdict, &self.decided) {
            self.decided = Some(Outcome::RolledBack { reason: verdict.to_string() });
        }
        matches!(self.decided, Some(Outcome::RolledBack { .. }))
    }

    /// Everything known now. Looking is free.
    #[must_use]
    pub fn report(&self) -> Report {
        let (theta, center) = self.adjustment();
        let arms = self.plan.arms.iter().zip(&self.sums).enumerate();
        let arms: Vec<ArmReport> = arms
            .map(|(at, ((name, _), sums))| ArmReport {
                name: name.clone(),
                n: sums[0].count(),
                events: sums[0].events(),
                value: sums[0].estimate(theta, center).map(|own| own.value),
                subjects: self.subjects.counts[at],
            })
            .collect();
        let segments: Vec<_> = self.pairs();
        let setting = self.setting(theta, center);
        let reports: Vec<_> =
            segments.iter().map(|pair| report(pair, setting, segments.len())).collect();
        let whole = self.pair(0, &self.plan.arms[0].0);
        let flags = flags(&whole, &segments, &reports, setting);
        let comparisons = self.comparisons();
        let planned = !matches!(self.plan.horizon, Horizon::Open { .. });
        Report {
            outcome: self.outcome(),
            arms,
            comparisons,
            required_per_arm: self.required(),
            information: planned.then_some(self.information),
            looks: self.looks,
            segments: reports,
            flags,
            sample_ratio_p: self.sample_ratio.p(),
            alpha: self.plan.alpha,
            margin: self.plan.margin,
        }
    }

    /// Which arm to serve to whom, where the report advises it: each segment by the arm shown to be
    /// better there, everybody else by the winner, or by the baseline.
    #[must_use]
    pub fn routes(&self) -> SegmentRoutes {
        let report = self.report();
        let overall = match report.outcome {
            Outcome::Winner { arm } => arm,
            _ => 0,
        };
        let mut routes = SegmentRoutes::new(overall);
        for flag in &report.flags {
            let Flag::QualitativeInteraction { candidate_better, baseline_better } = flag else {
                continue;
            };
            for (names, arm) in [(candidate_better, 1), (baseline_better, 0)] {
                for (at, name) in self.plan.segments.iter().enumerate() {
                    if names.contains(name) {
                        routes = routes.with(Segment::new((at + 1) as u8), arm);
                    }
                }
            }
        }
        routes
    }

    /// The plan.
    #[must_use]
    pub const fn plan(&self) -> &ABTestPlan {
        &self.plan
    }

    fn outcome(&self) -> Outcome {
        // Harm outranks everything; a broken split outranks any winner.
        if let Some(harm @ Outcome::RolledBack { .. }) = &self.decided {
            return harm.clone();
        }
        if self.sample_ratio.p() < SAMPLE_RATIO_ALPHA {
            let counts = &self.subjects.counts;
            let reason = format!(
                "subjects are not split as planned ({counts:?} seen, p {:.1e}); mend the assignment \
                 or the recording and begin again",
                self.sample_ratio.p()
            );
            return Outcome::Invalid { reason };
        }
        self.decided.clone().unwrap_or_else(|| Outcome::Running { needed: self.needed() })
    }

    /// Takes a look, if the plan says that one is due, and decides.
    fn look(&mut self) {
        if self.decided.is_none() {
            self.decided = self.look_whatever_is_decided();
        }
    }

    /// Takes the look that is due, if one is, and says what it would decide.
    fn look_whatever_is_decided(&mut self) -> Option<Outcome> {
        let fewest = self.sums.iter().map(|arm| arm[0].count()).min().unwrap_or(0);
        let (comparisons, last) = match self.plan.horizon {
            Horizon::Open { .. } => {
                // Every look is valid; one in a hundred measurements is soon enough and cheap.
                let total: u64 = self.sums.iter().map(|arm| arm[0].count()).sum();
                if total % (1 + total / 100) != 0 {
                    return None;
                }
                (self.compare(None), false)
            }
            Horizon::Planned { per_arm, looks, .. } => {
                self.information = (fewest as f64 / per_arm as f64).min(1.0);
                let step = (self.information * f64::from(looks)) as u32;
                if step <= self.steps {
                    return None;
                }
                self.steps = step;
                let boundary = self.boundaries.as_mut().map(|own| own.next(self.information));
                let Some(Ok(boundary)) = boundary else { return None };
                self.looked_at.push(self.information);
                (self.compare(Some(boundary)), self.information >= 1.0)
            }
            Horizon::FixedOneLook { per_arm } => {
                self.information = (fewest as f64 / per_arm as f64).min(1.0);
                if fewest < per_arm {
                    return None;
                }
                let level = self.alpha() / 2.0;
                (self.compare(Some(normal_upper_quantile(level.ln()))), true)
            }
        };
        self.looks += 1;
        let decided = self.decide(&comparisons, last);
        self.latest = comparisons;
        decided
    }

    fn decide(&self, comparisons: &[Comparison], last: bool) -> Option<Outcome> {
        if comparisons.is_empty() {
            return last.then_some(Outcome::Inconclusive);
        }
        if comparisons.iter().all(|own| own.within_margin) {
            return Some(Outcome::Equivalent);
        }
        let upward = self.upward();
        let better = comparisons.iter().filter(|own| own.differs && own.effect * upward > 0.0);
        let best =
            better.max_by(|one, two| (one.effect * upward).total_cmp(&(two.effect * upward)));
        if let Some(best) = best {
            return Some(Outcome::Winner { arm: best.arm });
        }
        if comparisons.iter().all(|own| own.differs) {
            return Some(Outcome::Winner { arm: 0 });
        }
        last.then_some(Outcome::Inconclusive)
    }

    /// Each arm against the baseline: by `boundary` at a planned look, by what is valid at every
    /// look otherwise.
    fn compare(&self, boundary: Option<f64>) -> Vec<Comparison> {
        let (theta, center) = self.adjustment();
        let estimates: Vec<Option<Estimate>> =
            self.sums.iter().map(|arm| arm[0].estimate(theta, center)).collect();
        let Some(Some(baseline)) = estimates.first() else { return Vec::new() };
        let others = estimates.iter().enumerate().skip(1);
        others
            .filter_map(|(arm, estimate)| {
                Some(self.comparison(arm, *baseline, (*estimate)?, boundary))
            })
            .collect()
    }

    fn comparison(
        &self,
        arm: usize,
        baseline: Estimate,
        candidate: Estimate,
        boundary: Option<f64>,
    ) -> Comparison {
        let effect = candidate.value - baseline.value;
        let variance = baseline.variance + candidate.variance;
        let error = variance.sqrt();
        let enough = [baseline, candidate].iter().all(|own| self.is_large(own)) && variance > 0.0;
        let z = if variance > 0.0 { effect / error } else { 0.0 };
        let n = (baseline.n + candidate.n) as f64;
        let (part, mut ln_e, mut differs) = (self.exact_part(), None, false);
        if part > 0.0 {
            ln_e = self.exact(arm, &baseline, &candidate);
            differs = ln_e.is_some_and(|ln_e| ln_e >= (1.0 / (self.alpha() * part)).ln());
        }
        let interval = match (boundary, self.plan.horizon) {
            (Some(boundary), _) if enough => {
                differs |= z.abs() >= boundary;
                Some((effect - boundary * error, effect + boundary * error))
            }
            (None, Horizon::Open { tuned_to }) => {
                let (alpha, tuning) = (self.alpha() * (1.0 - part), 2.0 * tuned_to as f64);
                let own = anytime_difference(effect, variance, n, alpha, tuning).ok();
                let own = own.filter(|own| enough && own.low.is_finite());
                differs |= own.is_some_and(|own| own.low > 0.0 || own.high < 0.0);
                own.map(|own| (own.low, own.high))
            }
            _ => None,
        };
        let margin = self.plan.margin;
        let within_margin = interval.is_some_and(|(low, high)| low > -margin && high < margin);
        Comparison { arm, effect, interval, z, boundary, ln_e, differs, within_margin }
    }

    /// Which part of α the exact test of small counts has. It may be used where each subject brings
    /// one yes or no; with a planned horizon it is there for the rare case that an arm hardly varies,
    /// and costs the planned looks next to nothing.
    fn exact_part(&self) -> f64 {
        exact_part(&self.plan)
    }

    /// Given how many successes there were in all, how many fell on the arm is binomial if the
    /// arms do not differ; the same of failures. The mean of the two e-values is one.
    fn exact(&self, arm: usize, baseline: &Estimate, candidate: &Estimate) -> Option<f64> {
        let (theirs, mine) = (self.plan.arms[0].1, self.plan.arms[arm].1);
        let share = mine / (mine + theirs);
        let ln_e = |on_arm: u64, off: u64| {
            let (on_arm, all) = (on_arm as f64, on_arm as f64 + off as f64);
            eprocess_binomial_two_sided_beta_mixture(on_arm, all, share, 0.5, 0.5).ok()
        };
        let successes = ln_e(candidate.events, baseline.events)?;
        let failures = ln_e(candidate.n - candidate.events, baseline.n - baseline.events)?;
        let top = successes.max(failures);
        Some(top + (((successes - top).exp() + (failures - top).exp()) / 2.0).ln())
    }

    /// Whether the normal limit may be trusted.
    fn is_large(&self, estimate: &Estimate) -> bool {
        let rarer = match self.plan.metric {
            Metric::Rate => estimate.events.min(estimate.n - estimate.events),
            Metric::Mean | Metric::Ratio => estimate.n,
        };
        rarer >= FEWEST_EVENTS
    }

    /// Measurements an arm for 80 % power at the smallest difference worth finding, from what the
    /// baseline shows.
    fn required(&self) -> Option<u64> {
        let baseline = self.sums[0][0].estimate(0.0, 0.0)?;
        let z =
            normal_upper_quantile((self.alpha() / 2.0).ln()) + normal_upper_quantile(0.2_f64.ln());
        let n = if self.plan.metric == Metric::Rate {
            // Cohen's h, from the observed rate to the one that would be worth finding.
            let p = baseline.value;
            let goal = p + self.plan.effect * if p + self.plan.effect < 1.0 { 1.0 } else { -1.0 };
            let angle = |p: f64| 2.0 * p.clamp(0.0, 1.0).sqrt().asin();
            let h = angle(goal) - angle(p);
            (z / h).powi(2) * 2.0
        } else {
            let unit = baseline.variance * baseline.n as f64;
            2.0 * unit * (z / self.plan.effect).powi(2)
        };
        (n.is_finite() && n < 1e18).then(|| n.ceil() as u64)
    }

    fn needed(&self) -> Option<u64> {
        let arms = self.plan.arms.len() as u64;
        let total: u64 = self.sums.iter().map(|arm| arm[0].count()).sum();
        match self.plan.horizon {
            Horizon::Planned { per_arm, .. } | Horizon::FixedOneLook { per_arm } => {
                Some(per_arm.saturating_mul(arms).saturating_sub(total))
            }
            // What peeking for ever costs against one look, about, at the tuned size.
            Horizon::Open { .. } => {
                let whole = self.required()?.saturating_mul(arms).saturating_mul(16) / 10;
                Some(whole.saturating_sub(total))
            }
        }
    }

    fn adjustment(&self) -> (f64, f64) {
        if self.plan.covariate { theta(self.sums.iter().map(|arm| &arm[0])) } else { (0.0, 0.0) }
    }

    fn setting(&self, theta: f64, center: f64) -> Setting {
        let per_arm = match self.plan.horizon {
            Horizon::Planned { per_arm, .. } | Horizon::FixedOneLook { per_arm } => per_arm,
            Horizon::Open { tuned_to } => tuned_to,
        };
        let parts = self.plan.segments.len().max(1) as f64;
        let tuning = (2.0 * per_arm as f64 / parts).max(1.0);
        Setting { alpha: self.plan.alpha, tuning, better: self.plan.better, theta, center }
    }

    fn pair<'a>(&'a self, segment: usize, name: &'a crate::ids::Name) -> Pair<'a> {
        Pair { name, baseline: &self.sums[0][segment], candidate: &self.sums[1][segment] }
    }

    fn pairs(&self) -> Vec<Pair<'_>> {
        let names = self.plan.segments.iter().enumerate();
        names.map(|(at, name)| self.pair(at + 1, name)).collect()
    }

    /// α for one comparison with the baseline.
    fn alpha(&self) -> f64 {
        self.plan.alpha / (self.plan.arms.len() - 1) as f64
    }

    const fn upward(&self) -> f64 {
        match self.plan.better {
            Better::Higher => 1.0,
            Better::Lower => -1.0,
        }
    }
}

fn exact_part(plan: &ABTestPlan) -> f64 {
    if !plan.one_each || plan.metric != Metric::Rate {
        return 0.0;
    }
    match plan.horizon {
        Horizon::Open { .. } => 0.1,
        Horizon::Planned { .. } => 0.02,
        Horizon::FixedOneLook { .. } => 0.0,
    }
}

/// Subjects seen, as a set of bits. Two subjects that share a bit count once; that happens to all
/// arms alike, so their ratio is untouched. Once most bits are set no more subjects are counted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Subjects {
    /// Empty before the first.
    bits: Vec<u64>,
    counts: Vec<u64>,
}

impl Subjects {
    fn new(arms: usize) -> Self {
        Self { bits: Vec::new(), counts: vec![0; arms] }
    }

    fn fits(&self, arms: usize) -> bool {
        self.counts.len() == arms && [0, SUBJECT_BITS / 64].contains(&self.bits.len())
    }

    fn first(&mut self, arm: usize, hash: u64) -> bool {
        if self.bits.is_empty() {
            self.bits = vec![0; SUBJECT_BITS / 64];
        }
        let bit = (hash >> 20) as usize % SUBJECT_BITS;
        let (word, mask) = (&mut self.bits[bit / 64], 1 << (bit % 64));
        let first = *word & mask == 0;
        *word |= mask;
        self.counts[arm] += u64::from(first);
        first
    }
}

/// 128 KB: about a million subjects are told apart.
const SUBJECT_BITS: usize = 1 << 20;
const TWO_64: f64 = 18_446_744_073_709_551_616.0;
/// Another seed than any salt gives: clusters must not follow arms.
const CLUSTER_SEED: u64 = 0x9e37_79b9_7f4a_7c15;
const FEWEST_EVENTS: u64 = 100;
const SAMPLE_RATIO_ALPHA: f64 = 0.001;
const GUARD_ALPHA: f64 = 0.01;
const GUARD_BETA: f64 = 0.05;
