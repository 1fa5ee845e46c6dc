//! The handle that whoever serves requests holds.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::clock::{Clock, StdClock};
use crate::compare::agreement::Classes;
use crate::ids::Arm;
use crate::model::{Model, SyncModel};
use crate::observe::clusters::Clusters;
use crate::observe::explorer::case::Label;
use crate::observe::explorer::explorer::{Exploration, Labelled};
use crate::observe::shadow::ShadowCounts;
use crate::outcome::Status;
use crate::serve::answer::Answer;
use crate::serve::catch::{caught, discard};
use crate::serve::request::{Group, Request};
use crate::serve::router::Router;
use crate::serve::shadow_lane::inner::{End, Inner, OPEN, PAUSED, Place, STOPPED, Work};
use crate::serve::shadow_lane::offer::{Offer, Offered, Told};
use crate::serve::shadow_lane::options::{LaneOptions, TruthBy};
use crate::serve::shadow_lane::results::{Judge, Pair, briefly};
use crate::serve::ticket::Ticket;
use crate::share::TrafficShare;
use xxhash_rust::xxh3::xxh3_64;

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
    pub(super) inner: Arc<Inner<M, C>>,
}

impl<M, C> ShadowLane<M, C>
where
    M: Model + 'static,
    M::Input: Send,
    C: Clock + 'static,
{
    /// Serves a request through `router` and offers it to the lane afterwards. The caller hears
    /// the router's answer, as early as without the lane but for the time of an offer: a hash, a
    /// few counts, and a clone of the output for requests that are sampled and have room.
    ///
    /// Requests that the router gave to its candidate are not offered, nor are errors while the
    /// candidate has traffic, since they may be its own. A lane that is paused or stopped costs one
    /// load and counts nothing.
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
        if !self.is_open() {
            return router.predict(request, input).await;
        }
        let begun = self.inner.clock.now();
        let result = router.predict(request, input).await;
        self.served(router, request, (begun, sample), &result, input, || Some(Arc::clone(input)));
        result
    }

    /// As [`ShadowLane::predict`], for an input that is not behind an `Arc`: the builder's
    /// [`copy`](super::builder::LaneBuilder::copy) hands it over, called only for requests that are sampled, have
    /// room and are not too large. Without such a function nothing is run, and each request counts
    /// as not shadowable.
    ///
    /// # Errors
    ///
    /// As for [`ShadowLane::predict`].
    pub async fn predict_copied<D: Clock>(
        &self,
        router: &Router<M, D>,
        request: Request<'_>,
        input: &M::Input,
        sample: Option<u64>,
    ) -> Result<Answer<M::Output>, M::Error>
    where
        M::Output: Clone,
    {
        if !self.is_open() {
            return router.predict(request, input).await;
        }
        let begun = self.inner.clock.now();
        let result = router.predict(request, input).await;
        let copy = || self.inner.hooks.copy.as_ref()?(input);
        self.served(router, request, (begun, sample), &result, input, copy);
        result
    }

    /// As [`ShadowLane::predict`], without a future, for models that just compute.
    ///
    /// # Errors
    ///
    /// As for [`ShadowLane::predict`].
    pub fn predict_sync<D: Clock>(
        &self,
        router: &Router<M, D>,
        request: Request<'_>,
        input: &Arc<<M as Model>::Input>,
        sample: Option<u64>,
    ) -> Result<Answer<<M as Model>::Output>, <M as Model>::Error>
    where
        M: SyncModel<
                Input = <M as Model>::Input,
                Output = <M as Model>::Output,
                Error = <M as Model>::Error,
            >,
        <M as Model>::Output: Clone,
    {
        if !self.is_open() {
            return router.predict_sync(&request, input);
        }
        let begun = self.inner.clock.now();
        let result = router.predict_sync(&request, input);
        self.served(router, request, (begun, sample), &result, input, || Some(Arc::clone(input)));
        result
    }

    fn served<D: Clock>(
        &self,
        router: &Router<M, D>,
        request: Request<'_>,
        (begun, sample): (crate::clock::Moment, Option<u64>),
        result: &Result<Answer<M::Output>, M::Error>,
        input: &M::Input,
        hand_over: impl FnOnce() -> Option<Arc<M::Input>>,
    ) where
        M::Output: Clone,
    {
        let inner = &self.inner;
        let latency = inner.clock.now().since(begun);
        let mut sample = sample;
        let (status, output) = match result {
            Ok(answer) if answer.arm != Arm::BASELINE => return,
            Ok(answer) => {
                if inner.options.truth == TruthBy::Ticket {
                    sample = sample.or_else(|| Some(key_of(answer.ticket)));
                }
                (Status::Ok, Some(&answer.output))
            }
            Err(_) if router.split().candidate > TrafficShare::NONE => return,
            Err(error) => {
                let model = inner.stable.as_ref().unwrap_or(&inner.candidate);
                (caught(|| model.status_of(error)).unwrap_or(Status::Error), None)
            }
        };
        let request = match request.segment {
            Group::Named(name) => request.segment_number(router.segment(name)),
            Group::None | Group::Numbered(_) => request,
        };
        self.take(&request, |place| {
            // Whatever of the user's own panics here takes the shadow along, not the request.
            let copied = caught(|| {
                let bytes =
                    inner.hooks.size.as_ref().map_or(size_of_val(input), |size| size(input));
                if bytes > inner.options.input_bytes {
                    return Err(End::TooLarge);
                }
                let input = hand_over().ok_or(End::NotShadowable)?;
                Ok(Offer { input, bytes, status, latency, output: output.cloned(), sample })
            });
            match copied {
                Ok(Ok(offer)) => Some(offer),
                Ok(Err(end)) => {
                    place.end = end;
                    None
                }
                Err(payload) => {
                    discard(payload);
                    place.end = End::NotShadowable;
                    None
                }
            }
        });
    }

    /// Offers a request that was served. `offer` is called only when the lane has room for it.
    /// Never waits.
    pub fn offer(
        &self,
        request: &Request<'_>,
        offer: impl FnOnce() -> Offer<M::Input, M::Output>,
    ) -> Offered {
        self.take(request, |place| {
            let offer = offer();
            if offer.bytes > self.inner.options.input_bytes {
                place.end = End::TooLarge;
                return None;
            }
            Some(offer)
        })
    }

    fn take(
        &self,
        request: &Request<'_>,
        offer: impl FnOnce(&mut Place<M, C>) -> Option<Offer<M::Input, M::Output>>,
    ) -> Offered {
        let (inner, tallies) = (&self.inner, &self.inner.tallies);
        let state = inner.state.load(Ordering::Relaxed);
        if state == STOPPED {
            return Offered::Skipped;
        }
        let cluster = inner.hash_of(&request.subject());
        if !inner.samples(cluster) {
            return Offered::NotSampled;
        }
        tallies.sampled.fetch_add(1, Ordering::Relaxed);
        if state == PAUSED {
            tallies.paused.fetch_add(1, Ordering::Relaxed);
            return Offered::Skipped;
        }
        if tallies.in_flight.fetch_add(1, Ordering::AcqRel) >= inner.options.in_flight {
            tallies.in_flight.fetch_sub(1, Ordering::AcqRel);
            tallies.shed.fetch_add(1, Ordering::Relaxed);
            return Offered::Shed;
        }
        // From here on the place counts as shed unless it says otherwise, whatever drops it.
        let segment = inner.segment_of(request);
        let mut place =
            Place { inner: Arc::clone(inner), truth: None, segment, cluster, end: End::Shed };
        let Some(offer) = offer(&mut place) else { return Offered::Skipped };
        place.truth = offer.sample.filter(|sample| self.expect(*sample));
        match inner.executor.spawn(Box::new(move || Work { place, offer }.run())) {
            Ok(()) => Offered::Taken,
            Err(_) => Offered::Shed,
        }
    }

    /// Asks the stable model (see [`noise_floor`](super::builder::LaneBuilder::noise_floor)) about a request that somebody
    /// serves, and hands its answer to `then`, on the lane's executor; `None` where it gave none.
    ///
    /// For after the shadow. In a canary or an A/B test the stable model's score on the same request
    /// is a covariate that says how hard the request is: given to
    /// [`Measurement::with_before`](crate::judge::experiment::Measurement::with_before), it takes
    /// what requests differ in out of the comparison (CUPED). It may be asked for after the arm is
    /// chosen, since it depends on the request and not on the arm; so ask in **both** arms alike,
    /// and not in place of the baseline's own answer, or a noisy model's luck leaks into one arm.
    ///
    /// Sampled by subject as shadows are, within `in_flight`, and counted nowhere: what is shed or
    /// skipped is simply never handed over.
    pub fn ask_stable(
        &self,
        request: &Request<'_>,
        input: &Arc<M::Input>,
        then: impl FnOnce(Option<M::Output>) + Send + 'static,
    ) -> Offered {
        let inner = &self.inner;
        if inner.stable.is_none() || inner.state.load(Ordering::Relaxed) != OPEN {
            return Offered::Skipped;
        }
        if !inner.samples(inner.hash_of(&request.subject())) {
            return Offered::NotSampled;
        }
        if inner.tallies.in_flight.fetch_add(1, Ordering::AcqRel) >= inner.options.in_flight {
            inner.tallies.in_flight.fetch_sub(1, Ordering::AcqRel);
            return Offered::Shed;
        }
        let held = Held(Arc::clone(inner));
        let input = Arc::clone(input);
        let job = Box::new(move || {
            let asked = caught(|| then(held.0.ask(Arm::BASELINE, &input).2));
            if let Err(payload) = asked {
                discard(payload);
            }
        });
        match inner.executor.spawn(job) {
            Ok(()) => Offered::Taken,
            Err(_) => Offered::Shed,
        }
    }

    /// Keeps a place for a sample's outputs, if that can be done at once.
    fn expect(&self, sample: u64) -> bool {
        let Some(mut truths) = briefly(&self.inner.truths) else {
            self.inner.tallies.untracked.fetch_add(1, Ordering::Relaxed);
            return false;
        };
        let (expected, gone) = truths.expect(sample);
        drop(truths);
        if let Err(payload) = caught(|| drop(gone)) {
            discard(payload);
        }
        expected
    }

    /// Says what is true of a sample: `right` is asked about both outputs. Each sample counts
    /// once, however often it was replayed; a call that gave no answer was wrong.
    pub fn truth(
        &self,
        sample: u64,
        right: impl Fn(&M::Output) -> bool + Send + Sync + 'static,
    ) -> Told {
        let right: Arc<Judge<M::Output>> = Arc::new(right);
        let (segment, baseline, candidate) = {
            let mut truths = self.inner.truths.lock();
            let truths = &mut *truths;
            match truths.pairs.get_mut(&sample) {
                None if truths.judged.has(sample) => return Told::Before,
                None => return Told::Unknown,
                Some(Pair::Told(_)) => return Told::Before,
                Some(pair @ Pair::Running) => {
                    *pair = Pair::Told(right);
                    return Told::Later;
                }
                Some(Pair::Both(..)) => match truths.pairs.remove(&sample) {
                    Some(Pair::Both(segment, baseline, candidate)) => {
                        truths.judged.first(sample);
                        (segment, baseline, candidate)
                    }
                    _ => return Told::Unknown,
                },
            }
        };
        self.inner.judge(segment, &*right, (baseline.as_ref(), candidate.as_ref()));
        Told::Counted
    }

    /// As [`ShadowLane::truth`], for the request that got this ticket; for lanes whose truths come
    /// by ticket ([`TruthBy::Ticket`]).
    pub fn truth_of(
        &self,
        ticket: Ticket,
        right: impl Fn(&M::Output) -> bool + Send + Sync + 'static,
    ) -> Told {
        self.truth(key_of(ticket), right)
    }

    /// Notes who was right about a case of the exploration. The label of a case in the uniform
    /// sample is evidence about all disagreements and enters
    /// [`ShadowCounts::labels`]; that of another says something of its pattern alone, since frequent
    /// and rare patterns are kept alike. For the evidence to be honest, label the whole uniform
    /// sample, not the cases that catch the eye.
    ///
    /// A case whose sample's truth was counted is [`Labelled::Before`].
    #[expect(clippy::must_use_candidate, reason = "it is called for its effect")]
    pub fn label(&self, case: u64, label: Label) -> Labelled {
        let Some(explorer) = &self.inner.explorer else { return Labelled::Unknown };
        let mut explorer = explorer.lock();
        let sample = explorer.sample_of(case);
        let mut truths = self.inner.truths.lock();
        if sample.is_some_and(|sample| truths.judged.has(sample)) {
            return Labelled::Before;
        }
        let labelled = explorer.label(case, label);
        if labelled == Labelled::Evidence {
            if let Some(sample) = sample {
                truths.judged.first(sample);
            }
            let (baseline, candidate) = label.right();
            self.inner.results.lock().counts.labels.add(baseline, candidate);
        }
        labelled
    }

    /// What was seen so far.
    #[must_use]
    pub fn counts(&self) -> ShadowCounts {
        let mut counts = self.inner.results.lock().counts.clone();
        let tallies = &self.inner.tallies;
        counts.shed = tallies.shed.load(Ordering::Acquire);
        counts.too_large = tallies.too_large.load(Ordering::Acquire);
        counts.not_shadowable = tallies.not_shadowable.load(Ordering::Acquire);
        counts.paused = tallies.paused.load(Ordering::Acquire);
        counts.skipped = counts.too_large + counts.not_shadowable + counts.paused;
        // Last, so that no more have ended than were sampled.
        counts.sampled = tallies.sampled.load(Ordering::Acquire);
        counts
    }

    /// How often each model gave each class, where the lane was told what a class is.
    #[must_use]
    pub fn classes(&self) -> Classes {
        self.inner.results.lock().classes.clone()
    }

    /// Pairs and matches by a hash of the subject: what says how much pairs hang together.
    #[must_use]
    pub fn clusters(&self) -> Clusters {
        self.inner.results.lock().clusters.clone()
    }

    /// Where the models differ, where the lane explores.
    #[must_use]
    pub fn exploration(&self) -> Option<Exploration> {
        self.inner.explorer.as_ref().map(|explorer| explorer.lock().exploration())
    }

    /// Calls that wait or run.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.inner.tallies.in_flight.load(Ordering::Acquire)
    }

    /// Calls that run, the second ones of the stable model included in theirs.
    #[must_use]
    pub fn running(&self) -> usize {
        self.inner.turns.running(self.inner.clock.now(), self.inner.options.deadline).0
    }

    /// Calls that run past the deadline: they hang, or compute without end.
    #[must_use]
    pub fn overdue(&self) -> usize {
        self.inner.turns.running(self.inner.clock.now(), self.inner.options.deadline).1
    }

    /// Samples whose truth cannot be counted, since noting them would have made a request wait.
    #[must_use]
    pub fn untracked(&self) -> u64 {
        self.inner.tallies.untracked.load(Ordering::Acquire)
    }

    /// How the lane works.
    #[must_use]
    pub fn options(&self) -> &LaneOptions {
        &self.inner.options
    }

    /// Whether the stable model is asked a second time on a part of the requests.
    #[must_use]
    pub fn measures_noise(&self) -> bool {
        self.inner.stable.is_some() && self.inner.options.noise > TrafficShare::NONE
    }

    /// Whether requests are taken.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.inner.state.load(Ordering::Relaxed) == OPEN
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

/// A place in the lane that is counted nowhere else.
struct Held<M: Model, C: Clock>(Arc<Inner<M, C>>);

impl<M: Model, C: Clock> Drop for Held<M, C> {
    fn drop(&mut self) {
        self.0.tallies.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

fn key_of(ticket: Ticket) -> u64 {
    xxh3_64(&ticket.to_bytes())
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
