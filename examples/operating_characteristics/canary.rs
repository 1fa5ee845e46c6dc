//! Rules and scenarios, each against each.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pilotage::ids::Arm;
use pilotage::observe::snapshot::ArmCounts;
use pilotage::sim::rng::Rng;
use pilotage::sim::traffic::{LatencyLaw, Traffic};

use crate::Effort;
use crate::report::{Row, Table};
use crate::rules::{Before, Rule, on_errors, on_latency};
use crate::scenarios::{STAGE, Scenario, all};

pub fn run(effort: Effort, table: &mut Table) {
    for scenario in all() {
        let slow = scenario.law != LatencyLaw::None;
        let runs = if slow { effort.slow_stages } else { effort.stages };
        let events = rehearse(&scenario, runs, effort.seed);
        for (rule, events) in events {
            let promises = match rule {
                "pilotage, standard stage" => &scenario.standard,
                rule if rule.starts_with("pilotage") => &scenario.promises,
                _ => &Vec::new(),
            };
            table.rows.push(Row::new(scenario.name, rule, "rollback", runs, events, promises));
        }
        eprintln!("{} done", scenario.name);
    }
}

/// Run, place of the rule, its name, and its rollback.
type Found = (u64, usize, &'static str, Option<(u64, f64)>);
type Events = Vec<(&'static str, Vec<(u64, f64)>)>;

/// Every rule's rollbacks in `runs` stages: candidate requests and seconds since the fault.
fn rehearse(scenario: &Scenario, runs: u64, seed: u64) -> Events {
    let next = AtomicU64::new(0);
    let events: Mutex<Vec<Found>> = Mutex::default();
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let run = next.fetch_add(1, Ordering::Relaxed);
                    if run >= runs {
                        return;
                    }
                    let found = stage(scenario, seed.wrapping_mul(1_000_003).wrapping_add(run));
                    let mut events = events.lock().expect("no worker panics");
                    for (at, (rule, event)) in found.into_iter().enumerate() {
                        events.push((run, at, rule, event));
                    }
                }
            });
        }
    });
    let mut all = events.into_inner().expect("no worker panics");
    all.sort_by_key(|(run, at, ..)| (*at, *run));
    let mut by_rule: Events = Vec::new();
    for (_, _, rule, event) in all {
        if by_rule.last().is_none_or(|last| last.0 != rule) {
            by_rule.push((rule, Vec::new()));
        }
        let last = by_rule.last_mut().expect("one was just pushed");
        last.1.extend(event);
    }
    by_rule
}

/// One stage: when each rule sent the canary back, if it did after the fault began.
fn stage(scenario: &Scenario, seed: u64) -> Vec<(&'static str, Option<(u64, f64)>)> {
    let (burst, by_subject) = scenario.burst;
    let mut traffic = Traffic::new(seed, scenario.law).with_bursts(burst, by_subject);
    let usual = |_: Duration, _: Arm| (scenario.weather)(0.0, Arm::BASELINE);
    let mut counts = ArmCounts::default();
    if scenario.law != LatencyLaw::None {
        let mut minute = Traffic::new(seed ^ 0x5eed, scenario.law);
        counts = minute.next(Duration::from_secs(60), usual).arms.swap_remove(0);
    }
    let mut rng = Rng::new(seed ^ 0xba5e);
    let now = (scenario.weather)(0.0, Arm::BASELINE);
    let hour = (3600.0 * now.rate * now.share.rest().fraction()).max(1.0);
    let error_rate = rng.poisson(hour * now.errors) as f64 / hour;
    let before = Before { planned: STAGE, error_rate, counts: &counts };
    let rules =
        if scenario.law == LatencyLaw::None { on_errors(&before) } else { on_latency(&before) };
    let mut trials: Vec<Trial> = rules.into_iter().map(Trial::new).collect();
    let (mut at, mut since_fault) = (0.0, 0);
    while at < STAGE.as_secs_f64() - 1e-6 && trials.iter().any(|trial| trial.rule.is_some()) {
        // Before a fault, and long after it, there is no need to look so often.
        let look = if at < scenario.from || at > scenario.from + 1200.0 {
            scenario.look.max(5.0)
        } else {
            scenario.look
        };
        let delta = traffic.next(Duration::from_secs_f64(look), |_, arm| {
            let fault = at >= scenario.from || arm == Arm::BASELINE;
            (scenario.weather)(at, if fault { arm } else { Arm::BASELINE })
        });
        at += look;
        if at > scenario.from {
            since_fault += delta.arms[1].judged();
        }
        let share = (scenario.weather)(at - look, Arm::CANDIDATE).share;
        for trial in &mut trials {
            if trial.rule.as_mut().is_some_and(|rule| rule.goes_back(share, &delta)) {
                trial.rule = None;
                // A rollback before the fault is a false one and no detection.
                trial.event = (at > scenario.from).then_some((since_fault, at - scenario.from));
            }
        }
    }
    trials.into_iter().map(|trial| (trial.name, trial.event)).collect()
}

struct Trial {
    name: &'static str,
    rule: Option<Box<dyn Rule>>,
    event: Option<(u64, f64)>,
}

impl Trial {
    fn new((name, rule): (&'static str, Box<dyn Rule>)) -> Self {
        Self { name, rule: Some(rule), event: None }
    }
}
