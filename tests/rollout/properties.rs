//! What holds for every history, not for one.

use std::time::Duration;

use pilotage::clock::Moment;
use pilotage::date::Date;
use pilotage::ids::{Epoch, Name};
use pilotage::machine::{Command, Drilled, Effect, Input, Machine, Order, Seen};
use pilotage::observe::snapshot::Delta;
use pilotage::rollout::pipeline::{End, Rollout, State};
use pilotage::rollout::plan::{Plan, Undecided};
use pilotage::share::TrafficShare;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::world::{Answers, counts};

const MINUTE: Duration = Duration::from_secs(60);

fn order() -> impl Strategy<Value = Order> {
    prop_oneof![
        Just(Order::Kill),
        Just(Order::Abort),
        Just(Order::Pause),
        Just(Order::Resume),
        Just(Order::PromoteFully),
        Just(Order::PromoteStage),
        Just(Order::Start),
        Just(Order::Approve),
        Just(Order::Retry),
        (0..u64::MAX).prop_map(|by| Order::Extend { by: Duration::from_secs(by) }),
    ]
}

/// A batch of anything: of the share in force or another, with or without calls.
#[derive(Clone, Debug)]
enum Event {
    Order(Order),
    Seen { calls: u16, errors: u64, foreign: bool },
    Wall(i64),
    Drilled(bool),
    Jump(u64),
    NotShifted,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => order().prop_map(Event::Order),
        6 => (0..400_u16, 0..9_u64, any::<bool>())
            .prop_map(|(calls, errors, foreign)| Event::Seen { calls, errors, foreign }),
        1 => any::<i64>().prop_map(Event::Wall),
        1 => any::<bool>().prop_map(Event::Drilled),
        1 => any::<u64>().prop_map(Event::Jump),
        1 => Just(Event::NotShifted),
    ]
}

fn plan() -> impl Strategy<Value = Plan> {
    (any::<bool>(), any::<bool>(), any::<bool>(), 0..3_u8).prop_map(|(hand, drill, dates, then)| {
        let then = match then {
            0 => Undecided::Hold,
            1 => Undecided::RollBack,
            _ => Undecided::Extend { by: MINUTE, times: 2 },
        };
        let share = TrafficShare::percent(5.0).unwrap();
        let mut plan = Plan::builder()
            .shadow(MINUTE, 10)
            .canary(share, MINUTE, 10)
            .warm_up(Duration::from_secs(5))
            .when_undecided(then)
            .canary(TrafficShare::HALF, MINUTE, 10)
            .approval()
            .full(MINUTE, 10);
        if hand {
            plan = plan.start_by_hand();
        }
        if drill {
            plan = plan.fresh_drill(MINUTE);
        }
        if dates {
            plan = plan.deadline(Date::from_unix(1_000_000), Undecided::Hold);
        }
        plan.build().unwrap()
    })
}

fn input(rollout: &Rollout, now: Moment, event: &Event) -> Input {
    match *event {
        Event::Order(order) => {
            let who = Name::new("ops").unwrap();
            Input::Command(Command { order, who, why: "because".into(), at: None })
        }
        Event::Seen { calls, errors, foreign } => {
            let share = if foreign { TrafficShare::ALL } else { rollout.share() };
            let how = |every| Answers { error_every: every, millis: 20 };
            let arms =
                vec![counts(u64::from(calls), how(0), 1), counts(u64::from(calls), how(errors), 3)];
            let live = Delta::new(now, Duration::from_secs(1), Epoch::new(0), arms);
            Input::Seen(Box::new(Seen::live(share, live)))
        }
        Event::Wall(seconds) => Input::Wall(Date::from_unix(seconds)),
        Event::Drilled(passed) => {
            Input::Drilled(Drilled { at: now, passed, report: String::new() })
        }
        Event::Jump(_) => Input::Seen(Box::default()),
        Event::NotShifted => {
            Input::NotShifted { in_force: TrafficShare::HALF, reason: "no route".into() }
        }
    }
}

