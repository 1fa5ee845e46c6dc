//! How things stand, as a page of text.

use std::fmt;

use pilotage::rollout::pipeline::End;

use crate::journals::Over;
use crate::page::{Page, RolloutView, ServerView, StepView, thousands};

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_wrapped(f, "", "  ", &self.summary)?;
        for line in &self.trouble {
            write_wrapped(f, "! ", "  ", line)?;
        }
        if let Some(rollout) = &self.rollout {
            rollout.write(f)?;
        }
        if !self.alerts.is_empty() {
            writeln!(f, "\nAlerts")?;
            for alert in self.alerts.iter().rev().take(SHOWN).rev() {
                let over = if alert.resolved { " (over)" } else { "" };
                let text = format!("{}{over}: {}", alert.severity, alert.summary);
                write_wrapped(f, &format!("  {}  ", alert.date), "      ", &text)?;
            }
        }
        if !self.earlier.is_empty() {
            writeln!(f, "\nEarlier rollouts")?;
            for over in self.earlier.iter().rev().take(SHOWN).rev() {
                let date = over.date.as_deref().unwrap_or("at an unknown date");
                let end = over.end.word().replace('_', " ");
                let Over { baseline, candidate, reason, .. } = over;
                let text = format!("{candidate} over {baseline}, {end}: {reason}");
                write_wrapped(f, &format!("  {date}  "), "      ", &text)?;
            }
        }
        let ServerView { baseline, ready, overloaded, .. } = &self.server;
        let ready = if *ready { "ready" } else { "NOT READY" };
        writeln!(f)?;
        label(
            f,
            "Server",
            &format!("{ready}; {baseline} is the baseline; {overloaded} requests turned away"),
        )?;
        label(f, "Now", &self.now)
    }
}

impl RolloutView {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.reasons.is_empty() {
            writeln!(f, "\nWhy")?;
            for reason in &self.reasons {
                write_wrapped(f, "  ", "    ", reason)?;
            }
        }
        writeln!(f, "\nArms, {}", self.counted)?;
        let width = self.arms.iter().map(|arm| arm.model.chars().count()).max().unwrap_or(0);
        let width = width.clamp(5, 40);
        writeln!(
            f,
            "             {:<width$}  {:>9}  {:>9}  {:>8}  {:>10}  {:>10}  {:>8}",
            "model", "calls", "in flight", "errors", "p50", "p95", "right"
        )?;
        for arm in &self.arms {
            let percent =
                |value: Option<f64>| value.map_or("-".to_owned(), |v| format!("{v:.2} %"));
            let millis =
                |value: Option<f64>| value.map_or("-".to_owned(), |v| format!("{v:.1} ms"));
            let model: String = arm.model.chars().take(40).collect();
            writeln!(
                f,
                "  {:<9}  {model:<width$}  {:>9}  {:>9}  {:>8}  {:>10}  {:>10}  {:>8}",
                arm.arm,
                thousands(arm.calls),
                arm.in_flight,
                percent(arm.errors_percent),
                millis(arm.p50_ms),
                millis(arm.p95_ms),
                percent(arm.right_percent),
            )?;
        }
        if !self.evidence.is_empty() {
            let until = if self.end.is_some() { ", when it ended" } else { " of this stage" };
            writeln!(f, "\nEvidence{until}")?;
            for line in &self.evidence {
                write_wrapped(f, "  ", "    ", line)?;
            }
        }
        writeln!(f, "\nSteps and orders")?;
        if self.steps.len() > SHOWN {
            writeln!(f, "  ({} earlier ones are in the JSON)", self.steps.len() - SHOWN)?;
        }
        for step in self.steps.iter().rev().take(SHOWN).rev() {
            let StepView { date, who, from, to, why } = step;
            let way = if from == to { to.clone() } else { format!("{from} -> {to}") };
            write_wrapped(f, &format!("  {date}  "), "      ", &format!("{way}, by {who}: {why}"))?;
        }
        writeln!(f)?;
        label(f, "Begun by", &self.begun_by)?;
        label(f, if self.end.is_some() { "Ended" } else { "Here since" }, &self.since)?;
        if self.end.is_none() {
            let place = format!("\"stage\": \"{}\", \"revision\": {}", self.place, self.revision);
            label(f, "To order", &place)?;
        }
        label(
            f,
            "Way back",
            &match (&self.end, &self.way_back_until) {
                (None, _) => "open: POST /rollout/abort".to_owned(),
                (Some(End::Promoted), Some(until)) => {
                    format!("open until {until}: POST /rollout/abort")
                }
                (Some(End::Promoted), None) => {
                    format!("closed; roll {} out like a new model", self.baseline)
                }
                (Some(End::RolledBack | End::Refused), _) => {
                    "taken; to try again: POST /rollout/retry".to_owned()
                }
                (Some(_), _) => "taken".to_owned(),
            },
        )?;
        label(f, "Journal", &self.journal)?;
        label(f, "Drill", &self.drill)?;
        label(f, "Last look", &self.last_look)
    }
}

fn label(f: &mut fmt::Formatter<'_>, name: &str, text: &str) -> fmt::Result {
    write_wrapped(f, &format!("{name:<12}"), "            ", text)
}

/// `text` behind `head`, in lines of at most [`WIDTH`] columns, the later ones behind `indent`. What
/// would control a terminal is shown and not obeyed.
fn write_wrapped(f: &mut fmt::Formatter<'_>, head: &str, indent: &str, text: &str) -> fmt::Result {
    let shown: String = text
        .chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
        .collect();
    let (mut line, mut columns, mut empty) = (head.to_owned(), head.chars().count(), true);
    for word in shown.split(' ').filter(|word| !word.is_empty()) {
        let mut word: Vec<char> = word.chars().collect();
        loop {
            let gap = usize::from(!empty);
            if columns + gap + word.len() <= WIDTH {
                line.extend((0..gap).map(|_| ' '));
                line.extend(&word);
                columns += gap + word.len();
                empty = false;
                break;
            }
            if empty {
                // Longer than a line.
                let rest = word.split_off(WIDTH - columns);
                line.extend(&word);
                word = rest;
            }
            writeln!(f, "{line}")?;
            (line, columns, empty) = (indent.to_owned(), indent.chars().count(), true);
        }
    }
    writeln!(f, "{}", line.trim_end())
}

/// The widest line, in columns.
pub const WIDTH: usize = 100;
/// How many alerts, steps and earlier rollouts the text shows.
const SHOWN: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    struct Wrapped<'a>(&'a str);

    impl fmt::Display for Wrapped<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write_wrapped(f, "Label       ", "            ", self.0)
        }
    }

    #[test]
    fn no_line_is_wider_than_the_page_and_no_word_is_lost() {
        let long = "größe ".repeat(40) + &"x".repeat(250) + " end";
        let text = Wrapped(&long).to_string();
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        let squeezed = |text: &str| text.split_whitespace().collect::<String>();
        assert_eq!(squeezed(&text), format!("Label{}", squeezed(&long)));
        assert!(text.lines().skip(1).all(|line| line.starts_with("            ")));
    }

    #[test]
    fn what_would_control_a_terminal_is_shown() {
        let text = Wrapped("ann\u{1b}[2J\r\nbob").to_string();
        assert_eq!(text.lines().count(), 1);
        assert!(!text.trim_end().contains(char::is_control), "{text:?}");
    }
}
