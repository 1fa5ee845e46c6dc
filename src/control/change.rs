//! How a decision comes into force.
//!
//! What lowers exposure, or leaves it, is in the books at once. What raises it is a proposal first:
//! it is written down, then asked of the switch outside, then brought into force here, and only then,
//! in one step under one lock, is the rollout where the decision says. Until then it is where it was
//! and is judged there, and a stop that comes in between finds nothing to contradict it.

use std::time::Duration;

use crate::alert::alert::{Alert, Severity};
use crate::clock::Moment;
use crate::control::journal_file::Durability;
use crate::control::journal_writer::{Fate, JournalWriter};
use crate::control::pilot::{PATIENCE, Pilot};
use crate::control::state::{Change, PilotState, Proposal, Wanted, raises, takes_back, wanted};
use crate::control::switch_worker::Kind;
use crate::date::Date;
use crate::machine::{Effect, Input, News};
use crate::rollout::history::Line;
use crate::rollout::journal::{Entry, Snapshot as Standing};
use crate::rollout::pipeline::{End, Rollout, State};
use crate::route::switch::SwitchError;
use crate::share::TrafficShare;

/// What became of something the machine was told.
pub(super) struct Taken {
    /// To be carried out, once the lock is given back.
    pub(super) effects: Vec<Effect>,
    /// The journal's job, if it was written down by one.
    pub(super) journal: Option<u64>,
    /// The number of the proposal, where it waits to come into force.
    pub(super) proposed: Option<u64>,
}

enum Next {
    WaitForJournal(u64),
    WaitForSwitch(u64),
    Failed(String),
    Done(Vec<Effect>),
    Nothing,
}

impl Pilot {
    /// Takes the machine's answer into the books, or proposes it where it gives the candidate more.
    #[expect(clippy::too_many_arguments, reason = "each says one thing of a decision")]
    pub(super) fn take(
        &self,
        state: &mut PilotState,
        now: Moment,
        input: Input,
        before: Rollout,
        after: Rollout,
        effects: Vec<Effect>,
        ordered: bool,
    ) -> Taken {
        let shared = &self.shared;
        let date = date_at(state, now);
        let lines = Line::of(&before, &after, &effects, date);
        let entry = Entry::Handled { at: now, input: Box::new(input), effects: effects.clone() };
        if raises(&effects, shared.plane.split()) {
            let journal = self.write_ahead(state, now, entry);
            let to = wanted(&effects).unwrap_or(Wanted::Share(after.share()));
            let version = state.version;
            state.proposals += 1;
            let number = state.proposals;
            let proposal = Proposal { number, rollout: after, effects, lines, version, ordered };
            let proposal = Some(Box::new(proposal));
            state.change = Some(Change { to, proposal, journal, asked: None, obeyed: false });
            return Taken { effects: Vec::new(), journal, proposed: Some(number) };
        }
        let promoted = has_ended(&after, End::Promoted);
        if before.is_live() && !after.is_live() && promoted {
            // From here on it cannot be taken back. Whoever does so at this moment has moved the
            // split, or finds that it is no longer ours: one of both, and the books say which.
            if !shared.ownership.release_promoted() {
                return Taken { effects: Vec::new(), journal: None, proposed: None };
            }
        }
        // Users first. It may have been done already by whoever stops.
        let back = takes_back(&effects).then(|| shared.ownership.return_home()).flatten();
        state.rollout = after;
        state.version += 1;
        state.promoted &= promoted;
        let withdrawn = self.give_up_change(state);
        if let (Some(split), Some(outside)) = (back, &shared.outside) {
            // The split of this moment: a later one may be somebody else's.
            let over = !matches!(state.rollout.state(), State::Running(_));
            outside.ask(split, if over { Kind::TakeBack } else { Kind::Back });
        }
        lines.iter().for_each(|line| state.note(line.clone()));
        let steps = !lines.is_empty();
        let journal = self.write(state, now, entry, steps, withdrawn);
        if steps {
            shared.ownership.set_stage(&state.rollout.at().stage);
        }
        Taken { effects, journal, proposed: None }
    }

