//! What the clones of a router share, and what a call asks of it: whom, by which arm, counted how.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::clock::{Clock, Moment};
use crate::ids::{Arm, Epoch, Name, Segment};
use crate::model::Call;
use crate::observe::record::{CallKey, Draw, Observation, SubjectTag, Words};
use crate::observe::recorder::Recorder;
use crate::observe::snapshot::{ArmCounts, Snapshot};
use crate::observe::stream_counts::StreamCounts;
use crate::observe::streams::Streams;
use crate::observe::thread_place::Place;
use crate::observe::window::Window;
use crate::outcome::Outcome;
use crate::route::arms::{ArmTable, MOST_ARMS};
use crate::route::audience::{Admission, Standing};
use crate::route::bucket::{Bucketing, Decimal, Scheme, inside};
use crate::route::switch::{Arms, Entry, Packed, Split, SplitWord};
use crate::serve::late::{Noted, Seen};
use crate::serve::request::{Group, Request, Subject};
use crate::serve::sink_queue::SinkQueues;
use crate::serve::slots::Slots;
use crate::serve::ticket::{RouterTag, Ticket};
use crate::share::TrafficShare;

/// Whom a caller hears when the candidate fails. The failure counts for the candidate in any case.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Fallback {
    /// The candidate's own failure.
    Never,
    /// The baseline, when the candidate panicked.
    #[default]
    OnPanic,
    /// The baseline, when the candidate panicked, failed or timed out by its own account.
    OnFailure,
}

/// A truth that was not counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OutcomeError {
    /// The same ticket came before.
    #[error("a truth for this ticket was counted before; each ticket counts once")]
    Duplicate,
    /// The ticket is not of this router, or no ticket at all.
    #[error("the ticket is not of this router; post it where it was given out")]
    Foreign,
    /// The ticket names a split that was never in force.
    #[error(
        "the ticket is of epoch {}, which is not in force yet; start the router with its stored split after a restart",
        epoch.number()
    )]
    FromTheFuture {
        /// The ticket's epoch.
        epoch: Epoch,
    },
}

/// What a truth was counted for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Counted {
    /// For the split in force.
    InForce,
    /// For the totals only: its split is over, or its call was no evidence.
    Past,
    /// For nothing: this arm's answer about this unit was counted before under this split.
    SameUnit,
}

/// What the clones of a router share.
pub(crate) struct Inner<M, C: Clock> {
    pub(crate) clock: C,
    /// What to tell the model of a call, by arm: made once, instead of for each call.
    pub(crate) calls: [Call; MOST_ARMS],
    /// The deadline, or all of time where there is none.
    pub(crate) deadline_nanos: u64,
    pub(crate) fallback: Fallback,
    pub(crate) tag: RouterTag,
    pub(crate) bucketing: Bucketing,
    pub(crate) word: Arc<SplitWord>,
    pub(crate) slots: Slots<M>,
    pub(crate) recorder: Recorder,
    pub(crate) segments: Box<[Name]>,
    /// Who takes part, where the split says that this decides.
    pub(crate) admission: ArcSwapOption<Admission>,
    /// The arms beyond two, where the split has them.
    pub(crate) table: ArcSwapOption<ArmTable>,
    /// How many arms are counted.
    pub(crate) arms: usize,
    pub(crate) name: Name,
    pub(crate) scheme: Scheme,
    /// Tells this router from every other of this process.
    pub(crate) id: u64,
    pub(crate) trip: Option<u32>,
    /// Epoch 16 bits, panics of the candidate under it 48 bits.
    pub(crate) panics: AtomicU64,
    pub(crate) late: Mutex<Late>,
    pub(crate) noted: Mutex<Noted>,
    pub(crate) sinks: SinkQueues,
    pub(crate) streams: Streams,
    /// The deadline of whole streams, or all of time where there is none.
    pub(crate) stream_deadline_nanos: u64,
}

#[derive(Default)]
pub(crate) struct Late {
    tickets: Seen,
    units: Seen,
}

impl<M, C: Clock> Inner<M, C> {
    pub(crate) fn assign(&self, request: &Request<'_>, split: Packed, segment: Segment) -> CallKey {
        let split = split.split();
        let hash = self.hash_of(request);
        let subject = match request.subject() {
            Subject::Unknown => None,
            _ => Some(SubjectTag::of(hash)),
        };
        let (arm, draw) = match self.arm_without_draw(request, split, segment, hash) {
            Some(arm) => (arm, Draw::Chosen),
            None if split.arms == Arms::Table => self.arm_of_many(split, hash),
            None if inside(hash, split.candidate) => (Arm::CANDIDATE, Draw::Random),
            None => (Arm::BASELINE, Draw::Random),
        };
        CallKey::new(arm, split.epoch, segment, subject, draw)
    }

