//! `inference-server serve`, `demo` and `compare`.

use std::error::Error;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use inference_server::args::{Command, Options, USAGE};
use inference_server::compare::compare;
use inference_server::demo;
use inference_server::model::{Classifier, Confidence};
use inference_server::pack;
use inference_server::restart::{self, Begun};
use inference_server::rollouts::{Loud, RolloutSettings};
use inference_server::running::Running;
use inference_server::service::Settings;
use inference_server::shadowed::shadow;
use inference_server::signals::Signals;
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
    let mut signals = Signals::new()?;
    let token = std::env::var("PILOTAGE_TOKEN").ok().filter(|token| !token.is_empty());
    let plan = match &options.plan {
        Some(path) => read_plan(path)?,
        None => Plan::quick(),
    };
    let rollouts = RolloutSettings {
        models: options.models.clone(),
        journal: options.journal.clone(),
        plan,
        loud: Loud::Yes,
        ..RolloutSettings::default()
    };
    let candidate_calls = options.candidate_calls;
    let settings = Settings { token, rollouts, candidate_calls, ..Settings::default() };
    let Begun { service, said } =
        restart::begin(baseline, options.candidate.as_deref(), &settings)?;
    let admin = Running::admin(Arc::clone(&service), &options.admin)
        .map_err(|error| format!("--admin {}: {error}", options.admin))?;
    let users = Running::start(Arc::clone(&service), &options.listen)
        .map_err(|error| format!("--listen {}: {error}", options.listen))?;
    println!("{} serves at http://{}", service.baseline(), users.address());
    println!("orders and GET /rollout at http://{}", admin.address());
    for sentence in said {
        eprintln!("{sentence}");
    }
    signals.wait();
    // Whoever reads this may be gone already.
    let _ = writeln!(io::stdout(), "the server answers what is under way, and ends");
    service.drain();
    let drained = std::thread::spawn(move || drop(users));
    // A second signal ends the patience.
    while !drained.is_finished() && !signals.comes_within(Duration::from_millis(20)) {}
    service.rollouts().leave();
    Ok(())
}

fn read_plan(path: &Path) -> Result<Plan, Failure> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()).into())
}
