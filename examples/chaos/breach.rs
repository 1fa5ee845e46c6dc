//! How long a broken guardrail takes to become a rollback while dependencies hang: from the first
//! failure of the candidate to the last request that meets it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use pilotage::alert::Alert;
use pilotage::control::Pilot;
use pilotage::model::{self, FnModel};
use pilotage::observe::sink::{MetricsSink, SinkError};
use pilotage::observe::window::Window;
use pilotage::rollout::pipeline::End;
use pilotage::rollout::plan::Plan;
use pilotage::route::switch::{Split, SwitchError, TrafficSwitch};
use pilotage::serve::request::Request;
use pilotage::serve::router::Router;
use pilotage::share::TrafficShare;
use pilotage::sim::inject::{Fault, Injector};

use crate::storm::Faults;

/// How often the driver looks.
pub const LOOK: Duration = Duration::from_millis(20);

#[derive(Debug, Default)]
pub struct Breaches {
    pub count: u64,
    /// Rollouts that were not rolled back within ten seconds.
    pub missed: u64,
    /// Seconds.
    pub p50: f64,
    pub p99: f64,
    pub worst: f64,
}

pub struct Proxy;

impl TrafficSwitch for Proxy {
    fn shift(&self, _: &Split) -> Result<(), SwitchError> {
        Ok(())
    }

    fn in_force(&self) -> Option<Split> {
        Some(Split::default())
    }
}

pub struct Sink;

impl MetricsSink for Sink {
    fn name(&self) -> &str {
        "breach"
    }

    fn window(&self, _: &Window) -> Result<(), SinkError> {
        Ok(())
    }
}

pub fn measure(count: u64, faults: Faults) -> Breaches {
    let mut times: Vec<f64> = Vec::new();
    let mut missed = 0;
    for number in 0..count {
        match one(number, faults) {
            Some(time) => times.push(time),
            None => missed += 1,
        }
    }
    times.sort_by(f64::total_cmp);
    let at = |q: f64| {
        let place = ((times.len() as f64 * q).ceil() as usize).clamp(1, times.len().max(1)) - 1;
        times.get(place).copied().unwrap_or(0.0)
    };
    Breaches { count, missed, p50: at(0.5), p99: at(0.99), worst: at(1.0) }
}

fn one(number: u64, faults: Faults) -> Option<f64> {
    let fails = Arc::new(AtomicBool::new(false));
    let [journal, switch, sink, alerter] = [(); 4].map(|()| Injector::default());
    let router = Router::builder("breach")
        .stable("v1", stub("v1", &Arc::default()))
        .sink(sink.wrap(Sink))
        .build()
        .ok()?;
    let folder = std::env::temp_dir().join(format!("chaos-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&folder).ok()?;
    let file = pilotage::control::journal_file::JournalFile::new(folder.join("rollout.journal"));
    let pilot = Pilot::builder()
        .alerter(alerter.wrap(|_: &Alert| ()))
        .journal(journal.wrap(file))
        .switch(switch.wrap(Proxy))
        .start(&router, "v2", Arc::new(stub("v2", &fails)), half_plan())
        .ok()?;
    let driver = pilot.spawn(LOOK).ok()?;
    journal.set(faults.journal);
    switch.set(faults.switch);
    sink.set(faults.sink);
    alerter.set(faults.alerter);
    let (begun, over) = (Instant::now(), AtomicBool::new(false));
    let [failed, last] = [AtomicU64::new(0), AtomicU64::new(0)];
    thread::scope(|scope| {
        scope.spawn(|| requests_until(&over, &router, begun, &last));
        thread::park_timeout(Duration::from_millis(120));
        failed.store(begun.elapsed().as_nanos() as u64, SeqCst);
        fails.store(true, SeqCst);
        while pilot.end().is_none() && begun.elapsed() < Duration::from_secs(10) {
            thread::park_timeout(Duration::from_millis(1));
        }
        thread::park_timeout(Duration::from_millis(5));
        over.store(true, SeqCst);
    });
    let back = pilot.end() == Some(End::RolledBack);
    for injector in [&journal, &switch, &sink, &alerter] {
        injector.set(Fault::None);
    }
    driver.stop();
    drop(pilot);
    let _ = std::fs::remove_dir_all(folder);
    let (failed, last) = (failed.into_inner(), last.into_inner());
    back.then(|| last.saturating_sub(failed) as f64 / 1e9)
}

pub type Answer = Box<dyn Fn(&u64) -> Result<&'static str, String> + Send + Sync>;
pub type Stub = FnModel<u64, &'static str, String, Answer>;

pub fn stub(name: &'static str, fails: &Arc<AtomicBool>) -> Stub {
    let fails = Arc::clone(fails);
    model::sync(Box::new(
        move |_: &u64| {
            if fails.load(SeqCst) { Err(name.to_owned()) } else { Ok(name) }
        },
    ))
}

/// Half of everybody, for an hour.
pub fn half_plan() -> Plan {
    let hour = Duration::from_secs(3600);
    let plan =
        Plan::builder().canary(TrafficShare::HALF, hour, 1_000_000).full(hour, 1_000_000).build();
    plan.expect("the plan is sound")
}

/// Makes requests, and notes when the last one began that met the candidate.
pub fn requests_until(over: &AtomicBool, router: &Router<Stub>, begun: Instant, last: &AtomicU64) {
    let mut user = 0_u64;
    while !over.load(SeqCst) {
        user += 1;
        let at = begun.elapsed().as_nanos() as u64;
        let by_candidate = match router.predict_sync(&Request::of(user), &0) {
            Ok(answer) => answer.output == "v2",
            Err(error) => error == "v2",
        };
        if by_candidate {
            last.fetch_max(at, SeqCst);
        }
        thread::park_timeout(Duration::from_micros(100));
    }
}
