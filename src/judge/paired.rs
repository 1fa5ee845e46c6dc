//! Both models answered the same request: evidence from pairs.
//!
//! In shadow every sample is its own control, so what varies from sample to sample drops out. Three
//! questions are asked of pairs: do the models agree often enough ([`Agreement`]), is the candidate
//! right as often where the truth is known ([`PairedQuality`]), is it fast enough
//! ([`PairedLatency`]). Each keeps counts only, so the order of samples does not matter, and each
//! may be looked at after every sample.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::observe::shadow::PairedTruth;
use crate::stats::eprocess_grid::{Grid, binomial, log_sum_exp};
use crate::stats::error::{StatsError, finite, open_unit};

/// What pairs say so far.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[must_use]
#[non_exhaustive]
pub enum PairedVerdict {
    /// Neither is shown.
    Continue {
        /// About how many more pairs are needed if things go on as they have; `None` where nothing
        /// tells, or where what was seen lies on the wrong side.
        needed: Option<u64>,
    },
    /// Good enough, shown.
    Pass,
    /// Not good enough, shown.
    Refuse,
}

/// The numbers behind a [`PairedVerdict`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PairedReading {
    /// The question, as a phrase.
    pub question: String,
    /// What follows.
    pub verdict: PairedVerdict,
    /// Pairs seen.
    pub pairs: u64,
    /// The estimate: a part of pairs, or for quality the loss of accuracy (negative: a gain).
    pub estimate: Option<f64>,
    /// What the estimate is held against.
    pub bound: f64,
    /// `ln E` against "good enough".
    pub ln_bad: f64,
    /// `ln E` from which on that is refuted.
    pub bad_threshold: f64,
    /// `ln E` against "not good enough".
    pub ln_good: f64,
    /// `ln E` from which on that is refuted.
    pub good_threshold: f64,
}

impl fmt::Display for PairedReading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.estimate {
            None => return write!(f, "{}: no pair was seen yet", self.question),
            Some(estimate) => write!(
                f,
                "{}: {:.2} % over {} pairs, held against {:.2} %, ",
                self.question,
                estimate * 100.0,
                self.pairs,
                self.bound * 100.0
            )?,
        }
        match self.verdict {
            PairedVerdict::Pass => write!(f, "shown to be good enough"),
            PairedVerdict::Refuse => write!(f, "shown not to be good enough"),
            PairedVerdict::Continue { needed: Some(needed) } => {
                write!(f, "not decided yet; about {needed} more pairs are needed")
            }
            PairedVerdict::Continue { needed: None } => write!(f, "not decided yet"),
        }
    }
}

/// Whether two models agree on more than a given part of requests.
///
/// Two opposed tests of one threshold: one shows "above", the other "below", and between them it
/// goes on. A point rule (`agreement > 0.85` at 1,000 samples) passes a true 84 % in 18 of 100
/// shadows, and in 31 when it is polled.
///
/// ```
/// use pilotage::judge::paired::{Agreement, PairedVerdict};
///
/// let mut agreement = Agreement::new(0.85, 0.05, 0.05)?;
/// agreement.observe(182, 200);
/// assert!(matches!(agreement.verdict(), PairedVerdict::Continue { .. }));
/// agreement.observe(380, 400);
/// assert_eq!(agreement.verdict(), PairedVerdict::Pass);
/// # Ok::<(), pilotage::stats::error::StatsError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    threshold: f64,
    alpha: f64,
    beta: f64,
    agreed: u64,
    compared: u64,
    least: u64,
}

impl Agreement {
    /// Asks whether more than `threshold` of requests agree; refuses a model that does with
    /// probability at most `alpha`, passes one that does not with probability at most `beta`.
    ///
    /// # Errors
    ///
    /// [`StatsError`] when one of them is not strictly between 0 and 1.
    pub fn new(threshold: f64, alpha: f64, beta: f64) -> Result<Self, StatsError> {
        open_unit("agreement threshold", threshold)?;
        open_unit("alpha", alpha)?;
        open_unit("beta", beta)?;
        Ok(Self { threshold, alpha, beta, agreed: 0, compared: 0, least: 100 })
    }

    /// With another least number of pairs before a verdict; 100 unless set. Evidence is valid from
    /// the first pair on if samples come in random order. Packs of samples are often sorted, and
    /// then the first few are not like the rest.
    #[must_use]
    pub const fn with_min_pairs(mut self, pairs: u64) -> Self {
        self.least = pairs;
        self
    }

    /// What it asks: the threshold, and how often it may refuse and pass wrongly.
    #[must_use]
    pub const fn terms(&self) -> (f64, f64, f64) {
        (self.threshold, self.alpha, self.beta)
    }

