//! Takes a candidate through a plan.
//!
//! A [`Pilot`] feeds the [`Rollout`] from a router and carries out what it says. It looks in
//! [`Pilot::tick`]: called by a [`Driver`](crate::control::driver::Driver), by the host's own loop,
//! or by a test with a manual clock. Orders take effect on the caller's thread, at once, and what
//! stops traffic begins with one store.
//!
//! Who may wait for whom is drawn in [`control`](crate::control).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::alert::alert::{Alert, Severity};
use crate::clock::{Moment, WallClock};
use crate::control::alert_queue::AlertQueue;
use crate::control::driver::DriverCell;
use crate::control::journal_file::Durability;
use crate::control::journal_writer::JournalWriter;
use crate::control::plane::Plane;
use crate::control::state::{Change, PilotState, Wanted, raises, takes_back, wanted};
use crate::control::status::{ChangeStatus, JournalStatus, Status, SwitchStatus};
use crate::control::switch_worker::{Kind, SwitchWorker};
use crate::control::unattended::{Attended, LastLook};
use crate::date::Date;
use crate::machine::{Drilled, Effect, Input, Machine, News, Shadowing};
use crate::rollout::history::{History, Line};
use crate::rollout::journal::{About, Entry};
use crate::rollout::pipeline::{End, Rollout, State};
use crate::route::owner::GiveWay;
use crate::route::ownership::Ownership;
use crate::share::TrafficShare;

/// A rollout under way. Clones are handles on the same one.
///
/// When the last handle is dropped while the candidate has a share, everybody goes back to the
/// baseline, and people are told: nobody would look after it. A rollout with a journal can be
/// resumed then, where it was.
#[derive(Clone)]
pub struct Pilot {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) plane: Arc<dyn Plane>,
    /// The right to move the router's traffic.
    pub(super) ownership: Arc<Ownership>,
    /// A switch outside this process.
    pub(super) outside: Option<SwitchWorker>,
    pub(super) wall: Arc<dyn WallClock>,
    pub(super) alerts: AlertQueue,
    pub(super) about: About,
    /// What the rollout's time is ahead of the plane's: it goes on after a restart.
    pub(super) ahead: Duration,
    /// Where it is written down.
    pub(super) journal: Option<JournalWriter>,
    /// Held for a whole tick, so that two never run at once; a tick within a tick does nothing.
    pub(super) ticking: Mutex<()>,
    /// Held for moments only, never while user code runs. All that changes where the rollout stands,
    /// and all that gives the candidate more, happens under it: of a stop and a step up one is
    /// first.
    pub(super) state: Mutex<PilotState>,
    /// When somebody looked last, and how long ago that may be.
    pub(super) looked: LastLook,
    pub(super) unattended: Option<Duration>,
    /// The longest that anything waits for a journal or a switch.
    pub(super) patience: Duration,
    pub(super) driver: DriverCell,
    /// How old the last rollback drill may be.
    pub(super) drill_due: Duration,
    /// Set by whoever is shutting down on purpose: dropping is no news then.
    pub(super) leaving: AtomicBool,
}

/// What a pilot begins with.
pub(super) struct Beginning {
    pub plane: Arc<dyn Plane>,
    pub ownership: Arc<Ownership>,
    pub outside: Option<SwitchWorker>,
    pub wall: Arc<dyn WallClock>,
    pub alerts: AlertQueue,
    pub about: About,
    pub ahead: Duration,
    pub journal: Option<JournalWriter>,
    pub drill_due: Duration,
    pub unattended: Option<Duration>,
    pub patience: Duration,
    /// What a wall clock reads now.
    pub date: Option<Date>,
    pub rollout: Rollout,
    pub history: Vec<Line>,
    pub promoted: bool,
}

