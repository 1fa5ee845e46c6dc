//! What a shadow came to.
//!
//! A verdict is computed from the counts of a shadow and nothing else, and everything it rests on
//! may be read at any time: each question is answered by two opposed e-processes, so that polling
//! every minute for a week promises no more and errs no more often than one look at the end.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::compare::agreement::{Classes, Kappa};
use crate::ids::Segment;
use crate::judge::clustering::Clustering;
use crate::judge::excess::Excess;
use crate::judge::paired::{Agreement, PairedLatency, PairedQuality, PairedReading, PairedVerdict};
use crate::observe::clusters::Clusters;
use crate::observe::shadow::{SegmentPairs, ShadowCounts};
use crate::stats::error::{StatsError, finite, open_unit};
use crate::stats::multiplicity::e_benjamini_hochberg;

/// What is asked of a candidate in shadow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShadowRules {
    /// The part of requests on which the models must agree; 0.85 is usual.
    pub agreement: f64,
    /// Where the baseline's own noise is measured: by how much the candidate's disagreement may
    /// exceed it. Then this is asked instead of `agreement`.
    pub excess: Option<f64>,
    /// The fewest pairs on which a promotion may rest.
    pub min_samples: u64,
    /// The multiple of the baseline's time that the candidate may take on half of the requests; the
    /// same as the lane's.
    pub slower: f64,
    /// The part of requests by which the candidate may fail more often than the baseline.
    pub failures: f64,
    /// The accuracy that may be lost, where truth arrives: with a margin, a promotion waits for it.
    pub quality: Option<f64>,
    /// How often a candidate that is fine in every respect may be refused, however often one looks.
    /// It is shared out evenly: to failures, latency, agreement, quality, and the segments together.
    pub alpha: f64,
    /// How often one that is not may pass.
    pub beta: f64,
    /// The part of answered requests that may be incomparable before the verdict is invalid.
    pub uncomparable: f64,
    /// The part of sampled requests that may be shed before it is: what was run is then a choice
    /// that somebody else made.
    pub shed: f64,
}

impl Default for ShadowRules {
    /// 85 % agreement on 1,000 pairs and more, at most 1.2 times as slow, half a point more
    /// failures, errors of 5 %.
    fn default() -> Self {
        Self {
            agreement: 0.85,
            excess: None,
            min_samples: 1_000,
            slower: 1.2,
            failures: 0.005,
            quality: None,
            alpha: 0.05,
            beta: 0.05,
            uncomparable: 0.05,
            shed: 0.5,
        }
    }
}

/// What follows from a shadow.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[must_use]
#[non_exhaustive]
pub enum ShadowVerdict {
    /// Everything asked for is shown: let users have it, a few at first.
    PromoteToCanary,
    /// It is right, and too slow.
    OptimiseLatency,
    /// It differs too much, or is wrong where the baseline is right: look at the cases.
    InvestigateDisagreement,
    /// It fails where the baseline answers.
    FixErrors,
    /// Neither is shown yet.
    Continue {
        /// About how many more samples are needed; `None` where nothing tells.
        needed: Option<u64>,
    },
    /// What was seen allows no conclusion, however long one waits.
    Invalid {
        /// Why not, and what to do about it.
        why: String,
    },
}

impl ShadowVerdict {
    /// A few words for it.
    #[must_use]
    pub const fn words(&self) -> &'static str {
        match self {
            Self::PromoteToCanary => "promote to canary",
            Self::OptimiseLatency => "optimise latency",
            Self::InvestigateDisagreement => "investigate disagreement",
            Self::FixErrors => "fix errors",
            Self::Continue { .. } => "continue",
            Self::Invalid { .. } => "invalid",
        }
    }
}

/// A verdict, its sentence, and the numbers it rests on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ShadowReport {
    /// What follows.
    pub verdict: ShadowVerdict,
    /// Why, in one sentence.
    pub sentence: String,
    /// Requests on which one model failed and the other did not.
    pub failures: PairedReading,
    /// Requests on which the candidate was slower.
    pub latency: PairedReading,
    /// The median of the candidate's time over the baseline's.
    pub median_ratio: Option<f64>,
    /// Agreement, or disagreement above the baseline's own.
    pub agreement: PairedReading,
    /// The part of the baseline's second runs that differed from what it had served.
    pub noise: Option<f64>,
    /// Who is right, where truth or labels arrived.
    pub quality: Option<PairedReading>,
    /// Agreement beyond chance, where classes are known.
    pub kappa: Kappa,
    /// How much pairs of one subject hang together.
    pub clustering: Option<Clustering>,
    /// Segment by segment, those with pairs or failures.
    pub segments: Vec<SegmentReport>,
}

