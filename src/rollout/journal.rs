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
//! - Each opening for writing has a [generation](Position::generation). What a process wrote that did
//!   not know of a later one does not count, except where it stops the rollout: that does.
//! - Bytes are as many as the evidence: a snapshot is some tens of kilobytes, a look some hundreds
//!   of bytes to a few kilobytes. Whoever keeps the bytes begins anew with a snapshot when they
//!   are many.

use serde::{Deserialize, Serialize};

use crate::clock::Moment;
use crate::date::Date;
use crate::ids::{Epoch, Name};
use crate::machine::{Command, Effect, Input, Machine, Order};
use crate::rollout::history_line::{HISTORY, Line};
use crate::rollout::journal_cbor::{from_bytes, to_bytes};
pub use crate::rollout::journal_error::{Divergence, JournalError};
use crate::rollout::journal_frame::{self, Frame, Standing};
pub use crate::rollout::journal_frame::{Position, Torn, VERSION};
use crate::rollout::pipeline::{End, Rollout, State};
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
    /// The generation in which the rollout began. It tells one try of a candidate from the next in
    /// the same place: what was left behind by an earlier one is none of a later one's business.
    pub begun: u64,
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
    /// The bytes to append at this position.
    ///
    /// # Errors
    ///
    /// [`JournalError::Unwritable`] or [`JournalError::TooLong`].
    pub fn encode(&self, position: Position) -> Result<Vec<u8>, JournalError> {
        let payload =
            to_bytes(self).map_err(|error| JournalError::Unwritable { what: error.to_string() })?;
        journal_frame::encode(position, &payload)
    }

    /// The order to stop (kill, abort or pause) that was taken or handled here, if one was.
    #[must_use]
    pub fn stop(&self) -> Option<&Command> {
        let command = match self {
            Self::Ordered { command, .. } => command,
            Self::Handled { input, .. } => match &**input {
                Input::Command(command) => command,
                _ => return None,
            },
            Self::Snapshot(_) | Self::InForce { .. } | Self::Noted { .. } => return None,
        };
        stops(command).then_some(command)
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
    /// Which opening for writing wrote it.
    pub generation: u64,
    /// Its number.
    pub revision: u64,
    /// The epoch in force when it was written.
    pub epoch: Epoch,
    /// What it says.
    pub entry: Entry,
}

impl Numbered {
    /// What a frame says.
    pub(super) fn of(frame: &Frame<'_>) -> Result<Self, JournalError> {
        let Position { generation, revision, epoch } = frame.position;
        let unreadable = |what| JournalError::Unreadable { revision, what };
        let entry = from_bytes(frame.payload).map_err(|error| unreadable(error.to_string()))?;
        if frame.standing == Standing::Begins && !matches!(entry, Entry::Snapshot(_)) {
            let what = "another writer goes on there without saying from where".to_owned();
            return Err(unreadable(what));
        }
        Ok(Self { generation, revision, epoch, entry })
    }
}

