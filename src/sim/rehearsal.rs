//! One rollout in one world, by a clock that takes no time.
//!
//! The machine is the one that runs in production, told by batches as a pilot tells it. Only the
//! looks differ: a pilot looks every second or so, a rehearsal often where something has just
//! changed and seldom where nothing has for hours ([`Looks`]). Evidence adds up to the same however
//! it is cut, so what is missed are moments between two looks at which a verdict would have fallen
//! and later evidence takes it back: few, since looks follow each other in steps of a sixteenth of
//! the time past.

use std::time::Duration;

use crate::clock::Moment;
use crate::ids::Epoch;
use crate::ids::Name;
use crate::machine::{Effect, Input, Machine, Seen, Shadowing, Transition};
use crate::observe::shadow::ShadowCounts;
use crate::observe::snapshot::Delta;
use crate::rollout::pipeline::{End, Rollout, State};
use crate::rollout::plan::Plan;
use crate::rollout::trial::TrialError;
use crate::share::TrafficShare;
use crate::sim::attendant::{attend, first_date};
use crate::sim::fault::Fault;
use crate::sim::world::{Climate, ClimateError, Toll, World};

/// How often a rehearsal looks.
///
/// After a stage begins, or a fault begins, turns or ends, every `finest`; later whenever a
/// certain part of the time since then has passed, at most `coarsest`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Looks {
    /// The shortest time between two looks.
    pub finest: Duration,
    /// The longest.
    pub coarsest: Duration,
    /// Which part of the time since the last change passes between two looks: 16 for a sixteenth.
    pub part: u32,
}

impl Default for Looks {
    /// Every 10 seconds to every 10 minutes, a sixteenth of the time passed.
    fn default() -> Self {
        Self { finest: Duration::from_secs(10), coarsest: Duration::from_secs(600), part: 16 }
    }
}

impl Looks {
    /// Always this long between two looks.
    #[must_use]
    pub const fn every(time: Duration) -> Self {
        Self { finest: time, coarsest: time, part: 16 }
    }

    /// How long to wait when the last change lies `since` back.
    fn after(self, since: Duration) -> Duration {
        let finest = self.finest.max(SHORTEST);
        (since / self.part.max(1)).clamp(finest, self.coarsest.max(finest))
    }
}

/// What a rehearsal cannot begin with.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RehearsalError {
    /// A stage that cannot be judged.
    #[error(transparent)]
    Plan(#[from] TrialError),
    /// A climate that cannot be.
    #[error(transparent)]
    Climate(#[from] ClimateError),
}

/// A rollout in a world.
///
/// A clone goes on from the same point by itself: rehearse the healthy part once, and branch off
/// once for each fault.
///
/// ```
/// use pilotage::rollout::pipeline::End;
/// use pilotage::rollout::plan::Plan;
/// use pilotage::sim::fault::{Fault, Kind};
/// use pilotage::sim::rehearsal::{Looks, Rehearsal};
/// use pilotage::sim::world::Climate;
/// use std::time::Duration;
///
/// let day = Duration::from_secs(86_400);
/// let begin = || Rehearsal::begin(Plan::quick(), Climate::new(200.0), 1, Looks::default());
/// let healthy = begin()?.run(day);
/// assert_eq!(healthy.end, Some(End::Promoted));
///
/// let mut begun = begin()?;
/// begun.run_until(Duration::from_secs(400));        // in the middle of the first canary
/// let fault = Fault::new(Kind::ErrorsTimes(50.0)).from(begun.at());
/// let broken = begun.with_fault(fault)?.run(day);
/// assert_eq!(broken.end, Some(End::RolledBack));
/// assert!(broken.toll.harm() < 100.0, "{broken:?}");
/// # Ok::<(), pilotage::sim::rehearsal::RehearsalError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Rehearsal {
    rollout: Rollout,
    world: World,
    looks: Looks,
    at: Duration,
    changed: Duration,
    share: TrafficShare,
    shadow: bool,
    told: Told,
}

/// What was heard of the machine.
#[derive(Clone, Debug, Default)]
struct Told {
    toll: Toll,
    log: Vec<Transition>,
    alerts: u64,
    everybody: Option<Duration>,
    looks: u64,
}

