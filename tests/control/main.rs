//! A pilot, a real router and a clock that moves when told to.

mod between;
mod blue_green;
mod explorer;
mod gate;
mod hanging;
mod hangs;
mod owners;
mod promises;
mod storm;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use parking_lot::Mutex;
use pilotage::alert::Alert;
use pilotage::alert::alerter::ChannelAlerter;
use pilotage::clock::ManualClock;
use pilotage::control::Pilot;
use pilotage::control::orders::{Did, OrderError};
use pilotage::control::start::StartError;
use pilotage::ids::Arm;
use pilotage::machine::Order;
use pilotage::model::{self, FnModel};
use pilotage::rollout::pipeline::End;
use pilotage::rollout::plan::Plan;
use pilotage::route::switch::{Split, SwitchError, TrafficSwitch};
use pilotage::serve::request::Request;
use pilotage::serve::router::Router;
use pilotage::share::TrafficShare;

/// Answers with its name; takes time and fails as it is told.
#[derive(Default)]
struct Behaviour {
    micros: AtomicU64,
    error_every: AtomicU64,
    calls: AtomicU64,
}

type Answer = Box<dyn Fn(&u64) -> Result<&'static str, String> + Send + Sync>;
type Stub = FnModel<u64, &'static str, String, Answer>;

fn stub(name: &'static str, clock: &ManualClock, behaviour: &Arc<Behaviour>) -> Stub {
    let (clock, behaviour) = (clock.clone(), Arc::clone(behaviour));
    let answer: Answer = Box::new(move |_| {
        let call = behaviour.calls.fetch_add(1, Ordering::Relaxed);
        clock.advance(Duration::from_micros(behaviour.micros.load(Ordering::Relaxed) + call % 20));
        match behaviour.error_every.load(Ordering::Relaxed) {
            0 => Ok(name),
            every if call % every == 0 => Err(format!("{name} fails")),
            _ => Ok(name),
        }
    });
    model::sync(answer)
}

struct World {
    clock: ManualClock,
    router: Router<Stub, ManualClock>,
    new: Arc<Behaviour>,
    next: u64,
}

fn canary_plan() -> Plan {
    let minute = Duration::from_secs(60);
    let guardrails: Vec<_> = pilotage::judge::guardrail::Guardrail::standard()
        .into_iter()
        .map(
            |guardrail| if guardrail.measure.is_rate() { guardrail.floor(0.02) } else { guardrail },
        )
        .collect();
    Plan::builder()
        .canary(TrafficShare::percent(5.0).unwrap(), minute, 50)
        .canary(TrafficShare::HALF, minute, 50)
        .full(minute, 50)
        .guardrails(&guardrails)
        .build()
        .unwrap()
}

impl World {
    fn new() -> Self {
        let clock = ManualClock::new();
        let behaviour =
            || Arc::new(Behaviour { micros: AtomicU64::new(100), ..Behaviour::default() });
        let (old, new) = (behaviour(), behaviour());
        let router = Router::builder("control-test")
            .stable("v1", stub("v1", &clock, &old))
            .clock(clock.clone())
            .build()
            .unwrap();
        Self { clock, router, new, next: 0 }
    }

    fn candidate(&self) -> Arc<Stub> {
        Arc::new(stub("v2", &self.clock, &self.new))
    }

    fn start(&self) -> (Pilot, Receiver<Alert>) {
        let (sender, alerts) = sync_channel(64);
        let pilot = Pilot::builder()
            .alerter(ChannelAlerter(sender))
            .start(&self.router, "v2", self.candidate(), canary_plan())
            .unwrap();
        (pilot, alerts)
    }

    /// So many seconds of 100 requests each, with a tick after each second.
    fn run(&mut self, pilot: &Pilot, seconds: u64) {
        for _ in 0..seconds {
            self.requests(100);
            self.clock.advance(Duration::from_millis(990));
            pilot.tick();
        }
    }

    fn requests(&mut self, count: u64) {
        for _ in 0..count {
            self.next += 1;
            let _ = self.router.predict_sync(&Request::of(self.next), &0);
        }
    }

    fn served_by_candidate(&mut self, count: u64) -> u64 {
        let before = self.new.calls.load(Ordering::Relaxed);
        self.requests(count);
        self.new.calls.load(Ordering::Relaxed) - before
    }
}

