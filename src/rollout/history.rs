//! The history of a rollout, for whoever reads it at three in the morning.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::clock::Moment;
use crate::judge::verdict::{Finding, Reading};
use crate::machine::Transition;
pub use crate::rollout::history_line::{HISTORY, Line};
use crate::rollout::human::show_duration;
use crate::rollout::journal::{About, Recovered};

/// All that is known of how a rollout went.
///
/// As text it is one paragraph a step: when, from where to where, who, why, and a line of numbers
/// for each guardrail.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct History {
    /// Whose.
    pub about: About,
    /// Oldest first.
    pub lines: Vec<Line>,
}

impl History {
    /// A history of these lines.
    #[must_use]
    pub const fn new(about: About, lines: Vec<Line>) -> Self {
        Self { about, lines }
    }

    /// The history as JSON text, one object with the field `lines`. The default build can write
    /// it, since people look at histories where there is nothing else.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut out = String::from("{");
        let names = [
            ("router", self.about.router.as_str()),
            ("baseline", self.about.baseline.as_str()),
            ("candidate", self.about.candidate.as_str()),
        ];
        for (key, value) in names {
            out.push_str(&format!("\"{key}\": {}, ", quoted(value)));
        }
        out.push_str("\"lines\": [");
        for (number, line) in self.lines.iter().enumerate() {
            out.push_str(if number == 0 { "\n  " } else { ",\n  " });
            json_of(line, &mut out);
        }
        out.push_str("\n]}");
        out
    }
}

impl From<&Recovered> for History {
    fn from(recovered: &Recovered) -> Self {
        Self::new(recovered.about.clone(), recovered.history.clone())
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let About { router, baseline, candidate, .. } = &self.about;
        writeln!(f, "{router}: {candidate} instead of {baseline}")?;
        let begin = self.lines.first().map_or(Moment::ZERO, |line| line.transition.at);
        for line in &self.lines {
            let Transition { at, from, to, who, why } = &line.transition;
            let whole = Duration::from_secs(at.since(begin).as_secs());
            let when = line.date.map_or_else(String::new, |date| format!("{date}  "));
            writeln!(f)?;
            if from == to {
                writeln!(f, "{when}+{}  {from}", show_duration(whole))?;
            } else {
                writeln!(f, "{when}+{}  {from} -> {to}", show_duration(whole))?;
            }
            writeln!(f, "    by {who}; the candidate gets {}", line.share)?;
            for (place, clause) in plain(why).split("; ").enumerate() {
                let indent = if place == 0 { "    " } else { "      " };
                writeln!(f, "{indent}{clause}")?;
            }
            if line.samples > 0 {
                writeln!(f, "    on {} samples", line.samples)?;
            }
            // A reason made of evidence holds the numbers already.
            let told = |reading: &&Reading| {
                reading.finding != Finding::NoData && !why.contains(&reading.guardrail)
            };
            for reading in line.numbers.iter().filter(told) {
                writeln!(f, "      {reading}")?;
            }
        }
        Ok(())
    }
}

fn json_of(line: &Line, out: &mut String) {
    let Transition { at, from, to, who, why } = &line.transition;
    let date = line.date.map_or_else(|| "null".to_owned(), |date| quoted(&date.to_string()));
    out.push_str(&format!(
        "{{\"at_s\": {}, \"date\": {date}, \"from\": {}, \"to\": {}, \"who\": {}, \"why\": {}, \
             \"share_ppm\": {}, \"samples\": {}, \"numbers\": [",
        number(Some(at.as_secs_f64())),
        quoted(from),
        quoted(to),
        quoted(who),
        quoted(why),
        line.share.ppm(),
        line.samples
    ));
    for (place, reading) in line.numbers.iter().enumerate() {
        let comma = if place == 0 { "" } else { ", " };
        let interval = reading.interval.map_or_else(
            || "null".to_owned(),
            |(low, high)| format!("[{}, {}]", number(Some(low)), number(Some(high))),
        );
        out.push_str(&format!(
            "{comma}{{\"guardrail\": {}, \"finding\": {}, \"baseline\": {}, \"candidate\": {}, \
                 \"estimate\": {}, \"interval\": {interval}, \"null\": {}, \"limit\": {}, \
                 \"ln_e\": {}, \"threshold\": {}}}",
            quoted(&reading.guardrail),
            quoted(found(&reading.finding)),
            number(reading.baseline.value),
            number(reading.candidate.value),
            number(reading.estimate),
            number(Some(reading.null)),
            number(Some(reading.limit)),
            number(Some(reading.ln_e)),
            number(Some(reading.threshold)),
        ));
    }
    out.push_str("]}");
}

const fn found(finding: &Finding) -> &'static str {
    match finding {
        Finding::NoData => "no_data",
        Finding::Open => "open",
        Finding::Harm => "harm",
        Finding::Safe => "safe",
        Finding::BelowFloor => "below_floor",
    }
}

/// JSON has neither NaN nor infinity.
fn number(value: Option<f64>) -> String {
    match value {
        Some(value) if value.is_finite() => format!("{value:?}"),
        _ => "null".to_owned(),
    }
}

fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// One line of a terminal: what controls a terminal is shown and not obeyed.
fn plain(text: &str) -> String {
    text.chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
        .collect()
}
