//! A shadow's report as a page.
//!
//! One file of HTML with its own style and no script. Everything that came from a request or a
//! model is escaped.

use std::fmt::{self, Write};

use crate::compare::agreement::Kappa;
use crate::ids::Segment;
use crate::judge::paired::{PairedReading, PairedVerdict};
use crate::judge::shadow::{ShadowReport, ShadowVerdict};
use crate::observe::explorer::case::Case;
use crate::observe::explorer::explorer::Exploration;
use crate::observe::shadow::{PairedTruth, ShadowCounts};

/// What things are called.
pub struct Names<'a> {
    /// The baseline.
    pub baseline: &'a str,
    /// The candidate.
    pub candidate: &'a str,
    /// A segment; `None` for those that were not declared.
    pub segment: &'a dyn Fn(Segment) -> Option<String>,
}

impl fmt::Debug for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Names")
            .field("baseline", &self.baseline)
            .field("candidate", &self.candidate)
            .finish_non_exhaustive()
    }
}

/// The page.
#[must_use]
pub fn page(
    names: &Names<'_>,
    report: &ShadowReport,
    counts: &ShadowCounts,
    cases: &Exploration,
) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write_page(&mut out, names, report, counts, cases);
    out
}

fn write_page(
    out: &mut String,
    names: &Names<'_>,
    report: &ShadowReport,
    counts: &ShadowCounts,
    cases: &Exploration,
) -> fmt::Result {
    let title = format!("{} → {}", names.baseline, names.candidate);
    let mood = match report.verdict {
        ShadowVerdict::PromoteToCanary => "good",
        ShadowVerdict::Continue { .. } => "open",
        _ => "bad",
    };
    write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Shadow: {0}</title>\n<style>{STYLE}</style>\n<main>\n<header>\n\
         <p class=\"over\">Shadow report</p>\n<h1>{0}</h1>\n\
         <p class=\"verdict {mood}\"><b>{1}</b></p>\n<p class=\"why\">{2}</p>\n</header>\n",
        escape(&title),
        capital(report.verdict.words()),
        escape(&report.sentence),
    )?;
    tiles(out, counts)?;
    evidence(out, report, counts)?;
    segments(out, names, report)?;
    patterns(out, names, cases)?;
    slowest(out, names, cases)?;
    out.push_str("</main>\n</html>\n");
    Ok(())
}

fn tiles(out: &mut String, counts: &ShadowCounts) -> fmt::Result {
    let PairedTruth { only_baseline, both_wrong, .. } = counts.answered;
    let timeouts = counts.candidate.of(crate::outcome::Status::Timeout);
    let tiles = [
        ("sampled", counts.sampled),
        ("run", counts.run),
        ("pairs", counts.pairs),
        ("candidate failed", only_baseline + both_wrong),
        ("timed out", timeouts),
        ("shed", counts.shed),
        ("too large", counts.too_large),
        ("not shadowable", counts.not_shadowable),
        ("paused", counts.paused),
        ("incomparable", counts.uncomparable),
        ("repeated", counts.repeated),
    ];
    out.push_str("<section class=\"tiles\">\n");
    for (name, count) in tiles {
        writeln!(out, "<div><b>{}</b><span>{name}</span></div>", grouped(count))?;
    }
    out.push_str("</section>\n");
    Ok(())
}

