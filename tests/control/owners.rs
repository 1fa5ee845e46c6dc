//! A router has one owner: who comes second is refused, and who is over touches nothing.

use std::sync::Arc;

use pilotage::alert::Alert;
use pilotage::control::Pilot;
use pilotage::control::ab_test::{ABTest, BeginError};
use pilotage::control::blue_green::{BlueGreen, OpenError, StepError};
use pilotage::control::orders::{Did, OrderError};
use pilotage::control::start::StartError;
use pilotage::ids::{Arm, Name};
use pilotage::judge::experiment::Metric;
use pilotage::machine::Order;
use pilotage::rollout::pipeline::End;
use pilotage::rollout::plan::Plan;
use pilotage::route::switch::{SwitchError, TrafficSwitch};
use pilotage::share::TrafficShare;
use pilotage::strategy::ab_test::plan::ABTestPlan;

use crate::{World, canary_plan};

fn quiet() -> Arc<dyn pilotage::alert::Alerter> {
    Arc::new(|_: &Alert| ())
}

/// A plan whose first stage gives nobody the candidate.
fn waiting_plan() -> Plan {
    let hour = std::time::Duration::from_secs(3600);
    Plan::builder()
        .baseline(hour, 1_000)
        .canary(TrafficShare::HALF, hour, 1_000)
        .full(hour, 1_000)
        .build()
        .unwrap()
}

#[test]
fn while_a_rollout_waits_without_traffic_nobody_else_can_have_the_router() {
    let world = World::new();
    let first =
        Pilot::builder().start(&world.router, "v2", world.candidate(), waiting_plan()).unwrap();
    let second = Pilot::builder().start(&world.router, "v3", world.candidate(), canary_plan());
    let Err(StartError::Owned(error)) = second else { panic!("{second:?}") };
    assert_eq!(
        (error.owner.what.as_str(), error.owner.stage.as_str()),
        ("rollout of v2", "baseline")
    );

    let slots = BlueGreen::new(&world.router, quiet());
    assert!(matches!(slots, Err(OpenError::Owned(_))), "{slots:?}");
    let name = |name| Name::new(name).unwrap();
    let plan = ABTestPlan::new(name("v1"), name("v3"), Metric::Rate, 0.05, 2_000);
    let test = ABTest::start(&world.router, world.candidate(), plan, TrafficShare::HALF, quiet());
    assert!(matches!(test, Err(BeginError::Owned(_))), "{test:?}");
    assert!(world.router.own_traffic("ann by hand").is_err());
    let by_hand = world.router.switch().shift(&world.router.split().shifted(TrafficShare::HALF));
    assert!(matches!(by_hand, Err(SwitchError::Owned(_))), "{by_hand:?}");

    // Nothing was touched.
    assert_eq!(world.router.model_name(Arm::CANDIDATE).unwrap().as_str(), "v2");
    assert_eq!(first.end(), None);
}

#[test]
fn two_blue_green_switches_cannot_have_one_router() {
    let world = World::new();
    let first = BlueGreen::new(&world.router, quiet()).unwrap();
    assert!(matches!(BlueGreen::new(&world.router, quiet()), Err(OpenError::Owned(_))));
    let rollout = Pilot::builder().start(&world.router, "v2", world.candidate(), canary_plan());
    assert!(matches!(rollout, Err(StartError::Owned(_))), "{rollout:?}");
    drop(first);
    BlueGreen::new(&world.router, quiet()).unwrap();
}

#[test]
fn taking_over_ends_the_former_first_and_its_handle_touches_nothing_any_more() {
    let mut world = World::new();
    let (first, _alerts) = world.start();
    world.run(&first, 5);
    assert!(world.served_by_candidate(1_000) > 20);
    let second = Pilot::builder()
        .take_over()
        .start(&world.router, "v3", world.candidate(), canary_plan())
        .unwrap();
    assert_eq!(first.end(), Some(End::Aborted));
    assert!(first.status().reason.contains("another takes the router over"));
    let share = world.router.split().candidate;
    assert!(share > TrafficShare::NONE, "the second has begun");

    // Late ticks and orders of the old handle.
    first.tick();
    assert!(matches!(first.abort("ops", "late").unwrap().did, Did::AlreadyOver { .. }));
    let _ = first.kill("ops", "late");
    assert!(first.order(Order::Retry, "ops", "late").is_err());
    first.tick();
    drop(first);
    assert_eq!(world.router.split().candidate, share);
    second.tick();
    assert_eq!(second.end(), None);
    assert_eq!(world.router.owner().unwrap().what, "rollout of v3");
}

#[test]
fn the_handle_of_a_rollout_that_was_aborted_acts_on_no_successor() {
    let mut world = World::new();
    let (a, _alerts) = world.start();
    world.run(&a, 3);
    a.abort("ops", "no").unwrap();
    let b = Pilot::builder().start(&world.router, "v3", world.candidate(), canary_plan()).unwrap();
    b.tick();
    a.tick();
    let _ = (a.abort("ops", "once more"), a.kill("ops", "for good"));
    a.tick();
    assert!(world.served_by_candidate(1_000) > 20, "v3 keeps its share");
    world.run(&b, 3);
    assert_eq!(b.status().share, TrafficShare::percent(5.0).unwrap());
    assert_eq!(b.end(), None);
}

