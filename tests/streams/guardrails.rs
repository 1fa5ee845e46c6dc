//! What the judge makes of streams: the first item by latency, the others by their pace, and how
//! much a model has to say by nothing.

use std::time::Duration;

use pilotage::clock::Moment;
use pilotage::ids::{Arm, Epoch};
use pilotage::judge::guardrail::Guardrail;
use pilotage::judge::reference::ReferenceJudge;
use pilotage::judge::stage::StageJudge;
use pilotage::observe::snapshot::{ArmCounts, Delta, Snapshot};
use pilotage::outcome::Status;
use pilotage::serve::builder::Fallback;
use pilotage::serve::request::Request;
use pilotage::share::TrafficShare;

use crate::{Do, Script, Stage, block_on, read, shift};

const HOUR: Duration = Duration::from_secs(3_600);

/// Numbers that look random, the same in each run (Marsaglia's xorshift).
struct Random(u64);

impl Random {
    fn between(&mut self, low: u64, high: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        low + self.0 % (high - low)
    }
}

/// How a candidate differs: by what its first item, its other items and its length are multiplied.
#[derive(Clone, Copy)]
struct Differs {
    first: u64,
    pace: u64,
    length: u64,
}

fn judge() -> StageJudge {
    let guardrails = Guardrail::standard().into_iter().chain([Guardrail::pace()]).collect();
    StageJudge::new(guardrails, 0.01, 0.05, HOUR).unwrap()
}

/// A judge after 3,000 streams over a real router, half of them the candidate's.
fn judged(differs: Differs) -> StageJudge {
    let stage = Stage::new(Fallback::Never, true);
    shift(&stage.router, TrafficShare::HALF);
    let mut random = Random(42);
    let mut judge = judge();
    let mut before = stage.router.snapshot();
    for user in 0..3_000_u64 {
        let request = Request::of(user);
        let bad = stage.router.arm_of(&request) == Arm::CANDIDATE;
        let times = |factor: u64| if bad { factor } else { 1 };
        let mut items = vec![Do::Take(random.between(10, 20) * times(differs.first)), Do::Item(0)];
        for _ in 0..random.between(3, 6) * times(differs.length) {
            items.extend([Do::Take(random.between(2, 6) * times(differs.pace)), Do::Item(1)]);
        }
        let answer = block_on(stage.router.predict_stream(request, &Script::of(&items))).unwrap();
        assert!(read(answer.output).iter().all(Result::is_ok));
        if user % 100 == 99 {
            let now = stage.router.snapshot();
            judge.observe(TrafficShare::HALF, &now.since(&before));
            before = now;
        }
    }
    judge
}

#[test]
fn a_candidate_that_says_more_is_not_slower() {
    let judge = judged(Differs { first: 1, pace: 1, length: 4 });
    assert!(!judge.verdict().is_roll_back(), "{}", judge.verdict());
    for name in ["p50 latency", "p95 latency", "pace"] {
        let readings = judge.readings();
        let reading = readings.iter().find(|reading| reading.guardrail == name).unwrap();
        assert!(reading.is_safe(), "{reading}");
    }
    let streams = judge.seen(Arm::CANDIDATE).streams.as_deref().unwrap();
    let ours = judge.seen(Arm::BASELINE).streams.as_deref().unwrap();
    assert!(streams.mean_items().unwrap() > 3.0 * ours.mean_items().unwrap());
}

#[test]
fn a_candidate_slow_to_its_first_item_is_taken_back_for_it() {
    let verdict = judged(Differs { first: 2, pace: 1, length: 1 }).verdict();
    assert!(verdict.is_roll_back() && verdict.to_string().contains("latency"), "{verdict}");
}

#[test]
fn a_candidate_whose_items_trickle_is_taken_back_for_its_pace() {
    let verdict = judged(Differs { first: 1, pace: 3, length: 1 }).verdict();
    assert!(verdict.is_roll_back() && verdict.to_string().contains("pace"), "{verdict}");
    let reading = verdict.to_string();
    assert!(reading.contains(" ms"), "the pace is shown as a time: {reading}");
}

