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
use crate::clock::{Moment, WallClock};
use crate::control::dispatch::Dispatch;
use crate::control::plane::Plane;
use crate::control::status::Status;
use crate::ids::{Name, NameError};
use crate::machine::{Command, Effect, Input, Machine, News, Order, Seen, Transition};
use crate::observe::shadow::ShadowCounts;
use crate::observe::snapshot::Snapshot;
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
    dispatch: Dispatch,
    /// Held for a whole tick, so that two never run at once. User code may run under it, and may
    /// call back: a tick within a tick does nothing.
    ticking: Mutex<()>,
    /// Held for moments only, never while user code runs.
    desk: Mutex<Desk>,
    orders: Mutex<VecDeque<Command>>,
}

struct Desk {
    rollout: Rollout,
    last: Snapshot,
    last_at: Moment,
    last_shadow: ShadowCounts,
    /// A share that was ordered and could not be brought into force yet.
    owed: Option<Owed>,
    history: VecDeque<Transition>,
    ticks: u64,
    /// When the rollout was last told the date, where its plan has dates.
    told_date: Option<Moment>,
}

#[derive(Clone, Copy)]
enum Owed {
    Share(TrafficShare),
    Promotion,
}

/// How many transitions of a rollout are kept for display.
pub const HISTORY: usize = 1024;
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
}

