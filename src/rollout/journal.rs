//! What happened to a rollout, written down so that it can come back, be replayed and be explained.
//!
//! A journal is a row of entries. The first is a [`Snapshot`]; after it comes everything the
//! machine was told, with what it answered ([`Entry::Handled`]), the orders as they were taken
//! ([`Entry::Ordered`]), what was brought into force ([`Entry::InForce`]), and further snapshots.
//! Since the machine is told everything, the last snapshot and what follows it *are* the state,
//! bit for bit; and since its answers stand beside its inputs, the same entries prove it
//! ([`replay`](crate::rollout::replay)).
//!
//! This file knows bytes and no files: [`Entry::encode`] makes the bytes to append,
//! [`Journal::read`] reads all of them. `control` keeps them.
//!
//! # What is promised
//!
//! - A rollout comes back at the stage it was in, or an earlier one; never a later one.
//! - An order that was taken is never forgotten, an abort or a kill least of all: it is written
//!   before whoever gave it is answered, and one that was not handled before a crash is handled
//!   first afterwards.
//! - A torn end is left out and said. Anything else that is wrong is an error that says what, and
//!   nothing is done.
//! - Bytes are as many as the evidence: a snapshot is some tens of kilobytes, a look some hundreds
//!   of bytes to a few kilobytes. Whoever keeps the bytes begins anew with a snapshot when they
//!   are many.

use serde::{Deserialize, Serialize};

use crate::clock::Moment;
use crate::date::Date;
use crate::ids::{Epoch, Name};
use crate::machine::{Command, Effect, Input, Machine};
use crate::rollout::history_line::{HISTORY, Line};
use crate::rollout::journal_cbor::{from_bytes, to_bytes};
pub use crate::rollout::journal_error::{Divergence, JournalError};
use crate::rollout::journal_frame;
pub use crate::rollout::journal_frame::{Torn, VERSION};
use crate::rollout::pipeline::Rollout;
use crate::route::bucket::Scheme;
use crate::route::switch::Split;

/// Whose rollout a journal is about.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// The router's name.
    pub router: Name,
    /// The model that was the baseline when the rollout began.
    pub baseline: Name,
    /// The model that is to be proved.
    pub candidate: Name,
    /// How subjects are assigned. A journal is not resumed under another: every subject would
    /// move.
    pub scheme: Scheme,
}

/// Where a rollout stands, and all that is needed to go on from there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Snapshot {
    /// Whose rollout.
    pub about: About,
    /// The machine.
    pub rollout: Rollout,
    /// The rollout's time.
    pub at: Moment,
    /// What a wall clock read then.
    pub date: Option<Date>,
    /// What was in force.
    pub split: Split,
    /// Whether the candidate was made the baseline, in the switch and not only in the books.
    pub promoted: bool,
    /// Orders that were taken and not handled yet.
    pub orders: Vec<Command>,
    /// What happened before, as people read it.
    pub history: Vec<Line>,
}

impl Snapshot {
    /// A rollout that begins.
    #[must_use]
    pub fn new(about: About, rollout: Rollout, at: Moment, split: Split) -> Self {
        let (orders, history) = (Vec::new(), Vec::new());
        Self { about, rollout, at, date: None, split, promoted: false, orders, history }
    }
}

/// One thing that is written down.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Entry {
    /// Where the rollout stands. The first entry of every journal.
    Snapshot(Box<Snapshot>),
    /// The machine was told this and answered that.
    Handled {
        /// When.
        at: Moment,
        /// What it was told.
        input: Box<Input>,
        /// What it answered.
        effects: Vec<Effect>,
    },
    /// An order was taken.
    Ordered {
        /// When.
        at: Moment,
        /// Which.
        command: Command,
    },
    /// A switch obeyed.
    InForce {
        /// When.
        at: Moment,
        /// What is in force.
        split: Split,
        /// Whether the candidate has become the baseline by it.
        promoted: bool,
    },
    /// Something for the history, which is not the machine's.
    Noted {
        /// When.
        at: Moment,
        /// What.
        line: Box<Line>,
    },
}