    /// Gives up a step that was decided and is not in force, where the rollout does not wait for it.
    /// Says whether the journal has it, so that it must be begun anew.
    pub(super) fn give_up_change(&self, state: &mut PilotState) -> bool {
        // What a restart found decided is part of an end: a promotion, or that nobody is left there.
        let promoted = has_ended(&state.rollout, End::Promoted);
        let over = !matches!(state.rollout.state(), State::Running(_));
        let contradicts = |to| match to {
            Wanted::Promotion => !promoted,
            Wanted::Share(share) => share > TrafficShare::NONE,
        };
        let Some(change) = state
            .change
            .take_if(|change| change.proposal.is_some() || over && contradicts(change.to))
        else {
            return false;
        };
        if let (Some(outside), Some(_), true) =
            (&self.shared.outside, change.asked, self.shared.ownership.holds())
        {
            // It may have obeyed: it is told what is in force here, until it obeys.
            outside.ask(self.shared.plane.split(), Kind::Back);
        }
        change.proposal.is_some()
    }

    /// Gives up a step that came too late. The journal has it, so it is begun anew: what is decided
    /// next is decided without it.
    fn withdraw(&self, state: &mut PilotState, now: Moment) {
        if self.give_up_change(state) {
            let split = self.shared.plane.split();
            let entry = Entry::InForce { at: now, split, promoted: false };
            self.write(state, now, entry, false, true);
        }
    }

    /// Brings what was decided into force as far as that is possible now, and waits so long for what
    /// it waits for.
    pub(super) fn advance(&self, patience: Duration) {
        let now = self.now();
        loop {
            let next = {
                let mut state = self.shared.state.lock();
                self.next_step(&mut state, now)
            };
            match next {
                Next::Nothing => return,
                Next::WaitForJournal(job) => {
                    let journal = self.shared.journal.as_ref();
                    let fate = journal.map(|journal| journal.wait(job, patience));
                    if fate.is_none_or(|fate| fate == Fate::Waits) {
                        return;
                    }
                }
                Next::WaitForSwitch(order) => {
                    let outside = self.shared.outside.as_ref();
                    if outside.is_none_or(|outside| outside.wait(order, patience).is_none()) {
                        return;
                    }
                }
                Next::Failed(reason) => {
                    self.tell_of_step(now, reason);
                    return;
                }
                Next::Done(effects) => {
                    self.carry_out(now, effects);
                    return;
                }
            }
        }
    }

    fn next_step(&self, state: &mut PilotState, now: Moment) -> Next {
        let shared = &self.shared;
        let paused =
            matches!(state.rollout.state(), State::Running(running) if running.paused.is_some());
        if state.parked.is_some() || state.fenced || !shared.ownership.holds() {
            return Next::Nothing;
        }
        let Some(change) = &mut state.change else { return Next::Nothing };
        let split = shared.plane.split();
        let rises = match change.to {
            Wanted::Promotion => true,
            Wanted::Share(share) => share > split.candidate,
        };
        let over = change.proposal.is_none() && matches!(state.rollout.state(), State::Ended(_));
        if over && rises && change.to != Wanted::Promotion {
            state.change = None; // it was stopped before it began
            return Next::Nothing;
        }
        // Of a hand at the router the books hear with the next look; nothing goes up before that.
        if rises && (paused || shared.ownership.is_stopped()) {
            return Next::Nothing;
        }
        if let (Some(job), Some(journal)) = (change.journal, &shared.journal) {
            match journal.fate(job) {
                Fate::Waits => return Next::WaitForJournal(job),
                Fate::Written => change.journal = None,
                Fate::Failed(_) => {
                    // As if it had not been decided: what was seen comes again.
                    state.change = None;
                    return Next::Nothing;
                }
            }
        }
        let order = change.to.order(split);
        if let Some(outside) = shared.outside.as_ref().filter(|_| !change.obeyed) {
            if rises
                && shared
                    .journal
                    .as_ref()
                    .is_some_and(|journal| journal.wants_snapshot() && journal.gap().is_some())
            {
                return Next::Nothing; // nothing goes up that would not be written
            }
            let kind = if rises { Kind::Raise } else { Kind::Keep };
            let Some(number) = change.asked else {
                let number = outside.ask(order, kind);
                change.asked = Some(number);
                return Next::WaitForSwitch(number);
            };
            match outside.fate(number) {
                None => return Next::WaitForSwitch(number),
                Some(Ok(())) => change.obeyed = true,
                Some(Err(error)) => {
                    change.asked = None;
                    return Next::Failed(error.to_string());
                }
            }
        }
        self.bring_into_force(state, now)
    }