fn place(rollout: &Rollout) -> (usize, Option<End>) {
    match rollout.state() {
        State::Waiting(_) => (0, None),
        State::Running(running) => (running.stage + 1, None),
        State::Ended(ended) => (0, Some(ended.end)),
        _ => unreachable!("a state this test does not know"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_history_breaks_the_rules(plan in plan(), events in vec(event(), 0..120)) {
        let (mut rollout, _) = Rollout::begin(Name::new("v2").unwrap(), plan, Moment::ZERO).unwrap();
        let mut now = Moment::ZERO;
        for event in events {
            now = match event {
                Event::Jump(to) => Moment::from_nanos(to),
                _ => now.after(Duration::from_secs(1)),
            };
            let input = input(&rollout, now, &event);
            let (before, share) = (place(&rollout), rollout.share());
            let paused = matches!(rollout.state(), State::Running(running) if running.paused.is_some());
            let watched = matches!(rollout.state(), State::Ended(ended) if ended.way_back_until().is_some());
            let effects = rollout.handle(now, &input);
            let after = place(&rollout);

            // One stage at the most, whatever the input.
            prop_assert!(after.0 <= before.0 + 1 || before.1.is_some(), "{before:?} to {after:?}");
            // A pause is stronger than time, evidence and promotion.
            if paused && after.0 != before.0 {
                prop_assert!(after.1.is_some_and(|end| end != End::Promoted), "{event:?}");
            }
            // What ended stays ended, but for a retry of what failed; a kill is for good.
            if let Some(end) = before.1 {
                let failed = matches!(end, End::RolledBack | End::Refused);
                match event {
                    Event::Order(Order::Retry) if failed => {}
                    Event::Order(Order::Kill) if end != End::Promoted => {
                        prop_assert_eq!(after.1, Some(End::Killed));
                    }
                    // A promotion can be taken back for a while, by whoever stops, or by evidence.
                    _ if watched => {
                        let after = after.1.unwrap();
                        prop_assert!(after == end || effects[0] == Effect::Restore, "{event:?}");
                        if let Event::Order(Order::Kill | Order::Abort) = event {
                            prop_assert!(matches!(after, End::Killed | End::Aborted));
                        }
                    }
                    _ => prop_assert_eq!(after.1, Some(end)),
                }
            }
            // Stop wins, in every state in which there is something to stop.
            if let (Event::Order(Order::Kill | Order::Abort), None) = (&event, before.1) {
                prop_assert!(after.1.is_some());
                prop_assert_eq!(&effects[0], &Effect::Shift(TrafficShare::NONE));
            }
            // Dates, drills and switches never give anybody more of a candidate.
            if !matches!(event, Event::Order(_) | Event::Seen { .. } | Event::Jump(_)) {
                prop_assert!(rollout.share() <= share);
            }
            // Who gets more of a candidate is written down before it happens.
            if rollout.share() > share {
                prop_assert!(matches!(&effects[..2], [Effect::Record(_), Effect::Shift(_)]), "{effects:?}");
            }
            // An order is taken or refused, and either is written down.
            if let Event::Order(_) = event {
                prop_assert!(effects.iter().any(|effect| matches!(effect, Effect::Record(_))));
            }
        }
        let stored = serde_json::to_string(&rollout).unwrap();
        prop_assert_eq!(serde_json::from_str::<Rollout>(&stored).unwrap(), rollout);
    }

    /// Batches without candidate calls, of other shares, or with every call failing: nobody gets
    /// more of the candidate for them, however long they go on.
    #[test]
    fn nothing_is_promoted_without_positive_evidence(
        batches in vec((0..400_u64, 0..3_u8), 1..60),
        lasts in 1..900_u64,
    ) {
        let share = TrafficShare::percent(5.0).unwrap();
        let plan = Plan::builder().canary(share, MINUTE, 10).full(MINUTE, 10).build().unwrap();
        let (mut rollout, _) = Rollout::begin(Name::new("v2").unwrap(), plan, Moment::ZERO).unwrap();
        let mut now = Moment::ZERO;
        for (calls, kind) in batches {
            now = now.after(Duration::from_secs(lasts));
            let ok = Answers { error_every: 0, millis: 20 };
            let (seen_share, arms) = match kind {
                // Only the baseline; another share; nothing but failures.
                0 => (share, vec![counts(calls, ok, 1)]),
                1 => (TrafficShare::HALF, vec![counts(calls, ok, 1), counts(calls, ok, 2)]),
                _ => (share, vec![
                    counts(calls, ok, 1),
                    counts(calls / 19, Answers { error_every: 1, millis: 20 }, 2),
                ]),
            };
            let live = Delta::new(now, Duration::from_secs(lasts), Epoch::new(0), arms);
            rollout.handle(now, &Input::Seen(Box::new(Seen::live(seen_share, live))));
            prop_assert!(rollout.share() <= share);
            prop_assert!(!matches!(rollout.state(), State::Ended(ended) if ended.end == End::Promoted));
        }
    }

    #[test]
    fn any_plan_survives_being_stored(
        alpha in 1e-6..0.5_f64,
        beta in 1e-6..0.5_f64,
        rungs in vec((1..999_999_u32, 1..100_000_000_000_u64, 1..1_000_000_u64), 1..6),
        plan in plan(),
    ) {
        let mut shares: Vec<u32> = rungs.iter().map(|rung| rung.0).collect();
        shares.sort_unstable();
        shares.dedup();
        let mut builder = Plan::builder().alpha(alpha).beta(beta);
        for (share, (_, millis, samples)) in shares.into_iter().zip(rungs) {
            let lasts = Duration::from_millis(millis % 30_000_000_000 + 1);
            builder = builder.canary(TrafficShare::from_ppm(share).unwrap(), lasts, samples);
        }
        for plan in [builder.full(MINUTE, 1).build().unwrap(), plan] {
            let stored = serde_json::to_string(&plan).unwrap();
            prop_assert_eq!(serde_json::from_str::<Plan>(&stored).unwrap(), plan);
        }
    }
}
