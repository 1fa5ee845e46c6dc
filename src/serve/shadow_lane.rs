//! A second model answers the same requests, and nobody hears it.
//!
//! The lane stands beside the router, not in it: whoever serves a request offers it here
//! afterwards, the lane takes a sample by subject, and an executor of its own asks the candidate.
//! The caller never waits: an offer the lane has no room for is shed and counted.
//!
//! To learn how much a model disagrees with itself (its noise floor), run a lane whose candidate
//! is the baseline.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_64;

use crate::clock::{Clock, StdClock};
use crate::ids::Arm;
use crate::model::{Call, Model};
use crate::observe::shadow::ShadowCounts;
use crate::observe::snapshot::ArmCounts;
use crate::outcome::Status;
use crate::route::bucket::{Bucketing, Decimal, Scheme, inside};
use crate::serve::catch::{caught, caught_future, discard};
use crate::serve::executor::{Executor, run_until};
use crate::serve::late::Seen;
use crate::serve::request::{Request, Subject};
use crate::serve::router::{Answer, Router};
use crate::share::TrafficShare;

/// How a lane works.
#[derive(Clone, Debug, PartialEq)]
pub struct LaneOptions {
    /// The salt by which subjects are sampled.
    pub salt: String,
    /// Which part of the subjects is sampled. Each subject is always in the sample or never.
    pub sample: TrafficShare,
    /// A similarity of this and more is a match, from 0 to 1.
    pub threshold: f64,
    /// A candidate that has not answered by then has timed out; a future is dropped, a computation
    /// can only be counted.
    pub deadline: Duration,
    /// The most calls that wait or run; further offers are shed.
    pub in_flight: u64,
    /// Inputs of more bytes are skipped.
    pub input_bytes: usize,
    /// How many pairs of outputs are kept until their truth arrives.
    pub samples: usize,
}

impl Default for LaneOptions {
    /// Everybody, a match from 0.85, 10 seconds, 256 calls, inputs of 1 MiB, 4,096 pairs.
    fn default() -> Self {
        Self {
            salt: "shadow".to_owned(),
            sample: TrafficShare::ALL,
            threshold: 0.85,
            deadline: Duration::from_secs(10),
            in_flight: 256,
            input_bytes: 1 << 20,
            samples: 4_096,
        }
    }
}

/// A lane that cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LaneError {
    /// The candidate does not say that it may be shadowed.
    #[error(
        "the candidate may not be shadowed; let `shadowable` return true if it has no side effects"
    )]
    NotShadowable,
    /// Not a similarity.
    #[error("a match from {threshold} on is not possible; give a number from 0 to 1")]
    Threshold {
        /// What was given.
        threshold: f64,
    },
}

/// A request that was served, for the candidate to answer as well.
#[derive(Debug)]
pub struct Offer<I: ?Sized, O> {
    /// What was asked.
    pub input: Arc<I>,
    /// How big that is, in bytes, or 0 where it does not matter.
    pub bytes: usize,
    /// How the baseline's call ended.
    pub status: Status,
    /// How long it took.
    pub latency: Duration,
    /// What the baseline answered, where it did.
    pub output: Option<O>,
    /// A hash of the sample's content, where its truth may become known; see
    /// [`ShadowLane::truth`].
    pub sample: Option<u64>,
}

/// What became of an offer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Offered {
    /// It will be run.
    Taken,
    /// The subject is not in the sample.
    NotSampled,
    /// There was no room.
    Shed,
    /// The lane is paused or stopped, or the input too large.
    Skipped,
}

/// What became of a truth.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Told {
    /// It was counted for the pair.
    Counted,
    /// The candidate is still answering; it will be counted then.
    Later,
    /// This sample's truth was counted before.
    Before,
    /// No pair of this sample is kept.
    Unknown,
}

/// Similarity of two outputs, the baseline's first: 1 is the same, 0 nothing alike.
type Compare<O> = dyn Fn(&O, &O) -> f64 + Send + Sync;
/// Whether an output is right.
type Judge<O> = dyn Fn(&O) -> bool + Send + Sync;

