//! A flag before a router: rollouts, blue-green, kill, promotion.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use pilotage::alert::alerter::StderrAlerter;
use pilotage::control::Pilot;
use pilotage::control::blue_green::BlueGreen;
use pilotage::control::flag_gate::{FlagGate, GateError};
use pilotage::model;
use pilotage::rollout::plan::Plan;
use pilotage::route::switch::TrafficSwitch;
use pilotage::serve::request::Request;
use pilotage::serve::router::Router;
use pilotage::share::TrafficShare;
use pilotage::strategy::flag::{
    Attribute, Condition, Context, FlagSet, FlagSpec, Reason, Rule, Serve, Test, Value,
};

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

    // Promotion by the router alone: nobody is sent to the old model from then on, not even who is
    // still on the flag's deny list, or was let in before.
    let context = Context::of("court");
    let early = gate.admit(Request::of("court"), &context);
    let order = router.split().promoted();
    assert!(matches!(gate.promote(), Err(GateError::NotPromoted { .. })));
    router.switch().shift(&order).unwrap();
    assert_eq!(router.predict_sync(&early, "").unwrap().output, "v2", "let in before");
    assert_eq!(flags.spec("model").unwrap().deny.len(), 1);
    for subject in ["tester", "somebody", "court"] {
        assert_eq!(ask!(router, gate, subject), "v2", "before the flag followed");
    }
    gate.shift(&order).unwrap();
    for subject in ["tester", "somebody", "court"] {
        assert_eq!(ask!(router, gate, subject), "v2");
    }
    assert_eq!(flags.spec("model").unwrap().deny.len(), 0);
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
fn a_rollout_that_ends_before_it_gave_traffic_takes_the_testers_back_too() {
    let router = Router::builder("r").stable("v1", model::sync(boxed("v1"))).build().unwrap();
    let flags = flags();
    let gate = Arc::new(FlagGate::new(&router, flags.flag("model").unwrap(), "v2"));
    let hour = Duration::from_secs(3600);
    let plan = Plan::builder().baseline(hour, 1_000_000).canary(TrafficShare::HALF, hour, 10);
    let plan = plan.full(hour, 10).build().unwrap();
    let pilot = Pilot::builder()
        .switch(Arc::clone(&gate))
        .start(&router, "v2", Arc::new(model::sync(boxed("v2"))), plan)
        .unwrap();
    pilot.tick();
    assert!(!flags.is_killed("model").unwrap());
    assert_eq!(ask!(router, gate, "tester"), "v2");
    pilot.abort("me", "it answers in verse").unwrap();
    pilot.tick();
    assert!(flags.is_killed("model").unwrap());
    assert_eq!(ask!(router, gate, "tester"), "v1");
}

#[test]
fn a_limit_or_a_rule_is_a_persons_will_and_a_share_is_not() {
    let router = Router::builder("r").stable("v1", model::sync(boxed("v1"))).build().unwrap();
    router.deploy("v2", model::sync(boxed("v2"))).unwrap();
    router.switch().shift(&router.split().shifted(TrafficShare::ALL)).unwrap();
    let young = Condition::new("age", Test::Below(18.0));
    let rule = Rule::new(Serve::Share(TrafficShare::NONE), [young]);
    let v = |name: &'static str| (name, Value::Text(name.into()));
    let spec = FlagSpec::choosing("model", v("v1"), [("v2", Value::Text("v2".into()), 1)])
        .share(TrafficShare::HALF)
        .rule(rule);
    let flags = FlagSet::builder().flag(spec).build().unwrap();
    let gate = FlagGate::new(&router, flags.flag("model").unwrap(), "v2");
    let served = |age: i64, subject: &str| {
        let attributes = [("age", Attribute::Int(age))];
        let context = Context::of(subject).attributes(&attributes);
        let request = gate.admit(Request::of(subject), &context);
        router.predict_sync(&request, "").unwrap().output
    };
    for id in 0..100 {
        let subject = format!("user-{id}");
        assert_eq!(served(30, &subject), "v2", "the router's share holds");
        assert_eq!(served(12, &subject), "v1", "the rule's own share holds");
    }
    let young = [("age", Attribute::Int(12))];
    let answer = flags.evaluate("model", &Context::of("x").attributes(&young)).unwrap();
    assert_eq!(answer.reason(), Reason::RuleShare);
    drop(answer);

    // An order moves the share and leaves a person's limit alone.
    flags.update("model", |spec| spec.limit = TrafficShare::NONE).unwrap();
    let order = router.split().shifted(TrafficShare::HALF);
    gate.shift(&order).unwrap();
    router.switch().shift(&order).unwrap();
    for id in 0..100 {
        assert_eq!(served(30, &format!("user-{id}")), "v1");
    }
    assert_eq!(ask!(router, gate, ""), "v1", "nobody known is within no limit");
}

