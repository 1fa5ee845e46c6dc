//! The figures of streams are those of the script they play.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use pilotage::clock::ManualClock;
use pilotage::ids::Arm;
use pilotage::observe::histogram::{Histogram, RELATIVE_ERROR};
use pilotage::observe::recorder::Size;
use pilotage::observe::sink::{MetricsSink, SinkError};
use pilotage::observe::window::Window;
use pilotage::outcome::Outcome;
use pilotage::serve::builder::Fallback;
use pilotage::serve::request::Request;
use pilotage::serve::router::Router;
use pilotage::share::TrafficShare;

use crate::{Do, Script, Stage, block_on, read};

/// The quantile in milliseconds, which must be exact to within a bucket's half.
#[track_caller]
fn is_near(histogram: &Histogram, quantile: f64, millis: f64) {
    let got = histogram.quantile(quantile).unwrap() as f64 / 1e6;
    assert!((got - millis).abs() <= millis * RELATIVE_ERROR, "{got} for {millis}");
}

fn play(stage: &Stage, items: &[Do]) {
    let script = Script::of(items);
    let answer = block_on(stage.router.predict_stream(Request::of("user"), &script)).unwrap();
    drop(read(answer.output));
}

#[test]
fn first_items_gaps_pace_and_lengths_are_those_of_the_script() {
    use Do::{Item, Take, Wait};
    let stage = Stage::new(Fallback::Never, true);
    play(
        &stage,
        &[Take(50), Item(1), Take(10), Wait, Take(20), Item(2), Take(10), Item(3), Take(5)],
    );
    play(&stage, &[Take(90), Item(1)]);
    play(&stage, &[]);
    let counts = stage.arm(Arm::BASELINE);
    let streams = counts.streams.as_deref().unwrap();
    assert_eq!((streams.ended, streams.answered, streams.items), (3, 2, 4));
    assert_eq!((streams.first.count(), streams.gaps.count(), streams.pace.count()), (2, 2, 1));
    is_near(&streams.first, 0.0, 50.0);
    is_near(&streams.first, 1.0, 90.0);
    is_near(&streams.gaps, 0.0, 10.0);
    is_near(&streams.gaps, 1.0, 30.0);
    is_near(&streams.pace, 0.5, 20.0);
    assert_eq!(streams.mean_gap(), Some(20e6), "exact, without buckets");
    assert_eq!(streams.mean_items(), Some(2.0));
    is_near(&streams.whole, 1.0, 95.0);
    assert_eq!(streams.whole.count(), 3);
    assert_eq!([0.0, 0.5, 1.0].map(|q| streams.lengths.quantile(q)), [Some(0), Some(1), Some(3)]);
    // The ordinary latency of a stream is the time to its first item; to its end, if there is none.
    is_near(&counts.latency, 0.5, 50.0);
    is_near(&counts.latency, 1.0, 90.0);
    assert_eq!(counts.latency.count(), 3);
}

#[test]
fn quantiles_of_gaps_are_right_within_a_long_stream() {
    let stage = Stage::new(Fallback::Never, true);
    let mut items = vec![Do::Item(0)];
    for gap in 0..1_000_u32 {
        items.extend([Do::Take(if gap % 100 < 97 { 1 } else { 7 }), Do::Item(gap)]);
    }
    play(&stage, &items);
    let counts = stage.arm(Arm::BASELINE);
    let streams = counts.streams.as_deref().unwrap();
    assert_eq!(streams.gaps.count(), 1_000);
    is_near(&streams.gaps, 0.5, 1.0);
    is_near(&streams.gaps, 0.95, 1.0);
    is_near(&streams.gaps, 0.99, 7.0);
    assert_eq!(streams.mean_gap(), Some(1_180_000.0));
    is_near(&streams.pace, 0.5, 1.18);
}

#[test]
fn the_time_a_reader_takes_is_nobodys_gap() {
    let stage = Stage::new(Fallback::Never, true);
    let script = Script::of(&[Do::Take(10), Do::Item(1), Do::Take(20), Do::Item(2)]);
    let answer = block_on(stage.router.predict_stream(Request::of("user"), &script)).unwrap();
    let mut stream = answer.output;
    for _ in 0..3 {
        stage.clock.advance(Duration::from_secs(3_600));
        block_on(stream.next_item());
    }
    let counts = stage.arm(Arm::BASELINE);
    let streams = counts.streams.as_deref().unwrap();
    is_near(&streams.first, 0.5, 10.0);
    is_near(&streams.gaps, 0.5, 20.0);
    is_near(&streams.whole, 0.5, 30.0);
    assert_eq!(counts.of(pilotage::outcome::Status::Ok), 1, "not late: the reader was");
}

#[test]
fn a_stream_that_fails_late_leaves_its_first_item_and_gaps() {
    let stage = Stage::new(Fallback::Never, true);
    play(&stage, &[Do::Take(40), Do::Item(1), Do::Take(15), Do::Item(2), Do::Take(45), Do::Fail]);
    let counts = stage.arm(Arm::BASELINE);
    let streams = counts.streams.as_deref().unwrap();
    is_near(&streams.first, 0.5, 40.0);
    is_near(&streams.gaps, 0.5, 15.0);
    assert_eq!((streams.whole.count(), streams.lengths.count()), (0, 0), "it came to no end");
    is_near(&counts.failed_latency, 0.5, 100.0);
    assert!(counts.latency.is_empty());
}

