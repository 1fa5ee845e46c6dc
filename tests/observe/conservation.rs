//! Counts under load: many threads, small rings, a split that changes, a reader that dawdles.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::thread;

use pilotage::clock::Moment;
use pilotage::ids::{Arm, Epoch, Segment};
use pilotage::observe::record::{Draw, Observation, SubjectTag};
use pilotage::observe::recorder::{Recorder, Size};
use pilotage::outcome::{Outcome, Status};

use crate::ended;

const OUTCOMES: [Outcome; 5] = [
    Outcome::ok(),
    Outcome::error(),
    Outcome::timeout(),
    Outcome::cancelled(),
    Outcome::panicked(),
];

/// Records `calls` observations on `threads` threads while the epoch moves on every so often and
/// somebody drains now and then; says what was written, by arm and status.
fn under_load(
    recorder: &Arc<Recorder>,
    threads: u64,
    calls: u64,
    epochs: u16,
) -> ([[u64; 5]; 2], Epoch) {
    let written: Arc<[[AtomicU64; 5]; 2]> = Arc::default();
    let epoch = Arc::new(AtomicU16::new(0));
    let left = Arc::new(AtomicU64::new(threads));
    let writers: Vec<_> = (0..threads)
        .map(|thread| {
            let (recorder, epoch) = (Arc::clone(recorder), Arc::clone(&epoch));
            let (written, left) = (Arc::clone(&written), Arc::clone(&left));
            thread::spawn(move || {
                for call in 0..calls {
                    let number = call.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ thread;
                    let (arm, status) = (Arm::new((number >> 9) as u8 & 1), (number % 5) as usize);
                    let now = Epoch::new(epoch.load(Ordering::Acquire));
                    let draw = if number % 7 == 0 { Draw::Chosen } else { Draw::Random };
                    recorder.start(arm, now, draw);
                    let mut seen = Observation::new(arm, now, number >> 40, OUTCOMES[status]);
                    seen.subject = Some(SubjectTag::of(number));
                    seen.segment = Segment::new((number >> 20) as u8);
                    seen.draw = draw;
                    recorder.record(&seen);
                    written[arm.index()][status].fetch_add(1, Ordering::Relaxed);
                }
                left.fetch_sub(1, Ordering::AcqRel);
            })
        })
        .collect();
    let mut second = 0;
    while left.load(Ordering::Acquire) > 0 {
        second += 1;
        if second % 3 == 0 && epoch.load(Ordering::Relaxed) < epochs {
            epoch.fetch_add(1, Ordering::AcqRel);
        }
        let now = Epoch::new(epoch.load(Ordering::Acquire));
        recorder.drain(Moment::from_secs(second), now);
        thread::yield_now();
    }
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    let written = [0, 1].map(|arm: usize| {
        std::array::from_fn(|status| written[arm][status].load(Ordering::Relaxed))
    });
    (written, Epoch::new(epoch.load(Ordering::Acquire)))
}

#[test]
fn all_that_began_ended_as_what_was_written_at_any_load() {
    for records in [2, 64, 8_192] {
        let size = Size { shards: 2, records, subjects: 500, ..Size::default() };
        let recorder = Arc::new(Recorder::new(size, Epoch::new(0), Moment::ZERO));
        let calls = if cfg!(miri) { 200 } else { 40_000 };
        let (written, epoch) = under_load(&recorder, 4, calls, 5);
        let totals = recorder.totals(Moment::from_secs(1_000_000), epoch);
        for (arm, written) in written.iter().enumerate() {
            assert_eq!(&ended(&totals[arm]), written, "arm {arm}, rings of {records}");
            assert_eq!(totals[arm].started, totals[arm].finished());
        }
        if records == 2 {
            assert!(totals.iter().any(|arm| arm.detail_lost > 0), "the rings never overflowed");
        }
    }
}

#[test]
fn latencies_and_marks_survive_a_full_ring() {
    let size = Size { shards: 1, records: 2, ..Size::default() };
    let recorder = Recorder::new(size, Epoch::new(9), Moment::ZERO);
    for nanos in 1..=1_000 {
        recorder.start(Arm::CANDIDATE, Epoch::new(9), Draw::Random);
        let outcome = Outcome::ok().with_mark(4).with_score(0.5);
        recorder.record(&Observation::new(Arm::CANDIDATE, Epoch::new(9), nanos, outcome));
    }
    let snapshot = recorder.snapshot(Moment::from_secs(1), Epoch::new(9));
    let counts = snapshot.arm(Arm::CANDIDATE).unwrap();
    assert_eq!(
        (counts.of(Status::Ok), counts.marks[4], counts.latency.count()),
        (1_000, 1_000, 1_000)
    );
    assert_eq!((counts.detail_lost, counts.score.count), (998, 2));
    let median = counts.latency.quantile(0.5).unwrap() as f64;
    assert!((median / 500.0 - 1.0).abs() < 0.01, "{median}");
}

#[test]
fn threads_that_end_take_nothing_with_them() {
    let size = Size { shards: 4, records: 256, ..Size::default() };
    let recorder = Arc::new(Recorder::new(size, Epoch::new(0), Moment::ZERO));
    let before = recorder.memory_bytes();
    let threads = if cfg!(miri) { 20 } else { 2_000 };
    for _ in 0..threads / 4 {
        let four = [(); 4].map(|()| {
            let recorder = Arc::clone(&recorder);
            thread::spawn(move || {
                recorder.start(Arm::BASELINE, Epoch::new(0), Draw::Random);
                let seen = Observation::new(Arm::BASELINE, Epoch::new(0), 1, Outcome::ok());
                recorder.record(&seen);
            })
        });
        four.into_iter().for_each(|thread| thread.join().unwrap());
    }
    let snapshot = recorder.snapshot(Moment::from_secs(1), Epoch::new(0));
    assert_eq!(snapshot.arms[0].of(Status::Ok), threads);
    assert_eq!(recorder.memory_bytes(), before);
}

#[test]
fn epochs_that_pass_between_two_drains_are_told_apart() {
    let recorder =
        Recorder::new(Size { shards: 1, ..Size::default() }, Epoch::new(65_533), Moment::ZERO);
    for step in 0..20_u16 {
        let epoch = Epoch::new(65_533_u16.wrapping_add(step));
        for _ in 0..=step {
            recorder.start(Arm::BASELINE, epoch, Draw::Random);
            recorder.record(&Observation::new(Arm::BASELINE, epoch, 1, Outcome::ok()));
        }
        recorder.start(Arm::BASELINE, epoch, Draw::Random); // one that never ends
        if step % 5 == 4 {
            let snapshot = recorder.snapshot(Moment::from_secs(step.into()), epoch);
            let counts = &snapshot.arms[0];
            assert_eq!(snapshot.epoch, epoch);
            assert_eq!(
                (counts.started, counts.finished()),
                (u64::from(step) + 2, u64::from(step) + 1)
            );
            assert_eq!(counts.in_flight(), 1);
        }
    }
}