#[test]
fn a_healthy_candidate_becomes_the_baseline() {
    let mut world = World::new();
    let (pilot, alerts) = world.start();
    world.run(&pilot, 600);
    let status = pilot.status();
    assert_eq!(pilot.end(), Some(End::Promoted), "{}", status.reason);
    assert_eq!(status.baseline.as_str(), "v2");
    assert_eq!(world.router.model_name(Arm::BASELINE).unwrap().as_str(), "v2");
    assert_eq!(world.router.model_name(Arm::CANDIDATE).unwrap().as_str(), "v1", "warm still");
    let steps: Vec<&str> = status.history.iter().map(|step| step.to.as_str()).collect();
    assert_eq!(steps, ["5 %", "50 %", "100 %", "promoted"]);
    assert_eq!(world.served_by_candidate(100), 100);
    let alert = alerts.recv_timeout(Duration::from_secs(5)).unwrap();
    assert!(alert.summary.contains("v2 was promoted"), "{alert}");
}

#[test]
fn a_failing_candidate_is_taken_back_and_people_are_told() {
    let mut world = World::new();
    let (pilot, alerts) = world.start();
    world.run(&pilot, 30);
    assert!(world.served_by_candidate(1_000) > 20);
    world.new.error_every.store(3, Ordering::Relaxed);
    world.run(&pilot, 30);
    let status = pilot.status();
    assert_eq!(pilot.end(), Some(End::RolledBack), "{}", status.reason);
    assert!(status.reason.contains("error rate"), "{}", status.reason);
    assert_eq!(world.served_by_candidate(1_000), 0);
    let alert = alerts.recv_timeout(Duration::from_secs(5)).unwrap();
    assert!(alert.to_string().contains("critical"), "{alert}");
    assert_eq!(status.arms.len(), 2);
    serde_json::to_string(&status).unwrap();
}

#[test]
fn an_abort_takes_effect_before_it_returns_and_without_a_tick() {
    let mut world = World::new();
    let (pilot, _alerts) = world.start();
    world.run(&pilot, 10);
    assert!(world.served_by_candidate(1_000) > 20);
    pilot.abort("ops", "customers complain").unwrap();
    assert_eq!(world.served_by_candidate(1_000), 0);
    pilot.tick();
    assert_eq!(pilot.end(), Some(End::Aborted));
    let again = pilot.abort("ops", "again").unwrap();
    assert_eq!(again.did, Did::AlreadyOver { end: End::Aborted }, "it may be repeated");
    world.run(&pilot, 300);
    assert_eq!(world.router.split().candidate, TrafficShare::NONE, "nothing brings it back");
}

#[test]
fn of_two_orders_the_one_that_stops_wins() {
    let mut world = World::new();
    let (pilot, _alerts) = world.start();
    world.run(&pilot, 5);
    pilot.order(Order::PromoteFully, "impatient", "it looks fine").unwrap();
    pilot.kill("ops", "it is not").unwrap();
    pilot.tick();
    assert_eq!(pilot.end(), Some(End::Killed));
    assert_eq!(world.router.model_name(Arm::BASELINE).unwrap().as_str(), "v1");
}

#[test]
fn a_stop_never_depends_on_its_label() {
    let mut world = World::new();
    let (pilot, _alerts) = world.start();
    world.run(&pilot, 5);
    let long = "x".repeat(500);
    for (who, kept) in
        [("", "nobody named"), ("a\nb\u{202e}", "a\\nb\\u{202e}"), (&long, &long[..128])]
    {
        let mut world = World::new();
        let (pilot, _alerts) = world.start();
        world.run(&pilot, 5);
        assert_eq!(pilot.abort(who, "stop").unwrap().did, Did::Stopped);
        assert_eq!(world.served_by_candidate(1_000), 0);
        assert_eq!(pilot.end(), Some(End::Aborted), "and the rollout is over, without a tick");
        assert_eq!(pilot.status().history.last().unwrap().who, kept);
        world.run(&pilot, 200);
        assert_eq!(world.served_by_candidate(1_000), 0, "a minute later as well");
    }
    assert!(matches!(pilot.order(Order::Resume, "", "no name"), Err(OrderError::Who(_))));
}

#[test]
fn a_second_rollout_waits_for_the_first() {
    let mut world = World::new();
    let (pilot, _alerts) = world.start();
    world.run(&pilot, 5);
    let again = Pilot::builder().start(&world.router, "v3", world.candidate(), canary_plan());
    assert!(matches!(again, Err(StartError::Owned(_))), "{again:?}");
    pilot.abort("ops", "make room").unwrap();
    pilot.tick();
    let again = Pilot::builder().start(&world.router, "v3", world.candidate(), canary_plan());
    assert!(again.is_ok(), "{again:?}");
    assert_eq!(world.router.model_name(Arm::CANDIDATE).unwrap().as_str(), "v3");
}

