//! The candidate runs on copies of requests; no user sees its answers.
//!
//! Both models meet the same requests, so they are compared in pairs. Three questions, in this
//! order: does the candidate work (errors, timeouts and latency on the same requests), is it as
//! good (which of the two was right, where the truth is known), and does it agree.
//!
//! Agreement is a stand-in for quality while the truth is not known: a candidate that disagrees
//! because it is right is no reason to stop. So agreement refuses only where no quality is shown.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::Arm;
use crate::judge::guardrail::Guardrail;
use crate::judge::paired::{Agreement, PairedQuality, PairedVerdict};
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
        Ok(Self { judge, agreement: None, quality: None, seen: ShadowCounts::default() })
    }

    /// Asks for agreement.
    #[must_use]
    pub fn with_agreement(mut self, agreement: Agreement) -> Self {
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
        if let Some(quality) = &mut self.quality {
            quality.observe(&batch.truth);
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
        let agreement = self.agreement.as_ref().map(Agreement::verdict);
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
        let agreement = self.agreement.as_ref().map(|own| own.reading().to_string());
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
