//! What a request costs through the router, beside what others would charge.
//!
//! `cargo run --release -p rivals [-- --json FILE] [--check] [--rounds N]`
//!
//! All contestants run in one program, in short batches and in an order that rotates, so that a
//! change of the machine's speed meets all of them. A batch in which the thread was put aside is
//! dropped. On two threads a batch counts only if each thread was on a core of its own and the two
//! overlapped. The figures are medians; what is compared are ratios, since machines differ.

mod contest;
mod contestants;
mod throughput;

use std::collections::BTreeMap;
use std::process::ExitCode;

use contest::Times;

/// A promise: so many times another figure at most (or at least), and what would be better still.
struct Promise {
    what: &'static str,
    value: Option<f64>,
    hold: f64,
    aim: f64,
    at_least: bool,
}

impl Promise {
    fn kept(&self, bound: f64) -> bool {
        self.value.is_some_and(|value| {
            value.is_finite() && if self.at_least { value >= bound } else { value <= bound }
        })
    }
}

fn main() -> ExitCode {
    let (mut json, mut check, mut rounds) = (None, false, 3_000);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--json" => json = arguments.next(),
            "--check" => check = true,
            "--rounds" => {
                let Some(given) = arguments.next().and_then(|given| given.parse().ok()) else {
                    return usage("--rounds needs a number");
                };
                rounds = given;
            }
            other => return usage(&format!("unknown argument {other}")),
        }
    }

    let alone = contest::alone(&contestants::all(), rounds);
    let together = contest::together(&contestants::all(), rounds / 3);
    println!("{:<34} {:>9} {:>9} {:>11}", "ns a call (median)", "1 thread", "2 threads", "dropped");
    for (name, times) in &alone {
        let two = together.get(name).and_then(Times::median);
        println!(
            "{name:<34} {:>9} {:>9} {:>11}",
            shown(times.median()),
            shown(two),
            format!("{}+{}", times.dropped, together.get(name).map_or(0, |times| times.dropped)),
        );
    }
    let records = throughput::records_per_second();
    let quantiles = throughput::quantiles_beside_sorting();
    println!("\nrecord, drain and fold: {:.1} million records a second on one core", records / 1e6);
    println!(
        "p50, p95, p99 of five minutes: {:.2} µs; sorting a million results: {:.1} ms",
        quantiles.ours * 1e6,
        quantiles.sorting * 1e3
    );

    let promises = promises(&alone, &together, records, quantiles.ours / quantiles.sorting);
    println!("\n{:<50} {:>10} {:>9} {:>9}", "ratio", "measured", "hold", "aim");
    for promise in &promises {
        let verdict = match (promise.kept(promise.hold), promise.kept(promise.aim)) {
            (_, true) => "aim",
            (true, false) => "held",
            (false, false) => "MISSED",
        };
        let value = promise.value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3e}"));
        println!(
            "{:<50} {value:>10} {:>9} {:>9}  {verdict}",
            promise.what, promise.hold, promise.aim
        );
    }
    if let Some(path) = json {
        let report = report(&alone, &together, &promises);
        if let Err(error) = std::fs::write(&path, report) {
            eprintln!("cannot write {path}: {error}");
            return ExitCode::from(2);
        }
    }
    if check && promises.iter().any(|promise| !promise.kept(promise.hold)) {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn usage(problem: &str) -> ExitCode {
    eprintln!("{problem}\nusage: rivals [--json FILE] [--check] [--rounds N]");
    ExitCode::from(2)
}

fn shown(nanos: Option<f64>) -> String {
    nanos.map_or_else(|| "-".to_owned(), |nanos| format!("{nanos:.1}"))
}

type Table = BTreeMap<&'static str, Times>;

fn promises(alone: &Table, together: &Table, records: f64, quantiles: f64) -> Vec<Promise> {
    let of = |table: &Table, name: &str| table.get(name).and_then(Times::median);
    let ratio = |above: Option<f64>, below: Option<f64>| Some(above? / below?);
    let clock = of(alone, contestants::CLOCK);
    let predict = of(alone, contestants::PREDICT);
    let two = of(together, contestants::PREDICT);
    let promise = |what, value, hold, aim| Promise { what, value, hold, aim, at_least: false };
    vec![
        promise("predict / two clock reads", ratio(predict, clock), 1.4, 1.2),
        promise(
            "predict with quanta / two clock reads",
            ratio(of(alone, contestants::PREDICT_QUANTA), clock),
            0.6,
            0.4,
        ),
        promise(
            "record / prometheus observe",
            ratio(of(alone, contestants::RECORD), of(alone, contestants::PROMETHEUS_OBSERVE)),
            0.6,
            0.3,
        ),
        promise("predict, two threads / one", ratio(two, predict), 1.15, 1.03),
        promise(
            "predict / prometheus stack, two threads",
            ratio(two, of(together, contestants::PROMETHEUS_STACK)),
            0.25,
            0.08,
        ),
        Promise {
            what: "million records drained and folded a second",
            value: Some(records / 1e6),
            hold: 40.0,
            aim: 100.0,
            at_least: true,
        },
        promise("5-minute quantiles / sorting a million", Some(quantiles), 1e-4, 1e-5),
    ]
}

fn report(alone: &Table, together: &Table, promises: &[Promise]) -> String {
    let times = |table: &Table| -> serde_json::Value {
        let rows = table.iter().map(|(name, times)| {
            let row = serde_json::json!({
                "median_ns": times.median(), "batches": times.kept(), "dropped": times.dropped,
            });
            ((*name).to_owned(), row)
        });
        serde_json::Value::Object(rows.collect())
    };
    let promises: Vec<_> = promises
        .iter()
        .map(|promise| {
            serde_json::json!({
                "what": promise.what, "value": promise.value, "hold": promise.hold,
                "aim": promise.aim, "kept": promise.kept(promise.hold),
            })
        })
        .collect();
    let report = serde_json::json!({
        "one_thread": times(alone), "two_threads": times(together), "ratios": promises,
    });
    format!("{report:#}\n")
}
