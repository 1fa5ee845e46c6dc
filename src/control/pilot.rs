//! Takes a candidate through a plan.
//!
//! A [`Pilot`] feeds the [`Rollout`] from a router and carries out what it says. Everything happens
//! in [`Pilot::tick`]: called by a [`Driver`](crate::control::driver::Driver), by the host's own
//! loop, or by a test with a manual clock. What an operator orders is queued for the next tick,
//! except that everything which stops traffic is done at once, on the caller's thread, by one
//! store.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::alert::alert::Alert;
use crate::alert::alert::Severity;
use crate::clock::{Moment, WallClock};
use crate::control::alert_queue::AlertQueue;
use crate::control::book::Book;
use crate::control::desk::{Desk, Owed, orders_traffic, raises, takes_back};
use crate::control::journal_file::Durability;
use crate::control::plane::Plane;
use crate::control::status::{JournalStatus, Status};
use crate::date::Date;
use crate::ids::{Name, NameError};
use crate::machine::{Command, Drilled, Effect, Input, Machine, News, Order};
use crate::rollout::history::{History, Line};
use crate::rollout::journal::{About, Entry, Snapshot as Standing};
use crate::rollout::pipeline::{End, Rollout, State};
use crate::route::switch::{Split, SwitchError, TrafficSwitch};
use crate::share::TrafficShare;

/// A rollout under way. Clones are handles on the same one.
#[derive(Clone)]
pub struct Pilot {
    shared: Arc<Shared>,
}

struct Shared {
    plane: Arc<dyn Plane>,
    switch: Arc<dyn TrafficSwitch>,
    wall: Arc<dyn WallClock>,
    dispatch: AlertQueue,
    about: About,
    /// What the rollout's time is ahead of the plane's: it goes on after a restart.
    ahead: Duration,
    /// Where it is written down. Taken before `orders`, never while `desk` is held.
    book: Option<Mutex<Book>>,
    /// Held for a whole tick, so that two never run at once. User code may run under it, and may
    /// call back: a tick within a tick does nothing.
    ticking: Mutex<()>,
    /// Held for moments only, never while user code runs.
    desk: Mutex<Desk>,
    orders: Mutex<VecDeque<Command>>,
    drills: Mutex<VecDeque<Drilled>>,
    /// How old the last rollback drill may be.
    drill_due: Duration,
}

/// What a pilot begins with.
pub(crate) struct Beginning {
    pub plane: Arc<dyn Plane>,
    pub switch: Arc<dyn TrafficSwitch>,
    pub wall: Arc<dyn WallClock>,
    pub dispatch: AlertQueue,
    pub about: About,
    pub ahead: Duration,
    pub book: Option<Book>,
    pub drill_due: Duration,
    pub rollout: Rollout,
    pub orders: Vec<Command>,
    pub history: Vec<Line>,
    pub promoted: bool,
}

/// How many orders can wait for a tick.
const ORDERS: usize = 256;

/// An order that cannot be taken.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OrderError {
    /// Nobody is named.
    #[error("who gives the order: {0}")]
    Who(#[from] NameError),
    /// The rollout is over.
    #[error("the rollout is over ({end}); start a new one")]
    Over {
        /// How it ended.
        end: &'static str,
    },
    /// Too many orders wait: nobody calls `tick`.
    #[error("256 orders wait already; does anybody call tick?")]
    Full,
    /// It could not be written down. An order to kill, abort or pause is kept in the room that the
    /// journal's store reserves for it, and if that fails too it takes effect all the same, but is
    /// forgotten if the process ends before the journal can be written again; any other was not
    /// taken.
    #[error(
        "the order {order} could not be written down ({why}); stopping and pausing took effect, a restart may forget it; give it again"
    )]
    Unwritten {
        /// Which.
        order: Order,
        /// Why not.
        why: String,
    },
}

