//! How many calls the candidate may have at once.
//!
//! A model that hangs or is a hundred times slower holds what serves everybody: threads, connections,
//! memory. A bulkhead keeps the damage where it belongs: the candidate may have so many calls at once,
//! and a call that was assigned to it and finds no room is answered by the baseline's model. It stays a
//! call of the candidate in all counts (intention to treat), with a count of its own
//! ([`ArmCounts::diverted`]); whom chance assigned to an arm is compared, or the comparison would be of
//! quiet moments on one arm with all moments on the other. Only its time is no time of the candidate's.
//!
//! **By default** the router learns `P`, the most calls it has had at once in the last five to ten
//! minutes, and the candidate has at most
//!
//! > min(P − 1, share·P + 3·√(share·(1 − share)·P)), rounded up, and at least 1.
//!
//! The second is what chance gives it of `P` calls once in a thousand times; the first leaves one
//! thread of a pool to everybody else. At 75 % and more of all traffic there is no bound by default:
//! there are few to protect, and a candidate that hangs is the judge's to take back. `P` is learned
//! where it would matter (when a call finds no room by what is known) and at each drain.
//!
//! Of a *healthy* candidate so many of its calls are diverted by that, by simulation of a pool whose
//! threads are never idle (what follows is counted by a test below):
//!
//! | threads | 5 % | 25 % | 50 % |
//! |--|--|--|--|
//! | 2 | 4.7 % | 20 % | 33 % |
//! | 4 | 0.7 % | 1.1 % | 6.8 % |
//! | 8 | 0.3 % | 0.1 % | 0.4 % |
//! | 32 | 0.2 % | < 0.1 % | < 0.1 % |
//!
//! A pool of two threads cannot both be kept from a candidate and be given to it. Where threads are
//! busy half of the time, it is half of that or less from 4 threads on.
//!
//! [`ArmCounts::diverted`]: crate::observe::snapshot::ArmCounts::diverted

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Moment;
use crate::route::switch::{Entry, Split};
use crate::share::TrafficShare;

/// How many calls of the candidate there may be at once; those beyond are answered by the baseline's
/// model and counted as [diverted](crate::observe::snapshot::ArmCounts::diverted). Further arms are
/// not bounded.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum CandidateLimit {
    /// What chance gives it of all calls the router was seen to serve at once, and never all of them;
    /// no bound where it has 75 % of the traffic or more. See [the module](self).
    #[default]
    Automatic,
    /// So many, at any share. At least 1.
    Calls(u32),
    /// This part of what the router was seen to serve at once, rounded up, at any share; at least one
    /// call, and never all. Above 0.
    Part(TrafficShare),
    /// As many as come. Nothing protects the baseline's calls from a candidate that hangs until it is
    /// taken back.
    Unlimited,
}

/// The bound, and what it is learned from.
#[derive(Debug)]
pub(crate) struct Limiter {
    limit: CandidateLimit,
    /// The most calls at once in this span of time and in the last one.
    peaks: [AtomicU64; 2],
    /// When this span began, in nanoseconds.
    since: AtomicU64,
}

impl Limiter {
    pub(crate) const fn new(limit: CandidateLimit, now: Moment) -> Self {
        let peaks = [AtomicU64::new(0), AtomicU64::new(0)];
        Self { limit, peaks, since: AtomicU64::new(now.as_nanos()) }
    }

    pub(crate) const fn limit(&self) -> CandidateLimit {
        self.limit
    }

    /// How many calls the candidate may have under this split, by what is known.
    pub(crate) fn most(&self, split: Split) -> u64 {
        most(self.limit, split, self.peak())
    }

    /// So many calls are under way. Says whether that is more than was known.
    pub(crate) fn learn(&self, at_once: u64) -> bool {
        let known = self.peak();
        self.peaks[0].fetch_max(at_once, Ordering::Relaxed);
        at_once > known
    }

    /// As [`Limiter::learn`], at a drain: what was learned long ago is forgotten.
    pub(crate) fn learn_at(&self, now: Moment, at_once: u64) {
        let since = self.since.load(Ordering::Relaxed);
        if now.since(Moment::from_nanos(since)) >= REMEMBERED {
            // Of several that drain one turns the page.
            let turns = self.since.compare_exchange(
                since,
                now.as_nanos(),
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            if turns.is_ok() {
                let ended = self.peaks[0].swap(0, Ordering::Relaxed);
                self.peaks[1].store(ended, Ordering::Relaxed);
            }
        }
        self.peaks[0].fetch_max(at_once, Ordering::Relaxed);
    }

    fn peak(&self) -> u64 {
        let [now, before] = self.peaks.each_ref().map(|peak| peak.load(Ordering::Relaxed));
        now.max(before)
    }
}

/// The bound of a router that was seen to serve `peak` calls at once.
fn most(limit: CandidateLimit, split: Split, peak: u64) -> u64 {
    let whole = peak as f64;
    let calls = match limit {
        CandidateLimit::Unlimited => return u64::MAX,
        CandidateLimit::Calls(calls) => return u64::from(calls).max(1),
        CandidateLimit::Automatic if split.is_nearly_all() => return u64::MAX,
        CandidateLimit::Part(part) => part.fraction() * whole,
        CandidateLimit::Automatic => {
            let drawn = split.candidate.fraction() * split.exposure.fraction();
            // How much of the traffic an audience is, nobody knows.
            let share = if split.entry == Entry::Audience { drawn.max(0.5) } else { drawn };
            share * whole + 3.0 * (share * (1.0 - share) * whole).sqrt()
        }
    };
    (calls.ceil() as u64).min(peak.saturating_sub(1)).max(1)
}

/// How long what was learned is kept, at least.
const REMEMBERED: Duration = Duration::from_secs(300);

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sim::rng::Rng;

