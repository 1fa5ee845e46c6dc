//! The candidate serves a share, against the baseline beside it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::Arm;
use crate::judge::guardrail::Guardrail;
use crate::judge::stage::{JudgeError, StageJudge};
use crate::judge::verdict::Verdict;
use crate::machine::Seen;
use crate::observe::snapshot::ArmCounts;
use crate::strategy::conclusion::{Conclusion, Step};

/// One canary stage at one share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Canary {
    judge: StageJudge,
}

impl Canary {
    /// A canary that may take back a healthy candidate with probability `alpha`, and calls an
    /// unhealthy one harmless with probability `beta` a guardrail. `planned` is how long it is
    /// meant to last, `collected` what is known of the baseline from before.
    ///
    /// # Errors
    ///
    /// [`JudgeError`] when a guardrail or a level cannot be used.
    pub fn new(
        guardrails: Vec<Guardrail>,
        alpha: f64,
        beta: f64,
        planned: Duration,
        collected: &ArmCounts,
    ) -> Result<Self, JudgeError> {
        let judge = StageJudge::new(guardrails, alpha, beta, planned)?.with_baseline(collected);
        Ok(Self { judge })
    }

    /// Takes in a batch.
    pub fn observe(&mut self, seen: &Seen) {
        self.judge.observe(seen.share, &seen.live);
    }

    /// What the evidence says.
    pub fn verdict(&self) -> Verdict {
        self.judge.verdict()
    }

    /// What follows, without the sentence: all that a look needs where nothing happens.
    #[must_use]
    pub fn step(&self) -> Step {
        Step::from(&self.judge.glance())
    }

    /// What follows from it.
    #[must_use]
    pub fn conclusion(&self) -> Conclusion {
        Conclusion::from(&self.verdict())
    }

    /// What was seen of `arm` in this stage.
    #[must_use]
    pub fn seen(&self, arm: Arm) -> &ArmCounts {
        self.judge.seen(arm)
    }
}
