//! A world for a rollout to happen in.
//!
//! A [`Climate`] says what is usual (how often requests come, how they end, how long they take) and
//! which [`Fault`]s there are; a [`World`] is a climate with a seed, and gives one batch after the
//! other in the form in which a machine gets them from real servers.
//!
//! Batches are drawn as counts, not call by call: the number of errors among so many calls is
//! binomial, and the counts of a histogram's buckets are multinomial. That is the same distribution
//! at a price that does not grow with traffic.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Moment;
use crate::ids::{Arm, Epoch, Segment};
use crate::machine::Seen;
use crate::observe::shadow::ShadowCounts;
use crate::observe::snapshot::{ArmCounts, Delta, SegmentCounts, Tally};
use crate::outcome::Status;
use crate::share::TrafficShare;
use crate::sim::fault::{Fault, Kind};
use crate::sim::latency::{Latency, LatencyTable};
use crate::sim::rng::Rng;

/// What is usual, and what goes wrong.
///
/// ```
/// use pilotage::sim::fault::{Fault, Kind};
/// use pilotage::sim::world::Climate;
///
/// let climate = Climate::new(100.0)
///     .errors(0.002)
///     .season(0.5)
///     .fault(Fault::new(Kind::LatencyTimes(1.5)));
/// assert!(climate.check().is_ok());
/// assert!(Climate::new(f64::NAN).check().is_err());
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Climate {
    /// Requests a second, both arms together, averaged over a day.
    pub rate: f64,
    /// The part of calls that fail, on either arm.
    pub errors: f64,
    /// The part of calls that time out, on either arm.
    pub timeouts: f64,
    /// How long answers take.
    pub latency: Latency,
    /// How far traffic rises above and falls below its average in the course of a day, from 0 to 1.
    /// The rollout begins on the way up.
    pub season: f64,
    /// How much more the number of requests varies than chance alone makes it: the variance of a
    /// count over its mean. 1 is Poisson, 10 is a crowd.
    pub dispersion: f64,
    /// How often a client calls in a row that fails, on average; 1 for clients that give up. Above
    /// 1, batches count subjects as well as calls.
    pub retries: f64,
    /// Scores given with the answers: their mean and standard deviation.
    pub score: Option<(f64, f64)>,
    /// On which part of requests both models agree.
    pub agreement: f64,
    /// The part of requests in each segment; empty for no segments. They are numbered from 1.
    pub segments: Vec<f64>,
    /// What goes wrong.
    pub faults: Vec<Fault>,
}

/// A climate that cannot be.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ClimateError {
    /// A number is out of its range.
    #[error("{what} is {value}; it must be {expected}")]
    Value {
        /// Which number.
        what: &'static str,
        /// What was given.
        value: f64,
        /// What can be.
        expected: &'static str,
    },
    /// A law of latency cannot be drawn from.
    #[error(
        "the latency cannot be drawn: {law:?}; median under an hour, sigma 0.001 to 4, tail below 1, tail index 0.1 to 100"
    )]
    Latency {
        /// The law.
        law: Latency,
    },
    /// A fault's number is out of range, or it names a segment that is not there.
    #[error(
        "fault {number} cannot happen: {fault:?}; parts lie from 0 to 1, factors from 0 to 10000, times from a second, segments in the climate's list"
    )]
    Fault {
        /// Which of the faults, from 1.
        number: usize,
        /// The fault.
        fault: Box<Fault>,
    },
}

impl Climate {
    /// `rate` requests a second, of which 0.1 % fail and 0.02 % time out; answers take 200 ms in
    /// the median, σ 0.6; the models agree on 97 % of requests. Nothing goes wrong.
    #[must_use]
    pub const fn new(rate: f64) -> Self {
        Self {
            rate,
            errors: 0.001,
            timeouts: 0.0002,
            latency: Latency::around(Duration::from_millis(200)),
            season: 0.0,
            dispersion: 1.0,
            retries: 1.0,
            score: None,
            agreement: 0.97,
            segments: Vec::new(),
            faults: Vec::new(),
        }
    }

    /// With another part of calls that fail.
    #[must_use]
    pub const fn errors(mut self, rate: f64) -> Self {
        self.errors = rate;
        self
    }

    /// With another part of calls that time out.
    #[must_use]
    pub const fn timeouts(mut self, rate: f64) -> Self {
        self.timeouts = rate;
        self
    }

    /// With another law of latency.
    #[must_use]
    pub const fn latency(mut self, law: Latency) -> Self {
        self.latency = law;
        self
    }

    /// With a rise and fall of traffic in the course of a day.
    #[must_use]
    pub const fn season(mut self, amplitude: f64) -> Self {
        self.season = amplitude;
        self
    }

