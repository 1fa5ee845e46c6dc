//! The candidate runs on copies of requests; no user sees its answers.
//!
//! Both models meet the same requests, so they are compared in pairs. Three questions, in this
//! order: does the candidate work (errors, timeouts and latency on the same requests), is it as
//! good (which of the two was right, where the truth is known), and does it agree.
//!
//! Agreement is a stand-in for quality while the truth is not known: a candidate that disagrees
//! because it is right is no reason to stop. So agreement refuses only where no quality is shown.
//! And where the lane asks the baseline twice, disagreement is judged above the baseline's own: a
//! model that draws its answers is not to be refused for differing from its last draw.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::Arm;
use crate::judge::excess::Excess;
use crate::judge::guardrail::Guardrail;
use crate::judge::paired::{Agreement, PairedQuality, PairedReading, PairedVerdict};
use crate::judge::stage::{JudgeError, StageJudge};
use crate::judge::verdict::Verdict;
use crate::machine::Seen;
use crate::observe::shadow::ShadowCounts;
use crate::observe::snapshot::{ArmCounts, Delta};
use crate::share::TrafficShare;
use crate::strategy::conclusion::{Conclusion, Step};

/// One shadow stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shadow {
    judge: StageJudge,
    agreement: Option<Agreement>,
    /// Asked instead of agreement, from the first second run of the baseline on.
    #[serde(default)]
    excess: Option<Excess>,
    quality: Option<PairedQuality>,
    seen: ShadowCounts,
}

impl Shadow {
    /// A shadow that watches these guardrails on the shadowed requests, with the levels of
    /// [`crate::strategy::canary::Canary::new`].
    ///
    /// # Errors
    ///
    /// [`JudgeError`] when a guardrail or a level cannot be used.
    pub fn new(
        guardrails: Vec<Guardrail>,
        alpha: f64,
        beta: f64,
        planned: Duration,
    ) -> Result<Self, JudgeError> {
        let judge = StageJudge::new(guardrails, alpha, beta, planned)?;
        let (agreement, excess, quality) = (None, None, None);
        Ok(Self { judge, agreement, excess, quality, seen: ShadowCounts::default() })
    }

    /// Asks for agreement.
    #[must_use]
    pub fn with_agreement(mut self, agreement: Agreement) -> Self {
        self.excess = Some(Excess::instead_of(&agreement));
        self.agreement = Some(agreement);
        self
    }

    /// Asks for quality.
    #[must_use]
    pub fn with_quality(mut self, quality: PairedQuality) -> Self {
        self.quality = Some(quality);
        self
    }

    /// Takes in a batch. Only what the shadow saw counts here.
    pub fn observe(&mut self, seen: &Seen) {
        let Some(batch) = &seen.shadow else { return };
        let arms = vec![batch.baseline.clone(), batch.candidate.clone()];
        let delta = Delta::new(seen.live.to, seen.live.lasted, seen.live.epoch, arms);
        // Both models met every request of the shadow: each has half of the calls.
        self.judge.observe(TrafficShare::HALF, &delta);
        if let Some(agreement) = &mut self.agreement {
            agreement.observe(batch.matches, batch.pairs);
        }
        if let Some(excess) = &mut self.excess {
            excess.observe(&batch.noise.matched);
        }
        if let Some(quality) = &mut self.quality {
            quality.observe(&batch.truth);
            quality.observe_labels(&batch.labels);
        }
        self.seen.merge(batch);
    }

    /// What the guardrails say of the shadowed requests.
    pub fn verdict(&self) -> Verdict {
        self.judge.verdict()
    }

    /// Everything the shadow saw in this stage.
    #[must_use]
    pub const fn counts(&self) -> &ShadowCounts {
        &self.seen
    }

    /// The evidence about quality, where it is asked for.
    #[must_use]
    pub const fn quality(&self) -> Option<&PairedQuality> {
        self.quality.as_ref()
    }

    /// The evidence about agreement, where it is asked for.
    #[must_use]
    pub const fn agreement(&self) -> Option<&Agreement> {
        self.agreement.as_ref()
    }

