//! A health report drawn as one page: an SVG without scripts, fonts or links of its own.
//!
//! It answers in this order what a person asks: is it well, what should I do, how accurate is it and
//! how certain is that, what moved, and what does the move look like. Certainty and size are drawn
//! apart: a bar is how far something moved, the tick on it is what chance alone would reach.

use std::fmt::Write;

use crate::drift::report::{FeatureHealth, HealthReport, Recommendation, due, percent, span};
use crate::drift::verdict::Verdict;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 40.0;
const RIGHT: f64 = WIDTH - LEFT;
/// The most features that get a line of their own.
const LINES: usize = 24;
/// The most features whose shape is drawn.
const SHAPES: usize = 4;

const INK: &str = "#1c2733";
const SOFT: &str = "#66727f";
const FAINT: &str = "#e4e8ec";
const THEN: &str = "#a9b6c4";
const NOW: &str = "#2f6f9f";

impl HealthReport {
    /// The report as an SVG page, 960 wide and as high as it needs to be.
    #[must_use]
    pub fn to_svg(&self) -> String {
        let mut page = Page { body: String::new(), y: 0.0 };
        page.head(self);
        page.tiles(self);
        page.accuracy(self);
        page.features(self);
        page.shapes(self);
        page.foot(self);
        page.finish(self)
    }
}

struct Page {
    body: String,
    y: f64,
}

fn colour(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Stable => "#2e7d4f",
        Verdict::Watch => "#b7791f",
        Verdict::Drifted => "#b3372f",
        Verdict::NotEnough => "#7b8794",
    }
}

fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            letter if letter.is_control() => safe.push('?'),
            letter => safe.push(letter),
        }
    }
    safe
}

