//! Every way a stream can end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use pilotage::ids::Arm;
use pilotage::observe::stream_counts::StreamCounts;
use pilotage::outcome::Status;
use pilotage::serve::builder::{BuildError, Fallback};
use pilotage::serve::request::Request;
use pilotage::serve::router::Router;
use pilotage::share::TrafficShare;

use crate::{Do, Failed, Script, Stage, begin_and_leave, block_on, ended, read, shift};

/// What the reader does.
#[derive(Clone, Copy, Debug)]
enum Reader {
    ReadsAll,
    /// Takes so many items and goes.
    Takes(usize),
    /// Goes while it waits for the first.
    LeavesBefore,
    /// Takes the first, waits once for another and goes.
    LeavesAmid,
}

/// A script, its reader, and what is counted: the status; of streams answered, broken, abandoned.
type Case = (Script, Reader, Status, [u64; 3]);

fn cases() -> Vec<Case> {
    use Do::{Excuse, Fail, Hang, Item, Panic, Take, Wait};
    use Reader::{LeavesAmid, LeavesBefore, ReadsAll, Takes};
    let of = Script::of;
    vec![
        (of(&[Item(1), Wait, Item(2)]), ReadsAll, Status::Ok, [1, 0, 0]),
        (of(&[]), ReadsAll, Status::Ok, [0, 0, 0]),
        // Failures before the first item, in asking and in waiting for it.
        (Script::opening(&[Wait, Fail]), ReadsAll, Status::Error, [0, 0, 0]),
        (of(&[Wait, Fail]), ReadsAll, Status::Error, [0, 0, 0]),
        (Script::opening(&[Panic]), ReadsAll, Status::Panicked, [0, 0, 0]),
        (of(&[Wait, Panic]), ReadsAll, Status::Panicked, [0, 0, 0]),
        (of(&[Excuse]), ReadsAll, Status::Cancelled, [0, 0, 0]),
        // Failures amid the items.
        (of(&[Item(1), Item(2), Fail]), ReadsAll, Status::Error, [1, 1, 0]),
        (of(&[Item(1), Wait, Panic]), ReadsAll, Status::Panicked, [1, 1, 0]),
        (of(&[Item(1), Excuse]), ReadsAll, Status::Cancelled, [1, 0, 0]),
        // The reader goes.
        (Script::opening(&[Hang]), LeavesBefore, Status::Cancelled, [0, 0, 0]),
        (of(&[Hang]), LeavesBefore, Status::Cancelled, [0, 0, 0]),
        (of(&[Item(1), Item(2)]), Takes(0), Status::Cancelled, [1, 0, 1]),
        (of(&[Item(1), Item(2)]), Takes(1), Status::Cancelled, [1, 0, 1]),
        // It took all there was, but does not know: the end was never read.
        (of(&[Item(1), Item(2)]), Takes(2), Status::Cancelled, [1, 0, 1]),
        (of(&[Item(1), Hang]), LeavesAmid, Status::Cancelled, [1, 0, 1]),
        // Deadlines: 100 ms for the first item, a second for all.
        (of(&[Take(101), Item(1), Item(2)]), ReadsAll, Status::Timeout, [1, 0, 0]),
        (of(&[Take(101)]), ReadsAll, Status::Timeout, [0, 0, 0]),
        (Script::opening(&[Take(101), Hang]), LeavesBefore, Status::Timeout, [0, 0, 0]),
        (of(&[Take(101), Item(1), Hang]), LeavesAmid, Status::Timeout, [1, 0, 1]),
        (of(&[Take(100), Item(1), Take(900), Item(2)]), ReadsAll, Status::Ok, [1, 0, 0]),
        (of(&[Take(100), Item(1), Take(901)]), ReadsAll, Status::Timeout, [1, 0, 0]),
        (of(&[Item(1), Take(1_001), Hang]), LeavesAmid, Status::Timeout, [1, 0, 1]),
        // What failed has failed, late or not.
        (of(&[Take(101), Fail]), ReadsAll, Status::Error, [0, 0, 0]),
        (of(&[Item(1), Take(2_000), Panic]), ReadsAll, Status::Panicked, [1, 1, 0]),
    ]
}

