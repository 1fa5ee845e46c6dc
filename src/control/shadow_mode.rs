//! A candidate in shadow, and nothing else.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::alert::alert::{Alert, Severity};
use crate::alert::alerter::Alerter;
use crate::alert::policy::AlertPolicy;
use crate::clock::{Clock, StdClock};
use crate::control::alert_queue::AlertQueue;
use crate::control::shadow_page::{Names, page};
use crate::ids::{Arm, Segment};
use crate::judge::shadow::{ShadowReport, ShadowRules, ShadowVerdict};
use crate::model::{Model, SyncModel};
use crate::serve::request::Request;
use crate::serve::router::{Answer, Router};
use crate::serve::shadow_lane::{ShadowLane, Told};
use crate::serve::ticket::Ticket;
use crate::stats::error::StatsError;

/// A candidate that sees real requests and is seen by no user, until it is known whether it agrees,
/// who is right, how much slower it is, and where it differs.
///
/// Requests go through [`ShadowMode::predict`] and cost the caller the time of an offer. The
/// verdict is there at any time ([`ShadowMode::report`]) and may be looked at as often as one likes;
/// [`ShadowMode::tick`] tells people when it becomes another. The share of the candidate stays at
/// zero: what to do with the verdict is yours, or a [`Pilot`](crate::control::Pilot)'s.
///
/// ```
/// use pilotage::alert::alerter::StderrAlerter;
/// use pilotage::compare::comparator::Exact;
/// use pilotage::control::pool::WorkerPool;
/// use pilotage::control::shadow_mode::ShadowMode;
/// use pilotage::judge::shadow::{ShadowRules, ShadowVerdict};
/// use pilotage::model;
/// use pilotage::serve::request::Request;
/// use pilotage::serve::router::Router;
/// use pilotage::serve::shadow_lane::{LaneOptions, ShadowLane};
/// use std::convert::Infallible;
/// use std::sync::Arc;
///
/// type Count = fn(&u64) -> Result<u64, Infallible>;
/// let old: Count = |n| Ok(n * 2);
/// let new: Count = |n| Ok(n + n);
/// let router = Router::builder("double").stable("times", model::sync(old)).build()?;
/// let pool = WorkerPool::new("shadow", 1, 4_096)?;
/// let options = LaneOptions { in_flight: 4_096, slower: 1_000.0, ..LaneOptions::default() };
/// let lane = ShadowLane::builder(Arc::new(model::sync(new).shadowable()), pool)
///     .compare(Exact)
///     .options(options)
///     .open()?;
/// let shadow =
///     ShadowMode::start(&router, "plus", lane, ShadowRules::default(), Arc::new(StderrAlerter))?;
///
/// for user in 0..1_500_u64 {
///     let answer = shadow.predict_sync(Request::of(user), &Arc::new(user))?;
///     assert_eq!(answer.output, user * 2);
/// }
/// while shadow.lane().in_flight() > 0 {
///     std::thread::yield_now();
/// }
/// assert_eq!(shadow.report().verdict, ShadowVerdict::PromoteToCanary, "{}", shadow.report());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ShadowMode<M: Model, C: Clock = StdClock> {
    router: Router<M, C>,
    lane: ShadowLane<M, C>,
    candidate: String,
    rules: ShadowRules,
    dispatch: AlertQueue,
    told: Mutex<&'static str>,
}

/// A shadow that cannot begin. Stable goes on serving.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShadowError {
    /// A rule is out of its range.
    #[error(transparent)]
    Rules(#[from] StatsError),
    /// The rules ask for the baseline's noise and the lane cannot measure it.
    #[error(
        "disagreement is to be judged above the baseline's own, and the lane was not given the \
         baseline; give it with `noise_floor`, or ask for no excess"
    )]
    NoNoiseFloor,
    /// The system gives no thread for the alerts.
    #[error("no thread for the alerts: {0}")]
    Thread(#[from] std::io::Error),
}

