//! The beginning of a rollout.

use std::sync::Arc;

use crate::alert::alerter::{Alerter, StderrAlerter};
use crate::alert::policy::AlertPolicy;
use crate::clock::{Clock, Moment, SystemWallClock, WallClock};
use crate::control::dispatch::Dispatch;
use crate::control::pilot::Pilot;
use crate::control::plane::{Plane, ShadowHandle};
use crate::ids::{Arm, Name, NameError};
use crate::machine::Shadowing;
use crate::observe::shadow::ShadowCounts;
use crate::observe::snapshot::{ArmCounts, Snapshot};
use crate::rollout::pipeline::Rollout;
use crate::rollout::plan::Plan;
use crate::rollout::stage::StageKind;
use crate::rollout::trial::TrialError;
use crate::route::switch::{SplitWord, TrafficSwitch};
use crate::serve::router::{DeployError, Router};
use crate::share::TrafficShare;

/// A rollout that cannot begin. Stable goes on serving.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The candidate's name cannot be used.
    #[error("the candidate's name: {0}")]
    Name(#[from] NameError),
    /// The candidate could not be put beside the stable model.
    #[error("the candidate was not deployed: {0}")]
    Deploy(#[from] DeployError),
    /// Another candidate still gets traffic.
    #[error("a candidate already gets {share}; end that rollout first")]
    Busy {
        /// What it gets.
        share: TrafficShare,
    },
    /// The plan has a shadow stage, and there is no lane to run it in.
    #[error(
        "stage {stage} is a shadow, and no shadow lane was given; give one, or remove the stage"
    )]
    NoShadowLane {
        /// The stage.
        stage: Name,
    },
    /// A stage of the plan cannot be judged.
    #[error(transparent)]
    Trial(#[from] TrialError),
    /// The system gives no thread for the alerts.
    #[error("no thread for the alerts: {0}")]
    Thread(#[from] std::io::Error),
}

/// What a rollout needs besides a router, a candidate and a plan. All of it has a default.
#[must_use = "a rollout begins with `start`"]
pub struct PilotBuilder {
    alerter: Arc<dyn Alerter>,
    policy: AlertPolicy,
    switch: Option<Arc<dyn TrafficSwitch>>,
    wall: Arc<dyn WallClock>,
    shadow: Option<Arc<dyn ShadowHandle>>,
}

impl std::fmt::Debug for PilotBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PilotBuilder").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl Pilot {
    /// Puts `model` beside the stable model of `router` and begins `plan`.
    ///
    /// The model must be loaded and warm. Alerts go to standard error, traffic is switched in this
    /// process; [`Pilot::builder`] changes that.
    ///
    /// # Errors
    ///
    /// [`StartError`]; stable goes on serving.
    pub fn start<M, C>(
        router: &Router<M, C>,
        name: &str,
        model: M,
        plan: Plan,
    ) -> Result<Self, StartError>
    where
        M: Send + Sync + 'static,
        C: Clock + 'static,
    {
        Self::builder().start(router, name, Arc::new(model), plan)
    }

    /// Chooses who is alerted, what switches traffic and where shadows run.
    pub fn builder() -> PilotBuilder {
        PilotBuilder {
            alerter: Arc::new(StderrAlerter),
            policy: AlertPolicy::default(),
            switch: None,
            wall: Arc::new(SystemWallClock),
            shadow: None,
        }
    }
}

impl PilotBuilder {
    /// Who tells people; standard error by default.
    pub fn alerter(mut self, alerter: impl Alerter + 'static) -> Self {
        self.alerter = Arc::new(alerter);
        self
    }

    /// Which alerts are news; see [`AlertPolicy`].
    pub fn alert_policy(mut self, policy: AlertPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// A switch outside this process, such as a proxy's weights. It is asked first; the router
    /// follows it, except that a rollback takes effect here at once.
    pub fn switch(mut self, switch: impl TrafficSwitch + 'static) -> Self {
        self.switch = Some(Arc::new(switch));
        self
    }

    /// What tells the date, for plans with dates in them; the system's clock by default.
    pub fn wall_clock(mut self, wall: impl WallClock + 'static) -> Self {
        self.wall = Arc::new(wall);
        self
    }

    /// Where the candidate runs on copies of requests: a
    /// [`ShadowLane`](crate::serve::shadow_lane::ShadowLane) of the same router.
    pub fn shadow(mut self, lane: impl ShadowHandle + 'static) -> Self {
        // Nothing runs in it before the plan says so.
        lane.shadow(Shadowing::Off);
        self.shadow = Some(Arc::new(lane));
        self
    }

    /// Puts `model` beside the stable model of `router` and begins `plan`.
    ///
    /// # Errors
    ///
    /// [`StartError`]; stable goes on serving.
    pub fn start<M, C>(
        self,
        router: &Router<M, C>,
        name: &str,
        model: Arc<M>,
        plan: Plan,
    ) -> Result<Pilot, StartError>
    where
        M: Send + Sync + 'static,
        C: Clock + 'static,
    {
        let candidate = Name::new(name)?;
        let shadow = plan.stages().iter().find(|stage| stage.kind == StageKind::Shadow);
        if let (Some(stage), None) = (shadow, &self.shadow) {
            return Err(StartError::NoShadowLane { stage: stage.name.clone() });
        }
        let share = router.split().candidate;
        if share > TrafficShare::NONE {
            return Err(StartError::Busy { share });
        }
        let (rollout, effects) = Rollout::begin(candidate, plan, router.clock().now())?;
        let dispatch = Dispatch::start(self.alerter, self.policy)?;
        // An earlier candidate, or the model before the last promotion, makes room if it is idle.
        let _ = router.retire_idle();
        router.deploy_shared(name, model)?;
        let switch = self.switch.unwrap_or_else(|| router.switch());
        let plane = Arc::new(Reins { router: router.clone(), shadow: self.shadow });
        Ok(Pilot::new(plane, switch, self.wall, dispatch, rollout, effects))
    }
}

/// A router and its lane, as control holds them.
struct Reins<M, C: Clock> {
    router: Router<M, C>,
    shadow: Option<Arc<dyn ShadowHandle>>,
}

impl<M: Send + Sync, C: Clock> Plane for Reins<M, C> {
    fn now(&self) -> Moment {
        self.router.clock().now()
    }

    fn collect(&self) {
        self.router.drain();
    }

    fn snapshot(&self) -> Snapshot {
        self.router.snapshot()
    }

    fn totals(&self) -> Vec<ArmCounts> {
        self.router.totals()
    }

    fn word(&self) -> Arc<SplitWord> {
        self.router.switch()
    }

    fn shadow(&self, shadowing: Shadowing) {
        if let Some(lane) = &self.shadow {
            lane.shadow(shadowing);
        }
    }

    fn shadow_counts(&self) -> Option<ShadowCounts> {
        self.shadow.as_ref().map(|lane| lane.counts())
    }

    fn baseline(&self) -> Name {
        self.router.model_name(Arm::BASELINE).unwrap_or_else(|| self.router.name().clone())
    }

    fn name(&self) -> Name {
        self.router.name().clone()
    }
}
