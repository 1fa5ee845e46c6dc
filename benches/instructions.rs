//! What the request path costs in instructions, for `scripts/instructions.sh` to count.
//!
//! `instructions WHAT TIMES` does one thing so many times; the difference between two numbers of
//! times, counted by callgrind, is the cost of one. Without arguments it does everything once, so
//! that `cargo bench` has nothing to complain about.

use std::convert::Infallible;
use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Waker};

use pilotage::clock::{Clock, Moment};
use pilotage::ids::{Arm, Epoch, Segment};
use pilotage::model::{self, Call, Model};
use pilotage::observe::record::{CallKey, Draw, SubjectTag, Words};
use pilotage::observe::recorder::{Recorder, Size};
use pilotage::outcome::Outcome;
use pilotage::route::switch::TrafficSwitch;
use pilotage::serve::limit::CandidateLimit;
use pilotage::serve::request::Request;
use pilotage::serve::router::Router;
use pilotage::share::TrafficShare;

/// A clock that costs nothing.
struct Stopped;

impl Clock for Stopped {
    #[inline]
    fn now(&self) -> Moment {
        Moment::ZERO
    }
}

struct Echo;

impl Model for Echo {
    type Input = u64;
    type Output = u64;
    type Error = Infallible;

    async fn predict(&self, input: &u64, _call: &Call) -> Result<u64, Infallible> {
        Ok(*input)
    }
}

/// Big enough that no ring fills between two drains.
const SIZE: fn() -> Size = || Size { shards: 1, records: 1 << 16, ..Size::default() };

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let what = arguments.next();
    let times: u64 = arguments.next().and_then(|times| times.parse().ok()).unwrap_or(1);
    let all = [
        "loop",
        "predict",
        "predict_bounded",
        "predict_async",
        "begin_finish",
        "record",
        "split_and_hash",
    ];
    for name in all {
        if what.as_deref().is_none_or(|what| what == name) {
            run(name, times);
        }
    }
}

fn run(what: &str, times: u64) {
    let echo: fn(&u64) -> Result<u64, Infallible> = |number| Ok(*number);
    let router = |limit| {
        let router = Router::builder("cost").clock(Stopped).size(SIZE()).candidate_limit(limit);
        let router = router.stable("old", model::sync(echo)).build().expect("the router is sound");
        router.deploy("new", model::sync(echo)).expect("there is room");
        let half = router.split().shifted(TrafficShare::HALF);
        router.switch().shift(&half).expect("the order is next");
        router
    };
    let bounded = router(CandidateLimit::Automatic);
    let router = router(CandidateLimit::Unlimited);
    let recorder = Recorder::new(SIZE(), Epoch::new(0), Moment::ZERO);
    let ids: Vec<String> = (0..64).map(|number| format!("user-{number:011}")).collect();
    let id = |at: u64| black_box(ids[at as usize % 64].as_str());
    let subject = Some(SubjectTag::of(77));
    let key = CallKey::new(Arm::BASELINE, Epoch::new(0), Segment::NONE, subject, Draw::Random);
    match what {
        // What the loop around the others costs.
        "loop" => (0..times).for_each(|at| {
            black_box(&Request::of(id(at)));
        }),
        "predict" => (0..times).for_each(|at| {
            assert!(black_box(router.predict_sync(&Request::of(id(at)), &at)).is_ok());
        }),
        // A call of the candidate alone, which asks for its place; the baseline's are as above.
        "predict_bounded" => {
            let on_candidate =
                |id: &&String| bounded.arm_of(&Request::of(id.as_str())) == Arm::CANDIDATE;
            let ids: Vec<&String> = ids.iter().filter(on_candidate).collect();
            let id = |at: u64| black_box(ids[at as usize % ids.len()].as_str());
            (0..times).for_each(|at| {
                assert!(black_box(bounded.predict_sync(&Request::of(id(at)), &at)).is_ok());
            });
        }
        "predict_async" => {
            let router = Router::builder("cost").clock(Stopped).size(SIZE()).stable("old", Echo);
            let router = router.build().expect("the router is sound");
            let mut context = Context::from_waker(Waker::noop());
            (0..times).for_each(|at| {
                let answer = pin!(router.predict(Request::of(id(at)), &at));
                assert!(black_box(answer.poll(&mut context)).is_ready());
            });
        }
        "begin_finish" => (0..times).for_each(|at| {
            black_box(router.begin(&Request::of(id(at))).finish(black_box(Outcome::ok())));
        }),
        "record" => (0..times).for_each(|at| {
            let outcome = Outcome::ok();
            recorder.write(Words::of(black_box(key), black_box(at), &outcome, false));
        }),
        "split_and_hash" => (0..times).for_each(|at| {
            black_box(router.arm_of(&Request::of(id(at))));
        }),
        other => println!("nothing is called {other}"),
    }
}