impl Rehearsal {
    /// A rollout by `plan` in the world of `climate` and `seed`.
    ///
    /// # Errors
    ///
    /// [`RehearsalError`] when a stage cannot be judged or there can be no such climate.
    #[expect(clippy::missing_panics_doc, reason = "never: the name is a name")]
    pub fn begin(
        plan: Plan,
        climate: Climate,
        seed: u64,
        looks: Looks,
    ) -> Result<Self, RehearsalError> {
        let world = World::new(climate, seed)?;
        let name = Name::new("candidate").expect("it is a name");
        let (rollout, effects) = Rollout::begin(name, plan, ORIGIN)?;
        let mut rehearsal = Self {
            rollout,
            world,
            looks,
            at: Duration::ZERO,
            changed: Duration::ZERO,
            share: TrafficShare::NONE,
            shadow: false,
            told: Told::default(),
        };
        rehearsal.carry_out(effects);
        rehearsal.attend(ORIGIN);
        Ok(rehearsal)
    }

    /// The same from now on, with one more fault.
    ///
    /// # Errors
    ///
    /// [`RehearsalError::Climate`] when the fault cannot happen.
    pub fn with_fault(mut self, fault: Fault) -> Result<Self, RehearsalError> {
        self.world = self.world.with_fault(fault)?;
        self.changed = self.at;
        Ok(self)
    }

    /// Time since the rollout began.
    #[must_use]
    pub const fn at(&self) -> Duration {
        self.at
    }

    /// The machine.
    #[must_use]
    pub const fn rollout(&self) -> &Rollout {
        &self.rollout
    }

    /// What users met so far.
    #[must_use]
    pub const fn toll(&self) -> &Toll {
        &self.told.toll
    }

    /// Whether it stays where it is for a reason people were told of.
    #[must_use]
    pub const fn is_holding(&self) -> bool {
        self.rollout.hold().is_some()
    }