fn evidence(out: &mut String, report: &ShadowReport, counts: &ShadowCounts) -> fmt::Result {
    out.push_str(
        "<section>\n<h2>Evidence</h2>\n<table>\n<thead><tr><th>Question<th>Seen<th>Held \
         against<th>Pairs<th>Evidence against<th>Evidence for<th>So far</tr></thead>\n<tbody>\n",
    );
    let all = [Some(&report.failures), Some(&report.latency), Some(&report.agreement)];
    for reading in all.into_iter().flatten().chain(&report.quality) {
        row(out, reading)?;
    }
    out.push_str(
        "</tbody>\n</table>\n<p class=\"note\">A full bar is proof at the level asked for. Bars may \
         be read at any time.</p>\n<ul class=\"facts\">\n",
    );
    if let Some(ratio) = report.median_ratio {
        writeln!(out, "<li>The median request takes the candidate {ratio:.2} times as long.")?;
    }
    if let Some(noise) = report.noise {
        writeln!(
            out,
            "<li>Asked twice, the baseline differs from itself on {:.1} % of {} requests.",
            100.0 * noise,
            grouped(counts.noise.matched.total())
        )?;
    }
    match report.kappa {
        Kappa::Known { kappa, error, expected, .. } => writeln!(
            out,
            "<li>Agreement beyond chance (Cohen’s kappa): {kappa:.3} ± {error:.3}; by chance alone \
             they would agree on {:.1} %.",
            100.0 * expected
        )?,
        Kappa::OneClass { .. } => {
            out.push_str("<li>Both gave one class to everything: agreement says nothing here.\n");
        }
        Kappa::NoPairs => {}
    }
    if let Some(clustering) = &report.clustering {
        writeln!(
            out,
            "<li>Pairs of one subject hang together by a factor of {:.2}: {} pairs are worth {:.0} \
             independent ones.",
            clustering.design_effect,
            grouped(clustering.pairs),
            clustering.effective_pairs()
        )?;
    }
    let truth = &counts.truth;
    if truth.total() > 0 {
        writeln!(
            out,
            "<li>Of {} requests whose truth is known the candidate broke {} and mended {}.",
            grouped(truth.total()),
            grouped(truth.only_baseline),
            grouped(truth.only_candidate)
        )?;
    }
    let labels = &counts.labels;
    if labels.total() > 0 {
        writeln!(
            out,
            "<li>People looked at {} disagreements: the stable model was right in {}, the candidate \
             in {}, neither in {}.",
            labels.total(),
            labels.only_baseline,
            labels.only_candidate,
            labels.both_wrong
        )?;
    }
    out.push_str("</ul>\n</section>\n");
    Ok(())
}

fn row(out: &mut String, reading: &PairedReading) -> fmt::Result {
    let percent = |part: f64| format!("{:.2} %", 100.0 * part);
    let (class, so_far) = match reading.verdict {
        PairedVerdict::Pass => ("good", "shown".to_owned()),
        PairedVerdict::Refuse => ("bad", "refused".to_owned()),
        PairedVerdict::Continue { needed: Some(needed) } => {
            ("open", format!("about {} more", grouped(needed)))
        }
        PairedVerdict::Continue { needed: None } => ("open", "open".to_owned()),
    };
    write!(
        out,
        "<tr><td>{}<td class=\"n\">{}<td class=\"n\">{}<td class=\"n\">{}<td>",
        escape(&reading.question),
        reading.estimate.map_or_else(|| "–".to_owned(), percent),
        percent(reading.bound),
        grouped(reading.pairs),
    )?;
    bar(out, "against", reading.ln_bad / reading.bad_threshold)?;
    out.push_str("<td>");
    bar(out, "for", reading.ln_good / reading.good_threshold)?;
    writeln!(out, "<td class=\"{class}\">{so_far}</tr>")
}

fn segments(out: &mut String, names: &Names<'_>, report: &ShadowReport) -> fmt::Result {
    if report.segments.len() < 2 {
        return Ok(());
    }
    out.push_str(
        "<section>\n<h2>Segments</h2>\n<table>\n<thead><tr><th>Segment<th>Pairs<th>Agreement\
         <th><th>Failed, candidate only<th>Slower<th>Broken<th>Mended<th></tr></thead>\n<tbody>\n",
    );
    let mut all: Vec<_> = report.segments.iter().collect();
    all.sort_by(|x, y| {
        let part = |s: &crate::judge::shadow::SegmentReport| s.counts.agreement().unwrap_or(2.0);
        y.worse.cmp(&x.worse).then(part(x).total_cmp(&part(y)))
    });
    for segment in all {
        let seen = &segment.counts;
        write!(
            out,
            "<tr><td>{}<td class=\"n\">{}<td class=\"n\">{}<td>",
            escape(&name_of(names, seen.segment)),
            grouped(seen.pairs),
            seen.agreement()
                .map_or_else(|| "–".to_owned(), |part| format!("{:.1} %", 100.0 * part)),
        )?;
        bar(out, if segment.worse { "against" } else { "for" }, seen.agreement().unwrap_or(0.0))?;
        writeln!(
            out,
            "<td class=\"n\">{}<td class=\"n\">{}<td class=\"n\">{}<td class=\"n\">{}\
             <td class=\"bad\">{}</tr>",
            grouped(seen.answered.only_baseline),
            grouped(seen.slower),
            grouped(seen.truth.only_baseline),
            grouped(seen.truth.only_candidate),
            if segment.worse { "worse" } else { "" },
        )?;
    }
    out.push_str("</tbody>\n</table>\n</section>\n");
    Ok(())
}