/// A second model answers the same requests, and nobody hears it. Clones share the lane.
///
/// ```
/// use pilotage::control::pool::WorkerPool;
/// use pilotage::model;
/// use pilotage::serve::request::Request;
/// use pilotage::serve::router::Router;
/// use pilotage::serve::shadow_lane::{LaneOptions, ShadowLane};
/// use std::convert::Infallible;
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// type Count = fn(&str) -> Result<usize, Infallible>;
/// let old: Count = |text| Ok(text.len());
/// let new: Count = |text| Ok(text.chars().count());
/// let router = Router::builder("length").stable("bytes", model::sync(old)).build()?;
/// let candidate = Arc::new(model::sync(new).shadowable());
///
/// let pool = Arc::new(WorkerPool::new("shadow", 1, 64)?);
/// let same = |a: &usize, b: &usize| f64::from(u8::from(a == b));
/// let lane = ShadowLane::new(candidate, Arc::clone(&pool), same, LaneOptions::default())?;
///
/// let input: Arc<str> = "größe".into();
/// # let served = async {
/// let answer = lane.predict(&router, Request::of("user-42"), &input, Some(1)).await?;
/// assert_eq!(answer.output, 7);                    // the caller hears the baseline
/// # Ok::<(), Infallible>(()) };
/// # let mut served = std::pin::pin!(served);
/// # let mut context = std::task::Context::from_waker(std::task::Waker::noop());
/// # assert!(std::future::Future::poll(served.as_mut(), &mut context).is_ready());
///
/// while lane.in_flight() > 0 {
///     std::thread::sleep(Duration::from_millis(1));
/// }
/// lane.truth(1, |length| *length == 5);
/// let counts = lane.counts();
/// assert_eq!((counts.pairs, counts.matches, counts.truth.only_candidate), (1, 0, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ShadowLane<M: Model, C: Clock = StdClock> {
    inner: Arc<Inner<M, C>>,
}

struct Inner<M: Model, C> {
    candidate: Arc<M>,
    executor: Box<dyn Executor>,
    compare: Box<Compare<M::Output>>,
    clock: C,
    options: LaneOptions,
    bucketing: Bucketing,
    state: AtomicU8,
    sampled: AtomicU64,
    shed: AtomicU64,
    skipped: AtomicU64,
    in_flight: AtomicU64,
    seen: Mutex<Results<M::Output>>,
}

/// What jobs write. The lock is held to add numbers and to move outputs, never over user code.
struct Results<O> {
    counts: ShadowCounts,
    pairs: HashMap<u64, Pair<O>>,
    /// Keys of `pairs`, oldest first.
    order: VecDeque<u64>,
    judged: Seen,
}

/// A sample's outputs.
enum Pair<O> {
    /// The candidate is not done.
    Running,
    /// Nor is it, but the truth is known.
    Told(Arc<Judge<O>>),
    /// Baseline's and candidate's; a call without an answer was wrong.
    Both(Option<O>, Option<O>),
}

const OPEN: u8 = 0;
const PAUSED: u8 = 1;
const STOPPED: u8 = 2;

impl<M> ShadowLane<M>
where
    M: Model + 'static,
    M::Input: Send,
{
    /// A lane that asks `candidate` on `executor` and compares by `compare`, which is given the
    /// baseline's output first and answers from 0 (nothing alike) to 1 (the same).
    ///
    /// # Errors
    ///
    /// [`LaneError`] when the candidate may not be shadowed or the threshold is no similarity.
    pub fn new(
        candidate: Arc<M>,
        executor: impl Executor + 'static,
        compare: impl Fn(&M::Output, &M::Output) -> f64 + Send + Sync + 'static,
        options: LaneOptions,
    ) -> Result<Self, LaneError> {
        Self::with_clock(candidate, executor, compare, options, StdClock::new())
    }
}

