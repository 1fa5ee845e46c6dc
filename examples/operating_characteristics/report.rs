//! Figures with their Monte Carlo intervals, and the limits they are held to.

use serde::Serialize;

/// What was counted of one rule in one scenario.
#[derive(Debug, Default, Serialize)]
pub struct Row {
    pub scenario: String,
    pub rule: String,
    /// What an event is: a rollback, a pass.
    pub event: &'static str,
    pub runs: u64,
    pub events: u64,
    /// The part of runs with the event, and its 95 % interval (Wilson).
    pub probability: f64,
    pub probability_interval: (f64, f64),
    /// The median over all runs of candidate requests (or samples) to the event, and its interval by
    /// order statistics. `None` when fewer than half of the runs came to it.
    pub median: Option<u64>,
    pub median_interval: (Option<u64>, Option<u64>),
    /// The same in seconds since the fault began, where time means something.
    pub median_seconds: Option<f64>,
    pub limits: Vec<Limit>,
}

/// A promise.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Limit {
    pub what: What,
    pub bound: f64,
    /// Whether the figure itself holds it.
    pub held: bool,
    /// Whether the whole interval lies beyond it.
    pub broken: bool,
}

/// What is limited.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    ProbabilityAtMost,
    ProbabilityAtLeast,
    MedianAtMost,
    SecondsAtMost,
}

/// A limit before it is checked.
pub type Promise = (What, f64);

impl Row {
    /// A row from the number of runs and, for each run with the event, `(requests, seconds)`.
    pub fn new(
        scenario: &str,
        rule: &str,
        event: &'static str,
        runs: u64,
        mut events: Vec<(u64, f64)>,
        promises: &[Promise],
    ) -> Self {
        let probability_interval = wilson(events.len() as u64, runs);
        events.sort_by_key(|event| event.0);
        let requests: Vec<u64> = events.iter().map(|event| event.0).collect();
        events.sort_by(|one, other| one.1.total_cmp(&other.1));
        let half = (runs / 2) as usize;
        // Ranks half ± 0.98 √n hold the median with 95 %.
        let reach = (0.98 * (runs as f64).sqrt()).ceil() as usize;
        let at = |rank: usize| requests.get(rank).copied();
        let second = |rank: usize| events.get(rank).map(|event| event.1);
        let low = half.saturating_sub(reach);
        let mut row = Self {
            scenario: scenario.to_owned(),
            rule: rule.to_owned(),
            event,
            runs,
            events: events.len() as u64,
            probability: events.len() as f64 / (runs as f64).max(1.0),
            probability_interval,
            median: at(half),
            median_interval: (at(low), at(half + reach)),
            median_seconds: second(half),
            limits: Vec::new(),
        };
        let (from, to) = probability_interval;
        for (what, bound) in promises {
            let (held, broken) = match what {
                What::ProbabilityAtMost => (row.probability <= *bound, from > *bound),
                What::ProbabilityAtLeast => (row.probability >= *bound, to < *bound),
                What::MedianAtMost => (
                    row.median.is_some_and(|median| median as f64 <= *bound),
                    at(low).is_none_or(|median| median as f64 > *bound),
                ),
                What::SecondsAtMost => (
                    row.median_seconds.is_some_and(|median| median <= *bound),
                    second(low).is_none_or(|median| median > *bound),
                ),
            };
            row.limits.push(Limit { what: *what, bound: *bound, held, broken });
        }
        row
    }
}

/// All rows.
#[derive(Debug, Default, Serialize)]
pub struct Table {
    pub rows: Vec<Row>,
}

impl Table {
    pub fn print(&self) {
        let mut scenario = "";
        for row in &self.rows {
            if row.scenario != scenario {
                println!("\n{}", row.scenario);
                println!(
                    "  {:<34} {:>7} {:>22} {:>26} {:>10}  limits",
                    "rule", "runs", "probability", "median requests", "seconds"
                );
                scenario = &row.scenario;
            }
            let (from, to) = row.probability_interval;
            let shown =
                |value: Option<u64>| value.map_or("-".to_owned(), |value| value.to_string());
            let median = match row.median {
                None => "-".to_owned(),
                some => format!(
                    "{} ({} to {})",
                    shown(some),
                    shown(row.median_interval.0),
                    shown(row.median_interval.1)
                ),
            };
            let seconds =
                row.median_seconds.filter(|_| row.median.is_some()).filter(|at| *at > 0.0);
            let limits: Vec<String> = row.limits.iter().map(Limit::shown).collect();
            println!(
                "  {:<34} {:>7} {:>7.4} ({:.4}-{:.4}) {:>26} {:>10}  {}",
                row.rule,
                row.runs,
                row.probability,
                from,
                to,
                median,
                seconds.map_or("-".to_owned(), |at| format!("{at:.1}")),
                limits.join(", ")
            );
        }
        let limits = self.rows.iter().flat_map(|row| &row.limits);
        let (all, held) = (limits.clone().count(), limits.filter(|limit| limit.held).count());
        println!("\n{held} of {all} limits held by the figure itself, {} broken", self.broken());
    }

    /// Limits that are broken beyond chance.
    pub fn broken(&self) -> usize {
        self.rows.iter().flat_map(|row| &row.limits).filter(|limit| limit.broken).count()
    }

    pub fn write(&self, file: &str) -> std::io::Result<()> {
        let text = serde_json::to_string_pretty(self).map_err(std::io::Error::other)?;
        std::fs::write(file, text)
    }
}

impl Limit {
    fn shown(&self) -> String {
        let bound = self.bound;
        let what = match self.what {
            What::ProbabilityAtMost => format!("P <= {bound}"),
            What::ProbabilityAtLeast => format!("P >= {bound}"),
            What::MedianAtMost => format!("median <= {bound}"),
            What::SecondsAtMost => format!("<= {bound} s"),
        };
        let state = match (self.held, self.broken) {
            (_, true) => "BROKEN",
            (true, _) => "ok",
            _ => "within chance",
        };
        format!("{what} {state}")
    }
}

/// A 95 % interval of a probability.
fn wilson(events: u64, runs: u64) -> (f64, f64) {
    if runs == 0 {
        return (0.0, 1.0);
    }
    let (x, n, z) = (events as f64, runs as f64, 1.96_f64);
    let middle = (x + z * z / 2.0) / (n + z * z);
    let half = z / (n + z * z) * (x * (n - x) / n + z * z / 4.0).sqrt();
    ((middle - half).max(0.0), (middle + half).min(1.0))
}
