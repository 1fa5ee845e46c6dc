//! Who takes part.

use std::convert::Infallible;
use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Waker};
use std::time::Instant;

use crossbeam_queue::ArrayQueue;
use hdrhistogram::Histogram;
use metrics_exporter_prometheus::PrometheusBuilder;
use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider;
use opentelemetry_sdk::metrics::{ManualReader, SdkMeterProvider};
use parking_lot::Mutex;
use pilotage::adapt::quanta::QuantaClock;
use pilotage::clock::{Clock, Moment, StdClock};
use pilotage::ids::{Arm, Epoch, Segment};
use pilotage::model::{self, Call, FnModel, Model};
use pilotage::observe::record::{CallKey, Draw, SubjectTag, Words};
use pilotage::observe::recorder::{Recorder, Size};
use pilotage::outcome::Outcome;
use pilotage::route::switch::TrafficSwitch;
use pilotage::serve::request::Request;
use pilotage::serve::router::Router;
use pilotage::share::TrafficShare;

use crate::contest::Contestant;

pub const CLOCK: &str = "two Instant::now (yardstick)";
pub const PREDICT: &str = "predict";
pub const PREDICT_QUANTA: &str = "predict, quanta clock";
pub const RECORD: &str = "record";
pub const PROMETHEUS_OBSERVE: &str = "prometheus observe";
pub const PROMETHEUS_STACK: &str = "prometheus stack, clock included";

type Echo = FnModel<u64, u64, Infallible, fn(&u64) -> Result<u64, Infallible>>;

#[inline(never)]
fn opaque(input: &u64) -> Result<u64, Infallible> {
    Ok(black_box(*input))
}

fn echo() -> Echo {
    let function: fn(&u64) -> Result<u64, Infallible> = opaque;
    model::sync(function)
}

fn router<M, C: Clock>(clock: C, echo: impl Fn() -> M) -> Router<M, C> {
    let router = Router::builder("rivals").clock(clock).stable("old", echo()).build();
    let router = router.expect("the router is sound");
    router.deploy("new", echo()).expect("there is room");
    let half = router.split().shifted(TrafficShare::HALF);
    router.switch().shift(&half).expect("the order is next");
    router
}

fn contestant(
    name: &'static str,
    call: impl Fn(u64) + Sync + 'static,
    between: impl Fn() + Sync + 'static,
) -> Contestant {
    Contestant { name, call: Box::new(call), between: Box::new(between) }
}

/// Makes the compiler believe that somebody looks at it.
fn consume<T>(value: T) {
    let _ = black_box(value);
}

/// What a server awaits, with a model that never waits; the future lives on the stack.
fn predict_async() -> Contestant {
    let (router, ids) = (router(StdClock::new(), || Echoing), ids());
    let drained = router.clone();
    contestant(
        "predict, awaited",
        move |at| {
            let id = ids[at as usize % ids.len()].as_str();
            let future = pin!(router.predict(Request::of(id), &at));
            consume(future.poll(&mut Context::from_waker(Waker::noop())));
        },
        move || {
            drained.drain();
        },
    )
}

struct Echoing;

impl Model for Echoing {
    type Input = u64;
    type Output = u64;
    type Error = Infallible;

    async fn predict(&self, input: &u64, _call: &Call) -> Result<u64, Infallible> {
        Ok(*input)
    }
}

/// Sixteen-byte ids, as many as fit into a cache.
fn ids() -> Vec<String> {
    (0..64).map(|number| format!("user-{number:011}")).collect()
}

fn predict<C: Clock + Send + 'static>(name: &'static str, clock: C) -> Contestant {
    let (router, ids) = (router(clock, echo), ids());
    let drained = router.clone();
    contestant(
        name,
        move |at| {
            let id = ids[at as usize % ids.len()].as_str();
            consume(router.predict_sync(&Request::of(id), &at));
        },
        move || {
            drained.drain();
        },
    )
}

type Answering = dyn Fn(&u64) -> Result<u64, Infallible> + Sync;

/// Everybody, in alphabetical disorder.
#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
pub fn all() -> Vec<Contestant> {
    let mut all = vec![
        contestant(
            CLOCK,
            |_| {
                let began = black_box(Instant::now());
                black_box(Instant::now().saturating_duration_since(began));
            },
            || {},
        ),
        predict(PREDICT, StdClock::new()),
        predict(PREDICT_QUANTA, QuantaClock::new()),
        predict_async(),
    ];
    let direct: Box<Answering> = Box::new(opaque);
    all.push(contestant("a direct dyn call", move |at| consume(direct(&at)), || {}));
    all.push(record());
    all.extend(prometheus());
    all.push(prometheus_client());
    all.push(metrics_facade());
    all.push(opentelemetry());
    let histogram = Histogram::<u64>::new_with_bounds(1, 1 << 42, 2).expect("bounds are sound");
    let histogram = Mutex::new(histogram);
    all.push(contestant(
        "hdrhistogram in a parking_lot mutex",
        move |at| histogram.lock().saturating_record(at % 100_000),
        || {},
    ));
    let queue = Arc::new(ArrayQueue::new(8_192));
    let emptied = Arc::clone(&queue);
    all.push(contestant(
        "crossbeam ArrayQueue push",
        move |at| consume(queue.push([at, at])),
        move || while emptied.pop().is_some() {},
    ));
    all.push(locked_list());
    all
}