/// All entries of a journal.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Journal {
    /// Oldest first; the first is a snapshot.
    pub entries: Vec<Numbered>,
    /// What was written by a process that did not know of a later one, or of which a later one did
    /// not know. It does not count, except where it stops the rollout.
    pub intruded: Vec<Numbered>,
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
    /// The generation of the last entry. Whoever opens the journal for writing next has a higher
    /// one.
    pub generation: u64,
    /// The number of the last entry.
    pub revision: u64,
    /// What a crash tore off the end.
    pub torn: Option<Torn>,
    /// What a second process wrote; see [`Journal::intruded`]. Its orders to stop are among
    /// [`Recovered::orders`].
    pub intruded: Vec<Numbered>,
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
        let (mut entries, mut intruded) = (Vec::with_capacity(frames.len()), Vec::new());
        for frame in &frames {
            let one = Numbered::of(frame)?;
            match frame.standing {
                Standing::Intruded => intruded.push(one),
                Standing::Counts | Standing::Begins => entries.push(one),
            }
        }
        match entries.first() {
            Some(Numbered { entry: Entry::Snapshot(_), .. }) => {
                Ok(Self { entries, intruded, torn })
            }
            _ => Err(JournalError::NoBeginning),
        }
    }

    /// The rollout as the entries leave it: the last snapshot, and what came after it, handled
    /// again. Orders to stop that a second process wrote count as taken; and a promotion that was
    /// decided and not brought into force is overruled by an abort or a kill that came after it.
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
            promoted: snapshot.promoted && is_promoted(&snapshot.rollout),
            orders: snapshot.orders.clone(),
            history: snapshot.history.clone(),
            generation: self.entries.last().map_or(0, |last| last.generation),
            revision: self.entries.last().map_or(0, |last| last.revision),
            torn: self.torn,
            intruded: Vec::new(),
        };
        let mut overruling = None;
        for one in &from[1..] {
            let undone = all.promotion_is_undone();
            all.take(one)?;
            overruling = one.entry.stop().filter(|_| undone).or(overruling);
        }
        all.overrule(overruling);
        all.intrude(&self.intruded);
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

    /// Takes orders to stop that came by another way than the journal. One that waits already is
    /// not taken twice.
    pub fn order(&mut self, orders: impl IntoIterator<Item = Command>) {
        for command in orders {
            if !self.orders.contains(&command) {
                self.orders.push(command);
            }
        }
        self.overrule(None);
    }

    /// What a second process wrote: its orders to stop this rollout count as taken.
    pub fn intrude(&mut self, intruded: &[Numbered]) {
        let ours = intruded.iter().filter(|one| one.generation >= self.about.begun);
        let stops: Vec<Command> = ours.filter_map(|one| one.entry.stop().cloned()).collect();
        self.intruded.extend_from_slice(intruded);
        self.order(stops);
    }

    /// Whether a promotion was decided that no switch obeyed yet.
    fn promotion_is_undone(&self) -> bool {
        !self.promoted && is_promoted(&self.rollout)
    }

    /// An abort or a kill is stronger than a promotion that is not in force: `handled`, which the
    /// machine refused since it was over, or one that waits.
    fn overrule(&mut self, handled: Option<&Command>) {
        if !self.promotion_is_undone() {
            return;
        }
        let ends = |command: &&Command| matches!(command.order, Order::Kill | Order::Abort);
        let all = self.orders.iter().chain(handled).filter(ends);
        let Some(command) = all.min_by_key(|command| command.order.precedence()).cloned() else {
            return;
        };
        self.orders.retain(|order| *order != command);
        let before = self.rollout.clone();
        let effects = self.rollout.overrule(self.at, &command);
        let lines = Line::of(&before, &self.rollout, &effects, self.date_at(self.at));
        lines.into_iter().for_each(|line| self.note(line));
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
                // One that was taken back is none; it may come again after a retry.
                self.promoted &= is_promoted(&self.rollout);
                match &**input {
                    Input::Command(command) => {
                        if let Some(at) =
                            self.orders.iter().position(|order| same_order(order, command))
                        {
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

    /// Ends a rollout whose promotion was decided and is in force nowhere.
    fn overrule(&mut self, now: Moment, command: &Command) -> Vec<Effect> {
        let end = if command.order == Order::Kill { End::Killed } else { End::Aborted };
        let Command { who, why, .. } = command;
        let why = format!("{who}: {why} (its promotion was decided, and not yet in force)");
        self.end(now, end, who.as_str(), why)
    }
}

/// Whether an order only ever takes exposure away.
pub(super) const fn stops(command: &Command) -> bool {
    matches!(command.order, Order::Kill | Order::Abort | Order::Pause)
}

/// Whether two are the same order, wherever its giver saw the rollout.
fn same_order(one: &Command, other: &Command) -> bool {
    (one.order, &one.who, &one.why) == (other.order, &other.who, &other.why)
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

fn is_promoted(rollout: &Rollout) -> bool {
    matches!(rollout.state(), State::Ended(ended) if ended.end == End::Promoted)
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
    use crate::rollout::journal_stops::Stops;
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
                begun: 2,
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
            self.write_as(2, revision, entry);
        }

        fn write_as(&mut self, generation: u64, revision: u64, entry: &Entry) {
            let position = Position { generation, revision, epoch: self.split.epoch };
            self.bytes.extend(entry.encode(position).unwrap());
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

    /// A rollout whose promotion was decided.
    fn promoting() -> Writer {
        let mut writer = Writer::new();
        writer.order(Order::PromoteFully);
        assert!(
            matches!(writer.rollout.state(), State::Ended(ended) if ended.end == End::Promoted)
        );
        writer
    }

    fn end(recovered: &Recovered) -> Option<End> {
        match recovered.rollout.state() {
            State::Ended(ended) => Some(ended.end),
            State::Waiting(_) | State::Running(_) => None,
        }
    }

    fn ordered(order: Order) -> Entry {
        let command = Command { order, who: name("bob"), why: "it smokes".into(), at: None };
        Entry::Ordered { at: Moment::ZERO, command }
    }

    #[test]
    fn an_abort_overrules_a_promotion_that_is_decided_and_not_in_force() {
        let decided = Rollout::resume(&promoting().bytes).unwrap();
        assert_eq!((end(&decided), decided.promoted), (Some(End::Promoted), false));
        for (order, expected) in [(Order::Abort, End::Aborted), (Order::Kill, End::Killed)] {
            // Taken, or handled as well, which the machine of that time refused.
            for handled in [false, true] {
                let mut writer = promoting();
                let entry = ordered(order);
                writer.write(&entry);
                if handled {
                    writer.tell(Input::Command(entry.stop().unwrap().clone()));
                }
                let recovered = Rollout::resume(&writer.bytes).unwrap();
                assert_eq!((end(&recovered), recovered.orders.len()), (Some(expected), 0));
                assert_eq!(recovered.rollout.share(), TrafficShare::NONE);
                let last = recovered.history.last().unwrap();
                assert!(last.transition.why.contains("bob: it smokes"), "{last:?}");
                // In force, it is for whoever resumes: what was handled took the promotion back.
                let (at, split) = (writer.now, writer.split);
                writer.write(&Entry::InForce { at, split, promoted: true });
                let recovered = Rollout::resume(&writer.bytes).unwrap();
                let left = if handled { expected } else { End::Promoted };
                assert_eq!(end(&recovered), Some(left));
            }
            // By another way than the journal.
            let mut recovered = decided.clone();
            let entry = ordered(order);
            recovered.order([ordered(Order::Pause), entry].iter().flat_map(Entry::stop).cloned());
            assert_eq!((end(&recovered), recovered.orders.len()), (Some(expected), 1));
        }
        // Of two, the stronger; a pause overrules nothing.
        let mut writer = promoting();
        writer.write(&ordered(Order::Pause));
        assert_eq!(end(&Rollout::resume(&writer.bytes).unwrap()), Some(End::Promoted));
        writer.write(&ordered(Order::Abort));
        writer.write(&ordered(Order::Kill));
        assert_eq!(end(&Rollout::resume(&writer.bytes).unwrap()), Some(End::Killed));
        // One that came before the decision was dealt with then.
        let mut writer = Writer::new();
        writer.order(Order::Pause);
        writer.order(Order::Resume);
        writer.order(Order::PromoteFully);
        assert_eq!(end(&Rollout::resume(&writer.bytes).unwrap()), Some(End::Promoted));
    }

    #[test]
    fn of_a_journal_that_ends_wrong_in_two_ways_the_first_is_named_and_no_torn_end() {
        let good = written(vec![Step::Seen(40, 0)]);
        let torn = &good.bytes[good.ends[0]..][..9];
        let position = |revision| Position { generation: 2, revision, epoch: good.split.epoch };
        // Whole in itself, and nothing that this release writes.
        let strange = journal_frame::encode(position(3), b"strange").unwrap();
        let salvaged = Journal::salvage(&[&good.bytes, &strange[..], torn].concat()).unwrap();
        let cut = salvaged.cut.unwrap();
        assert!(matches!(cut.why, JournalError::Unreadable { revision: 3, .. }), "{cut}");
        assert_eq!((salvaged.recovered.torn, cut.bytes), (None, strange.len() as u64 + 9));

        let input = seen(&good.rollout, good.now, 40, 0);
        let (at, effects) = (good.now, vec![Effect::Promote]);
        let wrong = Entry::Handled { at, input: Box::new(input), effects };
        let wrong = wrong.encode(position(3)).unwrap();
        let salvaged = Journal::salvage(&[&good.bytes, &wrong[..], torn].concat()).unwrap();
        let cut = salvaged.cut.unwrap();
        assert!(matches!(cut.why, JournalError::Diverged(_)), "{cut}");
        assert_eq!((salvaged.recovered.torn, cut.bytes), (None, wrong.len() as u64 + 9));
        let salvaged = Journal::salvage(&[&good.bytes, torn].concat()).unwrap();
        assert_eq!((salvaged.recovered.torn.map(|torn| torn.bytes), salvaged.cut), (Some(9), None));
    }

    #[test]
    fn nothing_is_salvaged_where_a_newer_release_wrote_or_the_beginning_is_missing() {
        let mut writer = Writer::new();
        let end = writer.bytes.len();
        writer.write(&ordered(Order::Pause));
        let error = Journal::salvage(&writer.bytes[end..]).unwrap_err();
        assert_eq!(error, JournalError::NoBeginning);
        assert_eq!(Journal::read(&writer.bytes[end..]).unwrap_err(), JournalError::NoBeginning);
        let newer = &mut writer.bytes[end..];
        newer[4..6].copy_from_slice(&9_u16.to_le_bytes());
        let head = xxhash_rust::xxh3::xxh3_64(&newer[..32]);
        newer[32..40].copy_from_slice(&head.to_le_bytes());
        let error = Journal::salvage(&writer.bytes).unwrap_err();
        assert_eq!(error, JournalError::NewerVersion { version: 9, known: VERSION });
    }

    #[test]
    fn what_a_writer_of_before_this_rollout_ordered_is_none_of_its_business() {
        let mut writer = Writer::new();
        writer.write_as(1, 2, &ordered(Order::Abort));
        let recovered = Rollout::resume(&writer.bytes).unwrap();
        assert_eq!((recovered.intruded.len(), recovered.orders.len()), (1, 0));
        let (at, split) = (writer.now, writer.split.rolled_back());
        writer.write_as(1, 3, &Entry::InForce { at, split, promoted: false });
        let recovered = Rollout::resume(&writer.bytes).unwrap();
        assert!(Stops::among(&recovered.intruded, 2).is_empty());
        let theirs = Stops::among(&recovered.intruded, 1);
        assert!(theirs.doubt.is_some() && theirs.orders.len() == 1);
    }

    #[test]
    fn what_stops_a_rollout_is_said_as_it_stands_and_comes_back_as_it_was_said() {
        let mut writer = Writer::new();
        let mut said = Vec::new();
        let mut note = |writer: &Writer, orders: Vec<Command>| {
            let Entry::Snapshot(first) = &Journal::read(&writer.bytes).unwrap().entries[0].entry
            else {
                panic!("it begins with a snapshot")
            };
            let mut snapshot = first.clone();
            (snapshot.rollout, snapshot.orders) = (writer.rollout.clone(), orders);
            let stops = Stops::of(&snapshot);
            let position = Position { generation: 2, revision: 1, epoch: Epoch::default() };
            let bytes = stops.encode(&snapshot, position).unwrap();
            let read = Stops::read(&[bytes], 2);
            assert_eq!(read.orders, stops.orders);
            assert_eq!(read.doubt.is_some(), stops.doubt.is_some());
            said.push((read.orders.iter().map(|one| one.order).collect::<Vec<_>>(), read.doubt));
        };
        let command = |order| Command { order, who: name("ann"), why: "so".into(), at: None };
        note(&writer, vec![command(Order::PromoteFully)]);
        note(&writer, vec![command(Order::Abort), command(Order::Extend { by: plan_minute() })]);
        writer.order(Order::Pause);
        note(&writer, Vec::new());
        writer.order(Order::Resume);
        note(&writer, Vec::new());
        writer.order(Order::Abort);
        note(&writer, Vec::new());
        writer.order(Order::Kill);
        note(&writer, Vec::new());
        let mut other = Writer::new();
        other.rollout.distrust(Moment::ZERO, "it may have been taken back");
        note(&other, Vec::new());
        note(&promoting(), Vec::new());
        let orders: Vec<_> = said.iter().map(|(orders, _)| orders.clone()).collect();
        let expected: [&[Order]; 8] =
            [&[], &[Order::Abort], &[Order::Pause], &[], &[Order::Abort], &[Order::Kill], &[], &[]];
        assert_eq!(orders, expected);
        let doubts: Vec<bool> = said.iter().map(|(_, doubt)| doubt.is_some()).collect();
        assert_eq!(doubts, [false, false, false, false, false, false, true, false]);
        assert!(said[6].1.as_ref().unwrap().contains("it may have been taken back"));
    }

    fn plan_minute() -> Duration {
        Duration::from_secs(60)
    }

    #[test]
    fn a_rollout_that_waits_is_paused_where_a_step_back_may_be_missing() {
        let plan = Plan::builder()
            .canary(TrafficShare::HALF, plan_minute(), 50)
            .full(plan_minute(), 50)
            .start_by_hand()
            .build()
            .unwrap();
        let (mut rollout, _) = Rollout::begin(name("v2"), plan, Moment::ZERO).unwrap();
        assert!(!rollout.distrust(Moment::ZERO, "the end was cut off").is_empty());
        let paused = matches!(rollout.state(), State::Waiting(waiting) if waiting.paused.is_some());
        assert!(paused);
    }

    #[test]
    fn a_later_writer_that_does_not_say_from_where_it_goes_on_is_not_believed() {
        let mut writer = Writer::new();
        writer.write_as(3, 2, &ordered(Order::Resume));
        let error = Journal::read(&writer.bytes).unwrap_err();
        assert!(matches!(error, JournalError::Unreadable { revision: 2, .. }), "{error}");
        let salvaged = Journal::salvage(&writer.bytes).unwrap();
        assert_eq!((salvaged.recovered.revision, salvaged.cut.unwrap().whole), (1, 1));
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
