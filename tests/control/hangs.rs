//! Calls that do not end: no error, no latency, and the rollout reacts all the same.

use std::time::Duration;

use pilotage::clock::ManualClock;
use pilotage::control::Pilot;
use pilotage::ids::Arm;
use pilotage::outcome::Outcome;
use pilotage::rollout::pipeline::End;
use pilotage::serve::guard::OwnedGuard;
use pilotage::serve::request::Request;
use pilotage::serve::router::Retired;
use pilotage::share::TrafficShare;

use crate::{Stub, World};

type Hanging = Vec<OwnedGuard<Stub, ManualClock>>;

/// So many seconds of 100 calls each. Of the calls of each arm one in so many is kept and never
/// ends; 0 for none.
fn run(world: &mut World, pilot: &Pilot, seconds: u64, hangs: [u64; 2], kept: &mut Hanging) {
    for _ in 0..seconds {
        for _ in 0..100 {
            world.next += 1;
            let guard = world.router.begin_owned(&Request::of(world.next));
            world.clock.advance(Duration::from_micros(100 + world.next % 20));
            let one_in = hangs[usize::from(guard.arm() == Arm::CANDIDATE)];
            if one_in > 0 && world.next / 7 % one_in == 0 {
                kept.push(guard);
            } else {
                guard.finish(Outcome::ok());
            }
        }
        world.clock.advance(Duration::from_millis(990));
        pilot.tick();
        if pilot.end().is_some() {
            break;
        }
    }
}

#[test]
fn a_candidate_that_hangs_is_taken_back_and_kept_for_the_calls_that_have_it() {
    let mut world = World::new();
    let (pilot, alerts) = world.start();
    let mut kept = Hanging::new();
    run(&mut world, &pilot, 14, [0, 1], &mut kept);
    assert_eq!(pilot.end(), None, "it may be loading for a quarter of a minute");
    run(&mut world, &pilot, 20, [0, 1], &mut kept);
    let status = pilot.status();
    assert_eq!(pilot.end(), Some(End::RolledBack), "{}", status.reason);
    assert!(status.reason.contains("have not ended, unlike the baseline's"), "{}", status.reason);
    let alert = alerts.recv_timeout(Duration::from_secs(5)).unwrap();
    assert!(alert.summary.contains("have not ended"), "{alert}");
    assert_eq!(world.served_by_candidate(1_000), 0);
    // It had no more calls than chance gives it at once; the baseline answered the others.
    let own = kept.iter().filter(|guard| !guard.diverted()).count() as u64;
    assert!((2..=20).contains(&own), "{own} of {}", kept.len());
    assert_eq!(world.router.retire_idle(), Retired::StillDraining(own));
    kept.clear();
    assert!(matches!(world.router.retire_idle(), Retired::Gone(_)));
}

#[test]
fn one_that_hangs_now_and_then_is_taken_back_and_never_promoted() {
    let mut world = World::new();
    let (pilot, _alerts) = world.start();
    let mut kept = Hanging::new();
    run(&mut world, &pilot, 1_200, [0, 5], &mut kept);
    assert_eq!(pilot.end(), Some(End::RolledBack), "{}", pilot.status().reason);
}

#[test]
fn nobody_is_blamed_where_both_hang() {
    let mut world = World::new();
    let (pilot, _alerts) = world.start();
    let mut kept = Hanging::new();
    run(&mut world, &pilot, 1_200, [5, 5], &mut kept);
    let status = pilot.status();
    assert!(pilot.end() != Some(End::RolledBack), "{}", status.reason);
}

#[test]
fn one_that_begins_to_hang_when_it_serves_everybody_is_taken_back() {
    let mut world = World::new();
    let (pilot, _alerts) = world.start();
    let mut kept = Hanging::new();
    for _ in 0..600 {
        if pilot.status().share == TrafficShare::ALL {
            break;
        }
        run(&mut world, &pilot, 1, [0, 0], &mut kept);
    }
    assert_eq!(pilot.status().share, TrafficShare::ALL, "{}", pilot.status().reason);
    run(&mut world, &pilot, 80, [0, 1], &mut kept);
    let status = pilot.status();
    assert_eq!(pilot.end(), Some(End::RolledBack), "{}", status.reason);
    assert!(status.reason.contains("have not ended"), "{}", status.reason);
}
