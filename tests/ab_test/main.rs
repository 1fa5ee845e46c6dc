//! What an A/B test promises. Simulations are seeded and count.

use std::time::Duration;

use pilotage::clock::Moment;
use pilotage::ids::{Epoch, Name, Segment};
use pilotage::judge::experiment::{Measurement, Metric};
use pilotage::judge::guardrail::Guardrail;
use pilotage::machine::Seen;
use pilotage::observe::snapshot::{ArmCounts, Delta};
use pilotage::share::TrafficShare;
use pilotage::sim::rng::Rng;
use pilotage::strategy::ab_test::plan::{ABTestError, ABTestPlan, Better, Horizon, Spread};
use pilotage::strategy::ab_test::report::{Flag, Outcome, Report};
use pilotage::strategy::ab_test::test::ABTest;

fn name(name: &str) -> Name {
    Name::new(name).unwrap()
}

fn plan(metric: Metric, effect: f64, per_arm: u64) -> ABTestPlan {
    ABTestPlan::new(name("v1"), name("v2"), metric, effect, per_arm)
}

/// Subjects with one measurement each until the test is over or `most` have come.
fn run(plan: ABTestPlan, rng: &mut Rng, most: u64, rates: [f64; 2]) -> Report {
    let salt = rng.bits().to_string();
    let mut test = ABTest::new(plan, &salt).unwrap();
    for subject in 0..most {
        let id = subject.to_string();
        let arm = test.assign(id.as_bytes());
        let yes = rng.chance(rates[arm]);
        test.record(arm, Segment::NONE, id.as_bytes(), Measurement::rate(yes)).unwrap();
        if subject % 64 == 0 && test.report().is_over() {
            break;
        }
    }
    test.report()
}

/// How many of `runs` end in `what`.
fn count(runs: u32, mut one: impl FnMut(u64) -> Outcome, what: impl Fn(&Outcome) -> bool) -> u32 {
    (0..runs).map(|seed| u32::from(what(&one(u64::from(seed))))).sum()
}

fn is_winner(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Winner { .. })
}

/// 300 A/A tests at 5 %: 15 expected, standard error 3.8; 27 is above three standard errors. A p
/// below 0.05 at any of 24 looks would call some 80 of them.
#[test]
fn equals_have_a_winner_no_more_often_than_promised() {
    for horizon in [
        Horizon::Planned { per_arm: 2_000, looks: 24, spending: Spread::OBrienFleming },
        Horizon::Planned { per_arm: 2_000, looks: 24, spending: Spread::Pocock },
        Horizon::Open { tuned_to: 2_000 },
    ] {
        let one = |seed| {
            let plan = plan(Metric::Rate, 0.05, 2_000).margin(0.001).horizon(horizon).one_each();
            run(plan, &mut Rng::new(seed), 4_400, [0.75, 0.75]).outcome
        };
        let winners = count(300, one, is_winner);
        assert!(winners <= 27, "{horizon:?}: {winners} of 300");
    }
}

/// +5 points at 75 % with 2,000 an arm: one look has a power of 97 %; planned looks cost little.
#[test]
fn a_difference_worth_finding_is_found() {
    let one = |seed| {
        run(plan(Metric::Rate, 0.05, 2_000), &mut Rng::new(seed), 4_400, [0.75, 0.80]).outcome
    };
    let found = count(100, one, |outcome| *outcome == Outcome::Winner { arm: 1 });
    assert!(found >= 88, "{found} of 100");
}

#[test]
fn twenty_answers_decide_nothing_and_the_number_needed_is_told() {
    let mut test = ABTest::new(plan(Metric::Rate, 0.05, 681), "tiny").unwrap();
    for subject in 0..40_u32 {
        let arm = (subject % 2) as usize;
        let right = if arm == 0 { subject < 34 } else { subject < 36 };
        test.record(arm, Segment::NONE, &subject.to_le_bytes(), Measurement::rate(right)).unwrap();
    }
    let report = test.report();
    assert_eq!(report.outcome, Outcome::Running { needed: Some(2 * 681 - 40) }, "{report}");
    // From 85 % to 90 %: 681 an arm by Cohen's h.
    assert_eq!(report.required_per_arm, Some(681));
    assert!(report.to_string().contains("1322 more measurements"), "{report}");
}

/// Equivalence is shown by an interval inside the margin, and by nothing else; at a true
/// difference of the margin it may be claimed in 5 % of tests. 200 tests: 10 expected, 3.1 standard
/// error; 20 is above three.
#[test]
fn ties_end_and_are_not_claimed_at_the_margin() {
    let at = |b| {
        move |seed| {
            let plan = plan(Metric::Rate, 0.05, 4_000).horizon(Horizon::Open { tuned_to: 4_000 });
            run(plan, &mut Rng::new(seed), 24_000, [0.75, b]).outcome
        }
    };
    let ties = count(40, at(0.75), |outcome| *outcome == Outcome::Equivalent);
    assert!(ties >= 36, "{ties} of 40 ties ended");
    let false_ties = count(200, at(0.80), |outcome| *outcome == Outcome::Equivalent);
    assert!(false_ties <= 20, "{false_ties} of 200");
}