impl Pilot {
    /// Carries `effects` out and goes on from there. They are written down already, if at all.
    pub(crate) fn new(beginning: Beginning, effects: Vec<Effect>) -> Self {
        let Beginning { plane, switch, wall, dispatch, about, ahead, book, .. } = beginning;
        let Beginning { drill_due, rollout, orders, history, promoted, .. } = beginning;
        plane.collect();
        let now = plane.now().after(ahead);
        let desk = Desk {
            rollout,
            last: plane.snapshot(),
            last_at: now,
            last_shadow: plane.shadow_counts().unwrap_or_default(),
            owed: None,
            history: history.into(),
            promoted,
            last_drill: None,
            drill_since: now,
            drill_told: false,
            journal_told: false,
            unkept_told: false,
            ticks: 0,
            told_date: None,
        };
        let pilot = Self {
            shared: Arc::new(Shared {
                plane,
                switch,
                wall,
                dispatch,
                about,
                ahead,
                book: book.map(Mutex::new),
                ticking: Mutex::new(()),
                desk: Mutex::new(desk),
                orders: Mutex::new(orders.into()),
                drills: Mutex::default(),
                drill_due,
            }),
        };
        let split = pilot.shared.plane.split();
        pilot.carry_out(effects, split);
        pilot
    }

    /// Looks at what happened since the last tick, decides, and carries the decision out.
    ///
    /// Call it every second or so, from any one thread. A tick that comes late advances at most
    /// one stage; one that comes twice changes nothing; one that comes while another runs returns
    /// at once. Returns whether there is more to do: the rollout is under way, or it is over and a
    /// switch has yet to be told, or its end has yet to be written down.
    pub fn tick(&self) -> bool {
        let Some(_ticking) = self.shared.ticking.try_lock() else {
            return self.has_work();
        };
        let plane = &self.shared.plane;
        // Read before the orders: whoever stops traffic after this bumps the epoch, and what is
        // decided below is then refused by the switch.
        let mut split = plane.split();
        let now = self.now();
        plane.collect();
        let (snapshot, shadow) = (plane.snapshot(), plane.shadow_counts());
        let mut orders: Vec<Command> = self.shared.orders.lock().drain(..).collect();
        orders.sort_by_key(|command| command.order.precedence());
        let drills: Vec<Drilled> = self.shared.drills.lock().drain(..).collect();
        let date = self.needs_date(now).then(|| self.shared.wall.date());

        let (before, owed, seen) = {
            let mut desk = self.shared.desk.lock();
            desk.ticks += 1;
            (desk.rollout.clone(), desk.owed, desk.seen(now, split, &snapshot, shadow.as_ref()))
        };
        let mut inputs: Vec<Input> = date.map(Input::Wall).into_iter().collect();
        inputs.extend(drills.iter().cloned().map(Input::Drilled));
        inputs.extend(orders.iter().cloned().map(Input::Command));
        // What was seen under a split that is still being brought about is not judged.
        if owed.is_none() {
            inputs.push(Input::Seen(Box::new(seen)));
        }
        let mut rollout = before.clone();
        let (mut effects, mut lines, mut entries) = (Vec::new(), Vec::new(), Vec::new());
        for input in inputs {
            let from = rollout.clone();
            let answer = rollout.handle(now, &input);
            lines.extend(Line::of(&from, &rollout, &answer, self.date(now)));
            effects.extend(answer.iter().cloned());
            let (at, input) = (now, Box::new(input));
            entries.push(Entry::Handled { at, input, effects: answer });
        }
        if takes_back(&effects) && split.candidate > TrafficShare::NONE {
            // Back is back, before a disk is asked.
            plane.word().roll_back();
            split = plane.split();
        }
        let written = self.write(entries, now, !lines.is_empty());
        if !written && raises(&effects, split) {
            // Nothing goes up that is not written down: as if this tick had not been. What was
            // seen comes again with the next, in one batch.
            let mut queue = self.shared.orders.lock();
            orders.into_iter().rev().for_each(|order| queue.push_front(order));
            self.shared.drills.lock().extend(drills);
            return true;
        }
        {
            let mut desk = self.shared.desk.lock();
            desk.rollout = rollout;
            (desk.last, desk.last_at) = (snapshot, now);
            desk.last_shadow = shadow.unwrap_or_default();
            desk.owed = None;
            if date.is_some() {
                desk.told_date = Some(now);
            }
            if let Some(drill) = drills.into_iter().next_back() {
                desk.last_drill = Some(drill);
            }
            lines.iter().for_each(|line| desk.note(line.clone()));
        }
        let stepped = !lines.is_empty();
        if stepped && !written {
            // A step that raises nothing, such as a rollback: not forgotten over a crash.
            self.keep(now);
        }
        let split = match owed {
            Some(owed) if !orders_traffic(&effects) => self.settle(owed, split, now),
            _ => split,
        };
        self.carry_out(effects, split);
        if stepped && written {
            self.write_standing(now);
        }
        self.look_at_drills(now);
        self.has_work()
    }

