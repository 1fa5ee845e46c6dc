//! Who takes part, asked of a router.

use pilotage::ids::Arm;
use pilotage::outcome::Outcome;
use pilotage::route::audience::{Audience, AudienceError};
use pilotage::route::layer::{Holdout, Layer};
use pilotage::route::switch::{Entry, TrafficSwitch};
use pilotage::serve::request::Request;
use pilotage::serve::router::Router;
use pilotage::share::TrafficShare;

fn router(name: &str) -> Router<&'static str> {
    let router = Router::builder(name).segments(["free", "paid"]).stable("old", "old");
    let router = router.build().unwrap();
    router.deploy("new", "new").unwrap();
    router.switch().shift(&router.split().shifted(TrafficShare::HALF)).unwrap();
    router
}

fn users() -> impl Iterator<Item = String> {
    (0..2_000).map(|user| format!("user-{user}"))
}

#[test]
fn an_audience_decides_who_is_drawn_and_only_they_are_evidence() {
    let router = router("a");
    let audience = Audience::builder().segments(["free"]).allow(["user-1"]).deny(["user-2"]);
    router.set_audience(Some(&audience.build().unwrap())).unwrap();
    let mut drawn = 0;
    for user in users() {
        for segment in ["free", "paid"] {
            let guard = router.begin(&Request::of(&user).segment(segment));
            match (user.as_str(), segment) {
                ("user-1", _) => assert_eq!(guard.arm(), Arm::CANDIDATE),
                ("user-2", _) | (_, "paid") => assert_eq!(guard.arm(), Arm::BASELINE),
                _ => drawn += u32::from(guard.arm() == Arm::CANDIDATE),
            }
            guard.finish(Outcome::ok());
        }
    }
    // 1,998 drawn at a half: five standard errors are 112.
    assert!(drawn.abs_diff(999) < 112, "{drawn}");
    let snapshot = router.snapshot();
    let judged: u64 = snapshot.arms.iter().map(|arm| arm.judged()).sum();
    assert_eq!(judged, 1_998, "whoever was placed is no evidence");
    let totals: u64 = router.totals().iter().map(|arm| arm.finished()).sum();
    assert_eq!(totals, 4_000);
}

#[test]
fn a_rollback_takes_back_those_on_the_allow_list_too() {
    let router = router("a");
    let audience = Audience::builder().allow(["user-1"]).build().unwrap();
    router.set_audience(Some(&audience)).unwrap();
    assert_eq!(router.arm_of(&Request::of("user-1")), Arm::CANDIDATE);
    router.switch().roll_back();
    assert_eq!(router.arm_of(&Request::of("user-1")), Arm::BASELINE);
    assert_eq!(router.split().entry, Entry::Audience, "the next rollout meets the same audience");
}

#[test]
fn whoever_is_held_out_meets_no_candidate_of_any_router() {
    let share = TrafficShare::percent(10.0).unwrap();
    let holdout = Holdout { salt: "year".to_owned(), share };
    let audience = Audience::builder().holdout(holdout.clone()).build().unwrap();
    let routers = ["a", "b"].map(router);
    for router in &routers {
        router.set_audience(Some(&audience)).unwrap();
        router.switch().shift(&router.split().shifted(TrafficShare::ALL)).unwrap();
    }
    for user in users() {
        let arms = routers.each_ref().map(|router| router.arm_of(&Request::of(&user)));
        let held = holdout.holds(user.as_bytes());
        let due = if held { Arm::BASELINE } else { Arm::CANDIDATE };
        assert_eq!(arms, [due; 2], "{user}");
    }
    let anonymous = routers[0].arm_of(&Request::anonymous());
    assert_eq!(anonymous, Arm::BASELINE, "who might be held out is");
}

#[test]
fn rollouts_of_one_layer_never_share_a_subject() {
    let mut layer = Layer::new("ranking", "ranking").unwrap();
    let routers = ["a", "b"].map(|name| {
        let range = layer.reserve(name, TrafficShare::HALF).unwrap();
        let router = router(name);
        let audience = Audience::builder().layer(range).build().unwrap();
        router.set_audience(Some(&audience)).unwrap();
        router.switch().shift(&router.split().shifted(TrafficShare::ALL)).unwrap();
        router
    });
    for user in users() {
        let on =
            routers.iter().filter(|router| router.arm_of(&Request::of(&user)) == Arm::CANDIDATE);
        assert_eq!(on.count(), 1, "{user}: two halves are the whole");
    }
}

#[test]
fn an_undeclared_segment_is_refused_and_the_audience_in_force_stays() {
    let router = router("a");
    let before = router.split();
    let audience = Audience::builder().segments(["gold"]).build().unwrap();
    let error = router.set_audience(Some(&audience)).unwrap_err();
    assert!(matches!(error, AudienceError::Undeclared { .. }), "{error}");
    assert_eq!(router.split(), before);
}

#[test]
fn a_router_restarted_without_its_audience_lets_nobody_in() {
    let split = router("a").set_audience(Some(&Audience::default())).unwrap();
    let restarted = Router::builder("a").split(split).stable("old", "old").build().unwrap();
    restarted.deploy("new", "new").unwrap();
    assert!(users().all(|user| restarted.arm_of(&Request::of(&user)) == Arm::BASELINE));
    restarted.set_audience(None).unwrap();
    assert!(users().any(|user| restarted.arm_of(&Request::of(&user)) == Arm::CANDIDATE));
}
