//! One request on which two models differ.

use serde::{Deserialize, Serialize};

use crate::ids::Segment;
use crate::outcome::Status;

/// What may be kept of a request, before the redaction hook has seen it. All of it is text, and all
/// of it may be changed or cleared.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Draft {
    /// The class of the baseline's answer: half of the pattern under which the case is counted.
    pub from: String,
    /// The class of the candidate's answer.
    pub to: String,
    /// What was asked.
    pub input: String,
    /// The baseline's answer.
    pub baseline: String,
    /// The candidate's answer.
    pub candidate: String,
}

impl Draft {
    /// No text longer than `bytes`, cut between characters.
    pub(crate) fn cut(&mut self, bytes: usize) {
        let texts = [&mut self.input, &mut self.baseline, &mut self.candidate];
        for text in texts {
            cut(text, bytes);
        }
        cut(&mut self.from, MOST_CLASS);
        cut(&mut self.to, MOST_CLASS);
    }
}

fn cut(text: &mut String, bytes: usize) {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text.shrink_to_fit();
}

/// The most bytes of a class's name.
pub const MOST_CLASS: usize = 64;

/// What was measured of a request.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Facts {
    /// The subject's segment.
    pub segment: Segment,
    /// The hash by which the truth of the sample may become known.
    pub sample: Option<u64>,
    /// How alike the answers were, where they could be compared.
    pub similarity: Option<f64>,
    /// How the baseline's call ended.
    pub baseline_status: Status,
    /// How the candidate's did.
    pub candidate_status: Status,
    /// What the baseline took, in nanoseconds.
    pub baseline_nanos: u64,
    /// What the candidate took.
    pub candidate_nanos: u64,
}

impl Facts {
    /// Facts of a request that both models answered at once.
    #[must_use]
    pub const fn new(segment: Segment, similarity: Option<f64>) -> Self {
        Self {
            segment,
            sample: None,
            similarity,
            baseline_status: Status::Ok,
            candidate_status: Status::Ok,
            baseline_nanos: 0,
            candidate_nanos: 0,
        }
    }

    /// How many times the baseline's time the candidate took.
    #[must_use]
    pub fn slowness(&self) -> f64 {
        self.candidate_nanos as f64 / self.baseline_nanos.max(1) as f64
    }
}

/// One request on which two models differ, or the candidate was slow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Case {
    /// Its number; unique in one explorer.
    pub id: u64,
    /// What was measured.
    pub facts: Facts,
    /// The class of the baseline's answer.
    pub from: String,
    /// The class of the candidate's.
    pub to: String,
    /// What was asked, as far as the redaction let it through.
    pub input: String,
    /// What the baseline answered, likewise.
    pub baseline: String,
    /// What the candidate answered, likewise.
    pub candidate: String,
    /// Who was right, once somebody has looked.
    pub label: Option<Label>,
}

impl Case {
    pub(crate) fn new(id: u64, facts: Facts, draft: Draft) -> Self {
        let Draft { from, to, input, baseline, candidate } = draft;
        Self { id, facts, from, to, input, baseline, candidate, label: None }
    }

    /// What it takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>()
            + [&self.from, &self.to, &self.input, &self.baseline, &self.candidate]
                .map(String::capacity)
                .iter()
                .sum::<usize>()
    }
}

/// Who was right about a case.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Label {
    /// The stable model was.
    StableRight,
    /// The candidate was.
    CandidateRight,
    /// Neither was.
    BothWrong,
    /// Both were, in their own way: the comparator is too strict.
    BothRight,
}

impl Label {
    /// Whether the stable model and the candidate were right.
    #[must_use]
    pub const fn right(self) -> (bool, bool) {
        match self {
            Self::StableRight => (true, false),
            Self::CandidateRight => (false, true),
            Self::BothWrong => (false, false),
            Self::BothRight => (true, true),
        }
    }

    /// One word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::StableRight => "stable_right",
            Self::CandidateRight => "candidate_right",
            Self::BothWrong => "both_wrong",
            Self::BothRight => "both_right",
        }
    }
}