    /// Whether the rollout has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.rollout.state(), State::Ended(_))
    }

    /// Goes on to the next look. Returns whether there is more to come.
    pub fn step(&mut self) -> bool {
        self.step_to(Duration::MAX)
    }

    fn step_to(&mut self, until: Duration) -> bool {
        if self.is_over() {
            return false;
        }
        let span = self.span().min(until.saturating_sub(self.at));
        let climate = self.world.climate();
        let (from, away) = (self.at, climate.is_away(self.at));
        self.at = self.at.saturating_add(span);
        if climate.next_edge(from) == Some(self.at) {
            self.changed = self.at;
        }
        if away {
            return true;
        }
        let now = self.clock();
        let (mut seen, toll) = self.world.batch(from, span, now, self.share, self.shadow);
        if self.world.climate().is_away(self.at) {
            // The process dies before it could look.
            self.told.toll.add(&toll);
            return true;
        }
        // A machine counts a silence of more than a minute as a minute: it is told the time by
        // empty batches, as a pilot does when nothing comes.
        let pieces = u32::try_from(span.as_nanos().div_ceil(MINUTE.as_nanos())).unwrap_or(1).max(1);
        let piece = span / pieces;
        for number in (1..pieces).rev() {
            let empty = self.empty(piece);
            let then = Moment::from_nanos(now.as_nanos().saturating_sub(nanos(piece * number)));
            self.rollout.take_in(then, &empty);
        }
        seen.live.lasted = piece;
        self.told.toll.add(&toll);
        self.told.looks += 1;
        let effects = self.rollout.handle(now, &Input::Seen(Box::new(seen)));
        self.carry_out(effects);
        self.attend(now);
        !self.is_over()
    }

    /// Gives what the plan asks of people.
    fn attend(&mut self, now: Moment) {
        let date = first_date(&self.rollout).after(self.at);
        for input in attend(&self.rollout, now, date) {
            let effects = self.rollout.handle(now, &input);
            self.carry_out(effects);
        }
    }

    /// Goes on until the rollout is over or exactly `until`.
    pub fn run_until(&mut self, until: Duration) {
        while self.at < until && self.step_to(until) {}
    }

    /// Goes on until the rollout is over or `until` is reached, and tells how it went.
    #[must_use]
    pub fn run(mut self, until: Duration) -> Course {
        self.run_until(until);
        self.course()
    }

    /// How it went so far.
    #[must_use]
    pub fn course(&self) -> Course {
        let (end, stage, reason) = if let State::Ended(ended) = self.rollout.state() {
            (Some(ended.end), ended.stage.clone(), ended.reason.clone())
        } else {
            let stage = self.rollout.stage().map_or(String::new(), |s| s.name.to_string());
            let why = self.rollout.conclusion().map_or(String::new(), |own| own.why);
            (None, stage, why)
        };
        Course {
            end,
            stage,
            reason,
            at: self.at,
            everybody: self.told.everybody,
            holding: self.rollout.hold().map(|hold| hold.why.clone()),
            toll: self.told.toll,
            log: self.told.log.clone(),
            alerts: self.told.alerts,
            looks: self.told.looks,
        }
    }

    /// How long to the next look.
    fn span(&self) -> Duration {
        let mut span = self.looks.after(self.at.saturating_sub(self.changed));
        if let (State::Running(running), Some(stage)) = (self.rollout.state(), self.rollout.stage())
        {
            let left = stage.at_least.saturating_sub(running.observed);
            if !left.is_zero() {
                span = span.min(left.max(SHORTEST));
            }
        }
        match self.world.climate().next_edge(self.at) {
            Some(edge) => span.min(edge - self.at),
            None => span,
        }
    }

    fn clock(&self) -> Moment {
        let error = self.world.climate().clock_error(self.at);
        let right = ORIGIN.after(self.at).as_nanos();
        let off = (error.abs() * 1e9) as u64;
        let told = if error < 0.0 { right.saturating_sub(off) } else { right.saturating_add(off) };
        Moment::from_nanos(told)
    }

    fn empty(&self, lasted: Duration) -> Seen {
        let mut live = Delta::new(Moment::ZERO, lasted, Epoch::default(), Vec::new());
        live.to = self.clock();
        let seen = Seen::live(self.share, live);
        if self.shadow { seen.with_shadow(ShadowCounts::default()) } else { seen }
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Shift(share) => {
                    self.share = share;
                    self.changed = self.at;
                    if share == TrafficShare::ALL {
                        self.told.everybody = self.told.everybody.or(Some(self.at));
                    }
                }
                Effect::Promote => {
                    self.told.everybody = self.told.everybody.or(Some(self.at));
                }
                // A rehearsal ends with the promotion.
                Effect::Restore => self.share = TrafficShare::NONE,
                Effect::Shadow(shadowing) => self.shadow = shadowing == Shadowing::On,
                Effect::Alert(_) => self.told.alerts += 1,
                Effect::Record(transition) => {
                    if self.told.log.len() < MOST_TRANSITIONS {
                        self.told.log.push(transition);
                    }
                }
                // Nobody gives orders here, and a rehearsal looks by its own measure.
                Effect::Refused(_) | Effect::WakeAt(_) => {}
            }
        }
    }
}

/// How a rollout went.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Course {
    /// How it ended; `None` when it was still under way.
    pub end: Option<End>,
    /// The stage it was in.
    pub stage: String,
    /// Why it ended, or what it waited for.
    pub reason: String,
    /// When it ended, or how long it was followed.
    pub at: Duration,
    /// When the candidate began to serve everybody, if it did.
    pub everybody: Option<Duration>,
    /// Why it stays where it is, when it does and people were told.
    pub holding: Option<String>,
    /// What users met.
    pub toll: Toll,
    /// Every step with its reason.
    pub log: Vec<Transition>,
    /// Alerts, those that say an incident is over included.
    pub alerts: u64,
    /// How often the machine looked.
    pub looks: u64,
}

impl Course {
    /// Whether the candidate was taken back or turned away by the machine.
    #[must_use]
    pub const fn is_stopped(&self) -> bool {
        matches!(self.end, Some(End::RolledBack | End::Refused))
    }

    /// Whether it was promoted.
    #[must_use]
    pub const fn is_promoted(&self) -> bool {
        matches!(self.end, Some(End::Promoted))
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A clock that can jump back thirty years and forward thirty more.
const ORIGIN: Moment = Moment::from_secs(2_000_000_000);
const MINUTE: Duration = Duration::from_secs(60);
const SHORTEST: Duration = Duration::from_millis(10);
/// A plan has 64 stages at the most; operators do not meddle with a rehearsal.
const MOST_TRANSITIONS: usize = 256;
