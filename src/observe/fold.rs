//! Records become counts.
//!
//! The reader's side of the recorder: everything here belongs to whoever holds the lock, and no
//! request ever does. Counts stand in three places: those of the open window, those of the epoch's
//! closed windows, and those of the past. A record touches only the first, and a snapshot adds
//! the first two.

use std::time::Duration;

use crate::clock::Moment;
use crate::ids::{Arm, Epoch, Segment};
use crate::observe::overflow::{Spilled, kind_of};
use crate::observe::record::{Draw, Observation, Words};
use crate::observe::snapshot::{ArmCounts, SegmentCounts, Snapshot, Tally};
use crate::observe::subjects::{
    ABANDONED, ENDED, EXPOSED, Events, FAILED, FIRST_MARK, SubjectTable, TIMED_OUT,
};
use crate::observe::window::{Quantiles, Recent, Window};
use crate::outcome::Status;

/// How long a window is, at least.
pub const WINDOW: Duration = Duration::from_secs(10);
/// Over how long the running quantiles are taken.
pub const RECENT: Duration = Duration::from_secs(300);
/// The most windows the running quantiles are taken of; more would mean a split that changes
/// every few seconds.
const RECENT_WINDOWS: usize = 32;

/// Counts of all that was drained.
#[derive(Debug)]
pub struct Fold {
    arms: usize,
    epoch: Epoch,
    /// The window that is open, of this epoch.
    open: Vec<ArmCounts>,
    opened: Moment,
    started_at_opening: Vec<[u64; 2]>,
    /// This epoch's windows that are closed.
    closed: Vec<ArmCounts>,
    /// Everything else: earlier epochs, and calls that are no evidence.
    past: Vec<ArmCounts>,
    /// This epoch, by segment and arm.
    segments: Vec<Tally>,
    stale: u64,
    subjects: SubjectTable,
    recent: Vec<Recent>,
    ready: Vec<Window>,
}

impl Fold {
    /// Nothing seen yet of `arms` arms; at most `subjects` are told apart in a window.
    #[must_use]
    pub fn new(arms: usize, subjects: usize, epoch: Epoch, now: Moment) -> Self {
        let counts = || vec![ArmCounts::default(); arms];
        Self {
            arms,
            epoch,
            open: counts(),
            opened: now,
            started_at_opening: vec![[0; 2]; arms],
            closed: counts(),
            past: counts(),
            segments: vec![Tally::default(); arms * 256],
            stale: 0,
            subjects: SubjectTable::new(subjects),
            recent: (0..arms).map(|_| Recent::default()).collect(),
            ready: Vec::new(),
        }
    }

    /// The epoch whose records count.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Says that this record will be counted soon.
    #[inline]
    pub fn expect(&self, words: Words) {
        if let Some(subject) = words.subject() {
            self.subjects.expect(subject, words.arm());
        }
    }

    /// Counts one record.
    #[inline]
    pub fn record(&mut self, words: Words) {
        let arm = words.arm().min(self.arms - 1);
        let status = words.status().min(Status::ALL.len() - 1);
        if words.epoch() != self.epoch || words.draw() == Draw::Chosen {
            return self.record_aside(words, arm, status);
        }
        let counts = &mut self.open[arm];
        add_to(counts, words, status);
        let tally = &mut self.segments[words.segment().index() * self.arms + arm];
        tally.ended[status] += 1;
        if words.0[0] >> 32 & 0b1_1111 != 0 {
            add_marks(&mut counts.marks, words);
            add_marks(&mut tally.marks, words);
        }
        if let Some(score) = words.score() {
            counts.score.add(score.into());
            tally.score.add(score.into());
        }
        if let Some(right) = words.correct() {
            add_truth(&mut counts.correct, &mut counts.wrong, right);
            add_truth(&mut tally.correct, &mut tally.wrong, right);
        }
        self.count_subject(words, arm, status);
    }

    #[cold]
    fn record_aside(&mut self, words: Words, arm: usize, status: usize) {
        if words.draw() == Draw::Random {
            self.stale += 1;
        }
        let counts = &mut self.past[arm];
        add_to(counts, words, status);
        add_marks(&mut counts.marks, words);
        if let Some(score) = words.score() {
            counts.score.add(score.into());
        }
        if let Some(right) = words.correct() {
            add_truth(&mut counts.correct, &mut counts.wrong, right);
        }
    }

