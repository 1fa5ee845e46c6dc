//! Everything that can be said about a lane before it opens.

use std::sync::Arc;
use std::sync::atomic::AtomicU8;

use parking_lot::Mutex;

use crate::clock::{Clock, StdClock};
use crate::compare::comparator::{AsyncComparator, Comparator, from_fn};
use crate::ids::Segment;
use crate::model::Model;
use crate::observe::explorer::case::Draft;
use crate::observe::explorer::explorer::{Explorer, ExplorerOptions};
use crate::route::bucket::{Bucketing, Scheme};
use crate::serve::executor::Executor;
use crate::serve::shadow_lane::inner::{Comparing, Hooks, Inner, OPEN, Tallies};
use crate::serve::shadow_lane::lane::ShadowLane;
use crate::serve::shadow_lane::options::{LaneError, LaneOptions};
use crate::serve::shadow_lane::results::{Results, Truths};
use crate::serve::shadow_lane::turns::Turns;

impl<M> ShadowLane<M>
where
    M: Model + 'static,
    M::Input: Send,
{
    /// A lane that asks `candidate` on `executor` and compares by `compare`, which is given the
    /// baseline's output first and answers from 0 (nothing alike) to 1 (the same).
    ///
    /// [`ShadowLane::builder`] takes the comparators of [`crate::compare`], and all that can be
    /// said about inputs and outputs.
    ///
    /// # Errors
    ///
    /// [`LaneError`] when the candidate may not be shadowed or an option is impossible.
    pub fn new(
        candidate: Arc<M>,
        executor: impl Executor + 'static,
        compare: impl Fn(&M::Output, &M::Output) -> f64 + Send + Sync + 'static,
        options: LaneOptions,
    ) -> Result<Self, LaneError> {
        Self::with_clock(candidate, executor, compare, options, StdClock::new())
    }

    /// A lane in more detail.
    pub fn builder(candidate: Arc<M>, executor: impl Executor + 'static) -> LaneBuilder<M> {
        LaneBuilder::new(candidate, Box::new(executor))
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
        LaneBuilder::new(candidate, Box::new(executor))
            .compare(from_fn(compare))
            .options(options)
            .open_with_clock(clock)
    }
}

/// A [`ShadowLane`] in the making.
///
/// ```
/// use pilotage::compare::comparator::{By, Exact};
/// use pilotage::control::pool::WorkerPool;
/// use pilotage::model;
/// use pilotage::observe::explorer::explorer::ExplorerOptions;
/// use pilotage::serve::shadow_lane::ShadowLane;
/// use std::convert::Infallible;
/// use std::sync::Arc;
///
/// #[derive(Clone)]
/// struct Answer { label: String, score: f32 }
/// type Classify = fn(&[u8]) -> Result<Answer, Infallible>;
/// let old: Classify = |_| Ok(Answer { label: "text".into(), score: 0.9 });
/// let new: Classify = |_| Ok(Answer { label: "code".into(), score: 0.8 });
///
/// let pool = WorkerPool::new("shadow", 2, 256)?;
/// let lane = ShadowLane::builder(Arc::new(model::sync(new).shadowable()), pool)
///     .compare(By::new(|answer: &Answer| answer.label.clone(), Exact))
///     .noise_floor(Arc::new(model::sync(old).shadowable()))
///     .classes(|answer| answer.label.clone())
///     .explore(ExplorerOptions::default())
///     .describe_output(|answer| format!("{} ({:.2})", answer.label, answer.score))
///     .redact(|draft| draft.input.clear())
///     .open()?;
/// # let _ = lane;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a lane opens with `open`"]
pub struct LaneBuilder<M: Model> {
    candidate: Arc<M>,
    stable: Option<Arc<M>>,
    executor: Box<dyn Executor>,
    comparing: Option<Comparing<M::Output>>,
    hooks: Hooks<M::Input, M::Output>,
    options: LaneOptions,
    explorer: Option<ExplorerOptions>,
}

