//! Orders to stop that come by another way than the journal.
//!
//! A process that may not write in the journal, because another one holds it or took it over, may
//! still be told to stop, or may have taken its candidate back. It leaves that beside the journal,
//! and whoever holds the journal takes it as an order. What is left are frames of the journal, so
//! there is no second format: an [`Entry::Ordered`] for an order, an [`Entry::InForce`] with nobody on
//! the candidate for a step back, and an [`Entry::Noted`] behind it that says why.
//!
//! The same reading serves for what a process wrote in the journal too late: of anything, only what
//! takes exposure away counts. What cannot be read may have been a step back.

use crate::ids::Name;
use crate::machine::{Command, Effect, Order, Shadowing, Transition};
use crate::rollout::history_line::Line;
use crate::rollout::journal::{Entry, Numbered, Position, Snapshot, stops};
use crate::rollout::journal_error::JournalError;
use crate::rollout::journal_frame::frames_among;
use crate::rollout::pipeline::{End, MACHINE, State};
use crate::share::TrafficShare;

/// What stops a rollout, as another process left it.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Stops {
    /// Orders to kill, abort or pause.
    pub orders: Vec<Command>,
    /// Why a step back may have been taken besides; see
    /// [`Rollout::distrust`](crate::rollout::pipeline::Rollout::distrust).
    pub doubt: Option<String>,
}

impl Stops {
    /// What a rollout that stands there would have others know: its orders to stop that wait, its
    /// pause, and its end where that is no promotion.
    #[must_use]
    pub fn of(snapshot: &Snapshot) -> Self {
        let mut all = Self::default();
        snapshot.orders.iter().filter(|command| stops(command)).for_each(|one| all.order(one));
        // What the machine keeps of an order names who gave it.
        let as_ordered = |order, why: &str| {
            let who = Name::new(MACHINE).unwrap_or_else(|_| snapshot.about.router.clone());
            Command { order, who, why: format!("in another process: {why}"), at: None }
        };
        match snapshot.rollout.state() {
            State::Waiting(waiting) => {
                let paused = waiting.paused.iter().map(|why| as_ordered(Order::Pause, why));
                paused.for_each(|one| all.order(&one));
            }
            State::Running(running) => {
                let paused = running.paused.iter().map(|why| as_ordered(Order::Pause, why));
                paused.for_each(|one| all.order(&one));
            }
            State::Ended(ended) => match ended.end {
                End::Promoted => {}
                End::Killed => all.order(&as_ordered(Order::Kill, &ended.reason)),
                End::Aborted => all.order(&as_ordered(Order::Abort, &ended.reason)),
                End::RolledBack | End::Refused => all.doubt = Some(ended.reason.clone()),
            },
        }
        all
    }

    /// Whether there is nothing to say.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.orders.is_empty() && self.doubt.is_none()
    }

    /// The bytes to leave beside a journal, for a rollout that stands at `snapshot`. The number of
    /// the position says nothing there; the generation says which rollout is meant.
    ///
    /// # Errors
    ///
    /// As [`Entry::encode`].
    pub fn encode(&self, snapshot: &Snapshot, position: Position) -> Result<Vec<u8>, JournalError> {
        let at = snapshot.at;
        let mut bytes = Vec::new();
        for command in &self.orders {
            bytes.extend(Entry::Ordered { at, command: command.clone() }.encode(position)?);
        }
        if let Some(why) = &self.doubt {
            let split = snapshot.split.rolled_back();
            bytes.extend(Entry::InForce { at, split, promoted: false }.encode(position)?);
            let (from, to) = (String::new(), String::new());
            let transition = Transition { at, from, to, who: MACHINE.to_owned(), why: why.clone() };
            let line = Box::new(Line::note(transition, snapshot.date, TrafficShare::NONE));
            bytes.extend(Entry::Noted { at, line }.encode(position)?);
        }
        Ok(bytes)
    }

    /// What `notes` say of the rollout that began in generation `begun`. What an earlier rollout
    /// left in the same place says nothing.
    #[must_use]
    pub fn read(notes: &[Vec<u8>], begun: u64) -> Self {
        let mut all = Self::default();
        for note in notes {
            let (frames, rest) = frames_among(note);
            let mut unreadable = rest;
            let mut back = None;
            for frame in frames.iter().filter(|frame| frame.position.generation >= begun) {
                match Numbered::of(frame) {
                    Ok(Numbered { entry: Entry::Noted { line, .. }, .. }) if back.is_some() => {
                        back = Some(line.transition.why);
                    }
                    Ok(one) => back = all.take(&one).or(back),
                    Err(_) => unreadable = true,
                }
            }
            if let Some(why) = back {
                all.doubt =
                    Some(format!("another process of this rollout took a step back: {why}"));
            } else if unreadable {
                all.doubt.get_or_insert_with(|| {
                    "what another process left beside the journal cannot be read, and it may have been a step back".to_owned()
                });
            }
        }
        all
    }

    /// What entries that do not count say all the same.
    #[must_use]
    pub fn among(intruded: &[Numbered], begun: u64) -> Self {
        let mut all = Self::default();
        for one in intruded.iter().filter(|one| one.generation >= begun) {
            if let Some(why) = all.take(one) {
                all.doubt =
                    Some(format!("another process of this rollout took a step back: {why}"));
            }
        }
        all
    }

    /// Counts an entry; says why where it is a step back.
    fn take(&mut self, one: &Numbered) -> Option<String> {
        if let Some(command) = one.entry.stop() {
            self.order(command);
            return None;
        }
        let told = |why: &str| Some(format!("{why} (its entry {})", one.revision));
        match &one.entry {
            Entry::Snapshot(snapshot) => {
                let theirs = Self::of(snapshot);
                theirs.orders.iter().for_each(|command| self.order(command));
                theirs.doubt
            }
            // A shadow stage begins at nobody too, with its copies on.
            Entry::Handled { effects, .. }
                if effects.contains(&Effect::Shift(TrafficShare::NONE))
                    && effects.contains(&Effect::Shadow(Shadowing::Off)) =>
            {
                told("it gave all traffic back")
            }
            Entry::InForce { split, promoted: false, .. }
                if split.candidate == TrafficShare::NONE =>
            {
                told("nobody was on the candidate")
            }
            Entry::Handled { .. }
            | Entry::InForce { .. }
            | Entry::Ordered { .. }
            | Entry::Noted { .. } => None,
        }
    }

    fn order(&mut self, command: &Command) {
        if !self.orders.contains(command) {
            self.orders.push(command.clone());
        }
    }
}
