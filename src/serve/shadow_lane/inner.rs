//! What the handles, the jobs and the places of a lane share.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_64;

use crate::clock::Clock;
use crate::compare::comparator::{AsyncComparator, Comparator, Incomparable, checked};
use crate::ids::{Arm, Segment};
use crate::model::{Call, Model};
use crate::observe::explorer::case::Draft;
use crate::observe::explorer::explorer::Explorer;
use crate::outcome::Status;
use crate::route::bucket::{Bucketing, Decimal, inside};
use crate::serve::catch::{caught, caught_future, discard};
use crate::serve::executor::{Executor, run_until};
use crate::serve::request::{Group, Request, Subject};
use crate::serve::shadow_lane::offer::Offer;
use crate::serve::shadow_lane::options::LaneOptions;
use crate::serve::shadow_lane::results::{Judge, Results, Truths};
use crate::serve::shadow_lane::turns::Turns;

/// What the handles, the jobs and the places of a lane share.
pub(super) struct Inner<M: Model, C: Clock> {
    pub candidate: Arc<M>,
    /// Asked a second time, to learn how much it differs from itself.
    pub stable: Option<Arc<M>>,
    pub executor: Box<dyn Executor>,
    pub comparing: Comparing<M::Output>,
    pub hooks: Hooks<M::Input, M::Output>,
    pub clock: C,
    pub options: LaneOptions,
    pub bucketing: Bucketing,
    pub state: AtomicU8,
    pub tallies: Tallies,
    pub turns: Turns<Work<M, C>>,
    pub truths: Mutex<Truths<M::Output>>,
    pub results: Mutex<Results>,
    pub explorer: Option<Mutex<Explorer>>,
}

/// What the request path counts.
#[derive(Debug, Default)]
pub(super) struct Tallies {
    pub sampled: AtomicU64,
    pub shed: AtomicU64,
    pub too_large: AtomicU64,
    pub not_shadowable: AtomicU64,
    pub paused: AtomicU64,
    pub in_flight: AtomicU64,
    /// Samples whose truth could not be noted, since the lock was taken.
    pub untracked: AtomicU64,
    /// Runs drawn for a second one of the stable model, or not.
    pub drawn: AtomicU64,
}

/// How outputs are compared.
pub(super) enum Comparing<O> {
    /// Nothing was said of it.
    Not,
    AtOnce(Box<dyn Comparator<O>>),
    Awaited(Box<dyn AwaitedComparator<O>>),
}

/// An [`AsyncComparator`] without its type.
pub(super) trait AwaitedComparator<O>: Send + Sync {
    fn begin<'a>(&'a self, baseline: &'a O, candidate: &'a O) -> Awaited<'a>;
}

/// A similarity to come.
pub(super) type Awaited<'a> = Pin<Box<dyn Future<Output = Result<f64, Incomparable>> + 'a>>;

impl<O, A: AsyncComparator<O>> AwaitedComparator<O> for A {
    fn begin<'a>(&'a self, baseline: &'a O, candidate: &'a O) -> Awaited<'a> {
        Box::pin(self.compare(baseline, candidate))
    }
}

/// What users say about their inputs and outputs. Each may panic; then nothing is said.
pub(super) struct Hooks<I: ?Sized, O> {
    pub size: Option<Box<Size<I>>>,
    pub copy: Option<Box<Copy<I>>>,
    pub class: Option<Box<Text<O>>>,
    pub input: Option<Box<Text<I>>>,
    pub output: Option<Box<Text<O>>>,
    pub redact: Option<Box<Redact>>,
}

pub(super) type Size<I> = dyn Fn(&I) -> usize + Send + Sync;
pub(super) type Copy<I> = dyn Fn(&I) -> Option<Arc<I>> + Send + Sync;
pub(super) type Text<T> = dyn Fn(&T) -> String + Send + Sync;
pub(super) type Redact = dyn Fn(&mut Draft) + Send + Sync;

impl<I: ?Sized, O> Default for Hooks<I, O> {
    fn default() -> Self {
        Self { size: None, copy: None, class: None, input: None, output: None, redact: None }
    }
}

/// A request that waits for its turn.
pub(super) struct Work<M: Model, C: Clock> {
    pub place: Place<M, C>,
    pub offer: Offer<M::Input, M::Output>,
}

/// A place in the lane. What drops it says how the request counts.
pub(super) struct Place<M: Model, C: Clock> {
    pub inner: Arc<Inner<M, C>>,
    /// The key of the sample's truth, where this place is the one to report it.
    pub truth: Option<u64>,
    pub segment: Segment,
    /// A hash of the subject.
    pub cluster: u64,
    pub end: End,
}