/// What one segment shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SegmentReport {
    /// Its counts.
    pub counts: SegmentPairs,
    /// `ln E` against "the candidate does as asked here": the mean over the questions that apply.
    pub ln_bad: f64,
    /// Whether that is refuted, with all segments taken into account.
    pub worse: bool,
}

impl fmt::Display for ShadowReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.verdict.words(), self.sentence)
    }
}

impl ShadowRules {
    /// Whether these rules can be judged by.
    ///
    /// # Errors
    ///
    /// [`StatsError`], naming the rule that is out of its range.
    pub fn check(&self) -> Result<(), StatsError> {
        let parts = [
            ("agreement", self.agreement),
            ("failures", self.failures),
            ("alpha", self.alpha),
            ("beta", self.beta),
            ("uncomparable", self.uncomparable),
            ("shed", self.shed),
        ];
        for (name, part) in parts {
            open_unit(name, part)?;
        }
        self.excess.map_or(Ok(0.0), |margin| open_unit("excess", margin))?;
        self.quality.map_or(Ok(0.0), |margin| open_unit("quality", margin))?;
        finite("slower", self.slower)?;
        if self.slower <= 0.0 {
            let (name, value) = ("slower", self.slower);
            return Err(StatsError::OutOfRange { name, value, expected: "above 0" });
        }
        Ok(())
    }

    /// What `counts` come to. `classes` and `clusters` are a lane's, where it has them.
    ///
    /// # Errors
    ///
    /// As [`ShadowRules::check`].
    pub fn judge(
        &self,
        counts: &ShadowCounts,
        classes: Option<&Classes>,
        clusters: Option<&Clusters>,
    ) -> Result<ShadowReport, StatsError> {
        let number = |segment: Segment| format!("segment {}", segment.index());
        self.judge_named(counts, classes, clusters, &number)
    }

    /// As [`ShadowRules::judge`], with names for the segments.
    ///
    /// # Errors
    ///
    /// As [`ShadowRules::check`].
    pub fn judge_named(
        &self,
        counts: &ShadowCounts,
        classes: Option<&Classes>,
        clusters: Option<&Clusters>,
        names: &dyn Fn(Segment) -> String,
    ) -> Result<ShadowReport, StatsError> {
        self.check()?;
        let alpha = self.alpha / FAMILIES;
        let clustering = clusters.and_then(Clustering::of);
        let agreement = self.agreement_reading(counts, clustering.as_ref(), alpha)?;
        let failures = self.failures(alpha, counts)?;
        let latency = {
            let mut latency = PairedLatency::new(self.slower, alpha, self.beta)?;
            latency.observe(counts.slower, counts.timed);
            latency.reading()
        };
        let quality = self.quality_reading(counts, alpha)?;
        let segments = self.segments(counts)?;
        let mut report = ShadowReport {
            verdict: ShadowVerdict::Continue { needed: None },
            sentence: String::new(),
            failures,
            latency,
            median_ratio: counts.median_ratio(),
            agreement,
            noise: counts.noise.disagreement(),
            quality,
            kappa: classes.map_or(Kappa::NoPairs, Classes::kappa),
            clustering,
            segments,
        };
        (report.verdict, report.sentence) = self.conclude(counts, &report, names);
        Ok(report)
    }

    fn agreement_reading(
        &self,
        counts: &ShadowCounts,
        clustering: Option<&Clustering>,
        alpha: f64,
    ) -> Result<PairedReading, StatsError> {
        if let Some(margin) = self.excess {
            let mut excess = Excess::new(margin, alpha, self.beta)?;
            excess.observe(&counts.noise.matched);
            return Ok(excess.reading());
        }
        let mut agreement = Agreement::new(self.agreement, alpha, self.beta)?;
        let (matches, pairs) = clustering
            .filter(|clustering| clustering.is_clear())
            .map_or((counts.matches, counts.pairs), |c| c.effective(counts.matches, counts.pairs));
        agreement.observe(matches, pairs);
        let mut reading = agreement.reading();
        if pairs < counts.pairs {
            reading.question.push_str(&format!(" ({} pairs, worth {pairs})", counts.pairs));
        }
        Ok(reading)
    }

