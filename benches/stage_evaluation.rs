//! How long it takes to judge a whole stage: 4 guardrails, 24 restarts, 30 alternatives each.
//!
//! `cargo bench --bench stage_evaluation`. Exits with 1 when it takes more than a millisecond.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use pilotage::ids::Arm;
use pilotage::judge::guardrail::Guardrail;
use pilotage::judge::stage::StageJudge;
use pilotage::share::TrafficShare;
use pilotage::sim::traffic::{LatencyLaw, Traffic, Weather};

fn main() -> ExitCode {
    let share = TrafficShare::percent(5.0).expect("5 is a percentage");
    let weather = |_: Duration, _: Arm| Weather {
        rate: 50.0,
        share,
        errors: 0.002,
        timeouts: 0.001,
        slowness: 1.0,
    };
    // Thirty steps of six minutes, so that 24 restarts are kept.
    let planned = Duration::from_secs(3 * 3600);
    let guardrails = Guardrail::standard();
    let mut judge = StageJudge::new(guardrails, 0.01, 0.05, planned).expect("usual guardrails");
    let mut traffic = Traffic::new(1, LatencyLaw::LogNormal);
    let mut batches = Vec::new();
    for _ in 0..1_080 {
        let batch = traffic.next(Duration::from_secs(10), weather);
        judge.observe(share, &batch);
        batches.push(batch);
    }
    let verdict = nanos(2_000, || drop(black_box(judge.verdict())));
    let mut at = 0;
    let observe = nanos(2_000, || {
        at = (at + 1) % batches.len();
        judge.observe(share, &batches[at]);
    });
    println!("verdict of a stage   {:>10.1} µs", verdict / 1e3);
    println!("taking in a batch    {:>10.1} µs", observe / 1e3);
    if verdict <= 1e6 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The median of nine rounds, in nanoseconds a call.
fn nanos(calls: u32, mut call: impl FnMut()) -> f64 {
    let mut rounds: Vec<f64> = (0..9)
        .map(|_| {
            let start = Instant::now();
            (0..calls).for_each(|_| call());
            start.elapsed().as_nanos() as f64 / f64::from(calls)
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds[4]
}
