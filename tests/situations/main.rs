//! Ten situations that every team meets, each with what must happen. `docs/situations.md` tells
//! them in words; a test here goes by the title of each.

use std::time::Duration;

use pilotage::clock::Moment;
use pilotage::date::Date;
use pilotage::drift::accuracy::Accuracy;
use pilotage::drift::labels::Cohort;
use pilotage::drift::monitor::{DriftEffect, DriftInput, DriftMonitor};
use pilotage::drift::reference::{FeatureSpec, ReferenceBuilder, Source};
use pilotage::drift::settings::{Deployment, MonitorSettings};
use pilotage::drift::value::Value;
use pilotage::ids::{Arm, Epoch, Name, Segment};
use pilotage::judge::experiment::{Measurement, Metric};
use pilotage::machine::{Command, Drilled, Effect, Input, Machine, Order, Seen};
use pilotage::observe::histogram::bucket_of;
use pilotage::observe::shadow::ShadowCounts;
use pilotage::observe::snapshot::{ArmCounts, Delta, SegmentCounts, Tally};
use pilotage::rollout::pipeline::{End, HoldKind, Rollout, State};
use pilotage::rollout::plan::{Plan, PlanError};
use pilotage::rollout::stage::ComparisonRule;
use pilotage::share::TrafficShare;
use pilotage::strategy::ab_test::plan::ABTestPlan;
use pilotage::strategy::ab_test::report::Outcome;
use pilotage::strategy::ab_test::stage::Compared;
use pilotage::strategy::ab_test::test::ABTest;
use pilotage::strategy::flag::{FlagSet, FlagSpec, LifeStage, refuse_stale};

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: u64 = 86_400;

fn name(name: &str) -> Name {
    Name::new(name).unwrap()
}

/// Calls of which one in `fail` fails (none for 0) and the others take about `millis`.
fn calls(many: u64, fail: u64, millis: u64) -> ArmCounts {
    let mut counts = ArmCounts::default();
    let failed = many.checked_div(fail).unwrap_or(0);
    counts.started = many;
    counts.ended[0] = many - failed;
    counts.ended[1] = failed;
    for slot in 0..20 {
        let nanos = millis * 1_000_000 * (90 + slot) / 100;
        counts.latency.record_bucket(bucket_of(nanos), (many - failed + slot) / 20);
    }
    counts
}

fn answered(counts: &mut ArmCounts, correct: u64, wrong: u64) -> Tally {
    counts.correct += correct;
    counts.wrong += wrong;
    let mut tally = Tally::default();
    (tally.correct, tally.wrong) = (correct, wrong);
    tally
}

struct Journey {
    rollout: Rollout,
    now: Moment,
    effects: Vec<Effect>,
}

impl Journey {
    fn begin(plan: Plan) -> Self {
        let (rollout, effects) = Rollout::begin(name("v2"), plan, Moment::ZERO).unwrap();
        Self { rollout, now: Moment::ZERO, effects }
    }

    fn tell(&mut self, input: &Input) {
        let effects = self.rollout.handle(self.now, input);
        self.effects.extend(effects);
    }

    fn order(&mut self, order: Order) {
        self.tell(&Input::Command(Command {
            order,
            who: name("ops"),
            why: "a test".into(),
            at: None,
        }));
    }

    /// A batch of a minute: the arms, and what each segment's truths were.
    fn minute(&mut self, arms: Vec<ArmCounts>, segments: Vec<SegmentCounts>) -> bool {
        let seen = self.batch(arms, segments);
        self.tell(&Input::Seen(Box::new(seen)));
        self.end().is_none()
    }

    fn batch(&mut self, arms: Vec<ArmCounts>, segments: Vec<SegmentCounts>) -> Seen {
        let minute = Duration::from_secs(60);
        self.now = self.now.after(minute);
        let mut live = Delta::new(self.now, minute, Epoch::new(0), arms);
        live.segments = segments;
        Seen::live(self.rollout.share(), live)
    }

