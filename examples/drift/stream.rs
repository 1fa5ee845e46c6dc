//! Any stream of rows: a reference from its beginning, a frozen model, and the rest as it comes.

use std::time::Duration;

use pilotage::clock::Moment;
use pilotage::drift::accuracy::{Accuracy, AccuracyRule, AccuracyWatch};
use pilotage::drift::dependence::design_effect;
use pilotage::drift::labels::LabelLedger;
use pilotage::drift::monitor::{DriftEffect, DriftInput, DriftMonitor};
use pilotage::drift::population::Population;
use pilotage::drift::reference::{FeatureSpec, Reference, ReferenceBuilder, Source};
use pilotage::drift::report::HealthReport;
use pilotage::drift::settings::{Deployment, MonitorSettings};
use pilotage::drift::value::{Kind, Role, Value};
use pilotage::drift::verdict::Verdict;
use pilotage::ids::{Arm, Epoch, Name};
use pilotage::stats::adwin::AdwinSettings;
use pilotage::stats::page_hinkley::PageHinkleySettings;

use crate::Problem;
use crate::csv::{Table, is_missing};
use crate::model::{Bayes, Cell};

/// What to do with a stream.
pub struct Options {
    pub label: Option<String>,
    pub reference: usize,
    pub window: usize,
    pub between: f64,
    pub row_seconds: u64,
}

/// A stream with its columns understood.
struct Stream {
    names: Vec<String>,
    kinds: Vec<Kind>,
    rows: Vec<Vec<Cell>>,
    labels: Vec<Option<String>>,
    label: Option<String>,
}

/// Runs a stream through a monitor and says what it saw; the report of the last window.
pub fn run(table: Table, options: &Options) -> Result<HealthReport, Problem> {
    let stream = Stream::new(table, options)?;
    let taken = options.reference;
    println!(
        "{} rows; the first {taken} are the reference, the other {} come one by one.",
        stream.rows.len(),
        stream.rows.len() - taken
    );
    let learnt = taken * 2 / 3;
    let model = Bayes::train(&stream.rows[..learnt], &stream.labels[..learnt]);
    let deployed = model.as_ref().map(|model| stream.accuracy(model, learnt..taken));
    if let Some(accuracy) = deployed.filter(|accuracy| accuracy.labelled() > 0) {
        println!(
            "A naive Bayes model learns {} from the first {learnt} rows and is right in {:.1} % of the \
             other {}.\nIts errors cluster: {:.0} labels are worth one independent one (design effect).",
            stream.label.as_deref().unwrap_or("the label"),
            100.0 * accuracy.rate().unwrap_or(0.0),
            taken - learnt,
            accuracy.design_effect()
        );
    } else if stream.label.is_some() {
        println!("No label can be learnt from the reference; accuracy is not watched.");
    } else {
        println!("No label was named (--label COLUMN); accuracy is not watched.");
    }
    let reference = stream.reference(model.as_ref(), taken)?;
    println!(
        "Reference {}: {} features, {} bytes in memory.",
        reference.id(),
        reference.features().len(),
        reference.memory_bytes()
    );
    for feature in reference.features() {
        if feature.is_constant() {
            println!("  {} is constant in the reference", feature.name());
        } else if feature.design_effect() > 1.0 {
            let effect = feature.design_effect();
            println!("  {}: {effect:.0} rows are worth one independent row", feature.name());
        }
    }
    println!();
    let report = stream.watch(model.as_ref(), deployed, reference, options)?;
    if let (Some(model), Some(deployed)) = (&model, deployed) {
        stream.accuracy_alarms(model, deployed, options);
        stream.retraining(model, options);
    }
    Ok(report)
}

