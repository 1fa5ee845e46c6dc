//! Says what moved in a stream of requests, how soon that is seen, and what to do about it.
//!
//! ```text
//! cargo run --release --example drift
//! cargo run --release --example drift -- --csv FILE [--label COLUMN] [--reference ROWS]
//!     [--window ROWS] [--between ROWS] [--row-seconds N] [--svg FILE] [--json FILE]
//! cargo run --release --example drift -- --study [--quick]
//! ```
//!
//! Without options: labelled files as they come to a file-type model, whose mix moves, and which then
//! meets a type it has never seen. With `--csv`: any table with a header. Its first rows are the
//! reference, a small model learns the label from them, and the rest is watched as it comes. `--study`
//! counts false alarms and delays over simulated streams, against ADWIN and Page-Hinkley.

/// As the standard one, except that whoever reads no further ends the program and not with a panic.
macro_rules! println {
    () => { crate::say(format_args!("")) };
    ($($text:tt)*) => { crate::say(format_args!($($text)*)) };
}

mod csv;
mod files;
mod model;
mod stream;
mod study;

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use csv::Table;
use stream::Options;

/// What went wrong, for the person at the terminal.
#[derive(Debug)]
pub struct Problem(pub String);

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: std::error::Error> From<E> for Problem {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

#[derive(Default)]
struct Arguments {
    csv: Option<PathBuf>,
    svg: Option<PathBuf>,
    json: Option<PathBuf>,
    study: bool,
    quick: bool,
    label: Option<String>,
    numbers: [Option<u64>; 4],
}

const NUMBERS: [&str; 4] = ["--reference", "--window", "--between", "--row-seconds"];

fn main() -> ExitCode {
    match arguments().and_then(|arguments| run(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("drift: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> Result<Arguments, Problem> {
    let mut all = Arguments::default();
    let mut given = std::env::args().skip(1);
    while let Some(name) = given.next() {
        let mut value =
            || given.next().ok_or_else(|| Problem(format!("{name} needs a value after it")));
        match name.as_str() {
            "--csv" => all.csv = Some(value()?.into()),
            "--svg" => all.svg = Some(value()?.into()),
            "--json" => all.json = Some(value()?.into()),
            "--label" => all.label = Some(value()?),
            "--study" => all.study = true,
            "--quick" => all.quick = true,
            other => {
                let at = NUMBERS.iter().position(|number| *number == other).ok_or_else(|| {
                    Problem(format!(
                        "{other} is not an option; there are --csv FILE, --label COLUMN, --svg FILE, \
                         --json FILE, --study, --quick, and with a number {}",
                        NUMBERS.join(", ")
                    ))
                })?;
                let text = value()?;
                let number = text.parse().ok().filter(|number| (1..1 << 31).contains(number));
                let wrong =
                    || Problem(format!("{other} is {text:?}; it must be a whole number from 1"));
                all.numbers[at] = Some(number.ok_or_else(wrong)?);
            }
        }
    }
    Ok(all)
}

fn run(arguments: &Arguments) -> Result<(), Problem> {
    if arguments.study {
        return study::run(arguments.quick);
    }
    let report = match &arguments.csv {
        Some(path) => of_csv(path, arguments)?,
        None => files::run()?,
    };
    if let Some(path) = &arguments.svg {
        write(path, &report.to_svg())?;
    }
    if let Some(path) = &arguments.json {
        write(path, &serde_json::to_string_pretty(&report)?)?;
    }
    Ok(())
}

fn of_csv(
    path: &Path,
    arguments: &Arguments,
) -> Result<pilotage::drift::report::HealthReport, Problem> {
    let shown = path.display();
    let table = Table::read(path).map_err(|error| Problem(format!("{shown} {error}")))?;
    for bad in &table.bad {
        eprintln!("line {}: left out: {}", bad.line, bad.why);
    }
    if table.bad_count > 0 {
        let all = table.rows.len() + table.bad_count;
        eprintln!("{} of {all} rows were left out", table.bad_count);
        if table.bad_count * 2 > all {
            return Err(Problem(format!("{shown} is no table of {} columns", table.columns.len())));
        }
    }
    let number =
        |at: usize, usual: usize| arguments.numbers[at].map_or(usual, |number| number as usize);
    let reference = number(0, (table.rows.len() / 3).min(10_000));
    let options = Options {
        label: arguments.label.clone(),
        reference,
        window: number(1, (table.rows.len().saturating_sub(reference) / 10).clamp(1, 2_000)),
        between: number(2, 100_000) as f64,
        row_seconds: number(3, 60) as u64,
    };
    stream::run(table, &options)
}

/// Writes a line. Where nobody reads on (`| head`), there is nothing left to do.
fn say(text: std::fmt::Arguments<'_>) {
    if let Err(error) = writeln!(std::io::stdout().lock(), "{text}") {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            std::process::exit(0);
        }
        eprintln!("drift: cannot write to the terminal: {error}");
        std::process::exit(74);
    }
}

fn write(path: &Path, text: &str) -> Result<(), Problem> {
    std::fs::write(path, text)
        .map_err(|error| Problem(format!("cannot write {}: {error}", path.display())))?;
    println!("wrote {}", path.display());
    Ok(())
}