/// Counts of `n` streams with a pace of 10 to 30 ms, times this factor.
fn paced(random: &mut Random, n: u64, factor: f64) -> ArmCounts {
    let mut counts = ArmCounts::default();
    let mut streams = pilotage::observe::stream_counts::StreamCounts::default();
    for _ in 0..n {
        let nanos = random.between(10_000_000, 30_000_000);
        counts.latency.record(random.between(10_000_000, 30_000_000));
        streams.pace.record((nanos as f64 * factor) as u64);
    }
    (counts.started, streams.ended, streams.answered) = (n, n, n);
    counts.ended[Status::Ok.index()] = n;
    counts.streams = Some(Box::new(streams));
    counts
}

fn batch(random: &mut Random, at: u64, factor: f64) -> Delta {
    let arms = vec![paced(random, 60, 1.0), paced(random, 60, factor)];
    Delta::new(Moment::from_secs(60 * at), Duration::from_secs(60), Epoch::new(1), arms)
}

/// How many of 40 stages of 25 looks each take the candidate back.
fn rolled_back(factor: f64) -> usize {
    (0..40_u64)
        .filter(|run| {
            let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ (run + 1) << 20);
            let mut judge = StageJudge::new(vec![Guardrail::pace()], 0.01, 0.05, HOUR).unwrap();
            (1..=25).any(|at| {
                judge.observe(TrafficShare::HALF, &batch(&mut random, at, factor));
                judge.verdict().is_roll_back()
            })
        })
        .count()
}

#[test]
fn a_pace_within_its_null_is_rarely_held_against_a_candidate_and_one_beyond_it_is() {
    // Each stage errs with 1 % at most, so that more than 4 of 40 do with less than 1 in 10,000.
    assert!(rolled_back(1.19) <= 4);
    assert_eq!(rolled_back(2.0), 40);
}

#[test]
fn a_model_that_never_streams_is_no_evidence_of_a_pace() {
    let mut judge = judge();
    for at in 1..=20 {
        let mut arms = vec![ArmCounts::default(); 2];
        for arm in &mut arms {
            (0..500_u64).for_each(|n| arm.latency.record(1_000_000 + n));
            arm.ended[Status::Ok.index()] = 500;
            arm.started = 500;
        }
        let delta =
            Delta::new(Moment::from_secs(60 * at), Duration::from_secs(60), Epoch::new(1), arms);
        judge.observe(TrafficShare::HALF, &delta);
    }
    let verdict = judge.verdict();
    assert!(!verdict.is_promotion() && !verdict.is_roll_back(), "{verdict}");
    assert!(verdict.to_string().contains("pace has seen no value"), "{verdict}");
}

#[test]
fn a_candidate_alone_is_held_to_the_pace_the_baseline_had() {
    let mut random = Random(7);
    let baseline = paced(&mut random, 3_000, 1.0);
    for (factor, taken_back) in [(1.0, false), (2.5, true)] {
        let mut judge =
            ReferenceJudge::new(vec![Guardrail::pace()], 0.01, 0.05, HOUR, &baseline).unwrap();
        for _ in 0..10 {
            judge.observe(Epoch::new(0), Duration::from_secs(60), &paced(&mut random, 100, factor));
        }
        let readings = judge.readings();
        assert_eq!(readings[0].finding == pilotage::judge::verdict::Finding::Harm, taken_back);
    }
}

#[test]
fn replicas_that_stream_add_up() {
    let mut random = Random(9);
    let mut one = Snapshot::empty(Moment::ZERO, Epoch::new(1));
    *one.arm_mut(Arm::BASELINE) = paced(&mut random, 10, 1.0);
    let mut two = Snapshot::empty(Moment::ZERO, Epoch::new(1));
    *two.arm_mut(Arm::BASELINE) = paced(&mut random, 5, 1.0);
    assert!(one.merge(&two));
    let streams = one.arms[0].streams.as_deref().unwrap();
    assert_eq!((streams.ended, streams.pace.count()), (15, 15));
}
