//! The rollouts of a server, one after the other.
//!
//! A stop runs on its caller's thread and needs nothing but the pilot: no worker, no queue, no lock
//! that is held while a model is loaded or called. What gives a candidate more may wait, and is
//! called from a thread that may.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, mpsc};
use std::thread;
use std::time::Duration;

use axum::http::StatusCode;
use pilotage::alert::alert::Alert;
use pilotage::alert::alerter::FnAlerter;
use pilotage::clock::{SystemWallClock, WallClock};
use pilotage::control::drill::Drill;
use pilotage::control::journal_file::JournalFile;
use pilotage::control::orders::{Did, OrderError, Receipt};
use pilotage::control::pilot::Pilot;
use pilotage::control::start::{PilotBuilder, StartError as PilotError};
use pilotage::date::Date;
use pilotage::ids::Arm;
use pilotage::machine::{At, Order};
use pilotage::rollout::journal::Recovered;
use pilotage::rollout::pipeline::State;
use pilotage::rollout::plan::Plan;
use pilotage::serve::router::Router;
use pilotage::serve::shadow_lane::ShadowLane;
use serde_json::json;

use crate::arm::{ModelArm, Sabotage};
use crate::journals::{Journals, Over};
use crate::model::Classifier;
use crate::present::{Present, lane_of, make_room, over_of, written};
use crate::problem::Problem;

/// How rollouts are made.
#[derive(Clone, Debug)]
pub struct RolloutSettings {
    /// Directory with one folder a model.
    pub models: PathBuf,
    /// Where rollouts are written down.
    pub journal: Option<PathBuf>,
    /// The stages of every rollout.
    pub plan: Plan,
    /// How often the pilot looks.
    pub every: Duration,
    /// Whether alerts are also written to standard error.
    pub loud: Loud,
}

impl Default for RolloutSettings {
    /// The models in the present directory, no journal, [`Plan::quick`], a look a second, and alerts
    /// that are only kept.
    fn default() -> Self {
        let (models, every) = (PathBuf::from("."), Duration::from_secs(1));
        Self { models, journal: None, plan: Plan::quick(), every, loud: Loud::No }
    }
}

/// Whether alerts are also written to standard error.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Loud {
    /// They are.
    Yes,
    /// They are only kept.
    No,
}

/// A rollout that somebody wants to begin.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// The candidate's name.
    pub candidate: String,
    /// Whether what moves the traffic now is ended for it.
    pub take_over: bool,
    /// Whether a candidate that was turned away may try again.
    pub again: bool,
    /// Who wants it.
    pub who: String,
    /// Why.
    pub why: String,
}

/// Where its giver saw the rollout for which an order is meant.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Place {
    /// The stage.
    pub stage: Option<String>,
    /// How many steps it had taken.
    pub revision: Option<u64>,
}

/// An alert, and when it came.
#[derive(Clone, Debug)]
pub struct Told {
    /// When.
    pub date: Date,
    /// What.
    pub alert: Alert,
}

/// What came of a stop.
#[derive(Debug)]
pub enum Stopped {
    /// The rollout was told.
    Told(Receipt),
    /// A rollout is just beginning; it is told before it is given back to anybody.
    Beginning,
}

/// All rollouts of a server.
#[derive(Debug)]
pub struct Rollouts {
    router: Router<ModelArm>,
    settings: RolloutSettings,
    /// Held for moments only.
    present: RwLock<Option<Arc<Present>>>,
    over: Mutex<Vec<Over>>,
    /// Why there is no rollout, or not the one that was asked for.
    notes: Mutex<Vec<String>>,
    alerts: Arc<Mutex<VecDeque<Told>>>,
    beginning: AtomicBool,
    /// A stop that came while a rollout was beginning.
    stop: Mutex<Option<(Order, String, String)>>,
    drilling: Arc<AtomicBool>,
}

/// A rollout that cannot begin.
pub type BeginError = Box<dyn std::error::Error + Send + Sync>;

impl Rollouts {
    pub(crate) fn new(router: Router<ModelArm>, settings: RolloutSettings) -> Self {
        Self {
            router,
            settings,
            present: RwLock::default(),
            over: Mutex::default(),
            notes: Mutex::default(),
            alerts: Arc::default(),
            beginning: AtomicBool::new(false),
            stop: Mutex::default(),
            drilling: Arc::default(),
        }
    }

