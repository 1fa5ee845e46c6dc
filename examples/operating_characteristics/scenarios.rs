//! What may happen to a stage of two hours.

use std::time::Duration;

use pilotage::ids::Arm;
use pilotage::share::TrafficShare;
use pilotage::sim::traffic::{LatencyLaw, Weather};

use crate::report::{Promise, What};

/// One of them.
pub struct Scenario {
    pub name: &'static str,
    pub law: LatencyLaw,
    /// Seconds between two looks.
    pub look: f64,
    /// When the fault begins, in seconds.
    pub from: f64,
    /// Mean failures in a row of a client, and whether subjects are counted.
    pub burst: (f64, bool),
    pub weather: fn(f64, Arm) -> Weather,
    /// Held by `pilotage, error rate alone` or `pilotage, p95 alone`.
    pub promises: Vec<Promise>,
    /// Held by the standard stage.
    pub standard: Vec<Promise>,
}

pub const STAGE: Duration = Duration::from_secs(7200);

fn usual(rate: f64) -> Weather {
    let share = TrafficShare::percent(5.0).expect("5 is a percentage");
    Weather { rate, share, errors: 0.001, timeouts: 0.0, slowness: 1.0 }
}

fn worse(arm: Arm, factor: f64) -> Weather {
    let mut weather = usual(100.0);
    if arm == Arm::CANDIDATE {
        weather.errors *= factor;
    }
    weather
}

fn slower(arm: Arm, factor: f64) -> Weather {
    let mut weather = usual(100.0);
    if arm == Arm::CANDIDATE {
        weather.slowness *= factor;
    }
    weather
}

/// Half an hour in which both arms err `errors` times as often and take `slowness` times as long.
fn incident(at: f64, errors: f64, slowness: f64) -> Weather {
    let mut weather = usual(100.0);
    if (2400.0..4200.0).contains(&at) {
        weather.errors *= errors;
        weather.slowness *= slowness;
    }
    weather
}

/// A day's rise and fall of traffic, errors and latency in two hours.
fn diurnal(at: f64) -> Weather {
    let wave = (at / 7200.0 * std::f64::consts::TAU).sin();
    let mut weather = usual(100.0 * (1.0 + 0.8 * wave));
    weather.errors *= 1.0 + 0.5 * wave;
    weather.slowness = 1.0 + 0.3 * wave;
    weather
}

/// 1 %, 5 %, 25 %, 50 %, half an hour each.
fn growing(at: f64) -> Weather {
    let mut weather = usual(100.0);
    let percent = [1.0, 5.0, 25.0, 50.0][((at / 1800.0) as usize).min(3)];
    weather.share = TrafficShare::percent(percent).expect("a percentage");
    weather
}

fn rare(rate: f64) -> Weather {
    let mut weather = usual(100.0);
    weather.errors = rate;
    weather
}

/// Every scenario, healthy ones first.
pub fn all() -> Vec<Scenario> {
    let healthy = |name, look, weather: fn(f64, Arm) -> Weather| Scenario {
        name,
        law: LatencyLaw::None,
        look,
        from: 0.0,
        burst: (1.0, false),
        weather,
        promises: vec![(What::ProbabilityAtMost, 0.01)],
        standard: vec![(What::ProbabilityAtMost, 0.01)],
    };
    let fault = |name, look, weather: fn(f64, Arm) -> Weather, promises| Scenario {
        promises,
        standard: Vec::new(),
        ..healthy(name, look, weather)
    };
    let later = |scenario: Scenario| Scenario { from: 3600.0, ..scenario };
    let law = |law, scenario: Scenario| Scenario { law, ..scenario };
    let (normal, heavy) = (LatencyLaw::LogNormal, LatencyLaw::HeavyTail);
    let median = |bound| vec![(What::MedianAtMost, bound)];
    let rarely = || vec![(What::ProbabilityAtMost, 0.01)];
    let within = |bound| vec![(What::SecondsAtMost, bound)];
    vec![
        healthy("healthy, 1 request/s", 10.0, |_, _| usual(1.0)),
        healthy("healthy, 10 requests/s", 10.0, |_, _| usual(10.0)),
        healthy("healthy, 100 requests/s", 5.0, |_, _| usual(100.0)),
        healthy("healthy, 1000 requests/s", 10.0, |_, _| usual(1000.0)),
        healthy("shared incident, errors x2", 5.0, |at, _| incident(at, 2.0, 1.0)),
        healthy("shared incident, errors x5", 5.0, |at, _| incident(at, 5.0, 1.0)),
        Scenario { burst: (2.0, true), ..healthy("retries, 2 in a row", 5.0, |_, _| usual(100.0)) },
        Scenario { burst: (5.0, true), ..healthy("retries, 5 in a row", 5.0, |_, _| usual(100.0)) },
        healthy("traffic and errors rise and fall", 5.0, |at, _| diurnal(at)),
        healthy("share grows 1, 5, 25, 50 %", 5.0, |at, _| growing(at)),
        healthy("errors of 0.01 %", 5.0, |_, _| rare(1e-4)),
        healthy("errors of 0.001 %", 5.0, |_, _| rare(1e-5)),
        healthy("no errors at all", 10.0, |_, _| rare(0.0)),
        fault(
            "errors x2",
            1.0,
            |_, arm| worse(arm, 2.0),
            vec![(What::ProbabilityAtLeast, 0.9), (What::MedianAtMost, 17_000.0)],
        ),
        fault("errors x4", 1.0, |_, arm| worse(arm, 4.0), median(2_700.0)),
        fault("errors x10", 0.2, |_, arm| worse(arm, 10.0), median(480.0)),
        fault("15 % errors", 0.2, |_, arm| worse(arm, 150.0), median(14.0)),
        later(fault("errors x4 after an hour", 1.0, |_, arm| worse(arm, 4.0), Vec::new())),
        later(fault("errors x10 after an hour", 1.0, |_, arm| worse(arm, 10.0), within(160.0))),
        later(fault("15 % errors after an hour", 0.2, |_, arm| worse(arm, 150.0), within(6.0))),
        law(normal, healthy("latency healthy", 10.0, |_, _| usual(100.0))),
        law(heavy, healthy("latency healthy, heavy tail", 10.0, |_, _| usual(100.0))),
        // The limit of the median is 1.2, so the standard stage may take this back.
        law(
            normal,
            fault("latency x1.2, tolerated at p95", 10.0, |_, arm| slower(arm, 1.2), rarely()),
        ),
        law(heavy, fault("latency x1.2, heavy tail", 10.0, |_, arm| slower(arm, 1.2), rarely())),
        law(normal, healthy("shared slowdown x3", 10.0, |at, _| incident(at, 1.0, 3.0))),
        law(normal, healthy("latency rises and falls", 10.0, |at, _| diurnal(at))),
        law(normal, fault("latency x1.5", 0.4, |_, arm| slower(arm, 1.5), median(400.0))),
        law(
            heavy,
            fault("latency x1.5, heavy tail", 0.4, |_, arm| slower(arm, 1.5), median(700.0)),
        ),
        law(normal, fault("latency x2", 0.2, |_, arm| slower(arm, 2.0), median(45.0))),
        law(heavy, fault("latency x2, heavy tail", 0.2, |_, arm| slower(arm, 2.0), median(80.0))),
    ]
}