    fn end(&self) -> Option<End> {
        match self.rollout.state() {
            State::Ended(ended) => Some(ended.end),
            _ => None,
        }
    }

    fn why(&self) -> String {
        match self.rollout.state() {
            State::Ended(ended) => ended.reason.clone(),
            _ => self
                .rollout
                .hold()
                .map_or_else(|| self.rollout.conclusion().unwrap().why, |hold| hold.why.clone()),
        }
    }

    fn alerts(&self) -> Vec<&str> {
        let key = |effect: &'_ Effect| match effect {
            Effect::Alert(news) if !news.resolved => Some(news.summary.clone()),
            _ => None,
        };
        self.effects.iter().filter_map(key).map(|text| &*text.leak()).collect()
    }
}

fn five() -> TrafficShare {
    TrafficShare::percent(5.0).unwrap()
}

fn canary() -> Plan {
    Plan::builder().canary(five(), HOUR, 100).full(HOUR, 100).build().unwrap()
}

#[test]
fn a_canary_without_a_baseline_is_refused_its_promotion() {
    // The standard plan begins with a baseline: without its calls the candidate is not even run.
    let mut standard = Journey::begin(Plan::standard());
    for _ in 0..5 * 24 * 60 {
        standard.minute(Vec::new(), Vec::new());
    }
    assert_eq!((standard.end(), standard.rollout.share()), (None, TrafficShare::NONE));
    assert!(
        standard.why().contains("the baseline has served no request yet"),
        "{}",
        standard.why()
    );
    assert_eq!(standard.alerts().len(), 1, "people are told, once");

    // A canary alone, spotless, with nothing beside it to compare with.
    let mut alone = Journey::begin(canary());
    for _ in 0..5 * 60 {
        alone.minute(vec![ArmCounts::default(), calls(300, 0, 20)], Vec::new());
    }
    assert_eq!((alone.end(), alone.rollout.share()), (None, five()));
    // That everybody is on the candidate is itself a sign that something is broken.
    assert!(alone.why().contains("assignment or recording is broken"), "{}", alone.why());
    assert_eq!(alone.alerts().len(), 1);
}

#[test]
fn a_winner_from_twenty_samples_is_inconclusive_with_the_number_needed() {
    let plan = ABTestPlan::new(name("a"), name("b"), Metric::Rate, 0.02, 5_000);
    let mut test = ABTest::new(plan, "twenty").unwrap();
    for at in 0..20_u32 {
        // Seven of ten against nine of ten.
        let (arm, right) = (at as usize % 2, at / 2 < if at % 2 == 0 { 7 } else { 9 });
        let subject = at.to_string();
        test.record(arm, Segment::NONE, subject.as_bytes(), Measurement::rate(right)).unwrap();
    }
    let report = test.report();
    let Outcome::Running { needed: Some(needed) } = report.outcome else { panic!("{report}") };
    assert_eq!(needed, 2 * 5_000 - 20);
    // Two points at about 70 %: some eight thousand an arm (Cohen's h, 80 % power, 5 %).
    let required = report.required_per_arm.unwrap();
    assert!((7_000..9_500).contains(&required), "{required}");
    assert!(report.to_string().contains("9980 more measurements are needed"), "{report}");
}

#[test]
fn a_median_three_times_slower_is_rolled_back_although_nothing_fails() {
    let mut journey = Journey::begin(canary());
    let mut minutes = 0;
    while journey.minute(vec![calls(5_700, 0, 20), calls(300, 0, 60)], Vec::new()) {
        minutes += 1;
        assert!(minutes < 10, "{}", journey.why());
    }
    assert_eq!(journey.end(), Some(End::RolledBack));
    let why = journey.why();
    assert!(why.contains("p50 latency") || why.contains("p95 latency"), "{why}");
    assert!(journey.rollout.readings().iter().any(|own| own.guardrail == "p50 latency"
        && own.estimate.is_some_and(|ratio| (2.8..3.2).contains(&ratio))));
}

