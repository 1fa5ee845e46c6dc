//! A rollout as a picture: who served, and what was known when.
//!
//! Time runs to the right. Above, the candidate's share. In the middle, how much speaks against
//! the candidate: at 1 it is taken back. Below, how much speaks for it: at 1 that is shown. Both
//! are logarithms of evidence over their threshold, and begin anew with each stage.
//!
//! The picture brings its own background, and a dark one for those who like it so.

use std::fmt::Write;

use crate::demo::report::{Outcome, Report};
use crate::demo::story::Frame;

/// The picture, as SVG.
#[must_use]
pub fn draw(report: &Report) -> String {
    let end = report.frames.last().map_or(1.0, |frame| frame.at).max(1e-3);
    let canvas = Canvas { end };
    let mut svg = String::new();
    let fault = match &report.fault[..] {
        "none" => String::new(),
        fault => format!(", {fault}"),
    };
    let title = format!("{} → {}{fault}", report.baseline, report.candidate);
    let verdict = format!("{} in stage {}", report.outcome.word(), report.stage);
    let _ = write!(
        svg,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="{0}: {1}">
<title>{0}: {1}</title>
<style>{STYLE}</style>
<rect class="card" x="0.5" y="0.5" width="{2}" height="{3}" rx="10"/>
<text class="title" x="{LEFT}" y="34">{0}</text>
<text class="{4}" x="{END}" y="34" text-anchor="end">{1}</text>
"#,
        escape(&title),
        escape(&verdict),
        WIDTH - 1.0,
        HEIGHT - 1.0,
        if report.outcome == Outcome::Promoted { "good" } else { "bad" },
    );
    canvas.stages(&mut svg, &report.frames);
    canvas.share(&mut svg, &report.frames);
    canvas.evidence(&mut svg, &report.frames, &AGAINST);
    canvas.evidence(&mut svg, &report.frames, &FOR);
    canvas.times(&mut svg);
    canvas.marks(&mut svg, report);
    legend(&mut svg, &report.frames);
    svg + "</svg>\n"
}

/// Where seconds go.
struct Canvas {
    end: f64,
}

/// A panel of evidence.
struct Panel {
    top: f64,
    head: &'static str,
    line: &'static str,
    guardrail: fn(&pilotage::judge::verdict::Reading) -> f64,
    quality: fn(&pilotage::judge::paired::PairedReading) -> f64,
}

const AGAINST: Panel = Panel {
    top: 228.0,
    head: "evidence against the candidate",
    line: "taken back",
    guardrail: |reading| reading.ln_e / reading.threshold,
    quality: |reading| reading.ln_bad / reading.bad_threshold,
};

const FOR: Panel = Panel {
    top: 384.0,
    head: "evidence for the candidate",
    line: "shown",
    guardrail: |reading| {
        let below = reading.ln_floor.unwrap_or(f64::NEG_INFINITY);
        reading.ln_safe.max(below) / reading.safe_threshold
    },
    quality: |reading| reading.ln_good / reading.good_threshold,
};

impl Canvas {
    fn x(&self, seconds: f64) -> f64 {
        LEFT + (RIGHT - LEFT) * (seconds / self.end).clamp(0.0, 1.0)
    }

    /// A band for each stage, with its name.
    fn stages(&self, svg: &mut String, frames: &[Frame]) {
        for (number, stage) in stages(frames).iter().enumerate() {
            let (Some(first), Some(last)) = (stage.first(), stage.last()) else { continue };
            let next = frames.iter().find(|frame| frame.at > last.at).map_or(self.end, |f| f.at);
            let (from, to) = (self.x(first.at), self.x(next));
            let _ = writeln!(
                svg,
                r#"<rect class="band{}" x="{from:.1}" y="{BANDS}" width="{:.1}" height="{:.1}"/>"#,
                number % 2,
                to - from,
                FLOOR - BANDS,
            );
            // A name that does not fit is better left out than printed over its neighbour's.
            if to - from >= 8.0 * first.stage.chars().count() as f64 {
                let middle = f64::midpoint(from, to);
                let _ = writeln!(
                    svg,
                    r#"<text class="stage" x="{middle:.1}" y="{}" text-anchor="middle">{}</text>"#,
                    BANDS + 16.0,
                    escape(&first.stage),
                );
            }
        }
    }

