//! Cases on which two models differ.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::observe::explorer::case::{Case, Draft, Facts, Label};
use crate::observe::explorer::patterns::{Pattern, Patterns, keep};

/// How much an explorer keeps.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct ExplorerOptions {
    /// The most patterns counted at a time.
    pub patterns: usize,
    /// The most cases kept of each.
    pub cases: usize,
    /// The most cases in the uniform sample of all disagreements.
    pub uniform: usize,
    /// The most requests kept because the candidate was slow.
    pub slowest: usize,
    /// The most bytes kept of each text of a case.
    pub text: usize,
    /// The most bytes kept of everything. Texts are cut and cases left out to hold it.
    pub memory: usize,
}

impl Default for ExplorerOptions {
    /// 256 patterns of 4 cases, 64 uniform, 32 slow, texts of 512 bytes, 4 MiB.
    fn default() -> Self {
        Self { patterns: 256, cases: 4, uniform: 64, slowest: 32, text: 512, memory: 4 << 20 }
    }
}

/// Cases on which two models differ, in bounded memory.
///
/// It is told about disagreements one by one and keeps what its options allow: the frequent
/// patterns with a few cases each, a uniform sample, and the slowest requests.
#[derive(Debug)]
pub struct Explorer {
    options: ExplorerOptions,
    /// What one case may take.
    quota: usize,
    seen: u64,
    next: u64,
    patterns: Patterns,
    uniform: Vec<Case>,
    slowest: Vec<Case>,
}

/// What an explorer kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Exploration {
    /// Disagreements seen.
    pub disagreements: u64,
    /// Patterns, the most frequent first.
    pub patterns: Vec<Pattern>,
    /// A uniform sample of all disagreements.
    pub uniform: Vec<Case>,
    /// Requests on which the candidate took longest beside the baseline, the worst first.
    pub slowest: Vec<Case>,
    /// About what all of it takes in memory, in bytes.
    pub bytes: usize,
}

/// What became of a label.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Labelled {
    /// The case is of the uniform sample: its label is evidence about all disagreements.
    Evidence,
    /// The case was kept for its pattern or its slowness: its label says something of it alone.
    Noted,
    /// It had a label already, which stays.
    Before,
    /// It is not kept any more, or never was.
    Unknown,
}

impl Explorer {
    /// An explorer that has seen nothing.
    #[must_use]
    pub fn new(options: ExplorerOptions) -> Self {
        let cases = (options.patterns.max(1))
            .saturating_mul(options.cases)
            .saturating_add(options.uniform)
            .saturating_add(options.slowest);
        // Half for the names of patterns and the tables, half for cases.
        let quota = options.memory / 2 / cases.max(1);
        let per_pattern = 1_024;
        let most = options.patterns.min(options.memory / 2 / per_pattern);
        Self {
            options,
            quota,
            seen: 0,
            next: 0,
            patterns: Patterns::new(most),
            uniform: Vec::new(),
            slowest: Vec::new(),
        }
    }

    /// Takes in a disagreement, already redacted.
    pub fn disagreement(&mut self, facts: Facts, draft: Draft) {
        let case = self.case(facts, draft);
        self.seen += 1;
        // Chance enough, and the same for the same history.
        let roll = |stream| xxh3_64_with_seed(&self.seen.to_le_bytes(), stream);
        let (one, two) = (roll(1), roll(2));
        let uniform = self.options.uniform;
        keep(&mut self.uniform, case.clone(), self.seen, one, uniform, self.quota * uniform);
        let cases = self.options.cases;
        self.patterns.add(case, two, cases, self.quota * cases);
    }

    /// Whether a request of this slowness would be kept: so that nothing is described in vain.
    #[must_use]
    pub fn wants_slow(&self, facts: &Facts) -> bool {
        self.slowest.len() < self.options.slowest
            || self.slowest.last().is_some_and(|last| facts.slowness() > last.facts.slowness())
    }

    /// Takes in a request on which the candidate was slow, already redacted.
    pub fn slow(&mut self, facts: Facts, draft: Draft) {
        if !self.wants_slow(&facts) {
            return;
        }
        let case = self.case(facts, draft);
        if self.options.slowest == 0 || case.bytes() > self.quota {
            return;
        }
        let slower = |kept: &Case| kept.facts.slowness() >= facts.slowness();
        let at = self.slowest.partition_point(slower);
        self.slowest.insert(at, case);
        self.slowest.truncate(self.options.slowest);
    }

    fn case(&mut self, facts: Facts, mut draft: Draft) -> Case {
        let fixed = size_of::<Case>() + 2 * crate::observe::explorer::case::MOST_CLASS;
        draft.cut(self.options.text.min(self.quota.saturating_sub(fixed) / 3));
        self.next += 1;
        Case::new(self.next, facts, draft)
    }

    /// The sample of the case of this number, if it is kept and has one.
    #[must_use]
    pub fn sample_of(&self, id: u64) -> Option<u64> {
        let mut all = self.uniform.iter().chain(&self.slowest).chain(self.patterns.cases());
        all.find(|case| case.id == id)?.facts.sample
    }

    /// Notes who was right about the case of this number.
    pub fn label(&mut self, id: u64, label: Label) -> Labelled {
        let uniform = self.uniform.iter().any(|case| case.id == id);
        let all = self.uniform.iter_mut().chain(&mut self.slowest).chain(self.patterns.cases_mut());
        let mut of_it: Vec<&mut Case> = all.filter(|case| case.id == id).collect();
        if of_it.iter().any(|case| case.label.is_some()) {
            return Labelled::Before;
        }
        of_it.iter_mut().for_each(|case| case.label = Some(label));
        match (of_it.is_empty(), uniform) {
            (true, _) => Labelled::Unknown,
            (false, true) => Labelled::Evidence,
            (false, false) => Labelled::Noted,
        }
    }