#[test]
fn a_shadow_that_agrees_in_seventy_of_a_hundred_is_to_be_investigated() {
    let plan = Plan::builder().shadow(HOUR, 1_000).canary(five(), HOUR, 100).full(HOUR, 100);
    let mut journey = Journey::begin(plan.build().unwrap());
    loop {
        let mut shadow = ShadowCounts::default();
        (shadow.sampled, shadow.run, shadow.pairs, shadow.matches) = (600, 600, 600, 420);
        (shadow.baseline, shadow.candidate) = (calls(600, 0, 20), calls(600, 0, 20));
        let seen = journey.batch(vec![calls(600, 0, 20)], Vec::new()).with_shadow(shadow);
        journey.tell(&Input::Seen(Box::new(seen)));
        if journey.end().is_some() || journey.now > Moment::from_secs(DAY) {
            break;
        }
    }
    assert_eq!(journey.end(), Some(End::Refused), "{}", journey.why());
    assert!(journey.why().contains("70") && journey.why().contains("differ"), "{}", journey.why());
    let shifted =
        |effect: &Effect| matches!(effect, Effect::Shift(share) if *share > TrafficShare::NONE);
    assert!(!journey.effects.iter().any(shifted), "no user has met it");
}

/// In an A/B test of a week that compares accuracy in two segments.
fn in_an_ab_test() -> Journey {
    let mut rule = ComparisonRule::default();
    rule.of = vec![Compared::Truths];
    rule.segments = vec![name("free"), name("premium")];
    let plan = Plan::builder()
        .canary(five(), HOUR, 100)
        .ab_test(TrafficShare::HALF, 7 * 24 * HOUR, 1_000, rule)
        .full(48 * HOUR, 1_000)
        .build()
        .unwrap();
    let mut journey = Journey::begin(plan);
    journey.order(Order::PromoteStage);
    journey
}

#[test]
fn a_candidate_that_degrades_on_the_third_day_of_a_test_is_rolled_back_at_once() {
    for (fault, fail, right) in [("errors", 10, 27), ("accuracy", 0, 18)] {
        let mut journey = in_an_ab_test();
        let batch = |fail, right| {
            let mut arms = vec![calls(300, 0, 20), calls(300, fail, 20)];
            answered(&mut arms[0], 27, 3);
            answered(&mut arms[1], right, 30 - right);
            arms
        };
        for _ in 0..2 * 24 * 60 {
            let seen = journey.batch(batch(0, 27), Vec::new());
            journey.rollout.take_in(journey.now, &seen);
        }
        assert!(journey.minute(batch(0, 27), Vec::new()), "two good days: {}", journey.why());
        let mut minutes = 0;
        while journey.minute(batch(fail, right), Vec::new()) {
            minutes += 1;
            assert!(minutes < 60, "{fault}: {}", journey.why());
        }
        assert_eq!(journey.end(), Some(End::RolledBack), "{fault}");
        assert_eq!(
            journey.effects.iter().rfind(|own| matches!(own, Effect::Shift(_))),
            Some(&Effect::Shift(TrafficShare::NONE))
        );
    }
}

#[test]
fn from_the_shadow_straight_to_everybody_is_refused_by_the_plan() {
    let plan = Plan::builder().shadow(HOUR, 1_000).full(HOUR, 1_000).build();
    let Err(error @ PlanError::NoCanary { .. }) = plan else { panic!("{plan:?}") };
    assert_eq!(
        error.to_string(),
        "stage 100 %: nothing may serve everybody before a canary; add one before it"
    );
}

#[test]
fn a_flag_for_everybody_for_three_months_is_reported_with_what_to_remove() {
    let born = Date::from_unix(1_774_742_400);
    let spec = FlagSpec::new("ranker-v2").created(born).owner("search").share(TrafficShare::ALL);
    let flags = FlagSet::builder().flag(spec).build().unwrap();
    flags.tick(born).unwrap();
    let today = born.after(Duration::from_secs(90 * DAY));
    flags.tick(today).unwrap();
    let report = &flags.lifecycle(today)[0];
    assert_eq!(report.stage, LifeStage::Stale);
    let error = refuse_stale(&flags.lifecycle(today)).unwrap_err().to_string();
    assert!(error.contains("ranker-v2"), "{error}");
    let alerts = flags.alerts(today, Moment::ZERO);
    assert!(alerts[0].summary.contains("remove it"), "{}", alerts[0].summary);
}

