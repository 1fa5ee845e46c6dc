//! What people order, and what they are answered.
//!
//! An order takes effect on the caller's thread, before it is answered. What stops is never refused
//! for its label, for lack of room, or because something hangs: the candidate is off the split when
//! it returns, the books say so, and nothing that was decided before comes into force after it.
//! What gives the candidate more says which place of the rollout it is for, and is refused when the
//! rollout is somewhere else by now.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::alert::alert::Severity;
use crate::clock::Moment;
use crate::control::change::Taken;
use crate::control::journal_writer::Fate;
use crate::control::pilot::{PATIENCE, Pilot};
use crate::control::state::{PilotState, Wanted};
use crate::control::switch_worker::Kind;
use crate::ids::{Arm, Name, NameError};
use crate::machine::{At, Command, Effect, Input, Machine, News, Order, Refusal};
use crate::rollout::pipeline::{End, State};
use crate::route::owner::OwnedError;

/// An order that was not taken. Nothing was touched.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OrderError {
    /// Nobody is named who could have given it. An order that stops is taken all the same.
    #[error("who gives the order: {0}")]
    Who(#[from] NameError),
    /// The rollout is over.
    #[error("the rollout is over ({end}); start a new one")]
    Over {
        /// How it ended.
        end: &'static str,
    },
    /// The candidate is the baseline by now, and that cannot be taken back any more.
    #[error(
        "{candidate} was promoted, and the time in which that can be taken back is over; roll the \
         former model out like a new one"
    )]
    TooLate {
        /// What was promoted.
        candidate: Name,
    },
    /// It has no effect where the rollout stands, or was meant for where it stood before.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Another step was decided and is not in force yet.
    #[error("{what} was decided and is not in force yet; look again in a moment")]
    Busy {
        /// Which.
        what: String,
    },
    /// Somebody else moves the router's traffic by now.
    #[error(transparent)]
    Owned(#[from] OwnedError),
    /// The candidate's model is not in its place any more.
    #[error("the model of {candidate} is not loaded in this router any more; start a new rollout")]
    ModelGone {
        /// Whose.
        candidate: Name,
    },
    /// It would give the candidate more, and could not be written down before.
    #[error(
        "the order {order} could not be written down ({why}), so it was not taken; give it again when the journal can be written"
    )]
    Unwritten {
        /// Which.
        order: Order,
        /// Why not.
        why: String,
    },
    /// A stop came in between, and a stop wins.
    #[error("the rollout was stopped before the order {order} was in force")]
    Overtaken {
        /// Which.
        order: Order,
    },
}

/// What came of an order that was taken.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Receipt {
    /// What it did.
    pub did: Did,
    /// Whether it is written down.
    pub recorded: Recorded,
    /// What whoever gave it should know, such as that the model everybody is on now fails.
    pub warning: Option<String>,
}

/// What an order did.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Did {
    /// The candidate serves nobody, and the rollout is over.
    Stopped,
    /// The candidate had been promoted; the former baseline is the baseline again.
    TookPromotionBack,
    /// The rollout stays where it is.
    Paused,
    /// Nothing: the rollout was over, and the candidate serves nobody.
    AlreadyOver {
        /// How it had ended.
        end: End,
    },
    /// What was ordered is in force.
    Done,
    /// What was ordered comes into force as soon as what it waits for has answered.
    Pending {
        /// What it waits for.
        waits_for: &'static str,
    },
    /// Nothing more: the same order had been given for the same place.
    Same,
}

/// Whether an order is written down, so that a restart knows of it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Recorded {
    /// The rollout keeps no journal; a restart knows nothing of it.
    NoJournal,
    /// It is in the journal, or in the journal's reserve.
    Written,
    /// The journal has not answered yet. The order is in force, and is written as soon as it can
    /// be; a process that dies before that may forget it.
    Pending,
    /// The journal cannot be written. The order is in force, and a restart may forget it.
    Failed {
        /// Why not.
        why: String,
    },
}

impl Pilot {
    /// Takes everything back to the baseline at once, and ends the rollout. A candidate that was
    /// promoted a while ago is taken back too, as long as the plan's rollback window lasts.
    ///
    /// Calls that begin after this returns are on the baseline, and nothing that was decided before
    /// comes into force any more: not here, not at a switch outside, not after a restart that knows
    /// the journal. It needs no tick and no dependency, and may be repeated. `who` and `why` are
    /// kept as they are given, shortened and escaped where they must be.
    ///
    /// # Errors
    ///
    /// [`OrderError::TooLate`] when a promotion cannot be taken back any more.
    pub fn abort(&self, who: &str, why: &str) -> Result<Receipt, OrderError> {
        self.stop(Order::Abort, who, why)
    }