#[test]
fn requests_of_the_same_users_do_not_count_as_new_evidence() {
    let one = |seed| {
        let mut rng = Rng::new(seed);
        let mut test = ABTest::new(plan(Metric::Rate, 0.05, 3_000), &seed.to_string()).unwrap();
        for user in 0..400_u32 {
            let (id, rate) = (user.to_le_bytes(), 0.3 + 0.7 * rng.unit());
            let arm = test.assign(&id);
            for _ in 0..20 {
                let yes = rng.chance(rate);
                test.record(arm, Segment::NONE, &id, Measurement::rate(yes)).unwrap();
            }
        }
        test.report().outcome
    };
    // As above: 200 tests at 5 %, at most 20. A test on requests calls some 80 of them.
    let winners = count(200, one, is_winner);
    assert!(winners <= 20, "{winners} of 200");
}

#[test]
fn the_textbook_test_looks_once() {
    let fixed = plan(Metric::Rate, 0.05, 1_000).horizon(Horizon::FixedOneLook { per_arm: 1_000 });
    let report = run(fixed, &mut Rng::new(1), 4_000, [0.5, 0.9]);
    assert_eq!((report.outcome, report.looks), (Outcome::Winner { arm: 1 }, 1));
}

#[test]
fn lower_can_be_better() {
    let plan = plan(Metric::Rate, 0.05, 2_000).better(Better::Lower);
    let report = run(plan, &mut Rng::new(1), 6_000, [0.2, 0.4]);
    assert_eq!(report.outcome, Outcome::Winner { arm: 0 }, "{report}");
}

#[test]
fn of_three_arms_the_best_wins() {
    let mut rng = Rng::new(6);
    let plan = ABTestPlan::new(name("a"), name("b"), Metric::Rate, 0.05, 2_000).arm(name("c"), 1.0);
    let mut test = ABTest::new(plan, "three").unwrap();
    for subject in 0..8_000_u32 {
        let arm = test.assign(&subject.to_le_bytes());
        let yes = rng.chance([0.5, 0.5, 0.65][arm]);
        test.record(arm, Segment::NONE, &subject.to_le_bytes(), Measurement::rate(yes)).unwrap();
    }
    assert_eq!(test.report().outcome, Outcome::Winner { arm: 2 }, "{}", test.report());
}

#[test]
fn a_split_that_is_not_the_planned_one_is_no_test() {
    let mut rng = Rng::new(2);
    let mut test = ABTest::new(plan(Metric::Rate, 0.05, 50_000), "srm").unwrap();
    for subject in 0..8_000_u32 {
        // One in five of the candidate's subjects is lost on the way.
        let arm = test.assign(&subject.to_le_bytes());
        if arm == 1 && rng.chance(0.2) {
            continue;
        }
        let yes = rng.chance(0.5);
        test.record(arm, Segment::NONE, &subject.to_le_bytes(), Measurement::rate(yes)).unwrap();
    }
    let report = test.report();
    assert!(matches!(report.outcome, Outcome::Invalid { .. }), "{report}");
    assert!(report.to_string().contains("not split as planned"), "{report}");
}

/// Premium users are better served by the new model, the others by the old one.
#[test]
fn an_aggregate_winner_that_loses_a_segment_is_flagged_and_routed() {
    let mut rng = Rng::new(4);
    let plan = plan(Metric::Rate, 0.02, 10_000).segments([name("premium"), name("free")]);
    let mut test = ABTest::new(plan, "segments").unwrap();
    for subject in 0..20_000_u32 {
        let arm = test.assign(&subject.to_le_bytes());
        let premium = subject % 5 == 0;
        let rate = match (premium, arm) {
            (true, 0) => 0.70,
            (true, _) => 0.90,
            (false, 0) => 0.85,
            (false, _) => 0.75,
        };
        let segment = Segment::new(if premium { 1 } else { 2 });
        let yes = rng.chance(rate);
        test.record(arm, segment, &subject.to_le_bytes(), Measurement::rate(yes)).unwrap();
    }
    let report = test.report();
    let expected = Flag::QualitativeInteraction {
        candidate_better: vec![name("premium")],
        baseline_better: vec![name("free")],
    };
    assert_eq!(report.flags, [expected], "{report}");
    let routes = test.routes();
    assert_eq!(routes.arm_for(Segment::new(1)), 1);
    assert_eq!(routes.arm_for(Segment::new(2)), 0);
    assert_eq!(routes.arm_for(Segment::NONE), 0);
}