    #[inline]
    pub(crate) fn arm_of(&self, request: &Request<'_>, split: Packed) -> Arm {
        let hash = request.plain_id(split).and_then(|id| self.bucketing.quick_arm_hash(id));
        match hash {
            Some(hash) => Arm::new(u8::from(split.on_candidate(hash))),
            None => self.arm_of_slowly(request, split),
        }
    }

    #[inline(never)]
    fn arm_of_slowly(&self, request: &Request<'_>, split: Packed) -> Arm {
        self.assign(request, split, self.segment_of(request)).arm()
    }

    /// The arm by the table. Without one nobody is on a candidate, and nothing is evidence.
    fn arm_of_many(&self, split: Split, hash: u64) -> (Arm, Draw) {
        let table = self.table.load();
        let Some(table) = table.as_ref() else { return (Arm::BASELINE, Draw::Chosen) };
        if inside(hash, split.candidate) {
            return (Arm::CANDIDATE, Draw::Random);
        }
        (table.arm(hash).unwrap_or(Arm::BASELINE), Draw::Random)
    }

    /// The arm where something else than the draw decides, if it does.
    pub(crate) fn arm_without_draw(
        &self,
        request: &Request<'_>,
        split: Split,
        segment: Segment,
        hash: u64,
    ) -> Option<Arm> {
        if let Some(arm) = request.forced.and_then(|forced| forced.arm(self.id, split)) {
            return Some(arm);
        }
        let decimal;
        let subject = match request.subject() {
            Subject::Bytes(id) => Some(id),
            Subject::Number(id) => {
                decimal = Decimal::of(id);
                Some(decimal.as_bytes())
            }
            Subject::Signed(id) => {
                decimal = Decimal::of_signed(id);
                Some(decimal.as_bytes())
            }
            Subject::Unknown => None,
        };
        if split.entry == Entry::Audience {
            let admission = self.admission.load();
            // Without an audience that lets somebody in, nobody is.
            let standing = admission.as_ref().map(|known| known.standing(subject, segment));
            match standing.unwrap_or(Standing::Baseline) {
                Standing::Baseline => return Some(Arm::BASELINE),
                Standing::Candidate if split.candidate == TrafficShare::NONE => {
                    return Some(Arm::BASELINE);
                }
                Standing::Candidate => return Some(Arm::CANDIDATE),
                Standing::Drawn => {}
            }
        }
        if split.exposure == TrafficShare::ALL {
            return None;
        }
        let exposure = match subject {
            Some(id) => self.bucketing.exposure_hash(id),
            None => xxh3_64_with_seed(&hash.to_le_bytes(), self.id),
        };
        (!inside(exposure, split.exposure)).then_some(Arm::BASELINE)
    }

    pub(crate) fn segment_of(&self, request: &Request<'_>) -> Segment {
        match request.segment {
            Group::None => Segment::NONE,
            Group::Named(name) => self.segment_named(name),
            Group::Numbered(segment) => self.segment_checked(segment),
        }
    }

    pub(crate) fn hash_of(&self, request: &Request<'_>) -> u64 {
        match request.subject() {
            Subject::Bytes(id) => self.bucketing.arm_hash(id),
            Subject::Number(id) => self.bucketing.arm_hash(Decimal::of(id).as_bytes()),
            Subject::Signed(id) => self.bucketing.arm_hash(Decimal::of_signed(id).as_bytes()),
            Subject::Unknown => draw(),
        }
    }

    pub(crate) fn segment_named(&self, name: &str) -> Segment {
        let at = self.segments.iter().position(|declared| declared.as_str() == name);
        at.map_or(Segment::OTHER, |at| Segment::new(at as u8 + 1))
    }

    pub(crate) fn segment_checked(&self, segment: Segment) -> Segment {
        if segment.index() <= self.segments.len() { segment } else { Segment::OTHER }
    }

    /// What to tell the model of a call.
    #[inline]
    pub(crate) fn call_of(&self, key: CallKey) -> &Call {
        // The baseline's model is asked as what it is.
        let arm = if key.is_diverted() { Arm::BASELINE } else { key.arm() };
        // All arms are below: a router has no more of them.
        &self.calls[arm.index() % MOST_ARMS]
    }

    /// What to tell the baseline of a call that it takes over.
    pub(crate) const fn call_of_baseline(&self) -> &Call {
        &self.calls[Arm::BASELINE.index()]
    }