    /// As [`Pilot::abort`], and marks the rollout as killed: no retry leads out of that.
    ///
    /// # Errors
    ///
    /// As [`Pilot::abort`].
    pub fn kill(&self, who: &str, why: &str) -> Result<Receipt, OrderError> {
        self.stop(Order::Kill, who, why)
    }

    /// Keeps the rollout at its stage until it is resumed. Guardrails stay armed. From when this
    /// returns the candidate gets no more than it has.
    ///
    /// # Errors
    ///
    /// [`OrderError::Over`] when it is over.
    pub fn pause(&self, who: &str, why: &str) -> Result<Receipt, OrderError> {
        self.stop(Order::Pause, who, why)
    }

    /// Gives an order for the place where the rollout was at the last look. Whoever shows people a
    /// status and takes an order for what they saw should use [`Pilot::order_at`]: this one cannot
    /// know what they saw.
    ///
    /// An order that gives the candidate more waits up to a second for the journal and a switch
    /// outside, and is [pending](Did::Pending) then. After a rollback or refusal a retry is taken
    /// too; a driver that is still held ticks again.
    ///
    /// # Errors
    ///
    /// [`OrderError`]; nothing was touched.
    pub fn order(&self, order: Order, who: &str, why: &str) -> Result<Receipt, OrderError> {
        if order.stops() { self.stop(order, who, why) } else { self.forward(None, order, who, why) }
    }

    /// Gives an order for this place of the rollout ([`Pilot::at`], or `at` of a
    /// [`Status`](crate::control::status::Status)). It is refused when the rollout is somewhere else
    /// by now; given twice for one place it counts once. Orders that stop are bound to no place.
    ///
    /// # Errors
    ///
    /// [`OrderError`]; nothing was touched.
    pub fn order_at(
        &self,
        at: &At,
        order: Order,
        who: &str,
        why: &str,
    ) -> Result<Receipt, OrderError> {
        if order.stops() {
            self.stop(order, who, why)
        } else {
            self.forward(Some(at), order, who, why)
        }
    }

    /// Where the rollout is, to give an order for it.
    #[must_use]
    pub fn at(&self) -> At {
        self.shared.state.lock().rollout.at()
    }

    fn stop(&self, order: Order, who: &str, why: &str) -> Result<Receipt, OrderError> {
        let shared = &self.shared;
        // Users first, whoever holds which lock. Where the router is somebody else's by now this
        // touches nothing.
        if order != Order::Pause {
            let _ = shared.ownership.return_home();
        }
        let now = self.now();
        let command = Command { order, who: label(who), why: words(why), at: None };
        let (taken, did) = {
            let mut state = shared.state.lock();
            let did = match state.rollout.state() {
                State::Waiting(_) | State::Running(_) if order == Order::Pause => Did::Paused,
                State::Waiting(_) | State::Running(_) => Did::Stopped,
                State::Ended(ended) if order == Order::Pause => {
                    return Err(OrderError::Over { end: ended.end.word() });
                }
                State::Ended(ended) if ended.way_back_until().is_some() => Did::TookPromotionBack,
                State::Ended(ended) if ended.end == End::Promoted => {
                    let candidate = state.rollout.candidate().clone();
                    return Err(OrderError::TooLate { candidate });
                }
                State::Ended(ended) => Did::AlreadyOver { end: ended.end },
            };
            // What was rolled back keeps who else wanted it to stop; the rest has nothing to add.
            let killed = matches!(did, Did::AlreadyOver { end: End::Killed });
            let aborted = matches!(did, Did::AlreadyOver { end: End::Aborted });
            let over = matches!(did, Did::AlreadyOver { .. });
            if killed || aborted && order == Order::Abort || over && state.superseded {
                return Ok(Receipt { did, recorded: self.is_recorded(), warning: None });
            }
            let taken = self.command(&mut state, now, command);
            state.known_revision = state.rollout.revision();
            (taken, did)
        };
        let warning = if did == Did::Paused { None } else { self.warn_of_baseline(now) };
        self.carry_out(now, taken.effects);
        if let Some(outside) = &shared.outside {
            outside.let_settle(self.patience(SWITCH_PATIENCE));
        }
        self.let_go_when_over();
        let recorded = self.recorded(taken.journal, self.patience(STOP_PATIENCE));
        if recorded != Recorded::Written && recorded != Recorded::NoJournal {
            self.tell_of_journal(now);
        }
        shared.driver.wake();
        Ok(Receipt { did, recorded, warning })
    }

