//! The request path, for people who want to see distributions: `cargo bench --bench request_path`.
//!
//! What guards against regressions is `scripts/instructions.sh`; what compares with others is
//! `cargo run --release -p rivals`.

use std::convert::Infallible;
use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Instant;

use criterion::Criterion;
use pilotage::clock::Moment;
use pilotage::ids::{Arm, Epoch, Segment};
use pilotage::model::{self, FnModel};
use pilotage::observe::record::{CallKey, Draw, SubjectTag, Words};
use pilotage::observe::recorder::{Recorder, Size};
use pilotage::outcome::Outcome;
use pilotage::route::switch::TrafficSwitch;
use pilotage::serve::request::Request;
use pilotage::serve::router::Router;
use pilotage::share::TrafficShare;

type Echo = FnModel<u64, u64, Infallible, fn(&u64) -> Result<u64, Infallible>>;

fn echo() -> Echo {
    let function: fn(&u64) -> Result<u64, Infallible> = |number| Ok(black_box(*number));
    model::sync(function)
}

fn router() -> Router<Echo> {
    let router = Router::builder("bench").stable("old", echo()).build().expect("it is sound");
    router.deploy("new", echo()).expect("there is room");
    let half = router.split().shifted(TrafficShare::HALF);
    router.switch().shift(&half).expect("the order is next");
    router
}

/// Calls between two drains, so that no ring fills.
const BATCH: u64 = 4_096;

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn drained(criterion: &mut Criterion, name: &str, mut call: impl FnMut(u64), drain: impl Fn()) {
    criterion.bench_function(name, |bencher| {
        bencher.iter_custom(|times| {
            let mut took = std::time::Duration::ZERO;
            let mut done = 0;
            while done < times {
                let batch = BATCH.min(times - done);
                let began = Instant::now();
                (done..done + batch).for_each(&mut call);
                took += began.elapsed();
                drain();
                done += batch;
            }
            took
        });
    });
}

fn request_path(criterion: &mut Criterion) {
    criterion.bench_function("two Instant::now", |bencher| {
        #[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
        bencher.iter(|| {
            let began = black_box(Instant::now());
            black_box(Instant::now().saturating_duration_since(began))
        });
    });
    let ids: Vec<String> = (0..64).map(|number| format!("user-{number:011}")).collect();
    let id = |at: u64| ids[at as usize % 64].as_str();
    let router = router();
    let drain = || {
        router.drain();
    };
    let predict_sync = |at| drop(black_box(router.predict_sync(&Request::of(id(at)), &at)));
    drained(criterion, "predict_sync", predict_sync, drain);
    let mut context = Context::from_waker(Waker::noop());
    let predict = |at| {
        let answer = pin!(router.predict(Request::of(id(at)), &at));
        drop(black_box(answer.poll(&mut context)));
    };
    drained(criterion, "predict", predict, drain);
    let begin = |at| {
        black_box(router.begin(&Request::of(id(at))).finish(Outcome::ok()));
    };
    drained(criterion, "begin and finish", begin, drain);

    let recorder = Recorder::new(Size::default(), Epoch::new(0), Moment::ZERO);
    let record = |at| {
        let subject = Some(SubjectTag::of(at));
        let (arm, epoch) = (Arm::BASELINE, Epoch::new(0));
        let key = CallKey::new(arm, epoch, Segment::NONE, subject, Draw::Random);
        recorder.write(Words::of(black_box(key), at, &Outcome::ok(), false));
    };
    let drain = || drop(recorder.drain(Moment::ZERO, Epoch::new(0)));
    drained(criterion, "record", record, drain);
    criterion.bench_function("arm_of", |bencher| {
        bencher.iter(|| black_box(router.arm_of(&Request::of(black_box("user-00000000042")))));
    });
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    request_path(&mut criterion);
    criterion.final_summary();
}