impl<M, C> ShadowMode<M, C>
where
    M: Model + 'static,
    M::Input: Send,
    C: Clock + 'static,
{
    /// Begins to shadow the requests of `router` in `lane`, whose candidate is called `candidate`.
    ///
    /// What is slower is what the lane counts as such. Where the lane measures the baseline's noise
    /// and the rules do not say otherwise, disagreement may exceed it by one minus the agreement
    /// asked for.
    ///
    /// # Errors
    ///
    /// [`ShadowError`]; stable goes on serving.
    pub fn start(
        router: &Router<M, C>,
        candidate: &str,
        lane: ShadowLane<M, C>,
        mut rules: ShadowRules,
        alerter: Arc<dyn Alerter>,
    ) -> Result<Self, ShadowError> {
        rules.slower = lane.options().slower;
        if lane.measures_noise() {
            rules.excess = rules.excess.or(Some(1.0 - rules.agreement));
        } else if rules.excess.is_some() {
            return Err(ShadowError::NoNoiseFloor);
        }
        rules.check()?;
        Ok(Self {
            router: router.clone(),
            lane,
            candidate: candidate.to_owned(),
            rules,
            dispatch: AlertQueue::start(alerter, AlertPolicy::default())?,
            told: Mutex::new("continue"),
        })
    }

    /// Answers with the router's answer, and shadows the request; see [`ShadowLane::predict`].
    ///
    /// # Errors
    ///
    /// The stable model's own.
    pub async fn predict(
        &self,
        request: Request<'_>,
        input: &Arc<M::Input>,
    ) -> Result<Answer<M::Output>, M::Error>
    where
        M::Output: Clone,
    {
        self.lane.predict(&self.router, request, input, None).await
    }

    /// As [`ShadowMode::predict`], for an input that the lane copies; see
    /// [`ShadowLane::predict_copied`].
    ///
    /// # Errors
    ///
    /// The stable model's own.
    pub async fn predict_copied(
        &self,
        request: Request<'_>,
        input: &M::Input,
    ) -> Result<Answer<M::Output>, M::Error>
    where
        M::Output: Clone,
    {
        self.lane.predict_copied(&self.router, request, input, None).await
    }

    /// As [`ShadowMode::predict`], without a future.
    ///
    /// # Errors
    ///
    /// The stable model's own.
    pub fn predict_sync(
        &self,
        request: Request<'_>,
        input: &Arc<<M as Model>::Input>,
    ) -> Result<Answer<<M as Model>::Output>, <M as Model>::Error>
    where
        M: SyncModel<
                Input = <M as Model>::Input,
                Output = <M as Model>::Output,
                Error = <M as Model>::Error,
            >,
        <M as Model>::Output: Clone,
    {
        self.lane.predict_sync(&self.router, request, input, None)
    }

    /// Says which outputs to the request of this ticket are right. The lane's truths must come by
    /// ticket ([`TruthBy::Ticket`](crate::serve::shadow_lane::TruthBy)); see
    /// [`ShadowLane::truth_of`].
    pub fn outcome(
        &self,
        ticket: Ticket,
        right: impl Fn(&M::Output) -> bool + Send + Sync + 'static,
    ) -> Told {
        self.lane.truth_of(ticket, right)
    }

    /// What the shadow has come to. Looking is free: the verdict errs as rarely at the thousandth
    /// look as at the first.
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "the rules were checked at the start")]
    pub fn report(&self) -> ShadowReport {
        let (classes, clusters) = (self.lane.classes(), self.lane.clusters());
        let name = |segment: Segment| match self.router.segment_name(segment) {
            Some(name) => name.to_string(),
            None => format!("segment {}", segment.index()),
        };
        let counts = self.lane.counts();
        let report = self.rules.judge_named(&counts, Some(&classes), Some(&clusters), &name);
        report.expect("the rules were checked at the start")
    }

    /// Tells people when the verdict has become another. Returns whether the shadow goes on, which
    /// it does as long as neither is shown; the lane runs on in any case, until it is stopped.
    pub fn tick(&self) -> bool {
        let report = self.report();
        let words = report.verdict.words();
        let before = std::mem::replace(&mut *self.told.lock(), words);
        if before != words {
            let severity = match report.verdict {
                ShadowVerdict::PromoteToCanary | ShadowVerdict::Continue { .. } => Severity::Info,
                _ => Severity::Warning,
            };
            let (name, now) = (self.router.name().clone(), self.router.clock().now());
            let alert = Alert::new("shadow", severity, name, now, report.to_string());
            self.dispatch.send(alert.once());
        }
        matches!(report.verdict, ShadowVerdict::Continue { .. })
    }

    /// The lane: its counts, cases and labels, and for pausing and stopping it.
    #[must_use]
    pub const fn lane(&self) -> &ShadowLane<M, C> {
        &self.lane
    }

    /// The rules.
    #[must_use]
    pub const fn rules(&self) -> &ShadowRules {
        &self.rules
    }

    /// The report as a page of HTML that needs nothing else: verdict, evidence, segments, patterns
    /// of disagreement with their cases, and the slowest requests.
    #[must_use]
    pub fn page(&self) -> String {
        let baseline = self.router.model_name(Arm::BASELINE);
        let names = Names {
            baseline: baseline.as_ref().map_or("baseline", |name| name.as_str()),
            candidate: &self.candidate,
            segment: &|segment: Segment| self.router.segment_name(segment).map(ToString::to_string),
        };
        let cases = self.lane.exploration().unwrap_or_default();
        page(&names, &self.report(), &self.lane.counts(), &cases)
    }

    /// Runs no shadow until [`ShadowMode::resume`]. Takes effect at once.
    pub fn pause(&self) {
        self.lane.pause();
    }

    /// Runs shadows again.
    pub fn resume(&self) {
        self.lane.resume();
    }

    /// Runs no shadow any more. Takes effect at once; what was seen stays.
    pub fn stop(&self) {
        self.lane.stop();
    }
}

impl<M: Model, C: Clock> std::fmt::Debug for ShadowMode<M, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShadowMode").field("rules", &self.rules).finish_non_exhaustive()
    }
}
