//! What keeps a rollout where it is, and who is told.

use std::time::Duration;

use pilotage::clock::Moment;
use pilotage::machine::{Drilled, Effect, Input, Machine, Order, Refusal};
use pilotage::rollout::freeze::{Days, Freeze};
use pilotage::rollout::pipeline::{End, HoldKind, State};
use pilotage::rollout::plan::{Plan, Undecided};
use pilotage::rollout::plan_builder::PlanBuilder;
use pilotage::share::TrafficShare;

use crate::world::{Answers, BAD, GOOD, World};

const MINUTE: Duration = Duration::from_secs(60);

fn canary(then: impl FnOnce(PlanBuilder) -> PlanBuilder) -> PlanBuilder {
    then(Plan::builder().canary(TrafficShare::percent(5.0).unwrap(), MINUTE, 100)).full(MINUTE, 100)
}

fn world(plan: PlanBuilder, per_second: u64) -> World {
    World::new(plan.build().unwrap(), per_second)
}

#[test]
fn each_kind_of_undecided_has_its_own_answer() {
    // 5 % of 200 a second are 10: a hundred in ten seconds. Of one a second: none, ever.
    for (per_second, kind) in [(0, HoldKind::NoData), (20, HoldKind::Underpowered)] {
        let mut world = world(canary(|plan| plan.at_most(MINUTE)), per_second);
        world.run(90, GOOD, GOOD);
        assert_eq!(world.holds(), Some(kind), "{:?}", world.rollout.hold());
        world.run(600, GOOD, GOOD);
        let alerts = world.told().iter().filter(|key| !key.starts_with('-')).count();
        assert!(alerts <= 2, "{:?}", world.told());
    }
    // Enough calls, and too few to show a rate below one in a hundred thousand.
    let strict = canary(|plan| plan.at_most(MINUTE))
        .guardrails(&[pilotage::judge::guardrail::Guardrail::error_rate().floor(0.00001)]);
    let mut world = world(strict, 200);
    world.run(90, GOOD, GOOD);
    assert_eq!(world.holds(), Some(HoldKind::Inconclusive), "{:?}", world.rollout.hold());
    assert_eq!(world.told(), ["holds/5 %/inconclusive"]);
}

#[test]
fn an_undecided_stage_is_taken_back_or_extended_where_the_plan_says_so() {
    let back = |plan: PlanBuilder| plan.at_most(MINUTE).when_undecided(Undecided::RollBack);
    let mut taken = world(canary(back), 0);
    taken.run(120, GOOD, GOOD);
    assert_eq!(taken.end(), Some(End::RolledBack));
    assert_eq!(taken.told(), ["v2/rolled_back"]);
    let State::Ended(ended) = taken.rollout.state() else { panic!("it ended") };
    assert!(ended.reason.contains("no data after"), "{}", ended.reason);

    let twice = Undecided::Extend { by: MINUTE, times: 2 };
    let mut extended = world(canary(|plan| plan.at_most(MINUTE).when_undecided(twice)), 0);
    extended.run(179, GOOD, GOOD);
    assert_eq!(extended.holds(), None, "one minute, and two more");
    extended.run(60, GOOD, GOOD);
    assert_eq!(extended.holds(), Some(HoldKind::NoData));
    let record = |effect: &&Effect| matches!(effect, Effect::Record(written) if written.why.contains("1m more"));
    assert_eq!(extended.effects.iter().filter(record).count(), 2);
    // An operator can give more, and people are told again when that is over too.
    extended.order(Order::Extend { by: Duration::from_secs(600) });
    extended.run(300, GOOD, GOOD);
    assert_eq!(extended.holds(), None);
    extended.run(400, GOOD, GOOD);
    let key = "holds/5 %/no_data";
    assert_eq!(extended.told(), [key.to_owned(), format!("-{key}"), key.to_owned()]);
}

