//! Truths that come after their calls.

use pilotage::ids::{Arm, Epoch};
use pilotage::outcome::Outcome;
use pilotage::route::siphash::SipKey;
use pilotage::serve::request::Request;
use pilotage::serve::router::{Counted, OutcomeError, Router};
use pilotage::serve::ticket::{SealedTicket, Ticket, TicketError};
use pilotage::share::TrafficShare;

use crate::shift;

fn router(name: &str) -> Router<()> {
    let router = Router::builder(name).segments(["premium"]).stable("old", ()).build().unwrap();
    router.deploy("new", ()).unwrap();
    shift(&router, TrafficShare::ALL);
    router
}

fn ticket(router: &Router<()>) -> Ticket {
    router.begin(&Request::of("user").segment("premium")).finish(Outcome::ok())
}

#[test]
fn a_truth_counts_for_the_arm_and_segment_that_served_and_once() {
    let router = router("truth");
    let ticket = ticket(&router);
    let ticket: Ticket = ticket.to_string().parse().unwrap();
    let truth = Outcome::correct(false).with_score(0.25).with_mark(3);
    assert_eq!(router.outcome(ticket, truth), Ok(Counted::InForce));
    assert_eq!(router.outcome(ticket, truth), Err(OutcomeError::Duplicate));
    let snapshot = router.snapshot();
    let counts = snapshot.arm(Arm::CANDIDATE).unwrap();
    assert_eq!((counts.correct, counts.wrong, counts.marks[3]), (0, 1, 1));
    assert_eq!(counts.score.mean(), Some(0.25));
    assert_eq!(counts.finished(), 1, "the call was counted when it ended, not again");
    assert_eq!(snapshot.segment(router.segment("premium")).unwrap().arms[1].wrong, 1);
}

#[test]
fn two_calls_in_the_same_moment_have_different_tickets() {
    let router = router("nonce");
    let tickets: std::collections::HashSet<Ticket> = (0..1_000).map(|_| ticket(&router)).collect();
    assert_eq!(tickets.len(), 1_000);
}

#[test]
fn a_truth_about_an_older_split_is_not_evidence_for_this_one() {
    let router = router("older");
    let ticket = ticket(&router);
    shift(&router, TrafficShare::HALF);
    assert_eq!(router.outcome(ticket, Outcome::correct(true)), Ok(Counted::Past));
    assert_eq!(router.snapshot().arms[1].correct, 0);
    assert_eq!(router.totals()[1].correct, 1);
}

#[test]
fn a_sample_that_is_replayed_makes_no_new_evidence() {
    let router = router("units");
    let told: Vec<_> = (0..10)
        .map(|_| router.outcome_of_unit(ticket(&router), 77, Outcome::correct(true)).unwrap())
        .collect();
    assert_eq!(told[0], Counted::InForce);
    assert!(told[1..].iter().all(|counted| *counted == Counted::SameUnit));
    assert_eq!(router.snapshot().arms[1].correct, 1);
    shift(&router, TrafficShare::ALL);
    let next = router.outcome_of_unit(ticket(&router), 77, Outcome::correct(true));
    assert_eq!(next, Ok(Counted::InForce), "another split asks anew");
}

#[test]
fn foreign_and_impossible_tickets_are_refused() {
    let (mine, other) = (router("mine"), router("other"));
    assert_eq!(mine.outcome(ticket(&other), Outcome::ok()), Err(OutcomeError::Foreign));
    let nonsense = Ticket::from_bytes(&[0xff; 16]).unwrap();
    assert_eq!(mine.outcome(nonsense, Outcome::ok()), Err(OutcomeError::Foreign));
    let ahead = ticket(&mine);
    let restarted = Router::builder("mine").epoch(Epoch::new(0)).stable("old", ()).build().unwrap();
    assert_eq!(
        restarted.outcome(ahead, Outcome::ok()),
        Err(OutcomeError::Foreign),
        "its segment is not declared there"
    );
    let restarted =
        Router::builder("mine").segments(["premium"]).stable("old", ()).build().unwrap();
    assert_eq!(
        restarted.outcome(ahead, Outcome::ok()),
        Err(OutcomeError::FromTheFuture { epoch: Epoch::new(1) })
    );
}

#[test]
fn a_ticket_survives_a_restart_with_its_epoch() {
    let before = router("restart");
    let ticket = ticket(&before);
    let after = Router::builder("restart")
        .segments(["premium"])
        .split(before.split())
        .stable("old", ())
        .build()
        .unwrap();
    assert_eq!(after.outcome(ticket, Outcome::correct(true)), Ok(Counted::InForce));
}

#[test]
fn a_sealed_ticket_travels_and_a_forged_one_does_not_open() {
    let router = router("sealed");
    let key = SipKey::new(*b"sixteen bytes!!!");
    let sealed = ticket(&router).seal(&key).to_string();
    assert_eq!(sealed.len(), 48);
    let back: SealedTicket = sealed.parse().unwrap();
    assert_eq!(router.outcome(back.open(&key).unwrap(), Outcome::ok()), Ok(Counted::InForce));
    let digit = if sealed.starts_with('0') { "1" } else { "0" };
    let forged: SealedTicket = sealed.replacen(&sealed[..1], digit, 1).parse().unwrap();
    assert_eq!(forged.open(&key), Err(TicketError::Forged));
}

#[test]
fn an_old_ticket_is_not_of_the_split_in_force_when_its_number_comes_again() {
    let clock = pilotage::clock::ManualClock::new();
    let router = Router::builder("again").clock(clock.clone()).stable("old", ()).build().unwrap();
    router.deploy("new", ()).unwrap();
    shift(&router, TrafficShare::ALL);
    let ticket = || router.begin(&Request::of("user")).finish(Outcome::ok());
    let (old, epoch) = (ticket(), router.split().epoch);
    for _ in 0..65_536 {
        clock.advance(std::time::Duration::from_millis(20));
        shift(&router, TrafficShare::ALL);
    }
    assert_eq!(router.split().epoch, epoch);
    assert_eq!(router.outcome(old, Outcome::correct(true)), Ok(Counted::Past));
    assert_eq!(router.outcome(ticket(), Outcome::correct(true)), Ok(Counted::InForce));
    assert_eq!((router.snapshot().arms[1].correct, router.totals()[1].correct), (1, 2));
}