impl<M, C> ShadowLane<M, C>
where
    M: Model + 'static,
    M::Input: Send,
    C: Clock + 'static,
{
    /// As [`ShadowLane::new`], with the time from `clock`.
    ///
    /// # Errors
    ///
    /// As for [`ShadowLane::new`].
    pub fn with_clock(
        candidate: Arc<M>,
        executor: impl Executor + 'static,
        compare: impl Fn(&M::Output, &M::Output) -> f64 + Send + Sync + 'static,
        options: LaneOptions,
        clock: C,
    ) -> Result<Self, LaneError> {
        if !candidate.shadowable() {
            return Err(LaneError::NotShadowable);
        }
        if !(0.0..=1.0).contains(&options.threshold) {
            return Err(LaneError::Threshold { threshold: options.threshold });
        }
        let bucketing = Bucketing::new(&Scheme::new(options.salt.as_str()));
        Ok(Self {
            inner: Arc::new(Inner {
                candidate,
                executor: Box::new(executor),
                compare: Box::new(compare),
                clock,
                options,
                bucketing,
                state: AtomicU8::new(OPEN),
                sampled: AtomicU64::new(0),
                shed: AtomicU64::new(0),
                skipped: AtomicU64::new(0),
                in_flight: AtomicU64::new(0),
                seen: Mutex::new(Results {
                    counts: ShadowCounts::default(),
                    pairs: HashMap::new(),
                    order: VecDeque::new(),
                    judged: Seen::default(),
                }),
            }),
        })
    }

    /// Serves a request through `router` and offers it to the lane afterwards. The caller hears
    /// the router's answer, as early as without the lane but for the time of an offer. Requests
    /// the router gave to its candidate are not offered.
    ///
    /// `sample` is a hash of the input's content, where its truth may become known.
    ///
    /// # Errors
    ///
    /// The router's model's own.
    pub async fn predict<D: Clock>(
        &self,
        router: &Router<M, D>,
        request: Request<'_>,
        input: &Arc<M::Input>,
        sample: Option<u64>,
    ) -> Result<Answer<M::Output>, M::Error>
    where
        M::Output: Clone,
    {
        let begun = self.inner.clock.now();
        let result = router.predict(request, input).await;
        let latency = self.inner.clock.now().since(begun);
        let (status, output) = match &result {
            Ok(answer) if answer.arm != Arm::BASELINE => return result,
            Ok(answer) => (Status::Ok, Some(&answer.output)),
            Err(_) => (Status::Error, None),
        };
        self.offer(&request, || Offer {
            input: Arc::clone(input),
            bytes: size_of_val(&**input),
            status,
            latency,
            output: output.cloned(),
            sample,
        });
        result
    }

    /// Offers a request that was served. `offer` is called only when the lane has room for it.
    /// Never waits.
    pub fn offer(
        &self,
        request: &Request<'_>,
        offer: impl FnOnce() -> Offer<M::Input, M::Output>,
    ) -> Offered {
        let inner = &self.inner;
        let state = inner.state.load(Ordering::Relaxed);
        if state == STOPPED || !inner.samples(&request.subject) {
            return if state == STOPPED { Offered::Skipped } else { Offered::NotSampled };
        }
        inner.sampled.fetch_add(1, Ordering::Relaxed);
        if state == PAUSED {
            inner.skipped.fetch_add(1, Ordering::Relaxed);
            return Offered::Skipped;
        }
        if inner.in_flight.fetch_add(1, Ordering::AcqRel) >= inner.options.in_flight {
            inner.in_flight.fetch_sub(1, Ordering::AcqRel);
            inner.shed.fetch_add(1, Ordering::Relaxed);
            return Offered::Shed;
        }
        // From here on the place counts as shed unless it says otherwise, whatever drops it.
        let mut place = Place { inner: Arc::clone(inner), sample: None, end: End::Shed };
        let offer = offer();
        if offer.bytes > inner.options.input_bytes {
            place.end = End::Skipped;
            return Offered::Skipped;
        }
        place.sample = offer.sample.filter(|sample| inner.expect(*sample));
        match inner.executor.spawn(Box::new(move || place.run(offer))) {
            Ok(()) => Offered::Taken,
            Err(_) => Offered::Shed,
        }
    }

    /// Says what is true of a sample: `right` is asked about both outputs. Each sample counts
    /// once, however often it was replayed; a call that gave no answer was wrong.
    pub fn truth(
        &self,
        sample: u64,
        right: impl Fn(&M::Output) -> bool + Send + Sync + 'static,
    ) -> Told {
        let right: Arc<Judge<M::Output>> = Arc::new(right);
        let (baseline, candidate) = {
            let mut seen = self.inner.seen.lock();
            let seen = &mut *seen;
            match seen.pairs.get_mut(&sample) {
                None if seen.judged.has(sample) => return Told::Before,
                None => return Told::Unknown,
                Some(Pair::Told(_)) => return Told::Before,
                Some(pair @ Pair::Running) => {
                    *pair = Pair::Told(right);
                    return Told::Later;
                }
                Some(Pair::Both(..)) => match seen.pairs.remove(&sample) {
                    Some(Pair::Both(baseline, candidate)) => {
                        seen.judged.first(sample);
                        (baseline, candidate)
                    }
                    _ => return Told::Unknown,
                },
            }
        };
        self.inner.judge(&*right, baseline.as_ref(), candidate.as_ref());
        Told::Counted
    }

    /// What was seen so far.
    #[must_use]
    pub fn counts(&self) -> ShadowCounts {
        let mut counts = self.inner.seen.lock().counts.clone();
        counts.sampled = self.inner.sampled.load(Ordering::Acquire);
        counts.shed = self.inner.shed.load(Ordering::Acquire);
        counts.skipped = self.inner.skipped.load(Ordering::Acquire);
        counts
    }

    /// Calls that wait or run.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.inner.in_flight.load(Ordering::Acquire)
    }

    /// Runs nothing more until [`ShadowLane::resume`]; calls that wait are skipped as well.
    pub fn pause(&self) {
        self.inner.turn(OPEN, PAUSED);
    }

    /// Runs again after a pause. A stopped lane stays stopped.
    pub fn resume(&self) {
        self.inner.turn(PAUSED, OPEN);
    }

    /// Runs nothing more, for good.
    pub fn stop(&self) {
        self.inner.state.store(STOPPED, Ordering::Release);
    }
}