    /// The one place where the candidate is given more, and where the books learn of it.
    fn bring_into_force(&self, state: &mut PilotState, now: Moment) -> Next {
        let shared = &self.shared;
        let Some(change) = &state.change else { return Next::Nothing };
        let to = change.to;
        let ends = change.proposal.as_ref().is_some_and(|one| !one.rollout.is_live());
        let stale = change.proposal.as_ref().is_some_and(|one| one.version != state.version);
        if stale {
            self.withdraw(state, now);
            return Next::Nothing;
        }
        loop {
            let order = to.order(shared.plane.split());
            let shifted = if ends && to == Wanted::Promotion {
                shared.ownership.shift_and_release(&order)
            } else {
                shared.ownership.shift(&order)
            };
            match shifted {
                Ok(()) => break,
                // Whom it is for was changed meanwhile, or which arms there are: not by whom.
                Err(SwitchError::Superseded { .. }) => {}
                Err(error) => {
                    if state.change.as_ref().is_some_and(|change| change.proposal.is_some()) {
                        self.withdraw(state, now);
                    }
                    return match error {
                        // The next look hears of it.
                        SwitchError::Stopped | SwitchError::Owned(_) => Next::Nothing,
                        error => Next::Failed(error.to_string()),
                    };
                }
            }
        }
        let promoted = to == Wanted::Promotion;
        let Some(change) = state.change.take() else { return Next::Nothing };
        // What a shadow has counted since the last look is the next one's: its handle may be the
        // host's code, and is not asked under the lock.
        let snapshot = shared.plane.snapshot();
        let mut effects = Vec::new();
        if let Some(proposal) = change.proposal {
            (state.last, state.last_at) = (snapshot, now);
            state.rollout = proposal.rollout;
            state.version += 1;
            state.in_force = proposal.number;
            proposal.lines.into_iter().for_each(|line| state.note(line));
            effects = proposal.effects;
            if !proposal.ordered {
                state.known_revision = state.rollout.revision();
            }
            shared.ownership.set_stage(&state.rollout.at().stage);
        }
        state.promoted |= promoted;
        let split = shared.plane.split();
        self.write(state, now, Entry::InForce { at: now, split, promoted }, promoted, false);
        if let (Some(outside), true) = (&shared.outside, promoted) {
            outside.ask(split, Kind::Settled);
        }
        if state.switch_told {
            state.switch_told = false;
            let news = step_news("the traffic switch obeys again".to_owned(), true);
            effects.push(Effect::Alert(news));
        }
        Next::Done(effects)
    }

    /// Carries out what is left of a decision once it is in the books and in force.
    pub(super) fn carry_out(&self, now: Moment, effects: Vec<Effect>) {
        let shared = &self.shared;
        for effect in effects {
            match effect {
                Effect::Shadow(shadowing) => shared.plane.shadow(shadowing),
                Effect::Alert(news) => self.tell(now, news),
                // What moves traffic was done under the lock; a refusal is in the history; a driver
                // looks often enough not to be woken; what is recorded was written down.
                Effect::Shift(_)
                | Effect::Promote
                | Effect::Restore
                | Effect::Refused(_)
                | Effect::WakeAt(_)
                | Effect::Record(_) => {}
            }
        }
    }