fn record() -> Contestant {
    let recorder = Arc::new(Recorder::new(Size::default(), Epoch::new(0), Moment::ZERO));
    let drained = Arc::clone(&recorder);
    contestant(
        RECORD,
        move |at| {
            let subject = Some(SubjectTag::of(at));
            let (arm, epoch) = (Arm::BASELINE, Epoch::new(0));
            let key = CallKey::new(arm, epoch, Segment::NONE, subject, Draw::Random);
            recorder.write(Words::of(black_box(key), at, &Outcome::ok(), false));
        },
        move || drop(drained.drain(Moment::ZERO, Epoch::new(0))),
    )
}

/// A histogram alone, and the usual three: clock, labelled histogram, labelled counter.
#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn prometheus() -> [Contestant; 2] {
    use prometheus::{CounterVec, Histogram, HistogramOpts, HistogramVec, Opts};
    let one = Histogram::with_opts(HistogramOpts::new("a", "a")).expect("the name is sound");
    let observe = contestant(PROMETHEUS_OBSERVE, move |at| one.observe(at as f64 * 1e-9), || {});
    let latency = HistogramVec::new(HistogramOpts::new("b", "b"), &["arm", "segment"]);
    let latency = latency.expect("the labels are sound");
    let calls = CounterVec::new(Opts::new("c", "c"), &["arm", "status"]);
    let calls = calls.expect("the labels are sound");
    let stack = contestant(
        PROMETHEUS_STACK,
        move |at| {
            let began = Instant::now();
            consume(opaque(&at));
            let took = began.elapsed();
            latency.with_label_values(&["baseline", "free"]).observe(took.as_secs_f64());
            calls.with_label_values(&["baseline", "ok"]).inc();
        },
        || {},
    );
    [observe, stack]
}

fn prometheus_client() -> Contestant {
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::family::Family;
    use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
    type Labels = Vec<(String, String)>;
    let latency = Family::<Labels, Histogram>::new_with_constructor(|| {
        Histogram::new(exponential_buckets(0.001, 2.0, 12))
    });
    let calls = Family::<Labels, Counter>::default();
    let labels: Labels = vec![("arm".to_owned(), "baseline".to_owned())];
    contestant(
        "prometheus-client family",
        move |at| {
            latency.get_or_create(&labels).observe(at as f64 * 1e-9);
            calls.get_or_create(&labels).inc();
        },
        || {},
    )
}

fn metrics_facade() -> Contestant {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    contestant(
        "metrics facade, prometheus exporter",
        move |at| {
            metrics::with_local_recorder(&recorder, || {
                metrics::histogram!("latency", "arm" => "baseline").record(at as f64 * 1e-9);
                metrics::counter!("calls", "arm" => "baseline").increment(1);
            });
        },
        move || handle.run_upkeep(),
    )
}

fn opentelemetry() -> Contestant {
    let provider = SdkMeterProvider::builder().with_reader(ManualReader::default()).build();
    let meter = provider.meter("rivals");
    let latency = meter.f64_histogram("latency").build();
    let calls = meter.u64_counter("calls").build();
    let labels = [KeyValue::new("arm", "baseline"), KeyValue::new("status", "ok")];
    contestant(
        "opentelemetry_sdk",
        move |at| {
            latency.record(at as f64 * 1e-9, &labels);
            calls.add(1, &labels);
            let _alive = &provider;
        },
        || {},
    )
}

/// A random draw and a list behind a lock, kept for ever in its original and emptied here.
#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn locked_list() -> Contestant {
    let results = Arc::new(Mutex::new(Vec::<(bool, f64)>::new()));
    let emptied = Arc::clone(&results);
    let state = AtomicU64::new(0x9e37_79b9_7f4a_7c15);
    contestant(
        "random draw, locked list, clock",
        move |at| {
            let mut drawn = state.load(Ordering::Relaxed);
            drawn ^= drawn << 13;
            drawn ^= drawn >> 7;
            drawn ^= drawn << 17;
            state.store(drawn, Ordering::Relaxed);
            let began = Instant::now();
            consume(opaque(&at));
            results.lock().push((drawn % 100 < 5, began.elapsed().as_secs_f64()));
        },
        move || emptied.lock().clear(),
    )
}
