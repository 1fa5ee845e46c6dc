//! The beginning of a rollout.

use std::sync::Arc;
use std::time::Duration;

use crate::alert::alerter::{Alerter, StderrAlerter};
use crate::alert::policy::AlertPolicy;
use crate::clock::{Clock, SystemWallClock, WallClock};
use crate::control::alert_queue::AlertQueue;
use crate::control::found::{FindError, Found};
use crate::control::journal_file::JournalStore;
use crate::control::journal_writer::JournalWriter;
use crate::control::pilot::{Beginning, Pilot};
use crate::control::plane::ShadowHandle;
use crate::control::reins::{Reins, about};
pub use crate::control::start_error::{ResumeError, StartError};
use crate::control::switch_worker::SwitchWorker;
use crate::ids::Name;
use crate::machine::Shadowing;
use crate::rollout::history::Line;
use crate::rollout::journal::{About, Snapshot as Standing};
use crate::rollout::pipeline::{Rollout, State};
use crate::rollout::plan::Plan;
use crate::rollout::stage::StageKind;
use crate::route::owner::OwnedError;
use crate::route::ownership::Ownership;
use crate::route::switch::TrafficSwitch;
use crate::serve::router::Router;
use crate::share::TrafficShare;

/// What a rollout needs besides a router, a candidate and a plan. All of it has a default.
#[must_use = "a rollout begins with `start`"]
pub struct PilotBuilder {
    pub(super) alerter: Arc<dyn Alerter>,
    pub(super) policy: AlertPolicy,
    pub(super) switch: Option<Arc<dyn TrafficSwitch>>,
    pub(super) wall: Arc<dyn WallClock>,
    pub(super) shadow: Option<Arc<dyn ShadowHandle>>,
    pub(super) journal: Option<Box<dyn JournalStore>>,
    pub(super) drill_due: Duration,
    pub(super) unattended: Option<Duration>,
    pub(super) take_over: TakeOver,
    pub(super) patience: Duration,
}

