//! How often the alarms are false and how late they come, counted over simulated streams.

use std::time::Duration;

use pilotage::clock::Moment;
use pilotage::drift::accuracy::{Accuracy, AccuracyRule, AccuracyWatch};
use pilotage::drift::dependence::design_effect;
use pilotage::drift::detector::RateDetector;
use pilotage::drift::monitor::{DriftInput, DriftMonitor};
use pilotage::drift::population::Population;
use pilotage::drift::reference::{FeatureSpec, ReferenceBuilder, Source};
use pilotage::drift::settings::{Deployment, MonitorSettings};
use pilotage::drift::value::Value;
use pilotage::ids::Name;
use pilotage::sim::rng::Rng;
use pilotage::stats::adwin::{Adwin, AdwinSettings};
use pilotage::stats::page_hinkley::{PageHinkley, PageHinkleySettings};

use crate::Problem;

/// Runs the study; an error when a promise is broken.
pub fn run(quick: bool) -> Result<(), Problem> {
    let kept = false_alarms(quick)? & delays(quick)?;
    if kept {
        Ok(())
    } else {
        Err(Problem("a promise is not kept; see the lines marked BROKEN".into()))
    }
}

/// A mean with its standard error.
fn mean(values: &[f64]) -> (f64, f64) {
    let n = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / n;
    let square =
        values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
    (mean, (square / n).sqrt())
}

// ---- false alarms ----

/// A stream of rows of four numbers and one category.
#[derive(Clone, Copy)]
enum Kind {
    Independent,
    /// A sine of 100 rows' period in the mean.
    Seasonal,
    /// Each row nine tenths of the last.
    Alike,
}

struct Rows {
    kind: Kind,
    rng: Rng,
    at: u64,
    state: [f64; 5],
}

impl Rows {
    fn new(kind: Kind, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let state = [(); 5].map(|()| rng.normal());
        Self { kind, rng, at: 0, state }
    }

    fn next(&mut self) -> [f64; 5] {
        self.at += 1;
        let season = (self.at as f64 / 100.0 * std::f64::consts::TAU).sin();
        for state in &mut self.state {
            let fresh = self.rng.normal();
            *state = match self.kind {
                Kind::Independent => fresh,
                Kind::Seasonal => season + fresh,
                Kind::Alike => 0.9 * *state + (1.0_f64 - 0.81).sqrt() * fresh,
            };
        }
        self.state
    }
}

fn row(numbers: &[f64; 5]) -> [Value<'static>; 5] {
    let category = ["a", "b", "c", "d"][((numbers[4] + 1.5).clamp(0.0, 3.0)) as usize];
    let [a, b, c, d, _] = *numbers;
    // One number is an amount, one is often missing.
    let d = if d > 1.5 { Value::Missing } else { Value::Number(d) };
    [
        Value::Number(a),
        Value::Number(b.exp()),
        Value::Number(c.round()),
        d,
        Value::Category(category),
    ]
}

struct Case {
    name: &'static str,
    kind: Kind,
    reference: usize,
    batch: usize,
    /// Whether the reference is shuffled, so that it cannot know how alike neighbours are.
    shuffled: bool,
    promised: bool,
}

fn false_alarms(quick: bool) -> Result<bool, Problem> {
    let between = 2_000.0;
    let (runs, cap) = if quick { (20, 6_000) } else { (100, 20_000) };
    let case = |name, kind, reference, batch, shuffled, promised| Case {
        name,
        kind,
        reference,
        batch,
        shuffled,
        promised,
    };
    let cases = [
        case("independent, reference of 5,000", Kind::Independent, 5_000, 1, false, true),
        case("independent, reference of 500", Kind::Independent, 500, 1, false, true),
        case("seasonal, fed by whole seasons", Kind::Seasonal, 5_000, 100, false, true),
        case("seasonal, fed by tenths of one", Kind::Seasonal, 5_000, 10, false, true),
        case("neighbours alike (0.9)", Kind::Alike, 5_000, 10, false, true),
        case("the same, taken as independent", Kind::Alike, 5_000, 10, true, false),
    ];
    println!(
        "Rows until a false alarm, five features, at least {between:.0} promised on average; {runs} runs, \
         stopped after {cap} rows (a mean at the cap is a lower bound):\n"
    );
    let mut kept = true;
    for case in &cases {
        let mut lengths = Vec::new();
        for run in 0..runs {
            lengths.push(until_alarm(case, between, cap, run)?);
        }
        kept &= line(case.name, &lengths, between, case.promised, cap);
    }
    println!("\nLabels until a false alarm of the accuracy, the same:\n");
    for (name, stay, taken, how) in [
        ("independent, 5,000 labels at deployment", 0.0, 5_000, How::Ours),
        ("independent, 300 labels at deployment", 0.0, 300, How::Ours),
        ("the same, the estimate taken for the truth", 0.0, 300, How::PlugIn),
        ("errors in runs (0.9), design effect measured", 0.9, 5_000, How::Ours),
        ("the same, taken as independent", 0.9, 5_000, How::Independent),
    ] {
        let lengths: Vec<f64> = (0..runs * 5)
            .map(|run| until_accuracy_alarm(stay, taken, how, between, cap, run))
            .collect();
        kept &= line(name, &lengths, between, matches!(how, How::Ours), cap);
    }
    println!();
    Ok(kept)
}