#[test]
fn a_freeze_holds_promotion_and_never_a_rollback() {
    let evening = Freeze::Weekly {
        days: Days::named(["fri"]).unwrap(),
        from: "18:00".parse().unwrap(),
        to: "24:00".parse().unwrap(),
    };
    for fault in [None, Some(BAD)] {
        let mut world = world(canary(|plan| plan).freeze(evening), 200);
        world.run(5, GOOD, GOOD);
        assert_eq!(world.holds(), Some(HoldKind::WallTime), "nobody said what time it is");
        // A Friday, a minute before the freeze: it begins, and passes into it.
        world.tell_date("2026-03-27T17:59:30Z");
        world.run(1_200, GOOD, GOOD);
        assert_eq!(world.holds(), Some(HoldKind::Freeze), "{:?}", world.rollout.hold());
        assert_eq!(world.rollout.share(), TrafficShare::percent(5.0).unwrap());
        let thaw = world.now.after(Duration::from_secs(6 * 3_600 - 1_170));
        assert_eq!(world.effects.last(), Some(&Effect::WakeAt(thaw)));
        match fault {
            Some(fault) => {
                world.run(60, GOOD, fault);
                assert_eq!(world.end(), Some(End::RolledBack));
            }
            None => {
                world.now = thaw;
                world.run(5, GOOD, GOOD);
                assert_eq!(world.rollout.share(), TrafficShare::ALL);
                let told = world.told();
                assert_eq!(told.iter().filter(|key| key.contains("freeze")).count(), 2, "{told:?}");
            }
        }
    }
}

#[test]
fn it_begins_on_its_date_or_when_somebody_says_so() {
    let date = "2026-03-30T08:00:00Z".parse().unwrap();
    let plan = || canary(|plan| plan).not_before(date);
    let mut waits = world(plan(), 200);
    waits.tell_date("2026-03-30T07:58:00Z");
    assert_eq!(waits.effects.last(), Some(&Effect::WakeAt(Moment::from_secs(120))));
    waits.run(119, GOOD, GOOD);
    assert_eq!((waits.rollout.stage(), waits.holds()), (None, Some(HoldKind::NotBefore)));
    waits.run(2, GOOD, GOOD);
    assert!(waits.rollout.stage().is_some());

    let mut hurried = world(plan(), 200);
    hurried.tell_date("2026-03-01");
    hurried.order(Order::Start);
    assert!(hurried.rollout.stage().is_some());
}

#[test]
fn a_deadline_holds_or_takes_back() {
    let deadline = "2026-03-30T08:00:00Z".parse().unwrap();
    for (then, end) in [(Undecided::Hold, None), (Undecided::RollBack, Some(End::RolledBack))] {
        let mut world = world(canary(|plan| plan).deadline(deadline, then), 200);
        world.tell_date("2026-03-30T07:59:30Z");
        world.run(1_200, GOOD, GOOD);
        assert_eq!(world.end(), end);
        if end.is_none() {
            assert_eq!(world.holds(), Some(HoldKind::Late));
            assert_eq!(world.rollout.share(), TrafficShare::percent(5.0).unwrap());
            assert_eq!(world.told(), ["holds/5 %/late"]);
            world.run(60, GOOD, BAD);
            assert_eq!(world.end(), Some(End::RolledBack), "a deadline disarms nothing");
        }
    }
}

#[test]
fn a_fresh_drill_is_needed_where_the_plan_asks_for_one() {
    let mut world = world(canary(|plan| plan).fresh_drill(Duration::from_secs(3_600)), 200);
    world.run(10, GOOD, GOOD);
    assert_eq!(world.holds(), Some(HoldKind::Drill));
    let effects = world.order(Order::Start);
    let refused = |effect: &Effect| matches!(effect, Effect::Refused(refused) if matches!(refused.because, Refusal::NoDrill { .. }));
    assert!(effects.iter().any(refused), "an order is no drill: {effects:?}");
    let drill = |at: Moment, passed| {
        Input::Drilled(Drilled { at, passed, report: "the switch did not obey".into() })
    };
    let now = world.now;
    world.rollout.handle(now, &drill(now, false));
    world.run(10, GOOD, GOOD);
    let why = &world.rollout.hold().unwrap().why;
    assert!(why.contains("the switch did not obey"), "{why}");
    world.rollout.handle(world.now, &drill(world.now, true));
    world.now = world.now.after(Duration::from_secs(3_700));
    world.run(1, GOOD, GOOD);
    assert_eq!(world.holds(), Some(HoldKind::Drill), "it is too old by now");
    world.rollout.handle(world.now, &drill(world.now, true));
    world.run(1, GOOD, GOOD);
    assert!(world.rollout.stage().is_some());
    assert_eq!(world.told(), ["holds/waiting/drill", "-holds/waiting/drill"]);
}

