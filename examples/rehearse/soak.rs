//! Years of random rollouts in random worlds with random faults, held to the promises.
//!
//! 1. No promotion without evidence: a promoted candidate has served the samples every stage asks
//!    for, was seen in every stage, and was promoted by the machine; where no data came to the end,
//!    or scores were no numbers, nobody was promoted.
//! 2. No worse candidate is promoted beyond the stated error: of candidates beyond a limit from
//!    beginning to end, at most β are, and what chance adds.
//! 3. Every rollout comes to an end, or says that it holds, once nothing goes wrong any more.
//! 4. No healthy candidate is taken back beyond the stated error α, and what chance adds. Only an
//!    incident of both arms at 100 %, where nothing is left to compare with, is counted apart.
//! 5. Nothing harms users after a rollback: the candidate serves nobody then.

use std::time::{Duration, SystemTime};

use pilotage::machine::Transition;
use pilotage::rollout::plan::Plan;
use pilotage::rollout::stage::StageKind;
use pilotage::share::TrafficShare;
use pilotage::sim::fault::{Fault, Kind, Whom};
use pilotage::sim::latency::Latency;
use pilotage::sim::rehearsal::{Course, Looks, Rehearsal};
use pilotage::sim::rng::Rng;
use pilotage::sim::world::Climate;
use pilotage::stats::interval::clopper_pearson_interval;
use pilotage::stats::proportion::Proportion;
use serde::Serialize;

use crate::options::Options;
use crate::workers::{cpu_seconds, each};
use crate::{Failure, write_json};

/// What a candidate is, over its whole rollout.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Truth {
    /// As good as the baseline, whatever befalls both.
    Healthy,
    /// Beyond a limit from the beginning to the end.
    Worse,
    /// Neither: bad for a while, or in between.
    Mixed,
    /// Nothing of it is ever recorded, from some time before the first promotion on.
    Unseen,
}

/// One rollout that was rehearsed.
#[derive(Debug, Serialize)]
pub struct Rolled {
    seed: u64,
    truth: Truth,
    end: &'static str,
    /// Whether it was taken back from everybody in a world where something befell both arms.
    incident: bool,
    years: f64,
    /// The promise it broke, if it broke one by itself.
    broken: Option<String>,
}

#[derive(Debug, Default, Serialize)]
pub struct Soaked {
    seeds: Vec<u64>,
    rollouts: u64,
    years: f64,
    cpu_seconds: f64,
    healthy: Count,
    worse: Count,
    unseen: Count,
    mixed: Count,
    /// The chance of a false rollback, and of a false promotion, that is promised.
    alpha: f64,
    beta: f64,
    broken: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Count {
    rollouts: u64,
    stopped: u64,
    promoted: u64,
    held: u64,
    /// Taken back from everybody when something befell both arms. Nothing is left to compare with
    /// then, so no part of α is claimed for it.
    in_an_incident: u64,
}

pub fn run(options: &Options, years: f64) -> Result<u8, Failure> {
    if !(0.0..=1e5).contains(&years) {
        return Err(Failure::usage(format!("--soak {years}: give from 0 to 100000 years")));
    }
    let seeds = match options.seed {
        Some(seed) => vec![seed],
        None => vec![FIXED, fresh()],
    };
    println!("soak of {years} rollout-years, seeds {seeds:?} (--seed N repeats one)");
    let told = soak(&seeds, years, options.threads);
    if let Some(file) = &options.json {
        write_json(file, &told)?;
    }
    told.print();
    Ok(u8::from(!told.broken.is_empty()))
}

/// As many rollouts as make `years` together, half of them from each of two seeds.
pub fn soak(seeds: &[u64], years: f64, threads: usize) -> Soaked {
    let mut told = Soaked { seeds: seeds.to_vec(), ..Soaked::default() };
    (told.alpha, told.beta) = (Plan::standard().alpha(), Plan::standard().beta());
    let before = cpu_seconds();
    let part = years / seeds.len().max(1) as f64;
    for seed in seeds {
        let (mut done, mut next) = (0.0, 0_u64);
        while done < part {
            let all = each(CHUNK, threads, |run| rollout(seed.wrapping_add((next + run) << 20)));
            next += CHUNK;
            for rolled in all {
                done += rolled.years;
                told.add(rolled);
            }
        }
    }
    told.cpu_seconds = cpu_seconds() - before;
    told.check();
    told
}

/// A seed nobody has seen.
fn fresh() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "a fresh seed, printed, from the clock")]
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(FIXED, |since| since.as_secs())
}

