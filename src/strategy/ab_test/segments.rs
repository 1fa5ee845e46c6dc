//! What the aggregate hides, and a route that follows it.

use serde::{Deserialize, Serialize};

use crate::ids::{Name, Segment};
use crate::judge::experiment::ArmSums;
use crate::stats::asymptotic::{AnytimeDifference, anytime_difference};
use crate::strategy::ab_test::plan::Better;
use crate::strategy::ab_test::report::{Flag, SegmentReport};

/// Which arm serves which segment best; everybody else is on the arm that is best overall.
///
/// ```
/// use pilotage::ids::Segment;
/// use pilotage::strategy::ab_test::segments::SegmentRoutes;
///
/// let routes = SegmentRoutes::new(0).with(Segment::new(1), 1);
/// assert_eq!(routes.arm_for(Segment::new(1)), 1);
/// assert_eq!(routes.arm_for(Segment::NONE), 0);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentRoutes {
    everybody_else: usize,
    routes: Vec<(Segment, usize)>,
}

impl SegmentRoutes {
    /// Everybody on `arm`.
    #[must_use]
    pub const fn new(arm: usize) -> Self {
        Self { everybody_else: arm, routes: Vec::new() }
    }

    /// With `segment` on `arm`.
    #[must_use]
    pub fn with(mut self, segment: Segment, arm: usize) -> Self {
        self.routes.retain(|(known, _)| *known != segment);
        self.routes.push((segment, arm));
        self
    }

    /// The arm for a subject of `segment`.
    #[must_use]
    pub fn arm_for(&self, segment: Segment) -> usize {
        let own = self.routes.iter().find(|(known, _)| *known == segment);
        own.map_or(self.everybody_else, |(_, arm)| *arm)
    }
}

/// Two arms in one segment.
pub(super) struct Pair<'a> {
    pub(super) name: &'a Name,
    pub(super) baseline: &'a ArmSums,
    pub(super) candidate: &'a ArmSums,
}

/// How segments are judged.
#[derive(Clone, Copy)]
pub(super) struct Setting {
    pub(super) alpha: f64,
    pub(super) tuning: f64,
    pub(super) better: Better,
    pub(super) theta: f64,
    pub(super) center: f64,
}

/// The difference within one segment, with an interval for all segments together: each is held to
/// its part of α (Bonferroni), at every look.
pub(super) fn report(pair: &Pair<'_>, setting: Setting, segments: usize) -> SegmentReport {
    let own = Setting { alpha: setting.alpha / segments.max(1) as f64, ..setting };
    let difference = difference(pair, own);
    let value = |sums: &ArmSums| sums.estimate(own.theta, own.center).map(|own| own.value);
    SegmentReport {
        name: pair.name.clone(),
        baseline: (pair.baseline.count(), value(pair.baseline)),
        candidate: (pair.candidate.count(), value(pair.candidate)),
        effect: difference.map(|own| own.effect),
        interval: difference.filter(|own| own.low.is_finite()).map(|own| (own.low, own.high)),
    }
}

fn difference(pair: &Pair<'_>, setting: Setting) -> Option<AnytimeDifference> {
    let baseline = pair.baseline.estimate(setting.theta, setting.center)?;
    let candidate = pair.candidate.estimate(setting.theta, setting.center)?;
    if baseline.n < FEWEST || candidate.n < FEWEST {
        return None;
    }
    let n = (baseline.n + candidate.n) as f64;
    let variance = baseline.variance + candidate.variance;
    let effect = candidate.value - baseline.value;
    anytime_difference(effect, variance, n, setting.alpha, setting.tuning).ok()
}

/// What the aggregate hides.
pub(super) fn flags(
    whole: &Pair<'_>,
    pairs: &[Pair<'_>],
    reports: &[SegmentReport],
    setting: Setting,
) -> Vec<Flag> {
    let mut flags = Vec::new();
    let upward = match setting.better {
        Better::Higher => 1.0,
        Better::Lower => -1.0,
    };
    let shown = |sign: f64| {
        reports
            .iter()
            .filter(|report| {
                report.interval.is_some_and(|(low, high)| {
                    let (low, high) = (low * sign, high * sign);
                    low.min(high) > 0.0
                })
            })
            .map(|report| report.name.clone())
            .collect::<Vec<_>>()
    };
    let (candidate_better, baseline_better) = (shown(upward), shown(-upward));
    if !candidate_better.is_empty() && !baseline_better.is_empty() {
        flags.push(Flag::QualitativeInteraction { candidate_better, baseline_better });
    }
    if let Some(flag) = simpson(whole, pairs, setting) {
        flags.push(flag);
    }
    flags
}

/// The aggregate against the segments weighted by their size (Mantel and Haenszel's weights), both
/// shown to differ from nothing, in opposite directions. Under an even split that cannot happen
/// but by a broken assignment, since both arms then have the same mix.
fn simpson(whole: &Pair<'_>, pairs: &[Pair<'_>], setting: Setting) -> Option<Flag> {
    let crude = difference(whole, setting)?;
    let (mut effect, mut variance, mut weights) = (0.0, 0.0, 0.0);
    let mut n = 0.0;
    for pair in pairs {
        let baseline = pair.baseline.estimate(setting.theta, setting.center)?;
        let candidate = pair.candidate.estimate(setting.theta, setting.center)?;
        let (a, b) = (baseline.n as f64, candidate.n as f64);
        let weight = a * b / (a + b);
        effect += weight * (candidate.value - baseline.value);
        variance += weight * weight * (baseline.variance + candidate.variance);
        weights += weight;
        n += a + b;
    }
    if weights <= 0.0 {
        return None;
    }
    let (effect, variance) = (effect / weights, variance / (weights * weights));
    let within = anytime_difference(effect, variance, n, setting.alpha, setting.tuning).ok()?;
    let excludes = |own: &AnytimeDifference| own.low > 0.0 || own.high < 0.0;
    (excludes(&crude) && excludes(&within) && crude.effect * within.effect < 0.0)
        .then_some(Flag::Simpson { crude: crude.effect, within: within.effect })
}

/// Measurements of each arm before a segment is judged.
const FEWEST: u64 = 100;
