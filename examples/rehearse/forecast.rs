//! The questions before a deployment, answered by rehearsing it many times.

use std::time::Duration;

use pilotage::rollout::plan::Plan;
use pilotage::sim::fault::{Fault, Kind};
use pilotage::sim::forecast::{Chance, Forecast, Spread};
use pilotage::sim::rehearsal::{Course, Looks, Rehearsal, RehearsalError};
use serde::Serialize;

use crate::fault_text::shown;
use crate::numbers::{count, percent, seconds};
use crate::options::{Options, Scale};
use crate::workers::each;
use crate::{Failure, plan, write_json};

pub fn run(options: &Options) -> Result<u8, Failure> {
    let Scale::By(factor) = options.scale else {
        return Err(Failure::usage("--scale fit needs a --trace to fit"));
    };
    let journey = plan::scaled(&plan::load(&options.plan)?, factor)?;
    let rehearsals = Rehearsals::new(options, journey)?;
    let told = rehearsals.answer()?;
    if let Some(file) = &options.json {
        write_json(file, &told)?;
    }
    if options.json.as_deref() != Some("-") {
        told.print(&rehearsals);
    }
    Ok(0)
}

struct Rehearsals<'a> {
    options: &'a Options,
    plan: Plan,
    horizon: Duration,
    looks: Looks,
    seed: u64,
}

/// Everything that was found.
#[derive(Serialize)]
struct Told {
    plan: String,
    runs: u64,
    seed: u64,
    horizon_seconds: f64,
    /// The chance of a false rollback the plan promises at the most.
    alpha: f64,
    /// A candidate as good as the baseline, with what befalls both.
    healthy: Forecast,
    /// Where healthy candidates that were not promoted stood, and why.
    held: Vec<Held>,
    /// Faults from the beginning, or from when they say.
    faults: Vec<Row>,
    /// What a fault costs that begins at some hour.
    onset: Vec<Row>,
    simulated_years: f64,
    cpu_seconds: f64,
}

#[derive(Serialize)]
struct Held {
    stage: String,
    runs: u64,
    example: String,
}

#[derive(Serialize)]
struct Row {
    fault: String,
    stage: Option<String>,
    from_seconds: f64,
    forecast: Forecast,
}

/// A time of the rollout at which a fault is tried.
struct Onset {
    at: Duration,
    stage: String,
}

impl<'a> Rehearsals<'a> {
    fn new(options: &'a Options, plan: Plan) -> Result<Self, Failure> {
        let horizon = match options.days {
            Some(days) if (1e-4..=3650.0).contains(&days) => {
                Duration::from_secs_f64(days * 86_400.0)
            }
            Some(days) => {
                return Err(Failure::usage(format!("--days {days}: give from 0.0001 to 3650")));
            }
            None => plan::length(&plan).saturating_mul(4).max(Duration::from_secs(60)),
        };
        let mut looks = Looks::default();
        if let Some(look) = options.look {
            looks = Looks::every(look);
        }
        Ok(Self { options, plan, horizon, looks, seed: options.seed.unwrap_or(1) })
    }

    fn begin(&self, run: u64, faults: &[Fault]) -> Result<Rehearsal, RehearsalError> {
        let climate = self.options.climate.clone();
        let climate = faults.iter().fold(climate, |climate, fault| climate.fault(*fault));
        let seed = self.seed.wrapping_mul(1_000_003).wrapping_add(run);
        Rehearsal::begin(self.plan.clone(), climate, seed, self.looks)
    }

    /// What befalls both arms belongs to the world; the others are put on trial one by one.
    fn sorted_faults(&self) -> (Vec<Fault>, Vec<Fault>) {
        let tried = |fault: &Fault| {
            fault.whom == pilotage::sim::fault::Whom::Candidate
                && !matches!(fault.kind, Kind::TrafficTimes(_) | Kind::ClockJump(_) | Kind::Restart)
        };
        let (tried, given): (Vec<Fault>, Vec<Fault>) =
            self.options.faults.iter().copied().partition(tried);
        if !tried.is_empty() {
            return (given, tried);
        }
        let mut usual: Vec<Fault> = [2.0, 4.0, 10.0].map(Kind::ErrorsTimes).map(Fault::new).into();
        usual.extend([Kind::Errors(0.15), Kind::Timeouts(0.01), Kind::Hangs(0.1)].map(Fault::new));
        usual.extend([1.3, 1.5, 2.0].map(Kind::LatencyTimes).map(Fault::new));
        usual.extend([Kind::Agreement(0.7), Kind::Lost(1.0)].map(Fault::new));
        (given, usual)
    }

    /// The middle of each stage in which the candidate serves users.
    fn onsets(&self) -> Vec<Onset> {
        let (mut begins, mut onsets) = (Duration::ZERO, Vec::new());
        for stage in self.plan.stages() {
            if stage.share.ppm() > 0 {
                let at = begins + stage.at_least / 2;
                onsets.push(Onset { at, stage: stage.name.to_string() });
            }
            begins += stage.at_least;
        }
        onsets
    }