fn line(name: &str, lengths: &[f64], between: f64, promised: bool, cap: u64) -> bool {
    let (mean, error) = mean(lengths);
    // Broken when even the upper end of the interval is below the promise.
    let broken = mean + 1.96 * error < between;
    let alarms = lengths.iter().filter(|length| **length < cap as f64).count();
    let says = match (promised, broken) {
        (true, false) => "kept",
        (true, true) => "BROKEN",
        (false, false) => "no promise, held here",
        (false, true) => "no promise, and far from it",
    };
    println!(
        "  {name:<46} {mean:>7.0} ± {:>5.0}  alarms in {alarms:>3} of {:>3} runs  {says}",
        1.96 * error,
        lengths.len()
    );
    !(promised && broken)
}

fn until_alarm(case: &Case, between: f64, cap: u64, run: u64) -> Result<f64, Problem> {
    let mut rows = Rows::new(case.kind, 1_000 + run);
    let mut features = Vec::new();
    for name in ["a", "b", "c", "d"] {
        features.push(FeatureSpec::numeric(Name::new(name)?));
    }
    features.push(FeatureSpec::categorical(Name::new("e")?));
    let mut builder = ReferenceBuilder::new(Name::new("r")?, Source::File, features)?;
    let mut taken: Vec<[f64; 5]> = (0..case.reference).map(|_| rows.next()).collect();
    if case.shuffled {
        for at in (1..taken.len()).rev() {
            taken.swap(at, rows.rng.below(at as u64 + 1) as usize);
        }
    }
    for numbers in &taken {
        builder.row(&row(numbers))?;
    }
    let reference = builder.finish();
    let settings = MonitorSettings {
        requests_between: between,
        window: Duration::from_secs(1 << 30),
        ..MonitorSettings::default()
    };
    let deployment = Deployment::new(Name::new("m")?);
    let mut monitor = DriftMonitor::new(settings, reference, deployment, Moment::ZERO)?;
    let mut seen = 0;
    while seen < cap {
        let mut population = Population::new(monitor.reference());
        for _ in 0..case.batch {
            population.row(monitor.reference(), &row(&rows.next()))?;
        }
        seen += case.batch as u64;
        if !monitor.handle(Moment::ZERO, DriftInput::Seen(Box::new(population)))?.is_empty() {
            break;
        }
    }
    Ok(seen as f64)
}

#[derive(Clone, Copy)]
enum How {
    Ours,
    PlugIn,
    Independent,
}

fn until_accuracy_alarm(stay: f64, taken: u64, how: How, between: f64, cap: u64, run: u64) -> f64 {
    let mut rng = Rng::new(50_000 + run);
    let mut wrong = rng.chance(0.2);
    let mut next = || {
        if !rng.chance(stay) {
            wrong = rng.chance(0.2);
        }
        wrong
    };
    let errors: Vec<bool> = (0..taken).map(|_| next()).collect();
    let count = errors.iter().filter(|wrong| **wrong).count() as u64;
    let plain = Accuracy::new(taken - count, count);
    let deployed = match how {
        How::Independent => plain,
        _ => plain.clustered(design_effect(errors)).unwrap_or(plain),
    };
    let rule = AccuracyRule::Detector { labels_between: between };
    let (Ok(mut watch), Ok(mut naive)) = (
        AccuracyWatch::new(deployed, rule),
        RateDetector::new(count as f64 / taken as f64, between),
    ) else {
        return 0.0;
    };
    for at in 1..cap {
        let wrong = u64::from(next());
        let alarm = match how {
            How::PlugIn => naive.push(wrong, 1),
            _ => watch.push(1 - wrong, wrong),
        };
        if alarm {
            return at as f64;
        }
    }
    cap as f64
}

// ---- delays ----

/// What a segment of a stream draws from.
#[derive(Clone, Copy)]
enum Draw {
    Yes(f64),
    Uniform(f64, f64),
    Exponential(f64),
}