    /// Adds a batch: `agreed` out of `compared` pairs. More agreed than compared counts as all.
    pub fn observe(&mut self, agreed: u64, compared: u64) {
        self.agreed = self.agreed.saturating_add(agreed.min(compared));
        self.compared = self.compared.saturating_add(compared);
    }

    /// What the pairs say so far.
    pub fn verdict(&self) -> PairedVerdict {
        self.reading().verdict
    }

    /// The numbers behind the verdict.
    #[must_use]
    pub fn reading(&self) -> PairedReading {
        let disagreed = self.compared.saturating_sub(self.agreed);
        let above = Grid::linear(self.threshold, 1.0, 20);
        let below = Grid::linear(self.threshold, 0.0, 20);
        opposed(Opposed {
            question: "agreement with the baseline".to_owned(),
            estimate: (self.compared > 0).then(|| self.agreed as f64 / self.compared as f64),
            pairs: self.compared,
            bound: self.threshold,
            ln_good: binomial(self.agreed, disagreed, &above),
            ln_bad: binomial(self.agreed, disagreed, &below),
            alpha: self.alpha,
            beta: self.beta,
            least: self.least,
        })
    }
}

/// Whether the candidate takes at most a given multiple of the baseline's time on most requests:
/// a sign test on pairs, of the median of the ratio.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairedLatency {
    ratio: f64,
    alpha: f64,
    beta: f64,
    slower: u64,
    pairs: u64,
    least: u64,
}

impl PairedLatency {
    /// Asks whether the candidate needs more than `ratio` times the baseline's time on fewer than
    /// half of the requests.
    ///
    /// # Errors
    ///
    /// [`StatsError`] when `ratio` is not finite and positive, or a level is not strictly between 0
    /// and 1.
    pub fn new(ratio: f64, alpha: f64, beta: f64) -> Result<Self, StatsError> {
        finite("latency ratio", ratio)?;
        if ratio <= 0.0 {
            let expected = "above 0";
            return Err(StatsError::OutOfRange { name: "latency ratio", value: ratio, expected });
        }
        open_unit("alpha", alpha)?;
        open_unit("beta", beta)?;
        Ok(Self { ratio, alpha, beta, slower: 0, pairs: 0, least: 100 })
    }

    /// With another least number of pairs before a verdict; 100 unless set. Evidence is valid from
    /// the first pair on if samples come in random order. Packs of samples are often sorted, and
    /// then the first few are not like the rest.
    #[must_use]
    pub const fn with_min_pairs(mut self, pairs: u64) -> Self {
        self.least = pairs;
        self
    }

    /// The multiple.
    #[must_use]
    pub const fn ratio(&self) -> f64 {
        self.ratio
    }

    /// Whether a pair counts as slower; a candidate that timed out is slower than any baseline.
    #[must_use]
    pub fn is_slower(&self, baseline_nanos: u64, candidate_nanos: Option<u64>) -> bool {
        candidate_nanos.is_none_or(|nanos| nanos as f64 > self.ratio * baseline_nanos as f64)
    }

    /// Adds a batch: on `slower` of `pairs` the candidate took more than the multiple.
    pub fn observe(&mut self, slower: u64, pairs: u64) {
        self.slower = self.slower.saturating_add(slower.min(pairs));
        self.pairs = self.pairs.saturating_add(pairs);
    }

    /// What the pairs say so far.
    pub fn verdict(&self) -> PairedVerdict {
        self.reading().verdict
    }

    /// The numbers behind the verdict.
    #[must_use]
    pub fn reading(&self) -> PairedReading {
        let fast = self.pairs.saturating_sub(self.slower);
        let above = Grid::linear(0.5, 1.0, 20);
        opposed(Opposed {
            question: format!("requests that take more than {} times as long", self.ratio),
            estimate: (self.pairs > 0).then(|| self.slower as f64 / self.pairs as f64),
            pairs: self.pairs,
            bound: 0.5,
            ln_good: binomial(fast, self.slower, &above),
            ln_bad: binomial(self.slower, fast, &above),
            alpha: self.alpha,
            beta: self.beta,
            least: self.least,
        })
    }
}

pub(crate) struct Opposed {
    pub question: String,
    pub estimate: Option<f64>,
    pub pairs: u64,
    pub bound: f64,
    pub ln_good: f64,
    pub ln_bad: f64,
    pub alpha: f64,
    pub beta: f64,
    pub least: u64,
}

