//! Two slots: what gets traffic is ready, what is retired is idle, and the way back is kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use pilotage::alert::Alert;
use pilotage::alert::alerter::FnAlerter;
use pilotage::clock::{Clock, ManualClock};
use pilotage::control::blue_green::{BlueGreen, StepError};
use pilotage::ids::Arm;
use pilotage::model::{self, FnModel};
use pilotage::serve::request::Request;
use pilotage::serve::router::Router;

type Boxed = Box<dyn Fn(&u64) -> Result<&'static str, String> + Send + Sync>;
type Named = FnModel<u64, &'static str, String, Boxed>;

fn named(name: &'static str) -> Named {
    model::sync(Box::new(move |_: &u64| Ok(name)))
}

fn slots(clock: &ManualClock) -> BlueGreen<Named, ManualClock> {
    let router =
        Router::builder("slots").stable("v1", named("v1")).clock(clock.clone()).build().unwrap();
    BlueGreen::new(&router, Arc::new(FnAlerter(|_: &Alert| ()))).unwrap()
}

fn answer<C: Clock>(slots: &BlueGreen<Named, C>) -> &'static str {
    slots.router().predict_sync(&Request::of("user"), &0).unwrap().output
}

#[test]
fn a_model_that_does_not_load_warm_or_get_ready_is_never_in_a_slot() {
    let slots = slots(&ManualClock::new());
    let ok = |_: &Named| Ok(());
    let no = |_: &Named| Err("not yet".to_owned());
    let error = slots.deploy_when_ready("v2", || Err("no file".to_owned()), ok, ok).unwrap_err();
    assert!(matches!(&error, StepError::WarmUp { reason, .. } if reason == "no file"), "{error}");
    let error = slots.deploy_when_ready("v2", || Ok(named("v2")), no, ok).unwrap_err();
    assert!(matches!(error, StepError::WarmUp { .. }), "{error}");
    let error = slots.deploy_when_ready("v2", || Ok(named("v2")), ok, no).unwrap_err();
    assert!(matches!(error, StepError::NotReady { .. }), "{error}");
    let bomb = |_: &Named| -> Result<(), String> { panic!("as the test wants it") };
    let error = slots.deploy_when_ready("v2", || Ok(named("v2")), bomb, ok).unwrap_err();
    assert!(error.to_string().contains("panicked"), "{error}");
    assert_eq!(slots.router().model_name(Arm::CANDIDATE), None);
    assert!(slots.switch().is_err(), "and the slot is as it was: empty");
    slots.deploy_when_ready("v2", || Ok(named("v2")), ok, ok).unwrap();
    slots.switch().unwrap();
    assert_eq!(answer(&slots), "v2");
}

#[test]
fn the_old_model_goes_after_its_warm_time_and_its_last_call() {
    let clock = ManualClock::new();
    let slots = slots(&clock).keeping_warm(Duration::from_secs(3600));
    let old_call = slots.router().begin(&Request::of("slow"));
    slots.deploy("v2", named("v2"), |_| Ok(())).unwrap();
    slots.switch().unwrap();
    slots.promote().unwrap();
    clock.advance(Duration::from_secs(3599));
    assert!(
        matches!(slots.retire(), Err(StepError::StaysWarm { left, .. }) if left == Duration::from_secs(1))
    );
    let busy = slots.deploy("v3", named("v3"), |_| Ok(()));
    assert!(matches!(busy, Err(StepError::StaysWarm { .. })), "nothing takes its place either");
    clock.advance(Duration::from_secs(1));
    assert!(matches!(slots.retire(), Err(StepError::Draining { calls: 1 })));
    drop(old_call);
    slots.retire().unwrap();
    assert_eq!(slots.router().model_name(Arm::CANDIDATE), None);
}

#[test]
fn one_of_the_last_models_can_be_brought_back() {
    let slots = slots(&ManualClock::new()).rollback_window(2);
    for name in ["v2", "v3", "v4", "v5"] {
        slots.deploy(name, named(name), |_| Ok(())).unwrap();
        slots.switch().unwrap();
        slots.promote().unwrap();
    }
    let loaded: Vec<String> = slots.still_loaded().iter().map(ToString::to_string).collect();
    assert_eq!(loaded, ["v2", "v3"], "the last two beside the two slots");
    assert!(matches!(slots.bring_back("v1"), Err(StepError::NotLoaded { .. })));
    slots.bring_back("v3").unwrap();
    slots.switch().unwrap();
    assert_eq!(answer(&slots), "v3");
    slots.roll_back("only a visit");
    assert_eq!(answer(&slots), "v5");
}

/// Knows whether it was dropped or is not ready when it is called.
struct Watch {
    ready: AtomicBool,
    gone: AtomicBool,
    wrong: Arc<AtomicU64>,
}

#[test]
fn under_load_no_call_meets_a_model_that_is_not_ready_or_dropped() {
    struct Owner(Arc<Watch>);
    impl Drop for Owner {
        fn drop(&mut self) {
            self.0.gone.store(true, Ordering::SeqCst);
        }
    }
    let wrong = Arc::new(AtomicU64::new(0));
    let make = |ready: bool| {
        let watch = Arc::new(Watch {
            ready: AtomicBool::new(ready),
            gone: AtomicBool::new(false),
            wrong: Arc::clone(&wrong),
        });
        let owner = Owner(Arc::clone(&watch));
        let call: Boxed = Box::new(move |_| {
            let Owner(watch) = &owner;
            if !watch.ready.load(Ordering::SeqCst) || watch.gone.load(Ordering::SeqCst) {
                watch.wrong.fetch_add(1, Ordering::SeqCst);
            }
            Ok("answer")
        });
        (model::sync(call), watch)
    };
    let router = Router::builder("load").stable("m0", make(true).0).build().unwrap();
    let slots = BlueGreen::new(&router, Arc::new(FnAlerter(|_: &Alert| ()))).unwrap();
    let stop = AtomicBool::new(false);
    let calls = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let user = calls.fetch_add(1, Ordering::Relaxed);
                    let answer = router.predict_sync(&Request::of(user), &0);
                    assert!(answer.is_ok());
                }
            });
        }
        let mut rounds = 0;
        while rounds < 100 || calls.load(Ordering::Relaxed) < 2_000 {
            let (model, watch) = make(false);
            let name = format!("m{rounds}");
            let deployed = slots.deploy_when_ready(
                &name,
                || Ok(model),
                |_| Ok(()),
                |_| {
                    watch.ready.store(true, Ordering::SeqCst);
                    Ok(())
                },
            );
            if deployed.is_err() {
                continue; // the old model has calls still
            }
            slots.switch().unwrap();
            if rounds % 3 == 0 {
                slots.roll_back("now and then");
            } else {
                slots.promote().unwrap();
            }
            rounds += 1;
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(wrong.load(Ordering::SeqCst), 0);
    assert!(calls.load(Ordering::Relaxed) > 100);
}