impl<M> LaneBuilder<M>
where
    M: Model + 'static,
    M::Input: Send,
{
    pub(super) fn new(candidate: Arc<M>, executor: Box<dyn Executor>) -> Self {
        Self {
            candidate,
            stable: None,
            executor,
            comparing: None,
            hooks: Hooks::default(),
            options: LaneOptions::default(),
            explorer: None,
        }
    }

    /// How outputs are compared. Without a comparator every pair is incomparable.
    pub fn compare(mut self, comparator: impl Comparator<M::Output> + 'static) -> Self {
        self.comparing = Some(Comparing::AtOnce(Box::new(comparator)));
        self
    }

    /// How outputs are compared, by something that has to wait: an embedding, a judge model. It is
    /// awaited where the candidate was, for as long as the candidate may take.
    pub fn compare_async<A>(mut self, comparator: A) -> Self
    where
        A: AsyncComparator<M::Output> + 'static,
    {
        self.comparing = Some(Comparing::Awaited(Box::new(comparator)));
        self
    }

    /// How the lane works.
    pub fn options(mut self, options: LaneOptions) -> Self {
        self.options = options;
        self
    }

    /// Asks the stable model a second time on [`LaneOptions::noise`] of the requests that run, to
    /// learn how much it differs from itself. Disagreement is then judged above that.
    pub fn noise_floor(mut self, stable: Arc<M>) -> Self {
        self.stable = Some(stable);
        self
    }

    /// How many bytes an input has; the size of its type unless set. Called on the request path:
    /// it must be quick, as a length is.
    pub fn size(mut self, size: impl Fn(&M::Input) -> usize + Send + Sync + 'static) -> Self {
        self.hooks.size = Some(Box::new(size));
        self
    }

    /// How an input is handed over that is not behind an `Arc`; see
    /// [`ShadowLane::predict_copied`]. `None` declines, and counts as not shadowable. Called on the
    /// request path, after the answer is known and before it is handed out.
    pub fn copy(
        mut self,
        copy: impl Fn(&M::Input) -> Option<Arc<M::Input>> + Send + Sync + 'static,
    ) -> Self {
        self.hooks.copy = Some(Box::new(copy));
        self
    }

    /// The class of an output, in a word: for Cohen's kappa and for patterns of disagreement.
    pub fn classes(mut self, class: impl Fn(&M::Output) -> String + Send + Sync + 'static) -> Self {
        self.hooks.class = Some(Box::new(class));
        self
    }

    /// Keeps cases on which the models differ. Of inputs and outputs nothing is kept but what
    /// [`describe_input`](Self::describe_input) and [`describe_output`](Self::describe_output) say
    /// and [`redact`](Self::redact) lets through.
    pub fn explore(mut self, options: ExplorerOptions) -> Self {
        self.explorer = Some(options);
        self
    }

    /// What a case says of its input.
    pub fn describe_input(
        mut self,
        text: impl Fn(&M::Input) -> String + Send + Sync + 'static,
    ) -> Self {
        self.hooks.input = Some(Box::new(text));
        self
    }

    /// What a case says of its outputs.
    pub fn describe_output(
        mut self,
        text: impl Fn(&M::Output) -> String + Send + Sync + 'static,
    ) -> Self {
        self.hooks.output = Some(Box::new(text));
        self
    }

    /// Changes or clears what must not be kept of a case, before anything of it is. If it panics,
    /// none of the case's texts is kept.
    pub fn redact(mut self, redact: impl Fn(&mut Draft) + Send + Sync + 'static) -> Self {
        self.hooks.redact = Some(Box::new(redact));
        self
    }

    /// Opens the lane.
    ///
    /// # Errors
    ///
    /// [`LaneError`] when a model may not be shadowed or an option is impossible.
    pub fn open(self) -> Result<ShadowLane<M>, LaneError> {
        self.open_with_clock(StdClock::new())
    }

    /// Opens the lane, with the time from `clock`.
    ///
    /// # Errors
    ///
    /// As for [`LaneBuilder::open`].
    pub fn open_with_clock<C: Clock + 'static>(
        self,
        clock: C,
    ) -> Result<ShadowLane<M, C>, LaneError> {
        let options = self.options;
        if !self.candidate.shadowable() {
            return Err(LaneError::NotShadowable);
        }
        if self.stable.as_ref().is_some_and(|stable| !stable.shadowable()) {
            return Err(LaneError::BaselineNotShadowable);
        }
        if !(0.0..=1.0).contains(&options.threshold) {
            return Err(LaneError::Threshold { threshold: options.threshold });
        }
        if !(options.slower.is_finite() && options.slower > 0.0) {
            return Err(LaneError::Slower { slower: options.slower });
        }
        if options.segments.len() > Segment::MAX_DECLARED {
            return Err(LaneError::Segments { count: options.segments.len() });
        }
        Ok(ShadowLane {
            inner: Arc::new(Inner {
                candidate: self.candidate,
                stable: self.stable,
                executor: self.executor,
                comparing: self.comparing.unwrap_or(Comparing::Not),
                hooks: self.hooks,
                clock,
                bucketing: Bucketing::new(&Scheme::new(options.salt.as_str())),
                state: AtomicU8::new(OPEN),
                tallies: Tallies::default(),
                turns: Turns::new(options.at_once),
                truths: Mutex::new(Truths::new(options.samples)),
                results: Mutex::new(Results::default()),
                explorer: self.explorer.map(|options| Mutex::new(Explorer::new(options))),
                options,
            }),
        })
    }
}

impl<M: Model> std::fmt::Debug for LaneBuilder<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LaneBuilder").field("options", &self.options).finish_non_exhaustive()
    }
}
