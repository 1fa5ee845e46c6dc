//! Asks a switch outside this process, on threads of its own.
//!
//! A proxy's control interface may take seconds, or never answer. Whoever decides hands an order
//! over and goes on: a step up waits until it was obeyed, a way back does not. There is one call at
//! a time, in the order of the orders; only an order that takes everything back does not wait for
//! an earlier call that hangs: it is given from a second thread. A call that comes back after that
//! may have undone it, so the way back is told once more then. It is told until it was obeyed.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::route::ownership::Ownership;
use crate::route::switch::{Split, SwitchError, TrafficSwitch};

/// A switch outside, on its threads.
pub(super) struct SwitchWorker {
    shared: Arc<Shared>,
}

struct Shared {
    switch: Arc<dyn TrafficSwitch>,
    /// Whose orders these are. When another owner has begun, nothing is told any more.
    ownership: Arc<Ownership>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The number of the last order.
    last: u64,
    /// The order that is to be given next.
    next: Option<Ask>,
    /// Calls that have not returned.
    calls: Vec<Call>,
    /// What became of the last orders.
    fates: VecDeque<(u64, Result<(), SwitchError>)>,
    /// What the last drill found.
    drilled: Option<(u64, Result<Split, String>)>,
    /// The last way back that was ordered, unless a step up was ordered since.
    ordered_back: Option<Ask>,
    /// The way back that has not been obeyed yet, and when it is told again.
    back: Option<Ask>,
    again_at: Option<Instant>,
    refused: u32,
    failing: Option<String>,
    /// A drill that waits.
    drill: Option<u64>,
    closing: Option<Instant>,
}

#[derive(Clone, Copy)]
struct Ask {
    number: u64,
    order: Split,
    kind: Kind,
}

/// What an order is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// The candidate gets more.
    Raise,
    /// What is in force already is told once more, or less is given.
    Keep,
    /// What was ordered above what is in force is taken back, and the rollout goes on.
    Back,
    /// Everything goes back for good.
    TakeBack,
    /// What was obeyed is in force here as well.
    Settled,
    /// What the switch says is in force is ordered once more.
    Drill,
}

struct Call {
    ask: Ask,
    since: Instant,
    /// Whether a way back was ordered while it was under way.
    overtaken: bool,
}

/// What became of an order.
pub(super) type Fate = Option<Result<(), SwitchError>>;