    /// With traffic that comes in crowds.
    #[must_use]
    pub const fn dispersion(mut self, dispersion: f64) -> Self {
        self.dispersion = dispersion;
        self
    }

    /// With clients that call again when a call fails.
    #[must_use]
    pub const fn retries(mut self, in_a_row: f64) -> Self {
        self.retries = in_a_row;
        self
    }

    /// With scores of this mean and standard deviation.
    #[must_use]
    pub const fn score(mut self, mean: f64, deviation: f64) -> Self {
        self.score = Some((mean, deviation));
        self
    }

    /// With another agreement.
    #[must_use]
    pub const fn agreement(mut self, agreement: f64) -> Self {
        self.agreement = agreement;
        self
    }

    /// With segments of these parts of the traffic, which add up to 1.
    #[must_use]
    pub fn segments(mut self, parts: impl Into<Vec<f64>>) -> Self {
        self.segments = parts.into();
        self
    }

    /// With one more fault.
    #[must_use]
    pub fn fault(mut self, fault: Fault) -> Self {
        self.faults.push(fault);
        self
    }

    /// Whether such a climate can be.
    ///
    /// # Errors
    ///
    /// [`ClimateError`] naming the value and what it should be.
    pub fn check(&self) -> Result<(), ClimateError> {
        let within = |what, value: f64, low: f64, high: f64, expected| {
            if (low..=high).contains(&value) {
                Ok(())
            } else {
                Err(ClimateError::Value { what, value, expected })
            }
        };
        within("rate", self.rate, 0.0, 1e9, "from 0 to 1000000000 requests a second")?;
        within("errors", self.errors, 0.0, 1.0, "from 0 to 1")?;
        within("timeouts", self.timeouts, 0.0, 1.0, "from 0 to 1")?;
        let bad = self.errors + self.timeouts;
        within("errors and timeouts together", bad, 0.0, 1.0, "at most 1")?;
        within("season", self.season, 0.0, 1.0, "from 0 to 1")?;
        within("dispersion", self.dispersion, 1.0, 1e6, "from 1 to 1000000")?;
        within("retries", self.retries, 1.0, 1e3, "from 1 to 1000")?;
        within("agreement", self.agreement, 0.0, 1.0, "from 0 to 1")?;
        if let Some((mean, deviation)) = self.score {
            within("score mean", mean, -1e6, 1e6, "from -1000000 to 1000000")?;
            within("score deviation", deviation, 0.0, 1e6, "from 0 to 1000000")?;
        }
        if !self.segments.is_empty() {
            let sum: f64 = self.segments.iter().sum();
            within("parts of the segments together", sum, 1.0 - 1e-6, 1.0 + 1e-6, "1")?;
            for part in &self.segments {
                within("part of a segment", *part, 0.0, 1.0, "from 0 to 1")?;
            }
            within("number of segments", self.segments.len() as f64, 0.0, 64.0, "at most 64")?;
        }
        if !self.latency.is_usable() {
            return Err(ClimateError::Latency { law: self.latency });
        }
        for (at, fault) in self.faults.iter().enumerate() {
            let segment = fault.segment.is_none_or(|segment| segment < self.segments.len());
            if !(fault.is_usable() && segment) {
                return Err(ClimateError::Fault { number: at + 1, fault: Box::new(*fault) });
            }
        }
        Ok(())
    }

    /// How an arm does at `at` in a segment.
    #[must_use]
    fn weather(&self, at: Duration, arm: Arm, segment: Option<usize>) -> Weather {
        let mut weather = Weather {
            errors: self.errors,
            timeouts: self.timeouts,
            hangs: 0.0,
            slowness: 1.0,
            score: 0.0,
            agreement: self.agreement,
            lost: 0.0,
            nan: false,
        };
        for fault in &self.faults {
            let here = fault.segment.is_none() || fault.segment == segment;
            let part = fault.intensity(at);
            if part <= 0.0 || !here || !fault.hits(arm) {
                continue;
            }
            match fault.kind {
                Kind::ErrorsTimes(times) => weather.errors *= 1.0 + (times - 1.0) * part,
                Kind::Errors(rate) => weather.errors += rate * part,
                Kind::Timeouts(rate) => weather.timeouts += rate * part,
                Kind::Hangs(rate) => {
                    weather.hangs = 1.0 - (1.0 - weather.hangs) * (1.0 - rate * part)
                }
                Kind::LatencyTimes(times) => weather.slowness *= 1.0 + (times - 1.0) * part,
                Kind::ScoreDrop(drop) => weather.score -= drop * part,
                Kind::Agreement(rate) => weather.agreement += (rate - weather.agreement) * part,
                Kind::Lost(rate) => weather.lost = 1.0 - (1.0 - weather.lost) * (1.0 - rate * part),
                Kind::NanScores => weather.nan = true,
                Kind::TrafficTimes(_) | Kind::ClockJump(_) | Kind::Restart => {}
            }
        }
        weather.timeouts = weather.timeouts.clamp(0.0, 1.0);
        weather.errors = weather.errors.clamp(0.0, 1.0 - weather.timeouts);
        weather
    }

