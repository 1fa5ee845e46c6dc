//! A stream outlives its handler, and its model outlives the stream.

use std::convert::Infallible;
use std::sync::atomic::Ordering;

use pilotage::clock::ManualClock;
use pilotage::ids::{Arm, Name};
use pilotage::serve::builder::Fallback;
use pilotage::serve::request::Request;
use pilotage::serve::router::{Retired, Router};
use pilotage::serve::stream::ItemStream;
use pilotage::share::TrafficShare;
use pilotage::stream_model::{self, BoxStreamModel};

use crate::{Do, Script, Stage, Told, block_on, ended, read, shift};

#[test]
fn a_retired_model_is_kept_until_its_stream_has_ended() {
    let stage = Stage::on_candidate(Fallback::OnFailure);
    let script = Script::of(&[Do::Item(1), Do::Item(2)]);
    let ask = || block_on(stage.router.predict_stream(Request::of("user"), &script)).unwrap();
    let (mut read_on, left) = (ask().output, ask().output);
    stage.router.switch().roll_back();
    assert_eq!(stage.router.retire_idle(), Retired::StillDraining(2));
    drop(left);
    assert_eq!(stage.router.retire_idle(), Retired::StillDraining(1));
    for expected in [Some(Ok(1)), Some(Ok(2)), None] {
        assert_eq!(block_on(read_on.next_item()), expected);
    }
    // It has ended, though nobody has dropped it yet.
    assert_eq!(stage.router.retire_idle(), Retired::Gone(Name::new("new").unwrap()));
    assert_eq!(stage.model.dropped.load(Ordering::Relaxed), 2);
    drop(read_on);
    let counts = &stage.router.totals()[1];
    assert_eq!((ended(counts), counts.in_flight()), ([1, 0, 0, 1, 0], 0));
}

#[test]
fn a_baseline_that_stands_in_is_kept_too() {
    let stage = Stage::on_candidate(Fallback::OnFailure);
    let script = Script::of(&[Do::Fail]).only(Arm::CANDIDATE);
    let answer = block_on(stage.router.predict_stream(Request::of("user"), &script)).unwrap();
    // The candidate is promoted, so the old baseline stands idle.
    pilotage::route::switch::TrafficSwitch::shift(
        &*stage.router.switch(),
        &stage.router.split().promoted(),
    )
    .unwrap();
    assert_eq!(stage.router.retire_idle(), Retired::StillDraining(1));
    assert_eq!(read(answer.output), [Ok(1), Ok(2)]);
    assert_eq!(stage.router.retire_idle(), Retired::Gone(Name::new("old").unwrap()));
}

#[test]
fn a_stream_that_ends_lets_go_of_its_generator_at_once() {
    let stage = Stage::new(Fallback::Never, true);
    for end in [Do::Fail, Do::Panic] {
        let before = stage.model.dropped.load(Ordering::Relaxed);
        let script = Script::of(&[Do::Item(1), end]);
        let answer = block_on(stage.router.predict_stream(Request::of("user"), &script)).unwrap();
        let mut stream = answer.output;
        assert!(block_on(stream.next_item()).unwrap().is_ok());
        assert!(block_on(stream.next_item()).unwrap().is_err());
        assert_eq!(stage.model.dropped.load(Ordering::Relaxed), before + 1);
        drop(stream);
    }
}

#[test]
fn a_stream_may_be_sent_to_other_threads_and_outlive_its_router() {
    fn is_body<B: Send + Unpin + 'static>(_: &B) {}
    let stage = Stage::on_candidate(Fallback::Never);
    let router = stage.router.clone();
    let streams: Vec<ItemStream<Told, ManualClock>> = (0..4_u64)
        .map(|user| {
            let script = Script::of(&[Do::Item(1), Do::Wait, Do::Item(2)]);
            let asked = router.predict_stream(Request::of(user), &script);
            let stream = block_on(asked).unwrap().output;
            is_body(&stream);
            stream
        })
        .collect();
    drop(router);
    std::thread::scope(|scope| {
        for stream in streams {
            scope.spawn(|| assert_eq!(read(stream), [Ok(1), Ok(2)]));
        }
    });
    let counts = stage.arm(Arm::CANDIDATE);
    assert_eq!(ended(&counts), [4, 0, 0, 0, 0]);
    assert_eq!(counts.streams.unwrap().items, 8);
}

#[test]
fn the_future_of_a_stream_may_be_spawned() {
    fn is_send<F: Send>(future: F) -> F {
        future
    }
    let stage = Stage::new(Fallback::OnFailure, true);
    let script = Script::of(&[Do::Item(1)]);
    drop(is_send(stage.router.predict_stream(Request::of("user"), &script)));
    assert_eq!(stage.arm(Arm::BASELINE).started, 0, "nothing begins before it is polled");
}

#[test]
fn arms_of_different_types_stream_behind_one() {
    /// Streams what it is asked, backwards, and stops at a space.
    struct Backwards;
    impl stream_model::SyncStreamModel for Backwards {
        type Input = str;
        type Item = char;
        type Error = Infallible;
        type Items = std::iter::Map<std::vec::IntoIter<char>, fn(char) -> Result<char, Infallible>>;

        fn stream_sync(
            &self,
            input: &str,
            _call: &pilotage::model::Call,
        ) -> Result<Self::Items, Infallible> {
            let letters: Vec<char> = input.chars().rev().take_while(|c| *c != ' ').collect();
            let ok: fn(char) -> Result<char, Infallible> = Ok;
            Ok(letters.into_iter().map(ok))
        }
    }
    let forwards = stream_model::sync(|text: &str| {
        Ok(text.to_owned().chars().map(Ok::<_, Infallible>).collect::<Vec<_>>().into_iter())
    });
    type Any = BoxStreamModel<str, char, Infallible>;
    let router = Router::builder("letters").stable("forwards", Any::new(forwards)).build().unwrap();
    router.deploy("backwards", Any::new(Backwards)).unwrap();
    let ask = || {
        let answer = block_on(router.predict_stream(Request::of("user"), "to be")).unwrap();
        let mut stream = answer.output;
        let mut text = String::new();
        block_on(async {
            while let Some(Ok(letter)) = stream.next_item().await {
                text.push(letter);
            }
        });
        (answer.arm, text)
    };
    assert_eq!(ask(), (Arm::BASELINE, "to be".to_owned()));
    shift(&router, TrafficShare::ALL);
    assert_eq!(ask(), (Arm::CANDIDATE, "eb".to_owned()));
}