#[test]
fn a_rollback_that_was_never_tested_keeps_a_rollout_from_beginning() {
    let week = Duration::from_secs(7 * DAY);
    let plan = Plan::builder().canary(five(), HOUR, 100).full(HOUR, 100).fresh_drill(week);
    let mut journey = Journey::begin(plan.build().unwrap());
    journey.minute(vec![calls(600, 0, 20)], Vec::new());
    let hold = journey.rollout.hold().unwrap();
    assert_eq!(hold.kind, HoldKind::Drill);
    assert!(hold.why.contains("none was made"), "{}", hold.why);
    assert_eq!(journey.alerts().len(), 1);
    let drill = Drilled { at: journey.now, passed: true, report: "back in 3 ms".into() };
    journey.tell(&Input::Drilled(drill));
    journey.minute(vec![calls(600, 0, 20)], Vec::new());
    assert_eq!(journey.rollout.share(), five());
}

#[test]
fn a_winner_that_loses_a_segment_is_flagged_and_routed_by_segment() {
    let mut journey = in_an_ab_test();
    for _ in 0..4 * 60 {
        let mut arms = vec![calls(300, 0, 20), calls(300, 0, 20)];
        // Free, four of five: 75 against 90 %. Premium: 90 against 75 %.
        let (old_free, old_premium) =
            (answered(&mut arms[0], 60, 20), answered(&mut arms[0], 18, 2));
        let (new_free, new_premium) =
            (answered(&mut arms[1], 72, 8), answered(&mut arms[1], 15, 5));
        let segments = vec![
            SegmentCounts::new(Segment::new(1), vec![old_free, new_free]),
            SegmentCounts::new(Segment::new(2), vec![old_premium, new_premium]),
        ];
        assert!(journey.minute(arms, segments), "{}", journey.why());
    }
    assert_eq!(journey.rollout.hold().unwrap().kind, HoldKind::Person);
    let why = journey.why();
    assert!(why.contains("no single winner serves everybody"), "{why}");
    assert!(why.contains("route by segment: premium lose by the candidate, free gain"), "{why}");
    assert_eq!(journey.alerts().len(), 1, "{:?}", journey.alerts());
}

#[test]
fn accuracy_lost_to_drift_asks_for_a_new_model() {
    let mut builder = ReferenceBuilder::new(
        name("v2"),
        Source::Baseline,
        vec![FeatureSpec::numeric(name("age"))],
    )
    .unwrap();
    for at in 0..3_000_u32 {
        builder.row(&[Value::Number(f64::from(at % 97))]).unwrap();
    }
    // 92 % when it was deployed; 85 % of what comes due three months later.
    let deployed = Deployment::new(name("v2")).accuracy(Accuracy::new(9_200, 800));
    let settings = MonitorSettings::default();
    let week = settings.window;
    let mut monitor =
        DriftMonitor::new(settings, builder.finish(), deployed, Moment::ZERO).unwrap();
    let mut now = Moment::ZERO;
    let mut retrain = None;
    for cohort in 0..14_u64 {
        let correct = if cohort < 12 { 920 } else { 850 };
        let from = now;
        now = now.after(week);
        let due = serde_json::json!({
            "from": from, "arm": Arm::BASELINE, "epoch": Epoch::new(0),
            "served": 1_000, "correct": correct, "wrong": 1_000 - correct,
        });
        let due: Cohort = serde_json::from_value(due).unwrap();
        for effect in monitor.handle(now, DriftInput::Matured(vec![due])).unwrap() {
            if let DriftEffect::Retrain(request) = effect {
                if cohort >= 12 {
                    retrain = Some(request);
                }
            }
        }
    }
    let why = retrain.expect("it asks for a new model").why;
    assert!(why.contains("accuracy") || why.contains("right"), "{why}");
}
