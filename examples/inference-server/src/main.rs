//! `inference-server serve`, `demo` and `compare`.

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use inference_server::args::{Command, Options, USAGE};
use inference_server::compare::compare;
use inference_server::demo;
use inference_server::model::{Classifier, Confidence};
use inference_server::pack;
use inference_server::running::Running;
use inference_server::service::{Loud, Service, Settings};
use inference_server::shadowed::shadow;
use pilotage::rollout::plan::Plan;

fn main() -> ExitCode {
    let command = match Command::read(std::env::args().skip(1)) {
        Ok(command) => command,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    let done: Result<(), Failure> = match command {
        Command::Help => {
            print!("{USAGE}");
            Ok(())
        }
        Command::Compare(options) => run_compare(&options),
        Command::Serve(options) => run_serve(&options),
        Command::Demo(options) => match demo::run(&options) {
            Ok(true) => Ok(()),
            Ok(false) => Err("not every story came to a verdict".into()),
            Err(error) => Err(error),
        },
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

type Failure = Box<dyn Error + Send + Sync>;

fn run_compare(options: &Options) -> Result<(), Failure> {
    let (Some(baseline), Some(candidate)) = (&options.baseline, &options.candidate) else {
        eprintln!("error: compare wants --baseline and --candidate");
        std::process::exit(2);
    };
    let baseline = Arc::new(Classifier::load(&options.models, baseline)?);
    let candidate = Arc::new(Classifier::load(&options.models, candidate)?);
    let mut samples = pack::read(&options.samples)?;
    samples.truncate(options.take.unwrap_or(samples.len()));
    let shadowed = shadow(&baseline, &candidate, &samples, options.seed)?;
    println!("{shadowed}");
    if let Some(path) = &options.page {
        std::fs::write(path, shadowed.page())?;
    }
    if let Some(path) = &options.cases {
        std::fs::write(path, shadowed.cases.json_lines())?;
    }
    for c in [Confidence::BestGuess, Confidence::Medium, Confidence::High] {
        println!("{c:?} {}", compare(&baseline, &candidate, c, &samples)?);
    }
    Ok(())
}

fn run_serve(options: &Options) -> Result<(), Failure> {
    let Some(baseline) = &options.baseline else {
        eprintln!("error: serve wants --baseline; `inference-server help` shows the usage");
        std::process::exit(2);
    };
    let baseline = Arc::new(Classifier::load(&options.models, baseline)?);
    let token = std::env::var("PILOTAGE_TOKEN").ok().filter(|token| !token.is_empty());
    let service = Service::start(baseline, &Settings { token, ..Settings::default() })?;
    let running = Running::start(Arc::clone(&service), &options.listen)?;
    println!("{} serves at http://{}", service.baseline(), running.address());
    if let Some(candidate) = &options.candidate {
        match roll_out(&service, options, candidate) {
            Ok(()) => println!("{candidate} is being rolled out; see /rollout"),
            Err(error) => {
                // The candidate's trouble is not the users': the baseline serves.
                eprintln!("error: {candidate} is not rolled out: {error}");
                service.note_failure(error.to_string());
            }
        }
    }
    running.wait_for_interrupt()?;
    Ok(())
}

fn roll_out(service: &Service, options: &Options, candidate: &str) -> Result<(), Failure> {
    let candidate = Arc::new(Classifier::load(&options.models, candidate)?);
    service.roll_out(candidate, Arc::default(), Plan::quick(), Duration::from_secs(1), Loud::Yes)
}