impl Entry {
    /// The bytes to append as entry number `revision`, while `epoch` is in force.
    ///
    /// # Errors
    ///
    /// [`JournalError::Unwritable`] or [`JournalError::TooLong`].
    pub fn encode(&self, revision: u64, epoch: Epoch) -> Result<Vec<u8>, JournalError> {
        let payload =
            to_bytes(self).map_err(|error| JournalError::Unwritable { what: error.to_string() })?;
        journal_frame::encode(revision, epoch, &payload)
    }

    /// When.
    #[must_use]
    pub fn at(&self) -> Moment {
        match self {
            Self::Snapshot(snapshot) => snapshot.at,
            Self::Handled { at, .. }
            | Self::Ordered { at, .. }
            | Self::InForce { at, .. }
            | Self::Noted { at, .. } => *at,
        }
    }
}

/// An entry with its number and the epoch under which it was written.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Numbered {
    /// Its number.
    pub revision: u64,
    /// The epoch in force when it was written.
    pub epoch: Epoch,
    /// What it says.
    pub entry: Entry,
}

/// All entries of a journal.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Journal {
    /// Oldest first; the first is a snapshot.
    pub entries: Vec<Numbered>,
    /// What a crash tore off its end.
    pub torn: Option<Torn>,
}

/// A rollout as a journal leaves it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Recovered {
    /// Whose rollout.
    pub about: About,
    /// The machine, as it stood after the last entry.
    pub rollout: Rollout,
    /// The rollout's time then.
    pub at: Moment,
    /// The last date known, and the rollout's time when it was read.
    pub date: Option<(Moment, Date)>,
    /// What was in force last.
    pub split: Split,
    /// Whether the candidate was made the baseline, in the switch and not only in the books.
    pub promoted: bool,
    /// Orders that were taken and not handled.
    pub orders: Vec<Command>,
    /// What happened, as people read it.
    pub history: Vec<Line>,
    /// The number of the last entry.
    pub revision: u64,
    /// What a crash tore off the end.
    pub torn: Option<Torn>,
}

impl Journal {
    /// Reads all entries.
    ///
    /// # Errors
    ///
    /// [`JournalError`] when the bytes are no journal, are damaged, or are of a newer release. A
    /// torn end is no error.
    pub fn read(bytes: &[u8]) -> Result<Self, JournalError> {
        let (frames, torn) = journal_frame::decode(bytes)?;
        let mut entries = Vec::with_capacity(frames.len());
        for frame in frames {
            let entry = from_bytes(frame.payload).map_err(|error| JournalError::Unreadable {
                revision: frame.revision,
                what: error.to_string(),
            })?;
            entries.push(Numbered { revision: frame.revision, epoch: frame.epoch, entry });
        }
        match entries.first() {
            Some(Numbered { entry: Entry::Snapshot(_), .. }) => Ok(Self { entries, torn }),
            _ => Err(JournalError::NoBeginning),
        }
    }

    /// The rollout as the entries leave it: the last snapshot, and what came after it, handled
    /// again.
    ///
    /// # Errors
    ///
    /// [`JournalError::Diverged`] when this release does not answer as the one did that wrote the
    /// journal, [`JournalError::NoBeginning`] without a snapshot.
    pub fn recover(&self) -> Result<Recovered, JournalError> {
        let last = self.entries.iter().rposition(|one| matches!(one.entry, Entry::Snapshot(_)));
        let from = &self.entries[last.unwrap_or(0)..];
        let Some(Numbered { entry: Entry::Snapshot(snapshot), .. }) = from.first() else {
            return Err(JournalError::NoBeginning);
        };
        let mut all = Recovered {
            about: snapshot.about.clone(),
            rollout: snapshot.rollout.clone(),
            at: snapshot.at,
            date: snapshot.date.map(|date| (snapshot.at, date)),
            split: snapshot.split,
            promoted: snapshot.promoted,
            orders: snapshot.orders.clone(),
            history: snapshot.history.clone(),
            revision: self.entries.last().map_or(0, |last| last.revision),
            torn: self.torn,
        };
        for one in &from[1..] {
            all.take(one)?;
        }
        Ok(all)
    }
}