    #[inline]
    fn count_subject(&mut self, words: Words, arm: usize, status: usize) {
        const OK: Events = ENDED | EXPOSED;
        const MET: [Events; 5] = [OK, OK | FAILED, OK | TIMED_OUT, ENDED | ABANDONED, OK | FAILED];
        let mut events = MET[status];
        if status != Status::Cancelled.index() {
            events |= Events::from(words.marks().bits()) << FIRST_MARK.trailing_zeros();
        }
        let new = match words.subject() {
            None => events,
            Some(subject) => match self.subjects.note(subject, arm, events) {
                Some(new) => new,
                None => {
                    self.open[arm].subjects_untracked += 1;
                    return;
                }
            },
        };
        if new == 0 {
            return;
        }
        let subjects = &mut self.open[arm].subjects;
        subjects.exposed += u64::from(new & EXPOSED != 0);
        subjects.failed += u64::from(new & FAILED != 0);
        subjects.timed_out += u64::from(new & TIMED_OUT != 0);
        subjects.ended += u64::from(new & ENDED != 0);
        subjects.abandoned += u64::from(new & ABANDONED != 0);
        if new & !(OK | FAILED | TIMED_OUT | ABANDONED) != 0 {
            for (number, count) in subjects.marks.iter_mut().enumerate() {
                *count += u64::from(new & FIRST_MARK << number != 0);
            }
        }
    }

    /// Counts what did not fit into a ring, of the epoch `epoch`.
    pub fn spilled(&mut self, epoch: Epoch, arm: usize, spilled: &Spilled) {
        let current = epoch == self.epoch;
        let total: u64 = spilled.ended.iter().sum();
        self.stale += if current { 0 } else { total };
        let counts = if current { &mut self.open[arm] } else { &mut self.past[arm] };
        counts.detail_lost += total;
        counts.fell_back += spilled.fell_back;
        counts.diverted += spilled.diverted;
        for (at, count) in spilled.ended.iter().enumerate() {
            counts.ended[at] += count;
        }
        for (at, count) in spilled.marks.iter().enumerate() {
            counts.marks[at] += count;
        }
        for (bucket, count) in &spilled.answered {
            counts.latency.record_bucket(*bucket, *count);
        }
        for (bucket, count) in &spilled.failed {
            counts.failed_latency.record_bucket(*bucket, *count);
        }
        let past = &mut self.past[arm];
        past.fell_back += spilled.chosen_fell_back;
        past.diverted += spilled.chosen_diverted;
        for (at, count) in spilled.chosen.iter().enumerate() {
            past.ended[at] += count;
            past.detail_lost += count;
        }
    }

    /// Counts a truth about a call that ended before: of the outcome all but the status. `true`
    /// when it counts for the epoch in force.
    pub fn truth(&mut self, of: &Observation) -> bool {
        let arm = of.arm.index().min(self.arms - 1);
        let current = of.epoch == self.epoch && of.draw == Draw::Random;
        let mut tally = Tally::default();
        for (number, count) in tally.marks.iter_mut().enumerate() {
            *count = u64::from(of.outcome.marks.has(number as u8));
        }
        if let Some(score) = of.outcome.score {
            tally.score.add(score.into());
        }
        if let Some(right) = of.outcome.correct {
            add_truth(&mut tally.correct, &mut tally.wrong, right);
        }
        let counts = if current { &mut self.open[arm] } else { &mut self.past[arm] };
        counts.correct += tally.correct;
        counts.wrong += tally.wrong;
        counts.score.merge(&tally.score);
        for (mine, theirs) in counts.marks.iter_mut().zip(tally.marks) {
            *mine += theirs;
        }
        if current {
            self.segments[of.segment.index() * self.arms + arm].merge(&tally);
        } else if of.draw == Draw::Random {
            self.stale += 1;
        }
        current
    }

    /// Moves on to `epoch`: what was counted is past. `started` is the calls begun so far under
    /// the epoch that ends, arm by arm, and how many of them were diverted.
    pub fn advance(&mut self, epoch: Epoch, now: Moment, started: &[[u64; 2]]) {
        self.close(now, started);
        for (past, closed) in self.past.iter_mut().zip(&mut self.closed) {
            past.merge(closed);
            *closed = ArmCounts::default();
        }
        self.segments.fill(Tally::default());
        self.started_at_opening.fill([0; 2]);
        self.recent.iter_mut().for_each(|recent| *recent = Recent::default());
        self.stale = 0;
        self.epoch = epoch;
    }

    /// Closes the open window if it is due, and forgets windows that are long past.
    pub fn tick(&mut self, now: Moment, started: &[[u64; 2]]) {
        if now.since(self.opened) >= WINDOW {
            self.close(now, started);
        }
        for recent in &mut self.recent {
            recent.expire(now, RECENT, RECENT_WINDOWS);
        }
    }

