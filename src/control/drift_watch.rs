//! Watches a deployed model for drift, and calls for a new one.
//!
//! A [`DriftWatch`] feeds a [`DriftMonitor`] from a [`Recorder`] and from the labels that come by
//! ticket, sends its alerts, and hands a call for retraining to the host's [`RetrainingPipeline`].
//! What the pipeline trains comes back by [`DriftWatch::enter`]: as a candidate like every other, at
//! the beginning of a plan, with a baseline of its own. Nothing here moves traffic.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::alert::alert::{Alert, Severity};
use crate::alert::alerter::Alerter;
use crate::alert::policy::AlertPolicy;
use crate::clock::{Clock, Moment};
use crate::control::alert_queue::{AlertCounts, AlertQueue};
use crate::control::pilot::Pilot;
use crate::control::start::{PilotBuilder, StartError};
use crate::drift::error::DriftError;
use crate::drift::labels::{LabelLedger, LabelPlace};
use crate::drift::monitor::{
    DriftEffect, DriftInput, DriftMonitor, DriftNews, RetrainRequest, Urgency,
};
use crate::drift::report::HealthReport;
use crate::drift::state::MonitorState;
use crate::drift::stream::Recorder;
use crate::ids::{Arm, Epoch, Name};
use crate::rollout::plan::Plan;
use crate::serve::router::Router;
use crate::serve::ticket::Ticket;

/// Trains a new model: the host's own.
pub trait RetrainingPipeline: Send + Sync {
    /// Asked to train a new model, at most once in the monitor's cool-down.
    ///
    /// Called from [`DriftWatch::tick`], never from a request handler: it should start the training
    /// and return. A panic is caught and counted as a refusal.
    ///
    /// # Errors
    ///
    /// When no training could be started; people are told.
    fn retrain(&self, request: &RetrainRequest) -> Result<(), RetrainError>;
}

/// Why no training could be started.
#[derive(Debug, thiserror::Error)]
#[error("no training was started: {reason}")]
pub struct RetrainError {
    reason: String,
}

impl RetrainError {
    /// An error with its reason.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "so that it fits `map_err`")]
    pub fn new(reason: impl ToString) -> Self {
        Self { reason: reason.to_string() }
    }
}

/// A pipeline that only lets people know: the default where training is started by hand.
#[derive(Clone, Copy, Debug, Default)]
pub struct ByHand;

impl RetrainingPipeline for ByHand {
    fn retrain(&self, _request: &RetrainRequest) -> Result<(), RetrainError> {
        Ok(())
    }
}

/// Watches a deployed model. Clones are handles on the same watch.
#[derive(Clone)]
pub struct DriftWatch {
    shared: Arc<Shared>,
}

struct Shared {
    service: Name,
    recorder: Recorder,
    dispatch: AlertQueue,
    pipeline: Arc<dyn RetrainingPipeline>,
    /// Held for moments only, never while the host's code runs.
    desk: Mutex<Desk>,
    refused: AtomicU64,
}

struct Desk {
    monitor: DriftMonitor,
    ledger: LabelLedger,
    last: Option<HealthReport>,
}

impl std::fmt::Debug for DriftWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DriftWatch").field("service", &self.shared.service).finish_non_exhaustive()
    }
}

