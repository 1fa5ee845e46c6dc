//! Rollouts of real models under real requests, told as stories.
//!
//! A story starts a server on a free port, sends it labelled samples as users would, posts the
//! truth later, and lets a pilot decide. Nothing is staged but the order of the samples, the users
//! who send them, and the fault of the third story.

pub mod chart;
pub mod crowd;
pub mod line;
pub mod plan;
pub mod report;
pub mod story;

use std::error::Error;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::{fs, io};

use serde_json::json;

use crate::args::Options;
use crate::demo::report::Report;
use crate::demo::story::Story;
use crate::fault::Fault;
use crate::model::Classifier;
use crate::pack::{self, Sample};

/// The three stories, or the one of the pair in `options`; whether each came to a verdict.
///
/// # Errors
///
/// When a model or the samples cannot be used, or a result cannot be written.
pub fn run(options: &Options) -> Result<bool, Box<dyn Error + Send + Sync>> {
    let mut samples = pack::read(&options.samples)?;
    samples.truncate(options.take.unwrap_or(samples.len()));
    let samples: Arc<[Sample]> = samples.into();
    let stories = stories(options);
    let mut reports = Vec::new();
    for (number, (baseline, candidate, fault)) in stories.iter().enumerate() {
        let story = Story {
            title: format!("{}/{}", number + 1, stories.len()),
            baseline: Arc::new(Classifier::load(&options.models, baseline)?),
            // A candidate that cannot be loaded is a story too: the baseline goes on serving.
            candidate: Classifier::load(&options.models, candidate).map(Arc::new),
            candidate_name: candidate.clone(),
            fault: *fault,
            samples: Arc::clone(&samples),
            seed: options.seed.wrapping_add(number as u64),
        };
        println!("{} {baseline} → {candidate}{}", story.title, with(*fault));
        let report = story.tell(io::stderr().is_terminal())?;
        println!("    {}: {}", report.outcome.word(), report.reason);
        if let Some(path) = &options.svg {
            fs::write(numbered(path, number, stories.len()), chart::draw(&report))?;
        }
        reports.push(report);
    }
    println!("\n{}", report::table(&reports));
    if let Some(path) = &options.json {
        let value = match &reports[..] {
            [only] => json!(only),
            all => json!({ "stories": all }),
        };
        fs::write(path, serde_json::to_string_pretty(&value)? + "\n")?;
    }
    Ok(reports.iter().all(Report::is_verdict))
}

fn stories(options: &Options) -> Vec<(String, String, Fault)> {
    let old = options.baseline.clone().unwrap_or_else(|| "standard_v2_1".to_owned());
    if let Some(candidate) = &options.candidate {
        return vec![(old, candidate.clone(), options.fault)];
    }
    let fault = match options.fault {
        Fault::None => Fault::Errors(0.2),
        fault => fault,
    };
    vec![
        (old.clone(), "standard_v3_1".to_owned(), Fault::None),
        (old.clone(), "standard_v3_3".to_owned(), Fault::None),
        (old, "standard_v3_3".to_owned(), fault),
    ]
}

fn with(fault: Fault) -> String {
    match fault {
        Fault::None => String::new(),
        fault => format!(", with {fault} in the middle of the canary"),
    }
}

/// The file of one story among several: `rollout.svg` becomes `rollout-2.svg`.
fn numbered(path: &std::path::Path, number: usize, of: usize) -> PathBuf {
    if of == 1 {
        return path.to_owned();
    }
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{stem}-{}.svg", number + 1))
}
