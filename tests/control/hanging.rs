//! Dependencies that hang, threads that go away: real threads and a real clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use pilotage::alert::Alert;
use pilotage::alert::alerter::ChannelAlerter;
use pilotage::control::Pilot;
use pilotage::control::journal_file::JournalFile;
use pilotage::control::start::PilotBuilder;
use pilotage::judge::guardrail::Guardrail;
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

type Answer = Box<dyn Fn(&u64) -> Result<&'static str, String> + Send + Sync>;
type Stub = FnModel<u64, &'static str, String, Answer>;

fn stub(name: &'static str, fails: &Arc<AtomicBool>) -> Stub {
    let fails = Arc::clone(fails);
    model::sync(Box::new(move |_: &u64| {
        if fails.load(Ordering::SeqCst) { Err(format!("{name} fails")) } else { Ok(name) }
    }))
}

fn hour_plan() -> Plan {
    let hour = Duration::from_secs(3600);
    Plan::builder()
        .canary(TrafficShare::HALF, hour, 1_000_000)
        .full(hour, 1_000_000)
        // These stubs answer in less time than a clock can tell: their latencies are noise.
        .guardrails(&[Guardrail::error_rate()])
        .build()
        .unwrap()
}

#[expect(clippy::disallowed_methods, reason = "real threads take real time")]
fn now() -> Instant {
    Instant::now()
}

struct Setup {
    router: Router<Stub>,
    fails: Arc<AtomicBool>,
    alerts: Receiver<Alert>,
}

/// Whether all is in the journal: nothing failed, and nothing waits.
fn is_written(pilot: &Pilot) -> bool {
    let journal = pilot.status().journal.unwrap();
    journal.gap.is_none() && journal.waiting == 0
}

struct Obeys;

impl TrafficSwitch for Obeys {
    fn shift(&self, _: &Split) -> Result<(), SwitchError> {
        Ok(())
    }

    fn in_force(&self) -> Option<Split> {
        Some(Split::default())
    }
}

struct Quiet;

impl MetricsSink for Quiet {
    fn name(&self) -> &str {
        "quiet"
    }

    fn window(&self, _: &Window) -> Result<(), SinkError> {
        Ok(())
    }
}

fn setup(sink: &Injector) -> (Setup, PilotBuilder) {
    let fails = Arc::new(AtomicBool::new(false));
    let router = Router::builder("hanging")
        .stable("v1", stub("v1", &Arc::default()))
        .sink(sink.wrap(Quiet))
        .build()
        .unwrap();
    let (sender, alerts) = sync_channel(64);
    let builder = Pilot::builder().alerter(ChannelAlerter(sender));
    (Setup { router, fails, alerts }, builder)
}

impl Setup {
    fn start(&self, builder: PilotBuilder) -> Pilot {
        builder.start(&self.router, "v2", Arc::new(stub("v2", &self.fails)), hour_plan()).unwrap()
    }

    fn requests(&self, count: u64) -> u64 {
        static USER: AtomicU64 = AtomicU64::new(0);
        let user = || USER.fetch_add(1, Ordering::Relaxed);
        let by_v2 = |_: &u64| match self.router.predict_sync(&Request::of(user()), &0) {
            Ok(answer) => answer.output == "v2",
            Err(error) => error.starts_with("v2"),
        };
        (0..count).filter(by_v2).count() as u64
    }

    /// Until it is so, for half a minute at the most.
    fn until(&self, what: &str, so: impl Fn() -> bool) {
        let begun = now();
        while !so() {
            assert!(begun.elapsed() < Duration::from_secs(30), "{what} did not happen");
            self.requests(20);
            std::thread::park_timeout(Duration::from_millis(2));
        }
    }
}