/// One rollout, whose plan, world and faults `seed` determines.
pub fn rollout(seed: u64) -> Rolled {
    let mut rng = Rng::new(seed);
    let plan = plan(&mut rng);
    let length: Duration = plan.stages().iter().map(|stage| stage.at_least).sum();
    let (mut climate, truth) = world(&mut rng, length);
    climate.retries = if rng.chance(0.2) { 1.0 + 3.0 * rng.unit() } else { 1.0 };
    let (finest, coarsest) = (Duration::from_secs(60), Duration::from_secs(3600));
    let looks = Looks { finest, coarsest, part: 6 };
    let harms = |fault: &Fault| {
        fault.whom == Whom::Both
            && matches!(fault.kind, Kind::ErrorsTimes(_) | Kind::LatencyTimes(_))
    };
    let shaken = climate.faults.iter().any(harms);
    let calm = climate.calm_from().unwrap_or(Duration::ZERO);
    let Ok(mut rehearsal) = Rehearsal::begin(plan.clone(), climate, seed, looks) else {
        return Rolled::odd(seed, truth, "a rollout that cannot begin");
    };
    // Once all is calm, a rollout comes to an end, or to the longest time of a stage and a hold.
    let longest = plan.stages().iter().map(|stage| stage.at_most).max().unwrap_or(length);
    let horizon = calm.saturating_add(longest.saturating_mul(plan.stages().len() as u32 + 1));
    rehearsal.run_until(calm);
    while rehearsal.at() < horizon && !rehearsal.is_holding() && rehearsal.step() {}
    let course = rehearsal.course();
    let broken = broken(&plan, &course, truth, rehearsal.rollout().share());
    let full = |name: &str| {
        let mut stages = plan.stages().iter();
        stages.any(|own| own.kind == StageKind::Full && own.name.as_str() == name)
    };
    let incident = course.is_stopped() && shaken && full(&course.stage);
    let end =
        course.end.map_or(if course.holding.is_some() { "held" } else { "open" }, |e| e.word());
    Rolled { seed, truth, end, incident, years: course.at.as_secs_f64() / YEAR, broken }
}

impl Rolled {
    fn odd(seed: u64, truth: Truth, what: &str) -> Self {
        Self {
            seed,
            truth,
            end: "none",
            incident: false,
            years: 0.0,
            broken: Some(what.to_owned()),
        }
    }
}

fn plan(rng: &mut Rng) -> Plan {
    if rng.chance(0.75) { Plan::standard() } else { Plan::quick() }
}

/// A world, and what the candidate is in it.
fn world(rng: &mut Rng, length: Duration) -> (Climate, Truth) {
    let rate = 10.0_f64.powf(-0.5 + 3.0 * rng.unit());
    let latency = Latency::around(Duration::from_millis(10 + rng.below(400)))
        .sigma(0.3 + 0.6 * rng.unit())
        .heavy_tail(if rng.chance(0.3) { 0.03 } else { 0.0 });
    let mut climate = Climate::new(rate)
        .errors(10.0_f64.powf(-4.0 + 2.5 * rng.unit()))
        .timeouts(10.0_f64.powf(-5.0 + 2.0 * rng.unit()))
        .latency(latency)
        .season(if rng.chance(0.5) { 0.7 * rng.unit() } else { 0.0 })
        .dispersion(if rng.chance(0.3) { 1.0 + 9.0 * rng.unit() } else { 1.0 })
        .agreement(0.93 + 0.07 * rng.unit());
    if rng.chance(0.3) {
        climate = climate.score(0.8, 0.1);
    }
    // What befalls everybody, healthy candidates too, and is over after a while.
    for _ in 0..rng.below(3) {
        let kind = match rng.below(6) {
            0 => Kind::ErrorsTimes(1.0 + 9.0 * rng.unit()),
            1 => Kind::LatencyTimes(1.0 + 2.0 * rng.unit()),
            2 => Kind::TrafficTimes(0.0),
            3 => Kind::TrafficTimes(0.2 + 3.0 * rng.unit()),
            4 => Kind::ClockJump(7_200.0 * (rng.unit() - 0.3)),
            _ => Kind::Restart,
        };
        climate = climate.fault(passing(rng, kind, length).hitting(Whom::Both));
    }
    let truth = match rng.below(4) {
        0 => Truth::Healthy,
        1 => Truth::Worse,
        2 => Truth::Mixed,
        _ => Truth::Unseen,
    };
    let worse = |rng: &mut Rng, climate: &Climate| match rng.below(5) {
        // At least three times the baseline's errors, and never a rate that nobody minds.
        0 => Kind::ErrorsTimes(((0.06 / climate.errors).max(3.0) * (1.0 + rng.unit())).min(9e3)),
        1 => Kind::Errors(0.06 + 0.3 * rng.unit()),
        2 => Kind::Timeouts(0.06 + 0.2 * rng.unit()),
        3 => Kind::Hangs(0.1 + 0.9 * rng.unit()),
        _ => Kind::LatencyTimes(1.8 + 3.0 * rng.unit()),
    };
    match truth {
        Truth::Healthy => {}
        Truth::Worse => {
            let kind = worse(rng, &climate);
            climate = climate.fault(Fault::new(kind));
        }
        Truth::Mixed => {
            let kind = worse(rng, &climate);
            let mut fault = passing(rng, kind, length);
            if rng.chance(0.3) {
                fault = fault.ramping(length / 8);
            } else if rng.chance(0.3) {
                fault = fault.pulsing(Duration::from_secs(300), Duration::from_secs(600));
            }
            climate = climate.fault(fault);
            if climate.score.is_some() {
                let fault = passing(rng, Kind::NanScores, length);
                climate = climate.fault(fault);
            }
        }
        // From the beginning, or from before the last third of the plan.
        Truth::Unseen => {
            let from = length.mul_f64(0.6 * rng.unit() * f64::from(u8::from(rng.chance(0.5))));
            climate = climate.fault(Fault::new(Kind::Lost(1.0)).from(from));
        }
    }
    (climate, truth)
}