#[test]
fn figures_go_to_the_split_under_which_the_stream_began() {
    let stage = Stage::new(Fallback::Never, true);
    let script = Script::of(&[Do::Item(1)]);
    let begun = block_on(stage.router.predict_stream(Request::of("user"), &script)).unwrap();
    crate::shift(&stage.router, pilotage::share::TrafficShare::HALF);
    drop(read(begun.output));
    assert_eq!(stage.arm(Arm::BASELINE).streams, None, "it is no evidence on this split");
    let total = &stage.router.totals()[0];
    assert_eq!(total.streams.as_deref().unwrap().items, 1);
}

#[test]
fn differences_of_snapshots_hold_what_came_between() {
    let stage = Stage::new(Fallback::Never, true);
    play(&stage, &[Do::Take(10), Do::Item(1)]);
    let before = stage.router.snapshot();
    play(&stage, &[Do::Take(30), Do::Item(1), Do::Take(3), Do::Item(2)]);
    let after = stage.router.snapshot();
    let delta = after.since(&before);
    let between = delta.arms[0].streams.as_deref().unwrap();
    assert_eq!((between.ended, between.items, between.gap_nanos), (1, 2, 3_000_000));
    is_near(&between.first, 0.5, 30.0);
    let mut whole = before.clone();
    assert!(whole.merge(&{
        let mut rest = after.clone();
        rest.arms = delta.arms;
        rest
    }));
    assert_eq!(whole.arms[0].streams, after.arms[0].streams);
    let stored = serde_json::to_string(&after).unwrap();
    let back: pilotage::observe::snapshot::Snapshot = serde_json::from_str(&stored).unwrap();
    assert_eq!(back.arms[0].streams, after.arms[0].streams);
}

#[test]
fn counts_of_streams_do_not_depend_on_the_rings() {
    let stage = Stage::new(Fallback::Never, true);
    let router = Router::builder("tiny")
        .size(Size { shards: 1, records: 2, ..Size::default() })
        .stable("v1", stage.model.clone())
        .build()
        .unwrap();
    let script = Script::of(&[Do::Item(1), Do::Item(2)]);
    for user in 0..1_000_u64 {
        drop(read(block_on(router.predict_stream(Request::of(user), &script)).unwrap().output));
    }
    let counts = &router.snapshot().arms[0];
    let streams = counts.streams.as_deref().unwrap();
    assert!(counts.detail_lost > 0, "the ring was never full");
    assert_eq!((counts.finished(), streams.ended, streams.items), (1_000, 1_000, 2_000));
}

#[test]
fn a_stream_of_very_many_items_loses_none() {
    let numbers = pilotage::stream_model::sync(|upto: &u32| {
        Ok((0..*upto).map(Ok::<_, std::convert::Infallible>))
    });
    let router =
        Router::builder("long").clock(ManualClock::new()).stable("v1", numbers).build().unwrap();
    let answer = router.predict_stream_sync(&Request::of("user"), &150_000).unwrap();
    let mut stream = answer.output;
    assert_eq!(stream.by_ref().take(149_000).count(), 149_000);
    router.drain();
    assert_eq!(stream.count(), 1_000);
    let counts = &router.snapshot().arms[0];
    let streams = counts.streams.as_deref().unwrap();
    assert_eq!((streams.items, streams.gaps.count()), (150_000, 149_999));
}

/// Keeps what windows say of the candidate's streams: the window's split, streams ended, items.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<(u16, u64, u64)>>>);

impl MetricsSink for Kept {
    fn name(&self) -> &str {
        "kept"
    }

    fn window(&self, window: &Window) -> Result<(), SinkError> {
        let streams = window.arms[1].streams.as_deref().cloned().unwrap_or_default();
        self.0.lock().unwrap().push((window.epoch.number(), streams.ended, streams.items));
        Ok(())
    }
}

#[test]
fn sinks_are_told_of_each_stream_in_one_window() {
    let clock = ManualClock::new();
    let model = Stage::new(Fallback::Never, true).model;
    let kept = Kept::default();
    let router = Router::builder("sinks")
        .clock(clock.clone())
        .sink(kept.clone())
        .stable("v1", model.clone())
        .build()
        .unwrap();
    router.deploy("v2", model).unwrap();
    let script = Script::of(&[Do::Item(1), Do::Item(2)]);
    let ask =
        || drop(read(block_on(router.predict_stream(Request::of("u"), &script)).unwrap().output));
    crate::shift(&router, TrafficShare::ALL);
    let epoch = router.split().epoch.number();
    (0..3).for_each(|_| ask());
    drop(router.snapshot());
    clock.advance(Duration::from_secs(11));
    router.drain();
    ask();
    // The split changes before this window is due: it closes with the split.
    crate::shift(&router, TrafficShare::ALL);
    ask();
    ask();
    drop(router.snapshot());
    clock.advance(Duration::from_secs(11));
    router.drain();
    clock.advance(Duration::from_secs(11));
    router.drain();
    let told = kept.0.lock().unwrap();
    let told: Vec<_> = told.iter().filter(|(_, ended, _)| *ended > 0).copied().collect();
    assert_eq!(told, [(epoch, 3, 6), (epoch, 1, 2), (epoch + 1, 2, 4)]);
}

#[test]
fn calls_that_are_answered_at_once_are_no_streams() {
    let stage = Stage::new(Fallback::Never, true);
    stage.router.begin(&Request::of("user")).finish(Outcome::ok());
    assert_eq!(stage.arm(Arm::BASELINE).streams, None);
}
