//! A recorded trace instead of an invented world.
//!
//! Each row says what both models would have answered, so the machine can route by its own
//! decisions: subjects fall on arms by the bucketing of production, an answer is heard of when it
//! has come and not when it was asked for, one subject counts once a window, and a split that
//! changed meanwhile makes an answer stale. What the candidate did to users is then known exactly:
//! its answers against the baseline's to the same requests.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::time::Duration;

use crate::clock::Moment;
use crate::date::Date;
use crate::ids::{Arm, Epoch, Name, Segment};
use crate::judge::verdict::Reading;
use crate::machine::{Effect, Input, Machine, News, Seen, Shadowing, Transition};
use crate::observe::fold::WINDOW;
use crate::observe::record::SubjectTag;
use crate::observe::shadow::ShadowCounts;
use crate::observe::snapshot::{ArmCounts, Delta, SegmentCounts, Tally};
use crate::observe::subjects::{EXPOSED, Events, FAILED, SubjectTable, TIMED_OUT};
use crate::outcome::Status;
use crate::rollout::pipeline::{End, Rollout, State};
use crate::rollout::plan::Plan;
use crate::rollout::trial::TrialError;
use crate::route::bucket::{Bucketing, Scheme, inside};
use crate::share::TrafficShare;
use crate::sim::attendant::{attend, first_date};
use crate::sim::trace::{Answer, Row};
use crate::sim::world::Toll;

/// How a trace is replayed.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ReplayOptions {
    /// How often the machine looks. A second, as a pilot does.
    pub look: Duration,
    /// The salt by which subjects fall on arms.
    pub salt: String,
    /// Two answers agree when their scores differ by at most this; `None`: when both are answers.
    /// A trace does not hold what the models said, so nothing else can be compared.
    pub agree_within: Option<f64>,
}

impl Default for ReplayOptions {
    fn default() -> Self {
        Self { look: Duration::from_secs(1), salt: "replay".to_owned(), agree_within: None }
    }
}

/// A rollout on its way through a trace.
///
/// Memory: 262,144 answers under way, 65,536 subjects a window, 255 segments, 256 alerts and
/// transitions; none of it grows with the trace. What lies beyond is recorded at once, not told
/// apart, or counted among `other`.
///
/// ```
/// use pilotage::rollout::plan::Plan;
/// use pilotage::sim::replay::{Replay, ReplayOptions};
/// use pilotage::sim::trace::TraceReader;
///
/// let csv = "\
/// at_ms,subject,segment,baseline_outcome,baseline_latency_ms,baseline_score,candidate_outcome,candidate_latency_ms,candidate_score
/// 0,anna,eu,ok,12,,ok,11,
/// 900,bert,us,ok,14,,error,2,
/// ";
/// let mut trace = TraceReader::new(csv.as_bytes())?;
/// let mut replay = Replay::begin(Plan::quick(), ReplayOptions::default())?;
/// while let Some(row) = trace.next_row()? {
///     replay.row(&row);
/// }
/// let told = replay.finish();
/// assert_eq!((told.end, told.toll.baseline, told.toll.candidate), (None, 2, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Replay {
    rollout: Rollout,
    options: ReplayOptions,
    bucketing: Bucketing,
    share: TrafficShare,
    epoch: Epoch,
    shadow: bool,
    promoted: bool,
    /// The trace's time of the first row; the machine's clock begins there.
    first: Option<u64>,
    last: u64,
    /// The machine's time of the last look.
    looked: u64,
    under_way: BinaryHeap<Reverse<Answered>>,
    batch: Batch,
    subjects: [SubjectTable; 2],
    window_from: u64,
    segments: HashMap<Box<str>, usize>,
    tolls: Vec<Toll>,
    told: Told,
}

#[derive(Debug, Default)]
struct Told {
    toll: Toll,
    shadowed: u64,
    rows: u64,
    log: Vec<Transition>,
    alerts: Vec<(Moment, News)>,
    alerts_in_all: u64,
    everybody: Option<Moment>,
    looks: u64,
}

