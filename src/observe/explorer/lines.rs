//! Cases as JSON Lines: one object a line.
//!
//! Written by hand, since the default crate brings no JSON: texts, numbers and nothing nested.

use std::fmt::Write;

use crate::observe::explorer::case::Case;
use crate::observe::explorer::explorer::Exploration;

impl Exploration {
    /// All cases kept, one JSON object a line, each once and in the order of their numbers.
    ///
    /// Fields: `id`, `segment` (its number), `sample` (16 hexadecimal digits or null), `similarity`
    /// (or null), `baseline_status`, `candidate_status`, `baseline_nanos`, `candidate_nanos`,
    /// `from`, `to`, `input`, `baseline`, `candidate`, `label` (or null).
    #[must_use]
    pub fn json_lines(&self) -> String {
        let patterns = self.patterns.iter().flat_map(|pattern| &pattern.cases);
        let mut all: Vec<&Case> =
            self.uniform.iter().chain(&self.slowest).chain(patterns).collect();
        all.sort_by_key(|case| case.id);
        all.dedup_by_key(|case| case.id);
        let mut lines = String::new();
        for case in all {
            line(&mut lines, case);
        }
        lines
    }
}

/// Writing to a string cannot fail.
fn line(out: &mut String, case: &Case) {
    let facts = &case.facts;
    let _ = write!(out, r#"{{"id":{},"segment":{},"sample":"#, case.id, facts.segment.index());
    match facts.sample {
        Some(sample) => {
            let _ = write!(out, r#""{sample:016x}""#);
        }
        None => out.push_str("null"),
    }
    match facts.similarity.filter(|similarity| similarity.is_finite()) {
        Some(similarity) => {
            let _ = write!(out, r#","similarity":{similarity}"#);
        }
        None => out.push_str(r#","similarity":null"#),
    }
    let _ = write!(
        out,
        r#","baseline_status":"{}","candidate_status":"{}","baseline_nanos":{},"candidate_nanos":{}"#,
        format!("{:?}", facts.baseline_status).to_lowercase(),
        format!("{:?}", facts.candidate_status).to_lowercase(),
        facts.baseline_nanos,
        facts.candidate_nanos,
    );
    let texts = [
        ("from", &case.from),
        ("to", &case.to),
        ("input", &case.input),
        ("baseline", &case.baseline),
        ("candidate", &case.candidate),
    ];
    for (name, text) in texts {
        let _ = write!(out, r#","{name}":"#);
        quote(out, text);
    }
    match case.label {
        Some(label) => {
            let _ = writeln!(out, r#","label":"{}"}}"#, label.word());
        }
        None => out.push_str(",\"label\":null}\n"),
    }
}

fn quote(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            // Line and paragraph separators end a line for some readers.
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use crate::ids::Segment;
    use crate::observe::explorer::case::{Draft, Facts, Label};
    use crate::observe::explorer::explorer::{Explorer, ExplorerOptions};

    #[test]
    fn each_line_is_one_object_whatever_the_texts_hold() {
        let mut explorer = Explorer::new(ExplorerOptions::default());
        let nasty = "a\"b\\c\nd\te\u{0}\u{2028}</script>é";
        for sample in [None, Some(7)] {
            let facts = Facts { sample, ..Facts::new(Segment::new(2), Some(0.25)) };
            let draft = Draft { from: nasty.into(), input: nasty.into(), ..Draft::default() };
            explorer.disagreement(facts, draft);
        }
        explorer.label(1, Label::BothWrong);
        let lines = explorer.exploration().json_lines();
        let parsed: Vec<serde_json::Value> =
            lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(parsed.len(), 2);
        assert_eq!((&parsed[0]["input"], &parsed[0]["from"]), (&nasty.into(), &nasty.into()));
        assert_eq!(
            (&parsed[0]["label"], &parsed[1]["label"]),
            (&"both_wrong".into(), &serde_json::Value::Null)
        );
        assert_eq!(parsed[1]["sample"], "0000000000000007");
        assert_eq!((&parsed[0]["segment"], &parsed[0]["similarity"]), (&2.into(), &0.25.into()));
        assert_eq!(parsed[0]["baseline_status"], "ok");
    }
}