    /// Takes everything back to the baseline at once, and ends the rollout.
    ///
    /// Calls that begin after this returns are on the baseline. It needs no tick, no lock and no
    /// dependency, and may be repeated; the history gets it with the next tick.
    ///
    /// # Errors
    ///
    /// [`OrderError`] when the order cannot be written down; traffic went back all the same.
    pub fn abort(&self, who: &str, why: &str) -> Result<(), OrderError> {
        self.stop(Order::Abort, who, why)
    }

    /// As [`Pilot::abort`], and marks the rollout as killed.
    ///
    /// # Errors
    ///
    /// As [`Pilot::abort`].
    pub fn kill(&self, who: &str, why: &str) -> Result<(), OrderError> {
        self.stop(Order::Kill, who, why)
    }

    /// Gives an order that does not stop traffic; it takes effect with the next tick. After a
    /// rollback or refusal a retry is taken too; a driver has ended by then, so begin another.
    ///
    /// # Errors
    ///
    /// [`OrderError`] when it cannot be taken.
    pub fn order(&self, order: Order, who: &str, why: &str) -> Result<(), OrderError> {
        if matches!(order, Order::Abort | Order::Kill) {
            return self.stop(order, who, why);
        }
        self.queue(order, who, why)
    }

    fn stop(&self, order: Order, who: &str, why: &str) -> Result<(), OrderError> {
        // The order first, then the store: a tick that reads the old split and does not see the
        // order is refused by the epoch; one that reads the new split finds the order. The disk
        // last: an order that a tick handles before it is written here is written twice, and
        // stopping twice is stopping.
        let queued = self.check(order, who, why).and_then(|command| {
            self.push(command.clone())?;
            Ok(command)
        });
        if !self.is_over() {
            self.shared.plane.word().roll_back();
        }
        self.write_order(&queued?)
    }

    fn queue(&self, order: Order, who: &str, why: &str) -> Result<(), OrderError> {
        let command = self.check(order, who, why)?;
        if order == Order::Pause {
            self.push(command.clone())?;
            return self.write_order(&command);
        }
        // Whatever raises exposure is written before it can be handled.
        self.write_order(&command)?;
        self.push(command)
    }

    fn write_order(&self, command: &Command) -> Result<(), OrderError> {
        let Some(book) = &self.shared.book else { return Ok(()) };
        let entry = Entry::Ordered { at: self.now(), command: command.clone() };
        let epoch = self.shared.plane.split().epoch;
        let written = book.lock().add(&[entry], epoch, Durability::Synced);
        let stops = matches!(command.order, Order::Kill | Order::Abort | Order::Pause);
        written
            .or_else(|why| if stops && self.keep(self.now()) { Ok(()) } else { Err(why) })
            .map_err(|why| OrderError::Unwritten { order: command.order, why })
    }

    /// Keeps where the rollout stands, with the orders that wait, in the room reserved for it: the
    /// journal cannot be written, and what takes a candidate back must not be forgotten. Says
    /// whether it is kept; if not, people are told once.
    fn keep(&self, now: Moment) -> bool {
        let Some(book) = &self.shared.book else { return true };
        let epoch = self.shared.plane.split().epoch;
        let kept = {
            let mut book = book.lock();
            let standing = self.standing(now);
            book.keep(standing, epoch)
        };
        let told = {
            let mut desk = self.shared.desk.lock();
            std::mem::replace(&mut desk.unkept_told, kept.is_err())
        };
        if let (Err(why), false) = (&kept, told) {
            let summary = format!(
                "a step back was taken and is written nowhere ({why}): until the journal can be \
                 written again, a restart would forget it; do not resume from this journal then"
            );
            let (key, severity) = ("journal/unkept".to_owned(), Severity::Critical);
            self.tell(now, News { key, severity, summary, resolved: false });
        }
        kept.is_ok()
    }