impl Recovered {
    /// The epoch a router must begin with after the restart, so that tickets of before are known
    /// and none is taken for one of a split to come.
    ///
    /// It leaves room for splits that were in force and not written down any more, such as the
    /// rollback in whose midst a process died.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        Epoch::new(self.split.epoch.number().wrapping_add(UNWRITTEN_EPOCHS))
    }

    /// What `date` says of how long the process was gone; zero where nothing is known.
    #[must_use]
    pub fn gone(&self, date: Option<Date>) -> std::time::Duration {
        match (self.date, date) {
            (Some((at, then)), Some(now)) => now.since(then).saturating_sub(self.at.since(at)),
            _ => std::time::Duration::ZERO,
        }
    }

    fn take(&mut self, one: &Numbered) -> Result<(), JournalError> {
        self.at = self.at.max(one.entry.at());
        if one.epoch != self.split.epoch {
            self.split.epoch = one.epoch;
        }
        match &one.entry {
            // `recover` begins at the last one.
            Entry::Snapshot(_) => {}
            Entry::Handled { at, input, effects } => {
                let before = self.rollout.clone();
                let found = self.rollout.handle(*at, input);
                same_effects(one.revision, *at, effects, &found)?;
                match &**input {
                    Input::Command(command) => {
                        if let Some(at) = self.orders.iter().position(|order| order == command) {
                            self.orders.remove(at);
                        }
                    }
                    Input::Wall(date) => self.date = Some((*at, *date)),
                    _ => {}
                }
                let date = self.date_at(*at);
                let lines = Line::of(&before, &self.rollout, effects, date);
                lines.into_iter().for_each(|line| self.note(line));
            }
            Entry::Ordered { command, .. } => self.orders.push(command.clone()),
            Entry::InForce { split, promoted, .. } => {
                self.split = *split;
                self.promoted |= promoted;
            }
            Entry::Noted { line, .. } => self.note((**line).clone()),
        }
        Ok(())
    }

    fn date_at(&self, at: Moment) -> Option<Date> {
        self.date.map(|(known, date)| date.after(at.since(known)))
    }

    fn note(&mut self, line: Line) {
        if self.history.len() >= HISTORY {
            self.history.remove(0);
        }
        self.history.push(line);
    }
}

impl Rollout {
    /// The rollout that a journal's bytes hold, as it stood after the last whole entry.
    ///
    /// # Errors
    ///
    /// [`JournalError`]; whatever is in force stays in force.
    pub fn resume(journal: &[u8]) -> Result<Recovered, JournalError> {
        Journal::read(journal)?.recover()
    }
}

/// How many splits may have been in force without being written down.
const UNWRITTEN_EPOCHS: u16 = 64;

