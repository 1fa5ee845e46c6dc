//! Windows and those who are told of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pilotage::clock::{Clock, ManualClock, Moment};
use pilotage::ids::{Arm, Epoch};
use pilotage::observe::record::{Observation, SubjectTag};
use pilotage::observe::recorder::{Recorder, Size};
use pilotage::observe::sink::{MemorySink, MetricsSink, SinkError};
use pilotage::observe::window::Window;
use pilotage::outcome::Outcome;
use pilotage::route::switch::TrafficSwitch;
use pilotage::serve::request::Request;
use pilotage::serve::router::Router;
use pilotage::share::TrafficShare;

const EPOCH: Epoch = Epoch::new(3);

fn small() -> Recorder {
    Recorder::new(Size { shards: 1, ..Size::default() }, EPOCH, Moment::ZERO)
}

fn record(recorder: &Recorder, subject: u64, outcome: Outcome) {
    let mut seen = Observation::new(Arm::BASELINE, EPOCH, 1_000, outcome);
    seen.subject = Some(SubjectTag::of(subject));
    recorder.record(&seen);
}

#[test]
fn a_subject_counts_once_in_each_window() {
    let recorder = small();
    for window in 0..3 {
        for _ in 0..10 {
            record(&recorder, 7, Outcome::error());
        }
        recorder.drain(Moment::from_secs(10 * (window + 1)), EPOCH);
    }
    let subjects = recorder.snapshot(Moment::from_secs(31), EPOCH).arms[0].subjects;
    assert_eq!((subjects.exposed, subjects.failed), (3, 3));
}

#[test]
fn subjects_beyond_the_table_are_counted_as_such() {
    let size = Size { shards: 1, subjects: 100, ..Size::default() };
    let recorder = Recorder::new(size, EPOCH, Moment::ZERO);
    (0..1_000).for_each(|subject| record(&recorder, subject, Outcome::ok()));
    let counts = recorder.snapshot(Moment::from_secs(1), EPOCH).arms[0].clone();
    assert_eq!(
        (counts.subjects.exposed, counts.subjects_untracked, counts.finished()),
        (100, 900, 1_000)
    );
}

#[test]
fn windows_add_up_to_the_snapshot() {
    let recorder = small();
    let mut sum = Window::default();
    sum.arms.resize_with(2, Default::default);
    for tick in 1..=100_u64 {
        for _ in 0..tick % 7 {
            recorder.start(Arm::BASELINE, EPOCH, Default::default());
            record(&recorder, tick, Outcome::ok().with_score(0.5));
        }
        for window in recorder.drain(Moment::from_secs(tick), EPOCH) {
            assert!(window.lasted() >= Duration::from_secs(10));
            sum.arms.iter_mut().zip(&window.arms).for_each(|(sum, arm)| sum.merge(arm));
        }
    }
    let snapshot = recorder.snapshot(Moment::from_secs(100), EPOCH);
    assert_eq!(sum.arms, snapshot.arms);
}

#[test]
fn a_pause_longer_than_the_window_empties_the_running_quantiles() {
    let recorder = small();
    record(&recorder, 1, Outcome::ok());
    recorder.drain(Moment::from_secs(10), EPOCH);
    assert_eq!(recorder.recent(Arm::BASELINE).unwrap().count, 1);
    recorder.drain(Moment::from_secs(3_600), EPOCH);
    assert_eq!(recorder.recent(Arm::BASELINE), None);
    assert_eq!(recorder.snapshot(Moment::from_secs(3_601), EPOCH).arms[0].finished(), 1);
}

#[test]
fn a_clock_that_steps_back_closes_no_window() {
    let recorder = Recorder::new(Size::default(), EPOCH, Moment::from_secs(1_000));
    record(&recorder, 1, Outcome::ok());
    assert!(recorder.drain(Moment::ZERO, EPOCH).is_empty());
    assert_eq!(recorder.drain(Moment::from_secs(1_010), EPOCH).len(), 1);
}

/// Refuses, panics, or looks back into the router that feeds it.
struct Difficult {
    router: parking_lot::Mutex<Option<Router<(), ManualClock>>>,
    told: AtomicU64,
}

impl MetricsSink for Difficult {
    fn name(&self) -> &str {
        "difficult"
    }

    fn window(&self, _window: &Window) -> Result<(), SinkError> {
        if let Some(router) = &*self.router.lock() {
            let _ = router.snapshot();
            router.switch().roll_back();
        }
        match self.told.fetch_add(1, Ordering::Relaxed) {
            0 => Err(SinkError { sink: self.name().to_owned(), reason: "not today".to_owned() }),
            1 => panic!("a sink that panics"),
            _ => Ok(()),
        }
    }
}

#[test]
fn a_difficult_sink_keeps_nobody_from_being_told() {
    let clock = ManualClock::new();
    let memory = Arc::new(MemorySink::default());
    let difficult =
        Arc::new(Difficult { router: parking_lot::Mutex::default(), told: AtomicU64::new(0) });
    let router = Router::builder("sinks")
        .clock(clock.clone())
        .sink(Arc::clone(&difficult))
        .sink(Arc::clone(&memory))
        .stable("old", ())
        .build()
        .unwrap();
    *difficult.router.lock() = Some(router.clone());
    for second in 1..=3 {
        router.begin(&Request::of("user")).finish(Outcome::ok());
        clock.set(Moment::from_secs(second * 10));
        assert_eq!(router.drain(), 1);
    }
    assert_eq!(router.sink_errors(), 2);
    difficult.router.lock().take();
    clock.set(Moment::from_secs(40));
    router.drain();
    let windows = memory.windows();
    assert_eq!(windows.iter().map(|window| window.arms[0].finished()).sum::<u64>(), 3);
}

#[test]
fn a_window_belongs_to_one_split() {
    let clock = ManualClock::new();
    let memory = Arc::new(MemorySink::default());
    let router = Router::builder("split")
        .clock(clock.clone())
        .sink(Arc::clone(&memory))
        .stable("old", ())
        .build()
        .unwrap();
    router.begin(&Request::of("user")).finish(Outcome::ok());
    clock.advance(Duration::from_secs(3));
    router.drain();
    router.switch().shift(&router.split().shifted(TrafficShare::HALF)).unwrap();
    assert_eq!(router.drain(), 1);
    let window = &memory.windows()[0];
    assert_eq!((window.epoch, window.to), (Epoch::new(0), clock.now()));
}