/// What two opposed tests of one bound say together.
pub(crate) fn opposed(data: Opposed) -> PairedReading {
    let (bad_threshold, good_threshold) = ((1.0 / data.alpha).ln(), (1.0 / data.beta).ln());
    let verdict = if data.pairs < data.least {
        PairedVerdict::Continue { needed: Some(data.least - data.pairs) }
    } else if data.ln_bad >= bad_threshold {
        PairedVerdict::Refuse
    } else if data.ln_good >= good_threshold {
        PairedVerdict::Pass
    } else {
        PairedVerdict::Continue { needed: more(data.pairs, data.ln_good, good_threshold) }
    };
    PairedReading {
        question: data.question,
        verdict,
        pairs: data.pairs,
        estimate: data.estimate,
        bound: data.bound,
        ln_bad: data.ln_bad,
        bad_threshold,
        ln_good: data.ln_good,
        good_threshold,
    }
}

/// Pairs still needed if evidence goes on to grow as it has.
fn more(pairs: u64, ln_e: f64, threshold: f64) -> Option<u64> {
    let left = pairs as f64 * (threshold - ln_e).max(0.0) / ln_e;
    (ln_e > 0.1).then(|| left.ceil().min(1e18) as u64)
}

/// Whether the candidate is right as often as the baseline, within a margin.
///
/// It passes when a loss of accuracy as large as the margin is ruled out at β, and is refused when
/// it is shown to be worse at α. Where both are shown (a loss that is real, and small enough) it
/// passes: the margin says what is tolerated.
///
/// *Worse*: only answers on which the models differ tell; under "no worse" at most half of them are
/// losses (Psychometrika 12 (1947)), here as a mixture over all shares above one half, so
/// that it may be read at any time. *Within the margin*: a gambler who bets on every pair that the
/// loss is smaller; his wealth grows only if it is (Waudby-Smith & Ramdas, J. R. Statist. Soc. B 86 (2024)).
/// Both are exact and neither assumes a distribution.
///
/// A sample counts once: replaying it makes no new evidence, and the caller sees to that.
///
/// ```
/// use pilotage::judge::paired::{PairedQuality, PairedVerdict};
/// use pilotage::observe::shadow::PairedTruth;
///
/// let mut quality = PairedQuality::new(0.02, 0.01, 0.05)?;
/// quality.observe(&PairedTruth {
///     both_right: 1300, only_baseline: 61, only_candidate: 28, both_wrong: 87,
/// });
/// assert_eq!(quality.verdict(), PairedVerdict::Refuse);
/// # Ok::<(), pilotage::stats::error::StatsError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairedQuality {
    margin: f64,
    alpha: f64,
    beta: f64,
    counts: PairedTruth,
    /// Of disagreements only.
    #[serde(default)]
    labels: PairedTruth,
    least: u64,
}

impl PairedQuality {
    /// Asks whether the accuracy lost is below `margin` (0.02 is two points); refuses a candidate
    /// that is no worse with probability at most `alpha`, passes one that loses the margin with
    /// probability at most `beta`.
    ///
    /// # Errors
    ///
    /// [`StatsError`] when one of them is not strictly between 0 and 1.
    pub fn new(margin: f64, alpha: f64, beta: f64) -> Result<Self, StatsError> {
        open_unit("margin", margin)?;
        open_unit("alpha", alpha)?;
        open_unit("beta", beta)?;
        let (counts, labels) = (PairedTruth::default(), PairedTruth::default());
        Ok(Self { margin, alpha, beta, counts, labels, least: 500 })
    }

    /// With another least number of pairs before a verdict; 500 unless set. Evidence is valid from
    /// the first pair on if samples come in random order. Packs of samples are often sorted, and
    /// then the first few are not like the rest.
    #[must_use]
    pub const fn with_min_pairs(mut self, pairs: u64) -> Self {
        self.least = pairs;
        self
    }

    /// Adds pairs.
    pub const fn observe(&mut self, batch: &PairedTruth) {
        self.counts.merge(batch);
    }

    /// Adds labels that people gave to a uniform sample of the requests on which the models differ.
    /// Which way they fall says whether the candidate is worse; they say nothing of how many
    /// requests that concerns, and so nothing of the margin.
    pub const fn observe_labels(&mut self, labels: &PairedTruth) {
        self.labels.merge(labels);
    }

    /// All pairs so far.
    #[must_use]
    pub const fn counts(&self) -> &PairedTruth {
        &self.counts
    }

    /// What the pairs say so far.
    pub fn verdict(&self) -> PairedVerdict {
        self.reading().verdict
    }

