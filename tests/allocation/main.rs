//! The request path allocates nothing. In a program of its own, because the allocator it counts with
//! belongs to the whole program; each test counts for its own thread.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::convert::Infallible;
use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use pilotage::model::{self, Call, Model};
use pilotage::outcome::Outcome;
use pilotage::route::switch::TrafficSwitch;
use pilotage::serve::request::Request;
use pilotage::serve::router::Router;
use pilotage::share::TrafficShare;
use pilotage::stream_model;

/// The system's allocator, and how often this thread asked it.
struct Counting;

thread_local! {
    static ASKED: Cell<u64> = const { Cell::new(0) };
}

fn asked() {
    // A thread that is ending has no counter, and nothing to count.
    let _ = ASKED.try_with(|asked| asked.set(asked.get() + 1));
}

// SAFETY: every method hands its arguments on to the system's allocator unchanged, so whatever the
// caller promised holds there; counting touches a constant-initialised thread-local and allocates
// nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        asked();
        // SAFETY: the caller's promise, handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        asked();
        // SAFETY: the caller's promise, handed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Async;

impl Model for Async {
    type Input = str;
    type Output = usize;
    type Error = Infallible;

    async fn predict(&self, input: &str, _call: &Call) -> Result<usize, Infallible> {
        Ok(input.len())
    }
}

fn ready<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("the model does not wait"),
    }
}

/// How often `call` asks the allocator in 10,000 repetitions, after a first one.
fn allocations(mut call: impl FnMut(u64)) -> u64 {
    call(0);
    let before = ASKED.with(Cell::get);
    (1..=10_000).for_each(&mut call);
    ASKED.with(Cell::get) - before
}

#[test]
fn begin_finish_and_predict_never_allocate_even_when_the_ring_is_full() {
    let asynchronous = Router::builder("async")
        .segments(["free", "premium"])
        .stable("old", Async)
        .build()
        .unwrap();
    asynchronous.deploy("new", Async).unwrap();
    let length: fn(&str) -> Result<usize, Infallible> = |text| Ok(text.len());
    let sync = Router::builder("sync").stable("old", model::sync(length)).build().unwrap();
    sync.deploy("new", model::sync(length)).unwrap();
    for switch in [asynchronous.switch(), sync.switch()] {
        let half = switch.read().shifted(TrafficShare::HALF);
        switch.shift(&half.exposed(TrafficShare::HALF)).unwrap_err();
        switch.shift(&half).unwrap();
    }
    // 10,000 calls overflow a ring of 8,192, so both ways of recording are covered.
    let counts = [
        allocations(|user| {
            let request = Request::of(user).segment("premium");
            assert!(black_box(ready(asynchronous.predict(request, "four"))).is_ok());
        }),
        allocations(|user| {
            assert!(black_box(sync.predict_sync(&Request::of(user), "four")).is_ok());
        }),
        allocations(|_| {
            let guard = sync.begin(&Request::anonymous());
            black_box(guard.finish(Outcome::error().with_score(0.5).with_mark(1)));
        }),
        allocations(|user| drop(sync.begin(&Request::of(user)))),
        allocations(|user| {
            black_box(asynchronous.arm_of(&Request::of(user)));
        }),
    ];
    assert_eq!(counts, [0; 5]);
    let lost: u64 = sync.snapshot().arms.iter().map(|arm| arm.detail_lost).sum();
    assert!(lost > 10_000, "the ring was never full");
}

#[test]
fn an_item_of_a_stream_allocates_nothing_and_a_stream_once() {
    let numbers = stream_model::sync(|upto: &u64| Ok((0..*upto).map(Ok::<_, Infallible>)));
    let router = Router::builder("stream").stable("v1", numbers).build().unwrap();
    let request = Request::of("user");
    let whole = |items: u64| {
        allocations(|_| {
            let stream = router.predict_stream_sync(&request, &items).unwrap().output;
            assert_eq!(black_box(stream).count() as u64, items);
        })
    };
    // Its gaps are counted in a box, which is asked for and given back. Nothing else.
    assert_eq!([whole(1), whole(50)], [20_000; 2]);
    let mut long = router.predict_stream_sync(&request, &u64::MAX).unwrap().output;
    // So long that buckets of gaps overflow into the shared counters.
    let items = (0..20).map(|_| {
        allocations(|_| {
            black_box(long.next());
        })
    });
    assert_eq!(items.sum::<u64>(), 0);
}
