//! The beginning of a rollout.

use std::sync::Arc;
use std::time::Duration;

use crate::alert::alerter::{Alerter, StderrAlerter};
use crate::alert::policy::AlertPolicy;
use crate::clock::{Clock, Moment, SystemWallClock, WallClock};
use crate::control::book::Book;
use crate::control::dispatch::Dispatch;
use crate::control::journal_file::JournalStore;
use crate::control::pilot::{Beginning, Pilot};
use crate::control::plane::{Plane, ShadowHandle};
use crate::ids::{Arm, Epoch, Name, NameError};
use crate::machine::{Command, Effect, Order, Shadowing, Transition};
use crate::observe::shadow::ShadowCounts;
use crate::observe::snapshot::{ArmCounts, Snapshot};
use crate::rollout::history::{HISTORY, Line};
use crate::rollout::journal::{About, Journal, JournalError, Recovered, Snapshot as Standing};
use crate::rollout::pipeline::{End, Rollout, State};
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
    /// The journal holds a rollout that is not over.
    #[error(
        "the journal holds the rollout of {candidate}, which is not over; resume it, or put its journal aside"
    )]
    Unfinished {
        /// Whose.
        candidate: Name,
    },
    /// The journal holds something that cannot be read. It stays as it is.
    #[error("the journal cannot be read and stays as it is: {0}")]
    Journal(#[from] JournalError),
    /// The journal cannot be written, so nothing is begun.
    #[error("the journal cannot be used ({0}); nothing was begun")]
    Store(String),
}

/// A rollout that cannot be resumed. Stable serves everybody, and the journal stays as it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResumeError {
    /// There is no journal.
    #[error("no journal was given, or nothing was ever written to it; start a rollout")]
    Nothing,
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The journal cannot be reached or written.
    #[error("the journal cannot be used ({0}); try again when it can")]
    Store(String),
    /// The journal is about something else.
    #[error("the journal is about the {what} {theirs}, and this is {ours}; is the path right?")]
    Other {
        /// What differs.
        what: &'static str,
        /// What the journal says.
        theirs: String,
        /// What is here.
        ours: String,
    },
    /// The rollout cannot go on here.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// What a rollout needs besides a router, a candidate and a plan. All of it has a default.
