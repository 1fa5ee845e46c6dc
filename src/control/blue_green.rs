//! Two warm models and a switch, and nothing else.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::alert::alert::{Alert, Severity};
use crate::alert::alerter::Alerter;
use crate::alert::policy::AlertPolicy;
use crate::clock::{Clock, Moment};
use crate::control::alert_queue::AlertQueue;
use crate::ids::{Arm, Name, NameError};
use crate::machine::Effect;
use crate::route::switch::{SwitchError, TrafficSwitch};
use crate::serve::router::{DeployError, Retired, Router};
use crate::share::TrafficShare;
use crate::strategy::blue_green::{self, BlueGreenError, Standby};

/// Two slots, both warm, one of them serving.
///
/// Requests go through the router as always; this holds the decisions. No statistics decide here:
/// a person or a script does.
///
/// ```
/// use std::sync::Arc;
///
/// use pilotage::alert::alerter::StderrAlerter;
/// use pilotage::control::blue_green::BlueGreen;
/// use pilotage::ids::Arm;
/// use pilotage::model::{self, Call, SyncModel};
/// use pilotage::serve::request::Request;
/// use pilotage::serve::router::Router;
///
/// let length = |by: fn(&str) -> usize| model::sync(move |text: &str| Ok::<_, String>(by(text)));
/// let router = Router::builder("length").stable("bytes", length(|text| text.len())).build()?;
/// let slots = BlueGreen::new(&router, Arc::new(StderrAlerter))?;
///
/// slots.deploy("characters", length(|text| text.chars().count()), |model| {
///     let call = Call::serving(Arm::CANDIDATE);
///     model.predict_sync("warm-up", &call).map(drop)
/// })?;
/// slots.switch()?;
/// assert_eq!(router.predict_sync(&Request::of("user-1"), "größe")?.output, 5);
/// slots.roll_back("it counts wrongly");
/// assert_eq!(router.predict_sync(&Request::of("user-1"), "größe")?.output, 7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct BlueGreen<M, C: Clock> {
    router: Router<M, C>,
    slots: Mutex<blue_green::BlueGreen>,
    dispatch: AlertQueue,
    switch: Option<Arc<dyn TrafficSwitch>>,
    /// How long the model that served last stays warm at least.
    keep_warm: Duration,
    /// Models that were taken out and are still loaded, newest last.
    shelf: Mutex<VecDeque<(Name, Arc<M>)>>,
    shelf_room: usize,
    /// When the standby model last had traffic.
    idle_since: Mutex<Option<Moment>>,
}