    fn share(&self, svg: &mut String, frames: &[Frame]) {
        let (top, height) = (112.0, 80.0);
        let y = |share: f64| top + height * (1.0 - share);
        head(svg, top - 6.0, "share of the candidate");
        for (share, name) in [(0.0, "0 %"), (0.5, "50 %"), (1.0, "100 %")] {
            rule(svg, y(share), "grid", name);
        }
        let mut path = String::new();
        for frame in frames {
            let (x, y) = (self.x(frame.at), y(frame.share));
            let _ = if path.is_empty() {
                write!(path, "M{x:.1} {y:.1}")
            } else {
                write!(path, "H{x:.1}V{y:.1}")
            };
        }
        let (from, to) = (self.x(0.0), self.x(self.end));
        let base = y(0.0);
        let _ = writeln!(svg, r#"<path class="fill" d="{path}H{to:.1}V{base:.1}H{from:.1}Z"/>"#);
        let _ = writeln!(svg, r#"<path class="share" d="{path}H{to:.1}"/>"#);
    }

    fn evidence(&self, svg: &mut String, frames: &[Frame], panel: &Panel) {
        let height = 116.0;
        let y = |value: f64| panel.top + height * (1.0 - value.clamp(0.0, CEILING) / CEILING);
        head(svg, panel.top - 6.0, panel.head);
        rule(svg, y(0.0), "grid", "0");
        rule(svg, y(1.0), "limit", panel.line);
        for stage in stages(frames) {
            let names = names(stage);
            for (number, name) in names.iter().enumerate() {
                let points: Vec<(f64, f64)> = stage
                    .iter()
                    .filter_map(|frame| {
                        let found = frame.guardrails.iter().find(|r| &r.guardrail == name);
                        let value = (panel.guardrail)(found?);
                        value.is_finite().then(|| (self.x(frame.at), y(value)))
                    })
                    .collect();
                line(svg, &format!("s{}", number % SERIES), &points);
            }
            let points: Vec<(f64, f64)> = stage
                .iter()
                .filter_map(|frame| Some((frame.at, (panel.quality)(frame.quality.as_ref()?))))
                .filter(|(_, value)| value.is_finite())
                .map(|(at, value)| (self.x(at), y(value)))
                .collect();
            if stage.first().is_some_and(Frame::is_shadow) {
                line(svg, "quality", &points);
            }
        }
    }

    fn times(&self, svg: &mut String) {
        let steps = [1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0];
        let step = steps.into_iter().find(|step| self.end / step <= 12.0).unwrap_or(120.0);
        let mut at = 0.0;
        while at <= self.end {
            let x = self.x(at);
            let _ = writeln!(
                svg,
                r#"<text class="axis" x="{x:.1}" y="{}" text-anchor="middle">{at:.0} s</text>"#,
                FLOOR + 18.0
            );
            at += step;
        }
    }

    /// When the fault was switched on, and when people were told.
    fn marks(&self, svg: &mut String, report: &Report) {
        let fault = report.times.fault_at_s;
        if let Some(at) = fault {
            self.mark(svg, at, "fault", "fault", Side::Left);
        }
        for (at, alert) in &report.alerts {
            // The severity stands first, in brackets: "[critical] …".
            let severity = alert.split(']').next().unwrap_or_default().trim_start_matches('[');
            // To the right there may be no room, to the left may stand the fault's name.
            let near = |fault| self.x(*at) - self.x(fault) < 120.0;
            let class = if severity == "info" { "news" } else { "alert" };
            if fault.is_some_and(near) {
                self.mark(svg, *at, class, "alert", Side::Right);
            } else {
                self.mark(svg, *at, class, &format!("alert: {severity}"), Side::Left);
            }
        }
    }

    fn mark(&self, svg: &mut String, at: f64, class: &str, text: &str, side: Side) {
        let x = self.x(at);
        let (anchor, beside) = match side {
            Side::Left => ("end", x - 8.0),
            Side::Right => ("start", x + 8.0),
        };
        let _ = writeln!(
            svg,
            r#"<path class="{class}" d="M{x:.1} {BANDS}V{FLOOR}"/>
<path class="{class} tip" d="M{x:.1} {BANDS}l-5 -8h10Z"/>
<text class="{class} name" x="{beside:.1}" y="{}" text-anchor="{anchor}">{}</text>"#,
            BANDS - 2.0,
            escape(text)
        );
    }
}

/// On which side of a mark its name stands.
#[derive(Clone, Copy)]
enum Side {
    Left,
    Right,
}

/// Runs of frames of one stage.
fn stages(frames: &[Frame]) -> Vec<&[Frame]> {
    frames.chunk_by(|a, b| a.stage == b.stage).collect()
}

/// The guardrails of these frames, in their order.
fn names(frames: &[Frame]) -> Vec<String> {
    let longest = frames.iter().map(|frame| &frame.guardrails).max_by_key(|all| all.len());
    longest.map_or_else(Vec::new, |all| all.iter().map(|r| r.guardrail.clone()).collect())
}

fn head(svg: &mut String, y: f64, text: &str) {
    let _ = writeln!(svg, r#"<text class="head" x="{LEFT}" y="{y:.1}">{}</text>"#, escape(text));
}

fn rule(svg: &mut String, y: f64, class: &str, name: &str) {
    let _ = writeln!(svg, r#"<path class="{class}" d="M{LEFT} {y:.1}H{RIGHT}"/>"#);
    let (x, y) = (LEFT - 8.0, y + 4.0);
    let _ = writeln!(
        svg,
        r#"<text class="axis" x="{x}" y="{y:.1}" text-anchor="end">{}</text>"#,
        escape(name)
    );
}

fn line(svg: &mut String, class: &str, points: &[(f64, f64)]) {
    if points.len() < 2 {
        return;
    }
    let mut path = String::new();
    let mut drawn = f64::NEG_INFINITY;
    for (number, (x, y)) in points.iter().enumerate() {
        // Nobody sees more than a point in two pixels; the last one is what it came to.
        if *x - drawn >= 2.0 || number + 1 == points.len() {
            let step = if path.is_empty() { 'M' } else { 'L' };
            let _ = write!(path, "{step}{x:.0} {y:.1}");
            drawn = *x;
        }
    }
    let _ = writeln!(svg, r#"<path class="line {class}" d="{path}"/>"#);
}

fn legend(svg: &mut String, frames: &[Frame]) {
    let mut x = LEFT;
    let y = FLOOR + 44.0;
    let rails = names(frames).into_iter().enumerate();
    let mut entries: Vec<(String, String)> =
        rails.map(|(number, name)| (format!("s{}", number % SERIES), name)).collect();
    if frames.iter().any(|frame| frame.quality.is_some()) {
        entries.push(("quality".to_owned(), "quality, in pairs".to_owned()));
    }
    for (class, name) in entries {
        let _ = writeln!(
            svg,
            r#"<path class="line {class}" d="M{x:.0} {}h22"/><text class="axis" x="{:.0}" y="{y}">{}</text>"#,
            y - 4.0,
            x + 28.0,
            escape(&name)
        );
        x += 48.0 + 7.2 * name.chars().count() as f64;
    }
}

/// Text that cannot be mistaken for markup.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 568.0;
const LEFT: f64 = 92.0;
/// Where the title's line ends.
const END: f64 = 936.0;
const RIGHT: f64 = 900.0;
/// Where the bands of the stages begin and end.
const BANDS: f64 = 62.0;
const FLOOR: f64 = 504.0;
/// What evidence is drawn up to, in thresholds.
const CEILING: f64 = 1.25;
/// Colours for guardrails.
const SERIES: usize = 6;

const STYLE: &str = "
text{font:12px system-ui,-apple-system,'Segoe UI',sans-serif;fill:#24292f}
.card{fill:#ffffff;stroke:#d0d7de}.title{font-size:17px;font-weight:600}
.good{font-size:15px;font-weight:600;fill:#1a7f37}.bad{font-size:15px;font-weight:600;fill:#cf222e}
.head{font-weight:600}.stage,.axis{fill:#57606a}
.band0{fill:#eef2f7}.band1{fill:#dfe6ef}
.grid{stroke:#c4ccd6;fill:none}.limit{stroke:#cf222e;stroke-dasharray:6 4;fill:none}
.line{fill:none;stroke-width:2;stroke-linejoin:round}
.share{fill:none;stroke:#0969da;stroke-width:2.5}.fill{fill:#0969da;opacity:.18}
.s0{stroke:#bc4c00}.s1{stroke:#8250df}.s2{stroke:#0969da}.s3{stroke:#1a7f37}.s4{stroke:#bf3989}.s5{stroke:#57606a}
.quality{stroke:#9a6700;stroke-width:3}
path.fault{stroke:#bc4c00;stroke-width:2}path.alert{stroke:#cf222e;stroke-width:2}
path.fault.tip{fill:#bc4c00}path.alert.tip{fill:#cf222e}
.fault.name{fill:#bc4c00;font-weight:600}.alert.name{fill:#cf222e;font-weight:600}
path.news{stroke:#1a7f37;stroke-width:2}path.news.tip,.news.name{fill:#1a7f37}.news.name{font-weight:600}
@media(prefers-color-scheme:dark){
text{fill:#e6edf3}.card{fill:#0d1117;stroke:#30363d}.stage,.axis{fill:#9da7b3}
.good{fill:#3fb950}.bad{fill:#ff7b72}.band0{fill:#161b22}.band1{fill:#202833}
.grid{stroke:#3d444d}.limit{stroke:#ff7b72}
.share{stroke:#58a6ff}.fill{fill:#58a6ff}
.s0{stroke:#f0883e}.s1{stroke:#bc8cff}.s2{stroke:#58a6ff}.s3{stroke:#3fb950}.s4{stroke:#f778ba}.s5{stroke:#9da7b3}
.quality{stroke:#e3b341}
path.fault{stroke:#f0883e}path.alert{stroke:#ff7b72}path.fault.tip{fill:#f0883e}path.alert.tip{fill:#ff7b72}
.fault.name{fill:#f0883e}.alert.name{fill:#ff7b72}
path.news{stroke:#3fb950}path.news.tip,.news.name{fill:#3fb950}}
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_looks_like_markup_is_only_a_name() {
        let report = Report {
            candidate: "<script>alert(1)</script>".to_owned(),
            fault: "none".to_owned(),
            ..Report::default()
        };
        let svg = draw(&report);
        assert!(!svg.contains("<script"), "{svg}");
        assert!(svg.contains("&lt;script&gt;"), "{svg}");
    }
}