impl Draw {
    fn next(self, rng: &mut Rng) -> f64 {
        match self {
            Self::Yes(rate) => f64::from(u8::from(rng.chance(rate))),
            Self::Uniform(low, high) => low + (high - low) * rng.unit(),
            Self::Exponential(mean) => -mean * (1.0 - rng.unit()).ln(),
        }
    }
}

/// A detector with one number that sets how easily it is alarmed: the higher, the less.
#[derive(Clone, Copy, PartialEq)]
enum Rival {
    Ours,
    Adwin,
    PageHinkley(f64),
}

const RIVALS: [Rival; 4] =
    [Rival::Ours, Rival::Adwin, Rival::PageHinkley(0.005), Rival::PageHinkley(0.01)];

/// The streams of the published reference cases of both detectors: segments and their lengths, the
/// last without end.
fn streams() -> Vec<(&'static str, Vec<(Draw, u64)>)> {
    use Draw::{Exponential, Uniform, Yes};
    vec![
        ("errors 20 % → 80 %", vec![(Yes(0.2), 1_000), (Yes(0.8), u64::MAX)]),
        ("errors 5 % → 15 %", vec![(Yes(0.05), 2_000), (Yes(0.15), u64::MAX)]),
        ("errors 0.1 % → 15 %", vec![(Yes(0.001), 3_000), (Yes(0.15), u64::MAX)]),
        ("errors 10 % → 20 % → 50 %", vec![(Yes(0.1), 800), (Yes(0.2), 800), (Yes(0.5), u64::MAX)]),
        (
            "uniform 0..1 → 0.3..1.3",
            vec![(Uniform(0.0, 1.0), 1_500), (Uniform(0.3, 1.3), u64::MAX)],
        ),
        (
            "exponential, mean 0.2 → 0.6",
            vec![(Exponential(0.2), 1_000), (Exponential(0.6), u64::MAX)],
        ),
    ]
}

enum Watch {
    Accuracy(Box<AccuracyWatch>, f64),
    Feature(Box<DriftMonitor>, f64),
    Adwin(Box<Adwin>),
    Page(PageHinkley),
}

impl Watch {
    /// A detector that has learnt from `before`.
    fn new(rival: Rival, setting: f64, before: &[f64], yes: bool) -> Result<Self, Problem> {
        Ok(match rival {
            Rival::Ours if yes => {
                let wrong = before.iter().sum::<f64>() as u64;
                let deployed = Accuracy::new(before.len() as u64 - wrong, wrong);
                let rule = AccuracyRule::Detector { labels_between: 1e14 };
                Self::Accuracy(Box::new(AccuracyWatch::new(deployed, rule)?), setting)
            }
            Rival::Ours => {
                let feature = FeatureSpec::numeric(Name::new("x")?);
                let mut builder =
                    ReferenceBuilder::new(Name::new("r")?, Source::File, vec![feature])?;
                for value in before {
                    builder.row(&[Value::Number(*value)])?;
                }
                let settings = MonitorSettings {
                    window: Duration::from_secs(1 << 30),
                    requests_between: 1e12,
                    ..MonitorSettings::default()
                };
                let deployment = Deployment::new(Name::new("m")?);
                let monitor =
                    DriftMonitor::new(settings, builder.finish(), deployment, Moment::ZERO)?;
                Self::Feature(Box::new(monitor), setting)
            }
            Rival::Adwin => {
                let delta = (-setting).exp();
                let mut adwin = Adwin::new(AdwinSettings { delta, ..AdwinSettings::default() })?;
                for value in before {
                    adwin.push(*value)?;
                }
                Self::Adwin(Box::new(adwin))
            }
            Rival::PageHinkley(delta) => {
                let usual = PageHinkleySettings::default();
                let settings = PageHinkleySettings { delta, threshold: setting, ..usual };
                let mut page = PageHinkley::new(settings)?;
                for value in before {
                    page.push(*value)?;
                }
                Self::Page(page)
            }
        })
    }

    fn push(&mut self, value: f64) -> Result<bool, Problem> {
        Ok(match self {
            Self::Accuracy(watch, setting) => {
                let wrong = value as u64;
                watch.push(1 - wrong, wrong);
                watch.evidence().unwrap_or(0.0).max(1e-300).ln() >= *setting
            }
            Self::Feature(monitor, setting) => {
                let mut population = Population::new(monitor.reference());
                population.row(monitor.reference(), &[Value::Number(value)])?;
                monitor.handle(Moment::ZERO, DriftInput::Seen(Box::new(population)))?;
                monitor.evidence().max(1e-300).ln() >= *setting
            }
            Self::Adwin(adwin) => adwin.push(value)?,
            Self::Page(page) => page.push(value)?,
        })
    }
}

