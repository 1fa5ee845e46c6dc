//! What a stage's judge promises, counted over seeded traffic.
//!
//! Small enough for a debug build; the whole table is `examples/operating_characteristics`.

use std::time::Duration;

use pilotage::ids::Arm;
use pilotage::judge::guardrail::Guardrail;
use pilotage::judge::paired::{PairedQuality, PairedVerdict};
use pilotage::judge::planner::Prospect;
use pilotage::judge::stage::StageJudge;
use pilotage::judge::verdict::Verdict;
use pilotage::observe::shadow::PairedTruth;
use pilotage::share::TrafficShare;
use pilotage::sim::rng::Rng;
use pilotage::sim::traffic::{LatencyLaw, Traffic, Weather};

const STAGE: Duration = Duration::from_secs(3600);

fn share() -> TrafficShare {
    TrafficShare::percent(5.0).unwrap()
}

fn usual() -> Weather {
    Weather { rate: 100.0, share: share(), errors: 0.001, timeouts: 0.0, slowness: 1.0 }
}

/// Stages that were rolled back, and the candidate requests each had then.
fn rolled_back(
    stages: u64,
    guardrails: &[Guardrail],
    traffic: impl Fn(u64) -> Traffic,
    look: Duration,
    weather: impl Fn(Duration, Arm) -> Weather,
) -> Vec<u64> {
    let mut requests = Vec::new();
    for stage in 0..stages {
        let mut traffic = traffic(stage);
        let mut judge = StageJudge::new(guardrails.to_vec(), 0.01, 0.05, STAGE).unwrap();
        while judge.elapsed() < STAGE {
            let batch = traffic.next(look, &weather);
            judge.observe(share(), &batch);
            let news = batch.arms[1].failures() > 0 || !batch.arms[1].latency.is_empty();
            if news && judge.verdict().is_roll_back() {
                requests.push(judge.seen(Arm::CANDIDATE).judged());
                break;
            }
        }
    }
    requests.sort_unstable();
    requests
}

fn quick(seed: u64) -> Traffic {
    Traffic::new(seed, LatencyLaw::None)
}

/// With a false alarm in at most one stage of a hundred, 5 or more of 120 happen with a probability
/// of 0.8 %; the seeds are fixed, so the test does not waver.
#[test]
fn a_healthy_candidate_is_hardly_ever_taken_back() {
    let ten = Duration::from_secs(10);
    let errors = [Guardrail::error_rate()];
    let found = rolled_back(120, &errors, quick, ten, |_, _| usual());
    assert!(found.len() < 5, "{found:?}");
}

#[test]
fn an_incident_that_hits_both_arms_takes_nobody_back() {
    let ten = Duration::from_secs(10);
    let incident = |at: Duration, _: Arm| {
        let mut weather = usual();
        if at > STAGE / 3 && at < STAGE / 2 {
            weather.errors *= 5.0;
            weather.slowness *= 3.0;
        }
        weather
    };
    let errors = [Guardrail::error_rate()];
    assert!(rolled_back(60, &errors, quick, ten, incident).len() < 4);
    let slow = |seed| Traffic::new(seed, LatencyLaw::LogNormal);
    assert!(rolled_back(3, &[Guardrail::p95()], slow, ten, incident).is_empty());
}

#[test]
fn retries_of_one_client_are_one_failure() {
    let ten = Duration::from_secs(10);
    let bursts = |seed| Traffic::new(seed, LatencyLaw::None).with_bursts(5.0, true);
    let found = rolled_back(60, &[Guardrail::error_rate()], bursts, ten, |_, _| usual());
    assert!(found.len() < 4, "{found:?}");
}

#[test]
fn a_disaster_is_over_after_a_dozen_requests() {
    let look = Duration::from_millis(200);
    let disaster = |_: Duration, arm: Arm| {
        let mut weather = usual();
        if arm == Arm::CANDIDATE {
            weather.errors = 0.15;
        }
        weather
    };
    let found = rolled_back(101, &[Guardrail::error_rate()], quick, look, disaster);
    assert_eq!(found.len(), 101);
    // The median of 101 lies within ±5 of the true 13 with more than 99 %.
    assert!(found[50] <= 18, "{}", found[50]);
}

#[test]
fn what_the_planner_foretells_happens() {
    let tenfold = |_: Duration, arm: Arm| {
        let mut weather = usual();
        if arm == Arm::CANDIDATE {
            weather.errors *= 10.0;
        }
        weather
    };
    let second = Duration::from_secs(1);
    let found = rolled_back(151, &[Guardrail::error_rate()], quick, second, tenfold);
    let prospect = Prospect {
        requests_per_second: 100.0,
        share: share(),
        lasts: STAGE,
        base_rate: 0.001,
        guardrail: Guardrail::error_rate(),
        alpha: 0.01,
        beta: 0.05,
        feared: vec![10.0],
    };
    let foretold = prospect.forecast().unwrap().feared[0].median_requests.unwrap();
    let ratio = foretold / found[75] as f64;
    assert!((0.75..1.25).contains(&ratio), "{foretold} and {}", found[75]);
}