/// Within each segment the new model is worse, yet over all it looks better, since it was given
/// the easy one. Only a broken assignment does that.
#[test]
fn an_aggregate_that_contradicts_its_segments_is_flagged() {
    let mut rng = Rng::new(8);
    let plan = plan(Metric::Rate, 0.02, 100_000).segments([name("easy"), name("hard")]);
    let mut test = ABTest::new(plan, "simpson").unwrap();
    for subject in 0..40_000_u32 {
        let arm = (subject % 2) as usize;
        let easy = rng.chance(if arm == 0 { 0.2 } else { 0.8 });
        let rate = if easy { 0.9 } else { 0.5 } - 0.05 * arm as f64;
        let yes = rng.chance(rate);
        let segment = Segment::new(if easy { 1 } else { 2 });
        test.record(arm, segment, &subject.to_le_bytes(), Measurement::rate(yes)).unwrap();
    }
    let flags = test.report().flags;
    assert!(flags.iter().any(|flag| matches!(flag, Flag::Simpson { .. })), "{flags:?}");
}

/// The candidate degrades on the third day; nobody waits for the test to complete.
#[test]
fn a_candidate_that_turns_bad_during_the_test_is_taken_back_at_once() {
    let plan = plan(Metric::Rate, 0.02, 1_000_000).guardrails(Guardrail::standard());
    let mut test = ABTest::new(plan, "day-three").unwrap();
    let counts = |ok: u64, error: u64| {
        let mut counts = ArmCounts::default();
        counts.started = ok + error;
        counts.ended = [ok, error, 0, 0, 0];
        (0..ok).for_each(|at| counts.latency.record(180_000_000 + at * 1_000));
        counts
    };
    let mut second = 0;
    let mut tell = |test: &mut ABTest, bad: u64| {
        second += 10;
        let arms = vec![counts(1_000, 1), counts(1_000 - bad, bad)];
        let to = Moment::from_secs(second);
        let live = Delta::new(to, Duration::from_secs(10), Epoch::new(1), arms);
        test.observe(to, &Seen::live(TrafficShare::HALF, live))
    };
    for _ in 0..200 {
        assert!(!tell(&mut test, 1));
    }
    let took = (1..=10).find(|_| tell(&mut test, 25));
    assert!(took.is_some_and(|batches| batches <= 2), "{took:?}");
    let outcome = test.report().outcome;
    assert!(matches!(&outcome, Outcome::RolledBack { reason } if reason.contains("error rate")));
}

#[test]
fn plans_and_measurements_that_cannot_be_are_refused_by_name() {
    let refused = |plan: ABTestPlan| ABTest::new(plan, "x").err().map(|error| error.to_string());
    let ok = || plan(Metric::Rate, 0.02, 1_000);
    assert_eq!(refused(ok()), None);
    for (wrong, what) in [
        (ok().alpha(f64::NAN), "alpha is NaN"),
        (ok().alpha(0.0), "alpha is 0"),
        (plan(Metric::Rate, 2.0, 1_000), "effect is 2"),
        (plan(Metric::Rate, 0.02, 0), "per_arm is 0"),
        (ok().margin(-1.0), "margin is -1"),
        (ok().arm(name("v2"), 1.0), "two arms are named v2"),
        (ok().arm(name("v3"), f64::INFINITY), "weight is inf"),
        (ok().segments([name("a"), name("a")]), "two segments are named a"),
    ] {
        let message = refused(wrong).unwrap();
        assert!(message.contains(what), "{message}");
    }
    let mut test = ABTest::new(ok(), "x").unwrap();
    let nan = test.record(0, Segment::NONE, b"u", Measurement::mean(f64::NAN));
    assert!(matches!(nan, Err(ABTestError::Measurement(_))));
    let arm = test.record(7, Segment::NONE, b"u", Measurement::rate(true));
    assert_eq!(arm.unwrap_err().to_string(), "arm 7 was not declared; there are 2");
    assert_eq!(test.report().arms[0].n, 0);
}

/// Every answer of one arm is right and none of the other's. Where each subject brings one, an exact
/// test may say so; where subjects may bring many, it could all be one of them.
#[test]
fn an_arm_that_never_varies_is_left_to_the_exact_test() {
    let outcome = |plan: ABTestPlan| {
        let mut test = ABTest::new(plan, "flat").unwrap();
        for subject in 0..4_000_u32 {
            let arm = test.assign(&subject.to_le_bytes());
            let sure = Measurement::rate(arm == 1);
            test.record(arm, Segment::NONE, &subject.to_le_bytes(), sure).unwrap();
        }
        test.report().outcome
    };
    assert_eq!(outcome(plan(Metric::Rate, 0.02, 1_000)), Outcome::Inconclusive);
    assert_eq!(outcome(plan(Metric::Rate, 0.02, 1_000).one_each()), Outcome::Winner { arm: 1 });
}
