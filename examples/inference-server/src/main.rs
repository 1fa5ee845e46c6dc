//! `inference-server serve`, `demo` and `compare`.

use std::error::Error;
use std::process::ExitCode;

use inference_server::args::{Command, Options, USAGE};
use inference_server::compare::compare;
use inference_server::model::{Classifier, Confidence};
use inference_server::pack;

fn main() -> ExitCode {
    let command = match Command::read(std::env::args().skip(1)) {
        Ok(command) => command,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    let done = match command {
        Command::Help => {
            print!("{USAGE}");
            Ok(())
        }
        Command::Compare(options) => run_compare(&options),
        Command::Serve(_) | Command::Demo(_) => Err("not built yet".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run_compare(options: &Options) -> Result<(), Box<dyn Error>> {
    let (Some(baseline), Some(candidate)) = (&options.baseline, &options.candidate) else {
        eprintln!("error: compare wants --baseline and --candidate");
        std::process::exit(2);
    };
    let baseline = Classifier::load(&options.models, baseline)?;
    let candidate = Classifier::load(&options.models, candidate)?;
    let mut samples = pack::read(&options.samples)?;
    samples.truncate(options.take.unwrap_or(samples.len()));
    for c in [Confidence::BestGuess, Confidence::Medium, Confidence::High] {
        println!("{c:?} {}", compare(&baseline, &candidate, c, &samples)?);
    }
    Ok(())
}