/// What came since the last look.
#[derive(Debug, Default)]
struct Batch {
    live: [ArmCounts; 2],
    shadow: ShadowCounts,
    segments: BTreeMap<usize, [Tally; 2]>,
}

/// A call that has ended, or is going to.
#[derive(Clone, Copy, Debug)]
struct Answered {
    at: u64,
    epoch: Epoch,
    tag: Option<SubjectTag>,
    segment: usize,
    what: What,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Live(Arm, Answer),
    Pair(Answer, Answer),
}

impl Replay {
    /// A rollout by `plan` that begins with the first row.
    ///
    /// # Errors
    ///
    /// [`TrialError`] when a stage of the plan cannot be judged.
    #[expect(clippy::missing_panics_doc, reason = "never: the name is a name")]
    pub fn begin(plan: Plan, options: ReplayOptions) -> Result<Self, TrialError> {
        let name = Name::new("candidate").expect("it is a name");
        let (rollout, effects) = Rollout::begin(name, plan, Moment::ZERO)?;
        let mut replay = Self {
            rollout,
            bucketing: Bucketing::new(&Scheme::new(options.salt.clone())),
            options,
            share: TrafficShare::NONE,
            epoch: Epoch::default(),
            shadow: false,
            promoted: false,
            first: None,
            last: 0,
            looked: 0,
            under_way: BinaryHeap::new(),
            batch: Batch::default(),
            subjects: [SubjectTable::new(SUBJECTS), SubjectTable::new(SUBJECTS)],
            window_from: 0,
            segments: HashMap::new(),
            tolls: Vec::new(),
            told: Told::default(),
        };
        replay.carry_out(Moment::ZERO, effects);
        Ok(replay)
    }

    /// A request comes. Rows come in the order of their time; one that is earlier than the last
    /// counts as simultaneous with it.
    pub fn row(&mut self, row: &Row<'_>) {
        if self.first.is_none() {
            self.first = Some(row.at);
            self.attend(Moment::ZERO);
        }
        let first = self.first.unwrap_or(row.at);
        let now = row.at.saturating_sub(first).max(self.last);
        self.look_until(now);
        self.last = now;
        self.told.rows += 1;
        let (hash, tag) = if row.subject.is_empty() {
            // Nobody's request is drawn by itself, and the same way in every replay.
            (self.bucketing.arm_hash(&row.line.to_le_bytes()), None)
        } else {
            let hash = self.bucketing.arm_hash(row.subject.as_bytes());
            (hash, Some(SubjectTag::of(hash)))
        };
        let on_candidate = self.promoted || inside(hash, self.share);
        let segment = self.segment(row.segment);
        let toll = toll_of(row, on_candidate);
        self.told.toll.add(&toll);
        self.tolls[segment].add(&toll);
        if matches!(self.rollout.state(), State::Ended(_)) {
            return;
        }
        let (arm, answer) = if on_candidate {
            (Arm::CANDIDATE, row.candidate)
        } else {
            (Arm::BASELINE, row.baseline)
        };
        let epoch = self.epoch;
        self.batch.live[arm.index()].started += 1;
        let at = now.saturating_add(answer.nanos);
        self.answer(Answered { at, epoch, tag, segment, what: What::Live(arm, answer) });
        if self.shadow {
            self.told.shadowed += 1;
            let slowest = row.baseline.nanos.max(row.candidate.nanos);
            let at = now.saturating_add(slowest);
            let what = What::Pair(row.baseline, row.candidate);
            self.answer(Answered { at, epoch, tag, segment, what });
        }
    }

    /// The trace is at its end. The machine looks once more, with the answers that were still under
    /// way, and nothing after it is imagined.
    #[must_use]
    pub fn finish(mut self) -> Replayed {
        if !matches!(self.rollout.state(), State::Ended(_)) && self.first.is_some() {
            let now = self.last.max(self.looked);
            while let Some(Reverse(answered)) = self.under_way.pop() {
                self.record(&answered);
            }
            self.look(now);
        }
        self.told()
    }

