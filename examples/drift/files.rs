//! Labelled files as they come to a file-type model: the mix moves, then a new type comes.
//!
//! Real files, committed beside the inference server; their order is drawn with a seed. What the
//! monitor is told is what a server knows without reading anybody's data: a few figures of the
//! content, what the model answered, and later the truth.

use std::path::Path;
use std::time::Duration;

use pilotage::clock::Moment;
use pilotage::drift::accuracy::Accuracy;
use pilotage::drift::labels::LabelLedger;
use pilotage::drift::monitor::{DriftEffect, DriftInput, DriftMonitor};
use pilotage::drift::population::Population;
use pilotage::drift::reference::{FeatureSpec, ReferenceBuilder, Source};
use pilotage::drift::report::HealthReport;
use pilotage::drift::settings::{Deployment, MonitorSettings};
use pilotage::drift::value::{Role, Value};
use pilotage::ids::{Arm, Epoch, Name};
use pilotage::sim::rng::Rng;

use crate::Problem;
use crate::csv::Table;
use crate::model::{Bayes, Cell};

const INPUTS: [&str; 8] = [
    "size",
    "line_length",
    "digits",
    "punctuation",
    "upper_case",
    "indented",
    "braces",
    "first_byte",
];
/// The type that nobody has seen before.
const NEW: &str = "rust";
const REFERENCE: usize = 6_000;
const PHASE: usize = 6_000;
const HOURLY: usize = 100;

struct File {
    label: String,
    cells: Vec<Cell>,
}

pub fn run() -> Result<HealthReport, Problem> {
    let files = files()?;
    let (old, new): (Vec<&File>, Vec<&File>) = files.iter().partition(|file| file.label != NEW);
    let tables: Vec<&File> =
        old.iter().copied().filter(|file| matches!(&*file.label, "csv" | "json")).collect();
    println!(
        "{} labelled files of {} types. The reference: {REFERENCE} requests of all types but {NEW}.",
        files.len(),
        types(&files)
    );
    let mut rng = Rng::new(7);
    let pick = |rng: &mut Rng, from: &[&File]| -> usize { rng.below(from.len() as u64) as usize };

    // A small model learns from half of the requests of the reference; the other half says how good
    // it is.
    let drawn: Vec<&File> = (0..REFERENCE).map(|_| old[pick(&mut rng, &old)]).collect();
    let (learn, rest) = drawn.split_at(REFERENCE / 2);
    let rows: Vec<Vec<Cell>> = learn.iter().map(|file| file.cells.clone()).collect();
    let labels: Vec<Option<String>> = learn.iter().map(|file| Some(file.label.clone())).collect();
    let model = Bayes::train(&rows, &labels).ok_or_else(|| Problem("no files".to_owned()))?;
    let right =
        rest.iter().filter(|file| model.predict(&file.cells).0 == file.label).count() as u64;
    let accuracy = Accuracy::new(right, rest.len() as u64 - right);

    let mut features = Vec::new();
    for name in INPUTS {
        let name = Name::new(name)?;
        features.push(match name.as_str() {
            "first_byte" => FeatureSpec::categorical(name),
            _ => FeatureSpec::numeric(name),
        });
    }
    features.push(FeatureSpec::categorical(Name::new("answer")?).role(Role::Prediction));
    features.push(FeatureSpec::numeric(Name::new("score")?).role(Role::Score));
    features.push(FeatureSpec::categorical(Name::new("truth")?).role(Role::Label));
    let mut builder =
        ReferenceBuilder::new(Name::new("file-type v1")?, Source::Baseline, features)?;
    for file in &drawn {
        with_row(&model, file, |row| builder.row(row))?;
    }
    let reference = builder.finish();

    let hour = Duration::from_secs(3_600);
    let deployment = Deployment::new(Name::new("file-type v1")?)
        .accuracy(accuracy)
        .warm(Name::new("file-type v0")?);
    let settings = MonitorSettings {
        window: hour * (PHASE / HOURLY / 2) as u32,
        requests_between: 1e6,
        ..MonitorSettings::default()
    };
    let mut monitor = DriftMonitor::new(settings, reference, deployment, Moment::ZERO)?;
    let mut was = Moment::ZERO;
    let mut ledger = LabelLedger::new(hour, hour)?;
    let (mut served, mut now, mut last) = (0, Moment::ZERO, None);
    let phases = [
        "the same mix",
        "tables and data four times as often",
        "one request in five of a new type",
    ];
    for (phase, name) in phases.iter().enumerate() {
        println!("\nrequests {} to {}: {name}", served + 1, served + PHASE);
        let mut quiet = true;
        for _ in 0..PHASE / HOURLY {
            let mut seen = Population::new(monitor.reference());
            for _ in 0..HOURLY {
                let from = match phase {
                    1 if rng.chance(0.5) => &tables,
                    2 if rng.chance(0.2) => &new,
                    _ => &old,
                };
                let file = from[pick(&mut rng, from)];
                with_row(&model, file, |row| seen.row(monitor.reference(), row))?;
                ledger.served(Arm::BASELINE, Epoch::new(0), now, 1);
                let right = model.predict(&file.cells).0 == file.label;
                ledger.labelled(Arm::BASELINE, Epoch::new(0), now, right);
            }
            served += HOURLY;
            now = now.after(hour);
            // Labels first, before time passes: the window that ends now has both.
            let mut effects = monitor.handle(was, DriftInput::Matured(ledger.matured(now)))?;
            was = now;
            effects.extend(monitor.handle(now, DriftInput::Seen(Box::new(seen)))?);
            for effect in effects {
                match effect {
                    DriftEffect::Alert(news) if !news.resolved => {
                        quiet = false;
                        println!("  after {:>5}: {}", served - phase * PHASE, news.summary);
                    }
                    DriftEffect::Report(report) => {
                        println!(
                            "  after {:>5}: window over: data {}, {}: {}",
                            served - phase * PHASE,
                            report.data,
                            report.recommendation,
                            report.why
                        );
                        last = Some(*report);
                    }
                    _ => {}
                }
            }
        }
        if quiet {
            println!("  no alarm");
        }
        monitor.handle(now, DriftInput::Acknowledged)?;
    }
    let report = last.unwrap_or_else(|| monitor.report());
    println!("\n{report}");
    Ok(report)
}

