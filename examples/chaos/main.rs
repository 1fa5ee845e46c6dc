//! Rollouts in a storm of orders, with dependencies that block, fail and panic.
//!
//! ```text
//! cargo run --release --example chaos -- --rollouts 10000 --seed 1 \
//!     [--journal slow:500ms|blocked:10s|failing] [--switch …] [--sink …] [--alerter …] [--json FILE]
//! ```
//!
//! `--table` prints what `docs/stops.md` shows instead.
//!
//! Exit code 0 where nothing was violated, 1 where something was, 2 for bad arguments. A seed fixes
//! what each thread orders, not how the machine interleaves the threads.

mod breach;
mod storm;
mod table;

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use pilotage::sim::inject::Fault;
use storm::{Faults, Report};

struct Options {
    rollouts: u64,
    seed: u64,
    breaches: u64,
    faults: Faults,
    json: Option<String>,
    table: bool,
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        rollouts: 200,
        seed: 1,
        breaches: 20,
        faults: Faults::default(),
        json: None,
        table: false,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        if name == "--table" {
            options.table = true;
            continue;
        }
        let value = arguments.next().ok_or_else(|| format!("{name} wants a value"))?;
        let number = || value.parse().map_err(|_| format!("{name} {value}: not a whole number"));
        let fault = || value.parse::<Fault>().map_err(|error| format!("{name}: {error}"));
        match name.as_str() {
            "--rollouts" => options.rollouts = number()?,
            "--seed" => options.seed = number()?,
            "--breaches" => options.breaches = number()?,
            "--journal" => options.faults.journal = fault()?,
            "--switch" => options.faults.switch = fault()?,
            "--sink" => options.faults.sink = fault()?,
            "--alerter" => options.faults.alerter = fault()?,
            "--json" => options.json = Some(value),
            _ => {
                return Err(format!(
                    "{name} is not an option; there are --rollouts, --seed, --breaches, --journal, \
                     --switch, --sink, --alerter, --json and --table"
                ));
            }
        }
    }
    Ok(options)
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    if options.table {
        table::print();
        return ExitCode::SUCCESS;
    }
    let begun = Instant::now();
    let mut report = Report::default();
    for number in 0..options.rollouts {
        report.add(storm::rollout(options.seed.wrapping_add(number), options.faults));
        if (number + 1) % 500 == 0 {
            eprintln!("{} rollouts, {} violations", number + 1, report.violated());
        }
    }
    let breaches = breach::measure(options.breaches, options.faults);
    print(&report, &breaches, begun.elapsed());
    if let Some(path) = &options.json {
        if let Err(error) = std::fs::write(path, json(&report, &breaches)) {
            eprintln!("error: {path}: {error}");
            return ExitCode::FAILURE;
        }
    }
    if report.violated() + breaches.missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn print(report: &Report, breaches: &breach::Breaches, took: Duration) {
    println!("{} rollouts in {:.1} s: {:?}", report.rollouts, took.as_secs_f64(), report.ends);
    println!(
        "{:<16} {:>8} {:>8} {:>14} {:>18}",
        "order", "given", "taken", "slowest answer", "last wrong request"
    );
    for (kind, times) in &report.orders {
        println!(
            "{kind:<16} {:>8} {:>8} {:>11.2} ms {:>15.2} ms",
            times.given,
            times.taken,
            times.slowest_answer.as_secs_f64() * 1e3,
            times.last_wrong_request.as_secs_f64() * 1e3
        );
    }
    println!(
        "guardrail broken to last request on the candidate, {} times, a look every {:?}: p50 {:.1} ms, \
         p99 {:.1} ms, worst {:.1} ms, {} missed",
        breaches.count,
        breach::LOOK,
        breaches.p50 * 1e3,
        breaches.p99 * 1e3,
        breaches.worst * 1e3,
        breaches.missed
    );
    println!("violations: {}", report.violated());
    for (what, count) in &report.violations {
        println!("  {count} times: {what}");
    }
    for (seed, what) in report.seeds.iter().take(5) {
        println!("  seed {seed}: {what}");
    }
}

fn json(report: &Report, breaches: &breach::Breaches) -> String {
    let mut out = format!(
        "{{\n  \"rollouts\": {},\n  \"violations\": {},\n  \"violations_by_kind\": {{",
        report.rollouts,
        report.violated()
    );
    let list: Vec<_> =
        report.violations.iter().map(|(what, count)| format!("\"{what}\": {count}")).collect();
    let _ = write!(out, "{}}},\n  \"orders\": {{\n", list.join(", "));
    let rows: Vec<_> = report
        .orders
        .iter()
        .map(|(kind, times)| {
            format!(
                "    \"{kind}\": {{\"given\": {}, \"taken\": {}, \"slowest_answer_ms\": {:.3}, \
                 \"last_wrong_request_ms\": {:.3}}}",
                times.given,
                times.taken,
                times.slowest_answer.as_secs_f64() * 1e3,
                times.last_wrong_request.as_secs_f64() * 1e3
            )
        })
        .collect();
    let _ = write!(
        out,
        "{}\n  }},\n  \"guardrail\": {{\"count\": {}, \"missed\": {}, \"p50_ms\": {:.3}, \
         \"p99_ms\": {:.3}, \"worst_ms\": {:.3}}}\n}}\n",
        rows.join(",\n"),
        breaches.count,
        breaches.missed,
        breaches.p50 * 1e3,
        breaches.p99 * 1e3,
        breaches.worst * 1e3
    );
    out
}
