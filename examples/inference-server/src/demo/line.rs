//! What a person watches while a story runs: a bar, and one line of stage, share and evidence.

use std::fmt::Write as _;
use std::io::Write as _;

use pilotage::control::status::Status;
use pilotage::judge::verdict::Reading;

use crate::demo::story::Frame;

/// Writes to standard error: over the same line on a terminal, else one line a stage.
#[derive(Debug)]
pub struct Line {
    live: bool,
    shown: String,
}

impl Line {
    /// A line; `live` when somebody watches.
    #[must_use]
    pub const fn new(live: bool) -> Self {
        Self { live, shown: String::new() }
    }

    /// Shows how things stand.
    pub fn show(&mut self, status: &Status, frame: &Frame) {
        if self.live {
            eprint!("\r\x1b[2K    {}", sentence(status, frame));
            let _ = std::io::stderr().flush(); // a terminal that is gone shows nothing
        } else if self.shown != status.stage {
            self.shown.clone_from(&status.stage);
            eprintln!("    {}", sentence(status, frame));
        }
    }

    /// Leaves the line to others.
    pub fn clear(&self) {
        if self.live {
            eprint!("\r\x1b[2K");
        }
    }
}

fn sentence(status: &Status, frame: &Frame) -> String {
    let (step, steps) = status.step;
    let (seen, needed) = status.samples;
    let within = seen as f64 / needed.max(1) as f64;
    let part = (step as f64 - 1.0 + within.min(1.0)) / steps.max(1) as f64;
    let filled = (part * WIDTH as f64) as usize;
    let mut text = format!(
        "[{}{}] {} · candidate {} · {seen}/{needed}",
        "█".repeat(filled.min(WIDTH)),
        "░".repeat(WIDTH - filled.min(WIDTH)),
        status.stage,
        status.share,
    );
    if frame.is_shadow() {
        if let Some(quality) = &frame.quality {
            let loss = quality.estimate.map_or(f64::NAN, |loss| 100.0 * loss);
            let _ = write!(
                text,
                " pairs · loss {loss:+.2} points · as good {:.1}/{:.1} · worse {:.1}/{:.1}",
                quality.ln_good, quality.good_threshold, quality.ln_bad, quality.bad_threshold
            );
        }
    } else {
        let _ = write!(text, " requests");
    }
    // The guardrail that is nearest to a rollback.
    let nearest =
        |a: &&Reading, b: &&Reading| (a.ln_e / a.threshold).total_cmp(&(b.ln_e / b.threshold));
    if let Some(reading) = status.guardrails.iter().max_by(nearest) {
        let _ =
            write!(text, " · {} {:.1}/{:.1}", reading.guardrail, reading.ln_e, reading.threshold);
    }
    text
}

const WIDTH: usize = 24;
