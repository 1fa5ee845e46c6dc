//! A recorded trace, told.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, stdin};
use std::time::Duration;

use pilotage::judge::verdict::Reading;
use pilotage::rollout::pipeline::End;
use pilotage::sim::replay::{Replay, ReplayOptions, Replayed};
use pilotage::sim::trace::{HeaderError, Problem, TraceError, TraceReader};
use pilotage::sim::world::Toll;
use serde::Serialize;

use crate::options::{Options, Scale};
use crate::{Failure, numbers, plan, write_json};

pub fn run(options: &Options, file: &str) -> Result<u8, Failure> {
    let stages = plan::load(&options.plan)?;
    let factor = match options.scale {
        Scale::By(factor) => factor,
        Scale::Fit => fit(file, plan::length(&stages))?,
    };
    let stages = plan::scaled(&stages, factor)?;
    let source: Box<dyn BufRead> = if file == "-" {
        Box::new(stdin().lock())
    } else {
        Box::new(BufReader::with_capacity(1 << 20, open(file)?))
    };
    let mut trace = TraceReader::new(source).map_err(|error| match error {
        HeaderError::Io(error) => Failure::input(format!("cannot read {file}: {error}")),
        other => Failure::data(format!("{file}: {other}")),
    })?;
    let mut replay = ReplayOptions::default();
    replay.look = options.look.unwrap_or(replay.look);
    replay.salt.clone_from(&options.salt);
    replay.agree_within = options.agree_within;
    let length = plan::length(&stages);
    let mut machine =
        Replay::begin(stages, replay).map_err(|error| Failure::data(error.to_string()))?;
    let mut bad = BadRows::default();
    loop {
        match trace.next_row() {
            Ok(Some(row)) => machine.row(&row),
            Ok(None) => break,
            Err(TraceError::Row { line, problem }) if !options.strict => bad.add(line, &problem),
            Err(error @ TraceError::Row { .. }) => {
                return Err(Failure::data(format!("{file}: {error} (--strict stops here)")));
            }
            Err(error) => return Err(Failure::input(format!("{file}: {error}"))),
        }
    }
    let replayed = machine.finish();
    let told = Told::of(&replayed, bad, factor, length);
    if let Some(to) = &options.json {
        write_json(to, &told)?;
    }
    if options.json.as_deref() != Some("-") {
        told.print(&replayed);
    }
    Ok(match replayed.end {
        Some(End::Promoted) => 0,
        Some(_) => 1,
        None => 2,
    })
}

fn open(file: &str) -> Result<File, Failure> {
    File::open(file).map_err(|error| Failure::input(format!("cannot read {file}: {error}")))
}

/// By how much a plan of this length has to be stretched to end within the trace, with a tenth of
/// the trace to spare.
fn fit(file: &str, length: Duration) -> Result<f64, Failure> {
    if file == "-" {
        return Err(Failure::usage("--scale fit needs a file: its end is read first"));
    }
    let failed = |error| Failure::input(format!("cannot read {file}: {error}"));
    let mut source = open(file)?;
    let mut head = BufReader::new(source.try_clone().map_err(failed)?);
    let mut header = String::new();
    head.read_line(&mut header).map_err(failed)?;
    let whole = source.metadata().map_err(failed)?.len();
    let times = |text: &str| {
        let mut times = Vec::new();
        if let Ok(mut rows) = TraceReader::new(format!("{}\n{text}", header.trim_end()).as_bytes())
        {
            while let Ok(row) = rows.next_row().or_else(|error| match error {
                TraceError::Row { .. } => Ok(None),
                other => Err(other),
            }) {
                let Some(row) = row else { break };
                times.push(row.at);
            }
        }
        times
    };
    let mut first = String::new();
    head.take(1 << 16).read_to_string(&mut first).map_err(failed)?;
    source.seek(SeekFrom::Start(whole.saturating_sub(1 << 16))).map_err(failed)?;
    let mut tail = Vec::new();
    source.read_to_end(&mut tail).map_err(failed)?;
    let tail = String::from_utf8_lossy(&tail);
    // The first line of the tail is cut, unless it is the whole file.
    let cut = tail.find('\n').map_or(0, |at| at + 1);
    let (first, last) = (times(&first), times(&tail[cut..]));
    match (first.first(), last.last()) {
        (Some(first), Some(last)) if last > first => {
            Ok(0.9 * (last - first) as f64 / 1e9 / length.as_secs_f64().max(1e-9))
        }
        _ => {
            Err(Failure::data(format!("{file}: --scale fit finds no two rows at different times")))
        }
    }
}

/// Rows that could not be used.
#[derive(Default, Serialize)]
struct BadRows {
    count: u64,
    by_problem: BTreeMap<&'static str, u64>,
    /// The first of them.
    first: Vec<BadRow>,
}

#[derive(Serialize)]
struct BadRow {
    line: u64,
    problem: String,
}

impl BadRows {
    fn add(&mut self, line: u64, problem: &Problem) {
        self.count += 1;
        *self.by_problem.entry(problem.word()).or_default() += 1;
        if self.first.len() < SHOWN {
            eprintln!("line {line}: {problem}");
            self.first.push(BadRow { line, problem: problem.to_string() });
        } else if self.first.len() == SHOWN && self.count == SHOWN as u64 + 1 {
            eprintln!("further bad rows are only counted");
        }
    }
}

const SHOWN: usize = 20;

#[derive(Serialize)]
struct Told {
    /// `promoted`, `rolled_back`, `refused`, `hold` or `unfinished`.
    verdict: &'static str,
    /// The stage it ended in, or stands in.
    stage: String,
    /// When, by the trace's own clock.
    at_ms: f64,
    /// When, since the first row.
    after_seconds: f64,
    reason: String,
    requests: Requests,
    harm: Harm,
    segments: BTreeMap<String, Segment>,
    rows: Rows,
    plan: PlanTold,
    readings: Vec<Reading>,
    log: Vec<Step>,
    alerts: Vec<Alert>,
    alerts_in_all: u64,
    looks: u64,
}