#[test]
fn a_rollback_a_stop_and_a_status_wait_for_nothing_that_hangs() {
    let folder = std::env::temp_dir().join(format!("pilotage-hanging-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let [journal, switch, sink, alerter] = [(); 4].map(|()| Injector::default());
    let (setup, _) = setup(&sink);
    let builder = Pilot::builder()
        .alerter(alerter.wrap(|_: &Alert| ()))
        .journal(journal.wrap(JournalFile::new(folder.join("rollout.journal"))))
        .switch(switch.wrap(Obeys));
    let pilot = setup.start(builder);
    let driver = pilot.spawn(Duration::from_millis(20)).unwrap();
    assert!(setup.requests(500) > 100);
    // Longer than this test may take: whatever waits for one of them never ends.
    for injector in [&journal, &switch, &sink, &alerter] {
        injector.set(Fault::Blocked(Duration::from_secs(600)));
    }
    setup.until("a look while all of them hang", || pilot.status().journal.unwrap().waiting > 0);
    setup.fails.store(true, Ordering::SeqCst);
    setup.until("the rollback", || pilot.end() == Some(End::RolledBack));
    assert_eq!(setup.requests(500), 0);
    let stopped = pilot.kill("ops", "for good").unwrap();
    assert!(stopped.recorded != pilotage::control::orders::Recorded::Written);
    assert_eq!(pilot.end(), Some(End::Killed));
    assert!(pilot.status().switch.unwrap().owes_back, "what could not be told is shown");
    for injector in [&journal, &switch, &sink, &alerter] {
        injector.set(Fault::None);
    }
    setup.until("the record", || {
        pilot.tick();
        is_written(&pilot) && !pilot.status().switch.unwrap().owes_back
    });
    driver.stop();
    drop(pilot);
    let bytes = std::fs::read(folder.join("rollout.journal")).unwrap();
    let found = pilotage::rollout::pipeline::Rollout::resume(&bytes).unwrap();
    assert!(found.rollout.stage().is_none(), "and it is written down");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_raise_waits_for_a_journal_that_hangs_and_the_stage_is_judged_meanwhile() {
    let folder = std::env::temp_dir().join(format!("pilotage-waiting-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let journal = Injector::default();
    let (setup, builder) = setup(&Injector::default());
    let file = JournalFile::new(folder.join("rollout.journal"));
    let pilot = setup.start(builder.journal(journal.wrap(file)));
    let driver = pilot.spawn(Duration::from_millis(20)).unwrap();
    journal.set(Fault::Blocked(Duration::from_secs(600)));
    let order = pilotage::machine::Order::PromoteStage;
    let waits = pilot.order(order, "ann", "go").unwrap();
    assert_eq!(waits.did, pilotage::control::orders::Did::Pending { waits_for: "the journal" });
    assert_eq!(pilot.status().share, TrafficShare::HALF, "no more than is written");
    setup.fails.store(true, Ordering::SeqCst);
    setup.until("the rollback", || pilot.end() == Some(End::RolledBack));
    journal.set(Fault::None);
    setup.until("the record", || is_written(&pilot));
    assert_eq!(setup.router.split().candidate, TrafficShare::NONE);
    driver.stop();
    drop(pilot);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_driver_that_is_dropped_takes_everybody_back_and_people_are_told() {
    let (setup, builder) = setup(&Injector::default());
    let pilot = setup.start(builder);
    let _ = pilot.spawn(Duration::from_millis(20)).unwrap();
    assert_eq!(setup.requests(500), 0);
    let alert = setup.alerts.recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(alert.summary.contains("driver of v2 was dropped"), "{alert}");
    assert!(pilot.status().parked.unwrap().contains("driver was dropped"));
    pilot.tick();
    assert_eq!(pilot.end(), Some(End::RolledBack), "whoever looks next hears of it");
}

#[test]
fn a_driver_that_is_stopped_on_purpose_leaves_the_rollout_to_whoever_ticks_it() {
    let (setup, builder) = setup(&Injector::default());
    let pilot = setup.start(builder);
    pilot.spawn(Duration::from_millis(20)).unwrap().stop();
    assert!(setup.requests(500) > 100);
    pilot.tick();
    assert_eq!(pilot.end(), None);
}

#[test]
fn a_pilot_that_is_dropped_takes_everybody_back_and_people_are_told() {
    let (setup, builder) = setup(&Injector::default());
    let pilot = setup.start(builder);
    assert!(setup.requests(500) > 100);
    drop(pilot);
    assert_eq!(setup.requests(500), 0);
    let alert = setup.alerts.recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(alert.summary.contains("pilot of v2 was dropped"), "{alert}");
    assert!(setup.router.owner().is_none());
}

#[test]
fn a_rollout_that_nobody_ticks_goes_back_by_itself_and_people_are_told() {
    let (setup, builder) = setup(&Injector::default());
    let pilot = setup.start(builder.unattended_after(Duration::from_millis(100)));
    assert_eq!(pilot.status().unattended_after, Some(Duration::from_millis(100)));
    setup.until("the way back", || setup.router.split().candidate == TrafficShare::NONE);
    let alert = setup.alerts.recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(alert.summary.contains("nobody has looked after it"), "{alert}");
    assert_eq!(pilot.end(), Some(End::RolledBack));
    assert_eq!(setup.requests(500), 0);
}

#[test]
fn who_declines_it_keeps_the_share() {
    let (setup, builder) = setup(&Injector::default());
    let pilot = setup.start(builder.unattended_for_ever());
    let other = setup_of_a_rollout_that_goes_back();
    // Once another one of the same process has gone back, this one would have too.
    other();
    assert!(setup.requests(500) > 100);
    assert_eq!(pilot.end(), None);
}

fn setup_of_a_rollout_that_goes_back() -> impl FnOnce() {
    let (setup, builder) = setup(&Injector::default());
    let pilot = setup.start(builder.unattended_after(Duration::from_millis(50)));
    move || setup.until("the other one's way back", || pilot.end().is_some())
}

#[test]
fn a_process_that_leaves_on_purpose_alerts_nobody() {
    let (setup, builder) = setup(&Injector::default());
    let pilot = setup.start(builder);
    assert!(setup.requests(500) > 100);
    pilot.leave();
    assert_eq!(setup.requests(500), 0);
    drop(pilot);
    assert!(setup.alerts.recv_timeout(Duration::from_millis(200)).is_err());
}

#[test]
fn a_retry_is_ticked_by_the_driver_that_is_still_held() {
    let (setup, builder) = setup(&Injector::default());
    let pilot = setup.start(builder);
    let driver = pilot.spawn(Duration::from_millis(5)).unwrap();
    setup.fails.store(true, Ordering::SeqCst);
    setup.until("the rollback", || pilot.end() == Some(End::RolledBack));
    setup.until("the driver's end", || driver.is_finished());
    setup.fails.store(false, Ordering::SeqCst);
    pilot.order(pilotage::machine::Order::Retry, "ann", "fixed").unwrap();
    let ticks = pilot.status().ticks;
    setup.until("more ticks", || pilot.status().ticks > ticks + 3);
    assert_eq!(pilot.end(), None, "{}", pilot.status().reason);
}