impl DriftWatch {
    /// A watch of `service` that is fed by `recorder` and by labels that are due as `ledger` says.
    ///
    /// # Errors
    ///
    /// [`DriftError::AnotherReference`] when recorder and monitor have different references, and
    /// [`WatchError::Thread`] when the system gives no thread for the alerts.
    pub fn new(
        service: Name,
        recorder: Recorder,
        monitor: DriftMonitor,
        ledger: LabelLedger,
        alerter: Arc<dyn Alerter>,
        pipeline: Arc<dyn RetrainingPipeline>,
    ) -> Result<Self, WatchError> {
        let (found, expected) = (recorder.reference().id(), monitor.reference().id());
        if found != expected {
            let (found, expected) = (found.to_owned(), expected.to_owned());
            return Err(DriftError::AnotherReference { found, expected }.into());
        }
        let dispatch = AlertQueue::start(alerter, AlertPolicy::default())?;
        let desk = Mutex::new(Desk { monitor, ledger, last: None });
        let refused = AtomicU64::new(0);
        let shared = Shared { service, recorder, dispatch, pipeline, desk, refused };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Where request handlers count their values.
    #[must_use]
    pub fn recorder(&self) -> &Recorder {
        &self.shared.recorder
    }

    /// Requests were served at about `at`: they wait for their truth from now on.
    pub fn served(&self, arm: Arm, epoch: Epoch, at: Moment, requests: u64) {
        self.shared.desk.lock().ledger.served(arm, epoch, at, requests);
    }

    /// The truth about the request of `ticket` became known at `now`. It counts for the stage that
    /// served it, however late it comes.
    #[expect(clippy::must_use_candidate, reason = "it is called for its effect")]
    pub fn labelled(&self, ticket: Ticket, now: Moment, correct: bool) -> LabelPlace {
        let served = now
            .as_nanos()
            .saturating_sub(u64::try_from(ticket.age(now).as_nanos()).unwrap_or(u64::MAX));
        let (arm, epoch) = (ticket.arm(), ticket.epoch());
        let mut desk = self.shared.desk.lock();
        desk.ledger.labelled(arm, epoch, Moment::from_nanos(served), correct)
    }

    /// Looks at what was counted since the last tick; returns the report of a window that is over.
    ///
    /// Call it every few seconds to every few minutes, from any one thread.
    #[must_use]
    pub fn tick(&self, now: Moment) -> Option<HealthReport> {
        let seen = self.shared.recorder.drain();
        let effects = {
            let mut desk = self.shared.desk.lock();
            let due = desk.ledger.matured(now);
            // A window that is over now has both: labels let no time pass, the rows after them do.
            let mut effects = desk.monitor.labels_now(&due);
            // The references were compared when this was built.
            let seen = DriftInput::Seen(Box::new(seen));
            effects.extend(desk.monitor.handle(now, seen).unwrap_or_default());
            effects
        };
        self.carry_out(now, effects)
    }

    /// Somebody knows about the alarms.
    pub fn acknowledge(&self, now: Moment) {
        let effects = self.shared.desk.lock().monitor.handle(now, DriftInput::Acknowledged);
        let _ = self.carry_out(now, effects.unwrap_or_default());
    }

    /// How the model is, as of the window under way.
    #[must_use]
    pub fn report(&self) -> HealthReport {
        self.shared.desk.lock().monitor.report()
    }

    /// The report of the last window that is over.
    #[must_use]
    pub fn last_report(&self) -> Option<HealthReport> {
        self.shared.desk.lock().last.clone()
    }

    /// What the monitor must not lose over a restart, as of the last tick, to be stored: take it right
    /// after one. The next process gives it to [`DriftMonitor::restore`] and begins a watch with that.
    ///
    /// Rows recorded since the last tick are not in it, nor are requests that wait for their truth;
    /// those are the [`LabelLedger`]'s, whose moments are of this process's clock.
    #[must_use]
    pub fn state(&self) -> MonitorState {
        self.shared.desk.lock().monitor.state()
    }

    /// Calls for retraining that the pipeline refused.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }

    /// What became of the alerts so far.
    #[must_use]
    pub fn alerts(&self) -> AlertCounts {
        self.shared.dispatch.counts()
    }

    /// A retrained model begins the standard plan: its own baseline, shadow, and every stage after it.
    /// That the old model drifted counts for nothing there.
    ///
    /// # Errors
    ///
    /// [`StartError`]; the old model goes on serving.
    pub fn enter<M, C>(
        rollout: PilotBuilder,
        router: &Router<M, C>,
        name: &str,
        model: Arc<M>,
    ) -> Result<Pilot, StartError>
    where
        M: Send + Sync + 'static,
        C: Clock + 'static,
    {
        rollout.start(router, name, model, Plan::standard())
    }

    fn carry_out(&self, now: Moment, effects: Vec<DriftEffect>) -> Option<HealthReport> {
        let mut last = None;
        for effect in effects {
            match effect {
                DriftEffect::Alert(news) => self.tell(now, news),
                DriftEffect::Retrain(request) => self.call(now, &request),
                DriftEffect::Report(report) => {
                    self.shared.desk.lock().last = Some((*report).clone());
                    last = Some(*report);
                }
            }
        }
        last
    }

    fn call(&self, now: Moment, request: &RetrainRequest) {
        let pipeline = &self.shared.pipeline;
        let asked = catch_unwind(AssertUnwindSafe(|| pipeline.retrain(request)));
        let (severity, summary) = match asked {
            Ok(Ok(())) => (Severity::Info, format!("retraining was asked for: {}", request.why)),
            Ok(Err(error)) => (Severity::Warning, error.to_string()),
            Err(_) => (Severity::Warning, "the retraining pipeline panicked".to_owned()),
        };
        if severity != Severity::Info {
            self.shared.refused.fetch_add(1, Ordering::Relaxed);
        }
        let service = self.shared.service.clone();
        let alert = Alert::new("drift/retrain", severity, service, now, summary);
        self.shared.dispatch.send(alert.once());
    }

    fn tell(&self, now: Moment, news: DriftNews) {
        let severity = match news.urgency {
            Urgency::Info => Severity::Info,
            Urgency::Warning => Severity::Warning,
            Urgency::Critical => Severity::Critical,
        };
        let service = self.shared.service.clone();
        let mut alert = Alert::new(news.key, severity, service, now, news.summary);
        alert.resolved = news.resolved;
        self.shared.dispatch.send(alert);
    }
}

/// A watch that cannot begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WatchError {
    /// Recorder and monitor do not fit.
    #[error(transparent)]
    Drift(#[from] DriftError),
    /// The system gives no thread for the alerts.
    #[error("no thread for the alerts: {0}")]
    Thread(#[from] std::io::Error),
}
