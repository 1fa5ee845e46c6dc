//! What operators order, and when it has no effect.

use std::time::Duration;

use pilotage::ids::Name;
use pilotage::machine::{Command, Effect, Order, Refusal};
use pilotage::rollout::orders::MOST_TRIES;
use pilotage::rollout::pipeline::{End, HoldKind, State};
use pilotage::rollout::plan::Plan;
use pilotage::share::TrafficShare;

use crate::world::{BAD, GOOD, SLOW, World};

const MINUTE: Duration = Duration::from_secs(60);

fn at_five_percent() -> World {
    let mut world = World::new(Plan::quick(), 200);
    world.run(400, GOOD, GOOD);
    assert_eq!(world.rollout.share(), TrafficShare::percent(5.0).unwrap());
    world
}

fn refusal(effects: &[Effect]) -> Option<&Refusal> {
    effects.iter().find_map(|effect| match effect {
        Effect::Refused(refused) => Some(&refused.because),
        _ => None,
    })
}

#[test]
fn a_pause_is_stronger_than_a_promotion_whenever_they_come() {
    for order in [Order::PromoteStage, Order::PromoteFully] {
        let mut world = at_five_percent();
        world.order(Order::Pause);
        let effects = world.order(order);
        assert!(matches!(refusal(&effects), Some(Refusal::Paused { .. })), "{effects:?}");
        world.order(Order::Resume);
        assert!(refusal(&world.order(order)).is_none());
    }
    let mut together =
        [Order::Extend { by: MINUTE }, Order::PromoteStage, Order::Pause, Order::Kill];
    together.sort_by_key(|order| order.precedence());
    assert_eq!(together[..2], [Order::Kill, Order::Pause]);
}

#[test]
fn orders_in_the_wrong_state_are_answered_written_down_and_change_nothing() {
    let mut world = at_five_percent();
    for (order, wanted) in [
        (Order::Resume, "not paused"),
        (Order::Start, "has begun already"),
        (Order::Retry, "nothing failed"),
        (Order::Approve, "does not ask for one"),
        (Order::Extend { by: Duration::ZERO }, "0 s is not possible"),
        (Order::Extend { by: Duration::MAX }, "365 days"),
    ] {
        let before = world.rollout.clone();
        let effects = world.order(order);
        let because = refusal(&effects).unwrap_or_else(|| panic!("{order} was taken"));
        assert!(because.to_string().contains(wanted), "{because}");
        let Effect::Record(written) = &effects[0] else { panic!("{effects:?}") };
        assert_eq!((&written.from, written.who.as_str()), (&written.to, "ops"));
        assert!(written.why.contains("because"), "{}", written.why);
        assert_eq!(world.rollout, before, "{order}");
    }
}

#[test]
fn a_failed_stage_is_tried_again_with_nothing_of_its_evidence() {
    let mut world = at_five_percent();
    world.run(60, GOOD, BAD);
    assert_eq!(world.end(), Some(End::RolledBack));
    let effects = world.order(Order::Retry);
    assert!(refusal(&effects).is_none(), "{effects:?}");
    assert_eq!(world.rollout.share(), TrafficShare::percent(5.0).unwrap());
    let State::Running(running) = world.rollout.state() else { panic!("{effects:?}") };
    assert_eq!((running.samples(), running.attempt), (0, 2));
    let failed = &world.rollout.tries()[0];
    assert!(failed.reason.contains("error rate"), "{}", failed.reason);
    assert!(!failed.readings.is_empty(), "the evidence of the failed try is kept");
    assert_eq!(world.told().last().unwrap(), "-v2/rolled_back");
    // Had any of the failures counted, this would not pass in the stage's shortest time.
    world.run(420, GOOD, GOOD);
    assert_eq!(world.rollout.share(), TrafficShare::percent(25.0).unwrap());
}

#[test]
fn a_candidate_taken_back_from_everybody_begins_again_one_stage_before() {
    let mut world = World::new(Plan::quick(), 200);
    world.run(1_260, GOOD, GOOD);
    assert_eq!(world.rollout.share(), TrafficShare::ALL);
    world.run(60, GOOD, BAD);
    assert_eq!(world.end(), Some(End::RolledBack));
    world.order(Order::Retry);
    assert_eq!(world.rollout.share(), TrafficShare::percent(50.0).unwrap());
    world.run(900, GOOD, GOOD);
    assert_eq!(world.end(), Some(End::Promoted));
}

#[test]
fn a_refused_shadow_can_be_tried_again_but_not_for_ever() {
    let mut world = World::new(Plan::quick(), 200);
    for attempt in 1..=MOST_TRIES + 1 {
        world.run(120, GOOD, SLOW);
        assert_eq!(world.end(), Some(End::Refused), "try {attempt}");
        let effects = world.order(Order::Retry);
        if attempt <= MOST_TRIES {
            assert!(effects.iter().any(|effect| matches!(effect, Effect::Shadow(_))));
        } else {
            assert!(matches!(refusal(&effects), Some(Refusal::TooManyTries { .. })));
        }
    }
    assert_eq!(world.rollout.tries().len(), MOST_TRIES);
}