fn play(stage: &Stage, script: &Script, reader: Reader) {
    let asked = stage.router.predict_stream(Request::of("user"), script);
    if matches!(reader, Reader::LeavesBefore) {
        return begin_and_leave(asked);
    }
    let Ok(answer) = block_on(asked) else { return };
    let mut stream = answer.output;
    match reader {
        Reader::ReadsAll | Reader::LeavesBefore => drop(read(stream)),
        Reader::Takes(items) => block_on(async {
            for _ in 0..items {
                assert!(stream.next_item().await.is_some());
            }
        }),
        Reader::LeavesAmid => {
            assert!(block_on(stream.next_item()).is_some());
            begin_and_leave(stream.next_item());
        }
    }
}

#[test]
fn every_end_of_a_stream_counts_once_on_the_arm_that_served_it() {
    for (share, served, other) in [
        (TrafficShare::NONE, Arm::BASELINE, Arm::CANDIDATE),
        (TrafficShare::ALL, Arm::CANDIDATE, Arm::BASELINE),
    ] {
        for case in cases() {
            let (script, reader, status, [answered, broken, abandoned]) = &case;
            let stage = Stage::new(Fallback::Never, true);
            shift(&stage.router, share);
            play(&stage, script, *reader);
            let counts = stage.arm(served);
            let mut expected = [0; 5];
            expected[status.index()] = 1;
            assert_eq!(ended(&counts), expected, "{case:?}");
            assert_eq!((counts.started, counts.in_flight()), (1, 0), "{case:?}");
            assert_eq!(counts.latency.count(), u64::from(*status == Status::Ok), "{case:?}");
            let streams = counts.streams.as_deref().cloned().unwrap_or_default();
            let StreamCounts { ended: all, answered: some, broken: broke, .. } = streams;
            assert_eq!((all, some, broke), (1, *answered, *broken), "{case:?}");
            assert_eq!(streams.abandoned, *abandoned, "{case:?}");
            assert_eq!(stage.arm(other).started, 0, "{case:?}");
            assert_eq!(stage.arm(other).streams, None, "{case:?}");
            // And nothing more comes after.
            assert_eq!(stage.arm(served), counts, "{case:?}");
        }
    }
}

#[test]
fn a_stream_is_in_flight_until_it_ends() {
    let stage = Stage::new(Fallback::Never, true);
    let script = Script::of(&[Do::Item(1), Do::Item(2)]);
    let answer = block_on(stage.router.predict_stream(Request::of("user"), &script)).unwrap();
    assert_eq!((stage.arm(Arm::BASELINE).in_flight(), answer.arm), (1, Arm::BASELINE));
    assert_eq!(stage.arm(Arm::BASELINE).streams, None, "nothing is counted of it before its end");
    let mut stream = answer.output;
    assert_eq!(block_on(stream.next_item()), Some(Ok(1)));
    assert_eq!(block_on(stream.next_item()), Some(Ok(2)));
    assert_eq!(stage.arm(Arm::BASELINE).in_flight(), 1);
    assert_eq!(block_on(stream.next_item()), None);
    assert_eq!(ended(&stage.arm(Arm::BASELINE)), [1, 0, 0, 0, 0]);
    drop(stream);
    assert_eq!(ended(&stage.arm(Arm::BASELINE)), [1, 0, 0, 0, 0], "its drop is no second end");
}

