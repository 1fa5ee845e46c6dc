//! What a flag's answer costs, beside the evaluation engines of four flag services.
//!
//! `cargo run --release [-- --check] [--json FILE] [--rounds N]`
//!
//! All engines answer the same question about the same visitors: a flag that is on for a quarter of
//! them, with a kill switch, ten denied, ten allowed and two segments. Before anything is timed
//! they are asked about visitors whose answer is certain, and must agree. They run in one program,
//! in short batches whose order rotates; the figures are medians, the promises are ratios. Each
//! engine gets its own form of request ready made; ours is made in each call.
//!
//! A workspace of its own, because of the company it keeps: see `Cargo.toml`.

mod contest;
mod engines;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::process::ExitCode;

use contest::Times;
use engines::{Engine, Visitor};
use serde_json::json;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system allocator as it came; counting a thread-local that needs
// no initialisation allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static GLOBAL: Counting = Counting;

/// A promise: so many times another figure at most, and what would be better still.
struct Promise {
    what: &'static str,
    value: Option<f64>,
    hold: f64,
    aim: f64,
}

impl Promise {
    fn kept(&self, bound: f64) -> bool {
        self.value.is_some_and(|value| value.is_finite() && value <= bound)
    }
}

fn main() -> ExitCode {
    let (mut json, mut check, mut rounds) = (None, false, 1_000_usize);
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

    let visitors = engines::visitors();
    let engines = engines::all(visitors);
    if let Err(problem) = agree(&engines, visitors) {
        eprintln!("{problem}; nothing was timed");
        return ExitCode::from(2);
    }
    let allocations: BTreeMap<&str, f64> =
        engines.iter().map(|engine| (engine.name, allocations(engine, visitors.len()))).collect();
    let contestants: Vec<_> = engines.into_iter().map(|engine| engine.contestant).collect();
    let sizes = contest::sizes(&contestants);
    let alone = contest::alone(&contestants, &sizes, rounds);
    let [one, two] = contest::one_and_two(&contestants, &sizes, rounds);

    println!(
        "{:<40} {:>9} {:>9} {:>12} {:>11}",
        "ns a call (median)", "1 thread", "2 threads", "allocations", "batches"
    );
    for (name, times) in &alone {
        let two = two.get(name);
        println!(
            "{name:<40} {:>9} {:>9} {:>12.1} {:>11}",
            shown(times.median()),
            shown(two.and_then(Times::median)),
            allocations[name],
            format!("{}+{}", times.kept(), two.map_or(0, Times::kept)),
        );
    }
    let promises = promises(&alone, [&one, &two], &allocations);
    println!("\n{:<50} {:>10} {:>9} {:>9}", "promise", "measured", "hold", "aim");
    for promise in &promises {
        let verdict = match (promise.kept(promise.hold), promise.kept(promise.aim)) {
            (_, true) => "aim",
            (true, false) => "held",
            (false, false) => "MISSED",
        };
        let value = promise.value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"));
        println!(
            "{:<50} {value:>10} {:>9.3} {:>9.3}  {verdict}",
            promise.what, promise.hold, promise.aim
        );
    }
    if let Some(path) = json {
        let report = report(&alone, &two, &allocations, &promises);
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
    eprintln!("{problem}\nusage: flag-rivals [--json FILE] [--check] [--rounds N]");
    ExitCode::from(2)
}

fn shown(nanos: Option<f64>) -> String {
    nanos.map_or_else(|| "-".to_owned(), |nanos| format!("{nanos:.1}"))
}

/// Who is denied, allowed or in a segment is certain; of all others a quarter is on, each engine
/// by its own hash. An engine that answers otherwise was set up wrongly.
fn agree(engines: &[Engine], visitors: &[Visitor]) -> Result<(), String> {
    for Engine { name, ask, .. } in engines {
        let mut chance = (0, 0);
        for (at, visitor) in visitors.iter().enumerate() {
            let on = ask(at);
            match visitor.certain {
                Some(certain) if on != certain => {
                    return Err(format!("{name} says {on} to {}, not {certain}", visitor.id));
                }
                Some(_) => {}
                None => chance = (chance.0 + usize::from(on), chance.1 + 1),
            }
        }
        let share = chance.0 as f64 / chance.1 as f64;
        // Five standard errors of a quarter of a thousand.
        if (share - 0.25).abs() > 0.07 {
            return Err(format!("{name} is on for {:.1} % of the visitors, not 25", share * 100.0));
        }
    }
    Ok(())
}

fn allocations(engine: &Engine, calls: usize) -> f64 {
    (0..calls).for_each(|at| (engine.contestant.call)(at as u64)); // what is made once is made
    let before = ALLOCATIONS.with(Cell::get);
    (0..calls).for_each(|at| (engine.contestant.call)(at as u64));
    (ALLOCATIONS.with(Cell::get) - before) as f64 / calls as f64
}

type Table = BTreeMap<&'static str, Times>;

fn promises(
    alone: &Table,
    [one, two]: [&Table; 2],
    allocations: &BTreeMap<&str, f64>,
) -> Vec<Promise> {
    let of = |table: &Table, name: &str| table.get(name).and_then(Times::median);
    let ratio = |above: Option<f64>, below: Option<f64>| Some(above? / below?);
    let [handle, detailed, name, many] =
        [engines::HANDLE, engines::DETAILED, engines::NAME, engines::NAME_OF_MANY]
            .map(|name| of(alone, name));
    let unleash = of(alone, engines::UNLEASH);
    let ours = [engines::HANDLE, engines::DETAILED, engines::NAME, engines::NAME_OF_MANY];
    let allocated = ours.iter().map(|name| allocations[name]).fold(0.0, f64::max);
    let threads = |name| ratio(of(two, name), of(one, name));
    let promise = |what, value, hold, aim| Promise { what, value, hold, aim };
    vec![
        promise("by handle / unleash", ratio(handle, unleash), 1.0 / 4.0, 1.0 / 7.0),
        promise("value and variant, by handle / unleash", ratio(detailed, unleash), 0.4, 1.0 / 4.0),
        promise("by name of 100 / unleash", ratio(name, unleash), 1.0 / 3.0, 1.0 / 4.0),
        promise("by name, of 10,000 / of 100", ratio(many, name), 1.1, 1.03),
        promise("by handle, two threads / one", threads(engines::HANDLE), 1.15, 1.03),
        promise("by name, two threads / one", threads(engines::NAME), 1.15, 1.03),
        promise("allocations a call, ours", Some(allocated), 0.0, 0.0),
    ]
}

fn report(
    alone: &Table,
    two: &Table,
    allocations: &BTreeMap<&str, f64>,
    promises: &[Promise],
) -> String {
    let nanos: BTreeMap<&str, _> = alone
        .iter()
        .map(|(name, times)| {
            let row = json!({
                "one_thread_ns": times.median(),
                "two_threads_ns": two.get(name).and_then(Times::median),
                "allocations": allocations[name],
                "batches": times.kept(),
            });
            (*name, row)
        })
        .collect();
    let promises: Vec<_> = promises
        .iter()
        .map(|promise| {
            json!({"what": promise.what, "measured": promise.value, "hold": promise.hold,
                   "aim": promise.aim, "held": promise.kept(promise.hold)})
        })
        .collect();
    format!("{:#}\n", json!({"engines": nanos, "promises": promises}))
}