impl Stream {
    fn new(table: Table, options: &Options) -> Result<Self, Problem> {
        if table.rows.len() <= options.reference {
            return Err(Problem(format!(
                "{} good rows are no more than the {} of the reference; give a smaller --reference",
                table.rows.len(),
                options.reference
            )));
        }
        let label = match &options.label {
            None => None,
            Some(name) => {
                Some(table.columns.iter().position(|column| column == name).ok_or_else(|| {
                    let columns = table.columns.join(", ");
                    Problem(format!("there is no column {name:?}; the columns are: {columns}"))
                })?)
            }
        };
        let inputs: Vec<usize> = (0..table.columns.len()).filter(|at| Some(*at) != label).collect();
        if inputs.is_empty() {
            return Err(Problem("there is no column beside the label to watch".to_owned()));
        }
        // A column is numeric when nineteen of twenty of its values in the reference are numbers.
        let number = |field: &str| field.trim().parse::<f64>().ok();
        let kinds: Vec<Kind> = inputs
            .iter()
            .map(|at| {
                let fields = table.rows[..options.reference].iter().map(|row| &row.fields[*at]);
                let values: Vec<_> = fields.filter(|field| !is_missing(field)).collect();
                let numbers = values.iter().filter(|field| number(field).is_some()).count();
                if numbers * 20 >= values.len() * 19 { Kind::Numeric } else { Kind::Categorical }
            })
            .collect();
        let cell = |field: &str, kind: Kind| match (kind, number(field)) {
            _ if is_missing(field) => Cell::Missing,
            (Kind::Numeric, Some(number)) => Cell::Number(number),
            _ => Cell::Category(field.trim().to_owned()),
        };
        let rows: Vec<Vec<Cell>> = table
            .rows
            .iter()
            .map(|row| {
                inputs.iter().zip(&kinds).map(|(at, kind)| cell(&row.fields[*at], *kind)).collect()
            })
            .collect();
        let labels: Vec<Option<String>> = table
            .rows
            .iter()
            .map(|row| {
                let field = &row.fields[label?];
                (!is_missing(field)).then(|| field.trim().to_owned())
            })
            .collect();
        let mut classes: Vec<_> = labels[..options.reference].iter().flatten().collect();
        classes.sort();
        classes.dedup();
        if classes.len() > 100 {
            let name = options.label.as_deref().unwrap_or_default();
            return Err(Problem(format!(
                "column {name:?} has {} different values in the reference: that is no class to predict; \
                 name another --label, or none",
                classes.len()
            )));
        }
        Ok(Self {
            names: inputs.iter().map(|at| table.columns[*at].clone()).collect(),
            kinds,
            rows,
            labels,
            label: options.label.clone(),
        })
    }

    fn right(&self, model: &Bayes, at: usize) -> Option<bool> {
        Some(model.predict(&self.rows[at]).0 == self.labels[at].as_deref()?)
    }

    /// How often the model is right on these rows, with how much its errors cluster.
    fn accuracy(&self, model: &Bayes, rows: std::ops::Range<usize>) -> Accuracy {
        let right: Vec<bool> = rows.filter_map(|at| self.right(model, at)).collect();
        let correct = right.iter().filter(|right| **right).count() as u64;
        let plain = Accuracy::new(correct, right.len() as u64 - correct);
        plain.clustered(design_effect(right)).unwrap_or(plain)
    }

    fn reference(&self, model: Option<&Bayes>, rows: usize) -> Result<Reference, Problem> {
        let mut features = Vec::new();
        for (name, kind) in self.names.iter().zip(&self.kinds) {
            let name = Name::new(name)?;
            features.push(match kind {
                Kind::Numeric => FeatureSpec::numeric(name),
                Kind::Categorical => FeatureSpec::categorical(name),
            });
        }
        if model.is_some() {
            let own = |name: &str| Name::new(format!("({name})"));
            features.push(FeatureSpec::categorical(own("prediction")?).role(Role::Prediction));
            features.push(FeatureSpec::numeric(own("score")?).role(Role::Score));
            features.push(FeatureSpec::categorical(own("label")?).role(Role::Label));
        }
        let of = Name::new("the first rows")?;
        let mut builder = ReferenceBuilder::new(of, Source::File, features)?;
        for at in 0..rows {
            self.with_row(model, at, |row| builder.row(row))?;
        }
        Ok(builder.finish())
    }