    fn answer(&self) -> Result<Told, Failure> {
        let (given, tried) = self.sorted_faults();
        let (runs, threads) = (self.options.runs, self.options.threads);
        let failed = |error: RehearsalError| Failure::data(error.to_string());
        // A first one alone, so that what cannot be is said once.
        self.begin(0, &given).map_err(failed)?;
        let from_when = |fault: &Fault| fault.from(Duration::ZERO);
        let sudden: Vec<Fault> = if self.options.faults.iter().any(|fault| tried.contains(fault)) {
            tried.iter().map(from_when).collect()
        } else {
            [Kind::ErrorsTimes(10.0), Kind::LatencyTimes(2.0)].map(Fault::new).into()
        };
        let onsets = self.onsets();
        // The healthy way is rehearsed once; at each hour a copy of it goes on with the fault.
        let healthy = each(runs, threads, |run| -> Result<_, RehearsalError> {
            let mut rehearsal = self.begin(run, &given)?;
            let mut branches = Vec::new();
            for onset in &onsets {
                rehearsal.run_until(onset.at);
                for fault in &sudden {
                    let fault = fault.from(rehearsal.at());
                    branches.push(if rehearsal.is_over() {
                        None
                    } else {
                        Some(self.branch(&rehearsal, fault)?)
                    });
                }
            }
            Ok((rehearsal.run(self.horizon), branches))
        });
        let healthy: Result<Vec<_>, _> = healthy.into_iter().collect();
        let (courses, branches): (Vec<Course>, Vec<_>) =
            healthy.map_err(failed)?.into_iter().unzip();
        let mut years: f64 = courses.iter().map(|course| course.at.as_secs_f64()).sum();
        let mut onset_rows = Vec::new();
        for (place, onset) in onsets.iter().enumerate() {
            for (number, fault) in sudden.iter().enumerate() {
                let at = place * sudden.len() + number;
                let own: Vec<Course> = branches.iter().filter_map(|own| own[at].clone()).collect();
                years += own.iter().map(|course| (course.at - onset.at).as_secs_f64()).sum::<f64>();
                onset_rows.push(Row {
                    fault: shown(fault),
                    stage: Some(onset.stage.clone()),
                    from_seconds: onset.at.as_secs_f64(),
                    forecast: Forecast::since(&own, onset.at),
                });
            }
        }
        let mut rows = Vec::new();
        for fault in &tried {
            let all: Vec<Fault> = given.iter().copied().chain([*fault]).collect();
            let courses = each(runs, threads, |run| {
                Ok(self.begin(run.wrapping_add(1 << 32), &all)?.run(self.horizon))
            });
            let courses: Result<Vec<Course>, _> = courses.into_iter().collect();
            let courses = courses.map_err(failed)?;
            years += courses.iter().map(|course| course.at.as_secs_f64()).sum::<f64>();
            rows.push(Row {
                fault: shown(fault),
                stage: None,
                from_seconds: fault.from.as_secs_f64(),
                forecast: Forecast::since(&courses, fault.from),
            });
        }
        Ok(Told {
            plan: self.options.plan.clone(),
            runs,
            seed: self.seed,
            horizon_seconds: self.horizon.as_secs_f64(),
            alpha: self.plan.alpha(),
            healthy: Forecast::of(&courses),
            held: held(&courses),
            faults: rows,
            onset: onset_rows,
            simulated_years: years / (365.25 * 86_400.0),
            cpu_seconds: crate::workers::cpu_seconds(),
        })
    }

    /// A copy that goes on with a fault; its toll counts from there.
    fn branch(&self, rehearsal: &Rehearsal, fault: Fault) -> Result<Course, RehearsalError> {
        let before = *rehearsal.toll();
        let until = rehearsal.at() + self.horizon;
        let mut course = rehearsal.clone().with_fault(fault)?.run(until);
        course.toll.baseline -= before.baseline;
        course.toll.candidate -= before.candidate;
        course.toll.bad -= before.bad;
        course.toll.bad_anyway -= before.bad_anyway;
        course.toll.waited -= before.waited;
        Ok(course)
    }
}

fn held(courses: &[Course]) -> Vec<Held> {
    let mut held: Vec<Held> = Vec::new();
    for course in courses.iter().filter(|course| !course.is_promoted()) {
        match held.iter_mut().find(|own| own.stage == course.stage) {
            Some(own) => own.runs += 1,
            None => held.push(Held {
                stage: course.stage.clone(),
                runs: 1,
                example: course.reason.clone(),
            }),
        }
    }
    held
}