    /// Looks whenever it is time until `now`.
    fn look_until(&mut self, now: u64) {
        let every = nanos(self.options.look).max(1_000_000);
        while !matches!(self.rollout.state(), State::Ended(_)) {
            // Where nothing comes for a minute, looks are rare; after a day of it, one has to do.
            let silent = self.looked.saturating_sub(self.last);
            let step = if silent < MINUTE {
                every
            } else if silent < DAY {
                every.max(MINUTE)
            } else {
                now.saturating_sub(self.looked).max(every)
            };
            let next = self.looked.saturating_add(step);
            if next > now {
                return;
            }
            while self.under_way.peek().is_some_and(|Reverse(first)| first.at <= next) {
                if let Some(Reverse(answered)) = self.under_way.pop() {
                    self.record(&answered);
                }
            }
            self.look(next);
        }
    }

    fn look(&mut self, now: u64) {
        let lasted = Duration::from_nanos(now.saturating_sub(self.looked));
        let at = Moment::from_nanos(now);
        let batch = std::mem::take(&mut self.batch);
        let mut live = Delta::new(at, lasted, self.epoch, batch.live.into());
        let segments = batch
            .segments
            .into_iter()
            .map(|(segment, arms)| SegmentCounts::new(Segment::new(segment as u8), arms.to_vec()));
        live.segments = segments.collect();
        let mut seen = Seen::live(self.share, live);
        if self.shadow {
            seen = seen.with_shadow(batch.shadow);
        }
        self.looked = now;
        self.told.looks += 1;
        let effects = self.rollout.handle(at, &Input::Seen(Box::new(seen)));
        self.carry_out(at, effects);
        self.attend(at);
        if now.saturating_sub(self.window_from) >= nanos(WINDOW) {
            self.new_window(now);
        }
    }

    /// Gives what the plan asks of people. A trace whose times are those of a calendar brings the
    /// time of day along.
    fn attend(&mut self, at: Moment) {
        let first = self.first.unwrap_or(0) / 1_000_000_000;
        let date = match i64::try_from(first) {
            Ok(unix) if unix >= CALENDAR => Date::from_unix(unix),
            _ => first_date(&self.rollout),
        };
        for input in attend(&self.rollout, at, date.after(at.since(Moment::ZERO))) {
            let effects = self.rollout.handle(at, &input);
            self.carry_out(at, effects);
        }
    }

    fn new_window(&mut self, now: u64) {
        self.window_from = now;
        self.subjects.iter_mut().for_each(SubjectTable::forget);
    }

    fn answer(&mut self, answered: Answered) {
        if answered.at <= self.last || self.under_way.len() >= UNDER_WAY {
            self.record(&answered);
        } else {
            self.under_way.push(Reverse(answered));
        }
    }

    /// An answer has come.
    fn record(&mut self, answered: &Answered) {
        if answered.epoch != self.epoch {
            return; // Stale: it says nothing of this stage.
        }
        let [live, shadow] = &mut self.subjects;
        match answered.what {
            What::Live(arm, answer) => {
                let counts = &mut self.batch.live[arm.index()];
                count(counts, &answer, subject_events(live, answered.tag, arm, &answer));
                let tallies = self.batch.segments.entry(answered.segment).or_default();
                let tally = &mut tallies[arm.index()];
                tally.ended[answer.status.index()] += 1;
                if let Some(score) = answer.score {
                    tally.score.add(score);
                }
            }
            What::Pair(baseline, candidate) => {
                let seen = &mut self.batch.shadow;
                seen.sampled += 1;
                seen.run += 1;
                let both = [
                    (Arm::BASELINE, &baseline, &mut seen.baseline),
                    (Arm::CANDIDATE, &candidate, &mut seen.candidate),
                ];
                for (arm, answer, counts) in both {
                    counts.started += 1;
                    count(counts, answer, subject_events(shadow, answered.tag, arm, answer));
                }
                if baseline.is_bad() || candidate.is_bad() {
                    return;
                }
                match agree(self.options.agree_within, &baseline, &candidate) {
                    None => seen.uncomparable += 1,
                    Some(alike) => {
                        seen.pairs += 1;
                        seen.matches += u64::from(alike);
                        seen.similarity.add(if alike { 1.0 } else { 0.0 });
                    }
                }
            }
        }
    }

