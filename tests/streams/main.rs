//! Promises of streams: each counts once, as what became of it, and nobody waits for the counting.

mod conservation;
mod ends;
mod fallback;
mod figures;
mod guardrails;
mod lifetime;

use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use pilotage::clock::{Clock, ManualClock};
use pilotage::ids::Arm;
use pilotage::model::Call;
use pilotage::observe::snapshot::ArmCounts;
use pilotage::outcome::Status;
use pilotage::route::switch::TrafficSwitch;
use pilotage::serve::builder::Fallback;
use pilotage::serve::router::Router;
use pilotage::serve::stream::ItemStream;
use pilotage::share::TrafficShare;
use pilotage::stream_model::{Items, StreamModel};
use pollster::block_on;

/// What a [`Told`] model does next.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Do {
    Item(u32),
    /// Takes so many milliseconds of the manual clock.
    Take(u64),
    /// Is not ready, once.
    Wait,
    /// Is never ready again.
    Hang,
    Fail,
    /// Fails in a way the reader is to blame for.
    Excuse,
    Panic,
}

/// What a model is asked: what to do before there is a stream, and what within it.
#[derive(Clone, Debug, Default)]
struct Script {
    /// Obeyed by this arm alone; the other streams `[1, 2]`.
    only: Option<Arm>,
    opening: Vec<Do>,
    items: Vec<Do>,
}

/// A model that does as it is told.
#[derive(Clone, Debug)]
struct Told {
    clock: ManualClock,
    /// Whether it has an error for its panics.
    smooth: bool,
    /// How many of its streams were dropped.
    dropped: Arc<AtomicU64>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Failed {
    Model,
    Reader,
    Panic,
}

/// A stream of a [`Told`] model.
#[derive(Debug)]
struct Played {
    clock: ManualClock,
    steps: VecDeque<Do>,
    dropped: Arc<AtomicU64>,
}

impl Drop for Played {
    fn drop(&mut self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

impl Items for Played {
    type Item = u32;
    type Error = Failed;

    fn poll_item(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<u32, Failed>>> {
        loop {
            let Some(step) = self.steps.pop_front() else { return Poll::Ready(None) };
            match step {
                Do::Item(item) => return Poll::Ready(Some(Ok(item))),
                Do::Take(millis) => self.clock.advance(Duration::from_millis(millis)),
                Do::Wait => {
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Do::Hang => {
                    self.steps.push_front(Do::Hang);
                    return Poll::Pending;
                }
                Do::Fail => return Poll::Ready(Some(Err(Failed::Model))),
                Do::Excuse => return Poll::Ready(Some(Err(Failed::Reader))),
                Do::Panic => panic!("told to"),
            }
        }
    }
}

impl StreamModel for Told {
    type Input = Script;
    type Item = u32;
    type Error = Failed;
    type Items = Played;

    async fn stream(&self, input: &Script, call: &Call) -> Result<Played, Failed> {
        let obeys = input.only.is_none_or(|only| only == call.arm);
        let steps = if obeys { input.opening.clone() } else { Vec::new() };
        let (clock, dropped) = (self.clock.clone(), Arc::clone(&self.dropped));
        let mut opening = Played { clock, steps: steps.into(), dropped };
        while let Some(step) = std::future::poll_fn(|context| opening.poll_item(context)).await {
            step?;
        }
        opening.steps = if obeys {
            input.items.clone().into()
        } else {
            VecDeque::from([Do::Item(1), Do::Item(2)])
        };
        Ok(opening)
    }

    fn status_of(&self, error: &Failed) -> Status {
        if *error == Failed::Reader { Status::Cancelled } else { Status::Error }
    }

    fn error_for_panic(&self) -> Option<Failed> {
        self.smooth.then_some(Failed::Panic)
    }
}

impl Script {
    fn of(items: &[Do]) -> Self {
        Self { items: items.to_vec(), ..Self::default() }
    }

    fn opening(opening: &[Do]) -> Self {
        Self { opening: opening.to_vec(), ..Self::default() }
    }

    fn only(mut self, arm: Arm) -> Self {
        self.only = Some(arm);
        self
    }
}

/// What a test needs: a router, the models' clock, and a model of the kind it routes to.
struct Stage {
    router: Router<Told, ManualClock>,
    clock: ManualClock,
    model: Told,
}

impl Stage {
    /// 100 ms to the first item, a second for the whole.
    fn new(fallback: Fallback, smooth: bool) -> Self {
        let clock = ManualClock::new();
        let model = Told { clock: clock.clone(), smooth, dropped: Arc::default() };
        let router = Router::builder("streams")
            .clock(clock.clone())
            .deadline(Duration::from_millis(100))
            .stream_deadline(Duration::from_secs(1))
            .fallback(fallback)
            .stable("old", model.clone())
            .build()
            .unwrap();
        router.deploy("new", model.clone()).unwrap();
        Self { router, clock, model }
    }

    /// One that sends everybody to the candidate.
    fn on_candidate(fallback: Fallback) -> Self {
        let stage = Self::new(fallback, true);
        shift(&stage.router, TrafficShare::ALL);
        stage
    }

    fn arm(&self, arm: Arm) -> ArmCounts {
        self.router.snapshot().arms[arm.index()].clone()
    }
}

/// All that comes, the error that broke it off included.
fn read<C: Clock>(mut stream: ItemStream<Told, C>) -> Vec<Result<u32, Failed>> {
    block_on(async {
        let mut read = Vec::new();
        while let Some(item) = stream.next_item().await {
            read.push(item);
        }
        assert_eq!(stream.next_item().await, None, "after the end nothing comes");
        read
    })
}

/// Polls a future once, which must not be ready, and drops it.
fn begin_and_leave<F: Future>(future: F) {
    let mut future = pin!(future);
    assert!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
}

/// Sends this share of traffic to the candidate.
fn shift<M, C: Clock>(router: &Router<M, C>, share: TrafficShare) {
    router.switch().shift(&router.split().shifted(share)).unwrap();
}

/// How an arm's calls ended: ok, error, timeout, cancelled, panicked.
fn ended(counts: &ArmCounts) -> [u64; 5] {
    Status::ALL.map(|status| counts.of(status))
}
