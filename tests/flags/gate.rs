//! A flag before a router: rollouts, blue-green, kill, promotion.

use std::sync::Arc;
use std::time::Duration;

use pilotage::alert::alerter::StderrAlerter;
use pilotage::control::Pilot;
use pilotage::control::blue_green::BlueGreen;
use pilotage::control::flag_gate::FlagGate;
use pilotage::model;
use pilotage::rollout::plan::Plan;
use pilotage::route::switch::TrafficSwitch;
use pilotage::serve::request::Request;
use pilotage::serve::router::Router;
use pilotage::share::TrafficShare;
use pilotage::strategy::flag::{Context, FlagSet, FlagSpec, Value};

fn flags() -> FlagSet {
    let spec = FlagSpec::choosing(
        "model",
        ("v1", Value::Text("v1".into())),
        [("v2", Value::Text("v2".into()), 1)],
    )
    .allow("tester")
    .deny("court")
    .enable_segment("premium");
    FlagSet::builder().segment("premium").flag(spec).build().unwrap()
}

type Served = Box<dyn Fn(&str) -> Result<&'static str, String> + Send + Sync>;

fn boxed(name: &'static str) -> Served {
    Box::new(move |_: &str| Ok(name))
}

macro_rules! ask {
    ($router:expr, $gate:expr, $subject:expr) => {{
        let subject: &str = $subject;
        let request = $gate.admit(Request::of(subject), &Context::of(subject));
        $router.predict_sync(&request, "").unwrap().output
    }};
}

#[test]
fn lists_are_obeyed_while_a_rollout_moves_the_share() {
    let router = Router::builder("r").stable("v1", model::sync(boxed("v1"))).build().unwrap();
    let flags = flags();
    let gate = Arc::new(FlagGate::new(&router, flags.flag("model").unwrap(), "v2"));
    router.deploy("v2", model::sync(boxed("v2"))).unwrap();

    assert_eq!(ask!(router, gate, "tester"), "v2");
    assert_eq!(ask!(router, gate, "somebody"), "v1");
    let order = router.split().shifted(TrafficShare::ALL);
    gate.shift(&order).unwrap();
    router.switch().shift(&order).unwrap();
    assert_eq!(flags.spec("model").unwrap().share, Some(TrafficShare::ALL));
    assert_eq!(ask!(router, gate, "somebody"), "v2");
    assert_eq!(ask!(router, gate, "court"), "v1");

    // Promotion: nobody is sent to the old model, allowed or denied, before and after the flag
    // follows.
    let order = router.split().promoted();
    router.switch().shift(&order).unwrap();
    for subject in ["tester", "somebody"] {
        assert_eq!(ask!(router, gate, subject), "v2", "between the two steps");
    }
    gate.shift(&order).unwrap();
    for subject in ["tester", "somebody", "court"] {
        assert_eq!(ask!(router, gate, subject), "v2");
    }
    assert!(gate.leftover().unwrap().to_string().contains("v1"));

    // The kill switch leads back to the old model while it is warm.
    flags.kill("model").unwrap();
    assert_eq!(ask!(router, gate, "somebody"), "v1");
}

#[test]
fn a_rollback_kills_the_flag_and_it_stays_killed_until_cleared_by_name() {
    let router = Router::builder("r").stable("v1", model::sync(boxed("v1"))).build().unwrap();
    let flags = flags();
    let gate = FlagGate::new(&router, flags.flag("model").unwrap(), "v2");
    router.deploy("v2", model::sync(boxed("v2"))).unwrap();
    // Nothing to take back yet: the flag is not killed by a plan that begins at nothing.
    gate.shift(&router.split()).unwrap();
    assert!(!flags.is_killed("model").unwrap());

    let order = router.split().shifted(TrafficShare::HALF);
    gate.shift(&order).unwrap();
    router.switch().shift(&order).unwrap();
    gate.shift(&router.split().rolled_back()).unwrap();
    assert!(flags.is_killed("model").unwrap());
    assert_eq!(ask!(router, gate, "tester"), "v1");
    assert_eq!(gate.in_force().unwrap().candidate, TrafficShare::NONE);
    let again = gate.shift(&order).unwrap_err().to_string();
    assert!(again.contains("clear it by name"), "{again}");
    assert!(gate.shift(&order.promoted()).is_err(), "a killed flag is not promoted");
    flags.clear_kill("model", TrafficShare::ALL).unwrap();
    gate.shift(&order).unwrap();
}

#[test]
fn a_pilot_drives_the_flag() {
    let router = Router::builder("r").stable("v1", model::sync(boxed("v1"))).build().unwrap();
    let flags = flags();
    let gate = Arc::new(FlagGate::new(&router, flags.flag("model").unwrap(), "v2"));
    let plan = Plan::builder()
        .canary(TrafficShare::HALF, Duration::from_secs(3600), 1_000_000)
        .full(Duration::from_secs(3600), 1_000_000)
        .build()
        .unwrap();
    let pilot = Pilot::builder()
        .switch(Arc::clone(&gate))
        .start(&router, "v2", Arc::new(model::sync(boxed("v2"))), plan)
        .unwrap();
    pilot.tick();
    assert_eq!(flags.spec("model").unwrap().share, Some(TrafficShare::HALF));
    pilot.kill("me", "a test").unwrap();
    pilot.tick();
    assert!(flags.is_killed("model").unwrap());
    for id in 0..100 {
        assert_eq!(ask!(router, gate, &format!("user-{id}")), "v1");
    }
}

#[test]
fn beside_blue_green_nobody_meets_the_wrong_model() {
    let router = Router::builder("r").stable("v1", model::sync(boxed("v1"))).build().unwrap();
    let slots = BlueGreen::new(&router, Arc::new(StderrAlerter)).unwrap();
    let flags = flags();
    let gate = FlagGate::new(&router, flags.flag("model").unwrap(), "v2");
    slots.deploy("v2", model::sync(boxed("v2")), |_| Ok(())).unwrap();
    assert_eq!(ask!(router, gate, "tester"), "v2");
    assert_eq!(ask!(router, gate, "somebody"), "v1");
    slots.switch().unwrap();
    assert_eq!(ask!(router, gate, "court"), "v1");
    slots.promote().unwrap();
    assert_eq!(ask!(router, gate, "tester"), "v2");
    let leftover = gate.promote().unwrap();
    assert_eq!((leftover.denied, leftover.allowed), (1, 1));
    for subject in ["tester", "somebody", "court"] {
        assert_eq!(ask!(router, gate, subject), "v2");
    }
}
