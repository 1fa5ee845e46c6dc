//! What holds for stops, orders and the time after a promotion.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pilotage::control::Pilot;
use pilotage::control::orders::{Did, OrderError};
use pilotage::control::start::StartError;
use pilotage::ids::Arm;
use pilotage::machine::{Order, Refusal};
use pilotage::rollout::pipeline::End;
use pilotage::serve::request::Request;
use pilotage::share::TrafficShare;

use crate::{Proxy, World, canary_plan};

#[test]
fn a_double_click_on_promote_skips_no_stage() {
    let mut world = World::new();
    let (pilot, _alerts) = world.start();
    world.run(&pilot, 1);
    let seen = pilot.at();
    assert_eq!(pilot.order_at(&seen, Order::PromoteStage, "ann", "go").unwrap().did, Did::Done);
    assert_eq!(pilot.order_at(&seen, Order::PromoteStage, "ann", "go").unwrap().did, Did::Same);
    assert_eq!(pilot.status().stage, "50 %");
    // Without saying what was seen: two within one look are one as well.
    world.run(&pilot, 1);
    assert_eq!(pilot.order(Order::PromoteStage, "ann", "go").unwrap().did, Did::Done);
    assert_eq!(pilot.order(Order::PromoteStage, "bob", "go").unwrap().did, Did::Same);
    assert_eq!(pilot.status().stage, "100 %");
}

#[test]
fn an_order_meant_for_one_stage_does_not_land_on_another() {
    let mut world = World::new();
    let (pilot, _alerts) = world.start();
    let seen = pilot.at();
    pilot.order(Order::PromoteStage, "ann", "go").unwrap();
    for order in [
        Order::PromoteFully,
        Order::Approve,
        Order::Resume,
        Order::Extend { by: Duration::from_secs(60) },
    ] {
        let late = pilot.order_at(&seen, order, "bob", "for 5 %");
        assert!(matches!(late, Err(OrderError::Refused(Refusal::Moved { .. }))), "{late:?}");
        let said = late.unwrap_err().to_string();
        assert!(said.contains("5 %") && said.contains("50 %"), "{said}");
    }
    assert_eq!(pilot.status().stage, "50 %");
    // A stop is bound to no place.
    assert_eq!(pilot.order_at(&seen, Order::Abort, "bob", "no").unwrap().did, Did::Stopped);
    assert_eq!(world.served_by_candidate(500), 0);
}

#[test]
fn a_promotion_can_be_taken_back_by_one_order_for_as_long_as_the_plan_says() {
    for order in [Order::Abort, Order::Kill] {
        let mut world = World::new();
        let (pilot, alerts) = world.start();
        pilot.order(Order::PromoteFully, "ann", "sure").unwrap();
        assert_eq!(pilot.end(), Some(End::Promoted));
        assert_eq!(world.served_by_candidate(200), 200);
        assert!(pilot.tick(), "it is watched");
        assert!(pilot.status().way_back_until.is_some());
        world.run(&pilot, 10);
        let receipt = pilot.order(order, "bob", "it smokes").unwrap();
        assert_eq!(receipt.did, Did::TookPromotionBack);
        assert_eq!(world.served_by_candidate(500), 0, "before it returned");
        assert_eq!(world.router.model_name(Arm::BASELINE).unwrap().as_str(), "v1");
        let end = if order == Order::Kill { End::Killed } else { End::Aborted };
        assert_eq!(pilot.end(), Some(end));
        assert!(!pilot.tick());
        let told = std::iter::from_fn(|| alerts.recv_timeout(Duration::from_millis(300)).ok());
        assert!(told.into_iter().any(|alert| alert.summary.contains("promotion was taken back")));
    }
}

#[test]
fn what_cannot_be_taken_back_any_more_says_so_and_touches_nothing() {
    let mut world = World::new();
    let (pilot, _alerts) = world.start();
    pilot.order(Order::PromoteFully, "ann", "sure").unwrap();
    world.clock.advance(Duration::from_secs(48 * 3600 + 1));
    pilot.tick();
    assert_eq!(pilot.status().way_back_until, None);
    let late = pilot.abort("bob", "too late");
    assert!(matches!(late, Err(OrderError::TooLate { .. })), "{late:?}");
    assert!(late.unwrap_err().to_string().contains("time in which"));
    assert_eq!(world.served_by_candidate(200), 200);
    assert!(world.router.owner().is_none(), "the router is free");
}