    fn push(&self, command: Command) -> Result<(), OrderError> {
        let mut orders = self.shared.orders.lock();
        if orders.len() >= ORDERS {
            return Err(OrderError::Full);
        }
        orders.push_back(command);
        Ok(())
    }

    fn check(&self, order: Order, who: &str, why: &str) -> Result<Command, OrderError> {
        let who = Name::new(who)?;
        let leads_out = |end| match order {
            Order::Retry => matches!(end, End::RolledBack | End::Refused),
            Order::Kill => matches!(end, End::RolledBack | End::Refused | End::Aborted),
            _ => false,
        };
        if let Some(end) = self.end().filter(|end| !leads_out(*end)) {
            return Err(OrderError::Over { end: end.word() });
        }
        let why = why.chars().filter(|c| !c.is_control()).take(MOST_REASON).collect();
        Ok(Command { order, who, why })
    }

    fn now(&self) -> Moment {
        self.shared.plane.now().after(self.shared.ahead)
    }

    /// What the wall clock last read, carried on.
    fn date(&self, _now: Moment) -> Option<Date> {
        self.shared.book.as_ref().map(|_| self.shared.wall.date())
    }

    /// Writes entries down. Says whether they are; without a journal they need not be.
    fn write(&self, entries: Vec<Entry>, now: Moment, steps: bool) -> bool {
        let Some(book) = &self.shared.book else { return true };
        let durability = if steps { Durability::Synced } else { Durability::Written };
        let epoch = self.shared.plane.split().epoch;
        let written = {
            let mut book = book.lock();
            let begun = if book.needs_snapshot() {
                let standing = self.standing(now);
                book.begin(standing, epoch)
            } else {
                Ok(())
            };
            begun.and_then(|()| book.add(&entries, epoch, durability))
        };
        self.tell_of_journal(now, written)
    }

    /// Where it stands after a step, so that a resume has little to do again.
    fn write_standing(&self, now: Moment) {
        let Some(book) = &self.shared.book else { return };
        let epoch = self.shared.plane.split().epoch;
        let written = {
            let mut book = book.lock();
            let entry = Entry::Snapshot(Box::new(self.standing(now)));
            book.add(&[entry], epoch, Durability::Written)
        };
        self.tell_of_journal(now, written);
    }

    fn standing(&self, now: Moment) -> Standing {
        let split = self.shared.plane.split();
        let date = self.date(now);
        let orders = self.shared.orders.lock().iter().cloned().collect();
        let desk = self.shared.desk.lock();
        let mut standing =
            Standing::new(self.shared.about.clone(), desk.rollout.clone(), now, split);
        standing.date = date;
        standing.promoted = desk.promoted;
        standing.orders = orders;
        standing.history = desk.history.iter().cloned().collect();
        standing
    }

    /// People are told once that nothing can be written, and once that it can again.
    fn tell_of_journal(&self, now: Moment, written: Result<(), String>) -> bool {
        let (told, unkept) = {
            let mut desk = self.shared.desk.lock();
            let unkept = written.is_ok() && std::mem::take(&mut desk.unkept_told);
            (std::mem::replace(&mut desk.journal_told, written.is_err()), unkept)
        };
        if unkept {
            let (key, severity) = ("journal/unkept".to_owned(), Severity::Info);
            let summary = "the step back is written down".to_owned();
            self.tell(now, News { key, severity, summary, resolved: true });
        }
        let (key, resolved) = ("journal".to_owned(), written.is_ok());
        let news = match &written {
            Err(why) if !told => Some((
                Severity::Warning,
                format!(
                    "the journal cannot be written ({why}); the candidate gets no more traffic \
                     until it can, and every way back stays open"
                ),
            )),
            Ok(()) if told => Some((Severity::Info, "the journal is written again".to_owned())),
            _ => None,
        };
        if let Some((severity, summary)) = news {
            self.tell(now, News { key, severity, summary, resolved });
        }
        written.is_ok()
    }

