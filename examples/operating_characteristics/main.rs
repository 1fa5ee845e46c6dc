//! How often which rule is wrong, and how soon it is right: counted, not claimed.
//!
//! ```text
//! cargo run --release --example operating_characteristics -- [--quick] [--json FILE] [--seed N]
//! ```
//!
//! Seeded traffic is fed to this crate's own decision code and to the rules that are in common use,
//! the same traffic to each. Every figure comes with a 95 % Monte Carlo interval. Limits that this
//! crate promises are checked; a figure whose whole interval lies beyond its limit ends the program
//! with exit code 1. `--quick` takes under a minute on two cores, the full table under a quarter of
//! an hour.

mod canary;
mod report;
mod rules;
mod scenarios;
mod tests_of_pairs;

use std::process::ExitCode;

use report::Table;

/// How much to simulate.
#[derive(Clone, Copy, Debug)]
struct Effort {
    /// Stages a scenario.
    stages: u64,
    /// Stages of a scenario in which every latency is drawn.
    slow_stages: u64,
    /// Experiments, shadows, and other things that are quick to simulate.
    tests: u64,
    seed: u64,
}

fn main() -> ExitCode {
    let mut effort = Effort { stages: 2_000, slow_stages: 400, tests: 4_000, seed: 1 };
    let mut json = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--quick" => {
                effort = Effort { stages: 200, slow_stages: 40, tests: 600, ..effort };
            }
            "--json" => json = arguments.next(),
            "--seed" => match arguments.next().and_then(|seed| seed.parse().ok()) {
                Some(seed) => effort.seed = seed,
                None => return usage("--seed needs a whole number"),
            },
            other => return usage(&format!("{other} is not an option")),
        }
    }
    let mut table = Table::default();
    canary::run(effort, &mut table);
    tests_of_pairs::run(effort, &mut table);
    table.print();
    if let Some(file) = json {
        if let Err(error) = table.write(&file) {
            eprintln!("cannot write {file}: {error}");
            return ExitCode::FAILURE;
        }
    }
    if table.broken() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn usage(problem: &str) -> ExitCode {
    eprintln!("{problem}; usage: operating_characteristics [--quick] [--json FILE] [--seed N]");
    ExitCode::from(2)
}