    /// Failures are pairs like any others: to answer is right, to fail is wrong.
    fn failures(&self, alpha: f64, counts: &ShadowCounts) -> Result<PairedReading, StatsError> {
        let mut failures =
            PairedQuality::new(self.failures, alpha, self.beta)?.with_min_pairs(FEWEST);
        failures.observe(&counts.answered);
        let mut reading = failures.reading();
        reading.question = "failures above the baseline's".to_owned();
        Ok(reading)
    }

    fn quality_reading(
        &self,
        counts: &ShadowCounts,
        alpha: f64,
    ) -> Result<Option<PairedReading>, StatsError> {
        let known = counts.truth.total().saturating_add(counts.labels.total());
        let margin = match self.quality {
            Some(margin) => margin,
            None if known > 0 => USUAL_LOSS,
            None => return Ok(None),
        };
        let mut quality = PairedQuality::new(margin, alpha, self.beta)?.with_min_pairs(FEWEST);
        quality.observe(&counts.truth);
        quality.observe_labels(&counts.labels);
        Ok(Some(quality.reading()))
    }

    /// Where the candidate does not do as asked in one segment, although it may on the whole. All
    /// segments are tested together, so that the part of false finds among the finds is at most
    /// a fifth of alpha, however many segments there are and however they hang together.
    fn segments(&self, counts: &ShadowCounts) -> Result<Vec<SegmentReport>, StatsError> {
        let mut reports = Vec::new();
        for segment in &counts.segments {
            let alpha = self.alpha / FAMILIES;
            let mut evidence = Vec::new();
            // Where the truth is known, agreement is no stand-in for it: a candidate that differs
            // because it is right is none to be worried about.
            let known = segment.truth.total().saturating_mul(2) >= segment.pairs.max(1);
            if known {
                // The truth's evidence follows below.
            } else if self.excess.is_none() {
                let mut agreement = Agreement::new(self.agreement, alpha, self.beta)?;
                agreement.observe(segment.matches, segment.pairs);
                evidence.push(agreement.reading().ln_bad);
            } else if let Some(margin) = self.excess {
                let mut excess = Excess::new(margin, alpha, self.beta)?;
                excess.observe(&segment.noise);
                evidence.push(excess.reading().ln_bad);
            }
            for (margin, pairs) in
                [(self.failures, &segment.answered), (USUAL_LOSS, &segment.truth)]
            {
                if pairs.total() > 0 {
                    let mut quality = PairedQuality::new(margin, alpha, self.beta)?;
                    quality.observe(pairs);
                    evidence.push(quality.reading().ln_bad);
                }
            }
            // A mean of e-values is one, whatever they have to do with each other.
            let ln_bad = crate::stats::eprocess_grid::log_sum_exp(evidence.iter().copied())
                - (evidence.len().max(1) as f64).ln();
            reports.push(SegmentReport { counts: *segment, ln_bad, worse: false });
        }
        let evidence: Vec<f64> = reports.iter().map(|report| report.ln_bad).collect();
        let refuted = e_benjamini_hochberg(&evidence, self.alpha / FAMILIES)?;
        reports.iter_mut().zip(refuted).for_each(|(report, refuted)| report.worse = refuted);
        Ok(reports)
    }