#[test]
fn a_kill_and_a_retry_take_effect_without_a_driver() {
    let mut world = World::new();
    let (pilot, _alerts) = world.start();
    world.run(&pilot, 30);
    world.new.error_every.store(2, std::sync::atomic::Ordering::Relaxed);
    world.run(&pilot, 60);
    assert_eq!(pilot.end(), Some(End::RolledBack), "{}", pilot.status().reason);
    world.new.error_every.store(0, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(pilot.order(Order::Retry, "ops", "fixed").unwrap().did, Did::Done);
    assert!(world.served_by_candidate(1_000) > 20, "without a tick");
    assert_eq!(pilot.kill("ops", "no").unwrap().did, Did::Stopped);
    assert_eq!(pilot.end(), Some(End::Killed));
    assert!(matches!(pilot.order(Order::Retry, "ops", "x"), Err(OrderError::Over { .. })));
}

#[test]
fn a_start_that_fails_leaves_nothing_behind() {
    struct Broken;
    impl pilotage::control::journal_file::JournalStore for Broken {
        fn read(&mut self) -> std::io::Result<Option<Vec<u8>>> {
            Ok(None)
        }
        fn append(
            &mut self,
            _: &[u8],
            _: pilotage::control::journal_file::Durability,
        ) -> std::io::Result<()> {
            Err(std::io::Error::other("no disk"))
        }
        fn replace(&mut self, _: &[u8]) -> std::io::Result<()> {
            Err(std::io::Error::other("no disk"))
        }
        fn set_aside(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let world = World::new();
    let failed = Pilot::builder().journal(Broken).start(
        &world.router,
        "v2",
        world.candidate(),
        canary_plan(),
    );
    assert!(matches!(failed, Err(StartError::Store(_))), "{failed:?}");
    assert_eq!(world.router.model_name(Arm::CANDIDATE), None);
    assert!(world.router.owner().is_none());
    Pilot::builder().start(&world.router, "v3", world.candidate(), canary_plan()).unwrap();
}

#[test]
fn of_two_deployments_at_once_the_second_is_refused_and_spoils_nothing() {
    let world = World::new();
    let slots = BlueGreen::new(&world.router, quiet()).unwrap();
    let model = || Arc::into_inner(world.candidate()).unwrap();
    slots
        .deploy_when_ready(
            "v2",
            || Ok(model()),
            |_| {
                let second = slots.deploy("v3", model(), |_| Err("never".to_owned()));
                assert!(matches!(second, Err(StepError::State(_))), "{second:?}");
                assert!(second.unwrap_err().to_string().contains("v2 is being warmed"));
                Ok(())
            },
            |_| Ok(()),
        )
        .unwrap();
    slots.switch().unwrap();
    assert_eq!(world.router.split().candidate, TrafficShare::ALL);
}

#[test]
fn a_new_blue_green_finds_what_is_loaded_and_one_order_undoes_a_promotion() {
    let mut world = World::new();
    let slots = BlueGreen::new(&world.router, quiet()).unwrap();
    slots.deploy("v2", Arc::into_inner(world.candidate()).unwrap(), |_| Ok(())).unwrap();
    slots.switch().unwrap();
    slots.promote().unwrap();
    assert_eq!(world.router.model_name(Arm::BASELINE).unwrap().as_str(), "v2");
    slots.undo_promotion("it smokes").unwrap();
    assert_eq!(world.served_by_candidate(100), 0);
    assert_eq!(world.router.model_name(Arm::BASELINE).unwrap().as_str(), "v1");
    assert!(slots.undo_promotion("again").is_err(), "there is none any more");
    drop(slots);
    let again = BlueGreen::new(&world.router, quiet()).unwrap();
    again.switch().unwrap();
    assert_eq!(world.served_by_candidate(100), 100, "v2 is loaded and stands by");
}

#[test]
fn the_next_rollout_keeps_its_journal_where_the_last_one_did() {
    use pilotage::control::journal_file::JournalFile;
    let folder = std::env::temp_dir().join(format!("pilotage-next-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = || JournalFile::new(folder.join("rollout.journal"));
    let world = World::new();
    let start = |builder: pilotage::control::start::PilotBuilder, name: &str| {
        builder.journal(file()).start(&world.router, name, world.candidate(), canary_plan())
    };
    let first = start(Pilot::builder(), "v2").unwrap();
    first.abort("ops", "no").unwrap();
    // The handle of the first is still there.
    let second = start(Pilot::builder(), "v3").unwrap();
    let third = start(Pilot::builder().take_over(), "v4").unwrap();
    assert_eq!((first.end(), second.end()), (Some(End::Aborted), Some(End::Aborted)));
    assert!(matches!(first.kill("ops", "late").unwrap().did, Did::AlreadyOver { .. }));
    first.tick();
    drop((first, second, third));
    std::fs::remove_dir_all(folder).unwrap();
}