    fn split(percent: f64) -> Split {
        Split::default().shifted(TrafficShare::percent(percent).unwrap())
    }

    #[test]
    fn a_bound_is_what_chance_gives_and_never_all() {
        let automatic = |percent, peak| most(CandidateLimit::Automatic, split(percent), peak);
        assert_eq!([0, 1, 2, 3].map(|peak| automatic(25.0, peak)), [1, 1, 1, 2]);
        assert_eq!((automatic(5.0, 8), automatic(25.0, 8), automatic(50.0, 8)), (3, 6, 7));
        assert_eq!((automatic(25.0, 64), automatic(5.0, 1_000)), (27, 71));
        assert_eq!((automatic(74.9, 100), automatic(75.0, 100)), (88, u64::MAX));
        // One in ten takes part: most of the traffic is to be protected, whatever the share.
        let few = split(100.0).exposed(TrafficShare::percent(10.0).unwrap());
        assert_eq!(most(CandidateLimit::Automatic, few, 100), 19);
        let listed = split(1.0).entered_by(Entry::Audience);
        assert_eq!(most(CandidateLimit::Automatic, listed, 100), 65);
        let part = CandidateLimit::Part(TrafficShare::percent(10.0).unwrap());
        assert_eq!((most(part, split(100.0), 95), most(part, split(1.0), 1)), (10, 1));
        let calls = CandidateLimit::Calls(4);
        assert_eq!((most(calls, split(100.0), 2), most(calls, split(1.0), 900)), (4, 4));
        assert_eq!(most(CandidateLimit::Unlimited, split(5.0), 2), u64::MAX);
    }

    #[test]
    fn what_was_served_at_once_is_forgotten_after_ten_minutes_and_not_after_five() {
        let limiter = Limiter::new(CandidateLimit::Automatic, Moment::ZERO);
        assert!(limiter.learn(10) && !limiter.learn(10));
        limiter.learn_at(Moment::from_secs(299), 3);
        limiter.learn_at(Moment::from_secs(300), 2);
        assert_eq!(limiter.peak(), 10);
        limiter.learn_at(Moment::from_secs(599), 4);
        assert_eq!(limiter.peak(), 10);
        limiter.learn_at(Moment::from_secs(600), 1);
        assert_eq!(limiter.peak(), 4);
    }

    /// The part of a healthy candidate's calls that are diverted, where `threads` serve calls that
    /// come at this part of what they can do at most, and wait in line. Times are exponential.
    fn diverted(threads: usize, percent: f64, load: f64, seed: u64) -> f64 {
        let (limiter, split) =
            (Limiter::new(CandidateLimit::Automatic, Moment::ZERO), split(percent));
        let mut rng = Rng::new(seed);
        let time = |rng: &mut Rng| -rng.unit().max(1e-12).ln();
        // When each thread is free again, and whether the candidate has it until then.
        let mut busy = vec![(0.0_f64, false); threads];
        let (mut now, mut diverted, mut assigned) = (0.0_f64, 0_u64, 0_u64);
        for _ in 0..40_000 {
            now += time(&mut rng) / (threads as f64 * load);
            let free = busy.iter().map(|(until, _)| *until).fold(f64::INFINITY, f64::min);
            let begins = now.max(free);
            let at = busy.iter().position(|(until, _)| *until <= begins).unwrap();
            let others = || busy.iter().filter(|(until, _)| *until > begins);
            let mut on_candidate = rng.chance(split.candidate.fraction());
            if on_candidate {
                assigned += 1;
                let inside = others().filter(|(_, candidate)| *candidate).count() as u64;
                let full = inside >= limiter.most(split)
                    && !(limiter.learn(others().count() as u64 + 1)
                        && inside < limiter.most(split));
                diverted += u64::from(full);
                on_candidate = !full;
            }
            busy[at] = (begins + time(&mut rng), on_candidate);
        }
        diverted as f64 / assigned as f64
    }

    #[test]
    fn of_a_healthy_candidate_only_a_tiny_and_busy_pool_diverts_calls() {
        let loads = [4.0, 0.5];
        let table = [
            (2, [[0.055, 0.055], [0.22, 0.22], [0.35, 0.35]]),
            (4, [[0.012, 0.01], [0.02, 0.02], [0.08, 0.05]]),
            (8, [[0.012, 0.01], [0.004, 0.004], [0.008, 0.004]]),
            (32, [[0.004, 0.004], [0.001, 0.001], [0.001, 0.001]]),
        ];
        for (threads, rows) in table {
            for (percent, most) in [5.0, 25.0, 50.0].into_iter().zip(rows) {
                for (load, most) in loads.into_iter().zip(most) {
                    let part = diverted(threads, percent, load, 7);
                    println!("{threads} threads, {percent} %, load {load}: {part:.4}");
                    assert!(part < most, "{threads} threads, {percent} %, load {load}: {part}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn the_candidate_never_has_all_of_what_is_served(
            ppm in 0_u32..=1_000_000, peak in 0..100_000_u64,
        ) {
            let split = Split::default().shifted(TrafficShare::from_ppm(ppm).unwrap());
            for limit in [CandidateLimit::Automatic, CandidateLimit::Part(split.candidate)] {
                let most = most(limit, split, peak);
                let unbounded = limit == CandidateLimit::Automatic && split.is_nearly_all();
                prop_assert!(most >= 1 && (unbounded || most < peak.max(2)), "{most}");
            }
        }
    }
}