    /// What was kept so far.
    #[must_use]
    pub fn exploration(&self) -> Exploration {
        Exploration {
            disagreements: self.seen,
            patterns: self.patterns.top(),
            uniform: self.uniform.clone(),
            slowest: self.slowest.clone(),
            bytes: self.bytes(),
        }
    }

    /// About what it takes in memory; at most the options' `memory`.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let cases = self.uniform.iter().chain(&self.slowest);
        self.patterns.bytes() + cases.map(Case::bytes).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Segment;

    fn draft(from: &str, to: &str) -> Draft {
        Draft { from: from.into(), to: to.into(), input: "i".repeat(9_000), ..Draft::default() }
    }

    fn facts(segment: u8) -> Facts {
        Facts::new(Segment::new(segment), Some(0.0))
    }

    #[test]
    fn a_million_patterns_cannot_push_a_frequent_one_out_or_the_memory_up() {
        let options =
            ExplorerOptions { patterns: 64, memory: 256 << 10, ..ExplorerOptions::default() };
        let mut explorer = Explorer::new(options);
        // A fortieth of all: more than one in 64. A million in a release build, fewer in a debug one.
        let all = if cfg!(debug_assertions) { 40_000 } else { 1_000_000 };
        for number in 0..all {
            explorer.disagreement(facts(1), draft("rare", &number.to_string()));
            if number % 40 == 0 {
                explorer.disagreement(facts(2), draft("cat", "dog"));
            }
        }
        let kept = explorer.exploration();
        let frequent = &kept.patterns[0];
        assert_eq!((&frequent.from[..], &frequent.to[..]), ("cat", "dog"));
        let truly = all / 40;
        assert!(frequent.count >= truly && frequent.count - frequent.too_high <= truly);
        assert_eq!((kept.patterns.len(), kept.disagreements), (64, all + truly));
        assert!(kept.bytes <= options.memory, "{} bytes", kept.bytes);
        assert!(!frequent.cases.is_empty());
    }

    #[test]
    fn every_case_has_the_same_chance_to_be_kept() {
        // 64 of 640, over and over: each tenth of the stream gives a tenth of the sample.
        let mut explorer =
            Explorer::new(ExplorerOptions { patterns: 1, ..ExplorerOptions::default() });
        let mut tenths = [0_u32; 10];
        for round in 0..30 {
            let before = explorer.next;
            explorer.seen = 0;
            explorer.uniform.clear();
            // The stream of chance follows the count; begin elsewhere each time.
            for number in 0..640_u64 {
                let case = Case::new(before + number, facts(0), Draft::default());
                let roll = xxh3_64_with_seed(&number.to_le_bytes(), round);
                keep(&mut explorer.uniform, case, number + 1, roll, 64, usize::MAX);
            }
            for case in &explorer.uniform {
                tenths[usize::try_from((case.id - before) / 64).unwrap()] += 1;
            }
        }
        // 192 ± 13 each; five deviations of room.
        assert!(tenths.iter().all(|count| count.abs_diff(192) < 66), "{tenths:?}");
    }

    #[test]
    fn the_slowest_are_kept_in_order() {
        let mut explorer =
            Explorer::new(ExplorerOptions { slowest: 3, ..ExplorerOptions::default() });
        for nanos in [5, 1, 9, 7, 3] {
            let facts = Facts { candidate_nanos: nanos, baseline_nanos: 1, ..facts(0) };
            explorer.slow(facts, Draft::default());
        }
        let slowest = explorer.exploration().slowest;
        let nanos: Vec<u64> = slowest.iter().map(|case| case.facts.candidate_nanos).collect();
        assert_eq!(nanos, [9, 7, 5]);
    }

    #[test]
    fn a_label_counts_once_and_as_evidence_only_for_the_uniform_sample() {
        let mut explorer =
            Explorer::new(ExplorerOptions { uniform: 1, ..ExplorerOptions::default() });
        explorer.disagreement(facts(0), draft("a", "b"));
        explorer.disagreement(facts(0), draft("a", "c"));
        let uniform = explorer.exploration().uniform[0].id;
        let other = 3 - uniform;
        assert_eq!(explorer.label(uniform, Label::StableRight), Labelled::Evidence);
        assert_eq!(explorer.label(uniform, Label::CandidateRight), Labelled::Before);
        assert_eq!(explorer.label(other, Label::BothWrong), Labelled::Noted);
        assert_eq!(explorer.label(99, Label::BothWrong), Labelled::Unknown);
        let kept = explorer.exploration();
        assert_eq!(kept.uniform[0].label, Some(Label::StableRight));
        let labelled = kept.patterns.iter().flat_map(|p| &p.cases).filter(|c| c.label.is_some());
        assert_eq!(labelled.count(), 2);
    }

    #[test]
    fn nothing_asked_for_is_nothing_kept() {
        let none =
            ExplorerOptions { patterns: 0, cases: 0, uniform: 0, slowest: 0, text: 0, memory: 0 };
        let mut explorer = Explorer::new(none);
        explorer.disagreement(facts(0), draft("a", "b"));
        explorer.slow(facts(0), draft("a", "b"));
        let kept = explorer.exploration();
        assert_eq!((kept.disagreements, kept.uniform.len(), kept.slowest.len()), (1, 0, 0));
    }
}
