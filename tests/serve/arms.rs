//! More candidates than one.

use pilotage::ids::Arm;
use pilotage::observe::recorder::Size;
use pilotage::outcome::Outcome;
use pilotage::route::arms::{ArmTable, ArmTableError};
use pilotage::route::switch::{Arms, TrafficSwitch};
use pilotage::serve::request::Request;
use pilotage::serve::router::{Retired, Router};
use pilotage::share::TrafficShare;

fn router() -> Router<u32> {
    let size = Size { arms: 4, ..Size::default() };
    let router = Router::builder("many").size(size).stable("old", 0).build().unwrap();
    router.deploy("one", 1).unwrap();
    router.deploy_arm(Arm::new(2), "two", 2).unwrap();
    router.deploy_arm(Arm::new(3), "three", 3).unwrap();
    router.switch().shift(&router.split().shifted(percent(20.0))).unwrap();
    router
}

fn percent(percent: f64) -> TrafficShare {
    TrafficShare::percent(percent).unwrap()
}

fn table(two: f64, three: f64) -> ArmTable {
    ArmTable::new([(Arm::new(2), percent(two)), (Arm::new(3), percent(three))]).unwrap()
}

fn users() -> impl Iterator<Item = String> {
    (0..4_000).map(|user| format!("user-{user}"))
}

#[test]
fn four_arms_serve_their_shares_by_their_own_models_and_count_for_themselves() {
    let router = router();
    router.set_arms(Some(&table(10.0, 30.0))).unwrap();
    for user in users() {
        let guard = router.begin(&Request::of(&user));
        assert_eq!(*guard.model() as usize, guard.arm().index());
        let ticket = guard.finish(Outcome::ok());
        router.outcome(ticket, Outcome::correct(true)).unwrap();
    }
    let snapshot = router.snapshot();
    for (arm, expected) in [1_600.0, 800.0, 400.0, 1_200.0].into_iter().enumerate() {
        let counts = snapshot.arm(Arm::new(arm as u8)).unwrap();
        // Five standard errors of a binomial are at most 5 * sqrt(4000 / 4) = 158.
        assert!((counts.judged() as f64 - expected).abs() < 158.0, "{arm}: {}", counts.judged());
        assert_eq!(counts.correct, counts.judged());
        assert_eq!(counts.started, counts.finished());
    }
}

#[test]
fn growing_the_candidate_moves_only_the_baselines_subjects() {
    let router = router();
    router.set_arms(Some(&table(10.0, 30.0))).unwrap();
    let before: Vec<Arm> = users().map(|user| router.arm_of(&Request::of(&user))).collect();
    router.switch().shift(&router.split().shifted(percent(50.0))).unwrap();
    for (user, before) in users().zip(before) {
        let now = router.arm_of(&Request::of(&user));
        assert!(now == before || (before, now) == (Arm::BASELINE, Arm::CANDIDATE), "{user}");
    }
}

#[test]
fn one_store_takes_all_of_them_back_and_ends_the_table() {
    let router = router();
    router.set_arms(Some(&table(10.0, 30.0))).unwrap();
    assert!(matches!(router.retire_arm(Arm::new(2)), Retired::StillServing(_)));
    router.switch().roll_back();
    assert!(users().all(|user| router.arm_of(&Request::of(&user)) == Arm::BASELINE));
    router.switch().shift(&router.split().shifted(percent(20.0))).unwrap();
    assert_eq!(router.split().arms, Arms::Two, "the next rollout has two arms");
    assert!(users().all(|user| router.arm_of(&Request::of(&user)).index() < 2));
    assert!(matches!(router.retire_arm(Arm::new(2)), Retired::Gone(_)));
    assert!(matches!(router.retire_arm(Arm::new(2)), Retired::Nothing));
}

#[test]
fn arms_that_cannot_be_served_are_refused_and_what_is_in_force_stays() {
    let router = router();
    let before = router.split();
    let beyond = ArmTable::new([(Arm::new(4), percent(1.0))]).unwrap();
    assert_eq!(
        router.set_arms(Some(&beyond)).unwrap_err(),
        ArmTableError::NoRoom { arm: 4, arms: 4 }
    );
    let error = router.set_arms(Some(&table(50.0, 31.0))).unwrap_err();
    assert_eq!(error, ArmTableError::OverFull { ppm: 1_010_000 });
    assert_eq!(router.split(), before);
    assert!(router.deploy_arm(Arm::new(4), "four", 4).is_err());
    assert!(router.deploy_arm(Arm::new(2), "again", 2).is_err());
}

#[test]
fn an_arm_without_a_model_is_served_by_the_baseline_and_is_no_evidence() {
    let size = Size { arms: 4, ..Size::default() };
    let router = Router::builder("many").size(size).stable("old", 0).build().unwrap();
    router.deploy("one", 1).unwrap();
    router.switch().shift(&router.split().shifted(percent(20.0))).unwrap();
    router.set_arms(Some(&table(40.0, 40.0))).unwrap();
    for user in users() {
        let guard = router.begin(&Request::of(&user));
        assert!(*guard.model() < 2);
        guard.finish(Outcome::ok());
    }
    let snapshot = router.snapshot();
    let judged: u64 = snapshot.arms.iter().map(|arm| arm.judged()).sum();
    assert!((700..900).contains(&judged), "only the candidate's fifth was drawn: {judged}");
}