    /// How they are made.
    #[must_use]
    pub const fn settings(&self) -> &RolloutSettings {
        &self.settings
    }

    /// The present rollout, or the last one.
    #[must_use]
    pub fn present(&self) -> Option<Arc<Present>> {
        self.present.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The alerts so far, oldest first; the last [`ALERTS`] of them.
    #[must_use]
    pub fn alerts(&self) -> Vec<Told> {
        locked(&self.alerts).iter().cloned().collect()
    }

    /// The rollouts that are over and were followed by another, or by a restart, oldest first.
    #[must_use]
    pub fn over(&self) -> Vec<Over> {
        locked(&self.over).clone()
    }

    /// Why there is no rollout, or not the one that was asked for.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        locked(&self.notes).clone()
    }

    /// Notes why there is no rollout, for people who look.
    pub fn note(&self, why: impl Into<String>) {
        locked(&self.notes).push(why.into());
    }

    /// Takes over what journals say of rollouts that are over.
    pub fn remember(&self, journals: &Journals) {
        locked(&self.over).clone_from(&journals.over);
    }

    /// Begins to roll `candidate` out by the plan of the settings.
    ///
    /// # Errors
    ///
    /// When another rollout is under way, or this one cannot begin. The baseline goes on serving.
    pub fn roll_out(
        &self,
        candidate: Arc<Classifier>,
        sabotage: Arc<Sabotage>,
    ) -> Result<(), BeginError> {
        let wish = Wish { who: "inference-server".to_owned(), ..Wish::default() };
        let _beginning = self.begins().map_err(|problem| problem.to_string())?;
        Ok(self.begin_here(candidate, sabotage, &wish)?)
    }

    /// Loads a candidate and begins to roll it out. Takes as long as that takes.
    ///
    /// # Errors
    ///
    /// [`Problem`]; the baseline goes on serving.
    pub fn start(&self, wish: &Wish) -> Result<(), Problem> {
        let _beginning = self.begins()?;
        if wish.candidate == self.baseline() {
            let error = format!("{} is the baseline already", wish.candidate);
            return Err(Problem::conflict(error, "name another model"));
        }
        let rejected = self.last_of(&wish.candidate).filter(Over::is_rejected);
        if let Some(over) = rejected.filter(|_| !wish.again) {
            let when = over.date.map_or_else(String::new, |date| format!(" at {date}"));
            let error = format!(
                "{} was tried before and is {}{when}: {}",
                over.candidate,
                over.end.word().replace('_', " "),
                over.reason
            );
            let remedy = "to begin it once more send \"again\": true; a rollout that was rolled \
                          back or refused can also be retried in its stage by POST /rollout/retry";
            return Err(Problem::conflict(error, remedy));
        }
        // Before the model is loaded: what cannot begin costs nothing.
        if let Some(owner) = self.router.owner().filter(|_| !wish.take_over) {
            let error = format!("{} moves the traffic (now: {})", owner.what, owner.stage);
            return Err(Problem::conflict(error, TAKE_OVER));
        }
        let candidate =
            Classifier::load(&self.settings.models, &wish.candidate).map_err(|error| {
                Problem::bad(error.to_string(), "name a folder of --models that holds a model")
            })?;
        let begun = self.begin_here(Arc::new(candidate), Arc::default(), wish);
        begun.map_err(|error| self.problem_of(&error))
    }