impl Pilot {
    /// Carries `effects` out and goes on from there. They are written down already, if at all.
    ///
    /// # Errors
    ///
    /// When the system gives no thread to see whether anybody looks.
    pub(super) fn new(beginning: Beginning, effects: Vec<Effect>) -> std::io::Result<Self> {
        let Beginning { plane, ownership, outside, wall, alerts, about, ahead, .. } = beginning;
        let Beginning { journal, drill_due, unattended, date, rollout, .. } = beginning;
        let Beginning { history, promoted, patience, .. } = beginning;
        plane.collect();
        let now = plane.now().after(ahead);
        let known_revision = rollout.revision();
        ownership.set_stage(&rollout.at().stage);
        // Before anybody else can reach it: whoever stops it finds this and drops it.
        let change = wanted(&effects).map(|to| Change {
            to,
            proposal: None,
            journal: None,
            asked: None,
            obeyed: false,
        });
        let state = PilotState {
            rollout,
            version: 0,
            last: plane.snapshot(),
            last_at: now,
            last_shadow: plane.shadow_counts().unwrap_or_default(),
            change,
            proposals: 0,
            in_force: 0,
            history: history.into(),
            promoted,
            parked: None,
            fenced: false,
            superseded: false,
            known_revision,
            last_drill: None,
            drill_since: now,
            drill_told: false,
            journal_told: false,
            unkept_told: false,
            switch_told: false,
            back_told: false,
            ticks: 0,
            told_date: None,
            known_date: date.map(|date| (now, date)),
        };
        let pilot = Self {
            shared: Arc::new(Shared {
                plane,
                ownership,
                outside,
                wall,
                alerts,
                about,
                ahead,
                journal,
                ticking: Mutex::new(()),
                state: Mutex::new(state),
                looked: LastLook::now(),
                unattended,
                patience,
                driver: DriverCell::default(),
                drill_due,
                leaving: AtomicBool::new(false),
            }),
        };
        let shared = Arc::downgrade(&pilot.shared);
        pilot.shared.ownership.gives_way(shared.clone());
        if pilot.shared.unattended.is_some() {
            crate::control::unattended::attend(shared)?;
        }
        pilot.carry_out(now, effects);
        pilot.advance(pilot.patience(PATIENCE));
        pilot.settle_journal(now);
        pilot.let_go_when_over();
        Ok(pilot)
    }

    /// Looks at what happened since the last tick, decides, and carries the decision out.
    ///
    /// Call it every second or so, from any one thread. A tick that comes late advances at most
    /// one stage; one that comes twice changes nothing; one that comes while another runs returns
    /// at once. It waits for a journal or a switch that answers at once, and for no other. Returns
    /// whether there is more to do: the rollout is under way or can be taken back after its
    /// promotion, or it is over and a switch has yet to be told, or its end has yet to be written
    /// down.
    ///
    /// Once the router is somebody else's, a tick touches nothing.
    #[expect(clippy::must_use_candidate, reason = "it is called for its effect")]
    pub fn tick(&self) -> bool {
        let Some(_ticking) = self.shared.ticking.try_lock() else {
            return self.has_work();
        };
        self.shared.looked.renew();
        let plane = &self.shared.plane;
        plane.collect();
        let now = self.now();
        let date = self.needs_date(now).then(|| self.shared.wall.date());
        self.shared.state.lock().ticks += 1;
        if self.shared.ownership.holds() {
            self.advance(Duration::ZERO);
            self.hear_of_stops(now);
            if let Some(date) = date {
                self.tell_date(now, date);
            }
            self.look(now);
            self.advance(self.patience(PATIENCE));
            let mut state = self.shared.state.lock();
            state.known_revision = state.rollout.revision();
        }
        if let Some(outside) = &self.shared.outside {
            let _ = outside.retry_back(self.patience(PATIENCE));
        }
        self.tell_of_switch(now);
        self.settle_journal(now);
        self.look_at_drills(now);
        self.let_go_when_over();
        self.has_work()
    }

    /// What was seen since the last look, to the machine.
    fn look(&self, now: Moment) {
        let plane = &self.shared.plane;
        loop {
            let (snapshot, shadow) = (plane.snapshot(), plane.shadow_counts());
            // The copy is made under the lock, and judged without it: a stop waits for neither.
            let (mut after, before, version, pending, seen) = {
                let state = self.shared.state.lock();
                let split = plane.split();
                let seen = state.seen(now, split, &snapshot, shadow.as_ref());
                let pending = state.change.as_ref().is_some_and(|change| change.proposal.is_some());
                let before = state.rollout.clone();
                (before.clone(), before, state.version, pending, seen)
            };
            if !before.is_live() {
                return;
            }
            let input = Input::Seen(Box::new(seen));
            let effects = after.handle(now, &input);
            let back = takes_back(&effects) && !raises(&effects, plane.split());
            if pending && !back {
                // What would follow from it comes again, in one batch, when the step that was
                // decided is in force or given up.
                return;
            }
            let mut state = self.shared.state.lock();
            if state.version != version {
                continue;
            }
            if state.change.is_some() && raises(&effects, plane.split()) {
                return; // one step after the other
            }
            let told = self.take(&mut state, now, input, before, after, effects, false);
            if told.proposed.is_none() {
                (state.last, state.last_at) = (snapshot, now);
                state.last_shadow = shadow.unwrap_or_default();
            }
            drop(state);
            self.carry_out(now, told.effects);
            return;
        }
    }