/// Whether a rollout ends what it finds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum TakeOver {
    No,
    Yes,
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
            journal: None,
            drill_due: DRILL_DUE,
            unattended: Some(UNATTENDED),
            take_over: TakeOver::No,
            patience: Duration::MAX,
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

    /// Where the rollout is written down, so that it can be resumed after a restart. By default
    /// nowhere.
    pub fn journal(mut self, store: impl JournalStore + 'static) -> Self {
        self.journal = Some(Box::new(store));
        self
    }

    /// How old the last passed rollback drill may be before people are told that one is overdue;
    /// a week by default.
    pub fn drill_due(mut self, due: Duration) -> Self {
        self.drill_due = due;
        self
    }

    /// How long nobody may look (no tick) while the candidate has users before everybody goes back
    /// to the baseline by itself and people are told; a minute by default.
    pub fn unattended_after(mut self, limit: Duration) -> Self {
        self.unattended = Some(limit.max(Duration::from_millis(10)));
        self
    }

    /// Declines that: a candidate that nobody looks after keeps its users, with guardrails that see
    /// nothing.
    pub fn unattended_for_ever(mut self) -> Self {
        self.unattended = None;
        self
    }

    /// The longest that a tick or an order waits for a journal or a switch that answers at once. A
    /// tick waits up to 0.1 s for each, an order that stops up to 0.05 s, any other up to a second;
    /// this makes those times shorter, never longer. What has not answered by then is looked at
    /// again with the next tick. With zero nothing waits: for a loop that must not be held up, and
    /// for tests that answer in their own time.
    pub fn patience(mut self, at_most: Duration) -> Self {
        self.patience = at_most;
        self
    }

    /// Ends what moves the router's traffic now, whatever it is, and begins then: a rollout under
    /// way is aborted, and a promotion that could still be taken back cannot be any more. By default
    /// the beginning is refused instead.
    pub fn take_over(mut self) -> Self {
        self.take_over = TakeOver::Yes;
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
        let mut this = self;
        let candidate = Name::new(name)?;
        this.check_shadow(&plan)?;
        let now = router.clock().now();
        let (rollout, effects) = Rollout::begin(candidate.clone(), plan, now)?;
        let about = about(router, &candidate);
        let ownership = this.own(router, &candidate)?;
        let share = router.split().candidate;
        if share > TrafficShare::NONE {
            return Err(StartError::Busy { share });
        }
        let date = this.journal.as_ref().map(|_| this.wall.date());
        let history = Line::of(&rollout, &rollout, &effects, date);
        let mut store = this.journal.take();
        let generation = match &mut store {
            Some(store) => make_room(&mut **store)?,
            None => 1,
        };
        let about = About { begun: generation, ..about };
        let alerts = AlertQueue::start(Arc::clone(&this.alerter), this.policy.clone())?;
        let outside = this.outside(&ownership)?;
        // An earlier candidate, or the model before the last promotion, makes room if it is idle.
        let _ = router.retire_idle();
        router.deploy_shared(name, model)?;
        let journal = match store {
            None => None,
            Some(store) => {
                let split = router.split();
                let mut standing = Standing::new(about.clone(), rollout.clone(), now, split);
                (standing.history, standing.date) = (history.clone(), date);
                let begun = JournalWriter::begin(store, generation, 0, standing, split.epoch);
                let begun = begun.map_err(StartError::Store);
                // What was not begun leaves nothing behind.
                Some(begun.inspect_err(|_| drop(router.retire_idle()))?)
            }
        };
        let beginning = Beginning {
            plane: Arc::new(Reins { router: router.clone(), shadow: this.shadow }),
            ownership,
            outside,
            wall: this.wall,
            alerts,
            about,
            ahead: Duration::ZERO,
            journal,
            drill_due: this.drill_due,
            unattended: this.unattended,
            patience: this.patience,
            date,
            rollout,
            history,
            promoted: false,
        };
        Pilot::new(beginning, effects)
            .inspect_err(|_| drop(router.retire_idle()))
            .map_err(StartError::Thread)
    }

    /// The right to move the router's traffic.
    pub(super) fn own<M, C: Clock>(
        &self,
        router: &Router<M, C>,
        candidate: &Name,
    ) -> Result<Arc<Ownership>, OwnedError> {
        let (word, what) = (router.switch(), format!("rollout of {candidate}"));
        let owned = match self.take_over {
            TakeOver::No => Ownership::claim(&word, &what, "beginning"),
            TakeOver::Yes => Ownership::take_over(&word, &what, "beginning"),
        };
        owned.map(Arc::new)
    }

    /// The switch outside, on its threads.
    pub(super) fn outside(
        &mut self,
        ownership: &Arc<Ownership>,
    ) -> std::io::Result<Option<SwitchWorker>> {
        let Some(switch) = self.switch.take() else { return Ok(None) };
        switch.bind(ownership.generation());
        SwitchWorker::start(switch, Arc::clone(ownership)).map(Some)
    }

    pub(super) fn check_shadow(&self, plan: &Plan) -> Result<(), StartError> {
        let shadow = plan.stages().iter().find(|stage| stage.kind == StageKind::Shadow);
        match (shadow, &self.shadow) {
            (Some(stage), None) => Err(StartError::NoShadowLane { stage: stage.name.clone() }),
            _ => Ok(()),
        }
    }
}

/// Puts the journal of a rollout that is over aside; refuses any other, and one that another process
/// holds. The generation in which the next one is written.
fn make_room(store: &mut dyn JournalStore) -> Result<u64, StartError> {
    let found = match Found::read(store) {
        Ok(Some(found)) => found.recovered,
        Ok(None) => return Ok(1),
        Err(FindError::Held { holder }) => return Err(StartError::Held { holder }),
        Err(FindError::Journal(error)) => return Err(error.into()),
        Err(FindError::Store(why)) => return Err(StartError::Store(why)),
    };
    match found.rollout.state() {
        State::Ended(_) => {
            store.set_aside().map_err(|error| StartError::Store(error.to_string()))?;
            Ok(found.generation.saturating_add(1))
        }
        State::Waiting(_) | State::Running(_) => {
            Err(StartError::Unfinished { candidate: found.about.candidate })
        }
    }
}

/// How long nobody may look while the candidate has users, unless it is set.
pub const UNATTENDED: Duration = Duration::from_secs(60);
const DRILL_DUE: Duration = Duration::from_secs(7 * 86_400);