#[test]
fn a_shadow_stage_without_a_lane_is_refused_before_anything_changes() {
    let world = World::new();
    let refused = Pilot::builder().start(&world.router, "v2", world.candidate(), Plan::quick());
    assert!(matches!(refused, Err(StartError::NoShadowLane { .. })), "{refused:?}");
    assert_eq!(world.router.model_name(Arm::CANDIDATE), None);
}

/// A proxy that can be out of reach.
#[derive(Default)]
struct Proxy {
    down: AtomicBool,
    split: Mutex<Split>,
}

impl TrafficSwitch for Proxy {
    fn shift(&self, order: &Split) -> Result<(), SwitchError> {
        assert!(!self.down.load(Ordering::Relaxed), "connection refused");
        *self.split.lock() = *order;
        Ok(())
    }

    fn in_force(&self) -> Option<Split> {
        Some(*self.split.lock())
    }
}

#[test]
fn a_switch_that_fails_leaves_no_lie_and_is_asked_again() {
    let mut world = World::new();
    let proxy = Arc::new(Proxy::default());
    proxy.down.store(true, Ordering::Relaxed);
    let (sender, alerts) = sync_channel(64);
    let pilot = Pilot::builder()
        .alerter(ChannelAlerter(sender))
        .switch(Arc::clone(&proxy))
        .start(&world.router, "v2", world.candidate(), canary_plan())
        .unwrap();
    world.run(&pilot, 3);
    assert_eq!(pilot.status().share, TrafficShare::NONE, "what is in force, not what was asked");
    assert_eq!(world.served_by_candidate(1_000), 0);
    let alert = alerts.recv_timeout(Duration::from_secs(5)).unwrap();
    assert!(alert.summary.contains("traffic switch failed"), "{alert}");

    proxy.down.store(false, Ordering::Relaxed);
    world.run(&pilot, 2);
    assert_eq!(pilot.status().share, TrafficShare::percent(5.0).unwrap());
    assert_eq!(proxy.split.lock().candidate, TrafficShare::percent(5.0).unwrap());

    proxy.down.store(true, Ordering::Relaxed);
    pilot.abort("ops", "with the proxy down").unwrap();
    assert_eq!(world.served_by_candidate(1_000), 0, "back here at once");
    assert!(pilot.tick(), "over, but the proxy has yet to be told");
    proxy.down.store(false, Ordering::Relaxed);
    assert!(!pilot.tick());
    assert_eq!(proxy.split.lock().candidate, TrafficShare::NONE, "and there once it can be told");
}

#[test]
fn a_driver_ticks_by_itself_and_ends_with_the_rollout() {
    let clock = pilotage::clock::StdClock::new();
    let quick = |name: &'static str| model::sync(move |_: &u64| Ok::<_, String>(name));
    let router = Router::builder("driven").stable("v1", quick("v1")).clock(clock).build().unwrap();
    let (sender, _alerts) = sync_channel(64);
    let pilot = Pilot::builder()
        .alerter(ChannelAlerter(sender))
        .start(&router, "v2", Arc::new(quick("v2")), canary_plan())
        .unwrap();
    let driver = pilot.spawn(Duration::from_millis(1)).unwrap();
    (0..1_000_u64).for_each(|user| drop(router.predict_sync(&Request::of(user), &0)));
    pilot.abort("test", "over").unwrap();
    for _ in 0..5_000 {
        if driver.is_finished() {
            break;
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
    assert!(driver.is_finished());
    assert_eq!(pilot.end(), Some(End::Aborted));
    driver.stop();
}

#[test]
fn requests_never_meet_the_wrong_model_while_labels_are_swapped() {
    use pilotage::alert::alerter::FnAlerter;
    use pilotage::control::blue_green::BlueGreen;

    let named = |name: &'static str| model::sync(move |_: &u64| Ok::<_, String>(name));
    let router = Router::builder("swap").stable("v1", named("v1")).build().unwrap();
    let slots = BlueGreen::new(&router, Arc::new(FnAlerter(|_: &Alert| ()))).unwrap();
    slots.deploy("v2", named("v2"), |_| Ok(())).unwrap();
    slots.switch().unwrap();
    let stop = AtomicBool::new(false);
    let calls = [AtomicU64::new(0), AtomicU64::new(0)];
    std::thread::scope(|scope| {
        let (router, stop) = (&router, &stop);
        let readers = calls.each_ref().map(|calls| {
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let user = calls.load(Ordering::Relaxed);
                    let answer = router.predict_sync(&Request::of(user), &0).unwrap();
                    assert_eq!(answer.output, "v2");
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            })
        });
        // Until each of them has gone on for a while: they may be given their turns late.
        let let_them_run = || {
            let goals = calls.each_ref().map(|calls| calls.load(Ordering::Relaxed) + 1_000);
            let behind = || (0..2).any(|at| calls[at].load(Ordering::Relaxed) < goals[at]);
            while behind() && !readers.iter().any(|reader| reader.is_finished()) {
                std::thread::park_timeout(Duration::from_millis(1));
            }
        };
        let_them_run();
        let promoted = slots.promote();
        let_them_run();
        stop.store(true, Ordering::Relaxed);
        promoted.unwrap();
    });
    assert_eq!(slots.state().serving().as_str(), "v2");
    slots.roll_back("nothing to take back");
    assert_eq!(router.predict_sync(&Request::of("u"), &0).unwrap().output, "v2");
    slots.retire().unwrap();
    assert_eq!(router.model_name(Arm::CANDIDATE), None);
}