/// At most `most` letters.
fn short(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(most.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// `text` in lines of at most `most` letters.
fn lines(text: &str, most: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.last_mut().expect("there is one");
        if !last.is_empty() && last.chars().count() + word.chars().count() >= most {
            lines.push(word.to_owned());
        } else {
            if !last.is_empty() {
                last.push(' ');
            }
            last.push_str(word);
        }
    }
    lines
}

impl Page {
    fn text(&mut self, (x, y): (f64, f64), class: &str, fill: &str, text: &str) {
        let text = escape(text);
        let _ = write!(
            self.body,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\" fill=\"{fill}\">{text}</text>"
        );
    }

    fn right(&mut self, (x, y): (f64, f64), class: &str, fill: &str, text: &str) {
        let text = escape(text);
        let _ = write!(
            self.body,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\" fill=\"{fill}\" text-anchor=\"end\">{text}</text>"
        );
    }

    fn rect(&mut self, (x, y): (f64, f64), (w, h): (f64, f64), fill: &str) {
        let (w, h) = (w.max(0.0), h.max(0.0));
        let _ = write!(
            self.body,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{w:.1}\" height=\"{h:.1}\" rx=\"2\" fill=\"{fill}\"/>"
        );
    }

    fn line(&mut self, (x, y): (f64, f64), (to_x, to_y): (f64, f64), stroke: &str, more: &str) {
        let _ = write!(
            self.body,
            "<line x1=\"{x:.1}\" y1=\"{y:.1}\" x2=\"{to_x:.1}\" y2=\"{to_y:.1}\" stroke=\"{stroke}\" {more}/>"
        );
    }

    fn badge(&mut self, (x, y): (f64, f64), verdict: Verdict, word: &str) {
        let width = 7.4 * word.chars().count() as f64 + 28.0;
        let fill = colour(verdict);
        let _ = write!(
            self.body,
            "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"20\" rx=\"10\" fill=\"{fill}\" fill-opacity=\"0.12\"/>",
            y - 14.0
        );
        let _ = write!(
            self.body,
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.5\" fill=\"{fill}\"/>",
            x + 11.0,
            y - 4.0
        );
        self.text((x + 19.0, y), "small strong", fill, word);
    }

    fn title(&mut self, text: &str, about: &str) {
        self.y += 46.0;
        self.text((LEFT, self.y), "section", INK, text);
        self.right((RIGHT, self.y), "small", SOFT, about);
        self.y += 10.0;
        self.line((LEFT, self.y), (RIGHT, self.y), FAINT, "");
    }

    fn head(&mut self, report: &HealthReport) {
        let (verdict, word) = state(report);
        self.y = 52.0;
        self.text((LEFT, self.y), "title", INK, &short(report.model.as_str(), 48));
        let age = format!("in service {}", span(report.age_seconds));
        self.right((RIGHT, self.y), "body", SOFT, &age);
        self.y += 22.0;
        self.rect((LEFT, self.y), (4.0, 46.0), colour(verdict));
        self.text((LEFT + 18.0, self.y + 17.0), "lead", colour(verdict), word);
        for (at, line) in lines(&report.why, 116).into_iter().take(2).enumerate() {
            self.text((LEFT + 18.0, self.y + 38.0 + 18.0 * at as f64), "body", INK, &line);
            self.y += 18.0 * at as f64;
        }
        self.y += 46.0;
    }

    fn tiles(&mut self, report: &HealthReport) {
        let data = report.moved().count();
        let now =
            report.performance.now.map_or_else(|| "unknown".to_owned(), |rate| percent(rate.rate));
        let then = report.performance.then;
        let about = then.map_or_else(
            || "no labels at deployment".to_owned(),
            |then| format!("was {} at deployment", percent(then.rate)),
        );
        let moved = format!("{data} of {}", report.features.len());
        let rows = format!("{} rows this window", thousands(report.rows));
        let labels = if report.labels.served == 0 {
            ("none due".to_owned(), "in this window".to_owned())
        } else {
            let part = report.labels.labelled as f64 / report.labels.served as f64;
            let about =
                if report.labels.suspicious { "not missing at random" } else { "of requests due" };
            (percent(part), about.to_owned())
        };
        let tiles = [
            ("accuracy", now, about, report.performance.verdict),
            ("features moved", moved, rows, report.data),
            (
                "labels",
                labels.0,
                labels.1,
                if report.labels.suspicious { Verdict::Watch } else { Verdict::Stable },
            ),
            (
                "last training",
                format!("{} ago", span(report.trained_seconds)),
                format!("next {}", due(report.training_due_seconds)),
                if report.training_due_seconds <= 0 { Verdict::Watch } else { Verdict::Stable },
            ),
        ];
        self.y += 26.0;
        let width = (RIGHT - LEFT - 3.0 * 16.0) / 4.0;
        for (at, (name, value, about, verdict)) in tiles.into_iter().enumerate() {
            let x = LEFT + at as f64 * (width + 16.0);
            let (y, rim) = (self.y, "#ffffff");
            let _ = write!(
                self.body,
                "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"86\" rx=\"6\" fill=\"{rim}\" stroke=\"{FAINT}\"/>"
            );
            self.text((x + 16.0, y + 24.0), "small", SOFT, name);
            let ink = if verdict == Verdict::Stable { INK } else { colour(verdict) };
            self.text((x + 16.0, y + 52.0), "value", ink, &value);
            self.text((x + 16.0, y + 72.0), "small", SOFT, &short(&about, 32));
        }
        self.y += 86.0;
    }

    /// Accuracy window by window, with intervals, against the accuracy at deployment.
    fn accuracy(&mut self, report: &HealthReport) {
        let Some(then) = report.performance.then else { return };
        let mut points: Vec<(u64, crate::drift::report::Rate)> = report
            .history
            .iter()
            .filter_map(|window| window.accuracy.map(|rate| (window.age_seconds, rate)))
            .collect();
        points.extend(report.performance.now.map(|rate| (report.age_seconds, rate)));
        if points.is_empty() {
            return;
        }
        let skip = points.len().saturating_sub(52);
        points.drain(..skip);
        self.title(
            "Accuracy",
            "each window with its 95 % interval; the band is the accuracy at deployment",
        );
        let (top, height, x0, x1) = (self.y + 16.0, 150.0, LEFT + 48.0, RIGHT - 12.0);
        let all = points.iter().map(|(_, rate)| *rate).chain([then]);
        let (low, high) = all
            .fold((1.0_f64, 0.0_f64), |(low, high), rate| (low.min(rate.low), high.max(rate.high)));
        let (low, high) = ((low - 0.02).max(0.0), (high + 0.02).min(1.0));
        let y = |rate: f64| top + height * (high - rate) / (high - low).max(1e-9);
        let steps = 4;
        for step in 0..=steps {
            let rate = low + (high - low) * f64::from(step) / f64::from(steps);
            self.line((x0, y(rate)), (x1, y(rate)), FAINT, "");
            self.right((x0 - 8.0, y(rate) + 4.0), "small", SOFT, &format!("{:.0} %", rate * 100.0));
        }
        let _ = write!(
            self.body,
            "<rect x=\"{x0:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{THEN}\" fill-opacity=\"0.25\"/>",
            y(then.high),
            x1 - x0,
            y(then.low) - y(then.high)
        );
        self.line((x0, y(then.rate)), (x1, y(then.rate)), SOFT, "stroke-dasharray=\"4 3\"");
        let gap = (x1 - x0) / points.len() as f64;
        let x = |at: usize| x0 + gap * (at as f64 + 0.5);
        let path: Vec<String> = points
            .iter()
            .enumerate()
            .map(|(at, (_, rate))| format!("{:.1},{:.1}", x(at), y(rate.rate)))
            .collect();
        let _ = write!(
            self.body,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{NOW}\" stroke-width=\"1.5\"/>",
            path.join(" ")
        );
        for (at, (_, rate)) in points.iter().enumerate() {
            self.line(
                (x(at), y(rate.low)),
                (x(at), y(rate.high)),
                NOW,
                "stroke-width=\"1.5\" stroke-opacity=\"0.5\"",
            );
            let below = rate.high < then.low;
            let fill = if below { colour(Verdict::Drifted) } else { NOW };
            let _ = write!(
                self.body,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"4\" fill=\"{fill}\" stroke=\"#fff\"/>",
                x(at),
                y(rate.rate)
            );
        }
        let ends = [(0, points.first()), (points.len() - 1, points.last())];
        for (at, point) in ends.into_iter().take(points.len().min(2)) {
            if let Some((age, _)) = point {
                let label = format!("after {}", span(*age));
                let _ = write!(
                    self.body,
                    "<text x=\"{:.1}\" y=\"{:.1}\" class=\"small\" fill=\"{SOFT}\" text-anchor=\"middle\">{label}</text>",
                    x(at).clamp(x0 + 30.0, x1 - 40.0),
                    top + height + 18.0
                );
            }
        }
        self.y = top + height + 24.0;
    }

    fn features(&mut self, report: &HealthReport) {
        let level = format!(
            "bar: PSI; tick: what chance reaches once in {:.0} windows, over all features",
            1.0 / report.alpha
        );
        self.title("Features", &level);
        if report.features.is_empty() {
            return;
        }
        let most =
            report.features.iter().filter_map(|of| of.comparison.psi).fold(0.4_f64, f64::max);
        // The root gives small moves room beside large ones.
        let (x0, width) = (LEFT + 300.0, 180.0);
        let x = |psi: f64| x0 + width * (psi.max(0.0) / most).sqrt().min(1.0);
        for feature in report.features.iter().take(LINES) {
            self.y += 26.0;
            let y = self.y;
            self.text((LEFT, y), "body", INK, &short(feature.name.as_str(), 24));
            self.badge((LEFT + 180.0, y), feature.verdict, &feature.verdict.to_string());
            self.rect((x0, y - 10.0), (width, 10.0), "#f1f3f5");
            if let Some(psi) = feature.comparison.psi {
                let fill = match feature.verdict {
                    Verdict::Drifted | Verdict::Watch => colour(feature.verdict),
                    _ => THEN,
                };
                self.rect((x0, y - 10.0), (x(psi) - x0, 10.0), fill);
                let limit = x(feature.comparison.psi_limit);
                self.line((limit, y - 13.0), (limit, y + 3.0), INK, "stroke-width=\"1.5\"");
            }
            self.text((x0 + width + 16.0, y), "small", SOFT, &short(&feature.note, 56));
        }
        let rest = report.features.len().saturating_sub(LINES);
        if rest > 0 {
            self.y += 26.0;
            self.text(
                (LEFT, self.y),
                "small",
                SOFT,
                &format!("and {rest} more, none of which moved further"),
            );
        }
        for name in report.appeared.iter().take(6) {
            self.y += 26.0;
            self.text((LEFT, self.y), "body", INK, &short(name, 24));
            self.badge((LEFT + 180.0, self.y), Verdict::Watch, "appeared");
            self.text((x0, self.y), "small", SOFT, "the reference does not know it");
        }
    }

    /// What the largest moves look like: parts of the rows by cell, then and now.
    fn shapes(&mut self, report: &HealthReport) {
        let drawn: Vec<&FeatureHealth> =
            report.moved().filter(|feature| !feature.shape.is_empty()).take(SHAPES).collect();
        if drawn.is_empty() {
            return;
        }
        self.title("What moved where", "part of the rows: grey at the reference, blue now");
        let width = (RIGHT - LEFT - 32.0) / 2.0;
        let top = self.y;
        let mut bottoms = [top; 2];
        for (at, feature) in drawn.into_iter().enumerate() {
            let (column, x) = (at % 2, LEFT + (at % 2) as f64 * (width + 32.0));
            let mut y = bottoms[column] + 28.0;
            self.text((x, y), "body strong", INK, &short(feature.name.as_str(), 40));
            let mut cells = feature.shape.clone();
            if cells.len() > 12 {
                // Those that moved most, in their order.
                let by = |cell: &(String, f64, f64)| (cell.2 - cell.1).abs();
                let mut moved: Vec<f64> = cells.iter().map(by).collect();
                moved.sort_by(f64::total_cmp);
                let least = moved[moved.len() - 12];
                cells.retain(|cell| by(cell) >= least);
                cells.truncate(12);
            }
            let most =
                cells.iter().map(|(_, then, now)| then.max(*now)).fold(0.0, f64::max).max(1e-9);
            let (x0, bar) = (x + 130.0, width - 130.0 - 116.0);
            for (name, then, now) in &cells {
                y += 22.0;
                self.right((x0 - 8.0, y), "small", SOFT, &short(name, 20));
                self.rect((x0, y - 10.0), (bar * then / most, 5.0), THEN);
                self.rect((x0, y - 5.0), (bar * now / most, 5.0), NOW);
                let change = format!("{} → {}", percent(*then), percent(*now));
                self.right((x + width, y), "small", SOFT, &change);
            }
            bottoms[column] = y + 12.0;
        }
        self.y = bottoms[0].max(bottoms[1]);
    }

    fn foot(&mut self, report: &HealthReport) {
        self.y += 34.0;
        self.line((LEFT, self.y), (RIGHT, self.y), FAINT, "");
        self.y += 20.0;
        let promise = format!(
            "Between windows, at least {} rows pass between false alarms on average, over all features. \
             A window in which nothing moved is called moved at most {} of the time.",
            thousands(report.requests_between as u64),
            percent(report.alpha)
        );
        for line in lines(&promise, 130) {
            self.text((LEFT, self.y), "small", SOFT, &line);
            self.y += 16.0;
        }
        let reference =
            format!("Reference {} of {} rows.", report.reference, thousands(report.reference_rows));
        self.text((LEFT, self.y), "small", SOFT, &reference);
        self.y += 28.0;
    }

    fn finish(self, report: &HealthReport) -> String {
        let (height, body) = (self.y, self.body);
        let title = escape(&format!("{}: {}", report.model, report.recommendation));
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height:.0}\" \
             viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-label=\"{title}\"><title>{title}</title>\
             <style>text{{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif}}\
             .title{{font-size:26px;font-weight:650}}.lead{{font-size:19px;font-weight:650}}\
             .section{{font-size:16px;font-weight:650}}.value{{font-size:23px;font-weight:600}}\
             .body{{font-size:13.5px}}.small{{font-size:12px}}.strong{{font-weight:600}}</style>\
             <rect width=\"100%\" height=\"100%\" fill=\"#fbfcfd\"/>{body}</svg>\n"
        )
    }
}

/// The state of a model in one word, with the colour it has.
fn state(report: &HealthReport) -> (Verdict, &'static str) {
    match report.recommendation {
        Recommendation::None => (Verdict::Stable, "Well: nothing to do"),
        Recommendation::Investigate if report.data == Verdict::NotEnough => {
            (Verdict::NotEnough, "Not enough data: investigate")
        }
        Recommendation::Investigate => (Verdict::Watch, "Investigate"),
        Recommendation::Retrain if report.performance.verdict == Verdict::Drifted => {
            (Verdict::Drifted, "Retrain")
        }
        Recommendation::Retrain => (Verdict::Watch, "Retrain"),
        Recommendation::RollBack => (Verdict::Drifted, "Roll back"),
    }
}

fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_out_of_the_page() {
        assert_eq!(escape("<script>\"&\n"), "&lt;script&gt;&quot;&amp;?");
    }

    #[test]
    fn numbers_and_lines_are_set_as_people_read_them() {
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(thousands(12), "12");
        assert_eq!(lines("one two three", 8), ["one two", "three"]);
        assert_eq!(short("abcdef", 4), "abc…");
    }
}