#[must_use = "a rollout begins with `start`"]
pub struct PilotBuilder {
    alerter: Arc<dyn Alerter>,
    policy: AlertPolicy,
    switch: Option<Arc<dyn TrafficSwitch>>,
    wall: Arc<dyn WallClock>,
    shadow: Option<Arc<dyn ShadowHandle>>,
    journal: Option<Box<dyn JournalStore>>,
    drill_due: Duration,
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
        let share = router.split().candidate;
        if share > TrafficShare::NONE {
            return Err(StartError::Busy { share });
        }
        let now = router.clock().now();
        let (rollout, effects) = Rollout::begin(candidate.clone(), plan, now)?;
        let about = about(router, &candidate);
        let date = this.journal.as_ref().map(|_| this.wall.date());
        let history = Line::of(&rollout, &rollout, &effects, date);
        let mut journal = this.journal.take();
        if let Some(store) = &mut journal {
            make_room(&mut **store)?;
        }
        let dispatch = Dispatch::start(Arc::clone(&this.alerter), this.policy.clone())?;
        // An earlier candidate, or the model before the last promotion, makes room if it is idle.
        let _ = router.retire_idle();
        router.deploy_shared(name, model)?;
        let book = match journal {
            None => None,
            Some(store) => {
                let mut book = Book::new(store, 0);
                let split = router.split();
                let mut standing = Standing::new(about.clone(), rollout.clone(), now, split);
                (standing.history, standing.date) = (history.clone(), date);
                book.begin(standing, split.epoch).map_err(StartError::Store)?;
                Some(book)
            }
        };
        let beginning = Beginning {
            plane: Arc::new(Reins { router: router.clone(), shadow: this.shadow }),
            switch: this.switch.unwrap_or_else(|| router.switch()),
            wall: this.wall,
            dispatch,
            about,
            ahead: Duration::ZERO,
            book,
            drill_due: this.drill_due,
            rollout,
            orders: Vec::new(),
            history,
            promoted: false,
        };
        Ok(Pilot::new(beginning, effects))
    }

    /// Goes on with the rollout that the journal holds, after a restart: at the stage it was in,
    /// with its evidence, its orders and its history. `model` is the candidate, loaded and warm.
    ///
    /// `router` is built as before, its stable model the one that was the baseline last, everybody
    /// on it. Build it with [`Recovered::epoch`] (from
    /// [`Rollout::resume`](crate::rollout::pipeline::Rollout::resume)), so that tickets given out
    /// before the restart are known from its first request on; else its epoch is brought there
    /// now. A rollout that ended stays ended: an abort is not forgotten.
    ///
    /// The time the process was gone is no evidence and counts as observed in no stage; dates and
    /// the age of drills go on, as far as a wall clock tells.
    ///
    /// # Errors
    ///
    /// [`ResumeError`]; stable goes on serving everybody, and the journal stays as it is.
    pub fn resume<M, C>(self, router: &Router<M, C>, model: Arc<M>) -> Result<Pilot, ResumeError>
    where
        M: Send + Sync + 'static,
        C: Clock + 'static,
    {
        let mut this = self;
        let mut store = this.journal.take().ok_or(ResumeError::Nothing)?;
        let bytes = store.read().map_err(|error| ResumeError::Store(error.to_string()))?;
        let found = Journal::read(&bytes.ok_or(ResumeError::Nothing)?)?.recover()?;
        let share = router.split().candidate;
        if share > TrafficShare::NONE {
            return Err(StartError::Busy { share }.into());
        }
        let promoted = is_of(&found, router)?;
        let end = match found.rollout.state() {
            State::Ended(ended) => Some(ended.end),
            State::Waiting(_) | State::Running(_) => None,
        };
        let date = this.wall.date();
        let gone = found.gone(Some(date));
        let here = router.clock().now();
        let now = here.after(found.at.after(gone).since(here));
        let effects = match (found.rollout.state(), end) {
            (State::Running(_), _) => {
                this.check_shadow(found.rollout.plan()).map_err(ResumeError::from)?;
                let stage = found.rollout.stage();
                let mut effects = vec![Effect::Shift(found.rollout.share())];
                if stage.is_some_and(|stage| stage.kind == StageKind::Shadow) {
                    effects.push(Effect::Shadow(Shadowing::On));
                }
                effects
            }
            (_, Some(End::Promoted)) if !promoted => vec![Effect::Promote],
            (_, Some(End::Promoted)) | (State::Waiting(_), _) => Vec::new(),
            // Whatever a switch outside was told last.
            (State::Ended(_), _) => vec![Effect::Shift(TrafficShare::NONE)],
        };
        let dispatch = Dispatch::start(Arc::clone(&this.alerter), this.policy.clone())
            .map_err(StartError::from)?;
        if end.is_none() || (end == Some(End::Promoted) && !promoted) {
            let _ = router.retire_idle();
            router
                .deploy_shared(found.about.candidate.as_str(), model)
                .map_err(StartError::from)?;
        }
        let word = router.switch();
        while is_behind(word.read().epoch, found.epoch()) {
            word.roll_back();
        }
        let place = found.rollout.stage().map_or_else(
            || end.map_or("waiting", |end| end.word()).to_owned(),
            |stage| stage.name.to_string(),
        );
        let torn = found.torn.map_or_else(String::new, |torn| {
            format!("; the last {} bytes of its journal were torn and are left out", torn.bytes)
        });
        let why = format!(
            "resumed after a restart{}{torn}",
            if gone.is_zero() {
                String::new()
            } else {
                format!("; it was gone for {} s", gone.as_secs())
            }
        );
        let transition =
            Transition { at: now, from: place.clone(), to: place, who: "pilotage".to_owned(), why };
        let mut history = found.history.clone();
        if history.len() >= HISTORY {
            history.remove(0);
        }
        history.push(Line::note(transition, Some(date), found.rollout.share()));
        // Written whole before anything is carried out; the old bytes stay beside it.
        let mut book = Book::new(store, found.revision);
        let split = word.read();
        let mut standing = Standing::new(found.about.clone(), found.rollout.clone(), now, split);
        standing.date = Some(date);
        standing.promoted = promoted;
        standing.orders = found.orders.clone();
        standing.history = history.clone();
        if let Err(why) = book.begin(standing, split.epoch) {
            let _ = router.retire_idle();
            return Err(ResumeError::Store(why));
        }
        let beginning = Beginning {
            plane: Arc::new(Reins { router: router.clone(), shadow: this.shadow }),
            switch: this.switch.unwrap_or_else(|| router.switch()),
            wall: this.wall,
            dispatch,
            about: found.about,
            ahead: now.since(here),
            book: Some(book),
            drill_due: this.drill_due,
            rollout: found.rollout,
            orders: found.orders,
            history,
            promoted,
        };
        // An order to stop that was not handled yet is handled before anything is shown to anybody.
        let stops = |order: &Command| matches!(order.order, Order::Kill | Order::Abort);
        if beginning.orders.iter().any(stops) {
            let pilot = Pilot::new(beginning, Vec::new());
            pilot.tick();
            return Ok(pilot);
        }
        Ok(Pilot::new(beginning, effects))
    }

    fn check_shadow(&self, plan: &Plan) -> Result<(), StartError> {
        let shadow = plan.stages().iter().find(|stage| stage.kind == StageKind::Shadow);
        match (shadow, &self.shadow) {
            (Some(stage), None) => Err(StartError::NoShadowLane { stage: stage.name.clone() }),
            _ => Ok(()),
        }
    }
}

