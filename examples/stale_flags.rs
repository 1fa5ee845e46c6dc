//! Lists the flags of a file that should be gone, and fails if there are any: for a CI job.
//!
//! `cargo run --features json,toml --example stale_flags -- flags.json [days ahead]`
//!
//! Ends with 0 when none should, 1 when some should, 2 when the file cannot be used. In a test of
//! your own, `pilotage::strategy::flag::refuse_stale` does the same.
//!
//! Without a file it shows itself on a set with one stale flag.

use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pilotage::adapt::flag_file::FlagFile;
use pilotage::strategy::flag::{Date, FlagSet, FlagSpec, refuse_stale};

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("{problem}");
            eprintln!("usage: stale_flags [FILE.json | FILE.toml [DAYS AHEAD]]");
            ExitCode::from(2)
        }
    }
}

/// Whether nothing should be gone.
fn run() -> Result<bool, Box<dyn std::error::Error>> {
    #[expect(clippy::disallowed_methods, reason = "a command may ask for the date")]
    let today = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let today = Date::from_unix(i64::try_from(today.as_secs())?);
    let mut arguments = std::env::args().skip(1);
    let Some(path) = arguments.next() else {
        let born = Date::from_unix(today.as_unix() - 50 * 86_400);
        let spec = FlagSpec::new("old-ranker").created(born).owner("search");
        let flags = FlagSet::builder().flag(spec).build()?;
        println!("no file given; an example:");
        report(&flags, today);
        return Ok(true);
    };
    let ahead = match arguments.next() {
        None => 0,
        Some(days) => days
            .parse::<u32>()
            .map_err(|problem| format!("{days:?} is no number of days: {problem}"))?,
    };
    let flags = FlagSet::builder().build()?;
    let _ = FlagFile::new(path)?.read_into(&flags)?;
    let on = today.after(Duration::from_secs(u64::from(ahead) * 86_400));
    Ok(report(&flags, on))
}

/// Prints what should be gone; says whether nothing should.
fn report(flags: &FlagSet, today: Date) -> bool {
    let reports = flags.lifecycle(today);
    match refuse_stale(&reports) {
        Ok(()) => {
            println!("{} flags, none of them stale, unused or overdue on {today}", reports.len());
            true
        }
        Err(stale) => {
            println!("on {today}, {stale}");
            false
        }
    }
}
