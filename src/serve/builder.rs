//! How a router is made.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_64;

use crate::clock::{Clock, StdClock};
use crate::ids::{Arm, Epoch, Name, NameError, Segment};
use crate::model::Call;
use crate::observe::recorder::{Recorder, Size};
use crate::observe::sink::MetricsSink;
use crate::observe::streams::Streams;
use crate::route::arms::MOST_ARMS;
use crate::route::bucket::{Bucketing, Scheme};
use crate::route::siphash::SipKey;
use crate::route::switch::{Split, SplitWord};
pub use crate::serve::inner::Fallback;
use crate::serve::inner::Inner;
use crate::serve::late::Noted;
pub use crate::serve::limit::CandidateLimit;
use crate::serve::limit::Limiter;
use crate::serve::router::Router;
use crate::serve::sink_queue::SinkQueues;
use crate::serve::slots::Slots;
use crate::serve::ticket::RouterTag;
use crate::share::TrafficShare;

/// A router that cannot be built, or a model that cannot be deployed under its name.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A name cannot be used.
    #[error("the {of} cannot be named so: {error}")]
    Name {
        /// Of what.
        of: &'static str,
        /// Why not.
        error: NameError,
    },
    /// More segments than can be told apart.
    #[error("{count} segments are too many; declare at most 254")]
    TooManySegments {
        /// How many.
        count: usize,
    },
    /// A segment was declared twice.
    #[error("the segment {name} is declared twice; declare it once")]
    DuplicateSegment {
        /// Which.
        name: Name,
    },
    /// A candidate that may not have a call.
    #[error("a candidate limit of zero lets it have no call; shift its share to zero instead")]
    ZeroLimit,
    /// A deadline nobody can hold.
    #[error("a deadline of zero makes every answer late; give a longer one, or none")]
    ZeroDeadline,
}

/// No model was given yet.
#[derive(Clone, Copy, Debug)]
pub struct NoModel;

/// Makes a [`Router`]. Setters check nothing; [`RouterBuilder::build`] checks everything.
#[derive(Debug)]
#[must_use]
pub struct RouterBuilder<M = NoModel, C = StdClock> {
    pub(crate) name: String,
    pub(crate) scheme: Option<Scheme>,
    pub(crate) key: Option<SipKey>,
    pub(crate) segments: Vec<String>,
    pub(crate) deadline: Option<Duration>,
    pub(crate) stream_deadline: Option<Duration>,
    pub(crate) fallback: Fallback,
    pub(crate) trip: Option<u32>,
    pub(crate) limit: CandidateLimit,
    pub(crate) split: Split,
    pub(crate) size: Size,
    pub(crate) sinks: Sinks,
    pub(crate) stable: (String, M),
    pub(crate) clock: C,
}

/// Sinks, which have no `Debug` of their own.
#[derive(Default)]
pub(crate) struct Sinks(pub(crate) Vec<Arc<dyn MetricsSink>>);

impl std::fmt::Debug for Sinks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|sink| sink.name())).finish()
    }
}

impl RouterBuilder {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            scheme: None,
            key: None,
            segments: Vec::new(),
            deadline: None,
            stream_deadline: None,
            fallback: Fallback::default(),
            trip: None,
            limit: CandidateLimit::default(),
            split: Split::default(),
            size: Size::default(),
            sinks: Sinks::default(),
            stable: (String::new(), NoModel),
            clock: StdClock::new(),
        }
    }
}

impl<C> RouterBuilder<NoModel, C> {
    /// The model that serves today, and its name.
    pub fn stable<M>(self, name: &str, model: M) -> RouterBuilder<M, C> {
        let Self { name: router, scheme, key, segments, deadline, fallback, .. } = self;
        let Self { stream_deadline, trip, limit, split, size, sinks, clock, .. } = self;
        let stable = (name.to_owned(), model);
        RouterBuilder {
            name: router,
            scheme,
            key,
            segments,
            deadline,
            stream_deadline,
            fallback,
            trip,
            limit,
            split,
            size,
            sinks,
            stable,
            clock,
        }
    }
}

impl<M, C> RouterBuilder<M, C> {
    /// The salt that makes this router's assignments independent of any other's. By default its
    /// name. Store it: who changes it moves every subject.
    pub fn salt(mut self, salt: &str) -> Self {
        self.scheme = Some(Scheme::new(salt));
        self
    }

    /// The scheme of assignment, as it was stored.
    pub fn scheme(mut self, scheme: Scheme) -> Self {
        self.scheme = Some(scheme);
        self
    }

    /// A secret key for assignment, where users may choose their ids and must not choose their
    /// arm by it. Every replica needs the same.
    pub fn assignment_key(mut self, key: SipKey) -> Self {
        self.key = Some(key);
        self
    }