    /// Writes down what raises exposure once it is in force, and begins anew where there is a gap.
    fn write_ahead(&self, state: &PilotState, now: Moment, entry: Entry) -> Option<u64> {
        let journal = self.shared.journal.as_ref()?;
        let epoch = self.shared.plane.split().epoch;
        Some(if journal.wants_snapshot() {
            journal.anew(self.standing(state, now), vec![entry], epoch, None)
        } else {
            journal.add(vec![entry], epoch, Durability::Synced, None, true)
        })
    }

    /// Writes down what is in the books already. A step that takes traffic back is kept in the
    /// journal's reserve where it cannot be written.
    fn write(
        &self,
        state: &PilotState,
        now: Moment,
        entry: Entry,
        steps: bool,
        anew: bool,
    ) -> Option<u64> {
        let journal = self.shared.journal.as_ref()?;
        let epoch = self.shared.plane.split().epoch;
        let keep = steps.then(|| Box::new(self.standing(state, now)));
        Some(if anew || journal.wants_snapshot() {
            // The books have it: the snapshot says what the entry would.
            journal.anew(self.standing(state, now), Vec::new(), epoch, keep)
        } else {
            let durability = if steps { Durability::Synced } else { Durability::Written };
            journal.add(vec![entry], epoch, durability, keep, false)
        })
    }

    /// Writes down that everything went back although the rollout is not over, so that a resume does
    /// not take it for a rollback.
    pub(super) fn note_split(&self, state: &PilotState, anew: bool) {
        let (now, split) = (self.now(), self.shared.plane.split());
        let entry = Entry::InForce { at: now, split, promoted: false };
        self.write(state, now, entry, true, anew);
    }

    fn standing(&self, state: &PilotState, now: Moment) -> Standing {
        let split = self.shared.plane.split();
        let mut standing =
            Standing::new(self.shared.about.clone(), state.rollout.clone(), now, split);
        standing.date = date_at(state, now);
        standing.promoted = state.promoted;
        standing.history = state.history.iter().cloned().collect();
        standing
    }

    /// Waits a moment for what is being written, tries again what failed, and tells people.
    pub(super) fn settle_journal(&self, now: Moment) {
        let Some(journal) = &self.shared.journal else { return };
        journal.wait_for_all(self.patience(PATIENCE));
        self.write_again(now, journal);
        self.tell_of_journal(now);
    }

    /// People are told once that nothing can be written, and once that it can again; the same of a
    /// step back that is written nowhere.
    pub(super) fn tell_of_journal(&self, now: Moment) {
        let Some(journal) = &self.shared.journal else { return };
        let (gap, unkept) = (journal.gap(), journal.unkept());
        let (told, unkept_told) = {
            let mut state = self.shared.state.lock();
            let told = std::mem::replace(&mut state.journal_told, gap.is_some());
            (told, std::mem::replace(&mut state.unkept_told, unkept.is_some()))
        };
        let key = || "journal".to_owned();
        match (&gap, told) {
            (Some(why), false) => self.tell(now, News::lasting(key(), Severity::Warning, format!(
                "the journal cannot be written ({why}); the candidate gets no more traffic until it \
                 can, and every way back stays open"
            ))),
            (None, true) => self.tell(now, News::over(key(), "the journal is written again")),
            _ => {}
        }
        let key = || "journal/unkept".to_owned();
        match (&unkept, unkept_told) {
            (Some(why), false) => self.tell(now, News::lasting(key(), Severity::Critical, format!(
                "a step back was taken and is written nowhere ({why}): until the journal can be \
                 written again, a restart would forget it; do not resume from this journal then"
            ))),
            (None, true) => self.tell(now, News::over(key(), "the step back is written down")),
            _ => {}
        }
    }