    /// One rollout begins at a time.
    fn begins(&self) -> Result<Beginning<'_>, Problem> {
        if self.beginning.swap(true, Ordering::SeqCst) {
            let error = "another rollout is just beginning";
            return Err(Problem::conflict(error, "look at GET /rollout in a moment"));
        }
        locked(&self.stop).take();
        Ok(Beginning(&self.beginning))
    }

    fn begin_here(
        &self,
        candidate: Arc<Classifier>,
        sabotage: Arc<Sabotage>,
        wish: &Wish,
    ) -> Result<(), PilotError> {
        let former = self.present();
        if let Some(former) = &former {
            if wish.take_over {
                make_room(&former.pilot, &wish.who, candidate.name());
            }
            written(&former.pilot)?;
        }
        let name = candidate.name().to_owned();
        let (arm, lane) = lane_of(candidate, sabotage)?;
        let (baseline, counts) = (self.baseline(), self.router.totals());
        let mut builder = self.builder(&lane);
        if wish.take_over {
            builder = builder.take_over();
        }
        let plan = self.settings.plan.clone();
        let pilot = builder.start(&self.router, &name, arm, plan.clone())?;
        let driver = pilot.spawn(self.settings.every)?;
        let begun_by = match &wish.why[..] {
            "" => wish.who.clone(),
            why => format!("{}: {why}", wish.who),
        };
        if let Some(former) = former {
            locked(&self.over).extend(over_of(&former));
        }
        locked(&self.notes).clear();
        self.show(Present {
            pilot,
            lane,
            plan,
            baseline,
            candidate: name,
            begun_by,
            counts,
            _driver: driver,
        });
        Ok(())
    }

    /// Goes on with the rollout that the journal holds.
    ///
    /// # Errors
    ///
    /// When it cannot go on. The baseline serves, and the journal stays as it is.
    pub fn resume(
        &self,
        recovered: &Recovered,
        candidate: Arc<Classifier>,
    ) -> Result<(), BeginError> {
        let _beginning = self.begins().map_err(|problem| problem.to_string())?;
        let name = candidate.name().to_owned();
        let (arm, lane) = lane_of(candidate, Arc::default())?;
        let (baseline, counts) = (self.baseline(), self.router.totals());
        let pilot = self.builder(&lane).resume(&self.router, arm)?;
        let driver = pilot.spawn(self.settings.every)?;
        if let State::Ended(ended) = recovered.rollout.state()
            && ended.way_back_until().is_some()
            && baseline == name
        {
            // The former baseline is not loaded in this process, so there is no way back to it.
            let why = "the process was restarted, and the former baseline is not loaded";
            let _ = pilot.order(Order::Finish, "inference-server", why);
        }
        self.show(Present {
            pilot,
            lane,
            plan: recovered.rollout.plan().clone(),
            baseline: recovered.about.baseline.to_string(),
            candidate: name,
            begun_by: "resumed from the journal after a restart".to_owned(),
            counts,
            _driver: driver,
        });
        // What is shown as the present rollout is not shown as an earlier one.
        locked(&self.over).retain(|over| Some(over) != self.present_over().as_ref());
        Ok(())
    }

    /// From here on orders go to this one; a stop that came while it began is obeyed first.
    fn show(&self, next: Present) {
        let pilot = next.pilot.clone();
        let former = {
            let mut present = self.present.write().unwrap_or_else(PoisonError::into_inner);
            present.replace(Arc::new(next))
        };
        let stop = locked(&self.stop).take();
        if let Some((order, who, why)) = stop {
            let _ = pilot.order(order, &who, &why);
        }
        drop(former); // its driver is joined, with no lock held
    }

    /// Gives an order that stops. It is obeyed before this returns.
    ///
    /// # Errors
    ///
    /// [`Problem`] when there is nothing to stop, or it is too late.
    pub fn stop(&self, order: Order, who: &str, why: &str) -> Result<Stopped, Problem> {
        // First for the one that may be beginning, then for the one that is shown: it is seen by
        // one of them, whichever is first.
        *locked(&self.stop) = Some((order, who.to_owned(), why.to_owned()));
        let beginning = self.beginning.load(Ordering::SeqCst);
        match self.present() {
            Some(present) => match present.pilot.order(order, who, why) {
                Ok(Receipt { did: Did::AlreadyOver { .. }, .. }) if beginning => {
                    Ok(Stopped::Beginning)
                }
                Ok(receipt) => Ok(Stopped::Told(receipt)),
                Err(_) if beginning => Ok(Stopped::Beginning),
                Err(error) => Err(self.refused(&error)),
            },
            None if beginning => Ok(Stopped::Beginning),
            None => Err(no_rollout()),
        }
    }

    /// Gives an order that does not stop, for `place` where it is bound to one. May wait for a
    /// journal.
    ///
    /// # Errors
    ///
    /// [`Problem`]; nothing was touched.
    pub fn order(
        &self,
        order: Order,
        place: &Place,
        who: &str,
        why: &str,
    ) -> Result<Receipt, Problem> {
        let Some(present) = self.present() else { return Err(no_rollout()) };
        let pilot = &present.pilot;
        let given = if !order.is_bound() && *place == Place::default() {
            pilot.order(order, who, why)
        } else {
            let here = pilot.at();
            if *place == Place::default() {
                let error = format!("{order} is meant for one place of the rollout, and says none");
                let remedy = format!(
                    "look at GET /rollout; if it is still what you mean, send \"stage\": \"{}\" and \
                     \"revision\": {} with the order",
                    here.stage, here.revision
                );
                return Err(Problem::conflict(error, remedy).with(json!({ "now": here })));
            }
            let at = At {
                stage: place.stage.clone().unwrap_or(here.stage),
                revision: place.revision.unwrap_or(here.revision),
            };
            pilot.order_at(&at, order, who, why)
        };
        if order == Order::Retry && given.is_ok() {
            locked(&self.notes).clear(); // what they explain is no longer so
        }
        given.map_err(|error| self.refused(&error))
    }

    /// Makes a rollback drill, on a thread of its own, and waits for it a while.
    ///
    /// # Errors
    ///
    /// [`Problem`] when there is no rollout, a drill is under way, or it does not end.
    pub fn drill(&self) -> Result<Drill, Problem> {
        let Some(present) = self.present() else { return Err(no_rollout()) };
        if self.drilling.swap(true, Ordering::SeqCst) {
            let error = "a rollback drill is under way";
            return Err(Problem::conflict(error, "wait for its end"));
        }
        let (sender, ended) = mpsc::sync_channel(1);
        let (router, drilling) = (self.router.clone(), Arc::clone(&self.drilling));
        let spawned = thread::Builder::new().name("drill".to_owned()).spawn(move || {
            let drill = present.pilot.drill(&router, AT_MOST, ModelArm::probe);
            drilling.store(false, Ordering::SeqCst);
            let _ = sender.send(drill);
        });
        if let Err(error) = spawned {
            self.drilling.store(false, Ordering::SeqCst);
            let error = format!("no thread for the drill: {error}");
            let status = StatusCode::SERVICE_UNAVAILABLE;
            return Err(Problem::new(status, error, "try again in a minute"));
        }
        ended.recv_timeout(DRILL_PATIENCE).map_err(|_| {
            let error = format!("the drill has not ended within {} s", DRILL_PATIENCE.as_secs());
            let remedy = "the baseline does not answer: a rollback would not help users now";
            Problem::new(StatusCode::GATEWAY_TIMEOUT, error, remedy)
        })
    }

    /// Leaves the rollout, for a process that ends: everybody is on the baseline, nobody is alerted,
    /// and the journal goes on with the next process.
    pub fn leave(&self) {
        if let Some(present) = self.present() {
            present.pilot.leave();
        }
    }

    /// The name of the model that is the baseline now.
    pub(crate) fn baseline(&self) -> String {
        self.router.model_name(Arm::BASELINE).map_or_else(String::new, String::from)
    }

    fn builder(&self, lane: &ShadowLane<ModelArm>) -> PilotBuilder {
        let (alerts, loud) = (Arc::clone(&self.alerts), self.settings.loud);
        let alerter = FnAlerter(move |alert: &Alert| {
            let date = SystemWallClock.date();
            if loud == Loud::Yes {
                let _ = writeln!(io::stderr(), "{date} {alert}"); // where else could one say so
            }
            let mut alerts = locked(&alerts);
            if alerts.len() == ALERTS {
                alerts.pop_front();
            }
            alerts.push_back(Told { date, alert: alert.clone() });
        });
        let builder = Pilot::builder().alerter(alerter).shadow(lane.clone());
        match &self.settings.journal {
            Some(path) => builder.journal(JournalFile::new(path)),
            None => builder,
        }
    }

    /// How the last rollout of `candidate` ended, if it has.
    fn last_of(&self, candidate: &str) -> Option<Over> {
        self.present_over()
            .filter(|over| over.candidate == candidate)
            .or_else(|| locked(&self.over).iter().rev().find(|o| o.candidate == candidate).cloned())
    }

    fn present_over(&self) -> Option<Over> {
        over_of(&*self.present()?)
    }

    fn refused(&self, error: &OrderError) -> Problem {
        let text = error.to_string();
        let problem = match error {
            OrderError::Who(_) => Problem::bad(text, "name who gives the order in a few words"),
            OrderError::Over { .. } => Problem::conflict(
                text,
                "look at GET /rollout; POST /rollout/start begins the next one",
            ),
            OrderError::TooLate { .. } => Problem::conflict(
                text,
                "POST /rollout/start with the former model as \"candidate\"",
            ),
            OrderError::Refused(_) => {
                Problem::conflict(text, "look at GET /rollout, then order for what it shows")
            }
            OrderError::Busy { .. } => {
                Problem::conflict(text, "look at GET /rollout in a moment, then order again")
            }
            OrderError::Owned(_) => Problem::conflict(text, TAKE_OVER),
            OrderError::ModelGone { .. } => {
                Problem::conflict(text, "POST /rollout/start with \"again\": true")
            }
            OrderError::Unwritten { .. } => Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                text,
                "see the journal's line in GET /rollout; free its disk, then order again",
            ),
            OrderError::Overtaken { .. } => {
                Problem::conflict(text, "look at GET /rollout: somebody stopped it")
            }
            _ => Problem::conflict(text, "look at GET /rollout"),
        };
        match self.present() {
            Some(present) => problem.with(json!({ "now": present.pilot.at() })),
            None => problem,
        }
    }

    fn problem_of(&self, error: &PilotError) -> Problem {
        let text = error.to_string();
        match error {
            PilotError::Owned(_) | PilotError::Busy { .. } => Problem::conflict(text, TAKE_OVER),
            PilotError::Unfinished { .. } | PilotError::Journal(_) => {
                let path = self.settings.journal.clone().unwrap_or_default();
                let remedy = format!("move {} elsewhere, then start again", path.display());
                Problem::conflict(text, remedy)
            }
            PilotError::Store(_) | PilotError::Thread(_) => Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                text,
                "free the disk or the threads it needs, then start again",
            ),
            _ => Problem::bad(text, "see the README"),
        }
    }
}

