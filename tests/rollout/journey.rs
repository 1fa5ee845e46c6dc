//! From the first stage to an end.

use std::time::Duration;

use pilotage::clock::Moment;
use pilotage::ids::Arm;
use pilotage::machine::{Effect, Input, Machine, Order, Refusal};
use pilotage::rollout::pipeline::End;
use pilotage::rollout::plan::Plan;
use pilotage::share::TrafficShare;

use crate::world::{BAD, GOOD, SLOW, World};

#[test]
fn a_healthy_candidate_climbs_every_step_and_is_promoted() {
    let mut world = World::new(Plan::quick(), 200);
    world.run(3_600, GOOD, GOOD);
    assert_eq!(world.end(), Some(End::Promoted), "{:?}", world.rollout.conclusion());
    assert_eq!(world.shares(), [0, 5, 25, 50, 100]);
    assert_eq!(world.effects.iter().filter(|e| matches!(e, Effect::Promote)).count(), 1);
    let names: Vec<String> = world
        .effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Record(transition) => Some(transition.to.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(names, ["shadow", "5 %", "25 %", "50 %", "100 %", "promoted"]);
}

#[test]
fn no_stage_passes_before_its_time() {
    let mut world = World::new(Plan::quick(), 1_000);
    world.run(299, GOOD, GOOD);
    assert_eq!(world.rollout.share(), TrafficShare::NONE);
    world.run(3, GOOD, GOOD);
    assert_eq!(world.rollout.share(), TrafficShare::percent(5.0).unwrap());
}

#[test]
fn a_candidate_that_fails_is_refused_before_it_serves_anybody() {
    let mut world = World::new(Plan::quick(), 200);
    world.run(60, GOOD, BAD);
    assert_eq!(world.end(), Some(End::Refused));
    assert!(world.shares().iter().all(|share| *share == 0), "{:?}", world.shares());
    assert_eq!(world.alerts(), 1);
}

#[test]
fn a_candidate_that_turns_bad_as_a_canary_is_taken_back_within_seconds() {
    for (name, fault) in [("errors", BAD), ("slow", SLOW)] {
        let mut world = World::new(Plan::quick(), 200);
        world.run(420, GOOD, GOOD);
        assert_eq!(world.rollout.share(), TrafficShare::percent(5.0).unwrap());
        let before = world.now;
        world.run(60, GOOD, fault);
        assert_eq!(world.end(), Some(End::RolledBack), "{name}: {:?}", world.rollout.conclusion());
        let took = world.now.since(before);
        assert!(took <= Duration::from_secs(20), "{name}: {took:?}");
        assert_eq!(world.shares().last(), Some(&0), "{name}");
        assert_eq!(world.alerts(), 1, "{name}");
    }
}

#[test]
fn a_candidate_that_turns_bad_at_full_traffic_is_taken_back_too() {
    let mut world = World::new(Plan::quick(), 200);
    world.run(1_260, GOOD, GOOD);
    assert_eq!(world.rollout.share(), TrafficShare::ALL);
    world.run(60, GOOD, BAD);
    assert_eq!(world.end(), Some(End::RolledBack), "{:?}", world.rollout.conclusion());
}

#[test]
fn a_shared_incident_blames_nobody() {
    let mut world = World::new(Plan::quick(), 200);
    world.run(400, GOOD, GOOD);
    world.run(60, BAD, BAD);
    assert_eq!(world.end(), None, "{:?}", world.rollout.conclusion());
}

#[test]
fn without_traffic_nothing_moves_and_people_are_told_once() {
    let mut world = World::new(Plan::quick(), 0);
    world.run(2_400, GOOD, GOOD);
    assert_eq!(world.end(), None);
    assert_eq!(world.rollout.share(), TrafficShare::NONE);
    assert_eq!(world.alerts(), 1);
}

#[test]
fn a_clock_that_jumps_a_year_advances_nothing() {
    let mut world = World::new(Plan::quick(), 200);
    world.run(100, GOOD, GOOD);
    world.now = world.now.after(Duration::from_secs(365 * 24 * 3600));
    world.run(1, GOOD, GOOD);
    assert_eq!(world.rollout.share(), TrafficShare::NONE);
    world.now = Moment::ZERO;
    world.run(1, GOOD, GOOD);
    assert_eq!(world.rollout.share(), TrafficShare::NONE);
}

#[test]
fn a_pause_holds_but_does_not_disarm() {
    let mut world = World::new(Plan::quick(), 200);
    world.run(400, GOOD, GOOD);
    world.order(Order::Pause);
    world.run(900, GOOD, GOOD);
    assert_eq!(world.rollout.share(), TrafficShare::percent(5.0).unwrap());
    world.run(60, GOOD, BAD);
    assert_eq!(world.end(), Some(End::RolledBack));
}

#[test]
fn an_abort_ends_everything_and_can_be_repeated() {
    let mut world = World::new(Plan::quick(), 200);
    world.run(400, GOOD, GOOD);
    let effects = world.order(Order::Abort);
    assert_eq!(effects[0], Effect::Shift(TrafficShare::NONE), "what protects users comes first");
    assert_eq!(world.end(), Some(End::Aborted));
    let before = world.rollout.clone();
    for order in [Order::Abort, Order::PromoteFully, Order::Resume, Order::Retry] {
        let effects = world.order(order);
        let [Effect::Record(written), Effect::Refused(refused)] = &effects[..] else {
            panic!("{effects:?}")
        };
        assert_eq!(written.from, written.to, "nothing leads out of an abort");
        assert!(matches!(&refused.because, Refusal::Over { end, .. } if end == "aborted"));
    }
    assert_eq!(world.rollout, before);
}

#[test]
fn an_override_is_written_down_with_who_and_why() {
    let mut world = World::new(Plan::quick(), 200);
    let effects = world.order(Order::PromoteStage);
    let Effect::Record(transition) = &effects[0] else { panic!("{effects:?}") };
    assert_eq!(transition.who, "ops");
    assert!(transition.why.contains("override by ops: because"), "{}", transition.why);
    let effects = world.order(Order::PromoteFully);
    assert!(effects.contains(&Effect::Promote));
    assert_eq!(world.end(), Some(End::Promoted));
}

#[test]
fn the_same_history_gives_the_same_effects_and_survives_being_stored() {
    let run = |stored: bool| {
        let mut world = World::new(Plan::quick(), 100);
        for _ in 0..8 {
            world.run(50, GOOD, GOOD);
            if stored {
                let text = serde_json::to_string(&world.rollout).unwrap();
                world.rollout = serde_json::from_str(&text).unwrap();
            }
        }
        world.run(60, GOOD, BAD);
        (world.effects.clone(), world.rollout)
    };
    let (plain, stored) = (run(false), run(true));
    assert_eq!(plain.0, stored.0);
    assert_eq!(plain.1, stored.1);
}

#[test]
fn a_batch_of_an_older_split_is_not_judged() {
    let mut world = World::new(Plan::quick(), 200);
    world.run(320, GOOD, GOOD);
    let mut seen = world.seen(GOOD, BAD);
    seen.share = TrafficShare::ALL;
    for second in 0..100 {
        let now = world.now.after(Duration::from_secs(second));
        let effects = world.rollout.handle(now, &Input::Seen(Box::new(seen.clone())));
        assert!(effects.iter().all(|effect| matches!(effect, Effect::WakeAt(_))), "{effects:?}");
    }
    assert!(seen.live.arm(Arm::CANDIDATE).is_some());
    assert_eq!(world.end(), None);
}
