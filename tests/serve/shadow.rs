//! A second model, heard by nobody.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use parking_lot::Mutex;
use pilotage::clock::ManualClock;
use pilotage::outcome::Status;
use pilotage::serve::executor::{Executor, Job, Rejected};
use pilotage::serve::request::Request;
use pilotage::serve::router::Router;
use pilotage::serve::shadow_lane::{LaneError, LaneOptions, Offer, Offered, ShadowLane, Told};
use pilotage::share::TrafficShare;

use crate::{Do, block_on};

/// Keeps jobs until the test runs them.
#[derive(Clone, Default)]
struct Later(Arc<Mutex<Vec<Job>>>);

impl Executor for Later {
    fn spawn(&self, job: Job) -> Result<(), Rejected> {
        self.0.lock().push(job);
        Ok(())
    }
}

impl Later {
    fn run(&self) -> usize {
        let jobs = std::mem::take(&mut *self.0.lock());
        jobs.into_iter().map(|job| job()).count()
    }
}

type Lane = ShadowLane<crate::Told, ManualClock>;

fn lane(options: LaneOptions) -> (Lane, Later) {
    let clock = ManualClock::new();
    let candidate = Arc::new(crate::Told { bad_arm: None, clock: clock.clone() });
    let jobs = Later::default();
    let alike = |a: &u32, b: &u32| if *b == 13 { f64::NAN } else { f64::from(u8::from(a == b)) };
    let lane = ShadowLane::with_clock(candidate, jobs.clone(), alike, options, clock).unwrap();
    (lane, jobs)
}

fn offer(candidate_does: Do, sample: Option<u64>) -> Offer<Do, u32> {
    Offer {
        input: Arc::new(candidate_does),
        bytes: 8,
        status: Status::Ok,
        latency: Duration::from_millis(5),
        output: Some(1),
        sample,
    }
}

#[test]
fn every_sampled_request_ends_in_one_count() {
    let options = || LaneOptions { in_flight: 6, input_bytes: 100, ..LaneOptions::default() };
    let (lane, jobs) = lane(options());
    let ask = |does| lane.offer(&Request::of("user"), || offer(does, None));
    let long = Do::Dawdle(10_001);
    for does in [Do::Answer(1), Do::Answer(2), Do::Answer(13), Do::Fail, Do::Panic, long] {
        assert_eq!(ask(does), Offered::Taken);
    }
    assert_eq!(ask(Do::Answer(1)), Offered::Shed);
    assert_eq!(lane.in_flight(), 6);
    assert_eq!(jobs.run(), 6);
    let big = || Offer { bytes: 101, ..offer(Do::Answer(1), None) };
    assert_eq!(lane.offer(&Request::of("user"), big), Offered::Skipped);
    assert_eq!(ask(Do::Answer(1)), Offered::Taken);
    jobs.0.lock().clear(); // an executor that drops its work
    let counts = lane.counts();
    assert_eq!((counts.sampled, counts.run, counts.shed, counts.skipped), (9, 6, 2, 1));
    assert_eq!((counts.pairs, counts.matches, counts.uncomparable), (2, 1, 1));
    assert_eq!(counts.candidate.ended, [3, 1, 1, 0, 1]);
    assert_eq!(counts.baseline.ended, [6, 0, 0, 0, 0]);
    assert_eq!(lane.in_flight(), 0);
}

#[test]
fn a_hung_candidate_is_given_up_at_its_deadline() {
    let candidate = crate::Told { bad_arm: None, clock: ManualClock::new() };
    let options = LaneOptions { deadline: Duration::from_millis(20), ..LaneOptions::default() };
    let jobs = Later::default();
    let lane = ShadowLane::new(Arc::new(candidate), jobs.clone(), |_, _| 1.0, options).unwrap();
    lane.offer(&Request::anonymous(), || offer(Do::Hang, None));
    jobs.run();
    assert_eq!(lane.counts().candidate.of(Status::Timeout), 1);
}

#[test]
fn the_sample_is_of_subjects_not_of_requests() {
    let sample = TrafficShare::percent(10.0).unwrap();
    let (lane, jobs) = lane(LaneOptions { sample, in_flight: u64::MAX, ..LaneOptions::default() });
    for user in 0..5_000_u64 {
        let ask = || lane.offer(&Request::of(user), || offer(Do::Answer(1), None));
        assert_eq!(ask(), ask());
    }
    jobs.run();
    // 5,000 subjects at 10 %: 500 ± 21, twice each; five deviations of room.
    assert!(lane.counts().run.abs_diff(1_000) < 212, "{}", lane.counts().run);
}

