//! What the reader's side can take.

use std::hint::black_box;
use std::time::Instant;

use pilotage::clock::Moment;
use pilotage::ids::{Arm, Epoch, Segment};
use pilotage::observe::record::{CallKey, Draw, SubjectTag, Words};
use pilotage::observe::recorder::{Recorder, Size};
use pilotage::outcome::Outcome;

/// Records written, drained and folded in a second by one core: the best of several runs.
#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
pub fn records_per_second() -> f64 {
    let recorder = Recorder::new(Size::default(), Epoch::new(0), Moment::ZERO);
    let mut best = 0.0_f64;
    for _ in 0..20 {
        let began = Instant::now();
        for round in 0..100_u64 {
            for at in 0..4_096_u64 {
                let number = round << 12 | at;
                let subject =
                    Some(SubjectTag::of(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40));
                let arm = Arm::new((at & 1) as u8);
                let key = CallKey::new(arm, Epoch::new(0), Segment::NONE, subject, Draw::Random);
                recorder.write(Words::of(key, 10_000 + at * 7, &Outcome::ok(), false));
            }
            drop(recorder.drain(Moment::ZERO, Epoch::new(0)));
        }
        best = best.max(409_600.0 / began.elapsed().as_secs_f64());
    }
    best
}

/// Seconds for the quantiles of five minutes, ours and by sorting.
pub struct Quantiles {
    pub ours: f64,
    pub sorting: f64,
}

/// The same million results, asked for p50, p95 and p99 in both ways.
#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
pub fn quantiles_beside_sorting() -> Quantiles {
    let recorder = Recorder::new(Size::default(), Epoch::new(0), Moment::ZERO);
    let results: Vec<u64> = (0..1_000_000_u64)
        .map(|at| 1_000_000 + (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 38))
        .collect();
    for (at, nanos) in results.iter().enumerate() {
        let (arm, epoch) = (Arm::BASELINE, Epoch::new(0));
        let key = CallKey::new(arm, epoch, Segment::NONE, None, Draw::Random);
        recorder.write(Words::of(key, *nanos, &Outcome::ok(), false));
        if at % 4_096 == 0 {
            drop(recorder.drain(Moment::from_secs(at as u64 / 4_096), Epoch::new(0)));
        }
    }
    let mut quantiles = Quantiles { ours: f64::INFINITY, sorting: f64::INFINITY };
    for _ in 0..200 {
        let began = Instant::now();
        black_box(recorder.recent(Arm::BASELINE));
        quantiles.ours = quantiles.ours.min(began.elapsed().as_secs_f64());
    }
    for _ in 0..3 {
        let began = Instant::now();
        let mut sorted: Vec<f64> = results.iter().map(|nanos| *nanos as f64).collect();
        sorted.sort_by(f64::total_cmp);
        black_box(sorted[sorted.len() / 2]);
        quantiles.sorting = quantiles.sorting.min(began.elapsed().as_secs_f64());
    }
    quantiles
}