    /// All traffic that was taken back beside this rollout: by a hand, by the router after panics,
    /// or since nobody looked after it.
    fn hear_of_stops(&self, now: Moment) {
        let parked = self.shared.state.lock().parked.take();
        if let Some(reason) = parked {
            self.taken_back(now, "pilotage", reason);
        } else if self.shared.ownership.is_stopped() {
            let reason = "everything was taken back at the router's switch, by hand or because the \
                          candidate panicked";
            self.taken_back(now, "switch", reason.to_owned());
        }
        let Some(journal) = &self.shared.journal else { return };
        if let Some(why) = journal.fenced() {
            self.step_down(now, &why);
        }
        // What another process was told and could only leave beside the journal.
        let stops = journal.stops();
        if !stops.is_empty() {
            for command in stops.orders {
                let _ = self.order(command.order, command.who.as_str(), &command.why);
            }
            if let Some(doubt) = stops.doubt {
                self.taken_back(now, "another process", doubt);
            }
            journal.clear_stops();
        }
    }

    /// Another process writes the journal by now, and its rollout is the one that counts: here
    /// everybody goes back, and nothing is written or raised any more.
    fn step_down(&self, now: Moment, why: &str) {
        if std::mem::replace(&mut self.shared.state.lock().fenced, true) {
            return;
        }
        self.park("another process has taken the journal over");
        self.shared.state.lock().parked = None;
        let candidate = &self.shared.about.candidate;
        let summary = format!(
            "another process has taken the journal of {candidate} over ({why}): everybody is on the \
             baseline in this one, and the other goes on; end one of the two"
        );
        let key = "journal/fenced".to_owned();
        self.tell(now, News::lasting(key, Severity::Critical, summary));
    }

    pub(super) fn taken_back(&self, now: Moment, by: &str, reason: String) {
        let input = Input::TakenBack { by: by.to_owned(), reason };
        self.handle(now, input);
    }

    fn tell_date(&self, now: Moment, date: Date) {
        {
            let mut state = self.shared.state.lock();
            if state.change.as_ref().is_some_and(|change| change.proposal.is_some()) {
                return; // with the next tick
            }
            state.told_date = Some(now);
            state.known_date = Some((now, date));
        }
        self.handle(now, Input::Wall(date));
    }

    /// Tells the machine something that raises nothing, and carries out what it says.
    pub(super) fn handle(&self, now: Moment, input: Input) {
        let told = {
            let mut state = self.shared.state.lock();
            let before = state.rollout.clone();
            let mut after = before.clone();
            let effects = after.handle(now, &input);
            self.take(&mut state, now, input, before, after, effects, false)
        };
        self.carry_out(now, told.effects);
    }

    pub(super) fn now(&self) -> Moment {
        self.shared.plane.now().after(self.shared.ahead)
    }

    /// Takes note of a rollback drill.
    pub(crate) fn drilled(&self, drill: Drilled) {
        let now = self.now();
        let pending = {
            let mut state = self.shared.state.lock();
            state.last_drill = Some(drill.clone());
            state.change.as_ref().is_some_and(|change| change.proposal.is_some())
        };
        if self.shared.ownership.holds() && !pending {
            self.handle(now, Input::Drilled(drill));
        }
    }

    /// How long to wait for what is usually waited for so long.
    pub(super) fn patience(&self, usual: Duration) -> Duration {
        usual.min(self.shared.patience)
    }

    pub(crate) fn moment(&self) -> Moment {
        self.now()
    }

