//! An A/B test as a stage of a rollout.
//!
//! The candidate serves a share beside the baseline, guarded as a canary is, and the quality of the
//! answers is compared as the server's own counters know it. It passes when every measure that was
//! reported shows a win or a loss smaller than the margin, and every guardrail holds. It is taken
//! back when one measure shows a loss, or a guardrail breaks, on whatever day that happens: nothing
//! is decided once and for all before the stage is left.
//!
//! Where the candidate wins in one segment and loses in another, a person decides: no single winner
//! serves everybody best.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{Arm, Name, Segment};
use crate::judge::experiment::{Lump, Metric};
use crate::judge::guardrail::{Guardrail, NoData};
use crate::judge::stage::{JudgeError, StageJudge};
use crate::judge::verdict::Verdict;
use crate::machine::Seen;
use crate::observe::snapshot::{ArmCounts, ScoreSums, Tally};
use crate::outcome::Status;
use crate::strategy::ab_test::plan::{ABTestError, ABTestPlan, Better, Horizon};
use crate::strategy::ab_test::report::{Comparison, Flag, Report};
use crate::strategy::ab_test::test::ABTest;
use crate::strategy::conclusion::{Conclusion, Step};

/// A measure of quality, as the server's own counts know it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Compared {
    /// The share of right answers, of those whose truth arrived.
    Truths,
    /// The mean of the scores given with the answers.
    Scores,
    /// The share of calls that were answered in time and without an error.
    Answers,
}

/// What an A/B stage compares, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Terms {
    /// The measures; each has its part of `alpha`.
    pub of: Vec<Compared>,
    /// Whether more is better.
    pub better: Better,
    /// The loss that would not matter, in the measure's own unit.
    pub margin: f64,
    /// When one may look.
    pub horizon: Horizon,
    /// The chance, at the most, that a candidate that is as good is declared the loser.
    pub alpha: f64,
    /// The segments, in the order in which the router declares them.
    pub segments: Vec<Name>,
    /// Whether it may pass without any of the measures.
    pub no_data: NoData,
}

/// A canary whose quality is compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ABStage {
    judge: StageJudge,
    tests: Vec<(Compared, ABTest)>,
    no_data: NoData,
}