    /// Tells the machine of an order. A pause keeps back what is on its way up.
    fn command(&self, state: &mut PilotState, now: Moment, command: Command) -> Taken {
        let pauses = command.order == Order::Pause;
        let forward = !command.order.stops();
        let before = state.rollout.clone();
        let mut after = before.clone();
        let input = Input::Command(command);
        let effects = after.handle(now, &input);
        let taken = self.take(state, now, input, before, after, effects, forward);
        if let (true, Some(change)) = (pauses, &mut state.change) {
            if change.asked.take().is_some() || change.obeyed {
                change.obeyed = false;
                if let Some(outside) = &self.shared.outside {
                    outside.ask(self.shared.plane.split(), Kind::Back);
                }
            }
        }
        taken
    }

    fn forward(
        &self,
        at: Option<&At>,
        order: Order,
        who: &str,
        why: &str,
    ) -> Result<Receipt, OrderError> {
        let who = Name::new(who)?;
        let now = self.now();
        if order == Order::Retry {
            self.take_up_again()?;
        }
        let promotes = matches!(order, Order::PromoteStage | Order::PromoteFully);
        let result = {
            let mut state = self.shared.state.lock();
            self.may_order(&state, order)?;
            if let Some(change) = &state.change {
                if change.proposal.is_some() || promotes || order == Order::Retry {
                    let what = match change.to {
                        Wanted::Share(share) => format!("a step to {share}"),
                        Wanted::Promotion => "the promotion".to_owned(),
                    };
                    return Err(OrderError::Busy { what });
                }
            }
            let known = state.known_revision;
            let at = at.cloned().unwrap_or_else(|| {
                let here = state.rollout.at();
                if here.revision == known {
                    here
                } else {
                    At { stage: "an earlier place".to_owned(), revision: known }
                }
            });
            let command = Command { order, who, why: words(why), at: Some(at) };
            let taken = self.command(&mut state, now, command);
            if !promotes {
                state.known_revision = state.rollout.revision();
            }
            taken
        };
        let Taken { effects, journal, proposed } = result;
        let refused = effects.iter().find_map(|effect| match effect {
            Effect::Refused(refused) => Some(refused.because.clone()),
            _ => None,
        });
        let same = proposed.is_none() && effects.iter().all(|one| matches!(one, Effect::WakeAt(_)));
        self.carry_out(now, effects);
        if let Some(because) = refused {
            self.let_go_when_over();
            return Err(because.into());
        }
        let did = if same {
            Did::Same
        } else if let Some(proposed) = proposed {
            self.advance(self.patience(ORDER_PATIENCE));
            self.what_became(order, proposed, journal)?
        } else {
            self.advance(self.patience(ORDER_PATIENCE));
            Did::Done
        };
        self.let_go_when_over();
        let recorded = self.recorded(journal, self.patience(ORDER_PATIENCE));
        if let Some(journal) = &self.shared.journal {
            journal.wait_for_all(self.patience(PATIENCE));
        }
        self.shared.driver.revive(self);
        Ok(Receipt { did, recorded, warning: None })
    }

    fn may_order(&self, state: &PilotState, order: Order) -> Result<(), OrderError> {
        if state.fenced {
            let why = "another process has taken the journal over; order it there".to_owned();
            return Err(OrderError::Unwritten { order, why });
        }
        match state.rollout.state() {
            State::Ended(ended) => {
                let failed = matches!(ended.end, End::RolledBack | End::Refused);
                let may = match order {
                    Order::Retry => failed,
                    Order::Finish => ended.way_back_until().is_some(),
                    _ => false,
                };
                if may { Ok(()) } else { Err(OrderError::Over { end: ended.end.word() }) }
            }
            State::Waiting(_) | State::Running(_) if self.shared.ownership.holds() => Ok(()),
            State::Waiting(_) | State::Running(_) => {
                Err(OrderError::Over { end: "left; resume it from its journal" })
            }
        }
    }

    /// What became of a step that was ordered.
    fn what_became(
        &self,
        order: Order,
        proposed: u64,
        journal: Option<u64>,
    ) -> Result<Did, OrderError> {
        let fate = journal.zip(self.shared.journal.as_ref());
        let fate = fate.map(|(job, journal)| journal.fate(job));
        let state = self.shared.state.lock();
        match &state.change {
            Some(change) if change.journal.is_some() => {
                Ok(Did::Pending { waits_for: "the journal" })
            }
            Some(change) if change.proposal.is_some() => {
                Ok(Did::Pending { waits_for: "the switch" })
            }
            _ if state.in_force == proposed => Ok(Did::Done),
            _ => match fate {
                Some(Fate::Failed(why)) => Err(OrderError::Unwritten { order, why }),
                _ => Err(OrderError::Overtaken { order }),
            },
        }
    }