impl Pilot {
    pub(crate) fn new(
        plane: Arc<dyn Plane>,
        switch: Arc<dyn TrafficSwitch>,
        wall: Arc<dyn WallClock>,
        dispatch: Dispatch,
        rollout: Rollout,
        effects: Vec<Effect>,
    ) -> Self {
        plane.collect();
        let desk = Desk {
            rollout,
            last: plane.snapshot(),
            last_at: plane.now(),
            last_shadow: plane.shadow_counts().unwrap_or_default(),
            owed: None,
            history: VecDeque::new(),
            ticks: 0,
            told_date: None,
        };
        let pilot = Self {
            shared: Arc::new(Shared {
                plane,
                switch,
                wall,
                dispatch,
                ticking: Mutex::new(()),
                desk: Mutex::new(desk),
                orders: Mutex::new(VecDeque::new()),
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
    /// switch has yet to be told.
    #[expect(clippy::must_use_candidate, reason = "it is called for its effect")]
    pub fn tick(&self) -> bool {
        let Some(_ticking) = self.shared.ticking.try_lock() else {
            return self.has_work();
        };
        let plane = &self.shared.plane;
        // Read before the orders: whoever stops traffic after this bumps the epoch, and what is
        // decided below is then refused by the switch.
        let split = plane.split();
        let now = plane.now();
        plane.collect();
        let snapshot = plane.snapshot();
        let shadow = plane.shadow_counts();
        let mut orders: Vec<Command> = self.shared.orders.lock().drain(..).collect();
        orders.sort_by_key(|command| command.order.precedence());

        let date = self.needs_date(now).then(|| self.shared.wall.date());
        let mut effects = Vec::new();
        let owed = {
            let mut desk = self.shared.desk.lock();
            desk.ticks += 1;
            let seen = desk.seen(now, split, snapshot, shadow);
            if let Some(date) = date {
                desk.told_date = Some(now);
                effects.extend(desk.rollout.handle(now, &Input::Wall(date)));
            }
            for order in orders {
                effects.extend(desk.rollout.handle(now, &Input::Command(order)));
            }
            // What was seen under a split that is still being brought about is not judged.
            if desk.owed.is_none() {
                effects.extend(desk.rollout.handle(now, &Input::Seen(Box::new(seen))));
            }
            desk.owed.take()
        };
        let split = match owed {
            Some(owed) if !orders_traffic(&effects) => self.settle(owed, split, now),
            _ => split,
        };
        self.carry_out(effects, split);
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
        // order is refused by the epoch; one that reads the new split finds the order.
        let queued = self.queue(order, who, why);
        if !self.is_over() {
            self.shared.plane.word().roll_back();
        }
        queued
    }

    fn queue(&self, order: Order, who: &str, why: &str) -> Result<(), OrderError> {
        let who = Name::new(who)?;
        let leads_out = |end| match order {
            Order::Retry => matches!(end, End::RolledBack | End::Refused),
            Order::Kill => matches!(end, End::RolledBack | End::Refused | End::Aborted),
            _ => false,
        };
        if let Some(end) = self.end().filter(|end| !leads_out(*end)) {
            return Err(OrderError::Over { end: end.word() });
        }
        let mut orders = self.shared.orders.lock();
        if orders.len() >= ORDERS {
            return Err(OrderError::Full);
        }
        let why = why.chars().filter(|c| !c.is_control()).take(MOST_REASON).collect();
        orders.push_back(Command { order, who, why });
        Ok(())
    }

    fn needs_date(&self, now: Moment) -> bool {
        let desk = self.shared.desk.lock();
        let stale = desk.told_date.is_none_or(|told| now.since(told) >= DATE_AFTER);
        stale && desk.rollout.plan().needs_wall_time()
    }

    fn has_work(&self) -> bool {
        let desk = self.shared.desk.lock();
        !matches!(desk.rollout.state(), State::Ended(_)) || desk.owed.is_some()
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
        let (now, alerts) = (plane.now(), self.shared.dispatch.counts());
        let desk = self.shared.desk.lock();
        let mut status = Status::of(&desk.rollout, now, split, &totals);
        status.rollout = plane.name();
        status.baseline = plane.baseline();
        status.shadow = shadow.as_ref().map(Into::into);
        status.history = desk.history.iter().cloned().collect();
        status.alerts = alerts;
        status.ticks = desk.ticks;
        status
    }

    /// Carries effects out in their order, beginning from `split`.
    fn carry_out(&self, effects: Vec<Effect>, mut split: Split) {
        let now = self.shared.plane.now();
        for effect in effects {
            match effect {
                Effect::Shift(share) => split = self.settle(Owed::Share(share), split, now),
                Effect::Promote => split = self.settle(Owed::Promotion, split, now),
                Effect::Shadow(shadowing) => self.shared.plane.shadow(shadowing),
                Effect::Alert(news) => self.tell(now, news),
                // A refusal is in the history; a driver looks often enough not to be woken.
                Effect::Refused(_) | Effect::WakeAt(_) => {}
                Effect::Record(transition) => {
                    let mut desk = self.shared.desk.lock();
                    if desk.history.len() == HISTORY {
                        desk.history.pop_front();
                    }
                    desk.history.push_back(transition);
                }
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
        let asked = catch_unwind(AssertUnwindSafe(|| match self.end() {
            None | Some(End::Promoted) => switch.shift(&order),
            Some(_) => switch.take_back(&order),
        }));
        let failed = match asked {
            Ok(Ok(())) => match word.shift(&order) {
                Ok(()) => return word.read(),
                Err(error) => error,
            },
            Ok(Err(error)) => error,
            Err(_) => SwitchError::Unreachable { reason: "it panicked".to_owned() },
        };
        let in_force = word.read();
        let news = {
            let mut desk = self.shared.desk.lock();
            // Somebody stopped traffic meanwhile: what was owed no longer is.
            if !matches!(failed, SwitchError::Superseded { .. }) {
                desk.owed = Some(owed);
            }
            let reason = failed.to_string();
            let input = Input::NotShifted { in_force: in_force.candidate, reason };
            desk.rollout.handle(now, &input)
        };
        for effect in news {
            if let Effect::Alert(news) = effect {
                self.tell(now, news);
            }
        }
        in_force
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

impl Desk {
    /// What came since the last tick. Counts of another split than the one in force are left out:
    /// they belong to nobody's stage.
    fn seen(
        &mut self,
        now: Moment,
        split: Split,
        snapshot: Snapshot,
        shadow: Option<ShadowCounts>,
    ) -> Seen {
        let mut live = snapshot.since(&self.last);
        live.lasted = now.since(self.last_at);
        live.to = now;
        if snapshot.epoch != split.epoch {
            live.arms.clear();
        }
        let mut seen = Seen::live(split.candidate, live);
        if let Some(shadow) = shadow {
            seen = seen.with_shadow(shadow.since(&self.last_shadow));
            self.last_shadow = shadow;
        }
        self.last = snapshot;
        self.last_at = now;
        seen
    }
}

impl Owed {
    fn order(self, split: Split) -> Split {
        match self {
            Self::Share(share) if share == split.candidate => split,
            Self::Share(share) => split.shifted(share),
            Self::Promotion => split.promoted(),
        }
    }
}

fn orders_traffic(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::Shift(_) | Effect::Promote))
}

/// How long a date is carried on before the wall clock is asked again.
const DATE_AFTER: Duration = Duration::from_secs(60);
/// The most characters of an operator's reason that are kept.
const MOST_REASON: usize = 1_000;