/// Whether what was answered then and now is the same, bit for bit.
pub(super) fn same_effects(
    revision: u64,
    at: Moment,
    then: &[Effect],
    now: &[Effect],
) -> Result<(), JournalError> {
    if to_bytes(then).ok() == to_bytes(now).ok() {
        return Ok(());
    }
    // What both begin with says nothing.
    let same = then.iter().zip(now).take_while(|(then, now)| then == now).count();
    let shown = |effects: &[Effect]| match effects.first() {
        None => "nothing".to_owned(),
        Some(first) => format!("{first:?}").chars().take(300).collect(),
    };
    let (then, now) = (shown(&then[same..]), shown(&now[same..]));
    Err(Box::new(Divergence { revision, at, then, now }).into())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::machine::{Drilled, Order, Seen};
    use crate::observe::snapshot::{ArmCounts, Delta};
    use crate::outcome::Status;
    use crate::rollout::history::History;
    use crate::rollout::pipeline::{End, State};
    use crate::rollout::plan::Plan;
    use crate::share::TrafficShare;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn plan() -> Plan {
        let minute = Duration::from_secs(60);
        Plan::builder()
            .canary(TrafficShare::percent(5.0).unwrap(), minute, 50)
            .canary(TrafficShare::HALF, minute, 50)
            .full(minute, 50)
            .build()
            .unwrap()
    }

    /// What a tick sees: so many calls of each arm, so many of the candidate's failed.
    fn seen(rollout: &Rollout, now: Moment, calls: u64, failed: u64) -> Input {
        let arm = |calls: u64, failed: u64| {
            let mut counts = ArmCounts { started: calls, ..ArmCounts::default() };
            counts.ended[Status::Ok.index()] = calls - failed;
            counts.ended[Status::Error.index()] = failed;
            (0..calls - failed).for_each(|n| counts.latency.record(1_000_000 + 1000 * (n % 97)));
            counts.subjects.exposed = calls;
            counts.subjects.failed = failed;
            counts
        };
        let share = rollout.share();
        // As the split would have it: another ratio is a flaw of its own.
        let others = match u64::from(share.ppm()) {
            0 => calls,
            ppm => calls * u64::from(share.rest().ppm()) / ppm,
        };
        let arms = vec![arm(others, 0), arm(calls, failed.min(calls))];
        let live = Delta { lasted: Duration::from_secs(1), to: now, arms, ..Delta::default() };
        Input::Seen(Box::new(Seen::live(share, live)))
    }

    struct Writer {
        bytes: Vec<u8>,
        ends: Vec<usize>,
        rollout: Rollout,
        split: Split,
        now: Moment,
    }

    impl Writer {
        fn new() -> Self {
            let (rollout, effects) = Rollout::begin(name("v2"), plan(), Moment::ZERO).unwrap();
            let about = About {
                router: name("journal-test"),
                baseline: name("v1"),
                candidate: name("v2"),
                scheme: Scheme::new("salt"),
            };
            let split = Split::default();
            let mut snapshot = Snapshot::new(about, rollout.clone(), Moment::ZERO, split);
            snapshot.history = Line::of(&rollout, &rollout, &effects, None);
            let mut this =
                Self { bytes: Vec::new(), ends: Vec::new(), rollout, split, now: Moment::ZERO };
            this.write(&Entry::Snapshot(Box::new(snapshot)));
            this
        }

        fn write(&mut self, entry: &Entry) {
            let revision = self.ends.len() as u64 + 1;
            self.bytes.extend(entry.encode(revision, self.split.epoch).unwrap());
            self.ends.push(self.bytes.len());
        }

        fn tell(&mut self, input: Input) {
            self.now = self.now.after(Duration::from_secs(1));
            let effects = self.rollout.handle(self.now, &input);
            for effect in &effects {
                if let Effect::Shift(share) = effect {
                    self.split = self.split.shifted(*share);
                }
            }
            self.write(&Entry::Handled { at: self.now, input: Box::new(input), effects });
        }

        fn order(&mut self, order: Order) {
            let command =
                Command { order, who: name("ann"), why: "as the test wants".into(), at: None };
            self.write(&Entry::Ordered { at: self.now, command: command.clone() });
            self.tell(Input::Command(command));
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Seen(u64, u64),
        Order(Order),
        Wall(i64),
        Drilled(bool),
        NotShifted,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            12 => (1..60_u64, prop_oneof![4 => Just(0_u64), 1 => 0..3_u64])
                .prop_map(|(calls, failed)| Step::Seen(calls, failed)),
            2 => prop::sample::select(vec![
                Order::Pause, Order::Resume, Order::PromoteStage, Order::Retry, Order::Abort,
                Order::Extend { by: Duration::from_secs(77) }, Order::Approve,
            ]).prop_map(Step::Order),
            1 => any::<i32>().prop_map(|s| Step::Wall(s.into())),
            1 => any::<bool>().prop_map(Step::Drilled),
            1 => Just(Step::NotShifted),
        ]
    }

    fn written(steps: Vec<Step>) -> Writer {
        let mut writer = Writer::new();
        for step in steps {
            match step {
                Step::Seen(calls, failed) => {
                    let input = seen(&writer.rollout, writer.now, calls, failed);
                    writer.tell(input);
                }
                Step::Order(order) => writer.order(order),
                Step::Wall(date) => writer.tell(Input::Wall(Date::from_unix(date))),
                Step::Drilled(passed) => {
                    let (at, report) = (writer.now, "as it went".to_owned());
                    writer.tell(Input::Drilled(Drilled { at, passed, report }));
                }
                Step::NotShifted => writer.tell(Input::NotShifted {
                    in_force: TrafficShare::NONE,
                    reason: "down".to_owned(),
                }),
            }
        }
        writer
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        #[test]
        fn what_was_written_comes_back_bit_for_bit_and_replays(
            steps in prop::collection::vec(step(), 0..40),
        ) {
            let writer = written(steps);
            let journal = Journal::read(&writer.bytes).unwrap();
            let recovered = journal.recover().unwrap();
            prop_assert_eq!(
                to_bytes(&recovered.rollout).unwrap(), to_bytes(&writer.rollout).unwrap()
            );
            prop_assert_eq!(recovered.orders.len(), 0);
            let replayed = journal.replay().unwrap();
            prop_assert_eq!(
                to_bytes(&replayed.rollout).unwrap(), to_bytes(&writer.rollout).unwrap()
            );
        }

        #[test]
        fn a_journal_cut_anywhere_leads_to_the_same_place_or_an_earlier_one(
            steps in prop::collection::vec(step(), 1..12), cut: prop::sample::Index,
        ) {
            let writer = written(steps);
            let cut = cut.index(writer.bytes.len());
            match Rollout::resume(&writer.bytes[..cut]) {
                Ok(recovered) => {
                    let whole = writer.ends.iter().filter(|end| **end <= cut).count();
                    prop_assert_eq!(recovered.revision, whole as u64);
                    let left = (cut - writer.ends[whole - 1]) as u64;
                    prop_assert_eq!(recovered.torn.map_or(0, |torn| torn.bytes), left);
                }
                Err(JournalError::Empty | JournalError::Truncated { .. }) => {
                    prop_assert!(cut < writer.ends[0]);
                }
                Err(error) => prop_assert!(false, "{}", error),
            }
        }
    }

    #[test]
    fn an_order_that_was_taken_and_not_handled_is_not_forgotten() {
        let mut writer = Writer::new();
        let command =
            Command { order: Order::Kill, who: name("ann"), why: "it smokes".into(), at: None };
        writer.write(&Entry::Ordered { at: writer.now, command: command.clone() });
        let recovered = Rollout::resume(&writer.bytes).unwrap();
        assert_eq!(recovered.orders, [command]);
        assert_eq!(recovered.rollout.stage().unwrap().name.as_str(), "5 %");
    }

    #[test]
    fn the_first_difference_of_a_replay_is_named() {
        let mut writer = written(vec![Step::Seen(40, 0), Step::Seen(40, 0)]);
        let effects = vec![Effect::Promote];
        let input = seen(&writer.rollout, writer.now, 40, 0);
        writer.write(&Entry::Handled { at: writer.now, input: Box::new(input), effects });
        let error = Journal::read(&writer.bytes).unwrap().replay().unwrap_err();
        let JournalError::Diverged(divergence) = error else { panic!("{error}") };
        assert_eq!(divergence.revision, 4);
        assert!(divergence.to_string().contains("then Promote; now nothing"), "{divergence}");
        assert!(matches!(Rollout::resume(&writer.bytes), Err(JournalError::Diverged(_))));
    }

    #[test]
    fn a_history_says_who_when_why_and_on_which_numbers() {
        let mut steps = vec![Step::Wall(1_774_747_800)];
        steps.extend((0..90).map(|_| Step::Seen(100, 0)));
        steps.push(Step::Order(Order::Abort));
        let writer = written(steps);
        let ended =
            matches!(writer.rollout.state(), State::Ended(ended) if ended.end == End::Aborted);
        assert!(ended);
        let history = History::from(&Rollout::resume(&writer.bytes).unwrap());
        let text = history.to_string();
        for part in ["2026-03-29T01:", "5 % -> 50 %", "by ann", "by pilotage", "samples"] {
            assert!(text.contains(part), "{part} is missing in:\n{text}");
        }
        let json: serde_json::Value = serde_json::from_str(&history.to_json()).unwrap();
        let lines = json["lines"].as_array().unwrap();
        assert_eq!(lines.len(), history.lines.len());
        assert_eq!(lines.last().unwrap()["to"], "aborted");
        assert!(lines.last().unwrap()["numbers"][0]["ln_e"].is_number());
        if std::env::var_os("SHOW").is_some() {
            println!("{text}\n{}\n{} bytes", history.to_json(), writer.bytes.len());
        }
    }
}