/// A step that was not taken. The split stays as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// It cannot be taken from here.
    #[error(transparent)]
    State(#[from] BlueGreenError),
    /// The model's name cannot be used.
    #[error("the model's name: {0}")]
    Name(#[from] NameError),
    /// The model could not be put into the standby slot.
    #[error(transparent)]
    Deploy(#[from] DeployError),
    /// The warm-up failed, so the model is not ready and was taken out again.
    #[error("the warm-up of {name} failed ({reason}); it gets no traffic")]
    WarmUp {
        /// The model.
        name: Name,
        /// What the warm-up said.
        reason: String,
    },
    /// The switch did not obey.
    #[error(transparent)]
    Switch(#[from] SwitchError),
    /// The model said that it is not ready, so it was taken out again.
    #[error("{name} is not ready ({reason}); it gets no traffic")]
    NotReady {
        /// The model.
        name: Name,
        /// What it said.
        reason: String,
    },
    /// The model must stay warm for a while, so that there is a way back.
    #[error("{name} stays warm for another {} s; retire it then", left.as_secs())]
    StaysWarm {
        /// The model.
        name: Name,
        /// For how long.
        left: Duration,
    },
    /// A model that is not loaded any more.
    #[error("{name} is not loaded any more; deploy it anew")]
    NotLoaded {
        /// The model.
        name: Name,
    },
    /// The model is still used.
    #[error("the standby model still has {calls} calls under way; try again when they have ended")]
    Draining {
        /// Calls under way.
        calls: u64,
    },
}

impl<M, C: Clock> BlueGreen<M, C> {
    /// Takes over the slots of `router`, whose stable model serves everybody.
    ///
    /// # Errors
    ///
    /// When the system gives no thread for the alerts.
    pub fn new(router: &Router<M, C>, alerter: Arc<dyn Alerter>) -> io::Result<Self> {
        let serving = router.model_name(Arm::BASELINE).unwrap_or_else(|| router.name().clone());
        Ok(Self {
            router: router.clone(),
            slots: Mutex::new(blue_green::BlueGreen::new(serving)),
            dispatch: AlertQueue::start(alerter, AlertPolicy::default())?,
            switch: None,
            keep_warm: Duration::ZERO,
            shelf: Mutex::default(),
            shelf_room: 0,
            idle_since: Mutex::default(),
        })
    }

    /// Keeps the model that served last in its slot for so long after its last traffic; until then
    /// it is not retired and nothing is deployed in its place. By default it may go at once.
    #[must_use]
    pub const fn keeping_warm(mut self, at_least: Duration) -> Self {
        self.keep_warm = at_least;
        self
    }

    /// Keeps the last `models` retired models loaded, for [`BlueGreen::bring_back`]: that many
    /// beside the two in the slots. By default none.
    #[must_use]
    pub const fn rollback_window(mut self, models: usize) -> Self {
        self.shelf_room = models;
        self
    }

    /// Something else that must move with the router, such as a
    /// [`FlagGate`](crate::control::flag_gate::FlagGate). It is asked first and the router
    /// follows, except that a rollback takes effect here at once.
    #[must_use]
    pub fn with_switch(mut self, switch: impl TrafficSwitch + 'static) -> Self {
        self.switch = Some(Arc::new(switch));
        self
    }

    /// Puts a model into the standby slot and warms it. It gets no traffic before `warm_up`
    /// returned, and none if that fails. Runs on the caller's thread and may take as long as it
    /// takes; requests and rollbacks go on meanwhile.
    ///
    /// # Errors
    ///
    /// [`StepError`]; the slot is empty then, or as it was.
    pub fn deploy(
        &self,
        name: &str,
        model: M,
        warm_up: impl FnOnce(&M) -> Result<(), String>,
    ) -> Result<(), StepError> {
        self.deploy_when_ready(name, || Ok(model), warm_up, |_| Ok(()))
    }

    /// As [`BlueGreen::deploy`], in all its steps: `load` makes the model, `warm_up` makes
    /// its first calls, and `is_ready` is asked last. The model gets no traffic
    /// before all have succeeded; a panic in one of them counts as its failure.
    ///
    /// # Errors
    ///
    /// [`StepError`]; what stood by still does, unless it made room for a model that then could
    /// not be put there.
    pub fn deploy_when_ready(
        &self,
        name: &str,
        load: impl FnOnce() -> Result<M, String>,
        warm_up: impl FnOnce(&M) -> Result<(), String>,
        is_ready: impl FnOnce(&M) -> Result<(), String>,
    ) -> Result<(), StepError> {
        let name = Name::new(name)?;
        self.check_warm_time()?;
        let now = self.router.clock().now();
        let before = {
            let mut slots = self.slots.lock();
            let before = slots.clone();
            slots.deploy(now, name.clone())?;
            before
        };
        let guarded = |what: &mut dyn FnMut() -> Result<(), String>| {
            catch_unwind(AssertUnwindSafe(what)).unwrap_or_else(|_| Err("it panicked".to_owned()))
        };
        let (mut load, mut warm_up, mut is_ready) = (Some(load), Some(warm_up), Some(is_ready));
        let mut model = None;
        let warmed = guarded(&mut || {
            if let (Some(load), Some(warm_up)) = (load.take(), warm_up.take()) {
                warm_up(model.insert(load()?))?;
            }
            Ok(())
        });
        let failed = |error| {
            *self.slots.lock() = before.clone();
            Err(error)
        };
        if let Err(reason) = warmed {
            return failed(StepError::WarmUp { name, reason });
        }
        let Some(model) = model else {
            let reason = "it was not loaded".to_owned();
            return failed(StepError::WarmUp { name, reason });
        };
        let ready = guarded(&mut || is_ready.take().map_or(Ok(()), |is_ready| is_ready(&model)));
        if let Err(reason) = ready {
            return failed(StepError::NotReady { name, reason });
        }
        self.put(name, Arc::new(model))
    }

    /// Puts a model that was retired and is still loaded into the standby slot again. It is warm:
    /// it served. [`BlueGreen::switch`] then gives it the traffic.
    ///
    /// # Errors
    ///
    /// [`StepError::NotLoaded`] when it is not among the last ones; else as for
    /// [`BlueGreen::deploy`].
    pub fn bring_back(&self, name: &str) -> Result<(), StepError> {
        let name = Name::new(name)?;
        self.check_warm_time()?;
        let found = self.shelf.lock().iter().find(|(of, _)| *of == name).cloned();
        let Some((name, model)) = found else { return Err(StepError::NotLoaded { name }) };
        let now = self.router.clock().now();
        self.slots.lock().deploy(now, name.clone())?;
        self.put(name, model)
    }

    /// The models that [`BlueGreen::bring_back`] can bring back, newest last.
    #[must_use]
    pub fn still_loaded(&self) -> Vec<Name> {
        self.shelf.lock().iter().map(|(name, _)| name.clone()).collect()
    }

    /// A warm model into the slot that stands by, whose present one goes on the shelf.
    fn put(&self, name: Name, model: Arc<M>) -> Result<(), StepError> {
        self.shelve();
        self.shelf.lock().retain(|(of, _)| *of != name);
        if let Err(error) = self.router.deploy_shared(name.as_str(), model) {
            self.slots.lock().failed();
            return Err(error.into());
        }
        *self.idle_since.lock() = None;
        self.slots.lock().ready()?;
        Ok(())
    }

    /// Takes the standby model out, onto the shelf where there is room for it.
    fn shelve(&self) -> Retired {
        let model = self.router.model(Arm::CANDIDATE);
        let mut kept = None;
        if self.shelf_room > 0 {
            kept = model;
        }
        let retired = self.router.retire_idle();
        if let (Retired::Gone(name), Some(model)) = (&retired, kept) {
            let mut shelf = self.shelf.lock();
            shelf.retain(|(of, _)| of != name);
            shelf.push_back((name.clone(), model));
            while shelf.len() > self.shelf_room {
                shelf.pop_front();
            }
        }
        retired
    }

    fn check_warm_time(&self) -> Result<(), StepError> {
        let Some(since) = *self.idle_since.lock() else { return Ok(()) };
        let left = self.keep_warm.saturating_sub(self.router.clock().now().since(since));
        let name = self.router.model_name(Arm::CANDIDATE);
        match name {
            Some(name) if !left.is_zero() => Err(StepError::StaysWarm { name, left }),
            _ => Ok(()),
        }
    }

    /// Gives the standby model `share` of the traffic.
    ///
    /// # Errors
    ///
    /// [`StepError::State`] when it is not ready, [`StepError::Switch`] when somebody else changed
    /// the split at the same moment.
    pub fn shift(&self, share: TrafficShare) -> Result<(), StepError> {
        let mut slots = self.slots.lock();
        let before = slots.clone();
        let effects = slots.shift(share)?;
        self.carry_out(&effects).inspect_err(|_| *slots = before)
    }

    /// Gives the standby model all of the traffic.
    ///
    /// # Errors
    ///
    /// As [`BlueGreen::shift`].
    pub fn switch(&self) -> Result<(), StepError> {
        self.shift(TrafficShare::ALL)
    }

    /// Everything back to the serving model: one atomic store before anything else, then the
    /// alert. Always possible, and may be repeated.
    pub fn roll_back(&self, reason: &str) {
        let share = self.router.split().candidate;
        let split = self.router.switch().roll_back();
        let told = self.switch.as_ref().map_or(Ok(()), |switch| switch.take_back(&split));
        let mut slots = self.slots.lock();
        let from = match slots.standby() {
            Standby::Live { name, .. } => name.to_string(),
            _ => "the standby model".to_owned(),
        };
        slots.roll_back();
        let mut summary = format!("{} took {share} back from {from}: {reason}", slots.serving());
        if let Err(error) = told {
            summary.push_str(&format!("; what moves with it did not follow: {error}"));
        }
        let (name, now) = (self.router.name().clone(), self.router.clock().now());
        let alert = Alert::new("rolled_back", Severity::Critical, name, now, summary);
        self.dispatch.send(alert.once());
    }

    /// The standby model, which has all of the traffic, becomes the serving one: labels and
    /// traffic change in one store, so no request meets the wrong model in between. The old one
    /// stands by, warm.
    ///
    /// # Errors
    ///
    /// [`StepError::State`] when it does not have all of the traffic.
    pub fn promote(&self) -> Result<(), StepError> {
        let mut slots = self.slots.lock();
        let before = slots.clone();
        let effects = slots.promote()?;
        self.carry_out(&effects).inspect_err(|_| *slots = before)?;
        *self.idle_since.lock() = Some(self.router.clock().now());
        Ok(())
    }

    /// Takes the standby model out, once its last call has ended and it was kept warm for as long
    /// as it must be; and drops it, or keeps it loaded for as long as the rollback window says.
    ///
    /// # Errors
    ///
    /// [`StepError::State`] while it gets traffic, [`StepError::Draining`] while calls use it,
    /// [`StepError::StaysWarm`] before its time.
    pub fn retire(&self) -> Result<(), StepError> {
        let mut slots = self.slots.lock();
        let mut after = slots.clone();
        after.retire()?;
        self.check_warm_time()?;
        match self.shelve() {
            Retired::StillDraining(calls) => Err(StepError::Draining { calls }),
            Retired::StillServing(share) => {
                let name = slots.serving().clone();
                Err(BlueGreenError::Busy { name, share }.into())
            }
            Retired::Gone(_) | Retired::Nothing => {
                *slots = after;
                Ok(())
            }
        }
    }

    /// Which model serves and what stands by.
    #[must_use]
    pub fn state(&self) -> blue_green::BlueGreen {
        self.slots.lock().clone()
    }

    /// The router that serves the requests.
    #[must_use]
    pub const fn router(&self) -> &Router<M, C> {
        &self.router
    }

    fn carry_out(&self, effects: &[Effect]) -> Result<(), StepError> {
        let word = self.router.switch();
        for effect in effects {
            let order = match effect {
                Effect::Shift(share) => word.read().shifted(*share),
                Effect::Promote => word.read().promoted(),
                Effect::Shadow(_)
                | Effect::Alert(_)
                | Effect::Record(_)
                | Effect::Refused(_)
                | Effect::WakeAt(_) => continue,
            };
            if let Some(switch) = &self.switch {
                switch.shift(&order)?;
            }
            word.shift(&order)?;
        }
        Ok(())
    }
}

impl<M, C: Clock> std::fmt::Debug for BlueGreen<M, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlueGreen").field("state", &self.state()).finish_non_exhaustive()
    }
}