    /// What the evidence says of agreement, where it is asked for: above the baseline's own noise
    /// once that was measured.
    #[must_use]
    pub fn agreed(&self) -> Option<PairedReading> {
        let agreement = self.agreement.as_ref()?;
        Some(self.noise_is_known().map_or_else(|| agreement.reading(), Excess::reading))
    }

    fn noise_is_known(&self) -> Option<&Excess> {
        self.excess.as_ref().filter(|_| self.seen.noise.runs > 0)
    }

    /// What was seen of `arm` on the shadowed requests.
    #[must_use]
    pub fn seen(&self, arm: Arm) -> &ArmCounts {
        self.judge.seen(arm)
    }

    /// What follows, without the sentence: all that a look needs where nothing happens.
    #[must_use]
    pub fn step(&self) -> Step {
        let health = Step::from(&self.judge.glance());
        if matches!(health, Step::TakeBack | Step::Pause) {
            return health;
        }
        let quality = self.quality.as_ref().map(PairedQuality::verdict);
        if quality == Some(PairedVerdict::Refuse) {
            return Step::TakeBack;
        }
        let shown = quality == Some(PairedVerdict::Pass);
        let agreement = self.agreement.as_ref().map(|agreement| match self.noise_is_known() {
            Some(excess) => excess.verdict(),
            None => agreement.verdict(),
        });
        if agreement == Some(PairedVerdict::Refuse) && quality.is_none() {
            return Step::TakeBack;
        }
        let agreed = shown || matches!(agreement, None | Some(PairedVerdict::Pass));
        let good = quality.is_none() || shown;
        if health == Step::Pass && good && agreed { Step::Pass } else { Step::Wait }
    }

    /// What follows.
    #[must_use]
    pub fn conclusion(&self) -> Conclusion {
        let step = self.step();
        let health = Conclusion::from(&self.judge.verdict());
        if matches!(health.step, Step::TakeBack | Step::Pause) {
            return health;
        }
        let quality = self.quality.as_ref().map(|own| own.reading().to_string());
        let agreement = self.agreed().map(|reading| reading.to_string());
        let why = if step == Step::TakeBack {
            // Quality refuses, or else, where it is not asked for, agreement.
            quality.or_else(|| agreement.map(|why| format!("{why}; look at where they differ")))
        } else {
            let all = [Some(health.why), quality, agreement];
            Some(all.into_iter().flatten().collect::<Vec<_>>().join("; "))
        };
        Conclusion::new(step, why.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::share::TrafficShare;

    fn shadow(edit: impl FnOnce(&mut ShadowCounts)) -> Conclusion {
        let agreement = Agreement::new(0.85, 0.05, 0.05).unwrap();
        let guardrails = vec![Guardrail::error_rate()];
        let mut shadow = Shadow::new(guardrails, 0.01, 0.05, Duration::from_secs(60))
            .unwrap()
            .with_agreement(agreement);
        let mut counts = ShadowCounts { pairs: 4_000, matches: 3_000, ..ShadowCounts::default() };
        for arm in [&mut counts.baseline, &mut counts.candidate] {
            (arm.started, arm.ended[0]) = (4_000, 4_000);
        }
        edit(&mut counts);
        let seen = Seen::live(TrafficShare::NONE, Delta::default()).with_shadow(counts);
        shadow.observe(&seen);
        shadow.conclusion()
    }

    #[test]
    fn disagreement_is_held_against_the_baselines_own_where_that_is_known() {
        assert_eq!(shadow(|_| ()).step, Step::TakeBack);
        let noisy = shadow(|counts| {
            counts.noise.runs = 800;
            let matched = &mut counts.noise.matched;
            (matched.both_right, matched.both_wrong) = (500, 100);
            (matched.only_baseline, matched.only_candidate) = (100, 100);
        });
        assert_ne!(noisy.step, Step::TakeBack, "{noisy:?}");
        assert!(noisy.why.contains("above the baseline's own"), "{noisy:?}");
    }
}