    /// Requests a second at `at`.
    fn rate_at(&self, at: Duration) -> f64 {
        let day = at.as_secs_f64() / 86_400.0 * std::f64::consts::TAU;
        let mut rate = self.rate * (1.0 + self.season * day.sin());
        for fault in &self.faults {
            if let Kind::TrafficTimes(times) = fault.kind {
                rate *= 1.0 + (times - 1.0) * fault.intensity(at);
            }
        }
        if self.is_away(at) { 0.0 } else { rate.max(0.0) }
    }

    /// Whether the process is away at `at`.
    #[must_use]
    pub fn is_away(&self, at: Duration) -> bool {
        let away = |fault: &Fault| fault.kind == Kind::Restart && fault.intensity(at) > 0.0;
        self.faults.iter().any(away)
    }

    /// How far the clock is off at `at`, in seconds.
    #[must_use]
    pub fn clock_error(&self, at: Duration) -> f64 {
        let jump = |fault: &Fault| match fault.kind {
            Kind::ClockJump(seconds) if at >= fault.from => Some(seconds),
            _ => None,
        };
        self.faults.iter().filter_map(jump).sum()
    }

    /// The next time after `at` at which something changes; `None` when nothing will.
    #[must_use]
    pub fn next_edge(&self, at: Duration) -> Option<Duration> {
        self.faults.iter().filter_map(|fault| fault.next_edge(at)).min()
    }

    /// When everything that goes wrong is over; `None` when it never is.
    #[must_use]
    pub fn calm_from(&self) -> Option<Duration> {
        self.faults.iter().try_fold(Duration::ZERO, |last, fault| Some(last.max(fault.ends()?)))
    }
}

/// How an arm does at a moment.
#[derive(Clone, Copy, Debug)]
struct Weather {
    errors: f64,
    timeouts: f64,
    hangs: f64,
    slowness: f64,
    /// Added to the mean score.
    score: f64,
    agreement: f64,
    lost: f64,
    nan: bool,
}

/// What users met in a batch, or in many.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Toll {
    /// Requests the baseline served.
    pub baseline: u64,
    /// Requests the candidate served.
    pub candidate: u64,
    /// Errors and timeouts of the candidate that users met, and calls of it that hung.
    pub bad: u64,
    /// How many of these the baseline would have given them: expected, or known from a trace.
    pub bad_anyway: f64,
    /// Seconds by which the candidate's answers came later than the baseline's would have, less
    /// those by which they came sooner: expected, or known from a trace.
    pub waited: f64,
}

impl Toll {
    /// Bad answers that users met and would not have met without the rollout.
    #[must_use]
    pub fn harm(&self) -> f64 {
        self.bad as f64 - self.bad_anyway
    }

    /// Adds another.
    pub fn add(&mut self, other: &Self) {
        self.baseline += other.baseline;
        self.candidate += other.candidate;
        self.bad += other.bad;
        self.bad_anyway += other.bad_anyway;
        self.waited += other.waited;
    }
}

/// A climate with a seed: a source of batches.
///
/// ```
/// use pilotage::clock::Moment;
/// use pilotage::share::TrafficShare;
/// use pilotage::sim::world::{Climate, World};
/// use std::time::Duration;
///
/// let mut world = World::new(Climate::new(100.0), 7)?;
/// let minute = Duration::from_secs(60);
/// let (seen, toll) = world.batch(Duration::ZERO, minute, Moment::from_secs(60), TrafficShare::HALF, false);
/// assert_eq!(seen.live.arms.len(), 2);
/// assert!((5_000..7_000).contains(&(toll.baseline + toll.candidate)));
/// # Ok::<(), pilotage::sim::world::ClimateError>(())
/// ```
#[derive(Clone, Debug)]
pub struct World {
    climate: Climate,
    rng: Rng,
    /// Latencies by how slow everything is, as bits; few, since faults change in steps.
    tables: HashMap<u64, Arc<LatencyTable>>,
}