    /// How the rollout went so far, for people and for programs.
    #[must_use]
    pub fn history(&self) -> History {
        let lines = self.shared.state.lock().history.iter().cloned().collect();
        History::new(self.shared.about.clone(), lines)
    }

    fn needs_date(&self, now: Moment) -> bool {
        let state = self.shared.state.lock();
        let stale = state.told_date.is_none_or(|told| now.since(told) >= DATE_AFTER);
        stale && (self.shared.journal.is_some() || state.rollout.plan().needs_wall_time())
    }

    pub(super) fn has_work(&self) -> bool {
        let owes = self.shared.outside.as_ref().is_some_and(SwitchWorker::owes_back);
        let unkept = self.shared.journal.as_ref().is_some_and(|journal| journal.unkept().is_some());
        let state = self.shared.state.lock();
        let live = state.rollout.is_live() && self.shared.ownership.holds();
        live || state.change.is_some() || owes || unkept
    }

    /// Whether the rollout has ended. One that was promoted has, though it can be taken back for a
    /// while.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.end().is_some()
    }

    /// How the rollout ended, if it has.
    #[must_use]
    pub fn end(&self) -> Option<End> {
        match self.shared.state.lock().rollout.state() {
            State::Waiting(_) | State::Running(_) => None,
            State::Ended(ended) => Some(ended.end),
        }
    }

    /// Everything there is to know, as one value that can be shown or serialised.
    #[must_use]
    pub fn status(&self) -> Status {
        let plane = &self.shared.plane;
        let (split, totals, shadow) = (plane.split(), plane.totals(), plane.shadow_counts());
        let now = self.now();
        let (alerts, untold) = (self.shared.alerts.counts(), self.shared.alerts.untold());
        let journal = self.shared.journal.as_ref().map(|journal| JournalStatus {
            entries: journal.revision(),
            gap: journal.gap(),
            waiting: journal.waiting(),
            unkept: journal.unkept(),
        });
        let switch = self.shared.outside.as_ref().map(|outside| SwitchStatus {
            trouble: outside.trouble(),
            owes_back: outside.owes_back(),
            busy: outside.is_busy(),
        });
        let since_look = self.shared.looked.age();
        let state = self.shared.state.lock();
        let mut status = Status::of(&state.rollout, now, split, &totals);
        status.rollout = plane.name();
        status.baseline = plane.baseline();
        status.shadow = shadow.as_ref().map(Into::into);
        status.history = state.history.iter().map(|line| line.transition.clone()).collect();
        status.journal = journal;
        status.switch = switch;
        status.wanted = match state.change.as_ref().map(|change| change.to) {
            Some(Wanted::Share(share)) => share,
            Some(Wanted::Promotion) => TrafficShare::ALL,
            None => state.rollout.share(),
        };
        status.change = state.change.as_ref().map(|change| ChangeStatus {
            to: match change.to {
                Wanted::Share(share) => format!("{share} for the candidate"),
                Wanted::Promotion => "promotion".to_owned(),
            },
            waits_for: if change.journal.is_some() {
                "the journal"
            } else if self.shared.outside.is_some() && !change.obeyed {
                "the switch"
            } else {
                "nothing"
            },
        });
        status.owner = self.shared.ownership.holds();
        status.parked = state.parked.clone();
        status.drill = state.last_drill.clone();
        status.drill_overdue =
            state.rollout.is_live() && state.is_drill_overdue(now, self.shared.drill_due);
        status.alerts = alerts;
        status.untold = untold;
        status.ticks = state.ticks;
        status.last_look = since_look;
        status.unattended_after = self.shared.unattended;
        status.sinks_behind = plane.sinks_behind();
        status
    }

    /// Leaves the rollout on purpose, for a process that ends: everybody goes back to the baseline
    /// here, nobody is alerted, and the journal stays as it is, so that the next process resumes
    /// where this one was. Ticks and orders have no effect any more.
    pub fn leave(&self) {
        self.shared.leaving.store(true, Ordering::Release);
        self.park("this process leaves the rollout");
        self.shared.plane.shadow(Shadowing::Off);
        self.shared.ownership.release();
    }

    /// Takes everything back here, without ending the rollout: whoever looks next hears of it, and a
    /// restart goes on. Says whether there was anything to take back.
    pub(super) fn park(&self, reason: &str) -> bool {
        {
            let mut state = self.shared.state.lock();
            let running = matches!(state.rollout.state(), State::Running(_));
            if !running || !self.shared.ownership.holds() || state.parked.is_some() {
                return false;
            }
            let raises = state.change.as_ref().is_some_and(|change| change.asked.is_some());
            let exposed = self.shared.plane.split().candidate > TrafficShare::NONE || raises;
            if !exposed {
                return false;
            }
            let split = self.shared.ownership.return_home();
            state.parked = Some(reason.to_owned());
            let given_up = self.give_up_change(&mut state);
            self.note_split(&state, given_up);
            if let (Some(outside), Some(split)) = (&self.shared.outside, split) {
                outside.ask(split, Kind::Back);
            }
        }
        true
    }

    /// Whoever is over holds the router no longer.
    pub(super) fn let_go_when_over(&self) {
        let state = self.shared.state.lock();
        if !state.rollout.is_live() && state.change.is_none() {
            self.shared.ownership.release();
        }
    }
}