#[test]
fn a_warm_up_is_no_evidence_but_nothing_but_failures_is() {
    // Ten times slower for a minute, then as fast as the baseline.
    let cold = Answers { error_every: 0, millis: 200 };
    let plan = || canary(|plan| plan.warm_up(MINUTE));
    let mut warms = world(plan(), 200);
    warms.run(60, GOOD, cold).run(600, GOOD, GOOD);
    assert_ne!(warms.end(), Some(End::RolledBack), "{:?}", warms.rollout.state());
    let mut unwarmed = world(canary(|plan| plan), 200);
    unwarmed.run(60, GOOD, cold);
    assert_eq!(unwarmed.end(), Some(End::RolledBack), "without a warm-up that is harm");
    let mut dead = world(plan(), 200);
    dead.run(30, GOOD, Answers { error_every: 1, millis: 20 });
    assert_eq!(dead.end(), Some(End::RolledBack), "{:?}", dead.rollout.conclusion());
}

#[test]
fn a_switch_that_does_not_obey_is_told_once_and_when_it_obeys_again() {
    let mut world = world(canary(|plan| plan), 200);
    let failed =
        Input::NotShifted { in_force: TrafficShare::NONE, reason: "no route to it".into() };
    for _ in 0..3 {
        let effects = world.rollout.handle(world.now, &failed);
        world.effects.extend(effects);
    }
    assert_eq!(world.told(), ["switch"]);
    world.run(1, GOOD, GOOD);
    assert_eq!(world.told(), ["switch", "-switch"]);
    // On the way back it matters most: the candidate has what it must not have.
    world.order(Order::Abort);
    let failed =
        Input::NotShifted { in_force: TrafficShare::HALF, reason: "no route to it".into() };
    let effects = world.rollout.handle(world.now, &failed);
    let Effect::Alert(news) = &effects[0] else { panic!("{effects:?}") };
    assert_eq!(news.severity, pilotage::alert::alert::Severity::Critical);
}

#[test]
fn time_in_which_a_switch_does_not_obey_is_not_observed() {
    fn observed(world: &World) -> Duration {
        let State::Running(running) = world.rollout.state() else { panic!("it runs") };
        running.observed
    }
    let second = Duration::from_secs(1);
    let mut world = world(canary(|plan| plan), 200);
    world.run(10, GOOD, GOOD);
    let before = observed(&world);
    let failed = Input::NotShifted { in_force: TrafficShare::NONE, reason: "no route".into() };
    for _ in 0..50 {
        world.now = world.now.after(second);
        world.rollout.handle(world.now, &failed);
    }
    world.run(1, GOOD, GOOD);
    assert_eq!(observed(&world), before + second);
}

#[test]
fn a_late_tick_advances_one_stage_and_a_second_one_changes_nothing() {
    let mut world = World::new(Plan::quick(), 200);
    world.run(299, GOOD, GOOD);
    let seen = world.seen(GOOD, GOOD);
    let late = world.now.after(Duration::from_secs(86_400));
    let effects = world.rollout.handle(late, &Input::Seen(Box::new(seen)));
    let records = effects.iter().filter(|effect| matches!(effect, Effect::Record(_))).count();
    assert_eq!(records, 1, "{effects:?}");
    world.now = late;
    let before = world.rollout.clone();
    let empty = Input::Seen(Box::default());
    for _ in 0..3 {
        assert!(world.rollout.handle(late, &empty).is_empty());
    }
    assert_eq!(world.rollout, before);
}