/// What a place counts as when it is given up.
#[derive(Clone, Copy)]
pub(super) enum End {
    Shed,
    TooLarge,
    NotShadowable,
    Paused,
    Run,
}

pub(super) const OPEN: u8 = 0;
pub(super) const PAUSED: u8 = 1;
pub(super) const STOPPED: u8 = 2;

impl<M: Model, C: Clock> Inner<M, C> {
    pub(super) fn hash_of(&self, subject: &Subject<'_>) -> u64 {
        match subject {
            Subject::Bytes(id) => self.bucketing.arm_hash(id),
            Subject::Number(id) => self.bucketing.arm_hash(Decimal::of(*id).as_bytes()),
            Subject::Signed(id) => self.bucketing.arm_hash(Decimal::of_signed(*id).as_bytes()),
            // Nobody known: the count of offers so far, mixed, is chance enough.
            Subject::Unknown => {
                xxh3_64(&self.tallies.sampled.load(Ordering::Relaxed).to_le_bytes())
            }
        }
    }

    pub(super) fn samples(&self, hash: u64) -> bool {
        inside(hash, self.options.sample)
    }

    /// The segment of a request whose router is not at hand.
    pub(super) fn segment_of(&self, request: &Request<'_>) -> Segment {
        match request.segment {
            Group::None => Segment::NONE,
            Group::Numbered(segment) => segment,
            Group::Named(name) => {
                let at = self.options.segments.iter().position(|declared| declared == name);
                at.and_then(|at| u8::try_from(at + 1).ok()).map_or(Segment::OTHER, Segment::new)
            }
        }
    }

    pub(super) fn turn(&self, from: u8, to: u8) {
        let _ = self.state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// Whether a model still says that it may be shadowed.
    pub(super) fn willing(&self) -> bool {
        caught(|| self.candidate.shadowable()).unwrap_or_else(|payload| {
            discard(payload);
            false
        })
    }

    /// Asks the candidate, or the stable model, within the deadline.
    pub(super) fn ask(&self, arm: Arm, input: &M::Input) -> (Status, Duration, Option<M::Output>) {
        let model = match &self.stable {
            Some(stable) if arm == Arm::BASELINE => stable,
            _ => &self.candidate,
        };
        let deadline = self.options.deadline;
        let call = Call::shadow(arm).within(deadline);
        let begun = self.clock.now();
        let ended = run_until(
            caught_future(|| model.predict(input, &call)),
            &self.clock,
            Some(begun.after(deadline)),
        );
        let latency = self.clock.now().since(begun);
        match ended {
            Some(Ok(Ok(output))) if latency <= deadline => (Status::Ok, latency, Some(output)),
            None | Some(Ok(Ok(_))) => (Status::Timeout, latency, None),
            Some(Ok(Err(error))) => {
                let status = caught(|| model.status_of(&error));
                (status.unwrap_or(Status::Error), latency, None)
            }
            Some(Err(payload)) => {
                discard(payload);
                (Status::Panicked, latency, None)
            }
        }
    }

    /// How alike two outputs are.
    pub(super) fn similarity(&self, a: &M::Output, b: &M::Output) -> Result<f64, Incomparable> {
        let said = match &self.comparing {
            Comparing::Not => Ok(Err(Incomparable::Failed)),
            Comparing::AtOnce(comparator) => caught(|| comparator.compare(a, b)),
            Comparing::Awaited(comparator) => {
                let until = self.clock.now().after(self.options.deadline);
                run_until(caught_future(|| comparator.begin(a, b)), &self.clock, Some(until))
                    .unwrap_or(Ok(Err(Incomparable::TimedOut)))
            }
        };
        match said {
            Ok(said) => said.and_then(checked),
            Err(payload) => {
                discard(payload);
                Err(Incomparable::Panicked)
            }
        }
    }

    /// Asks which of two outputs is right, and counts it.
    pub(super) fn judge(
        &self,
        segment: Segment,
        right: &Judge<M::Output>,
        outputs: (Option<&M::Output>, Option<&M::Output>),
    ) {
        // A judge that panics has said nothing: the sample is given up.
        let said = caught(|| [outputs.0, outputs.1].map(|output| output.is_some_and(right)));
        match said {
            Ok([baseline, candidate]) => {
                let counts = &mut self.results.lock().counts;
                counts.truth.add(baseline, candidate);
                counts.segment_mut(segment).truth.add(baseline, candidate);
            }
            Err(payload) => discard(payload),
        }
    }

    /// What `text` says of `value`; nothing when it panics.
    pub(super) fn told<T: ?Sized>(text: Option<&Text<T>>, value: &T) -> Option<String> {
        match caught(|| text.map(|text| text(value))) {
            Ok(text) => text,
            Err(payload) => {
                discard(payload);
                None
            }
        }
    }
}