#[test]
fn a_kill_is_for_good_even_after_a_rollback() {
    for before in [None, Some(Order::Abort)] {
        let mut world = at_five_percent();
        match before {
            None => drop(world.run(60, GOOD, BAD)),
            Some(order) => drop(world.order(order)),
        }
        assert!(world.end().is_some());
        let effects = world.order(Order::Kill);
        assert_eq!(effects[0], Effect::Shift(TrafficShare::NONE));
        assert_eq!(world.end(), Some(End::Killed));
        for order in [Order::Retry, Order::Start, Order::PromoteFully, Order::Kill] {
            assert!(matches!(refusal(&world.order(order)), Some(Refusal::Over { .. })), "{order}");
        }
    }
}

#[test]
fn an_approval_is_asked_for_once_and_given_only_when_there_is_something_to_approve() {
    let share = TrafficShare::percent(5.0).unwrap();
    let plan = Plan::builder().canary(share, MINUTE, 10).approval().full(MINUTE, 10);
    let mut world = World::new(plan.build().unwrap(), 1_000);
    let early = world.order(Order::Approve);
    assert!(refusal(&early).unwrap().to_string().contains("has not passed yet"));
    world.run(200, GOOD, GOOD);
    assert_eq!((world.rollout.share(), world.holds()), (share, Some(HoldKind::Approval)));
    assert_eq!(world.told(), ["holds/5 %/approval"]);
    world.order(Order::Approve);
    world.run(2, GOOD, GOOD);
    assert_eq!(world.rollout.share(), TrafficShare::ALL);
    assert_eq!(world.told(), ["holds/5 %/approval", "-holds/5 %/approval"]);
    let by = |effect: &Effect| matches!(effect, Effect::Record(written) if written.to == "100 %" && written.why.contains("approved by ops"));
    assert!(world.effects.iter().any(by));
}

#[test]
fn an_approval_does_not_disarm_the_guardrails() {
    let share = TrafficShare::percent(5.0).unwrap();
    let plan = Plan::builder().canary(share, MINUTE, 10).approval().full(MINUTE, 10);
    let mut world = World::new(plan.build().unwrap(), 1_000);
    world.run(200, GOOD, GOOD);
    assert_eq!(world.holds(), Some(HoldKind::Approval));
    world.run(60, GOOD, BAD);
    assert_eq!(world.end(), Some(End::RolledBack));
}

#[test]
fn a_start_by_hand_waits_and_a_pause_keeps_it_waiting() {
    let share = TrafficShare::percent(5.0).unwrap();
    let plan = Plan::builder().canary(share, MINUTE, 10).full(MINUTE, 10).start_by_hand();
    let mut world = World::new(plan.build().unwrap(), 200);
    world.run(600, GOOD, GOOD);
    assert_eq!((world.rollout.stage(), world.holds()), (None, Some(HoldKind::Start)));
    assert_eq!(world.told(), ["holds/waiting/start"]);
    assert!(matches!(refusal(&world.order(Order::PromoteFully)), Some(Refusal::NotStarted)));
    world.order(Order::Pause);
    assert!(matches!(refusal(&world.order(Order::Start)), Some(Refusal::Paused { .. })));
    world.order(Order::Resume);
    let effects = world.order(Order::Start);
    assert!(effects.contains(&Effect::Shift(share)), "{effects:?}");
    let Effect::Record(written) = &effects[0] else { panic!("{effects:?}") };
    assert!(written.who == "ops" && written.to == "5 %", "{written:?}");
}

#[test]
fn orders_and_rollouts_survive_being_stored() {
    let mut world = at_five_percent();
    world.order(Order::Extend { by: MINUTE });
    world.run(60, GOOD, BAD);
    world.order(Order::Retry);
    world.order(Order::Approve);
    let stored = serde_json::to_string(&world.rollout).unwrap();
    assert_eq!(
        serde_json::from_str::<pilotage::rollout::pipeline::Rollout>(&stored).unwrap(),
        world.rollout
    );
    for effect in &world.effects {
        let stored = serde_json::to_string(effect).unwrap();
        assert_eq!(serde_json::from_str::<Effect>(&stored).unwrap(), *effect);
    }
    let command = Command {
        order: Order::Extend { by: MINUTE },
        who: Name::new("ops").unwrap(),
        why: String::new(),
        at: None,
    };
    let stored = serde_json::to_string(&command).unwrap();
    assert_eq!(serde_json::from_str::<Command>(&stored).unwrap(), command);
}