    /// The numbers behind the verdict.
    #[must_use]
    pub fn reading(&self) -> PairedReading {
        let pairs = self.counts.total();
        let lost = self.counts.only_baseline.saturating_add(self.labels.only_baseline);
        let won = self.counts.only_candidate.saturating_add(self.labels.only_candidate);
        let ln_bad = binomial(lost, won, &Grid::linear(0.5, 1.0, 25));
        let ln_good = self.within_margin();
        let (bad_threshold, good_threshold) = ((1.0 / self.alpha).ln(), (1.0 / self.beta).ln());
        // Each label is of a disagreement, of which there is less than one to a pair.
        let looked_at = pairs.saturating_add(self.labels.total());
        let verdict = if looked_at < self.least {
            PairedVerdict::Continue { needed: Some(self.least - looked_at) }
        } else if ln_good >= good_threshold {
            PairedVerdict::Pass
        } else if ln_bad >= bad_threshold {
            PairedVerdict::Refuse
        } else {
            PairedVerdict::Continue { needed: more(pairs, ln_good, good_threshold) }
        };
        PairedReading {
            question: "loss of accuracy".to_owned(),
            verdict,
            pairs,
            estimate: self.counts.loss(),
            bound: self.margin,
            ln_bad,
            bad_threshold,
            ln_good,
            good_threshold,
        }
    }

    /// `ln E` against "the loss is at least the margin": a pair that is broken pays `margin − 1`,
    /// one that is fixed `margin + 1`, any other `margin`; under the null the mean is at most 0.
    fn within_margin(&self) -> f64 {
        let PairedTruth { both_right, only_baseline, only_candidate, both_wrong } = self.counts;
        let same = both_right as f64 + both_wrong as f64;
        let (lost, won) = (only_baseline as f64, only_candidate as f64);
        let bets = BETS as f64;
        log_sum_exp((0..BETS).map(|at| {
            let bet = (at as f64 + 0.5) / bets * 0.95;
            lost * (bet * (self.margin - 1.0)).ln_1p()
                + won * (bet * (self.margin + 1.0)).ln_1p()
                + same * (bet * self.margin).ln_1p()
                - bets.ln()
        }))
    }
}

const BETS: usize = 30;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn quality(lost: u64, won: u64) -> PairedQuality {
        let mut quality = PairedQuality::new(0.02, 0.01, 0.05).unwrap();
        let same = 1476 - lost - won;
        quality.observe(&PairedTruth {
            both_right: same,
            only_baseline: lost,
            only_candidate: won,
            both_wrong: 0,
        });
        quality
    }

    #[test]
    fn a_model_that_breaks_twice_what_it_fixes_is_refused() {
        let reading = quality(61, 28).reading();
        assert_eq!(reading.verdict, PairedVerdict::Refuse, "{reading}");
        assert!(reading.to_string().contains("2.24 % over 1476 pairs"), "{reading}");
    }

    #[test]
    fn a_model_as_good_within_the_margin_passes() {
        let reading = quality(33, 28).reading();
        assert_eq!(reading.verdict, PairedVerdict::Pass, "{reading}");
    }

    #[test]
    fn a_loss_that_is_real_and_small_enough_is_tolerated() {
        let mut quality = PairedQuality::new(0.02, 0.01, 0.05).unwrap();
        quality.observe(&PairedTruth {
            both_right: 100_000,
            only_baseline: 1_000,
            only_candidate: 500,
            both_wrong: 0,
        });
        let reading = quality.reading();
        assert!(reading.ln_bad > reading.bad_threshold);
        assert_eq!(reading.verdict, PairedVerdict::Pass);
    }

    #[test]
    fn nothing_seen_decides_nothing() {
        let continues = |verdict| matches!(verdict, PairedVerdict::Continue { needed: Some(_) });
        assert!(continues(PairedQuality::new(0.02, 0.01, 0.05).unwrap().verdict()));
        assert!(continues(Agreement::new(0.85, 0.05, 0.05).unwrap().verdict()));
        assert!(continues(PairedLatency::new(1.2, 0.05, 0.05).unwrap().verdict()));
        assert!(PairedLatency::new(f64::NAN, 0.05, 0.05).is_err());
        assert!(Agreement::new(1.0, 0.05, 0.05).is_err());
    }

    proptest! {
        #[test]
        fn evidence_is_a_number_for_any_counts(
            both_right in any::<u64>(), only_baseline in any::<u64>(),
            only_candidate in any::<u64>(), both_wrong in any::<u64>(),
        ) {
            let mut quality = PairedQuality::new(0.02, 0.01, 0.05).unwrap();
            quality.observe(&PairedTruth { both_right, only_baseline, only_candidate, both_wrong });
            let reading = quality.reading();
            prop_assert!(reading.ln_bad.is_finite() && reading.ln_good.is_finite());
            let stored = serde_json::to_string(&quality).unwrap();
            prop_assert_eq!(serde_json::from_str::<PairedQuality>(&stored).unwrap(), quality);
        }
    }
}