    /// Counts a panic of the candidate's model and rolls back at the limit.
    pub(crate) fn note_panic(&self, key: CallKey) {
        let (arm, epoch) = (key.arm(), key.epoch());
        let Some(limit) = self.trip else { return };
        if arm == Arm::BASELINE || key.is_diverted() {
            return;
        }
        let label = u64::from(epoch.number()) << 48;
        let counted = self.panics.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
            let same = word >> 48 == u64::from(epoch.number());
            Some(label | if same { (word & (u64::MAX >> 16)) + 1 } else { 1 })
        });
        let word = counted.unwrap_or_else(|word| word);
        let before =
            if word >> 48 == u64::from(epoch.number()) { word & (u64::MAX >> 16) } else { 0 };
        if before + 1 >= u64::from(limit) && self.word.read().epoch == epoch {
            self.word.roll_back();
        }
    }

    pub(crate) fn outcome(
        &self,
        ticket: Ticket,
        unit: Option<u64>,
        outcome: &Outcome,
    ) -> Result<Counted, OutcomeError> {
        let served = ticket.served();
        let (arm, epoch, segment) = (served.key.arm(), served.key.epoch(), served.key.segment());
        let known_segment = self.segment_checked(segment) == segment;
        if served.router != self.tag || arm.index() >= self.arms || !known_segment {
            return Err(OutcomeError::Foreign);
        }
        let (in_force, now) = (self.word.read().epoch, self.now());
        let comes_again = {
            let mut noted = self.noted.lock();
            noted.note(in_force, now);
            epoch == in_force && noted.is_before(served.at)
        };
        let ahead = epoch.number().wrapping_sub(in_force.number());
        if (1..1 << 15).contains(&ahead) {
            return Err(OutcomeError::FromTheFuture { epoch });
        }
        {
            let mut late = self.late.lock();
            if !late.tickets.first(xxh3_64(&ticket.to_bytes())) {
                return Err(OutcomeError::Duplicate);
            }
            if let Some(unit) = unit {
                let about = [u64::from(epoch.number()) << 8 | arm.index() as u64, unit];
                let about = about.map(u64::to_le_bytes);
                if !late.units.first(xxh3_64(about.as_flattened())) {
                    return Ok(Counted::SameUnit);
                }
            }
        }
        // A call that was no evidence gives none later: the ticket knows.
        let mut of = Observation::new(arm, epoch, 0, *outcome);
        of.segment = segment;
        of.draw = served.key.draw();
        if comes_again {
            // Its number is in force again; the split it is of is long over.
            of.epoch = Epoch::new(in_force.number().wrapping_sub(1));
        }
        let counts = self.recorder.truth(now, in_force, &of);
        Ok(if counts { Counted::InForce } else { Counted::Past })
    }

    /// Reads the split and notes when it was seen, unless somebody does so at this moment.
    pub(crate) fn split_noted(&self) -> Split {
        let split = self.word.read();
        if let Some(mut noted) = self.noted.try_lock() {
            noted.note(split.epoch, self.now());
        }
        split
    }

    /// Adds what streams showed under the snapshot's split.
    pub(crate) fn add_streams(&self, snapshot: &mut Snapshot) {
        let counts = self.streams.counts(snapshot.epoch);
        with_streams(&mut snapshot.arms, counts);
    }

    /// Adds what streams have to tell as a window closes.
    pub(crate) fn add_streams_to(&self, window: &mut Window) {
        let counts = self.streams.window(window.epoch);
        with_streams(&mut window.arms, counts);
    }

    /// Adds what streams ever showed.
    pub(crate) fn add_all_streams(&self, totals: &mut [ArmCounts], epoch: Epoch) {
        with_streams(totals, self.streams.totals(epoch));
    }

    #[inline]
    pub(crate) fn record(&self, words: Words) {
        self.recorder.end(Place::here(), words);
    }

    #[inline]
    pub(crate) fn now(&self) -> Moment {
        self.clock.now()
    }
}

fn with_streams(arms: &mut [ArmCounts], streams: Vec<StreamCounts>) {
    for (arm, streams) in arms.iter_mut().zip(streams) {
        arm.streams = (!streams.is_empty()).then(|| Box::new(streams));
    }
}

/// The number of the slot where `arm` stands under `split`: those beyond two have slots of their
/// own.
#[inline]
pub(crate) const fn slot_of(arm: Arm, split: Split) -> usize {
    match arm.index() {
        0 => split.primary.index(),
        1 => split.primary.other().index(),
        further => further,
    }
}

/// A fresh number for a request of nobody known: each thread walks a sequence of its own, mixed
/// well. Chance enough for a split of traffic, and none of it is secret.
fn draw() -> u64 {
    use std::cell::Cell;
    thread_local! {
        static STATE: Cell<u64> = const { Cell::new(0) };
    }
    let step = STATE.with(|state| {
        state.set(state.get().wrapping_add(1));
        state.get()
    });
    xxh3_64_with_seed(&step.to_le_bytes(), Place::here().number() as u64)
}
