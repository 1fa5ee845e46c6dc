//! What a rollout would do, before it is done.
//!
//! ```text
//! cargo run --release --example rehearse -- --plan plan.toml --traffic 100/s --errors 0.2%
//! cargo run --release --example rehearse -- --plan plan.toml --trace trace.csv --json told.json
//! cargo run --release --example rehearse -- --soak 200
//! ```
//!
//! The first asks how likely a healthy candidate is taken back, how soon a bad one is, how long the
//! way to everybody takes and what a fault at which hour would cost. The second replays recorded
//! traffic through the same machine. The third rehearses years of random rollouts with random
//! faults and holds them to the promises. `--help` tells the rest; `docs/rehearsal.md` explains it.

/// As the standard one, except that whoever reads no further ends the program and not with a panic.
macro_rules! println {
    () => { crate::say(format_args!("")) };
    ($($text:tt)*) => { crate::say(format_args!($($text)*)) };
}

mod fault_text;
mod forecast;
mod numbers;
mod options;
mod plan;
mod replay;
mod soak;
mod workers;

use std::io::Write;
use std::process::ExitCode;

use options::{Options, Task};

/// What is wrong, and the exit code it ends with.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    pub(crate) why: String,
}

impl Failure {
    /// The command line cannot be followed.
    pub(crate) fn usage(why: impl Into<String>) -> Self {
        Self { code: 64, why: why.into() }
    }

    /// What was read cannot be used.
    pub(crate) fn data(why: impl Into<String>) -> Self {
        Self { code: 65, why: why.into() }
    }

    /// A file cannot be read.
    pub(crate) fn input(why: impl Into<String>) -> Self {
        Self { code: 66, why: why.into() }
    }

    /// A file cannot be written.
    pub(crate) fn output(why: impl Into<String>) -> Self {
        Self { code: 74, why: why.into() }
    }
}

fn main() -> ExitCode {
    let told = Options::read(std::env::args().skip(1)).and_then(|options| match options.task {
        Task::Help => {
            println!("{}", options::HELP);
            Ok(0)
        }
        Task::Forecast => forecast::run(&options),
        Task::Replay(ref file) => replay::run(&options, file),
        Task::Soak(years) => soak::run(&options, years),
    });
    match told {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            eprintln!("rehearse: {}", failure.why);
            if failure.code == 64 {
                eprintln!("rehearse --help tells what can be said");
            }
            ExitCode::from(failure.code)
        }
    }
}

/// Writes a line. Where nobody reads on (`| head`), there is nothing left to do.
fn say(text: std::fmt::Arguments<'_>) {
    if let Err(error) = writeln!(std::io::stdout().lock(), "{text}") {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            std::process::exit(0);
        }
        eprintln!("rehearse: cannot write to the terminal: {error}");
        std::process::exit(74);
    }
}

/// Writes `value` to `file`, or to the terminal for `-`.
pub(crate) fn write_json(file: &str, value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::output(format!("cannot write {file}: {error}")))?;
    if file == "-" {
        println!("{text}");
        return Ok(());
    }
    std::fs::write(file, text + "\n")
        .map_err(|error| Failure::output(format!("cannot write {file}: {error}")))
}