    /// The segments that are told apart, at most 254. Undeclared ones share one place.
    pub fn segments<S: AsRef<str>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.segments = names.into_iter().map(|name| name.as_ref().to_owned()).collect();
        self
    }

    /// Answers that take longer count as timed out. The caller still gets them: cutting a call
    /// short is the host's to do, with the timer it has, by dropping the future. A call that is
    /// dropped past its deadline counts as timed out too, before it as cancelled. By default none.
    ///
    /// Of a stream it is the first item that must come by then.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Streams for which their reader had to wait longer than this, all items together, count as
    /// timed out; the time the reader takes itself does not count. By default none.
    pub fn stream_deadline(mut self, deadline: Duration) -> Self {
        self.stream_deadline = Some(deadline);
        self
    }

    /// Whom a caller hears when the candidate fails. By default the baseline when it panicked.
    pub fn fallback(mut self, fallback: Fallback) -> Self {
        self.fallback = fallback;
        self
    }

    /// How many calls of the candidate there may be at once. What is beyond is answered by the
    /// baseline's model, and stays a call of the candidate in all counts. By default
    /// [`CandidateLimit::Automatic`]: what chance gives it of all calls at once, and never all.
    pub fn candidate_limit(mut self, limit: CandidateLimit) -> Self {
        self.limit = limit;
        self
    }

    /// Rolls back by itself, on the request path, when the candidate panicked so often under one
    /// split. By default it does not: a pilot decides. At least 1.
    pub fn trip_after_panics(mut self, panics: u32) -> Self {
        self.trip = Some(panics.max(1));
        self
    }

    /// The split to begin with, after a restart. By default everybody is on the baseline.
    pub fn split(mut self, split: Split) -> Self {
        self.split = split;
        self
    }

    /// The epoch to begin with, after a restart, so that tickets of before are known as such.
    pub fn epoch(mut self, epoch: Epoch) -> Self {
        self.split.epoch = epoch;
        self
    }

    /// How much is remembered between two drains.
    pub fn size(mut self, size: Size) -> Self {
        self.size = size;
        self
    }

    /// Also tells this sink what was seen.
    pub fn sink(mut self, sink: impl MetricsSink + 'static) -> Self {
        self.sinks.0.push(Arc::new(sink));
        self
    }

    /// Takes the time from this clock.
    pub fn clock<D: Clock>(self, clock: D) -> RouterBuilder<M, D> {
        let Self { name, scheme, key, segments, deadline, fallback, .. } = self;
        let Self { stream_deadline, trip, limit, split, size, sinks, stable, .. } = self;
        RouterBuilder {
            name,
            scheme,
            key,
            segments,
            deadline,
            stream_deadline,
            fallback,
            trip,
            limit,
            split,
            size,
            sinks,
            stable,
            clock,
        }
    }
}

impl<M, C: Clock> RouterBuilder<M, C> {
    /// The router.
    ///
    /// # Errors
    ///
    /// [`BuildError`] when a name cannot be used, segments are too many or declared twice, or the
    /// deadline or the candidate's limit is zero.
    pub fn build(self) -> Result<Router<M, C>, BuildError> {
        let named =
            |of, name: &str| Name::new(name).map_err(|error| BuildError::Name { of, error });
        let name = named("router", &self.name)?;
        let stable = named("model", &self.stable.0)?;
        if self.segments.len() > Segment::MAX_DECLARED {
            return Err(BuildError::TooManySegments { count: self.segments.len() });
        }
        let mut segments: Vec<Name> = Vec::with_capacity(self.segments.len());
        for segment in &self.segments {
            let name = named("segment", segment)?;
            if segments.contains(&name) {
                return Err(BuildError::DuplicateSegment { name });
            }
            segments.push(name);
        }
        if [self.deadline, self.stream_deadline].contains(&Some(Duration::ZERO)) {
            return Err(BuildError::ZeroDeadline);
        }
        if matches!(self.limit, CandidateLimit::Calls(0) | CandidateLimit::Part(TrafficShare::NONE))
        {
            return Err(BuildError::ZeroLimit);
        }
        Ok(self.assemble(name, stable, segments))
    }

    fn assemble(self, name: Name, stable: Name, segments: Vec<Name>) -> Router<M, C> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let scheme = self.scheme.unwrap_or_else(|| Scheme::new(name.as_str()));
        let bucketing = Bucketing::new(&scheme);
        let bucketing = self.key.map_or(bucketing, |key| bucketing.keyed(key));
        let (size, split) = (self.size, self.split);
        let recorder = Recorder::new(size, split.epoch, self.clock.now());
        let now = self.clock.now();
        let (limiter, noted) = (Limiter::new(self.limit, now), Noted::new(split.epoch, now));
        let slots = Slots::new(recorder.seated(), limiter);
        // The slots are new, so there is room.
        let _ = slots.put(split.primary.index(), stable, Arc::new(self.stable.1));
        let call = |arm| Call { deadline: self.deadline, ..Call::serving(Arm::new(arm as u8)) };
        let nanos = |deadline: Duration| u64::try_from(deadline.as_nanos()).unwrap_or(u64::MAX);
        Router::of(Inner {
            clock: self.clock,
            calls: std::array::from_fn(call),
            deadline_nanos: self.deadline.map_or(u64::MAX, nanos),
            fallback: self.fallback,
            tag: RouterTag::of(xxh3_64(scheme.salt().as_bytes())),
            bucketing,
            word: Arc::new(SplitWord::new(split)),
            admission: arc_swap::ArcSwapOption::empty(),
            table: arc_swap::ArcSwapOption::empty(),
            arms: size.arms.clamp(2, MOST_ARMS),
            slots,
            recorder,
            segments: segments.into(),
            name,
            scheme,
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            trip: self.trip,
            panics: AtomicU64::new(0),
            late: Mutex::default(),
            noted: Mutex::new(noted),
            sinks: SinkQueues::new(self.sinks.0),
            streams: Streams::new(size.arms.clamp(2, MOST_ARMS), split.epoch),
            stream_deadline_nanos: self.stream_deadline.map_or(u64::MAX, nanos),
        })
    }
}

impl Router<NoModel> {
    /// Begins to build a router of this name, which is also its salt unless another is set.
    pub fn builder(name: &str) -> RouterBuilder {
        RouterBuilder::new(name)
    }
}