/// A fault that begins some time during the plan and is over after a while.
fn passing(rng: &mut Rng, kind: Kind, length: Duration) -> Fault {
    let seconds = length.as_secs_f64();
    let lasting = match kind {
        Kind::Restart => 5.0 + 600.0 * rng.unit(),
        _ => seconds * (0.01 + 0.2 * rng.unit()),
    };
    let from = Duration::from_secs_f64(seconds * rng.unit());
    Fault::new(kind).from(from).lasting(Duration::from_secs_f64(lasting.max(1.0)))
}

/// The promise that a single rollout can break.
fn broken(plan: &Plan, course: &Course, truth: Truth, share: TrafficShare) -> Option<String> {
    if course.is_promoted() {
        let by_machine = |step: &Transition| step.who == "pilotage" || step.who == "rehearsal";
        if course.log.iter().any(|step| !by_machine(step)) {
            return Some(format!("promoted by somebody else: {:?}", course.log));
        }
        let stages = plan.stages();
        if course.log.len() != stages.len() + 1 {
            return Some(format!("{} steps of {} stages", course.log.len(), stages.len()));
        }
        let least: u64 = stages
            .iter()
            .filter(|stage| stage.share > TrafficShare::NONE)
            .map(|stage| stage.min_samples)
            .sum();
        if course.toll.candidate < least {
            return Some(format!("promoted after {} of {least} samples", course.toll.candidate));
        }
        if truth == Truth::Unseen {
            return Some(format!("promoted unseen: {}", course.reason));
        }
    } else if course.end.is_none() && course.holding.is_none() {
        return Some(format!(
            "neither an end nor a hold in stage {}: {}",
            course.stage, course.reason
        ));
    } else if course.end.is_some() && share > TrafficShare::NONE {
        return Some(format!("still serves {share} after its end"));
    }
    None
}

impl Soaked {
    fn add(&mut self, rolled: Rolled) {
        self.rollouts += 1;
        self.years += rolled.years;
        let count = match rolled.truth {
            Truth::Healthy => &mut self.healthy,
            Truth::Worse => &mut self.worse,
            Truth::Mixed => &mut self.mixed,
            Truth::Unseen => &mut self.unseen,
        };
        count.rollouts += 1;
        match rolled.end {
            "promoted" => count.promoted += 1,
            _ if rolled.incident => count.in_an_incident += 1,
            "rolled_back" | "refused" => count.stopped += 1,
            _ => count.held += 1,
        }
        if let Some(why) = rolled.broken {
            self.broken.push(format!("seed {}: {why}", rolled.seed));
        }
    }

    /// The promises that only many rollouts can break: a figure breaks one when its whole 99.9 %
    /// interval lies beyond it.
    fn check(&mut self) {
        let promises = [
            ("worse candidates promoted", self.worse.promoted, self.worse.rollouts, self.beta),
            ("healthy ones taken back", self.healthy.stopped, self.healthy.rollouts, self.alpha),
        ];
        for (what, events, runs, most) in promises {
            let low = Proportion::new(events, runs)
                .ok()
                .and_then(|seen| clopper_pearson_interval(seen, 0.002).ok())
                .map_or(0.0, |own| own.lo);
            if low > most {
                self.broken.push(format!("{what}: {events} of {runs}, {most} is promised"));
            }
        }
    }

    fn print(&self) {
        println!(
            "{:<28} {:>9} {:>9} {:>9} {:>9}",
            "candidates", "rollouts", "stopped", "promoted", "held"
        );
        let rows = [
            ("healthy", self.healthy),
            ("worse all along", self.worse),
            ("bad for a while", self.mixed),
            ("unseen", self.unseen),
        ];
        for (name, row) in rows {
            println!(
                "{name:<18} {:>9} {:>8} {:>9} {:>5} {:>8}",
                row.rollouts, row.stopped, row.promoted, row.held, row.in_an_incident
            );
        }
        println!(
            "{} rollouts, {:.1} rollout-years in {:.1} s of processor time: {:.0} an hour on one core",
            self.rollouts,
            self.years,
            self.cpu_seconds,
            self.years / self.cpu_seconds.max(1e-9) * 3600.0
        );
        for why in self.broken.iter().take(20) {
            println!("BROKEN {why}");
        }
        if self.broken.is_empty() {
            println!("every promise held");
        }
    }
}

const FIXED: u64 = 2024;
const CHUNK: u64 = 64;
const YEAR: f64 = 365.25 * 86_400.0;