    /// Takes note of a rollback drill; the machine hears of it with the next tick.
    pub(crate) fn drilled(&self, drill: Drilled) {
        let mut drills = self.shared.drills.lock();
        if drills.len() < ORDERS {
            drills.push_back(drill);
        }
    }

    pub(crate) fn moment(&self) -> Moment {
        self.now()
    }

    /// Does something with the switch while no tick can give it an order: an order in force that
    /// is given once more must not undo one that came in between. `None` while a tick takes too
    /// long.
    pub(crate) fn with_switch<T>(
        &self,
        patience: Duration,
        what: impl FnOnce(&dyn TrafficSwitch) -> T,
    ) -> Option<T> {
        let _ticking = self.shared.ticking.try_lock_for(patience)?;
        Some(what(&*self.shared.switch))
    }

    /// When the last passed drill is older than it may be, or there was none for so long: tells
    /// people, once.
    fn look_at_drills(&self, now: Moment) {
        let news = {
            let mut desk = self.shared.desk.lock();
            let overdue = desk.is_drill_overdue(now, self.shared.drill_due);
            let told = std::mem::replace(&mut desk.drill_told, overdue);
            match (told, overdue) {
                (false, true) => {
                    let last = desk.last_drill.as_ref();
                    Some(last.map_or_else(
                        || "none was made".to_owned(),
                        |drill| {
                            format!(
                                "the last {}",
                                if drill.passed { "is too old" } else { "failed" }
                            )
                        },
                    ))
                }
                (true, false) => Some(String::new()),
                _ => None,
            }
        };
        let Some(why) = news else { return };
        let resolved = why.is_empty();
        let (severity, summary) = if resolved {
            (Severity::Info, "the rollback drill was made".to_owned())
        } else {
            (Severity::Warning, format!("a rollback drill is overdue: {why}; make one"))
        };
        self.tell(now, News { key: "drill".to_owned(), severity, summary, resolved });
    }

    /// How the rollout went so far, for people and for programs.
    #[must_use]
    pub fn history(&self) -> History {
        let lines = self.shared.desk.lock().history.iter().cloned().collect();
        History::new(self.shared.about.clone(), lines)
    }

    fn needs_date(&self, now: Moment) -> bool {
        let desk = self.shared.desk.lock();
        let stale = desk.told_date.is_none_or(|told| now.since(told) >= DATE_AFTER);
        stale && (self.shared.book.is_some() || desk.rollout.plan().needs_wall_time())
    }

    fn has_work(&self) -> bool {
        let desk = self.shared.desk.lock();
        !matches!(desk.rollout.state(), State::Ended(_)) || desk.owed.is_some() || desk.unkept_told
    }