/// A stage that cannot be run.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ABStageError {
    /// Its guardrails or levels cannot be used.
    #[error(transparent)]
    Judge(#[from] JudgeError),
    /// What it compares cannot be compared.
    #[error(transparent)]
    Test(#[from] ABTestError),
    /// It compares nothing, or one thing twice.
    #[error("an A/B test compares truths, scores or answers, each once; name at least one")]
    Measures,
}

impl Terms {
    /// A comparison of `of` with a margin, at every look, at `alpha`.
    #[must_use]
    pub const fn new(of: Vec<Compared>, margin: f64, alpha: f64) -> Self {
        Self {
            of,
            better: Better::Higher,
            margin,
            horizon: Horizon::Open { tuned_to: 5_000 },
            alpha,
            segments: Vec::new(),
            no_data: NoData::Hold,
        }
    }

    /// The test of one measure.
    ///
    /// # Errors
    ///
    /// [`ABTestError`] for the first setting that cannot be used.
    #[expect(clippy::missing_panics_doc, reason = "never: the names are fixed")]
    pub fn test(&self, compared: Compared) -> Result<ABTest, ABTestError> {
        let name = |name| Name::new(name).expect("a name without control characters");
        let metric = match compared {
            Compared::Truths | Compared::Answers => Metric::Rate,
            Compared::Scores => Metric::Mean,
        };
        let (baseline, candidate) = (name("baseline"), name("candidate"));
        let plan = ABTestPlan::new(baseline, candidate, metric, self.margin, 1_000)
            .horizon(self.horizon)
            .margin(self.margin)
            .better(self.better)
            // Two-sided, of which one side takes a candidate back.
            .alpha(2.0 * self.alpha / self.of.len().max(1) as f64)
            .segments(self.segments.iter().cloned());
        ABTest::new(plan, compared.word())
    }
}

impl ABStage {
    /// A stage with the levels of [`crate::strategy::canary::Canary::new`] for its guardrails, and
    /// those of `terms` for what is compared.
    ///
    /// # Errors
    ///
    /// [`ABStageError`] when a guardrail, a level or a term cannot be used.
    pub fn new(
        guardrails: Vec<Guardrail>,
        alpha: f64,
        beta: f64,
        planned: Duration,
        collected: &ArmCounts,
        terms: &Terms,
    ) -> Result<Self, ABStageError> {
        let repeats = |at: usize| terms.of[..at].contains(&terms.of[at]);
        if terms.of.is_empty() || (1..terms.of.len()).any(repeats) {
            return Err(ABStageError::Measures);
        }
        let judge = StageJudge::new(guardrails, alpha, beta, planned)?.with_baseline(collected);
        let tests = terms.of.iter().map(|compared| Ok((*compared, terms.test(*compared)?)));
        let tests = tests.collect::<Result<_, ABTestError>>()?;
        Ok(Self { judge, tests, no_data: terms.no_data })
    }

    /// Takes in a batch.
    pub fn observe(&mut self, seen: &Seen) {
        self.judge.observe(seen.share, &seen.live);
        for (compared, test) in &mut self.tests {
            for arm in [Arm::BASELINE, Arm::CANDIDATE] {
                if let Some(counts) = seen.live.arm(arm) {
                    test.add_lump(arm.index(), Segment::NONE, &compared.of_arm(counts));
                }
                for segment in &seen.live.segments {
                    let declared = segment.segment != Segment::NONE;
                    if let (true, Some(tally)) = (declared, segment.arm(arm)) {
                        test.add_lump(arm.index(), segment.segment, &compared.of_segment(tally));
                    }
                }
            }
            test.look_now();
        }
    }

    /// What the guardrails say.
    pub fn verdict(&self) -> Verdict {
        self.judge.verdict()
    }

    /// What was seen of `arm` in this stage.
    #[must_use]
    pub fn seen(&self, arm: Arm) -> &ArmCounts {
        self.judge.seen(arm)
    }

    /// What each comparison has come to.
    #[must_use]
    pub fn reports(&self) -> Vec<(Compared, Report)> {
        self.tests.iter().map(|(compared, test)| (*compared, test.report())).collect()
    }

    /// What follows, without the sentence.
    #[must_use]
    pub fn step(&self) -> Step {
        let health = Step::from(&self.judge.glance());
        if matches!(health, Step::TakeBack | Step::Pause) {
            return health;
        }
        let standings = || self.tests.iter().map(|(_, test)| standing(test));
        let found = || standings().filter(|standing| *standing != Standing::NoData);
        if found().any(|standing| standing == Standing::Lost) {
            Step::TakeBack
        } else if found().any(|standing| standing == Standing::Split) {
            Step::Pause
        } else if found().next().is_none() {
            if self.no_data == NoData::Skip { health } else { Step::Wait }
        } else if health == Step::Pass && found().all(|standing| standing == Standing::Good) {
            Step::Pass
        } else {
            Step::Wait
        }
    }

    /// What follows.
    #[must_use]
    pub fn conclusion(&self) -> Conclusion {
        let (verdict, step) = (self.judge.verdict(), self.step());
        let health = Conclusion::from(&verdict);
        if matches!(health.step, Step::TakeBack | Step::Pause) {
            return health;
        }
        let of = |wanted: &dyn Fn(Standing) -> bool| {
            let tests = self.tests.iter().filter(|(_, test)| wanted(standing(test)));
            let told = |(compared, test): &(Compared, ABTest)| {
                format!("{}: {}", compared.word(), sentence(test))
            };
            tests.map(told).collect::<Vec<_>>().join("; ")
        };
        let why = match step {
            Step::TakeBack => {
                format!("the A/B test is lost on {}", of(&|own| own == Standing::Lost))
            }
            Step::Pause => format!(
                "no single winner serves everybody; decide by segment, {}",
                of(&|own| own == Standing::Split)
            ),
            Step::Wait | Step::Pass if !self.has_measures() => {
                let measures: Vec<_> = self.tests.iter().map(|(own, _)| own.word()).collect();
                format!(
                    "{}; no {} was reported, so quality was not compared",
                    health.why,
                    measures.join(" and no ")
                )
            }
            Step::Wait | Step::Pass => {
                format!("{}; {}", health.why, of(&|own| own != Standing::NoData))
            }
        };
        Conclusion::new(step, why)
    }

    /// Whether anything was reported that can be compared.
    #[must_use]
    pub fn has_measures(&self) -> bool {
        self.tests.iter().any(|(_, test)| standing(test) != Standing::NoData)
    }
}

impl Compared {
    /// The word for it in messages.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Truths => "accuracy",
            Self::Scores => "score",
            Self::Answers => "answers",
        }
    }

    fn of_arm(self, counts: &ArmCounts) -> Lump {
        self.of(counts.correct, counts.wrong, &counts.score, counts.of(Status::Ok), counts.judged())
    }

    fn of_segment(self, tally: &Tally) -> Lump {
        let cancelled = tally.ended[Status::Cancelled.index()];
        let ended = tally.ended.iter().fold(0_u64, |sum, own| sum.saturating_add(*own));
        let ok = tally.ended[Status::Ok.index()];
        self.of(tally.correct, tally.wrong, &tally.score, ok, ended.saturating_sub(cancelled))
    }

    fn of(self, correct: u64, wrong: u64, score: &ScoreSums, ok: u64, judged: u64) -> Lump {
        match self {
            Self::Truths => Lump::rate(correct, correct.saturating_add(wrong)),
            Self::Answers => Lump::rate(ok, judged),
            Self::Scores => Lump {
                count: score.count,
                sum: score.sum,
                squares: score.sum_of_squares,
                events: score.count,
            },
        }
    }
}