    fn carry_out(&mut self, at: Moment, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Shift(share) => {
                    if share == TrafficShare::ALL {
                        self.told.everybody = self.told.everybody.or(Some(at));
                    }
                    self.turn(share, at);
                }
                Effect::Promote => {
                    self.promoted = true;
                    self.told.everybody = self.told.everybody.or(Some(at));
                    self.turn(TrafficShare::NONE, at);
                }
                Effect::Restore => {
                    self.promoted = false;
                    self.turn(TrafficShare::NONE, at);
                }
                Effect::Shadow(shadowing) => {
                    self.shadow = shadowing == Shadowing::On;
                    self.batch.shadow = ShadowCounts::default();
                }
                Effect::Alert(news) => {
                    self.told.alerts_in_all += 1;
                    if self.told.alerts.len() < MOST_TOLD {
                        self.told.alerts.push((at, news));
                    }
                }
                Effect::Record(transition) => {
                    if self.told.log.len() < MOST_TOLD {
                        self.told.log.push(transition);
                    }
                }
                // Nobody gives orders here, and the trace says when to look.
                Effect::Refused(_) | Effect::WakeAt(_) => {}
            }
        }
    }

    /// Another split comes into force, if it is another.
    fn turn(&mut self, share: TrafficShare, at: Moment) {
        if share == self.share {
            return;
        }
        self.share = share;
        self.epoch = self.epoch.next();
        self.batch = Batch::default();
        self.new_window(at.as_nanos());
    }

    fn segment(&mut self, name: &str) -> usize {
        if self.tolls.is_empty() {
            self.tolls.push(Toll::default());
        }
        if name.is_empty() {
            return 0;
        }
        if let Some(number) = self.segments.get(name) {
            return *number;
        }
        let number = self.tolls.len();
        if number >= OTHER {
            self.tolls.resize(OTHER + 1, Toll::default());
            return OTHER;
        }
        self.segments.insert(name.into(), number);
        self.tolls.push(Toll::default());
        number
    }

    fn told(self) -> Replayed {
        let first = self.first.unwrap_or(0);
        let mut segments: Vec<(String, Toll)> = self
            .segments
            .into_iter()
            .map(|(name, number)| (name.into(), self.tolls[number]))
            .collect();
        segments.sort_by(|one, other| one.0.cmp(&other.0));
        if let Some(toll) = self.tolls.get(OTHER) {
            segments.push(("(other)".to_owned(), *toll));
        }
        let (end, stage, reason, at) = if let State::Ended(ended) = self.rollout.state() {
            (Some(ended.end), ended.stage.clone(), ended.reason.clone(), ended.at)
        } else {
            let stage = self.rollout.stage().map_or(String::new(), |s| s.name.to_string());
            let why = self.rollout.conclusion().map_or(String::new(), |own| own.why);
            (None, stage, why, Moment::from_nanos(self.last.max(self.looked)))
        };
        let holding = self.rollout.hold().map(|hold| hold.why.clone());
        Replayed {
            end,
            stage,
            reason,
            first: Duration::from_nanos(first),
            at: at.since(Moment::ZERO),
            lasted: Duration::from_nanos(self.last),
            everybody: self.told.everybody.map(|at| at.since(Moment::ZERO)),
            holding,
            rows: self.told.rows,
            toll: self.told.toll,
            segments,
            shadowed: self.told.shadowed,
            readings: self.rollout.readings(),
            log: self.told.log,
            alerts: self.told.alerts,
            alerts_in_all: self.told.alerts_in_all,
            looks: self.told.looks,
        }
    }
}