/// Rows until an alarm on a stream that never changes, at most `cap`, after `before` rows to learn.
fn run_length(
    rival: Rival,
    setting: f64,
    (draw, before): (Draw, u64),
    cap: u64,
    seed: u64,
) -> Result<f64, Problem> {
    let mut rng = Rng::new(seed);
    let learnt: Vec<f64> = (0..before).map(|_| draw.next(&mut rng)).collect();
    let mut watch = Watch::new(rival, setting, &learnt, matches!(draw, Draw::Yes(_)))?;
    for at in 1..=cap {
        if watch.push(draw.next(&mut rng))? {
            return Ok(at as f64);
        }
    }
    Ok(cap as f64)
}

/// The setting at which the mean run length, stopped at three times `between`, is `between`.
fn calibrate(rival: Rival, first: (Draw, u64), between: f64, runs: u64) -> Result<f64, Problem> {
    let (mut low, mut high) = match rival {
        Rival::Ours => (0.0, between.ln() + 3.0),
        Rival::Adwin => (1e-6, 14.0),
        Rival::PageHinkley(_) => (0.05, 120.0),
    };
    for _ in 0..9 {
        let middle = f64::midpoint(low, high);
        let mut sum = 0.0;
        for run in 0..runs {
            sum += run_length(rival, middle, first, (3.0 * between) as u64, 7_000 + run)?;
        }
        if sum / (runs as f64) < between {
            low = middle;
        } else {
            high = middle;
        }
    }
    Ok(high)
}

fn delays(quick: bool) -> Result<bool, Problem> {
    let (between, calibrating, runs) = if quick { (1_000.0, 30, 60) } else { (3_000.0, 150, 400) };
    println!(
        "Rows from the change to the alarm, each detector set so that {between:.0} rows pass between false \
         alarms (runs stopped at three times that); the first half of the first segment is the \
         reference, and all see it; mean ± 95 % of {runs} runs:\n"
    );
    println!(
        "  {:<28} {:>15} {:>15} {:>15} {:>15}",
        "", "detector", "ADWIN", "P-H 0.005", "P-H 0.01"
    );
    let (mut better, mut worse, mut all) = (0, 0, 0);
    for (name, segments) in streams() {
        let (draw, length) = segments[0];
        let before = length / 2;
        let mut figures = Vec::new();
        for rival in RIVALS {
            let setting = calibrate(rival, (draw, before), between, calibrating)?;
            let mut delays = Vec::new();
            for run in 0..runs {
                delays.extend(delay(rival, setting, &segments, before, 90_000 + run)?);
            }
            figures.push(mean(&delays));
        }
        let cells: Vec<String> = figures
            .iter()
            .map(|(mean, error)| format!("{mean:>7.1} ± {:>4.1}", 1.96 * error))
            .collect();
        let (ours, error) = figures[0];
        let (best, best_error) = figures[1..]
            .iter()
            .copied()
            .min_by(|a, b| a.0.total_cmp(&b.0))
            .unwrap_or((f64::INFINITY, 0.0));
        // Worse when it is by more than the simulation's own error.
        let noise = 1.96 * error.hypot(best_error);
        all += 1;
        let says = if ours > best + noise {
            worse += 1;
            "BROKEN: later than the best other"
        } else if ours < best - noise {
            better += 1;
            "sooner than every other"
        } else {
            "as soon as the best other"
        };
        println!(
            "  {name:<28} {:>15} {:>15} {:>15} {:>15}  {says}",
            cells[0], cells[1], cells[2], cells[3]
        );
    }
    println!("\n  sooner on {better} of {all} streams, later on {worse}");
    Ok(worse == 0 && better * 2 > all)
}

/// Rows from the first change to the alarm; `None` for a run with a false alarm before it.
fn delay(
    rival: Rival,
    setting: f64,
    segments: &[(Draw, u64)],
    before: u64,
    seed: u64,
) -> Result<Option<f64>, Problem> {
    let mut rng = Rng::new(seed);
    let (first, length) = segments[0];
    let learnt: Vec<f64> = (0..before).map(|_| first.next(&mut rng)).collect();
    let mut watch = Watch::new(rival, setting, &learnt, matches!(first, Draw::Yes(_)))?;
    for _ in before..length {
        if watch.push(first.next(&mut rng))? {
            return Ok(None);
        }
    }
    let mut at = 0_u64;
    for (draw, length) in &segments[1..] {
        for _ in 0..(*length).min(20_000) {
            at += 1;
            if watch.push(draw.next(&mut rng))? {
                return Ok(Some(at as f64));
            }
        }
    }
    Ok(Some(at as f64))
}