impl SwitchWorker {
    /// Begins to give orders to `switch`.
    ///
    /// # Errors
    ///
    /// When the system gives no threads.
    pub(super) fn start(
        switch: Arc<dyn TrafficSwitch>,
        ownership: Arc<Ownership>,
    ) -> std::io::Result<Self> {
        ownership.speak_outside();
        let shared = Arc::new(Shared {
            switch,
            ownership,
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        for lane in [Lane::First, Lane::Second] {
            let theirs = Arc::clone(&shared);
            thread::Builder::new()
                .name("pilotage-switch".into())
                .spawn(move || give_orders(&theirs, lane))?;
        }
        Ok(Self { shared })
    }

    /// Hands an order over. It takes the place of one that was not given yet.
    pub(super) fn ask(&self, order: Split, kind: Kind) -> u64 {
        let mut state = self.shared.state.lock();
        state.last += 1;
        let ask = Ask { number: state.last, order, kind };
        if let Some(former) = state.next.replace(ask) {
            let in_force = order.epoch;
            let ordered = former.order.epoch;
            state.note(former.number, Err(SwitchError::Superseded { ordered, in_force }));
        }
        if kind.is_back() {
            (state.back, state.ordered_back) = (Some(ask), Some(ask));
            state.calls.iter_mut().for_each(|call| call.overtaken = true);
        } else if kind == Kind::Raise {
            (state.back, state.ordered_back) = (None, None);
        }
        self.shared.changed.notify_all();
        ask.number
    }

    /// What became of an order; `None` while it is not known.
    pub(super) fn fate(&self, number: u64) -> Fate {
        self.shared.state.lock().fate(number)
    }

    /// The same, after waiting for it; hardly at all while the switch keeps everybody waiting.
    pub(super) fn wait(&self, number: u64, patience: Duration) -> Fate {
        let begun = now();
        let mut state = self.shared.state.lock();
        loop {
            let fate = state.fate(number);
            let stuck = state.calls.iter().any(|call| call.since.elapsed() >= STUCK);
            let patience = if stuck { patience.min(STUCK_PATIENCE) } else { patience };
            let left = patience.saturating_sub(begun.elapsed());
            if fate.is_some() || left.is_zero() {
                return fate;
            }
            let _ = self.shared.changed.wait_for(&mut state, left.min(TURN));
        }
    }

    /// The same, after waiting for it however long it hangs.
    pub(super) fn wait_for(&self, number: u64, patience: Duration) -> Fate {
        let begun = now();
        let mut state = self.shared.state.lock();
        loop {
            let fate = state.fate(number);
            let left = patience.saturating_sub(begun.elapsed());
            if fate.is_some() || left.is_zero() {
                return fate;
            }
            let _ = self.shared.changed.wait_for(&mut state, left);
        }
    }

    /// Waits until the switch was told what was ordered last and no step up is on its way to it: for
    /// one that answers, not for long, and a millisecond for one that keeps everybody waiting.
    pub(super) fn let_settle(&self, patience: Duration) {
        let begun = now();
        let mut state = self.shared.state.lock();
        loop {
            let stuck = state.calls.iter().any(|call| call.since.elapsed() >= STUCK);
            let refused = state.refused > 0;
            let patience = if stuck || refused { patience.min(STUCK_PATIENCE) } else { patience };
            let left = patience.saturating_sub(begun.elapsed());
            let busy = state.next.is_some() || !state.calls.is_empty();
            if !busy || left.is_zero() {
                return;
            }
            let _ = self.shared.changed.wait_for(&mut state, left.min(TURN));
        }
    }

    /// Tells a way back that was not obeyed once more, now, and waits a moment for it. Says whether
    /// there is none left to tell.
    pub(super) fn retry_back(&self, patience: Duration) -> bool {
        let number = {
            let mut state = self.shared.state.lock();
            let Some(back) = state.back else { return true };
            let under_way = state.calls.iter().any(|call| call.ask.number == back.number);
            if state.next.is_none() && !under_way && state.fate(back.number).is_some() {
                state.forget(back.number);
                state.next = Some(back);
                self.shared.changed.notify_all();
            }
            back.number
        };
        let _ = self.wait(number, patience);
        self.shared.state.lock().back.is_none()
    }

    /// Orders what is in force once more, as a drill. It waits for its turn behind other orders.
    pub(super) fn drill(&self) -> u64 {
        let mut state = self.shared.state.lock();
        state.last += 1;
        let number = state.last;
        state.drill = Some(number);
        self.shared.changed.notify_all();
        number
    }

    /// What a drill found, `None` when it has not come to an end by then.
    pub(super) fn wait_for_drill(
        &self,
        number: u64,
        patience: Duration,
    ) -> Option<Result<Split, String>> {
        let begun = now();
        let mut state = self.shared.state.lock();
        loop {
            if let Some((of, found)) = &state.drilled {
                if *of == number {
                    return Some(found.clone());
                }
            }
            let left = patience.saturating_sub(begun.elapsed());
            if left.is_zero() {
                state.drill = state.drill.filter(|waits| *waits != number);
                return None;
            }
            let _ = self.shared.changed.wait_for(&mut state, left.min(TURN));
        }
    }

    /// Why the switch does not do as it was asked, if it does not.
    pub(super) fn trouble(&self) -> Option<String> {
        let state = self.shared.state.lock();
        let slowest = state.calls.iter().map(|call| call.since.elapsed()).max();
        let hangs = slowest.filter(|took| *took >= SLOW);
        let hangs =
            hangs.map(|took| format!("it has not answered for {:.1} s", took.as_secs_f64()));
        hangs.or_else(|| state.failing.clone())
    }

    /// Whether an order waits or is under way.
    pub(super) fn is_busy(&self) -> bool {
        let state = self.shared.state.lock();
        state.next.is_some() || !state.calls.is_empty()
    }

    /// Whether a way back has yet to be obeyed.
    pub(super) fn owes_back(&self) -> bool {
        self.shared.state.lock().back.is_some()
    }
}

impl Drop for SwitchWorker {
    fn drop(&mut self) {
        self.shared.state.lock().closing = Some(now());
        self.shared.changed.notify_all();
    }
}

impl Kind {
    pub(super) const fn is_back(self) -> bool {
        matches!(self, Self::Back | Self::TakeBack)
    }
}

impl State {
    fn fate(&self, number: u64) -> Fate {
        self.fates.iter().find(|(of, _)| *of == number).map(|(_, fate)| fate.clone())
    }

    fn forget(&mut self, number: u64) {
        self.fates.retain(|(of, _)| *of != number);
    }

    fn note(&mut self, number: u64, fate: Result<(), SwitchError>) {
        if self.fates.len() == FATES {
            self.fates.pop_front();
        }
        self.fates.push_back((number, fate));
    }

    /// The order to give now, by the first thread or the second.
    fn due(&mut self, lane: Lane) -> Option<Ask> {
        let hangs = self.calls.iter().any(|call| call.since.elapsed() >= HANGS);
        let free = match lane {
            Lane::First => self.calls.is_empty(),
            // One that hangs is not waited for by what takes traffic back.
            Lane::Second => hangs && self.calls.len() == 1,
        };
        if !free {
            return None;
        }
        let may = |ask: &Ask| lane == Lane::First || ask.kind.is_back();
        if let Some(next) = self.next.take_if(|next| may(next)) {
            return Some(next);
        }
        if let (Lane::First, Some(number)) = (lane, self.drill.take_if(|_| lane == Lane::First)) {
            return Some(Ask { number, order: Split::default(), kind: Kind::Drill });
        }
        let again = self.again_at.is_some_and(|at| now() >= at);
        let back = self.back.filter(|_| again)?;
        self.again_at = None;
        self.forget(back.number);
        Some(back)
    }
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Lane {
    First,
    Second,
}

fn give_orders(shared: &Shared, lane: Lane) {
    let mut state = shared.state.lock();
    loop {
        let Some(ask) = state.due(lane) else {
            let done = state.next.is_none() && state.back.is_none() && state.calls.is_empty();
            state.drill = state.drill.filter(|_| state.closing.is_none());
            let too_late = state.closing.is_some_and(|since| since.elapsed() >= PATIENCE);
            if state.closing.is_some() && (done || too_late) {
                return;
            }
            let waits = state.next.is_some() || state.back.is_some() || state.drill.is_some();
            if waits || state.closing.is_some() {
                let _ = shared.changed.wait_for(&mut state, TURN);
            } else {
                shared.changed.wait(&mut state);
            }
            continue;
        };
        if !shared.ownership.speaks_outside() {
            // A later owner tells the switch what is what.
            (state.back, state.again_at) = (None, None);
            state.note(ask.number, Err(SwitchError::Stopped));
            shared.changed.notify_all();
            continue;
        }
        if ask.kind == Kind::Raise && shared.ownership.is_stopped() {
            // A hand at the router came in between: the owner hears of it with its next look.
            state.note(ask.number, Err(SwitchError::Stopped));
            shared.changed.notify_all();
            continue;
        }
        state.calls.push(Call { ask, since: now(), overtaken: false });
        let fate = if ask.kind == Kind::Drill {
            let found = MutexGuard::unlocked(&mut state, || drill(&*shared.switch));
            state.drilled = Some((ask.number, found));
            Ok(())
        } else {
            MutexGuard::unlocked(&mut state, || call(&*shared.switch, ask))
        };
        let at = state.calls.iter().position(|call| call.ask.number == ask.number);
        let overtaken = at.is_some_and(|at| state.calls.swap_remove(at).overtaken);
        if ask.kind != Kind::Drill {
            state.failing = fate.as_ref().err().map(ToString::to_string);
        }
        match (&fate, state.back) {
            (Ok(()), Some(back)) if back.number == ask.number && !overtaken => {
                (state.back, state.again_at, state.refused) = (None, None, 0);
            }
            (Err(_), Some(back)) if back.number == ask.number => {
                state.refused += 1;
                let wait = FIRST_WAIT.saturating_mul(1 << state.refused.min(6)).min(LONGEST_WAIT);
                state.again_at = Some(now() + wait);
            }
            _ => {}
        }
        if overtaken && !ask.kind.is_back() {
            // It may have undone the way back, whose own call has returned perhaps.
            if let Some(back) = state.ordered_back {
                state.forget(back.number);
                (state.back, state.next) = (Some(back), state.next.take().or(Some(back)));
            }
        }
        state.note(ask.number, fate);
        shared.changed.notify_all();
    }
}

fn call(switch: &dyn TrafficSwitch, ask: Ask) -> Result<(), SwitchError> {
    let order = &ask.order;
    let unreachable = |reason: &str| SwitchError::Unreachable { reason: reason.to_owned() };
    let asked = catch_unwind(AssertUnwindSafe(|| match ask.kind {
        Kind::Raise if switch.in_force().is_none() => {
            Err(unreachable("it cannot tell what is in force"))
        }
        Kind::Raise | Kind::Keep | Kind::Back => switch.shift(order),
        Kind::TakeBack => switch.take_back(order),
        Kind::Settled => {
            switch.settled(order);
            Ok(())
        }
        Kind::Drill => Ok(()),
    }));
    asked.unwrap_or_else(|_| Err(unreachable("it panicked")))
}

fn drill(switch: &dyn TrafficSwitch) -> Result<Split, String> {
    let asked = catch_unwind(AssertUnwindSafe(|| {
        let Some(split) = switch.in_force() else {
            return Err("it cannot tell what is in force".to_owned());
        };
        switch.shift(&split).map(|()| split).map_err(|error| error.to_string())
    }));
    asked.unwrap_or_else(|_| Err("it panicked".to_owned()))
}

#[expect(clippy::disallowed_methods, reason = "how long a switch takes is about this machine")]
fn now() -> Instant {
    Instant::now()
}

/// Fates that are remembered.
const FATES: usize = 16;
/// A call that takes so long is not waited for any more.
const STUCK: Duration = Duration::from_millis(50);
const STUCK_PATIENCE: Duration = Duration::from_millis(1);
/// A call that takes so long is overtaken by what takes traffic back.
const HANGS: Duration = Duration::from_millis(200);
/// So long is worth a word.
const SLOW: Duration = Duration::from_secs(2);
const TURN: Duration = Duration::from_millis(10);
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// How long a way back is told to a switch that does not obey after its rollout was dropped.
const PATIENCE: Duration = Duration::from_secs(600);
