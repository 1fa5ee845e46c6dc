//! A process that is killed in the middle of a rollout, and the one that goes on after it.
//!
//! ```sh
//! cargo run --example resume
//! ```
//!
//! It starts itself as a child, which serves and takes a candidate to its second stage; kills the
//! child there, without a word; starts it again; and shows that the rollout goes on where it was,
//! with its evidence, and is promoted.

use std::convert::Infallible;
use std::error::Error;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use pilotage::control::Pilot;
use pilotage::control::journal_file::JournalFile;
use pilotage::control::resume::CutOff;
use pilotage::control::start::ResumeError;
use pilotage::judge::guardrail::Guardrail;
use pilotage::model;
use pilotage::rollout::pipeline::Rollout;
use pilotage::rollout::plan::{Plan, PlanError};
use pilotage::serve::request::Request;
use pilotage::serve::router::Router;
use pilotage::share::TrafficShare;

fn main() -> Result<(), Box<dyn Error>> {
    match std::env::args_os().nth(1) {
        Some(journal) => serve(&PathBuf::from(journal)),
        None => kill_and_resume(),
    }
}

/// The parent: starts the server, kills it, and starts it again.
fn kill_and_resume() -> Result<(), Box<dyn Error>> {
    let folder = std::env::temp_dir().join(format!("resume-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let journal = folder.join("rollout.journal");

    println!("the first process:");
    let mut child = server(&journal)?;
    let reached = follow(&mut child, "stage 50 %, under way")?;
    child.kill()?;
    child.wait()?;
    println!("  killed\n");
    if !reached {
        return Err("it ended before it could be killed".into());
    }

    let found = Rollout::resume(&std::fs::read(&journal)?)?;
    let samples = found.rollout.trial().map_or(0, |trial| trial.samples());
    let stage = found.rollout.stage().map_or("none", |stage| stage.name.as_str());
    println!("its journal: stage {stage}, {samples} samples, entry {}\n", found.revision);

    println!("the second process:");
    let mut child = server(&journal)?;
    let promoted = follow(&mut child, "over: promoted")?;
    child.wait()?;
    std::fs::remove_dir_all(folder)?;
    if promoted { Ok(()) } else { Err("it was not promoted".into()) }
}

fn server(journal: &Path) -> std::io::Result<Child> {
    Command::new(std::env::current_exe()?).arg(journal).stdout(Stdio::piped()).spawn()
}

/// Shows what the child says, up to a line that contains `last`.
fn follow(child: &mut Child, last: &str) -> std::io::Result<bool> {
    let Some(out) = child.stdout.take() else { return Ok(false) };
    for line in BufReader::new(out).lines() {
        let line = line?;
        println!("  {line}");
        if line.contains(last) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The child: a server that begins a rollout, or goes on with the one its journal holds.
#[expect(clippy::disallowed_methods, reason = "an example lives in real time")]
fn serve(journal: &Path) -> Result<(), Box<dyn Error>> {
    let old: fn(&u64) -> Result<u64, Infallible> = |number| Ok(number + 1);
    let new: fn(&u64) -> Result<u64, Infallible> = |number| Ok(number.wrapping_add(1));
    let router = Router::builder("numbers").stable("v1", model::sync(old)).build()?;
    let new = Arc::new(model::sync(new));
    let file = || Pilot::builder().journal(JournalFile::new(journal));

    let pilot = match file().resume(&router, Arc::clone(&new)) {
        Ok(pilot) => pilot,
        Err(ResumeError::Nothing) => file().start(&router, "v2", new, plan()?)?,
        // A person who has looked at the error may decide for this; the candidate is at nobody then,
        // until somebody orders a retry.
        Err(ResumeError::Journal(error)) if std::env::var_os("RECOVER").is_some() => {
            println!("{error}");
            let (pilot, cut): (Pilot, Option<CutOff>) = file().recover(&router, new)?;
            cut.iter().for_each(|cut| println!("{cut}"));
            pilot
        }
        Err(error) => return Err(error.into()),
    };
    pilot.history().lines.last().iter().for_each(|line| println!("{}", line.transition.why));

    let mut shown = (String::new(), false);
    for user in 0_u64.. {
        let _answer = router.predict_sync(&Request::of(user), &user)?;
        if user % 200 != 0 {
            continue;
        }
        std::thread::sleep(Duration::from_millis(10));
        let goes_on = pilot.tick();
        let status = pilot.status();
        let now = (status.stage, status.samples.0 >= 300);
        if now != shown && !pilot.is_over() {
            let how = if now.1 { "under way" } else { "begins" };
            println!("stage {}, {how}: {} samples", now.0, status.samples.0);
            shown = now;
        }
        if !goes_on {
            break;
        }
    }
    println!("over: {}", pilot.end().map_or("unfinished", |end| end.word()));
    Ok(())
}

fn plan() -> Result<Plan, Box<dyn Error>> {
    let second = Duration::from_secs(1);
    let guardrails = [Guardrail::error_rate().floor(0.01)];
    let plan: Result<Plan, PlanError> = Plan::builder()
        .canary(TrafficShare::percent(5.0)?, second, 100)
        .canary(TrafficShare::HALF, second, 100)
        .full(second, 100)
        .guardrails(&guardrails)
        .build();
    Ok(plan?)
}