impl Attended for Shared {
    fn attend(self: Arc<Self>) -> Option<Duration> {
        let limit = self.unattended?;
        let age = self.looked.age();
        if age <= limit {
            return Some((limit - age).max(limit / 16));
        }
        let live = {
            let state = self.state.lock();
            matches!(state.rollout.state(), State::Running(_)) && state.parked.is_none()
        };
        let exposed = self.plane.split().candidate > TrafficShare::NONE;
        if live && exposed && self.ownership.holds() {
            let pilot = Pilot { shared: self };
            let reason = format!(
                "nobody has looked after it for {:.0} s; tick the pilot again, then order a retry",
                age.as_secs_f64()
            );
            pilot.taken_back(pilot.now(), "pilotage", reason);
            pilot.let_go_when_over();
        }
        Some(limit / 4)
    }
}

impl GiveWay for Shared {
    fn give_way(self: Arc<Self>, to: &str) {
        Pilot { shared: self }.make_room(to);
    }

    /// Whoever comes next may keep its journal in the same place.
    fn superseded(self: Arc<Self>) {
        // Nothing comes after what was handed over by now.
        self.state.lock().superseded = true;
        if let Some(journal) = &self.journal {
            journal.close_if_written();
        }
    }
}

/// Nobody looks after what nobody holds.
impl Drop for Shared {
    fn drop(&mut self) {
        if !self.ownership.holds() {
            return;
        }
        let split = self.plane.split();
        let state = self.state.get_mut();
        let running = matches!(state.rollout.state(), State::Running(_));
        let raises = state.change.as_ref().is_some_and(|change| change.asked.is_some());
        if running && (split.candidate > TrafficShare::NONE || raises) {
            let _ = self.ownership.return_home();
            // What was proposed and is not in force is no part of it.
            let anew = state.change.as_ref().is_some_and(|change| change.proposal.is_some());
            let now = self.plane.now().after(self.ahead);
            if let Some(journal) = self.journal.as_ref().filter(|_| !anew) {
                let split = self.plane.split();
                let entry = Entry::InForce { at: now, split, promoted: false };
                journal.add(vec![entry], split.epoch, Durability::Synced, None, false);
            }
            if let Some(outside) = &self.outside {
                outside.ask(self.plane.split(), Kind::Back);
            }
            if !self.leaving.load(Ordering::Acquire) {
                let candidate = state.rollout.candidate();
                let summary = format!(
                    "the pilot of {candidate} was dropped while it had {}: everybody is on the \
                     baseline; keep the pilot, or resume the rollout from its journal",
                    split.candidate
                );
                let key = format!("{candidate}/dropped");
                let name = self.plane.name();
                let alert = Alert::new(key, Severity::Critical, name, now, summary);
                self.alerts.send(alert.once());
            }
        }
        self.plane.shadow(Shadowing::Off);
        self.ownership.release();
    }
}

impl std::fmt::Debug for Pilot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pilot").field("end", &self.end()).finish_non_exhaustive()
    }
}

/// How long a date is carried on before the wall clock is asked again.
const DATE_AFTER: Duration = Duration::from_secs(60);
/// How long a tick waits for a journal or a switch that answers at once.
pub(super) const PATIENCE: Duration = Duration::from_millis(100);