#[test]
fn during_the_watched_time_a_rollout_begins_only_by_taking_over() {
    let world = World::new();
    let (pilot, _alerts) = world.start();
    pilot.order(Order::PromoteFully, "ann", "sure").unwrap();
    let refused = Pilot::builder().start(&world.router, "v3", world.candidate(), canary_plan());
    assert!(matches!(refused, Err(StartError::Owned(_))), "{refused:?}");
    let next =
        Pilot::builder().take_over().start(&world.router, "v3", world.candidate(), canary_plan());
    assert!(next.is_ok(), "{next:?}");
    assert_eq!(pilot.end(), Some(End::Promoted), "it stays promoted");
    assert!(matches!(pilot.abort("bob", "late"), Err(OrderError::TooLate { .. })));
    assert_eq!(world.router.model_name(Arm::BASELINE).unwrap().as_str(), "v2");
}

#[test]
fn after_its_promotion_a_candidate_that_breaks_down_goes_back_by_itself() {
    let mut world = World::new();
    let (pilot, _alerts) = world.start();
    world.run(&pilot, 600);
    assert_eq!(pilot.end(), Some(End::Promoted), "{}", pilot.status().reason);
    world.run(&pilot, 60);
    world.new.error_every.store(2, Ordering::Relaxed);
    world.run(&pilot, 60);
    assert_eq!(pilot.end(), Some(End::RolledBack), "{}", pilot.status().reason);
    assert_eq!(world.router.model_name(Arm::BASELINE).unwrap().as_str(), "v1");
    assert_eq!(world.served_by_candidate(500), 0);
}

#[test]
fn after_its_promotion_a_candidate_that_gets_slower_is_told_of_and_stays() {
    let mut world = World::new();
    let (pilot, alerts) = world.start();
    world.run(&pilot, 600);
    assert_eq!(pilot.end(), Some(End::Promoted), "{}", pilot.status().reason);
    world.new.micros.store(250, Ordering::Relaxed);
    world.run(&pilot, 300);
    assert_eq!(pilot.end(), Some(End::Promoted), "load and time of day may explain it");
    let told = std::iter::from_fn(|| alerts.recv_timeout(Duration::from_millis(300)).ok());
    let worse: Vec<_> = told.filter(|alert| alert.key.ends_with("/worse")).collect();
    assert_eq!(worse.len(), 1, "once");
    assert!(worse[0].summary.contains("abort within"), "{}", worse[0]);
}

#[test]
fn a_stop_to_a_broken_baseline_is_obeyed_and_says_so() {
    use pilotage::model;
    use pilotage::serve::router::Router;
    type Boxed = Box<dyn Fn(&u64) -> Result<&'static str, String> + Send + Sync>;
    let old: Boxed = Box::new(|_| Err("the old one is broken".to_owned()));
    let new: Boxed = Box::new(|_| Ok("v2"));
    let router = Router::builder("broken").stable("v1", model::sync(old)).build().unwrap();
    let (sender, alerts) = std::sync::mpsc::sync_channel(64);
    let pilot = Pilot::builder()
        .alerter(pilotage::alert::alerter::ChannelAlerter(sender))
        .start(&router, "v2", Arc::new(model::sync(new)), canary_plan())
        .unwrap();
    (0..500_u64).for_each(|user| drop(router.predict_sync(&Request::of(user), &0)));
    pilot.tick();
    let receipt = pilot.abort("ops", "back").unwrap();
    assert_eq!((receipt.did, router.split().candidate), (Did::Stopped, TrafficShare::NONE));
    let warning = receipt.warning.expect("everybody fails now, and that is said");
    assert!(warning.contains("v1, which failed"), "{warning}");
    let told = std::iter::from_fn(|| alerts.recv_timeout(Duration::from_millis(300)).ok());
    assert!(told.into_iter().any(|alert| alert.key == "v1/failing"));
}