/// A rollout is beginning, until this is dropped.
struct Beginning<'a>(&'a AtomicBool);

impl Drop for Beginning<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

fn no_rollout() -> Problem {
    let remedy = "begin one: POST /rollout/start with {\"candidate\": NAME}";
    Problem::conflict("no rollout is under way", remedy)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const TAKE_OVER: &str = "wait for its end; or abort it or (after a promotion) finish it first; or \
                         send \"take_over\": true, which ends it";
/// Alerts that are kept for `GET /rollout`.
const ALERTS: usize = 64;
/// How long one step of a drill may take.
const AT_MOST: Duration = Duration::from_secs(5);
/// How long a drill is waited for.
const DRILL_PATIENCE: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use pilotage::rollout::pipeline::End;

    use super::*;

    fn model(name: &str) -> Arc<Classifier> {
        let models = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
        Arc::new(Classifier::load(&models, name).unwrap())
    }

    fn rollouts() -> Rollouts {
        let stable = ModelArm::new(model("standard_v3_3"));
        let router = Router::builder("test").stable("standard_v3_3", stable).build().unwrap();
        Rollouts::new(router, RolloutSettings::default())
    }

    #[test]
    fn a_stop_that_comes_while_a_rollout_begins_stops_it() {
        let rollouts = rollouts();
        for order in [Order::Abort, Order::Kill] {
            let beginning = rollouts.begins().unwrap();
            assert!(rollouts.begins().is_err(), "two begin at once");
            let stopped = rollouts.stop(order, "ann", "not tonight");
            assert!(matches!(stopped, Ok(Stopped::Beginning)), "{stopped:?}");
            let wish = Wish { who: "bob".to_owned(), ..Wish::default() };
            rollouts.begin_here(model("standard_v3_1"), Arc::default(), &wish).unwrap();
            drop(beginning);
            let end = rollouts.present().unwrap().pilot.end();
            assert_eq!(end, Some(if order == Order::Abort { End::Aborted } else { End::Killed }));
        }
    }

    #[test]
    fn a_stop_of_before_is_not_obeyed_by_the_next_rollout() {
        let rollouts = rollouts();
        assert!(rollouts.stop(Order::Abort, "ann", "nothing is there").is_err());
        rollouts.roll_out(model("standard_v3_1"), Arc::default()).unwrap();
        assert_eq!(rollouts.present().unwrap().pilot.end(), None);
    }
}