#[test]
fn what_came_before_a_failure_is_the_readers() {
    let stage = Stage::new(Fallback::OnFailure, true);
    let ask = |script: &Script| block_on(stage.router.predict_stream(Request::of("user"), script));
    let broken = ask(&Script::of(&[Do::Item(1), Do::Item(2), Do::Fail, Do::Item(3)])).unwrap();
    assert_eq!(read(broken.output), [Ok(1), Ok(2), Err(Failed::Model)]);
    let panicked = ask(&Script::of(&[Do::Item(1), Do::Panic, Do::Item(3)])).unwrap();
    assert_eq!(read(panicked.output), [Ok(1), Err(Failed::Panic)]);
    assert_eq!(ask(&Script::of(&[Do::Panic])).unwrap_err(), Failed::Panic);
    assert_eq!(ask(&Script::opening(&[Do::Fail])).unwrap_err(), Failed::Model);
}

#[test]
fn a_panic_that_has_no_error_is_counted_and_then_the_readers() {
    let stage = Stage::new(Fallback::Never, false);
    let script = Script::of(&[Do::Item(1), Do::Panic, Do::Item(2)]);
    let answer = block_on(stage.router.predict_stream(Request::of("user"), &script)).unwrap();
    let mut stream = answer.output;
    assert_eq!(block_on(stream.next_item()), Some(Ok(1)));
    let panicked = catch_unwind(AssertUnwindSafe(|| block_on(stream.next_item())));
    assert_eq!(*panicked.unwrap_err().downcast::<&str>().unwrap(), "told to");
    assert_eq!(ended(&stage.arm(Arm::BASELINE)), [0, 0, 0, 0, 1]);
    assert_eq!(block_on(stream.next_item()), None, "the stream is over");
    let before = catch_unwind(AssertUnwindSafe(|| {
        let script = Script::of(&[Do::Panic]);
        drop(block_on(stage.router.predict_stream(Request::of("user"), &script)));
    }));
    assert!(before.is_err());
    assert_eq!(ended(&stage.arm(Arm::BASELINE)), [0, 0, 0, 0, 2]);
}

#[test]
fn panics_amid_streams_take_the_candidate_out_like_others() {
    let stage = Stage::new(Fallback::Never, true);
    let router = Router::builder("trip")
        .trip_after_panics(2)
        .stable("old", stage.model.clone())
        .build()
        .unwrap();
    router.deploy("new", stage.model.clone()).unwrap();
    shift(&router, TrafficShare::ALL);
    let script = Script::of(&[Do::Item(1), Do::Panic]);
    let arms = [(); 3].map(|()| {
        let answer = block_on(router.predict_stream(Request::of("user"), &script)).unwrap();
        drop(read(answer.output));
        answer.arm
    });
    assert_eq!(arms, [Arm::CANDIDATE, Arm::CANDIDATE, Arm::BASELINE]);
}

#[test]
fn a_generator_whose_drop_panics_harms_nobody() {
    use std::convert::Infallible;
    struct Bomb(bool);
    impl Iterator for Bomb {
        type Item = Result<u8, Infallible>;
        fn next(&mut self) -> Option<Self::Item> {
            std::mem::take(&mut self.0).then_some(Ok(1))
        }
    }
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("in its drop");
        }
    }
    let model = pilotage::stream_model::sync(|items: &bool| Ok::<_, Infallible>(Bomb(*items)));
    let router = Router::builder("bomb").stable("v1", model).build().unwrap();
    for items in [true, false] {
        let answer = router.predict_stream_sync(&Request::of("user"), &items).unwrap();
        assert_eq!(answer.output.count(), usize::from(items));
    }
    drop(router.predict_stream_sync(&Request::of("user"), &true).unwrap());
    assert_eq!(ended(&router.snapshot().arms[0]), [2, 0, 0, 1, 0]);
}

#[test]
fn a_deadline_of_nothing_for_streams_is_refused() {
    let built = Router::builder("zero").stream_deadline(Duration::ZERO).stable("v1", ()).build();
    assert_eq!(built.unwrap_err(), BuildError::ZeroDeadline);
}
