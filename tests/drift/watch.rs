//! The watch: from a router's tickets to a call for retraining, and back into a plan.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pilotage::alert::alerter::FnAlerter;
use pilotage::clock::{Clock, ManualClock, Moment};
use pilotage::control::Pilot;
use pilotage::control::drift_watch::{DriftWatch, RetrainError, RetrainingPipeline};
use pilotage::control::pool::WorkerPool;
use pilotage::drift::accuracy::Accuracy;
use pilotage::drift::labels::{LabelLedger, LabelPlace};
use pilotage::drift::monitor::{DriftMonitor, RetrainRequest};
use pilotage::drift::report::Recommendation;
use pilotage::drift::settings::{Deployment, MonitorSettings};
use pilotage::drift::stream::{Recorder, Sampling};
use pilotage::drift::value::Value;
use pilotage::model;
use pilotage::serve::request::Request;
use pilotage::serve::router::Router;
use pilotage::serve::shadow_lane::{LaneOptions, ShadowLane};
use pilotage::share::TrafficShare;
use pilotage::sim::rng::Rng;

use crate::bad_input::{letter, name, reference};

#[derive(Default)]
struct Trainer(Mutex<Vec<RetrainRequest>>, AtomicUsize);

impl RetrainingPipeline for Trainer {
    fn retrain(&self, request: &RetrainRequest) -> Result<(), RetrainError> {
        self.0.lock().unwrap().push(request.clone());
        match self.1.fetch_add(1, Ordering::Relaxed) {
            1 => Err(RetrainError::new("the cluster is full")),
            2 => panic!("the trainer fell over"),
            _ => Ok(()),
        }
    }
}

type Answer = fn(&u64) -> Result<u64, std::io::Error>;

#[test]
fn a_model_that_decays_calls_for_another_which_enters_the_plan_at_its_beginning() {
    let clock = ManualClock::new();
    let half: Answer = |x| Ok(x % 2);
    let answer = || model::sync(half).shadowable();
    let router =
        Router::builder("parity").stable("v1", answer()).clock(clock.clone()).build().unwrap();
    let recorder = Recorder::new(reference(3_000, Rng::normal, letter), Sampling::ALL);
    let settings = MonitorSettings {
        window: Duration::from_secs(86_400),
        retrain_cooldown: Duration::ZERO,
        ..MonitorSettings::default()
    };
    let deployment = Deployment::new(name("v1")).accuracy(Accuracy::new(4_500, 500));
    let monitor =
        DriftMonitor::new(settings, recorder.reference().clone(), deployment, clock.now()).unwrap();
    let hour = Duration::from_secs(3_600);
    let ledger = LabelLedger::new(hour, hour).unwrap();
    let (trainer, told) = (Arc::new(Trainer::default()), Arc::new(Mutex::new(Vec::new())));
    let hears = Arc::clone(&told);
    let alerter = Arc::new(FnAlerter(move |alert: &pilotage::alert::Alert| {
        hears.lock().unwrap().push(alert.key.clone());
    }));
    let pipeline = Arc::clone(&trainer);
    let watch =
        DriftWatch::new(name("parity"), recorder, monitor, ledger, alerter, pipeline).unwrap();

    let mut rng = Rng::new(4);
    let mut first = None;
    for day in 0..3 {
        let mut tickets = Vec::new();
        for at in 0..600_u64 {
            let user = format!("user {at}");
            let answer = router.predict_sync(&Request::of(&user), &at).unwrap();
            let k = letter(&mut rng);
            let row = [Value::Number(rng.normal() + 1.5), Value::Category(&k)];
            watch.recorder().row(&row).unwrap();
            watch.served(answer.ticket.arm(), answer.ticket.epoch(), clock.now(), 1);
            tickets.push(answer.ticket);
        }
        clock.advance(hour / 2);
        for (at, ticket) in tickets.iter().enumerate() {
            let place = watch.labelled(*ticket, clock.now(), at % 4 != 0);
            assert_eq!(place, LabelPlace::Waiting, "day {day}");
        }
        first = first.or_else(|| tickets.first().copied());
        clock.advance(Duration::from_secs(86_400) - hour / 2);
        let report = watch.tick(clock.now()).expect("a day is over");
        assert_eq!(report.recommendation, Recommendation::Retrain, "{report}");
    }
    // A label of the first day, now: to its stage, and no comparison is taken back.
    let late = watch.labelled(first.unwrap(), clock.now(), true);
    assert_eq!(late, LabelPlace::Late);
    let asked = trainer.0.lock().unwrap().clone();
    assert_eq!(asked.len(), 3);
    assert_eq!(asked[0].moved[0].as_str(), "x");
    assert_eq!(watch.refused(), 2, "one refused, one panicked");

    // The new model is a candidate like every other: the first stage, and no traffic.
    let next = Arc::new(answer());
    let same = |old: &u64, new: &u64| f64::from(u8::from(old == new));
    let pool = WorkerPool::new("shadow", 1, 16).unwrap();
    let lane = ShadowLane::new(Arc::clone(&next), pool, same, LaneOptions::default()).unwrap();
    let pilot = DriftWatch::enter(Pilot::builder().shadow(lane), &router, "v2", next).unwrap();
    pilot.tick();
    assert_eq!(router.split().candidate, TrafficShare::NONE);
    assert!(!pilot.is_over());
    assert_eq!(watch.tick(clock.now()), None);
    assert_eq!(router.split().candidate, TrafficShare::NONE);
}

#[test]
fn a_recorder_of_another_reference_is_refused() {
    let recorder = Recorder::new(reference(3_000, Rng::normal, letter), Sampling::ALL);
    let other = reference(2_000, Rng::normal, letter);
    let deployment = Deployment::new(name("v1"));
    let monitor =
        DriftMonitor::new(MonitorSettings::default(), other, deployment, Moment::ZERO).unwrap();
    let ledger = LabelLedger::new(Duration::ZERO, Duration::from_secs(1)).unwrap();
    let alerter = Arc::new(FnAlerter(|_: &pilotage::alert::Alert| {}));
    let pipeline = Arc::new(Trainer::default());
    let refused = DriftWatch::new(name("s"), recorder, monitor, ledger, alerter, pipeline);
    assert!(refused.unwrap_err().to_string().contains("these counts belong to reference"));
}