    /// A row as the reference and the monitor take it.
    fn with_row<T>(
        &self,
        model: Option<&Bayes>,
        at: usize,
        take: impl FnOnce(&[Value<'_>]) -> T,
    ) -> T {
        let mut row: Vec<Value<'_>> = self.rows[at]
            .iter()
            .map(|cell| match cell {
                Cell::Number(number) => Value::Number(*number),
                Cell::Category(name) => Value::Category(name),
                Cell::Missing => Value::Missing,
            })
            .collect();
        if let Some(model) = model {
            let (class, score) = model.predict(&self.rows[at]);
            row.extend([Value::Category(class), Value::Number(score)]);
            row.push(self.labels[at].as_deref().map_or(Value::Missing, Value::Category));
        }
        take(&row)
    }

    fn watch(
        &self,
        model: Option<&Bayes>,
        deployed: Option<Accuracy>,
        reference: Reference,
        options: &Options,
    ) -> Result<HealthReport, Problem> {
        let row = Duration::from_secs(options.row_seconds);
        let (taken, end) = (options.reference, self.rows.len());
        let settings = MonitorSettings {
            window: row * u32::try_from(options.window)?,
            requests_between: options.between,
            accuracy: AccuracyRule::Detector { labels_between: options.between },
            ..MonitorSettings::default()
        };
        let mut deployment = Deployment::new(Name::new("frozen")?);
        if let Some(accuracy) = deployed {
            deployment = deployment.accuracy(accuracy);
        }
        let time =
            |at: usize| Moment::ZERO.after(row * u32::try_from(at - taken).unwrap_or(u32::MAX));
        let mut monitor = DriftMonitor::new(settings, reference, deployment, Moment::ZERO)?;
        let mut was = Moment::ZERO;
        let mut ledger = LabelLedger::new(Duration::ZERO, row)?;
        // One row at a time tells how soon; of wide tables a few at a time, to be done today.
        let batch = (self.names.len() / 20).max(1);
        let (mut left, mut windows) = (vec![None; self.names.len()], 0_usize);
        let mut open = Population::new(monitor.reference());
        println!("alarms, with the row they were raised at (the first row is row 1):");
        let mut last = None;
        for at in taken..end {
            self.with_row(model, at, |values| open.row(monitor.reference(), values))?;
            for (left, feature) in left.iter_mut().zip(0..) {
                let of: &Cell = &self.rows[at][feature];
                if left.is_none() && *of != self.rows[0][feature] {
                    *left = Some(at);
                }
            }
            if let (Some(right), Some(_)) =
                (model.and_then(|model| self.right(model, at)), deployed)
            {
                ledger.served(Arm::BASELINE, Epoch::new(0), time(at), 1);
                ledger.labelled(Arm::BASELINE, Epoch::new(0), time(at), right);
            }
            if (at - taken + 1) % batch != 0 && at + 1 != end {
                continue;
            }
            let now = time(at + 1);
            let rows = std::mem::replace(&mut open, Population::new(monitor.reference()));
            // Labels first, before time passes: the window that ends now has both.
            let mut effects = monitor.handle(was, DriftInput::Matured(ledger.matured(now)))?;
            was = now;
            effects.extend(monitor.handle(now, DriftInput::Seen(Box::new(rows)))?);
            for effect in effects {
                match effect {
                    DriftEffect::Alert(news) if news.key.starts_with("drift/feature/") => {
                        let name = &news.key["drift/feature/".len()..];
                        let what = news.summary.split(", seen after").next().unwrap_or_default();
                        let place = self.names.iter().position(|own| own == name);
                        let reference = monitor.reference();
                        let constant = reference
                            .position(name)
                            .is_some_and(|at| reference.features()[at].is_constant());
                        let since = place.and_then(|place| left[place]).filter(|_| constant);
                        let since = since.map_or_else(String::new, |since| {
                            format!(
                                ": left its constant at row {since}, found {} rows later",
                                at - since
                            )
                        });
                        println!("  row {:>7}  {what}{since}", at + 1);
                    }
                    DriftEffect::Alert(news) if news.key == "drift/accuracy" && !news.resolved => {
                        println!("  row {:>7}  {}", at + 1, news.summary);
                    }
                    DriftEffect::Alert(_) => {}
                    DriftEffect::Retrain(_) => {}
                    DriftEffect::Report(report) => {
                        windows += 1;
                        last = Some(*report);
                    }
                    _ => {}
                }
            }
        }
        let report = last.unwrap_or_else(|| monitor.report());
        println!("\nof {windows} windows of {} rows, the last:\n\n{report}", options.window);
        print_history(&report);
        Ok(report)
    }

    /// What each alarm says of the frozen model, row by row.
    fn accuracy_alarms(&self, model: &Bayes, deployed: Accuracy, options: &Options) {
        let labels_between = options.between;
        let plain = deployed.clustered(1.0).unwrap_or(deployed);
        let rules = [
            (
                "detector, errors taken as independent",
                plain,
                AccuracyRule::Detector { labels_between },
            ),
            (
                "detector, by the measured design effect",
                deployed,
                AccuracyRule::Detector { labels_between },
            ),
            ("ADWIN, delta 0.002", plain, AccuracyRule::Adwin(AdwinSettings::default())),
            (
                "Page-Hinkley, threshold 50",
                plain,
                AccuracyRule::PageHinkley(PageHinkleySettings::default()),
            ),
        ];
        println!("the frozen model's accuracy, by each alarm that can watch it:");
        for (name, accuracy, rule) in rules {
            let Ok(mut watch) = AccuracyWatch::new(accuracy, rule) else { continue };
            let alarm = (options.reference..self.rows.len()).find(|at| {
                self.right(model, *at)
                    .is_some_and(|right| watch.push(right.into(), (!right).into()))
            });
            let says = alarm
                .map_or_else(|| "no alarm".to_owned(), |at| format!("alarm at row {}", at + 1));
            println!("  {name:<42} {says}");
        }
        println!();
    }

    /// Whether a model trained on the latest rows would have been better, stretch by stretch. They
    /// are short, because that is where two models are told apart too easily.
    fn retraining(&self, frozen: &Bayes, options: &Options) {
        let block = (options.window / 6).max(50);
        println!(
            "would retraining have helped? in stretches of {block} rows, the frozen model against one \
             trained on the {} rows before:",
            options.reference
        );
        let (mut sums, mut iid, mut ours) = ([0_usize; 4], [0; 2], [0; 2]);
        let (mut blocks, mut lower) = (0, 0);
        let mut from = options.reference;
        while from + block <= self.rows.len() && blocks < 200 {
            let to = from + block;
            let learn = from - options.reference..from;
            let fresh = Bayes::train(&self.rows[learn.clone()], &self.labels[learn]);
            let Some(fresh) = fresh else { break };
            let mut steps = Vec::new();
            for at in from..to {
                let pair = (self.right(frozen, at), self.right(&fresh, at));
                let (Some(old), Some(new)) = pair else { continue };
                sums[0] += 1;
                sums[1] += usize::from(old);
                sums[2] += usize::from(new);
                sums[3] += usize::from(self.labels[at] == self.labels[at - 1]);
                steps.push(i8::from(new) - i8::from(old));
            }
            // The paired difference as a mean of −1, 0 and 1, with and without its clustering.
            let n = steps.len().max(1) as f64;
            let mean = steps.iter().map(|step| f64::from(*step)).sum::<f64>() / n;
            let square = steps.iter().map(|step| f64::from(*step).powi(2)).sum::<f64>() / n;
            let error = ((square - mean * mean).max(0.0) / n).sqrt();
            let of = |sign: i8| design_effect(steps.iter().map(|step| *step == sign));
            let effect = of(1).max(of(-1));
            for (counts, error) in [(&mut iid, error), (&mut ours, error * effect.sqrt())] {
                if error > 0.0 && mean.abs() > 1.96 * error {
                    counts[usize::from(mean < 0.0)] += 1;
                }
            }
            blocks += 1;
            lower += usize::from(mean < 0.0);
            from = to;
        }
        if sums[0] == 0 {
            println!("  not a stretch with labels\n");
            return;
        }
        let rate = |right: usize| 100.0 * right as f64 / sums[0] as f64;
        println!(
            "  right over {blocks} stretches: frozen {:.1} %, retrained {:.1} %, \"the label of the row \
             before\" {:.1} %",
            rate(sums[1]),
            rate(sums[2]),
            rate(sums[3])
        );
        println!("  the retrained model is right less often in {lower} of them");
        println!(
            "  \"significant\" at 5 % if rows were independent: better in {}, worse in {}",
            iid[0], iid[1]
        );
        println!("  by the measured design effect: better in {}, worse in {}", ours[0], ours[1]);
        if rate(sums[3]) > rate(sums[1]).max(rate(sums[2])) {
            println!(
                "  repeating the last label beats both: labels come in runs, so a model does well or badly \
                 for whole runs,\n  and a test that takes rows as independent is sure of what the next \
                 run takes back"
            );
        }
        println!();
    }
}

fn print_history(report: &HealthReport) {
    let summary: Vec<_> = report.history.iter().collect();
    if summary.is_empty() {
        return;
    }
    let count = |verdict: Verdict| summary.iter().filter(|of| of.data == verdict).count();
    println!(
        "windows before it: {} drifted, {} to watch, {} stable, {} not enough\n",
        count(Verdict::Drifted),
        count(Verdict::Watch),
        count(Verdict::Stable),
        count(Verdict::NotEnough)
    );
}
