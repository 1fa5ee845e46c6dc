//! A small model of our own: naive Bayes over binned features. It stands in for whatever is served.

use std::collections::HashMap;

/// A value as the model sees it.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    Number(f64),
    Category(String),
    Missing,
}

/// Naive Bayes. Numbers fall into tenths of the training data.
pub struct Bayes {
    edges: Vec<Vec<f64>>,
    /// By feature, then by value: how many of each class had it.
    counts: Vec<HashMap<String, Vec<f64>>>,
    classes: Vec<String>,
    totals: Vec<f64>,
}

impl Bayes {
    /// Learns from rows with their labels. Without a label nothing can be learnt: `None`.
    pub fn train(rows: &[Vec<Cell>], labels: &[Option<String>]) -> Option<Self> {
        let mut classes: Vec<String> = labels.iter().flatten().cloned().collect();
        classes.sort();
        classes.dedup();
        let features = rows.first()?.len();
        if classes.is_empty() {
            return None;
        }
        let edges = (0..features).map(|at| edges(rows.iter().map(|row| &row[at]))).collect();
        let totals = vec![0.0; classes.len()];
        let mut model = Self { edges, counts: vec![HashMap::new(); features], classes, totals };
        for (row, label) in rows.iter().zip(labels) {
            let Some(label) = label else { continue };
            let Ok(class) = model.classes.binary_search(label) else { continue };
            model.totals[class] += 1.0;
            for (at, cell) in row.iter().enumerate() {
                let key = model.key(at, cell);
                let size = model.classes.len();
                // A feature of a million categories teaches nothing; the first thousand may.
                if model.counts[at].len() < 1_000 || model.counts[at].contains_key(&key) {
                    model.counts[at].entry(key).or_insert_with(|| vec![0.0; size])[class] += 1.0;
                }
            }
        }
        Some(model)
    }

    /// The likeliest class, and how likely it is.
    pub fn predict(&self, row: &[Cell]) -> (&str, f64) {
        let all: f64 = self.totals.iter().sum();
        let mut scores: Vec<f64> =
            self.totals.iter().map(|total| ((total + 1.0) / (all + 1.0)).ln()).collect();
        for (at, cell) in row.iter().enumerate() {
            if let Some(counts) = self.counts[at].get(&self.key(at, cell)) {
                let values = self.counts[at].len() as f64;
                for (score, (count, total)) in
                    scores.iter_mut().zip(counts.iter().zip(&self.totals))
                {
                    *score += ((count + 0.5) / (total + 0.5 * values)).ln();
                }
            }
        }
        let best = (0..scores.len()).max_by(|a, b| scores[*a].total_cmp(&scores[*b])).unwrap_or(0);
        let sum: f64 = scores.iter().map(|score| (score - scores[best]).exp()).sum();
        (&self.classes[best], 1.0 / sum)
    }

    fn key(&self, at: usize, cell: &Cell) -> String {
        match cell {
            Cell::Number(number) => {
                self.edges[at].partition_point(|edge| *edge < *number).to_string()
            }
            Cell::Category(name) => name.clone(),
            Cell::Missing => "\u{0}".to_owned(),
        }
    }
}

fn edges<'a>(cells: impl Iterator<Item = &'a Cell>) -> Vec<f64> {
    let mut numbers: Vec<f64> = cells
        .filter_map(|cell| if let Cell::Number(number) = cell { Some(*number) } else { None })
        .filter(|number| number.is_finite())
        .collect();
    numbers.sort_by(f64::total_cmp);
    let mut edges: Vec<f64> =
        (1..10).filter_map(|tenth| numbers.get(numbers.len() * tenth / 10).copied()).collect();
    edges.dedup();
    edges
}