impl World {
    /// The world of this climate that `seed` determines.
    ///
    /// # Errors
    ///
    /// [`ClimateError`] when there can be no such climate.
    pub fn new(climate: Climate, seed: u64) -> Result<Self, ClimateError> {
        climate.check()?;
        Ok(Self { climate, rng: Rng::new(seed), tables: HashMap::new() })
    }

    /// The climate.
    #[must_use]
    pub const fn climate(&self) -> &Climate {
        &self.climate
    }

    /// The same world from now on, with one more fault.
    ///
    /// # Errors
    ///
    /// [`ClimateError`] when the fault cannot happen.
    pub fn with_fault(mut self, fault: Fault) -> Result<Self, ClimateError> {
        self.climate.faults.push(fault);
        self.climate.check()?;
        Ok(self)
    }

    /// What `span` brings from `at` on, while the candidate has `share`, and what users met in it.
    /// The batch says that it ends at `to`, whatever that clock may think.
    ///
    /// What is usual does not change within a batch: it is that of its middle. Let batches end
    /// where [`Climate::next_edge`] says.
    pub fn batch(
        &mut self,
        at: Duration,
        span: Duration,
        to: Moment,
        share: TrafficShare,
        shadow: bool,
    ) -> (Seen, Toll) {
        let middle = at.saturating_add(span / 2);
        let calls = self.calls(self.climate.rate_at(middle) * span.as_secs_f64());
        let mut batch = Batch::default();
        let parts = self.climate.segments.clone();
        if parts.is_empty() {
            self.segment(middle, None, calls, share, shadow, &mut batch);
        }
        let (mut left, mut part_left) = (calls, 1.0);
        for (segment, part) in parts.into_iter().enumerate() {
            let here = self.rng.binomial(left, (part / part_left).min(1.0));
            (left, part_left) = (left - here, (part_left - part).max(f64::MIN_POSITIVE));
            self.segment(middle, Some(segment), here, share, shadow, &mut batch);
        }
        let arms = vec![batch.baseline, batch.candidate];
        let mut live = Delta::new(to, span, Epoch::default(), arms);
        live.segments = batch.segments;
        let mut seen = Seen::live(share, live);
        if shadow {
            seen = seen.with_shadow(batch.shadow);
        }
        (seen, batch.toll)
    }

    /// How many requests come where so many are expected. A gamma number of Poisson numbers is
    /// negative binomial, and adds up over time to the same however it is cut.
    fn calls(&mut self, expected: f64) -> u64 {
        let more = self.climate.dispersion - 1.0;
        if more <= 0.0 || expected <= 0.0 {
            return self.rng.poisson(expected);
        }
        let crowd = self.rng.gamma(expected / more) * more;
        self.rng.poisson(crowd)
    }

    fn segment(
        &mut self,
        at: Duration,
        segment: Option<usize>,
        calls: u64,
        share: TrafficShare,
        shadow: bool,
        batch: &mut Batch,
    ) {
        let usual = self.climate.weather(at, Arm::BASELINE, segment);
        let now = self.climate.weather(at, Arm::CANDIDATE, segment);
        let on_candidate = self.rng.binomial(calls, share.fraction());
        let baseline = self.arm(&usual, calls - on_candidate);
        let candidate = self.arm(&now, on_candidate);
        let toll = &mut batch.toll;
        toll.baseline += baseline.calls();
        toll.candidate += candidate.calls();
        toll.bad += candidate.errors + candidate.timeouts + candidate.hung;
        let bad_anyway = usual.hangs + (1.0 - usual.hangs) * (usual.errors + usual.timeouts);
        toll.bad_anyway += candidate.calls() as f64 * bad_anyway;
        let later = self.table(now.slowness).mean() - self.table(usual.slowness).mean();
        toll.waited += candidate.ok as f64 * later / 1e9;
        let ended = baseline;
        let baseline = self.record(&usual, baseline, &mut batch.baseline);
        let candidate = self.record(&now, candidate, &mut batch.candidate);
        if shadow {
            self.shadow(&usual, &now, calls, &ended, batch);
        }
        if let Some(segment) = segment {
            let number = Segment::new((segment + 1) as u8);
            batch.segments.push(SegmentCounts::new(number, vec![baseline, candidate]));
        }
    }

    /// How `calls` of an arm end.
    fn arm(&mut self, weather: &Weather, calls: u64) -> Ends {
        let hung = if weather.hangs > 0.0 { self.rng.binomial(calls, weather.hangs) } else { 0 };
        let calls = calls - hung;
        let timeouts = self.rng.binomial(calls, weather.timeouts);
        let left = calls - timeouts;
        let of_left = weather.errors / (1.0 - weather.timeouts).max(f64::MIN_POSITIVE);
        let failing = self.rng.binomial(left, of_left);
        let mut errors = failing;
        if self.climate.retries > 1.0 && failing > 0 {
            // Each client that fails calls again a geometric number of times; their sum is a
            // gamma number of Poisson numbers.
            let again = self.rng.gamma(failing as f64) * (self.climate.retries - 1.0);
            errors += self.rng.poisson(again);
        }
        Ends { ok: left - failing, failing, errors, timeouts, hung }
    }