#[derive(Serialize)]
struct Requests {
    /// Served by the model that was the baseline when the trace began.
    baseline: u64,
    candidate: u64,
    /// Answered by the candidate beside the baseline, for nobody.
    shadowed: u64,
}

#[derive(Serialize)]
struct Harm {
    /// Errors and timeouts of the candidate that users met, less those the baseline would have
    /// given to the same requests.
    bad_answers: f64,
    candidate_bad: u64,
    baseline_would_have: f64,
    /// By how much the candidate's answers came later than the baseline's would have, summed.
    waited_seconds: f64,
}

#[derive(Serialize)]
struct Segment {
    baseline: u64,
    candidate: u64,
    bad_answers: f64,
    waited_seconds: f64,
}

#[derive(Serialize)]
struct Rows {
    used: u64,
    bad: BadRows,
    seconds: f64,
}

#[derive(Serialize)]
struct PlanTold {
    scale: f64,
    shortest_seconds: f64,
}

#[derive(Serialize)]
struct Step {
    at_ms: f64,
    after_seconds: f64,
    from: String,
    to: String,
    who: String,
    why: String,
}

#[derive(Serialize)]
struct Alert {
    at_ms: f64,
    key: String,
    severity: String,
    summary: String,
    resolved: bool,
}

impl Told {
    fn of(replayed: &Replayed, bad: BadRows, scale: f64, length: Duration) -> Self {
        let first = replayed.first.as_secs_f64();
        let at_ms = |seconds: f64| ((first + seconds) * 1e6).round() / 1e3;
        let verdict = match (replayed.end, &replayed.holding) {
            (Some(end), _) => end.word(),
            (None, Some(_)) => "hold",
            (None, None) => "unfinished",
        };
        let reason = match (replayed.end, &replayed.holding) {
            (None, None) if replayed.rows == 0 => "the trace holds no row that can be used".into(),
            (None, _) => format!(
                "the trace ended in stage {} after {}: {}",
                replayed.stage,
                numbers::shown(replayed.lasted),
                replayed.reason
            ),
            _ => replayed.reason.clone(),
        };
        let Toll { baseline, candidate, bad: worse, bad_anyway, waited, .. } = replayed.toll;
        let segment = |toll: &Toll| Segment {
            baseline: toll.baseline,
            candidate: toll.candidate,
            bad_answers: toll.harm(),
            waited_seconds: toll.waited,
        };
        Self {
            verdict,
            stage: replayed.stage.clone(),
            at_ms: at_ms(replayed.at.as_secs_f64()),
            after_seconds: replayed.at.as_secs_f64(),
            reason,
            requests: Requests { baseline, candidate, shadowed: replayed.shadowed },
            harm: Harm {
                bad_answers: replayed.toll.harm(),
                candidate_bad: worse,
                baseline_would_have: bad_anyway,
                waited_seconds: waited,
            },
            segments: replayed.segments.iter().map(|(n, t)| (n.clone(), segment(t))).collect(),
            rows: Rows { used: replayed.rows, bad, seconds: replayed.lasted.as_secs_f64() },
            plan: PlanTold { scale, shortest_seconds: length.as_secs_f64() },
            readings: replayed.readings.clone(),
            log: replayed
                .log
                .iter()
                .map(|step| Step {
                    at_ms: at_ms(step.at.as_secs_f64()),
                    after_seconds: step.at.as_secs_f64(),
                    from: step.from.clone(),
                    to: step.to.clone(),
                    who: step.who.clone(),
                    why: step.why.clone(),
                })
                .collect(),
            alerts: replayed
                .alerts
                .iter()
                .map(|(at, news)| Alert {
                    at_ms: at_ms(at.as_secs_f64()),
                    key: news.key.clone(),
                    severity: format!("{:?}", news.severity).to_lowercase(),
                    summary: news.summary.clone(),
                    resolved: news.resolved,
                })
                .collect(),
            alerts_in_all: replayed.alerts_in_all,
            looks: replayed.looks,
        }
    }

    fn print(&self, replayed: &Replayed) {
        println!(
            "{} in stage {} after {}",
            self.verdict.replace('_', " "),
            self.stage,
            numbers::shown(replayed.at)
        );
        println!("  {}", self.reason);
        if let Some(holding) = &replayed.holding {
            println!("  held: {holding}");
        }
        println!();
        println!(
            "  requests     {} served by the baseline, {} by the candidate, {} shadowed",
            self.requests.baseline, self.requests.candidate, self.requests.shadowed
        );
        println!(
            "  harm         {} bad answers more than without the rollout ({} where the baseline \
             would have given {})",
            self.harm.bad_answers, self.harm.candidate_bad, self.harm.baseline_would_have
        );
        println!(
            "  latency      {:+.1} s of waiting, all answers together",
            self.harm.waited_seconds
        );
        println!(
            "  rows         {} used over {}, {} bad",
            self.rows.used,
            numbers::shown(replayed.lasted),
            self.rows.bad.count
        );
        if self.plan.shortest_seconds > self.rows.seconds {
            println!(
                "  note         the plan takes at least {}, the trace lasts {}: --scale fit shrinks it",
                numbers::seconds(self.plan.shortest_seconds),
                numbers::shown(replayed.lasted)
            );
        }
        println!();
        for step in &self.log {
            println!(
                "  {:>10}  {} -> {}",
                numbers::seconds(step.after_seconds),
                step.from,
                step.to
            );
            println!("              {}", step.why);
        }
    }
}