#[test]
fn a_judge_that_was_stored_half_way_goes_on_as_if_nothing_had_been() {
    let mut traffic = Traffic::new(5, LatencyLaw::HeavyTail);
    let mut judge = StageJudge::new(Guardrail::standard(), 0.01, 0.05, STAGE).unwrap();
    let mut loaded = judge.clone();
    for _ in 0..60 {
        let batch = traffic.next(Duration::from_secs(60), |_, _| usual());
        judge.observe(share(), &batch);
        loaded.observe(share(), &batch);
        loaded = serde_json::from_str(&serde_json::to_string(&loaded).unwrap()).unwrap();
    }
    assert_eq!(loaded.verdict(), judge.verdict());
    assert_eq!(loaded, judge);
}

#[test]
fn a_healthy_candidate_with_enough_traffic_is_promoted() {
    let mut traffic = Traffic::new(9, LatencyLaw::LogNormal);
    let mut judge = StageJudge::new(Guardrail::standard(), 0.01, 0.05, STAGE).unwrap();
    let half = TrafficShare::HALF;
    let weather = |_: Duration, _: Arm| Weather { share: half, timeouts: 0.0001, ..usual() };
    let mut verdict = judge.verdict();
    while judge.elapsed() < STAGE && !verdict.is_promotion() {
        let batch = traffic.next(Duration::from_secs(10), weather);
        judge.observe(half, &batch);
        verdict = judge.verdict();
    }
    assert!(matches!(verdict, Verdict::Promote { .. }), "{verdict}");
}

/// 1,476 samples of two known comparisons in random order, looked at every fourth.
#[test]
fn the_same_samples_in_any_order_give_the_same_verdict_on_quality() {
    for (lost, expected) in [(61, PairedVerdict::Refuse), (33, PairedVerdict::Pass)] {
        for seed in 0..40 {
            let mut deck: Vec<(bool, bool)> =
                (0..1476).map(|at| (at >= 28, at < 28 || at >= 28 + lost)).collect();
            let mut rng = Rng::new(seed);
            for at in (1..deck.len()).rev() {
                deck.swap(at, rng.below(at as u64 + 1) as usize);
            }
            let mut quality = PairedQuality::new(0.02, 0.01, 0.05).unwrap();
            let mut verdict = quality.verdict();
            for pairs in deck.chunks(4) {
                let count = |pair: (bool, bool)| {
                    pairs.iter().filter(|other| **other == pair).count() as u64
                };
                quality.observe(&PairedTruth {
                    both_right: count((true, true)),
                    only_baseline: count((true, false)),
                    only_candidate: count((false, true)),
                    both_wrong: count((false, false)),
                });
                verdict = quality.verdict();
                if !matches!(verdict, PairedVerdict::Continue { .. }) {
                    break;
                }
            }
            assert_eq!(verdict, expected, "{lost} broken, order {seed}");
        }
    }
}

/// Stages in which a guardrail ever reads safe although the candidate is exactly at its limit.
fn falsely_safe(stages: u64, guardrail: &Guardrail, law: LatencyLaw, at_limit: Weather) -> usize {
    let half = TrafficShare::HALF;
    let safe = |stage: &u64| {
        let mut traffic = Traffic::new(*stage, law);
        let guardrails = vec![guardrail.clone()];
        let mut judge = StageJudge::new(guardrails, 0.01, 0.05, STAGE).unwrap();
        let weather = |_: Duration, arm: Arm| {
            let now = if arm == Arm::CANDIDATE { at_limit } else { usual() };
            Weather { rate: 20.0, share: half, ..now }
        };
        (0..120).any(|_| {
            judge.observe(half, &traffic.next(STAGE / 120, weather));
            judge.readings()[0].is_safe()
        })
    };
    (0..stages).filter(safe).count()
}

/// At β = 0.05, 8 or more of 60 happen with a probability of 0.7 %, and 6 or more of 30 with 0.3 %.
#[test]
fn a_candidate_at_a_limit_is_hardly_ever_shown_to_be_safe() {
    let twice = Weather { errors: 0.002, ..usual() };
    let errors = Guardrail::error_rate().floor(0.0);
    assert!(falsely_safe(60, &errors, LatencyLaw::None, twice) < 8);
    let slow = Weather { slowness: 1.5, ..usual() };
    assert!(falsely_safe(30, &Guardrail::p95(), LatencyLaw::LogNormal, slow) < 6);
}