    fn close(&mut self, now: Moment, started: &[[u64; 2]]) {
        let mut window = Window {
            from: self.opened,
            to: now,
            epoch: self.epoch,
            arms: vec![ArmCounts::default(); self.arms],
        };
        for (arm, open) in self.open.iter_mut().enumerate() {
            self.recent[arm].push(now, &open.latency);
            self.closed[arm].merge(open);
            let [before, diverted_before] = self.started_at_opening[arm];
            open.started = started[arm][0].saturating_sub(before);
            open.diverted_started = started[arm][1].saturating_sub(diverted_before);
            self.started_at_opening[arm] = started[arm];
            std::mem::swap(open, &mut window.arms[arm]);
        }
        self.opened = now;
        self.subjects.forget();
        // Whoever drains takes these at once; should nobody, the oldest go.
        if self.ready.len() == RECENT_WINDOWS {
            self.ready.remove(0);
        }
        self.ready.push(window);
    }

    /// The windows closed since they were last taken, oldest first.
    pub fn take_windows(&mut self) -> Vec<Window> {
        std::mem::take(&mut self.ready)
    }

    /// All that counts for the epoch in force.
    #[must_use]
    pub fn snapshot(&self, now: Moment, started: &[[u64; 2]]) -> Snapshot {
        let mut snapshot = Snapshot::empty(now, self.epoch);
        for (arm, (closed, open)) in self.closed.iter().zip(&self.open).enumerate() {
            let counts = snapshot.arm_mut(Arm::new(arm as u8));
            counts.merge(closed);
            counts.merge(open);
            // A call may end while we look at who began; it had begun by then.
            counts.started = started[arm][0].max(counts.finished());
            counts.diverted_started = started[arm][1];
        }
        snapshot.stale = self.stale;
        let rows = self.segments.chunks_exact(self.arms).enumerate();
        let rows = rows.filter(|(_, arms)| arms.iter().any(|tally| !tally.is_empty()));
        snapshot.segments = rows
            .map(|(at, arms)| SegmentCounts::new(Segment::new(at as u8), arms.to_vec()))
            .collect();
        snapshot
    }

    /// All that was ever counted, arm by arm.
    #[must_use]
    pub fn totals(&self, started: &[[u64; 2]]) -> Vec<ArmCounts> {
        let mut totals = self.past.clone();
        for (arm, total) in totals.iter_mut().enumerate() {
            total.merge(&self.closed[arm]);
            total.merge(&self.open[arm]);
            total.started = started[arm][0].max(total.finished());
            total.diverted_started = started[arm][1];
        }
        totals
    }

    /// Quantiles of the last five minutes of this epoch.
    #[must_use]
    pub fn recent(&self, arm: Arm) -> Option<Quantiles> {
        let recent = self.recent.get(arm.index())?;
        recent.quantiles(self.open.get(arm.index()).map(|open| &open.latency))
    }

    /// Bytes on the heap, at most.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let histogram = crate::observe::histogram::BUCKETS * size_of::<u64>();
        let counts = size_of::<ArmCounts>() + 3 * histogram;
        let recent = (1 + RECENT_WINDOWS) * histogram;
        // Windows that wait to be taken are counted as if they were all there.
        self.arms * (3 * counts + RECENT_WINDOWS * counts + recent)
            + size_of_val(&*self.segments)
            + self.subjects.memory_bytes()
    }
}

#[inline]
fn add_to(counts: &mut ArmCounts, words: Words, status: usize) {
    counts.ended[status] += 1;
    if words.diverted() {
        return add_diverted(counts, words, status);
    }
    match kind_of(status) {
        Some(0) => counts.latency.record_bucket(words.bucket(), 1),
        Some(_) => counts.failed_latency.record_bucket(words.bucket(), 1),
        None => {}
    }
    counts.fell_back += u64::from(words.fell_back());
}

/// A call that the arm's own model was never asked about says nothing of its times.
#[cold]
fn add_diverted(counts: &mut ArmCounts, words: Words, status: usize) {
    counts.diverted += 1;
    if kind_of(status).is_some() {
        counts.diverted_latency.record_bucket(words.bucket(), 1);
    }
}

#[inline]
fn add_marks(counts: &mut [u64; 5], words: Words) {
    for (number, count) in counts.iter_mut().enumerate() {
        *count += u64::from(words.marks().has(number as u8));
    }
}

#[inline]
const fn add_truth(correct: &mut u64, wrong: &mut u64, right: bool) {
    if right {
        *correct += 1;
    } else {
        *wrong += 1;
    }
}