    /// The right to move the router's traffic once more, for a try that follows a rollback.
    fn take_up_again(&self) -> Result<(), OrderError> {
        let shared = &self.shared;
        let (candidate, place) = {
            let state = shared.state.lock();
            self.may_order(&state, Order::Retry)?;
            (state.rollout.candidate().clone(), state.rollout.at().stage)
        };
        shared.ownership.reclaim(&format!("rollout of {candidate}"), &place)?;
        let weak = Arc::downgrade(shared);
        shared.ownership.gives_way(weak);
        if shared.plane.candidate().as_ref() != Some(&candidate) {
            shared.ownership.release();
            return Err(OrderError::ModelGone { candidate });
        }
        shared.ownership.clear_stop();
        shared.looked.renew();
        Ok(())
    }

    /// Ends what it does, since another takes the router over.
    pub(super) fn make_room(&self, to: &str) {
        let now = self.now();
        let promoted = matches!(self.shared.state.lock().rollout.state(), State::Ended(_));
        if promoted {
            let why = "another takes the router over".to_owned();
            let command = Command { order: Order::Finish, who: label(to), why, at: None };
            let taken = {
                let mut state = self.shared.state.lock();
                if !state.rollout.is_live() {
                    None
                } else {
                    Some(self.command(&mut state, now, command))
                }
            };
            if let Some(taken) = taken {
                self.carry_out(now, taken.effects);
            }
        } else {
            let _ = self.stop(Order::Abort, to, "another takes the router over");
        }
        self.shared.ownership.release();
    }

    /// What whoever takes everything back to the baseline should know of it.
    fn warn_of_baseline(&self, now: Moment) -> Option<String> {
        let (failed, judged, name) = {
            let state = self.shared.state.lock();
            // After a promotion was taken back nothing recent is known of the former baseline.
            let counts = state.last.arm(Arm::BASELINE)?;
            (counts.failures(), counts.judged(), self.shared.plane.baseline())
        };
        if judged < FEWEST_CALLS || failed * 2 < judged {
            return None;
        }
        let summary = format!(
            "everybody was sent to {name}, which failed {failed} of its last {judged} calls: the \
             stop was obeyed, and users fail there too; fix or replace {name}"
        );
        let key = format!("{name}/failing");
        self.tell(
            now,
            News { once: true, ..News::lasting(key, Severity::Critical, summary.clone()) },
        );
        Some(summary)
    }

    fn is_recorded(&self) -> Recorded {
        match &self.shared.journal {
            None => Recorded::NoJournal,
            Some(journal) => match (journal.gap(), journal.waiting()) {
                (None, 0) => Recorded::Written,
                (None, _) => Recorded::Pending,
                (Some(why), _) => Recorded::Failed { why },
            },
        }
    }

    fn recorded(&self, job: Option<u64>, patience: Duration) -> Recorded {
        match (&self.shared.journal, job) {
            (Some(journal), Some(job)) => match journal.wait(job, patience) {
                Fate::Written => Recorded::Written,
                Fate::Waits => Recorded::Pending,
                Fate::Failed(why) => Recorded::Failed { why },
            },
            (Some(_), None) => self.is_recorded(),
            (None, _) => Recorded::NoJournal,
        }
    }
}

/// Who, as it can be kept in any case.
fn label(who: &str) -> Name {
    let shown: String = if who.is_empty() { "nobody named".to_owned() } else { escaped(who) };
    let mut end = shown.len().min(Name::MAX_LEN);
    while !shown.is_char_boundary(end) {
        end -= 1;
    }
    Name::new(&shown[..end]).unwrap_or_else(|_| Name::new("unreadable").expect("a plain word"))
}

/// Why, as it can be kept in any case.
fn words(why: &str) -> String {
    escaped(why).chars().take(MOST_REASON).collect()
}

/// Control characters, and those that turn the direction of writing, in a form that shows them.
fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if c.is_control() || turns {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// How long a stop waits to be written: not at all for its effect, which it has had by then.
const STOP_PATIENCE: Duration = Duration::from_millis(50);
/// How long a stop waits for a switch outside that answers at once.
pub(super) const SWITCH_PATIENCE: Duration = Duration::from_millis(20);
/// How long an order that gives the candidate more waits to come into force.
const ORDER_PATIENCE: Duration = Duration::from_secs(1);
/// The most characters of an operator's reason that are kept.
const MOST_REASON: usize = 1_000;
/// So many calls must be known of a baseline before it is called broken.
const FEWEST_CALLS: u64 = 20;