#[test]
fn a_hand_at_the_switch_ends_the_rollout() {
    let mut world = World::new();
    let (pilot, _alerts) = world.start();
    world.run(&pilot, 5);
    world.router.switch().roll_back();
    assert_eq!(world.served_by_candidate(500), 0);
    world.run(&pilot, 300);
    assert_eq!(pilot.end(), Some(End::RolledBack), "{}", pilot.status().reason);
    assert_eq!(world.served_by_candidate(500), 0, "nothing brings it back");
    assert!(pilot.status().reason.contains("by hand"), "{}", pilot.status().reason);
    pilot.order(Order::Retry, "ann", "I have looked").unwrap();
    assert!(world.served_by_candidate(1_000) > 20);
}

#[test]
fn a_pause_keeps_back_a_step_that_waits_for_a_switch() {
    let mut world = World::new();
    let proxy = Arc::new(Proxy::default());
    let pilot = Pilot::builder()
        .switch(Arc::clone(&proxy))
        .start(&world.router, "v2", world.candidate(), canary_plan())
        .unwrap();
    world.run(&pilot, 2);
    proxy.down.store(true, Ordering::Relaxed);
    let pending = pilot.order(Order::PromoteStage, "ann", "go").unwrap();
    assert_eq!(pending.did, Did::Pending { waits_for: "the switch" });
    assert_eq!(pilot.status().stage, "5 %", "what is not in force is not in the books");
    pilot.pause("bob", "wait").unwrap();
    proxy.down.store(false, Ordering::Relaxed);
    world.run(&pilot, 30);
    let five = TrafficShare::percent(5.0).unwrap();
    assert_eq!((pilot.status().share, proxy.split.lock().candidate), (five, five));
    assert_eq!(pilot.status().stage, "5 %");
}

#[test]
fn a_switch_that_cannot_tell_what_is_in_force_is_not_asked_for_more() {
    use pilotage::route::switch::{Split, SwitchError, TrafficSwitch};
    #[derive(Default)]
    struct Blind {
        told: parking_lot::Mutex<Vec<Split>>,
        sees: std::sync::atomic::AtomicBool,
    }
    impl TrafficSwitch for Blind {
        fn shift(&self, order: &Split) -> Result<(), SwitchError> {
            self.told.lock().push(*order);
            Ok(())
        }
        fn in_force(&self) -> Option<Split> {
            self.sees.load(Ordering::Relaxed).then(Split::default)
        }
    }
    let mut world = World::new();
    let blind = Arc::new(Blind::default());
    let pilot = Pilot::builder()
        .switch(Arc::clone(&blind))
        .start(&world.router, "v2", world.candidate(), canary_plan())
        .unwrap();
    world.run(&pilot, 3);
    assert_eq!(world.router.split().candidate, TrafficShare::NONE);
    assert!(blind.told.lock().iter().all(|order| order.candidate == TrafficShare::NONE));
    blind.sees.store(true, Ordering::Relaxed);
    world.run(&pilot, 2);
    assert!(world.router.split().candidate > TrafficShare::NONE);
    // A way back asks for nothing first.
    blind.sees.store(false, Ordering::Relaxed);
    pilot.abort("ops", "back").unwrap();
    world.run(&pilot, 1);
    assert_eq!(blind.told.lock().last().unwrap().candidate, TrafficShare::NONE);
}

#[test]
fn a_drill_fails_where_the_switch_outside_says_another_share() {
    use pilotage::route::switch::{Split, SwitchError, TrafficSwitch};
    /// Obeys, and something else moves it.
    struct Drifts(parking_lot::Mutex<Split>);
    impl TrafficSwitch for Drifts {
        fn shift(&self, order: &Split) -> Result<(), SwitchError> {
            *self.0.lock() = *order;
            Ok(())
        }
        fn in_force(&self) -> Option<Split> {
            Some(*self.0.lock())
        }
    }
    let mut world = World::new();
    let drifts = Arc::new(Drifts(parking_lot::Mutex::default()));
    let pilot = Pilot::builder()
        .switch(Arc::clone(&drifts))
        .start(&world.router, "v2", world.candidate(), canary_plan())
        .unwrap();
    world.run(&pilot, 2);
    let probe = |_: &crate::Stub| Ok(());
    assert!(pilot.drill(&world.router, Duration::from_secs(1), probe).passed());
    drifts.0.lock().candidate = TrafficShare::HALF;
    let drill = pilot.drill(&world.router, Duration::from_secs(1), probe);
    assert!(!drill.passed() && drill.to_string().contains("50 % and not 5 %"), "{drill}");
}