/// How a trace went.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Replayed {
    /// How the rollout ended; `None` when the trace ended first.
    pub end: Option<End>,
    /// The stage it was in.
    pub stage: String,
    /// Why it ended, or what it still waited for.
    pub reason: String,
    /// The first row, by the trace's own clock.
    pub first: Duration,
    /// When the rollout ended, or else the trace, since the first row.
    pub at: Duration,
    /// From the first row to the last.
    pub lasted: Duration,
    /// When the candidate began to serve everybody, since the first row.
    pub everybody: Option<Duration>,
    /// Why it stays where it is, when it does and people were told.
    pub holding: Option<String>,
    /// Rows used.
    pub rows: u64,
    /// What users met, over the whole trace: after a rollback the baseline serves all of it, after a
    /// promotion the candidate.
    pub toll: Toll,
    /// The same by segment, in the order of their names; requests without one are left out.
    pub segments: Vec<(String, Toll)>,
    /// Requests the candidate answered in the shadow.
    pub shadowed: u64,
    /// Each guardrail's numbers in the last stage.
    pub readings: Vec<Reading>,
    /// Every step with its reason; times since the first row.
    pub log: Vec<Transition>,
    /// The first alerts, and when.
    pub alerts: Vec<(Moment, News)>,
    /// How many alerts there were.
    pub alerts_in_all: u64,
    /// How often the machine looked.
    pub looks: u64,
}

impl PartialEq for Answered {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Answered {}

impl PartialOrd for Answered {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Answered {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

fn toll_of(row: &Row<'_>, on_candidate: bool) -> Toll {
    let mut toll = Toll::default();
    if !on_candidate {
        toll.baseline = 1;
        return toll;
    }
    toll.candidate = 1;
    toll.bad = u64::from(row.candidate.is_bad());
    toll.bad_anyway = if row.baseline.is_bad() { 1.0 } else { 0.0 };
    if !row.candidate.is_bad() && !row.baseline.is_bad() {
        toll.waited = (row.candidate.nanos as f64 - row.baseline.nanos as f64) / 1e9;
    }
    toll
}

/// What is new of this subject in this window; `None` when the table has no room for it.
fn subject_events(
    table: &mut SubjectTable,
    tag: Option<SubjectTag>,
    arm: Arm,
    answer: &Answer,
) -> Option<Events> {
    let events = EXPOSED
        | match answer.status {
            Status::Error | Status::Panicked => FAILED,
            Status::Timeout => TIMED_OUT,
            Status::Ok | Status::Cancelled => 0,
        };
    match tag {
        None => Some(events),
        Some(tag) => table.note(tag, arm.index(), events),
    }
}

fn count(counts: &mut ArmCounts, answer: &Answer, new: Option<Events>) {
    counts.ended[answer.status.index()] += 1;
    match answer.status {
        Status::Ok => counts.latency.record(answer.nanos),
        Status::Error => counts.failed_latency.record(answer.nanos),
        _ => {}
    }
    if let Some(score) = answer.score {
        counts.score.add(score);
    }
    match new {
        None => counts.subjects_untracked += 1,
        Some(new) => {
            counts.subjects.exposed += u64::from(new & EXPOSED != 0);
            counts.subjects.failed += u64::from(new & FAILED != 0);
            counts.subjects.timed_out += u64::from(new & TIMED_OUT != 0);
        }
    }
}

/// Whether two answers are alike; `None` when that cannot be told.
fn agree(within: Option<f64>, one: &Answer, other: &Answer) -> Option<bool> {
    let Some(within) = within else { return Some(true) };
    let (one, other) = (one.score?, other.score?);
    Some((one - other).abs() <= within)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The year 2000: earlier times count from some other beginning.
const CALENDAR: i64 = 946_684_800;
const MINUTE: u64 = 60_000_000_000;
const DAY: u64 = 1_440 * MINUTE;
/// As many as a recorder tells apart by default.
const SUBJECTS: usize = 65_536;
/// Answers that may be on their way at once.
const UNDER_WAY: usize = 1 << 18;
/// The number under which segments beyond the 254th are counted together.
const OTHER: usize = 255;
const MOST_TOLD: usize = 256;
