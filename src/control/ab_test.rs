//! An A/B test of two models in a running server.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::alert::alert::{Alert, Severity};
use crate::alert::alerter::Alerter;
use crate::alert::policy::AlertPolicy;
use crate::clock::{Clock, Moment};
use crate::control::alert_queue::AlertQueue;
use crate::ids::{Arm, Segment};
use crate::judge::experiment::Measurement;
use crate::machine::Seen;
use crate::observe::snapshot::Snapshot;
use crate::route::switch::{SwitchError, TrafficSwitch};
use crate::serve::router::{DeployError, Router};
use crate::share::TrafficShare;
use crate::strategy::ab_test::plan::{ABTestError, ABTestPlan};
use crate::strategy::ab_test::report::{Outcome, Report};
use crate::strategy::ab_test::segments::SegmentRoutes;
use crate::strategy::ab_test::test;

/// Two models side by side in a router, until it is known which is better.
///
/// Requests go through the router as always. Measurements come in by [`ABTest::record`], with the
/// answer or long after it. [`ABTest::tick`] watches the guardrails, and takes the candidate back
/// when one breaks or the baseline wins; a candidate that wins keeps its share until somebody
/// promotes it. For more than two arms, the machine itself
/// ([`crate::strategy::ab_test::test::ABTest`]) assigns and decides, and models are called by the
/// host.
///
/// ```
/// use std::sync::Arc;
///
/// use pilotage::alert::alerter::StderrAlerter;
/// use pilotage::control::ab_test::ABTest;
/// use pilotage::ids::{Name, Segment};
/// use pilotage::judge::experiment::{Measurement, Metric};
/// use pilotage::model;
/// use pilotage::serve::request::Request;
/// use pilotage::serve::router::Router;
/// use pilotage::share::TrafficShare;
/// use pilotage::strategy::ab_test::plan::ABTestPlan;
///
/// let guess = |right_of_ten: u64| model::sync(move |n: &u64| Ok::<_, String>(n % 10 < right_of_ten));
/// let router = Router::builder("ranker").stable("v1", guess(5)).build()?;
/// let plan = ABTestPlan::new(Name::new("v1")?, Name::new("v2")?, Metric::Rate, 0.05, 2_000);
/// let test = ABTest::start(&router, Arc::new(guess(8)), plan, TrafficShare::HALF, Arc::new(StderrAlerter))?;
///
/// for user in 0..6_000_u64 {
///     let answer = router.predict_sync(&Request::of(user), &user)?;
///     let id = user.to_string();
///     test.record(answer.arm, Segment::NONE, id.as_bytes(), Measurement::rate(answer.output))?;
///     if user % 1_000 == 0 && !test.tick() {
///         break;
///     }
/// }
/// assert!(test.report().to_string().starts_with("v2 is the best"), "{}", test.report());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ABTest<M, C: Clock> {
    router: Router<M, C>,
    dispatch: AlertQueue,
    state: Mutex<State>,
}

struct State {
    test: test::ABTest,
    last: Snapshot,
    last_at: Moment,
    told: bool,
}

/// A test that cannot begin. Stable goes on serving everybody.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BeginError {
    /// The plan cannot be run.
    #[error(transparent)]
    Plan(#[from] ABTestError),
    /// The router holds two arms.
    #[error("{arms} arms; a router serves two, further ones are the host's to call")]
    TwoArms {
        /// How many the plan has.
        arms: usize,
    },
    /// The candidate could not be put beside the stable model.
    #[error("the candidate was not deployed: {0}")]
    Deploy(#[from] DeployError),
    /// The switch did not obey.
    #[error(transparent)]
    Switch(#[from] SwitchError),
    /// The system gives no thread for the alerts.
    #[error("no thread for the alerts: {0}")]
    Thread(#[from] std::io::Error),
}

impl<M, C: Clock> ABTest<M, C> {
    /// Puts `candidate` beside the stable model and gives it `share` of the subjects. The plan's
    /// weights are set to that split.
    ///
    /// # Errors
    ///
    /// [`BeginError`]; stable goes on serving everybody.
    pub fn start(
        router: &Router<M, C>,
        candidate: Arc<M>,
        mut plan: ABTestPlan,
        share: TrafficShare,
        alerter: Arc<dyn Alerter>,
    ) -> Result<Self, BeginError> {
        if plan.arms.len() != 2 {
            return Err(BeginError::TwoArms { arms: plan.arms.len() });
        }
        plan.arms[0].1 = share.rest().fraction();
        plan.arms[1].1 = share.fraction();
        let name = plan.arms[1].0.clone();
        let test = test::ABTest::new(plan, router.scheme().salt())?;
        let dispatch = AlertQueue::start(alerter, AlertPolicy::default())?;
        let _ = router.retire_idle();
        router.deploy_shared(name.as_str(), candidate)?;
        let word = router.switch();
        word.shift(&word.read().shifted(share))?;
        router.drain();
        let (last, last_at) = (router.snapshot(), router.clock().now());
        let state = Mutex::new(State { test, last, last_at, told: false });
        Ok(Self { router: router.clone(), dispatch, state })
    }

    /// Takes in a measurement of a subject that was served by `arm`. Takes a short lock: for the
    /// place where truths arrive, not for the request path.
    ///
    /// # Errors
    ///
    /// [`ABTestError`] for a value that is no measurement of the metric; it is not counted then.
    pub fn record(
        &self,
        arm: Arm,
        segment: Segment,
        subject: &[u8],
        measurement: Measurement,
    ) -> Result<(), ABTestError> {
        self.state.lock().test.record(arm.index(), segment, subject, measurement)
    }

    /// Looks at the guardrails and at what the test has come to. Returns whether it goes on.
    pub fn tick(&self) -> bool {
        self.router.drain();
        let (now, split) = (self.router.clock().now(), self.router.split());
        let snapshot = self.router.snapshot();
        let (report, told) = {
            let mut state = self.state.lock();
            let mut live = snapshot.since(&state.last);
            live.lasted = now.since(state.last_at);
            live.to = now;
            if snapshot.epoch == split.epoch {
                state.test.observe(now, &Seen::live(split.candidate, live));
            }
            state.last = snapshot;
            state.last_at = now;
            let report = state.test.report();
            let told = std::mem::replace(&mut state.told, report.is_over());
            (report, told)
        };
        if !report.is_over() {
            return true;
        }
        if told {
            return false;
        }
        let severity = match report.outcome {
            Outcome::RolledBack { .. } => Severity::Critical,
            Outcome::Invalid { .. } => Severity::Warning,
            _ => Severity::Info,
        };
        if matches!(report.outcome, Outcome::RolledBack { .. } | Outcome::Winner { arm: 0 }) {
            self.router.switch().roll_back();
        }
        let name = self.router.name().clone();
        let alert = Alert::new("ab_test", severity, name, now, report.to_string());
        self.dispatch.send(alert.once());
        false
    }

    /// Takes the candidate back at once, whatever the test has come to. The test is not over by
    /// that: what was measured stays, and nothing more comes.
    pub fn roll_back(&self) {
        self.router.switch().roll_back();
    }

    /// Everything known now. Looking is free.
    #[must_use]
    pub fn report(&self) -> Report {
        self.state.lock().test.report()
    }

    /// Which arm to serve to whom; see [`test::ABTest::routes`].
    #[must_use]
    pub fn routes(&self) -> SegmentRoutes {
        self.state.lock().test.routes()
    }
}

impl<M, C: Clock> std::fmt::Debug for ABTest<M, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ABTest").field("outcome", &self.report().outcome).finish_non_exhaustive()
    }
}