fn about<M, C: Clock>(router: &Router<M, C>, candidate: &Name) -> About {
    let router_name = router.name().clone();
    About {
        baseline: router.model_name(Arm::BASELINE).unwrap_or_else(|| router_name.clone()),
        router: router_name,
        candidate: candidate.clone(),
        scheme: router.scheme().clone(),
    }
}

/// Puts the journal of a rollout that is over aside; refuses any other.
fn make_room(store: &mut dyn JournalStore) -> Result<(), StartError> {
    let bytes = store.read().map_err(|error| StartError::Store(error.to_string()))?;
    let Some(bytes) = bytes else { return Ok(()) };
    let found = Journal::read(&bytes)?.recover()?;
    match found.rollout.state() {
        State::Ended(_) => store.set_aside().map_err(|error| StartError::Store(error.to_string())),
        State::Waiting(_) | State::Running(_) => {
            Err(StartError::Unfinished { candidate: found.about.candidate })
        }
    }
}

/// Whether the candidate has become this router's baseline already.
///
/// # Errors
///
/// When the journal is not about this router and its models.
fn is_of<M, C: Clock>(found: &Recovered, router: &Router<M, C>) -> Result<bool, ResumeError> {
    let theirs = &found.about;
    let ours = about(router, &theirs.candidate);
    let other = |what, theirs: &dyn std::fmt::Display, ours: &dyn std::fmt::Display| {
        Err(ResumeError::Other { what, theirs: theirs.to_string(), ours: ours.to_string() })
    };
    if theirs.router != ours.router {
        return other("router", &theirs.router, &ours.router);
    }
    if theirs.scheme != ours.scheme {
        return other("salt", &theirs.scheme.salt(), &ours.scheme.salt());
    }
    let decided =
        matches!(found.rollout.state(), State::Ended(ended) if ended.end == End::Promoted);
    if decided && ours.baseline == theirs.candidate {
        return Ok(true);
    }
    if found.promoted {
        return other("baseline", &theirs.candidate, &ours.baseline);
    }
    if theirs.baseline != ours.baseline {
        return other("baseline", &theirs.baseline, &ours.baseline);
    }
    Ok(false)
}

/// Whether `epoch` comes before `target`, as far as numbers that wrap can tell.
const fn is_behind(epoch: Epoch, target: Epoch) -> bool {
    let ahead = target.number().wrapping_sub(epoch.number());
    ahead != 0 && ahead < 1 << 15
}

const DRILL_DUE: Duration = Duration::from_secs(7 * 86_400);

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