impl<M: Model, C: Clock> Inner<M, C> {
    fn samples(&self, subject: &Subject<'_>) -> bool {
        let hash = match subject {
            Subject::Bytes(id) => self.bucketing.arm_hash(id),
            Subject::Number(id) => self.bucketing.arm_hash(Decimal::of(*id).as_bytes()),
            Subject::Signed(id) => self.bucketing.arm_hash(Decimal::of_signed(*id).as_bytes()),
            // Nobody known: the count of offers so far, mixed, is chance enough.
            Subject::Unknown => xxh3_64(&self.sampled.load(Ordering::Relaxed).to_le_bytes()),
        };
        inside(hash, self.options.sample)
    }

    fn turn(&self, from: u8, to: u8) {
        let _ = self.state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// Keeps a place for the outputs of `sample`, unless it has one or its truth was counted.
    fn expect(&self, sample: u64) -> bool {
        let mut seen = self.seen.lock();
        if self.options.samples == 0 || seen.judged.has(sample) || seen.pairs.contains_key(&sample)
        {
            return false;
        }
        while seen.pairs.len() >= self.options.samples {
            let Some(oldest) = seen.order.pop_front() else { return false };
            seen.pairs.remove(&oldest);
        }
        // Samples that were judged have left their key in the order.
        if seen.order.len() > 2 * self.options.samples {
            let Results { order, pairs, .. } = &mut *seen;
            order.retain(|key| pairs.contains_key(key));
        }
        seen.order.push_back(sample);
        seen.pairs.insert(sample, Pair::Running);
        true
    }

    fn judge(
        &self,
        right: &Judge<M::Output>,
        baseline: Option<&M::Output>,
        candidate: Option<&M::Output>,
    ) {
        // A judge that panics has said nothing: the sample is given up.
        let verdict = caught(|| [baseline, candidate].map(|output| output.is_some_and(right)));
        let verdict = match verdict {
            Ok(verdict) => verdict,
            Err(payload) => return discard(payload),
        };
        let truth = &mut self.seen.lock().counts.truth;
        *match verdict {
            [true, true] => &mut truth.both_right,
            [true, false] => &mut truth.only_baseline,
            [false, true] => &mut truth.only_candidate,
            [false, false] => &mut truth.both_wrong,
        } += 1;
    }
}

/// A place in the lane, from the offer to the end of the candidate's call.
struct Place<M: Model, C: Clock> {
    inner: Arc<Inner<M, C>>,
    sample: Option<u64>,
    end: End,
}

/// What a place counts as when it is given up.
enum End {
    Shed,
    Skipped,
    Run,
}

impl<M: Model, C: Clock> Place<M, C> {
    fn run(mut self, offer: Offer<M::Input, M::Output>) {
        let inner = Arc::clone(&self.inner);
        if inner.state.load(Ordering::Acquire) != OPEN {
            self.end = End::Skipped;
            return;
        }
        let (status, latency, output) = inner.ask(&offer.input);
        let pair = match (&offer.output, &output) {
            (Some(baseline), Some(candidate)) => Some(inner.similarity(baseline, candidate)),
            _ => None,
        };
        let mut told = None;
        {
            let mut seen = inner.seen.lock();
            let counts = &mut seen.counts;
            counts.run += 1;
            add_call(&mut counts.baseline, offer.status, offer.latency);
            add_call(&mut counts.candidate, status, latency);
            match pair {
                None => {}
                Some(None) => counts.uncomparable += 1,
                Some(Some(similarity)) => {
                    counts.pairs += 1;
                    counts.matches += u64::from(similarity >= inner.options.threshold);
                    counts.similarity.add(similarity);
                }
            }
            if let Some(sample) = self.sample.take() {
                // Calls the caller broke off say nothing about who is right.
                if offer.status == Status::Cancelled || status == Status::Cancelled {
                    seen.pairs.remove(&sample);
                } else if let Some(pair) = seen.pairs.get_mut(&sample) {
                    let both = Pair::Both(offer.output, output);
                    if let Pair::Told(right) = std::mem::replace(pair, both) {
                        told = seen.pairs.remove(&sample).map(|pair| (right, pair));
                        seen.judged.first(sample);
                    }
                }
            }
            self.end = End::Run;
        }
        if let Some((right, Pair::Both(baseline, candidate))) = told {
            inner.judge(&*right, baseline.as_ref(), candidate.as_ref());
        }
    }
}

impl<M: Model, C: Clock> Inner<M, C> {
    /// Asks the candidate, within the deadline.
    fn ask(&self, input: &M::Input) -> (Status, Duration, Option<M::Output>) {
        let deadline = self.options.deadline;
        let call = Call::shadow(Arm::CANDIDATE).within(deadline);
        let begun = self.clock.now();
        let ended = run_until(
            caught_future(|| self.candidate.predict(input, &call)),
            &self.clock,
            Some(begun.after(deadline)),
        );
        let latency = self.clock.now().since(begun);
        match ended {
            Some(Ok(Ok(output))) if latency <= deadline => (Status::Ok, latency, Some(output)),
            None | Some(Ok(Ok(_))) => (Status::Timeout, latency, None),
            Some(Ok(Err(error))) => {
                let status = caught(|| self.candidate.status_of(&error));
                (status.unwrap_or(Status::Error), latency, None)
            }
            Some(Err(payload)) => {
                discard(payload);
                (Status::Panicked, latency, None)
            }
        }
    }