fn with_row<T>(model: &Bayes, file: &File, take: impl FnOnce(&[Value<'_>]) -> T) -> T {
    let (class, score) = model.predict(&file.cells);
    let mut row: Vec<Value<'_>> = file
        .cells
        .iter()
        .map(|cell| match cell {
            Cell::Number(number) => Value::Number(*number),
            Cell::Category(name) => Value::Category(name),
            Cell::Missing => Value::Missing,
        })
        .collect();
    row.extend([Value::Category(class), Value::Number(score), Value::Category(&file.label)]);
    take(&row)
}

fn types(files: &[File]) -> usize {
    let mut labels: Vec<&str> = files.iter().map(|file| file.label.as_str()).collect();
    labels.sort_unstable();
    labels.dedup();
    labels.len()
}

fn files() -> Result<Vec<File>, Problem> {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/inference-server/data/filetypes");
    let index = Table::read(&folder.join("index.csv"))
        .map_err(|error| Problem(format!("the index of the files {error}")))?;
    let pack = std::fs::read(folder.join("samples.pack"))?;
    let column = |name: &str| index.columns.iter().position(|column| column == name);
    let missing = || Problem("the index of the files lacks a column".to_owned());
    let label = column("label").ok_or_else(missing)?;
    let (offset, len) = (column("offset").ok_or_else(missing)?, column("len").ok_or_else(missing)?);
    index
        .rows
        .iter()
        .map(|row| {
            let (from, len): (usize, usize) =
                (row.fields[offset].parse()?, row.fields[len].parse()?);
            let content = pack.get(from..from + len).ok_or_else(missing)?;
            Ok(File { label: row.fields[label].clone(), cells: figures(content) })
        })
        .collect()
}

/// A few figures of a file's content, in the order of [`INPUTS`].
fn figures(content: &[u8]) -> Vec<Cell> {
    let size = content.len().max(1) as f64;
    let part = |which: fn(&u8) -> bool| {
        Cell::Number(content.iter().filter(|byte| which(byte)).count() as f64 / size)
    };
    let lines = content.split(|byte| *byte == b'\n').count() as f64;
    let indented = content
        .split(|byte| *byte == b'\n')
        .filter(|line| matches!(line.first(), Some(b' ' | b'\t')))
        .count() as f64;
    let first = content.iter().find(|byte| !byte.is_ascii_whitespace());
    let first = first.map_or(Cell::Missing, |byte| {
        Cell::Category(if byte.is_ascii_alphanumeric() {
            if byte.is_ascii_digit() { "digit".to_owned() } else { "letter".to_owned() }
        } else if byte.is_ascii_graphic() {
            char::from(*byte).to_string()
        } else {
            "binary".to_owned()
        })
    });
    vec![
        Cell::Number(size),
        Cell::Number(size / lines),
        part(u8::is_ascii_digit),
        part(u8::is_ascii_punctuation),
        part(u8::is_ascii_uppercase),
        Cell::Number(indented / lines),
        part(|byte| matches!(byte, b'{' | b'}' | b'[' | b']')),
        first,
    ]
}