fn patterns(out: &mut String, names: &Names<'_>, cases: &Exploration) -> fmt::Result {
    if cases.patterns.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "<section>\n<h2>Where they differ</h2>\n<p class=\"note\">{} disagreements; the most \
         frequent of {} patterns kept. Open one for its cases.</p>",
        grouped(cases.disagreements),
        cases.patterns.len()
    )?;
    let most = cases.patterns.first().map_or(1, |pattern| pattern.count).max(1);
    for pattern in cases.patterns.iter().take(SHOWN) {
        let about = if pattern.too_high > 0 {
            format!("{} to {}", grouped(pattern.count - pattern.too_high), grouped(pattern.count))
        } else {
            grouped(pattern.count)
        };
        write!(
            out,
            "<details><summary><span class=\"pattern\">{} → {}</span><span class=\"in\">{}</span>\
             <span class=\"n\">{about}</span>",
            escape(or_none(&pattern.from)),
            escape(or_none(&pattern.to)),
            escape(&name_of(names, pattern.segment)),
        )?;
        bar(out, "plain", pattern.count as f64 / most as f64)?;
        out.push_str("</summary>\n");
        for case in &pattern.cases {
            one(out, case)?;
        }
        out.push_str("</details>\n");
    }
    out.push_str("</section>\n");
    Ok(())
}

fn slowest(out: &mut String, names: &Names<'_>, cases: &Exploration) -> fmt::Result {
    if cases.slowest.is_empty() {
        return Ok(());
    }
    out.push_str(
        "<section>\n<h2>Slowest beside the baseline</h2>\n<table>\n<thead><tr><th>Times as long\
         <th>Baseline<th>Candidate<th>Segment<th>Input</tr></thead>\n<tbody>\n",
    );
    for case in cases.slowest.iter().take(SHOWN) {
        writeln!(
            out,
            "<tr><td class=\"n\">{:.1}<td class=\"n\">{}<td class=\"n\">{}<td>{}<td class=\"text\">{}</tr>",
            case.facts.slowness(),
            time(case.facts.baseline_nanos),
            time(case.facts.candidate_nanos),
            escape(&name_of(names, case.facts.segment)),
            escape(or_none(&case.input)),
        )?;
    }
    out.push_str("</tbody>\n</table>\n</section>\n");
    Ok(())
}

fn one(out: &mut String, case: &Case) -> fmt::Result {
    write!(out, "<dl><dt>Case<dd>{}", case.id)?;
    if let Some(similarity) = case.facts.similarity {
        write!(out, ", similarity {similarity:.3}")?;
    }
    if let Some(label) = case.label {
        write!(out, ", {}", label.word().replace('_', " "))?;
    }
    for (name, text) in
        [("Input", &case.input), ("Baseline", &case.baseline), ("Candidate", &case.candidate)]
    {
        if !text.is_empty() {
            write!(out, "<dt>{name}<dd class=\"text\">{}", escape(text))?;
        }
    }
    out.push_str("</dl>\n");
    Ok(())
}

fn bar(out: &mut String, class: &str, part: f64) -> fmt::Result {
    let width = if part.is_finite() { 100.0 * part.clamp(0.0, 1.0) } else { 0.0 };
    write!(
        out,
        "<svg class=\"bar {class}\" viewBox=\"0 0 100 8\" preserveAspectRatio=\"none\" \
         aria-hidden=\"true\"><rect class=\"rail\" width=\"100\" height=\"8\"/>\
         <rect class=\"fill\" width=\"{width:.1}\" height=\"8\"/></svg>"
    )
}

fn name_of(names: &Names<'_>, segment: Segment) -> String {
    (names.segment)(segment).unwrap_or_else(|| match segment {
        Segment::NONE => "no segment".to_owned(),
        Segment::OTHER => "undeclared".to_owned(),
        other => format!("segment {}", other.index()),
    })
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "–" } else { text }
}

fn capital(words: &str) -> String {
    let mut letters = words.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn time(nanos: u64) -> String {
    let nanos = nanos as f64;
    match nanos {
        n if n < 1e3 => format!("{n:.0} ns"),
        n if n < 1e6 => format!("{:.1} µs", n / 1e3),
        n if n < 1e9 => format!("{:.1} ms", n / 1e6),
        n => format!("{:.1} s", n / 1e9),
    }
}

/// Thousands apart, so that a number of seven digits can be read.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(character),
            // Control characters are no text, and some turn the reading direction around.
            c if c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c) => out.push('\u{fffd}'),
            c if ('\u{2066}'..='\u{2069}').contains(&c) => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// How many patterns and slow requests are shown.
