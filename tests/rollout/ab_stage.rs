//! An A/B test as a stage of a rollout.

use std::time::Duration;

use pilotage::ids::Name;
use pilotage::judge::guardrail::NoData;
use pilotage::machine::Order;
use pilotage::rollout::pipeline::{End, HoldKind, Rollout, State};
use pilotage::rollout::plan::{Plan, StageKind};
use pilotage::rollout::stage::ComparisonRule;
use pilotage::share::TrafficShare;
use pilotage::strategy::ab_test::plan::{Horizon, Spread};
use pilotage::strategy::ab_test::stage::Compared;

use crate::world::{BAD, GOOD, World};

const HOUR: Duration = Duration::from_secs(3_600);

/// A rollout that is in its A/B test, four requests a second, a look a minute. Its days are hours
/// here: what is tested does not depend on how long they are.
fn testing(edit: impl FnOnce(&mut ComparisonRule)) -> World {
    let mut rule = ComparisonRule::default();
    rule.of = vec![Compared::Truths];
    rule.segments = vec![Name::new("free").unwrap(), Name::new("premium").unwrap()];
    edit(&mut rule);
    let five = TrafficShare::percent(5.0).unwrap();
    let plan = Plan::builder()
        .canary(five, HOUR, 100)
        .ab_test(TrafficShare::HALF, 4 * HOUR, 1_000, rule)
        .full(48 * HOUR, 100)
        .build()
        .unwrap();
    let mut world = World::new(plan, 4);
    world.order(Order::PromoteStage);
    world.step = 60;
    assert_eq!(world.rollout.stage().unwrap().kind, StageKind::AbTest);
    world
}

fn reason(world: &World) -> String {
    match world.rollout.state() {
        State::Ended(ended) => ended.reason.clone(),
        _ => world.rollout.conclusion().unwrap().why,
    }
}

#[test]
fn a_candidate_that_is_no_worse_passes_after_its_time() {
    for right in [[90, 90], [94, 94]] {
        let mut world = testing(|_| {});
        world.right = Some([[90, 90], right]);
        world.run(3 * 3_600, GOOD, GOOD);
        assert_eq!(world.rollout.share(), TrafficShare::HALF, "{}", reason(&world));
        world.run(5_400, GOOD, GOOD);
        assert_eq!(world.rollout.share(), TrafficShare::ALL, "{}", reason(&world));
    }
}

#[test]
fn a_candidate_that_answers_worse_is_taken_back_at_once() {
    let mut world = testing(|_| {});
    world.right = Some([[90, 90], [84, 84]]);
    world.run(2 * 3_600, GOOD, GOOD);
    assert_eq!(world.end(), Some(End::RolledBack), "{}", reason(&world));
    let text = reason(&world);
    assert!(text.contains("accuracy") || text.contains("wrong answers"), "{text}");
}

#[test]
fn a_small_loss_is_found_by_the_comparison_and_a_loss_within_the_margin_is_not_a_win() {
    let mut world = testing(|rule| rule.margin = 0.005);
    world.right = Some([[90, 90], [87, 87]]);
    world.run(4 * 3_600, GOOD, GOOD);
    assert_eq!(world.end(), Some(End::RolledBack), "{}", reason(&world));
    assert!(reason(&world).starts_with("the A/B test is lost on accuracy"), "{}", reason(&world));
}

#[test]
fn without_truths_it_holds_unless_the_plan_says_otherwise() {
    let mut holds = testing(|_| {});
    holds.run(17 * 3_600, GOOD, GOOD);
    assert_eq!(holds.holds(), Some(HoldKind::Inconclusive), "{}", reason(&holds));
    assert!(reason(&holds).contains("no accuracy was reported"), "{}", reason(&holds));
    let mut skips = testing(|rule| rule.no_data = NoData::Skip);
    skips.run(5 * 3_600, GOOD, GOOD);
    assert_eq!(skips.rollout.share(), TrafficShare::ALL, "{}", reason(&skips));
}

#[test]
fn a_winner_that_loses_a_segment_waits_for_a_person() {
    let mut world = testing(|_| {});
    world.right = Some([[70, 90], [90, 82]]);
    // What watches the wrong answers of both together sees fewer of them: the whole gains.
    world.run(5 * 3_600, GOOD, GOOD);
    assert_eq!(world.holds(), Some(HoldKind::Person), "{}", reason(&world));
    assert_eq!(world.rollout.share(), TrafficShare::HALF);
    let text = reason(&world);
    assert!(
        text.contains("route by segment: premium lose") && text.contains("free gain"),
        "{text}"
    );
}

#[test]
fn a_planned_horizon_is_kept_and_survives_being_stored() {
    let planned = Horizon::Planned { per_arm: 4_000, looks: 10, spending: Spread::OBrienFleming };
    let run = |stored: bool| {
        let mut world = testing(|rule| rule.horizon = planned);
        world.right = Some([[90, 90], [93, 93]]);
        for _ in 0..10 {
            world.run(900, GOOD, GOOD);
            if stored {
                let text = serde_json::to_string(&world.rollout).unwrap();
                world.rollout = serde_json::from_str::<Rollout>(&text).unwrap();
            }
        }
        world
    };
    let (plain, stored) = (run(false), run(true));
    assert_eq!(plain.rollout, stored.rollout);
    let reports = plain.rollout.trial().unwrap().ab_test().unwrap().reports();
    assert!(reports[0].1.looks >= 4, "{:?}", reports[0].1);
}

#[test]
fn a_guardrail_is_stronger_than_any_winner() {
    let mut world = testing(|_| {});
    world.right = Some([[80, 80], [95, 95]]);
    world.run(3 * 3_600, GOOD, GOOD);
    world.run(3_600, GOOD, BAD);
    assert_eq!(world.end(), Some(End::RolledBack), "{}", reason(&world));
    assert!(reason(&world).contains("error rate"), "{}", reason(&world));
}
