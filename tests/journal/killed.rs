//! A process that takes orders is killed at a random moment, and another goes on from its file.
//!
//! A test starts this binary once more in a role, which is a test that does nothing otherwise.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use pilotage::control::orders::Recorded;
use pilotage::sim::rng::Rng;

use super::*;

const JOURNAL: &str = "PILOTAGE_TEST_KILLED_JOURNAL";
const ROLE: &str = "killed::a_process_takes_orders_line_by_line";

const ORDERS: [(&str, Order); 6] = [
    ("promote", Order::PromoteStage),
    ("finish", Order::PromoteFully),
    ("pause", Order::Pause),
    ("resume", Order::Resume),
    ("abort", Order::Abort),
    ("kill", Order::Kill),
];

fn order(word: &str) -> Order {
    ORDERS.iter().find(|(known, _)| *known == word).expect("an order of ours").1
}

#[test]
fn a_process_takes_orders_line_by_line() {
    let Some(path) = std::env::var_os(JOURNAL) else { return };
    let process = Process::new("v1", Epoch::default());
    let pilot = Pilot::builder()
        .alerter(|_: &Alert| ())
        .journal(JournalFile::new(path))
        .start(&process.router, "v2", process.candidate(), plan())
        .unwrap();
    let _driver = pilot.spawn(Duration::from_millis(1)).unwrap();
    say("ready");
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let answer = pilot.order(order(&line), "ann", "as the test wants it");
        let written = match answer.as_ref().map(|receipt| &receipt.recorded) {
            Ok(Recorded::Written) => "written",
            Ok(_) => "taken",
            Err(_) => "refused",
        };
        say(&format!("{line} {written} {}", pilot.status().step.0));
    }
}

fn say(what: &str) {
    let mut out = std::io::stdout().lock();
    // A line of its own, whatever the test harness has begun.
    write!(out, "\nsaid {what}\n").unwrap();
    out.flush().unwrap();
}

/// What a process said of an order.
struct Said {
    order: Order,
    written: bool,
    taken: bool,
    step: usize,
}

/// What came of one run.
#[derive(Debug, Default)]
struct Figures {
    runs: u64,
    /// Orders that were given, and that were answered before the kill.
    given: usize,
    answered: usize,
    /// Runs in which a stop, or a pause, was answered as written.
    stops: u64,
    pauses: u64,
    /// Ends that were torn, and rollouts that were promoted when it came back.
    torn: u64,
    promoted: u64,
}

fn next(out: &mut BufReader<ChildStdout>) -> Option<String> {
    loop {
        let mut line = String::new();
        if out.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(said) = line.strip_prefix("said ") {
            return Some(said.trim_end().to_owned());
        }
    }
}

fn killed_once(seed: u64, path: &std::path::Path, figures: &mut Figures) {
    let mut random = Rng::new(seed);
    let mut child: Child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", ROLE, "--nocapture"])
        .env(JOURNAL, path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    assert_eq!(next(&mut out).as_deref(), Some("ready"));
    let mut stdin = child.stdin.take().unwrap();
    // Those that end it come more rarely, or nothing else is ever seen.
    let words = ["promote", "promote", "pause", "pause", "resume", "finish", "abort", "kill"];
    let given: Vec<&str> =
        (0..1 + random.below(5)).map(|_| words[random.below(8) as usize]).collect();
    given.iter().for_each(|word| writeln!(stdin, "{word}").unwrap());
    stdin.flush().unwrap();
    wait(Duration::from_micros(random.below(6_000)));
    child.kill().unwrap();
    child.wait().unwrap();
    let mut rest = String::new();
    // What it said until then, whoever reads it when.
    let said: Vec<Said> = std::iter::from_fn(|| next(&mut out))
        .filter_map(|line| {
            let mut words = line.split(' ');
            let (word, written, step) = (words.next()?, words.next()?, words.next()?);
            let (written, taken) = (written == "written", written != "refused");
            Some(Said { order: order(word), written, taken, step: step.parse().ok()? })
        })
        .collect();
    let _ = out.read_to_string(&mut rest);

    let bytes = std::fs::read(path).unwrap();
    figures.torn += u64::from(Journal::read(&bytes).unwrap().torn.is_some());
    let promoted = Rollout::resume(&bytes).unwrap().promoted;
    let again = Process::new(if promoted { "v2" } else { "v1" }, Epoch::default());
    let pilot = Pilot::builder()
        .alerter(|_: &Alert| ())
        .journal(JournalFile::new(path))
        .resume(&again.router, again.candidate())
        .unwrap();
    (0..5).for_each(|_| _ = pilot.tick());
    let status = pilot.status();
    let why = format!("seed {seed}, {given:?}, {}: {status:?}", said.len());

    let stops = |order: Order| matches!(order, Order::Abort | Order::Kill);
    if said.iter().any(|one| stops(one.order) && one.written) {
        assert!(matches!(status.end, Some(End::Aborted | End::Killed)), "{why}");
        assert_eq!(again.router.split().candidate, TrafficShare::NONE, "{why}");
        figures.stops += 1;
    }
    let ordered = |word| given.iter().filter(|one| **one == word).count();
    assert!(status.step.0 <= 1 + ordered("promote") || ordered("finish") > 0, "{why}");
    assert!(status.end != Some(End::Promoted) || ordered("finish") + ordered("promote") > 0);
    // Paused, and nobody said anything else after that.
    let pause = said.iter().rposition(|one| one.order == Order::Pause && one.taken);
    if let Some(at) = pause.filter(|at| said[*at].written) {
        let ends_it = |word: &&str| matches!(*word, "resume" | "abort" | "kill");
        if !given[at + 1..].iter().any(ends_it) && status.end.is_none() {
            assert!(status.paused.is_some(), "{why}");
            assert_eq!(status.step.0, said[at].step, "{why}");
            figures.pauses += 1;
        }
    }
    figures.runs += 1;
    figures.given += given.len();
    figures.answered += said.len();
    figures.promoted += u64::from(status.end == Some(End::Promoted));
}

fn killed(runs: u64) {
    let folder = folder(&format!("killed-{runs}-times"));
    let mut figures = Figures::default();
    // On a busy machine few orders are answered before the end: then it takes more runs.
    let met = |figures: &Figures| {
        figures.stops > 0 && figures.pauses > 0 && figures.answered < figures.given
    };
    for seed in 0..20 * runs {
        if seed >= runs && met(&figures) {
            break;
        }
        let path = folder.join(format!("{seed}.journal"));
        killed_once(seed, &path, &mut figures);
    }
    println!("{figures:?}");
    std::fs::remove_dir_all(folder).unwrap();
    assert!(figures.stops > 0 && figures.pauses > 0, "{figures:?}");
    assert!(figures.answered < figures.given, "none was killed with an order on its way");
}

#[expect(clippy::disallowed_methods, reason = "when a process is killed is about this machine")]
fn wait(at_most: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < at_most {
        thread::yield_now();
    }
}

#[test]
fn what_a_killed_process_had_answered_the_next_one_knows() {
    killed(30);
}

/// `cargo test --test journal often_killed -- --ignored --nocapture`
#[test]
#[ignore = "it takes a minute"]
fn what_an_often_killed_process_had_answered_the_next_one_knows() {
    killed(500);
}