const SHOWN: usize = 40;

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1f2328;--soft:#59636e;--line:#d1d9e0;--card:#fff;--page:#f6f8fa;\
--good:#1a7f37;--bad:#cf222e;--open:#9a6700;--fill:#0969da}\
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9198a1;--line:#3d444d;--card:#151b23;\
--page:#0d1117;--good:#3fb950;--bad:#f85149;--open:#d29922;--fill:#4493f8}}\
*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--ink);\
font:15px/1.5 system-ui,-apple-system,'Segoe UI',sans-serif}\
main{max-width:1080px;margin:0 auto;padding:32px 20px 64px}\
.over{margin:0;color:var(--soft);font-size:13px;letter-spacing:.06em;text-transform:uppercase}\
h1{margin:2px 0 12px;font-size:26px;overflow-wrap:anywhere}h2{margin:0 0 12px;font-size:18px}\
.verdict{display:inline-block;margin:0;padding:4px 12px;border:1.5px solid;border-radius:99px}\
.why{max-width:75ch;margin:12px 0 24px}.good{color:var(--good)}.bad{color:var(--bad)}.open{color:var(--open)}\
section{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:18px 20px;\
margin:0 0 20px;overflow-x:auto}\
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(120px,1fr));gap:12px}\
.tiles b{display:block;font-size:20px;font-variant-numeric:tabular-nums}.tiles span,.note,.in{color:var(--soft);font-size:13px}\
table{width:100%;border-collapse:collapse;font-size:14px}th{text-align:left;font-weight:600;color:var(--soft);font-size:12.5px}\
th,td{padding:6px 10px 6px 0;border-bottom:1px solid var(--line);vertical-align:middle}tbody tr:last-child td{border:0}\
.n{font-variant-numeric:tabular-nums;white-space:nowrap}.bar{width:110px;height:8px;border-radius:4px;overflow:hidden;display:block}\
.rail{fill:var(--line)}.fill{fill:var(--fill)}.against .fill{fill:var(--bad)}.for .fill{fill:var(--good)}\
.facts{margin:12px 0 0;padding-left:20px}details{border-top:1px solid var(--line);padding:8px 0}\
summary{display:grid;grid-template-columns:minmax(0,1fr) 140px 110px 110px;gap:12px;align-items:center;cursor:pointer}\
.pattern{font-weight:600;overflow-wrap:anywhere}dl{display:grid;grid-template-columns:90px minmax(0,1fr);gap:4px 12px;\
margin:10px 0 10px 14px;font-size:13.5px}dt{color:var(--soft)}dd{margin:0}\
.text{white-space:pre-wrap;overflow-wrap:anywhere;font-family:ui-monospace,monospace;font-size:12.5px}\
@media(max-width:640px){summary{grid-template-columns:minmax(0,1fr) 80px}summary .bar,.in{display:none}}";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::shadow::ShadowRules;
    use crate::observe::explorer::case::{Draft, Facts};
    use crate::observe::explorer::explorer::{Explorer, ExplorerOptions};

    #[test]
    fn nothing_that_came_from_outside_is_markup() {
        let evil = "<script>alert(1)</script>\"'&\u{202e}\u{0}";
        let mut explorer = Explorer::new(ExplorerOptions::default());
        let facts = Facts::new(Segment::new(1), Some(0.0));
        let text = || evil.to_owned();
        let draft =
            Draft { from: text(), to: text(), input: text(), baseline: text(), candidate: text() };
        explorer.disagreement(facts, draft.clone());
        explorer.slow(facts, draft);
        let mut counts = ShadowCounts::default();
        (1..3).for_each(|at| counts.segment_mut(Segment::new(at)).pairs = 10);
        let report = ShadowRules::default().judge(&counts, None, None).unwrap();
        let names = Names { baseline: evil, candidate: evil, segment: &|_| Some("<b>".to_owned()) };
        let page = page(&names, &report, &counts, &explorer.exploration());
        assert!(!page.contains("<script") && !page.contains("<b>\"") && !page.contains('\u{202e}'));
        assert!(!page.contains("<td><b>") && page.contains("&lt;script&gt;"));
        // Five texts of the case, two of the slow one, and the names in title and heading.
        assert!(page.matches("alert(1)").count() >= 8, "{page}");
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!((grouped(999), grouped(0)), ("999".into(), "0".into()));
        assert_eq!((time(999), time(1_500_000)), ("999 ns".into(), "1.5 ms".into()));
    }
}