#[test]
fn a_drill_shows_that_the_way_back_is_open_and_moves_nobody() {
    let mut world = World::new();
    let (pilot, alerts) = world.start();
    world.run(&pilot, 5);
    let before = (world.router.split(), world.router.totals(), pilot.status().samples);
    let second = Duration::from_secs(1);
    let probe = |model: &Stub| {
        let call = model::Call::serving(Arm::BASELINE);
        let answer = model::SyncModel::predict_sync(model, &0, &call);
        if answer == Ok("v1") { Ok(()) } else { Err(format!("{answer:?}")) }
    };
    let drill = pilot.drill(&world.router, second, probe);
    assert!(drill.passed(), "{drill}");
    assert_eq!(drill.steps.len(), 6);
    assert!(drill.took() >= Duration::from_micros(300), "three calls took their time: {drill}");
    pilot.tick();
    assert_eq!((world.router.split(), world.router.totals(), pilot.status().samples), before);
    let status = pilot.status();
    assert!(status.drill.unwrap().report.contains("stable answers warm"));

    world.clock.advance(Duration::from_secs(7 * 86_400 - 60));
    pilot.tick();
    assert!(!pilot.status().drill_overdue);
    world.clock.advance(Duration::from_secs(120));
    pilot.tick();
    pilot.tick();
    assert!(pilot.status().drill_overdue);
    let alert = alerts.recv_timeout(Duration::from_secs(5)).unwrap();
    assert!(alert.summary.contains("overdue"), "{alert}");
    assert!(alerts.recv_timeout(Duration::from_millis(100)).is_err(), "once");

    let failed = pilot.drill(&world.router, second, |_| panic!("as the test wants it"));
    assert!(!failed.passed() && failed.to_string().contains("it panicked"), "{failed}");
    let slow = pilot.drill(&world.router, Duration::from_micros(1), probe);
    assert!(slow.to_string().contains("more than"), "{slow}");
    pilot.drill(&world.router, second, probe);
    pilot.tick();
    assert!(!pilot.status().drill_overdue);
    let alert = alerts.recv_timeout(Duration::from_secs(5)).unwrap();
    assert!(alert.resolved, "{alert}");
}

#[test]
fn an_alerter_that_never_returns_delays_no_abort() {
    use pilotage::alert::alerter::FnAlerter;
    let mut world = World::new();
    let (hold, held) = sync_channel::<()>(0);
    let held = Mutex::new(held);
    let pilot = Pilot::builder()
        .alerter(FnAlerter(move |_: &Alert| {
            let _ = held.lock().recv();
        }))
        .start(&world.router, "v2", world.candidate(), canary_plan())
        .unwrap();
    world.run(&pilot, 3);
    pilot.order(Order::Pause, "ops", "so that there is an alert").unwrap();
    pilot.tick();
    pilot.abort("ops", "while the alerter hangs").unwrap();
    assert_eq!(world.served_by_candidate(500), 0);
    pilot.tick();
    assert_eq!(pilot.end(), Some(End::Aborted));
    drop(hold);
}