    fn conclude(
        &self,
        counts: &ShadowCounts,
        report: &ShadowReport,
        names: &dyn Fn(Segment) -> String,
    ) -> (ShadowVerdict, String) {
        if let Some(why) = self.invalid(counts) {
            return (ShadowVerdict::Invalid { why: why.clone() }, why);
        }
        let refused = |reading: &PairedReading| reading.verdict == PairedVerdict::Refuse;
        let passed = |reading: &PairedReading| reading.verdict == PairedVerdict::Pass;
        if refused(&report.failures) {
            return (ShadowVerdict::FixErrors, report.failures.to_string());
        }
        if let Some(quality) = report.quality.as_ref().filter(|quality| refused(quality)) {
            return (ShadowVerdict::InvestigateDisagreement, quality.to_string());
        }
        if refused(&report.latency) {
            let median = report.median_ratio.map_or_else(String::new, |ratio| {
                format!("; the median request takes {ratio:.2} times as long")
            });
            return (ShadowVerdict::OptimiseLatency, format!("{}{median}", report.latency));
        }
        let right = report.quality.as_ref().is_some_and(passed);
        if refused(&report.agreement) && !right {
            return (ShadowVerdict::InvestigateDisagreement, report.agreement.to_string());
        }
        let worse: Vec<Segment> = (report.segments.iter())
            .filter(|segment| segment.worse)
            .map(|segment| segment.counts.segment)
            .collect();
        if !worse.is_empty() {
            let part = |part: Option<f64>| 100.0 * part.unwrap_or(0.0);
            let told = worse.iter().map(|segment| {
                let agreed = counts.segment(*segment).and_then(SegmentPairs::agreement);
                let truth = counts.segment(*segment).map(|seen| seen.truth).unwrap_or_default();
                format!(
                    "{} ({:.1} % agree, {} broken, {} mended)",
                    names(*segment),
                    part(agreed),
                    truth.only_baseline,
                    truth.only_candidate
                )
            });
            let sentence = format!(
                "the candidate does not do as asked in {}; on the whole {:.1} % agree",
                told.collect::<Vec<_>>().join(", "),
                part(counts.agreement()),
            );
            return (ShadowVerdict::InvestigateDisagreement, sentence);
        }
        let asked = [Some(&report.failures), Some(&report.latency), report.quality.as_ref()];
        let agreed = (!right).then_some(&report.agreement);
        let open: Vec<&PairedReading> =
            asked.into_iter().flatten().chain(agreed).filter(|reading| !passed(reading)).collect();
        let missing = self.min_samples.saturating_sub(counts.pairs);
        // Truth that nobody asked for is no reason to wait.
        let waits_for_truth = |reading: &PairedReading| {
            report.quality.as_ref().is_some_and(|quality| std::ptr::eq(quality, reading))
                && self.quality.is_none()
        };
        let open: Vec<_> = open.into_iter().filter(|reading| !waits_for_truth(reading)).collect();
        if open.is_empty() && missing == 0 {
            let sentence = format!(
                "{}; {}; {}{}",
                report.agreement,
                report.failures,
                report.latency,
                report.quality.as_ref().map_or_else(String::new, |q| format!("; {q}")),
            );
            return (ShadowVerdict::PromoteToCanary, sentence);
        }
        let needed = open.iter().try_fold(missing, |most, reading| match reading.verdict {
            PairedVerdict::Continue { needed: Some(needed) } => Some(most.max(needed)),
            PairedVerdict::Continue { needed: None } | PairedVerdict::Refuse => None,
            PairedVerdict::Pass => Some(most),
        });
        let mut sentence: Vec<String> = open.iter().map(ToString::to_string).collect();
        if missing > 0 {
            let pairs = counts.pairs;
            sentence.push(format!("{pairs} pairs of the {} asked for", self.min_samples));
        }
        (ShadowVerdict::Continue { needed }, sentence.join("; "))
    }

    /// Why nothing follows from these counts, if nothing does.
    fn invalid(&self, counts: &ShadowCounts) -> Option<String> {
        let part = |some: u64, of: u64| some as f64 / of.max(1) as f64;
        let (sampled, answered) = (counts.sampled, counts.answered);
        let compared = counts.pairs.saturating_add(counts.uncomparable);
        let baseline = answered.both_right.saturating_add(answered.only_baseline);
        if sampled >= FEWEST && part(counts.shed, sampled) > self.shed {
            return Some(format!(
                "{} of {sampled} sampled requests were shed, and the rest is a choice of what \
                 fitted in; lower the sample, or give the shadow more threads or a longer queue",
                counts.shed
            ));
        }
        if sampled >= FEWEST && part(counts.skipped, sampled) > self.shed && counts.paused == 0 {
            return Some(format!(
                "{} of {sampled} sampled requests were skipped ({} too large, {} not to be \
                 shadowed); raise the cap, or shadow what can be",
                counts.skipped, counts.too_large, counts.not_shadowable
            ));
        }
        if answered.total() >= FEWEST && baseline == 0 {
            return Some(format!(
                "the baseline failed on all of {} requests; there is nothing to compare with",
                answered.total()
            ));
        }
        if compared >= FEWEST && part(counts.uncomparable, compared) > self.uncomparable {
            return Some(format!(
                "{} of {compared} pairs of answers cannot be compared; mend the comparator, or \
                 choose another",
                counts.uncomparable
            ));
        }
        let noise = &counts.noise;
        if self.excess.is_some() && noise.runs >= FEWEST && noise.matched.total() == 0 {
            return Some(format!(
                "none of {} second runs of the baseline gave an answer that can be compared",
                noise.runs
            ));
        }
        None
    }
}

/// The fewest requests from which anything is concluded.
const FEWEST: u64 = 100;
/// Four questions, and the segments.
const FAMILIES: f64 = 5.0;
/// The loss of accuracy held against truths that nobody asked for.
const USUAL_LOSS: f64 = 0.02;