    /// What of it is recorded.
    fn record(&mut self, weather: &Weather, mut ends: Ends, counts: &mut ArmCounts) -> Tally {
        if weather.lost > 0.0 {
            let kept = 1.0 - weather.lost;
            let rng = &mut self.rng;
            ends.ok = rng.binomial(ends.ok, kept);
            let again = rng.binomial(ends.errors - ends.failing, kept);
            ends.failing = rng.binomial(ends.failing, kept);
            ends.errors = ends.failing + again;
            ends.timeouts = rng.binomial(ends.timeouts, kept);
            ends.hung = rng.binomial(ends.hung, kept);
        }
        let mut tally = Tally::default();
        tally.ended[Status::Ok.index()] = ends.ok;
        tally.ended[Status::Error.index()] = ends.errors;
        tally.ended[Status::Timeout.index()] = ends.timeouts;
        for (counted, here) in counts.ended.iter_mut().zip(tally.ended) {
            *counted += here;
        }
        counts.started += ends.calls();
        if self.climate.retries > 1.0 {
            counts.subjects.exposed += ends.ok + ends.failing + ends.timeouts;
            counts.subjects.failed += ends.failing;
            counts.subjects.timed_out += ends.timeouts;
        }
        let table = self.table(weather.slowness);
        table.draw(&mut self.rng, ends.ok, &mut counts.latency);
        if let Some((mean, deviation)) = self.climate.score {
            // Two values, each half of the time, have this mean and deviation, and their sum over
            // any number of answers is a binomial.
            let score = &mut tally.score;
            if weather.nan {
                score.rejected = ends.ok;
            } else {
                let mean = mean + weather.score;
                let high = self.rng.binomial(ends.ok, 0.5) as f64;
                let (above, below) = (mean + deviation, mean - deviation);
                let low = ends.ok as f64 - high;
                score.count = ends.ok;
                score.sum = high * above + low * below;
                score.sum_of_squares = high * above * above + low * below * below;
            }
            counts.score.merge(score);
        }
        tally
    }

    /// The candidate on copies of the same requests.
    fn shadow(
        &mut self,
        usual: &Weather,
        now: &Weather,
        calls: u64,
        baseline: &Ends,
        batch: &mut Batch,
    ) {
        let candidate = self.arm(now, calls);
        let kept = self.rng.binomial(calls, 1.0 - now.lost);
        let both = baseline.ok as f64 / (calls as f64).max(1.0);
        let pairs = self.rng.binomial(candidate.ok.min(kept), both);
        let counts = &mut batch.shadow;
        counts.sampled += calls;
        counts.run += kept;
        counts.skipped += calls - kept;
        counts.pairs += pairs;
        counts.matches += self.rng.binomial(pairs, now.agreement);
        if now.lost > 0.0 {
            let theirs = Weather { lost: now.lost, ..*usual };
            self.record(&theirs, *baseline, &mut counts.baseline);
        } else {
            // The same calls as those that were live: nobody is on the candidate in a shadow.
            counts.baseline = batch.baseline.clone();
        }
        // A shadow's call is counted when it ends.
        self.record(now, Ends { hung: 0, ..candidate }, &mut counts.candidate);
    }

    fn table(&mut self, slowness: f64) -> Arc<LatencyTable> {
        if self.tables.len() >= MOST_TABLES {
            self.tables.clear();
        }
        let law = &self.climate.latency;
        let table = self.tables.entry(slowness.to_bits());
        Arc::clone(table.or_insert_with(|| Arc::new(LatencyTable::new(law, slowness))))
    }
}

/// How calls ended. `errors` are calls, `failing` the clients that made them.
#[derive(Clone, Copy, Debug)]
struct Ends {
    ok: u64,
    failing: u64,
    errors: u64,
    timeouts: u64,
    hung: u64,
}

impl Ends {
    const fn calls(&self) -> u64 {
        self.ok + self.errors + self.timeouts + self.hung
    }
}

#[derive(Default)]
struct Batch {
    baseline: ArmCounts,
    candidate: ArmCounts,
    shadow: ShadowCounts,
    segments: Vec<SegmentCounts>,
    toll: Toll,
}

const MOST_TABLES: usize = 64;