/// Where one comparison stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Standing {
    /// Neither arm reported anything.
    NoData,
    /// Nothing is shown.
    Open,
    /// A win, or no loss as large as the margin.
    Good,
    /// A loss.
    Lost,
    /// Better in some segments, worse in others; or the segments contradict the whole.
    Split,
}

fn standing(test: &ABTest) -> Standing {
    let report = test.report();
    if report.arms.iter().all(|arm| arm.n == 0) {
        return Standing::NoData;
    }
    let upward = upward(test);
    let comparisons = test.comparisons();
    let Some(shown) = comparisons.first() else { return Standing::Open };
    if shown.differs && shown.effect * upward < 0.0 {
        return Standing::Lost;
    }
    if !report.flags.is_empty() || losers(&report, upward).next().is_some() {
        return Standing::Split;
    }
    let won = shown.differs && shown.effect * upward > 0.0;
    if won || no_worse(shown, upward, test.plan().margin) { Standing::Good } else { Standing::Open }
}

fn upward(test: &ABTest) -> f64 {
    match test.plan().better {
        Better::Higher => 1.0,
        Better::Lower => -1.0,
    }
}

/// Segments in which the candidate is shown to be worse.
fn losers(report: &Report, upward: f64) -> impl Iterator<Item = &Name> {
    let worse = move |low: f64, high: f64| (low * upward).max(high * upward) < 0.0;
    let segments = report.segments.iter();
    let lost = segments.filter(move |own| own.interval.is_some_and(|(low, high)| worse(low, high)));
    lost.map(|own| &own.name)
}

/// Whether a loss as large as the margin is ruled out.
fn no_worse(shown: &Comparison, upward: f64, margin: f64) -> bool {
    shown.interval.is_some_and(|(low, high)| (low * upward).min(high * upward) > -margin)
}

/// A comparison's numbers, whatever has been decided.
fn sentence(test: &ABTest) -> String {
    let report = test.report();
    let margin = report.margin;
    let (theirs, mine) = (&report.arms[0], &report.arms[1]);
    let value =
        |value: Option<f64>| value.map_or("nothing".to_owned(), |value| format!("{value:.4}"));
    let mut text = format!(
        "{} over {} of the candidate against {} over {} of the baseline",
        value(mine.value),
        mine.n,
        value(theirs.value),
        theirs.n
    );
    match report.comparisons.first() {
        Some(Comparison { effect, interval: Some((low, high)), .. }) => text.push_str(&format!(
            ", a difference of {effect:+.4} between {low:+.4} and {high:+.4}, margin {margin}"
        )),
        _ => match report.required_per_arm {
            Some(needed) => text.push_str(&format!(
                ", too few to tell; about {needed} an arm are needed to see a difference of {margin}"
            )),
            None => text.push_str(", too few to tell"),
        },
    }
    let names =
        |names: Vec<&Name>| names.into_iter().map(Name::as_str).collect::<Vec<_>>().join(", ");
    let upward = upward(test);
    let (worse, better) = (losers(&report, upward).collect::<Vec<_>>(), losers(&report, -upward));
    if !worse.is_empty() {
        text.push_str(&format!("; route by segment: {} lose by the candidate", names(worse)));
        let better = names(better.collect());
        if !better.is_empty() {
            text.push_str(&format!(", {better} gain"));
        }
    }
    if report.flags.iter().any(|flag| matches!(flag, Flag::Simpson { .. })) {
        text.push_str("; the segments contradict the aggregate: check the assignment");
    }
    text
}
