//! For each dependency and fault, and each way to stop: the time to the last request on the
//! candidate, the time to the answer, and what people were told. As rows of Markdown.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pilotage::alert::Alert;
use pilotage::control::Pilot;
use pilotage::control::journal_file::JournalFile;
use pilotage::serve::router::Router;
use pilotage::sim::inject::{Fault, Injector};

use crate::breach::{Proxy, Sink, half_plan, requests_until, stub};

/// A way to stop.
#[derive(Clone, Copy)]
enum Stop {
    Abort,
    Kill,
    Pause,
    Guardrail,
}

struct Row {
    last: f64,
    answer: f64,
    told: Vec<String>,
}

/// Prints the table.
pub fn print() {
    println!("| what misbehaves | how | abort | kill | pause | a guardrail | people were told |");
    println!("|--|--|--|--|--|--|--|");
    let second = Duration::from_secs(1);
    let faults = [
        ("slow by 0.5 s", Fault::Slow(second / 2)),
        ("blocked for 10 s", Fault::Blocked(10 * second)),
        ("answers 0.5 s late", Fault::Late(second / 2)),
        ("fails", Fault::Failing),
        ("panics", Fault::Panicking),
        ("told twice", Fault::Twice),
    ];
    std::panic::set_hook(Box::new(|_| {}));
    for (place, dependency) in ["journal", "switch", "sink", "alerter"].into_iter().enumerate() {
        for (how, fault) in faults {
            let rows = [Stop::Abort, Stop::Kill, Stop::Pause, Stop::Guardrail]
                .map(|stop| one(place, fault, stop));
            let cell = |row: &Row| {
                format!("{:.1} ms, answered in {:.1} ms", row.last * 1e3, row.answer * 1e3)
            };
            let mut told: Vec<_> = rows.iter().flat_map(|row| row.told.clone()).collect();
            told.sort();
            told.dedup();
            println!(
                "| {dependency} | {how} | {} | {} | answered in {:.1} ms, the share stays | {:.1} ms | {} |",
                cell(&rows[0]),
                cell(&rows[1]),
                rows[2].answer * 1e3,
                rows[3].last * 1e3,
                told.join(", ")
            );
        }
    }
}

fn one(place: usize, fault: Fault, stop: Stop) -> Row {
    let fails = Arc::new(AtomicBool::new(false));
    let injectors = [(); 4].map(|()| Injector::default());
    let [journal, switch, sink, alerter] = &injectors;
    let router = Router::builder("table")
        .stable("v1", stub("v1", &Arc::default()))
        .sink(sink.wrap(Sink))
        .build()
        .expect("the router is sound");
    let folder = std::env::temp_dir().join(format!("chaos-table-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder can be made");
    let file = JournalFile::new(folder.join("rollout.journal"));
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let tells = Arc::clone(&told);
    let alert = move |alert: &Alert| {
        let over = if alert.resolved { ", over" } else { "" };
        tells.lock().push(format!("{} ({}{over})", alert.key, alert.severity));
    };
    let pilot = Pilot::builder()
        .alerter(alerter.wrap(alert))
        .journal(journal.wrap(file))
        .switch(switch.wrap(Proxy))
        .start(&router, "v2", Arc::new(stub("v2", &fails)), half_plan())
        .expect("the rollout begins");
    let driver = pilot.spawn(crate::breach::LOOK).expect("there is a thread");
    let (begun, over) = (Instant::now(), AtomicBool::new(false));
    let [ordered, last] = [AtomicU64::new(0), AtomicU64::new(0)];
    let answer = thread::scope(|scope| {
        scope.spawn(|| requests_until(&over, &router, begun, &last));
        thread::park_timeout(Duration::from_millis(60));
        injectors[place].set(fault);
        thread::park_timeout(Duration::from_millis(60));
        let at = Instant::now();
        ordered.store(begun.elapsed().as_nanos() as u64, SeqCst);
        let done = match stop {
            Stop::Abort => pilot.abort("ann", "it smokes").is_ok(),
            Stop::Kill => pilot.kill("ann", "it smokes").is_ok(),
            Stop::Pause => pilot.pause("ann", "let me look").is_ok(),
            Stop::Guardrail => {
                fails.store(true, SeqCst);
                while pilot.end().is_none() && at.elapsed() < Duration::from_secs(10) {
                    thread::park_timeout(Duration::from_millis(1));
                }
                pilot.end().is_some()
            }
        };
        assert!(done, "the stop was refused");
        let answer = at.elapsed().as_secs_f64();
        thread::park_timeout(Duration::from_millis(120));
        over.store(true, SeqCst);
        answer
    });
    // What could not be told meanwhile is told now.
    injectors.iter().for_each(|injector| injector.set(Fault::None));
    thread::park_timeout(Duration::from_millis(900));
    pilot.leave();
    driver.stop();
    drop(pilot);
    let _ = std::fs::remove_dir_all(folder);
    let last = last.into_inner().saturating_sub(ordered.into_inner()) as f64 / 1e9;
    let told = told.lock().clone();
    Row { last, answer, told }
}
