//! No stream is lost and none is counted twice, whatever becomes of it and of the split meanwhile.

use std::time::Duration;

use pilotage::clock::ManualClock;
use pilotage::ids::Arm;
use pilotage::observe::stream_counts::StreamCounts;
use pilotage::outcome::Status;
use pilotage::serve::builder::Fallback;
use pilotage::serve::request::Request;
use pilotage::serve::stream::ItemStream;
use pilotage::share::TrafficShare;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::{Do, Script, Stage, Told, block_on, shift};

#[derive(Clone, Debug)]
enum Step {
    /// Asks, and keeps the stream if there is one.
    Ask {
        user: u8,
        opening: Vec<Do>,
        items: Vec<Do>,
    },
    /// Asks and is gone before the first item.
    Leave {
        user: u8,
    },
    /// Takes an item of a stream under way.
    Read {
        which: u8,
    },
    Drop {
        which: u8,
    },
    Shift(u32),
    RollBack,
    Drain,
    Clock(u64),
}

fn told() -> impl Strategy<Value = Do> {
    prop_oneof![
        8 => (0..9_u32).prop_map(Do::Item),
        4 => (0..60_u64).prop_map(Do::Take),
        2 => Just(Do::Wait),
        1 => Just(Do::Fail),
        1 => Just(Do::Excuse),
        1 => Just(Do::Panic),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let opening = vec(
        prop_oneof![6 => Just(Do::Take(1)), 2 => Just(Do::Wait), 1 => Just(Do::Fail), 1 => Just(Do::Panic)],
        0..2,
    );
    prop_oneof![
        6 => (any::<u8>(), opening, vec(told(), 0..8))
            .prop_map(|(user, opening, items)| Step::Ask { user, opening, items }),
        1 => any::<u8>().prop_map(|user| Step::Leave { user }),
        12 => any::<u8>().prop_map(|which| Step::Read { which }),
        2 => any::<u8>().prop_map(|which| Step::Drop { which }),
        1 => (0..=1_000_000_u32).prop_map(Step::Shift),
        1 => Just(Step::RollBack),
        1 => Just(Step::Drain),
        1 => (0..2_000_u64).prop_map(Step::Clock),
    ]
}

/// What the test itself has counted, by arm.
#[derive(Debug, Default, PartialEq)]
struct Books {
    started: [u64; 2],
    ended: [u64; 2],
    /// Streams that gave an item, and the items.
    answered: [u64; 2],
    items: [u64; 2],
}

/// A stream under way: whether it counts, its arm, and what it gave so far.
struct Kept {
    stream: ItemStream<Told, ManualClock>,
    arm: usize,
    counts: bool,
    given: u64,
}

impl Kept {
    fn end(self, books: &mut Books) {
        if self.counts {
            books.ended[self.arm] += 1;
            books.items[self.arm] += self.given.max(1);
            books.answered[self.arm] += 1;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_stream_that_began_has_ended_once_or_is_in_flight(
        policy in prop_oneof![Just(Fallback::Never), Just(Fallback::OnPanic), Just(Fallback::OnFailure)],
        steps in vec(step(), 0..80),
    ) {
        let stage = Stage::new(policy, true);
        let router = &stage.router;
        let (mut books, mut kept) = (Books::default(), Vec::<Kept>::new());
        for step in steps {
            match step {
                Step::Ask { user, opening, items } => {
                    let request = Request::of(u64::from(user));
                    let arm = router.arm_of(&request).index();
                    books.started[arm] += 1;
                    let gives = items.iter().any(|step| matches!(step, Do::Item(_)));
                    let script = Script { only: None, opening, items };
                    match block_on(router.predict_stream(request, &script)) {
                        Ok(answer) if gives => {
                            let counts = !answer.fell_back;
                            if !counts {
                                books.ended[arm] += 1;
                            }
                            kept.push(Kept { stream: answer.output, arm, counts, given: 0 });
                        }
                        // A stand-in, or a stream that has nothing to say, ends like a failure.
                        Ok(_) | Err(_) => books.ended[arm] += 1,
                    }
                }
                Step::Leave { user } => {
                    let request = Request::of(u64::from(user));
                    let arm = router.arm_of(&request).index();
                    books.started[arm] += 1;
                    books.ended[arm] += 1;
                    let script = Script::of(&[Do::Hang]);
                    crate::begin_and_leave(router.predict_stream(request, &script));
                }
                Step::Read { which } => {
                    if kept.is_empty() { continue; }
                    let at = usize::from(which) % kept.len();
                    match block_on(kept[at].stream.next_item()) {
                        Some(Ok(_)) => kept[at].given += 1,
                        Some(Err(_)) | None => kept.swap_remove(at).end(&mut books),
                    }
                }
                Step::Drop { which } => {
                    if kept.is_empty() { continue; }
                    let at = usize::from(which) % kept.len();
                    kept.swap_remove(at).end(&mut books);
                }
                Step::Shift(ppm) => shift(router, TrafficShare::from_ppm(ppm).unwrap()),
                Step::RollBack => _ = router.switch().roll_back(),
                Step::Drain => _ = router.drain(),
                Step::Clock(millis) => stage.clock.advance(Duration::from_millis(millis)),
            }
            let in_flight = |arm: usize| {
                kept.iter().filter(|kept| kept.counts && kept.arm == arm).count() as u64
            };
            let totals = router.totals();
            for (arm, counts) in totals.iter().enumerate() {
                prop_assert_eq!(counts.started, books.started[arm]);
                prop_assert_eq!(counts.in_flight(), in_flight(arm), "{:?}", counts);
                let ended: u64 = Status::ALL.iter().map(|status| counts.of(*status)).sum();
                prop_assert_eq!(ended, books.ended[arm]);
                let streams = counts.streams.as_deref().cloned().unwrap_or_default();
                prop_assert_eq!(streams.ended, books.ended[arm]);
                prop_assert_eq!(streams.answered, books.answered[arm]);
                prop_assert_eq!(streams.items, books.items[arm]);
                prop_assert_eq!(streams.first.count(), streams.answered);
                prop_assert_eq!(streams.gaps.count(), streams.items - streams.answered);
                prop_assert!(streams.broken + streams.abandoned <= streams.answered);
            }
            // What is in force is part of it.
            for arm in [Arm::BASELINE, Arm::CANDIDATE] {
                let now = stage.arm(arm).streams.map_or(0, |streams| streams.ended);
                prop_assert!(now <= books.ended[arm.index()]);
            }
        }
    }
}

#[test]
fn streams_that_end_on_many_threads_while_others_look_are_all_counted_once() {
    const THREADS: u64 = 4;
    const EACH: u64 = 500;
    let stage = Stage::new(Fallback::Never, true);
    let script = Script::of(&[Do::Item(1), Do::Item(2), Do::Item(3)]);
    let router = &stage.router;
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let script = &script;
            scope.spawn(move || {
                for user in 0..EACH {
                    let request = Request::of(thread * EACH + user);
                    let mut stream =
                        block_on(router.predict_stream(request, script)).unwrap().output;
                    if user % 3 > 0 {
                        while block_on(stream.next_item()).is_some() {}
                    }
                }
            });
        }
        for look in 0..60_u32 {
            if look % 20 == 0 {
                shift(router, TrafficShare::from_ppm(200_000 + look).unwrap());
            }
            drop(router.snapshot());
            router.drain();
        }
    });
    let totals = router.totals();
    let sum = |of: fn(&StreamCounts) -> u64| -> u64 {
        totals.iter().filter_map(|arm| arm.streams.as_deref()).map(of).sum()
    };
    let left = THREADS * EACH.div_ceil(3);
    assert_eq!(totals.iter().map(|arm| arm.started).sum::<u64>(), THREADS * EACH);
    assert_eq!(totals.iter().map(|arm| arm.in_flight()).sum::<u64>(), 0);
    assert_eq!((sum(|s| s.ended), sum(|s| s.abandoned)), (THREADS * EACH, left));
    assert_eq!(sum(|s| s.items), 3 * (THREADS * EACH - left) + left);
    assert_eq!(sum(|s| s.gaps.count()), 2 * (THREADS * EACH - left));
}