    /// Begins the journal anew once more where the last try failed and nothing else would.
    fn write_again(&self, now: Moment, journal: &JournalWriter) {
        let (Some(_), 0) = (journal.gap(), journal.waiting()) else { return };
        if journal.fenced().is_some() {
            return; // another process writes it
        }
        let state = self.shared.state.lock();
        if state.change.as_ref().is_some_and(|change| change.proposal.is_some()) {
            return;
        }
        let epoch = self.shared.plane.split().epoch;
        let keep = journal.unkept().map(|_| Box::new(self.standing(&state, now)));
        let job = journal.anew(self.standing(&state, now), Vec::new(), epoch, keep);
        drop(state);
        let _ = journal.wait(job, self.patience(PATIENCE));
    }

    fn tell_of_step(&self, now: Moment, reason: String) {
        let (told, waits, candidate) = {
            let mut state = self.shared.state.lock();
            let told = std::mem::replace(&mut state.switch_told, true);
            let waits = state.change.as_ref().map(|change| change.to);
            (told, waits, state.rollout.candidate().clone())
        };
        if told {
            return;
        }
        let in_force = self.shared.plane.split().candidate;
        let what = match waits {
            Some(Wanted::Share(share)) => share.to_string(),
            Some(Wanted::Promotion) | None => "the promotion".to_owned(),
        };
        let summary = format!(
            "the traffic switch failed ({reason}): {candidate} stays at {in_force} and waits for \
             {what}; the switch is asked again with every look"
        );
        self.tell(now, step_news(summary, false));
    }

    /// People are told once that a switch outside has not heard of a way back.
    pub(super) fn tell_of_switch(&self, now: Moment) {
        let Some(outside) = &self.shared.outside else { return };
        let owes = outside.owes_back();
        let told = {
            let mut state = self.shared.state.lock();
            std::mem::replace(&mut state.back_told, owes)
        };
        let key = || "switch/back".to_owned();
        match (owes, told) {
            (true, false) => {
                let why = outside.trouble().unwrap_or_else(|| "it has not answered yet".to_owned());
                let summary = format!(
                    "the candidate has {} in this process, and the traffic switch outside has not \
                     been told ({why}); it is told again until it obeys; set that there by hand",
                    self.shared.plane.split().candidate
                );
                self.tell(now, News::lasting(key(), Severity::Critical, summary));
            }
            (false, true) => {
                self.tell(now, News::over(key(), "the traffic switch outside was told"));
            }
            _ => {}
        }
    }

    /// When the last passed drill is older than it may be, or there was none for so long: tells
    /// people, once.
    pub(super) fn look_at_drills(&self, now: Moment) {
        let news = {
            let mut state = self.shared.state.lock();
            let overdue =
                state.rollout.is_live() && state.is_drill_overdue(now, self.shared.drill_due);
            let told = std::mem::replace(&mut state.drill_told, overdue);
            match (told, overdue) {
                (false, true) => {
                    let last = state.last_drill.as_ref();
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
        let key = || "drill".to_owned();
        match news {
            Some(why) if why.is_empty() => {
                self.tell(now, News::over(key(), "the rollback drill was made"));
            }
            Some(why) => {
                let summary = format!("a rollback drill is overdue: {why}; make one");
                self.tell(now, News::lasting(key(), Severity::Warning, summary));
            }
            None => {}
        }
    }

    pub(super) fn tell(&self, now: Moment, news: News) {
        let rollout = self.shared.plane.name();
        let mut alert = Alert::new(news.key, news.severity, rollout, now, news.summary);
        alert.resolved = news.resolved;
        alert.once = news.once;
        self.shared.alerts.send(alert);
    }
}

fn has_ended(rollout: &Rollout, end: End) -> bool {
    matches!(rollout.state(), State::Ended(ended) if ended.end == end)
}

fn step_news(summary: String, over: bool) -> News {
    let key = "switch/step".to_owned();
    if over { News::over(key, summary) } else { News::lasting(key, Severity::Warning, summary) }
}

/// What the wall clock last read, carried on: no code of the host's is called.
fn date_at(state: &PilotState, now: Moment) -> Option<Date> {
    state.known_date.map(|(known, date)| date.after(now.since(known)))
}