impl Told {
    fn print(&self, rehearsals: &Rehearsals) {
        let climate = &rehearsals.options.climate;
        println!("PLAN {}", self.plan);
        for stage in rehearsals.plan.stages() {
            println!(
                "  {:<12} {:>8}   at least {:<10} {} samples",
                stage.name.to_string(),
                stage.share.to_string(),
                crate::numbers::shown(stage.at_least),
                stage.min_samples
            );
        }
        println!(
            "TRAFFIC {} requests/s, {} fail, {} time out, median {}",
            count(climate.rate),
            percent(climate.errors),
            percent(climate.timeouts),
            crate::numbers::shown(climate.latency.median)
        );
        println!("{} rehearsals of each question, seed {}\n", self.runs, self.seed);
        println!("IF THE CANDIDATE IS AS GOOD AS THE BASELINE");
        let healthy = &self.healthy;
        println!(
            "  taken back all the same   {}   (the plan promises at most {})",
            chance(&healthy.stopped),
            percent(self.alpha)
        );
        println!("  promoted                  {}", chance(&healthy.promoted));
        if healthy.unfinished.events > 0 {
            println!(
                "  still held after {:<8} {}",
                seconds(self.horizon_seconds),
                chance(&healthy.unfinished)
            );
        }
        println!("  time to 100 %             {}", spread(healthy.seconds_to_everybody, seconds));
        println!("  time to promotion         {}", spread(healthy.seconds_to_promotion, seconds));
        println!("  requests it serves till then {}", spread(healthy.exposed, count));
        for held in &self.held {
            println!(
                "  {} of {} ended in stage {}: {}",
                held.runs, self.runs, held.stage, held.example
            );
        }
        println!("\nIF IT IS WORSE");
        let name = |row: &Row| match row.from_seconds {
            from if from > 0.0 => format!("{} at {}", row.fault, seconds(from)),
            _ => row.fault.clone(),
        };
        table("fault", self.faults.iter().map(|row| (name(row), row)).collect());
        println!("\nIF IT TURNS WORSE IN THE MIDDLE OF A STAGE");
        let name = |row: &Row| {
            let stage = row.stage.as_deref().unwrap_or_default();
            format!("{stage} after {}: {}", seconds(row.from_seconds), row.fault)
        };
        table("stage: fault", self.onset.iter().map(|row| (name(row), row)).collect());
        println!(
            "\n  stopped: in how many of the runs, and the 95 % interval of its probability. Times \
             and counts:\n  median, and what nineteen in twenty stay below; from when the fault \
             begins. Requests: those the\n  candidate served. Bad answers: errors, timeouts and \
             calls that hung which users met and would\n  not have met without the rollout. Waiting: \
             by how much answers came later, all together,\n  median."
        );
        println!(
            "\n{:.1} rollout-years in {:.1} s of processor time: {:.0} an hour on one core",
            self.simulated_years,
            self.cpu_seconds,
            self.simulated_years / self.cpu_seconds.max(1e-9) * 3600.0
        );
    }
}

/// Rows under each other, as wide as they need to be.
fn table(first: &str, rows: Vec<(String, &Row)>) {
    let head = ["stopped", "in", "promoted", "time to stop", "requests", "bad answers", "waiting"];
    let head = std::iter::once(first).chain(head).map(str::to_owned).collect();
    let mut lines: Vec<Vec<String>> = vec![head];
    for (name, row) in rows {
        let own = &row.forecast;
        let both = |spread: Option<Spread>, shown: fn(f64) -> String| {
            spread.map_or("-".to_owned(), |own| format!("{} <{}", shown(own.p50), shown(own.p95)))
        };
        let most = own.stopped_in.iter().max_by_key(|(_, runs)| **runs);
        lines.push(vec![
            name,
            chance(&own.stopped),
            most.map_or("-".to_owned(), |(stage, _)| stage.clone()),
            percent(own.promoted.rate),
            both(own.seconds_to_stop, seconds),
            both(own.exposed, count),
            both(own.harm.map(whole), count),
            own.waited.map_or("-".to_owned(), |own| seconds(own.p50.max(0.0))),
        ]);
    }
    let width = |at: usize| lines.iter().map(|line| line[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..8).map(width).collect();
    for line in &lines {
        let cells = line.iter().zip(&widths).enumerate().map(|(at, (cell, width))| {
            if at == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        println!("  {}", cells.collect::<Vec<_>>().join("  "));
    }
}

/// Harm to the nearest answer, and none rather than less than none.
fn whole(spread: Spread) -> Spread {
    let mut spread = spread;
    spread.p50 = spread.p50.round().max(0.0);
    spread.p95 = spread.p95.round().max(0.0);
    spread
}

fn chance(chance: &Chance) -> String {
    format!("{} ({} to {})", percent(chance.rate), percent(chance.low), percent(chance.high))
}

fn spread(spread: Option<Spread>, shown: fn(f64) -> String) -> String {
    spread.map_or("-".to_owned(), |own| {
        format!("{}   (5 % to 95 %: {} to {})", shown(own.p50), shown(own.p5), shown(own.p95))
    })
}