#[test]
fn the_truth_of_a_sample_counts_once_whenever_it_comes() {
    let (lane, jobs) = lane(LaneOptions { samples: 4, ..LaneOptions::default() });
    let ask = |does, sample| lane.offer(&Request::of("user"), || offer(does, Some(sample)));
    ask(Do::Answer(1), 10);
    ask(Do::Answer(2), 11);
    ask(Do::Fail, 12);
    assert_eq!(lane.truth(11, |answer| *answer == 2), Told::Later);
    assert_eq!(lane.truth(11, |answer| *answer == 2), Told::Before);
    jobs.run();
    assert_eq!(lane.truth(10, |answer| *answer == 1), Told::Counted);
    assert_eq!(lane.truth(12, |answer| *answer == 1), Told::Counted);
    assert_eq!(lane.truth(99, |_| true), Told::Unknown);
    for _ in 0..3 {
        ask(Do::Answer(1), 10); // a replay
        jobs.run();
        assert_eq!(lane.truth(10, |answer| *answer == 1), Told::Before);
    }
    let truth = lane.counts().truth;
    assert_eq!((truth.both_right, truth.only_candidate, truth.only_baseline), (1, 1, 1));
    assert_eq!(truth.total(), 3);
    for sample in 100..200 {
        ask(Do::Answer(1), sample);
    }
    jobs.run();
    assert_eq!(lane.truth(100, |_| true), Told::Unknown, "old pairs make room");
    assert_eq!(lane.truth(199, |_| true), Told::Counted);
}

#[test]
fn a_paused_lane_runs_nothing_and_a_stopped_one_never_again() {
    let (lane, jobs) = lane(LaneOptions::default());
    let ask = || lane.offer(&Request::of("user"), || offer(Do::Answer(1), Some(1)));
    ask();
    lane.pause();
    assert_eq!(ask(), Offered::Skipped);
    jobs.run();
    assert_eq!((lane.counts().run, lane.counts().skipped), (0, 2));
    lane.resume();
    assert_eq!(ask(), Offered::Taken);
    lane.stop();
    lane.resume();
    jobs.run();
    assert_eq!(ask(), Offered::Skipped);
    assert_eq!(lane.counts().run, 0);
    assert_eq!(lane.truth(1, |_| true), Told::Unknown);
}

#[test]
fn a_model_with_side_effects_is_not_shadowed_by_accident() {
    let plain: fn(&u8) -> Result<u8, ()> = |byte| Ok(*byte);
    let candidate = Arc::new(pilotage::model::sync(plain));
    let lane = ShadowLane::new(candidate, Later::default(), |_, _| 1.0, LaneOptions::default());
    assert_eq!(lane.unwrap_err(), LaneError::NotShadowable);
    let willing = Arc::new(pilotage::model::sync(plain).shadowable());
    let options = LaneOptions { threshold: f64::NAN, ..LaneOptions::default() };
    assert!(ShadowLane::new(willing, Later::default(), |_, _| 1.0, options).is_err());
}

#[test]
fn the_caller_hears_the_baseline_before_the_candidate_is_even_asked() {
    let (lane, jobs) = lane(LaneOptions::default());
    let old = crate::Told { bad_arm: None, clock: ManualClock::new() };
    let router = Router::builder("shadowed").stable("old", old).build().unwrap();
    let input = Arc::new(Do::Answer(4));
    let answer = block_on(lane.predict(&router, Request::of("user"), &input, None)).unwrap();
    assert_eq!((answer.output, lane.counts().run), (4, 0));
    jobs.run();
    assert_eq!(lane.counts().matches, 1);
}

#[test]
fn a_comparator_may_use_the_lane_it_serves() {
    let (send, receive) = channel::<Lane>();
    let receive = Mutex::new(receive);
    let candidate = Arc::new(crate::Told { bad_arm: None, clock: ManualClock::new() });
    let jobs = Later::default();
    let compare =
        move |_: &u32, _: &u32| receive.lock().recv().map_or(0.0, |lane| lane.counts().run as f64);
    let lane: Lane = ShadowLane::with_clock(
        candidate,
        jobs.clone(),
        compare,
        LaneOptions::default(),
        ManualClock::new(),
    )
    .unwrap();
    send.send(lane.clone()).unwrap();
    lane.offer(&Request::of("user"), || offer(Do::Answer(1), None));
    jobs.run();
    assert_eq!(lane.counts().pairs, 1);
}