    /// Whether the rollout has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.end().is_some()
    }

    /// How the rollout ended, if it has.
    #[must_use]
    pub fn end(&self) -> Option<End> {
        match self.shared.desk.lock().rollout.state() {
            State::Waiting(_) | State::Running(_) => None,
            State::Ended(ended) => Some(ended.end),
        }
    }

    /// Everything there is to know, as one value that can be shown or serialised.
    #[must_use]
    pub fn status(&self) -> Status {
        let plane = &self.shared.plane;
        let (split, totals, shadow) = (plane.split(), plane.totals(), plane.shadow_counts());
        let (now, alerts) = (self.now(), self.shared.dispatch.counts());
        let journal = self.shared.book.as_ref().map(|book| {
            let book = book.lock();
            JournalStatus { entries: book.revision(), gap: book.gap().map(str::to_owned) }
        });
        let desk = self.shared.desk.lock();
        let mut status = Status::of(&desk.rollout, now, split, &totals);
        status.rollout = plane.name();
        status.baseline = plane.baseline();
        status.shadow = shadow.as_ref().map(Into::into);
        status.history = desk.history.iter().map(|line| line.transition.clone()).collect();
        status.journal = journal;
        status.wanted = match desk.owed {
            Some(Owed::Share(share)) => share,
            Some(Owed::Promotion) | None => desk.rollout.share(),
        };
        status.drill = desk.last_drill.clone();
        status.drill_overdue = desk.is_drill_overdue(now, self.shared.drill_due);
        status.alerts = alerts;
        status.ticks = desk.ticks;
        status
    }

    /// Carries effects out in their order, beginning from `split`.
    fn carry_out(&self, effects: Vec<Effect>, mut split: Split) {
        let now = self.now();
        for effect in effects {
            match effect {
                Effect::Shift(share) => split = self.settle(Owed::Share(share), split, now),
                Effect::Promote => split = self.settle(Owed::Promotion, split, now),
                Effect::Shadow(shadowing) => self.shared.plane.shadow(shadowing),
                Effect::Alert(news) => self.tell(now, news),
                // A refusal is in the history; a driver looks often enough not to be woken.
                // What is recorded was written down before this.
                Effect::Refused(_) | Effect::WakeAt(_) | Effect::Record(_) => {}
            }
        }
    }

    /// Brings what is owed into force, or remembers it for the next tick and says so.
    fn settle(&self, owed: Owed, split: Split, now: Moment) -> Split {
        let (order, word) = (owed.order(split), self.shared.plane.word());
        if order.candidate == TrafficShare::NONE && order.primary == split.primary {
            // Back is back, whatever else may fail: this process first.
            word.roll_back();
        }
        let switch = &self.shared.switch;
        let up = order.candidate > split.candidate || order.primary != split.primary;
        let gap = self.shared.book.as_ref().and_then(|book| book.lock().gap().map(str::to_owned));
        let asked = catch_unwind(AssertUnwindSafe(|| match (self.end(), gap) {
            (_, Some(why)) if up => {
                Err(SwitchError::Unreachable { reason: format!("nothing is asked of it: {why}") })
            }
            _ if up && switch.in_force().is_none() => {
                let reason = "it cannot tell what is in force".to_owned();
                Err(SwitchError::Unreachable { reason })
            }
            (None | Some(End::Promoted), _) => switch.shift(&order),
            (Some(_), _) => switch.take_back(&order),
        }));
        let failed = match asked {
            Ok(Ok(())) => match word.shift(&order) {
                Ok(()) => {
                    let split = word.read();
                    let promoted = matches!(owed, Owed::Promotion);
                    self.shared.desk.lock().promoted |= promoted;
                    self.write_outcome(Entry::InForce { at: now, split, promoted });
                    return split;
                }
                Err(error) => error,
            },
            Ok(Err(error)) => error,
            Err(_) => SwitchError::Unreachable { reason: "it panicked".to_owned() },
        };
        let in_force = word.read();
        let (news, entry) = {
            let mut desk = self.shared.desk.lock();
            // Somebody stopped traffic meanwhile: what was owed no longer is.
            if !matches!(failed, SwitchError::Superseded { .. }) {
                desk.owed = Some(owed);
            }
            let reason = failed.to_string();
            let input = Input::NotShifted { in_force: in_force.candidate, reason };
            let effects = desk.rollout.handle(now, &input);
            let (at, input) = (now, Box::new(input));
            (effects.clone(), Entry::Handled { at, input, effects })
        };
        self.write_outcome(entry);
        for effect in news {
            if let Effect::Alert(news) = effect {
                self.tell(now, news);
            }
        }
        in_force
    }

    /// Writes down what came of an order. It is done already, so nothing waits for the disk; where
    /// it fails, the next tick begins the journal anew.
    fn write_outcome(&self, entry: Entry) {
        if let Some(book) = &self.shared.book {
            let epoch = self.shared.plane.split().epoch;
            let _ = book.lock().add(&[entry], epoch, Durability::Written);
        }
    }

    fn tell(&self, now: Moment, news: News) {
        let rollout = self.shared.plane.name();
        let mut alert = Alert::new(news.key, news.severity, rollout, now, news.summary);
        alert.resolved = news.resolved;
        self.shared.dispatch.send(alert);
    }
}

impl std::fmt::Debug for Pilot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pilot").field("end", &self.end()).finish_non_exhaustive()
    }
}

/// How long a date is carried on before the wall clock is asked again.
const DATE_AFTER: Duration = Duration::from_secs(60);
/// The most characters of an operator's reason that are kept.
const MOST_REASON: usize = 1_000;