#[test]
fn beside_blue_green_nobody_meets_the_wrong_model() {
    let router = Router::builder("r").stable("v1", model::sync(boxed("v1"))).build().unwrap();
    let slots = BlueGreen::new(&router, Arc::new(StderrAlerter)).unwrap();
    let flags = flags();
    let gate = FlagGate::new(&router, flags.flag("model").unwrap(), "v2");
    slots.deploy("v2", model::sync(boxed("v2")), |_| Ok(())).unwrap();
    assert_eq!(ask!(router, gate, "tester"), "v1", "another moves the traffic");
    gate.bind(router.owner().unwrap().generation);
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

#[test]
fn blue_green_moves_its_flag() {
    let router = Router::builder("r").stable("v1", model::sync(boxed("v1"))).build().unwrap();
    let flags = flags();
    let gate = Arc::new(FlagGate::new(&router, flags.flag("model").unwrap(), "v2"));
    let slots = BlueGreen::new(&router, Arc::new(StderrAlerter)).unwrap();
    let slots = slots.with_switch(Arc::clone(&gate)).unwrap();
    slots.deploy("v2", model::sync(boxed("v2")), |_| Ok(())).unwrap();
    assert_eq!(ask!(router, gate, "tester"), "v2");

    // A rollback is the kill switch, before any traffic as well as after.
    slots.roll_back("a tester saw nonsense");
    assert_eq!(ask!(router, gate, "tester"), "v1");
    assert!(slots.switch().unwrap_err().to_string().contains("clear it by name"));
    flags.clear_kill("model", TrafficShare::ALL).unwrap();
    slots.switch().unwrap();
    assert_eq!(ask!(router, gate, "somebody"), "v2");
    slots.roll_back("and again");
    assert!(flags.is_killed("model").unwrap());
    assert_eq!(ask!(router, gate, "somebody"), "v1");

    flags.clear_kill("model", TrafficShare::ALL).unwrap();
    slots.switch().unwrap();
    slots.promote().unwrap();
    assert_eq!(gate.leftover().unwrap().fallback, "v1");
    for subject in ["tester", "somebody", "court"] {
        assert_eq!(ask!(router, gate, subject), "v2");
    }
    flags.kill("model").unwrap();
    assert_eq!(ask!(router, gate, "somebody"), "v1", "the old model is still warm");
    slots.retire().unwrap();
    assert_eq!(ask!(router, gate, "somebody"), "v2", "no model is left to go back to");
}

#[test]
fn a_flag_that_cannot_follow_holds_the_promotion() {
    let router = Router::builder("r").stable("v1", model::sync(boxed("v1"))).build().unwrap();
    let flags = flags();
    let gate = FlagGate::new(&router, flags.flag("model").unwrap(), "v3");
    router.deploy("v3", model::sync(boxed("v3"))).unwrap();
    let error = gate.shift(&router.split().shifted(TrafficShare::HALF)).unwrap_err().to_string();
    assert!(error.contains("no variant v3"), "{error}");
    router.switch().shift(&router.split().shifted(TrafficShare::ALL)).unwrap();
    let order = router.split().promoted();
    assert!(gate.shift(&order).is_err());
    assert_ne!(router.split().primary, order.primary);
    flags.change(|draft| draft.archive("model", "v1")).unwrap();
    let error = gate.shift(&order).unwrap_err().to_string();
    assert!(error.contains("archived"), "{error}");
    // An archived flag is a person's will as well.
    assert_eq!(ask!(router, gate, "somebody"), "v1");
}

/// Whoever is served meets the world before the promotion or after it, never one side's flag with
/// the other side's swap: the denied are on the old model until the swap and on the new one from
/// it, all others on the new one throughout.
#[test]
fn no_request_meets_the_wrong_model_while_flag_and_router_are_promoted() {
    let (rounds, wrong, met) = (60, AtomicU64::new(0), AtomicU64::new(0));
    for round in 0..rounds {
        let router = Router::builder("r").stable("v1", model::sync(boxed("v1"))).build().unwrap();
        router.deploy("v2", model::sync(boxed("v2"))).unwrap();
        let flags = flags();
        let gate = FlagGate::new(&router, flags.flag("model").unwrap(), "v2");
        let full = router.split().shifted(TrafficShare::ALL);
        gate.shift(&full).unwrap();
        router.switch().shift(&full).unwrap();
        let (old, order) = (full.primary, full.promoted());
        thread::scope(|scope| {
            for reader in 0..2 {
                let (router, gate, wrong, met) = (&router, &gate, &wrong, &met);
                scope.spawn(move || {
                    let mut after = 0;
                    while after < 50 {
                        for subject in ["court", "tester", "somebody"] {
                            let before_call = router.split().primary;
                            let served = ask!(router, gate, subject);
                            let after_call = router.split().primary;
                            let fits = match subject {
                                "court" if before_call != old => served == "v2",
                                "court" if after_call == old => served == "v1",
                                "court" => true, // either side of the swap
                                _ => served == "v2",
                            };
                            wrong.fetch_add(u64::from(!fits), Ordering::Relaxed);
                            met.fetch_add(1, Ordering::Relaxed);
                            after += i32::from(before_call != old);
                        }
                        if reader == 1 {
                            thread::yield_now();
                        }
                    }
                });
            }
            // As a pilot does: the gate first, then the router; the other half the other way.
            if round % 2 == 0 {
                gate.shift(&order).unwrap();
                router.switch().shift(&order).unwrap();
            } else {
                router.switch().shift(&order).unwrap();
                gate.shift(&order).unwrap();
            }
            gate.settled(&order);
        });
        assert!(gate.leftover().is_some());
    }
    assert_eq!(wrong.into_inner(), 0);
    assert!(met.into_inner() > rounds * 100);
}