    /// How alike two outputs are, `None` when the comparator does not say.
    fn similarity(&self, baseline: &M::Output, candidate: &M::Output) -> Option<f64> {
        match caught(|| (self.compare)(baseline, candidate)) {
            Ok(similarity) => (0.0..=1.0).contains(&similarity).then_some(similarity),
            Err(payload) => {
                discard(payload);
                None
            }
        }
    }
}

impl<M: Model, C: Clock> Drop for Place<M, C> {
    fn drop(&mut self) {
        if let Some(sample) = self.sample {
            self.inner.seen.lock().pairs.remove(&sample);
        }
        match self.end {
            End::Shed => self.inner.shed.fetch_add(1, Ordering::Relaxed),
            End::Skipped => self.inner.skipped.fetch_add(1, Ordering::Relaxed),
            End::Run => 0,
        };
        self.inner.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

fn add_call(counts: &mut ArmCounts, status: Status, latency: Duration) {
    let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
    counts.started += 1;
    counts.ended[status.index()] += 1;
    match status {
        Status::Ok => counts.latency.record(nanos),
        Status::Error | Status::Panicked => counts.failed_latency.record(nanos),
        Status::Timeout | Status::Cancelled => {}
    }
}

impl<M: Model, C: Clock> Clone for ShadowLane<M, C> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<M: Model, C: Clock> std::fmt::Debug for ShadowLane<M, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShadowLane").field("options", &self.inner.options).finish_non_exhaustive()
    }
}
